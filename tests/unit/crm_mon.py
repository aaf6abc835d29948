"""What pacemaker would print about a cluster: the XML of crm_mon (pacemaker 2.1) and the CIB, from a View that describes it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

from hostmonitor.model import GUEST, MEMBER, REMOTE, FenceEvent, Node, Resource, View


def member(name: str, **flags: Any) -> Node:
    """A full member that is well, but for what is said."""
    return replace(Node(name, MEMBER, name.strip("node") or name, online=True, expected_up=True), **flags)


def remote(name: str, **flags: Any) -> Node:
    """A pacemaker-remote node that is well, but for what is said."""
    return replace(Node(name, REMOTE, name, online=True), **flags)


def connection(name: str, *nodes: str, **changed: Any) -> Resource:
    """The connection to a remote, which runs on these nodes."""
    return replace(_resource(name, "ocf:pacemaker:remote", *nodes), **changed)


def resource(name: str, *nodes: str, **changed: Any) -> Resource:
    """A resource that runs on these nodes."""
    return replace(_resource(name, "ocf:heartbeat:Dummy", *nodes), **changed)


def _resource(name: str, agent: str, *nodes: str) -> Resource:
    role = "Started" if nodes else "Stopped"
    return Resource(name, agent, role, bool(nodes), False, False, True, False, nodes=nodes)


def cluster(*nodes: Node, **changed: Any) -> View:
    """Three members with quorum and fencing, DC node2, seen by node1; the nodes given replace or join them."""
    given = {node.name: node for node in nodes}
    all_nodes = {name: member(name) for name in ("node1", "node2", "node3")} | given
    view = View("crm_mon", 0.0, "node1", True, "node2", True, "stop", False, (), pacemakerd="running")
    view = replace(view, nodes=tuple(all_nodes.values()), **changed)
    return replace(view, nodes=tuple(replace(node, is_dc=node.name == view.dc) for node in view.nodes))


def crm_mon(view: View, history: bool = True) -> str:
    """crm_mon --output-as=xml. history: False when crm_mon could not ask for the fencing history."""
    root = Element("pacemaker-result", {"api-version": "2.25", "request": "crm_mon -1 --output-as=xml"})
    SubElement(root, "pacemakerd", sys_from="pacemakerd", state=view.pacemakerd or "running", last_updated=_utc(view.at))
    _summary(SubElement(root, "summary"), view)
    nodes = SubElement(root, "nodes")
    for node in view.nodes:
        nodes.append(_node(node))
    _resources(SubElement(root, "resources"), view.resources)
    fencings = SubElement(root, "fence_history", {} if history else {"status": "1"})
    fencings.extend(_fencing(event) for event in view.fence_events if history)
    SubElement(root, "status", code="0", message="OK")
    return tostring(root, encoding="unicode")


def _summary(summary: Element, view: View) -> None:
    if view.dc:
        dc = SubElement(summary, "current_dc", present="true", version="2.1.5-a3f44794f94", name=view.dc)
        dc.set("id", next((node.node_id for node in view.nodes if node.name == view.dc), ""))
    else:
        dc = SubElement(summary, "current_dc", present="false")
    if view.quorate is not None:
        dc.set("with_quorum", _yes(view.quorate))
    options = SubElement(summary, "cluster_options", {"maintenance-mode": _yes(view.maintenance_mode)})
    options.set("no-quorum-policy", view.no_quorum_policy)
    if view.stonith_enabled is not None:
        options.set("stonith-enabled", _yes(view.stonith_enabled))


def _node(node: Node) -> Element:
    element = Element("node", name=node.name, id=node.node_id, type=MEMBER if node.kind == MEMBER else REMOTE)
    if node.kind == GUEST:
        element.set("id_as_resource", f"{node.name}-vm")
    for flag in ("online", "standby", "maintenance", "pending", "unclean", "shutdown", "expected_up", "is_dc"):
        element.set(flag, _yes(getattr(node, flag)))
    return element


def _resources(listed: Element, resources: Iterable[Resource]) -> None:
    groups: dict[str, Element] = {}
    for one in resources:
        parent = listed
        for group in one.groups:
            parent = groups[group] if group in groups else groups.setdefault(group, SubElement(parent, "group", id=group))
        element = SubElement(parent, "resource", id=one.name, resource_agent=one.agent, role=one.role)
        for flag in ("active", "orphaned", "blocked", "managed", "failed"):
            element.set(flag, _yes(getattr(one, flag)))
        if one.target_role:
            element.set("target_role", one.target_role)
        for name in one.nodes:
            SubElement(element, "node", name=name, cached="true")


def _fencing(event: FenceEvent) -> Element:
    element = Element("fence_event", action=event.action, target=event.target, status=event.status)
    element.set("client", event.client)
    element.set("origin", event.origin)
    if event.exit_reason:
        element.set("exit-reason", event.exit_reason)
    if event.delegate:
        element.set("delegate", event.delegate)
    if event.completed is not None:
        element.set("completed", _utc(event.completed))
    return element


def cib(view: View, bmcs: Mapping[str, str] | None = None) -> str:
    """cibadmin --query. bmcs: the address of the BMC of each node, as fence_ipmilan is given it."""
    root = Element("cib", {"have-quorum": "1" if view.quorate else "0", "validate-with": "pacemaker-3.0"})
    root.set("dc-uuid", next((node.node_id for node in view.nodes if node.name == view.dc), ""))
    configuration = SubElement(root, "configuration")
    options = SubElement(SubElement(configuration, "crm_config"), "cluster_property_set", id="cib-bootstrap-options")
    _pair(options, "stonith-enabled", _yes(view.stonith_enabled))
    _pair(options, "no-quorum-policy", view.no_quorum_policy)
    _pair(options, "maintenance-mode", _yes(view.maintenance_mode))
    nodes, resources = SubElement(configuration, "nodes"), SubElement(configuration, "resources")
    status = SubElement(root, "status")
    for node in view.nodes:
        if node.kind == MEMBER:
            SubElement(nodes, "node", id=node.node_id, uname=node.name)
            status.append(_state(node))
        elif node.kind == REMOTE:
            SubElement(resources, "primitive", {"id": node.name, "class": "ocf", "provider": "pacemaker", "type": "remote"})
    for name, address in (bmcs or {}).items():
        device = SubElement(resources, "primitive", {"id": f"fence-{name}", "class": "stonith", "type": "fence_ipmilan"})
        attributes = SubElement(device, "instance_attributes", id=f"fence-{name}-params")
        for key, value in (("ip", address), ("username", "admin"), ("password", "secret"), ("lanplus", "1")):
            _pair(attributes, key, value)
        _pair(attributes, "pcmk_host_list", name)
    return tostring(root, encoding="unicode")


def _state(node: Node) -> Element:
    alive = node.online and not node.unclean and not node.pending
    state = Element("node_state", id=node.node_id, uname=node.name, in_ccm=_yes(node.online))
    state.set("crmd", "online" if alive else "offline")
    state.set("join", "member" if alive or node.unclean else "down")
    state.set("expected", "member" if alive or node.unclean or node.expected_up else "down")
    if node.shutdown:
        attributes = SubElement(SubElement(state, "transient_attributes", id=node.node_id), "instance_attributes")
        _pair(attributes, "shutdown", "1800000000")
    if not node.forgotten:
        ran = SubElement(SubElement(SubElement(state, "lrm", id=node.node_id), "lrm_resources"), "lrm_resource", id="vip")
        rc, task = ("0", "start") if node.busy else ("0", "stop")
        SubElement(ran, "lrm_rsc_op", {"operation": task, "call-id": "7", "rc-code": rc, "id": "vip_last_0"})
    return state


def _pair(parent: Element, name: str, value: str) -> None:
    SubElement(parent, "nvpair", id=f"{parent.get('id')}-{name}", name=name, value=value)


def _yes(flag: bool | None) -> str:
    return "true" if flag else "false"


def _utc(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(at))
