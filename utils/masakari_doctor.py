#!/usr/bin/env python3
"""Looks at all of Masakari that is on this node and at what it works with, and says what is wrong. Changes nothing."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

# Our own tree before anything else: distributions ship other packages named masakari.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from masakari import __version__
from masakari.common import checkup, node, traps, trial
from masakari.common.checkup import Check, Outcome, not_ok, ok, skipped, warning
from masakari.common.clock import Clock
from masakari.common.errors import ConfigError
from masakari.common.monitor_config import MonitorSettings
from masakari.common.report import Origin

EXAMPLES = """
examples:
  masakari_doctor.py
  masakari_doctor.py --json

Run it as root: it reads the keys. Each part of Masakari whose settings are on this node is checked in a process of its own, as
its --check-config --online does. Each controller that the monitors report to is sent a callback that is marked as a test, twice:
it is stored, and nothing else is done with it.

Exit status: 0 nothing is NOT OK, 1 something is, 2 usage.
"""

TREE = Path(__file__).resolve().parent.parent
WITHIN_S = 300.0
NODE = "node"


@dataclass(frozen=True, slots=True)
class Component:
    """A part of Masakari. config: its settings, below /etc."""

    name: str
    package: str
    config: str


COMPONENTS = (
    Component("controller", "masakari", "masakari/masakari.conf"),
    Component("hostmonitor", "hostmonitor", "hostmonitor/hostmonitor.conf"),
    Component("instancemonitor", "instancemonitor", "instancemonitor/instancemonitor.conf"),
    Component("processmonitor", "processmonitor", "processmonitor/processmonitor.conf"),
)

Row = tuple[str, Outcome]
"""The part of Masakari, and what was found."""


def main(argv: list[str] | None = None) -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(
        prog="masakari-doctor",
        description=__doc__,
        epilog=EXAMPLES.strip().replace("masakari_doctor.py", "masakari-doctor"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"masakari {__version__}")
    parser.add_argument("--config-dir", type=Path, default=Path("/etc"), metavar="DIR", help="instead of /etc")
    parser.add_argument("--json", action="store_true", help="for programs")
    given = parser.parse_args(argv)
    rows: list[Row] = []
    for name, found in _parts(given.config_dir.absolute()):
        listed = list(found)
        rows += [(name, row) for row in listed]
        if not given.json:
            print(shown(name, listed), flush=True)
    if given.json:
        print(json.dumps({"checks": [{"part": name, **asdict(row)} for name, row in rows]}, indent=2))
    else:
        print(summary([row for _, row in rows]))
    return checkup.status(row for _, row in rows)


def shown(name: str, rows: Sequence[Outcome]) -> str:
    """The rows of a part for a person (pure)."""
    return "\n".join([name, *(f"  {line}" for line in checkup.as_table(rows, checkup.WIDTH - 2).splitlines()), ""])


def summary(rows: Sequence[Outcome]) -> str:
    """The last line (pure)."""
    many = {state: sum(row.state == state for row in rows) for state in checkup.STATES}
    return ", ".join(f"{number} {state}" for state, number in many.items() if number)


def _parts(folder: Path) -> Iterator[tuple[str, Iterable[Outcome]]]:
    """Every part of Masakari on this node, and the node itself, with the rows of each."""
    there = [component for component in COMPONENTS if (TREE / component.package / "main.py").is_file()]
    set_up = [component for component in there if (folder / component.config).is_file()]
    for component in set_up:
        yield component.name, run(component, folder / component.config)
    idle = [component.name for component in there if component not in set_up]
    yield NODE, _node(folder, set_up, idle)


# The parts


def run(component: Component, config: Path) -> list[Outcome]:
    """What a part finds out in a process of its own."""
    command = [sys.executable, "-m", component.package, "--config", str(config), "--check-config", "--online", "--json"]
    with checkup.patiently(component.name, checkup.to_stderr):
        try:
            done = subprocess.run(
                command,
                cwd=TREE,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=WITHIN_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return [not_ok("check", f"no end within {WITHIN_S:g} s", f"run it by hand: {' '.join(command)}")]
    return read(component, done.returncode, done.stdout, done.stderr)


def read(component: Component, status: int, out: str, err: str) -> list[Outcome]:
    """The rows in what a part has printed (pure): its findings, its warnings, and, on standard error, its problems."""
    rows: list[Outcome] = []
    for line in out.splitlines():
        if line.startswith("{"):
            rows.append(checkup.from_json(line))
        elif line.startswith("/") and line.endswith(": ok"):
            rows.insert(0, ok("settings", line.removesuffix(": ok")))
        elif line.startswith("warning: "):
            rows.append(warning("settings", line.removeprefix("warning: ")))
    prefix, told = f"masakari-{component.name}: ", {checkup.problem(row) for row in rows}
    problems = [line.removeprefix(prefix) for line in err.splitlines() if line.startswith(prefix)]
    problems = [problem for problem in problems if problem not in told]
    rows += [not_ok("problem" if checkup.status(rows) else "settings", text) for text in problems]
    if status not in (0, 1) or (status == 1 and not checkup.status(rows)):
        last = (err.strip().splitlines() or ["it said nothing"])[-1]
        rows.append(not_ok("check", f"ended with status {status}: {last}", "a bug: please report it"))
    return rows


# The node


def _node(folder: Path, set_up: Sequence[Component], idle: Sequence[str]) -> Iterator[Outcome]:
    if set_up:
        text = ", ".join(component.name for component in set_up)
        without = f"; without settings here: {', '.join(idle)}" if idle else ""
        yield ok("parts", f"{text}{without}")
    else:
        advice = "docs/install.md says what belongs on which node"
        yield not_ok("parts", f"nothing of Masakari is set up here: no settings of it are in {folder}", advice)
    clock = Clock()
    configs = [folder / component.config for component in COMPONENTS]
    found = ways(set_up, folder)
    checks: list[Check] = [(way.url, partial(trial.rows, way, clock)) for way in found]
    checks.append(("unread files", lambda: traps.unread_files(folder, configs)))
    checks.append(("units", lambda: traps.units(traps.unit_files(folder))))
    checks.append(("commands", lambda: traps.commands(os.environ)))
    if not found:
        yield skipped("callback", "no monitor of this node has usable settings with a url, so there is nobody to send one as")
    yield from checkup.run(checks, checkup.to_stderr)


def ways(set_up: Iterable[Component], folder: Path) -> list[trial.Way]:
    """How the monitors of this node reach their controllers, each way once. Those with unusable settings have said so."""
    found: dict[tuple[str, tuple[str, str] | None], trial.Way] = {}
    for component in set_up:
        if component.package == "masakari":
            continue
        module = importlib.import_module(f"{component.package}.config")
        try:
            settings: MonitorSettings = module.load(str(folder / component.config))[0]
        except ConfigError:
            continue
        who, how = settings.identity, settings.delivery
        key = (who.key_id, who.secret) if who.key_id else None
        origin = Origin(who.hostname, settings.region_id, who.cluster_port, node.boot_id())
        for url in how.urls:
            found.setdefault((url, key), trial.Way(url, how.timeout_s, how.ca_bundle, key, origin))
    return list(found.values())


if __name__ == "__main__":
    raise SystemExit(main())
