"""Which settings fit together, which files they need, and which of them an operator is warned about."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from masakari import config_openstack
from masakari.common.config import Reading
from masakari.common.errors import ConfigError
from masakari.common.keys import load_keys

if TYPE_CHECKING:
    from masakari.config import Auth, Db, Nova, Settings

LEASE_MARGIN_S = 5
ADD_KEY = "masakari-keys add HOST --cluster-port ADDRESS:PORT"


def check(settings: Settings, reading: Reading) -> None:
    """Add to the reading every problem and warning that concerns more than the form of one value."""
    _check_db(settings.db, reading)
    _check_nova(settings.nova, reading)
    _check_times(settings, reading)
    _check_files(settings, reading)
    _check_command(settings.notify.command, reading)
    _warn(settings, reading)


def _check_db(db: Db, reading: Reading) -> None:
    if db.drivername == "mysql" and not db.user:
        reading.problem("db", "user", "is missing; a database server needs it (or set drivername = sqlite)")
    if db.drivername == "sqlite" and not db.name.startswith("/"):
        reading.problem(
            "db",
            "name",
            f"must be the absolute path of a file, not {db.name!r}; the driver is sqlite unless host, user "
            "or unix_socket is set",
            ("db", "drivername"),
            ("db", "host"),
            ("db", "user"),
            ("db", "unix_socket"),
        )
    if db.read_timeout_s <= db.innodb_lock_wait_timeout:
        reading.problem(
            "db",
            "read_timeout_s",
            f"must be more than innodb_lock_wait_timeout ({db.innodb_lock_wait_timeout}), or a wait for a "
            "lock looks like a lost connection",
            ("db", "innodb_lock_wait_timeout"),
        )
    charset = reading.ini.sections.get("db", {}).get("charset")
    if charset and charset.value and charset.value.lower() != db.charset:
        reading.warn("db", "charset", f"{db.charset} is used, which contains it")


def _check_nova(nova: Nova, reading: Reading) -> None:
    credential = ("application_credential_id", "application_credential_secret")
    password = ("admin_user", "admin_password", "project_name")
    if any(reading.given("nova", name) for name in credential):
        for name in credential:
            if not getattr(nova, name):
                reading.problem("nova", name, "is missing; an application credential has an id and a secret")
        if nova.admin_password:
            reading.problem("nova", "admin_password", "and an application credential: only one of them can be used")
        return
    for name in password:
        if not getattr(nova, name):
            reading.problem("nova", name, "is missing; only an application credential can stand in for it")


def _check_times(settings: Settings, reading: Reading) -> None:
    nova, lease_s = settings.nova, settings.recover_starter.lease_s
    connect, read = ("nova", "connect_timeout_s"), ("nova", "read_timeout_s")
    needed_s = 3 * nova.read_timeout_s + nova.connect_timeout_s + LEASE_MARGIN_S
    if lease_s < needed_s:
        reading.problem(
            "recover_starter",
            "lease_s",
            f"is {lease_s:g}, and must be at least {needed_s:g} (3 * [nova] read_timeout_s + "
            f"connect_timeout_s + {LEASE_MARGIN_S}), or another controller takes over what this one is still "
            "asking Nova for",
            connect,
            read,
        )
    answer_s = nova.connect_timeout_s + nova.read_timeout_s
    if settings.safety.action_settle_s < answer_s:
        reading.problem(
            "safety",
            "action_settle_s",
            f"is {settings.safety.action_settle_s:g}, and must be at least {answer_s:g} ([nova] "
            "connect_timeout_s + read_timeout_s), or a request is sent again while the first is still on "
            "its way",
            connect,
            read,
        )


def _check_files(settings: Settings, reading: Reading) -> None:
    bundle = settings.nova.ca_bundle
    if bundle and not os.path.isfile(bundle):
        reading.problem("nova", "ca_bundle", f"there is no file {bundle}")
    _check_keys(settings.auth, reading)


def _check_keys(auth: Auth, reading: Reading) -> None:
    """Signed callbacks need keys. In OpenStack's form they are not all that comes: the controller can do without."""
    path = auth.keys_file
    if not os.path.exists(path):
        lacking = f"there is no file {path}"
        refused = "; with callbacks = signed nothing would be believed without it. Run"
        advice = f"masakari-keys init; then for each host: {ADD_KEY}"
    else:
        try:
            if load_keys(path):
                return
        except ConfigError as error:
            for problem in error.problems:
                reading.problem_elsewhere("auth", "keys_file", problem)
            return
        lacking, refused, advice = f"there is no key in {path}", "; run", ADD_KEY
    if auth.callbacks != "signed":
        return
    if config_openstack.in_this_form(reading.ini):
        reading.warn("auth", "keys_file", f"{lacking}: every callback is refused. To take them, run: {advice}")
    else:
        reading.problem("auth", "keys_file", f"{lacking}{refused}: {advice}", ("auth", "callbacks"))


def _check_command(command: str, reading: Reading) -> None:
    if not command:
        return
    import shlex  # rarely needed

    try:
        program = shlex.split(command)[0]
    except ValueError as error:
        reading.problem("notify", "command", f"can't be split into words: {error}")
        return
    if not (os.path.isfile(program) and os.access(program, os.X_OK)):
        reading.problem("notify", "command", f"{program} is not a program that can be run")


def _warn(settings: Settings, reading: Reading) -> None:
    """Name every setting that gives up some of the safety."""
    dangers = [
        (
            settings.safety.mode == "observe",
            "safety",
            "mode",
            "nothing is recovered: decisions are only written to the journal",
        ),
        (
            settings.safety.without_proof == "wait_for_nova",
            "safety",
            "without_proof",
            "hosts are evacuated on Nova's word alone; one that only lost its network still runs its "
            "instances, and they would run twice",
        ),
        (
            settings.auth.callbacks == "open",
            "auth",
            "callbacks",
            "everybody who reaches the port can have hosts evacuated",
        ),
        (
            settings.auth.callbacks == "hold",
            "auth",
            "callbacks",
            "unsigned reports are acted on only after an operator releases them",
        ),
        (
            settings.nova.rebuild_local_disks,
            "nova",
            "rebuild_local_disks",
            "instances with a root disk outside shared storage lose its data when they are evacuated",
        ),
    ]
    for applies, section, name, text in dangers:
        if applies:
            reading.warn(section, name, text)
    mode = os.stat(reading.ini.path).st_mode & 0o777
    if mode & 0o004 and settings.secrets():
        reading.warnings.append(
            f"{reading.ini.path}: everybody on this machine may read its passwords (mode {mode:04o}); run: "
            f"chmod o-rwx {reading.ini.path}"
        )
