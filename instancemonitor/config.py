"""The settings of the instancemonitor: everything instancemonitor.conf may say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from instancemonitor.model import DEFAULT_KINDS, KINDS
from masakari.common.config import (
    ABSOLUTE_PATH,
    Integer,
    Number,
    Section,
    Text,
    Words,
    YesNo,
    option,
)
from masakari.common.ini import Ini
from masakari.common.monitor_config import (
    Default,
    Monitor,
    MonitorSettings,
    identify,
    state_dir_option,
    urls_option,
)
from masakari.common.openstack_conf import API, Api, is_theirs, read, with_defaults
from masakari.common.sender import Delivery

DEFAULT_PATH = "/etc/instancemonitor/instancemonitor.conf"
STATE_DIR = "/var/lib/masakari/instancemonitor"


@dataclass(frozen=True)
class Callback(Monitor):
    """Where failures are reported to, and how patiently."""

    obsolete: ClassVar[Mapping[str, str]] = {"log_facility": "the log goes to the journal, or to log_file"}

    url: tuple[str, ...] = urls_option()
    regionID: str = option("", Text(), "Region of this cloud, sent along with each report.", since="2015")
    retry: int = option(
        12,
        Integer(1, 100000),
        "Tries after which a report that is still undelivered is an error in the log; it is kept.",
        aliases=("retry_max",),
        since="2015",
    )
    interval: float = option(
        10,
        Number(0.1, 3600),
        "Longest pause between two tries, in seconds.",
        aliases=("retry_interval",),
        since="2015",
    )
    retry_timeout: float = option(10, Number(0.1, 600), "Seconds that a try may take.", since="2015")
    state_dir: str = state_dir_option(STATE_DIR)


@dataclass(frozen=True)
class Libvirt(Section):
    """The libvirt daemon of this host."""

    connection_uri: str = option(
        "qemu:///system", Text(r"\S+", "a libvirt URI"), "Its address; an address on the command line goes before it."
    )
    all_domains: bool = option(False, YesNo(), "Report domains that were not made by Nova as well.")
    log_dir: str = option(
        "/var/log/libvirt/qemu",
        ABSOLUTE_PATH,
        "Where libvirt keeps the logs of the domains. They tell how a guest ended while nobody was looking.",
    )


@dataclass(frozen=True)
class Events(Section):
    """What is reported."""

    report: tuple[str, ...] = option(
        DEFAULT_KINDS,
        Words(KINDS),
        "Kinds of events to report. The controller acts on process_crash, guest_crash and "
        "watchdog_poweroff, and keeps the others on record.",
    )


SECTIONS: dict[str, type[Section]] = {"callback": Callback, "libvirt": Libvirt, "events": Events, "DEFAULT": Default}
OTHERS = {"host": "", "process": ""}


@dataclass(frozen=True)
class Settings(MonitorSettings):
    """All settings of the instancemonitor."""

    callback: Callback = field(default_factory=Callback)
    libvirt: Libvirt = field(default_factory=Libvirt)
    events: Events = field(default_factory=Events)

    @property
    def monitor(self) -> Monitor:
        """[callback]: what every monitor has."""
        return self.callback

    def with_monitor(self, monitor: Monitor) -> Settings:
        """The same settings with another main section."""
        assert isinstance(monitor, Callback)
        return replace(self, callback=monitor)

    @property
    def region_id(self) -> str:
        """The region sent along with each report."""
        return self.callback.regionID or self.region_of_api

    @property
    def delivery(self) -> Delivery:
        """How reports are delivered."""
        callback = self.callback
        return Delivery(
            callback.url,
            callback.retry_timeout,
            callback.interval,
            callback.retry,
            callback.retry * (callback.interval + callback.retry_timeout),
            callback.ca_bundle,
        )


def load(path: str) -> tuple[Settings, list[str]]:
    """Read and check a file; the settings and what is worth a warning. ConfigError with everything that is wrong."""
    reading, api = read(Ini(path, loose=is_theirs), "callback", SECTIONS, OTHERS)
    callback, libvirt, events, default = (reading.sections[name] for name in SECTIONS)
    assert isinstance(callback, Callback) and isinstance(libvirt, Libvirt)
    assert isinstance(events, Events) and isinstance(default, Default)
    identity = identify(reading, "callback", callback, signed=api is None)
    reading.finish()
    api = api and with_defaults(api, callback.regionID, callback.ca_bundle)
    return Settings(default.debug, identity, callback, libvirt, events, api=api), reading.warnings


def render_docs() -> str:
    """The tables of docs/instancemonitor.md."""
    from masakari.common.config_docs import render_options

    return render_options({**SECTIONS, API: Api})


def render_sample() -> str:
    """etc/instancemonitor/instancemonitor.conf."""
    from masakari.common.config_docs import render_sample

    own = {name: kind for name, kind in SECTIONS.items() if name != "DEFAULT"}
    head = (
        "Settings of masakari-instancemonitor. Every option is here; those commented out show their default. What stands in "
        "<...> must be filled in. After a change: masakari-instancemonitor --check-config, then systemctl reload "
        "masakari-instancemonitor. More: docs/instancemonitor.md."
    )
    return render_sample(head, own, {"url": "<http://controller:15868>", "regionID": "RegionOne"})
