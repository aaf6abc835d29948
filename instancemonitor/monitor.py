"""The thread that turns libvirt's messages into log lines and reports. What they mean is decided in ledger.py."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterable
from typing import Protocol

from instancemonitor.config import Settings
from instancemonitor.events import FAULTS, RUNNING
from instancemonitor.ledger import End, Failure, Finding, Ledger, Policy
from instancemonitor.model import Connected, DomainEvent, Dropped, Message, Snapshot
from instancemonitor.state import StateFile
from masakari.common.clock import Clock
from masakari.common.outbox import Outbox, Spool
from masakari.common.report import Origin, instance_report, new_id
from masakari.common.text import count, utc

log = logging.getLogger(__name__)

IDLE_S = 1.0
BATCH = 200


class Log(Protocol):
    """QEMU's logs."""

    def last_end(self, name: str) -> End | None:
        """How the domain of that name ended last."""


class Monitor:
    """Takes messages from the inbox until told to stop.

    state_file: keeps what is known. settings, origin: as they are at the moment. is_stopping: whether this
    host is being shut down; asked only when there is a failure to report. wake_sender: called when the spool has got
    something. beat: called at least every few seconds.
    """

    def __init__(
        self,
        inbox: queue.SimpleQueue[Message],
        state_file: StateFile,
        spool: Spool,
        settings: Callable[[], Settings],
        origin: Callable[[], Origin],
        clock: Clock,
        qemu_log: Log,
        is_stopping: Callable[[], bool],
        wake_sender: Callable[[], None],
        beat: Callable[[], None],
    ) -> None:
        self._inbox = inbox
        self._file = state_file
        self._settings = settings
        self._origin = origin
        self._clock = clock
        self._is_stopping = is_stopping
        self._beat = beat
        self._ledger = Ledger(self._file.load(), origin().boot_id, qemu_log.last_end)
        self._outbox = Outbox(state_file, self._ledger.state, spool, clock, wake_sender)
        self._lost = "no answer from libvirt yet"
        self._uri = ""
        self._status = "no look at the instances yet"

    def run(self, stopping: threading.Event) -> None:
        """The body of the thread."""
        self._beat()
        self.begin()
        while not stopping.is_set():
            self.step(IDLE_S)
        self.step(0)
        self._outbox.close()

    def begin(self) -> None:
        """Hand over what an earlier process may not have handed over any more."""
        self._outbox.begin()
        self._status = self._describe()

    def step(self, wait_s: float) -> None:
        """Take what is in the inbox, waiting at most so long for the first message, and do what is due."""
        self._beat()
        host_stops: bool | None = None
        for message in self._take(wait_s):
            for finding in self._apply(message):
                if finding.failure and host_stops is None:
                    host_stops = self._is_stopping()
                self._tell(finding, bool(host_stops))
        self._settle()

    def status(self) -> str:
        """One line: what is watched, and what can't be done at the moment. May be called by any thread."""
        return self._status

    def _take(self, wait_s: float) -> Iterable[Message]:
        """Many at a time: failures that come together are then written together."""
        messages: list[Message] = []
        try:
            messages.append(self._inbox.get(timeout=wait_s) if wait_s else self._inbox.get_nowait())
            while len(messages) < BATCH:
                messages.append(self._inbox.get_nowait())
        except queue.Empty:
            pass
        return messages

    def _apply(self, message: Message) -> list[Finding]:
        settings = self._settings()
        policy = Policy(settings.events.report, settings.libvirt.all_domains)
        if isinstance(message, DomainEvent):
            return self._ledger.event(message, policy)
        if isinstance(message, Snapshot):
            if self._lost:
                self._lost = ""
                log.info("connected to %s", self._uri)
            return self._ledger.snapshot(message, policy)
        if isinstance(message, Connected):
            self._ledger.connected()
            self._uri = message.uri
        elif isinstance(message, Dropped):
            log.warning(
                "%d messages of libvirt had come before they could be looked at, so its I/O errors, reboots and lost touches "
                "with QEMU were dropped for a while; starts and ends were not. Is the disk of %s slow?",
                message.waiting,
                self._file.path,
            )
        elif message.why != self._lost:
            self._lost = message.why
            log.warning("libvirt can't be asked: %s; what fails meanwhile is found when it answers again", message.why)
        return []

    def _tell(self, finding: Finding, host_stops: bool) -> None:
        text, failure = finding.text, finding.failure
        if failure and host_stops:
            text += "; not reported: this host is being shut down"
        elif failure:
            text += f"; failed at {utc(failure.failed_at)}, reported as {self._report(failure)}"
        if finding.uuid:
            log.log(finding.level, "instance=%s name=%s: %s", finding.uuid, finding.name, text)
        else:
            log.log(finding.level, "%s", text)

    def _report(self, failure: Failure) -> str:
        """Note down a report, to be written with the records. Its id."""
        body = instance_report(
            self._origin(),
            new_id(),
            failure.uuid,
            FAULTS[failure.kind],
            failure.failed_at,
            failure.noticed_at,
            failure.reason,
        )
        self._outbox.report(body)
        return str(body["id"])

    def _settle(self) -> None:
        if self._ledger.changed:
            self._ledger.changed = False
            self._outbox.changed()
        self._outbox.settle()
        self._status = self._describe()

    def _describe(self) -> str:
        state = self._ledger.state
        running = sum(record.state == RUNNING for record in state.records.values())
        instances = count(len(state.records), "instance")
        parts = [f"{instances} {'known' if self._lost else 'watched'}, {running} of them running"]
        parts += self._outbox.problems()
        return "; ".join(parts)
