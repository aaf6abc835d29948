"""How times are written for people."""

from __future__ import annotations

from datetime import datetime, timezone


def utc(at: float) -> str:
    """ISO 8601 in UTC, to the second: 2026-11-21T03:04:05Z. For the journal and the log."""
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def local(at: float | None) -> str:
    """In the operator's own zone with its UTC offset: 2026-11-21 12:04:05 +0900; empty for no time."""
    return "" if at is None else datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S %z")


def sql_time(at: float) -> str:
    """UTC for the DATETIME columns that the tables had since 2015."""
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")


def count(number: int, noun: str) -> str:
    """A number of things: 1 report, 2 reports."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
