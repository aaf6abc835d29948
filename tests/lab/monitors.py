"""The monitors as real processes, each with settings, key and state folder of its own."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.lab.libvirtd import PrivateLibvirtd
from tests.lab.mariadb import until
from tests.lab.processes import CLUSTER, READY_WITHIN_S, Program, end_on_error, secret


class MonitorProcess(Program):
    """A monitor of one host; ended on exit, restarted by start(). Its state folder stays over restarts."""

    module = ""
    ready_when = ""

    def __init__(self, folder: Path, url: str, host: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder / f"{self.module}.log")
        self.folder = folder
        self.host = host
        self.url = url
        self.state = folder / "state"
        self.config = folder / f"{self.module}.conf"
        self.key = folder / "key.conf"
        self.key.touch(mode=0o600)
        self.key.write_text(f"[{host}]\nhost = {host}\ncluster_port = {CLUSTER}\nsecret = {secret(host)}\n")

    def __enter__(self) -> Any:
        with end_on_error(self):
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self, *arguments: str) -> None:
        """Start it, and wait until it does its work."""
        before = self.said().count(self.ready_when)
        self._run(self.module, "--config", str(self.config), *arguments)
        until(
            lambda: self._is_ready(before),
            READY_WITHIN_S,
            lambda: f"{self.module} is not ready:\n{self.said()[-4000:]}",
        )

    def restart(self) -> None:
        """Kill it and start it again: what a crash and systemd do."""
        self.kill()
        self.start()

    def reload(self) -> None:
        """SIGHUP, and wait until it is through."""
        done = ("settings reloaded", "not reloaded")
        before = sum(self.said().count(word) for word in done)
        self.signal(signal.SIGHUP)
        until(lambda: sum(self.said().count(word) for word in done) > before, READY_WITHIN_S, lambda: "no reload")

    def waiting(self) -> list[dict[str, Any]]:
        """The reports in its spool."""
        found = []
        for path in sorted((self.state / "spool").glob("*.json")):
            try:
                found.append(json.loads(path.read_text()))
            except FileNotFoundError:  # delivered meanwhile
                continue
        return found

    def forget(self) -> None:
        """Remove everything it knows, as on a new node."""
        shutil.rmtree(self.state, ignore_errors=True)

    def _is_ready(self, before: int) -> bool:
        if self.status is not None:
            raise RuntimeError(f"{self.module} ended with {self.status}:\n{self.said()[-4000:]}")
        return self.said().count(self.ready_when) > before


class InstanceMonitorProcess(MonitorProcess):
    """python3 -m instancemonitor on a libvirtd; ready when it has looked at all its instances."""

    module = "instancemonitor"
    ready_when = "connected to "

    def __init__(self, folder: Path, url: str, host: str, libvirtd: PrivateLibvirtd, **options: str | float) -> None:
        """options: of [callback], over those that a test needs."""
        super().__init__(folder, url, host)
        callback = {
            "url": url,
            "regionID": "RegionOne",
            "interval": 0.5,
            "state_dir": self.state,
            "key_file": self.key,
            **options,
        }
        lines = [f"{name} = {value}" for name, value in callback.items()]
        libvirt = [f'connection_uri = "{libvirtd.uri}"', f"log_dir = {libvirtd.folder}/cache/libvirt/qemu/log"]
        self.config.write_text("\n".join(["[callback]", *lines, "[libvirt]", *libvirt, ""]))


class ProcessMonitorProcess(MonitorProcess):
    """python3 -m processmonitor with a list of processes; ready when it watches them."""

    module = "processmonitor"
    ready_when = "processmonitor 1.0.0 watches "

    def __init__(self, folder: Path, url: str, host: str, lines: Iterable[str], **options: str | float) -> None:
        """lines: of proc.list. options: of processmonitor.conf, in small letters, over those that a test needs."""
        super().__init__(folder, url, host)
        self.list = folder / "proc.list"
        self.write_list(lines)
        settings = {
            "resource_manager_url": url,
            "region_id": "RegionOne",
            "process_list_path": self.list,
            "process_check_interval": 0.5,
            "reboot_interval": 0.2,
            "resource_manager_send_delay": 0.5,
            "state_dir": self.state,
            "key_file": self.key,
            **options,
        }
        self.config.write_text("".join(f'{name.upper()}="{value}"\n' for name, value in settings.items()))

    def write_list(self, lines: Iterable[str]) -> None:
        """Change the list; a running monitor notices."""
        new = self.list.with_suffix(".new")
        new.write_text("".join(f"{line}\n" for line in lines))
        new.rename(self.list)
