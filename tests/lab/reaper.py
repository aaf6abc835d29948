"""Starts programs, and is the parent of whatever they leave behind; takes all of it along when its stdin ends.

QEMU is no child of libvirtd: its parent is process 1, or the nearest "subreaper". libvirt tells that a guest stopped only
when somebody has waited for its dead QEMU, and process 1 of a container may take seconds for that. This one waits at once.
It is a program of its own: python3 reaper.py. Each line of its stdin is an order, {"argv", "environ", "output"};
each line of its stdout is ["started", pid] or ["ended", pid].
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

PR_SET_CHILD_SUBREAPER = 36
KILL_AFTER_S = 2.0
GIVE_UP_AFTER_S = 6.0


def say(what: str, pid: int) -> None:
    """One line for whoever started us; it may be gone."""
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps([what, pid]).encode() + b"\n")


def reap(number: int = 0, frame: FrameType | None = None) -> None:
    """Wait for all that ended."""
    with contextlib.suppress(ChildProcessError):
        while pid := os.waitpid(-1, os.WNOHANG)[0]:
            say("ended", pid)


def run(order: str) -> None:
    """Start a program, with its output added to a file."""
    wanted = json.loads(order)
    output = os.open(wanted["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, output, 1),
        (os.POSIX_SPAWN_DUP2, output, 2),
    ]
    pid = os.posix_spawnp(wanted["argv"][0], wanted["argv"], wanted["environ"], file_actions=actions)
    os.close(output)
    say("started", pid)


def children() -> list[int]:
    """Our children, those that were left to us included."""
    text = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii")
    return [int(pid) for pid in text.split()]


def end_all() -> None:
    """End every child, kindly at first. One that is stopped can only be killed."""
    began = time.monotonic()
    while (pids := children()) and time.monotonic() < began + GIVE_UP_AFTER_S:
        for pid in pids:
            kindly = time.monotonic() < began + KILL_AFTER_S
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM if kindly else signal.SIGKILL)
                os.kill(pid, signal.SIGCONT)
        time.sleep(0.02)
        reap()


def main() -> None:
    """Take orders until there are no more."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, reap)
    for order in sys.stdin:
        run(order)
    end_all()


if __name__ == "__main__":
    main()
