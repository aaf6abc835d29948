"""Delivers what the spool holds to the controller: the oldest first, for as long as it takes.

A 2xx ends a report. What is called malformed (400, 413, 422) is set aside. Anything else, and no answer at all, is tried again
with growing pauses. Nothing is given up here, by count or by time; only the spool has limits. No report overtakes an older one
about the same thing.
"""

from __future__ import annotations

import json
import logging
import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from masakari.common.clock import Clock
from masakari.common.errors import Unavailable
from masakari.common.post import Answer
from masakari.common.signature import HEADER, sign
from masakari.common.spool import Entry, Spool
from masakari.common.text import count, local

log = logging.getLogger(__name__)

MALFORMED = (400, 413, 422)
IDLE_S = 30.0
FIRST_PAUSE_SHARE = 1 / 16
LONGEST_PAUSE_TRIES = 5
REFRESH_AFTER_S = 60.0
NOT_ALLOWED = 403
"""The one refusal that is about this report, and not about us or the controller."""

REFUSALS = 3
"""After so many refusals of one report the next one gets its turn: it may be that one alone."""

PROBES = 5
"""After so many different reports were refused it is the controller, and the oldest comes first again."""

WORDS = 300


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


Post = Callable[[str, bytes, Mapping[str, str], float, str], Answer]
"""url, body, headers, timeout_s, ca_bundle. Raises Unavailable when there is no complete answer in time."""


def pause_s(tries: int, interval_s: float, chance: float) -> float:
    """Pure: how long to wait after so many tries in a row without success. chance, from 0 to 1, spreads the nodes."""
    longest = min(interval_s, interval_s * FIRST_PAUSE_SHARE * 2.0 ** min(tries - 1, 16))
    return longest * (0.5 + 0.5 * chance)


class Sender:
    """Sends the reports of one spool; run() by a thread of its own.

    settings: as they are at the moment. key: key id and secret, None: reports are not signed. refresh: brings the body of a
    report that waited longer than a minute up to date (body, seconds waited; negative when the clock was set back since).
    on_answer: told what the controller answered to a report that was delivered (body, answer).
    """

    def __init__(
        self,
        spool: Spool,
        post: Post,
        settings: Callable[[], Delivery],
        key: Callable[[], tuple[str, str] | None],
        clock: Clock,
        refresh: Callable[[Mapping[str, Any], float], Mapping[str, Any]],
        on_answer: Callable[[Mapping[str, Any], Mapping[str, Any]], object],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._spool = spool
        self._post = post
        self._settings = settings
        self._key = key
        self._clock = clock
        self._refresh = refresh
        self._on_answer = on_answer
        self._chance = chance
        self._wake = threading.Event()
        self._url = ""  # the one that answered last is asked first
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
        answer = self._ask_all(entry)
        if answer is not None and 200 <= answer.status < 300:
            self._delivered(entry, _content(answer, self._url))
            return 0.0
        if answer is not None and answer.status in MALFORMED:
            self._spool.set_aside(
                entry.id, f"the controller refuses it for good: HTTP {answer.status}, {_said(answer)}"
            )
            self._refused.pop(entry.id, None)
            return 0.0
        return self._failed(entry.id, answer.status if answer else None)

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

    def _ask_all(self, entry: Entry) -> Answer | None:
        """Post to one controller after the other until one takes it, or calls it malformed; else the last answer, if any."""
        settings = self._settings()
        body = self._body(entry)
        refusal, problems = None, []
        first = settings.urls.index(self._url) if self._url in settings.urls else 0
        for url in (*settings.urls[first:], *settings.urls[:first]):
            try:
                answer = self._post(url, body, self._signed(body), settings.timeout_s, settings.ca_bundle)
            except Unavailable as error:
                problems.append(str(error))
                continue
            if 200 <= answer.status < 300 or answer.status in MALFORMED:
                self._url = url
                return answer
            refusal = answer
            problems.append(f"{url} answered HTTP {answer.status}, {_said(answer)}")
        self._explain(entry, "; ".join(problems), refusal is not None)
        return refusal

    def _body(self, entry: Entry) -> bytes:
        waited_s = self._clock.now() - entry.put_at
        body = self._refresh(entry.body, waited_s) if abs(waited_s) > REFRESH_AFTER_S else entry.body
        return json.dumps(body).encode()

    def _signed(self, body: bytes) -> dict[str, str]:
        key = self._key()
        return {HEADER: sign(*key, body, self._clock.now())} if key else {}

    def _delivered(self, entry: Entry, content: Mapping[str, Any]) -> None:
        self._spool.remove(entry.id)
        self._refused.pop(entry.id, None)
        if self._tries:
            waited_s = self._clock.monotonic() - self._failing_since
            log.info("reports are delivered again after %.0f s; %d more wait", waited_s, self._spool.waiting())
        self._tries, self._not_before, self._alarmed, self._why = 0, 0.0, False, ""
        self._behind = dict.fromkeys(self._behind, True)
        self._on_answer(entry.body, content)

    def _failed(self, report_id: str, status: int | None) -> float:
        """Nobody took it. How long to pause."""
        settings, now = self._settings(), self._clock.monotonic()
        if self._behind.get(report_id) and status is not None:
            self._stand_back(report_id, status)
            self._behind_not_before = now + pause_s(LONGEST_PAUSE_TRIES, settings.interval_s, self._chance())
            return 0.0
        if not self._tries:
            self._failing_since = now
        self._tries += 1
        self._stand_back(report_id, status)
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

    def _stand_back(self, report_id: str, status: int | None) -> None:
        """What is refused again and again lets the others pass. If they are refused as well, it is the controller."""
        unproven = [waiting for waiting, proven in self._behind.items() if not proven]
        if report_id in self._behind:
            self._behind[report_id] = self._behind.pop(report_id)
        elif status == NOT_ALLOWED:
            self._behind[report_id] = True
        elif status is not None and (unproven or self._refused.get(report_id, 0) + 1 >= REFUSALS):
            self._behind[report_id] = False
            unproven.append(report_id)
        else:
            self._refused = {report_id: self._refused.get(report_id, 0) + 1} if status is not None else {}
        if status is None or len(unproven) >= PROBES:
            for waiting in unproven:
                del self._behind[waiting]
            self._refused = {}

    def _explain(self, entry: Entry, why: str, refused: bool) -> None:
        """Repeated failures are told when their reason changes."""
        if refused and self._behind.get(entry.id):
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


def _content(answer: Answer, url: str) -> Mapping[str, Any]:
    """What the controller says of a report that it has stored. Whatever else answers 2xx has taken the report, too."""
    try:
        content = json.loads(answer.body)
    except ValueError:
        content = None
    if isinstance(content, dict) and ("known" in content or "recovery" in content):
        return content
    log.error(
        "%s took a report, but does not answer as a Masakari controller: is the url right? %s", url, _said(answer)
    )
    return {}


def _said(answer: Answer) -> str:
    """The words of an answer, fit for a line of the log."""
    text = answer.body[:WORDS].decode("utf-8", "replace").strip()
    try:
        content = json.loads(answer.body)
    except ValueError:
        return ascii(text)
    if isinstance(content, dict) and "error" in content:
        field = content.get("field")
        return f"{field}: {content['error']}" if field else str(content["error"])
    return text
