"""The simulated world: hosts, what really runs on them, and Nova's records of both. No HTTP."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from masakari.common.clock import Clock

from . import power
from .records import (
    NO_STATE,
    RUNNING,
    SHUTDOWN,
    Action,
    Aggregate,
    Fault,
    Host,
    Migration,
    Refused,
    Server,
    vm_state_of,
)
from .timeline import Timeline, exclusive

PROJECT_ID = "83fde1e26673404097c7b57a2fb4d45b"  # "service": what boot() books servers on
USER_ID = "981e4f8b144f4f3c81993b00dfe04c46"


@dataclass(frozen=True)
class Behaviour:
    """How long things take in this cloud, and what its hypervisor is like."""

    evacuate_s: float = 2.0  # from the start of the build to ACTIVE on the target
    settle_s: float = 0.9  # of these, at most so long ACTIVE and idle on the old host
    builds_at_once: int = 10  # per target; 0 = no limit
    stop_s: float = 1.0
    start_s: float = 1.0
    service_down_s: float = 60.0
    report_s: float = 10.0
    rpc_timeout_s: float = 60.0  # how long Nova waits for a nova-compute that is dead but reads up
    notice_s: float = 0.3  # a guest dies by itself: until Nova books it SHUTOFF
    power_sync_s: float = 30.0  # until Nova compares what it has booked with what runs
    shared_storage: bool = True
    libvirt_like: bool = True  # stopping a guest that isn't there succeeds; uptime is 200


class World(Timeline):
    """Hosts, services, servers, migrations; and the truth about who runs where."""

    def __init__(self, clock: Clock, hosts: Iterable[str], behaviour: Behaviour, seed: int = 0) -> None:
        super().__init__(clock, seed)
        self.behaviour = behaviour
        self.servers: dict[str, Server] = {}
        self.migrations: list[Migration] = []
        self.calls: Counter[str] = Counter()
        # Each with the wall time first: instance and target; instance and new host; instance stopped while it ran.
        self.evacuate_requests: list[tuple[float, str, str | None]] = []
        self.evacuated: list[tuple[float, str, str]] = []
        self.healthy_stops: list[tuple[float, str]] = []
        self.aggregates: dict[int, Aggregate] = {}
        self.hosts = {name: self._new_host(number, name) for number, name in enumerate(hosts)}

    def _new_host(self, number: int, name: str) -> Host:
        first_report_s = self.time_s - self.random.uniform(0, self.behaviour.report_s)
        return Host(
            name,
            number + 4,
            self.new_uuid(),
            number + 1,
            self.new_uuid(),
            self.new_uuid(),
            first_report_s,
            first_report_s,
        )

    # The truth

    @exclusive
    def violations(self) -> list[str]:
        """What must never happen and did, in order."""
        return list(self._violations)

    @exclusive
    def running(self) -> dict[str, list[str]]:
        """Which instances really run, by powered host, whatever Nova has booked."""
        return {host.name: sorted(host.guests) for host in self.hosts.values() if host.powered}

    def spawn(self, host: Host, server: Server) -> None:
        """The guest of an instance begins to run on a host."""
        for other in self.hosts.values():
            if other is not host and server.id in other.guests:
                self.violate(f"{server.name} {server.id} runs on {other.name} and on {host.name}")
        host.guests.add(server.id)
        self.note(f"{server.name} runs on {host.name}")

    # Hosts

    def host(self, name: str) -> Host:
        """Raises KeyError for a name that no host has."""
        return self.hosts[name]

    def last_report_s(self, host: Host) -> float:
        """Monotonic time of the last report of a nova-compute."""
        if host.reporting_from_s is None or self.time_s < host.reporting_from_s:
            return host.last_report_s
        whole = (self.time_s - host.reporting_from_s) // self.behaviour.report_s
        return host.reporting_from_s + whole * self.behaviour.report_s

    def service_updated_at(self, host: Host) -> float:
        """Wall time of the last report or change, whichever is later."""
        return max(self.now - self.time_s + self.last_report_s(host), host.changed_at)

    def reads_up(self, host: Host) -> bool:
        """What Nova believes."""
        return not host.forced_down and self.time_s - self.last_report_s(host) <= self.behaviour.service_down_s

    def reported_since_start(self, host: Host) -> bool:
        return host.reporting_from_s is not None and host.reporting_from_s <= self.time_s

    def deliver(self, host: Host, request: Callable[[], None]) -> bool:
        """Hand a request to a nova-compute, or leave it in the queue until it answers. Tells which."""
        if not host.answers:
            host.inbox.append(request)
            return False
        request()
        return True

    def update_service(
        self,
        host: Host,
        *,
        enabled: bool | None = None,
        reason: str | None = None,
        forced_down: bool | None = None,
    ) -> float:
        """Change a service's record as the API does. Returns how long Nova takes to answer, in seconds.

        Raises Refused for an un-force before the evacuations from that host are tidied up.
        """
        if forced_down is False and host.forced_down:
            self._refuse_unforce_if_untidy(host)
        if forced_down and not host.forced_down and host.powered and host.guests:
            self.violate(f"{host.name} is forced down while {len(host.guests)} guests run there")
        self.note(f"service {host.name}: enabled={enabled} reason={reason} forced_down={forced_down}")
        before = (host.enabled, host.disabled_reason, host.forced_down)
        if forced_down is not None:
            host.forced_down = forced_down
        if enabled is not None:
            host.enabled = enabled
            host.disabled_reason = None if enabled else reason
        if (host.enabled, host.disabled_reason, host.forced_down) != before:
            # A change that changes nothing leaves the record, and its time, alone.
            host.changed_at = self.now
        return self._tell_placement(host) if host.enabled != before[0] else 0.0

    def _refuse_unforce_if_untidy(self, host: Host) -> None:
        if any(m.source == host.name and m.status == "done" for m in self.migrations):
            raise Refused(
                400,
                f"Unable to force up host {host.name} as `done` evacuation migration records remain "
                "associated with the host. Ensure the compute service has been restarted, allowing "
                "these records to move to `completed` before retrying this request.",
            )

    def _tell_placement(self, host: Host) -> float:
        """Nova has the nova-compute itself set its mark in Placement, if it believes it up."""
        if not host.enabled:
            host.in_placement = False
        if not self.reads_up(host):
            return 0.0
        if not host.answers:
            return self.behaviour.rpc_timeout_s
        if host.enabled and self.reported_since_start(host):
            host.in_placement = True
        return 0.0

    def schedulable(self, host: Host) -> bool:
        """Whether Nova's scheduler would place anything there."""
        return host.enabled and host.in_placement and self.reads_up(host)

    def schedule(self, but_not: str | None) -> Host | None:
        """The schedulable host with the fewest servers booked or on their way, None if there is none."""
        load: Counter[str] = Counter()
        for server in self.servers.values():
            coming = server.evacuation.target if server.evacuation else None
            load[coming or server.host or ""] += 1
        candidates = [h for h in self.hosts.values() if h.name != but_not and self.schedulable(h)]
        return min(candidates, key=lambda host: load[host.name], default=None)

    @exclusive
    def add_aggregate(self, name: str, hosts: Iterable[str] = (), zone: str | None = None) -> Aggregate:
        """A new host aggregate, as somebody made it."""
        number = max(self.aggregates, default=0) + 1
        made = self.aggregates[number] = Aggregate(number, self.new_uuid(), name, self.now, zone, list(hosts))
        return made

    # What befalls hosts

    @exclusive
    def crash(self, host: str) -> None:
        """Power lost: its guests die, its nova-compute is silent."""
        record = self.hosts[host]
        self.note(f"{host} loses power, {len(record.guests)} guests die")
        self._compute_dies(record)
        record.powered = False
        record.guests.clear()

    @exclusive
    def kill_compute(self, host: str) -> None:
        """Only the nova-compute dies: the guests keep running."""
        self.note(f"nova-compute of {host} dies")
        self._compute_dies(self.hosts[host])

    @exclusive
    def isolate_network(self, host: str) -> None:
        """Nobody reaches the host, and its guests run. What it has been asked before, it does."""
        record = self.hosts[host]
        self.note(f"{host} is cut off")
        self._fall_silent(record)
        record.isolated = True

    @exclusive
    def heal_network(self, host: str) -> None:
        """The network of an isolated host is back: it reports what it did, takes what was queued."""
        record = self.hosts[host]
        self.note(f"{host} is reachable again")
        record.isolated = False
        if record.powered and record.compute_runs:
            late, record.unreported = record.unreported, []
            for report in late:
                report()
            self._begin_reports(record)
            self._empty_inbox(record)

    @exclusive
    def start(self, host: str) -> None:
        """The host boots anew: another boot id, none of the guests of the boot before."""
        record = self.hosts[host]
        self._compute_dies(record)
        record.guests.clear()
        record.powered, record.isolated = True, False
        record.boot_id = self.new_uuid()
        self.note(f"{host} boots")
        self._compute_starts(record)

    @exclusive
    def restart_compute(self, host: str) -> None:
        """The nova-compute alone starts again on a powered host; its guests kept running."""
        record = self.hosts[host]
        if not record.powered:
            raise ValueError(f"{host} has no power: start it")
        self._compute_dies(record)
        self.note(f"nova-compute of {host} starts again")
        self._compute_starts(record)

    def _fall_silent(self, host: Host) -> None:
        host.last_report_s = self.last_report_s(host)
        host.reporting_from_s = None

    def _compute_dies(self, host: Host) -> None:
        self._fall_silent(host)
        self._lives[host.name] += 1
        host.compute_runs = False
        host.unreported.clear()
        for server in self.servers.values():
            evacuation = server.evacuation
            if evacuation and evacuation.target == host.name and evacuation.stage != "accepted":
                evacuation.stuck = server.stale_allocation = True  # taken from the queue: nobody does it again
        host.builds.clear()
        host.waiting.clear()

    def _compute_starts(self, host: Host) -> None:
        host.compute_runs = True
        for migration in self.migrations:
            if migration.source == host.name and migration.status == "done":
                migration.status = "completed"
                migration.updated_at = self.now
                host.guests.discard(migration.instance_uuid)
        self._begin_reports(host)
        power.resume(self, host)
        if not host.isolated:
            self._empty_inbox(host)

    def _begin_reports(self, host: Host) -> None:
        host.reporting_from_s = self.time_s + self.behaviour.report_s / 2

    def _empty_inbox(self, host: Host) -> None:
        requests, host.inbox = host.inbox, []
        for request in requests:
            request()

    # Instances

    @exclusive
    def boot(
        self,
        host: str,
        n: int = 1,
        *,
        name: str | None = None,
        status: str = "ACTIVE",
        metadata: dict[str, str] | None = None,
        local_disk: bool = False,
        locked: bool = False,
        task_state: str | None = None,
        project_id: str = PROJECT_ID,
    ) -> list[str]:
        """Make n instances on a host, in a given state, at once. Returns their ids.

        Args:
            local_disk: the root disk comes from an image and not from a volume.
        Raises:
            KeyError: no such host.
            ValueError: no such status.
        """
        record = self.hosts[host]
        vm_state = vm_state_of(status)
        made = []
        for _ in range(n):
            number = len(self.servers) + 1
            label = name if name and n == 1 else f"{name or 'vm'}-{number}"
            server = Server(
                self.new_uuid(),
                number,
                label,
                host,
                self.now,
                project_id,
                USER_ID,
                vm_state,
                task_state,
                metadata=dict(metadata or {}),
                local_disk=local_disk,
                locked=locked,
                updated_at=self.now,
            )
            if vm_state in ("stopped", "suspended", "shelved_offloaded"):
                server.power_state = SHUTDOWN
            elif vm_state == "error":
                server.power_state, server.fault = NO_STATE, Fault("Booted in ERROR.", self.now)
            elif record.powered:
                server.power_state = RUNNING
                self.spawn(record, server)
            self.begin_action(server, "create", self.new_request_id(), USER_ID)
            self.servers[server.id] = server
            made.append(server.id)
        return made

    @exclusive
    def crash_guest(self, uuid: str, *, noticed: bool = True) -> None:
        """The guest dies by itself. Nova books it SHUTOFF after notice_s, or never notices."""
        server = self.servers[uuid]
        for host in self.hosts.values():
            host.guests.discard(uuid)
        self.note(f"the guest of {server.name} dies")
        if noticed and server.host:
            host = self.hosts[server.host]
            self.after_on(host, self.behaviour.notice_s, report=lambda: power.sync_one(self, host, server))

    @exclusive
    def edit(self, uuid: str, **changes: object) -> None:
        """Change Nova's record of a server by hand, say task_state="migrating"; the truth stays."""
        for field, value in changes.items():
            if field not in Server.__dataclass_fields__:
                raise ValueError(f"a server has no {field}")
            setattr(self.servers[uuid], field, value)

    def new_request_id(self) -> str:
        return f"req-{self.new_uuid()}"

    def begin_action(self, server: Server, name: str, request_id: str, user_id: str | None) -> Action:
        """Add a row to the instance's actions."""
        project_id = server.project_id if user_id else None
        action = Action(name, request_id, self.now, user_id, project_id, updated_at=self.now)
        server.actions.append(action)
        return action

    def touch(self, server: Server) -> None:
        server.updated_at = self.now

    def delete(self, server: Server) -> None:
        """The instance is gone, from Nova and from its host."""
        for host in self.hosts.values():
            host.guests.discard(server.id)
        server.evacuation = None
        self.servers.pop(server.id, None)
