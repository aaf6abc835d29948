"""The controller dies before and after each call of each port; started again, it brings every story to the same end.

"Before" a request: it was never sent. "After": it was carried out, and the answer died with the process. The controller is
started again at once, or another one goes on when the lease has ended. All writes to Nova are swept, and of what is between
two of them each kind of call once and one in five; with SIM_SEEDS of 500 or more all, ten times.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from masakari import admin, host_aggregates
from masakari.model import FINAL
from tests.sim import invariants
from tests.sim.conftest import SHM
from tests.sim.harness import Controller, House, settings

T = TypeVar("T")

LONG = int(os.environ.get("SIM_SEEDS") or 0) >= 500
REPEATS = 10 if LONG else 1
EVERY = 5


class Crash(BaseException):
    """The process died here."""


class Sweep:
    """Counts the calls of the ports, and lets the process die at one of them."""

    def __init__(self, crash_at: int | None) -> None:
        self.crash_at = crash_at
        self.calls: list[str] = []
        self.crashed = ""

    def __call__(self, controller: Controller, call: str) -> None:
        self.calls.append(call)
        if len(self.calls) - 1 == self.crash_at:
            self.crashed = call
            raise Crash(call)


@dataclass(frozen=True)
class Story:
    """A run from a report to its end. `acts` may each be done again; `goal` says what is wrong at the end, or nothing."""

    name: str
    prepare: Callable[[House], None]
    acts: list[Callable[[House], Any]]
    goal: Callable[[House], str]
    cloud: dict[str, Any] = field(default_factory=dict)


def host_dies(house: House) -> None:
    house.spare("compute3")
    house.cloud.boot("compute1", 2)
    house.cloud.boot("compute1", 1, status="SHUTOFF", name="stopped")
    house.clock.advance(30)
    house.cloud.crash("compute1")
    house.clock.advance(20)


def all_on(host: str, *, running: int) -> Callable[[House], str]:
    """Everything is booked on a host, and so many run there."""

    def wrong(house: House) -> str:
        places = {
            server.name: (server.host, server.vm_state, server.task_state) for server in house.cloud.servers.values()
        }
        ok = all(where == host and task is None for where, _, task in places.values())
        return "" if ok and len(house.cloud.running()[host]) == running else f"{places} {house.cloud.running()}"

    return wrong


def guest_dies(house: House) -> None:
    (uuid,) = house.cloud.boot("compute1", 1)
    house.clock.advance(30)
    house.cloud.crash_guest(uuid, noticed=False)
    house.clock.advance(1)


def guest_dies_twofold(house: House) -> None:
    """Nova notices, too, and books it SHUTOFF."""
    (uuid,) = house.cloud.boot("compute1", 1)
    house.clock.advance(30)
    house.cloud.crash_guest(uuid)
    house.clock.advance(1)


def instance_report(house: House) -> Any:
    return house.instance_down(next(iter(house.cloud.servers)), id="guest-died")


def process_dies(house: House) -> None:
    house.cloud.boot("compute1", 1)
    house.clock.advance(30)


def is_enabled(house: House) -> str:
    return "" if house.cloud.hosts["compute1"].enabled else "compute1 is still disabled"


def boots_again(house: House) -> None:
    """The host is fenced by a reboot and comes back before anything was proven."""
    house.cloud.boot("compute1", 2)
    house.host_up("compute1", boot_id="boot-1", id="first-boot")
    house.clock.advance(30)
    house.cloud.crash("compute1")
    house.clock.advance(20)


def reboot(house: House) -> None:
    house.cloud.start("compute1")
    house.clock.advance(10)


def reported_back(house: House) -> str:
    host = house.cloud.hosts["compute1"]
    if host.forced_down or not host.enabled:
        return f"compute1 is not back: forced_down {host.forced_down}, enabled {host.enabled}"
    return all_on("compute1", running=2)(house)


def back_and_enabled(house: House) -> str:
    host = house.cloud.hosts["compute1"]
    return "" if host.enabled and not host.forced_down else "compute1 is not back"


def ask_return(house: House) -> None:
    """recovery_manage.py return, unless it was heard before the crash."""
    if not any(row["kind"] == "return" for row in house.table("recovery")):
        admin.bring_back(house.operator, "compute1")


def host_in_aggregates_dies(house: House) -> None:
    house.cloud.add_aggregate("rack", ["compute1", "compute2"])
    house.cloud.add_aggregate("fast", ["compute1", "compute3"])
    host_dies(house)


def host_without_work_dies(house: House) -> None:
    """Its only instance is left out by its owner, so that the spare serves nobody."""
    house.cloud.add_aggregate("rack", ["compute1", "compute2"])
    house.cloud.add_aggregate("fast", ["compute1", "compute3"])
    house.spare("compute3")
    house.cloud.boot("compute1", 1, metadata={"HA_Enabled": "false"})
    house.clock.advance(30)
    house.cloud.crash("compute1")
    house.clock.advance(20)


def spare_in(*names: str, free: bool) -> Callable[[House], str]:
    """compute3 is in these aggregates and in no other, and on the list of spares or not."""

    def wrong(house: House) -> str:
        found = {one.name for one in house.cloud.aggregates.values() if "compute3" in one.hosts}
        listed = [row["hostname"] for row in house.table("reserve_list") if not row["deleted"]]
        ok = found == set(names) and listed == ["compute3"] * free
        return "" if ok else f"compute3 is in {found}, spares are {listed}"

    return wrong


def everything_moves_away(house: House) -> None:
    """Somebody migrates the instances to compute2."""
    with house.cloud.alone():
        for server in house.cloud.servers.values():
            house.cloud.hosts["compute3"].guests.discard(server.id)
            server.host = "compute2"


def list_again(house: House) -> None:
    """reserve_host_manage.py --mode add, and housekeeping once a minute."""
    if not any(not row["deleted"] for row in house.table("reserve_list")):
        house.spare("compute3")
    host_aggregates.tidy(house.controller.world)


AGGREGATES = {"settings": settings(host_failure={"add_reserved_host_to_aggregate": True})}

STORIES = [
    Story("host", host_dies, [lambda h: h.host_down("compute1", id="host-died")], all_on("compute3", running=2)),
    Story(
        "host, Nova knows only 2.1",
        host_dies,
        [lambda h: h.host_down("compute1", id="host-died")],
        all_on("compute3", running=2),
        {"versions": ("2.1", "2.1"), "service_down_s": 25.0},
    ),
    Story(
        "host, Nova knows up to 2.52",
        host_dies,
        [lambda h: h.host_down("compute1", id="host-died")],
        all_on("compute3", running=2),
        {"versions": ("2.1", "2.52")},
    ),
    Story("instance", guest_dies, [instance_report], all_on("compute1", running=1)),
    Story("instance that Nova books SHUTOFF", guest_dies_twofold, [instance_report], all_on("compute1", running=1)),
    Story(
        "process",
        process_dies,
        [
            lambda h: h.process_down("compute1", id="process-died"),
            lambda h: h.process_down("compute1", id="process-runs", state="up"),
        ],
        is_enabled,
    ),
    Story(
        "in place",
        boots_again,
        [
            lambda h: h.host_down("compute1", proof=None, id="host-died"),
            lambda h: h.host_up("compute1", boot_id="boot-2", id="second-boot"),
        ],
        reported_back,
    ),
    Story(
        "return",
        host_dies,
        [lambda h: h.host_down("compute1", id="host-died"), ask_return],
        back_and_enabled,
    ),
    Story(
        "aggregates",
        host_in_aggregates_dies,
        [lambda h: h.host_down("compute1", id="host-died")],
        lambda h: all_on("compute3", running=2)(h) or spare_in("rack", "fast", free=False)(h),
        AGGREGATES,
    ),
    Story(
        "aggregates, the spare serves nobody",
        host_without_work_dies,
        [lambda h: h.host_down("compute1", id="host-died")],
        spare_in("fast", free=True),
        AGGREGATES,
    ),
    Story(
        "aggregates, a spare again",
        host_in_aggregates_dies,
        [lambda h: h.host_down("compute1", id="host-died"), list_again],
        spare_in("fast", free=True),
        AGGREGATES,
    ),
]

BETWEEN = {"in place": reboot, "return": reboot, "aggregates, a spare again": everything_moves_away}
"""What happens in the world once the first act has come to rest."""

HELD_FIRST = {"in place"}
"""Stories whose first act comes to rest in a hold."""


def play(folder: Path, story: Story, crash_at: int | None, *, successor: str = "controller-1") -> tuple[House, Sweep]:
    """One run of a story, with one crash or none."""
    house = House(folder, hosts=("compute1", "compute2", "compute3"), evacuate_s=1.0, **story.cloud)
    story.prepare(house)
    sweep = Sweep(crash_at)
    house.ports = sweep
    for number, act in enumerate(story.acts):
        if number and story.name in BETWEEN:
            BETWEEN[story.name](house)
        _through(house, lambda act=act: act(house), successor)
        rest = ("held",) if not number and story.name in HELD_FIRST else FINAL
        _through(house, lambda rest=rest: house.run(lambda: _at_rest(house, rest), within_s=400), successor)
    house.ports = lambda controller, call: None
    return house, sweep


def _through(house: House, func: Callable[[], T], successor: str) -> T:
    """Do it again after a crash, with a controller that remembers nothing."""
    while True:
        try:
            return func()
        except Crash:
            house.clock.advance(0.3)
            house.restart(successor)


def _at_rest(house: House, rest: Collection[str]) -> bool:
    return all(row["status"] in rest for row in house.table("recovery"))


def _points(calls: list[str]) -> list[int]:
    """Where to crash: before and after every write to Nova, and at the first few calls of each kind between two of them."""
    chosen: list[int] = []
    seen: Counter[tuple[str, int]] = Counter()
    writes = 0
    for number, call in enumerate(calls):
        kind = (re.sub(r"[0-9a-f-]{36}|\?.*", "", call), writes)
        write = re.match(r"http \w+ (POST|PUT)", call)
        if write or (seen[kind] < REPEATS and (LONG or sum(seen.values()) % EVERY == 0)):
            chosen.append(number)
        seen[kind] += 1
        writes += bool(write)
    return chosen


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_a_crash_at_any_call_of_a_port_changes_nothing_in_the_end(story: Story) -> None:
    def run(crash_at: int | None, successor: str = "controller-1") -> list[str]:
        with tempfile.TemporaryDirectory(dir=SHM if SHM.is_dir() else None) as path:
            house, sweep = play(Path(path), story, crash_at, successor=successor)
            where = f"{story.name}: crash at call {crash_at}, {sweep.crashed}, {successor} goes on"
            assert crash_at is None or sweep.crashed, f"{where}: never reached"
            invariants.check_end(house)
            wrong = story.goal(house)
            assert not wrong, f"{where}: {wrong}\n" + "\n".join(house.story(r["id"]) for r in house.table("recovery"))
            house.close()
            return sweep.calls

    for number, point in enumerate(_points(run(None))):
        for successor in ("controller-1", "controller-2"):
            if LONG or (successor == "controller-2") == (number % 4 == 3):
                run(point, successor)
