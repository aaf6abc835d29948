"""The settings of the hostmonitor: everything hostmonitor.conf may say, and the BMCs in the file that it names."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from hostmonitor.corosync import CONF
from hostmonitor.power import Rules
from hostmonitor.stonith import BMC_FILE, Declared, from_file
from masakari.common.config import (
    ABSOLUTE_PATH,
    Choice,
    Integer,
    Kind,
    Number,
    Reading,
    Section,
    Text,
    Words,
    YesNo,
    option,
)
from masakari.common.errors import ConfigError
from masakari.common.ini import Ini
from masakari.common.monitor_config import (
    DEFAULT_KEY_FILE,
    NO_ACCOUNT,
    Default,
    Identity,
    Monitor,
    MonitorSettings,
    identify,
    state_dir_option,
    urls_option,
)
from masakari.common.openstack_conf import API, Api, is_theirs, read, with_defaults
from masakari.common.sender import Delivery

DEFAULT_PATH = "/etc/hostmonitor/hostmonitor.conf"
STATE_DIR = "/var/lib/masakari/hostmonitor"
ALERT_PIPE = "/run/masakari/hostmonitor.alert"
MAIN = "environments"
ALSO_MAIN = "host"
"""What the main section is called in masakarimonitors.conf."""

BLIND = (
    "detail 2 is sent without evidence, as no BMC is asked: the controller holds such a failure until something else proves "
    "it, recovery_manage.py attest for instance; [safety] detail_2_is_proof is for monitors of 2015 alone"
)
FOUND_OUT = "it is found out from corosync and pacemaker"


@dataclass(frozen=True)
class Expression(Kind):
    """A regular expression."""

    def parse(self, raw: str) -> str:
        """The expression as it was written, once it is known to compile."""
        try:
            re.compile(raw)
        except (re.error, RecursionError, OverflowError):
            raise ValueError from None
        return raw

    def describe(self) -> str:
        """What is expected."""
        return "a regular expression"


@dataclass(frozen=True)
class Pairs(Words):
    """Words NODE=HOST. No node has two hosts, and no two nodes have the same, in whatever case."""

    def parse(self, raw: str) -> tuple[str, ...]:
        """The words. ValueError when one is no pair, or something is there twice."""
        words = super().parse(raw)
        if not all(re.fullmatch(r"[A-Za-z0-9._-]{1,255}=[A-Za-z0-9._-]{1,255}", word) for word in words):
            raise ValueError
        nodes, hosts = ({word.lower().split("=")[part] for word in words} for part in (0, 1))
        if not len(nodes) == len(hosts) == len(words):
            raise ValueError
        return words

    def describe(self) -> str:
        """What is expected."""
        return "words NODE=HOST separated by commas, every node and every host once"


@dataclass(frozen=True)
class Environments(Monitor):
    """How the cluster is watched, how a failed host is proven to be off, and where it is reported to."""

    obsolete: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("domain", "project", "admin_user", "admin_pass", "auth_url"), NO_ACCOUNT),
        "monitoring_driver": "pacemaker is all that is watched",
        **dict.fromkeys(
            ("corosync_multicast_interfaces", "corosync_multicast_ports", "pacemaker_node_type"), FOUND_OUT
        ),
    }

    url: tuple[str, ...] = urls_option(aliases=("rm_url", "resource_manager_url"))
    region_id: str = option(
        "", Text(), "Region of this cloud, sent along with each report.", aliases=("region", "regionid"), since="2015"
    )
    cluster_port: str = option(
        "",
        Text(r"\S{1,255}", "address:port, or another name without blanks"),
        "Failover segment of this cluster, the same on all its nodes, and what `reserve_host_manage.py --port` is given.",
        default_text="that of the key; without a key address:port of corosync's multicast, or its cluster_name",
    )
    monitor_interval: float = option(
        60,
        Number(0.1, 3600),
        "Seconds between two looks at the cluster. Pacemaker's alerts are acted on at once.",
        aliases=("monitoring_interval",),
        since="2015",
    )
    monitoring_samples: int = option(
        2,
        Integer(1, 100),
        "So many looks in a row, half a second apart, must agree before a host counts as failed. A successful fencing "
        "counts at once.",
    )
    restrict_to_remotes: bool = option(False, YesNo(), "Report nodes of pacemaker-remote alone, and no full members.")
    ignore_resource_group_name_pattern: str = option(
        "",
        Expression(),
        "Failures of resources are not mentioned if this is found in their name or in that of their group.",
    )
    nova_hosts: tuple[str, ...] = option(
        (),
        Pairs(),
        "What Nova calls a host that pacemaker calls otherwise: node1=compute1.example.org.",
        default_text="the names are the same, or the host has told the controller",
    )
    alert_pipe: str = option(
        ALERT_PIPE, ABSOLUTE_PATH, "Where pacemaker's alert agent says that something has happened."
    )
    ha_conf: str = option(
        CONF,
        ABSOLUTE_PATH,
        "Corosync's configuration, which names the failover segment if neither cluster_port nor a key does.",
    )
    stonith_wait: float = option(
        30,
        Number(0, 3600),
        "Seconds for which what this node sees counts for nothing, after its own heartbeat line was silent.",
        since="2015",
    )
    tcpdump_timeout: float = option(
        0,
        Number(0, 30),
        "Seconds within which a packet of another node must be heard on the heartbeat line before a failure is believed. "
        "0: not checked; in 2015 it always was. Needs tcpdump.",
        since="2015",
    )
    stonith_type: str = option(
        "ipmi",
        Choice(("ipmi", "ssh")),
        "ipmi: the power of a failed host is read from its BMC. ssh: as with disable_ipmi_check.",
        since="2015",
    )
    disable_ipmi_check: bool = option(
        False,
        YesNo(),
        "Report a failed host as detail 2 without asking its BMC, and so without evidence: the controller then holds it.",
    )
    bmc_file: str = option(
        BMC_FILE,
        ABSOLUTE_PATH,
        "BMCs that pacemaker's stonith resources don't tell, mode 0600: a section for each. They go before those.",
        default_text=f"`{BMC_FILE}`, if there is one",
    )
    ipmi_timeout: float = option(5, Number(0.1, 600), "Seconds that reading a BMC may take.", since="2015")
    ipmi_retry_max: int = option(
        3, Integer(0, 1000), "How often a BMC that does not say that the power is off is read again.", since="2015"
    )
    ipmi_retry_interval: float = option(10, Number(0, 3600), "Seconds before a BMC is read again.", since="2015")
    max_child_process: int = option(3, Integer(1, 100), "BMCs that are asked at the same time.", since="2015")
    notice_timeout: float = option(
        30, Number(0.1, 600), "Seconds that a try to deliver a report may take.", since="2015"
    )
    notice_retry_count: int = option(
        3,
        Integer(1, 100000),
        "Tries after which a report that is still undelivered is an error in the log; it is kept.",
        aliases=("api_retry_max",),
        since="2015",
    )
    notice_retry_interval: float = option(
        3,
        Number(0.1, 3600),
        "Longest pause between two tries, in seconds.",
        aliases=("api_retry_interval",),
        since="2015",
    )
    state_dir: str = state_dir_option(STATE_DIR)


SECTIONS: dict[str, type[Section]] = {MAIN: Environments, "DEFAULT": Default}
OTHERS = {"callback": "", "libvirt": "", "events": "", "process": "", ALSO_MAIN: ""}


@dataclass(frozen=True)
class Settings(MonitorSettings):
    """All settings of the hostmonitor. declared: the BMCs in bmc_file; bmc_secrets: their passwords."""

    environments: Environments = field(default_factory=Environments)
    declared: Declared = field(default_factory=Declared)
    bmc_secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def monitor(self) -> Monitor:
        """The main section: what every monitor has."""
        return self.environments

    def with_monitor(self, monitor: Monitor) -> Settings:
        """The same settings with another main section."""
        assert isinstance(monitor, Environments)
        return replace(self, environments=monitor)

    @property
    def region_id(self) -> str:
        """The region sent along with each report."""
        return self.environments.region_id or self.region_of_api

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be logged: the key's secret, and the passwords of BMCs."""
        return (*super().secrets, *self.bmc_secrets)

    @property
    def delivery(self) -> Delivery:
        """How reports are delivered."""
        main = self.environments
        return Delivery(
            main.url,
            main.notice_timeout,
            main.notice_retry_interval,
            main.notice_retry_count,
            main.notice_retry_count * (main.notice_retry_interval + main.notice_timeout),
            main.ca_bundle,
        )

    @property
    def rules(self) -> Rules:
        """How patiently BMCs are read."""
        main = self.environments
        return Rules(main.ipmi_timeout, main.ipmi_retry_max, main.ipmi_retry_interval)

    @property
    def believes_blindly(self) -> bool:
        """Whether a failed host is reported as detail 2 without asking its BMC."""
        return self.environments.disable_ipmi_check or self.environments.stonith_type == "ssh"

    @property
    def nova_hosts(self) -> dict[str, str]:
        """Nova's name of a host by pacemaker's, for those that the settings name."""
        return dict(word.split("=") for word in self.environments.nova_hosts)


def load(path: str) -> tuple[Settings, list[str]]:
    """Read and check a file, and the BMCs it names; the settings and what is worth a warning.

    ConfigError with everything that is wrong. The main section is [environments], or lines without a section, or [host].
    """
    ini = Ini(path, shell_section=MAIN, loose=is_theirs)
    name = _main_section(ini)
    reading, api = read(ini, name, {name: Environments, "DEFAULT": Default}, OTHERS)
    main, default = reading.sections[name], reading.sections["DEFAULT"]
    assert isinstance(main, Environments) and isinstance(default, Default)
    identity = identify(reading, name, main, signed=api is None)
    _check(reading, name, main, identity)
    declared, secrets = _declared(reading, name, main.bmc_file)
    reading.finish()
    api = api and with_defaults(api, main.region_id, main.ca_bundle)
    return Settings(default.debug, identity, main, declared, secrets, api=api), reading.warnings


def _main_section(ini: Ini) -> str:
    if ALSO_MAIN not in ini.section_lines:
        return MAIN
    if MAIN not in ini.sections:
        return ALSO_MAIN
    line = ini.section_lines[ALSO_MAIN]
    other = f"the section [{MAIN}]" if MAIN in ini.section_lines else "lines without a section"
    why = f"[{ALSO_MAIN}] and {other} are two places for the same settings; keep one of them"
    ini.problems.append((line, f"{ini.path}:{line}: {why}"))
    return MAIN


def _check(reading: Reading, section: str, main: Environments, identity: Identity) -> None:
    """What is wrong with options together, or with one that has no field; and what gives up safety."""
    driver = reading.ini.sections.get(section, {}).get("monitoring_driver")
    if driver and driver.value not in ("", "default"):
        reading.problem(section, "monitoring_driver", f"must be default, which watches pacemaker, not {driver.value!r}")
    if main.cluster_port and identity.cluster_port not in ("", main.cluster_port):
        told = f"the key in {main.key_file or DEFAULT_KEY_FILE} is for {identity.cluster_port}"
        reading.problem(
            section, "cluster_port", f"{told}, not for {main.cluster_port}; reports of another would be refused"
        )
    if main.disable_ipmi_check:
        reading.warn(section, "disable_ipmi_check", BLIND)
    elif main.stonith_type == "ssh":
        reading.warn(section, "stonith_type", BLIND)


def _declared(reading: Reading, section: str, path: str) -> tuple[Declared, tuple[str, ...]]:
    written = reading.ini.sections.get(section, {}).get("bmc_file")
    named = written is not None and written.value == path
    if not named and not os.path.exists(path):
        return Declared(), ()
    try:
        declared, secrets = from_file(path)
    except ConfigError as error:
        for problem in error.problems:
            reading.problem_elsewhere(section, "bmc_file", problem)
        return Declared(), ()
    return declared, tuple(secrets)


def render_docs() -> str:
    """The tables of docs/hostmonitor.md."""
    from masakari.common.config_docs import render_options

    return render_options({**SECTIONS, API: Api})


def render_sample() -> str:
    """etc/hostmonitor/hostmonitor.conf."""
    from masakari.common.config_docs import render_sample

    head = (
        "Settings of masakari-hostmonitor. Every option is here; those commented out show their default. What stands in "
        "<...> must be filled in. After a change: masakari-hostmonitor --check-config, then systemctl reload "
        "masakari-hostmonitor. More: docs/hostmonitor.md."
    )
    return render_sample(head, {MAIN: Environments}, {"url": "<http://controller:15868>", "region_id": "RegionOne"})
