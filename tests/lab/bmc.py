"""A BMC for tests that need the real thing: OpenIPMI's ipmi_sim, with a power state and faults to set."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hostmonitor.power import Bmc
from tests.lab.mariadb import until

START_WITHIN_S = 10.0
STOP_WITHIN_S = 5.0
USER, PASSWORD = "admin", "not-a-secret"
GUID = "3c5d1f20-7a4b-4c1e-9f21-0123456789ab"

LAN = """name "bmc"
set_working_mc 0x20
startlan 1
  addr {address} {port}
  priv_limit admin
  allowed_auths_callback none md2 md5 straight
  allowed_auths_user none md2 md5 straight
  allowed_auths_operator none md2 md5 straight
  allowed_auths_admin none md2 md5 straight
  guid {guid}
endlan
chassis_control "{folder}/chassis"
user 1 true "" "" user 10 none md2 md5 straight
user 2 true "{user}" "{password}" admin 10 none md2 md5 straight
"""

CONTROLLER = """mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
mc_enable 0x20
"""

# ipmi_sim runs it as: chassis get power, chassis set power 0. What it prints is the answer; an error is one of the BMC.
# Others read the files meanwhile, so each is there with all that it says, or isn't.
CHASSIS = """#!/bin/sh
cd "{folder}" || exit 1
[ -e refuses ] && exit 1
keep() {{ echo "$2" >"$1.new" && mv "$1.new" "$1"; }}
now=$(($(date +%s%N) / 1000000))
if [ -e off_at ] && [ "$now" -ge "$(cat off_at)" ]; then
    keep power 0
    rm -f off_at
fi
case "$1 $2 $3" in
    'get power '*) echo "power:$(cat power)" ;;
    'set power 0')
        if [ -e off_takes_ms ]; then keep off_at $((now + $(cat off_takes_ms))); else keep power 0; fi ;;
    'set power 1') rm -f off_at; keep power 1 ;;
esac
"""


def why_not() -> str:
    """Why no BMC can be started here; empty when one can."""
    missing = [name for name in ("ipmitool", "ipmi_sim") if not shutil.which(name)]
    if missing:
        return (
            f"IPMI tools are not installed: {', '.join(missing)} not found (as root: apt-get install ipmitool openipmi)"
        )
    return ""


class PrivateBmc:
    """A BMC with a UDP port of its own; it answers from entry on, and is gone on exit. Its host is on at first."""

    def __init__(
        self, guid: str = GUID, *, address: str = "127.0.0.1", port: int = 0, prefix: tuple[str, ...] = ()
    ) -> None:
        """port: 0 takes a free one of loopback; prefix: what runs a command in the network that has the address."""
        self.guid = guid
        self.address = address
        self.folder = Path(tempfile.mkdtemp(prefix="bmc-", dir="/tmp"))
        self.port = port or free_port()
        self._prefix = prefix
        self._process: subprocess.Popen[bytes] | None = None
        fields = {"address": address, "port": self.port, "folder": self.folder, "user": USER, "password": PASSWORD}
        # ipmi_sim takes the bytes in the order of the wire, and ipmitool turns them round.
        fields["guid"] = bytes.fromhex(guid.replace("-", ""))[::-1].hex()
        (self.folder / "state/bmc").mkdir(parents=True)
        for name, text in (("lan", LAN), ("controller", CONTROLLER), ("chassis", CHASSIS)):
            (self.folder / name).write_text(text.format(**fields), encoding="ascii")
        (self.folder / "chassis").chmod(0o755)
        self.set_power("on")

    def __enter__(self) -> PrivateBmc:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start it, and wait until it answers. Raises RuntimeError with what it said when it doesn't."""
        arguments = [*self._prefix, "ipmi_sim", "-n"]
        for flag, name in (("-c", "lan"), ("-f", "controller"), ("-s", "state")):
            arguments += [flag, str(self.folder / name)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(
            self._answers,
            START_WITHIN_S,
            lambda: f"ipmi_sim doesn't start: {(self.folder / 'log').read_text()[-2000:]}",
        )

    def stop(self) -> None:
        """End it: nothing answers at its port any more."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait(STOP_WITHIN_S)
        self._process = None

    def bmc(self, *, password: str = PASSWORD, user: str = USER, guid: str = "", cipher: str = "3") -> Bmc:
        """How it is reached."""
        return Bmc(self.address, user, password, self.port, cipher=cipher, guid=guid, source="the test")

    def set_power(self, state: str) -> None:
        """Its host is "on" or "off" from now on."""
        new = self.folder / "power.set"
        new.write_text("1\n" if state == "on" else "0\n", encoding="ascii")
        (self.folder / "off_at").unlink(missing_ok=True)
        new.rename(self.folder / "power")

    @property
    def power(self) -> str:
        """ "on" or "off", as it would tell it."""
        with suppress(FileNotFoundError):
            if time.time() * 1000 >= int((self.folder / "off_at").read_text(encoding="ascii")):
                return "off"
        return "on" if (self.folder / "power").read_text(encoding="ascii").strip() == "1" else "off"

    def refuse(self, refuses: bool = True) -> None:
        """It answers, but carries out no command about the power, and tells no power state."""
        fault = self.folder / "refuses"
        if refuses:
            fault.touch()
        else:
            fault.unlink(missing_ok=True)

    def off_takes(self, seconds: float) -> None:
        """It accepts "off" at once, and its host is still on for so long."""
        (self.folder / "off_takes_ms").write_text(str(int(seconds * 1000)), encoding="ascii")

    @contextmanager
    def silent(self) -> Iterator[None]:
        """It hangs: it has its port, and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def ipmitool(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """ipmitool with these arguments, as an operator or a fence agent runs it."""
        options = f"-I lanplus -H {self.address} -p {self.port} -U {USER} -E -C 3 -N 1 -R 3".split()
        return subprocess.run(
            [*self._prefix, "ipmitool", *options, *arguments],
            capture_output=True,
            encoding="utf-8",
            env={**os.environ, "IPMI_PASSWORD": PASSWORD},
            stdin=subprocess.DEVNULL,
            timeout=30,
        )

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"ipmi_sim ended by itself: {(self.folder / 'log').read_text()[-2000:]}")
        return self.ipmitool("mc", "guid").returncode == 0


def free_port() -> int:
    """A UDP port of loopback at which nobody listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
