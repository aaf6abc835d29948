"""The thread that looks at the cluster: soon after pacemaker says that something happened, and every interval. Who has failed is
decided in verdict.py and ledger.py; what follows from it, in pursuit.py."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

from hostmonitor import pursuit
from hostmonitor.cluster import Segment, dangers, is_cut_off, summary, troubles
from hostmonitor.config import Settings
from hostmonitor.crm_xml import BadView, parse
from hostmonitor.ledger import UP, Finding, Ledger, Policy
from hostmonitor.model import View
from hostmonitor.pacemaker import Pacemaker
from hostmonitor.prover import Read
from hostmonitor.pursuit import Prover, Pursuit
from hostmonitor.state import StateFile
from masakari.common.clock import Clock
from masakari.common.errors import ConfigError, Unavailable
from masakari.common.outbox import Outbox
from masakari.common.report import Origin, host_up_report, new_id
from masakari.common.text import count

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.3
SAMPLE_S = 0.5
"""Between two looks of which the second is to confirm the first."""

QUICK_LOOKS = 8
MANY_LOOKS = 150
UNSETTLED_S = 2.0
FENCED_WITHIN_S = 300.0
"""So long after a failure its fencing is looked for often, also if no alert tells of it."""

POKED_S = 0.1
"""Alerts that come faster make no more looks than this."""

AGAIN_S = 15.0
"""A host that was cut off says so long afterwards once more that it is up: an observer may have been late to report it."""

STARTED = "the hostmonitor has started"
IDLE_S = 1.0
BATCH = 200


@dataclass(frozen=True, slots=True)
class Poke:
    """Pacemaker says that something happened; what it is, is looked up."""

    text: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The controller answered to a report about a node. recovery, status: the number and status of the recovery, "" for none."""

    node: str
    report_id: str
    recovery: str
    status: str


Message: TypeAlias = Poke | Answered | Read


class OwnState(Protocol):
    """Whether this node itself is well."""

    def trouble(self, view: View) -> str:
        """Why its view is worth nothing; "" if it is worth something."""


class Spool(Protocol):
    """Where reports wait for their delivery."""

    def put(self, body: Mapping[str, Any]) -> None:
        """Durable on return; an id that waits already changes nothing. OSError: it was not kept."""

    def holds(self, report_id: str) -> bool:
        """Whether the report of this id waits for its delivery."""


@dataclass(frozen=True)
class World:
    """What the monitor works with. settings, origin: as they are at the moment. segment: raises ConfigError or Unavailable.
    own_guid: of this host's BMC, "" for none. wake_sender: called when the spool has got something. beat: called at least every
    few seconds."""

    pacemaker: Pacemaker
    own_state: OwnState
    prover: Prover
    spool: Spool
    settings: Callable[[], Settings]
    origin: Callable[[], Origin]
    segment: Callable[[], Segment]
    own_guid: Callable[[], str]
    clock: Clock
    wake_sender: Callable[[], object]
    beat: Callable[[], object]


class Monitor:
    """Takes messages from the inbox until told to stop, and looks at the cluster when it is time."""

    def __init__(self, inbox: queue.SimpleQueue[Message], file: StateFile, world: World) -> None:
        self._inbox = inbox
        self._world = world
        self._clock = world.clock
        self._ledger = Ledger(file.load())
        self._outbox = Outbox(file, self._ledger.state, world.spool, world.clock, world.wake_sender)
        self._pursuit = Pursuit(
            pursuit.World(
                world.pacemaker,
                world.prover,
                lambda report_id: report_id in self._ledger.state.pending or world.spool.holds(report_id),
                world.settings,
                self._origin,
                self._outbox.report,
                world.clock,
            )
        )
        self._own = ""
        self._segment = Segment("", "")
        self._look_at = self._looked_at = 0.0
        self._pauses = 0
        self._declare = STARTED
        self._again_at: float | None = None
        self._doubt = ""
        self._troubled = False
        self._summary = ""
        self._dangers: list[str] = []
        self._troubles: Mapping[str, str] = {}
        self._status = "no look at the cluster yet"

    def run(self, stopping: threading.Event) -> None:
        """The body of the thread."""
        self._world.beat()
        self._outbox.begin()
        while not stopping.is_set():
            self.step(IDLE_S)
        self._outbox.close()

    def step(self, wait_s: float) -> None:
        """Take what is in the inbox, waiting at most so long for the first message, and do what is due."""
        self._world.beat()
        for message in self._take(min(wait_s, max(0.0, self._wake_at() - self._clock.monotonic()))):
            self._apply(message)
        if self._clock.monotonic() >= self._look_at:
            self._look()
        for node, failure in self._ledger.failures().items() if self._segment.cluster_port else ():
            self._pursuit.follow(node, failure)
        self._outbox.settle()
        self._status = self._describe()

    def status(self) -> str:
        """One line: what is watched, and what can't be done at the moment. May be called by any thread."""
        return self._status

    def alive_at(self, node: str) -> float:
        """When a node was last seen alive, Unix seconds; 0 for never. May be called by any thread."""
        return self._ledger.alive_at(node)

    def _wake_at(self) -> float:
        pursuit_at = self._pursuit.wake_at(self._ledger.failures())
        return self._look_at if pursuit_at is None else min(self._look_at, pursuit_at)

    def _take(self, wait_s: float) -> list[Message]:
        messages: list[Message] = []
        try:
            messages.append(self._inbox.get(timeout=wait_s) if wait_s else self._inbox.get_nowait())
            while len(messages) < BATCH:
                messages.append(self._inbox.get_nowait())
        except queue.Empty:
            pass
        return messages

    def _apply(self, message: Message) -> None:
        if isinstance(message, Poke):
            log.debug("pacemaker: %s", message.text)
            self._look_at, self._pauses = max(self._clock.monotonic(), self._looked_at + POKED_S), 0
            return
        failure = self._ledger.failures().get(message.node)
        if failure and isinstance(message, Read):
            self._pursuit.read(message, failure)
        elif failure and isinstance(message, Answered) and message.report_id == failure.report_id:
            failure.recovery, failure.status = message.recovery, message.status
        self._outbox.changed()

    def _look(self) -> None:
        self._looked_at = self._clock.monotonic()
        settings = self._world.settings().environments
        view = self._see()
        if view is None:
            self._plan(more=False)
            return
        look = self._ledger.look(view, Policy(settings.monitoring_samples, settings.restrict_to_remotes))
        doubt, findings = look.doubt, list(look.findings)
        if look.suspects or (self._troubled and look.more and not doubt):
            doubt = self._world.own_state.trouble(view)
            self._troubled = bool(doubt)
            findings += [] if doubt else self._ledger.believe(look.suspects)
        if doubt:
            self._ledger.doubt()
        else:
            self._pursuit.viewed(view)
            self._declare_self(view)
        self._doubts(doubt)
        self._remark(view)
        for finding in findings:
            self._tell(finding)
        self._outbox.changed()
        self._plan(look.more or bool(look.suspects))

    def _see(self) -> View | None:
        """The cluster as this node sees it; None when it can't be seen, which is told."""
        at, pacemaker = self._clock.now(), self._world.pacemaker
        try:
            self._own = self._own or pacemaker.node_name()
            self._find_segment()
            view = parse(pacemaker.status(), self._own, at)
            if self._ledger.lost_silently(view):
                view = _with_busy(view, parse(pacemaker.cib(), self._own, at))
        except (Unavailable, BadView, ConfigError) as error:
            self._ledger.doubt()
            self._doubts("; ".join(error.problems) if isinstance(error, ConfigError) else str(error))
            self._declare = self._declare or "this node can see the cluster again"
            return None
        if is_cut_off(view):
            self._declare = self._declare or "this node is with the others again"
        if summary(view) != self._summary:
            self._summary, self._pauses = summary(view), 0
            log.info("%s", self._summary)
        return view

    def _find_segment(self) -> None:
        settings = self._world.settings()
        named = settings.environments.cluster_port or settings.identity.cluster_port
        if not self._segment.cluster_port or (named and named != self._segment.cluster_port):
            self._segment = self._world.segment()
            log.info("cluster_port is %s (%s)", self._segment.cluster_port, self._segment.source)

    def _plan(self, more: bool) -> None:
        """When to look next: soon after something has happened, less and less often then."""
        pause_s = FIRST_PAUSE_S * 2.0 ** min(self._pauses, 16)
        self._pauses += 1
        now = self._clock.now()
        if more and self._pauses <= MANY_LOOKS:
            pause_s = min(max(pause_s, SAMPLE_S), SAMPLE_S if self._pauses <= QUICK_LOOKS else UNSETTLED_S)
        elif any(now - failure.since < FENCED_WITHIN_S for failure in self._ledger.failures().values()):
            pause_s = min(pause_s, UNSETTLED_S)
        interval_s, looked_at = self._world.settings().environments.monitor_interval, self._clock.monotonic()
        self._look_at = looked_at + min(pause_s, interval_s)
        if self._again_at is not None and self._again_at > looked_at:
            self._look_at = min(self._look_at, self._again_at)

    def _doubts(self, doubt: str) -> None:
        if doubt and doubt != self._doubt:
            log.warning("nothing is reported for now: %s", doubt)
        elif self._doubt and not doubt:
            log.info("this node's view counts again")
        self._doubt = doubt

    def _remark(self, view: View) -> None:
        """What is dangerous about this cluster, and which resources are not well: told when it changes."""
        found = dangers(view)
        for danger in found:
            if danger not in self._dangers:
                log.warning("%s", danger)
        self._dangers = found
        wrong = troubles(view, self._world.settings().environments.ignore_resource_group_name_pattern)
        for name, text in wrong.items():
            if self._troubles.get(name) != text:
                log.warning("%s", text)
        self._troubles = wrong

    def _declare_self(self, view: View) -> None:
        """Tell the controller which node, which boot and which BMC are this host's; that it is up goes with it."""
        origin = self._origin()
        if self._again_at is not None and self._clock.monotonic() >= self._again_at:
            self._declare, self._again_at = self._declare or "this node is still with the others", None
        elif self._declare and self._declare != STARTED:
            self._again_at = self._clock.monotonic() + AGAIN_S
        if not self._declare or origin is None:
            return
        guid, now = self._world.own_guid(), self._clock.now()
        self._outbox.report(host_up_report(origin, new_id(), origin.hostname, view.own, now, self._declare, guid))
        log.info("node %s is host %s, BMC GUID %s: told the controller", view.own, origin.hostname, guid or "unknown")
        self._declare = ""

    def _origin(self) -> Origin | None:
        port = self._segment.cluster_port
        return replace(self._world.origin(), cluster_port=port) if port else None

    def _tell(self, finding: Finding) -> None:
        log.log(finding.level, "node=%s: %s", finding.node, finding.text)
        if finding.failed:
            self._pursuit.begins(finding.node, self._ledger.failures()[finding.node])
        elif finding.back:
            self._pursuit.ends(finding.node, finding.back, finding.text)

    def _describe(self) -> str:
        records = self._ledger.state.records
        up = sum(record.state == UP for record in records.values())
        parts = [f"nothing is reported: {self._doubt}"] if self._doubt else []
        parts.append(f"{count(len(records), 'other node')} known, {up} of them up")
        parts += [f"{node} failed: {failure.why}" for node, failure in self._ledger.failures().items()]
        return "; ".join([*parts, *self._outbox.problems(), *self._dangers])


def _with_busy(view: View, cib: View) -> View:
    """The view with what only the CIB tells: where something runs still, as far as pacemaker remembers."""
    busy = {node.name for node in cib.nodes if node.busy}
    return replace(view, nodes=tuple(replace(node, busy=node.name in busy) for node in view.nodes))
