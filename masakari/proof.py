"""Safety rule 1, pure: is there proof that a host can't run its instances?

A proof is a power-off read back from the BMC, a fencing that pacemaker says succeeded, an operator's word, or, only where
`[safety] without_proof = wait_for_nova` asks for it, Nova itself reporting the service down for the whole `node_err_wait`.
It counts only while no sign of life of that host is newer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from masakari.common.text import utc
from masakari.model import Evidence

PROOF_KINDS = ("power_off", "fenced", "attested")
LIFE_KINDS = ("power_on", "up", "last_alive", "probe", "nova", "callback")

SAID_TOGETHER_S = 120.0
"""What observers said within this time they say now."""

QUOTED = 400
"""So many characters of an observer's words are shown."""

SENTENCES = {
    "power_off": "power read back as off",
    "fenced": "fenced by pacemaker",
    "attested": "attested by an operator",
    "nova_down": "reported down by Nova for the whole node_err_wait",
    "power_on": "power read back as on",
    "up": "reported as up",
    "last_alive": "last seen as a cluster member",
    "probe": "answered through Nova",
    "nova": "last report of its nova-compute",
    "callback": "last callback it sent itself",
}


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings of [safety] that a verdict depends on; seconds."""

    clock_tolerance_s: float = 15
    proof_valid_s: float = 600
    node_err_wait_s: float = 180
    wait_for_nova: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one host: its trusted proofs and signs of life, and since when Nova says down by itself."""

    proofs: Sequence[Evidence] = ()
    life: Sequence[Evidence] = ()
    nova_down_since: float | None = None

    def newest_life(self) -> Evidence | None:
        """The newest sign of life, if any."""
        return max(self.life, key=lambda sign: sign.at, default=None)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the host is proven off. `hold` is the word for the hold when it isn't, `reason` the sentence either way."""

    proof: Evidence | None
    hold: str
    reason: str

    @property
    def valid(self) -> bool:
        """True: evacuation may be requested now."""
        return self.proof is not None


def judge(facts: Facts, now: float, rules: Rules, *, requested: bool) -> Verdict:
    """Decide from the facts. `requested`: an evacuation was already sent, so the age of the proof no longer counts."""
    proof = _newest_proof(facts, now, rules)
    if proof is None:
        return Verdict(None, "proof", _no_proof(facts, rules))
    life = facts.newest_life()
    if life is not None and life.at > proof.at + rules.clock_tolerance_s:
        return Verdict(None, "alive", f"host alive again: {_told(life)} is newer than the proof ({_told(proof)})")
    age = now - proof.at
    if not requested and proof.kind != "nova_down" and age > rules.proof_valid_s:
        return Verdict(
            None,
            "proof",
            f"the proof is too old: {_told(proof)}, {age:.0f} s ago; at most {rules.proof_valid_s:.0f} s count",
        )
    return Verdict(proof, "", _told(proof))


def quoted(words: Iterable[Evidence]) -> str:
    """What observers say of a host whose power they can't tell, for the reason of a hold; empty when they say nothing.

    Of those who spoke lately always the same one is quoted, with the newest they said: the reason is not to change at each look.
    """
    said = [one for one in words if one.detail]
    newest = max((one.at for one in said), default=0.0)
    lately = [one for one in said if one.at >= newest - SAID_TOGETHER_S]
    if not lately:
        return ""
    first = min(lately, key=lambda one: (one.observer, -one.at, one.detail))
    told = first.detail if len(first.detail) <= QUOTED else f"{first.detail[: QUOTED - 1]}…"
    return f"{first.observer or 'an unnamed monitor'} says: {told}"


def _newest_proof(facts: Facts, now: float, rules: Rules) -> Evidence | None:
    proofs = [proof for proof in facts.proofs if proof.kind in PROOF_KINDS]
    since = facts.nova_down_since
    if rules.wait_for_nova and since is not None and now - since >= rules.node_err_wait_s:
        proofs.append(Evidence("nova_down", since))
    return max(proofs, key=lambda proof: proof.at, default=None)


def _no_proof(facts: Facts, rules: Rules) -> str:
    if rules.wait_for_nova:
        since = facts.nova_down_since
        seen = "does not report it down" if since is None else f"reports it down since {utc(since)}"
        return f"no proof that the host is off; Nova {seen}, {rules.node_err_wait_s:.0f} s are needed"
    return "no proof that the host is off: waiting for its power state, a fencing, or attest --host"


def _told(evidence: Evidence) -> str:
    by = f" by {evidence.observer}" if evidence.observer else ""
    return f"{SENTENCES.get(evidence.kind, evidence.kind)}{by} at {utc(evidence.at)}"
