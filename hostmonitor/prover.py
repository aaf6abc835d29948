"""The threads that read BMCs on request. Whether, when and how often is decided elsewhere: one request is one reading."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hostmonitor.ipmi import Ipmi
from hostmonitor.power import Bmc, Reading


@dataclass(frozen=True, slots=True)
class Read:
    """What the BMCs of a node said; readings in the order in which they were given."""

    node: str
    readings: tuple[Reading, ...]


@dataclass(frozen=True, slots=True)
class _Request:
    bmcs: tuple[Bmc, ...]
    timeout_s: float


class Prover:
    """Takes requests from any thread, at most one for each node, and puts a Read into the inbox for each.

    As many nodes are read at a time as there are threads in run(). After the Read a node can be asked about again.
    """

    def __init__(self, ipmi: Ipmi, inbox: queue.SimpleQueue[Any]) -> None:
        self._ipmi = ipmi
        self._inbox = inbox
        self._waiting: dict[str, _Request] = {}
        self._running: set[str] = set()
        self._changed = threading.Condition()

    def ask(self, node: str, bmcs: Sequence[Bmc], timeout_s: float) -> None:
        """Read all BMCs of a node at the same time, for timeout_s at most; nodes take turns in the order of asking.

        Nothing happens if that node is being read, or about to be.
        """
        with self._changed:
            if node not in self._waiting and node not in self._running:
                self._waiting[node] = _Request(tuple(bmcs), timeout_s)
                self._changed.notify()

    def run(self, stopping: threading.Event) -> None:
        """The body of each thread; returns when stopping is set and stop() was called. What it was reading is not told then."""
        while taken := self._next(stopping):
            node, request = taken
            readings = self._ipmi.read_all(request.bmcs, request.timeout_s)
            with self._changed:
                self._running.discard(node)
            if not stopping.is_set():  # a reading that was given up looks like a BMC that is silent
                self._inbox.put(Read(node, tuple(readings)))

    def stop(self) -> None:
        """Let the threads see that they are to stop. May be called by any thread."""
        with self._changed:
            self._changed.notify_all()

    def _next(self, stopping: threading.Event) -> tuple[str, _Request] | None:
        """The oldest request, once there is one; None: stop."""
        with self._changed:
            while not stopping.is_set():
                for node in self._waiting:
                    self._running.add(node)
                    return node, self._waiting.pop(node)
                self._changed.wait()
        return None
