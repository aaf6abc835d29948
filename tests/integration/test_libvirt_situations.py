"""What libvirt says of everything that can happen to a guest, from the real libvirt and the real QEMU.

Every verdict of the instancemonitor rests on these sequences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from instancemonitor.model import CONTROL_ERROR, IO_ERROR, LIFECYCLE, WATCHDOG, DomainEvent, Message, Snapshot
from tests.lab.libvirt_stage import Stage, event_loop, stage
from tests.lab.situations import (
    CRASHED_PANICKED,
    REBOOTED,
    RESTORED,
    RESUMED,
    SHUTDOWN_GUEST,
    SHUTDOWN_HOST,
    SITUATIONS,
    STOPPED_CRASHED,
    STOPPED_DESTROYED,
    STOPPED_FAILED,
    STOPPED_MIGRATED,
    STOPPED_SAVED,
    STOPPED_SHUTDOWN,
    SUSPENDED,
    SUSPENDED_IO_ERROR,
    SUSPENDED_WATCHDOG,
    Sign,
    play,
    play_failed_start,
    play_migration,
    sign,
)

pytestmark = pytest.mark.needs_libvirt

# Situation: the events of it, and state and reason afterwards.
EXPECTED: dict[str, tuple[list[Sign], tuple[int, int]]] = {
    "kill -9": ([STOPPED_FAILED], (5, 3)),
    "QEMU crashes": ([STOPPED_FAILED], (5, 3)),
    "QEMU is told to end": ([SHUTDOWN_HOST, STOPPED_SHUTDOWN], (5, 1)),
    "destroy": ([SHUTDOWN_HOST, STOPPED_DESTROYED], (5, 2)),
    "shutdown": ([SHUTDOWN_GUEST, STOPPED_SHUTDOWN], (5, 1)),
    "the guest powers off": ([SHUTDOWN_GUEST, STOPPED_SHUTDOWN], (5, 1)),
    "the guest reboots": ([REBOOTED], (1, 1)),
    "the guest reboots, which is to end it": ([SHUTDOWN_GUEST, STOPPED_SHUTDOWN], (5, 1)),
    "reset": ([REBOOTED], (1, 1)),
    "panic, destroy": ([CRASHED_PANICKED, STOPPED_CRASHED], (5, 3)),
    "panic, restart": ([CRASHED_PANICKED, REBOOTED], (1, 9)),
    "panic, preserve": ([CRASHED_PANICKED], (6, 1)),
    "watchdog, none": ([(WATCHDOG, 0, 0)], (1, 1)),
    "watchdog, pause": ([(WATCHDOG, 0, 1), SUSPENDED_WATCHDOG], (3, 6)),
    "watchdog, reset": ([(WATCHDOG, 0, 2), REBOOTED], (1, 1)),
    "watchdog, poweroff": ([(WATCHDOG, 0, 3), STOPPED_FAILED], (5, 3)),
    "watchdog, shutdown": ([(WATCHDOG, 0, 4), SHUTDOWN_GUEST, STOPPED_SHUTDOWN], (5, 1)),
    "suspend and resume": ([SUSPENDED, RESUMED], (1, 5)),
    "managed save and restore": ([SUSPENDED, STOPPED_SAVED, RESTORED, (LIFECYCLE, 4, 2)], (1, 3)),
    "I/O error, stop": ([(IO_ERROR, 0, 1), SUSPENDED_IO_ERROR], (3, 5)),
    "I/O error, report": ([(IO_ERROR, 0, 2)], (1, 1)),
}


@pytest.fixture(scope="module", autouse=True)
def loop() -> Iterator[None]:
    with event_loop():
        yield


@pytest.fixture(scope="module")
def here(loop: None) -> Iterator[Stage]:
    with stage() as made:
        yield made


@pytest.fixture(scope="module")
def there(loop: None) -> Iterator[Stage]:
    with stage() as made:
        yield made


def signs(messages: Sequence[Message]) -> list[Sign]:
    """What happened, without what comes with any end or not, and with one reboot for several in a row."""
    found: list[Sign] = []
    for item in messages:
        if isinstance(item, DomainEvent) and item.kind != CONTROL_ERROR:
            found += [sign(item)] if not (found and found[-1] == sign(item) == REBOOTED) else []
    return found


def without_pauses(found: Sequence[Sign]) -> list[Sign]:
    """Whether a panic is seen to pause the guest on the way is a matter of who is faster."""
    kept = [item for item in found if item not in (SUSPENDED, RESUMED)]
    return [
        item for number, item in enumerate(kept) if not (item == REBOOTED and kept[number - 1 : number] == [REBOOTED])
    ]


def end(messages: Sequence[Message]) -> tuple[int, int] | None:
    """State and reason of the guest at the end; None: it is no longer there."""
    last = messages[-1]
    assert isinstance(last, Snapshot)
    return (last.domains[0].state, last.domains[0].reason) if last.domains else None


def test_every_situation_has_its_expectation() -> None:
    assert SITUATIONS.keys() == EXPECTED.keys()


@pytest.mark.parametrize("name", SITUATIONS)
def test_what_libvirt_says(here: Stage, name: str) -> None:
    messages = play(here, name)
    events, state = EXPECTED[name]
    found = without_pauses(signs(messages)) if name.startswith("panic") else signs(messages)
    assert (found, end(messages)) == (events, state)
    assert all(item.ours for item in messages if isinstance(item, DomainEvent))


def test_a_start_that_fails_is_a_control_error_and_nothing_else(here: Stage) -> None:
    messages = play_failed_start(here)
    events = [item for item in messages if isinstance(item, DomainEvent)]
    assert {sign(event) for event in events} == {(CONTROL_ERROR, 0, 0)}
    assert end(messages) == (5, 6)


def test_a_live_migration_ends_the_guest_here_as_migrated(here: Stage, there: Stage) -> None:
    migration = play_migration(here, there)
    assert signs(migration.source) == [(LIFECYCLE, 3, 1), STOPPED_MIGRATED]
    assert end(migration.source) is None
    assert signs(migration.destination) == [(LIFECYCLE, 2, 1), (LIFECYCLE, 0, 0), (LIFECYCLE, 4, 1)]
    assert end(migration.destination) == (1, 2)


def test_a_migration_that_fails_at_the_destination_looks_like_a_crash_there_before_the_guest_ever_ran(
    here: Stage, there: Stage
) -> None:
    migration = play_migration(here, there, killed=there)
    assert signs(migration.source) == []
    assert end(migration.source) == (1, 1)
    assert signs(migration.destination) == [(LIFECYCLE, 2, 1), STOPPED_FAILED]
    assert end(migration.destination) is None


def test_a_guest_that_dies_while_it_migrates_is_a_crash_at_the_source(here: Stage, there: Stage) -> None:
    migration = play_migration(here, there, killed=here)
    assert signs(migration.source) == [STOPPED_FAILED]
    assert end(migration.source) == (5, 3)
    assert end(migration.destination) is None
