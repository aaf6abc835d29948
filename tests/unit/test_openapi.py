"""The description of the instance-ha API is true: its paths are the router's, and each answer in it is given and as described."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from masakari import store
from masakari.api import Answer, Refusals
from masakari.common.clock import Clock
from masakari.common.errors import Unavailable
from masakari.common.notification import Notification, Receipt
from masakari.config import Db, Settings
from masakari.database import Database, open_database
from masakari.failures import classify
from masakari.instance_ha import failover, notifications
from masakari.instance_ha.api import InstanceHa
from masakari.instance_ha.failover import Failover
from masakari.instance_ha.notifications import Notifications
from masakari.instance_ha.tokens import Caller, Unauthorised
from masakari.intake import Intake
from masakari.intake_host import Item
from tests.lab.openapi import Description

PROJECT, NOBODY = "c3ca2e5a1e3f04b0aa3d1f4e6c07a111", "00000000-0000-4000-8000-00000000dead"
CALLERS = {name: Caller("1", name, PROJECT, name, frozenset({name}), 2e9) for name in ("admin", "member")}
SEGMENT = {"name": "okidoki", "recovery_method": "auto", "service_type": "COMPUTE"}
HOST = {"name": "compute1", "type": "COMPUTE", "control_attributes": "SSH"}
PAYLOAD = {"event": "STOPPED", "host_status": "NORMAL", "cluster_status": "OFFLINE"}


class Tokens:
    """Tokens that are called like their role; with none called "away", Keystone is."""

    def check(self, token: str) -> Caller:
        if token == "away":
            raise Unavailable("Keystone can't be asked")
        if token not in CALLERS:
            raise Unauthorised("the token is not known")
        return CALLERS[token]


class DirectIntake:
    """The real intake without its thread."""

    def __init__(self, db: Database) -> None:
        self._intake = Intake(db, Clock(), Settings, dict, lambda: None)

    def submit(self, notification: Notification, trusted: bool, key_id: str | None, receipt: float) -> Receipt:
        return self._intake.accept([Item(notification, classify(notification), trusted, key_id, receipt)])[0]


class Service:
    """The API on an empty database; every answer is compared with the description, and kept in `seen`."""

    def __init__(self, db: Database) -> None:
        self.description = Description()
        self.seen: set[tuple[str, str, int]] = set()
        segments = Failover(db, lambda name: not name.startswith("unknown"), Settings, Clock())
        reports = Notifications(db, DirectIntake(db), Settings, Clock())
        self.api = InstanceHa(segments, reports, Tokens(), Settings, Refusals(Clock()))

    def ask(self, status: int, method: str, path: str, content: Any = None, **environ: str) -> Any:
        """Ask as an admin; the body of the answer, which must have this status. environ: on top of what a client sends."""
        body = b"" if content is None else json.dumps(content).encode()
        path, _, query = path.partition("?")
        given = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_LENGTH": str(len(body)),
            "CONTENT_TYPE": "application/json" if body else "",
            "HTTP_HOST": "controller:15868",
            "HTTP_X_AUTH_TOKEN": "admin",
            "HTTP_OPENSTACK_API_VERSION": "instance-ha 1.3",
        }
        answer = self.api.answer({**given, **environ, "wsgi.input": io.BytesIO(body)})
        assert answer.status == status, answer.body
        self._compare(method, path, answer)
        return json.loads(answer.body) if answer.body else None

    def _compare(self, method: str, path: str, answer: Answer) -> None:
        headers = {name.lower(): value for name, value in answer.headers}
        told = {"content-type": answer.content_type, **headers}
        assert not self.description.problem(method, path, answer.status, told, answer.body), answer
        self.seen.add((method, self.description.path_of(path), answer.status))


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = open_database(Db(drivername="sqlite", name=str(tmp_path / "masakari.sqlite")), Clock())
    yield database
    database.close()


@pytest.fixture
def service(db: Database) -> Service:
    return Service(db)


def example(path: str) -> str:
    """A described path with a uuid that nothing has."""
    names = ("{segment_id}", "{host_id}", "{notification_id}", "{vmove_id}")
    for name in names:
        path = path.replace(name, NOBODY)
    return path


def notification(**changes: Any) -> dict[str, Any]:
    told = time.strftime("%Y-%m-%dT%H:%M:%S.000000", time.gmtime())
    return {"notification": {"type": "COMPUTE_HOST", "hostname": "compute1", "generated_time": told, "payload": PAYLOAD, **changes}}


def test_its_paths_are_those_of_the_router(service: Service) -> None:
    names = iter(("{segment_id}", "{segment_id}", "{segment_id}", "{host_id}") + ("{notification_id}",) * 3 + ("{vmove_id}",))
    routes = {("GET", "/"), ("GET", "/v1")}
    for pattern, handlers in service.api._routes:
        path = "/v1/" + "/".join(part or next(names) for part in pattern)
        routes |= {(method, path) for method in handlers}
    assert routes == service.description.operations


@pytest.mark.parametrize(
    ("path", "filters", "sort"),
    [
        ("/v1/segments", failover.SEGMENT_FILTERS, failover.SEGMENT_SORT),
        ("/v1/segments/{segment_id}/hosts", failover.HOST_FILTERS, failover.HOST_SORT),
        ("/v1/notifications", notifications.FILTERS, notifications.SORT),
        ("/v1/notifications/{notification_id}/vmoves", notifications.MOVE_FILTERS, notifications.MOVE_SORT),
    ],
)
def test_its_filters_and_sort_keys_are_those_of_the_lists(path: str, filters: Any, sort: Any) -> None:
    described = {each["name"]: each for each in Description().parameters("GET", path) if each["in"] == "query"}
    assert set(described) == {*filters, "limit", "marker", "sort_key", "sort_dir"}
    assert set(described["sort_key"]["schema"]["items"]["enum"]) == set(sort)


def test_every_answer_that_is_described_is_given_and_as_described(service: Service, db: Database) -> None:
    open_to_all = {("GET", "/"), ("GET", "/v1")}
    for method, path in sorted(service.description.operations - open_to_all):
        refuse_whatever_it_is(service, method, example(path))
    for method, path in open_to_all:
        service.ask(200, method, path, HTTP_X_AUTH_TOKEN="")
    refuse_bodies(service)
    the_life_of_a_segment(service, db)
    assert service.description.answers - service.seen == set()


def refuse_whatever_it_is(service: Service, method: str, path: str) -> None:
    """What any request may be refused for, before it is looked at."""
    service.ask(401, method, path, HTTP_X_AUTH_TOKEN="invented")
    service.ask(403, method, path, HTTP_X_AUTH_TOKEN="member")
    service.ask(503, method, path, HTTP_X_AUTH_TOKEN="away")
    service.ask(406, method, path, HTTP_OPENSTACK_API_VERSION="instance-ha 1.4")
    service.ask(400, method, path, HTTP_OPENSTACK_API_VERSION="instance-ha one")
    if NOBODY in path:
        member = {"host": HOST} if "/hosts" in path else {"segment": SEGMENT}
        service.ask(404, method, path, member if method in ("POST", "PUT") else None)


def refuse_bodies(service: Service) -> None:
    """What is no body at all."""
    for method, path in service.description.operations:
        if method in ("POST", "PUT"):
            member = "host" if "/hosts" in path else path.split("/")[2].removesuffix("s")
            service.ask(413, method, example(path), {member: {"name": "a" * 70_000}})
            service.ask(415, method, example(path), {member: {}}, CONTENT_TYPE="text/xml")


def the_life_of_a_segment(service: Service, db: Database) -> None:
    """Everything that can be done, and is refused because of what there is."""
    segment = service.ask(201, "POST", "/v1/segments", {"segment": SEGMENT})["segment"]
    service.ask(409, "POST", "/v1/segments", {"segment": SEGMENT})
    at = f"/v1/segments/{segment['uuid']}"
    host = service.ask(201, "POST", f"{at}/hosts", {"host": HOST})["host"]
    service.ask(409, "POST", f"{at}/hosts", {"host": HOST})
    assert "unknown1" in service.ask(400, "POST", f"{at}/hosts", {"host": {**HOST, "name": "unknown1"}})["badRequest"]["message"]
    on = f"{at}/hosts/{host['uuid']}"
    service.ask(200, "PUT", on, {"host": {"reserved": "True"}})
    service.ask(200, "PUT", on, {"host": {"reserved": False}})
    service.ask(200, "PUT", at, {"segment": {"description": "racks 1 and 2"}})
    told = service.ask(202, "POST", "/v1/notifications", notification())["notification"]
    service.ask(409, "POST", "/v1/notifications", notification())
    a_host_recovery(service, db, f"/v1/notifications/{told['notification_uuid']}")
    for path in (at, f"{at}/hosts", on, "/v1/segments", "/v1/notifications"):
        service.ask(200, "GET", path)
        service.ask(200, "GET", f"/v1/{PROJECT}{path.removeprefix('/v1')}", HTTP_OPENSTACK_API_VERSION="")
    for path in (at, on):
        service.ask(409, "DELETE", path)
        service.ask(409, "PUT", path, {"host" if path == on else "segment": {"name": "other"}})
    db.transaction(lambda tx: tx.execute("recovery_end", id=1, status="finished", reason="done", now=time.time()))
    service.ask(204, "DELETE", on)
    service.ask(204, "DELETE", at)


def a_host_recovery(service: Service, db: Database, path: str) -> None:
    """It moves an instance."""
    [row] = db.read(lambda tx: tx.all("recovery_open_about", hostnames=["compute1"], targets=["compute1"]))
    instance = store.instance_row(NOBODY, "web-1", row["id"], "host", time.time())
    db.transaction(lambda tx: tx.execute("instance_add", **instance))
    details = service.ask(200, "GET", path)["notification"]["recovery_workflow_details"]
    assert details[0]["progress_details"]
    [move] = service.ask(200, "GET", f"{path}/vmoves")["vmoves"]
    assert (move["instance_uuid"], move["source_host"]) == (NOBODY, "compute1")
    service.ask(200, "GET", f"{path}/vmoves/{move['uuid']}")

