"""From pacemaker's XML to a View (pure): crm_mon --output-as=xml, crm_mon -X of older releases, and a CIB.

Text of crm_mon is never parsed. What is cut off, is no XML or tells of an error is no view at all: nobody may be taken for
dead because a program printed half of its answer.
"""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from hostmonitor.model import GUEST, MEMBER, REMOTE, FenceEvent, Node, Resource, View

PENDING = ("193", "-1")
"""Exit status of an operation that has not ended: of older releases too."""

LIMIT_CHARS = 64 * 1024 * 1024
QUOTED_CHARS = 200
NESTED_DEPTH = 8
NESTED = ("group", "clone", "bundle", "replica")

_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(\.\d+)?\s*(?:Z|([+-])(\d\d):?(\d\d))")


class BadView(Exception):
    """This text is no view of a cluster; str() says why."""


class Unclear(ValueError):
    """One part of a view can't be understood; the rest counts."""


def parse(text: str, own: str = "", at: float = 0.0) -> View:
    """The view in this text; BadView when there is none.

    own: the node that asked: no release of pacemaker says it in the XML. at: Unix seconds when it was asked for; 0.0 takes
    what the text tells, where it tells a time with its zone.
    """
    root = _root(text)
    if root.tag in ("pacemaker-result", "crm_mon"):
        return _crm_mon(root, own, at)
    if root.tag == "cib":
        from hostmonitor.cib_xml import view  # Not at the top: it builds on this module.

        return view(root, own, at)
    raise BadView(f"<{quoted(root.tag)}> is neither from crm_mon nor a CIB")


def quoted(text: str, limit: int = QUOTED_CHARS) -> str:
    """The beginning of a foreign text, on one line and fit for a terminal; limit: characters."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def flag(element: Element, name: str, default: bool = False) -> bool:
    """A yes or no of pacemaker; Unclear when it is neither."""
    value = element.get(name)
    return default if value is None else truth(value, name)


def truth(value: str, name: str) -> bool:
    """A value as pacemaker reads it; Unclear when it is neither true nor false."""
    if value.lower() in ("true", "on", "yes", "y", "1"):
        return True
    if value.lower() in ("false", "off", "no", "n", "0"):
        return False
    raise Unclear(f"{name}={quoted(value)!r} is neither true nor false")


def unix_time(text: str) -> float | None:
    """Unix seconds of a time with its zone; None without one: a wrong guess would make an old fencing a new one."""
    found = _TIME.fullmatch(text.strip())
    if not found:
        return None
    day, clock, fraction, sign, hours, minutes = found.groups()
    try:
        at = float(calendar.timegm(time.strptime(f"{day} {clock}", "%Y-%m-%d %H:%M:%S")))
    except (ValueError, OverflowError):
        return None
    east_s = (int(hours) * 3600 + int(minutes) * 60) * (-1 if sign == "-" else 1) if sign else 0
    return at + float(fraction or 0) - east_s


def no_doubles(nodes: Iterable[Node], problems: list[str]) -> tuple[Node, ...]:
    """One node per name: a stale entry beside a live one must not make the live one look dead."""
    found: dict[str, Node] = {}
    for node in nodes:
        old = found.get(node.name)
        if old is not None:
            problems.append(f"node {quoted(node.name)} is there twice, the one that is online counts")
        if old is None or (node.online and not old.online):
            found[node.name] = node
    return tuple(found.values())


def _root(text: str) -> Element:
    text = text.lstrip("\ufeff \t\r\n")
    if not text.strip("\0"):
        raise BadView("it is empty")
    if len(text) > LIMIT_CHARS:
        raise BadView(f"it has more than {LIMIT_CHARS // 1024 // 1024} million characters")
    if not text.startswith("<"):
        raise BadView(f"no XML, but: {quoted(text)}")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise BadView("it defines entities, which pacemaker never does")
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise BadView(f"broken or cut off: {error}") from None
    except (ValueError, RecursionError) as error:
        raise BadView(f"no XML: {quoted(str(error))}") from None


def _crm_mon(root: Element, own: str, at: float) -> View:
    _check_status(root)
    problems: list[str] = []
    listed = root.find("nodes")
    if listed is None:
        raise BadView("it lists no nodes")
    resources = tuple(_resources(root.find("resources"), problems))
    starting = _starting(root, resources)
    nodes = tuple(
        replace(node, starting=True) if node.kind == REMOTE and node.online and node.name in starting else node
        for node in no_doubles(_nodes(listed, problems), problems)
    )
    if not nodes:
        raise BadView("it lists no node" + "".join(f"; {problem}" for problem in problems[:1]))
    dc, options, daemon = (
        _part(root, path) for path in ("summary/current_dc", "summary/cluster_options", "pacemakerd")
    )
    return View(
        source="crm_mon",
        at=at or unix_time(daemon.get("last_updated", "")) or 0.0,
        own=own,
        quorate=_maybe(dc, "with_quorum", problems),
        dc=dc.get("name", ""),
        stonith_enabled=_maybe(options, "stonith-enabled", problems),
        no_quorum_policy=options.get("no-quorum-policy", ""),
        maintenance_mode=bool(_maybe(options, "maintenance-mode", problems)),
        nodes=nodes,
        fence_events=tuple(_fence_events(root, problems)),
        history_lost=_part(root, "fence_history").get("status", "0") != "0",
        resources=resources,
        pacemakerd=daemon.get("state", ""),
        problems=tuple(problems),
    )


def _part(root: Element, path: str) -> Element:
    found = root.find(path)
    return Element("missing") if found is None else found


def _check_status(root: Element) -> None:
    """crm_mon may exit 0 and answer with an error; it is the status that tells."""
    status = root.find("status")
    if status is None or status.get("code") in (None, "0"):
        return
    errors = "; ".join(error.text or "" for error in status.iter("error"))
    told = quoted(f"{status.get('message', '')}: {errors}".strip(": "))
    raise BadView(f"crm_mon failed with status {quoted(status.get('code', ''))}: {told}")


def _maybe(element: Element, name: str, problems: list[str]) -> bool | None:
    try:
        return None if element.get(name) is None else flag(element, name)
    except Unclear as unclear:
        problems.append(str(unclear))
        return None


def _nodes(listed: Element, problems: list[str]) -> Iterator[Node]:
    for element in listed.findall("node"):
        try:
            yield _node(element)
        except Unclear as unclear:
            problems.append(f"node {quoted(element.get('name', '?'))} is left out: {unclear}")


def _node(element: Element) -> Node:
    name = element.get("name")
    if not name:
        raise Unclear("it has no name")
    if element.get("online") is None:
        raise Unclear("it doesn't say whether it is online")
    kind = element.get("type", MEMBER)
    if kind not in (MEMBER, REMOTE):
        raise Unclear(f"it is of type {quoted(kind)!r}, no host")
    return Node(
        name=name,
        kind=GUEST if kind == REMOTE and element.get("id_as_resource") else kind,
        node_id=element.get("id", ""),
        online=flag(element, "online"),
        unclean=flag(element, "unclean"),
        pending=flag(element, "pending"),
        # On-fail standby is pacemaker's answer to a resource that failed, nobody planned it.
        standby=flag(element, "standby") and not flag(element, "standby_onfail"),
        maintenance=flag(element, "maintenance"),
        shutdown=flag(element, "shutdown"),
        expected_up=flag(element, "expected_up"),
        is_dc=flag(element, "is_dc"),
    )


def _starting(root: Element, resources: Iterable[Resource]) -> set[str]:
    """Resources whose start has not ended. Pacemaker shows a remote as online while it tries to reach it again, dead or not."""
    found = {resource.name for resource in resources if resource.role == "Starting"}
    for history in root.iterfind("node_history/node/resource_history"):
        ran = history.findall("operation_history")
        if any(each.get("task") == "start" and each.get("rc") in PENDING for each in ran):
            found.add(history.get("id", ""))
    return found


def _fence_events(root: Element, problems: list[str]) -> Iterator[FenceEvent]:
    for element in root.iterfind("fence_history/fence_event"):
        target, told = element.get("target", ""), element.get("completed", "")
        if not target:
            problems.append("a fencing is left out: it has no target")
            continue
        completed = unix_time(told)
        if told and completed is None:
            problems.append(
                f"the time of a fencing of {quoted(target)} can't be read: {quoted(told)!r}; it proves nothing"
            )
        yield FenceEvent(
            target=target,
            action=element.get("action", ""),
            # "state" in the first releases that kept a history.
            status=element.get("status", element.get("state", "")),
            completed=completed,
            delegate=element.get("delegate", ""),
            client=element.get("client", ""),
            origin=element.get("origin", ""),
            exit_reason=element.get("exit-reason", ""),
        )


def _resources(listed: Element | None, problems: list[str]) -> Iterator[Resource]:
    waiting: list[tuple[Element, tuple[str, ...]]] = [] if listed is None else [(listed, ())]
    while waiting:
        parent, groups = waiting.pop()
        for element in parent:
            if element.tag in NESTED and len(groups) == NESTED_DEPTH:
                problems.append(f"what lies deeper in {quoted(groups[0])} is left out")
            elif element.tag in NESTED:
                name = element.get("id", "")
                waiting.append((element, (*groups, name) if name and element.tag != "replica" else groups))
            elif element.tag == "resource":
                try:
                    yield _resource(element, groups)
                except Unclear as unclear:
                    problems.append(f"resource {quoted(element.get('id', '?'))} is left out: {unclear}")


def _resource(element: Element, groups: tuple[str, ...]) -> Resource:
    return Resource(
        name=element.get("id", ""),
        agent=element.get("resource_agent", ""),
        role=element.get("role", ""),
        active=flag(element, "active"),
        failed=flag(element, "failed"),
        blocked=flag(element, "blocked"),
        managed=flag(element, "managed", True),
        orphaned=flag(element, "orphaned"),
        target_role=element.get("target_role", ""),
        nodes=tuple(node.get("name", "") for node in element.findall("node")),
        groups=groups,
    )
