"""masakari.conf in OpenStack's form: what is used of it, what is said of the rest, and that no password is ever shown."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masakari import admin_cli, config, key_tool, openstack_options
from masakari.checkup import of_keys
from masakari.common.errors import ConfigError
from masakari.common.ini import Ini
from masakari.config_openstack import is_theirs
from masakari.openstack_options import AUTHTOKEN

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "tests/data/openstack/masakari.conf").read_text()
"""As an install guide of OpenStack's Masakari has it."""

PRIVILEGED = (
    "os_privileged_user_name = nova\nos_privileged_user_password = pw-1\nos_privileged_user_tenant = service\n"
    "os_privileged_user_auth_url = http://k:5000\n"
)
TOKEN = (
    "auth_url = http://k:5000/v3\nusername = masakari\npassword = pw-2\nproject_name = service\n"
    "user_domain_name = Default\nproject_domain_name = Default\n"
)
NO_KEYS = "[auth]\nkeys_file = /nowhere/keys.conf\n"


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "masakari.conf"
    path.touch(mode=0o600)
    return path


def load(conf: Path, text: str) -> tuple[config.Settings, list[str]]:
    """The settings, and the warnings without the path, but for that of the missing keys."""
    conf.write_text(text if "[auth]" in text else text + "\n" + NO_KEYS)
    settings, warnings = config.load(str(conf))
    return settings, [w.removeprefix(f"{conf}:") for w in warnings if "every callback is refused" not in w]


def problems(conf: Path, text: str) -> list[str]:
    """What is wrong with a file of that text, without its path."""
    with pytest.raises(ConfigError) as caught:
        load(conf, text)
    return [problem.removeprefix(f"{conf}:") for problem in caught.value.problems]


def form(default: str = PRIVILEGED, token: str = TOKEN, more: str = "") -> str:
    return f"[DEFAULT]\n{default}[keystone_authtoken]\n{token}{more}\n"


# The file of a guide


def test_the_file_of_a_guide_is_used_as_it_is(conf: Path) -> None:
    settings, _ = load(conf, GUIDE)
    nova = settings.nova
    assert (nova.auth_url, nova.admin_user, str(nova.admin_password)) == (
        "http://192.0.2.10:5000",
        "nova",
        "Example123",
    )
    assert (nova.project_name, nova.region) == ("service", "RegionOne")
    assert (nova.user_domain_name, nova.project_domain_name) == ("Default", "Default")
    assert settings.db == config.Db(host="192.0.2.10", name="masakari", user="masakari", passwd="Example123")
    assert settings.db.drivername == "mysql"
    assert settings.log == config.Log(log_level="debug")
    assert settings.host_failure.evacuate_all_instances
    assert settings.wsgi == config.Wsgi()
    assert settings.secrets() == ["Example123", "Example123"]


def test_what_the_file_of_a_guide_has_without_a_meaning_here_is_named_once_with_the_reason(conf: Path) -> None:
    _, warnings = load(conf, GUIDE)
    named = [warning.split(" is not used: ")[0] for warning in warnings]
    assert sorted(named) == sorted(
        [
            "3: [DEFAULT] transport_url:",
            "4: [DEFAULT] graceful_shutdown_timeout:",
            "9: [DEFAULT] logging_exception_prefix:",
            "10: [DEFAULT] logging_debug_format_suffix:",
            "11: [DEFAULT] logging_default_format_string:",
            "12: [DEFAULT] logging_context_format_string:",
            "13: [DEFAULT] use_syslog:",
            "15: [DEFAULT] masakari_api_workers:",
            "21: [keystone_authtoken] user_domain_name:",
            "23: [keystone_authtoken] username:",
            "25: [keystone_authtoken] memcached_servers:",
            "30: [oslo_messaging_notifications]",
            "34: [taskflow]",
        ]
    )
    assert all(" is not used: " in warning for warning in warnings)
    assert "Example123" not in "".join(warnings)


def test_the_real_program_finds_the_file_of_a_guide_in_order_and_says_that_it_has_no_keys(conf: Path) -> None:
    conf.write_text(GUIDE + NO_KEYS)
    command = [sys.executable, "-m", "masakari", "--config", str(conf), "--check-config"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{conf}: ok" in done.stdout
    assert "there is no file /nowhere/keys.conf: every callback is refused." in done.stdout
    assert "masakari-keys init; then for each host: masakari-keys add HOST" in done.stdout
    assert "Example123" not in done.stdout


# What is used


@pytest.mark.parametrize(
    ("written", "section", "option", "value"),
    [
        ("[DEFAULT]\nos_region_name = R1", "nova", "region", "R1"),
        ("[DEFAULT]\nmasakari_api_listen = 192.0.2.7", "wsgi", "server_host", "192.0.2.7"),
        ("[DEFAULT]\nmasakari_api_listen_port = 15869", "wsgi", "server_port", 15869),
        ("[wsgi]\nclient_socket_timeout = 900", "wsgi", "request_timeout_s", 900),
        ("[DEFAULT]\nhost_failure_recovery_threads = 3", "recover_starter", "semaphore_multiplicity", 3),
        ("[DEFAULT]\nwait_period_after_evacuation = 90", "recover_starter", "evacuation_timeout_s", 90),
        ("[DEFAULT]\nverify_interval = 2", "recover_starter", "api_check_interval", 2),
        ("[DEFAULT]\nnotifications_expired_interval = 86400", "recover_starter", "notification_expiration_sec", 86400),
        (
            "[DEFAULT]\nduplicate_notification_detection_interval = 60",
            "instance_ha",
            "duplicate_notification_detection_interval",
            60,
        ),
        ("[DEFAULT]\nnova_catalog_admin_info = compute:Compute Service:internalURL", "nova", "interface", "internal"),
        ("[DEFAULT]\nnova_catalog_admin_info = compute:nova:adminURL", "nova", "interface", "admin"),
        ("[DEFAULT]\ndebug = True", "log", "log_level", "debug"),
        ("[DEFAULT]\ndebug = false", "log", "log_level", "info"),
        ("[DEFAULT]\nlog_file = /var/log/masakari/a.log", "log", "log_file", "/var/log/masakari/a.log"),
        ("[DEFAULT]\nlog_dir = /var/log/masakari\nlog_file = a.log", "log", "log_file", "/var/log/masakari/a.log"),
        ("[DEFAULT]\nlog_dir = /var/log/masakari", "log", "log_file", "/var/log/masakari/masakari-controller.log"),
        (f"[DEFAULT]\nnova_ca_certificates_file = {ROOT}/README.md", "nova", "ca_bundle", f"{ROOT}/README.md"),
        (f"[keystone_authtoken]\ncafile = {ROOT}/README.md", "nova", "ca_bundle", f"{ROOT}/README.md"),
        ("[keystone_authtoken]\nregion_name = R2", "nova", "region", "R2"),
        ("[keystone_authtoken]\nuser_domain_id = d1", "nova", "user_domain_id", "d1"),
        ("[keystone_authtoken]\nproject_domain_id = d2", "nova", "project_domain_id", "d2"),
        ("[keystone_authtoken]\nuser_domain_name = D3", "nova", "user_domain_name", "D3"),
        (
            "[host_failure]\nadd_reserved_host_to_aggregate = True",
            "host_failure",
            "add_reserved_host_to_aggregate",
            True,
        ),
        ("[instance_failure]\nprocess_all_instances = False", "instance_failure", "process_all_instances", False),
    ],
)
def test_an_option_with_a_meaning_here_is_used(
    conf: Path, written: str, section: str, option: str, value: object
) -> None:
    token = "auth_url = http://k\nusername = m\npassword = p\nproject_name = s\n"
    settings, warnings = load(conf, f"[keystone_authtoken]\n{token}{written}\n")
    assert getattr(getattr(settings, section), option) == value
    assert warnings == []


def test_every_row_of_the_table_leads_to_an_option_of_ours() -> None:
    for group in openstack_options.USED:
        ours = {field.name for field, _ in config.SECTIONS[group.section].options()}
        assert set(group.leads) <= ours
        for section, names in group.ways:
            assert set(names.values()) <= ours
            assert is_theirs(section) or section in config.SECTIONS


def test_no_section_of_ours_is_taken_for_theirs_and_no_option_of_a_shared_one() -> None:
    assert [name for name in config.SECTIONS if is_theirs(name)] == []
    ours = {field.name for field, _ in config.Wsgi.options()}
    theirs = " ".join(openstack_options.UNUSED["wsgi"].values()).split()
    assert ours.isdisjoint([*theirs, "client_socket_timeout"])
    assert not any(name.startswith("ssl_") for name in ours)


def test_the_account_is_that_of_the_middleware_where_no_other_is_named(conf: Path) -> None:
    settings, warnings = load(conf, form(default="os_region_name = R1\n"))
    nova = settings.nova
    assert (nova.auth_url, nova.admin_user, str(nova.admin_password)) == ("http://k:5000/v3", "masakari", "pw-2")
    assert (nova.project_name, nova.region) == ("service", "R1")
    assert warnings == []


def test_where_keystone_is_may_be_said_by_www_authenticate_uri_alone(conf: Path) -> None:
    settings, _ = load(conf, form(default="", token=TOKEN.replace("auth_url", "www_authenticate_uri")))
    assert settings.nova.auth_url == "http://k:5000/v3"


def test_an_account_is_never_made_of_two(conf: Path) -> None:
    # The privileged user is in the domain default, the other one in its own, as charts of Kubernetes have it.
    default = "os_privileged_user_name = admin\nos_privileged_user_password = pw-1\nos_privileged_user_tenant = admin\n"
    settings, _ = load(conf, form(default, TOKEN.replace("= Default", "= service")))
    nova = settings.nova
    assert (nova.auth_url, nova.admin_user, str(nova.admin_password)) == ("http://k:5000/v3", "admin", "pw-1")
    assert (nova.project_name, nova.user_domain_name, nova.project_domain_name) == ("admin", "Default", "Default")
    without = default.replace("os_privileged_user_password = pw-1\n", "")
    assert "[nova] admin_password: is missing" in "\n".join(problems(conf, form(without)))


def test_what_is_open_for_the_same_user_is_filled_in(conf: Path) -> None:
    settings, warnings = load(conf, form("os_privileged_user_name = masakari\n", TOKEN))
    assert str(settings.nova.admin_password) == "pw-2"
    assert warnings == []


def test_a_domain_without_a_user_is_named(conf: Path) -> None:
    settings, warnings = load(conf, form("os_user_domain_name = other\n"))
    assert settings.nova.user_domain_name == "Default"
    text = "it goes with [DEFAULT] os_privileged_user_name, which isn't"
    assert warnings == [f"2: [DEFAULT] os_user_domain_name: is not used: {text}"]


def test_an_application_credential_signs_in(conf: Path) -> None:
    token = "auth_type = v3applicationcredential\nauth_url = http://k\napplication_credential_id = i\n"
    settings, warnings = load(conf, form("", token + "application_credential_secret = s-1\n"))
    nova = settings.nova
    assert (nova.application_credential_id, str(nova.application_credential_secret)) == ("i", "s-1")
    assert warnings == []
    _, warnings = load(conf, form(token="auth_type = v3oidcpassword\n"))
    assert "[keystone_authtoken] auth_type: is not used: the controller signs in with a user" in warnings[0]


# The database


@pytest.mark.parametrize(
    ("url", "values"),
    [
        ("mysql+pymysql://u:p@db1/m?charset=utf8", {"host": "db1", "user": "u", "passwd": "p", "name": "m"}),
        ("mysql://u:p@[2001:db8::1]:3307/m", {"host": "2001:db8::1", "port": 3307, "passwd": "p", "name": "m"}),
        ("mariadb+pymysql://u%40x:p%40%2F%3a%25%23@db1/m", {"user": "u@x", "passwd": "p@/:%#"}),
        ("mysql+mysqldb://u:p/q:r+%2b@db1/m", {"passwd": "p/q:r++", "host": "db1"}),
        (
            "mysql+pymysql://u@/m?unix_socket=/run/mysqld/mysqld.sock&charset=utf8mb4",
            {"unix_socket": "/run/mysqld/mysqld.sock"},
        ),
        ("mysql+pymysql://u:p@db1", {"name": "vm_ha", "port": 3306}),
        ("sqlite:////var/lib/masakari/x.sqlite", {"drivername": "sqlite", "name": "/var/lib/masakari/x.sqlite"}),
    ],
)
def test_the_url_of_the_database_is_taken_apart(conf: Path, url: str, values: Mapping[str, object]) -> None:
    settings, warnings = load(conf, form(token="", more=f"[database]\nconnection = {url}"))
    assert {name: getattr(settings.db, name) for name in values} == values
    assert settings.db.charset == "utf8mb4"
    assert warnings == []


@pytest.mark.parametrize(
    "url",
    [
        "mysql+pymysql://u:hidden@tail@db1/m",
        "mysql+pymysql://u:hidden@tail/tail@db1/m",
        "mysql+pymysql://u:hidden@tail?tail@db1/m",
        "mysql+pymysql://u:hidden",
        "postgresql://u:hidden@db1/m",
        "u:hidden@db1",
        "mysql+pymysql://u:hidden@db1/m\n  second line @ x",
    ],
)
def test_a_url_that_can_not_be_one_is_refused_and_not_shown(conf: Path, url: str) -> None:
    [problem] = problems(conf, form(more=f"[database]\nconnection = {url}"))
    assert "[database] connection: must be mysql+pymysql://USER:PASSWORD@HOST:PORT/NAME" in problem
    assert not any(part in problem for part in ("hidden", "tail", "db1"))


def test_what_is_wrong_in_a_part_of_the_url_is_told_with_the_part(conf: Path) -> None:
    text = form(token="", more="[database]\nconnection = mysql://u:hidden@db1:70000/m?charset=latin1")
    assert problems(conf, text) == [
        "8: [database] connection, port: must be a whole number from 1 to 65535, not '70000'",
        "8: [database] connection, charset: must be utf8mb4, not 'latin1'",
    ]


def test_parameters_of_the_url_without_effect_are_named_without_their_values(conf: Path) -> None:
    _, warnings = load(conf, form(token="", more="[database]\nconnection = mysql://u:p@db1/m?ssl_ca=/x/ca.pem"))
    assert warnings == [
        "8: [database] connection: what it says of TLS is not used: no certificate of the database is checked"
    ]
    _, warnings = load(conf, form(token="", more="[database]\nconnection = mysql://u:p@db1/m?pool=hidden"))
    assert warnings == ["8: [database] connection: only charset and unix_socket are used of what stands behind the ?"]


def test_a_database_of_our_own_section_goes_before_the_url_as_a_whole(conf: Path) -> None:
    more = "[database]\nconnection = mysql://u:p@db1/m\n[db]\nhost = db2\nuser = v\npasswd = q\n"
    settings, warnings = load(conf, form(token="", more=more))
    assert settings.db == config.Db(host="db2", user="v", passwd="q")
    assert warnings == ["8: [database] connection: is not used: [db] host, line 10, goes before all of it"]
    more = "[database]\nconnection = mysql://u:p@db1/m\n[db]\nconnect_timeout_s = 7\n"
    settings, warnings = load(conf, form(token="", more=more))
    assert (settings.db.host, settings.db.connect_timeout_s, warnings) == ("db1", 7, [])


# Both forms in one file


def test_our_own_sections_go_before_and_what_says_otherwise_is_named(conf: Path) -> None:
    more = "[nova]\nauth_url = http://k:5000/v3/\nadmin_user = nova\nadmin_password = pw-9\nregion = R9\n[log]\nlog_level = info\n"
    default = PRIVILEGED + "os_region_name = R1\ndebug = yes\n"
    settings, warnings = load(conf, form(default, "", more))
    nova = settings.nova
    assert (nova.admin_user, str(nova.admin_password), nova.project_name, nova.region) == (
        "nova",
        "pw-9",
        "service",
        "R9",
    )
    assert settings.log.log_level == "info"
    assert warnings == [
        "3: [DEFAULT] os_privileged_user_password: is not used: [nova] admin_password, line 12, says otherwise and goes "
        "before it",
        "6: [DEFAULT] os_region_name: is not used: [nova] region, line 13, says otherwise and goes before it",
        "7: [DEFAULT] debug: is not used: [log] log_level, line 15, says otherwise and goes before it",
    ]


def test_another_user_of_ours_leaves_nothing_of_theirs(conf: Path) -> None:
    more = "[nova]\nauth_url = http://k:5000\nadmin_user = other\nadmin_password = pw-9\nproject_name = service\n"
    settings, warnings = load(conf, form("os_user_domain_name = d\n" + PRIVILEGED, "", more))
    assert (settings.nova.admin_user, settings.nova.user_domain_name) == ("other", "Default")
    assert [warning.split(": is not used")[0] for warning in warnings] == [
        "2: [DEFAULT] os_user_domain_name",
        "3: [DEFAULT] os_privileged_user_name",
        "4: [DEFAULT] os_privileged_user_password",
    ]


def test_our_application_credential_leaves_nothing_of_their_user(conf: Path) -> None:
    more = "[nova]\napplication_credential_id = i\napplication_credential_secret = s-1\n"
    settings, _ = load(conf, form(more=more))
    assert (settings.nova.admin_user, settings.nova.admin_password) == ("", "")


# What is said of the rest


def test_every_option_without_a_meaning_is_accepted_and_named(conf: Path) -> None:
    text = PRIVILEGED
    for section, reasons in openstack_options.UNUSED.items():
        names = [name.replace("*", "x") for names in reasons.values() for name in names.split()]
        header = "" if section == "DEFAULT" else f"[{section}]\n"
        text += header + "".join(f"{name} = x\n" for name in names)
    for sections in openstack_options.UNUSED_SECTIONS.values():
        text += "".join(f"[{name.replace('*', 'x')}]\nwhatever = 1\n" for name in sections.split())
    _, warnings = load(conf, f"[DEFAULT]\n{text}")
    lines = f"[DEFAULT]\n{text}".splitlines()
    meant = [n for n, line in enumerate(lines, 1) if line.endswith("= x")]
    theirs = [n for n, line in enumerate(lines, 1) if line.startswith("[") and lines[n : n + 1] == ["whatever = 1"]]
    assert sorted(int(warning.split(":")[0]) for warning in warnings) == sorted([*meant, *theirs])
    assert all(" is not used: " in warning for warning in warnings)


def test_unknown_options_and_sections_are_problems_with_the_nearest_name_all_at_once(conf: Path) -> None:
    more = "[database]\nconection = x\n[keystone_authtokn]\n[wsgi]\napi_paste_confi = x\nserver_prt = 1"
    assert problems(conf, form("os_region_nam = R\nserver_port = 1\ndebug = perhaps\n" + PRIVILEGED, more=more)) == [
        "2: [DEFAULT] os_region_nam: unknown option; did you mean os_region_name?",
        "3: [DEFAULT] server_port: unknown option",
        "4: [DEFAULT] debug: must be yes or no",
        "17: [database] conection: unknown option; did you mean connection?",
        "18: unknown section [keystone_authtokn]; did you mean keystone_authtoken?",
        "20: [wsgi] api_paste_confi: unknown option",
        "21: [wsgi] server_prt: unknown option; did you mean server_port?",
    ]


def test_a_bad_value_is_told_where_it_stands(conf: Path) -> None:
    default = "masakari_api_listen_port = all\nnova_catalog_admin_info = compute\nlog_file = a.log\n"
    default += PRIVILEGED.replace("http://k:5000", "keystone")
    assert problems(conf, form(default, "")) == [
        "2: [DEFAULT] masakari_api_listen_port: must be a whole number from 0 to 65535, not 'all'",
        "3: [DEFAULT] nova_catalog_admin_info: must be TYPE:NAME:publicURL, or internalURL or adminURL at the end",
        "4: [DEFAULT] log_file: must be an absolute path, not 'a.log'",
        "8: [DEFAULT] os_privileged_user_auth_url: must be a URL that begins with http:// or https://, without user "
        "and password, not 'keystone'",
    ]


def test_nothing_in_a_value_refers_to_anything(conf: Path) -> None:
    default = PRIVILEGED.replace("pw-1", "50%(x)s$$a${b}") + "my_ip = 192.0.2.1\nmasakari_api_listen = $my_ip\n"
    settings, warnings = load(conf, form(default, ""))
    assert str(settings.nova.admin_password) == "50%(x)s$$a${b}"
    assert settings.wsgi.server_host == "$my_ip"
    told = [warning.split(":")[0] for warning in warnings if "$ refers to nothing here" in warning]
    assert told == ["3", "7"]


def test_default_gives_nothing_to_other_sections(conf: Path) -> None:
    assert "[DEFAULT] host: is not used" in load(conf, form("host = db9\n" + PRIVILEGED, ""))[1][0]
    assert load(conf, form("host = db9\n" + PRIVILEGED, ""))[0].db == config.Db()
    assert "[nova] auth_url: is missing" in "\n".join(
        problems(conf, "[DEFAULT]\nauth_url = http://k\n[keystone_authtoken]\n")
    )


def test_their_sections_may_come_twice_and_the_last_value_counts(conf: Path) -> None:
    again = "[oslo_messaging_notifications]\ndriver = a\ndriver = b\n[DEFAULT]\nos_region_name = R2\n"
    settings, warnings = load(conf, form("os_region_name = R1\n" + PRIVILEGED, "", again))
    assert settings.nova.region == "R2"
    assert "12: [DEFAULT] os_region_name: is something else on line 2; this one is used, as the last" in warnings
    assert "section [nova] again" in problems(conf, form(more="[nova]\n[nova]"))[0]


def test_a_value_may_go_on_in_an_indented_line(conf: Path) -> None:
    default = "default_log_levels = amqp=WARN,\n    sqlalchemy=WARN,\n\tboto=WARN\n" + PRIVILEGED
    settings, warnings = load(conf, form(default, ""))
    assert settings.nova.admin_user == "nova"
    assert [warning.split(":")[0] for warning in warnings] == ["2"]
    assert load(conf, form(more="[wsgi]\n  server_port = 1\n\tthreads = 2\n"))[0].wsgi.threads == 2


# Keys


def test_without_keys_only_a_file_in_this_form_is_enough(conf: Path) -> None:
    settings, _ = load(conf, form())
    assert config.read_keys(settings) == {}
    assert settings.auth.callbacks == "signed"
    assert "every callback is refused" in of_keys({}, settings.auth.callbacks).text
    own = "[nova]\nauth_url = http://k\nadmin_user = m\nadmin_password = p\nproject_name = s\n"
    assert "there is no file /nowhere/keys.conf; with callbacks = signed" in problems(conf, own)[0]
    assert (
        "there is no file /nowhere/keys.conf; with callbacks = signed" in problems(conf, f"[DEFAULT]\n{PRIVILEGED}")[0]
    )


def test_a_keys_file_just_made_keeps_nothing_from_starting(conf: Path) -> None:
    keys = conf.parent / "keys.conf"
    keys.touch(0o600)
    conf.write_text(form() + f"[auth]\nkeys_file = {keys}\n")
    _, warnings = config.load(str(conf))
    assert f"there is no key in {keys}: every callback is refused. To take them, run: masakari-keys add" in warnings[-1]
    keys.chmod(0o644)
    with pytest.raises(ConfigError, match="others may read the secrets"):
        config.load(str(conf))


# The operator's commands


def test_the_operators_commands_find_database_and_keys_in_such_a_file(conf: Path) -> None:
    conf.write_text(GUIDE + "[DEFAULT]\ndebug = perhaps\nunknown = 1\n[auth]\nkeys_file = /x/keys.conf\n")
    assert admin_cli._load(str(conf)).db.host == "192.0.2.10"
    assert key_tool._path(str(conf)) == "/x/keys.conf"
    conf.write_text("[database]\nconnection = mysql://u:hid@den@db1/m\n")
    with pytest.raises(ConfigError, match="connection: must be"):
        admin_cli._load(str(conf))


# Anything at all

SECRET = "s3cr3t"
_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
_SECRETS = st.builds(lambda before, after: before + SECRET + after, _TEXT, _TEXT)
_PASSWORDS = (
    ("DEFAULT", "os_privileged_user_password"),
    ("DEFAULT", "transport_url"),
    (AUTHTOKEN, "password"),
    (AUTHTOKEN, "application_credential_secret"),
    (AUTHTOKEN, "memcache_secret_key"),
    ("oslo_messaging_notifications", "transport_url"),
    ("db", "passwd"),
    ("nova", "admin_password"),
)
_URLS = st.builds(
    lambda driver, password, encoded, rest: f"{driver}://u:{quote(password, '') if encoded else password}@{rest}",
    st.sampled_from(("mysql+pymysql", "mysql", "sqlite", "x", "")),
    _SECRETS,
    st.booleans(),
    st.sampled_from(
        ("db1/m", "db1:1/m?charset=utf8", "db1:99999/m", "[::1]/m", "/m?unix_socket=x", "db 1/m", "", "a@b/c?d@e")
    ),
)
_USED = {name for group in openstack_options.USED for _, names in group.ways for name in names}
_OTHERS = {
    "debug",
    "log_dir",
    "log_file",
    "nova_catalog_admin_info",
    "auth_type",
    "rpc_x",
    "unknown",
    "server_port",
    "host",
}
_NAMES = st.sampled_from(sorted(_USED | _OTHERS))
_PLAIN = st.tuples(
    st.sampled_from(
        ("DEFAULT", AUTHTOKEN, "database", "wsgi", "nova", "db", "log", "host_failure", "cors", "nonsense")
    ),
    _NAMES,
    st.one_of(_TEXT, st.sampled_from(("1", "yes", "http://k:5000", "$my_ip", "a:b:publicURL", "/tmp/x", "<fill in>"))),
).filter(lambda line: "pass" not in line[1] and "secret" not in line[1])
_LINES = st.one_of(
    _PLAIN,
    _PLAIN,
    st.builds(lambda at, value: (*at, value), st.sampled_from(_PASSWORDS), _SECRETS),
    st.builds(lambda url: ("database", "connection", url), _URLS),
)


@given(lines=st.lists(_LINES, max_size=12), raw=st.one_of(st.just(""), _TEXT))
def test_whatever_a_file_says_it_is_read_or_refused_and_no_password_is_shown(
    lines: list[tuple[str, str, str]], raw: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "masakari.conf")
        text = "".join(f"[{section}]\n{name} = {' '.join(value.splitlines())}\n" for section, name, value in lines)
        with open(path, "w", encoding="utf-8", newline="") as file:
            file.write(f"{text}{raw}\n")
        try:
            settings, said = config.load(path)
        except ConfigError as error:
            said = error.problems
        else:
            said += [repr(settings)]
    assert [sentence for sentence in said if SECRET in sentence] == []


@given(password=_SECRETS)
def test_any_password_survives_the_url_when_it_is_encoded(password: str) -> None:
    password = " ".join(password.splitlines())
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "masakari.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write(
                form(token=TOKEN, more=f"[database]\nconnection = mysql://u:{quote(password, '')}@db1/m\n{NO_KEYS}")
            )
        settings, _ = config.load(path)
    assert str(settings.db.passwd) == password


def test_only_their_sections_are_read_loosely(conf: Path) -> None:
    conf.write_text("[DEFAULT]\na = 1\n b\na = 2\n[x]\n[x]\n")
    ini = Ini(str(conf), loose=lambda section: section == "DEFAULT")
    assert (ini.sections["DEFAULT"]["a"].value, ini.again) == ("2", {("DEFAULT", "a"): 2})
    assert ini.problems == [(6, f"{conf}:6: section [x] again; it began on line 5")]
