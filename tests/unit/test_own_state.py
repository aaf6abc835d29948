"""When this node's own view is worth nothing, though it looks well, and what the operator is told then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from hostmonitor.corosync import Ring
from hostmonitor.heartbeat import HEARD, SILENT, UNKNOWN, Line
from hostmonitor.model import REMOTE, Node, View
from hostmonitor.own import STABLE, OwnState
from masakari.common.errors import Unavailable

VIEW = View(
    source="crm_mon",
    at=1000.0,
    own="node1",
    quorate=True,
    dc="node2",
    stonith_enabled=True,
    no_quorum_policy="ignore",
    maintenance_mode=False,
    nodes=tuple(Node(name, online=True) for name in ("node1", "node2", "node3")),
)
CMAP = """nodelist.local_node_pos (u32) = 0
nodelist.node.0.name (str) = node1
nodelist.node.0.nodeid (u32) = 1
nodelist.node.1.name (str) = node2
nodelist.node.1.nodeid (u32) = 2
runtime.members.1.ip (str) = r(0) ip(10.0.0.1)
runtime.members.1.status (str) = joined
runtime.members.2.ip (str) = r(0) ip(10.0.0.2)
runtime.members.2.status (str) = joined
totem.transport (str) = knet
"""
ALONE = CMAP.replace("members.2.status (str) = joined", "members.2.status (str) = left")
ONLY_ONE = "\n".join(line for line in ALONE.splitlines() if "nodelist.node.1" not in line)
GONE = Unavailable("corosync-quorumtool ended with 1; it seems that corosync does not run on this node")


@dataclass
class FakePacemaker:
    """This node's daemons; what is an error is raised."""

    quorate: bool | Unavailable = True
    state: str | Unavailable = "S_NOT_DC"
    corosync: str | Unavailable = CMAP

    def quorum(self) -> str:
        return f"Quorum information\nQuorate:          {'Yes' if told(self.quorate) else 'No'}\n"

    def controller_state(self, node: str) -> str:
        assert node == "node1"
        return told(self.state)

    def cmap(self) -> str:
        return told(self.corosync)


class FakeHeartbeat:
    """A heartbeat line that is as the last of these."""

    def __init__(self) -> None:
        self.line = Line(HEARD)
        self.listened: list[tuple[Sequence[Ring], float]] = []

    def listen(self, rings: Sequence[Ring], timeout_s: float) -> Line:
        self.listened.append((rings, timeout_s))
        return self.line


class FakeClock:
    """Stands still; the wall clock and the monotonic one are far apart."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return 5000.0 + self.seconds

    def now(self) -> float:
        return 1_600_000_000.0 + self.seconds


@dataclass
class Limits:
    tcpdump_timeout: float = 10.0
    stonith_wait: float = 30.0


class Node1:
    """node1 with everything its own state depends on."""

    def __init__(self) -> None:
        self.pacemaker = FakePacemaker()
        self.heartbeat = FakeHeartbeat()
        self.clock = FakeClock()
        self.limits = Limits()
        self.own = OwnState(self.pacemaker, self.heartbeat, self.clock, lambda: self.limits)  # type: ignore[arg-type]

    def trouble(self, view: View = VIEW) -> str:
        return self.own.trouble(view)


def told(answer):  # type: ignore[no-untyped-def]
    if isinstance(answer, Unavailable):
        raise answer
    return answer


@pytest.fixture
def node1() -> Node1:
    return Node1()


def test_a_node_that_is_well_is_believed(node1: Node1) -> None:
    assert node1.trouble() == ""
    assert node1.heartbeat.listened == [((Ring(0, "10.0.0.1", 5405),), 10.0)]


def test_what_corosync_says_of_quorum_counts_even_where_pacemaker_ignores_it(node1: Node1) -> None:
    node1.pacemaker.quorate = False
    assert node1.trouble() == (
        "corosync on this node has no quorum: this side can't tell dead peers from its own isolation, "
        "whatever no-quorum-policy says"
    )


@pytest.mark.parametrize("asked", ["quorate", "state", "corosync"])
def test_daemons_that_give_no_answer_are_told(node1: Node1, asked: str) -> None:
    setattr(node1.pacemaker, asked, GONE)
    assert node1.trouble() == f"the state of this node can't be told: {GONE}"


def test_a_corosync_whose_configuration_makes_no_sense_is_told(node1: Node1) -> None:
    node1.pacemaker.corosync = "a.b (str) = c\n"
    assert "corosync-cmapctl shows no key of totem" in node1.trouble()


@pytest.mark.parametrize("state", ["S_ELECTION", "S_PENDING", "S_INTEGRATION", "S_FINALIZE_JOIN", "S_STARTING"])
def test_a_controller_that_is_not_settled_is_waited_for(node1: Node1, state: str) -> None:
    node1.pacemaker.state = state
    assert node1.trouble() == f"pacemaker's controller on this node is not settled ({state}): wait"


@pytest.mark.parametrize("state", STABLE)
def test_a_controller_that_is_settled_is_believed(node1: Node1, state: str) -> None:
    node1.pacemaker.state = state
    assert node1.trouble() == ""


def test_a_node_that_is_alone_is_believed_only_where_no_other_is_configured(node1: Node1) -> None:
    node1.pacemaker.corosync = ALONE
    assert node1.trouble() == (
        "corosync on this node sees no other member, and 2 are configured: it may itself be the one cut off"
    )
    node1.pacemaker.corosync = ONLY_ONE
    node1.limits.tcpdump_timeout = 0.0
    assert node1.trouble() == ""


def test_expected_votes_stand_for_members_where_there_is_no_nodelist(node1: Node1) -> None:
    without = "\n".join(line for line in ALONE.splitlines() if "nodelist" not in line)
    node1.pacemaker.corosync = (
        without + "\nruntime.votequorum.this_node_id (u32) = 1\nquorum.expected_votes (u32) = 3\n"
    )
    assert "and 3 are configured" in node1.trouble()


def test_a_silent_line_makes_the_view_worthless_and_for_a_time_after_it(node1: Node1) -> None:
    node1.heartbeat.line = Line(SILENT, "nothing was heard")
    assert node1.trouble() == "the heartbeat line of this node is silent: nothing was heard"
    node1.heartbeat.line = Line(HEARD)
    node1.clock.seconds = 29.9
    later = node1.trouble()
    assert later == (
        "the heartbeat line of this node was silent until 2020-09-13T12:26:40Z: its peers may be fencing it, "
        "so its view counts again 30 s later (STONITH_WAIT)"
    )
    node1.clock.seconds = 30.0
    assert node1.trouble() == ""


def test_each_silence_begins_the_wait_anew(node1: Node1) -> None:
    node1.heartbeat.line = Line(SILENT, "nothing was heard")
    for seconds in (0.0, 25.0):
        node1.clock.seconds = seconds
        assert node1.trouble()
    node1.heartbeat.line = Line(HEARD)
    node1.clock.seconds = 50.0
    assert "was silent until" in node1.trouble()
    node1.clock.seconds = 55.0
    assert node1.trouble() == ""


def test_a_line_that_can_not_be_listened_to_is_doubt_and_no_silence(node1: Node1) -> None:
    node1.heartbeat.line = Line(UNKNOWN, "there is no program tcpdump")
    assert node1.trouble() == (
        "whether the heartbeat line is alive can't be told: there is no program tcpdump; TCPDUMP_TIMEOUT=0 asks no more"
    )
    node1.heartbeat.line = Line(HEARD)
    assert node1.trouble() == ""


def test_a_check_that_is_switched_off_is_not_made(node1: Node1) -> None:
    node1.limits.tcpdump_timeout = 0.0
    node1.heartbeat.line = Line(SILENT, "nothing was heard")
    assert node1.trouble() == ""
    assert node1.heartbeat.listened == []


def test_a_silent_ring_of_several_is_warned_about_once(node1: Node1, caplog: pytest.LogCaptureFixture) -> None:
    node1.heartbeat.line = Line(HEARD, "ring 1 is silent")
    assert (node1.trouble(), node1.trouble()) == ("", "")
    node1.heartbeat.line = Line(HEARD)
    assert (node1.trouble(), node1.trouble()) == ("", "")
    assert caplog.messages == ["ring 1 is silent", "every ring of the heartbeat line is heard again"]


def test_a_remote_has_no_corosync_to_ask(node1: Node1) -> None:
    node1.pacemaker = FakePacemaker(GONE, GONE, GONE)
    remote = replace(VIEW, own="remote1", nodes=(*VIEW.nodes, Node("remote1", kind=REMOTE, online=True)))
    own = OwnState(node1.pacemaker, node1.heartbeat, node1.clock, lambda: node1.limits)  # type: ignore[arg-type]
    assert own.trouble(remote) == ""
    assert own.trouble(VIEW) != ""
