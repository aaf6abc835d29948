"""The settings of the controller: everything masakari.conf may say."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from masakari import config_checks, config_openstack
from masakari.common.config import (
    ABSOLUTE_PATH,
    HTTP_URL,
    LOG_LEVEL,
    Choice,
    Integer,
    Number,
    Reading,
    Section,
    Text,
    Words,
    YesNo,
    option,
)
from masakari.common.keys import Key, load_keys
from masakari.config_failure import HostFailure, InstanceFailure, ProcessFailure
from masakari.config_instance_ha import InstanceHa

DEFAULT_PATH = "/etc/masakari/masakari.conf"
DEFAULT_SQLITE_FILE = "/var/lib/masakari/controller/masakari.sqlite"

DRIVER = Choice(("mysql", "sqlite"), {"mysql+pymysql": "mysql", "mysql+mysqldb": "mysql", "mariadb": "mysql"})
CHARSET = Choice(("utf8mb4",), {"utf8": "utf8mb4", "utf8mb3": "utf8mb4"})


def _derive(section: Section, **values: str) -> None:
    """Fill in what is empty. Only for use while the section is being made."""
    for name, value in values.items():
        if not getattr(section, name):
            object.__setattr__(section, name, value)


@dataclass(frozen=True)
class Wsgi(Section):
    """Where callbacks of the monitors are received."""

    server_host: str = option("0.0.0.0", Text(r"\S+", "an address"), "Address to listen on.")
    server_port: int = option(15868, Integer(0, 65535), "Port to listen on; 0 takes a free one.", since="2015")
    threads: int = option(
        72, Integer(1, 512), "Callbacks handled at the same time; those waiting together share a commit."
    )
    max_connections: int = option(500, Integer(1, 10000), "Open connections at most; further ones wait to be accepted.")
    request_timeout_s: int = option(
        30, Integer(1, 3600), "A connection on which nothing moves for this many seconds is closed."
    )


@dataclass(frozen=True)
class Db(Section):
    """The database. MariaDB or MySQL in production; SQLite, embedded, for one controller."""

    drivername: str = option(
        "",
        DRIVER,
        "Kind of database.",
        default_text="`mysql` if `host`, `user` or `unix_socket` is set, else `sqlite`",
    )
    host: str = option(
        "", Text(r"\S+", "a host or address"), "Database server.", default_text="`127.0.0.1`", since="2015"
    )
    port: int = option(3306, Integer(1, 65535), "Port of the database server.")
    unix_socket: str = option("", ABSOLUTE_PATH, "Socket of a local database server, instead of host and port.")
    name: str = option(
        "",
        Text(),
        "Name of the database; for sqlite its file.",
        default_text=f"`vm_ha`, for sqlite `{DEFAULT_SQLITE_FILE}`",
        since="2015",
    )
    user: str = option("", Text(), "Database user.", since="2015")
    passwd: str = option("", Text(), "Password of the database user.", secret=True, since="2015")
    charset: str = option(
        "utf8mb4", CHARSET, "Character set of the connection; the utf8 of older files is read as utf8mb4.", since="2015"
    )
    lock_retry_max_cnt: int = option(
        5,
        Integer(0, 100),
        "How often a transaction is repeated after a deadlock, a lock time-out or a lost connection.",
    )
    innodb_lock_wait_timeout: int = option(10, Integer(1, 300), "Seconds that a statement waits for a lock.")
    connect_timeout_s: int = option(5, Integer(1, 300), "Seconds to wait for a connection.")
    read_timeout_s: int = option(30, Integer(1, 3600), "Seconds to wait for an answer of the database.")

    def __post_init__(self) -> None:
        super().__post_init__()
        server = self.host or self.user or self.unix_socket
        _derive(self, drivername="mysql" if server else "sqlite")
        if self.drivername == "mysql":
            _derive(self, name="vm_ha", host="127.0.0.1")
        else:
            _derive(self, name=DEFAULT_SQLITE_FILE)


@dataclass(frozen=True)
class Log(Section):
    """What is logged, and where to. `--debug` overrides the level."""

    obsolete: ClassVar[Mapping[str, str]] = {
        "log_format": "every record is one line of a fixed form",
        "format": "every record is one line of a fixed form",
    }

    log_level: str = option("info", LOG_LEVEL, "Least severe messages that are logged.", since="2015")
    log_file: str = option(
        "",
        ABSOLUTE_PATH,
        "File to log to; it may be moved away at any time and is made anew.",
        default_text="standard error, which is the journal under systemd",
    )


@dataclass(frozen=True)
class RecoverStarter(Section):
    """How recoveries run, and how patient they are. Durations are seconds."""

    recovery_method: str = option(
        "reserved_host",
        Choice(("reserved_host", "auto", "rh_priority", "auto_priority")),
        "Where instances of a failed host go: to a reserved host, wherever Nova's scheduler chooses (auto), "
        "or to one of these and, when it can't take them, to the other. The database may set it per cluster.",
    )
    node_err_wait: float = option(
        180,
        Number(0, 86400),
        "How long Nova must report a failed host down, without a break, before that counts as proof. Used "
        "only with [safety] without_proof = wait_for_nova; with proof nothing waits.",
        since="2015",
    )
    notification_time_difference: float = option(
        240,
        Number(0, 86400),
        "A host report that brings no new evidence, so soon after the last recovery of that host, opens no new one.",
        since="2015",
    )
    interval_to_be_retry: float = option(
        300, Number(1, 86400), "Period in which restarts of an instance count.", since="2015"
    )
    max_retry_cnt: int = option(
        3,
        Integer(1, 1000),
        "Restarts of an instance within interval_to_be_retry; what fails more often is given up as failed.",
        since="2015",
    )
    semaphore_multiplicity: int = option(64, Integer(1, 10000), "Evacuations in flight per recovery.", since="2015")
    max_evacuations_total: int = option(256, Integer(1, 100000), "Evacuations in flight over all recoveries.")
    evacuation_timeout_s: float = option(
        900,
        Number(10, 86400),
        "An evacuation that Nova hasn't ended after this time counts as failed; it isn't sent again.",
    )
    recovery_max_retry_cnt: int = option(
        6,
        Integer(0, 1000),
        "How often an evacuation that ended in error is tried again, after looking at what Nova says.",
        since="2015",
    )
    recovery_retry_interval: float = option(
        10, Number(0, 3600), "Pause before an evacuation is tried again.", since="2015"
    )
    api_max_retry_cnt: int = option(
        3,
        Integer(0, 100),
        "How often a question to Nova or Keystone is repeated after a connection error or an answer of 500 or more.",
        since="2015",
    )
    api_retry_interval: float = option(
        10,
        Number(0, 600),
        "Longest pause before such a repeat; the first pauses are fractions of a second.",
        since="2015",
    )
    api_check_interval: float = option(
        1,
        Number(0.01, 60),
        "Longest pause between two looks at an action of an instance; the first looks follow faster.",
        since="2015",
    )
    api_check_max_cnt: int = option(
        30,
        Integer(1, 100000),
        "api_check_max_cnt times api_check_interval is the time that a stop or start of an instance may take "
        "before it counts as failed.",
        since="2015",
    )
    notification_expiration_sec: float = option(
        0,
        Number(0, 31536000),
        "A recovery not begun this long after its report was accepted is given up as expired; 0: never. A "
        "held one never expires.",
    )
    workers: int = option(32, Integer(1, 1000), "Recoveries that this controller works on at the same time.")
    lease_s: float = option(
        60,
        Number(1, 3600),
        "How long a recovery stays with a controller that gives no sign of life; then another one takes it "
        f"over. At least [nova] 3 * read_timeout_s + connect_timeout_s + {config_checks.LEASE_MARGIN_S}.",
    )


@dataclass(frozen=True)
class Nova(Section):
    """How to reach Keystone and Nova: with a user and password, or with an application credential."""

    auth_url: str = option("", HTTP_URL, "Address of Keystone, with or without /v3.", required=True, since="2015")
    domain: str = option("Default", Text(), "Domain of the user and of the project, by name.", since="2015")
    admin_user: str = option(
        "",
        Text(),
        "User that may act on every instance (role admin).",
        default_text="**required**, unless an application credential is used",
        since="2015",
    )
    admin_password: str = option(
        "", Text(), "Password of the user.", secret=True, default_text="as admin_user", since="2015"
    )
    project_name: str = option(
        "", Text(), "Project that the user signs in to.", default_text="as admin_user", since="2015"
    )
    user_domain_name: str = option("", Text(), "Domain of the user, by name.", default_text="as `domain`")
    user_domain_id: str = option("", Text(), "Domain of the user, by id; goes before the name.")
    project_domain_name: str = option("", Text(), "Domain of the project.", default_text="as `domain`")
    project_domain_id: str = option("", Text(), "Domain of the project, by id; goes before the name.")
    application_credential_id: str = option(
        "", Text(), "Application credential, instead of user, password and project."
    )
    application_credential_secret: str = option("", Text(), "Secret of that credential.", secret=True)
    region: str = option(
        "", Text(), "Region of Nova in the catalogue.", default_text="needed if the catalogue has several"
    )
    interface: str = option("public", Choice(("public", "internal", "admin")), "Endpoint of Nova in the catalogue.")
    ca_bundle: str = option(
        "", ABSOLUTE_PATH, "Certificates of the authorities to trust.", default_text="those of the system"
    )
    connect_timeout_s: float = option(3, Number(0.1, 300), "Seconds to wait for a connection.")
    read_timeout_s: float = option(10, Number(0.1, 300), "Seconds to wait for an answer.")
    rebuild_local_disks: bool = option(
        False,
        YesNo(),
        "Evacuate instances with a local root disk as well. Unless that disk is on shared storage, Nova "
        "builds it anew from its image: **all its data is lost**.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _derive(self, user_domain_name=self.domain, project_domain_name=self.domain)


@dataclass(frozen=True)
class VmhaDataManage(Section):
    """What `vmha_data_manage.py --mode delete` removes."""

    period: int = option(
        30, Integer(1, 36500), "Days that finished recoveries and their reports are kept.", since="2015"
    )


@dataclass(frozen=True)
class Auth(Section):
    """Which callbacks are believed."""

    callbacks: str = option(
        "signed",
        Choice(("signed", "hold", "open")),
        "signed: only those signed with a key of keys_file. hold: unsigned ones are stored, and acted on "
        "once an operator releases them (for the move from monitors of 2015). open: everybody who reaches "
        "the port is believed.",
    )
    keys_file: str = option(
        "/etc/masakari/keys.conf",
        ABSOLUTE_PATH,
        "Keys of the hosts, mode 0600: a section per key id, with host, cluster_port and secret. Two keys "
        "per host at most.",
    )


@dataclass(frozen=True)
class Safety(Section):
    """What must be certain before anything is done. Durations are seconds."""

    mode: str = option(
        "act",
        Choice(("act", "observe")),
        "observe: every decision is written to the journal, and nothing is changed in Nova.",
    )
    without_proof: str = option(
        "hold",
        Choice(("hold", "wait_for_nova")),
        "When nothing proves that a failed host is off. hold: wait for proof or an operator's word. "
        "wait_for_nova: evacuate once Nova has reported the host down for node_err_wait. A host that only "
        "lost its network still runs its instances: **they may then run twice**.",
    )
    detail_2_is_proof: tuple[str, ...] = option(
        (),
        Words(),
        "Clusters (cluster_port) whose 2015 hostmonitors check the power by IPMI before they report detail "
        "2, so that such a report proves that the host is off.",
    )
    min_observers: int = option(
        1,
        Integer(1, 100),
        "So many different nodes must report a host down before anything is done: with less, nova-compute is not disabled and "
        "nothing is evacuated. All monitors that don't say who they are count as one. An operator's `attest` is enough.",
    )
    clock_tolerance_s: float = option(
        15, Number(0, 300), "How far the clocks of hosts, Nova and controller may be apart."
    )
    proof_valid_s: float = option(
        600,
        Number(10, 86400),
        "A proof older than this, when the first evacuation is about to be sent, counts no more.",
    )
    nova_probe_s: float = option(
        0.5,
        Number(0.1, 60),
        "A host that answers a question through Nova within this time is alive, whatever the proof says.",
    )
    action_settle_s: float = option(
        15,
        Number(1, 600),
        "How long a request without a clear answer is given to show its effect before it is sent again. At "
        "least [nova] connect_timeout_s + read_timeout_s.",
    )
    max_failed_hosts: int = option(
        0,
        Integer(0, 100000),
        "More hosts of a cluster than this failing within failure_window_s are held until an operator releases them.",
        default_text="`0`, which means half of the hosts known, and at least 2",
    )
    failure_window_s: float = option(600, Number(1, 86400), "Period for max_failed_hosts.")
    hold_proven: bool = option(False, YesNo(), "Hold them even if each is proven to be off.")


@dataclass(frozen=True)
class Return(Section):
    """How a repaired host gets back into service."""

    mode: str = option(
        "command",
        Choice(("command", "auto")),
        "command: when an operator says so (`recovery_manage.py return`). auto: by itself, return_after_s "
        "after it was reported up.",
    )
    return_after_s: float = option(300, Number(0, 86400), "How long a host must have been up before that.")


@dataclass(frozen=True)
class Notify(Section):
    """A command that is told when a recovery is held, failed or finished."""

    command: str = option(
        "",
        ABSOLUTE_PATH,
        "Program and arguments, not run by a shell; it gets JSON on standard input.",
        default_text="nobody is told",
    )
    timeout_s: float = option(30, Number(1, 3600), "Seconds that the command may take; then it is killed.")
    repeat_s: float = option(
        3600, Number(60, 604800), "Seconds after which the command is told again of what is still held."
    )


@dataclass(frozen=True)
class Controller(Section):
    """Who this controller is, among those that share a database."""

    name: str = option(
        "",
        Text(r"[A-Za-z0-9._:-]{1,255}", "1 to 255 letters, digits, '.', '_', ':' or '-'"),
        "Its name. Started again under the same name it takes over its own work at once.",
        default_text="`<host name>:<server_port>`",
    )


@dataclass(frozen=True)
class Settings:
    """Everything masakari.conf says. Attributes are named like the sections; [return] is return_."""

    wsgi: Wsgi = field(default_factory=Wsgi)
    db: Db = field(default_factory=Db)
    log: Log = field(default_factory=Log)
    recover_starter: RecoverStarter = field(default_factory=RecoverStarter)
    host_failure: HostFailure = field(default_factory=HostFailure)
    instance_failure: InstanceFailure = field(default_factory=InstanceFailure)
    process_failure: ProcessFailure = field(default_factory=ProcessFailure)
    nova: Nova = field(default_factory=Nova)
    vmha_data_manage: VmhaDataManage = field(default_factory=VmhaDataManage)
    auth: Auth = field(default_factory=Auth)
    safety: Safety = field(default_factory=Safety)
    return_: Return = field(default_factory=Return)
    notify: Notify = field(default_factory=Notify)
    controller: Controller = field(default_factory=Controller)
    instance_ha: InstanceHa = field(default_factory=InstanceHa)

    def __post_init__(self) -> None:
        _derive(self.controller, name=f"{os.uname().nodename}:{self.wsgi.server_port}")

    def secrets(self) -> list[str]:
        """Every password and secret of the file, to be kept out of logs."""
        return [secret for part in fields(self) for secret in getattr(self, part.name).secrets()]


SECTIONS: dict[str, type[Section]] = {name.rstrip("_"): type(part) for name, part in vars(Settings()).items()}


def load(path: str) -> tuple[Settings, list[str]]:
    """The settings in a file, and warnings for the operator: what has no effect, and what is dangerous.

    ConfigError with every problem of the file, and of the keys file it names.
    """
    given = config_openstack.translated(path)
    given.ini.problems += given.problems
    reading = Reading(given.ini, SECTIONS, given.others)
    reading.warnings += given.warnings
    parts: dict[str, Any] = {part.name: reading.sections[part.name.rstrip("_")] for part in fields(Settings)}
    settings = Settings(**parts)
    config_checks.check(settings, reading)
    reading.finish()
    return settings, reading.warnings


def read_keys(settings: Settings) -> dict[str, Key]:
    """The keys that sign callbacks. Errors as of load_keys.

    Empty when there is no keys file; whether that may be has been said by load().
    """
    path = settings.auth.keys_file
    return load_keys(path) if os.path.exists(path) else {}
