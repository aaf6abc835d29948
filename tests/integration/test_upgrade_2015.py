"""sql/create_vmha_database.sql on a real MariaDB: fresh, over a database of 2015, twice, and interrupted."""

from __future__ import annotations

import re
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from masakari.common.clock import Clock
from masakari.common.errors import ConfigError
from masakari.database import open_database
from tests.lab.mariadb import TABLES, PrivateMariaDB, until
from tests.lab.pytest_mariadb import mariadb

__all__ = ["mariadb"]

OLD = Path(__file__).resolve().parents[1] / "lab" / "vm_ha_2015.sql"
OLD_TABLES = ("notification_list", "vm_list", "reserve_list")
REASON = "from before the upgrade: was still open, is not resumed"

Rows = dict[int, dict[str, Any]]


@pytest.fixture
def old(mariadb: PrivateMariaDB) -> Iterator[PrivateMariaDB]:
    """A server with the database of 2015 on it."""
    mariadb.sql("DROP DATABASE IF EXISTS vm_ha", None)
    run(mariadb, OLD)
    yield mariadb
    mariadb.make_database("vm_ha")


def run(server: PrivateMariaDB, script: Path) -> None:
    done = server.run_script(script)
    assert (done.returncode, done.stderr) == (0, "")


def rows(server: PrivateMariaDB, table: str) -> Rows:
    return {row["id"]: row for row in server.sql(f"SELECT * FROM {table}")}  # noqa: S608 - one of OLD_TABLES


def everything(server: PrivateMariaDB) -> dict[str, Rows]:
    return {table: rows(server, table) for table in OLD_TABLES}


def columns(server: PrivateMariaDB) -> dict[str, dict[str, Any]]:
    """What each column is, by table and name."""
    found = server.sql(
        "SELECT TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, COLUMN_DEFAULT, COLLATION_NAME, EXTRA"
        " FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'vm_ha'"
    )
    return {f"{row['TABLE_NAME']}.{row['COLUMN_NAME']}": row for row in found}


def keys(server: PrivateMariaDB) -> set[tuple[str, str, int, str]]:
    """Table, name, uniqueness and columns of each key."""
    found = server.sql(
        "SELECT TABLE_NAME AS t, INDEX_NAME AS k, NON_UNIQUE AS n,"
        " GROUP_CONCAT(COLUMN_NAME ORDER BY SEQ_IN_INDEX) AS c"
        " FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = 'vm_ha' GROUP BY t, k, n"
    )
    return {(row["t"], row["k"], row["n"], row["c"]) for row in found}


def engines(server: PrivateMariaDB) -> set[tuple[str, str, str]]:
    found = server.sql(
        "SELECT ENGINE, ROW_FORMAT, TABLE_COLLATION FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'vm_ha'"
    )
    return {(row["ENGINE"], row["ROW_FORMAT"], row["TABLE_COLLATION"]) for row in found}


def test_a_fresh_database_is_made_and_a_second_run_changes_nothing(mariadb: PrivateMariaDB) -> None:
    mariadb.sql("DROP DATABASE IF EXISTS vm_ha", None)
    run(mariadb, TABLES)
    made = columns(mariadb), keys(mariadb)
    mariadb.sql("INSERT INTO reserve_list (cluster_port, hostname, listed_key) VALUES ('p', 'c9', 'c9')")
    before = everything(mariadb)
    run(mariadb, TABLES)
    assert (columns(mariadb), keys(mariadb)) == made
    assert everything(mariadb) == before
    assert engines(mariadb) == {("InnoDB", "Dynamic", "utf8mb4_bin")}
    open_database(mariadb.settings(), Clock()).check_version()


def test_an_upgraded_database_is_like_a_fresh_one(old: PrivateMariaDB) -> None:
    run(old, TABLES)
    upgraded = columns(old), keys(old), engines(old)
    old.make_tables()
    assert upgraded == (columns(old), keys(old), engines(old))


def test_every_row_of_2015_is_kept(old: PrivateMariaDB) -> None:
    before = everything(old)
    run(old, TABLES)
    after = everything(old)
    # What the upgrade fills in or closes, and nothing else.
    touched = {"progress", "update_at", "delete_at", "deleted", "retry_cnt"}
    for table, old_rows in before.items():
        assert after[table].keys() == old_rows.keys()
        for row_id, row in old_rows.items():
            kept = {name: value for name, value in row.items() if name not in touched}
            assert kept.items() <= after[table][row_id].items()
    assert after["notification_list"][4]["notification_regionID"] == "Région"
    assert after["notification_list"][4]["deleted"] == 4
    assert after["notification_list"][1]["progress"] == 2


def test_the_first_report_of_each_id_gets_the_key(old: PrivateMariaDB) -> None:
    run(old, TABLES)
    report_keys = {row_id: row["report_key"] for row_id, row in rows(old, "notification_list").items()}
    assert report_keys == {1: "a-1", 2: None, 3: None, 4: "A-1", 5: "b-1", 6: "b-2"}


def test_open_work_of_2015_is_closed_with_a_reason_and_not_resumed(old: PrivateMariaDB) -> None:
    run(old, TABLES)
    reports = rows(old, "notification_list")
    closed = {row_id: row["progress"] for row_id, row in reports.items() if row["reason"] == REASON}
    assert closed == {5: 4, 6: 4}
    assert {row["outcome"] for row_id, row in reports.items() if row_id in closed} == {"ignored"}
    instances = {
        row_id: (row["progress"], row["status"], row["reason"], row["retry_cnt"])
        for row_id, row in rows(old, "vm_list").items()
    }
    assert instances == {
        1: (2, "finished", None, 0),
        2: (3, "failed", None, 3),
        3: (4, "skipped", REASON, 0),
    }
    assert old.sql("SELECT * FROM recovery") == []


def test_a_host_listed_twice_is_a_spare_once(old: PrivateMariaDB) -> None:
    run(old, TABLES)
    spares = {row_id: (row["deleted"], row["listed_key"]) for row_id, row in rows(old, "reserve_list").items()}
    assert spares == {1: (1, None), 2: (0, "compute8"), 3: (1, None), 4: (0, "compute9")}


def test_longer_values_than_2015_allowed_fit(old: PrivateMariaDB) -> None:
    run(old, TABLES)
    old.sql("UPDATE notification_list SET notification_eventID = '12', notification_eventType = 'type' WHERE id = 1")
    row = rows(old, "notification_list")[1]
    assert (row["notification_eventID"], row["notification_eventType"]) == ("12", "type")


def test_an_upgrade_run_again_later_leaves_new_work_alone(old: PrivateMariaDB) -> None:
    run(old, TABLES)
    old.sql(
        "INSERT INTO notification_list (notification_id, report_key, received_at, progress, recovery_id)"
        " VALUES ('n-1', 'n-1', 1.5, 1, 7);"
        " INSERT INTO vm_list (uuid, progress, status, recovery_id) VALUES ('u', 1, 'running', 7)"
    )
    # The row that has the key is purged: the repeat of 2015 must not step into its place.
    old.sql("DELETE FROM notification_list WHERE id = 1")
    before = everything(old)
    run(old, TABLES)
    assert everything(old) == before


def statements(script: Path) -> list[str]:
    text = re.sub(r"^--.*$", "", script.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [statement for statement in text.split(";\n") if statement.strip()]


def run_some(server: PrivateMariaDB, some: list[str]) -> None:
    connection = server.connect(None)
    try:
        with connection.cursor() as cursor:
            for statement in some:
                cursor.execute(statement)
    finally:
        connection.close()


def test_an_upgrade_interrupted_anywhere_is_finished_by_running_it_again(old: PrivateMariaDB) -> None:
    run(old, TABLES)
    wanted = columns(old), keys(old)
    rows_wanted = everything(old)
    old.sql("DROP DATABASE vm_ha", None)
    run(old, OLD)
    script = statements(TABLES)
    for cut in range(1, len(script)):
        run_some(old, script[:cut])
        with pytest.raises(ConfigError):
            open_database(old.settings(), Clock()).check_version()
    run(old, TABLES)
    open_database(old.settings(), Clock()).check_version()
    assert (columns(old), keys(old)) == wanted

    def without_times(found: dict[str, Rows]) -> dict[str, Rows]:
        times = {"update_at", "delete_at"}
        return {
            table: {row_id: {k: v for k, v in row.items() if k not in times} for row_id, row in its.items()}
            for table, its in found.items()
        }

    assert without_times(everything(old)) == without_times(rows_wanted)


def multiply(server: PrivateMariaDB, doublings: int) -> None:
    """Repeat the reports of 2015, so that altering their table takes a while."""
    names = [row["Field"] for row in server.sql("DESCRIBE notification_list") if row["Field"] != "id"]
    listed = ", ".join(names)
    double = f"INSERT INTO notification_list ({listed}) SELECT {listed} FROM notification_list"  # noqa: S608
    server.sql("; ".join(["SET sql_mode = ''", *[double] * doublings]))


@pytest.mark.needs_mariadb
def test_a_server_killed_during_the_upgrade_loses_nothing(tmp_path: Path) -> None:
    with PrivateMariaDB(tmp_path) as server:
        server.sql("DROP DATABASE vm_ha", None)
        run(server, OLD)
        multiply(server, 13)
        count = server.sql("SELECT COUNT(*) AS n FROM notification_list")[0]["n"]
        with TABLES.open("rb") as script:
            upgrade = subprocess.Popen(
                ["mariadb", "--no-defaults", f"--socket={server.socket}", "-u", "root"],
                stdin=script,
                stderr=subprocess.DEVNULL,
            )

        def in_the_middle() -> bool:
            busy = server.sql("SELECT COUNT(*) AS n FROM information_schema.PROCESSLIST WHERE STATE LIKE 'copy%'")
            return bool(busy[0]["n"]) or upgrade.poll() is not None

        until(in_the_middle, 20, lambda: "the upgrade never altered a table")
        server.kill()
        upgrade.wait(20)
        server.start()
        run(server, TABLES)
        assert server.sql("SELECT COUNT(*) AS n FROM notification_list")[0]["n"] == count
        keyed = server.sql("SELECT COUNT(*) AS n FROM notification_list WHERE report_key IS NOT NULL")
        assert keyed[0]["n"] == 4


def test_a_value_that_does_not_fit_stops_the_upgrade_and_is_kept(old: PrivateMariaDB) -> None:
    old.sql("ALTER TABLE vm_list MODIFY recover_to TEXT; UPDATE vm_list SET recover_to = REPEAT('x', 300) WHERE id = 1")
    stopped = old.run_script(TABLES)
    assert stopped.returncode != 0
    assert "recover_to" in stopped.stderr
    assert rows(old, "vm_list")[1]["recover_to"] == "x" * 300
    old.sql("UPDATE vm_list SET recover_to = NULL WHERE id = 1")
    run(old, TABLES)


def test_the_controller_names_the_command_when_the_tables_are_of_2015(old: PrivateMariaDB) -> None:
    with pytest.raises(ConfigError) as refused:
        open_database(old.settings(), Clock()).check_version()
    text = str(refused.value)
    assert "are missing, or of 2015" in text
    assert f"mysql -h 127.0.0.1 -P {old.port} -u root -p < {TABLES}" in text


def test_the_controller_names_the_command_when_there_is_no_database(mariadb: PrivateMariaDB) -> None:
    with pytest.raises(ConfigError) as refused:
        open_database(mariadb.settings(name="no_such"), Clock()).check_version()
    assert f"< {TABLES}" in str(refused.value)


def test_the_controller_says_so_when_the_server_refuses_its_user(mariadb: PrivateMariaDB) -> None:
    with pytest.raises(ConfigError) as refused:
        open_database(mariadb.settings(passwd="wrong horse"), Clock()).check_version()
    assert "masakari" in str(refused.value)
    assert "wrong horse" not in str(refused.value)


def test_a_database_of_a_newer_release_is_refused(mariadb: PrivateMariaDB) -> None:
    mariadb.make_tables()
    mariadb.sql("INSERT INTO schema_version VALUES (99, 0)")
    with pytest.raises(ConfigError, match="newer Masakari"):
        open_database(mariadb.settings(), Clock()).check_version()


def test_sqlite_and_mariadb_have_the_same_tables(mariadb: PrivateMariaDB) -> None:
    mariadb.make_tables()
    there = {name: plain(row["COLUMN_TYPE"]) for name, row in columns(mariadb).items()}
    assert sqlite_columns() == there


def test_sqlite_and_mariadb_have_the_same_keys(mariadb: PrivateMariaDB) -> None:
    mariadb.make_tables()
    assert {(t, bool(n), c) for t, _, n, c in keys(mariadb)} == sqlite_keys()


def plain(kind: str) -> str:
    """A column's type without what only one of the two says: widths of numbers, and INTEGER for INT and for ids."""
    bare = re.sub(r"^(\w*int)\(\d+\)", r"\1", kind.lower())
    return {"bigint": "integer", "int": "integer"}.get(bare, bare)


def sqlite_database() -> sqlite3.Connection:
    database = sqlite3.connect(":memory:")
    database.create_function("NOW_S", 0, lambda: 0.0)
    database.executescript((TABLES.parent / "schema_sqlite.sql").read_text(encoding="utf-8"))
    return database


def sqlite_tables(database: sqlite3.Connection) -> list[str]:
    found = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
    return [row[0] for row in found]


def sqlite_columns() -> dict[str, str]:
    database = sqlite_database()
    return {
        f"{table}.{row[1]}": plain(row[2])
        for table in sqlite_tables(database)
        for row in database.execute(f"PRAGMA table_info({table})")
    }


def sqlite_keys() -> set[tuple[str, bool, str]]:
    database = sqlite_database()
    found = set()
    for table in sqlite_tables(database):
        primary = [(row[5], row[1]) for row in database.execute(f"PRAGMA table_info({table})") if row[5]]
        found.add((table, False, ",".join(name for _, name in sorted(primary))))
        for index in database.execute(f"PRAGMA index_list({table})").fetchall():
            names = [row[2] for row in database.execute(f"PRAGMA index_info({index[1]})")]
            found.add((table, not index[2], ",".join(names)))
    return found


def test_a_plain_mysql_client_is_all_the_script_needs() -> None:
    """No DELIMITER, no procedure, nothing that only MariaDB knows."""
    text = TABLES.read_text(encoding="utf-8").upper()
    for word in ("DELIMITER", "PROCEDURE", "ADD COLUMN IF NOT EXISTS", "NOPAD"):
        assert word not in re.sub(r"--.*", "", text)
