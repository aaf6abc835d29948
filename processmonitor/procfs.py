"""Port to the processes of this host: /proc, which says what runs, and pidfds, which say when it ends."""

from __future__ import annotations

import errno
import logging
import os
import select
from collections.abc import Iterable
from dataclasses import dataclass

from masakari.common.errors import Unavailable
from processmonitor import matching

log = logging.getLogger(__name__)

MOST_BYTES = 65536
MOST_ANCESTORS = 64
_GONE = (errno.ENOENT, errno.ESRCH)


@dataclass(frozen=True, slots=True)
class Process:
    """A process, told by `started` (clock ticks since boot) from a later one with the same pid."""

    pid: int
    started: int


class Processes:
    """The processes of this host as /proc shows them."""

    def __init__(self, root: str = "/proc", own_pid: int | None = None) -> None:
        self._root = root
        self._own_pid = os.getpid() if own_pid is None else own_pid

    def matching(self, keys: Iterable[str]) -> dict[str, list[Process]]:
        """For each key the processes that it names, oldest first: see matching.belongs.

        Never this process or what it has started. Unavailable if /proc can't be read or doesn't show everything: then
        nothing is known, least of all that a process is not running.
        """
        wanted = {key: os.fsencode(key) for key in keys}
        found: dict[str, list[Process]] = {key: [] for key in wanted}
        for pid in self._pids():
            line = self._read(pid, "cmdline").rstrip(b"\0")
            # Nearly all processes end here, and this runs for each of them.
            mentioned = [key for key, raw in wanted.items() if raw in line.replace(b"\0", b" ")] if line else []
            if not mentioned:
                continue
            argv = os.fsdecode(line).split("\0")
            matched = [key for key in mentioned if matching.belongs(key, argv)]
            process = self._foreign(pid) if matched else None
            if process is not None:
                for key in matched:
                    found[key].append(process)
        return {key: sorted(processes, key=_age) for key, processes in found.items()}

    def runs(self, process: Process) -> bool:
        """Whether this very process, no later one with its pid, is there and no zombie. Unavailable as above."""
        fields = self._stat(str(process.pid))
        return fields is not None and fields[0] not in "ZX" and int(fields[19]) == process.started

    def any_runs(self, key: str) -> bool:
        """Whether any process is there that the key names. Unavailable as above. May be called by any thread."""
        return bool(self.matching([key])[key])

    def unit(self, process: Process) -> str:
        """The systemd service of a process; "" for none, one of a user's own manager, or our own. Unavailable as above.

        It has to be asked for while the process runs. What our own commands have started is in our service; what systemd
        says about that is about us.
        """
        unit, own = (unit_in(os.fsdecode(self._read(str(pid), "cgroup"))) for pid in (process.pid, self._own_pid))
        return "" if unit == own else unit

    def _pids(self) -> list[str]:
        try:
            names = os.listdir(self._root)
        except OSError as error:
            raise Unavailable(f"{self._root} can't be read: {error.strerror}") from error
        if "1" not in names:
            raise Unavailable(
                f"{self._root} does not show the processes of other users (hidepid?): run processmonitor as root, or mount it "
                "without hidepid"
            )
        return [name for name in names if name.isdigit()]

    def _foreign(self, pid: str) -> Process | None:
        """The process, unless it is gone, a zombie, this process or a descendant of it."""
        fields = self._stat(pid)
        if fields is None or fields[0] in "ZX":
            return None
        process = Process(int(pid), int(fields[19]))
        for _ in range(MOST_ANCESTORS):
            if int(pid) == self._own_pid:
                return None
            pid = fields[1]
            fields = self._stat(pid) if int(pid) > 1 else None
            if fields is None:
                break
        return process

    def _stat(self, pid: str) -> list[str] | None:
        """State, parent and so on of a process; None if it is gone. The name before them may contain anything."""
        line = os.fsdecode(self._read(pid, "stat"))
        return line.rpartition(")")[2].split() if line else None

    def _read(self, pid: str, name: str) -> bytes:
        """A file of a process, empty if that is gone.

        Any other error is no sign that it is gone: too many open files must not look like an outage.
        """
        try:
            descriptor = os.open(f"{self._root}/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                return os.read(descriptor, MOST_BYTES)
            finally:
                os.close(descriptor)
        except OSError as error:
            if error.errno in _GONE:
                return b""
            raise Unavailable(f"{self._root}/{pid}/{name} can't be read: {error.strerror}") from error


def unit_in(cgroups: str) -> str:
    """The service named last in the lines of /proc/PID/cgroup (pure); "" for none, or for one of a user's session."""
    for line in cgroups.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number != "0" and controllers != "name=systemd":
            continue
        parts = path.split("/")
        services = [part for part in parts if part.endswith(".service")]
        if services and not any(part.startswith("user-") or part == "user.slice" for part in parts):
            return services[-1]
    return ""


def _age(process: Process) -> tuple[int, int]:
    return process.started, process.pid


class Pidfds:
    """Waits for the end of any of many processes, or for wake().

    A process for which the kernel gives no pidfd (before Linux 5.3, or with too many files open) can't be waited for:
    unwatched() names it, and it has to be looked at. Only wake() may be called by another thread.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._poll = select.poll()
        self._descriptors: dict[Process, int] = {}
        self._by_descriptor: dict[int, Process] = {}
        self._unwatched: set[Process] = set()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll.register(self._wake, select.POLLIN)

    def watch(self, process: Process) -> bool:
        """Wait for this process from now on; False when it is gone already. Unavailable if /proc can't be read."""
        if process in self._descriptors or process in self._unwatched:
            return True
        descriptor = self._open(process)
        # Only now is it sure whose descriptor it is: the pid may have been that of another process for long.
        if descriptor is None or not self._processes.runs(process):
            if descriptor is not None and descriptor >= 0:
                os.close(descriptor)
            return False
        if descriptor < 0:
            self._unwatched.add(process)
            return True
        self._descriptors[process] = descriptor
        self._by_descriptor[descriptor] = process
        self._poll.register(descriptor, select.POLLIN)
        return True

    def forget(self, process: Process) -> None:
        """Wait no longer for this process; harmless if it was not waited for."""
        self._unwatched.discard(process)
        descriptor = self._descriptors.pop(process, None)
        if descriptor is not None:
            del self._by_descriptor[descriptor]
            self._poll.unregister(descriptor)
            os.close(descriptor)

    def unwatched(self) -> frozenset[Process]:
        """The processes whose end is not noticed by itself."""
        return frozenset(self._unwatched)

    def wait(self, seconds: float) -> set[Process]:
        """The processes that have ended, at the latest after so many seconds; they are forgotten."""
        ended = set()
        for descriptor, _ in self._poll.poll(max(0.0, seconds) * 1000):
            if descriptor == self._wake:
                os.eventfd_read(self._wake)
            else:
                ended.add(self._by_descriptor[descriptor])
        for process in ended:
            self.forget(process)
        return ended

    def wake(self) -> None:
        """End the wait at once."""
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Give all descriptors back."""
        for process in list(self._descriptors):
            self.forget(process)
        os.close(self._wake)

    def _open(self, process: Process) -> int | None:
        """A descriptor; None if no such process is there, -1 if the kernel gives none."""
        try:
            return os.pidfd_open(process.pid)
        except OSError as error:
            if error.errno == errno.ESRCH:
                return None
            if not self._unwatched:
                log.warning(
                    "the end of pid %d can't be waited for (pidfd_open: %s): it will be noticed by the next look only",
                    process.pid,
                    error.strerror,
                )
            return -1
