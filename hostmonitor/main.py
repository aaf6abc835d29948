"""The hostmonitor process: settings, wiring, threads; and what an operator may ask of it. No decisions."""

from __future__ import annotations

import argparse
import logging
import os
import queue
import sys
from collections.abc import Mapping
from functools import partial
from typing import IO, Any

from hostmonitor import alerts, check, cluster, config, corosync, explain, may_start, show
from hostmonitor.alerts import AlertPipe
from hostmonitor.crm_xml import LIMIT_CHARS, BadView, parse
from hostmonitor.heartbeat import Heartbeat
from hostmonitor.ipmi import Ipmi
from hostmonitor.model import View
from hostmonitor.monitor import Answered, Message, Monitor, Poke, World
from hostmonitor.own import OwnState
from hostmonitor.pacemaker import Pacemaker
from hostmonitor.prover import Prover
from hostmonitor.state import StateFile
from hostmonitor.verdict import judge
from masakari import __version__
from masakari.common import checkup, daemon, program, service_check
from masakari.common.clock import Clock
from masakari.common.errors import ConfigError, Unavailable
from masakari.common.monitor import Reporting, loaded
from masakari.common.program import SIGNALS, Loaded
from masakari.common.text import utc

log = logging.getLogger("hostmonitor")

NAME = "masakari-hostmonitor"
LATE_AFTER_S = 60.0
STOP_WITHIN_S = 4.0
OWN_GUID_WITHIN_S = 2.0

EPILOG = """examples:
  masakari-hostmonitor --config /etc/hostmonitor/hostmonitor.conf
  masakari-hostmonitor --check-config --online       (asks pacemaker, corosync and every BMC, too)
  masakari-hostmonitor --show-cluster                (the --port for reserve_host_manage.py, and every node)
  masakari-hostmonitor --register-alert              (once per cluster: pacemaker tells at once what happens)
  masakari-hostmonitor --may-start --wait 600        (before nova-compute starts: is this host still being evacuated?)
  masakari-hostmonitor --daemon --pidfile /run/masakari/hostmonitor.pid      (for init scripts)

what would it think of a saved view of a cluster? This needs no cluster and no settings:
  crm_mon --output-as=xml > now.xml; masakari-hostmonitor --explain now.xml
  crm_mon --output-as=xml | masakari-hostmonitor --explain - --own "$(crm_node -n)" --json
  cibadmin --query > cib.xml; masakari-hostmonitor --explain cib.xml        (no fencing history: proves nothing)
FAILED: the monitor would report the node. PROVEN: nothing runs there any more, so its instances may be evacuated.
With --json: {"nodes": [{"name", "state", "failed", "proven", "reason"}, ...]}; notes go to standard error then.

""" + SIGNALS.format(fixed=" (a changed state_dir, alert_pipe, max_child_process or spool limit needs a restart)")


class HostMonitor:
    """One monitor: the cluster on one side, the spool on the other."""

    def __init__(self, settings: config.Settings, arguments: argparse.Namespace, clock: Clock) -> None:
        self.arguments = arguments
        self.clock = clock
        self.settings = settings
        daemon.only_one(settings.monitor.state_dir)
        self.signals = daemon.Signals()
        self.threads = daemon.Threads(self.signals.wake)
        self.pulse = daemon.Pulse(clock, LATE_AFTER_S)
        self.inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.reporting = Reporting(settings, clock, self._with_life_of_now, self._answered)
        stopping = self.threads.stopping
        self.pacemaker = Pacemaker(clock, stopping=stopping)
        self.alerts = AlertPipe(settings.environments.alert_pipe, lambda text: self.inbox.put(Poke(text)))
        ipmi = Ipmi(clock, stopping=stopping)
        self.prover = Prover(ipmi, self.inbox)
        self.monitor = Monitor(
            self.inbox,
            StateFile(os.path.join(settings.monitor.state_dir, "state.json")),
            World(
                pacemaker=self.pacemaker,
                own_state=OwnState(
                    self.pacemaker, Heartbeat(clock, stopping=stopping), clock, lambda: self.settings.environments
                ),
                prover=self.prover,
                spool=self.reporting.spool,
                settings=lambda: self.settings,
                origin=self.reporting.origin,
                segment=lambda: segment(self.settings, self.pacemaker),
                own_guid=lambda: ipmi.own_guid(OWN_GUID_WITHIN_S),
                clock=clock,
                wake_sender=self.reporting.sender.poke,
                beat=lambda: self.pulse.beat("monitor"),
            ),
        )

    def _with_life_of_now(self, body: Mapping[str, Any], waited_s: float) -> Mapping[str, Any]:
        """A report that had to wait says when the node was last seen alive by now: one that is back is left alone."""
        alive_at = self.monitor.alive_at(str(body.get("pacemaker_name")))
        newer = "evidence" in body and alive_at and utc(alive_at) > str(body.get("last_alive") or "")
        return {**body, "last_alive": utc(alive_at)} if newer else body

    def _answered(self, body: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        if "evidence" in body and "recovery" in answer:
            recovery, status = answer.get("recovery") or "", answer.get("status") or "ignored"
            self.inbox.put(Answered(str(body.get("pacemaker_name")), str(body["id"]), str(recovery), str(status)))

    def status(self) -> str:
        """One line for systemctl status."""
        parts = [self.monitor.status(), self.alerts.problem, self.reporting.sender.status()]
        return "; ".join(part for part in parts if part)

    def run(self, systemd: daemon.Systemd) -> int:
        """Watch until told to stop; the exit status."""
        stopping = self.threads.stopping
        self.signals.install()
        self.reporting.start(self.threads)
        for number in range(self.settings.environments.max_child_process):
            self.threads.start(f"prover-{number + 1}", self.prover.run, stopping, stop=self.prover.stop)
        self.threads.start("alerts", self.alerts.run, stopping, stop=self.alerts.stop)
        stop = partial(self.inbox.put, Poke("this monitor is stopping"))
        self.threads.start("monitor", self.monitor.run, stopping, stop=stop)
        log.info("hostmonitor %s watches the other nodes of %s's cluster", __version__, self.settings.identity.hostname)
        systemd.ready("looking at the cluster")
        return daemon.supervise(
            self.signals,
            self.threads,
            systemd,
            reload=self.reload,
            healthy=self.pulse.well,
            clock=self.clock,
            status=self.status,
            stop_within_s=STOP_WITHIN_S,
        )

    def reload(self) -> None:
        """SIGHUP: read everything again and swap it, or raise ConfigError and change nothing."""
        read = _load(self.arguments)
        new: config.Settings = read.settings
        for name in ("alert_pipe", "max_child_process"):
            if getattr(new.environments, name) != getattr(self.settings.environments, name):
                log.warning("%s changed: that needs a restart", name)
        self.settings = self.reporting.reload(new, lambda: program.open_log(read, self.arguments.debug))
        for warning in read.warnings:
            log.warning("%s", warning)
        self.inbox.put(Poke("settings reloaded"))
        log.info("settings reloaded from %s", self.arguments.config)


def segment(settings: config.Settings, pacemaker: Pacemaker) -> cluster.Segment:
    """The failover segment of this node's cluster. ConfigError when nothing names it; Unavailable while corosync is away."""
    configured, of_key = settings.environments.cluster_port, settings.identity.cluster_port
    found = None if configured or of_key else _corosync(settings.environments.ha_conf, pacemaker)
    return cluster.segment(configured, of_key, found)


def _corosync(path: str, pacemaker: Pacemaker) -> corosync.Corosync:
    """What is configured: as the file says, which is the same whether corosync runs or not."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return corosync.read_conf(file.read(), path)
    except FileNotFoundError:
        return corosync.read_cmap(pacemaker.cmap())


def _load(arguments: argparse.Namespace) -> Loaded:
    settings, warnings = config.load(arguments.config)
    return loaded(settings, warnings)


def _serve(arguments: argparse.Namespace, loaded: Loaded) -> int:
    return HostMonitor(loaded.settings, arguments, Clock()).run(daemon.Systemd())


def _arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--show-cluster",
        action="store_true",
        help="show cluster_port, the nodes, and what is dangerous about the cluster",
    )
    add("--register-alert", action="store_true", help="have pacemaker tell the monitors of all nodes what happens")
    add(
        "--may-start",
        action="store_true",
        help="wait until no evacuation from or to this host is unfinished, and exit 0",
    )
    add("--wait", type=int, metavar="SECONDS", help="with --may-start: after so long exit 0 in any case (default 600)")
    add("--explain", metavar="FILE", help="say what it thinks of a saved crm_mon XML or CIB; - reads standard input")
    add("--own", metavar="NAME", default="", help="with --explain: the node that asked, as pacemaker calls it")


def _checks(arguments: argparse.Namespace, loaded: Loaded) -> list[checkup.Check]:
    settings: config.Settings = loaded.settings
    return [*check.checks(settings, Clock()), *service_check.checks(settings, Clock())]


PROGRAM = program.Program(
    name=NAME,
    version=__version__,
    description="Watches the other nodes of a pacemaker cluster, and reports those that died, with the proof.",
    epilog=EPILOG,
    default_config=config.DEFAULT_PATH,
    load=_load,
    serve=_serve,
    arguments=_arguments,
)


def main(argv: list[str] | None = None) -> int:
    """Entry point of masakari-hostmonitor; the exit status."""
    return checkup.main(PROGRAM, _checks, argv, checkup.Questions(_answer, json_with=("--explain", "--show-cluster")))


def _answer(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int | None:
    """What is asked besides the checks."""
    if arguments.own and arguments.explain is None:
        parser.error("--own goes with --explain FILE")
    if arguments.wait is not None and not arguments.may_start:
        parser.error("--wait goes with --may-start")
    if arguments.explain is not None:
        return _explain(arguments.explain, arguments.own, arguments.json)
    if arguments.show_cluster or arguments.register_alert or arguments.may_start:
        return _ask(arguments)
    return None


def _ask(arguments: argparse.Namespace) -> int:
    """--may-start, --show-cluster and --register-alert."""
    try:
        settings, _ = config.load(arguments.config)
        if arguments.may_start:
            return may_start.run(settings, Clock(), may_start.LONGEST_S if arguments.wait is None else arguments.wait)
        if arguments.show_cluster:
            print(show.show(settings, Clock(), as_json=arguments.json))
        else:
            print(alerts.register(settings.environments.alert_pipe, Clock()))
    except ConfigError as error:
        return _failed("; ".join(error.problems))
    except (Unavailable, OSError) as error:
        return _failed(str(error))
    return 0


def _explain(path: str, own: str, as_json: bool) -> int:
    try:
        view = _view(path, own)
    except BadView as bad:
        return _failed(f"{path}: no view of a cluster: {bad}")
    except OSError as error:
        return _failed(f"{path}: {error.strerror or error}")
    verdicts = judge(view)
    if not as_json:
        print(explain.as_text(view, verdicts))
        return 0
    print(explain.as_json(verdicts))
    for remark in explain.remarks(view, verdicts):
        print(f"{NAME}: {path}: {remark}", file=sys.stderr)
    return 0


def _view(path: str, own: str) -> View:
    if path == "-":
        return parse(_text(sys.stdin.buffer), own)
    with open(path, "rb") as file:
        return parse(_text(file), own)


def _text(file: IO[bytes]) -> str:
    """No more than what is refused for its length anyway."""
    return file.read(LIMIT_CHARS + 1).decode("utf-8", "replace")


def _failed(why: str) -> int:
    print(f"{NAME}: {why}", file=sys.stderr)
    return 1
