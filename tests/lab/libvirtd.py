"""A private libvirtd with real guests in QEMU, for tests that need the real thing. As root and as an ordinary user.

libvirtd runs in session mode: sockets, settings and logs are in a folder of its own, and neither virtlogd nor systemd nor a
network is needed. Started by root it runs as nobody, for as root it would use the folders of the system.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.lab.mariadb import until

START_WITHIN_S = 30.0
STOP_WITHIN_S = 15.0
BOOT_WITHIN_S = 30.0
NOBODY = 65534
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
REAPER = Path(__file__).with_name("reaper.py")
NOVA = "http://openstack.org/xmlns/libvirt/nova/1.1"

# The guest: one boot sector. Its source, and how these bytes are made of it, is testguest.s.
GUEST = bytes.fromhex(
    "fa31c08ed88ec08ed0bc007cfcfbba0206b80001efba0006eda90001754dbafd03ec83e0017519bb00108ec3"
    "26ff06000081c3000181fb009072ef8ec0f4ebd5baf803ecbe5c7c3a04740e83c60381fe6b7c72f3e85000eb"
    "bcff6401706b7c72747c637a7c77827c648a7cba0406b80020efeb30b0fee664eb2aba0505b001eeeb93ba43"
    "04b00feeeb8bb80102b90500ba8100bb0080cd13b02b7302b02de80600e971fff4ebfd50bafd03eca82074fb"
    "58baf803eec3"
)
SECTOR = 512
BOOT_DISK = 1 << 20  # SeaBIOS boots from no disk below one cylinder


def why_not() -> str:
    """Why no libvirtd with guests can be started here; empty when it can."""
    wanted = ("libvirtd", "qemu-system-x86_64", "setpriv")
    missing = [name for name in wanted if not _program(name)]
    try:
        import libvirt  # noqa: F401
    except ImportError:
        missing.append("the Python module libvirt")
    if missing:
        return f"libvirt is not installed: {', '.join(missing)} not found (make libvirt says more)"
    return ""


class PrivateLibvirtd:
    """libvirtd with a socket and guests of its own; starts on entry; it and every guest are gone on exit.

    The guests go on over kill() and start(), as on a real host. The folder is short and in /tmp: QEMU's sockets are in
    it, and the path of one may have 107 characters.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lv-", dir="/tmp"))
        self.socket = self.folder / "run/libvirt/libvirt-sock"
        self.uri = f"qemu+unix:///session?socket={self.socket}"
        self.pid = 0
        self._ended: set[int] = set()
        self._reaper: subprocess.Popen[str] | None = None
        for name in ("home", "config/libvirt", "cache", "data", "run", "guests"):
            (self.folder / name).mkdir(parents=True)
        # The uuid of the host: libvirt migrates only between different ones.
        self._configure(
            "libvirtd", f'log_outputs = "3:file:{self.folder}/libvirtd.log"', f'host_uuid = "{uuid.uuid4()}"'
        )
        self._configure("qemu", 'stdio_handler = "file"')
        self.folder.chmod(0o755)
        (self.folder / "run").chmod(0o700)
        self.give_away()

    def __enter__(self) -> PrivateLibvirtd:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._reaper and self._reaper.stdin:
            self._reaper.stdin.close()
            try:
                self._reaper.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                self._reaper.kill()
                self._reaper.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start libvirtd, and wait until it listens. Raises RuntimeError with the end of its log when it doesn't."""
        self.spawn()
        until(self._listens, START_WITHIN_S, lambda: f"libvirtd doesn't start:\n{self._end_of_log()}")

    def spawn(self) -> None:
        """Start libvirtd, and don't wait for more than its process."""
        self.pid = 0
        reaper = self._reaper or self._start_reaper()
        assert reaper.stdin
        order = {
            "argv": [*_as_nobody(), _program("libvirtd")],
            "environ": self._environ(),
            "output": str(self.folder / "output"),
        }
        reaper.stdin.write(json.dumps(order) + "\n")
        until(lambda: bool(self.pid or reaper.poll() is not None), START_WITHIN_S, lambda: "libvirtd is not started")
        assert self.pid, "the reaper ended; what it said is on stderr"

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End libvirtd, by default as a crash does, and wait until it is gone."""
        os.kill(self.pid, how)
        with suppress(ProcessLookupError):  # one that hangs dies of nothing but SIGKILL
            os.kill(self.pid, signal.SIGCONT)
        until(lambda: self.pid in self._ended, STOP_WITHIN_S, lambda: f"libvirtd survives {how.name}")

    def freeze(self) -> None:
        """Let it hang: it keeps its connections and answers nothing, until thaw()."""
        os.kill(self.pid, signal.SIGSTOP)
        until(self._stands_still, STOP_WITHIN_S, lambda: "libvirtd doesn't stand still")

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def qemu_pid(self, name: str) -> int:
        """The process of a running guest."""
        return int((self.folder / f"run/libvirt/qemu/run/{name}.pid").read_text(encoding="ascii"))

    @contextmanager
    def serial(self, name: str) -> Iterator[Serial]:
        """The serial port of a running guest, once it has booted."""
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(str(self.folder / f"guests/{name}.serial"))
            serial = Serial(link)
            serial.wait_booted()
            yield serial

    def image(self, name: str, content: bytes = b"", size: int = BOOT_DISK) -> Path:
        """A disk that the guests may write."""
        path = self.folder / "guests" / name
        path.write_bytes(content)
        os.truncate(path, size)
        self.give_away()
        return path

    def domain_xml(self, name: str, *, nova: bool = True, serial: bool = True, **options: str) -> str:
        """The definition of a guest, by default with the mark of Nova.

        options: uuid, on_reboot, on_crash; devices: more of them, as XML; arguments: more of them for QEMU, separated by
        spaces. Without a serial port the guest takes no orders.
        """
        boot = self.image(f"{name}.boot", GUEST.ljust(SECTOR - 2, b"\0") + b"\x55\xaa")
        devices = options.get("devices", "")
        if serial:
            devices += f"<serial type='unix'><source mode='bind' path='{self.folder}/guests/{name}.serial'/></serial>"
        arguments = "".join(f"<qemu:arg value='{value}'/>" for value in options.get("arguments", "").split())
        mark = f"<metadata><nova:instance xmlns:nova='{NOVA}'><nova:name>{name}</nova:name></nova:instance></metadata>"
        return f"""
            <domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
              <name>{name}</name><uuid>{options.get("uuid", uuid.uuid4())}</uuid>{mark if nova else ""}
              <memory unit='MiB'>16</memory><vcpu>1</vcpu>
              <os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features>
              <on_poweroff>destroy</on_poweroff>
              <on_reboot>{options.get("on_reboot", "restart")}</on_reboot>
              <on_crash>{options.get("on_crash", "destroy")}</on_crash>
              <devices>
                <emulator>/usr/bin/qemu-system-x86_64</emulator>
                <disk type='file' device='disk'>
                  <driver name='qemu' type='raw'/><source file='{boot}'/><target dev='vda' bus='virtio'/>
                  <readonly/><boot order='1'/>
                </disk>
                <controller type='usb' model='none'/><memballoon model='none'/>{devices}
              </devices>
              <qemu:commandline>{arguments}</qemu:commandline>
            </domain>"""

    def give_away(self) -> None:
        """What root put into the folder belongs to nobody, as whom libvirtd and QEMU run."""
        if os.geteuid() == 0:
            for path in (self.folder, *self.folder.rglob("*")):
                os.chown(path, NOBODY, NOBODY, follow_symlinks=False)

    def _configure(self, name: str, *lines: str) -> None:
        path = self.folder / f"config/libvirt/{name}.conf"
        path.write_text("\n".join((*lines, "")), encoding="utf-8")

    def _environ(self) -> dict[str, str]:
        folders = {"CONFIG_HOME": "config", "CACHE_HOME": "cache", "DATA_HOME": "data", "RUNTIME_DIR": "run"}
        xdg = {f"XDG_{name}": f"{self.folder}/{folder}" for name, folder in folders.items()}
        return {"PATH": SYSTEM_PATH, "HOME": f"{self.folder}/home", **xdg}

    def _start_reaper(self) -> subprocess.Popen[str]:
        self._reaper = subprocess.Popen(
            [sys.executable, "-S", str(REAPER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,
        )
        threading.Thread(target=self._listen, args=(self._reaper,), name="reaper", daemon=True).start()
        return self._reaper

    def _listen(self, reaper: subprocess.Popen[str]) -> None:
        assert reaper.stdout
        for line in reaper.stdout:
            what, pid = json.loads(line)
            if what == "started":
                self.pid = pid
            else:
                self._ended.add(pid)

    def _listens(self) -> bool:
        if self.pid in self._ended:
            raise RuntimeError(f"libvirtd ended by itself:\n{self._end_of_log()}")
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def _stands_still(self) -> bool:
        try:
            stats = [path.read_text() for path in Path(f"/proc/{self.pid}/task").glob("*/stat")]
        except FileNotFoundError:  # a thread ended meanwhile
            return False
        return all(stat.rpartition(") ")[2].startswith("T") for stat in stats)

    def _end_of_log(self) -> str:
        logs = [self.folder / name for name in ("output", "libvirtd.log")]
        return "\n".join(log.read_text(errors="replace")[-3000:] for log in logs if log.exists())


class Serial:
    """The serial port of a guest, which takes orders of one letter (see testguest.s)."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link

    def order(self, letter: str) -> None:
        """Tell the guest what to do."""
        self._link.sendall(letter.encode())

    def wait_booted(self) -> None:
        """Until it sends back a letter."""
        self._link.settimeout(0.1)
        until(self._echoes, BOOT_WITHIN_S, lambda: "the guest doesn't boot")

    def _echoes(self) -> bool:
        self.order("?")
        try:
            return b"?" in self._link.recv(SECTOR)
        except TimeoutError:
            return False


def _as_nobody() -> Sequence[str]:
    if os.geteuid() != 0:
        return ()
    return (_program("setpriv"), f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")


def _program(name: str) -> str:
    """Its path; /usr/sbin is not on the path of ordinary users. Empty when it is not installed."""
    return shutil.which(name, path=SYSTEM_PATH) or ""
