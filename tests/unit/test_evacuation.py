"""What to do with one instance of a dead host: every state Nova can show, and every intent that may be on record."""

from __future__ import annotations

from dataclasses import replace

import pytest

from masakari import choice
from masakari.evacuation import Rules, Target, consider, next_move
from masakari.model import Instance
from masakari.nova import Migration, Server

NOW = 1_800_000_000.0
DEAD, SPARE = "compute1", "compute3"
RULES = Rules(action_settle_s=15, evacuation_timeout_s=900)


def server(**changes):
    values = {
        "id": "u1",
        "name": "vm-1",
        "status": "ACTIVE",
        "vm_state": "active",
        "task_state": None,
        "power_state": 1,
        "host": DEAD,
        "metadata": {},
        "local_disk": False,
        "fault": None,
        "created": "",
    }
    return Server(**{**values, **changes})


def row(**changes):
    values = {
        "id": 1,
        "uuid": "u1",
        "name": "vm-1",
        "recovery_id": 1,
        "status": "running",
        "reason": "",
        "priority": 1,
        "was": {"vm_state": "active", "power_state": 1},
        "action": None,
        "action_at": 0.0,
        "action_answer": None,
        "action_target": None,
        "migration_seen": 0,
        "request_id": None,
        "retry_cnt": 0,
        "recover_to": None,
    }
    return Instance(**{**values, **changes})


def sent(age=1.0, answer="accepted", **changes):
    return row(action="evacuate", action_at=NOW - age, action_answer=answer, action_target=SPARE, **changes)


def migration(status, number=5):
    return Migration(number, "u1", status, DEAD, SPARE, NOW)


def move(instance, seen, migrations=(), target=Target()):  # noqa: B008 - frozen
    return next_move(instance, seen, migrations, DEAD, NOW, RULES, target)


@pytest.mark.parametrize("state", ["active", "stopped", "error"])
def test_active_stopped_and_error_are_evacuated(state):
    assert consider(server(vm_state=state), DEAD).evacuate
    assert move(row(), server(vm_state=state)).action == "evacuate"


@pytest.mark.parametrize("state", ["paused", "resized"])
def test_paused_and_resized_are_reset_to_error_first(state):
    assert consider(server(vm_state=state), DEAD).evacuate
    assert move(row(), server(vm_state=state)).action == "reset_state"
    asked = row(action="reset_state", action_at=NOW - 1, action_answer="accepted")
    assert move(asked, server(vm_state=state)).verb == "follow"
    assert move(asked, server(vm_state="error")).action == "evacuate"


@pytest.mark.parametrize("task", ["migrating", "resize_prep", "resize_migrating", "resize_finish"])
def test_what_was_moving_may_run_elsewhere_and_is_left_alone(task):
    plan = consider(server(task_state=task), DEAD)
    assert not plan.evacuate
    assert "may run on another host" in plan.reason


@pytest.mark.parametrize(
    "changes",
    [{"vm_state": "suspended"}, {"vm_state": "rescued"}, {"vm_state": "building"}, {"task_state": "deleting"}],
)
def test_what_nova_cannot_evacuate_is_left_and_said_so(changes):
    plan = consider(server(**changes), DEAD)
    assert not plan.evacuate
    assert plan.reason


@pytest.mark.parametrize(
    "metadata, wish",
    [
        ({"HA-Enabled": "OFF"}, False),
        ({"HA-Enabled": "off"}, False),
        ({"HA_Enabled": "False"}, False),
        ({"HA_Enabled": "true"}, True),
        ({"HA-Enabled": "on"}, None),
        ({}, None),
        ({"NON-HA_Enabled": "false"}, None),
    ],
)
def test_the_owners_wish_is_read_by_the_exact_key(metadata, wish):
    assert choice.wants_ha(metadata) is wish


def test_ha_enabled_goes_first_then_active_then_stopped():
    ranks = [
        consider(server(metadata={"HA_Enabled": "true"}), DEAD),
        consider(server(), DEAD),
        consider(server(vm_state="stopped"), DEAD),
    ]
    assert [plan.priority for plan in ranks] == sorted(plan.priority for plan in ranks)
    assert len({plan.priority for plan in ranks}) == 3


def test_active_and_idle_on_the_old_host_is_not_never_sent():
    assert move(sent(), server()).verb == "follow"
    assert move(sent(age=100), server(), [migration("accepted")]).verb == "follow"
    assert move(sent(age=100), server(), [migration("done")]).verb == "follow"


@pytest.mark.parametrize("answer", [None, "maybe"])
def test_a_request_without_an_answer_is_looked_for_before_it_is_sent_again(answer):
    assert move(sent(age=14, answer=answer), server()).verb == "follow"
    assert move(sent(age=16, answer=answer), server()).action == "evacuate"
    assert move(sent(age=16, answer=answer), server(task_state="rebuilding", status="REBUILD")).verb == "follow"
    assert move(sent(age=16, answer=answer), server(), [migration("accepted")]).verb == "follow"


def test_an_older_migration_is_no_trace():
    assert move(sent(age=16, answer="maybe", migration_seen=5), server(), [migration("failed")]).action == "evacuate"


@pytest.mark.parametrize("status", ["error", "failed"])
def test_only_an_ended_migration_allows_another_try(status):
    assert (
        move(sent(), server(vm_state="error", status="ERROR", fault="No valid host"), [migration(status)]).verb
        == "again"
    )
    assert move(sent(), server(task_state="rebuilding"), [migration(status)]).verb == "follow"
    assert move(sent(), server(vm_state="error", status="ERROR"), [migration("accepted")]).verb == "follow"


def test_done_is_wanted_state_and_idle_and_host_changed():
    assert move(sent(), server(host=SPARE)).verb == "done"
    assert move(sent(), server(host=SPARE, task_state="rebuild_spawning")).verb == "follow"
    assert move(sent(), server(host=SPARE, vm_state="error", status="ERROR")).verb == "fail"


def test_what_was_paused_is_paused_again_on_its_new_host():
    paused = sent(was={"vm_state": "paused"})
    assert move(paused, server(host=SPARE)).action == "pause"
    assert move(paused, server(host=SPARE, vm_state="paused", status="PAUSED")).verb == "done"


def test_stuck_beyond_the_deadline_fails_and_says_what_to_do():
    stuck = move(sent(age=901), server(status="REBUILD", task_state="rebuilding"), [migration("accepted")])
    assert stuck.verb == "fail"
    assert "instance actions" in stuck.reason


def test_a_second_target_waits_for_proof_that_the_first_one_is_off_too():
    rebuilding = server(status="REBUILD", task_state="rebuilding")
    assert move(sent(), rebuilding, [migration("accepted")], Target(lost=True)).verb == "follow"
    assert move(sent(), rebuilding, [migration("accepted")], Target(lost=True, proven=True)).action == "reset_state"


def test_an_evacuation_nobody_here_asked_for_is_followed():
    assert move(row(), server(status="REBUILD", task_state="rebuilding")).verb == "follow"


def test_gone_or_moved_by_somebody_else_is_left_alone():
    assert move(row(), None).verb == "skip"
    assert move(row(), server(host="compute2")).verb == "skip"
    assert move(sent(), server(task_state="deleting")).verb == "skip"


def test_an_os_stop_of_its_instance_recovery_is_followed_first():
    stopping = row(action="stop", action_at=NOW - 5, action_answer="maybe")
    assert move(stopping, server(task_state="powering-off")).verb == "follow"
    assert (
        move(row(action="stop", action_at=NOW - 16, action_answer="maybe"), server(task_state="powering-off")).action
        == "evacuate"
    )


@pytest.mark.parametrize("vm_state", ["stopped", "error"])
def test_an_evacuation_of_somebody_else_that_is_stuck_is_not_followed_for_ever(vm_state):
    stuck = server(vm_state=vm_state, task_state="rebuilding")
    young, old = (replace(migration("accepted"), created_at=NOW - age) for age in (899, 901))
    assert next_move(row(), stuck, [young], DEAD, NOW, RULES).verb == "follow"
    move = next_move(row(), stuck, [old], DEAD, NOW, RULES)
    assert (move.verb, "has not ended" in move.reason) == ("fail", True)
    earlier = replace(migration("completed"), created_at=NOW - 86400)
    assert next_move(row(), stuck, [earlier], DEAD, NOW, RULES).verb == "follow", "that one is over"
