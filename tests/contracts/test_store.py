"""What the store promises the engine, intake and the operator's tools, on SQLite and on a real MariaDB."""

from __future__ import annotations

import json
import math
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from masakari import hosts, intake_host, store
from masakari.common.clock import Clock
from masakari.common.errors import LeaseLost
from masakari.common.notification import Receipt, parse
from masakari.common.text import sql_time
from masakari.config import Db, Settings
from masakari.database import Database, Duplicate, Tx, open_database
from masakari.failures import classify
from masakari.housekeeping import purge
from masakari.intake import Intake, accept
from masakari.intake_host import Item
from masakari.model import Recovery
from masakari.queries import load_queries, sql_folder
from tests.lab.processes import CLUSTER, Monitor
from tests.lab.pytest_mariadb import mariadb

__all__ = ["mariadb"]

T = TypeVar("T")
LONG_S, OVER_S = 60.0, -1.0  # a lease that lasts, and one that ended before it began
DAY_S = 86400.0


@pytest.fixture(params=["sqlite", "mysql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Db:
    if request.param == "sqlite":
        return Db(drivername="sqlite", name=str(tmp_path / "masakari.sqlite"))
    server = request.getfixturevalue("mariadb")
    server.make_tables()
    db: Db = server.settings()
    return db


@pytest.fixture
def opened(settings: Db) -> Iterator[Callable[[], Database]]:
    """Opens the database once more: what another controller does."""
    databases: list[Database] = []

    def open_it() -> Database:
        databases.append(open_database(settings, Clock()))
        return databases[-1]

    yield open_it
    for database in databases:
        database.close()


@pytest.fixture
def db(opened: Callable[[], Database]) -> Database:
    return opened()


def do(db: Database, func: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """A function of a transaction, in one of its own."""
    return db.transaction(lambda tx: func(tx, *args, **kwargs))


def rows(db: Database, statement: str, **params: Any) -> list[dict[str, Any]]:
    return db.read(lambda tx: tx.all(statement, **params))


def execute(db: Database, statement: str, **params: Any) -> int:
    return db.transaction(lambda tx: tx.execute(statement, **params))


def add(db: Database, host: str = "compute1", **changes: Any) -> int:
    """A recovery of a host, just opened."""
    return do(db, store.add, "host", host, CLUSTER, time.time(), **{"step": "prove", **changes})


def claim(db: Database, recovery_id: int, owner: str = "a", lease_s: float = LONG_S) -> Recovery:
    claimed = do(db, store.claim, recovery_id, owner, lease_s)
    assert claimed is not None
    return claimed


def save(
    db: Database, before: Recovery, *, wait_s: float = 0.0, lease_s: float | None = None, **changes: Any
) -> Recovery:
    after = replace(before, **changes)
    do(db, store.save, before, after, time.time(), wait_s, lease_s)
    return after


def row(db: Database, recovery_id: int) -> dict[str, Any]:
    return rows(db, "recovery_by_id", id=recovery_id)[0]


def due(db: Database) -> list[int]:
    return db.read(store.due)


# Claims


def test_a_due_recovery_is_claimed_by_one_only(db: Database) -> None:
    first, second = add(db, "compute1"), add(db, "compute2")
    assert due(db) == [first, second]
    claimed = claim(db, first, "a")
    assert (claimed.owner, claimed.epoch, claimed.status, claimed.step) == ("a", 1, "new", "prove")
    assert do(db, store.claim, first, "b", LONG_S) is None
    assert due(db) == [second]


def test_twenty_recoveries_are_shared_by_four_claimers_without_overlap(
    db: Database, opened: Callable[[], Database]
) -> None:
    ids = [add(db, f"compute{number}") for number in range(20)]
    got: dict[str, list[int]] = {}

    def work(name: str) -> None:
        mine = opened()
        got[name] = [id for id in ids if do(mine, store.claim, id, name, LONG_S)]

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(id for claimed in got.values() for id in claimed) == ids
    assert {row(db, id)["epoch"] for id in ids} == {1}


def test_the_longest_due_comes_first_and_what_is_due_later_waits(db: Database) -> None:
    later = add(db, "compute1", wait_s=LONG_S)
    new, old = add(db, "compute2"), add(db, "compute3", wait_s=-100.0)
    assert due(db) == [old, new]
    assert do(db, store.claim, later, "a", LONG_S) is None
    assert 50 < db.read(store.next_due_s) <= LONG_S


def test_what_is_due_already_is_not_due_next(db: Database) -> None:
    assert db.read(store.next_due_s) == math.inf
    add(db)
    assert db.read(store.next_due_s) == math.inf


def test_no_more_than_a_bounded_number_is_due_at_once(db: Database) -> None:
    for number in range(store.DUE_AT_ONCE + 3):
        add(db, f"compute{number}")
    assert len(due(db)) == store.DUE_AT_ONCE


def test_after_its_lease_another_takes_over_and_the_first_can_write_no_more(db: Database) -> None:
    first = claim(db, add(db), "a", OVER_S)
    assert due(db) == [first.id]
    second = claim(db, first.id, "b")
    assert (second.owner, second.epoch) == ("b", 2)
    before = row(db, first.id)
    for write in (
        lambda: do(db, store.guard, first, LONG_S),
        lambda: save(db, first, status="finished"),
        lambda: db.read(lambda tx: store.revisit(tx, first)),
    ):
        with pytest.raises(LeaseLost):
            write()
    assert row(db, first.id) == before
    assert db.read(lambda tx: store.revisit(tx, second)) == second


def test_the_same_name_is_no_way_around_the_epoch(db: Database) -> None:
    """A controller that was killed and started again has the name of the one before, and its workers are gone."""
    first = claim(db, add(db), "a", OVER_S)
    claim(db, first.id, "a")
    with pytest.raises(LeaseLost):
        do(db, store.guard, first, LONG_S)


def test_each_guarded_write_renews_the_lease_and_changes_the_row(db: Database) -> None:
    claimed = claim(db, add(db), "a", OVER_S)
    before = row(db, claimed.id)
    do(db, store.guard, claimed, LONG_S)
    after = row(db, claimed.id)
    assert after["beat"] == before["beat"] + 1
    assert after["lease_until"] > before["lease_until"] + 50
    assert due(db) == []


def test_a_guard_that_fails_undoes_what_came_with_it(db: Database) -> None:
    first = claim(db, add(db), "a", OVER_S)
    claim(db, first.id, "b")

    def write(tx: Tx) -> None:
        store.journal(tx, first, "a", [store.Event("intent", "evacuate", "", None, None, 1.0)])
        store.guard(tx, first, LONG_S)

    with pytest.raises(LeaseLost):
        db.transaction(write)
    assert rows(db, "event_list", recovery_id=first.id) == []


def test_a_controller_that_starts_again_finds_its_own_claims_free_and_no_others(db: Database) -> None:
    mine, other = claim(db, add(db, "compute1"), "a"), claim(db, add(db, "compute2"), "b")
    assert execute(db, "recovery_takeover", owner="a") == 1
    assert due(db) == [mine.id]
    assert claim(db, mine.id, "a").epoch == 2
    assert do(db, store.claim, other.id, "a", LONG_S) is None


@pytest.mark.parametrize(
    "segment, until_s, works", [(CLUSTER, None, False), ("*", None, False), ("*", OVER_S, True), ("other", None, True)]
)
def test_a_paused_segment_is_left_alone_until_the_pause_ends(
    db: Database, segment: str, until_s: float | None, works: bool
) -> None:
    id, now = add(db), time.time()
    execute(db, "segment_add", cluster_port=segment)
    paused_until = None if until_s is None else now + until_s
    execute(db, "segment_pause", cluster_port=segment, paused_at=now, paused_until=paused_until, paused_by="me")
    assert due(db) == ([id] if works else [])
    execute(db, "segment_pause", cluster_port=segment, paused_at=None, paused_until=None, paused_by=None)
    assert due(db) == [id]


# What a step returned


def test_a_step_is_stored_and_the_claim_given_back_or_kept(db: Database) -> None:
    kept, given = claim(db, add(db, "compute1")), claim(db, add(db, "compute2"))
    save(db, kept, status="running", step="isolate", data={"a": [1, "ü"]}, tries=3, lease_s=LONG_S)
    save(db, given, status="held", hold="no_proof", reason="no proof", wait_s=10.0)
    found = row(db, kept.id)
    assert Recovery.of(found) == replace(kept, status="running", step="isolate", data={"a": [1, "ü"]}, tries=3)
    assert found["lease_until"] > 0
    found = row(db, given.id)
    assert (found["owner"], found["status"], found["hold"], found["reason"]) == (None, "held", "no_proof", "no proof")
    assert 5 < db.read(store.next_due_s) <= 10
    assert due(db) == []


def test_a_report_that_joins_during_a_step_has_it_looked_at_at_once(db: Database) -> None:
    claimed = claim(db, add(db))
    assert do(db, store.wake, [claimed.id], time.time())
    save(db, claimed, status="held", hold="no_proof", wait_s=LONG_S)
    assert due(db) == [claimed.id]


def test_a_report_that_joins_during_a_step_keeps_the_recovery_from_ending(db: Database) -> None:
    claimed = claim(db, add(db))
    do(db, store.wake, [claimed.id], time.time())
    with pytest.raises(LeaseLost):
        save(db, claimed, status="finished")
    again = db.read(lambda tx: store.revisit(tx, claimed))
    save(db, again, status="finished")
    assert row(db, claimed.id)["status"] == "finished"


def test_what_has_ended_can_not_be_woken_and_the_waker_is_told(db: Database) -> None:
    ended, open_ = claim(db, add(db, "compute1")), add(db, "compute2")
    save(db, ended, status="finished")
    assert not do(db, store.wake, [ended.id, open_], time.time())
    assert do(db, store.wake, [open_], time.time())
    assert do(db, store.wake, [], time.time())
    assert row(db, ended.id)["due_at"] is None


def test_one_active_recovery_per_host_and_any_number_of_ended_ones(db: Database) -> None:
    key = "host:compute1"
    for _ in range(3):
        id = add(db)
        with pytest.raises(Duplicate, match="active_key"):
            add(db)
        assert set(db.read(lambda tx: store.active(tx, [key, "host:compute2"]))) == {key}
        assert db.read(lambda tx: store.active_ids(tx, [key])) == {key: id}
        save(db, claim(db, id), status="failed", reason="no spare")
        assert db.read(lambda tx: store.active(tx, [key])) == {}
    found = row(db, id)
    assert (found["due_at"], found["active_key"], found["owner"]) == (None, None, None)
    assert found["finished_at"] == pytest.approx(time.time(), abs=60)
    assert due(db) == []


def test_what_is_seized_is_taken_from_its_worker_and_due_at_once(db: Database) -> None:
    claimed = claim(db, add(db))
    seized = {"status": "held", "step": "admit", "hold": "many", "reason": "3 hosts failed", "now": time.time()}
    assert execute(db, "recovery_seize", id=claimed.id, **seized) == 1
    with pytest.raises(LeaseLost):
        save(db, claimed, status="running", step="isolate")
    found = row(db, claimed.id)
    assert {name: found[name] for name in ("status", "step", "hold", "reason")} == {
        name: seized[name] for name in ("status", "step", "hold", "reason")
    }
    assert due(db) == [claimed.id]


def test_what_is_ended_from_outside_is_taken_from_its_worker(db: Database) -> None:
    claimed = claim(db, add(db))
    end = {"id": claimed.id, "status": "ignored", "reason": "covered", "now": time.time()}
    assert execute(db, "recovery_end", **end) == 1
    assert execute(db, "recovery_end", **end) == 0
    with pytest.raises(LeaseLost):
        do(db, store.guard, claimed, LONG_S)
    assert (row(db, claimed.id)["active_key"], due(db)) == (None, [])


def test_an_operators_word_reaches_a_recovery_that_waits(db: Database) -> None:
    claimed = claim(db, add(db))
    save(db, claimed, status="held", hold="many", wait_s=LONG_S)
    assert execute(db, "recovery_cancel", id=claimed.id, by="me", now=1.0) == 1
    assert execute(db, "recovery_release", id=claimed.id, now=1.0) == 1
    found = claim(db, claimed.id)
    assert (found.cancel_by, found.released, found.wakes) == ("me", True, 2)


def test_a_failed_recovery_is_reopened_unless_another_one_is_active(db: Database) -> None:
    failed = claim(db, add(db))
    save(db, failed, status="failed", data={"old": 1})
    reopen = {
        "id": failed.id,
        "step": "prove",
        "reason": "tried again",
        "active_key": "host:compute1",
        "data": "{}",
        "now": 2.0,
    }
    other = add(db)
    with pytest.raises(Duplicate, match="active_key"):
        execute(db, "recovery_reopen", **reopen)
    save(db, claim(db, other), status="cancelled")
    assert execute(db, "recovery_reopen", **reopen) == 1
    assert execute(db, "recovery_reopen", **reopen) == 0
    again = claim(db, failed.id)
    assert (again.status, again.step, again.data, again.epoch) == ("new", "prove", {}, 3)


def test_what_must_not_be_forgotten_is_stored_with_an_intent(db: Database) -> None:
    claimed = claim(db, add(db))

    def intend(tx: Tx) -> None:
        store.guard(tx, claimed, LONG_S)
        store.remember(tx, replace(claimed, data={"first_sent_at": 12.5}))

    db.transaction(intend)
    assert db.read(lambda tx: store.revisit(tx, claimed)).data == {"first_sent_at": 12.5}


def test_the_journal_keeps_its_order_and_cuts_what_is_too_long(db: Database) -> None:
    claimed = claim(db, add(db))
    events = [
        store.Event("intent", f"evacuate {number}", "r" * 3000, "u", "req-1", number + 0.25) for number in range(70)
    ]
    do(db, store.journal, claimed, "controller-1", events)
    do(db, store.journal, claimed, "controller-1", [])
    story = rows(db, "event_list", recovery_id=claimed.id)
    assert [line["what"] for line in story] == [f"evacuate {number}" for number in range(70)]
    assert [line["at"] for line in story] == [number + 0.25 for number in range(70)]
    assert {(line["epoch"], line["step"], line["actor"], len(line["reason"])) for line in story} == {
        (1, "prove", "controller-1", 2000)
    }


# Intake


def item(body: dict[str, Any], *, trusted: bool = True, receipt: float | None = None) -> Item:
    now = time.time() if receipt is None else receipt
    notification = parse(json.dumps(body).encode(), now)
    return Item(notification, classify(notification), trusted, "compute2" if trusted else None, now)


def instance_down(instance: str = "", **changes: Any) -> dict[str, Any]:
    return Monitor("compute1").instance_down(instance or str(uuid.uuid4()), **changes)


def host_down(host: str = "compute1", observer: str = "compute2", proof: str = "", **changes: Any) -> dict[str, Any]:
    return Monitor(observer).host_down(host, proof, **changes)


class Desk:
    """An intake on one connection."""

    def __init__(self, db: Any) -> None:
        self.pokes = 0
        self._intake = Intake(db, Clock(), Settings, dict, self._poke)

    def _poke(self) -> None:
        self.pokes += 1

    def accept(self, *items: Item | dict[str, Any]) -> list[Receipt]:
        return self._intake.accept([one if isinstance(one, Item) else item(one) for one in items])


@pytest.fixture
def desk(db: Database) -> Desk:
    return Desk(db)


def reports(db: Database) -> list[dict[str, Any]]:
    return rows(db, "report_list", many=1000)


def test_a_report_and_all_that_follows_from_it_are_stored_together(db: Database, desk: Desk) -> None:
    body = instance_down(detail="5", boot_id="boot-1", novel={"field": ["kept"]})
    [receipt] = desk.accept(body)
    assert (receipt.status_code, receipt.recovery_status, receipt.known) == (200, "new", False)
    [report] = reports(db)
    assert report["notification_id"] == report["report_key"] == body["id"]
    assert (report["recovery_id"], report["progress"], report["recover_by"]) == (receipt.recovery_id, 0, 1)
    assert (report["notification_uuid"], report["notification_endTime"]) == (body["uuid"], None)
    assert report["notification_time"] == sql_time(time.mktime(time.strptime(body["time"], "%Y%m%d%H%M%S")))
    assert json.loads(report["body"]) == body
    [instance] = rows(db, "instance_list", recovery_id=receipt.recovery_id)
    assert (instance["uuid"], instance["active_key"], instance["status"], instance["progress"]) == (
        body["uuid"],
        f"instance:{body['uuid']}",
        "new",
        0,
    )
    [opened] = rows(db, "event_list", recovery_id=receipt.recovery_id)
    assert (opened["kind"], opened["what"]) == ("opened", "QEMU process died")
    assert rows(db, "host_known", hostnames=["compute1"])[0]["boot_id"] == "boot-1"
    assert due(db) == [receipt.recovery_id]
    assert desk.pokes == 1


def test_a_repeated_report_changes_nothing(db: Database, desk: Desk) -> None:
    body = host_down(proof="power_off")
    [first] = desk.accept(body)
    before = (row(db, first.recovery_id or 0), len(reports(db)), rows(db, "event_list", recovery_id=first.recovery_id))
    [again] = desk.accept(body)
    assert again == replace(first, known=True)
    after = (row(db, first.recovery_id or 0), len(reports(db)), rows(db, "event_list", recovery_id=first.recovery_id))
    assert (after, desk.pokes) == (before, 1)


def test_a_repeated_report_is_answered_with_what_became_of_it(db: Database, desk: Desk) -> None:
    body, ignored = instance_down(), instance_down(detail="1")
    [first, nothing] = desk.accept(body, ignored)
    save(db, claim(db, first.recovery_id or 0), status="finished", reason="started again")
    [again, still] = desk.accept(body, ignored)
    assert (again.recovery_id, again.recovery_status, again.reason) == (first.recovery_id, "finished", "started again")
    assert (still.recovery_id, still.known, still.reason) == (None, True, nothing.reason)


def test_a_batch_may_repeat_ids_instances_and_kinds(db: Database, desk: Desk) -> None:
    same, twice = str(uuid.uuid4()), instance_down()
    receipts = desk.accept(
        instance_down(same),
        instance_down(same),
        twice,
        twice,
        instance_down(detail="1"),
        Monitor("compute4").process_down("nova-compute"),
        Monitor("compute4").process_down("nova-compute"),
        host_down("compute5"),
        host_down("compute5", observer="compute3"),
    )
    ids = [receipt.recovery_id for receipt in receipts]
    assert (ids[0], ids[2], ids[5], ids[7]) == (ids[1], ids[3], ids[6], ids[8])
    assert len({ids[0], ids[2], ids[5], ids[7]}) == 4
    assert ids[4] is None
    assert [receipt.known for receipt in receipts] == [False, False, False, True, *[False] * 5]
    assert len(reports(db)) == 8
    assert len(rows(db, "recovery_open")) == 4


def test_a_full_batch_of_instances_is_stored(db: Database, desk: Desk) -> None:
    bodies = [instance_down() for _ in range(64)]
    receipts = desk.accept(*bodies)
    assert len({receipt.recovery_id for receipt in receipts}) == 64
    by_id = {report["notification_id"]: report["recovery_id"] for report in reports(db)}
    assert [by_id[body["id"]] for body in bodies] == [receipt.recovery_id for receipt in receipts]
    assert {row["uuid"] for row in rows(db, "recovery_open")} == {body["uuid"] for body in bodies}


def test_a_second_report_joins_wakes_and_brings_its_evidence(db: Database, desk: Desk) -> None:
    [first] = desk.accept(host_down())
    claimed = claim(db, first.recovery_id or 0)
    save(db, claimed, status="held", hold="no_proof", wait_s=LONG_S)
    [joined] = desk.accept(host_down(observer="compute3", proof="fenced"))
    assert (joined.recovery_id, joined.recovery_status, joined.known) == (first.recovery_id, "held", False)
    assert due(db) == [first.recovery_id]
    [newest] = rows(db, "evidence_newest", hostname="compute1")
    assert newest["kind"] == "fenced"
    assert [line["kind"] for line in rows(db, "event_list", recovery_id=first.recovery_id)][-1] == "joined"


def test_a_report_never_joins_what_ends_at_that_moment(settings: Db, db: Database) -> None:
    """The worker of another controller commits the end between intake's look and its write."""
    if settings.drivername == "sqlite":
        return  # one writer at a time: there is no moment between
    body = instance_down()
    [first] = Desk(db).accept(body)
    claimed = claim(db, first.recovery_id or 0)

    def end() -> None:
        save(db, claimed, status="finished")

    [second] = Desk(Between(open_database(settings, Clock()), "recovery_wake", end)).accept(instance_down(body["uuid"]))
    assert second.recovery_id != first.recovery_id
    assert (second.recovery_status, due(db)) == ("new", [second.recovery_id])


def test_two_controllers_that_open_the_same_recovery_share_it(settings: Db, db: Database) -> None:
    """The other one commits between this one's look and its write."""
    if settings.drivername == "sqlite":
        return  # one controller
    # Of hosts nobody knows yet, the second one waits for the first at their rows already.
    Desk(db).accept(*(Monitor(host).instance_down(str(uuid.uuid4()), detail="1") for host in ("compute1", "compute7")))
    for first, second in [
        (instance_down(same := str(uuid.uuid4())), instance_down(same)),
        (host_down("compute7"), host_down("compute7", observer="compute3")),
        (repeated := instance_down(), repeated),
    ]:
        theirs: list[Receipt] = []
        statement = "recovery_add" if first["type"] == "rscGroup" else "recovery_open_many"

        def other(body: dict[str, Any] = second, theirs: list[Receipt] = theirs) -> None:
            theirs.extend(Desk(db).accept(body))

        [ours] = Desk(Between(open_database(settings, Clock()), statement, other)).accept(first)
        assert ours.recovery_id == theirs[0].recovery_id
        assert ours.known == (first is second)


def test_many_threads_on_one_instance_open_one_recovery(db: Database, opened: Callable[[], Database]) -> None:
    instances = [str(uuid.uuid4()) for _ in range(5)]
    got: list[tuple[str, int | None]] = []

    def send() -> None:
        mine = Desk(opened())
        for instance in instances:
            got.append((instance, mine.accept(instance_down(instance))[0].recovery_id))

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(got) == 20
    assert len(set(got)) == len(instances)
    assert len(reports(db)) == 20


def test_an_instance_of_a_host_recovery_is_not_recovered_beside_it(db: Database, desk: Desk) -> None:
    [host] = desk.accept(host_down(proof="power_off"))
    instance, now = str(uuid.uuid4()), time.time()
    new = store.instance_row(instance, "vm-1", host.recovery_id or 0, "host", now)
    db.transaction(lambda tx: tx.execute_many("instance_add", [new]))
    [joined] = desk.accept(instance_down(instance))
    assert joined.recovery_id == host.recovery_id
    assert len(rows(db, "recovery_open")) == 1


def test_unsigned_reports_are_stored_and_count_only_once_released(db: Database, desk: Desk) -> None:
    [host] = desk.accept(item(host_down(proof="power_off"), trusted=False))
    [instance] = desk.accept(item(instance_down(), trusted=False))
    for receipt in (host, instance):
        found = row(db, receipt.recovery_id or 0)
        assert (found["status"], found["hold"]) == ("held", "callback")
    assert rows(db, "evidence_newest", hostname="compute1") == []
    execute(db, "report_release", recovery_id=host.recovery_id)
    execute(db, "evidence_release", recovery_id=host.recovery_id)
    assert [found["kind"] for found in rows(db, "evidence_newest", hostname="compute1")] == ["power_off"]


def test_a_transaction_of_intake_that_is_run_again_stores_nothing_twice(db: Database) -> None:
    context = intake_host.Context(Settings(), {}, time.time())
    items = [item(instance_down()), item(host_down(proof="power_off"))]

    def twice(tx: Tx) -> list[list[Receipt]]:
        return [accept(tx, items, context), accept(tx, items, context)]

    first, second = db.transaction(twice)
    assert [replace(receipt, known=True) for receipt in first] == second
    assert len(reports(db)) == 2


class Between:
    """A database whose every transaction is interrupted once, before a statement, by something that commits meanwhile."""

    def __init__(self, db: Database, statement: str, what: Callable[[], None]) -> None:
        self._db = db
        self._statement = statement
        self._what: Callable[[], None] | None = what

    def transaction(self, func: Callable[[Any], T]) -> T:
        try:
            return self._db.transaction(lambda tx: func(Between.Interrupted(tx, self)))
        finally:
            self._db.close()

    def reached(self, statement: str) -> None:
        if statement == self._statement and self._what:
            what, self._what = self._what, None
            what()

    class Interrupted:
        """The transaction that is interrupted."""

        def __init__(self, tx: Tx, between: Between) -> None:
            self._tx = tx
            self._between = between

        def __getattr__(self, method: str) -> Callable[..., Any]:
            def call(statement: str, *args: Any, **params: Any) -> Any:
                self._between.reached(statement)
                return getattr(self._tx, method)(statement, *args, **params)

            return call


# What is known of hosts, and spares


def test_the_newest_evidence_of_each_kind_counts_and_can_be_quoted(db: Database, desk: Desk) -> None:
    [opened] = desk.accept(host_down())
    recovery = claim(db, opened.recovery_id or 0)
    for kind, at in (("power_off", 100.25), ("power_off", 300.5), ("power_off", 200.0), ("last_alive", 50.0)):
        do(db, hosts.add_evidence, recovery, kind, at, time.time(), f"seen at {at}")
    known = db.read(lambda tx: hosts.known(tx, "compute1", 0.0))
    assert [(proof.kind, proof.at, proof.detail) for proof in known.proofs] == [("power_off", 300.5, "seen at 300.5")]
    assert [(sign.kind, sign.at) for sign in known.life] == [("last_alive", 50.0)]
    assert known.down_reported_at == pytest.approx(time.time(), abs=60)


def test_a_callback_of_a_host_about_itself_is_a_sign_of_life(db: Database, desk: Desk) -> None:
    desk.accept(item(instance_down(), receipt=time.time() - 50), instance_down())
    [sign] = db.read(lambda tx: hosts.known(tx, "compute1", 0.0)).life
    assert (sign.kind, sign.at) == ("callback", pytest.approx(time.time(), abs=30))
    desk.accept(Monitor("compute3").host_down("compute2", ""))
    assert db.read(lambda tx: hosts.known(tx, "compute2", 0.0)).life == ()


def test_a_host_is_a_spare_once_and_serves_one_recovery(db: Database) -> None:
    def list_it(host: str) -> int:
        return execute(db, "spare_add", create_at=sql_time(time.time()), cluster_port=CLUSTER, hostname=host)

    list_it("compute8")
    list_it("compute9")
    with pytest.raises(Duplicate, match="listed_key"):
        list_it("compute9")
    first, second = db.read(lambda tx: hosts.free_spares(tx, CLUSTER))
    assert (first["hostname"], second["hostname"]) == ("compute8", "compute9")
    assert do(db, hosts.take_spare, first["id"], 1, time.time())
    assert not do(db, hosts.take_spare, first["id"], 2, time.time())
    assert [spare["hostname"] for spare in db.read(lambda tx: hosts.free_spares(tx, CLUSTER))] == ["compute9"]
    assert rows(db, "spare_of", recovery_id=1, hostname="compute8")
    assert not do(db, hosts.give_back_spare, "compute8", 2, time.time())
    assert do(db, hosts.give_back_spare, "compute8", 1, time.time())
    assert not do(db, hosts.give_back_spare, "compute8", 1, time.time())
    assert [spare["hostname"] for spare in db.read(lambda tx: hosts.free_spares(tx, CLUSTER))] == [
        "compute8",
        "compute9",
    ]


def test_a_spare_listed_again_meanwhile_is_not_given_back_a_second_time(db: Database) -> None:
    now = sql_time(time.time())
    execute(db, "spare_add", create_at=now, cluster_port=CLUSTER, hostname="compute9")
    [spare] = db.read(lambda tx: hosts.free_spares(tx, CLUSTER))
    do(db, hosts.take_spare, spare["id"], 1, time.time())
    execute(db, "spare_add", create_at=now, cluster_port=CLUSTER, hostname="compute9")
    assert not do(db, hosts.give_back_spare, "compute9", 1, time.time())
    assert len(db.read(lambda tx: hosts.free_spares(tx, CLUSTER))) == 1


def test_a_failed_host_leaves_the_list_of_spares_with_its_report(db: Database, desk: Desk) -> None:
    execute(db, "spare_add", create_at=sql_time(time.time()), cluster_port=CLUSTER, hostname="compute1")
    desk.accept(item(host_down("compute1"), trusted=False))
    assert len(db.read(lambda tx: hosts.free_spares(tx, CLUSTER))) == 1
    desk.accept(host_down("compute1"))
    assert db.read(lambda tx: hosts.free_spares(tx, CLUSTER)) == []


def test_a_disable_belongs_to_each_recovery_that_wants_it(db: Database) -> None:
    first = claim(db, add(db))
    for was_enabled in (True, False):
        do(db, hosts.want_disable, first, was_enabled, "masakari recovery 1", time.time())
    [wish] = db.read(lambda tx: hosts.disables(tx, "compute1"))
    assert (wish.recovery_id, wish.kind, wish.open, wish.was_enabled, wish.seen) == (
        first.id,
        "host",
        True,
        True,
        False,
    )
    assert execute(db, "disable_seen", hostname="compute1", now=1.0) == 1
    assert rows(db, "disable_waiting", kinds=["host"]) == []
    save(db, first, status="finished")
    assert [waiting["hostname"] for waiting in rows(db, "disable_waiting", kinds=["host"])] == ["compute1"]
    assert execute(db, "disable_clear", hostname="compute1", recovery_id=first.id) == 1
    assert db.read(lambda tx: hosts.disables(tx, "compute1")) == []


# Numbers of 2015, lists, purge

STATUSES = [
    ("running", 1, 1),
    ("held", 1, 1),
    ("finished", 2, 2),
    ("failed", 3, 3),
    ("ignored", 4, 4),
    ("cancelled", 4, 4),
]


@pytest.mark.parametrize("status, report_progress, instance_progress", STATUSES)
def test_the_progress_of_2015_changes_with_the_status(
    db: Database, desk: Desk, status: str, report_progress: int, instance_progress: int
) -> None:
    [receipt] = desk.accept(instance_down())
    save(db, claim(db, receipt.recovery_id or 0), status=status, reason="why", target="compute3")
    [report], [instance] = reports(db), rows(db, "instance_list", recovery_id=receipt.recovery_id)
    assert (report["progress"], report["recover_to"]) == (report_progress, "compute3")
    assert instance["progress"] == instance_progress
    assert (instance["active_key"] is None) == (status in ("finished", "failed", "ignored", "cancelled"))


def test_an_ignored_report_has_the_progress_of_ignored(db: Database, desk: Desk) -> None:
    desk.accept(instance_down(detail="1"))
    [report] = reports(db)
    assert (report["progress"], report["recovery_id"], report["outcome"]) == (4, None, "ignored")


def test_the_lists_show_what_is_open_and_what_ended_lately(db: Database, desk: Desk) -> None:
    ended = [claim(db, add(db, f"compute{number}")) for number in range(3)]
    for recovery in ended:
        save(db, recovery, status="finished")
    [held] = desk.accept(host_down("compute9"))
    save(db, claim(db, held.recovery_id or 0), status="held", hold="no_proof")
    assert [found["id"] for found in rows(db, "recovery_open")] == [held.recovery_id]
    assert [found["id"] for found in rows(db, "recovery_list", recent=2)] == [ended[2].id, held.recovery_id]
    assert [found["recovery_id"] for found in rows(db, "report_pending")] == [held.recovery_id]
    counts = {(found["kind"], found["status"]): found["n"] for found in rows(db, "recovery_counts")}
    assert counts == {("host", "finished"): 3, ("host", "held"): 1}
    [oldest] = rows(db, "recovery_held")
    assert (oldest["n"], oldest["oldest"]) == (1, pytest.approx(time.time(), abs=60))


def test_one_controller_tells_of_a_held_recovery_and_again_after_the_pause(db: Database) -> None:
    held = claim(db, add(db))
    save(db, held, status="held", hold="no_proof")

    def untold(again_before: float) -> list[int]:
        return [found["id"] for found in rows(db, "recovery_to_tell", again_before=again_before, since=0.0)]

    assert untold(again_before=0.0) == [held.id]
    assert execute(db, "recovery_told", id=held.id, now=100.0, told_at=None) == 1
    assert execute(db, "recovery_told", id=held.id, now=100.0, told_at=None) == 0
    assert untold(again_before=99.0) == []
    assert untold(again_before=101.0) == [held.id]


def test_purge_removes_what_ended_long_ago_with_all_that_belongs_to_it_and_nothing_else(
    db: Database, desk: Desk
) -> None:
    [gone, kept, open_, new] = desk.accept(*(instance_down() for _ in range(4)))
    ids = [receipt.recovery_id or 0 for receipt in (gone, kept, open_, new)]
    long_ago = time.time() - 40 * DAY_S
    for id, at in ((ids[0], long_ago), (ids[1], long_ago), (ids[3], time.time())):
        before = claim(db, id)
        do(db, store.save, before, replace(before, status="finished"), at, 0.0, None)
    wish = {"recovery_id": ids[1], "now": long_ago, "was_enabled": 1, "reason": "r"}
    execute(db, "disable_want", hostname="compute1", **wish)
    for kind, at in (("power_off", long_ago), ("fenced", long_ago - 10), ("fenced", long_ago)):
        row_ = hosts.evidence_row("compute1", CLUSTER, hosts.Evidence(kind, at), at)
        execute(db, "evidence_add", **row_)
    assert purge(db.transaction, time.time(), 30) == 1
    left = {found["id"] for found in rows(db, "recovery_list", recent=100)}
    assert left == set(ids[1:])
    assert rows(db, "event_list", recovery_id=ids[0]) == rows(db, "instance_list", recovery_id=ids[0]) == []
    assert rows(db, "instance_list", recovery_id=ids[2])
    evidence = {found["kind"]: found["at"] for found in rows(db, "evidence_newest", hostname="compute1")}
    assert evidence == {"power_off": long_ago, "fenced": long_ago}
    later = time.time() + 31 * DAY_S
    assert purge(db.transaction, later, 30) >= 2
    assert {report["recovery_id"] for report in reports(db)} == {ids[2]}


# Every statement

VALUES: dict[str, Any] = {
    **dict.fromkeys(("create_at", "update_at", "delete_at", "time", "start_time", "end_time"), "2026-01-02 03:04:05"),
    **dict.fromkeys(("id", "recovery_id", "report_id", "epoch", "wakes", "pid", "many", "recent", "tries"), 1),
    **dict.fromkeys(("deleted", "final", "keep", "priority", "migration_seen", "progress", "recover_by"), 0),
    **dict.fromkeys(("self_report", "trusted", "was_enabled"), 1),
    **dict.fromkeys(("at", "now", "since", "again_before", "due_at", "boot_seen_at", "received_at", "started_at"), 1.5),
    **dict.fromkeys(("finished_at", "paused_at", "paused_until", "step_at", "told_at", "lease_s", "wait_s"), 1.5),
    **dict.fromkeys(("first_seen_at", "declared_at", "generated_at", "cleared_at"), 1.5),
    **dict.fromkeys(("enabled", "on_maintenance", "number"), 1),
    **{"ids": [1, 2], "keys": ["a", "b"], "hostnames": ["a", "b"], "targets": ["a", "b"], "kinds": ["host", "process"]},
    **{"cluster_ports": ["cluster_port"], "names": ["pacemaker_name"]},
}
DATES = {"purge_reports": {"before": "2026-01-02 03:04:05"}, "purge_old_instances": {"at": "2026-01-02 03:04:05"}}


def test_every_statement_runs_on_rows_that_it_matches(db: Database) -> None:
    """In the order of the file, except that rows are made first; each is undone before the next one."""
    statements = load_queries(sql_folder() / "queries.sql", "sqlite")
    parameters = {
        name: [*statement.lists, *re.findall(r"(?<![:\w]):([a-z_]+)", statement.sql)]
        for name, statement in statements.items()
    }
    adding = [name for name, statement in statements.items() if statement.sql.startswith("INSERT")]

    def run(tx: Tx, name: str) -> None:
        values = {word: VALUES.get(word, 1.5 if word == "before" else word) for word in parameters[name]}
        values.update(DATES.get(name, {}))
        if statements[name].sql.startswith("SELECT"):
            tx.all(name, **values)
        else:
            tx.execute(name, **values)

    def run_all(tx: Tx, name: str) -> None:
        for first in adding:
            try:
                run(tx, first)
            except Duplicate:
                continue
        if name not in adding:
            run(tx, name)
        raise LeaseLost("undo it")

    for name in statements:
        try:
            db.transaction(lambda tx, name=name: run_all(tx, name))  # type: ignore[misc]
        except LeaseLost:
            continue
        except Exception as error:
            raise AssertionError(f"{name}: {error}") from error
