"""The simulated cloud behaves as real Nova and Keystone were seen to behave."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from tests.simcloud import SimulatedCloud, SkewedClock, VirtualClock

NOBODY = "00000000-0000-0000-0000-00000000dead"


class Api:
    """A client of the simulated cloud that says what it gets."""

    def __init__(self, cloud: SimulatedCloud, user: str = "masakari", project: str = "service") -> None:
        self.cloud = cloud
        self.session = cloud.session()
        self.token = self.sign_in(user, project).headers["X-Subject-Token"]

    def sign_in(self, user: str, project: str | None, password: str = "simcloud") -> requests.Response:
        account = {"name": user, "domain": {"name": "Default"}, "password": password}
        auth: dict[str, Any] = {"identity": {"methods": ["password"], "password": {"user": account}}}
        if project:
            auth["scope"] = {"project": {"name": project, "domain": {"id": "default"}}}
        return self.keystone("POST", "/auth/tokens", json={"auth": auth})

    def keystone(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        return self.session.request(method, self.cloud.auth_url + path, timeout=(3, 10), **kwargs)

    def nova(
        self, method: str, path: str, version: str = "2.1", body: Any = None, read_s: float = 100.0
    ) -> requests.Response:
        headers = {"X-Auth-Token": self.token, "OpenStack-API-Version": f"compute {version}"}
        url = f"{self.cloud.url}/compute/v2.1{path}"
        return self.session.request(method, url, headers=headers, json=body, timeout=(3, read_s))

    def service(self, host: str, version: str = "2.53") -> dict[str, Any]:
        return self.nova("GET", f"/os-services?host={host}&binary=nova-compute", version).json()["services"][
            0
        ]

    def update(self, host: str, read_s: float = 100.0, **body: Any) -> requests.Response:
        return self.nova("PUT", f"/os-services/{self.service(host)['id']}", "2.53", body, read_s)

    def server(self, uuid: str) -> dict[str, Any]:
        return self.nova("GET", f"/servers/{uuid}").json()["server"]

    def looks(self, uuid: str) -> tuple[str, str | None, str]:
        server = self.server(uuid)
        return server["status"], server["OS-EXT-STS:task_state"], server["OS-EXT-SRV-ATTR:host"]

    def act(self, uuid: str, action: str, arguments: Any = None, version: str = "2.1") -> requests.Response:
        return self.nova("POST", f"/servers/{uuid}/action", version, {action: arguments})

    def evacuate(
        self, uuid: str, host: str | None = "compute3", version: str = "2.68", **more: Any
    ) -> requests.Response:
        return self.act(uuid, "evacuate", ({"host": host} if host else {}) | more, version)

    def migrations(self, uuid: str) -> list[str]:
        path = f"/os-migrations?migration_type=evacuation&instance_uuid={uuid}"
        return [record["status"] for record in self.nova("GET", path, "2.59").json()["migrations"]]

    def last_action(self, uuid: str) -> dict[str, Any]:
        return self.nova("GET", f"/servers/{uuid}/os-instance-actions").json()["instanceActions"][0]


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def cloud(clock: VirtualClock) -> SimulatedCloud:
    return SimulatedCloud(clock, ("compute1", "compute2", "compute3"))


@pytest.fixture
def api(cloud: SimulatedCloud) -> Api:
    return Api(cloud)


def message(answer: requests.Response) -> str:
    (problem,) = answer.json().values()
    return str(problem["message"])


def kill_and_fence(cloud: SimulatedCloud, api: Api, host: str = "compute1") -> None:
    cloud.crash(host)
    assert api.update(host, forced_down=True, status="disabled").status_code == 200


# Keystone


def test_sign_in_answers_201_with_the_token_in_a_header_and_a_catalog(api: Api) -> None:
    answer = api.sign_in("masakari", "service")
    assert answer.status_code == 201
    compute = [
        e["url"] for s in answer.json()["token"]["catalog"] if s["type"] == "compute" for e in s["endpoints"]
    ]
    assert set(compute) == {f"{api.cloud.url}/compute/v2.1"}


def test_the_catalog_has_no_fixed_order(api: Api) -> None:
    orders = {
        tuple(service["type"] for service in api.sign_in("masakari", "service").json()["token"]["catalog"])
        for _ in range(10)
    }
    assert len(orders) > 1


@pytest.mark.parametrize(
    "user, project, password",
    [
        ("masakari", "service", "wrong"),
        ("nobody", "service", "simcloud"),
        ("masakari", "nowhere", "simcloud"),
        ("demo", "service", "simcloud"),
    ],
)
def test_a_sign_in_that_is_not_allowed_is_the_same_401(
    api: Api, user: str, project: str, password: str
) -> None:
    answer = api.sign_in(user, project, password)
    assert answer.status_code == 401
    assert answer.json()["error"]["message"] == "The request you have made requires authentication."


def test_an_unscoped_token_has_no_catalog_and_is_nothing_to_nova(api: Api) -> None:
    answer = api.sign_in("masakari", None)
    assert "catalog" not in answer.json()["token"]
    api.token = answer.headers["X-Subject-Token"]
    assert api.nova("GET", "/servers").status_code == 401


def test_an_application_credential_signs_in_without_a_scope(api: Api) -> None:
    def sign_in(secret: str, **more: Any) -> int:
        credential = {"id": "0d567588619b4dadbcc93bc238b2337c", "secret": secret}
        identity = {"methods": ["application_credential"], "application_credential": credential}
        return api.keystone("POST", "/auth/tokens", json={"auth": {"identity": identity, **more}}).status_code

    assert sign_in("simulated-secret") == 201
    assert sign_in("wrong") == 401
    assert sign_in("simulated-secret", scope={"project": {"name": "service"}}) == 401
    api.cloud.keystone.delete_app_credential()
    assert sign_in("simulated-secret") == 404


def test_a_token_ends_and_nova_then_says_401(api: Api, clock: VirtualClock) -> None:
    assert api.nova("GET", "/servers").status_code == 200
    clock.advance(3601)
    answer = api.nova("GET", "/servers")
    assert answer.status_code == 401
    assert "Keystone uri" in answer.headers["WWW-Authenticate"]


def test_with_keystone_away_nova_believes_only_what_it_has_cached(api: Api) -> None:
    other = Api(api.cloud)
    api.nova("GET", "/servers")
    api.cloud.set_away("keystone")
    assert api.nova("GET", "/servers").status_code == 200
    assert other.nova("GET", "/servers").status_code == 503
    with pytest.raises(requests.ConnectionError):
        api.sign_in("masakari", "service")


# Microversions and request ids


@pytest.mark.parametrize(
    "version, status",
    [("2.1", 200), ("2.93", 200), ("latest", 200), ("2.94", 406), ("1.0", 406), ("banana", 400)],
)
def test_microversions_are_checked(api: Api, version: str, status: int) -> None:
    answer = api.nova("GET", "/servers", version)
    assert answer.status_code == status
    assert answer.headers["X-Openstack-Request-Id"].startswith("req-")


def test_versions_are_told_without_a_token(api: Api) -> None:
    body = api.session.get(f"{api.cloud.url}/compute/v2.1", timeout=1).json()
    assert (body["version"]["min_version"], body["version"]["version"]) == ("2.1", "2.93")


# Services


def test_a_dead_service_reads_up_for_a_minute_after_its_last_report(
    cloud: SimulatedCloud, api: Api, clock: VirtualClock
) -> None:
    cloud.crash("compute1")
    clock.advance(49)
    assert api.service("compute1")["state"] == "up"
    clock.advance(12)
    assert api.service("compute1")["state"] == "down"


def test_reports_and_changes_move_updated_at(api: Api, clock: VirtualClock) -> None:
    first = api.service("compute1")["updated_at"]
    clock.advance(10)
    second = api.service("compute1")["updated_at"]
    clock.advance(1)
    api.update("compute1", status="disabled")
    assert first < second < api.service("compute1")["updated_at"]


def test_a_disable_of_a_dead_host_that_reads_up_takes_a_minute_and_is_there_at_once(
    cloud: SimulatedCloud, api: Api, clock: VirtualClock
) -> None:
    cloud.crash("compute1")
    with pytest.raises(requests.ReadTimeout):
        api.update("compute1", read_s=10, status="disabled", disabled_reason="dead")
    assert clock.monotonic() == 10
    assert (api.service("compute1")["status"], api.service("compute1")["disabled_reason"]) == (
        "disabled",
        "dead",
    )
    started_s = clock.monotonic()
    assert api.update("compute1", status="enabled").status_code == 200
    assert clock.monotonic() - started_s == 60


def test_force_down_and_disable_in_one_is_quick_and_reads_down_at_once(
    cloud: SimulatedCloud, api: Api, clock: VirtualClock
) -> None:
    kill_and_fence(cloud, api)
    assert clock.monotonic() == 0
    assert (api.service("compute1")["state"], api.service("compute1")["status"]) == ("down", "disabled")


def test_the_older_service_calls(api: Api) -> None:
    def put(which: str, version: str, **more: Any) -> requests.Response:
        body = {"host": "compute1", "binary": "nova-compute", **more}
        return api.nova("PUT", f"/os-services/{which}", version, body)

    assert put("disable-log-reason", "2.1", disabled_reason="x").json()["service"]["status"] == "disabled"
    assert api.service("compute1", "2.1")["disabled_reason"] == "x"
    assert put("enable", "2.1").status_code == 200
    assert put("force-down", "2.1", forced_down=True).status_code == 400
    assert put("force-down", "2.11", forced_down=True).json()["service"]["forced_down"] is True
    assert put("disable", "2.53").status_code == 400
    assert put("disable", "2.1", host="nowhere").status_code == 404


def test_unforce_is_refused_until_its_nova_compute_has_tidied_up(
    cloud: SimulatedCloud, api: Api, clock: VirtualClock
) -> None:
    (uuid,) = cloud.boot("compute1")
    kill_and_fence(cloud, api)
    api.evacuate(uuid)
    clock.advance(3)
    refusal = api.update("compute1", forced_down=False)
    assert refusal.status_code == 400
    assert "Ensure the compute service has been restarted" in message(refusal)
    cloud.start("compute1")
    assert api.migrations(uuid) == ["completed"]
    clock.advance(30)
    assert api.service("compute1")["state"] == "down"  # forced down until somebody takes it back
    assert api.update("compute1", forced_down=False).status_code == 200
    assert api.service("compute1")["state"] == "up"


def test_a_host_enabled_while_down_stays_unschedulable(
    cloud: SimulatedCloud, api: Api, clock: VirtualClock
) -> None:
    (uuid,) = cloud.boot("compute2")
    kill_and_fence(cloud, api)
    cloud.start("compute1")
    api.update("compute1", forced_down=False, status="enabled")
    clock.advance(20)
    assert (api.service("compute1")["state"], api.service("compute1")["status"]) == ("up", "enabled")
    kill_and_fence(cloud, api, "compute2")
    api.evacuate(uuid, "compute1")
    clock.advance(1)
    assert api.looks(uuid) == ("ERROR", None, "compute2")
    api.update("compute1", status="disabled")
    api.update("compute1", status="enabled")
    api.evacuate(uuid, "compute1")
    clock.advance(3)
    assert api.looks(uuid) == ("ACTIVE", None, "compute1")


# Hypervisors


def test_uptime_is_answered_by_the_nova_compute_itself(
    cloud: SimulatedCloud, api: Api, clock: VirtualClock
) -> None:
    hypervisors = {
        h["hypervisor_hostname"]: h["id"]
        for h in api.nova("GET", "/os-hypervisors", "2.53").json()["hypervisors"]
    }
    path = f"/os-hypervisors/{hypervisors['compute1']}/uptime"
    assert api.nova("GET", path, "2.53", read_s=0.5).status_code == 200
    assert api.nova("GET", path, "2.88").status_code == 404
    cloud.kill_compute("compute1")
    with pytest.raises(requests.ReadTimeout):
        api.nova("GET", path, "2.53", read_s=0.5)
    assert clock.monotonic() == 0.5
    assert api.nova("GET", path, "2.53").status_code == 500
    clock.advance(60)
    assert api.nova("GET", path, "2.53").status_code == 400


def test_nova_s_fake_hypervisor_answers_uptime_with_501(clock: VirtualClock) -> None:
    api = Api(SimulatedCloud(clock, libvirt_like=False))
    assert api.nova("GET", "/os-hypervisors/1/uptime").status_code == 501


# Lists of servers


def test_a_full_page_has_a_link_so_one_empty_page_may_follow(cloud: SimulatedCloud, api: Api) -> None:
    made = set(cloud.boot("compute1", 4))
    cloud.boot("compute2")
    path, seen, pages = "/servers/detail?all_tenants=1&host=compute1&limit=2", set(), 0
    while path:
        body = api.nova("GET", path).json()
        seen |= {server["id"] for server in body["servers"]}
        pages += 1
        path = body["servers_links"][0]["href"].split("/v2.1")[1] if "servers_links" in body else ""
    assert (seen, pages) == (made, 3)


def test_without_all_tenants_an_admin_sees_the_own_project_only(cloud: SimulatedCloud, api: Api) -> None:
    cloud.boot("compute1", project_id="another")
    assert api.nova("GET", "/servers?host=compute1").json() == {"servers": []}
    assert len(api.nova("GET", "/servers?all_tenants=True&host=compute1").json()["servers"]) == 1
    assert api.nova("GET", "/servers?all_tenants=1&host=nowhere").json() == {"servers": []}


def test_a_plain_member_sees_no_hosts_and_changes_no_services(cloud: SimulatedCloud, api: Api) -> None:
    demo = Api(cloud, "demo", "demo")
    (uuid,) = cloud.boot("compute1", project_id="4edcbbe8dcde44e7b74e0128dff80d7e")
    assert not any(key.startswith("OS-EXT-SRV-ATTR") for key in demo.server(uuid))
    assert demo.nova("GET", "/os-services").status_code == 403
    assert demo.nova("GET", "/servers?all_tenants=1").status_code == 403
    assert demo.act(uuid, "evacuate", {}, "2.14").status_code == 403


def test_a_server_of_a_dead_host_still_reads_active(cloud: SimulatedCloud, api: Api) -> None:
    (uuid,) = cloud.boot("compute1", metadata={"HA-Enabled": "off"}, local_disk=True)
    kill_and_fence(cloud, api)
    server = api.server(uuid)
    assert (server["status"], server["OS-EXT-STS:power_state"]) == ("ACTIVE", 1)
    assert (server["metadata"], bool(server["image"])) == ({"HA-Enabled": "off"}, True)
    assert cloud.running() == {"compute2": [], "compute3": []}


# Evacuate: refused


@pytest.mark.parametrize(
    "version, body, status, text",
    [
        ("2.1", {"host": "compute3"}, 400, "'onSharedStorage' is a required property"),
        ("2.1", {"host": "compute3", "onSharedStorage": "maybe"}, 400, "is not one of"),
        ("2.1", {"host": None, "onSharedStorage": True}, 400, "is not of type 'string'"),
        ("2.1", {"host": "", "onSharedStorage": True}, 400, "is too short"),
        ("2.1", {"host": "compute3", "onSharedStorage": True, "adminPass": "x"}, 400, "admin password"),
        ("2.14", {"host": "compute3", "onSharedStorage": True}, 400, "'onSharedStorage' was unexpected"),
        ("2.28", {"host": "compute3", "force": True}, 400, "'force' was unexpected"),
        ("2.29", {"force": True}, 400, "Can't force to a non-provided destination"),
        ("2.68", {"host": "compute3", "force": True}, 400, "'force' was unexpected"),
        ("2.68", {"host": "nowhere"}, 404, "Compute host nowhere not found."),
        ("2.68", {"host": "compute1"}, 400, "The target host can't be the same one."),
    ],
)
def test_evacuate_is_refused_by_microversion(
    cloud: SimulatedCloud, api: Api, version: str, body: Any, status: int, text: str
) -> None:
    (uuid,) = cloud.boot("compute1")
    kill_and_fence(cloud, api)
    answer = api.act(uuid, "evacuate", body, version)
    assert (answer.status_code, text in message(answer)) == (status, True)
    assert api.looks(uuid) == ("ACTIVE", None, "compute1")
    assert cloud.evacuate_requests == []


def test_evacuate_is_refused_while_the_source_reads_up(cloud: SimulatedCloud, api: Api) -> None:
    (uuid,) = cloud.boot("compute1")
    cloud.crash("compute1")
    answer = api.evacuate(uuid)
    assert (answer.status_code, message(answer)) == (400, "Compute service of compute1 is still in use.")


def test_a_paused_server_is_evacuated_only_after_a_reset(
    cloud: SimulatedCloud, api: Api, clock: VirtualClock
) -> None:
    (uuid,) = cloud.boot("compute1", status="PAUSED")
    kill_and_fence(cloud, api)
    assert api.evacuate(uuid).status_code == 409
    assert api.act(uuid, "os-resetState", {"state": "error"}).status_code == 202
    assert api.evacuate(uuid).status_code == 200
    clock.advance(3)
    assert api.looks(uuid) == ("ACTIVE", None, "compute3")


# Evacuate: taken


def test_an_evacuated_server_is_active_and_idle_on_the_old_host_for_a_moment(
    cloud: SimulatedCloud, api: Api, clock: VirtualClock
) -> None:
    (uuid,) = cloud.boot("compute1")
    kill_and_fence(cloud, api)
    answer = api.evacuate(uuid)
    assert (answer.status_code, answer.content) == (200, b"")
    seen = [api.looks(uuid)]
    while clock.monotonic() < 2.5:
        clock.advance(0.02)
        if api.looks(uuid) != seen[-1]:
            seen.append(api.looks(uuid))
    assert seen == [
        ("REBUILD", "rebuilding", "compute1"),
        ("REBUILD", "rebuild_block_device_mapping", "compute1"),
        ("REBUILD", "rebuild_spawning", "compute1"),
        ("ACTIVE", None, "compute1"),
        ("ACTIVE", None, "compute3"),
    ]
    assert cloud.running()["compute3"] == [uuid]
    assert cloud.violations() == []


def test_migration_and_action_are_there_when_the_post_is_answered(
    cloud: SimulatedCloud, api: Api, clock: VirtualClock
) -> None:
    (uuid,) = cloud.boot("compute1")
    kill_and_fence(cloud, api)
    request_id = api.evacuate(uuid).headers["X-Openstack-Request-Id"]
    action = api.last_action(uuid)
    assert (action["action"], action["request_id"], action["message"]) == ("evacuate", request_id, None)
    assert api.migrations(uuid) == ["accepted"]
    clock.advance(3)
    assert api.migrations(uuid) == ["done"]


@pytest.mark.parametrize(
    "status, task_state, ends",
    [("SHUTOFF", None, "SHUTOFF"), ("ERROR", None, "ACTIVE"), ("ACTIVE", "powering-off", "ACTIVE")],
)
def test_how_a_server_ends_depends_on_how_it_was(
    cloud: SimulatedCloud, api: Api, clock: VirtualClock, status: str, task_state: str | None, ends: str
) -> None:
    (uuid,) = cloud.boot("compute1", status=status, locked=True)
    kill_and_fence(cloud, api)
    cloud.edit(uuid, task_state=task_state)
    assert api.evacuate(uuid, version="2.1", onSharedStorage=True).json() == {"adminPass": None}
    clock.advance(3)
    assert api.looks(uuid) == (ends, None, "compute3")
    assert (uuid in cloud.running()["compute3"]) == (ends == "ACTIVE")


def test_from_2_95_on_an_evacuated_server_ends_stopped(clock: VirtualClock) -> None:
    cloud = SimulatedCloud(clock, versions=("2.1", "2.96"))
    api = Api(cloud)
    (uuid,) = cloud.boot("compute1")
    kill_and_fence(cloud, api)
    api.evacuate(uuid, version="2.95")
    clock.advance(3)
    assert api.looks(uuid) == ("SHUTOFF", None, "compute3")


def test_a_target_builds_only_so_many_at_once(cloud: SimulatedCloud, api: Api, clock: VirtualClock) -> None:
    uuids = cloud.boot("compute1", 25)
    kill_and_fence(cloud, api)
    for uuid in uuids:
        api.evacuate(uuid)
    clock.advance(10)
    cloud.state()
    assert [round(at - cloud.evacuate_requests[0][0], 3) for at, _, _ in cloud.evacuated] == [2] * 10 + [
        4
    ] * 10 + [6] * 5


def test_without_a_target_the_scheduler_takes_the_emptiest_host(
    cloud: SimulatedCloud, api: Api, clock: VirtualClock
) -> None:
    cloud.boot("compute2", 1)
    uuids = cloud.boot("compute1", 3)
    kill_and_fence(cloud, api)
    for uuid in uuids:
        api.evacuate(uuid, None)
    clock.advance(3)
    assert sorted(api.looks(uuid)[2] for uuid in uuids) == ["compute2", "compute3", "compute3"]


# Evacuate: what goes wrong


def test_a_second_evacuate_is_accepted_and_wrecks_the_server_for_good(
    cloud: SimulatedCloud, api: Api, clock: VirtualClock
) -> None:
    (uuid,) = cloud.boot("compute1")
    kill_and_fence(cloud, api)
    api.evacuate(uuid)
    clock.advance(0.3)
    assert api.evacuate(uuid, "compute2").status_code == 200
    assert any("second evacuate" in line for line in cloud.violations())
    clock.advance(600)
    server = api.server(uuid)
    assert (server["status"], server["OS-EXT-STS:vm_state"]) == ("REBUILD", "error")
    assert server["OS-EXT-STS:task_state"] in ("rebuilding", "rebuild_block_device_mapping")
    assert api.migrations(uuid) == ["accepted", "failed"]
    api.act(uuid, "os-resetState", {"state": "error"})
    assert api.evacuate(uuid).status_code == 200
    clock.advance(3)
    assert api.looks(uuid) == ("ACTIVE", None, "compute3")


def test_a_second_evacuate_in_the_last_moment_leaves_the_server_on_the_target(clock: VirtualClock) -> None:
    cloud = SimulatedCloud(clock, evacuate_s=2.0, settle_s=10.0)
    api = Api(cloud)
    (uuid,) = cloud.boot("compute1")
    kill_and_fence(cloud, api)
    api.evacuate(uuid)
    clock.advance(1.95)
    assert api.looks(uuid) == ("ACTIVE", None, "compute1")
    api.evacuate(uuid)
    clock.advance(10)
    assert (api.looks(uuid)[0], api.looks(uuid)[2]) == ("REBUILD", "compute3")


@pytest.mark.parametrize(
    "version, more, ends",
    [
        ("2.1", {"onSharedStorage": True}, ("ACTIVE", "compute3")),
        ("2.14", {}, ("ACTIVE", "compute3")),
        ("2.29", {"force": True}, ("ACTIVE", "compute3")),
        ("2.29", {}, ("ERROR", "compute1")),
        ("2.68", {}, ("ERROR", "compute1")),
    ],
)
def test_a_disabled_target_is_refused_only_where_the_scheduler_is_asked(
    cloud: SimulatedCloud, api: Api, clock: VirtualClock, version: str, more: Any, ends: tuple[str, str]
) -> None:
    (uuid,) = cloud.boot("compute1")
    kill_and_fence(cloud, api)
    api.update("compute3", status="disabled")
    assert api.evacuate(uuid, "compute3", version, **more).status_code == 200
    clock.advance(3)
    assert (api.looks(uuid)[0], api.looks(uuid)[2]) == ends
    if ends[0] == "ERROR":
        assert api.server(uuid)["fault"]["message"].startswith("No valid host was found. ")
        assert api.migrations(uuid) == ["error"]
        assert api.last_action(uuid)["message"] == "Error"
        api.update("compute3", status="enabled")
        api.evacuate(uuid, "compute3", version)
        clock.advance(3)
        assert api.looks(uuid) == ("ACTIVE", None, "compute3")


def test_a_dead_target_has_the_request_in_its_queue_until_it_starts(
    cloud: SimulatedCloud, api: Api, clock: VirtualClock
) -> None:
    (uuid,) = cloud.boot("compute1")
    kill_and_fence(cloud, api)
    cloud.crash("compute3")  # and still reads up
    api.evacuate(uuid)
    clock.advance(300)
    assert api.looks(uuid) == ("REBUILD", "rebuilding", "compute1")
    assert api.migrations(uuid) == ["accepted"]
    cloud.start("compute3")
    clock.advance(3)
    assert api.looks(uuid) == ("ACTIVE", None, "compute3")


def test_after_a_dead_target_a_forced_evacuate_fails_and_a_scheduled_one_succeeds(
    cloud: SimulatedCloud, api: Api, clock: VirtualClock
) -> None:
    (uuid,) = cloud.boot("compute1")
    kill_and_fence(cloud, api)
    cloud.crash("compute3")
    api.evacuate(uuid)
    api.act(uuid, "os-resetState", {"state": "error"})
    api.evacuate(uuid, "compute2", "2.14")
    clock.advance(1)
    assert "complex allocations" in api.server(uuid)["fault"]["message"]
    api.evacuate(uuid, "compute2", "2.68")
    clock.advance(3)
    assert api.looks(uuid) == ("ACTIVE", None, "compute2")
    assert cloud.violations() == []  # the first target had no power: it can't run there


def test_what_a_target_had_begun_when_it_died_is_never_done(
    cloud: SimulatedCloud, api: Api, clock: VirtualClock
) -> None:
    (uuid,) = cloud.boot("compute1")
    kill_and_fence(cloud, api)
    api.evacuate(uuid)
    clock.advance(0.5)
    cloud.crash("compute3")
    cloud.start("compute3")
    clock.advance(600)
    assert api.looks(uuid) == ("REBUILD", "rebuilding", "compute1")
    assert cloud.running()["compute3"] == []


def test_an_isolated_target_runs_the_instance_though_nova_does_not_know(
    cloud: SimulatedCloud, api: Api, clock: VirtualClock
) -> None:
    (uuid,) = cloud.boot("compute1")
    kill_and_fence(cloud, api)
    api.evacuate(uuid)
    clock.advance(0.1)
    cloud.isolate_network("compute3")
    clock.advance(30)
    assert api.looks(uuid)[0] == "REBUILD"
    assert cloud.running()["compute3"] == [uuid]
    cloud.heal_network("compute3")
    assert api.looks(uuid) == ("ACTIVE", None, "compute3")


@pytest.mark.parametrize(
    "version, more, status",
    [
        ("2.1", {"onSharedStorage": True}, "ERROR"),
        ("2.1", {"onSharedStorage": False}, "ACTIVE"),
        ("2.14", {}, "ACTIVE"),
    ],
)
def test_a_disk_that_is_not_shared_is_refused_or_lost(
    clock: VirtualClock, version: str, more: Any, status: str
) -> None:
    cloud = SimulatedCloud(clock, shared_storage=False)
    api = Api(cloud)
    (uuid,) = cloud.boot("compute1", local_disk=True)
    kill_and_fence(cloud, api)
    assert api.evacuate(uuid, "compute3", version, **more).status_code == 200
    clock.advance(3)
    assert api.looks(uuid)[0] == status
    if status == "ERROR":
        assert api.server(uuid)["fault"]["message"] == "Invalid state of instance files on shared storage"
        assert api.migrations(uuid) == ["failed"]
    assert any("its data is lost" in line for line in cloud.violations()) == (status == "ACTIVE")


# Stop, start


def test_stop_and_start_show_the_old_status_and_a_task_first(
    cloud: SimulatedCloud, api: Api, clock: VirtualClock
) -> None:
    (uuid,) = cloud.boot("compute1")
    assert api.act(uuid, "os-start").status_code == 409
    assert api.act(uuid, "os-stop").status_code == 202
    assert api.looks(uuid) == ("ACTIVE", "powering-off", "compute1")
    clock.advance(1)
    assert api.looks(uuid) == ("SHUTOFF", None, "compute1")
    assert api.act(uuid, "os-stop").status_code == 409
    assert api.act(uuid, "os-start", {}).status_code == 202
    assert api.looks(uuid) == ("SHUTOFF", "powering-on", "compute1")
    clock.advance(1)
    assert api.looks(uuid) == ("ACTIVE", None, "compute1")
    assert cloud.running()["compute1"] == [uuid]


def test_the_way_back_from_error_is_stop_then_start(
    cloud: SimulatedCloud, api: Api, clock: VirtualClock
) -> None:
    (uuid,) = cloud.boot("compute1", status="ERROR")
    assert api.act(uuid, "os-start").status_code == 409
    api.act(uuid, "os-stop")
    clock.advance(1)
    api.act(uuid, "os-start")
    clock.advance(1)
    assert api.looks(uuid) == ("ACTIVE", None, "compute1")


def test_a_reset_is_of_the_database_only(cloud: SimulatedCloud, api: Api) -> None:
    (uuid,) = cloud.boot("compute1", status="SHUTOFF")
    assert api.act(uuid, "os-resetState", {"state": "stopped"}).status_code == 400
    assert api.act(uuid, "os-resetState", {"state": "active"}).status_code == 202
    assert (api.looks(uuid)[0], api.server(uuid)["OS-EXT-STS:power_state"]) == ("ACTIVE", 4)


@pytest.mark.parametrize(
    "body, text",
    [
        ({"os-nothing": None}, "There is no such action: os-nothing"),
        ({}, "Malformed request body"),
        ({"os-stop": None, "os-start": None}, "Malformed request body"),
    ],
)
def test_an_action_nova_does_not_know_is_a_400(cloud: SimulatedCloud, api: Api, body: Any, text: str) -> None:
    (uuid,) = cloud.boot("compute1")
    answer = api.nova("POST", f"/servers/{uuid}/action", body=body)
    assert (answer.status_code, message(answer)) == (400, text)
    assert api.act(NOBODY, "os-stop").status_code == 404


def test_a_guest_that_dies_is_booked_shutoff_soon_or_never(
    cloud: SimulatedCloud, api: Api, clock: VirtualClock
) -> None:
    noticed, unnoticed = cloud.boot("compute1", 2)
    cloud.crash_guest(noticed)
    cloud.crash_guest(unnoticed, noticed=False)
    assert api.looks(noticed)[0] == "ACTIVE"
    clock.advance(1)
    assert (api.looks(noticed)[0], api.server(noticed)["OS-EXT-STS:power_state"]) == ("SHUTOFF", 4)
    assert api.looks(unnoticed)[0] == "ACTIVE"
    api.act(unnoticed, "os-stop")
    clock.advance(1)
    assert api.looks(unnoticed)[0] == "SHUTOFF"
    assert cloud.healthy_stops == []


def test_a_stop_sent_to_a_dead_host_stops_the_healthy_guest_when_that_host_returns(
    cloud: SimulatedCloud, api: Api, clock: VirtualClock
) -> None:
    (uuid,) = cloud.boot("compute1")
    cloud.crash("compute1")
    assert api.act(uuid, "os-stop").status_code == 202
    clock.advance(120)
    assert api.looks(uuid) == ("ACTIVE", "powering-off", "compute1")
    api.evacuate(uuid)
    clock.advance(3)
    assert api.looks(uuid) == ("ACTIVE", None, "compute3")
    cloud.start("compute1")
    assert api.looks(uuid) == ("SHUTOFF", None, "compute3")
    clock.advance(60)
    assert cloud.running()["compute3"] == []
    assert any("healthy guest" in line for line in cloud.violations())


# Hosts that come back


def test_a_host_that_boots_again_has_none_of_its_guests_until_they_are_started(
    cloud: SimulatedCloud, api: Api, clock: VirtualClock
) -> None:
    (uuid,) = cloud.boot("compute1")
    boot_id = cloud.hosts["compute1"].boot_id
    cloud.crash("compute1")
    cloud.start("compute1")
    assert cloud.hosts["compute1"].boot_id != boot_id
    assert (cloud.running()["compute1"], api.looks(uuid)[0]) == ([], "ACTIVE")
    clock.advance(31)
    assert api.looks(uuid)[0] == "SHUTOFF"


def test_a_nova_compute_that_dies_alone_leaves_its_guests_running(
    cloud: SimulatedCloud, api: Api, clock: VirtualClock
) -> None:
    (uuid,) = cloud.boot("compute1")
    cloud.kill_compute("compute1")
    clock.advance(120)
    assert api.service("compute1")["state"] == "down"
    assert cloud.running()["compute1"] == [uuid]
    api.evacuate(uuid)
    assert any("accepted while its guest runs on compute1" in line for line in cloud.violations())
    clock.advance(3)
    assert any("runs on compute1 and on compute3" in line for line in cloud.violations())


# Faults


def test_a_lost_answer_comes_after_the_call_was_carried_out(cloud: SimulatedCloud, api: Api) -> None:
    (uuid,) = cloud.boot("compute1")
    kill_and_fence(cloud, api)
    cloud.fault("evacuate", "lose_answer")
    with pytest.raises(requests.ReadTimeout):
        api.evacuate(uuid)
    assert len(cloud.evacuate_requests) == 1


@pytest.mark.parametrize(
    "how, error",
    [
        ("read timeout", requests.ReadTimeout),
        ("connect timeout", requests.ConnectTimeout),
        ("dropped", requests.ConnectionError),
        ("refused", requests.ConnectionError),
    ],
)
def test_a_lost_request_is_not_carried_out(cloud: SimulatedCloud, api: Api, how: str, error: type) -> None:
    (uuid,) = cloud.boot("compute1")
    kill_and_fence(cloud, api)
    cloud.fault("write", "lose_request", how=how)
    with pytest.raises(error):
        api.evacuate(uuid)
    assert cloud.evacuate_requests == []
    assert api.evacuate(uuid).status_code == 200


def test_a_late_request_is_carried_out_after_its_caller_gave_up(
    cloud: SimulatedCloud, api: Api, clock: VirtualClock
) -> None:
    (uuid,) = cloud.boot("compute1")
    kill_and_fence(cloud, api)
    cloud.fault("evacuate", "late", delay_s=130)
    with pytest.raises(requests.ReadTimeout):
        api.evacuate(uuid)
    assert cloud.evacuate_requests == []
    clock.advance(31)
    assert api.looks(uuid)[0] == "REBUILD"


def test_an_error_instead_of_an_answer_before_or_after_the_work(cloud: SimulatedCloud, api: Api) -> None:
    first, second = cloud.boot("compute1", 2)
    cloud.fault("stop", "answer", status=429, retry_after_s=3, count=2)
    answer = api.act(first, "os-stop")
    assert (answer.status_code, answer.headers["Retry-After"], api.looks(first)[1]) == (429, "3", None)
    assert api.act(first, "os-stop").status_code == 429
    cloud.fault("stop", "answer", status=503, executed=True)
    assert api.act(second, "os-stop").status_code == 503
    assert api.looks(second)[1] == "powering-off"
    assert api.act(first, "os-stop").status_code == 202


def test_a_fault_can_wait_and_be_switched_off(cloud: SimulatedCloud, api: Api) -> None:
    cloud.fault("list_services", "answer", count=-1, skip=1)
    assert [api.nova("GET", "/os-services").status_code for _ in range(3)] == [200, 500, 500]
    cloud.clear_faults()
    assert api.nova("GET", "/os-services").status_code == 200


def test_nova_away_is_a_refused_connection(cloud: SimulatedCloud, api: Api) -> None:
    cloud.set_away("nova")
    with pytest.raises(requests.ConnectionError, match="refused"):
        api.nova("GET", "/servers")
    cloud.set_away("nova", False)
    assert api.nova("GET", "/servers").status_code == 200


def test_calls_cost_their_latency_and_are_counted(clock: VirtualClock) -> None:
    cloud = SimulatedCloud(clock, api_latency_s=0.02)
    api = Api(cloud)
    api.nova("GET", "/servers")
    assert clock.monotonic() == pytest.approx(0.04)
    assert cloud.calls == {"sign_in": 1, "list_servers": 1}


# Time


def test_the_same_seed_gives_the_same_course() -> None:
    def course() -> list[str]:
        clock = VirtualClock()
        cloud = SimulatedCloud(clock, seed=7)
        api = Api(cloud)
        uuids = cloud.boot("compute1", 5)
        kill_and_fence(cloud, api)
        for uuid in uuids:
            api.evacuate(uuid)
            clock.advance(0.4)
        clock.advance(5)
        cloud.state()
        return list(cloud.history)

    assert course() == course()


def test_a_jump_of_the_wall_clock_changes_what_time_it_is_and_nothing_else() -> None:
    clock = VirtualClock(1000.0)
    skewed = SkewedClock(clock, 60.0)
    clock.sleep(5)
    clock.jump(-100)
    skewed.jump(1)
    assert (clock.now(), clock.monotonic()) == (905.0, 5.0)
    assert (skewed.now(), skewed.monotonic()) == (966.0, 5.0)
