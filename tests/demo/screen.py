"""What the demonstration prints: headings, paragraphs, tables, and one line that is kept up to date."""

from __future__ import annotations

import itertools
import sys
import textwrap
from collections.abc import Sequence

WIDTH = 80
INDENT = "  "


class Screen:
    """Text for a person, on standard output."""

    def __init__(self) -> None:
        self._scenes = itertools.count(1)
        self._live = sys.stdout.isatty()
        self._last = ""

    def title(self, text: str) -> None:
        """The first line."""
        print(f"{text}\n{'=' * len(text)}")

    def scene(self, text: str) -> None:
        """A heading with a number."""
        heading = f"{next(self._scenes)}. {text}"
        print(f"\n{heading}\n{'-' * len(heading)}")

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

    def progress(self, seconds: float, text: str) -> None:
        """The line that is kept up to date; where it can't be overwritten, one more line when the text is new."""
        line = f"{INDENT * 2}{seconds:5.1f} s  {text}"
        if self._live:
            print(f"\r{line[:WIDTH]:<{WIDTH}}", end="", flush=True)
        elif text != self._last:
            print(line, flush=True)
        self._last = text

    def progress_ends(self) -> None:
        """No further update of that line."""
        print("\n" if self._live else "")
        self._last = ""
