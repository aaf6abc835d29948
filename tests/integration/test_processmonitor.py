"""The processmonitor as it is installed: a real daemon, real processes, the real controller, a simulated cloud."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from masakari.config import Db
from tests.lab.mariadb import until
from tests.lab.processes import ROOT, CloudProcess, ControllerProcess
from tests.lab.processmonitor import ProcessMonitorProcess

HOST = "compute1"
WITHIN_S = 30.0
KILLS = 100
SEED = int(os.environ.get("SEED", "1"))

WORKER = "#!/bin/sh\nwhile :; do sleep 1000; done\n"
START = """#!/bin/sh
[ -e {folder}/broken-{name} ] && exit 3
setsid {folder}/{name} </dev/null >/dev/null 2>&1 &
"""


class Workers:
    """Processes that only run, each with a command that starts it and can be made to fail."""

    def __init__(self, folder: Path, many: int) -> None:
        self.folder = folder
        # Of one width: a key is a piece of the command line, and worker-1 would be one of worker-10.
        self.names = [f"worker-{number:02}" for number in range(many)]
        for name in self.names:
            self.script(name, WORKER)
            self.script(f"start-{name}", START.format(folder=folder, name=name))

    def script(self, name: str, text: str) -> None:
        """An executable file in the folder."""
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o755)

    def lines(self) -> list[str]:
        """proc.list for all of them."""
        return [
            f"{number},{self.folder}/{name},{self.folder}/start-{name},{self.folder}/start-{name},,,,"
            for number, name in enumerate(self.names, 1)
        ]

    def start(self, name: str) -> None:
        """As an operator does it."""
        subprocess.run([str(self.folder / f"start-{name}")], check=True)
        self.until_runs(name)

    def break_(self, name: str) -> None:
        """It can't be started any more."""
        (self.folder / f"broken-{name}").touch()

    def mend(self, name: str) -> None:
        """It can be started again."""
        (self.folder / f"broken-{name}").unlink()

    def pid(self, name: str) -> int:
        """Its process; 0: it does not run."""
        path = str(self.folder / name).encode()
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                try:
                    words = Path(entry.path, "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if words[:2] == [b"/bin/sh", path]:
                    return int(entry.name)
        return 0

    def kill(self, name: str) -> None:
        """kill -9, and its sleep with it; returns when it is dead."""
        pid = self.pid(name)
        os.killpg(pid, signal.SIGKILL)
        until(lambda: self.pid(name) != pid, WITHIN_S, lambda: f"{name} does not die")

    def until_runs(self, name: str, but: int = 0) -> None:
        """Until it runs, as another process than that."""
        until(lambda: self.pid(name) not in (0, but), WITHIN_S, lambda: f"{name} is not started again")

    def end_all(self) -> None:
        """None of them is left."""
        for name in self.names:
            if self.pid(name):
                os.killpg(self.pid(name), signal.SIGKILL)


class House:
    """A controller on SQLite, its cloud, and what it has been told."""

    def __init__(self, folder: Path, cloud: CloudProcess, controller: ControllerProcess) -> None:
        self.folder = folder
        self.cloud = cloud.remote
        self.controller = controller
        self.database = folder / "vm_ha.sqlite"

    def told(self) -> Counter[tuple[str, str]]:
        """How often each process was reported down, and up."""
        with sqlite3.connect(self.database) as connection:
            rows = connection.execute(
                "SELECT json_extract(body, '$.process'), json_extract(body, '$.state') FROM notification_list"
            ).fetchall()
        return Counter((Path(process).name, state) for process, state in rows)

    def until_told(self, process: str, state: str, times: int = 1) -> None:
        """Until so many reports of this are stored."""
        until(lambda: self.told()[process, state] >= times, WITHIN_S, lambda: f"{process} {state}: {self.told()}")

    def enabled(self) -> bool:
        """Whether nova-compute of our host is enabled."""
        return bool(self.cloud.state()["hosts"][HOST]["enabled"])


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    db = Db(drivername="sqlite", name=str(tmp_path / "vm_ha.sqlite"))
    with (
        CloudProcess(tmp_path, hosts="compute1,compute2") as cloud,
        ControllerProcess(tmp_path / "controller", db, cloud.remote.auth_url) as controller,
    ):
        yield House(tmp_path, cloud, controller)


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    made = Workers(tmp_path, 3)
    yield made
    made.end_all()


def monitor(house: House, workers: Workers, **options: str | float) -> ProcessMonitorProcess:
    return ProcessMonitorProcess(house.folder / "monitor", house.controller.url, HOST, workers.lines(), **options)


def until_watched(running: ProcessMonitorProcess, workers: Workers) -> None:
    """Until the monitor has seen each of them run."""
    seen = [f"{workers.folder}/{name}: run" for name in workers.names]
    until(lambda: all(text in running.said() for text in seen), WITHIN_S, running.said)


def test_what_does_not_run_is_started_and_what_dies_is_started_again(house: House, workers: Workers) -> None:
    workers.start("worker-00")
    first = workers.pid("worker-00")
    with monitor(house, workers):
        workers.until_runs("worker-01")
        workers.until_runs("worker-02")
        assert workers.pid("worker-00") == first, "what runs is left alone"
        second = workers.pid("worker-01")
        workers.kill("worker-01")
        workers.until_runs("worker-01", but=second)
        assert house.told() == {}


def test_what_can_not_be_started_is_reported_once_and_nova_compute_is_disabled_until_it_runs_again(
    house: House, workers: Workers
) -> None:
    with monitor(house, workers) as running:
        until_watched(running, workers)
        workers.break_("worker-00")
        workers.kill("worker-00")
        house.until_told("worker-00", "down")
        until(lambda: not house.enabled(), WITHIN_S, lambda: "nova-compute is not disabled")
        assert f"`{house.folder}/start-worker-00` ended with 3" in running.said()
        running.restart()
        workers.mend("worker-00")
        workers.start("worker-00")
        house.until_told("worker-00", "up")
        until(house.enabled, WITHIN_S, lambda: "nova-compute is still disabled")
        second = workers.pid("worker-00")
        workers.kill("worker-00")
        workers.until_runs("worker-00", but=second)
        assert house.told() == {("worker-00", "down"): 1, ("worker-00", "up"): 1}


def test_what_is_only_to_be_reported_disables_nothing(house: House, workers: Workers) -> None:
    with monitor(house, workers, report_only="worker-00") as running:
        until_watched(running, workers)
        workers.break_("worker-00")
        workers.kill("worker-00")
        house.until_told("worker-00", "down")
        # Told after it, and acted on: by then the first one would have been, too.
        workers.break_("worker-01")
        workers.kill("worker-01")
        until(lambda: not house.enabled(), WITHIN_S, lambda: "nova-compute is not disabled")
        with sqlite3.connect(house.database) as connection:
            (reason,) = connection.execute(
                "SELECT reason FROM recovery WHERE process LIKE '%worker-00' ORDER BY id LIMIT 1"
            ).fetchone()
        assert "report" in reason


def test_a_changed_list_is_noticed_and_a_broken_one_changes_nothing(house: House, workers: Workers) -> None:
    with monitor(house, workers) as running:
        workers.until_runs("worker-02")
        running.write_list(["1,no commands,,,,,,"])
        until(lambda: "not reloaded" in running.said(), WITHIN_S, lambda: running.said())
        assert "proc.list:1: column 3" in running.said()
        first = workers.pid("worker-02")
        workers.kill("worker-02")
        workers.until_runs("worker-02", but=first)
        running.write_list(workers.lines()[:2])
        until(lambda: "settings reloaded: 2 processes" in running.said(), WITHIN_S, lambda: running.said())
        workers.kill("worker-02")
        second = workers.pid("worker-00")
        workers.kill("worker-00")
        workers.until_runs("worker-00", but=second)
        assert not workers.pid("worker-02"), "what has left the list is not started again"


def test_what_needs_a_restart_is_said_and_another_host_is_refused(house: House, workers: Workers) -> None:
    with monitor(house, workers) as running:
        until_watched(running, workers)
        running.write_config(spool_max_mb=1, process_check_interval=3600)
        running.reload()
        assert "spool_max_mb changed: that needs a restart, 64 stays in use" in running.said()
        key = running.key.read_text()
        running.key.write_text(key.replace(f"host = {HOST}", "host = compute2"))
        running.reload()
        assert "not reloaded, the settings in use stay: this host is compute2" in running.said()
        running.key.write_text(key)
        running.reload()
        assert running.said().count("spool_max_mb changed") == 2


@pytest.mark.parametrize("seconds", [1, 5])
def test_a_command_under_way_gets_to_its_end_though_the_monitor_is_stopped(
    house: House, workers: Workers, seconds: int
) -> None:
    """The one within the time that it is given, the other when nobody reads what it prints any more."""
    folder = house.folder
    workers.script(
        "slow", f"#!/bin/sh\ntouch {folder}/began\nsleep {seconds}\nhead -c 200000 /dev/zero\ntouch {folder}/done\n"
    )
    with monitor(house, workers) as running:
        until_watched(running, workers)
        running.write_list(
            [f"1,{folder}/worker-00,{folder}/slow --password hunter2,{folder}/slow --password hunter2,,,,"]
        )
        running.reload()
        workers.kill("worker-00")
        until((folder / "began").exists, WITHIN_S, running.said)
        began = time.monotonic()
        assert running.terminate() == 0
        assert time.monotonic() - began < 5
        assert ("still ran when the processmonitor was stopped" in running.said()) == (seconds == 5)
        assert (folder / "done").exists() == (seconds == 1)
        until((folder / "done").exists, WITHIN_S, running.said)
        assert "hunter2" not in running.said()


def test_it_ends_in_time_and_refuses_a_second_instance(house: House, workers: Workers) -> None:
    with monitor(house, workers) as running:
        other = monitor(house, workers)
        done = subprocess.run(
            [sys.executable, "-m", "processmonitor", "--config", str(other.config)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )
        assert done.returncode == 1
        assert f"already running with pid {running.pid} " in done.stderr
        began = time.monotonic()
        assert running.terminate() == 0
        assert time.monotonic() - began < 5


def test_a_list_as_yaml_and_a_settings_file_of_sections(house: House, workers: Workers, tmp_path: Path) -> None:
    made = monitor(house, workers)
    listed = tmp_path / "process_list.yaml"
    listed.write_text(
        f"- process_name: {tmp_path}/worker-00\n  start_command: {tmp_path}/start-worker-00\n"
        f"  restart_command: {tmp_path}/start-worker-00\n  run_as_root: True\n"
    )
    made.config.write_text(
        f"[process]\nprocess_list_path = {listed}\nurl = {house.controller.url}\nstate_dir = {made.state}\n"
        f"key_file = {made.key}\ncheck_interval = 0.5\n"
    )
    with made:
        workers.until_runs("worker-00")


def test_a_hundred_deaths_with_crashes_of_everything_are_reported_exactly_as_they_were(
    house: House, tmp_path: Path
) -> None:
    """40 processes; 30 of the deaths are outages, as the process can't be started until it is mended."""
    chance = random.Random(SEED)
    workers = Workers(tmp_path, 40)
    outages: Counter[str] = Counter()
    deaths = [name for name in workers.names for _ in range(2)] + workers.names[:20]
    broken = set(workers.names[:30])
    assert len(deaths) == KILLS
    chance.shuffle(deaths)
    try:
        with monitor(house, workers, process_reboot_retry=3) as running:
            for name in workers.names:
                workers.until_runs(name)
            left = Counter(deaths)
            for number, name in enumerate(deaths):
                workers.until_runs(name)
                left[name] -= 1
                if name in broken and not left[name]:  # its last death
                    workers.break_(name)
                    outages[name] += 1
                workers.kill(name)
                if number % 9 == 4:
                    running.restart()
                if number % 25 == 12:
                    house.controller.restart()
            for name in outages:
                house.until_told(name, "down")
                workers.mend(name)
                workers.start(name)
            running.restart()
            for name in outages:
                house.until_told(name, "up")
            for name in workers.names:
                workers.until_runs(name)
            assert running.waiting() == []
            wanted = {(name, state): 1 for name in outages for state in ("down", "up")}
            assert house.told() == wanted, f"SEED={SEED}"
    finally:
        workers.end_all()
