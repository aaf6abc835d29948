"""When a host that comes back may start nova-compute: not while it is evacuated, or evacuated to, and else always."""

from __future__ import annotations

from masakari import start_gate
from tests.sim.conftest import Make
from tests.sim.harness import House, settings

FOUR = ("compute1", "compute2", "compute3", "compute4")


def may_start(house: House, host: str, up_s: float = 0.0) -> bool:
    return house.controller.db.read(lambda tx: start_gate.may_start(tx, host, up_s))[0]


def why(house: House, host: str) -> str:
    return house.controller.db.read(lambda tx: start_gate.may_start(tx, host, 0.0))[1]


def die(house: House, host: str = "compute1", wait_s: float = 20.0) -> None:
    house.cloud.crash(host)
    house.clock.advance(wait_s)


def evacuating(house: House, many: int = 3) -> int:
    """compute1 has died and so many evacuations of it are under way; the recovery."""
    die(house)
    recovery_id = house.host_down().recovery_id
    house.run(lambda: len(house.asked("evacuate")) == many)
    house.let(1)
    return recovery_id


def test_while_a_host_is_evacuated_neither_it_nor_the_target_may_start_and_afterwards_both_may(make: Make) -> None:
    house = make(evacuate_s=30.0)
    assert may_start(house, "compute1") and may_start(house, "compute3")
    recovery_id = evacuating(house)
    assert not may_start(house, "compute1") and not may_start(house, "compute3")
    assert why(house, "compute1") == f"recovery {recovery_id} is evacuating compute1: 0 of 3 evacuated, 3 to go"
    assert why(house, "compute3") == (
        f"3 evacuations from or to compute3 under way: recovery {recovery_id} of compute1"
    )
    assert may_start(house, "compute2"), "it has nothing to do with that"
    assert house.settle(recovery_id).status == "finished"
    assert may_start(house, "compute1") and may_start(house, "compute3")


def test_where_novas_scheduler_chooses_any_host_may_be_the_target(make: Make) -> None:
    house = make(settings(recover_starter={"recovery_method": "auto"}), spare=None, evacuate_s=30.0)
    recovery_id = evacuating(house)
    assert not may_start(house, "compute2")
    house.settle(recovery_id)
    assert may_start(house, "compute2")


def test_what_was_sent_to_a_host_since_it_was_booted_keeps_no_restart_of_its_nova_compute_waiting(make: Make) -> None:
    house = make(evacuate_s=30.0)
    recovery_id = evacuating(house)
    house.let(10)
    assert may_start(house, "compute3", up_s=3600)
    assert not may_start(house, "compute3", up_s=5), "what was sent to its last boot may be in its queue"
    assert not may_start(house, "compute1", up_s=3600), "it is still evacuated from there"
    house.settle(recovery_id)


def test_between_two_waves_of_evacuations_the_host_may_not_start(make: Make) -> None:
    house = make(settings(recover_starter={"semaphore_multiplicity": 1}), evacuate_s=20.0)
    recovery_id = evacuating(house, many=1)
    answers = set()
    while house.recovery(recovery_id).status == "running":
        answers.add((house.recovery(recovery_id).step, may_start(house, "compute1")))
        house.let(0.1)
    assert ("evacuate", False) in answers and ("evacuate", True) not in answers


def test_a_failure_without_proof_keeps_no_host_from_starting(make: Make) -> None:
    house = make()
    die(house)
    house.until_held(house.host_down(proof=None).recovery_id, "proof")
    assert may_start(house, "compute1")


def test_a_host_that_has_booted_again_waits_for_what_is_in_flight_and_not_for_its_own_recovery(make: Make) -> None:
    house = make(settings(recover_starter={"semaphore_multiplicity": 1}), boot=0, evacuate_s=30.0)
    house.cloud.boot("compute1", 3)
    house.host_up("compute1", boot_id="first")
    recovery_id = evacuating(house, many=1)
    house.cloud.start("compute1")
    house.host_up("compute1", boot_id="second")
    house.let(5)
    assert not may_start(house, "compute1"), "one evacuation is in flight"
    house.run(lambda: house.recovery(recovery_id).step == "in_place")
    assert may_start(house, "compute1"), "its recovery waits for its nova-compute"
    assert len(house.asked("evacuate")) == 1


def test_a_lost_target_for_which_everything_waits_may_start(make: Make) -> None:
    house = make(hosts=FOUR, evacuate_s=30.0)
    recovery_id = evacuating(house)
    die(house, "compute3", 5)
    house.host_down("compute3", proof=None)
    house.until_held(recovery_id, "target")
    assert may_start(house, "compute3")
    assert not may_start(house, "compute1"), "its instances may run on the target"
