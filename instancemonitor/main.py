"""The instancemonitor process: settings, wiring, threads. No decisions."""

from __future__ import annotations

import argparse
import logging
import os
import queue
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from instancemonitor import checkup, config
from instancemonitor.model import Message
from masakari import __version__
from masakari.common import checkup as online
from masakari.common import daemon, node, program, service_check
from masakari.common.clock import Clock
from masakari.common.errors import ConfigError
from masakari.common.monitor import Reporting, loaded
from masakari.common.program import SIGNALS, Loaded
from masakari.common.text import utc

log = logging.getLogger("instancemonitor")

LATE_AFTER_S = 30.0
STOP_WITHIN_S = 4.0
STATES = {
    0: "nostate",
    1: "running",
    2: "blocked",
    3: "paused",
    4: "shutdown",
    5: "shutoff",
    6: "crashed",
    7: "pmsuspended",
}
"""virDomainState, in the words of virsh."""

EPILOG = """examples:
  masakari-instancemonitor --config /etc/instancemonitor/instancemonitor.conf
  masakari-instancemonitor --check-config
  masakari-instancemonitor --check-config --online        (asks libvirt, too)
  masakari-instancemonitor --debug qemu+tcp://192.0.2.10/system
  masakari-instancemonitor --daemon --pidfile /run/masakari/instancemonitor.pid      (for init scripts)

""" + SIGNALS.format(fixed=" (a changed connection_uri, log_dir, state_dir or spool limit needs a restart)")


class InstanceMonitor:
    """One monitor: libvirt's events on one side, the spool on the other."""

    def __init__(self, settings: config.Settings, uri: str, arguments: argparse.Namespace, clock: Clock) -> None:
        # Not at the top: without libvirt-python --check-config still works, and the message is ours.
        from instancemonitor.libvirt_link import LibvirtLink
        from instancemonitor.monitor import Monitor
        from instancemonitor.qemu_log import QemuLog
        from instancemonitor.state import StateFile

        self.arguments = arguments
        self.clock = clock
        self.settings = settings
        daemon.only_one(settings.monitor.state_dir)
        self.signals = daemon.Signals()
        self.threads = daemon.Threads(self.signals.wake)
        self.pulse = daemon.Pulse(clock, LATE_AFTER_S)
        self.inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.reporting = Reporting(settings, clock, self._with_state_of_now)
        self.link = LibvirtLink(uri, self.inbox, clock)
        self.monitor = Monitor(
            self.inbox,
            StateFile(os.path.join(settings.monitor.state_dir, "state.json")),
            self.reporting.spool,
            lambda: self.settings,
            self.reporting.origin,
            clock,
            QemuLog(settings.libvirt.log_dir),
            node.is_stopping,
            self.reporting.sender.poke,
            lambda: self.pulse.beat("monitor"),
        )

    def _with_state_of_now(self, body: Mapping[str, Any], waited_s: float) -> Mapping[str, Any]:
        """A report that had to wait says what libvirt says by now: a guest that runs again is left alone."""
        view = self.link.look(str(body["uuid"]))
        if view is None:
            return body
        return {**body, "libvirt_state": STATES.get(view.state, "nostate"), "libvirt_time": utc(self.clock.now())}

    def status(self) -> str:
        """One line for systemctl status."""
        parts = [self.link.problem, self.monitor.status(), self.reporting.sender.status()]
        return "; ".join(part for part in parts if part)

    def run(self, systemd: daemon.Systemd) -> int:
        """Watch until told to stop; the exit status."""
        stopping = self.threads.stopping
        self.signals.install()
        self.reporting.start(self.threads)
        self.threads.start("libvirt-events", self.link.run_events, stopping)
        self.threads.start("libvirt", self.link.run, stopping, stop=self.link.wake)
        self.threads.start("monitor", self.monitor.run, stopping)
        log.info("instancemonitor %s watches %s for %s", __version__, self.link.uri, self.settings.identity.hostname)
        systemd.ready("connecting to libvirt")
        return daemon.supervise(
            self.signals,
            self.threads,
            systemd,
            reload=self.reload,
            healthy=lambda: self.link.lively(self.clock.monotonic()) and self.pulse.well(),
            clock=self.clock,
            status=self.status,
            stop_within_s=STOP_WITHIN_S,
        )

    def reload(self) -> None:
        """SIGHUP: read everything again and swap it, or raise ConfigError and change nothing."""
        read = _load(self.arguments)
        new: config.Settings = read.settings
        libvirt = {name: getattr(self.settings.libvirt, name) for name in ("connection_uri", "log_dir")}
        for name, value in libvirt.items():
            if getattr(new.libvirt, name) != value:
                log.warning("%s changed: that needs a restart, %s stays in use", name, value)
        new = replace(new, libvirt=replace(new.libvirt, **libvirt))
        self.settings = self.reporting.reload(new, lambda: program.open_log(read, self.arguments.debug))
        for warning in read.warnings:
            log.warning("%s", warning)
        log.info("settings reloaded from %s", self.arguments.config)


def _load(arguments: argparse.Namespace) -> Loaded:
    settings, warnings = config.load(arguments.config)
    return loaded(settings, warnings)


def _serve(arguments: argparse.Namespace, loaded: Loaded) -> int:
    settings: config.Settings = loaded.settings
    try:
        monitor = InstanceMonitor(settings, _uri(arguments, settings), arguments, Clock())
    except ModuleNotFoundError as error:
        if error.name not in ("libvirt", "libvirtmod"):
            raise
        raise ConfigError(
            ["Python's libvirt module is missing; on Debian and Ubuntu: apt-get install python3-libvirt"]
        ) from None
    return monitor.run(daemon.Systemd())


def _uri(arguments: argparse.Namespace, settings: config.Settings) -> str:
    return arguments.uri or settings.libvirt.connection_uri


def _checks(arguments: argparse.Namespace, loaded: Loaded) -> list[online.Check]:
    settings: config.Settings = loaded.settings
    ours = checkup.checks(settings, _uri(arguments, settings), Clock())
    return [*ours, *service_check.checks(settings, Clock())]


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("uri", nargs="?", metavar="URI", help="address of libvirt (default: [libvirt] connection_uri)")


def main(argv: list[str] | None = None) -> int:
    """Entry point of masakari-instancemonitor; the exit status."""
    return online.main(
        program.Program(
            name="masakari-instancemonitor",
            version=__version__,
            description="Watches the instances of this compute node through libvirt, and reports those that die.",
            epilog=EPILOG,
            default_config=config.DEFAULT_PATH,
            load=_load,
            serve=_serve,
            arguments=_arguments,
        ),
        _checks,
        argv,
    )
