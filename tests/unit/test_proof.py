"""Safety rule 1: when there is proof that a host is off, and when a proof ends."""

from __future__ import annotations

import pytest

from masakari.model import Evidence
from masakari.proof import QUOTED, Facts, Rules, judge, quoted

NOW = 1_800_000_000.0
RULES = Rules(clock_tolerance_s=15, proof_valid_s=600, node_err_wait_s=180)


def verdict(proofs=(), life=(), *, requested=False, now=NOW, rules=RULES, down_since=None):
    return judge(Facts(tuple(proofs), tuple(life), down_since), now, rules, requested=requested)


@pytest.mark.parametrize("kind", ["power_off", "fenced", "attested"])
def test_a_power_off_a_fencing_or_an_operators_word_is_proof(kind):
    assert verdict([Evidence(kind, NOW - 1)]).valid


@pytest.mark.parametrize("kind", ["unknown", "power_on", "up", "nova_down"])
def test_nothing_else_is_proof(kind):
    seen = verdict([Evidence(kind, NOW - 1)])
    assert not seen.valid
    assert seen.hold == "proof"


def test_without_any_evidence_the_reason_says_what_would_help():
    assert "attest" in verdict().reason


@pytest.mark.parametrize("kind", ["power_on", "up", "last_alive", "probe", "nova", "callback"])
def test_every_newer_sign_of_life_ends_a_proof(kind):
    seen = verdict([Evidence("power_off", NOW - 60)], [Evidence(kind, NOW - 44)])
    assert not seen.valid
    assert seen.hold == "alive"
    assert "host alive again" in seen.reason


def test_a_sign_of_life_within_the_clock_tolerance_does_not():
    assert verdict([Evidence("power_off", NOW - 60)], [Evidence("last_alive", NOW - 45)]).valid


def test_a_newer_proof_counts_again():
    proofs = [Evidence("power_off", NOW - 60), Evidence("fenced", NOW - 10)]
    assert verdict(proofs, [Evidence("up", NOW - 30)]).valid


def test_a_proof_is_too_old_for_the_first_request_but_not_for_the_later_ones():
    old = [Evidence("power_off", NOW - 601)]
    assert not verdict(old).valid
    assert "too old" in verdict(old).reason
    assert verdict([Evidence("power_off", NOW - 600)]).valid
    assert verdict(old, requested=True).valid


def test_a_newer_sign_of_life_counts_after_the_first_request_too():
    assert not verdict([Evidence("power_off", NOW - 60)], [Evidence("nova", NOW)], requested=True).valid


def test_nova_alone_is_no_proof_by_default():
    assert not verdict(down_since=NOW - 10_000).valid


def test_where_asked_for_nova_counts_after_the_whole_wait():
    rules = Rules(node_err_wait_s=180, wait_for_nova=True)
    assert not verdict(down_since=NOW - 179, rules=rules).valid
    assert verdict(down_since=NOW - 180, rules=rules).valid
    assert not verdict(down_since=None, rules=rules).valid
    assert not verdict([], [Evidence("callback", NOW - 100)], down_since=NOW - 180, rules=rules).valid


def words(observer, ago_s, detail):
    return Evidence("unknown", NOW - ago_s, observer, detail)


def test_what_observers_say_is_quoted_with_the_name_of_one():
    assert quoted([words("node1", 5, "wrong password")]) == "node1 says: wrong password"
    assert quoted([words("", 5, "wrong password")]) == "an unnamed monitor says: wrong password"
    assert quoted([]) == quoted([words("node1", 5, "")]) == ""


def test_the_same_observer_is_quoted_whoever_spoke_last():
    assert quoted([words("b", 1, "from b"), words("a", 9, "from a")]) == "a says: from a"
    assert quoted([words("b", 9, "from b"), words("a", 1, "from a")]) == "a says: from a"


def test_an_observer_that_is_silent_for_long_is_quoted_no_more():
    assert quoted([words("b", 1, "from b"), words("a", 200, "from a")]) == "b says: from b"


def test_the_newest_words_of_an_observer_are_quoted():
    assert quoted([words("a", 9, "before"), words("a", 1, "now")]) == "a says: now"


def test_long_words_are_cut():
    assert len(quoted([words("a", 1, "x" * 1000)])) == len("a says: ") + QUOTED
