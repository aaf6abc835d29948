"""Which instances are recovered at all: what owners say in either dialect, and what the options of OpenStack's world add."""

from __future__ import annotations

import pytest

from masakari import choice
from masakari.choice import Choice, left_out
from masakari.config_failure import HostFailure, InstanceFailure
from masakari.evacuation import RANK_FIRST, Rules, consider, next_move
from tests.unit.test_evacuation import DEAD, NOW, row, server

MARKED_ONLY = Choice(unmarked=False, option="the option")
NO_ERRORS = Choice(in_error=False)


@pytest.mark.parametrize("section", [HostFailure(), HostFailure(evacuate_all_instances=True)])
def test_by_default_everything_is_recovered_but_what_its_owner_left_out(section):
    chosen = choice.of_host(section)
    assert left_out({}, "active", chosen) == left_out({}, "error", chosen) == ""
    assert left_out({"HA_Enabled": "true"}, "active", chosen) == ""
    for metadata in ({"HA_Enabled": "False"}, {"HA-Enabled": "off"}):
        assert "HA_Enabled false" in left_out(metadata, "active", chosen)
    assert choice.of_instance(InstanceFailure()).unmarked


@pytest.mark.parametrize(
    ("metadata", "recovered"),
    [
        ({"HA_Enabled": "True"}, True),
        ({"HA_Enabled": "yes"}, True),
        ({}, False),
        ({"HA_Enabled": ""}, False),
        ({"HA_Enabled": "perhaps"}, False),
        ({"HA-Enabled": "on"}, False),
        ({"HA_Enabled": "true", "HA-Enabled": "off"}, False),
    ],
)
def test_where_only_marked_ones_count_nothing_but_the_mark_does(metadata, recovered):
    chosen = choice.of_host(HostFailure(evacuate_all_instances=False))
    assert (left_out(metadata, "active", chosen) == "") is recovered
    assert (
        left_out(metadata, "active", choice.of_instance(InstanceFailure(process_all_instances=False))) == ""
    ) is recovered


def test_the_reason_names_the_option():
    chosen = choice.of_host(HostFailure(evacuate_all_instances=False, ignore_instances_in_error_state=True))
    assert "[host_failure] evacuate_all_instances = no" in left_out({}, "active", chosen)
    assert "ignore_instances_in_error_state" in left_out({"HA_Enabled": "true"}, "error", chosen)
    of_instance = choice.of_instance(InstanceFailure(process_all_instances=False))
    assert "[instance_failure] process_all_instances = no" in left_out({}, "active", of_instance)


def test_another_key_takes_the_place_of_ha_enabled_and_not_of_the_one_of_2015():
    chosen = choice.of_host(HostFailure(ha_enabled_instance_metadata_key="keep_alive"))
    assert left_out({"HA_Enabled": "false"}, "active", chosen) == ""
    assert "keep_alive false" in left_out({"keep_alive": "no"}, "active", chosen)
    assert left_out({"HA-Enabled": "off"}, "active", chosen)
    assert consider(server(metadata={"keep_alive": "true"}), DEAD, chosen).priority == RANK_FIRST
    assert consider(server(metadata={"HA_Enabled": "true"}), DEAD, chosen).priority != RANK_FIRST


def test_an_instance_in_error_is_left_out_only_where_that_is_asked_for():
    assert consider(server(vm_state="error"), DEAD).evacuate
    assert not consider(server(vm_state="error"), DEAD, NO_ERRORS).evacuate
    assert consider(server(vm_state="active"), DEAD, NO_ERRORS).evacuate


def move(instance, seen, chosen):
    return next_move(instance, seen, [], DEAD, NOW, Rules(choice=chosen))


def test_what_was_chosen_when_it_was_listed_and_is_in_error_since_is_evacuated():
    paused = row(was={"vm_state": "paused"}, action="reset_state", action_at=NOW - 60, action_answer="accepted")
    tried = row(was={"vm_state": "active"}, retry_cnt=1)
    for instance in (paused, tried, row(was={"vm_state": "active"})):
        assert move(instance, server(vm_state="error"), NO_ERRORS).action == "evacuate"


def test_what_was_begun_is_ended_though_the_settings_have_changed():
    assert move(row(retry_cnt=1), server(), MARKED_ONLY).action == "evacuate"
    assert move(row(), server(), MARKED_ONLY).verb == "skip"


def test_an_instance_taken_over_from_its_own_recovery_is_chosen_like_any_other():
    asked = row(action="start", action_at=NOW - 60, action_answer="accepted", retry_cnt=2)
    assert move(asked, server(vm_state="stopped"), MARKED_ONLY).verb == "skip"
    assert move(asked, server(vm_state="stopped"), Choice()).action == "evacuate"
