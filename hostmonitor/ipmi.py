"""Port to ipmitool: what a BMC says. The password goes by the environment, and every question has a total time limit."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from hostmonitor.power import Bmc, Ran, Reading, guid_in, read, refuses_cipher
from masakari.common.clock import Clock

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROGRAM = "ipmitool"
LOOK_EVERY_S = 0.2
GONE_WITHIN_S = 2.0

# Left to choose by itself, ipmitool asks for the list of suites first, and that takes ten seconds with many a BMC.
CIPHERS = ("3", "17")


@dataclass(frozen=True)
class Ipmi:
    """Asks BMCs, and changes nothing on them. Any number of threads may use it at once.

    When stopping is set, what is being asked is given up.
    """

    clock: Clock
    program: str = PROGRAM
    path: str = PATH
    stopping: threading.Event = field(default_factory=threading.Event)

    def read_all(self, bmcs: Sequence[Bmc], timeout_s: float) -> list[Reading]:
        """Ask several BMCs at the same time; their readings in the same order, after timeout_s at the latest. Never raises."""
        if len(bmcs) < 2:
            return [self.read(bmc, timeout_s) for bmc in bmcs]
        from concurrent.futures import ThreadPoolExecutor  # rarely needed

        with ThreadPoolExecutor(len(bmcs)) as threads:
            return list(threads.map(lambda bmc: self.read(bmc, timeout_s), bmcs))

    def read(self, bmc: Bmc, timeout_s: float) -> Reading:
        """The power state of one BMC, and its GUID if one is declared; both within timeout_s. Never raises."""
        deadline = self.clock.monotonic() + timeout_s
        status, cipher = self._with_cipher(bmc, deadline)
        if not bmc.guid or status.status != 0:
            return read(bmc, status)
        guid = self._run(
            [*_options(bmc, cipher, deadline - self.clock.monotonic()), "mc", "guid"], bmc.password, deadline
        )
        return read(bmc, status, guid)

    def own_guid(self, timeout_s: float) -> str:
        """The GUID of this host's own BMC, asked in-band; "" where there is none, or it does not tell."""
        return guid_in(self._run(["mc", "guid"], "", self.clock.monotonic() + timeout_s))

    def _with_cipher(self, bmc: Bmc, deadline: float) -> tuple[Ran, str]:
        """The power state, with the first cipher suite that the BMC does not refuse."""
        suites = (bmc.cipher,) if bmc.cipher or bmc.interface != "lanplus" else CIPHERS
        for suite in suites:
            left_s = deadline - self.clock.monotonic()
            # -v: only then ipmitool tells a wrong password from other reasons.
            ran = self._run([*_options(bmc, suite, left_s), "-v", "chassis", "power", "status"], bmc.password, deadline)
            if not refuses_cipher(ran):
                break
        return ran, suite

    def _run(self, arguments: Sequence[str], password: str, deadline: float) -> Ran:
        began_at, began = self.clock.now(), self.clock.monotonic()
        environment = {"PATH": self.path, "LC_ALL": "C", "HOME": "/", "IPMI_PASSWORD": password}
        try:
            process = subprocess.Popen(
                [self.program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                env=environment,
                cwd="/",
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            return Ran(None, "", "", began_at, self.clock.now(), 0.0, missing=why)
        output, errors, ended = self._collect(process, deadline)
        seconds = self.clock.monotonic() - began
        return Ran(process.returncode if ended else None, output, errors, began_at, self.clock.now(), seconds)

    def _collect(self, process: subprocess.Popen[str], deadline: float) -> tuple[str, str, bool]:
        """What it printed, and whether it ended by itself; at the deadline its process group is killed."""
        while True:
            left_s = deadline - self.clock.monotonic()
            if left_s <= 0 or self.stopping.is_set():
                break
            with suppress(subprocess.TimeoutExpired):
                output, errors = process.communicate(timeout=min(LOOK_EVERY_S, left_s))
                return output, errors, True
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            output, errors = process.communicate(timeout=GONE_WITHIN_S)
            return output, errors, False
        # Somebody outside its process group has the pipes open.
        for pipe in (process.stdout, process.stderr):
            assert pipe
            pipe.close()
        return "", "", False


def _options(bmc: Bmc, cipher: str, left_s: float) -> list[str]:
    """ipmitool's options. Two sends of each message, so far apart that it gives up by itself just before its time is up."""
    wait_s = max(1, int(left_s / 2 - 0.1))
    options = ["-I", bmc.interface, "-H", bmc.address, "-p", str(bmc.port), "-N", str(wait_s), "-R", "1", "-E"]
    for flag, value in (("-U", bmc.user), ("-C", cipher), ("-L", bmc.privilege.upper()), ("-A", bmc.auth.upper())):
        if value:
            options += [flag, value]
    return options
