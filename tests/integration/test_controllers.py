"""Real controller processes on a real MariaDB and a simulated cloud over HTTP: sharing, dying, restarting, being told."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from masakari.model import FINAL
from tests.lab.mariadb import PrivateMariaDB, until
from tests.lab.processes import CLUSTER, CloudProcess, ControllerProcess, Monitor
from tests.simcloud.control import RemoteCloud

pytestmark = pytest.mark.needs_mariadb

LEASE_S = 9
SLOW_S = 20  # what a busy machine may take for a few steps, beyond what a test waits for
STOP_S = 5


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateMariaDB]:
    """A server of our own: it is stopped and killed here."""
    with PrivateMariaDB(tmp_path_factory.mktemp("controllers")) as started:
        yield started


@pytest.fixture(autouse=True)
def tables(server: PrivateMariaDB) -> None:
    server.make_tables()


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[RemoteCloud]:
    options: dict[str, str | float] = {
        "evacuate_s": 1,
        "stop_s": 0.3,
        "start_s": 0.3,
        "service_down_s": 5,
        "report_s": 1,
    }
    with CloudProcess(tmp_path, hosts="compute1,compute2,compute3,compute4", **options) as process:
        yield process.remote


Make = Callable[..., ControllerProcess]


@pytest.fixture
def make(server: PrivateMariaDB, cloud: RemoteCloud, tmp_path: Path) -> Iterator[Make]:
    """Makes controllers, not yet started, on the database and the cloud of the test."""
    made: list[ControllerProcess] = []

    def make_one(name: str = "controller-1", **options: str | float) -> ControllerProcess:
        folder = tmp_path / f"{len(made)}-{name}"
        made.append(ControllerProcess(folder, server.settings(), cloud.auth_url, name, **options))
        return made[-1]

    yield make_one
    for controller in made:
        controller.kill()


@pytest.fixture
def controller(make: Make) -> ControllerProcess:
    """One controller that runs."""
    one = make()
    one.start()
    return one


def recoveries(server: PrivateMariaDB) -> list[dict[str, Any]]:
    return server.sql("SELECT * FROM recovery ORDER BY id")


def all_final(server: PrivateMariaDB, many: int) -> Callable[[], bool]:
    """Whether there are so many recoveries and all have ended."""

    def check() -> bool:
        found = recoveries(server)
        return len(found) == many and all(row["status"] in FINAL for row in found)

    return check


def story(server: PrivateMariaDB, *controllers: ControllerProcess) -> str:
    """What happened, for the message of a failed test."""
    told = [f"{row['id']} {row['kind']} {row['status']}/{row['step']}: {row['reason']}" for row in recoveries(server)]
    return "\n".join([*told, *(f"--- {one.name}\n{one.said()[-3000:]}" for one in controllers)])


def until_final(server: PrivateMariaDB, many: int, within_s: float, *controllers: ControllerProcess) -> None:
    until(all_final(server, many), within_s, lambda: story(server, *controllers))


def crash_instances(cloud: RemoteCloud, host: str, many: int) -> list[dict[str, Any]]:
    """Instances of a host die; the reports of their deaths."""
    instances = cloud.boot(host, many)
    for instance in instances:
        cloud.crash_guest(instance)
    return [Monitor(host).instance_down(instance) for instance in instances]


def assert_healed(cloud: RemoteCloud, many: int) -> None:
    """Every instance runs, once, where Nova says, and nothing was done to it twice."""
    state = cloud.state()
    assert state["violations"] == []
    assert {server["status"] for server in state["servers"]} == {"ACTIVE"}
    running = sorted(guest for host in state["hosts"].values() if host["powered"] for guest in host["guests"])
    assert running == sorted(server["id"] for server in state["servers"])
    assert len(running) == many


# Sharing the work


def test_three_controllers_share_the_work(server: PrivateMariaDB, cloud: RemoteCloud, make: Make) -> None:
    group = [make(f"controller-{number}", recover_starter__workers=3) for number in (1, 2, 3)]
    for one in group:
        one.start()
    reports = [report for host in ("compute1", "compute2") for report in crash_instances(cloud, host, 9)]
    for number, report in enumerate(reports):
        Monitor(report["hostname"]).deliver([group[number % 2].url], report)
    until_final(server, 18, LEASE_S + SLOW_S, *group)
    assert {row["status"] for row in recoveries(server)} == {"finished"}
    actors = {row["actor"] for row in server.sql("SELECT DISTINCT actor FROM recovery_event WHERE kind = 'intent'")}
    assert len(actors) > 1, actors
    starts = server.sql(
        "SELECT uuid, COUNT(*) AS n FROM recovery_event WHERE what = 'os-start' AND kind = 'intent' GROUP BY uuid"
    )
    assert {row["n"] for row in starts} == {1}
    assert_healed(cloud, 18)


def test_what_a_killed_controller_was_doing_is_done_by_the_others_after_a_lease(
    server: PrivateMariaDB, cloud: RemoteCloud, make: Make
) -> None:
    group = [make(f"controller-{number}") for number in (1, 2)]
    for one in group:
        one.start()
    moved = cloud.boot("compute1", 12)
    add_spare(server, "compute3")
    cloud.crash("compute1")
    Monitor("compute2").deliver([group[0].url], Monitor("compute2").host_down("compute1"))
    until(lambda: cloud.state()["evacuate_requests"] != [], SLOW_S, lambda: story(server, *group))
    [row] = recoveries(server)
    victim = next(one for one in group if one.name == row["owner"])
    victim.kill()
    killed_at = time.monotonic()
    until_final(server, 1, LEASE_S + SLOW_S, *group)
    assert time.monotonic() - killed_at < LEASE_S + SLOW_S
    [row] = recoveries(server)
    assert (row["status"], row["epoch"]) == ("finished", 2), row
    assert_healed(cloud, len(moved))


def test_a_killed_controller_that_starts_again_goes_on_at_once(
    server: PrivateMariaDB, cloud: RemoteCloud, make: Make
) -> None:
    lease_s = 300
    one = make(recover_starter__lease_s=lease_s)
    one.start()
    cloud.boot("compute1", 12)
    add_spare(server, "compute3")
    cloud.crash("compute1")
    Monitor("compute2").deliver([one.url], Monitor("compute2").host_down("compute1"))
    until(lambda: cloud.state()["evacuate_requests"] != [], SLOW_S, lambda: story(server, one))
    one.restart()
    until_final(server, 1, lease_s / 5, one)
    assert "1 claims of an earlier run taken over" in one.said()
    assert recoveries(server)[0]["status"] == "finished"
    assert_healed(cloud, 12)


def test_a_second_controller_of_the_same_name_refuses_to_start(controller: ControllerProcess, make: Make) -> None:
    second = make(controller.name)
    second.start(ready=False)
    assert second.wait(SLOW_S) == 1
    assert "another controller named controller-1" in second.said()
    assert controller.health()[0] == 200


# The database goes away


def test_a_database_that_is_killed_loses_no_report_and_does_nothing_twice(
    server: PrivateMariaDB, cloud: RemoteCloud, controller: ControllerProcess
) -> None:
    reports = crash_instances(cloud, "compute1", 16)
    moved = cloud.boot("compute2", 6)
    add_spare(server, "compute3")
    cloud.crash("compute2")
    reports.append(Monitor("compute1").host_down("compute2"))
    threads = [
        threading.Thread(target=Monitor("compute1").deliver, args=([controller.url], report)) for report in reports
    ]
    for number, thread in enumerate(threads):
        if number == 6:
            server.kill()
        thread.start()
    try:
        until(lambda: controller.health()[0] == 503, SLOW_S, controller.said)
        answer = Monitor("compute1").post(controller.url, reports[-1])
        assert (answer.status_code, int(answer.headers["Retry-After"]) > 0) == (503, True)
        assert "nothing was stored" in answer.json()["error"]
    finally:
        server.start()
    for thread in threads:
        thread.join(SLOW_S * 2)
    until_final(server, len(reports), LEASE_S + 2 * SLOW_S, controller)
    assert {row["status"] for row in recoveries(server)} == {"finished"}
    assert server.sql("SELECT COUNT(*) AS n FROM notification_list")[0]["n"] == len(reports)
    intents = server.sql(
        "SELECT uuid, what, COUNT(*) AS n FROM recovery_event WHERE kind = 'intent' AND uuid IS NOT NULL GROUP BY uuid, what"
    )
    assert {row["n"] for row in intents} == {1}, intents
    until(lambda: controller.health()[0] == 200, SLOW_S, controller.said)
    assert controller.metrics()['masakari_reports_total{outcome="unavailable"}'] >= 1
    assert_healed(cloud, 16 + len(moved))


def test_a_controller_waits_for_a_database_that_is_away_at_start(
    server: PrivateMariaDB, make: Make, tmp_path: Path
) -> None:
    one = make()
    server.stop()
    try:
        one.start(ready=False)
        until(lambda: "tried again every" in one.said(), SLOW_S, one.said)
        assert one.status is None
    finally:
        server.start()
    one.until_ready()


# Being told: signals, systemd, questions


def test_systemd_is_told_when_it_is_ready_alive_and_stopping(make: Make, tmp_path: Path) -> None:
    one = make()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.bind(str(tmp_path / "notify"))
        link.settimeout(SLOW_S)
        one.start(environ={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000"})
        first = link.recv(4096).decode()
        assert first.splitlines()[0] == "READY=1"
        assert str(one.port) in first
        assert {link.recv(4096) for _ in range(3)} == {b"WATCHDOG=1"}
        one.signal(signal.SIGHUP)
        told = [link.recv(4096).decode().splitlines()[0] for _ in range(4)]
        assert told.index("RELOADING=1") < told.index("READY=1")
        one.signal(signal.SIGTERM)
        while (last := link.recv(4096)) == b"WATCHDOG=1":
            pass
        assert last == b"STOPPING=1"
    assert one.wait() == 0


def test_a_busy_controller_stops_in_time_and_leaves_nothing_half_done(
    server: PrivateMariaDB, cloud: RemoteCloud, controller: ControllerProcess
) -> None:
    cloud.boot("compute1", 6)
    add_spare(server, "compute3")
    reports = crash_instances(cloud, "compute2", 10)
    cloud.crash("compute1")
    cloud.fault("list_servers", "slow", count=-1, delay_s=0.9)
    for report in [Monitor("compute2").host_down("compute1"), *reports]:
        Monitor("compute2").deliver([controller.url], report)
    began = time.monotonic()
    assert controller.terminate() == 0
    assert time.monotonic() - began < STOP_S + 2
    cloud.clear_faults()
    controller.start()
    until_final(server, 11, LEASE_S + SLOW_S, controller)
    assert {row["status"] for row in recoveries(server)} == {"finished"}
    assert_healed(cloud, 16)


def test_senders_are_turned_away_and_not_left_hanging_when_it_stops(
    cloud: RemoteCloud, controller: ControllerProcess
) -> None:
    said: list[Any] = []

    def send() -> None:
        while True:
            try:
                said.append(
                    Monitor("compute1")
                    .post(controller.url, Monitor("compute1").process_down(f"p{len(said)}"))
                    .status_code
                )
            except requests.RequestException:
                return

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    until(lambda: len(said) > 20, SLOW_S, controller.said)
    began = time.monotonic()
    assert controller.terminate() == 0
    for thread in threads:
        thread.join(SLOW_S)
        assert not thread.is_alive()
    assert time.monotonic() - began < STOP_S + 2
    assert set(said) <= {200, 503}


def test_settings_are_reloaded_as_a_whole_or_not_at_all(cloud: RemoteCloud, controller: ControllerProcess) -> None:
    def unsigned() -> int:
        body = Monitor("compute1").process_down(f"p{time.monotonic()}")
        return requests.post(controller.url, json=body, timeout=SLOW_S).status_code

    def by_a_new_host() -> int:
        monitor = Monitor("compute77")
        return monitor.post(controller.url, monitor.process_down("x")).status_code

    assert (unsigned(), by_a_new_host()) == (401, 401)
    controller.write_config(auth__callbacks="open", recover_starter__lease_s=1)
    controller.write_keys(["compute77"])
    controller.signal(signal.SIGHUP)
    until(lambda: "not reloaded" in controller.said(), SLOW_S, controller.said)
    assert "is 1, and must be at least" in controller.said()
    assert (unsigned(), by_a_new_host()) == (401, 401)
    controller.write_config(recover_starter__lease_s=LEASE_S)
    controller.signal(signal.SIGHUP)
    until(lambda: "settings reloaded" in controller.said(), SLOW_S, controller.said)
    assert (unsigned(), by_a_new_host()) == (200, 200)


def test_a_nova_that_is_away_degrades_it_and_a_database_that_is_away_fails_it(
    server: PrivateMariaDB, cloud: RemoteCloud, make: Make
) -> None:
    cloud.set_away("nova")
    one = make()
    one.start()

    def shows_it() -> bool:
        status, content = one.health()
        return (status, content["status"]) == (200, "degraded") and "not asked" not in content["checked"]["nova"]

    until(shows_it, SLOW_S, lambda: f"{one.health()} {one.said()}")
    assert one.health()[1]["checked"]["database"] == "ok"
    server.stop()
    try:
        status, content = one.health()
        assert (status, content["status"]) == (503, "failed")
        assert content["checked"]["database"] != "ok"
    finally:
        server.start()
    until(lambda: one.health()[0] == 200, SLOW_S, one.said)


def test_the_metrics_count_reports_recoveries_spares_and_calls(
    server: PrivateMariaDB, cloud: RemoteCloud, controller: ControllerProcess
) -> None:
    add_spare(server, "compute3")
    [report] = crash_instances(cloud, "compute1", 1)
    monitor = Monitor("compute1")
    monitor.deliver([controller.url], report)
    monitor.deliver([controller.url], report)
    assert monitor.post(controller.url, {**report, "id": ""}).status_code == 400
    assert requests.post(controller.url, json=report, timeout=SLOW_S).status_code == 401
    until_final(server, 1, SLOW_S, controller)
    monitor.deliver([controller.url], Monitor("compute1").host_down("compute2", proof=""))
    until(lambda: controller.metrics()["masakari_held"] == 1, SLOW_S, lambda: story(server, controller))
    found = controller.metrics()
    outcomes = ("accepted", "known", "refused", "unauthorised")
    assert [found[f'masakari_reports_total{{outcome="{outcome}"}}'] for outcome in outcomes] == [2, 1, 1, 1]
    assert found['masakari_recoveries{status="finished",kind="instance"}'] == 1
    assert found['masakari_recoveries{status="held",kind="host"}'] == 1
    assert 0 <= found["masakari_held_oldest_age_seconds"] < 600
    assert found[f'masakari_spares{{cluster="{CLUSTER}"}}'] == 1
    assert found['masakari_nova_calls_total{call="start",result="202"}'] == 1
    assert found['masakari_step_seconds_count{kind="instance",step="start"}'] >= 1


def add_spare(server: PrivateMariaDB, host: str) -> None:
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO reserve_list (create_at, cluster_port, hostname, listed_key) VALUES (UTC_TIMESTAMP(), %s, %s, %s)",
            (CLUSTER, host, host),
        )
