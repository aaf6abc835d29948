"""An instance died on a living host: look -> stop -> start, each confirmed by what Nova shows (safety rules 3 and 7).

Whatever makes the failure untrue by now ends the recovery as ignored, with the reason: the instance was moved, deleted,
started, rebooted or stopped by somebody since.
"""

from __future__ import annotations

from masakari import choice, store
from masakari.carry import keep, kept
from masakari.common.errors import Conflict, MaybeSent, NotFound
from masakari.common.notification import parse
from masakari.common.text import utc
from masakari.model import Instance, Recovery
from masakari.nova import Action, Server, Service
from masakari.recovery import Outcome, Table, Visit, advance, end, hold, wait

POLL_LEAST_S = 0.01
POLL_SHARE = 0.015
"""Of the time that a stop or start has taken so far: the pause before the next look."""

LOOK_VALID_S = 5.0
"""How long a look counts before something is asked for on its strength."""

SAME_DEATH_S = 2.0
"""Reports of deaths of one guest within this time are about the same one."""

USER_ACTIONS = (
    "start",
    "reboot",
    "rebuild",
    "evacuate",
    "migrate",
    "live-migration",
    "resize",
    "confirmResize",
    "revertResize",
    "stop",
    "delete",
    "pause",
    "suspend",
    "shelve",
    "rescue",
)


def newer_action(actions: list[Action], failed_at: float) -> Action | None:
    """Pure: what somebody began after the failure. A stop without a user is Nova's own, upon seeing the guest gone."""
    for action in actions:
        if (
            action.start_time > failed_at
            and action.action in USER_ACTIONS
            and not (action.action == "stop" and not action.user_id)
        ):
            return action
    return None


def untrue(
    server: Server, recovery: Recovery, actions: list[Action], failed_at: float, chosen: choice.Choice = choice.EVERY
) -> str:
    """Pure: why there is nothing to recover any more; empty when there is."""
    if server.host != recovery.hostname:
        return f"Nova books it on {server.host}"
    if server.task_state == "deleting" or server.vm_state in ("deleted", "soft-delete"):
        return "it is being deleted"
    left_out = choice.left_out(server.metadata, server.vm_state, chosen)
    if left_out:
        return left_out
    action = newer_action(actions, failed_at)
    if action:
        return f"{action.action} begun at {utc(action.start_time)}, after the failure ({action.request_id})"
    return ""


def look(visit: Visit) -> Outcome:
    """Is it still true, may it be repaired now, and did it not fail too often?"""
    recovery, nova = visit.recovery, visit.world.nova
    if recovery.cancel_by:
        return _cancelled(visit)
    if recovery.hold == "callback" and not recovery.released:
        return hold("callback", recovery.reason, seconds=60.0)
    uuid, read_at = recovery.uuid or "", visit.world.clock.monotonic()
    try:
        server, service, actions = visit.together(
            [lambda: nova.server(uuid), lambda: nova.service(recovery.hostname), lambda: nova.actions(uuid)]
        )
    except NotFound:
        return end("ignored", "Nova no longer knows it")
    failed_at = recovery.data.get("failed_at") or recovery.created_at
    reason = untrue(server, recovery, actions, failed_at, choice.of_instance(visit.world.settings.instance_failure))
    if reason:
        return end("ignored", reason)
    held = host_held(visit, service)
    if held:
        return held
    if server.vm_state not in ("active", "stopped", "error"):
        return end("failed", f"{server.vm_state}: Nova can't stop and start it from there; do it by hand")
    starter = visit.world.settings.recover_starter
    since = visit.now - starter.interval_to_be_retry
    row = visit.world.db.transaction(lambda tx: tx.one("recovery_recent_instance", uuid=recovery.uuid, since=since))
    if row and row["n"] >= starter.max_retry_cnt:
        return end(
            "failed",
            f"it failed {row['n'] + 1} times within {starter.interval_to_be_retry} s and is left as it is: see why "
            "its guest dies, then start it by hand",
        )
    if visit.world.observing:
        return end("ignored", f"observe mode: would stop and start {server.name}")
    name = server.name
    keep(visit, read_at, server)
    step = "start" if server.vm_state == "stopped" and server.task_state is None else "stop"
    return advance(
        step,
        f"{server.status} in Nova",
        effects=[lambda tx: tx.execute("instance_name", recovery_id=recovery.id, name=name[:255])],
    )


def host_held(visit: Visit, service: Service | None) -> Outcome | None:
    """An os-stop towards a dead host would wait in its queue, and kill the healthy guest when the host returns."""
    host = visit.recovery.hostname
    if service is None or not service.up:
        return hold(
            "host_down", f"nova-compute of {host} does not read up: an os-stop would wait in its queue", seconds=5.0
        )
    if visit.world.db.transaction(lambda tx: store.active(tx, [f"host:{host}"])):
        return hold("host_down", f"{host} itself is reported down", seconds=5.0)
    return None


def _cancelled(visit: Visit) -> Outcome:
    return end("cancelled", f"cancelled by {visit.recovery.cancel_by}")


def _row(visit: Visit) -> Instance:
    rows = visit.instances()
    assert rows, f"recovery {visit.recovery.id} has lost its instance"
    return rows[0]


def stop(visit: Visit) -> Outcome:
    """From active or error: os-stop, until Nova shows it stopped and idle."""
    return _reach(visit, "stop", ("active", "error"), "stopped", lambda: advance("start", "stopped"))


def start(visit: Visit) -> Outcome:
    """os-start, until Nova shows it active and idle."""
    return _reach(visit, "start", ("stopped",), "active", lambda: _started(visit))


def _started(visit: Visit) -> Outcome:
    """Nova shows it active. It may have died since, which Nova need not know: a report that joined says so."""
    recovery, row = visit.recovery, _row(visit)
    told = visit.world.db.read(lambda tx: tx.all("report_newer", recovery_id=recovery.id, since=row.action_at))
    deaths = [parse(r["body"].encode(), r["received_at"]).utc_time or r["received_at"] for r in told]
    died_at = max((min(at, visit.now) for at in deaths), default=0.0)
    # Told by the clock of the host, as the first death was; ours may differ by the tolerance.
    first_at = (recovery.data.get("failed_at") or recovery.created_at) + SAME_DEATH_S
    if row.action != "start" or died_at <= max(first_at, row.action_at - visit.world.settings.safety.clock_tolerance_s):
        return end("finished", f"started again on {recovery.hostname}")
    again = recovery.data.get("again", 0) + 1
    if again >= visit.world.settings.recover_starter.max_retry_cnt:
        return end("failed", f"it died again {again} times right after its start: see why, then start it by hand")
    return advance("look", "it died again after its start", data={"failed_at": died_at, "again": again})


def _reach(visit: Visit, action: str, sources: tuple[str, ...], goal: str, reached) -> Outcome:  # type: ignore[no-untyped-def]
    """Ask once, follow until the goal shows; ask again only after the request surely had no effect."""
    recovery, world = visit.recovery, visit.world
    row, read_at = _row(visit), world.clock.monotonic()
    try:
        server = kept(visit, Server) or world.nova.server(row.uuid)
    except NotFound:
        return end("ignored", "deleted meanwhile")
    if server.host != recovery.hostname:
        return end("ignored", f"Nova books it on {server.host} by now")
    asked = row.action == action
    if server.vm_state == goal and server.task_state is None:
        keep(visit, read_at, server)
        return reached()
    if recovery.cancel_by and not (asked and _pending(visit, row, server)):
        return _cancelled(visit)
    starter = world.settings.recover_starter
    # Without an answer and without a trace it was never sent: that is no reason to give up.
    taken = asked and (row.action_answer == "accepted" or _pending(visit, row, server))
    if taken and visit.now - row.action_at > starter.api_check_interval * starter.api_check_max_cnt:
        held = host_held(visit, world.nova.service(recovery.hostname))
        if held and recovery.cancel_by:
            return end(
                "cancelled", f"cancelled by {recovery.cancel_by}; os-{action} may still wait for {recovery.hostname}"
            )
        return held or end(
            "failed",
            f"{server.task_state or server.status} {visit.now - row.action_at:.0f} s after os-{action}: "
            f"see its instance actions in Nova (request {row.request_id})",
        )
    if _pending(visit, row, server) or (asked and _just_asked(visit, row)):
        pause_s = POLL_LEAST_S + POLL_SHARE * (visit.now - row.action_at)
        return wait(min(pause_s, starter.api_check_interval), f"os-{action} under way")
    if server.task_state is not None:
        return wait(0.5, f"{server.task_state}: waiting for it to end")
    if server.vm_state not in sources:
        return end("ignored", f"{server.status} by now: somebody else is at it")
    if row.action is None and visit.now - recovery.step_at > LOOK_VALID_S:
        return advance("look", "nothing was asked for yet, and the look is too old to act on")
    return _ask(visit, row, action)


def _pending(visit: Visit, row: Instance, server: Server) -> bool:
    """Nova shows that it works on what was asked."""
    return row.action is not None and server.task_state in ("powering-off", "powering-on")


def _just_asked(visit: Visit, row: Instance) -> bool:
    """No effect to be seen yet, and too early to say that there will be none."""
    settle_s = 1.0 if row.action_answer == "accepted" else visit.world.settings.safety.action_settle_s
    return visit.now - row.action_at < settle_s


def _ask(visit: Visit, row: Instance, action: str) -> Outcome:
    recovery, world, now = visit.recovery, visit.world, visit.now
    # Without a request on record the look before this step is a moment old.
    held = host_held(visit, world.nova.service(recovery.hostname)) if row.action else None
    if held:
        return held
    if row.retry_cnt >= world.settings.recover_starter.api_max_retry_cnt:
        return end("failed", f"Nova accepted os-{action} {row.retry_cnt} times without effect: start it by hand")
    call = world.nova.stop if action == "stop" else world.nova.start
    try:
        request_id = visit.act(
            f"os-{action}",
            lambda: call(row.uuid),
            uuid=row.uuid,
            effects=[
                lambda tx: store.intend_instance(tx, row, action, recovery.hostname, 0, now),
                *([lambda tx: tx.execute("instance_retry", id=row.id)] if row.action == action else []),
            ],
        )
    except MaybeSent:
        return wait(
            0.5,
            f"os-{action} without a clear answer: looking",
            effects=[lambda tx: store.answer_instance(tx, row.id, "maybe", None)],
        )
    except Conflict:
        return wait(
            0.5,
            f"Nova refused os-{action} in this state: looking again",
            effects=[lambda tx: store.again_instance(tx, row.id, "refused", now)],
        )
    return wait(
        POLL_LEAST_S,
        f"os-{action} accepted",
        effects=[lambda tx: store.answer_instance(tx, row.id, "accepted", request_id)],
    )


STEPS: Table = {
    "look": (look, frozenset({"stop", "start"})),
    "stop": (stop, frozenset({"start", "look"})),
    "start": (start, frozenset({"look"})),
}
"""step: (function, allowed next steps)."""
