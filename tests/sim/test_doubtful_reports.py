"""Reports that come late, contradict what a host told of itself, or were taken back: none of them harms a host that is well."""

from __future__ import annotations

from typing import Any

from masakari import admin
from masakari.common.text import utc
from tests.sim.conftest import Make
from tests.sim.harness import CLUSTER, House, settings
from tests.sim.test_names import declare


def seen_at(at: float, kind: str = "fenced", **fields: Any) -> dict[str, Any]:
    """What an observer says who saw the host alive for the last time 20 s before."""
    evidence = [{"kind": kind, "at": utc(at), "detail": "told"}]
    return {"utc_time": utc(at), "last_alive": utc(at - 20), "evidence": evidence, **fields}


def crashed(house: House) -> float:
    """compute1 dies; when it was fenced."""
    house.clock.advance(30)
    house.cloud.crash("compute1")
    house.clock.advance(20)
    return house.clock.now()


def test_a_report_that_waited_until_the_host_was_back_does_not_disable_it(make: Make) -> None:
    house = make()
    declare(house, "compute1", "node1")
    failed_at = crashed(house)
    first = house.report(observer="compute2", **seen_at(failed_at))
    assert house.settle(first.recovery_id).status == "finished"
    house.cloud.start("compute1")
    house.clock.advance(60)
    declare(house, "compute1", "node1", boot_id="boot-2")
    admin.bring_back(house.operator, "compute1")
    house.let(60)
    house.clock.advance(300)
    late = house.report(observer="compute3", **seen_at(failed_at))
    assert late.recovery_id is None and "told at" in late.reason
    house.let(900)
    assert house.cloud.hosts["compute1"].enabled


def test_a_short_cut_while_the_controller_was_away_does_not_disable_the_host(make: Make) -> None:
    house = make()
    declare(house, "compute1", "node1")
    cut_at = house.clock.now() + 10
    house.clock.advance(300)
    declare(house, "compute1", "node1", utc_time=utc(cut_at + 60))
    down = house.report(observer="compute2", **seen_at(cut_at, "power_on", detail="3"))
    assert down.recovery_id is None
    house.host_up("compute1", observer="compute2", utc_time=utc(cut_at + 61))
    house.let(600)
    assert house.cloud.hosts["compute1"].enabled


def test_evidence_about_another_node_than_the_hosts_own_proves_nothing(make: Make) -> None:
    house = make()
    declare(house, "compute1", "node1")
    declare(house, "compute2", "node2")
    house.clock.advance(30)
    house.cloud.kill_compute("compute1")  # the host and its guests are well, and Nova can't be asked
    house.clock.advance(90)
    told = seen_at(house.clock.now(), pacemaker_name="node2")
    receipt = house.report(hostname="compute1", observer="compute3", **told)
    assert "node2" in house.until_held(receipt.recovery_id, "proof").reason
    house.let(60)
    assert not house.asked("evacuate")


def test_names_that_are_crossed_evacuate_nobody(make: Make) -> None:
    house = make()
    declare(house, "compute1", "compute2")
    declare(house, "compute2", "compute1")
    house.clock.advance(30)
    house.cloud.kill_compute("compute1")
    house.cloud.crash("compute2")
    house.clock.advance(90)
    house.report(observer="compute3", **seen_at(house.clock.now(), pacemaker_name="compute1"))
    house.let(60)
    assert not house.asked("evacuate")


def test_who_took_a_report_back_is_no_observer_of_the_next_failure(make: Make) -> None:
    house = make(settings(safety={"min_observers": 2}))
    house.clock.advance(30)
    now = house.clock.now()
    receipt = house.report(observer="compute2", utc_time=utc(now), detail="4", last_alive=utc(now - 20))
    house.until_held(receipt.recovery_id, "observers")
    house.clock.advance(30)
    house.host_up("compute1", observer="compute2", utc_time=utc(house.clock.now()))
    house.let(7200)
    house.cloud.kill_compute("compute1")
    house.clock.advance(90)
    house.report(observer="compute3", **seen_at(house.clock.now(), "power_off"))
    house.let(60)
    assert not house.asked("evacuate")


def test_a_late_report_takes_no_repaired_host_off_the_list_of_spares(make: Make) -> None:
    house = make()
    declare(house, "compute1", "node1")
    failed_at = crashed(house)
    first = house.report(observer="compute2", **seen_at(failed_at))
    assert house.settle(first.recovery_id).status == "finished"
    house.clock.advance(600)
    house.spare("compute1")
    house.report(observer="compute3", recovery=str(first.recovery_id), **seen_at(failed_at))
    assert "compute1" in [row["hostname"] for row in house.rows("spare_list", cluster_port=CLUSTER)]
