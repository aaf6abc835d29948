"""64 clients at once at the instance-ha API of a real controller leave consistent tables, and long lists come in fast pages."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests

from masakari.config import Db
from tests.bench.figures import nearly_all
from tests.lab.instance_ha import Caller
from tests.lab.mariadb import PrivateMariaDB
from tests.lab.processes import CloudProcess, ControllerProcess
from tests.lab.pytest_mariadb import mariadb

__all__ = ["mariadb"]

CLIENTS = 64
ROUNDS = 3
PATIENT: dict[str, str | float] = {
    "nova__read_timeout_s": 10,
    "recover_starter__lease_s": 40,
    "safety__action_settle_s": 15,
}
"""A busy machine is no reason to answer that Nova can't be reached."""

FIELDS = [
    *(("segment", name) for name in ("name", "description", "service_type", "enabled")),
    *(("host", name) for name in ("type", "control_attributes", "on_maintenance", "reserved")),
]
TRUTHS = ("enabled", "on_maintenance", "reserved")
NOTIFICATIONS, PAGE = 10_000, 100
PAGE_S = 0.1
LOADED = 5
"""So many times slower may a page be while everything else is tested beside it."""

STRAY_HOSTS = """
    SELECT h.hostname FROM segment_host h LEFT JOIN failover_segment s ON s.cluster_port = h.cluster_port WHERE s.uuid IS NULL"""
STRAY_SPARES = """
    SELECT r.hostname FROM reserve_list r LEFT JOIN segment_host h ON h.hostname = r.hostname AND h.cluster_port = r.cluster_port
    WHERE r.deleted = 0 AND h.hostname IS NULL"""


@dataclass
class Running:
    """A controller, somebody who may ask it, and its database."""

    controller: ControllerProcess
    caller: Caller
    rows: Callable[..., list[dict[str, Any]]]
    many: Callable[[str, Sequence[Sequence[Any]]], None]


@pytest.fixture(scope="module", params=["sqlite", pytest.param("mysql", marks=pytest.mark.needs_mariadb)])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp(request.param)
    file = folder / "masakari.sqlite"
    db, reached = Db(drivername="sqlite", name=str(file)), in_sqlite(file)
    if request.param == "mysql":
        server = request.getfixturevalue("mariadb")
        server.make_tables()
        db, reached = server.settings(), in_mariadb(server)
    hosts = ",".join(f"compute{number}" for number in range(2 * CLIENTS + 1))
    with (
        CloudProcess(folder, hosts=hosts) as cloud,
        ControllerProcess(folder / "controller", db, cloud.remote.auth_url, **PATIENT) as controller,
    ):
        yield Running(controller, Caller(controller.url, cloud.remote.auth_url), *reached)
        assert "Traceback" not in controller.said()


Reached = tuple[Callable[..., list[dict[str, Any]]], Callable[[str, Sequence[Sequence[Any]]], None]]


def in_sqlite(file: Path) -> Reached:
    """What reads rows of a file, and what inserts many."""

    def rows(statement: str) -> list[dict[str, Any]]:
        with closing(sqlite3.connect(file, timeout=30)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(statement)]

    def many(statement: str, values: Sequence[Sequence[Any]]) -> None:
        with closing(sqlite3.connect(file, timeout=30)) as connection, connection:
            connection.executemany(statement.replace("%s", "?"), values)

    return rows, many


def in_mariadb(server: PrivateMariaDB) -> Reached:
    """The same of a server."""

    def many(statement: str, values: Sequence[Sequence[Any]]) -> None:
        with closing(server.connect()) as connection, connection.cursor() as cursor:
            cursor.executemany(statement, values)
            connection.commit()

    return server.sql, many


def at_once(act: Callable[[int], Any], clients: int = CLIENTS) -> list[Any]:
    """What each of so many clients gets, begun at the same moment."""
    gate = threading.Barrier(clients)

    def begin(number: int) -> Any:
        gate.wait()
        return act(number)

    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(begin, range(clients)))


def ask(running: Running, method: str, path: str, content: Any = None) -> requests.Response:
    """Ask; the answer is as described, and no 5xx."""
    answer = running.caller.ask(method, path, content)
    assert answer.status_code < 500, f"{method} {path}: {answer.text}"
    return answer


def segment(name: str) -> dict[str, Any]:
    return {"segment": {"name": name, "recovery_method": "auto", "service_type": "COMPUTE"}}


def host(name: str, **fields: Any) -> dict[str, Any]:
    return {"host": {"name": name, "type": "COMPUTE", "control_attributes": "SSH", **fields}}


def notification(hostname: str, payload: dict[str, Any] | None = None) -> dict[str, Any]:
    told = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    own = {"event": "LIFECYCLE", "vir_domain_event": "RESUMED", "instance_uuid": str(uuid4())}
    return {"notification": {"type": "VM", "hostname": hostname, "generated_time": told, "payload": payload or own}}


@pytest.fixture(autouse=True)
def empty(running: Running) -> Iterator[None]:
    """Afterwards every segment is deleted, as an operator does it, and nothing of it is left."""
    yield
    for one in running.caller.listed("/v1/segments"):
        assert ask(running, "DELETE", f"/v1/segments/{one['uuid']}").status_code == 204
    consistent(running)
    assert running.rows("SELECT hostname FROM segment_host") == []


def consistent(running: Running) -> None:
    """What must hold of the tables at any time, and between them and the lists."""
    assert running.rows(STRAY_HOSTS) == [] and running.rows(STRAY_SPARES) == []
    listed = running.caller.listed("/v1/segments")
    assert len({one["name"] for one in listed}) == len({one["id"] for one in listed}) == len(listed)
    stored = running.rows("SELECT uuid FROM failover_segment WHERE uuid IS NOT NULL")
    assert {row["uuid"] for row in stored} == {one["uuid"] for one in listed}
    hosts = [one["name"] for of in listed for one in running.caller.listed(f"/v1/segments/{of['uuid']}/hosts")]
    assert sorted(hosts) == sorted(row["hostname"] for row in running.rows("SELECT hostname FROM segment_host"))
    assert max(Counter(hosts).values(), default=1) == 1


def test_what_nobody_else_wants_is_done_for_each_of_many_clients(running: Running) -> None:
    def live(number: int) -> None:
        for turn in range(ROUNDS):
            made = ask(running, "POST", "/v1/segments", segment(f"own-{number}"))
            assert made.status_code == 201, made.text
            at = f"/v1/segments/{made.json()['segment']['uuid']}"
            for name in (f"compute{2 * number}", f"compute{2 * number + 1}"):
                registered = ask(running, "POST", f"{at}/hosts", host(name, reserved=turn == 1))
                assert registered.status_code == 201, registered.text
            assert ask(running, "POST", "/v1/notifications", notification(f"compute{2 * number}")).status_code == 202
            assert len(ask(running, "GET", f"{at}/hosts").json()["hosts"]) == 2
            assert ask(running, "GET", "/v1/segments").status_code == 200
            assert ask(running, "PUT", at, {"segment": {"description": f"turn {turn}"}}).status_code == 200
            assert ask(running, "DELETE", f"{at}/hosts/{registered.json()['host']['uuid']}").status_code == 204
            if turn < ROUNDS - 1:
                assert ask(running, "DELETE", at).status_code == 204

    at_once(live)
    consistent(running)
    assert len(running.caller.listed("/v1/segments")) == len(running.rows("SELECT * FROM segment_host")) == CLIENTS


def test_what_all_want_one_gets(running: Running) -> None:
    names = ["wanted-1", "wanted-2", "WANTED-3", "ж-4"]
    answers = at_once(lambda number: ask(running, "POST", "/v1/segments", segment(names[number % 4])))
    assert Counter(answer.status_code for answer in answers) == {201: 4, 409: CLIENTS - 4}
    uuids = [answer.json()["segment"]["uuid"] for answer in answers if answer.status_code == 201]
    at = [f"/v1/segments/{uuid}/hosts" for uuid in uuids]
    answers = at_once(lambda number: ask(running, "POST", at[number % 4], host(f"compute{number % 8}", reserved=True)))
    assert Counter(answer.status_code for answer in answers) == {201: 8, 409: CLIENTS - 8}
    told = notification("compute1", {"event": "LIFECYCLE", "vir_domain_event": "RESUMED", "instance_uuid": str(uuid4())})
    answers = at_once(lambda number: ask(running, "POST", "/v1/notifications", told))
    assert Counter(answer.status_code for answer in answers) == {202: 1, 409: CLIENTS - 1}
    consistent(running)


def test_what_each_changes_of_the_same_thing_is_kept(running: Running) -> None:
    stages = []
    for number in range(CLIENTS // len(FIELDS)):
        made = ask(running, "POST", "/v1/segments", segment(f"shared-{number}")).json()["segment"]
        at = f"/v1/segments/{made['uuid']}"
        registered = ask(running, "POST", f"{at}/hosts", host(f"compute{number}")).json()["host"]
        stages.append({"segment": at, "host": f"{at}/hosts/{registered['uuid']}"})

    def write(number: int) -> None:
        member, field = FIELDS[number % len(FIELDS)]
        path = stages[number // len(FIELDS)][member]
        for turn in range(10):
            value = turn % 2 == 0 if field in TRUTHS else f"{number}-{turn}"
            assert ask(running, "PUT", path, {member: {field: value}}).status_code == 200
            assert ask(running, "GET", path).json()[member][field] == value

    at_once(write)


def test_a_segment_that_is_deleted_while_it_is_used_leaves_nothing(running: Running) -> None:
    for turn in range(10):
        uuid = ask(running, "POST", "/v1/segments", segment(f"going-{turn}")).json()["segment"]["uuid"]
        kept = ask(running, "POST", f"/v1/segments/{uuid}/hosts", host("compute128", reserved=True)).json()["host"]["uuid"]
        requests_: list[tuple[str, str, Any]] = [
            ("DELETE", "", None),
            ("PUT", "", {"segment": {"description": "changed"}}),
            ("PUT", f"/hosts/{kept}", {"host": {"control_attributes": "changed"}}),
            ("PUT", f"/hosts/{kept}", {"host": {"reserved": turn % 2 == 0}}),
            ("DELETE", f"/hosts/{kept}", None),
            ("GET", "/hosts", None),
            *(("POST", "/hosts", host(f"compute{number}", reserved=number % 2 == 0)) for number in range(26)),
        ]

        def act(number: int, uuid: str = uuid, wanted: Any = requests_) -> int:
            method, path, content = wanted[number % len(wanted)]
            return ask(running, method, f"/v1/segments/{uuid}{path}", content).status_code

        assert set(at_once(act)) <= {200, 201, 204, 404, 409}
        consistent(running)


def test_a_long_list_comes_in_pages_complete_in_order_and_fast(running: Running) -> None:
    stored = many_notifications(running)
    all_seconds: list[float] = []
    for query in (
        {},
        {"sort_key": "created_at", "sort_dir": "asc"},
        {"sort_key": "generated_time", "sort_dir": "desc"},
        {"sort_key": "status", "sort_dir": "asc"},
        {"sort_key": "type", "sort_dir": "desc"},
    ):
        seconds: list[float] = []
        found = paged(running, seconds, **query)
        all_seconds += seconds
        print(f"{query or 'newest first'}: p99 of {len(seconds)} pages {nearly_all(seconds, 99) * 1000:.0f} ms")
        assert len(found) == len({one["id"] for one in found}) == stored
        key, down = query.get("sort_key", "created_at"), query.get("sort_dir", "desc") == "desc"
        ties = [(one[key], one["id"]) for one in found]
        assert ties == sorted(ties, reverse=down), query
    assert [one["id"] for one in linked(running)] == [one["id"] for one in paged(running, all_seconds)]
    only = paged(running, all_seconds, type="PROCESS", status="ignored")
    assert len(only) == sum(one["type"] == "PROCESS" and one["status"] == "ignored" for one in found)
    p99 = nearly_all(all_seconds, 99)
    print(f"{len(all_seconds)} pages of {PAGE} of {stored} notifications: p99 {p99 * 1000:.0f} ms")
    assert p99 < LOADED * PAGE_S, f"a page took {p99:.3f} s"


def paged(running: Running, seconds: list[float], **query: Any) -> list[dict[str, Any]]:
    """Everything, page by page, as the client does it; the marker is an id in turn with a uuid."""
    found: list[dict[str, Any]] = []
    while True:
        asked = dict(query, limit=PAGE)
        if found:
            asked["marker"] = found[-1]["id"] if len(found) // PAGE % 2 else found[-1]["notification_uuid"]
        answer = running.caller.ask("GET", "/v1/notifications", params=asked, compare=not found)
        seconds.append(answer.elapsed.total_seconds())
        page = answer.json()["notifications"]
        if not page:
            return found
        assert len(page) <= PAGE
        found += page


def linked(running: Running) -> list[dict[str, Any]]:
    """Everything for a client that asks for no page, and goes on where it is told."""
    found: list[dict[str, Any]] = []
    link = "/v1/notifications"
    while link:
        answer = running.caller.ask("GET", link.removeprefix(running.controller.url)).json()
        found += answer["notifications"]
        link = answer["notifications_links"][0]["href"] if "notifications_links" in answer else ""
    return found


def many_notifications(running: Running) -> int:
    """How many there are, once there are many: copies of one of each type as the API stored it, over days."""
    made = ask(running, "POST", "/v1/segments", segment("many")).json()["segment"]
    ask(running, "POST", f"/v1/segments/{made['uuid']}/hosts", host("compute1"))
    for kind, payload in (("COMPUTE_HOST", {"event": "STARTED"}), ("PROCESS", {"event": "STARTED", "process_name": "sshd"})):
        content = notification("compute1", payload)
        content["notification"]["type"] = kind
        assert ask(running, "POST", "/v1/notifications", content).status_code == 202
    assert ask(running, "POST", "/v1/notifications", notification("compute1")).status_code == 202
    patterns = running.rows("SELECT * FROM notification_list ORDER BY id DESC LIMIT 3")
    [count] = running.rows("SELECT COUNT(*) AS n FROM notification_list")
    at = {"create_at": patterns[0]["create_at"], "update_at": patterns[0]["create_at"]}
    copies = [copy({**patterns[number % 3], **at}, number) for number in range(NOTIFICATIONS - count["n"])]
    names = list(copies[0])
    columns, places = ", ".join(names), ", ".join(["%s"] * len(names))
    statement = f"INSERT INTO notification_list ({columns}) VALUES ({places})"  # noqa: S608
    running.many(statement, [list(row.values()) for row in copies])
    return NOTIFICATIONS


def copy(row: dict[str, Any], number: int) -> dict[str, Any]:
    """One like it, at another time and with another name; some have failed."""
    name = str(uuid4())
    at = row["generated_at"] - number * 7919 % 500_000
    told = time.strftime("%Y-%m-%dT%H:%M:%S.000000", time.gmtime(at))
    body = json.loads(row["body"])
    body["masakari"]["generated_time"] = told
    changed = {"report_key": name, "notification_id": name, "generated_at": at, "body": json.dumps(body), "progress": number % 5}
    return {key: value for key, value in {**row, **changed}.items() if key != "id"}
