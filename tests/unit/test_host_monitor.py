"""The hostmonitor's thread on a simulated cluster: who is reported, with which proof, how often, and that nobody else is."""

from __future__ import annotations

import calendar
import copy
import heapq
import itertools
import json
import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hostmonitor.cluster import Segment
from hostmonitor.config import Environments, Settings
from hostmonitor.ledger import State
from hostmonitor.model import BY_HAND, FenceEvent, View
from hostmonitor.monitor import IDLE_S, Answered, Message, Monitor, Poke, World
from hostmonitor.power import Bmc, Reading
from hostmonitor.prover import Read
from hostmonitor.state import StateFile, decode, encode
from masakari.common.clock import Clock
from masakari.common.errors import ConfigError, Unavailable
from masakari.common.monitor_config import Identity
from masakari.common.notification import parse
from masakari.common.outbox import RETRY_S
from masakari.common.report import Origin
from tests.unit.crm_mon import cib, cluster, connection, crm_mon, member, remote

DATA = Path(__file__).resolve().parents[1] / "data" / "crm_mon"
PORT = "226.94.1.1:5405"
NODES = ("node1", "node2", "node3")
TOLERANCE_S = 15.0
GUID = "4c4c4544-0051-3610-8052-b4c04f4e3132"

UP = {"online": True, "unclean": False, "pending": False, "standby": False, "shutdown": False, "expected_up": True}
LOST = {**UP, "unclean": True}
UNCLEAN = {**UP, "online": False, "unclean": True}
GONE = {**UP, "online": False}
DOWN = {**UP, "online": False, "expected_up": False}
JOINING = {**UP, "pending": True, "standby": True, "expected_up": False}


class Died(BaseException):
    """The process was killed at this very call."""


class Begun(BaseException):
    """The thread is about to take its first step."""


class NotYet(threading.Event):
    """Leaves Monitor.run() before its first step: the test makes the steps."""

    def is_set(self) -> bool:
        raise Begun


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


class Disk(StateFile):
    """The state file, in memory."""

    def __init__(self, crasher: Crasher) -> None:
        super().__init__("/var/lib/masakari/hostmonitor/state.json")
        self.crasher = crasher
        self.data = b""

    def load(self) -> State:
        return decode(self.data) if self.data else State()

    def save(self, state: State) -> None:
        data = encode(state)
        self.crasher.call(lambda: setattr(self, "data", data))


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


class Inbox(queue.SimpleQueue[Message]):
    """Waiting for a message lets time pass, and happen what is to happen meanwhile."""

    def __init__(self, world: House) -> None:
        self.world = world

    def get(self, block: bool = True, timeout: float | None = None) -> Message:
        assert timeout is not None and timeout > 0, "waits for ever"
        self.world.let_pass(timeout)
        return super().get_nowait()


class Spool:
    """Reports that wait, and every one that was ever put; the sender takes them from here."""

    def __init__(self, world: House) -> None:
        self.world = world
        self.bodies: dict[str, dict[str, Any]] = {}
        self.waiting: set[str] = set()

    def put(self, body: Mapping[str, Any]) -> None:
        report_id = str(body["id"])
        assert self.bodies.get(report_id, body) == body, "a repeat is the same report"
        parse(json.dumps(body).encode(), self.world.clock.at)
        self.world.crasher.call(lambda: self._keep(report_id, copy.deepcopy(dict(body))))

    def _keep(self, report_id: str, body: dict[str, Any]) -> None:
        self.bodies[report_id] = body
        if report_id not in self.waiting:
            self.waiting.add(report_id)
            self.world.later(0.05, lambda: self.world.deliver(report_id))

    def holds(self, report_id: str) -> bool:
        return report_id in self.waiting


class House:
    """A cluster of three, seen from node1, with everything around the monitor there: it is its own pacemaker and prover.

    power: what the BMC of a node says: "on", "off" or "silent". answer: what the controller says of a recovery; None while it is
    away, "refused" when it does not want the report. trouble: what is wrong with this node itself.
    """

    def __init__(self, **environments: Any) -> None:
        self.clock: Time = Time()
        self.crasher = Crasher()
        self.disk, self.spool = Disk(self.crasher), Spool(self)
        self.settings = Settings(
            identity=Identity("compute1", "", "", ""),
            environments=Environments(
                **{"nova_hosts": tuple(f"node{n}=compute{n}" for n in (1, 2, 3)), **environments}
            ),
        )
        self.view: View = cluster()
        self.bmcs = {name: f"10.0.0.{name[-1]}" for name in NODES}
        self.power = dict.fromkeys(NODES, "on")
        self.read_takes_s = 0.4
        self.answer: str | None = "held"
        self.trouble_now = ""
        self.guid = ""
        self.shown: Callable[[], str] | None = None
        self.segment_found: Callable[[], Segment] = lambda: Segment(PORT, "the test")
        self.looks: list[float] = []
        self.asked: list[tuple[float, str]] = []
        self.delivered: list[dict[str, Any]] = []
        self.steps = self.starts = 0
        self.monitor: Monitor | None = None
        self.inbox: Inbox = Inbox(self)
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()

    # Time

    def later(self, seconds: float, act: Callable[[], object]) -> None:
        heapq.heappush(self._due, (self.clock.up + seconds, next(self._order), act))

    def let_pass(self, seconds: float) -> None:
        """Until something comes into the inbox, at most so long."""
        until = self.clock.up + seconds
        while self.inbox.empty() and self._due and self._due[0][0] <= until:
            at, _, act = heapq.heappop(self._due)
            self.clock.go_on(max(0.0, at - self.clock.up))
            act()
        if self.inbox.empty():
            self.clock.go_on(max(0.0, until - self.clock.up))

    def run(self, seconds: float) -> None:
        """Let the monitor work for so long, if it runs. It never spins."""
        until, begun, idle = self.clock.up + seconds, self.steps, 0
        while self.clock.up < until:
            if not self.monitor:
                self.let_pass(until - self.clock.up)
                continue
            before = self.clock.up
            self.step(min(IDLE_S, until - self.clock.up))
            idle = idle + 1 if self.clock.up == before else 0
            assert idle < 30, f"a busy loop: {self.monitor and self.monitor.status()}"
            assert self.steps - begun < 100 + 50 * seconds, "all but a busy loop"

    def step(self, wait_s: float) -> None:
        assert self.monitor
        self.steps += 1
        try:
            self.monitor.step(wait_s)
        except Died:
            self.start()

    # The monitor

    def start(self) -> Monitor:
        """Another process."""
        self.starts += 1
        self.crasher.die_at = -1
        self.inbox = Inbox(self)
        world = World(
            pacemaker=cast(Any, self),
            own_state=self,
            prover=self,
            spool=self.spool,
            settings=lambda: self.settings,
            origin=lambda: Origin("compute1", "RegionOne", "", "boot-1"),
            segment=lambda: self.segment_found(),
            own_guid=lambda: self.guid,
            clock=self.clock,
            wake_sender=lambda: None,
            beat=lambda: None,
        )
        self.monitor = Monitor(self.inbox, self.disk, world)
        try:
            self.monitor.run(NotYet())
        except Begun:
            return self.monitor
        except Died:
            return self.start()
        raise AssertionError("it ended")

    def kill(self) -> None:
        self.monitor, self.inbox = None, Inbox(self)

    def poke(self) -> None:
        if self.monitor:
            self.inbox.put(Poke("node"))

    def set_options(self, **environments: Any) -> None:
        self.settings = replace(self.settings, environments=replace(self.settings.environments, **environments))

    # What the monitor asks

    def status(self) -> str:
        self.looks.append(self.clock.up)
        text = self.shown() if self.shown else crm_mon(self.view)
        self.clock.go_on(0.03)
        return text

    def cib(self) -> str:
        return cib(self.view, self.bmcs)

    def node_name(self) -> str:
        return self.view.own

    def trouble(self, view: View) -> str:
        return self.trouble_now

    def ask(self, node: str, bmcs: Sequence[Bmc], timeout_s: float) -> None:
        self.asked.append((self.clock.up, node))
        inbox, began_at = self.inbox, self.clock.at
        self.later(self.read_takes_s, lambda: inbox.put(Read(node, (self._reading(node, bmcs[0], began_at),))))

    def _reading(self, node: str, bmc: Bmc, began_at: float) -> Reading:
        state = self.power[node]
        if state == "silent":
            return Reading(bmc, "", self.clock.at, f"{bmc.name} does not answer", again=True)
        return Reading(bmc, state, began_at if state == "off" else self.clock.at)

    def deliver(self, report_id: str) -> None:
        if self.answer is None or not self.monitor:
            self.later(1.0, lambda: self.deliver(report_id))
            return
        self.spool.waiting.discard(report_id)
        if self.answer == "refused":
            return
        body = self.spool.bodies[report_id]
        self.delivered.append(body)
        if "evidence" in body:
            self.inbox.put(Answered(body["pacemaker_name"], report_id, "7" if self.answer else "", self.answer))

    # The cluster

    def set(self, name: str, *states: Mapping[str, Any], **flags: Any) -> None:
        """A node changes. Pacemaker says nothing."""
        changed = {key: value for state in states for key, value in state.items()} | flags
        nodes = tuple(replace(node, **changed) if node.name == name else node for node in self.view.nodes)
        self.view = replace(self.view, nodes=nodes)

    def fence(
        self, name: str, action: str = "off", status: str = "success", at: float | None = None, by: str = "node2"
    ) -> None:
        """A line more of the fencing history; what was under way is no more."""
        done = None if status == "pending" else float(int(self.clock.at if at is None else at))
        event = FenceEvent(name, action, status, done, by, "pacemaker-controld.30", "node2")
        others = [one for one in self.view.fence_events if (one.target, one.status) != (name, "pending")]
        self.view = replace(self.view, fence_events=(event, *others))

    def crash(self, name: str = "node3", action: str = "off") -> None:
        """A node dies and is fenced, as it goes on a real cluster; each change is told by an alert."""
        self.change(name, LOST, 0.7)
        self.change(name, UNCLEAN, 0.5)
        self.fence(name, action, "pending")
        self.run(0.7)
        self.power[name] = "off" if action == "off" else "on"
        self.fence(name, action)
        self.change(name, DOWN if action == "off" else JOINING, 3.0)

    def change(self, name: str, state: Mapping[str, Any], seconds: float = 3.0) -> None:
        self.set(name, state)
        self.poke()
        self.run(seconds)

    # What came of it

    def reports(self, node: str = "node3") -> list[dict[str, Any]]:
        return [one for one in self.spool.bodies.values() if one["pacemaker_name"] == node and "evidence" in one]

    def returns(self, node: str = "node3") -> list[dict[str, Any]]:
        return [
            one
            for one in self.spool.bodies.values()
            if one["pacemaker_name"] == node and "evidence" not in one and "boot_id" not in one
        ]

    def declarations(self) -> list[dict[str, Any]]:
        return [one for one in self.spool.bodies.values() if "boot_id" in one]

    def others(self) -> list[dict[str, Any]]:
        """All reports but the declarations."""
        return [one for one in self.spool.bodies.values() if "boot_id" not in one]

    def details(self, node: str = "node3") -> str:
        """The details of all reports about a node, in their order."""
        return "".join(one["detail"] for one in self.reports(node))

    def told(self) -> str:
        assert self.monitor
        return self.monitor.status()


def kinds(body: Mapping[str, Any]) -> list[str]:
    return [entry["kind"] for entry in body["evidence"]]


def unix(text: str) -> float:
    return float(calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ")))


def house(**environments: Any) -> House:
    """A monitor that has watched a healthy cluster for a while."""
    world = House(**environments)
    world.start()
    world.run(120)
    assert len(world.declarations()) == 1 and world.others() == []
    return world


def unfenced(**environments: Any) -> House:
    """The same where pacemaker fences nobody."""
    world = house(**environments)
    world.view = replace(world.view, stonith_enabled=False)
    return world


# A crash with fencing


def test_a_crash_is_reported_and_its_fencing_told_at_once() -> None:
    world = house()
    world.set("node3", LOST)
    world.poke()
    world.run(0.7)
    assert world.others() == [], "online and unclean is wait"
    world.change("node3", UNCLEAN, 0.3)
    assert world.others() == [], "one look is none"
    seen_at = world.clock.at
    world.fence("node3", "off", "pending")
    world.run(4)
    assert world.details() == "3" and kinds(world.reports()[0]) == ["power_on"], "the BMC says on after a panic"
    fenced_at = world.clock.at
    world.power["node3"] = "off"
    world.fence("node3")
    world.change("node3", DOWN, 0.2)
    assert world.details() == "32" and kinds(world.reports()[1]) == ["fenced"]
    first, second = world.reports()
    assert first["id"] != second["id"]
    assert (second["type"], second["eventID"], second["eventType"]) == ("rscGroup", "1", "2")
    assert (second["hostname"], second["pacemaker_name"], second["observer"]) == ("compute3", "node3", "compute1")
    assert second["cluster_port"] == PORT
    assert abs(unix(second["evidence"][0]["at"]) - fenced_at) <= 1
    assert seen_at - 62 < unix(second["last_alive"]) < seen_at, "the last look at which it was well"


def test_a_crash_whose_bmc_is_unknown_is_reported_without_proof_first() -> None:
    world = house()
    world.bmcs = {}
    world.change("node3", UNCLEAN, 4)
    (body,) = world.reports()
    assert body["detail"] == "4" and kinds(body) == ["unknown"] and "no BMC is known" in body["evidence"][0]["detail"]
    assert world.asked == []
    world.fence("node3")
    world.change("node3", DOWN)
    assert world.details() == "42" and "fenced" in kinds(world.reports()[1])


def test_a_fencing_that_succeeded_counts_at_the_first_look() -> None:
    world = house()
    world.fence("node3")
    world.change("node3", DOWN, 0.1)
    assert world.details() == "2" and kinds(world.reports()[0]) == ["fenced"]


def test_a_confirmation_by_hand_is_a_fencing_and_says_whose_word_it_is() -> None:
    world = house()
    world.change("node3", UNCLEAN, 4)
    world.fence("node3", by=BY_HAND)
    world.change("node3", DOWN, 0.2)
    assert world.details() == "32"
    assert "by hand" in world.reports()[1]["evidence"][0]["detail"]


def test_a_fencing_by_reboot_of_a_node_that_never_reads_offline_is_the_failure_and_told_once() -> None:
    world = house()
    world.fence("node3", "reboot")
    world.change("node3", UP, 30)
    (body,) = world.reports()
    assert body["detail"] == "2" and kinds(body) == ["fenced"] and "may be up again" in body["evidence"][0]["detail"]
    assert world.asked == [], "its power is on, and says nothing about its guests"
    (back,) = world.returns()
    assert (back["eventID"], back["eventType"], back["detail"], back["hostname"]) == ("1", "1", "1", "compute3")
    assert back["observer"] == "compute1" and "bmc_guid" not in back
    for _ in range(10):
        world.poke()
        world.run(30)
    world.start()
    world.run(300)
    assert len(world.reports()) == len(world.returns()) == 1, "the same fencing is never counted twice"


def test_a_whole_reboot_by_fencing_makes_one_proven_failure_and_one_return() -> None:
    world = house()
    world.crash(action="reboot")
    assert world.details() in ("2", "32")
    assert kinds(world.reports()[-1]) == ["fenced"], "that its power is on says nothing"
    world.change("node3", UP, 400)
    assert len(world.returns()) == 1
    world.crash()
    assert len(world.reports()) >= 2 and world.reports()[-1]["detail"] == "2"
    world.change("node3", UP)
    assert len(world.returns()) == 2


def test_an_old_fencing_proves_nothing_about_a_new_failure() -> None:
    world = house()
    world.crash()
    world.change("node3", UP, 2)
    known = len(world.reports())
    world.power["node3"] = "silent"
    world.change("node3", UNCLEAN, 300)
    assert set(world.details()[known:]) == {"4"}
    assert all(kinds(body) in ([], ["unknown"]) for body in world.reports()[known:])


def test_a_failed_fencing_is_no_proof() -> None:
    world = house()
    world.power["node3"] = "silent"
    world.change("node3", UNCLEAN, 1)
    for _ in range(3):
        world.fence("node3", status="failed")
        world.poke()
        world.run(20)
    assert set(world.details()) == {"4"}


def test_the_fence_history_missing_for_one_look_makes_no_new_failure() -> None:
    world = house()
    world.crash(action="reboot")
    world.change("node3", UP, 2)
    told = len(world.reports())
    world.shown = lambda: crm_mon(world.view, history=False)
    world.poke()
    world.run(0.05)
    world.shown = None
    world.poke()
    world.run(5)
    assert len(world.reports()) == told and len(world.returns()) == 1


# Samples


def torn() -> View:
    """After a partition: the majority sees the node that returns as DC, and a healthy node offline."""
    return cluster(member("node2", online=False), dc="node3")


def test_one_torn_view_after_a_partition_reports_nothing() -> None:
    world = house()
    well, world.view = world.view, torn()
    world.poke()
    world.run(0.2)
    world.view = well
    world.run(120)
    assert world.others() == []


def test_alerts_do_not_make_two_samples_of_one_torn_view() -> None:
    world = house()
    world.bmcs = {}
    well, world.view = world.view, torn()
    for _ in range(5):
        world.poke()
        world.run(0.05)
    world.view = well
    world.run(120)
    assert world.others() == [], "looks that count are half a second apart, however often it is poked"


def test_doubt_in_between_begins_the_samples_anew() -> None:
    world = unfenced(monitoring_samples=3)
    for _ in range(5):
        world.view = cluster(member("node3", **GONE), stonith_enabled=False)
        world.poke()
        world.run(0.6)
        world.view = cluster(member("node3", **GONE), stonith_enabled=False, dc="")
        world.poke()
        world.run(0.2)
    assert world.others() == []
    world.view = cluster(member("node3", **GONE), stonith_enabled=False)
    world.poke()
    world.run(4)
    assert len(world.reports()) == 1


@pytest.mark.parametrize("samples", [1, 2, 5])
def test_so_many_looks_make_a_failure(samples: int) -> None:
    world = unfenced(monitoring_samples=samples)
    world.set("node3", GONE)
    world.poke()
    world.run(max(0.05, (samples - 1) * 0.5 - 0.2))
    assert samples == 1 or "failed" not in world.told()
    world.run(0.7)
    assert "node3 failed" in world.told()


# Starting


@pytest.mark.parametrize("state", [UNCLEAN, GONE, DOWN, JOINING, LOST])
def test_what_the_first_view_ever_shows_is_only_recorded(state: Mapping[str, Any]) -> None:
    world = House()
    world.set("node3", state)
    world.fence("node3", at=world.clock.at - 5)
    world.start()
    world.run(200)
    assert world.others() == []
    world.change("node3", UP, 60)
    assert world.others() == [], "nobody was told that it was down"
    world.crash()
    assert world.reports()[-1]["detail"] == "2", "from now on it counts"


def test_a_node_that_died_while_the_monitor_was_away_is_reported() -> None:
    world = house()
    alive_at = world.clock.at
    world.kill()
    world.run(300)
    world.set("node3", UNCLEAN)
    world.power["node3"] = "off"
    world.run(300)
    world.start()
    world.run(3)
    assert world.details() == "2" and kinds(world.reports()[0]) == ["power_off"]
    assert alive_at - 65 <= unix(world.reports()[0]["last_alive"]) <= alive_at


def test_a_node_that_was_fenced_while_the_monitor_was_away_is_reported_with_that_proof() -> None:
    world = house()
    world.kill()
    world.run(30)
    fenced_at = world.clock.at
    world.fence("node3", "reboot")
    world.run(30)
    world.start()
    world.run(5)
    assert world.details() == "2" and abs(unix(world.reports()[0]["evidence"][0]["at"]) - fenced_at) <= 1
    assert len(world.returns()) == 1


def story(world: House) -> None:
    world.crash()
    world.run(70)
    world.answer = "finished"
    world.run(70)
    world.change("node3", UP, 3)
    world.view = replace(world.view, dc="node1")
    world.change("node2", UNCLEAN, 5)


def test_wherever_the_process_is_killed_the_failures_are_reported() -> None:
    calm = house()
    before = calm.crasher.calls
    story(calm)
    for die_at in range(1, calm.crasher.calls - before + 1):
        for after in (False, True):
            world = house()
            world.crasher.die_at, world.crasher.after = world.crasher.calls + die_at, after
            story(world)
            world.run(5)
            case = (die_at, after, world.starts)
            assert world.starts == 2, case
            assert len(world.returns()) == 1, case
            assert "2" in world.details() and world.details("node2") in ("3", "33"), case
            assert len(world.reports()) <= len(calm.reports()) + 1, case
            assert decode(world.disk.data).pending == {}, case


def test_a_report_that_is_still_to_be_put_is_not_made_again_by_a_restart() -> None:
    world = house()
    world.answer, world.read_takes_s = None, 1000.0
    world.crasher.full = OSError(28, "No space left on device")
    world.disk.crasher = Crasher()
    world.fence("node3")
    world.change("node3", DOWN, 1)
    assert world.reports() == []
    world.start()
    world.run(2)
    world.crasher.full = None
    world.run(RETRY_S + 1)
    assert [kinds(body)[0] for body in world.reports()] == ["fenced"]


# BMCs


def test_power_off_is_proof() -> None:
    world = house()
    world.power["node3"] = "off"
    world.change("node3", UNCLEAN, 1.5)
    assert world.details() == "2" and kinds(world.reports()[0]) == ["power_off"]
    assert unix(world.reports()[0]["evidence"][0]["at"]) > unix(world.reports()[0]["last_alive"])


def test_power_that_goes_off_between_two_readings_is_told_at_once() -> None:
    world = house(ipmi_retry_interval=10.0)
    world.change("node3", UNCLEAN, 5)
    assert world.details() == "3"
    world.power["node3"] = "off"
    world.run(11)
    assert world.details() == "32" and kinds(world.reports()[1]) == ["power_off"]


def test_a_silent_bmc_is_unknown_and_asked_again_within_the_retries() -> None:
    world = house(ipmi_retry_max=2, ipmi_retry_interval=10.0, monitor_interval=60.0)
    world.power["node3"] = "silent"
    world.read_takes_s = 5.0
    world.change("node3", UNCLEAN, 50)
    assert len(world.asked) == 3
    assert set(world.details()) == {"4"} and len(world.reports()) == 2, "after 2 s, and what the retries brought"
    assert "does not answer" in world.reports()[1]["evidence"][0]["detail"]


def test_power_on_just_before_the_fencing_in_the_same_second_does_not_refute_it() -> None:
    world = house()
    world.clock.go_on(1 - world.clock.at % 1)
    world.change("node3", UNCLEAN, 4)
    world.clock.go_on(60 - world.clock.up % 60)
    assert world.details()[0] == "3"
    world.fence("node3", at=world.clock.at)
    world.power["node3"] = "off"
    world.change("node3", DOWN, 0.2)
    assert world.reports()[-1]["detail"] == "2"


def test_power_on_after_a_fencing_refutes_it() -> None:
    world = house()
    world.fence("node3")
    world.change("node3", DOWN, 5)
    assert world.details() == "23" and kinds(world.reports()[1]) == ["fenced", "power_on"]


def test_observers_ask_the_bmc_one_after_the_other() -> None:
    moments = []
    for own in ("node1", "node3"):
        world = house()
        world.view = replace(world.view, own=own)
        world.monitor = None
        world.disk.data = b""
        world.start()
        world.run(100)
        began = world.clock.up
        world.view = replace(world.view, dc=own)
        world.change("node2", UNCLEAN, 4)
        moments.append(world.asked[0][0] - began)
    assert moments[1] - moments[0] == pytest.approx(0.3, abs=0.06)


@pytest.mark.parametrize("options", [{"disable_ipmi_check": True}, {"stonith_type": "ssh"}])
def test_who_asks_no_bmc_claims_detail_2_without_evidence(options: dict[str, Any]) -> None:
    world = house(**options)
    world.change("node3", UNCLEAN, 5)
    assert world.asked == [] and world.details() == "2" and world.reports()[0]["evidence"] == []


def test_a_reading_that_was_begun_before_the_node_was_last_alive_proves_nothing() -> None:
    world = unfenced()
    world.read_takes_s = 2.9
    world.power["node3"] = "off"
    world.change("node3", GONE, 1.0)
    assert len(world.asked) == 1
    world.change("node3", UP, 0.5)
    world.change("node3", GONE, 20)
    for body in world.reports():
        for entry in body["evidence"]:
            assert entry["kind"] != "power_off" or unix(entry["at"]) >= unix(body["last_alive"]), body


# Following


@pytest.mark.parametrize("status", ["new", "running", "held"])
def test_while_the_controller_can_use_it_evidence_is_sent_every_interval(status: str) -> None:
    world = house(monitor_interval=30.0)
    world.answer = status
    world.power["node3"] = "off"
    world.change("node3", UNCLEAN, 300)
    assert 9 <= len(world.reports()) <= 11 and set(world.details()) == {"2"}
    at = [unix(body["evidence"][0]["at"]) for body in world.reports()]
    assert min(later - earlier for earlier, later in itertools.pairwise(at)) >= 29


def test_nothing_is_sent_again_before_the_last_report_is_delivered() -> None:
    world = house(monitor_interval=10.0)
    world.power["node3"] = "off"
    world.answer = None
    world.change("node3", UNCLEAN, 200)
    assert len(world.reports()) == 1
    world.answer = "held"
    world.run(25)
    assert 2 <= len(world.reports()) <= 5


@pytest.mark.parametrize("status", ["finished", "failed", "ignored", "cancelled", "", "refused"])
def test_when_the_controller_has_no_more_use_for_it_nothing_is_sent(status: str) -> None:
    world = house(monitor_interval=10.0)
    world.answer = status
    world.power["node3"] = "off"
    world.change("node3", UNCLEAN, 300)
    assert world.details() == "2"


@pytest.mark.parametrize("status", ["failed", "ignored", "refused"])
def test_new_proof_of_an_unproven_failure_is_still_told(status: str) -> None:
    world = house(monitor_interval=10.0, ipmi_retry_max=0)
    world.answer = status
    world.change("node3", UNCLEAN, 100)
    assert world.details() == "3"
    world.power["node3"] = "off"
    world.run(30)
    assert world.details() == "32"
    world.run(300)
    assert world.details() == "32"


def test_a_fencing_of_an_unproven_failure_is_told_whatever_the_controller_said() -> None:
    world = house()
    world.answer = "cancelled"
    world.change("node3", UNCLEAN, 100)
    world.power["node3"] = "off"
    world.fence("node3")
    world.change("node3", DOWN, 200)
    assert world.details() == "32"


def test_after_a_restart_an_unanswered_report_is_made_once_more() -> None:
    world = house(monitor_interval=10.0)
    world.power["node3"] = "off"
    world.answer = "refused"
    world.change("node3", UNCLEAN, 100)
    assert len(world.reports()) == 1
    world.start()
    world.run(100)
    assert len(world.reports()) == 2 and world.details() == "22"
    world.answer = "finished"
    world.start()
    world.run(100)
    assert len(world.reports()) == 3
    world.start()
    world.run(100)
    assert len(world.reports()) == 3, "it was answered"


def test_a_report_that_waits_is_not_made_again_by_a_restart() -> None:
    world = house()
    world.power["node3"] = "off"
    world.answer = None
    world.change("node3", UNCLEAN, 5)
    world.start()
    world.run(100)
    assert len(world.reports()) == 1


# Back


def test_a_return_is_reported_only_of_a_failure_that_was() -> None:
    world = unfenced(ipmi_retry_max=0)
    world.read_takes_s = 10.0
    world.change("node3", GONE, 1.0)
    assert "node3 failed" in world.told() and world.reports() == []
    world.change("node3", UP, 100)
    assert world.others() == []


def test_a_node_that_flaps_is_reported_down_and_up_in_turn() -> None:
    world = unfenced()
    for times in range(1, 6):
        world.power["node3"] = "off"
        world.change("node3", GONE, 5)
        world.power["node3"] = "on"
        world.change("node3", UP, 5)
        assert (len(world.reports()), len(world.returns())) == (times, times)
    order = [one["eventType"] for one in world.others()]
    assert order == ["2", "1"] * 5


# Planned, and in doubt


PLANNED: dict[str, list[dict[str, Any]]] = {
    "clean stop": [{**UP, "shutdown": True, "expected_up": False}, DOWN],
    "clean stop with corosync on": [{**UP, "shutdown": True, "expected_up": False}, JOINING, DOWN],
    "clean stop at once": [DOWN],
    "standby": [{**UP, "standby": True}, {**DOWN, "standby": True}],
    "died in standby": [{**UP, "standby": True}, {**UNCLEAN, "standby": True}],
    "died in maintenance": [{**UP, "maintenance": True}, {**UNCLEAN, "maintenance": True}],
    "just lost sight of": [LOST],
    "joins": [JOINING, UP],
}


@pytest.mark.parametrize("states", PLANNED.values(), ids=PLANNED)
@pytest.mark.parametrize("stonith", [True, False])
def test_what_is_planned_is_silent(states: list[dict[str, Any]], stonith: bool) -> None:
    world = house()
    world.view = replace(world.view, stonith_enabled=stonith)
    for state in states:
        world.change("node3", state, 100)
        world.start()
        world.run(10)
    world.change("node3", {**UP, "maintenance": False}, 100)
    assert world.others() == []


DOUBTFUL: dict[str, View] = {
    "maintenance-mode": cluster(member("node3", **GONE), maintenance_mode=True),
    "no quorum": cluster(member("node3", **GONE), quorate=False),
    "quorum is not told": cluster(member("node3", **GONE), quorate=None),
    "no DC": cluster(member("node3", **GONE), dc=""),
    "own node offline": cluster(member("node3", **GONE), member("node1", online=False)),
    "own node unclean": cluster(member("node3", **GONE), member("node1", unclean=True)),
    "own node pending": cluster(member("node3", **GONE), member("node1", pending=True)),
    "alone": cluster(member("node3", **GONE), member("node2", **GONE), dc="node1"),
    "pacemaker stops": cluster(member("node3", **GONE), pacemakerd="shutting_down"),
}


@pytest.mark.parametrize("view", DOUBTFUL.values(), ids=DOUBTFUL)
def test_in_doubt_nothing_is_reported_and_the_status_says_so(view: View, caplog: pytest.LogCaptureFixture) -> None:
    world = house()
    well, world.view = world.view, replace(view, fence_events=())
    world.poke()
    world.run(200)
    assert world.others() == [] and world.told().startswith("nothing is reported")
    assert caplog.text.count("nothing is reported for now") == 1
    world.view = well
    world.poke()
    world.run(100)
    assert world.others() == [] and "nothing is reported" not in world.told()


@pytest.mark.parametrize("stonith", [False, True])
def test_a_crash_that_reads_as_a_clean_stop_is_reported_if_something_ran_there_still(stonith: bool) -> None:
    world = house()
    world.view = replace(world.view, stonith_enabled=stonith)
    world.set("node3", busy=True)
    world.change("node3", DOWN, 5)
    assert len(world.reports()) == 1 and world.reports()[0]["detail"] == "3"


def test_while_the_own_node_is_in_trouble_nothing_is_reported_and_later_it_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world = house()
    world.trouble_now = "the heartbeat line of this node is silent"
    world.set("node3", UNCLEAN)
    world.poke()
    world.run(0.7)
    for _ in range(60):
        world.run(0.9)
        assert "nothing is reported: the heartbeat line of this node is silent" in world.told()
    assert world.others() == []
    assert caplog.text.count("nothing is reported for now") == 1, "said once, as long as it lasts"
    world.trouble_now = ""
    world.run(10)
    assert len(world.reports()) == 1


def test_a_fencing_seen_while_the_own_node_is_in_trouble_counts_later() -> None:
    world = house()
    world.trouble_now = "corosync on this node has no quorum"
    world.fence("node3", "reboot")
    world.change("node3", UP, 30)
    assert world.others() == []
    world.trouble_now = ""
    world.run(70)
    assert world.details() == "2" and len(world.returns()) == 1


# Remotes


def with_remote(**flags: Any) -> House:
    world = House(**flags)
    world.view = cluster(remote("remote1"), resources=(connection("remote1", "node2"),))
    world.bmcs["remote1"] = "10.0.0.9"
    world.power["remote1"] = "off"
    world.start()
    world.run(100)
    return world


def lose_remote(world: House) -> None:
    world.set("remote1", online=False, unclean=True)
    world.view = replace(world.view, resources=(connection("remote1", failed=True),))
    world.poke()


@pytest.mark.parametrize("only", [False, True])
def test_a_remote_that_died_is_reported(only: bool) -> None:
    world = with_remote(restrict_to_remotes=only)
    lose_remote(world)
    world.run(3)
    assert world.details("remote1") == "2" and world.reports("remote1")[0]["hostname"] == "remote1"


def test_restricted_to_remotes_no_full_member_is_reported() -> None:
    world = with_remote(restrict_to_remotes=True)
    world.crash()
    world.change("node3", UP)
    world.crash(action="reboot")
    world.change("node3", UP, 100)
    assert world.others() == []


def test_a_restriction_that_is_lifted_does_not_report_what_is_long_over() -> None:
    world = with_remote(restrict_to_remotes=True)
    world.fence("node3", "reboot")
    world.change("node3", UP, 3600)
    world.set_options(restrict_to_remotes=False)
    world.poke()
    world.run(100)
    assert world.others() == [], "the node is up, and has been for an hour"


def test_a_remote_whose_connection_is_stopped_on_purpose_is_silent() -> None:
    world = with_remote()
    world.set("remote1", online=False)
    world.view = replace(world.view, resources=(connection("remote1", target_role="Stopped"),))
    world.poke()
    world.run(200)
    assert world.others() == []


def test_a_guest_is_no_host() -> None:
    world = house()
    world.view = cluster(remote("guest1", kind="guest"))
    world.poke()
    world.run(10)
    world.change("guest1", {"online": False, "unclean": True}, 100)
    world.fence("guest1")
    world.poke()
    world.run(100)
    assert world.others() == []


# Declaring


@pytest.mark.parametrize("guid", ["", GUID])
def test_at_start_a_host_tells_once_which_boot_and_which_bmc_are_its_own(guid: str) -> None:
    world = House()
    world.guid = guid
    world.start()
    world.run(1000)
    (body,) = world.declarations()
    assert (body["hostname"], body["pacemaker_name"], body["boot_id"]) == ("compute1", "node1", "boot-1")
    assert body.get("bmc_guid", "") == guid and body["cluster_port"] == PORT
    assert (body["eventID"], body["eventType"], body["detail"]) == ("1", "1", "1")
    world.start()
    world.run(100)
    assert len(world.declarations()) == 2


@pytest.mark.parametrize(
    "error", [Unavailable("corosync does not answer"), ConfigError(["nothing names this cluster"])]
)
def test_nothing_is_declared_or_reported_before_the_segment_is_known(error: Exception) -> None:
    world = House()

    def unknown() -> Segment:
        raise error

    world.segment_found = unknown
    world.start()
    world.run(200)
    assert world.spool.bodies == {} and str(error) in world.told()
    world.segment_found = lambda: Segment(PORT, "the test")
    world.run(70)
    assert len(world.declarations()) == 1 and world.declarations()[0]["cluster_port"] == PORT


def test_who_was_cut_off_declares_itself_again_and_once_more_for_an_observer_that_reports_late() -> None:
    world = house()
    for times in (3, 5):
        world.view = cluster(quorate=False)
        world.poke()
        world.run(50)
        assert len(world.declarations()) == times - 2
        world.view = cluster()
        world.poke()
        world.run(500)
        assert len(world.declarations()) == times


def test_when_pacemaker_was_away_a_host_declares_itself_again() -> None:
    world = house()
    world.shown = lambda: failing(Unavailable("crm_mon: no connection to the cluster"))
    world.run(100)
    world.shown = None
    world.run(500)
    assert len(world.declarations()) == 3


def failing(error: Exception) -> str:
    raise error


# When it looks


def test_a_poke_makes_it_look_at_once() -> None:
    world = house()
    for _ in range(5):
        world.run(40)
        looks, at = len(world.looks), world.clock.up
        world.poke()
        world.step(0)
        assert len(world.looks) == looks + 1 and world.looks[-1] - at < 0.15


def test_a_flood_of_pokes_makes_at_most_ten_looks_a_second() -> None:
    world = house()
    looks, began = len(world.looks), world.clock.up
    for _ in range(1000):
        for _ in range(5):
            world.poke()
        world.run(0.01)
    assert 50 < len(world.looks) - looks <= 10 * (world.clock.up - began) + 1
    world.run(2)
    assert world.others() == []


@pytest.mark.parametrize("interval_s", [1.0, 10.0, 60.0])
def test_without_pokes_it_looks_every_interval(interval_s: float) -> None:
    world = house(monitor_interval=interval_s)
    world.run(200)
    looks = len(world.looks)
    world.run(20 * interval_s)
    assert 18 <= len(world.looks) - looks <= 20
    world.set("node3", UNCLEAN)
    world.run(interval_s + 3)
    assert len(world.reports()) == 1


def test_after_news_it_looks_soon_and_then_less_and_less_often() -> None:
    world = house()
    world.poke()
    began = len(world.looks)
    world.run(130)
    at = world.looks[began:]
    pauses = [later - earlier for earlier, later in itertools.pairwise(at)]
    assert pauses[0] < 0.5 and max(pauses) <= 60.1 and pauses == sorted(pauses) and len(at) < 15


def test_the_fencing_of_a_failure_is_found_soon_without_any_alert() -> None:
    world = house()
    world.power["node3"] = "silent"
    world.change("node3", UNCLEAN, 60)
    world.fence("node3")
    world.set("node3", DOWN)
    world.run(2.5)
    assert world.details()[-1] == "2" and "fenced" in kinds(world.reports()[-1])


def test_a_quiet_cluster_costs_a_look_and_a_write_each_interval() -> None:
    world = house()
    calls, steps, looks = world.crasher.calls, world.steps, len(world.looks)
    world.run(600)
    assert len(world.looks) - looks <= 10 and world.crasher.calls - calls <= 10 and world.steps - steps < 1300


def test_an_open_failure_after_a_restart_does_not_spin_while_the_segment_is_unknown() -> None:
    world = house()
    world.answer = "refused"
    world.change("node3", UNCLEAN, 5)
    world.segment_found = lambda: Segment(str(failing(Unavailable("corosync does not answer"))), "")
    world.start()
    world.run(100)
    world.segment_found = lambda: Segment(PORT, "the test")
    world.answer = "held"
    world.run(100)
    assert len(world.reports()) >= 2


# What crm_mon may do


@pytest.mark.parametrize(
    "text",
    ["", "\0" * 40, "<pacemaker-result>", "Error: cluster is not available on this node", "<html/>", "<cib/>"],
)
def test_nonsense_is_no_view_and_is_said_once(text: str, caplog: pytest.LogCaptureFixture) -> None:
    world = house()
    world.shown = lambda: text
    world.set("node3", GONE)
    for _ in range(10):
        world.poke()
        world.run(20)
    assert world.others() == [] and caplog.text.count("nothing is reported for now") == 1
    assert "nothing is reported" in world.told()
    world.shown = None
    world.run(70)
    assert len(world.reports()) >= 1, "the next cycle goes on"


def test_a_hung_crm_mon_is_said_once_and_does_not_stop_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    world = house()
    world.change("node3", UNCLEAN, 5)
    told = len(world.reports())

    def hangs() -> str:
        world.clock.go_on(10)
        raise Unavailable("crm_mon: no answer within 10 s")

    world.shown = hangs
    world.power["node3"] = "off"
    world.run(300)
    assert caplog.text.count("no answer within 10 s") == 1
    assert world.details()[told:].startswith("2"), "what is known is followed"


RECORDED = [path.read_text(encoding="utf-8") for path in sorted(DATA.glob("fence-0[1-7]*.crm_mon.xml"))]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(RECORDED), st.data())
def test_a_damaged_view_never_stops_the_monitor_and_a_cut_one_reports_nobody(text: str, data: st.DataObject) -> None:
    world = House()
    world.view = cluster(remote("remote1"))
    world.start()
    world.run(5)
    cut = data.draw(st.integers(0, len(text) - 1))
    if data.draw(st.booleans()):
        shown = text[: text.rindex("</pacemaker-result>") * cut // len(text)]
    else:
        shown = text[:cut] + data.draw(st.text(max_size=4)) + text[cut + data.draw(st.integers(0, 60)) :]
    whole = shown.rstrip().endswith("</pacemaker-result>")
    world.shown = lambda: shown
    world.poke()
    world.run(5)
    assert whole or world.others() == []
    assert all(one["pacemaker_name"] == "node3" for one in world.others())


# Recorded states, in the order in which they came about


def replay(world: House, *names: str) -> None:
    for name in names:
        text = (DATA / f"{name}.crm_mon.xml").read_text(encoding="utf-8")
        told = text.split('last_updated="')[1][:19]
        world.clock.at = max(world.clock.at, calendar.timegm(time.strptime(told, "%Y-%m-%d %H:%M:%S")) + 1.0)
        world.shown = lambda text=text: text  # type: ignore[misc]
        world.poke()
        world.run(1.2)


def recorded(first: str, **environments: Any) -> House:
    world = House(**environments)
    world.clock.at = calendar.timegm((2026, 11, 20, 18, 0, 0))
    world.start()
    replay(world, first)
    return world


def test_the_recorded_crash_with_fencing() -> None:
    world = recorded("fence-01-all-online-remote-online", disable_ipmi_check=False)
    world.bmcs = {}
    replay(world, "fence-02-crashed-unclean-fencing-pending")
    assert world.others() == []
    replay(world, "fence-03-fenced-offline")
    assert world.details() == "2" and kinds(world.reports()[0])[0] == "fenced"
    assert world.reports()[0]["hostname"] == "compute3"


def test_the_recorded_partition_says_nothing_on_the_side_that_is_cut_off() -> None:
    world = recorded("fence-01-all-online-remote-online")
    world.kill()
    world = House()
    world.view = cluster(own="node3")
    world.start()
    world.run(10)
    replay(world, "fence-09-partitioned-minority-side")
    world.run(100)
    assert world.others() == [] and "quorum" in world.told()


@pytest.mark.parametrize(
    ("names", "details"),
    [
        (("nofence-02-crashed-not-yet-noticed", "nofence-03-crashed-offline"), "3"),
        (("nofence-06-pacemaker-stopped-corosync-running", "nofence-07-corosync-stopped-too"), ""),
        (("nofence-08-partition-majority-side",), "3"),
        (
            (
                "nofence-10-standby-node2",
                "nofence-11-standby-node2-maintenance-node3",
                "nofence-12-crashed-while-in-maintenance",
            ),
            "",
        ),
        (("nofence-13-cluster-wide-maintenance-mode", "nofence-15-standby-until-reboot-node2"), ""),
        (("nofence-16-two-of-three-crashed-no-quorum",), ""),
    ],
)
def test_recorded_states_without_fencing(names: tuple[str, ...], details: str) -> None:
    world = recorded("nofence-01-all-online")
    replay(world, *names)
    world.run(5)
    assert world.details() == details and world.details("node2") == ""


def test_the_recorded_death_of_a_remote() -> None:
    world = recorded("remote-04-back-online")
    world.bmcs = {}
    replay(world, "remote-06-standby", "remote-07-maintenance")
    assert world.others() == []
    replay(world, "remote-02-crashed-unclean")
    assert world.details("remote1") == "2" and kinds(world.reports("remote1")[0])[0] == "fenced"
    assert "18:47:07" in world.reports("remote1")[0]["evidence"][0]["detail"], "not the one of before"
    assert [one["eventType"] for one in world.others() if one["pacemaker_name"] == "node3"] == ["2", "1"]
    replay(world, "remote-03-offline-fenced", "remote-05-resource-stopped-cleanly")
    world.run(30)
    assert world.details("remote1") == "2" and world.returns("remote1") == []


# A clock that jumps


@pytest.mark.parametrize("jump_s", [-3600.0, 3600.0])
def test_a_clock_that_is_set_makes_no_failure_and_no_proof(jump_s: float) -> None:
    world = house()
    world.crash(action="reboot")
    world.change("node3", UP, 100)
    told = len(world.others())
    world.clock.at += jump_s
    world.poke()
    world.run(100)
    world.clock.at -= jump_s
    world.poke()
    world.run(100)
    assert len(world.others()) == told
    world.clock.at += jump_s
    world.power["node3"] = "silent"
    world.change("node3", UNCLEAN, 100)
    assert set(world.details()[-2:]) == {"4"}, "the old fencing proves nothing"


def test_after_a_clock_was_set_back_no_report_claims_life_in_the_future() -> None:
    world = house()
    world.clock.at -= 3600
    world.power["node3"] = "off"
    world.change("node3", UNCLEAN, 5)
    (body,) = world.reports()
    assert unix(body["last_alive"]) <= world.clock.at, "no proof could be newer for an hour"


def test_fencings_count_when_the_clock_of_this_node_was_ahead_and_is_put_right() -> None:
    world = house()
    world.clock.at -= 3600
    world.fence("node3")
    world.change("node3", DOWN, 5)
    assert "2" in world.details() and "fenced" in kinds(world.reports()[0])


# Anything may happen


@pytest.mark.parametrize("seed", range(70))
def test_whatever_happens_only_those_who_were_down_are_reported(seed: int) -> None:
    anything(seed, house())


@pytest.mark.parametrize("seed", range(70, 110))
def test_so_it_is_without_fencing(seed: int) -> None:
    anything(seed, unfenced())


def anything(seed: int, world: House) -> None:
    dice = random.Random(seed)
    was_down: set[str] = set()

    def act(what: str, name: str) -> None:
        if what == "crash":
            was_down.add(name)
            world.power[name] = dice.choice(("on", "off", "silent"))
            world.set(name, UNCLEAN if world.view.stonith_enabled else GONE)
        elif what == "fenced" and world.view.stonith_enabled:
            was_down.add(name)
            action = dice.choice(("off", "reboot"))
            world.power[name] = "off" if action == "off" else "on"
            world.fence(name, action)
            world.set(name, DOWN if action == "off" else UP)
        elif what == "up":
            world.power[name] = "on"
            world.set(name, UP)
        elif what == "lost":
            world.set(name, LOST if world.view.stonith_enabled else UP)
        elif what == "stopped":
            world.set(name, DOWN, busy=False)
        elif what == "killed":
            world.kill()
        elif what == "monitor" and not world.monitor:
            world.start()
        elif what == "dies":
            world.crasher.die_at, world.crasher.after = world.crasher.calls + dice.randint(1, 3), dice.random() < 0.5
        elif what == "doubt":
            world.view = replace(world.view, quorate=False)
        elif what == "trouble":
            world.trouble_now = "the heartbeat line is silent"
        elif what == "well":
            world.view, world.trouble_now, world.answer = (
                replace(world.view, quorate=True),
                "",
                dice.choice(("held", "new")),
            )
        elif what == "controller":
            world.answer = dice.choice(("finished", "failed", "running", "refused", None))

    acts = (
        "crash",
        "fenced",
        "fenced",
        "up",
        "up",
        "lost",
        "stopped",
        "killed",
        "monitor",
        "monitor",
        "dies",
        "doubt",
        "trouble",
    )
    for _ in range(40):
        act(dice.choice((*acts, "well", "well", "controller")), dice.choice(("node2", "node3")))
        if dice.random() < 0.7:
            world.poke()
        world.run(dice.choice((0.05, 0.3, 1.0, 3.0, 20.0, 70.0)))
        check(world, was_down, seed)
    world.view, world.trouble_now, world.answer = replace(world.view, quorate=True), "", "held"
    world.crasher.die_at = -1
    if not world.monitor:
        world.start()
    for name in ("node2", "node3"):
        world.set(name, UP)
    world.run(130)
    check(world, was_down, seed)
    assert "failed" not in world.told(), seed
    assert all(not record.failure for record in decode(world.disk.data).records.values()), seed
    told = {name: [one["eventType"] for one in world.others() if one["pacemaker_name"] == name] for name in NODES}
    assert all(events[-1] == "1" for events in told.values() if events), seed


def check(world: House, was_down: set[str], seed: int) -> None:
    for body in world.others():
        assert body["pacemaker_name"] in was_down, (seed, body)
        if body["detail"] != "2":
            continue
        proofs = [unix(entry["at"]) for entry in body["evidence"] if entry["kind"] in ("fenced", "power_off")]
        assert proofs and max(proofs) >= unix(body["last_alive"]) - TOLERANCE_S, (seed, body)


# What pacemaker does not tell at once


def test_a_fencing_that_no_history_tells_of_is_no_clean_stop() -> None:
    world = house()
    world.run(10)
    world.fence("node3", at=world.clock.at - 3600)  # by the clock of the node that fenced
    world.set("node3", DOWN)
    world.bmcs = {}
    world.run(200)
    assert set(world.details()) == {"4"}


def test_a_fence_history_that_comes_late_is_proof_all_the_same() -> None:
    world = house()
    world.fence("node3")
    world.set("node3", DOWN)
    world.bmcs = {}
    world.shown = lambda: crm_mon(world.view, history=False)
    world.poke()
    world.run(3)
    world.shown = None
    world.poke()
    world.run(200)
    assert "2" in world.details()


def test_a_node_that_was_fenced_and_is_long_back_when_the_monitor_starts_is_well() -> None:
    world = house()
    world.kill()
    world.run(100)
    world.fence("node3", "reboot")
    world.run(6 * 3600)
    world.set("node3", UP)
    world.start()
    world.run(60)
    assert world.reports() == []


def test_a_clock_set_back_during_a_failure_refuses_no_proof() -> None:
    world = house()
    world.set("node3", UNCLEAN)
    world.poke()
    world.run(5)
    world.clock.at -= 3600
    world.power["node3"] = "off"
    world.run(300)
    assert "2" in world.details()


def test_a_report_that_was_refused_is_made_again_in_the_end() -> None:
    world = house()
    world.bmcs = {}
    world.answer = "refused"
    world.set("node3", UNCLEAN)
    world.poke()
    world.run(10)
    world.answer = "held"
    world.run(3600)
    assert any("evidence" in report for report in world.delivered)


def test_the_same_fencing_told_a_second_apart_is_no_new_one_and_a_planned_stop_stays_one() -> None:
    world = house()
    fenced_at = world.clock.at - 3600
    world.fence("node3", at=fenced_at)
    world.run(70)
    world.view = replace(world.view, fence_events=())
    world.fence("node3", at=fenced_at + 1)
    world.set("node3", DOWN)
    world.poke()
    world.run(60)
    assert world.reports() == []
    world.set("node3", UP)
    world.poke()
    world.run(60)
    world.fence("node3", at=fenced_at + 600)
    world.set("node3", DOWN, standby=True)
    world.poke()
    world.run(60)
    assert world.reports() == []
