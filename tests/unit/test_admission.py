"""Safety rule 6 and the rule of joining: which host failures are acted on at once."""

from __future__ import annotations

import pytest

from masakari.admission import ADMIT, HOLD, IGNORE, Facts, Rules, decide

NOW = 1_800_000_000.0


def decision(rules=Rules(), **facts):  # noqa: B008 - frozen
    return decide(Facts(**{"hostname": "compute1", "proven": False, "trusted": True, **facts}), NOW, rules)


def test_a_single_failure_is_admitted_even_in_an_unknown_segment():
    assert decision().verb == ADMIT


@pytest.mark.parametrize(
    "failed, members, verb",
    [(1, 2, ADMIT), (2, 2, HOLD), (2, 3, HOLD), (2, 4, ADMIT), (3, 4, HOLD), (5, 10, ADMIT), (6, 10, HOLD)],
)
def test_by_default_more_than_half_of_the_members_known_are_held(failed, members, verb):
    names = [f"compute{n}" for n in range(1, members + 1)]
    assert decision(failed_hosts=names[:failed], members=names).verb == verb


def test_two_failures_of_a_segment_nobody_knows_are_held():
    held = decision(failed_hosts=["compute2"])
    assert (held.verb, held.hold) == (HOLD, "many")
    assert "compute1, compute2" in held.reason


def test_max_failed_hosts_rules_where_it_is_set():
    many = [f"compute{n}" for n in range(1, 21)]
    assert decision(Rules(max_failed_hosts=3), failed_hosts=many[:3], members=many).verb == ADMIT
    assert decision(Rules(max_failed_hosts=3), failed_hosts=many[:4], members=many).verb == HOLD


def test_proven_hosts_are_limited_by_load_only_unless_hold_proven_is_set():
    facts = {"failed_hosts": ["compute2", "compute3"], "proven": True}
    assert decision(**facts).verb == ADMIT
    assert decision(Rules(hold_proven=True), **facts).verb == HOLD


def test_an_unsigned_callback_is_held_whatever_it_claims():
    held = decision(trusted=False, proven=True)
    assert (held.verb, held.hold) == (HOLD, "callback")


def test_a_repeat_soon_after_the_end_brings_nothing_new_and_is_ignored():
    facts = {"last_recovery": 7, "last_at": NOW - 239}
    assert decision(**facts).verb == IGNORE
    assert "recovery 7" in decision(**facts).reason
    assert decision(**{**facts, "last_at": NOW - 240}).verb == ADMIT
    assert decision(**facts, new_evidence=True).verb == ADMIT
    assert decision(**facts, life_since_last=True).verb == ADMIT
