"""The hostmonitor as a real process on a node of a private cluster."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.lab.cluster import PrivateCluster
from tests.lab.mariadb import until
from tests.lab.monitors import Manager, MonitorProcess
from tests.lab.processes import READY_WITHIN_S, ROOT, secret

READY = "READY=1"


class HostMonitorProcess(MonitorProcess):
    """python3 -m hostmonitor on a node; ready when it tells systemd so. It dies with its node, and its state folder doesn't.

    `manager` is its sd_notify; start() starts it again on the node that has booted.
    """

    module = "hostmonitor"

    def __init__(
        self, folder: Path, url: str, name: str, cluster: PrivateCluster, *, lines: bool = False, **options: Any
    ) -> None:
        """options: of hostmonitor.conf, over those that a test needs; lines: it has KEY="value" lines, and no section."""
        self._cluster = cluster
        self._lines = lines
        settings = {
            "url": url,
            "region_id": "RegionOne",
            "cluster_port": cluster.cluster_port,
            "monitor_interval": 1,
            "ipmi_timeout": 2,
            "ipmi_retry_interval": 0.5,
            "bmc_file": folder / "bmc.conf",
            "key_file": folder / "key.conf",
            "state_dir": folder / "state",
        }
        super().__init__(folder, name, settings, **options)
        self.write_key(cluster.cluster_port)
        self.bmcs = folder / "bmc.conf"
        self.write_bmcs("")
        self.manager = Manager(folder / "notify")

    def __enter__(self) -> HostMonitorProcess:
        self.manager.__enter__()
        try:
            super().__enter__()
        except BaseException:
            self.manager.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self.manager.__exit__()

    def write_config(self, **changes: Any) -> None:
        """Change settings; a running monitor reads them on SIGHUP."""
        self._settings.update(changes)
        if self._lines:
            text = "".join(f'{name.upper()}="{value}"\n' for name, value in self._settings.items())
        else:
            text = "[environments]\n" + "".join(f"{name} = {value}\n" for name, value in self._settings.items())
        self.config.write_text(text, encoding="utf-8")

    def write_key(self, cluster_port: str) -> None:
        """The key of its host, for a cluster of this name."""
        words = {"host": self.host, "cluster_port": cluster_port, "secret": secret(self.host)}
        lines = "".join(f"{name} = {value}\n" for name, value in words.items())
        self.key.write_text(f"[{self.host}]\n{lines}", encoding="utf-8")

    def write_bmcs(self, text: str) -> None:
        """The file of BMCs that the stonith resources don't tell, readable for root alone."""
        self.bmcs.touch(mode=0o600)
        self.bmcs.write_text(text, encoding="utf-8")

    def start(self, *arguments: str, ready: bool = True, environ: dict[str, str] | None = None) -> None:
        """Start it on its node, which is up, and wait until it does its work unless told otherwise."""
        self._prefix = self._cluster.prefix(self.host)
        before = len(self.manager.told_at(READY))
        # The working folder of this process isn't kept on the way to the node.
        environ = {"PYTHONPATH": str(ROOT), **self.manager.environ, **(environ or {})}
        super().start(*arguments, ready=False, environ=environ)
        if ready:
            until(
                lambda: self._has_told(before),
                READY_WITHIN_S,
                lambda: f"{self.module} of {self.host} is not ready:\n{self.said()[-4000:]}",
            )

    @property
    def pid(self) -> int:
        """The monitor, by its id on this machine: a child of what has entered the node for it."""
        outer = super().pid
        with suppress(FileNotFoundError):
            children = Path(f"/proc/{outer}/task/{outer}/children").read_text(encoding="ascii").split()
            if children:
                return int(children[0])
        return outer

    def kill(self) -> None:
        """SIGKILL: nothing is put in order. Harmless when it has ended already, or has died with its node."""
        if self._process is not None and self._process.poll() is None:
            self.signal(signal.SIGKILL)
            self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)
        # What has entered the node stops itself along with its child.
        if number in (signal.SIGKILL, signal.SIGCONT):
            os.kill(super().pid, signal.SIGCONT)

    def _has_told(self, before: int) -> bool:
        if self.status is not None:
            raise RuntimeError(f"{self.module} of {self.host} ended with {self.status}:\n{self.said()[-4000:]}")
        return len(self.manager.told_at(READY)) > before
