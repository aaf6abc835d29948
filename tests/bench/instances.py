"""The guest of an instance dies: from the callback until the instance is active again, beyond Nova's own stop and start."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from tests.bench.figures import Figure
from tests.bench.stage import FAILED, House, Stage
from tests.lab.processes import Monitor

STOP_S, START_S = 1.0, 1.0
"""What stop and start take in the simulated cloud."""

AT_ONCE = 20


def failures(stage: Stage) -> Iterator[Figure]:
    """One alone, three times: the middle one counts. And 20 of one host at once."""
    ideal_s = STOP_S + START_S
    with stage.house() as house:
        alone = sorted(_recover(house, 1) for _ in range(1 if stage.quick else 3))
        together = _recover(house, AT_ONCE)
    extra_s = statistics.median(alone) - ideal_s
    beside = f"Nova's own stop and start: {ideal_s:g} s; worst of {len(alone)}: {alone[-1] - ideal_s:.3f} s"
    yield Figure("instance failure, beyond Nova's own", extra_s, "s", most=0.2, beside=beside)
    yield Figure(
        f"{AT_ONCE} of one host at once, in all", together, "s", beside=f"{together / ideal_s:.2f} x Nova's own for one"
    )


def _recover(house: House, many: int) -> float:
    """Seconds from sending the callbacks until all recoveries are finished in the database, with Nova showing ACTIVE."""
    uuids = house.cloud.boot(FAILED, many)
    # Nova doesn't notice by itself here: it would save us the stop.
    for uuid in uuids:
        house.cloud.crash_guest(uuid, noticed=False)
    bodies = [Monitor(FAILED).instance_down(uuid) for uuid in uuids]
    sent_at = time.time()
    with ThreadPoolExecutor(many) as senders:
        recoveries = list(senders.map(lambda body: house.send(body, FAILED), bodies))
    ended_at = [house.until_final(recovery_id, 60) for recovery_id in recoveries]
    assert not house.cloud.violations()
    return max(ended_at) - sent_at
