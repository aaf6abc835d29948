"""Filing host failures and signs of life: which recovery a report belongs to, decided on facts of the same transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from masakari import admission, hosts, proof, store
from masakari.common.errors import LeaseLost
from masakari.common.notification import Notification
from masakari.common.text import utc
from masakari.config import Settings
from masakari.database import Tx
from masakari.failures import Failure
from masakari.model import Evidence, Recovery
from masakari.steps import FIRST

BEFORE_REQUESTS = ("prove", "isolate", "reserve", "enable_target", "list", "evacuate")
"""Steps in which a host recovery may not have requested anything yet."""

KEYSTONE = "keystone:"
"""Before the name of an account of Keystone, where otherwise the id of a key stands: such an account is of no cluster."""

UNSIGNED = "unsigned callback: nothing is done until it is released"


@dataclass(frozen=True, slots=True)
class Item:
    """One report on its way in, under Nova's name of its host. `receipt`: when it came, Unix seconds.

    `reported_as`: the other name that it was reported under, if so. `declared_guid`: the GUID of the BMC that the host told
    to be its own, if it did. `segment`: the key of the segment its host is registered in; `ignored`: why reports about that
    host are ignored.
    """

    notification: Notification
    failure: Failure
    trusted: bool
    key_id: str | None
    receipt: float
    reported_as: str = ""
    declared_guid: str = ""
    segment: str = ""
    ignored: str = ""

    @property
    def told_by(self) -> str:
        """Who says so: the observer, or else the account of Keystone; empty for an unnamed monitor."""
        by_account = (self.key_id or "").startswith(KEYSTONE)
        return self.notification.observer or (self.key_id or "" if by_account else "")

    @property
    def cluster_port(self) -> str:
        """The key of the segment it belongs to: where its host is registered, or else as it says itself."""
        return self.segment or self.notification.cluster_port

    @property
    def self_report(self) -> bool:
        """Sent by the host it is about: that host was alive when it was sent."""
        report = self.notification
        if report.type == "rscGroup":
            return bool(report.observer) and report.observer == report.hostname
        return True


@dataclass(frozen=True, slots=True)
class Filing:
    """What becomes of a report: opened, joined, ignored or noted; `status` is that of its recovery."""

    outcome: str
    reason: str
    recovery_id: int | None
    status: str = ""


@dataclass(frozen=True, slots=True)
class Context:
    """What a decision needs besides the database: settings, hosts with keys by segment, the time."""

    settings: Settings
    key_hosts: Mapping[str, set[str]]
    now: float


def dumps(data: Mapping[str, Any]) -> str:
    """What a recovery remembers, as it is stored."""
    return json.dumps(dict(data))


def sql_local(text: str | None) -> str | None:
    """YYYYmmddHHMMSS of the node's zone as a DATETIME, as 2015 stored it."""
    if not text:
        return None
    return f"{text[0:4]}-{text[4:6]}-{text[6:8]} {text[8:10]}:{text[10:12]}:{text[12:14]}"


def opened_event(recovery_id: int, item: Item, now: float) -> dict[str, Any]:
    """The first line of a recovery's story."""
    report = item.notification
    told = f"report {report.id} by {item.told_by or report.hostname}"
    return {
        "recovery_id": recovery_id,
        "uuid": report.uuid or None,
        "at": now,
        "actor": "intake",
        "epoch": 0,
        "step": "",
        "kind": "opened",
        "what": item.failure.reason[:255],
        "reason": told,
        "request_id": None,
    }


def wake(tx: Tx, ids: Sequence[int], now: float) -> None:
    """A report joins these recoveries. Raises LeaseLost when one has ended since it was read: a report must not join that."""
    if not store.wake(tx, ids, now):
        raise LeaseLost(f"one of the recoveries {ids} has ended meanwhile")


def evidence_of(item: Item, settings: Settings) -> list[Evidence]:
    """Every statement a report makes about its host being off or alive."""
    report, kind = item.notification, item.failure.kind
    by = report.observer
    latest = item.receipt + settings.safety.clock_tolerance_s
    told = [
        # A proof from the future is none: no sign of life could ever be newer.
        Evidence(
            "unknown" if e.at > latest and e.kind in proof.PROOF_KINDS else e.kind,
            min(e.at, item.receipt),
            by,
            e.detail,
            e.guid,
        )
        for e in report.evidence
        if report.type == "rscGroup"
    ]
    told = [hosts.judge_bmc(evidence, report.hostname, item.declared_guid) for evidence in told]
    if report.last_alive is not None and report.type == "rscGroup":
        told.append(Evidence("last_alive", min(report.last_alive, item.receipt), by))
    if kind == "sign_of_life":
        told_at = min(report.utc_time or item.receipt, item.receipt)
        # What another host saw may have waited in its spool; a host that sends is up at that moment.
        told.append(Evidence("up", item.receipt if item.self_report else told_at, by or report.hostname))
        if item.self_report and report.boot_id:
            told.append(Evidence("boot", told_at, report.hostname, report.boot_id))
    numbers = (report.event_id, report.event_type, report.detail)
    believed = any(key in settings.safety.detail_2_is_proof for key in (report.cluster_port, item.cluster_port))
    if kind == "host" and numbers == ("1", "2", "2") and believed and not report.evidence and not by:
        told.append(
            Evidence("power_off", item.receipt, item.cluster_port, "detail 2 of a monitor that checks by IPMI")
        )
    return told


def file(tx: Tx, item: Item, context: Context) -> Filing:
    """A host failure: join the active recovery, or be admitted, held or ignored."""
    report, now = item.notification, context.now
    key = store.active_key("host", report.hostname)
    active = store.active(tx, [key]).get(key)
    if active is None and item.ignored:
        return Filing("ignored", item.ignored, None)
    if active is None and item.trusted and (ended := _ended(tx, item, context)):
        return ended
    if item.trusted:
        hosts.drop_spare(tx, report.hostname, now)
    superseded = active is not None and item.trusted and not item.ignored and unsigned(active)
    if active is not None and superseded:
        supersede(tx, active, report.id, now)
    elif active is not None:
        return _join(tx, active, item, now)
    facts = _facts(tx, item, context)
    if superseded:
        facts = replace(facts, last_recovery=None)
    decision = admission.decide(facts, now, _rules(context.settings))
    reason = f"{decision.reason}; reported as {item.reported_as}" if item.reported_as else decision.reason
    if decision.verb == admission.IGNORE:
        return Filing("ignored", reason, None)
    held = decision.verb == admission.HOLD
    if decision.hold == "many":
        _hold_others(tx, item.cluster_port, decision.reason, context)
    recovery_id = _open(tx, item, decision, held, now)
    return Filing("opened", reason, recovery_id, "held" if held else "new")


def _ended(tx: Tx, item: Item, context: Context) -> Filing | None:
    """What becomes of a report about a failure that is over: it adds to a recovery that has ended, or has waited for so long
    that the host has told since that it runs."""
    report, safety = item.notification, context.settings.safety
    recovery = store.get(tx, report.recovery) if report.recovery else None
    if recovery and (recovery.kind, recovery.hostname) == ("host", report.hostname):
        told = f"adds to recovery {recovery.id}, which has ended ({recovery.status}): {recovery.reason}"
        return Filing("ignored", told, recovery.id, recovery.status)
    noticed_at = report.utc_time or context.now
    told_at = hosts.known(tx, report.hostname, context.now - safety.failure_window_s).boot_told_at
    if told_at > noticed_at + safety.clock_tolerance_s:
        return Filing(
            "ignored", f"noticed at {utc(noticed_at)}; {report.hostname} told at {utc(told_at)} that it is up", None
        )
    return None


def unsigned(recovery: Recovery) -> bool:
    """Whether a recovery rests on unsigned callbacks alone, and nobody has released it."""
    return recovery.hold == "callback" and not recovery.released


def supersede(tx: Tx, recovery: Recovery, report_id: str, now: float) -> None:
    """End a recovery that has asked for nothing, since a better report opens another one in this transaction."""
    reason = f"superseded by report {report_id}"
    if not tx.execute("recovery_end", id=recovery.id, status="ignored", reason=reason, now=now):
        raise LeaseLost(f"recovery {recovery.id} has ended meanwhile")
    store.set_progress(tx, replace(recovery, status="ignored", reason=reason), now)
    told = f"{recovery.status}/{recovery.step} -> ignored"
    store.journal(tx, recovery, "intake", [store.Event("transition", told, reason, None, None, now)])


def _join(tx: Tx, active: Recovery, item: Item, now: float) -> Filing:
    reason = f"{item.failure.reason}; joins recovery {active.id}"
    if item.trusted:
        wake(tx, [active.id], now)
    told = f"report {item.notification.id} by {item.told_by or 'an unnamed monitor'}"
    store.journal(tx, active, "intake", [store.Event("joined", item.failure.reason, told, None, None, now)])
    return Filing("joined", reason, active.id, active.status)


def _open(tx: Tx, item: Item, decision: admission.Decision, held: bool, now: float) -> int:
    report = item.notification
    known = tx.all("host_known", hostnames=[report.hostname])
    data = {"boot_id": known[0]["boot_id"] if known else None, "report": report.id}
    recovery_id = store.add(
        tx,
        "host",
        report.hostname,
        item.cluster_port,
        now,
        step="admit" if held else FIRST["host"],
        status="held" if held else "new",
        hold=decision.hold or None,
        reason=decision.reason,
        data=data,
    )
    tx.execute("event_add", **opened_event(recovery_id, item, now))
    admitted = {
        **opened_event(recovery_id, item, now),
        "kind": "decision",
        "what": decision.verb,
        "reason": decision.reason,
    }
    tx.execute("event_add", **admitted)
    return recovery_id


def _rules(settings: Settings) -> admission.Rules:
    safety = settings.safety
    return admission.Rules(
        safety.max_failed_hosts,
        safety.failure_window_s,
        safety.hold_proven,
        settings.recover_starter.notification_time_difference,
    )


def _facts(tx: Tx, item: Item, context: Context) -> admission.Facts:
    report, now, settings = item.notification, context.now, context.settings
    told = evidence_of(item, settings)
    known = hosts.known(tx, report.hostname, now - settings.safety.failure_window_s)
    last = tx.one("recovery_last", hostname=report.hostname)
    last_at = max(last["created_at"], last["finished_at"] or 0.0) if last else 0.0
    life = [sign for sign in (*known.life, *told) if sign.kind in proof.LIFE_KINDS]
    stored = max((p.at for p in known.proofs), default=0.0)
    return admission.Facts(
        hostname=report.hostname,
        proven=_proven(known, told, now, settings),
        trusted=item.trusted,
        failed_hosts=_failed(tx, item.cluster_port, context),
        members=hosts.members(tx, item.cluster_port, context.key_hosts.get(item.cluster_port, ())),
        last_recovery=last["id"] if last else None,
        last_at=last_at,
        new_evidence=any(e.kind in proof.PROOF_KINDS and e.at > stored for e in told),
        life_since_last=any(sign.at > (last["created_at"] if last else 0.0) for sign in life),
    )


def _proven(known: hosts.Known, told: list[Evidence], now: float, settings: Settings) -> bool:
    """Proof by what is stored and what this report says; Nova is asked later."""
    proofs = [*known.proofs, *(e for e in told if e.kind in proof.PROOF_KINDS)]
    life = [*known.life, *(e for e in told if e.kind in proof.LIFE_KINDS)]
    rules = proof.Rules(settings.safety.clock_tolerance_s, settings.safety.proof_valid_s)
    return proof.judge(proof.Facts(proofs, life), now, rules, requested=False).valid


def _failed(tx: Tx, cluster_port: str, context: Context) -> set[str]:
    since = context.now - context.settings.safety.failure_window_s
    rows = _window(tx, cluster_port, since)
    return {
        row["hostname"]
        for row in rows
        if row["status"] not in ("ignored", "cancelled") and not unsigned(Recovery.of(row))
    }


def _window(tx: Tx, cluster_port: str, since: float) -> list[dict[str, Any]]:
    """The host recoveries of a segment since then, also those from before its hosts were registered in it."""
    rows = {row["id"]: row for row in tx.all("recovery_window", cluster_port=cluster_port, since=since)}
    names = [row["hostname"] for row in tx.all("segment_host_in", cluster_port=cluster_port)]
    if names:
        rows |= {row["id"]: row for row in tx.all("recovery_window_of", hostnames=names, since=since)}
    return list(rows.values())


def _hold_others(tx: Tx, cluster_port: str, reason: str, context: Context) -> None:
    """Recoveries of the window that have requested nothing are held too; their worker is cut off, `admit` undoes their disable."""
    since = context.now - context.settings.safety.failure_window_s
    for row in _window(tx, cluster_port, since):
        other = Recovery.of(row)
        if (
            row["due_at"] is None
            or other.released
            or other.step not in BEFORE_REQUESTS
            or other.data.get("first_sent_at")
        ):
            continue
        known = hosts.known(tx, other.hostname, since)
        if _proven(known, [], context.now, context.settings) and not context.settings.safety.hold_proven:
            continue
        tx.execute(
            "recovery_seize",
            id=other.id,
            status="held",
            step="admit",
            hold="many",
            reason=reason[:1000],
            now=context.now,
        )
        store.set_progress(tx, replace(other, status="held"), context.now)
        store.journal(
            tx,
            other,
            "intake",
            [
                store.Event(
                    "transition", f"{other.status}/{other.step} -> held/admit (many)", reason, None, None, context.now
                )
            ],
        )


def file_sign_of_life(tx: Tx, item: Item, context: Context) -> Filing:
    """A host is up: wake its recovery, or open its return where [return] mode = auto asks for it."""
    report, now = item.notification, context.now
    key = store.active_key("host", report.hostname)
    active = store.active(tx, [key, store.active_key("return", report.hostname)])
    if key in active:
        if item.trusted:
            wake(tx, [active[key].id], now)
        reason = f"{item.failure.reason}; joins recovery {active[key].id}"
        return Filing("joined", reason, active[key].id, active[key].status)
    if not active and item.trusted and not item.ignored and context.settings.return_.mode == "auto":
        wishes = [d for d in hosts.disables(tx, report.hostname) if d.kind == "host" and d.seen]
        if wishes:
            wait_s = context.settings.return_.return_after_s
            recovery_id = store.add(
                tx,
                "return",
                report.hostname,
                item.cluster_port,
                now,
                step=FIRST["return"],
                wait_s=wait_s,
                reason=f"the host is up; it returns in {wait_s:.0f} s ([return] mode = auto)",
            )
            tx.execute("event_add", **opened_event(recovery_id, item, now))
            return Filing("opened", "the host is up: its return begins", recovery_id, "new")
    return Filing("noted", item.failure.reason, None)
