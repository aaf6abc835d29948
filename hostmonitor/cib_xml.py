"""From a CIB to a View (pure).

A CIB holds what crm_mon is told, not what it concludes: the flags of the nodes are worked out here the way pacemaker does
it. There is no fencing history in it. A monitor asks crm_mon; this is for a CIB that an operator saved.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from xml.etree.ElementTree import Element

from hostmonitor.crm_xml import PENDING, BadView, Unclear, flag, no_doubles, quoted, truth
from hostmonitor.model import MEMBER, REMOTE, Node, Resource, View


@dataclass(frozen=True, slots=True)
class _Ran:
    """What the history of one resource on one node says."""

    resource: str
    node: str
    active: bool
    failed: bool


def view(root: Element, own: str, at: float) -> View:
    """The view in a CIB; BadView when it lists no nodes."""
    problems: list[str] = []
    options = _options(root)
    stonith = _option(options, "stonith-enabled", True, problems)
    history = list(_history(root))
    connections = tuple(_connections(root, history))
    by_name = {connection.name: connection for connection in connections}
    nodes = no_doubles(_nodes(root, stonith, history, by_name, problems), problems)
    if not nodes:
        raise BadView("a CIB without nodes")
    dc = next((node.name for node in nodes if node.kind == MEMBER and node.node_id == root.get("dc-uuid")), "")
    return View(
        source="cib",
        at=at,
        own=own,
        quorate=_quorate(root, problems),
        dc=dc,
        stonith_enabled=stonith,
        no_quorum_policy=options.get("no-quorum-policy", "stop"),
        maintenance_mode=_option(options, "maintenance-mode", False, problems),
        nodes=tuple(replace(node, is_dc=node.name == dc) for node in nodes),
        resources=connections,
        problems=tuple(problems),
    )


def _quorate(root: Element, problems: list[str]) -> bool | None:
    try:
        return None if root.get("have-quorum") is None else flag(root, "have-quorum")
    except Unclear as unclear:
        problems.append(str(unclear))
        return None


def _options(root: Element) -> dict[str, str]:
    """Of several sets that name an option pacemaker takes its own set first."""
    sets = root.findall("configuration/crm_config/cluster_property_set")
    sets.sort(key=lambda found: found.get("id") != "cib-bootstrap-options")
    options: dict[str, str] = {}
    for found in sets:
        for name, value in _pairs(found):
            options.setdefault(name, value)
    return options


def _option(options: dict[str, str], name: str, default: bool, problems: list[str]) -> bool:
    try:
        return truth(options[name], name) if name in options else default
    except Unclear as unclear:
        problems.append(f"{unclear}; pacemaker's default counts")
        return default


def _pairs(element: Element) -> Iterator[tuple[str, str]]:
    for pair in element.iter("nvpair"):
        yield pair.get("name", ""), pair.get("value", "")


def _connections(root: Element, history: list[_Ran]) -> Iterator[Resource]:
    running = {(ran.resource, ran.node) for ran in history if ran.active}
    failed = {ran.resource for ran in history if ran.failed}
    for primitive in root.iterfind("configuration/resources//primitive"):
        if (primitive.get("class"), primitive.get("provider"), primitive.get("type")) != ("ocf", "pacemaker", "remote"):
            continue
        name = primitive.get("id", "")
        wanted = dict(pair for meta in primitive.findall("meta_attributes") for pair in _pairs(meta))
        nodes = tuple(sorted(node for resource, node in running if resource == name))
        yield Resource(
            name=name,
            agent="ocf:pacemaker:remote",
            role="Started" if nodes else "Stopped",
            active=bool(nodes),
            failed=name in failed,
            blocked=False,
            managed=True,
            orphaned=False,
            target_role=wanted.get("target-role", "").capitalize(),
            nodes=nodes,
        )


def _nodes(
    root: Element, stonith: bool, history: list[_Ran], connections: dict[str, Resource], problems: list[str]
) -> Iterator[Node]:
    states = {state.get("uname", ""): state for state in root.iterfind("status/node_state")}
    left_alone = _unmanaged(root)
    busy = {ran.node for ran in history if ran.active and ran.resource not in left_alone}
    listed = {node.get("uname", ""): node for node in root.iterfind("configuration/nodes/node")}
    for name in (*listed, *(name for name in connections if name not in listed)):
        element = listed.get(name, Element("node", type=REMOTE, id=name, uname=name))
        state = states.get(name)
        try:
            if not name:
                raise Unclear("it has no name")
            node = _flagged(name, element, state)
            if node.kind == REMOTE:
                yield _remote(node, state, stonith, connections.get(name))
            else:
                yield _member(replace(node, busy=name in busy), state, stonith)
        except Unclear as unclear:
            problems.append(f"node {quoted(name or '?')} is left out: {unclear}")


def _unmanaged(root: Element) -> set[str]:
    """Resources that pacemaker leaves as they are, also when it is stopped."""
    found: set[str] = set()
    for owner in root.iterfind("configuration/resources//*[meta_attributes]"):
        if any(_leaves_alone(meta) for metas in owner.findall("meta_attributes") for meta in _pairs(metas)):
            found.update(element.get("id", "") for element in owner.iter("primitive"))
    return found


def _leaves_alone(meta: tuple[str, str]) -> bool:
    name, value = meta
    try:
        return (name == "is-managed" and not truth(value, name)) or (name == "maintenance" and truth(value, name))
    except Unclear:
        return False


def _flagged(name: str, element: Element, state: Element | None) -> Node:
    kind = element.get("type", MEMBER)
    if kind not in (MEMBER, REMOTE, "normal"):
        raise Unclear(f"it is of type {quoted(kind)!r}, no host")
    attributes = dict(_pairs(element))
    if state is not None:
        attributes |= {key: value for found in state.findall("transient_attributes") for key, value in _pairs(found)}
    return Node(
        name=name,
        kind=REMOTE if kind == REMOTE else MEMBER,
        node_id=element.get("id", ""),
        standby=truth(attributes.get("standby", "off"), "standby"),
        maintenance=truth(attributes.get("maintenance", "off"), "maintenance"),
        shutdown=attributes.get("shutdown", "0") not in ("", "0"),
        forgotten=state is None or state.find("lrm/lrm_resources/lrm_resource") is None,
    )


def _member(node: Node, state: Element | None, stonith: bool) -> Node:
    """The flags that pacemaker would show."""
    if state is None:
        # Never seen since the cluster started: with fencing it is shot before anything else.
        return replace(node, unclean=stonith)
    seen = _since(state, "in_ccm")
    controller = _since(state, "crmd")
    joined, expected = state.get("join"), state.get("expected") == "member"
    node = replace(node, expected_up=expected and not node.shutdown)
    if not stonith:
        online = seen and controller and joined == "member"
        return replace(node, online=online, unclean=seen and not controller and node.expected_up)
    if node.shutdown and seen:
        return replace(node, online=True)
    if not expected:
        if seen or controller:
            return replace(node, online=seen, pending=True, standby=True)
        return replace(node, unclean=node.busy and not node.maintenance)
    if not seen or not controller:
        return replace(node, online=seen, unclean=True)
    pending = joined != "member"
    return replace(node, online=True, pending=pending, standby=node.standby or pending)


def _remote(node: Node, state: Element | None, stonith: bool, connection: Resource | None) -> Node:
    told = "0" if state is None else state.get("node_fenced", "0")
    fenced_at = float(told) if _is_number(told) and int(told) > 0 else None
    if connection is None:
        return replace(node, fenced_at=fenced_at)
    unclean = connection.failed and stonith and fenced_at is None
    online = connection.active and not connection.failed
    # Pacemaker forgets the fencing of a remote when it has reached it again.
    starting = online and fenced_at is not None
    return replace(node, fenced_at=fenced_at, unclean=unclean, online=online, starting=starting)


def _since(state: Element, name: str) -> bool:
    """Whether a node is in the membership or its controller answers: a word, or since 2.1.7 the time since when."""
    value = state.get(name, "")
    return value in ("true", "online") or (_is_number(value) and int(value) > 0)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20


def _history(root: Element) -> Iterator[_Ran]:
    for state in root.iterfind("status/node_state"):
        for resource in state.iterfind("lrm/lrm_resources/lrm_resource"):
            active, failed = _outcome(resource)
            yield _Ran(resource.get("id", ""), state.get("uname", ""), active, failed)


def _outcome(resource: Element) -> tuple[bool, bool]:
    """Whether it runs there and whether it failed there, by its operations in the order in which they were called."""
    active = failed = False
    for operation in sorted(resource.findall("lrm_rsc_op"), key=_order):
        task, status = operation.get("operation", ""), operation.get("rc-code", "")
        if status in PENDING:
            active = active or task in ("start", "promote", "migrate_from")
        elif task == "stop":
            active = status != "0"
        elif task in ("start", "promote", "migrate_from"):
            active, failed = True, status != "0"
        elif task == "monitor" and status != "7":
            active = True
            failed = failed or status not in ("0", "8")
    return active, failed


def _order(operation: Element) -> float:
    call = operation.get("call-id", "")
    return float(call) if call.isascii() and call.isdigit() else float("inf")
