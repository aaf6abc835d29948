"""Watching real processes: killed, restarted by real commands, hung, mentioned by others."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from masakari.common.clock import Clock
from processmonitor.commands import Commands
from processmonitor.entry import Entry
from processmonitor.jobs import Jobs
from processmonitor.outages import Outages
from processmonitor.procfs import Pidfds, Process, Processes
from processmonitor.supervise import Rules, Verdict
from processmonitor.watch import Watch

HURRY = 10
"""How much faster than real the waits of the watch are."""


class FastClock(Clock):
    def monotonic(self) -> float:
        return super().monotonic() * HURRY


class FastPidfds(Pidfds):
    def __init__(self, processes: Processes) -> None:
        super().__init__(processes)
        self.held: set[int] = set()

    def watch(self, process: Process) -> bool:
        watched = super().watch(process)
        self.held.add(process.pid)
        return watched

    def wait(self, seconds: float) -> set[Process]:
        return super().wait(seconds / HURRY)


def until(what: Callable[[], Any], within_s: float = 20.0) -> Any:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.002)
    raise AssertionError(f"not within {within_s} s")


class Lab:
    """Daemons, which are copies of sleep with names of their own, and a monitor for them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spool: dict[str, Mapping[str, Any]] = {}
        self.noticed: list[float] = []
        self.rules = Rules(retry=2, reboot_interval_s=2)
        self.thread: threading.Thread | None = None

    def path(self, name: str) -> str:
        path = self.folder / name
        if not path.exists():
            shutil.copy(shutil.which("sleep") or "/bin/sleep", path)
        return str(path)

    def command(self, name: str) -> str:
        """Starts the daemon in the background; init adopts it."""
        return f"{self.path(name)} 1000 &"

    def entry(self, name: str, restart: str | None = None, **changes: str) -> Entry:
        line = self.command(name)
        fields = {"start": line, "restart": line if restart is None else restart, "on_failure": "disable"} | changes
        hooks = dict.fromkeys(("pre_start", "post_start", "pre_restart", "post_restart"), "")
        return Entry(id=name, name=self.path(name), run_as_root=True, where="list", **(hooks | fields))

    def launch(self, name: str) -> int:
        """By hand."""
        line = f"{self.path(name)} 1000 >/dev/null 2>&1 & echo $!"
        pid = int(subprocess.run(["sh", "-c", line], check=True, stdout=subprocess.PIPE).stdout)
        until(lambda: pid in self.pids(name))
        return pid

    def pids(self, name: str) -> list[int]:
        return [process.pid for process in Processes().matching([self.path(name)])[self.path(name)]]

    def kill(self, name: str) -> float:
        """When it was killed."""
        at = time.monotonic()
        for pid in self.pids(name):
            os.kill(pid, signal.SIGKILL)
        return at

    def open(self, *entries: Entry) -> Watch:
        processes = Processes()
        self.pidfds = FastPidfds(processes)
        outages = Outages(str(self.folder / "outages.json"), "boot", self._report, self._put)
        self.jobs = Jobs(
            Commands(Clock(), finish_within_s=0.2).run, lambda _: Verdict.UNKNOWN, self._is_stopping, processes.any_runs
        )
        watch = Watch(entries, lambda: self.rules, processes, self.pidfds, self.jobs, outages, FastClock())
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=watch.run, args=(self.stopping,), daemon=True)
        self.thread.start()
        until(lambda: watch.status() != "starting")
        self.watch = watch
        return watch

    def close(self) -> None:
        if self.thread:
            self.stopping.set()
            self.watch.wake()
            self.thread.join(10)
            assert not self.thread.is_alive()
            self.thread = None

    def _is_stopping(self) -> bool:
        self.noticed.append(time.monotonic())
        return False

    def _report(self, process: str, state: str, on_failure: str, at: float, reason: str) -> Mapping[str, Any]:
        return {"id": f"{state} {at}", "told": (Path(process).name, state, on_failure)}

    def _put(self, body: Mapping[str, Any]) -> None:
        self.spool.setdefault(body["id"], body["told"])

    def reports(self) -> list[Any]:
        return list(self.spool.values())


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    lab.close()
    for process in Processes(own_pid=0).matching([str(tmp_path)])[str(tmp_path)]:
        os.kill(process.pid, signal.SIGKILL)


def test_a_killed_process_is_noticed_within_milliseconds_and_runs_again_within_a_second(lab: Lab) -> None:
    lab.rules = Rules(retry=1000, reboot_interval_s=0)
    lab.open(lab.entry("agent"))
    delays = []
    for _ in range(11):
        until(lambda: lab.pidfds.held.intersection(lab.pids("agent")))
        lab.noticed.clear()
        killed_at = lab.kill("agent")
        until(lambda: lab.noticed)
        delays.append(lab.noticed[0] - killed_at)
        until(lambda: lab.pids("agent"), 1.0)
    # The fastest one: on a busy machine the others measure that. A look every few seconds would never be so fast.
    assert min(delays) < 0.02
    assert lab.reports() == []


def test_a_process_that_runs_already_is_left_alone(lab: Lab) -> None:
    pid = lab.launch("agent")
    lab.open(lab.entry("agent"), lab.entry("other"))
    until(lambda: lab.pids("other"))
    assert lab.pids("agent") == [pid]


def test_one_that_starts_while_its_hook_runs_is_not_started_again(lab: Lab) -> None:
    began, go = lab.folder / "began", lab.folder / "go"
    hook = f"touch {began}; while [ ! -e {go} ]; do sleep 0.02; done"
    lab.open(lab.entry("agent", pre_start=hook, start=f"touch {lab.folder}/started"))
    until(began.exists)
    pid = lab.launch("agent")
    go.touch()
    until(lambda: not lab.jobs.under_way())
    assert lab.pids("agent") == [pid]
    assert not (lab.folder / "started").exists()


def test_a_start_that_hangs_holds_up_no_other(lab: Lab) -> None:
    lab.open(lab.entry("stuck", start=f"{lab.path('hanging')} 1000"), lab.entry("agent"))
    until(lambda: lab.pids("agent"))
    assert lab.pids("stuck") == []


def test_restarts_in_vain_are_one_report_and_a_start_by_hand_is_another(lab: Lab) -> None:
    lab.launch("agent")
    lab.launch("other")
    tried = lab.folder / "tried"
    lab.open(lab.entry("agent", f"echo x >> {tried}; false"), lab.entry("other"))
    lab.kill("agent")
    until(lambda: lab.reports())
    lab.kill("other")
    until(lambda: lab.pids("other"))
    assert lab.reports() == [("agent", "down", "disable")]
    assert tried.read_text().count("x") == 2
    until(lambda: "down: " in lab.watch.status())
    lab.launch("agent")
    until(lambda: len(lab.reports()) == 2)
    assert lab.reports()[1] == ("agent", "up", "disable")
    until(lambda: lab.watch.status() == "2 processes watched")


def test_an_outage_is_reported_once_though_the_monitor_is_restarted_in_the_middle(lab: Lab) -> None:
    lab.launch("agent")
    entry = lab.entry("agent", "false", start="")
    lab.open(entry)
    lab.kill("agent")
    until(lambda: lab.reports())
    lab.close()
    lab.open(entry, lab.entry("other"))
    until(lambda: lab.pids("other"))
    lab.close()
    lab.launch("agent")
    lab.open(entry)
    until(lambda: len(lab.reports()) == 2)
    assert [state for _, state, _ in lab.reports()] == ["down", "up"]


def test_a_monitor_restarted_in_the_middle_of_a_restart_goes_on_with_it(lab: Lab) -> None:
    lab.launch("agent")
    lab.open(lab.entry("agent", "false"))
    lab.kill("agent")
    until(lambda: lab.noticed)
    lab.close()
    assert lab.pids("agent") == []
    lab.open(lab.entry("agent", "false"))
    until(lambda: lab.pids("agent"))
    assert lab.reports() == []


def test_a_restart_that_hangs_holds_up_no_other_process(lab: Lab) -> None:
    lab.rules = Rules(retry=10, reboot_interval_s=0)
    lab.launch("stuck")
    lab.launch("agent")
    lab.open(lab.entry("stuck", f"{lab.path('hanging')} 1000"), lab.entry("agent"))
    lab.kill("stuck")
    until(lambda: Processes(own_pid=0).matching([lab.path("hanging")])[lab.path("hanging")])
    for _ in range(3):
        until(lambda: lab.pidfds.held.intersection(lab.pids("agent")))
        lab.kill("agent")
        until(lambda: lab.pids("agent"), 1.0)


def test_who_mentions_the_process_is_not_taken_for_it(lab: Lab) -> None:
    lab.launch("agent")
    path = lab.path("agent")
    mentions = [
        subprocess.Popen(["tail", "-f", path], stdout=subprocess.DEVNULL),
        subprocess.Popen(["sh", "-c", f"read never; echo {path}"], stdin=subprocess.PIPE),
    ]
    try:
        # What this process starts is never looked at: so as if another had started them.
        assert len(Processes(own_pid=0).matching([path])[path]) == 1
        lab.open(lab.entry("agent"))
        lab.kill("agent")
        until(lambda: lab.pids("agent"), 1.0)
    finally:
        for process in mentions:
            process.kill()
            process.wait()


def test_a_zombie_does_not_count_as_running(lab: Lab) -> None:
    path = lab.path("agent")
    # A shell that becomes another program does not know of its child, and never reaps it.
    parent = subprocess.Popen(["sh", "-c", f"{path} 1000 & exec tail -f /dev/null"])
    try:
        processes = Processes(own_pid=0)
        until(lambda: processes.matching([path])[path])
        zombie = processes.matching([path])[path][0]
        os.kill(zombie.pid, signal.SIGKILL)
        until(lambda: not processes.runs(zombie))
        assert processes.matching([path])[path] == []
        assert not Pidfds(processes).watch(zombie)
    finally:
        parent.kill()
        parent.wait()


def test_a_pid_that_belongs_to_another_process_by_now_is_not_held(lab: Lab) -> None:
    pid = lab.launch("agent")
    processes = Processes()
    process = processes.matching([lab.path("agent")])[lab.path("agent")][0]
    pidfds = Pidfds(processes)
    assert not pidfds.watch(Process(pid, process.started - 1))
    assert pidfds.watch(process)
    os.kill(pid, signal.SIGKILL)
    assert pidfds.wait(10) == {process}
    assert not pidfds.watch(process)


def test_a_daemon_of_several_processes_is_restarted_when_the_last_one_is_gone(lab: Lab) -> None:
    first, second = lab.launch("agent"), lab.launch("agent")
    lab.open(lab.entry("agent"), lab.entry("other"))
    until(lambda: lab.pids("other"))
    os.kill(first, signal.SIGKILL)
    until(lambda: lab.pids("agent") == [second])
    lab.kill("other")
    until(lambda: lab.pids("other"))
    assert lab.pids("agent") == [second]
    os.kill(second, signal.SIGKILL)
    until(lambda: lab.pids("agent"), 1.0)
