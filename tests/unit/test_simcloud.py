"""The simulated Keystone and Nova read and refuse as real ones were seen to do."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from tests.simcloud import SimulatedCloud, VirtualClock
from tests.simcloud.client import Api, kill_and_fence, message


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def cloud(clock: VirtualClock) -> SimulatedCloud:
    return SimulatedCloud(clock, ("compute1", "compute2", "compute3"))


@pytest.fixture
def api(cloud: SimulatedCloud) -> Api:
    return Api(cloud)


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


def test_the_service_instance_ha_is_in_the_catalog_once_it_has_an_address(api: Api) -> None:
    def urls(user: str, project: str) -> dict[str, set[str]]:
        catalog = api.sign_in(user, project).json()["token"]["catalog"]
        return {service["type"]: {e["url"] for e in service["endpoints"]} for service in catalog}

    assert "instance-ha" not in urls("demo", "demo")
    api.cloud.set_instance_ha("http://ha:15868/v1/%(tenant_id)s")
    demo = api.sign_in("demo", "demo").json()["token"]["project"]["id"]
    assert urls("demo", "demo")["instance-ha"] == {f"http://ha:15868/v1/{demo}"}
    assert urls("masakari", "service")["instance-ha"] != urls("demo", "demo")["instance-ha"]
    api.cloud.set_instance_ha("")
    assert "instance-ha" not in urls("demo", "demo")


@pytest.mark.parametrize(
    "user, project, validates, revokes",
    [("admin", "admin", 200, 204), ("monitor", "service", 200, 403), ("demo", "demo", 403, 403)],
)
def test_who_may_ask_about_tokens_of_others_and_revoke_them(
    api: Api, user: str, project: str, validates: int, revokes: int
) -> None:
    asker = Api(api.cloud, user, project)
    headers = {"X-Auth-Token": asker.token, "X-Subject-Token": api.token}
    assert api.keystone("GET", "/auth/tokens?nocatalog", headers=headers).status_code == validates
    assert api.keystone("DELETE", "/auth/tokens", headers=headers).status_code == revokes
    headers["X-Subject-Token"] = asker.token
    assert api.keystone("DELETE", "/auth/tokens", headers=headers).status_code == 204
    assert api.keystone("GET", "/auth/tokens", headers=headers).status_code == 401


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
