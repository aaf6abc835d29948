"""What the online checks of each component make of what they found out."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from instancemonitor.checkup import of_libvirt, of_log_dir
from instancemonitor.model import DomainView, Snapshot
from masakari import __version__, checkup
from masakari.checkup_cloud import of_version
from masakari.checkup_database import NodeClock, incoming
from masakari.cloud_http import Reply
from masakari.common.checkup import Outcome, as_json, not_ok, ok, warning
from masakari.nova import Service
from processmonitor.checkup import of_processes
from processmonitor.entry import Entry
from processmonitor.procfs import Process

DOCTOR = runpy.run_path(str(Path(__file__).resolve().parents[2] / "utils" / "masakari_doctor.py"))
CONTROLLER = DOCTOR["COMPONENTS"][0]
CLUSTER = "226.94.1.1:5405"


def service(host: str, **changes: Any) -> Service:
    """A nova-compute that is well."""
    fields: dict[str, Any] = {
        "host": host,
        "id": "1",
        "enabled": True,
        "up": True,
        "forced_down": False,
        "updated_at": 1000.0,
        "disabled_reason": "",
    }
    return Service(**{**fields, **changes})


def states(rows: Any) -> list[str]:
    return [row.state for row in rows]


# The controller


@pytest.mark.parametrize(
    ("ahead", "state"),
    [((0.0, 4.9), "ok"), ((0.0, 5.2), "NOT OK"), ((-3.0, 3.0, 0.0), "NOT OK"), ((90.0, 90.0), "ok"), ((90.0,), "ok")],
)
def test_clocks_of_the_database_are_compared_with_one_another(ahead: tuple[float, ...], state: str) -> None:
    (row,) = checkup.of_database_clocks([NodeClock(f"db{number}", ahead_s) for number, ahead_s in enumerate(ahead)])
    assert row.state == state


def test_which_clock_of_the_database_is_ahead_is_told() -> None:
    clocks = [NodeClock("db1:3306", 1.0), NodeClock("db2:3306", -8.0), NodeClock("db3:3306", None, "denied")]
    unknown, apart = checkup.of_database_clocks(clocks)
    assert "db1:3306 is 9 s ahead of db2:3306" in apart.text
    assert (unknown.state, unknown.text) == ("WARNING", "db3:3306 can't be asked: denied")


@pytest.mark.parametrize(
    ("addresses", "nodes"),
    [
        ("", []),
        ("10.0.0.1:3306,10.0.0.2:3307", [("10.0.0.1", 3306), ("10.0.0.2", 3307)]),
        ("db1, AUTO,10.0.0.2:0", [("db1", 3300), ("10.0.0.2", 3300)]),
        ("[2001:db8::1]:3306", [("2001:db8::1", 3306)]),
    ],
)
def test_the_nodes_of_a_galera_cluster(addresses: str, nodes: list[tuple[str, int]]) -> None:
    assert incoming(addresses, 3300) == nodes


def health(status: int = 200, /, **changes: Any) -> Reply:
    told = {"status": "ok", "version": __version__, "controller": "c1", "checked": {"database": "ok"}, **changes}
    return Reply(status, {}, json.dumps(told).encode())


@pytest.mark.parametrize(
    ("reply", "state", "words"),
    [
        (health(), "ok", "c1 runs"),
        (health(version="0.1"), "WARNING", "runs as 0.1"),
        (health(status="degraded", checked={"nova": "away"}), "WARNING", "nova: away"),
        (health(503, status="failed", checked={"database": "away"}), "NOT OK", "database: away"),
        (Reply(404, {}, b"<html>"), "NOT OK", "another program"),
    ],
)
def test_what_the_controller_says_of_itself(reply: Reply, state: str, words: str) -> None:
    row = checkup.of_health(reply)
    assert (row.state, words in row.text) == (state, True)


@pytest.mark.parametrize(("ago_s", "state"), [(None, "NOT OK"), (3.0, "ok"), (61.0, "NOT OK")])
def test_whether_a_controller_is_at_work(ago_s: float | None, state: str) -> None:
    assert checkup.of_beat(ago_s).state == state


def test_a_report_of_nova_from_the_future() -> None:
    services = [service("compute1"), service("compute2", updated_at=1020.0), service("compute3", updated_at=None)]
    row = checkup.of_nova_clocks(services, 1000.0, 15.0)
    assert (row.state, "compute2 by 20 s" in row.text) == ("NOT OK", True)
    assert checkup.of_nova_clocks(services, 1010.0, 15.0).state == "ok"


def test_hosts_that_are_called_otherwise_in_nova() -> None:
    known = {"compute1.example.org": CLUSTER, "compute2": CLUSTER, "gone": CLUSTER}
    alike, gone, silent = checkup.of_hosts(known, [service("compute1"), service("compute2")])
    assert (alike.state, "hostname = compute1" in alike.advice) == ("NOT OK", True)
    assert (gone.state, "gone has reported" in gone.text) == ("WARNING", True)
    assert (silent.state, "compute1" in silent.text) == ("WARNING", True)
    assert states(checkup.of_hosts({"compute2": CLUSTER}, [service("compute2")])) == ["ok"]


@pytest.mark.parametrize(
    ("spare", "segment", "state", "words"),
    [
        (service("compute9"), CLUSTER, "ok", "up"),
        (service("compute9", enabled=False), CLUSTER, "ok", "disabled in Nova until"),
        (service("compute9", up=False), CLUSTER, "NOT OK", "its nova-compute is down"),
        (service("compute9", up=False, forced_down=True), CLUSTER, "NOT OK", "forced down"),
        (service("compute9.example.org"), CLUSTER, "NOT OK", "--after-host compute9.example.org"),
        (service("compute9"), "226.94.1.1:5406", "NOT OK", "no host is in that segment"),
    ],
)
def test_a_spare(spare: Service, segment: str, state: str, words: str) -> None:
    (row,) = checkup.of_spares([(segment, "compute9")], [spare], {CLUSTER}, "reserved_host")
    assert (row.state, words in f"{row.text} {row.advice}") == (state, True), row


@pytest.mark.parametrize(
    ("method", "state"), [("reserved_host", "WARNING"), ("rh_priority", "WARNING"), ("auto", "ok")]
)
def test_no_spare(method: str, state: str) -> None:
    assert states(checkup.of_spares([], [], {CLUSTER}, method)) == [state]


def test_a_host_that_is_alone_in_its_segment() -> None:
    rows = list(checkup.of_segments({"compute1": CLUSTER, "compute2": CLUSTER, "compute3": "other"}))
    assert states(rows) == ["ok", "WARNING"]
    assert rows[1].text == "compute3 is alone in other"
    assert states(checkup.of_segments({"compute1": CLUSTER})) == ["ok"]


@pytest.mark.parametrize(
    ("version", "state"), [((2, 1), "WARNING"), ((2, 52), "WARNING"), ((2, 53), "ok"), ((2, 93), "ok")]
)
def test_the_microversion(version: tuple[int, int], state: str) -> None:
    assert of_version(version).state == state


# The monitors


def domain(ours: bool | None) -> DomainView:
    return DomainView("uuid", "name", 1, 1, 1, ours)


@pytest.mark.parametrize(
    ("found", "all_domains", "expected"),
    [
        (Snapshot(0, 0.0, (domain(True), domain(False))), False, ["ok"]),
        (Snapshot(0, 0.0, ()), False, ["ok"]),
        (Snapshot(0, 0.0, (domain(False),)), False, ["ok", "WARNING"]),
        (Snapshot(0, 0.0, (domain(False),)), True, ["ok"]),
        ("permission denied", False, ["NOT OK"]),
    ],
)
def test_what_libvirt_shows(found: Snapshot | str, all_domains: bool, expected: list[str]) -> None:
    assert states(of_libvirt("qemu:///system", found, all_domains)) == expected


def test_the_folder_of_the_logs(tmp_path: Path) -> None:
    assert of_log_dir(str(tmp_path)).state == "ok"
    assert of_log_dir(str(tmp_path / "none")).state == "WARNING"


def test_processes() -> None:
    entries = [Entry("1", name, *[""] * 6, False, "disable", f"proc.list:{name}") for name in ("here", "away")]
    (row,) = of_processes(entries, {"here": [Process(1, 1)], "away": []})
    assert (row.state, row.subject, "proc.list:away" in row.text) == ("NOT OK", "process away", True)
    assert states(of_processes(entries[:1], {"here": [Process(1, 1)]})) == ["ok"]


# What the doctor reads of them


def read(component: Any, status: int, out: list[str], err: list[str]) -> list[Outcome]:
    rows: list[Outcome] = DOCTOR["read"](component, status, "\n".join(out), "\n".join(err))
    return rows


def test_json_lines_warnings_and_the_end() -> None:
    out = [as_json(ok("keys", "2")), as_json(warning("hosts", "x")), "warning: old option", "/etc/x.conf: ok"]
    assert read(CONTROLLER, 0, out, []) == [
        ok("settings", "/etc/x.conf"),
        ok("keys", "2"),
        warning("hosts", "x"),
        warning("settings", "old option"),
    ]


def test_problems_are_told_once() -> None:
    row = not_ok("database", "away")
    err = ["masakari-controller: log_file: can't be written", "masakari-controller: database: away"]
    assert read(CONTROLLER, 1, [as_json(row)], err) == [row, not_ok("problem", "log_file: can't be written")]


def test_settings_that_can_not_be_read() -> None:
    err = ["masakari-controller: x.conf:1: bad", "masakari-controller: x.conf:2: worse"]
    assert read(CONTROLLER, 1, [], err) == [not_ok("settings", "x.conf:1: bad"), not_ok("settings", "x.conf:2: worse")]


def test_a_crash_is_a_problem() -> None:
    (row,) = read(CONTROLLER, 1, [], ["Traceback (most recent call last):", "KeyError: 'x'"])
    assert (row.state, "ended with status 1: KeyError: 'x'" in row.text) == ("NOT OK", True)
