"""masakari-doctor on a node that is well, and with one thing wrong after the other: it names each, with what to do."""

from __future__ import annotations

import re
import runpy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from masakari.checkup_database import missing_rights, node_clock, nodes
from masakari.common.checkup import Outcome
from masakari.common.clock import Clock
from masakari.config import Db
from tests.lab.doctor import FAILED, HOSTS, OBSERVER, SCRIPT, SPARE, Findings, Node, changed, examine, set_up
from tests.lab.mariadb import PrivateMariaDB, until
from tests.lab.processes import ROOT, free_port
from tests.lab.pytest_mariadb import mariadb
from tests.simcloud.clock import SkewedClock
from tests.simcloud.cloud import SimulatedCloud

__all__ = ["mariadb"]

pytestmark = [pytest.mark.needs_mariadb, pytest.mark.needs_libvirt]

MERGED = """
- process_name: /usr/bin/nova-compute
  start_command: systemctl start nova-compute
  restart_command: systemctl restart nova-compute
  #-
  process_name: /usr/sbin/sshd
  start_command: systemctl start sshd
  restart_command: systemctl restart sshd
"""
UNIT = "[Service]\nExecStart=/usr/bin/local/masakari-engine\n"


@pytest.fixture(scope="module")
def node(mariadb: PrivateMariaDB, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that is well; a test puts right what it has made wrong."""
    mariadb.make_tables()
    with set_up(tmp_path_factory.mktemp("etc"), mariadb.settings()) as made:
        yield made


@contextmanager
def sql(mariadb: PrivateMariaDB, wrong: str, right: str) -> Iterator[None]:
    """Statements as the database's root, and those that put it right."""
    mariadb.sql(wrong)
    try:
        yield
    finally:
        mariadb.sql(right)


@contextmanager
def another_cloud(
    clock: Clock | None = None, hosts: tuple[str, ...] = HOSTS, **behaviour: Any
) -> Iterator[tuple[Any, str]]:
    """A cloud beside that of the node, and its address."""
    cloud = SimulatedCloud(clock or Clock(), hosts, **behaviour)
    with cloud.serve() as server:
        yield cloud, server.auth_url


def only(found: Findings, *expected: str) -> str:
    """The rows that are NOT OK, when these words stand in one each, and nothing else is wrong."""
    wrong = found.wrong()
    assert found.status == 1
    assert len(wrong) == len(expected), wrong
    for words in expected:
        assert any(words in line for line in wrong), wrong
    return "\n".join(wrong)


def test_a_node_that_is_well(node: Node) -> None:
    found = node.examine()
    assert (found.status, set(found.states())) == (0, {"ok"}), [row for row in found.rows if row["state"] != "ok"]
    looked_at = {(row["part"], row["subject"]) for row in found.rows}
    controller = ("settings", "keys", "database", "rights", "clocks of the database", "controller", "beat", "Keystone")
    controller += (
        "clock of Keystone",
        "Nova",
        "policy: force-down",
        "policy: evacuate",
        "hosts",
        f"spare {SPARE}",
        "segments",
    )
    assert {("controller", subject) for subject in controller} <= looked_at
    assert {("instancemonitor", "libvirt"), ("processmonitor", "processes")} <= looked_at
    here = (
        f"clock of {node.controller.url}",
        f"callback to {node.controller.url}",
        "unread files",
        "units",
        "commands",
    )
    assert {("node", subject) for subject in here} <= looked_at


def test_it_changes_nothing_in_the_cloud(node: Node) -> None:
    before = node.cloud.state()
    node.examine()
    after = node.cloud.state()
    for name in ("hosts", "servers", "migrations", "evacuate_requests", "violations"):
        assert after[name] == before[name]


def test_the_test_callback_is_on_record_and_counts_for_nothing(node: Node, mariadb: PrivateMariaDB) -> None:
    counted = "SELECT MAX(received_at) AS at FROM notification_list WHERE self_report = 1 AND trusted = 1"
    tests = (
        "SELECT notification_hostname AS host, outcome, reason FROM notification_list WHERE notification_type = 'test'"
    )
    everything = "SELECT (SELECT COUNT(*) FROM recovery) AS r, (SELECT COUNT(*) FROM host_evidence) AS e"
    known = "SELECT * FROM known_host ORDER BY hostname"
    mariadb.sql("DELETE FROM notification_list WHERE notification_type = 'test'")
    before = [mariadb.sql(query) for query in (counted, everything, known)]
    assert node.examine().status == 0
    assert [mariadb.sql(query) for query in (counted, everything, known)] == before
    (row,) = mariadb.sql(tests)
    assert row == {"host": OBSERVER, "outcome": "ignored", "reason": "a test of masakari-doctor: nothing is done"}


def test_a_wrong_password_of_the_database(node: Node) -> None:
    with node.settings(db__passwd="wrong"):
        assert "Access denied" in only(node.examine(), "controller: database: ")


def test_a_wrong_password_of_keystone(node: Node) -> None:
    with node.settings(nova__admin_password="wrong"):
        assert "openstack token issue" in only(node.examine(), "controller: Keystone: ")


def test_a_keystone_that_does_not_show_the_token(node: Node) -> None:
    node.cloud.fault("keystone_other", "answer", status=403, count=-1)
    try:
        found = node.examine()
    finally:
        node.cloud.clear_faults()
    assert (found.status, found.states()["WARNING"]) == (0, 1)
    assert any(row["subject"] == "policy: evacuate" for row in found.rows)


def test_tables_of_an_earlier_release(node: Node, mariadb: PrivateMariaDB) -> None:
    older = "UPDATE schema_version SET version = -version WHERE version > 1"
    with sql(mariadb, older, "UPDATE schema_version SET version = ABS(version)"):
        assert "create_vmha_database.sql" in only(node.examine(), "controller: database: [db] database vm_ha")


def test_a_missing_right(node: Node, mariadb: PrivateMariaDB) -> None:
    make = "CREATE USER 'half'@'%' IDENTIFIED BY 'x'; GRANT SELECT, INSERT, UPDATE ON vm_ha.* TO 'half'@'%'"
    with sql(mariadb, make, "DROP USER 'half'@'%'"), node.settings(db__user="half", db__passwd="x"):
        assert "GRANT SELECT, INSERT, UPDATE, DELETE ON vm_ha.*" in only(node.examine(), "DELETE command denied")


def test_each_right_is_tried_on_each_table(node: Node, mariadb: PrivateMariaDB) -> None:
    tables = [row["Tables_in_vm_ha"] for row in mariadb.sql("SHOW TABLES")]
    assert {"recovery", "vm_list", "schema_version"} < set(tables)
    user, rights = "'probe'@'%'", ("SELECT", "INSERT", "UPDATE", "DELETE")
    settings = mariadb.settings(user="probe", passwd="x")
    everything = "; ".join(f"GRANT {', '.join(rights)} ON vm_ha.{table} TO {user}" for table in tables)
    with sql(mariadb, f"CREATE USER {user} IDENTIFIED BY 'x'; {everything}", f"DROP USER {user}"):
        assert missing_rights(settings) == []
        for table in set(tables) - {"schema_version"}:
            for right in rights:
                with sql(
                    mariadb, f"REVOKE {right} ON vm_ha.{table} FROM {user}", f"GRANT {right} ON vm_ha.{table} TO {user}"
                ):
                    refused = missing_rights(settings)
                assert [words for words in refused if words.startswith(right) and f"`{table}`" in words], (right, table)


def test_the_clock_of_each_node_of_the_database_is_asked(node: Node, mariadb: PrivateMariaDB) -> None:
    here = node_clock(mariadb.settings(host="192.0.2.1"), Clock(), ("127.0.0.1", mariadb.port))
    assert here.node == f"127.0.0.1:{mariadb.port}"
    assert here.ahead_s is not None and abs(here.ahead_s) < 3
    away = node_clock(mariadb.settings(), Clock(), ("127.0.0.1", free_port()))
    assert away.ahead_s is None and away.why
    assert nodes(mariadb.settings()) == []


def test_the_clock_of_the_cloud_is_off(node: Node) -> None:
    with another_cloud(SkewedClock(Clock(), 90)) as (cloud, auth_url), node.settings(nova__auth_url=auth_url):
        cloud.boot(FAILED)
        told = only(node.examine(), "clock of Keystone: Keystone's clock is ", "clock of Nova: ")
        assert re.search("is (89|90|91) s ahead of the clock of this host; at most 15 s .* NTP", told)


def test_a_spare_that_is_down(node: Node) -> None:
    with another_cloud(service_down_s=0.5, report_s=0.1) as (cloud, auth_url), node.settings(nova__auth_url=auth_url):
        cloud.boot(FAILED)
        cloud.crash(SPARE)
        until(lambda: not cloud.state()["hosts"][SPARE]["up"], 20, lambda: "the spare still reads up")
        assert f"start nova-compute on {SPARE}" in only(node.examine(), f"spare {SPARE}: its nova-compute is down")


def test_a_spare_that_nova_does_not_know(node: Node) -> None:
    with another_cloud(hosts=(FAILED, OBSERVER)) as (_, auth_url), node.settings(nova__auth_url=auth_url):
        found = node.examine()
        only(found, f"spare {SPARE}: Nova has no nova-compute of that name")
        # That host has reported; and without an instance Nova does not tell whether evacuate is permitted.
        assert (found.states()["WARNING"], found.states()["skipped"]) == (1, 1)


@pytest.mark.parametrize(("call", "subject"), [("force_down", "force-down"), ("evacuate", "evacuate")])
def test_a_policy_that_forbids(node: Node, call: str, subject: str) -> None:
    node.cloud.fault(call, "answer", status=403, count=-1)
    try:
        assert "policy of Nova" in only(node.examine(), f"controller: policy: {subject}: forbidden")
    finally:
        node.cloud.clear_faults()


def test_an_account_that_is_no_admin(node: Node) -> None:
    with node.settings(nova__admin_user="demo", nova__project_name="demo"):
        found = node.examine()
    assert any("without the role admin (roles: member, reader)" in Findings.line(row) for row in found.rows)
    only(found, "controller: Nova: ")


def test_a_key_that_the_controller_does_not_know(node: Node) -> None:
    with changed(node.processmonitor.key, "for tests", "for nobody at all"):
        told = only(node.examine(), f"callback to {node.controller.url}: refused with 401")
    assert "compare /etc/masakari/key.conf" in told


def test_a_monitor_without_a_key(node: Node) -> None:
    with changed(node.processmonitor.config, "KEY_FILE=.*\n", ""):
        told = only(node.examine(), "callbacks must be signed")
    assert "put this host's own section" in told


def test_a_controller_that_is_away(node: Node) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with changed(node.processmonitor.config, node.controller.url, url):
        assert "does the controller run" in only(node.examine(), f"clock of {url}", f"callback to {url}")


def test_a_controller_that_does_not_run_here(node: Node) -> None:
    with node.settings(wsgi__server_port=free_port()):
        assert "systemctl start masakari-controller" in only(node.examine(), "controller: controller: ")


def test_the_clock_of_the_controller_is_off(node: Node) -> None:
    with other_clock() as url, changed(node.instancemonitor.config, node.controller.url, url):
        told = only(
            node.examine(), f"clock of {url}", f"callback to {url}: HTTP 200, and not from a Masakari controller"
        )
    assert "s behind the clock of this host" in told


def test_a_process_that_is_not_found(node: Node) -> None:
    line = "2, /usr/sbin/nobody-is-called-so, /bin/true, /bin/true, , , , \n"
    with changed(node.processmonitor.list, r"\Z", line):
        told = only(node.examine(), "processmonitor: process /usr/sbin/nobody-is-called-so: ")
    assert "compare with ps -ef" in told


def test_merged_entries_in_a_yaml_list(node: Node, tmp_path: Path) -> None:
    (tmp_path / "process_list.yaml").write_text(MERGED)
    with changed(node.processmonitor.config, str(node.processmonitor.list), f"{tmp_path}/process_list.yaml"):
        assert "two entries are merged" in only(node.examine(), "processmonitor: settings: ")


def test_libvirt_is_away(node: Node) -> None:
    with changed(node.instancemonitor.config, "test:///default", "qemu+unix:///system?socket=/nowhere"):
        told = only(node.examine(), "instancemonitor: libvirt: qemu+unix:///system")
    assert "systemctl status libvirtd" in told


def test_a_unit_whose_program_is_not_there(node: Node) -> None:
    unit = node.etc / "systemd" / "system" / "masakari-engine.service"
    unit.parent.mkdir(parents=True)
    unit.write_text(UNIT)
    try:
        told = only(node.examine(), f"{unit}: ExecStart=/usr/bin/local/masakari-engine: there is no such program")
    finally:
        unit.unlink()
    assert "systemctl daemon-reload" in told


def test_files_and_commands_that_a_guide_left(node: Node, tmp_path: Path) -> None:
    left = node.etc / "masakarimonitors" / "hostmonitor.conf"
    left.parent.mkdir()
    left.write_text("MONITOR_INTERVAL=120\n")
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "masakari-hostmonitor").write_text("")
        (tmp_path / folder / "masakari-hostmonitor").chmod(0o755)
    try:
        found = node.examine(PATH=f"{tmp_path}/first:{tmp_path}/second")
    finally:
        left.unlink()
    warnings = [Findings.line(row) for row in found.rows if row["state"] == "WARNING"]
    assert found.status == 0
    assert [line for line in warnings if f"{left}: nobody reads it -> move" in line]
    assert [
        line
        for line in warnings
        if f"{tmp_path}/first/masakari-hostmonitor, which goes before {tmp_path}/second" in line
    ]


def test_nothing_is_set_up(tmp_path: Path) -> None:
    assert "nothing of Masakari is set up here" in only(examine(tmp_path), "node: parts: ")


def test_a_hostmonitor_without_a_cluster(tmp_path: Path) -> None:
    config = tmp_path / "hostmonitor" / "hostmonitor.conf"
    config.parent.mkdir()
    away = f"http://127.0.0.1:{free_port()}"
    config.write_text(f"url = {away}\nDISABLE_IPMI_CHECK = yes\nstate_dir = {tmp_path}\nalert_pipe = {tmp_path}/pipe\n")
    found = examine(tmp_path)
    told = [Findings.line(row) for row in found.rows if row["part"] == "hostmonitor"]
    assert found.status == 1
    assert [line for line in told if line.startswith("hostmonitor: pacemaker: pacemaker can't be asked")]
    assert [line for line in told if line.startswith("hostmonitor: settings: ") and "DISABLE_IPMI_CHECK" in line]
    assert not [line for line in told if line.startswith(("hostmonitor: check: ", "hostmonitor: problem: "))]


def test_a_controller_on_sqlite(tmp_path: Path) -> None:
    db = Db(drivername="sqlite", name=str(tmp_path / "vm_ha.sqlite"))
    with set_up(tmp_path / "etc", db) as node:
        assert node.examine().status == 0
        missing = tmp_path / "other.sqlite"
        with node.settings(db__name=str(missing)):
            assert "the controller makes it when it starts first" in only(node.examine(), "controller: database: ")
        assert not missing.exists()


def test_the_example_of_the_documentation(node: Node, mariadb: PrivateMariaDB) -> None:
    (example,) = re.findall(r"^```text\n(.*?)^```$", (ROOT / "docs/doctor.md").read_text(), re.DOTALL | re.MULTILINE)
    wrong = "UPDATE reserve_list SET hostname = 'compute9' WHERE hostname = 'compute3'"
    with sql(mariadb, wrong, "UPDATE reserve_list SET hostname = 'compute3'"):
        assert as_documented(node.examine(), node) == example


def as_documented(found: Findings, node: Node) -> str:
    """The findings as they are printed, with the addresses, folders and times that a reader would see."""
    doctor = runpy.run_path(str(SCRIPT))
    parts: dict[str, list[Outcome]] = {}
    for row in found.rows:
        texts = [
            row[name].replace(node.controller.url, "http://controller:15868") for name in ("subject", "text", "advice")
        ]
        subject, text, advice = (text.replace(str(node.etc), "/etc") for text in texts)
        text = re.sub(r"\d+\.\d s ", "0.0 s ", text)
        parts.setdefault(row["part"], []).append(Outcome(subject, row["state"], text, advice))
    rows = [row for part in parts.values() for row in part]
    return "\n".join([*(doctor["shown"](name, part) for name, part in parts.items()), doctor["summary"](rows), ""])


@contextmanager
def other_clock() -> Iterator[str]:
    """A server that lives in the past, and is no controller."""

    class Handler(BaseHTTPRequestHandler):
        def date_time_string(self, timestamp: float | None = None) -> str:
            return "Sat, 01 Jan 2022 00:00:00 GMT"

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
