"""A host that has booted again: what was active is stopped and started in place, and nothing healthy is touched."""

from __future__ import annotations

import pytest

from masakari.in_place import MAX_TRIES, POWER_SYNC_S, Rules, next_move
from tests.unit.test_evacuation import DEAD, NOW, row, server

PROVEN = Rules(off_proven=True)


def move(instance, seen, rules=PROVEN):
    return next_move(instance, seen, DEAD, NOW, rules)


def asked(action, age=1.0, answer="accepted", **changes):
    return row(action=action, action_at=NOW - age, action_answer=answer, **changes)


def test_what_was_active_is_stopped_then_started():
    assert move(row(), server()).action == "stop"
    assert move(asked("stop"), server(task_state="powering-off")).verb == "follow"
    assert move(asked("stop"), server(vm_state="stopped")).action == "start"
    assert move(asked("start"), server(vm_state="active")).verb == "done"


def test_what_nova_shows_as_stopped_by_itself_is_just_started():
    assert move(row(), server(vm_state="stopped")).action == "start"


def test_what_was_stopped_stays_stopped():
    assert move(row(was={"vm_state": "stopped"}), server(vm_state="stopped")).verb == "skip"


def test_without_proof_that_the_host_was_off_a_running_guest_is_never_stopped():
    doubtful = Rules(off_proven=False, up_for_s=10)
    assert move(row(), server(), doubtful).verb == "follow"
    assert move(row(), server(vm_state="stopped"), doubtful).action == "start"
    assert move(row(), server(), Rules(off_proven=False, up_for_s=POWER_SYNC_S)).verb == "done"


def test_a_request_without_an_answer_is_given_time_to_show():
    assert move(asked("stop", answer="maybe"), server()).verb == "follow"
    assert move(asked("stop", age=16, answer="maybe"), server()).action == "stop"


@pytest.mark.parametrize("instance", [asked("start", age=31), asked("start", retry_cnt=MAX_TRIES)])
def test_what_does_not_start_fails_and_is_left_to_the_operator(instance):
    assert move(instance, server(vm_state="stopped")).verb == "fail"


def test_what_was_evacuated_or_deleted_meanwhile_is_left_alone():
    assert move(row(), server(host="compute3")).verb == "done"
    assert move(row(), None).verb == "skip"
