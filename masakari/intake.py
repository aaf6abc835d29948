"""From a checked report to the database: known id, classification, admission and recovery in one transaction.

Reports that arrive at the same time share transactions: one thread commits, the callers wait. Nothing is answered before
the commit.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from masakari import hosts, identity, intake_host, segments, store
from masakari.common.clock import Clock
from masakari.common.errors import BadNotification, LeaseLost, Unavailable
from masakari.common.notification import Notification, Receipt
from masakari.common.signature import Key
from masakari.common.text import sql_time
from masakari.config import Settings
from masakari.database import Database, Duplicate, Tx
from masakari.failures import HOST, INSTANCE, PROCESS, SIGN_OF_LIFE, TEST, classify
from masakari.intake_host import Filing, Item
from masakari.model import PROGRESS, RECOVER_BY, Recovery
from masakari.steps import FIRST

log = logging.getLogger(__name__)

BATCH = 64
ANSWER_WITHIN_S = 60.0
REFUSED = 403


def _taken() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


@dataclass(slots=True)
class _Waiting:
    item: Item
    # Released when it is done: a plain lock, since an Event costs several times as much, and this is for every report.
    done: threading.Lock = field(default_factory=_taken)
    receipt: Receipt | None = None
    error: Unavailable | None = None


class Intake:
    """Takes reports from any number of threads. `poke` is called after each commit that opened or woke a recovery."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        settings: Callable[[], Settings],
        keys: Callable[[], Mapping[str, Key]],
        poke: Callable[[], None],
    ) -> None:
        self._db = db
        self._clock = clock
        self._settings = settings
        self._keys = keys
        self._poke = poke
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._closed = False

    def submit(self, notification: Notification, trusted: bool, key_id: str | None, receipt: float) -> Receipt:
        """Store a report and return once that is committed.

        Raises Unavailable when nothing was stored, and BadNotification (403) when its sender may not say so.
        """
        # Whoever signed it, a test proves nothing: no sign of life, no host, no evidence.
        counts = trusted and notification.type != TEST
        waiting = _Waiting(Item(notification, classify(notification), counts, key_id, receipt))
        self._queue.put(waiting)
        if self._closed:
            self._turn_away()
        if not waiting.done.acquire(timeout=ANSWER_WITHIN_S):
            raise Unavailable("the database did not commit in time")
        if waiting.error is not None:
            raise waiting.error
        assert waiting.receipt is not None
        if waiting.receipt.status_code == REFUSED:
            raise BadNotification("hostname", waiting.receipt.reason, REFUSED)
        return waiting.receipt

    def run(self, stopping: threading.Event) -> None:
        """The committing thread's body; returns when stopping is set and stop() was called."""
        while not stopping.is_set():
            first = self._queue.get()
            if first is not None:
                self._commit(self._gather(first))
        self._closed = True
        self._turn_away()

    def _turn_away(self) -> None:
        """Nobody commits any more: whoever waits is told so, now. Closed first, so that none is missed."""
        while True:
            try:
                waiting = self._queue.get_nowait()
            except queue.Empty:
                return
            if waiting is not None:
                self._fail([waiting], Unavailable("the controller is stopping"))

    def stop(self) -> None:
        """Wake run() so that it sees that it is to stop."""
        self._queue.put(None)

    def _gather(self, first: _Waiting) -> list[_Waiting]:
        batch = [first]
        while len(batch) < BATCH:
            try:
                waiting = self._queue.get_nowait()
            except queue.Empty:
                break
            if waiting is None:
                self._queue.put(None)
                break
            batch.append(waiting)
        return batch

    def _commit(self, batch: list[_Waiting]) -> None:
        try:
            receipts = self.accept([waiting.item for waiting in batch])
        except Unavailable as error:
            self._fail(batch, error)
        except Exception as error:  # the one broad handler of intake: one report must not end the others
            if len(batch) > 1:
                for waiting in batch:
                    self._commit([waiting])
                return
            log.exception(
                "report %s from %s: internal error", batch[0].item.notification.id, batch[0].item.notification.hostname
            )
            self._fail(batch, Unavailable(f"internal error: {error}"))
        else:
            for waiting, receipt in zip(batch, receipts, strict=True):
                waiting.receipt = receipt
                waiting.done.release()
            # Nobody waits for the log any more.
            for waiting, receipt in zip(batch, receipts, strict=True):
                if receipt.status_code != REFUSED:
                    _tell(waiting.item, receipt)

    @staticmethod
    def _fail(batch: list[_Waiting], error: Unavailable) -> None:
        for waiting in batch:
            waiting.error = error
            waiting.done.release()

    def accept(self, items: list[Item]) -> list[Receipt]:
        """Store these reports in one transaction and say what became of each; nothing of one with status_code REFUSED."""
        for tries_left in (3, 2, 1, 0):
            try:
                receipts = self._db.transaction(lambda tx: accept(tx, items, self._context()))
                break
            except (Duplicate, LeaseLost) as error:
                # Meanwhile somebody opened the same recovery, or ended the one to join: read again.
                if not tries_left:
                    raise Unavailable("another controller is faster all the time") from error
        if any(not receipt.known and receipt.recovery_id for receipt in receipts):
            self._poke()
        return receipts

    def _context(self) -> intake_host.Context:
        key_hosts: dict[str, set[str]] = {}
        for key in self._keys().values():
            key_hosts.setdefault(key.cluster_port, set()).add(key.host)
        return intake_host.Context(self._settings(), key_hosts, self._clock.now())


def _tell(item: Item, receipt: Receipt) -> None:
    """One line per admission, with the facts used."""
    report = item.notification
    if receipt.known:
        log.info("report=%s host=%s: known already, nothing changed", report.id, report.hostname)
    else:
        log.info(
            "report=%s host=%s%s recovery=%s %s: %s",
            report.id,
            report.hostname,
            f" instance={report.uuid}" if report.uuid else "",
            receipt.recovery_id,
            receipt.recovery_status or "no recovery",
            receipt.reason,
        )


def accept(tx: Tx, items: list[Item], context: intake_host.Context) -> list[Receipt]:
    """The one transaction of intake; may be run again from its start."""
    known = {row["report_key"]: row for row in tx.all("report_known", keys=[item.notification.id for item in items])}
    fresh: dict[str, Item] = {}
    for item in items:
        if item.notification.id not in known:
            fresh.setdefault(item.notification.id, item)
    identified = identity.identify(tx, list(fresh.values()), context)
    fresh = {item.notification.id: item for item in _placed(tx, identified.items)}
    filings = _file(tx, list(fresh.values()), context)
    if fresh:
        tx.execute_many("report_add", [_report_row(fresh[key], filing, context.now) for key, filing in filings.items()])
        _add_evidence(tx, fresh, filings, context)
    recoveries = _recoveries(tx, known, filings)
    first_seen: set[str] = set()
    receipts = []
    for item in items:
        key = item.notification.id
        if key in identified.refused:
            receipts.append(Receipt(REFUSED, None, "", identified.refused[key], False))
            continue
        is_known = key in known or key in first_seen
        first_seen.add(key)
        receipts.append(_receipt(known.get(key), filings.get(key), recoveries, is_known))
    return receipts


def _placed(tx: Tx, items: list[Item]) -> list[Item]:
    """The reports in the segments that their hosts are registered in."""
    found = segments.registered(tx, {item.notification.hostname for item in items})
    if not found:
        return items
    placed = []
    for item in items:
        host = found.get(item.notification.hostname)
        placed.append(replace(item, segment=host.cluster_port, ignored=host.ignored_because) if host else item)
    return placed


def _file(tx: Tx, items: list[Item], context: intake_host.Context) -> dict[str, Filing]:
    filings: dict[str, Filing] = {}
    by_kind: dict[str, list[Item]] = {}
    for item in items:
        by_kind.setdefault(item.failure.kind, []).append(item)
    for item in by_kind.pop(HOST, []):
        filings[item.notification.id] = intake_host.file(tx, item, context)
    for item in by_kind.pop(SIGN_OF_LIFE, []):
        filings[item.notification.id] = intake_host.file_sign_of_life(tx, item, context)
    filings.update(_file_small(tx, [*by_kind.pop(INSTANCE, []), *by_kind.pop(PROCESS, [])], context))
    for rest in by_kind.values():
        filings.update({item.notification.id: Filing("ignored", item.failure.reason, None) for item in rest})
    return filings


def _file_small(tx: Tx, items: list[Item], context: intake_host.Context) -> dict[str, Filing]:
    """Instance and process failures, many at once: join the active recovery, or open one."""
    if not items:
        return {}
    # Signed ones first: an unsigned one may join theirs, and not they its hold.
    keyed = [(_key(item), item) for item in sorted(items, key=lambda item: not item.trusted)]
    active = store.active(tx, {key for key, _ in keyed})
    uuids = [item.notification.uuid for item in items if item.failure.kind == INSTANCE]
    covered = store.active_instances(tx, uuids) if uuids else {}
    new: dict[str, Item] = {}
    joined: dict[str, Recovery] = {}
    ignored: set[str] = set()
    for key, item in keyed:
        if key in active and item.trusted and not item.ignored and _is_better(item, active[key]):
            intake_host.supersede(tx, active.pop(key), item.notification.id, context.now)
            new[key] = item
        elif key in active:
            joined[item.notification.id] = active[key]
        elif key not in new and item.notification.uuid in covered:
            recovery = store.get(tx, covered[item.notification.uuid][0].recovery_id)
            assert recovery is not None, "an instance that is acted on belongs to a recovery"
            joined[item.notification.id] = recovery
        elif item.ignored:
            ignored.add(item.notification.id)
        else:
            new.setdefault(key, item)
    opened = _open(tx, new, context) if new else {}
    wake = {joined[item.notification.id].id for item in items if item.notification.id in joined and item.trusted}
    intake_host.wake(tx, sorted(wake), context.now)
    return {
        item.notification.id: Filing("ignored", item.ignored, None)
        if item.notification.id in ignored
        else _small_filing(item, joined.get(item.notification.id), opened.get(key), new.get(key) is item)
        for key, item in keyed
    }


def _is_better(item: Item, active: Recovery) -> bool:
    """Whether a signed report goes before what an open recovery rests on: unsigned callbacks, or the word of another host."""
    other_host = active.kind == "instance" and active.step == "look" and active.hostname != item.notification.hostname
    return intake_host.unsigned(active) or other_host


def _small_filing(item: Item, joined: Recovery | None, opened: int | None, opener: bool) -> Filing:
    if opener:
        reason = item.failure.reason if item.trusted else intake_host.UNSIGNED
        return Filing("opened", reason, opened, "new" if item.trusted else "held")
    recovery_id, status = (joined.id, joined.status) if joined else (opened, "new")
    return Filing("joined", f"{item.failure.reason}; joins recovery {recovery_id}", recovery_id, status)


def _key(item: Item) -> str:
    report = item.notification
    if item.failure.kind == INSTANCE:
        return store.active_key("instance", report.hostname, uuid=report.uuid)
    return store.active_key("process", report.hostname, process=_process(item))


def _process(item: Item) -> str:
    report = item.notification
    name = report.process or f"process {report.detail}"
    return f"{name} up" if report.state == "up" else name


def _open(tx: Tx, new: Mapping[str, Item], context: intake_host.Context) -> dict[str, int]:
    """Recoveries for these failures: their ids by key. Raises Duplicate when another controller was faster."""
    now, db_now = context.now, tx.all("database_now")[0]["now"]
    tx.execute_many("recovery_open_many", [_recovery_row(key, item, now, db_now) for key, item in new.items()])
    opened = store.active_ids(tx, list(new))
    instances = [
        {
            "create_at": sql_time(now),
            "uuid": item.notification.uuid,
            "report_id": item.notification.id,
            "recovery_id": opened[key],
            "active_key": key,
            "status": "new",
            "progress": 0,
            "recover_by": RECOVER_BY["instance"],
        }
        for key, item in new.items()
        if item.failure.kind == INSTANCE
    ]
    tx.execute_many("instance_open_many", instances)
    tx.execute_many("event_add", [intake_host.opened_event(opened[key], item, now) for key, item in new.items()])
    return opened


def _recovery_row(key: str, item: Item, now: float, db_now: float) -> dict[str, object]:
    report, kind = item.notification, item.failure.kind
    process = _process(item).removesuffix(" up") if kind == PROCESS else None
    data = {"failed_at": min(report.utc_time or item.receipt, item.receipt), "report": report.id}
    if kind == PROCESS:
        data["on_failure"] = report.on_failure
    step = "enable" if kind == PROCESS and report.state == "up" else FIRST[kind]
    return {
        "kind": kind,
        "hostname": report.hostname,
        "uuid": report.uuid if kind == INSTANCE else None,
        "process": process,
        "cluster_port": item.cluster_port,
        "status": "new" if item.trusted else "held",
        "step": step,
        "hold": None if item.trusted else "callback",
        "reason": item.failure.reason if item.trusted else intake_host.UNSIGNED,
        "active_key": key,
        "data": intake_host.dumps(data),
        "due_at": db_now,
        "now": now,
    }


def _report_row(item: Item, filing: Filing, now: float) -> dict[str, object]:
    report = item.notification
    progress = PROGRESS[filing.status] if filing.recovery_id else PROGRESS["ignored"]
    return {
        "create_at": sql_time(now),
        "deleted": 0,
        "notification_id": report.id,
        "type": report.type,
        "region_id": report.region_id,
        "hostname": report.hostname,
        "uuid": report.uuid,
        "time": intake_host.sql_local(report.time),
        "event_id": report.event_id,
        "event_type": report.event_type,
        "detail": report.detail,
        "start_time": intake_host.sql_local(report.start_time),
        "end_time": intake_host.sql_local(report.end_time),
        "tzname": report.tzname,
        "daylight": report.daylight,
        "cluster_port": report.cluster_port,
        "progress": progress,
        "recover_by": item.failure.recover_by,
        "received_at": item.receipt,
        "self_report": int(item.self_report),
        "observer": report.observer,
        "key_id": item.key_id,
        "trusted": int(item.trusted),
        "outcome": filing.outcome,
        "reason": filing.reason[:1000],
        "recovery_id": filing.recovery_id,
        "body": report.body,
        "generated_at": report.utc_time or item.receipt,
    }


def _add_evidence(
    tx: Tx, fresh: Mapping[str, Item], filings: Mapping[str, Filing], context: intake_host.Context
) -> None:
    """Every statement about a host being off or alive; that of unsigned reports counts only once released."""
    told = {key: intake_host.evidence_of(item, context.settings) for key, item in fresh.items()}
    if not any(told.values()):
        return
    ids = {
        row["report_key"]: row["id"]
        for row in tx.all("report_known", keys=[key for key, evidence in told.items() if evidence])
    }
    rows: list[dict[str, object]] = []
    for key, evidence in told.items():
        item = fresh[key]
        rows += [
            hosts.evidence_row(
                item.notification.hostname,
                item.cluster_port,
                e,
                item.receipt,
                trusted=item.trusted,
                report_id=ids[key],
            )
            for e in evidence
        ]
    tx.execute_many("evidence_add", rows)


def _recoveries(tx: Tx, known: Mapping[str, dict[str, object]], filings: Mapping[str, Filing]) -> dict[int, Recovery]:
    """The recoveries that known reports belong to; new filings carry their status themselves."""
    found = {}
    for recovery_id in {row["recovery_id"] for row in known.values() if row["recovery_id"]}:
        recovery = store.get(tx, int(str(recovery_id)))
        if recovery is not None:
            found[recovery.id] = recovery
    return found


def _receipt(
    row: dict[str, object] | None, filing: Filing | None, recoveries: Mapping[int, Recovery], known: bool
) -> Receipt:
    if row is not None:
        recovery = recoveries.get(int(str(row["recovery_id"]))) if row["recovery_id"] else None
        return Receipt(
            200,
            recovery.id if recovery else None,
            recovery.status if recovery else "ignored",
            (recovery.reason if recovery else str(row["reason"] or "")),
            True,
        )
    assert filing is not None
    return Receipt(200, filing.recovery_id, filing.status, filing.reason, known)
