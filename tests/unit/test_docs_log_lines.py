"""docs/log-lines.md explains every warning and error that the daemons log, and nothing that they don't.

An entry is a code span in the first column of a table; `...` in it stands for what changes. It explains every line of the code
that it is a part of.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "log-lines.md"
DAEMONS = ("masakari", "hostmonitor", "instancemonitor", "processmonitor")
LEVELS = ("warning", "error", "critical", "exception", "log")
WARNERS = ("warn", "warnings.append")
"""What takes a warning about settings, to be logged at start: reading.warn(...), reading.warnings.append(...)."""

# Log calls that only hand on what others say. The others are below; a new one here needs its speakers there.
HANDED_ON = {
    "hostmonitor/main.py: ...": "warnings about settings",
    "hostmonitor/monitor.py: ...": "cluster",
    "hostmonitor/monitor.py: node=...: ...": "ledger and verdict",
    "hostmonitor/own.py: ...": "heartbeat",
    "instancemonitor/main.py: ...": "warnings about settings",
    "instancemonitor/monitor.py: ...": "ledger",
    "instancemonitor/monitor.py: instance=... name=...: ...": "events and ledger",
    "masakari/common/program.py: ...": "warnings about settings; what keeps a daemon from starting",
    "masakari/instance_ha/api.py: ... ...: ...": "errors of the database, Keystone and Nova",
    "masakari/main.py: ...": "warnings about settings",
    "processmonitor/jobs.py: ...: ......": "commands",
    "processmonitor/main.py: ...": "warnings about settings",
    "processmonitor/watch.py: ...": "procfs",
    "processmonitor/watch.py: ...: ...": "supervise",
}
SPEAKERS = {
    "hostmonitor/cluster.py": ("dangers", "troubles"),
    "hostmonitor/config.py": ("BLIND",),
    "hostmonitor/heartbeat.py": ("listen", "_hears"),
    "hostmonitor/ledger.py": ("believe", "_first", "_alive"),
    "hostmonitor/own.py": ("OwnState",),
    "hostmonitor/power.py": ("_compare", "_why", "_no_answer", "judge"),
    "hostmonitor/verdict.py": ("worthless", "_own_trouble", "TABLE", "NO_FENCING", "UNTRUSTED"),
    "instancemonitor/events.py": ("_TABLE", "judge", "_lifecycle", "_shut_down", "_failed"),
    "instancemonitor/ledger.py": ("_decide", "snapshot", "_gone", "_ended", "_unseen_run", "_preserved"),
    "instancemonitor/libvirt_open.py": ("open",),
    "instancemonitor/monitor.py": ("_tell",),
    "masakari/config_checks.py": ("_warn",),
    "processmonitor/commands.py": ("run", "_Turn", "_ended"),
    "processmonitor/procfs.py": ("_pids", "_read"),
    "processmonitor/supervise.py": ("_await", "_fail", "_down"),
    "processmonitor/watch.py": ("turn",),
}
"""Functions, classes and tables whose sentences get into such lines."""

TOLD_BY_IPMITOOL = ("password is longer than", "Address lookup for")
REASONS = {
    "hold": ("",),
    "end": ("failed", "ignored", "cancelled", "status"),
    "Move": ("fail",),
    "Decision": ("HOLD", "IGNORE"),
    "Filing": ("ignored",),
    "Verdict": ("None",),
}
"""What makes a recovery held, failed or ignored, by its first argument."""


def entries() -> list[str]:
    """The code spans in the first columns of the page, without `...` at their ends."""
    rows = re.findall(r"^\| (`.*?) \| ", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [entry.strip(". ") for row in rows for entry in re.findall(r"`([^`]+)`", row)]


@cache
def trees() -> dict[str, ast.Module]:
    """The sources of the daemons, by path."""
    paths = [path for folder in DAEMONS for path in sorted((ROOT / folder).rglob("*.py"))]
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def texts(node: ast.AST) -> Iterator[str]:
    """The texts below a node, without docstrings."""
    if isinstance(node, ast.JoinedStr):
        yield plain("".join(str(part.value) if isinstance(part, ast.Constant) else "%s" for part in node.values))
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield plain(node.value)
    for child in ast.iter_child_nodes(node):
        docstring = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
        piece = isinstance(node, ast.JoinedStr) and isinstance(child, ast.Constant)
        if not docstring and not piece:
            yield from texts(child)


def plain(text: str) -> str:
    """The text with `...` for what is filled in."""
    return re.sub(r"%[-+]?\d*(?:\.\d+)?[sdrgf]|\{[a-z_]+\}", "...", text)


def is_sentence(text: str) -> bool:
    """Whether it says something by itself: three words at least."""
    return " " in text and len(re.findall(r"[A-Za-z']{2,}", text)) >= 3 and text not in TOLD_BY_IPMITOOL


def log_calls() -> Iterator[tuple[str, str]]:
    """Every log call of level warning or more, or of a level that is found at run time: where, and its text."""
    for path, tree in trees().items():
        named = constants(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).lower().startswith("log."):
                name = ast.unparse(node.func)[len("log.") :]
                if name in LEVELS:
                    told = node.args[name == "log"]
                    told = named[told.id] if isinstance(told, ast.Name) else told
                    yield path, plain(str(ast.literal_eval(told)))


def constants(tree: ast.Module) -> dict[str, ast.expr]:
    """What the names of a module stand for."""
    pairs = [(node.targets[0], node.value) for node in tree.body if isinstance(node, ast.Assign)]
    return {name.id: value for name, value in pairs if isinstance(name, ast.Name)}


def warnings_about_settings() -> Iterator[str]:
    """What reading.warn(...) and its like are given, as far as it stands there."""
    for tree in trees().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(tuple(f".{name}" for name in WARNERS)):
                yield from texts(node)


def spoken() -> Iterator[str]:
    """The sentences of the speakers."""
    for path, names in SPEAKERS.items():
        tree, found = trees()[path], set()
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                name = node.name
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                name = node.targets[0].id
            else:
                continue
            if name in names:
                found.add(name)
                yield from texts(node)
        assert found == set(names), f"{path} has no {set(names) - found}"


def reasons() -> Iterator[str]:
    """Why recoveries are held, failed or ignored."""
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if path.startswith("masakari/") and isinstance(node, ast.Call) and ast.unparse(node.func) in REASONS:
                first = ast.unparse(node.args[0]).strip("'")
                if any(word in ("", first) for word in REASONS[ast.unparse(node.func)]):
                    yield from texts(node)


def test_every_log_call_of_level_warning_or_more_is_explained() -> None:
    known = entries()
    calls = list(log_calls())
    handed_on = {f"{path}: {text}" for path, text in calls if f"{path}: {text}" in HANDED_ON}
    own = [text for path, text in calls if f"{path}: {text}" not in HANDED_ON]
    assert len(own) > 50
    assert [text for text in own if not any(entry in text for entry in known)] == []
    assert handed_on == set(HANDED_ON)


def test_what_log_calls_hand_on_is_explained() -> None:
    known = entries()
    said = [text for text in (*spoken(), *warnings_about_settings()) if is_sentence(text)]
    assert len(said) > 100
    assert [text for text in said if not any(entry in text for entry in known)] == []


def test_why_a_recovery_is_held_failed_or_ignored_is_explained() -> None:
    known = entries()
    given = [text for text in reasons() if is_sentence(text)]
    assert len(given) > 40
    assert [text for text in given if not any(entry in text for entry in known)] == []


def test_every_line_explained_is_in_the_code() -> None:
    said = {text for tree in trees().values() for text in texts(tree)}
    found = entries()
    assert [entry for entry in found if not any(entry in text for text in said)] == []
    assert [entry for entry in found if len(re.findall("[A-Za-z]", entry)) < 4] == []
    assert len(found) == len(set(found))
