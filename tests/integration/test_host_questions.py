"""--show-cluster and --check-config --online on the nodes of a real cluster with BMCs, as an operator runs them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from masakari.common import checkup
from masakari.common.checkup import Outcome, ok
from tests.lab.bmc import PASSWORD, USER, PrivateBmc
from tests.lab.cluster import PrivateCluster
from tests.lab.processes import ROOT

pytestmark = [pytest.mark.needs_cluster, pytest.mark.needs_ipmi]

WITHIN_S = 60.0
PROGRAM = "masakari-hostmonitor: "


@pytest.fixture(scope="module")
def started() -> Iterator[PrivateCluster]:
    with PrivateCluster(fencing="off", remotes=1) as cluster:
        yield cluster


@pytest.fixture
def cluster(started: PrivateCluster) -> PrivateCluster:
    """One whose nodes are all online, whatever the test before did to them."""
    started.repair()
    return started


class Operator:
    """Somebody at a shell of the nodes, with a hostmonitor.conf."""

    def __init__(self, cluster: PrivateCluster, folder: Path) -> None:
        self._cluster = cluster
        self.folder = folder
        self.bmcs = folder / "bmc.conf"

    def runs(self, node: str, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """masakari-hostmonitor on a node; options: of its settings."""
        settings = {
            "url": "http://127.0.0.1:1",
            "hostname": node,
            "state_dir": self.folder / "state",
            "ipmi_timeout": 5,
        }
        settings |= {"alert_pipe": self.folder / "alert", **({"bmc_file": self.bmcs} if self.bmcs.exists() else {})}
        conf = self.folder / "hostmonitor.conf"
        lines = [f"{name} = {value}" for name, value in {**settings, **options}.items()]
        conf.write_text("\n".join(["[environments]", *lines, ""]), encoding="utf-8")
        return subprocess.run(
            [*self._cluster.prefix(node), sys.executable, "-m", "hostmonitor", "--config", str(conf), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            cwd=ROOT,
            timeout=WITHIN_S,
        )

    def sees(self, node: str, **options: Any) -> dict[str, Any]:
        """What a node shows to a program."""
        shown = self.runs(node, "--show-cluster", "--json", **options)
        assert (shown.returncode, shown.stderr) == (0, "")
        found: dict[str, Any] = json.loads(shown.stdout)
        return found

    def checks(self, node: str, **options: Any) -> tuple[list[Outcome], list[str]]:
        """The rows of a check, and its problems."""
        done = self.runs(node, "--check-config", "--online", "--json", **options)
        assert PASSWORD not in done.stdout + done.stderr
        rows = [checkup.from_json(line) for line in done.stdout.splitlines() if line.startswith("{")]
        problems = [line.removeprefix(PROGRAM) for line in done.stderr.splitlines() if line.startswith(PROGRAM)]
        assert problems == [checkup.problem(row) for row in rows if row.state == checkup.NOT_OK], done.stderr
        assert done.returncode == (1 if problems else 0), done.stderr
        assert done.stdout.endswith("hostmonitor.conf: ok\n") == (not problems), done.stdout
        return rows, problems

    def declares(self, host: str, bmc: PrivateBmc, password: str = PASSWORD, guid: str = "") -> None:
        """Put a BMC into bmc.conf."""
        with self.bmcs.open("a", encoding="utf-8") as file:
            file.write(f"[{host}]\naddress = {bmc.address}\nuser = {USER}\npassword = {password}\nguid = {guid}\n")
        self.bmcs.chmod(0o600)


@pytest.fixture
def operator(cluster: PrivateCluster, tmp_path: Path) -> Operator:
    return Operator(cluster, tmp_path)


def test_every_member_shows_the_same_cluster(cluster: PrivateCluster, operator: Operator) -> None:
    for node in cluster.names:
        shown = operator.sees(node)
        assert (shown["own_node"], shown["cluster_port"], shown["unknown"]) == (node, cluster.cluster_port, [])
        assert (shown["quorum"], shown["stonith_enabled"], shown["dangers"]) == (True, True, [])
        assert {it["name"]: (it["kind"], it["state"]) for it in shown["nodes"]} == {
            **dict.fromkeys(cluster.names, ("member", "online")),
            "remote1": ("remote", "remote online"),
        }
        for it in shown["nodes"]:
            source = f"stonith resource fence-{it['name']}"
            assert it["bmcs"] == [{"address": cluster.bmc(it["name"]).address, "port": 623, "source": source}]
    told = operator.runs("node1", "--show-cluster").stdout
    assert f'reserve_host_manage.py --mode add --port "{cluster.cluster_port}" --host <host>' in told
    assert PASSWORD not in told


def test_a_node_of_pacemaker_remote_shows_it_too(cluster: PrivateCluster, operator: Operator) -> None:
    shown = operator.sees("remote1", cluster_port=cluster.cluster_port)
    assert (shown["own_node"], shown["cluster_port"]) == ("remote1", cluster.cluster_port)
    assert (shown["quorum"], len(shown["nodes"]), shown["unknown"]) == (True, 4, [])
    rows, problems = operator.checks("remote1", cluster_port=cluster.cluster_port, tcpdump_timeout=5)
    assert problems == []
    found = {row.subject: (row.state, row.text) for row in rows}
    assert found["alert"][0] == "ok" and found["alert"][1].startswith("polling alone; ")
    assert [found[f"BMC of {node}"][0] for node in cluster.names] == ["ok"] * 3


def test_a_cluster_that_is_well_passes_with_every_bmc_read(cluster: PrivateCluster, operator: Operator) -> None:
    rows, problems = operator.checks("node1", tcpdump_timeout=20)
    assert problems == []
    for node in ("node2", "node3", "remote1"):
        bmc = cluster.bmc(node)
        assert ok(f"BMC of {node}", f"BMC {bmc.address}: power on, GUID {bmc.guid}") in rows
    assert ok("corosync", "3 of 3 members, transport udp") in rows
    assert ok("heartbeat line", "other nodes are heard") in rows


def test_a_person_gets_a_table_and_is_told_what_is_waited_for(operator: Operator) -> None:
    done = operator.runs("node1", "--check-config", "--online", tcpdump_timeout=20)
    assert re.search(r"^ok       corosync +3 of 3 members, transport udp$", done.stdout, re.MULTILINE), done.stdout
    assert "BMCs: asking those of 3 nodes, up to 5 s each\n" in done.stderr
    assert "heartbeat line: listening for up to 20 s\n" in done.stderr


def test_bmcs_that_would_prove_nothing_fail_the_check(cluster: PrivateCluster, operator: Operator) -> None:
    operator.declares("node2", cluster.bmc("node2"), password="wrong-one")
    operator.declares("node3", cluster.bmc("node3"), guid=cluster.bmc("node2").guid)
    with cluster.bmc("remote1").silent():
        _, problems = operator.checks("node1")
    refused, wrong, silent = problems
    assert (
        refused.startswith("BMC of node2: ")
        and f"refuses the password of user {USER!r}; see {operator.bmcs}" in refused
    )
    assert wrong.startswith("BMC of node3: ") and "wrong BMC" in wrong
    assert silent.startswith("BMC of remote1: ") and "does not answer within" in silent


def test_names_that_mean_another_host_fail_the_check(operator: Operator) -> None:
    _, problems = operator.checks("node1", hostname="compute1", nova_hosts="node1=compute7,Node2=compute2")
    mapped, unknown = problems
    assert mapped.startswith("names: nova_hosts says node1=compute7, but that is this very host")
    assert "nova_hosts names Node2" in unknown and "is node2 meant" in unknown


def test_a_node_whose_daemons_are_down_tells_what_it_can(cluster: PrivateCluster, operator: Operator) -> None:
    cluster.stop_services("node2", corosync=False)
    shown = operator.sees("node2")
    assert (shown["cluster_port"], shown["quorum"]) == (cluster.cluster_port, None)
    assert [it["name"] for it in shown["nodes"]] == cluster.names
    cluster.stop_services("node2")
    shown = operator.sees("node2")
    assert (shown["cluster_port"], len(shown["unknown"])) == (cluster.cluster_port, 2)
    assert shown["source"].endswith("as /etc/corosync/corosync.conf has it")
    _, problems = operator.checks("node2", tcpdump_timeout=5)
    assert [problem.split(" ")[0] for problem in problems] == ["pacemaker:", "corosync:", "cluster_port:"]
