"""May a host failure be acted on now? Pure: facts in, Admit, Hold or Ignore out (safety rule 6 and the rule of joining)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from masakari.common.text import utc

ADMIT, HOLD, IGNORE = "admit", "hold", "ignore"


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings it depends on. `max_failed_hosts` 0: more than half of the members known, and at least 2."""

    max_failed_hosts: int = 0
    failure_window_s: float = 600
    hold_proven: bool = False
    notification_time_difference_s: float = 240


@dataclass(frozen=True, slots=True)
class Facts:
    """About one host failure, read in the transaction that admits it."""

    hostname: str
    proven: bool
    trusted: bool
    failed_hosts: Collection[str] = ()
    members: Collection[str] = ()
    last_recovery: int | None = None
    last_at: float = 0.0
    new_evidence: bool = False
    life_since_last: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """verb: admit, hold (with the word for the hold) or ignore; `reason` goes on record."""

    verb: str
    reason: str
    hold: str = ""


def decide(facts: Facts, now: float, rules: Rules) -> Decision:
    """Decide on a host failure that joins no active recovery."""
    if not facts.trusted:
        return Decision(HOLD, "unsigned callback: nothing is done until it is released", "callback")
    recent = facts.last_recovery is not None and now - facts.last_at < rules.notification_time_difference_s
    if recent and not facts.new_evidence and not facts.life_since_last:
        return Decision(
            IGNORE,
            f"the same failure as recovery {facts.last_recovery}, which ended at {utc(facts.last_at)}: "
            "no new evidence, and no sign of life since",
        )
    if facts.proven and not rules.hold_proven:
        return Decision(ADMIT, "the host is proven to be off")
    failed = {*facts.failed_hosts, facts.hostname}
    limit = too_many(len(failed), len({*facts.members, *failed}), rules.max_failed_hosts)
    if limit:
        return Decision(
            HOLD,
            f"{len(failed)} hosts failed within {rules.failure_window_s:.0f} s ({', '.join(sorted(failed)[:8])}): "
            f"{limit}. Is it the network? Release it, or cancel",
            "many",
        )
    return Decision(ADMIT, f"{len(failed)} of {max(2, len({*facts.members, *failed}))} hosts known failed lately")


def too_many(failed: int, members: int, max_failed_hosts: int) -> str:
    """Why that many failures at once are held; empty when they are not."""
    if max_failed_hosts:
        return f"max_failed_hosts is {max_failed_hosts}" if failed > max_failed_hosts else ""
    members = max(members, 2)
    if failed >= 2 and failed * 2 > members:
        return f"more than half of the {members} hosts known"
    return ""
