"""What to do now with each instance of a host recovery: evacuation.py's decision, with what has to be looked up for it."""

from __future__ import annotations

from collections.abc import Sequence

from masakari import choice, evacuation, hosts, proof, store
from masakari.database import Tx
from masakari.evacuation import Move
from masakari.host_look import nova_life, proof_rules
from masakari.host_view import View
from masakari.model import Instance, Recovery
from masakari.nova import Action, Server
from masakari.recovery import Visit

LOCAL_DISK = "local disk"
"""How the reason begins for an instance that Nova refused for its disk."""

TARGET_SEEN_S = 5.0
"""How long a reserved host that read up is taken to be so."""


def moves_of(visit: Visit, view: View, rows: Sequence[Instance]) -> dict[str, Move]:
    """What to do now with each of these instances; uuid -> move."""
    settings = visit.world.settings
    rules = evacuation.Rules(
        settings.safety.action_settle_s,
        settings.recover_starter.evacuation_timeout_s,
        choice.of_host(settings.host_failure),
    )
    to = {row.uuid: row.action_target or _chosen_by_nova(view, row) for row in rows}
    targets = {host: _target_state(visit, host) for host in set(to.values()) if host}
    pause, most = settings.recover_starter.recovery_retry_interval, settings.recover_starter.recovery_max_retry_cnt
    moves = {}
    for row in rows:
        move = evacuation.next_move(
            row,
            view.server(row.uuid),
            view.migrations.get(row.uuid, []),
            visit.recovery.hostname,
            visit.now,
            rules,
            targets.get(to[row.uuid], evacuation.Target()),
        )
        if move.action == "evacuate" and row.action == "evacuate" and _on_record(visit, row):
            move = Move("follow", "Nova has an evacuate on record that was not answered: following it")
        if move.verb == "again" and _local_disk(view.server(row.uuid), move):
            move = Move(
                "fail",
                f"{LOCAL_DISK}: {move.reason}. Its disk is not on shared storage; see [nova] rebuild_local_disks",
            )
        elif move.verb == "again" and row.retry_cnt + 1 >= most:
            move = Move("fail", f"tried {row.retry_cnt + 1} times: {move.reason}")
        elif (
            move.verb == "ask"
            and row.action is None
            and 0 < settings.recover_starter.recovery_max_retry_cnt <= row.retry_cnt
        ):
            move = Move("fail", f"tried {row.retry_cnt} times: {row.reason}")
        elif move.verb == "ask" and row.action is None and row.retry_cnt and visit.now - row.action_at < pause:
            move = Move("follow", f"tried {row.retry_cnt} times, next try soon: {row.reason}")
        moves[row.uuid] = move
    return moves


def _chosen_by_nova(view: View, row: Instance) -> str:
    """Where Nova's scheduler sent an instance whose target was left to it; empty when that is not known."""
    newest = max(view.migrations.get(row.uuid, []), key=lambda m: m.id, default=None)
    ours = newest is not None and row.action == "evacuate" and newest.id > row.migration_seen
    return (newest.dest or "") if newest is not None and ours else ""


def _on_record(visit: Visit, row: Instance) -> bool:
    """The last look before an evacuate is sent again: whether the instance's actions show one newer than the intent."""
    since = row.action_at - visit.world.settings.safety.clock_tolerance_s
    told = visit.world.nova.actions(row.uuid)
    return any(a.action == "evacuate" and a.start_time > since and not _ended_badly(a) for a in told)


def _ended_badly(action: Action) -> bool:
    return action.message == "Error"


def _local_disk(server: Server | None, move: Move) -> bool:
    return server is not None and server.local_disk and "shared storage" in move.reason.lower()


def _target_state(visit: Visit, host: str) -> evacuation.Target:
    """Whether the host an evacuation went to has died since, and whether that is proven (rule 4)."""

    def read(tx: Tx) -> tuple[Recovery, hosts.Known] | None:
        wishes = [d.recovery_id for d in hosts.disables(tx, host) if d.kind == "host" and d.seen]
        active = store.active(tx, [f"host:{host}"]).get(f"host:{host}")
        # A recovery of the target that has ended counts until the target has returned.
        recovery = active or (store.get(tx, max(wishes)) if wishes else None)
        return (recovery, hosts.known(tx, host, recovery.created_at)) if recovery else None

    found = visit.world.db.transaction(read)
    if found is None:
        return evacuation.Target()
    recovery, known = found
    service = visit.world.nova.service(host)
    life = (*known.life, *nova_life(known, service, visit.world.settings.safety.clock_tolerance_s))
    facts = proof.Facts(known.proofs, life, recovery.data.get("nova_down_since"))
    verdict = proof.judge(facts, visit.now, proof_rules(visit.world), requested=True)
    if verdict.hold == "alive":
        # It has come back; what it was building when it died is found stuck.
        return evacuation.Target()
    return evacuation.Target(lost=True, proven=verdict.valid and bool(recovery.data.get("isolated_at")), host=host)


def other_target(visit: Visit, moves: dict[str, Move], in_flight: int) -> str:
    """Why another reserved host is needed before anything more is sent; empty when none is."""
    recovery = visit.recovery
    asking = any(move.verb == "ask" for move in moves.values())
    if asking and not in_flight and recovery.target and not target_up(visit):
        return f"nova-compute of the reserved host {recovery.target} reads down"
    if asking and recovery.target and _target_state(visit, recovery.target).lost:
        return f"reserved host {recovery.target} was lost"
    if asking and not recovery.target and recovery.data.get("method") == "reserved_host":
        return "an instance has arrived late: a reserved host is needed"
    scheduled = recovery.data.get("method") == "auto_priority" and not recovery.data.get("spare_wanted")
    if scheduled and any(
        move.verb in ("again", "fail") and "no valid host" in move.reason.lower() for move in moves.values()
    ):
        return "Nova's scheduler found no host: a reserved host is tried"
    return ""


def target_up(visit: Visit) -> bool:
    """Whether the reserved host reads up. Nova would let a request to one that is down wait until it is up again."""
    target, data = visit.recovery.target, visit.recovery.data
    if not target or visit.now - data.get("target_seen_at", 0.0) < TARGET_SEEN_S:
        return True
    service = visit.world.nova.service(target)
    if service is None or not service.up:
        return False
    visit.remember(target_seen_at=visit.now)
    return True
