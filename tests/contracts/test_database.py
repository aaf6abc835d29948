"""What masakari.database promises, on SQLite and on a real MariaDB."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from masakari.common.clock import Clock
from masakari.common.errors import ConfigError, LeaseLost
from masakari.config import Db
from masakari.database import Database, Duplicate, Tx, open_database
from masakari.queries import load_queries, sql_folder
from tests.lab.pytest_mariadb import mariadb

__all__ = ["mariadb"]

ROOT = Path(__file__).resolve().parents[2]

QUERIES = """
-- add --
-- Put a spare on the list.
INSERT INTO reserve_list (create_at, cluster_port, hostname, listed_key)
VALUES (:create_at, :cluster_port, :hostname, :hostname)

-- find --
-- A spare by its name.
SELECT * FROM reserve_list WHERE hostname = :hostname

-- all --
-- All spares.
SELECT * FROM reserve_list ORDER BY id

-- take --
-- Allocate a spare, unless somebody else did.
UPDATE reserve_list SET used_by = :used_by WHERE hostname = :hostname AND used_by IS NULL

-- touch --
-- Set what may be set already.
UPDATE reserve_list SET cluster_port = :cluster_port WHERE hostname = :hostname

-- count --
-- How many, and a sum, which MariaDB makes a decimal.
SELECT COUNT(*) AS n, SUM(used_by) AS total, NOW_S() AS now FROM reserve_list

-- among --
-- Spares of a list of names.
SELECT hostname FROM reserve_list WHERE hostname IN :names ORDER BY id

-- not_among --
-- Spares but those of a list of names.
SELECT hostname FROM reserve_list WHERE hostname NOT IN :names ORDER BY id

-- add_disable --
-- A row with a key of two columns.
INSERT INTO host_disable (hostname, recovery_id, wanted_at, was_enabled, reason) VALUES (:hostname, 1, 2, 1, '100 %')

-- add_nothing --
-- Break a rule that is not a UNIQUE key.
INSERT INTO known_host (hostname, cluster_port, first_seen_at) VALUES (:hostname, NULL, 0)

-- grow --
-- Add one, if nobody did since it was read.
UPDATE known_host SET first_seen_at = :seen + 1 WHERE hostname = 'counter' AND first_seen_at = :seen

-- counter --
-- Read the counter.
SELECT first_seen_at AS seen FROM known_host WHERE hostname = 'counter'

-- start_counter --
-- A counter at zero.
INSERT INTO known_host (hostname, cluster_port, first_seen_at) VALUES ('counter', '*', 0)

-- wrong --
-- A column that isn't there.
SELECT no_such_column FROM reserve_list
"""

Open = Callable[..., Database]


@pytest.fixture(params=["sqlite", "mysql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Db:
    if request.param == "sqlite":
        name = str(tmp_path / "lib" / "masakari.sqlite")
        return Db(drivername="sqlite", name=name, innodb_lock_wait_timeout=10, lock_retry_max_cnt=5)
    server = request.getfixturevalue("mariadb")
    server.make_tables()
    return server.settings()


@pytest.fixture
def opened(settings: Db, tmp_path: Path) -> Iterator[Open]:
    """Opens the database, with the statements of this file."""
    path = tmp_path / "queries.sql"
    path.write_text(QUERIES, encoding="utf-8")
    databases: list[Database] = []

    def open_it(clock: Clock | None = None, **options: Any) -> Database:
        databases.append(open_database(settings, clock or Clock(), queries=path, **options))
        return databases[-1]

    yield open_it
    for database in databases:
        database.close()


@pytest.fixture
def database(opened: Open) -> Database:
    return opened()


def spare(hostname: str, cluster_port: str = "226.94.1.1:5405") -> dict[str, Any]:
    return {"hostname": hostname, "cluster_port": cluster_port, "create_at": "2026-01-02 03:04:05"}


def names(database: Database) -> list[str]:
    return [row["hostname"] for row in database.read(lambda tx: tx.all("all"))]


def test_a_transaction_returns_what_its_function_returned_and_is_stored(database: Database) -> None:
    assert database.transaction(lambda tx: tx.insert("add", **spare("c9"))) == 1
    assert database.transaction(lambda tx: tx.insert("add", **spare("c8"))) == 2
    assert names(database) == ["c9", "c8"]


def test_a_transaction_that_raises_leaves_nothing_behind(database: Database) -> None:
    def half(tx: Tx) -> None:
        tx.insert("add", **spare("c9"))
        raise LeaseLost("somebody else has it")

    with pytest.raises(LeaseLost, match="somebody else"):
        database.transaction(half)
    assert names(database) == []


def test_rows_come_as_dicts_with_times_as_text_and_numbers_as_numbers(database: Database) -> None:
    database.transaction(lambda tx: tx.insert("add", **spare("c9")))
    database.transaction(lambda tx: tx.execute("take", used_by=7, hostname="c9"))
    row = database.read(lambda tx: tx.one("find", hostname="c9"))
    assert row == {
        "id": 1,
        "create_at": "2026-01-02 03:04:05",
        "update_at": None,
        "delete_at": None,
        "deleted": 0,
        "cluster_port": "226.94.1.1:5405",
        "hostname": "c9",
        "used_by": 7,
        "listed_key": "c9",
    }
    counted = database.read(lambda tx: tx.one("count"))
    assert counted is not None
    assert (counted["n"], counted["total"]) == (1, 7)
    assert type(counted["total"]) is int
    assert database.read(lambda tx: tx.one("find", hostname="c1")) is None


def test_the_clock_of_the_database_is_unix_time(database: Database) -> None:
    counted = database.read(lambda tx: tx.one("count"))
    assert counted is not None
    assert type(counted["now"]) is float
    assert abs(counted["now"] - Clock().now()) < 5


def test_a_guard_counts_rows_it_matched_even_if_they_stay_the_same(database: Database) -> None:
    database.transaction(lambda tx: tx.insert("add", **spare("c9")))
    port = "226.94.1.1:5405"
    assert database.transaction(lambda tx: tx.execute("touch", cluster_port=port, hostname="c9")) == 1
    assert database.transaction(lambda tx: tx.execute("take", used_by=7, hostname="c9")) == 1
    assert database.transaction(lambda tx: tx.execute("take", used_by=8, hostname="c9")) == 0


TEXTS = ["it's", 'a "b"', "back\\slash", "100 % %s %(x)s :x", "Zürich 東京 🚑", "two\nlines\t\x1a", "-- ;", "nul\0", ""]


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_comes_back_as_it_went_in(database: Database, text: str) -> None:
    database.transaction(lambda tx: tx.insert("add", **spare("c9", text)))
    row = database.read(lambda tx: tx.one("find", hostname="c9"))
    assert row is not None
    assert row["cluster_port"] == text


def test_names_that_differ_in_case_are_different(database: Database) -> None:
    database.transaction(lambda tx: tx.insert("add", **spare("compute1")))
    database.transaction(lambda tx: tx.insert("add", **spare("Compute1")))
    rows = database.read(lambda tx: tx.all("find", hostname="Compute1"))
    assert [row["id"] for row in rows] == [2]


def test_lists_match_their_elements_and_an_empty_list_matches_nothing(database: Database) -> None:
    rows = [spare("c1"), spare("c2"), spare("it's, ('c3')")]
    database.transaction(lambda tx: tx.execute_many("add", rows))

    def found(name: str, wanted: Any) -> list[str]:
        return [row["hostname"] for row in database.read(lambda tx: tx.all(name, names=wanted))]

    assert found("among", ["c2", "it's, ('c3')", "c9"]) == ["c2", "it's, ('c3')"]
    assert found("among", ("c1",)) == ["c1"]
    assert found("among", []) == []
    assert found("not_among", ["c1", "c2"]) == ["it's, ('c3')"]
    assert found("not_among", []) == ["c1", "c2", "it's, ('c3')"]


def test_many_rows_go_in_at_once(database: Database) -> None:
    rows = [spare(f"c{number}") for number in range(500)]
    assert database.transaction(lambda tx: tx.execute_many("add", rows)) == 500
    assert database.transaction(lambda tx: tx.execute_many("add", [])) == 0
    assert names(database) == [row["hostname"] for row in rows]


def test_a_unique_key_says_which_and_the_transaction_goes_on(database: Database) -> None:
    def add_twice(tx: Tx) -> str:
        tx.insert("add", **spare("c9"))
        try:
            tx.insert("add", **spare("c9"))
        except Duplicate as refused:
            tx.insert("add", **spare("c8"))
            return refused.key
        return "not refused"

    assert database.transaction(add_twice) == "listed_key"
    assert names(database) == ["c9", "c8"]


def test_many_rows_with_one_that_exists_are_refused(database: Database) -> None:
    rows = [spare("c9"), spare("c8"), spare("c9")]
    with pytest.raises(Duplicate) as refused:
        database.transaction(lambda tx: tx.execute_many("add", rows))
    assert refused.value.key == "listed_key"
    assert names(database) == []


def test_a_primary_key_is_a_unique_key(database: Database) -> None:
    database.transaction(lambda tx: tx.execute("add_disable", hostname="c1"))
    with pytest.raises(Duplicate):
        database.transaction(lambda tx: tx.execute("add_disable", hostname="c1"))


@pytest.mark.parametrize(("name", "params"), [("wrong", {}), ("add_nothing", {"hostname": "c1"}), ("no_such_name", {})])
def test_a_mistake_in_the_program_is_not_repeated_nor_hidden(
    database: Database, name: str, params: dict[str, Any]
) -> None:
    runs = []

    def mistaken(tx: Tx) -> None:
        runs.append(1)
        tx.all(name, **params)

    with pytest.raises(Exception) as error:
        database.transaction(mistaken)
    assert type(error.value).__module__ in ("sqlite3", "pymysql.err", "builtins")
    assert len(runs) == 1
    assert database.transaction(lambda tx: tx.insert("add", **spare("c9"))) == 1


def in_threads(count: int, work: Callable[[], None]) -> None:
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - handed to the test below
            errors.append(error)

    threads = [threading.Thread(target=guarded) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []


def test_threads_at_once_lose_no_update(database: Database) -> None:
    database.transaction(lambda tx: tx.execute("start_counter"))

    def grow_once(tx: Tx) -> bool:
        row = tx.one("counter")
        assert row is not None
        return tx.execute("grow", seen=row["seen"]) == 1

    def grow_by_ten() -> None:
        grown = 0
        while grown < 10:
            grown += database.transaction(grow_once)

    in_threads(6, grow_by_ten)
    assert database.read(lambda tx: tx.one("counter")) == {"seen": 60.0}


def test_one_of_many_threads_gets_a_spare(database: Database) -> None:
    database.transaction(lambda tx: tx.insert("add", **spare("c9")))
    taken: list[int] = []
    in_threads(
        6,
        lambda: taken.append(database.transaction(lambda tx: tx.execute("take", used_by=7, hostname="c9"))),
    )
    assert sorted(taken) == [0, 0, 0, 0, 0, 1]


def test_a_reader_sees_what_is_committed_and_waits_for_no_writer(database: Database) -> None:
    seen: list[list[str]] = []

    def look() -> None:
        seen.append(names(database))

    def add_and_look(tx: Tx) -> None:
        tx.insert("add", **spare("c9"))
        in_threads(1, look)

    look()
    database.transaction(add_and_look)
    look()
    assert seen == [[], [], ["c9"]]


def test_tests_can_crash_before_and_after_a_transaction(opened: Open) -> None:
    moments: list[str] = []

    def crash(moment: str) -> None:
        moments.append(moment)
        if len(moments) in (1, 3):
            raise KeyboardInterrupt

    database = opened(around=crash)
    with pytest.raises(KeyboardInterrupt):
        database.transaction(lambda tx: tx.insert("add", **spare("before")))
    with pytest.raises(KeyboardInterrupt):
        database.transaction(lambda tx: tx.insert("add", **spare("after")))
    assert names(database) == ["after"]
    assert moments == ["begin", "begin", "committed", "begin", "committed"]


def test_a_crash_in_the_middle_leaves_nothing_behind(database: Database) -> None:
    def crash(tx: Tx) -> None:
        tx.insert("add", **spare("c9"))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        database.transaction(crash)
    assert names(database) == []


def test_a_closed_database_opens_again_when_needed(database: Database) -> None:
    database.transaction(lambda tx: tx.insert("add", **spare("c9")))
    in_threads(2, lambda: database.read(lambda tx: None))
    database.close()
    assert names(database) == ["c9"]


def test_two_programs_share_the_database(opened: Open) -> None:
    controller, script = opened(), opened()
    script.transaction(lambda tx: tx.insert("add", **spare("c9")))
    assert names(controller) == ["c9"]


def test_the_tables_are_those_the_program_needs(database: Database) -> None:
    database.check_version()


def test_every_statement_of_the_program_is_accepted(settings: Db) -> None:
    """Explained, not run: every table and column is there, and the grammar is the server's."""
    program = open_database(settings, Clock())

    def explain(tx: Tx) -> None:
        for statement in load_queries(sql_folder() / "queries.sql", program.dialect).values():
            found = re.findall(r":([a-z]\w*)|%\(([a-z]\w*)\)s", statement.sql)
            params = {a or b: 1 for a, b in found} | {name: [1] for name in statement.lists}
            explained = replace(statement, sql=f"EXPLAIN {statement.sql}", name=f"explain {statement.name}")
            tx._statements = {statement.name: explained}
            tx.all(statement.name, **params)

    try:
        program.read(explain)
    finally:
        program.close()


def test_a_controller_keeps_others_of_its_name_out_until_it_ends(opened: Open) -> None:
    first, second = opened(), opened()
    lock = first.controller_lock("c1:15868")
    assert lock.held()
    with pytest.raises(ConfigError) as refused:
        second.controller_lock("c1:15868")
    assert re.search(r"pid \d+|127\.0\.0\.1:\d+", str(refused.value))
    lock.release()
    assert not lock.held()
    successor = second.controller_lock("c1:15868")
    assert successor.held()
    successor.release()


def test_a_name_as_long_as_a_host_name_can_be_locked(opened: Open) -> None:
    lock = opened().controller_lock("c" * 250 + ":15868")
    assert lock.held()
    lock.release()


HOLDER = """
import json, sys, time
from pathlib import Path
from masakari.common.clock import Clock
from masakari.config import Db
from masakari.database import open_database
lock = open_database(Db(**json.loads(sys.argv[1])), Clock()).controller_lock("c1:15868")
print("locked", flush=True)
time.sleep(60)
"""


def test_the_lock_of_a_killed_controller_is_free_at_once(settings: Db, opened: Open) -> None:
    wanted = ("drivername", "host", "port", "name", "user", "passwd")
    given = json.dumps({name: getattr(settings, name) for name in wanted})
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, given], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(ConfigError):
            opened().controller_lock("c1:15868")
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    # The server notices the closed connection a moment later.
    clock = Clock()
    deadline = clock.monotonic() + 5
    while True:
        try:
            opened().controller_lock("c1:15868").release()
            return
        except ConfigError:
            assert clock.monotonic() < deadline
            clock.sleep(0.01)
