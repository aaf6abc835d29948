"""masakarimonitors.conf, as OpenStack's guides write it, given to each of our monitors: what is used, and what is named."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hostmonitor.config
import instancemonitor.config
import processmonitor.config
from masakari.common import node
from masakari.common.errors import ConfigError
from masakari.common.log import Redactor
from masakari.common.monitor import loaded
from masakari.common.openstack_conf import Api
from masakari.common.sign_in import request

PASSWORD = "Welcome123"

AS_THE_GUIDE_WRITES_IT = f"""
    [DEFAULT]
    debug = True
    transport_url = rabbit://openstack:{PASSWORD}@192.168.10.238:5672
    [api]
    region = Hanoi
    auth_url = http://192.168.10.238:5000
    user_domain_name = default
    project_name = service
    project_domain_id = default
    username = masakari
    password = {PASSWORD}
    [keystone_authtoken]
    region = Hanoi
    www_authenticate_uri = http://192.168.10.238:5000
    auth_url = http://192.168.10.238:5000
    auth_type = password
    user_domain_id = Default
    project_name = service
    project_domain_id = Default
    username = masakari
    password = {PASSWORD}
    memcached_servers = 192.168.10.238:11211
    [libvirt]
    connection_uri = "qemu+tcp://192.168.10.159/system"
    [host]
    monitoring_driver = default
    monitoring_interval = 10
    disable_ipmi_check = True
    restrict_to_remotes = True
    [process]
    process_list_path = /etc/masakarimonitors/process_list.yaml
    """

WITH_EVERYTHING = """
    [DEFAULT]
    host = compute-a
    hostname = compute-b
    log_dir = /var/log/masakari
    use_syslog = False
    logging_exception_prefix = %(color)s%(asctime)s TRACE
    rpc_response_timeout = 60
    graceful_shutdown_timeout = 5
    [api]
    region = Hanoi
    api_version = v1
    api_interface = internal
    auth_type = password
    auth_url = https://keystone.example/identity/v3
    user_domain_id = u1
    user_domain_name = users
    project_domain_name = projects
    project_name = service
    username = masakari
    password = Welcome123
    cafile = /etc/ssl/cloud.pem
    insecure = false
    [callback]
    retry_max = 7
    retry_interval = 3
    [consul]
    agent_manage = 192.0.2.1:8500
    [host]
    monitoring_samples = 4
    monitoring_interval = 45
    api_retry_max = 11
    api_retry_interval = 6
    disable_ipmi_check = false
    restrict_to_remotes = false
    corosync_multicast_interfaces = enp0s3,enp0s8
    corosync_multicast_ports = 5405,5406
    tcpdump_timeout = 5
    ipmi_timeout = 8
    ipmi_retry_max = 2
    ipmi_retry_interval = 9
    pacemaker_node_type = autodetect
    [introspectiveinstancemonitor]
    guest_monitoring_interval = 10
    [libvirt]
    connection_uri = qemu:///system
    [oslo_middleware]
    max_request_body_size = 114688
    [process]
    check_interval = 6
    restart_retries = 2
    restart_interval = 4
    api_retry_max = 13
    api_retry_interval = 12
    process_list_path = /etc/masakarimonitors/process_list.yaml
    """

MONITORS = [hostmonitor.config, instancemonitor.config, processmonitor.config]

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(text: str) -> str:
        path = tmp_path / "masakarimonitors.conf"
        path.write_text(textwrap.dedent(text))
        return str(path)

    return make


def problems(load: Callable[[str], Any], path: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path)
    return [problem.removeprefix(path) for problem in caught.value.problems]


@pytest.mark.parametrize("monitor", MONITORS)
def test_the_file_of_the_guide_is_all_that_a_monitor_needs(monitor: Any, write: Write) -> None:
    settings, warnings = monitor.load(write(AS_THE_GUIDE_WRITES_IT))
    api = settings.api
    assert (api.auth_url, api.username, api.password) == ("http://192.168.10.238:5000", "masakari", PASSWORD)
    assert (api.region, api.api_interface, settings.region_id) == ("Hanoi", "public", "Hanoi")
    assert request(api) == {
        "identity": {
            "methods": ["password"],
            "password": {"user": {"name": "masakari", "password": PASSWORD, "domain": {"name": "default"}}},
        },
        "scope": {"project": {"name": "service", "domain": {"id": "default"}}},
    }
    assert settings.identity.hostname == node.hostname()
    assert settings.debug
    assert "not signed" not in str(warnings), "nobody expects a signature there"


@pytest.mark.parametrize("monitor", MONITORS)
def test_what_is_not_used_of_it_is_named_once_with_the_reason(monitor: Any, write: Write) -> None:
    path = write(AS_THE_GUIDE_WRITES_IT)
    told = [warning.removeprefix(path) for warning in monitor.load(path)[1]]
    named = [text for text in told if "not used" in text or "no effect" in text]
    expected = [
        ":4: [DEFAULT] transport_url: has no effect any more: the monitors use no message bus",
        ":13: [keystone_authtoken] is not used: the account that the monitors sign in with is that of [api]",
    ]
    if monitor is hostmonitor.config:
        expected.append(":27: [host] monitoring_driver: has no effect any more: pacemaker is all that is watched")
    assert sorted(named) == sorted(expected)


def test_each_monitor_takes_its_own_of_it(write: Write) -> None:
    path = write(AS_THE_GUIDE_WRITES_IT)
    host = hostmonitor.config.load(path)[0]
    assert host.environments.monitor_interval == 10
    assert host.environments.restrict_to_remotes and host.believes_blindly
    assert instancemonitor.config.load(path)[0].libvirt.connection_uri == "qemu+tcp://192.168.10.159/system"
    process = processmonitor.config.load(path)[0].process
    assert process.process_list_path == "/etc/masakarimonitors/process_list.yaml"


def test_every_option_that_can_be_used_means_what_it_meant(write: Write) -> None:
    path = write(WITH_EVERYTHING)
    host = hostmonitor.config.load(path)[0]
    main = host.environments
    assert (main.monitoring_samples, main.monitor_interval, main.tcpdump_timeout) == (4, 45, 5)
    assert (host.rules.timeout_s, host.rules.retry_max, host.rules.retry_interval_s) == (8, 2, 9)
    assert (host.delivery.retry, host.delivery.interval_s) == (11, 6)
    instance = instancemonitor.config.load(path)[0]
    assert (instance.delivery.retry, instance.delivery.interval_s) == (7, 3)
    watched = processmonitor.config.load(path)[0]
    process = watched.process
    assert (process.process_check_interval, process.process_reboot_retry, process.reboot_interval) == (6, 2, 4)
    assert (watched.delivery.retry, watched.delivery.interval_s) == (13, 12)
    assert {settings.identity.hostname for settings in (host, instance, watched)} == {"compute-b"}
    api = instance.api
    assert api and (api.api_interface, api.cafile) == ("internal", "/etc/ssl/cloud.pem")
    assert request(api)["identity"]["password"]["user"]["domain"] == {"id": "u1"}
    assert request(api)["scope"]["project"]["domain"] == {"name": "projects"}


@pytest.mark.parametrize("monitor", MONITORS)
def test_every_other_option_is_named_and_keeps_no_monitor_from_starting(monitor: Any, write: Write) -> None:
    path = write(WITH_EVERYTHING)
    warnings = [warning.removeprefix(path) for warning in monitor.load(path)[1]]
    for name in (
        *("[DEFAULT] log_dir", "[DEFAULT] use_syslog", "[DEFAULT] logging_exception_prefix"),
        *("[DEFAULT] rpc_response_timeout", "[DEFAULT] graceful_shutdown_timeout", "[api] insecure"),
        *("[consul]", "[introspectiveinstancemonitor]", "[oslo_middleware]"),
    ):
        (told,) = [text for text in warnings if f": {name}" in text]
        assert len(told.rsplit(": ", 1)[1].split()) > 3, "with a reason"


@pytest.mark.parametrize(
    ("monitor", "section", "url"),
    [
        (hostmonitor.config, "host", "url"),
        (instancemonitor.config, "callback", "url"),
        (processmonitor.config, "process", "resource_manager_url"),
    ],
)
def test_a_url_of_ours_goes_before_the_account(monitor: Any, section: str, url: str, write: Write) -> None:
    text = textwrap.dedent(WITH_EVERYTHING).replace(f"[{section}]\n", f"[{section}]\n{url} = http://192.0.2.1:15868\n")
    settings, warnings = monitor.load(write(text))
    assert (settings.api, settings.delivery.urls) == (None, ("http://192.0.2.1:15868",))
    assert len([text for text in warnings if f"[api] is not used: reports go to {url} in" in text]) == 1
    assert "not signed" in str(warnings)


def test_a_host_name_of_ours_goes_before_theirs(write: Write) -> None:
    text = textwrap.dedent(WITH_EVERYTHING).replace("[callback]\n", "[callback]\nhostname = compute-c\n")
    assert instancemonitor.config.load(write(text))[0].identity.hostname == "compute-c"


def test_a_region_and_authorities_of_ours_go_before_theirs(write: Write) -> None:
    own = "[callback]\nregionID = North\nca_bundle = /etc/ssl/own.pem\n"
    text = textwrap.dedent(WITH_EVERYTHING).replace("[callback]\n", own)
    settings = instancemonitor.config.load(write(text))[0]
    assert settings.region_id == "North"
    assert settings.api and (settings.api.region, settings.api.cafile) == ("Hanoi", "/etc/ssl/own.pem")


def test_what_is_missing_to_sign_in_is_told_at_once(write: Write) -> None:
    path = write("[api]\nregion = Hanoi\nauth_url = controller:5000\n[libvirt]\nconnection_uri = qemu:///system\n")
    assert problems(instancemonitor.config.load, path) == [
        ":1: [api] username: is missing",
        ":1: [api] password: is missing",
        ":1: [api] project_name: is missing",
        ":3: [api] auth_url: must be a URL that begins with http:// or https://, without user and password, "
        "not 'controller:5000'",
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("auth_type = v3applicationcredential", "must be password, not"),
        ("api_version = v2", "must be v1, not"),
        ("pasword = x", "unknown option; did you mean password?"),
    ],
)
def test_what_can_not_be_done_is_no_warning(line: str, problem: str, write: Write) -> None:
    text = textwrap.dedent(AS_THE_GUIDE_WRITES_IT).replace("[api]\n", f"[api]\n{line}\n")
    (told,) = problems(instancemonitor.config.load, write(text))
    assert problem in told


@pytest.mark.parametrize("monitor", MONITORS)
def test_the_password_is_kept_out_of_everything_that_is_said(monitor: Any, write: Write) -> None:
    settings, warnings = monitor.load(write(AS_THE_GUIDE_WRITES_IT))
    assert PASSWORD not in repr(settings) + str(warnings)
    redactor = Redactor()
    redactor.hide(*loaded(settings, warnings).secrets)
    assert redactor.clean(f"the server said {PASSWORD}") == "the server said ***"


def test_without_url_and_account_the_url_is_missing(write: Write) -> None:
    path = write("[DEFAULT]\ndebug = yes\n[libvirt]\nconnection_uri = qemu:///system\n")
    assert problems(instancemonitor.config.load, path) == [": [callback] url: is missing"]


def test_an_account_without_domains_is_in_the_default_one() -> None:
    made = request(Api(auth_url="http://k", username="u", password="p", project_id="4"))
    assert made["identity"]["password"]["user"]["domain"] == {"id": "default"}
    assert made["scope"] == {"project": {"id": "4"}}
