"""The life of the instancemonitor as a daemon: systemd, signals, its settings, and a libvirtd that is away or hangs.

libvirtd and QEMU are real; the controller is one that takes everything.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt
import pytest

from tests.lab.compute import asleep_xml
from tests.lab.libvirtd import PrivateLibvirtd
from tests.lab.mariadb import until
from tests.lab.monitors import Dripper, InstanceMonitorProcess, Manager, Receiver
from tests.lab.processes import ROOT, secret

pytestmark = pytest.mark.needs_libvirt

HOST = "compute1"
WITHIN_S = 20.0
STOPS_WITHIN_S = 5.0

_count = itertools.count(1)


@pytest.fixture(scope="module")
def libvirtd() -> Iterator[PrivateLibvirtd]:
    with PrivateLibvirtd() as made:
        yield made


@pytest.fixture
def controller() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with Manager(tmp_path / "notify") as made:
        yield made


Make = Callable[..., InstanceMonitorProcess]


@pytest.fixture
def make(tmp_path: Path, libvirtd: PrivateLibvirtd, controller: Receiver) -> Iterator[Make]:
    """Makes monitors, not yet started (options: settings as section__option, over those that a test needs)."""
    made: list[InstanceMonitorProcess] = []

    def make_one(where: PrivateLibvirtd = libvirtd, **options: Any) -> InstanceMonitorProcess:
        folder = tmp_path / f"monitor{len(made)}"
        made.append(InstanceMonitorProcess(folder, controller.url, HOST, where, **options))
        return made[-1]

    yield make_one
    for monitor in made:
        monitor.kill()


def start_guest(libvirtd: PrivateLibvirtd, *, nova: bool = True) -> tuple[str, str]:
    """A guest that no Nova looks after; its name and its uuid."""
    connection = libvirt.open(libvirtd.uri)
    try:
        name = f"guest{next(_count)}"
        domain = connection.defineXML(asleep_xml(libvirtd, name, nova=nova))
        domain.create()
        return name, str(domain.UUIDString())
    finally:
        connection.close()


def kill_guest(libvirtd: PrivateLibvirtd, name: str) -> None:
    os.kill(libvirtd.qemu_pid(name), signal.SIGKILL)


def test_systemd_is_told_how_it_is(make: Make, manager: Manager, libvirtd: PrivateLibvirtd) -> None:
    start_guest(libvirtd)
    monitor = make()
    monitor.start(environ=manager.watch(2.0).environ)
    manager.until_told("READY=1")
    manager.until_status(" watched, ")
    libvirtd.kill()
    manager.until_status("not connected to qemu+unix://")
    libvirtd.start()
    manager.until_status(" watched, ")
    assert "not connected" not in manager.status
    began = time.monotonic()
    until(lambda: manager.told_at("WATCHDOG=1")[-1] > began, WITHIN_S, lambda: "the watchdog is not fed")
    assert longest_gap_s(manager) < 2.0
    assert monitor.terminate(STOPS_WITHIN_S) == 0
    manager.until_told("STOPPING=1")


def longest_gap_s(manager: Manager) -> float:
    """The longest time between two signs of life."""
    times = manager.told_at("WATCHDOG=1")
    return max(after - before for before, after in itertools.pairwise(times))


def test_a_libvirtd_that_is_absent_at_the_start_is_waited_for(
    make: Make, manager: Manager, libvirtd: PrivateLibvirtd, controller: Receiver
) -> None:
    libvirtd.kill()
    monitor = make()
    monitor.start(ready=False, environ=manager.watch(1.0).environ)
    manager.until_told("READY=1")
    manager.until_status(f"not connected to {libvirtd.uri} since ")
    monitor.until_says("libvirt can't be asked: ")
    libvirtd.start()
    monitor.until_says(f"connected to {libvirtd.uri}")
    name, uuid = start_guest(libvirtd)
    kill_guest(libvirtd, name)
    controller.until(uuid)


def test_the_address_of_the_command_line_goes_first_and_one_that_nobody_answers_is_told(
    make: Make, manager: Manager
) -> None:
    monitor = make()
    monitor.start("qemu+tcp://127.0.0.1:1/system", ready=False, environ=manager.watch(1.0).environ)
    manager.until_status("not connected to qemu+tcp://127.0.0.1:1/system since ")
    assert monitor.terminate(STOPS_WITHIN_S) == 0


def test_a_guest_that_is_not_novas_is_reported_only_where_that_is_wanted(
    make: Make, libvirtd: PrivateLibvirtd, controller: Receiver
) -> None:
    monitor = make()
    monitor.start()
    foreign, ours = start_guest(libvirtd, nova=False), start_guest(libvirtd)
    for name, _ in (foreign, ours):
        kill_guest(libvirtd, name)
    controller.until(ours[1])
    assert controller.uuids() == [ours[1]]
    monitor.write_config(libvirt__all_domains="yes")
    monitor.reload()
    name, uuid = start_guest(libvirtd, nova=False)
    kill_guest(libvirtd, name)
    controller.until(uuid)


def test_a_reload_with_a_broken_file_changes_nothing_and_one_with_a_good_file_all(
    make: Make, libvirtd: PrivateLibvirtd, controller: Receiver
) -> None:
    monitor = make()
    monitor.start()
    with Receiver() as second:
        monitor.write_config(callback__url=second.url, callback__interval="soon")
        monitor.reload()
        assert "not reloaded, the settings in use stay: " in monitor.said()
        name, uuid = start_guest(libvirtd)
        kill_guest(libvirtd, name)
        controller.until(uuid)
        monitor.write_config(callback__interval=0.5)
        monitor.reload()
        name, uuid = start_guest(libvirtd)
        kill_guest(libvirtd, name)
        second.until(uuid)
        assert (len(controller.reports), len(second.reports)) == (1, 1)


def test_a_second_one_with_the_same_state_folder_names_the_first(make: Make) -> None:
    monitor = make()
    monitor.start()
    second = run("--config", str(monitor.config))
    assert second.returncode == 1
    assert f"already running with pid {monitor.pid} " in second.stderr
    assert monitor.terminate(STOPS_WITHIN_S) == 0


def test_a_classic_daemon_has_a_pid_file_and_refuses_a_second_one(
    make: Make, tmp_path: Path, libvirtd: PrivateLibvirtd, controller: Receiver
) -> None:
    log, pidfile = tmp_path / "daemon.log", tmp_path / "pid"
    monitor = make(callback__log_file=log)
    arguments = ("--config", str(monitor.config), "--daemon", "--pidfile", str(pidfile))
    assert run(*arguments).returncode == 0
    until(lambda: log.exists() and "connected to qemu" in log.read_text(), WITHIN_S, lambda: "it doesn't start")
    pid = int(pidfile.read_text())
    try:
        second = run(*arguments)
        assert second.returncode == 1
        assert f"already running with pid {pid} " in second.stderr
        name, uuid = start_guest(libvirtd)
        kill_guest(libvirtd, name)
        controller.until(uuid)
        os.kill(pid, signal.SIGTERM)
        until(lambda: not pidfile.exists() and has_ended(pid), STOPS_WITHIN_S, lambda: "it doesn't stop")
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or only waits for its parent to notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_check_config_says_what_is_wrong_and_exits_accordingly(make: Make) -> None:
    monitor = make()
    good = run("--config", str(monitor.config), "--check-config")
    assert (good.returncode, good.stdout) == (0, f"{monitor.config}: ok\n")
    monitor.write_config(callback__interval="soon", callback__urll="http://x")
    bad = run("--config", str(monitor.config), "--check-config")
    assert bad.returncode == 1
    assert "interval" in bad.stderr and "urll" in bad.stderr
    assert secret(HOST) not in bad.stderr + bad.stdout
    assert run("--no-such-option").returncode == 2
    assert run("--config", "/nonexistent", "--check-config").returncode == 1


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The program, to its end."""
    command = [sys.executable, "-m", "instancemonitor", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WITHIN_S, check=False)


# A libvirtd that hangs: it takes 20 s to find out, which go by while all other tests run


@dataclass
class Hung:
    """A monitor whose libvirtd stands still."""

    libvirtd: PrivateLibvirtd
    monitor: InstanceMonitorProcess
    manager: Manager
    controller: Receiver
    guest: tuple[str, str]


@pytest.fixture(scope="module", autouse=True)
def hung(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hung]:
    folder = tmp_path_factory.mktemp("hung")
    with PrivateLibvirtd() as libvirtd, Receiver() as controller, Manager(folder / "notify") as manager:
        monitor = InstanceMonitorProcess(folder / "monitor", controller.url, HOST, libvirtd)
        guest = start_guest(libvirtd)
        try:
            monitor.start(environ=manager.watch(3.0).environ)
            libvirtd.freeze()
            yield Hung(libvirtd, monitor, manager, controller, guest)
        finally:
            monitor.kill()


def test_it_stops_within_5_s_while_the_controller_drips_and_libvirtd_hangs(make: Make) -> None:
    with PrivateLibvirtd() as libvirtd, Dripper() as dripper:
        monitor = make(libvirtd, callback__url=dripper.url, callback__retry_timeout=60)
        monitor.start()
        name, _ = start_guest(libvirtd)
        kill_guest(libvirtd, name)
        assert dripper.asked.wait(WITHIN_S)
        libvirtd.freeze()
        assert monitor.terminate(STOPS_WITHIN_S) == 0
        assert len(monitor.waiting()) == 1


def test_a_libvirtd_that_hangs_is_told_and_is_no_reason_to_be_restarted(hung: Hung) -> None:
    hung.manager.until_status("libvirtd hangs", within_s=60)
    assert longest_gap_s(hung.manager) < 3.0
    kill_guest(hung.libvirtd, hung.guest[0])
    hung.libvirtd.thaw()
    hung.controller.until(hung.guest[1])
    hung.manager.until_status("1 instance watched, ")
    assert hung.controller.uuids() == [hung.guest[1]]
    assert hung.monitor.terminate(STOPS_WITHIN_S) == 0
