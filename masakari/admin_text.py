"""What the operator's scripts print: tables, durations, what a hold asks for, and the story of a recovery. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from masakari.common.text import local, utc
from masakari.model import FINAL

Row = Mapping[str, Any]

HOLDS = {
    "name": "make known which host that is: start the hostmonitor on it, or set nova_hosts in hostmonitor.conf of the nodes that "
    "report {host}; then it is reported under Nova's name. If you did the latter: recovery_manage.py cancel {id}",
    "observers": "it goes on when enough nodes have reported {host} down. If you made sure that it is off: "
    "recovery_manage.py attest --host {host}. If it is well: recovery_manage.py cancel {id}",
    "proof": "check that {host} is really off, then: recovery_manage.py attest --host {host}. Power-off read back or a "
    "fencing, reported by a monitor, serves as well. If it is well: recovery_manage.py cancel {id}",
    "alive": "{host} shows signs of life. If it is well: recovery_manage.py cancel {id}. If it is really off, wait for new "
    "proof, or: recovery_manage.py attest --host {host}",
    "many": "see whether it is the network. If the host really failed: recovery_manage.py release {id}; otherwise: "
    "recovery_manage.py cancel {id}",
    "callback": "if you believe the report: recovery_manage.py release {id}; otherwise: recovery_manage.py cancel {id}",
    "changed": "set it by hand in Nova to go on, or: recovery_manage.py cancel {id}",
    "no_spare": "add a spare, which is taken within seconds: reserve_host_manage.py --mode add; or: "
    "recovery_manage.py cancel {id}",
    "target": "instances may run on {target}. If it is off, too: recovery_manage.py attest --host {target}; otherwise it goes "
    "on when {target} is back",
    "local_disk": "bring the host back, or give the data of these disks up ([nova] rebuild_local_disks = yes, reload the "
    "controller, recovery_manage.py retry {id}), or: recovery_manage.py cancel {id}",
    "host_down": "it goes on when nova-compute of {host} reads up; if the whole host is dead, its own recovery takes over",
    "down": "start or restart nova-compute on {host}, as the reason says",
    "open": "it goes on when what it waits for has ended",
    "refused": "mend what Nova says; it is tried again by itself. Or: recovery_manage.py cancel {id}",
    "observe": "[safety] mode = observe: nothing is written to Nova. Set mode = act, or: recovery_manage.py cancel {id}",
    "internal": "a bug: please report it with the controller's log. It is tried again every minute",
}
"""What to do about each hold, by its word."""

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_TRANSITION = re.compile(r"\w+/(?P<old>\w+)(?: \(\w+\))? -> (?P<status>\w+)(?:/(?P<new>\w+))?")


def remedy(recovery: Row) -> str:
    """What an operator can do about a held recovery; empty when it is not held."""
    if recovery["status"] != "held":
        return ""
    told = HOLDS.get(recovery["hold"] or "", "see its reason")
    return told.format(id=recovery["id"], host=recovery["hostname"], target=recovery["target"] or "the reserved host")


def duration(text: str) -> float:
    """Seconds of 90s, 15m, 2h or 1d. Raises ValueError for anything else."""
    found = re.fullmatch(r"(\d{1,6})([smhd])", text.strip().lower())
    if not found or int(found[1]) == 0:
        raise ValueError(f"{text!r} is no duration like 90s, 15m, 2h or 1d")
    return float(int(found[1]) * _UNITS_S[found[2]])


def seconds(value: float) -> str:
    """A duration for people: 0.52 s, 3 min 5 s, 2 h 5 min, 3 d 4 h."""
    if value < 60:
        return f"{value:.2f} s" if value < 10 else f"{value:.0f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def clean(value: object) -> str:
    """One line without control characters: what came from outside can't play with the terminal."""
    return "".join(char if char.isprintable() else " " for char in str(value)).strip()


def table(rows: Iterable[Row], columns: Sequence[tuple[str, str]]) -> str:
    """Aligned columns, given as (heading, key of the row); "none" without rows. Keys that end in _at are times."""
    cells = [[_cell(key, row.get(key)) for _, key in columns] for row in rows]
    if not cells:
        return "none"
    lines = [[heading for heading, _ in columns], *cells]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _cell(key: str, value: object) -> str:
    if key.endswith("_at") and isinstance(value, (int, float)):
        return local(value)
    return "-" if value is None or value == "" else clean(value)


def jsonable(value: Any) -> Any:
    """The same for --json: times (keys that end in _at or _until) as ISO 8601 in UTC."""
    if isinstance(value, Mapping):
        return {key: _json_time(key, item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    return value


def _json_time(key: str, value: Any) -> Any:
    if key.endswith(("_at", "_until")) and isinstance(value, (int, float)):
        return utc(value)
    return jsonable(value)


def told(events: Sequence[Row], created_at: float) -> list[dict[str, Any]]:
    """The journal with the time since the line before, and with how long a step took on the line that leaves it."""
    lines = []
    before = step_at = created_at
    for event in events:
        line = {
            key: event[key] for key in ("at", "actor", "step", "kind", "what", "reason", "request_id", "uuid", "epoch")
        }
        line["since_s"] = round(max(0.0, event["at"] - before), 3)
        line["phase"], line["phase_s"] = None, None
        left = _TRANSITION.match(event["what"]) if event["kind"] == "transition" and not event["uuid"] else None
        if left and (left["old"] != left["new"] or left["status"] in FINAL):
            line["phase"], line["phase_s"] = left["old"], round(max(0.0, event["at"] - step_at), 3)
            step_at = event["at"]
        elif event["kind"] == "operator" and event["what"].startswith("retry"):
            step_at = event["at"]
        before = event["at"]
        lines.append(line)
    return lines


def story(lines: Sequence[Row]) -> str:
    """The journal as text: a heading per day, then time, time since the line before, who, and what and why."""
    width = max((len(clean(line["actor"])) for line in lines), default=0)
    day, shown = "", []
    for line in lines:
        at = datetime.fromtimestamp(line["at"]).astimezone()
        today = at.strftime("%Y-%m-%d, UTC%z")
        if today != day:
            day = today
            shown.append(f"-- {day}")
        since = f"+{seconds(line['since_s'])}" if line["since_s"] >= 0.005 else ""
        time = f"{at:%H:%M:%S}.{at.microsecond // 10000:02}"
        shown.append(
            f"{time}  {since:>10}  {clean(line['actor']):<{width}}  {line['kind']:<10}  {_sentence(line)}".rstrip()
        )
    return "\n".join(shown)


def _sentence(line: Row) -> str:
    told = clean(line["what"])
    if line["reason"]:
        told += f": {clean(line['reason'])}"
    if line["phase"]:
        told += f"  ({line['phase']} took {seconds(line['phase_s'])})"
    if line["request_id"]:
        told += f"  [{clean(line['request_id'])}]"
    return told


def phases(lines: Sequence[Row]) -> str:
    """How long each step took, in the order in which they were left first."""
    spent: dict[str, float] = {}
    for line in lines:
        if line["phase"]:
            spent[line["phase"]] = spent.get(line["phase"], 0.0) + line["phase_s"]
    return ", ".join(f"{step} {seconds(value)}" for step, value in spent.items())
