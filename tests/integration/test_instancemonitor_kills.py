"""A hundred kills of five guests while libvirtd, the monitor and the controller die too: what happened is reported, and no more.

Everything is real but the cloud: QEMU, libvirtd, the instancemonitor, the controller. KILLS=1000 makes it longer, SEED=7
repeats a run as far as its order goes.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from masakari.config import Db
from masakari.model import FINAL
from tests.lab.compute import NovaCompute
from tests.lab.libvirtd import PrivateLibvirtd
from tests.lab.mariadb import until
from tests.lab.monitors import InstanceMonitorProcess, Stored
from tests.lab.processes import CloudProcess, ControllerProcess, Program
from tests.simcloud.control import RemoteCloud

pytestmark = pytest.mark.needs_libvirt

HOST = "compute1"
GUESTS = 5
KILLS = int(os.environ.get("KILLS", "100"))
SEED = int(os.environ.get("SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
LIVES_S = 2.05
"""The controller takes two deaths of one guest within 2 s for one."""

AWAY_S = 0.7
"""What is killed stays away for at most so long."""

RESTARTS_PER_KILL = 0.35
WITHIN_S = 60.0


@dataclass
class Mortal:
    """What is killed at random and comes back a moment later."""

    name: str
    end: Callable[[], None]
    start: Callable[[], None]
    back_at: float | None = None
    deaths: int = 0

    def die(self, away_s: float) -> None:
        """Be killed, unless it is away already."""
        if self.back_at is None:
            self.end()
            self.back_at = time.monotonic() + away_s
            self.deaths += 1

    def come_back(self, at_once: bool = False) -> None:
        """Start again when it is time to."""
        if self.back_at is not None and (at_once or time.monotonic() >= self.back_at):
            self.start()
            self.back_at = None


@dataclass
class Lab:
    """The whole, and who has died in it so far."""

    cloud: RemoteCloud
    controller: ControllerProcess
    libvirtd: PrivateLibvirtd
    nova: NovaCompute
    monitor: InstanceMonitorProcess
    stored: Stored
    mortals: list[Mortal] = field(default_factory=list)

    def counts(self, guests: list[str]) -> dict[str, tuple[int, int, int]]:
        """Kills, reports and starts of each guest, by name."""
        nova, stored = self.nova, self.stored
        return {nova.names[uuid]: (nova.kills[uuid], len(stored.reports(uuid)), nova.starts[uuid]) for uuid in guests}

    def logs(self) -> str:
        """What monitor and controller have said."""
        return f"seed {SEED}\nMONITOR\n{self.monitor.said()}\nCONTROLLER\n{self.controller.said()}"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with (
        CloudProcess(tmp_path, hosts=f"{HOST},compute2", stop_s=0.05, start_s=0.1) as cloud,
        ControllerProcess(
            tmp_path / "controller",
            Db(drivername="sqlite", name=str(tmp_path / "db")),
            cloud.remote.auth_url,
            recover_starter__max_retry_cnt=1000,
        ) as controller,
        PrivateLibvirtd() as libvirtd,
        NovaCompute(cloud.remote, libvirtd, HOST) as nova,
        InstanceMonitorProcess(tmp_path / "monitor", controller.url, HOST, libvirtd) as monitor,
    ):
        yield Lab(cloud.remote, controller, libvirtd, nova, monitor, Stored(tmp_path / "db"))


def mortals(lab: Lab) -> list[Mortal]:
    """libvirtd, the monitor and the controller, which all die of SIGKILL."""

    def kill_libvirtd() -> None:
        with lab.nova.between_starts():
            lab.libvirtd.kill()

    def process(name: str, program: Program, start: Callable[[], None]) -> Mortal:
        return Mortal(name, program.kill, start)

    return [
        Mortal("libvirtd", kill_libvirtd, lab.libvirtd.start),
        process("monitor", lab.monitor, lambda: lab.monitor.start(ready=False)),
        process("controller", lab.controller, lambda: lab.controller.start(ready=False)),
    ]


def test_exactly_the_failures_that_happened_are_reported_and_repaired(lab: Lab) -> None:
    rng, dying = random.Random(SEED), mortals(lab)
    guests = [lab.nova.boot(f"guest{number}") for number in range(1, GUESTS + 1)]
    until(
        lambda: all(f"name={lab.nova.names[uuid]}: started" in lab.monitor.said() for uuid in guests),
        WITHIN_S,
        lab.logs,
    )
    for _ in range(KILLS):
        uuid = next_to_die(lab, rng, guests, dying)
        if rng.random() < RESTARTS_PER_KILL:
            rng.choice(dying).die(rng.uniform(0, AWAY_S))
        lab.nova.kill(uuid)
        if rng.random() < RESTARTS_PER_KILL:
            rng.choice(dying).die(rng.uniform(0, AWAY_S))
    for mortal in dying:
        mortal.come_back(at_once=True)
    until(lambda: all(map(lab.nova.runs, guests)), WITHIN_S, lab.logs)
    until(lambda: not lab.monitor.waiting(), WITHIN_S, lab.logs)
    until(lambda: settled(lab, guests), WITHIN_S, lab.logs)

    print(f"seed {SEED}, restarts: {Counter({mortal.name: mortal.deaths for mortal in dying})}")
    kills = {lab.nova.names[uuid]: (lab.nova.kills[uuid],) * 3 for uuid in guests}
    assert lab.counts(guests) == kills, lab.logs()
    assert lab.cloud.state()["calls"]["start"] == KILLS, lab.logs()
    assert lab.cloud.state()["healthy_stops"] == [], lab.logs()
    assert lab.cloud.violations() == []


def next_to_die(lab: Lab, rng: random.Random, guests: list[str], dying: list[Mortal]) -> str:
    """A guest that has run long enough; meanwhile what is away comes back in its time."""
    ready: list[str] = []

    def one_is_ready() -> bool:
        for mortal in dying:
            mortal.come_back()
        ready[:] = [uuid for uuid in guests if lab.nova.runs(uuid) and lab.nova.lives_for(uuid) > LIVES_S]
        return bool(ready)

    until(one_is_ready, WITHIN_S, lambda: f"no guest runs again\n{lab.logs()}")
    return rng.choice(ready)


def settled(lab: Lab, guests: list[str]) -> bool:
    """Whether every recovery has come to its end."""
    return all(status in FINAL for uuid in guests for status in lab.stored.recoveries(uuid))
