"""The hostmonitor as a process, on a host whose pacemaker does not run: it says so, and behaves."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.hostmonitor import HostMonitorProcess
from tests.lab.processes import CLUSTER, ROOT

pytestmark = pytest.mark.needs_cluster

BMC = "[node2]\naddress = 192.0.2.2\nuser = admin\npassword = a-bmc-password\n"


class Alone:
    """No cluster: this very host."""

    cluster_port = CLUSTER

    def prefix(self, name: str) -> tuple[str, ...]:
        return ()


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[HostMonitorProcess]:
    made = HostMonitorProcess(
        tmp_path,
        "http://127.0.0.1:9",
        "compute1",
        Alone(),  # type: ignore[arg-type]
        lines=True,
        alert_pipe=tmp_path / "run/alert",
    )
    made.write_bmcs(BMC)
    with made:
        yield made


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hostmonitor", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_it_is_ready_at_once_and_says_that_it_can_not_see(monitor: HostMonitorProcess) -> None:
    monitor.until_says("nothing is reported for now")
    assert "systemctl status corosync pacemaker" in monitor.said()
    assert monitor.waiting() == []
    assert monitor.said().count("nothing is reported for now") == 1, "a line each look"


def test_an_alert_makes_it_look(monitor: HostMonitorProcess) -> None:
    monitor.write_config(log_level="debug")
    monitor.reload()
    pipe = monitor.folder / "run/alert"
    environ = {
        "PATH": os.environ["PATH"],
        "CRM_alert_recipient": str(pipe),
        "CRM_alert_kind": "node",
        "CRM_alert_node": "node3",
    }
    subprocess.run(
        [str(ROOT / "hostmonitor/alert-agent")], env={**environ, "CRM_alert_desc": "lost"}, check=True, timeout=10
    )
    monitor.until_says("pacemaker: node node3 lost")


def test_a_stop_takes_less_than_five_seconds_and_a_second_one_is_refused(monitor: HostMonitorProcess) -> None:
    second = run("--config", str(monitor.config))
    assert second.returncode == 1 and str(monitor.pid) in second.stderr, second.stderr
    began = time.monotonic()
    assert monitor.terminate() == 0
    assert time.monotonic() - began < 5
    assert not (monitor.folder / "run/alert").exists()


def test_settings_are_read_again_wholly_or_not_at_all(monitor: HostMonitorProcess) -> None:
    monitor.write_config(monitor_interval=0, ipmi_timeout="soon")
    monitor.reload()
    said = monitor.said()
    assert "not reloaded" in said and "MONITOR_INTERVAL" in said and "IPMI_TIMEOUT" in said
    monitor.write_config(monitor_interval=7, ipmi_timeout=3)
    monitor.reload()
    assert "settings reloaded" in monitor.said()


def test_no_secret_is_logged_or_shown_in_the_process_list(monitor: HostMonitorProcess) -> None:
    monitor.write_config(log_level="debug")
    monitor.reload()
    words = Path(f"/proc/{monitor.pid}/cmdline").read_text() + Path(f"/proc/{monitor.pid}/environ").read_text()
    for secret in ("a-bmc-password", "the secret of compute1"):
        assert secret not in words and secret not in monitor.said()


def test_a_kill_leaves_nothing_that_hinders_the_next_start(monitor: HostMonitorProcess) -> None:
    monitor.signal(signal.SIGKILL)
    monitor.wait()
    monitor.start()
    assert monitor.terminate() == 0


def test_as_a_classic_daemon_it_has_a_pid_file_and_logs_to_its_file(monitor: HostMonitorProcess) -> None:
    monitor.kill()
    pidfile, log = monitor.folder / "pid", monitor.folder / "log"
    monitor.write_config(log_file=log)
    done = run("--config", str(monitor.config), "--daemon", "--pidfile", str(pidfile))
    assert done.returncode == 0, done.stderr
    deadline = time.monotonic() + 20
    while not (log.exists() and "watches the other nodes" in log.read_text()):
        assert time.monotonic() < deadline, log.read_text() if log.exists() else "no log"
        time.sleep(0.02)
    pid = int(pidfile.read_text())
    os.kill(pid, signal.SIGTERM)
    while pidfile.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_check_config_tells_everything_that_is_wrong(monitor: HostMonitorProcess) -> None:
    assert run("--config", str(monitor.config), "--check-config").returncode == 0
    text = monitor.config.read_text() + 'MONITORING_DRIVER="consul"\nMONITOR_INTERVALL="3"\n'
    monitor.config.write_text(text)
    done = run("--config", str(monitor.config), "--check-config")
    assert done.returncode == 1
    assert re.search(r":\d+: MONITOR_INTERVALL: unknown option; did you mean", done.stderr), done.stderr
    assert "pacemaker" in done.stderr


@pytest.mark.parametrize(
    "arguments", [("--own", "node1"), ("--json",), ("--online",), ("--explain", "x", "--show-cluster", "--nonsense")]
)
def test_what_makes_no_sense_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).returncode == 2


def test_without_a_cluster_the_questions_say_what_does_not_run(monitor: HostMonitorProcess) -> None:
    shown = run("--config", str(monitor.config), "--show-cluster")
    assert CLUSTER in shown.stdout and shown.returncode == 0, shown.stderr
    asked = run("--config", str(monitor.config), "--check-config", "--online")
    assert asked.returncode == 1 and "pacemaker" in asked.stderr
    assert run("--config", str(monitor.config), "--register-alert").returncode == 1
