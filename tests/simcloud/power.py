"""Stop, start, pause, reset: what Nova checks, and what then happens on the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .records import RUNNING, SHUTDOWN, Host, Refused, Server

if TYPE_CHECKING:
    from .model import World

_PAUSE_S = 0.1
_FAKE_STOP_S = 0.15  # Nova's fake hypervisor, asked to stop a guest it doesn't have

# action: (vm_states it is accepted in, task_state meanwhile)
_RULES = {
    "stop": (("active", "error"), "powering-off"),
    "start": (("stopped",), "powering-on"),
    "pause": (("active",), "pausing"),
    "unpause": (("paused",), "unpausing"),
    "reboot": (("active", "stopped", "paused", "suspended", "error"), "rebooting"),
}


def request(world: World, server: Server, action: str, request_id: str, user_id: str, is_admin: bool) -> None:
    """Take an os-stop, os-start, pause, unpause or reboot; it is carried out later.

    Raises Refused when the server is locked, busy, or in the wrong vm_state.
    """
    states, task_state = _RULES[action]
    if server.locked and not is_admin:
        raise Refused(409, f"Instance {server.id} is locked")
    check_vm_state(server, action, states)
    if server.task_state is not None:
        raise Refused(
            409, f"Cannot '{action}' instance {server.id} while it is in task_state {server.task_state}"
        )
    assert server.host
    server.task_state = task_state
    world.touch(server)
    world.begin_action(server, action, request_id, user_id)
    host = world.host(server.host)
    world.note(
        f"{action} of {server.name} asked of {host.name}{'' if host.answers else ', which is not there'}"
    )
    world.deliver(host, lambda: _carry_out(world, host, server, action))


def check_vm_state(server: Server, action: str, states: tuple[str, ...]) -> None:
    """Raises Refused (409) unless the server is in one of the states."""
    if server.vm_state not in states:
        raise Refused(
            409, f"Cannot '{action}' instance {server.id} while it is in vm_state {server.vm_state}"
        )


def reset_state(world: World, server: Server, state: str, request_id: str, user_id: str) -> None:
    """Set vm_state to active or error, and no task; the database only."""
    server.vm_state, server.task_state = state, None
    world.touch(server)
    world.begin_action(server, "resetState", request_id, user_id)
    world.note(f"{server.name} is reset to {state}")


def _carry_out(world: World, host: Host, server: Server, action: str) -> None:
    if server.id not in world.servers:
        return
    if action == "stop":
        _stop(world, host, server)
    elif action in ("start", "reboot"):
        delay_s = world.behaviour.start_s + (world.behaviour.stop_s if action == "reboot" else 0)
        world.after_on(
            host, delay_s, lambda: world.spawn(host, server), _booked(world, server, "active", RUNNING)
        )
    elif action == "pause":
        world.after_on(host, _PAUSE_S, report=_booked(world, server, "paused", RUNNING))
    elif action == "unpause":
        world.after_on(host, _PAUSE_S, report=_booked(world, server, "active", RUNNING))


def _stop(world: World, host: Host, server: Server) -> None:
    if server.host != host.name:
        _stop_too_late(world, host, server)
        return
    runs = server.id in host.guests
    if runs:
        world.healthy_stops.append((world.now, server.id))
    if not runs and not world.behaviour.libvirt_like and server.vm_state != "stopped":
        world.after_on(host, _FAKE_STOP_S, report=_booked(world, server, "active", server.power_state))
        return
    world.after_on(
        host,
        world.behaviour.stop_s,
        lambda: host.guests.discard(server.id),
        _booked(world, server, "stopped", SHUTDOWN),
    )


def _stop_too_late(world: World, host: Host, server: Server) -> None:
    """An os-stop waited in the queue of a dead host, and the instance runs elsewhere since."""
    action = next(a for a in reversed(server.actions) if a.action == "stop")
    action.updated_at = world.now
    if not world.behaviour.libvirt_like or not server.host:
        action.message = "Error"
        return
    world.note(
        f"a stop of {server.name} queued for {host.name} is carried out; it is on {server.host} by now"
    )
    _booked(world, server, "stopped", SHUTDOWN)()
    new_host = world.host(server.host)
    world.after_on(new_host, world.behaviour.power_sync_s, report=lambda: sync_one(world, new_host, server))


def _booked(world: World, server: Server, vm_state: str, power_state: int) -> Callable[[], None]:
    def report() -> None:
        server.vm_state, server.task_state, server.power_state = vm_state, None, power_state
        server.fault = None
        world.touch(server)
        world.note(f"{server.name} reads {server.status} on {server.host}")

    return report


def resume(world: World, host: Host) -> None:
    """What a nova-compute does with its instances when it starts: unfinished stops and starts, and a look."""
    for server in world.servers.values():
        if server.host == host.name and server.evacuation is None:
            if server.task_state == "powering-off":
                _stop(world, host, server)
            elif server.task_state == "powering-on":
                _carry_out(world, host, server, "start")
    world.after_on(host, world.behaviour.power_sync_s, report=lambda: _sync_all(world, host))


def _sync_all(world: World, host: Host) -> None:
    for server in list(world.servers.values()):
        sync_one(world, host, server)


def sync_one(world: World, host: Host, server: Server) -> None:
    """Nova compares its record of an idle instance with what runs, and makes them agree by stopping."""
    if server.host != host.name or server.task_state or server.evacuation or server.id not in world.servers:
        return
    runs = server.id in host.guests
    if server.vm_state == "active" and not runs:
        world.begin_action(server, "stop", world.new_request_id(), None)
        _booked(world, server, "stopped", SHUTDOWN)()
    elif server.vm_state == "stopped" and runs:
        host.guests.discard(server.id)
        world.violate(
            f"the healthy guest of {server.name} {server.id} on {host.name} is stopped by a stop "
            "that was sent to a dead host"
        )
