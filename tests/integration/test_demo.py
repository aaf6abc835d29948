"""`make demo` without a terminal: what a newcomer is shown is true, and nothing is left behind."""

from __future__ import annotations

import contextlib
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
WITHOUT_THE_MODULE = (
    "import runpy, sys; sys.modules['libvirt'] = None; runpy.run_module('tests.demo', run_name='__main__')"
)
WITHIN_S = 120


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the demonstrations of this module put their files."""
    return tmp_path_factory.mktemp("demo")


def play(folder: Path, command: list[str]) -> str:
    """What a whole demonstration prints."""
    environment = {**os.environ, "TMPDIR": str(folder)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=WITHIN_S)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.fixture(scope="module")
def shown(folder: Path) -> str:
    """As `make demo` plays it on this machine."""
    return play(folder, COMMAND)


@pytest.fixture(scope="module")
def shown_without(folder: Path) -> str:
    """As it is played where Python's libvirt is not installed."""
    return play(folder, [sys.executable, "-c", WITHOUT_THE_MODULE])


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def descendants(pid: int) -> list[int]:
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError):  # the thread has ended
            for child in map(int, path.read_text().split()):
                found += [child, *descendants(child)]
    return found


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
    assert re.search(r"finished: libvirtd-demo-\d+ runs again; our own disable is taken back$", shown, re.MULTILINE)


def test_the_real_processmonitor_restarts_in_vain_and_reports(shown: str) -> None:
    log = shown.split("The log of the processmonitor", 1)[1].split("nova-compute of this host", 1)[0]
    assert re.search(r"\+\d+\.\d{3} s  WARNING libvirtd-demo-\d+: restart 3 of 3$", log, re.MULTILINE)
    assert re.search(r"INFO report \S+ about libvirtd-demo-\d+:\s+recovery \d+ is new", log)


@pytest.mark.needs_libvirt
def test_a_real_guest_is_killed_noticed_and_runs_again_in_qemu(shown: str) -> None:
    (killed,) = re.findall(
        r"^3\. The QEMU process of db-02 is killed$.*?^ +\$ kill -9 (\d+)$", shown, re.MULTILINE | re.DOTALL
    )
    assert re.search(r"\+\d+\.\d{3} s  WARNING instance=\S+\s+name=db-02:\s+its\s+QEMU\s+process\s+died", shown)
    before_and_now = dict(re.findall(r"^ +(db-\d\d) +(pid \d+ +pid \d+)$", shown, re.MULTILINE))
    pids = {name: re.findall(r"\d+", text) for name, text in before_and_now.items()}
    assert [before == now for before, now in pids.values()] == [True, False, True]
    assert pids["db-02"][0] == killed
    assert re.search(r"QEMU of db-02 killed -> noticed +\d+ ms$", shown, re.MULTILINE)
    assert "Left out" not in shown


def test_without_libvirt_the_guest_is_simulated_and_it_is_told_how_to_get_a_real_one(shown_without: str) -> None:
    assert "3. The QEMU process of db-02 dies (simulated)\n" in shown_without
    assert "finished: started again on compute2" in shown_without
    told = " ".join(shown_without.split())
    assert "Left out: a real guest in QEMU that is killed" in told
    assert "the Python module libvirt not found" in told
    assert "apt-get install --no-install-recommends libvirt-daemon" in told


def test_no_instance_ever_ran_twice(shown: str) -> None:
    assert re.search(r"instances that ever ran twice +0$", shown, re.MULTILINE)


@pytest.mark.parametrize("demonstration", ["shown", "shown_without"])
def test_lines_fit_a_terminal_and_hold_no_noise(demonstration: str, request: pytest.FixtureRequest) -> None:
    text: str = request.getfixturevalue(demonstration)
    assert "\r" not in text
    assert "Traceback" not in text
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("demonstration", ["shown", "shown_without"])
def test_nothing_is_left_running_or_on_disk(demonstration: str, folder: Path, request: pytest.FixtureRequest) -> None:
    text: str = request.getfixturevalue(demonstration)
    pids = [int(pid) for pid in re.findall(r"\(pid\s+(\d+)\)", text)]
    assert len(pids) >= 4
    assert all(map(gone, pids))
    assert re.search(r"Left\s+running:\s+nothing", text)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("options", [[], ["--without-libvirt"]])
def test_an_interrupted_demonstration_leaves_nothing_either(options: list[str], tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    # Whoever started the tests in the background had SIGINT ignored, and that is inherited.
    process = subprocess.Popen(
        ["env", "--default-signal=INT", *COMMAND, *options],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "of 20 evacuated" in line:
            break
    started = descendants(process.pid)
    assert len(started) >= 4
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: all that did not leave the group get it
    started_s = time.monotonic()
    rest = process.stdout.read()
    assert process.wait(WITHIN_S) == 130
    assert time.monotonic() - started_s < 15
    assert "interrupted" in rest
    assert all(map(gone, started))
    assert list(tmp_path.iterdir()) == []
