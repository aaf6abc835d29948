"""The list of processes to watch as a file of eight columns, proc.list; and what both forms of the list have in common."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection
from dataclasses import dataclass

from masakari.common.errors import ConfigError
from processmonitor.commands import plan, which
from processmonitor.entry import Entry

DISABLE = "disable"
REPORT = "report"
COLUMNS = (
    "id",
    "key",
    "start command",
    "restart command",
    "hook before start",
    "hook after start",
    "hook before restart",
    "hook after restart",
)
ID, KEY, START, RESTART, FIRST_HOOK = range(5)
MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Lists:
    """What to watch, in the order of the file, and what is worth a warning about it."""

    entries: tuple[Entry, ...]
    warnings: tuple[str, ...]


class Findings:
    """What is wrong in a file, and what is worth a warning, each with its line. Line 0 stands for the file as a whole."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.problems: list[tuple[int, str]] = []
        self.warnings: list[tuple[int, str]] = []
        self._missing: set[str] = set()
        self._names: dict[str, int] = {}

    def problem(self, line: int, text: str) -> None:
        """The file can't be used: what is wrong in this line, and what to do."""
        self.problems.append((line, text))

    def warn(self, line: int, text: str) -> None:
        """It can be used, but may not do what was meant."""
        self.warnings.append((line, text))

    def check_name(self, line: int, field: str, name: str) -> None:
        """A name to look for in command lines, not empty."""
        if not name.isprintable():
            self.problem(line, f"{field}: has a control character in it; write it on one line, without any")
        if re.search(r"[\[\]*^$\\]", name):
            self.warn(line, f"{field}: {name!r} is looked for as it stands; it is not taken as a pattern")
        if name in self._names:
            self.warn(line, f"{field}: {name!r} again, as on line {self._names[name]}: one of the two is enough")
        self._names.setdefault(name, line)

    def check_command(self, line: int, field: str, command: str) -> None:
        """A command line, which may be empty. A program that isn't there may be installed later: a warning, once."""
        try:
            programs = [words[0] for words in plan(command)]
        except ValueError as error:
            self.problem(line, f"{field}: can't be run: {error}; put quotes and backslashes in pairs")
            return
        for program in programs:
            if program not in self._missing and not which(program):
                self._missing.add(program)
                self.warn(line, f"{field}: there is no program {program!r} on this host; the command will fail")

    def finish(self, entries: Collection[Entry]) -> Lists:
        """The list as read. ConfigError with all problems in the order of the file, or when the list is empty."""
        if not entries and not self.problems:
            self.problem(
                0, "lists no process, so nothing would be watched; add one, or stop the processmonitor instead"
            )
        if self.problems:
            raise ConfigError(self._told(self.problems))
        return Lists(tuple(entries), tuple(self._told(self.warnings)))

    def _told(self, found: list[tuple[int, str]]) -> list[str]:
        ordered = sorted(found, key=lambda item: item[0])
        return [f"{self.path}:{line}: {text}" if line else f"{self.path}: {text}" for line, text in ordered]


def read(findings: Findings) -> str:
    """The text of the file. ConfigError when it can't be read or is bigger than 1 MiB; a warning when others may write to it."""
    path = findings.path
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ConfigError([f"{path}: is bigger than 1 MiB, which no list of processes is"])
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: is not UTF-8 text (byte {error.start})"]) from None
    except OSError as error:
        raise ConfigError([f"{path}: can't be read: {error.strerror}"]) from None
    if mode & 0o022:
        findings.warn(0, f"others may write to it (mode {mode:04o}), and so choose what is run; run: chmod go-w {path}")
    return text


def on_failure(name: str, report_only: tuple[str, ...]) -> str:
    """What the failure of a process leads to if its entry doesn't say: report if one of the words stands in its name."""
    return REPORT if any(word in name for word in report_only) else DISABLE


def load(path: str, report_only: tuple[str, ...]) -> Lists:
    """Read and check a proc.list: a line per process with eight columns, separated by commas; "#" begins a comment line.

    Hooks are files; commands run as we are. ConfigError with everything that is wrong.
    """
    findings = Findings(path)
    entries: list[Entry] = []
    ids: dict[int, int] = {}
    for number, raw in enumerate(read(findings).split("\n"), start=1):
        line = raw.strip()
        if line and not line.startswith("#"):
            columns = [column.strip() for column in line.split(",")]
            if _is_sound(findings, number, columns, ids):
                entries.append(_entry(findings, number, columns, report_only))
    return findings.finish(entries)


def _is_sound(findings: Findings, line: int, columns: list[str], ids: dict[int, int]) -> bool:
    before = len(findings.problems)
    if len(columns) != len(COLUMNS):
        hint = "an empty column needs its comma, too" if len(columns) < len(COLUMNS) else "a comma always ends a column"
        findings.problem(line, f"has {len(columns)} columns instead of 8 ({', '.join(COLUMNS)}); {hint}")
        return False
    _check_id(findings, line, columns[ID], ids)
    for index in (KEY, START, RESTART):
        if not columns[index]:
            findings.problem(line, f"{_place(index)}: is missing; {_what_is_missing(index)}")
    if columns[KEY]:
        findings.check_name(line, _place(KEY), columns[KEY])
    for index in (START, RESTART):
        findings.check_command(line, _place(index), columns[index])
    for index in range(FIRST_HOOK, len(COLUMNS)):
        _check_hook(findings, line, index, columns[index])
    return len(findings.problems) == before


def _check_id(findings: Findings, line: int, text: str, ids: dict[int, int]) -> None:
    if not text:
        findings.problem(line, f"{_place(ID)}: is missing; give each line a number of its own")
    elif not re.fullmatch("[0-9]{1,9}", text):
        findings.problem(line, f"{_place(ID)}: {text!r} is not a number; give each line a number of its own")
    elif int(text) in ids:
        findings.problem(line, f"{_place(ID)}: {text} again, as on line {ids[int(text)]}; give each line its own")
    else:
        ids[int(text)] = line


def _check_hook(findings: Findings, line: int, index: int, path: str) -> None:
    if not path:
        return
    if not path.startswith("/"):
        wrong = f"{path!r} is a relative path; write it from the root: /..."
    elif os.path.isdir(path):
        wrong = f"{path} is a folder; name an executable file"
    elif not os.path.isfile(path):
        alone = path.split()[0]
        arguments = "; a hook has no arguments" if alone != path and os.path.isfile(alone) else ""
        wrong = f"there is no file {path}{arguments}; create it, or leave the column empty"
    elif not os.access(path, os.X_OK):
        wrong = f"{path} is not executable; run: chmod +x {shlex.quote(path)}"
    else:
        return
    findings.problem(line, f"{_place(index)}: {wrong}")


def _place(index: int) -> str:
    return f"column {index + 1} ({COLUMNS[index]})"


def _what_is_missing(index: int) -> str:
    return {
        KEY: "write what stands in the command line of the process",
        START: "write the command that starts the process when the processmonitor begins",
        RESTART: "write the command that starts the process again when it died",
    }[index]


def _entry(findings: Findings, line: int, columns: list[str], report_only: tuple[str, ...]) -> Entry:
    hooks = [shlex.quote(path) if path else "" for path in columns[FIRST_HOOK:]]
    return Entry(
        id=columns[ID],
        name=columns[KEY],
        start=columns[START],
        restart=columns[RESTART],
        pre_start=hooks[0],
        post_start=hooks[1],
        pre_restart=hooks[2],
        post_restart=hooks[3],
        run_as_root=False,
        on_failure=on_failure(columns[KEY], report_only),
        where=f"{findings.path}:{line}",
    )
