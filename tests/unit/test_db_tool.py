"""masakari-db without a server: whom it goes in as, what the script becomes, which rights are too many, and SQLite."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from masakari import db_tool
from masakari.config import Db
from masakari.database import SCHEMA_VERSION
from masakari.database_setup import (
    RIGHTS,
    Login,
    Right,
    grant_on,
    in_words,
    login,
    missing,
    name,
    pattern,
    statements,
    surplus,
)
from masakari.queries import sql_folder

SOCKET = "/run/mysqld/mysqld.sock"
SCRIPT = (sql_folder() / "create_vmha_database.sql").read_text(encoding="utf-8")
ALL_FOUR = [Right(what, r"vm\_ha") for what in RIGHTS]


def server(**changes: object) -> Db:
    return Db(**{"user": "masakari", "passwd": "geheim", **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("db", "file", "asked", "usual", "way"),
    [
        ({}, {}, "", SOCKET, ("root", SOCKET, "", True)),
        ({"host": "localhost"}, {}, "", SOCKET, ("root", SOCKET, "", True)),
        ({}, {}, "", "", ("root", "", "127.0.0.1:3306", False)),
        ({"unix_socket": "/s"}, {}, "", SOCKET, ("root", "/s", "", False)),
        # A server of this machine is not taken for the one that the settings name.
        ({"host": "192.0.2.9", "port": 3307}, {}, "", SOCKET, ("root", "", "192.0.2.9:3307", False)),
        ({"host": "192.0.2.9"}, {}, "/s", SOCKET, ("root", "/s", "", False)),
        ({"host": "192.0.2.9"}, {"user": "dba"}, "", SOCKET, ("dba", "", "192.0.2.9:3306", False)),
        ({}, {"host": "192.0.2.8", "port": "3308"}, "", SOCKET, ("root", "", "192.0.2.8:3308", False)),
        ({"host": "192.0.2.9"}, {"host": "localhost", "socket": "/s"}, "", "", ("root", "/s", "", False)),
        # Debian's own /etc/mysql/debian.cnf.
        ({}, {"host": "localhost", "user": "root"}, "", SOCKET, ("root", SOCKET, "", True)),
    ],
)
def test_the_administrator_goes_where_the_settings_lead(
    db: dict[str, object],
    file: dict[str, str],
    asked: str,
    usual: str,
    way: tuple[str, str, str, bool],
) -> None:
    found = login(server(**db), file, asked, usual)
    place = "" if found.socket else f"{found.host}:{found.port}"
    assert (found.user, found.socket, place, found.guessed) == way


def test_the_password_of_the_administrator_is_not_in_what_is_shown_of_a_login() -> None:
    assert "geheim" not in repr(Login(password="geheim"))


def test_the_script_is_cut_into_the_statements_that_it_has() -> None:
    found = statements(SCRIPT, "vm_ha")
    known = r"(SET|CREATE (DATABASE|TABLE)|USE|ALTER|UPDATE|INSERT|DELETE|PREPARE|EXECUTE|DEALLOCATE|START|COMMIT)\b"
    assert [statement for statement in found if not re.match(known, statement)] == []
    # Cut nowhere else: the quotes of each statement are closed, and no two are in one.
    assert [statement for statement in found if statement.count("'") % 2 or ";" in statement] == []
    assert sum(statement.startswith("CREATE TABLE") for statement in found) == SCRIPT.count("\nCREATE TABLE")


def test_an_interruption_never_leaves_an_earlier_version_behind() -> None:
    found = statements(SCRIPT, "vm_ha")
    begin = found.index("START TRANSACTION")
    assert found[-1] == "COMMIT"
    versions = [at for at, statement in enumerate(found) if statement.startswith("INSERT INTO schema_version")]
    assert versions == list(range(begin + 1, len(found) - 1)) and len(versions) == SCHEMA_VERSION


def test_the_script_makes_the_database_of_any_name() -> None:
    found = statements(SCRIPT, "ha-`x")
    assert [statement for statement in found if "vm_ha" in statement] == []
    assert "USE `ha-``x`" in found
    assert [statement for statement in found if statement.startswith("CREATE DATABASE IF NOT EXISTS `ha-``x` ")]


def test_a_name_with_a_wildcard_is_granted_as_itself() -> None:
    assert (pattern("vm_ha"), name("vm_ha")) == (r"vm\_ha", "`vm_ha`")
    assert grant_on([], "vm_ha") == r"`vm\_ha`.*"


def test_rights_granted_by_hand_are_added_to_where_they_are() -> None:
    assert grant_on([Right("SELECT", "vm_ha")], "vm_ha") == "`vm_ha`.*"


def test_what_is_missing_is_what_holds_not_on_every_table() -> None:
    assert missing(ALL_FOUR, "vm_ha") == []
    assert missing([Right(what, "vm_ha") for what in RIGHTS], "vm_ha") == []
    assert missing([Right("SELECT", "vm_ha", "vm_list"), Right("INSERT", "vm_ha")], "vm_ha") == [
        "SELECT",
        "UPDATE",
        "DELETE",
    ]


@pytest.mark.parametrize(
    "right",
    [
        Right("FILE"),
        Right("SELECT"),
        Right("SELECT", "nova"),
        Right("DROP", "vm_ha"),
        Right("GRANT OPTION", "vm_ha"),
        Right("ALTER", "vm_ha", "vm_list"),
        # What 2015's way of granting gives besides.
        Right("SELECT", "vmxha"),
    ],
)
def test_every_other_right_is_too_much(right: Right) -> None:
    assert surplus([*ALL_FOUR, right], "vm_ha") == [right]


def test_many_rights_are_told_in_few_words() -> None:
    many = [Right(what, r"vm\_ha") for what in ("CREATE", "DROP", "INDEX", "ALTER", "EVENT", "TRIGGER")]
    assert in_words([Right("FILE"), *many]) == "FILE on *.*; CREATE, DROP, INDEX, ALTER and 2 more on vm_ha.*"


# The command line


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """Settings that name a server that nobody runs."""
    file = tmp_path / "masakari.conf"
    file.write_text(f"[db]\nunix_socket = {tmp_path}/none\nuser = masakari\npasswd = geheim\n", encoding="utf-8")
    return file


def run(conf: Path, *words: str) -> int:
    return db_tool.main(["--config", str(conf), *words])


@pytest.mark.parametrize(
    "words",
    [[], ["drop"], ["create", "--password", "x"], ["create", "-px"], ["create", "--from", "a b"], ["check", "--socket", "/s"]],
)  # fmt: skip
def test_wrong_use_is_told_and_no_option_takes_a_password(words: list[str], conf: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        run(conf, *words)
    assert ended.value.code == 2


def test_a_password_is_asked_for_before_anything_is_done(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf.write_text("[db]\nuser = masakari\n")
    assert run(conf, "create") == 1
    assert f"[db] passwd in {conf} is empty" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["create", "upgrade", "check"])
def test_a_server_that_is_away_is_told(verb: str, conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(conf, verb) == 1
    said = capsys.readouterr()
    assert f"{conf.parent}/none" in said.out + said.err
    assert "geheim" not in said.out + said.err


def test_a_missing_option_file_is_told(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(conf, "create", "--admin-file", "/no/such") == 1
    assert "/no/such" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "mode", "told"),
    [
        ("[mysqld]\nuser = mysql\n", 0o600, "has no section [client]"),
        ("[client]\npassword = geheim\n", 0o644, "everybody can read the password in"),
        ("[client]\nport = x\n", 0o600, "port is no number"),
    ],
)
def test_an_option_file_that_is_of_no_use_is_refused(
    text: str, mode: int, told: str, conf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = conf.parent / "admin.cnf"
    file.write_text(text)
    file.chmod(mode)
    assert run(conf, "upgrade", "--admin-file", str(file)) == 1
    said = capsys.readouterr().err
    assert told in said and "geheim" not in said


# SQLite


@pytest.fixture
def sqlite(tmp_path: Path) -> Path:
    file = tmp_path / "masakari.conf"
    file.write_text(f"[db]\nname = {tmp_path}/masakari.sqlite\n", encoding="utf-8")
    return file


@pytest.mark.parametrize("verb", ["create", "upgrade"])
def test_a_sqlite_file_is_made_and_what_it_is_is_told(
    verb: str, sqlite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(sqlite, "check") == 1
    assert "there is no database" in capsys.readouterr().out
    assert not (sqlite.parent / "masakari.sqlite").exists()
    for _ in range(2):
        assert run(sqlite, verb) == 0
        assert f"It is SQLite, as [db] of {sqlite} names no server" in capsys.readouterr().out
    assert run(sqlite, "check") == 0


def test_who_forgot_to_name_the_server_gets_no_sqlite_file(sqlite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(sqlite, "create", "--from", "192.0.2.20") == 1
    assert "names no server" in capsys.readouterr().err
    assert not (sqlite.parent / "masakari.sqlite").exists()
