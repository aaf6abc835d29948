"""--show-cluster: what a person and a program are shown of a cluster, and of one whose daemons are down."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from hostmonitor import alerts
from hostmonitor.cluster import Segment
from hostmonitor.config import Environments, Settings
from hostmonitor.corosync import Corosync
from hostmonitor.crm_xml import parse
from hostmonitor.model import GUEST, Node, View
from hostmonitor.power import Bmc
from hostmonitor.show import Facts, Shown, as_text, ask, describe
from hostmonitor.stonith import Declared, from_cib
from masakari.common.clock import Clock
from masakari.common.errors import Unavailable
from masakari.common.monitor_config import Identity

DATA = Path(__file__).resolve().parents[1] / "data" / "crm_mon"
PASSWORD = "not-a-secret"
CONF = """totem {
 version: 2
 cluster_name: testcluster
 transport: knet
}
nodelist {
 node {
  name: node1
 }
 node {
  name: node2
 }
}
"""
CMAP = "nodelist.local_node_pos (u32) = 0\nnodelist.node.0.name (str) = node1\ntotem.cluster_name (str) = testcluster\n"


def recorded(name: str) -> tuple[View, str]:
    """A view of node1, and the CIB to it."""
    view = parse((DATA / f"{name}.crm_mon.xml").read_text(encoding="utf-8"), "node1")
    return view, (DATA / f"{name}.cib.xml").read_text(encoding="utf-8")


def settings(hostname: str = "node1", port: str = "", declared: Declared | None = None, **options: Any) -> Settings:
    return Settings(
        identity=Identity(hostname, port, "k" if port else "", "s3cret" if port else ""),
        environments=Environments(**options),
        declared=declared or Declared(),
    )


def facts(name: str = "fence-01-all-online-remote-online") -> Facts:
    view, cib = recorded(name)
    corosync = Corosync(
        cluster_name="testcluster", transport="knet", members=("node1", "node2", "node3"), own_name="node1"
    )
    return Facts("node1", view, corosync, Segment("testcluster", "corosync's cluster_name"), from_cib(cib), alert="")


def rows(shown: Shown) -> dict[str, list[str]]:
    """The lines of the table by node, cut at its columns."""
    lines = as_text(shown).splitlines()
    (head,) = [line for line in lines if line.startswith("NODE")]
    starts = [head.index(word) for word in ("NODE", "KIND", "STATE", "NOVA HOST", "BMC")]
    body = lines[lines.index(head) + 1 :][: len(shown.nodes)]
    cut = [[line[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)] for line in body]
    return {row[0]: row[1:] for row in cut}


def test_the_command_that_adds_a_spare_can_be_copied() -> None:
    lines = as_text(describe(settings(), facts())).splitlines()
    assert lines[0] == "cluster_port: testcluster (corosync's cluster_name)"
    assert lines[1] == 'add a spare:  reserve_host_manage.py --mode add --port "testcluster" --host <host>'


def test_a_name_that_a_shell_would_change_is_quoted_for_it() -> None:
    odd = replace(facts(), segment=Segment('a$b"', "cluster_port in hostmonitor.conf"))
    assert "--port 'a$b\"' --host" in describe(settings(), odd).command


def test_every_node_stands_in_the_table_with_where_its_bmc_is_declared() -> None:
    found = rows(describe(settings(nova_hosts=("node2=compute2", "remote1=compute9")), facts()))
    assert found == {
        "node1": ["member", "online", "node1", "10.77.0.151 (stonith resource fence-node1)"],
        "node2": ["member", "online", "compute2", "10.77.0.152 (stonith resource fence-node2)"],
        "node3": ["member", "online", "node3", "10.77.0.153 (stonith resource fence-node3)"],
        "remote1": ["remote", "remote online", "compute9", "10.77.0.201 (stonith resource fence-remote1)"],
    }


def test_this_node_goes_by_the_name_under_which_it_reports_itself() -> None:
    shown = describe(settings("compute1"), facts())
    assert rows(shown)["node1"][2] == "compute1"
    assert "this node:    node1 to pacemaker, compute1 to Nova" in as_text(shown)


def test_bmcs_that_are_missing_or_can_not_be_asked_are_told() -> None:
    bmc = Bmc("192.0.2.52", "admin", PASSWORD, 6230, source="/etc/hostmonitor/bmc.conf [node2]")
    declared = Declared({"node2": (bmc,)}, {"node3": ("its password is masked",)}, ("stonith resource x: no host",))
    shown = describe(settings(), replace(facts(), declared=declared))
    found = rows(shown)
    assert found["node1"][3] == "none"
    assert found["node2"][3] == "192.0.2.52 port 6230 (/etc/hostmonitor/bmc.conf [node2])"
    assert found["node3"][3] == "unusable: its password is masked"
    assert "can't be told: BMCs: stonith resource x: no host" in as_text(shown)
    assert PASSWORD not in as_text(shown) + json.dumps(asdict(shown))


def test_a_guest_is_no_host() -> None:
    known = facts()
    assert known.view
    view = replace(known.view, nodes=(*known.view.nodes, Node("bundle-0", GUEST, online=True)))
    assert rows(describe(settings(), replace(known, view=view)))["bundle-0"] == ["guest", "guest", "-", "-"]


def test_dangers_and_a_missing_alert_are_told_with_what_to_do() -> None:
    told = as_text(describe(settings(), replace(facts("nofence-01-all-online"), alert="no alert runs; run: this")))
    assert "stonith-enabled=false, no-quorum-policy=" in told
    assert "warning: stonith-enabled=false: pacemaker fences nobody" in told
    assert "alert:        no alert runs; run: this" in told


def test_a_program_is_told_the_same() -> None:
    shown = json.loads(json.dumps(asdict(describe(settings(), facts()))))
    assert {
        name: shown[name] for name in ("cluster_port", "quorum", "dc", "own_node", "stonith_enabled", "alert_works")
    } == {
        "cluster_port": "testcluster",
        "quorum": True,
        "dc": "node1",
        "own_node": "node1",
        "stonith_enabled": True,
        "alert_works": True,
    }
    assert shown["nodes"][1] == {
        "name": "node2",
        "kind": "member",
        "state": "online",
        "nova_host": "node2",
        "bmcs": [{"address": "10.77.0.152", "port": 623, "source": "stonith resource fence-node2"}],
        "unusable": [],
    }


@pytest.mark.parametrize("path", sorted(DATA.glob("*.crm_mon.xml")), ids=lambda path: path.name)
def test_every_recorded_state_can_be_shown(path: Path) -> None:
    shown = describe(settings(), facts(path.name.removesuffix(".crm_mon.xml")))
    assert list(rows(shown)) == [node.name for node in shown.nodes]


# What is asked, and what is left while daemons are down


@dataclass
class FakePacemaker:
    """Daemons that say what was recorded; `gone`: those that don't answer."""

    own: str = "node1"
    recorded: str = "fence-01-all-online-remote-online"
    gone: tuple[str, ...] = ()

    def node_name(self) -> str:
        return self._told("pacemaker", self.own)

    def status(self) -> str:
        return self._told("pacemaker", (DATA / f"{self.recorded}.crm_mon.xml").read_text(encoding="utf-8"))

    def cib(self) -> str:
        return self._told("pacemaker", (DATA / f"{self.recorded}.cib.xml").read_text(encoding="utf-8"))

    def cmap(self) -> str:
        return self._told("corosync", CMAP)

    def _told(self, daemon: str, text: str) -> str:
        if daemon in self.gone:
            raise Unavailable(f"{daemon} does not run on this node")
        return text


def asked(pacemaker: FakePacemaker, **options: Any) -> Shown:
    """What a node with these daemons shows."""
    given = settings(**options)
    return describe(given, ask(given, pacemaker, Clock()))  # type: ignore[arg-type]


def test_a_cluster_that_is_well_leaves_nothing_untold() -> None:
    shown = asked(FakePacemaker())
    assert (shown.cluster_port, shown.source, shown.unknown) == ("testcluster", "corosync's cluster_name", ())
    assert (
        shown.alert_works is False and alerts.AGENT in shown.alert_problem and "--register-alert" in shown.alert_problem
    )


def test_without_pacemaker_the_members_are_those_of_corosync() -> None:
    bmc = Bmc("192.0.2.51", source="bmc.conf [node1]")
    shown = asked(FakePacemaker(gone=("pacemaker",)), declared=Declared({"node1": (bmc,)}))
    assert rows(shown) == {"node1": ["member", "unknown", "node1", "192.0.2.51 (bmc.conf [node1])"]}
    assert shown.cluster_port == "testcluster"
    assert (shown.quorum, shown.stonith_enabled, shown.alert_works) == (None, None, None)
    assert shown.unknown == ("pacemaker: pacemaker does not run on this node",)


def test_without_corosync_its_file_names_the_cluster_and_its_members(tmp_path: Path) -> None:
    conf = tmp_path / "corosync.conf"
    conf.write_text(CONF, encoding="utf-8")
    shown = asked(FakePacemaker(gone=("pacemaker", "corosync")), ha_conf=str(conf))
    assert shown.source == f"corosync's cluster_name, as {conf} has it"
    assert {name: row[3] for name, row in rows(shown).items()} == {"node1": "unknown", "node2": "unknown"}
    assert [why.partition(":")[0] for why in shown.unknown] == ["pacemaker", "corosync"]


def test_where_nothing_can_be_asked_it_says_so_and_what_is_configured(tmp_path: Path) -> None:
    down = FakePacemaker(gone=("pacemaker", "corosync"))
    shown = asked(down, ha_conf=f"{tmp_path}/none")
    assert (shown.cluster_port, shown.command, shown.nodes) == ("", "", ())
    assert [why.partition(":")[0] for why in shown.unknown] == ["pacemaker", "corosync", "cluster_port"]
    assert shown.unknown[1] == "corosync: corosync does not run on this node"
    assert as_text(shown).startswith("cluster_port: unknown\n")
    assert asked(down, ha_conf=f"{tmp_path}/none", port="rack1").source == "the key of this host"


def test_a_node_of_pacemaker_remote_is_not_blamed_for_having_no_corosync() -> None:
    shown = asked(FakePacemaker(own="remote1", gone=("corosync",)), cluster_port="testcluster")
    assert shown.unknown == ()
    assert "a node of pacemaker-remote: no alert reaches it" in as_text(shown)
