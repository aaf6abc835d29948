"""The threads that read BMCs: one reading for each request, one request for each node at a time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence

import pytest

from hostmonitor.power import Bmc, Reading
from hostmonitor.prover import Prover, Read
from tests.lab.mariadb import until

AMPLE_S = 30.0
FIRST, SECOND = Bmc("10.0.0.1"), Bmc("10.0.0.2")


class FakeIpmi:
    """BMCs that say "off", once `answers` is set."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.answers.set()
        self.asked: list[tuple[tuple[str, ...], float]] = []

    def read_all(self, bmcs: Sequence[Bmc], timeout_s: float) -> list[Reading]:
        self.asked.append((tuple(bmc.address for bmc in bmcs), timeout_s))
        assert self.answers.wait(AMPLE_S)
        return [Reading(bmc, "off", 1.0) for bmc in bmcs]


class Running:
    """A prover with its threads."""

    def __init__(self, ipmi: FakeIpmi, count: int = 1) -> None:
        self.ipmi = ipmi
        self.inbox: queue.SimpleQueue[Read] = queue.SimpleQueue()
        self.stopping = threading.Event()
        self.prover = Prover(ipmi, self.inbox)  # type: ignore[arg-type]
        self.threads = [threading.Thread(target=self.prover.run, args=(self.stopping,)) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def until_asked(self, count: int) -> None:
        until(lambda: len(self.ipmi.asked) >= count, AMPLE_S, lambda: f"asked: {self.ipmi.asked}")

    def stop(self) -> None:
        """Stop the threads, and what they read."""
        self.stopping.set()
        self.prover.stop()
        self.ipmi.answers.set()
        for thread in self.threads:
            thread.join(AMPLE_S)


@pytest.fixture
def ipmi() -> FakeIpmi:
    return FakeIpmi()


@pytest.fixture
def running(ipmi: FakeIpmi) -> Iterator[Running]:
    started = Running(ipmi)
    yield started
    started.stop()


def test_all_bmcs_of_a_node_are_read_once_within_the_time_given(running: Running) -> None:
    running.prover.ask("node2", [FIRST, SECOND], 5.0)
    read = running.inbox.get(timeout=AMPLE_S)
    assert read == Read("node2", (Reading(FIRST, "off", 1.0), Reading(SECOND, "off", 1.0)))
    assert running.ipmi.asked == [(("10.0.0.1", "10.0.0.2"), 5.0)]


def test_a_node_that_is_being_read_is_not_read_twice(running: Running) -> None:
    running.ipmi.answers.clear()
    running.prover.ask("node2", [FIRST], 5.0)
    running.until_asked(1)
    running.prover.ask("node2", [FIRST], 5.0)
    running.prover.ask("node3", [SECOND], 5.0)
    running.prover.ask("node3", [SECOND], 5.0)
    running.ipmi.answers.set()
    assert [running.inbox.get(timeout=AMPLE_S).node for _ in range(2)] == ["node2", "node3"]
    running.prover.ask("node4", [FIRST], 5.0)
    assert running.inbox.get(timeout=AMPLE_S).node == "node4"
    assert len(running.ipmi.asked) == 3


def test_a_node_can_be_asked_about_again_as_soon_as_its_reading_is_told(running: Running) -> None:
    for count in range(1, 51):
        running.prover.ask("node2", [FIRST], 5.0)
        running.inbox.get(timeout=AMPLE_S)
        assert len(running.ipmi.asked) == count


def test_as_many_nodes_are_read_at_a_time_as_there_are_threads(ipmi: FakeIpmi) -> None:
    ipmi.answers.clear()
    running = Running(ipmi, count=2)
    try:
        for number in range(3):
            running.prover.ask(f"node{number}", [FIRST], 5.0)
        running.until_asked(2)
        assert running.inbox.empty()
        ipmi.answers.set()
        assert {running.inbox.get(timeout=AMPLE_S).node for _ in range(3)} == {"node0", "node1", "node2"}
    finally:
        running.stop()


def test_a_stop_ends_idle_threads(ipmi: FakeIpmi) -> None:
    running = Running(ipmi, count=3)
    running.stop()
    assert not any(thread.is_alive() for thread in running.threads)
    assert ipmi.asked == []


def test_a_reading_that_is_given_up_at_a_stop_is_not_told_as_one(ipmi: FakeIpmi) -> None:
    ipmi.answers.clear()
    running = Running(ipmi)
    running.prover.ask("node2", [FIRST], 5.0)
    running.until_asked(1)
    running.stop()
    assert running.inbox.empty()
    assert not any(thread.is_alive() for thread in running.threads)
