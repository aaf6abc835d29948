"""What masakari-processmonitor --check-config --online looks at: whether each process of the list is found running."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from masakari.common.checkup import Check, Outcome, not_ok, ok
from processmonitor.entry import Entry
from processmonitor.procfs import Process, Processes
from processmonitor.watch import counted


def checks(entries: Sequence[Entry], processes: Processes) -> list[Check]:
    """All of them."""
    return [("processes", lambda: of_processes(entries, processes.matching(entry.name for entry in entries)))]


def of_processes(entries: Sequence[Entry], found: Mapping[str, Sequence[Process]]) -> Iterator[Outcome]:
    """Whether each entry names a process that runs: one whose name is wrong would be started for ever, and reported."""
    missing = [entry for entry in entries if not found[entry.name]]
    for entry in missing:
        yield not_ok(
            f"process {entry.name}",
            f"{entry.where}: no process is found by this name",
            "compare with ps -ef: the name stands in its command line as it is written there. If it is stopped on purpose, or "
            "sleeps until its socket is used, all is well",
        )
    if not missing:
        yield ok("processes", f"{counted(len(entries))} of the list, each found running")
