"""A failed host has booted again: its guests of the old boot are gone. What was not evacuated is started where it is booked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from masakari import choice, evacuation, hosts, store
from masakari.common.errors import MaybeSent, NotFound, Rejected
from masakari.database import Tx
from masakari.evacuation import Move
from masakari.host_look import cancelled, look, reboot_proven, unknown_to_nova
from masakari.host_undo import undo_disable
from masakari.model import Instance
from masakari.nova import Action, Server
from masakari.recovery import Effect, Outcome, Visit, advance, hold, wait

MAX_TRIES = 3
BEGINNINGS = (
    "create",
    "evacuate",
    "migrate",
    "live-migration",
    "start",
    "reboot",
    "rebuild",
    "unpause",
    "resume",
    "unshelve",
    "resize",
    "confirmResize",
    "revertResize",
)
"""Actions of an instance with which a guest begins to run, or arrives on a host."""

LOOK_AGAIN_S = 10.0


STUCK_S = 900.0
"""How long a host may be back with an instance that is in the same task all the time."""

POWER_SYNC_S = 660.0
"""Nova compares its power states with the hypervisor every 600 s; then a guest that is gone reads stopped."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a move depends on. `off_proven`: no guest of the failed boot can be running; seconds elsewhere."""

    off_proven: bool
    up_for_s: float = 0.0
    settle_s: float = 15.0
    timeout_s: float = 30.0


def next_move(row: Instance, server: Server | None, failed_host: str, now: float, rules: Rules) -> Move:
    """Pure: stop, then start, what was active and is still booked on the host.

    Without proof that the host was off, a guest that Nova shows as running is left alone: only what Nova itself finds
    stopped is started.
    """
    if server is None:
        return Move("skip", "deleted meanwhile")
    if server.host != failed_host:
        return Move("done", f"{server.status} on {server.host}", host=server.host or "")
    if row.was.get("vm_state") not in ("active", "paused", "error"):
        return Move("skip", f"was {row.was.get('vm_state')}: stays so")
    age = now - row.action_at if row.action in ("stop", "start") else 0.0
    if row.action == "start" and server.vm_state == "active" and server.task_state is None:
        return Move("done", f"started in place on {failed_host}", host=failed_host)
    # Without an answer and without a trace it was never sent: that is no reason to give up.
    taken = row.action_answer == "accepted" or server.task_state is not None
    if (taken and age > rules.timeout_s) or row.retry_cnt >= MAX_TRIES:
        return Move("fail", f"still {server.status} after {row.action}: start it by hand")
    if server.task_state is not None:
        if rules.up_for_s > STUCK_S:
            return Move(
                "fail", f"stuck in {server.task_state}: see its instance actions in Nova, then start it by hand"
            )
        return Move("follow", f"{server.task_state}")
    if row.action in ("stop", "start") and age < rules.settle_s and row.action_answer != "accepted":
        return Move("follow", f"{row.action} sent, not yet to be seen")
    if server.vm_state == "stopped":
        return Move("ask", "its guest ended with the old boot", "start")
    if server.vm_state == "active" and (not rules.off_proven or row.was.get("unsure")):
        if rules.up_for_s < POWER_SYNC_S:
            return Move("follow", "reads active: waiting for Nova's own comparison of power states")
        return Move("done", f"still reads active on {failed_host}: its host was not proven off", host=failed_host)
    if server.vm_state in ("active", "error"):
        return Move("ask", "its guest ended with the old boot", "stop")
    return Move("fail", f"{server.vm_state}: start it by hand")


def in_place(visit: Visit) -> Outcome:
    """Take back our own disable, then start what was active; the recovery is not final while one of them is down."""
    recovery = visit.recovery
    if recovery.cancel_by:
        return cancelled(visit)
    seen = look(visit)
    if seen.service is None:
        return unknown_to_nova(visit)
    if not recovery.data.get("in_place_listed"):
        return _list(visit, seen.known)
    undone = undo_disable(visit, seen)
    if isinstance(undone, Outcome):
        return undone
    if not seen.service.up or seen.service.forced_down:
        return hold(
            "down", f"{recovery.hostname} has booted again; waiting for its nova-compute to read up", effects=undone
        )
    rows = visit.instances()
    servers = {server.id: server for server in visit.world.nova.servers(recovery.hostname)}
    return _go_on(visit, seen.known, [row for row in rows if row.open], servers, undone)


def begun_at(actions: Sequence[Action], placed: Mapping[str, Any] | None, host: str) -> float:
    """Pure: when the guest began to run here at the latest, by Nova's actions and by our own evacuations; 0 for unknown."""
    times = [action.start_time for action in actions if action.action in BEGINNINGS]
    if placed and placed["recover_to"] == host and placed["finished_at"]:
        times.append(placed["finished_at"])
    return max(times, default=0.0)


def _list(visit: Visit, known: hosts.Known) -> Outcome:
    """Record before anything else what each instance was: soon after its return Nova books what doesn't run as stopped.

    What has begun here since the host was off is of the new boot, and none of ours.
    """
    nova, recovery = visit.world.nova, visit.recovery
    tolerance_s = visit.world.settings.safety.clock_tolerance_s
    servers = nova.servers(recovery.hostname)
    actions = visit.together([partial(nova.actions, server.id) for server in servers])
    placed = visit.world.db.transaction(lambda tx: [tx.one("instance_placed", uuid=server.id) for server in servers])
    off_at = max((proof.at for proof in known.proofs), default=math.inf)
    listed: list[tuple[Server, dict[str, object]]] = []
    for server, told, row in zip(servers, actions, placed, strict=True):
        began = begun_at(told, row, recovery.hostname)
        if began > off_at + tolerance_s:
            continue
        was = evacuation.before(server)
        if server.vm_state == "stopped" and evacuation.stopped_by_nova(told, recovery.created_at - tolerance_s):
            was["vm_state"] = "active"
        if began > off_at - tolerance_s:
            was["unsure"] = True
        listed.append((server, was))
    return wait(0.0, "instances listed", data={"in_place_listed": True}, effects=[_rows_for(visit, listed)])


def _rows_for(visit: Visit, servers: Sequence[tuple[Server, dict[str, object]]]) -> Effect:
    recovery, now = visit.recovery, visit.now
    chosen = choice.of_host(visit.world.settings.host_failure)
    reasons = {server.id: choice.left_out(server.metadata, server.vm_state, chosen) for server, _ in servers}
    for server, _ in servers:
        if reasons[server.id]:
            visit.note("decision", f"{server.name} is not started in place", reasons[server.id], server.id)

    def write(tx: Tx) -> None:
        taken = {row.uuid for row in store.instances(tx, recovery.id)}
        taken |= set(store.active_instances(tx, [server.id for server, _ in servers]))
        tx.execute_many(
            "instance_add",
            [
                store.instance_row(
                    server.id,
                    server.name,
                    recovery.id,
                    "host",
                    now,
                    was=was,
                    status="skipped" if reasons[server.id] else "new",
                    reason=reasons[server.id],
                    report_id=recovery.data.get("report"),
                )
                for server, was in servers
                if server.id not in taken
            ],
        )

    return write


def _go_on(
    visit: Visit, known: hosts.Known, rows: Sequence[Instance], servers: dict[str, Server], effects: list[Effect]
) -> Outcome:
    """One visit over all instances: at most one request each."""
    settings, recovery, now = visit.world.settings, visit.recovery, visit.now
    starter = settings.recover_starter
    rules = Rules(
        off_proven=reboot_proven(recovery, known),
        up_for_s=now - recovery.data.get("up_since", now),
        settle_s=settings.safety.action_settle_s,
        timeout_s=starter.api_check_interval * starter.api_check_max_cnt,
    )
    following = 0
    for row in rows:
        server = servers.get(row.uuid) or _elsewhere(visit, row.uuid)
        move = next_move(row, server, recovery.hostname, now, rules)
        if move.verb == "ask":
            effects.append(_ask(visit, row, move))
        elif move.verb != "follow":
            effects.append(_ended(visit, row, move, now))
            continue
        following += 1
    if following:
        remembered = {"up_since": recovery.data.get("up_since", now)}
        return wait(1.0, f"{following} instances to start in place", data=remembered, effects=effects)
    return advance("finish", "instances started in place", effects=effects)


def _elsewhere(visit: Visit, uuid: str) -> Server | None:
    try:
        return visit.world.nova.server(uuid)
    except NotFound:
        return None


def _ended(visit: Visit, row: Instance, move: Move, now: float) -> Effect:
    status = {"done": "finished", "fail": "failed", "skip": "skipped"}[move.verb]
    visit.note("transition", f"{row.name}: {status}", move.reason, row.uuid)
    return lambda tx: store.end_instance(tx, row.id, status, move.reason, move.host or None, now)


def _ask(visit: Visit, row: Instance, move: Move) -> Effect:
    """One os-stop or os-start, its intent committed before."""
    nova, now = visit.world.nova, visit.now
    call = nova.stop if move.action == "stop" else nova.start
    again: list[Effect] = []
    if row.action == move.action:
        again = [lambda tx: tx.execute("instance_retry", id=row.id)]
    try:
        request_id = visit.act(
            f"{move.action} {row.name}",
            lambda: call(row.uuid),
            reason=move.reason,
            uuid=row.uuid,
            effects=[lambda tx: store.intend_instance(tx, row, move.action, None, row.migration_seen, now), *again],
        )
    except MaybeSent:
        return lambda tx: store.answer_instance(tx, row.id, "maybe", None)
    except Rejected as error:
        reason = f"Nova refuses: {error}"
        return lambda tx: store.again_instance(tx, row.id, reason, now)
    return lambda tx: store.answer_instance(tx, row.id, "accepted", request_id)
