"""A controller with nothing to do: how soon it is ready, and what it costs."""

from __future__ import annotations

import contextlib
import http.client
import statistics
import time
from collections.abc import Iterator

from tests.bench.figures import Figure
from tests.bench.stage import House, Stage, cpu_s, memory_mb, until

KINDS = {"sqlite": "SQLite", "mysql": "MariaDB"}
STARTS = 5
SETTLE_S = 3.0
"""After the start, before it counts as idle."""


def costs(stage: Stage) -> Iterator[Figure]:
    """Start, memory and processor time, on SQLite and on MariaDB; both idle at the same time."""
    seconds = 15.0 if stage.quick else 60.0
    with contextlib.ExitStack() as stack:
        houses = {kind: stack.enter_context(stage.house(kind)) for kind in KINDS}
        for kind, house in houses.items():
            starts = sorted(_start_s(house) for _ in range(STARTS))
            beside = f"worst of {STARTS}: {starts[-1]:.2f} s; processor time {cpu_s(house.controller.pid):.2f} s"
            yield Figure(f"start to ready, {KINDS[kind]}", statistics.median(starts), "s", most=0.5, beside=beside)
        time.sleep(SETTLE_S)
        before = {kind: cpu_s(house.controller.pid) for kind, house in houses.items()}
        time.sleep(seconds)
        for kind, house in houses.items():
            used_s = (cpu_s(house.controller.pid) - before[kind]) * 60 / seconds
            beside = f"measured for {seconds:g} s"
            yield Figure(f"idle processor time a minute, {KINDS[kind]}", used_s, "s", most=0.06, beside=beside)
        for kind, house in houses.items():
            pid = house.controller.pid
            beside = f"with all that it shares (RSS): {memory_mb(pid, 'Rss'):.1f} MB"
            yield Figure(f"idle memory (PSS), {KINDS[kind]}", memory_mb(pid), "MB", most=50, beside=beside)


def _start_s(house: House) -> float:
    """Start it again; seconds until it says that it takes callbacks."""
    house.controller.terminate()
    started_at = time.monotonic()
    house.controller.start(ready=False)
    until(lambda: _is_ready(house.controller.port), 10, 0.005, house.controller.said)
    return time.monotonic() - started_at


def _is_ready(port: int) -> bool:
    """Plain http.client: asking must not take long itself."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except ConnectionError:
        return False
    finally:
        connection.close()
