"""Failover segments and the hosts registered in them: one model for the API of OpenStack, callbacks and the operator's scripts.

A segment has a key, the `cluster_port` that reports, recoveries and spares name: the name it got at first. A registered host
belongs to its segment whatever cluster_port a report names. It is reserved while it is on the list of spares, and on
maintenance while an operator says so or while nova-compute there is disabled for a recovery. Functions of a transaction;
before it changes a segment or its hosts it calls hold(), and then reads what it changes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

from masakari import hosts, store
from masakari.common.errors import MasakariError
from masakari.common.text import sql_time
from masakari.database import Duplicate, Tx
from masakari.steps import FIRST

METHODS = ("auto", "reserved_host", "auto_priority", "rh_priority")
MADE_AT_ONCE = 100
"""So many segments may be made at the same moment; one more is told to try again."""


class SegmentConflict(MasakariError):
    """It contradicts what is stored: a name that is taken, or a host or segment that a recovery is busy with."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment as the API lists it. recovery_method: empty for the configured one. Times: Unix seconds, None for never."""

    number: int
    uuid: str
    name: str
    cluster_port: str
    recovery_method: str
    service_type: str
    description: str | None
    enabled: bool
    created_at: float
    updated_at: float | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Segment:
        """From its row."""
        return cls(
            row["number"],
            row["uuid"],
            row["name"],
            row["cluster_port"],
            row["recovery_method"] or "",
            row["service_type"],
            row["description"],
            bool(row["enabled"]),
            row["created_at"],
            row["updated_at"],
        )


@dataclass(frozen=True, slots=True)
class Host:
    """A registered host. said_maintenance: an operator said so; on_maintenance: that, or it is disabled for a recovery.

    Times: Unix seconds, None for never.
    """

    id: int
    uuid: str
    segment_uuid: str
    segment_name: str
    segment_enabled: bool
    cluster_port: str
    name: str
    type: str
    control_attributes: str
    reserved: bool
    said_maintenance: bool
    on_maintenance: bool
    created_at: float
    updated_at: float | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Host:
        """From its row, joined with what else is known of it."""
        said = bool(row["on_maintenance"])
        return cls(
            row["id"],
            row["uuid"],
            row["segment_uuid"],
            row["segment_name"],
            bool(row["segment_enabled"]),
            row["cluster_port"],
            row["hostname"],
            row["type"],
            row["control_attributes"],
            bool(row["reserved"]),
            said,
            said or (row["disabled_at"] is not None and not _is_cleared(row)),
            row["created_at"],
            row["updated_at"],
        )

    @property
    def ignored_because(self) -> str:
        """Why reports about it are ignored; empty when they aren't."""
        if not self.segment_enabled:
            return f"segment {self.segment_name} is disabled"
        return f"{self.name} is on maintenance" if self.said_maintenance else ""


def _is_cleared(row: Mapping[str, Any]) -> bool:
    """Whether an operator said since it was disabled that it is not on maintenance, and it is being brought back."""
    return bool(row["returns"]) and row["cleared_at"] >= row["disabled_at"]


@dataclass(frozen=True, slots=True)
class SegmentForm:
    """What the API says of a segment."""

    name: str
    recovery_method: str
    service_type: str
    description: str | None = None
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class HostForm:
    """What the API says of a host. on_maintenance: None for as it is."""

    name: str
    type: str
    control_attributes: str
    reserved: bool = False
    on_maintenance: bool | None = None


def segments(tx: Tx) -> list[Segment]:
    """All of them, the oldest first."""
    return [Segment.of(row) for row in tx.all("segment_listed")]


def segment(tx: Tx, uuid: str) -> Segment | None:
    """One of them."""
    row = tx.one("segment_by_uuid", uuid=uuid)
    return Segment.of(row) if row else None


def hold(tx: Tx, uuid: str) -> Segment | None:
    """One of them; until the transaction ends nobody else changes it or its hosts."""
    return segment(tx, uuid) if tx.execute("segment_beat", uuid=uuid) else None


def key_of(tx: Tx, called: str) -> str:
    """The key of the segment that an operator calls so, by its present name, its uuid or its key; as it is when there is none."""
    rows = tx.all("segment_called", called=called)
    rows.sort(key=lambda row: (row["name"] != called, row["uuid"] != called))
    return str(rows[0]["cluster_port"]) if rows else called


def key_of_host(tx: Tx, host: str) -> str:
    """The key of the segment that a host is in: where it is registered, or else as it was last reported; empty for none."""
    found = registered(tx, [host]).get(host)
    if found is not None:
        return found.cluster_port
    known = tx.one("host_known", hostnames=[host]) or tx.one("recovery_last", hostname=host)
    return str(known["cluster_port"]) if known else ""


def registered(tx: Tx, names: Collection[str]) -> dict[str, Host]:
    """Those of these hosts that are registered, by name."""
    if not names:
        return {}
    return {row["hostname"]: Host.of(row) for row in tx.all("segment_host_of_names", hostnames=sorted(names))}


def all_hosts(tx: Tx) -> list[Host]:
    """Every registered host, the oldest first."""
    return [Host.of(row) for row in tx.all("segment_host_all")]


def add_segment(tx: Tx, uuid: str, form: SegmentForm, now: float) -> Segment:
    """Register a segment; spares listed under its name so far become its hosts. Raises SegmentConflict when the name is taken."""
    # Run again after a commit that nobody answered.
    if (there := segment(tx, uuid)) is not None:
        return there
    taken = [row for row in tx.all("segment_called", called=form.name) if row["uuid"]]
    if any(row["name"] == form.name for row in taken):
        raise SegmentConflict(f"a segment named {form.name} exists already")
    # Another one had this name once, and its key still says so.
    key = uuid if taken else form.name
    with contextlib.suppress(Duplicate):
        tx.execute("segment_add", cluster_port=key)
    made = _registered_segment(tx, key, uuid, form, now)
    for spare in hosts.free_spares(tx, key):
        register(tx, key, spare["hostname"], now)
    return made


def _registered_segment(tx: Tx, key: str, uuid: str, form: SegmentForm, now: float) -> Segment:
    """Give a segment its name and the next number, though others take theirs at the same moment."""
    for _ in range(MADE_AT_ONCE):
        number = tx.all("segment_next_number")[0]["number"]
        with contextlib.suppress(Duplicate):
            tx.execute("segment_register", cluster_port=key, number=number, uuid=uuid, now=now, **_columns(form))
        made = segment(tx, uuid)
        if made is not None:
            return made
        if any(row["name"] == form.name for row in tx.all("segment_called", called=form.name)):
            raise SegmentConflict(f"a segment named {form.name} exists already")
    raise SegmentConflict("too many segments are made at the same moment; try again")


def change_segment(tx: Tx, before: Segment, form: SegmentForm, now: float) -> Segment:
    """Change a segment. Raises SegmentConflict when its new name is taken, or while a recovery is busy with it."""
    _refuse_busy_segment(tx, before)
    try:
        tx.execute("segment_change", uuid=before.uuid, now=now, **_columns(form))
    except Duplicate as error:
        raise SegmentConflict(f"a segment named {form.name} exists already") from error
    after = segment(tx, before.uuid)
    assert after is not None
    return after


def remove_segment(tx: Tx, gone: Segment, now: float) -> None:
    """Delete a segment with its hosts and spares. Raises SegmentConflict while a recovery is busy with it."""
    _refuse_busy_segment(tx, gone)
    names = [row["hostname"] for row in tx.all("segment_host_in", cluster_port=gone.cluster_port)]
    for host in registered(tx, names).values():
        _remove(tx, host, now)
    # A pause outlives it: what was not to be touched is not to be touched now.
    tx.execute("segment_remove", uuid=gone.uuid)
    tx.execute("segment_forget", uuid=gone.uuid)


def add_host(tx: Tx, uuid: str, of: Segment, form: HostForm, now: float) -> Host:
    """Register a host. Raises SegmentConflict when it is registered already, in whichever segment."""
    found = registered(tx, [form.name]).get(form.name)
    if found is not None and found.uuid == uuid:
        return found
    if found is not None:
        raise SegmentConflict(f"{form.name} is a host of segment {found.segment_name} already")
    _insert(tx, uuid, of, form, now)
    listed = tx.one("spare_listed", hostname=form.name)
    if listed is not None and listed["cluster_port"] != of.cluster_port:
        tx.execute("spare_move", hostname=form.name, cluster_port=of.cluster_port, update_at=sql_time(now))
    _set_reserved(tx, form.name, of.cluster_port, form.reserved or listed is not None, listed is not None, now)
    return registered(tx, [form.name])[form.name]


def register(tx: Tx, cluster_port: str, name: str, now: float) -> None:
    """A spare of a segment that the API lists becomes a host of it, if it is registered nowhere."""
    row = tx.one("segment_get", cluster_port=cluster_port)
    if row is not None and row["uuid"] and hold(tx, row["uuid"]) and not registered(tx, [name]):
        _insert(tx, str(uuid5(UUID(row["uuid"]), name)), Segment.of(row), HostForm(name, "COMPUTE", "SSH"), now)


def change_host(tx: Tx, before: Host, form: HostForm, actor: str, now: float) -> Host:
    """Change a host. on_maintenance False on one that a failure disabled brings it back, as an operator's command; True ends that.

    Raises SegmentConflict when its new name is taken, while a recovery is busy with it, and for another name while it is disabled.
    """
    _refuse_busy(tx, [before.name, form.name], before.name)
    wishes = [wish for wish in hosts.disables(tx, before.name) if wish.seen]
    if form.name != before.name and wishes:
        raise SegmentConflict(f"{before.name} is disabled for recovery {wishes[0].recovery_id}: bring it back first")
    cleared = form.on_maintenance is False
    _rename_or_keep(tx, before, form, now if cleared else _cleared_at(tx, before), now)
    listed = tx.one("spare_listed", hostname=form.name)
    if listed is not None and listed["cluster_port"] != before.cluster_port:
        tx.execute("spare_move", hostname=form.name, cluster_port=before.cluster_port, update_at=sql_time(now))
    _set_reserved(tx, form.name, before.cluster_port, form.reserved, listed is not None, now)
    returning = store.active(tx, [f"return:{before.name}"]).get(f"return:{before.name}")
    if cleared and wishes and returning is None:
        try:
            open_return(tx, before.name, before.cluster_port, actor, "on_maintenance False", now)
        except Duplicate as error:
            raise SegmentConflict(f"somebody else has just begun to bring {before.name} back") from error
    if form.on_maintenance and returning is not None:
        tx.execute("recovery_cancel", id=returning.id, by=actor, now=now)
        told = store.Event("operator", "cancel", "on_maintenance True", None, None, now)
        store.journal(tx, returning, actor, [told])
    return registered(tx, [form.name])[form.name]


def _rename_or_keep(tx: Tx, before: Host, form: HostForm, cleared_at: float, now: float) -> None:
    if form.name != before.name:
        tx.execute("spare_drop", hostname=before.name, delete_at=sql_time(now))
    said = before.said_maintenance if form.on_maintenance is None else form.on_maintenance
    try:
        tx.execute(
            "segment_host_change",
            uuid=before.uuid,
            hostname=form.name,
            type=form.type,
            control_attributes=form.control_attributes,
            on_maintenance=int(said),
            cleared_at=cleared_at,
            now=now,
        )
    except Duplicate as error:
        raise SegmentConflict(f"{form.name} is registered already") from error


def remove_host(tx: Tx, gone: Host, now: float) -> None:
    """A host leaves its segment and the list of spares. Raises SegmentConflict while a recovery is busy with it."""
    _refuse_busy(tx, [gone.name], gone.name)
    _remove(tx, gone, now)


def open_return(tx: Tx, host: str, cluster_port: str, actor: str, reason: str, now: float) -> int:
    """The recovery that brings a host back: un-force, wait until it reads up, enable. Raises Duplicate when there is one."""
    recovery_id = store.add(tx, "return", host, cluster_port, now, step=FIRST["return"], reason=reason)
    recovery = store.get(tx, recovery_id)
    assert recovery is not None
    store.journal(tx, recovery, actor, [store.Event("opened", f"return of {host}", reason, None, None, now)])
    return recovery_id


def _columns(form: SegmentForm) -> dict[str, Any]:
    return {
        "name": form.name,
        "service_type": form.service_type,
        "description": form.description,
        "enabled": int(form.enabled),
        "recovery_method": form.recovery_method or None,
    }


def _insert(tx: Tx, uuid: str, of: Segment, form: HostForm, now: float) -> None:
    try:
        tx.execute(
            "segment_host_add",
            uuid=uuid,
            cluster_port=of.cluster_port,
            hostname=form.name,
            type=form.type,
            control_attributes=form.control_attributes,
            on_maintenance=int(form.on_maintenance or False),
            now=now,
        )
    except Duplicate as error:
        raise SegmentConflict(f"{form.name} is registered already") from error


def _remove(tx: Tx, host: Host, now: float) -> None:
    tx.execute("segment_host_remove", uuid=host.uuid)
    hosts.drop_spare(tx, host.name, now)


def _set_reserved(tx: Tx, name: str, cluster_port: str, reserved: bool, was_reserved: bool, now: float) -> None:
    if reserved and not was_reserved:
        with contextlib.suppress(Duplicate):
            tx.execute("spare_add", create_at=sql_time(now), cluster_port=cluster_port, hostname=name)
        wake_waiting(tx, cluster_port, now)
    elif was_reserved and not reserved:
        hosts.drop_spare(tx, name, now)


def wake_waiting(tx: Tx, cluster_port: str, now: float) -> None:
    """Recoveries that wait for a spare of this segment look at once."""
    rows = tx.all("recovery_open_in", cluster_port=cluster_port)
    store.wake(tx, [row["id"] for row in rows if row["hold"] == "no_spare"], now)


def _cleared_at(tx: Tx, host: Host) -> float:
    [row] = tx.all("segment_host_of_names", hostnames=[host.name])
    return float(row["cleared_at"])


def _refuse_busy_segment(tx: Tx, one: Segment) -> None:
    """The same for a segment: also of its hosts that are registered nowhere."""
    _refuse_busy(tx, [row["hostname"] for row in tx.all("segment_host_in", cluster_port=one.cluster_port)], one.name)
    rows = tx.all("recovery_open_in", cluster_port=one.cluster_port)
    _refuse_for(rows, one.name)


def _refuse_busy(tx: Tx, names: Collection[str], subject: str) -> None:
    """Raise SegmentConflict while a recovery is about one of these hosts, or uses one as its spare."""
    wanted = sorted(set(names))
    _refuse_for(tx.all("recovery_open_about", hostnames=wanted, targets=wanted) if wanted else [], subject)


def _refuse_for(rows: Iterable[Mapping[str, Any]], subject: str) -> None:
    for row in rows:
        # A return needs nothing of what may be changed, and may wait for ever for a host that stays off.
        if row["kind"] != "return":
            told = f"recovery {row['id']} ({row['kind']}, {row['status']}) of {row['hostname']}"
            raise SegmentConflict(f"{subject} is busy with {told}; once that has ended it can be changed")
