"""What a bench finds out, and the table of it. Pure, but for reading what machine this is."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number. At most `most`, or at least `least`; with neither it is there for information.

    `beside`: what it is compared with, as measured in the same run.
    """

    name: str
    value: float
    unit: str
    most: float | None = None
    least: float | None = None
    beside: str = ""

    @property
    def missed(self) -> bool:
        """Whether it is on the wrong side of its limit."""
        return (self.most is not None and self.value > self.most) or (
            self.least is not None and self.value < self.least
        )

    @property
    def row(self) -> tuple[str, ...]:
        """Its line of the table."""
        limit, verdict = "", ""
        if self.most is not None:
            limit = f"<= {shown(self.most)}"
        elif self.least is not None:
            limit = f">= {shown(self.least)}"
        if limit:
            verdict = "MISSED" if self.missed else "ok"
        return self.name, shown(self.value), self.unit, limit, verdict, self.beside


def shown(value: float) -> str:
    """A number with as many digits as anybody needs."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}"


def nearly_all(values: Sequence[float], percent: int = 95) -> float:
    """The value that so many percent of them don't exceed."""
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


HEAD = ("figure", "measured", "", "limit", "", "beside")
_RIGHT = (1, 3)


def table(figures: Sequence[Figure]) -> str:
    """All figures, aligned."""
    rows = [HEAD, *(figure.row for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = []
    for row in rows:
        cells = (
            cell.rjust(width) if column in _RIGHT else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)


def machine(mariadb: str) -> str:
    """On what the figures were measured. `mariadb`: its version."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    packages = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("waitress", "requests", "PyMySQL"))
    return (
        f"{cpu}, {os.cpu_count()} cores, Linux {platform.release()}; "
        f"Python {platform.python_version()}, MariaDB {mariadb}, {packages}"
    )
