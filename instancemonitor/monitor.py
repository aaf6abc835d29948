"""The thread that turns libvirt's messages into log lines and reports. What they mean is decided in ledger.py.

A failure is reported exactly once, wherever this process dies: the record that knows of it and the report, with its id, are
on the disk in one write before the spool gets the report; the spool and the controller ignore an id that they know. After
the next start every report that may not have reached the spool is put again, with the same id.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from instancemonitor.config import Settings
from instancemonitor.events import FAULTS, RUNNING
from instancemonitor.ledger import End, Failure, Finding, Ledger, Policy
from instancemonitor.model import Connected, DomainEvent, Dropped, Message, Snapshot
from instancemonitor.state import StateFile
from masakari.common.clock import Clock
from masakari.common.report import Origin, instance_report, new_id
from masakari.common.text import count, utc

log = logging.getLogger(__name__)

IDLE_S = 1.0
LAZY_S = 1.0
RETRY_S = 5.0
BATCH = 200


class Spool(Protocol):
    """Where reports wait for their delivery."""

    def put(self, body: Mapping[str, Any]) -> None:
        """Durable on return; an id that waits already changes nothing. OSError: it was not kept."""


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
        self._spool = spool
        self._settings = settings
        self._origin = origin
        self._clock = clock
        self._is_stopping = is_stopping
        self._wake_sender = wake_sender
        self._beat = beat
        self._ledger = Ledger(self._file.load(), origin().boot_id, qemu_log.last_end)
        self._unsaved: set[str] = set()
        self._save_at: float | None = None
        self._put_at = 0.0
        self._save_problem = self._put_problem = ""
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
        if self._save_at is not None:
            self._save()

    def begin(self) -> None:
        """Hand over what an earlier process may not have handed over any more."""
        pending = self._ledger.state.pending
        if pending:
            log.info(
                "reports of an earlier run are put into the spool, again if they are there: %s", ", ".join(pending)
            )
        self._settle()

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
        report_id = new_id()
        self._ledger.state.pending[report_id] = instance_report(
            self._origin(),
            report_id,
            failure.uuid,
            FAULTS[failure.kind],
            failure.failed_at,
            failure.noticed_at,
            failure.reason,
        )
        self._unsaved.add(report_id)
        return report_id

    def _settle(self) -> None:
        """Write and hand over what is due. The order is what makes it exactly once."""
        now = self._clock.monotonic()
        if self._ledger.changed:
            self._ledger.changed = False
            self._save_soon()
        if self._unsaved or (self._save_at is not None and now >= self._save_at):
            self._save()
        if self._ledger.state.pending and now >= self._put_at:
            self._put()
        self._status = self._describe()

    def _save_soon(self) -> None:
        if self._save_at is None:
            self._save_at = self._clock.monotonic() + LAZY_S

    def _save(self) -> None:
        # Reports go on to the spool even if this fails: a guest that is down matters more than a second report of it, which
        # only a restart before the next write could make, and which would find nothing left to do.
        self._unsaved.clear()
        try:
            self._file.save(self._ledger.state)
        except OSError as error:
            if str(error) != self._save_problem:
                log.error(
                    "the state file %s can't be written: %s; tried again every %.0f s. Reports are sent all the same, but "
                    "what happens is forgotten if this process ends before",
                    self._file.path,
                    error,
                    RETRY_S,
                )
            self._save_problem, self._save_at = str(error), self._clock.monotonic() + RETRY_S
            return
        if self._save_problem:
            log.info("the state file %s can be written again", self._file.path)
        self._save_problem, self._save_at = "", None

    def _put(self) -> None:
        pending = self._ledger.state.pending
        done = 0
        try:
            for report_id in list(pending):
                self._spool.put(pending[report_id])
                del pending[report_id]
                done += 1
        except OSError as error:
            if str(error) != self._put_problem:
                log.error(
                    "%s can't be put into the spool: %s; tried again every %.0f s. Make room, or repair the disk",
                    count(len(pending), "report"),
                    error,
                    RETRY_S,
                )
            self._put_problem, self._put_at = str(error), self._clock.monotonic() + RETRY_S
        else:
            if self._put_problem:
                log.info("reports can be put into the spool again")
            self._put_problem = ""
        if done:
            self._save_soon()
            self._wake_sender()

    def _describe(self) -> str:
        state = self._ledger.state
        running = sum(record.state == RUNNING for record in state.records.values())
        instances = count(len(state.records), "instance")
        parts = [f"{instances} {'known' if self._lost else 'watched'}, {running} of them running"]
        if self._save_problem:
            parts.append(f"the state file can't be written: {self._save_problem}")
        if self._put_problem:
            parts.append(f"{count(len(state.pending), 'report')} can't be put into the spool: {self._put_problem}")
        return "; ".join(parts)
