"""What the simulated cloud consists of. Plain data, no behaviour beyond reading it."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone

REBUILD_STATES = ("rebuilding", "rebuild_block_device_mapping", "rebuild_spawning")
NO_STATE, RUNNING, SHUTDOWN = 0, 1, 4  # Nova's power states

_STATUS = {
    "active": "ACTIVE",
    "stopped": "SHUTOFF",
    "error": "ERROR",
    "paused": "PAUSED",
    "resized": "VERIFY_RESIZE",
    "suspended": "SUSPENDED",
    "rescued": "RESCUE",
    "building": "BUILD",
    "shelved_offloaded": "SHELVED_OFFLOADED",
}


class Refused(Exception):
    """Nova says no. Nothing was changed."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status} {message}")
        self.status = status
        self.message = message


@dataclass
class Host:
    """One compute node: what Nova's service record says of it, and what is true."""

    name: str
    service_id: int
    service_uuid: str
    hypervisor_id: int
    hypervisor_uuid: str
    boot_id: str
    reporting_from_s: float | None  # monotonic time of the first report; None while silent
    last_report_s: float  # monotonic; of the reports before reporting_from_s
    enabled: bool = True
    disabled_reason: str | None = None
    forced_down: bool = False
    changed_at: float = 0.0  # wall time of the last change by the API
    in_placement: bool = True  # False: the scheduler won't use it, whatever the service says
    powered: bool = True
    compute_runs: bool = True
    isolated: bool = False
    guests: set[str] = field(default_factory=set)  # the truth: which instances run here
    inbox: list[Callable[[], None]] = field(default_factory=list)  # requests waiting for its nova-compute
    unreported: list[Callable[[], None]] = field(
        default_factory=list
    )  # done while isolated; Nova doesn't know yet
    builds: list[Evacuation] = field(default_factory=list)
    waiting: deque[Evacuation] = field(default_factory=deque)

    @property
    def answers(self) -> bool:
        """Whether its nova-compute takes requests now."""
        return self.powered and self.compute_runs and not self.isolated


@dataclass
class Aggregate:
    """A host aggregate; one with a zone makes its hosts an availability zone."""

    id: int
    uuid: str
    name: str
    created_at: float
    zone: str | None = None
    hosts: list[str] = field(default_factory=list)


@dataclass
class Fault:
    """Why a server is in ERROR."""

    message: str
    created_at: float
    code: int = 500


@dataclass
class Action:
    """One row of os-instance-actions."""

    action: str
    request_id: str
    start_at: float
    user_id: str | None
    project_id: str | None
    message: str | None = None
    updated_at: float | None = None


@dataclass
class Migration:
    """One row of os-migrations; this cloud makes evacuations only."""

    id: int
    uuid: str
    instance_uuid: str
    source: str
    dest: str | None
    created_at: float
    user_id: str
    project_id: str
    status: str = "accepted"
    migration_type: str = "evacuation"
    updated_at: float | None = None
    dest_node: str | None = None


@dataclass
class Evacuation:
    """An evacuate request on its way through Nova."""

    server: Server
    migration: Migration
    action: Action
    target: str | None
    on_shared_storage: bool | None  # what the request claims; None: Nova is to find out
    forced: bool  # the scheduler is not asked
    ends_stopped: bool
    stage: str = "accepted"  # accepted, queued, building, settling (old host, ACTIVE), over
    wrecked: bool = False  # a second evacuate came in meanwhile
    stuck: bool = False  # no living nova-compute has it


@dataclass
class Server:
    """An instance as Nova's database has it; the truth is in Host.guests."""

    id: str
    number: int
    name: str
    host: str | None
    created_at: float
    project_id: str
    user_id: str
    vm_state: str = "active"
    task_state: str | None = None
    power_state: int = RUNNING
    metadata: dict[str, str] = field(default_factory=dict)
    local_disk: bool = False
    locked: bool = False
    fault: Fault | None = None
    updated_at: float = 0.0
    actions: list[Action] = field(default_factory=list)  # oldest first
    evacuation: Evacuation | None = None  # the one in flight
    stale_allocation: bool = False  # Placement still books it on a target that never took it

    @property
    def status(self) -> str:
        """The status of the API, which Nova makes of vm_state and task_state."""
        task = self.task_state or ""
        if task in REBUILD_STATES:
            return "REBUILD"
        if task.startswith("resize_") and self.vm_state == "active":
            return "RESIZE"
        if task == "migrating":
            return "MIGRATING"
        if task in ("rebooting", "reboot_started"):
            return "REBOOT"
        return _STATUS.get(self.vm_state, "UNKNOWN")


def vm_state_of(status: str) -> str:
    """The vm_state behind a status such as SHUTOFF. Raises ValueError for one that has none."""
    for vm_state, name in _STATUS.items():
        if name == status:
            return vm_state
    raise ValueError(f"no vm_state reads {status}")


@functools.lru_cache(maxsize=4096)
def iso(at: float | None, *, exact: bool = False) -> str | None:
    """A time as Nova writes it in services, migrations and actions."""
    if at is None:
        return None
    whole = datetime.fromtimestamp(at if exact else int(at), timezone.utc)
    return whole.strftime("%Y-%m-%dT%H:%M:%S.%f")


def iso_z(at: float) -> str:
    """A time as Nova writes it in servers."""
    return _iso_z(int(at))


@functools.lru_cache(maxsize=4096)
def _iso_z(at: int) -> str:
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
