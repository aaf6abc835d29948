"""What views over time make of each node: who has failed, who is back, and what is only recorded."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostmonitor.crm_xml import parse
from hostmonitor.fencing import SAME_S
from hostmonitor.ledger import DOWN, FAILED, UP, Finding, Ledger, Look, Policy, State
from hostmonitor.model import FenceEvent, View
from hostmonitor.state import decode, encode
from tests.unit.crm_mon import cluster, crm_mon, member

NOW = 1_800_000_000.0
ALL_UP: Mapping[str, Any] = {}
LOST = {"unclean": True}
UNCLEAN = {"online": False, "unclean": True}
GONE = {"online": False}
STOPPED = {"online": False, "expected_up": False}
PENDING = {"pending": True, "standby": True, "expected_up": False}
STANDBY = {"standby": True}


class Watch:
    """A ledger that is shown node3 in one state after another, half a second apart, through pacemaker's XML."""

    def __init__(self, **policy: Any) -> None:
        self.policy = Policy(**policy)
        self.ledger = Ledger(State())
        self.at = NOW
        self.fencings: tuple[FenceEvent, ...] = ()
        self.changed: dict[str, Any] = {}
        self.findings: list[Finding] = []

    def view(self, state: Mapping[str, Any]) -> View:
        shown = cluster(member("node3", **state), fence_events=self.fencings, **self.changed)
        return parse(crm_mon(shown), "node1", self.at)

    def see(self, *states: Mapping[str, Any], after_s: float = 0.5) -> Look:
        for state in states:
            self.at += after_s
            look = self.ledger.look(self.view(state), self.policy)
            self.findings += [*look.findings, *self.ledger.believe(look.suspects)]
        return look

    def fence(self, action: str = "off", ago_s: float = 1.0, status: str = "success") -> None:
        done = None if status == "pending" else float(int(self.at - ago_s))
        self.fencings = (FenceEvent("node3", action, status, done, "node2", "controld", "node2"), *self.fencings)

    def restart(self) -> None:
        self.ledger = Ledger(decode(encode(self.ledger.state)))

    @property
    def state(self) -> str:
        return self.ledger.state.records["node3"].state

    @property
    def failed(self) -> int:
        return sum(finding.failed for finding in self.findings)

    @property
    def back(self) -> int:
        return sum(finding.back is not None for finding in self.findings)


def watch(**policy: Any) -> Watch:
    seen = Watch(**policy)
    seen.see(ALL_UP)
    return seen


def test_the_first_view_is_recorded_and_told_and_no_more() -> None:
    seen = Watch()
    look = seen.see(UNCLEAN)
    assert look.suspects == () and not any(finding.failed or finding.back for finding in look.findings)
    told = {finding.node: finding for finding in look.findings}
    assert set(told) == {"node2", "node3"}, "not the node that looks"
    assert told["node3"].level == logging.WARNING and "never seen up" in told["node3"].text
    assert seen.see(UNCLEAN, UNCLEAN, GONE).suspects == () and seen.state == DOWN
    assert seen.see(ALL_UP).findings[0].back is None and seen.state == UP


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_so_many_looks_in_a_row_make_a_failure(samples: int) -> None:
    seen = watch(samples=samples)
    for _ in range(samples - 1):
        look = seen.see(UNCLEAN)
        assert look.suspects == () and look.more
    assert seen.see(UNCLEAN).suspects == ("node3",) and seen.failed == 1 and seen.state == FAILED


def test_a_look_between_that_shows_it_well_or_is_worth_nothing_begins_anew() -> None:
    seen = watch()
    seen.see(UNCLEAN, ALL_UP, UNCLEAN, LOST, UNCLEAN)
    assert seen.failed == 0
    seen.see(ALL_UP, UNCLEAN)
    seen.changed = {"quorate": False}
    look = seen.see(UNCLEAN)
    assert "quorum" in look.doubt and look.findings == () and look.suspects == ()
    seen.changed = {}
    seen.see(UNCLEAN)
    assert seen.failed == 0
    seen.ledger.doubt()
    seen.see(UNCLEAN)
    assert seen.failed == 0
    seen.see(UNCLEAN)
    assert seen.failed == 1


def test_a_view_without_the_node_begins_anew_and_ends_nothing() -> None:
    seen = watch()
    seen.see(UNCLEAN)
    shown = seen.view(UNCLEAN)
    seen.ledger.look(replace(shown, nodes=shown.nodes[:2]), seen.policy)
    seen.see(UNCLEAN)
    assert seen.failed == 0
    seen.see(UNCLEAN)
    assert seen.failed == 1
    seen.ledger.look(replace(shown, nodes=shown.nodes[:2]), seen.policy)
    assert "node3" in seen.ledger.failures()


def test_suspects_that_are_not_believed_are_suspects_again() -> None:
    seen = watch()
    seen.see(UNCLEAN)
    for _ in range(3):
        seen.at += 0.5
        assert seen.ledger.look(seen.view(UNCLEAN), seen.policy).suspects == ("node3",)
    assert seen.ledger.failures() == {}


def test_a_failure_tells_when_the_node_was_last_alive_and_why_it_failed() -> None:
    seen = watch()
    alive_at = seen.at
    seen.see(LOST, UNCLEAN, UNCLEAN, after_s=2.0)
    failure = seen.ledger.failures()["node3"]
    assert (failure.last_alive, failure.since, failure.state) == (alive_at, seen.at, "unclean")
    assert seen.ledger.alive_at("node3") == alive_at and seen.ledger.alive_at("node9") == 0
    seen.fence(status="pending")
    seen.see(UNCLEAN)
    assert failure.state == "fencing pending" and "under way" in failure.why


def test_a_fencing_counts_at_once_and_only_once() -> None:
    seen = watch()
    seen.fence()
    seen.see(STOPPED)
    failure = seen.ledger.failures()["node3"]
    assert failure.fenced and failure.fenced.kind == "fenced" and not failure.reboot and seen.failed == 1
    seen.see(STOPPED, PENDING, ALL_UP, ALL_UP)
    seen.restart()
    seen.see(ALL_UP, UNCLEAN, UNCLEAN)
    assert (seen.failed, seen.back) == (2, 1)
    assert seen.ledger.failures()["node3"].fenced is None, "it belongs to the failure before"


def test_a_later_fencing_of_the_same_failure_is_its_proof_too() -> None:
    seen = watch()
    seen.see(UNCLEAN, UNCLEAN)
    seen.fence("reboot")
    seen.see(PENDING)
    failure = seen.ledger.failures()["node3"]
    assert failure.reboot
    seen.see(UNCLEAN, after_s=20)
    seen.fence("off")
    seen.see(STOPPED)
    assert not failure.reboot and failure.fenced and failure.fenced.at > NOW + 20 and seen.failed == 1


def test_a_reboot_by_fencing_is_a_failure_of_a_node_that_never_reads_offline() -> None:
    seen = watch()
    seen.fence("reboot")
    seen.see(ALL_UP)
    assert seen.ledger.failures()["node3"].reboot
    seen.see(ALL_UP, ALL_UP)
    assert (seen.failed, seen.back) == (1, 1)


def test_only_being_alive_ends_a_failure() -> None:
    seen = watch()
    seen.see(UNCLEAN, UNCLEAN)
    seen.see(LOST, PENDING, STOPPED, {**STOPPED, "maintenance": True}, GONE, STOPPED)
    assert seen.back == 0 and seen.state == FAILED
    seen.see(STANDBY)
    assert seen.back == 1 and seen.state == UP


def test_a_clean_stop_is_recorded_after_as_many_looks_and_what_follows_it_is_no_failure() -> None:
    seen = watch()
    look = seen.see({"shutdown": True, "expected_up": False}, STOPPED)
    assert seen.state == UP and look.more
    look = seen.see(STOPPED)
    assert seen.state == DOWN and not look.more and "no failure" in look.findings[0].text
    seen.fence()
    seen.see(STOPPED, GONE, UNCLEAN, UNCLEAN)
    assert seen.failed == 0
    assert "is up" in seen.see(ALL_UP).findings[0].text


def test_who_is_being_fenced_is_not_taken_for_stopped() -> None:
    seen = watch()
    seen.fence(status="pending")
    seen.see(STOPPED, STOPPED, STOPPED)
    assert seen.state == UP
    seen.fencings = ()
    seen.fence()
    seen.see(STOPPED)
    assert seen.failed == 1


def test_it_says_for_whom_the_cib_is_to_be_asked() -> None:
    seen = watch()
    assert not seen.ledger.lost_silently(seen.view(ALL_UP)) and not seen.ledger.lost_silently(seen.view(GONE))
    assert seen.ledger.lost_silently(seen.view(STOPPED))
    seen.see(STOPPED, STOPPED)
    assert not seen.ledger.lost_silently(seen.view(STOPPED)), "it has been settled"


def test_as_long_as_the_cluster_has_not_made_up_its_mind_there_is_more_to_see() -> None:
    seen = watch()
    assert not seen.see(ALL_UP).more
    assert seen.see(LOST).more and seen.see(PENDING).more
    seen.see(UNCLEAN)
    assert seen.see(UNCLEAN, UNCLEAN).more
    seen.fence()
    assert not seen.see(STOPPED).more


def test_restricted_to_remotes_a_member_does_not_fail() -> None:
    seen = watch(restrict_to_remotes=True)
    seen.fence("reboot")
    assert seen.see(UNCLEAN, UNCLEAN, UNCLEAN).suspects == ()


def test_a_failure_that_is_followed_outlives_the_process() -> None:
    seen = watch()
    seen.see(UNCLEAN, UNCLEAN)
    seen.restart()
    seen.fence()
    seen.see(STOPPED)
    failure = seen.ledger.failures()["node3"]
    assert seen.failed == 1 and failure.fenced and failure.last_alive == NOW + 0.5
    seen.see(ALL_UP)
    assert seen.back == 1


STATES = st.sampled_from([ALL_UP, ALL_UP, LOST, UNCLEAN, GONE, STOPPED, PENDING, STANDBY])
FENCINGS = st.none() | st.tuples(st.sampled_from(["off", "reboot", "on"]), st.sampled_from(["success", "failed", "pending"]))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(STATES, FENCINGS, st.sampled_from(["", "doubt", "restart", "no quorum"])), max_size=25),
    st.integers(1, 3),
)
def test_whatever_is_seen_failures_and_returns_alternate_and_proof_is_new(
    story: list[tuple[Mapping[str, Any], tuple[str, str] | None, str]], samples: int
) -> None:
    seen = watch(samples=samples)
    ever_down = False
    for state, fencing, event in story:
        ever_down = ever_down or not state.get("online", True) or bool(fencing and fencing[1] == "success")
        if fencing:
            seen.fence(fencing[0], status=fencing[1], ago_s=0.0)
        if event == "doubt":
            seen.ledger.doubt()
        if event == "restart":
            seen.restart()
        seen.changed = {"quorate": event != "no quorum"}
        seen.see(state, after_s=3.0)
        assert seen.failed - seen.back == (seen.state == FAILED)
        assert ever_down or seen.failed == 0
        for failure in seen.ledger.failures().values():
            assert failure.fenced is None or failure.fenced.at >= failure.last_alive - SAME_S
    seen.changed = {}
    seen.see(ALL_UP, ALL_UP, after_s=3.0)
    assert seen.state == UP and seen.ledger.failures() == {}


FIVE = ("node1", "node2", "node3", "node4", "node5")


def test_who_vanishes_with_a_dc_that_crashes_has_failed_though_it_looks_stopped() -> None:
    """Seen on a real cluster: the next DC took the other one for stopped in order, and fenced it not."""
    ledger = Ledger(State())
    clock = iter(range(0, 1000, 3))

    def look(dc: str, **nodes: Mapping[str, Any]) -> Look:
        members = [member(name, **nodes.get(name, {})) for name in FIVE]
        return ledger.look(cluster(*members, dc=dc, at=NOW + next(clock)), Policy(samples=2))

    for _ in range(3):
        look("node2")
    told = [look("node1", node2=UNCLEAN, node3=STOPPED) for _ in range(3)]
    assert set(told[-1].suspects) == {"node2", "node3"}
    [second] = ledger.believe(["node3"])
    assert second.failed and "vanished together with the DC" in second.text


def test_a_dc_that_is_stopped_in_order_takes_nobody_along() -> None:
    ledger = Ledger(State())

    def look(number: int, dc: str, **nodes: Mapping[str, Any]) -> Look:
        members = [member(name, **nodes.get(name, {})) for name in FIVE]
        return ledger.look(cluster(*members, dc=dc, at=NOW + 3 * number), Policy(samples=2))

    for number in range(3):
        look(number, "node2")
    told = [look(number, "node1", node2=STOPPED, node3=STOPPED) for number in range(3, 7)]
    assert all(one.suspects == () for one in told) and ledger.failures() == {}
