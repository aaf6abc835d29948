"""Nova's API: servers and what is done to them, migrations, instance actions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import evacuation, nova_views, power
from .model import World
from .nova_call import Call, boolean, invalid, only_admin, page
from .nova_views import Version
from .records import Migration, Refused, Server
from .web import Reply

_POWER_ACTIONS = {
    "os-stop": "stop",
    "os-start": "start",
    "pause": "pause",
    "unpause": "unpause",
    "reboot": "reboot",
}


# Servers


def list_servers(world: World, call: Call, detail: str | None = None) -> Reply:
    wanted = _filters(call)
    servers = [server for server in world.servers.values() if wanted(server)]
    servers.sort(key=lambda server: (-int(server.created_at), server.id))
    path = "servers/detail" if detail else "servers"
    part, links = page(call, servers, lambda server: server.id, "servers", path)
    return Reply(
        200, {"servers": [_view(world, call, server, detail is not None) for server in part], **links}
    )


def _view(world: World, call: Call, server: Server, in_full: bool) -> dict[str, Any]:
    if in_full:
        return nova_views.server(world, server, call.version, call.base, is_admin=call.user.is_admin)
    return nova_views.brief_server(server, call.base)


def _filters(call: Call) -> Callable[[Server], bool]:
    all_tenants = (call.request.value("all_tenants") or "0").lower() in ("1", "true", "on", "yes", "")
    if all_tenants:
        only_admin(call, "os_compute_api:servers:detail:get_all_tenants")
    hosts = {value for name, value in call.request.query if name == "host"} if call.user.is_admin else set()
    status = call.request.value("status")

    def wanted(server: Server) -> bool:
        return (
            (all_tenants or server.project_id == call.user.project_id)
            and all(server.host == host for host in hosts)
            and status in (None, server.status)
        )

    return wanted


def _find(world: World, call: Call, server_id: str, missing: str = "could not be found") -> Server:
    server = world.servers.get(server_id)
    if server is None:
        raise Refused(404, f"Instance {server_id} {missing}.")
    if not call.user.is_admin and server.project_id != call.user.project_id:
        raise Refused(404, f"Instance {server_id} could not be found.")
    return server


def show_server(world: World, call: Call, server_id: str) -> Reply:
    return Reply(200, {"server": _view(world, call, _find(world, call, server_id), True)})


def delete_server(world: World, call: Call, server_id: str) -> Reply:
    world.delete(_find(world, call, server_id))
    return Reply(204)


def act_on_server(world: World, call: Call, server_id: str) -> Reply:
    body = call.body()
    if len(body) != 1:
        raise Refused(400, "Malformed request body")
    ((action, arguments),) = body.items()
    if action == "evacuate":
        return _evacuate(world, call, server_id, arguments)
    if action == "os-resetState":
        return _reset_state(world, call, server_id, arguments)
    if action in _POWER_ACTIONS:
        server = _find(world, call, server_id, "has no mapping to a cell")
        power.request(
            world, server, _POWER_ACTIONS[action], call.request_id, call.user.id, call.user.is_admin
        )
        return Reply(202)
    if action in ("lock", "unlock"):
        server = _find(world, call, server_id, "has no mapping to a cell")
        server.locked = action == "lock"
        world.begin_action(server, action, call.request_id, call.user.id)
        return Reply(202)
    raise Refused(400, f"There is no such action: {action}")


def _reset_state(world: World, call: Call, server_id: str, arguments: Any) -> Reply:
    if not isinstance(arguments, dict) or "state" not in arguments:
        raise invalid("os-resetState", arguments, "'state' is a required property")
    state = arguments["state"]
    if state not in ("active", "error"):
        raise invalid("state", state, f"'{state}' is not one of ['active', 'error']")
    server = _find(world, call, server_id)
    only_admin(call, "os_compute_api:os-admin-actions:reset_state")
    power.reset_state(world, server, state, call.request_id, call.user.id)
    return Reply(202)


def _evacuate(world: World, call: Call, server_id: str, arguments: Any) -> Reply:
    _check_evacuate_body(call.version, arguments)
    server = _find(world, call, server_id)
    only_admin(call, "os_compute_api:os-evacuate")
    target = arguments.get("host")
    forced = target is not None and call.version < (2, 29)
    if arguments.get("force") is not None and boolean(arguments["force"], "force"):
        if target is None:
            raise Refused(400, "Can't force to a non-provided destination")
        forced = True
    shared = boolean(arguments["onSharedStorage"], "onSharedStorage") if call.version < (2, 14) else None
    if shared and arguments.get("adminPass"):
        raise Refused(400, "admin password can't be changed on existing disk")
    evacuation.request(
        world,
        server,
        target,
        forced=forced,
        on_shared_storage=shared,
        ends_stopped=call.version >= (2, 95),
        request_id=call.request_id,
        user_id=call.user.id,
    )
    if shared is None:
        return Reply(200)
    return Reply(200, {"adminPass": None if shared else arguments.get("adminPass", "vBNHW6sUEdFF")})


def _check_evacuate_body(version: Version, arguments: Any) -> None:
    if not isinstance(arguments, dict):
        raise invalid("evacuate", arguments, f"{arguments} is not of type 'object'")
    allowed = {"host", "adminPass"}
    if version < (2, 14):
        allowed.add("onSharedStorage")
        if "onSharedStorage" not in arguments:
            raise invalid("evacuate", arguments, "'onSharedStorage' is a required property")
        boolean(arguments["onSharedStorage"], "onSharedStorage")
    if (2, 29) <= version < (2, 68):
        allowed.add("force")
    for name in arguments:
        if name not in allowed:
            raise invalid(
                "evacuate", arguments, f"Additional properties are not allowed ('{name}' was unexpected)"
            )
    if "host" in arguments:
        host = arguments["host"]
        if not isinstance(host, str):
            raise invalid("host", host, f"{host} is not of type 'string'")
        if not host:
            raise invalid("host", host, "'' is too short")


# Migrations, actions


def list_migrations(world: World, call: Call) -> Reply:
    only_admin(call, "os_compute_api:os-migrations:index")
    values = {
        name: call.request.value(name)
        for name in ("migration_type", "source_compute", "instance_uuid", "status", "host")
    }

    def wanted(record: Migration) -> bool:
        return (
            values["migration_type"] in (None, record.migration_type)
            and values["source_compute"] in (None, record.source)
            and values["instance_uuid"] in (None, record.instance_uuid)
            and values["status"] in (None, record.status)
            and values["host"] in (None, record.source, record.dest)
        )

    part = [record for record in world.migrations if wanted(record)]
    links: dict[str, Any] = {}
    if call.version >= (2, 59):
        part, links = page(call, part[::-1], lambda record: record.uuid, "migrations", "os-migrations")
    return Reply(
        200, {"migrations": [nova_views.migration(record, call.version) for record in part], **links}
    )


def list_actions(world: World, call: Call, server_id: str) -> Reply:
    server = _find(world, call, server_id)
    return Reply(
        200,
        {
            "instanceActions": [
                nova_views.action(record, server, call.version) for record in reversed(server.actions)
            ]
        },
    )


def show_action(world: World, call: Call, server_id: str, request_id: str) -> Reply:
    server = _find(world, call, server_id)
    record = next((record for record in server.actions if record.request_id == request_id), None)
    if record is None:
        raise Refused(404, f"Action for request_id {request_id} on instance {server_id} not found.")
    return Reply(200, {"instanceAction": nova_views.action(record, server, call.version) | {"events": []}})
