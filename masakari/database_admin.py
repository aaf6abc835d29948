"""A database server as its administrator sees it: making the database, its tables and the controller's account. Port.

The only code that needs more than SELECT, INSERT, UPDATE and DELETE. No password is in an error that it raises.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pymysql
from pymysql.constants import ER

from masakari.common.errors import MasakariError, Unavailable
from masakari.config import Db
from masakari.database_mysql import MysqlLink
from masakari.database_setup import GRANT_OPTION, HERE, Login, Right, Tables, by_place, grant_on, missing, name

WAITS_FOR_TABLE_S = 30
_NO_ENTRY = {ER.ACCESS_DENIED_ERROR, 1130, 1698}
_NOT_ALLOWED = {ER.DBACCESS_DENIED_ERROR, 1142, 1227, 1410}
_DONE_ALREADY = "DO 0"

# A right on columns counts as one on their table: the controller has no use for either.
_RIGHTS = (
    "SELECT PRIVILEGE_TYPE, '', '', IS_GRANTABLE FROM information_schema.USER_PRIVILEGES"
    " WHERE GRANTEE = %(grantee)s AND PRIVILEGE_TYPE <> 'USAGE'",
    "SELECT PRIVILEGE_TYPE, TABLE_SCHEMA, '', IS_GRANTABLE FROM information_schema.SCHEMA_PRIVILEGES"
    " WHERE GRANTEE = %(grantee)s",
    "SELECT PRIVILEGE_TYPE, TABLE_SCHEMA, TABLE_NAME, IS_GRANTABLE FROM information_schema.TABLE_PRIVILEGES"
    " WHERE GRANTEE = %(grantee)s",
    "SELECT DISTINCT PRIVILEGE_TYPE, TABLE_SCHEMA, TABLE_NAME, IS_GRANTABLE FROM information_schema.COLUMN_PRIVILEGES"
    " WHERE GRANTEE = %(grantee)s",
)


class NoEntry(MasakariError):
    """The server doesn't let this account in; says whom it refused."""


class Refused(MasakariError):
    """The server refused a statement. What was done before it stays done."""

    def __init__(self, message: str, *, not_allowed: bool = False) -> None:
        super().__init__(message)
        self.not_allowed = not_allowed


class Admin:
    """A connection of the administrator. Each statement is committed as it ends."""

    def __init__(self, login: Login, connect_timeout_s: int) -> None:
        """Connect. Raises NoEntry, Unavailable."""
        self.login = login
        try:
            # No time limit on answers: changing a large table takes as long as it takes.
            self._connection: Any = pymysql.connect(
                host=login.host or "localhost",
                port=login.port,
                unix_socket=login.socket or None,
                user=login.user,
                password=login.password.encode("utf-8"),
                charset="utf8mb4",
                autocommit=True,
                connect_timeout=connect_timeout_s,
                ssl_disabled=bool(login.socket),
            )
        except pymysql.MySQLError as error:
            if _code(error) in _NO_ENTRY:
                raise NoEntry(_words(error)) from error
            raise Unavailable(f"the server on {login.where} can't be reached: {_words(error)}") from error
        self._cursor = self._connection.cursor()
        self._run("SET SESSION lock_wait_timeout = %(wait_s)s", {"wait_s": WAITS_FOR_TABLE_S})

    def close(self) -> None:
        """Hang up."""
        if self._connection.open:
            self._connection.close()

    def port(self) -> int:
        """The port that the server listens on."""
        return int(self._all("SELECT @@port")[0][0])

    def user(self) -> str:
        """Whom the server takes us for: NAME@HOST."""
        return str(self._all("SELECT CURRENT_USER()")[0][0])

    def tables(self, database: str) -> Tables | None:
        """What the database has; None when there is no such database."""
        at = {"database": database}
        if not self._all("SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = %(database)s", at):
            return None
        found = self._all("SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = %(database)s", at)
        names = frozenset(row[0] for row in found)
        version = 0
        if "schema_version" in names:
            self._run(f"USE {name(database)}")
            version = self._all("SELECT MAX(version) FROM schema_version")[0][0] or 0
        return Tables(names, version)

    def rows(self, database: str) -> dict[str, int]:
        """How many rows the tables of 2015 have, which every version has."""
        self._run(f"USE {name(database)}")
        counts = (
            "SELECT (SELECT COUNT(*) FROM notification_list), (SELECT COUNT(*) FROM vm_list),"
            " (SELECT COUNT(*) FROM reserve_list)"
        )
        return dict(zip(("notification_list", "vm_list", "reserve_list"), self._all(counts)[0], strict=True))

    def connected(self, user: str, database: str) -> list[str]:
        """Where this user is connected to the database from, each once."""
        query = (
            "SELECT HOST FROM information_schema.PROCESSLIST"
            " WHERE USER = %(user)s AND DB = %(database)s AND ID <> CONNECTION_ID()"
        )
        found = self._all(query, {"user": user, "database": database})
        return sorted({str(host).rpartition(":")[0] or str(host) for (host,) in found})

    def run_script(self, statements: Iterable[str]) -> Iterator[tuple[str, int | None]]:
        """Run statements; yields each before it runs, with None, and after it, with the number of rows it changed.

        EXECUTE is told as the statement that it executes; one that has nothing to do isn't told. Raises Refused.
        """
        for statement in statements:
            told = statement
            if statement.startswith("EXECUTE"):
                told = " ".join(str(self._all("SELECT @todo")[0][0]).split())
                if told == _DONE_ALREADY:
                    continue
            yield told, None
            yield told, self._run(statement)

    def has_account(self, user: str, host: str) -> bool:
        """Whether the account USER@HOST exists."""
        query = "SELECT 1 FROM information_schema.USER_PRIVILEGES WHERE GRANTEE = %(grantee)s"
        return bool(self._all(query, {"grantee": _grantee(user, host)}))

    def make_account(self, user: str, host: str, password: str) -> None:
        """Make the account, without any right."""
        account = {"user": user, "host": host, "password": password}
        self._run("CREATE USER %(user)s@%(host)s IDENTIFIED BY %(password)s", account)

    def set_password(self, user: str, host: str, password: str) -> None:
        """Give an account this password."""
        account = {"user": user, "host": host, "password": password}
        self._run("ALTER USER %(user)s@%(host)s IDENTIFIED BY %(password)s", account)

    def rights(self, user: str, host: str) -> list[Right]:
        """Everything that was granted to the account itself."""
        return _rights(self._all, user, host)

    def grant(self, user: str, host: str, rights: list[Right], database: str) -> list[str]:
        """Grant what the account lacks of RIGHTS; what that was. rights: those it has."""
        lacking = missing(rights, database)
        if lacking:
            # Names, not values: they are ours, or quoted.
            on = grant_on(rights, database).replace("%", "%%")
            self._run(f"GRANT {', '.join(lacking)} ON {on} TO %(user)s@%(host)s", {"user": user, "host": host})
        return lacking

    def revoke(self, user: str, host: str, rights: Iterable[Right]) -> None:
        """Take rights away from the account."""
        for whats, on in by_place(rights):
            assert re.fullmatch(r"[A-Z ,]+", whats), whats
            on = on.replace("%", "%%")
            self._run(f"REVOKE {whats} ON {on} FROM %(user)s@%(host)s", {"user": user, "host": host})

    def _all(self, query: str, params: Mapping[str, object] | None = None) -> list[tuple[Any, ...]]:
        self._run(query, params)
        return list(self._cursor.fetchall())

    def _run(self, statement: str, params: Mapping[str, object] | None = None) -> int:
        try:
            return int(self._cursor.execute(statement, params))
        except pymysql.MySQLError as error:
            if not self._connection.open or _code(error) in (2006, 2013):
                told = (
                    f"the server on {self.login.where} went away: {_words(error)}. What was done stays; run this again"
                )
                raise Unavailable(told) from error
            words = _words(error)
            password = str((params or {}).get("password", ""))
            if password:
                words = words.replace(password, "***")
            raise Refused(words, not_allowed=_code(error) in _NOT_ALLOWED) from error


def own_rights(settings: Db) -> tuple[str, list[Right], str]:
    """As the account of the settings: who it is for the server (NAME@HOST), what was granted to it, and its role or "".

    Raises Unavailable.
    """
    try:
        link = MysqlLink(settings)
    except pymysql.MySQLError as error:
        raise Unavailable(_words(error)) from error
    try:

        def ask(query: str, params: Mapping[str, object] | None = None) -> list[tuple[Any, ...]]:
            link.cursor.execute(query, params)
            return list(link.cursor.fetchall())

        account, role = ask("SELECT CURRENT_USER(), CURRENT_ROLE()")[0]
        user, _, host = account.rpartition("@")
        return account, _rights(ask, user, host), "" if role in (None, "NONE") else role
    except pymysql.MySQLError as error:
        raise Unavailable(_words(error)) from error
    finally:
        link.close()


def own_hosts(settings: Db) -> list[str]:
    """What the server may call this machine: its address on the way there. Raises Unavailable when nobody is there.

    On the same machine it may be localhost as well, always with a socket, and else if the server looks names up.
    """
    if settings.unix_socket:
        return ["localhost"]
    place = (settings.host, settings.port)
    try:
        with socket.create_connection(place, timeout=settings.connect_timeout_s) as way:
            own = str(way.getsockname()[0])
    except OSError as error:
        raise Unavailable(f"{settings.host}:{settings.port} can't be reached from here: {error}") from error
    return [own, "localhost"] if own in HERE else [own]


def _rights(ask: Any, user: str, host: str) -> list[Right]:
    found: dict[Right, None] = {}
    for query in _RIGHTS:
        for what, database, table, grantable in ask(query, {"grantee": _grantee(user, host)}):
            found[Right(what, database, table)] = None
            if grantable == "YES":
                found[Right(GRANT_OPTION, database, table)] = None
    return list(found)


def _grantee(user: str, host: str) -> str:
    return f"'{user}'@'{host}'"


def _code(error: Exception) -> object:
    return error.args[0] if error.args else None


def _words(error: Exception) -> str:
    """What the server said, without its number."""
    return str(error.args[-1]) if error.args else type(error).__name__
