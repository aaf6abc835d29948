"""A million old reports on a real MariaDB: taking reports, claiming and storing steps read no more rows than in an empty database.

Rows read are counted by the server, so this holds on any machine, however busy.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from masakari import intake_host, store
from masakari.common.clock import Clock
from masakari.common.notification import parse
from masakari.common.text import sql_time
from masakari.config import Settings
from masakari.database import Database, open_database
from masakari.failures import classify
from masakari.intake import Intake
from tests.lab.mariadb import PrivateMariaDB
from tests.lab.processes import Monitor

pytestmark = pytest.mark.needs_mariadb

REPORTS, RECOVERIES, EVIDENCE, HOSTS = 1_000_000, 100_000, 10_000, 200
MORE = (
    500  # rows more than in an empty database: through an index one by one what is read at once there, for 64 reports
)
FAST = {
    "innodb_buffer_pool_size": "512M",
    "innodb_log_file_size": "256M",
    "innodb_flush_log_at_trx_commit": "0",
    "innodb_doublewrite": "0",
}
OLD = {
    "recovery": """
        INSERT INTO recovery (id, kind, hostname, uuid, cluster_port, status, step, data, created_at, step_at, updated_at,
            finished_at)
        SELECT seq, IF(MOD(seq, 50) = 0, 'host', 'instance'), CONCAT('compute', MOD(seq, %(hosts)s)), CONCAT('old-', seq),
            '226.94.1.1:5405', 'finished', 'start', '{}', %(at)s + seq, %(at)s + seq, %(at)s + seq, %(at)s + seq
        FROM seq_1_to_1000000 WHERE seq <= %(recoveries)s""",
    "vm_list": """
        INSERT INTO vm_list (create_at, uuid, progress, recovery_id, status, finished_at)
        SELECT FROM_UNIXTIME(%(at)s + seq), CONCAT('old-', seq), 2, seq, 'finished', %(at)s + seq
        FROM seq_1_to_1000000 WHERE seq <= %(recoveries)s""",
    "host_evidence": """
        INSERT INTO host_evidence (hostname, cluster_port, kind, at, received_at)
        SELECT CONCAT('compute', MOD(seq, %(hosts)s)), '226.94.1.1:5405', ELT(MOD(seq, 3) + 1, 'power_off', 'up', 'last_alive'),
            %(at)s + seq, %(at)s + seq
        FROM seq_1_to_1000000 WHERE seq <= %(evidence)s""",
    "notification_list": """
        INSERT INTO notification_list (create_at, notification_id, notification_type, notification_hostname,
            notification_cluster_port, progress, recover_by, report_key, received_at, self_report, outcome, recovery_id, body)
        SELECT FROM_UNIXTIME(%(at)s + seq), CONCAT('old-', seq), 'VM', CONCAT('compute', MOD(seq, %(hosts)s)),
            '226.94.1.1:5405', 2, 1, CONCAT('old-', seq), %(at)s + seq, 1, 'opened', MOD(seq, %(recoveries)s) + 1, '{}'
        FROM seq_1_to_1000000""",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateMariaDB]:
    """Not durable: nothing is killed here, and the rows get in faster."""
    with PrivateMariaDB(tmp_path_factory.mktemp("million"), **FAST) as started:
        started.make_tables()
        yield started


class Reader:
    """Does what a controller does all the time, and says how many rows the server read for each of it."""

    def __init__(self, server: PrivateMariaDB) -> None:
        self._server = server
        self._db: Database = open_database(server.settings(), Clock())
        self._intake = Intake(self._db, Clock(), Settings, dict, lambda: None)
        self._db.transaction(lambda tx: tx.execute("database_now"))  # connected: the server has read for that

    def rows_read(self) -> dict[str, int]:
        """By what was done."""
        return {
            "store 64 instance failures": self._reads(self._store_instances),
            "store a host failure": self._reads(self._store_host),
            "join a host failure": self._reads(self._store_host),
            "look for work": self._reads(lambda: self._db.read(lambda tx: (store.next_due_s(tx), store.due(tx)))),
            "work on a recovery": self._reads(self._work),
            "housekeeping": self._reads(self._keep_house),
            "list what is pending": self._reads(lambda: self._all("report_pending")),
            "count restarts": self._reads(
                lambda: self._all("recovery_recent_instance", uuid="old-7", since=time.time())
            ),
        }

    def close(self) -> None:
        """End what was begun, so that the next one begins with nothing open."""
        self._db.close()
        self._server.sql(
            "DELETE FROM recovery WHERE due_at IS NOT NULL; DELETE FROM vm_list WHERE active_key IS NOT NULL"
        )

    def _reads(self, act: Callable[[], object]) -> int:
        before = self._count()
        idle = self._count() - before  # what counting itself reads
        act()
        return self._count() - before - 2 * idle

    def _count(self) -> int:
        return sum(int(row["Value"]) for row in self._server.sql("SHOW GLOBAL STATUS LIKE 'Handler_read%'"))

    def _all(self, statement: str, **params: Any) -> list[dict[str, Any]]:
        return self._db.read(lambda tx: tx.all(statement, **params))

    def _accept(self, *bodies: dict[str, Any]) -> None:
        now = time.time()
        reports = [parse(json.dumps(body).encode(), now) for body in bodies]
        self._intake.accept([intake_host.Item(report, classify(report), True, "key", now) for report in reports])

    def _store_instances(self) -> None:
        self._accept(*(Monitor(f"compute{number % 9}").instance_down(str(uuid.uuid4())) for number in range(64)))

    def _store_host(self) -> None:
        self._accept(Monitor("compute2").host_down("compute7"))

    def _work(self) -> None:
        recovery = self._db.transaction(lambda tx: store.claim(tx, store.due(tx)[0], "a", 60.0))
        assert recovery is not None

        def write(status: str) -> None:
            after = replace(recovery, status=status)
            self._db.transaction(lambda tx: store.save(tx, recovery, after, time.time(), 0.0, 60.0))

        write("running")
        write("finished")

    def _keep_house(self) -> None:
        now = time.time()
        self._all("recovery_to_tell", again_before=now - 3600, since=now - 60)
        self._all("expire_reports", before=now - 3600)
        self._all("recovery_held")
        self._db.transaction(lambda tx: tx.execute("purge_reports", before=sql_time(1.0)))
        self._all("purge_recoveries", before=1.0)


def load_old_rows(server: PrivateMariaDB) -> None:
    """Everything is finished and some weeks old."""
    values = {"at": time.time() - 20 * 86400 - REPORTS, "hosts": HOSTS, "recoveries": RECOVERIES, "evidence": EVIDENCE}
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET unique_checks = 0")
        for statement in OLD.values():
            cursor.execute(statement, values)


def rows_read(server: PrivateMariaDB) -> dict[str, int]:
    """What a controller reads that has been at work for a while."""
    for _ in range(2):
        reader = Reader(server)
        found = reader.rows_read()
        reader.close()
    return found


def test_with_a_million_old_reports_no_more_rows_are_read_than_with_none(server: PrivateMariaDB) -> None:
    without = rows_read(server)
    server.make_tables()
    load_old_rows(server)
    with_them = rows_read(server)
    more = {what: (without[what], count) for what, count in with_them.items() if count > without[what] + MORE}
    assert more == {}, f"rows read without and with old ones: {more}"
    assert server.sql("SELECT COUNT(*) AS n FROM notification_list")[0]["n"] > REPORTS
