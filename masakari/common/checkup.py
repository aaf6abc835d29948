"""What the online checks of all components have in common: the rows, their form as table or JSON, and the command line.

Checks only look. A component has them in its own module `checkup`; masakari-doctor runs those of all components of a node.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

from masakari.common import program
from masakari.common.errors import MasakariError
from masakari.common.program import Loaded, Program

OK, WARNING, NOT_OK, SKIPPED = "ok", "WARNING", "NOT OK", "skipped"
STATES = (OK, WARNING, NOT_OK, SKIPPED)

SLOW_S = 2.0
WIDTH = 120
LEAST_TEXT_WIDTH = 40
EXACT_S = 5.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a check found. subject: what was looked at; state: one of STATES; advice: what to do, "" if nothing is."""

    subject: str
    state: str
    text: str
    advice: str = ""


def ok(subject: str, text: str) -> Outcome:
    """All is well."""
    return Outcome(subject, OK, text)


def warning(subject: str, text: str, advice: str = "") -> Outcome:
    """It works, but may not do what was meant."""
    return Outcome(subject, WARNING, text, advice)


def not_ok(subject: str, text: str, advice: str = "") -> Outcome:
    """A failure would not be repaired, or not safely."""
    return Outcome(subject, NOT_OK, text, advice)


def skipped(subject: str, text: str) -> Outcome:
    """It was not looked at; text: why."""
    return Outcome(subject, SKIPPED, text)


def of_clock(subject: str, whose: str, ahead_s: float, limit_s: float) -> Outcome:
    """How far another clock is ahead of (or behind) this host's; more than limit_s is a problem."""
    if abs(ahead_s) <= 1:
        return ok(subject, f"{whose} and the clock of this host are less than a second apart")
    told = f"{whose} is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} the clock of this host"
    advice = "see on both which one is wrong (chronyc tracking, or timedatectl), and set it by NTP"
    if abs(ahead_s) > limit_s:
        return not_ok(subject, f"{told}; at most {limit_s:g} s are tolerated", advice)
    return warning(subject, told, advice) if abs(ahead_s) > EXACT_S else ok(subject, told)


# Running


Check = tuple[str, Callable[[], Iterable[Outcome]]]
"""What is looked at, and the look; it may be empty-handed where there is nothing to look at."""


def run(checks: Iterable[Check], say: Callable[[str], object], slow_s: float = SLOW_S) -> Iterator[Outcome]:
    """The rows of one check after the other. A check that raises an error of ours has that as its row.

    say: told, by another thread, of each check that takes longer than slow_s.
    """
    for subject, check in checks:
        with patiently(subject, say, slow_s):
            try:
                found = list(check())
            except MasakariError as error:
                found = [not_ok(subject, " ".join(str(error).split()))]
        yield from found


@contextmanager
def patiently(subject: str, say: Callable[[str], object], slow_s: float = SLOW_S) -> Iterator[None]:
    """Say that an answer is waited for, if that takes longer than slow_s."""
    timer = threading.Timer(slow_s, say, [f"{subject}: asked, no answer yet"])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def to_stderr(line: str) -> None:
    """Where the progress is told."""
    print(line, file=sys.stderr, flush=True)


def status(rows: Iterable[Outcome]) -> int:
    """The exit status: 0 if nothing is NOT OK, else 1."""
    return int(any(row.state == NOT_OK for row in rows))


# Showing


def as_json(row: Outcome) -> str:
    """A row on one line, for programs."""
    return json.dumps(asdict(row))


def from_json(line: str) -> Outcome:
    """What as_json made of a row. Raises ValueError, TypeError for anything else."""
    row = Outcome(**json.loads(line))
    if row.state not in STATES:
        raise ValueError(f"no such state: {row.state!r}")
    return row


def as_table(rows: Sequence[Outcome], width: int = WIDTH) -> str:
    """The rows for a person, in aligned columns: state, subject, and text with the advice below it."""
    subject_width = max((len(_clean(row.subject)) for row in rows), default=0)
    left_width = len(WARNING) + 2 + subject_width + 2
    lines = []
    for row in rows:
        left = f"{row.state:<{len(WARNING)}}  {_clean(row.subject):<{subject_width}}  "
        text_width = max(LEAST_TEXT_WIDTH, width - left_width)
        right = textwrap.wrap(_clean(row.text), text_width, break_on_hyphens=False) or [""]
        if row.advice:
            right += textwrap.wrap(
                f"-> {_clean(row.advice)}", text_width, subsequent_indent="   ", break_on_hyphens=False
            )
        lines += [(left + right[0]).rstrip(), *(" " * left_width + more for more in right[1:])]
    return "\n".join(lines)


def _clean(text: str) -> str:
    """One line; what came from outside can't play with the terminal."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


# The command line of a component

Checks = Callable[[argparse.Namespace, Loaded], Iterable[Check]]


@dataclass(frozen=True, slots=True)
class Questions:
    """What else a daemon may be asked. answer: the exit status, None if it was not asked; or it calls the parser's error.

    json_with: the options of these questions that --json goes with, too.
    """

    answer: Callable[[argparse.ArgumentParser, argparse.Namespace], int | None]
    json_with: Sequence[str] = ()


def main(daemon: Program, checks: Checks, argv: Sequence[str] | None = None, questions: Questions | None = None) -> int:
    """Be that daemon, which also knows --check-config --online; the exit status."""
    json_with = questions.json_with if questions else ()

    def arguments(parser: argparse.ArgumentParser) -> None:
        if daemon.arguments:
            daemon.arguments(parser)
        add = parser.add_argument
        add(
            "--online",
            action="store_true",
            help="with --check-config: ask all that it works with, too; changes nothing",
        )
        also = f"; with {' and '.join(json_with)}, too" if json_with else ""
        add("--json", action="store_true", help=f"with --online: a line of JSON for each finding{also}")

    def check(given: argparse.Namespace, loaded: Loaded) -> list[str]:
        return _told(run(checks(given, loaded), to_stderr), given.json) if given.online else []

    whole = replace(daemon, arguments=arguments, check=check)
    parser = program.make_parser(whole)
    given = parser.parse_args(argv)
    if given.online and not given.check_config:
        parser.error("--online goes with --check-config")
    if given.json and not (given.online or any(_is_given(given, option) for option in json_with)):
        parser.error(f"--json goes with {', '.join(['--check-config --online', *json_with])}")
    status = questions.answer(parser, given) if questions else None
    return program.run(whole, argv) if status is None else status


def _is_given(given: argparse.Namespace, option: str) -> bool:
    return bool(getattr(given, option.removeprefix("--").replace("-", "_")))


def problem(row: Outcome) -> str:
    """A row that is NOT OK as a sentence."""
    return _clean(f"{row.subject}: {row.text}")


def _told(found: Iterator[Outcome], json_lines: bool) -> list[str]:
    """Print the rows, as JSON at once; the problems among them."""
    rows = []
    for row in found:
        rows.append(row)
        if json_lines:
            print(as_json(row), flush=True)
    if not json_lines:
        print(as_table(rows), flush=True)
    return [problem(row) for row in rows if row.state == NOT_OK]
