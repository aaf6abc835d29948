"""What the online checks ask of the database itself: version, rights, and the clock of each node. Port; changes nothing."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import pymysql

from masakari.common.clock import Clock
from masakari.common.errors import ConfigError, Unavailable
from masakari.config import Db
from masakari.database import SCHEMA_VERSION
from masakari.database_mysql import Mysql, MysqlLink

# Refused without the right, and otherwise without effect, since nothing is ever 1 and 0 at once.
_TRIALS = (
    "SELECT 1 FROM schema_version, notification_list, vm_list, reserve_list, recovery, recovery_event, host_evidence,"
    " known_host, host_disable, failover_segment, segment_host, controller WHERE 1 = 0",
    "UPDATE notification_list, vm_list, reserve_list, recovery, recovery_event, host_evidence, known_host, host_disable,"
    " failover_segment, segment_host, controller SET notification_list.id = notification_list.id, vm_list.id = vm_list.id,"
    " reserve_list.id = reserve_list.id, recovery.id = recovery.id, recovery_event.id = recovery_event.id,"
    " host_evidence.id = host_evidence.id, known_host.hostname = known_host.hostname,"
    " host_disable.hostname = host_disable.hostname,"
    " failover_segment.cluster_port = failover_segment.cluster_port, segment_host.id = segment_host.id,"
    " controller.name = controller.name WHERE 1 = 0",
    "DELETE notification_list, vm_list, reserve_list, recovery, recovery_event, host_evidence, known_host, host_disable,"
    " failover_segment, segment_host, controller"
    " FROM notification_list, vm_list, reserve_list, recovery, recovery_event, host_evidence,"
    " known_host, host_disable, failover_segment, segment_host, controller WHERE 1 = 0",
    "INSERT INTO notification_list SELECT * FROM notification_list WHERE 1 = 0",
    "INSERT INTO vm_list SELECT * FROM vm_list WHERE 1 = 0",
    "INSERT INTO reserve_list SELECT * FROM reserve_list WHERE 1 = 0",
    "INSERT INTO recovery SELECT * FROM recovery WHERE 1 = 0",
    "INSERT INTO recovery_event SELECT * FROM recovery_event WHERE 1 = 0",
    "INSERT INTO host_evidence SELECT * FROM host_evidence WHERE 1 = 0",
    "INSERT INTO known_host SELECT * FROM known_host WHERE 1 = 0",
    "INSERT INTO host_disable SELECT * FROM host_disable WHERE 1 = 0",
    "INSERT INTO failover_segment SELECT * FROM failover_segment WHERE 1 = 0",
    "INSERT INTO segment_host SELECT * FROM segment_host WHERE 1 = 0",
    "INSERT INTO controller SELECT * FROM controller WHERE 1 = 0",
)


@dataclass(frozen=True, slots=True)
class NodeClock:
    """A node of the database. ahead_s: of this host's clock; None when it can't be told, and why."""

    node: str
    ahead_s: float | None
    why: str = ""


def check_version(settings: Db) -> None:
    """Whether the tables are those that this release needs; unlike opening the database this makes and upgrades nothing.

    Raises ConfigError with what to do, Unavailable when the database is away.
    """
    if settings.drivername == "mysql":
        Mysql(settings).check_version()
        return
    path = Path(settings.name)
    if not path.exists():
        raise ConfigError([f"there is no database {path}: the controller makes it when it starts first"])
    try:
        # Read-only: SQLite would make an empty file of a wrong name.
        link = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)
        try:
            version = link.execute("SELECT MAX(version) FROM schema_version").fetchone()[0] or 0
        finally:
            link.close()
    except sqlite3.Error as error:
        raise Unavailable(f"database {path}: {error}") from error
    if version != SCHEMA_VERSION:
        raise ConfigError(
            [
                f"the tables of {path} have version {version}, this release needs {SCHEMA_VERSION}: masakari-manage db sync"
            ]
        )


def missing_rights(settings: Db) -> list[str]:
    """What the server says to statements of each kind on each table that would change nothing. Raises Unavailable."""
    refused = []
    link = _connect(settings)
    try:
        for trial in _TRIALS:
            try:
                link.cursor.execute(trial)
            except pymysql.OperationalError as error:
                refused.append(_words(error))
            link.rollback()
    except pymysql.MySQLError as error:
        raise Unavailable(_words(error)) from error
    finally:
        link.close()
    return refused


def nodes(settings: Db) -> list[tuple[str, int]]:
    """The nodes of the Galera cluster as far as it tells their addresses; none without one. Raises Unavailable."""
    link = _connect(settings)
    try:
        link.cursor.execute("SHOW STATUS LIKE 'wsrep_incoming_addresses'")
        row = link.cursor.fetchone()
    except pymysql.MySQLError as error:
        raise Unavailable(_words(error)) from error
    finally:
        link.close()
    return incoming(row[1] if row else "", settings.port)


def node_clock(settings: Db, clock: Clock, node: tuple[str, int] | None = None) -> NodeClock:
    """The clock of a node; None: of the server that the settings name."""
    if node is not None:
        settings = replace(settings, host=node[0], port=node[1], unix_socket="")
    name = settings.unix_socket or f"{settings.host}:{settings.port}"
    try:
        link = MysqlLink(settings)
        try:
            began = clock.now()
            link.cursor.execute("SELECT UNIX_TIMESTAMP(NOW(6))")
            told = float(link.cursor.fetchone()[0])
            return NodeClock(name, told - (began + clock.now()) / 2)
        finally:
            link.close()
    except pymysql.MySQLError as error:
        return NodeClock(name, None, _words(error))


def incoming(addresses: str, default_port: int) -> list[tuple[str, int]]:
    """The nodes that wsrep_incoming_addresses names (pure); those that keep to themselves are left out."""
    found = []
    for word in addresses.split(","):
        host, _, port = word.strip().rpartition(":")
        if not host or not port.isdigit():
            host, port = word.strip(), ""
        if host and host not in ("AUTO", "0.0.0.0"):
            found.append((host.strip("[]"), int(port) if port and port != "0" else default_port))
    return found


def _connect(settings: Db) -> MysqlLink:
    try:
        return MysqlLink(settings)
    except pymysql.MySQLError as error:
        raise Unavailable(_words(error)) from error


def _words(error: Exception) -> str:
    """What the server said, without its number."""
    return str(error.args[-1]) if error.args else type(error).__name__
