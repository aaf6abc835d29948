"""A failed host comes back: un-force, wait for `up`, then enable, in this order, and only when nothing of it is unfinished.

Enabled while it reads down, a host can stay unschedulable; un-forced too early, a copy of an evacuated guest may start.
"""

from __future__ import annotations

import json
from functools import partial

from masakari import evacuation, host_undo, store
from masakari.common.errors import MaybeSent, NotFound, Rejected
from masakari.host_look import look, reported, unknown_to_nova, write_service
from masakari.model import Instance
from masakari.recovery import Outcome, Table, Visit, advance, end, hold, wait

LOOK_AGAIN_S = 10.0
HUNG_STOP_S = 30.0
"""How long after its return a host may still carry out an os-stop that waited in its queue."""

WEEK_S = 7 * 86400.0


def check(visit: Visit) -> Outcome:
    """Every instance is confirmed elsewhere or still here, and no evacuation from or to this host is unfinished."""
    recovery, world = visit.recovery, visit.world
    if recovery.cancel_by:
        return end("cancelled", f"cancelled by {recovery.cancel_by}")
    host = recovery.hostname
    again = _failed_again(visit)
    if again:
        return again
    if world.nova.service(host) is None:
        return unknown_to_nova(visit)
    blocking = world.db.transaction(lambda tx: store.active(tx, [f"host:{host}"])).get(f"host:{host}")
    if blocking is not None:
        return hold(
            "open",
            f"recovery {blocking.id} of {host} is {blocking.status}; end it first (cancel, or let it finish)",
            seconds=LOOK_AGAIN_S,
        )
    row = world.db.transaction(lambda tx: tx.one("instance_in_flight_at", hostname=host))
    if row and row["n"]:
        return hold("open", f"{row['n']} evacuations from or to {host} are unfinished", seconds=LOOK_AGAIN_S)
    moving = [s.name for s in world.nova.servers(host) if s.task_state in evacuation.REBUILDING]
    if moving:
        return hold("open", f"Nova is still rebuilding {', '.join(moving[:5])}", seconds=LOOK_AGAIN_S)
    if world.observing:
        return end("ignored", f"observe mode: would bring {host} back")
    return advance("unforce", "nothing is unfinished")


def _called_off(visit: Visit) -> Outcome | None:
    """Cancelled, or the host was reported down while it was on its way back: its new recovery has the word."""
    if visit.recovery.cancel_by:
        return end("cancelled", f"cancelled by {visit.recovery.cancel_by}")
    host = visit.recovery.hostname
    active = visit.world.db.read(lambda tx: store.active(tx, [f"host:{host}"])).get(f"host:{host}")
    if active:
        return end("failed", f"{host} was reported down again: see recovery {active.id}")
    return _failed_again(visit)


def _failed_again(visit: Visit) -> Outcome | None:
    """The host failed after its return was asked for, whether or not that is repaired by now: it has to be asked for again."""
    host, asked = visit.recovery.hostname, visit.recovery.id
    rows = visit.world.db.read(lambda tx: tx.all("recovery_newer_host", hostname=host, kinds=["host"], id=asked))
    later = [row["id"] for row in rows if row["status"] not in ("ignored", "cancelled")]
    return end("failed", f"{host} was reported down again: see recovery {later[-1]}") if later else None


def unforce(visit: Visit) -> Outcome:
    """Take back the forced-down."""
    called_off = _called_off(visit)
    if called_off:
        return called_off
    seen = look(visit)
    if seen.service is None:
        return unknown_to_nova(visit)
    if not seen.service.forced_down:
        return advance("wait_up", "not forced down")
    return host_undo.unforce(visit, seen.service)


def wait_up(visit: Visit) -> Outcome:
    """Nova must see the service report before it is enabled."""
    recovery = visit.recovery
    called_off = _called_off(visit)
    if called_off:
        return called_off
    seen = look(visit)
    if seen.service is None:
        return unknown_to_nova(visit)
    # Un-forced soon after its death, it reads up by what it reported before.
    if seen.service.up and reported(visit, seen):
        return advance("enable", "its nova-compute reads up")
    if visit.now - recovery.step_at > 120:
        return hold("down", f"nova-compute of {recovery.hostname} does not read up: start it", seconds=LOOK_AGAIN_S)
    return wait(1.0, f"waiting for nova-compute of {recovery.hostname} to read up")


def enable(visit: Visit) -> Outcome:
    """Enable, and forget every wish for its disable."""
    recovery, world = visit.recovery, visit.world
    called_off = _called_off(visit)
    if called_off:
        return called_off
    seen = look(visit)
    if seen.service is None:
        return unknown_to_nova(visit)
    if not seen.service.up:
        return advance("wait_up", "it reads down again")
    if seen.service.enabled:
        return advance(
            "reread",
            "up and enabled",
            effects=[lambda tx: tx.execute("disable_clear_host", hostname=recovery.hostname)],
        )
    service = seen.service
    write_service(visit, "enable nova-compute", service, lambda: world.nova.enable(service))
    return wait(0.1, "waiting for Nova to show it enabled")


def reread(visit: Visit) -> Outcome:
    """Instances whose os-stop may have waited in this host's queue: start again what it stopped elsewhere."""
    recovery, world, now = visit.recovery, visit.world, visit.now
    rows = [
        Instance.of(row)
        for row in world.db.transaction(
            lambda tx: tx.all("instance_hung_stops", hostname=recovery.hostname, since=now - WEEK_S)
        )
    ]
    if not rows:
        return end("finished", f"{recovery.hostname} is back: up and enabled")
    for row in rows:
        try:
            server = world.nova.server(row.uuid)
        except NotFound:
            continue
        if server.vm_state == "stopped" and server.task_state is None and row.was.get("vm_state") == "active":
            if not _stopped_by_us(visit, row):
                continue
            try:
                visit.act(
                    f"start {row.name}",
                    partial(world.nova.start, row.uuid),
                    uuid=row.uuid,
                    reason="stopped by an os-stop that had waited for this host",
                )
            except (MaybeSent, Rejected) as error:
                visit.note("decision", f"{row.name}: looked at again", str(error), row.uuid)
    if now - recovery.step_at < HUNG_STOP_S:
        return wait(2.0, f"watching {len(rows)} instances whose os-stop may have waited for this host")
    was = {row.id: json.dumps({**row.was, "stop_queued": False}) for row in rows}
    return end(
        "finished",
        f"{recovery.hostname} is back: up and enabled",
        effects=[lambda tx: [tx.execute("instance_was", id=row_id, was=text) for row_id, text in was.items()]],
    )


def _stopped_by_us(visit: Visit, row: Instance) -> bool:
    """Whether nobody else stopped it since its evacuation, and no other recovery is at it."""
    if visit.world.db.read(lambda tx: store.active_instances(tx, [row.uuid])):
        return False
    actions = visit.world.nova.actions(row.uuid)
    return not any(a.action == "stop" and a.user_id and a.start_time > row.action_at for a in actions)


STEPS: Table = {
    "check": (check, frozenset({"unforce"})),
    "unforce": (unforce, frozenset({"wait_up"})),
    "wait_up": (wait_up, frozenset({"enable"})),
    "enable": (enable, frozenset({"wait_up", "reread"})),
    "reread": (reread, frozenset()),
}
"""step: (function, allowed next steps)."""
