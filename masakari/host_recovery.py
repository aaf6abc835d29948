"""A host failed: from its report to a host that Nova knows is down. Safety rules 1, 2 and 6 are kept here.

admit -> prove -> isolate here, reserve in host_spare, list -> evacuate -> finish in host_evacuation, with undo in host_undo
for what proves false and in_place for a host that has booted again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from masakari import hosts
from masakari.carry import keep, kept
from masakari.common.errors import Rejected, Unavailable
from masakari.database import Tx
from masakari.host_look import (
    Look,
    cancelled,
    disable_reason,
    hold_reason,
    judge,
    look,
    rebooted,
    unknown_to_nova,
    whose_name,
    write_service,
)
from masakari.host_undo import undo_disable
from masakari.host_view import read_view
from masakari.nova import Service
from masakari.recovery import Effect, Outcome, Visit, advance, end, hold, log, wait

LOOK_AGAIN_S = 10.0
LATE_LOOK_S = 0.05
"""So long before the end of the probe the service is read again."""


def admit(visit: Visit) -> Outcome:
    """Held at admission: many failures at once, or an unsigned callback. Nothing is disabled meanwhile (rule 6)."""
    recovery = visit.recovery
    if recovery.cancel_by:
        return cancelled(visit)
    if recovery.released:
        return advance("prove", "released", data={"isolated_at": None})
    seen = look(visit)
    if recovery.hold == "many" and seen.verdict.valid and not visit.world.settings.safety.hold_proven:
        return advance("prove", f"proven: {seen.verdict.reason}", data={"isolated_at": None})
    undone = undo_disable(visit, seen)
    if isinstance(undone, Outcome):
        return replace(undone, status="held", hold="many", reason=recovery.reason)
    return hold(recovery.hold or "many", recovery.reason, seconds=60.0, effects=undone)


def prove(visit: Visit) -> Outcome:
    """Is it known which host it is, have enough reported it, is there proof that it is off? Else held, and looked at again."""
    recovery = visit.recovery
    if recovery.cancel_by:
        return cancelled(visit)
    seen, hypervisor = _first_look(visit)
    if seen.service is None:
        return whose_name(visit, seen.known)
    remembered = {"nova_down_since": seen.down_since}
    if rebooted(recovery, seen.known) and visit.world.observing:
        return end(
            "ignored", f"observe mode: would start what was active on {recovery.hostname}, which has booted again"
        )
    if rebooted(recovery, seen.known):
        return advance("in_place", "the host has booted again: its guests of the old boot are gone", data=remembered)
    few = _observers_missing(visit, seen)
    if seen.verdict.valid and not few:
        return _proven(visit, seen, hypervisor, remembered)
    if _false_report(visit, seen):
        return advance(
            "undo",
            "the host reports itself up, in the same boot",
            data={
                **remembered,
                "end": ["ignored", f"{recovery.hostname} is up, in the same boot; nothing was requested"],
            },
        )
    if few:
        return hold("observers", few, seconds=60.0, data=remembered)
    return _held(visit, seen, seen.verdict.hold, hold_reason(visit, seen), remembered)


def _proven(visit: Visit, seen: Look, hypervisor: str | None, remembered: dict[str, Any]) -> Outcome:
    """The host is off by all that is known: on to `isolate`, unless somebody has interfered, or the host answers."""
    assert seen.service is not None
    if _enabled_by_hand(visit, seen):
        return _held(visit, seen, "changed", seen.verdict.reason, remembered)
    if seen.service.up and _answers(visit, hypervisor):
        return _answered(visit, seen)
    if visit.world.observing:
        return advance("list", f"observe mode: would force {visit.recovery.hostname} down ({seen.verdict.reason})")
    return advance("isolate", seen.verdict.reason, data=remembered)


def _observers_missing(visit: Visit, seen: Look) -> str:
    """Why more observers must report the host down before anything is done; empty when there are enough.

    An operator who attested it during this recovery is enough.
    """
    recovery, safety = visit.recovery, visit.world.settings.safety
    since = recovery.created_at - safety.clock_tolerance_s
    if safety.min_observers <= 1 or any(p.kind == "attested" and p.at >= since for p in seen.known.proofs):
        return ""
    rows = visit.world.db.read(lambda tx: tx.all("report_who", recovery_id=recovery.id, since=seen.known.up_at))
    if len(rows) >= safety.min_observers:
        return ""
    names = ", ".join(row["observer"] or "an unnamed monitor" for row in rows) or "nobody else"
    return f"reported by {names}; {safety.min_observers} observers are needed ([safety] min_observers)"


def _first_look(visit: Visit) -> tuple[Look, str | None]:
    """A look, and beside it the id of the hypervisor, which the probe needs. While held only a look."""
    nova, host = visit.world.nova, visit.recovery.hostname
    if visit.recovery.hold:
        return look(visit), None
    service, hypervisor = visit.together([lambda: nova.service(host), lambda: nova.hypervisor(host)])
    return judge(visit, service), hypervisor


def _answers(visit: Visit, hypervisor: str | None) -> bool:
    """Ask the host through Nova; an answer in time is a sign of life, whatever the BMC said.

    The look that has to follow is taken when that time is nearly over, and left to the next step.
    """
    nova, clock, host = visit.world.nova, visit.world.clock, visit.recovery.hostname
    within_s = visit.world.settings.safety.nova_probe_s

    def look_late() -> None:
        clock.sleep(within_s - LATE_LOOK_S)
        read_at = clock.monotonic()
        keep(visit, read_at, nova.service(host))

    answered, _ = visit.together([lambda: nova.answers_uptime(host, within_s, hypervisor), look_late])
    return bool(answered)


def _answered(visit: Visit, seen: Look) -> Outcome:
    now, recovery, refuted = visit.now, visit.recovery, seen.verdict.proof
    # What was stored before the answer is refuted by it, whatever clocks say: no tolerance is left to it.
    at = max(now, refuted.at + visit.world.settings.safety.clock_tolerance_s + 1) if refuted else now
    reason = (
        f"host answers through Nova, although: {seen.verdict.reason}. Wrong BMC? Nothing is done until new proof comes"
    )
    return _held(
        visit,
        seen,
        "alive",
        reason,
        {"nova_down_since": seen.down_since},
        [lambda tx: hosts.add_evidence(tx, recovery, "probe", at, now)],
    )


def _enabled_by_hand(visit: Visit, seen: Look) -> bool:
    """Nova has shown it disabled for this recovery, and now shows it enabled: that was not us (rule 2)."""
    mine = any(d.seen for d in seen.disables if d.recovery_id == visit.recovery.id)
    return mine and seen.service is not None and seen.service.enabled


def _false_report(visit: Visit, seen: Look) -> bool:
    """The host said that it is up after it was reported down, in the boot it was in."""
    failed_boot = visit.recovery.data.get("boot_id")
    reported = max(visit.recovery.created_at, seen.known.down_reported_at)
    return bool(failed_boot) and failed_boot == seen.known.boot_id and seen.known.boot_told_at > reported


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
            f"changed by hand: somebody enabled nova-compute of {recovery.hostname}; it is not disabled again. Disable it by "
            f"hand to go on, or cancel. "
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
    if abs(now - seen.known.own_write_open_at) < world.settings.safety.action_settle_s:
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


def isolate(visit: Visit) -> Outcome:
    """Tell Nova what is proven: the host is down, and nothing new goes there."""
    recovery, world = visit.recovery, visit.world
    if recovery.cancel_by:
        return cancelled(visit)
    seen = judge(visit, kept(visit, Service) or world.nova.service(recovery.hostname))
    if seen.service is None:
        return unknown_to_nova(visit)
    if not seen.verdict.valid:
        return advance("prove", seen.verdict.reason)
    if _enabled_by_hand(visit, seen):
        return advance("prove", "nova-compute was enabled by hand")
    if recovery.data.get("isolated_at"):
        return _isolated(visit, seen.service, seen)
    assert seen.verdict.proof is not None, "rule 1: never forced down without proof"
    if seen.service.enabled or (world.nova.microversion >= (2, 11) and not seen.service.forced_down):
        before = seen.service.disabled_reason
        # Somebody else's reason is left as it is: they want it disabled whatever becomes of this recovery.
        reason = before if before and not seen.service.enabled else disable_reason(visit)
        was_enabled = any(d.was_enabled for d in seen.disables)
        if not seen.service.forced_down:
            visit.remember(forced=True)
        service = write_service(
            visit,
            "force down and disable nova-compute",
            seen.service,
            lambda: world.nova.isolate(seen.service or service, reason),
            reason=seen.verdict.reason,
            want=reason,
            others_want=was_enabled,
            reread=lambda: _look_ahead(visit),
        )
        return _isolated(visit, service, seen)
    return _isolated(visit, seen.service, seen)


def _look_ahead(visit: Visit) -> Service | None:
    """The service after our write, and with it at the same time what the next steps want to know."""
    try:
        view = read_view(visit, all_services=True)
    except (Unavailable, Rejected):
        return visit.world.nova.service(visit.recovery.hostname)
    keep(visit, view.read_at, view)
    return view.service


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
    forced = visit.world.nova.microversion >= (2, 11)
    unforced = not service.forced_down if forced else service.up
    if visit.recovery.data.get("isolated_at") and (service.enabled or unforced):
        host = visit.recovery.hostname
        what = "enabled nova-compute" if service.enabled else "took back the forced-down"
        return hold(
            "changed",
            f"changed by hand: somebody {what} of {host} during the recovery; nothing more is "
            f"requested. To go on, disable and force it down by hand, then: recovery_manage.py attest --host {host}; or cancel",
            seconds=LOOK_AGAIN_S,
        )
    return None
