"""Evacuate: what Nova refuses, and what becomes of a request that it takes."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from .power import check_vm_state
from .records import (
    NO_STATE,
    REBUILD_STATES,
    RUNNING,
    SHUTDOWN,
    Action,
    Evacuation,
    Fault,
    Host,
    Migration,
    Refused,
    Server,
)

if TYPE_CHECKING:
    from .model import World

_SCHEDULER_S = 0.15  # until "No valid host" shows
_STORAGE_CHECK_S = 0.3  # until "Invalid state of instance files" shows
# How far a build is, and the task_state it reads then.
_STAGES = ((0.4, "rebuilding"), (0.6, "rebuild_block_device_mapping"), (0.8, "rebuild_spawning"))
_NO_HOST = "No valid host was found. "


def request(
    world: World,
    server: Server,
    target: str | None,
    *,
    forced: bool,
    on_shared_storage: bool | None,
    ends_stopped: bool,
    request_id: str,
    user_id: str,
) -> None:
    """Take an evacuate, or raise Refused. The migration and the action are there when this returns.

    Args:
        target: the wanted host; None: Nova's scheduler picks one.
        forced: the scheduler isn't asked about the target.
        on_shared_storage: what the request claims (up to 2.13), None otherwise.
    """
    if target is not None and target not in world.hosts:
        raise Refused(404, f"Compute host {target} not found.")
    if target is not None and target == server.host:
        raise Refused(400, "The target host can't be the same one.")
    check_vm_state(server, "evacuate", ("active", "stopped", "error"))
    assert server.host
    source = world.host(server.host)
    if world.reads_up(source):
        raise Refused(400, f"Compute service of {source.name} is still in use.")

    world.evacuate_requests.append((world.now, server.id, target))
    world.note(f"evacuate of {server.name} from {source.name} to {target} accepted")
    if source.powered and server.id in source.guests:
        world.violate(f"evacuate of {server.name} {server.id} accepted while its guest runs on {source.name}")
    migration = Migration(
        len(world.migrations) + 1,
        world.new_uuid(),
        server.id,
        source.name,
        target,
        world.now,
        user_id,
        server.project_id,
    )
    world.migrations.append(migration)
    action = world.begin_action(server, "evacuate", request_id, user_id)
    server.task_state = "rebuilding"
    world.touch(server)
    if not _wreck_the_first(world, server):
        server.evacuation = Evacuation(server, migration, action, target, on_shared_storage, forced, ends_stopped)
        _send(world, server.evacuation)


def _wreck_the_first(world: World, server: Server) -> bool:
    """A second evacuate during the first ruins both, unless no living nova-compute has the first."""
    first = server.evacuation
    if first is None:
        return False
    target = world.host(first.target) if first.target else None
    # Stuck although its target answers: the target took it and has died in between.
    dead = target is not None and (not target.powered or (first.stuck and target.answers))
    if not dead:
        world.violate(f"second evacuate of {server.name} {server.id} accepted while the first is in flight")
    if first.stuck:
        first.stage = "over"
        return False
    first.wrecked = True
    return True


def _send(world: World, evacuation: Evacuation) -> None:
    server, target = evacuation.server, evacuation.target
    if evacuation.forced and server.stale_allocation:
        _fail_later(
            world,
            evacuation,
            "error",
            _SCHEDULER_S,
            f"{_NO_HOST}Unable to move instance {server.id} to host {target}. The instance has complex "
            "allocations on the source host so move cannot be forced.",
        )
        return
    if target is None:
        host = world.schedule(but_not=server.host)
    else:
        host = world.host(target)
        if not evacuation.forced and not world.schedulable(host):
            host = None
    if host is None:
        _fail_later(world, evacuation, "error", _SCHEDULER_S, _NO_HOST)
        return
    evacuation.target = evacuation.migration.dest = host.name
    server.stale_allocation = False
    if not world.deliver(host, lambda: _take(world, host, evacuation)):
        evacuation.stuck = server.stale_allocation = True


def _take(world: World, host: Host, evacuation: Evacuation) -> None:
    """A nova-compute takes the request from its queue."""
    server = evacuation.server
    if server.evacuation is not evacuation or server.task_state not in REBUILD_STATES:
        _conflict(world, evacuation)
        return
    evacuation.stuck = server.stale_allocation = False
    limit = world.behaviour.builds_at_once
    if limit and len(host.builds) >= limit:
        evacuation.stage = "queued"
        host.waiting.append(evacuation)
    else:
        _build(world, host, evacuation)


def _build(world: World, host: Host, evacuation: Evacuation) -> None:
    host.builds.append(evacuation)
    evacuation.stage = "building"
    evacuation.migration.dest_node = host.name
    if _is_wrong_about_the_disk(evacuation, world.behaviour.shared_storage):
        message = "Invalid state of instance files on shared storage"
        world.after_on(
            host,
            _STORAGE_CHECK_S,
            lambda: _leave(world, host, evacuation),
            lambda: _fail(world, evacuation, "failed", message),
        )
        return
    whole_s = world.behaviour.evacuate_s
    settle_s = min(world.random.uniform(0.1, 1.0) * world.behaviour.settle_s, whole_s / 2)
    build_s = whole_s - settle_s
    for part, task_state in _STAGES:
        world.after_on(host, part * build_s, report=functools.partial(_progress, evacuation, task_state))
    spawn = functools.partial(_spawn, world, host, evacuation)
    world.after_on(host, build_s, spawn, functools.partial(_spawned, world, evacuation))
    leave = functools.partial(_leave, world, host, evacuation)
    world.after_on(host, whole_s, leave, functools.partial(_settled, world, host, evacuation))


def _is_wrong_about_the_disk(evacuation: Evacuation, shared: bool) -> bool:
    """The target looks for the disk, and believes itself. A server without one may be told anything but "shared"."""
    claim = evacuation.on_shared_storage
    return (claim is True and not shared) or (claim is False and shared and evacuation.server.local_disk)


def _leave(world: World, host: Host, evacuation: Evacuation) -> None:
    """The build's place is free for the next one."""
    host.builds.remove(evacuation)
    if host.waiting:
        _build(world, host, host.waiting.popleft())


def _progress(evacuation: Evacuation, task_state: str) -> None:
    server = evacuation.server
    if server.evacuation is evacuation and server.task_state in REBUILD_STATES:
        server.task_state = task_state
        server.power_state = NO_STATE


def _spawn(world: World, host: Host, evacuation: Evacuation) -> None:
    """The build is done: the guest runs on the target, unless the request was spoilt before."""
    server = evacuation.server
    if server.evacuation is not evacuation or evacuation.wrecked or server.task_state not in REBUILD_STATES:
        return
    evacuation.stage = "settling"
    if server.local_disk and not world.behaviour.shared_storage:
        world.violate(
            f"the local disk of {server.name} {server.id} is built anew from its image on {host.name}: its data is lost"
        )
    if not _ends_stopped(evacuation):
        world.spawn(host, server)


def _spawned(world: World, evacuation: Evacuation) -> None:
    """Nova shows the wanted status before it shows the new host."""
    server = evacuation.server
    if server.evacuation is not evacuation:
        return
    if evacuation.stage != "settling" and not evacuation.wrecked:
        _conflict(world, evacuation)
    elif evacuation.wrecked:
        _wreck(world, evacuation, server.host)
    else:
        stopped = _ends_stopped(evacuation)
        server.vm_state = "stopped" if stopped else "active"
        server.power_state = SHUTDOWN if stopped else RUNNING
        server.task_state, server.fault = None, None
        world.touch(server)


def _settled(world: World, host: Host, evacuation: Evacuation) -> None:
    server = evacuation.server
    if server.evacuation is not evacuation:
        return
    if evacuation.wrecked:
        _wreck(world, evacuation, host.name)
        return
    server.host = host.name
    _end(world, evacuation, "done", None)
    world.evacuated.append((world.now, server.id, host.name))
    world.note(f"{server.name} reads {server.status} on {host.name}")


def _ends_stopped(evacuation: Evacuation) -> bool:
    return evacuation.ends_stopped or evacuation.server.vm_state == "stopped"


def _wreck(world: World, evacuation: Evacuation, host: str | None) -> None:
    """Two evacuates met: stuck for good in REBUILD, vm_state error, on the one host or the other."""
    server = evacuation.server
    server.vm_state, server.host = "error", host
    server.task_state = world.random.choice(("rebuilding", "rebuild_block_device_mapping"))
    server.power_state = RUNNING if evacuation.stage == "settling" else NO_STATE
    server.fault = Fault(_conflict_text(server), world.now)
    _end(world, evacuation, "failed", "Error")
    world.note(f"{server.name} is wrecked by a second evacuate; it reads {server.host}")


def _conflict(world: World, evacuation: Evacuation) -> None:
    """The target finds the instance in another state than the request left it."""
    _fail(world, evacuation, "failed", _conflict_text(evacuation.server))


def _conflict_text(server: Server) -> str:
    return (
        f"Conflict updating instance {server.id}. Expected: {{'task_state': ['rebuilding']}}. "
        "Actual: {'task_state': None}"
    )


def _fail_later(world: World, evacuation: Evacuation, status: str, delay_s: float, message: str) -> None:
    def event() -> None:
        if evacuation.wrecked:
            _wreck(world, evacuation, evacuation.server.host)
        elif evacuation.server.evacuation is evacuation:
            _fail(world, evacuation, status, message)

    world.after(delay_s, event)


def _fail(world: World, evacuation: Evacuation, status: str, message: str) -> None:
    server = evacuation.server
    if evacuation.wrecked:
        _wreck(world, evacuation, server.host)
        return
    if server.id not in world.servers or evacuation.migration.status != "accepted":
        return
    server.vm_state = "error"
    server.fault = Fault(message, world.now)
    if server.evacuation in (evacuation, None):
        server.task_state = None
    _end(world, evacuation, status, "Error")
    world.note(f"evacuate of {server.name} to {evacuation.target} {status}: {message}")


def _end(world: World, evacuation: Evacuation, status: str, message: str | None) -> None:
    evacuation.stage = "over"
    evacuation.migration.status = status
    evacuation.migration.updated_at = world.now
    _finish_action(world, evacuation.action, message)
    if evacuation.server.evacuation is evacuation:
        evacuation.server.evacuation = None
    world.touch(evacuation.server)


def _finish_action(world: World, action: Action, message: str | None) -> None:
    action.message = message
    action.updated_at = world.now
