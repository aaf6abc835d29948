"""MariaDB and MySQL for masakari.database; Galera included. MySQL itself is untested."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import pymysql
from pymysql.constants import CLIENT, FIELD_TYPE
from pymysql.converters import conversions

from masakari.common.errors import ConfigError, InUse, Unavailable
from masakari.config import Db
from masakari.database import AGAIN, AWAY, SCHEMA_VERSION
from masakari.queries import sql_folder

LOCK_SILENCE_S = 60  # the server ends a controller's lock when nothing was heard of it for this long

# Deadlock, lock wait, Galera conflict or node not ready, statement stopped: the same transaction may
# succeed now.
_BUSY = {1020, 1047, 1180, 1205, 1213, 1317, 1969, 3024}
# The connection is gone, or the server is just going: the next try opens another one.
_LOST = {0, 2006, 2013, 2014, 2055}  # said by PyMySQL
_LOST |= {1053, 1077, 1078, 1079, 1152, 1153, 1158, 1159, 1160, 1161, 1184, 1927, 3169, 4031}  # by the server
# The server doesn't let this user in, or has no such database.
_REFUSED = {1044, 1045, 1049, 1130, 1698}
# Not reachable, too many connections, out of disk or memory, read-only: only time or an operator helps.
_AWAY = {1040, 1129, 1203, 1226, 2002, 2003, 2005, 2026}
_AWAY |= {1021, 1026, 1030, 1037, 1038, 1041, 1114, 1290, 1792, 1836}
_DUPLICATE, _NO_SUCH_TABLE, _NOT_SUPPORTED = 1062, 1146, 1235

# UTC keeps NOW_S() right when local clocks are put back. The collation and || make text compare and join as
# on SQLite.
_SESSION = (
    "SET NAMES utf8mb4 COLLATE utf8mb4_bin",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET SESSION time_zone = '+00:00',"
    " sql_mode = 'STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION,PIPES_AS_CONCAT',"
    " innodb_lock_wait_timeout = %(wait_s)s, lock_wait_timeout = %(wait_s)s",
)


def _number(text: str) -> int | float:
    return float(text) if "." in text else int(text)


_AS_TEXT = {FIELD_TYPE.DATE, FIELD_TYPE.DATETIME, FIELD_TYPE.TIMESTAMP, FIELD_TYPE.TIME}
_CONVERSIONS = {kind: convert for kind, convert in conversions.items() if kind not in _AS_TEXT}
_CONVERSIONS |= {FIELD_TYPE.DECIMAL: _number, FIELD_TYPE.NEWDECIMAL: _number}


class Mysql:
    """A database on a MariaDB or MySQL server. Opening doesn't connect: the server may be away."""

    dialect = "mysql"
    errors: type[Exception] = pymysql.MySQLError
    integrity_error: type[Exception] = pymysql.IntegrityError

    def __init__(self, settings: Db) -> None:
        self._settings = settings
        place = settings.unix_socket or f"{settings.host}:{settings.port}"
        self.where = f"database {settings.name} on {place}"

    def connect(self) -> MysqlLink:
        """Open a connection."""
        return MysqlLink(self._settings)

    def verdict(self, error: Exception) -> str | None:
        """See Backend. An error without a number: PyMySQL lost track of the conversation."""
        code = _code(error)
        if code is None or code in _BUSY or code in _LOST:
            return AGAIN
        return AWAY if code in _AWAY or code in _REFUSED else None

    def duplicate_key(self, error: Exception) -> str | None:
        """The name of the index: ours are named like their column."""
        if _code(error) != _DUPLICATE:
            return None
        found = re.search(r"for key '(?:.*\.)?(.+)'", str(error.args[1]))
        return found[1] if found else "unknown"

    def check_version(self) -> None:
        """See Database.check_version."""
        try:
            version = self._version()
        except pymysql.MySQLError as error:
            if _code(error) in _REFUSED:
                raise ConfigError([f"[db] {self.where} refuses us: {error}. {self._advice()}"]) from error
            raise Unavailable(f"{self.where}: {error}") from error
        if version < SCHEMA_VERSION:
            found = f"have version {version}" if version else "are missing, or of 2015"
            raise ConfigError([f"[db] {self.where}: its tables {found}. {self._advice()}"])
        if version > SCHEMA_VERSION:
            raise ConfigError([
                f"[db] {self.where} is of a newer Masakari: its tables have version {version}, "
                f"this release knows {SCHEMA_VERSION}"
            ])  # fmt: skip

    def controller_lock(self, name: str) -> ServerLock:
        """See Database.controller_lock."""
        try:
            return ServerLock(self.connect(), name, self.where)
        except pymysql.MySQLError as error:
            if _code(error) == _NOT_SUPPORTED:
                raise ConfigError([
                    f"[db] {self.where}: this release of the server refuses GET_LOCK in a cluster; "
                    "MariaDB 10.6.14, 10.11.4 and later allow it"
                ]) from error  # fmt: skip
            raise Unavailable(f"{self.where}: {error}") from error

    def _version(self) -> int:
        """The version of the tables; 0 when there are none, or those of 2015."""
        link = self.connect()
        try:
            link.cursor.execute("SELECT MAX(version) FROM schema_version")
            return link.cursor.fetchone()[0] or 0
        except pymysql.ProgrammingError as error:
            if _code(error) == _NO_SUCH_TABLE:
                return 0
            raise
        finally:
            link.close()

    def _advice(self) -> str:
        settings = self._settings
        server = f"-h {settings.host} -P {settings.port}"
        if settings.unix_socket:
            server = f"--socket={settings.unix_socket}"
        script = sql_folder() / "create_vmha_database.sql"
        return f"To make or upgrade the tables: masakari-db create, or upgrade; by hand: mysql {server} -u root -p < {script}"


class MysqlLink:
    """One thread's connection to the server. A transaction begins by itself with the first statement."""

    def __init__(self, settings: Db) -> None:
        local = bool(settings.unix_socket) or settings.host in ("localhost", "127.0.0.1", "::1")
        self._connection: Any = pymysql.connect(
            host=settings.host,
            port=settings.port,
            unix_socket=settings.unix_socket or None,
            user=settings.user,
            password=settings.passwd.encode("utf-8"),
            database=settings.name,
            charset="utf8mb4",
            conv=_CONVERSIONS,
            # Without it an UPDATE that changes nothing says 0 rows, and a guard would take that for a lost
            # lease.
            client_flag=CLIENT.FOUND_ROWS,
            autocommit=False,
            connect_timeout=settings.connect_timeout_s,
            read_timeout=settings.read_timeout_s,
            write_timeout=settings.read_timeout_s,
            # Newer PyMySQL tries TLS by itself. Within one machine that only costs memory and time.
            ssl_disabled=local,
        )
        try:
            self.cursor: Any = self._connection.cursor()
            for statement in _SESSION:
                self.cursor.execute(statement, {"wait_s": settings.innodb_lock_wait_timeout})
            self.cursor.execute("SHOW SESSION VARIABLES LIKE 'wsrep_on'")
            row = self.cursor.fetchone()
            self._galera = row is not None and row[1].upper() == "ON"
            self._causal = False
        except BaseException:
            self.close()
            raise

    def begin(self, write: bool, causal: bool) -> None:
        """Choose whether reads wait for what other Galera nodes have committed."""
        if self._galera and causal != self._causal:
            self.cursor.execute("SET SESSION wsrep_sync_wait = %(wait)s", {"wait": int(causal)})
            self._causal = causal

    def commit(self) -> None:
        """Commit."""
        self._connection.commit()

    def rollback(self) -> None:
        """Undo."""
        self._connection.rollback()

    def close(self) -> None:
        """Hang up; what is not committed is undone by the server."""
        if self._connection.open:
            self._connection.close()


class ServerLock:
    """GET_LOCK on a connection of its own; the server ends both after LOCK_SILENCE_S without a word."""

    def __init__(self, link: MysqlLink, name: str, where: str) -> None:
        self._link = link
        # The server takes 64 characters at most.
        word = name if len(name) <= 48 else hashlib.sha256(name.encode()).hexdigest()[:48]
        self._params = {"lock": f"masakari:{word}", "silence_s": LOCK_SILENCE_S}
        try:
            link.cursor.execute("SET SESSION wait_timeout = %(silence_s)s", self._params)
            if self._ask("SELECT GET_LOCK(%(lock)s, 0)") != 1:
                raise InUse([
                    f"another controller named {name} is connected to {where} from {self._holder()}: "
                    "stop it, or give this one another name"
                ])  # fmt: skip
        except BaseException:
            link.close()
            raise

    def held(self) -> bool:
        """Ask the server, which also keeps the connection alive."""
        try:
            return self._ask("SELECT IS_USED_LOCK(%(lock)s) = CONNECTION_ID()") == 1
        except pymysql.MySQLError:
            self._link.close()
            return False

    def release(self) -> None:
        """Hang up, which frees the lock."""
        self._link.close()

    def _holder(self) -> str:
        host = self._ask("SELECT HOST FROM information_schema.PROCESSLIST WHERE ID = IS_USED_LOCK(%(lock)s)")
        return host or "an unknown place"

    def _ask(self, statement: str) -> Any:
        self._link.cursor.execute(statement, self._params)
        row = self._link.cursor.fetchone()
        self._link.rollback()
        return row[0] if row else None


def _code(error: Exception) -> int | None:
    code = error.args[0] if error.args else None
    return code if isinstance(code, int) else None
