"""What a daemon tells systemd, how it ends, and that there is one per pid file: with real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from masakari.common.clock import Clock
from masakari.common.daemon import Pulse, Signals, Systemd, Threads, daemonize, only_one, supervise
from masakari.common.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


class Manager:
    """The receiving end of sd_notify."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(10)
        self.address = address.replace("\0", "@")

    def next(self) -> list[str]:
        """The lines of the next message; waits for it."""
        return self.socket.recv(4096).decode().split("\n")

    def until(self, line: str) -> None:
        """Read messages until one contains the line, for 10 s at most."""
        deadline = time.monotonic() + 10
        while line not in self.next():
            assert time.monotonic() < deadline


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "notify"))
    yield made
    made.socket.close()


# systemd


def test_systemd_is_told_in_its_own_words(manager: Manager) -> None:
    systemd = Systemd({"NOTIFY_SOCKET": manager.address})
    systemd.ready("listening on port 15868")
    assert manager.next() == ["READY=1", "STATUS=listening on port 15868"]
    systemd.ready()
    assert manager.next() == ["READY=1"]
    systemd.status("2 recoveries\nREADY=0")
    assert manager.next() == ["STATUS=2 recoveries READY=0"]
    systemd.alive()
    assert manager.next() == ["WATCHDOG=1"]
    systemd.reloading(Clock())
    reloading, monotonic = manager.next()
    assert reloading == "RELOADING=1"
    assert abs(int(monotonic.removeprefix("MONOTONIC_USEC=")) / 1e6 - time.monotonic()) < 60
    systemd.stopping()
    assert manager.next() == ["STOPPING=1"]


def test_the_abstract_namespace_of_sockets_is_known() -> None:
    manager = Manager(f"\0masakari-test-{os.getpid()}")
    with contextlib.closing(manager.socket):
        Systemd({"NOTIFY_SOCKET": manager.address}).ready()
        assert manager.next() == ["READY=1"]


def test_without_systemd_or_with_a_dead_one_nothing_happens(tmp_path: Path) -> None:
    Systemd({}).ready()
    Systemd({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("x")


@pytest.mark.parametrize(
    ("environ", "watchdog_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_fed_only_if_it_waits_for_this_process(
    environ: dict[str, str], watchdog_s: float | None
) -> None:
    assert Systemd(environ).watchdog_s == watchdog_s


# Threads


def test_threads_end_when_told_to_by_the_event_or_by_their_own_stop() -> None:
    threads = Threads(on_death=lambda: None)
    closed = threading.Event()
    threads.start("worker", threads.stopping.wait)
    threads.start("http", closed.wait, stop=closed.set)
    assert threads.stop(Clock()) == []
    assert threads.dead == ""


def test_a_thread_that_does_not_stop_is_named_and_left_behind() -> None:
    threads = Threads(on_death=lambda: None)
    release = threading.Event()
    threads.start("stuck", release.wait)
    assert threads.stop(Clock(), within_s=0.01) == ["stuck"]
    release.set()


@pytest.mark.parametrize(("run", "said"), [(lambda: 1 / 0, "died"), (lambda: None, "ended before it was told to")])
def test_a_thread_that_ends_too_early_is_told_with_its_name(
    run: object, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    told = threading.Event()
    threads = Threads(on_death=told.set)
    threads.start("worker 3", run)  # type: ignore[arg-type]
    assert told.wait(10)
    assert threads.dead == "worker 3"
    (record,) = caplog.records
    assert record.levelname == "CRITICAL"
    assert record.getMessage() == f"thread worker 3 {said}; the process ends with it"
    threads.stop(Clock())


def test_the_wait_for_signals_can_be_ended_by_any_thread() -> None:
    signals = Signals()
    threading.Thread(target=signals.wake).start()
    signals.wait(10)
    for _ in range(100000):
        signals.wake()  # never blocks, however often
    signals.wait(0)


# The whole: a process with a worker, under systemd or not

PROGRAM = """
import logging, sys, threading
from masakari.common.clock import Clock
from masakari.common.daemon import Pulse, Signals, Systemd, Threads, daemonize, only_one, supervise, supervise
from masakari.common.errors import ConfigError
from masakari.common.log import setup

what, log_file, pid_file = sys.argv[1:]
try:
    if pid_file:
        daemonize(pid_file)
    setup("info", log_file)
except ConfigError as error:
    sys.exit(str(error))
signals, systemd, clock = Signals(), Systemd(), Clock()
signals.install()
threads = Threads(on_death=signals.wake)
die = threading.Event()

def work():
    if what == "returns":
        return
    if what == "dies":
        raise RuntimeError("out of luck")
    if what == "hangs":
        threading.Event().wait()
    if what == "fails to stop":
        threads.stopping.wait()
        raise RuntimeError("too late to matter")
    threads.stopping.wait()

def reload():
    if what == "bad settings":
        raise ConfigError(["line 1 is wrong", "line 2 as well"])
    logging.info("reloaded")

threads.start("worker", work)
systemd.ready("working")
logging.info("up")
status = supervise(signals, threads, systemd, reload=reload, healthy=lambda: what != "sick", clock=clock,
                   stop_within_s=0.2 if what == "hangs" else 5)
logging.info("down")
sys.exit(status)
"""


def start(
    what: str, log: Path, manager: Manager | None = None, pidfile: str = "", **environ: str
) -> subprocess.Popen[str]:
    """Start the program; its environment has the notify socket only if there is a manager."""
    env = {name: value for name, value in os.environ.items() if name not in ("NOTIFY_SOCKET", "WATCHDOG_USEC")}
    env |= environ | ({"NOTIFY_SOCKET": manager.address} if manager else {}) | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM, what, str(log), pidfile]
    return subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)


def said(log: Path) -> list[str]:
    return [line.split(" ", 1)[1] for line in log.read_text().splitlines()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_daemon_told_to_stop_stops_and_exits_0(tmp_path: Path, manager: Manager, number: signal.Signals) -> None:
    process = start("works", tmp_path / "log", manager)
    assert manager.next() == ["READY=1", "STATUS=working"]
    process.send_signal(number)
    manager.until("STOPPING=1")
    assert process.wait(10) == 0
    assert said(tmp_path / "log") == ["INFO root: up", "INFO root: down"]


def test_what_goes_wrong_while_stopping_is_logged_and_still_exits_0(tmp_path: Path, manager: Manager) -> None:
    process = start("fails to stop", tmp_path / "log", manager)
    manager.until("READY=1")
    process.terminate()
    assert process.wait(10) == 0
    assert "too late to matter" in said(tmp_path / "log")[1]


def test_a_thread_that_hangs_keeps_no_daemon_from_stopping(tmp_path: Path, manager: Manager) -> None:
    process = start("hangs", tmp_path / "log", manager)
    manager.until("READY=1")
    process.terminate()
    assert process.wait(10) == 0
    assert "thread worker has not ended within 0.2 s" in said(tmp_path / "log")[-2]


@pytest.mark.parametrize(("what", "why"), [("dies", "out of luck"), ("returns", "ended before it was told to")])
def test_a_dead_thread_ends_the_process_with_1_and_a_critical_line(tmp_path: Path, what: str, why: str) -> None:
    process = start(what, tmp_path / "log")
    assert process.wait(10) == 1
    critical = [line for line in said(tmp_path / "log") if line.startswith("CRITICAL")]
    assert len(critical) == 1
    assert "thread worker" in critical[0]
    assert why in critical[0]


def test_a_hang_up_reloads_and_the_daemon_goes_on(tmp_path: Path, manager: Manager) -> None:
    process = start("works", tmp_path / "log", manager)
    manager.until("READY=1")
    process.send_signal(signal.SIGHUP)
    assert manager.next()[0] == "RELOADING=1"
    assert manager.next() == ["READY=1"]
    process.terminate()
    assert process.wait(10) == 0
    assert "INFO root: reloaded" in said(tmp_path / "log")


def test_settings_that_can_not_be_used_leave_the_daemon_as_it_was(tmp_path: Path, manager: Manager) -> None:
    process = start("bad settings", tmp_path / "log", manager)
    manager.until("READY=1")
    process.send_signal(signal.SIGHUP)
    manager.until("READY=1")
    process.terminate()
    assert process.wait(10) == 0
    kept = "ERROR masakari.common.daemon: not reloaded, the settings in use stay: "
    assert said(tmp_path / "log")[1:3] == [kept + "line 1 is wrong", kept + "line 2 as well"]


def test_the_watchdog_is_fed_while_the_daemon_is_healthy(tmp_path: Path, manager: Manager) -> None:
    process = start("works", tmp_path / "log", manager, WATCHDOG_USEC="300000")
    manager.until("READY=1")
    assert [manager.next() for _ in range(3)] == [["WATCHDOG=1"]] * 3
    process.terminate()
    assert process.wait(10) == 0


def test_the_watchdog_is_left_to_bite_when_the_daemon_is_not_healthy(tmp_path: Path, manager: Manager) -> None:
    process = start("sick", tmp_path / "log", manager, WATCHDOG_USEC="30000")
    manager.until("READY=1")
    process.send_signal(signal.SIGHUP)  # ten times around the loop at the least, and never fed
    manager.until("READY=1")
    time.sleep(0.1)
    process.terminate()
    assert manager.next() == ["STOPPING=1"]
    assert process.wait(10) == 0


# The classic daemon


def wait_for(path: Path, text: str) -> str:
    """The content of a file once it contains the text, after 10 s at most."""
    deadline = time.monotonic() + 10
    while not (path.exists() and text in path.read_text()):
        assert time.monotonic() < deadline, f"{path} has not got {text!r}"
        time.sleep(0.01)
    return path.read_text()


def wait_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}") and "State:\tZ" not in Path(f"/proc/{pid}/status").read_text():
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.01)


def test_a_classic_daemon_detaches_writes_its_pid_and_removes_it_at_the_end(tmp_path: Path) -> None:
    log, pid_file = tmp_path / "log", tmp_path / "masakari.pid"
    starter = start("works", log, pidfile=str(pid_file))
    assert starter.wait(10) == 0
    wait_for(log, "up")
    pid = int(pid_file.read_text())
    try:
        assert pid != starter.pid
        assert os.getsid(pid) not in (os.getsid(0), pid)
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_gone(pid)
    assert "down" in log.read_text()
    assert not pid_file.exists()


def test_a_second_daemon_refuses_and_names_the_first(tmp_path: Path) -> None:
    log, pid_file = tmp_path / "log", tmp_path / "masakari.pid"
    start("works", log, pidfile=str(pid_file)).wait(10)
    wait_for(log, "up")
    pid = int(pid_file.read_text())
    try:
        second = start("works", log, pidfile=str(pid_file))
        assert second.communicate(timeout=10)[1] == (
            f"already running with pid {pid} (pid file {pid_file}); stop that one first\n"
        )
        assert second.returncode == 1
        assert int(pid_file.read_text()) == pid
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_gone(pid)


def test_the_pid_file_of_a_killed_daemon_is_replaced_even_if_its_pid_is_in_use_again(tmp_path: Path) -> None:
    log, pid_file = tmp_path / "log", tmp_path / "masakari.pid"
    pid_file.write_text(f"{os.getpid()}\n")  # this process lives, and is no daemon of ours
    start("works", log, pidfile=str(pid_file)).wait(10)
    wait_for(log, "up")
    killed = int(pid_file.read_text())
    assert killed != os.getpid()
    os.kill(killed, signal.SIGKILL)
    wait_gone(killed)
    assert pid_file.exists()
    start("works", log, pidfile=str(pid_file)).wait(10)
    wait_for(pid_file, "\n")
    again = int(pid_file.read_text())
    assert again != killed
    os.kill(again, signal.SIGTERM)
    wait_gone(again)


def test_a_pid_file_that_can_not_be_made_is_told_before_detaching(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="doesn't exist or isn't writable"):
        daemonize(str(tmp_path / "no" / "masakari.pid"))


def test_a_daemon_in_the_foreground_does_without_the_packages_of_the_classic_one() -> None:
    rare = "{'daemon', 'lockfile', 'difflib', 'shlex'}"
    code = f"import sys, masakari.common.daemon, masakari.config; print({rare} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# one process per folder, threads that hang, and what systemctl status shows


def test_a_second_process_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    code = f"from masakari.common.daemon import only_one\nonly_one({str(tmp_path / 'state')!r})\nprint('mine', flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None and first.stdout.readline() == "mine\n"
        with pytest.raises(ConfigError, match=f"already running with pid {first.pid} "):
            only_one(str(tmp_path / "state"))
        first.kill()
        first.wait(10)
        os.close(only_one(str(tmp_path / "state")))


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"state folder .* can't be used: Not a directory"):
        only_one(str(tmp_path / "file" / "state"))


class StandingClock(Clock):
    """Moves when told to."""

    at = 100.0

    def monotonic(self) -> float:
        return self.at


def test_a_thread_that_hangs_is_late_until_it_turns_again(caplog: pytest.LogCaptureFixture) -> None:
    clock = StandingClock()
    pulse = Pulse(clock, late_after_s=10)
    pulse.beat("watch")
    pulse.beat("sender")
    clock.at += 9
    pulse.beat("sender")
    clock.at += 2
    assert not pulse.well() and not pulse.well()
    assert pulse.late() == ["watch"]
    assert caplog.text.count("threads that hang: watch") == 1
    pulse.beat("watch")
    assert pulse.well()


def test_systemctl_status_shows_what_the_daemon_does_now(manager: Manager) -> None:
    signals = Signals()
    threads = Threads(signals.wake)
    words = iter(["connecting", "connecting", "50 instances watched", "50 instances watched"])
    said = ""

    def status() -> str:
        nonlocal said
        said = next(words, said)
        if not said.startswith("connecting"):
            signals.stop = True
        signals.wake()
        return said

    systemd = Systemd({"NOTIFY_SOCKET": manager.address})
    assert (
        supervise(signals, threads, systemd, reload=lambda: None, healthy=lambda: True, clock=Clock(), status=status)
        == 0
    )
    assert manager.next() == ["STATUS=connecting"]
    assert manager.next() == ["STATUS=50 instances watched"]
