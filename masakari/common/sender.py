"""Delivers what the spool holds to the controller: the oldest first, for as long as it takes.

What is taken ends a report. What is called malformed is set aside. Anything else, and no answer at all, is tried again with
growing pauses. Nothing is given up here, by count or by time; only the spool has limits. No report overtakes an older one about
the same thing. How a report is sent, and what an answer means, is the poster's.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from masakari.common.clock import Clock
from masakari.common.poster import MALFORMED, NOT_ALLOWED, TAKEN, UNANSWERED, Poster
from masakari.common.spool import Entry, Spool
from masakari.common.text import count, local

log = logging.getLogger(__name__)

IDLE_S = 30.0
FIRST_PAUSE_SHARE = 1 / 16
LONGEST_PAUSE_TRIES = 5
REFRESH_AFTER_S = 60.0

REFUSALS = 3
"""After so many refusals of one report the next one gets its turn: it may be that one alone."""

PROBES = 5
"""After so many different reports were refused it is the controller, and the oldest comes first again."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """Where to, and how patiently; durations are seconds.

    A try takes at most timeout_s; pauses grow up to interval_s. After `retry` tries, or after alarm_after_s, a
    report that is still undelivered is an error in the log, and goes on being tried.
    """

    urls: tuple[str, ...]
    timeout_s: float
    interval_s: float
    retry: int
    alarm_after_s: float
    ca_bundle: str = ""


def pause_s(tries: int, interval_s: float, chance: float) -> float:
    """Pure: how long to wait after so many tries in a row without success. chance, from 0 to 1, spreads the nodes."""
    longest = min(interval_s, interval_s * FIRST_PAUSE_SHARE * 2.0 ** min(tries - 1, 16))
    return longest * (0.5 + 0.5 * chance)


class Sender:
    """Sends the reports of one spool; run() by a thread of its own.

    poster, settings: as they are at the moment. refresh: brings the body of a report that waited longer than a minute up to
    date (body, seconds waited; negative when the clock was set back since).
    on_answer: told what the controller answered to a report that was delivered (body, answer).
    """

    def __init__(
        self,
        spool: Spool,
        poster: Callable[[], Poster],
        settings: Callable[[], Delivery],
        clock: Clock,
        refresh: Callable[[Mapping[str, Any], float], Mapping[str, Any]],
        on_answer: Callable[[Mapping[str, Any], Mapping[str, Any]], object],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._spool = spool
        self._poster = poster
        self._settings = settings
        self._clock = clock
        self._refresh = refresh
        self._on_answer = on_answer
        self._chance = chance
        self._wake = threading.Event()
        self._tries = 0  # since the last success, of whichever report
        self._failing_since = 0.0
        self._alarmed = False
        self._not_before = 0.0
        self._refused: dict[str, int] = {}
        self._behind: dict[str, bool] = {}  # True: others were delivered meanwhile, so it is the report
        self._behind_not_before = 0.0
        self._complaints: dict[str, str] = {}  # of those reports
        self._why = ""

    def run(self, stopping: threading.Event) -> None:
        """The body of the thread; returns when stopping is set and poke() was called."""
        while not stopping.is_set():
            self._wake.clear()
            self._wake.wait(self.step())

    def poke(self) -> None:
        """There is something new, or it is time to stop. May be called by any thread."""
        self._wake.set()

    def status(self) -> str:
        """What is not delivered and why; empty when everything is."""
        parts = []
        since = self._spool.since()
        if since is not None:
            why = self._why or next(iter(self._complaints.copy().values()), "")
            why = f": {why}" if why else ""
            parts.append(f"{count(self._spool.waiting(), 'report')} undelivered, the oldest since {local(since)}{why}")
        if self._spool.aside():
            parts.append(f"{count(self._spool.aside(), 'report')} refused for good and set aside: see the log")
        return "; ".join(parts)

    def step(self) -> float:
        """Do what is due; how many seconds until there is something to do again."""
        self._spool.trim()
        report_id = self._next()
        not_before = max(self._not_before, self._behind_not_before if report_id in self._behind else 0.0)
        wait_s = not_before - self._clock.monotonic()
        if wait_s > 0:
            return wait_s
        if report_id is None:
            return IDLE_S
        try:
            entry = self._spool.read(report_id)
        except OSError as error:
            return self._unreadable(error)
        if entry is None:
            return 0.0
        sent = self._poster().send(self._up_to_date(entry))
        if sent.end == TAKEN:
            self._delivered(entry, sent.answer)
            return 0.0
        if sent.end == MALFORMED:
            self._spool.set_aside(entry.id, f"the controller refuses it for good: {sent.why}")
            self._refused.pop(entry.id, None)
            return 0.0
        self._explain(entry, sent.why, sent.end)
        return self._failed(entry.id, sent.end)

    def _next(self) -> str | None:
        """The oldest one; those that stand back come after the others, in turns, and before what is about the same."""
        self._behind = {waiting: proven for waiting, proven in self._behind.items() if self._spool.holds(waiting)}
        self._complaints = {waiting: why for waiting, why in self._complaints.items() if waiting in self._behind}
        if not self._behind:
            return self._spool.oldest(())
        held_up = {self._about(waiting) for waiting in self._behind}
        left_out = set(self._behind)
        while (report_id := self._spool.oldest(left_out)) is not None and self._about(report_id) in held_up:
            left_out.add(report_id)
        return report_id or next(iter(self._behind))

    def _unreadable(self, error: OSError) -> float:
        """The disk does not give a report back: it is tried again, like one that is not taken."""
        why = f"a report can't be read from the disk: {error}"
        if why != self._why:
            log.error("%s; tried again", why)
        self._why = why
        wait_s = self._settings().interval_s
        self._not_before = self._clock.monotonic() + wait_s
        return wait_s

    def _about(self, report_id: str) -> tuple[object, ...]:
        try:
            entry = self._spool.read(report_id)
        except OSError:
            entry = None
        if entry is None:
            return (report_id,)
        return tuple(entry.body.get(name) for name in ("type", "hostname", "uuid", "process"))

    def _up_to_date(self, entry: Entry) -> Mapping[str, Any]:
        waited_s = self._clock.now() - entry.put_at
        return self._refresh(entry.body, waited_s) if abs(waited_s) > REFRESH_AFTER_S else entry.body

    def _delivered(self, entry: Entry, answer: Mapping[str, Any]) -> None:
        self._spool.remove(entry.id)
        self._refused.pop(entry.id, None)
        if self._tries:
            waited_s = self._clock.monotonic() - self._failing_since
            log.info("reports are delivered again after %.0f s; %d more wait", waited_s, self._spool.waiting())
        self._tries, self._not_before, self._alarmed, self._why = 0, 0.0, False, ""
        self._behind = dict.fromkeys(self._behind, True)
        self._on_answer(entry.body, answer)

    def _failed(self, report_id: str, end: str) -> float:
        """Nobody took it. How long to pause."""
        settings, now = self._settings(), self._clock.monotonic()
        if self._behind.get(report_id) and end != UNANSWERED:
            self._stand_back(report_id, end)
            self._behind_not_before = now + pause_s(LONGEST_PAUSE_TRIES, settings.interval_s, self._chance())
            return 0.0
        if not self._tries:
            self._failing_since = now
        self._tries += 1
        self._stand_back(report_id, end)
        if not self._alarmed and (self._tries >= settings.retry or now - self._failing_since >= settings.alarm_after_s):
            self._alarmed = True
            log.error(
                "%s undelivered after %s within %.0f s: %s. Nothing is lost: kept, and tried on every %g s",
                count(self._spool.waiting(), "report"),
                f"{self._tries} tries",
                now - self._failing_since,
                self._why,
                settings.interval_s,
            )
        if report_id in self._behind and self._next() not in self._behind:
            return 0.0
        wait_s = pause_s(self._tries, settings.interval_s, self._chance())
        self._not_before = now + wait_s
        return wait_s

    def _stand_back(self, report_id: str, end: str) -> None:
        """What is refused again and again lets the others pass. If they are refused as well, it is the controller."""
        unproven = [waiting for waiting, proven in self._behind.items() if not proven]
        if report_id in self._behind:
            self._behind[report_id] = self._behind.pop(report_id)
        elif end == NOT_ALLOWED:
            self._behind[report_id] = True
        elif end != UNANSWERED and (unproven or self._refused.get(report_id, 0) + 1 >= REFUSALS):
            self._behind[report_id] = False
            unproven.append(report_id)
        else:
            self._refused = {report_id: self._refused.get(report_id, 0) + 1} if end != UNANSWERED else {}
        if end == UNANSWERED or len(unproven) >= PROBES:
            for waiting in unproven:
                del self._behind[waiting]
            self._refused = {}

    def _explain(self, entry: Entry, why: str, end: str) -> None:
        """Repeated failures are told when their reason changes."""
        if end != UNANSWERED and self._behind.get(entry.id):
            if why != self._complaints.get(entry.id):
                log.error(
                    "report %s (%s) is refused: %s. It is kept and tried on, after the others",
                    entry.id,
                    " ".join(str(part) for part in self._about(entry.id) if part),
                    why,
                )
            self._complaints[entry.id] = why
            return
        if why != self._why:
            log.warning("a report is not delivered, and tried again: %s", why)
        self._why = why
