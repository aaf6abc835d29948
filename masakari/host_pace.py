"""How often Nova is asked while it evacuates: soon after something ended, without a call too many."""

from __future__ import annotations

from collections.abc import Sequence

from masakari.evacuation import MIGRATION_OVER
from masakari.host_view import View
from masakari.model import Instance
from masakari.recovery import Visit

LOOK_ALL_S = 5.0
REFILL = 8
"""While a full window is under way, the rest is looked at when one in so many has ended, but every LOOK_ALL_S anyway."""

FEW = 20
"""So few instances are all looked at each time: that is not much for Nova, and shows their end at once."""

FIRST_S = 1.0
"""No evacuation is done sooner than this."""

LEAST_S = 0.02
MOST_S = 0.75


def worth_a_look(visit: Visit, rows: Sequence[Instance]) -> bool:
    """Whether to look at all of these open instances now.

    Not while Nova is at all that may be in flight and nobody told us anything: one list call shows when that ends.
    """
    recovery, now = visit.recovery, visit.now
    sent = [row for row in rows if row.action == "evacuate" and row.action_answer == "accepted"]
    full = len(sent) >= visit.world.settings.recover_starter.semaphore_multiplicity
    if len(rows) <= FEW or recovery.cancel_by or not sent or (len(sent) < len(rows) and not full):
        return True
    if recovery.wakes != recovery.data.get("looked_wakes") or now - recovery.data.get("looked_at", 0.0) > LOOK_ALL_S:
        return True
    seen = {row.uuid: row.migration_seen for row in sent}
    migrations = visit.world.nova.evacuations(source=recovery.hostname)
    over = {
        m.instance_uuid for m in migrations if m.status in MIGRATION_OVER and m.id > seen.get(m.instance_uuid, m.id)
    }
    return len(over) == len(sent) or (len(over) * REFILL >= len(sent) and len(sent) < len(rows))


def pause_s(visit: Visit, many: int, view: View | None = None) -> float:
    """Until the next look: short at first and for few, longer for many and late. `view`: what was seen just now.

    For many this is less than one call per instance in all. A rebuilt instance reads idle on the old host for up to 0.9 s.
    """
    gone_s = visit.now - (visit.recovery.data.get("first_sent_at") or visit.now)
    if gone_s < FIRST_S:
        return FIRST_S - gone_s
    if view is not None and many <= FEW and any(server.task_state is None for server in view.here.values()):
        return LEAST_S
    return min(max(LEAST_S + many * 0.0005, gone_s * min(max(many / 1000, 0.05), 0.1)), MOST_S)


def room(visit: Visit, in_flight: int) -> int:
    """How many more evacuations may be requested now: by this recovery, and by all together."""
    starter = visit.world.settings.recover_starter
    total = visit.world.db.transaction(lambda tx: tx.one("instance_in_flight"))
    others = max(int(total["n"] if total else 0) - in_flight, 0)
    return max(0, min(starter.semaphore_multiplicity - in_flight, starter.max_evacuations_total - others - in_flight))
