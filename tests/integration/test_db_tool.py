"""masakari-db on a real MariaDB: from nothing, from 2015, again, interrupted, and refused."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest

from masakari import db_tool, manage
from masakari.common.clock import Clock
from masakari.config import Db
from masakari.database import SCHEMA_VERSION, open_database
from masakari.database_admin import Admin
from masakari.database_setup import RIGHTS, name
from tests.lab.mariadb import TABLES, PrivateMariaDB, until
from tests.lab.processes import ROOT, CloudProcess, ControllerProcess, Monitor

pytestmark = pytest.mark.needs_mariadb

OLD = ROOT / "tests" / "lab" / "vm_ha_2015.sql"
USER, PASSWORD, ADMIN_PASSWORD = "ha_controller", "geheim-des-controllers", "geheim-des-verwalters"
HERE = "127.0.0.1"
OLD_TABLES = ("notification_list", "vm_list", "reserve_list")
RECOVERED_WITHIN_S = 40

Said = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def module_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateMariaDB]:
    """A server of our own, whose accounts we make and remove."""
    with PrivateMariaDB(tmp_path_factory.mktemp("db_tool")) as started:
        yield started


@pytest.fixture
def server(module_server: PrivateMariaDB) -> PrivateMariaDB:
    """It, with neither a database nor an account of the controller."""
    for row in module_server.sql("SELECT User, Host FROM mysql.user WHERE User IN ('ha_controller', 'dba')", None):
        module_server.sql(f"DROP USER '{row['User']}'@'{row['Host']}'", None)
    for row in module_server.sql("SHOW DATABASES", None):
        if row["Database"] not in ("mysql", "information_schema", "performance_schema", "sys"):
            module_server.sql(f"DROP DATABASE {name(row['Database'])}", None)
    return module_server


class Tool:
    """masakari-db with settings of its own; the administrator goes in by the socket unless told otherwise."""

    def __init__(self, folder: Path, server: PrivateMariaDB) -> None:
        self.server = server
        self.folder = folder
        self.conf = folder / "masakari.conf"
        self.socket = ["--socket", str(server.socket)]
        self.set()

    def set(self, **changes: object) -> None:
        """Write the settings."""
        known = {"host": HERE, "port": self.server.port, "user": USER, "passwd": PASSWORD, **changes}
        lines = [f"{option} = {value}" for option, value in known.items() if value is not None]
        self.conf.write_text("\n".join(["[db]", *lines, ""]), encoding="utf-8")

    def __call__(self, verb: str, *words: str) -> int:
        return db_tool.main(self.words(verb, *words))

    def words(self, verb: str, *words: str) -> list[str]:
        """The command line."""
        named = [*self.socket, *words] if verb != "check" and "--admin-file" not in words else [*words]
        return ["--config", str(self.conf), verb, *named]

    def admin_file(self, *lines: str) -> str:
        """An option file of the administrator."""
        file = self.folder / "admin.cnf"
        file.write_text("\n".join(["[client]", f"host = {HERE}", f"port = {self.server.port}", *lines, ""]))
        file.chmod(0o600)
        return str(file)


@pytest.fixture
def tool(server: PrivateMariaDB, tmp_path: Path) -> Tool:
    return Tool(tmp_path, server)


def settings(server: PrivateMariaDB) -> Db:
    return server.settings(user=USER, passwd=PASSWORD)


def grants(server: PrivateMariaDB, host: str = HERE) -> list[str]:
    """What the server says was granted to the account, without the hash of its password."""
    rows = server.sql(f"SHOW GRANTS FOR '{USER}'@'{host}'", None)
    return sorted(re.sub(r" TO .*", "", str(value)) for row in rows for value in row.values())


LEAST = sorted(["GRANT USAGE ON *.*", rf"GRANT {', '.join(RIGHTS)} ON `vm\_ha`.*"])


def structure(server: PrivateMariaDB) -> Any:
    """Every column and key."""
    columns = server.sql(
        "SELECT TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, COLUMN_DEFAULT, COLLATION_NAME, EXTRA"
        " FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'vm_ha' ORDER BY 1, 2"
    )
    keys = server.sql(
        "SELECT TABLE_NAME, INDEX_NAME, NON_UNIQUE, SEQ_IN_INDEX, COLUMN_NAME"
        " FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = 'vm_ha' ORDER BY 1, 2, 4"
    )
    return columns, keys


def rows(server: PrivateMariaDB) -> dict[str, list[dict[str, Any]]]:
    return {table: server.sql(f"SELECT * FROM {table} ORDER BY id") for table in OLD_TABLES}  # noqa: S608


def old(server: PrivateMariaDB) -> None:
    """The database of 2015, filled."""
    done = server.run_script(OLD)
    assert (done.returncode, done.stderr) == (0, "")


# create


def test_from_nothing_to_an_account_with_the_least_rights(tool: Tool, server: PrivateMariaDB, capsys: Said) -> None:
    assert tool("create") == 0
    said = capsys.readouterr()
    assert said.err == "" and PASSWORD not in said.out
    assert "made the account ha_controller@127.0.0.1" in said.out
    assert re.search(r"ok +other rights +ha_controller@127.0.0.1 has none", said.out)
    # Which of the two it takes a connection from this machine for depends on whether the server looks names up.
    assert grants(server) == grants(server, "localhost") == LEAST
    open_database(settings(server), Clock()).check_version()
    made = structure(server)
    server.make_tables()
    assert made == structure(server)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE more (i INT)",
        "ALTER TABLE vm_list ADD COLUMN more INT",
        "DROP TABLE vm_list",
        "CREATE INDEX more ON vm_list (name)",
        "TRUNCATE TABLE vm_list",
        "CREATE DATABASE more",
        "DROP DATABASE vm_ha",
        "CREATE USER more",
        "GRANT SELECT ON vm_ha.* TO dba",
        "SELECT User FROM mysql.user",
        "CREATE TRIGGER more BEFORE INSERT ON vm_list FOR EACH ROW SET NEW.name = 'x'",
    ],
)
def test_the_account_changes_rows_and_nothing_else(statement: str, tool: Tool, server: PrivateMariaDB) -> None:
    assert tool("create") == 0
    before = structure(server)
    account = pymysql.connect(host=HERE, port=server.port, user=USER, password=PASSWORD, database="vm_ha")
    with account, account.cursor() as cursor, pytest.raises(pymysql.OperationalError, match="denied"):
        cursor.execute(statement)
    assert structure(server) == before


def test_an_account_may_not_read_a_database_whose_name_only_looks_alike(tool: Tool, server: PrivateMariaDB) -> None:
    server.sql("CREATE DATABASE vmxha; CREATE TABLE vmxha.secret (i INT)", None)
    assert tool("create") == 0
    account = pymysql.connect(host=HERE, port=server.port, user=USER, password=PASSWORD)
    with account, account.cursor() as cursor, pytest.raises(pymysql.OperationalError, match="denied"):
        cursor.execute("SELECT * FROM vmxha.secret")


def test_the_controller_starts_and_recovers_with_the_account(
    tool: Tool, server: PrivateMariaDB, tmp_path: Path
) -> None:
    assert tool("create") == 0
    with CloudProcess(tmp_path, hosts="compute1,compute2", stop_s=0.3, start_s=0.3) as cloud:
        (instance,) = cloud.remote.boot("compute1", 1)
        with ControllerProcess(tmp_path / "c", settings(server), cloud.remote.auth_url) as controller:
            cloud.remote.crash_guest(instance)
            monitor = Monitor("compute1")
            monitor.deliver([controller.url], monitor.instance_down(instance))

            def recovered() -> bool:
                return [row["status"] for row in server.sql("SELECT status FROM recovery")] == ["finished"]

            until(recovered, RECOVERED_WITHIN_S, lambda: controller.said()[-3000:])
            assert "denied" not in controller.said()
            assert controller.terminate() == 0


def test_a_second_run_changes_nothing(tool: Tool, server: PrivateMariaDB, capsys: Said) -> None:
    assert tool("create") == 0
    server.sql("INSERT INTO reserve_list (cluster_port, hostname, listed_key) VALUES ('p', 'c9', 'c9')")
    before = structure(server), rows(server), grants(server)
    capsys.readouterr()
    assert tool("create") == 0
    assert (structure(server), rows(server), grants(server)) == before
    said = capsys.readouterr().out
    assert f"of version {SCHEMA_VERSION} are there" in said and "made" not in said


def test_a_new_password_in_the_settings_is_the_new_password_of_the_account(tool: Tool, server: PrivateMariaDB) -> None:
    assert tool("create") == 0
    tool.set(passwd='it\'s "a" 100 % \\new one; --')
    assert tool("check") == 1
    assert tool("create") == 0
    assert tool("check") == 0


def test_each_controller_gets_its_account(tool: Tool, server: PrivateMariaDB, capsys: Said) -> None:
    assert tool("create", "--from", "192.0.2.20", "--from", "CTL2.example") == 0
    assert "Next, on each controller: masakari-db check" in capsys.readouterr().out
    assert grants(server, "192.0.2.20") == grants(server, "ctl2.example") == LEAST
    assert tool("check") == 1
    assert tool("create") == 0


def test_a_database_may_have_any_name(tool: Tool, server: PrivateMariaDB) -> None:
    tool.set(name="ha-%`1")
    assert tool("create") == 0
    assert tool("check") == 0
    assert {row["Database"] for row in server.sql("SHOW DATABASES", None)} >= {"ha-%`1"}
    assert not [row for row in server.sql("SHOW DATABASES", None) if row["Database"] == "vm_ha"]


def test_by_the_socket_the_account_is_one_of_localhost(tool: Tool, server: PrivateMariaDB) -> None:
    tool.set(host=None, unix_socket=server.socket)
    tool.socket = []
    assert tool("create") == 0
    assert grants(server, "localhost") == LEAST


def test_an_account_that_may_too_much_is_narrowed_on_its_own_database(
    tool: Tool, server: PrivateMariaDB, capsys: Said
) -> None:
    server.sql(f"CREATE USER '{USER}'@'{HERE}' IDENTIFIED BY 'x'", None)
    server.sql(f"GRANT ALL ON vm_ha.* TO '{USER}'@'{HERE}' WITH GRANT OPTION", None)
    assert tool("create") == 0
    assert grants(server) == ["GRANT SELECT, INSERT, UPDATE, DELETE ON `vm_ha`.*", "GRANT USAGE ON *.*"]
    told = re.findall("took away from it what it does not need: (.*) on vm_ha.*", capsys.readouterr().out)
    assert len(told) == 1 and {"CREATE", "GRANT OPTION"} <= set(told[0].split(", "))


def test_a_server_that_looks_names_up_takes_the_account_of_localhost(tmp_path: Path, capsys: Said) -> None:
    with PrivateMariaDB(tmp_path, skip_name_resolve="OFF") as server:
        tool = Tool(tmp_path, server)
        server.sql(
            f"CREATE USER '{USER}'@'localhost' IDENTIFIED BY 'x'; GRANT ALL ON vm_ha.* TO '{USER}'@'localhost'", None
        )
        assert tool("create") == 0
        assert tool("check") == 0


def test_rights_elsewhere_are_left_alone_and_told(tool: Tool, server: PrivateMariaDB, capsys: Said) -> None:
    server.sql(f"CREATE USER '{USER}'@'{HERE}'; GRANT FILE ON *.* TO '{USER}'@'{HERE}'", None)
    assert tool("create") == 1
    assert f"REVOKE FILE ON *.* FROM '{USER}'@'{HERE}'" in capsys.readouterr().err
    assert "GRANT FILE ON *.*" in grants(server)
    server.sql(f"REVOKE FILE ON *.* FROM '{USER}'@'{HERE}'", None)
    assert tool("create") == 0


@pytest.mark.parametrize(
    ("there", "told"),
    [
        ("CREATE TABLE alembic_version (i INT)", "is the database of another program, with alembic_version"),
        (f"CREATE TABLE schema_version (version INT) SELECT {SCHEMA_VERSION + 1} AS version", "is of a newer Masakari"),
        (f"CREATE TABLE schema_version (version INT) SELECT {SCHEMA_VERSION - 1} AS version", "then masakari-db upgrade"),
        ("CREATE TABLE notification_list (i INT)", "tables of 2015: stop the controllers, take a backup"),
    ],
)  # fmt: skip
def test_tables_that_are_not_for_create_are_left_as_they_are(
    there: str, told: str, tool: Tool, server: PrivateMariaDB, capsys: Said
) -> None:
    server.make_database("vm_ha")
    server.sql(there)
    before = structure(server)
    assert tool("create") == 1
    assert told in capsys.readouterr().err
    assert structure(server) == before
    assert USER not in [row["User"] for row in server.sql("SELECT User FROM mysql.user", None)]


def test_the_administrator_is_no_account_for_a_controller(tool: Tool, server: PrivateMariaDB, capsys: Said) -> None:
    tool.set(user="root")
    assert tool("create") == 1
    assert "give the controller an account of its own" in capsys.readouterr().err
    assert server.connect(None).open, "root comes in as ever"


def cut_after(monkeypatch: pytest.MonkeyPatch, many: int) -> Callable[[], bool]:
    """Let the program end where a kill would end it, after so many statements; whether it got that far."""
    run, ran = Admin._run, 0

    def counted(self: Admin, *arguments: Any) -> int:
        nonlocal ran
        ran += 1
        if ran > many:
            raise SystemExit(137)
        return run(self, *arguments)

    monkeypatch.setattr(Admin, "_run", counted)
    return lambda: ran > many


@pytest.mark.parametrize("filled", [False, True])
def test_cut_off_anywhere_it_is_finished_by_running_it_again(
    filled: bool, tool: Tool, server: PrivateMariaDB, capsys: Said
) -> None:
    verb, step = ("upgrade", 7) if filled else ("create", 4)
    if filled:
        old(server)
        kept = {table: len(found) for table, found in rows(server).items()}
    cut, cut_off = 0, True
    while cut_off:
        with pytest.MonkeyPatch.context() as patch:
            reached = cut_after(patch, cut)
            try:
                tool(verb)
            except SystemExit as ended:
                assert ended.code == 137
            cut_off = reached()
        # A small step at the end, where the version is stored and the account made.
        cut += step if cut < 60 else 1
    assert tool(verb) == 0
    if filled:
        assert {table: len(found) for table, found in rows(server).items()} == kept
        assert tool("create") == 0
    assert tool("check") == 0
    upgraded = structure(server)
    server.make_tables()
    assert upgraded == structure(server)


# The administrator


def make_dba(server: PrivateMariaDB, rights: str = "ALL ON *.*") -> None:
    server.sql(f"CREATE USER 'dba'@'{HERE}' IDENTIFIED BY '{ADMIN_PASSWORD}'", None)
    server.sql(f"GRANT {rights} TO 'dba'@'{HERE}' WITH GRANT OPTION", None)


def test_the_account_of_the_administrator_is_in_a_file(tool: Tool, server: PrivateMariaDB, capsys: Said) -> None:
    make_dba(server)
    assert tool("create", "--admin-file", tool.admin_file("user = dba", f'password = "{ADMIN_PASSWORD}"')) == 0
    said = capsys.readouterr()
    assert "as dba@127.0.0.1" in said.out and ADMIN_PASSWORD not in said.out + said.err


def test_the_password_is_asked_for_at_a_terminal(
    tool: Tool, server: PrivateMariaDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_dba(server)
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return ADMIN_PASSWORD

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(db_tool.getpass, "getpass", ask)
    assert tool("create", "--admin-file", tool.admin_file("user = dba")) == 0
    assert asked == [f"Password of dba on {HERE}:{server.port}: "]


def test_a_wrong_administrator_is_told_and_nothing_is_done(tool: Tool, server: PrivateMariaDB, capsys: Said) -> None:
    make_dba(server)
    for verb in ("create", "upgrade"):
        assert tool(verb, "--admin-file", tool.admin_file("user = dba", "password = falsches-wort")) == 1
        said = capsys.readouterr().err
        assert f"{HERE}:{server.port} doesn't let the administrator in" in said and "'dba'@" in said
        assert "falsches-wort" not in said
    assert not [row for row in server.sql("SHOW DATABASES", None) if row["Database"] == "vm_ha"]


@pytest.mark.parametrize("rights", ["SELECT ON *.*", "ALL ON vm_ha.*"])
def test_an_administrator_who_may_not_is_told_what_to_do(
    rights: str, tool: Tool, server: PrivateMariaDB, capsys: Said
) -> None:
    make_dba(server, rights)
    file = tool.admin_file("user = dba", f"password = {ADMIN_PASSWORD}")
    assert tool("create", "--admin-file", file) == 1
    said = capsys.readouterr().err
    assert "denied" in said and "Go in as an administrator who may: --admin-file" in said
    assert PASSWORD not in said and ADMIN_PASSWORD not in said
    # What was done is gone on with by one who may.
    assert tool("create") == 0


def test_the_server_of_this_machine_is_not_taken_for_another_one(
    tool: Tool, server: PrivateMariaDB, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    monkeypatch.setattr(db_tool, "USUAL_SOCKET", str(server.socket))
    tool.socket = []
    assert tool("create") == 0
    tool.set(port=server.port - 1)
    assert tool("create") == 1
    assert f"listens on port {server.port}, and [db] port is {server.port - 1}" in capsys.readouterr().err


def test_a_server_that_the_controller_can_not_reach_gets_no_tables(
    tool: Tool, server: PrivateMariaDB, capsys: Said
) -> None:
    tool.set(port=server.port - 1)
    assert tool("create") == 1
    assert f"{HERE}:{server.port - 1} can't be reached from here" in capsys.readouterr().err
    assert not [row for row in server.sql("SHOW DATABASES", None) if row["Database"] == "vm_ha"]


# upgrade


def test_a_database_of_2015_is_upgraded_and_a_second_run_has_nothing_to_do(
    tool: Tool, server: PrivateMariaDB, capsys: Said
) -> None:
    old(server)
    assert tool("upgrade") == 0
    said = capsys.readouterr().out
    assert "its tables are of 2015" in said and "rows: 6 in notification_list, 3 in vm_list, 4 in reserve_list" in said
    by_tool = structure(server)
    times = ("update_at", "delete_at")

    def without_times() -> dict[str, list[dict[str, Any]]]:
        return {
            table: [{k: v for k, v in row.items() if k not in times} for row in its]
            for table, its in rows(server).items()
        }

    rows_by_tool = without_times()
    assert tool("upgrade") == 0
    assert "nothing to do" in capsys.readouterr().out
    assert without_times() == rows_by_tool
    server.sql("DROP DATABASE vm_ha", None)
    old(server)
    assert server.run_script(TABLES).returncode == 0
    assert (structure(server), without_times()) == (by_tool, rows_by_tool)


def test_after_the_upgrade_the_account_of_2015_is_narrowed(tool: Tool, server: PrivateMariaDB) -> None:
    old(server)
    server.sql(f"CREATE USER '{USER}'@'{HERE}' IDENTIFIED BY '{PASSWORD}'", None)
    server.sql(f"GRANT ALL ON vm_ha.* TO '{USER}'@'{HERE}'", None)
    assert [tool(verb) for verb in ("check", "create", "upgrade", "check", "create", "check")] == [1, 1, 0, 1, 0, 0]


def test_an_earlier_version_is_upgraded(tool: Tool, server: PrivateMariaDB, capsys: Said) -> None:
    assert tool("create") == 0
    wanted = structure(server)
    server.sql("INSERT INTO known_host (hostname, cluster_port, first_seen_at) VALUES ('c1', 'p', 1.5)")
    server.sql(
        "DELETE FROM schema_version WHERE version > 1; ALTER TABLE known_host DROP COLUMN pacemaker_name,"
        " DROP COLUMN bmc_guid, DROP COLUMN declared_at, DROP COLUMN declared_boot"
    )
    capsys.readouterr()
    assert tool("upgrade") == 0
    said = capsys.readouterr().out
    assert f"of version 1; this release has version {SCHEMA_VERSION}" in said
    assert "changing the columns and keys of known_host" in said
    assert structure(server) == wanted
    assert [row["hostname"] for row in server.sql("SELECT hostname FROM known_host")] == ["c1"]


def test_nothing_is_upgraded_while_a_controller_is_connected(tool: Tool, server: PrivateMariaDB, capsys: Said) -> None:
    old(server)
    server.sql(f"CREATE USER '{USER}'@'{HERE}' IDENTIFIED BY '{PASSWORD}'", None)
    server.sql(f"GRANT ALL ON vm_ha.* TO '{USER}'@'{HERE}'", None)
    before = structure(server)
    controller = pymysql.connect(host=HERE, port=server.port, user=USER, password=PASSWORD, database="vm_ha")
    with controller:
        assert tool("upgrade") == 1
        assert f"{USER} is connected to vm_ha from {HERE}: stop the controllers" in capsys.readouterr().err
        assert structure(server) == before

    def upgraded() -> bool:
        return tool("upgrade") == 0

    until(upgraded, 10, lambda: capsys.readouterr().err)


def test_without_tables_there_is_nothing_to_upgrade(tool: Tool, server: PrivateMariaDB, capsys: Said) -> None:
    assert tool("upgrade") == 1
    server.make_database("vm_ha")
    assert tool("upgrade") == 1
    assert capsys.readouterr().err.count("masakari-db create makes them") == 2


def test_a_value_that_does_not_fit_is_told_and_the_upgrade_goes_on_afterwards(
    tool: Tool, server: PrivateMariaDB, capsys: Said
) -> None:
    old(server)
    server.sql(
        "ALTER TABLE vm_list MODIFY recover_to TEXT; UPDATE vm_list SET recover_to = REPEAT('x', 300) WHERE id = 1"
    )
    assert tool("upgrade") == 1
    said = capsys.readouterr().err
    assert "stopped at ALTER TABLE vm_list" in said and "recover_to" in said
    server.sql("UPDATE vm_list SET recover_to = 'compute9' WHERE id = 1")
    assert tool("upgrade") == 0
    assert "half made or half upgraded" in capsys.readouterr().out


def test_killed_in_the_middle_of_a_long_change_it_loses_nothing(tool: Tool, server: PrivateMariaDB) -> None:
    old(server)
    names = ", ".join(row["Field"] for row in server.sql("DESCRIBE notification_list") if row["Field"] != "id")
    double = f"INSERT INTO notification_list ({names}) SELECT {names} FROM notification_list"  # noqa: S608
    server.sql("; ".join(["SET sql_mode = ''", *[double] * 13]))
    count = len(server.sql("SELECT id FROM notification_list"))
    command = [sys.executable, "-u", "-c", "import sys; from masakari.db_tool import main; sys.exit(main())"]
    program = subprocess.Popen([*command, *tool.words("upgrade")], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert program.stdout
    with program.stdout:
        assert any("changing the columns and keys of notification_list" in line for line in program.stdout)
        os.kill(program.pid, signal.SIGKILL)
    program.wait(20)
    assert tool("check") == 1
    assert tool("upgrade") == 0
    assert len(server.sql("SELECT id FROM notification_list")) == count
    assert tool("create") == 0


# check


def test_a_right_that_is_missing_is_named(tool: Tool, server: PrivateMariaDB, capsys: Said) -> None:
    assert tool("create") == 0
    server.sql(rf"REVOKE DELETE ON `vm\_ha`.* FROM '{USER}'@'{HERE}'", None)
    capsys.readouterr()
    assert tool("check") == 1
    assert re.search(r"NOT OK +rights +DELETE command denied to user 'ha_controller'", capsys.readouterr().out)
    assert tool("create") == 0


@pytest.mark.parametrize(
    ("grant", "told"),
    [
        ("ALTER, CREATE ON vm_ha.*", "CREATE, ALTER on vm_ha.*"),
        ("PROCESS ON *.*", "PROCESS on *.*"),
        ("SELECT ON mysql.*", "SELECT on mysql.*"),
        ("DROP ON vm_ha.vm_list", "DROP on vm_ha.vm_list"),
        ("INSERT (Priv) ON mysql.global_priv", "INSERT on mysql.global_priv"),
    ],
)
def test_a_right_too_many_is_named(grant: str, told: str, tool: Tool, server: PrivateMariaDB, capsys: Said) -> None:
    assert tool("create") == 0
    server.sql(f"GRANT {grant} TO '{USER}'@'{HERE}'", None)
    capsys.readouterr()
    assert tool("check") == 1
    said = " ".join(capsys.readouterr().out.split())
    assert f"NOT OK other rights {USER}@{HERE} has rights that it does not need: {told}" in said


def test_the_rights_of_a_role_are_named(tool: Tool, server: PrivateMariaDB, capsys: Said) -> None:
    assert tool("create") == 0
    server.sql(f"CREATE OR REPLACE ROLE helpers; GRANT helpers TO '{USER}'@'{HERE}'", None)
    server.sql(f"SET DEFAULT ROLE helpers FOR '{USER}'@'{HERE}'", None)
    assert tool("check") == 1
    assert "has those of the role helpers" in capsys.readouterr().out
    server.sql("DROP ROLE helpers", None)


def test_a_wrong_password_and_old_tables_are_not_ok(tool: Tool, server: PrivateMariaDB, capsys: Said) -> None:
    assert tool("create") == 0
    server.sql("DELETE FROM schema_version")
    tool.set(passwd="falsches-wort")
    assert tool("check") == 1
    tool.set()
    assert tool("check") == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "Access denied for user 'ha_controller'" in said and "masakari-db create, or upgrade" in said
    assert "falsches-wort" not in said and PASSWORD not in said


def test_a_check_changes_nothing(tool: Tool, server: PrivateMariaDB) -> None:
    assert tool("create") == 0
    old_rows, before = rows(server), structure(server)
    server.sql(f"GRANT ALTER ON vm_ha.* TO '{USER}'@'{HERE}'", None)
    granted = grants(server)
    assert tool("check") == 1
    assert (rows(server), structure(server), grants(server)) == (old_rows, before, granted)


# masakari-manage db sync, as guides of OpenStack have it


def test_db_sync_looks_and_names_what_makes_and_upgrades(tool: Tool, server: PrivateMariaDB, capsys: Said) -> None:
    sync = ["--config", str(tool.conf), "db", "sync"]
    assert manage.main(sync) == 1
    assert "masakari-db create" in capsys.readouterr().err
    assert tool("create") == 0
    capsys.readouterr()
    assert manage.main(sync) == 0
    assert capsys.readouterr().out == f"the tables of vm_ha on {HERE} are up to date\n"
    server.sql("DELETE FROM schema_version")
    assert manage.main(sync) == 1
    assert "masakari-db create, or upgrade" in capsys.readouterr().err
    assert tool("upgrade") == 0
    assert manage.main(sync) == 0


# What the install guide shows for doing it by hand


def test_the_statements_of_the_install_guide_make_an_account_with_the_least_rights(
    tool: Tool, server: PrivateMariaDB
) -> None:
    guide = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    (statements,) = re.findall(r"^```sql\n(.*?)^```$", guide, re.DOTALL | re.MULTILINE)
    assert server.run_script(TABLES).returncode == 0
    server.sql(statements.replace("'masakari'", f"'{USER}'").replace("192.0.2.20", HERE), None)
    tool.set(passwd="...")
    assert tool("check") == 0
    assert grants(server) == LEAST
