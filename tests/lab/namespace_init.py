"""Process 1 of a set of namespaces: mounts what they need, says "ready", and stays until its stdin ends.

The kernel ends everything in a pid namespace with its process 1, and unmounts what only they saw. So whoever holds the other
end of stdin takes all of it along, however it ends. A program of its own, started in new namespaces:
  namespace_init.py disk FOLDER            a disk in memory, mounted over FOLDER
  namespace_init.py host NAME FOLDER       a host; the paths on its disk, FOLDER/NAME, cover those of this machine
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from types import FrameType

SYSRQ = "/proc/sysrq-trigger"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
ANY_ID = "/proc/sys/kernel/random/uuid"


def mount(*arguments: str) -> None:
    """Run mount(8)."""
    subprocess.run(["mount", *arguments], check=True, stdin=subprocess.DEVNULL)


def make_host(name: str, folder: str) -> None:
    """Cover every folder and file that is listed in FOLDER/NAME/covers, one path in a line."""
    with open(f"{folder}/{name}/covers", encoding="utf-8") as file:
        covers = file.read().split()
    # What covers the disk itself comes last: after it the disk can't be seen any more.
    for path in sorted(covers, key=lambda path: folder.startswith(path)):
        mount("--bind", f"{folder}/{name}{path}", path)
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/dev/shm")
    os.mkdir("/run/lock")
    # The kernel has booted once for all of them.
    with open(ANY_ID, encoding="ascii") as fresh, open("/run/boot_id", "w", encoding="ascii") as file:
        file.write(fresh.read())
    mount("--bind", "/run/boot_id", BOOT_ID)
    # A pacemaker that despairs of its host reboots it, and this file is the one of the real host.
    if os.path.exists(SYSRQ):
        mount("--bind", os.devnull, SYSRQ)
    socket.sethostname(name)


def reap(number: int, frame: FrameType | None) -> None:
    """Wait for all that ended: whoever has lost its parent is ours."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def main() -> None:
    """Make it, and stay."""
    kind, *arguments = sys.argv[1:]
    if kind == "host":
        make_host(*arguments)
    else:
        mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", *arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, reap)
    print("ready", flush=True)
    while os.read(0, 4096):
        pass


if __name__ == "__main__":
    main()
