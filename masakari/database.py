"""Transactions on MariaDB/MySQL and on SQLite. Only this module and the two it opens know that there are two.

`Database.transaction(func)` runs func(tx) and commits. It runs func AGAIN, from its start, after a
deadlock, a lock time-out or a lost connection, so func must have no effects besides SQL. A connection that
breaks during COMMIT leaves open whether the commit happened, and func is run again then, too. That is right
only for functions that are guarded: a repeat after a commit must match nothing, meet a UNIQUE key, or write
the same values again. So guard by something that the function itself changes, insert under a key, and set
values rather than add to them.

What comes out is the same on both: times are Unix seconds (float), DATETIME columns are text in UTC,
decimals are int or float.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from masakari.common.clock import Clock
from masakari.common.errors import MasakariError, MaybeSent, Unavailable
from masakari.config import Db
from masakari.queries import Statement, load_queries, sql_folder

T = TypeVar("T")

SCHEMA_VERSION = 3  # what this code needs; the SQL scripts write it into schema_version
AGAIN, AWAY = "again", "away"  # verdicts on an error of a driver

FIRST_PAUSE_S = 0.02  # before the first rerun; doubled for each further one
LONGEST_PAUSE_S = 0.5


class Duplicate(MasakariError):
    """A UNIQUE key refused a row. The transaction goes on; only this statement did nothing.

    `key` is the column. For a primary key MariaDB says PRIMARY, and SQLite names its columns.
    """

    def __init__(self, key: str) -> None:
        super().__init__(f"a row with the same {key} exists")
        self.key = key


class ControllerLock(Protocol):
    """The right to be the controller of one name."""

    def held(self) -> bool:
        """Whether it is still ours. False is final: take a new one."""
        ...

    def release(self) -> None:
        """Give it back."""
        ...


class Link(Protocol):
    """One thread's connection; its methods and its cursor raise the driver's errors."""

    cursor: Any

    def begin(self, write: bool, causal: bool) -> None:
        """Start a transaction; see Database.transaction and read."""
        ...

    def commit(self) -> None:
        """Make what was done last."""
        ...

    def rollback(self) -> None:
        """Undo what was done. Raises an error of the driver when the connection is broken."""
        ...

    def close(self) -> None:
        """Give the connection up, broken or not; raises nothing."""
        ...


class Backend(Protocol):
    """One kind of database: how to connect, and what its errors mean."""

    dialect: str
    where: str  # for messages: "database vm_ha on 10.0.0.1:3306"
    errors: type[Exception]
    integrity_error: type[Exception]

    def connect(self) -> Link:
        """Open a connection. Raises an error of the driver."""
        ...

    def verdict(self, error: Exception) -> str | None:
        """AGAIN: the same transaction may succeed at once. AWAY: it may later. None: it never will."""
        ...

    def duplicate_key(self, error: Exception) -> str | None:
        """The UNIQUE key that refused the row; None when the error is another one."""
        ...

    def check_version(self) -> None:
        """See Database.check_version."""
        ...

    def controller_lock(self, name: str) -> ControllerLock:
        """See Database.controller_lock."""
        ...


class Tx:
    """A running transaction: named statements and their parameters. Of no use once the function returned."""

    __slots__ = ("_backend", "_cursor", "_statements")

    def __init__(self, cursor: Any, backend: Backend, statements: Mapping[str, Statement]) -> None:
        self._cursor = cursor
        self._backend = backend
        self._statements = statements

    def execute(self, name: str, /, **params: Any) -> int:
        """Run a statement; the number of rows it matched (an UPDATE counts rows it leaves as they were, too).

        Raises Duplicate when a UNIQUE key refuses a row.
        """
        return self._run(name, params).rowcount

    def execute_many(self, name: str, rows: Sequence[Mapping[str, Any]]) -> int:
        """Run a statement for each of the rows; the number of rows matched in all, 0 for no rows.

        An INSERT whose VALUES hold nothing but parameters travels to MariaDB as one statement. Lists (`IN
        :ids`) are not for here. Raises Duplicate; which rows are in by then is undefined, so let it end the
        transaction.
        """
        if not rows:
            return 0
        try:
            self._cursor.executemany(self._statements[name].sql, rows)
        except self._backend.integrity_error as error:
            raise self._refused(error) from error
        return self._cursor.rowcount

    def insert(self, name: str, /, **params: Any) -> int:
        """Run an INSERT of one row; its new id. Raises Duplicate."""
        return self._run(name, params).lastrowid

    def one(self, name: str, /, **params: Any) -> dict[str, Any] | None:
        """The first row a query finds, or None."""
        rows = self.all(name, **params)
        return rows[0] if rows else None

    def all(self, name: str, /, **params: Any) -> list[dict[str, Any]]:
        """Every row a query finds."""
        cursor = self._run(name, params)
        columns = [column[0] for column in cursor.description]
        return [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]

    def _run(self, name: str, params: Mapping[str, Any]) -> Any:
        sql, bound = self._statements[name].bind(params)
        try:
            self._cursor.execute(sql, bound)
        except self._backend.integrity_error as error:
            raise self._refused(error) from error
        return self._cursor

    def _refused(self, error: Exception) -> Exception:
        key = self._backend.duplicate_key(error)
        return Duplicate(key) if key else error


class _CommitLost(Exception):
    """The connection broke during COMMIT: the transaction may have been committed."""


class Database:
    """Transactions on one database; for any number of threads, each with a connection of its own."""

    def __init__(
        self,
        backend: Backend,
        statements: Mapping[str, Statement],
        clock: Clock,
        reruns: int,
        rerun_within_s: float,
        around: Callable[[str], None] | None = None,
    ) -> None:
        self.dialect = backend.dialect
        self._backend = backend
        self._statements = statements
        self._clock = clock
        self._reruns = reruns
        self._rerun_within_s = rerun_within_s
        self._around = around or (lambda moment: None)
        self._local = threading.local()
        # Weak: the connection of a thread that ended is closed with it.
        self._links: weakref.WeakSet[Link] = weakref.WeakSet()
        self._links_lock = threading.Lock()

    def transaction(self, func: Callable[[Tx], T], *, causal: bool = False) -> T:
        """Run func in a transaction, commit, and return what it returned.

        func may be run several times (see the top of this module). When it raises, everything it did is
        undone and its exception goes to the caller. causal=True makes a Galera node show what the others
        have committed. Raises Unavailable when the database can't be reached, is full or read-only, or
        stays locked: nothing was changed. Raises MaybeSent (an Unavailable) when a commit was never
        answered and no rerun succeeded.
        """
        return self._run(func, write=True, causal=causal)

    def read(self, func: Callable[[Tx], T], *, causal: bool = False) -> T:
        """Like transaction(), for functions that only read: it never waits for a writer of SQLite."""
        return self._run(func, write=False, causal=causal)

    def check_version(self) -> None:
        """Make sure that the tables are those this code needs.

        Raises ConfigError with the command to run when they aren't, or when the server refuses the user;
        Unavailable when the database is away.
        """
        self._backend.check_version()

    def controller_lock(self, name: str) -> ControllerLock:
        """Take the right to be the controller of this name; it ends with this process, however that ends.

        SQLite: the lock is on the file, whatever the name, so there is one controller; take it after
        forking, since a daemon that closes its files loses it. MariaDB: call held() every 20 s or more
        often, or it ends after 60 s of silence; on Galera it holds among the controllers that use the same
        node. Raises InUse, saying who has it, when it is taken; Unavailable when the database is
        away.
        """
        return self._backend.controller_lock(name)

    def close(self) -> None:
        """Close the connections of all threads. No transaction may be running; a later one connects anew."""
        with self._links_lock:
            for link in list(self._links):
                link.close()
            self._links.clear()
        self._local = threading.local()

    def _run(self, func: Callable[[Tx], T], write: bool, causal: bool) -> T:
        self._around("begin")
        result = self._until_done(func, write, causal)
        self._around("committed")
        return result

    def _until_done(self, func: Callable[[Tx], T], write: bool, causal: bool) -> T:
        maybe_committed = False
        rerun = 0
        last_rerun_at = self._clock.monotonic() + self._rerun_within_s
        while True:
            try:
                return self._attempt(func, write, causal)
            except _CommitLost as error:
                failure: Exception = error
                maybe_committed = True
                verdict: str | None = AGAIN
            except self._backend.errors as error:
                failure = error
                verdict = self._backend.verdict(error)
            if verdict is None:
                raise failure
            if verdict == AWAY or rerun == self._reruns or self._clock.monotonic() > last_rerun_at:
                raise self._unavailable(failure, maybe_committed) from failure
            self._clock.sleep(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**rerun))
            rerun += 1

    def _attempt(self, func: Callable[[Tx], T], write: bool, causal: bool) -> T:
        link = self._link()
        committing = False
        try:
            link.begin(write, causal)
            result = func(Tx(link.cursor, self._backend, self._statements))
            committing = True
            link.commit()
            return result
        except BaseException as error:
            intact = self._undo(link)
            if committing and not intact and isinstance(error, self._backend.errors):
                raise _CommitLost(str(error)) from error
            raise

    def _link(self) -> Link:
        link = getattr(self._local, "link", None)
        if link is None:
            link = self._local.link = self._backend.connect()
            with self._links_lock:
                self._links.add(link)
        return link

    def _undo(self, link: Link) -> bool:
        """Roll back; True when the connection is still good. A broken one is given up for a new one."""
        try:
            link.rollback()
            return True
        except self._backend.errors:
            self._local.link = None
            link.close()
            return False

    def _unavailable(self, error: Exception, maybe_committed: bool) -> Unavailable:
        if maybe_committed:
            return MaybeSent(f"{self._backend.where}: the last change may or may not be stored: {error}")
        return Unavailable(f"{self._backend.where}: {error}")


def open_database(
    settings: Db,
    clock: Clock,
    *,
    around: Callable[[str], None] | None = None,
    queries: Path | None = None,
) -> Database:
    """The database the settings name. A SQLite file is made or upgraded now; a server is not contacted yet.

    `around` is called with "begin" before each transaction and "committed" after it. `queries` replaces
    sql/queries.sql. Raises ConfigError when the file can't be made or is newer than this code, Unavailable
    when it stays locked.
    """
    statements = load_queries(queries or sql_folder() / "queries.sql", settings.drivername)
    # Whoever waited once for an answer that never came shall not wait for many.
    patience_s = settings.read_timeout_s
    return Database(_backend(settings, clock), statements, clock, settings.lock_retry_max_cnt, patience_s, around)


def _backend(settings: Db, clock: Clock) -> Backend:
    # Imported here, so that a controller on SQLite doesn't carry the driver of the other, nor the other way
    # round.
    if settings.drivername == "sqlite":
        from masakari.database_sqlite import Sqlite

        return Sqlite(settings, clock)
    from masakari.database_mysql import Mysql

    return Mysql(settings)
