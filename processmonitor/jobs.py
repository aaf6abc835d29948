"""What takes time, on threads of its own: the operator's commands, and questions to systemd.

A thread lives for one job, so a command that hangs holds up nothing but its own process.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from processmonitor.commands import Result, start_order
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
    """Each method returns at once; `answered` is called once for each entry, by the thread of its job."""

    run: RunLine
    ask_systemd: Callable[[str], Verdict]
    is_stopping: Callable[[], bool]

    def start(
        self,
        entries: Sequence[Entry],
        timeout_s: float,
        stopping: threading.Event,
        answered: Callable[[str, Result], None],
    ) -> None:
        """Run the start lines in the order of the list, equal ones once, each with the hooks of its entries around it.

        An entry without a start line has started at once.
        """
        groups = start_order(entries)
        for entry in entries:
            if not any(entry in group for _, group in groups):
                answered(entry.name, _NOTHING)

        def work() -> None:
            for line, group in groups:
                if stopping.is_set():
                    return
                run = partial(self._line, as_root=group[0].run_as_root, timeout_s=timeout_s, stopping=stopping)
                before, after = [entry.pre_start for entry in group], [entry.post_start for entry in group]
                result = _BROKEN
                try:
                    result = _with_hooks(run, ", ".join(entry.name for entry in group), before, line, after)
                finally:
                    for entry in group:
                        answered(entry.name, result)

        if groups:
            threading.Thread(target=work, name="start", daemon=True).start()

    def restart(
        self, entry: Entry, timeout_s: float, stopping: threading.Event, answered: Callable[[str, Result], None]
    ) -> None:
        """Run the restart line of an entry with its hooks around it; its start line if it has none."""
        line = entry.restart.strip() or entry.start

        def work() -> None:
            run = partial(self._line, as_root=entry.run_as_root, timeout_s=timeout_s, stopping=stopping)
            result = _BROKEN
            try:
                result = _with_hooks(run, entry.name, [entry.pre_restart], line, [entry.post_restart])
            finally:
                answered(entry.name, result)

        threading.Thread(target=work, name=f"restart {entry.name}", daemon=True).start()

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
        said = f"; it said: {result.output}" if result.output else ""
        if result.ok:
            log.info("%s: `%s` done in %.1f s%s", what, line, result.seconds, said)
        else:
            log.error("%s: %s%s", what, result.why, said)
        return result


def _with_hooks(
    run: Callable[[str, str], Result], what: str, before: Sequence[str], line: str, after: Sequence[str]
) -> Result:
    """The result of the line. A hook that fails is logged and stops nothing: whether the process runs is what counts."""
    for hook in dict.fromkeys(before):
        run(what, hook)
    result = run(what, line)
    for hook in dict.fromkeys(after):
        run(what, hook)
    return result
