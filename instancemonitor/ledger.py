"""What is known of each domain, and what events and snapshots make of it (pure).

Two sources, and each failure is found once: an event says what happens now; a snapshot, taken after every connect, says
what came of it while nobody listened. An event that is newer than a snapshot goes before its row. A domain whose state was
told by this very connection can't have run unseen since; any other may have, and QEMU's log then tells how that run ended.
Whether the log tells of another end than the one that is known is told from what it showed then; times are compared only where
that is not known, as clocks may be set back.

Only instances of Nova are kept, unless the policy wants all domains.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Any

from instancemonitor.events import DEBUG, INCOMING, INFO, RUNNING, STOPPED, WARNING, Context, Judgement, judge, remember
from instancemonitor.model import DEFAULT_KINDS, LIFECYCLE, DomainEvent, DomainView, Snapshot
from masakari.common.text import count

_STARTED, _STOPPED = 2, 5
_STOPPED_DEAD = (2, 5)

# States and reasons as libvirt numbers them (virDomainState, virDomainPausedReason, virDomainShutoffReason).
_PAUSED, _SHUTOFF, _CRASHED = 3, 5, 6
_PAUSED_FOR_MOVE = (2, 11)
_UNKNOWN, _WAS_CRASHED, _FAILED, _DAEMON = 0, 3, 6, 8
_DEAD = (_WAS_CRASHED, _DAEMON)
_WORDS = {
    0: "unknown",
    1: "shutdown",
    2: "destroyed",
    3: "crashed",
    4: "migrated",
    5: "saved",
    6: "failed",
    7: "from snapshot",
    8: "daemon",
}
# "unknown" in QEMU's log: libvirtd, starting, didn't get to the point of asking QEMU how it is, and gave the guest up.
_DIED = ("crashed", "daemon", "unknown")
_LOST = (*_DIED, "failed")

LATE_S = 1.0
"""libvirt writes the end of a run into QEMU's log a moment before, never after, it sends the event; and once more when it
is restarted just then."""


@dataclass(frozen=True, slots=True)
class End:
    """How the last run of a domain ended, from QEMU's log: when libvirt noticed (Unix seconds), and its word for it."""

    at: float
    reason: str


LastEnd = Callable[[str], End | None]
"""Of the domain of that name; None when it runs, or when that can't be told."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator wants to hear of: kinds of events, and whether of domains that are not Nova's as well."""

    report: tuple[str, ...] = DEFAULT_KINDS
    all_domains: bool = False


@dataclass(slots=True)
class Record:
    """A domain. `state`: RUNNING, STOPPED or INCOMING since `changed_at` (Unix seconds).

    `run_id`: libvirt's number of the run, None when not known. `ours`: an instance of Nova; None: not known yet.
    `logged_at`: time of the last end that QEMU's log showed when the state was told, None for none. `died`: it is stopped, and
    libvirt says that it died.
    """

    name: str
    state: str
    changed_at: float
    run_id: int | None = None
    ours: bool | None = None
    logged_at: float | None = None
    died: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """Something to report. Times are Unix seconds; `failed_at` is the earliest it can have been if nobody saw it."""

    uuid: str
    name: str
    kind: str
    failed_at: float
    noticed_at: float
    reason: str


@dataclass(slots=True)
class State:
    """What outlives the process. `boot_id` and `viewed_at` are those of the last snapshot: "" and 0 before the first.

    `undecided`: failures of domains of which it is not known yet whether they are Nova's, by uuid. `pending`: reports
    that may not be in the spool yet, by id.
    """

    boot_id: str = ""
    viewed_at: float = 0.0
    records: dict[str, Record] = field(default_factory=dict)
    undecided: dict[str, Failure] = field(default_factory=dict)
    pending: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """A line for the log, and a failure to report if there is one. `uuid` is empty for what concerns no one domain."""

    level: int
    uuid: str
    name: str
    text: str
    failure: Failure | None = None


class Ledger:
    """The records of one host. `state` is what the last process knew, and is kept up to date; `boot_id` is the present boot.
    `last_end` is asked when a domain starts or ends, and when it may have run unseen.

    After another boot, and at the first start ever, the first snapshot is recorded and nothing of it is reported.
    `changed` is set whenever the state is no longer what it was.
    """

    def __init__(self, state: State, boot_id: str, last_end: LastEnd) -> None:
        self.state = state
        self.changed = False
        self._boot_id = boot_id
        self._last_end = last_end
        self._contexts: dict[str, Context] = {}
        # The number of the newest event, or the beginning of the newest snapshot, that told the state of a domain.
        self._told: dict[str, int] = {}
        self._of_old_boot: list[Failure] = []
        if self._recording:
            self._of_old_boot += state.undecided.values()
            state.undecided.clear()
            state.records.clear()

    @property
    def _recording(self) -> bool:
        return self.state.boot_id != self._boot_id

    def connected(self) -> None:
        """A new connection, of which no event was told yet: what happened since the last one ended went unseen."""
        self._contexts.clear()
        self._told.clear()

    def event(self, event: DomainEvent, policy: Policy) -> list[Finding]:
        """What an event tells; empty when it is worth nothing."""
        record = self.state.records.get(event.uuid)
        ours = event.ours if event.ours is not None else (record.ours if record else None)
        if not _watched(ours, policy):
            self._forget(event.uuid)
            return []
        before = self._contexts.get(event.uuid, Context())
        found = judge(event, before, record.state if record else "")
        self._contexts[event.uuid] = remember(event, before)
        known = found.becomes == STOPPED and record is not None and record.state == STOPPED
        if known and event.uuid in self._told:
            return [Finding(DEBUG, event.uuid, event.name, f"{found.text}: that is known already")]
        if found.becomes:
            self._told[event.uuid] = event.seq
            self._become(event, found.becomes, ours)
        return self._heard(event, found, ours, policy)

    def _become(self, event: DomainEvent, becomes: str, ours: bool | None) -> None:
        record = self.state.records.get(event.uuid)
        started = event.kind == LIFECYCLE and event.event == _STARTED
        # A run that ends while it was recorded as stopped had begun unseen: this is another end.
        if record is None or record.state != becomes or started or becomes == STOPPED:
            record = self.state.records[event.uuid] = Record(event.name, becomes, event.at)
            record.logged_at = self._logged_at(event.name, event.at)
            record.died = event.event == _STOPPED and event.detail in _STOPPED_DEAD
            self.changed = True
        if (record.name, record.ours) != (event.name, ours):
            record.name, record.ours = event.name, ours
            self.changed = True
        if becomes == RUNNING and event.uuid in self.state.undecided:
            del self.state.undecided[event.uuid]
            self.changed = True

    def _heard(self, event: DomainEvent, found: Judgement, ours: bool | None, policy: Policy) -> list[Finding]:
        if found.fault:
            failure = Failure(event.uuid, event.name, found.fault, event.at, event.at, found.text)
            return [self._decide(failure, found.level, ours, policy)]
        return [Finding(found.level, event.uuid, event.name, found.text)] if found.text else []

    def _decide(self, failure: Failure, level: int, ours: bool | None, policy: Policy) -> Finding:
        """Report it, or say why not."""
        text, reported = failure.reason, None
        if failure.kind not in policy.report:
            if failure.kind in DEFAULT_KINDS:
                text += "; not reported: the option report does not name it"
        elif ours or policy.all_domains:
            reported = failure
        elif failure.kind in DEFAULT_KINDS:
            self.state.undecided[failure.uuid] = failure
            self.changed = True
            text += "; it is not known yet whether Nova made it: decided at the next look"
        return Finding(level, failure.uuid, failure.name, text, reported)

    def _logged_at(self, name: str, by: float) -> float | None:
        """Of the last end in QEMU's log; one after `by` is the end of a run that is yet to be heard of."""
        end = self._last_end(name)
        return end.at if end and end.at <= by else None

    def snapshot(self, snapshot: Snapshot, policy: Policy) -> list[Finding]:
        """Compare with what is now."""
        view = _View(snapshot, policy, self._last_end, self._recording)
        findings: list[Finding] = []
        for row in snapshot.domains:
            findings += self._row(row, view)
        findings += self._gone({row.uuid for row in snapshot.domains}, snapshot)
        if view.recording:
            why = "the host has booted since the last look" if self.state.boot_id else "first start"
            text = f"{why}: {count(len(self.state.records), 'instance')} recorded as found, nothing reported"
            findings.append(Finding(INFO, "", "", text))
        while self._of_old_boot:
            old = self._of_old_boot.pop()
            text = f"{old.reason}; not reported: that was before the host booted, and not known to be Nova's"
            findings.append(Finding(WARNING, old.uuid, old.name, text))
        self.state.boot_id, self.state.viewed_at, self.changed = self._boot_id, snapshot.at, True
        return findings

    def _row(self, row: DomainView, view: _View) -> list[Finding]:
        record = self.state.records.get(row.uuid)
        ours = row.ours if row.ours is not None else (record.ours if record else None)
        if not _watched(ours, view.policy):
            self._forget(row.uuid)
            return []
        newer = self._told.get(row.uuid, -1) > view.snapshot.began
        state = record.state if record and newer else _state(row, record)
        findings = self._decided(row, state, ours, view)
        if record and newer:
            record.ours = ours
            return findings
        found = None if view.recording else self._compare(row, record, state, view)
        self._see(row, record, state, ours, found.ended_at if found else 0.0, view)
        if found and found.failed_at is not None:
            failure = Failure(row.uuid, row.name, "process_crash", found.failed_at, view.snapshot.at, found.text)
            findings.append(self._decide(failure, WARNING, ours, view.policy))
        elif found:
            findings.append(Finding(found.level, row.uuid, row.name, found.text))
        return findings

    def _see(
        self, row: DomainView, record: Record | None, state: str, ours: bool | None, ended_at: float, view: _View
    ) -> None:
        """Take over what a row shows."""
        run_id = row.run_id if state != STOPPED else None
        new_run = record is not None and None not in (record.run_id, run_id) and record.run_id != run_id
        if record is None or record.state != state or new_run or ended_at:
            record = Record(row.name, state, max(view.snapshot.at, ended_at))
            # Of one that is off, whatever the log shows is dealt with hereby.
            record.logged_at = self._logged_at(row.name, inf if state == STOPPED else view.snapshot.at)
            self.state.records[row.uuid] = record
        record.died = state == STOPPED and row.reason in _DEAD
        record.name, record.run_id, record.ours = row.name, run_id, ours
        self._told[row.uuid] = view.snapshot.began

    def _compare(self, row: DomainView, record: Record | None, state: str, view: _View) -> _Found | None:
        """What became of a domain since it was last heard of; None: nothing worth a line."""
        before = record.state if record else ""
        if before == RUNNING and state == STOPPED:
            assert record is not None
            return _ended(row, record, max(record.changed_at, self.state.viewed_at), view)
        if state == STOPPED:
            unseen = row.uuid not in self._told
            return _unseen_run(row, record, self.state.viewed_at, view) if unseen else None
        if before == RUNNING and record and record.run_id not in (None, row.run_id):
            return _Found(INFO, "it was stopped and started while nobody listened")
        return None

    def _decided(self, row: DomainView, state: str, ours: bool | None, view: _View) -> list[Finding]:
        """A failure that waited for the answer to whose domain it is."""
        failure = self.state.undecided.get(row.uuid)
        if failure is None or not (ours or view.policy.all_domains):
            return []
        del self.state.undecided[row.uuid]
        if state == RUNNING:
            return [Finding(INFO, row.uuid, row.name, f"{failure.reason}; not reported: it runs again")]
        return [self._decide(failure, WARNING, ours, view.policy)]

    def _gone(self, listed: set[str], snapshot: Snapshot) -> list[Finding]:
        """Drop what libvirt no longer has: no memory is kept of it, and none is needed."""
        findings = []
        known = {*self.state.records, *self.state.undecided, *self._contexts}
        for uuid in known - listed:
            if self._told.get(uuid, -1) > snapshot.began:
                continue
            record, failure = self.state.records.get(uuid), self.state.undecided.get(uuid)
            self._forget(uuid)
            if failure:
                text = f"{failure.reason}; not reported: libvirt no longer has it, it was deleted or never Nova's"
                findings.append(Finding(WARNING, uuid, failure.name, text))
            elif record and record.state == RUNNING:
                findings.append(Finding(INFO, uuid, record.name, "gone from libvirt: moved or deleted"))
        return findings

    def _forget(self, uuid: str) -> None:
        self._contexts.pop(uuid, None)
        self._told.pop(uuid, None)
        dropped = (self.state.records.pop(uuid, None), self.state.undecided.pop(uuid, None))
        self.changed = self.changed or dropped != (None, None)


@dataclass(frozen=True, slots=True)
class _View:
    """A snapshot, and how to read it."""

    snapshot: Snapshot
    policy: Policy
    last_end: LastEnd
    recording: bool


@dataclass(frozen=True, slots=True)
class _Found:
    """What a row tells. `failed_at`: it is a failure. `ended_at`: the end of a run that is dealt with hereby."""

    level: int
    text: str
    failed_at: float | None = None
    ended_at: float = 0.0


def _watched(ours: bool | None, policy: Policy) -> bool:
    return policy.all_domains or ours is not False


def _state(row: DomainView, record: Record | None) -> str:
    if row.state in (_SHUTOFF, _CRASHED):
        return STOPPED
    if row.state != _PAUSED or row.reason not in _PAUSED_FOR_MOVE:
        return RUNNING
    # So a guest is shown on both sides of its move; on this one it ran already.
    same_run = record is not None and record.run_id in (None, row.run_id)
    return RUNNING if record and record.state == RUNNING and same_run else INCOMING


def _ended(row: DomainView, record: Record, since: float, view: _View) -> _Found:
    """It ran when last heard of, which was at `since` at the latest, and does no more."""
    if row.state == _CRASHED:
        return _preserved()
    word, end = _WORDS.get(row.reason, ""), None
    if row.reason in (_UNKNOWN, _FAILED, *_DEAD):
        end = view.last_end(row.name)
        if end and end.at == record.logged_at:  # as it stood there before this run
            end = None
    if row.reason == _UNKNOWN:
        if end is None:
            return _Found(
                WARNING,
                "it no longer runs, and neither libvirt, restarted since, nor QEMU's log tells why: not reported; "
                "start it if nobody stopped it",
            )
        word = end.reason
    if word not in _LOST:
        return _Found(INFO, f"stopped while nobody listened ({word or f'reason {row.reason}'})")
    # A start that failed comes after what ended the guest, so its time tells nothing of that.
    timed = end is not None and end.reason in _DIED and word in _DIED
    ended_at = end.at if end and timed else 0.0
    failed_at = min(max(since, ended_at), view.snapshot.at)
    return _Found(WARNING, f"its QEMU process died while nobody listened ({word})", failed_at, ended_at)


def _unseen_run(row: DomainView, record: Record | None, viewed_at: float, view: _View) -> _Found | None:
    """It was not running when last heard of, nor is it now: did it run, and die, in between?"""
    if row.state == _CRASHED:
        return None if record and record.state == STOPPED else _preserved()
    if row.reason not in (_UNKNOWN, *_DEAD):
        return None
    end = view.last_end(row.name)
    # What was not dead when last heard of has run since, whatever the time.
    new_to_us = row.reason in _DEAD and not (record and record.died)
    if end is None and new_to_us:
        return _Found(
            WARNING,
            f"libvirt says that it died while nobody listened ({_WORDS[row.reason]}), and QEMU's log tells nothing of it: not "
            "reported; start it if it should run here",
        )
    if end is None or end.reason not in _DIED or not _is_another(end, record, new_to_us, viewed_at):
        return None
    text = f"it was started and its QEMU process died, both while nobody listened ({end.reason})"
    return _Found(WARNING, text, min(end.at, view.snapshot.at), end.at)


def _is_another(end: End, record: Record | None, new_to_us: bool, viewed_at: float) -> bool:
    """Whether this is not the end that is on record."""
    if record is None:
        return end.at > viewed_at
    if record.logged_at is not None:
        return abs(end.at - record.logged_at) > LATE_S
    return new_to_us or end.at > record.changed_at + LATE_S


def _preserved() -> _Found:
    text = (
        "its guest crashed and is kept for a look, as on_crash of the domain says: not reported; destroy it when done"
    )
    return _Found(WARNING, text)
