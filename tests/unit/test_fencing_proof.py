"""Which fencing in pacemaker's history proves that a host's guests are dead."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmonitor.crm_xml import parse
from hostmonitor.fencing import SAME_S, Verdict, judge, key
from hostmonitor.model import BY_HAND, FenceEvent
from hostmonitor.power import FENCED

DATA = Path(__file__).parents[1] / "data/crm_mon"
LAST_ALIVE = 1_800_000_000.0
TOLERANCE_S = 15.0


def event(
    after_s: float | None = 5.0,
    action: str = "off",
    status: str = "success",
    target: str = "node3",
    delegate: str = "node2",
) -> FenceEvent:
    """A fencing that was over so long after the host was last seen alive; None: it is not over."""
    completed = None if after_s is None else LAST_ALIVE + after_s
    return FenceEvent(target, action, status, completed, delegate, "pacemaker-controld.30", "node1")


def look(*events: FenceEvent, known: list[str] | None = None, now_s: float = 60.0) -> Verdict:
    return judge("node3", events, LAST_ALIVE, LAST_ALIVE + now_s, TOLERANCE_S, known)


def test_an_off_that_succeeded_after_the_host_was_last_alive_is_proof() -> None:
    verdict = look(event(5.0))
    assert verdict.evidence is not None
    assert (verdict.evidence.kind, verdict.evidence.at) == (FENCED, LAST_ALIVE + 5.0)
    assert verdict.evidence.detail == "pacemaker: off of node3 by node2 succeeded at 2027-01-15T08:00:05Z"
    assert not verdict.reboot and not verdict.by_hand


def test_a_reboot_is_proof_and_marked() -> None:
    verdict = look(event(action="reboot"))
    assert verdict.evidence and verdict.reboot
    assert "the host may be up again" in verdict.evidence.detail


def test_a_confirmation_by_hand_is_an_operators_word() -> None:
    verdict = look(event(delegate=BY_HAND))
    assert verdict.evidence and verdict.by_hand
    assert "by hand" in verdict.evidence.detail and "operator's word" in verdict.evidence.detail


@pytest.mark.parametrize("after_s", [0.0, -0.5, -10.0, -86400.0])
def test_the_fencing_of_an_earlier_failure_is_no_proof(after_s: float) -> None:
    verdict = look(event(after_s))
    assert verdict.evidence is None
    assert verdict.reason.endswith("an earlier failure")


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ([], "pacemaker's history has no fencing of node3"),
        ([event(target="node1")], "pacemaker's history has no fencing of node3"),
        ([event(target="node33")], "pacemaker's history has no fencing of node3"),
        ([event(None, status="pending")], "pacemaker: off of node3 is under way"),
        ([event(9.0, status="failed")], "pacemaker: off of node3 failed at 2027-01-15T08:00:09Z"),
        (
            [event(None, status="pending"), event(9.0, status="failed"), event(-100.0)],
            "pacemaker: off of node3 failed at 2027-01-15T08:00:09Z; off of node3 is under way",
        ),
        ([event(-9.0, status="failed"), event(-100.0)], "an earlier failure"),
        ([event(None, status="success")], "no fencing of node3"),
        ([event(action="monitor")], "no fencing of node3"),
        ([event(9.0, status="unheard of")], "no fencing of node3"),
    ],
)
def test_what_did_not_succeed_is_no_proof_and_told(found: list[FenceEvent], why: str) -> None:
    verdict = look(*found)
    assert verdict.evidence is None
    assert why in verdict.reason


def test_the_reason_of_a_failure_is_told() -> None:
    failed = FenceEvent(
        "node3", "off", "failed", LAST_ALIVE + 9, "node2", exit_reason="Fence agent did not complete in 60s"
    )
    assert look(failed).reason.endswith("Z: Fence agent did not complete in 60s")


def test_a_success_counts_whatever_failed_before_it_or_is_under_way_again() -> None:
    assert look(event(None, status="pending"), event(9.0), event(9.0, status="failed"), event(-50.0)).evidence


def test_the_newest_of_several_counts() -> None:
    verdict = look(event(20.0, action="reboot"), event(5.0))
    assert verdict.evidence and verdict.evidence.at == LAST_ALIVE + 20.0
    assert verdict.reboot


@pytest.mark.parametrize("order", [1, -1])
def test_a_host_that_pacemaker_has_switched_on_again_is_not_proven(order: int) -> None:
    for on_after_s in (5.0, 9.0):
        verdict = look(*[event(5.0), event(on_after_s, action="on")][::order])
        assert verdict.evidence is None
        assert "switched node3 on again" in verdict.reason
    assert look(*[event(5.0), event(2.0, action="on")][::order]).evidence


def test_a_fencing_far_in_the_future_is_a_wrong_clock() -> None:
    verdict = look(event(100.0), now_s=60.0)
    assert verdict.evidence is None
    assert "40 s ahead of this node's clock" in verdict.reason


def test_a_proof_is_never_later_than_now() -> None:
    verdict = look(event(70.0), now_s=60.0)
    assert verdict.evidence and verdict.evidence.at == LAST_ALIVE + 60.0


# With what was in the history when the host was last alive.


def test_a_fencing_that_was_there_while_the_host_lived_is_old_whatever_the_clocks_say() -> None:
    ahead = event(10.0)
    assert look(ahead).evidence
    assert look(ahead, known=[key(ahead)]).evidence is None


def test_a_fencing_told_of_late_to_a_node_that_has_just_joined_proves_nothing() -> None:
    assert look(event(-SAME_S + 0.1), known=[key(event(-300.0))]).evidence
    assert look(event(-SAME_S - 0.1), known=[key(event(-300.0))]).evidence is None
    assert look(event(-SAME_S - 0.1), known=[]).evidence is None


def test_a_second_fencing_in_the_same_manner_is_a_new_one() -> None:
    assert key(event(5.0)) != key(event(6.0))
    assert look(event(6.0), event(-5.0), known=[key(event(-5.0))]).evidence


# Histories of a real cluster. Its node3 fails again and again; last_alive says which failure is asked about.


@pytest.mark.parametrize(
    ("capture", "last_alive", "why"),
    [
        (
            "fence-03-fenced-offline",
            "18:39:40",
            "proof: pacemaker: off of node3 by node2 succeeded at 2026-11-20T18:39:46Z",
        ),
        ("fence-02-crashed-unclean-fencing-pending", "18:39:40", "an earlier failure"),
        ("fence-04-fencing-refused-unclean", "18:40:10", "pacemaker: off of node3 is under way"),
        ("fence-05-manually-confirmed-offline", "18:40:10", "proof: node3 confirmed as down by hand"),
        ("fence-06-bmc-silent-unclean", "18:40:40", "pacemaker: off of node3 is under way"),
        (
            "fence-07-fenced-at-last",
            "18:40:40",
            "proof: pacemaker: off of node3 by node2 succeeded at 2026-11-20T18:41:21Z",
        ),
        ("fence-08-partitioned-unclean-majority-side", "18:41:50", "an earlier failure"),
    ],
)
def test_the_history_of_a_real_cluster_proves_what_happened(capture: str, last_alive: str, why: str) -> None:
    view = parse((DATA / f"{capture}.crm_mon.xml").read_text(encoding="utf-8"), "node1", 0.0)
    at = datetime.fromisoformat(f"2026-11-20T{last_alive}+00:00").timestamp()
    verdict = judge("node3", view.fence_events, at, at + 120, TOLERANCE_S)
    assert why in ("proof: " if verdict.evidence else "") + verdict.reason


ANY = st.builds(
    event,
    st.one_of(st.none(), st.floats(-100, 100)),
    st.sampled_from(["off", "reboot", "on", "monitor"]),
    st.sampled_from(["success", "failed", "pending"]),
    st.sampled_from(["node3", "node2"]),
)


@given(st.lists(ANY, max_size=6))
def test_a_proof_is_always_a_success_of_this_host_after_its_last_sign_of_life(events: list[FenceEvent]) -> None:
    verdict = look(*events)
    assert verdict.reason
    if verdict.evidence:
        assert LAST_ALIVE < verdict.evidence.at <= LAST_ALIVE + 60.0
        proofs = [e for e in events if e.target == "node3" and e.status == "success" and e.action in ("off", "reboot")]
        assert any(e.completed is not None and e.completed > LAST_ALIVE for e in proofs)
    else:
        assert not verdict.reboot and not verdict.by_hand
