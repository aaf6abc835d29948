"""Hosts that die, and hosts that only seem to, on a real cluster with real fencing: who is evacuated, and who is not."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from hostmonitor import alerts
from hostmonitor.crm_xml import parse
from masakari.common.clock import Clock
from tests.lab.cluster import NodeDown, PrivateCluster
from tests.lab.cluster_stage import ClusterStage
from tests.lab.mariadb import until

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_cluster, pytest.mark.needs_ipmi]

PIPE = "/run/masakari/hostmonitor.alert"
SETTLED_WITHIN_S = 90.0
CALM_S = 2.0
"""A fencing that failed is tried again, at once as a rule."""

MakeStage = Callable[..., ClusterStage]


@pytest.fixture(scope="module")
def cluster() -> Iterator[PrivateCluster]:
    """Three nodes; pacemaker fences with "off", and tells the monitors what happens."""
    with PrivateCluster(3, fencing="off", token_ms=500) as made:
        alerts.register(PIPE, Clock(), prefix=made.prefix("node1"))
        yield made


@pytest.fixture
def make_stage(cluster: PrivateCluster, tmp_path: Path) -> Iterator[MakeStage]:
    """Makes the one stage of a test; afterwards every node is well again."""
    with ExitStack() as stack:
        stack.callback(mend, cluster)

        def make(on: PrivateCluster = cluster, **options: Any) -> ClusterStage:
            options = {"monitor_interval": 3, "ipmi_retry_max": 1, "tcpdump_timeout": 2, **options}
            return stack.enter_context(ClusterStage(tmp_path, on, **options))

        yield make


def mend(cluster: PrivateCluster) -> None:
    """Every BMC obeys, every node is online, and pacemaker wants to fence none."""
    for name in cluster.names:
        cluster.bmc(name).refuse(False)
    calm_since: float | None = None

    def is_calm() -> bool:
        nonlocal calm_since
        with suppress(NodeDown):
            cluster.repair()
            if not is_fencing(cluster):
                calm_since = calm_since or time.monotonic()
                return time.monotonic() > calm_since + CALM_S
        calm_since = None
        return False

    until(is_calm, SETTLED_WITHIN_S, lambda: "pacemaker goes on fencing")


def is_fencing(cluster: PrivateCluster) -> bool:
    """Whether a fencing is under way, or wanted."""
    view = parse(cluster.run("node1", "crm_mon", "-1", "--output-as=xml").stdout)
    return any(node.unclean for node in view.nodes) or any(event.status == "pending" for event in view.fence_events)


@pytest.fixture
def stage(make_stage: MakeStage) -> ClusterStage:
    made = make_stage()
    made.until_seen_by(*made.monitors)
    return made


def first_request_s(stage: ClusterStage, node: str) -> float:
    """From the moment that the proof was on the controller's disk to its first evacuate request."""
    proven_at = min(
        row["received_at"] for row in stage.stored.failures_of(node) if row["notification_detail"] == "2"
    )
    requests = [row["at"] for row in stage.stored.journal(node) if row["kind"] == "intent" and "evacuate" in row["what"]]
    return float(min(requests)) - float(proven_at)


def is_held(stage: ClusterStage, node: str, detail: str) -> bool:
    """Whether there is a held recovery of the node, with a report of this detail, and nova-compute is disabled."""
    details = {row["notification_detail"] for row in stage.stored.failures_of(node)}
    held = stage.open_recovery(node).get("status") == "held"
    return held and detail in details and not stage.cloud.state()["hosts"][node]["enabled"]


def sentinel(stage: ClusterStage, node: str = "node3") -> None:
    """A real failure is made and found: what was not reported before it, is not going to be."""
    stage.cluster.crash(node, power_off=True)
    stage.until(lambda: stage.is_evacuated(node), f"{node} is not evacuated")


# Dead


def test_a_crashed_node_is_fenced_and_exactly_its_instances_are_evacuated_once(stage: ClusterStage) -> None:
    stage.cluster.crash("node3")
    stage.until(lambda: stage.is_evacuated("node3"), "not evacuated")
    assert first_request_s(stage, "node3") < 1.0
    stage.assert_safe("node3")
    # An observer whose proof comes after all is done finds that nothing is left to do.
    assert [row["reason"] for row in stage.stored.all_recoveries()[1:] if row["reason"] != "nothing there"] == []
    reports = stage.stored.failures_of("node3")
    assert {row["observer"] for row in reports} == {"node1", "node2"}
    proofs = [entry for row in reports for entry in row["fields"]["evidence"] if entry["kind"] == "fenced"]
    assert proofs and all("off of node3" in entry["detail"] for entry in proofs)
    assert all(row["fields"]["last_alive"] for row in reports)


def test_the_node_that_decides_for_all_may_be_the_one_that_dies(stage: ClusterStage) -> None:
    dc = next(name for name in stage.cluster.names if "node" in name and is_dc(stage.cluster, name))
    stage.cluster.crash(dc, power_off=True)
    stage.until(lambda: stage.is_evacuated(dc), "not evacuated")
    stage.assert_safe(dc)


def is_dc(cluster: PrivateCluster, name: str) -> bool:
    return f"dc-uuid=\"{cluster.names.index(name) + 1}\"" in cluster.run(name, "cibadmin", "--query").stdout


def test_without_alerts_the_poll_finds_it(make_stage: MakeStage) -> None:
    stage = make_stage(monitor_interval=1, alert_pipe="/run/masakari/elsewhere")
    stage.until_seen_by(*stage.monitors)
    stage.cluster.crash("node3", power_off=True)
    stage.until(lambda: stage.is_evacuated("node3"), "not evacuated")
    stage.assert_safe("node3")


def test_an_alert_is_acted_on_long_before_the_poll(make_stage: MakeStage) -> None:
    stage = make_stage(monitor_interval=300)
    stage.until_seen_by(*stage.monitors)
    stage.cluster.crash("node3", power_off=True)
    stage.until(lambda: stage.is_evacuated("node3"), "not evacuated", within_s=30)


def test_an_observer_that_dies_while_it_reports_costs_nothing(stage: ClusterStage) -> None:
    one = stage.monitors["node1"]
    stage.cluster.crash("node3", power_off=True)
    stage.until(lambda: "node3" in one.read_state().get("records", {}) and one.read_state()["records"]["node3"]["failure"], "")
    one.kill()
    stage.until(lambda: stage.is_evacuated("node3"), "not evacuated")
    one.start()
    one.until_says("watches the other nodes")
    stage.until(lambda: len(one.waiting()) == 0 and stage.stored.of_host("node1")[1:], "it doesn't work on")
    stage.assert_safe("node3")
    moved = [row for row in stage.cloud.state()["migrations"] if row["instance"] in stage.guests["node3"]]
    assert len(moved) == len(stage.guests["node3"])


def test_a_node_that_dies_while_all_monitors_are_down_is_reported_at_their_start(stage: ClusterStage) -> None:
    for name in ("node1", "node2"):
        stage.monitors[name].kill()
    stage.cluster.crash("node3", power_off=True)
    stage.until(lambda: "node3" not in stage.cluster.online("node1"), "pacemaker has not noticed")
    assert stage.stored.failures_of("node3") == []
    stage.monitors["node1"].start()
    stage.until(lambda: stage.is_evacuated("node3"), "not evacuated")
    stage.assert_safe("node3")


# Cut off, or only lost to the others


def test_a_node_that_is_cut_off_reports_nothing_dies_by_fencing_and_is_evacuated(stage: ClusterStage) -> None:
    stage.cluster.partition("node3", silent=True)
    stage.until(lambda: not stage.cluster.is_up("node3"), "not fenced")
    stage.until(lambda: stage.is_evacuated("node3"), "not evacuated")
    stage.assert_safe("node3")
    assert {row["hostname"] for row in stage.stored.all_recoveries()} == {"node3"}


def test_who_can_not_be_fenced_is_held_and_comes_back_without_harm(stage: ClusterStage) -> None:
    stage.cluster.bmc("node3").refuse()
    stage.cluster.partition("node3")
    stage.until(lambda: is_held(stage, "node3", "4"), "not held")
    stage.monitors["node3"].until_says("nothing is reported for now")
    assert not any(row["observer"] == "node3" for name in ("node1", "node2") for row in stage.stored.failures_of(name))
    stage.cluster.heal("node3")
    stage.until(lambda: not stage.open_recovery("node3"), "the recovery of a node that is well does not end")
    stage.until(lambda: stage.cloud.state()["hosts"]["node3"]["enabled"], "its disable is not undone")
    stage.assert_safe()


def test_corosync_killed_on_a_live_node_is_held_until_it_is_fenced(stage: ClusterStage) -> None:
    stage.cluster.bmc("node3").refuse()
    stage.cluster.signal("node3", "corosync", signal.SIGKILL)
    stage.until(lambda: is_held(stage, "node3", "4"), "not held")
    stage.assert_safe()
    stage.cluster.bmc("node3").refuse(False)
    stage.until(lambda: not stage.cluster.is_up("node3"), "not fenced")
    stage.until(lambda: stage.is_evacuated("node3"), "not evacuated")
    stage.assert_safe("node3")


def test_a_silent_bmc_proves_nothing(stage: ClusterStage) -> None:
    def told() -> list[str]:
        reports = stage.stored.failures_of("node3")
        return [entry["detail"] for row in reports for entry in row["fields"]["evidence"]]

    with stage.cluster.bmc("node3").silent():
        stage.cluster.crash("node3")
        stage.until(lambda: is_held(stage, "node3", "4"), "not held")
        stage.until(lambda: any("does not answer" in detail for detail in told()), "nobody says why")
        stage.until(lambda: "does not answer" in str(stage.open_recovery("node3").get("reason")), "the hold doesn't say why")
        stage.assert_safe()


def test_a_panic_whose_power_stays_on_is_held_and_the_old_fencing_of_that_node_proves_nothing(stage: ClusterStage) -> None:
    sentinel(stage)
    stage.cluster.repair()
    stage.until(lambda: stage.monitors["node1"].read_state()["records"]["node3"]["state"] == "up", "not seen back")
    evacuations = len(stage.cloud.state()["migrations"])
    stage.cluster.bmc("node3").refuse()
    stage.cluster.partition("node3")
    stage.until(lambda: stage.open_recovery("node3").get("status") == "held", "not held")
    newest = stage.stored.failures_of("node3")[-1]
    assert newest["notification_detail"] in ("3", "4"), newest
    assert len(stage.cloud.state()["migrations"]) == evacuations
    stage.assert_safe("node3")


def test_a_node_that_flaps_is_never_evacuated(stage: ClusterStage) -> None:
    stage.cluster.bmc("node3").refuse()
    for _ in range(2):
        before = len(stage.stored.failures_of("node3"))
        stage.cluster.partition("node3")
        stage.until(lambda before=before: len(stage.stored.failures_of("node3")) > before, "not reported")  # type: ignore[misc]
        stage.cluster.heal("node3")
        stage.until(lambda: not stage.open_recovery("node3"), "the recovery does not end")
    stage.assert_safe()


def test_two_of_three_at_once_leave_nobody_who_could_tell(stage: ClusterStage) -> None:
    stage.cluster.bmc("node2").refuse()
    stage.cluster.bmc("node3").refuse()
    stage.cluster.crash("node2")
    stage.cluster.crash("node3")
    stage.monitors["node1"].until_says("there is no quorum")
    assert stage.stored.failures_of("node2") == stage.stored.failures_of("node3") == []
    stage.assert_safe()


# Planned


def test_what_an_operator_does_is_no_failure(stage: ClusterStage) -> None:
    node1 = stage.monitors["node1"]
    stage.cluster.run("node1", "crm_standby", "--node", "node3", "--update", "on")
    stage.cluster.stop_services("node3")
    node1.until_says("node=node3: is down, no failure (standby)")
    stage.cluster.start_services("node3")
    stage.cluster.run("node1", "crm_standby", "--node", "node3", "--delete")
    stage.until_seen_by("node1", "node2")
    stage.cluster.stop_services("node3")
    node1.until_says("node=node3: is down, no failure (shutdown on purpose)")
    stage.cluster.start_services("node3")
    stage.until_seen_by("node1", "node2")
    stage.cluster.run("node1", "crm_attribute", "--node", "node3", "--name", "maintenance", "--update", "true")
    stage.cluster.stop_services("node3")
    node1.until_says("node=node3: is down, no failure (maintenance)")
    stage.cluster.start_services("node3")
    stage.cluster.run("node1", "crm_attribute", "--node", "node3", "--name", "maintenance", "--delete")
    stage.until_seen_by("node1", "node2")
    assert stage.stored.failures_of("node3") == []
    sentinel(stage)
    stage.assert_safe("node3")


# Life of the daemon


def test_it_stops_in_time_while_pacemaker_hangs(stage: ClusterStage) -> None:
    for program in ("pacemaker-based", "pacemakerd"):
        stage.cluster.signal("node1", program, signal.SIGSTOP)
    monitor = stage.monitors["node1"]
    try:
        began = time.monotonic()
        assert monitor.terminate() == 0
        assert time.monotonic() - began < 5
    finally:
        for program in ("pacemakerd", "pacemaker-based"):
            stage.cluster.signal("node1", program, signal.SIGCONT)
