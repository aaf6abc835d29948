"""A private cluster with all that belongs to it: a hostmonitor on each node, a controller, and a cloud whose hosts are the nodes.

The cloud follows the nodes: a host of it dies, and its guests with it, when its node does, and boots with it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from masakari.config import Db
from tests.lab.cluster import PrivateCluster
from tests.lab.hostmonitor import HostMonitorProcess
from tests.lab.mariadb import until
from tests.lab.monitors import Stored
from tests.lab.processes import ROOT, CloudProcess, ControllerProcess

SPARES = ("spare1", "spare2")
LOOK_EVERY_S = 0.02
WITHIN_S = 60.0
OPEN = ("new", "running", "held")


class HostRecords(Stored):
    """What the controller has stored about hosts."""

    def of_host(self, host: str) -> list[dict[str, Any]]:
        """The reports about a host, oldest first; evidence and the like are in `fields`."""
        rows = self._all("SELECT * FROM notification_list WHERE notification_hostname = ? ORDER BY id", host)
        return [{**row, "fields": json.loads(row["body"])} for row in rows if row["notification_type"] == "rscGroup"]

    def failures_of(self, host: str) -> list[dict[str, Any]]:
        """The reports that this host failed."""
        return [row for row in self.of_host(host) if row["notification_eventType"] == "2"]

    def recoveries_of(self, host: str) -> list[dict[str, Any]]:
        """The recoveries of a host, oldest first."""
        return self._all("SELECT * FROM recovery WHERE kind = 'host' AND hostname = ? ORDER BY id", host)

    def all_recoveries(self) -> list[dict[str, Any]]:
        """Every recovery of a host."""
        return self._all("SELECT * FROM recovery WHERE kind = 'host' ORDER BY id")

    def journal(self, host: str) -> list[dict[str, Any]]:
        """What happened in the recoveries of a host, oldest first."""
        return self._all(
            "SELECT e.* FROM recovery_event e JOIN recovery r ON r.id = e.recovery_id WHERE r.hostname = ? ORDER BY e.id",
            host,
        )


class ClusterStage:
    """cluster must be up. The nodes in `monitored` have a hostmonitor; `options` are those of hostmonitor.conf."""

    def __init__(
        self,
        folder: Path,
        cluster: PrivateCluster,
        monitored: Iterable[str] = (),
        guests: int = 3,
        controller: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.cluster = cluster
        self.folder = folder
        self.nodes = [*cluster.names, *cluster.remotes]
        names = ",".join([*self.nodes, *SPARES])
        self.cloud_process = CloudProcess(folder, outside=cluster.outside, hosts=names, evacuate_s=0.5, settle_s=0.1)
        self._controller_options = controller or {}
        self._monitored = list(monitored) or cluster.names
        self._options = options
        self._guests = guests
        self._stack = ExitStack()
        self._stopping = threading.Event()
        self.guests: dict[str, list[str]] = {}
        self.monitors: dict[str, HostMonitorProcess] = {}

    def __enter__(self) -> ClusterStage:
        with ExitStack() as stack:
            stack.enter_context(self.cloud_process)
            self.cloud = self.cloud_process.remote
            self.guests = {name: self.cloud.boot(name, self._guests) for name in self.nodes}
            db = Db(drivername="sqlite", name=str(self.folder / "vm_ha.sqlite"))
            options = {"safety__clock_tolerance_s": 3, **self._controller_options}
            self.controller = ControllerProcess(
                self.folder, db, self.cloud.auth_url, outside=self.cluster.outside, **options
            )
            self.controller.write_keys(self.nodes, self.cluster.cluster_port)
            stack.enter_context(self.controller)
            self.stored = HostRecords(Path(db.name))
            self._add_spares()
            mirror = threading.Thread(target=self._mirror, name="the cloud follows the nodes", daemon=True)
            mirror.start()
            stack.callback(mirror.join)
            stack.callback(self._stopping.set)
            for name in self._monitored:
                url = self.controller.node_url
                folder = self.folder / name
                monitor = HostMonitorProcess(folder, url, name, self.cluster, **self._options)
                self.monitors[name] = stack.enter_context(monitor)
            self._stack = stack.pop_all()
        self.until(
            lambda: all(self.stored.of_host(name) for name in self._monitored), "not all have declared themselves"
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def until(self, condition: Callable[[], object], what: str, within_s: float = WITHIN_S) -> float:
        """Wait for something; how long it took. Raises RuntimeError with the logs when it doesn't come."""
        began = time.monotonic()
        until(lambda: bool(condition()), within_s, lambda: f"{what}\n{self.story()}")
        return time.monotonic() - began

    def until_seen_by(self, *names: str) -> None:
        """Until these monitors know that all other nodes are up."""
        others = len(self.nodes) - 1

        def knows(name: str) -> bool:
            records = self.monitors[name].read_state().get("records", {})
            return sum(record["state"] == "up" for record in records.values()) == others

        self.until(lambda: all(map(knows, names)), f"{names} have not seen all nodes up")

    def server(self, uuid: str) -> dict[str, Any]:
        """An instance as Nova has it."""
        return next(server for server in self.cloud.state()["servers"] if server["id"] == uuid)

    def hosts_of(self, node: str) -> set[str]:
        """Where the instances are booked that were booked on a node at first."""
        return {server["host"] for server in self.cloud.state()["servers"] if server["id"] in self.guests[node]}

    def is_evacuated(self, node: str) -> bool:
        """Whether all of a node's instances run on a reserved host, and its recovery is over."""
        servers = [server for server in self.cloud.state()["servers"] if server["id"] in self.guests[node]]
        assert servers, f"{node} never had an instance"
        moved = all(s["host"] in SPARES and (s["status"], s["task_state"]) == ("ACTIVE", None) for s in servers)
        return moved and [r["status"] for r in self.stored.recoveries_of(node)][-1:] == ["finished"]

    def open_recovery(self, node: str) -> dict[str, Any]:
        """The recovery of a node that is under way; empty when there is none."""
        return next((row for row in self.stored.recoveries_of(node) if row["status"] in OPEN), {})

    def assert_safe(self, *evacuated: str) -> None:
        """No instance ran twice, and only those of these nodes were ever asked to move."""
        state = self.cloud.state()
        assert state["violations"] == [], self.story()
        sources = {migration["source"] for migration in state["migrations"]}
        assert sources <= set(evacuated), f"evacuated from {sources}\n{self.story()}"

    def story(self) -> str:
        """What everybody said, for a test that failed."""
        parts = [f"-- {name}\n{monitor.said()[-3000:]}" for name, monitor in self.monitors.items()]
        parts.append(f"-- controller\n{self.controller.said()[-4000:]}")
        return "\n".join(parts)

    def _add_spares(self) -> None:
        script = ROOT / "utils/reserve_host_manage.py"
        for spare in SPARES:
            words = ["--mode", "add", "--port", self.cluster.cluster_port, "--host", spare]
            command = [sys.executable, str(script), "--config", str(self.controller.config), *words]
            done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=WITHIN_S)
            assert done.returncode == 0, done.stdout + done.stderr

    def _mirror(self) -> None:
        """The cloud's hosts live and die with the nodes."""
        up = dict.fromkeys(self.nodes, True)
        while not self._stopping.wait(LOOK_EVERY_S):
            for name, was_up in up.items():
                is_up = self.cluster.is_up(name)
                if is_up != was_up:
                    (self.cloud.start if is_up else self.cloud.crash)(name)
                    up[name] = is_up
