"""--check-config --online: what the operator is told of each fact, and what makes the check fail."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from hostmonitor import alerts
from hostmonitor.check import (
    Checks,
    Names,
    World,
    host_in,
    nova_host,
    of_cluster_port,
    of_corosync,
    of_folder,
    of_heartbeat,
    of_names,
    of_readings,
    of_view,
    rows,
)
from hostmonitor.config import BLIND, Environments, Settings
from hostmonitor.corosync import Corosync
from hostmonitor.crm_xml import parse
from hostmonitor.heartbeat import HEARD, SILENT, UNKNOWN, Line
from hostmonitor.model import Node
from hostmonitor.power import Bmc, Reading
from hostmonitor.stonith import Declared
from masakari.common import checkup
from masakari.common.checkup import NOT_OK, OK, WARNING, Outcome, not_ok, ok, warning
from masakari.common.clock import Clock
from masakari.common.errors import Unavailable
from masakari.common.monitor_config import Identity

DATA = Path(__file__).resolve().parents[1] / "data" / "crm_mon"
WITHIN_S = 30.0
GUID = "3c5d1f20-7a4b-4c1e-9f21-0123456789ab"
CIB_PASSWORD = 'value="secret"'
BMC = Bmc("192.0.2.52", "admin", "not-a-secret", source="stonith resource fence-node2")
NAMES = Names(
    "node1", "node1", "node1", nova="node1", nova_source="host in nova.conf", known=("node1", "node2", "node3")
)
CMAP = """nodelist.local_node_pos (u32) = 0
nodelist.node.0.name (str) = node1
nodelist.node.0.nodeid (u32) = 1
nodelist.node.1.name (str) = node2
nodelist.node.2.name (str) = node3
runtime.members.1.ip (str) = r(0) ip(10.77.0.1)
runtime.members.1.status (str) = joined
runtime.members.2.status (str) = joined
runtime.members.3.status (str) = joined
totem.cluster_name (str) = testcluster
totem.transport (str) = knet
"""


def problems(found: Iterable[Outcome]) -> list[str]:
    """What is NOT OK of it."""
    return [row.text for row in found if row.state == NOT_OK]


def warnings(found: Iterable[Outcome]) -> list[str]:
    """What it warns of."""
    return [row.text for row in found if row.state == WARNING]


# Rows


def test_each_problem_has_a_row_and_nothing_else_that_is_known_gets_lost() -> None:
    assert rows("x", "two", ["one is old"]) == [ok("x", "two; one is old")]
    assert rows("x", "two", ["one is old"], problems=["a", "b"]) == [
        not_ok("x", "a"),
        not_ok("x", "b"),
        ok("x", "two; one is old"),
    ]
    assert rows("x", "two", ["one is old"], ["c", "d"], ["a"]) == [
        not_ok("x", "a"),
        warning("x", "two; one is old; c"),
        warning("x", "d"),
    ]


# Corosync and the failover segment


def test_a_member_that_corosync_misses_is_a_warning() -> None:
    there = Corosync(transport="knet", members=("node1", "node2", "node3"), joined=3)
    assert of_corosync(there) == [ok("corosync", "3 of 3 members, transport knet")]
    told = "2 of 3 members, transport knet; corosync misses 1 member: see corosync-quorumtool"
    assert of_corosync(replace(there, joined=2)) == [warning("corosync", told)]


def test_nodes_that_would_report_another_cluster_port_than_this_one_are_a_warning() -> None:
    corosync = Corosync(cluster_name="testcluster", transport="knet")
    told = "testcluster (cluster_port in hostmonitor.conf)"
    assert of_cluster_port(settings(cluster_port="testcluster"), corosync) == [ok("cluster_port", told)]
    (other,) = warnings(of_cluster_port(settings(identity=Identity("node1", "rack1", "k", "s")), corosync))
    assert other.startswith("rack1 (the key of this host); corosync itself names this cluster testcluster")
    assert "--port rack1" in other


def test_a_configured_name_will_do_where_corosync_has_none() -> None:
    assert warnings(of_cluster_port(settings(cluster_port="rack1"), Corosync(transport="knet"))) == []


@pytest.mark.parametrize("corosync", [None, Corosync(transport="knet")], ids=["unasked", "nameless"])
def test_a_cluster_that_nothing_names_is_a_problem_with_what_to_set(corosync: Corosync | None) -> None:
    (row,) = of_cluster_port(settings(), corosync)
    assert (row.subject, row.state) == ("cluster_port", NOT_OK)
    assert "set cluster_port in hostmonitor.conf" in row.text


# Names


def test_one_name_for_everything_needs_no_word() -> None:
    assert of_names(NAMES) == [ok("names", "node1 to pacemaker, node1 to Nova, node1 to itself")]


@pytest.mark.parametrize(
    ("nova", "differ"),
    [
        ("compute1", ""),
        ("Node1", " (they differ in case alone)"),
        ("node1.example.org", " (they differ in the domain alone)"),
    ],
)
def test_a_host_that_nova_knows_by_another_name_is_a_problem(nova: str, differ: str) -> None:
    (problem,) = problems(of_names(replace(NAMES, nova=nova)))
    assert problem == (
        f"Nova calls this host {nova} (host in nova.conf), but it is reported as node1{differ}: "
        f"set hostname = {nova} in hostmonitor.conf, and have a key for that"
    )


def test_addresses_of_one_network_are_not_taken_for_one_name() -> None:
    (problem,) = problems(of_names(replace(NAMES, nova="10.0.0.1", hostname="10.0.0.2", own="10.0.0.2")))
    assert "differ" not in problem


def test_where_nova_keeps_its_name_to_itself_the_operator_is_told_to_compare() -> None:
    (row,) = of_names(replace(NAMES, nova="", nova_source="/etc/nova/nova.conf: No such file or directory"))
    assert row.state == OK
    assert "openstack compute service list" in row.text and "No such file" in row.text


def test_another_name_in_pacemaker_is_worth_a_note_unless_it_is_mapped() -> None:
    names = replace(NAMES, hostname="compute1", nova="compute1")
    told = "node1 to pacemaker, compute1 to Nova, node1 to itself"
    note = "pacemaker calls this host node1, and Nova compute1: the controller knows once this monitor has started"
    assert of_names(names) == [ok("names", f"{told}; {note}")]
    assert of_names(replace(names, nova_hosts={"node1": "compute1"})) == [ok("names", told)]


def test_without_a_key_the_controller_takes_no_name_from_this_host() -> None:
    (told,) = warnings(of_names(replace(NAMES, hostname="compute1", nova="compute1", signed=False)))
    assert "nova_hosts = node1=compute1 on the other nodes" in told


def test_nova_hosts_may_not_name_this_host_otherwise_than_it_reports_itself() -> None:
    (problem,) = problems(of_names(replace(NAMES, nova_hosts={"node1": "NODE1"})))
    assert problem.startswith("nova_hosts says node1=NODE1, but that is this very host, and it is reported as node1")
    assert "case alone" in problem


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("NODE2", "; is node2 meant (they differ in case alone)?"),
        ("node2.example.org", "; is node2 meant (they differ in the domain alone)?"),
        ("nod2", "; is node2 meant?"),
        ("compute", "; it has node1, node2, node3"),
    ],
)
def test_names_that_the_cluster_does_not_have_are_problems(name: str, told: str) -> None:
    (by_map,) = problems(of_names(replace(NAMES, nova_hosts={name: "compute2"})))
    (by_file,) = problems(of_names(replace(NAMES, bmc_nodes=(name, "node3"), bmc_file="/etc/hostmonitor/bmc.conf")))
    assert by_map == f"nova_hosts names {name}, but pacemaker knows no such node{told}"
    assert by_file == by_map.replace("nova_hosts", "/etc/hostmonitor/bmc.conf")


def test_no_name_is_called_unknown_while_pacemaker_can_not_be_asked() -> None:
    found = of_names(replace(NAMES, own="", known=(), nova_hosts={"nod2": "c2"}, bmc_nodes=("nod3",)))
    assert problems(found) == []


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("[DEFAULT]\nmy_ip = 10.0.0.1\nhost = compute1\n", "compute1"),
        ("[DEFAULT]\nhost=one\nhost = 'two'\n", "two"),
        ("[DEFAULT]\n#host = compute1\nhost_x = a\nmy_host = b\n", ""),
        ("[DEFAULT]\n[vnc]\nhost = compute1\n", ""),
        ("[vnc]\nhost = other\n[DEFAULT] # main\nhost: compute1  \n", "compute1"),
        ("", ""),
    ],
)
def test_what_nova_calls_its_host_is_read_from_its_own_section(text: str, host: str) -> None:
    assert host_in(text) == host


def test_nova_takes_the_second_file_before_the_first_and_the_name_of_the_machine_without_both(tmp_path: Path) -> None:
    first, second = tmp_path / "nova.conf", tmp_path / "nova-compute.conf"
    paths = (str(first), str(second))
    assert nova_host(paths, "u1") == ("", f"{first}: No such file or directory")
    first.write_text("[DEFAULT]\n")
    assert nova_host(paths, "u1") == ("u1", f"no host in {first}, so what `hostname` prints")
    first.write_text("[DEFAULT]\nhost = c1\n")
    second.write_text("[DEFAULT]\n")
    assert nova_host(paths, "u1") == ("c1", f"host in {first}")
    second.write_text("[DEFAULT]\nhost = c2\n")
    assert nova_host(paths, "u1") == ("c2", f"host in {second}")
    second.write_text("[DEFAULT]\nhost = $my_ip\n")
    assert nova_host(paths, "u1") == ("", f"host in {second} is '$my_ip'")


# BMCs


def test_a_bmc_that_answers_is_told_with_its_guid() -> None:
    on = Reading(BMC, "on", 1.0, guid=GUID)
    expected = ok("BMC of node2", f"BMC 192.0.2.52: power on, GUID {GUID}")
    assert of_readings(Node("node2", online=True), [on]) == [expected]


@pytest.mark.parametrize("why", ["BMC 192.0.2.52 refuses the password of user 'admin'", "wrong BMC: the GUID of ..."])
def test_a_bmc_that_can_not_be_read_is_a_problem_also_beside_one_that_can(why: str) -> None:
    readings = [Reading(BMC, "", 1.0, why), Reading(replace(BMC, address="192.0.2.53"), "on", 1.0)]
    assert of_readings(Node("node2", online=True), readings) == [
        not_ok("BMC of node2", f"its power can't be read, so that would not prove it off: {why}"),
        ok("BMC of node2", "BMC 192.0.2.53: power on, GUID not told"),
    ]


def test_off_of_a_node_that_is_online_is_the_bmc_of_another_host() -> None:
    off = Reading(BMC, "off", 1.0)
    (problem,) = problems(of_readings(Node("node2", online=True), [off]))
    assert "it is the BMC of another host" in problem and "see stonith resource fence-node2" in problem
    assert problems(of_readings(Node("node2", online=False), [off])) == []
    assert problems(of_readings(Node("node2", online=True, unclean=True), [off])) == []


# The rest


def test_a_node_that_pacemaker_does_not_know_is_a_problem() -> None:
    view = parse((DATA / "nofence-01-all-online.crm_mon.xml").read_text(), "compute1")
    (problem,) = problems(of_view(view))
    assert "pacemaker calls this node compute1, and the cluster has no such node, but node1, node2, node3" in problem


def test_a_heartbeat_line_that_is_not_heard_or_not_asked_is_a_problem() -> None:
    assert of_heartbeat(Line(HEARD)) == [ok("heartbeat line", "other nodes are heard")]
    assert warnings(of_heartbeat(Line(HEARD, "ring 1 is silent"))) == ["other nodes are heard; ring 1 is silent"]
    for state in (SILENT, UNKNOWN):
        (problem,) = problems(of_heartbeat(Line(state, "tcpdump says so")))
        assert "tcpdump says so" in problem and "TCPDUMP_TIMEOUT" in problem


def test_a_folder_that_can_be_made_will_do_and_a_file_in_its_place_not(tmp_path: Path) -> None:
    assert problems(of_folder(f"{tmp_path}/not/there")) == []
    (tmp_path / "file").touch()
    (problem,) = problems(of_folder(f"{tmp_path}/file/there"))
    assert f"{tmp_path}/file is no folder" in problem


# A whole run, with ports that tell what a node told once


def settings(identity: Identity | None = None, declared: Declared | None = None, **options: Any) -> Settings:
    """Of node1, which has no key."""
    return Settings(
        identity=identity or Identity("node1", "", "", ""),
        environments=Environments(**options),
        declared=declared or Declared(),
    )


@dataclass
class FakePacemaker:
    """Daemons that say what was recorded; `gone`: those that don't answer. hangs: pacemaker does, until this is set."""

    own: str = "node1"
    recorded: str = "fence-01-all-online-remote-online"
    gone: tuple[str, ...] = ()
    cmap_text: str = CMAP
    hangs: threading.Event | None = None

    def node_name(self) -> str:
        if self.hangs:
            assert self.hangs.wait(WITHIN_S)
        return self._told("pacemaker", self.own)

    def status(self) -> str:
        return self._told("pacemaker", (DATA / f"{self.recorded}.crm_mon.xml").read_text(encoding="utf-8"))

    def cib(self) -> str:
        return self._told("pacemaker", (DATA / f"{self.recorded}.cib.xml").read_text(encoding="utf-8"))

    def cmap(self) -> str:
        return self._told("corosync", self.cmap_text)

    def quorum(self) -> str:
        return self._told("corosync", "Quorum\nQuorate:          Yes\n")

    def controller_state(self, node: str) -> str:
        return self._told("pacemaker", "S_IDLE")

    def _told(self, daemon: str, text: str) -> str:
        if daemon in self.gone:
            raise Unavailable(f"{daemon} does not run on this node")
        return text


@dataclass
class FakeIpmi:
    """BMCs that say "on", but for those at the addresses in `silent`. They are slow until so many are asked at once."""

    silent: tuple[str, ...] = ()
    asked: list[str] = field(default_factory=list)
    until_at_once: int = 0
    now: int = 0
    most: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def read_all(self, bmcs: tuple[Bmc, ...], timeout_s: float) -> list[Reading]:
        self.asked += [bmc.address for bmc in bmcs]
        with self.changed:
            self.now += 1
            self.most = max(self.most, self.now)
            self.changed.notify_all()
            self.changed.wait_for(lambda: self.most >= self.until_at_once, 0.5)
            self.now -= 1
        return [
            Reading(bmc, "", 1.0, f"{bmc.name} does not answer")
            if bmc.address in self.silent
            else Reading(bmc, "on", 1.0)
            for bmc in bmcs
        ]

    def own_guid(self, timeout_s: float) -> str:
        return GUID


@dataclass
class FakeHeartbeat:
    line: Line = field(default_factory=lambda: Line(HEARD))
    listened: list[float] = field(default_factory=list)

    def listen(self, rings: object, timeout_s: float) -> Line:
        self.listened.append(timeout_s)
        return self.line


@dataclass
class Bench:
    """A node to be checked, what was found, and what was said of the progress."""

    folder: Path
    pacemaker: FakePacemaker = field(default_factory=FakePacemaker)
    ipmi: FakeIpmi = field(default_factory=FakeIpmi)
    heartbeat: FakeHeartbeat = field(default_factory=FakeHeartbeat)
    rows: list[Outcome] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    slow_s: float = WITHIN_S

    def say(self, line: str) -> None:
        self.said.append(line)
        if self.pacemaker.hangs:
            self.pacemaker.hangs.set()

    def run(self, declared: Declared | None = None, **options: Any) -> list[str]:
        """The problems."""
        options = {"alert_pipe": f"{self.folder}/alert", **options}
        world: Any = (self.pacemaker, self.ipmi, self.heartbeat, Clock(), self.say, "node1")
        nova_conf = (str(self.folder / "nova.conf"),)
        checks = Checks(settings(declared=declared, **options), World(*world, nova_conf=nova_conf))
        self.rows = list(checkup.run(checks.listed(), self.say, self.slow_s))
        return [checkup.problem(row) for row in self.rows if row.state == NOT_OK]

    def line(self, subject: str) -> str:
        (row,) = [row for row in self.rows if row.subject == subject]
        return f"{row.state}: {row.text}"

    def warnings(self) -> list[str]:
        return warnings(self.rows)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_node_that_is_well_is_told_row_by_row(bench: Bench) -> None:
    assert bench.run(tcpdump_timeout=5.0) == []
    assert bench.line("pacemaker") == "ok: node1 of 4 nodes, DC node1"
    assert bench.line("corosync") == "ok: 3 of 3 members, transport knet"
    assert bench.line("cluster_port") == "ok: testcluster (corosync's cluster_name)"
    assert bench.line("cluster") == "ok: stonith-enabled=true, no-quorum-policy=stop"
    assert bench.line("own BMC") == f"ok: GUID {GUID}"
    assert bench.line("heartbeat line") == "ok: other nodes are heard"
    assert bench.heartbeat.listened == [5.0]


def test_the_heartbeat_line_is_left_alone_where_the_monitor_does_so(bench: Bench) -> None:
    assert bench.run(tcpdump_timeout=0.0) == []
    assert bench.heartbeat.listened == []


def test_every_bmc_but_the_own_one_is_read_and_one_that_is_silent_is_a_problem(bench: Bench) -> None:
    bench.ipmi.silent = ("10.77.0.153",)
    (problem,) = bench.run(max_child_process=1)
    assert problem.startswith("BMC of node3: ") and "BMC 10.77.0.153 does not answer" in problem
    assert bench.ipmi.asked == ["10.77.0.152", "10.77.0.153", "10.77.0.201"]
    assert bench.line("BMC of node2").startswith("ok: BMC 10.77.0.152: power on")
    assert "BMCs: asking those of 3 nodes, up to 5 s each" in bench.said
    assert CIB_PASSWORD in bench.pacemaker.cib()
    assert "secret" not in f"{bench.rows} {bench.said}"


def test_where_remotes_alone_are_reported_no_other_bmc_is_needed(bench: Bench) -> None:
    assert bench.run(restrict_to_remotes=True) == []
    assert bench.ipmi.asked == ["10.77.0.201"]


def test_no_more_bmcs_are_asked_at_the_same_time_than_the_settings_allow(bench: Bench) -> None:
    bench.ipmi.until_at_once = 3
    bench.run(max_child_process=2)
    assert bench.ipmi.most == 2
    bench.run(max_child_process=3)
    assert bench.ipmi.most == 3


def test_nodes_without_a_bmc_and_dangers_are_warnings(bench: Bench) -> None:
    bench.pacemaker.recorded = "nofence-01-all-online"
    assert bench.run(declared=Declared({"node2": (BMC,)})) == []
    told = "\n".join(bench.warnings())
    assert "stonith-enabled=false: pacemaker fences nobody" in told
    assert "no BMC is declared for node3: only a fencing" in told
    assert bench.line("cluster").startswith("WARNING: stonith-enabled=false, no-quorum-policy=")
    assert bench.ipmi.asked == ["192.0.2.52"]


def test_a_bmc_that_is_declared_and_can_not_be_asked_is_a_problem(bench: Bench) -> None:
    bench.pacemaker.recorded = "nofence-01-all-online"
    why = "stonith resource fence-node3 (fence_ipmilan): its password is masked"
    assert bench.run(declared=Declared({"node2": (BMC,)}, {"node3": (why,)})) == [f"BMCs: node3: {why}"]
    assert ok("BMCs", "1 of 2 other nodes with a BMC that can be asked") in bench.rows
    assert not any("no BMC is declared" in text for text in bench.warnings())


@pytest.mark.parametrize("option", [{"disable_ipmi_check": True}, {"stonith_type": "ssh"}])
def test_no_bmc_is_asked_where_none_would_be_and_that_is_a_warning(bench: Bench, option: dict[str, Any]) -> None:
    assert bench.run(**option) == []
    assert bench.ipmi.asked == []
    assert bench.line("BMCs") == f"WARNING: not asked; {BLIND}"


def test_an_alert_that_is_not_registered_is_a_warning_with_the_command(bench: Bench) -> None:
    assert bench.run(monitor_interval=10.0) == []
    (told,) = [text for text in bench.warnings() if "--register-alert" in text]
    assert "up to 10 s late" in told and alerts.AGENT in told


def test_a_node_of_pacemaker_remote_has_no_corosync_and_no_alerts(bench: Bench) -> None:
    bench.pacemaker.own, bench.pacemaker.gone = "remote1", ("corosync",)
    assert bench.run(cluster_port="testcluster", tcpdump_timeout=5.0) == []
    assert not any(row.subject == "corosync" for row in bench.rows)
    assert bench.line("alert").startswith("ok: polling alone; no alert reaches a node of pacemaker-remote")
    assert bench.heartbeat.listened == []
    (problem,) = bench.run()
    assert problem.startswith("cluster_port: ")


def test_pacemaker_that_is_down_is_a_problem_and_the_rest_is_checked(bench: Bench) -> None:
    bench.pacemaker.gone = ("pacemaker",)
    (problem,) = bench.run(tcpdump_timeout=5.0)
    assert problem.startswith("pacemaker: pacemaker can't be asked") and "does not run on this node" in problem
    assert bench.line("corosync").startswith("ok: ")
    assert bench.line("cluster, alert, BMCs") == "skipped: not checked without pacemaker"
    assert bench.heartbeat.listened == [5.0]


def test_corosync_that_is_down_is_a_problem_and_the_bmcs_are_read(bench: Bench) -> None:
    bench.pacemaker.gone = ("corosync",)
    first, second = bench.run(tcpdump_timeout=5.0)
    assert first.startswith("corosync: corosync can't be asked") and second.startswith("cluster_port: ")
    assert bench.ipmi.asked
    assert any("nothing would be reported at the moment" in text for text in bench.warnings())


def test_a_view_that_is_worth_nothing_is_a_warning(bench: Bench) -> None:
    bench.pacemaker.recorded = "fence-09-partitioned-minority-side"
    bench.pacemaker.own = "node3"
    bench.run()
    assert any("nothing would be reported at the moment: there is no quorum" in text for text in bench.warnings())


def test_a_daemon_that_hangs_is_named_while_it_hangs(bench: Bench) -> None:
    bench.pacemaker.hangs, bench.slow_s = threading.Event(), 0.01
    assert bench.run() == []
    assert bench.said[0] == "pacemaker: asked, no answer yet"
    assert bench.line("pacemaker") == "ok: node1 of 4 nodes, DC node1"
