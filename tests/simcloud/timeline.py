"""Time in the simulated cloud: events in a heap, driven by the clock that is passed in.

Nothing happens by itself, but whoever looks sees all that is due by then, in order and at its own time.
"""

from __future__ import annotations

import functools
import heapq
import random
import threading
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from masakari.common.clock import Clock

from .records import Host

_Method = TypeVar("_Method", bound=Callable[..., Any])


def exclusive(method: _Method) -> _Method:
    """Run a method of a Timeline alone, after everything that is due."""

    @functools.wraps(method)
    def guarded(self: Timeline, *args: Any, **kwargs: Any) -> Any:
        with self.alone():
            return method(self, *args, **kwargs)

    return cast(_Method, guarded)


def nothing() -> None:
    """What happens when nothing does."""


class Timeline:
    """What is going to happen, and notes of what did.

    Args:
        seed: of everything that is left to chance.
    """

    def __init__(self, clock: Clock, seed: int) -> None:
        self.clock = clock
        self.random = random.Random(seed)
        self.time_s = clock.monotonic()  # of the event being carried out
        self.history: deque[str] = deque(maxlen=20_000)
        self._violations: list[str] = []
        self._lock = threading.RLock()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._event_count = 0
        self._lives: Counter[str] = Counter()  # how often each host's nova-compute has died

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else looks at or changes the world meanwhile; everything due has happened."""
        with self._lock:
            self.advance()
            yield

    def advance(self) -> None:
        """Carry out the events that are due, each at its own time."""
        now_s = self.clock.monotonic()
        while self._events and self._events[0][0] <= now_s:
            due_s, _, event = heapq.heappop(self._events)
            self.time_s = max(due_s, self.time_s)
            event()
        self.time_s = max(now_s, self.time_s)

    def after(self, delay_s: float, event: Callable[[], None]) -> None:
        """Have something happen later."""
        self._event_count += 1
        heapq.heappush(self._events, (self.time_s + delay_s, self._event_count, event))

    def after_on(
        self,
        host: Host,
        delay_s: float,
        act: Callable[[], None] = nothing,
        report: Callable[[], None] = nothing,
    ) -> None:
        """Have a nova-compute do something later and report it; neither happens if it dies before.

        Args:
            act: what becomes true on the host.
            report: what Nova is told of it; told late if the host is isolated by then.
        """
        life = self._lives[host.name]

        def event() -> None:
            if self._lives[host.name] != life:
                return
            act()
            if host.isolated:
                host.unreported.append(report)
            else:
                report()

        self.after(delay_s, event)

    def next_event_s(self) -> float | None:
        """Monotonic time of the next event, None without one; reports of the services are no events."""
        with self._lock:
            return self._events[0][0] if self._events else None

    @property
    def now(self) -> float:
        """Wall time of the event being carried out."""
        return self.clock.now() - self.clock.monotonic() + self.time_s

    def new_uuid(self) -> str:
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def note(self, text: str) -> None:
        """Keep a line of what happened, for whoever reads a failed test."""
        self.history.append(f"{self.time_s:.3f} {text}")

    def violate(self, text: str) -> None:
        """Keep a line of what must never happen."""
        self.note(f"VIOLATION {text}")
        self._violations.append(f"{self.time_s:.3f} {text}")
