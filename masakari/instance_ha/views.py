"""What clients are shown (pure): segments, hosts and moves of instances as JSON objects, with times as OpenStack writes them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any
from uuid import UUID, uuid5

from masakari.instance_ha.versions import ENABLED, Version
from masakari.segments import Host, Segment

VMOVES = UUID("5f1a7a5e-3c0b-5d0f-8a50-6d6173616b61")
"""The namespace of the uuids of moves, which have none of their own."""

MOVE_STATUS = {"new": "pending", "running": "ongoing", "finished": "succeeded", "failed": "failed", "skipped": "ignored"}


def written(at: float | None) -> str | None:
    """Unix seconds as clients expect them: 2026-11-21T03:04:05.000000, in UTC."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")


def sql_written(text: str | None) -> str | None:
    """The same of a DATETIME column."""
    return f"{text.replace(' ', 'T')[:19]}.000000" if text else None


def segment(one: Segment, version: Version, default_method: str) -> dict[str, Any]:
    """A segment. default_method: the configured recovery method."""
    shown = {
        "id": one.number,
        "uuid": one.uuid,
        "name": one.name,
        "description": one.description,
        "recovery_method": one.recovery_method or default_method,
        "service_type": one.service_type,
        "created_at": written(one.created_at),
        "updated_at": written(one.updated_at),
    }
    return {**shown, "enabled": one.enabled} if version >= ENABLED else shown


def host(one: Host, of: dict[str, Any]) -> dict[str, Any]:
    """A host, with its segment as segment() shows it."""
    return {
        "id": one.id,
        "uuid": one.uuid,
        "name": one.name,
        "type": one.type,
        "control_attributes": one.control_attributes,
        "reserved": one.reserved,
        "on_maintenance": one.on_maintenance,
        "failover_segment_id": one.segment_uuid,
        "failover_segment": of,
        "created_at": written(one.created_at),
        "updated_at": written(one.updated_at),
    }


def move(row: Mapping[str, Any], notification_uuid: str, source: str) -> dict[str, Any]:
    """What became of an instance of a failed host, `source`, from its row of vm_list."""
    ends = row["status"] in ("finished", "failed", "skipped")
    return {
        "id": row["id"],
        "uuid": str(uuid5(VMOVES, str(row["id"]))),
        "notification_uuid": notification_uuid,
        "instance_uuid": row["uuid"],
        "instance_name": row["name"],
        "source_host": source,
        "dest_host": row["recover_to"] or row["action_target"],
        "type": "evacuation",
        "status": MOVE_STATUS.get(row["status"] or "", "pending"),
        "message": row["reason"],
        "start_time": sql_written(row["create_at"]),
        "end_time": (written(row["finished_at"]) or sql_written(row["update_at"])) if ends else None,
        "created_at": sql_written(row["create_at"]),
        "updated_at": sql_written(row["update_at"]),
    }
