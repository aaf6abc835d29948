"""`make demo` without a terminal: what a newcomer is shown is true, and nothing is left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "tests.demo"]
WITHIN_S = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the demonstrations of this module put their files."""
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def shown(folder: Path) -> str:
    """What a whole demonstration prints."""
    done = subprocess.run(
        COMMAND, cwd=ROOT, env={**os.environ, "TMPDIR": str(folder)}, capture_output=True, text=True, timeout=WITHIN_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_all_instances_are_recovered_and_the_progress_is_shown(shown: str) -> None:
    assert re.search(r"\[#{20}\]  finished: 20 of 20 evacuated$", shown, re.MULTILINE)
    assert re.search(r"\[#{1,19}\.{1,19}\]  \d+ of 20 evacuated, \d+ to go$", shown, re.MULTILINE)


def test_it_is_told_who_runs_where(shown: str) -> None:
    assert re.search(r"compute1 +off +forced down, disabled +web-01 to web-20 +nothing$", shown, re.MULTILINE)
    assert re.search(r"compute2 +on +up, enabled +db-01 to db-03 +db-01 to db-03$", shown, re.MULTILINE)
    assert re.search(r"compute3 +on +up, enabled +nothing +web-01 to web-20$", shown, re.MULTILINE)


def test_the_story_of_the_recovery_is_told(shown: str) -> None:
    story = shown.split("recovery_manage.py show 1\n", 1)[1].split("\n3. ", 1)[0]
    for told in ("power read back as off by compute2", "reserved host compute3", "20 of 20 evacuated"):
        assert told in story


def test_an_instance_and_a_process_failure_are_recovered_too(shown: str) -> None:
    assert "finished: started again on compute2" in shown
    assert "finished: nova-compute of compute2 is disabled" in shown
    assert "finished: libvirtd runs again" in shown


def test_no_instance_ever_ran_twice(shown: str) -> None:
    assert re.search(r"instances that ever ran twice +0$", shown, re.MULTILINE)


def test_lines_fit_a_terminal_and_hold_no_noise(shown: str) -> None:
    assert "\r" not in shown
    assert "Traceback" not in shown
    assert max(map(len, shown.splitlines())) <= 120


def test_nothing_is_left_running_or_on_disk(shown: str, folder: Path) -> None:
    pids = [int(pid) for pid in re.findall(r"\(pid (\d+)\)", shown)]
    assert len(pids) == 2
    assert all(map(gone, pids))
    assert re.search(r"Left\s+running: nothing", shown)
    assert list(folder.iterdir()) == []


def test_an_interrupted_demonstration_leaves_nothing_either(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(COMMAND, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "of 20 evacuated" in line:
            break
    process.send_signal(signal.SIGINT)
    started_s = time.monotonic()
    rest = process.stdout.read()
    assert process.wait(WITHIN_S) == 130
    assert time.monotonic() - started_s < 15
    assert "interrupted" in rest
    assert list(tmp_path.iterdir()) == []
