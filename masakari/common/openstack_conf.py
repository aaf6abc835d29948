"""OpenStack's masakarimonitors.conf as settings of our monitors: what is understood in it, and why the rest is not used.

Its sections [libvirt], [host], [process] and [callback] are those of our own monitors, where the options of both stand. What only
that file has is here: [api], which says how to sign in at Keystone, and what is named without being used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import ClassVar

from masakari.common.config import ABSOLUTE_PATH, HTTP_URL, Choice, Reading, Section, Text, Urls, option
from masakari.common.ini import Ini

API = "api"

ACCOUNT_OF_API = "the account that the monitors sign in with is that of [api]"
NO_BUS = "the monitors use no message bus"
OWN_LOG = "the log goes to the journal, or to log_file of the monitor's own section, one line for each record"
NO_GUEST_AGENT = "a guest is watched through libvirt and its watchdog, not through the QEMU guest agent"
NO_CONSUL = "pacemaker is all that is watched"
NO_SERVER = "the monitors answer no requests"
NO_SUDO = "the monitors run as root, and as who a command of the process list says"
CHECKED = "certificates are always checked; cafile names the authority to trust"

OTHER_SECTIONS: Mapping[str, str] = {
    "keystone_authtoken": ACCOUNT_OF_API,
    **dict.fromkeys(
        (
            "oslo_messaging_notifications",
            "oslo_messaging_rabbit",
            "oslo_messaging_amqp",
            "oslo_messaging_kafka",
            "oslo_messaging_zmq",
        ),
        NO_BUS,
    ),
    "introspectiveinstancemonitor": NO_GUEST_AGENT,
    "consul": NO_CONSUL,
    **dict.fromkeys(("cors", "healthcheck", "oslo_middleware", "oslo_policy", "oslo_reports", "wsgi"), NO_SERVER),
    **dict.fromkeys(("privsep", "oslo_concurrency"), NO_SUDO),
}
"""Sections of masakarimonitors.conf that no monitor needs, with the reason."""

UNUSED_DEFAULTS: Mapping[str, tuple[str, ...]] = {
    OWN_LOG: (
        *("log_*", "logging_*", "logfile", "logdir", "max_logfile_*", "watch_log_file", "syslog_*", "verbose"),
        *(
            "use_syslog",
            "use_journal",
            "use_json",
            "use_stderr",
            "use_eventlog",
            "default_log_levels",
            "publish_errors",
        ),
        *("instance_format", "instance_uuid_format", "fatal_deprecations", "rate_limit_*"),
    ),
    NO_BUS: ("control_exchange", "rpc_*", "conn_pool_*", "executor_thread_pool_size", "notification_*"),
    NO_SERVER: ("backdoor_*",),
    "a monitor stops within five seconds, and nothing is lost by it": ("graceful_shutdown_timeout",),
    "what must be kept lies in state_dir of the monitor's own section": ("tempdir", "state_path"),
    "what a monitor looks at, and how often, is said in its own section": ("run_external_periodic_tasks", "periodic_*"),
}
"""Options of [DEFAULT] that the services of OpenStack take and no monitor needs, by the reason; * stands for anything."""


@dataclass(frozen=True)
class Api(Section):
    """The account with which reports go to OpenStack's instance-ha service, where no url of a controller is set."""

    obsolete: ClassVar[Mapping[str, str]] = {
        "insecure": CHECKED,
        **dict.fromkeys(("certfile", "keyfile"), "the account is a password"),
        "timeout": "how long a try may take is said in the monitor's own section",
        **dict.fromkeys(("collect_timing", "split_loggers"), OWN_LOG),
        **dict.fromkeys(("www_authenticate_uri", "auth_uri"), "auth_url is the address of Keystone"),
        **dict.fromkeys(
            ("memcached_servers", "memcache_servers"), "a monitor has one token at a time, and keeps it itself"
        ),
    }

    auth_url: str = option("", HTTP_URL, "Address of Keystone, with or without /v3.", required=True)
    auth_type: str = option(
        "password",
        Choice(("password",), {"v3password": "password"}),
        "How to sign in; there is only this way.",
    )
    username: str = option("", Text(), "User to sign in as.", required=True, aliases=("user_name", "user-name"))
    password: str = option("", Text(), "Password of the user.", secret=True, required=True)
    user_domain_id: str = option(
        "", Text(), "Domain of the user, by id; goes before the name.", default_text="`default`"
    )
    user_domain_name: str = option("", Text(), "Domain of the user, by name.", default_text="as user_domain_id")
    project_name: str = option(
        "",
        Text(),
        "Project that the user signs in to.",
        default_text="**required**, unless project_id is set",
        aliases=("tenant_name", "tenant-name"),
    )
    project_id: str = option("", Text(), "The same, by id; goes before the name.", aliases=("tenant_id", "tenant-id"))
    project_domain_id: str = option(
        "", Text(), "Domain of the project, by id; goes before the name.", default_text="`default`"
    )
    project_domain_name: str = option(
        "", Text(), "Domain of the project, by name.", default_text="as project_domain_id"
    )
    region: str = option(
        "",
        Text(),
        "Region whose instance-ha service gets the reports, and that they name.",
        default_text="the region of the monitor's own section, or the only one in the catalog",
        aliases=("region_name", "os_region_name"),
    )
    api_interface: str = option(
        "public",
        Choice(
            ("public", "internal", "admin"),
            {"publicurl": "public", "internalurl": "internal", "adminurl": "admin"},
        ),
        "Which of the service's addresses in the catalog to use.",
    )
    api_version: str = option(
        "v1", Choice(("v1",), {"1": "v1", "1.0": "v1"}), "Version of the service; there is only this one."
    )
    cafile: str = option(
        "",
        ABSOLUTE_PATH,
        "Certificates of the authorities to trust.",
        default_text="ca_bundle of the monitor's own section",
    )


def is_theirs(section: str) -> bool:
    """Whether a section is OpenStack's alone, and read as its programs read it: it may begin again, and so on."""
    return section == API or section in OTHER_SECTIONS


def read(
    ini: Ini, main: str, kinds: Mapping[str, type[Section]], others: Mapping[str, str]
) -> tuple[Reading, Api | None]:
    """Read a file of a monitor, its own or masakarimonitors.conf; problems and warnings are in the reading.

    main: the section where the monitor has its url. kinds, others: as for Reading. Returned with the reading: how to sign in, if
    reports go as notifications, which they do when there is no url and a section [api]; None: they go as callbacks.
    """
    url, *aliases = _url_names(kinds[main])
    written = ini.sections.get(main, {})
    has_url = any(name.lower() in written and written[name.lower()].value for name in (url, *aliases))
    if has_url or API not in ini.section_lines:
        reason = f"reports go to {url} in the monitor's own section"
        reading = Reading(ini, kinds, {**OTHER_SECTIONS, **others, API: reason}, _unused(ini))
        if not has_url:
            reading.problem(main, url, "is missing")
        return reading, None
    reading = Reading(ini, {**kinds, API: Api}, {**OTHER_SECTIONS, **others}, _unused(ini))
    api = reading.sections[API]
    assert isinstance(api, Api)
    if not (api.project_name or api.project_id):
        reading.problem(API, "project_name", "is missing")
    return reading, api


def with_defaults(api: Api, region: str, ca_bundle: str) -> Api:
    """How to sign in; where [api] doesn't say it, with the region and the authorities of the monitor's own section."""
    return replace(api, region=api.region or region, cafile=ca_bundle or api.cafile)


def _unused(ini: Ini) -> dict[str, dict[str, str]]:
    """Which of the options in a file are not used, and why."""
    found = {}
    for name in ini.sections.get("DEFAULT", {}):
        for reason, patterns in UNUSED_DEFAULTS.items():
            if any(fnmatchcase(name, pattern) for pattern in patterns):
                found[name] = reason
    return {"DEFAULT": found}


def _url_names(kind: type[Section]) -> tuple[str, ...]:
    """What the option is called that says where the controllers are, in the order of their rank."""
    return next((field.name, *about.aliases) for field, about in kind.options() if isinstance(about.kind, Urls))
