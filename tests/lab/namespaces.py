"""Hosts made of Linux namespaces, for tests that kill hosts. As root; nothing of them is seen on the machine itself.

Each holds a pipe to its process 1 and ends with it: also when the test that made it is killed, no process, network namespace,
mount or file stays behind.
"""

from __future__ import annotations

import functools
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

INIT = Path(__file__).with_name("namespace_init.py")
GONE_WITHIN_S = 10.0
ENVIRON = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "HOME": "/root"}


class Namespaces:
    """Namespaces of a kind each (net, mount, pid, and those named), held by a process 1."""

    def __init__(self, *init: str, kinds: tuple[str, ...] = (), within: Namespaces | None = None) -> None:
        """init: the words for namespace_init.py; kinds: more of unshare's; within: whose mounts are seen in here, too.

        Raises RuntimeError with what was said when they can't be made.
        """
        outer = ["nsenter", f"--target={within.pid}", "--mount", "--"] if within else []
        flags = [f"--{kind}" for kind in ("net", "mount", "mount-proc", "pid", "fork", *kinds)]
        self._process = subprocess.Popen(
            [*outer, "unshare", *flags, "--kill-child=KILL", "--", sys.executable, "-I", "-S", str(INIT), *init],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/",
            env=ENVIRON,
            start_new_session=True,
        )
        assert self._process.stdin and self._process.stdout
        said = self._process.stdout.readline()
        if said != "ready\n":
            self._process.stdin.close()
            said += self._process.stdout.read()
            raise RuntimeError(f"namespaces can't be made (unshare ended with {self._process.wait()}):\n{said}")
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        self.pid: int = int(children.read_text(encoding="ascii"))
        self._init = os.pidfd_open(self.pid)

    @property
    def root(self) -> Path:
        """Its file system, seen from outside while it lives."""
        return Path(f"/proc/{self.pid}/root")

    def lives(self) -> bool:
        """Whether its process 1 runs."""
        return self._init >= 0 and not select.select([self._init], [], [], 0)[0]

    def enter(self, *kinds: str) -> tuple[str, ...]:
        """What to write before a command to run it in here; without kinds, in all of its namespaces."""
        assert self.lives(), "it is down"
        wanted = kinds or ("mount", "uts", "ipc", "net", "pid")
        return ("nsenter", f"--target={self.pid}", *(f"--{kind}" for kind in wanted), "--")

    def processes(self, name: str = "") -> list[int]:
        """The processes in here, or those of this name (at most 15 letters of it count), by their ids outside."""
        try:
            space = os.readlink(f"/proc/{self.pid}/ns/pid")
        except OSError:  # it is down
            return []
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended meanwhile
                comm = (folder / "comm").read_text().strip()
                if os.readlink(folder / "ns/pid") == space and (not name or comm == name[:15]):
                    found.append(int(folder.name))
        return found

    def kill(self) -> None:
        """End everything in here at once, as a power cut does. Harmless when it is down already."""
        if self._init < 0:
            return
        assert self._process.stdin and self._process.stdout
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._init, signal.SIGKILL)
        ended = select.select([self._init], [], [], GONE_WITHIN_S)[0]
        os.close(self._init)
        self._init = -1
        self._process.stdin.close()
        self._process.stdout.close()
        if not ended:
            raise RuntimeError(f"process {self.pid} survives SIGKILL")
        self._process.wait(GONE_WITHIN_S)


@functools.cache
def can_unshare() -> bool:
    """Whether this user may make namespaces and mount in them."""
    command = [
        "unshare",
        "--net",
        "--mount",
        "--mount-proc",
        "--pid",
        "--fork",
        "mount",
        "-t",
        "tmpfs",
        "tmpfs",
        "/run",
    ]
    return subprocess.run(command, capture_output=True, env=ENVIRON, stdin=subprocess.DEVNULL).returncode == 0


def check(*command: str, within_s: float = 30.0) -> str:
    """Run a command to its end; what it printed. Raises RuntimeError with it when the command failed."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env=ENVIRON,
        cwd="/",
        timeout=within_s,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout
