"""Between the two dialects (pure): a notification of the API as a callback, and a stored report as a notification.

A COMPUTE_HOST notification says by `host_status` what a callback of 2015 says by its detail: NORMAL is 2, which by itself is no
proof, anything else is 4. Our own monitors send the callback itself in `payload.masakari`, with the evidence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any
from uuid import UUID, uuid5

from masakari.common.errors import BadNotification
from masakari.common.notification import Notification, parse
from masakari.instance_ha.forms import NotificationForm
from masakari.instance_ha.refusal import bad
from masakari.instance_ha.views import sql_written, written
from masakari.intake_host import KEYSTONE
from masakari.segments import Host

OURS = "masakari"
"""The member of a payload in which our monitors send the callback itself, and of a report's body that keeps what was posted."""

TYPES = {"COMPUTE_HOST": "rscGroup", "VM": "VM", "PROCESS": "nodeStatus"}
NAMES = {value: key for key, value in TYPES.items()}
STATUS = {0: "new", 1: "running", 2: "finished", 3: "failed", 4: "ignored"}
"""By the 2015 progress number."""

VM_NUMBERS = {"STOPPED_FAILED": ("5", "5"), "STOPPED_CRASHED": ("5", "2"), "STOPPED_DESTROYED": ("5", "1")}
"""eventType and detail of a LIFECYCLE event."""

ALIVE = ("STARTED",)

NOTIFIED = UUID("0b9b7a3c-5d0e-5b5e-9a0f-6d6173616b61")
"""The namespace of the names of reports that accounts bring which may prove nothing: the same one again has the same name."""

BELIEVED = ("reason", "recovery", "on_failure", "libvirt_state", "last_alive")
"""What of a callback within a notification is believed of everybody: it has less done about it, not more."""

FIELDS = {
    "time": "generated_time",
    "startTime": "generated_time",
    "utc_time": "generated_time",
    "hostname": "hostname",
    "uuid": "payload.instance_uuid",
    "process": "payload.process_name",
}
"""Where in a notification stands what a callback calls so."""


def as_callback(
    form: NotificationForm, uuid: str, host: Host | None, user: str, now: float, may_prove: bool
) -> Notification:
    """The report that this notification is. `uuid`: its name if it brings none; `user`: who posted it. Raises Refusal.

    may_prove: whether what our own monitors say beyond OpenStack's payload, evidence above all, is believed of this user. No
    key of a host signs it, so else it counts as a notification of any monitor, which proves nothing, and whose name takes that of
    no other report. host: as it is registered; one that isn't, as pacemaker may call it otherwise, is told of by such users alone.
    """
    payload = {name: value for name, value in form.payload.items() if name != OURS}
    told = {"COMPUTE_HOST": _host, "VM": _instance, "PROCESS": _process}[form.type](payload)
    kept = {
        "type": form.type,
        "payload": payload,
        "generated_time": written(form.generated_at),
        "source_host_uuid": host.uuid if host else None,
        "user": user,
    }
    own = _own(form)
    if own and may_prove:
        fields = own
    elif host is None:
        raise bad("hostname", f"{form.hostname} is a host of no segment")
    else:
        name = str(uuid5(NOTIFIED, f"{user} {own['id']}")) if isinstance(own.get("id"), str) else uuid
        believed = {name: own[name] for name in BELIEVED if name in own}
        fields = {**_frame(form, name, host.cluster_port), **told, **believed}
    try:
        return parse(json.dumps({**fields, OURS: kept}).encode(), now)
    except BadNotification as error:
        within = own and (may_prove or error.field in BELIEVED or error.field == "cluster_port")
        field = f"payload.{OURS}.{error.field}" if within else FIELDS.get(error.field, "payload")
        raise bad(field, error.problem) from error


def _own(form: NotificationForm) -> dict[str, Any]:
    """The callback within; empty if there is none."""
    if OURS not in form.payload:
        return {}
    own = form.payload[OURS]
    if not isinstance(own, dict):
        raise bad(f"payload.{OURS}", "must be an object")
    if own.get("type") != TYPES[form.type] or own.get("hostname") != form.hostname:
        raise bad(f"payload.{OURS}", "is about something else than the notification")
    return dict(own)


def _frame(form: NotificationForm, uuid: str, cluster_port: Any) -> dict[str, Any]:
    at = datetime.fromtimestamp(form.generated_at, timezone.utc).strftime("%Y%m%d%H%M%S")
    return {
        "id": uuid,
        "type": TYPES[form.type],
        "regionID": "",
        "hostname": form.hostname,
        "uuid": "",
        "time": at,
        "startTime": at,
        "endTime": None,
        "tzname": "UTC",
        "daylight": "0",
        "cluster_port": cluster_port,
        "utc_time": f"{written(form.generated_at)}Z",
    }


def _word(payload: Mapping[str, Any], name: str, choices: tuple[str, ...] = ()) -> str:
    if name not in payload:
        raise bad(f"payload.{name}", "missing")
    value = payload[name]
    if not isinstance(value, str) or (choices and value.upper() not in choices):
        raise bad(f"payload.{name}", f"must be one of {', '.join(choices)}" if choices else "must be a string")
    return value.upper() if choices else value


def _host(payload: Mapping[str, Any]) -> dict[str, Any]:
    event = _word(payload, "event", ("STARTED", "STOPPED"))
    status = _word(payload, "host_status", ("NORMAL", "UNKNOWN", "")) if "host_status" in payload else ""
    cluster = _word(payload, "cluster_status", ("ONLINE", "OFFLINE", "")) if "cluster_status" in payload else ""
    said = f"host_status {status or 'not told'}, cluster_status {cluster or 'not told'}"
    if event in ALIVE:
        return {"eventID": "1", "eventType": "1", "detail": "1", "reason": said}
    known_down = status == "NORMAL" and cluster != "ONLINE"
    return {"eventID": "1", "eventType": "2", "detail": "2" if known_down else "4", "reason": said}


def _instance(payload: Mapping[str, Any]) -> dict[str, Any]:
    uuid = _word(payload, "instance_uuid")
    event, domain_event = _word(payload, "event"), _word(payload, "vir_domain_event")
    if not event:
        raise bad("payload.event", "must not be empty")
    numbers = ("0", "0")
    if event == "LIFECYCLE":
        numbers = VM_NUMBERS.get(domain_event, numbers)
    elif event == "QEMU_GUEST_AGENT_ERROR":
        numbers = ("5", "2")
    reason = f"{event} {domain_event}".strip()[:200]
    return {"uuid": uuid, "eventID": "0", "eventType": numbers[0], "detail": numbers[1], "reason": reason}


def _process(payload: Mapping[str, Any]) -> dict[str, Any]:
    event = _word(payload, "event", ("STARTED", "STOPPED"))
    name = _word(payload, "process_name")
    if not name:
        raise bad("payload.process_name", "must not be empty")
    numbers = {"eventID": "1", "eventType": "1", "detail": "1"}
    return {**numbers, "process": name, "state": "up" if event in ALIVE else "down"}


def same(form: NotificationForm, row: Mapping[str, Any]) -> bool:
    """Whether a stored report was posted with the same type and payload."""
    kept = _kept(row)
    payload = {name: value for name, value in form.payload.items() if name != OURS}
    return (kept.get("type"), kept.get("payload")) == (form.type, payload)


def shown(row: Mapping[str, Any], host_uuids: Mapping[str, str]) -> dict[str, Any]:
    """A stored report as a notification. host_uuids: those of registered hosts, by name."""
    kept = _kept(row)
    kind = kept.get("type") or NAMES[row["notification_type"]]
    return {
        "id": row["id"],
        "notification_uuid": row["report_key"] or row["notification_id"],
        "type": kind,
        "status": status(row),
        "source_host_uuid": kept.get("source_host_uuid") or host_uuids.get(row["notification_hostname"] or ""),
        "generated_time": kept.get("generated_time") or written(row["generated_at"]) or sql_written(row["create_at"]),
        "payload": kept.get("payload") or _payload(kind, row),
        "created_at": sql_written(row["create_at"]),
        "updated_at": sql_written(row["update_at"]) if row["update_at"] != row["create_at"] else None,
    }


def status(row: Mapping[str, Any]) -> str:
    """new, running, finished, failed, ignored; error for one that is held because of an error of the program."""
    if row["recovery_hold"] == "internal" and row["progress"] == 1:
        return "error"
    return "finished" if row["outcome"] == "noted" else STATUS.get(row["progress"], "ignored")


def _kept(row: Mapping[str, Any]) -> dict[str, Any]:
    """What was posted to the API, as the body of the report keeps it; empty for a callback, whatever that says of itself."""
    if not str(row["key_id"] or "").startswith(KEYSTONE) or not row["body"]:
        return {}
    kept = json.loads(row["body"]).get(OURS)
    return kept if isinstance(kept, dict) else {}


def _payload(kind: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """What a monitor of OpenStack would have said instead of this callback."""
    numbers = row["notification_eventType"], row["notification_detail"]
    if kind == "COMPUTE_HOST":
        up = numbers[0] == "1"
        return {
            "event": "STARTED" if up else "STOPPED",
            "host_status": "NORMAL" if up or numbers[1] == "2" else "UNKNOWN",
            "cluster_status": "ONLINE" if up else "OFFLINE",
        }
    if kind == "VM":
        event = next((name for name, known in VM_NUMBERS.items() if known == numbers), "UNKNOWN")
        return {"event": "LIFECYCLE", "instance_uuid": row["notification_uuid"], "vir_domain_event": event}
    report = json.loads(row["body"]) if row["body"] else {}
    up = report.get("state") == "up"
    return {"event": "STARTED" if up else "STOPPED", "process_name": report.get("process") or "unknown"}


def details(events: list[dict[str, Any]], recovery_status: str) -> list[dict[str, Any]]:
    """The journal of a recovery as the details of its workflow: a task for each step, in the order in which they came."""
    tasks: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        tasks.setdefault(event["step"] or "intake", []).append(event)
    state = {"finished": "SUCCESS", "ignored": "SUCCESS", "failed": "FAILURE", "cancelled": "FAILURE"}
    last = state.get(recovery_status, "RUNNING")
    # A recovery may go back to an earlier step.
    current = (events[-1]["step"] or "intake") if events else ""
    return [_task(name, tasks[name], last if name == current else "SUCCESS") for name in tasks]


def _task(name: str, events: list[dict[str, Any]], state: str) -> dict[str, Any]:
    begun = 0 if state == "RUNNING" else 1
    lines = [
        {
            "timestamp": (written(event["at"]) or "").replace("T", " "),
            "message": f"{event['what']}: {event['reason']}" if event["reason"] else event["what"],
            "progress": round((number + begun) / len(events), 2),
        }
        for number, event in enumerate(events)
    ]
    return {"name": name, "state": state, "progress": lines[-1]["progress"], "progress_details": lines}
