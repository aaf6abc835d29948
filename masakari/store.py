"""Recoveries, their instances and their journal in the database. Functions of a transaction; decisions are made elsewhere."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from masakari.common.errors import LeaseLost
from masakari.common.text import sql_time
from masakari.database import Tx
from masakari.model import FINAL, PROGRESS, RECOVER_BY, Instance, Recovery
from masakari.nova import Server

DUE_AT_ONCE = 50

INSTANCE_PROGRESS = {"new": 0, "running": 1, "finished": 2, "failed": 3, "skipped": 4}


@dataclass(frozen=True, slots=True)
class Event:
    """A line of the journal. kind: opened, joined, transition, intent, answer, decision, operator."""

    kind: str
    what: str
    reason: str
    uuid: str | None
    request_id: str | None
    at: float


def due(tx: Tx) -> list[int]:
    """Ids of recoveries that may be claimed now, DUE_AT_ONCE at most."""
    return [row["id"] for row in tx.all("recovery_due", many=DUE_AT_ONCE)]


def next_due_s(tx: Tx) -> float:
    """In how many seconds the next recovery gets due; those that are due already don't count. Infinite for none."""
    wait_s: float | None = tx.all("recovery_next_due")[0]["wait_s"]
    return math.inf if wait_s is None else wait_s


def claim(tx: Tx, recovery_id: int, owner: str, lease_s: float) -> Recovery | None:
    """Take a recovery for a lease; None when somebody else was faster."""
    if not tx.execute("recovery_claim", id=recovery_id, owner=owner, lease_s=lease_s):
        return None
    return get(tx, recovery_id)


def get(tx: Tx, recovery_id: int) -> Recovery | None:
    """One recovery, None if there is none."""
    row = tx.one("recovery_by_id", id=recovery_id)
    return Recovery.of(row) if row else None


def revisit(tx: Tx, recovery: Recovery) -> Recovery:
    """The claimed recovery as it is now. Raises LeaseLost when it is no longer ours."""
    now = get(tx, recovery.id)
    if now is None or now.epoch != recovery.epoch or now.owner != recovery.owner:
        raise LeaseLost(f"recovery {recovery.id}")
    return now


def guard(tx: Tx, recovery: Recovery, lease_s: float) -> None:
    """The first statement of every write of a worker; renews the lease. Raises LeaseLost."""
    if not tx.execute("recovery_guard", id=recovery.id, epoch=recovery.epoch, owner=recovery.owner, lease_s=lease_s):
        raise LeaseLost(f"recovery {recovery.id}")


def remember(tx: Tx, recovery: Recovery) -> None:
    """Store what a recovery must not forget, behind a guard in the same transaction."""
    tx.execute("recovery_remember", id=recovery.id, data=json.dumps(recovery.data))


def save(tx: Tx, before: Recovery, after: Recovery, now: float, wait_s: float, lease_s: float | None) -> None:
    """Store what a step returned and the 2015 progress with it. `lease_s` None gives the claim back.

    Raises LeaseLost, also when it would be final and a report joined, or an operator spoke, since it was read: the step has
    to look again.
    """
    final = after.status in FINAL
    saved = tx.execute(
        "recovery_save",
        id=before.id,
        epoch=before.epoch,
        owner=before.owner,
        wakes=before.wakes,
        status=after.status,
        step=after.step,
        hold=after.hold,
        reason=after.reason,
        data=json.dumps(after.data),
        target=after.target,
        tries=after.tries,
        step_at=after.step_at,
        now=now,
        final=int(final),
        finished_at=now if final else None,
        wait_s=wait_s,
        keep=int(lease_s is not None),
        lease_s=lease_s or 0,
    )
    if not saved:
        raise LeaseLost(f"recovery {before.id}")
    if (after.status, after.target) != (before.status, before.target):
        set_progress(tx, after, now)


def set_progress(tx: Tx, recovery: Recovery, now: float) -> None:
    """The progress columns of 2015, always in the transaction that changes the status."""
    tx.execute(
        "progress_reports",
        recovery_id=recovery.id,
        progress=PROGRESS[recovery.status],
        update_at=sql_time(now),
        recover_to=recovery.target,
    )
    final = recovery.status in FINAL
    if recovery.kind == "instance" or final:
        status = {"finished": "finished", "failed": "failed"}.get(recovery.status, "skipped") if final else "running"
        tx.execute(
            "progress_instances",
            recovery_id=recovery.id,
            progress=PROGRESS[recovery.status],
            status=status,
            reason=recovery.reason,
            update_at=sql_time(now),
            final=int(final),
            now=now,
        )


def journal(tx: Tx, recovery: Recovery, actor: str, events: Sequence[Event]) -> None:
    """Append lines to the story of a recovery."""
    if events:
        tx.execute_many(
            "event_add",
            [
                {
                    "recovery_id": recovery.id,
                    "uuid": event.uuid,
                    "at": event.at,
                    "actor": actor,
                    "epoch": recovery.epoch,
                    "step": recovery.step,
                    "kind": event.kind,
                    "what": event.what[:255],
                    "reason": event.reason[:2000],
                    "request_id": event.request_id,
                }
                for event in events
            ],
        )


def add(
    tx: Tx,
    kind: str,
    hostname: str,
    cluster_port: str,
    now: float,
    *,
    step: str,
    uuid: str | None = None,
    process: str | None = None,
    status: str = "new",
    hold: str | None = None,
    reason: str = "",
    data: dict[str, Any] | None = None,
    wait_s: float = 0.0,
) -> int:
    """Open a recovery; its id. Raises Duplicate when that host, instance or process has an active one."""
    return tx.insert(
        "recovery_add",
        kind=kind,
        hostname=hostname,
        uuid=uuid,
        process=process,
        cluster_port=cluster_port,
        status=status,
        step=step,
        hold=hold,
        reason=reason[:1000],
        now=now,
        wait_s=wait_s,
        active_key=active_key(kind, hostname, uuid, process),
        data=json.dumps(data or {}),
    )


def active_key(kind: str, hostname: str, uuid: str | None = None, process: str | None = None) -> str:
    """What only one recovery at a time may work on."""
    if kind == "instance":
        return f"instance:{uuid}"
    if kind == "process":
        return f"process:{hostname}:{process}"
    return f"{kind}:{hostname}"


def active(tx: Tx, keys: Iterable[str]) -> dict[str, Recovery]:
    """The active recoveries among these keys."""
    rows = tx.all("recovery_by_key", keys=list(keys))
    return {row["active_key"]: Recovery.of(row) for row in rows}


def active_ids(tx: Tx, keys: Sequence[str]) -> dict[str, int]:
    """The ids of the active recoveries among these keys."""
    return {row["active_key"]: row["id"] for row in tx.all("recovery_ids_by_key", keys=keys)}


def wake(tx: Tx, ids: Sequence[int], now: float) -> bool:
    """Have these recoveries looked at at once; False when one of them has ended meanwhile."""
    return not ids or tx.execute("recovery_wake", ids=list(ids), now=now) == len(ids)


def instances(tx: Tx, recovery_id: int) -> list[Instance]:
    """The instances of a recovery, in the order of evacuation."""
    return [Instance.of(row) for row in tx.all("instance_list", recovery_id=recovery_id)]


def active_instances(tx: Tx, uuids: Iterable[str]) -> dict[str, tuple[Instance, str]]:
    """Which of these instances a recovery acts on now: uuid -> (row, kind of that recovery)."""
    rows = tx.all("instance_active", keys=[f"instance:{uuid}" for uuid in uuids])
    return {row["uuid"]: (Instance.of(row), row["recovery_kind"]) for row in rows}


def instance_row(
    uuid: str,
    name: str,
    recovery_id: int,
    kind: str,
    now: float,
    *,
    status: str = "new",
    reason: str = "",
    priority: int = 0,
    was: dict[str, Any] | None = None,
    report_id: str | None = None,
) -> dict[str, Any]:
    """The values of a new row of vm_list; a skipped one holds no key."""
    is_open = status in ("new", "running")
    return {
        "create_at": sql_time(now),
        "deleted": 0,
        "uuid": uuid,
        "progress": INSTANCE_PROGRESS[status],
        "notification_id": report_id,
        "recover_by": RECOVER_BY[kind],
        "recovery_id": recovery_id,
        "active_key": f"instance:{uuid}" if is_open else None,
        "name": name[:255],
        "status": status,
        "reason": reason[:1000],
        "priority": priority,
        "was": json.dumps(was or {}),
        "finished_at": None if is_open else now,
    }


def take_over(
    tx: Tx, instance: Instance, server: Server, recovery: Recovery, priority: int, was: dict[str, Any], now: float
) -> None:
    """A host recovery takes an instance from its instance recovery, with the request that may be in flight for it."""
    tx.execute(
        "instance_move",
        id=instance.id,
        recovery_id=recovery.id,
        name=server.name[:255],
        priority=priority,
        was=json.dumps(was),
        reason=f"taken over from recovery {instance.recovery_id}",
        update_at=sql_time(now),
    )
    covered = f"covered by recovery {recovery.id} of host {recovery.hostname}"
    old = get(tx, instance.recovery_id)
    if old is not None and tx.execute("recovery_end", id=old.id, status="ignored", reason=covered, now=now):
        tx.execute(
            "progress_reports",
            recovery_id=old.id,
            progress=PROGRESS["ignored"],
            update_at=sql_time(now),
            recover_to=None,
        )
        journal(
            tx,
            old,
            "controller",
            [Event("transition", f"{old.status}/{old.step} -> ignored", covered, None, None, now)],
        )


def intend_instance(
    tx: Tx, instance: Instance, action: str, target: str | None, migration_seen: int, now: float
) -> None:
    """What Nova is about to be asked for one instance. Raises LeaseLost when the instance is no longer ours."""
    if not tx.execute(
        "instance_intend",
        id=instance.id,
        action=action,
        action_target=target,
        now=now,
        migration_seen=migration_seen,
        update_at=sql_time(now),
    ):
        raise LeaseLost(f"instance {instance.uuid}")


def answer_instance(tx: Tx, instance_id: int, answer: str, request_id: str | None) -> None:
    """What Nova answered: accepted, or maybe."""
    tx.execute("instance_answer", id=instance_id, answer=answer, request_id=request_id)


def again_instance(tx: Tx, instance_id: int, reason: str, now: float) -> None:
    """A try ended without success; the next one may follow after a pause counted from now."""
    tx.execute("instance_again", id=instance_id, reason=reason[:1000], now=now, update_at=sql_time(now))


def unsend_instance(tx: Tx, instance: Instance) -> None:
    """Take back an intent whose request surely was not sent."""
    tx.execute("instance_unsend", id=instance.id, action=instance.action, answer=instance.action_answer)


def end_instance(tx: Tx, instance_id: int, status: str, reason: str, recover_to: str | None, now: float) -> None:
    """Final for one instance: finished, failed or skipped."""
    tx.execute(
        "instance_end",
        id=instance_id,
        status=status,
        progress=INSTANCE_PROGRESS[status],
        reason=reason[:1000],
        recover_to=recover_to,
        now=now,
        update_at=sql_time(now),
    )
