"""Plays nova-compute between the simulated cloud and a private libvirtd: a guest that Nova starts there starts in QEMU here."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import libvirt

from tests.lab.libvirtd import PrivateLibvirtd
from tests.lab.mariadb import until
from tests.simcloud.control import RemoteCloud

POLL_S = 0.02
WITHIN_S = 30.0


class NovaCompute:
    """One host's nova-compute, as far as power goes. Only starts guests: nothing here would stop a healthy one."""

    def __init__(self, cloud: RemoteCloud, libvirtd: PrivateLibvirtd, host: str) -> None:
        self.cloud = cloud
        self.libvirtd = libvirtd
        self.host = host
        self.names: dict[str, str] = {}
        self.starts: list[str] = []
        self._running: set[str] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="nova-compute", daemon=True)
        self.problem = ""

    def __enter__(self) -> NovaCompute:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(WITHIN_S)
        assert not self.problem, self.problem

    def boot(self, name: str) -> str:
        """A new instance of this cloud on this host, running in QEMU; its uuid."""
        (uuid,) = self.cloud.boot(self.host, name=name)
        xml = self.libvirtd.domain_xml(name, uuid=uuid, serial=False)
        with self._lock:
            self._with(lambda connection: connection.defineXML(xml).create())
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

    def runs(self, uuid: str) -> bool:
        """Whether Nova has started the guest again since its last death, and QEMU runs it."""
        with self._lock:
            return uuid in self._running

    def until_runs(self, uuid: str, within_s: float = WITHIN_S) -> None:
        """Wait for that. Raises RuntimeError when it is not in time."""
        until(lambda: self.runs(uuid), within_s, lambda: f"{self.names[uuid]} is not started again within {within_s} s")

    def _follow(self) -> None:
        try:
            while not self._stopping.wait(POLL_S):
                with self._lock:
                    for uuid in set(self.cloud.running()[self.host]) & self.names.keys() - self._running:
                        self._start(uuid)
        except (libvirt.libvirtError, RuntimeError, ValueError, OSError) as error:
            self.problem = f"the stand-in of nova-compute failed: {error}"

    def _start(self, uuid: str) -> None:
        self._with(lambda connection: _create(connection.lookupByUUIDString(uuid)))
        self._running.add(uuid)
        self.starts.append(uuid)

    def _with(self, use: Callable[[Any], object]) -> None:
        """Use a connection of its own; libvirtd may be away for a moment."""
        told = ""

        def done() -> bool:
            nonlocal told
            try:
                connection = libvirt.open(self.libvirtd.uri)
                try:
                    use(connection)
                finally:
                    connection.close()
            except libvirt.libvirtError as error:
                told = str(error)
                return False
            return True

        until(done, WITHIN_S, lambda: f"libvirt doesn't do it: {told}")


def _create(domain: Any) -> None:
    # What is asked twice because libvirtd died in between has been done the first time.
    if not domain.isActive():
        domain.create()
