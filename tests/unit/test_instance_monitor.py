"""The monitor's thread: each death of an instance becomes exactly one report, wherever the process itself dies."""

from __future__ import annotations

import copy
import json
import logging
import queue
import random
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from instancemonitor.config import Events, Libvirt, Settings
from instancemonitor.ledger import End, State
from instancemonitor.model import LIFECYCLE, Connected, DomainEvent, DomainView, Dropped, Lost, Message, Snapshot
from instancemonitor.monitor import Monitor
from instancemonitor.state import StateFile, decode, encode
from masakari.common.clock import Clock
from masakari.common.notification import parse
from masakari.common.outbox import RETRY_S
from masakari.common.report import Origin

ORIGIN = Origin("compute1", "RegionOne", "226.94.1.1:5405", "boot-1")
U, V, W = (f"{number:08d}-0000-4000-8000-000000000000" for number in (1, 2, 3))


class Died(BaseException):
    """The process was killed at this very call."""


class Crasher:
    """Lets the process die before or after a chosen call, and makes calls fail with OSError while `full`."""

    def __init__(self) -> None:
        self.calls = 0
        self.die_at = -1
        self.after = False
        self.full: OSError | None = None

    def call(self, effect: Callable[[], None]) -> None:
        self.calls += 1
        if self.calls == self.die_at and not self.after:
            raise Died
        if self.full:
            raise self.full
        effect()
        if self.calls == self.die_at:
            raise Died


class Hang(Crasher):
    """Tells whether the first call would have been noticed as late if it hung: it was begun with a beat."""

    def __init__(self, beaten: Callable[[], bool]) -> None:
        super().__init__()
        self._beaten = beaten
        self.noticed: bool | None = None

    def call(self, effect: Callable[[], None]) -> None:
        self.noticed = self._beaten() if self.noticed is None else self.noticed
        super().call(effect)


class Disk(StateFile):
    """The state file, in memory."""

    def __init__(self, crasher: Crasher) -> None:
        super().__init__("/var/lib/masakari/state.json")
        self.crasher = crasher
        self.data = b""

    def load(self) -> State:
        return decode(self.data) if self.data else State()

    def save(self, state: State) -> None:
        data = encode(state)
        self.crasher.call(lambda: setattr(self, "data", data))


class Spool:
    """Every body that was ever put, by id: the sender may have delivered and removed it at once."""

    def __init__(self, crasher: Crasher) -> None:
        self.crasher = crasher
        self.bodies: dict[str, dict[str, Any]] = {}

    def put(self, body: Mapping[str, Any]) -> None:
        assert self.bodies.get(body["id"], body) == body, "a repeat is the same report"
        self.crasher.call(lambda: self.bodies.update({body["id"]: copy.deepcopy(dict(body))}))

    def about(self, uuid: str) -> list[dict[str, Any]]:
        return [body for body in self.bodies.values() if body["uuid"] == uuid]


class Time(Clock):
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at = 1_800_000_000.0
        self.up = 1000.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.up

    def go_on(self, seconds: float) -> None:
        self.at += seconds
        self.up += seconds


class World:
    """A host with its libvirt, a disk, a spool, and a monitor that may or may not run."""

    def __init__(self, **events: Any) -> None:
        self.clock, self.crasher = Time(), Crasher()
        self.disk, self.spool = Disk(self.crasher), Spool(self.crasher)
        self.settings = Settings(libvirt=Libvirt(), events=Events(**events))
        self.domains: dict[str, tuple[int, int, int]] = {}
        self.logs: dict[str, End] = {}
        self.inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.seq = self.run_ids = self.woken = self.beats = 0
        self.libvirtd = True
        self.host_stops = False
        self.monitor: Monitor | None = None
        self.kills: dict[str, int] = {}

    # The monitor

    def begin(self) -> Monitor:
        """Start it, and let it connect."""
        self.monitor = self.make()
        try:
            self.monitor.begin()
        except Died:
            self.crasher.die_at = -1
            return self.begin()
        self.connect()
        return self.monitor

    def make(self) -> Monitor:
        """Another process, which has not begun."""
        self.inbox = queue.SimpleQueue()
        return Monitor(
            self.inbox,
            self.disk,
            self.spool,
            lambda: self.settings,
            lambda: ORIGIN,
            self.clock,
            self,
            lambda: self.host_stops,
            self._wake,
            self._beat,
        )

    def _wake(self) -> None:
        self.woken += 1

    def _beat(self) -> None:
        self.beats += 1

    def last_end(self, name: str) -> End | None:
        return self.logs.get(name)

    def connect(self) -> None:
        if self.libvirtd:
            self.tell(Connected(self.clock.at, "test:///default"))
            self.look()

    def look(self) -> None:
        self.tell(self.view())

    def view(self) -> Snapshot:
        rows = tuple(DomainView(uuid, uuid, *domain, True) for uuid, domain in self.domains.items())
        return Snapshot(self.seq, self.clock.at, rows)

    def tell(self, *messages: Message) -> None:
        """Messages for the monitor, if it runs; it takes them together, and a moment passes."""
        for message in messages if self.monitor else ():
            self.inbox.put(message)
        self.pass_time(0.1)

    def pass_time(self, seconds: float = 3.0) -> None:
        """If the monitor dies of it, another one is started at once."""
        self.clock.go_on(seconds)
        try:
            if self.monitor:
                self.monitor.step(0)
        except Died:
            self.crasher.die_at = -1
            self.begin()

    # The instances

    def event(self, uuid: str, number: int, detail: int) -> DomainEvent:
        self.seq += 1
        return DomainEvent(self.seq, self.clock.at, LIFECYCLE, uuid, uuid, number, detail, "", True)

    def start(self, uuid: str) -> None:
        """It takes longer than what times are compared with."""
        self.clock.go_on(1.5)
        self.run_ids += 1
        self.domains[uuid] = (1, 1, self.run_ids)
        self.logs.pop(uuid, None)
        self.tell(self.event(uuid, 4, 0), self.event(uuid, 2, 0))

    def _end(self, uuid: str, reason: int, word: str) -> None:
        self.domains[uuid] = (5, reason, -1)
        self.logs[uuid] = End(self.clock.at, word)

    def kill(self, uuid: str) -> None:
        self.kill_together(uuid)

    def kill_together(self, *uuids: str) -> None:
        for uuid in uuids:
            self.kills[uuid] = self.kills.get(uuid, 0) + 1
            self._end(uuid, 3, "crashed")
        self.tell(*(self.event(uuid, 5, 5) for uuid in uuids))

    def stop(self, uuid: str) -> None:
        self._end(uuid, 2, "destroyed")
        self.tell(self.event(uuid, 6, 2), self.event(uuid, 5, 1))

    def forget_reasons(self) -> None:
        """libvirtd restarts, and no longer knows how a domain ended that it found off."""
        self.libvirtd = False
        self.tell(Lost(self.clock.at, "libvirtd closed the connection"))
        self.domains = {uuid: (5, 0, -1) if d[0] == 5 else d for uuid, d in self.domains.items()}
        self.libvirtd = True
        self.connect()

    def reports(self) -> dict[str, int]:
        return {uuid: len(self.spool.about(uuid)) for uuid in self.domains if self.spool.about(uuid)}


def house(*running: str, **events: Any) -> World:
    """A world whose monitor has seen these instances running for a while."""
    world = World(**events)
    world.begin()
    for uuid in running:
        world.start(uuid)
    world.pass_time()
    return world


# Reports


def test_a_death_is_reported_at_once_in_a_form_that_the_controller_takes() -> None:
    world = house(U)
    world.kill(U)
    (body,) = world.spool.bodies.values()
    report = parse(json.dumps(body).encode(), world.clock.at)
    assert (report.type, report.hostname, report.uuid) == ("VM", "compute1", U)
    assert (report.event_id, report.event_type, report.detail) == ("0", "5", "5")
    assert report.utc_time == pytest.approx(world.clock.at, abs=1.2)
    assert world.woken == 1


def test_the_log_tells_what_happened_and_what_comes_of_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world = house(U, V)
    world.kill(U)
    world.stop(V)
    (report_id,) = world.spool.bodies
    assert f"instance={U} name={U}: its QEMU process died" in caplog.text
    assert f"reported as {report_id}" in caplog.text
    assert f"instance={V} name={V}: destroyed through libvirt" in caplog.text


def test_deaths_that_come_together_share_one_write() -> None:
    world = house(U, V, W)
    calls = world.crasher.calls
    world.kill_together(U, V, W)
    assert len(world.spool.bodies) == 3
    assert world.crasher.calls == calls + 4


def test_a_death_because_the_host_is_going_down_is_not_reported(caplog: pytest.LogCaptureFixture) -> None:
    world = house(U)
    world.host_stops = True
    world.kill(U)
    assert world.spool.bodies == {} and "this host is being shut down" in caplog.text


def test_changed_settings_count_at_once() -> None:
    world = house(U)
    world.settings = Settings(events=Events(report=("destroyed",)))
    world.stop(U)
    world.start(V)
    world.kill(V)
    assert world.reports() == {U: 1}


# Losing and finding


def test_what_fails_while_the_monitor_is_away_is_reported_when_it_comes_back() -> None:
    world = house(U, V, W)
    world.monitor = None
    world.kill(U)
    world.stop(V)
    world.begin()
    assert world.reports() == {U: 1}


def test_what_fails_while_libvirt_is_away_is_reported_when_it_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    world = house(U)
    world.tell(Lost(world.clock.at, "it hangs"), Lost(world.clock.at, "it hangs"))
    assert caplog.text.count("it hangs") == 1
    world.kills[U] = 1
    world._end(U, 3, "crashed")
    world.connect()
    assert world.reports() == {U: 1}


def test_a_death_during_the_first_look_after_a_connection_is_reported_once() -> None:
    world = house(U)
    world.tell(Lost(world.clock.at, "it hangs"), Connected(world.clock.at, "test:///default"))
    view = world.view()
    world.kill(U)
    world.tell(view)
    world.look()
    assert world.reports() == {U: 1}


def test_a_guest_that_nova_starts_during_the_first_look_after_a_connection_is_not_reported_again() -> None:
    world = house(U)
    world.kill(U)
    world.tell(Lost(world.clock.at, "it hangs"), Connected(world.clock.at, "test:///default"))
    view = world.view()
    world.start(U)
    world.tell(view)
    world.look()
    assert world.reports() == {U: 1}


def test_it_is_connected_when_it_has_looked_at_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world = house(U)
    assert world.monitor and caplog.text.count("connected to test:///default") == 1
    for _ in range(2):
        world.tell(Lost(world.clock.at, "it hangs"), Connected(world.clock.at, "test:///default"))
    assert caplog.text.count("connected to") == 1 and caplog.text.count("it hangs") == 1
    assert "known" in world.monitor.status()
    world.look()
    world.look()
    assert caplog.text.count("connected to") == 2 and "watched" in world.monitor.status()


def test_the_first_start_ever_reports_nothing_of_before() -> None:
    world = World()
    world.kill(U)
    world.begin()
    assert world.spool.bodies == {}


def story(world: World) -> None:
    """Four deaths, a user's stop and a restart of libvirtd. Two of the deaths come together."""
    for uuid in (U, V, W):
        world.start(uuid)
    world.pass_time()
    world.kill(U)
    world.pass_time()
    world.start(U)
    world.stop(V)
    world.kill(U)
    world.pass_time()
    world.forget_reasons()
    world.pass_time()
    world.start(V)
    world.kill_together(V, W)
    world.pass_time()
    world.look()
    world.pass_time()


def test_no_death_of_the_process_loses_a_report_or_makes_a_second_one() -> None:
    calm = World()
    calm.begin()
    story(calm)
    assert calm.reports() == calm.kills == {U: 2, V: 1, W: 1}
    for die_at in range(1, calm.crasher.calls + 1):
        for after in (False, True):
            world = World()
            world.begin()
            world.pass_time()
            world.crasher.die_at, world.crasher.after = world.crasher.calls + die_at, after
            story(world)
            assert world.reports() == world.kills, (die_at, after)
            assert decode(world.disk.data).pending == {}


@pytest.mark.parametrize("seed", range(150))
def test_any_order_of_deaths_stops_restarts_and_crashes_gives_each_report_once(seed: int) -> None:
    any_order(seed, house())


@pytest.mark.parametrize("seed", range(150, 250))
def test_so_it_is_when_the_clock_is_set_back_between_them(seed: int) -> None:
    any_order(seed, house(U, V, W), "the clock is set back", "the clock is set back")


def any_order(seed: int, world: World, *more_acts: str) -> None:
    """`must`: deaths that a report is owed for; a death that was started over before anybody looked leaves no trace."""
    dice = random.Random(seed)
    must = dict.fromkeys((U, V, W), 0)
    unseen = dict.fromkeys((U, V, W), False)

    def settle() -> None:
        if world.monitor and world.libvirtd:
            for uuid, owed in unseen.items():
                must[uuid] += owed
                unseen[uuid] = False

    def act(what: str, uuid: str) -> None:
        up = world.domains.get(uuid, (5, 0, -1))[0] == 1
        if what == "kill" and up:
            unseen[uuid] = True
            world.kill(uuid)
        elif what == "kill, and a look that began before" and up:
            unseen[uuid] = True
            view = world.view()
            world.kill(uuid)
            world.tell(view)
        elif what == "stop" and up:
            world.stop(uuid)
        elif what == "start" and not up:
            unseen[uuid] = False
            world.start(uuid)
        elif what == "monitor away":
            world.monitor = None
        elif what == "monitor back" and not world.monitor:
            world.begin()
        elif what == "libvirtd restarts":
            world.forget_reasons()
        elif what == "look":
            world.look()
        elif what == "the clock is set back":
            world.clock.at -= dice.uniform(1.5, 4000.0)

    acts = (
        "kill",
        "kill, and a look that began before",
        "stop",
        "start",
        "start",
        "start",
        "look",
        "libvirtd restarts",
    )
    away = ("monitor away", "monitor back", "monitor back")
    for _ in range(60):
        if dice.random() < 0.2:
            world.crasher.die_at, world.crasher.after = world.crasher.calls + dice.randint(1, 3), dice.random() < 0.5
        act(dice.choice(acts + away + more_acts), dice.choice((U, V, W)))
        settle()
        world.pass_time(dice.choice((0.0, 3.0)))
    world.crasher.die_at = -1
    if not world.monitor:
        world.begin()
        settle()
    world.pass_time()
    for uuid in (U, V, W):
        assert len(world.spool.about(uuid)) == must[uuid], (seed, uuid)


# Disks that are full


def test_a_report_that_the_spool_cannot_take_is_kept_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    world = house(U)
    world.crasher.full = OSError(28, "No space left on device")
    world.kill(U)
    assert world.spool.bodies == {} and "No space left" in caplog.text
    assert world.monitor and "No space left" in world.monitor.status()
    lines = len(caplog.records)
    world.pass_time(RETRY_S)
    assert len(caplog.records) == lines, "said once"
    world.crasher.full = None
    world.pass_time(RETRY_S / 2)
    assert world.spool.bodies == {}
    world.pass_time(RETRY_S)
    assert world.reports() == {U: 1}
    world.pass_time(RETRY_S)
    assert "No space left" not in world.monitor.status()
    assert decode(world.disk.data).pending == {}


def test_a_report_goes_out_even_if_the_state_file_cannot_be_written(caplog: pytest.LogCaptureFixture) -> None:
    world = house(U)
    world.disk.crasher = Crasher()
    world.disk.crasher.full = OSError(30, "Read-only file system")
    world.kill(U)
    assert world.reports() == {U: 1} and "Read-only file system" in caplog.text
    world.pass_time()
    assert world.monitor and "Read-only file system" in world.monitor.status()
    world.disk.crasher.full = None
    world.pass_time(RETRY_S)
    assert "Read-only" not in world.monitor.status()
    world.begin()
    assert world.reports() == {U: 1}


# Life


def test_a_quiet_host_writes_nothing() -> None:
    world = house(U)
    calls = world.crasher.calls
    for _ in range(100):
        world.pass_time()
    assert world.crasher.calls == calls


def test_many_changes_are_one_write_within_a_second() -> None:
    world = house(U)
    calls = world.crasher.calls
    for _ in range(4):
        world.tell(world.event(U, 5, 1), world.event(U, 2, 0))
    assert world.crasher.calls == calls
    world.pass_time(1.0)
    assert world.crasher.calls == calls + 1


def test_the_status_tells_how_many_are_watched() -> None:
    world = house(U, V)
    world.stop(V)
    assert world.monitor and world.monitor.status() == "2 instances watched, 1 of them running"
    world.tell(Lost(world.clock.at, "gone"))
    assert world.monitor.status() == "2 instances known, 1 of them running"
    assert (single := house(U).monitor) and single.status() == "1 instance watched, 1 of them running"


def test_it_tells_that_messages_were_dropped_and_where_to_look(caplog: pytest.LogCaptureFixture) -> None:
    world = house(U)
    world.tell(Dropped(world.clock.at, 10_000))
    assert "10000 messages" in caplog.text and world.disk.path in caplog.text


def test_a_hang_in_its_first_turn_is_noticed_too() -> None:
    world = house(U)
    world.spool.crasher = Crasher()
    world.spool.crasher.full = OSError(28, "No space left on device")
    world.kill(U)
    world.monitor = None
    monitor, beaten = world.make(), world.beats
    world.spool.crasher = Hang(lambda: world.beats > beaten)
    stopping = threading.Event()
    stopping.set()
    monitor.run(stopping)
    assert world.spool.crasher.noticed


def test_it_shows_that_it_lives_and_ends_when_told_to_with_everything_written() -> None:
    world = house(U)
    assert world.monitor
    stopping, before = threading.Event(), world.beats
    thread = threading.Thread(target=world.monitor.run, args=(stopping,), daemon=True)
    thread.start()
    world.inbox.put(world.event(V, 2, 0))
    stopping.set()
    thread.join(10)
    assert not thread.is_alive() and world.beats > before
    assert set(decode(world.disk.data).records) == {U, V}
