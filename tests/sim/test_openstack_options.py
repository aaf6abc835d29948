"""The options of OpenStack's Masakari, as far as they can be seen from outside: who is recovered, and what Nova is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from masakari import admin, admin_retry
from tests.sim.conftest import Make
from tests.sim.harness import Controller, House, settings
from tests.sim.test_recovery_rules import die

RELIST_S = 130.0
"""Longer than housekeeping takes to look again."""


def host(**options: Any) -> Any:
    return settings(host_failure=options)


def reasons(house: House, recovery_id: int) -> dict[str, str]:
    return {row["uuid"]: row["reason"] for row in house.instances(recovery_id)}


# Which instances


def test_only_marked_instances_are_evacuated_where_that_is_set(make: Make) -> None:
    house = make(host(evacuate_all_instances=False), boot=0)
    (silent,) = house.cloud.boot("compute1", 1)
    (marked,) = house.cloud.boot("compute1", 1, metadata={"HA_Enabled": "True"})
    die(house)
    recovery = house.settle(house.host_down().recovery_id)
    assert recovery.status == "finished"
    assert [uuid for _, uuid, _ in house.cloud.evacuate_requests] == [marked]
    assert "evacuate_all_instances = no" in reasons(house, recovery.id)[silent]
    assert "evacuate_all_instances = no" in house.story(recovery.id)


def test_where_nobody_is_marked_no_reserved_host_is_kept(make: Make) -> None:
    house = make(host(evacuate_all_instances=False))
    die(house)
    recovery = house.settle(house.host_down().recovery_id)
    assert recovery.reason == "nothing there: 3 left alone"
    assert [row["hostname"] for row in house.rows("spare_all")] == ["compute3"]


def test_without_a_reserved_host_none_is_missed_where_nobody_is_marked(make: Make) -> None:
    house = make(host(evacuate_all_instances=False), spare=None)
    die(house)
    assert house.settle(house.host_down().recovery_id).status == "finished"


def test_instances_in_error_are_left_alone_where_that_is_set_and_those_set_to_error_by_us_are_not(make: Make) -> None:
    house = make(host(ignore_instances_in_error_state=True), boot=0)
    (broken,) = house.cloud.boot("compute1", 1, status="ERROR")
    (paused,) = house.cloud.boot("compute1", 1, status="PAUSED")
    (active,) = house.cloud.boot("compute1", 1)
    house.cloud.fault("evacuate", "answer", status=409)
    die(house)
    recovery = house.settle(house.host_down().recovery_id)
    assert recovery.status == "finished", recovery.reason
    places = {uuid: house.cloud.servers[uuid].host for uuid in (broken, paused, active)}
    assert places == {broken: "compute1", paused: "compute3", active: "compute3"}
    assert "in error" in reasons(house, recovery.id)[broken]


def test_the_key_of_the_metadata_can_be_another_one(make: Make) -> None:
    house = make(host(ha_enabled_instance_metadata_key="keep"), boot=0)
    (left,) = house.cloud.boot("compute1", 1, metadata={"keep": "false"})
    (moved,) = house.cloud.boot("compute1", 1, metadata={"HA_Enabled": "false"})
    die(house)
    house.settle(house.host_down().recovery_id)
    assert [uuid for _, uuid, _ in house.cloud.evacuate_requests] == [moved]
    assert house.cloud.servers[left].host == "compute1"


@pytest.mark.parametrize(("metadata", "status"), [({}, "ignored"), ({"HA_Enabled": "true"}, "finished")])
def test_only_marked_instances_are_started_again_where_that_is_set(
    make: Make, metadata: dict[str, str], status: str
) -> None:
    house = make(settings(instance_failure={"process_all_instances": False}), boot=0)
    (uuid,) = house.cloud.boot("compute1", 1, metadata=metadata)
    house.clock.advance(30)
    house.cloud.crash_guest(uuid, noticed=False)
    house.clock.advance(1)
    recovery = house.settle(house.instance_down(uuid).recovery_id)
    assert recovery.status == status
    assert bool(house.asked("os-start")) is (status == "finished")
    assert ("process_all_instances = no" in recovery.reason) is (status == "ignored")


def test_a_host_that_booted_again_starts_only_marked_instances_where_that_is_set(make: Make) -> None:
    house = make(host(evacuate_all_instances=False), boot=0)
    (silent,) = house.cloud.boot("compute1", 1)
    (marked,) = house.cloud.boot("compute1", 1, metadata={"HA_Enabled": "true"})
    house.host_up(boot_id="boot-1")
    die(house)
    first = house.host_down(proof=None).recovery_id
    house.until_held(first, "proof")
    house.cloud.start("compute1")
    house.clock.advance(10)
    house.host_up(boot_id="boot-2")
    house.settle(first, within_s=900)
    assert house.cloud.running()["compute1"] == [marked]
    assert "evacuate_all_instances = no" in reasons(house, first)[silent]


def test_settings_that_are_read_again_hold_for_what_is_listed_from_then_on(make: Make) -> None:
    house = make(host(evacuate_all_instances=False))
    house.controller.world.settings = settings()
    die(house)
    assert house.settle(house.host_down().recovery_id).reason == "3 of 3 evacuated"


# The reason of a disable


def test_the_reason_of_a_disable_is_the_operators_text_behind_the_number(make: Make) -> None:
    house = make(host(service_disable_reason="call the night shift"))
    die(house)
    recovery = house.settle(house.host_down().recovery_id)
    assert house.cloud.hosts["compute1"].disabled_reason == f"masakari recovery {recovery.id}: call the night shift"


def test_a_disable_is_taken_back_though_its_text_has_been_set_anew_meanwhile(make: Make) -> None:
    house = make(settings(process_failure={"service_disable_reason": "first text"}), boot=1)
    down = house.settle(house.process_down().recovery_id)
    assert house.cloud.hosts["compute1"].disabled_reason == f"masakari recovery {down.id}: first text"
    house.controller.world.settings = settings(process_failure={"service_disable_reason": "second text"})
    up = house.settle(house.process_down(state="up").recovery_id)
    assert up.status == "finished"
    assert house.cloud.hosts["compute1"].enabled


# Aggregates

JOINED = {"add_reserved_host_to_aggregate": True}
JOIN = host(**JOINED)


def with_aggregates(house: House) -> None:
    house.cloud.add_aggregate("rack", ["compute1", "compute2"])
    house.cloud.add_aggregate("fast", ["compute1", "compute3"])
    house.cloud.add_aggregate("large", ["compute1"])
    house.cloud.add_aggregate("other", ["compute2"])


def members(house: House, name: str = "compute3") -> set[str]:
    """The aggregates that a host is in."""
    return {one.name for one in house.cloud.aggregates.values() if name in one.hosts}


def test_without_the_option_no_aggregate_is_touched(make: Make) -> None:
    house = make()
    with_aggregates(house)
    die(house)
    house.settle(house.host_down().recovery_id)
    assert members(house) == {"fast"}
    assert "aggregates" not in house.story(1)


def test_the_reserved_host_is_in_all_aggregates_of_the_failed_one_before_anything_is_evacuated(make: Make) -> None:
    house = make(JOIN)
    with_aggregates(house)
    die(house)
    recovery = house.settle(house.host_down().recovery_id)
    assert recovery.reason == "3 of 3 evacuated"
    assert members(house) == {"rack", "fast", "large"}
    kinds = [next(iter(sent.body)) for sent in house.sent if next(iter(sent.body)) in ("add_host", "evacuate")]
    assert kinds == ["add_host"] * 2 + ["evacuate"] * 3
    assert "add compute3 to aggregate rack" in house.story(recovery.id)


def test_a_reserved_host_that_was_kept_disabled_joins_them_too(make: Make) -> None:
    house = make(JOIN)
    with_aggregates(house)
    house.cloud.update_service(house.cloud.hosts["compute3"], enabled=False, reason="a spare")
    die(house)
    assert house.settle(house.host_down().recovery_id).status == "finished"
    assert members(house) == {"rack", "fast", "large"}


@pytest.mark.parametrize("status", [400, 403, 404, 409])
def test_what_nova_refuses_is_noted_and_the_instances_are_evacuated_all_the_same(make: Make, status: int) -> None:
    house = make(JOIN)
    with_aggregates(house)
    house.cloud.fault("add_host", "answer", status=status)
    die(house)
    recovery = house.settle(house.host_down().recovery_id)
    assert recovery.reason == "3 of 3 evacuated"
    assert members(house) == {"fast", "large"}
    assert len(house.asked("add_host")) == 2
    story = house.story(recovery.id)
    assert "add compute3 to aggregate rack refused" in story and "compute3 is not in aggregate rack" in story


def test_another_availability_zone_keeps_the_reserved_host_out_and_the_recovery_goes_on(make: Make) -> None:
    house = make(JOIN)
    house.cloud.add_aggregate("north", ["compute1"], zone="north")
    house.cloud.add_aggregate("south", ["compute3"], zone="south")
    die(house)
    recovery = house.settle(house.host_down().recovery_id)
    assert recovery.reason == "3 of 3 evacuated"
    assert members(house) == {"south"}
    assert "availability zone" in house.story(recovery.id)


def test_where_the_aggregates_may_not_be_read_the_recovery_goes_on_and_says_so(make: Make) -> None:
    house = make(JOIN)
    with_aggregates(house)
    house.cloud.fault("list_aggregates", "answer", status=403, count=-1)
    die(house)
    recovery = house.settle(house.host_down().recovery_id)
    assert recovery.reason == "3 of 3 evacuated"
    assert "put into no aggregate" in house.story(recovery.id)


@pytest.mark.parametrize("kind", ["lose_answer", "lose_request"])
def test_a_lost_answer_is_looked_for_and_the_host_is_in_them_in_the_end(make: Make, kind: str) -> None:
    house = make(JOIN)
    with_aggregates(house)
    house.cloud.fault("add_host", kind)
    die(house)
    assert house.settle(house.host_down().recovery_id).status == "finished"
    assert members(house) == {"rack", "fast", "large"}


def test_nova_never_answering_about_an_aggregate_holds_up_nothing_for_long(make: Make) -> None:
    house = make(JOIN)
    with_aggregates(house)
    house.cloud.fault("add_host", "answer", status=500, count=-1)
    die(house)
    recovery = house.settle(house.host_down().recovery_id, within_s=60)
    assert recovery.reason == "3 of 3 evacuated"
    assert len(house.asked("add_host")) == 6


def nobody_to_move(house: House) -> None:
    house.cloud.boot("compute1", 2, metadata={"HA_Enabled": "false"})
    with_aggregates(house)
    die(house)


def test_a_reserved_host_that_served_nobody_leaves_what_it_was_put_in_and_nothing_else(make: Make) -> None:
    house = make(JOIN, boot=0)
    nobody_to_move(house)
    recovery = house.settle(house.host_down().recovery_id)
    assert recovery.reason == "nothing there: 2 left alone"
    assert members(house) == {"fast"}
    assert len(house.asked("remove_host")) == 2
    assert [row["hostname"] for row in house.rows("spare_all")] == ["compute3"]
    assert recovery.data["aggregates"] == []


def test_what_somebody_else_has_put_it_in_meanwhile_it_stays_in(make: Make) -> None:
    house = make(JOIN, boot=0)
    nobody_to_move(house)
    # Between our look and our request: Nova says 409, and shows it there.
    house.cloud.fault("add_host", "answer", status=409, executed=True)
    house.settle(house.host_down().recovery_id)
    pass_time(house, RELIST_S)
    assert members(house) == {"rack", "fast"}


def test_what_nova_will_not_take_back_is_tried_again_later(make: Make) -> None:
    house = make(JOIN, boot=0)
    nobody_to_move(house)
    house.cloud.fault("remove_host", "answer", status=409, count=2)
    recovery = house.settle(house.host_down().recovery_id)
    assert recovery.status == "finished"
    assert members(house) == {"rack", "fast", "large"}
    pass_time(house, RELIST_S)
    assert members(house) == {"fast"}


def test_a_cancel_before_anything_was_evacuated_takes_it_out_again(make: Make) -> None:
    house = make(JOIN)
    with_aggregates(house)
    die(house)
    house.cloud.fault("list_servers", "answer", status=503, count=-1)
    recovery_id = house.host_down().recovery_id
    house.run(lambda: members(house) == {"rack", "fast", "large"})
    admin.cancel(house.operator, recovery_id)
    house.cloud.clear_faults()
    house.cloud.fault("remove_host", "lose_request")
    house.settle(recovery_id)
    assert members(house) == {"fast"}


def test_a_reserved_host_that_was_lost_unused_leaves_them_and_the_next_one_is_in_them(make: Make) -> None:
    house = make(JOIN, hosts=("compute1", "compute2", "compute3", "compute4"))
    house.spare("compute4")
    with_aggregates(house)
    die(house)
    recovery_id = house.host_down().recovery_id
    house.run(lambda: house.recovery(recovery_id).step == "list")
    house.cloud.crash("compute3")
    with house.cloud.alone():
        house.cloud.hosts["compute3"].forced_down = True
    house.by_hand = {"compute3"}  # type: ignore[attr-defined]
    recovery = house.settle(recovery_id)
    assert recovery.reason == "3 of 3 evacuated" and recovery.target == "compute4"
    assert members(house, "compute4") == {"rack", "fast", "large"}
    assert members(house) == {"fast"}


def pass_time(house: House, seconds: float) -> None:
    """Time with housekeeping in it."""
    for _ in range(int(seconds / 10)):
        house.let(10)
        house.controller.housekeeping.tick()


def move_away(house: House, to: str = "compute2") -> None:
    """Somebody migrates everything away from compute3."""
    with house.cloud.alone():
        for server in house.cloud.servers.values():
            house.cloud.hosts["compute3"].guests.discard(server.id)
            house.cloud.hosts[to].guests.add(server.id)
            server.host = to


def recovered(make: Make) -> House:
    house = make(JOIN)
    with_aggregates(house)
    die(house)
    assert house.settle(house.host_down().recovery_id).reason == "3 of 3 evacuated"
    return house


def test_a_host_that_served_leaves_the_aggregates_once_it_is_a_spare_again(make: Make) -> None:
    house = recovered(make)
    move_away(house)
    pass_time(house, RELIST_S)
    assert members(house) == {"rack", "fast", "large"}, "it is no spare, but an ordinary host"
    assert "take compute3 out" not in house.story(1)
    house.spare("compute3")
    pass_time(house, RELIST_S)
    assert members(house) == {"fast"}
    assert house.recovery(1).data["aggregates"] == []
    assert "it is on the list of spares again" in house.story(1)


def test_it_stays_in_them_while_instances_are_booked_on_it_and_that_is_said_once(make: Make) -> None:
    house = recovered(make)
    house.spare("compute3")
    pass_time(house, 3 * RELIST_S)
    assert members(house) == {"rack", "fast", "large"}
    assert house.story(1).count("compute3 stays in its aggregates") == 1
    move_away(house)
    pass_time(house, RELIST_S)
    assert members(house) == {"fast"}


def test_a_refusal_is_tried_again_in_an_hour(make: Make) -> None:
    house = recovered(make)
    move_away(house)
    house.spare("compute3")
    house.cloud.fault("remove_host", "answer", status=409)
    pass_time(house, 600)
    assert len(house.asked("remove_host")) == 1
    house.clock.advance(3600)
    pass_time(house, RELIST_S)
    assert members(house) == {"fast"}


def test_in_observe_mode_nothing_is_taken_out(make: Make) -> None:
    house = recovered(make)
    move_away(house)
    house.spare("compute3")
    house.controller.world.settings = replace(house.settings, safety=replace(house.settings.safety, mode="observe"))
    pass_time(house, RELIST_S)
    assert house.asked("remove_host") == []


def test_a_spare_that_is_just_being_taken_out_joins_them_only_afterwards(make: Make) -> None:
    """It is taken for the next failed host while a request of housekeeping is on its way that arrives late."""
    house = make(JOIN, hosts=("compute1", "compute2", "compute3", "compute4"))
    house.cloud.add_aggregate("rack", ["compute1", "compute4"])
    house.cloud.boot("compute4", 2)
    die(house)
    house.settle(house.host_down().recovery_id)
    move_away(house, "compute4")
    house.spare("compute3")
    house.cloud.fault("remove_host", "late", delay_s=14.0)
    while not house.asked("remove_host"):
        pass_time(house, 10)
    assert members(house) == {"rack"}
    die(house, "compute4", wait_s=0.0)
    second = Controller(house, "controller-2")
    recovery_id = house.host_down("compute4", observer="compute2").recovery_id
    house.run(lambda: house.recovery(recovery_id).status == "finished", controllers=[second])
    house.clock.advance(20)
    house.cloud.running()
    assert members(house) == {"rack"}, house.story(recovery_id)


def test_a_retry_still_knows_what_the_first_try_has_put_it_in(make: Make) -> None:
    house = make(settings(host_failure=JOINED, recover_starter={"recovery_max_retry_cnt": 1}))
    with_aggregates(house)
    house.cloud.fault("evacuate", "answer", status=409, count=-1)
    die(house)
    assert house.settle(house.host_down().recovery_id).status == "failed"
    house.cloud.clear_faults()
    admin_retry.retry(house.operator, 1, attested=True)
    assert house.settle(1).reason == "3 of 3 evacuated"
    move_away(house)
    house.spare("compute3")
    pass_time(house, RELIST_S)
    assert members(house) == {"fast"}
