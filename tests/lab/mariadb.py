"""A private MariaDB server on loopback, for tests that need the real thing."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pymysql

from masakari.config import Db

START_WITHIN_S = 60
STOP_WITHIN_S = 30
USER, PASSWORD = "masakari", "not a secret"
RIGHTS = "SELECT, INSERT, UPDATE, DELETE"  # what the controller is told to need
TABLES = Path(__file__).resolve().parents[2] / "sql" / "create_vmha_database.sql"

# Small, so that several can run beside each other; durable, as in production, unless a test says otherwise.
OPTIONS = {
    "innodb_buffer_pool_size": "32M",
    "innodb_log_file_size": "32M",
    "innodb_flush_log_at_trx_commit": "1",
    "performance_schema": "OFF",
    "skip_name_resolve": "ON",
    "max_connections": "200",
    "key_buffer_size": "1M",
    "aria_pagecache_buffer_size": "1M",
}

# The server refuses to run as root unless told so; here it keeps to its own folder.
_USER = ["--user=root"] if os.getuid() == 0 else []


def why_not() -> str:
    """Why no server can be started here; empty when one can."""
    missing = [name for name in ("mariadbd", "mariadb-install-db", "mariadb") if not _program(name)]
    if missing:
        return f"MariaDB is not installed: {', '.join(missing)} not found (apt-get install mariadb-server)"
    return ""


class PrivateMariaDB:
    """A server with data, socket and port of its own; starts on entry, is gone on exit.

    The database named in settings() exists and is empty; root comes in through the socket. The
    data stay in `folder` over stop(), kill() and restart(), and so does the port.
    """

    def __init__(self, folder: Path, **options: str) -> None:
        """options: settings of mariadbd that differ from OPTIONS."""
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "mariadbd.log"
        self.port = _free_port()
        # The path of a socket may have 107 characters, less than a test's folder can have.
        self._short = Path(tempfile.mkdtemp(prefix="mdb-", dir="/tmp"))
        self.socket = self._short / "s"
        self._options = {**OPTIONS, **options}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PrivateMariaDB:
        try:
            _copy_of_fresh_data(self.data)
            self.start()
            self.sql(
                f"CREATE USER '{USER}'@'%' IDENTIFIED BY '{PASSWORD}'; GRANT {RIGHTS} ON *.* TO '{USER}'@'%'",
                None,
            )
            self.make_database("vm_ha")
        except BaseException:
            self._clean()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clean()

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def start(self) -> None:
        """Start, and wait until it answers. Raises RuntimeError with the end of its log when it doesn't."""
        assert self._process is None, "the server is running"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [_program("mariadbd"), "--no-defaults", *self._arguments()], stdout=log, stderr=log
            )
        until(self._answers, START_WITHIN_S, lambda: f"mariadbd doesn't start:\n{self._end_of_log()}")

    def stop(self) -> None:
        """Stop in order, as a restart by an operator does."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill -9: only what was committed survives."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Let it hang: it keeps its connections and answers nothing, until thaw()."""
        os.kill(self.pid, signal.SIGSTOP)
        # The signal reaches a thread of a busy machine some time after kill() returned.
        until(self._stands_still, STOP_WITHIN_S, lambda: "mariadbd doesn't stand still")

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def settings(self, **changes: Any) -> Db:
        """The settings to reach it by TCP; time-outs are short."""
        known: dict[str, Any] = {
            "drivername": "mysql",
            "host": "127.0.0.1",
            "port": self.port,
            "name": "vm_ha",
            "user": USER,
            "passwd": PASSWORD,
            "lock_retry_max_cnt": 5,
            "innodb_lock_wait_timeout": 2,
            "connect_timeout_s": 3,
            "read_timeout_s": 10,
        }
        return Db(**{**known, **changes})

    def make_database(self, name: str) -> None:
        """An empty database of this name, whatever was in it."""
        self.sql(f"DROP DATABASE IF EXISTS `{name}`; CREATE DATABASE `{name}`", None)

    def make_tables(self) -> None:
        """The tables of vm_ha as a new installation gets them, empty, whatever was there. Takes 0.1 s."""
        self.sql("DROP DATABASE IF EXISTS vm_ha", None)
        made = self.run_script(TABLES)
        if made.returncode:
            raise RuntimeError(f"{TABLES} failed:\n{made.stderr}")

    def connect(self, database: str | None = "vm_ha") -> Any:
        """A plain connection as root, for what a test does behind the program's back."""
        return pymysql.connect(
            unix_socket=str(self.socket),
            user="root",
            database=database,
            charset="utf8mb4",
            autocommit=True,
            cursorclass=pymysql.cursors.DictCursor,
            client_flag=pymysql.constants.CLIENT.MULTI_STATEMENTS,
            ssl_disabled=True,
        )

    def sql(self, text: str, database: str | None = "vm_ha") -> list[dict[str, Any]]:
        """Run statements as root; the rows of the first one."""
        connection = self.connect(database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(text)
                rows = list(cursor.fetchall())
                while cursor.nextset():
                    pass
                return rows
        finally:
            connection.close()

    def run_script(self, script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`mysql < script` as root, as an operator does it."""
        with script.open("rb") as text:
            return subprocess.run(
                [_program("mariadb"), "--no-defaults", f"--socket={self.socket}", "-u", "root", *arguments],
                stdin=text,
                capture_output=True,
                encoding="utf-8",
                timeout=300,
            )

    def _arguments(self) -> Sequence[str]:
        # A server that starts clears its temporary tables away, those of a neighbour in /tmp as well.
        paths = {"datadir": self.data, "socket": self.socket, "pid-file": self._short / "pid", "tmpdir": self._short}
        plain = {"port": self.port, "bind-address": "127.0.0.1", **paths, **self._options}
        return [*_USER, *(f"--{name}={value}" for name, value in plain.items())]

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            self._process = None
            raise RuntimeError(f"mariadbd ended by itself:\n{self._end_of_log()}")
        try:
            self.connect(None).close()
            return True
        except pymysql.MySQLError:
            return False

    def _stands_still(self) -> bool:
        try:
            stats = [path.read_text() for path in Path(f"/proc/{self.pid}/task").glob("*/stat")]
        except FileNotFoundError:  # a thread ended meanwhile
            return False
        return all(stat.rpartition(") ")[2].startswith("T") for stat in stats)

    def _end_of_log(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")[-3000:]

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(how)
        try:
            self._process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _clean(self) -> None:
        self.kill()
        shutil.rmtree(self._short, ignore_errors=True)
        shutil.rmtree(self.data, ignore_errors=True)


def until(reached: Callable[[], bool], within_s: float, message: Callable[[], str]) -> None:
    """Wait until something is reached, for a limited time. Raises RuntimeError with the message after it."""
    deadline = time.monotonic() + within_s
    while not reached():
        if time.monotonic() > deadline:
            raise RuntimeError(message())
        time.sleep(0.02)


def _program(name: str) -> str:
    """Path of a program; server programs are not on everybody's path."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/libexec") or ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


_template: Path | None = None


def _copy_of_fresh_data(target: Path) -> None:
    """Fresh system tables: made once per process (about 2 s), then copied."""
    global _template
    if _template is None:
        folder = Path(tempfile.mkdtemp(prefix="mdb-template-", dir="/tmp"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        made = subprocess.run(
            [
                _program("mariadb-install-db"),
                "--no-defaults",
                f"--datadir={folder / 'data'}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                f"--tmpdir={folder}",
                "--innodb-log-file-size=32M",
                *_USER,
            ],
            capture_output=True,
            encoding="utf-8",
            timeout=120,
        )
        if made.returncode:
            raise RuntimeError(f"mariadb-install-db failed:\n{made.stdout}{made.stderr}")
        _template = folder / "data"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(_template, target)
