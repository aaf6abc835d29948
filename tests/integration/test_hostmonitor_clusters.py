"""Hosts that die on clusters of other kinds: without fencing, with fencing by reboot, with pacemaker-remote nodes, larger ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hostmonitor import alerts
from masakari.common.clock import Clock
from tests.lab.bmc import PASSWORD, USER
from tests.lab.cluster import PrivateCluster
from tests.lab.cluster_stage import ClusterStage

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_cluster, pytest.mark.needs_ipmi]

PIPE = "/run/masakari/hostmonitor.alert"
OTHER_GUID = "00000000-1111-2222-3333-444444444444"


class House:
    """Makes the one cluster and the one stage of a test."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder

    def stage(self, cluster: PrivateCluster, **options: Any) -> ClusterStage:
        self._stack.enter_context(cluster)
        alerts.register(PIPE, Clock(), prefix=cluster.prefix("node1"))
        options = {"monitor_interval": 2, "ipmi_retry_max": 1, **options}
        stage = self._stack.enter_context(ClusterStage(self._folder, cluster, **options))
        stage.until_seen_by(*(name for name in stage.monitors if name in cluster.names))
        return stage


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with ExitStack() as stack:
        yield House(stack, tmp_path)


def is_dc(cluster: PrivateCluster, name: str) -> bool:
    """Whether this node decides for all, as it is itself told."""
    return f'dc-uuid="{cluster.names.index(name) + 1}"' in cluster.run(name, "cibadmin", "--query").stdout


def held_with(stage: ClusterStage, node: str) -> str:
    """Why the recovery of a node is held; empty while it isn't."""
    recovery = stage.open_recovery(node)
    return str(recovery["reason"]) if recovery.get("status") == "held" else ""


# The guide's cluster: stonith-enabled=false, no-quorum-policy=ignore


def test_with_stonith_off_and_quorum_ignored_nothing_is_evacuated_without_other_proof(house: House) -> None:
    unfenced = PrivateCluster(3, fencing="off", stonith_enabled=False, no_quorum_policy="ignore", token_ms=500)
    stage = house.stage(unfenced)
    for name in ("node1", "node2", "node3"):
        stage.monitors[name].until_says("stonith-enabled=false: pacemaker fences nobody")
        stage.monitors[name].until_says("no-quorum-policy=ignore")

    # A panic: its power stays on.
    unfenced.crash("node3")
    stage.until(lambda: held_with(stage, "node3"), "not held")
    stage.until(lambda: "stonith-enabled" in held_with(stage, "node3"), "the refusal doesn't say what to change")
    stage.assert_safe()

    # The same host loses its power: its BMC is proof enough.
    unfenced.bmc("node3").set_power("off")
    stage.until(lambda: stage.is_evacuated("node3"), "not evacuated")
    stage.assert_safe("node3")

    # Half of what is left: with its quorum ignored this node alone would go on.
    unfenced.partition("node1")
    stage.monitors["node1"].until_says("nothing is reported for now")
    stage.monitors["node2"].until_says("nothing is reported for now")
    assert stage.stored.failures_of("node1") == stage.stored.failures_of("node2") == []
    stage.assert_safe("node3")


def test_the_bmc_of_another_host_proves_nothing(house: House) -> None:
    unfenced = PrivateCluster(3, fencing="off", stonith_enabled=False, token_ms=500)
    stage = house.stage(unfenced)
    wrong = unfenced.bmc("node3")
    section = f"address = 10.77.0.153\nuser = {USER}\npassword = {PASSWORD}\ncipher = 3\nguid = {OTHER_GUID}\n"
    for name in ("node1", "node2"):
        stage.monitors[name].write_bmcs(f"[node3]\n{section}")
        stage.monitors[name].reload()
    unfenced.crash("node3", power_off=True)
    stage.until(lambda: "wrong BMC" in held_with(stage, "node3"), "not held for the wrong BMC")
    assert wrong.power == "off"
    assert {row["notification_detail"] for row in stage.stored.failures_of("node3")} == {"4"}
    stage.assert_safe()


def test_a_wrong_password_is_tried_no_more_than_needed_and_told(house: House) -> None:
    unfenced = PrivateCluster(3, fencing="off", stonith_enabled=False, token_ms=500)
    stage = house.stage(unfenced)
    section = f"address = 10.77.0.153\nuser = {USER}\npassword = mistaken-one\ncipher = 3\n"
    for name in ("node1", "node2"):
        stage.monitors[name].write_bmcs(f"[node3]\n{section}")
        stage.monitors[name].reload()
    unfenced.crash("node3", power_off=True)
    stage.until(lambda: "refuses the password" in held_with(stage, "node3"), "not held for the wrong password")
    for name in ("node1", "node2"):
        assert "mistaken-one" not in stage.monitors[name].said()
    stage.assert_safe()


def test_without_a_check_of_the_power_detail_2_is_claimed_and_believed_by_nobody(house: House) -> None:
    unfenced = PrivateCluster(3, fencing="off", stonith_enabled=False, token_ms=500)
    stage = house.stage(unfenced, stonith_type="ssh")
    stage.monitors["node1"].until_says("stonith_type")
    unfenced.crash("node3", power_off=True)
    stage.until(lambda: held_with(stage, "node3"), "not held")
    reports = stage.stored.failures_of("node3")
    assert {(row["notification_detail"], str(row["fields"]["evidence"])) for row in reports} == {("2", "[]")}
    stage.assert_safe()


# Fenced by reboot


def test_a_node_that_is_fenced_by_reboot_and_comes_back_during_the_evacuation_runs_nothing_twice(house: House) -> None:
    rebooting = PrivateCluster(3, fencing="reboot", reboot_takes_s=0.5, token_ms=500)
    stage = house.stage(rebooting, guests=6)
    rebooting.partition("node3")
    stage.until(lambda: not rebooting.is_up("node3"), "not fenced")
    stage.until(lambda: rebooting.is_up("node3"), "it doesn't boot")
    rebooting.heal("node3")
    rebooting.start_services("node3")
    stage.monitors["node3"].start()
    stage.until(lambda: stage.stored.recoveries_of("node3"), "not reported")
    stage.until(lambda: not stage.open_recovery("node3"), "its recovery doesn't end")
    stage.assert_safe("node3")
    servers = [server for server in stage.cloud.state()["servers"] if server["id"] in stage.guests["node3"]]
    assert {(server["status"], server["task_state"]) for server in servers} == {("ACTIVE", None)}, servers
    running = stage.cloud.running()
    assert all(server["id"] in running[server["host"]] for server in servers)
    stage.until(lambda: is_back(stage, "node3"), "the others don't say that it is back")


def is_back(stage: ClusterStage, node: str) -> bool:
    ups = [row["observer"] for row in stage.stored.of_host(node) if row["notification_eventType"] == "1"]
    return {"node1", "node2"} <= set(ups)


# pacemaker-remote


def test_a_remote_node_that_dies_is_evacuated_and_the_death_of_who_held_its_connection_hurts_none(house: House) -> None:
    cluster = PrivateCluster(3, remotes=2, fencing="off", token_ms=500)
    stage = house.stage(cluster)
    cluster.crash("remote1")
    stage.until(lambda: stage.is_evacuated("remote1"), "not evacuated")
    stage.assert_safe("remote1")

    holder = next(name for name in cluster.names if holds(cluster, name, "remote2"))
    cluster.crash(holder, power_off=True)
    stage.until(lambda: stage.is_evacuated(holder), "not evacuated")
    stage.until(lambda: any(holds(cluster, name, "remote2") for name in cluster.names if name != holder), "not moved")
    assert stage.stored.failures_of("remote2") == []
    stage.assert_safe("remote1", holder)


def holds(cluster: PrivateCluster, name: str, remote: str) -> bool:
    """Whether a node says that the connection to a remote is its own."""
    if not cluster.is_up(name):
        return False
    done = cluster.run(name, "crm_resource", "--resource", remote, "--locate")
    return f"{remote} is running on: {name}" in done.stdout + done.stderr


def test_one_full_member_with_remotes_reports_and_so_does_a_monitor_on_a_remote_node(house: House) -> None:
    cluster = PrivateCluster(1, remotes=3, fencing="off", token_ms=500)
    stage = house.stage(cluster, monitored=["node1", "remote2"], restrict_to_remotes="yes")
    cluster.crash("remote1")
    stage.until(lambda: stage.is_evacuated("remote1"), "not evacuated")
    stage.until(lambda: {row["observer"] for row in stage.stored.failures_of("remote1")} == {"node1", "remote2"}, "one is silent")
    stage.assert_safe("remote1")


# More at once


@pytest.mark.parametrize("with_dc", [False, True])
def test_two_of_five_die_at_once_and_both_are_evacuated(house: House, with_dc: bool) -> None:
    """With the DC among them pacemaker's next DC may take the other one for stopped in order, and doesn't fence it."""
    cluster = PrivateCluster(5, fencing="off", token_ms=1000)
    stage = house.stage(cluster)
    [dc] = [name for name in cluster.names if is_dc(cluster, name)]
    one, other = [name for name in cluster.names if name != dc][-2:]
    one = dc if with_dc else one
    cluster.crash(one, power_off=True)
    cluster.crash(other, power_off=True)
    stage.until(lambda: stage.is_evacuated(one) and stage.is_evacuated(other), "not evacuated")
    stage.assert_safe(one, other)


def test_nothing_is_done_before_as_many_observers_as_asked_for_say_so(house: House) -> None:
    cluster = PrivateCluster(3, fencing="off", token_ms=500)
    stage = house.stage(cluster, controller={"safety__min_observers": 2})
    stage.monitors["node2"].kill()
    cluster.crash("node3", power_off=True)
    stage.until(lambda: "2 observers are needed" in held_with(stage, "node3"), "not held")
    assert stage.cloud.state()["hosts"]["node3"]["enabled"]
    stage.assert_safe()
    stage.monitors["node2"].start()
    stage.until(lambda: stage.is_evacuated("node3"), "not evacuated")
    stage.assert_safe("node3")
