"""The watching thread, turn by turn, on a host that is made up: no real processes, no real time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
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
        self.threads: list[Any] = []

    def start(self, entries: Any, timeout_s: float, stopping: threading.Event, answered: Any) -> None:
        self.open.extend(("start", entry.name, answered) for entry in entries)

    def restart(self, entry: Entry, timeout_s: float, stopping: threading.Event, answered: Any) -> None:
        self.open.append(("restart", entry.name, answered))

    def ask(self, name: str, unit: str, answered: Any) -> None:
        self.open.append((f"ask {unit}".strip(), name, answered))

    def asked(self) -> list[tuple[str, str]]:
        return [(what, name) for what, name, _ in self.open]

    def under_way(self) -> list[Any]:
        return self.threads

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


def test_a_sign_of_life_comes_every_ten_seconds_however_rarely_processes_are_looked_for(lab: Lab) -> None:
    lab.rules = Rules(check_interval_s=3600)
    lab.host.run("a")
    lab.open(entry("a"))
    for broken in ("", "hidepid"):
        lab.host.broken = broken
        beats = lab.beats
        lab.turns(600)
        assert lab.beats - beats >= 60


def test_a_first_turn_that_hangs_is_late_too(lab: Lab) -> None:
    class Hangs(Exception):
        pass

    def hang(seconds: float) -> set[Process]:
        raise Hangs

    watch = lab.open()
    beats = lab.beats
    lab.host.wait = hang  # type: ignore[method-assign]
    with pytest.raises(Hangs):
        watch.run(threading.Event())
    assert lab.beats == beats + 1


def test_what_is_still_under_way_at_the_end_is_waited_for_and_then_named(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    class Thread:
        def __init__(self, name: str, takes_s: float) -> None:
            self.name, self.over_at = name, lab.host.time + takes_s

        def join(self, timeout: float) -> None:
            lab.host.time = min(max(lab.host.time, self.over_at), lab.host.time + timeout)

        def is_alive(self) -> bool:
            return lab.host.time < self.over_at

    watch = lab.open()
    began = lab.host.time
    lab.work.threads = [Thread("start of a", 2), Thread("restart of b", 60), Thread("restart of c", 60)]
    stopping = threading.Event()
    stopping.set()
    watch.run(stopping)
    assert 3 < lab.host.time - began < 4
    assert "restart of b, restart of c still under way" in caplog.text
    assert "start of a" not in caplog.text


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
    assert lab.watch.status() == "1 process watched"
    assert lab.told() == []


def test_one_that_sleeps_until_its_socket_is_used_is_neither_restarted_nor_reported(lab: Lab) -> None:
    lab.host.units["a"] = "a.service"
    lab.host.run("a")
    lab.open(entry("a"))
    for _ in range(2):
        lab.host.kill("a")
        lab.watch.turn()
        lab.work.answer("ask a.service", "a", Verdict.SLEEPS)
        lab.watch.turn()
        assert "; sleeps until its socket is used: a since" in lab.watch.status()
        lab.turns(50)
        assert lab.work.asked() == []
        lab.host.run("a")
        lab.turns(70)
        lab.work.open.clear()
        assert lab.watch.status() == "1 process watched"
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
    assert lab.watch.status() == "1 process watched"


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
    assert lab.watch.status() == "1 process watched"
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
    assert lab.watch.status() == "1 process watched"


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


class Lines:
    """Runs lines: each is done when the test says so."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.running: set[str] = set()
        self.gates: dict[str, threading.Event] = {}
        self.answered: dict[str, bool] = {}
        self.news = threading.Condition()

    def jobs(self) -> Jobs:
        return Jobs(self.run, lambda _: Verdict.UNKNOWN, lambda: False, self.runs)

    def start(self, *entries: Entry) -> Jobs:
        jobs = self.jobs()
        jobs.start(entries, 1, threading.Event(), self.answer)
        return jobs

    def run(self, line: str, **_: Any) -> Result:
        self._tell(lambda: self.ran.append(line))
        assert self.gates.get(line, OVER).wait(10)
        return replace(BAD, output="no luck | hunter2") if "pre" in line else OK

    def runs(self, name: str) -> bool:
        if "blind" in self.running:
            raise Unavailable("hidepid")
        return name in self.running

    def answer(self, name: str, result: Result) -> None:
        self._tell(lambda: self.answered.update({name: result.ok}))

    def until(self, holds: Callable[[], object]) -> None:
        with self.news:
            assert self.news.wait_for(holds, 10), (self.ran, self.answered)

    def _tell(self, change: Callable[[], object]) -> None:
        with self.news:
            change()
            self.news.notify_all()


OVER = threading.Event()
OVER.set()


def test_equal_start_lines_run_once_with_the_hooks_of_all_around(caplog: pytest.LogCaptureFixture) -> None:
    lines = Lines()
    with caplog.at_level(logging.INFO):
        lines.start(
            entry("b", start="go", pre_start="pre b"),
            entry("a", start="start a", post_start="post a"),
            entry("c", start="go", post_start="post c"),
            entry("d", start=""),
        )
        lines.until(lambda: len(lines.answered) == 4)
    assert [line for line in lines.ran if line in ("pre b", "go", "post c")] == ["pre b", "go", "post c"]
    assert [line for line in lines.ran if line.endswith(" a")] == ["start a", "post a"]
    assert lines.answered == dict.fromkeys("abcd", True)
    assert "b, c: it ended with 1; it said: no luck" in caplog.text
    assert "hunter2" not in caplog.text


def test_a_start_command_that_hangs_holds_up_no_other() -> None:
    lines = Lines()
    lines.gates["start a"] = threading.Event()
    jobs = lines.start(entry("a"), entry("b"))
    lines.until(lambda: "b" in lines.answered)
    assert [thread.name for thread in jobs.under_way()] == ["start of a"]
    lines.gates["start a"].set()
    lines.until(lambda: "a" in lines.answered)


def test_what_runs_by_the_time_of_its_start_line_is_not_started_again() -> None:
    lines = Lines()
    lines.gates["pre b"] = threading.Event()
    lines.running = {"a", "c"}
    lines.start(
        entry("a", pre_start="pre a"),
        entry("b", pre_start="pre b"),
        entry("c", start="both"),
        entry("d", start="both"),
    )
    lines.until(lambda: len(lines.answered) == 3 and "pre b" in lines.ran)
    lines.running.add("b")
    lines.gates["pre b"].set()
    lines.until(lambda: len(lines.answered) == 4)
    assert sorted(lines.ran) == ["both", "pre b"]
    assert all(lines.answered.values())


def test_nothing_is_started_while_proc_cannot_be_read(caplog: pytest.LogCaptureFixture) -> None:
    lines = Lines()
    lines.running = {"blind"}
    lines.start(entry("a"))
    lines.until(lambda: "a" in lines.answered)
    assert (lines.ran, lines.answered) == ([], {"a": False})
    assert "a: not started: hidepid" in caplog.text


def test_the_log_has_no_arguments_of_a_command(caplog: pytest.LogCaptureFixture) -> None:
    lines = Lines()
    with caplog.at_level(logging.INFO):
        lines.start(entry("a", start="/opt/start --password hunter2"), entry("b", start="start x | tee hunter2"))
        lines.until(lambda: len(lines.answered) == 2)
    assert "a: `/opt/start` done in 0.1 s" in caplog.text
    assert "b: a shell line done in 0.1 s" in caplog.text
    assert "hunter2" not in caplog.text
