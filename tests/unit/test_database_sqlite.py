"""What only holds for SQLite: the file, its locks and its clock."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from masakari.common.clock import Clock
from masakari.common.errors import ConfigError, Unavailable
from masakari.config import Db
from masakari.database import Database, open_database
from tests.simcloud.clock import VirtualClock

QUERIES = """
-- add --
-- Remember a host.
INSERT INTO known_host (hostname, cluster_port, first_seen_at) VALUES (:hostname, '*', NOW_S())

-- hosts --
-- Hosts known.
SELECT hostname, first_seen_at FROM known_host WHERE first_seen_at <= NOW_S() ORDER BY hostname
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "queries.sql").write_text(QUERIES, encoding="utf-8")
    return tmp_path / "lib" / "masakari.sqlite"


def connect(file: Path, clock: Clock | None = None) -> Database:
    settings = Db(drivername="sqlite", name=str(file), innodb_lock_wait_timeout=1, lock_retry_max_cnt=0)
    return open_database(settings, clock or VirtualClock(), queries=file.parent.parent / "queries.sql")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_file_is_for_its_owner_alone(file: Path) -> None:
    before = os.umask(0o000)
    try:
        database = connect(file)
        database.transaction(lambda tx: tx.execute("add", hostname="c1"))
    finally:
        os.umask(before)
    assert mode(file.parent) == 0o750
    files = {path.name: mode(path) for path in file.parent.iterdir()}
    assert files == {"masakari.sqlite": 0o600, "masakari.sqlite-wal": 0o600, "masakari.sqlite-shm": 0o600}


def test_the_clock_of_the_database_is_the_one_passed_in(file: Path) -> None:
    clock = VirtualClock(start_s=1000.5)
    database = connect(file, clock)
    database.transaction(lambda tx: tx.execute("add", hostname="c1"))
    clock.advance(60)
    database.transaction(lambda tx: tx.execute("add", hostname="c2"))
    assert database.read(lambda tx: tx.all("hosts")) == [
        {"hostname": "c1", "first_seen_at": 1000.5},
        {"hostname": "c2", "first_seen_at": 1060.5},
    ]
    clock.jump(-30)
    assert len(database.read(lambda tx: tx.all("hosts"))) == 1


def test_what_is_committed_survives_a_kill(file: Path) -> None:
    connect(file)
    program = f"""
import os, sys
from pathlib import Path
from tests.unit.test_database_sqlite import connect
database = connect(Path({str(file)!r}))
database.transaction(lambda tx: tx.execute("add", hostname="c1"))
def die(tx):
    tx.execute("add", hostname="c2")
    os.kill(os.getpid(), 9)
database.transaction(die)
"""
    killed = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2])
    assert killed.returncode == -9
    assert [row["hostname"] for row in connect(file).read(lambda tx: tx.all("hosts"))] == ["c1"]


def test_a_commit_is_synced_to_disk(file: Path) -> None:
    database = connect(file)
    link = database._link()
    assert link.cursor.execute("PRAGMA synchronous").fetchall() == [(2,)]
    assert link.cursor.execute("PRAGMA journal_mode").fetchall() == [("wal",)]


def test_a_file_locked_by_another_program_is_unavailable_after_a_while(file: Path) -> None:
    database = connect(file)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match=r"database /.*masakari\.sqlite: database is locked"):
        database.transaction(lambda tx: tx.execute("add", hostname="c1"))
    assert database.read(lambda tx: tx.all("hosts")) == []
    other.execute("COMMIT")
    database.transaction(lambda tx: tx.execute("add", hostname="c1"))


def test_a_file_locked_for_a_moment_is_waited_for(file: Path) -> None:
    database = connect(file)
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.1, lambda: other.execute("COMMIT")).start()
    database.transaction(lambda tx: tx.execute("add", hostname="c1"))


def test_a_thread_that_hangs_in_a_transaction_does_not_hang_the_others(file: Path) -> None:
    database = connect(file)
    entered, leave = threading.Event(), threading.Event()

    def hang(tx: object) -> None:
        entered.set()
        leave.wait(10)

    thread = threading.Thread(target=lambda: database.transaction(hang))
    thread.start()
    entered.wait(10)
    with pytest.raises(Unavailable, match="locked by another thread"):
        database.transaction(lambda tx: tx.execute("add", hostname="c1"))
    leave.set()
    thread.join(10)
    database.transaction(lambda tx: tx.execute("add", hostname="c1"))


def test_the_connection_of_a_thread_that_ended_is_closed(file: Path) -> None:
    database = connect(file)

    database.read(lambda tx: tx.all("hosts"))
    before = open_files(file)
    for _ in range(5):
        thread = threading.Thread(target=lambda: database.read(lambda tx: tx.all("hosts")))
        thread.start()
        thread.join(10)
    assert open_files(file) <= before + 1


def open_files(file: Path) -> int:
    """How often this process has the file open."""
    return sum(link.resolve() == file.resolve() for link in Path("/proc/self/fd").iterdir())


def test_a_file_of_a_newer_release_is_refused(file: Path) -> None:
    connect(file).close()
    with sqlite3.connect(file) as other:
        other.execute("INSERT INTO schema_version VALUES (99, 0)")
    with pytest.raises(ConfigError, match="newer Masakari: its tables have version 99"):
        connect(file)


def test_a_file_that_is_no_database_is_refused_and_left_alone(file: Path) -> None:
    file.parent.mkdir()
    file.write_text("my diary\n" * 100)
    with pytest.raises(ConfigError, match="file is not a database"):
        connect(file)
    assert file.read_text().startswith("my diary")


def test_a_folder_that_can_not_be_made_is_a_setting_to_correct(file: Path) -> None:
    file.parent.write_text("")
    with pytest.raises(ConfigError, match=r"\[db\] name: .* can't be made: "):
        connect(file)


def test_a_second_controller_is_told_who_has_the_file(file: Path) -> None:
    first = connect(file).controller_lock("c1:15868")
    with pytest.raises(ConfigError, match=f"pid {os.getpid()} works on {file}"):
        connect(file).controller_lock("c2:15868")
    first.release()
    connect(file).controller_lock("c2:15868").release()


def test_a_controller_on_sqlite_does_not_carry_the_other_driver(file: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from tests.unit.test_database_sqlite import connect
connect(Path({str(file)!r}))
assert "pymysql" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], check=True)
