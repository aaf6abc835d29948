"""What the database knows of hosts: evidence, boots, disables, spares, segments. Functions of a transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from masakari.common.text import sql_time
from masakari.database import Tx
from masakari.model import Evidence, Recovery
from masakari.proof import LIFE_KINDS, PROOF_KINDS

ALL_SEGMENTS = "*"


@dataclass(frozen=True, slots=True)
class Known:
    """The stored facts about one host, as of one transaction."""

    proofs: tuple[Evidence, ...]
    life: tuple[Evidence, ...]
    own_write_at: float
    own_write_open_at: float
    boot_id: str | None
    up_at: float
    boot_told_at: float
    down_reported_at: float


def known(tx: Tx, hostname: str, since: float) -> Known:
    """Everything a verdict on a host needs; `since` bounds the search for reports that it is down."""
    newest = {row["kind"]: row["at"] for row in tx.all("evidence_newest", hostname=hostname)}
    told = [_statement(tx, hostname, kind, at) for kind, at in newest.items()]
    callback = tx.one("report_alive", hostname=hostname)
    life = [evidence for evidence in told if evidence.kind in LIFE_KINDS]
    if callback and callback["at"] is not None:
        life.append(Evidence("callback", callback["at"], hostname))
    host = tx.all("host_known", hostnames=[hostname])
    down = tx.one("report_newest_down", hostname=hostname, since=since)
    return Known(
        proofs=tuple(e for e in told if e.kind in PROOF_KINDS),
        life=tuple(life),
        own_write_at=newest.get("own", 0.0),
        own_write_open_at=_open_write(newest),
        boot_id=host[0]["boot_id"] if host else None,
        up_at=newest.get("up", 0.0),
        boot_told_at=newest.get("boot", 0.0),
        down_reported_at=(down or {}).get("at") or 0.0,
    )


def _open_write(newest: dict[str, float]) -> float:
    """When a write of ours to the host's service was begun whose end nobody recorded; 0 for none."""
    begun = newest.get("own_open", 0.0)
    return begun if begun > newest.get("own_done", 0.0) else 0.0


def _statement(tx: Tx, hostname: str, kind: str, at: float) -> Evidence:
    row = tx.one("evidence_at", hostname=hostname, kind=kind, at=at) or {}
    return Evidence(kind, at, row.get("observer") or "", row.get("detail") or "")


def evidence_row(
    hostname: str,
    cluster_port: str,
    evidence: Evidence,
    received_at: float,
    *,
    trusted: bool = True,
    report_id: int | None = None,
) -> dict[str, Any]:
    """The values of a row of host_evidence. A statement can't be about the time after it was received."""
    return {
        "hostname": hostname,
        "cluster_port": cluster_port,
        "kind": evidence.kind,
        "at": min(evidence.at, received_at),
        "received_at": received_at,
        "observer": evidence.observer,
        "detail": evidence.detail[:1000],
        "trusted": int(trusted),
        "report_id": report_id,
    }


def add_evidence(tx: Tx, recovery: Recovery, kind: str, at: float, now: float, detail: str = "") -> None:
    """What a controller saw or did itself. `nova` and `own` are times by Nova's clock, so `at` stays as it is.

    Our own writes move the updated_at of a service. `own_open` says that one was begun, `own_done` that it ended, `own` which
    updated_at it left behind; only a newer one is a sign of life.
    """
    row = evidence_row(recovery.hostname, recovery.cluster_port, Evidence(kind, at, "controller", detail), now)
    tx.execute("evidence_add", **{**row, "at": at})


@dataclass(frozen=True, slots=True)
class Disable:
    """One recovery's wish that nova-compute of a host be disabled."""

    recovery_id: int
    kind: str
    process: str | None
    open: bool
    was_enabled: bool
    seen: bool
    reason: str


def disables(tx: Tx, hostname: str) -> list[Disable]:
    """Which recoveries want this host disabled."""
    return [
        Disable(
            row["recovery_id"],
            row["kind"] or "",
            row["process"],
            row["due_at"] is not None,
            bool(row["was_enabled"]),
            row["seen_at"] is not None,
            row["reason"],
        )
        for row in tx.all("disable_list", hostname=hostname)
    ]


def want_disable(tx: Tx, recovery: Recovery, was_enabled: bool, reason: str, now: float) -> None:
    """Record the wish before Nova is asked; once per recovery."""
    if not any(d.recovery_id == recovery.id for d in disables(tx, recovery.hostname)):
        tx.execute(
            "disable_want",
            hostname=recovery.hostname,
            recovery_id=recovery.id,
            now=now,
            was_enabled=int(was_enabled),
            reason=reason[:255],
        )


def free_spares(tx: Tx, cluster_port: str) -> list[dict[str, Any]]:
    """The listed spares of a segment, oldest first: rows with id and hostname."""
    return tx.all("spare_list", cluster_port=cluster_port)


def take_spare(tx: Tx, spare_id: int, recovery_id: int, now: float) -> bool:
    """Allocate a spare; False when somebody else was faster."""
    return bool(tx.execute("spare_take", id=spare_id, recovery_id=recovery_id, delete_at=sql_time(now)))


def give_back_spare(tx: Tx, hostname: str, recovery_id: int, now: float) -> bool:
    """Put a spare that served nobody back on the list."""
    return bool(tx.execute("spare_give_back", hostname=hostname, recovery_id=recovery_id, update_at=sql_time(now)))


def drop_spare(tx: Tx, hostname: str, now: float) -> bool:
    """A failed host is nobody's spare any more; True when it was listed."""
    return bool(tx.execute("spare_drop", hostname=hostname, delete_at=sql_time(now)))


def spare_objection(
    tx: Tx, hostname: str, now: float, window_s: float, tolerance_s: float, for_recovery: int = 0
) -> str:
    """Why a host may not be used as a spare now, from what is stored of it; empty when it may (safety rule 5).

    `for_recovery`: the recovery that wants it, which may have it already.
    """
    serving = [row["id"] for row in tx.all("spare_serving", hostname=hostname) if row["id"] != for_recovery]
    if serving:
        return f"it serves recovery {serving[0]}"
    from_reports = known(tx, hostname, now - window_s)
    if tx.all("recovery_by_key", keys=[f"host:{hostname}", f"return:{hostname}"]):
        return "it has an open recovery itself"
    life = max((sign.at for sign in from_reports.life), default=0.0)
    if any(proof.at + tolerance_s > life for proof in from_reports.proofs if proof.at > now - 86400):
        return "there is evidence that it is off"
    if from_reports.down_reported_at > max(life, from_reports.up_at):
        return "it was reported down"
    if any(d.seen for d in disables(tx, hostname)):
        return "it is disabled for a recovery"
    return ""


def members(tx: Tx, cluster_port: str, key_hosts: Iterable[str]) -> set[str]:
    """The hosts of a segment that are known by any means: reports, observers, spares, keys."""
    names = {row["hostname"] for row in tx.all("report_observers", cluster_port=cluster_port)}
    names |= {row["hostname"] for row in tx.all("spare_list", cluster_port=cluster_port)}
    return names | set(key_hosts)


def see_hosts(tx: Tx, seen: Sequence[tuple[str, str, str | None, float]], now: float) -> None:
    """Remember hosts named in reports: (hostname, cluster_port, boot id it told of itself or None, when that was so).

    A report of an earlier boot that comes late is no news.
    """
    latest: dict[str, tuple[str, str | None, float]] = {}
    for hostname, cluster_port, boot_id, at in seen:
        _, boot_before, at_before = latest.get(hostname, ("", None, 0.0))
        newer = boot_id is not None and at >= at_before
        latest[hostname] = (cluster_port, boot_id if newer else boot_before, at if newer else at_before)
    rows = {row["hostname"]: row for row in tx.all("host_known", hostnames=list(latest))}
    new = []
    for hostname, (cluster_port, told_boot, at) in latest.items():
        row = rows.get(hostname)
        late = row is not None and at < (row["boot_seen_at"] or 0.0)
        boot_id = None if late else told_boot
        if row is None:
            new.append(
                {
                    "hostname": hostname,
                    "cluster_port": cluster_port,
                    "now": now,
                    "boot_id": boot_id,
                    "boot_seen_at": at if boot_id else None,
                }
            )
        elif (boot_id and boot_id != row["boot_id"]) or (cluster_port and cluster_port != row["cluster_port"]):
            tx.execute(
                "host_boot",
                hostname=hostname,
                boot_id=boot_id or row["boot_id"],
                now=at if boot_id else row["boot_seen_at"],
                cluster_port=cluster_port or row["cluster_port"],
            )
    if new:
        tx.execute_many("host_add", new)


def recovery_method(tx: Tx, cluster_port: str, default: str) -> str:
    """The recovery method of a segment: its own, or the configured one."""
    row = tx.one("segment_get", cluster_port=cluster_port)
    return str(row["recovery_method"]) if row and row["recovery_method"] else default
