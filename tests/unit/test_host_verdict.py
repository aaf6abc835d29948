"""What the hostmonitor makes of each state of a cluster: the recorded ones, and those that differ from them in one thing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hostmonitor import fencing
from hostmonitor.crm_xml import parse
from hostmonitor.model import GUEST, REMOTE, FenceEvent, Node, Resource, View
from hostmonitor.verdict import TIED_S, Verdict, judge, worthless

DATA = Path(__file__).resolve().parents[1] / "data" / "crm_mon"
NOW = 1_800_000_000.0

# Every recorded state: the nodes that are not simply up, with state, failed and proven.
EXPECTED: dict[str, dict[str, tuple[str, bool, bool]]] = {
    "fence-01-all-online-remote-online": {},
    "fence-02-crashed-unclean-fencing-pending": {"node3": ("unclean", False, False)},
    "fence-03-fenced-offline": {"node3": ("fenced", True, True)},
    "fence-04-fencing-refused-unclean": {"node3": ("fencing pending", True, False)},
    "fence-05-manually-confirmed-offline": {"node3": ("fenced", True, True)},
    "fence-06-bmc-silent-unclean": {"node3": ("fencing pending", True, False)},
    "fence-07-fenced-at-last": {"node3": ("fenced", True, True)},
    "fence-08-partitioned-unclean-majority-side": {"node3": ("unclean", False, False)},
    "fence-09-partitioned-minority-side": {"node1": ("unclean", False, False), "node2": ("unclean", False, False)},
    "fence-10-rejoining-pending": {"node3": ("pending", False, False)},
    "fence-12-fenced-by-hand-after-give-up": {"node3": ("pending", False, False)},
    "fence-13-corosync-killed-on-live-node-unclean": {"node3": ("unclean", True, False)},
    "fence-15-stopping-shutdown-flag": {"node3": ("shutdown on purpose", False, False)},
    "fence-17-corosync-and-pacemaker-stopped": {"node3": ("shutdown on purpose", False, False)},
    "nofence-01-all-online": {},
    "nofence-02-crashed-not-yet-noticed": {},
    "nofence-03-crashed-offline": {"node3": ("offline", True, False)},
    "nofence-06-pacemaker-stopped-corosync-running": {"node3": ("shutdown on purpose", False, False)},
    "nofence-07-corosync-stopped-too": {"node3": ("shutdown on purpose", False, False)},
    "nofence-08-partition-majority-side": {"node3": ("offline", True, False)},
    "nofence-09-partition-minority-side": {"node1": ("offline", False, False), "node2": ("offline", False, False)},
    "nofence-10-standby-node2": {"node2": ("standby", False, False)},
    "nofence-11-standby-node2-maintenance-node3": {
        "node2": ("standby", False, False),
        "node3": ("maintenance", False, False),
    },
    "nofence-12-crashed-while-in-maintenance": {"node3": ("maintenance", False, False)},
    "nofence-13-cluster-wide-maintenance-mode": {},
    "nofence-15-standby-until-reboot-node2": {"node2": ("standby", False, False)},
    "nofence-16-two-of-three-crashed-no-quorum": {
        "node2": ("offline", False, False),
        "node3": ("offline", False, False),
    },
    "remote-02-crashed-unclean": {"remote1": ("remote fencing pending", True, False)},
    "remote-03-offline-fenced": {"remote1": ("remote fenced", True, True)},
    "remote-04-back-online": {},
    "remote-05-resource-stopped-cleanly": {"remote1": ("remote offline", False, False)},
    "remote-06-standby": {"remote1": ("remote standby", False, False)},
    "remote-07-maintenance": {"remote1": ("remote maintenance", False, False)},
    "remote-08-connection-host-crashed-unclean": {"node1": ("unclean", True, False)},
    "remote-09-connection-moved": {"node1": ("fenced", True, True)},
    "remote-10-fenced-reconnecting-starting": {},
    "remote-11-fenced-reconnecting-started": {},
}

# A CIB holds no fencing history: the same failures, but neither a fencing under way nor the proof of a full member.
CIB = {
    ("fenced", True, True): ("offline", True, False),
    ("fencing pending", True, False): ("unclean", True, False),
    ("remote fencing pending", True, False): ("remote unclean", True, False),
}


def recorded(name: str) -> View:
    return parse((DATA / name).read_text(encoding="utf-8"))


def unusual(verdicts: tuple[Verdict, ...]) -> dict[str, tuple[str, bool, bool]]:
    up = ("online", "remote online")
    return {one.name: (one.state, one.failed, one.proven) for one in verdicts if one.failed or one.state not in up}


def test_every_recorded_state_is_expected_here() -> None:
    assert {path.name.removesuffix(".crm_mon.xml") for path in DATA.glob("*.crm_mon.xml")} == set(EXPECTED)
    assert {path.name.removesuffix(".cib.xml") for path in DATA.glob("*.cib.xml")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_recorded_state_has_its_verdict(name: str) -> None:
    assert unusual(judge(recorded(f"{name}.crm_mon.xml"))) == EXPECTED[name]


@pytest.mark.parametrize("name", EXPECTED)
def test_a_recorded_cib_has_the_same_verdict_without_the_proof(name: str) -> None:
    told = {node: CIB.get(state, state) for node, state in EXPECTED[name].items()}
    assert unusual(judge(recorded(f"{name}.cib.xml"))) == told


@pytest.mark.parametrize("kind", ["crm_mon", "cib"])
@pytest.mark.parametrize("name", ["remote-10-fenced-reconnecting-starting", "remote-11-fenced-reconnecting-started"])
def test_a_remote_that_pacemaker_tries_to_reach_is_not_taken_for_alive(name: str, kind: str) -> None:
    node = recorded(f"{name}.{kind}.xml").node("remote1")
    assert node and node.online and node.starting
    up = recorded(f"fence-01-all-online-remote-online.{kind}.xml").node("remote1")
    assert up and up.online and not up.starting


def member(name: str, **flags: object) -> Node:
    return replace(Node(name, online=True, expected_up=True), **flags)  # type: ignore[arg-type]


def cluster(*nodes: Node, **changed: object) -> View:
    """Three members with quorum and fencing, but for what is changed; node1 asked."""
    others = [member(name) for name in ("node1", "node2", "node3") if name not in {node.name for node in nodes}]
    view = View("crm_mon", NOW, "node1", True, "node2", True, "stop", False, (*others, *nodes))
    return replace(view, **changed)  # type: ignore[arg-type]


def off(target: str, ago_s: float, **changed: object) -> FenceEvent:
    return replace(FenceEvent(target, "off", "success", NOW - ago_s, "node2"), **changed)  # type: ignore[arg-type]


def one(view: View, name: str, **known: object) -> Verdict:
    return next(verdict for verdict in judge(view, **known) if verdict.name == name)  # type: ignore[arg-type]


CRASHED = member("node3", online=False, unclean=True)
DOWN = member("node3", online=False, expected_up=False)
FENCED = cluster(DOWN, fence_events=(off("node3", 5),))
GONE = member("node3", online=False)

DOUBTS = {
    "no quorum": (replace(FENCED, quorate=False), "no quorum"),
    "quorum is not told": (replace(FENCED, quorate=None), "doesn't tell"),
    "no DC": (replace(FENCED, dc=""), "no DC"),
    "the DC is one of the dead": (replace(FENCED, dc="node3"), "contradicts itself"),
    "maintenance-mode": (replace(FENCED, maintenance_mode=True), "maintenance-mode"),
    "pacemaker of the asking node stops": (replace(FENCED, pacemakerd="shutting_down"), "not ready"),
    "the asking node is offline": (replace(FENCED, own="node3"), "itself offline"),
    "the asking node is unknown": (replace(FENCED, own="other"), "unknown to the cluster"),
    "alone among more": (
        cluster(DOWN, member("node2", online=False), dc="node1", fence_events=(off("node3", 5),)),
        "only 1 of 3",
    ),
    "the asking node is unclean": (
        cluster(DOWN, member("node1", unclean=True), fence_events=(off("node3", 5),)),
        "itself unclean",
    ),
}


@pytest.mark.parametrize("doubt", DOUBTS)
def test_in_doubt_nobody_has_failed_and_every_reason_says_why(doubt: str) -> None:
    view, why = DOUBTS[doubt]
    assert [verdict.failed or verdict.proven for verdict in judge(view)] == [False] * len(judge(view))
    assert why in worthless(view)
    assert all(why in verdict.reason for verdict in judge(view) if verdict.state != "unknown to the cluster")


def test_without_doubt_the_same_view_reports_the_fenced_node() -> None:
    assert worthless(FENCED) == ""
    assert one(FENCED, "node3").proven


def test_the_only_full_member_reports_its_remotes() -> None:
    remote = Node("remote1", kind=REMOTE, unclean=True)
    view = View("crm_mon", NOW, "node1", True, "node1", True, "stop", False, (member("node1"), remote))
    assert one(view, "remote1").failed


def test_a_remote_may_be_the_one_that_asks() -> None:
    remote = Node("remote1", kind=REMOTE, online=True)
    view = cluster(DOWN, remote, own="remote1", pacemakerd="remote", fence_events=(off("node3", 5),))
    assert one(view, "node3").proven


def test_an_unclean_node_that_is_still_online_is_waited_for() -> None:
    assert not one(cluster(member("node3", unclean=True)), "node3").failed


@pytest.mark.parametrize("flag", ["standby", "maintenance"])
@pytest.mark.parametrize("node", [DOWN, GONE, CRASHED])
def test_what_goes_down_in_standby_or_maintenance_was_planned(node: Node, flag: str) -> None:
    verdict = one(cluster(replace(node, **{flag: True}), fence_events=(off("node3", 5),)), "node3")  # type: ignore[arg-type]
    assert (verdict.state, verdict.failed) == (flag, False)


@pytest.mark.parametrize("policy", ["stop", "ignore"])
@pytest.mark.parametrize("node", [GONE, CRASHED])
def test_without_fencing_a_loss_is_reported_unproven_and_says_what_to_change(node: Node, policy: str) -> None:
    verdict = one(cluster(node, stonith_enabled=False, no_quorum_policy=policy), "node3")
    assert (verdict.failed, verdict.proven) == (True, False)
    assert "stonith-enabled=false" in verdict.reason
    assert "Set up fencing" in verdict.reason


@pytest.mark.parametrize("node", [CRASHED, GONE])
def test_a_fencing_of_an_earlier_failure_proves_nothing(node: Node) -> None:
    verdict = one(cluster(node, fence_events=(off("node3", 300),)), "node3")
    assert (verdict.failed, verdict.proven) == (True, False)


def test_one_view_does_not_take_a_clean_stop_for_the_fencing_of_long_ago() -> None:
    verdict = one(cluster(DOWN, fence_events=(off("node3", TIED_S + 60),)), "node3")
    assert (verdict.state, verdict.failed) == ("shutdown on purpose", False)
    assert "may have been back" in verdict.reason


@pytest.mark.parametrize(
    "event",
    [
        off("node3", 5, status="failed", exit_reason="no route"),
        off("node3", 5, status="pending", completed=None),
        off("node3", 5, action="on"),
        off("node3", 5, completed=None),
        off("node2", 5),
    ],
)
def test_only_a_finished_fencing_of_that_node_that_switched_it_off_proves_anything(event: FenceEvent) -> None:
    assert not one(cluster(DOWN, fence_events=(event,)), "node3").proven


def test_the_reason_of_a_failed_fencing_is_told() -> None:
    event = off("node3", 5, status="failed", exit_reason="no route")
    assert "no route" in one(cluster(CRASHED, fence_events=(event,)), "node3").reason


def test_a_reboot_proves_that_the_guests_died_and_says_that_the_host_may_be_back() -> None:
    verdict = one(cluster(DOWN, fence_events=(off("node3", 5, action="reboot"),)), "node3")
    assert verdict.proven
    assert "guests died" in verdict.reason


def test_a_confirmation_by_hand_is_proof_and_called_an_operators_word() -> None:
    verdict = one(cluster(DOWN, fence_events=(off("node3", 5, delegate="a human"),)), "node3")
    assert verdict.proven
    assert "operator's word" in verdict.reason


def known(view: View, last_alive: float) -> dict[str, fencing.Verdict]:
    return {"node3": fencing.judge("node3", view.fence_events, last_alive, NOW, 15)}


def test_a_node_that_was_fenced_since_it_was_last_seen_has_failed_even_if_it_is_back() -> None:
    view = cluster(member("node3", pending=True, standby=True), fence_events=(off("node3", 5, action="reboot"),))
    assert one(view, "node3", fencings=known(view, NOW - 10)).proven
    assert not one(view, "node3", fencings=known(view, NOW - 1)).failed
    assert not one(view, "node3").failed


def test_what_is_known_of_fencings_rules_over_what_one_view_would_guess() -> None:
    assert not one(FENCED, "node3", fencings=known(FENCED, NOW - 1)).proven
    assert not one(FENCED, "node3", fencings={}).proven


CONNECTION = Resource("remote1", "ocf:pacemaker:remote", "Stopped", False, True, False, True, False)
LOST_REMOTE = Node("remote1", kind=REMOTE)


def test_a_remote_whose_connection_failed_is_reported_where_nobody_is_fenced() -> None:
    view = cluster(LOST_REMOTE, stonith_enabled=False, resources=(CONNECTION,))
    assert (one(view, "remote1").failed, one(view, "remote1").proven) == (True, False)


@pytest.mark.parametrize(
    "resources", [(), (replace(CONNECTION, target_role="Stopped"),), (replace(CONNECTION, failed=False),)]
)
def test_a_remote_whose_connection_was_stopped_or_removed_is_not_reported(resources: tuple[Resource, ...]) -> None:
    assert not one(cluster(LOST_REMOTE, stonith_enabled=False, resources=resources), "remote1").failed


def test_a_guest_of_the_cluster_is_no_host() -> None:
    assert not one(cluster(Node("guest1", kind=GUEST, unclean=True)), "guest1").failed


def test_a_cib_without_fencing_tells_a_busy_node_that_vanished_from_a_clean_stop() -> None:
    view = cluster(replace(DOWN, busy=True), source="cib", stonith_enabled=False)
    assert one(view, "node3").failed
    assert not one(cluster(DOWN, source="cib", stonith_enabled=False), "node3").failed


def test_a_name_that_the_cluster_does_not_know_has_a_verdict_of_its_own() -> None:
    verdict = one(cluster(), "left", also=("left", "node1"))
    assert (verdict.state, verdict.failed, verdict.proven) == ("unknown to the cluster", False, False)


def test_whatever_the_flags_nothing_online_has_failed_and_nothing_else_is_proven() -> None:
    for nodes in _all_flags():
        for verdict in judge(cluster(nodes, fence_events=(off("node3", 5),))):
            assert verdict.failed or not verdict.proven
            assert verdict.reason
            assert not (verdict.failed and nodes.online and verdict.name == "node3")


def _all_flags() -> list[Node]:
    names = ("online", "unclean", "pending", "standby", "maintenance", "shutdown", "expected_up")
    sets = range(2 ** len(names))
    return [replace(DOWN, **{name: bool(bits >> place & 1) for place, name in enumerate(names)}) for bits in sets]  # type: ignore[arg-type]
