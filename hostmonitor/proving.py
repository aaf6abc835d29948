"""When the BMCs of a failed host are read, and when there is something to report of it (pure).

Reading goes in rounds: a round ends with a power state that stands, or when the retries are used up; while the controller can
make use of it there is a new round every interval. What is found is reported at the end of a round, and at once when it decides
something: proof has come, or is refuted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hostmonitor import power
from hostmonitor.ledger import ENDED, FOLLOWED, Failure
from hostmonitor.power import POWER_ON, Evidence, Reading, Rules

FIRST_REPORT_WITHIN_S = 2.0
"""A failure is reported after so long at the latest; until then proof may come along with the first report."""

REFUSED_S = 600.0
TURN_S = 0.3
"""A BMC serves few sessions at a time, and pacemaker's fencing needs one: the observers ask it one after the other."""

TURNS = 10
"""Of more observers than this each reads and reports less often: every second interval, every third, and so on."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Of the settings. blindly: nothing is proven, and detail 2 claimed all the same."""

    rules: Rules
    blindly: bool = False


@dataclass(slots=True)
class Round:
    """A round of readings of one host; not kept over a restart, after which one begins anew. Times are monotonic seconds.

    began_at: of the first round; due_at: when to read next; None while a reading is under way, or the round is over.
    interval_s: from one round to the next. told: what it found has been reported. next_at: when the next round may begin.
    reported_at: when the last report was made.
    """

    began_at: float
    due_at: float | None
    interval_s: float
    tries: int = 0
    over: bool = False
    told: bool = False
    next_at: float = 0.0
    reported_at: float = 0.0


def first_round(failure: Failure, now: float, turn: int, interval_s: float) -> Round:
    """The first round for a failure. turn: this observer's place among those who see the failure too."""
    rounds_s = interval_s * (1 + turn // TURNS)
    return Round(now, now + (0.0 if failure.fenced else turn * TURN_S), rounds_s, next_at=now + rounds_s)


def is_read(failure: Failure, policy: Policy) -> bool:
    """Whether the power of the host says anything about its guests: after a reboot by fencing it is on, and they died."""
    return not policy.blindly and not failure.reboot


def after_reading(round: Round, readings: Sequence[Reading], verdict: Evidence, policy: Policy, now: float) -> None:
    """A reading has ended; readings is empty when there was nobody to ask."""
    round.tries += 1
    pause_s = power.pause_s(readings, verdict, round.tries, policy.rules) if readings else None
    round.due_at = None if pause_s is None else now + pause_s
    round.over = pause_s is None


def skip(round: Round) -> None:
    """There is nothing to read in this round."""
    round.due_at, round.over = None, True


def next_round(round: Round, failure: Failure, now: float) -> None:
    """Begin another round if it is time, and of use."""
    if not round.over or now < round.next_at:
        return
    round.next_at = now + round.interval_s
    if failure.open or (failure.detail != "2" and failure.status not in ENDED):
        round.due_at, round.tries, round.over, round.told = now, 0, False, False


def evidence_of(failure: Failure) -> list[Evidence]:
    """All that is known of the host's being off."""
    fenced, read = failure.fenced, failure.power
    if fenced and read and (failure.reboot or _before(read, fenced)):
        read = None
    return [evidence for evidence in (fenced, read) if evidence]


def _before(read: Evidence, fenced: Evidence) -> bool:
    """Whether the power was on before the fencing, whose time is a whole second."""
    return read.kind == POWER_ON and read.at < fenced.at + 1


def detail_of(failure: Failure, policy: Policy) -> str:
    """The `detail` of a report: "2" proven, "3" its power is on, "4" unknown."""
    return "2" if policy.blindly else power.detail_of(evidence_of(failure))


def is_due(round: Round, failure: Failure, policy: Policy, now: float, waiting: bool) -> bool:
    """Whether to report now. waiting: the report before has not been delivered yet."""
    detail = detail_of(failure, policy)
    if not failure.report_id:
        return detail == "2" or round.over or now >= round.began_at + FIRST_REPORT_WITHIN_S
    if detail != failure.detail and "2" in (detail, failure.detail):
        return True
    if waiting or round.told or not round.over:
        return False
    # One that was delivered without an answer was refused by whoever took it: seldom, but again.
    return failure.status in FOLLOWED or (not failure.status and now >= round.reported_at + REFUSED_S)


def wake_at(round: Round, failure: Failure) -> float | None:
    """When there is something to do for it next (monotonic), if nothing else happens; None: nothing."""
    moments = [] if failure.report_id else [round.began_at + FIRST_REPORT_WITHIN_S]
    if round.due_at is not None:
        moments.append(round.due_at)
    elif round.over:
        moments.append(round.next_at)
    return min(moments, default=None)
