"""Hosts that pacemaker calls otherwise than Nova does: which host a report is about, seen from outside."""

from __future__ import annotations

from typing import Any

import pytest

from masakari.common.keys import Key
from masakari.common.text import utc
from tests.sim.conftest import Make
from tests.sim.harness import CLUSTER, House


def declare(house: House, host: str, pacemaker_name: str, **fields: Any) -> None:
    """A hostmonitor starts on a host and tells who it is."""
    told = {"boot_id": f"boot-1-of-{host}", "utc_time": utc(house.clock.now()), "pacemaker_name": pacemaker_name}
    house.host_up(host, observer=host, **{**told, **fields})


def die(house: House, host: str = "compute1") -> None:
    house.clock.advance(20)
    house.cloud.crash(host)
    house.clock.advance(20)


def key(host: str, cluster_port: str = CLUSTER) -> Key:
    return Key(host=host, cluster_port=cluster_port, secret="sixteen or more characters")


@pytest.mark.parametrize("name", ["node1", "NODE1"])
def test_a_failure_reported_under_pacemakers_name_is_one_of_novas_host(make: Make, name: str) -> None:
    house = make()
    declare(house, "compute1", "node1")
    die(house)
    receipt = house.host_down(name)
    assert receipt.reason.endswith(f"reported as {name}")
    assert house.recovery(receipt.recovery_id).hostname == "compute1"
    joined = house.host_down("compute1", observer="compute3")
    assert joined.recovery_id == receipt.recovery_id
    recovery = house.settle(receipt.recovery_id)
    assert recovery.status == "finished" and recovery.reason == "3 of 3 evacuated"
    assert f"host is down, reported as {name}" in house.story(recovery.id)
    [stored] = [row for row in house.table("notification_list") if name in row["body"] and row["self_report"] == 0]
    assert stored["notification_hostname"] == "compute1"


def test_a_joining_report_says_under_which_name_it_came(make: Make) -> None:
    house = make()
    declare(house, "compute1", "node1")
    die(house)
    opened = house.host_down("compute1", proof=None)
    joined = house.host_down("node1", observer="compute3")
    assert joined.recovery_id == opened.recovery_id and "reported as node1" in joined.reason
    assert house.settle(opened.recovery_id).status == "finished"


def test_a_sign_of_life_under_pacemakers_name_is_one_of_novas_host(make: Make) -> None:
    house = make()
    declare(house, "compute1", "node1")
    die(house)
    recovery_id = house.host_down("compute1", proof=None).recovery_id
    proof = [{"kind": "power_off", "at": utc(house.clock.now()), "detail": "read"}]
    house.clock.advance(30)
    house.host_up("node1", observer="compute3")
    house.report(observer="compute2", evidence=proof)
    house.until_held(recovery_id, "alive")
    house.let(60)
    assert not house.asked("evacuate")


def test_a_name_that_two_hosts_declared_is_neithers(make: Make) -> None:
    house = make()
    declare(house, "compute1", "node1")
    declare(house, "compute2", "node1")
    die(house)
    recovery = house.until_held(house.host_down("node1", observer="compute3").recovery_id, "name")
    assert "compute1 and compute2 told that pacemaker calls them so" in recovery.reason
    assert house.sent == []


def test_the_same_name_counts_before_one_in_another_case(make: Make) -> None:
    house = make()
    declare(house, "compute1", "node1")
    declare(house, "compute2", "Node1")
    die(house)
    assert house.recovery(house.host_down("node1", observer="compute3").recovery_id).hostname == "compute1"


def test_a_name_counts_only_in_its_own_cluster(make: Make) -> None:
    house = make()
    declare(house, "compute1", "node1", cluster_port="another:5405")
    recovery_id = house.host_down("node1", observer="compute3").recovery_id
    house.until_held(recovery_id, "name")


@pytest.mark.parametrize("how", ["boot", "callback", "key"])
def test_no_host_takes_the_reports_about_another_one(make: Make, how: str) -> None:
    """compute2 claims to be what pacemaker calls compute1."""
    house = make(keys={"k": key("compute1")} if how == "key" else None)
    if how == "boot":
        house.host_up("compute1", boot_id="boot-1")
    if how == "callback":
        house.process_down("compute1", on_failure="report")
    declare(house, "compute2", "compute1")
    die(house)
    receipt = house.host_down("compute1", observer="compute3")
    assert "reported as" not in receipt.reason
    assert house.recovery(receipt.recovery_id).hostname == "compute1"


def test_a_name_told_later_ends_what_was_held_under_it(make: Make) -> None:
    house = make()
    die(house)
    held = house.until_held(house.host_down("node1", observer="compute3", proof=None).recovery_id, "name")
    declare(house, "compute1", "node1")
    ended = house.settle(held.id, within_s=90)
    assert (ended.status, ended.reason) == ("ignored", "it is compute1: reported under that name from now on")
    house.clock.advance(60)
    again = house.host_down("node1", observer="compute3")
    assert house.recovery(again.recovery_id).hostname == "compute1"
    assert house.settle(again.recovery_id).status == "finished"


def test_a_host_that_tells_another_name_is_no_longer_the_one_it_was(make: Make) -> None:
    house = make()
    declare(house, "compute1", "node1")
    house.clock.advance(1)
    declare(house, "compute1", "node7")
    assert house.recovery(house.host_down("node7", observer="compute3").recovery_id).hostname == "compute1"
    house.until_held(house.host_down("node1", observer="compute3").recovery_id, "name")


# Whose cluster


def test_a_signed_report_about_a_host_that_told_to_be_of_another_cluster_is_refused(make: Make) -> None:
    house = make(keys={"k": key("compute2")})
    declare(house, "compute1", "node1", cluster_port="another:5405")
    refused = house.host_down("compute1")
    assert (refused.status_code, refused.recovery_id) == (403, None)
    assert refused.reason == "compute1 is not in the cluster of compute2, but in another:5405"
    assert house.table("recovery") == []
    assert [row for row in house.table("notification_list") if row["self_report"] == 0] == []


def test_a_name_that_leads_to_a_host_with_a_key_of_another_cluster_is_refused(make: Make) -> None:
    """It declared itself here, and its key was moved since."""
    house = make(keys={"k": key("compute1", "another:5405")})
    declare(house, "compute1", "node1")
    refused = house.host_down("node1")
    assert (refused.status_code, refused.recovery_id) == (403, None)
    assert house.table("recovery") == []


def test_a_host_moves_to_another_cluster_by_its_own_word_only(make: Make) -> None:
    house = make()
    declare(house, "compute1", "node1")
    house.host_up("compute1", observer="compute3", cluster_port="another:5405", trusted=True)
    assert [row["cluster_port"] for row in house.table("known_host") if row["hostname"] == "compute1"] == [CLUSTER]
    house.clock.advance(1)
    declare(house, "compute1", "node1", cluster_port="another:5405")
    assert [row["cluster_port"] for row in house.table("known_host") if row["hostname"] == "compute1"] == [
        "another:5405"
    ]


def test_a_host_with_two_names_is_one_member_of_its_cluster(make: Make) -> None:
    """Two of three failed: counted with its other name it would be two of four, and not held."""
    house = make()
    held = house.host_down("node1", observer="compute3", proof=None)
    declare(house, "compute1", "node1")
    house.settle(held.recovery_id, within_s=90)
    house.clock.advance(20)
    house.host_down("compute1", observer="compute3", proof=None)
    second = house.host_down("compute2", observer="compute3", proof=None)
    assert house.recovery(second.recovery_id).hold == "many"
