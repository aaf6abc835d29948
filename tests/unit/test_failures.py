"""What each report means: every row of the table."""

from __future__ import annotations

import json
from typing import Any

import pytest

from masakari.common.notification import parse
from masakari.failures import Failure, classify
from tests.unit.test_notification import HOST_DOWN, NOW, PROCESS_DOWN, VM_DOWN


def meaning(report: dict[str, Any], **changes: Any) -> Failure:
    """Classify the report with these fields changed."""
    return classify(parse(json.dumps({**report, **changes}).encode(), NOW))


@pytest.mark.parametrize(
    ("report", "numbers", "kind", "recover_by", "reason"),
    [
        (HOST_DOWN, "1/2/2", "host", 0, "host is down"),
        (HOST_DOWN, "1/2/3", "host", 0, "power is still on"),
        (HOST_DOWN, "1/2/4", "host", 0, "power state is unknown"),
        (HOST_DOWN, "1/1/1", "sign_of_life", 0, "host is up"),
        (HOST_DOWN, "1/2/1", "ignored", 0, "rscGroup event 1/2/1 is no failure"),
        (HOST_DOWN, "0/5/5", "ignored", 0, "rscGroup event 0/5/5 is no failure"),
        (VM_DOWN, "0/5/5", "instance", 1, "QEMU process died"),
        (VM_DOWN, "0/5/2", "instance", 1, "guest crashed"),
        (VM_DOWN, "0/5/1", "ignored", 1, "destroyed through the API"),
        (VM_DOWN, "0/5/3", "ignored", 1, "VM event 0/5/3 is no failure"),
        (VM_DOWN, "1/2/2", "ignored", 1, "VM event 1/2/2 is no failure"),
        (PROCESS_DOWN, "2/2/01", "process", 2, "a process could not be restarted"),
        (PROCESS_DOWN, "9/x/", "process", 2, "a process could not be restarted"),
    ],
)
def test_each_row_of_the_table(report: dict[str, Any], numbers: str, kind: str, recover_by: int, reason: str) -> None:
    event_id, event_type, detail = numbers.split("/")
    failure = meaning(report, eventID=event_id, eventType=event_type, detail=detail)
    assert (failure.kind, failure.recover_by) == (kind, recover_by)
    assert reason in failure.reason


def test_numbers_mean_the_same_as_their_text() -> None:
    assert meaning(VM_DOWN, eventID=0, eventType=5, detail=5).kind == "instance"
    assert meaning(HOST_DOWN, eventID=1, eventType=2, detail=2).kind == "host"


def test_an_unknown_type_is_ignored_with_the_reason() -> None:
    assert meaning(HOST_DOWN, type="other") == Failure("ignored", None, "type 'other' is not known")


def test_a_process_is_named() -> None:
    assert meaning(PROCESS_DOWN, process="sshd").reason == "process sshd could not be restarted"
    assert meaning(PROCESS_DOWN, process="sshd", state="up").reason == "process sshd runs again"


def test_the_reason_is_short_whatever_was_sent() -> None:
    assert len(meaning(HOST_DOWN, type="t" * 255).reason) < 100
    assert len(meaning(VM_DOWN, eventID="1" * 255, eventType="2" * 255, detail="3" * 255).reason) < 100


def test_an_instance_that_runs_by_the_time_its_report_gets_through_is_left_alone() -> None:
    late = meaning(VM_DOWN, libvirt_state="running")
    assert late == Failure("ignored", 1, "QEMU process died, but libvirt says by now that it is running")
    assert meaning(VM_DOWN, libvirt_state="paused").kind == "ignored"
    assert meaning(VM_DOWN, libvirt_state="shutoff").kind == "instance"


@pytest.mark.parametrize("odd", [7, {"a": 1}, None, "", "never heard of"])
def test_an_odd_libvirt_state_keeps_no_instance_from_being_recovered(odd: Any) -> None:
    assert meaning(VM_DOWN, libvirt_state=odd).kind == "instance"


def test_the_words_of_the_monitor_are_on_record() -> None:
    assert meaning(VM_DOWN, reason="its QEMU process died").reason == "its QEMU process died"
    assert meaning(VM_DOWN, reason="found after a restart of libvirtd").reason == (
        "QEMU process died (found after a restart of libvirtd)"
    )
    down = meaning(PROCESS_DOWN, process="libvirtd", reason="3 restarts failed: exit status 1")
    assert down.reason == "process libvirtd could not be restarted (3 restarts failed: exit status 1)"


@pytest.mark.parametrize("odd", [7, {"a": 1}, None, "", "a\nb", "x" * 256])
def test_odd_words_of_a_monitor_are_left_out(odd: Any) -> None:
    assert meaning(VM_DOWN, reason=odd).reason == "QEMU process died"
