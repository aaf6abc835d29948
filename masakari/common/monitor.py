"""What every monitor wires the same way: who reports, the spool on disk, and the thread that delivers it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from masakari.common import node
from masakari.common.callbacks import Callbacks
from masakari.common.clock import Clock
from masakari.common.daemon import Threads
from masakari.common.errors import ConfigError
from masakari.common.monitor_config import MonitorSettings
from masakari.common.notifications import Notifications
from masakari.common.post import post
from masakari.common.poster import Poster
from masakari.common.program import Loaded
from masakari.common.report import Origin, put_right
from masakari.common.sender import Sender
from masakari.common.sign_in import SignIn
from masakari.common.spool import Spool

log = logging.getLogger(__name__)

MIB = 1 << 20
Body = Mapping[str, Any]
S = TypeVar("S", bound=MonitorSettings)

APPLIED_AT_START = ("state_dir", "spool_max_mb", "spool_max_age_h")
"""Options of the main section that a running monitor does not change."""


def loaded(settings: MonitorSettings, warnings: Sequence[str], everything: Any = None) -> Loaded:
    """What a monitor has read of its files; everything: more than its settings."""
    monitor = settings.monitor
    level = "debug" if settings.debug else monitor.log_level
    found = settings if everything is None else everything
    return Loaded(found, warnings, settings.secrets, level, monitor.log_file, monitor.state_dir)


class Reporting:
    """The way of a monitor's reports. settings may be replaced at any time; the spool's folder and limits stay.

    refresh: brings a report that had to wait up to date. answered: told of each report that is delivered, with the answer.
    """

    def __init__(
        self,
        settings: MonitorSettings,
        clock: Clock,
        refresh: Callable[[Body, float], Body] | None = None,
        answered: Callable[[Body, Body], object] | None = None,
    ) -> None:
        self.settings = settings
        self._boot_id = node.boot_id()
        limits = settings.monitor
        self.spool = Spool(
            os.path.join(limits.state_dir, "spool"),
            clock,
            max_bytes=int(limits.spool_max_mb * MIB),
            max_age_s=limits.spool_max_age_h * 3600,
        )
        self._clock = clock
        self._refresh = refresh
        self._answered = answered
        self._callbacks = Callbacks(post, lambda: self.settings.delivery, self._key, clock)
        self._sign_in = SignIn(clock)
        self.sender = Sender(
            self.spool, self._poster, lambda: self.settings.delivery, clock, self._up_to_date, self._delivered
        )

    def origin(self) -> Origin:
        """Who reports."""
        identity = self.settings.identity
        return Origin(identity.hostname, self.settings.region_id, identity.cluster_port, self._boot_id)

    def start(self, threads: Threads) -> None:
        """Deliver from now on; what an earlier run could not deliver comes first."""
        self.spool.take_back()
        threads.start("sender", self.sender.run, threads.stopping, stop=self.sender.poke)

    def reload(self, settings: S, open_log: Callable[[], object]) -> S:
        """Go on with other settings, less what needs a restart, which is told. Returns those in use.

        ConfigError, and nothing is changed, when the host has another name, under which nobody would take back what was reported
        under this one; or when open_log, called before anything changes, raises it.
        """
        host, new_host = self.settings.identity.hostname, settings.identity.hostname
        if host != new_host:
            raise ConfigError([f"this host is {new_host} by its key or settings, and was {host}: that needs a restart"])
        open_log()
        applied = {name: getattr(self.settings.monitor, name) for name in APPLIED_AT_START}
        for name, value in applied.items():
            if getattr(settings.monitor, name) != value:
                log.warning("%s changed: that needs a restart, %s stays in use", name, value)
        self.settings = settings = settings.with_monitor(replace(settings.monitor, **applied))
        self.sender.poke()
        return settings

    def _up_to_date(self, body: Body, waited_s: float) -> Body:
        if waited_s < 0:
            return put_right(body, self._clock.now())
        return self._refresh(body, waited_s) if self._refresh else body

    def _poster(self) -> Poster:
        settings = self.settings
        if settings.api is None:
            return self._callbacks
        return Notifications(self._sign_in, settings.api, settings.delivery.timeout_s)

    def _key(self) -> tuple[str, str] | None:
        identity = self.settings.identity
        return (identity.key_id, identity.secret) if identity.key_id else None

    def _delivered(self, body: Body, answer: Body) -> None:
        about = body.get("process") or body.get("uuid") or body.get("hostname")
        if answer.get("recovery"):
            status, why = answer.get("status"), answer.get("reason") or "no reason given"
            log.info("report %s about %s: recovery %s is %s: %s", body["id"], about, answer["recovery"], status, why)
        else:
            log.info("report %s about %s is on record: %s", body["id"], about, answer.get("reason") or "nothing to do")
        if self._answered:
            self._answered(body, answer)
