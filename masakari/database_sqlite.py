"""SQLite for masakari.database: one file, one controller, the operator scripts beside it."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import weakref
from pathlib import Path

from masakari.common.clock import Clock
from masakari.common.errors import ConfigError, InUse, Unavailable
from masakari.config import Db
from masakari.database import AGAIN, AWAY, SCHEMA_VERSION
from masakari.queries import sql_folder

# By their text: Python 3.10 doesn't tell the codes.
_AWAY_SIGNS = (
    "disk I/O error",
    "database or disk is full",
    "unable to open database file",
    "readonly database",
)
_UNIQUE = "UNIQUE constraint failed: "


class Sqlite:
    """A SQLite file. Opening makes the file (0600), its folder (0750) and the tables."""

    dialect = "sqlite"
    errors: type[Exception] = sqlite3.Error
    integrity_error: type[Exception] = sqlite3.IntegrityError

    def __init__(self, settings: Db, clock: Clock) -> None:
        self.path = Path(settings.name).absolute()
        self.where = f"database {self.path}"
        self._clock = clock
        self._wait_s = settings.innodb_lock_wait_timeout
        # SQLite lets waiting writers poll. Among our own threads a lock hands over at once.
        self._writer = threading.Lock()
        try:
            self._make_file()
            self._make_tables()
        except OSError as error:
            raise ConfigError([f"[db] name: {self.path} can't be made: {error.strerror}"]) from error
        except sqlite3.Error as error:
            if self.verdict(error) == AGAIN:
                raise Unavailable(f"{self.where}: {error}") from error
            raise ConfigError([f"[db] name: {self.path} can't be used: {error}"]) from error

    def connect(self) -> SqliteLink:
        """Open a connection."""
        return SqliteLink(self.path, self._clock, self._writer, self._wait_s)

    def verdict(self, error: Exception) -> str | None:
        """See Backend."""
        if not isinstance(error, sqlite3.OperationalError):
            return None
        if "locked" in str(error):
            return AGAIN
        return AWAY if any(sign in str(error) for sign in _AWAY_SIGNS) else None

    def duplicate_key(self, error: Exception) -> str | None:
        """The column, or the columns of a key with several."""
        if not str(error).startswith(_UNIQUE):
            return None
        columns = str(error).removeprefix(_UNIQUE).split(", ")
        return ", ".join(column.rpartition(".")[2] for column in columns)

    def check_version(self) -> None:
        """Nothing to do: opening brought the tables up to date."""

    def controller_lock(self, name: str) -> FileLock:
        """See Database.controller_lock."""
        return FileLock(self.path)

    def _make_file(self) -> None:
        # SQLite gives its journals the mode of the file.
        self.path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))

    def _make_tables(self) -> None:
        link = self.connect()
        try:
            version = _schema_version(link)
            if version > SCHEMA_VERSION:
                raise ConfigError([
                    f"[db] name: {self.path} is of a newer Masakari: its tables have version {version}, "
                    f"this release knows {SCHEMA_VERSION}"
                ])  # fmt: skip
            if version < SCHEMA_VERSION:
                self._upgrade(link, version)
        finally:
            link.close()

    def _upgrade(self, link: SqliteLink, version: int) -> None:
        """Make the tables, or change those of an earlier version: all in one transaction."""
        steps = [f"upgrade_sqlite_{n}.sql" for n in range(version + 1, SCHEMA_VERSION + 1) if version]
        scripts = [(sql_folder() / name).read_text(encoding="utf-8") for name in (*steps, "schema_sqlite.sql")]
        try:
            link.cursor.executescript("BEGIN IMMEDIATE;\n" + "\n".join(scripts) + "\nCOMMIT;")
        except sqlite3.OperationalError:
            link.rollback()
            # An operator's script and a controller may start at the same time: then one of them finds it done.
            if _schema_version(link) != SCHEMA_VERSION:
                raise


class SqliteLink:
    """One thread's connection to the file."""

    def __init__(self, path: Path, clock: Clock, writer: threading.Lock, wait_s: float) -> None:
        self._writer = writer
        self._writing = False
        self._wait_s = wait_s
        # Closed by another thread at the end of the program; otherwise it stays within its own.
        self._connection = sqlite3.connect(
            path, timeout=wait_s, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        # Its statement cache refers back to it, so without this it would stay open when its thread has ended.
        weakref.finalize(self, self._connection.close)
        # Deterministic is meant within one statement: SQLite calls it once then, and not for each row.
        self._connection.create_function("NOW_S", 0, clock.now, deterministic=True)
        self.cursor = self._connection.cursor()
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = OFF"):
            self.cursor.execute(f"PRAGMA {pragma}").fetchall()

    def begin(self, write: bool, causal: bool) -> None:
        """Start a transaction; a writer waits for its turn first."""
        if not write:
            self.cursor.execute("BEGIN")
            return
        if not self._writer.acquire(timeout=self._wait_s):
            raise sqlite3.OperationalError("database is locked by another thread")
        self._writing = True
        self.cursor.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Commit, on disk when this returns."""
        self.cursor.execute("COMMIT")
        self._leave()

    def rollback(self) -> None:
        """Undo, unless SQLite has done so by itself."""
        if self._connection.in_transaction:
            self.cursor.execute("ROLLBACK")
        self._leave()

    def close(self) -> None:
        """Close; what is not committed is undone."""
        self._connection.close()
        self._leave()

    def _leave(self) -> None:
        if self._writing:
            self._writing = False
            self._writer.release()


class FileLock:
    """An flock on <file>.lock, which holds the pid of its owner."""

    def __init__(self, database: Path) -> None:
        self._file = os.open(f"{database}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = os.read(self._file, 32).decode("ascii", "replace").strip() or "unknown"
            self.release()
            raise InUse([
                f"[db] name: the controller with pid {pid} works on {database}, and only one can: "
                "stop it first, or use drivername = mysql to run several"
            ]) from error  # fmt: skip
        os.ftruncate(self._file, 0)
        os.write(self._file, f"{os.getpid()}\n".encode("ascii"))

    def held(self) -> bool:
        """True until it is released: nobody can take it away."""
        return self._file >= 0

    def release(self) -> None:
        """Let the next one in. The file stays, since others may be waiting at it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _schema_version(link: SqliteLink) -> int:
    """The version of the tables; 0 for an empty file."""
    try:
        row = link.cursor.execute("SELECT MAX(version) FROM schema_version").fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return 0
        raise
    return row[0] or 0
