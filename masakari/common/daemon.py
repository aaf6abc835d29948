"""What a daemon needs around its work: systemd's notifications, signals, watched threads, a pid file."""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import FrameType
from typing import Any

from masakari.common.clock import Clock
from masakari.common.errors import ConfigError, InUse

log = logging.getLogger(__name__)

STOP_WITHIN_S = 5.0
STATUS_EVERY_S = 5.0


class Systemd:
    """Tells systemd how the service is (sd_notify). Silent when started by something else; never fails."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):  # the abstract namespace
            self._address = "\0" + self._address[1:]
        self.watchdog_s = _watchdog_s(environ)

    def ready(self, status: str = "") -> None:
        """Start-up, or a reload, is over."""
        self._send("READY=1", *([f"STATUS={status}"] if status else []))

    def status(self, text: str) -> None:
        """One line about what the service does, for systemctl status."""
        self._send(f"STATUS={text}")

    def alive(self) -> None:
        """Keep the watchdog from firing; wanted at least every watchdog_s."""
        self._send("WATCHDOG=1")

    def reloading(self, clock: Clock) -> None:
        """A reload begins; ready() ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={int(clock.monotonic() * 1e6)}")

    def stopping(self) -> None:
        """The service is on its way out."""
        self._send("STOPPING=1")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        text = "\n".join(line.replace("\n", " ") for line in lines)
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
            link.settimeout(1)
            link.sendto(text.encode(), self._address)


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    """Within what time systemd wants a sign of life of this very process; None: it wants none."""
    usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not usec.isdigit() or pid not in ("", str(os.getpid())):
        return None
    return int(usec) / 1e6 or None


class Signals:
    """SIGTERM and SIGINT set stop, SIGHUP sets reload; a handler does nothing else. For the main thread.

    Waiting is done on a socket, not on threading.Event: a handler may find its lock held by the very
    thread that it interrupts.
    """

    def __init__(self) -> None:
        self.stop = False
        self.reload = False
        self._receive, self._send = socket.socketpair()
        self._receive.setblocking(False)
        self._send.setblocking(False)

    def install(self) -> None:
        """Take over the three signals; a SIGHUP that hold_reload() kept back comes now."""
        signal.set_wakeup_fd(self._send.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._set_stop)
        signal.signal(signal.SIGHUP, self._set_reload)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])

    def wait(self, seconds: float | None) -> None:
        """Until the next signal or wake(), at most so long; None: without limit."""
        select.select([self._receive], [], [], seconds)
        with suppress(BlockingIOError):
            self._receive.recv(4096)

    def wake(self) -> None:
        """End the wait of the main thread. May be called by any thread."""
        with suppress(BlockingIOError):
            self._send.send(b"\0")

    def _set_stop(self, number: int, frame: FrameType | None) -> None:
        self.stop = True

    def _set_reload(self, number: int, frame: FrameType | None) -> None:
        self.reload = True


def hold_reload() -> None:
    """Keep a SIGHUP back that comes while a daemon still starts, instead of ending by it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])


class Threads:
    """Threads that are to run until stopping is set. If one ends before, it is named in dead."""

    def __init__(self, on_death: Callable[[], None]) -> None:
        self.stopping = threading.Event()
        self.dead = ""
        self._on_death = on_death
        self._threads: list[threading.Thread] = []
        self._stops: list[Callable[[], object]] = []

    def start(
        self, name: str, run: Callable[..., object], *args: Any, stop: Callable[[], object] | None = None
    ) -> None:
        """Run a thread. It has to watch stopping, or to return when another thread calls stop."""
        # daemon: one that hangs must not keep the process from ending.
        thread = threading.Thread(target=self._guard, name=name, args=(run, *args), daemon=True)
        if stop:
            self._stops.append(stop)
        self._threads.append(thread)
        thread.start()

    def stop(self, clock: Clock, within_s: float = STOP_WITHIN_S) -> list[str]:
        """Let all threads end. The names of those that haven't done so in time."""
        self.stopping.set()
        for stop in self._stops:
            stop()
        deadline = clock.monotonic() + within_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - clock.monotonic()))
        return [thread.name for thread in self._threads if thread.is_alive()]

    def _guard(self, run: Callable[..., object], *args: Any) -> None:
        """Run it; whatever ends it too early, the process must not go on without this thread."""
        name = threading.current_thread().name
        try:
            run(*args)
            if self.stopping.is_set():
                return
            log.critical("thread %s ended before it was told to; the process ends with it", name)
        except BaseException:
            log.critical("thread %s died; the process ends with it", name, exc_info=True)
        self.dead = self.dead or name
        self._on_death()


class Pulse:
    """Whether threads still turn: each beats, and the watchdog is fed as long as none is late."""

    def __init__(self, clock: Clock, late_after_s: float) -> None:
        self._clock = clock
        self._late_after_s = late_after_s
        self._beats: dict[str, float] = {}
        self._told: list[str] = []

    def beat(self, name: str) -> None:
        """The thread of this name has got round once more."""
        self._beats[name] = self._clock.monotonic()

    def well(self) -> bool:
        """Whether all of them turn; those that don't are named in the log, once."""
        late = self.late()
        if late != self._told:
            self._told = late
            log.error("threads that hang: %s", ", ".join(late) or "none any more")
        return not late

    def late(self) -> list[str]:
        """The threads that have not beaten for too long."""
        now = self._clock.monotonic()
        return [name for name, at in list(self._beats.items()) if now - at > self._late_after_s]


def supervise(
    signals: Signals,
    threads: Threads,
    systemd: Systemd,
    *,
    reload: Callable[[], object],
    healthy: Callable[[], bool],
    clock: Clock,
    status: Callable[[], str] | None = None,
    stop_within_s: float = STOP_WITHIN_S,
) -> int:
    """Be the main thread: wait for signals and for dead threads; returns the exit status.

    SIGTERM or SIGINT: 0; a thread that ended by itself: 1; in both cases after all were told to stop, for
    which they have stop_within_s. SIGHUP calls reload; its ConfigError is logged, and the service goes on as
    it was. The watchdog is fed as long as healthy() is true. What status() says is told to systemd when it changes.
    """
    beat_s = systemd.watchdog_s / 3 if systemd.watchdog_s else None
    rounds_s = [seconds for seconds in (beat_s, STATUS_EVERY_S if status else None) if seconds]
    told = ""
    while not (signals.stop or threads.dead):
        if beat_s and healthy():
            systemd.alive()
        if status and status() != told:
            told = status()
            systemd.status(told)
        signals.wait(min(rounds_s, default=None))
        if signals.reload:
            signals.reload = False
            systemd.reloading(clock)
            _reload(reload)
            systemd.ready()
    exit_status = 1 if threads.dead else 0  # what goes wrong while stopping changes nothing of it
    systemd.stopping()
    for name in threads.stop(clock, stop_within_s):
        log.warning("thread %s has not ended within %g s and is left behind", name, stop_within_s)
    return exit_status


def _reload(reload: Callable[[], object]) -> None:
    try:
        reload()
    except ConfigError as error:
        for problem in error.problems:
            log.error("not reloaded, the settings in use stay: %s", problem)


def only_one(folder: str) -> int:
    """Lock a folder for as long as this process lives; the descriptor of the lock.

    InUse naming the pid of the process that has it; ConfigError when the folder can't be made or written.
    """
    import fcntl

    path = os.path.join(folder, "lock")
    try:
        os.makedirs(folder, mode=0o750, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise ConfigError([f"the state folder {folder} can't be used: {error.strerror}"]) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise InUse([f"already running with pid {pid} (it holds {path}); stop that one first"]) from None
    # The lock is what counts; the pid in it is for people, and a full disk no reason not to start.
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


def daemonize(pidfile: str) -> None:
    """Become a classic daemon with a pid file, which is removed at exit.

    To be called before the log is opened and before any thread, socket or database connection exists:
    everything open is closed. Still in the foreground: InUse, which names its pid, when an instance with that pid
    file runs, and ConfigError when the file can't be made. A pid file left by a process that died is replaced.
    """
    import daemon  # python-daemon, which only init scripts need

    path = os.path.abspath(pidfile)
    _refuse_second(path)
    context = daemon.DaemonContext(pidfile=_PidFile(path), umask=0o027, signal_map={}, detach_process=True)
    context.open()


def _refuse_second(path: str) -> None:
    folder = os.path.dirname(path)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError([f"the pid file {path} can't be made: {folder} doesn't exist or isn't writable"])
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            running, pid = _is_locked(file.fileno()), file.readline().strip()
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError([f"the pid file {path} can't be read: {error.strerror}"]) from None
    if running:
        raise InUse([f"already running with pid {pid} (pid file {path}); stop that one first"])
    os.unlink(path)


def _is_locked(descriptor: int) -> bool:
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


class _PidFile:
    """A pid file of the lockfile package that is flocked as well.

    The lock dies with its process, whereas the pid may later be that of any other process.
    """

    def __init__(self, path: str) -> None:
        from lockfile.pidlockfile import PIDLockFile

        self._path = path
        self._pid_file = PIDLockFile(path, timeout=-1)
        self._descriptor = -1

    def __enter__(self) -> None:
        import fcntl

        self._pid_file.acquire()
        self._descriptor = os.open(self._path, os.O_RDONLY)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def __exit__(self, *error: object) -> None:
        self._pid_file.release()
