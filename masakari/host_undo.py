"""Taking back what a host recovery did, in the order that leaves the host usable."""

from __future__ import annotations

from masakari.common.errors import Rejected
from masakari.host_aggregates import leave
from masakari.host_look import Look, ever_requested, look, reported, write_service
from masakari.host_spare import served, spare_back
from masakari.nova import Service
from masakari.recovery import REFUSED_RETRY_S, Effect, Outcome, Visit, end, hold, wait

UP_WAIT_S = 120.0
UNTIDY_AGAIN_S = 5.0


def undo(visit: Visit) -> Outcome:
    """Take back our own disable and give the spare back, then end as was decided."""
    recovery = visit.recovery
    status, reason = recovery.data.get("end") or ("cancelled", "")
    leaving = leave(visit)
    if leaving:
        return leaving
    if ever_requested(recovery):
        unused = [] if served(visit) else spare_back(visit)
        if isinstance(unused, Outcome):
            return unused
        return end(
            status,
            f"{reason}; the host stays disabled and forced down: recovery_manage.py return --host {recovery.hostname}",
            effects=unused,
        )
    seen = look(visit)
    spare = spare_back(visit)
    if isinstance(spare, Outcome):
        return spare
    undone = undo_disable(visit, seen)
    if isinstance(undone, Outcome):
        return undone
    return end(status, reason, effects=[*undone, *spare])


def unforce(visit: Visit, service: Service) -> Outcome:
    """Take back the forced-down, once Nova won't refuse: when nova-compute has restarted since the evacuations."""
    nova, host = visit.world.nova, visit.recovery.hostname
    untidy = sum(migration.status == "done" for migration in nova.evacuations(source=host))
    if untidy:
        return hold(
            "down",
            f"{untidy} evacuations from {host} are not tidied up: restart nova-compute on {host}, until then Nova "
            "refuses to take it back",
            seconds=UNTIDY_AGAIN_S,
        )
    try:
        write_service(visit, "take back the forced-down", service, lambda: nova.force_down(service, False))
    except Rejected as error:
        return hold(
            "refused",
            f"Nova refuses to take {host} back: {error.message}. Restart nova-compute on {host}",
            seconds=REFUSED_RETRY_S,
        )
    return wait(0.2, "waiting for Nova to show that the forced-down is taken back")


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
    if service.forced_down and recovery.data.get("forced") and not any(d.kind == "host" for d in others):
        return unforce(visit, service)
    on_its_way = abs(visit.now - seen.known.own_write_open_at) < world.settings.safety.action_settle_s
    if not mine.seen and on_its_way and (service.enabled or mine.was_enabled):
        return wait(1.0, "waiting for our own disable to show before it is taken back")
    if others or not mine.was_enabled or service.enabled:
        return clear
    if (
        service.disabled_reason
        and service.disabled_reason != mine.reason
        and not service.disabled_reason.startswith("masakari ")
    ):
        visit.note("decision", "left disabled", f"somebody else disabled it meanwhile: {service.disabled_reason}")
        return clear
    if service.forced_down:
        visit.note("decision", "left disabled", f"{recovery.hostname} is forced down, and not by this recovery")
        return clear
    if not service.up or (recovery.data.get("forced") and not reported(visit, seen)):
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
        unseen=wisher,
    )
    return wait(0.1, "waiting for Nova to show it enabled")
