"""How often Nova is asked during an evacuation, and what one step leaves to the next."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from masakari.carry import FRESH_S, keep, kept
from masakari.config import Settings
from masakari.host_pace import FEW, FIRST_S, LOOK_ALL_S, MOST_S, pause_s, worth_a_look
from tests.simcloud.clock import VirtualClock

MANY = FEW + 20
NOW = 1000.0


class Nova:
    """Knows the evacuations of one host, and how often it was asked."""

    def __init__(self) -> None:
        self.migrations: list[SimpleNamespace] = []
        self.asked = 0

    def evacuations(self, source: str) -> list[SimpleNamespace]:
        self.asked += 1
        return self.migrations


def a_visit(nova: Any = None, *, epoch: int = 1, clock: Any = None, carried: Any = None, **recovery: Any) -> Any:
    facts: dict[str, Any] = {
        "id": 7,
        "epoch": epoch,
        "hostname": "compute1",
        "wakes": 0,
        "cancel_by": None,
        "data": {"first_sent_at": NOW - 3, "looked_at": NOW - 1, "looked_wakes": 0},
        **recovery,
    }
    world = SimpleNamespace(nova=nova, settings=Settings(), clock=clock, carried={} if carried is None else carried)
    return SimpleNamespace(recovery=SimpleNamespace(**facts), now=NOW, world=world)


def in_flight(many: int) -> list[Any]:
    return [
        SimpleNamespace(uuid=f"u{number}", action="evacuate", action_answer="accepted", migration_seen=5)
        for number in range(many)
    ]


def migration(number: int, status: str, row: int) -> SimpleNamespace:
    return SimpleNamespace(id=number, instance_uuid=f"u{row}", status=status)


def test_while_nova_is_at_all_of_them_one_call_is_all_that_is_asked() -> None:
    nova = Nova()
    nova.migrations = [migration(10 + row, "accepted", row) for row in range(MANY)]
    assert not worth_a_look(a_visit(nova), in_flight(MANY))
    assert nova.asked == 1


@pytest.mark.parametrize("status", ["done", "completed", "error", "failed"])
def test_when_all_have_ended_in_whatever_way_all_are_looked_at(status: str) -> None:
    nova = Nova()
    nova.migrations = [migration(10 + row, status, row) for row in range(MANY)]
    assert worth_a_look(a_visit(nova), in_flight(MANY))


def test_an_evacuation_from_before_the_request_says_nothing() -> None:
    nova = Nova()
    nova.migrations = [migration(5, "done", row) for row in range(MANY)]
    assert not worth_a_look(a_visit(nova), in_flight(MANY))


def test_a_full_window_is_refilled_when_some_of_it_have_ended() -> None:
    nova, settings = Nova(), Settings().recover_starter
    rows = in_flight(settings.semaphore_multiplicity)
    waiting = SimpleNamespace(uuid="w", action=None, action_answer=None, migration_seen=0)
    nova.migrations = [migration(100 + row, "done", row) for row in range(7)]
    assert not worth_a_look(a_visit(nova), [*rows, waiting])
    nova.migrations.append(migration(107, "done", 7))
    assert worth_a_look(a_visit(nova), [*rows, waiting])


@pytest.mark.parametrize(
    "change",
    [
        {"cancel_by": "ann"},
        {"wakes": 1},
        {"data": {"looked_at": NOW - LOOK_ALL_S - 0.1, "looked_wakes": 0}},
        {"data": {}},
    ],
    ids=["cancelled", "a report joined", "not looked for long", "never looked"],
)
def test_whatever_may_have_changed_is_looked_at_without_asking_first(change: dict[str, Any]) -> None:
    nova = Nova()
    assert worth_a_look(a_visit(nova, **change), in_flight(MANY))
    assert nova.asked == 0


def test_a_request_without_a_clear_answer_and_room_in_the_window_are_looked_at() -> None:
    rows = in_flight(MANY)
    rows[3].action_answer = "maybe"
    assert worth_a_look(a_visit(Nova()), rows)


def test_nobody_looks_before_anything_can_have_ended_and_never_seldom() -> None:
    assert pause_s(a_visit(data={"first_sent_at": NOW - 0.2}), 10) == pytest.approx(FIRST_S - 0.2)
    assert pause_s(a_visit(data={"first_sent_at": NOW - 500}), 500) == MOST_S


def test_what_a_step_leaves_can_be_had_once() -> None:
    clock = VirtualClock()
    visit = a_visit(clock=clock)
    keep(visit, clock.monotonic(), "seen")
    assert kept(visit, str) == "seen"
    assert kept(visit, str) is None


def test_what_is_old_or_of_another_claim_or_kind_is_not_used() -> None:
    clock, carried = VirtualClock(), {}
    first = a_visit(clock=clock, carried=carried)
    keep(first, clock.monotonic(), "seen")
    assert kept(a_visit(clock=clock, carried=carried, epoch=2), str) is None
    keep(first, clock.monotonic(), "seen")
    assert kept(first, int) is None
    keep(first, clock.monotonic(), "seen")
    clock.advance(FRESH_S + 0.01)
    assert kept(first, str) is None


def test_what_nobody_fetched_does_not_pile_up() -> None:
    clock, carried = VirtualClock(), {}
    for number in range(5):
        keep(a_visit(clock=clock, carried=carried, id=number), clock.monotonic(), "seen")
        clock.advance(FRESH_S + 0.01)
    assert len(carried) == 1
