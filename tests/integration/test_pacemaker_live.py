"""The port on a real corosync and pacemaker cluster of three nodes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from hostmonitor.corosync import cluster_port, is_quorate, read_cmap, read_conf
from hostmonitor.crm_xml import parse
from hostmonitor.heartbeat import Heartbeat
from hostmonitor.own import OwnState
from hostmonitor.pacemaker import Pacemaker
from masakari.common.clock import Clock
from masakari.common.errors import Unavailable
from tests.lab.cluster import COVERED, PrivateCluster
from tests.lab.mariadb import until

pytestmark = pytest.mark.needs_cluster

ROOT = Path(__file__).resolve().parents[2]
NODES = {"node1", "node2", "node3"}
SEEN_WITHIN_S = 30.0  # 2.5 on a machine with nothing else to do
TIMEOUT_S = 20.0


class Limits:
    """Settings with the check of the heartbeat line switched on."""

    tcpdump_timeout = 3.0
    stonith_wait = 0.0


HELD = """
import sys
from tests.lab.cluster import PrivateCluster
with PrivateCluster(transport="knet", pacemaker=False) as cluster:
    print(*(pid for name in cluster.names for pid in cluster.pids(name)), flush=True)
    sys.stdin.read()
"""


def port(cluster: PrivateCluster, node: str) -> Pacemaker:
    """The port as it would be on a node."""
    return Pacemaker(Clock(), timeout_s=TIMEOUT_S, prefix=cluster.prefix(node))


def wait_online(asked: Pacemaker, wanted: set[str]) -> None:
    """Until exactly these nodes are online in crm_mon's view."""

    def seen() -> set[str]:
        nodes = ElementTree.fromstring(asked.status()).iterfind("nodes/node")
        return {str(node.get("name")) for node in nodes if node.get("online") == "true"}

    until(lambda: seen() == wanted, SEEN_WITHIN_S, lambda: f"online is not {wanted}, but {seen()}")


def wait_quorate(asked: Pacemaker, wanted: bool) -> None:
    """Until a node is in the part of the cluster that has quorum, or isn't."""
    until(lambda: is_quorate(asked.quorum()) is wanted, SEEN_WITHIN_S, lambda: f"quorate is not {wanted}")


@pytest.mark.parametrize(
    ("transport", "name"), [("udp", "239.255.77.1:5405"), ("udpu", "testcluster"), ("knet", "testcluster")]
)
def test_the_cluster_has_the_same_name_on_every_node(transport: str, name: str) -> None:
    with PrivateCluster(transport=transport, pacemaker=False) as cluster:
        for node in cluster.names:
            written = read_conf((cluster.disk(node) / "etc/corosync/corosync.conf").read_text(encoding="utf-8"))
            running = read_cmap(port(cluster, node).cmap())
            assert cluster_port(written) == cluster_port(running) == name
            assert written.members == running.members == tuple(cluster.names)
            assert (running.own_name, running.transport) == (node, transport)
            wait_quorate(port(cluster, node), True)


def test_nothing_is_left_of_a_cluster_whose_test_is_killed() -> None:
    before = seen_on_this_machine()
    with subprocess.Popen([sys.executable, "-c", HELD], cwd=ROOT, stdin=-1, stdout=-1, text=True) as holder:
        assert holder.stdout
        pids = [int(pid) for pid in holder.stdout.readline().split()]
        assert seen_on_this_machine() == before
        holder.kill()
    assert len(pids) >= 6
    until(lambda: not any(map(runs, pids)), TIMEOUT_S, lambda: f"one of {pids} still runs")
    assert seen_on_this_machine() == before


@pytest.fixture(scope="module")
def started() -> Iterator[PrivateCluster]:
    with PrivateCluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(started: PrivateCluster) -> PrivateCluster:
    """One whose nodes are all online, whatever the test before did to them."""
    started.repair()
    return started


def test_every_node_tells_its_view(cluster: PrivateCluster) -> None:
    for node in cluster.names:
        asked = port(cluster, node)
        assert asked.node_name() == node
        wait_online(asked, NODES)
        assert {str(item.get("uname")) for item in ElementTree.fromstring(asked.cib()).iter("node_state")} == NODES
        until(lambda: asked.controller_state(node) in ("S_IDLE", "S_NOT_DC"), SEEN_WITHIN_S, lambda: "it is unstable")  # noqa: B023


def test_the_crash_of_a_node_becomes_visible(cluster: PrivateCluster) -> None:
    cluster.crash("node3")
    watching = port(cluster, "node1")
    wait_online(watching, {"node1", "node2"})
    wait_quorate(watching, True)
    began = time.monotonic()
    with pytest.raises(Unavailable, match="crmadmin"):
        Pacemaker(Clock(), timeout_s=1.0, prefix=cluster.prefix("node1")).controller_state("node3")
    assert time.monotonic() - began < TIMEOUT_S
    cluster.boot("node3")
    wait_online(watching, NODES)


def test_a_node_that_is_cut_off_has_no_quorum_and_the_others_go_on(cluster: PrivateCluster) -> None:
    cluster.partition("node2", silent=True)
    alone = port(cluster, "node2")
    wait_quorate(alone, False)
    wait_online(alone, {"node2"})
    wait_quorate(port(cluster, "node1"), True)
    cluster.heal("node2")
    cluster.wait_online(*NODES)
    wait_quorate(alone, True)


def test_a_node_whose_own_daemons_stopped_says_so(cluster: PrivateCluster) -> None:
    stopped = port(cluster, "node2")
    cluster.stop_services("node2", corosync=False)
    for ask in (stopped.status, stopped.cib, stopped.node_name, lambda: stopped.controller_state("node2")):
        with pytest.raises(Unavailable, match="pacemaker does not run on this node"):
            ask()
    assert read_cmap(stopped.cmap()).own_name == "node2"
    cluster.stop_services("node2")
    for ask in (stopped.cmap, stopped.quorum):
        with pytest.raises(Unavailable, match="corosync does not run on this node"):
            ask()
    cluster.start_services("node2")
    wait_online(stopped, NODES)


def trouble(cluster: PrivateCluster, node: str) -> str:
    """Why a node's own view is worth nothing, "" if it is worth something, while that view looks well."""
    asked = port(cluster, node)
    heartbeat = Heartbeat(Clock(), prefix=cluster.prefix(node))
    view = parse(port(cluster, "node1").status(), node)
    return OwnState(asked, heartbeat, Clock(), Limits).trouble(view)


def wait_trouble(cluster: PrivateCluster, node: str, wanted: str) -> None:
    """Until the own state of a node is told with these words; "" for none."""

    def told() -> bool:
        text = trouble(cluster, node)
        return wanted in text if wanted else not text

    until(told, SEEN_WITHIN_S, lambda: f"{node}: not {wanted!r}, but {trouble(cluster, node)!r}")


def test_every_node_of_a_healthy_cluster_may_believe_its_view(cluster: PrivateCluster) -> None:
    for node in cluster.names:
        wait_trouble(cluster, node, "")


def test_a_node_that_is_cut_off_or_stopped_does_not_believe_its_view_and_the_others_do(cluster: PrivateCluster) -> None:
    cluster.partition("node2", silent=True)
    wait_trouble(cluster, "node2", "corosync on this node has no quorum")
    wait_trouble(cluster, "node1", "")
    cluster.heal("node2")
    wait_trouble(cluster, "node2", "")
    cluster.stop_services("node2", corosync=False)
    wait_trouble(cluster, "node2", "pacemaker does not run on this node")
    cluster.stop_services("node2")
    wait_trouble(cluster, "node2", "corosync does not run on this node")
    wait_trouble(cluster, "node3", "")


def runs(pid: int) -> bool:
    """Whether a process runs; one that is dead, and not yet waited for, doesn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def seen_on_this_machine() -> tuple[str, list[str], list[Path]]:
    """Its named network namespaces, and the mounts and files in the folders that nodes have of their own."""
    named = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    files = sorted(path for folder in COVERED for path in Path(folder).rglob("*"))
    return named, [mount for mount in mounts if mount.startswith(COVERED)], files
