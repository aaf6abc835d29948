from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests

from masakari.common.errors import NotFound, Rejected, Unavailable
from masakari.nova import Action, Migration, Server, Service, evacuate_request

from .cloud_wire import (
    REQUEST_ID,
    TAKEN,
    Answer,
    Asked,
    Cloud,
    nova_error,
)

UUID = "74a6d72f-a112-45f4-af67-6e8e458fd6b4"
SERVICE_ID = "3a5f654c-a89f-4efb-a526-dd1fb2721b7b"
ROOT = "/v2.1/"
SERVICES = "/v2.1/os-services"
SERVERS = "/v2.1/servers/detail"
SERVER = f"/v2.1/servers/{UUID}"
ACTION = f"{SERVER}/action"
MIGRATIONS = "/v2.1/os-migrations"

SERVICE_RECORD = {
    "binary": "nova-compute",
    "host": "compute1",
    "id": SERVICE_ID,
    "zone": "nova",
    "status": "disabled",
    "state": "down",
    "updated_at": "2026-11-20T19:00:23.000000",
    "disabled_reason": "host failed",
    "forced_down": True,
}
SERVER_RECORD = {
    "id": UUID,
    "name": "read-3",
    "status": "ACTIVE",
    "tenant_id": "83fde1e26673404097c7b57a2fb4d45b",
    "metadata": {"HA_Enabled": "true"},
    "image": {"id": "022a1056-aade-4709-ab2d-80de53d27d93", "links": []},
    "flavor": {"id": "1", "links": []},
    "created": "2026-11-20T18:58:32Z",
    "OS-EXT-SRV-ATTR:host": "compute1",
    "OS-EXT-SRV-ATTR:hypervisor_hostname": "compute1.example",
    "OS-EXT-STS:task_state": None,
    "OS-EXT-STS:vm_state": "active",
    "OS-EXT-STS:power_state": 1,
}
MIGRATION_RECORD = {
    "id": 6,
    "uuid": "d25efe58-85f1-4627-aa28-a997e8798672",
    "source_compute": "compute1",
    "dest_compute": "compute3",
    "instance_uuid": UUID,
    "status": "done",
    "migration_type": "evacuation",
    "created_at": "2026-11-20T19:00:04.000000",
    "updated_at": "2026-11-20T19:00:05.000000",
}
COMPUTE1 = Service("compute1", SERVICE_ID, True, True, False, None, "")


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


def services(*records: dict[str, Any]) -> Answer:
    return Answer(200, {"services": list(records)})


def without(record: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in keys}


# Reading.


def test_a_service_is_read(cloud: Cloud) -> None:
    cloud.wire.on("GET", SERVICES, services(SERVICE_RECORD))
    read = cloud.nova.service("compute1")
    assert read == Service("compute1", SERVICE_ID, False, False, True, 1795201223.0, "host failed")
    assert cloud.wire.asked[-1].query == {"binary": "nova-compute", "host": "compute1"}


def test_a_service_of_an_old_nova_is_read() -> None:
    cloud = Cloud("2.1")
    record = without(SERVICE_RECORD, "forced_down") | {
        "id": 4,
        "updated_at": None,
        "disabled_reason": None,
        "status": "enabled",
        "state": "up",
    }
    cloud.wire.on("GET", SERVICES, services(record))
    assert cloud.nova.services() == [Service("compute1", "4", True, True, False, None, "")]
    assert cloud.wire.asked[-1].version == "2.1"


def test_a_host_that_nova_does_not_know_has_no_service(cloud: Cloud) -> None:
    cloud.wire.on("GET", SERVICES, services())
    assert cloud.nova.service("nowhere") is None


def test_the_service_of_another_host_is_never_given(cloud: Cloud) -> None:
    cloud.wire.on("GET", SERVICES, services(SERVICE_RECORD | {"host": "compute10"}, SERVICE_RECORD))
    service = cloud.nova.service("compute1")
    assert service is not None
    assert service.host == "compute1"


def test_a_server_is_read(cloud: Cloud) -> None:
    cloud.wire.on("GET", SERVER, Answer(200, {"server": SERVER_RECORD}))
    assert cloud.nova.server(UUID) == Server(
        id=UUID,
        name="read-3",
        status="ACTIVE",
        vm_state="active",
        task_state=None,
        power_state=1,
        host="compute1",
        metadata={"HA_Enabled": "true"},
        local_disk=True,
        fault="",
        created="2026-11-20T18:58:32Z",
    )


def test_the_fault_of_a_server_and_its_missing_disk_are_read(cloud: Cloud) -> None:
    fault = {"code": 500, "message": "No valid host was found. ", "created": "2026-11-20T19:00:00Z"}
    cloud.wire.on("GET", SERVER, Answer(200, {"server": SERVER_RECORD | {"fault": fault, "image": ""}}))
    read = cloud.nova.server(UUID)
    assert (read.fault, read.local_disk) == ("No valid host was found. ", False)


@pytest.mark.parametrize("record", [without(SERVER_RECORD, "image"), SERVER_RECORD | {"image": None}])
def test_a_server_counts_as_having_a_local_disk_unless_nova_says_otherwise(
    cloud: Cloud, record: dict[str, Any]
) -> None:
    cloud.wire.on("GET", SERVER, Answer(200, {"server": record}))
    assert cloud.nova.server(UUID).local_disk


def test_a_hidden_host_is_not_taken_for_none(cloud: Cloud) -> None:
    record = without(SERVER_RECORD, "OS-EXT-SRV-ATTR:host")
    cloud.wire.on("GET", SERVER, Answer(200, {"server": record}))
    with pytest.raises(Rejected, match="doesn't show its host"):
        cloud.nova.server(UUID)


def test_an_unknown_server_is_not_found(cloud: Cloud) -> None:
    message = f"Instance {UUID} could not be found."
    cloud.wire.on("GET", SERVER, nova_error(404, "itemNotFound", message))
    with pytest.raises(NotFound, match=message) as found:
        cloud.nova.server(UUID)
    assert found.value.request_id == REQUEST_ID
    assert len(cloud.wire.sent(SERVER)) == 1


def page_of(records: list[dict[str, Any]], key: str, mark: str) -> Callable[[Asked], Answer]:
    """Answers like Nova: a link to a next page whenever this one is full, at an address of Nova's own."""

    def answer(asked: Asked) -> Answer:
        start, limit = 0, int(asked.query.get("limit", 2))
        if "marker" in asked.query:
            start = [record[mark] for record in records].index(asked.query["marker"]) + 1
        page = records[start : start + limit]
        body: dict[str, Any] = {key: page}
        if len(page) == limit:
            body[f"{key}_links"] = [{"rel": "next", "href": "http://behind.the.proxy:8774/v2.1/nowhere"}]
        return Answer(200, body)

    return answer


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5])
def test_all_pages_of_servers_are_read(count: int) -> None:
    cloud = Cloud(page_size=2)
    records = [SERVER_RECORD | {"id": f"server-{number}"} for number in range(count)]
    cloud.wire.on("GET", SERVERS, page_of(records, "servers", "id"))
    assert [server.id for server in cloud.nova.servers("compute1")] == [record["id"] for record in records]
    assert len(cloud.wire.sent(SERVERS)) == count // 2 + 1
    for asked in cloud.wire.sent(SERVERS):
        assert asked.query | {"marker": ""} == {
            "all_tenants": "1",
            "host": "compute1",
            "limit": "2",
            "marker": "",
        }


def test_only_servers_of_the_host_are_listed(cloud: Cloud) -> None:
    elsewhere = SERVER_RECORD | {"id": "other", "OS-EXT-SRV-ATTR:host": "compute2"}
    cloud.wire.on("GET", SERVERS, Answer(200, {"servers": [elsewhere, SERVER_RECORD]}))
    assert [server.id for server in cloud.nova.servers("compute1")] == [UUID]


def test_a_list_that_changes_while_it_is_read_may_be_read_again(cloud: Cloud) -> None:
    full = Answer(200, {"servers": [SERVER_RECORD], "servers_links": [{"rel": "next", "href": ""}]})
    cloud.wire.on("GET", SERVERS, full, nova_error(400, "badRequest", "marker not found"))
    with pytest.raises(Unavailable, match="the list changed"):
        cloud.nova.servers("compute1")


def test_a_query_that_nova_refuses_is_refused(cloud: Cloud) -> None:
    cloud.wire.on("GET", SERVERS, nova_error(403, "forbidden", "Policy doesn't allow it"))
    with pytest.raises(Rejected) as refused:
        cloud.nova.servers("compute1")
    assert refused.value.status == 403


def test_evacuations_are_read_newest_first_over_all_pages(cloud: Cloud) -> None:
    records = [
        MIGRATION_RECORD | {"id": number, "uuid": f"migration-{number}", "dest_compute": None} for number in (4, 3, 5)
    ]
    records[0]["created_at"] = "2026-11-20T18:00:00.000000"
    cloud.wire.on("GET", MIGRATIONS, page_of(records, "migrations", "uuid"))
    found = cloud.nova.evacuations(source="compute1")
    assert [migration.id for migration in found] == [5, 3, 4]
    assert found[0] == Migration(5, UUID, "done", "compute1", None, 1795201204.0)
    first = cloud.wire.sent(MIGRATIONS)[0]
    assert first.query == {"migration_type": "evacuation", "source_compute": "compute1"}
    assert first.version == "2.59"


def test_evacuations_of_one_instance_are_asked_for(cloud: Cloud) -> None:
    cloud.wire.on("GET", MIGRATIONS, Answer(200, {"migrations": [MIGRATION_RECORD]}))
    assert cloud.nova.evacuations(instance=UUID)[0].dest == "compute3"
    assert cloud.wire.asked[-1].query == {"migration_type": "evacuation", "instance_uuid": UUID}


def test_actions_are_read(cloud: Cloud) -> None:
    record = {
        "action": "evacuate",
        "instance_uuid": UUID,
        "request_id": REQUEST_ID,
        "user_id": "981e4f8b144f4f3c81993b00dfe04c46",
        "start_time": "2026-11-20T19:00:01.000000",
        "message": None,
    }
    cloud.wire.on("GET", f"{SERVER}/os-instance-actions", Answer(200, {"instanceActions": [record]}))
    user = "981e4f8b144f4f3c81993b00dfe04c46"
    assert cloud.nova.actions(UUID) == [Action("evacuate", REQUEST_ID, 1795201201.0, None, user)]


# A sign of life.

HYPERVISORS = "/os-hypervisors/detail"
UPTIME = "/os-hypervisors/f4ff9850/uptime"


def hypervisors(*hosts: str) -> Answer:
    items = [
        {"id": f"f4ff985{number}", "hypervisor_hostname": f"{host}.example", "service": {"host": host}}
        for number, host in enumerate(hosts)
    ]
    return Answer(200, {"hypervisors": items})


@pytest.mark.parametrize(
    ("answer", "alive"),
    [
        (Answer(200, {"hypervisor": {"uptime": " 08:32:11 up 93 days"}}), True),
        (nova_error(501, "notImplemented", "Virt driver does not implement uptime function."), True),
        (nova_error(400, "badRequest", "Compute service of compute1 is unavailable at this time."), False),
        (nova_error(500, "computeFault", "Unexpected API Error."), False),
        (nova_error(404, "itemNotFound", "Compute host f4ff9850 could not be found."), False),
        (requests.ReadTimeout(), False),
    ],
)
def test_only_an_answer_of_nova_compute_itself_is_a_sign_of_life(
    cloud: Cloud, answer: Answer | requests.RequestException, alive: bool
) -> None:
    cloud.wire.on("GET", HYPERVISORS, hypervisors("compute1", "compute10"))
    cloud.wire.on("GET", UPTIME, answer)
    assert cloud.nova.answers_uptime("compute1", 0.5) is alive
    [asked] = cloud.wire.sent(UPTIME)
    assert asked.timeout_s == (0.5, 0.5)
    assert asked.version == "2.53"


def test_a_question_that_can_not_be_put_says_nothing_about_the_host(cloud: Cloud) -> None:
    cloud.wire.on("GET", HYPERVISORS, hypervisors("compute1"))
    cloud.wire.on("GET", UPTIME, requests.ConnectTimeout())
    with pytest.raises(Unavailable):
        cloud.nova.answers_uptime("compute1", 0.5)


@pytest.mark.parametrize("first", [nova_error(404, "itemNotFound", "No hypervisor"), hypervisors("compute10")])
def test_a_hypervisor_may_have_any_name(cloud: Cloud, first: Answer) -> None:
    cloud.wire.on("GET", HYPERVISORS, first, hypervisors("compute1"))
    cloud.wire.on("GET", UPTIME, Answer(200, {}))
    assert cloud.nova.answers_uptime("compute1", 0.5)
    assert [asked.query for asked in cloud.wire.sent(HYPERVISORS)] == [
        {"hypervisor_hostname_pattern": "compute1"},
        {},
    ]


def test_a_host_without_hypervisor_gives_no_sign(cloud: Cloud) -> None:
    cloud.wire.on("GET", HYPERVISORS, hypervisors("compute2"))
    assert not cloud.nova.answers_uptime("compute1", 0.5)


# Orders to a service.

BY_ID = f"{SERVICES}/{SERVICE_ID}"
LONG = "x" * 300


@pytest.mark.parametrize(
    ("order", "body"),
    [
        (lambda nova: nova.disable(COMPUTE1, LONG), {"status": "disabled", "disabled_reason": "x" * 255}),
        (lambda nova: nova.enable(COMPUTE1), {"status": "enabled"}),
        (lambda nova: nova.force_down(COMPUTE1, True), {"forced_down": True}),
        (lambda nova: nova.force_down(COMPUTE1, False), {"forced_down": False}),
        (
            lambda nova: nova.isolate(COMPUTE1, "dead"),
            {"forced_down": True, "status": "disabled", "disabled_reason": "dead"},
        ),
    ],
)
def test_from_2_53_a_service_is_told_by_its_id(cloud: Cloud, order: Any, body: Any) -> None:
    cloud.wire.on("PUT", BY_ID, Answer(200, b"{}", {"X-Openstack-Request-Id": REQUEST_ID}))
    assert order(cloud.nova) == REQUEST_ID
    [asked] = cloud.wire.sent(BY_ID)
    assert (asked.body, asked.version) == (body, "2.53")


HOST = {"host": "compute1", "binary": "nova-compute"}
DISABLE = ("disable-log-reason", HOST | {"disabled_reason": "dead"})
DOWN = ("force-down", HOST | {"forced_down": True})


@pytest.mark.parametrize(
    ("newest", "order", "told"),
    [
        ("2.1", lambda nova: nova.disable(COMPUTE1, "dead"), [DISABLE]),
        ("2.1", lambda nova: nova.isolate(COMPUTE1, "dead"), [DISABLE]),
        ("2.1", lambda nova: nova.enable(COMPUTE1), [("enable", HOST)]),
        ("2.11", lambda nova: nova.isolate(COMPUTE1, "dead"), [DOWN, DISABLE]),
        ("2.52", lambda nova: nova.isolate(COMPUTE1, "dead"), [DOWN, DISABLE]),
        ("2.52", lambda nova: nova.force_down(COMPUTE1, True), [DOWN]),
    ],
)
def test_below_2_53_a_service_is_told_by_its_host(newest: str, order: Any, told: Any) -> None:
    cloud = Cloud(newest)
    cloud.wire.on("PUT", f"{SERVICES}/.*", Answer(200, b"{}"))
    order(cloud.nova)
    asked = cloud.wire.sent(f"{SERVICES}/.*")
    assert [(put.path.rpartition("/")[2], put.body) for put in asked] == told
    assert {put.version for put in asked} == {"2.1" if newest == "2.1" else "2.11"}


def test_below_2_11_nothing_is_forced_down() -> None:
    cloud = Cloud("2.10")
    with pytest.raises(Rejected, match=r"older than 2\.11"):
        cloud.nova.force_down(COMPUTE1, True)
    assert not cloud.wire.sent(f"{SERVICES}/.*")


# Orders to an instance.


@pytest.mark.parametrize(
    ("order", "body"),
    [
        (lambda nova: nova.stop(UUID), {"os-stop": None}),
        (lambda nova: nova.start(UUID), {"os-start": None}),
        (lambda nova: nova.pause(UUID), {"pause": None}),
        (lambda nova: nova.reset_state(UUID), {"os-resetState": {"state": "error"}}),
        (lambda nova: nova.reset_state(UUID, "active"), {"os-resetState": {"state": "active"}}),
    ],
)
def test_an_order_to_an_instance(cloud: Cloud, order: Any, body: Any) -> None:
    cloud.wire.on("POST", ACTION, TAKEN)
    assert order(cloud.nova) == REQUEST_ID
    assert cloud.wire.asked[-1].body == body


ON_COMPUTE3 = {"host": "compute3"}
SHARED = {"onSharedStorage": True}
REBUILT = {"onSharedStorage": False}


@pytest.mark.parametrize(
    ("newest", "keep", "version", "body"),
    [
        ((2, 1), True, (2, 1), SHARED),
        ((2, 1), False, (2, 1), REBUILT),
        ((2, 13), False, (2, 13), REBUILT),
        ((2, 14), True, (2, 13), SHARED),
        ((2, 14), False, (2, 14), {}),
        ((2, 29), False, (2, 29), {}),
        ((2, 67), False, (2, 67), {}),
        ((2, 68), False, (2, 68), {}),
        ((2, 93), True, (2, 13), SHARED),
        ((2, 93), False, (2, 93), {}),
        ((2, 120), False, (2, 93), {}),
    ],
)
def test_the_request_to_evacuate(newest: Any, keep: bool, version: Any, body: Any) -> None:
    assert evacuate_request(newest, None, keep) == (version, body)
    assert evacuate_request(newest, "compute3", keep) == (version, ON_COMPUTE3 | body)


def test_an_evacuate_is_sent(cloud: Cloud) -> None:
    cloud.wire.on("POST", ACTION, Answer(200, {"adminPass": None}, {"X-Openstack-Request-Id": REQUEST_ID}))
    assert cloud.nova.evacuate(UUID, "compute3", keep_local_disk=True) == REQUEST_ID
    [asked] = cloud.wire.sent(ACTION)
    assert asked.body == {"evacuate": {"host": "compute3", "onSharedStorage": True}}
    assert asked.version == "2.13"
