"""The eight safety rules, each as far as it can be seen from outside: from Nova, and from what is on record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from masakari import admin
from masakari.common.errors import MasakariError
from masakari.common.text import utc
from tests.sim.conftest import Make
from tests.sim.harness import CLUSTER, Controller, House, settings
from tests.simcloud.clock import SkewedClock


def die(house: House, host: str = "compute1", wait_s: float = 20.0) -> None:
    house.cloud.crash(host)
    house.clock.advance(wait_s)


def evidence(house: House, kind: str, ago_s: float = 0.0) -> list[dict[str, str]]:
    return [{"kind": kind, "at": utc(house.clock.now() - ago_s), "detail": "read"}]


def all_on(house: House, host: str) -> bool:
    return all(server.host == host and server.task_state is None for server in house.cloud.servers.values())


# Rule 1: proof.


def test_rule_1_without_proof_nothing_is_requested_and_the_host_is_disabled_and_held(make: Make) -> None:
    house = make()
    die(house)
    receipt = house.host_down(proof=None)
    recovery = house.until_held(receipt.recovery_id, "proof")
    house.let(900)
    recovery = house.recovery(receipt.recovery_id)
    assert recovery.hold == "proof" and "no proof" in recovery.reason
    assert not house.asked("evacuate") and not house.asked("forced_down")
    assert not house.cloud.hosts["compute1"].enabled
    assert f"masakari recovery {recovery.id}" in (house.cloud.hosts["compute1"].disabled_reason or "")


@pytest.mark.parametrize("kind", ["power_off", "fenced"])
def test_rule_1_a_power_off_read_back_and_a_fencing_are_proof(make: Make, kind: str) -> None:
    house = make()
    die(house)
    recovery = house.settle(house.host_down(proof=kind).recovery_id)
    assert recovery.status == "finished" and all_on(house, "compute3")


@pytest.mark.parametrize("kind", ["power_on", "unknown"])
def test_rule_1_power_on_and_power_unknown_are_no_proof(make: Make, kind: str) -> None:
    house = make()
    die(house)
    recovery = house.until_held(house.host_down(proof=kind).recovery_id, "proof")
    house.let(60)
    assert not house.asked("evacuate")
    assert recovery.status == "held"


def test_rule_1_an_operators_word_is_proof(make: Make) -> None:
    house = make()
    die(house)
    recovery_id = house.host_down(proof=None).recovery_id
    house.until_held(recovery_id, "proof")
    admin.attest(house.operator, "compute1", "I pulled the plug")
    assert house.settle(recovery_id).status == "finished" and all_on(house, "compute3")
    assert "operator:anna" in house.story(recovery_id)


def test_rule_1_detail_2_of_an_old_monitor_is_proof_only_where_it_is_asked_for(make: Make) -> None:
    house = make()
    die(house)
    house.until_held(house.report(observer=...).recovery_id, "proof")
    assert not house.asked("evacuate")


def test_rule_1_detail_2_of_an_old_monitor_is_proof_where_its_cluster_is_listed(make: Make) -> None:
    house = make(settings(safety={"detail_2_is_proof": (CLUSTER,)}))
    die(house)
    assert house.settle(house.report(observer=...).recovery_id).status == "finished"


def test_rule_1_nova_alone_is_proof_only_by_option_and_only_after_the_whole_node_err_wait(make: Make) -> None:
    house = make(settings(safety={"without_proof": "wait_for_nova"}, recover_starter={"node_err_wait": 100}))
    die(house, wait_s=0)
    silent_since = house.clock.monotonic()
    recovery = house.settle(house.host_down(proof=None).recovery_id, 600)
    assert recovery.status == "finished" and all_on(house, "compute3")
    # Nova calls it down after 60 s, less the 10 between two reports; only then the wait begins.
    assert house.asked("evacuate")[0].at - silent_since >= 50 + 100


def test_rule_1_the_wait_for_nova_begins_anew_when_the_host_reads_up_in_between(make: Make) -> None:
    house = make(settings(safety={"without_proof": "wait_for_nova"}, recover_starter={"node_err_wait": 100}))
    house.cloud.kill_compute("compute1")
    house.clock.advance(20)
    house.host_down(proof=None)
    house.let(100)
    house.cloud.restart_compute("compute1")
    house.let(60)
    house.cloud.kill_compute("compute1")
    house.let(120)
    assert not house.asked("evacuate")


SIGNS: dict[str, Callable[[House], Any]] = {
    "last seen as a member by an observer": lambda h: h.report(observer="compute3", last_alive=utc(h.clock.now())),
    "its last 1/1/1": lambda h: h.host_up("compute1", observer="compute2"),
    "power read as on": lambda h: h.host_down("compute1", proof="power_on", observer="compute3"),
    "its last callback about itself": lambda h: h.process_down("compute1", on_failure="report"),
    "its nova-compute's last report": lambda h: h.cloud.start("compute1"),
}


@pytest.mark.parametrize("sign", SIGNS)
def test_rule_1_a_proof_ends_with_a_newer_sign_of_life(make: Make, sign: str) -> None:
    house = make()
    die(house, wait_s=5)
    proven_at = evidence(house, "power_off")
    house.clock.advance(25)
    SIGNS[sign](house)
    house.clock.advance(10)
    recovery_id = house.report(observer="compute2", evidence=proven_at).recovery_id
    house.until_held(recovery_id, "alive")
    house.let(60)
    assert not house.asked("evacuate") and not house.asked("forced_down")


def test_rule_1_clocks_may_differ_by_the_tolerance(make: Make) -> None:
    house = make()
    die(house, wait_s=40)
    proof = evidence(house, "power_off", ago_s=14)
    recovery_id = house.report(observer="compute2", evidence=proof, last_alive=utc(house.clock.now())).recovery_id
    assert house.settle(recovery_id).status == "finished"


def test_rule_1_old_proof_counts_no_more_when_the_first_evacuate_is_due(make: Make) -> None:
    house = make()
    die(house, wait_s=700)
    recovery_id = house.report(observer="compute2", evidence=evidence(house, "power_off", ago_s=601)).recovery_id
    recovery = house.until_held(recovery_id, "proof")
    assert "too old" in recovery.reason and not house.asked("evacuate")
    house.host_down()
    assert house.settle(recovery_id).status == "finished"


def test_rule_1_a_proof_may_grow_old_while_instances_follow_one_another(make: Make) -> None:
    options = settings(recover_starter={"semaphore_multiplicity": 1}, safety={"proof_valid_s": 30})
    house = make(options, evacuate_s=40.0)
    die(house)
    recovery = house.settle(house.host_down().recovery_id)
    assert recovery.status == "finished" and house.asked("evacuate")[-1].at > 50 + 2 * 40


def test_rule_1_our_own_disable_is_no_sign_of_life(make: Make) -> None:
    house = make()
    die(house, wait_s=30)
    proof = evidence(house, "power_off", ago_s=5)
    recovery_id = house.host_down(proof=None).recovery_id
    house.until_held(recovery_id, "proof")
    house.let(40)
    house.report(observer="compute2", evidence=proof)
    assert house.settle(recovery_id).status == "finished"


def test_rule_1_a_sign_of_life_between_proof_and_force_down_stops_the_force_down(make: Make) -> None:
    house = make()
    die(house)
    recovery_id = house.host_down().recovery_id
    house.run(lambda: house.recovery(recovery_id).step == "isolate")
    house.clock.advance(20)
    house.host_up("compute1", observer="compute2")
    house.until_held(recovery_id, "alive")
    assert not house.asked("forced_down") and not house.asked("evacuate")


def test_rule_1_a_newer_sign_of_life_stops_new_requests_and_those_in_flight_are_followed(make: Make) -> None:
    house = make(settings(recover_starter={"semaphore_multiplicity": 1}), evacuate_s=30.0)
    die(house)
    recovery_id = house.host_down().recovery_id
    house.run(lambda: len(house.asked("evacuate")) == 1)
    house.clock.advance(20)
    house.host_up("compute1", observer="compute2")
    recovery = house.until_held(recovery_id, "alive")
    assert "host alive again" in recovery.reason
    house.let(60)
    assert len(house.asked("evacuate")) == 1
    assert [row["status"] for row in house.instances(recovery_id)].count("finished") == 1


def test_rule_1_a_host_that_answers_through_nova_is_alive_whatever_the_bmc_says(make: Make) -> None:
    house = make()
    recovery = house.until_held(house.host_down().recovery_id, "alive")
    assert "answers through Nova" in recovery.reason and "Wrong BMC" in recovery.reason
    house.let(120)
    assert not house.asked("forced_down") and not house.asked("evacuate")
    assert len(house.cloud.running()["compute1"]) == 3


def test_rule_1_a_dead_host_that_still_reads_up_costs_no_more_than_the_probe(make: Make) -> None:
    house = make()
    die(house, wait_s=1)
    reported = house.clock.monotonic()
    assert house.settle(house.host_down().recovery_id).status == "finished"
    assert house.asked("evacuate")[0].at - reported < 1.0


def test_rule_1_a_fencing_by_reboot_does_not_prove_that_the_host_stays_off(make: Make) -> None:
    house = make()
    house.host_up("compute1", boot_id="boot-1")
    die(house)
    recovery_id = house.host_down(proof=None).recovery_id
    proof = evidence(house, "fenced")
    house.cloud.start("compute1")
    house.clock.advance(40)
    house.host_up("compute1", boot_id="boot-2")
    house.report(observer="compute2", evidence=proof)
    recovery = house.settle(recovery_id)
    assert not house.asked("evacuate") and recovery.status == "finished"
    assert len(house.cloud.running()["compute1"]) == 3


OWN, OTHER = "11223344-5566-7788-99aa-bbccddeeff00", "00000000-1111-2222-3333-444444444444"
OWN_ELSEWHERE_WRITTEN = "44332211-6655-8877-99aa-bbccddeeff00"


def declare(house: House, host: str = "compute1", **fields: Any) -> None:
    """A hostmonitor starts on a host and tells who it is."""
    told = {"boot_id": "boot-1", "utc_time": utc(house.clock.now()), "bmc_guid": OWN, **fields}
    house.host_up(host, observer=host, **told)


def read_from(house: House, guid: str, kind: str = "power_off") -> list[dict[str, str]]:
    return [{"kind": kind, "at": utc(house.clock.now()), "detail": "read", "guid": guid}]


def test_rule_1_what_the_bmc_of_another_host_says_is_no_proof(make: Make) -> None:
    house = make()
    declare(house)
    die(house)
    recovery_id = house.report(observer="compute2", evidence=read_from(house, OTHER)).recovery_id
    recovery = house.until_held(recovery_id, "proof")
    assert "compute2 says: wrong BMC" in recovery.reason and OTHER in recovery.reason and OWN in recovery.reason
    house.let(600)
    assert not house.asked("evacuate") and not house.asked("forced_down")
    house.report(observer="compute3", evidence=read_from(house, OWN_ELSEWHERE_WRITTEN))
    assert house.settle(recovery_id).status == "finished" and all_on(house, "compute3")


def test_rule_1_a_bmc_that_turns_out_to_be_the_wrong_one_ends_its_proof(make: Make) -> None:
    """Its word comes within the tolerance of clocks, so that it is no newer sign of life."""
    house = make()
    die(house)
    recovery_id = house.report(observer="compute2", evidence=read_from(house, OTHER)).recovery_id
    house.clock.advance(5)
    declare(house)
    recovery = house.until_held(recovery_id, "proof")
    house.let(120)
    assert "wrong BMC" in recovery.reason and OTHER in recovery.reason
    assert not house.asked("evacuate") and not house.asked("forced_down")


def test_rule_1_a_word_about_its_bmc_during_the_evacuation_stops_it(make: Make) -> None:
    house = make(settings(recover_starter={"semaphore_multiplicity": 1}), evacuate_s=30.0)
    die(house)
    recovery_id = house.report(observer="compute2", evidence=read_from(house, OTHER)).recovery_id
    house.run(lambda: len(house.asked("evacuate")) == 1)
    house.clock.advance(2)
    declare(house)
    recovery = house.until_held(recovery_id, "proof")
    house.let(120)
    assert len(house.asked("evacuate")) == 1 and "wrong BMC" in recovery.reason


def test_rule_1_a_power_on_of_another_hosts_bmc_is_no_sign_of_life(make: Make) -> None:
    house = make()
    declare(house)
    die(house, wait_s=60)
    recovery_id = house.report(observer="compute2", evidence=read_from(house, OWN)).recovery_id
    house.clock.advance(20)
    house.report(observer="compute3", evidence=read_from(house, OTHER, "power_on"))
    assert house.settle(recovery_id).status == "finished"


def test_rule_1_too_few_observers_change_nothing(make: Make) -> None:
    house = make(settings(safety={"min_observers": 2}))
    die(house)
    recovery_id = house.host_down(observer="compute2").recovery_id
    recovery = house.until_held(recovery_id, "observers")
    house.host_down(observer="compute2")
    house.host_down(observer="compute4", trusted=False)
    house.host_down(observer="compute1")
    house.let(300)
    assert recovery.reason == "reported by compute2; 2 observers are needed ([safety] min_observers)"
    assert house.recovery(recovery_id).hold == "observers"
    assert house.sent == [] and house.cloud.hosts["compute1"].enabled
    with pytest.raises(MasakariError):
        admin.release(house.operator, recovery_id)


def test_rule_1_the_second_observer_is_enough(make: Make) -> None:
    house = make(settings(safety={"min_observers": 2}))
    die(house)
    recovery_id = house.host_down(observer="compute2").recovery_id
    house.until_held(recovery_id, "observers")
    joined_at = house.clock.monotonic()
    house.host_down(observer="compute3", proof=None)
    assert house.settle(recovery_id).status == "finished" and all_on(house, "compute3")
    assert house.asked("evacuate")[0].at - joined_at < 2


def test_rule_1_monitors_without_a_name_are_one_observer(make: Make) -> None:
    house = make(settings(safety={"min_observers": 2, "detail_2_is_proof": (CLUSTER,)}))
    die(house)
    recovery_id = house.report(observer=...).recovery_id
    house.report(observer=...)
    recovery = house.until_held(recovery_id, "observers")
    assert recovery.reason.startswith("reported by an unnamed monitor; 2 observers")
    house.report(observer="compute3")
    assert house.settle(recovery_id).status == "finished"


def test_rule_1_an_operators_word_makes_up_for_observers(make: Make) -> None:
    house = make(settings(safety={"min_observers": 3}))
    die(house)
    recovery_id = house.host_down(proof=None).recovery_id
    house.until_held(recovery_id, "observers")
    admin.attest(house.operator, "compute1", "I pulled the plug")
    assert house.settle(recovery_id).status == "finished" and all_on(house, "compute3")


def test_rule_1_a_sign_of_life_that_waited_in_a_spool_ends_no_newer_proof(make: Make) -> None:
    house = make()
    seen_up_at = utc(house.clock.now())
    die(house, wait_s=600)
    recovery_id = house.host_down(proof=None).recovery_id
    house.until_held(recovery_id, "proof")
    proof = evidence(house, "power_off")
    house.clock.advance(30)
    house.host_up("compute1", observer="compute3", utc_time=seen_up_at)
    house.report(observer="compute2", evidence=proof)
    assert house.settle(recovery_id).status == "finished"


def test_rule_1_a_hold_for_proof_says_what_the_observers_found_out(make: Make) -> None:
    house = make()
    die(house)
    silent = [
        {"kind": "unknown", "at": utc(house.clock.now()), "detail": "stonith-enabled=false, so pacemaker fences nobody"}
    ]
    recovery_id = house.report(observer="compute2", evidence=silent).recovery_id
    recovery = house.until_held(recovery_id, "proof")
    assert recovery.reason.startswith("no proof that the host is off")
    assert recovery.reason.endswith("; compute2 says: stonith-enabled=false, so pacemaker fences nobody")
    for turn in range(12):
        house.let(10)
        house.report(
            observer=("compute3", "compute2")[turn % 2], evidence=[{**silent[0], "at": utc(house.clock.now())}]
        )
    transitions = [row for row in house.rows("event_list", recovery_id=recovery_id) if row["kind"] == "transition"]
    assert len(transitions) == 1, "no news, no line"


def test_rule_1_a_hold_for_proof_says_what_is_found_out_now(make: Make) -> None:
    house = make()
    die(house)
    silent = [{"kind": "unknown", "at": utc(house.clock.now()), "detail": "the BMC is silent"}]
    recovery_id = house.report(observer="compute2", evidence=silent).recovery_id
    house.until_held(recovery_id, "proof")
    house.let(300)
    house.host_down(proof="power_on", detail="3", reason="its power is on")
    house.let(15)
    assert house.recovery(recovery_id).reason.endswith("; compute2 says: its power is on")


def test_rule_1_a_hold_for_proof_quotes_a_report_without_evidence(make: Make) -> None:
    house = make()
    die(house)
    recovery = house.until_held(house.host_down(proof=None, reason="the BMC is not configured").recovery_id, "proof")
    assert recovery.reason.endswith("; compute2 says: the BMC is not configured")


# Rule 2: Nova's view.


def test_rule_2_a_service_that_reads_up_is_never_forced_down_without_proof(make: Make) -> None:
    house = make()
    house.host_down(proof=None)
    house.let(900)
    assert not house.asked("forced_down") and not house.asked("evacuate")


def test_rule_2_a_host_that_nova_does_not_know_is_failed_and_never_finished(make: Make) -> None:
    house = make()
    house.host_up("compute1.example.org", observer="compute1.example.org", boot_id="boot-1")
    house.clock.advance(60)
    recovery = house.settle(house.host_down("compute1.example.org").recovery_id)
    assert recovery.status == "failed" and "compute1" in recovery.reason


def test_rule_2_a_host_of_2015_that_reported_itself_under_a_name_nova_does_not_know_is_failed(make: Make) -> None:
    house = make()
    house.process_down("compute1.example.org", on_failure="report")
    house.clock.advance(60)
    assert house.settle(house.host_down("compute1.example.org").recovery_id).status == "failed"


def test_rule_2_a_name_that_nobody_told_is_held_and_nothing_is_done(make: Make) -> None:
    house = make()
    die(house)
    recovery = house.until_held(house.host_down("node1.example.org").recovery_id, "name")
    house.let(900)
    recovery = house.recovery(recovery.id)
    assert recovery.hold == "name" and "nova_hosts" in recovery.reason and "Start the hostmonitor" in recovery.reason
    assert house.sent == [] and all(host.enabled for host in house.cloud.hosts.values())
    transitions = [row for row in house.rows("event_list", recovery_id=recovery.id) if row["kind"] == "transition"]
    assert len(transitions) == 1, "looked at again without a word"


def test_rule_2_a_held_name_goes_on_when_nova_knows_it(make: Make) -> None:
    house = make()
    die(house)
    compute1 = house.cloud.hosts.pop("compute1")
    recovery_id = house.host_down("compute1", proof=None).recovery_id
    house.until_held(recovery_id, "name")
    house.cloud.hosts["compute1"] = compute1
    house.until_held(recovery_id, "proof")


def test_rule_2_an_enable_by_hand_is_not_taken_back(make: Make) -> None:
    house = make()
    die(house)
    recovery_id = house.host_down(proof=None).recovery_id
    house.until_held(recovery_id, "proof")
    house.let(15)
    host = house.cloud.hosts["compute1"]
    house.cloud.update_service(host, enabled=True)
    recovery = house.until_held(recovery_id, "changed")
    house.let(120)
    assert host.enabled and "changed by hand" in recovery.reason


@pytest.mark.parametrize("change", [{"forced_down": False}, {"enabled": True}])
def test_rule_2_what_is_changed_back_during_an_evacuation_is_never_set_again(
    make: Make, change: dict[str, bool]
) -> None:
    house = make(settings(recover_starter={"semaphore_multiplicity": 1}), evacuate_s=20.0)
    die(house, wait_s=5)
    recovery_id = house.host_down().recovery_id
    house.run(lambda: len(house.asked("evacuate")) == 1)
    writes = len(house.asked("forced_down")) + len(house.asked("status"))
    house.cloud.update_service(house.cloud.hosts["compute1"], **change)
    house.until_held(recovery_id, "changed")
    house.let(60)
    assert len(house.asked("forced_down")) + len(house.asked("status")) == writes
    assert len(house.asked("evacuate")) == 1


# Rule 3: one request in flight per instance.


@pytest.mark.parametrize("fault", [{"kind": "lose_answer"}, {"kind": "answer", "status": 502, "executed": True}])
def test_rule_3_a_request_whose_answer_is_lost_is_followed_by_its_trace(make: Make, fault: dict[str, Any]) -> None:
    house = make(boot=1)
    die(house)
    house.cloud.fault("evacuate", **fault)
    recovery = house.settle(house.host_down().recovery_id)
    assert recovery.status == "finished" and len(house.asked("evacuate")) == 1


@pytest.mark.parametrize("fault", [{"kind": "lose_request"}, {"kind": "answer", "status": 503}])
def test_rule_3_a_request_that_left_no_trace_is_sent_again_only_after_action_settle_s(
    make: Make, fault: dict[str, Any]
) -> None:
    house = make(boot=1)
    die(house)
    house.cloud.fault("evacuate", **fault)
    recovery = house.settle(house.host_down().recovery_id)
    first, second = house.asked("evacuate")
    assert recovery.status == "finished" and second.at - first.at >= 15 - 0.001


def test_rule_3_a_request_that_arrives_late_is_found_before_another_one_is_sent(make: Make) -> None:
    house = make(boot=1)
    die(house)
    house.cloud.fault("evacuate", "late", delay_s=14.0)
    recovery = house.settle(house.host_down().recovery_id)
    assert recovery.status == "finished" and len(house.asked("evacuate")) == 1


def test_rule_3_what_a_killed_worker_sent_last_is_waited_for_however_old_its_intent(make: Make) -> None:
    house = make(boot=3)
    die(house)
    house.cloud.fault("evacuate", "late", count=3, delay_s=14.0)
    recovery_id = house.host_down().recovery_id
    # One after the other they time out; the last one is on its way still when the controller is killed and restarted.
    house.run(lambda: len(house.asked("evacuate")) == 3)
    house.restart()
    assert house.settle(recovery_id).status == "finished" and len(house.asked("evacuate")) == 3


def test_rule_3_a_jump_of_the_clock_does_not_shorten_the_wait(make: Make) -> None:
    house = make(boot=1)
    clock = SkewedClock(house.clock)
    house.controller = Controller(house, "controller-1", clock)
    die(house)
    house.cloud.fault("evacuate", "late", delay_s=14.0)
    recovery_id = house.host_down().recovery_id
    house.run(lambda: len(house.asked("evacuate")) == 1)
    clock.jump(3600)
    assert house.settle(recovery_id).status == "finished" and len(house.asked("evacuate")) == 1


def test_rule_3_the_intent_is_committed_before_the_request(make: Make) -> None:
    house = make(boot=1)
    die(house)
    seen = []

    def look(controller: Controller, call: str) -> None:
        if call.startswith("http before POST") and call.endswith("/action"):
            rows = house.table("vm_list")
            seen.append([(row["action"], row["action_answer"]) for row in rows])
            assert any(e["kind"] == "intent" and e["uuid"] for e in house.table("recovery_event"))

    house.ports = look
    house.settle(house.host_down().recovery_id)
    assert seen == [[("evacuate", None)]]


def test_rule_3_active_and_idle_on_the_old_host_is_not_taken_for_never_sent(make: Make) -> None:
    house = make(boot=5, settle_s=20.0, evacuate_s=42.0)
    die(house)
    house.cloud.fault("evacuate", "lose_answer", count=5)
    recovery = house.settle(house.host_down().recovery_id)
    assert recovery.status == "finished" and len(house.asked("evacuate")) == 5


def test_rule_3_an_instance_whose_record_names_another_host_is_left_alone(make: Make) -> None:
    house = make(settings(recover_starter={"semaphore_multiplicity": 1}), evacuate_s=10.0)
    die(house)
    recovery_id = house.host_down().recovery_id
    house.run(lambda: len(house.asked("evacuate")) == 1)
    waiting = next(s for s in house.cloud.servers.values() if s.task_state is None)
    house.cloud.edit(waiting.id, host="compute2")
    recovery = house.settle(recovery_id)
    assert recovery.status == "finished" and len(house.asked("evacuate")) == 2
    assert waiting.host == "compute2"


def test_rule_3_reset_state_is_never_used_on_a_time_out_alone(make: Make) -> None:
    house = make(settings(recover_starter={"evacuation_timeout_s": 100}), boot=1, evacuate_s=100_000.0)
    die(house)
    recovery = house.settle(house.host_down().recovery_id, 600)
    assert recovery.status == "failed" and "reset its state" in recovery.reason
    assert not house.asked("os-resetState") and len(house.asked("evacuate")) == 1


def test_rule_3_an_evacuation_that_somebody_else_asked_for_is_followed(make: Make) -> None:
    house = make(boot=1, evacuate_s=20.0)
    die(house)
    recovery_id = house.host_down().recovery_id
    house.run(lambda: house.recovery(recovery_id).step == "list")
    by_hand(house, next(iter(house.cloud.servers)), "compute2")
    house.clock.advance(1)
    assert house.settle(recovery_id).status == "finished"
    assert not house.asked("evacuate") and all_on(house, "compute2")


def by_hand(house: House, uuid: str, target: str) -> None:
    """An operator evacuates one instance past us."""
    from tests.simcloud import evacuation

    house.by_hand = ("compute1",)  # type: ignore[attr-defined]
    with house.cloud.alone():
        evacuation.request(
            house.cloud,
            house.cloud.servers[uuid],
            target,
            forced=False,
            on_shared_storage=None,
            ends_stopped=False,
            request_id="req-by-hand",
            user_id="anna",
        )


# Rule 4: a second target.


def test_rule_4_no_second_target_while_the_first_try_may_still_run_there(make: Make) -> None:
    house = make(boot=2, hosts=("compute1", "compute2", "compute3", "compute4"), evacuate_s=30.0)
    house.spare("compute4")
    die(house)
    recovery_id = house.host_down().recovery_id
    house.run(lambda: len(house.asked("evacuate")) == 2)
    die(house, "compute3", 5)
    house.host_down("compute3", proof=None)
    house.let(200)
    assert len(house.asked("evacuate")) == 2 and not house.asked("os-resetState")
    assert house.recovery(recovery_id).status in ("running", "held")


def test_rule_4_with_a_proof_for_the_first_target_the_second_takes_over(make: Make) -> None:
    house = make(boot=2, hosts=("compute1", "compute2", "compute3", "compute4"), evacuate_s=30.0)
    house.spare("compute4")
    die(house)
    recovery_id = house.host_down().recovery_id
    house.run(lambda: len(house.asked("evacuate")) == 2)
    die(house, "compute3", 5)
    house.host_down("compute3")
    recovery = house.settle(recovery_id)
    assert recovery.status == "finished" and all_on(house, "compute4")


def test_rule_4_a_try_that_nova_ended_is_followed_by_another(make: Make) -> None:
    house = make(boot=1)
    die(house)
    recovery_id = house.host_down().recovery_id
    house.run(lambda: house.recovery(recovery_id).step == "list")
    house.cloud.update_service(house.cloud.hosts["compute3"], enabled=False)
    house.run(lambda: len(house.asked("evacuate")) == 1)
    house.let(3)
    house.cloud.update_service(house.cloud.hosts["compute3"], enabled=True)
    recovery = house.settle(recovery_id)
    assert recovery.status == "finished" and all_on(house, "compute3")
    assert "No valid host" in house.story(recovery_id)


# Rule 5: spares.


def test_rule_5_a_spare_serves_one_active_recovery(make: Make) -> None:
    house = make(boot=1, hosts=("compute1", "compute2", "compute3", "compute4", "compute5"), evacuate_s=30.0)
    house.cloud.boot("compute2", 1)
    die(house)
    die(house, "compute2")
    first = house.host_down("compute1", observer="compute4").recovery_id
    second = house.host_down("compute2", observer="compute4").recovery_id
    recovery = house.settle(second)
    assert recovery.status == "failed" and "no reserved host left" in recovery.reason
    assert house.settle(first).status == "finished"


def test_rule_5_a_spare_that_an_operator_lists_again_is_not_used_while_it_serves(make: Make) -> None:
    house = make(boot=1, hosts=("compute1", "compute2", "compute3", "compute4", "compute5"), evacuate_s=60.0)
    house.cloud.boot("compute2", 1)
    die(house)
    house.host_down("compute1", observer="compute4")
    house.run(lambda: bool(house.asked("evacuate")))
    house.spare("compute3")
    die(house, "compute2", 5)
    second = house.host_down("compute2", observer="compute4").recovery_id
    recovery = house.settle(second)
    assert recovery.status == "failed" and "serves" in recovery.reason


SPOILT: dict[str, Callable[[House], Any]] = {
    "its nova-compute is down": lambda h: (h.cloud.kill_compute("compute3"), h.clock.advance(70)),
    "it is off": lambda h: h.host_down("compute3", observer="compute2"),
    "it was reported down": lambda h: h.host_down("compute3", observer="compute2", proof=None),
    "it is forced down": lambda h: h.cloud.update_service(h.cloud.hosts["compute4"], forced_down=True),
}


@pytest.mark.parametrize("why", SPOILT)
def test_rule_5_a_spare_with_something_against_it_is_not_used(make: Make, why: str) -> None:
    house = make(spare=None, hosts=("compute1", "compute2", "compute3", "compute4", "compute5", "compute6"))
    house.by_hand = ("compute4",)  # type: ignore[attr-defined]
    spoilt = "compute4" if "forced" in why else "compute3"
    house.spare(spoilt)
    house.spare("compute5")
    SPOILT[why](house)
    die(house)
    recovery = house.settle(house.host_down(observer="compute6").recovery_id)
    assert recovery.status == "finished" and recovery.target == "compute5", recovery.reason


def test_rule_5_a_spare_kept_disabled_is_enabled_for_the_purpose(make: Make) -> None:
    house = make()
    house.cloud.update_service(house.cloud.hosts["compute3"], enabled=False, reason="spare")
    die(house)
    recovery = house.settle(house.host_down().recovery_id)
    assert recovery.status == "finished" and all_on(house, "compute3")


def test_rule_5_a_spare_that_served_nobody_is_given_back_as_it_was(make: Make) -> None:
    house = make(boot=0)
    house.cloud.update_service(house.cloud.hosts["compute3"], enabled=False, reason="spare")
    die(house)
    recovery = house.settle(house.host_down().recovery_id)
    assert (recovery.status, recovery.reason) == ("finished", "nothing there")
    assert [row["hostname"] for row in house.rows("spare_all")] == ["compute3"]
    assert not house.cloud.hosts["compute3"].enabled


def test_rule_5_the_oldest_spare_first_never_the_failed_one_and_a_failed_host_leaves_the_list(make: Make) -> None:
    house = make(spare="compute1", hosts=("compute1", "compute2", "compute3", "compute4"))
    house.spare("compute4")
    house.spare("compute3")
    die(house)
    recovery = house.settle(house.host_down().recovery_id)
    assert recovery.target == "compute4"
    assert [row["hostname"] for row in house.rows("spare_all")] == ["compute3"]


# Rule 6: many at once.

FIVE = ("compute1", "compute2", "compute3", "compute4", "compute5")


def three_of_five(house: House, proof: str | None = None) -> list[int]:
    """Three hosts of five are reported within a few seconds."""
    found = []
    for host in FIVE[:3]:
        found.append(house.host_down(host, observer="compute5", proof=proof).recovery_id)
        house.let(3)
    return found


def members(house: House) -> None:
    """All five are known, the last two by their own reports."""
    for host in FIVE:
        house.host_up(host)


def test_rule_6_more_than_half_of_the_members_at_once_are_held_and_disables_are_undone(make: Make) -> None:
    house = make(hosts=FIVE, spare=None)
    members(house)
    house.clock.advance(20)
    for host in FIVE[:3]:
        house.cloud.isolate_network(host)
    found = three_of_five(house)
    house.let(60)
    assert [house.recovery(r).hold for r in found] == ["many"] * 3
    for host in FIVE[:3]:
        house.cloud.heal_network(host)
    house.let(120)
    assert all(house.cloud.hosts[host].enabled for host in FIVE[:3])
    assert not house.asked("evacuate") and not house.asked("forced_down")


def test_rule_6_nothing_is_disabled_for_a_host_that_is_held_at_admission(make: Make) -> None:
    house = make(settings(safety={"max_failed_hosts": 1}), hosts=FIVE, spare=None)
    members(house)
    house.clock.advance(20)
    house.host_down("compute1", observer="compute5", proof=None)
    second = house.host_down("compute2", observer="compute5", proof=None).recovery_id
    house.let(60)
    assert house.recovery(second).hold == "many" and house.cloud.hosts["compute2"].enabled


def test_rule_6_released_they_go_on_by_all_the_other_rules(make: Make) -> None:
    house = make(settings(safety={"max_failed_hosts": 1}), hosts=FIVE, spare="compute4")
    members(house)
    die(house)
    die(house, "compute2")
    house.host_down("compute2", observer="compute5", proof=None)
    first = house.host_down("compute1", observer="compute5", proof=None).recovery_id
    house.let(5)
    assert house.recovery(first).hold == "many"
    admin.release(house.operator, first)
    house.until_held(first, "proof")
    house.host_down("compute1", observer="compute5")
    assert house.settle(first).status == "finished"


def test_rule_6_hosts_with_proof_are_limited_by_load_only(make: Make) -> None:
    house = make(hosts=FIVE, spare="compute4")
    members(house)
    for host in FIVE[:3]:
        die(house, host)
    found = three_of_five(house, "power_off")
    house.let(60)
    assert [house.recovery(r).hold for r in found] == [None] * 3


def test_rule_6_hold_proven_holds_them_all_the_same(make: Make) -> None:
    house = make(settings(safety={"hold_proven": True}), hosts=FIVE, spare="compute4")
    members(house)
    for host in FIVE[:3]:
        die(house, host)
    found = three_of_five(house, "power_off")
    house.let(10)
    assert house.recovery(found[2]).hold == "many"


def test_rule_6_what_was_requested_before_is_not_held(make: Make) -> None:
    house = make(settings(safety={"max_failed_hosts": 1}), hosts=FIVE, spare="compute4", evacuate_s=20.0)
    members(house)
    die(house)
    first = house.host_down("compute1", observer="compute5").recovery_id
    house.run(lambda: len(house.asked("evacuate")) == 3)
    second = house.host_down("compute2", observer="compute5", proof=None).recovery_id
    assert house.settle(first).status == "finished"
    assert house.recovery(second).hold == "many"


def test_rule_6_with_unknown_members_two_hosts_at_once_are_held(make: Make) -> None:
    house = make(hosts=FIVE, spare=None)
    house.clock.advance(5)
    house.report(hostname="compute1", observer=...)
    second = house.report(hostname="compute2", observer=...).recovery_id
    house.let(2)
    assert house.recovery(second).hold == "many"


# Rule 7: not said before seen.


def test_rule_7_an_instance_is_evacuated_only_once_nova_names_the_new_host(make: Make) -> None:
    house = make(settle_s=3.0, evacuate_s=8.0)
    die(house)
    recovery_id = house.host_down().recovery_id
    while house.recovery(recovery_id).status != "finished":
        for row in house.instances(recovery_id):
            if row["status"] == "finished":
                server = house.cloud.servers[row["uuid"]]
                assert (server.host, server.status, server.task_state) == ("compute3", "ACTIVE", None)
        house.let(0.1)


def test_rule_7_an_instance_is_started_only_once_nova_shows_it_active(make: Make) -> None:
    house = make(boot=1, start_s=12.0)
    uuid = next(iter(house.cloud.servers))
    house.cloud.crash_guest(uuid, noticed=False)
    recovery = house.settle(house.instance_down(uuid).recovery_id)
    assert recovery.status == "finished" and house.cloud.servers[uuid].status == "ACTIVE"
    assert uuid in house.cloud.running()["compute1"]


def test_rule_7_a_host_counts_as_isolated_only_once_nova_shows_it_down_and_disabled(make: Make) -> None:
    house = make()
    die(house)
    house.cloud.fault("force_down", "lose_request")
    recovery_id = house.host_down().recovery_id
    house.run(lambda: bool(house.asked("evacuate")))
    host = house.cloud.hosts["compute1"]
    assert host.forced_down and not host.enabled
    assert house.settle(recovery_id).status == "finished"


# Rule 8: data.


@pytest.mark.parametrize("newest", ["2.1", "2.11", "2.52", "2.53", "2.67", "2.68", "2.93", "2.95", "2.96", "2.100"])
def test_rule_8_an_evacuate_is_never_sent_at_2_95_or_later(make: Make, newest: str) -> None:
    house = make(versions=("2.1", newest), service_down_s=25.0)
    die(house, wait_s=40)
    recovery = house.settle(house.host_down().recovery_id)
    versions = [tuple(int(part) for part in sent.version.split(".")) for sent in house.asked("evacuate")]
    assert recovery.status == "finished" and versions and max(versions) <= (2, 93)
    assert len(house.cloud.running()["compute3"]) == 3


def test_rule_8_a_local_root_disk_goes_only_where_nova_refuses_to_build_an_empty_one(make: Make) -> None:
    house = make(boot=0, shared_storage=False)
    house.cloud.boot("compute1", 1, local_disk=True)
    die(house)
    recovery_id = house.host_down().recovery_id
    recovery = house.until_held(recovery_id, "local_disk", 600)
    assert "local disk" in recovery.reason
    for sent in house.asked("evacuate"):
        assert sent.version in ("2.1", "2.13") and sent.body["evacuate"]["onSharedStorage"] is True


def test_rule_8_a_local_root_disk_on_shared_storage_is_evacuated(make: Make) -> None:
    house = make(boot=0)
    house.cloud.boot("compute1", 1, local_disk=True)
    die(house)
    assert house.settle(house.host_down().recovery_id).status == "finished"
    assert house.asked("evacuate")[0].body["evacuate"]["onSharedStorage"] is True


def test_rule_8_rebuild_local_disks_allows_it(make: Make) -> None:
    house = make(settings(nova={"rebuild_local_disks": True}), boot=0)
    house.cloud.boot("compute1", 1, local_disk=True)
    die(house)
    assert house.settle(house.host_down().recovery_id).status == "finished"
    assert "onSharedStorage" not in house.asked("evacuate")[0].body["evacuate"]


def test_release_never_lifts_a_hold_for_proof(make: Make) -> None:
    house = make()
    die(house)
    recovery_id = house.host_down(proof=None).recovery_id
    house.until_held(recovery_id, "proof")
    with pytest.raises(MasakariError):
        admin.release(house.operator, recovery_id)
