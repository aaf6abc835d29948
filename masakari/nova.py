"""Nova, as far as recoveries need it.

Every method is one question or one order; nothing is decided here. A question is repeated a little, and then
raises Unavailable. An order is sent once and says how it ended:

    returns         Nova took it; the value is Nova's request id
    Rejected        Nova refused clearly (4xx): not done. NotFound and Conflict are its cases 404 and 409
    Unavailable     surely not sent: no token, no connection, or only "too many requests"
    MaybeSent       no answer, half an answer, or one of 500 and more: it may have been done
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote, urlencode

from masakari.cloud_http import NoReply, Observe, SessionFactory
from masakari.common.clock import Clock
from masakari.common.errors import NotFound, Rejected, Unavailable
from masakari.keystone import CloudSettings, Keystone
from masakari.nova_http import BASE, HIGHEST, NovaHttp, Request, Version

# Each call uses the lowest version that has what it needs: newer ones cost Nova more, and from 2.69 on the
# records of an unreachable cell come without most of their fields.
FORCE_DOWN: Version = (2, 11)
LOCAL_DISK_CHECKED: Version = (2, 13)
SERVICE_BY_ID: Version = (2, 53)
MIGRATION_PAGES: Version = (2, 59)
# From here on an evacuated server is left stopped.
ENDS_STOPPED: Version = (2, 95)

REASON_MAX_CHARS = 255

_HOST = "OS-EXT-SRV-ATTR:host"


@dataclass(frozen=True, slots=True)
class Service:
    """A nova-compute. `updated_at` moves with its reports, but also with each change of ours."""

    host: str
    id: str
    enabled: bool
    up: bool
    forced_down: bool
    updated_at: float | None
    disabled_reason: str


@dataclass(frozen=True, slots=True)
class Server:
    """An instance as Nova books it. `local_disk`: its root disk was made from an image, not from a volume."""

    id: str
    name: str
    status: str
    vm_state: str
    task_state: str | None
    power_state: int
    host: str | None
    metadata: Mapping[str, str]
    local_disk: bool
    fault: str
    created: str


@dataclass(frozen=True, slots=True)
class Migration:
    """An evacuation as Nova follows it. Status: accepted, then done, error or failed; completed once the
    source's nova-compute has run again and tidied up; others in between."""

    id: int
    instance_uuid: str
    status: str
    source: str
    dest: str | None
    created_at: float


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that was asked of an instance; `message` is "Error" if it failed."""

    action: str
    request_id: str
    start_time: float
    message: str | None
    user_id: str


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A host aggregate and the names of the hosts in it."""

    id: int
    name: str
    hosts: tuple[str, ...]


class Nova:
    """The compute API. Safe for any number of threads."""

    def __init__(
        self,
        keystone: Keystone,
        settings: CloudSettings,
        clock: Clock,
        observe: Observe | None = None,
        session_factory: SessionFactory | None = None,
    ) -> None:
        self._http = NovaHttp(keystone, settings, clock, observe, session_factory)
        self._page_size = settings.page_size

    # What Nova says. Any of these raises Unavailable, or Rejected when the account may not ask.

    @property
    def microversion(self) -> Version:
        """The newest version that both sides know, at most 2.93; asked once."""
        return self._http.version

    def service(self, host: str) -> Service | None:
        """The nova-compute of a host; None if Nova knows of none."""
        found = [service for service in self._services(host=host) if service.host == host]
        return found[0] if found else None

    def services(self) -> list[Service]:
        """Every nova-compute."""
        return self._services()

    def servers(self, host: str) -> list[Server]:
        """The instances of all projects that Nova books on a host."""
        query = urlencode({"all_tenants": "1", "host": host, "limit": self._page_size})
        request = Request("servers", "GET", f"/servers/detail?{query}", key="servers")
        found = {item["id"]: _server(item) for item in self._http.pages(request, "id")}
        # Nova ignores a filter that the account may not use, so what was asked for is checked.
        return [server for server in found.values() if server.host == host]

    def server(self, uuid: str) -> Server:
        """One instance. Raises NotFound."""
        path, what = f"/servers/{_quoted(uuid)}", f"reading instance {uuid}"
        return _server(self._http.read(Request("server", "GET", path, key="server", what=what))["server"])

    def evacuations(self, source: str | None = None, instance: str | None = None) -> list[Migration]:
        """The evacuations from a host, of an instance, or all of them; newest first."""
        wanted = {"migration_type": "evacuation", "source_compute": source, "instance_uuid": instance}
        query = urlencode({key: value for key, value in wanted.items() if value is not None})
        request = Request("evacuations", "GET", f"/os-migrations?{query}", MIGRATION_PAGES, "migrations")
        found = [_migration(item) for item in self._http.pages(request, "uuid")]
        return sorted(found, key=lambda migration: (migration.created_at, migration.id), reverse=True)

    def actions(self, uuid: str) -> list[Action]:
        """What was asked of an instance, newest first. Raises NotFound."""
        path = f"/servers/{_quoted(uuid)}/os-instance-actions"
        what = f"reading the actions of instance {uuid}"
        request = Request("actions", "GET", path, key="instanceActions", what=what)
        return [_action(item) for item in self._http.read(request)["instanceActions"]]

    def aggregates(self) -> list[Aggregate]:
        """Every host aggregate."""
        found = self._http.read(Request("aggregates", "GET", "/os-aggregates", key="aggregates"))["aggregates"]
        return [Aggregate(int(item["id"]), item["name"], tuple(item["hosts"])) for item in found]

    def answers_uptime(self, host: str, within_s: float, hypervisor: str | None = None) -> bool:
        """Whether the nova-compute of a host itself answers a question within this time: a sign of life.

        `hypervisor`: its id, by one who has just asked for it. False proves nothing. Raises Unavailable when the
        question can't be put.
        """
        hypervisor = hypervisor or self.hypervisor(host)
        if hypervisor is None:
            return False
        path = f"/os-hypervisors/{_quoted(hypervisor)}/uptime"
        request = Request("uptime", "GET", path, SERVICE_BY_ID, timeout_s=(within_s, within_s))
        try:
            # 501 is an answer too: its hypervisor can't tell.
            return self._http.ask(request).status in (200, 501)
        except NoReply as error:
            if error.result == "timeout":
                return False
            raise Unavailable(f"asking nova-compute on {host} for its uptime: {error}") from error

    def _services(self, **query: str) -> list[Service]:
        path = "/os-services?" + urlencode({"binary": "nova-compute", **query})
        request = Request("services", "GET", path, SERVICE_BY_ID, "services")
        return [_service(item) for item in self._http.read(request)["services"]]

    def hypervisor(self, host: str) -> str | None:
        """The id of the hypervisor of a host; None if Nova knows of none.

        It has a name of its own, mostly one with the host's name in it; the pattern saves Nova (from 2.53) from listing
        all there are.
        """
        for query in (f"?{urlencode({'hypervisor_hostname_pattern': host})}", ""):
            request = Request("hypervisors", "GET", f"/os-hypervisors/detail{query}", SERVICE_BY_ID, "hypervisors")
            try:
                for item in self._http.pages(request, "id"):
                    if item["service"]["host"] == host:
                        return str(item["id"])
            except NotFound:
                continue
        return None

    # What Nova is told.

    def disable(self, service: Service, reason: str) -> str:
        """Let no new instances go to a host. Towards a dead one that still reads up, Nova answers only after
        a minute, so MaybeSent is to be expected there."""
        why = {"disabled_reason": reason[:REASON_MAX_CHARS]}
        return self._update("disable", service, {"status": "disabled", **why}, "disable-log-reason", why)

    def enable(self, service: Service) -> str:
        """Let new instances go to a host again. Only while it reads up: else it can stay unschedulable."""
        return self._update("enable", service, {"status": "enabled"}, "enable", {})

    def force_down(self, service: Service, down: bool) -> str:
        """Say that a host is down, or no longer say so. Nova refuses (400) the latter while evacuations from
        that host wait for a restart of its nova-compute. Rejected below 2.11, where there is no such call."""
        if self.microversion < FORCE_DOWN:
            raise Rejected(400, f"force_down of nova-compute on {service.host}: Nova is older than 2.11")
        fields = {"forced_down": down}
        return self._update("force_down", service, fields, "force-down", fields)

    def isolate(self, service: Service, reason: str) -> str:
        """Disabled and forced down, in the order that never makes Nova call the dead host: at once, or (below
        2.53) down first. Below 2.11 only disabled."""
        if self.microversion >= SERVICE_BY_ID:
            why = reason[:REASON_MAX_CHARS]
            fields = {"forced_down": True, "status": "disabled", "disabled_reason": why}
            return self._update("isolate", service, fields, "", {})
        if self.microversion >= FORCE_DOWN:
            self.force_down(service, True)
        return self.disable(service, reason)

    def _update(
        self,
        call: str,
        service: Service,
        fields: Mapping[str, Any],
        verb: str,
        legacy_fields: Mapping[str, Any],
    ) -> str:
        what = f"{call} of nova-compute on {service.host}"
        if self.microversion >= SERVICE_BY_ID:
            path = f"/os-services/{_quoted(service.id)}"
            return self._http.write(Request(call, "PUT", path, SERVICE_BY_ID, body=fields, what=what))
        body = {"host": service.host, "binary": "nova-compute", **legacy_fields}
        return self._http.write(Request(call, "PUT", f"/os-services/{verb}", FORCE_DOWN, body=body, what=what))

    def evacuate(self, uuid: str, target: str | None, keep_local_disk: bool) -> str:
        """Rebuild an instance of a dead host on the target, or where Nova's scheduler chooses.

        `keep_local_disk`: unless the disk is on shared storage, the server ends in ERROR with nothing changed.
        Otherwise Nova looks for itself, and builds a new disk from the image if there is none. (A Nova older than
        2.14 is told that there is none, and ends in ERROR if there is.)

        Returns when Nova has taken the request, which is long before it is done. Nova takes a second one meanwhile,
        and that one wrecks the server.
        """
        version, body = evacuate_request(self.microversion, target, keep_local_disk)
        return self._action("evacuate", uuid, {"evacuate": body}, version)

    def stop(self, uuid: str) -> str:
        """Power an instance off. Never towards a host that is down: the order waits there and hits a later
        guest."""
        return self._action("stop", uuid, {"os-stop": None})

    def start(self, uuid: str) -> str:
        """Power a stopped instance on."""
        return self._action("start", uuid, {"os-start": None})

    def pause(self, uuid: str) -> str:
        """Freeze an active instance."""
        return self._action("pause", uuid, {"pause": None})

    def reset_state(self, uuid: str, state: str = "error") -> str:
        """Book another state ("error" or "active") and no task for an instance; its guest isn't touched."""
        return self._action("reset_state", uuid, {"os-resetState": {"state": state}})

    def join_aggregate(self, aggregate: Aggregate, host: str) -> str:
        """Put a host into an aggregate. Conflict when it is in it already, or in another availability zone; NotFound when
        the aggregate is gone."""
        return self._aggregate("add_host", aggregate, host)

    def leave_aggregate(self, aggregate: Aggregate, host: str) -> str:
        """Take a host out of an aggregate. NotFound when it isn't in it, or the aggregate is gone."""
        return self._aggregate("remove_host", aggregate, host)

    def _aggregate(self, call: str, aggregate: Aggregate, host: str) -> str:
        path, what = f"/os-aggregates/{aggregate.id}/action", f"{call} of {host}, aggregate {aggregate.name}"
        return self._http.write(Request(call, "POST", path, body={call: {"host": host}}, what=what))

    def _action(self, call: str, uuid: str, body: Mapping[str, Any], version: Version = BASE) -> str:
        path = f"/servers/{_quoted(uuid)}/action"
        what = f"{call} of instance {uuid}"
        return self._http.write(Request(call, "POST", path, version, body=body, what=what))


def evacuate_request(newest: Version, target: str | None, keep_local_disk: bool) -> tuple[Version, dict[str, Any]]:
    """Version and body of an evacuate for a Nova whose newest version is `newest`.

    To keep a local disk, 2.13 at most: there Nova is told that the disk is shared, and gives up if it isn't;
    later ones find out by themselves, and build a new disk. 2.13 doesn't ask the scheduler about a given
    target, so that one must be up, or the server stays in rebuilding for good.

    Otherwise the newest, and never `force` (2.29 to 2.67): then the scheduler does check the target, and one
    that is disabled, down or full ends the try at once with "No valid host". The price is that a spare that
    is kept disabled must be enabled first.
    """
    body: dict[str, Any] = {} if target is None else {"host": target}
    version = min(newest, LOCAL_DISK_CHECKED if keep_local_disk else HIGHEST)
    if version <= LOCAL_DISK_CHECKED:
        body["onSharedStorage"] = keep_local_disk
    assert version < ENDS_STOPPED
    return version, body


def _quoted(part: str) -> str:
    return quote(part, safe="")


def _service(item: Mapping[str, Any]) -> Service:
    return Service(
        host=item["host"],
        id=str(item["id"]),
        enabled=item["status"] == "enabled",
        up=item["state"] == "up",
        forced_down=bool(item.get("forced_down")),
        updated_at=_seconds(item["updated_at"]) if item.get("updated_at") else None,
        disabled_reason=item.get("disabled_reason") or "",
    )


def _server(item: Mapping[str, Any]) -> Server:
    if _HOST not in item:
        # Without the admin role Nova leaves it out; "booked nowhere" must not be read from that.
        raise Rejected(403, f"reading instance {item['id']}: Nova doesn't show its host; is the account admin?")
    return Server(
        id=item["id"],
        name=item["name"],
        status=item["status"],
        vm_state=item["OS-EXT-STS:vm_state"],
        task_state=item["OS-EXT-STS:task_state"],
        power_state=item["OS-EXT-STS:power_state"],
        host=item[_HOST],
        metadata=item["metadata"],
        # Only an explicit "" says that there is no image behind the disk.
        local_disk=item.get("image") != "",
        fault=(item.get("fault") or {}).get("message") or "",
        created=item["created"],
    )


def _migration(item: Mapping[str, Any]) -> Migration:
    return Migration(
        id=int(item["id"]),
        instance_uuid=item["instance_uuid"],
        status=item["status"],
        source=item["source_compute"],
        dest=item["dest_compute"],
        created_at=_seconds(item["created_at"]),
    )


def _action(item: Mapping[str, Any]) -> Action:
    return Action(
        action=item["action"],
        request_id=item["request_id"],
        start_time=_seconds(item["start_time"]),
        message=item["message"],
        user_id=item["user_id"],
    )


def _seconds(text: str) -> float:
    """Unix time of one of Nova's, which are UTC without saying so."""
    return datetime.fromisoformat(text.rstrip("Z")).replace(tzinfo=timezone.utc).timestamp()
