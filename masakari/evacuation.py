"""What to do with one instance of a dead host, pure: no I/O, no clock.

`consider` decides once, when the host is listed; `next_move` decides at every visit, from the intent on record and from
what Nova shows. Both may be asked again at any time: the same facts give the same move.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from masakari.choice import EVERY, Choice, left_out, wants_ha
from masakari.model import Instance
from masakari.nova import Action, Migration, Server

REBUILDING = ("rebuilding", "rebuild_block_device_mapping", "rebuild_spawning")
MOVING = ("migrating", "resize_prep", "resize_migrating", "resize_migrated", "resize_finish", "resize_reverting")
EVACUABLE = ("active", "stopped", "error")
NEEDS_RESET = ("paused", "resized")
MIGRATION_ENDED = ("error", "failed")
MIGRATION_GONE = (*MIGRATION_ENDED, "completed", "cancelled")
MIGRATION_OVER = (*MIGRATION_ENDED, "done", "completed")

RANK_FIRST, RANK_ACTIVE, RANK_STOPPED = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Plan:
    """Whether an instance is evacuated at all, and in which order (`priority`, lowest first)."""

    evacuate: bool
    reason: str
    priority: int = RANK_ACTIVE


@dataclass(frozen=True, slots=True)
class Move:
    """What to do now with one instance.

    verb: ask (send `action`), follow (Nova is at it, or may be), again (the try ended without success), put_back (ask
    for `action` on the new host), done, fail, skip.
    """

    verb: str
    reason: str
    action: str = ""
    host: str = ""
    target_lost: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings a move depends on; seconds, and which instances are chosen."""

    action_settle_s: float = 15
    evacuation_timeout_s: float = 900
    choice: Choice = EVERY


@dataclass(frozen=True, slots=True)
class Target:
    """The host an earlier request of this instance went to, by our choice or Nova's, and whether it died since."""

    lost: bool = False
    proven: bool = False
    host: str = ""


def consider(server: Server, failed_host: str, choice: Choice = EVERY) -> Plan:
    """Decide from the server's own record whether it is to be evacuated."""
    task = server.task_state or ""
    if server.host != failed_host:
        return Plan(False, f"Nova books it on {server.host}")
    reason = left_out(server.metadata, server.vm_state, choice)
    if reason:
        return Plan(False, reason)
    if task in MOVING:
        return Plan(False, f"{task} when the host died: it may run on another host, see its migrations in Nova")
    if task == "deleting" or server.vm_state in ("deleted", "soft-delete", "building"):
        return Plan(False, f"{task or server.vm_state}: not moved")
    if server.vm_state not in EVACUABLE + NEEDS_RESET and task not in REBUILDING:
        return Plan(False, f"{server.vm_state}: Nova can't evacuate it, start it by hand once its host is back")
    if wants_ha(server.metadata, choice.key):
        return Plan(True, choice.key, RANK_FIRST)
    priority = RANK_STOPPED if server.vm_state == "stopped" else RANK_ACTIVE
    return Plan(True, server.vm_state, priority)


def before(server: Server) -> dict[str, Any]:
    """What has to be remembered of an instance to put it back as it was."""
    return {
        "vm_state": server.vm_state,
        "task_state": server.task_state,
        "power_state": server.power_state,
        "local_disk": server.local_disk,
    }


def taken(was: dict[str, object], instance: Instance, crashed: bool) -> dict[str, object]:
    """The state before the failure, and whether an os-stop may still wait in the dead host's queue."""
    if crashed or instance.action in ("stop", "start"):
        # The instance recovery was about to start it again: it ran when it failed.
        was = {**was, "vm_state": "active", "start": True}
    return {**was, "stop_queued": True} if instance.action == "stop" else was


def stopped_by_nova(actions: Sequence[Action], since: float) -> bool:
    """Whether an instance reads stopped only because Nova found its guest gone: its newest action is a stop without a user."""
    newest = actions[0] if actions else None
    return newest is not None and newest.action == "stop" and not newest.user_id and newest.start_time > since


def next_move(
    instance: Instance,
    server: Server | None,
    migrations: Sequence[Migration],
    failed_host: str,
    now: float,
    rules: Rules,
    target: Target = Target(),
) -> Move:
    """Decide for one instance. `migrations`: its evacuations; `server` None: Nova no longer knows it."""
    if server is None or server.vm_state in ("deleted", "soft-delete") or server.task_state == "deleting":
        return Move("skip", "deleted meanwhile")
    if server.host != failed_host:
        return _elsewhere(instance, server, now, rules, target)
    if instance.action == "evacuate":
        return _evacuating(instance, server, migrations, now, rules, target)
    if instance.action == "reset_state" and target.lost and not target.proven:
        return _may_run_there(target.host or instance.action_target)
    if instance.action == "reset_state" and not (server.vm_state == "error" and server.task_state is None):
        return _unsettled(instance, now, rules) or Move("ask", "reset-state had no effect", "reset_state")
    if instance.action in ("stop", "start"):
        settled = _unsettled(instance, now, rules)
        if settled and instance.action_answer != "accepted":
            return settled
    return _foreign(instance, server, migrations, now, rules) or _first(instance, server, failed_host, rules.choice)


def _foreign(
    instance: Instance, server: Server, migrations: Sequence[Migration], now: float, rules: Rules
) -> Move | None:
    """An evacuation that we didn't ask for is under way: it is followed, also while the server reads active and idle."""
    newest = max((m for m in migrations if m.id > instance.migration_seen), key=lambda m: m.id, default=None)
    busy = server.task_state in REBUILDING
    if newest is not None and newest.status in MIGRATION_GONE:
        newest = None
    if busy and (newest is None or now - newest.created_at <= rules.evacuation_timeout_s):
        return Move("follow", f"{server.task_state}: an evacuation that was not asked for here is under way")
    if newest is None:
        return None
    told = f"its evacuation to {newest.dest or 'a host of the scheduler'}, not asked for here,"
    if now - newest.created_at <= rules.evacuation_timeout_s:
        return Move("follow", f"{told} is under way ({newest.status})")
    if server.vm_state == "error" and not busy:
        return None  # the operator's word that nothing works on it any more
    return Move("fail", f"{told} has not ended; when nothing works on it any more, reset its state to error and retry")


def _once_listed(instance: Instance, choice: Choice) -> Choice:
    """The choice for an instance that is on the list: an error of later is no reason, and what we have begun is ended."""
    begun = instance.action in ("evacuate", "reset_state") or (instance.action is None and instance.retry_cnt > 0)
    in_error = choice.in_error or begun or instance.was.get("vm_state") != "error"
    return replace(choice, unmarked=choice.unmarked or begun, in_error=in_error)


def _first(instance: Instance, server: Server, failed_host: str, choice: Choice) -> Move:
    """Nothing is under way, and the server's own record names the failed host."""
    plan = consider(server, failed_host, _once_listed(instance, choice))
    if not plan.evacuate:
        return Move("skip", plan.reason)
    if server.vm_state in NEEDS_RESET:
        return Move("ask", f"{server.vm_state}: Nova evacuates it only from error", "reset_state")
    return Move("ask", plan.reason, "evacuate")


def _evacuating(
    instance: Instance, server: Server, migrations: Sequence[Migration], now: float, rules: Rules, target: Target
) -> Move:
    """An evacuate is on record and the server still reads the failed host."""
    age = now - instance.action_at
    newest = max((m for m in migrations if m.id > instance.migration_seen), key=lambda m: m.id, default=None)
    busy = server.task_state in REBUILDING
    host = instance.action_target or (newest.dest if newest else None)
    if target.lost and (busy or newest is not None) and not (newest and newest.status in MIGRATION_ENDED):
        if target.proven:
            return Move("ask", f"its target {host} died too and is proven off", "reset_state")
        return _may_run_there(target.host or instance.action_target)
    if not busy and newest is not None and newest.status in MIGRATION_ENDED:
        return Move("again", server.fault or f"Nova's migration {newest.id} ended as {newest.status}")
    if age > rules.evacuation_timeout_s:
        return Move(
            "fail",
            f"stuck in {server.task_state or server.status} for {age:.0f} s: see its instance actions in Nova; "
            "when nothing works on it any more, reset its state to error and retry",
        )
    if busy or newest is not None:
        return Move("follow", f"{server.task_state or 'moving'}")
    if instance.action_answer == "accepted":
        return Move("follow", "accepted by Nova")
    if _unsettled(instance, now, rules):
        return Move("follow", "no answer from Nova: waiting to see whether the request arrived")
    return Move("ask", "the last request left no trace in Nova", "evacuate")


def _may_run_there(host: str | None) -> Move:
    """Rule 4: its first target is gone, and not proven off, or no longer."""
    return Move(
        "follow",
        f"their new host {host} does not answer and they may run there: make sure that it is off, "
        f"then: recovery_manage.py attest --host {host}",
        target_lost=True,
    )


def _unsettled(instance: Instance, now: float, rules: Rules) -> Move | None:
    """Too early to say that a request had no effect."""
    if now - instance.action_at < rules.action_settle_s:
        return Move("follow", f"{instance.action} sent, not yet to be seen")
    return None


def _elsewhere(instance: Instance, server: Server, now: float, rules: Rules, target: Target) -> Move:
    """The server's own record names another host than the failed one."""
    host = server.host or ""
    if instance.action is None and server.vm_state != "error":
        return Move("skip", f"moved to {host} by somebody else", host=host)
    if server.task_state is not None:
        if now - instance.action_at > rules.evacuation_timeout_s:
            return Move("fail", f"stuck in {server.task_state} on {host}: see its instance actions in Nova", host=host)
        return Move("follow", f"{server.task_state} on {host}")
    if server.vm_state == "error":
        return Move(
            "fail",
            f"in error on {host}: {server.fault or 'no fault told'}; reset its state and start it by hand",
            host=host,
        )
    back = _way_back(instance, server)
    if back and target.lost and host == (target.host or instance.action_target):
        return Move("fail", f"on {host}, which is reported down: {back} would wait in its queue", host=host)
    if back and instance.action != back:
        return Move("put_back", f"was {instance.was.get('vm_state')} before", back, host)
    if back:
        return _unsettled(instance, now, rules) or Move("fail", f"runs on {host}, but {back} had no effect", host=host)
    return Move("done", f"{server.status} on {host}", host=host)


def _way_back(instance: Instance, server: Server) -> str:
    """The action that makes the server as it was, empty when it is."""
    was = instance.was.get("vm_state")
    if instance.was.get("start") and server.vm_state == "stopped":
        return "start"
    if was == "paused" and server.vm_state == "active":
        return "pause"
    if was == "stopped" and server.vm_state == "active":
        return "stop"
    if was == "resized" and instance.was.get("power_state") == 4 and server.vm_state == "active":
        return "stop"
    return ""
