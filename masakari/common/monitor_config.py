"""Settings that every monitor has: who this host is, what signs its reports, and where they wait until delivered."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, TypeVar

from masakari.common import node
from masakari.common.config import ABSOLUTE_PATH, LOG_LEVEL, Number, Reading, Section, Text, Urls, YesNo, option
from masakari.common.errors import ConfigError
from masakari.common.keys import Key, load_keys
from masakari.common.openstack_conf import NO_BUS, Api
from masakari.common.sender import Delivery

S = TypeVar("S", bound="MonitorSettings")

DEFAULT_KEY_FILE = "/etc/masakari/key.conf"

HOST_NAME = Text(r"[A-Za-z0-9._-]{1,255}", "a host name")

NO_ACCOUNT = "reports are signed with the key of this host; an account in Keystone is used from [api] alone"


def urls_option(aliases: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The option that says where the controllers are."""
    text = "Addresses of the controllers. When the first does not answer, the next one is asked at once."
    unless = "**required**, unless reports go by `[api]`"
    found: tuple[str, ...] = option((), Urls(), text, default_text=unless, aliases=aliases, since="2015")
    return found


def state_dir_option(default: str) -> str:
    """The option that says where a monitor keeps its files."""
    text = "Folder for what must survive a crash: reports that are not delivered yet, and what was seen last."
    found: str = option(default, ABSOLUTE_PATH, text)
    return found


@dataclass(frozen=True)
class Monitor(Section):
    """What every monitor has in its main section."""

    hostname: str = option(
        "",
        HOST_NAME,
        "This host as Nova calls it (column Host of `openstack compute service list`).",
        default_text="the host of the key; without a key what `hostname` prints",
    )
    key_file: str = option(
        "",
        ABSOLUTE_PATH,
        "Key of this host, mode 0600: one section of the controller's keys file. Without it reports are not signed.",
        default_text=f"`{DEFAULT_KEY_FILE}`, if there is one",
    )
    ca_bundle: str = option(
        "",
        ABSOLUTE_PATH,
        "Certificates of the authorities to trust, for a url that begins with https.",
        default_text="those of the system",
    )
    spool_max_mb: float = option(
        64, Number(0.01, 100000), "Undelivered reports take at most so much disk. An alarm comes at four fifths of it."
    )
    spool_max_age_h: float = option(
        168,
        Number(0.1, 100000),
        "Reports older than this are dropped, which is logged as an error. An alarm comes at four fifths of it.",
    )
    state_dir: str = state_dir_option("")
    log_level: str = option("info", LOG_LEVEL, "Least severe messages that are logged.", since="2015")
    log_file: str = option(
        "",
        ABSOLUTE_PATH,
        "File to log to; it may be moved away at any time and is made anew.",
        default_text="standard error, which is the journal under systemd",
    )


@dataclass(frozen=True)
class Default(Section):
    """Of masakarimonitors.conf."""

    obsolete: ClassVar[Mapping[str, str]] = {"transport_url": NO_BUS}

    debug: bool = option(False, YesNo(), "Log everything.")
    hostname: str = option(
        "", HOST_NAME, "This host as Nova calls it; its key and the monitor's own section go before."
    )
    host: str = option("", HOST_NAME, "The same; hostname goes before.")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this host is to the controller. key_id and secret are empty when reports are not signed."""

    hostname: str
    cluster_port: str
    key_id: str
    secret: str = field(repr=False)


@dataclass(frozen=True)
class MonitorSettings:
    """All settings of a monitor. Each has one main section, which is a Monitor.

    api: how to sign in, if reports go as notifications to OpenStack's instance-ha service; None: they go as callbacks.
    """

    debug: bool = False
    identity: Identity = field(default_factory=lambda: Identity("", "", "", ""))
    api: Api | None = field(default=None, kw_only=True)

    @property
    def monitor(self) -> Monitor:
        """The main section."""
        raise NotImplementedError

    def with_monitor(self: S, monitor: Monitor) -> S:
        """The same settings with another main section."""
        raise NotImplementedError

    @property
    def region_id(self) -> str:
        """The region sent along with each report."""
        raise NotImplementedError

    @property
    def region_of_api(self) -> str:
        """The region of the instance-ha service, for a report of a monitor whose own section names none."""
        return self.api.region if self.api else ""

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be logged."""
        return (self.identity.secret, *(self.api.secrets() if self.api else ()))

    @property
    def delivery(self) -> Delivery:
        """How reports are delivered."""
        raise NotImplementedError


def identify(reading: Reading, section: str, settings: Monitor, signed: bool = True) -> Identity:
    """Read the key of this host. Problems go to the reading, and what is worth a word to its warnings.

    signed: reports should be signed, so that it is worth a word if there is no key.
    """
    path = settings.key_file or DEFAULT_KEY_FILE
    if not settings.key_file and not os.path.exists(path):
        if signed:
            reading.warnings.append(
                f"there is no {path}: reports are not signed, and a controller with [auth] callbacks = signed refuses them"
            )
        default = reading.sections.get("DEFAULT")
        named = (default.hostname or default.host) if isinstance(default, Default) else ""
        return Identity(settings.hostname or named or node.hostname(), "", "", "")
    try:
        keys = load_keys(path)
    except ConfigError as error:
        for problem in error.problems:
            reading.problem_elsewhere(section, "key_file", problem)
        return Identity("", "", "", "")
    return _from_keys(reading, section, settings, path, keys)


def _from_keys(reading: Reading, section: str, settings: Monitor, path: str, keys: Mapping[str, Key]) -> Identity:
    hosts = sorted({key.host for key in keys.values()})
    if len(hosts) != 1:
        found = f"keys of {', '.join(hosts)}" if hosts else "no key"
        reading.problem(section, "key_file", f"{path} has {found}; a node has its own key alone")
        return Identity("", "", "", "")
    if settings.hostname and settings.hostname != hosts[0]:
        reading.problem(section, "hostname", f"the key in {path} is that of {hosts[0]}, not of {settings.hostname}")
    key_id, key = list(keys.items())[-1]  # while keys are exchanged, the newer one stands below
    return Identity(key.host, key.cluster_port, key_id, str(key.secret))
