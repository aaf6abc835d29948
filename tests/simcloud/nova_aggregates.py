"""Nova's API: host aggregates."""

from __future__ import annotations

from typing import Any

from . import nova_views
from .model import World
from .nova_call import Call, only_admin
from .records import Aggregate, Refused
from .web import Reply


def list_aggregates(world: World, call: Call) -> Reply:
    only_admin(call, "os_compute_api:os-aggregates:index")
    views = [nova_views.aggregate(one, call.version) for one in world.aggregates.values()]
    return Reply(200, {"aggregates": views})


def create_aggregate(world: World, call: Call) -> Reply:
    only_admin(call, "os_compute_api:os-aggregates:create")
    wanted = _arguments(call, "aggregate", "name")
    if any(one.name == wanted["name"] for one in world.aggregates.values()):
        raise Refused(409, f"Aggregate {wanted['name']} already exists.")
    made = world.add_aggregate(wanted["name"], zone=wanted.get("availability_zone"))
    view = nova_views.aggregate(made, call.version)
    return Reply(200, {"aggregate": {name: view[name] for name in view if name not in ("hosts", "metadata")}})


def show_aggregate(world: World, call: Call, aggregate_id: str) -> Reply:
    only_admin(call, "os_compute_api:os-aggregates:show")
    return _shown(_aggregate(world, aggregate_id), call)


def delete_aggregate(world: World, call: Call, aggregate_id: str) -> Reply:
    only_admin(call, "os_compute_api:os-aggregates:delete")
    aggregate = _aggregate(world, aggregate_id)
    if aggregate.hosts:
        raise Refused(
            400,
            f"Cannot remove host from aggregate {aggregate.id}. Reason: Host aggregate is not empty.",
        )
    del world.aggregates[aggregate.id]
    return Reply(200, None)


def act_on_aggregate(world: World, call: Call, aggregate_id: str) -> Reply:
    """POST with add_host or remove_host."""
    body = call.body()
    verb = next(iter(body), "")
    if verb not in ("add_host", "remove_host"):
        raise Refused(400, f"There is no such action: {verb}")
    only_admin(call, f"os_compute_api:os-aggregates:{verb}")
    host = _arguments(call, verb, "host")["host"]
    aggregate = _aggregate(world, aggregate_id)
    if verb == "add_host":
        _add(world, aggregate, host)
    else:
        _remove(world, aggregate, host)
    return _shown(aggregate, call)


def _add(world: World, aggregate: Aggregate, host: str) -> None:
    if host not in world.hosts:
        raise Refused(404, f"Compute host {host} could not be found.")
    zones = {one.zone for one in world.aggregates.values() if one.zone and host in one.hosts}
    if aggregate.zone and zones - {aggregate.zone}:
        raise Refused(
            409,
            f"Cannot perform action 'add_host_to_aggregate' on aggregate {aggregate.id}. Reason: One or more hosts "
            f"already in availability zone(s) {sorted(zones)}.",
        )
    if host in aggregate.hosts:
        raise Refused(409, f"Aggregate {aggregate.id} already has host {host}.")
    aggregate.hosts.append(host)
    world.note(f"{host} joins aggregate {aggregate.name}")


def _remove(world: World, aggregate: Aggregate, host: str) -> None:
    if host not in world.hosts:
        raise Refused(404, f"Compute host {host} could not be found.")
    if host not in aggregate.hosts:
        raise Refused(404, f"Aggregate {aggregate.id} has no host {host}.")
    aggregate.hosts.remove(host)
    world.note(f"{host} leaves aggregate {aggregate.name}")


def _aggregate(world: World, aggregate_id: str) -> Aggregate:
    found = world.aggregates.get(int(aggregate_id)) if aggregate_id.isdigit() else None
    if found is None:
        raise Refused(404, f"Aggregate {aggregate_id} could not be found.")
    return found


def _shown(aggregate: Aggregate, call: Call) -> Reply:
    return Reply(200, {"aggregate": nova_views.aggregate(aggregate, call.version)})


def _arguments(call: Call, key: str, required: str) -> dict[str, Any]:
    given = call.body().get(key)
    if not isinstance(given, dict) or not isinstance(given.get(required), str):
        raise Refused(400, f"'{required}' is a required property")
    return given
