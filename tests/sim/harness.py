"""A whole controller in virtual time: real code, real SQLite, the simulated cloud in-process. One visit at a time."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from masakari import intake, store
from masakari.common.errors import LeaseLost
from masakari.common.keys import Key
from masakari.common.notification import Receipt, parse
from masakari.common.text import utc
from masakari.config import Db, Settings
from masakari.database import Database, open_database
from masakari.failures import classify
from masakari.housekeeping import Housekeeping
from masakari.intake_host import Item
from masakari.keystone import CloudSettings, Keystone
from masakari.model import Recovery
from masakari.nova import Nova
from masakari.recovery import World, keeps_claim, run_once
from masakari.steps import TABLES
from masakari.worker import claim
from tests.simcloud import SimulatedCloud
from tests.simcloud.clock import VirtualClock

CLUSTER = "226.94.1.1:5405"


class InlinePool:
    """The pool of a controller without threads: one after the other."""

    def __init__(self) -> None:
        self.beside: list[Callable[[], None]] = []

    def map(self, func: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        return [func(item) for item in items]

    def later(self, func: Callable[[], None]) -> None:
        func()


class Controller:
    """One controller without threads."""

    def __init__(self, house: House, name: str = "controller-1") -> None:
        self.house = house
        cloud = house.cloud
        settings = CloudSettings(
            auth_url=cloud.auth_url,
            admin_user="masakari",
            admin_password=cloud.keystone.password,
            project_name="service",
            api_max_retry_cnt=2,
        )
        self.db = house.open_database()
        self.world = World(
            self.db,
            Nova(
                Keystone(settings, house.clock, session_factory=cloud.session),
                settings,
                house.clock,
                session_factory=cloud.session,
            ),
            house.clock,
            house.settings,
            InlinePool(),
            name,
        )
        self.intake = intake.Intake(self.db, house.clock, lambda: house.settings, lambda: house.keys, lambda: None)
        self.housekeeping = Housekeeping(self.world, house.clock.now())

        self.kept: dict[int, tuple[Recovery, float, float]] = {}

    def visit(self) -> bool:
        """One visit: to what it stays with, else to what is longest due. False: nothing to do now."""
        now = self.house.clock.monotonic()
        for recovery_id, (recovery, deadline, at) in list(self.kept.items()):
            if at <= now:
                del self.kept[recovery_id]
                self._step(recovery, deadline)
                return True
        for recovery_id in self.db.read(store.due):
            claimed = claim(self.world, recovery_id)
            if claimed:
                self._step(*claimed)
                return True
        return False

    def _step(self, recovery: Recovery, deadline: float) -> None:
        before = self.house.clock.monotonic()
        try:
            current = self.db.read(lambda tx: store.revisit(tx, recovery))
            _, outcome = run_once(self.world, TABLES, current, deadline)
        except LeaseLost:
            return
        if keeps_claim(outcome):
            self.kept[recovery.id] = (
                current,
                before + self.world.settings.recover_starter.lease_s,
                self.house.clock.monotonic() + outcome.wait_s,
            )


class House:
    """A cloud, a database file and any number of controllers, all on one virtual clock."""

    def __init__(
        self,
        path: Path,
        settings: Settings | None = None,
        *,
        hosts: Iterable[str] = ("compute1", "compute2", "compute3"),
        around: Callable[[str], None] | None = None,
        keys: dict[str, Key] | None = None,
        **cloud: Any,
    ) -> None:
        self.clock = VirtualClock()
        self.cloud = SimulatedCloud(self.clock, hosts, **cloud)
        self.settings = settings or Settings()
        self.keys = keys or {}
        self.path = path
        self.around = around
        self._ids = itertools.count(1)
        self.controller = Controller(self)

    def open_database(self) -> Database:
        return open_database(
            Db(drivername="sqlite", name=str(self.path / "vm_ha.sqlite")), self.clock, around=self.around
        )

    def restart(self, name: str = "controller-1") -> Controller:
        """The controller died and was started again: nothing of its memory is left."""
        self.controller = Controller(self, name)
        self.controller.db.transaction(lambda tx: tx.execute("recovery_takeover", owner=name))
        return self.controller

    def report(self, **fields: Any) -> Receipt:
        """Send one report through intake."""
        trusted = fields.pop("trusted", True)
        now = self.clock.now()
        body = {
            "id": f"report-{next(self._ids)}",
            "type": "rscGroup",
            "regionID": "RegionOne",
            "hostname": "compute1",
            "uuid": "",
            "time": "20261121030405",
            "eventID": "1",
            "eventType": "2",
            "detail": "2",
            "startTime": "20261121030405",
            "endTime": None,
            "tzname": "UTC",
            "daylight": "0",
            "cluster_port": CLUSTER,
            **fields,
        }
        notification = parse(json.dumps({k: v for k, v in body.items() if v is not ...}).encode(), now)
        item = Item(notification, classify(notification), trusted, "key" if trusted else None, now)
        return self.controller.intake.accept([item])[0]

    def host_down(
        self, host: str = "compute1", observer: str = "compute2", proof: str | None = "power_off", **fields: Any
    ) -> Receipt:
        """An observer reports a host down, with proof unless told otherwise."""
        evidence = [{"kind": proof, "at": utc(self.clock.now()), "detail": "read back"}] if proof else []
        return self.report(hostname=host, observer=observer, evidence=evidence, **fields)

    def host_up(self, host: str = "compute1", observer: str = "compute1", **fields: Any) -> Receipt:
        """A host, or an observer, reports a host up."""
        return self.report(hostname=host, observer=observer, eventType="1", detail="1", **fields)

    def instance_down(self, uuid: str, host: str = "compute1", **fields: Any) -> Receipt:
        """The QEMU process of an instance died."""
        return self.report(
            type="VM",
            hostname=host,
            uuid=uuid,
            eventID="0",
            eventType="5",
            detail="5",
            startTime=...,
            endTime=...,
            utc_time=utc(self.clock.now()),
            **fields,
        )

    def process_down(self, host: str = "compute1", process: str = "nova-compute", **fields: Any) -> Receipt:
        """A process could not be restarted."""
        return self.report(
            type="nodeStatus", hostname=host, process=process, eventID="1", eventType="1", detail="1", **fields
        )

    def spare(self, host: str = "compute3", cluster_port: str = CLUSTER) -> None:
        """Register a reserved host."""
        self.sql("spare_add", create_at="2026-11-21 00:00:00", cluster_port=cluster_port, hostname=host)

    def sql(self, statement: str, **params: Any) -> int:
        """One statement, committed."""
        return self.controller.db.transaction(lambda tx: tx.execute(statement, **params))

    def rows(self, statement: str, **params: Any) -> list[dict[str, Any]]:
        """What a query finds."""
        return self.controller.db.read(lambda tx: tx.all(statement, **params))

    def recovery(self, recovery_id: int) -> Recovery:
        """A recovery as it is now."""
        return Recovery.of(self.rows("recovery_by_id", id=recovery_id)[0])

    def instances(self, recovery_id: int) -> list[dict[str, Any]]:
        """Its rows of vm_list."""
        return self.rows("instance_list", recovery_id=recovery_id)

    def story(self, recovery_id: int) -> str:
        """The journal as text, for failures of tests."""
        return "\n".join(
            f"{row['at'] - 1_800_000_000:8.2f} {row['actor']:<13} {row['step']:<8} {row['kind']:<10} {row['what']} | {row['reason']}"
            for row in self.rows("event_list", recovery_id=recovery_id)
        )

    def run(self, until: Callable[[], bool], within_s: float = 300.0, controllers: Iterable[Controller] = ()) -> None:
        """Visit and let time pass until something is true."""
        deadline = self.clock.monotonic() + within_s
        working = list(controllers) or [self.controller]
        while not until():
            assert self.clock.monotonic() < deadline, "not reached: " + "\n".join(
                f"{row['id']} {row['status']}/{row['step']} {row['reason']}\n{self.story(row['id'])}"
                for row in self.rows("recovery_open")
            )
            if not any([controller.visit() for controller in working]):
                self.clock.advance(0.05)

    def settle(self, recovery_id: int, within_s: float = 300.0) -> Recovery:
        """Run until a recovery is final."""
        self.run(lambda: self.recovery(recovery_id).status not in ("new", "running", "held"), within_s)
        return self.recovery(recovery_id)

    def until_held(self, recovery_id: int, word: str, within_s: float = 300.0) -> Recovery:
        """Run until a recovery is held for that reason."""
        self.run(lambda: self.recovery(recovery_id).hold == word, within_s)
        return self.recovery(recovery_id)

    def let(self, seconds: float) -> None:
        """Go on for that long."""
        end = self.clock.monotonic() + seconds
        self.run(lambda: self.clock.monotonic() >= end, within_s=seconds + 60)


def settings(**sections: dict[str, Any]) -> Settings:
    """The default settings with some options of some sections changed."""
    base = Settings()
    return replace(base, **{name: replace(getattr(base, name), **options) for name, options in sections.items()})
