"""OpenStack's instance-ha service (pure): where it is by the catalog, a report as its notification, and what its answers mean.

The report goes along whole in the payload, under the key "masakari": our controller joins reports by its id, and needs its evidence
as proof. Any other service refuses that key, and gets the notification without it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from masakari.common.errors import Unavailable
from masakari.common.post import Answer
from masakari.common.poster import MALFORMED, REFUSED, TAKEN, Sent, content, said

SERVICE = "instance-ha"
VERSION = {"OpenStack-API-Version": f"{SERVICE} 1.0"}
"""Nothing that is sent needs a later microversion."""

REPORT = "masakari"
"""The key of the payload with the report, and of an answer with what became of it."""

ACCEPTED, UNAUTHORIZED, FORBIDDEN, DUPLICATE = 202, 401, 403, 409
FOR_GOOD = (400, 404, 422)

VM_EVENTS = {
    # eventID, eventType and detail: event and vir_domain_event
    ("0", "5", "5"): ("LIFECYCLE", "STOPPED_FAILED"),
    ("0", "5", "2"): ("LIFECYCLE", "STOPPED_CRASHED"),
    ("0", "5", "1"): ("LIFECYCLE", "STOPPED_DESTROYED"),
    ("1", "0", "0"): ("REBOOT", "UNKNOWN"),
    ("3", "1", "0"): ("WATCHDOG", "WATCHDOG_PAUSE"),
    ("4", "1", "0"): ("IO_ERROR", "IO_ERROR_PAUSE"),
    ("7", "0", "0"): ("CONTROL_ERROR", "UNKNOWN"),
}

NOT_RUNNING = ("", "nostate", "shutdown", "shutoff", "crashed")
"""What libvirt may say of a guest that has to be recovered; "": nothing."""


def endpoint(catalog: Sequence[Mapping[str, Any]], region: str, interface: str) -> str:
    """The address below which notifications lie, as the catalog of a token says.

    region "": the only one there is. Raises Unavailable when the catalog does not tell, with what to change.
    """
    found = {
        str(entry.get("region_id") or entry.get("region")): str(entry["url"])
        for service in catalog
        if service.get("type") == SERVICE
        for entry in service.get("endpoints") or ()
        if entry.get("interface") == interface
    }
    if region in found:
        return base(found[region])
    if len(found) == 1 and not region:
        return base(next(iter(found.values())))
    if region or not found:
        where = f"in region {region}" if region else "at all"
        raise Unavailable(
            f"the catalog has no {interface} endpoint of type {SERVICE} {where} (regions that have one: "
            f"{', '.join(sorted(found)) or 'none'}); check region and api_interface in [api], and openstack catalog show {SERVICE}"
        )
    raise Unavailable(
        f"the catalog has {SERVICE} in regions {', '.join(sorted(found))}; set region in [api] to one of them"
    )


def base(url: str) -> str:
    """The address of the service in its version 1, for one that ends in /v1, in /v1/<project id>, or in neither."""
    plain = url.rstrip("/")
    return plain if re.search(r"/v1(/[^/]+)?$", plain) else f"{plain}/v1"


def notification(report: Mapping[str, Any]) -> dict[str, Any]:
    """The body of the request that tells of a report; report: as report.py makes it."""
    kind, payload = _payload(report)
    note = {
        "type": kind,
        "hostname": report["hostname"],
        "generated_time": _generated_time(str(report["utc_time"])),
        "payload": {**payload, REPORT: dict(report)},
    }
    return {"notification": note}


def without_report(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """The same for a service that takes no report along; None when it would then do what the report says is not to be done."""
    if report["type"] == "nodeStatus" and report.get("on_failure") == "report":
        return None
    if report["type"] == "VM" and report.get("libvirt_state", "") not in NOT_RUNNING:
        return None
    made = notification(report)
    del made["notification"]["payload"][REPORT]
    return made


def knows_no_report(answer: Answer) -> bool:
    """Whether a notification was refused because of the report in it."""
    return answer.status == FOR_GOOD[0] and ("payload" in fault(answer) or REPORT in fault(answer))


def outcome(url: str, answer: Answer) -> Sent:
    """What an answer to a notification means. url: where it was sent."""
    if answer.status == ACCEPTED and "notification" in content(answer):
        return Sent(TAKEN, answer=_told(content(answer)["notification"]))
    if answer.status == DUPLICATE:
        return Sent(TAKEN, answer={"reason": f"it is known already: {fault(answer) or said(answer)}"})
    why = f"{url} answered HTTP {answer.status}, {fault(answer) or said(answer)}"
    # Not every 404 comes from the service: one without its words is that of a wrong address, which somebody may put right.
    if answer.status in FOR_GOOD and fault(answer):
        return Sent(MALFORMED, why)
    if answer.status == FORBIDDEN:
        why += ": the account in [api] has no role that may create notifications"
    return Sent(REFUSED, why)


def fault(answer: Answer) -> str:
    """The words of an error of an OpenStack service; "" when they are none."""
    for found in content(answer).values():
        if isinstance(found, dict) and isinstance(found.get("message"), str):
            return str(found["message"])
    return ""


def _payload(report: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """The type of the notification, and what its payload says."""
    if report["type"] == "nodeStatus":
        event = "STARTED" if report.get("state") == "up" else "STOPPED"
        return "PROCESS", {"event": event, "process_name": str(report.get("process") or "")}
    numbers = (str(report["eventID"]), str(report["eventType"]), str(report["detail"]))
    if report["type"] == "VM":
        event, vir_domain_event = VM_EVENTS.get(numbers, ("UNKNOWN", "UNKNOWN"))
        return "VM", {"event": event, "instance_uuid": report["uuid"], "vir_domain_event": vir_domain_event}
    if numbers[1] == "1":
        return "COMPUTE_HOST", {"event": "STARTED", "host_status": "NORMAL", "cluster_status": "ONLINE"}
    status = "NORMAL" if numbers[2] == "2" else "UNKNOWN"
    return "COMPUTE_HOST", {"event": "STOPPED", "host_status": status, "cluster_status": "OFFLINE"}


def _generated_time(utc_time: str) -> str:
    """UTC to the microsecond and without its letter, as the service wants it."""
    whole, _, fraction = utc_time.rstrip("Z").partition(".")
    return f"{whole}.{fraction:0<6}"


def _told(note: Any) -> Mapping[str, Any]:
    """What the service says of a notification; our controller as it says it of a callback."""
    if not isinstance(note, dict):
        return {}
    if isinstance(note.get(REPORT), dict):
        return dict(note[REPORT])
    return {"reason": f"notification {note.get('notification_uuid')} is {note.get('status')}"}
