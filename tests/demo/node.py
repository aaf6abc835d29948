"""What is real on one compute node: its monitors, the process they watch over, and its guests in QEMU."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType

from tests.lab.libvirtd import PrivateLibvirtd
from tests.lab.mariadb import until
from tests.lab.monitors import InstanceMonitorProcess, MonitorProcess
from tests.lab.processes import CLUSTER
from tests.lab.processmonitor import ProcessMonitorProcess
from tests.simcloud import RemoteCloud

GUESTS_NEED = "libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients qemu-system-x86 seabios python3-libvirt"
SEEN_WITHIN_S = 10.0

# Waits for an end of its input that comes when we end, also by SIGKILL: it never outlives the demonstration.
STAND_IN = "read -r nothing\n"
RESTART = "false"
RESTARTS = 3

_LOG_LINE = re.compile(r"(?P<at>\S+) (?P<level>[A-Z]+) [\w.]+: (?P<text>.*)")
_ANSWERED = re.compile(r"report (?P<id>\S+) about (?P<about>\S+): recovery (?P<recovery>\d+) is ")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a monitor's log; at: Unix seconds."""

    at: float
    level: str
    text: str

    def answered(self, about: str) -> str:
        """The id of the report about this process or instance, if the line says that the controller has it."""
        found = _ANSWERED.match(self.text)
        return found["id"] if found and found["about"] == about else ""


def log_of(monitor: MonitorProcess, since: float) -> list[Line]:
    """What a monitor has logged since then (Unix seconds; its log has milliseconds)."""
    whole = monitor.said().rpartition("\n")[0]
    found = filter(None, map(_LOG_LINE.match, whole.splitlines()))
    lines = [Line(datetime.fromisoformat(line["at"]).timestamp(), line["level"], line["text"]) for line in found]
    return [line for line in lines if line.at >= int(since * 1000) / 1000]


class Guests:
    """libvirtd with guests in QEMU, the instancemonitor, and what plays nova-compute between them and the simulated Nova.

    From entry to exit; only where tests.lab.libvirtd.why_not() has nothing to say. Raises RuntimeError when something
    does not start.
    """

    def __init__(self, folder: Path, cloud: RemoteCloud, url: str, host: str, secret: str) -> None:
        self._folder, self._cloud, self._url, self._host, self._secret = folder, cloud, url, host, secret
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Guests:
        from tests.lab.compute import NovaCompute  # it needs libvirt, which is not everywhere

        with contextlib.ExitStack() as stack:
            self.libvirtd = stack.enter_context(PrivateLibvirtd())
            self.nova_compute = stack.enter_context(NovaCompute(self._cloud, self.libvirtd, self._host))
            folder = self._folder / "instancemonitor"
            self.monitor = InstanceMonitorProcess(folder, self._url, self._host, self.libvirtd)
            write_key(self.monitor, self._secret)
            stack.enter_context(self.monitor)
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.close()

    def boot(self, name: str) -> str:
        """A new instance that runs in QEMU; its uuid. Raises RuntimeError when libvirt can't start it."""
        import libvirt

        try:
            return self.nova_compute.boot(name)
        except libvirt.libvirtError as error:
            raise RuntimeError(f"libvirt can't start {name}: {error}") from error

    def qemu(self) -> dict[str, int]:
        """The QEMU processes of all guests that have one, by name."""
        found = {}
        for name in sorted(self.nova_compute.names.values()):
            with contextlib.suppress(FileNotFoundError):
                found[name] = self.libvirtd.qemu_pid(name)
        return found


class WatchedProcess:
    """A processmonitor, and a harmless script in the place of libvirtd, which it watches and can't restart.

    From entry to exit. Raises RuntimeError when the processmonitor does not start.
    """

    def __init__(self, folder: Path, url: str, host: str, secret: str) -> None:
        # The pid: another demonstration on this machine has its own.
        self.name = f"libvirtd-demo-{os.getpid()}"
        self._folder = folder / "processmonitor"
        self._process: subprocess.Popen[bytes] | None = None
        self._folder.mkdir()
        self._script = self._folder / self.name
        self._script.write_text(STAND_IN)
        line = f"1,{self.name},{RESTART},{RESTART},,,,"
        self.monitor = ProcessMonitorProcess(
            self._folder, url, host, [line], process_reboot_retry=RESTARTS, planned_stops="no"
        )
        write_key(self.monitor, secret)

    def __enter__(self) -> WatchedProcess:
        try:
            self.start()
            self.monitor.start()
            until(lambda: f"{self.name}: running" in self.monitor.said(), SEEN_WITHIN_S, self.monitor.said)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.monitor.kill()
        self.kill()

    @property
    def pid(self) -> int:
        """The process that is watched."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, as an operator would by hand."""
        self._process = subprocess.Popen(["/bin/sh", self._script], stdin=subprocess.PIPE, start_new_session=True)

    def kill(self) -> float:
        """kill -9, and when (Unix seconds). Harmless when it does not run."""
        killed_at = time.time()
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        return killed_at


def write_key(monitor: MonitorProcess, secret: str) -> None:
    """Give a monitor the key of its host."""
    host = monitor.host
    monitor.key.write_text(f"[{host}]\nhost = {host}\ncluster_port = {CLUSTER}\nsecret = {secret}\n")
