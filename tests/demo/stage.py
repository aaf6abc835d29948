"""What the demonstration runs on: a simulated cloud, the real controller on SQLite, a compute node, and the scripts."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import requests

from masakari.common.signature import HEADER, sign
from tests.lab.processes import CLUSTER
from tests.simcloud import RemoteCloud

from .node import Guests, WatchedProcess

ROOT = Path(__file__).resolve().parents[2]
HOSTS = ("compute1", "compute2", "compute3")
FAILED, OBSERVER, SPARE = HOSTS
BUILDS_AT_ONCE = 5
EVACUATE_S = 2
START_WITHIN_S = 20
STOP_WITHIN_S = 10

SETTINGS = """\
[wsgi]
server_host = 127.0.0.1
server_port = {port}
[db]
drivername = sqlite
name = {folder}/vm_ha.sqlite
[log]
log_file = {folder}/controller.log
[nova]
auth_url = {auth_url}
admin_user = masakari
admin_password = simcloud
project_name = service
[auth]
keys_file = {folder}/keys.conf
[controller]
name = demo
"""


class NotReady(Exception):
    """A process did not start; the message says which one, and what it said."""


class Stage:
    """All processes run from entry to exit, and so does their folder exist; nothing of them is left afterwards.

    guests: those of OBSERVER in QEMU; None when they are simulated, too. watched: a process of OBSERVER.
    Raises NotReady or RuntimeError on entry when something does not start.
    """

    cloud: RemoteCloud
    watched: WatchedProcess
    guests: Guests | None = None

    def __init__(self, *, in_qemu: bool) -> None:
        self._in_qemu = in_qemu
        self._open = contextlib.ExitStack()
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._http = requests.Session()
        self._secrets = {host: secrets.token_hex(16) for host in HOSTS}

    def __enter__(self) -> Stage:
        self._folder = Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="masakari-demo-")))
        self._open.callback(self._stop)
        try:
            self.cloud = RemoteCloud(self._start_cloud())
            self.url = self._start_controller()
            secret = self._secrets[OBSERVER]
            self.watched = self._open.enter_context(WatchedProcess(self._folder, self.url, OBSERVER, secret))
            if self._in_qemu:
                guests = Guests(self._folder, self.cloud, self.url, OBSERVER, secret)
                self.guests = self._open.enter_context(guests)
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.close()

    @property
    def pids(self) -> dict[str, int]:
        """The processes that were started, by what they are."""
        pids = {name: process.pid for name, process in self._processes.items()}
        pids |= {"processmonitor": self.watched.monitor.pid, "process it watches": self.watched.pid}
        if self.guests:
            pids |= {"instancemonitor": self.guests.monitor.pid, "libvirtd": self.guests.libvirtd.pid}
            pids |= {f"QEMU of {name}": pid for name, pid in self.guests.qemu().items()}
        return pids

    def post(self, host: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """Send a callback signed with the key of a host; the status and the answer."""
        header = {HEADER: sign(host, self._secrets[host], body, time.time())}
        answer = self._http.post(self.url, data=body, headers=header, timeout=10)
        return answer.status_code, answer.json()

    def script(self, name: str, *arguments: str) -> str:
        """What one of the operator's scripts prints. Raises CalledProcessError when it fails."""
        command = [sys.executable, str(ROOT / "utils" / name), "--config", self._config, *arguments]
        return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, timeout=30).stdout

    def log_tail(self, lines: int = 20) -> str:
        """The end of the controller's log, for when something went wrong."""
        with contextlib.suppress(OSError):
            return "\n".join((self._folder / "controller.log").read_text().splitlines()[-lines:])
        return ""

    def _start_cloud(self) -> str:
        options = {"--hosts": ",".join(HOSTS), "--evacuate-s": str(EVACUATE_S), "--builds": str(BUILDS_AT_ONCE)}
        command = ["-m", "tests.simcloud", *(word for option in options.items() for word in option)]
        process = self._start("simulated cloud", command)
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            raise NotReady("the simulated cloud did not start")
        return url

    def _start_controller(self) -> str:
        port = _free_port()
        self._config = self._write(
            "masakari.conf", SETTINGS.format(port=port, folder=self._folder, auth_url=self.cloud.auth_url)
        )
        keys = {host: {"host": host, "cluster_port": CLUSTER, "secret": self._secrets[host]} for host in HOSTS}
        self._write("keys.conf", "".join(_section(name, values) for name, values in keys.items()))
        process = self._start("controller", ["-m", "masakari", "--config", self._config])
        url = f"http://127.0.0.1:{port}/"
        deadline = time.monotonic() + START_WITHIN_S
        while not self._is_ready(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise NotReady(f"the controller did not start:\n{self.log_tail()}")
            time.sleep(0.05)
        return url

    def _is_ready(self, url: str) -> bool:
        with contextlib.suppress(requests.ConnectionError):
            return bool(self._http.get(f"{url}healthz", timeout=5).json()["status"] == "ok")
        return False

    def _start(self, name: str, arguments: Sequence[str]) -> subprocess.Popen[str]:
        # A session of its own: Ctrl-C reaches the demonstration alone, which then stops the others in order.
        self._processes[name] = process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return process

    def _write(self, name: str, text: str) -> str:
        path = self._folder / name
        with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
            file.write(text)
        return str(path)

    def _stop(self) -> None:
        # All of them before any is waited for: an impatient second Ctrl-C must leave none behind.
        for process in reversed(self._processes.values()):
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()


def _section(name: str, values: Mapping[str, str]) -> str:
    return f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in values.items())


def runs(pid: int) -> bool:
    """Whether there is such a process; one that ended and waits for its parent is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
