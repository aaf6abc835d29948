"""The command line and the first steps that all daemons share: settings, checks, classic daemon, log, exit status."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from masakari.common import daemon
from masakari.common.errors import ConfigError, InUse
from masakari.common.log import Redactor, setup

log = logging.getLogger("masakari")

SIGNALS = """signals: SIGTERM stops within 5 s; SIGHUP reads the settings again, wholly or not at all{fixed}.
Exit status: 0 stopped, 1 failed, 2 usage, 78 wrong settings."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings that have been read and checked. secrets are kept out of the log."""

    settings: Any
    warnings: Sequence[str]
    secrets: Sequence[str]
    log_level: str
    log_file: str
    state_dir: str = ""


@dataclass(frozen=True, slots=True)
class Program:
    """A daemon. load reads its settings or raises ConfigError; serve runs it and returns the exit status.

    arguments may add to the command line; epilog holds examples. check: more that --check-config looks at; says itself what it
    finds, and returns the problems.
    """

    name: str
    version: str
    description: str
    epilog: str
    default_config: str
    load: Callable[[argparse.Namespace], Loaded]
    serve: Callable[[argparse.Namespace, Loaded], int]
    arguments: Callable[[argparse.ArgumentParser], object] | None = None
    check: Callable[[argparse.Namespace, Loaded], Sequence[str]] | None = None


def run(program: Program, argv: Sequence[str] | None = None) -> int:
    """Be that daemon; the exit status. Problems with the settings are told one per line on standard error.

    A daemon that can't start because of them ends with EX_CONFIG of sysexits.h, so that nobody starts it again and again.
    """
    parser = make_parser(program)
    arguments = parser.parse_args(argv)
    if arguments.daemon:  # which runs in another folder
        arguments.config = os.path.abspath(arguments.config)
    if arguments.daemon and not arguments.pidfile:
        parser.error("--daemon needs --pidfile FILE")
    if not arguments.check_config:
        daemon.hold_reload()
    logging_at = ""
    try:
        loaded = program.load(arguments)
        if arguments.check_config:
            return _say_checked(arguments.config, loaded, program.check(arguments, loaded) if program.check else ())
        if arguments.daemon:
            if not loaded.log_file:
                raise ConfigError([f"{arguments.config}: log_file is needed with --daemon, which has no terminal"])
            daemon.daemonize(arguments.pidfile)
        open_log(loaded, arguments.debug)
        logging_at = loaded.log_file
        for warning in loaded.warnings:
            log.warning("%s", warning)
        return program.serve(arguments, loaded)
    except ConfigError as error:
        _say(program.name, error.problems, logging_at)
        return 1 if arguments.check_config or isinstance(error, InUse) else os.EX_CONFIG
    except OSError as error:
        _say(program.name, [str(error)], logging_at)
        return 1


def make_parser(program: Program) -> argparse.ArgumentParser:
    """The command line of that daemon."""
    parser = argparse.ArgumentParser(
        prog=program.name,
        description=program.description,
        epilog=program.epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--config", default=program.default_config, metavar="FILE", help=f"settings (default {program.default_config})")
    add("--check-config", action="store_true", help="check the settings, say every problem, and exit 0 or 1")
    add("-d", "--debug", action="store_true", help="log everything")
    add("--daemon", action="store_true", help="become a classic daemon (needs --pidfile)")
    add("--pidfile", metavar="FILE", help="where a classic daemon writes its pid")
    add("--version", action="version", version=f"masakari {program.version}")
    if program.arguments:
        program.arguments(parser)
    return parser


def open_log(loaded: Loaded, debug: bool) -> None:
    """Log as these settings say, without their secrets. ConfigError when the file can't be opened."""
    redactor = Redactor()
    redactor.hide(*loaded.secrets)
    setup(loaded.log_level, loaded.log_file, debug=debug, redactor=redactor)


def _say_checked(config: str, loaded: Loaded, more: Sequence[str]) -> int:
    for warning in loaded.warnings:
        print(f"warning: {warning}")
    folders = {"log_file": os.path.dirname(loaded.log_file), "state_dir": loaded.state_dir}
    problems = [f"{config}: {name}: {problem}" for name, path in folders.items() if (problem := _unusable(path))]
    problems += more
    if problems:
        raise ConfigError(problems)
    print(f"{config}: ok")
    return 0


def _unusable(folder: str) -> str:
    """Why files can't be made in a folder, or the folder itself by the daemon; empty when they can. By this user."""
    if not folder:
        return ""
    there = folder
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    if os.path.isdir(there) and os.access(there, os.W_OK | os.X_OK):
        return ""
    return f"{folder} can't be written: {there} is no folder, or not writable for this user"


def _say(name: str, problems: Sequence[str], log_file: str) -> None:
    for problem in problems:
        print(f"{name}: {problem}", file=sys.stderr)
        if log_file:
            log.critical("%s", problem)
