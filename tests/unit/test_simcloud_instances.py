"""Evacuations, stops and starts run in the simulated cloud as in a real one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.simcloud import SimulatedCloud, VirtualClock
from tests.simcloud.client import Api, kill_and_fence, message

NOBODY = "00000000-0000-0000-0000-00000000dead"


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def cloud(clock: VirtualClock) -> SimulatedCloud:
    return SimulatedCloud(clock, ("compute1", "compute2", "compute3"))


@pytest.fixture
def api(cloud: SimulatedCloud) -> Api:
    return Api(cloud)


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


def test_a_server_deleted_during_its_evacuation_stays_gone(
    cloud: SimulatedCloud, api: Api, clock: VirtualClock
) -> None:
    (uuid,) = cloud.boot("compute1")
    kill_and_fence(cloud, api)
    api.evacuate(uuid)
    assert api.nova("DELETE", f"/servers/{uuid}").status_code == 204
    clock.advance(3)
    assert api.nova("GET", f"/servers/{uuid}").status_code == 404
    assert cloud.running() == {"compute2": [], "compute3": []}
