"""What a report may do, and what it may not, seen from outside: unsigned ones, other hosts' ones, clocks that are wrong."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from masakari.common.errors import Unavailable
from masakari.common.text import utc
from masakari.steps import TABLES
from masakari.worker import ThreadPool, Workers
from tests.sim.harness import House, settings


@pytest.fixture
def house(tmp_path: Path) -> House:
    house = House(tmp_path)
    house.cloud.boot("compute1", 2)
    house.spare()
    house.clock.advance(30)
    return house


def test_a_proof_from_the_future_is_none(house: House) -> None:
    at = utc(house.clock.now() + 100)
    told = house.report(observer="compute2", evidence=[{"kind": "power_off", "at": at, "detail": ""}])
    house.until_held(told.recovery_id, "proof")
    assert house.cloud.violations() == []


def test_a_signed_report_is_not_held_by_an_unsigned_one(house: House) -> None:
    [uuid] = house.cloud.boot("compute2", 1)
    unsigned = house.instance_down(uuid, "compute1", trusted=False)
    house.cloud.crash_guest(uuid)
    signed = house.instance_down(uuid, "compute2")
    assert signed.recovery_id != unsigned.recovery_id
    assert house.settle(signed.recovery_id).status == "finished"
    assert house.recovery(unsigned.recovery_id).status == "ignored"


def test_the_word_of_another_host_does_not_swallow_an_instances_own_report(house: House) -> None:
    [uuid] = house.cloud.boot("compute2", 1)
    house.cloud.crash_guest(uuid)
    house.instance_down(uuid, "compute1")
    own = house.instance_down(uuid, "compute2")
    assert house.settle(own.recovery_id).status == "finished"


def test_a_signed_host_report_after_an_unsigned_one_is_admitted_by_its_own_facts(house: House) -> None:
    for host in ("compute1", "compute2", "compute3"):
        house.host_down(host, proof=None, trusted=False, cluster_port="evil")
    first = house.host_down("compute1", observer="compute3", proof=None)
    assert house.recovery(first.recovery_id).cluster_port != "evil"
    second = house.host_down("compute2", observer="compute3", proof=None)
    assert house.recovery(second.recovery_id).hold == "many", "more than half of the hosts known"


def test_an_unsigned_callback_is_no_sign_of_life(house: House) -> None:
    house.cloud.crash("compute1")
    told = house.host_down()
    house.clock.advance(20)
    house.instance_down("8d723104-f773-43c1-b458-a748e9bb17bc", "compute1", trusted=False)
    assert house.settle(told.recovery_id).reason == "2 of 2 evacuated"


def test_unsigned_failures_do_not_count_for_the_limit_of_many(house: House) -> None:
    for number in range(5):
        house.host_down(f"fake{number}", proof=None, trusted=False)
    told = house.host_down("compute1", proof=None)
    assert house.recovery(told.recovery_id).hold is None


def test_a_clock_set_back_lets_nothing_wait_for_it(house: House) -> None:
    house.cloud.crash("compute1")
    told = house.host_down(proof=None)
    house.until_held(told.recovery_id, "proof")
    house.controller.housekeeping.see_clock()
    house.clock.jump(-3600)
    house.clock.advance(10)
    house.controller.housekeeping.see_clock()
    [due] = house.rows("recovery_open")
    assert due["due_at"] <= house.clock.now()


def test_a_return_does_not_expire_before_it_may_begin(tmp_path: Path) -> None:
    house = House(
        tmp_path,
        settings(return_={"mode": "auto", "return_after_s": 300}, recover_starter={"notification_expiration_sec": 60}),
    )
    house.cloud.boot("compute1", 1)
    house.spare()
    house.clock.advance(30)
    house.cloud.crash("compute1")
    house.settle(house.host_down().recovery_id)
    house.cloud.start("compute1")
    house.clock.advance(20)
    back = house.host_up()
    house.clock.advance(120)
    house.controller.housekeeping.expire()
    assert house.settle(back.recovery_id, within_s=600).status == "finished"


def test_a_database_that_refuses_writes_costs_no_working_thread(house: House) -> None:
    told = house.host_down(proof=None)
    workers = Workers(house.controller.world, TABLES, 1)
    world = house.controller.world

    class ReadOnly:
        read = world.db.read

        def transaction(self, func: Any, **_: Any) -> None:
            raise Unavailable("the database is read-only")

    real, world.db = world.db, ReadOnly()  # type: ignore[assignment]
    for _ in range(3):
        with pytest.raises(Unavailable):
            workers._claim_due()
    world.db = real
    assert told.recovery_id
    assert workers._free.acquire(blocking=False), "the thread is still to be had"


def test_the_pool_hands_an_error_to_its_caller_and_goes_on() -> None:
    pool = ThreadPool(4)
    with pytest.raises(ZeroDivisionError):
        pool.map(lambda number: 1 // number, [1, 0, 2])
    assert pool.map(lambda number: number * 2, range(50)) == [number * 2 for number in range(50)]
    assert all(thread.daemon for thread in threading.enumerate() if thread.name.startswith("nova-"))
