"""What Nova shows of a failed host's instances at one visit, asked for with few list calls for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from masakari.common.errors import NotFound
from masakari.model import Instance
from masakari.nova import Migration, Server, Service
from masakari.recovery import Visit


@dataclass(slots=True)
class View:
    """What Nova shows at one visit: the failed host's servers, their evacuations, and where the others are now."""

    service: Service | None
    here: dict[str, Server]
    migrations: dict[str, list[Migration]]
    elsewhere: dict[str, Server] = field(default_factory=dict)

    def server(self, uuid: str) -> Server | None:
        """The server's own record, wherever it is."""
        return self.here.get(uuid) or self.elsewhere.get(uuid)


def read_view(visit: Visit) -> View:
    """Service, servers and evacuations of the failed host, asked for at once."""
    nova, host = visit.world.nova, visit.recovery.hostname
    service, servers, migrations = visit.together(
        [lambda: nova.service(host), lambda: nova.servers(host), lambda: nova.evacuations(source=host)]
    )
    return View(service, {server.id: server for server in servers}, _by_instance(migrations))


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
    if missing and targets:
        for servers in visit.together([partial(nova.servers, host) for host in sorted(targets)]):
            view.elsewhere.update({server.id: server for server in servers})
    for row in missing:
        if row.uuid not in view.elsewhere:
            try:
                view.elsewhere[row.uuid] = nova.server(row.uuid)
            except NotFound:
                continue
