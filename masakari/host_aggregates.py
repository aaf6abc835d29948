"""The reserved host goes into the host aggregates of the failed one, and leaves them once it is a spare again.

What a recovery has put in, or may have, is on its record (`aggregates`) before Nova is asked, and until it is seen out again.
What somebody else has put in stays. No aggregate is worth a recovery: what Nova refuses is noted, and the recovery goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from masakari import store
from masakari.common.errors import MaybeSent, NotFound, Rejected
from masakari.database import Tx
from masakari.host_look import cancelled
from masakari.host_spare import served
from masakari.model import Recovery
from masakari.nova import Aggregate
from masakari.recovery import Outcome, Visit, World, advance, wait

MOST_TRIES = 3
"""So often Nova is asked for one thing without showing it; then the recovery goes on without."""

REFUSED_AGAIN_S = 3600.0

Entry = dict[str, Any]
"""host, id, name: a spare, and the aggregate that it was put in."""


def lacking(aggregates: Iterable[Aggregate], failed_host: str, spare: str) -> list[Aggregate]:
    """Pure: the aggregates that the failed host is in and the spare is not."""
    return [one for one in aggregates if failed_host in one.hosts and spare not in one.hosts]


def still_in(entries: Iterable[Entry], aggregates: Iterable[Aggregate]) -> list[Entry]:
    """Pure: what is on record and Nova shows as well."""
    members = {(one.id, host) for one in aggregates for host in one.hosts}
    return [entry for entry in entries if (entry["id"], entry["host"]) in members]


def entries_of(recovery: Recovery) -> list[Entry]:
    """What a recovery has put in, or may have."""
    return list(recovery.data.get("aggregates") or [])


def aggregates(visit: Visit) -> Outcome:
    """Put the reserved host into every aggregate of the failed host. Done when Nova shows it in them, or won't."""
    recovery, spare = visit.recovery, visit.recovery.target
    if recovery.cancel_by:
        return cancelled(visit)
    assert spare is not None
    if _just_leaving(visit, spare):
        return wait(1.0, f"{spare} is just being taken out of the aggregates of an earlier recovery")
    try:
        missing = lacking(visit.world.nova.aggregates(), recovery.hostname, spare)
    except Rejected as error:
        return advance("list", f"{spare} is put into no aggregate: Nova refuses to list them: {error}")
    todo = [aggregate for aggregate in missing if _tries(visit, "joins", spare, aggregate.id) < MOST_TRIES]
    for aggregate in todo:
        _join(visit, aggregate, spare)
    if todo:
        return wait(0.0, f"waiting for Nova to show {spare} in {_names(todo)}")
    if missing:
        return advance("list", f"{spare} is not in {_names(missing)}, where {recovery.hostname} is: see above")
    return advance("list", f"{spare} is in all aggregates of {recovery.hostname}")


def _names(found: Sequence[Aggregate]) -> str:
    return ("aggregate " if len(found) == 1 else "aggregates ") + ", ".join(one.name for one in found)


def _tries(visit: Visit, verb: str, host: str, aggregate_id: int) -> int:
    return int((visit.recovery.data.get(verb) or {}).get(f"{host}/{aggregate_id}", 0))


def _tried(visit: Visit, verb: str, host: str, aggregate_id: int, refused: bool = False) -> None:
    """Count a try, so that it is not repeated for ever; what was refused is not repeated."""
    tries = MOST_TRIES if refused else _tries(visit, verb, host, aggregate_id) + 1
    visit.remember(**{verb: {**(visit.recovery.data.get(verb) or {}), f"{host}/{aggregate_id}": tries}})


def _join(visit: Visit, aggregate: Aggregate, spare: str) -> None:
    """One request; that it may have been sent is on record with its intent."""
    entry, before = {"host": spare, "id": aggregate.id, "name": aggregate.name}, entries_of(visit.recovery)
    if entry not in before:
        visit.remember(aggregates=[*before, entry])
    refused = False
    try:
        visit.act(
            f"add {spare} to aggregate {aggregate.name}",
            lambda: visit.world.nova.join_aggregate(aggregate, spare),
            reason=f"{visit.recovery.hostname} is in it",
        )
    except MaybeSent:
        pass
    except Rejected:
        refused = True
        # Somebody else was faster, or it can't be. An earlier request of ours may have put it in, though.
        visit.remember(aggregates=before)
    _tried(visit, "joins", spare, aggregate.id, refused)


def leave(visit: Visit) -> Outcome | None:
    """Take spares that served nobody out of the aggregates they were put in; None when nothing of it is left to do.

    What Nova refuses stays on record for `tidy`.
    """
    before = entries_of(visit.recovery)
    unused = [entry for entry in before if not served(visit, entry["host"])]
    todo = [entry for entry in unused if _tries(visit, "leaves", entry["host"], entry["id"]) < MOST_TRIES]
    if not todo:
        return None
    try:
        found = still_in(todo, visit.world.nova.aggregates())
    except Rejected as error:
        visit.note("decision", "a spare stays in its aggregates", f"Nova refuses to list them: {error}")
        return None
    visit.remember(aggregates=[entry for entry in before if entry not in todo or entry in found])
    for entry in found:
        _leave(visit, entry)
    return wait(0.0, f"waiting for Nova to show {found[0]['host']} out of its aggregates") if found else None


def _leave(visit: Visit, entry: Entry) -> None:
    refused = False
    try:
        visit.act(
            f"take {entry['host']} out of aggregate {entry['name']}",
            lambda: visit.world.nova.leave_aggregate(_aggregate(entry), entry["host"]),
            reason="it served nobody",
        )
    except (MaybeSent, NotFound):
        pass
    except Rejected:
        refused = True
    _tried(visit, "leaves", entry["host"], entry["id"], refused)


def _aggregate(entry: Entry) -> Aggregate:
    return Aggregate(entry["id"], entry["name"], ())


def _just_leaving(visit: Visit, spare: str) -> bool:
    """Whether a request of `tidy` may still be on its way that takes this spare out of an aggregate."""
    safety = visit.world.settings.safety
    recent_s = safety.action_settle_s + safety.clock_tolerance_s
    rows = visit.world.db.read(lambda tx: tx.all("recovery_with_aggregates"))
    ended = [recovery for recovery in map(Recovery.of, rows) if any(e["host"] == spare for e in entries_of(recovery))]
    return any(abs(visit.now - recovery.data.get("leaving_at", 0.0)) < recent_s for recovery in ended)


def tidy(world: World) -> None:
    """Take every spare that is on the list again out of the aggregates that an ended recovery put it in.

    Only while Nova books nothing on it. May run on several controllers at once. Raises Unavailable, Rejected.
    """
    if world.observing:
        return
    for row in world.db.read(lambda tx: tx.all("recovery_with_aggregates")):
        recovery = Recovery.of(row)
        if world.clock.now() < recovery.data.get("leave_again_at", 0.0):
            continue
        for host in sorted({entry["host"] for entry in entries_of(recovery)}):
            if world.db.read(lambda tx, host=host: tx.all("spare_listed", hostname=host)):  # type: ignore[misc]
                _tidy(world, recovery.id, host)


def _tidy(world: World, recovery_id: int, host: str) -> None:
    if world.nova.servers(host):
        reason = "Nova books instances on it: they would be in another aggregate than their host"
        _write(
            world, recovery_id, {"stays": f"{host}: {reason}"}, "decision", f"{host} stays in its aggregates", reason
        )
        return
    recovery = world.db.read(lambda tx: store.get(tx, recovery_id))
    for entry in entries_of(recovery) if recovery else []:
        if entry["host"] == host and not _take_out(world, recovery_id, entry):
            return


def _take_out(world: World, recovery_id: int, entry: Entry) -> bool:
    """One request, its intent before it. False: not now."""
    host, name, now = entry["host"], entry["name"], world.clock.now()
    what = f"take {host} out of aggregate {name}"
    if not _write(world, recovery_id, {"leaving_at": now}, "intent", what, "it is on the list of spares again"):
        return False
    # Read again behind the intent: whoever takes the spare from here on finds that, and waits.
    if not world.db.read(lambda tx: tx.all("spare_listed", hostname=host)):
        _write(world, recovery_id, {"leaving_at": 0.0}, "decision", f"{host} stays in {name}", "it has left the list")
        return False
    try:
        world.nova.leave_aggregate(_aggregate(entry), host)
    except MaybeSent as error:
        _write(world, recovery_id, {}, "answer", f"{what} without a clear answer", str(error))
        return False
    except NotFound as error:
        return _write(world, recovery_id, {}, "answer", f"{what}: it was out", str(error), entry)
    except Rejected as error:
        later = {"leaving_at": 0.0, "leave_again_at": now + REFUSED_AGAIN_S}
        _write(world, recovery_id, later, "answer", f"{what} refused", f"{error}; tried again in an hour")
        return False
    return _write(world, recovery_id, {}, "answer", f"{what} accepted", "", entry)


def _write(
    world: World, recovery_id: int, data: dict[str, Any], kind: str, what: str, reason: str, out: Entry | None = None
) -> bool:
    """What an ended recovery remembers from now on, less the entry `out`, and a line for its journal.

    Nothing, and False, when it knows all that already or is not ended any more.
    """

    def write(tx: Tx) -> bool:
        recovery = store.get(tx, recovery_id)
        if recovery is None:
            return False
        left = [entry for entry in entries_of(recovery) if entry != out]
        after = {**recovery.data, **data, "aggregates": left}
        if after == recovery.data and kind == "decision":
            return False
        known = {"id": recovery.id, "epoch": recovery.epoch, "data": json.dumps(after)}
        if not tx.execute("recovery_remember_ended", **known):
            return False
        store.journal(tx, recovery, world.name, [store.Event(kind, what, reason, None, None, world.clock.now())])
        return True

    return world.db.transaction(write)
