"""What install guides leave behind on a node: files that nobody reads, units that start nothing, commands that hide ours.

Only looks at files. folder: where settings are, /etc unless it is a test.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from masakari.common.checkup import Outcome, not_ok, ok, warning

UNIT_FOLDERS = ("/usr/lib/systemd/system", "/lib/systemd/system", "/usr/local/lib/systemd/system")
COMMANDS = tuple(
    f"masakari-{name}"
    for name in (
        "controller",
        "api",
        "engine",
        "manage",
        "keys",
        "doctor",
        "hostmonitor",
        "instancemonitor",
        "processmonitor",
    )
)
OURS = ("masakari.conf", "keys.conf", "key.conf")
"""What is read in the folder masakari."""

FOREIGN_FOLDERS = ("masakarimonitors", "masakari-monitors")
SUFFIXES = (".conf", ".ini", ".yaml", ".yml", ".list", ".json")
MOST_BYTES = 1 << 20


def unread_files(folder: Path, configs: Sequence[Path]) -> Iterator[Outcome]:
    """Settings that no program reads, though they lie where a guide puts them. configs: the files that are read."""
    mentioned = _mentioned(folder, configs)
    subject = "unread files"
    found = [path for name in FOREIGN_FOLDERS for path in _files(folder / name)]
    found += [path for path in _files(folder / "masakari") if path.name not in OURS]
    unread = [path for path in found if path not in configs and str(path) not in mentioned]
    if not unread:
        yield ok(subject, "none where guides put them")
    for path in unread:
        yield warning(subject, f"{path}: nobody reads it", _where_to(path, folder))


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and path.is_file())
    except OSError:
        return []


def _mentioned(folder: Path, configs: Sequence[Path]) -> str:
    """The settings and the command lines, without comments: what they name is read."""
    defaults = [path for path in _entries(folder / "default") if path.name.startswith("masakari")]
    texts = [_read(path) for path in (*configs, *defaults, *unit_files(folder))]
    lines = [line for text in texts for line in text.splitlines()]
    return "\n".join(line for line in lines if not line.lstrip().startswith(("#", ";")))


def _where_to(path: Path, folder: Path) -> str:
    name = path.name
    component = name.partition(".")[0]
    if component in ("hostmonitor", "instancemonitor", "processmonitor"):
        return f"move what is meant to {folder / component / name}, and remove it"
    if name == "masakarimonitors.conf":
        places = ", ".join(f"{folder / part}/" for part in ("hostmonitor", "instancemonitor", "processmonitor"))
        return f"move what is meant to the files in {places}, and remove it"
    if name.startswith(("process_list.", "proc.list")):
        return f"name it as PROCESS_LIST_PATH in {folder}/processmonitor/processmonitor.conf, or remove it"
    return "remove it"


def unit_files(folder: Path) -> list[Path]:
    """The units of systemd whose name begins with masakari. What is in /etc hides what is elsewhere."""
    found: dict[str, Path] = {}
    for place in (folder / "systemd" / "system", *map(Path, UNIT_FOLDERS)):
        for path in _entries(place):
            if path.name.startswith("masakari") and path.suffix == ".service":
                found.setdefault(path.name, path)
    return [found[name] for name in sorted(found)]


def units(paths: Sequence[Path]) -> Iterator[Outcome]:
    """Whether the units start what they say."""
    wrong = [row for path in paths for row in of_unit(path, _read(path))]
    yield from wrong
    if not wrong:
        yield ok(
            "units", f"each of {len(paths)} starts a program that is there" if paths else "none: no service of systemd"
        )


def of_unit(path: Path, text: str) -> Iterator[Outcome]:
    """What is wrong with the commands of a unit."""
    for command in re.findall(r"^ExecStart\s*=\s*(\S.*)$", text, re.MULTILINE):
        words = _words(command)
        # systemd takes these signs away from the name of the program.
        program = words[0].lstrip("@-:+!|") if words else ""
        if not program.startswith("/") or os.access(program, os.X_OK):
            continue
        meant = _meant(program)
        advice = f"ExecStart={meant}" if meant else "remove the unit if a guide made it; the package brings its own"
        again = "then: systemctl daemon-reload, and start it"
        yield not_ok("units", f"{path}: ExecStart={program}: there is no such program", f"{advice}; {again}")


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        return command.split()


def _meant(program: str) -> str:
    """The program of the same name where programs are; "" if there is none."""
    name = os.path.basename(program)
    places = [os.path.join(folder, name) for folder in ("/usr/bin", "/usr/local/bin")]
    return next((place for place in places if os.access(place, os.X_OK)), "")


def commands(environ: Mapping[str, str]) -> Iterator[Outcome]:
    """Whether PATH leads to one program of each name: what pip installed goes before a package."""
    hidden = []
    for name in COMMANDS:
        places = [os.path.join(folder, name) for folder in environ.get("PATH", os.defpath).split(os.pathsep) if folder]
        found = {os.path.realpath(place): place for place in reversed(places) if os.access(place, os.X_OK)}
        if len(found) > 1:
            first, *others = reversed(found.values())
            hidden.append(
                warning(
                    "commands",
                    f"{name} is {first}, which goes before {', '.join(others)}",
                    "remove the one that is not meant: pip uninstall masakari masakari-monitors, or apt-get remove",
                )
            )
    yield from hidden
    if not hidden:
        yield ok("commands", "PATH leads to one program of each name at most")


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_file())
    except OSError:
        return []


def _read(path: Path) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(MOST_BYTES)
    except OSError:
        return ""
