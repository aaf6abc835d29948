"""Port to the file that remembers which processes are down, were stopped by an operator or sleep, and which reports are owed.

A report is written here, with its id, before it goes into the spool, and struck out after it: whatever happens in between, the
next start puts the same report into the spool again, and the same id changes nothing there or at the controller.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from masakari.common import durable
from processmonitor.supervise import DOWN, SLEEPING, STOPPED

log = logging.getLogger(__name__)

UP = "up"
RESTING = (STOPPED, SLEEPING)
MOST_OWED = 8
"""Reports kept for one process while the spool takes none: of a flapping process the last ones tell enough."""

Body = Mapping[str, Any]
MakeReport = Callable[[str, str, str, float, str], Body]
"""(process, "down" or "up", on_failure, at, reason) -> the body of a report with an id of its own."""


@dataclass(frozen=True, slots=True)
class Record:
    """What is remembered of a process. state: down, stopped, sleeping, or up when only reports are owed.

    since: Unix seconds. on_failure: as it was reported. unit, boot_id: of what was stopped or sleeps.
    """

    state: str
    since: float
    on_failure: str = ""
    unit: str = ""
    boot_id: str = ""
    owed: tuple[Body, ...] = field(default=())


class Outages:
    """The file, and the way of a report into the spool. For one thread."""

    def __init__(
        self,
        path: str,
        boot_id: str,
        make_report: MakeReport,
        put: Callable[[Body], None],
        write: Callable[[str, bytes], None] = durable.write,
    ) -> None:
        """Reads the file. One that can't be understood is set aside, and said so. OSError if it can't be read at all."""
        self._path = path
        self._boot_id = boot_id
        self._make_report = make_report
        self._put = put
        self._write_file = write
        self._problem = ""
        self._unwritten = False
        self._records = self._read()
        for name, record in list(self._records.items()):
            # What an operator stopped before the host booted is started with everything else.
            if record.state in RESTING and record.boot_id != boot_id:
                self.forget_rest(name)

    def remembered(self, name: str) -> str:
        """DOWN, STOPPED or SLEEPING, if the process was last seen so; else empty."""
        record = self._records.get(name)
        return record.state if record and record.state != UP else ""

    def names(self) -> list[str]:
        """Every process that is down, was stopped or sleeps."""
        return [name for name in self._records if self.remembered(name)]

    def since(self, name: str) -> float:
        """When it went down, was stopped or fell asleep, Unix seconds."""
        return self._records[name].since

    def unit(self, name: str) -> str:
        """The systemd service of a process that was stopped or sleeps, "" if unknown."""
        record = self._records.get(name)
        return record.unit if record else ""

    def down(self, name: str, on_failure: str, at: float, reason: str) -> None:
        """Report an outage, once: nothing happens while it is on record as down."""
        if self.remembered(name) != DOWN:
            body = self._make_report(name, "down", on_failure, at, reason)
            self._set(name, Record(DOWN, at, on_failure, owed=(*self._owed(name), body)))
            self.flush()

    def up(self, name: str, at: float, reason: str) -> None:
        """Report the end of an outage; nothing happens for a process that isn't on record as down."""
        if self.remembered(name) == DOWN:
            on_failure = self._records[name].on_failure
            body = self._make_report(name, "up", on_failure, at, reason)
            self._set(name, Record(UP, at, on_failure, owed=(*self._owed(name), body)))
            self.flush()

    def rests(self, name: str, state: str, unit: str, at: float) -> None:
        """Remember, for this boot of the host, that it is STOPPED or SLEEPING."""
        self._set(name, Record(state, at, unit=unit, boot_id=self._boot_id, owed=self._owed(name)))

    def forget_rest(self, name: str) -> None:
        """It runs again, or its service has failed since."""
        if self.remembered(name) in RESTING:
            self._set(name, replace(self._records[name], state=UP))

    def flush(self) -> str:
        """Put what is owed into the spool. What is wrong if that can't be done now, else empty; to be called again then.

        Nothing goes into the spool that is not on record first.
        """
        problem = ""
        try:
            if self._unwritten:
                self._write()
            for name, record in list(self._records.items()):
                for body in record.owed:
                    self._put(body)
                if record.owed:
                    self._set(name, replace(record, owed=()))
        except OSError as error:
            problem = f"a report can't be stored: {error.filename or self._path}: {error.strerror or error}"
        if problem != self._problem:
            if problem:
                log.error("%s; it is tried again until it can be", problem)
            else:
                log.info("reports can be stored again")
            self._problem = problem
        return problem

    def _owed(self, name: str) -> tuple[Body, ...]:
        record = self._records.get(name)
        return record.owed[1 - MOST_OWED :] if record else ()

    def _set(self, name: str, record: Record) -> None:
        if record.state == UP and not record.owed:
            self._records.pop(name, None)
        else:
            self._records[name] = record
        # A full disk is no reason to stop watching: flush() comes back to it.
        self._unwritten = True
        with suppress(OSError):
            self._write()

    def _write(self) -> None:
        kept = {name: asdict(record) for name, record in self._records.items()}
        self._write_file(self._path, json.dumps({"version": 1, "processes": kept}, indent=1).encode())
        self._unwritten = False

    def _read(self) -> dict[str, Record]:
        try:
            with open(self._path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return {}
        try:
            return {name: _record(fields) for name, fields in json.loads(data)["processes"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            aside = self._path + ".unreadable"
            os.replace(self._path, aside)
            log.error(
                "%s can't be understood (%r) and is now %s: a process that is down may be reported once more, and one that an "
                "operator stopped is started",
                self._path,
                error,
                aside,
            )
            return {}


def _record(fields: Mapping[str, Any]) -> Record:
    record = Record(**{**fields, "since": float(fields["since"]), "owed": tuple(fields["owed"])})
    if record.state not in (DOWN, UP, *RESTING) or not all(isinstance(body, dict) for body in record.owed):
        raise ValueError("not a record of an outage")
    return record
