"""The hostmonitor on a real cluster: what it costs, and how soon a node that dies is seen, proven dead and told of."""

from __future__ import annotations

import os
import random
import re
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from pathlib import Path
from typing import Any

from hostmonitor import alerts
from hostmonitor.crm_xml import parse
from masakari.common.clock import Clock
from tests.bench import large_cluster, monitors
from tests.bench.figures import Figure
from tests.bench.hosts import PROBE_S
from tests.bench.stage import AS_INSTALLED, Skipped, Stage, until
from tests.lab import bmc, cluster
from tests.lab.cluster import PrivateCluster
from tests.lab.cluster_stage import ClusterStage
from tests.lab.hostmonitor import HostMonitorProcess
from tests.lab.monitors import MonitorProcess

TOKEN_MS = 1000
PIPE = "/run/masakari/hostmonitor.alert"
NO_PIPE = "/run/masakari/not-registered.alert"
CRASHES = 6
LOOKS = 15
CRM_MONS = 20
POLL_S = 1.0
DEFAULT_POLL_S = 60.0
RARELY_AFTER_S = 42.0
"""A monitor that has started pauses twice as long after each look: in the minute that begins then it looks once, as ever after."""

QUIET_S = 11.0
"""The pushed monitor doesn't look by itself from 10 to 18 s after its start: what it sees then, it was told to look for."""

SETTINGS: dict[str, Any] = {"monitor_interval": DEFAULT_POLL_S, "ipmi_timeout": 5, "ipmi_retry_interval": 10}
"""The defaults that a monitor of the tests doesn't have."""

SEEN_MS = {"pushed": 2.2 * TOKEN_MS + 2000, "polled": 2.2 * TOKEN_MS + 3000}
"""What corosync takes, and two seconds in which pacemaker makes up its mind; a poll may come a second after that has begun."""

CONTROLLER = {name: value for name, value in AS_INSTALLED.items() if not name.startswith("db__")}
WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Sight:
    """What one observer did, and when, in Unix seconds. alerted: 0 when it is not told; told, committed: it has the controller's
    answer to its first report, and to the first one with proof."""

    alerted_at: float
    seen_at: float
    told_at: float
    proven_at: float
    committed_at: float


@dataclass(frozen=True, slots=True)
class Crash:
    """One death of a node. lost: by corosync; off: by its BMC, on pacemaker's command; asked: Nova, for the first evacuation."""

    at: float
    lost_at: float
    off_at: float
    asked_at: float
    pushed: Sight
    polled: Sight


def figures(stage: Stage) -> Iterator[Figure]:
    """The hostmonitor: 1,000 nodes, start, idle costs, and the crash of a node until it is proven and the first evacuate sent."""
    if missing := cluster.why_not() or bmc.why_not():
        raise Skipped(missing)
    yield from large_cluster.figures(stage.folder(), 5 if stage.quick else LOOKS)
    with PrivateCluster(3, fencing="off", token_ms=TOKEN_MS) as made:
        alerts.register(PIPE, Clock(), prefix=made.prefix("node1"))
        with ClusterStage(stage.folder(), made, ["node1"], **SETTINGS) as lab:
            monitor = lab.monitors["node1"]
            yield from monitors.start(monitor, lambda since: _watches(monitor, since), "the cluster")
            yield from _idle(monitor, made)
        crashes = 2 if stage.quick else CRASHES
        yield from _delays([_crash(stage.folder(), made, False) for _ in range(crashes)], "proof by fencing", True)
        made.run("node1", "crm_attribute", "--type", "crm_config", "--name", "stonith-enabled", "--update", "false")
        yield from _delays([_crash(stage.folder(), made, True) for _ in range(crashes)], "proof by BMC", False)


def _watches(monitor: MonitorProcess, since: int) -> float | None:
    """When it has seen the cluster."""
    lines = monitors.logged(monitor, "3 of 3 nodes online", since)
    return lines[0][0] if lines else None


def _idle(monitor: MonitorProcess, made: PrivateCluster) -> Iterator[Figure]:
    time.sleep(RARELY_AFTER_S)
    before_s = _programs_s(monitor.pid)
    own = list(monitors.idle(monitor, 60, 30, f"{len(made.names)} nodes; its own alone"))
    used_s = _programs_s(monitor.pid) - before_s
    began_s = large_cluster.programs_s()
    for _ in range(CRM_MONS):
        made.run("node1", "crm_mon", "--output-as=xml", "-1")
    each_ms = 1000 * (large_cluster.programs_s() - began_s) / CRM_MONS
    yield own[0]
    beside = f"in steps of 10 ms; {CRM_MONS} runs take {each_ms:.0f} ms each, with what enters the node for it"
    yield Figure("... and of crm_mon, which it runs once", used_s, "s", beside=beside)
    yield from own[1:]


def _programs_s(pid: int) -> float:
    """Processor time of the programs that a process has run to their ends."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def _crash(folder: Path, made: PrivateCluster, power_off: bool) -> Crash:
    """A node dies, and afterwards all is well again. Of the others one is told by pacemaker, and one looks every second."""
    victim, told, looking = _roles(made)
    pushed = {**SETTINGS, "monitor_interval": 300, "log_level": "debug"}
    polled = {**SETTINGS, "monitor_interval": POLL_S, "alert_pipe": NO_PIPE}
    with ClusterStage(folder, made, [told], controller=CONTROLLER, **pushed) as lab:
        url = lab.controller.node_url
        with HostMonitorProcess(folder / looking, url, looking, made, **polled) as lab.monitors[looking]:
            lab.until_seen_by(told, looking)
            time.sleep(QUIET_S + random.uniform(0, POLL_S))
            since = {name: len(lab.monitors[name].said()) for name in (told, looking)}
            at = time.time()
            made.crash(victim, power_off=power_off)
            lab.until(lambda: lab.is_evacuated(victim), f"{victim} is not evacuated")
            sights = [_sight(lab, name, victim, since[name]) for name in (told, looking)]
            assert sights[0].alerted_at, f"seen before any alert:\n{lab.monitors[told].said()[since[told] :]}"
            crash = Crash(
                at,
                _lost_at(made, told, victim),
                (made.bmc(victim).folder / "power").stat().st_mtime,
                lab.cloud.state()["evacuate_requests"][0][0],
                *sights,
            )
            lab.assert_safe(victim)
    made.repair()
    return crash


def _roles(made: PrivateCluster) -> tuple[str, str, str]:
    """Who dies, who is told of it and who looks, at random. The node that decides for all lives: a new one takes a while."""
    dc = parse(made.run("node1", "crm_mon", "--output-as=xml", "-1").stdout).dc
    victim = random.choice([name for name in made.names if name != dc])
    told, looking = random.sample([name for name in made.names if name != victim], 2)
    return victim, told, looking


def _lost_at(made: PrivateCluster, observer: str, victim: str) -> float:
    """When corosync of a node said last that this one has left; its log cuts off to a millisecond."""
    log = (made.disk(observer) / "var/log/corosync/corosync.log").read_text(errors="replace")
    number = made.names.index(victim) + 1
    said = re.findall(rf"^(\w+ +\d+ [\d:.]+) .*A new membership .* left: {number}$", log, re.MULTILINE)
    return datetime.strptime(f"{time.localtime().tm_year} {said[-1]}", "%Y %b %d %H:%M:%S.%f").timestamp()


def _sight(lab: ClusterStage, observer: str, victim: str, since: int) -> Sight:
    monitor = lab.monitors[observer]

    def said(pattern: str) -> float:
        return until(lambda: monitors.logged(monitor, pattern, since), WITHIN_S, 0.05, lab.story)[0][0]

    def committed(detail: str) -> float:
        """When the answer was there to the first report of this detail, which is a pattern."""
        proper = re.compile(detail)
        report = until(
            lambda: [
                row["fields"]["id"]
                for row in lab.stored.failures_of(victim)
                if row["observer"] == observer and proper.fullmatch(row["notification_detail"])
            ],
            WITHIN_S,
            0.05,
            lab.story,
        )[0]
        return said(f"report {report} about ")

    seen_at = said(f"node={victim}: failed ")
    alerts_at = [at for at, _ in monitors.logged(monitor, "pacemaker: ", since) if at <= seen_at]
    return Sight(
        alerted_at=alerts_at[0] if alerts_at else 0.0,
        seen_at=seen_at,
        told_at=committed("."),
        proven_at=said(f"node={victim}: host {victim} reported as failed, detail 2 "),
        committed_at=committed("2"),
    )


def _delays(crashes: list[Crash], how: str, fenced: bool) -> Iterator[Figure]:
    """how: what proves that the node is dead."""

    def spans(since: str, to: str) -> list[float]:
        return [attrgetter(to)(crash) - attrgetter(since)(crash) for crash in crashes]

    yield monitors.delay(f"{how}: crash -> corosync has lost it", spans("at", "lost_at"), beside=f"token {TOKEN_MS} ms")
    yield monitors.delay("... -> pacemaker's alert is heard", spans("lost_at", "pushed.alerted_at"))
    if fenced:
        yield monitors.delay("... -> switched off by pacemaker", spans("lost_at", "off_at"))
    for sight, by in (("pushed", "by push"), ("polled", f"by a poll every {POLL_S:g} s")):
        seen = spans("at", f"{sight}.seen_at")
        after_s = statistics.median(spans("lost_at", f"{sight}.seen_at"))
        beside = f"{1000 * after_s:,.0f} ms after corosync"
        yield monitors.delay(f"crash -> seen, {by}", seen, None if fenced else SEEN_MS[sight], beside)
        yield monitors.delay("... seen -> told the controller", spans(f"{sight}.seen_at", f"{sight}.told_at"))
        yield monitors.delay(
            "... seen -> proven", spans(f"{sight}.seen_at", f"{sight}.proven_at"), None if fenced else 500
        )
        if fenced:
            yield monitors.delay("... switched off -> proven", spans("off_at", f"{sight}.proven_at"), 1000)
        committed = spans(f"{sight}.proven_at", f"{sight}.committed_at")
        yield monitors.delay("... proven -> callback committed", committed, 50)
    polled_s = statistics.median(spans("at", "polled.seen_at")) + (DEFAULT_POLL_S - POLL_S) / 2
    beside = f"computed: {(DEFAULT_POLL_S - POLL_S) / 2:g} s more on average, {DEFAULT_POLL_S - POLL_S:g} s at worst"
    yield Figure(f"crash -> seen, by a poll every {DEFAULT_POLL_S:g} s", polled_s, "s", beside=beside)
    asked = [crash.asked_at - min(crash.pushed.committed_at, crash.polled.committed_at) for crash in crashes]
    beside = f"{PROBE_S} s of it the controller's question whether the host lives"
    yield monitors.delay("first proof committed -> first evacuate", asked, 1000, beside)
    yield monitors.delay("crash -> first evacuate", spans("at", "asked_at"))
