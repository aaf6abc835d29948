"""What every bench stands on: a durable MariaDB, and for each measurement a fresh database, cloud and controller."""

from __future__ import annotations

import contextlib
import itertools
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from masakari.common.clock import Clock
from masakari.common.text import sql_time
from masakari.config import Db
from masakari.database import Database, Tx, open_database
from masakari.model import FINAL
from tests.lab.mariadb import PrivateMariaDB
from tests.lab.processes import CLUSTER, CloudProcess, ControllerProcess, Monitor
from tests.simcloud.control import RemoteCloud

T = TypeVar("T")

MARIADB = {
    "innodb_flush_log_at_trx_commit": "1",
    "innodb_buffer_pool_size": "512M",
    "innodb_log_file_size": "256M",
    "max_connections": "300",
}
AS_INSTALLED: dict[str, str | float] = {
    "nova__connect_timeout_s": 3,
    "nova__read_timeout_s": 10,
    "recover_starter__lease_s": 60,
    "safety__action_settle_s": 15,
    "db__innodb_lock_wait_timeout": 10,
    "db__connect_timeout_s": 5,
    "db__read_timeout_s": 30,
}
"""The defaults that a controller of the tests doesn't have."""

LATENCY_MS = 20
EVACUATE_S = 2.0
HOSTS = ("compute1", "compute2", "compute3")
FAILED, OBSERVER, SPARE = HOSTS


class Skipped(Exception):
    """What is to be measured is not installed here; the text says what."""


@dataclass(frozen=True, slots=True)
class House:
    """One controller, its cloud and its database."""

    cloud: RemoteCloud
    controller: ControllerProcess
    database: Database

    def all(self, statement: str, **params: Any) -> list[dict[str, Any]]:
        """What a query of the controller finds."""
        return self.database.read(lambda tx: tx.all(statement, **params))

    def execute(self, statement: str, **params: Any) -> int:
        """One statement of the controller, committed."""
        return self.database.transaction(lambda tx: tx.execute(statement, **params))

    def send(self, body: dict[str, Any], host: str = OBSERVER) -> int:
        """Send one report; the id of its recovery."""
        answer = Monitor(host).post(self.controller.url, body)
        assert answer.status_code == 200, answer.text
        return int(answer.json()["recovery"])

    def until_final(self, recovery_id: int, within_s: float, every_s: float = 0.01) -> float:
        """Wait for the end of a recovery; the wall time at which the database showed it. RuntimeError if it isn't finished."""
        row = until(
            lambda: next((row for row in self.all("recovery_by_id", id=recovery_id) if row["status"] in FINAL), None),
            within_s,
            every_s,
            lambda: f"{self.all('recovery_by_id', id=recovery_id)}\n{self.controller.said()[-3000:]}",
        )
        if row["status"] != "finished":
            raise RuntimeError(f"recovery {recovery_id}: {row['status']}: {row['reason']}")
        return time.time()


class Stage:
    """The databases and the folders of a run. `quick`: shorter, and less certain."""

    def __init__(self, folder: Path, mariadb: PrivateMariaDB, quick: bool) -> None:
        self.mariadb = mariadb
        self.quick = quick
        self._folder = folder
        self._numbers = itertools.count(1)

    def folder(self) -> Path:
        """A new, empty folder."""
        made = self._folder / str(next(self._numbers))
        made.mkdir()
        return made

    def fresh_db(self, kind: str) -> Db:
        """Settings of an empty database: mysql or sqlite."""
        if kind == "sqlite":
            return Db(drivername="sqlite", name=str(self.folder() / "vm_ha.sqlite"))
        self.mariadb.make_tables()
        return self.mariadb.settings(read_timeout_s=30, innodb_lock_wait_timeout=10)

    @contextlib.contextmanager
    def house(
        self, kind: str = "mysql", *, builds: int = 10, power_s: float = 1.0, **options: str | float
    ) -> Iterator[House]:
        """A controller with its usual settings, ready, signed in to a cloud of three hosts, with one spare.

        builds: evacuations at a time on the spare; power_s: what a stop and a start of an instance take.
        """
        folder, db = self.folder(), self.fresh_db(kind)
        with (
            CloudProcess(
                folder,
                hosts=",".join(HOSTS),
                latency_ms=LATENCY_MS,
                evacuate_s=EVACUATE_S,
                builds=builds,
                stop_s=power_s,
                start_s=power_s,
            ) as cloud,
            ControllerProcess(folder, db, cloud.remote.auth_url, **{**AS_INSTALLED, **options}) as controller,  # type: ignore[arg-type]
        ):
            database = open_database(db, Clock())
            try:
                house = House(cloud.remote, controller, database)
                now = sql_time(time.time())
                house.execute("spare_add", create_at=now, cluster_port=CLUSTER, hostname=SPARE)
                until(
                    lambda: controller.health()[1]["checked"]["nova"] == "ok",
                    10,
                    0.02,
                    lambda: f"no sign-in to the cloud: {controller.said()[-3000:]}",
                )
                yield house
            finally:
                database.close()

    def version(self) -> str:
        """MariaDB's version."""
        return str(self.mariadb.sql("SELECT VERSION() AS v", None)[0]["v"])


def pause_all(database: Database) -> None:
    """Let no recovery run: reports are stored and nothing else happens."""

    def write(tx: Tx) -> None:
        tx.execute("segment_add", cluster_port="*")
        tx.execute("segment_pause", cluster_port="*", paused_at=time.time(), paused_until=None, paused_by="bench")

    database.transaction(write)


def until(reached: Callable[[], T | None], within_s: float, every_s: float, message: Callable[[], str]) -> T:
    """What `reached` returns once that is true, asked every so often. RuntimeError after `within_s`."""
    deadline = time.monotonic() + within_s
    while True:
        found = reached()
        if found:
            return found
        if time.monotonic() > deadline:
            raise RuntimeError(f"not reached within {within_s:g} s: {message()}")
        time.sleep(every_s)


def cpu_s(pid: int) -> float:
    """Processor time the threads of a process have used so far, without those that have ended; exact to the microsecond."""
    spent = (path.read_text().split()[0] for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))
    return sum(map(int, spent)) / 1e9


def memory_mb(pid: int, what: str = "Pss") -> float:
    """Memory of a process. Pss: with its share of what it has in common with others; Rss: with all of that."""
    found = re.search(rf"^{what}:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
    assert found
    return int(found[1]) / 1024
