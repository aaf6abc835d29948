"""Plays nova-compute between the simulated cloud and a private libvirtd: a guest that Nova starts there starts in QEMU here."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import libvirt

from tests.lab.libvirtd import PrivateLibvirtd
from tests.lab.mariadb import until
from tests.simcloud.control import RemoteCloud

POLL_S = 0.02
WITHIN_S = 30.0
SHUTOFF = 5

# A boot sector of `cli; hlt`. The guest that takes orders wakes all the time: a fifth of a CPU each.
ASLEEP = bytes.fromhex("faf4ebfd").ljust(510, b"\0") + b"\x55\xaa"


def asleep_xml(libvirtd: PrivateLibvirtd, name: str, **options: Any) -> str:
    """The definition of a guest that does nothing (options: those of domain_xml)."""
    xml = libvirtd.domain_xml(name, serial=False, **options)
    libvirtd.image(f"{name}.boot", ASLEEP)
    return xml


class NovaCompute:
    """One host's nova-compute, as far as power goes. Only starts guests: nothing here would stop a healthy one.

    names: of its guests, by uuid. kills, starts: how often each was killed here, and started because Nova said so.
    """

    def __init__(self, cloud: RemoteCloud, libvirtd: PrivateLibvirtd, host: str) -> None:
        self.cloud = cloud
        self.libvirtd = libvirtd
        self.host = host
        self.names: dict[str, str] = {}
        self.kills: Counter[str] = Counter()
        self.starts: Counter[str] = Counter()
        self._running: set[str] = set()
        self._died_at: dict[str, float] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="nova-compute", daemon=True)
        self.problem = ""
        libvirt.registerErrorHandler(lambda *_: None, None)  # it would print every error, beside raising it

    def __enter__(self) -> NovaCompute:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(WITHIN_S)
        assert not self.problem, self.problem

    def boot(self, name: str, *, awake: bool = False) -> str:
        """A new instance of this cloud on this host, running in QEMU; its uuid. Only one that is awake takes orders."""
        (uuid,) = self.cloud.boot(self.host, name=name)
        with self._lock:
            xml = self.libvirtd.domain_xml(name, uuid=uuid) if awake else asleep_xml(self.libvirtd, name, uuid=uuid)
            with self.connection() as connection:
                connection.defineXML(xml).create()
            self.names[uuid] = name
            self._running.add(uuid)
        return str(uuid)

    def kill(self, uuid: str) -> None:
        """kill -9 of the guest's QEMU. Nova's hypervisor knows at once, Nova's records don't."""
        pid = self.libvirtd.qemu_pid(self.names[uuid])
        with self._lock:
            self.cloud.crash_guest(uuid)
            self._running.discard(uuid)
            os.kill(pid, signal.SIGKILL)
            self._died_at[uuid] = time.monotonic()
            self.kills[uuid] += 1
        until(lambda: not os.path.exists(f"/proc/{pid}"), WITHIN_S, lambda: f"{self.names[uuid]} survives kill -9")

    def runs(self, uuid: str) -> bool:
        """Whether Nova has started the guest again since its last death, and QEMU runs it."""
        with self._lock:
            return uuid in self._running

    def lives_for(self, uuid: str) -> float:
        """Seconds since it was killed last; infinite when it never was."""
        return time.monotonic() - self._died_at.get(uuid, float("-inf"))

    def until_runs(self, uuid: str, within_s: float = WITHIN_S) -> None:
        """Wait until runs(). Raises RuntimeError when it is not in time."""
        until(lambda: self.runs(uuid), within_s, lambda: f"{self.names[uuid]} is not started again within {within_s} s")

    def until_off(self, uuid: str) -> None:
        """Wait until libvirt shows it shut off. Raises RuntimeError when it is not in time."""

        def is_off() -> bool:
            with self.domain(uuid) as domain:
                return bool(domain.state()[0] == SHUTOFF)

        until(is_off, WITHIN_S, lambda: f"{self.names[uuid]} is not shut off")

    def start_by_hand(self, uuid: str) -> None:
        """What an operator does with virsh: Nova does not hear of it."""
        with self._lock, self.domain(uuid) as domain:
            domain.create()
            self._running.add(uuid)

    def destroy(self, uuid: str) -> None:
        """End a guest, if it is there and runs; Nova does not hear of it."""
        with self.connection() as connection:
            for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
                if domain.UUIDString() == uuid:
                    domain.destroy()

    def move(self, uuid: str, to: PrivateLibvirtd) -> None:
        """Migrate a running guest, live and peer to peer, as Nova does it. Raises libvirtError."""
        flags = (
            libvirt.VIR_MIGRATE_PEER2PEER
            | libvirt.VIR_MIGRATE_LIVE
            | libvirt.VIR_MIGRATE_PERSIST_DEST
            | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
            | libvirt.VIR_MIGRATE_UNSAFE
        )
        meeting = f"unix://{to.folder}/guests/{self.names[uuid]}.migration"
        with self.domain(uuid) as domain:
            domain.migrateToURI3(to.uri, {libvirt.VIR_MIGRATE_PARAM_URI: meeting}, flags)

    @contextmanager
    def between_starts(self) -> Iterator[None]:
        """No guest is half started inside. One whose libvirtd dies in the middle of its start is nothing that ran."""
        with self._lock:
            yield

    @contextmanager
    def connection(self) -> Iterator[Any]:
        """A connection to libvirtd."""
        connection = libvirt.open(self.libvirtd.uri)
        try:
            yield connection
        finally:
            connection.close()

    @contextmanager
    def domain(self, uuid: str) -> Iterator[Any]:
        """The virDomain of a guest, on a connection of its own."""
        with self.connection() as connection:
            yield connection.lookupByUUIDString(uuid)

    def _follow(self) -> None:
        try:
            while not self._stopping.wait(POLL_S):
                with self._lock:
                    for uuid in set(self.cloud.running()[self.host]) & self.names.keys() - self._running:
                        self._start(uuid)
        except (RuntimeError, ValueError, OSError) as error:
            self.problem = f"the stand-in of nova-compute failed: {error}"

    def _start(self, uuid: str) -> None:
        """Once; while libvirtd is away the next round tries again."""
        try:
            with self.domain(uuid) as domain:
                if not domain.isActive():
                    domain.create()
        except libvirt.libvirtError:
            return
        self._running.add(uuid)
        self.starts[uuid] += 1
