"""Port: runs a program to its end, within a time limit and with a bounded answer, whatever it and its children do."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from masakari.common.clock import Clock
from masakari.common.errors import Unavailable

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LOOK_EVERY_S = 0.05
GONE_WITHIN_S = 2.0
READ_BYTES = 65536
OUTPUT_BYTES = 16 << 20  # crm_mon needs 2 for 1,000 nodes
ERRORS_BYTES = 4096


class Missing(Unavailable):
    """The program can't be started: as a rule it isn't installed."""


class Late(Unavailable):
    """The program did not end in time, and was killed."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended: its exit status, or the negative number of the signal; what it printed; the first 4 KiB of errors."""

    status: int
    output: str
    errors: str


def run(
    name: str,
    words: Sequence[str],
    environ: Mapping[str, str],
    clock: Clock,
    deadline: float,
    stopping: threading.Event | None = None,
) -> Ended:
    """Run a program without input in a session of its own, until the deadline on the monotonic clock at the latest.

    Whatever is left of its process group when it has ended, or time is up, is killed; also when stopping is set meanwhile.
    Raises Unavailable, in which it is called by the name given, when there is no end to tell of: Missing when it can't be
    started, Late when it is not done in time, Unavailable itself when it prints more than 16 MiB, or is stopped.
    """
    began = clock.monotonic()
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env=dict(environ),
            start_new_session=True,
        )
    except FileNotFoundError:
        raise Missing(f"there is no program {words[0]} in {environ['PATH']}") from None
    except OSError as error:
        raise Missing(f"{name} can't be started: {error.strerror}") from error
    except ValueError as error:  # a character in a word that no command line can hold
        raise Missing(f"{name} can't be started: {error}") from None
    try:
        output, errors = _Pipes(process, clock, deadline, stopping).read()
    except _TooMuch:
        raise Unavailable(f"{name} printed more than {OUTPUT_BYTES >> 20} MiB, and was killed") from None
    except _Stopped:
        raise Unavailable(f"{name} was given up: this monitor is stopping") from None
    except _Late:
        took_s = clock.monotonic() - began
        raise Late(f"{name} did not end within {took_s:.1f} s, and was killed") from None
    finally:
        _end(process)
    return Ended(process.returncode, output, errors)


class _Late(Exception):
    pass


class _Stopped(Exception):
    pass


class _TooMuch(Exception):
    pass


class _Pipes:
    """The output and the errors of a process, read until it has ended."""

    def __init__(
        self, process: subprocess.Popen[bytes], clock: Clock, deadline: float, stopping: threading.Event | None
    ) -> None:
        assert process.stdout and process.stderr
        self._pid = process.pid
        self._output, self._errors = process.stdout.fileno(), process.stderr.fileno()
        self._kept = {self._output: bytearray(), self._errors: bytearray()}
        self._open = set(self._kept)
        self._clock = clock
        self._deadline = deadline
        self._stopping = stopping
        self._poll = select.poll()
        for pipe in self._kept:
            os.set_blocking(pipe, False)
            self._poll.register(pipe, select.POLLIN)

    def read(self) -> tuple[str, str]:
        """Everything printed until the process ended; its children may have the pipes open for longer."""
        while not self._has_ended():
            self._take(LOOK_EVERY_S)
        while self._take(0):
            pass
        output, errors = (self._kept[pipe].decode("utf-8", "replace") for pipe in (self._output, self._errors))
        return output, errors

    def _take(self, wait_s: float) -> bool:
        """Read what is there, or comes within a time; whether anything was there."""
        if self._stopping and self._stopping.is_set():
            raise _Stopped
        left_s = self._deadline - self._clock.monotonic()
        if left_s <= 0:
            raise _Late
        ready = [pipe for pipe, _ in self._poll.poll(min(wait_s, left_s) * 1000)]
        for pipe in ready:
            data = os.read(pipe, READ_BYTES)
            if not data:
                self._poll.unregister(pipe)
                self._open.discard(pipe)
            self._keep(pipe, data)
        return bool(ready)

    def _keep(self, pipe: int, data: bytes) -> None:
        kept = self._kept[pipe]
        if pipe == self._errors:
            kept += data[: ERRORS_BYTES - len(kept)]
            return
        kept += data
        if len(kept) > OUTPUT_BYTES:
            raise _TooMuch

    def _has_ended(self) -> bool:
        """It isn't reaped: as long as its id is taken, its process group can be killed by it."""
        if not self._open:
            # As a rule a program ends as soon as it has closed its output; only then is there nothing to wait for with poll.
            self._clock.sleep(0.001)
        return os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    assert process.stdout and process.stderr
    process.stdout.close()
    process.stderr.close()
    # One that waits for a broken disk dies later, if ever; Popen collects it then.
    with suppress(subprocess.TimeoutExpired):
        process.wait(GONE_WITHIN_S)
