"""How the daemons end when their settings are wrong: as real processes, and what systemd and init make of it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.mariadb import until

ROOT = Path(__file__).resolve().parents[2]
DEBIAN = ROOT / "debian"
DAEMONS = {
    "masakari": "masakari.masakari-controller",
    "hostmonitor": "masakari-hostmonitor",
    "instancemonitor": "masakari-instancemonitor",
    "processmonitor": "masakari-processmonitor",
}


def start(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The daemon as a process, to its end."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize("module", DAEMONS)
def test_a_daemon_with_wrong_settings_ends_with_78_and_says_all_that_is_wrong(module: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.conf"
    path.write_text("[nonsense]\n")
    ended = start(module, "--config", str(path))
    assert ended.returncode == 78, ended.stderr
    assert f"{path}:1: unknown section [nonsense]" in ended.stderr
    assert ended.stderr.count("\n") > 1  # what is missing, too


@pytest.mark.parametrize("module", DAEMONS)
def test_no_settings_at_all_are_wrong_settings(module: str, tmp_path: Path) -> None:
    ended = start(module, "--config", str(tmp_path / "none.conf"))
    assert ended.returncode == 78 and "none.conf: can't be read" in ended.stderr, ended.stderr


@pytest.mark.parametrize("module", DAEMONS)
def test_a_mere_check_of_wrong_settings_ends_with_1(module: str, tmp_path: Path) -> None:
    assert start(module, "--config", str(tmp_path / "none.conf"), "--check-config").returncode == 1


@pytest.mark.parametrize("unit", DAEMONS.values())
def test_systemd_does_not_try_wrong_settings_again(unit: str) -> None:
    settings = (DEBIAN / f"{unit}.service").read_text(encoding="utf-8").splitlines()
    assert "RestartPreventExitStatus=78" in settings and "Restart=on-failure" in settings


@pytest.mark.parametrize(("ended", "code"), [(0, 0), (78, 6), (1, 1), (2, 1)])
def test_an_init_script_tells_wrong_settings_from_a_failure(ended: int, code: int, tmp_path: Path) -> None:
    tools = {
        # What is to be stopped does not run; what is to be started ends like the daemon in its place.
        "start-stop-daemon": f'#!/bin/sh\ncase " $* " in *" --stop "*) exit 1 ;; esac\nexit {ended}\n',
        "install": "#!/bin/sh\n",
    }
    for name, text in tools.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    script = f". {DEBIAN / 'init-functions'}\nset -u\nstart"
    names = {"NAME": "none", "DAEMON": "/no", "CONFIG": "/no", "PIDFILE": f"{tmp_path}/pid", "RUN_AS": "root"}
    done = subprocess.run(
        ["sh", "-c", script], env={"PATH": f"{tmp_path}:/usr/bin:/bin", **names}, capture_output=True, check=False
    )
    assert done.returncode == code, done.stderr


def test_a_reload_asked_for_while_it_starts_does_not_end_it(tmp_path: Path) -> None:
    config = tmp_path / "masakari.conf"
    config.write_text(
        f"[db]\nhost = 127.0.0.1\nport = 1\nuser = a\npasswd = b\n"
        f"[nova]\nauth_url = http://127.0.0.1:1\nadmin_user = a\nadmin_password = b\n"
        f"project_name = c\n[auth]\ncallbacks = open\nkeys_file = {tmp_path}/keys.conf\n",
        encoding="utf-8",
    )
    config.chmod(0o600)
    process = subprocess.Popen(
        [sys.executable, "-m", "masakari", "--config", str(config)], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        assert any("tried again" in line for line in process.stderr), "the database is away, it waits"
        process.send_signal(signal.SIGHUP)

        def held_back() -> bool:
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
            pending = re.search(r"^ShdPnd:\s*(\w+)$", status, re.MULTILINE)
            return pending is not None and bool(int(pending[1], 16) & 1)

        until(held_back, 10, lambda: f"status {process.poll()}")
    finally:
        process.kill()
        process.communicate()
