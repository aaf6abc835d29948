"""When the BMCs of a failed host are read, and when there is something to report of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmonitor.ledger import Failure
from hostmonitor.power import FENCED, POWER_OFF, POWER_ON, UNKNOWN, Bmc, Evidence, Reading, Rules
from hostmonitor.proving import (
    FIRST_REPORT_WITHIN_S,
    TURN_S,
    Policy,
    Round,
    after_reading,
    detail_of,
    evidence_of,
    first_round,
    is_due,
    is_read,
    next_round,
    skip,
    wake_at,
)

NOW = 1_800_000_000.0
POLICY = Policy(Rules(timeout_s=5.0, retry_max=2, retry_interval_s=10.0))
BLIND = replace(POLICY, blindly=True)
BMC = Bmc("10.0.0.3")


def failure(**known: object) -> Failure:
    return replace(Failure(NOW, NOW - 5, "unclean", "it is lost"), **known)  # type: ignore[arg-type]


def said(kind: str, at: float = NOW + 1) -> Evidence:
    return Evidence(kind, at, kind)


def reading(state: str, again: bool = True) -> tuple[Reading, ...]:
    return (Reading(BMC, state, NOW, again=again),)


# What is known


@pytest.mark.parametrize(
    ("fenced", "read", "reboot", "detail", "kinds"),
    [
        (None, None, False, "4", []),
        (None, said(UNKNOWN), False, "4", [UNKNOWN]),
        (None, said(POWER_ON), False, "3", [POWER_ON]),
        (None, said(POWER_OFF), False, "2", [POWER_OFF]),
        (said(FENCED), None, False, "2", [FENCED]),
        (said(FENCED), said(UNKNOWN), False, "2", [FENCED, UNKNOWN]),
        (said(FENCED), said(POWER_OFF), False, "2", [FENCED, POWER_OFF]),
        (said(FENCED), said(POWER_ON, NOW - 3), False, "2", [FENCED]),
        (said(FENCED), said(POWER_ON, NOW + 1.9), False, "2", [FENCED]),
        (said(FENCED), said(POWER_ON, NOW + 2), False, "3", [FENCED, POWER_ON]),
        (said(FENCED), said(POWER_ON, NOW + 99), True, "2", [FENCED]),
    ],
)
def test_what_is_known_makes_the_detail(
    fenced: Evidence | None, read: Evidence | None, reboot: bool, detail: str, kinds: list[str]
) -> None:
    known = failure(fenced=fenced, power=read, reboot=reboot)
    assert detail_of(known, POLICY) == detail
    assert [one.kind for one in evidence_of(known)] == kinds
    assert detail_of(known, BLIND) == "2"


def test_who_is_blind_reads_nothing_and_neither_does_anybody_after_a_reboot() -> None:
    assert is_read(failure(), POLICY) and is_read(failure(fenced=said(FENCED)), POLICY)
    assert not is_read(failure(), BLIND) and not is_read(failure(fenced=said(FENCED), reboot=True), POLICY)


# Rounds


def test_observers_take_turns_unless_the_fencing_is_known() -> None:
    assert [first_round(failure(), 100.0, turn, 60.0).due_at for turn in (0, 1, 2)] == pytest.approx([100, 100.3, 100.6])
    late = first_round(failure(), 100.0, 25, 60.0)
    assert late.due_at == 100.0 + 25 * TURN_S and late.next_at == 100.0 + 3 * 60.0, "of many each reads less often"
    assert first_round(failure(fenced=said(FENCED)), 100.0, 5, 60.0).due_at == 100.0


def test_a_round_ends_with_off_or_when_the_retries_are_used_up() -> None:
    one = first_round(failure(), 100.0, 0, 60.0)
    for tries, due_at in ((1, 110.0), (2, 110.0), (3, None)):
        after_reading(one, reading(""), said(UNKNOWN), POLICY, 100.0)
        assert (one.tries, one.due_at, one.over) == (tries, due_at, due_at is None)
    other = first_round(failure(), 100.0, 0, 60.0)
    after_reading(other, reading("off"), said(POWER_OFF), POLICY, 100.5)
    assert other.over and other.due_at is None


def test_a_bmc_that_refuses_the_password_is_not_asked_again_in_the_round() -> None:
    one = first_round(failure(), 100.0, 0, 60.0)
    after_reading(one, reading("", again=False), said(UNKNOWN), POLICY, 100.0)
    assert one.over


def test_a_round_without_anybody_to_ask_is_over_at_once() -> None:
    one, other = first_round(failure(), 100.0, 0, 60.0), first_round(failure(), 100.0, 0, 60.0)
    after_reading(one, (), said(UNKNOWN), POLICY, 100.0)
    skip(other)
    assert one.over and other.over and one.due_at is other.due_at is None


@pytest.mark.parametrize(
    ("status", "detail", "again"),
    [
        *((status, detail, True) for status in ("", "new", "running", "held") for detail in "234"),
        *((status, "2", False) for status in ("finished", "cancelled", "failed", "ignored")),
        *((status, "3", True) for status in ("failed", "ignored")),
        *((status, "4", False) for status in ("finished", "cancelled")),
    ],
)
def test_another_round_begins_an_interval_later_where_it_is_of_use(status: str, detail: str, again: bool) -> None:
    known = failure(report_id="id", status=status, detail=detail)
    one = Round(100.0, None, 60.0, tries=3, over=True, told=True, next_at=160.0)
    next_round(one, known, 159.9)
    assert one.over
    next_round(one, known, 160.0)
    assert (one.over, one.due_at) == ((False, 160.0) if again else (True, None))
    assert one.next_at == 220.0, "and it is asked again only then"


def test_a_round_that_is_not_over_goes_on() -> None:
    one = Round(100.0, None, 60.0, next_at=100.0)
    next_round(one, failure(), 500.0)
    assert (one.due_at, one.next_at) == (None, 100.0)


# Reports


def test_the_first_report_waits_for_proof_two_seconds_at_most() -> None:
    one = first_round(failure(), 100.0, 0, 60.0)
    assert not is_due(one, failure(), POLICY, 100.0, False)
    assert not is_due(one, failure(power=said(POWER_ON)), POLICY, 101.9, False)
    assert is_due(one, failure(), POLICY, 100.0 + FIRST_REPORT_WITHIN_S, False)
    assert is_due(one, failure(power=said(POWER_OFF)), POLICY, 100.1, False)
    assert is_due(one, failure(fenced=said(FENCED)), POLICY, 100.1, False)
    assert is_due(one, failure(), BLIND, 100.0, False)
    skip(one)
    assert is_due(one, failure(), POLICY, 100.1, False)


@pytest.mark.parametrize("waiting", [True, False])
@pytest.mark.parametrize("status", ["", "held", "failed", "finished"])
def test_proof_that_comes_and_proof_that_is_refuted_are_told_at_once(status: str, waiting: bool) -> None:
    one = Round(100.0, None, 60.0)
    told = failure(report_id="id", status=status, detail="3")
    assert is_due(one, replace(told, power=said(POWER_OFF)), POLICY, 105.0, waiting)
    told = failure(report_id="id", status=status, detail="2", fenced=said(FENCED))
    assert is_due(one, replace(told, power=said(POWER_ON, NOW + 30)), POLICY, 105.0, waiting)
    assert not is_due(one, replace(told, power=said(UNKNOWN)), POLICY, 105.0, waiting)


def test_what_a_round_found_is_told_once_where_it_is_of_use_and_the_last_report_has_arrived() -> None:
    one, known = Round(100.0, None, 60.0, over=True), failure(report_id="id", status="held", detail="3", power=said(POWER_ON))
    assert is_due(one, known, POLICY, 130.0, False)
    assert not is_due(one, known, POLICY, 130.0, True)
    assert not is_due(replace(one, told=True), known, POLICY, 130.0, False)
    assert not is_due(replace(one, over=False), known, POLICY, 130.0, False)
    for status in ("", "finished", "failed", "ignored", "cancelled"):
        assert not is_due(one, replace(known, status=status), POLICY, 130.0, False)


# Waking


@given(
    st.sampled_from(["", "new", "running", "held", "finished", "failed", "ignored"]),
    st.sampled_from("234"),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.none() | st.floats(0, 200),
    st.floats(0, 200),
)
def test_whoever_is_woken_has_something_to_do(
    status: str, detail: str, reported: bool, over: bool, told: bool, due_at: float | None, next_at: float
) -> None:
    """After all that is due was done there is no moment in the past to wake at: nothing spins."""
    kinds = {"2": POWER_OFF, "3": POWER_ON, "4": UNKNOWN}
    known = failure(report_id="id" if reported else "", status=status, detail=detail, power=said(kinds[detail]))
    one = Round(50.0, None if over else due_at, 60.0, over=over, told=told, next_at=next_at)
    now = 100.0
    for _ in range(3):
        if one.due_at is not None and now >= one.due_at:
            after_reading(one, (), said(UNKNOWN), POLICY, now)
        if is_due(one, known, POLICY, now, False):
            known.report_id, known.status, one.told = "new id", "", one.over
        next_round(one, known, now)
    moment = wake_at(one, known)
    assert moment is None or moment > now
