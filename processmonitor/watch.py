"""The thread that watches: it waits for the end of processes, lets supervise.py decide, and has done what that says."""

from __future__ import annotations

import logging
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

from masakari.common.clock import Clock
from masakari.common.errors import Unavailable
from masakari.common.text import utc
from processmonitor.commands import Result
from processmonitor.entry import Entry
from processmonitor.jobs import Jobs
from processmonitor.outages import Outages
from processmonitor.presence import Presence, SeesProcesses, WaitsForProcesses
from processmonitor.supervise import DOWN, SLEEPING, STOPPED, Action, Rules, Seen, State, Verb, Verdict, begin, step

log = logging.getLogger(__name__)

FULL_LOOK_S = 60.0
"""How often everything is looked for, also what is held: new workers, and programs that changed their name."""

SOON_S = 1.0
LONGEST_PAUSE_S = 10.0
FINISH_WITHIN_S = 3.5
"""How long commands under way are waited for at the end; a single one gets 3 s, and says itself when that was not enough."""


def counted(number: int) -> str:
    """1 process, 2 processes."""
    return "1 process" if number == 1 else f"{number} processes"


class Watch:
    """Watches the processes of a list. run() is the thread; reload(), wake() and status() may be called by any other."""

    def __init__(
        self,
        entries: Iterable[Entry],
        rules: Callable[[], Rules],
        processes: SeesProcesses,
        pidfds: WaitsForProcesses,
        jobs: Jobs,
        outages: Outages,
        clock: Clock,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        """beat is called when the thread begins, and at least every 10 s while it does its work."""
        self._rules = rules
        self._pidfds = pidfds
        self._presence = Presence(processes, pidfds)
        self._jobs = jobs
        self._outages = outages
        self._clock = clock
        self._beat = beat
        self._inbox: queue.SimpleQueue[tuple[str, int, Seen]] = queue.SimpleQueue()
        self._wanted: queue.SimpleQueue[list[Entry]] = queue.SimpleQueue()
        self._wanted.put(list(entries))
        self._stopping = threading.Event()
        self._entries: dict[str, Entry] = {}
        self._states: dict[str, State] = {}
        self._tickets: Counter[str] = Counter()
        self._news: dict[str, Seen] = {}
        self._touched: set[str] = set()
        self._full_at = 0.0
        self._blind = ""
        self._status = "starting"

    def reload(self, entries: Iterable[Entry]) -> None:
        """Watch these from now on. What is known of a process stays, by its name.

        One that is down and no longer in the list is reported as up, with that reason: nobody would do so later.
        """
        self._wanted.put(list(entries))
        self.wake()

    def wake(self) -> None:
        """Let run() notice what it waits for, its end for instance."""
        self._pidfds.wake()

    def status(self) -> str:
        """One line about how the processes are."""
        return self._status

    def run(self, stopping: threading.Event) -> None:
        """Watch until stopping is set and wake() is called. Commands under way then have 3.5 s to finish."""
        self._stopping = stopping
        self._beat()
        while not stopping.is_set():
            self.turn()
        self._finish()

    def turn(self) -> None:
        """Wait until there is something to do, at most PROCESS_CHECK_INTERVAL or 10 s, and do it."""
        try:
            lost = self._presence.wait(self._pause_s())
            if lost:
                self._touched |= lost
                self._full_at = min(self._full_at, self._clock.monotonic() + SOON_S)
            self._take_messages()
            self._adopt()
            self._see_to()
            blind = ""
        except Unavailable as error:
            blind = f"{error}; no process can be watched until that is mended"
        if blind != self._blind:
            log.log(logging.ERROR if blind else logging.INFO, "%s", blind or "/proc can be read again")
            self._blind = blind
        self._status = self._sentence(self._outages.flush())
        self._beat()

    def _finish(self) -> None:
        until = self._clock.monotonic() + FINISH_WITHIN_S
        under_way = self._jobs.under_way()
        for thread in under_way:
            thread.join(max(0.0, until - self._clock.monotonic()))
        left = ", ".join(thread.name for thread in under_way if thread.is_alive())
        if left:
            log.warning("%s still under way: what runs is left to itself, and what comes after it is not run", left)

    def _pause_s(self) -> float:
        longest = min(self._rules().check_interval_s, LONGEST_PAUSE_S)
        if self._blind:
            return longest
        if not self._wanted.empty() or self._touched or self._news:
            return 0.0
        due = min((state.due for state in self._states.values()), default=self._full_at)
        return max(0.0, min(longest, min(due, self._full_at) - self._clock.monotonic()))

    def _take_messages(self) -> None:
        while not self._inbox.empty():
            name, ticket, told = self._inbox.get()
            # An answer to a question that is no longer asked must not be taken for one to the next.
            if ticket == self._tickets[name] and name in self._states:
                self._news[name] = told

    def _adopt(self) -> None:
        """Begin to watch what is new in the list, and no longer what has left it."""
        wanted = None
        while not self._wanted.empty():
            wanted = self._wanted.get()
        if wanted is not None:
            self._entries = self._unique(wanted)
            for name in self._states.keys() - self._entries.keys():
                self._drop(name)
            for name in set(self._outages.names()) - self._entries.keys():
                self._outages.up(name, self._clock.now(), "no longer watched: it has left the list of processes")
                self._outages.forget_rest(name)
        new = [name for name in self._entries if name not in self._states]
        if not new:
            return
        self._presence.look(new)
        now, starting = self._clock.monotonic(), []
        for name in new:
            self._states[name], actions = begin(self._presence.alive(name), self._outages.remembered(name), now)
            if actions:
                starting.append(self._entries[name])
            else:
                log.info("%s: %s", name, self._states[name].phase)
        self._start(starting)

    def _unique(self, wanted: list[Entry]) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        for entry in wanted:
            first = entries.setdefault(entry.name, entry)
            if first is not entry:
                log.warning(
                    "%s: %s is watched already by %s; this one is left out", entry.where, entry.name, first.where
                )
        return entries

    def _drop(self, name: str) -> None:
        log.info("%s: no longer watched", name)
        del self._states[name]
        self._news.pop(name, None)
        self._touched.discard(name)
        self._presence.drop(name)

    def _see_to(self) -> None:
        """One step for every process that has news or is due."""
        now = self._clock.monotonic()
        names = {name for name, state in self._states.items() if state.due <= now}
        names |= (self._touched | self._news.keys()) & self._states.keys()
        if now >= self._full_at:
            names = set(self._states)
            self._presence.look(names)
            self._full_at = now + (self._rules().check_interval_s if self._presence.doubtful() else FULL_LOOK_S)
        else:
            absent = [name for name in names if not self._presence.alive(name)]
            if absent:
                self._presence.look(absent)
        self._touched.clear()
        for name in sorted(names):
            self._step(name, now)

    def _step(self, name: str, now: float) -> None:
        seen = replace(self._news.pop(name, Seen(False)), alive=self._presence.alive(name))
        before = self._states[name]
        self._states[name], actions = step(before, seen, self._rules(), now)
        if self._states[name].phase != before.phase:
            log.debug("%s: %s -> %s", name, before.phase, self._states[name].phase)
        for action in actions:
            self._do(name, action)

    def _do(self, name: str, action: Action) -> None:
        entry, verb, text = self._entries[name], action.verb, action.text
        if verb is Verb.NOTE:
            log.info("%s: %s", name, text)
        elif verb is Verb.WARN:
            log.warning("%s: %s", name, text)
        elif verb is Verb.ASK:
            self._ask(name)
        elif verb is Verb.START:
            self._start([entry])
        elif verb is Verb.RESTART:
            log.warning("%s: %s", name, text)
            self._jobs.restart(entry, self._rules().command_timeout_s, self._stopping, self._ended(name))
        elif verb is Verb.REPORT_DOWN:
            log.error(
                "%s: %s; it is reported (on_failure = %s) and looked for until it runs again",
                name,
                text,
                entry.on_failure,
            )
            self._outages.down(name, entry.on_failure, self._clock.now(), text)
        elif verb is Verb.REPORT_UP:
            log.warning("%s: runs again; %s; it is reported, and watched as before", name, text)
            self._outages.up(name, self._clock.now(), text)
        elif verb is Verb.REMEMBER_REST:
            self._outages.rests(name, text, self._unit(name), self._clock.now())
        else:
            assert verb is Verb.FORGET_REST, verb
            self._outages.forget_rest(name)

    def _start(self, entries: list[Entry]) -> None:
        if not entries:
            return
        log.info("to be started: %s", ", ".join(entry.name for entry in entries))
        answers = {entry.name: self._ended(entry.name) for entry in entries}
        self._jobs.start(
            entries,
            self._rules().command_timeout_s,
            self._stopping,
            lambda name, result: answers[name](name, result),
        )

    def _ask(self, name: str) -> None:
        unit = self._unit(name) if self._rules().planned_stops else ""
        self._jobs.ask(name, unit, partial(self._verdict, self._ticket(name)))

    def _unit(self, name: str) -> str:
        return self._presence.unit(name) or self._outages.unit(name)

    def _ticket(self, name: str) -> int:
        self._tickets[name] += 1
        return self._tickets[name]

    def _ended(self, name: str) -> Callable[[str, Result], None]:
        return partial(self._answer, self._ticket(name))

    def _answer(self, ticket: int, name: str, result: Result) -> None:
        self._tell(name, ticket, Seen(False, ended=result))

    def _verdict(self, ticket: int, name: str, verdict: Verdict) -> None:
        self._tell(name, ticket, Seen(False, verdict=verdict))

    def _tell(self, name: str, ticket: int, told: Seen) -> None:
        self._inbox.put((name, ticket, told))
        self.wake()

    def _sentence(self, problem: str) -> str:
        parts = [f"{counted(len(self._states))} watched"]
        for phase, text in ((DOWN, "down"), (STOPPED, Verdict.STOPPED.value), (SLEEPING, Verdict.SLEEPS.value)):
            names = [name for name in self._outages.names() if self._outages.remembered(name) == phase]
            if names:
                listed = ", ".join(f"{name} since {utc(self._outages.since(name))}" for name in names)
                parts.append(f"{text}: {listed}")
        return "; ".join([*parts, *filter(None, (self._blind, problem))])
