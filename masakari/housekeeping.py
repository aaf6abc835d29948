"""What runs beside the recoveries: telling people, purging, expiring, seeing operators enable a host again, the heartbeat."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import Any

from masakari import __version__, hook, host_aggregates, segments, store
from masakari.common.errors import Rejected, Unavailable
from masakari.common.text import sql_time
from masakari.database import Duplicate, Tx
from masakari.metrics import Metrics
from masakari.model import Recovery
from masakari.recovery import World
from masakari.steps import FIRST

log = logging.getLogger(__name__)

TICK_S = 10.0
TELL_S = 1.0
HOUR_S, DAY_S = 3600.0, 86400.0
RETURN_LOOK_S = 60.0
SET_BACK_S = 5.0


class Housekeeping:
    """Periodic work of one controller. Each task may run on several controllers at once."""

    def __init__(self, world: World, started_at: float) -> None:
        self._world = world
        self._started_at = started_at
        self._next: dict[str, float] = {}
        self._seen: tuple[float, float] | None = None

    def run(self, stopping: threading.Event) -> None:
        """The thread's body."""
        while not stopping.is_set():
            self.tick()
            stopping.wait(TICK_S)

    def run_telling(self, stopping: threading.Event) -> None:
        """The body of the thread that tells people: a command may take its time."""
        while not stopping.is_set():
            try:
                self.tell()
            except Unavailable as error:
                log.info("telling put off: %s", error)
            # Without a command there is nobody to tell, until the settings are read again.
            stopping.wait(TELL_S if self._world.settings.notify.command else TICK_S)

    def tick(self) -> None:
        """Do what is due now; an unreachable database or Nova only delays it."""
        tasks: tuple[tuple[str, float, Callable[[], None]], ...] = (
            ("beat", TICK_S, self._beat),
            ("expire", TICK_S, self.expire),
            ("returns", RETURN_LOOK_S, self.see_returns),
            ("spares", RETURN_LOOK_S, lambda: host_aggregates.tidy(self._world)),
            ("purge", HOUR_S, self.purge),
        )
        for name, every_s, task in tasks:
            now = self._world.clock.monotonic()
            if now >= self._next.get(name, 0.0):
                self._next[name] = now + every_s
                try:
                    task()
                except (Unavailable, Rejected) as error:
                    log.info("%s put off: %s", name, error)

    def _beat(self) -> None:
        self.see_clock()
        self._world.db.transaction(
            lambda tx: tx.execute(
                "controller_beat",
                name=self._world.name,
                version=__version__,
                pid=os.getpid(),
                started_at=self._started_at,
            )
        )

    def see_clock(self) -> None:
        """When the database's clock was set back, what waits must not wait for it to come round again."""
        now, passed = self._world.db.read(lambda tx: tx.all("database_now"))[0]["now"], self._world.clock.monotonic()
        if self._seen is not None and now - self._seen[0] < passed - self._seen[1] - SET_BACK_S:
            many = self._world.db.transaction(lambda tx: tx.execute("recovery_due_now"))
            log.warning("the clock of the database was set back: %d recoveries are looked at now", many)
        self._seen = (now, passed)

    def tell(self) -> None:
        """Run [notify] command for what is newly held or ended, and hourly for what stays held."""
        notify, now = self._world.settings.notify, self._world.clock.now()
        if not notify.command:
            return
        rows = self._world.db.read(
            lambda tx: tx.all("recovery_to_tell", again_before=now - notify.repeat_s, since=self._started_at)
        )
        for row in rows:
            if self._world.db.transaction(
                lambda tx, row=row: tx.execute(  # type: ignore[misc]
                    "recovery_told", id=row["id"], now=now, told_at=row["told_at"]
                )
            ):
                hook.run(notify.command, hook.message(row), notify.timeout_s)

    def expire(self) -> None:
        """notification_expiration_sec: end what nobody has begun in that time; a held recovery never expires."""
        limit_s = self._world.settings.recover_starter.notification_expiration_sec
        if not limit_s:
            return
        now = self._world.clock.now()

        def end(tx: Tx) -> None:
            for row in tx.all("expire_reports", before=now - limit_s):
                recovery = Recovery.of(row)
                reason = f"expired: not begun within {limit_s:.0f} s"
                if tx.execute("recovery_end", id=recovery.id, status="ignored", reason=reason, now=now):
                    ended = _ended(recovery, reason)
                    store.set_progress(tx, ended, now)
                    store.journal(
                        tx,
                        recovery,
                        self._world.name,
                        [store.Event("transition", "new -> ignored", reason, None, None, now)],
                    )

        self._world.db.transaction(end)

    def see_returns(self) -> None:
        """An operator's own enable counts as the command to bring a host back."""
        waiting = self._world.db.read(lambda tx: [row["hostname"] for row in tx.all("disable_waiting")])
        if not waiting or self._world.observing:
            return
        services = {service.host: service for service in self._world.nova.services()}
        for hostname in waiting:
            service = services.get(hostname)
            if service is not None and service.enabled:
                self._open_return(hostname)

    def _open_return(self, hostname: str) -> None:
        now = self._world.clock.now()

        def write(tx: Tx) -> None:
            reason = "its nova-compute was enabled by hand"
            store.add(tx, "return", hostname, segments.key_of_host(tx, hostname), now, step=FIRST["return"], reason=reason)

        try:
            self._world.db.transaction(write)
        except Duplicate:
            return

    def purge(self) -> None:
        """Delete what ended longer than [vmha_data_manage] period ago, in small transactions."""
        purge(self._world.db.transaction, self._world.clock.now(), self._world.settings.vmha_data_manage.period)


def _ended(recovery: Recovery, reason: str) -> Recovery:
    values: dict[str, Any] = {name: getattr(recovery, name) for name in Recovery.__dataclass_fields__}
    return Recovery(**{**values, "status": "ignored", "reason": reason})


def purge(transaction: Callable[[Callable[[Tx], int]], int], now: float, period_days: float) -> int:
    """Delete reports, recoveries, instances, journal and evidence older than the period; how many recoveries and reports."""
    before = now - period_days * DAY_S

    def reports(tx: Tx) -> int:
        return tx.execute("purge_reports", before=sql_time(before))

    def recoveries(tx: Tx) -> int:
        ids = [row["id"] for row in tx.all("purge_recoveries", before=before)]
        if not ids:
            return 0
        for statement in ("purge_events", "purge_instances", "purge_recovery"):
            tx.execute(statement, ids=ids)
        return len(ids)

    total = 0
    for task in (reports, recoveries):
        while many := transaction(task):
            total += many
    transaction(lambda tx: tx.execute("purge_old_instances", at=sql_time(before)))
    transaction(lambda tx: tx.execute("purge_evidence", before=before))
    return total


def fill_metrics(world: World, metrics: Metrics) -> None:
    """The gauges, read from the database at scrape time."""

    def read(tx: Tx) -> tuple[list[dict[str, Any]], dict[str, Any], list[dict[str, Any]]]:
        return tx.all("recovery_counts"), tx.all("recovery_held")[0], tx.all("spare_counts")

    counts, held, spares = world.db.read(read)
    for row in counts:
        metrics.recoveries.set(row["n"], kind=row["kind"], status=row["status"])
    metrics.held.set(held["n"])
    metrics.held_oldest_age.set(max(0.0, world.clock.now() - held["oldest"]) if held["oldest"] else 0.0)
    for row in spares:
        metrics.spares.set(row["n"], cluster=row["cluster_port"])
