"""Which of the watched processes run: held by pidfd, so that their end is noticed at once and looks are rare."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from processmonitor.procfs import Process

MOST_HELD = 8
"""Processes of one name that are waited for; there may be more. The oldest ones: workers come and go."""


class SeesProcesses(Protocol):
    """What is used of procfs.Processes."""

    def matching(self, keys: Collection[str]) -> dict[str, list[Process]]:
        """The processes that each key names."""

    def runs(self, process: Process) -> bool:
        """Whether it is still there."""

    def unit(self, process: Process) -> str:
        """Its systemd service."""


class WaitsForProcesses(Protocol):
    """What is used of procfs.Pidfds."""

    def watch(self, process: Process) -> bool:
        """Wait for its end, too."""

    def forget(self, process: Process) -> None:
        """Wait for it no longer."""

    def unwatched(self) -> Collection[Process]:
        """Whose end is not noticed by itself."""

    def wait(self, seconds: float) -> set[Process]:
        """Those that have ended."""

    def wake(self) -> None:
        """End the wait."""


class Presence:
    """For one thread. Every method may raise Unavailable when /proc can't be read; then what was known stays."""

    def __init__(self, processes: SeesProcesses, pidfds: WaitsForProcesses) -> None:
        self._processes = processes
        self._pidfds = pidfds
        self._held: dict[str, list[Process]] = {}
        self._units: dict[str, tuple[Process, str]] = {}
        self._lost: set[str] = set()
        self._doubted: set[tuple[str, Process]] = set()

    def alive(self, name: str) -> bool:
        """Whether a process of this name runs, as far as was looked."""
        return bool(self._held.get(name))

    def unit(self, name: str) -> str:
        """The systemd service of its oldest process, also after its end; "" for none."""
        return self._units[name][1] if name in self._units else ""

    def doubtful(self) -> bool:
        """Whether a process that runs has lost its name: the next look will believe it."""
        return bool(self._doubted)

    def drop(self, name: str) -> None:
        """It is no longer watched."""
        for process in self._held.pop(name, []):
            self._release(process)
        self._units.pop(name, None)
        self._lost.discard(name)
        self._doubted = {(other, process) for other, process in self._doubted if other != name}

    def wait(self, seconds: float) -> set[str]:
        """Until a process ends or Pidfds.wake(), at most so long; the names that have lost a process."""
        ended = self._pidfds.wait(seconds)
        ended |= {process for process in self._pidfds.unwatched() if not self._processes.runs(process)}
        losers = {name for name, held in self._held.items() if ended.intersection(held)} if ended else set()
        for name in losers:
            self._held[name] = [process for process in self._held[name] if process not in ended]
        for process in ended:
            self._pidfds.forget(process)
        self._doubted = {(name, process) for name, process in self._doubted if process not in ended}
        self._lost |= losers
        return losers

    def look(self, names: Collection[str]) -> None:
        """Find the processes of these names."""
        found = self._processes.matching(names)
        # /proc is not listed in one instant: a daemon that changes its pid just now may be missed by one look.
        unsure = {name for name in self._lost.intersection(names) if not found[name] and not self._held[name]}
        if unsure:
            found.update(self._processes.matching(unsure))
        for name in names:
            self._take(name, found[name])
        self._lost.difference_update(names)

    def _take(self, name: str, found: list[Process]) -> None:
        held = self._held.setdefault(name, [])
        for process in [process for process in held if process not in found]:
            self._doubt(name, process, held)
        self._doubted.difference_update((name, process) for process in found)
        for process in found:
            if len(held) >= MOST_HELD:
                break
            if process not in held and self._pidfds.watch(process):
                held.append(process)
        if held and (name not in self._units or self._units[name][0] != held[0]):
            self._units[name] = (held[0], self._processes.unit(held[0]))

    def _doubt(self, name: str, process: Process, held: list[Process]) -> None:
        """It runs, but no longer under this name. Believed when seen twice: a program replacing itself has none for a moment."""
        if (name, process) not in self._doubted:
            self._doubted.add((name, process))
            return
        self._doubted.discard((name, process))
        held.remove(process)
        self._release(process)

    def _release(self, process: Process) -> None:
        if not any(process in held for held in self._held.values()):
            self._pidfds.forget(process)
