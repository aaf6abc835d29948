"""What must not happen when things come in an unlucky order: late, twice, changed by hand, half done, told by others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from masakari import admin, admin_retry, evacuation
from masakari.common.text import utc
from masakari.model import Instance
from masakari.nova import Server
from tests.sim import invariants
from tests.sim.harness import CLUSTER, Controller, House, settings

Make = Callable[..., House]


@pytest.fixture
def make(folder: Path) -> Iterator[Make]:
    """Builds a house in which compute1 has three instances and compute3 is the spare; checks the invariants at the end."""
    made: list[House] = []

    def build(options: Any = None, *, boot: int = 3, spare: str | None = "compute3", **cloud: Any) -> House:
        house = House(folder, options, **cloud)
        if spare:
            house.spare(spare)
        house.cloud.boot("compute1", boot)
        house.clock.advance(30)
        made.append(house)
        return house

    yield build
    for house in made:
        invariants.check(house, by_hand=getattr(house, "by_hand", ()))
        house.close()


def die(house: House, host: str = "compute1", wait_s: float = 20.0) -> None:
    house.cloud.crash(host)
    house.clock.advance(wait_s)


def touched(house: House) -> list[Any]:
    return house.asked("forced_down") + house.asked("evacuate")


# Proof.


def test_a_proof_that_the_host_refuted_by_an_answer_is_not_believed_when_the_next_answer_is_slow(make: Make) -> None:
    house = make()
    recovery_id = house.host_down().recovery_id
    house.until_held(recovery_id, "alive")
    house.cloud.fault("uptime", "lose_request", count=-1)
    house.let(60)
    assert not touched(house), house.story(recovery_id)


def test_after_a_refuted_proof_a_new_one_counts(make: Make) -> None:
    house = make()
    recovery_id = house.host_down().recovery_id
    house.until_held(recovery_id, "alive")
    die(house, wait_s=20)
    house.host_down()
    assert house.settle(recovery_id).status == "finished"


def test_a_report_that_joins_while_the_intents_are_stored_is_looked_at_before_anything_is_sent(make: Make) -> None:
    house = make()
    die(house)
    recovery_id = house.host_down().recovery_id
    house.run(lambda: house.recovery(recovery_id).step == "evacuate")
    house.clock.advance(20)
    seen: list[str] = []
    judged = house.controller.world.db.transaction

    def transaction(func: Any, **options: Any) -> Any:
        result = judged(func, **options)
        if func.__qualname__ == "judge.<locals>.read" and not seen:
            seen.append("told")
            house.host_up("compute1", observer="compute2")
        return result

    house.controller.world.db.transaction = transaction  # type: ignore[method-assign]
    house.until_held(recovery_id, "alive")
    assert seen and not house.asked("evacuate")


def test_with_wait_for_nova_a_crash_right_after_the_force_down_does_not_end_the_proof(make: Make) -> None:
    options = settings(safety={"without_proof": "wait_for_nova"}, recover_starter={"node_err_wait": 100})
    house = make(options)
    die(house, wait_s=0)
    recovery_id = house.host_down(proof=None).recovery_id

    class Crash(BaseException):
        pass

    def ports(controller: Controller, call: str) -> None:
        if call.startswith("http after PUT") and house.asked("forced_down"):
            raise Crash

    house.ports = ports
    with pytest.raises(Crash):
        house.settle(recovery_id, 600)
    house.ports = lambda controller, call: None
    house.restart()
    assert house.settle(recovery_id, 600).status == "finished"


def test_with_wait_for_nova_the_wait_begins_anew_after_a_life_that_nobody_watched(make: Make) -> None:
    options = settings(safety={"without_proof": "wait_for_nova"}, recover_starter={"node_err_wait": 100})
    house = make(options)
    die(house, wait_s=70)
    recovery_id = house.host_down(proof=None).recovery_id
    house.let(30)
    house.cloud.start("compute1")
    house.clock.advance(60)
    house.cloud.crash("compute1")
    house.clock.advance(80)
    house.let(50)
    assert not touched(house)
    assert house.settle(recovery_id, 300).status in ("finished", "failed")


# Nova's view, and hands.


def test_what_was_enabled_by_hand_is_not_disabled_again_when_proof_comes(make: Make) -> None:
    house = make()
    die(house)
    recovery_id = house.host_down(proof=None).recovery_id
    house.until_held(recovery_id, "proof")
    house.let(15)
    house.cloud.update_service(house.cloud.hosts["compute1"], enabled=True)
    house.until_held(recovery_id, "changed")
    house.clock.advance(40)
    house.host_down()
    house.let(60)
    assert house.recovery(recovery_id).hold == "changed" and house.cloud.hosts["compute1"].enabled
    assert not touched(house)
    house.cloud.update_service(house.cloud.hosts["compute1"], enabled=False)
    house.clock.advance(20)
    house.host_down()
    assert house.settle(recovery_id).status == "finished"


def test_a_host_that_was_disabled_before_is_not_left_forced_down_by_a_cancel(make: Make) -> None:
    house = make()
    host = house.cloud.hosts["compute1"]
    house.cloud.update_service(host, enabled=False, reason="maintenance")
    die(house, wait_s=40)
    recovery_id = house.host_down().recovery_id
    house.run(lambda: house.recovery(recovery_id).step in ("reserve", "enable_target", "list"))
    admin.cancel(house.operator, recovery_id)
    assert house.settle(recovery_id).status == "cancelled"
    assert not host.forced_down and not host.enabled


def test_a_disable_that_is_still_on_its_way_is_taken_back_all_the_same(make: Make) -> None:
    house = make()
    beside: list[Callable[[], None]] = []
    house.controller.world.pool.later = beside.append  # type: ignore[method-assign]
    recovery_id = house.host_down(proof=None).recovery_id
    house.run(lambda: bool(beside))
    admin.cancel(house.operator, recovery_id)
    house.let(0.5)
    beside.pop()()
    assert house.settle(recovery_id).status == "cancelled"
    assert house.cloud.hosts["compute1"].enabled


# One request in flight.


def test_a_worker_whose_claim_was_taken_sends_nothing_long_after_its_intent(make: Make) -> None:
    house = make(boot=2, evacuate_s=30.0)
    die(house)
    recovery_id = house.host_down().recovery_id
    other = Controller(house, "controller-2")

    def ports(controller: Controller, call: str) -> None:
        if (
            controller.name == "controller-1"
            and call.startswith("http after POST")
            and len(house.asked("evacuate")) == 1
        ):
            house.ports = lambda controller, call: None
            admin.pause(house.operator, CLUSTER, None)
            admin.resume(house.operator, CLUSTER)
            end = house.clock.monotonic() + 20
            house.run(lambda: house.clock.monotonic() >= end, controllers=[other])

    house.ports = ports
    house.run(lambda: house.recovery(recovery_id).status == "finished", controllers=[house.controller, other])
    assert len(house.asked("evacuate")) == 2


def test_an_evacuation_by_hand_that_reads_idle_on_the_old_host_is_not_asked_for_again(make: Make) -> None:
    from tests.sim.test_safety_rules import by_hand

    house = make(boot=1, evacuate_s=10.0, settle_s=4.0)
    die(house)
    recovery_id = house.host_down().recovery_id
    (server,) = house.cloud.servers.values()
    house.run(lambda: house.recovery(recovery_id).step == "list")
    by_hand(house, server.id, "compute2")
    while server.task_state is not None:
        house.clock.advance(0.05)
        house.cloud.running()
    assert server.host == "compute1"
    recovery = house.settle(recovery_id)
    assert recovery.status == "finished" and not house.asked("evacuate")


def evacuated(**row: Any) -> Instance:
    values = {
        "id": 1,
        "uuid": "u",
        "name": "vm",
        "recovery_id": 1,
        "status": "running",
        "reason": "",
        "priority": 1,
        "was": {},
        "action": "evacuate",
        "action_at": 0.0,
        "action_answer": "accepted",
        "action_target": "compute3",
        "migration_seen": 0,
        "request_id": None,
        "retry_cnt": 0,
        "recover_to": None,
    }
    return Instance(**{**values, **row})


def server(**record: Any) -> Server:
    values = {
        "id": "u",
        "name": "vm",
        "status": "ACTIVE",
        "vm_state": "active",
        "task_state": None,
        "power_state": 1,
        "host": "compute1",
        "metadata": {},
        "local_disk": False,
        "fault": "",
        "created": "",
    }
    return Server(**{**values, **record})


@pytest.mark.parametrize("shown", [{"task_state": "rebuilding"}, {"vm_state": "error"}])
def test_nothing_more_is_asked_once_a_first_target_that_was_proven_off_shows_signs_of_life(
    shown: dict[str, Any],
) -> None:
    lives = evacuation.Target(lost=True, proven=False)
    row = evacuated(action="reset_state")
    move = evacuation.next_move(row, server(**shown), [], "compute1", 100.0, evacuation.Rules(), lives)
    assert move.verb == "follow" and "may run there" in move.reason


def test_what_was_stopped_is_not_stopped_again_on_a_target_that_is_reported_down() -> None:
    row = evacuated(was={"vm_state": "stopped"})
    dead = evacuation.Target(lost=True)
    move = evacuation.next_move(row, server(host="compute3"), [], "compute1", 100.0, evacuation.Rules(), dead)
    assert move.verb == "fail" and "queue" in move.reason


# Reboots.


def test_that_others_see_the_host_up_does_not_end_its_recovery_before_it_told_its_boot(make: Make) -> None:
    house = make()
    house.host_up("compute1", boot_id="boot-1")
    die(house)
    recovery_id = house.host_down(proof=None).recovery_id
    house.until_held(recovery_id, "proof")
    house.cloud.start("compute1")
    house.host_up("compute1", observer="compute2")
    house.let(30)
    assert house.recovery(recovery_id).status not in ("ignored", "finished")
    house.host_up("compute1", boot_id="boot-2")
    house.settle(recovery_id, 600)
    assert len(house.cloud.running()["compute1"]) + len(house.cloud.running()["compute3"]) == 3


def test_a_report_from_before_the_reboot_that_comes_late_does_not_hide_the_reboot(make: Make) -> None:
    house = make()
    house.host_up("compute1", boot_id="boot-1")
    old = utc(house.clock.now())
    die(house)
    recovery_id = house.host_down(proof=None).recovery_id
    house.until_held(recovery_id, "proof")
    house.cloud.start("compute1")
    house.clock.advance(30)
    house.host_up("compute1", boot_id="boot-2", utc_time=utc(house.clock.now()))
    house.process_down("compute1", "sshd", on_failure="report", boot_id="boot-1", utc_time=old)
    house.let(1)
    assert house.recovery(recovery_id).step == "in_place", house.story(recovery_id)


# Holds.


@pytest.mark.parametrize("trouble", ["away", "forbidden"])
def test_a_hold_at_admission_keeps_its_word_while_nova_gives_no_answer(make: Make, trouble: str) -> None:
    house = make(settings(safety={"max_failed_hosts": 1}))
    house.host_down("compute1", observer="compute2", proof=None)
    second = house.host_down("compute2", observer="compute3", proof=None).recovery_id
    house.let(1)
    assert house.recovery(second).hold == "many"
    if trouble == "away":
        house.cloud.set_away("nova")
    else:
        house.cloud.fault("list_services", "answer", count=-1, status=403)
    words = set()
    for _ in range(40):
        house.let(4)
        words.add((house.recovery(second).status, house.recovery(second).hold))
    assert words == {("held", "many")}
    admin.release(house.operator, second)


def test_an_unsigned_callback_stays_held_as_such_while_nova_is_away(make: Make) -> None:
    house = make()
    house.cloud.set_away("nova")
    recovery_id = house.host_down(trusted=False).recovery_id
    house.let(100)
    house.cloud.set_away("nova", False)
    house.let(100)
    assert house.recovery(recovery_id).hold == "callback"


@pytest.mark.parametrize("step", ["isolate", "reserve", "enable_target", "list"])
def test_what_has_requested_nothing_is_held_with_the_others_at_whatever_step_it_is(make: Make, step: str) -> None:
    house = make(settings(safety={"max_failed_hosts": 1, "hold_proven": True}))
    house.cloud.update_service(house.cloud.hosts["compute3"], enabled=False, reason="spare")
    die(house, wait_s=5)
    first = house.host_down("compute1", observer="compute2").recovery_id
    house.run(lambda: house.recovery(first).step == step)
    second = house.host_down("compute2", observer="compute3", proof=None).recovery_id
    house.let(5)
    assert [house.recovery(r).hold for r in (first, second)] == ["many", "many"]
    assert not house.asked("evacuate")
    admin.release(house.operator, first)
    assert house.settle(first).status == "finished"


# The return.


def test_a_return_that_waits_does_not_bring_back_a_host_that_has_failed_again(make: Make) -> None:
    house = make(settings(return_={"mode": "auto"}))
    die(house)
    house.settle(house.host_down().recovery_id)
    house.cloud.start("compute1")
    house.clock.advance(30)
    house.host_up("compute1")
    house.clock.advance(250)
    die(house)
    again = house.host_down().recovery_id
    house.settle(again)
    house.let(300)
    assert house.cloud.hosts["compute1"].forced_down
    house.cloud.start("compute1")
    house.let(60)
    assert not house.cloud.hosts["compute1"].enabled


def test_a_return_that_nova_refuses_can_be_cancelled(make: Make) -> None:
    house = make()
    die(house)
    house.settle(house.host_down().recovery_id)
    admin.bring_back(house.operator, "compute1")
    (returning,) = (row["id"] for row in house.rows("recovery_open"))
    house.until_held(returning, "down")
    admin.cancel(house.operator, returning)
    assert house.settle(returning).status == "cancelled"
    assert house.cloud.hosts["compute1"].forced_down


def test_what_its_user_stopped_since_is_not_started_by_the_return(make: Make) -> None:
    house = make(boot=1)
    (server,) = house.cloud.servers.values()
    house.cloud.crash_guest(server.id, noticed=False)
    instance = house.instance_down(server.id).recovery_id
    house.cloud.crash("compute1")
    house.run(lambda: bool(house.asked("os-stop")))
    house.clock.advance(20)
    host = house.host_down().recovery_id
    assert house.settle(host).status == "finished" and house.recovery(instance).status == "ignored"
    house.clock.advance(3600)
    stop_by_user(house, server.id)
    house.cloud.start("compute1")
    house.let(60)
    admin.bring_back(house.operator, "compute1")
    house.let(120)
    assert server.vm_state == "stopped"


def stop_by_user(house: House, uuid: str) -> None:
    """The owner stops an instance, past us."""
    from tests.simcloud.client import Api

    api = Api(house.cloud)
    api.act(uuid, "os-stop")
    house.let(5)


# Instances.


def test_an_instance_that_dies_again_while_its_recovery_ends_is_started_again(make: Make) -> None:
    house = make(boot=1, start_s=3.0)
    (server,) = house.cloud.servers.values()
    house.cloud.crash_guest(server.id, noticed=False)
    first = house.instance_down(server.id).recovery_id
    house.run(lambda: bool(house.asked("os-start")))
    while server.vm_state != "active" or server.task_state:
        house.clock.advance(0.05)
        house.cloud.running()
    house.cloud.crash_guest(server.id, noticed=False)
    house.instance_down(server.id)
    house.settle(first)
    house.let(60)
    assert server.id in house.cloud.running()["compute1"]


def test_a_clock_ahead_on_the_node_does_not_hide_what_its_user_did_since(make: Make) -> None:
    house = make(boot=1)
    (server,) = house.cloud.servers.values()
    house.cloud.set_away("nova")
    house.report(
        type="VM",
        hostname="compute1",
        uuid=server.id,
        eventID="0",
        eventType="5",
        detail="5",
        startTime=...,
        endTime=...,
        utc_time=utc(house.clock.now() + 3600),
    )
    house.let(5)
    house.cloud.set_away("nova", False)
    with house.cloud.alone():
        house.cloud.begin_action(server, "reboot", "req-user", "anna")
    house.let(60)
    assert not house.asked("os-stop")


def test_an_os_stop_is_not_sent_on_the_strength_of_an_old_look(make: Make) -> None:
    house = make(boot=1)
    (server,) = house.cloud.servers.values()
    house.cloud.crash_guest(server.id, noticed=False)
    recovery_id = house.instance_down(server.id).recovery_id
    house.run(lambda: house.recovery(recovery_id).step == "stop")
    house.controller.kept.clear()
    die(house, wait_s=70)
    house.let(60)
    assert not house.asked("os-stop")
    assert house.recovery(recovery_id).hold == "host_down"


# Processes.


def test_it_is_not_said_that_a_disable_was_taken_back_when_it_was_not(make: Make) -> None:
    house = make()
    house.settle(house.process_down().recovery_id)
    house.cloud.kill_compute("compute1")
    house.clock.advance(80)
    recovery = house.settle(house.process_down(state="up").recovery_id, 600)
    assert not house.cloud.hosts["compute1"].enabled
    assert recovery.status != "finished" and "taken back" not in recovery.reason


def test_waiting_to_enable_for_a_process_can_be_cancelled(make: Make) -> None:
    house = make()
    house.cloud.fault("disable", "answer", count=-1, status=403)
    down = house.process_down().recovery_id
    house.until_held(down, "refused")
    up = house.process_down(state="up").recovery_id
    house.let(5)
    admin.cancel(house.operator, up)
    assert house.settle(up).status == "cancelled"


# Ends.


def test_a_retry_of_an_old_recovery_does_not_expire(make: Make) -> None:
    house = make(settings(recover_starter={"notification_expiration_sec": 86400}), spare=None)
    die(house)
    recovery_id = house.host_down().recovery_id
    assert house.settle(recovery_id).status == "failed"
    house.clock.advance(2 * 86400)
    admin_retry.retry(house.operator, recovery_id)
    house.controller.housekeeping.expire()
    assert house.recovery(recovery_id).status == "new"


def test_a_spare_that_served_nobody_is_given_back_by_a_cancel_too(make: Make) -> None:
    house = make(settings(recover_starter={"recovery_max_retry_cnt": 100}), boot=1)
    die(house)
    house.cloud.fault("evacuate", "answer", count=-1, status=403)
    recovery_id = house.host_down().recovery_id
    house.run(lambda: len(house.asked("evacuate")) == 2)
    admin.cancel(house.operator, recovery_id)
    assert house.settle(recovery_id).status == "cancelled"
    assert [row["hostname"] for row in house.rows("spare_all")] == ["compute3"]


def test_a_cancel_in_the_last_step_undoes_the_disable_when_nothing_was_requested(make: Make) -> None:
    house = make(boot=0)
    die(house, wait_s=5)
    recovery_id = house.host_down().recovery_id
    house.run(lambda: house.recovery(recovery_id).step == "finish")
    admin.cancel(house.operator, recovery_id)
    recovery = house.settle(recovery_id)
    assert recovery.status == "cancelled" and not house.cloud.hosts["compute1"].forced_down
