"""What a view says of each node (pure): one table, read from the top; the first row that fits decides.

A node has failed when it went down without having been told to; that would be reported. It is proven when, besides, nothing
of it can run any more: a fencing succeeded, or an operator said so to pacemaker. Without quorum, and wherever the view
itself is in doubt, nobody has failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from hostmonitor import fencing
from hostmonitor.model import GUEST, MEMBER, REMOTE, FenceEvent, Node, Resource, View
from masakari.common.text import utc

TIED_S = 600.0
"""Without a history of our own a fencing counts for so long before its view: later the node may have been back."""

TOLERANCE_S = 15.0
NO_FENCING = (
    "nothing proves that it is off: stonith-enabled=false, so pacemaker fences nobody. Set up fencing and "
    "stonith-enabled=true, or have its power read from its BMC"
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """failed: it would be reported. proven, only with failed: it may be evacuated. reason: why, for the operator."""

    name: str
    state: str
    failed: bool
    proven: bool
    reason: str


@dataclass(frozen=True, slots=True)
class _Case:
    """A node with all that the view has about it.

    doubt: why the view is worth nothing. fenced: the fencing that belongs to this loss, as a sentence; trouble: what else
    there is to say of fencings. fencing: one is under way.
    """

    node: Node
    view: View
    doubt: str
    connection: Resource | None
    fenced: str
    fencing: bool
    trouble: str

    @property
    def down(self) -> bool:
        return not self.node.online

    @property
    def gone(self) -> bool:
        """Down, but expected up: it never said goodbye."""
        return self.down and self.node.expected_up

    @property
    def remote(self) -> bool:
        return self.node.kind == REMOTE

    @property
    def let_go(self) -> bool:
        """A remote that nobody tries to reach."""
        stopped = self.connection is None or self.connection.target_role == "Stopped"
        return self.down and self.remote and not self.node.unclean and stopped

    @property
    def unfenced(self) -> bool:
        """Pacemaker fences nobody."""
        return self.view.stonith_enabled is False

    @property
    def cut_off(self) -> bool:
        """A remote whose connection failed, where pacemaker fences nobody."""
        return self.unfenced and self.connection is not None and self.connection.failed

    @property
    def erased(self) -> bool:
        """A full member in a CIB that looks as a fencing leaves it."""
        return self.view.source == "cib" and not self.remote and self.node.forgotten and not self.unfenced


@dataclass(frozen=True, slots=True)
class _Row:
    state: str
    fits: Callable[[_Case], bool]
    outcome: str
    reason: str


SILENT, FAILED, PROVEN = "silent", "failed", "proven"
PLANNED = "it is down while in {state}, which is planned. If it died, evacuate it by hand"
UNTRUSTED = "pacemaker has forgotten what ran there, as after a fencing, but a CIB tells of no fencing: not proven. crm_mon does"

TABLE = (
    _Row("guest", lambda c: c.node.kind == GUEST, SILENT, "pacemaker runs it as a resource: it is no host"),
    _Row("maintenance", lambda c: c.down and c.node.maintenance, SILENT, PLANNED),
    _Row("standby", lambda c: c.down and c.node.standby, SILENT, PLANNED),
    _Row("remote offline", lambda c: c.let_go, SILENT, "its connection was stopped on purpose or removed"),
    _Row("fenced", lambda c: bool(c.fenced), PROVEN, "{fenced}"),
    # Up, or not yet known to be down.
    _Row("unclean", lambda c: not c.down and c.node.unclean, SILENT, "pacemaker has just lost sight of it: wait"),
    _Row("pending", lambda c: not c.down and c.node.pending, SILENT, "pacemaker has not joined there{trouble}"),
    _Row("shutdown on purpose", lambda c: c.node.shutdown, SILENT, "somebody is stopping pacemaker there"),
    _Row("maintenance", lambda c: c.node.maintenance, SILENT, "it is up, and in maintenance"),
    _Row("standby", lambda c: c.node.standby, SILENT, "it is up, and in standby"),
    _Row("online", lambda c: c.node.starting, SILENT, "pacemaker tries to reach it, and shows it as up meanwhile"),
    _Row("online", lambda c: not c.down, SILENT, "it is up"),
    # Down without having been told to.
    _Row("fencing pending", lambda c: c.node.unclean and c.fencing, FAILED, "it is lost, not yet fenced{trouble}"),
    _Row("unclean", lambda c: c.node.unclean and c.unfenced, FAILED, "it is lost, and {no_fencing}"),
    _Row("unclean", lambda c: c.node.unclean, FAILED, "it is lost and not fenced: not proven{trouble}"),
    _Row("offline", lambda c: c.gone and c.unfenced, FAILED, "it is gone, not stopped, and {no_fencing}"),
    _Row("offline", lambda c: c.gone, FAILED, "it is gone, not stopped and not fenced: not proven{trouble}"),
    _Row("offline", lambda c: c.cut_off, FAILED, "its connection failed, and {no_fencing}"),
    _Row("offline", lambda c: c.node.busy, FAILED, "it is gone while busy, and {no_fencing}"),
    _Row("offline", lambda c: c.erased, FAILED, UNTRUSTED),
    # In doubt a loss can look like a clean stop.
    _Row("offline", lambda c: bool(c.doubt), FAILED, ""),
    _Row("remote offline", lambda c: c.remote, SILENT, "its connection does not run, and did not fail{trouble}"),
    _Row("shutdown on purpose", lambda c: True, SILENT, "pacemaker was stopped cleanly there{trouble}"),
)
"""Every state has its verdict here; the outcome is what would be done about the node."""


def judge(
    view: View, fencings: Mapping[str, fencing.Verdict] | None = None, also: Iterable[str] = ()
) -> tuple[Verdict, ...]:
    """The verdict of each node, in the order of the view, then of the names in `also` that the cluster doesn't know.

    fencings: what is known of the fencing of a node since it was last seen alive (fencing.judge), by its name; one that
    proves something counts even if the node is back. None: there is nothing but this view. Then a fencing counts if it is
    at most TIED_S older than the view (if that tells its time), and the node is down, clean and no longer expected up, as
    a success leaves it.
    """
    doubt = worthless(view)
    connections = {resource.name: resource for resource in view.resources if resource.agent == "ocf:pacemaker:remote"}
    verdicts = [_verdict(_case(node, view, doubt, connections, fencings)) for node in view.nodes]
    known = {node.name for node in view.nodes}
    unknown = (name for name in dict.fromkeys((*also, view.own)) if name and name not in known)
    verdicts += (
        Verdict(name, "unknown to the cluster", False, False, "the cluster has no such node") for name in unknown
    )
    return tuple(verdicts)


def worthless(view: View) -> str:
    """Why nobody may be taken for dead on the word of this view; "" if it is worth something."""
    members = [node for node in view.nodes if node.kind == MEMBER]
    online = sum(node.online for node in members)
    dc = view.node(view.dc)
    if view.pacemakerd not in ("", "running", "remote"):
        return f"pacemaker of the node that asked is not ready ({view.pacemakerd})"
    if view.own and (told := _own_trouble(view)):
        return told
    if not view.dc:
        return "the cluster has no DC at the moment, so nobody decides who is dead: wait"
    if dc is not None and not dc.online:
        return f"the view contradicts itself: the DC {view.dc} is not online: wait"
    if view.quorate is None:
        return "it doesn't tell whether there is quorum"
    if not view.quorate:
        return "there is no quorum: this side can't tell dead peers from its own isolation"
    if view.maintenance_mode:
        return "the whole cluster is in maintenance-mode, where pacemaker neither looks nor fences"
    if online == 0 or (online == 1 and len(members) > 1):
        return (
            f"only {online} of {len(members)} full members is online: the node that asked may itself be the one cut off"
        )
    return ""


def _own_trouble(view: View) -> str:
    own = view.node(view.own)
    if own is None:
        return f"the node that asked, {view.own}, is unknown to the cluster"
    for wrong, word in ((not own.online, "offline"), (own.unclean, "unclean"), (own.pending, "pending")):
        if wrong:
            return f"the node that asked, {view.own}, is itself {word} in it"
    return ""


def _verdict(case: _Case) -> Verdict:
    row = next(row for row in TABLE if row.fits(case))
    state = f"remote {row.state}" if case.remote and not row.state.startswith("remote ") else row.state
    trouble = case.trouble and f"; {case.trouble}"
    reason = row.reason.format(state=row.state, fenced=case.fenced, trouble=trouble, no_fencing=NO_FENCING)
    if not case.doubt:
        return Verdict(case.node.name, state, row.outcome != SILENT, row.outcome == PROVEN, reason)
    told = f"{reason}; " if row.outcome == SILENT else ""
    return Verdict(case.node.name, state, False, False, f"{told}nothing is reported: {case.doubt}")


def _case(
    node: Node,
    view: View,
    doubt: str,
    connections: Mapping[str, Resource],
    fencings: Mapping[str, fencing.Verdict] | None,
) -> _Case:
    events = [event for event in view.fence_events if event.target == node.name and event.action in fencing.PROVING]
    fenced, trouble = _of_this_view(node, view, events) if fencings is None else _since_alive(fencings.get(node.name))
    return _Case(
        node=node,
        view=view,
        doubt=doubt,
        connection=connections.get(node.name),
        fenced=fenced,
        fencing=any(event.status == "pending" for event in events),
        trouble=trouble,
    )


def _since_alive(told: fencing.Verdict | None) -> tuple[str, str]:
    """The fencing that belongs to this loss, as a sentence ("" for none), and what is to be said of others."""
    if told is None:
        return "", ""
    return ("", told.reason) if told.evidence is None else (told.reason, "")


def _of_this_view(node: Node, view: View, events: list[FenceEvent]) -> tuple[str, str]:
    """The same, as far as one view can tell."""
    if node.fenced_at is not None and not node.online:
        return f"pacemaker: fencing succeeded at {utc(node.fenced_at)}, and it has not been back since", ""
    since = view.at - TIED_S if view.at else 0.0
    told = fencing.judge(node.name, view.fence_events, since, view.at or float("inf"), TOLERANCE_S)
    done = max((event.completed or 0.0 for event in events if event.status == "success"), default=0.0)
    if told.evidence is not None and not (node.online or node.unclean or node.expected_up):
        return told.reason, ""
    if told.evidence is not None and node.online:
        return "", told.reason
    failed = [event for event in events if event.status == "failed" and (event.completed or 0.0) > done]
    if failed:
        return "", f"fencing failed at {utc(failed[0].completed or 0.0)}: {failed[0].exit_reason or 'no reason told'}"
    if done and not node.unclean and not node.expected_up:
        return "", f"it was fenced at {utc(done)}, but may have been back since: this view alone can't tell"
    return "", ""
