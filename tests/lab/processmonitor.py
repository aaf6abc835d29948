"""The processmonitor as a real process, with a list of processes of its own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.lab.monitors import MonitorProcess


class ProcessMonitorProcess(MonitorProcess):
    """python3 -m processmonitor; ready when it watches its list."""

    module = "processmonitor"
    ready_when = " watches "

    def __init__(self, folder: Path, url: str, host: str, lines: Iterable[str], **options: Any) -> None:
        """lines: of proc.list. options: of processmonitor.conf, in small letters, over those that a test needs."""
        folder.mkdir(parents=True, exist_ok=True)
        self.list = folder / "proc.list"
        self.write_list(lines)
        settings = {
            "resource_manager_url": url,
            "region_id": "RegionOne",
            "process_list_path": self.list,
            "process_check_interval": 0.5,
            "reboot_interval": 0.2,
            "resource_manager_send_delay": 0.5,
            "state_dir": folder / "state",
            "key_file": folder / "key.conf",
        }
        super().__init__(folder, host, settings, **options)

    def write_config(self, **changes: Any) -> None:
        """Change settings; a running monitor notices."""
        self._settings.update(changes)
        self.config.write_text("".join(f'{name.upper()}="{value}"\n' for name, value in self._settings.items()))

    def write_list(self, lines: Iterable[str]) -> None:
        """Change the list; a running monitor notices."""
        new = self.list.with_suffix(".new")
        new.write_text("".join(f"{line}\n" for line in lines))
        new.rename(self.list)
