"""Who hosts say they are, and what that does to reports about them, on SQLite and on a real MariaDB."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from masakari import hosts, identity
from masakari.common.clock import Clock
from masakari.common.errors import BadNotification, MasakariError
from masakari.common.notification import Receipt, parse
from masakari.common.text import utc
from masakari.config import Db, Settings
from masakari.database import SCHEMA_VERSION, Database, open_database
from masakari.failures import classify
from masakari.intake import Intake
from masakari.intake_host import Item
from tests.lab.mariadb import TABLES
from tests.lab.processes import CLUSTER, Monitor

OWN, OTHER = "11223344-5566-7788-99aa-bbccddeeff00", "00000000-1111-2222-3333-444444444444"


def rows(db: Database, statement: str, **params: Any) -> list[dict[str, Any]]:
    return db.read(lambda tx: tx.all(statement, **params))


def known_host(db: Database, host: str = "compute1") -> dict[str, Any]:
    [row] = rows(db, "host_known", hostnames=[host])
    return row


def known(db: Database, host: str = "compute1") -> hosts.Known:
    return db.read(lambda tx: hosts.known(tx, host, 0.0))


def item(body: dict[str, Any]) -> Item:
    notification = parse(json.dumps(body).encode(), time.time())
    return Item(notification, classify(notification), True, "key", time.time())


def intake(db: Database) -> Intake:
    return Intake(db, Clock(), Settings, dict, lambda: None)


def accept(db: Database, *bodies: dict[str, Any]) -> list[Receipt]:
    return intake(db).accept([item(body) for body in bodies])


def declaration(host: str = "compute1", ago_s: float = 0.0, **fields: Any) -> dict[str, Any]:
    """What a hostmonitor reports of its own host when it starts."""
    told = {"boot_id": "boot-1", "pacemaker_name": "node1", "bmc_guid": OWN, "utc_time": utc(time.time() - ago_s)}
    return Monitor(host).host_down(host, "", eventType="1", detail="1", **{**told, **fields})


def read_off(guid: str, observer: str = "compute2", kind: str = "power_off", host: str = "compute1") -> dict[str, Any]:
    body = Monitor(observer).host_down(host, kind)
    body["evidence"][0]["guid"] = guid
    return body


def test_what_a_host_tells_of_itself_is_kept(db: Database) -> None:
    accept(db, declaration())
    row = known_host(db)
    assert (row["pacemaker_name"], row["bmc_guid"], row["boot_id"]) == ("node1", OWN, "boot-1")
    assert row["declared_at"] == pytest.approx(time.time(), abs=30)


def test_what_another_host_says_of_it_is_no_declaration(db: Database) -> None:
    report = Monitor("compute2").host_down("compute1", "", pacemaker_name="node9", bmc_guid=OTHER)
    up = Monitor("compute2").host_down(
        "compute1", "", eventType="1", detail="1", pacemaker_name="node9", bmc_guid=OTHER
    )
    accept(db, report, up)
    assert (known_host(db)["pacemaker_name"], known_host(db)["bmc_guid"]) == (None, None)


def test_a_declaration_that_comes_late_is_no_news(db: Database) -> None:
    accept(db, declaration())
    accept(db, declaration(ago_s=60, pacemaker_name="node0", bmc_guid=OTHER))
    assert (known_host(db)["pacemaker_name"], known_host(db)["bmc_guid"]) == ("node1", OWN)


def test_of_two_declarations_in_one_batch_the_later_one_counts(db: Database) -> None:
    accept(db, declaration(ago_s=10), declaration(ago_s=20, pacemaker_name="node0"))
    assert known_host(db)["pacemaker_name"] == "node1"


def test_a_guid_is_forgotten_only_by_a_host_that_has_booted_since(db: Database) -> None:
    accept(db, declaration(ago_s=30))
    accept(db, declaration(ago_s=20, bmc_guid=None))
    assert known_host(db)["bmc_guid"] == OWN
    # The boot may be known already, by a report of another monitor.
    accept(db, Monitor("compute1").process_down(boot_id="boot-2", utc_time=utc(time.time() - 10)))
    assert known_host(db)["bmc_guid"] == OWN
    accept(db, declaration(boot_id="boot-2", bmc_guid=None))
    assert (known_host(db)["bmc_guid"], known_host(db)["pacemaker_name"]) == (None, "node1")


def test_a_report_under_pacemakers_name_is_stored_under_novas_and_kept_as_it_came(db: Database) -> None:
    accept(db, declaration())
    body = Monitor("compute2").host_down("NODE1")
    [receipt] = accept(db, body)
    assert receipt.reason.endswith("reported as NODE1")
    [recovery] = rows(db, "recovery_by_key", keys=["host:compute1"])
    assert recovery["id"] == receipt.recovery_id
    report = next(row for row in rows(db, "report_list", many=10) if row["notification_id"] == body["id"])
    assert report["notification_hostname"] == "compute1" and json.loads(report["body"]) == body
    assert [proof.kind for proof in known(db).proofs] == ["power_off"]
    assert rows(db, "host_known", hostnames=["NODE1"]) == []


def test_two_hosts_of_one_name_are_told_apart_by_their_cluster(db: Database) -> None:
    accept(db, declaration("compute1"), declaration("compute2", cluster_port="another:5405"))
    places = [(CLUSTER, "node1"), ("another:5405", "node1"), ("third:5405", "node1")]
    found = db.read(lambda tx: hosts.declared(tx, places))
    names = {place: [row["hostname"] for row in found[place]] for place in places}
    assert names == {places[0]: ["compute1"], places[1]: ["compute2"], places[2]: []}


def test_no_report_but_one_about_an_unknown_name_costs_a_query_for_names(db: Database) -> None:
    asked: list[str] = []
    accept(db, declaration())

    class Counting:
        def transaction(self, func: Callable[[Any], Any]) -> Any:
            return db.transaction(lambda tx: func(CountingTx(tx)))

    class CountingTx:
        def __init__(self, tx: Any) -> None:
            self._tx = tx

        def __getattr__(self, method: str) -> Callable[..., Any]:
            def call(statement: str, *args: Any, **params: Any) -> Any:
                asked.append(statement)
                return getattr(self._tx, method)(statement, *args, **params)

            return call

    desk = intake(Counting())  # type: ignore[arg-type]
    desk.accept([item(Monitor("compute3").process_down(f"p{number}")) for number in range(20)])
    desk.accept([item(Monitor("compute2").host_down("compute1"))])
    assert asked.count("host_declared") == 0 and "host_known" in asked
    desk.accept([item(Monitor("compute2").host_down("node1"))])
    assert asked.count("host_declared") == 1


# The BMC


@pytest.mark.parametrize("first", ["declaration", "reading"])
def test_what_was_read_from_another_bmc_is_neither_proof_nor_life(db: Database, first: str) -> None:
    told, read = declaration(ago_s=5), [read_off(OTHER), read_off(OTHER, "compute3", "power_on")]
    for bodies in ([told], read) if first == "declaration" else (read, [told]):
        accept(db, *bodies)
    found = known(db)
    assert found.proofs == () and "power_on" not in [sign.kind for sign in found.life]
    words = db.read(lambda tx: hosts.words_on(tx, "compute1", 1, 0.0))
    said = [one.detail for one in (*words, *found.wrong_bmc) if one.observer == "compute2"]
    assert said == [
        f"wrong BMC: the one that compute2 read (power_off) has the GUID {OTHER}, "
        f"but compute1 told that the GUID of its own is {OWN}"
    ]


@pytest.mark.parametrize("guid", [OWN, OWN.upper().replace("-", ""), "44332211-6655-8877-99AA-BBCCDDEEFF00", ""])
def test_its_own_bmc_is_known_in_every_order_of_bytes_and_one_that_tells_no_guid_is_believed(
    db: Database, guid: str
) -> None:
    accept(db, declaration(ago_s=5), read_off(guid))
    [proof] = known(db).proofs
    assert (proof.kind, proof.observer, proof.detail) == ("power_off", "compute2", "read back from the BMC")


def test_a_newer_reading_of_another_bmc_does_not_hide_the_right_one(db: Database) -> None:
    """Both were stored before the host told which one is its own."""
    right, wrong = read_off(OWN), read_off(OTHER, "compute3")
    right["evidence"][0]["at"] = utc(time.time() - 20)
    accept(db, right, wrong)
    accept(db, declaration(ago_s=5))
    [proof] = known(db).proofs
    assert proof.observer == "compute2"


@pytest.mark.parametrize(("older", "newer"), [(OWN, ""), ("", OWN)])
def test_the_newest_reading_counts_whether_or_not_it_tells_its_bmc(db: Database, older: str, newer: str) -> None:
    first, second = read_off(older), read_off(newer, "compute3")
    first["evidence"][0]["at"] = utc(time.time() - 20)
    accept(db, first, second)
    [proof] = known(db).proofs
    assert proof.observer == "compute3"


# Who is refused, and who counts


def test_whoever_reports_a_host_of_another_cluster_gets_a_403_and_nothing_is_stored(db: Database) -> None:
    desk, stopping = intake(db), threading.Event()
    accept(db, declaration(cluster_port="another:5405"))
    committing = threading.Thread(target=desk.run, args=(stopping,))
    committing.start()
    try:
        foreign, own = (item(Monitor("compute2").host_down(host)) for host in ("compute1", "compute5"))
        with pytest.raises(BadNotification, match="compute1 is not in the cluster of compute2") as refused:
            desk.submit(foreign.notification, True, "key", time.time())
        assert (refused.value.status, refused.value.field) == (403, "hostname")
        assert desk.submit(own.notification, True, "key", time.time()).status_code == 200
    finally:
        stopping.set()
        desk.stop()
        committing.join(30)
    assert {row["hostname"] for row in rows(db, "recovery_open")} == {"compute5"}
    assert known(db).down_reported_at == 0


def test_a_refused_report_takes_nobody_along(db: Database) -> None:
    accept(db, declaration(cluster_port="another:5405"))
    foreign = Monitor("compute2").host_down("compute1")
    receipts = accept(db, foreign, Monitor("compute2").host_down("compute5"), foreign)
    assert [receipt.status_code for receipt in receipts] == [403, 200, 403]


def test_each_observer_counts_once(db: Database) -> None:
    [opened] = accept(db, Monitor("compute2").host_down("compute1"))
    assert opened.recovery_id
    for observer in ("compute3", "compute2", None, None):
        accept(db, Monitor("compute2").host_down("compute1", observer=observer))
    accept(db, Monitor("compute4").host_down("compute1", eventType="1", detail="1"))
    told = rows(db, "report_who", recovery_id=opened.recovery_id, since=0.0)
    assert {row["observer"] for row in told} == {"compute2", "compute3", ""} and len(told) == 3


def test_the_words_of_reports_are_quoted_where_there_is_no_evidence(db: Database) -> None:
    [opened] = accept(db, Monitor("compute2").host_down("compute1", "", reason="no BMC is known"))
    accept(db, Monitor("compute3").host_down("compute1", ""))
    said = db.read(lambda tx: hosts.words_on(tx, "compute1", opened.recovery_id or 0, 0.0))
    assert [(one.observer, one.detail) for one in said] == [("compute2", "no BMC is known")]


def test_the_longest_words_of_a_monitor_are_stored(db: Database) -> None:
    [receipt] = accept(db, Monitor("compute2").host_down("compute1", "", reason="x" * 255))
    assert receipt.status_code == 200


# Upgrades

VERSION_1 = """
DROP TABLE segment_host;
DROP TABLE failover_segment;
CREATE TABLE failover_segment (
    cluster_port VARCHAR(255) NOT NULL PRIMARY KEY, recovery_method VARCHAR(32), paused_at DOUBLE, paused_until DOUBLE,
    paused_by VARCHAR(255)
);
INSERT INTO failover_segment (cluster_port, recovery_method) VALUES ('a:1', 'auto');
ALTER TABLE notification_list DROP COLUMN generated_at;
ALTER TABLE host_evidence DROP COLUMN guid;
ALTER TABLE known_host DROP COLUMN pacemaker_name;
ALTER TABLE known_host DROP COLUMN bmc_guid;
ALTER TABLE known_host DROP COLUMN declared_at;
ALTER TABLE known_host DROP COLUMN declared_boot;
DELETE FROM schema_version WHERE version > 1;
INSERT INTO known_host (hostname, cluster_port, first_seen_at, boot_id, boot_seen_at) VALUES ('compute1', 'a:1', 5, 'boot-0', 6);
INSERT INTO host_evidence (hostname, cluster_port, kind, at, received_at, observer, detail)
VALUES ('compute1', 'a:1', 'power_off', 7, 8, 'compute2', 'read');
"""


def test_tables_of_version_1_are_upgraded_with_what_is_in_them(settings: Db, request: pytest.FixtureRequest) -> None:
    if settings.drivername == "sqlite":
        open_database(settings, Clock()).close()
        with closing(sqlite3.connect(settings.name)) as old:
            old.executescript(f"DROP INDEX notification_generated; DROP INDEX evidence_newest;{VERSION_1}")
    else:
        server = request.getfixturevalue("mariadb")
        keys = "ALTER TABLE host_evidence DROP KEY evidence_newest; ALTER TABLE notification_list DROP KEY notification_generated;"
        server.sql(keys + VERSION_1)
        for _ in range(2):
            assert server.run_script(TABLES).returncode == 0
    database = open_database(settings, Clock())
    try:
        database.check_version()
        row = known_host(database)
        assert (row["boot_id"], row["pacemaker_name"], row["declared_at"]) == ("boot-0", None, None)
        assert [(proof.kind, proof.observer) for proof in known(database).proofs] == [("power_off", "compute2")]
        assert database.read(lambda tx: hosts.recovery_method(tx, "a:1", "reserved_host")) == "auto"
        accept(database, declaration())
        assert known_host(database)["bmc_guid"] == OWN
    finally:
        database.close()


def test_two_programs_that_upgrade_one_file_at_once_both_find_it_upgraded(tmp_path: Path) -> None:
    settings = Db(drivername="sqlite", name=str(tmp_path / "masakari.sqlite"))
    open_database(settings, Clock()).close()
    with closing(sqlite3.connect(settings.name)) as old:
        old.executescript(f"DROP INDEX notification_generated; DROP INDEX evidence_newest;{VERSION_1}")
    errors: list[Exception] = []
    ready = threading.Barrier(4)

    def start() -> None:
        ready.wait(10)
        try:
            open_database(settings, Clock()).close()
        except MasakariError as error:
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    with closing(sqlite3.connect(settings.name)) as new:
        assert new.execute("SELECT MAX(version) FROM schema_version").fetchone() == (SCHEMA_VERSION,)


def test_a_first_sight_of_a_host_is_stored_once_for_many_reports(db: Database) -> None:
    told = [identity.Told("compute1", CLUSTER, 1.0), identity.Told("compute1", CLUSTER, 2.0, boot_id="boot-1")]
    db.transaction(lambda tx: identity.see(tx, told, {}, 3.0))
    assert (known_host(db)["boot_id"], known_host(db)["boot_seen_at"]) == ("boot-1", 2.0)
