"""Measure, and print the table: python3 -m tests.bench [--quick] [name ...]"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench import hostmonitor, hosts, idle, instancemonitor, instances, intake, processmonitor
from tests.bench.figures import Figure, machine, table
from tests.bench.stage import MARIADB, Skipped, Stage
from tests.lab.mariadb import PrivateMariaDB, why_not

BENCHES: dict[str, Callable[[Stage], Iterator[Figure]]] = {
    "idle": idle.costs,
    "intake": intake.rates,
    "instance": instances.failures,
    "host-10": hosts.ten,
    "host-10-sqlite": hosts.ten_sqlite,
    "host-100": hosts.hundred,
    "host-500": hosts.five_hundred,
    "host-500-at-once": hosts.five_hundred_at_once,
    "instancemonitor": instancemonitor.figures,
    "processmonitor": processmonitor.figures,
    "hostmonitor": hostmonitor.figures,
}


def main() -> int:
    """0 when everything could be measured, whatever the figures are; 1 when something could not; 2 usage.

    What is left out because something isn't installed doesn't count; it is named.
    """
    options = _parser().parse_args()
    if options.list:
        for name, bench in BENCHES.items():
            print(f"{name:17} {(bench.__doc__ or '').splitlines()[0]}")
        return 0
    if why_not():
        print(why_not(), file=sys.stderr)
        return 1
    figures, failures, skipped = [], 0, []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="masakari-bench-")))
        mariadb = stack.enter_context(PrivateMariaDB(folder / "mariadb", **MARIADB))
        stage = Stage(folder, mariadb, options.quick)
        version = stage.version()
        for name in options.names or BENCHES:
            begun = time.monotonic()
            print(f"-- {name} ", end="", file=sys.stderr, flush=True)
            try:
                figures += list(BENCHES[name](stage))
                outcome = ""
            except Skipped as why:
                skipped.append(f"{name} is left out: {why}")
                outcome = f"LEFT OUT: {why}"
            except (RuntimeError, AssertionError) as error:
                failures += 1
                outcome = f"FAILED: {error}"
            print(f"{time.monotonic() - begun:.0f} s {outcome}", file=sys.stderr, flush=True)
    print(table(figures))
    missed = sum(figure.missed for figure in figures)
    limits = sum(figure.row[3] != "" for figure in figures)
    quick = "; --quick: shorter runs, less certain" if options.quick else ""
    print(f"\n{limits - missed} of {limits} limits kept, {missed} MISSED{quick}")
    for line in skipped:
        print(line)
    print(f"{time.strftime('%Y-%m-%d', time.gmtime())}, {machine(version)}")
    return 1 if failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m tests.bench", description="How fast Masakari is.")
    parser.add_argument(
        "names", nargs="*", metavar="name", choices=[[], *BENCHES], help="what to measure; default: all"
    )
    parser.add_argument("--list", action="store_true", help="what there is to measure")
    parser.add_argument("--quick", action="store_true", help="shorter runs: less certain")
    return parser


if __name__ == "__main__":
    sys.exit(main())
