"""The instances of a host that is proven off: list them, evacuate them in a sliding window, list once more, finish.

What to do with each is decided in evacuation.py; here it is looked up and carried out. Safety rules 1, 3, 4 and 7.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial

from masakari import choice, evacuation, store
from masakari.carry import keep, kept
from masakari.common.errors import MaybeSent, Rejected, Unavailable
from masakari.database import Tx
from masakari.evacuation import Move, Plan
from masakari.host_aggregates import leave
from masakari.host_look import (
    Look,
    cancelled,
    ever_requested,
    hold_reason,
    judge,
    rebooted,
    still_proven,
    unknown_to_nova,
)
from masakari.host_moves import LOCAL_DISK, TARGET_SEEN_S, moves_of, other_target, target_up
from masakari.host_pace import pause_s, room, worth_a_look
from masakari.host_recovery import changed_by_hand
from masakari.host_spare import served, spare_back
from masakari.host_view import View, find_elsewhere, read_view
from masakari.model import NOTHING_THERE, Instance
from masakari.nova import Server
from masakari.recovery import Effect, Outcome, Visit, advance, end, hold, wait

LOOK_AGAIN_S = 10.0


def list_instances(visit: Visit) -> Outcome:
    """Decide for every server Nova books on the host, and record the decision."""
    recovery = visit.recovery
    if recovery.cancel_by:
        return cancelled(visit)
    view = kept(visit, View) or read_view(visit)
    keep(visit, view.read_at, view)
    if visit.world.observing:
        return _observed(visit, view)
    if view.service is None:
        return unknown_to_nova(visit)
    changed = changed_by_hand(visit, view.service)
    if changed:
        return changed
    effects = _take_in(visit, view, visit.instances())
    many = sum(_plan(visit, server).evacuate for server in view.here.values())
    return advance("evacuate", f"{many} of {len(view.here)} instances to evacuate", effects=effects)


def _plan(visit: Visit, server: Server) -> Plan:
    chosen = choice.of_host(visit.world.settings.host_failure)
    return evacuation.consider(server, visit.recovery.hostname, chosen)


def _observed(visit: Visit, view: View) -> Outcome:
    """Observe mode: say of each instance what would be done, and end."""
    plans = [(server, _plan(visit, server)) for server in view.here.values()]
    for server, plan in plans:
        visit.note(
            "decision", f"would {'evacuate' if plan.evacuate else 'leave'} {server.name}", plan.reason, server.id
        )
    many = sum(plan.evacuate for _, plan in plans)
    return end("ignored", f"observe mode: would evacuate {many} of {len(plans)} instances; nothing was written to Nova")


def _take_in(visit: Visit, view: View, known: Sequence[Instance]) -> list[Effect]:
    """Rows for the servers that have none yet in this recovery; instance recoveries are taken over."""
    recovery, now = visit.recovery, visit.now
    rows = {instance.uuid for instance in known}
    fresh = [server for server in view.here.values() if server.id not in rows]
    if not fresh:
        return []
    report, crashed = recovery.data.get("report"), _crashed(visit, fresh)
    plans = {server.id: _plan(visit, server) for server in fresh}

    def write(tx: Tx) -> None:
        busy = store.active_instances(tx, [server.id for server in fresh])
        new = []
        for server in fresh:
            plan = plans[server.id]
            was = evacuation.before(server)
            if server.id in busy:
                instance, kind = busy[server.id]
                if kind == "instance":
                    was = evacuation.taken(was, instance, server.id in crashed)
                    store.take_over(tx, instance, server, recovery, plan.priority, was, now)
                continue
            new.append(
                store.instance_row(
                    server.id,
                    server.name,
                    recovery.id,
                    "host",
                    now,
                    priority=plan.priority,
                    was=was,
                    status="new" if plan.evacuate else "skipped",
                    reason=plan.reason,
                    report_id=report,
                )
            )
        if new:
            tx.execute_many("instance_add", new)

    for server in fresh:
        plan = plans[server.id]
        if not plan.evacuate:
            visit.note("decision", f"{server.name} is not evacuated", plan.reason, server.id)
    return [write]


def _crashed(visit: Visit, servers: Sequence[Server]) -> set[str]:
    """Of those that an instance recovery wants to start again, the ones that Nova itself booked as stopped."""
    stopped = [server.id for server in servers if server.vm_state == "stopped"]
    if not stopped:
        return set()
    busy = visit.world.db.transaction(lambda tx: store.active_instances(tx, stopped))
    told = [uuid for uuid, (_, kind) in busy.items() if kind == "instance"]
    actions = visit.together([partial(visit.world.nova.actions, uuid) for uuid in told])
    return {uuid for uuid, found in zip(told, actions, strict=True) if evacuation.stopped_by_nova(found, 0.0)}


def evacuate(visit: Visit) -> Outcome:
    """One visit: look at all instances at once, record what ended, send what may be sent, say when to look again."""
    recovery = visit.recovery
    rows = visit.instances()
    open_rows = [row for row in rows if row.open]
    if not worth_a_look(visit, open_rows):
        return wait(pause_s(visit, len(rows)), recovery.reason)
    view = kept(visit, View) or read_view(visit, targets={row.action_target for row in open_rows if row.action_target})
    visit.remember(looked_at=visit.now, looked_wakes=recovery.wakes)
    find_elsewhere(visit, view, open_rows)
    seen = judge(visit, view.service)
    moves = moves_of(visit, view, open_rows)
    effects = _settle(visit, open_rows, moves)
    in_flight = [row for row in open_rows if _in_flight(row, moves[row.uuid])]
    blocked = _blocked(visit, view, seen, in_flight)
    asks = [row for row in open_rows if moves[row.uuid].verb in ("ask", "put_back")]
    other = other_target(visit, moves, len(in_flight)) if blocked is None else ""
    if other:
        return advance("reserve", other, effects=effects, data={"spare_wanted": True})
    assert blocked is not None or seen.verdict.valid, "rule 1: no evacuation is requested without proof"
    if blocked is None or in_flight:
        allowed = asks if blocked is None else [row for row in asks if moves[row.uuid].verb == "put_back"]
        if any(moves[row.uuid].action == "evacuate" for row in allowed) and not target_up(visit):
            allowed = [row for row in allowed if moves[row.uuid].action != "evacuate"]
        sent, sent_effects = _send(visit, view, seen, allowed, moves, len(in_flight))
        effects += sent_effects
        lost = [moves[row.uuid] for row in in_flight if moves[row.uuid].target_lost]
        if lost and not sent and len(lost) == len(in_flight):
            reason = f"{_progress(rows, moves)}: {lost[0].reason}"
            return hold("target", reason, seconds=TARGET_SEEN_S, effects=effects)
        if sent or in_flight or (asks and blocked is None):
            reason = blocked.reason if blocked else _progress(rows, moves)
            return wait(pause_s(visit, len(rows), view), reason, effects=effects)
    if blocked is not None:
        return Outcome(
            blocked.status,
            blocked.reason,
            step=blocked.step,
            wait_s=blocked.wait_s,
            hold=blocked.hold,
            data=blocked.data,
            effects=[*effects, *blocked.effects],
        )
    if any(moves[row.uuid].verb in ("follow", "again") for row in open_rows):
        return wait(pause_s(visit, len(rows), view), _progress(rows, moves), effects=effects)
    keep(visit, view.read_at, view)
    return advance("finish", _progress(rows, moves), effects=effects)


def _in_flight(row: Instance, move: Move) -> bool:
    return row.action is not None and move.verb == "follow"


def _settle(visit: Visit, rows: Sequence[Instance], moves: dict[str, Move]) -> list[Effect]:
    """Store what ended: done, failed, skipped, or one more try."""
    now = visit.now
    ended: list[tuple[Instance, str, Move]] = []
    again: list[tuple[Instance, Move]] = []
    words = {"done": "finished", "fail": "failed", "skip": "skipped"}
    for row in rows:
        move = moves[row.uuid]
        if move.verb == "again":
            again.append((row, move))
            visit.note("decision", f"{row.name}: try {row.retry_cnt + 1} ended", move.reason, row.uuid)
        elif move.verb in words:
            ended.append((row, words[move.verb], move))
            visit.note("transition", f"{row.name}: {words[move.verb]}", move.reason, row.uuid, row.request_id)

    def write(tx: Tx) -> None:
        for row, status, move in ended:
            store.end_instance(tx, row.id, status, move.reason, move.host or None, now)
        for row, move in again:
            store.again_instance(tx, row.id, move.reason, now)

    return [write] if ended or again else []


def _blocked(visit: Visit, view: View, seen: Look, in_flight: Sequence[Instance]) -> Outcome | None:
    """Why nothing new may be requested; what is in flight is followed all the same."""
    recovery = visit.recovery
    if recovery.cancel_by:
        return cancelled(visit)
    if view.service is None:
        return unknown_to_nova(visit)
    if rebooted(recovery, seen.known):
        return advance("in_place", "the host has booted again: evacuating stops")
    if not seen.verdict.valid:
        return hold(seen.verdict.hold, hold_reason(visit, seen), seconds=LOOK_AGAIN_S)
    return changed_by_hand(visit, view.service)


def _send(
    visit: Visit, view: View, seen: Look, rows: Sequence[Instance], moves: dict[str, Move], in_flight: int
) -> tuple[int, list[Effect]]:
    """Ask Nova for as many as the window allows: intents in one transaction, then the requests, then the answers."""
    chosen = list(rows)[: room(visit, in_flight)]
    if not chosen:
        return 0, []
    recovery, now = visit.recovery, visit.now

    def intents(tx: Tx) -> None:
        if any(moves[row.uuid].verb == "ask" for row in chosen):
            still_proven(tx, visit, seen)
        for row in chosen:
            newest = max((m.id for m in view.migrations.get(row.uuid, [])), default=0)
            action = moves[row.uuid].action
            store.intend_instance(
                tx, row, action, recovery.target if action == "evacuate" else row.action_target, newest, now
            )

    visit.intend(
        [(_told(recovery.target, row, moves[row.uuid]), row.uuid, moves[row.uuid].reason) for row in chosen],
        [intents],
        data={"first_sent_at": recovery.data.get("first_sent_at") or now},
    )
    answers = visit.world.pool.map(lambda row: _ask(visit, view, row, moves[row.uuid]), chosen)
    return len(chosen), [_answers(visit, list(zip(chosen, answers, strict=True)))]


def _told(target: str | None, row: Instance, move: Move) -> str:
    where = f" to {target}" if target and move.action == "evacuate" else ""
    return f"{move.action.replace('_', ' ')} {row.name}{where}"


def _ask(visit: Visit, view: View, row: Instance, move: Move) -> str | Exception:
    """One request to Nova; the answer is its request id or the error, never raised."""
    nova, recovery = visit.world.nova, visit.recovery
    server = view.server(row.uuid)
    assert server is not None
    if not visit.may_send():
        return Unavailable("not sent: too long after its intent, or the lease would have ended before its answer")
    try:
        if move.verb == "put_back":
            return {"pause": nova.pause, "stop": nova.stop, "start": nova.start}[move.action](row.uuid)
        assert server.host == recovery.hostname, f"rule 3: {row.uuid} reads {server.host}, not {recovery.hostname}"
        if move.action == "reset_state":
            return nova.reset_state(row.uuid, "error")
        assert server.task_state not in evacuation.REBUILDING, f"rule 3: an evacuation of {row.uuid} is under way"
        keep = bool(row.was.get("local_disk")) and not visit.world.settings.nova.rebuild_local_disks
        return nova.evacuate(row.uuid, recovery.target or None, keep)
    except (Unavailable, Rejected) as error:
        return error


def _answers(visit: Visit, answers: Sequence[tuple[Instance, str | Exception]]) -> Effect:
    """Note what Nova said: accepted, maybe sent, surely not sent, or refused (which ends the try)."""
    now = visit.now
    for row, answer in answers:
        if isinstance(answer, str):
            visit.note("answer", f"{row.name}: accepted", "", row.uuid, answer)
        else:
            request_id = answer.request_id if isinstance(answer, Rejected) else None
            visit.note("answer", f"{row.name}: {_kind(answer)}", str(answer), row.uuid, request_id)

    def write(tx: Tx) -> None:
        for row, answer in answers:
            if isinstance(answer, str):
                store.answer_instance(tx, row.id, "accepted", answer)
            elif isinstance(answer, MaybeSent):
                store.answer_instance(tx, row.id, "maybe", None)
            elif isinstance(answer, Rejected):
                store.again_instance(tx, row.id, f"Nova refuses: {answer}", now)
            else:
                store.unsend_instance(tx, row)

    return write


def _kind(answer: Exception) -> str:
    if isinstance(answer, MaybeSent):
        return "no clear answer"
    return "refused" if isinstance(answer, Rejected) else "not sent"


def _progress(rows: Sequence[Instance], moves: dict[str, Move]) -> str:
    """One sentence for the operator: 12 of 20 evacuated, 1 failed, 7 to go."""
    words = {"done": "finished", "fail": "failed", "skip": "skipped"}
    count = Counter(words.get(moves[row.uuid].verb, "open") if row.uuid in moves else row.status for row in rows)
    told = [f"{count['finished']} of {len(rows) - count['skipped']} evacuated"]
    told += [f"{count['failed']} failed"] if count["failed"] else []
    told += [f"{count['skipped']} left alone"] if count["skipped"] else []
    told += [f"{count['open']} to go"] if count["open"] else []
    return ", ".join(told)


def finish(visit: Visit) -> Outcome:
    """List the host once more for late arrivals; then say how it went."""
    recovery = visit.recovery
    view = kept(visit, View) or read_view(visit)
    rows = visit.instances()
    known = {row.uuid for row in rows}
    late = [server for server in view.here.values() if server.id not in known]
    if late and not recovery.cancel_by and not recovery.data.get("in_place_listed"):
        if _busy_elsewhere(visit, late):
            return wait(1.0, "waiting for another recovery to end with an instance that is booked here")
        return advance("evacuate", f"{len(late)} arrived late", effects=_take_in(visit, view, rows))
    if recovery.cancel_by and not ever_requested(recovery):
        return cancelled(visit)
    leaving = leave(visit)
    if leaving:
        return leaving
    spare = [] if served(visit) else spare_back(visit)
    if isinstance(spare, Outcome):
        return spare
    return _ended(visit, rows, spare)


def _busy_elsewhere(visit: Visit, servers: Sequence[Server]) -> bool:
    busy = visit.world.db.transaction(lambda tx: store.active_instances(tx, [server.id for server in servers]))
    return any(kind != "instance" for _, kind in busy.values())


def _ended(visit: Visit, rows: Sequence[Instance], spare: list[Effect]) -> Outcome:
    failed = [row for row in rows if row.status == "failed"]
    if any(row.reason.startswith(LOCAL_DISK) for row in failed) and not visit.recovery.cancel_by:
        names = ", ".join(row.name for row in failed if row.reason.startswith(LOCAL_DISK))
        return hold(
            "local_disk",
            f"{LOCAL_DISK}: Nova refused to evacuate {names} because their disks are not on shared storage. "
            "Bring the host back, or set [nova] rebuild_local_disks = yes and retry, or cancel",
            seconds=60.0,
        )
    if visit.recovery.cancel_by:
        return end("cancelled", f"cancelled by {visit.recovery.cancel_by}: {_progress(rows, {})}", effects=spare)
    if failed:
        names = ", ".join(f"{row.name} ({row.reason})" for row in failed[:5])
        return end(
            "failed", f"{_progress(rows, {})}: {names}. See: recovery_manage.py show {visit.recovery.id}", effects=spare
        )
    if not any(row.status == "finished" for row in rows):
        left = f": {len(rows)} left alone" if rows else ""
        return end("finished", NOTHING_THERE + left, effects=spare)
    return end("finished", _progress(rows, {}), effects=spare)
