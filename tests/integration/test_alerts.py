"""Pacemaker's alerts on a real cluster: registered once, and heard on every node that is left."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from xml.etree import ElementTree

import pytest

from hostmonitor.alerts import AGENT, AlertPipe, register, registration_problem
from masakari.common.clock import Clock
from masakari.common.errors import ConfigError, Unavailable
from tests.lab.cluster import PrivateCluster
from tests.lab.mariadb import until

pytestmark = [pytest.mark.needs_cluster, pytest.mark.needs_ipmi]

PIPE = "/run/masakari/hostmonitor.alert"
HEARD_WITHIN_S = 30.0  # 3.3 and 4.4 on a machine with nothing else to do
REGISTERED = "on every member from now on"
CIB = """<cib validate-with="{schema}" epoch="1" num_updates="0" admin_epoch="0">
<configuration><crm_config/><nodes/><resources/><constraints/></configuration><status/></cib>"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[PrivateCluster]:
    with PrivateCluster(fencing="off") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def agent() -> Iterator[str]:
    """The agent where pacemaker's user may run it, wherever this tree lies."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield str(shutil.copy(AGENT, folder))


@contextmanager
def listening(cluster: PrivateCluster, name: str) -> Iterator[list[str]]:
    """What the pipe of a node tells, as it comes."""
    told: list[str] = []
    root = f"/proc/{cluster.pids(name, 'pacemakerd')[0]}/root"
    pipe, stopping = AlertPipe(root + PIPE, told.append), threading.Event()
    thread = threading.Thread(target=pipe.run, args=(stopping,))
    thread.start()
    try:
        until(lambda: Path(root + PIPE).is_fifo(), HEARD_WITHIN_S, lambda: pipe.problem)
        yield told
    finally:
        stopping.set()
        pipe.stop()
        thread.join()


def test_it_is_registered_once_and_put_right(cluster: PrivateCluster, agent: str) -> None:
    def cib() -> str:
        return cluster.run("node3", "cibadmin", "--query").stdout

    assert "no alert runs" in registration_problem(cib(), agent, PIPE)
    for pipe in ("/run/other", PIPE):
        assert REGISTERED in register(pipe, Clock(), agent=agent, prefix=cluster.prefix("node1"))
        assert registration_problem(cib(), agent, pipe) == ""
    before = cib()
    assert "already" in register(PIPE, Clock(), agent=agent, prefix=cluster.prefix("node2"))
    assert cib() == before
    assert [len(list(ElementTree.fromstring(before).iter(tag))) for tag in ("alert", "recipient")] == [1, 1]


def test_the_nodes_that_are_left_hear_of_a_crash_and_of_the_fencing(cluster: PrivateCluster, agent: str) -> None:
    register(PIPE, Clock(), agent=agent, prefix=cluster.prefix("node1"))
    with ExitStack() as stack:
        told = {name: stack.enter_context(listening(cluster, name)) for name in ("node1", "node2")}
        cluster.crash("node3")
        for wanted in ("node node3 lost", "fencing node3 Operation off of node3 by "):
            until(
                lambda wanted=wanted: all(any(wanted in text for text in texts) for texts in told.values()),  # type: ignore[misc]
                HEARD_WITHIN_S,
                lambda wanted=wanted: f"{wanted!r} is not in {told}",  # type: ignore[misc]
            )
    assert cluster.bmc("node3").power == "off"
    cluster.repair()


def test_it_is_not_registered_where_pacemaker_could_not_run_it(cluster: PrivateCluster, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't run the alert agent"):
        register(PIPE, Clock(), agent=str(tmp_path / "none"), prefix=cluster.prefix("node1"))


@pytest.mark.parametrize("schema", ["pacemaker-2.10", "pacemaker-3.0"])
def test_a_configuration_that_never_had_an_alert_takes_it(agent: str, tmp_path: Path, schema: str) -> None:
    file = tmp_path / "cib.xml"
    file.write_text(CIB.format(schema=schema))
    assert REGISTERED in register(PIPE, Clock(), agent=agent, prefix=("env", f"CIB_file={file}"))
    assert "already" in register(PIPE, Clock(), agent=agent, prefix=("env", f"CIB_file={file}"))


def test_a_configuration_of_an_old_schema_is_told_with_the_way_out(agent: str, tmp_path: Path) -> None:
    file = tmp_path / "cib.xml"
    file.write_text(CIB.format(schema="pacemaker-2.0"))
    with pytest.raises(Unavailable, match="cibadmin --upgrade --force"):
        register(PIPE, Clock(), agent=agent, prefix=("env", f"CIB_file={file}"))
    assert "alert" not in file.read_text()
