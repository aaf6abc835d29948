"""What the database knows of hosts: evidence, boots, disables, spares, segments. Functions of a transaction."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from masakari.common.guid import same_guid
from masakari.common.text import sql_time
from masakari.database import Tx
from masakari.model import Evidence, Recovery
from masakari.proof import LIFE_KINDS, PROOF_KINDS, SAID_TOGETHER_S

ALL_SEGMENTS = "*"
READ_FROM_BMC = ("power_off", "power_on")


@dataclass(frozen=True, slots=True)
class Known:
    """The stored facts about one host, as of one transaction.

    `wrong_bmc`: what was read from a BMC that is not its own, which says nothing about it. `named_itself`: it has told of itself
    under this name.
    """

    proofs: tuple[Evidence, ...]
    life: tuple[Evidence, ...]
    wrong_bmc: tuple[Evidence, ...]
    named_itself: bool
    own_write_at: float
    own_write_open_at: float
    boot_id: str | None
    up_at: float
    boot_told_at: float
    down_reported_at: float


def known(tx: Tx, hostname: str, since: float) -> Known:
    """Everything a verdict on a host needs; `since` bounds the search for reports that it is down."""
    host = tx.one("host_known", hostnames=[hostname])
    own_guid = (host or {}).get("bmc_guid") or ""
    read = [_statement(tx, hostname, row) for row in tx.all("evidence_newest", hostname=hostname)]
    judged = [judge_bmc(evidence, hostname, own_guid) for evidence in read]
    told = _newest(judged)
    newest = {evidence.kind: evidence.at for evidence in told}
    callback = tx.one("report_alive", hostname=hostname)
    life = [evidence for evidence in told if evidence.kind in LIFE_KINDS]
    if callback and callback["at"] is not None:
        life.append(Evidence("callback", callback["at"], hostname))
    down = tx.one("report_newest_down", hostname=hostname, since=since)
    return Known(
        proofs=tuple(e for e in told if e.kind in PROOF_KINDS),
        life=tuple(life),
        wrong_bmc=tuple(after for before, after in zip(read, judged, strict=True) if after is not before),
        named_itself=named_itself(host) or any(sign.kind == "callback" for sign in life),
        own_write_at=newest.get("own", 0.0),
        own_write_open_at=_open_write(newest),
        boot_id=host["boot_id"] if host else None,
        up_at=newest.get("up", 0.0),
        boot_told_at=newest.get("boot", 0.0),
        down_reported_at=(down or {}).get("at") or 0.0,
    )


def _open_write(newest: dict[str, float]) -> float:
    """When a write of ours to the host's service was begun whose end nobody recorded; 0 for none."""
    begun = newest.get("own_open", 0.0)
    return begun if begun > newest.get("own_done", 0.0) else 0.0


def judge_bmc(evidence: Evidence, hostname: str, own_guid: str) -> Evidence:
    """Evidence as it is, or as unknown if it was read from another BMC than the one the host told to be its own."""
    if evidence.kind not in READ_FROM_BMC or not own_guid or not evidence.guid or same_guid(evidence.guid, own_guid):
        return evidence
    return replace(
        evidence,
        kind="unknown",
        detail=f"wrong BMC: the one that {evidence.observer or 'the observer'} read ({evidence.kind}) has the GUID "
        f"{evidence.guid}, but {hostname} told that the GUID of its own is {own_guid}",
    )


def _newest(evidence: Iterable[Evidence]) -> list[Evidence]:
    """The newest of each kind."""
    found: dict[str, Evidence] = {}
    for one in evidence:
        if one.kind not in found or one.at > found[one.kind].at:
            found[one.kind] = one
    return list(found.values())


def _statement(tx: Tx, hostname: str, newest: Mapping[str, Any]) -> Evidence:
    kind, at, guid = newest["kind"], newest["at"], newest["guid"]
    row = tx.one("evidence_at", hostname=hostname, kind=kind, at=at, guid=guid) or {}
    return Evidence(kind, at, row.get("observer") or "", row.get("detail") or "", guid)


def words_on(tx: Tx, hostname: str, recovery_id: int, since: float) -> list[Evidence]:
    """Why observers can't tell the power of a host, as they say since that time; else what their reports that it is down say."""
    reports = tx.all("report_newest_words", recovery_id=recovery_id)
    lately = max((row["at"] for row in reports), default=since) - SAID_TOGETHER_S
    rows = tx.all("evidence_unknown", hostname=hostname, since=max(since, lately))
    if rows:
        return [Evidence(row["kind"], row["at"], row["observer"] or "", row["detail"]) for row in rows]
    told = [(row, json.loads(row["body"]).get("reason")) for row in reports]
    return [
        Evidence("unknown", row["at"], row["observer"] or "", words) for row, words in told if isinstance(words, str)
    ]


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
        "guid": evidence.guid,
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


def hold(tx: Tx, hostname: str) -> None:
    """Until the transaction ends nobody changes how this host is registered; what is read of that afterwards stays so."""
    tx.execute("segment_beat_of", hostname=hostname)


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
    if any(row["on_maintenance"] for row in tx.all("segment_host_of_names", hostnames=[hostname])):
        return "it is on maintenance"
    return ""


def members(tx: Tx, cluster_port: str, key_hosts: Iterable[str]) -> set[str]:
    """The hosts of a segment that are known by any means: reports, observers, spares, keys."""
    rows = tx.all("report_observers", cluster_port=cluster_port)
    # A host that was reported under two names is one member.
    aliases = {row["pacemaker_name"] for row in rows if row["pacemaker_name"] != row["hostname"]}
    names = {row["hostname"] for row in rows if named_itself(row) or row["hostname"] not in aliases}
    names |= {row["hostname"] for row in tx.all("spare_list", cluster_port=cluster_port)}
    names |= set(key_hosts)
    elsewhere = {
        row["hostname"]
        for row in (tx.all("segment_host_of_names", hostnames=sorted(names)) if names else ())
        if row["cluster_port"] != cluster_port
    }
    return (names - elsewhere) | {row["hostname"] for row in tx.all("segment_host_in", cluster_port=cluster_port)}


def named_itself(row: Mapping[str, Any] | None) -> bool:
    """Whether a host told of itself that this is its name, as its row of known_host says."""
    return row is not None and bool(row["boot_id"] or row["declared_at"] is not None)


def ever_reported(tx: Tx, hostname: str) -> bool:
    """Whether a trusted report of a host about itself is on record."""
    found = tx.one("report_alive", hostname=hostname)
    return found is not None and found["at"] is not None


def declared(tx: Tx, places: Collection[tuple[str, str]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """By (cluster_port, name): the rows of the hosts that told that pacemaker calls them so.

    Names that differ only in case count where none is the same.
    """
    if not places:
        return {}
    rows = tx.all(
        "host_declared",
        cluster_ports=sorted({cluster_port for cluster_port, _ in places}),
        names=sorted({name.lower() for _, name in places}),
    )
    found = {}
    for place in places:
        alike = [r for r in rows if (r["cluster_port"], r["pacemaker_name"].lower()) == (place[0], place[1].lower())]
        found[place] = [row for row in alike if row["pacemaker_name"] == place[1]] or alike
    return found


def recovery_method(tx: Tx, cluster_port: str, default: str) -> str:
    """The recovery method of a segment: its own, or the configured one."""
    row = tx.one("segment_get", cluster_port=cluster_port)
    return str(row["recovery_method"]) if row and row["recovery_method"] else default
