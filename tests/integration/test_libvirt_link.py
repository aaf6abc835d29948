"""The link on a real libvirtd and real guests: whatever becomes of libvirtd, no end of a guest stays unseen."""

from __future__ import annotations

import itertools
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from instancemonitor.events import RUNNING as RUNS
from instancemonitor.events import STOPPED
from instancemonitor.ledger import Ledger, Policy, Record, State
from instancemonitor.model import (
    CONTROL_ERROR,
    DROPPABLE,
    LIFECYCLE,
    WATCHDOG,
    Connected,
    DomainEvent,
    DomainView,
    Dropped,
    Lost,
    Message,
    Snapshot,
)
from masakari.common.clock import Clock
from tests.lab.libvirt_stage import Inbox, RunningLink, Stage, event_loop, stage
from tests.lab.libvirtd import PrivateLibvirtd
from tests.lab.mariadb import until

pytestmark = pytest.mark.needs_libvirt

RUNNING, SHUTOFF = 1, 5
FAILED = (5, 5)
CRASHED, BY_DAEMON = (5, 3), (5, 8)
HURRY = {"keepalive_s": 1, "keepalive_count": 1, "open_within_s": 1.0}  # hung: noticed after 2 s
SEEN_WITHIN_S = 10.0  # 3 on a machine with nothing else to do; the next look would be after a minute


@pytest.fixture(scope="module", autouse=True)
def loop() -> Iterator[threading.Thread]:
    with event_loop() as thread:
        yield thread


@pytest.fixture
def lab() -> Iterator[Stage]:
    """One whose libvirtd the test may kill."""
    with stage(**HURRY) as made:
        yield made


@pytest.fixture(scope="module")
def quiet(loop: threading.Thread) -> Iterator[Stage]:
    """One whose libvirtd lives for all tests."""
    with stage(**HURRY) as made:
        yield made


def lifecycle(inbox: Inbox, uuid: str, since: int = 0) -> list[tuple[int, int]]:
    return [(item.event, item.detail) for item in inbox.events(uuid, since) if item.kind == LIFECYCLE]


def until_event(inbox: Inbox, uuid: str, numbers: tuple[int, int], since: int = 0) -> None:
    inbox.until(lambda _: numbers in lifecycle(inbox, uuid, since), since=since)


def until_reconnected(inbox: Inbox, since: int) -> None:
    """Lost, Connected and a snapshot, in this order; a connection may be lost before it shows anything."""

    def done(messages: list[Message]) -> bool:
        kinds = [type(item) for item in messages if not isinstance(item, DomainEvent)]
        return Lost in kinds and (Connected, Snapshot) in itertools.pairwise(kinds[kinds.index(Lost) :])

    inbox.until(done, since=since)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


@contextmanager
def mute_libvirtd() -> Iterator[PrivateLibvirtd]:
    """One that accepts connections and says nothing, and has no process yet."""
    libvirtd = PrivateLibvirtd()
    try:
        libvirtd.socket.parent.mkdir()
        libvirtd.give_away()
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(libvirtd.socket))
            listening.listen(8)
            yield libvirtd
    finally:
        libvirtd.__exit__()


def kill_guest(lab: Stage, name: str) -> None:
    os.kill(lab.libvirtd.qemu_pid(name), signal.SIGKILL)


def test_a_killed_guest_is_an_event_within_a_second(quiet: Stage) -> None:
    guest = quiet.start_guest("killed")
    began = time.time()
    kill_guest(quiet, "killed")
    until_event(quiet.inbox, guest.UUIDString(), FAILED)
    event = quiet.inbox.events(guest.UUIDString())[-1]
    assert event.name == "killed"
    assert began <= event.at < began + 1
    assert event.ours is True


def test_events_are_numbered_in_order_and_a_snapshot_says_which_are_newer(lab: Stage) -> None:
    guest = lab.start_guest("one")
    guest.destroy()
    until_event(lab.inbox, guest.UUIDString(), (5, 1))
    numbers = [item.seq for item in lab.inbox.all if isinstance(item, DomainEvent)]
    assert numbers == list(range(1, len(numbers) + 1))
    since = len(lab.inbox.all)
    lab.libvirtd.kill()
    lab.libvirtd.start()
    until_reconnected(lab.inbox, since)
    snapshot = next(item for item in lab.inbox.all[since:] if isinstance(item, Snapshot))
    assert snapshot.began == numbers[-1]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_after_a_restart_of_libvirtd_the_guests_are_there_and_events_come_again(
    lab: Stage, how: signal.Signals
) -> None:
    guest = lab.start_guest("one")
    uuid, run_id = guest.UUIDString(), guest.ID()
    since = len(lab.inbox.all)
    lab.libvirtd.kill(how)
    lab.inbox.until_kind(Lost, since)
    assert lab.link.look(uuid) is None
    assert lab.libvirtd.uri in lab.link.problem
    lab.libvirtd.start()
    until_reconnected(lab.inbox, since)
    assert lab.inbox.views(uuid, since)[-1] == DomainView(uuid, "one", RUNNING, 1, run_id, True)
    until(lambda: lab.link.problem == "", 5, lambda: lab.link.problem)
    kill_guest(lab, "one")
    until_event(lab.inbox, uuid, FAILED, since)


@pytest.mark.parametrize("remedy", ["thaw", "restart"])
def test_a_libvirtd_that_hangs_is_noticed_and_found_again(lab: Stage, remedy: str) -> None:
    guest = lab.start_guest("one")
    since = len(lab.inbox.all)
    lab.libvirtd.freeze()
    lab.inbox.until_kind(Lost, since)
    lost = next(item for item in lab.inbox.all[since:] if isinstance(item, Lost))
    assert lost.why
    if remedy == "thaw":
        lab.libvirtd.thaw()
    else:
        lab.libvirtd.kill()
        lab.libvirtd.start()
    until_reconnected(lab.inbox, since)
    kill_guest(lab, "one")
    until_event(lab.inbox, guest.UUIDString(), FAILED, since)


def test_look_on_a_libvirtd_that_hangs_comes_back(lab: Stage) -> None:
    guest = lab.start_guest("one")
    lab.libvirtd.freeze()
    began = time.monotonic()
    assert lab.link.look(guest.UUIDString()) is None
    assert time.monotonic() - began < 6
    lab.libvirtd.thaw()


def test_a_libvirtd_that_starts_later_is_found() -> None:
    libvirtd = PrivateLibvirtd()
    with RunningLink(libvirtd.uri, **HURRY) as watching:
        watching.inbox.until_kind(Lost)
        assert libvirtd.uri in watching.link.problem
        with libvirtd:
            until_reconnected(watching.inbox, 0)
            assert watching.link.problem == ""


def test_one_that_accepts_and_says_nothing_does_not_hang_the_daemon() -> None:
    with mute_libvirtd() as libvirtd, RunningLink(libvirtd.uri, **HURRY) as watching:
        watching.inbox.until(lambda messages: any("hangs" in str(getattr(item, "why", "")) for item in messages))
        assert watching.link.lively(time.monotonic())
        libvirtd.socket.unlink()
        libvirtd.start()
        watching.inbox.until_kind(Snapshot)


def test_too_many_connections_that_never_open_end_the_process() -> None:
    with mute_libvirtd() as libvirtd, RunningLink(libvirtd.uri, open_within_s=0.1) as watching:
        until(lambda: watching.error is not None, 30, lambda: "it goes on and on")
        assert "Restart libvirtd" in str(watching.error)


def test_stopping_does_not_wait_for_an_open_that_never_returns() -> None:
    with mute_libvirtd() as libvirtd:
        with RunningLink(libvirtd.uri):
            until(lambda: "libvirt-open" in threads(), 5, lambda: "it doesn't connect")
            began = time.monotonic()
        assert time.monotonic() - began < 1


def test_a_crash_while_libvirtd_is_down_is_in_the_first_snapshot(lab: Stage) -> None:
    guest = lab.start_guest("one")
    uuid, since = guest.UUIDString(), len(lab.inbox.all)
    pid = lab.libvirtd.qemu_pid("one")
    lab.libvirtd.kill()
    os.kill(pid, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pid}").exists(), 5, lambda: "QEMU lives on")
    lab.libvirtd.start()
    until_reconnected(lab.inbox, since)
    lab.inbox.until(lambda _: CRASHED in [(v.state, v.reason) for v in lab.inbox.views(uuid, since)])
    assert lab.inbox.views(uuid, since)[-1].run_id == -1


@pytest.mark.parametrize("delay_s", [0.0, 0.005, 0.01, 0.03])
def test_a_crash_right_after_a_restart_of_libvirtd_is_seen_within_seconds(lab: Stage, delay_s: float) -> None:
    guest = lab.start_guest("one")
    uuid, since = guest.UUIDString(), len(lab.inbox.all)
    pid = lab.libvirtd.qemu_pid("one")
    lab.libvirtd.kill()
    lab.libvirtd.start()
    time.sleep(delay_s)
    os.kill(pid, signal.SIGKILL)

    def seen(_: object) -> bool:
        states = {(view.state, view.reason) for view in lab.inbox.views(uuid, since)}
        return bool({CRASHED, BY_DAEMON} & states) or FAILED in lifecycle(lab.inbox, uuid, since)

    lab.inbox.until(seen, SEEN_WITHIN_S)
    until_reconnected(lab.inbox, since)


# What happens during the first look of a connection


class SlowFirstLook:
    """A link that has listed all domains of its first connection and does not say so before it is let go on."""

    def __init__(self, libvirtd: PrivateLibvirtd) -> None:
        from instancemonitor.libvirt_link import LibvirtLink
        from instancemonitor.libvirt_session import Session

        self.looked, self.go_on = threading.Event(), threading.Event()
        slow = self

        class Link(LibvirtLink):
            def _look_at_all(self, session: Session) -> Snapshot:
                snapshot = super()._look_at_all(session)
                slow.looked.set()
                slow.go_on.wait(SEEN_WITHIN_S)
                return snapshot

        self.watching = RunningLink(libvirtd.uri)
        self.watching.link = Link(libvirtd.uri, self.watching.inbox, Clock())
        self.inbox = self.watching.inbox


@contextmanager
def slow_first_look(libvirtd: PrivateLibvirtd) -> Iterator[SlowFirstLook]:
    """After the listing; at the end all is let go on, and seen to the snapshot after the first."""
    slow = SlowFirstLook(libvirtd)
    with slow.watching:
        assert slow.looked.wait(SEEN_WITHIN_S)
        try:
            yield slow
        finally:
            slow.go_on.set()
        slow.inbox.until(lambda messages: sum(isinstance(item, Snapshot) for item in messages) >= 2)


def reports(messages: list[Message], uuid: str, state: str) -> int:
    """How often a monitor that knew the domain in this state reports it."""
    record = Record("one", state, time.time() - 60, None, True)
    ledger, found = Ledger(State("boot", time.time() - 60, {uuid: record}), "boot", lambda _: None), []
    for item in messages:
        if isinstance(item, Connected):
            ledger.connected()
        elif isinstance(item, DomainEvent):
            found += ledger.event(item, Policy())
        elif isinstance(item, Snapshot):
            found += ledger.snapshot(item, Policy())
    return sum(finding.failure is not None for finding in found)


def test_a_death_during_the_first_look_is_told_after_the_connection_and_reported_once(lab: Stage) -> None:
    uuid = lab.start_guest("one").UUIDString()
    with slow_first_look(lab.libvirtd) as slow:
        kill_guest(lab, "one")
        until_event(slow.inbox, uuid, FAILED)
    assert isinstance(slow.inbox.all[0], Connected)
    assert slow.inbox.views(uuid)[0].state == RUNNING
    assert reports(slow.inbox.all, uuid, RUNS) == 1


def test_a_start_during_the_first_look_is_told_after_the_connection_and_nothing_is_reported(lab: Stage) -> None:
    guest = lab.start_guest("one")
    uuid = guest.UUIDString()
    kill_guest(lab, "one")
    until_event(lab.inbox, uuid, FAILED)
    with slow_first_look(lab.libvirtd) as slow:
        guest.create()
        until_event(slow.inbox, uuid, (2, 0))
    assert isinstance(slow.inbox.all[0], Connected)
    assert [view.state for view in slow.inbox.views(uuid)][:2] == [SHUTOFF, RUNNING]
    assert reports(slow.inbox.all, uuid, STOPPED) == 0


def test_a_lost_control_of_a_guest_makes_it_look_again(quiet: Stage) -> None:
    quiet.inbox.until(
        lambda messages: sum(isinstance(item, Snapshot) for item in messages) >= 3
    )  # both rechecks are over
    domain = quiet.connect().defineXML(quiet.libvirtd.domain_xml("bad", arguments="-nosuchoption", serial=False))
    since = len(quiet.inbox.all)
    with pytest.raises(Exception, match="nosuchoption"):
        domain.create()
    quiet.inbox.until_kind(Snapshot, since)
    assert CONTROL_ERROR in [item.kind for item in quiet.inbox.events(domain.UUIDString(), since)]
    assert quiet.inbox.views(domain.UUIDString(), since)[-1].state == SHUTOFF


def test_only_guests_with_the_mark_of_nova_are_ours(quiet: Stage) -> None:
    connection = quiet.connect()
    ours = connection.defineXML(quiet.libvirtd.domain_xml("ours"))
    xml = quiet.libvirtd.domain_xml("other", nova=False)
    title = '<description>xmlns="http://openstack.org/xmlns/libvirt/nova/1.1"</description>'
    other = connection.defineXML(xml.replace("<memory", f"{title}<memory", 1))
    assert quiet.look(ours.UUIDString()).ours is True
    assert quiet.look(other.UUIDString()).ours is False


def test_a_guest_that_becomes_novas_is_ours_from_then_on(quiet: Stage) -> None:
    connection = quiet.connect()
    xml = quiet.libvirtd.domain_xml("one", nova=False)
    uuid = connection.defineXML(xml).UUIDString()
    assert quiet.look(uuid).ours is False
    connection.defineXML(quiet.libvirtd.domain_xml("one", uuid=uuid))
    until(lambda: quiet.look(uuid).ours is True, 5, lambda: "it is not ours")


def test_look_at_a_domain_that_is_not_there_is_none(quiet: Stage) -> None:
    assert quiet.link.look("00000000-0000-4000-8000-000000000000") is None


def test_all_domains_are_looked_at_again_and_again() -> None:
    with stage(poll_s=0.3, recheck_s=()) as lab:
        lab.inbox.until(lambda messages: sum(isinstance(item, Snapshot) for item in messages) >= 3, 5)


def test_a_driver_without_a_daemon_does_without_keepalive() -> None:
    with RunningLink("test:///default") as watching:
        watching.inbox.until_kind(Snapshot)
        (domain,) = next(item for item in watching.inbox.all if isinstance(item, Snapshot)).domains
        assert (domain.name, domain.state, domain.ours) == ("test", RUNNING, False)


def test_many_lost_connections_leave_nothing_open() -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    with stage(**HURRY) as lab:

        def reconnect() -> None:
            since = len(lab.inbox.all)
            lab.libvirtd.kill()
            lab.libvirtd.start()
            until_reconnected(lab.inbox, since)

        reconnect()
        before = descriptors()
        for _ in range(3):
            reconnect()
        until(lambda: descriptors() <= before, 5, lambda: f"{descriptors()} descriptors, were {before}")
        assert "libvirt-open" not in threads()


def test_it_is_lively_until_the_event_loop_stands_still() -> None:
    with RunningLink("test:///default") as watching:
        watching.inbox.until_kind(Snapshot)
        now = time.monotonic()
        assert watching.link.lively(now)
        assert not watching.link.lively(now + 11)


def test_when_nobody_takes_messages_those_without_end_are_dropped_with_one_word_and_no_others() -> None:
    from instancemonitor.libvirt_link import MOST_WAITING, LibvirtLink

    inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
    link = LibvirtLink("test:///default", inbox, Clock())

    def taken(many: int) -> list[Message]:
        return [inbox.get_nowait() for _ in range(many)]

    def tell(*kinds: str) -> None:
        for kind in kinds:
            link._tell(kind, "u", "name", 0, 0, "")

    tell(*DROPPABLE * MOST_WAITING)
    tell(LIFECYCLE, WATCHDOG, *DROPPABLE, LIFECYCLE)
    assert inbox.qsize() == MOST_WAITING + 4
    taken(MOST_WAITING)
    dropped, *others = taken(4)
    assert isinstance(dropped, Dropped) and dropped.waiting == MOST_WAITING
    assert [item.kind for item in others if isinstance(item, DomainEvent)] == [LIFECYCLE, WATCHDOG, LIFECYCLE]
    tell(*DROPPABLE)
    assert len(taken(3)) == 3
