"""All step tables: which function a step is, and which steps may follow it. docs/recovery.md draws them."""

from __future__ import annotations

from masakari import (
    host_aggregates,
    host_evacuation,
    host_recovery,
    host_return,
    host_spare,
    host_undo,
    in_place,
    instance_recovery,
    process_recovery,
)
from masakari.recovery import Table

HOST: Table = {
    "admit": (host_recovery.admit, frozenset({"prove", "undo"})),
    "prove": (host_recovery.prove, frozenset({"isolate", "undo", "in_place", "list"})),
    "isolate": (host_recovery.isolate, frozenset({"reserve", "prove", "undo"})),
    "reserve": (host_spare.reserve, frozenset({"enable_target", "aggregates", "list", "evacuate", "undo"})),
    "enable_target": (host_spare.enable_target, frozenset({"aggregates", "list", "reserve", "evacuate", "undo"})),
    "aggregates": (host_aggregates.aggregates, frozenset({"list", "evacuate", "undo"})),
    "list": (host_evacuation.list_instances, frozenset({"evacuate", "undo"})),
    "evacuate": (host_evacuation.evacuate, frozenset({"finish", "reserve", "in_place", "undo"})),
    "finish": (host_evacuation.finish, frozenset({"evacuate", "undo"})),
    "in_place": (in_place.in_place, frozenset({"finish", "undo"})),
    "undo": (host_undo.undo, frozenset()),
}

TABLES: dict[str, Table] = {
    "host": HOST,
    "instance": instance_recovery.STEPS,
    "process": process_recovery.STEPS,
    "return": host_return.STEPS,
}

FIRST = {"host": "prove", "instance": "look", "process": "disable", "return": "check"}
"""The step a recovery of each kind begins with; a host recovery held at admission begins with `admit`."""


def diagram(name: str) -> str:
    """One line per step with its edges, as the documentation shows it."""
    return "\n".join(
        f"{step:<14} -> {', '.join(sorted(edges)) or '(end)'}" for step, (_, edges) in TABLES[name].items()
    )
