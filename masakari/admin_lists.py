"""What the operator's scripts show: reports, recoveries, instances and the story of one recovery. Reads only."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any

from masakari.admin import Answer, Operator, database_now, existing, paused, paused_sentence
from masakari.admin_text import clean, phases, remedy, seconds, story, table, told
from masakari.common.text import local
from masakari.database import Tx
from masakari.model import FINAL, Recovery

PROGRESS = {0: "new", 1: "running", 2: "finished", 3: "failed", 4: "ignored"}
SILENT_S = 60.0
"""A controller tells that it lives every 10 s."""

RECOVERY_COLUMNS = (
    ("ID", "id"),
    ("WHAT", "what"),
    ("SEGMENT", "cluster_port"),
    ("STATUS", "state"),
    ("STEP", "step"),
    ("OPENED", "opened_at"),
    ("ENDED", "ended_at"),
    ("REASON", "reason"),
)
REPORT_COLUMNS = (
    ("ID", "id"),
    ("RECEIVED", "received_at"),
    ("TYPE", "type"),
    ("HOST", "hostname"),
    ("INSTANCE", "uuid"),
    ("EVENT", "event"),
    ("STATUS", "state"),
    ("RECOVERY", "recovery"),
    ("REASON", "reason"),
)
INSTANCE_COLUMNS = (
    ("ID", "id"),
    ("OPENED", "opened_at"),
    ("NAME", "name"),
    ("UUID", "uuid"),
    ("STATUS", "state"),
    ("FROM", "from"),
    ("TO", "to"),
    ("RECOVERY", "recovery"),
    ("REASON", "reason"),
)
STORY_COLUMNS = (
    ("NAME", "name"),
    ("UUID", "uuid"),
    ("FROM", "from"),
    ("TO", "to"),
    ("STATUS", "state"),
    ("REASON", "reason"),
)


def unix(text: object) -> float | None:
    """A DATETIME column (UTC) as Unix seconds; None for none, and for the zero dates of old databases."""
    try:
        return datetime.strptime(str(text)[:19], "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc).timestamp()
    except ValueError:
        return None


def notices(tx: Tx, operator: Operator) -> list[str]:
    """What every list has to say first: pauses, observe mode, and that no controller is at work."""
    now = database_now(tx)
    said = [f"PAUSED: {paused_sentence(row)}. Reports are stored, nothing is done." for row in paused(tx, now)]
    if operator.settings.safety.mode == "observe":
        said.append("OBSERVE MODE: decisions are written to the journal, nothing is written to Nova.")
    newest = tx.all("controller_newest")[0]["at"]
    if newest is None:
        said.append("NO CONTROLLER has ever worked on this database.")
    elif now - newest > SILENT_S:
        said.append(f"NO CONTROLLER is at work: the last sign of one came at {local(newest)}.")
    return said


def list_recoveries(operator: Operator, last: int) -> Answer:
    """Open recoveries and the newest ended ones, with what can be done about those that are held."""

    def read(tx: Tx) -> tuple[list[dict[str, Any]], list[str]]:
        return tx.all("recovery_list", recent=last), notices(tx, operator)

    rows, said = operator.db.read(read)
    shown = [recovery_row(row) for row in rows]
    text = [*said, table(shown, RECOVERY_COLUMNS), *_remedies(rows)]
    return Answer("\n".join(text), {"notices": said, "recoveries": shown})


def list_reports(operator: Operator, last: int) -> Answer:
    """Reports: all that are pending or held, and the newest failed and other ones, each with the reason."""

    def read(tx: Tx) -> tuple[list[dict[str, Any]], dict[int, dict[str, Any]], list[str]]:
        rows = _by_id(tx.all("report_pending"), tx.all("report_failed", many=last), tx.all("report_list", many=last))
        ids = sorted({row["recovery_id"] for row in rows if row["recovery_id"]})
        recoveries = {row["id"]: row for row in tx.all("recovery_by_ids", ids=ids)}
        return rows, recoveries, notices(tx, operator)

    rows, recoveries, said = operator.db.read(read)
    shown = [_report_row(row, recoveries.get(row["recovery_id"])) for row in rows]
    text = [*said, table(shown, REPORT_COLUMNS), *_remedies(recoveries.values())]
    return Answer("\n".join(text), {"notices": said, "reports": shown})


def list_instances(operator: Operator, last: int) -> Answer:
    """Recoveries that are open or failed, and instances: those in work, and the newest failed and other ones."""

    def read(tx: Tx) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
        newest = tx.all("instance_failed", many=last), tx.all("instance_newest", many=last)
        return _by_id(tx.all("instance_open"), *newest), tx.all("recovery_list", recent=last), notices(tx, operator)

    rows, recoveries, said = operator.db.read(read)
    waiting = [row for row in recoveries if row["status"] not in FINAL or row["status"] == "failed"]
    shown, shown_recoveries = [instance_row(row) for row in rows], [recovery_row(row) for row in waiting]
    text = [
        *said,
        "Recoveries that are open or failed:",
        table(shown_recoveries, RECOVERY_COLUMNS),
        *_remedies(waiting),
        "",
        "Instances:",
        table(shown, INSTANCE_COLUMNS),
    ]
    return Answer("\n".join(text), {"notices": said, "recoveries": shown_recoveries, "instances": shown})


def show(operator: Operator, recovery_id: int) -> Answer:
    """The story of a recovery: what it is about, every line of its journal, its phases, and its instances."""

    def read(tx: Tx) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]], list[str]]:
        row = existing(tx, recovery_id)
        events = tx.all("event_list", recovery_id=recovery_id)
        return row, events, tx.all("instance_list", recovery_id=recovery_id), notices(tx, operator)

    row, events, instances, said = operator.db.read(read)
    lines = told(events, row["created_at"])
    shown = [instance_row({**instance, "hostname": row["hostname"]}) for instance in instances]
    # Why an open one doesn't move is said first; an ended one needs nobody.
    text = [*([] if row["status"] in FINAL else said), *_head(row), "", story(lines)]
    if phases(lines):
        text += ["", f"Time per step: {phases(lines)}"]
    if shown:
        text += ["", table(shown, STORY_COLUMNS)]
    data = {"recovery": recovery_row(row), "story": lines, "instances": shown, "notices": said}
    return Answer("\n".join(text), data)


def _head(row: dict[str, Any]) -> list[str]:
    recovery = Recovery.of(row)
    segment = f", segment {clean(recovery.cluster_port)}" if recovery.cluster_port else ""
    opened = f"  opened {local(row['created_at'])}"
    if row["finished_at"]:
        opened += f", ended {local(row['finished_at'])}, after {seconds(row['finished_at'] - row['created_at'])}"
    head = [f"Recovery {recovery.id}: {clean(recovery.subject)}{segment}", opened]
    head.append(f"  {_state(row)} at step {recovery.step}: {clean(recovery.reason)}")
    if recovery.target:
        head.append(f"  reserved host: {clean(recovery.target)}")
    if remedy(row):
        head.append(f"  what to do: {clean(remedy(row))}")
    return head


def recovery_row(row: dict[str, Any]) -> dict[str, Any]:
    """A recovery as lists show it."""
    return {
        "id": row["id"],
        "what": Recovery.of(row).subject if row["kind"] != "return" else f"return of {row['hostname']}",
        **{name: row[name] for name in ("kind", "hostname", "uuid", "process", "cluster_port", "status", "hold")},
        "state": _state(row),
        "step": row["step"],
        "target": row["target"],
        "reason": row["reason"],
        "remedy": remedy(row),
        "opened_at": row["created_at"],
        "ended_at": row["finished_at"],
    }


def _report_row(row: dict[str, Any], recovery: dict[str, Any] | None) -> dict[str, Any]:
    event = "/".join(row[f"notification_{name}"] or "-" for name in ("eventID", "eventType", "detail"))
    return {
        "id": row["id"],
        "notification_id": row["notification_id"],
        "received_at": row["received_at"] or unix(row["create_at"]),
        "type": row["notification_type"],
        "hostname": row["notification_hostname"],
        "uuid": row["notification_uuid"],
        "event": event,
        "cluster_port": row["notification_cluster_port"],
        "observer": row["observer"],
        "signed": row["key_id"] is not None,
        "progress": row["progress"],
        "state": _state(recovery) if recovery else PROGRESS.get(row["progress"], str(row["progress"])),
        "recovery": row["recovery_id"],
        "reason": (recovery["reason"] if recovery else "") or row["reason"] or "",
    }


def instance_row(row: dict[str, Any]) -> dict[str, Any]:
    """An instance of a recovery as lists show it."""
    state = row["status"] or PROGRESS.get(row["progress"], str(row["progress"]))
    reason = row["reason"] or ""
    if row["active_key"] and row.get("recovery_status") == "held":
        state, reason = f"held ({row['hold']})", row["recovery_reason"]
    return {
        "id": row["id"],
        "opened_at": unix(row["create_at"]),
        "name": row["name"],
        "uuid": row["uuid"],
        "progress": row["progress"],
        "state": state,
        "from": row["hostname"],
        "to": row["recover_to"] or row["action_target"],
        "recovery": row["recovery_id"],
        "reason": reason,
    }


def _state(row: dict[str, Any]) -> str:
    return f"held ({row['hold']})" if row["status"] == "held" else str(row["status"])


def _remedies(rows: Iterable[dict[str, Any]]) -> list[str]:
    """One line per held recovery: what to do."""
    return [f"Recovery {row['id']} is {_state(row)}: {clean(remedy(row))}" for row in rows if remedy(row)]


def _by_id(*lists: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Several lists as one, each row once, oldest first."""
    rows = {row["id"]: row for rows in lists for row in rows}
    return [rows[row_id] for row_id in sorted(rows)]
