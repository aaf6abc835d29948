"""The settings of the hostmonitor: the two forms of its file, the files of 2015 and of the guides, what each option does."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hostmonitor.config import BLIND, Environments, Settings, load
from hostmonitor.power import Rules
from hostmonitor.stonith import BMC_FILE
from masakari.common.errors import ConfigError
from masakari.common.log import Redactor
from masakari.common.monitor import loaded
from masakari.common.monitor_config import NO_ACCOUNT, NO_BUS

URL = "http://192.0.2.1:15868"
KEY = "[compute1-a]\nhost = compute1\ncluster_port = 226.94.1.1:5405\nsecret = 0123456789abcdef\n"
PASSWORD = "hunter2-hunter2"
BMC = f"[compute2]\naddress = 192.0.2.52\nuser = admin\npassword = {PASSWORD}\n"

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(text: str, name: str = "hostmonitor.conf", mode: int = 0o600) -> str:
        path = tmp_path / name
        path.write_text(textwrap.dedent(text))
        path.chmod(mode)
        return str(path)

    return make


@pytest.fixture
def settings_of(write: Write) -> Callable[[str], Settings]:
    return lambda lines: load(write(f"[environments]\nurl = {URL}\n{lines}\n"))[0]


def problems(path: str) -> list[str]:
    """What is wrong with a file, without its path."""
    with pytest.raises(ConfigError) as caught:
        load(path)
    return [problem.removeprefix(path) for problem in caught.value.problems]


def with_line(text: str, line: str, after: str = "") -> str:
    """A text with one more line, in the section whose head is given, or on top."""
    text = textwrap.dedent(text)
    return text.replace(f"{after}\n", f"{after}\n{line}\n", 1) if after else f"{line}\n{text}"


# The file, in all its forms

README_OF_2015 = """
    [environments]
    # Openstack config info
    region_id=<openstack region name. ex) RegionOne >

    # URL of masakari
    url="http://<masakari server ip>:15868"
    """

LINES_OF_2015 = f"""
    RM_URL="{URL}"
    MONITOR_INTERVAL=61
    NOTICE_TIMEOUT=31
    NOTICE_RETRY_COUNT=4
    NOTICE_RETRY_INTERVAL=5
    STONITH_WAIT=32
    STONITH_TYPE="ssh"
    MAX_CHILD_PROCESS=6
    TCPDUMP_TIMEOUT=11
    REGION_ID=RegionTwo
    IPMI_TIMEOUT=7
    IPMI_RETRY_MAX=8
    IPMI_RETRY_INTERVAL=12
    LOG_LEVEL="debug"
    """

FILE_OF_THE_GUIDE = """
    MONITOR_INTERVAL=120
    NOTICE_TIMEOUT=30
    NOTICE_RETRY_COUNT=3
    NOTICE_RETRY_INTERVAL=3
    MAX_CHILD_PROCESS=3
    TCPDUMP_TIMEOUT=10
    HA_CONF="/etc/corosync/corosync.conf"
    LOG_LEVEL="debug"
    DOMAIN="Default"
    ADMIN_USER="admin"
    ADMIN_PASS="not a secret"
    PROJECT="service"
    REGION="Hanoi"
    AUTH_URL="http://192.0.2.1:5000/"
    IGNORE_RESOURCE_GROUP_NAME_PATTERN="stonith"
    """

MASAKARIMONITORS = """
    [DEFAULT]
    debug = True
    transport_url = rabbit://openstack:x@192.0.2.1:5672
    [api]
    region = Hanoi
    auth_url = http://192.0.2.1:5000
    user_domain_name = default
    project_name = service
    project_domain_id = default
    username = masakari
    password = not a secret
    [keystone_authtoken]
    region = Hanoi
    www_authenticate_uri = http://192.0.2.1:5000
    auth_url = http://192.0.2.1:5000
    auth_type = password
    user_domain_id = Default
    project_name = service
    project_domain_id = Default
    username = masakari
    password = not a secret
    memcached_servers = 192.0.2.1:11211
    [libvirt]
    connection_uri = "qemu+tcp://192.0.2.2/system"
    [host]
    monitoring_driver = default
    monitoring_interval = 10
    disable_ipmi_check = True
    restrict_to_remotes = True
    [process]
    process_list_path = /etc/masakarimonitors/process_list.yaml
    """


def test_the_file_of_the_readme_of_2015_loads_once_filled_in(write: Write) -> None:
    assert problems(write(README_OF_2015)) == [
        ":4: [environments] region_id: still has the placeholder of the sample file",
        ":7: [environments] url: must be a URL that begins with http:// or https://, without user and password; "
        "several are separated by commas, not 'http://<masakari server ip>:15868'",
    ]
    filled = README_OF_2015.replace("<openstack region name. ex) RegionOne >", "RegionOne")
    settings, _ = load(write(filled.replace("<masakari server ip>", "192.0.2.1")))
    assert (settings.environments.url, settings.region_id) == ((URL,), "RegionOne")


def test_the_lines_of_2015_mean_what_they_meant(write: Write) -> None:
    settings, _ = load(write(LINES_OF_2015))
    main = settings.environments
    assert (main.url, settings.region_id, main.log_level, main.stonith_type) == ((URL,), "RegionTwo", "debug", "ssh")
    assert (main.monitor_interval, main.stonith_wait, main.tcpdump_timeout, main.max_child_process) == (61, 32, 11, 6)
    assert settings.rules == Rules(7, 8, 12)
    delivery = settings.delivery
    assert (delivery.timeout_s, delivery.retry, delivery.interval_s, delivery.alarm_after_s) == (31, 4, 5, 4 * 36)


def test_the_same_options_in_a_section_mean_the_same(write: Write) -> None:
    lines = load(write(LINES_OF_2015))[0]
    section = load(write("[environments]\n" + textwrap.dedent(LINES_OF_2015).lower().replace("regiontwo", "RegionTwo")))
    assert section[0] == lines


def test_an_option_that_is_not_set_has_the_default_of_2015(settings_of: Callable[[str], Settings]) -> None:
    settings = settings_of("")
    main, delivery = settings.environments, settings.delivery
    assert (main.monitor_interval, main.stonith_wait, main.max_child_process, main.stonith_type) == (60, 30, 3, "ipmi")
    assert (delivery.timeout_s, delivery.retry, delivery.interval_s, delivery.alarm_after_s) == (30, 3, 3, 99)
    assert settings.rules == Rules(5, 3, 10)
    assert (main.disable_ipmi_check, main.restrict_to_remotes, main.ignore_resource_group_name_pattern) == (
        False,
        False,
        "",
    )
    assert main.ha_conf == "/etc/corosync/corosync.conf"


def test_the_file_of_the_guide_lacks_the_address_of_the_controller_alone(write: Write) -> None:
    assert problems(write(FILE_OF_THE_GUIDE)) == [": URL: is missing"]
    settings, warnings = load(write(with_line(FILE_OF_THE_GUIDE, f"RM_URL={URL}")))
    main = settings.environments
    assert (main.monitor_interval, main.tcpdump_timeout, settings.region_id) == (120, 10, "Hanoi")
    assert main.ignore_resource_group_name_pattern == "stonith"
    told = [warning for warning in warnings if NO_ACCOUNT in warning]
    assert [warning.split(": ")[1] for warning in told] == ["DOMAIN", "ADMIN_USER", "ADMIN_PASS", "PROJECT", "AUTH_URL"]
    assert "not a secret" not in str(warnings) + repr(settings)


def test_the_common_file_of_the_guide_has_the_settings_in_its_host_section(write: Write) -> None:
    path = write(with_line(MASAKARIMONITORS, f"url = {URL}", after="[host]"))
    settings, warnings = load(path)
    main = settings.environments
    assert (main.url, main.monitor_interval, main.restrict_to_remotes) == ((URL,), 10, True)
    assert settings.believes_blindly and settings.debug
    told = [warning for warning in warnings if warning.startswith(path)]
    assert [warning.removeprefix(path) for warning in told] == [
        ":28: [host] monitoring_driver: has no effect any more: pacemaker is all that is watched",
        f":4: [DEFAULT] transport_url: has no effect any more: {NO_BUS}",
        ":5: [api] is not used: reports go to url in the monitor's own section",
        ":13: [keystone_authtoken] is not used: the account that the monitors sign in with is that of [api]",
        f":30: [host] disable_ipmi_check: {BLIND}",
    ]
    assert "not a secret" not in str(warnings)


def test_every_other_option_of_a_host_section_is_understood(write: Write) -> None:
    path = write(
        f"""
        [host]
        url = {URL}
        monitoring_samples = 5
        api_retry_max = 13
        api_retry_interval = 11
        ipmi_timeout = 6
        ipmi_retry_max = 0
        ipmi_retry_interval = 9
        stonith_wait = 33
        tcpdump_timeout = 7
        corosync_multicast_interfaces = enp0s3,enp0s8
        corosync_multicast_ports = 5405,5406
        pacemaker_node_type = autodetect
        """
    )
    settings, warnings = load(path)
    main = settings.environments
    assert (main.monitoring_samples, main.stonith_wait, main.tcpdump_timeout) == (5, 33, 7)
    assert (settings.delivery.retry, settings.delivery.interval_s, settings.rules) == (13, 11, Rules(6, 0, 9))
    told = [warning.split(": ")[1] for warning in warnings if "no effect" in warning]
    assert told == [
        f"[host] {name}"
        for name in ("corosync_multicast_interfaces", "corosync_multicast_ports", "pacemaker_node_type")
    ]


@pytest.mark.parametrize(
    ("other", "line", "called"),
    [("[environments]\nurl = http://a:1\n", 3, "the section [environments]"), ("", 2, "lines without a section")],
)
def test_a_file_with_two_places_for_the_settings_is_refused(write: Write, other: str, line: int, called: str) -> None:
    path = write(f"{other or 'URL=http://a:1' + chr(10)}[host]\nurl = {URL}\n")
    assert problems(path) == [f":{line}: [host] and {called} are two places for the same settings; keep one of them"]


# What each option does


@pytest.mark.parametrize("name", ["url", "URL", "rm_url", "RESOURCE_MANAGER_URL"])
def test_controllers_are_named_in_any_spelling_of_the_option(write: Write, name: str) -> None:
    settings, _ = load(write(f'{name}="{URL}, http://192.0.2.9:15868/"'))
    assert settings.delivery.urls == (URL, "http://192.0.2.9:15868/")


@pytest.mark.parametrize("name", ["region_id", "REGION", "regionID"])
def test_the_region_is_named_in_any_spelling_of_the_option(settings_of: Callable[[str], Settings], name: str) -> None:
    assert settings_of(f"{name} = RegionOne").region_id == "RegionOne"


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("monitoring_interval = 0.5", "monitor_interval", 0.5),
        ("monitoring_samples = 1", "monitoring_samples", 1),
        ("tcpdump_timeout = 2.5", "tcpdump_timeout", 2.5),
        ("ha_conf = /opt/corosync.conf", "ha_conf", "/opt/corosync.conf"),
        ("alert_pipe = /run/x", "alert_pipe", "/run/x"),
        ("state_dir = /srv/x", "state_dir", "/srv/x"),
        ("cluster_port = production", "cluster_port", "production"),
        (
            "ignore_resource_group_name_pattern = ^(stonith|vip-.*)$",
            "ignore_resource_group_name_pattern",
            "^(stonith|vip-.*)$",
        ),
        ("hostname = compute1", "hostname", "compute1"),
    ],
)
def test_an_option_is_taken_as_written(
    settings_of: Callable[[str], Settings], line: str, name: str, value: object
) -> None:
    assert getattr(settings_of(line).environments, name) == value


def test_every_option_can_be_written_in_both_forms(write: Write) -> None:
    for field, about in Environments.options():
        for name in (field.name, *about.aliases):
            for text in (f"[environments]\n{name} =", f"{name.upper()}="):
                with pytest.raises(ConfigError) as caught:
                    load(write(text))
                assert len(caught.value.problems) == 1 and "is missing" in str(caught.value)


def test_hosts_that_nova_calls_otherwise(settings_of: Callable[[str], Settings]) -> None:
    settings = settings_of("nova_hosts = node1=compute1.example.org, Node2=compute2")
    assert settings.nova_hosts == {"node1": "compute1.example.org", "Node2": "compute2"}
    assert settings_of("").nova_hosts == {}


@pytest.mark.parametrize(
    "value",
    [
        "node1",
        "node1=",
        "=compute1",
        "node1=compute1=x",
        "node1 = compute1",
        "node1=a, node1=b",
        "node1=a, NODE1=b",
        "node1=a, node2=a",
    ],
)
def test_hosts_that_are_named_wrongly_or_twice_are_refused(write: Write, value: str) -> None:
    assert problems(write(f"[environments]\nurl = {URL}\nnova_hosts = {value}\n")) == [
        ":3: [environments] nova_hosts: must be words NODE=HOST separated by commas, every node and every host once, "
        f"not {value!r}"
    ]


@pytest.mark.parametrize(
    ("lines", "blindly"),
    [
        ("disable_ipmi_check = yes", True),
        ("stonith_type = SSH", True),
        ("disable_ipmi_check = no\nstonith_type = ipmi", False),
    ],
)
def test_not_asking_bmcs_is_warned_about(write: Write, lines: str, blindly: bool) -> None:
    path = write(f"[environments]\nurl = {URL}\n{lines}\n")
    settings, warnings = load(path)
    assert settings.believes_blindly is blindly
    option = lines.partition(" ")[0]
    told = [warning for warning in warnings if "evidence" in warning]
    assert told == ([f"{path}:3: [environments] {option}: {BLIND}"] if blindly else [])


def test_another_main_section_changes_nothing_else(settings_of: Callable[[str], Settings]) -> None:
    settings = settings_of("stonith_type = ssh")
    other = settings.with_monitor(replace(settings.environments, state_dir="/srv/x"))
    assert other.monitor.state_dir == "/srv/x" and other.believes_blindly


# What is wrong


def test_everything_that_is_wrong_is_told_at_once_with_its_line(write: Write) -> None:
    path = write(
        """
        MONITOR_INTERVAL=soon
        STONITH_TYPE=meatware
        MONITORING_SAMPLES=0
        IPMI_RETRY_MAX=-1
        HA_CONF=corosync.conf
        IGNORE_RESOURCE_GROUP_NAME_PATTERN="stonith("
        TCPDUMP_TIMEOUT=601
        MONITORING_DRIVER=consul
        CLUSTER_PORT="two words"
        MONITOR_INTERVALL=60
        """
    )
    assert problems(path) == [
        ": URL: is missing",
        ":2: MONITOR_INTERVAL: must be a number from 0.1 to 3600, not 'soon'",
        ":3: STONITH_TYPE: must be ipmi or ssh, not 'meatware'",
        ":4: MONITORING_SAMPLES: must be a whole number from 1 to 100, not '0'",
        ":5: IPMI_RETRY_MAX: must be a whole number from 0 to 1000, not '-1'",
        ":6: HA_CONF: must be an absolute path, not 'corosync.conf'",
        ":7: IGNORE_RESOURCE_GROUP_NAME_PATTERN: must be a regular expression, not 'stonith('",
        ":8: TCPDUMP_TIMEOUT: must be a number from 0 to 30, not '601'",
        ":9: MONITORING_DRIVER: must be default, which watches pacemaker, not 'consul'",
        ":10: CLUSTER_PORT: must be address:port, or another name without blanks, not 'two words'",
        ":11: MONITOR_INTERVALL: unknown option; did you mean monitor_interval?",
    ]


def test_an_unknown_option_or_section_is_told_with_the_nearest_name(write: Write) -> None:
    assert problems(write(f"[environments]\nurl = {URL}\nstonith_wai = 3\ndebug = yes\n[environment]\n")) == [
        ":3: [environments] stonith_wai: unknown option; did you mean stonith_wait?",
        ":4: [environments] debug: unknown option; it belongs to [DEFAULT]",
        ":5: unknown section [environment]; did you mean environments?",
    ]


def test_a_segment_other_than_that_of_the_key_is_refused(write: Write) -> None:
    key = write(KEY, "key.conf")
    text = f"[environments]\nurl = {URL}\nkey_file = {key}\ncluster_port = "
    assert problems(write(f"{text}production\n")) == [
        f":4: [environments] cluster_port: the key in {key} is for 226.94.1.1:5405, not for production; "
        "reports of another would be refused"
    ]
    settings, _ = load(write(f"{text}226.94.1.1:5405\n"))
    assert settings.identity.cluster_port == settings.environments.cluster_port == "226.94.1.1:5405"


# BMCs


def with_bmcs(write: Write, bmcs: str, mode: int = 0o600, more: str = "") -> tuple[str, str]:
    """A file of settings that names a file of BMCs; both paths."""
    bmc_file = write(bmcs, "bmc.conf", mode)
    return write(f"[environments]\nurl = {URL}\nbmc_file = {bmc_file}\n{more}"), bmc_file


def test_bmcs_come_from_the_file_that_is_named(write: Write) -> None:
    path, bmc_file = with_bmcs(write, BMC)
    (bmc,) = load(path)[0].declared.bmcs["compute2"]
    assert (bmc.address, bmc.user, bmc.password, bmc.source) == (
        "192.0.2.52",
        "admin",
        PASSWORD,
        f"{bmc_file} [compute2]",
    )


def test_the_usual_file_of_bmcs_need_not_be_there_unless_it_is_named(write: Write) -> None:
    text = f"[environments]\nurl = {URL}\n"
    assert load(write(text))[0].declared.bmcs == {}
    for missing in (BMC_FILE, "/nowhere/bmc.conf"):
        assert problems(write(f"{text}bmc_file = {missing}\n")) == [
            f"{missing}: can't be read: No such file or directory"
        ]


def test_a_path_that_is_none_is_one_problem(write: Write) -> None:
    assert problems(write(f"[environments]\nurl = {URL}\nbmc_file = bmc.conf\n")) == [
        ":3: [environments] bmc_file: must be an absolute path, not 'bmc.conf'"
    ]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_of_bmcs_that_others_may_touch_is_refused(write: Write, mode: int) -> None:
    path, bmc_file = with_bmcs(write, BMC, mode)
    assert problems(path) == [f"{bmc_file}: others may read the secrets (mode {mode:04o}); run: chmod 600 {bmc_file}"]


def test_what_is_wrong_in_the_file_of_bmcs_is_told_with_everything_else_but_no_password(write: Write) -> None:
    wrong = f"[compute2]\nuser = admin\npassword = {PASSWORD}{PASSWORD}\n{PASSWORD}\n"
    path, bmc_file = with_bmcs(write, wrong, more="stonith_wait = x\n")
    found = problems(path)
    assert found == [
        f"{bmc_file}:1: [compute2] address: is missing",
        f"{bmc_file}:3: [compute2] password: must be at most 20 characters long",
        f"{bmc_file}:4: is neither 'option = value', nor a [section], nor a comment",
        ":4: [environments] stonith_wait: must be a number from 0 to 3600, not 'x'",
    ]
    assert PASSWORD not in str(found)


def test_no_secret_is_shown_or_logged(write: Write) -> None:
    key = write(KEY, "key.conf")
    path, _ = with_bmcs(write, BMC, more=f"key_file = {key}\n")
    settings, warnings = load(path)
    assert set(settings.secrets) == {PASSWORD, "0123456789abcdef"}
    assert [secret for secret in settings.secrets if secret in repr(settings) + str(warnings)] == []
    redactor = Redactor()
    redactor.hide(*loaded(settings, warnings).secrets)
    assert redactor.clean(f"{PASSWORD} 0123456789abcdef") == "*** ***"
