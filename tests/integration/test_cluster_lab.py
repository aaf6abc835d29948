"""The private cluster itself: what is fenced dies, what is switched on boots, and a controller can stand beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from masakari.config import Db
from tests.lab.cluster import PrivateCluster
from tests.lab.mariadb import until
from tests.lab.processes import CloudProcess, ControllerProcess

pytestmark = [pytest.mark.needs_cluster, pytest.mark.needs_ipmi]

FENCED_WITHIN_S = 40.0  # 4 on a machine with nothing else to do, 7 for a remote
BACK_WITHIN_S = 60.0
ASK = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).status)"


@pytest.fixture(scope="module")
def started() -> Iterator[PrivateCluster]:
    with PrivateCluster(fencing="reboot", reboot_takes_s=0.5, remotes=1) as cluster:
        yield cluster


@pytest.fixture
def cluster(started: PrivateCluster) -> PrivateCluster:
    """One whose nodes are all online, whatever the test before did to them."""
    started.repair()
    return started


def boot_id(cluster: PrivateCluster, name: str) -> str:
    return cluster.run(name, "cat", "/proc/sys/kernel/random/boot_id").stdout.strip()


def history(cluster: PrivateCluster, name: str) -> str:
    """Pacemaker's fencing history of a node."""
    return cluster.run("node1", "stonith_admin", "--history", name, "--verbose").stdout


@contextmanager
def fenced(cluster: PrivateCluster, name: str) -> Iterator[None]:
    """What is done in here has a node fenced, which is waited for."""

    def times() -> int:
        return history(cluster, name).count(f"reboot of {name} successful")

    before = times()
    yield
    until(lambda: times() > before, FENCED_WITHIN_S, lambda: f"not fenced: {history(cluster, name)}")


def wait_back(cluster: PrivateCluster, name: str, before: str) -> None:
    """Until a node has booted by itself, and is online."""
    until(
        lambda: cluster.is_up(name) and boot_id(cluster, name) not in ("", before) and name in cluster.online("node1"),
        BACK_WITHIN_S,
        lambda: f"{name} is not back: {cluster.run('node1', 'crm_mon', '-1').stdout}",
    )


def test_a_node_that_crashes_is_fenced_by_its_bmc_and_boots(cluster: PrivateCluster) -> None:
    before = boot_id(cluster, "node3")
    assert before != boot_id(cluster, "node2")
    with fenced(cluster, "node3"):
        cluster.crash("node3")
        assert cluster.bmc("node3").power == "on"
    wait_back(cluster, "node3", before)
    assert cluster.bmc("node3").power == "on"


def test_a_live_node_that_is_cut_off_is_killed_by_its_fencing(cluster: PrivateCluster) -> None:
    before, pids = boot_id(cluster, "node3"), cluster.pids("node3")
    assert len(pids) > 5
    with fenced(cluster, "node3"):
        cluster.partition("node3", silent=True)
    assert not {pid for pid in pids if Path(f"/proc/{pid}").exists()}
    wait_back(cluster, "node3", before)


def test_a_remote_that_is_killed_goes_down_and_is_fenced(cluster: PrivateCluster) -> None:
    assert "remote1" in cluster.online("node2")
    with fenced(cluster, "remote1"):
        cluster.crash("remote1")
        until(lambda: "remote1" not in cluster.online("node2"), FENCED_WITHIN_S, lambda: "remote1 is still online")
    until(lambda: cluster.is_up("remote1"), BACK_WITHIN_S, lambda: "remote1 doesn't boot")


def test_a_bmc_that_is_switched_off_by_hand_kills_its_node(cluster: PrivateCluster) -> None:
    assert cluster.bmc("node3").guid != cluster.bmc("node2").guid
    cluster.bmc("node3").ipmitool("chassis", "power", "off")
    until(lambda: not cluster.is_up("node3"), FENCED_WITHIN_S, lambda: "node3 lives without power")


def test_a_controller_beside_the_cluster_is_reached_by_the_test_and_by_nodes(
    cluster: PrivateCluster, tmp_path: Path
) -> None:
    db = Db(drivername="sqlite", name=str(tmp_path / "vm_ha.db"))
    outside = cluster.outside
    with (
        CloudProcess(tmp_path, outside=outside) as cloud,
        ControllerProcess(tmp_path / "controller", db, cloud.remote.auth_url, outside=outside) as controller,
    ):
        assert cloud.remote.state()
        assert controller.health()[0] == 200
        asked = cluster.run("node1", "python3", "-c", ASK, f"{controller.node_url}/healthz")
        assert asked.stdout == "200\n", asked.stderr
        controller.kill()
        assert controller.health() == (0, {})
