"""The operator's scripts as they are typed: real processes, on SQLite and on a private MariaDB."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from masakari import store
from masakari.common.clock import Clock
from masakari.config import Db
from masakari.database import Database, open_database
from tests.lab.mariadb import PASSWORD, USER, PrivateMariaDB
from tests.lab.pytest_mariadb import mariadb

__all__ = ["mariadb"]

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = (
    "reserve_host_manage.py",
    "notification_status_manage.py",
    "recovery_status_manage.py",
    "vmha_data_manage.py",
    "recovery_manage.py",
)
CLUSTER = "226.94.1.1:5405"


class Shell:
    """Where an operator types: a settings file, and the database it names."""

    def __init__(self, folder: Path, db: Db) -> None:
        self.folder = folder
        self.config = folder / "masakari.conf"
        values = {"drivername": db.drivername, "name": db.name, "user": db.user, "passwd": str(db.passwd)}
        if db.drivername == "mysql":
            values |= {"host": db.host, "port": str(db.port)}
        self.config.write_text("[db]\n" + "".join(f"{name} = {value}\n" for name, value in values.items() if value))
        self.db: Database = open_database(db, Clock())

    def run(
        self, script: str, *arguments: str, tree: Path = ROOT, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """What a script does and says, from another folder."""
        own = {"PATH": os.environ["PATH"], "TZ": "Asia/Tokyo", "LOGNAME": "bob", **environment}
        return subprocess.run(
            [sys.executable, str(tree / "utils" / script), "--config", str(self.config), *arguments],
            cwd=self.folder,
            env=own,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def ok(self, script: str, *arguments: str, **environment: str) -> str:
        """What a script prints when it succeeds."""
        done = self.run(script, *arguments, **environment)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout

    def data(self, script: str, *arguments: str) -> Any:
        """The same as JSON."""
        return json.loads(self.ok(script, *arguments, "--json"))

    def held(self, host: str = "compute1", hold: str = "proof") -> int:
        """A held recovery, as intake leaves it."""
        now = Clock().now()

        def write(tx: Any) -> int:
            return store.add(tx, "host", host, CLUSTER, now, step="prove", status="held", hold=hold, reason="no proof")

        return self.db.transaction(write)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path, Db(drivername="sqlite", name=str(tmp_path / "vm_ha.sqlite")))


@pytest.fixture
def mariadb_shell(tmp_path: Path, mariadb: PrivateMariaDB) -> Shell:
    mariadb.make_tables()
    return Shell(tmp_path, mariadb.settings())


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_is_a_program_and_tells_how_to_use_it(script: str) -> None:
    path = ROOT / "utils" / script
    assert os.access(path, os.X_OK)
    assert path.read_text().startswith("#!/usr/bin/env python3\n")
    done = subprocess.run([sys.executable, str(path), "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    for word in ("examples:", "--db-user", "MASAKARI_DB_PASSWORD", "can read a command line", "--json", "Exit status:"):
        assert word in re.sub(r"\s+", " ", done.stdout)


def work_through(shell: Shell, *login: str) -> None:
    """A day of an operator: spares, a held host, the word that it is off, a pause; on any database."""
    spare = ("--port", CLUSTER, "--host", "compute8", *login)
    assert f"compute8 is a spare of {CLUSTER}" in shell.ok("reserve_host_manage.py", "--mode", "add", *spare)
    again = shell.run("reserve_host_manage.py", "--mode", "add", *spare)
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr == f"reserve_host_manage.py: compute8 is a spare of {CLUSTER} already\n"
    rename = ("--port", CLUSTER, "--before-host", "compute8", "--after-host", "compute9", *login)
    shell.ok("reserve_host_manage.py", "--mode", "update", *rename)
    listed = shell.data("reserve_host_manage.py", "--mode", "list", *login)["spares"]
    assert [(row["cluster_port"], row["hostname"], row["state"]) for row in listed] == [(CLUSTER, "compute9", "free")]
    assert re.search(r"\d\d:\d\d:\d\d \+0900", shell.ok("reserve_host_manage.py", "--mode", "list", *login))
    shell.ok("reserve_host_manage.py", "--mode", "delete", "--port", CLUSTER, "--host", "compute9", *login)

    recovery = shell.held()
    refused = shell.run("recovery_manage.py", "release", str(recovery), *login)
    assert (refused.returncode, "attest --host compute1" in refused.stderr) == (1, True)
    shell.ok("recovery_manage.py", "attest", "--host", "compute1", "--note", "no power", "--yes", *login)
    story = shell.data("recovery_manage.py", "show", str(recovery), *login)["story"]
    assert [(line["actor"], line["what"], line["reason"]) for line in story] == [
        ("operator:bob", "attest: compute1 is off", "no power")
    ]
    shell.ok("recovery_manage.py", "cancel", str(recovery), *login)
    back = shell.data("recovery_manage.py", "return", "--host", "compute1", *login)["recovery"]
    shell.ok("recovery_manage.py", "pause", "--for", "2h", *login)
    shell.ok("recovery_manage.py", "method", "--cluster", CLUSTER, "--method", "auto", *login)
    listing = shell.data("recovery_manage.py", "list", *login)
    assert [row["id"] for row in listing["recoveries"]] == [recovery, back]
    assert any(notice.startswith("PAUSED: All segments are paused") for notice in listing["notices"])
    shell.ok("recovery_manage.py", "resume", *login)
    assert shell.data("notification_status_manage.py", "--mode", "list", *login)["reports"] == []
    assert shell.data("recovery_status_manage.py", "--mode", "list", *login)["instances"] == []
    assert shell.data("vmha_data_manage.py", "--mode", "delete", *login)["deleted"] == 0
    missing = shell.run("recovery_status_manage.py", "--mode", "update", "--uuid", "u-1", *login)
    assert (missing.returncode, "no recovery ever had an instance u-1" in missing.stderr) == (1, True)


def test_the_scripts_work_on_sqlite(shell: Shell) -> None:
    work_through(shell)


@pytest.mark.needs_mariadb
def test_the_scripts_work_on_mariadb(mariadb_shell: Shell) -> None:
    work_through(mariadb_shell, "--db-user", USER, "--db-password", PASSWORD, "--db-host", "127.0.0.1")


@pytest.mark.needs_mariadb
def test_a_retry_works_on_mariadb(mariadb_shell: Shell) -> None:
    shell = mariadb_shell
    recovery = shell.held()

    def fail(tx: Any) -> None:
        rows = [
            store.instance_row(uuid, uuid, recovery, "host", Clock().now(), status="failed", reason="stuck")
            for uuid in ("u-1", "u-2")
        ]
        tx.execute_many("instance_add", rows)
        other = store.add(tx, "host", "compute2", CLUSTER, Clock().now(), step="prove")
        rows = [store.instance_row("u-2", "u-2", other, "host", Clock().now(), status="running")]
        tx.execute_many("instance_add", rows)
        tx.execute("recovery_end", id=recovery, status="failed", reason="no spare", now=Clock().now())

    shell.db.transaction(fail)
    told = shell.ok("recovery_manage.py", "retry", str(recovery), "--attest", "--yes")
    assert "with 1 of its instances (u-2 left as they are" in told
    rows = shell.data("recovery_status_manage.py", "--mode", "list")["instances"]
    assert [(row["uuid"], row["state"], row["recovery"]) for row in rows] == [
        ("u-1", "new", recovery),
        ("u-2", "failed", recovery),
        ("u-2", "running", recovery + 1),
    ]


@pytest.mark.needs_mariadb
def test_the_database_may_be_named_by_options_and_environment_alone(
    mariadb: PrivateMariaDB, mariadb_shell: Shell
) -> None:
    wrong = replace(mariadb.settings(), user="nobody", passwd="wrong secret")
    shell = Shell(mariadb_shell.folder, wrong)
    refused = shell.run("recovery_manage.py", "list")
    assert (refused.returncode, "refuses us" in refused.stderr) == (1, True)
    assert "wrong secret" not in refused.stderr
    assert "none" in shell.ok("recovery_manage.py", "list", "--db-user", USER, MASAKARI_DB_PASSWORD=PASSWORD)


@pytest.mark.parametrize(
    ("script", "arguments", "problem"),
    [
        ("reserve_host_manage.py", [], "--mode"),
        ("reserve_host_manage.py", ["--mode", "add", "--port", CLUSTER], "needs --host"),
        ("reserve_host_manage.py", ["--mode", "update", "--port", CLUSTER], "needs --before-host and --after-host"),
        ("reserve_host_manage.py", ["--mode", "add", "--port", CLUSTER, "--host", "a b"], "must be a host name"),
        ("recovery_status_manage.py", ["--mode", "update"], "needs --uuid"),
        ("recovery_manage.py", ["show", "twelve"], "must be a number"),
        ("recovery_manage.py", ["pause", "--for", "soon"], "is no duration"),
        ("recovery_manage.py", ["attest", "--host", "compute1"], "give --yes, or answer at a terminal"),
    ],
)
def test_wrong_usage_is_status_2_and_changes_nothing(
    shell: Shell, script: str, arguments: list[str], problem: str
) -> None:
    done = shell.run(script, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert problem in done.stderr


@pytest.mark.parametrize(("typed", "status", "proofs"), [("yes", 0, 1), ("y", 1, 0)])
def test_at_a_terminal_an_operator_is_asked_before_their_word_counts(
    shell: Shell, typed: str, status: int, proofs: int
) -> None:
    shell.held()
    terminal, inside = pty.openpty()
    script = subprocess.Popen(
        [
            sys.executable,
            str(ROOT / "utils" / "recovery_manage.py"),
            f"--config={shell.config}",
            "attest",
            "--host=compute1",
        ],
        stdin=inside,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.write(terminal, f"{typed}\n".encode())
    _, asked = script.communicate(timeout=60)
    os.close(terminal)
    os.close(inside)
    assert "Is compute1 off, and does it stay off?" in asked
    stored = shell.db.read(lambda tx: tx.all("evidence_newest", hostname="compute1"))
    assert (script.returncode, len(stored)) == (status, proofs)


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    shell = Shell(tmp_path, Db(drivername="sqlite", name=str(tmp_path / "vm_ha.sqlite")))
    shell.db.close()
    for file in tmp_path.glob("vm_ha.sqlite*"):
        file.unlink()
    done = shell.run("recovery_manage.py", "list")
    assert (done.returncode, "the controller makes it" in done.stderr) == (1, True)
    assert not (tmp_path / "vm_ha.sqlite").exists()


def test_the_installed_tree_is_used_and_no_other_package_of_that_name(shell: Shell) -> None:
    tree = shell.folder / "usr" / "share" / "masakari"
    for part in ("masakari", "sql", "utils"):
        shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
    (tree / "masakari" / "__init__.py").write_text('__version__ = "9.9.9"\n')
    other = shell.folder / "dist-packages"
    (other / "masakari").mkdir(parents=True)
    (other / "masakari" / "__init__.py").write_text("raise ImportError('the wrong masakari')\n")
    done = shell.run("recovery_manage.py", "--version", tree=tree, PYTHONPATH=str(other))
    assert (done.stdout, done.stderr) == ("masakari 9.9.9\n", "")
    assert shell.run("recovery_manage.py", "list", tree=tree, PYTHONPATH=str(other)).returncode == 0


def test_output_into_a_closed_pipe_is_no_traceback(shell: Shell) -> None:
    command = f"'{sys.executable}' '{ROOT}/utils/recovery_manage.py' --config '{shell.config}' list | true"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
