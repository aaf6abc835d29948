"""Faults, latency and time of the simulated cloud."""

from __future__ import annotations

import pytest
import requests

from tests.simcloud import SimulatedCloud, SkewedClock, VirtualClock
from tests.simcloud.client import Api, kill_and_fence


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def cloud(clock: VirtualClock) -> SimulatedCloud:
    return SimulatedCloud(clock, ("compute1", "compute2", "compute3"))


@pytest.fixture
def api(cloud: SimulatedCloud) -> Api:
    return Api(cloud)


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
