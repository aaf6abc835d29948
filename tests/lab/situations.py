"""What can happen to a guest, made to happen for real: each situation, and the messages that the link gives of it."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from instancemonitor.model import CONTROL_ERROR, IO_ERROR, LIFECYCLE, REBOOT, WATCHDOG, DomainEvent, Message, Snapshot
from tests.lab.libvirt_stage import WITHIN_S, Stage
from tests.lab.mariadb import until

SETTLE_S = 0.25
_count = itertools.count(1)

Sign = tuple[str, int, int]
"""Kind, event and detail of an event."""

STOPPED_FAILED = (LIFECYCLE, 5, 5)
STOPPED_CRASHED = (LIFECYCLE, 5, 2)
STOPPED_DESTROYED = (LIFECYCLE, 5, 1)
STOPPED_SHUTDOWN = (LIFECYCLE, 5, 0)
STOPPED_MIGRATED = (LIFECYCLE, 5, 3)
STOPPED_SAVED = (LIFECYCLE, 5, 4)
CRASHED_PANICKED = (LIFECYCLE, 8, 0)
SHUTDOWN_GUEST = (LIFECYCLE, 6, 1)
SHUTDOWN_HOST = (LIFECYCLE, 6, 2)
SUSPENDED = (LIFECYCLE, 3, 0)
SUSPENDED_IO_ERROR = (LIFECYCLE, 3, 2)
SUSPENDED_WATCHDOG = (LIFECYCLE, 3, 3)
RESUMED = (LIFECYCLE, 4, 0)
RESTORED = (LIFECYCLE, 2, 2)
REBOOTED = (REBOOT, 0, 0)


Deed = Callable[[Stage, Any, str], None]
"""What is done to a guest from outside: gets the stage, the guest and its name."""


@dataclass(frozen=True)
class Situation:
    """What is done to a running guest, by a letter for its serial port or from outside, and how one sees that it is over.

    last: the event that ends it. options: how the guest is made.
    """

    deed: str | Deed
    last: Sign
    options: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def played(self, stage: Stage, guest: Any, name: str) -> Iterator[None]:
        """Do it. QEMU forgets a letter that it hasn't read when the port is closed, so that stays open."""
        if isinstance(self.deed, str):
            with stage.libvirtd.serial(name) as serial:
                serial.order(self.deed)
                yield
        else:
            self.deed(stage, guest, name)
            yield


def _signal(number: signal.Signals) -> Deed:
    return lambda stage, guest, name: os.kill(stage.libvirtd.qemu_pid(name), number)


def _call(*methods: str) -> Deed:
    def call(stage: Stage, guest: Any, name: str) -> None:
        for method in methods:
            getattr(guest, method)()

    return call


def _panic(on_crash: str) -> dict[str, Any]:
    return {"on_crash": on_crash, "devices": "<panic model='isa'/>"}


def _watchdog(action: str, last: Sign) -> Situation:
    return Situation("w", last, {"devices": f"<watchdog model='ib700' action='{action}'/>"})


def _bad_disk(policy: str, last: Sign) -> Situation:
    """A second disk whose fifth sector can't be read."""
    drive = (
        "driver=raw,if=none,id=bad,cache=none,file.driver=blkdebug,file.image.driver=file,file.image.filename=@DISK@,"
        "file.inject-error.0.event=read_aio,file.inject-error.0.errno=5,file.inject-error.0.sector=4,"
        f"rerror={policy},werror={policy}"
    )
    return Situation("d", last, {"arguments": f"-drive {drive} -device virtio-blk-pci,drive=bad,addr=0x9,bootindex=2"})


SITUATIONS: dict[str, Situation] = {
    "kill -9": Situation(_signal(signal.SIGKILL), STOPPED_FAILED),
    "QEMU crashes": Situation(_signal(signal.SIGSEGV), STOPPED_FAILED),
    "QEMU is told to end": Situation(_signal(signal.SIGTERM), STOPPED_SHUTDOWN),
    "destroy": Situation(_call("destroy"), STOPPED_DESTROYED),
    "shutdown": Situation(_call("shutdown"), STOPPED_SHUTDOWN),
    "the guest powers off": Situation("p", STOPPED_SHUTDOWN),
    "the guest reboots": Situation("r", REBOOTED),
    "the guest reboots, which is to end it": Situation("r", STOPPED_SHUTDOWN, {"on_reboot": "destroy"}),
    "reset": Situation(_call("reset"), REBOOTED),
    "panic, destroy": Situation("c", STOPPED_CRASHED, _panic("destroy")),
    "panic, restart": Situation("c", REBOOTED, _panic("restart")),
    "panic, preserve": Situation("c", CRASHED_PANICKED, _panic("preserve")),
    "watchdog, none": _watchdog("none", (WATCHDOG, 0, 0)),
    "watchdog, pause": _watchdog("pause", SUSPENDED_WATCHDOG),
    "watchdog, reset": _watchdog("reset", REBOOTED),
    "watchdog, poweroff": _watchdog("poweroff", STOPPED_FAILED),
    "watchdog, shutdown": _watchdog("shutdown", STOPPED_SHUTDOWN),
    "suspend and resume": Situation(_call("suspend", "resume"), RESUMED),
    "managed save and restore": Situation(_call("managedSave", "create"), (LIFECYCLE, 4, 2)),
    "I/O error, stop": _bad_disk("stop", SUSPENDED_IO_ERROR),
    "I/O error, report": _bad_disk("report", (IO_ERROR, 0, 2)),
}


def sign(event: DomainEvent) -> Sign:
    """What an event is, without when and to whom."""
    return event.kind, event.event, event.detail


def play(stage: Stage, name: str) -> list[Message]:
    """Make a situation happen to a new guest: a snapshot of it running, all events from then on, a snapshot of the end.

    Every message is about this guest alone. Raises RuntimeError when its last event doesn't come.
    """
    situation = SITUATIONS[name]
    guest_name = f"guest{next(_count)}"
    options = dict(situation.options)
    if "arguments" in options:
        disk = stage.libvirtd.image(f"{guest_name}.disk")
        options["arguments"] = options["arguments"].replace("@DISK@", str(disk))
    guest = stage.start_guest(guest_name, **options)
    uuid = guest.UUIDString()
    try:
        since = _until_started(stage, uuid)
        first = snapshot(stage, uuid)
        with situation.played(stage, guest, guest_name):
            stage.inbox.until(lambda _: situation.last in map(sign, stage.inbox.events(uuid, since)), since=since)
        time.sleep(SETTLE_S)
        return [first, *stage.inbox.events(uuid, since), snapshot(stage, uuid)]
    finally:
        stage.remove(uuid)


def play_failed_start(stage: Stage) -> list[Message]:
    """Start a guest that QEMU refuses: a snapshot of it defined, all events from then on, a snapshot of the end."""
    xml = stage.libvirtd.domain_xml(f"guest{next(_count)}", serial=False, arguments="-nosuchoption")
    connection = stage.connect()
    guest = connection.defineXML(xml)
    uuid = guest.UUIDString()
    try:
        stage.inbox.until(lambda _: bool(stage.inbox.events(uuid)))
        since, first = len(stage.inbox.all), snapshot(stage, uuid)
        with suppress(_libvirt_error()):
            guest.create()
        stage.inbox.until(lambda _: (CONTROL_ERROR, 0, 0) in map(sign, stage.inbox.events(uuid, since)))
        time.sleep(SETTLE_S)
        return [first, *stage.inbox.events(uuid, since), snapshot(stage, uuid)]
    finally:
        stage.remove(uuid)


@dataclass(frozen=True)
class Migration:
    """The messages of both sides, about the guest alone. A side where it is not (any more) has an empty snapshot."""

    source: list[Message]
    destination: list[Message]


def play_migration(source: Stage, destination: Stage, killed: Stage | None = None) -> Migration:
    """Migrate a running guest, live and peer to peer, as Nova does it. In the middle of it QEMU at `killed` is killed."""
    name = f"guest{next(_count)}"
    guest = source.start_guest(name, serial=False)
    uuid = guest.UUIDString()
    try:
        since, since_there = _until_started(source, uuid), len(destination.inbox.all)
        first, first_there = snapshot(source, uuid), snapshot(destination, uuid)
        if killed:
            _migrate_in_vain(guest, name, destination, killed)
        else:
            _migrate(guest, name, destination)
        time.sleep(SETTLE_S)
        return Migration(
            [first, *source.inbox.events(uuid, since), snapshot(source, uuid)],
            [first_there, *destination.inbox.events(uuid, since_there), snapshot(destination, uuid)],
        )
    finally:
        source.remove(uuid)
        destination.remove(uuid)


def _migrate(guest: Any, name: str, destination: Stage, **parameters: Any) -> None:
    import libvirt

    flags = (
        libvirt.VIR_MIGRATE_PEER2PEER
        | libvirt.VIR_MIGRATE_LIVE
        | libvirt.VIR_MIGRATE_PERSIST_DEST
        | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
        | libvirt.VIR_MIGRATE_UNSAFE
    )
    meeting = destination.libvirtd.folder / f"guests/{name}.migration"
    parameters[libvirt.VIR_MIGRATE_PARAM_URI] = f"unix://{meeting}"
    guest.migrateToURI3(destination.libvirtd.uri, parameters, flags)


def _migrate_in_vain(guest: Any, name: str, destination: Stage, killed: Stage) -> None:
    """Too slow to come to an end: 1 MiB/s, and the guest changes more than that."""
    failed: list[Exception] = []

    def migrate() -> None:
        try:
            _migrate(guest, name, destination, bandwidth=1)
        except _libvirt_error() as error:
            failed.append(error)

    thread = threading.Thread(target=migrate, daemon=True)
    thread.start()
    until(lambda: _memory_sent(guest) > 0, WITHIN_S, lambda: "no memory is sent to the destination")
    os.kill(killed.libvirtd.qemu_pid(name), signal.SIGKILL)
    thread.join(WITHIN_S)
    assert failed, "the migration didn't fail"


def _memory_sent(guest: Any) -> int:
    try:
        return int(guest.jobStats().get("memory_processed", 0))
    except _libvirt_error():
        return 0


def snapshot(stage: Stage, uuid: str) -> Snapshot:
    """One domain as it is now."""
    began = max((item.seq for item in stage.inbox.all if isinstance(item, DomainEvent)), default=0)
    view = stage.link.look(uuid)
    return Snapshot(began, time.time(), (view,) if view else ())


def play_all(stage: Stage) -> Iterator[tuple[str, list[Message]]]:
    """Every situation of one libvirtd, by its name."""
    for name in SITUATIONS:
        yield name, play(stage, name)
    yield "the start fails", play_failed_start(stage)


def _until_started(stage: Stage, uuid: str) -> int:
    """Where the messages begin that are not about its start."""
    stage.inbox.until(lambda _: (LIFECYCLE, 2, 0) in map(sign, stage.inbox.events(uuid)))
    return len(stage.inbox.all)


def _libvirt_error() -> type[Exception]:
    from libvirt import libvirtError

    return libvirtError
