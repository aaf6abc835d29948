"""The simulated cloud over real sockets, and its controls."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import requests

from masakari.common.clock import Clock
from tests.simcloud import RemoteCloud, SimulatedCloud
from tests.simcloud.server import RunningServer


@pytest.fixture
def server() -> Iterator[RunningServer]:
    with SimulatedCloud(Clock(), api_latency_s=0.05).serve() as running:
        yield running


def test_the_controls_work_from_another_process(server: RunningServer) -> None:
    cloud = RemoteCloud(server.url)
    uuids = cloud.boot("compute1", 2, name="web")
    assert cloud.running()["compute1"] == sorted(uuids)
    cloud.crash("compute1")
    assert "compute1" not in cloud.running()
    assert cloud.violations() == []
    assert [row["status"] for row in cloud.state()["servers"]] == ["ACTIVE", "ACTIVE"]
    with pytest.raises(ValueError, match="no fault of kind nonsense"):
        cloud.fault("evacuate", "nonsense")


def test_callers_do_not_wait_for_each_other(server: RunningServer) -> None:
    def call() -> None:
        answers.append(requests.get(f"{server.url}/compute/v2.1", timeout=5).status_code)

    answers: list[int] = []
    threads = [threading.Thread(target=call) for _ in range(32)]
    started_s = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 32
    assert time.monotonic() - started_s < 32 * 0.05 / 2


def test_a_lost_answer_is_a_cut_connection_or_silence(server: RunningServer) -> None:
    cloud = RemoteCloud(server.url)
    cloud.fault("nova_versions", "lose_answer", how="dropped")
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{server.url}/compute/v2.1", timeout=5)
    cloud.fault("nova_versions", "lose_answer")
    with pytest.raises(requests.ReadTimeout):
        requests.get(f"{server.url}/compute/v2.1", timeout=(3, 0.2))
    assert requests.get(f"{server.url}/compute/v2.1", timeout=5).status_code == 200
