"""May nova-compute and the guests of a host start? Not while it is being evacuated, or evacuated to. Only reads.

A recovery that is held with nothing under way keeps no host from starting: what starts is a sign of life, against which nothing
is evacuated. Nor does one that waits for the host itself: for the new boot's nova-compute, or for a target that was lost. And what
was sent to the host since it was booted waits for its nova-compute: that may be restarted at any time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from masakari import store
from masakari.common.text import count
from masakari.database import Tx
from masakari.model import Recovery

EVACUATING = ("isolate", "reserve", "enable_target", "list", "evacuate")
"""The steps of a host recovery in which evacuations are under way, or may be requested at any moment."""


def may_start(tx: Tx, host: str, up_s: float) -> tuple[bool, str]:
    """Whether a host, as Nova calls it, that was booted up_s seconds ago may start its guests now, and why."""
    key = store.active_key("host", host)
    own = store.active(tx, [key]).get(key)
    return judge(host, own, tx.all("instance_unfinished_at", hostname=host, up_s=up_s))


def judge(host: str, own: Recovery | None, under_way: Sequence[Mapping[str, Any]]) -> tuple[bool, str]:
    """Pure. own: the open recovery of that host. under_way: recoveries that evacuate from or to it (id, hostname, n)."""
    if own is not None and own.status != "held" and own.step in EVACUATING:
        return False, f"recovery {own.id} is evacuating {host}: {own.reason}"
    if under_way:
        many = sum(row["n"] for row in under_way)
        told = ", ".join(f"recovery {row['id']} of {row['hostname']}" for row in under_way[:3])
        return False, f"{count(many, 'evacuation')} from or to {host} under way: {told}"
    return True, f"no evacuation from or to {host} is unfinished"
