"""A host failed: from its report to a host that Nova knows is down, with a spare chosen. Then evacuation.py takes over.

admit -> prove -> isolate -> reserve -> list -> evacuate -> finish, with undo for what proves false and in_place for a host
that has booted again. Safety rules 1, 2, 5 and 6 are kept here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from masakari import hosts
from masakari.common.errors import LeaseLost, MaybeSent, Rejected, Unavailable
from masakari.database import Tx
from masakari.host_look import Look, look, rebooted, requested, write_service
from masakari.nova import Service
from masakari.recovery import Effect, Outcome, Visit, advance, end, hold, log, wait

LOOK_AGAIN_S = 10.0
SPARE_FRESH_S = 75.0
"""A spare's nova-compute reports every 10 s; Nova itself calls it down after 60."""

UP_WAIT_S = 120.0


def admit(visit: Visit) -> Outcome:
    """Held at admission: many failures at once, or an unsigned callback. Nothing is disabled meanwhile (rule 6)."""
    recovery = visit.recovery
    if recovery.cancel_by:
        return cancelled(visit)
    if recovery.released:
        return advance("prove", "released by an operator")
    seen = look(visit)
    if recovery.hold == "many" and seen.verdict.valid and not visit.world.settings.safety.hold_proven:
        return advance("prove", f"proven: {seen.verdict.reason}")
    undone = undo_disable(visit, seen)
    if isinstance(undone, Outcome):
        return undone
    return hold(recovery.hold or "many", recovery.reason, seconds=60.0, effects=undone)


def prove(visit: Visit) -> Outcome:
    """Is there proof that the host is off? Without it: nova-compute disabled, held, looked at again."""
    recovery = visit.recovery
    if recovery.cancel_by:
        return cancelled(visit)
    seen = look(visit)
    if seen.service is None:
        return unknown_to_nova(visit)
    remembered = {"nova_down_since": seen.down_since}
    if rebooted(recovery, seen.known):
        return advance("in_place", "the host has booted again: its guests of the old boot are gone", data=remembered)
    if seen.verdict.valid:
        if seen.service.up and _answers(visit):
            return _answered(visit, seen)
        if visit.world.observing:
            return advance("list", f"observe mode: would force {recovery.hostname} down ({seen.verdict.reason})")
        return advance("isolate", seen.verdict.reason, data=remembered)
    if _false_report(visit, seen):
        return advance(
            "undo",
            "the host reports itself up, in the same boot",
            data={
                **remembered,
                "end": ["ignored", f"{recovery.hostname} is up, in the same boot; nothing was requested"],
            },
        )
    return _held(visit, seen, seen.verdict.hold, seen.verdict.reason, remembered)


def _answers(visit: Visit) -> bool:
    """Ask the host through Nova; an answer in time is a sign of life, whatever the BMC said."""
    return visit.world.nova.answers_uptime(visit.recovery.hostname, visit.world.settings.safety.nova_probe_s)


def _answered(visit: Visit, seen: Look) -> Outcome:
    now, recovery = visit.now, visit.recovery
    reason = (
        f"host answers through Nova, although: {seen.verdict.reason}. Wrong BMC? Nothing is done until new proof comes"
    )
    return _held(
        visit,
        seen,
        "alive",
        reason,
        {"nova_down_since": seen.down_since},
        [lambda tx: hosts.add_evidence(tx, recovery, "probe", now, now)],
    )


def _false_report(visit: Visit, seen: Look) -> bool:
    """The host said that it is up after it was reported down, in the boot it was in."""
    failed_boot = visit.recovery.data.get("boot_id")
    reported = max(visit.recovery.created_at, seen.known.down_reported_at)
    return bool(failed_boot) and failed_boot == seen.known.boot_id and seen.known.up_at > reported


def _held(
    visit: Visit, seen: Look, word: str, reason: str, data: dict[str, Any], extra: list[Effect] | None = None
) -> Outcome:
    """Hold in `prove`, with nova-compute disabled so that nothing new is placed there."""
    assert seen.service is not None
    effects: list[Effect] = list(extra or [])
    recovery, now = visit.recovery, visit.now
    mine = next((d for d in seen.disables if d.recovery_id == recovery.id), None)
    if seen.service.enabled and any(d.seen for d in seen.disables):
        return hold(
            "changed",
            f"changed by hand: somebody enabled nova-compute of {recovery.hostname}; it is not disabled again. "
            f"Behind it: {reason}",
            seconds=LOOK_AGAIN_S,
            data=data,
            effects=effects,
        )
    if visit.world.observing:
        return hold(
            word, f"{reason} (observe mode: nothing is disabled)", seconds=LOOK_AGAIN_S, data=data, effects=effects
        )
    if seen.service.enabled:
        _disable_beside(visit, seen)
        return hold(word, reason, seconds=1.0, data=data, effects=effects)
    if mine is None or not mine.seen:
        effects += [lambda tx: _adopt(tx, visit, seen, now)]
    return hold(word, reason, seconds=LOOK_AGAIN_S, data=data, effects=effects)


def _adopt(tx: Tx, visit: Visit, seen: Look, now: float) -> None:
    """Nova shows it disabled: by us, by another recovery, or by somebody before."""
    assert seen.service is not None
    hosts.want_disable(tx, visit.recovery, any(d.was_enabled for d in seen.disables), disable_reason(visit), now)
    tx.execute("disable_seen", hostname=visit.recovery.hostname, now=now)
    if seen.known.own_write_open_at:
        hosts.add_evidence(tx, visit.recovery, "own_done", now, now)
        if seen.service.updated_at is not None:
            hosts.add_evidence(tx, visit.recovery, "own", seen.service.updated_at, now)


def _disable_beside(visit: Visit, seen: Look) -> None:
    """Ask for the disable beside the worker: towards a dead host that still reads up Nova answers only after a minute."""
    service, now, recovery, world = seen.service, visit.now, visit.recovery, visit.world
    assert service is not None
    if now - seen.known.own_write_open_at < world.settings.safety.action_settle_s:
        return
    reason = disable_reason(visit)

    def begin(tx: Tx) -> None:
        hosts.want_disable(tx, recovery, True, reason, now)
        if service.updated_at is not None and service.updated_at > seen.known.own_write_at:
            hosts.add_evidence(tx, recovery, "nova", service.updated_at, now)
        hosts.add_evidence(tx, recovery, "own_open", now, now)

    visit.intend([("disable nova-compute", None, reason)], [begin])

    def ask() -> None:
        try:
            world.nova.disable(service, reason)
        except (Unavailable, Rejected) as error:
            log.info(
                "recovery=%d host=%s disable of nova-compute: %s; looked at again",
                recovery.id,
                recovery.hostname,
                error,
            )

    world.pool.later(ask)


def disable_reason(visit: Visit) -> str:
    """What an operator reads in `openstack compute service list`."""
    return f"masakari recovery {visit.recovery.id}: {visit.recovery.kind} failure"


def unknown_to_nova(visit: Visit) -> Outcome:
    """Rule 2: a host that Nova doesn't know is a failure, never a success with no instances."""
    host = visit.recovery.hostname
    near = [s.host for s in visit.world.nova.services() if s.host.split(".")[0].lower() == host.split(".")[0].lower()]
    hint = f"; Nova knows {', '.join(near)}: the monitors must report that name" if near else ""
    return end("failed", f"Nova knows no nova-compute on {host}{hint}")


def isolate(visit: Visit) -> Outcome:
    """Tell Nova what is proven: the host is down, and nothing new goes there."""
    recovery, world = visit.recovery, visit.world
    if recovery.cancel_by:
        return cancelled(visit)
    seen = look(visit)
    if seen.service is None:
        return unknown_to_nova(visit)
    if not seen.verdict.valid:
        return advance("prove", seen.verdict.reason)
    if recovery.data.get("isolated_at"):
        return _isolated(visit, seen.service, seen)
    assert seen.verdict.proof is not None, "rule 1: never forced down without proof"
    if seen.service.enabled or (world.nova.microversion >= (2, 11) and not seen.service.forced_down):
        reason = disable_reason(visit)
        was_enabled = any(d.was_enabled for d in seen.disables)
        service = write_service(
            visit,
            "force down and disable nova-compute",
            seen.service,
            lambda: world.nova.isolate(seen.service or service, reason),
            reason=seen.verdict.reason,
            want=reason,
            others_want=was_enabled,
        )
        return _isolated(visit, service, seen)
    return _isolated(visit, seen.service, seen)


def _isolated(visit: Visit, service: Service, seen: Look) -> Outcome:
    """Nova shows the host down and disabled; where it can't be forced (2.1), wait until Nova sees it itself."""
    recovery, now = visit.recovery, visit.now
    data = {"nova_down_since": seen.down_since}
    effects: list[Effect] = [lambda tx: tx.execute("disable_seen", hostname=recovery.hostname, now=now)]
    undone = changed_by_hand(visit, service)
    if undone:
        return undone
    if service.enabled or (service.up and visit.world.nova.microversion >= (2, 11)):
        return wait(0.5, "waiting for Nova to show the host down and disabled", effects=[])
    if service.up:
        return wait(
            2.5, "waiting for Nova to see the host down by itself: it is too old to be told", data=data, effects=effects
        )
    data["isolated_at"] = recovery.data.get("isolated_at") or now
    return advance("reserve", "Nova shows the host down and disabled", data=data, effects=effects)


def changed_by_hand(visit: Visit, service: Service) -> Outcome | None:
    """Rule 2: what somebody changed back by hand is never set again."""
    if visit.recovery.data.get("isolated_at") and (service.enabled or service.up):
        what = "enabled nova-compute" if service.enabled else "took back the forced-down"
        return hold(
            "changed",
            f"changed by hand: somebody {what} of {visit.recovery.hostname} during the recovery; nothing more is "
            "requested. Disable and force it down by hand to go on, or cancel",
            seconds=LOOK_AGAIN_S,
        )
    return None


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
        return advance("list", f"recovery method {method}: Nova's scheduler chooses", data={"method": method})
    refused: list[str] = []
    services = {service.host: service for service in world.nova.services()}
    for spare in world.db.transaction(lambda tx: hosts.free_spares(tx, recovery.cluster_port)):
        objection = _objection(visit, spare["hostname"], services.get(spare["hostname"]))
        if objection:
            refused.append(f"{spare['hostname']}: {objection}")
            continue
        return _take(visit, spare["id"], services[spare["hostname"]], method)
    if method == "rh_priority":
        return advance(
            "list", _no_spare(recovery.cluster_port, refused) + "; Nova's scheduler chooses", data={"method": method}
        )
    if recovery.data.get("first_sent_at"):
        return hold(
            "no_spare", _no_spare(recovery.cluster_port, refused) + "; the spare in use was lost", seconds=LOOK_AGAIN_S
        )
    return end(
        "failed",
        _no_spare(recovery.cluster_port, refused)
        + f". The host is isolated; add a spare, then: recovery_manage.py retry {recovery.id}",
    )


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
        lambda tx: hosts.spare_objection(tx, hostname, visit.now, safety.failure_window_s, safety.clock_tolerance_s)
    )


def _take(visit: Visit, spare_id: int, service: Service, method: str) -> Outcome:
    """Allocate the spare in the transaction that records the choice; enable it next, if it was kept disabled."""
    recovery, now = visit.recovery, visit.now
    safety = visit.world.settings.safety

    def take(tx: Tx) -> None:
        taken = not hosts.spare_objection(
            tx, service.host, now, safety.failure_window_s, safety.clock_tolerance_s
        ) and hosts.take_spare(tx, spare_id, recovery.id, now)
        if not taken:
            raise LeaseLost(f"spare {service.host} went elsewhere")

    visit.note("decision", f"reserved host {service.host}", "oldest usable spare of the segment")
    return advance(
        "enable_target",
        f"reserved host {service.host}",
        effects=[take],
        target=service.host,
        data={"method": method, "spare_enabled": service.enabled, "spare_reason": service.disabled_reason},
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
    if not service.enabled:
        if recovery.data.get("spare_enabled"):
            return hold(
                "changed",
                f"changed by hand: somebody disabled the reserved host {recovery.target}; enable it to go on",
                seconds=LOOK_AGAIN_S,
            )
        visit.act("enable the reserved host", lambda: nova.enable(service), reason=recovery.target)
        return wait(0.1, f"waiting for Nova to show {recovery.target} enabled")
    return advance("list", f"reserved host {recovery.target} is up and enabled")


def _drop_target(visit: Visit, reason: str) -> Outcome:
    """The spare failed us: choose another. It does not come back to the list by itself."""
    visit.note("decision", "another reserved host", reason)
    return replace(advance("reserve", reason), target="")


def cancelled(visit: Visit) -> Outcome:
    """The operator's word: undo our own disable, unless something was requested already."""
    by = visit.recovery.cancel_by
    return advance("undo", f"cancelled by {by}", data={"end": ["cancelled", f"cancelled by {by}"]})


def undo(visit: Visit) -> Outcome:
    """Take back our own disable and give the spare back, then end as was decided."""
    recovery = visit.recovery
    status, reason = recovery.data.get("end") or ("cancelled", "")
    if requested(recovery):
        return end(
            status,
            f"{reason}; the host stays disabled and forced down: recovery_manage.py return --host {recovery.hostname}",
        )
    seen = look(visit)
    spare = spare_back(visit)
    if isinstance(spare, Outcome):
        return spare
    undone = undo_disable(visit, seen)
    if isinstance(undone, Outcome):
        return undone
    return end(status, reason, effects=[*undone, *spare])


def undo_disable(visit: Visit, seen: Look, for_recovery: int | None = None) -> Outcome | list[Effect]:
    """Clear this recovery's wish; the last one to clear enables, if it was enabled before us (never a host that reads down).

    `for_recovery`: clear the wish of an ended one instead. Returns what to wait for, or the effects that clear the wish.
    """
    recovery, world, service = visit.recovery, visit.world, seen.service
    wisher = for_recovery or recovery.id
    mine = next((d for d in seen.disables if d.recovery_id == wisher), None)
    if mine is None or service is None:
        return []
    clear: list[Effect] = [lambda tx: tx.execute("disable_clear", hostname=recovery.hostname, recovery_id=wisher)]
    others = [d for d in seen.disables if d.recovery_id != wisher]
    if others or not mine.was_enabled or service.enabled:
        return clear
    if not mine.seen and visit.now - seen.known.own_write_open_at < world.settings.safety.action_settle_s:
        return wait(1.0, "waiting for our own disable to show before it is taken back")
    if (
        service.disabled_reason
        and service.disabled_reason != mine.reason
        and not service.disabled_reason.startswith("masakari ")
    ):
        visit.note("decision", "left disabled", f"somebody else disabled it meanwhile: {service.disabled_reason}")
        return clear
    if service.forced_down:
        after = write_service(
            visit, "take back the forced-down", service, lambda: world.nova.force_down(service, False)
        )
        return wait(0.5, f"waiting for nova-compute of {recovery.hostname} to read up" if not after.up else "enabling")
    if not service.up:
        if visit.now - recovery.step_at < UP_WAIT_S:
            return wait(5.0, f"waiting for nova-compute of {recovery.hostname} to read up before it is enabled")
        visit.note(
            "decision", "left disabled", f"{recovery.hostname} reads down; when it is back: recovery_manage.py return"
        )
        return []
    write_service(
        visit,
        "enable nova-compute",
        service,
        lambda: world.nova.enable(service),
        reason="our own disable is taken back",
    )
    return wait(0.1, "waiting for Nova to show it enabled")


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
