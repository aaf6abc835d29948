"""Callbacks committed per second with 64 senders: against the same HTTP server alone, and the same MariaDB alone.

Instance failures of nine hosts, each of another instance, signed beforehand. The recoveries that they open are paused, so
that intake alone is measured; once they are not.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pymysql

from masakari.common.signature import HEADER, sign
from tests.bench import load
from tests.bench.figures import Figure
from tests.bench.load import Load
from tests.bench.stage import House, Stage, pause_all, until
from tests.lab.mariadb import PASSWORD, USER
from tests.lab.processes import ROOT, Monitor, free_port, secret

SENDERS = 64
REPORTING = tuple(f"compute{number}" for number in range(1, 10))
OLD_ROWS = 1_000_000
WARM_UP_S = 1.0
MOST_PER_S = 5000
"""No more callbacks than this are prepared for each second."""

_OLD = """INSERT INTO notification_list (create_at, update_at, deleted, notification_id, notification_type,
    notification_regionID, notification_hostname, notification_uuid, notification_time, notification_eventID,
    notification_eventType, notification_detail, notification_tzname, notification_daylight, notification_cluster_port,
    progress, recover_by, report_key, received_at, self_report, observer, trusted, outcome, reason, recovery_id, body)
SELECT now() - INTERVAL seq SECOND, now() - INTERVAL seq SECOND, 0, CONCAT('old-', seq), 'VM', 'RegionOne',
    CONCAT('compute', seq % 300), UUID(), now(), '0', '5', '5', 'UTC', '0', '226.94.1.1:5405', 2, 1, CONCAT('old-', seq),
    UNIX_TIMESTAMP() - seq, 1, CONCAT('compute', seq % 300), 1, 'opened', 'QEMU process died', 10000000 + seq, REPEAT('x', 400)
FROM {numbers}"""
_SINGLE = """INSERT INTO notification_list (notification_id, report_key, notification_hostname, notification_uuid, body)
VALUES ('{key}', '{key}', 'compute1', '{uuid}', REPEAT('x', 400))"""


def rates(stage: Stage) -> Iterator[Figure]:
    """Callbacks committed per second with 64 senders, with 0 and 1,000,000 old rows."""
    seconds = 2.0 if stage.quick else 5.0
    alone = _empty_handler(seconds)
    yield Figure("the HTTP server alone, 64 senders", alone.per_s, "/s", beside=f"p99 {_ms(alone.p99_s)}")
    stage.mariadb.make_tables()
    rows = [_single_rows(stage, connections, seconds / 2) for connections in (1, SENDERS)]
    for connections, measured in zip((1, SENDERS), rows, strict=True):
        beside = f"p99 {_ms(measured.p99_s)}; one INSERT and its commit"
        yield Figure(f"single rows committed, connections: {connections}", measured.per_s, "/s", beside=beside)
    old = OLD_ROWS // 10 if stage.quick else OLD_ROWS
    for many in (0, old):
        with stage.house() as house:
            _fill(stage, many)
            pause_all(house.database)
            yield from _paused(house, seconds, alone, rows[1], f"{many:,} old rows")
    with stage.house() as house:
        measured = _callbacks(house, seconds)
    yield Figure("callbacks committed, recoveries running", measured.per_s, "/s", beside=f"p99 {_ms(measured.p99_s)}")


def _paused(house: House, seconds: float, alone: Load, single: Load, where: str) -> Iterator[Figure]:
    measured = _callbacks(house, seconds)
    beside = f"{measured.per_s / single.per_s:.2f} x the single rows of {SENDERS} connections"
    yield Figure(f"callbacks committed, {where}", measured.per_s, "/s", least=2000, beside=beside)
    of_alone = 100 * measured.per_s / alone.per_s
    yield Figure(f"... of the HTTP server alone, {where}", of_alone, "%", least=25, beside=f"{alone.per_s:,.0f}/s")
    beside = f"worst {_ms(measured.worst_s)}"
    yield Figure(f"... p99, {where}", 1000 * measured.p99_s, "ms", most=100, beside=beside)


def _callbacks(house: House, seconds: float) -> Load:
    """64 senders, each with a connection of its own; every answer is 200 and stands for a new row."""
    signed = _signed(int((seconds + WARM_UP_S) * MOST_PER_S))
    before = _reports(house)
    with _links(house.controller.port) as links:
        measured = load.run(links, signed, load.http_whole, seconds, WARM_UP_S)
    assert not measured.refused, f"{measured.refused} callbacks refused:\n{house.controller.said()[-2000:]}"
    stored = _reports(house) - before
    assert stored >= measured.per_s * seconds * 0.9, f"only {stored} rows for {measured}"
    return measured


def _signed(many: int) -> Iterator[bytes]:
    """That many callbacks, ready to send within the signatures' two minutes."""
    now, made = time.time(), []
    for number in range(many):
        host = REPORTING[number % len(REPORTING)]
        body = json.dumps(Monitor(host).instance_down(str(uuid.uuid4()))).encode()
        made.append(load.http_post(body, (HEADER, sign(host, secret(host), body, now))))
    return iter(made)


def _reports(house: House) -> int:
    """How many reports are stored, by their ids; none is deleted meanwhile."""
    newest = house.all("report_list", many=1)
    return int(newest[0]["id"]) if newest else 0


def _empty_handler(seconds: float) -> Load:
    port = free_port()
    server = subprocess.Popen([sys.executable, "-m", "tests.bench.empty", str(port)], cwd=ROOT)
    try:
        until(lambda: _listens(port), 10, 0.02, lambda: "the empty server")
        with _links(port) as links:
            return load.run(links, itertools.cycle(_signed(100)), load.http_whole, seconds, WARM_UP_S)
    finally:
        server.kill()
        server.wait()


def _single_rows(stage: Stage, connections: int, seconds: float) -> Load:
    """One row of notification_list per commit, as small as a callback makes it."""
    statements = (
        load.sql_query(_SINGLE.replace("{key}", f"{connections}-{number}").replace("{uuid}", str(uuid.uuid4())))
        for number in range(int((seconds + WARM_UP_S) * 20_000))
    )
    made: list[Any] = [
        pymysql.connect(
            host="127.0.0.1", port=stage.mariadb.port, user=USER, password=PASSWORD, database="vm_ha", autocommit=True
        )
        for _ in range(connections)
    ]
    try:
        measured = load.run([link._sock for link in made], statements, load.sql_whole, seconds, WARM_UP_S)
    finally:
        for link in made:
            link.close()
    assert not measured.refused
    return measured


def _fill(stage: Stage, rows: int) -> None:
    """Old reports, all of them finished; not durable while they are written, to save time."""
    if not rows:
        return
    stage.mariadb.sql("SET GLOBAL innodb_flush_log_at_trx_commit = 0", None)
    for first in range(0, rows, 100_000):
        stage.mariadb.sql(_OLD.replace("{numbers}", f"seq_{first + 1}_to_{first + 100_000}"))
    stage.mariadb.sql("SET GLOBAL innodb_flush_log_at_trx_commit = 1", None)


@contextlib.contextmanager
def _links(port: int) -> Iterator[list[socket.socket]]:
    links = [socket.create_connection(("127.0.0.1", port)) for _ in range(SENDERS)]
    try:
        yield links
    finally:
        for link in links:
            link.close()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"
