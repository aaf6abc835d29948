"""What Nova shows of a failed host's instances at one visit, asked for with few list calls for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from masakari.common.errors import NotFound
from masakari.model import Instance
from masakari.nova import Migration, Server, Service
from masakari.recovery import Visit


@dataclass(slots=True)
class View:
    """What Nova shows at one visit: the failed host's servers, their evacuations, and where the others are now.

    `services`: every nova-compute, where they were asked for. `read_at`: monotonic, from before the first question.
    """

    read_at: float
    service: Service | None
    here: dict[str, Server]
    migrations: dict[str, list[Migration]]
    elsewhere: dict[str, Server] = field(default_factory=dict)
    services: dict[str, Service] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)

    def server(self, uuid: str) -> Server | None:
        """The server's own record, wherever it is."""
        return self.here.get(uuid) or self.elsewhere.get(uuid)


def read_view(visit: Visit, *, targets: Iterable[str] = (), all_services: bool = False) -> View:
    """Service, servers and evacuations of the failed host, and the servers of these targets, all asked for at once."""
    nova, host, read_at = visit.world.nova, visit.recovery.hostname, visit.world.clock.monotonic()
    others = sorted(set(targets) - {host})
    services, servers, migrations, *elsewhere = visit.together(
        [
            nova.services if all_services else lambda: [nova.service(host)],
            lambda: nova.servers(host),
            lambda: nova.evacuations(source=host),
            *(partial(nova.servers, other) for other in others),
        ]
    )
    known = {service.host: service for service in services if service is not None}
    return View(
        read_at,
        known.get(host),
        {server.id: server for server in servers},
        _by_instance(migrations),
        {server.id: server for found in elsewhere for server in found},
        known,
        set(others),
    )


def _by_instance(migrations: Sequence[Migration]) -> dict[str, list[Migration]]:
    found: dict[str, list[Migration]] = {}
    for migration in migrations:
        found.setdefault(migration.instance_uuid, []).append(migration)
    return found


def find_elsewhere(visit: Visit, view: View, rows: Sequence[Instance]) -> None:
    """Where the instances are that Nova no longer books on the failed host: few list calls, then one by one."""
    nova = visit.world.nova
    missing = [row for row in rows if row.uuid not in view.here]
    targets = {row.action_target for row in missing if row.action_target}
    targets |= {
        m.dest for row in missing for m in view.migrations.get(row.uuid, [])[-1:] if m.dest and not row.action_target
    }
    targets -= view.asked
    if missing and targets:
        for servers in visit.together([partial(nova.servers, host) for host in sorted(targets)]):
            view.elsewhere.update({server.id: server for server in servers})
    for row in missing:
        if row.uuid not in view.elsewhere:
            try:
                view.elsewhere[row.uuid] = nova.server(row.uuid)
            except NotFound:
                continue
