"""What a monitor reports (pure): bytes of a callback in, a checked Notification out, or BadNotification.

Everything a report says is checked here once, so that the rest of the program can rely on it: known fields
have their type and length, names are names, moments are moments. Unknown fields stay in `body`, untouched.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, NoReturn

from masakari.common.errors import BadNotification

MAX_AHEAD_S = 26 * 3600
"""A node's zone is at most 14 h ahead of UTC, and its clock may be half a day off; more is no time at all."""

EVIDENCE_KINDS = ("power_off", "fenced", "power_on", "unknown")
MAX_EVIDENCE = 16
MAX_DEPTH = 16
MAX_LENGTH = 255
WHOLE = "body"
"""The field that is named when the report as a whole can't be read."""

_HOST = re.compile(r"[A-Za-z0-9_]+(?:-+[A-Za-z0-9_]+)*(?:\.[A-Za-z0-9_]+(?:-+[A-Za-z0-9_]+)*)*")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_HEX_32 = re.compile(r"[0-9a-f]{32}")
_GUID = re.compile(r"-?(?:[0-9A-Fa-f]-?){32}")
_LOCAL_TIME = re.compile(r"[0-9]{14}")
_UTC_TIME = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]{1,9})?(?:Z|\+00:00)")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an observer found out about a host's power. `at`: Unix seconds, as its own clock said.

    `guid`: that of the BMC it read, as the BMC told it; empty if it told none.
    """

    kind: str
    at: float
    detail: str
    guid: str = ""


@dataclass(frozen=True, slots=True)
class Notification:
    """One report, checked and immutable.

    `time`, `start_time` and `end_time` are text as sent, in the node's zone; floats are Unix seconds.
    Fields that only our own monitors send are empty or None when absent.
    """

    id: str
    type: str
    region_id: str
    hostname: str
    uuid: str
    time: str
    event_id: str
    event_type: str
    detail: str
    start_time: str | None
    end_time: str | None
    tzname: str
    daylight: str
    cluster_port: str
    observer: str
    evidence: tuple[Evidence, ...]
    utc_time: float | None
    last_alive: float | None
    boot_id: str
    process: str
    on_failure: str
    state: str
    libvirt_state: str
    reason: str
    pacemaker_name: str
    bmc_guid: str
    recovery: int | None
    body: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a stored report: the recovery it belongs to, if any. `known`: it was stored before."""

    status_code: int
    recovery_id: int | None
    recovery_status: str
    reason: str
    known: bool


def parse(body: bytes, now: float) -> Notification:
    """Read one callback. `now` is the time of receipt, Unix seconds.

    Raises BadNotification with the field and what is wrong with it; nothing else, whatever the bytes are.
    """
    text = _decode(body)
    fields = _object(text)
    kind = _text(fields, "type", least=1)
    is_vm, is_process, is_host = kind == "VM", kind == "nodeStatus", kind == "rscGroup"
    return Notification(
        id=_id(fields),
        type=kind,
        region_id=_text(fields, "regionID"),
        hostname=_hostname(fields, "hostname"),
        uuid=_uuid(fields) if is_vm else _text(fields, "uuid"),
        time=_local_time(fields, "time", now),
        event_id=_text(fields, "eventID", number=True),
        event_type=_text(fields, "eventType", number=True),
        detail=_text(fields, "detail", number=True),
        start_time=_local_time(fields, "startTime", now) if "startTime" in fields or not is_vm else None,
        end_time=_end_time(fields, now, required=not is_vm),
        tzname=_text(fields, "tzname"),
        daylight=_text(fields, "daylight", number=True),
        cluster_port=_text(fields, "cluster_port"),
        observer=_hostname(fields, "observer") if fields.get("observer") is not None else "",
        evidence=_evidence(fields, now),
        utc_time=_moment(fields, "utc_time", now),
        last_alive=_moment(fields, "last_alive", now),
        boot_id=_optional(fields, "boot_id"),
        process=_optional(fields, "process") if is_process else "",
        on_failure=_choice(fields, "on_failure", ("disable", "report")) if is_process else "disable",
        state=_choice(fields, "state", ("down", "up")) if is_process else "down",
        libvirt_state=_remark(fields, "libvirt_state") if is_vm else "",
        reason=_remark(fields, "reason"),
        pacemaker_name=_hostname(fields, "pacemaker_name") if is_host and _given(fields, "pacemaker_name") else "",
        bmc_guid=_bmc_guid(fields) if is_host else "",
        recovery=_recovery(fields) if is_host else None,
        body=text,
    )


def _bad(field: str, problem: str) -> NoReturn:
    raise BadNotification(field, problem)


def _decode(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadNotification(WHOLE, f"invalid UTF-8 at byte {error.start}") from None


def _object(text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise BadNotification(WHOLE, f"nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:
        raise BadNotification(WHOLE, f"not JSON: {error}") from None
    if not isinstance(fields, dict):
        _bad(WHOLE, "not a JSON object")
    if text.count("{") + text.count("[") > MAX_DEPTH:
        for name, value in fields.items():
            if _deeper(value, MAX_DEPTH - 1):
                _bad(_shown(name), f"nested deeper than {MAX_DEPTH} levels")
    return fields


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a key said twice: readers of JSON differ in which one counts, so it means two things at once."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        _bad(_shown(next(name for name in names if names.count(name) > 1)), "given more than once")
    return fields


def _no_constant(name: str) -> NoReturn:
    _bad(WHOLE, f"not JSON: {name} is no JSON value")


def _deeper(value: Any, levels: int) -> bool:
    """Whether `value` is nested more than `levels` deep. A loop: the input must not choose our stack."""
    layer = [value]
    for _ in range(levels + 1):
        layer = [item for item in layer if isinstance(item, (dict, list))]
        if not layer:
            return False
        layer = [child for item in layer for child in (item.values() if isinstance(item, dict) else item)]
    return True


def _shown(name: str) -> str:
    """A name from the input in a form that is safe in a log line."""
    return name if name.isprintable() and len(name) <= 64 else ascii(name[:64])


def _text(fields: dict[str, Any], name: str, *, least: int = 0, number: bool = False) -> str:
    try:
        value = fields[name]
    except KeyError:
        raise BadNotification(name, "missing") from None
    if not isinstance(value, str):
        return _number(name, value) if number else _bad(name, "must be a string")
    return _checked(name, value, least)


def _checked(name: str, value: str, least: int = 0) -> str:
    # The length first: it bounds the work of every check after it.
    if len(value) > MAX_LENGTH:
        _bad(name, f"longer than {MAX_LENGTH} characters")
    if len(value) < least:
        _bad(name, "must not be empty")
    if not value.isprintable():
        _bad(name, "has a control character, or another that can't be printed")
    return value


def _number(name: str, value: Any) -> str:
    # bool is an int to Python, but true is no number in JSON.
    if isinstance(value, bool) or not isinstance(value, int):
        _bad(name, "must be a string or a whole number")
    if abs(value) >= 10**18:
        _bad(name, "number too large")
    return str(value)


def _optional(fields: dict[str, Any], name: str) -> str:
    """A field that our own monitors add. null is as good as absent: so says a sender that doesn't know."""
    return "" if fields.get(name) is None else _text(fields, name)


def _given(fields: dict[str, Any], name: str) -> bool:
    """Whether an optional field says anything: null and an empty text say that the sender doesn't know."""
    return fields.get(name) not in (None, "")


def _remark(fields: dict[str, Any], name: str) -> str:
    """Words for people, which are never worth a refusal: empty when they are not what they should be."""
    value = fields.get(name)
    return value if isinstance(value, str) and len(value) <= MAX_LENGTH and value.isprintable() else ""


def _choice(fields: dict[str, Any], name: str, words: tuple[str, ...]) -> str:
    """One of `words`; the first one when the field is absent or null."""
    value = words[0] if fields.get(name) is None else fields[name]
    if value not in words:
        _bad(name, f"must be {' or '.join(words)}")
    return str(value)


def _id(fields: dict[str, Any]) -> str:
    value = _text(fields, "id", least=1)
    if value != value.strip():
        # Databases compare text without trailing blanks: two ids here would be one there.
        _bad("id", "has leading or trailing blanks")
    return value


def _hostname(fields: dict[str, Any], name: str) -> str:
    value = _text(fields, name, least=1)
    if not _HOST.fullmatch(value):
        _bad(name, "not a host name (letters, digits, - _ and single dots)")
    return value


def _uuid(fields: dict[str, Any]) -> str:
    value = _text(fields, "uuid", least=1).lower()
    if _UUID.fullmatch(value):
        return value
    if _HEX_32.fullmatch(value):
        return "-".join((value[:8], value[8:12], value[12:16], value[16:20], value[20:]))
    _bad("uuid", "not a UUID")


def _recovery(fields: dict[str, Any]) -> int | None:
    if fields.get("recovery") is None:
        return None
    value = _text(fields, "recovery", number=True)
    if not re.fullmatch(r"[0-9]{1,18}", value):
        _bad("recovery", "must be the number of a recovery")
    return int(value)


def _bmc_guid(fields: dict[str, Any]) -> str:
    """The GUID of a host's own BMC; empty for one that any BMC could have, which tells no two apart."""
    guid = _guid("bmc_guid", fields.get("bmc_guid"))
    return "" if len(set(guid.replace("-", ""))) == 1 else guid


def _guid(name: str, value: Any) -> str:
    if value is not None and not isinstance(value, str):
        _bad(name, "must be a string")
    if value and not (len(value) <= MAX_LENGTH and _GUID.fullmatch(value)):
        _bad(name, "not a GUID: 32 hexadecimal digits")
    return (value or "").lower()


def _local_time(fields: dict[str, Any], name: str, now: float) -> str:
    value = _text(fields, name)
    if not _LOCAL_TIME.fullmatch(value):
        _bad(name, "not a time as YYYYmmddHHMMSS")
    parts = (value[:4], value[4:6], value[6:8], value[8:10], value[10:12], value[12:])
    _seconds(name, parts, now)
    return value


def _end_time(fields: dict[str, Any], now: float, *, required: bool) -> str | None:
    if fields.get("endTime") is None and ("endTime" in fields or not required):
        return None
    return _local_time(fields, "endTime", now)


def _moment(fields: dict[str, Any], name: str, now: float) -> float | None:
    return None if fields.get(name) is None else _utc(name, _text(fields, name), now)


def _utc(name: str, value: str, now: float) -> float:
    # The zone must be said: a proof is compared with signs of life to the second, and a wrong zone is hours.
    found = _UTC_TIME.fullmatch(value)
    if not found:
        _bad(name, "not a UTC time as 2026-01-31T12:34:56Z")
    return _seconds(name, found.groups()[:6], now) + float(found[7] or 0)


def _seconds(name: str, parts: tuple[str, ...], now: float) -> float:
    """Unix seconds of year, month, day, hour, minute, second, read as UTC. Refused if too far ahead."""
    try:
        year, month, day, hour, minute, second = map(int, parts)
        moment = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc).timestamp()
    except ValueError:
        raise BadNotification(name, "no such time") from None
    if moment - now > MAX_AHEAD_S:
        _bad(name, f"{(moment - now) / 3600:.0f} hours ahead of the controller's clock")
    return moment


def _evidence(fields: dict[str, Any], now: float) -> tuple[Evidence, ...]:
    entries = fields.get("evidence")
    if entries is None:
        return ()
    if not isinstance(entries, list):
        _bad("evidence", "must be a list")
    if len(entries) > MAX_EVIDENCE:
        _bad("evidence", f"more than {MAX_EVIDENCE} entries")
    return tuple(_one_evidence(f"evidence[{index}]", entry, now) for index, entry in enumerate(entries))


def _one_evidence(name: str, entry: Any, now: float) -> Evidence:
    if not isinstance(entry, dict):
        _bad(name, "must be an object")
    kind, at, detail = entry.get("kind"), entry.get("at"), entry.get("detail")
    if kind not in EVIDENCE_KINDS:
        _bad(f"{name}.kind", f"must be one of {', '.join(EVIDENCE_KINDS)}")
    if not isinstance(at, str):
        _bad(f"{name}.at", "must be a string")
    if detail is not None and not isinstance(detail, str):
        _bad(f"{name}.detail", "must be a string")
    told = _checked(f"{name}.detail", detail or "")
    return Evidence(kind, _utc(f"{name}.at", at, now), told, _guid(f"{name}.guid", entry.get("guid")))
