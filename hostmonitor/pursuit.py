"""Follows each failure for as long as the controller can make use of it: has BMCs read, and reports what is found.

When to do what is decided in proving.py. A failure is reported, as often as anything is said of it, under pacemaker's name
of its node and under Nova's of its host.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from hostmonitor import power, proving, stonith
from hostmonitor.config import Settings
from hostmonitor.ledger import Failure
from hostmonitor.model import MEMBER, View
from hostmonitor.pacemaker import Pacemaker
from hostmonitor.power import Bmc, Reading
from hostmonitor.prover import Read
from hostmonitor.proving import Round
from masakari.common.clock import Clock
from masakari.common.errors import Unavailable
from masakari.common.report import Origin, host_report, host_up_report, new_id

log = logging.getLogger(__name__)

DECLARED_S = 10.0
"""Which BMCs there are is read again from the CIB after so long."""


class Prover(Protocol):
    """Whoever reads BMCs; what they say comes into the inbox as a Read."""

    def ask(self, node: str, bmcs: tuple[Bmc, ...], timeout_s: float) -> None:
        """Have the BMCs of a node read."""


@dataclass(frozen=True)
class World:
    """What a pursuit works with. settings: as they are at the moment. origin: who reports; None while the failover segment is
    not known. report: takes over a report; waits: whether the one of this id has not been delivered yet."""

    pacemaker: Pacemaker
    prover: Prover
    waits: Callable[[str], bool]
    settings: Callable[[], Settings]
    origin: Callable[[], Origin | None]
    report: Callable[[dict[str, Any]], object]
    clock: Clock


class Pursuit:
    """All open failures. For one thread."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._clock = world.clock
        self._rounds: dict[str, Round] = {}
        self._turn = 0
        self._declared = world.settings().declared
        self._read_cib_at: float | None = None

    def viewed(self, view: View) -> None:
        """The newest view that is worth something: it tells this observer's place among all."""
        observers = [name for _, name in sorted((node.kind != MEMBER, node.name) for node in view.nodes if node.online)]
        self._turn = observers.index(view.own) if view.own in observers else len(observers)

    def wake_at(self, failures: Mapping[str, Failure]) -> float | None:
        """When there is something to do next (monotonic seconds), if nothing else happens; None: nothing."""
        rounds = {node: round for node, round in self._rounds.items() if node in failures}
        moments = [proving.wake_at(round, failures[node]) for node, round in rounds.items()]
        return min((moment for moment in moments if moment is not None), default=None)

    def begins(self, node: str, failure: Failure) -> None:
        """A node has failed."""
        interval_s = self._world.settings().environments.monitor_interval
        self._rounds[node] = proving.first_round(failure, self._clock.monotonic(), self._turn, interval_s)

    def ends(self, node: str, failure: Failure, text: str) -> None:
        """A node that had failed is back. The controller is told if it was told of the failure."""
        self._rounds.pop(node, None)
        origin = self._world.origin()
        if failure.report_id and origin:
            up = host_up_report(origin, new_id(), self._host(node), node, self._clock.now(), text)
            self._world.report(up)

    def follow(self, node: str, failure: Failure) -> None:
        """Have read, and report, what is due."""
        policy, now = self._policy(), self._clock.monotonic()
        waiting = bool(failure.report_id) and self._world.waits(failure.report_id)
        if node not in self._rounds:  # it began before the last start of this monitor
            self.begins(node, failure)
            if not waiting and not failure.status:
                failure.report_id = ""  # its answer may have been lost with that process
        round = self._rounds[node]
        if round.due_at is not None and now >= round.due_at:
            self._read(node, failure, round)
        if proving.is_due(round, failure, policy, now, waiting):
            self._report(node, failure, round)
        # Not before: what the last round found would never be told if it took longer than the interval.
        proving.next_round(round, failure, now)

    def read(self, message: Read, failure: Failure) -> None:
        """The BMCs of a node have been read."""
        if message.node in self._rounds and message.readings:
            problems = self._declared.unusable.get(message.node, ())
            fresh = tuple(_of_this_failure(reading, failure) for reading in message.readings)
            self._judged(Read(message.node, fresh), failure, power.judge(fresh, self._clock.now(), problems))

    def _policy(self) -> proving.Policy:
        settings = self._world.settings()
        return proving.Policy(settings.rules, settings.believes_blindly)

    def _host(self, node: str) -> str:
        """What Nova calls a node's host, as far as this node knows."""
        return self._world.settings().nova_hosts.get(node, node)

    def _read(self, node: str, failure: Failure, round: Round) -> None:
        policy = self._policy()
        if not proving.is_read(failure, policy):
            proving.skip(round)
            return
        declared = self._bmcs()
        if bmcs := declared.bmcs.get(node, ()):
            round.due_at = None
            self._world.prover.ask(node, bmcs, policy.rules.timeout_s)
            return
        problems = declared.unusable.get(node, ()) or declared.general
        self._judged(Read(node, ()), failure, power.judge((), self._clock.now(), problems))

    def _bmcs(self) -> stonith.Declared:
        """The BMCs as the file and the CIB declare them."""
        now = self._clock.monotonic()
        if self._read_cib_at is None or now >= self._read_cib_at + DECLARED_S:
            self._read_cib_at = now
            try:
                cib = self._world.pacemaker.cib()
                self._declared = self._world.settings().declared.over(stonith.from_cib(cib))
            except Unavailable as error:
                log.warning("the CIB can't be read, so the BMCs are those of before: %s", error)
        return self._declared

    def _judged(self, message: Read, failure: Failure, verdict: power.Evidence) -> None:
        round, now = self._rounds[message.node], self._clock.monotonic()
        proving.after_reading(round, message.readings, verdict, self._policy(), now)
        if failure.power is None or (verdict.kind, verdict.detail) != (failure.power.kind, failure.power.detail):
            log.info("node=%s: power: %s, %s", message.node, verdict.kind, verdict.detail)
        failure.power = verdict

    def _report(self, node: str, failure: Failure, round: Round) -> None:
        origin = self._world.origin()
        if origin is None:
            return
        found, detail = proving.evidence_of(failure), proving.detail_of(failure, self._policy())
        entries = [evidence.as_json() for evidence in found]
        last_alive, now = failure.last_alive or None, self._clock.now()
        host = self._host(node)
        recovery = failure.recovery if detail == failure.detail else ""  # what decides something may open another one
        body = host_report(origin, new_id(), host, node, detail, entries, last_alive, now, failure.why, recovery)
        failure.report_id, failure.detail, failure.status = body["id"], detail, ""
        round.told, round.reported_at = round.over, self._clock.monotonic()
        self._world.report(body)
        told = "; ".join(evidence.detail for evidence in found) or "no evidence"
        log.warning("node=%s: host %s reported as failed, detail %s (%s)", node, host, detail, told)


def _of_this_failure(reading: Reading, failure: Failure) -> Reading:
    """A reading that was begun for an earlier failure of the host proves nothing about this one."""
    if reading.state != "off" or reading.at >= failure.last_alive:
        return reading
    why = f"{reading.bmc.name} was asked before the host was last seen alive"
    return replace(reading, state="", why=why, again=True)
