"""The simulated cloud as tests, demo and bench use it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import requests

from masakari.common.clock import Clock

from . import control
from .app import App
from .faults import Fault
from .keystone_api import Keystone
from .model import Behaviour, World, exclusive
from .nova_api import Nova
from .server import RunningServer
from .session import URL, open_session

APP_CREDENTIAL = ("0d567588619b4dadbcc93bc238b2337c", "ha", "simulated-secret")  # id, name, secret


class SimulatedCloud(World):
    """Keystone and Nova over HTTP, the world behind them, and the means to make things go wrong.

    Args:
        clock: drives everything; with a VirtualClock use session(), with a real one serve() as well.
        hosts: names of the compute nodes.
        api_latency_s: what each call costs.
        versions: Nova's lowest and highest microversion.
        seed: same seed, same clock, same calls: same course.
        password: of the accounts masakari (project service), admin (admin), demo (demo, a plain member) and monitor (service, with
            the role service alone).
        token_s: how long a token lives.
        behaviour: the fields of Behaviour.
    """

    def __init__(
        self,
        clock: Clock,
        hosts: Iterable[str] = ("compute1", "compute2", "compute3"),
        *,
        api_latency_s: float = 0.0,
        versions: tuple[str, str] = ("2.1", "2.93"),
        seed: int = 0,
        password: str = "simcloud",
        token_s: float = 3600.0,
        **behaviour: Any,
    ) -> None:
        super().__init__(clock, hosts, Behaviour(**behaviour), seed)
        self.keystone = Keystone(self, password, APP_CREDENTIAL, token_s)
        self.nova = Nova(self, self.keystone, versions)
        self.wsgi = App(
            self,
            self.keystone,
            self.nova,
            clock,
            api_latency_s,
            lambda request: control.handle(self, request),
        )
        self.url = URL
        self.auth_url = f"{URL}/identity/v3"

    def session(self) -> requests.Session:
        """A session for URLs under self.url, served within the process."""
        return open_session(self.wsgi, self.clock)

    def serve(self, port: int = 0, address: str = "127.0.0.1") -> RunningServer:
        """Serve over HTTP at this address until its close()."""
        return RunningServer(self.wsgi, port, address)

    def credentials(self, auth_url: str | None = None) -> dict[str, str]:
        """How to sign in, named as the OS_* variables are."""
        return {
            "auth_url": auth_url or self.auth_url,
            "username": "masakari",
            "password": self.keystone.password,
            "project_name": "service",
            "user_domain_name": "Default",
            "project_domain_name": "Default",
            "region_name": "RegionOne",
        }

    @exclusive
    def fault(self, call: str, kind: str, **details: Any) -> None:
        """Switch a fault on; see faults.Fault."""
        self.wsgi.faults.add(Fault(call, kind, **details))

    @exclusive
    def clear_faults(self) -> None:
        """Switch every fault off."""
        self.wsgi.faults.clear()

    @exclusive
    def set_away(self, service: str, away: bool = True) -> None:
        """Make "keystone" or "nova" unreachable, or reachable again."""
        if service not in ("keystone", "nova"):
            raise ValueError(f"there is no {service}, only keystone and nova")
        (self.wsgi.away.add if away else self.wsgi.away.discard)(service)

    @exclusive
    def set_instance_ha(self, url: str) -> None:
        """Put the service instance-ha at this address into the catalog, %(tenant_id)s being the project's id; "" takes it out."""
        self.keystone.instance_ha_url = url

    @exclusive
    def state(self) -> dict[str, Any]:
        """What is worth knowing from outside, as JSON: the truth, Nova's records, violations, counters."""
        return {
            "hosts": {
                host.name: {
                    "powered": host.powered,
                    "compute_runs": host.compute_runs,
                    "isolated": host.isolated,
                    "boot_id": host.boot_id,
                    "enabled": host.enabled,
                    "up": self.reads_up(host),
                    "forced_down": host.forced_down,
                    "guests": sorted(host.guests),
                }
                for host in self.hosts.values()
            },
            "servers": [
                {
                    "id": server.id,
                    "name": server.name,
                    "host": server.host,
                    "status": server.status,
                    "task_state": server.task_state,
                    "power_state": server.power_state,
                }
                for server in self.servers.values()
            ],
            "migrations": [
                {"instance": m.instance_uuid, "source": m.source, "dest": m.dest, "status": m.status}
                for m in self.migrations
            ],
            "running": self.running(),
            "violations": self.violations(),
            "calls": dict(self.calls),
            "evacuate_requests": self.evacuate_requests,
            "evacuated": self.evacuated,
            "healthy_stops": self.healthy_stops,
        }
