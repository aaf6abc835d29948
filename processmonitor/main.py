"""The processmonitor process: settings, wiring, threads. No decisions."""

from __future__ import annotations

import argparse
import logging
import os
import threading
from collections.abc import Mapping
from typing import Any

from masakari import __version__
from masakari.common import checkup as online
from masakari.common import daemon, node, program, service_check
from masakari.common.clock import Clock
from masakari.common.monitor import Reporting, loaded
from masakari.common.monitor_config import DEFAULT_KEY_FILE
from masakari.common.program import SIGNALS, Loaded
from masakari.common.report import new_id, process_report
from processmonitor import checkup, config, proclist, systemd
from processmonitor.commands import Commands
from processmonitor.jobs import Jobs
from processmonitor.outages import Outages
from processmonitor.procfs import Pidfds, Processes
from processmonitor.supervise import Rules
from processmonitor.watch import Watch, counted

log = logging.getLogger("processmonitor")

LATE_AFTER_S = 30.0
STOP_WITHIN_S = 4.0
YAML = (".yaml", ".yml")

EPILOG = """examples:
  masakari-processmonitor --config /etc/processmonitor/processmonitor.conf
  masakari-processmonitor --check-config                                 (checks the list of processes as well)
  masakari-processmonitor --check-config --online                        (looks for each of them, too)
  masakari-processmonitor --daemon --pidfile /run/masakari/processmonitor.pid      (for init scripts)

A changed file is noticed without a signal.
""" + SIGNALS.format(fixed=" (a changed state_dir or spool limit needs a restart)")


class ProcessMonitor:
    """One monitor: processes and commands on one side, the spool on the other."""

    def __init__(
        self, settings: config.Settings, lists: proclist.Lists, arguments: argparse.Namespace, clock: Clock
    ) -> None:
        self.arguments = arguments
        self.clock = clock
        self.settings = settings
        daemon.only_one(settings.monitor.state_dir)
        self.signals = daemon.Signals()
        self.threads = daemon.Threads(self.signals.wake)
        self.pulse = daemon.Pulse(clock, LATE_AFTER_S)
        self.reporting = Reporting(settings, clock)
        processes = Processes()
        self.watch = Watch(
            lists.entries,
            self._rules,
            processes,
            Pidfds(processes),
            Jobs(Commands(clock).run, systemd.ask, node.is_stopping, processes.any_runs),
            Outages(
                os.path.join(settings.monitor.state_dir, "outages.json"),
                self.reporting.origin().boot_id,
                self._body,
                self._put,
            ),
            clock,
            lambda: self.pulse.beat("watch"),
        )
        self._stamps = self._files()

    def _rules(self) -> Rules:
        process = self.settings.process
        return Rules(
            retry=process.process_reboot_retry,
            reboot_interval_s=process.reboot_interval,
            check_interval_s=process.process_check_interval,
            command_timeout_s=process.command_timeout,
            planned_stops=process.planned_stops,
        )

    def _body(self, process: str, state: str, on_failure: str, at: float, reason: str) -> Mapping[str, Any]:
        return process_report(self.reporting.origin(), new_id(), process, state, on_failure, at, reason)

    def _put(self, body: Mapping[str, Any]) -> None:
        self.reporting.spool.put(body)
        self.reporting.sender.poke()

    def status(self) -> str:
        """One line for systemctl status."""
        return "; ".join(part for part in (self.watch.status(), self.reporting.sender.status()) if part)

    def run(self, systemd: daemon.Systemd) -> int:
        """Watch until told to stop; the exit status."""
        stopping = self.threads.stopping
        self.signals.install()
        self.reporting.start(self.threads)
        self.threads.start("watch", self.watch.run, stopping, stop=self.watch.wake)
        self.threads.start("files", self._notice_changes, stopping)
        log.info("processmonitor %s watches %s", __version__, self.settings.process.process_list_path)
        systemd.ready("looking for the processes")
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
        """Read the settings and the list again and swap them, or raise ConfigError and change nothing."""
        self._stamps = self._files()
        read = _load(self.arguments)
        settings, lists = read.settings
        self.settings = self.reporting.reload(settings, lambda: program.open_log(read, self.arguments.debug))
        self.watch.reload(lists.entries)
        for warning in read.warnings:
            log.warning("%s", warning)
        log.info("settings reloaded: %s in the list", counted(len(lists.entries)))

    def _notice_changes(self, stopping: threading.Event) -> None:
        """Let the main thread reload when a file has changed; two looks must agree, for an editor may be at it."""
        seen = self._stamps
        while not stopping.wait(self.settings.process.process_check_interval):
            now = self._files()
            if now == seen and now != self._stamps:
                log.info("the settings or the list of processes have changed")
                self._stamps = now
                self.signals.reload = True
                self.signals.wake()
            seen = now

    def _files(self) -> tuple[tuple[int, int] | None, ...]:
        return tuple(_stamp(path) for path in watched_files(self.arguments.config, self.settings))


def watched_files(path: str, settings: config.Settings) -> list[str]:
    """The files whose change makes a reload: the settings at that path, the list, and the key, also one that is not there yet."""
    return [path, settings.process.process_list_path, settings.process.key_file or DEFAULT_KEY_FILE]


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def _load(arguments: argparse.Namespace) -> Loaded:
    settings, warnings = config.load(arguments.config)
    process = settings.process
    lists = read_list(process.process_list_path, process.report_only)
    return loaded(settings, [*warnings, *lists.warnings], (settings, lists))


def read_list(path: str, report_only: tuple[str, ...]) -> proclist.Lists:
    """The processes in a file of either form; its name tells which. ConfigError with all problems."""
    if path.endswith(YAML):
        from processmonitor import process_yaml  # brings YAML along, which proc.list does not need

        return process_yaml.load(path, report_only)
    return proclist.load(path, report_only)


def _serve(arguments: argparse.Namespace, loaded: Loaded) -> int:
    settings, lists = loaded.settings
    return ProcessMonitor(settings, lists, arguments, Clock()).run(daemon.Systemd())


def _checks(arguments: argparse.Namespace, loaded: Loaded) -> list[online.Check]:
    settings, lists = loaded.settings
    return [*checkup.checks(lists.entries, Processes()), *service_check.checks(settings, Clock())]


def main(argv: list[str] | None = None) -> int:
    """Entry point of masakari-processmonitor; the exit status."""
    return online.main(
        program.Program(
            name="masakari-processmonitor",
            version=__version__,
            description="Watches processes of this compute node, restarts those that die, and reports those that it can't.",
            epilog=EPILOG,
            default_config=config.DEFAULT_PATH,
            load=_load,
            serve=_serve,
        ),
        _checks,
        argv,
    )
