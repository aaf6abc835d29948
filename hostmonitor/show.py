"""What --show-cluster shows: the failover segment's name, what the cluster is like, and every node with its BMCs.

Whatever can't be asked is left out, and it says so: it is of use just when something of the cluster is down.
"""

from __future__ import annotations

import json
import re
import shlex
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TypeVar

from hostmonitor import alerts, stonith
from hostmonitor.cluster import Segment, dangers, segment
from hostmonitor.config import Settings
from hostmonitor.corosync import Corosync, read_cmap, read_conf
from hostmonitor.crm_xml import BadView, parse, quoted
from hostmonitor.model import GUEST, MEMBER, REMOTE, View
from hostmonitor.pacemaker import Pacemaker
from hostmonitor.stonith import Declared
from hostmonitor.verdict import judge
from masakari.common.clock import Clock
from masakari.common.errors import ConfigError, Unavailable

T = TypeVar("T")

WIDTH = 110
BMC_WIDTH = 40
TEXT_CHARS = 1000
HEADINGS = ("NODE", "KIND", "STATE", "NOVA HOST", "BMC")
UNKNOWN = "unknown"
REGISTER = "masakari-hostmonitor --register-alert"


@dataclass(frozen=True, slots=True)
class Facts:
    """What could be found out. view, corosync, segment, alert are None where it could not; unknown says why, a sentence
    for each daemon or file. own: this node's name in pacemaker, "" if that can't be told. alert: why pacemaker's alerts don't
    come, "" if they do. conf: where corosync was read from while it doesn't run, "" if it does.
    """

    own: str = ""
    view: View | None = None
    corosync: Corosync | None = None
    segment: Segment | None = None
    declared: Declared = field(default_factory=Declared)
    alert: str | None = None
    conf: str = ""
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ShownBmc:
    """A BMC of a node. source: the stonith resource, or the file and its section."""

    address: str
    port: int
    source: str


@dataclass(frozen=True, slots=True)
class ShownNode:
    """A node. kind: member, remote or guest, "" if that is not known. state: as --explain has it. nova_host: "" for a guest.

    bmcs: empty if none is declared, None if the CIB, which may name some, can't be read. unusable: why BMCs of it can't be
    asked, a sentence each.
    """

    name: str
    kind: str
    state: str
    nova_host: str
    bmcs: tuple[ShownBmc, ...] | None
    unusable: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """All that is shown; with --json this object. A text is "", and a yes or no is null, where it can't be told.

    cluster_port: what reserve_host_manage.py is given as --port; source: where it comes from; command: the whole command.
    own_node, own_host: this node's name in pacemaker, and in Nova. alert_problem: why pacemaker's alerts don't come.
    dangers, unknown: sentences; unknown: what can't be told, and why.
    """

    cluster_port: str
    source: str
    command: str
    cluster_name: str
    transport: str
    quorum: bool | None
    dc: str
    own_node: str
    own_host: str
    stonith_enabled: bool | None
    no_quorum_policy: str
    alert_works: bool | None
    alert_problem: str
    dangers: tuple[str, ...]
    unknown: tuple[str, ...]
    nodes: tuple[ShownNode, ...]


def show(settings: Settings, clock: Clock, *, as_json: bool) -> str:
    """The cluster as this node sees it, for a person or for a program (Shown). It takes at most 10 s for each daemon that hangs.

    What is down is told in it; nothing is raised for that.
    """
    shown = describe(settings, ask(settings, Pacemaker(clock), clock))
    return json.dumps(asdict(shown), indent=2) if as_json else as_text(shown)


def ask(settings: Settings, pacemaker: Pacemaker, clock: Clock) -> Facts:
    """Ask this node's daemons, and read corosync's configuration from its file while corosync does not run."""
    asking = _Asking()
    own = asking.about("pacemaker", pacemaker.node_name) or ""
    at = clock.now()
    view = asking.about("pacemaker", lambda: parse(pacemaker.status(), own, at))
    cib = asking.about("pacemaker", pacemaker.cib)
    corosync, conf = None, ""
    if view is None or not is_remote(view):
        corosync = asking.about("corosync", lambda: read_cmap(pacemaker.cmap()))
        if corosync is None and (corosync := asking.about("corosync", lambda: _conf(settings.environments.ha_conf))):
            conf = settings.environments.ha_conf
    return Facts(
        own=own,
        view=view,
        corosync=corosync,
        segment=asking.about("cluster_port", lambda: segment_of(settings, corosync)),
        declared=settings.declared.over(stonith.from_cib(cib)) if cib else settings.declared,
        alert=alert_problem(cib, settings.environments.alert_pipe) if cib else None,
        conf=conf,
        unknown=tuple(f"{subject}: {why}" for subject, why in asking.failed.items()),
    )


def segment_of(settings: Settings, corosync: Corosync | None) -> Segment:
    """The failover segment. ConfigError, with what to do, when nothing names it; corosync is None while it can't be asked."""
    configured, of_key = settings.environments.cluster_port, settings.identity.cluster_port
    if corosync is None and not (configured or of_key):
        raise ConfigError(
            [
                "only corosync could tell it, and that can't be asked. Start it; on a node of pacemaker-remote set cluster_port "
                "in hostmonitor.conf to what masakari-hostmonitor --show-cluster tells on a full member"
            ]
        )
    return segment(configured, of_key, corosync)


def is_remote(view: View) -> bool:
    """Whether the node that asked is one of pacemaker-remote: it has no corosync, and no alert reaches it."""
    own = view.node(view.own)
    return own is not None and own.kind == REMOTE


def alert_problem(cib: str, pipe: str) -> str:
    """Why pacemaker's alerts don't come, by this CIB, with what to do; "" if they do."""
    if problem := alerts.registration_problem(cib, alerts.AGENT, pipe):
        return f"{problem}; run once for the whole cluster, on any full member: {REGISTER}"
    return alerts.agent_problem(alerts.AGENT)


class _Asking:
    """Asks one after the other. failed: the first reason of each daemon that gave no answer."""

    def __init__(self) -> None:
        self.failed: dict[str, str] = {}

    def about(self, subject: str, question: Callable[[], T]) -> T | None:
        try:
            return question()
        except (Unavailable, BadView) as error:
            self.failed.setdefault(subject, str(error))
        except ConfigError as error:
            self.failed.setdefault(subject, "; ".join(error.problems))
        return None


def _conf(path: str) -> Corosync:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return read_conf(file.read(), path)
    except OSError as error:
        raise Unavailable(f"{path} can't be read: {error.strerror}") from error


def describe(settings: Settings, facts: Facts) -> Shown:
    """What is shown of these facts (pure)."""
    view, corosync = facts.view, facts.corosync or Corosync()
    port = facts.segment.cluster_port if facts.segment else ""
    source = facts.segment.source if facts.segment else ""
    from_file = facts.conf and source.startswith("corosync")
    return Shown(
        cluster_port=port,
        source=f"{source}, as {facts.conf} has it" if from_file else source,
        command=f"reserve_host_manage.py --mode add --port {_word(port)} --host <host>" if port else "",
        cluster_name=corosync.cluster_name,
        transport=corosync.transport,
        quorum=view.quorate if view else None,
        dc=view.dc if view else "",
        own_node=facts.own or corosync.own_name,
        own_host=settings.identity.hostname,
        stonith_enabled=view.stonith_enabled if view else None,
        no_quorum_policy=view.no_quorum_policy if view else "",
        alert_works=None if facts.alert is None else not facts.alert,
        alert_problem=facts.alert or "",
        dangers=tuple(dangers(view)) if view else (),
        unknown=(*facts.unknown, *(f"BMCs: {why}" for why in facts.declared.general)),
        nodes=tuple(_nodes(settings, facts)),
    )


def _word(port: str) -> str:
    """As a shell takes it."""
    return f'"{port}"' if re.fullmatch(r"[\w@%+=:,./-]+", port) else shlex.quote(port)


def _nodes(settings: Settings, facts: Facts) -> list[ShownNode]:
    """Without pacemaker those that corosync has been told of."""
    if facts.view is None:
        members = facts.corosync.members if facts.corosync else ()
        return [_node(settings, facts, name, MEMBER, UNKNOWN) for name in members]
    view = facts.view
    kinds = {node.name: node.kind for node in view.nodes}
    return [_node(settings, facts, one.name, kinds.get(one.name, ""), one.state) for one in judge(view)]


def _node(settings: Settings, facts: Facts, name: str, kind: str, state: str) -> ShownNode:
    own = facts.own or (facts.corosync.own_name if facts.corosync else "")
    host = settings.identity.hostname if name == own else settings.nova_hosts.get(name, name)
    bmcs = tuple(ShownBmc(bmc.address, bmc.port, bmc.source) for bmc in facts.declared.bmcs.get(name, ()))
    unusable = facts.declared.unusable.get(name, ())
    is_told = bmcs or unusable or facts.alert is not None
    return ShownNode(name, kind, state, "" if kind == GUEST else host, bmcs if is_told else None, unusable)


def as_text(shown: Shown) -> str:
    """For a person: what the operator needs first, the cluster, a table of the nodes, and what is wrong (pure)."""
    lines = [_line("cluster_port", f"{shown.cluster_port} ({shown.source})" if shown.cluster_port else UNKNOWN)]
    if shown.command:
        lines.append(_line("add a spare", shown.command))
    lines += [_line("cluster", _cluster(shown)), _line("this node", _own(shown)), _line("alert", _alert(shown))]
    lines += ["", *_table(shown.nodes)]
    remarks = [f"warning: {danger}" for danger in shown.dangers]
    remarks += [f"can't be told: {quoted(why, TEXT_CHARS)}" for why in shown.unknown]
    return "\n".join(lines + [""] * bool(remarks) + [line for text in remarks for line in textwrap.wrap(text, WIDTH)])


def _line(name: str, text: str) -> str:
    return f"{name + ':':<14}{quoted(text, TEXT_CHARS)}"


def _cluster(shown: Shown) -> str:
    quorum = {True: "quorum", False: "NO QUORUM", None: "quorum unknown"}[shown.quorum]
    stonith = {True: "true", False: "false", None: UNKNOWN}[shown.stonith_enabled]
    dc = UNKNOWN if shown.quorum is None else shown.dc or "none"
    return (
        f"{shown.cluster_name or 'without a name'}, transport {shown.transport or UNKNOWN}, {quorum}, DC {dc}, "
        f"stonith-enabled={stonith}, no-quorum-policy={shown.no_quorum_policy or UNKNOWN}"
    )


def _own(shown: Shown) -> str:
    remote = any(node.name == shown.own_node and node.kind == REMOTE for node in shown.nodes)
    kind = ", a node of pacemaker-remote: no alert reaches it" if remote else ""
    return f"{shown.own_node or UNKNOWN} to pacemaker, {shown.own_host} to Nova{kind}"


def _alert(shown: Shown) -> str:
    return {True: "registered", False: shown.alert_problem, None: UNKNOWN}[shown.alert_works]


def _table(nodes: Sequence[ShownNode]) -> list[str]:
    rows = [HEADINGS]
    rows += [(quoted(it.name), it.kind or UNKNOWN, it.state, quoted(it.nova_host) or "-", _bmcs(it)) for it in nodes]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS) - 1)]
    lines = []
    for row in rows:
        left = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) + "  "
        bmc = textwrap.wrap(row[-1], max(BMC_WIDTH, WIDTH - len(left)), break_on_hyphens=False)
        lines += [left + bmc[0], *(" " * len(left) + more for more in bmc[1:])]
    return lines


def _bmcs(node: ShownNode) -> str:
    if node.kind == GUEST:
        return "-"
    if node.bmcs is None:
        return UNKNOWN
    told = [f"{it.address}{'' if it.port == 623 else f' port {it.port}'} ({it.source})" for it in node.bmcs]
    told += [f"unusable: {why}" for why in node.unusable]
    return quoted("; ".join(told), TEXT_CHARS) or "none"
