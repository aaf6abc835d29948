"""Containers of a fresh Debian, with systemd as process 1 or without it, for tests of installed packages. As root.

The folder of the Debian is made once by tests/bootstrap.sh; a container writes into a layer of its own above it. It has no network
but its own loopback, unless it is plugged into a Switch: what apt may install there lies in its cache. Like the hosts of
namespaces.py it is gone with the test.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from tests.lab.mariadb import until
from tests.lab.namespaces import ENVIRON, Namespaces, check
from tests.lab.outside import Outside

ROOT = Path(__file__).resolve().parents[2]
DEBIAN = ROOT / "build/containers" / os.environ.get("RELEASE", "bookworm")
"""Which release: make system RELEASE=trixie."""
BOOTED_WITHIN_S = 60.0
STOPPED_WITHIN_S = 20.0
RUN_WITHIN_S = 120.0
NSPAWN = (
    "systemd-nspawn",
    "--quiet",
    # Neither a systemd nor a D-Bus outside is needed.
    "--register=no",
    "--keep-unit",
    "--resolv-conf=off",
    "--timezone=off",
    "--console=pipe",
)


def why_not() -> str:
    """Why there can be no containers here; empty when there can."""
    if os.geteuid() != 0:
        return "needs root"
    if not shutil.which("systemd-nspawn") or not (DEBIAN / "etc/debian_version").exists():
        return "needs systemd-nspawn and the folder of a Debian (as root: make containers)"
    return ""


class Container:
    """A container, running while it is entered as a context.

    What is written in it is a layer of its own in the folder; `written` may be what another one begins with, once this has ended.
    """

    def __init__(
        self, folder: Path, *, systemd: bool = True, begins_with: Path | None = None, name: str = "debian"
    ) -> None:
        """name: its host name."""
        self.written = folder / "written"
        self._name = name
        self._folder = folder
        self._below = f"{begins_with}:{DEBIAN}" if begins_with else str(DEBIAN)
        self._boots = systemd
        self._init = 0

    def __enter__(self) -> Container:
        for name in ("written", "work", "root"):
            (self._folder / name).mkdir(parents=True)
        self._outside = Namespaces("disk", str(self._folder / "root"))
        try:
            self._start()
        except BaseException:
            self._outside.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._outside.kill()
        with suppress(subprocess.TimeoutExpired):
            self._nspawn.wait(STOPPED_WITHIN_S)

    @property
    def root(self) -> Path:
        """Its file system, seen from outside while it runs."""
        return Path(f"/proc/{self._init}/root")

    @property
    def network(self) -> Namespaces:
        """Whose network is its own."""
        return self._outside

    def run(self, *words: str, ok: Sequence[int] = (0,), within_s: float = RUN_WITHIN_S) -> str:
        """Run a command in it, as root; what it prints, errors included. Raises AssertionError on another status than those."""
        done = self.ran(*words, within_s=within_s)
        assert done.returncode in ok, f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def ran(self, *words: str, within_s: float = RUN_WITHIN_S) -> subprocess.CompletedProcess[str]:
        """Run a command in it, however it ends."""
        return subprocess.run(
            [*self._enter(), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=within_s,
            env={**ENVIRON, "DEBIAN_FRONTEND": "noninteractive"},
            # A `kill` in there whose service is down, so that its process is 0, would end this process group.
            start_new_session=True,
            check=False,
        )

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Put a file of root's into it."""
        file = self.root / path.lstrip("/")
        file.write_text(text, encoding="utf-8")
        file.chmod(mode)

    def put(self, folder: str, files: Sequence[Path]) -> None:
        """Copy files into a folder of it."""
        target = self.root / folder.lstrip("/")
        target.mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copy(file, target)

    def exists(self, path: str) -> bool:
        """Whether there is something at this path; links are not followed."""
        return os.path.lexists(self.root / path.lstrip("/"))

    def _start(self) -> None:
        root, output = self._folder / "root", self._folder / "console"
        layers = f"lowerdir={self._below},upperdir={self.written},workdir={self._folder / 'work'}"
        for words in (
            ("ip", "link", "set", "lo", "up"),
            ("mount", "-t", "overlay", "-o", layers, "overlay", str(root)),
        ):
            subprocess.run([*self._outside.enter(), *words], check=True, env=ENVIRON)
        # Goes before the one that systemd-nspawn sets.
        (self._outside.root / str(root).lstrip("/") / "etc/hostname").write_text(f"{self._name}\n", encoding="ascii")
        what = ("--boot",) if self._boots else ("--as-pid2", "sleep", "infinity")
        with output.open("wb") as console:
            self._nspawn = subprocess.Popen(
                [*self._outside.enter(), *NSPAWN, f"--hostname={self._name}", f"--directory={root}", *what],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                # Also where this machine still has cgroups of version 1, with which systemd 258 and later don't start.
                env={**ENVIRON, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            )
        until(
            self._is_up, BOOTED_WITHIN_S, lambda: f"the container doesn't start:\n{output.read_text(errors='replace')}"
        )

    def _is_up(self) -> bool:
        if self._nspawn.poll() is not None:
            return True  # which the next command tells
        self._init = _process_1_below(self._nspawn.pid)
        # Until it has moved in, it sees the files of this machine.
        if not self._init or os.path.samestat(os.stat("/"), os.stat(self.root)):
            return False
        if not self._boots:
            return self.ran("pgrep", "-x", "sleep").returncode == 0
        return self.ran("systemctl", "is-system-running").stdout.strip() in ("running", "degraded")

    def _enter(self) -> tuple[str, ...]:
        assert self._nspawn.poll() is None, (self._folder / "console").read_text(errors="replace")
        return ("nsenter", f"--target={self._init}", "--all", "--")


class Switch:
    """What containers are plugged into; gone on exit. The cloud and whatever else isn't a container stands `outside`, on it."""

    def __init__(self, folder: Path) -> None:
        """folder: an empty one."""
        self._folder = folder

    def __enter__(self) -> Switch:
        self._namespaces = Namespaces("disk", str(self._folder))
        self.outside = Outside(self._namespaces)
        try:
            for words in (
                "link set lo up",
                # A bridge without a MAC of its own takes one of its ports, and changes it with them.
                "link add br0 address 02:00:00:00:00:fe type bridge stp_state 0",
                "link set br0 up",
                f"address add {self.outside.address}/24 dev br0",
            ):
                self._ip(words)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.outside.stop()
        self._namespaces.kill()

    def plug_in(self, container: Container, address: str) -> None:
        """Give a running container this address; all addresses are in the /24 of the outside."""
        port = "to" + address.rpartition(".")[2]
        self._ip(f"link add {port} type veth peer name eth0 netns {container.network.pid}")
        self._ip(f"link set {port} master br0 up")
        container.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
        container.run("ip", "link", "set", "eth0", "up")

    def _ip(self, words: str) -> None:
        check(*self._namespaces.enter("net"), "ip", *words.split())


def _process_1_below(pid: int) -> int:
    """Of the descendants of a process, the one that is process 1 where it lives; 0 if there is none yet."""
    with suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split():
            status = Path(f"/proc/{child}/status").read_text(encoding="ascii", errors="replace")
            if next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1] == "1":
                return int(child)
            if found := _process_1_below(int(child)):
                return found
    return 0
