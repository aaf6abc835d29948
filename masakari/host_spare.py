"""Where the instances of a failed host go: a reserved host of its segment, or Nova's scheduler (safety rule 5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from masakari import choice, evacuation, hosts
from masakari.carry import keep, kept
from masakari.common.errors import LeaseLost, MaybeSent
from masakari.database import Tx
from masakari.host_look import cancelled
from masakari.host_view import View
from masakari.nova import Service
from masakari.recovery import Effect, Outcome, Visit, advance, end, hold, wait

LOOK_AGAIN_S = 10.0
SPARE_FRESH_S = 75.0
"""A spare's nova-compute reports every 10 s; Nova itself calls it down after 60."""


def reserve(visit: Visit) -> Outcome:
    """Choose where the instances go: a spare of the segment, or Nova's scheduler, by the recovery method."""
    recovery, world = visit.recovery, visit.world
    if recovery.cancel_by:
        return cancelled(visit)
    default = world.settings.recover_starter.recovery_method
    method = recovery.data.get("method") or world.db.transaction(
        lambda tx: hosts.recovery_method(tx, recovery.cluster_port, default)
    )
    if method == "auto" or (method == "auto_priority" and not recovery.data.get("spare_wanted")):
        reason = f"recovery method {method}: Nova's scheduler chooses"
        return advance("list", reason, data={"method": method}, target="")
    refused: list[str] = []
    services = _services(visit)
    if recovery.target:
        # Its own from before an operator's retry, or one that it has just lost.
        objection = _objection(visit, recovery.target, services.get(recovery.target))
        if not objection:
            return advance("enable_target", f"reserved host {recovery.target} again", data={"method": method})
        refused.append(f"{recovery.target}: {objection}")
    for spare in world.db.transaction(lambda tx: hosts.free_spares(tx, recovery.cluster_port)):
        objection = _objection(visit, spare["hostname"], services.get(spare["hostname"]))
        if objection:
            refused.append(f"{spare['hostname']}: {objection}")
            continue
        return _take(visit, spare["id"], services[spare["hostname"]], method)
    if method == "rh_priority":
        reason = _no_spare(recovery.cluster_port, refused) + "; Nova's scheduler chooses"
        return advance("list", reason, data={"method": method}, target="")
    if recovery.data.get("first_sent_at"):
        return hold("no_spare", _no_spare(recovery.cluster_port, refused) + "; add one to go on", seconds=LOOK_AGAIN_S)
    chosen = choice.of_host(world.settings.host_failure)
    servers = world.nova.servers(recovery.hostname)
    if not any(evacuation.consider(server, recovery.hostname, chosen).evacuate for server in servers):
        return advance("list", "nothing to evacuate: no reserved host is needed", data={"method": method}, target="")
    return end(
        "failed",
        _no_spare(recovery.cluster_port, refused)
        + f". The host is isolated; add a spare, then: recovery_manage.py retry {recovery.id}",
    )


def _services(visit: Visit) -> Mapping[str, Service]:
    view = kept(visit, View)
    if view is not None and view.services:
        keep(visit, view.read_at, view)
        return view.services
    return {service.host: service for service in visit.world.nova.services()}


def _no_spare(cluster_port: str, refused: list[str]) -> str:
    told = f" ({'; '.join(refused)})" if refused else ""
    return f"no reserved host left in {cluster_port or 'this segment'}{told}"


def _objection(visit: Visit, hostname: str, service: Service | None) -> str:
    """Rule 5: why this spare can't be used now; empty when it can."""
    recovery, world = visit.recovery, visit.world
    if hostname == recovery.hostname:
        return "it is the failed host itself"
    if service is None:
        return "Nova doesn't know it"
    if not service.up or service.forced_down:
        return "its nova-compute is down"
    age = visit.now - (service.updated_at or 0.0)
    if age > SPARE_FRESH_S + world.settings.safety.clock_tolerance_s:
        return f"its nova-compute reported {age:.0f} s ago"
    safety = world.settings.safety
    return world.db.transaction(
        lambda tx: hosts.spare_objection(
            tx, hostname, visit.now, safety.failure_window_s, safety.clock_tolerance_s, recovery.id
        )
    )


def _take(visit: Visit, spare_id: int, service: Service, method: str) -> Outcome:
    """Allocate the spare in the transaction that records the choice; enable it next, if it was kept disabled."""
    recovery, now = visit.recovery, visit.now
    safety = visit.world.settings.safety

    def take(tx: Tx) -> None:
        hosts.hold(tx, service.host)
        taken = not hosts.spare_objection(
            tx, service.host, now, safety.failure_window_s, safety.clock_tolerance_s, recovery.id
        ) and hosts.take_spare(tx, spare_id, recovery.id, now)
        if not taken:
            raise LeaseLost(f"spare {service.host} went elsewhere")

    visit.note("decision", f"reserved host {service.host}", "oldest usable spare of the segment")
    return advance(
        _once_enabled(visit) if service.enabled else "enable_target",
        f"reserved host {service.host}",
        effects=[take],
        target=service.host,
        data={
            "method": method,
            "spare_enabled": service.enabled,
            "spare_reason": service.disabled_reason,
            "target_seen_at": now,
        },
    )


def enable_target(visit: Visit) -> Outcome:
    """A spare that was kept disabled is enabled for the purpose."""
    recovery, nova = visit.recovery, visit.world.nova
    if recovery.cancel_by:
        return cancelled(visit)
    assert recovery.target is not None
    service = nova.service(recovery.target)
    if service is None or not service.up:
        return _drop_target(visit, f"reserved host {recovery.target} went down before it was used")
    target = recovery.target
    wishes = visit.world.db.read(lambda tx: hosts.disables(tx, target))
    if wishes:
        return _drop_target(visit, f"reserved host {target} is disabled for recovery {wishes[0].recovery_id}")
    if not service.enabled:
        if recovery.data.get("spare_enabled"):
            return hold(
                "changed",
                f"changed by hand: somebody disabled the reserved host {recovery.target}; enable it to go on",
                seconds=LOOK_AGAIN_S,
            )
        visit.act("enable the reserved host", lambda: nova.enable(service), reason=recovery.target)
        return wait(0.1, f"waiting for Nova to show {recovery.target} enabled")
    return advance(
        _once_enabled(visit), f"reserved host {recovery.target} is up and enabled", data={"target_seen_at": visit.now}
    )


def _once_enabled(visit: Visit) -> str:
    """The step that follows once the reserved host is enabled."""
    wanted = visit.world.settings.host_failure.add_reserved_host_to_aggregate
    return "aggregates" if wanted else "list"


def _drop_target(visit: Visit, reason: str) -> Outcome:
    """The spare failed us: choose another. It does not come back to the list by itself."""
    visit.note("decision", "another reserved host", reason)
    return replace(advance("reserve", reason), target="")


def served(visit: Visit, spare: str | None = None) -> bool:
    """Whether an instance went to the spare of this recovery, or to one it had before, or may have."""
    target = spare or visit.recovery.target
    return any(
        row.recover_to == target or (row.action_target == target and (row.status == "failed" or row.action is not None))
        for row in visit.instances()
    )


def spare_back(visit: Visit) -> Outcome | list[Effect]:
    """A spare that served nobody is disabled again if it was, and goes back to the list."""
    recovery, world, target = visit.recovery, visit.world, visit.recovery.target
    if not target:
        return []
    if recovery.data.get("spare_enabled") is False:
        service = world.nova.service(target)
        if service is not None and service.enabled:
            reason = recovery.data.get("spare_reason") or "reserved host"
            try:
                visit.act(
                    "disable the unused reserved host again", lambda: world.nova.disable(service, reason), reason=target
                )
            except MaybeSent:
                return wait(1.0, f"waiting for Nova to show {target} disabled again")
    now = visit.now
    return [lambda tx: hosts.give_back_spare(tx, target, recovery.id, now)]
