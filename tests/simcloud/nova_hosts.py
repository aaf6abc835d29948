"""Nova's API: services and hypervisors."""

from __future__ import annotations

import uuid
from typing import Any

from . import nova_views
from .model import World
from .nova_call import Call, boolean, error, invalid, only_admin
from .records import Host, Refused
from .web import Reply

# Services


def list_services(world: World, call: Call) -> Reply:
    only_admin(call, "os_compute_api:os-services:list")
    services = [
        nova_views.control_service(world, "nova-scheduler", 2, call.version),
        nova_views.control_service(world, "nova-conductor", 3, call.version),
    ]
    services += [nova_views.service(world, host, call.version) for host in world.hosts.values()]
    for field in ("host", "binary"):
        wanted = call.request.value(field)
        services = [service for service in services if wanted in (None, service[field])]
    return Reply(200, {"services": services})


def update_service(world: World, call: Call, which: str) -> Reply:
    """PUT /os-services/{enable, disable, disable-log-reason, force-down or a UUID}."""
    only_admin(call, "os_compute_api:os-services:update")
    body = call.body()
    if call.version >= (2, 53):
        return _update_by_uuid(world, call, which, body)
    return _update_by_name(world, call, which, body)


def _update_by_name(world: World, call: Call, which: str, body: dict[str, Any]) -> Reply:
    extra = {"disable-log-reason": "disabled_reason", "force-down": "forced_down"}.get(which)
    if which == "force-down" and call.version < (2, 11):
        raise Refused(400, "Additional properties are not allowed ('forced_down' was unexpected)")
    for field in ("host", "binary", *([extra] if extra else [])):
        if field not in body:
            raise Refused(400, f"'{field}' is a required property")
    if which not in ("enable", "disable", "disable-log-reason", "force-down"):
        raise Refused(404, "Unknown action")
    host = world.hosts.get(body["host"])
    if host is None or body["binary"] != "nova-compute":
        raise Refused(404, f"Host '{body['host']}' is not mapped to any cell")
    view = {"host": host.name, "binary": "nova-compute"}
    if which == "force-down":
        forced_down = boolean(body["forced_down"], "forced_down")
        world.update_service(host, forced_down=forced_down)
        return Reply(200, {"service": view | {"forced_down": forced_down}})
    reason = body.get("disabled_reason")
    delay_s = world.update_service(host, enabled=which == "enable", reason=reason)
    view["status"] = "enabled" if which == "enable" else "disabled"
    if reason is not None:
        view["disabled_reason"] = reason
    return Reply(200, {"service": view}, delay_s=delay_s)


def _update_by_uuid(world: World, call: Call, which: str, body: dict[str, Any]) -> Reply:
    unknown = sorted(set(body) - {"status", "disabled_reason", "forced_down"})
    if unknown:
        names = ", ".join(repr(name) for name in unknown)
        raise Refused(
            400,
            f"Additional properties are not allowed ({names} {'were' if unknown[1:] else 'was'} unexpected)",
        )
    try:
        uuid.UUID(which)
    except ValueError:
        raise Refused(400, f"Invalid uuid {which}") from None
    forced_down = boolean(body["forced_down"], "forced_down") if "forced_down" in body else None
    status, reason = body.get("status"), body.get("disabled_reason")
    if status not in (None, "enabled", "disabled"):
        raise invalid("status", status, f"'{status}' is not one of ['enabled', 'disabled']")
    if reason is not None and status != "disabled":
        raise Refused(400, "Specifying 'disabled_reason' with status 'enabled' is invalid.")
    if status is None and forced_down is None:
        raise Refused(400, "No updates were requested. Fields 'status' or 'forced_down' should be specified.")
    host = next((host for host in world.hosts.values() if host.service_uuid == which), None)
    if host is None:
        raise Refused(404, f"Service {which} could not be found.")
    enabled = None if status is None else status == "enabled"
    delay_s = world.update_service(host, enabled=enabled, reason=reason, forced_down=forced_down)
    return Reply(200, {"service": nova_views.service(world, host, call.version, exact=True)}, delay_s=delay_s)


# Hypervisors


def list_hypervisors(world: World, call: Call, detail: str | None = None) -> Reply:
    only_admin(call, "os_compute_api:os-hypervisors:list")
    pattern = call.request.value("hypervisor_hostname_pattern") if call.version >= (2, 53) else None
    with_servers = call.version >= (2, 53) and (call.request.value("with_servers") or "").lower() == "true"
    hosts = _matching(world, pattern or "")
    view = nova_views.hypervisor_detail if detail else nova_views.hypervisor
    hypervisors = [view(world, host, call.version) for host in hosts]
    if with_servers:
        for host, shown in zip(hosts, hypervisors, strict=True):
            _add_servers(world, host, shown, even_if_none=call.version >= (2, 75))
    return Reply(200, {"hypervisors": hypervisors})


def search_hypervisors(world: World, call: Call, pattern: str, what: str) -> Reply:
    """GET /os-hypervisors/{pattern}/search or /servers, up to 2.52."""
    only_admin(call, f"os_compute_api:os-hypervisors:{what}")
    if call.version >= (2, 53):
        raise Refused(404, "The resource could not be found.")
    hosts = _matching(world, pattern)
    hypervisors = [nova_views.hypervisor(world, host, call.version) for host in hosts]
    if what == "servers":
        for host, shown in zip(hosts, hypervisors, strict=True):
            _add_servers(world, host, shown, even_if_none=False)
    return Reply(200, {"hypervisors": hypervisors})


def _matching(world: World, pattern: str) -> list[Host]:
    hosts = [host for host in world.hosts.values() if pattern in host.name]
    if not hosts:
        raise Refused(404, f"No hypervisor matching '{pattern}' could be found.")
    return hosts


def _add_servers(world: World, host: Host, view: dict[str, Any], *, even_if_none: bool) -> None:
    servers = [
        {"name": f"instance-{server.number:08x}", "uuid": server.id}
        for server in world.servers.values()
        if server.host == host.name
    ]
    if servers or even_if_none:
        view["servers"] = servers


def uptime(world: World, call: Call, hypervisor_id: str) -> Reply:
    """Asks the nova-compute itself, so a dead one that reads up costs the whole RPC timeout."""
    only_admin(call, "os_compute_api:os-hypervisors:uptime")
    if call.version >= (2, 88):
        raise Refused(404, "The resource could not be found.")
    host = next(
        (
            host
            for host in world.hosts.values()
            if hypervisor_id == (host.hypervisor_uuid if call.version >= (2, 53) else str(host.hypervisor_id))
        ),
        None,
    )
    if host is None:
        raise Refused(404, f"Hypervisor with ID '{hypervisor_id}' could not be found.")
    if not world.reads_up(host):
        raise Refused(400, f"Compute service of {host.name} is unavailable at this time.")
    if not host.answers:
        reply = error(
            500,
            "Unexpected API Error. Please report this at http://bugs.launchpad.net/nova/ and attach "
            "the Nova API log if possible.\n<class 'oslo_messaging.exceptions.MessagingTimeout'>",
        )
        reply.delay_s = world.behaviour.rpc_timeout_s
        return reply
    if not world.behaviour.libvirt_like:
        raise Refused(501, "Virt driver does not implement uptime function.")
    view = nova_views.hypervisor(world, host, call.version)
    return Reply(
        200, {"hypervisor": view | {"uptime": " 10:23:45 up 3 days,  1:02,  0 users,  load average: 0.00"}}
    )
