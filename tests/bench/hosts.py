"""A host with many instances dies: from the callback with proof until the database says that all are confirmed."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.bench.figures import Figure
from tests.bench.stage import EVACUATE_S, FAILED, House, Stage, memory_mb
from tests.lab.processes import Monitor

BUILDS = 10
"""Evacuations at a time on the spare."""

PROBE_S = 0.5
"""[safety] nova_probe_s: a host that still reads up gets this long to say that it lives."""


@dataclass(frozen=True, slots=True)
class Run:
    """One host recovery; seconds from the moment the callback was sent."""

    instances: int
    first_request_s: float
    last_evacuated_s: float
    final_s: float
    calls: dict[str, int]
    story: list[dict[str, Any]]
    memory_mb: float

    @property
    def calls_each(self) -> float:
        """Calls to Nova and Keystone for each instance."""
        return sum(self.calls.values()) / self.instances

    def phases(self) -> dict[str, float]:
        """How long each step took, by the journal."""
        spent: dict[str, float] = {}
        since = self.story[0]["at"]
        for row in self.story:
            if row["kind"] == "transition" and row["uuid"] is None:
                spent[row["step"]] = spent.get(row["step"], 0.0) + row["at"] - since
                since = row["at"]
        return spent


def evacuate(house: House, instances: int) -> Run:
    """Crash a host with this many instances, report it with proof, and wait for the end."""
    house.cloud.boot(FAILED, instances)
    house.cloud.crash(FAILED)
    before = house.cloud.state()["calls"]
    body = Monitor().host_down(FAILED)
    sent_at = time.time()
    recovery_id = house.send(body)
    final_at = house.until_final(recovery_id, 300, 0.01 if instances < 50 else 0.05)
    state = house.cloud.state()
    assert not state["violations"], state["violations"]
    assert len(state["evacuated"]) == len(state["evacuate_requests"]) == instances
    return Run(
        instances,
        state["evacuate_requests"][0][0] - sent_at,
        max(at for at, _, _ in state["evacuated"]) - sent_at,
        final_at - sent_at,
        {name: many - before.get(name, 0) for name, many in state["calls"].items() if many > before.get(name, 0)},
        house.all("event_list", recovery_id=recovery_id),
        memory_mb(house.controller.pid),
    )


def ten(stage: Stage) -> Iterator[Figure]:
    """10 instances, three times: the middle one counts. And how soon the first evacuate went out."""
    runs = [_run(stage, 10) for _ in range(1 if stage.quick else 3)]
    first = [run.first_request_s for run in runs]
    beside = f"{PROBE_S} s of it the probe; worst of {len(runs)}: {max(first):.2f} s"
    yield Figure("callback -> first evacuate", statistics.median(first), "s", most=1.0, beside=beside)
    middle = sorted(runs, key=lambda run: run.final_s)[len(runs) // 2]
    yield _whole(middle, 1.1, 0.5)
    phases = ", ".join(f"{step} {seconds:.2f}" for step, seconds in middle.phases().items())
    yield Figure("... beyond ideal and probe", middle.final_s - EVACUATE_S - PROBE_S, "s", beside=phases)
    yield Figure("... Nova calls per instance", middle.calls_each, "", beside="in a short recovery most are looks")


def ten_sqlite(stage: Stage) -> Iterator[Figure]:
    """The same on SQLite."""
    yield _whole(_run(stage, 10, "sqlite"), 1.1, 0.5, "SQLite")


def hundred(stage: Stage) -> Iterator[Figure]:
    """100 instances."""
    run = _run(stage, 100)
    yield _whole(run, 1.1)
    yield _calls(run)


def five_hundred(stage: Stage) -> Iterator[Figure]:
    """500 instances; the target builds 10 at a time."""
    run = _run(stage, 500)
    yield _whole(run, 1.03)
    yield _calls(run)
    yield Figure("memory (PSS) after 500 instances", run.memory_mb, "MB")


def five_hundred_at_once(stage: Stage) -> Iterator[Figure]:
    """500 instances at once, on a target without a limit on builds and with a window as wide."""
    window: dict[str, str | float] = {
        "recover_starter__semaphore_multiplicity": 500,
        "recover_starter__max_evacuations_total": 500,
    }
    with stage.house(builds=0, **window) as house:  # type: ignore[arg-type]
        run = evacuate(house, 500)
    yield Figure("500 instances at once, all confirmed", run.final_s, "s", most=5.0, beside=_ideal(run, EVACUATE_S))
    yield _calls(run, " at once")


def _run(stage: Stage, instances: int, kind: str = "mysql") -> Run:
    with stage.house(kind) as house:
        return evacuate(house, instances)


def _whole(run: Run, factor: float, plus_s: float = 0.0, where: str = "") -> Figure:
    ideal_s = math.ceil(run.instances / BUILDS) * EVACUATE_S
    name = f"{run.instances} instances, all confirmed" + (f", {where}" if where else "")
    return Figure(name, run.final_s, "s", most=factor * ideal_s + plus_s, beside=_ideal(run, ideal_s))


def _ideal(run: Run, ideal_s: float) -> str:
    return f"ideal {ideal_s:g} s ({run.final_s / ideal_s:.3f} x); last one moved after {run.last_evacuated_s:.2f} s"


def _calls(run: Run, where: str = "") -> Figure:
    most = ", ".join(f"{many} {name}" for name, many in sorted(run.calls.items(), key=lambda item: -item[1])[:4])
    return Figure(f"Nova calls per instance at {run.instances}{where}", run.calls_each, "", most=2.0, beside=most)
