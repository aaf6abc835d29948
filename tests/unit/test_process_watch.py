"""The watching thread, turn by turn, on a host that is made up: no real processes, no real time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from masakari.common.clock import Clock
from masakari.common.errors import Unavailable
from processmonitor.commands import Result
from processmonitor.entry import Entry
from processmonitor.jobs import Jobs
from processmonitor.outages import Outages
from processmonitor.procfs import Process
from processmonitor.supervise import Rules, Verdict
from processmonitor.watch import Watch

OK = Result(True, "", "", 0.1)
BAD = Result(False, "it ended with 1", "", 0.1)


def entry(name: str, **changes: Any) -> Entry:
    made = Entry(name, name, f"start {name}", f"restart {name}", "", "", "", "", True, "disable", f"list:{name}")
    return replace(made, **changes)


class Host(Clock):
    """Its processes, by name, and its clock, which moves when the watch waits."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.running: dict[str, list[Process]] = {}
        self.units: dict[str, str] = {}
        self.held: set[Process] = set()
        self.without_pidfd = False
        self.looks: list[set[str]] = []
        self.broken = ""
        self.woken = threading.Event()
        self.pids = 100

    def now(self) -> float:
        return 1.7e9 + self.time

    def monotonic(self) -> float:
        return self.time

    def run(self, *names: str) -> Process:
        self.pids += 1
        process = Process(self.pids, self.pids)
        for name in names:
            self.running.setdefault(name, []).append(process)
        return process

    def kill(self, name: str) -> None:
        for process in self.running.pop(name):
            for others in self.running.values():
                if process in others:
                    others.remove(process)

    def matching(self, keys: Collection[str]) -> dict[str, list[Process]]:
        if self.broken:
            raise Unavailable(self.broken)
        self.looks.append(set(keys))
        return {key: list(self.running.get(key, [])) for key in keys}

    def runs(self, process: Process) -> bool:
        return any(process in processes for processes in self.running.values())

    def unit(self, process: Process) -> str:
        return next((self.units.get(name, "") for name, found in self.running.items() if process in found), "")

    def watch(self, process: Process) -> bool:
        self.held.add(process)
        return True

    def forget(self, process: Process) -> None:
        self.held.discard(process)

    def unwatched(self) -> Collection[Process]:
        return frozenset(self.held) if self.without_pidfd else frozenset()

    def wait(self, seconds: float) -> set[Process]:
        ended = set() if self.without_pidfd else {process for process in self.held if not self.runs(process)}
        if not ended and not self.woken.is_set():
            self.time += seconds
        self.woken.clear()
        self.held -= ended
        return ended

    def wake(self) -> None:
        self.woken.set()


class Work:
    """Jobs that stay open until the test answers them."""

    def __init__(self) -> None:
        self.open: list[tuple[str, str, Any]] = []

    def start(self, entries: Any, timeout_s: float, stopping: threading.Event, answered: Any) -> None:
        self.open.extend(("start", entry.name, answered) for entry in entries)

    def restart(self, entry: Entry, timeout_s: float, stopping: threading.Event, answered: Any) -> None:
        self.open.append(("restart", entry.name, answered))

    def ask(self, name: str, unit: str, answered: Any) -> None:
        self.open.append((f"ask {unit}".strip(), name, answered))

    def asked(self) -> list[tuple[str, str]]:
        return [(what, name) for what, name, _ in self.open]

    def answer(self, what: str, name: str, answer: Result | Verdict) -> None:
        job = next(job for job in self.open if job[:2] == (what, name))
        self.open.remove(job)
        job[2](name, answer)


class Lab:
    def __init__(self, path: Path) -> None:
        self.host = Host()
        self.work = Work()
        self.rules = Rules()
        self.path = path
        self.reports: list[tuple[str, str, str]] = []
        self.beats = 0

    def open(self, *entries: Entry) -> Watch:
        """A monitor, started anew."""
        outages = Outages(
            str(self.path / "outages.json"), "boot", self._make, lambda body: self.reports.append(body["told"])
        )
        self.watch = Watch(entries, lambda: self.rules, self.host, self.host, self.work, outages, self.host, self._beat)
        self.watch.turn()
        return self.watch

    def _make(self, name: str, state: str, on_failure: str, at: float, reason: str) -> Mapping[str, Any]:
        return {"told": [name, state, reason]}

    def _beat(self) -> None:
        self.beats += 1

    def told(self) -> list[tuple[str, str]]:
        return [(report[0], report[1]) for report in self.reports]

    def turns(self, seconds: float) -> None:
        end = self.host.time + seconds
        for _ in range(10000):
            self.watch.turn()
            if self.host.time >= end:
                return
        raise AssertionError("it spins")

    def take_down(self, name: str) -> None:
        """Kill it and let all restarts fail."""
        self.host.kill(name)
        for _ in range(self.rules.retry):
            self.watch.turn()
            self.work.answer("ask", name, Verdict.FAILED)
            self.watch.turn()
            self.work.answer("restart", name, BAD)
            self.turns(5.1)
        self.work.answer("ask", name, Verdict.FAILED)
        self.watch.turn()


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_what_runs_is_left_alone_and_what_does_not_is_started(lab: Lab) -> None:
    lab.host.run("a")
    lab.open(entry("a"), entry("b"), entry("c"))
    assert lab.work.asked() == [("start", "b"), ("start", "c")]


def test_a_death_is_seen_at_once_and_restarted_while_another_restart_hangs(lab: Lab) -> None:
    lab.host.run("a")
    lab.host.run("b")
    lab.open(entry("a"), entry("b"))
    for name in ("a", "b"):
        at = lab.host.time
        lab.host.kill(name)
        lab.watch.turn()
        lab.work.answer("ask", name, Verdict.FAILED)
        lab.watch.turn()
        assert lab.host.time == at
    assert lab.work.asked() == [("restart", "a"), ("restart", "b")]


def test_one_of_several_processes_may_die(lab: Lab) -> None:
    for _ in range(20):
        lab.host.run("a")
    lab.open(entry("a"))
    assert len(lab.host.held) == 8
    del lab.host.running["a"][:19]
    lab.turns(10)
    assert lab.work.asked() == []
    lab.host.kill("a")
    lab.watch.turn()
    assert lab.work.asked() == [("ask", "a")]


def test_while_all_is_well_processes_are_looked_for_once_a_minute(lab: Lab) -> None:
    for number in range(50):
        lab.host.run(f"p{number}")
    lab.open(*(entry(f"p{number}") for number in range(50)))
    lab.turns(1)
    lab.host.looks.clear()
    beats = lab.beats
    lab.turns(600)
    assert 10 <= len(lab.host.looks) <= 11
    assert lab.beats - beats >= 120


def test_without_pidfds_a_death_is_seen_at_the_next_look(lab: Lab) -> None:
    lab.host.without_pidfd = True
    lab.host.run("a")
    lab.open(entry("a"))
    lab.turns(100)
    lab.host.kill("a")
    at = lab.host.time
    lab.watch.turn()
    assert lab.work.asked() == [("ask", "a")]
    assert lab.host.time - at <= 5


def test_a_process_that_becomes_another_program_is_missed_soon(lab: Lab) -> None:
    process = lab.host.run("a", "other")
    lab.open(entry("a"))
    lab.host.running["a"].remove(process)
    lab.turns(70)
    assert lab.work.asked() == [("ask", "a")]


def test_one_that_has_no_name_for_a_moment_is_not_missed(lab: Lab) -> None:
    process = lab.host.run("a", "other")
    lab.open(entry("a"))
    lab.host.running["a"].remove(process)
    while not lab.host.looks or len(lab.host.looks) < 3:
        lab.watch.turn()
    lab.host.running["a"].append(process)
    lab.turns(200)
    assert lab.work.asked() == []


def test_the_unit_of_a_dead_process_is_asked_about_unless_switched_off(lab: Lab) -> None:
    lab.host.units["a"] = "a.service"
    lab.host.run("a")
    lab.open(entry("a"))
    lab.host.kill("a")
    lab.watch.turn()
    assert lab.work.asked() == [("ask a.service", "a")]
    lab.rules = replace(lab.rules, planned_stops=False)
    lab.host.run("a")
    lab.turns(120)
    lab.work.open.clear()
    lab.host.kill("a")
    lab.watch.turn()
    assert lab.work.asked() == [("ask", "a")]


def test_a_planned_stop_survives_a_restart_of_the_monitor_quietly(lab: Lab) -> None:
    lab.host.units["a"] = "a.service"
    lab.host.run("a")
    lab.open(entry("a"))
    lab.host.kill("a")
    lab.watch.turn()
    lab.work.answer("ask a.service", "a", Verdict.STOPPED)
    lab.watch.turn()
    assert "stopped by an operator: a since" in lab.watch.status()
    lab.open(entry("a"))
    assert lab.work.asked() == [("ask a.service", "a")]
    lab.work.answer("ask a.service", "a", Verdict.STOPPED)
    lab.turns(50)
    assert lab.work.asked() == []
    lab.host.run("a")
    lab.turns(70)
    assert lab.watch.status() == "1 processes watched"
    assert lab.told() == []


def test_an_outage_is_reported_once_over_restarts_of_the_monitor_and_so_is_its_end(lab: Lab) -> None:
    lab.host.run("a")
    lab.open(entry("a"))
    lab.take_down("a")
    assert "down: a since 20" in lab.watch.status()
    for _ in range(2):
        lab.work.open.clear()
        lab.open(entry("a"))
        lab.turns(100)
        assert lab.work.asked() == [("start", "a")]
    assert lab.told() == [("a", "down")]
    assert lab.reports[0][2] == "not running after 3 restarts: it ended with 1"
    lab.host.run("a")
    lab.turns(12)
    assert lab.told() == [("a", "down"), ("a", "up")]


def test_a_reload_keeps_what_is_known_and_uses_the_new_commands(lab: Lab) -> None:
    lab.host.run("a")
    lab.open(entry("a"))
    lab.take_down("a")
    lab.watch.reload([entry("a", id="7", restart="other"), entry("b")])
    lab.turns(1)
    assert lab.work.asked() == [("start", "b")]
    assert lab.told() == [("a", "down")]


def test_one_that_leaves_the_list_while_it_is_down_is_reported_as_up(lab: Lab) -> None:
    lab.host.run("a")
    lab.host.run("b")
    lab.open(entry("a"), entry("b"))
    lab.take_down("a")
    lab.watch.reload([entry("b")])
    lab.turns(1)
    assert lab.reports[-1][:2] == ["a", "up"]
    assert "no longer watched" in lab.reports[-1][2]
    assert lab.watch.status() == "1 processes watched"


def test_one_that_left_the_list_while_the_monitor_was_down_is_reported_as_up(lab: Lab) -> None:
    lab.host.run("a")
    lab.open(entry("a"))
    lab.take_down("a")
    lab.open(entry("b"))
    assert lab.told() == [("a", "down"), ("a", "up")]


def test_one_that_left_the_list_is_not_held_any_more(lab: Lab) -> None:
    lab.host.run("a", "b")
    lab.host.run("a")
    lab.open(entry("a"), entry("b"))
    lab.watch.reload([entry("b")])
    lab.turns(1)
    assert lab.host.held == set(lab.host.running["b"])


def test_an_answer_that_comes_too_late_is_not_taken_for_that_to_the_next_question(lab: Lab) -> None:
    lab.host.run("a")
    lab.open(entry("a"))
    lab.host.kill("a")
    lab.watch.turn()
    late = lab.work.open.pop()
    lab.host.run("a")
    lab.turns(61)
    lab.host.kill("a")
    lab.watch.turn()
    late[2]("a", Verdict.STOPPED)
    lab.turns(1)
    assert lab.watch.status() == "1 processes watched"
    lab.work.answer("ask", "a", Verdict.FAILED)
    lab.watch.turn()
    assert lab.work.asked() == [("restart", "a")]


def test_a_proc_that_cannot_be_read_is_said_and_is_no_outage(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    lab.host.run("a")
    lab.open(entry("a"))
    lab.host.broken = "/proc can't be read: Too many open files"
    lab.host.kill("a")
    lab.turns(100)
    assert lab.work.asked() == []
    assert "Too many open files" in lab.watch.status()
    assert caplog.text.count("Too many open files") == 1
    lab.host.broken = ""
    lab.turns(6)
    assert lab.work.asked() == [("ask", "a")]
    assert lab.watch.status() == "1 processes watched"


def test_nothing_is_started_before_proc_can_be_read(lab: Lab) -> None:
    lab.host.broken = "hidepid"
    lab.open(entry("a"))
    lab.turns(20)
    assert lab.work.asked() == []
    lab.host.broken = ""
    lab.turns(6)
    assert lab.work.asked() == [("start", "a")]


def test_a_name_that_stands_twice_in_the_list_is_watched_once_and_said_so(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    lab.open(entry("a"), entry("a", where="list:9"))
    assert "list:9" in caplog.text
    assert lab.work.asked() == [("start", "a")]


def test_equal_start_lines_run_once_and_in_the_order_of_the_list_with_hooks_around(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ran: list[str] = []
    answered: list[str] = []
    over = threading.Event()

    def run(line: str, **_: Any) -> Result:
        ran.append(line)
        return BAD if "pre" in line else OK

    def answer(name: str, result: Result) -> None:
        answered.append(f"{name} {result.ok}")
        if len(answered) == 4:
            over.set()

    entries = [
        entry("b", start="go", pre_start="pre b"),
        entry("a", start="start a", post_start="post a"),
        entry("c", start="go", post_start="post c"),
        entry("d", start=""),
    ]
    with caplog.at_level(logging.INFO):
        Jobs(run, lambda _: Verdict.UNKNOWN, lambda: False).start(entries, 1, threading.Event(), answer)
        assert over.wait(10)
    assert ran == ["pre b", "go", "post c", "start a", "post a"]
    assert sorted(answered) == ["a True", "b True", "c True", "d True"]
    assert "b, c: it ended with 1" in caplog.text
