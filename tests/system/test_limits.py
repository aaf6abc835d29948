"""What the units forbid must not be what the monitors need: real pacemaker, corosync and libvirt, asked from within the units."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.mariadb import until
from tests.system.machine import Machine

COROSYNC = """totem {
 version: 2
 cluster_name: lab
 transport: knet
 crypto_cipher: none
 crypto_hash: none
}
system {
 sched_rr: no
}
quorum {
 provider: corosync_votequorum
}
nodelist {
 node {
  ring0_addr: 127.0.0.1
  name: %s
  nodeid: 1
 }
}
logging {
 to_syslog: yes
}
"""
TOOLS = (
    "crm_mon --output-as=xml -1",
    "cibadmin --query",
    "crm_node -n",
    "corosync-cmapctl",
    "corosync-quorumtool -s -i",
    "(sleep 1; echo >/dev/udp/127.0.0.1/9) & timeout 10 tcpdump -i any -n -p -c 1 --immediate-mode udp port 9",
    "cat /proc/sys/kernel/random/boot_id",
)
WITHIN_S = 60


@pytest.fixture(scope="module")
def node(machine: Machine) -> Iterator[Machine]:
    """The machine with libvirt and a cluster of its own, of one node."""
    machine.run("apt-get", "install", "-y", "--no-install-recommends", "pacemaker", "corosync", "pacemaker-cli-utils")
    machine.run("apt-get", "install", "-y", "--no-install-recommends", "tcpdump", "libvirt-daemon-system")
    machine.container.write("/etc/corosync/corosync.conf", COROSYNC % machine.run("uname", "-n").strip())
    machine.run("systemctl", "restart", "corosync", "pacemaker")
    until(
        lambda: machine.container.ran("crm_node", "-n").returncode == 0,
        WITHIN_S,
        lambda: machine.run("journalctl", "--no-pager", "--unit", "pacemaker"),
    )
    yield machine


def within(machine: Machine, service: str, commands: tuple[str, ...]) -> str:
    """Run commands with everything the unit of a service allows and forbids; what they print, each one's status behind it."""
    lines = "\n".join(f"{command} 2>&1 | tail -n 3; echo '{command}:' ${{PIPESTATUS[0]}}" for command in commands)
    machine.container.write("/usr/local/bin/within", f"#!/bin/bash\n{lines}\n", 0o755)
    folder = f"/run/systemd/system/{service}.service.d"
    machine.run("mkdir", "-p", folder)
    oneshot = "[Service]\nType=oneshot\nWatchdogSec=0\nRestart=no\nExecStart=\nExecStart=/usr/local/bin/within\n"
    machine.container.write(f"{folder}/within.conf", oneshot)
    machine.run("systemctl", "daemon-reload")
    try:
        machine.run("systemctl", "stop", service)
        machine.run("systemctl", "start", service)
        return machine.run("journalctl", "--no-pager", "--output", "cat", "--unit", service, "--lines", "100")
    finally:
        machine.run("rm", "-r", folder)
        machine.run("systemctl", "daemon-reload")
        machine.restart(service)


def test_the_hostmonitor_sees_the_cluster_and_every_tool_of_its_answers(node: Machine) -> None:
    until(
        lambda: "cluster_port is 226.94.1.1:5405" in node.journal("masakari-hostmonitor"),
        WITHIN_S,
        lambda: node.journal("masakari-hostmonitor"),
    )
    said = within(node, "masakari-hostmonitor", TOOLS)
    assert [tool for tool in TOOLS if f"{tool}: 0\n" not in said] == [], said


def test_the_hostmonitor_can_write_nothing_of_the_system(node: Machine) -> None:
    said = within(
        node, "masakari-hostmonitor", ("touch /usr/forbidden", "touch /etc/forbidden", "mount -t tmpfs tmpfs /mnt")
    )
    assert "/usr/forbidden: 1\n" in said and "/etc/forbidden: 1\n" in said and "/mnt: 0\n" not in said, said


def test_the_instancemonitor_reaches_libvirt(node: Machine) -> None:
    def connected() -> bool:
        return "instances watched" in node.show("masakari-instancemonitor", "StatusText")

    until(connected, WITHIN_S, lambda: node.journal("masakari-instancemonitor"))


def test_the_controller_can_write_nothing_but_its_own(node: Machine) -> None:
    said = within(
        node,
        "masakari-controller",
        ("touch /var/lib/masakari/controller/own", "touch /var/lib/masakari/forbidden", "cat /etc/shadow"),
    )
    assert "controller/own: 0\n" in said and "masakari/forbidden: 1\n" in said and "/etc/shadow: 1\n" in said, said
