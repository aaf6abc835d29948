"""Whether this node's own view is worth anything, beyond what the view itself tells: asked before a failure is believed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from hostmonitor.corosync import Corosync, is_quorate, read_cmap
from hostmonitor.heartbeat import SILENT, UNKNOWN, Heartbeat
from hostmonitor.model import MEMBER, View
from hostmonitor.pacemaker import Pacemaker
from masakari.common.clock import Clock
from masakari.common.errors import ConfigError, Unavailable
from masakari.common.text import utc

log = logging.getLogger(__name__)

STABLE = ("S_IDLE", "S_NOT_DC", "S_POLICY_ENGINE", "S_TRANSITION_ENGINE")
"""States of a controller that has joined the others; in any other it elects, joins, starts, stops or recovers."""


class Limits(Protocol):
    """Of the settings, in seconds. tcpdump_timeout: how long the heartbeat line is listened to, 0 for not at all;
    stonith_wait: how long after its silence this node's view is worth nothing."""

    @property
    def tcpdump_timeout(self) -> float: ...

    @property
    def stonith_wait(self) -> float: ...


class OwnState:
    """Asks this node's daemons and its network. For one thread: it remembers when the heartbeat line was silent."""

    def __init__(self, pacemaker: Pacemaker, heartbeat: Heartbeat, clock: Clock, limits: Callable[[], Limits]) -> None:
        self._pacemaker = pacemaker
        self._heartbeat = heartbeat
        self._clock = clock
        self._limits = limits
        self._silent: tuple[float, float] | None = None  # when last, on the monotonic clock and in Unix seconds
        self._warned = ""

    def trouble(self, view: View) -> str:
        """Why nobody may be taken for dead on this node's word, for the operator; "" if it is worth something.

        The view is one in which verdict.worthless found nothing. On a pacemaker-remote node there is no corosync: there only
        what the view says counts. Takes a fraction of a second; when daemons hang, Pacemaker's time limit for each; when the
        heartbeat line is silent, tcpdump_timeout.
        """
        own = view.node(view.own)
        if own is not None and own.kind != MEMBER:
            return ""
        try:
            return self._of_quorum() or self._of_controller(view.own) or self._of_corosync()
        except (Unavailable, ConfigError) as error:
            return f"the state of this node can't be told: {error}"

    def _of_quorum(self) -> str:
        if is_quorate(self._pacemaker.quorum()):
            return ""
        return (
            "corosync on this node has no quorum: this side can't tell dead peers from its own isolation, "
            "whatever no-quorum-policy says"
        )

    def _of_controller(self, own: str) -> str:
        state = self._pacemaker.controller_state(own)
        return "" if state in STABLE else f"pacemaker's controller on this node is not settled ({state}): wait"

    def _of_corosync(self) -> str:
        corosync = read_cmap(self._pacemaker.cmap())
        if corosync.member_count > 1 and corosync.joined <= 1:
            return (
                f"corosync on this node sees no other member, and {corosync.member_count} are configured: "
                "it may itself be the one cut off"
            )
        return self._of_heartbeat(corosync)

    def _of_heartbeat(self, corosync: Corosync) -> str:
        limits = self._limits()
        if limits.tcpdump_timeout <= 0:
            return ""
        line = self._heartbeat.listen(corosync.rings, limits.tcpdump_timeout)
        now = self._clock.monotonic()
        if line.state == UNKNOWN:
            return f"whether the heartbeat line is alive can't be told: {line.text}; TCPDUMP_TIMEOUT=0 asks no more"
        if line.state == SILENT:
            self._silent = now, self._clock.now()
            return f"the heartbeat line of this node is silent: {line.text}"
        if line.text != self._warned:
            log.warning("%s", line.text or "every ring of the heartbeat line is heard again")
            self._warned = line.text
        if self._silent and now < self._silent[0] + limits.stonith_wait:
            return (
                f"the heartbeat line of this node was silent until {utc(self._silent[1])}: its peers may be fencing it, "
                f"so its view counts again {limits.stonith_wait:g} s later (STONITH_WAIT)"
            )
        return ""
