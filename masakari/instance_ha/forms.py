"""Reading what clients send (pure): bodies and queries in, checked values out, or a Refusal that names the field."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from masakari.instance_ha.refusal import Refusal, bad
from masakari.instance_ha.versions import ENABLED, Version
from masakari.segments import METHODS, HostForm, SegmentForm

NOTIFICATION_TYPES = ("COMPUTE_HOST", "VM", "PROCESS")
LONGEST_NAME = 255
LONGEST_TEXT = 1000
MAX_PAYLOAD = 16 * 1024
TRUE, FALSE = ("1", "t", "true", "on", "y", "yes"), ("0", "f", "false", "off", "n", "no")
_HOST = re.compile(r"[A-Za-z0-9_]+(?:[-.]+[A-Za-z0-9_]+)*")
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d)?)(\.\d{1,9})?\s*(Z|[+-]\d\d:?\d\d)?", re.ASCII)

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NotificationForm:
    """A notification as it was posted. generated_at: Unix seconds."""

    type: str
    hostname: str
    generated_time: str
    generated_at: float
    payload: dict[str, Any]


def read(body: bytes, content_type: str, member: str) -> dict[str, Any]:
    """The one object that a body carries under this name, as {"segment": {...}}. Raises Refusal."""
    if content_type and content_type.split(";")[0].strip().lower() != "application/json":
        raise Refusal(415, "the body must be application/json")
    try:
        content = json.loads(body, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise bad("body", "nested too deep") from None
    except ValueError as error:
        raise bad("body", f"not JSON: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get(member), dict):
        raise bad(member, f'the body must be an object {{"{member}": {{...}}}}')
    _no_others(content, (member,))
    fields: dict[str, Any] = content[member]
    return fields


def segment(fields: Fields, version: Version, before: SegmentForm | None = None) -> SegmentForm:
    """A new segment, or the changed one when there is one `before`. Raises Refusal."""
    known = ["name", "recovery_method", "service_type", "description", *(["enabled"] if version >= ENABLED else [])]
    _no_others(fields, known)
    _not_empty(fields, before)
    name = _name(fields, "name", before.name if before else None)
    if name == "*":
        raise bad("name", "stands for all segments")
    return SegmentForm(
        name,
        _one_of(fields, "recovery_method", METHODS, before.recovery_method if before else None),
        _name(fields, "service_type", before.service_type if before else None),
        _description(fields, before.description if before else None),
        _boolean(fields, "enabled", before.enabled if before else True),
    )


def host(fields: Fields, before: HostForm | None = None) -> HostForm:
    """A new host, or the changed one when there is one `before`. on_maintenance is None when it isn't named. Raises Refusal."""
    _no_others(fields, ("name", "type", "control_attributes", "reserved", "on_maintenance"))
    _not_empty(fields, before)
    name = _name(fields, "name", before.name if before else None)
    if not _HOST.fullmatch(name):
        raise bad("name", "not a host name (letters, digits, '-', '_' and '.')")
    return HostForm(
        name,
        _name(fields, "type", before.type if before else None),
        _text(fields, "control_attributes", before.control_attributes if before else None, LONGEST_TEXT),
        _boolean(fields, "reserved", before.reserved if before else False),
        _boolean(fields, "on_maintenance", False) if "on_maintenance" in fields else None,
    )


def notification(fields: Fields) -> NotificationForm:
    """A notification. What its payload means is judged elsewhere. Raises Refusal."""
    _no_others(fields, ("type", "hostname", "generated_time", "payload"))
    payload = _required(fields, "payload")
    if not isinstance(payload, dict) or not payload:
        raise bad("payload", "must be an object that isn't empty")
    if len(json.dumps(payload)) > MAX_PAYLOAD:
        raise bad("payload", f"longer than {MAX_PAYLOAD} bytes")
    told = _text(fields, "generated_time", None, 64)
    return NotificationForm(
        _one_of(fields, "type", NOTIFICATION_TYPES, None),
        _name(fields, "hostname", None),
        told,
        moment(told, "generated_time"),
        payload,
    )


def moment(text: str, field: str) -> float:
    """Unix seconds of an ISO 8601 time, UTC unless it says otherwise. Raises Refusal."""
    match = _TIME.fullmatch(text.strip())
    if not match:
        raise bad(field, "not a time: 2026-11-21T03:04:05.000000 is one, in UTC")
    day, clock, fraction, zone = match.groups()
    zone = "+00:00" if zone in (None, "Z") else (zone if ":" in zone else f"{zone[:3]}:{zone[3:]}")
    clock = clock if len(clock) > 5 else f"{clock}:00"
    try:
        parsed = datetime.fromisoformat(f"{day}T{clock}{zone}").astimezone(timezone.utc)
        at = parsed.timestamp() + float(fraction or 0)
        datetime.fromtimestamp(at, timezone.utc)  # the end of the year 9999 is rounded up to the next one
    except (ValueError, OverflowError):
        raise bad(field, "no such time") from None
    return at


def boolean(value: Any, field: str) -> bool:
    """A truth value as OpenStack's clients write it: true, "True", 1, "off". Raises Refusal."""
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower() if isinstance(value, (str, int)) else ""
    if text in TRUE or text in FALSE:
        return text in TRUE
    raise bad(field, "must be true or false")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise bad("body", "a name is given more than once")
    return fields


def _no_constant(name: str) -> Any:
    raise bad("body", f"{name} is no JSON value")


def _no_others(fields: Fields, known: Collection[str]) -> None:
    for name in fields:
        if name not in known:
            raise bad(name[:64], f"not known here; known are: {', '.join(known)}")


def _not_empty(fields: Fields, before: object) -> None:
    if before is not None and not fields:
        raise bad("body", "nothing to change")


def _required(fields: Fields, name: str) -> Any:
    if name not in fields:
        raise bad(name, "missing")
    return fields[name]


def _text(fields: Fields, name: str, default: str | None, longest: int, least: int = 1) -> str:
    if name not in fields and default is not None:
        return default
    value = _required(fields, name)
    if not isinstance(value, str):
        raise bad(name, "must be a string")
    if not least <= len(value) <= longest:
        raise bad(name, f"must be {least} to {longest} characters long")
    if not all(character.isprintable() for character in value):
        raise bad(name, "has characters that can't be printed")
    return value


def _name(fields: Fields, name: str, default: str | None) -> str:
    value = _text(fields, name, default, LONGEST_NAME)
    if value != value.strip():
        raise bad(name, "must not begin or end with a space")
    return value


def _description(fields: Fields, default: str | None) -> str | None:
    if "description" in fields and fields["description"] is None:
        return None
    value = _text({"description": default or "", **fields}, "description", None, LONGEST_TEXT, least=0)
    return value if "description" in fields else default


def _one_of(fields: Fields, name: str, choices: Collection[str], default: str | None) -> str:
    if name not in fields and default is not None:
        return default
    value = _required(fields, name)
    if not isinstance(value, str) or value not in choices:
        raise bad(name, f"must be one of {', '.join(choices)}")
    return value


def _boolean(fields: Fields, name: str, default: bool) -> bool:
    return boolean(fields[name], name) if name in fields else default
