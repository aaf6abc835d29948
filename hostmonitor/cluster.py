"""What cluster this is: the failover segment's name, and what about it is dangerous (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from hostmonitor import corosync
from hostmonitor.corosync import Corosync
from hostmonitor.model import MEMBER, View
from masakari.common.text import count

IGNORED_QUORUM = "ignore"


@dataclass(frozen=True, slots=True)
class Segment:
    """The failover segment of this cluster. cluster_port: as operators give it as --port; source: where it comes from."""

    cluster_port: str
    source: str


def segment(configured: str, of_key: str, found: Corosync | None) -> Segment:
    """What is configured goes before the key, and that before what corosync says (None: it can't be asked).

    ConfigError, with what to do, when nothing names it.
    """
    if configured:
        return Segment(configured, "cluster_port in hostmonitor.conf")
    if of_key:
        return Segment(of_key, "the key of this host")
    source = "corosync's multicast address and port" if _is_multicast(found) else "corosync's cluster_name"
    return Segment(corosync.cluster_port(found or Corosync()), source)


def dangers(view: View) -> list[str]:
    """What this cluster can't do as it is set up, a sentence each: why, and what to change."""
    found = []
    if view.stonith_enabled is False:
        found.append(
            "stonith-enabled=false: pacemaker fences nobody, so only a BMC can prove that a host is off; without that nothing is "
            "evacuated. Set up fencing and stonith-enabled=true"
        )
    if view.no_quorum_policy == IGNORED_QUORUM:
        found.append(
            "no-quorum-policy=ignore: a part of the cluster that is cut off goes on as if it were the whole. Nothing is reported "
            "without quorum all the same. Set no-quorum-policy=stop"
        )
    members = sum(node.kind == MEMBER for node in view.nodes)
    if members == 2:
        found.append(
            "there are 2 full members: one that is left alone can't tell whether the other is dead or itself is cut off, and "
            "reports nothing. Add a third one"
        )
    return found


def troubles(view: View, ignored: str) -> Mapping[str, str]:
    """Resources that are not well, each with what is wrong. ignored: pattern for names of resources and groups left out."""
    found = {}
    for resource in view.resources:
        if ignored and any(re.search(ignored, name) for name in (resource.name, *resource.groups)):
            continue
        words = [word for word, is_so in (("failed", resource.failed), ("blocked", resource.blocked)) if is_so]
        if words:
            where = f" on {', '.join(resource.nodes)}" if resource.nodes else ""
            found[resource.name] = f"resource {resource.name} ({resource.agent}) is {' and '.join(words)}{where}"
    return found


def is_cut_off(view: View) -> bool:
    """Whether the node that asked may be lost to the others: they may have reported it."""
    own = view.node(view.own)
    return not view.quorate or own is None or not own.online or own.unclean or own.pending


def summary(view: View) -> str:
    """The cluster in a few words."""
    online = sum(node.online for node in view.nodes)
    return f"{online} of {count(len(view.nodes), 'node')} online, DC {view.dc or 'none'}"


def _is_multicast(found: Corosync | None) -> bool:
    return found is not None and bool(found.mcast) and found.transport not in corosync.UNICAST
