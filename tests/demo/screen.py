"""What the demonstration prints: headings, paragraphs, tables, and one line that is kept up to date."""

from __future__ import annotations

import itertools
import json
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence

WIDTH = 80
INDENT = "  "
LINE_EVERY_S = 0.5
WIDE = 110
"""For the output of scripts, which are wider than our own text."""

STORY_TIMES = 25
"""Columns of the times at the start of a story's line; they differ between lines that are alike otherwise."""

ALIKE_MOST = 4

_STORY_LINE = re.compile(r"\d\d:\d\d:\d\d\.\d\d .{10,14} \w+ +[a-z]+ +")


class Screen:
    """Text for a person, on standard output."""

    def __init__(self) -> None:
        self._scenes = itertools.count(1)
        self._live = sys.stdout.isatty()
        self._last, self._next_s = "", 0.0

    def title(self, text: str) -> None:
        """The first line."""
        print(f"{text}\n{'=' * len(text)}\n")

    def scene(self, text: str) -> None:
        """A heading with a number."""
        heading = f"{next(self._scenes)}. {text}"
        print(f"{heading}\n{'-' * len(heading)}")

    def say(self, text: str) -> None:
        """A paragraph, and an empty line."""
        print(textwrap.fill(text, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT), end="\n\n")

    def show(self, text: str) -> None:
        """Text that keeps its lines: a command, a callback, the output of a script; and an empty line."""
        print(textwrap.indent(text.rstrip(), INDENT * 2), end="\n\n")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Aligned columns, numbers to the right; and an empty line."""
        cells = [[str(cell) for cell in row] for row in [head, *rows]]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        right = [all(isinstance(row[place], int) for row in rows) for place in range(len(head))]
        lines = (
            "  ".join(
                cell.rjust(width) if to_right else cell.ljust(width)
                for cell, width, to_right in zip(row, widths, right, strict=True)
            ).rstrip()
            for row in cells
        )
        self.show("\n".join(lines))

    def log_line(self, seconds: float, text: str) -> None:
        """A line of a log, so many seconds after what it is about; a long one is folded. end() follows the last one."""
        begin = f"{INDENT * 2}+{seconds:.3f} s  "
        print(
            textwrap.fill(text, WIDE, initial_indent=begin, subsequent_indent=" " * len(begin), break_on_hyphens=False)
        )

    def end(self) -> None:
        """An empty line."""
        print()

    def progress(self, seconds: float, text: str) -> None:
        """The line that is kept up to date; where it can't be overwritten, a new one now and then, if it changed."""
        if self._live:
            print(f"\r{self._line(seconds, text, WIDTH - 1):<{WIDTH - 1}}", end="", flush=True)
        elif text != self._last and seconds >= self._next_s:
            print(self._line(seconds, text))
            self._last, self._next_s = text, seconds + LINE_EVERY_S

    def progress_ends(self, seconds: float, text: str) -> None:
        """Its last update; and an empty line."""
        line = self._line(seconds, text)
        print(f"\r{line:<{WIDTH - 1}}\n" if self._live else f"{line}\n")
        self._last, self._next_s = "", 0.0

    @staticmethod
    def _line(seconds: float, text: str, most: int = WIDE) -> str:
        line = f"{INDENT * 2}{seconds:4.1f} s  {text}"
        return line if len(line) <= most else f"{line[: most - 3]}..."


def in_lines(fields: Mapping[str, object], more: str = "") -> str:
    """A JSON object, its fields packed into lines. `more`: what is left out, in words."""
    told = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in fields.items()]
    lines = [""]
    for part in [*(f"{field}, " for field in told[:-1]), f"{told[-1]}, {more}" if more else told[-1]]:
        if lines[-1] and len(lines[-1] + part) > WIDTH - 2 * len(INDENT):
            lines.append("")
        lines[-1] += part
    return "{" + "\n ".join(line.rstrip() for line in lines) + "}"


def in_short(output: str) -> str:
    """What a script printed, with long lines folded, and of many lines that differ in names and numbers only a few."""
    shown: list[str] = []
    for _, group in itertools.groupby(output.rstrip().splitlines(), _pattern):
        lines = list(group)
        if len(lines) > ALIKE_MOST:
            lines = [*lines[:2], f"{INDENT}... {len(lines) - 3} more like these ...", lines[-1]]
        shown += lines
    return "\n".join(_folded(line) for line in shown)


def _pattern(line: str) -> str:
    """What a line of a table or story has in common with its neighbours."""
    return re.sub(r"\S*\d\S*", "#", line[STORY_TIMES:])


def _folded(line: str) -> str:
    told = _STORY_LINE.match(line)
    hanging = " " * told.end() if told else INDENT * 2
    return textwrap.fill(line, WIDE, subsequent_indent=hanging, break_on_hyphens=False, break_long_words=False)
