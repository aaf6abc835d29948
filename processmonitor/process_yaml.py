"""The list of processes to watch as YAML, process_list.yaml: a list with the keys of a process in each item.

The nodes are read, not the values that YAML makes of them: they know their lines, and show a key that is written twice, of
which YAML itself silently keeps the last.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from processmonitor.entry import Entry
from processmonitor.proclist import DISABLE, REPORT, Findings, Lists, on_failure, read

if TYPE_CHECKING:
    from typing import TypeGuard

    from yaml import MappingNode, Node

NAME = "process_name"
COMMANDS = (
    "start_command",
    "pre_start_command",
    "post_start_command",
    "restart_command",
    "pre_restart_command",
    "post_restart_command",
)
KEYS = (NAME, *COMMANDS, "run_as_root", "on_failure")
REQUIRED = {
    NAME: "write what stands in the command line of the process",
    "start_command": "write the command that starts the process when the processmonitor begins",
    "restart_command": "write the command that starts the process again when it died",
}
TAG = "tag:yaml.org,2002:"
KINDS = {
    "bool": "true or false",
    "int": "a number",
    "float": "a number",
    "timestamp": "a date",
    "null": "nothing",
    "str": "text",
    "seq": "a list",
    "map": "a mapping",
}

# A '-' that was commented out, alone or with the key behind it; not a dash in prose.
LOST_DASH = re.compile(r"\s*#\s*-\s*(#.*|\w+:.*)?$")


def load(path: str, report_only: tuple[str, ...]) -> Lists:
    """Read and check a process_list.yaml. ConfigError with everything that is wrong."""
    findings = Findings(path)
    text = read(findings)
    lines = text.split("\n")
    entries = []
    for number, node in enumerate(_items(findings, text), start=1):
        if not _is_mapping(node):
            findings.problem(
                _line(node), f"is {_called(node)}, not a process; write process_name and the other keys behind the '-'"
            )
        else:
            entries.append(_Item(findings, node, lines).entry(str(number), report_only))
    return findings.finish(entries)


def _items(findings: Findings, text: str) -> Sequence[Node]:
    import yaml  # a monitor with a proc.list does without

    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        findings.problem(
            line,
            f"is not YAML: {error.problem}; look at the indentation, at tabs, and for a ': ' that needs quotes around the value",
        )
        return []
    except yaml.YAMLError as error:
        findings.problem(0, f"is not YAML: {' '.join(str(error).split())}")
        return []
    except RecursionError:
        findings.problem(0, "can't be read as YAML: its brackets and indentations are nested too deeply")
        return []
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # What PyYAML lets through: \U and a number that is no character, a version of a thousand digits.
        findings.problem(0, f"can't be read as YAML: {error}")
        return []
    if root is None or _kind(root) == "null":
        return []
    if not isinstance(root, yaml.SequenceNode):
        findings.problem(_line(root), f"is {_called(root)}, not a list; write a '-' before the keys of each process")
        return []
    return root.value


class _Item:
    """A process of the list: its keys with their nodes, the first of those written twice."""

    def __init__(self, findings: Findings, node: MappingNode, text: list[str]) -> None:
        self._findings = findings
        self._line = _line(node)
        self._nodes: dict[str, Node] = {}
        lines: dict[str, list[int]] = {}
        for key, value in node.value:
            name = str(key.value) if _is_scalar(key) else "?"
            lines.setdefault(name, []).append(_line(key))
            self._nodes.setdefault(name, value)
        self._refuse_twice(lines, text)
        for name in lines:
            if name not in KEYS:
                findings.problem(lines[name][0], f"{name}: unknown key{_nearest(name)}")

    def entry(self, number: str, report_only: tuple[str, ...]) -> Entry:
        """The process as far as it is sound; what isn't is among the findings."""
        for key, what in REQUIRED.items():
            if key not in self._nodes or _kind(self._nodes[key]) == "null":
                line = _line(self._nodes[key]) if key in self._nodes else self._line
                self._findings.problem(line, f"{key}: is missing; {what}")
        name = self._text(NAME)
        if name:
            self._findings.check_name(_line(self._nodes[NAME]), NAME, name)
        start, pre_start, post_start, restart, pre_restart, post_restart = (self._command(key) for key in COMMANDS)
        return Entry(
            id=number,
            name=name,
            start=start,
            restart=restart,
            pre_start=pre_start,
            post_start=post_start,
            pre_restart=pre_restart,
            post_restart=post_restart,
            run_as_root=self._yes_no("run_as_root"),
            on_failure=self._on_failure() or on_failure(name, report_only),
            where=f"{self._findings.path}:{self._line}",
        )

    def _refuse_twice(self, lines: dict[str, list[int]], text: list[str]) -> None:
        twice = {name: found for name, found in lines.items() if len(found) > 1}
        if not twice:
            return
        first = next(iter(twice))
        what = f"{first}: written twice, on lines {_numbers(twice.pop(first))}"
        if twice:
            what += "; also " + ", ".join(f"{name} ({_numbers(found)})" for name, found in twice.items())
        if first == NAME or twice:
            dashes = _lost_dashes(text, lines[first])
            what += f"; two entries are merged: the '-' that begins the second is missing or commented out, see line {dashes}"
        else:
            what += "; keep one of them"
        self._findings.problem(lines[first][1], what)

    def _text(self, key: str) -> str:
        node = self._nodes.get(key)
        if node is None or _kind(node) == "null":
            return ""
        if _kind(node) != "str":
            hint = "put quotes around it" if _is_scalar(node) else "write it on one line; commands are joined by ';'"
            self._findings.problem(_line(node), f"{key}: must be text, but is {_called(node)}; {hint}")
            return ""
        text = str(node.value).strip()
        if not text and key in REQUIRED:
            self._findings.problem(_line(node), f"{key}: is missing; {REQUIRED[key]}")
        return text

    def _command(self, key: str) -> str:
        command = self._text(key)
        if command:
            self._findings.check_command(_line(self._nodes[key]), key, command)
        return command

    def _yes_no(self, key: str) -> bool:
        node = self._nodes.get(key)
        if node is None or _kind(node) == "null":
            return False
        if _kind(node) != "bool":
            self._findings.problem(
                _line(node),
                f"{key}: must be true or false, but is {_called(node)}; write one of the two without quotes",
            )
            return False
        return str(node.value).lower() in ("true", "yes", "on")

    def _on_failure(self) -> str:
        word = self._text("on_failure")
        if word and word not in (DISABLE, REPORT):
            self._findings.problem(
                _line(self._nodes["on_failure"]),
                f"on_failure: must be {DISABLE} or {REPORT}, not {word!r}; {DISABLE} takes the host out of Nova's scheduling",
            )
            return ""
        return word


def _lost_dashes(text: list[str], lines: list[int]) -> str:
    """Where the entries should have been parted: the commented dashes between the keys, else the repeated keys."""
    found = []
    for earlier, later in pairwise(lines):
        commented = [number for number in range(earlier, later) if LOST_DASH.match(text[number - 1])]
        found.append(commented[-1] if commented else later)
    return _numbers(found)


def _numbers(lines: Sequence[int]) -> str:
    return " and ".join(str(line) for line in lines)


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def _kind(node: Node) -> str:
    return str(node.tag).removeprefix(TAG)


def _is_scalar(node: Node) -> bool:
    return isinstance(node.value, str)


def _is_mapping(node: Node) -> TypeGuard[MappingNode]:
    return _kind(node) == "map"


def _called(node: Node) -> str:
    what = KINDS.get(_kind(node), f"a value of the type {node.tag}")
    return f"{what} ({node.value})" if _is_scalar(node) and _kind(node) not in ("null", "str") else what


def _nearest(name: str) -> str:
    import difflib  # rarely needed, and not small

    near = difflib.get_close_matches(name.lower(), KEYS, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(KEYS)}"
