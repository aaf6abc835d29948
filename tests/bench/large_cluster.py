"""One look of the hostmonitor at a cluster of 1,000 pacemaker-remote nodes: what crm_mon costs, and what the monitor.

Nobody has such a cluster at hand: the programs read a CIB from a file, and all the rest is as on a node.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue

from hostmonitor.cluster import Segment
from hostmonitor.config import Environments, Settings
from hostmonitor.crm_xml import parse
from hostmonitor.ledger import Ledger, Policy, State
from hostmonitor.model import View
from hostmonitor.monitor import Message, Monitor, Poke, World
from hostmonitor.pacemaker import Pacemaker
from hostmonitor.state import StateFile
from masakari.common.clock import Clock
from masakari.common.monitor_config import Identity
from masakari.common.report import Origin
from masakari.common.text import utc
from tests.bench import monitors
from tests.bench.figures import Figure
from tests.lab.cluster_cib import cib, remote

REMOTES = 1000
MEMBERS = ("node1", "node2", "node3")
OWN = MEMBERS[0]
DEAD = 50
FENCINGS = 500
"""So many the history of pacemaker keeps."""

WRITTEN_AFTER_S = 1.1
"""The state file follows a look so much later."""


@dataclass(frozen=True, slots=True)
class Cost:
    """In seconds: as long as it took, the processor time of this process, and that of the programs it ran."""

    wall_s: float
    own_s: float
    programs_s: float


@dataclass(frozen=True)
class FromFile(Pacemaker):
    """Its programs read a CIB from a file. There is no daemon that could tell which node this is."""

    def node_name(self) -> str:
        """The node that asks."""
        return OWN


class Well:
    """All else in a monitor's world: this node is well, nobody has to be read, and every report is delivered at once."""

    def trouble(self, view: View) -> str:
        """Nothing is wrong with this node."""
        return ""

    def ask(self, *_: object) -> None:
        """No BMC is read."""

    def put(self, body: object) -> None:
        """It is delivered."""

    def holds(self, report_id: str) -> bool:
        """Nothing waits."""
        return False


def figures(folder: Path, rounds: int) -> Iterator[Figure]:
    """What a look costs when all are well, and what the monitor alone costs in a disaster."""
    path = folder / "cib.xml"
    path.write_text(_cib(), encoding="utf-8")
    pacemaker = FromFile(Clock(), prefix=("env", f"CIB_file={path}"))
    text = pacemaker.status()
    looks = _looks(folder, pacemaker, rounds)
    beside = "with crm_mon, and what is known written to the disk"
    yield monitors.delay(f"hostmonitor, {REMOTES:,} nodes: one look", [look.wall_s for look in looks], 1000, beside)
    beside = f"it prints {len(text) / 1e6:.1f} MB, and reads the CIB from a file"
    yield monitors.delay("... processor time of crm_mon", [look.programs_s for look in looks], beside=beside)
    yield monitors.delay("... processor time of the monitor", [look.own_s for look in looks], 100)
    beside = f"{DEAD} nodes die at once, {FENCINGS} fencings are in the history; without crm_mon"
    yield monitors.delay("... of the monitor in a disaster", [_disaster(text) for _ in range(rounds)], 200, beside)


def programs_s() -> float:
    """Processor time of all programs that this process has run to their ends."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _cost(act: Callable[[], object]) -> Cost:
    """What it costs to do this."""
    before = _spent()
    act()
    return Cost(*(end - start for start, end in zip(before, _spent(), strict=True)))


def _spent() -> tuple[float, float, float]:
    return time.monotonic(), time.process_time(), programs_s()


def _disaster(text: str) -> float:
    """The processor time of a monitor that knows all nodes and takes a view in which many are gone."""
    ledger, at = Ledger(State()), time.time()
    ledger.look(parse(text, OWN, at), Policy())
    later = text.replace("</nodes>", f"</nodes>{_history(at)}", 1)

    def look() -> None:
        view = parse(later, OWN, at + 60)
        assert len(view.fence_events) == FENCINGS, view.problems
        lost = tuple(replace(node, online=False, unclean=True) for node in view.nodes[-DEAD:])
        seen = ledger.look(replace(view, nodes=view.nodes[:-DEAD] + lost), Policy(samples=1))
        assert len(seen.suspects) == DEAD, seen
        ledger.believe(seen.suspects)

    return _cost(look).own_s


def _history(until: float) -> str:
    """Fencings of one node after the other, an hour apart, as crm_mon shows them."""
    each = (
        f'<fence_event action="off" target="{_name(number)}" client="pacemaker-controld.30" origin="node1" '
        f'status="success" delegate="node2" completed="{utc(until - 3600 * (number + 1))}"/>'
        for number in range(FENCINGS)
    )
    return f"<fence_history>{''.join(each)}</fence_history>"


def _looks(folder: Path, pacemaker: Pacemaker, rounds: int) -> list[Cost]:
    """Looks of a whole monitor at a cluster that it knows; with each goes the write of what the one before has seen."""
    inbox: SimpleQueue[Message] = SimpleQueue()
    monitor = Monitor(inbox, StateFile(str(folder / "state.json")), _world(pacemaker))
    monitor.step(0)
    costs = []
    for _ in range(rounds):
        time.sleep(WRITTEN_AFTER_S)
        inbox.put(Poke("the bench"))
        costs.append(_cost(lambda: monitor.step(0)))
    others = REMOTES + len(MEMBERS) - 1
    assert f"{others} other nodes known, {others} of them up" in monitor.status(), monitor.status()
    return costs


def _world(pacemaker: Pacemaker) -> World:
    segment, well = Segment("239.255.77.1:5405", "the bench"), Well()
    settings = Settings(identity=Identity(OWN, "", "", ""), environments=Environments(monitor_interval=3600))
    return World(
        pacemaker=pacemaker,
        own_state=well,
        prover=well,
        spool=well,
        settings=lambda: settings,
        origin=lambda: Origin(OWN, "RegionOne", segment.cluster_port, "boot"),
        segment=lambda: segment,
        own_guid=lambda: "",
        clock=Clock(),
        wake_sender=lambda: None,
        beat=lambda: None,
    )


def _name(number: int) -> str:
    return f"remote{number + 1:04}"


def _cib() -> str:
    """The CIB of three members that share the connections to all remotes, which are up."""
    numbers = range(REMOTES)
    resources = "".join(remote(_name(number), f"10.77.{number // 250}.{number % 250 + 1}") for number in numbers)
    whole = cib({"stonith-enabled": "true", "no-quorum-policy": "stop"}, resources)
    nodes = "".join(f'<node id="{number}" uname="{name}"/>' for number, name in enumerate(MEMBERS, start=1))
    states = "".join(
        f'<node_state id="{number}" uname="{name}" in_ccm="true" crmd="online" join="member" expected="member">'
        f'<lrm id="{number}"><lrm_resources>{"".join(map(_connection, numbers[number - 1 :: 3]))}</lrm_resources></lrm>'
        "</node_state>"
        for number, name in enumerate(MEMBERS, start=1)
    )
    states += "".join(
        f'<node_state remote_node="true" id="{_name(number)}" uname="{_name(number)}" in_ccm="true" node_fenced="0">'
        f'<lrm id="{_name(number)}"><lrm_resources/></lrm></node_state>'
        for number in numbers
    )
    return (
        whole.replace("<cib ", '<cib have-quorum="1" dc-uuid="1" crm_feature_set="3.16.1" ', 1)
        .replace("<nodes/>", f"<nodes>{nodes}</nodes>")
        .replace("<status/>", f"<status>{states}</status>")
    )


def _connection(number: int) -> str:
    """What a member has done for the connection to a remote."""
    name = _name(number)
    done = "".join(
        f'<lrm_rsc_op id="{name}_{last}" operation_key="{name}_{task}_{every}" operation="{task}" '
        f'crm_feature_set="3.16.1" transition-key="{call}:1:0:6decc731" transition-magic="0:0;{call}:1:0:6decc731" '
        f'call-id="{call}" rc-code="0" op-status="0" interval="{every}" last-rc-change="1795199777" exec-time="9"/>'
        for last, task, every, call in (("last_0", "start", 0, 5), ("monitor_1000", "monitor", 1000, 6))
    )
    return f'<lrm_resource id="{name}" type="remote" class="ocf" provider="pacemaker">{done}</lrm_resource>'
