"""The heartbeat line of a real corosync cluster, listened to with the real tcpdump."""

from __future__ import annotations

import re

import pytest

from hostmonitor.corosync import Ring, read_cmap
from hostmonitor.heartbeat import HEARD, SILENT, Heartbeat, Line
from hostmonitor.pacemaker import Pacemaker
from masakari.common.clock import Clock
from tests.lab.cluster import NETWORK, PrivateCluster
from tests.lab.mariadb import until

pytestmark = pytest.mark.needs_cluster

AMPLE_S = 30.0
SILENCE_S = 3.0
SECOND_NETWORK = "10.78.0"


class TwoRings(PrivateCluster):
    """Nodes with a second ring, on a second network of the same cable."""

    def start_services(self, *names: str) -> None:
        first = rf"( ring0_addr: {re.escape(NETWORK)}\.(\d+))"
        for name in names:
            conf = self.disk(name) / "etc/corosync/corosync.conf"
            text = conf.read_text(encoding="utf-8")
            conf.write_text(re.sub(first, rf"\1\n ring1_addr: {SECOND_NETWORK}.\2", text), encoding="utf-8")
            self.second_network("replace", name)
        super().start_services(*names)

    def second_network(self, how: str, name: str) -> None:
        """Give a node its address on the second network (replace), or take it away (del)."""
        address = f"{SECOND_NETWORK}.{self.names.index(name) + 1}/24"
        assert self.run(name, "ip", "address", how, address, "dev", "eth0").returncode == 0


def listen(cluster: PrivateCluster, node: str, timeout_s: float) -> Line:
    """What a node hears on the rings that it has."""
    return Heartbeat(Clock(), prefix=cluster.prefix(node)).listen(rings(cluster, node), timeout_s)


def rings(cluster: PrivateCluster, node: str) -> tuple[Ring, ...]:
    """The rings that a node has, as its corosync tells them."""
    return read_cmap(Pacemaker(Clock(), timeout_s=AMPLE_S, prefix=cluster.prefix(node)).cmap()).rings


def sends(cluster: PrivateCluster, node: str) -> bool:
    """Whether a node still sends something of its own to the others."""
    own = f"udp and src host {NETWORK}.{cluster.names.index(node) + 1}"
    return cluster.run(node, "tcpdump", "-i", "any", "-n", "-p", "-c", "1", own, within_s=AMPLE_S).returncode == 0


@pytest.mark.parametrize("transport", ["udp", "udpu", "knet"])
def test_others_are_heard_until_the_network_is_gone(transport: str) -> None:
    with PrivateCluster(transport=transport, pacemaker=False) as cluster:
        for node in cluster.names:
            assert listen(cluster, node, AMPLE_S) == Line(HEARD)
        for silent in (False, True):
            cluster.partition("node2", silent=silent)
            if silent:
                until(lambda: sends(cluster, "node2"), 6 * AMPLE_S, lambda: "node2 sends nothing")
            assert listen(cluster, "node2", SILENCE_S).state == SILENT
            assert listen(cluster, "node1", AMPLE_S) == Line(HEARD)
            cluster.heal("node2")
            assert listen(cluster, "node2", AMPLE_S) == Line(HEARD)


def test_a_line_is_silent_before_corosync_has_noticed() -> None:
    with PrivateCluster(token_ms=20_000, pacemaker=False) as cluster:
        cluster.partition("node2", silent=True)
        assert listen(cluster, "node2", SILENCE_S).state == SILENT
        assert "Quorate:          Yes" in cluster.run("node2", "corosync-quorumtool", "-s", "-i").stdout


def test_the_silent_ring_of_two_is_named() -> None:
    with TwoRings(transport="knet", pacemaker=False) as cluster:
        assert rings(cluster, "node2") == (Ring(0, f"{NETWORK}.2", 5405), Ring(1, f"{SECOND_NETWORK}.2", 5406))

        def both() -> bool:
            return listen(cluster, "node2", AMPLE_S) == Line(HEARD)

        until(both, AMPLE_S, lambda: "one of the rings is silent, though nothing was done to it")
        for other in ("node1", "node3"):
            cluster.second_network("del", other)
        assert listen(cluster, "node2", AMPLE_S) == Line(
            HEARD, f"ring 1 ({SECOND_NETWORK}.2 port 5406) of the heartbeat line is silent: look at its network"
        )
        cluster.partition("node2", silent=True)
        assert listen(cluster, "node2", SILENCE_S).state == SILENT
