"""Which BMC a host has: read from pacemaker's stonith resources, and from a file of our own."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from hostmonitor.power import Bmc
from hostmonitor.stonith import Declared, from_cib, from_file
from masakari.common.errors import ConfigError

DATA = Path(__file__).parents[1] / "data/crm_mon"


def pairs(parameters: dict[str, str]) -> str:
    return "".join(f'<nvpair id="x-{name}" name="{name}" value="{value}"/>' for name, value in parameters.items())


def device(name: str, agent: str, /, **parameters: str) -> str:
    attributes = f'<instance_attributes id="{name}-params">{pairs(parameters)}</instance_attributes>'
    return f'<primitive id="{name}" class="stonith" type="{agent}">{attributes}</primitive>'


def cib(*resources: str, more: str = "") -> str:
    lrm = '<status><lrm_resource id="fence-9" class="stonith" type="fence_ipmilan"/></status>'
    configuration = f"<crm_config/><nodes/><resources>{''.join(resources)}</resources><constraints/>{more}"
    return f'<?xml version="1.0"?><cib epoch="9"><configuration>{configuration}</configuration>{lrm}</cib>'


def only(declared: Declared, host: str) -> Bmc:
    assert declared.problems == ()
    (bmc,) = declared.bmcs[host]
    return bmc


def test_fence_ipmilan_as_it_is_set_up_today() -> None:
    found = from_cib(
        cib(
            device(
                "fence-node1",
                "fence_ipmilan",
                ip="10.0.0.1",
                username="admin",
                password="secret",
                lanplus="1",
                cipher="3",
                privlvl="operator",
                ipport="6230",
                pcmk_host_list="node1",
            )
        )
    )
    assert only(found, "node1") == Bmc(
        "10.0.0.1", "admin", "secret", 6230, "lanplus", "3", "operator", source="stonith resource fence-node1"
    )
    assert list(found.bmcs) == ["node1"]


def test_fence_ipmilan_with_the_names_of_2015() -> None:
    old = device(
        "f", "fence_ipmilan", ipaddr="10.0.0.1", login="admin", passwd="secret", auth="md5", pcmk_host_list="node1"
    )
    assert only(from_cib(cib(old)), "node1") == Bmc(
        "10.0.0.1", "admin", "secret", interface="lan", auth="md5", source="stonith resource f"
    )


def test_external_ipmi() -> None:
    parameters = {"hostname": "node1", "ipaddr": "10.0.0.1", "userid": "admin", "passwd": "secret", "priv": "OPERATOR"}
    lan = from_cib(cib(device("f", "external/ipmi", **parameters)))
    assert only(lan, "node1") == Bmc(
        "10.0.0.1", "admin", "secret", interface="lan", privilege="OPERATOR", source="stonith resource f"
    )
    plus = from_cib(cib(device("f", "external/ipmi", **parameters, interface="lanplus", passwd_method="env")))
    assert only(plus, "node1").interface == "lanplus"


@pytest.mark.parametrize(
    ("agent", "interface"),
    [
        ("fence_ilo3", "lanplus"),
        ("fence_ilo4", "lanplus"),
        ("fence_ilo5", "lanplus"),
        ("fence_ipmilanplus", "lanplus"),
        ("fence_idrac", "lan"),
        ("fence_imm", "lan"),
    ],
)
def test_the_other_names_of_the_agent_have_its_defaults(agent: str, interface: str) -> None:
    found = from_cib(cib(device("f", agent, ip="10.0.0.1", password="x", pcmk_host_list="node1")))
    assert only(found, "node1").interface == interface
    given = from_cib(cib(device("f", agent, ip="10.0.0.1", password="x", lanplus="true", pcmk_host_list="node1")))
    assert only(given, "node1").interface == "lanplus"


@pytest.mark.parametrize(
    ("parameters", "hosts"),
    [
        ({"pcmk_host_list": "node1"}, ["node1"]),
        ({"pcmk_host_list": "node1,node1.example.com"}, ["node1", "node1.example.com"]),
        ({"pcmk_host_list": "node1;node1.example.com"}, ["node1", "node1.example.com"]),
        ({"pcmk_host_map": "node1:bmc-1"}, ["node1"]),
        ({"pcmk_host_map": "node1:1;node1.example.com:1"}, ["node1", "node1.example.com"]),
        ({"pcmk_host_map": "node1=1", "pcmk_host_check": "static-list"}, ["node1"]),
    ],
)
def test_the_hosts_of_a_device(parameters: dict[str, str], hosts: list[str]) -> None:
    found = from_cib(cib(device("f", "fence_ipmilan", ip="10.0.0.1", **parameters)))
    assert list(found.bmcs) == hosts
    assert found.problems == ()


def test_a_list_goes_before_the_hostname_of_external_ipmi() -> None:
    found = from_cib(
        cib(device("f", "external/ipmi", hostname="bmc-1", ipaddr="10.0.0.1", pcmk_host_map="node1:bmc-1"))
    )
    assert list(found.bmcs) == ["node1"]


def test_a_fencing_level_tells_the_host_of_a_device_without_a_list() -> None:
    levels = '<fencing-topology><fencing-level id="l" target="node1" index="1" devices="a,b"/></fencing-topology>'
    a = device("a", "fence_ipmilan", ip="10.0.0.1")
    b = device("b", "fence_ipmilan", ip="10.0.0.2")
    found = from_cib(cib(a, b, more=levels))
    assert [bmc.address for bmc in found.bmcs["node1"]] == ["10.0.0.1", "10.0.0.2"]


def test_a_host_with_several_bmcs_has_them_all() -> None:
    a = device("a", "fence_ipmilan", ip="10.0.0.1", pcmk_host_list="node1")
    b = device("b", "external/ipmi", ipaddr="10.0.1.1", hostname="node1")
    assert [bmc.address for bmc in from_cib(cib(a, b)).bmcs["node1"]] == ["10.0.0.1", "10.0.1.1"]


def test_clones_groups_and_templates_are_seen() -> None:
    a = f'<clone id="c">{device("a", "fence_ipmilan", ip="10.0.0.1", pcmk_host_list="node1")}</clone>'
    b = f'<group id="g">{device("b", "fence_ipmilan", ip="10.0.0.2", pcmk_host_list="node2")}</group>'
    common = pairs({"username": "admin", "password": "secret", "lanplus": "1", "ip": "10.0.0.99"})
    params = f'<instance_attributes id="t-params">{common}</instance_attributes>'
    template = f'<template id="t" class="stonith" type="fence_ipmilan">{params}</template>'
    own = pairs({"ip": "10.0.0.3", "pcmk_host_list": "node3"})
    c = f'<primitive id="c3" template="t"><instance_attributes id="c3-params">{own}</instance_attributes></primitive>'
    found = from_cib(cib(a, b, template, c))
    assert {host: bmc[0].address for host, bmc in found.bmcs.items()} == {
        "node1": "10.0.0.1",
        "node2": "10.0.0.2",
        "node3": "10.0.0.3",
    }
    assert only(found, "node3").password == "secret"


def test_parameters_that_are_referred_to_are_found() -> None:
    shared = (
        f'<instance_attributes id="all">{pairs({"ip": "10.0.0.1", "pcmk_host_list": "node1"})}</instance_attributes>'
    )
    a = f'<primitive id="a" class="stonith" type="fence_ipmilan">{shared}</primitive>'
    b = '<primitive id="b" class="stonith" type="fence_ipmilan"><instance_attributes id-ref="all"/></primitive>'
    assert len(from_cib(cib(a, b)).bmcs["node1"]) == 2


def test_other_resources_are_left_alone() -> None:
    others = [
        '<primitive id="vip" class="ocf" provider="heartbeat" type="IPaddr2"/>',
        device("f", "fence_apc", ip="10.0.0.1", password="lrm://", pcmk_host_list="node1"),
        device("s", "external/ssh", hostlist="node1"),
    ]
    assert from_cib(cib(*others)) == Declared()


FILE_NEEDED = "put the BMC of node1 into /etc/hostmonitor/bmc.conf (mode 0600)"


@pytest.mark.parametrize(
    ("agent", "parameters", "why"),
    [
        ("fence_ipmilan", {"password": "lrm://"}, f"one of pacemaker's secrets, which are kept apart; {FILE_NEEDED}"),
        ("fence_ipmilan", {"password": "*******"}, f"its password is masked; {FILE_NEEDED}"),
        ("external/ipmi", {"passwd": "******"}, f"its password is masked; {FILE_NEEDED}"),
        (
            "external/ipmi",
            {"passwd": "/etc/pw", "passwd_method": "file"},
            f"is in a file, which is not read here; {FILE_NEEDED}",
        ),
        ("fence_ilo4", {"password_script": "/bin/pw"}, f"comes from a script, which is not run here; {FILE_NEEDED}"),
        ("fence_ipmilan", {"target": "0x24"}, "parameter target is not supported, so the power of node1 can't be read"),
        ("fence_ipmilan", {"hexadecimal_kg": "c0ffee"}, "parameter hexadecimal_kg is not supported"),
        ("fence_ipmilan", {"ipport": "ipmi"}, "its ipport 'ipmi' is no port"),
        ("fence_ipmilan", {"ip": ""}, "has no address of a BMC"),
        ("external/ipmi", {"interface": "open"}, "its interface 'open' is not one of lanplus and lan"),
    ],
)
def test_a_device_that_cannot_be_used_is_told_with_the_way_out(
    agent: str, parameters: dict[str, str], why: str
) -> None:
    found = from_cib(cib(device("f1", agent, **{"ip": "10.0.0.1", "pcmk_host_list": "node1", **parameters})))
    assert found.bmcs == {}
    (problem,) = found.problems
    assert problem.startswith(f"stonith resource f1 ({agent}): ")
    assert why in problem
    assert found.unusable == {"node1": (problem,)}
    assert "c0ffee" not in problem


def test_a_device_of_nobody_is_told() -> None:
    found = from_cib(cib(device("f1", "fence_ipmilan", ip="10.0.0.1")))
    assert found.bmcs == {}
    assert found.problems == (
        "stonith resource f1 (fence_ipmilan): the CIB does not say which host it is for; set its pcmk_host_list",
    )


def test_parameters_with_rules_are_not_guessed() -> None:
    rule = '<instance_attributes id="r"><rule id="rr" score="1"/><nvpair id="i" name="ip" value="10.0.0.7"/></instance_attributes>'
    listed = f'<instance_attributes id="s">{pairs({"ip": "10.0.0.1", "pcmk_host_list": "node1"})}</instance_attributes>'
    found = from_cib(cib(f'<primitive id="f" class="stonith" type="fence_ipmilan">{rule}{listed}</primitive>'))
    assert found.bmcs == {}
    assert "depend on rules" in found.problems[0]


def test_a_bmc_of_several_hosts_is_asked_for_none_of_them() -> None:
    shared = device("f", "fence_ipmilan", ip="10.0.0.1", pcmk_host_list="node1 node2")
    own = device("g", "fence_ipmilan", ip="10.0.0.2", pcmk_host_list="node2")
    found = from_cib(cib(shared, own))
    assert {host: [bmc.address for bmc in bmcs] for host, bmcs in found.bmcs.items()} == {"node2": ["10.0.0.2"]}
    assert found.problems == (
        "BMC 10.0.0.1 is named for node1 and node2, so it is asked for none of them; see stonith resource f",
    )
    assert set(found.unusable) == {"node1", "node2"}


def test_two_devices_with_one_address_for_two_hosts_are_the_same_mistake() -> None:
    a = device("a", "fence_ipmilan", ip="bmc.example.com", pcmk_host_list="node1")
    b = device("b", "external/ipmi", ipaddr="BMC.example.com", hostname="node2")
    assert from_cib(cib(a, b)).bmcs == {}
    other_port = device("b", "fence_ipmilan", ip="bmc.example.com", ipport="624", pcmk_host_list="node2")
    assert set(from_cib(cib(a, other_port)).bmcs) == {"node1", "node2"}


@pytest.mark.parametrize("text", ["", "Connection failed", "<cib><configuration>", cib()[:100], "<html/>", "\x00"])
def test_a_cib_that_cannot_be_read_names_no_bmc_and_says_so(text: str) -> None:
    found = from_cib(text)
    assert found.bmcs == {}
    assert "so it names no BMC" in found.problems[0]


def test_no_password_is_in_what_is_shown() -> None:
    found = from_cib(cib(device("f", "fence_ipmilan", ip="10.0.0.1", password="hush-hush", pcmk_host_list="node1")))
    assert only(found, "node1").password == "hush-hush"
    assert "hush" not in repr(found)


def test_a_real_cib_names_the_bmc_of_each_node() -> None:
    found = from_cib((DATA / "fence-01-all-online-remote-online.cib.xml").read_text(encoding="utf-8"))
    assert {host: [bmc.address for bmc in bmcs] for host, bmcs in found.bmcs.items()} == {
        "node1": ["10.77.0.151"],
        "node2": ["10.77.0.152"],
        "node3": ["10.77.0.153"],
        "remote1": ["10.77.0.201"],
    }
    assert found.problems == ()
    assert from_cib((DATA / "nofence-01-all-online.cib.xml").read_text(encoding="utf-8")) == Declared()


# The file


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    def make(text: str, mode: int = 0o600) -> str:
        path = tmp_path / "bmc.conf"
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        path.chmod(mode)
        return str(path)

    return make


def problems(path: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        from_file(path)
    return caught.value.problems


def test_a_file_has_a_section_for_each_bmc(write: Callable[..., str]) -> None:
    path = write("""
        [node1]
        address = 10.0.0.1
        user = admin
        password = "p#ss; word"
        port = 6230
        cipher = 17
        guid = 3C5D1F20-7A4B-4C1E-9F21-0123456789AB

        [second of node1]
        host = node1
        address = 10.0.1.1
        interface = lan
        privilege = operator
    """)
    found, secrets = from_file(path)
    first, second = found.bmcs["node1"]
    guid = "3c5d1f20-7a4b-4c1e-9f21-0123456789ab"
    assert first == Bmc("10.0.0.1", "admin", "p#ss; word", 6230, "lanplus", "17", guid=guid, source=f"{path} [node1]")
    assert (second.address, second.interface, second.privilege) == ("10.0.1.1", "lan", "operator")
    assert secrets == ["p#ss; word"]
    assert found.problems == ()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_file_that_others_may_read_is_refused(write: Callable[..., str], mode: int) -> None:
    path = write("[node1]\naddress = 10.0.0.1\n", mode)
    assert problems(path) == [f"{path}: others may read the secrets (mode {mode:04o}); run: chmod 600 {path}"]


def test_everything_wrong_in_a_file_is_told_at_once_and_no_password_with_it(write: Callable[..., str]) -> None:
    path = write("""
        [node1]
        user = admin
        [node2]
        address = 10.0.0.2
        password = hush-hush-hush-hush-hush
        port = 0
        guid = 1234
        [node 3]
        address = 10.0.0.3
        [node4]
        address = 10.0.0.2
        adress = 10.0.0.4
    """)
    found = problems(path)
    assert found == [
        f"{path}:2: [node1] address: is missing",
        f"{path}:6: [node2] password: must be at most 20 characters long",
        f"{path}:7: [node2] port: must be a whole number from 1 to 65535, not '0'",
        f"{path}:8: [node2] guid: must be a GUID as `ipmitool mc guid` shows it, not '1234'",
        f"{path}:9: [node 3] host: 'node 3' is no host name; set host in this section",
        f"{path}:12: [node4] address: is that of another host, too; every host has its own BMC",
        f"{path}:13: [node4] adress: unknown option; did you mean address?",
    ]
    assert "hush" not in "".join(found)


def test_a_bmc_of_two_hosts_is_refused(write: Callable[..., str]) -> None:
    path = write("[node1]\naddress = 10.0.0.1\n[node2]\naddress = 10.0.0.1\n")
    assert problems(path) == [f"{path}:4: [node2] address: is that of another host, too; every host has its own BMC"]


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert "can't be read" in problems(str(tmp_path / "none"))[0]


def test_what_stands_in_the_file_goes_before_the_cib(write: Callable[..., str]) -> None:
    masked = device("f1", "fence_ipmilan", ip="10.0.0.1", password="lrm://", pcmk_host_list="node1")
    plain = device("f2", "fence_ipmilan", ip="10.0.0.2", password="x", pcmk_host_list="node2")
    other = device("f3", "fence_ipmilan", ip="10.0.0.3", password="lrm://", pcmk_host_list="node3")
    ours, _ = from_file(write("[node1]\naddress = 10.9.9.9\n"))
    both = ours.over(from_cib(cib(masked, plain, other)))
    assert {host: bmcs[0].address for host, bmcs in both.bmcs.items()} == {"node1": "10.9.9.9", "node2": "10.0.0.2"}
    assert list(both.unusable) == ["node3"]
    assert len(both.problems) == 1
