"""What the heartbeat check makes of whatever tcpdump does; that it hears right is shown on a real cluster."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from hostmonitor.corosync import ANY_GROUP, Ring
from hostmonitor.heartbeat import HEARD, SILENT, UNKNOWN, Heartbeat, Line
from masakari.common.clock import Clock
from tests.lab.mariadb import until

QUICK_S = 0.3
AMPLE_S = 30.0
ONE = Ring(0, "10.0.0.1", 5405)
TWO = Ring(1, "10.1.0.1", 5406)
PACKET = "echo '12:00:00 eth0 In IP 10.0.0.2.5405 > 10.0.0.1.5405: UDP, length 57'"


class Tcpdump:
    """A shell script in the place of tcpdump; each call leaves its words in `calls`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = f"{folder}:/usr/bin:/bin"

    def does(self, *lines: str) -> None:
        """It runs these lines of shell; $filter is what it is to look for."""
        program = self.folder / "tcpdump"
        begin = ["#!/bin/sh", f"cd {self.folder}", 'echo "$@" >>calls', "for filter; do :; done"]
        program.write_text("\n".join([*begin, *lines, ""]), encoding="utf-8")
        program.chmod(0o755)

    def calls(self) -> list[str]:
        """The words of each call so far."""
        return (self.folder / "calls").read_text(encoding="utf-8").splitlines()

    def listen(self, *rings: Ring, timeout_s: float = AMPLE_S, stopping: threading.Event | None = None) -> Line:
        """What is heard."""
        return Heartbeat(Clock(), path=self.path, stopping=stopping).listen(rings, timeout_s)


@pytest.fixture
def tcpdump(tmp_path: Path) -> Tcpdump:
    return Tcpdump(tmp_path)


def test_a_packet_is_enough(tcpdump: Tcpdump) -> None:
    tcpdump.does(PACKET)
    assert tcpdump.listen(ONE) == Line(HEARD)
    assert len(tcpdump.calls()) == 1


def test_no_packet_in_time_is_silence(tcpdump: Tcpdump) -> None:
    tcpdump.does("exec sleep 60")
    assert tcpdump.listen(ONE, TWO, timeout_s=QUICK_S) == Line(
        SILENT,
        "nothing of other nodes was heard for 0.3 s on ring 0 (10.0.0.1 port 5405), ring 1 (10.1.0.1 port 5406)",
    )


def test_what_this_node_sends_itself_does_not_count_on_any_ring(tcpdump: Tcpdump) -> None:
    tcpdump.does(PACKET)
    tcpdump.listen(ONE, TWO)
    for call in tcpdump.calls():
        assert call.endswith(" and not src host 10.0.0.1 and not src host 10.1.0.1")


def test_what_is_sent_to_another_cluster_of_the_network_does_not_count(tcpdump: Tcpdump) -> None:
    tcpdump.does(PACKET)
    for mcast in ("", "226.94.1.1", ANY_GROUP):
        tcpdump.listen(Ring(0, "10.0.0.1", 5405, mcast))
    filters = [call.partition("--immediate-mode ")[2].partition(" and not src")[0] for call in tcpdump.calls()]
    assert filters == [
        "((dst port 5405 and (dst host 10.0.0.1)))",
        "((dst port 5405 and (dst host 10.0.0.1 or dst host 226.94.1.1)))",
        "((dst port 5405 and (dst host 10.0.0.1 or ip multicast or ip6 multicast)))",
    ]


def test_one_silent_ring_of_two_is_named_and_the_line_is_heard(
    tcpdump: Tcpdump, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hostmonitor.heartbeat.RING_WITHIN_S", QUICK_S)
    tcpdump.does('case "$filter" in *5405*) ;; *) exec sleep 60 ;; esac', PACKET)
    heard = tcpdump.listen(ONE, TWO)
    assert (heard.state, heard.text) == (
        HEARD,
        "ring 1 (10.1.0.1 port 5406) of the heartbeat line is silent: look at its network",
    )


def test_two_rings_that_are_heard_are_not_worth_a_word(tcpdump: Tcpdump) -> None:
    tcpdump.does(PACKET)
    assert tcpdump.listen(ONE, TWO) == Line(HEARD)


def test_a_missing_tcpdump_is_no_silence(tcpdump: Tcpdump) -> None:
    told = Heartbeat(Clock(), path=str(tcpdump.folder)).listen([ONE], AMPLE_S)
    assert told.state == UNKNOWN
    assert told.text.startswith("there is no program tcpdump in ")
    assert told.text.endswith("; install the package tcpdump")


def test_a_tcpdump_that_may_not_listen_is_no_silence(tcpdump: Tcpdump) -> None:
    tcpdump.does(
        "echo 'tcpdump: data link type LINUX_SLL2' >&2", 'echo "tcpdump: any: You don\'t have permission" >&2; exit 1'
    )
    assert tcpdump.listen(ONE) == Line(
        UNKNOWN,
        "tcpdump ended with 1, and said: tcpdump: any: You don't have permission; it needs root, or CAP_NET_RAW",
    )


@pytest.mark.parametrize("end", ["exit 0", "kill -9 $$"])
def test_a_tcpdump_that_ends_without_a_packet_tells_nothing(tcpdump: Tcpdump, end: str) -> None:
    tcpdump.does(end)
    assert tcpdump.listen(ONE).state == UNKNOWN


def test_without_an_address_nothing_can_be_told(tcpdump: Tcpdump) -> None:
    assert tcpdump.listen() == Line(UNKNOWN, "corosync does not tell this node's addresses")


def test_a_stop_ends_it_at_once_and_is_no_silence(tcpdump: Tcpdump) -> None:
    tcpdump.does("exec sleep 60")
    stopping, told = threading.Event(), list[Line]()
    thread = threading.Thread(target=lambda: told.append(tcpdump.listen(ONE, stopping=stopping)))
    thread.start()
    until((tcpdump.folder / "calls").exists, AMPLE_S, lambda: "tcpdump is not started")
    stopping.set()
    thread.join(AMPLE_S / 2)
    assert [line.state for line in told] == [UNKNOWN]
