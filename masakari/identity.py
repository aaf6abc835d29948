"""Whom a report is about: hosts as they told of themselves, and the names by which pacemaker knows them.

Nova's name of a host is the one it uses itself in its own reports. Pacemaker may call it otherwise, and then so do reports
of other hosts about it. Functions of the transaction of intake.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from masakari import hosts
from masakari.database import Tx
from masakari.failures import SIGN_OF_LIFE
from masakari.intake_host import KEYSTONE, Context, Item

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Told:
    """What a report tells of a host. `declares`: the host tells its name in pacemaker or its BMC itself."""

    hostname: str
    cluster_port: str
    at: float
    boot_id: str = ""
    declares: bool = False
    pacemaker_name: str = ""
    bmc_guid: str = ""


@dataclass(frozen=True, slots=True)
class Identified:
    """The reports of a batch, each under Nova's name of its host, and why some are refused, by report id."""

    items: list[Item]
    refused: dict[str, str]


def identify(tx: Tx, items: Sequence[Item], context: Context) -> Identified:
    """Say whom each report is about, and remember what the trusted ones tell of hosts."""
    names = sorted({item.notification.hostname for item in items})
    rows = {row["hostname"]: row for row in tx.all("host_known", hostnames=names)}
    items = _resolved(tx, items, rows, context)
    refused = {item.notification.id: why for item in items if (why := _outside(item, rows, context))}
    items = [item for item in items if item.notification.id not in refused]
    see(tx, [_told(item) for item in items if item.trusted], rows, context.now)
    return Identified([_as_declared(item, rows) for item in items], refused)


def see(tx: Tx, told: Iterable[Told], rows: dict[str, Row], now: float) -> None:
    """Store what is news of these hosts, also in `rows`, their rows of known_host as they were."""
    changed: dict[str, Row] = {}
    for one in sorted(told, key=lambda one: one.at):
        before = changed.get(one.hostname) or rows.get(one.hostname)
        after = learn(before, one, now)
        if after != before:
            changed[one.hostname] = after
    new = [row for hostname, row in changed.items() if hostname not in rows]
    for hostname, row in changed.items():
        if hostname in rows:
            tx.execute("host_told", **{name: value for name, value in row.items() if name != "first_seen_at"})
    if new:
        tx.execute_many("host_add", new)
    rows.update(changed)


def learn(before: Row | None, told: Told, now: float) -> Row:
    """Pure: the row of known_host after a report. What a host told in an earlier boot, and comes late, is no news."""
    row = dict(before or _unknown(told, now))
    other_boot = bool(told.boot_id) and told.boot_id != row["boot_id"]
    if other_boot and told.at < (row["boot_seen_at"] or 0.0):
        return row
    if other_boot:
        row.update(boot_id=told.boot_id, boot_seen_at=told.at)
    news = told.declares and told.at >= (row["declared_at"] or 0.0)
    if told.cluster_port and (news or row["declared_at"] is None):
        row.update(cluster_port=told.cluster_port)
    if news:
        # What it does not tell any more is forgotten only if it has booted since: its board may have been replaced.
        booted = bool(told.boot_id) and told.boot_id != row["declared_boot"]
        row.update(
            pacemaker_name=told.pacemaker_name or (None if booted else row["pacemaker_name"]),
            bmc_guid=told.bmc_guid or (None if booted else row["bmc_guid"]),
            declared_at=told.at,
            declared_boot=told.boot_id or row["declared_boot"],
        )
    return row


def _unknown(told: Told, now: float) -> Row:
    nothing = dict.fromkeys(
        ("boot_id", "boot_seen_at", "pacemaker_name", "bmc_guid", "declared_at", "declared_boot"), None
    )
    return {"hostname": told.hostname, "cluster_port": told.cluster_port, "first_seen_at": now, **nothing}


def _told(item: Item) -> Told:
    report = item.notification
    at = min(report.utc_time or item.receipt, item.receipt)
    if not item.self_report:
        return Told(report.hostname, report.cluster_port, at)
    declares = item.failure.kind == SIGN_OF_LIFE and bool(report.pacemaker_name or report.bmc_guid)
    return Told(
        report.hostname,
        report.cluster_port,
        at,
        report.boot_id,
        declares,
        report.pacemaker_name if declares else "",
        report.bmc_guid if declares else "",
    )


def _resolved(tx: Tx, items: Sequence[Item], rows: dict[str, Row], context: Context) -> list[Item]:
    """Reports about a name that no host has for its own, under the one host of the segment that pacemaker calls so."""
    places = {
        _place(item)
        for item in items
        if _about_another(item) and not hosts.named_itself(rows.get(item.notification.hostname))
    }
    doubtful = {place for place in places if not any(place[1] in names for names in context.key_hosts.values())}
    if not doubtful:
        return list(items)
    found = {place: rows_ for place, rows_ in hosts.declared(tx, doubtful).items() if len(rows_) == 1}
    # A host of 2015 tells no boot, but it reports of itself under this name.
    found = {place: rows_ for place, rows_ in found.items() if not hosts.ever_reported(tx, place[1])}
    rows.update({row["hostname"]: row for rows_ in found.values() for row in rows_})
    return [_renamed(item, found) if _about_another(item) else item for item in items]


def _about_another(item: Item) -> bool:
    return item.notification.type == "rscGroup" and not item.self_report


def _place(item: Item) -> tuple[str, str]:
    return item.notification.cluster_port, item.notification.hostname


def _renamed(item: Item, found: Mapping[tuple[str, str], Sequence[Row]]) -> Item:
    if _place(item) not in found:
        return item
    [row] = found[_place(item)]
    name, report = item.notification.hostname, replace(item.notification, hostname=row["hostname"])
    failure = replace(item.failure, reason=f"{item.failure.reason}, reported as {name}")
    return replace(item, notification=report, failure=failure, reported_as=name)


def _outside(item: Item, rows: Mapping[str, Row], context: Context) -> str:
    """Why a signed report is about a host outside its sender's cluster, by its key or by its own word; empty if it isn't."""
    report, row = item.notification, rows.get(item.notification.hostname)
    if item.key_id is None or item.key_id.startswith(KEYSTONE) or not _about_another(item):
        return ""
    clusters: Collection[str] = [port for port, names in context.key_hosts.items() if report.hostname in names]
    if not clusters and row is not None and row["declared_at"] is not None:
        clusters = [row["cluster_port"]]
    if not clusters or report.cluster_port in clusters:
        return ""
    return f"{report.hostname} is not in the cluster of {report.observer}, but in {', '.join(sorted(clusters))}"


def _as_declared(item: Item, rows: Mapping[str, Row]) -> Item:
    """The report with what its host told of itself. Evidence about another node than the host's own says nothing about it."""
    row = rows.get(item.notification.hostname)
    if row is None:
        return item
    told, own = item.notification.pacemaker_name, row["pacemaker_name"]
    if _about_another(item) and told and own and told.lower() != own.lower():
        why = f"it is about node {told}, but {row['hostname']} told that it is node {own} itself: see nova_hosts"
        evidence = tuple(
            replace(e, kind="unknown", detail=f"{why}; {e.detail}") if e.kind != "unknown" else e
            for e in item.notification.evidence
        )
        item = replace(item, notification=replace(item.notification, evidence=evidence))
    return replace(item, declared_guid=row["bmc_guid"] or "")
