"""What takes time, on threads of its own: the operator's commands, and questions to systemd.

A thread lives for one job, so a command that hangs holds up nothing but its own process.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from masakari.common.errors import Unavailable
from processmonitor.commands import Result, named, start_lines
from processmonitor.entry import Entry
from processmonitor.supervise import Verdict

log = logging.getLogger(__name__)

_NOTHING = Result(True, "", "", 0.0)
_BROKEN = Result(False, "its commands could not be run: see the log", "", 0.0)


class RunLine(Protocol):
    """commands.Commands.run."""

    def __call__(
        self, line: str, *, as_root: bool, timeout_s: float, stopping: threading.Event | None = None
    ) -> Result: ...


@dataclass(frozen=True, slots=True)
class Jobs:
    """Each method returns at once; `answered` is called once for each entry, by the thread of its job.

    is_there says whether a process of this name runs right now, or raises Unavailable.
    """

    run: RunLine
    ask_systemd: Callable[[str], Verdict]
    is_stopping: Callable[[], bool]
    is_there: Callable[[str], bool]
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(
        self,
        entries: Sequence[Entry],
        timeout_s: float,
        stopping: threading.Event,
        answered: Callable[[str, Result], None],
    ) -> None:
        """Run the start lines side by side, equal ones once, each with the hooks of its entries around it.

        A line is not run when the processes of all its entries are there by then. An entry without a line has started at once.
        """
        groups = start_lines(entries)
        for entry in entries:
            if not any(entry in group for _, group in groups):
                answered(entry.name, _NOTHING)
        for line, group in groups:
            names = ", ".join(entry.name for entry in group)
            run = partial(self._line, as_root=group[0].run_as_root, timeout_s=timeout_s, stopping=stopping)
            self._begin(f"start of {names}", partial(self._start, run, names, line, group, answered))

    def restart(
        self, entry: Entry, timeout_s: float, stopping: threading.Event, answered: Callable[[str, Result], None]
    ) -> None:
        """Run the restart line of an entry with its hooks around it; its start line if it has none."""
        line = entry.restart.strip() or entry.start

        def work() -> None:
            run = partial(self._line, as_root=entry.run_as_root, timeout_s=timeout_s, stopping=stopping)
            result = _BROKEN
            try:
                result = _with_hooks(
                    partial(run, entry.name), [entry.pre_restart], partial(run, entry.name, line), [entry.post_restart]
                )
            finally:
                answered(entry.name, result)

        self._begin(f"restart of {entry.name}", work)

    def under_way(self) -> list[threading.Thread]:
        """The threads of starts and restarts that are not over. To be called by the thread that begins them."""
        self._threads[:] = [thread for thread in self._threads if thread.is_alive()]
        return list(self._threads)

    def _begin(self, name: str, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name=name, daemon=True)
        thread.start()
        self._threads[:] = [*self.under_way(), thread]

    def _start(
        self,
        run: Callable[[str, str], Result],
        names: str,
        line: str,
        group: Sequence[Entry],
        answered: Callable[[str, Result], None],
    ) -> None:
        def unless_there() -> Result:
            return self._found(names, group) or run(names, line)

        result = _BROKEN
        try:
            before, after = [entry.pre_start for entry in group], [entry.post_start for entry in group]
            result = self._found(names, group) or _with_hooks(partial(run, names), before, unless_there, after)
        finally:
            for entry in group:
                answered(entry.name, result)

    def _found(self, names: str, group: Sequence[Entry]) -> Result | None:
        """The result of a start that is not needed, or not to be made; None: go on."""
        try:
            if not all(self.is_there(entry.name) for entry in group):
                return None
        except Unavailable as error:
            log.error("%s: not started: %s", names, error)
            return Result(False, f"it was not started: {error}", "", 0.0)
        log.info("%s: not started, as it runs by now", names)
        return _NOTHING

    def ask(self, name: str, unit: str, answered: Callable[[str, Verdict], None]) -> None:
        """Why a process is not there. unit: its systemd service; "" asks only whether the host is shutting down."""

        def work() -> None:
            verdict = Verdict.UNKNOWN
            try:
                if self.is_stopping():
                    verdict = Verdict.HALTING
                elif unit:
                    verdict = self.ask_systemd(unit)
            finally:
                answered(name, verdict)

        threading.Thread(target=work, name=f"ask {name}", daemon=True).start()

    def _line(self, what: str, line: str, *, as_root: bool, timeout_s: float, stopping: threading.Event) -> Result:
        if not line.strip():
            return _NOTHING
        result = self.run(line, as_root=as_root, timeout_s=timeout_s, stopping=stopping)
        # No more than that, and no arguments of the line: either may hold a password.
        said = f"; it said: {result.output.partition(' | ')[0]}" if result.output else ""
        if result.ok:
            log.info("%s: %s done in %.1f s%s", what, named(line), result.seconds, said)
        else:
            log.error("%s: %s%s", what, result.why, said)
        return result


def _with_hooks(
    run: Callable[[str], Result], before: Sequence[str], main: Callable[[], Result], after: Sequence[str]
) -> Result:
    """The result of main. A hook that fails is logged and stops nothing: whether the process runs is what counts."""
    for hook in dict.fromkeys(before):
        run(hook)
    result = main()
    for hook in dict.fromkeys(after):
        run(hook)
    return result
