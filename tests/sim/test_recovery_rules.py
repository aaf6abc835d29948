"""How recoveries run, as far as it can be seen from outside: joining, hosts, instances, processes, the return, operators."""

from __future__ import annotations

from typing import Any

import pytest

from masakari import admin
from masakari.common.text import utc
from tests.sim.conftest import Make
from tests.sim.harness import CLUSTER, House, settings
from tests.simcloud import power


def die(house: House, host: str = "compute1", wait_s: float = 20.0) -> None:
    house.cloud.crash(host)
    house.clock.advance(wait_s)


def user_asks(house: House, uuid: str, action: str) -> None:
    with house.cloud.alone():
        power.request(house.cloud, house.cloud.servers[uuid], action, "req-user", "a-user", False)


# Joining


def test_a_report_joins_the_active_recovery_of_its_host_and_brings_its_evidence(make: Make) -> None:
    house = make()
    die(house)
    first = house.host_down(proof=None).recovery_id
    house.until_held(first, "proof")
    assert house.host_down(observer="compute3").recovery_id == first
    assert house.settle(first).status == "finished"


def test_after_the_end_a_report_with_nothing_new_is_refused_for_a_while_and_one_with_new_proof_opens_another(
    make: Make,
) -> None:
    house = make()
    die(house)
    first = house.host_down().recovery_id
    house.settle(first)
    assert house.report(observer="compute2").recovery_id is None
    second = house.host_down().recovery_id
    assert second not in (None, first)
    assert house.settle(second).reason == "nothing there"


def test_a_report_that_adds_evidence_to_a_recovery_opens_no_other_one_when_that_has_ended(make: Make) -> None:
    house = make()
    die(house)
    first = house.settle(house.host_down().recovery_id)
    late = house.host_down(recovery=str(first.id))
    assert (late.recovery_id, late.recovery_status) == (first.id, "finished")
    assert [row["id"] for row in house.table("recovery")] == [first.id]
    of_another_host = house.host_down("compute2", observer="compute3", recovery=str(first.id))
    assert of_another_host.recovery_id not in (None, first.id)


def test_after_a_sign_of_life_the_next_report_opens_another_recovery(make: Make) -> None:
    house = make(boot=0)
    die(house)
    first = house.settle(house.host_down().recovery_id)
    house.cloud.start("compute1")
    house.host_up("compute1", boot_id="again")
    assert house.report(observer="compute2").recovery_id not in (None, first.id)


# Hosts


@pytest.mark.parametrize("metadata", [{"HA-Enabled": "off"}, {"HA_Enabled": "false"}, {"HA_Enabled": "False"}])
def test_what_its_owner_left_out_stays_where_it_is(make: Make, metadata: dict[str, str]) -> None:
    house = make(boot=1)
    (out,) = house.cloud.boot("compute1", 1, metadata=metadata)
    die(house)
    recovery = house.settle(house.host_down().recovery_id)
    assert recovery.status == "finished" and len(house.asked("evacuate")) == 1
    assert house.cloud.servers[out].host == "compute1"


def test_marked_instances_go_first_then_the_running_then_the_stopped(make: Make) -> None:
    house = make(settings(recover_starter={"semaphore_multiplicity": 1}), boot=0)
    (stopped,) = house.cloud.boot("compute1", 1, status="SHUTOFF")
    (running,) = house.cloud.boot("compute1", 1)
    (marked,) = house.cloud.boot("compute1", 1, metadata={"HA_Enabled": "true"})
    die(house)
    house.settle(house.host_down().recovery_id)
    assert [uuid for _, uuid, _ in house.cloud.evacuate_requests] == [marked, running, stopped]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("ACTIVE", "ACTIVE"),
        ("SHUTOFF", "SHUTOFF"),
        ("ERROR", "ACTIVE"),
        ("PAUSED", "PAUSED"),
        ("VERIFY_RESIZE", "ACTIVE"),
    ],
)
def test_each_instance_ends_as_it_was(make: Make, before: str, after: str) -> None:
    house = make(boot=0)
    (uuid,) = house.cloud.boot("compute1", 1, status=before)
    die(house)
    recovery = house.settle(house.host_down().recovery_id)
    server = house.cloud.servers[uuid]
    assert recovery.status == "finished", recovery.reason
    assert (server.host, server.status) == ("compute3", after)


@pytest.mark.parametrize(
    "state",
    [
        {"task_state": "migrating"},
        {"task_state": "resize_migrating"},
        {"status": "SUSPENDED"},
        {"status": "RESCUE"},
        {"status": "BUILD"},
        {"task_state": "deleting"},
    ],
)
def test_what_can_not_be_moved_is_left_and_said_so(make: Make, state: dict[str, str]) -> None:
    house = make(boot=0)
    (uuid,) = house.cloud.boot("compute1", 1, **state)
    die(house)
    recovery = house.settle(house.host_down().recovery_id)
    assert not house.asked("evacuate") and house.cloud.servers[uuid].host == "compute1"
    assert "is not evacuated" in house.story(recovery.id)


def test_a_locked_instance_is_moved(make: Make) -> None:
    house = make(boot=0)
    (uuid,) = house.cloud.boot("compute1", 1, locked=True)
    die(house)
    house.settle(house.host_down().recovery_id)
    assert house.cloud.servers[uuid].host == "compute3"


def test_no_more_than_the_window_is_in_flight_and_never_more_than_the_total(make: Make) -> None:
    house = make(settings(recover_starter={"semaphore_multiplicity": 3}), boot=8, builds_at_once=0)
    die(house)
    recovery_id = house.host_down().recovery_id
    most = 0
    while house.recovery(recovery_id).status not in ("finished", "failed"):
        most = max(most, sum(server.evacuation is not None for server in house.cloud.servers.values()))
        house.let(0.1)
    assert most == 3 and house.recovery(recovery_id).status == "finished"


def test_late_arrivals_are_evacuated_too(make: Make) -> None:
    house = make(boot=1, evacuate_s=10.0)
    die(house)
    recovery_id = house.host_down().recovery_id
    house.run(lambda: bool(house.asked("evacuate")))
    (late,) = house.cloud.boot("compute1", 1)
    assert house.settle(recovery_id).status == "finished"
    assert house.cloud.servers[late].host == "compute3"


def test_a_disable_belongs_to_all_who_want_it_and_the_last_to_clear_it_enables(make: Make) -> None:
    house = make()
    house.host_up("compute1", boot_id="one")
    house.process_down("compute1")
    house.let(5)
    house.clock.advance(10)
    host_recovery = house.host_down(proof=None).recovery_id
    house.until_held(host_recovery, "proof")
    house.clock.advance(20)
    house.host_up("compute1", boot_id="one")
    house.settle(host_recovery)
    assert not house.cloud.hosts["compute1"].enabled
    house.process_down("compute1", state="up")
    house.let(10)
    assert house.cloud.hosts["compute1"].enabled


def test_a_disable_that_was_there_before_stays(make: Make) -> None:
    house = make()
    house.cloud.update_service(house.cloud.hosts["compute1"], enabled=False, reason="maintenance")
    recovery_id = house.host_down(proof=None).recovery_id
    house.until_held(recovery_id, "proof")
    admin.cancel(house.operator, recovery_id)
    assert house.settle(recovery_id).status == "cancelled"
    host = house.cloud.hosts["compute1"]
    assert not host.enabled and host.disabled_reason == "maintenance"


def test_what_comes_to_a_rebooted_host_from_elsewhere_is_not_touched(make: Make) -> None:
    house = make(boot=1, spare=None)
    house.host_up("compute1", boot_id="one")
    die(house)
    recovery_id = house.host_down(proof="fenced").recovery_id
    house.cloud.start("compute1")
    house.clock.advance(30)
    (new,) = house.cloud.boot("compute1", 1)
    house.host_up("compute1", boot_id="two")
    assert house.settle(recovery_id).status == "finished"
    assert house.cloud.healthy_stops == [] and new in house.cloud.running()["compute1"]
    assert len(house.cloud.running()["compute1"]) == 2


# Instances


def test_an_instance_whose_process_died_is_stopped_and_started(make: Make) -> None:
    house = make(boot=1)
    uuid = next(iter(house.cloud.servers))
    house.cloud.crash_guest(uuid, noticed=False)
    assert house.settle(house.instance_down(uuid).recovery_id).status == "finished"
    assert len(house.asked("os-stop")) == len(house.asked("os-start")) == 1


def test_an_instance_that_nova_booked_as_stopped_is_just_started(make: Make) -> None:
    house = make(boot=1)
    uuid = next(iter(house.cloud.servers))
    house.cloud.crash_guest(uuid)
    house.clock.advance(1)
    assert house.settle(house.instance_down(uuid).recovery_id).status == "finished"
    assert not house.asked("os-stop") and uuid in house.cloud.running()["compute1"]


def test_an_instance_is_held_while_its_nova_compute_reads_down(make: Make) -> None:
    house = make(boot=1)
    uuid = next(iter(house.cloud.servers))
    house.cloud.kill_compute("compute1")
    house.clock.advance(70)
    house.cloud.crash_guest(uuid, noticed=False)
    recovery_id = house.instance_down(uuid).recovery_id
    house.until_held(recovery_id, "host_down")
    house.let(60)
    assert not house.asked("os-stop")
    house.cloud.restart_compute("compute1")
    assert house.settle(recovery_id).status in ("finished", "ignored")


def test_an_instance_is_held_while_its_host_is_reported_down(make: Make) -> None:
    house = make(boot=1)
    uuid = next(iter(house.cloud.servers))
    house.host_down(proof=None)
    recovery_id = house.instance_down(uuid).recovery_id
    house.until_held(recovery_id, "host_down")
    assert not house.asked("os-stop")


@pytest.mark.parametrize("action", ["stop", "reboot"])
def test_what_a_user_did_since_has_the_last_word(make: Make, action: str) -> None:
    house = make(boot=1)
    uuid = next(iter(house.cloud.servers))
    died = utc(house.clock.now())
    house.cloud.crash_guest(uuid, noticed=False)
    house.clock.advance(2)
    user_asks(house, uuid, action)
    house.clock.advance(5)
    recovery = house.settle(house.instance_down(uuid, utc_time=died).recovery_id)
    assert recovery.status == "ignored" and not house.asked("os-start")


def test_an_instance_that_nova_books_elsewhere_is_ignored(make: Make) -> None:
    house = make(boot=1)
    uuid = next(iter(house.cloud.servers))
    house.cloud.edit(uuid, host="compute2")
    assert house.settle(house.instance_down(uuid, host="compute1").recovery_id).status == "ignored"


def test_an_instance_that_dies_again_and_again_is_left_as_failed(make: Make) -> None:
    house = make(boot=1)
    uuid = next(iter(house.cloud.servers))
    found = []
    for _ in range(4):
        house.cloud.crash_guest(uuid, noticed=False)
        house.clock.advance(1)
        found.append(house.settle(house.instance_down(uuid).recovery_id).status)
        house.clock.advance(20)
    assert found == ["finished"] * 3 + ["failed"]


# Processes


def test_a_process_failure_disables_and_its_return_enables_at_most_three_times_a_day(make: Make) -> None:
    house = make()
    seen = []
    for _ in range(4):
        house.process_down("compute1")
        house.let(5)
        assert not house.cloud.hosts["compute1"].enabled
        house.process_down("compute1", state="up")
        house.let(5)
        seen.append(house.cloud.hosts["compute1"].enabled)
    assert seen == [True, True, True, False]


def test_a_process_that_is_only_reported_disables_nothing(make: Make) -> None:
    house = make()
    recovery = house.settle(house.process_down("compute1", process="sshd", on_failure="report").recovery_id)
    assert recovery.status == "finished" and house.sent == []


def test_a_disable_that_is_not_ours_is_not_taken_back(make: Make) -> None:
    house = make()
    house.cloud.update_service(house.cloud.hosts["compute1"], enabled=False, reason="maintenance")
    house.process_down("compute1")
    house.let(5)
    house.process_down("compute1", state="up")
    house.let(5)
    assert not house.cloud.hosts["compute1"].enabled


# The return


def evacuated(house: House) -> None:
    die(house)
    assert house.settle(house.host_down().recovery_id).status == "finished"


def test_a_host_is_unforced_then_seen_up_then_enabled(make: Make) -> None:
    house = make()
    evacuated(house)
    before = len(house.sent)
    house.cloud.start("compute1")
    admin.bring_back(house.operator, "compute1")
    house.let(60)
    bodies = [sent.body for sent in house.sent[before:]]
    assert bodies == [{"forced_down": False}, {"status": "enabled"}]
    assert house.cloud.schedulable(house.cloud.hosts["compute1"])


def test_a_host_returns_by_itself_only_where_that_is_asked_for(make: Make) -> None:
    house = make()
    evacuated(house)
    house.cloud.start("compute1")
    house.host_up("compute1")
    house.let(600)
    assert house.cloud.hosts["compute1"].forced_down


def test_in_auto_mode_a_host_returns_after_return_after_s(make: Make) -> None:
    house = make(settings(return_={"mode": "auto", "return_after_s": 300}))
    evacuated(house)
    house.cloud.start("compute1")
    house.clock.advance(30)
    house.host_up("compute1")
    house.let(290)
    assert house.cloud.hosts["compute1"].forced_down
    house.let(60)
    assert house.cloud.hosts["compute1"].enabled and not house.cloud.hosts["compute1"].forced_down


def test_a_host_does_not_return_while_an_evacuation_from_it_is_unfinished(make: Make) -> None:
    house = make(evacuate_s=100.0)
    die(house)
    house.host_down()
    house.run(lambda: bool(house.asked("evacuate")))
    admin.bring_back(house.operator, "compute1")
    house.let(50)
    assert house.cloud.hosts["compute1"].forced_down


def test_an_operators_own_enable_counts_as_the_command(make: Make) -> None:
    house = make()
    evacuated(house)
    house.cloud.start("compute1")
    house.clock.advance(30)
    house.cloud.update_service(house.cloud.hosts["compute1"], enabled=True)
    house.controller.housekeeping.tick()
    house.let(30)
    assert not house.cloud.hosts["compute1"].forced_down


# Operators


def test_a_pause_stores_reports_and_does_nothing_until_it_is_over(make: Make) -> None:
    house = make()
    house.host_up("compute2")
    admin.pause(house.operator, CLUSTER, None)
    die(house)
    recovery_id = house.host_down().recovery_id
    house.let(120)
    assert recovery_id is not None and house.sent == []
    admin.resume(house.operator, CLUSTER)
    assert house.settle(recovery_id).status == "finished"


@pytest.mark.parametrize("proof", ["power_off", None])
def test_observe_mode_tells_every_decision_and_writes_nothing_to_nova(make: Make, proof: Any) -> None:
    house = make(settings(safety={"mode": "observe"}))
    die(house)
    house.host_down(proof=proof)
    house.let(120)
    assert house.sent == []


def test_cancel_stops_new_requests_and_follows_those_in_flight(make: Make) -> None:
    house = make(settings(recover_starter={"semaphore_multiplicity": 1}), evacuate_s=20.0)
    die(house)
    recovery_id = house.host_down().recovery_id
    house.run(lambda: len(house.asked("evacuate")) == 1)
    admin.cancel(house.operator, recovery_id)
    recovery = house.settle(recovery_id)
    assert recovery.status == "cancelled" and len(house.asked("evacuate")) == 1
    assert [row["status"] for row in house.instances(recovery_id)].count("finished") == 1
