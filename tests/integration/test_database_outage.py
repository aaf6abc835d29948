"""A real MariaDB that is away, dies, hangs or refuses: transactions end within bounds, and nothing is done twice."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from masakari.common.clock import Clock
from masakari.common.errors import MaybeSent, Unavailable
from masakari.database import Database, Duplicate, Tx, open_database
from tests.lab.mariadb import PrivateMariaDB

pytestmark = pytest.mark.needs_mariadb

QUERIES = """
-- add --
-- Put a spare on the list.
INSERT INTO reserve_list (cluster_port, hostname, listed_key) VALUES (:port, :hostname, :hostname)

-- all --
-- All spares.
SELECT hostname, used_by FROM reserve_list ORDER BY id

-- use --
-- Say who uses a spare.
UPDATE reserve_list SET used_by = :by WHERE hostname = :hostname

-- grow --
-- Add one.
UPDATE reserve_list SET used_by = used_by + 1 WHERE hostname = :hostname
"""


class RecordingClock(Clock):
    """The real time, but pauses between reruns are only written down."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateMariaDB]:
    """A server of our own: it is killed and frozen here."""
    with PrivateMariaDB(tmp_path_factory.mktemp("outage")) as started:
        yield started


@pytest.fixture(autouse=True)
def tables(server: PrivateMariaDB) -> None:
    server.make_tables()


@pytest.fixture
def clock() -> RecordingClock:
    return RecordingClock()


@pytest.fixture
def connect(server: PrivateMariaDB, clock: Clock, tmp_path: Path) -> Iterator[Callable[..., Database]]:
    queries = tmp_path / "queries.sql"
    queries.write_text(QUERIES, encoding="utf-8")
    opened: list[Database] = []

    def open_it(**changes: Any) -> Database:
        opened.append(open_database(server.settings(**changes), clock, queries=queries))
        return opened[-1]

    yield open_it
    for database in opened:
        database.close()


@pytest.fixture
def database(connect: Callable[..., Database]) -> Database:
    return connect()


def add(tx: Tx) -> int:
    return tx.insert("add", port="p", hostname="c9")


def hosts(database: Database) -> list[str]:
    return [row["hostname"] for row in database.read(lambda tx: tx.all("all"))]


def used_by(database: Database) -> list[int | None]:
    return [row["used_by"] for row in database.read(lambda tx: tx.all("all"))]


def within(limit_s: float) -> Callable[[], None]:
    started = time.monotonic()

    def check() -> None:
        assert time.monotonic() - started < limit_s

    return check


def test_a_server_away_at_start_is_unavailable_until_it_is_there(
    server: PrivateMariaDB, connect: Callable[..., Database]
) -> None:
    server.stop()
    try:
        in_time = within(2)
        database = connect()
        with pytest.raises(Unavailable, match=r"database vm_ha on 127\.0\.0\.1:\d+: "):
            database.transaction(add)
        with pytest.raises(Unavailable):
            database.check_version()
        with pytest.raises(Unavailable):
            database.controller_lock("c1:15868")
        in_time()
    finally:
        server.start()
    database.check_version()
    database.transaction(add)
    assert hosts(database) == ["c9"]


def test_a_server_restarted_between_transactions_is_not_noticed(
    server: PrivateMariaDB, database: Database, clock: RecordingClock
) -> None:
    assert hosts(database) == []
    server.restart()
    database.transaction(add)
    assert hosts(database) == ["c9"]
    assert len(clock.pauses) == 1


def test_a_server_killed_in_the_middle_of_a_transaction_has_it_done_once(
    server: PrivateMariaDB, database: Database
) -> None:
    runs = []

    def interrupted(tx: Tx) -> None:
        runs.append(1)
        add(tx)
        if len(runs) == 1:
            server.kill()
            server.start()
        tx.execute("use", by=7, hostname="c9")

    database.transaction(interrupted)
    assert len(runs) == 2
    assert used_by(database) == [7]


def test_a_server_that_dies_and_stays_away_is_unavailable_and_nothing_is_changed(
    server: PrivateMariaDB, database: Database
) -> None:
    def interrupted(tx: Tx) -> None:
        add(tx)
        server.kill()
        tx.execute("use", by=7, hostname="c9")

    try:
        with pytest.raises(Unavailable) as away:
            database.transaction(interrupted)
        assert type(away.value) is Unavailable
    finally:
        server.start()
    assert hosts(database) == []


def test_a_connection_ended_by_the_server_is_replaced(server: PrivateMariaDB, database: Database) -> None:
    assert hosts(database) == []
    for row in server.sql("SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'masakari'"):
        server.sql(f"KILL {row['ID']}")
    database.transaction(add)
    assert hosts(database) == ["c9"]


def test_two_transactions_in_a_deadlock_are_both_done_once(database: Database, clock: RecordingClock) -> None:
    database.transaction(lambda tx: tx.execute_many("add", [{"port": "p", "hostname": f"c{n}"} for n in (1, 2)]))
    database.transaction(lambda tx: [tx.execute("use", by=0, hostname=name) for name in ("c1", "c2")])
    both_have_one = threading.Barrier(2)
    runs: list[str] = []

    def grow(tx: Tx, first: str, second: str) -> None:
        runs.append(first)
        tx.execute("grow", hostname=first)
        if runs.count(first) == 1:
            both_have_one.wait(10)
        tx.execute("grow", hostname=second)

    other = threading.Thread(target=lambda: database.transaction(lambda tx: grow(tx, "c2", "c1")))
    other.start()
    database.transaction(lambda tx: grow(tx, "c1", "c2"))
    other.join(20)
    assert used_by(database) == [2, 2]
    assert len(runs) == 3
    assert len(clock.pauses) == 1


def test_a_row_that_stays_locked_is_unavailable_after_the_reruns(
    server: PrivateMariaDB, connect: Callable[..., Database], clock: RecordingClock
) -> None:
    database = connect(innodb_lock_wait_timeout=1, lock_retry_max_cnt=2)
    database.transaction(add)
    holder = server.connect()
    try:
        with holder.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("UPDATE reserve_list SET used_by = 1")
            in_time = within(6)
            with pytest.raises(Unavailable, match="Lock wait timeout"):
                database.transaction(lambda tx: tx.execute("use", by=7, hostname="c9"))
            in_time()
            assert clock.pauses == [0.02, 0.04]
            assert used_by(database) == [None]
            cursor.execute("ROLLBACK")
    finally:
        holder.close()
    database.transaction(lambda tx: tx.execute("use", by=7, hostname="c9"))
    assert used_by(database) == [7]


def test_a_row_locked_for_a_moment_is_waited_for(server: PrivateMariaDB, connect: Callable[..., Database]) -> None:
    database = connect(innodb_lock_wait_timeout=1)
    database.transaction(add)
    holder = server.connect()
    try:
        with holder.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("UPDATE reserve_list SET used_by = 1")
        threading.Timer(1.5, holder.commit).start()
        database.transaction(lambda tx: tx.execute("use", by=7, hostname="c9"))
    finally:
        holder.close()
    assert used_by(database) == [7]


def test_a_server_that_hangs_is_unavailable_within_the_time_limit(
    server: PrivateMariaDB, connect: Callable[..., Database]
) -> None:
    database = connect(read_timeout_s=1, connect_timeout_s=1, lock_retry_max_cnt=100)
    assert hosts(database) == []
    runs = []

    def hang(tx: Tx) -> None:
        runs.append(1)
        server.freeze()
        add(tx)

    try:
        in_time = within(3.5)
        with pytest.raises(Unavailable) as away:
            database.transaction(hang)
        in_time()
        assert type(away.value) is Unavailable
    finally:
        server.thaw()
    assert len(runs) == 1
    assert hosts(database) == []


def test_a_server_that_hangs_for_a_moment_is_waited_for(server: PrivateMariaDB, database: Database) -> None:
    runs = []

    def hang(tx: Tx) -> None:
        runs.append(1)
        server.freeze()
        threading.Timer(0.3, server.thaw).start()
        add(tx)

    database.transaction(hang)
    assert len(runs) == 1
    assert hosts(database) == ["c9"]


def test_a_read_only_server_is_unavailable(server: PrivateMariaDB, database: Database) -> None:
    server.sql("SET GLOBAL read_only = 1")
    try:
        assert hosts(database) == []
        with pytest.raises(Unavailable, match="read-only"):
            database.transaction(add)
    finally:
        server.sql("SET GLOBAL read_only = 0")
    database.transaction(add)


def test_a_server_with_too_many_connections_is_unavailable(
    server: PrivateMariaDB, connect: Callable[..., Database]
) -> None:
    taken = [server.connect() for _ in range(3)]
    server.sql("SET GLOBAL max_connections = 10")
    try:
        databases = [connect() for _ in range(10)]
        with pytest.raises(Unavailable, match="Too many connections"):
            for database in databases:
                hosts(database)
    finally:
        # The one connection beyond the limit is kept for root.
        taken[0].cursor().execute("SET GLOBAL max_connections = 200")
        for connection in taken:
            connection.close()


def test_a_controller_sees_that_its_lock_went_with_the_server(server: PrivateMariaDB, database: Database) -> None:
    lock = database.controller_lock("c1:15868")
    assert lock.held()
    server.restart()
    assert not lock.held()
    again = database.controller_lock("c1:15868")
    assert again.held()
    again.release()


class CuttingProxy:
    """Stands between a client and the server, and cuts the line at COMMIT: before it, or before its answer.

    Cuts only `cuts` times; with `then_away` it refuses everybody after the last cut.
    """

    def __init__(self, port: int, before: bool, cuts: int = 1, then_away: bool = False) -> None:
        self._server_port = port
        self._before = before
        self._cuts = cuts
        self._then_away = then_away
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        # close() alone doesn't wake the thread in accept().
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._server_port))
            threading.Thread(target=self._to_server, args=(client, server), daemon=True).start()
            threading.Thread(target=self._to_client, args=(client, server), daemon=True).start()

    def _to_server(self, client: socket.socket, server: socket.socket) -> None:
        while data := receive(client):
            if data.endswith(b"\x03COMMIT") and self._cuts:
                self._cuts -= 1
                if not self._cuts and self._then_away:
                    self.close()
                if not self._before:
                    hang_up(client)
                    server.sendall(data)
                    # Until the server ends: by then the commit is done.
                    server.shutdown(socket.SHUT_WR)
                    return
                break
            server.sendall(data)
        hang_up(client)
        hang_up(server)

    def _to_client(self, client: socket.socket, server: socket.socket) -> None:
        while data := receive(server):
            try:
                client.sendall(data)
            except OSError:
                continue
        hang_up(client)
        hang_up(server)


def receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except OSError:
        return b""


def hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


@pytest.mark.parametrize("before", [True, False], ids=["commit lost", "answer lost"])
def test_a_commit_without_an_answer_is_done_once(
    server: PrivateMariaDB, connect: Callable[..., Database], before: bool
) -> None:
    proxy = CuttingProxy(server.port, before)
    runs = []

    def add_guarded(tx: Tx) -> str:
        runs.append(1)
        try:
            add(tx)
            return "added"
        except Duplicate:
            return "was there"

    try:
        answer = connect(port=proxy.port).transaction(add_guarded)
    finally:
        proxy.close()
    assert answer == ("added" if before else "was there")
    assert len(runs) == 2
    assert hosts(connect()) == ["c9"]


@pytest.mark.parametrize("before", [True, False], ids=["commit lost", "answer lost"])
def test_a_commit_whose_fate_nobody_knows_is_said_to_be_so(
    server: PrivateMariaDB, connect: Callable[..., Database], before: bool
) -> None:
    proxy = CuttingProxy(server.port, before, then_away=True)
    with pytest.raises(MaybeSent, match="may or may not be stored"):
        connect(port=proxy.port).transaction(add)
    expected = [] if before else ["c9"]
    deadline = time.monotonic() + 5
    while hosts(connect()) != expected:
        assert time.monotonic() < deadline
        time.sleep(0.01)
