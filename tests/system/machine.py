"""A container with the packages of Masakari in it: installing, settings that work there, and what systemd says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.lab.containers import Container
from tests.lab.mariadb import until

SERVICES = ("masakari-controller", "masakari-hostmonitor", "masakari-instancemonitor", "masakari-processmonitor")
PACKAGES = ("masakari", "masakari-base", "masakari-hostmonitor", "masakari-instancemonitor", "masakari-processmonitor")
RUNS_WITHIN_S = 15.0
PASSWORD = "the password of masakari"

# What an operator fills in. Nobody answers at any of the addresses, which is no reason not to run.
SETTINGS = {
    "/etc/masakari/masakari.conf": {
        "auth_url = <http://keystone:5000/v3>": "auth_url = http://127.0.0.1:5000/v3",
        "admin_user = <admin user>": "admin_user = masakari",
        "admin_password = <password of that user>": f"admin_password = {PASSWORD}",
        "project_name = <project name>": "project_name = service",
        "#callbacks = signed": "callbacks = open",
    },
    "/etc/hostmonitor/hostmonitor.conf": {
        "url = <http://controller:15868>": "url = http://127.0.0.1:15868",
        "#cluster_port =": "cluster_port = 226.94.1.1:5405",
    },
    "/etc/instancemonitor/instancemonitor.conf": {"url = <http://controller:15868>": "url = http://127.0.0.1:15868"},
    "/etc/processmonitor/processmonitor.conf": {
        "RESOURCE_MANAGER_URL=<http://controller:15868>": "RESOURCE_MANAGER_URL=http://127.0.0.1:15868",
    },
    "/etc/processmonitor/proc.list": {},
}


class Machine:
    """One container and the packages lying in its /root."""

    def __init__(self, container: Container, packages: Sequence[Path]) -> None:
        self.container = container
        self.run = container.run
        self.put(packages)

    def put(self, packages: Sequence[Path]) -> None:
        """Lay these packages into /root, instead of others."""
        self.run("sh", "-c", "rm -f /root/*.deb")
        self.container.put("/root", packages)

    def install(self) -> str:
        """Install all packages with what apt adds by itself, and keep settings that were changed; what was said."""
        keep = "-o Dpkg::Options::=--force-confold"
        return self.run("sh", "-c", f"apt-get install -y --no-install-recommends {keep} /root/*.deb")

    def change(self, path: str, changes: dict[str, str]) -> None:
        """Replace text in a file of it, which must be there once, and keep its owner and mode."""
        file = self.container.root / path.lstrip("/")
        text = file.read_text(encoding="utf-8")
        for old, new in changes.items():
            assert text.count(f"\n{old}\n") == 1, f"{path}: {old!r} is not there once:\n{text}"
            text = text.replace(f"\n{old}\n", f"\n{new}\n")
        file.write_text(text, encoding="utf-8")

    def set_up(self) -> None:
        """Fill in the settings of all four programs; no process is watched."""
        for path, changes in SETTINGS.items():
            self.change(path, changes)
        proc_list = self.container.root / "etc/processmonitor/proc.list"
        proc_list.write_text("1,/no/such/process,/bin/true,/bin/true,,,,\n", encoding="utf-8")

    def restart(self, *services: str) -> None:
        """Start services anew; systemctl returns once they have told that they are ready."""
        # Tests start them more often than systemd allows. It knows nothing to reset about one that never ran.
        self.run("systemctl", "reset-failed", *services, ok=(0, 1))
        self.run("systemctl", "restart", *services)

    def show(self, service: str, name: str) -> str:
        """A property of a service, as systemd shows it."""
        return self.run("systemctl", "show", "--value", "--property", name, service).strip()

    def pid(self, service: str) -> int:
        """The main process of a service by its number in the container; 0 if there is none."""
        return int(self.show(service, "MainPID"))

    def until_running(self, service: str, not_pid: int = 0) -> int:
        """Wait until the service runs, with another main process than this one; that process."""

        def runs() -> bool:
            return self.show(service, "ActiveState") == "active" and self.pid(service) not in (0, not_pid)

        until(runs, RUNS_WITHIN_S, lambda: self.journal(service))
        return self.pid(service)

    def journal(self, service: str) -> str:
        """What a service has logged, and systemd about it."""
        return self.run("journalctl", "--no-pager", "--unit", service)

    def failed(self) -> str:
        """The units that failed."""
        return self.run("systemctl", "list-units", "--failed", "--plain", "--no-legend")
