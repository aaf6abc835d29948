"""What the benches of the monitors have in common: when the log says something, and what a monitor costs."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from tests.bench.figures import Figure, nearly_all
from tests.bench.stage import cpu_s, memory_mb
from tests.lab.monitors import MonitorProcess

STARTS = 5
SETTLE_S = 5.0
"""After the start, before it counts as idle: what is looked at again soon after a connect is then over."""

_LINE = re.compile(r"^(\S+) [A-Z]+ (.*)$", re.MULTILINE)


def logged(monitor: MonitorProcess, pattern: str, since: int = 0) -> list[tuple[float, str]]:
    """The lines of its log in which the pattern is found, from that character on: each with its time in Unix seconds.

    The log cuts a time off to a whole millisecond; here it is the next one, so that nothing looks faster than it was.
    """
    found = _LINE.findall(monitor.said()[since:])
    return [(datetime.fromisoformat(at).timestamp() + 0.001, text) for at, text in found if re.search(pattern, text)]


def start(monitor: MonitorProcess, watches: Callable[[int], float | None], what: str) -> Iterator[Figure]:
    """Start it again a few times: seconds until `watches` (given where the log of this start begins) tells a time.

    That comes after READY=1, which says that it does its work, whether or not there is anything to watch.
    """
    took, used = [], []
    for _ in range(STARTS):
        monitor.terminate()
        since, started_at = len(monitor.said()), time.time()
        monitor.start()
        while (at := watches(since)) is None:
            assert time.time() < started_at + 30, f"{what} is not watched:\n{monitor.said()[since:][-4000:]}"
            time.sleep(0.05)
        took.append(at - started_at)
        used.append(cpu_s(monitor.pid))
    beside = f"until it watches {what}; worst of {STARTS}: {max(took):.2f} s; processor time {min(used):.2f} s"
    yield Figure(f"{monitor.module}, start to ready", statistics.median(took), "s", most=0.5, beside=beside)


def idle(monitor: MonitorProcess, seconds: float, most_mb: float, what: str) -> Iterator[Figure]:
    """Processor time and memory while nothing happens to what it watches."""
    time.sleep(SETTLE_S)
    before, said = cpu_s(monitor.pid), monitor.said()
    time.sleep(seconds)
    used_s = (cpu_s(monitor.pid) - before) * 60 / seconds
    assert monitor.said() == said, f"something happened meanwhile:\n{monitor.said()[len(said) :]}"
    beside = f"measured for {seconds:g} s, with {what}"
    yield Figure(f"{monitor.module}, idle processor time a minute", used_s, "s", most=0.06, beside=beside)
    own_mb = memory_mb(monitor.pid, "Private_Clean") + memory_mb(monitor.pid, "Private_Dirty")
    beside = f"its own alone: {own_mb:.1f} MB; with all that it shares (RSS): {memory_mb(monitor.pid, 'Rss'):.1f} MB"
    yield Figure(f"{monitor.module}, idle memory (PSS)", memory_mb(monitor.pid), "MB", most=most_mb, beside=beside)


def delay(name: str, seconds: Sequence[float], most_ms: float | None = None, beside: str = "") -> Figure:
    """The median of many measurements, in ms, with the slow ones beside."""
    slow = f"p95 {1000 * nearly_all(seconds):.1f} ms, worst of {len(seconds)}: {1000 * max(seconds):.1f} ms"
    return Figure(
        name, 1000 * statistics.median(seconds), "ms", most=most_ms, beside="; ".join(filter(None, (slow, beside)))
    )
