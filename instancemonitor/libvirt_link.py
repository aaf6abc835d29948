"""Keeps a connection to libvirt, whatever becomes of libvirtd, and puts what libvirt says into the inbox. Port; no decisions.

Two threads: run_events() is libvirt's event loop, run() connects, looks and connects again. Callbacks of libvirt run in the
first one and only enqueue. Every call that may block is made by the second one, also for others: with libvirt 9.0 a process
whose threads share a connection was seen to die of SIGSEGV in libvirt's client when libvirtd hung.
"""

from __future__ import annotations

import queue
import random
import threading
from collections import deque
from typing import Any

import libvirt

from instancemonitor.libvirt_open import Opener
from instancemonitor.libvirt_session import Session
from instancemonitor.model import DROPPABLE, Connected, DomainEvent, DomainView, Dropped, Lost, Message, Snapshot
from masakari.common.clock import Clock
from masakari.common.errors import Unavailable
from masakari.common.text import local

TICK_S = 1.0
LOOP_DEAD_AFTER_S = 10.0
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
LEAST_BETWEEN_LOOKS_S = 0.2
MOST_WAITING = 10_000


class _Question:
    """What another thread wants to know of a domain."""

    def __init__(self, uuid: str) -> None:
        self.uuid = uuid
        self.view: DomainView | None = None
        self.answered = threading.Event()


class LibvirtLink:
    """The connection to the libvirtd at `uri`. One per process has its run_events() running.

    clock: tells `at` of all messages. keepalive_s, keepalive_count: libvirtd is taken for hung after keepalive_s *
    (keepalive_count + 1) without an answer. open_within_s: for one try to connect. recheck_s: when all domains are looked at
    again after connecting, and after libvirt lost control of a domain: a libvirtd that has just started misses the end of
    a guest for a moment. poll_s: and every so often in any case.
    """

    def __init__(
        self,
        uri: str,
        inbox: queue.SimpleQueue[Message],
        clock: Clock,
        *,
        keepalive_s: int = 5,
        keepalive_count: int = 3,
        open_within_s: float = 30.0,
        recheck_s: tuple[float, ...] = (0.3, 2.0),
        poll_s: float = 60.0,
    ) -> None:
        self.uri = uri
        self._inbox = inbox
        self._clock = clock
        self._keepalive = (keepalive_s, keepalive_count)
        self._recheck_s = recheck_s
        self._poll_s = poll_s
        self._woken = threading.Event()
        self._opener = Opener(uri, open_within_s, clock, self._woken.set)
        self._order = threading.Lock()
        self._seq = 0
        self._dropping = False
        self._ours: dict[str, bool] = {}
        self._session: Session | None = None
        self._tried = threading.Event()
        self._lost_why = ""
        self._problem = f"not connected to {uri} yet"
        self._lost_at: float | None = clock.now()
        self._loop_at = self._run_at = clock.monotonic()
        self._questions: deque[_Question] = deque()
        # A call is cut off by keepalive; one that takes longer doesn't come back.
        self._answer_within_s = keepalive_s * (keepalive_count + 1) + 5.0
        self._stuck_after_s = 2 * self._answer_within_s + 10.0
        # Before any connection: one that is opened earlier gets no events and no keepalive.
        libvirt.virEventRegisterDefaultImpl()
        libvirt.registerErrorHandler(_already_in_the_exception, None)

    @property
    def problem(self) -> str:
        """Why nothing is seen at the moment, and since when; empty while connected."""
        return self._problem

    def lively(self, now: float) -> bool:
        """Whether both threads do their work; `now` is of the monotonic clock."""
        return now - self._loop_at < LOOP_DEAD_AFTER_S and now - self._run_at < self._stuck_after_s

    def look(self, uuid: str) -> DomainView | None:
        """What libvirt says of a domain now; None: libvirt can't be asked, or has no such domain.

        May be called by any thread; blocks no longer than it takes to find libvirtd hung. Before the first connection it
        waits for that, or for the first reason why there is none.
        """
        self._tried.wait(self._answer_within_s)
        question = _Question(uuid)
        if self._session is not None:
            self._questions.append(question)
        # Asked again: who ends the session answers what was asked by then.
        if self._session is not None:
            self._woken.set()
            question.answered.wait(self._answer_within_s)
        return question.view

    def wake(self) -> None:
        """Let run() see at once that it is to stop."""
        self._woken.set()

    def run_events(self, stopping: threading.Event) -> None:
        """The thread of libvirt's event loop. Ends within a second of `stopping`."""
        # The timer is what makes the loop come back, too.
        timer = libvirt.virEventAddTimeout(int(TICK_S * 1000), self._tick, None)
        try:
            while not stopping.is_set():
                libvirt.virEventRunDefaultImpl()
        finally:
            libvirt.virEventRemoveTimeout(timer)

    def run(self, stopping: threading.Event) -> None:
        """The thread that connects, until `stopping`. RuntimeError when only a new process can help."""
        pause_s = FIRST_PAUSE_S
        while not stopping.is_set():
            began = self._clock.monotonic()
            try:
                self._use(self._opener.open(lambda left_s: self._wait(left_s, stopping)), stopping)
            except Unavailable as error:
                self._tell_lost(str(error), stopping)
            if self._clock.monotonic() - began > LONGEST_PAUSE_S:
                pause_s = FIRST_PAUSE_S
            self._pause(random.uniform(1, 1.5) * pause_s, stopping)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _use(self, connection: Any, stopping: threading.Event) -> None:
        """Follow one connection to its end. Raises Unavailable with the reason, unless stopping."""
        session = Session(connection, self._tell, self._woken.set, self._ours)
        # Before anything is registered: whatever is told after this is of this connection, also during the first look.
        self._inbox.put(Connected(self._clock.now(), self.uri))
        try:
            session.begin(*self._keepalive)
            first = self._look_at_all(session)
            self._session = session
            self._tried.set()
            self._problem = self._lost_why = ""
            self._lost_at = None
            self._inbox.put(first)
            self._follow(session, stopping)
        except libvirt.libvirtError as error:
            raise Unavailable(session.close_reason or str(error)) from None
        finally:
            self._session = None
            self._answer(None)
            session.end()

    def _follow(self, session: Session, stopping: threading.Event) -> None:
        looked_at = self._clock.monotonic()
        due = [looked_at + seconds for seconds in self._recheck_s]
        control_errors = 0
        while not stopping.is_set():
            if session.closed:
                raise Unavailable(session.closed)
            session.learn()
            self._answer(session)
            now = self._clock.monotonic()
            if session.control_errors != control_errors:
                control_errors = session.control_errors
                due += [now + seconds for seconds in self._recheck_s]
            look_at = max(min((*due, looked_at + self._poll_s)), looked_at + LEAST_BETWEEN_LOOKS_S)
            if now < look_at:
                self._wait(look_at - now, stopping)
                continue
            self._inbox.put(self._look_at_all(session))
            looked_at, due = self._clock.monotonic(), [at for at in due if at > now]

    def _answer(self, session: Session | None) -> None:
        while self._questions:
            question = self._questions.popleft()
            try:
                question.view = session.look(question.uuid) if session else None
            finally:
                question.answered.set()

    def _look_at_all(self, session: Session) -> Snapshot:
        with self._order:  # what has a smaller number is in the inbox already
            began = self._seq
        at = self._clock.now()
        return Snapshot(began, at, session.domains(self._beat))

    def _tell(self, kind: str, uuid: str, name: str, event: int, detail: int, text: str) -> None:
        """An event, in the thread of the event loop."""
        at, ours = self._clock.now(), self._ours.get(uuid)
        if self._is_flooded(at) and kind in DROPPABLE:
            return
        with self._order:
            self._seq += 1
            self._inbox.put(DomainEvent(self._seq, at, kind, uuid, name, event, detail, text, ours))

    def _is_flooded(self, at: float) -> bool:
        """Whether nobody takes the messages. Said in the inbox: who waits for a disk can't log, and nor may this thread."""
        waiting = self._inbox.qsize()
        if waiting >= MOST_WAITING and not self._dropping:
            self._dropping = True
            self._inbox.put(Dropped(at, waiting))
        elif waiting < MOST_WAITING // 2:
            self._dropping = False
        return self._dropping

    def _tell_lost(self, why: str, stopping: threading.Event) -> None:
        """Once per reason: somebody reads it."""
        if stopping.is_set() or why == self._lost_why:
            return
        self._lost_why = why
        self._tried.set()
        now = self._clock.now()
        if self._lost_at is None:
            self._lost_at = now
        self._problem = (
            f"not connected to {self.uri} since {local(self._lost_at)}: {why}; tried again every few seconds, and what fails "
            "meanwhile is found then"
        )
        self._inbox.put(Lost(now, why))

    def _pause(self, seconds: float, stopping: threading.Event) -> None:
        until = self._clock.monotonic() + seconds
        while (left_s := until - self._clock.monotonic()) > 0 and self._wait(left_s, stopping):
            pass

    def _wait(self, seconds: float, stopping: threading.Event) -> bool:
        """Until woken, at most so long and never for more than a tick. False: it is time to stop."""
        self._beat()
        self._woken.wait(min(seconds, TICK_S))
        self._woken.clear()
        return not stopping.is_set()

    def _beat(self) -> None:
        self._run_at = self._clock.monotonic()

    def _tick(self, timer: int, _: None) -> None:
        self._loop_at = self._clock.monotonic()


def _already_in_the_exception(_: None, error: Any) -> None:
    """libvirt would print every error on stderr, beside raising it."""
