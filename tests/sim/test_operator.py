"""The operator's hand on a whole controller: what each command of recovery_manage.py makes happen, in virtual time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from masakari import admin, admin_lists, admin_retry, admin_spares
from masakari.admin import Operator, Refused
from tests.sim import invariants
from tests.sim.harness import CLUSTER, House, settings

HOSTS = ("compute1", "compute2", "compute3", "compute4", "compute5", "compute6")


class Desk:
    """A house, and an operator at its database."""

    def __init__(self, folder: Path, **options: Any) -> None:
        changed = options.pop("settings", {})
        self.house = House(folder, settings(**changed), hosts=HOSTS, **options)
        self.operator = Operator(self.house.controller.db, self.house.settings, "bob")

    def add_spare(self, host: str = "compute3") -> None:
        admin_spares.add_spare(self.operator, CLUSTER, host)

    def die(self, host: str = "compute1", proof: str | None = "power_off", **fields: Any) -> int:
        """A host loses its power and is reported; the recovery."""
        self.house.cloud.crash(host)
        recovery = self.house.host_down(host, proof=proof, **fields).recovery_id
        assert recovery is not None
        return recovery

    def settle(self, recovery: int, within_s: float = 300.0) -> tuple[str, str]:
        """Status and reason at the end."""
        ended = self.house.settle(recovery, within_s)
        return ended.status, ended.reason

    def attest(self, host: str = "compute1") -> None:
        admin.attest(self.operator, host, "it lies on my desk")

    def retry(self, recovery: int, attested: bool = False) -> str:
        return admin_retry.retry(self.operator, recovery, attested, "").text

    def service(self, host: str = "compute1") -> tuple[bool, bool]:
        """Whether Nova has it enabled, and forced down."""
        record = self.house.cloud.host(host)
        return record.enabled, record.forced_down

    def running(self, host: str) -> int:
        return len(self.house.cloud.running()[host])


@pytest.fixture
def desk(folder: Path) -> Iterator[Desk]:
    desk = Desk(folder)
    yield desk
    invariants.check(desk.house)


# retry


def test_a_spare_added_later_is_used_by_one_command(desk: Desk) -> None:
    desk.house.cloud.boot("compute1", 3)
    recovery = desk.die()
    status, reason = desk.settle(recovery)
    assert (status, f"retry {recovery}" in reason) == ("failed", True)
    desk.add_spare()
    desk.retry(recovery)
    assert desk.settle(recovery) == ("finished", "3 of 3 evacuated")
    assert desk.running("compute3") == 3


def test_a_retried_host_must_be_proven_off_again(desk: Desk) -> None:
    desk.house.cloud.boot("compute1", 2)
    recovery = desk.die()
    desk.settle(recovery)
    desk.add_spare()
    desk.house.let(3600)
    desk.retry(recovery)
    desk.house.until_held(recovery, "proof")
    assert desk.house.cloud.evacuate_requests == []
    desk.attest()
    assert desk.settle(recovery)[0] == "finished"


def test_retry_and_the_operators_word_in_one_command(desk: Desk) -> None:
    desk.house.cloud.boot("compute1", 2)
    recovery = desk.die()
    desk.settle(recovery)
    desk.add_spare()
    desk.house.let(3600)
    desk.retry(recovery, attested=True)
    assert desk.settle(recovery)[0] == "finished"


def test_what_failed_is_tried_again_on_the_same_spare(folder: Path) -> None:
    desk = Desk(folder, settings={"recover_starter": {"recovery_max_retry_cnt": 1}})
    desk.house.cloud.boot("compute1", 3)
    desk.add_spare()
    desk.house.cloud.fault("evacuate", "answer", status=400)
    recovery = desk.die()
    status, reason = desk.settle(recovery)
    assert (status, reason.split(":")[0]) == ("failed", "2 of 3 evacuated, 1 failed")
    desk.retry(recovery)
    assert desk.settle(recovery) == ("finished", "3 of 3 evacuated")
    assert (desk.running("compute3"), desk.house.recovery(recovery).target) == (3, "compute3")
    invariants.check(desk.house)


def test_a_spare_that_serves_somebody_else_by_now_is_not_used_again(folder: Path) -> None:
    desk = Desk(folder, settings={"recover_starter": {"recovery_max_retry_cnt": 1}})
    desk.house.cloud.boot("compute1", 1)
    desk.add_spare()
    desk.house.cloud.fault("evacuate", "answer", status=400)
    recovery = desk.die()
    desk.settle(recovery)
    desk.add_spare()
    desk.house.cloud.boot("compute2", 1)
    other = desk.die("compute2", observer="compute4")
    desk.house.run(lambda: desk.house.recovery(other).target == "compute3")
    desk.add_spare("compute4")
    desk.retry(recovery)
    desk.settle(other)
    assert desk.settle(recovery)[0] == "finished"
    assert (desk.running("compute3"), desk.running("compute4")) == (1, 1)
    invariants.check(desk.house)


def test_cancelling_a_retry_leaves_a_host_isolated_whose_instances_may_be_elsewhere(folder: Path) -> None:
    desk = Desk(folder, settings={"recover_starter": {"recovery_max_retry_cnt": 1}})
    desk.house.cloud.boot("compute1", 2)
    desk.add_spare()
    desk.house.cloud.fault("evacuate", "answer", status=400)
    recovery = desk.die()
    desk.settle(recovery)
    desk.house.let(3600)
    desk.retry(recovery)
    desk.house.until_held(recovery, "proof")
    admin.cancel(desk.operator, recovery)
    assert desk.settle(recovery)[0] == "cancelled"
    assert desk.service() == (False, True)
    invariants.check(desk.house)


def test_what_somebody_enabled_by_hand_stays_enabled_over_a_retry_without_proof(desk: Desk) -> None:
    desk.house.cloud.boot("compute1")
    recovery = desk.die()
    desk.settle(recovery)
    desk.house.let(3600)
    desk.house.cloud.start("compute1")
    desk.house.let(60)
    desk.house.cloud.update_service(desk.house.cloud.host("compute1"), forced_down=False, enabled=True)
    desk.retry(recovery)
    desk.house.until_held(recovery, "changed")
    desk.house.let(60)
    assert desk.service() == (True, False)


def test_a_retried_recovery_is_not_held_for_many_failures(desk: Desk) -> None:
    desk.house.cloud.boot("compute1")
    first = desk.die("compute1")
    desk.settle(first)
    desk.house.let(3600)
    desk.retry(first)
    desk.house.until_held(first, "proof")
    for host in ("compute2", "compute3", "compute4", "compute5"):
        desk.die(host, proof=None, observer="compute6")
    desk.house.let(30)
    assert desk.house.recovery(first).hold == "proof"
    assert desk.house.recovery(5).hold == "many"


def test_a_recovery_of_a_host_that_came_back_is_not_retried(desk: Desk) -> None:
    desk.house.cloud.boot("compute1")
    recovery = desk.die()
    desk.settle(recovery)
    desk.house.cloud.start("compute1")
    desk.house.let(60)
    back = admin.bring_back(desk.operator, "compute1").data["recovery"]
    with pytest.raises(Refused, match=f"recovery {back} .* is open"):
        desk.retry(recovery)
    desk.settle(back)
    with pytest.raises(Refused, match="newer"):
        desk.retry(recovery)
    assert desk.service() == (True, False)


def test_a_failed_instance_is_tried_again_and_what_somebody_started_since_is_left_alone(folder: Path) -> None:
    desk = Desk(folder)
    first, second = desk.house.cloud.boot("compute1", 2)
    for uuid in (first, second):
        desk.house.cloud.fault("start", "answer", status=409, count=-1)
        desk.house.cloud.crash_guest(uuid)
        recovery = desk.house.instance_down(uuid).recovery_id
        assert recovery is not None
        assert desk.settle(recovery)[0] == "failed"
    desk.house.cloud.clear_faults()
    desk.retry(1)
    assert desk.settle(1)[0] == "finished"
    assert first in desk.house.cloud.running()["compute1"]
    desk.house.let(5)
    desk.house.controller.world.nova.start(second)
    desk.house.let(5)
    desk.retry(2)
    status, reason = desk.settle(2)
    assert (status, "start begun" in reason) == ("ignored", True)
    assert desk.house.cloud.healthy_stops == []
    invariants.check(desk.house)


def test_local_disks_given_up_are_evacuated_by_a_retry(folder: Path) -> None:
    desk = Desk(folder, shared_storage=False)
    desk.house.cloud.boot("compute1", 1, local_disk=True)
    desk.house.cloud.boot("compute1", 1)
    desk.add_spare()
    recovery = desk.die()
    desk.house.until_held(recovery, "local_disk")
    world = desk.house.controller.world
    world.settings = replace(world.settings, nova=replace(world.settings.nova, rebuild_local_disks=True))
    desk.retry(recovery)
    assert desk.settle(recovery) == ("finished", "2 of 2 evacuated")
    # The loss is what the operator chose; nothing else is wrong.
    assert [told for told in invariants.problems(desk.house) if "its data is lost" not in told] == []


def test_what_went_wrong_on_the_spare_itself_stays_failed_over_a_retry(folder: Path) -> None:
    desk = Desk(folder, settings={"recover_starter": {"recovery_max_retry_cnt": 1}})
    (uuid,) = desk.house.cloud.boot("compute1", 1)
    desk.add_spare()
    desk.house.cloud.fault("evacuate", "answer", status=400)
    recovery = desk.die()
    desk.settle(recovery)
    desk.house.cloud.edit(uuid, host="compute3", vm_state="error")
    desk.retry(recovery)
    status, reason = desk.settle(recovery)
    assert (status, "in error on compute3" in reason) == ("failed", True)
    invariants.check(desk.house)


# attest and release


def test_the_operators_word_is_proof(desk: Desk) -> None:
    desk.house.cloud.boot("compute1", 2)
    desk.add_spare()
    recovery = desk.die(proof=None)
    desk.house.until_held(recovery, "proof")
    desk.house.let(90)
    assert desk.house.cloud.evacuate_requests == []
    desk.attest()
    assert desk.settle(recovery)[0] == "finished"
    story = admin_lists.show(desk.operator, recovery).text
    assert "operator:bob" in story and "it lies on my desk" in story and "attested by an operator" in story


def test_the_operators_word_does_not_stand_against_a_living_host(folder: Path) -> None:
    desk = Desk(folder)
    desk.house.cloud.boot("compute1", 2)
    desk.add_spare()
    recovery = desk.house.host_down(proof=None).recovery_id
    assert recovery is not None
    desk.house.until_held(recovery, "proof")
    desk.attest()
    desk.house.until_held(recovery, "alive")
    desk.house.let(120)
    assert desk.house.recovery(recovery).status == "held"
    assert (desk.house.cloud.evacuate_requests, desk.service()) == ([], (False, False))
    admin.cancel(desk.operator, recovery)
    assert desk.settle(recovery)[0] == "cancelled"
    assert desk.service() == (True, False)
    invariants.check(desk.house)


def test_nothing_but_proof_lifts_a_hold_for_proof(desk: Desk) -> None:
    recovery = desk.die(proof=None)
    desk.house.until_held(recovery, "proof")
    with pytest.raises(Refused, match="attest --host compute1"):
        admin.release(desk.operator, recovery)
    assert not desk.house.recovery(recovery).released


def test_many_failed_hosts_go_on_one_by_one_when_released(folder: Path) -> None:
    desk = Desk(folder, settings={"safety": {"hold_proven": True, "max_failed_hosts": 1}})
    desk.add_spare()
    desk.house.cloud.boot("compute1", 2)
    desk.house.cloud.boot("compute2", 2)
    first = desk.die("compute1", proof=None, observer="compute4")
    second = desk.die("compute2", observer="compute4")
    desk.house.until_held(second, "many")
    desk.house.until_held(first, "many")
    desk.house.let(120)
    assert (desk.house.cloud.evacuate_requests, desk.service("compute2")) == ([], (True, False))
    admin.release(desk.operator, second)
    assert desk.settle(second)[0] == "finished"
    assert desk.house.recovery(first).hold == "many"
    invariants.check(desk.house)


def test_an_unsigned_report_and_its_evidence_count_once_released(desk: Desk) -> None:
    desk.house.cloud.boot("compute1", 2)
    desk.add_spare()
    recovery = desk.die(trusted=False)
    desk.house.until_held(recovery, "callback")
    desk.house.let(30)
    assert desk.house.cloud.evacuate_requests == []
    admin.release(desk.operator, recovery)
    assert desk.settle(recovery)[0] == "finished"


# cancel


def test_a_cancel_takes_back_our_own_disable(desk: Desk) -> None:
    recovery = desk.house.host_down(proof=None).recovery_id
    assert recovery is not None
    desk.house.until_held(recovery, "proof")
    desk.house.let(15)
    assert desk.service() == (False, False)
    admin.cancel(desk.operator, recovery)
    assert desk.settle(recovery) == ("cancelled", "cancelled by bob")
    assert desk.service() == (True, False)


def test_a_cancel_follows_what_is_in_flight_and_a_retry_does_the_rest(folder: Path) -> None:
    desk = Desk(folder, settings={"recover_starter": {"semaphore_multiplicity": 2}})
    desk.house.cloud.boot("compute1", 6)
    desk.add_spare()
    recovery = desk.die()
    desk.house.run(lambda: len(desk.house.cloud.evacuate_requests) == 2)
    admin.cancel(desk.operator, recovery)
    assert desk.settle(recovery)[0] == "cancelled"
    assert len(desk.house.cloud.evacuate_requests) == desk.running("compute3") == 2
    desk.retry(recovery)
    assert desk.settle(recovery) == ("finished", "6 of 6 evacuated")
    assert desk.running("compute3") == 6
    invariants.check(desk.house)


@pytest.mark.parametrize("kind", ["return", "process"])
def test_whatever_is_stuck_can_be_cancelled(folder: Path, kind: str) -> None:
    desk = Desk(folder)
    if kind == "return":
        recovery = desk.die()
        desk.settle(recovery)
        desk.house.cloud.fault("unforce", "answer", status=400, count=-1)
        desk.house.cloud.start("compute1")
        recovery = admin.bring_back(desk.operator, "compute1").data["recovery"]
        desk.house.until_held(recovery, "refused")
    else:
        stuck = desk.house.process_down(process="libvirtd", state="up", trusted=False).recovery_id
        assert stuck is not None
        recovery = stuck
        desk.house.until_held(recovery, "callback")
    admin.cancel(desk.operator, recovery)
    assert desk.settle(recovery)[0] == "cancelled"


# pause, method, return


def test_a_pause_stores_reports_and_does_nothing(desk: Desk) -> None:
    desk.house.cloud.boot("compute1", 2)
    desk.add_spare()
    admin.pause(desk.operator, "*", None)
    calls = sum(desk.house.cloud.calls.values())
    recovery = desk.die()
    desk.house.let(120)
    assert (desk.house.recovery(recovery).status, sum(desk.house.cloud.calls.values())) == ("new", calls)
    assert "PAUSED: All segments" in admin_lists.list_recoveries(desk.operator, 10).text
    admin.resume(desk.operator, "*")
    assert desk.settle(recovery)[0] == "finished"


def test_a_pause_stops_what_is_being_worked_on(folder: Path) -> None:
    desk = Desk(folder, settings={"recover_starter": {"semaphore_multiplicity": 2}})
    desk.house.cloud.boot("compute1", 8)
    desk.add_spare()
    recovery = desk.die()
    desk.house.run(lambda: len(desk.house.cloud.evacuate_requests) >= 4)
    admin.pause(desk.operator, CLUSTER, None)
    asked = len(desk.house.cloud.evacuate_requests)
    desk.house.let(60)
    assert len(desk.house.cloud.evacuate_requests) == asked
    admin.resume(desk.operator, CLUSTER)
    assert desk.settle(recovery) == ("finished", "8 of 8 evacuated")
    assert len(desk.house.cloud.evacuate_requests) == 8
    invariants.check(desk.house)


def test_a_pause_for_a_time_ends_by_itself_and_concerns_its_segment_alone(desk: Desk) -> None:
    desk.house.cloud.boot("compute1", 1)
    desk.add_spare()
    desk.house.report(hostname="compute9", cluster_port="other:1", eventType="1", detail="1")
    admin.pause(desk.operator, "other:1", None)
    admin.pause(desk.operator, CLUSTER, 60)
    recovery = desk.die()
    desk.house.let(55)
    assert desk.house.recovery(recovery).status == "new"
    desk.house.let(30)
    assert desk.house.recovery(recovery).status == "finished"


def test_the_recovery_method_of_a_segment_is_used(desk: Desk) -> None:
    desk.house.cloud.boot("compute1", 4)
    desk.house.report(hostname="compute2", observer="compute2", eventType="1", detail="1")
    admin.set_method(desk.operator, CLUSTER, "auto")
    recovery = desk.die()
    assert desk.settle(recovery)[0] == "finished"
    assert desk.house.recovery(recovery).target is None


def test_a_repaired_host_is_brought_back_once(desk: Desk) -> None:
    desk.house.cloud.boot("compute1", 1)
    desk.add_spare()
    recovery = desk.die()
    early = admin.bring_back(desk.operator, "compute1")
    assert f"once recovery {recovery} of it has ended" in early.text
    with pytest.raises(Refused, match=f"recovery {early.data['recovery']} is bringing compute1 back already"):
        admin.bring_back(desk.operator, "compute1")
    desk.settle(recovery)
    desk.house.cloud.start("compute1")
    assert desk.settle(early.data["recovery"])[0] == "finished"
    assert desk.service() == (True, False)


def test_an_instance_seen_to_by_hand_ends_a_hold_for_local_disks(folder: Path) -> None:
    desk = Desk(folder, shared_storage=False)
    (uuid,) = desk.house.cloud.boot("compute1", 1, local_disk=True)
    desk.add_spare()
    recovery = desk.die()
    desk.house.until_held(recovery, "local_disk")
    admin.declare_finished(desk.operator, uuid)
    assert desk.settle(recovery)[0] == "finished"
    assert "operator:bob" in admin_lists.list_instances(desk.operator, 5).text
