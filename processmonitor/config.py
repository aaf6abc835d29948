"""The settings of the processmonitor: everything processmonitor.conf may say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

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
    NO_ACCOUNT,
    Default,
    Monitor,
    MonitorSettings,
    identify,
    state_dir_option,
    urls_option,
)
from masakari.common.openstack_conf import API, Api, is_theirs, read, with_defaults
from masakari.common.sender import Delivery

DEFAULT_PATH = "/etc/processmonitor/processmonitor.conf"
DEFAULT_LIST = "/etc/processmonitor/proc.list"
STATE_DIR = "/var/lib/masakari/processmonitor"
REPORT_ONLY = ("sshd", "masakari-", "instancemonitor", "hostmonitor", "processmonitor")


@dataclass(frozen=True)
class Process(Monitor):
    """What is watched, how often a process is restarted, and where its failure is reported to."""

    obsolete: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("DOMAIN", "PROJECT", "ADMIN_USER", "ADMIN_PASS", "AUTH_URL"), NO_ACCOUNT
    )

    resource_manager_url: tuple[str, ...] = urls_option(aliases=("url",))
    region_id: str = option(
        "", Text(), "Region of this cloud, sent along with each report.", aliases=("region",), since="2015"
    )
    process_list_path: str = option(
        DEFAULT_LIST,
        ABSOLUTE_PATH,
        "The processes to watch: proc.list with eight columns, or, if its name ends in .yaml or .yml, process_list.yaml.",
    )
    process_check_interval: float = option(
        5,
        Number(0.1, 3600),
        "Seconds between two looks for processes that are not running. The end of one that runs is noticed at once.",
        aliases=("check_interval",),
        since="2015",
    )
    process_reboot_retry: int = option(
        3,
        Integer(1, 1000),
        "How often a process is restarted before its failure is reported.",
        aliases=("restart_retries",),
        since="2015",
    )
    reboot_interval: float = option(
        5, Number(0, 3600), "Seconds between two restarts of a process.", aliases=("restart_interval",), since="2015"
    )
    command_timeout: float = option(
        120, Number(1, 3600), "Seconds that a start or restart command, or a hook, may take; then it is killed."
    )
    planned_stops: bool = option(
        True,
        YesNo(),
        "A process whose systemd unit was stopped in order is not restarted, and not reported.",
    )
    report_only: tuple[str, ...] = option(
        REPORT_ONLY,
        Words(),
        "Processes in whose name one of these words stands are reported with on_failure = report: nova-compute is not disabled "
        "because of them.",
    )
    resource_manager_send_timeout: float = option(
        10,
        Number(0.1, 600),
        "Seconds that a try to deliver a report may take.",
        aliases=("masakari_api_send_timeout",),
        since="2015",
    )
    resource_manager_send_retry: int = option(
        12,
        Integer(1, 100000),
        "Tries after which a report that is still undelivered is an error in the log; it is kept.",
        aliases=("masakari_api_send_retry", "api_retry_max"),
        since="2015",
    )
    resource_manager_send_delay: float = option(
        10,
        Number(0.1, 3600),
        "Longest pause between two tries, in seconds.",
        aliases=("masakari_api_send_delay", "api_retry_interval"),
        since="2015",
    )
    resource_manager_send_retry_timeout: float = option(
        120,
        Number(1, 86400),
        "Seconds after which a report that is still undelivered is an error in the log; it is kept.",
        since="2015",
    )
    state_dir: str = state_dir_option(STATE_DIR)


SECTIONS: dict[str, type[Section]] = {"process": Process, "DEFAULT": Default}
OTHERS = {"callback": "", "libvirt": "", "events": "", "host": ""}


@dataclass(frozen=True)
class Settings(MonitorSettings):
    """All settings of the processmonitor."""

    process: Process = field(default_factory=Process)

    @property
    def monitor(self) -> Monitor:
        """The process section: what every monitor has."""
        return self.process

    def with_monitor(self, monitor: Monitor) -> Settings:
        """The same settings with another main section."""
        assert isinstance(monitor, Process)
        return replace(self, process=monitor)

    @property
    def region_id(self) -> str:
        """The region sent along with each report."""
        return self.process.region_id or self.region_of_api

    @property
    def delivery(self) -> Delivery:
        """How reports are delivered."""
        process = self.process
        return Delivery(
            process.resource_manager_url,
            process.resource_manager_send_timeout,
            process.resource_manager_send_delay,
            process.resource_manager_send_retry,
            process.resource_manager_send_retry_timeout,
            process.ca_bundle,
        )


def load(path: str) -> tuple[Settings, list[str]]:
    """Read and check a file; the settings and what is worth a warning. ConfigError with everything that is wrong."""
    reading, api = read(Ini(path, shell_section="process", loose=is_theirs), "process", SECTIONS, OTHERS)
    process, default = reading.sections["process"], reading.sections["DEFAULT"]
    assert isinstance(process, Process) and isinstance(default, Default)
    identity = identify(reading, "process", process, signed=api is None)
    reading.finish()
    api = api and with_defaults(api, process.region_id, process.ca_bundle)
    return Settings(default.debug, identity, process, api=api), reading.warnings


def render_docs() -> str:
    """The tables of docs/processmonitor.md."""
    from masakari.common.config_docs import render_options

    return render_options({**SECTIONS, API: Api}, shell_section="process")


def render_sample() -> str:
    """etc/processmonitor/processmonitor.conf."""
    from masakari.common.config_docs import render_sample

    head = (
        "Settings of masakari-processmonitor, as lines a shell could read. Every option is here; those commented out show "
        "their default. What stands in <...> must be filled in. After a change: masakari-processmonitor --check-config; "
        "the running monitor notices by itself. More: docs/processmonitor.md."
    )
    fill_in = {"resource_manager_url": "<http://controller:15868>", "region_id": "RegionOne"}
    return render_sample(head, {"process": Process}, fill_in, as_shell=True)
