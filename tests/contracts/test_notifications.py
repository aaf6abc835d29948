"""Notifications as the API lists them, on both databases: pages, filters, how they are found, and who is a duplicate."""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from masakari import segments, store
from masakari.common.clock import Clock
from masakari.common.errors import Unavailable
from masakari.common.notification import Notification, Receipt
from masakari.common.text import sql_time, utc
from masakari.config import Settings
from masakari.database import Database, Tx
from masakari.failures import classify
from masakari.instance_ha import forms
from masakari.instance_ha.notifications import SORT, STATUSES, Notifications
from masakari.instance_ha.refusal import Refusal
from masakari.intake import Intake
from masakari.intake_host import Item
from masakari.queries import load_queries, sql_folder
from masakari.segments import HostForm, SegmentForm
from tests.contracts.test_identity import accept
from tests.lab.processes import Monitor

NOW = 1_800_000_000.0
SEGMENT = "00000000-0000-4000-8000-000000000001"
MANY = 60
NAMES = ["compute1", "compute2", "compute3", "elsewhere", None]
TYPES = {"rscGroup": "COMPUTE_HOST", "VM": "VM", "nodeStatus": "PROCESS"}


class Steady(Clock):
    """A clock that stands until it is moved."""

    at = NOW

    def now(self) -> float:
        return self.at


class Direct:
    """Intake without its thread."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self.intake = Intake(db, clock, Settings, dict, lambda: None)
        self.away = False

    def submit(self, notification: Notification, trusted: bool, key_id: str | None, receipt: float) -> Receipt:
        if self.away:
            raise Unavailable("the database did not commit in time")
        [receipt_] = self.intake.accept([Item(notification, classify(notification), trusted, key_id, receipt)])
        return receipt_


@pytest.fixture
def clock() -> Steady:
    return Steady()


@pytest.fixture
def intake(db: Database, clock: Steady) -> Direct:
    return Direct(db, clock)


@pytest.fixture
def api(db: Database, intake: Direct, clock: Steady) -> Notifications:
    return Notifications(db, intake, Settings, clock)


@pytest.fixture(autouse=True)
def uuids(db: Database) -> dict[str, str]:
    """Three registered hosts."""
    found = {f"compute{number}": f"00000000-0000-4000-9000-{10 - number:012d}" for number in (1, 2, 3)}

    def act(tx: Tx) -> None:
        segment = segments.add_segment(tx, SEGMENT, SegmentForm("okidoki", "auto", "COMPUTE"), NOW)
        for name, uuid in found.items():
            segments.add_host(tx, uuid, segment, HostForm(name, "COMPUTE", "SSH"), NOW)

    db.transaction(act)
    return found


def report(number: int, **fields: Any) -> dict[str, Any]:
    """A row of notification_list."""
    at = fields.pop("at", NOW)
    times = ("time", "start_time", "end_time", "tzname", "daylight")
    nothing = dict.fromkeys(
        (*times, "region_id", "uuid", "cluster_port", "observer", "reason", "recovery_id", "body", "key_id")
    )
    return {
        **nothing,
        "create_at": sql_time(NOW + number),
        "deleted": 0,
        "notification_id": f"report-{number * 7919 % 1009:04d}",
        "type": "rscGroup",
        "hostname": "compute1",
        "event_id": "1",
        "event_type": "2",
        "detail": "2",
        "progress": 0,
        "recover_by": 0,
        "received_at": at,
        "self_report": 0,
        "trusted": 1,
        "outcome": "opened",
        "generated_at": at,
        **fields,
    }


def opened(db: Database, name: str, hold: str | None, status: str, kind: str = "host") -> int:
    return db.transaction(lambda tx: store.add(tx, kind, name, "okidoki", NOW, step="prove", status=status, hold=hold))


@pytest.fixture
def filled(db: Database) -> None:
    """Reports of every kind and status, many of them alike in what they are sorted by, and some as 2015 left them."""
    chosen = random.Random(6)
    broken, waiting = opened(db, "compute1", "internal", "held"), opened(db, "compute2", "proof", "held")
    rows = []
    for number in range(MANY):
        kind = chosen.choice([*TYPES, *TYPES, "test"])
        progress = chosen.choice([0, 1, 1, 2, 3, 4])
        at = None if number % 13 == 0 else NOW + chosen.choice([0.0, 0.5, 30.0, 3600.0, 3600.25])
        rows.append(
            report(
                number,
                type=kind,
                hostname=chosen.choice(NAMES),
                at=at,
                progress=progress,
                outcome=chosen.choice(["opened", "joined", "noted" if progress == 4 else "ignored", None]),
                recovery_id=chosen.choice([None, broken, waiting]),
                uuid=SEGMENT if kind == "VM" else "",
                deleted=int(number == 40),
            )
        )
    db.transaction(lambda tx: tx.execute_many("report_add", rows))
    # What 2015 had no word for.
    db.transaction(lambda tx: tx.execute("progress_reports", progress=3, update_at=None, recover_to=None, recovery_id=waiting))


def pages(api: Notifications, query: str, limit: int, by: str) -> list[dict[str, Any]]:
    """What a client sees that asks for page after page until one is empty."""
    seen: list[dict[str, Any]] = []
    marker = ""
    while found := api.page(f"limit={limit}&{query}{marker}"):
        assert len(found) <= limit
        assert len(seen) <= MANY, "it would never end"
        seen += found
        marker = f"&marker={found[-1][by]}"
    return seen


def numbers(items: list[dict[str, Any]]) -> list[int]:
    return [item["id"] for item in items]


# Pages


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("key", SORT)
def test_pages_are_complete_and_show_nothing_twice(api: Notifications, key: str) -> None:
    everything = numbers(api.page(""))
    assert everything == sorted(everything, reverse=True) and len(everything) > MANY / 2
    for way, by, limit in [("asc", "id", 1), ("desc", "id", 1), ("asc", "notification_uuid", 7), ("desc", "notification_uuid", 7)]:
        seen = numbers(pages(api, f"sort_key={key}&sort_dir={way}", limit, by))
        assert sorted(seen, reverse=True) == everything, (way, limit)
        assert seen == numbers(api.page(f"sort_key={key}&sort_dir={way}"))


@pytest.mark.usefixtures("filled")
def test_the_order_is_that_of_what_is_shown(api: Notifications) -> None:
    for key in ("id", "created_at", "type", "status", "notification_uuid", "source_host_uuid"):
        up = [item[key] or "" for item in api.page(f"sort_key={key}&sort_dir=asc")]
        down = [item[key] or "" for item in api.page(f"sort_key={key}")]
        assert (up, down) == (sorted(up), sorted(up, reverse=True)), key


@pytest.mark.usefixtures("filled")
def test_pages_of_what_a_filter_lets_through(api: Notifications) -> None:
    wanted = {item["id"] for item in api.page("") if item["type"] == "COMPUTE_HOST"}
    for key, way in itertools.product(("created_at", "generated_time", "status"), ("asc", "desc")):
        seen = numbers(pages(api, f"sort_key={key}&sort_dir={way}&type=COMPUTE_HOST", 3, "id"))
        assert len(seen) == len(wanted) and set(seen) == wanted, (key, way)


@pytest.mark.usefixtures("filled")
def test_a_second_key_counts_only_where_the_first_is_alike(api: Notifications) -> None:
    assert api.page("sort_key=type&sort_key=created_at&sort_dir=asc") == api.page("sort_key=type&sort_dir=asc")
    with pytest.raises(Refusal, match="sorted by one key"):
        api.page("sort_key=type&sort_key=status")


def test_a_test_report_is_no_notification(db: Database, api: Notifications) -> None:
    db.transaction(lambda tx: tx.execute_many("report_add", [report(1, type="test")]))
    assert api.page("") == []
    with pytest.raises(Refusal) as refused:
        api.show(report(1)["notification_id"], True)
    assert refused.value.status == 404


def test_a_marker_that_marks_nothing_is_refused(db: Database, api: Notifications) -> None:
    db.transaction(lambda tx: tx.execute_many("report_add", [report(1)]))
    for marker in ("0", "-1", "99999999999999999999", "report-x", "%00", "1%20", "%D9%A1"):
        error = refusal(lambda marker=marker: api.page(f"marker={marker}"))  # type: ignore[misc]
        assert (error.status, error.field) == (400, "marker"), marker


# Filters


@pytest.mark.usefixtures("filled")
def test_each_status_type_and_host_is_found_by_itself(api: Notifications, uuids: dict[str, str]) -> None:
    everything = api.page("")
    wanted = {"status": STATUSES, "type": TYPES.values(), "source_host_uuid": uuids.values()}
    for name, value in ((name, value) for name, values in wanted.items() for value in values):
        found = numbers(api.page(f"{name}={value}"))
        assert found, f"the test has none with {name} {value}"
        assert found == [item["id"] for item in everything if item[name] == value]
    assert api.page(f"source_host_uuid={SEGMENT}") == []


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("name", ["generated-since", "generated_since"])
@pytest.mark.parametrize("since", ["2027-01-15T08:00:30", "2027-01-15T08:00:00.500000Z", "2027-01-15T18:00:00.25%2B09:00"])
def test_those_since_a_moment_are_found(api: Notifications, name: str, since: str) -> None:
    found = api.page(f"{name}={since}")
    at = forms.moment(since.replace("%2B", "+"), name)
    generated = {item["id"]: forms.moment(item["generated_time"], name) for item in api.page("")}
    assert found and len(found) < len(generated)
    # Those of 2015 have no such moment.
    assert set(numbers(found)) == {number for number, told in generated.items() if told >= at and (number - 1) % 13}


@pytest.mark.usefixtures("filled")
def test_filters_go_together(api: Notifications, uuids: dict[str, str]) -> None:
    query = f"type=VM&source_host_uuid={uuids['compute1']}&generated-since=2027-01-15T08:00:00"
    everything = {item["id"]: item for item in api.page("")}
    assert all(
        (everything[number]["type"], everything[number]["source_host_uuid"]) == ("VM", uuids["compute1"])
        for number in numbers(api.page(query))
    )


def test_a_query_that_cannot_be_answered_names_its_field(api: Notifications) -> None:
    for query, field in [
        ("status=done", "status"),
        ("status=NEW", "status"),
        ("status=new%3Btype%3DVM", "status"),
        ("type=HOST", "type"),
        ("type=rscGroup", "type"),
        ("generated-since=yesterday", "generated-since"),
        ("hostname=compute1", "hostname"),
        ("sort_key=payload", "sort_key"),
    ]:
        error = refusal(lambda query=query: api.page(query))  # type: ignore[misc]
        assert (error.status, error.field) == (400, field), query


# How they are found


def plan(db: Database, name: str, **values: Any) -> str:
    """How the database finds the rows of a statement."""

    def explain(tx: Tx) -> str:
        verb = "EXPLAIN" if db.dialect == "mysql" else "EXPLAIN QUERY PLAN"
        statement = load_queries(sql_folder() / "queries.sql", db.dialect)[name]
        tx._statements = {name: replace(statement, sql=f"{verb} {statement.sql}")}
        return json.dumps([{key: row[key] for key in row if key not in ("rows", "filtered")} for row in tx.all(name, **values)])

    return db.read(explain)


NO_FILTER: dict[str, Any] = dict.fromkeys(["type", "status", "since", "hostname", "id", "value"])


def test_a_page_reads_only_what_it_shows(request: pytest.FixtureRequest, db: Database) -> None:
    rows = [report(number, at=NOW + number, body="x" * 700, notification_id=f"r{number}") for number in range(1000)]
    db.transaction(lambda tx: tx.execute_many("report_add", rows))
    if db.dialect == "mysql":
        # It plans by what it knows, and that is a table that was empty.
        request.getfixturevalue("mariadb").sql("ANALYZE TABLE notification_list")
    marks: tuple[dict[str, Any], ...] = ({}, {"id": 500, "value": NOW + 499})
    for order, way, mark in itertools.product(("id", "time"), ("asc", "desc"), marks):
        told = plan(db, f"notification_by_{order}_{way}", **{**NO_FILTER, "sort": "created_at", "many": 20, **mark})
        assert "filesort" not in told and "TEMP B-TREE" not in told, told
        if order == "time":
            assert "notification_generated" in told, told
        elif db.dialect == "mysql":
            assert '"key": "PRIMARY"' in told, told


def test_duplicates_are_looked_for_among_the_newest_only(request: pytest.FixtureRequest, db: Database) -> None:
    rows = [report(number, at=NOW + number, body="x" * 700, notification_id=f"r{number}") for number in range(1000)]
    db.transaction(lambda tx: tx.execute_many("report_add", rows))
    if db.dialect == "mysql":
        request.getfixturevalue("mariadb").sql("ANALYZE TABLE notification_list")
    told = plan(db, "notification_lately", hostname="compute1", type="rscGroup", since=NOW + 995, generated_at=NOW, outcome="")
    assert "notification_alive" in told, told
    assert "range" in told if db.dialect == "mysql" else "received_at>?" in told, told


# Posting


HOST_STOPPED = {"event": "STOPPED", "cluster_status": "OFFLINE", "host_status": "NORMAL"}
HOST_UNKNOWN = {**HOST_STOPPED, "host_status": "UNKNOWN"}
STARTED = {"event": "STARTED", "cluster_status": "ONLINE", "host_status": "NORMAL"}


def note(payload: dict[str, Any] | None = None, kind: str = "COMPUTE_HOST", hostname: str = "compute1") -> dict[str, Any]:
    told = "2027-01-15T08:00:00.654321"
    return {"type": kind, "hostname": hostname, "generated_time": told, "payload": payload or HOST_STOPPED}


def post(api: Notifications, *arguments: Any, **fields: Any) -> dict[str, Any]:
    return api.create(note(*arguments, **fields), "admin", True)


def refusal(call: Callable[[], object]) -> Refusal:
    with pytest.raises(Refusal) as refused:
        call()
    return refused.value


def test_what_is_posted_is_shown_and_listed(api: Notifications, uuids: dict[str, str]) -> None:
    made = post(api)
    assert (made["status"], made["payload"], made["source_host_uuid"]) == ("new", HOST_STOPPED, uuids["compute1"])
    told = made.pop("masakari")
    assert (told["recovery"], told["status"]) == (1, "new")
    assert made["generated_time"] == "2027-01-15T08:00:00.654321"
    assert api.page("") == [made] == [api.show(made["notification_uuid"], False)]
    details = api.show(made["notification_uuid"], True)["recovery_workflow_details"]
    assert [(task["name"], task["state"]) for task in details] == [("intake", "RUNNING")]


def test_it_is_found_since_its_own_moment(api: Notifications) -> None:
    made = post(api)
    assert numbers(api.page(f"generated-since={made['generated_time']}")) == [made["id"]]
    assert api.page("generated-since=2027-01-15T08:00:00.654322") == []


@pytest.mark.parametrize(("payload", "status"), [(HOST_STOPPED, "new"), (HOST_UNKNOWN, "new"), (STARTED, "finished")])
def test_the_status_of_what_is_posted(api: Notifications, payload: dict[str, Any], status: str) -> None:
    assert post(api, payload)["status"] == status


def test_of_what_is_ignored_the_reason_is_shown(db: Database, api: Notifications) -> None:
    form = HostForm("compute1", "COMPUTE", "SSH", on_maintenance=True)
    db.transaction(lambda tx: segments.change_host(tx, segments.registered(tx, ["compute1"])["compute1"], form, "bob", NOW))
    made = post(api)
    assert (made["status"], made["masakari"]["reason"]) == ("ignored", "compute1 is on maintenance")
    [task] = api.show(made["notification_uuid"], True)["recovery_workflow_details"]
    assert (task["name"], task["state"], task["progress"]) == ("intake", "SUCCESS", 1.0)
    assert task["progress_details"][0]["message"] == "compute1 is on maintenance"


def test_a_duplicate_is_the_same_host_type_and_payload_within_the_window(api: Notifications, clock: Steady) -> None:
    post(api)
    assert refusal(lambda: post(api)).status == 409
    post(api, HOST_UNKNOWN)
    post(api, hostname="compute2")
    post(api, {"event": "STOPPED", "process_name": "nova-compute"}, "PROCESS")
    clock.at = NOW + 180
    assert refusal(lambda: post(api)).status == 409
    clock.at = NOW + 181
    post(api)
    assert len(api.page("")) == 5


def test_callbacks_make_no_duplicates_whatever_they_say(db: Database, api: Notifications, clock: Steady) -> None:
    """Anybody may send an unsigned callback where they are held: it must not keep a true notification out."""
    accept(db, Monitor("compute2").host_down("compute1", "", masakari={"type": "COMPUTE_HOST", "payload": HOST_STOPPED}))
    about = {"hostname": "compute1", "type": "rscGroup", "since": 0.0, "generated_at": 0.0, "outcome": ""}
    [row] = db.read(lambda tx: tx.all("notification_lately", **about))
    assert "masakari" in row["body"]
    clock.at = time.time()
    api.create({**note(), "generated_time": utc(clock.at)}, "admin", True)


@pytest.mark.parametrize(("status", "later_s", "taken"), [("finished", 1, True), ("finished", -1, False), ("failed", 1, False)])
def test_a_failure_after_another_one_was_repaired_is_no_duplicate(
    db: Database, api: Notifications, clock: Steady, status: str, later_s: int, taken: bool
) -> None:
    post(api)
    ended_at = clock.at + 5
    db.transaction(lambda tx: tx.execute("recovery_end", id=1, status=status, reason="done", now=ended_at))
    again = {**note(), "generated_time": utc(ended_at + later_s).rstrip("Z")}
    if taken:
        assert api.create(again, "admin", True)["id"] == 2
    else:
        assert refusal(lambda: api.create(again, "admin", True)).status == 409


def test_a_host_that_is_registered_nowhere_is_refused_and_nothing_is_stored(api: Notifications) -> None:
    error = refusal(lambda: post(api, hostname="compute9"))
    assert (error.status, error.field) == (400, "hostname")
    assert api.page("") == []


def test_our_own_monitors_may_tell_of_a_host_that_is_registered_nowhere(api: Notifications) -> None:
    own = Monitor("compute2").host_down("node9", "", utc_time="2027-01-15T08:00:00Z")
    made = post(api, {**HOST_STOPPED, "masakari": own}, hostname="node9")
    assert (made["source_host_uuid"], made["status"], made["notification_uuid"]) == (None, "new", own["id"])
    # The same report, sent again since its answer was lost.
    again = post(api, {**HOST_STOPPED, "masakari": own}, hostname="node9")
    assert again["id"] == made["id"] and len(api.page("")) == 1


def test_what_could_not_be_stored_is_no_notification(api: Notifications, intake: Direct) -> None:
    intake.away = True
    with pytest.raises(Unavailable):
        post(api)
    assert api.page("") == []
    intake.away = False
    post(api)


def test_moves_are_those_of_the_recovery_of_a_host(db: Database, api: Notifications) -> None:
    made = post(api)
    recovery_id = api.create(note(HOST_UNKNOWN), "admin", True)["masakari"]["recovery"]
    rows = [
        {
            "create_at": sql_time(NOW),
            "uuid": SEGMENT.replace("1", str(number)),
            "name": f"vm{number}",
            "notification_id": made["notification_uuid"],
            "deleted": 0,
            "reason": None,
            "finished_at": None,
            "recovery_id": recovery_id,
            "active_key": f"instance:{number}",
            "status": status,
            "progress": 0,
            "recover_by": 0,
            "priority": 0,
            "was": "{}",
        }
        for number, status in enumerate(["new", "running", "finished", "failed", "skipped"])
    ]
    db.transaction(lambda tx: tx.execute_many("instance_add", rows))
    uuid = made["notification_uuid"]
    moves = api.moves(uuid, "sort_key=id&sort_dir=asc")
    assert [move["status"] for move in moves] == ["pending", "ongoing", "succeeded", "failed", "ignored"]
    assert {move["source_host"] for move in moves} == {"compute1"} and {move["notification_uuid"] for move in moves} == {uuid}
    assert api.moves(uuid, "status=failed") == [moves[3]] and api.moves(uuid, "type=migration") == []
    assert api.moves(uuid, f"sort_dir=asc&limit=2&marker={moves[1]['uuid']}") == moves[2:4]
    assert api.move(uuid, moves[2]["uuid"]) == moves[2]
    process = post(api, {"event": "STOPPED", "process_name": "nova-compute"}, "PROCESS")["notification_uuid"]
    assert api.moves(process, "") == []
    assert refusal(lambda: api.move(process, moves[2]["uuid"])).status == 404
    assert refusal(lambda: api.moves("nobody", "")).status == 404
