"""A whole controller in virtual time: real code, real SQLite, the simulated cloud in-process. One visit at a time."""

from __future__ import annotations

import functools
import itertools
import json
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import requests

from masakari import intake, store
from masakari.admin import Operator
from masakari.common.clock import Clock
from masakari.common.errors import LeaseLost, Unavailable
from masakari.common.keys import Key
from masakari.common.notification import Receipt, parse
from masakari.common.text import utc
from masakari.config import Db, Settings
from masakari.database import Database
from masakari.database_sqlite import Sqlite
from masakari.failures import classify
from masakari.housekeeping import Housekeeping
from masakari.intake_host import Item
from masakari.keystone import CloudSettings, Keystone
from masakari.model import Recovery
from masakari.nova import Nova
from masakari.queries import Statement, load_queries, sql_folder
from masakari.recovery import World, keeps_claim, run_once
from masakari.steps import TABLES
from masakari.worker import AWAY_S, MAX_LOST, claim
from tests.simcloud import SimulatedCloud
from tests.simcloud.clock import EPOCH_S, VirtualClock

CLUSTER = "226.94.1.1:5405"

Ports = Callable[["Controller", str], None]
"""Called before and after each call of each port, with who calls and what: "db begin", "db committed",
"http before POST /path", "http after POST /path". It may raise, and it may let others work meanwhile."""


@dataclass(frozen=True)
class Sent:
    """A write that left a controller for Nova. `at`: seconds since the house began, by the house's clock."""

    at: float
    path: str
    version: str
    body: dict[str, Any]


@functools.cache
def _statements() -> dict[str, Statement]:
    return load_queries(sql_folder() / "queries.sql", "sqlite")


class InlinePool:
    """The pool of a controller without threads: one after the other."""

    def __init__(self) -> None:
        self.beside: list[Callable[[], None]] = []

    def map(self, func: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        return [func(item) for item in items]

    def later(self, func: Callable[[], None]) -> None:
        func()


class Controller:
    """One controller without threads. Its wall clock may be its own; the database's clock is the house's."""

    def __init__(self, house: House, name: str = "controller-1", clock: Clock | None = None) -> None:
        self.house = house
        self.name = name
        self.clock = clock or house.clock
        cloud = house.cloud
        settings = CloudSettings(
            auth_url=cloud.auth_url,
            admin_user="masakari",
            admin_password=cloud.keystone.password,
            project_name="service",
            api_max_retry_cnt=2,
        )
        self.db = house.open_database(self)
        keystone = Keystone(settings, self.clock, session_factory=self._session)
        self.world = World(
            self.db,
            Nova(keystone, settings, self.clock, session_factory=self._session),
            self.clock,
            house.settings,
            InlinePool(),
            name,
        )
        self.intake = intake.Intake(self.db, self.clock, lambda: house.settings, lambda: house.keys, lambda: None)
        self.housekeeping = Housekeeping(self.world, self.clock.now())
        self.kept: dict[int, tuple[Recovery, float, float]] = {}
        self._lost: dict[int, int] = {}

    def _session(self) -> requests.Session:
        """A session of the simulated cloud that tells of each request."""
        session = self.house.cloud.session()
        send = session.send

        def told(request: requests.PreparedRequest, **options: Any) -> requests.Response:
            what = f"{request.method} {request.path_url}"
            self.house.ports(self, f"http before {what}")
            self.house.keep(request)
            response = send(request, **options)
            self.house.ports(self, f"http after {what}")
            return response

        session.send = told  # type: ignore[method-assign]
        return session

    def visit(self) -> bool:
        """One visit: to what it stays with, else to what is longest due. False: nothing to do now."""
        now = self.clock.monotonic()
        for recovery_id, (recovery, deadline, at) in list(self.kept.items()):
            if at <= now:
                del self.kept[recovery_id]
                self._step(recovery, deadline)
                return True
        try:
            for recovery_id in self.db.read(store.due):
                claimed = claim(self.world, recovery_id)
                if claimed:
                    self._step(*claimed)
                    return True
        except Unavailable:
            pass
        return False

    def _step(self, recovery: Recovery, deadline: float) -> None:
        """One step, as worker.drive() does it."""
        before = self.clock.monotonic()
        try:
            current = self.db.read(lambda tx: store.revisit(tx, recovery))
            _, outcome = run_once(self.world, TABLES, current, deadline)
        except LeaseLost:
            lost = self._lost[recovery.id] = self._lost.get(recovery.id, 0) + 1
            if lost < MAX_LOST and self.clock.monotonic() <= deadline:
                self.kept[recovery.id] = (recovery, deadline, self.clock.monotonic())
            else:
                self._lost.pop(recovery.id)
            return
        except Unavailable:
            if self.clock.monotonic() + AWAY_S <= deadline:
                self.kept[recovery.id] = (recovery, deadline, self.clock.monotonic() + AWAY_S)
            return
        self._lost.pop(recovery.id, None)
        if keeps_claim(outcome):
            lease_s = self.world.settings.recover_starter.lease_s
            self.kept[recovery.id] = (recovery, before + lease_s, self.clock.monotonic() + outcome.wait_s)


class House:
    """A cloud, a database file and any number of controllers, all on one virtual clock."""

    def __init__(
        self,
        path: Path,
        settings: Settings | None = None,
        *,
        hosts: Iterable[str] = ("compute1", "compute2", "compute3"),
        around: Callable[[str], None] | None = None,
        ports: Ports = lambda controller, call: None,
        keys: dict[str, Key] | None = None,
        **cloud: Any,
    ) -> None:
        self.clock = VirtualClock()
        self.cloud = SimulatedCloud(self.clock, hosts, **cloud)
        self.settings = settings or Settings()
        self.keys = keys or {}
        self.path = path
        self.around = around or (lambda moment: None)
        self.ports = ports
        self._ids = itertools.count(1)
        self._databases: list[Database] = []
        self.sent: list[Sent] = []
        self.controller = Controller(self)

    def open_database(self, controller: Controller) -> Database:
        """One controller's connection to the one database."""

        def around(moment: str) -> None:
            self.around(moment)
            self.ports(controller, f"db {moment}")

        db = Db(drivername="sqlite", name=str(self.path / "vm_ha.sqlite"))
        backend = Sqlite(db, self.clock)
        database = Database(backend, _statements(), self.clock, db.lock_retry_max_cnt, db.read_timeout_s, around)
        self._databases.append(database)
        return database

    def keep(self, request: requests.PreparedRequest) -> None:
        """Remember a write to Nova."""
        if request.method in ("POST", "PUT") and "/compute/" in request.path_url:
            version = request.headers.get("X-OpenStack-Nova-API-Version", "")
            body = json.loads(request.body or b"{}")
            self.sent.append(Sent(self.clock.monotonic(), request.path_url, version, body))

    def asked(self, action: str) -> list[Sent]:
        """The writes of a kind: evacuate, os-stop, os-start, os-resetState, forced_down, status, ..."""
        return [sent for sent in self.sent if action in sent.body]

    @property
    def operator(self) -> Operator:
        """Somebody with the operator scripts."""
        return Operator(self.controller.db, self.settings, "anna")

    def close(self) -> None:
        """Close every connection; a house that makes a few hundred others needs it."""
        for database in self._databases:
            database.close()

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
            **{"utc_time": utc(self.clock.now()), **fields},
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

    def table(self, name: str) -> list[dict[str, Any]]:
        """All rows of a table, read past the controllers: no port call is counted."""
        connection = sqlite3.connect(self.path / "vm_ha.sqlite")
        connection.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in connection.execute(f"SELECT * FROM {name} ORDER BY rowid")]  # noqa: S608
        finally:
            connection.close()

    def recovery(self, recovery_id: int) -> Recovery:
        """A recovery as it is now."""
        return Recovery.of(self.rows("recovery_by_id", id=recovery_id)[0])

    def instances(self, recovery_id: int) -> list[dict[str, Any]]:
        """Its rows of vm_list."""
        return self.rows("instance_list", recovery_id=recovery_id)

    def story(self, recovery_id: int) -> str:
        """The journal as text, for failures of tests."""
        return "\n".join(
            f"{row['at'] - EPOCH_S:8.2f} {row['actor']:<13} {row['step']:<8} {row['kind']:<10} {row['what']} | "
            f"{row['reason']}"
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
            if not sum(controller.visit() for controller in working):
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
