"""What an operator may do to recoveries, segments and old rows. Each act leaves a line in the journal of what it concerns.

Nothing here talks to Nova: an act changes the database, and the controllers, woken by that, do the rest by the same rules
as ever. Times are those of the database's clock, so that a wrong clock where a script runs makes no wrong evidence.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from masakari import hosts, housekeeping, segments, store
from masakari.admin_text import remedy, seconds
from masakari.common.errors import MasakariError
from masakari.common.text import local, sql_time
from masakari.config import Settings
from masakari.database import Database, Duplicate, Tx
from masakari.model import FINAL, Evidence, Recovery

T = TypeVar("T")

RELEASABLE = ("many", "callback")
RETRIABLE = ("failed", "cancelled")


class Refused(MasakariError):
    """It can't be done, or must not be; the message says why and what to do instead. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class Operator:
    """Who gives an order, on which database. Of the settings only [safety] and [vmha_data_manage] are used."""

    db: Database
    settings: Settings
    name: str

    @property
    def actor(self) -> str:
        """As the journal names them."""
        return f"operator:{self.name}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a script says: `text` for people, `data` for --json."""

    text: str
    data: dict[str, Any]


def change(operator: Operator, func: Callable[[Tx, float], T]) -> T:
    """Run func(tx, now) in one transaction; `now` is the database's clock."""
    return operator.db.transaction(lambda tx: func(tx, database_now(tx)))


def database_now(tx: Tx) -> float:
    """Unix seconds by the database's clock."""
    return float(tx.all("database_now")[0]["now"])


def done(sentence: str, **data: Any) -> Answer:
    """The answer to an act that succeeded."""
    return Answer(sentence, {"done": sentence, **data})


def write_journal(tx: Tx, operator: Operator, recovery: Recovery, what: str, reason: str, now: float) -> None:
    """A line of kind `operator` in the story of a recovery."""
    store.journal(tx, recovery, operator.actor, [store.Event("operator", what, reason, None, None, now)])


def existing(tx: Tx, recovery_id: int) -> dict[str, Any]:
    """The row of a recovery. Raises Refused when there is none."""
    row = tx.one("recovery_by_id", id=recovery_id)
    if row is None:
        raise Refused(f"there is no recovery {recovery_id}; recovery_manage.py list shows them")
    return row


def paused_note(tx: Tx, cluster_port: str, now: float) -> str:
    """What must be said behind an act when its segment is paused; empty when it isn't."""
    for row in paused(tx, now):
        if row["cluster_port"] in (hosts.ALL_SEGMENTS, cluster_port):
            return f". {paused_sentence(row)}: nothing happens before it is resumed"
    return ""


def paused(tx: Tx, now: float) -> list[dict[str, Any]]:
    """The segments that are paused now; cluster_port `*` is all of them."""
    return [
        row
        for row in tx.all("segment_all")
        if row["paused_at"] is not None and (row["paused_until"] is None or row["paused_until"] > now)
    ]


def paused_sentence(row: dict[str, Any]) -> str:
    """Which segment is paused, by whom, and until when."""
    every = row["cluster_port"] == hosts.ALL_SEGMENTS
    which = "All segments are paused" if every else f"Segment {row['cluster_port']} is paused"
    until = f"until {local(row['paused_until'])}" if row["paused_until"] else "until resumed"
    return f"{which} since {local(row['paused_at'])} by {row['paused_by']}, {until}"


def release(operator: Operator, recovery_id: int) -> Answer:
    """Lift the hold for many failures, or that for an unsigned callback, whose reports and evidence count from then on.

    Raises Refused for every other hold; a hold for proof most of all.
    """

    def act(tx: Tx, now: float) -> str:
        recovery = _open(tx, recovery_id)
        if recovery.released and recovery.hold in RELEASABLE:
            return f"recovery {recovery.id} was released before; it is about to go on"
        if recovery.hold not in RELEASABLE:
            raise Refused(_not_releasable(recovery))
        tx.execute("recovery_release", id=recovery.id, now=now)
        what = f"release from the hold {recovery.hold}"
        if recovery.hold == "callback":
            reports = tx.execute("report_release", recovery_id=recovery.id)
            evidence = tx.execute("evidence_release", recovery_id=recovery.id)
            what += f"; {reports} reports and {evidence} pieces of evidence count from now on"
            if recovery.kind == "host":
                hosts.drop_spare(tx, recovery.hostname, now)
        write_journal(tx, operator, recovery, what, recovery.reason, now)
        return f"recovery {recovery.id} ({recovery.subject}) is released" + paused_note(tx, recovery.cluster_port, now)

    return done(f"{change(operator, act)}. {look_at(recovery_id)}", recovery=recovery_id)


def cancel(operator: Operator, recovery_id: int) -> Answer:
    """Stop new requests; what Nova was asked already is followed to its end."""

    def act(tx: Tx, now: float) -> str:
        recovery = _open(tx, recovery_id)
        if recovery.cancel_by:
            return f"recovery {recovery.id} is being cancelled already, by {recovery.cancel_by}"
        tx.execute("recovery_cancel", id=recovery.id, by=operator.name, now=now)
        write_journal(tx, operator, recovery, "cancel", "", now)
        told = f"recovery {recovery.id} ({recovery.subject}) is told to stop; what is in flight is followed to its end"
        return told + paused_note(tx, recovery.cluster_port, now)

    return done(f"{change(operator, act)}. {look_at(recovery_id)}", recovery=recovery_id)


def attest(operator: Operator, host: str, note: str) -> Answer:
    """Store the operator's word that a host is off, as proof from now on, for its open recovery."""

    def act(tx: Tx, now: float) -> tuple[int, str]:
        recovery = store.active(tx, [f"host:{host}"]).get(f"host:{host}")
        if recovery is None:
            raise Refused(_nothing_to_attest(tx, host))
        give_word(tx, operator, recovery, note, now)
        told = f"noted: {host} is off, by the word of {operator.name}; recovery {recovery.id} goes on"
        if recovery.hold == "callback" and not recovery.released:
            told += f". It is held for an unsigned callback, too: recovery_manage.py release {recovery.id}"
        return recovery.id, told + paused_note(tx, recovery.cluster_port, now)

    recovery_id, told = change(operator, act)
    return done(f"{told}. {look_at(recovery_id)}", recovery=recovery_id)


def host_of(operator: Operator, recovery_id: int) -> str:
    """The host that a recovery is about. Raises Refused when there is no such recovery."""
    return str(operator.db.read(lambda tx: existing(tx, recovery_id))["hostname"])


def last_sign_of_life(operator: Operator, host: str) -> str:
    """What an operator should know before giving their word that a host is off."""

    def look(tx: Tx) -> str:
        life = max(hosts.known(tx, host, 0.0).life, key=lambda sign: sign.at, default=None)
        if life is None:
            return f"No sign of life of {host} is on record."
        ago = seconds(max(0.0, database_now(tx) - life.at))
        return f"Last sign of life of {host} on record: {life.kind} at {local(life.at)}, {ago} ago."

    return operator.db.read(look)


def bring_back(operator: Operator, host: str) -> Answer:
    """Open the return of a host: un-force, wait until it reads up, enable. Raises Refused when it is under way already."""

    def act(tx: Tx, now: float) -> tuple[int, str]:
        active = store.active(tx, [f"return:{host}", f"host:{host}"])
        if f"return:{host}" in active:
            raise Refused(f"recovery {active[f'return:{host}'].id} is bringing {host} back already")
        segment = segments.key_of_host(tx, host)
        recovery_id = segments.open_return(tx, host, segment, operator.actor, f"asked for by {operator.name}", now)
        told = f"recovery {recovery_id} brings {host} back"
        if f"host:{host}" in active:
            told += f", once recovery {active[f'host:{host}'].id} of it has ended (let it finish, or cancel it)"
        return recovery_id, told + paused_note(tx, segment, now)

    try:
        recovery_id, told = change(operator, act)
    except Duplicate as error:
        raise Refused(f"somebody else has just begun to bring {host} back; see recovery_manage.py list") from error
    return done(f"{told}. {look_at(recovery_id)}", recovery=recovery_id)


def pause(operator: Operator, cluster_port: str, for_s: float | None) -> Answer:
    """Store reports and do nothing, in a segment or (`*`) everywhere; also what is being worked on stops where it is.

    What Nova was asked before goes on in Nova, and is followed after the pause.
    """

    def act(tx: Tx, now: float) -> str:
        key = segments.key_of(tx, cluster_port)
        if key != hosts.ALL_SEGMENTS:
            _known_segment(tx, key)
        _set_segment(
            tx,
            key,
            "segment_pause",
            paused_at=now,
            paused_until=now + for_s if for_s else None,
            paused_by=operator.name,
        )
        told = paused_sentence(next(row for row in paused(tx, now) if row["cluster_port"] == key))
        tx.execute("recovery_drop_claims", cluster_port=key)
        many = _tell_segment(tx, operator, key, "pause", told, now)
        return f"{told}. Reports are stored, nothing is done; {many} open recoveries wait"

    return done(change(operator, act), cluster_port=cluster_port)


def resume(operator: Operator, cluster_port: str) -> Answer:
    """End a pause. Raises Refused when that segment (or, for `*`, everything) isn't paused."""

    def act(tx: Tx, now: float) -> str:
        key = segments.key_of(tx, cluster_port)
        others = {row["cluster_port"]: row for row in paused(tx, now)}
        if others.pop(key, None) is None:
            still = "; ".join(paused_sentence(row) for row in others.values())
            which = (
                "not all segments are paused" if cluster_port == hosts.ALL_SEGMENTS else f"{cluster_port} is not paused"
            )
            raise Refused(f"{which}; there is nothing to resume" + (f". {still}" if still else ""))
        _set_segment(tx, key, "segment_pause", paused_at=None, paused_until=None, paused_by=None)
        many = _tell_segment(tx, operator, key, "resume", "", now)
        which = "all segments go" if cluster_port == hosts.ALL_SEGMENTS else f"segment {cluster_port} goes"
        still = "".join(f". {paused_sentence(row)}" for row in others.values())
        return f"{which} on; {many} open recoveries are looked at within seconds{still}"

    return done(change(operator, act), cluster_port=cluster_port)


def set_method(operator: Operator, cluster_port: str, method: str | None) -> Answer:
    """Where instances of failed hosts of a segment go from the next recovery on; None: as configured."""
    assert method is None or method in segments.METHODS, method

    def act(tx: Tx, now: float) -> str:
        known = {row["cluster_port"] for row in tx.all("segment_names")}
        key = segments.key_of(tx, cluster_port)
        _set_segment(tx, key, "segment_method", recovery_method=method)
        told = f"recovery method {method or 'as configured'}"
        _tell_segment(tx, operator, key, told, "for what has not chosen a spare yet", now)
        unknown = "" if key in known else " (no host or spare of this segment is known yet)"
        return f"segment {cluster_port}: {told}{unknown}"

    return done(change(operator, act), cluster_port=cluster_port, method=method)


def declare_finished(operator: Operator, uuid: str) -> Answer:
    """Call the failed rows of an instance finished, on the operator's word that it was seen to by hand.

    Nothing is done to the instance. Raises Refused while a recovery is at it.
    """

    def act(tx: Tx, now: float) -> int:
        rows = tx.all("instance_of_uuid", uuid=uuid)
        if not rows:
            raise Refused(f"no recovery ever had an instance {uuid}")
        failed = [row for row in rows if row["progress"] == 3]
        for row in rows:
            at_work = row["active_key"] or (row in failed and row["recovery_status"] in ("new", "running"))
            if at_work:
                raise Refused(
                    f"recovery {row['recovery_id']} is at instance {uuid}: let it end, or "
                    f"recovery_manage.py cancel {row['recovery_id']}"
                )
        for row in failed:
            _declare(tx, operator, row, now)
        return len(failed)

    many = change(operator, act)
    if not many:
        return done(f"instance {uuid} has no failed row: nothing to change", rows=0)
    return done(f"instance {uuid} is finished by the word of {operator.name} ({many} rows)", rows=many)


def _declare(tx: Tx, operator: Operator, row: dict[str, Any], now: float) -> None:
    reason = f"set by {operator.actor}; before: {row['reason'] or 'failed'}"[:1000]
    tx.execute("instance_declare", id=row["id"], reason=reason, update_at=sql_time(now))
    recovery = store.get(tx, row["recovery_id"]) if row["recovery_id"] else None
    if recovery is not None:
        write_journal(tx, operator, recovery, f"{row['name'] or row['uuid']} set to finished", row["reason"] or "", now)
        store.wake(tx, [recovery.id], now)


def delete_old(operator: Operator) -> Answer:
    """Delete what ended longer than [vmha_data_manage] period ago; what is open or keeps a host disabled stays."""
    days = operator.settings.vmha_data_manage.period
    now = operator.db.read(database_now)
    many = housekeeping.purge(operator.db.transaction, now, days)
    return done(f"{many} reports and recoveries that ended more than {days} days ago are deleted", deleted=many)


def give_word(tx: Tx, operator: Operator, recovery: Recovery, note: str, now: float) -> None:
    """Store that the host of a recovery is off by the operator's word, and wake the recovery."""
    evidence = Evidence("attested", now, operator.actor, note)
    row = hosts.evidence_row(recovery.hostname, recovery.cluster_port, evidence, now)
    tx.execute("evidence_add", **row)
    store.wake(tx, [recovery.id], now)
    write_journal(tx, operator, recovery, f"attest: {recovery.hostname} is off", note, now)


def _nothing_to_attest(tx: Tx, host: str) -> str:
    last = tx.one("recovery_last", hostname=host)
    told = f"no recovery of host {host} is open, so there is nothing to attest"
    if last is None:
        return f"{told}; none ever was: is the name right?"
    if last["status"] in RETRIABLE:
        return f"{told}; to try the last one again: recovery_manage.py retry {last['id']} --attest"
    return f"{told}; the last one, {last['id']}, is {last['status']}"


def _open(tx: Tx, recovery_id: int) -> Recovery:
    recovery = Recovery.of(existing(tx, recovery_id))
    if recovery.status in FINAL:
        again = f"; to try it again: recovery_manage.py retry {recovery.id}" if recovery.status in RETRIABLE else ""
        raise Refused(f"recovery {recovery.id} has ended ({recovery.status}: {recovery.reason}){again}")
    return recovery


def _not_releasable(recovery: Recovery) -> str:
    if recovery.status != "held":
        return f"recovery {recovery.id} is not held; it is {recovery.status}: {recovery.reason}"
    told = f"recovery {recovery.id} is held ({recovery.hold}): {recovery.reason}"
    if recovery.hold in ("proof", "alive"):
        told += ". Nothing but proof lifts that, so it can't be released"
    return f"{told}. What to do: {remedy_of(recovery)}"


def remedy_of(recovery: Recovery) -> str:
    """What can be done about a held recovery."""
    fields = ("id", "hostname", "status", "hold", "target")
    return remedy({name: getattr(recovery, name) for name in fields})


def look_at(recovery_id: int) -> str:
    """Where to see what becomes of an act."""
    return f"See: recovery_manage.py show {recovery_id}"


def _known_segment(tx: Tx, cluster_port: str) -> None:
    names = sorted({row["cluster_port"] for row in tx.all("segment_names") if row["cluster_port"]})
    if cluster_port not in names:
        raise Refused(
            f"no host and no spare of a segment {cluster_port} is known; known are: {', '.join(names) or 'none'}"
        )


def _set_segment(tx: Tx, cluster_port: str, statement: str, **values: Any) -> None:
    with contextlib.suppress(Duplicate):
        tx.execute("segment_add", cluster_port=cluster_port)
    tx.execute(statement, cluster_port=cluster_port, **values)


def _tell_segment(tx: Tx, operator: Operator, cluster_port: str, what: str, reason: str, now: float) -> int:
    """A line in the story of every open recovery of a segment; how many."""
    rows = tx.all("recovery_open_in", cluster_port=cluster_port)
    for row in rows:
        write_journal(tx, operator, Recovery.of(row), what, reason, now)
    return len(rows)
