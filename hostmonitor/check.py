"""What --check-config --online looks at: whether all that the monitor will ask answers, and whether the settings fit it.

A check asks its facts first; what is made of them is decided in a function of its own, which asks nothing.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from hostmonitor import stonith
from hostmonitor.cluster import dangers
from hostmonitor.config import BLIND, Settings
from hostmonitor.corosync import Corosync, cluster_port, read_cmap
from hostmonitor.crm_xml import BadView, parse, quoted
from hostmonitor.heartbeat import HEARD, Heartbeat, Line
from hostmonitor.ipmi import Ipmi
from hostmonitor.model import GUEST, MEMBER, Node, View
from hostmonitor.own import OwnState
from hostmonitor.pacemaker import Pacemaker
from hostmonitor.power import Reading
from hostmonitor.show import alert_problem, is_remote, segment_of
from hostmonitor.stonith import Declared
from hostmonitor.verdict import worthless
from masakari.common import checkup, node
from masakari.common.checkup import Check, Outcome, not_ok, ok, skipped, warning
from masakari.common.clock import Clock
from masakari.common.errors import ConfigError, Unavailable
from masakari.common.text import count

NOVA_CONF = ("/etc/nova/nova.conf", "/etc/nova/nova-compute.conf")
"""As nova-compute reads them: what stands in the second one goes before."""

OWN_GUID_WITHIN_S = 2.0
TEXT_CHARS = 2000


@dataclass(frozen=True)
class World:
    """Whom the checks ask. say: is told of the progress. uname: what this host calls itself; nova_conf: Nova's files."""

    pacemaker: Pacemaker
    ipmi: Ipmi
    heartbeat: Heartbeat
    clock: Clock
    say: Callable[[str], object]
    uname: str
    nova_conf: Sequence[str] = NOVA_CONF


def checks(settings: Settings, clock: Clock) -> list[Check]:
    """All of them. A daemon that hangs holds them up for 10 s at each question, a BMC for IPMI_TIMEOUT."""
    world = World(Pacemaker(clock), Ipmi(clock), Heartbeat(clock), clock, checkup.to_stderr, node.hostname())
    return Checks(settings, world).listed()


class Checks:
    """All checks of one run, and what they have found out for those after them."""

    def __init__(self, settings: Settings, world: World) -> None:
        self._settings = settings
        self._main = settings.environments
        self._world = world
        self._view: View | None = None
        self._ring: Corosync | None = None
        self._declared = settings.declared
        self._alert_problem: str | None = None

    def listed(self) -> list[Check]:
        """Every check, in the order in which they depend on one another."""
        return [
            ("pacemaker", self._pacemaker),
            ("corosync", self._corosync),
            ("cluster_port", lambda: of_cluster_port(self._settings, self._ring)),
            ("CIB", self._cib),
            ("names", lambda: of_names(self._names())),
            ("cluster", self._cluster),
            ("alert", self._alert),
            ("BMCs", self._bmcs),
            ("own BMC", lambda: of_own_bmc(self._world.ipmi.own_guid(OWN_GUID_WITHIN_S))),
            ("heartbeat line", self._heartbeat),
            ("alert_pipe", lambda: of_folder(os.path.dirname(self._main.alert_pipe))),
        ]

    def _pacemaker(self) -> list[Outcome]:
        pacemaker = self._world.pacemaker
        try:
            own = pacemaker.node_name()
            self._view = parse(pacemaker.status(), own, self._world.clock.now())
        except (Unavailable, BadView) as error:
            return rows("pacemaker", problems=[f"pacemaker can't be asked, so nothing is watched: {error}"])
        return of_view(self._view)

    def _corosync(self) -> list[Outcome]:
        if self._view and is_remote(self._view):
            return []
        try:
            self._ring = read_cmap(self._world.pacemaker.cmap())
        except (Unavailable, ConfigError) as error:
            return rows("corosync", problems=[f"corosync can't be asked, so nothing is reported: {error}"])
        return of_corosync(self._ring)

    def _cib(self) -> list[Outcome]:
        if self._view is None:
            return []
        try:
            cib = self._world.pacemaker.cib()
        except Unavailable as error:
            return rows("CIB", problems=[f"the BMCs of stonith resources, and the alert, can't be told: {error}"])
        self._declared = self._declared.over(stonith.from_cib(cib))
        self._alert_problem = alert_problem(cib, self._main.alert_pipe)
        return []

    def _names(self) -> Names:
        view = self._view
        host, source = nova_host(self._world.nova_conf, self._world.uname)
        return Names(
            own=view.own if view else "",
            uname=self._world.uname,
            hostname=self._settings.identity.hostname,
            signed=bool(self._settings.identity.key_id),
            nova=host,
            nova_source=source,
            nova_hosts=self._settings.nova_hosts,
            bmc_file=self._main.bmc_file,
            bmc_nodes=tuple(self._settings.declared.bmcs),
            known=tuple(node.name for node in view.nodes) if view else (),
        )

    def _cluster(self) -> list[Outcome]:
        if self._view is None:
            return [skipped("cluster, alert, BMCs", "not checked without pacemaker")]
        doubt = worthless(self._view)
        if not doubt:
            limits = replace(self._main, tcpdump_timeout=0.0)  # that is a check of its own
            own = OwnState(self._world.pacemaker, self._world.heartbeat, self._world.clock, lambda: limits)
            doubt = own.trouble(self._view)
        return of_cluster(self._view, doubt)

    def _alert(self) -> list[Outcome]:
        if self._view is None or self._alert_problem is None:
            return []
        return of_alert(self._alert_problem, is_remote(self._view), self._main.monitor_interval)

    def _bmcs(self) -> Iterator[Outcome]:
        if self._view is None:
            return
        if self._settings.believes_blindly:
            yield from rows("BMCs", "not asked", warnings=[BLIND])
            return
        declared = self._declared
        nodes = reported(self._view, self._main.restrict_to_remotes)
        asked = [node for node in nodes if declared.bmcs.get(node.name)]
        yield from of_declared(nodes, declared)
        if not asked:
            return
        within_s, at_once = self._main.ipmi_timeout, self._main.max_child_process
        self._world.say(f"BMCs: asking those of {count(len(asked), 'node')}, up to {within_s:g} s each")
        with ThreadPoolExecutor(min(at_once, len(asked))) as threads:
            told = threads.map(lambda node: self._world.ipmi.read_all(declared.bmcs[node.name], within_s), asked)
            for node, readings in zip(asked, told, strict=True):
                yield from of_readings(node, readings)

    def _heartbeat(self) -> list[Outcome]:
        within_s = self._main.tcpdump_timeout
        if within_s <= 0 or self._ring is None:
            return []
        self._world.say(f"heartbeat line: listening for up to {within_s:g} s")
        return of_heartbeat(self._world.heartbeat.listen(self._ring.rings, within_s))


# What the facts mean


def rows(
    subject: str, told: str = "", notes: Sequence[str] = (), warnings: Sequence[str] = (), problems: Sequence[str] = ()
) -> list[Outcome]:
    """The rows of a subject. told: in a few words; notes, warnings and problems: a sentence each, with what to do.

    Each problem and each warning has a row; what is told, and the notes, are in the first warning, or else in a row that is ok.
    """
    known = [text for text in (told, *notes) if text]
    found = [not_ok(subject, quoted(text, TEXT_CHARS)) for text in problems]
    if warnings:
        first, *others = warnings
        return [*found, *(warning(subject, quoted(text, TEXT_CHARS)) for text in ("; ".join([*known, first]), *others))]
    return [*found, ok(subject, quoted("; ".join(known), TEXT_CHARS))] if known else found


def of_view(view: View) -> list[Outcome]:
    """Whether pacemaker knows the node that asked."""
    if view.node(view.own) is None:
        why = f"pacemaker calls this node {view.own}, and the cluster has no such node"
        return rows(
            "pacemaker", problems=[f"{why}, but {', '.join(one.name for one in view.nodes) or 'none'}: see crm_node -n"]
        )
    told = f"{view.own} of {count(len(view.nodes), 'node')}, DC {view.dc or 'none'}"
    return rows("pacemaker", told, notes=("a node of pacemaker-remote has no corosync",) if is_remote(view) else ())


def of_corosync(corosync: Corosync) -> list[Outcome]:
    """Whether all members are there."""
    told = f"{corosync.joined} of {count(corosync.member_count, 'member')}, transport {corosync.transport or 'default'}"
    missing = corosync.member_count - corosync.joined
    if missing <= 0:
        return rows("corosync", told)
    return rows("corosync", told, warnings=(f"corosync misses {count(missing, 'member')}: see corosync-quorumtool",))


def of_cluster_port(settings: Settings, corosync: Corosync | None) -> list[Outcome]:
    """Whether the failover segment has a name, and the nodes that are not configured call it the same."""
    try:
        found = segment_of(settings, corosync)
    except ConfigError as error:
        return rows("cluster_port", problems=error.problems)
    told = f"{found.cluster_port} ({found.source})"
    try:
        derived = cluster_port(corosync) if corosync else found.cluster_port
    except ConfigError:
        return rows("cluster_port", told)
    if derived == found.cluster_port:
        return rows("cluster_port", told)
    return rows(
        "cluster_port",
        told,
        warnings=(
            f"corosync itself names this cluster {derived}: nodes without a key, or cluster_port, would report that name, "
            f"and belong to another failover segment. Spares are added with --port {found.cluster_port}",
        ),
    )


@dataclass(frozen=True, slots=True)
class Names:
    """By which names this host goes, and which names the settings use. own: pacemaker's, "" while that can't be asked.

    hostname: the one it reports itself under, signed if it has a key. nova: Nova's own name for it, and where that stands;
    "", and why, if that can't be told. bmc_nodes: for whom bmc_file has BMCs. known: pacemaker's names of all nodes.
    """

    own: str
    uname: str
    hostname: str
    signed: bool = True
    nova: str = ""
    nova_source: str = ""
    nova_hosts: Mapping[str, str] = field(default_factory=dict)
    bmc_file: str = ""
    bmc_nodes: tuple[str, ...] = ()
    known: tuple[str, ...] = ()


def of_names(names: Names) -> list[Outcome]:
    """Whether everybody means the same host by a name."""
    own, hostname = names.own, names.hostname
    problems, notes, warnings = [], [], []
    if names.nova and names.nova != hostname:
        problems.append(
            f"Nova calls this host {names.nova} ({names.nova_source}), but it is reported as {hostname}"
            f"{_alike(names.nova, hostname)}: set hostname = {names.nova} in hostmonitor.conf, and have a key for that"
        )
    if not names.nova:
        notes.append(
            f"whether Nova calls this host {hostname} can't be told here ({names.nova_source}); compare with "
            "`openstack compute service list`"
        )
    mapped = names.nova_hosts.get(own)
    if mapped is not None and mapped != hostname:
        problems.append(
            f"nova_hosts says {own}={mapped}, but that is this very host, and it is reported as {hostname}"
            f"{_alike(mapped, hostname)}: correct nova_hosts, or hostname, in hostmonitor.conf"
        )
    if own and own != hostname and mapped is None:
        differ = f"pacemaker calls this host {own}, and Nova {hostname}{_alike(own, hostname)}"
        if names.signed:
            notes.append(f"{differ}: the controller knows once this monitor has started")
        else:
            warnings.append(
                f"{differ}, and the controller does not take that from a monitor without a key: have one, or "
                f"nova_hosts = {own}={hostname} on the other nodes"
            )
    if names.known:
        problems += _unknown("nova_hosts", names.nova_hosts, names.known)
        problems += _unknown(names.bmc_file, names.bmc_nodes, names.known)
    told = f"{own or 'unknown'} to pacemaker, {hostname} to Nova, {names.uname} to itself"
    return rows("names", told, notes, warnings, problems)


def _unknown(where: str, named: Collection[str], known: Sequence[str]) -> list[str]:
    """Names that the cluster does not have."""
    problems = []
    for name in named:
        if name in known:
            continue
        alike = [other for other in known if _alike(name, other)] or difflib.get_close_matches(name, known, 1)
        meant = f"; is {alike[0]} meant{_alike(name, alike[0])}?" if alike else f"; it has {', '.join(known)}"
        problems.append(f"{where} names {name}, but pacemaker knows no such node{meant}")
    return problems


def _alike(one: str, other: str) -> str:
    """In what two names differ that a person takes for the same; "" if they differ in more, or in nothing."""
    if one == other:
        return ""
    if one.lower() == other.lower():
        return " (they differ in case alone)"
    short = [name.partition(".")[0].lower() for name in (one, other)]
    return " (they differ in the domain alone)" if short[0] == short[1] and not short[0].isdecimal() else ""


def nova_host(paths: Sequence[str], uname: str) -> tuple[str, str]:
    """What Nova calls this host by its files, and where that stands; "" and why not, when they can't tell."""
    host, source = uname, f"no host in {paths[0]}, so what `hostname` prints"
    for path in paths:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                found = host_in(file.read())
        except OSError as error:
            if path == paths[0]:
                return "", f"{path}: {error.strerror}"
            continue
        if found:
            host, source = found, f"host in {path}"
    return ("", f"{source} is {host!r}") if "$" in host else (host, source)


def host_in(text: str) -> str:
    """The `host` of the section [DEFAULT] of a nova.conf, the last one as Nova takes it; "" if there is none (pure)."""
    section = host = ""
    for line in text.splitlines():
        if head := re.match(r"\[(.+?)\]", line):
            section = head.group(1)
        elif section == "DEFAULT" and (found := re.fullmatch(r"host\s*[=:]\s*(.*?)\s*", line)):
            host = found.group(1).strip("\"'")
    return host


def of_cluster(view: View, doubt: str) -> list[Outcome]:
    """What is dangerous about the cluster, in one row. doubt: why this node's view is worth nothing at the moment."""
    stonith_enabled = {True: "true", False: "false", None: "unknown"}[view.stonith_enabled]
    told = f"stonith-enabled={stonith_enabled}, no-quorum-policy={view.no_quorum_policy or 'unknown'}"
    found = [f"nothing would be reported at the moment: {doubt}"] if doubt else []
    found += dangers(view)
    return rows("cluster", told, warnings=["; ".join(found)] if found else [])


def of_alert(problem: str, remote: bool, interval_s: float) -> list[Outcome]:
    """Whether pacemaker tells the monitors what happens; problem: why not, with what to do. remote: a node of pacemaker-remote."""
    if remote:
        why = f"no alert reaches a node of pacemaker-remote: it looks every {interval_s:g} s (monitor_interval)"
        return rows("alert", "polling alone", notes=(why,))
    if not problem:
        return rows("alert", "registered")
    why = (
        f"a failure is seen up to {interval_s:g} s late (monitor_interval), as pacemaker does not tell of it: {problem}"
    )
    return rows("alert", "polling alone", warnings=(why,))


def reported(view: View, remotes_alone: bool) -> list[Node]:
    """The nodes whose failure would be reported."""
    kinds = (GUEST, MEMBER) if remotes_alone else (GUEST,)
    return [node for node in view.nodes if node.name != view.own and node.kind not in kinds]


def of_declared(nodes: Sequence[Node], declared: Declared) -> list[Outcome]:
    """Which of these nodes have a BMC that can be asked."""
    problems = [f"{node.name}: {why}" for node in nodes for why in declared.unusable.get(node.name, ())]
    without = [node.name for node in nodes if not (declared.bmcs.get(node.name) or declared.unusable.get(node.name))]
    warnings = list(declared.general)
    if without:
        warnings.append(
            f"no BMC is declared for {', '.join(without)}: only a fencing that pacemaker says succeeded proves such a host "
            "off. Put its BMC into a stonith resource, or into the file that bmc_file names"
        )
    usable = sum(node.name in declared.bmcs for node in nodes)
    told = f"{usable} of {count(len(nodes), 'other node')} with a BMC that can be asked"
    return rows("BMCs", told, warnings=warnings, problems=problems)


def of_readings(node: Node, readings: Sequence[Reading]) -> list[Outcome]:
    """Whether the BMCs of a node can be read, and are its own."""
    vain = "its power can't be read, so that would not prove it off"
    problems = [f"{vain}: {one.why}" for one in readings if not one.state]
    problems += [
        f"{one.bmc.name} says that the power is off, but pacemaker sees the node online: it is the BMC of another "
        f"host, and could prove this one dead while it lives; see {one.bmc.source}"
        for one in readings
        if one.state == "off" and node.online and not node.unclean
    ]
    told = [f"{one.bmc.name}: power {one.state}, GUID {one.guid or 'not told'}" for one in readings if one.state]
    return rows(f"BMC of {node.name}", "; ".join(told), problems=problems)


def of_own_bmc(guid: str) -> list[Outcome]:
    """What the controller will be told of this host's own BMC."""
    if guid:
        return rows("own BMC", f"GUID {guid}")
    why = "its GUID is not told on this host itself (ipmitool mc guid), so the controller can't refuse what a wrong BMC says"
    return rows("own BMC", "GUID unknown", notes=(why,))


def of_heartbeat(line: Line) -> list[Outcome]:
    """Whether the check of the heartbeat line works."""
    if line.state == HEARD:
        return rows("heartbeat line", "other nodes are heard", warnings=(line.text,) if line.text else ())
    return rows(
        "heartbeat line", problems=[f"{line.text}. As long as that is so, nothing is reported (TCPDUMP_TIMEOUT)"]
    )


def of_folder(folder: str) -> list[Outcome]:
    """Whether the alert's pipe can be made by this user, after making its folder if need be."""
    there = folder
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    if os.path.isdir(there) and os.access(there, os.W_OK | os.X_OK):
        return rows("alert_pipe", f"{folder} can be written")
    return rows(
        "alert_pipe", problems=[f"{folder} can't be written: {there} is no folder, or not writable for this user"]
    )
