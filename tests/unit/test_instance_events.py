"""What libvirt's events mean: the sequences that a real libvirt and QEMU sent in each situation, as they were recorded."""

from __future__ import annotations

import logging
from typing import NamedTuple

import pytest

from instancemonitor.events import FAULTS, INCOMING, RUNNING, STOPPED, Context, Judgement, judge, remember
from instancemonitor.model import (
    CONTROL_ERROR,
    DEFAULT_KINDS,
    IO_ERROR,
    KINDS,
    LIFECYCLE,
    REBOOT,
    WATCHDOG,
    DomainEvent,
)

R, E, C = (REBOOT, 0), (IO_ERROR, 1), (CONTROL_ERROR, 0)


class Situation(NamedTuple):
    """What was done to a running guest, the events it gave, what the domain is then, and the faults in it."""

    name: str
    events: tuple[tuple[int | str, int], ...]
    state: str
    faults: tuple[str, ...]


RECORDED = (
    Situation("start", ((4, 0), (2, 0)), RUNNING, ()),
    Situation("kill -9 of QEMU", ((5, 5),), STOPPED, ("process_crash",)),
    Situation("SIGSEGV in QEMU", ((5, 5),), STOPPED, ("process_crash",)),
    Situation("panic, on_crash destroy", ((3, 0), (8, 0), (5, 2)), STOPPED, ("guest_crash",)),
    Situation("panic, on_crash destroy, as libvirt 9 sends it", ((8, 0), (5, 2)), STOPPED, ("guest_crash",)),
    Situation("panic, on_crash restart", ((8, 0), R), RUNNING, ("rebooted",)),
    Situation("panic, on_crash preserve", ((3, 0), (8, 0)), RUNNING, ()),
    Situation("virsh destroy", ((6, 2), (5, 1)), STOPPED, ("destroyed",)),
    Situation("virsh shutdown", ((6, 1), (5, 0)), STOPPED, ()),
    Situation("power off inside the guest", ((6, 1), (5, 0)), STOPPED, ()),
    Situation("reboot with on_reboot destroy", ((6, 1), (5, 0)), STOPPED, ()),
    Situation("SIGTERM to QEMU", ((6, 2), (5, 0)), STOPPED, ()),
    Situation("quit on QEMU's monitor", ((6, 2), C, (5, 0)), STOPPED, ("control_error",)),
    Situation("power off while libvirtd was down, seen after its restart", ((5, 0),), STOPPED, ()),
    Situation("reboot inside the guest", (R, R), RUNNING, ("rebooted",)),
    Situation("triple fault", (R, R), RUNNING, ("rebooted",)),
    Situation("virsh reboot", (R, R), RUNNING, ("rebooted",)),
    Situation("virsh reset", (R,), RUNNING, ("rebooted",)),
    Situation("watchdog, action none", ((WATCHDOG, 0),), RUNNING, ()),
    Situation("watchdog, action pause", ((WATCHDOG, 1), (3, 3)), RUNNING, ("watchdog_pause",)),
    Situation("watchdog, action reset", ((WATCHDOG, 2), R), RUNNING, ("rebooted",)),
    Situation("watchdog, action poweroff", ((WATCHDOG, 3), (5, 5)), STOPPED, ("watchdog_poweroff",)),
    Situation("watchdog, action shutdown", ((WATCHDOG, 4), (6, 1), (5, 0)), STOPPED, ()),
    Situation("I/O error, policy stop", (E, E, (3, 2)), RUNNING, ("io_error_pause",)),
    Situation("full disk, policy enospace", (E, E, (3, 2)), RUNNING, ("io_error_pause",)),
    Situation("full disk, resumed after making room", (E, E, (3, 2), (4, 0)), RUNNING, ("io_error_pause",)),
    Situation("I/O error, policy report", ((IO_ERROR, 2), (IO_ERROR, 2)), RUNNING, ()),
    Situation("suspend and resume", ((3, 0), (4, 0)), RUNNING, ()),
    Situation("suspend to RAM by the guest", ((7, 0),), RUNNING, ()),
    Situation("managed save", ((3, 0), (5, 4)), STOPPED, ()),
    Situation("managed save and start again", ((3, 0), (5, 4), (2, 2), (4, 2)), RUNNING, ()),
    Situation("a start that fails", (C,), RUNNING, ("control_error",)),
    Situation("QEMU hangs", (), RUNNING, ()),
    Situation("migration away", ((3, 1), (5, 3)), STOPPED, ()),
    Situation("back to a snapshot", ((5, 6), (2, 3)), RUNNING, ()),
    Situation("crash dump", ((5, 2),), STOPPED, ("guest_crash",)),
    Situation("defined and undefined", ((0, 0), (0, 1), (1, 0)), RUNNING, ()),
    Situation("migration to this host", ((5, 0), (2, 1), (0, 0), (4, 1)), RUNNING, ()),
    Situation("migration to this host, its new QEMU killed", ((5, 0), (2, 1), (5, 5)), STOPPED, ()),
    Situation("migration away, its old QEMU killed before the end", ((5, 5),), STOPPED, ("process_crash",)),
    Situation("crash after a migration to this host", ((5, 0), (2, 1), (4, 1), (5, 5)), STOPPED, ("process_crash",)),
    Situation("details that later versions of libvirt may add", ((3, 99), (4, 99), (6, 99), (99, 0)), RUNNING, ()),
    Situation("a stop that later versions of libvirt may add", ((5, 99),), STOPPED, ()),
)


def event(number: int | str, detail: int, at: float = 100.0, text: str = "") -> DomainEvent:
    if isinstance(number, str):
        return DomainEvent(1, at, number, "u", "vm", 0, detail, text)
    return DomainEvent(1, at, LIFECYCLE, "u", "vm", number, detail, text)


def play(events: list[DomainEvent]) -> tuple[str, list[Judgement]]:
    """The state at the end, and what each event meant, of a guest that ran before."""
    state, context, found = RUNNING, Context(), []
    for one in events:
        judgement = judge(one, context, state)
        context, state = remember(one, context), judgement.becomes or state
        found.append(judgement)
    return state, found


def apart(*events: tuple[int | str, int], gap_s: float = 0.04) -> list[DomainEvent]:
    return [event(number, detail, 100.0 + gap_s * place) for place, (number, detail) in enumerate(events)]


def faults(found: list[Judgement]) -> tuple[str, ...]:
    return tuple(judgement.fault for judgement in found if judgement.fault)


@pytest.mark.parametrize("situation", RECORDED, ids=lambda situation: situation.name)
def test_each_recorded_situation_is_understood(situation: Situation) -> None:
    state, found = play(apart(*situation.events))
    assert (state, faults(found)) == (situation.state, situation.faults)


@pytest.mark.parametrize("situation", RECORDED, ids=lambda situation: situation.name)
def test_every_fault_and_every_change_is_worth_a_sentence(situation: Situation) -> None:
    for judgement in play(apart(*situation.events))[1]:
        assert judgement.text or not judgement.fault
        assert judgement.text or judgement.becomes in ("", RUNNING)


def test_every_kind_that_can_be_reported_has_its_numbers_and_can_occur() -> None:
    assert set(FAULTS) == set(KINDS) == {fault for situation in RECORDED for fault in situation.faults}
    assert {FAULTS[kind] for kind in DEFAULT_KINDS} == {("0", "5", "5"), ("0", "5", "2")}
    others = [FAULTS[kind] for kind in KINDS if kind not in DEFAULT_KINDS]
    assert not {("0", "5", "5"), ("0", "5", "2")} & set(others)


def test_a_crash_long_after_the_watchdog_fired_is_a_crash() -> None:
    assert faults(play(apart((WATCHDOG, 3), (5, 5), gap_s=10.0))[1]) == ("watchdog_poweroff",)
    assert faults(play(apart((WATCHDOG, 3), (5, 5), gap_s=10.1))[1]) == ("process_crash",)


def test_a_watchdog_that_only_reset_the_guest_did_not_power_it_off() -> None:
    assert faults(play(apart((WATCHDOG, 2), R, (5, 5)))[1]) == ("rebooted", "process_crash")


def test_two_reboots_that_are_apart_are_two() -> None:
    assert faults(play(apart(R, R, gap_s=0.5))[1]) == ("rebooted", "rebooted")


def test_the_end_of_a_run_ends_what_was_remembered_of_it() -> None:
    events = apart((6, 2), (WATCHDOG, 3), (5, 5), (4, 0), (2, 0), (5, 5))
    assert faults(play(events)[1]) == ("watchdog_poweroff", "process_crash")


def test_a_quit_that_did_not_come_through_libvirt_is_told_from_a_power_off() -> None:
    (_, told_to_quit), (_, powered_off) = play(apart((6, 2), (5, 0)))[1], play(apart((6, 1), (5, 0)))[1]
    assert "told to quit" in told_to_quit.text and told_to_quit.level == logging.WARNING
    assert powered_off.text == "shut down" and powered_off.level == logging.INFO


def test_a_pause_names_the_disk_and_the_reason() -> None:
    found = play([event(IO_ERROR, 1, text="virtio-disk1 /a/b enospc"), event(IO_ERROR, 1), event(3, 2)])[1]
    assert "virtio-disk1 /a/b enospc" in found[-1].text


def test_an_error_of_each_request_is_one_line_per_reason_until_the_guest_is_resumed() -> None:
    error, other = event(IO_ERROR, 2, text="vdb EIO"), event(IO_ERROR, 2, text="vdc EIO")
    found = play([error, error, error, other, other, event(4, 0), other])[1]
    warned = [judgement.level == logging.WARNING for judgement in found]
    assert warned == [True, False, False, True, False, False, True]


def test_a_guest_on_its_way_here_is_not_ours_to_lose() -> None:
    assert judge(event(5, 5), Context(), INCOMING).fault == ""
