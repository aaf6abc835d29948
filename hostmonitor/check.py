"""What --check-config --online looks at: whether all that the monitor will ask answers, and whether the settings fit it.

A check asks its facts first; what is made of them is decided in a function of its own, which asks nothing.
"""

from __future__ import annotations

import difflib
import os
import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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
from masakari.common import node
from masakari.common.clock import Clock
from masakari.common.errors import ConfigError, Unavailable
from masakari.common.text import count

NOVA_CONF = ("/etc/nova/nova.conf", "/etc/nova/nova-compute.conf")
"""As nova-compute reads them: what stands in the second one goes before."""

OWN_GUID_WITHIN_S = 2.0
SLOW_S = 2.0
LINE_CHARS = 2000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a check found. told: in a few words; notes, warnings and problems: a sentence each, with what to do."""

    told: str = ""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def _failed(problem: str) -> Outcome:
    return Outcome(problems=(problem,))


@dataclass(frozen=True)
class World:
    """Whom the checks ask. say: takes a line for the operator, from any thread. uname: what this host calls itself; nova_conf:
    Nova's files. slow_s: what takes longer says so.
    """

    pacemaker: Pacemaker
    ipmi: Ipmi
    heartbeat: Heartbeat
    clock: Clock
    say: Callable[[str], object]
    uname: str
    nova_conf: Sequence[str] = NOVA_CONF
    slow_s: float = SLOW_S


def online(settings: Settings, clock: Clock) -> list[str]:
    """Check it all, with a line on standard output for each check, and the warnings; returns the problems.

    Never raises. A daemon that hangs holds it up for 10 s at each question, a BMC for IPMI_TIMEOUT.
    """

    def say(line: str) -> None:
        print(line, flush=True)

    return Checks(settings, World(Pacemaker(clock), Ipmi(clock), Heartbeat(clock), clock, say, node.hostname())).run()


class Checks:
    """One run of all checks, in the order in which they depend on one another."""

    def __init__(self, settings: Settings, world: World) -> None:
        self._settings = settings
        self._main = settings.environments
        self._world = world
        self._problems: list[str] = []

    def run(self) -> list[str]:
        """Every check; the problems."""
        view = self._pacemaker()
        remote = view is not None and is_remote(view)
        corosync = None if remote else self._corosync()
        self._tell("cluster_port", of_cluster_port(self._settings, corosync))
        declared, alert = self._cib(view)
        self._tell("names", of_names(self._names(view)))
        if view:
            self._tell("cluster", self._cluster(view))
            if alert is not None:
                self._tell("alert", of_alert(alert, remote, self._main.monitor_interval))
                self._bmcs(view, declared)
        else:
            self._world.say("cluster, alert, BMCs: not checked without pacemaker")
        with self._patiently("own BMC: asked"):
            guid = self._world.ipmi.own_guid(OWN_GUID_WITHIN_S)
        self._tell("own BMC", of_own_bmc(guid))
        if self._main.tcpdump_timeout > 0 and corosync:
            self._tell("heartbeat line", self._heartbeat(corosync))
        self._tell("alert_pipe", of_folder(os.path.dirname(self._main.alert_pipe)))
        return self._problems

    def _tell(self, subject: str, outcome: Outcome) -> None:
        state = "NOT OK" if outcome.problems else "WARNING" if outcome.warnings else "ok"
        lines = [f"{subject}: {state}{', ' if outcome.told else ''}{outcome.told}"]
        lines += [*(f"note: {note}" for note in outcome.notes), *(f"warning: {text}" for text in outcome.warnings)]
        for line in lines:
            self._world.say(quoted(line, LINE_CHARS))
        self._problems += [quoted(problem, LINE_CHARS) for problem in outcome.problems]

    @contextmanager
    def _patiently(self, line: str) -> Iterator[None]:
        """Say the line if that takes long."""
        timer = threading.Timer(self._world.slow_s, self._world.say, [f"{line}, no answer yet"])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()

    def _pacemaker(self) -> View | None:
        pacemaker = self._world.pacemaker
        try:
            with self._patiently("pacemaker: asked"):
                own = pacemaker.node_name()
                view = parse(pacemaker.status(), own, self._world.clock.now())
        except (Unavailable, BadView) as error:
            self._tell("pacemaker", _failed(f"pacemaker can't be asked, so nothing is watched: {error}"))
            return None
        self._tell("pacemaker", of_view(view))
        return view

    def _corosync(self) -> Corosync | None:
        try:
            with self._patiently("corosync: asked"):
                corosync = read_cmap(self._world.pacemaker.cmap())
        except (Unavailable, ConfigError) as error:
            self._tell("corosync", _failed(f"corosync can't be asked, so nothing is reported: {error}"))
            return None
        self._tell("corosync", of_corosync(corosync))
        return corosync

    def _cib(self, view: View | None) -> tuple[Declared, str | None]:
        """The BMCs, and why pacemaker's alerts don't come, "" if they do; None when that can't be told."""
        declared = self._settings.declared
        if view is None:
            return declared, None
        try:
            with self._patiently("CIB: asked"):
                cib = self._world.pacemaker.cib()
        except Unavailable as error:
            self._tell("CIB", _failed(f"the BMCs of stonith resources, and the alert, can't be told: {error}"))
            return declared, None
        return declared.over(stonith.from_cib(cib)), alert_problem(cib, self._main.alert_pipe)

    def _names(self, view: View | None) -> Names:
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

    def _cluster(self, view: View) -> Outcome:
        doubt = worthless(view)
        if not doubt:
            limits = replace(self._main, tcpdump_timeout=0.0)  # that has a line of its own
            own = OwnState(self._world.pacemaker, self._world.heartbeat, self._world.clock, lambda: limits)
            with self._patiently("cluster: asked"):
                doubt = own.trouble(view)
        return of_cluster(view, doubt)

    def _bmcs(self, view: View, declared: Declared) -> None:
        if self._settings.believes_blindly:
            self._tell("BMCs", Outcome("not asked", warnings=(BLIND,)))
            return
        nodes = reported(view, self._main.restrict_to_remotes)
        asked = [node for node in nodes if declared.bmcs.get(node.name)]
        self._tell("BMCs", of_declared(nodes, declared))
        if not asked:
            return
        within_s, at_once = self._main.ipmi_timeout, self._main.max_child_process
        self._world.say(f"BMCs: asking those of {count(len(asked), 'node')}, up to {within_s:g} s each")
        with ThreadPoolExecutor(min(at_once, len(asked))) as threads:
            told = threads.map(lambda node: self._world.ipmi.read_all(declared.bmcs[node.name], within_s), asked)
            for node, readings in zip(asked, told, strict=True):
                self._tell(f"BMC of {node.name}", of_readings(node, readings))

    def _heartbeat(self, corosync: Corosync) -> Outcome:
        within_s = self._main.tcpdump_timeout
        with self._patiently(f"heartbeat line: listening for up to {within_s:g} s"):
            return of_heartbeat(self._world.heartbeat.listen(corosync.rings, within_s))


# What the facts mean


def of_view(view: View) -> Outcome:
    """Whether pacemaker knows the node that asked."""
    if view.node(view.own) is None:
        why = f"pacemaker calls this node {view.own}, and the cluster has no such node"
        return _failed(f"{why}, but {', '.join(one.name for one in view.nodes) or 'none'}: see crm_node -n")
    told = f"{view.own} of {count(len(view.nodes), 'node')}, DC {view.dc or 'none'}"
    return Outcome(told, notes=("a node of pacemaker-remote has no corosync",) if is_remote(view) else ())


def of_corosync(corosync: Corosync) -> Outcome:
    """Whether all members are there."""
    told = f"{corosync.joined} of {count(corosync.member_count, 'member')}, transport {corosync.transport or 'default'}"
    missing = corosync.member_count - corosync.joined
    if missing <= 0:
        return Outcome(told)
    return Outcome(told, warnings=(f"corosync misses {count(missing, 'member')}: see corosync-quorumtool",))


def of_cluster_port(settings: Settings, corosync: Corosync | None) -> Outcome:
    """Whether the failover segment has a name, and the nodes that are not configured call it the same."""
    try:
        found = segment_of(settings, corosync)
    except ConfigError as error:
        return Outcome(problems=tuple(f"cluster_port: {problem}" for problem in error.problems))
    told = f"{found.cluster_port} ({found.source})"
    try:
        derived = cluster_port(corosync) if corosync else found.cluster_port
    except ConfigError:
        return Outcome(told)
    if derived == found.cluster_port:
        return Outcome(told)
    return Outcome(
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


def of_names(names: Names) -> Outcome:
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
    return Outcome(told, tuple(notes), tuple(warnings), tuple(problems))


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


def of_cluster(view: View, doubt: str) -> Outcome:
    """What is dangerous about the cluster. doubt: why this node's view is worth nothing at the moment."""
    stonith_enabled = {True: "true", False: "false", None: "unknown"}[view.stonith_enabled]
    told = f"stonith-enabled={stonith_enabled}, no-quorum-policy={view.no_quorum_policy or 'unknown'}"
    now = (f"nothing would be reported at the moment: {doubt}",) if doubt else ()
    return Outcome(told, warnings=(*now, *dangers(view)))


def of_alert(problem: str, remote: bool, interval_s: float) -> Outcome:
    """Whether pacemaker tells the monitors what happens; problem: why not, with what to do. remote: a node of pacemaker-remote."""
    if remote:
        why = f"no alert reaches a node of pacemaker-remote: it looks every {interval_s:g} s (monitor_interval)"
        return Outcome("polling alone", notes=(why,))
    if not problem:
        return Outcome("registered")
    why = (
        f"a failure is seen up to {interval_s:g} s late (monitor_interval), as pacemaker does not tell of it: {problem}"
    )
    return Outcome("polling alone", warnings=(why,))


def reported(view: View, remotes_alone: bool) -> list[Node]:
    """The nodes whose failure would be reported."""
    kinds = (GUEST, MEMBER) if remotes_alone else (GUEST,)
    return [node for node in view.nodes if node.name != view.own and node.kind not in kinds]


def of_declared(nodes: Sequence[Node], declared: Declared) -> Outcome:
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
    return Outcome(told, warnings=tuple(warnings), problems=tuple(problems))


def of_readings(node: Node, readings: Sequence[Reading]) -> Outcome:
    """Whether the BMCs of a node can be read, and are its own."""
    vain = f"{node.name}: its power can't be read, so that would not prove it off"
    problems = [f"{vain}: {one.why}" for one in readings if not one.state]
    problems += [
        f"{node.name}: {one.bmc.name} says that the power is off, but pacemaker sees the node online: it is the BMC of another "
        f"host, and could prove this one dead while it lives; see {one.bmc.source}"
        for one in readings
        if one.state == "off" and node.online and not node.unclean
    ]
    told = [f"{one.bmc.name}: power {one.state}, GUID {one.guid or 'not told'}" for one in readings if one.state]
    return Outcome("; ".join(told), problems=tuple(problems))


def of_own_bmc(guid: str) -> Outcome:
    """What the controller will be told of this host's own BMC."""
    if guid:
        return Outcome(f"GUID {guid}")
    why = "its GUID is not told on this host itself (ipmitool mc guid), so the controller can't refuse what a wrong BMC says"
    return Outcome("GUID unknown", notes=(why,))


def of_heartbeat(line: Line) -> Outcome:
    """Whether the check of the heartbeat line works."""
    if line.state == HEARD:
        return Outcome("other nodes are heard", warnings=(line.text,) if line.text else ())
    return _failed(f"heartbeat line: {line.text}. As long as that is so, nothing is reported (TCPDUMP_TIMEOUT)")


def of_folder(folder: str) -> Outcome:
    """Whether the alert's pipe can be made by this user, after making its folder if need be."""
    there = folder
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    if os.path.isdir(there) and os.access(there, os.W_OK | os.X_OK):
        return Outcome(f"{folder} can be written")
    return _failed(f"alert_pipe: {folder} can't be written: {there} is no folder, or not writable for this user")
