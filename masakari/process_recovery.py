"""A control process of a node died and can't be restarted: nova-compute there is disabled, with the reason.

When the monitor tells that the process runs again, our own disable is taken back, at most three times a day.
"""

from __future__ import annotations

from masakari import hosts, store
from masakari.host_look import disable_reason, look, unknown_to_nova, write_service
from masakari.host_undo import undo_disable
from masakari.recovery import Outcome, Table, Visit, end, hold, wait

UNDO_MOST = 3
DAY_S = 86400.0


def disable(visit: Visit) -> Outcome:
    """Disable nova-compute and see it disabled; somebody else's disable is left as it is."""
    recovery, world, now = visit.recovery, visit.world, visit.now
    if recovery.cancel_by:
        return _ended(visit, "cancelled", f"cancelled by {recovery.cancel_by}")
    if recovery.hold == "callback" and not recovery.released:
        return hold("callback", recovery.reason, seconds=60.0)
    if recovery.data.get("on_failure") == "report":
        return end("finished", f"{recovery.process} is down on {recovery.hostname}: only reported, nothing is disabled")
    seen = look(visit)
    if seen.service is None:
        return unknown_to_nova(visit)
    mine = next((d for d in seen.disables if d.recovery_id == recovery.id), None)
    if not seen.service.enabled:
        if mine is None and not any(d.seen for d in seen.disables):
            return end(
                "finished", f"nova-compute was disabled already: {seen.service.disabled_reason or 'no reason given'}"
            )
        was = any(d.was_enabled for d in seen.disables)
        return end(
            "finished",
            f"nova-compute of {recovery.hostname} is disabled",
            effects=[
                lambda tx: hosts.want_disable(tx, recovery, was, disable_reason(visit), now),
                lambda tx: tx.execute("disable_seen", hostname=recovery.hostname, now=now),
            ],
        )
    if any(d.seen for d in seen.disables):
        return end(
            "failed", f"changed by hand: somebody enabled nova-compute of {recovery.hostname}; it is not disabled again"
        )
    if world.observing:
        return end("ignored", f"observe mode: would disable nova-compute of {recovery.hostname}")
    service, reason = seen.service, disable_reason(visit)
    write_service(
        visit, "disable nova-compute", service, lambda: world.nova.disable(service, reason), reason=reason, want=reason
    )
    return wait(0.1, "waiting for Nova to show it disabled")


def enable(visit: Visit) -> Outcome:
    """The process runs again: clear every wish that this process' failures left, unless it flaps."""
    recovery, world = visit.recovery, visit.world
    if recovery.cancel_by:
        return end("cancelled", f"cancelled by {recovery.cancel_by}")
    if recovery.hold == "callback" and not recovery.released:
        return hold("callback", recovery.reason, seconds=60.0)
    down_key = store.active_key("process", recovery.hostname, process=recovery.process)
    if world.db.read(lambda tx: store.active(tx, [down_key])):
        return wait(0.5, "its disable is still under way")
    seen = look(visit)
    if seen.service is None:
        return unknown_to_nova(visit)
    ours = [d for d in seen.disables if d.kind == "process" and d.process == recovery.process]
    if not ours:
        return end("finished", f"{recovery.process} runs; nova-compute was not disabled for it")
    since = visit.now - DAY_S
    row = world.db.transaction(lambda tx: tx.one("recovery_recent_undo", hostname=recovery.hostname, since=since))
    if row and row["n"] >= UNDO_MOST:
        return end(
            "failed",
            f"{recovery.process} runs again, but it is the {row['n'] + 1}th time today: nova-compute of "
            f"{recovery.hostname} stays disabled, enable it by hand",
        )
    if world.observing:
        return end("ignored", f"observe mode: would enable nova-compute of {recovery.hostname}")
    undone = undo_disable(visit, seen, for_recovery=ours[0].recovery_id)
    if isinstance(undone, Outcome):
        return undone
    if len(ours) > 1:
        return wait(0.0, "clearing the next wish", effects=undone)
    if not undone:
        return end(
            "failed",
            f"{recovery.process} runs again, but nova-compute of {recovery.hostname} reads down and stays disabled: start "
            "it, then enable it by hand",
        )
    told = "our own disable is taken back" if seen.service.enabled else "nova-compute stays disabled for another reason"
    return end("finished", f"{recovery.process} runs again; {told}", effects=undone)


def _ended(visit: Visit, status: str, reason: str) -> Outcome:
    """End, with our own disable taken back first."""
    undone = undo_disable(visit, look(visit))
    return undone if isinstance(undone, Outcome) else end(status, reason, effects=undone)


STEPS: Table = {
    "disable": (disable, frozenset()),
    "enable": (enable, frozenset()),
}
"""step: (function, allowed next steps)."""
