"""An operator tries a recovery again. What is remembered over a retry, and what must not be, is decided here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from masakari import store
from masakari.admin import (
    RETRIABLE,
    Answer,
    Operator,
    Refused,
    change,
    done,
    existing,
    give_word,
    look_at,
    paused_note,
    remedy_of,
    write_journal,
)
from masakari.database import Duplicate, Tx
from masakari.model import OPEN, Instance, Recovery
from masakari.steps import FIRST


def retry(operator: Operator, recovery_id: int, attested: bool = False, note: str = "") -> Answer:
    """Try a failed or cancelled recovery again from its beginning, or what is held for local disks.

    A host must be proven off again: proofs and requests of the first try don't count. `attested` adds the operator's word
    for that in the same transaction. Raises Refused when a later recovery has the say, or one is active.
    """

    def act(tx: Tx, now: float) -> str:
        row = existing(tx, recovery_id)
        recovery = Recovery.of(row)
        if attested and recovery.kind != "host":
            raise Refused(f"recovery {recovery.id} is of kind {recovery.kind}: only a host can be attested to be off")
        if recovery.status in OPEN:
            told = _go_on(tx, operator, recovery, attested, now)
        else:
            told = _again(tx, operator, row, now)
        if attested:
            give_word(tx, operator, replace(recovery, step=FIRST["host"]), note, now)
        return told + paused_note(tx, recovery.cluster_port, now)

    return done(f"{change(operator, act)}. {look_at(recovery_id)}", recovery=recovery_id)


def _go_on(tx: Tx, operator: Operator, recovery: Recovery, attested: bool, now: float) -> str:
    """Retry of an open recovery: only where a hold says so."""
    if recovery.hold == "local_disk":
        failed = [instance for instance in store.instances(tx, recovery.id) if instance.status == "failed"]
        many, left = _reopen(tx, failed)
        reason = f"retried by {operator.name}"
        seized = {"status": "running", "step": "evacuate", "hold": None, "reason": reason}
        if not tx.execute("recovery_seize", id=recovery.id, now=now, **seized):
            raise Refused(f"recovery {recovery.id} has just ended; see recovery_manage.py show {recovery.id}")
        write_journal(tx, operator, recovery, "retry of what was held for local disks", f"{many} instances{left}", now)
        return f"recovery {recovery.id} ({recovery.subject}) tries {many} instances again{left}"
    if attested and recovery.hold in ("proof", "alive"):
        return f"recovery {recovery.id} ({recovery.subject}) is open, and goes on with the word of {operator.name}"
    if recovery.status == "held":
        raise Refused(f"recovery {recovery.id} is not failed but held ({recovery.hold}): {remedy_of(recovery)}")
    raise Refused(
        f"recovery {recovery.id} is {recovery.status}: let it end, or recovery_manage.py cancel {recovery.id}"
    )


def _again(tx: Tx, operator: Operator, row: dict[str, Any], now: float) -> str:
    """Reopen a final recovery with its instances, at its first step, remembering only what is still true."""
    recovery = Recovery.of(row)
    if recovery.status not in RETRIABLE:
        raise Refused(f"recovery {recovery.id} is {recovery.status}: only what failed or was cancelled is tried again")
    _refuse_later(tx, recovery)
    step = FIRST[recovery.kind]
    key = store.active_key(recovery.kind, recovery.hostname, recovery.uuid, recovery.process)
    if recovery.kind == "process" and recovery.step == "enable":
        step, key = "enable", f"{key} up"
    keep_spare = _still_has_spare(tx, recovery)
    reason = f"tried again by {operator.name}; before: {recovery.status}: {recovery.reason}"[:1000]
    data = json.dumps(_data_again(row, recovery, keep_spare))
    if not keep_spare:
        tx.execute("recovery_forget_target", id=recovery.id)
    try:
        if not tx.execute(
            "recovery_reopen", id=recovery.id, step=step, reason=reason, active_key=key, data=data, now=now
        ):
            raise Refused(f"recovery {recovery.id} has just been tried again by somebody else")
    except Duplicate as error:
        raise Refused(f"another recovery of {recovery.subject} is open; see recovery_manage.py list") from error
    # Tried again by an operator: never held for many failures.
    tx.execute("recovery_release", id=recovery.id, now=now)
    ended = [instance for instance in store.instances(tx, recovery.id) if instance.status in ("failed", "skipped")]
    many, left = _reopen(tx, ended)
    if left and recovery.kind == "instance":
        raise Refused(f"another recovery is at instance {recovery.uuid}; see recovery_manage.py list")
    after = replace(recovery, status="new", step=step, target=recovery.target if keep_spare else None)
    store.set_progress(tx, after, now)
    write_journal(tx, operator, after, f"retry, from {step}", f"{recovery.status}: {recovery.reason}", now)
    told = f"recovery {recovery.id} ({recovery.subject}) is tried again, from {step}"
    if recovery.kind == "host":
        told += f", with {many} of its instances{left}. That {recovery.hostname} is off must be proven again"
    return told


def _data_again(row: dict[str, Any], recovery: Recovery, keep_spare: bool) -> dict[str, Any]:
    """What a recovery remembers over a retry. Proofs, isolation and requests of the first try are not among it."""
    old = recovery.data
    if recovery.kind == "host":
        data: dict[str, Any] = {key: old[key] for key in ("boot_id", "report", "forced", "aggregates") if key in old}
        if old.get("first_sent_at") or old.get("sent_before"):
            # Its instances may be elsewhere: a cancel must not bring the host back.
            data["sent_before"] = True
        if keep_spare:
            # Enabled in the first try: if it is disabled by now, somebody did that by hand.
            data["spare_enabled"] = True
        return data
    if recovery.kind == "instance":
        # Our own requests of the first try must not look like somebody's who has seen to it since.
        return {**old, "failed_at": row["finished_at"]}
    return {} if recovery.kind == "return" else dict(old)


def _still_has_spare(tx: Tx, recovery: Recovery) -> bool:
    """Whether the spare of the first try is still its own: neither given back, nor listed anew, nor in use elsewhere."""
    if recovery.kind != "host" or not recovery.target:
        return False
    own = tx.one("spare_of", recovery_id=recovery.id, hostname=recovery.target)
    return (
        own is not None
        and bool(own["deleted"])
        and not tx.all("spare_listed", hostname=recovery.target)
        and not tx.all("spare_serving", hostname=recovery.target)
    )


def _refuse_later(tx: Tx, recovery: Recovery) -> None:
    """Raise Refused when what happened after a recovery makes its retry wrong."""
    for row in _later(tx, recovery):
        if row["status"] in OPEN:
            raise Refused(
                f"recovery {row['id']} ({row['kind']}) of {recovery.hostname} is open: let it end, or cancel it"
            )
        if row["status"] == "finished" or (row["status"] == "failed" and row["kind"] == recovery.kind):
            raise Refused(
                f"recovery {row['id']} ({row['kind']}, {row['status']}) of the same subject is newer than "
                f"{recovery.id}; only the newest can be tried again"
            )


def _later(tx: Tx, recovery: Recovery) -> list[dict[str, Any]]:
    """Newer recoveries of the same subject; for a host its return counts, and any that is open."""
    if recovery.kind == "instance":
        return tx.all("recovery_newer_instance", uuid=recovery.uuid, id=recovery.id)
    host = recovery.hostname
    if recovery.kind == "process":
        rows = tx.all("recovery_newer_host", hostname=host, kinds=["process"], id=recovery.id)
        return [row for row in rows if row["process"] == recovery.process]
    active = tx.all("recovery_by_key", keys=[f"host:{host}", f"return:{host}"])
    return active + tx.all("recovery_newer_host", hostname=host, kinds=["host", "return"], id=recovery.id)


def _reopen(tx: Tx, instances: Sequence[Instance]) -> tuple[int, str]:
    """Reopen rows of instances; how many, and a remark on those that another recovery is at."""
    left = []
    for instance in instances:
        try:
            tx.execute("instance_reopen", id=instance.id, active_key=f"instance:{instance.uuid}")
        except Duplicate:
            left.append(instance.name)
    remark = f" ({', '.join(left[:5])} left as they are: another recovery is at them)" if left else ""
    return len(instances) - len(left), remark
