"""The notifications of the API: posted ones go the way of every callback, and every report of a failure is listed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol
from uuid import uuid4

from masakari import segments
from masakari.common.clock import Clock
from masakari.common.errors import Unavailable
from masakari.common.notification import Notification, Receipt
from masakari.config import Settings
from masakari.database import Database, Tx
from masakari.failures import IGNORED, classify
from masakari.instance_ha import forms, paging, translate, views
from masakari.instance_ha.forms import Fields
from masakari.instance_ha.refusal import Refusal, bad, not_found
from masakari.intake_host import KEYSTONE

TURNS = 16
TURN_WITHIN_S = 5.0
FILTERS = ("source_host_uuid", "type", "status", "generated-since", "generated_since")
STATUSES = ("new", "running", "finished", "error", "failed", "ignored")
SORT = {
    "created_at": "id",
    "id": "id",
    "generated_time": "time",
    "updated_at": "other",
    "type": "other",
    "status": "other",
    "notification_uuid": "other",
    "source_host_uuid": "other",
}
MOVE_FILTERS = ("type", "status")
MOVE_SORT = ("created_at", "updated_at", "id", "uuid", "type", "status", "start_time", "end_time", "source_host", "dest_host")


class Intake(Protocol):
    """Where reports go."""

    def submit(self, notification: Notification, trusted: bool, key_id: str | None, receipt: float) -> Receipt:
        """Store a report and return once that is committed. Raises Unavailable when nothing was stored."""


class Notifications:
    """What /v1/notifications answers. `settings`: those of the moment. Each method may be called by any thread."""

    def __init__(self, db: Database, intake: Intake, settings: Callable[[], Settings], clock: Clock) -> None:
        self._db = db
        self._intake = intake
        self._settings = settings
        self._clock = clock
        self._turns = [threading.Lock() for _ in range(TURNS)]

    def create(self, fields: Fields, user: str, may_prove: bool) -> dict[str, Any]:
        """Post one; `may_prove` as of translate.as_callback().

        Raises Refusal: 400 for a host that is registered nowhere, unless our own monitors tell of it as in a callback, where
        it may have pacemaker's name; 409 for a duplicate; Unavailable.
        """
        form = forms.notification(fields)
        now = self._clock.now()
        host = self._db.read(lambda tx: segments.registered(tx, [form.hostname]).get(form.hostname))
        report = translate.as_callback(form, str(uuid4()), host, user, now, may_prove)
        # What our own monitors send twice has the same id.
        with contextlib.nullcontext() if translate.OURS in form.payload else self._no_duplicate(form, report, now):
            receipt = self._intake.submit(report, True, f"{KEYSTONE}{user}"[:255], now)
        shown = self._db.read(lambda tx: self._shown(tx, report.id))
        told = {"recovery": receipt.recovery_id, "status": receipt.recovery_status, "reason": receipt.reason}
        return {**shown, translate.OURS: told}

    def page(self, query: str) -> list[dict[str, Any]]:
        """A page of them. Raises Refusal; Unavailable."""
        asked = paging.read_query(query, FILTERS, tuple(SORT), "created_at")
        key, down = _one_order(asked)
        since = asked.filters.get("generated-since") or asked.filters.get("generated_since")
        status, kind = asked.filters.get("status"), asked.filters.get("type")
        if status is not None and status not in STATUSES:
            raise bad("status", f"must be one of {', '.join(STATUSES)}")
        if kind is not None and kind not in translate.TYPES:
            raise bad("type", f"must be one of {', '.join(translate.TYPES)}")
        values: dict[str, Any] = {
            "type": translate.TYPES[kind] if kind else None,
            "status": status,
            "since": forms.moment(since, "generated-since") if since else None,
            "sort": key,
            "many": asked.limit,
        }
        return self._db.read(lambda tx: self._page(tx, asked, key, down, values))

    def show(self, uuid: str, with_details: bool) -> dict[str, Any]:
        """One of them. Raises Refusal (404); Unavailable."""
        return self._db.read(lambda tx: self._shown(tx, uuid, with_details))

    def moves(self, uuid: str, query: str) -> list[dict[str, Any]]:
        """What became of the instances of a failed host. Raises Refusal; Unavailable."""
        asked = paging.read_query(query, MOVE_FILTERS, MOVE_SORT, "created_at")
        found = self._db.read(lambda tx: _moves(tx, uuid))
        return paging.page(found, asked, lambda move, name, value: move[name] == value)

    def move(self, uuid: str, move_uuid: str) -> dict[str, Any]:
        """One of those. Raises Refusal (404); Unavailable."""
        for move in self._db.read(lambda tx: _moves(tx, uuid)):
            if move["uuid"] == move_uuid:
                return move
        raise not_found("vmove", move_uuid)

    @contextlib.contextmanager
    def _no_duplicate(self, form: forms.NotificationForm, report: Notification, now: float) -> Iterator[None]:
        """Of a host one is stored at a time, so that the second of two alike sees the first. Raises Refusal; Unavailable."""
        turn = self._turns[hash(form.hostname) % TURNS]
        if not turn.acquire(timeout=TURN_WITHIN_S):
            raise Unavailable(f"other notifications of {form.hostname} are still being stored")
        try:
            self._refuse_duplicate(form, report, now)
            yield
        finally:
            turn.release()

    def _refuse_duplicate(self, form: forms.NotificationForm, report: Notification, now: float) -> None:
        """What was ignored for another reason than its own words, as that its host was on maintenance, was not dealt with; and a
        failure after another one was repaired is a new one."""
        about = {
            "hostname": form.hostname,
            "type": report.type,
            "since": now - self._settings().instance_ha.duplicate_notification_detection_interval,
            "generated_at": form.generated_at,
            "outcome": "" if classify(report).kind == IGNORED else "ignored",
        }
        rows = self._db.read(lambda tx: tx.all("notification_lately", **about))
        if any(translate.same(form, row) for row in rows):
            raise Refusal(409, f"a notification of {form.hostname} with the same type and payload was posted just now")

    def _page(
        self, tx: Tx, asked: paging.Query, key: str, down: bool, values: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        uuids = _uuids(tx)
        hostname = None
        if wanted := asked.filters.get("source_host_uuid"):
            hostname = next((name for name, uuid in uuids.items() if uuid == wanted), None)
            if hostname is None:
                return []
        last = _marked(tx, asked.marker) if asked.marker else None
        rows = tx.all(
            f"notification_by_{SORT[key]}_{'desc' if down else 'asc'}",
            **values,
            hostname=hostname,
            id=last["id"] if last else None,
            value=_value(key, last, uuids) if last else None,
        )
        return [translate.shown(row, uuids) for row in rows]

    def _shown(self, tx: Tx, uuid: str, with_details: bool = False) -> dict[str, Any]:
        row = _called(tx, uuid)
        shown = translate.shown(row, _uuids(tx))
        if with_details:
            events = tx.all("event_list", recovery_id=row["recovery_id"]) if row["recovery_id"] else _ignored(row)
            shown["recovery_workflow_details"] = translate.details(events, row["recovery_status"] or "ignored")
        return shown


def _one_order(asked: paging.Query) -> tuple[str, bool]:
    (key, down), *others = asked.sort
    if any(SORT[other] != "id" or other_down != down for other, other_down in others):
        raise bad("sort_key", "notifications are sorted by one key; those that are alike by created_at, in the same direction")
    return key, down


def _called(tx: Tx, uuid: str) -> dict[str, Any]:
    row = tx.one("notification_called", called=uuid)
    if row is None or row["notification_type"] not in translate.NAMES:
        raise not_found("notification", uuid)
    return row


def _ignored(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Why nothing is done about a report, as the only event."""
    at = row["received_at"] or row["generated_at"]
    return [{"step": "", "what": row["reason"], "reason": "", "at": at}] if row["reason"] and at else []


def _marked(tx: Tx, marker: str) -> dict[str, Any]:
    row = tx.one("notification_called", called=marker)
    if row is None and marker.isascii() and marker.isdigit() and len(marker) < 18:
        row = tx.one("notification_numbered", id=int(marker))
    if row is None:
        raise bad("marker", f"there is no notification {marker[:64]}")
    return row


def _value(key: str, row: Mapping[str, Any], uuids: Mapping[str, str]) -> Any:
    """What a row is sorted by, as the statements do it."""
    if key == "generated_time":
        return row["generated_at"]
    if key == "status":
        return translate.status(row)
    if key == "type":
        return translate.NAMES.get(row["notification_type"], "PROCESS")
    if key == "source_host_uuid":
        return uuids.get(row["notification_hostname"] or "", "")
    columns = {"updated_at": "update_at", "notification_uuid": "report_key"}
    return (row[columns[key]] or "") if key in columns else None


def _uuids(tx: Tx) -> dict[str, str]:
    return {row["hostname"]: row["uuid"] for row in tx.all("segment_host_uuids")}


def _moves(tx: Tx, uuid: str) -> list[dict[str, Any]]:
    row = _called(tx, uuid)
    if row["recovery_kind"] != "host":
        return []
    name = row["report_key"] or row["notification_id"]
    rows = tx.all("instance_list", recovery_id=row["recovery_id"])
    return [views.move(instance, name, row["notification_hostname"]) for instance in rows]
