"""The instancemonitor with 50 guests in QEMU: what it costs, and how soon a kill -9 is committed by the controller."""

from __future__ import annotations

import json
import os
import queue
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from tests.bench import load, monitors
from tests.bench.figures import Figure
from tests.bench.stage import FAILED, House, Skipped, Stage
from tests.lab.libvirtd import PrivateLibvirtd, why_not
from tests.lab.monitors import InstanceMonitorProcess

GUESTS = 50
KILLS = 30
AT_ONCE = 20
POWER_S = 0.1
"""What Nova's stop and start take here: they are no part of what is measured."""

STOPPED = 5
WITHIN_S = 30.0

Told = tuple[str, float, dict[str, Any]]
"""Of an instance, by its uuid: when, in monotonic seconds, and the answer if there is one."""


class Inbox(queue.SimpleQueue[Told]):
    """What somebody saw of instances."""

    def take(self, uuids: set[str]) -> dict[str, Told]:
        """Wait until each of these was told of; nobody else may be. RuntimeError when it takes too long."""
        found: dict[str, Told] = {}
        while found.keys() != uuids:
            try:
                told = self.get(timeout=WITHIN_S)
            except queue.Empty:
                raise RuntimeError(f"nothing came of {uuids - found.keys()}") from None
            assert told[0] in uuids - found.keys(), f"{told[0]} was not to be told of now"
            found[told[0]] = told
        return found


class Relay:
    """Stands between a monitor and its controller, and notes when a whole answer is back: it is sent after the commit."""

    def __init__(self, port: int) -> None:
        self.committed = Inbox()
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Relay:
        threading.Thread(target=self._serve, name="relay", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:  # closed
                return
            # One after the other, as a monitor sends.
            with link, socket.create_connection(("127.0.0.1", self._port)) as controller:
                request = _whole(link)
                controller.sendall(request)
                answer = _whole(controller)
                at = time.monotonic()
                link.sendall(answer)
            if load.http_whole(answer):
                self.committed.put((_content(request)["uuid"], at, _content(answer)))


def _whole(link: socket.socket) -> bytes:
    link.settimeout(WITHIN_S)
    data = b""
    while load.http_whole(data) is None:
        more = link.recv(65536)
        if not more:
            raise RuntimeError(f"cut off after {data!r}")
        data += more
    return data


def _content(message: bytes) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(message.partition(b"\r\n\r\n")[2])
    return content


class Ends:
    """The ends of guests as libvirt tells them to a connection of the bench's own."""

    def __init__(self, uri: str) -> None:
        self.seen = Inbox()
        self._uri = uri
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="libvirt events", daemon=True)

    def __enter__(self) -> Ends:
        import libvirt

        libvirt.virEventRegisterDefaultImpl()
        # What lets the loop come back, and see that it is to end.
        libvirt.virEventAddTimeout(1000, lambda *_: None, None)
        self._connection = libvirt.open(self._uri)
        self._connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_lifecycle, None)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(WITHIN_S)

    def _run(self) -> None:
        import libvirt

        while not self._stopping.is_set():
            libvirt.virEventRunDefaultImpl()

    def _on_lifecycle(self, connection: Any, domain: Any, event: int, detail: int, _: object) -> None:
        if event == STOPPED:
            self.seen.put((domain.UUIDString(), time.monotonic(), {}))


class Guests:
    """Guests in QEMU that are instances of the simulated cloud, by uuid; each dies once."""

    def __init__(self, house: House, libvirtd: PrivateLibvirtd) -> None:
        import libvirt

        from tests.lab.compute import ASLEEP

        self._house = house
        self._libvirtd = libvirtd
        self.names = {uuid: f"guest-{uuid[:8]}" for uuid in house.cloud.boot(FAILED, GUESTS)}
        connection = libvirt.open(libvirtd.uri)
        self.version = "QEMU {}.{}.{}, libvirt {}.{}.{}".format(
            *_numbers(connection.getVersion()), *_numbers(connection.getLibVersion())
        )
        for uuid, name in self.names.items():
            xml = libvirtd.domain_xml(name, uuid=uuid, serial=False)
            libvirtd.image(f"{name}.boot", ASLEEP)
            connection.defineXML(xml).create()
        connection.close()
        self._alive = list(self.names)
        random.shuffle(self._alive)

    def kill(self, many: int) -> tuple[float, set[str]]:
        """kill -9 of so many at once: when, and which. Nova doesn't notice by itself: it would save the recovery its stop."""
        uuids = {self._alive.pop() for _ in range(many)}
        for uuid in uuids:
            self._house.cloud.crash_guest(uuid, noticed=False)
        pids = [self._libvirtd.qemu_pid(self.names[uuid]) for uuid in uuids]
        at = time.monotonic()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        return at, uuids


def _numbers(version: int) -> tuple[int, int, int]:
    return version // 1_000_000, version // 1000 % 1000, version % 1000


def figures(stage: Stage) -> Iterator[Figure]:
    """The instancemonitor with 50 guests: start, idle costs, and kill -9 of a guest until the controller has committed."""
    if why_not():
        raise Skipped(why_not())
    what = f"{GUESTS} guests"
    with (
        stage.house(power_s=POWER_S) as house,
        PrivateLibvirtd() as libvirtd,
        Ends(libvirtd.uri) as ends,
        Relay(house.controller.port) as relay,
    ):
        guests = Guests(house, libvirtd)
        with InstanceMonitorProcess(stage.folder(), relay.url, FAILED, libvirtd, callback__interval=10) as monitor:
            monitor.until_says(f"{GUESTS} instances recorded")
            yield from monitors.start(monitor, lambda since: _watches(monitor, since), what)
            yield from monitors.idle(monitor, 15 if stage.quick else 60, 36, what)
            yield from _kills(house, guests, ends, relay, 5 if stage.quick else KILLS)
            yield _at_once(house, guests, ends, relay)
        assert relay.committed.empty() and ends.seen.empty() and not house.cloud.violations()


def _watches(monitor: InstanceMonitorProcess, since: int) -> float | None:
    """When it had connected; by then it has looked at every guest."""
    lines = monitors.logged(monitor, "connected to ", since)
    return lines[0][0] if lines else None


def _kills(house: House, guests: Guests, ends: Ends, relay: Relay, kills: int) -> Iterator[Figure]:
    """One after the other, each when the instance before is recovered."""
    ours, libvirts = [], []
    for _ in range(kills):
        time.sleep(random.uniform(0.1, 0.4))
        killed_at, uuids = guests.kill(1)
        (_, seen_at, _), (_, committed_at, answer) = (
            inbox.take(uuids)[uuid] for inbox in (ends.seen, relay.committed) for uuid in uuids
        )
        libvirts.append(seen_at - killed_at)
        ours.append(committed_at - seen_at)
        house.until_final(answer["recovery"], WITHIN_S)
    yield monitors.delay(
        "libvirt's event -> callback committed", ours, 50, "controller and MariaDB on the same machine"
    )
    yield monitors.delay("kill -9 of QEMU -> libvirt's event", libvirts, beside=guests.version)


def _at_once(house: House, guests: Guests, ends: Ends, relay: Relay) -> Figure:
    killed_at, uuids = guests.kill(AT_ONCE)
    seen = max(at for _, at, _ in ends.seen.take(uuids).values())
    committed = relay.committed.take(uuids)
    last_at = max(at for _, at, _ in committed.values())
    for _, _, answer in committed.values():
        house.until_final(answer["recovery"], WITHIN_S)
    beside = f"libvirt's last event after {1000 * (seen - killed_at):.0f} ms"
    return Figure(f"{AT_ONCE} guests killed at once, all committed", 1000 * (last_at - killed_at), "ms", beside=beside)
