"""What is known of each node of the cluster, and what views make of it (pure).

A view that is worth nothing changes nothing. In any other, a node that was up and is down without having been told to is a
suspect, once enough looks in a row agree; a fencing that succeeded counts at once, also if the node is back already. What became
of a node that was never seen up is only recorded. A failure ends when the node is seen alive again, and by nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from hostmonitor import fencing
from hostmonitor.model import GUEST, MEMBER, Node, View
from hostmonitor.power import Evidence
from hostmonitor.verdict import Verdict, judge, worthless
from masakari.common.text import utc

SPACING_S = 0.4
"""Looks that alerts have brought closer together than this count as one: what crm_mon shows is wrong for that long."""

PASSING_LOOKS = 3
"""So many more looks must agree on a node that is unclean where nobody is fenced: it is for a second or two, also when only
pacemaker's controller there has restarted."""

BACK_S = 120.0
"""A node that is alive, and was fenced longer ago, was back before this observer looked: nothing is left to do about it."""

UP, DOWN, FAILED = "up", "down", "failed"
"""A node is up; it is down as planned, or was never seen up; it failed."""

FOLLOWED = ("new", "running", "held")
"""What the controller says of a recovery that can still make use of evidence."""

ENDED = ("finished", "cancelled")


@dataclass(frozen=True, slots=True)
class Policy:
    """Of the settings. samples: so many looks in a row make a failure. tolerance_s: so much the nodes' clocks may differ."""

    samples: int = 2
    restrict_to_remotes: bool = False
    tolerance_s: float = 15.0


@dataclass(slots=True)
class Failure:
    """A node that failed, until it is seen alive again. Times are Unix seconds.

    last_alive: when this observer last saw it alive. state, why: what the newest view says of it. fenced: what pacemaker's
    fencing proves; reboot: that fencing was a reboot. counted: keys of the fencings that are part of it. power: what its BMCs
    said last. report_id, detail: of the last report; "" before the first. recovery, status: what the controller answered to it;
    "" while it hasn't.
    """

    since: float
    last_alive: float
    state: str
    why: str
    fenced: Evidence | None = None
    reboot: bool = False
    counted: list[str] = field(default_factory=list)
    power: Evidence | None = None
    report_id: str = ""
    detail: str = ""
    recovery: str = ""
    status: str = ""

    @property
    def open(self) -> bool:
        """Whether the controller can still make use of evidence, as far as it has answered."""
        return self.status in ("", *FOLLOWED)


@dataclass(slots=True)
class Record:
    """A node. alive_at: when it was last seen alive (Unix seconds), 0 for never; known: keys of its fencings at that time."""

    state: str
    alive_at: float = 0.0
    known: list[str] = field(default_factory=list)
    failure: Failure | None = None


@dataclass(slots=True)
class State:
    """What outlives the process: the nodes by pacemaker's names, and reports that may not be in the spool yet, by id."""

    records: dict[str, Record] = field(default_factory=dict)
    pending: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """A line for the log about a node. failed: a failure begins; back: a node that failed is alive, which `failure` was."""

    level: int
    node: str
    text: str
    failed: bool = False
    back: Failure | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """What came of a view. doubt: why it is worth nothing. suspects: nodes to believe() in the failure of, unless this node's own
    state is in doubt. more: further looks will tell. findings: what has been decided."""

    doubt: str = ""
    suspects: tuple[str, ...] = ()
    more: bool = False
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class _Seen:
    """A node in the newest view. told: what fencing proves of it; keys: of its fencings that are over; fenced_anew: one has
    succeeded that was not there when it was last seen alive, whatever the time it tells; unsure: one may be under way, or have
    been without being told of."""

    node: Node
    verdict: Verdict
    told: fencing.Verdict | None
    keys: tuple[str, ...]
    fenced_anew: bool
    unsure: bool

    @property
    def alive(self) -> bool:
        return _is_alive(self.node)


def _is_alive(node: Node) -> bool:
    return node.online and not (node.unclean or node.pending or node.starting)


class Ledger:
    """The records of one observer. `state` is what the last process knew, and is kept up to date."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._seen: dict[str, _Seen] = {}
        self._samples: dict[str, tuple[str, int, float]] = {}
        self._viewed_at = 0.0
        self._unfenced = False
        self._dc = ""
        self._lost_with_dc: set[str] = set()

    def failures(self) -> dict[str, Failure]:
        """The open failures by node."""
        return {name: record.failure for name, record in self.state.records.items() if record.failure}

    def lost_silently(self, view: View) -> bool:
        """Whether a node that was up is down as after a clean stop: the CIB may tell that it was none."""
        return any(
            not (node.online or node.expected_up) and node.kind == MEMBER and self._is_up(node.name)
            for node in view.nodes
        )

    def look(self, view: View, policy: Policy) -> Look:
        """Take a view, the newest one."""
        if doubt := worthless(view):
            self.doubt()
            return Look(doubt)
        self._viewed_at, self._unfenced = view.at, view.stonith_enabled is False
        self._put_right(view.at)
        told = {node.name: self._fencing(node, view, policy) for node in view.nodes}
        verdicts = judge(view, {name: verdict for name, verdict in told.items() if verdict})
        self._seen = {
            node.name: _seen(node, verdict, told[node.name], view, self.state.records.get(node.name))
            for node, verdict in zip(view.nodes, verdicts, strict=False)
            if node.kind != GUEST and node.name != view.own
        }
        self._follow_dc(view)
        findings = [finding for name in self._seen for finding in self._take(name, policy)]
        self._count(policy)
        suspects = tuple(name for name in self._samples if self._counts(name, FAILED, policy))
        findings += [
            finding for name in list(self._samples) if self._counts(name, DOWN, policy) for finding in self._rest(name)
        ]
        more = len(self._samples) > len(suspects) or self._unsettled()
        return Look("", suspects, more, tuple(findings))

    def _follow_dc(self, view: View) -> None:
        """Who vanishes with a DC that crashed may look as if it had been stopped: the next DC knows no better."""
        dc = self._seen.get(self._dc)
        if dc is not None and dc.verdict.failed and self._is_up(self._dc):
            self._lost_with_dc |= {name for name, seen in self._seen.items() if self._is_up(name) and not seen.node.online}
        self._lost_with_dc -= {name for name, seen in self._seen.items() if seen.node.online}
        if dc is None or dc.alive or dc.verdict.failed or not self._is_up(self._dc):
            self._dc = view.dc or self._dc

    def doubt(self) -> None:
        """The newest view is worth nothing: what would count as a failure has to be seen anew."""
        self._samples.clear()

    def believe(self, suspects: Iterable[str]) -> list[Finding]:
        """These nodes have failed."""
        findings = []
        for name in suspects:
            record, seen = self.state.records[name], self._seen[name]
            record.state = FAILED
            state, why = seen.verdict.state, seen.verdict.reason
            if not seen.verdict.failed:
                state, why = (
                    "offline",
                    f"it vanished together with the DC, which crashed: not proven. {why}"
                    if name in self._lost_with_dc
                    else f"it was fenced, by a clock that is wrong or at a time that is: not proven. {why}",
                )
            record.failure = Failure(self._viewed_at, record.alive_at, state, why)
            self._count_fencing(record.failure, seen)
            self._samples.pop(name, None)
            text = f"failed ({state}): {why}; last seen alive at {utc(record.alive_at)}"
            findings.append(Finding(logging.WARNING, name, text, failed=True))
        return findings

    def alive_at(self, name: str) -> float:
        """When a node was last seen alive, Unix seconds; 0 for never. May be called by any thread."""
        record = self.state.records.get(name)
        return record.alive_at if record else 0.0

    def _is_up(self, name: str) -> bool:
        record = self.state.records.get(name)
        return record is not None and record.state == UP

    def _put_right(self, now: float) -> None:
        """Nothing that was seen is of the time to come: this node's clock has been set back since."""
        for record in self.state.records.values():
            record.alive_at = min(record.alive_at, now)
            failure = record.failure
            if failure:
                failure.last_alive = min(failure.last_alive, now)
            if failure and failure.fenced and failure.fenced.at > now:
                failure.fenced = replace(failure.fenced, at=now)

    def _fencing(self, node: Node, view: View, policy: Policy) -> fencing.Verdict | None:
        """What the fencings since it was last seen alive prove, less those that count already."""
        record = self.state.records.get(node.name)
        if record is None or record.state == DOWN:
            return None
        known = {*record.known, *(record.failure.counted if record.failure else ())}
        told = fencing.judge(node.name, view.fence_events, record.alive_at, view.at, policy.tolerance_s, known)
        is_back = told.evidence is not None and _is_alive(node) and view.at - told.evidence.at > BACK_S
        return None if is_back else told

    def _take(self, name: str, policy: Policy) -> list[Finding]:
        """What this view says for sure of a node."""
        seen, record = self._seen[name], self.state.records.get(name)
        if record is None:
            return self._first(name, seen)
        if record.failure and seen.verdict.failed:
            record.failure.state, record.failure.why = seen.verdict.state, seen.verdict.reason
            self._count_fencing(record.failure, seen)
        elif seen.alive and (not seen.verdict.failed or _is_left_out(seen, policy)):
            return self._alive(name, record, seen)
        return []

    def _first(self, name: str, seen: _Seen) -> list[Finding]:
        up = seen.alive and not seen.verdict.failed
        self.state.records[name] = Record(UP if up else DOWN, self._viewed_at if up else 0.0, list(seen.keys))
        level = logging.WARNING if seen.verdict.failed else logging.INFO
        not_reported = "; not reported, as it was never seen up" if seen.verdict.failed else ""
        return [Finding(level, name, f"seen first: {seen.verdict.state}, {seen.verdict.reason}{not_reported}")]

    def _alive(self, name: str, record: Record, seen: _Seen) -> list[Finding]:
        was, failure = record.state, record.failure
        # A look may come without the history: what it held is not new when it is there again.
        known = list(seen.keys) or [*record.known, *(failure.counted if failure else ())]
        self.state.records[name] = Record(UP, self._viewed_at, known)
        self._samples.pop(name, None)
        if failure:
            down_s = self._viewed_at - failure.since
            return [
                Finding(logging.WARNING, name, f"is back after {down_s:.0f} s: {seen.verdict.reason}", back=failure)
            ]
        return [Finding(logging.INFO, name, "is up")] if was == DOWN else []

    def _count(self, policy: Policy) -> None:
        """How many looks in a row have said of a node that was up that it failed, or is down as planned."""
        outcomes = {name: outcome for name in self._seen if (outcome := self._outcome(name, policy))}
        self._samples = {name: self._sample(name, outcome) for name, outcome in outcomes.items()}

    def _sample(self, name: str, outcome: str) -> tuple[str, int, float]:
        told, times, at = self._samples.get(name, ("", 0, 0.0))
        if told != outcome:
            return outcome, 1, self._viewed_at
        return (told, times, at) if abs(self._viewed_at - at) < SPACING_S else (told, times + 1, self._viewed_at)

    def _outcome(self, name: str, policy: Policy) -> str:
        """FAILED or DOWN for a node that was up and is not; else empty."""
        seen = self._seen[name]
        if not self._is_up(name):
            return ""
        if seen.verdict.failed:
            return "" if _is_left_out(seen, policy) else FAILED
        if seen.node.online or seen.unsure:
            return ""
        planned = seen.node.standby or seen.node.maintenance
        return FAILED if (seen.fenced_anew or name in self._lost_with_dc) and not planned else DOWN

    def _counts(self, name: str, outcome: str, policy: Policy) -> bool:
        told, times, _ = self._samples[name]
        seen = self._seen[name]
        needed = policy.samples + (PASSING_LOOKS if self._unfenced and seen.node.unclean else 0)
        return told == outcome and (times >= needed or seen.verdict.proven)

    def _rest(self, name: str) -> list[Finding]:
        record, seen = self.state.records[name], self._seen[name]
        self.state.records[name] = replace(record, state=DOWN)
        self._samples.pop(name, None)
        return [Finding(logging.INFO, name, f"is down, no failure ({seen.verdict.state}): {seen.verdict.reason}")]

    def _unsettled(self) -> bool:
        """Whether the cluster has not yet made up its mind about a node that was up."""
        return any(
            self.state.records[name].state != DOWN and (seen.node.unclean or (seen.node.pending and seen.node.online))
            for name, seen in self._seen.items()
        )

    def _count_fencing(self, failure: Failure, seen: _Seen) -> None:
        if seen.told is None or seen.told.evidence is None:
            return
        failure.fenced, failure.reboot = seen.told.evidence, seen.told.reboot
        failure.counted = sorted({*failure.counted, *seen.keys})


def _is_left_out(seen: _Seen, policy: Policy) -> bool:
    return policy.restrict_to_remotes and seen.node.kind == MEMBER


def _seen(node: Node, verdict: Verdict, told: fencing.Verdict | None, view: View, record: Record | None) -> _Seen:
    events = [event for event in view.fence_events if event.target == node.name]
    over = [event for event in events if event.status != "pending"]
    successes = [event for event in over if event.status == "success" and event.action in fencing.PROVING]
    anew = record is not None and not all(fencing.is_known(event, record.known) for event in successes)
    unsure = view.history_lost or len(over) < len(events)
    return _Seen(node, verdict, told, tuple(fencing.key(event) for event in over), anew, unsure)
