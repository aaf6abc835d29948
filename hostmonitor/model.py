"""What pacemaker says of its cluster, in our own words: one view, its nodes, its fencing and its resources."""

from __future__ import annotations

from dataclasses import dataclass

MEMBER = "member"
REMOTE = "remote"
GUEST = "guest"
"""Kinds of node: one that runs corosync; one that pacemaker reaches through a connection resource; one that is itself a
resource of the cluster, a virtual machine or a container."""

BY_HAND = "a human"
"""The delegate of a fencing that nobody carried out: an operator told pacemaker that the node is off."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node as one view shows it; the flags are pacemaker's own.

    expected_up: pacemaker has not been told, and has not seen to it, that the node is down; it never says so of a remote.
    starting: a remote that pacemaker tries to reach, and shows as online meanwhile, dead or not.
    Only a CIB tells the last three. fenced_at: Unix seconds of the fencing of a remote that has not been back since.
    forgotten: pacemaker remembers nothing that ran there, as after a fencing; after a clean stop it remembers.
    busy: as far as pacemaker remembers, something runs there still; before a clean stop everything is stopped.
    """

    name: str
    kind: str = MEMBER
    node_id: str = ""
    online: bool = False
    unclean: bool = False
    pending: bool = False
    standby: bool = False
    maintenance: bool = False
    shutdown: bool = False
    expected_up: bool = False
    is_dc: bool = False
    starting: bool = False
    fenced_at: float | None = None
    forgotten: bool = False
    busy: bool = False


@dataclass(frozen=True, slots=True)
class FenceEvent:
    """A line of the fencing history: target was, or is to be, fenced.

    action: "off", "reboot", "on" and others. status: "success", "failed" or "pending". completed: Unix seconds; None while
    it is pending, or when its time can't be read. delegate: the node that carried it out, or BY_HAND.
    """

    target: str
    action: str
    status: str
    completed: float | None = None
    delegate: str = ""
    client: str = ""
    origin: str = ""
    exit_reason: str = ""


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource: where it runs, and the groups, clones or bundles it lies in, outermost first.

    target_role: "Stopped" when an operator stopped it; "" when nobody asked for a role.
    """

    name: str
    agent: str
    role: str
    active: bool
    failed: bool
    blocked: bool
    managed: bool
    orphaned: bool
    target_role: str = ""
    nodes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class View:
    """The cluster as one node saw it.

    source: "crm_mon" or "cib"; a CIB holds no fencing history, and its resources are the connections of remotes alone.
    at: Unix seconds when it was asked for, 0.0 if unknown. own: the node that asked, "" if unknown. quorate and
    stonith_enabled are None when it isn't told; dc is "" when there is none. pacemakerd: what pacemaker on the asking
    node says of itself, "running" when all is well, "" when it isn't told. history_lost: the fencing history could not be
    asked for. problems: what could not be understood, one sentence each; it is left out of the rest.
    """

    source: str
    at: float
    own: str
    quorate: bool | None
    dc: str
    stonith_enabled: bool | None
    no_quorum_policy: str
    maintenance_mode: bool
    nodes: tuple[Node, ...]
    fence_events: tuple[FenceEvent, ...] = ()
    history_lost: bool = False
    resources: tuple[Resource, ...] = ()
    pacemakerd: str = ""
    problems: tuple[str, ...] = ()

    def node(self, name: str) -> Node | None:
        """The node of that name; None if the cluster doesn't know it."""
        return next((node for node in self.nodes if node.name == name), None)
