"""Reports on the disk until they are delivered: one file each, its name says when it came and its id.

A report counts as seen once put() has returned. Reports are kept in memory by name only. Not more than max_bytes, and none
for longer than max_age_s; before anything is dropped there is an error in the log at four fifths of either limit.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

from masakari.common import durable
from masakari.common.clock import Clock
from masakari.common.text import count, utc

log = logging.getLogger(__name__)

ALARM_SHARE = 0.8
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
        os.makedirs(self._aside, mode=0o700, exist_ok=True)
        self._files = {found["id"]: found["name"] for found in self._found(folder)}
        self._bytes = sum(self._size(name) for name in self._files.values())
        self._newest = max((_stamp(name) for name in self._files.values()), default=0)
        self._aside_count = len(self._found(self._aside))
        self._alarmed = False

    def put(self, body: Mapping[str, Any]) -> None:
        """Keep a report; it is on the disk on return. An id that waits already changes nothing. OSError: it was not kept."""
        report_id, data = _as_name(str(body["id"])), json.dumps(body).encode()
        with self._lock:
            if report_id in self._files:
                return
            # Later than all others, also when the clock was set back.
            stamp = max(int(self._clock.now() * 1e9), self._newest + 1)
            name = f"{stamp:020d}-{_as_name(report_id)}.json"
            durable.write(os.path.join(self._folder, name), data)
            self._newest = stamp
            self._files[report_id] = name
            self._bytes += len(data)

    def oldest(self, but: Container[str] = ()) -> str | None:
        """The oldest report that waits, leaving these out; None: there is no other."""
        with self._lock:
            return next((report_id for report_id in self._files if report_id not in but), None)

    def holds(self, report_id: str) -> bool:
        """Whether it waits."""
        return report_id in self._files

    def waiting(self) -> int:
        """How many wait."""
        return len(self._files)

    def since(self) -> float | None:
        """When the oldest one came, Unix seconds; None: nothing waits."""
        with self._lock:
            return next((_stamp(name) / 1e9 for name in self._files.values()), None)

    def read(self, report_id: str) -> Entry | None:
        """A report; None when it doesn't wait any more, or can't be read, in which case it is set aside."""
        name = self._files.get(report_id)
        if name is None:
            return None
        try:
            with open(os.path.join(self._folder, name), "rb") as file:
                body = json.loads(file.read())
            if not isinstance(body, dict):
                raise ValueError("not a JSON object")
        except (OSError, ValueError) as error:
            self.set_aside(report_id, f"its file can't be read: {error}")
            return None
        return Entry(report_id, body, _stamp(name) / 1e9)

    def remove(self, report_id: str) -> None:
        """It is delivered. If the disk refuses, it is only forgotten here, and sent once more after a restart."""
        with self._lock:
            name = self._files.pop(report_id, None)
            if name is None:
                return
            path = os.path.join(self._folder, name)
            self._bytes -= self._size(name)
            try:
                durable.remove(path)
            except OSError as error:
                log.warning("the delivered report %s can't be removed: %s", path, error)

    def set_aside(self, report_id: str, why: str) -> None:
        """Sending it again is no use; it is kept in the folder "aside", and tried again after the next start."""
        with self._lock:
            name = self._files.pop(report_id, None)
            if name is None:
                return
            path = os.path.join(self._folder, name)
            self._bytes -= self._size(name)
            self._aside_count += 1
            log.error(
                "report %s is set aside: %s. It is %s/%s, and tried again after a restart",
                report_id,
                why,
                self._aside,
                name,
            )
            try:
                durable.move(path, os.path.join(self._aside, name))
            except OSError as error:
                log.error("%s can't be moved: %s; it stays, and is tried again after a restart", path, error)

    def aside(self) -> int:
        """How many were set aside, and wait for a restart."""
        return self._aside_count

    def take_back(self) -> list[str]:
        """At start: let everything that was set aside wait again. Their ids; each is told in the log. Raises OSError."""
        back = self._found(self._aside)
        with self._lock:
            for found in back:
                log.warning("report %s, which was set aside, is tried again", found["id"])
                durable.move(os.path.join(self._aside, found["name"]), os.path.join(self._folder, found["name"]))
                self._files[found["id"]] = found["name"]
                self._bytes += self._size(found["name"])
            self._files = dict(sorted(self._files.items(), key=lambda item: item[1]))
            self._newest = max([self._newest, *(_stamp(found["name"]) for found in back)])
            self._aside_count = 0
        return [found["id"] for found in back]

    def trim(self) -> list[str]:
        """Drop what is over the limits, the oldest first, each told as an error; before it comes to that, raise an alarm."""
        dropped = []
        while (report_id := self._over_limit()) is not None:
            entry = self.read(report_id)
            about = _about(entry.body) if entry else "unreadable"
            came = utc(entry.put_at) if entry else "?"
            log.error(
                "report %s (%s) of %s is DROPPED undelivered: the spool's limit is reached", report_id, about, came
            )
            self.remove(report_id)
            dropped.append(report_id)
        self._alarm(bool(dropped))
        return dropped

    def _over_limit(self) -> str | None:
        """The oldest report, if there is too much or if it is too old."""
        with self._lock:
            for report_id, name in self._files.items():
                old = self._clock.now() - _stamp(name) / 1e9 > self._max_age_s
                return report_id if old or self._bytes > self._max_bytes else None
        return None

    def _alarm(self, dropped: bool) -> None:
        since = self.since()
        age_s = self._clock.now() - since if since is not None else 0.0
        near = self._bytes > ALARM_SHARE * self._max_bytes or age_s > ALARM_SHARE * self._max_age_s
        if near and not self._alarmed and not dropped:
            log.error(
                "%s undelivered, %d KiB, the oldest since %s: at %d KiB or %.0f h reports are dropped. See why the controller "
                "does not take them",
                count(self.waiting(), "report"),
                self._bytes >> 10,
                utc(since or 0.0),
                self._max_bytes >> 10,
                self._max_age_s / 3600,
            )
        self._alarmed = near

    def _found(self, folder: str) -> list[dict[str, str]]:
        """The reports in a folder, the oldest first. Left-overs of a write that was cut off are removed."""
        found = []
        for item in sorted(os.scandir(folder), key=lambda item: item.name):
            if item.name.startswith(durable.TEMPORARY):
                os.unlink(item.path)
            elif named := _NAME.fullmatch(item.name):
                found.append({"id": named.group(2), "name": item.name})
            elif item.is_file():
                log.warning("%s is no report, and left alone", item.path)
        return found

    def _size(self, name: str) -> int:
        try:
            return os.stat(os.path.join(self._folder, name)).st_size
        except OSError:
            return 0


def _stamp(name: str) -> int:
    return int(name[:20])


def _as_name(report_id: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", report_id)[:100]


def _about(body: Mapping[str, Any]) -> str:
    parts = [body.get(name) for name in ("type", "hostname", "uuid", "process")]
    return " ".join(str(part) for part in parts if part)
