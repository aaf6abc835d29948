"""What a step has just read from Nova, for the next step of the same recovery.

It spares Nova, and the recovery, the same question some milliseconds later. Nothing depends on it: after a crash, on another
controller, or a moment later, the question is asked.
"""

from __future__ import annotations

from typing import TypeVar

from masakari.recovery import Visit

T = TypeVar("T")

FRESH_S = 0.5
"""How old it may be."""


def keep(visit: Visit, read_at: float, seen: object) -> None:
    """Leave it to the next step. `read_at`: monotonic, from before the question."""
    carried, now = visit.world.carried, visit.world.clock.monotonic()
    for recovery_id, (_, old_at, _) in list(carried.items()):
        if now - old_at > FRESH_S:
            carried.pop(recovery_id, None)
    carried[visit.recovery.id] = (visit.recovery.epoch, read_at, seen)


def kept(visit: Visit, kind: type[T]) -> T | None:
    """What the step before has left, if it is of this kind, fresh, and of the same claim; to be had once."""
    epoch, read_at, seen = visit.world.carried.pop(visit.recovery.id, (None, 0.0, None))
    fresh = epoch == visit.recovery.epoch and visit.world.clock.monotonic() - read_at <= FRESH_S
    return seen if fresh and isinstance(seen, kind) else None
