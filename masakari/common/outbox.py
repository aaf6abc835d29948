"""From what a monitor knows to the spool, so that each failure is reported exactly once, wherever the process dies.

What is known of a failure and the report about it, with its id, are on the disk in one write before the spool gets the report;
the spool and the controller ignore an id that they know. After the next start every report that may not have reached the spool
is put again, with the same id.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

from masakari.common.clock import Clock
from masakari.common.state_file import StateFile
from masakari.common.text import count

log = logging.getLogger(__name__)

LAZY_S = 1.0
RETRY_S = 5.0


class State(Protocol):
    """What a monitor knows. pending: reports that may not be in the spool yet, by id."""

    @property
    def pending(self) -> dict[str, dict[str, Any]]: ...


class Spool(Protocol):
    """Where reports wait for their delivery."""

    def put(self, body: Mapping[str, Any]) -> None:
        """Durable on return; an id that waits already changes nothing. OSError: it was not kept."""


S = TypeVar("S", bound=State)


class Outbox(Generic[S]):
    """The state of a monitor on the disk, and the reports in it on their way to the spool. For one thread.

    Changes of the state are told by changed(), new reports by report(); settle() does what is due. wake_sender: called when
    the spool has got something.
    """

    def __init__(
        self, file: StateFile[S], state: S, spool: Spool, clock: Clock, wake_sender: Callable[[], object]
    ) -> None:
        self._file = file
        self._state = state
        self._spool = spool
        self._clock = clock
        self._wake_sender = wake_sender
        self._urgent = False
        self._save_at: float | None = None
        self._put_at = 0.0
        self._save_problem = self._put_problem = ""

    def begin(self) -> None:
        """Hand over what an earlier process may not have handed over any more."""
        pending = self._state.pending
        if pending:
            log.info(
                "reports of an earlier run are put into the spool, again if they are there: %s", ", ".join(pending)
            )
        self.settle()

    def report(self, body: dict[str, Any]) -> None:
        """Take over a report; settle() writes it together with what is known, and puts it into the spool."""
        self._state.pending[body["id"]] = body
        self._urgent = True

    def changed(self) -> None:
        """The state is no longer what is on the disk; it is written within a second."""
        if self._save_at is None:
            self._save_at = self._clock.monotonic() + LAZY_S

    def settle(self) -> None:
        """Write and hand over what is due. The order is what makes it exactly once."""
        now = self._clock.monotonic()
        if self._urgent or (self._save_at is not None and now >= self._save_at):
            self._save()
        if self._state.pending and now >= self._put_at:
            self._put()

    def close(self) -> None:
        """Write what is not on the disk yet."""
        if self._save_at is not None:
            self._save()

    def problems(self) -> list[str]:
        """What can't be done at the moment, a sentence each."""
        found = []
        if self._save_problem:
            found.append(f"the state file can't be written: {self._save_problem}")
        if self._put_problem:
            waiting = count(len(self._state.pending), "report")
            found.append(f"{waiting} can't be put into the spool: {self._put_problem}")
        return found

    def _save(self) -> None:
        # Reports go on to the spool even if this fails: what is down matters more than a second report of it, which only a
        # restart before the next write could make, and which would find nothing left to do.
        self._urgent = False
        try:
            self._file.save(self._state)
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
        pending = self._state.pending
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
            self.changed()
            self._wake_sender()
