"""Port to ipmitool: what a BMC says. The password goes by the environment, and every question has a total time limit."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from hostmonitor.power import Bmc, Ran, Reading, guid_in, read, refuses_cipher, state_in
from hostmonitor.tool import PATH, Missing, run
from masakari.common.clock import Clock
from masakari.common.errors import Unavailable

PROGRAM = "ipmitool"

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
        """The power state of one BMC, and the GUID that it tells; both within timeout_s. Never raises.

        A BMC that tells no GUID in that time, and has none declared, has told its power state all the same.
        """
        deadline = self.clock.monotonic() + timeout_s
        status, cipher = self._with_cipher(bmc, deadline)
        if not state_in(status):
            return read(bmc, status)
        left_s = deadline - self.clock.monotonic()
        return read(bmc, status, self._run([*_options(bmc, cipher, left_s), "mc", "guid"], bmc.password, deadline))

    def own_guid(self, timeout_s: float) -> str:
        """The GUID of this host's own BMC, asked in-band; "" where there is none, or it does not tell it in time."""
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
        environ = {"PATH": self.path, "LC_ALL": "C", "HOME": "/", "IPMI_PASSWORD": password}
        status, output, errors, missing = None, "", "", ""
        try:
            ended = run(PROGRAM, [self.program, *arguments], environ, self.clock, deadline, self.stopping)
            status, output, errors = ended.status, ended.output, ended.errors
        except Missing as error:
            missing = str(error)
        except Unavailable:  # it is killed
            pass
        seconds = self.clock.monotonic() - began
        return Ran(status, output, errors, began_at, self.clock.now(), seconds, missing)


def _options(bmc: Bmc, cipher: str, left_s: float) -> list[str]:
    """ipmitool's options. Two sends of each message, so far apart that it gives up by itself just before its time is up."""
    wait_s = max(1, int(left_s / 2 - 0.1))
    options = ["-I", bmc.interface, "-H", bmc.address, "-p", str(bmc.port), "-N", str(wait_s), "-R", "1", "-E"]
    for flag, value in (("-U", bmc.user), ("-C", cipher), ("-L", bmc.privilege.upper()), ("-A", bmc.auth.upper())):
        if value:
            options += [flag, value]
    return options
