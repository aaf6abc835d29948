"""What libvirt says, in our own words: events, views of all domains, and the state of the connection.

The numbers of states, reasons, events and details are libvirt's own (virDomainState, virDomainEventType and theirs).
"""

from __future__ import annotations

from dataclasses import dataclass

LIFECYCLE = "lifecycle"
REBOOT = "reboot"
WATCHDOG = "watchdog"
IO_ERROR = "io_error"
CONTROL_ERROR = "control_error"

DEFAULT_KINDS = ("process_crash", "guest_crash", "watchdog_poweroff")
KINDS = (*DEFAULT_KINDS, "watchdog_pause", "io_error_pause", "destroyed", "rebooted", "control_error")
"""What may be reported, as the option [events] report names it."""


@dataclass(frozen=True, slots=True)
class DomainEvent:
    """One event. `seq` grows with every event of this process; `at` is Unix seconds when libvirt called us.

    `event` and `detail` are the lifecycle numbers; for the other kinds `event` is 0 and `detail` the action.
    `text` says more: the disk and the reason of an I/O error. `ours`: whether the domain is an instance of Nova; None: not
    known from earlier looks.
    """

    seq: int
    at: float
    kind: str
    uuid: str
    name: str
    event: int
    detail: int
    text: str = ""
    ours: bool | None = None


@dataclass(frozen=True, slots=True)
class DomainView:
    """A domain as libvirt shows it now. `run_id`: libvirt's number of the running guest, -1 for none.

    `ours`: whether it is an instance of Nova; None: libvirt could not be asked.
    """

    uuid: str
    name: str
    state: int
    reason: int
    run_id: int
    ours: bool | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All domains of the host. Events with a `seq` above `began` are newer than what it shows."""

    began: int
    at: float
    domains: tuple[DomainView, ...]


@dataclass(frozen=True, slots=True)
class Connected:
    """A connection is open, and its first event is yet to come; once all domains were looked at, a snapshot follows."""

    at: float
    uri: str


@dataclass(frozen=True, slots=True)
class Lost:
    """libvirt can't be asked, and no event will come, until the next Connected."""

    at: float
    why: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """So many messages wait that events of the kinds DROPPABLE are dropped, until that is better."""

    at: float
    waiting: int


DROPPABLE = (IO_ERROR, CONTROL_ERROR, REBOOT)
"""What a guest can send without end, and what tells neither its start nor its end."""

Message = DomainEvent | Snapshot | Connected | Lost | Dropped
