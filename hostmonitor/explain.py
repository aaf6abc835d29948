"""What the monitor would think of one view, for a person or for a program (pure)."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from hostmonitor.crm_xml import quoted
from hostmonitor.model import View
from hostmonitor.verdict import TIED_S, Verdict, worthless
from masakari.common.text import count, utc

WIDTH = 110
REASON_CHARS = 1000
HEADINGS = ("NODE", "STATE", "FAILED", "PROVEN", "WHY")


def as_json(verdicts: Sequence[Verdict]) -> str:
    """{"nodes": [{"name", "state", "failed", "proven", "reason"}, ...]}."""
    return json.dumps({"nodes": [asdict(verdict) for verdict in verdicts]}, indent=2)


def as_text(view: View, verdicts: Sequence[Verdict]) -> str:
    """The outcome in a line, the cluster in a line, a table of the nodes, and the notes."""
    lines = [_outcome(view, verdicts), _cluster(view), "", *_table(verdicts)]
    notes = [f"note: {note}" for note in remarks(view, verdicts)]
    return "\n".join(lines + [""] * bool(notes) + [line for note in notes for line in _wrapped(note, WIDTH)])


def remarks(view: View, verdicts: Sequence[Verdict]) -> list[str]:
    """What one view alone can't tell, what was assumed for that, and what was not understood."""
    notes = []
    if not view.own and any(verdict.failed for verdict in verdicts):
        notes.append(
            "which node asked is not known, as pacemaker doesn't tell. If it is one that is not online here, nothing is "
            "reported: say which with --own NAME"
        )
    if any(verdict.proven for verdict in verdicts):
        when = f"within {TIED_S / 60:.0f} min before this view" if view.at else "at any time before this view"
        notes.append(
            f"a fencing {when} is taken for one of this loss. The monitor itself knows when it last saw a node alive"
        )
    return notes + [f"not understood: {problem}" for problem in view.problems]


def _outcome(view: View, verdicts: Sequence[Verdict]) -> str:
    failed = [verdict for verdict in verdicts if verdict.failed]
    if doubt := worthless(view):
        return f"Nothing would be reported: {quoted(doubt)}."
    if not failed:
        return f"Nothing would be reported: none of {count(len(verdicts), 'node')} has failed."
    named = ", ".join(
        f"{quoted(one.name)} ({'proven, may be evacuated' if one.proven else 'not proven, is not evacuated'})"
        for one in failed
    )
    return f"{len(failed)} of {count(len(verdicts), 'node')} would be reported as failed: {named}."


def _cluster(view: View) -> str:
    quorum = {True: "quorum", False: "NO QUORUM", None: "quorum unknown"}[view.quorate]
    stonith = {True: "true", False: "false", None: "unknown"}[view.stonith_enabled]
    parts = [
        f"{view.source} of {utc(view.at)}" if view.at else f"{view.source}, time unknown",
        f"asked by {quoted(view.own) or 'unknown'}",
        quorum,
        f"DC {quoted(view.dc) or 'none'}",
        f"stonith-enabled={stonith}",
        f"no-quorum-policy={quoted(view.no_quorum_policy) or 'unknown'}",
    ]
    return "Cluster: " + ", ".join(parts + ["maintenance-mode"] * view.maintenance_mode)


def _table(verdicts: Sequence[Verdict]) -> Iterable[str]:
    rows = [HEADINGS]
    for one in verdicts:
        rows.append(
            (quoted(one.name), one.state, _word(one.failed), _word(one.proven), quoted(one.reason, REASON_CHARS))
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS) - 1)]
    for row in rows:
        left = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) + "  "
        why = _wrapped(row[-1], max(40, WIDTH - len(left)))
        yield left + why[0]
        yield from (" " * len(left) + line for line in why[1:])


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False) or [""]


def _word(yes: bool) -> str:
    return "YES" if yes else "no"
