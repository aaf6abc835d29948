"""The hostmonitor on the command line: so far, what it thinks of a saved view of a cluster."""

from __future__ import annotations

import argparse
import sys
from typing import IO

from hostmonitor import explain
from hostmonitor.crm_xml import LIMIT_CHARS, BadView, parse
from hostmonitor.model import View
from hostmonitor.verdict import judge
from masakari import __version__

NAME = "masakari-hostmonitor"
NOT_YET = f"{NAME}: the daemon that watches a cluster is not written yet; what works is --explain FILE (see --help)"

EPILOG = """examples:
  crm_mon --output-as=xml > now.xml; masakari-hostmonitor --explain now.xml
  crm_mon --output-as=xml | masakari-hostmonitor --explain - --own "$(crm_node -n)"
  masakari-hostmonitor --explain now.xml --json
  cibadmin --query > cib.xml; masakari-hostmonitor --explain cib.xml        (no fencing history: proves nothing)

--explain needs no cluster and no settings. FAILED: the monitor would report the node. PROVEN: nothing runs there any
more, so its instances may be evacuated. With --json: {"nodes": [{"name", "state", "failed", "proven", "reason"}, ...]};
the notes go to standard error then.
Exit status: 0 explained, 1 the file can't be read or understood, 2 usage."""


def main(argv: list[str] | None = None) -> int:
    """Entry point of masakari-hostmonitor; the exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.explain is None and (arguments.json or arguments.own):
        parser.error("--json and --own go with --explain FILE")
    if arguments.explain is None:
        print(NOT_YET, file=sys.stderr)
        return 2
    return _explain(arguments.explain, arguments.own, arguments.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=NAME,
        description="Watches the other nodes of a pacemaker cluster, and reports those that died, with the proof.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--explain", metavar="FILE", help="say what it thinks of a saved crm_mon XML or CIB; - reads standard input")
    add("--own", metavar="NAME", default="", help="with --explain: the node that asked, as pacemaker calls it")
    add("--json", action="store_true", help="with --explain: for programs")
    add("--version", action="version", version=f"masakari {__version__}")
    return parser


def _explain(path: str, own: str, as_json: bool) -> int:
    try:
        view = _view(path, own)
    except BadView as bad:
        return _failed(f"{path}: no view of a cluster: {bad}")
    except OSError as error:
        return _failed(f"{path}: {error.strerror or error}")
    verdicts = judge(view)
    if not as_json:
        print(explain.as_text(view, verdicts))
        return 0
    print(explain.as_json(verdicts))
    for remark in explain.remarks(view, verdicts):
        print(f"{NAME}: {path}: {remark}", file=sys.stderr)
    return 0


def _view(path: str, own: str) -> View:
    if path == "-":
        return parse(_text(sys.stdin.buffer), own)
    with open(path, "rb") as file:
        return parse(_text(file), own)


def _text(file: IO[bytes]) -> str:
    """No more than what is refused for its length anyway."""
    return file.read(LIMIT_CHARS + 1).decode("utf-8", "replace")


def _failed(why: str) -> int:
    print(f"{NAME}: {why}", file=sys.stderr)
    return 1
