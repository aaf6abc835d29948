"""A node on which everything of Masakari but a cluster is set up, and masakari-doctor to look at it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from masakari.common.clock import Clock
from masakari.common.report import Origin, host_up_report, new_id
from masakari.config import Db
from tests.lab.mariadb import until
from tests.lab.monitors import MonitorProcess
from tests.lab.processes import CLUSTER, ROOT, ControllerProcess, Monitor
from tests.lab.processmonitor import ProcessMonitorProcess
from tests.simcloud.cloud import SimulatedCloud

HOSTS = ("compute1", "compute2", "compute3")
FAILED, OBSERVER, SPARE = HOSTS
SCRIPT = ROOT / "utils" / "masakari_doctor.py"
READY_WITHIN_S = 20


class InstanceMonitorOnTestDriver(MonitorProcess):
    """The settings of an instancemonitor on libvirt's own simulated driver, which needs no libvirtd."""

    module = "instancemonitor"

    def __init__(self, folder: Path, url: str, host: str, **options: Any) -> None:
        settings = {
            "callback__url": url,
            "callback__state_dir": folder / "state",
            "callback__key_file": folder / "key.conf",
            "libvirt__connection_uri": "test:///default",
            "libvirt__log_dir": folder,
            "libvirt__all_domains": "yes",
        }
        super().__init__(folder, host, settings, **options)


@dataclass(frozen=True)
class Findings:
    """What masakari-doctor found."""

    status: int
    rows: tuple[dict[str, str], ...]

    def states(self) -> dict[str, int]:
        """How many rows are in each state."""
        found = [row["state"] for row in self.rows]
        return {state: found.count(state) for state in found}

    def wrong(self) -> list[str]:
        """Every row that is NOT OK, on one line each."""
        return [self.line(row) for row in self.rows if row["state"] == "NOT OK"]

    @staticmethod
    def line(row: dict[str, str]) -> str:
        """A row as text."""
        return f"{row['part']}: {row['subject']}: {row['text']} -> {row['advice']}"


class Node:
    """A controller and two monitors set up below `etc`. The monitors don't run: the doctor needs their settings alone."""

    def __init__(self, etc: Path, db: Db, cloud: SimulatedCloud, auth_url: str) -> None:
        self.etc = etc
        self.cloud = cloud
        self.controller = ControllerProcess(etc / "masakari", db, auth_url)
        folder = etc / "processmonitor"
        lines = [f"1, {sys.executable}, /bin/true, /bin/true, , , , "]
        self.processmonitor = ProcessMonitorProcess(folder, self.controller.url, OBSERVER, lines)
        self.instancemonitor = InstanceMonitorOnTestDriver(etc / "instancemonitor", self.controller.url, OBSERVER)

    def examine(self, **environ: str) -> Findings:
        """Run the doctor."""
        return examine(self.etc, **environ)

    @contextmanager
    def settings(self, **changes: str | float) -> Iterator[None]:
        """Other settings of the controller for as long, while that runs on with its own."""
        known, text = dict(self.controller._settings), self.controller.config.read_text()
        self.controller.write_config(**changes)
        try:
            yield
        finally:
            self.controller._settings = known
            self.controller.config.write_text(text)

    def declare(self, host: str) -> None:
        """The hostmonitor of that host says that the host is up, as at its start."""
        body = host_up_report(
            Origin(host, "RegionOne", CLUSTER, f"boot of {host}"), new_id(), host, host, time.time(), "up"
        )
        assert Monitor(host).post(self.controller.url, body).status_code == 200


def examine(etc: Path, **environ: str) -> Findings:
    """What the doctor says of the node whose settings are there."""
    command = [sys.executable, str(SCRIPT), "--config-dir", str(etc), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **environ})
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    return Findings(done.returncode, tuple(json.loads(done.stdout)["checks"]))


@contextmanager
def changed(path: Path, pattern: str, replacement: str) -> Iterator[None]:
    """A file with what matches replaced for as long. AssertionError if nothing does."""
    text = path.read_text()
    other, many = re.subn(pattern, replacement, text)
    assert many, f"{path} has no {pattern}"
    path.write_text(other)
    try:
        yield
    finally:
        path.write_text(text)


@contextmanager
def set_up(etc: Path, db: Db) -> Iterator[Node]:
    """A node whose controller works on a cloud of three hosts, all of them known, with an instance and a spare."""
    with ExitStack() as stack:
        cloud = SimulatedCloud(Clock(), HOSTS)
        server = stack.enter_context(cloud.serve())
        cloud.boot(FAILED)
        node = Node(etc, db, cloud, server.auth_url)
        controller = stack.enter_context(node.controller)
        for host in HOSTS:
            node.declare(host)
        script = [sys.executable, str(ROOT / "utils" / "reserve_host_manage.py"), "--config", str(controller.config)]
        subprocess.run([*script, "--mode", "add", "--port", CLUSTER, "--host", SPARE], check=True, capture_output=True)
        until(
            lambda: controller.health()[1]["checked"]["nova"] == "ok",
            READY_WITHIN_S,
            lambda: f"no sign-in to the cloud:\n{controller.said()[-3000:]}",
        )
        yield node
