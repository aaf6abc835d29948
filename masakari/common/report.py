"""The bodies of callbacks (pure), as docs/callback.md describes them. What is made here, notification.parse accepts."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from masakari.common.notification import MAX_LENGTH
from masakari.common.text import utc


@dataclass(frozen=True, slots=True)
class Origin:
    """Who reports: this host as Nova calls it, its region, its failover segment ("" if unknown), and its boot."""

    hostname: str
    region_id: str
    cluster_port: str
    boot_id: str


def new_id() -> str:
    """An id for a report: made before it is stored anywhere, and the same at each try."""
    return str(uuid.uuid4())


def instance_report(
    origin: Origin,
    report_id: str,
    instance: str,
    numbers: tuple[str, str, str],
    failed_at: float,
    noticed_at: float,
    reason: str,
) -> dict[str, Any]:
    """An instance of this host failed. numbers: eventID, eventType and detail.

    failed_at (Unix seconds) is the moment after which an action of a user makes the failure untrue: when it
    happened, or when the guest was last known to run if nobody saw it happen.
    """
    event_id, event_type, detail = numbers
    body = _body(origin, report_id, "VM", noticed_at)
    body.update(uuid=instance, eventID=event_id, eventType=event_type, detail=detail)
    body.update(utc_time=_exactly(failed_at), reason=reason[:MAX_LENGTH])
    return body


def process_report(
    origin: Origin, report_id: str, process: str, state: str, on_failure: str, at: float, reason: str
) -> dict[str, Any]:
    """A process of this host could not be restarted (state "down"), or runs again ("up").

    on_failure: "disable", or "report" when nothing is to be done about it. at: Unix seconds.
    """
    body = _body(origin, report_id, "nodeStatus", at)
    body.update(eventID="1", eventType="1", detail="1", startTime=body["time"], endTime=None)
    body.update(process=process[:MAX_LENGTH], state=state, on_failure=on_failure)
    body.update(utc_time=_exactly(at), reason=reason[:MAX_LENGTH])
    return body


def host_report(
    origin: Origin,
    report_id: str,
    host: str,
    node: str,
    detail: str,
    evidence: Sequence[Mapping[str, str]],
    last_alive: float | None,
    at: float,
    reason: str,
    recovery: str = "",
) -> dict[str, Any]:
    """Another host failed. host: its name for Nova; node: for pacemaker.

    detail: "2" with proof that it is off, "3" when its power is on, "4" when that is unknown. evidence: entries with kind, at,
    detail and, of a BMC that tells one, guid. last_alive: when this host last saw it as a member (Unix seconds; None: never).
    recovery: the number of the recovery to which this only adds evidence; no other one is opened by it.
    """
    body = _about_host(origin, report_id, host, node, ("1", "2", detail), at, reason)
    body.update(evidence=[dict(entry) for entry in evidence])
    if last_alive is not None:
        body.update(last_alive=utc(last_alive))
    if recovery:
        body.update(recovery=recovery)
    return body


def host_up_report(
    origin: Origin, report_id: str, host: str, node: str, at: float, reason: str, bmc_guid: str = ""
) -> dict[str, Any]:
    """A host is up. Of itself a host tells its boot, and by this report which node of pacemaker and which BMC are its own."""
    body = _about_host(origin, report_id, host, node, ("1", "1", "1"), at, reason)
    if host == origin.hostname:
        body.update(boot_id=origin.boot_id)
        if bmc_guid:
            body.update(bmc_guid=bmc_guid)
    return body


def put_right(body: Mapping[str, Any], now: float) -> dict[str, Any]:
    """A report made while this host's clock was ahead, with the time of now: the controller refuses one from the future."""
    fields = {**body, "time": time.strftime("%Y%m%d%H%M%S", time.localtime(now)), "utc_time": _exactly(now)}
    if "startTime" in body:
        fields["startTime"] = fields["time"]
    if "last_alive" in body:
        fields["last_alive"] = min(body["last_alive"], utc(now))
    if "evidence" in body:
        fields["evidence"] = [entry for entry in body["evidence"] if entry["at"] <= utc(now)]
    return fields


def _about_host(
    origin: Origin, report_id: str, host: str, node: str, numbers: tuple[str, str, str], at: float, reason: str
) -> dict[str, Any]:
    body = _body(origin, report_id, "rscGroup", at)
    del body["boot_id"]  # it is that of the host that reports
    body.update(zip(("eventID", "eventType", "detail"), numbers, strict=True))
    body.update(hostname=host, pacemaker_name=node, startTime=body["time"], endTime=None)
    body.update(utc_time=_exactly(at), reason=reason[:MAX_LENGTH])
    return body


def _exactly(at: float) -> str:
    """To the millisecond: an action of a user in the same second may have been before or after it."""
    whole = int(at)
    return f"{utc(whole)[:-1]}.{int((at - whole) * 1000):03d}Z"


def _body(origin: Origin, report_id: str, kind: str, at: float) -> dict[str, Any]:
    local = time.localtime(at)
    return {
        "id": report_id,
        "type": kind,
        "regionID": origin.region_id,
        "hostname": origin.hostname,
        "uuid": "",
        "time": time.strftime("%Y%m%d%H%M%S", local),
        "tzname": local.tm_zone,
        "daylight": str(max(0, local.tm_isdst)),
        "cluster_port": origin.cluster_port,
        "observer": origin.hostname,
        "boot_id": origin.boot_id,
    }
