"""masakari-doctor on a node of a real cluster that is set up as a guide says: stonith off, quorum ignored, no IPMI check."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.bmc import PASSWORD, USER
from tests.lab.cluster import PrivateCluster
from tests.lab.doctor import SCRIPT, Findings
from tests.lab.hostmonitor import HostMonitorProcess
from tests.lab.processes import ROOT

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_cluster, pytest.mark.needs_ipmi]

AWAY = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def cluster() -> Iterator[PrivateCluster]:
    """Three nodes with BMCs, and a pacemaker that fences nobody."""
    with PrivateCluster(3, fencing="off", stonith_enabled=False, no_quorum_policy="ignore") as made:
        yield made


def examine(etc: Path, cluster: PrivateCluster) -> dict[str, str]:
    """What the doctor says on node1 of each subject of the hostmonitor: state, text and advice."""
    command = [*cluster.prefix("node1"), sys.executable, str(SCRIPT), "--config-dir", str(etc), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    rows = [row for row in json.loads(done.stdout)["checks"] if row["part"] == "hostmonitor"]
    return {row["subject"]: f"{row['state']}: {Findings.line(row)}" for row in rows}


def test_the_traps_of_a_guide_are_named(cluster: PrivateCluster, tmp_path: Path) -> None:
    HostMonitorProcess(tmp_path / "hostmonitor", AWAY, "node1", cluster, disable_ipmi_check="yes")
    found = examine(tmp_path, cluster)
    assert found["pacemaker"].startswith("ok: ")
    assert found["cluster"].startswith("WARNING: ")
    assert "stonith-enabled=false: pacemaker fences nobody" in found["cluster"]
    assert "no-quorum-policy=ignore" in found["cluster"]
    assert "without evidence, as no BMC is asked" in found["BMCs"]
    assert "DISABLE_IPMI_CHECK" in found["settings"].upper()


def test_the_login_to_the_bmc_of_each_peer(cluster: PrivateCluster, tmp_path: Path) -> None:
    monitor = HostMonitorProcess(tmp_path / "hostmonitor", AWAY, "node1", cluster)
    bmc = "[{name}]\naddress = 10.77.0.15{number}\nuser = {user}\npassword = {password}\ncipher = 3\n"
    right = bmc.format(name="node2", number=2, user=USER, password=PASSWORD)
    monitor.write_bmcs(right + bmc.format(name="node3", number=3, user=USER, password="mistaken-one"))
    found = examine(tmp_path, cluster)
    assert found["BMC of node2"].startswith("ok: ") and "power on" in found["BMC of node2"]
    assert found["BMC of node3"].startswith("NOT OK: ") and "refuses the password" in found["BMC of node3"]
    assert "mistaken-one" not in str(found)
