"""The BMCs of a private cluster: who is switched off by one dies, and boots when switched on again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack

from tests.lab.bmc import PrivateBmc

LOOK_EVERY_S = 0.02


class PowerBoard:
    """BMCs by the names of their hosts, and the wires from each to its host."""

    def __init__(
        self,
        bmcs: Mapping[str, PrivateBmc],
        cut: Callable[[str], None],
        boot: Callable[[str], None],
        boot_takes_s: float,
    ) -> None:
        """cut ends a host at once; boot starts one. Both are called from a thread, also for hosts that are down, or up."""
        self.bmcs = bmcs
        self._cut = cut
        self._boot = boot
        self._boot_takes_s = boot_takes_s
        self._off: set[str] = set()
        self._boots: dict[str, float] = {}
        self._started = ExitStack()
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="power", daemon=True)

    def start(self) -> None:
        """Start every BMC. Raises RuntimeError with what it said when one doesn't start; then none is left."""
        with ExitStack() as started:
            for bmc in self.bmcs.values():
                started.enter_context(bmc)
            self._started = started.pop_all()
        self._watcher.start()

    def stop(self) -> None:
        """End them all; no host is touched any more. Harmless when they are stopped."""
        self._stopping.set()
        if self._watcher.ident:
            self._watcher.join()
        self._started.close()

    def _watch(self) -> None:
        while not self._stopping.wait(LOOK_EVERY_S):
            for name, bmc in self.bmcs.items():
                self._follow(name, bmc.power)

    def _follow(self, name: str, power: str) -> None:
        if power == "off" and name not in self._off:
            self._off.add(name)
            self._boots.pop(name, None)
            self._cut(name)
        elif power == "on" and name in self._off:
            self._off.discard(name)
            self._boots[name] = time.monotonic() + self._boot_takes_s
        elif name in self._boots and time.monotonic() >= self._boots[name]:
            del self._boots[name]
            self._boot(name)
