"""Port to tcpdump: whether this node hears anything of the others on corosync's rings."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from hostmonitor.corosync import ANY_GROUP, Ring
from hostmonitor.tool import PATH, Late, Missing, run
from masakari.common.clock import Clock
from masakari.common.errors import Unavailable

HEARD, SILENT, UNKNOWN = "heard", "silent", "unknown"
PROGRAM = "tcpdump"
RING_WITHIN_S = 3.0
"""Whether one ring of several is silent: knet sends something on each at least every quarter of the token's time-out."""


@dataclass(frozen=True, slots=True)
class Line:
    """The heartbeat line. state: HEARD when something of another node arrived, on whichever ring; SILENT; UNKNOWN.

    text: for the operator, why it is so; with HEARD, which of several rings are silent, and "" if none is.
    """

    state: str
    text: str = ""


@dataclass(frozen=True)
class Heartbeat:
    """Listens, and sends nothing. Needs root, or CAP_NET_RAW. `prefix` stands before the command, as in Pacemaker.

    When stopping is set, it listens no longer, and knows nothing.
    """

    clock: Clock
    prefix: tuple[str, ...] = ()
    path: str = PATH
    stopping: threading.Event | None = None

    def listen(self, rings: Sequence[Ring], timeout_s: float) -> Line:
        """Whether anything of other nodes is heard on any of this node's rings within timeout_s. Never raises.

        With several rings it takes up to 3 s more for each of them to name those that are silent.
        """
        if not rings:
            return Line(UNKNOWN, "corosync does not tell this node's addresses")
        own = [ring.address for ring in rings]
        try:
            if not self._hears(_of_others(rings, own), timeout_s):
                return Line(SILENT, f"nothing of other nodes was heard for {timeout_s:g} s on {_named(rings)}")
            asked = rings if len(rings) > 1 else ()
            silent = [ring for ring in asked if not self._hears(_of_others([ring], own), RING_WITHIN_S)]
        except Unavailable as error:
            return Line(UNKNOWN, str(error))
        return Line(HEARD, f"{_named(silent)} of the heartbeat line is silent: look at its network" if silent else "")

    def _hears(self, packets: str, within_s: float) -> bool:
        """Whether such a packet is seen. Unavailable, with a text for the operator, when that can't be told."""
        # Without --immediate-mode a packet is handed on up to a second late. -n: nobody is asked for names.
        words = (PROGRAM, "-i", "any", "-n", "-p", "-c", "1", "--immediate-mode", packets)
        environ = {"PATH": self.path, "LC_ALL": "C", "TZ": "UTC", "HOME": "/"}
        deadline = self.clock.monotonic() + within_s
        try:
            ended = run(PROGRAM, [*self.prefix, *words], environ, self.clock, deadline, self.stopping)
        except Late:
            return False
        except Missing as error:
            raise Unavailable(f"{error}; install the package tcpdump") from error
        if ended.status == 0 and ended.output.strip():
            return True
        said = (ended.errors.strip() or "nothing").splitlines()[-1]
        raise Unavailable(f"tcpdump ended with {ended.status}, and said: {said[:200]}; it needs root, or CAP_NET_RAW")


def _of_others(rings: Sequence[Ring], own: Sequence[str]) -> str:
    """The packets on any of these rings that other nodes sent, as tcpdump's filter. Its own a node sees on a dead line, too."""
    arriving = " or ".join(f"(dst port {ring.port} and ({_to(ring)}))" for ring in rings)
    return " and ".join([f"({arriving})", *(f"not src host {address}" for address in own)])


def _to(ring: Ring) -> str:
    """By what they are addressed to rings are told apart, and other clusters on the same network."""
    groups = {"": "", ANY_GROUP: " or ip multicast or ip6 multicast"}
    return f"dst host {ring.address}{groups.get(ring.mcast, f' or dst host {ring.mcast}')}"


def _named(rings: Sequence[Ring]) -> str:
    return ", ".join(f"ring {ring.number} ({ring.address} port {ring.port})" for ring in rings)
