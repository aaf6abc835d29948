"""Who a node is to the controller, and the files of 2015 and of the guides as they stand there."""

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

ROOT = Path(__file__).resolve().parents[2]
KEY = "[{id}]\nhost = {host}\ncluster_port = 226.94.1.1:5405\nsecret = {secret}\n"
SECRET = "0123456789abcdef{}"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    def make(text: str, name: str = "monitor.conf") -> str:
        path = tmp_path / name
        path.write_text(textwrap.dedent(text))
        path.chmod(0o600)
        return str(path)

    return make


def keys(*hosts: str) -> str:
    made = [KEY.format(id=f"key{n}", host=host, secret=SECRET.format(n)) for n, host in enumerate(hosts)]
    return "\n".join(made)


def problems(load: Callable[[str], Any], path: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path)
    return caught.value.problems


def test_the_instancemonitor_file_of_2015(write: Callable[..., str]) -> None:
    settings, warnings = instancemonitor.config.load(
        write(
            """
            [callback]
            # Event notification destination URL
            url = http://192.0.2.1:15868
            retry = 12
            interval = 10
            # regionID
            regionID=RegionOne
            log_level = info
            log_facility = local0
            retry_timeout = 10
            """
        )
    )
    assert settings.delivery.urls == ("http://192.0.2.1:15868",)
    assert (settings.delivery.retry, settings.delivery.interval_s, settings.delivery.timeout_s) == (12, 10, 10)
    assert settings.callback.regionID == "RegionOne"
    assert settings.libvirt.connection_uri == "qemu:///system"
    assert settings.identity.hostname == node.hostname()
    assert any("log_facility" in warning for warning in warnings)
    assert any("not signed" in warning for warning in warnings)


def test_the_processmonitor_file_of_2015(write: Callable[..., str]) -> None:
    settings, _ = processmonitor.config.load(
        write(
            """
            RESOURCE_MANAGER_URL="http://192.0.2.1:15868"
            PROCESS_CHECK_INTERVAL=5
            PROCESS_REBOOT_RETRY=3
            REBOOT_INTERVAL=5
            RESOURCE_MANAGER_SEND_TIMEOUT=10
            RESOURCE_MANAGER_SEND_RETRY=12
            RESOURCE_MANAGER_SEND_DELAY=10
            RESOURCE_MANAGER_SEND_RETRY_TIMEOUT=120
            REGION_ID=RegionOne
            LOG_LEVEL="debug"
            """
        )
    )
    process = settings.process
    assert (process.process_check_interval, process.process_reboot_retry, process.reboot_interval) == (5, 3, 5)
    assert settings.delivery.alarm_after_s == 120
    assert (process.region_id, process.log_level) == ("RegionOne", "debug")


def test_the_processmonitor_file_of_the_guide(write: Callable[..., str]) -> None:
    """Its account in Keystone has no use, which is told; the address of the controller is what it lacks."""
    text = """
        PROCESS_CHECK_INTERVAL=5
        PROCESS_REBOOT_RETRY=3
        REBOOT_INTERVAL=5
        MASAKARI_API_SEND_TIMEOUT=11
        MASAKARI_API_SEND_RETRY=13
        MASAKARI_API_SEND_DELAY=9
        LOG_LEVEL="debug"
        DOMAIN="Default"
        PROJECT="admin"
        ADMIN_USER="admin"
        ADMIN_PASS="not a secret"
        AUTH_URL="http://192.0.2.1:5000/"
        REGION="Hanoi"
        """
    path = write(text)
    assert problems(processmonitor.config.load, path) == [f"{path}: RESOURCE_MANAGER_URL: is missing"]
    settings, warnings = processmonitor.config.load(
        write('RESOURCE_MANAGER_URL="http://192.0.2.1:15868"\n' + textwrap.dedent(text))
    )
    delivery = settings.delivery
    assert (delivery.timeout_s, delivery.retry, delivery.interval_s, settings.process.region_id) == (11, 13, 9, "Hanoi")
    assert [
        name for name in ("DOMAIN", "PROJECT", "ADMIN_USER", "ADMIN_PASS", "AUTH_URL") if name not in str(warnings)
    ] == []
    assert "not a secret" not in str(warnings)


MASAKARIMONITORS = """
    [DEFAULT]
    debug = True
    transport_url = rabbit://openstack:x@192.0.2.1:5672
    [api]
    region = Hanoi
    password = x
    [keystone_authtoken]
    password = x
    [libvirt]
    connection_uri = "qemu+tcp://192.0.2.2/system"
    [host]
    monitoring_driver = default
    disable_ipmi_check = True
    restrict_to_remotes = True
    [process]
    process_list_path = /etc/masakarimonitors/process_list.yaml
    {process}
    """


def test_the_common_file_of_the_guide_serves_both_monitors(write: Callable[..., str]) -> None:
    process = "url = http://192.0.2.1:15868\n    [callback]\n    url = http://192.0.2.1:15868, http://192.0.2.9:15868/"
    path = write(MASAKARIMONITORS.format(process=process))
    instance, warnings = instancemonitor.config.load(path)
    assert instance.libvirt.connection_uri == "qemu+tcp://192.0.2.2/system"
    assert instance.delivery.urls == ("http://192.0.2.1:15868", "http://192.0.2.9:15868/")
    assert instance.debug
    assert [word for word in ("transport_url", "[api]", "[keystone_authtoken]") if word not in str(warnings)] == []
    watched, _ = processmonitor.config.load(path)
    assert watched.process.process_list_path == "/etc/masakarimonitors/process_list.yaml"


def test_the_key_says_who_this_host_is(write: Callable[..., str]) -> None:
    key_file = write(keys("compute7"), "key.conf")
    conf = f"[callback]\nurl = http://192.0.2.1:15868\nkey_file = {key_file}\n"
    identity = instancemonitor.config.load(write(conf))[0].identity
    assert (identity.hostname, identity.cluster_port, identity.key_id) == ("compute7", "226.94.1.1:5405", "key0")
    assert SECRET.format(0) not in repr(identity)


def test_while_keys_are_exchanged_the_newer_one_signs(write: Callable[..., str]) -> None:
    key_file = write(keys("compute7", "compute7"), "key.conf")
    conf = f"[callback]\nurl = http://192.0.2.1:15868\nkey_file = {key_file}\n"
    assert instancemonitor.config.load(write(conf))[0].identity.key_id == "key1"


def test_what_is_wrong_with_a_key_is_told_with_everything_else(write: Callable[..., str]) -> None:
    both = write(keys("compute7", "compute8"), "key.conf")
    path = write(f"[callback]\nkey_file = {both}\ninterval = no\n[events]\nreport = process_crash, crashes\n")
    assert problems(instancemonitor.config.load, path) == [
        f"{path}:1: [callback] url: is missing",
        f"{path}:2: [callback] key_file: {both} has keys of compute7, compute8; a node has its own key alone",
        f"{path}:3: [callback] interval: must be a number from 0.1 to 3600, not 'no'",
        f"{path}:5: [events] report: must be words separated by commas, of: "
        + ", ".join(instancemonitor.config.KINDS)
        + ", not 'process_crash, crashes'",
    ]
    missing = write("[callback]\nurl = http://192.0.2.1:15868\nkey_file = /nowhere/key.conf\n")
    assert problems(instancemonitor.config.load, missing) == [
        "/nowhere/key.conf: can't be read: No such file or directory"
    ]
    other = write(keys("compute7"), "key.conf")
    wrong = write(f"[callback]\nurl = http://192.0.2.1:15868\nkey_file = {other}\nhostname = compute1\n")
    assert problems(instancemonitor.config.load, wrong) == [
        f"{wrong}:4: [callback] hostname: the key in {other} is that of compute7, not of compute1"
    ]


@pytest.mark.parametrize(
    ("page", "made"),
    [
        ("docs/hostmonitor.md", hostmonitor.config.render_docs),
        ("docs/instancemonitor.md", instancemonitor.config.render_docs),
        ("docs/processmonitor.md", processmonitor.config.render_docs),
    ],
)
def test_the_documentation_has_the_options_as_they_are(page: str, made: Callable[[], str]) -> None:
    assert (ROOT / page).read_text().endswith("\n\n" + made())


@pytest.mark.parametrize("monitor", [hostmonitor.config, instancemonitor.config, processmonitor.config])
def test_the_sample_is_made_of_the_settings_and_loads_once_filled_in(monitor: Any, write: Callable[..., str]) -> None:
    name = monitor.__name__.split(".")[0]
    sample = (ROOT / "etc" / name / f"{name}.conf").read_text()
    assert sample == monitor.render_sample()
    assert any("placeholder" in problem for problem in problems(monitor.load, write(sample)))
    settings, _ = monitor.load(write(sample.replace("<", "").replace(">", "")))
    assert settings.delivery.urls == ("http://controller:15868",)


def test_a_password_in_a_url_is_not_repeated(write: Callable[..., str]) -> None:
    (problem,) = problems(
        instancemonitor.config.load, write("[callback]\nurl = http://admin:hunter2@controller:15868\n")
    )
    assert "without user and password" in problem and "controller:15868" in problem
    assert "hunter2" not in problem and "admin" not in problem
