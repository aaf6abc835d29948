"""Reports on the disk until they are delivered: one file each, its name says when it came and its id.

A report counts as seen once put() has returned. Only ids and times are kept in memory. Not more than max_bytes, with what was
set aside, and nothing that waits for longer than max_age_s; before anything is dropped there is an error in the log at four
fifths of either limit, and for its age nothing is dropped within the hour after that error: a clock that was put right, or a
host that was off for long, must leave a report the time to be delivered.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections.abc import Container, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from masakari.common import durable
from masakari.common.clock import Clock
from masakari.common.text import count, utc

log = logging.getLogger(__name__)

ALARM_SHARE = 0.8
GRACE_S = 3600.0
BLOCK = 4096
_NAME = re.compile(r"([0-9]{20})-([A-Za-z0-9._-]{1,100})\.json")


@dataclass(frozen=True, slots=True)
class Entry:
    """A report that waits. put_at: when it came, Unix seconds."""

    id: str
    body: dict[str, Any]
    put_at: float


class Spool:
    """The reports of one monitor. put() and the rest may be called by different threads."""

    def __init__(self, folder: str, clock: Clock, *, max_bytes: int, max_age_s: float) -> None:
        """The folder is made if need be; what an earlier process left is in it. Raises OSError."""
        self._folder = folder
        self._aside = os.path.join(folder, "aside")
        self._clock = clock
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._lock = threading.Lock()
        self._putting = threading.Lock()  # the order of the ids is that of the files
        os.makedirs(self._aside, mode=0o700, exist_ok=True)
        self._stamps = self._found(folder)
        self._bytes = sum(_size(self._path(folder, *found)) for found in self._stamps.items())
        set_aside = self._found(self._aside)
        self._aside_count = len(set_aside)
        self._aside_bytes = sum(_size(self._path(self._aside, *found)) for found in set_aside.items())
        self._newest = max(self._stamps.values(), default=0)
        self._alarmed_at: float | None = None

    def put(self, body: Mapping[str, Any]) -> None:
        """Keep a report; it is on the disk on return. An id that waits already changes nothing. OSError: it was not kept."""
        report_id, data = _as_name(str(body["id"])), json.dumps(body).encode()
        with self._putting:
            with self._lock:
                if report_id in self._stamps:
                    return
                # Later than all others, also when the clock was set back.
                stamp = self._newest = max(int(self._clock.now() * 1e9), self._newest + 1)
            path = self._path(self._folder, report_id, stamp)
            try:
                durable.write(path, data)
            except OSError:
                with suppress(OSError):
                    os.unlink(path)
                raise
            with self._lock:
                self._stamps[report_id] = stamp
                self._bytes += _on_disk(len(data))

    def oldest(self, but: Container[str] = ()) -> str | None:
        """The oldest report that waits, leaving these out; None: there is no other."""
        with self._lock:
            return next((report_id for report_id in self._stamps if report_id not in but), None)

    def holds(self, report_id: str) -> bool:
        """Whether it waits."""
        return report_id in self._stamps

    def waiting(self) -> int:
        """How many wait."""
        return len(self._stamps)

    def since(self) -> float | None:
        """When the oldest one came, Unix seconds; None: nothing waits."""
        with self._lock:
            return next((stamp / 1e9 for stamp in self._stamps.values()), None)

    def read(self, report_id: str) -> Entry | None:
        """A report; None when it doesn't wait any more, or is none, in which case it is set aside. OSError: not now."""
        stamp = self._stamps.get(report_id)
        if stamp is None:
            return None
        try:
            with open(self._path(self._folder, report_id, stamp), "rb") as file:
                body = json.loads(file.read())
            if not isinstance(body, dict):
                raise ValueError("not a JSON object")
        except (FileNotFoundError, ValueError) as error:
            self.set_aside(report_id, f"its file can't be read: {error}")
            return None
        return Entry(report_id, body, stamp / 1e9)

    def remove(self, report_id: str) -> None:
        """It is delivered. If the disk refuses, it is only forgotten here, and sent once more after a restart."""
        path = self._forget(report_id)
        if path:
            try:
                durable.remove(path)
            except OSError as error:
                log.warning("the delivered report %s can't be removed: %s", path, error)

    def set_aside(self, report_id: str, why: str) -> None:
        """Sending it again is no use; it is kept in the folder "aside", and tried again after the next start."""
        path = self._forget(report_id)
        if not path:
            return
        aside = os.path.join(self._aside, os.path.basename(path))
        log.error("report %s is set aside: %s. It is %s, and tried again after a restart", report_id, why, aside)
        try:
            durable.move(path, aside)
        except OSError as error:
            log.error("%s can't be moved: %s; it stays, and is tried again after a restart", path, error)
        with self._lock:
            self._aside_bytes += _size(aside)
            self._aside_count += 1

    def _forget(self, report_id: str) -> str:
        """Where it is on the disk; empty when it doesn't wait. The disk, which may hang, is not touched under the lock."""
        stamp = self._stamps.get(report_id)
        if stamp is None:
            return ""
        path = self._path(self._folder, report_id, stamp)
        size = _size(path)
        with self._lock:
            if self._stamps.pop(report_id, None) is None:
                return ""
            self._bytes -= size
        return path

    def aside(self) -> int:
        """How many were set aside, and wait for a restart."""
        return self._aside_count

    def take_back(self) -> list[str]:
        """At start: let everything that was set aside wait again. Their ids; each is told in the log."""
        back = []
        for report_id, stamp in self._found(self._aside).items():
            path = self._path(self._folder, report_id, stamp)
            try:
                durable.move(self._path(self._aside, report_id, stamp), path)
            except OSError as error:
                log.error("report %s, which was set aside, can't be tried again: %s", report_id, error)
                continue
            log.warning("report %s, which was set aside, is tried again", report_id)
            with self._lock:
                self._stamps[report_id] = stamp
                self._bytes += _size(path)
                self._aside_bytes -= _size(path)
                self._aside_count -= 1
            back.append(report_id)
        with self._lock:
            self._stamps = dict(sorted(self._stamps.items(), key=lambda item: item[1]))
            self._newest = max([self._newest, *self._stamps.values()])
        return back

    def trim(self) -> list[str]:
        """Drop what is over the limits, the oldest first, each told as an error; before it comes to that, raise an alarm."""
        self._alarm()
        dropped = self._trim_aside() if self._bytes + self._aside_bytes > self._max_bytes else []
        while (report_id := self._over_limit()) is not None:
            log.error("report %s is DROPPED undelivered: the spool's limit is reached", self._describe(report_id))
            self.remove(report_id)
            dropped.append(report_id)
        return dropped

    def _describe(self, report_id: str) -> str:
        try:
            entry = self.read(report_id)
        except OSError:
            entry = None
        return f"{report_id} ({_about(entry.body)}) of {utc(entry.put_at)}" if entry else f"{report_id} (unreadable)"

    def _trim_aside(self) -> list[str]:
        """What was refused goes before what may still be delivered."""
        dropped = []
        for report_id, stamp in self._found(self._aside).items():
            if self._bytes + self._aside_bytes <= self._max_bytes:
                break
            path = self._path(self._aside, report_id, stamp)
            size = _size(path)
            try:
                durable.remove(path)
            except OSError as error:
                log.error("%s can't be removed: %s", path, error)
                break
            log.error("report %s, which was set aside, is DROPPED: the spool's limit is reached", report_id)
            with self._lock:
                self._aside_bytes -= size
                self._aside_count -= 1
            dropped.append(report_id)
        return dropped

    def _over_limit(self) -> str | None:
        """The oldest report, if there is too much or if it is too old."""
        with self._lock:
            for report_id, stamp in self._stamps.items():
                old = self._clock.now() - stamp / 1e9 > self._max_age_s
                told = self._alarmed_at is not None and self._clock.monotonic() - self._alarmed_at >= GRACE_S
                return report_id if (old and told) or self._bytes > self._max_bytes else None
        return None

    def _alarm(self) -> None:
        since = self.since()
        age_s = self._clock.now() - since if since is not None else 0.0
        near = self._bytes + self._aside_bytes > ALARM_SHARE * self._max_bytes or age_s > ALARM_SHARE * self._max_age_s
        if not near:
            self._alarmed_at = None
        elif self._alarmed_at is None:
            self._alarmed_at = self._clock.monotonic()
            log.error(
                "%s undelivered, %d KiB, the oldest since %s: at %d KiB or %.0f h reports are dropped. See why the controller "
                "does not take them",
                count(self.waiting(), "report"),
                (self._bytes + self._aside_bytes) >> 10,
                utc(since or 0.0),
                self._max_bytes >> 10,
                self._max_age_s / 3600,
            )

    def _found(self, folder: str) -> dict[str, int]:
        """The reports in a folder, the oldest first: when each came (ns), by id. Left-overs of a write that was cut off are
        removed."""
        found = []
        with os.scandir(folder) as items:
            for item in items:
                if item.name.startswith(durable.TEMPORARY):
                    os.unlink(item.path)
                elif named := _NAME.fullmatch(item.name):
                    found.append((int(named.group(1)), named.group(2)))
                elif item.is_file():
                    log.warning("%s is no report, and left alone", item.path)
        found.sort()
        return {report_id: stamp for stamp, report_id in found}

    def _path(self, folder: str, report_id: str, stamp: int) -> str:
        return os.path.join(folder, f"{stamp:020d}-{report_id}.json")


def _size(path: str) -> int:
    try:
        return _on_disk(os.stat(path).st_size)
    except OSError:
        return 0


def _on_disk(length: int) -> int:
    """What a file takes on a disk, which has no smaller pieces."""
    return -(-length // BLOCK) * BLOCK


def _as_name(report_id: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", report_id)[:100]


def _about(body: Mapping[str, Any]) -> str:
    parts = [body.get(name) for name in ("type", "hostname", "uuid", "process")]
    return " ".join(str(part) for part in parts if part)
