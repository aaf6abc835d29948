"""The callbacks that the monitors of a compute node would send: the fields of 2015, and those added since."""

from __future__ import annotations

import uuid
from datetime import datetime, timezone
from typing import Any

from masakari.common.text import utc

SHOWN = ("id", "type", "hostname", "uuid", "eventID", "eventType", "detail", "process", "state", "observer", "evidence")
"""What a report is about; the other fields are about the region, the times and the zone of the node."""


def host_down(host: str, observer: str, cluster: str, at: float) -> dict[str, Any]:
    """hostmonitor: a host has left the cluster, and its power was read back as off at `at` (Unix seconds)."""
    evidence = {"kind": "power_off", "at": utc(at)}
    return {
        **_common("rscGroup", host, cluster, at),
        **_numbers("1", "2", "2"),
        **_span(at),
        "observer": observer,
        "evidence": [evidence],
    }


def instance_down(host: str, instance: str, cluster: str, at: float) -> dict[str, Any]:
    """instancemonitor: the QEMU process of an instance of this host died."""
    return {**_common("VM", host, cluster, at), **_numbers("0", "5", "5"), "uuid": instance, "utc_time": utc(at)}


def process(host: str, name: str, state: str, cluster: str, at: float) -> dict[str, Any]:
    """processmonitor: a process of this host could not be restarted (state down), or runs again (up)."""
    numbers = _numbers("1", "1", "1")
    return {**_common("nodeStatus", host, cluster, at), **numbers, **_span(at), "process": name, "state": state}


def shortened(report: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The telling fields, and in words how many there are besides."""
    told = {name: report[name] for name in SHOWN if report.get(name)}
    return told, f"... {len(report) - len(told)} more"


def _common(kind: str, host: str, cluster: str, at: float) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid4()),
        "type": kind,
        "regionID": "RegionOne",
        "hostname": host,
        "uuid": "",
        "time": _local(at),
        "tzname": "UTC",
        "daylight": "0",
        "cluster_port": cluster,
    }


def _numbers(event_id: str, event_type: str, detail: str) -> dict[str, str]:
    return {"eventID": event_id, "eventType": event_type, "detail": detail}


def _span(at: float) -> dict[str, str | None]:
    return {"startTime": _local(at), "endTime": None}


def _local(at: float) -> str:
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y%m%d%H%M%S")
