"""Claim what is due, run its steps, give it back: the threads that do the work.

Any number of controllers may do this on one database; the claim makes it safe. One thread claims, `workers` threads run
steps; a thread stays with a recovery until it ends, is held, or has to wait for longer than a moment.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from masakari import store
from masakari.common.errors import LeaseLost, Unavailable
from masakari.database import Duplicate
from masakari.model import Recovery
from masakari.recovery import Table, World, keeps_claim, run_once

log = logging.getLogger(__name__)

IDLE_S = 1.0
"""How often an idle controller asks for work that another process made due."""

PACE = 3.0
LONGEST_PACE_S = 0.2
"""After a look for work the next one waits PACE times as long as that took: looking takes a quarter of the time at most."""

AWAY_S = 1.0
MAX_LOST = 3


class ThreadPool:
    """Requests to Nova at the same time: `map` for the worker, `later` for what nobody waits for.

    Its threads end with the process, whatever they wait for: the executor of the standard library would hold it up.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._started = 0
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def map(self, func: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """All results in order; the first error among them is raised. A single item is not worth a thread."""
        items = list(items)
        if len(items) == 1:
            return [func(items[0])]
        self._start(len(items))
        results: list[Any] = [None] * len(items)
        errors: list[BaseException] = []
        done = threading.Semaphore(0)

        def run(number: int) -> None:
            try:
                results[number] = func(items[number])
            except BaseException as error:  # noqa: BLE001 - it goes to the caller
                errors.append(error)
            finally:
                done.release()

        for number in range(len(items)):
            self._queue.put(partial(run, number))
        for _ in items:
            done.acquire()
        if errors:
            raise errors[0]
        return results

    def later(self, func: Callable[[], None]) -> None:
        """Run it on a thread of its own: it may take as long as Nova's longest answer."""
        threading.Thread(target=func, name="later", daemon=True).start()

    def _start(self, wanted: int) -> None:
        with self._lock:
            while self._started < min(wanted, self._size):
                threading.Thread(target=self._work, name=f"nova-{self._started}", daemon=True).start()
                self._started += 1

    def _work(self) -> None:
        while True:
            self._queue.get()()


class Workers:
    """The claiming loop and the threads behind it."""

    def __init__(self, world: World, tables: dict[str, Table], size: int) -> None:
        self._world = world
        self._tables = tables
        self._size = size
        self._free = threading.Semaphore(size)
        self._queue: queue.SimpleQueue[tuple[Recovery, float] | None] = queue.SimpleQueue()
        self._poked = threading.Event()
        self._stopping = threading.Event()
        self._away = False

    @property
    def size(self) -> int:
        """How many threads must run work()."""
        return self._size

    def poke(self) -> None:
        """Something may be due now."""
        self._poked.set()

    def stop(self) -> None:
        """Let all threads return; a step under way is abandoned where it is, which is safe anywhere."""
        self._stopping.set()
        self._poked.set()
        for _ in range(self._size):
            self._queue.put(None)

    def claim_loop(self) -> None:
        """The claiming thread's body."""
        clock = self._world.clock
        while not self._stopping.is_set():
            self._poked.clear()
            began = clock.monotonic()
            try:
                wait_s = self._claim_due()
                self._tell_back()
            except Unavailable as error:
                self._tell_away(error)
                wait_s = AWAY_S
            # A flood of reports pokes all the time: looking must not slow down storing them.
            self._stopping.wait(min(PACE * (clock.monotonic() - began), LONGEST_PACE_S))
            self._poked.wait(wait_s)

    def _claim_due(self) -> float:
        """Claim as much as there are free threads for; how long to wait before asking again."""
        # In this order: what gets due between the two statements is found by the second.
        soon_s, ids = self._world.db.read(lambda tx: (store.next_due_s(tx), store.due(tx)))
        for recovery_id in ids:
            if not self._free.acquire(blocking=False):
                return IDLE_S  # the thread that gets free pokes
            claimed = None
            try:
                claimed = claim(self._world, recovery_id)
            finally:
                if claimed is None:
                    self._free.release()
            if claimed is not None:
                self._queue.put(claimed)
        return 0.0 if len(ids) == store.DUE_AT_ONCE else min(max(soon_s, 0.02), IDLE_S)

    def work(self) -> None:
        """A working thread's body."""
        while (item := self._queue.get()) is not None:
            try:
                drive(self._world, self._tables, *item, self._stopping)
            finally:
                self._free.release()
                self._poked.set()

    def _tell_away(self, error: Unavailable) -> None:
        if not self._away:
            log.error("no recovery can be worked on: %s; tried again every second", error)
        self._away = True

    def _tell_back(self) -> None:
        if self._away:
            log.info("the database answers again")
        self._away = False


def claim(world: World, recovery_id: int) -> tuple[Recovery, float] | None:
    """Take a recovery and say until when, by the monotonic clock, it is surely ours; None when somebody else was faster."""
    lease_s = world.settings.recover_starter.lease_s
    before = world.clock.monotonic()
    recovery = world.db.transaction(lambda tx: store.claim(tx, recovery_id, world.name, lease_s), causal=True)
    if recovery is None:
        return None
    world.claims[recovery_id] = (recovery.epoch, before)
    return recovery, before + lease_s


def drive(
    world: World, tables: dict[str, Table], recovery: Recovery, lease_deadline: float, stopping: threading.Event
) -> None:
    """Run the steps of a claimed recovery until it is to be given back; returns quietly when the claim is gone."""
    lost = 0
    while not stopping.is_set():
        before = world.clock.monotonic()
        try:
            current = world.db.read(lambda tx: store.revisit(tx, recovery))
            _, outcome = run_once(world, tables, current, lease_deadline)
        except (LeaseLost, Duplicate) as error:
            # A Duplicate: intake opened something between what a step read and what it wrote. The step looks again.
            lost += 1
            if lost >= MAX_LOST or world.clock.monotonic() > lease_deadline:
                return
            log.info("recovery=%d dropped a stale step (%s)", recovery.id, error)
            continue
        except Unavailable as error:
            if world.clock.monotonic() + AWAY_S > lease_deadline:
                log.warning("recovery=%d given up until the database answers: %s", recovery.id, error)
                return
            stopping.wait(AWAY_S)
            continue
        if not keeps_claim(outcome):
            return
        lost = 0
        lease_deadline = before + world.settings.recover_starter.lease_s
        stopping.wait(outcome.wait_s)
