"""The processmonitor with 50 processes: what it costs, and how soon it notices and mends a kill -9."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tests.bench import monitors
from tests.bench.figures import Figure
from tests.bench.stage import FAILED, Stage, until
from tests.lab.processes import free_port
from tests.lab.processmonitor import ProcessMonitorProcess

PROCESSES = 50
KILLS = 30
AS_INSTALLED: dict[str, str | float] = {
    "process_check_interval": 5,
    "reboot_interval": 5,
    "resource_manager_send_delay": 10,
}
"""The defaults that a monitor of the tests doesn't have."""

# The worker's first act is to tell that it runs. It then waits in open(2), without a child: nobody ever writes to "never".
_WORKER = '#!/bin/sh\necho "$0 $$" > {folder}/running\n: < {folder}/never\n'
_START = "#!/bin/sh\nsetsid {folder}/$1 < /dev/null > /dev/null 2>&1 &\n"


class Workers:
    """Processes that a monitor starts, and that tell by a pipe when they run. All are gone on exit."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._text = ""
        self.names = [f"worker-{number:02}" for number in range(PROCESSES)]
        self.pids: dict[str, int] = {}
        for pipe in ("running", "never"):
            os.mkfifo(folder / pipe)
        for name, text in {"start.sh": _START, **dict.fromkeys(self.names, _WORKER)}.items():
            (folder / name).write_text(text.format(folder=folder))
            (folder / name).chmod(0o755)
        # Open for writing, too: otherwise it ends whenever nobody writes.
        self._running = os.open(folder / "running", os.O_RDWR | os.O_CLOEXEC)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        os.set_blocking(self._running, False)
        with suppress(BlockingIOError):
            self.until_one_runs()
        os.close(self._running)
        for pid in self.pids.values():
            os.kill(pid, signal.SIGKILL)

    def lines(self) -> list[str]:
        """Of proc.list."""
        start = f"{self._folder}/start.sh"
        return [
            f"{number},{self.key(name)},{start} {name},{start} {name},,,,"
            for number, name in enumerate(self.names, start=1)
        ]

    def key(self, name: str) -> str:
        """What the monitor knows it by."""
        return str(self._folder / name)

    def until_one_runs(self) -> float:
        """Wait for the next one that has just begun to run; when it told so."""
        while "\n" not in self._text:
            self._text += os.read(self._running, 4096).decode()
        at = time.time()
        line, _, self._text = self._text.partition("\n")
        path, pid = line.split()
        self.pids[path.rpartition("/")[2]] = int(pid)
        return at

    def kill(self, name: str) -> float:
        """kill -9; when."""
        at = time.time()
        os.kill(self.pids.pop(name), signal.SIGKILL)
        return at


def figures(stage: Stage) -> Iterator[Figure]:
    """The processmonitor with 50 processes: start, idle costs, and kill -9 until it has noticed and restarted."""
    folder, what = stage.folder(), f"{PROCESSES} processes"
    url = f"http://127.0.0.1:{free_port()}"  # nobody is there, and nothing is reported
    with (
        Workers(folder) as workers,
        ProcessMonitorProcess(stage.folder(), url, FAILED, workers.lines(), **AS_INSTALLED) as monitor,
    ):
        while len(workers.pids) < PROCESSES:
            workers.until_one_runs()
        until(lambda: len(_running(monitor)) == PROCESSES, 30, 0.05, monitor.said)
        yield from monitors.start(monitor, lambda since: _all_watched(monitor, since), what)
        yield from monitors.idle(monitor, 15 if stage.quick else 60, 30, what)
        yield from _kills(monitor, workers, 5 if stage.quick else KILLS)
        assert not monitor.waiting(), monitor.waiting()


def _kills(monitor: ProcessMonitorProcess, workers: Workers, kills: int) -> Iterator[Figure]:
    """One process after the other; each only once, for a restart pauses when the same one dies again."""
    noticed, restarted = [], []
    for name in random.sample(workers.names, kills):
        time.sleep(random.uniform(0.1, 0.4))
        since = len(monitor.said())
        killed_at = workers.kill(name)
        restarted.append(workers.until_one_runs() - killed_at)
        _until_says(monitor, f"{workers.key(name)}: runs again", since)
        noticed.append(_until_says(monitor, f"{workers.key(name)}: is not running any more", since) - killed_at)
    others = sum(path.name.isdigit() for path in Path("/proc").iterdir())
    yield monitors.delay("kill -9 of a process -> noticed", noticed, 20, f"by its log; {others} processes on this host")
    yield monitors.delay("... -> runs again", restarted, beside="by its own word; sh, setsid and sh in between")


def _until_says(monitor: ProcessMonitorProcess, text: str, since: int) -> float:
    """When it said so."""
    return until(lambda: monitors.logged(monitor, re.escape(text), since), 10, 0.02, monitor.said)[0][0]


def _running(monitor: ProcessMonitorProcess, since: int = 0) -> list[tuple[float, str]]:
    return monitors.logged(monitor, r"worker-\d+: runs?(ning)?$", since)


def _all_watched(monitor: ProcessMonitorProcess, since: int) -> float | None:
    """When the last one was found to run."""
    lines = _running(monitor, since)
    return lines[-1][0] if len(lines) == PROCESSES else None
