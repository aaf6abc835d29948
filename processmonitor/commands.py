"""Runs the operator's command lines: without a shell unless they need one, within a time limit, and never held up by what
they leave running. The only module that starts programs.

A line is one or more commands joined by ";". They run one after the other as a shell would run them: also after one that
failed, so that a `stop` with nothing to stop does not keep the `start` behind it from running, and the last one decides
whether the line succeeded. "&&" is for the other case. A line that needs a shell goes as a whole to /bin/sh.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import re
import select
import shlex
import signal
import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from masakari.common.clock import Clock
from processmonitor.entry import Entry

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHELL = "/bin/sh"
GONE_WITHIN_S = 2.0
FIRST_LOOK_S = 0.001
LOOK_EVERY_S = 0.05
OUTPUT_BYTES = 4096
READ_BYTES = 65536
PIPE_BYTES = 1 << 20
SHOWN_LENGTH = 200

# What only a shell understands: outside quotes, and within double quotes, too.
_SHELL_OUTSIDE = frozenset("|&<>()$`*?[~#\n\r")
_SHELL_INSIDE = frozenset("$`\n\r")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_SHELL_WORDS = {
    "!", ".", ":", "{", "}", "alias", "bg", "break", "case", "cd", "command", "continue", "do", "done", "elif", "else", "esac",
    "eval", "exec", "exit", "export", "fg", "fi", "for", "hash", "if", "in", "jobs", "local", "read", "readonly", "return", "set",
    "shift", "source", "then", "times", "trap", "type", "ulimit", "umask", "unalias", "unset", "until", "wait", "while",
}  # fmt: skip


def split(line: str) -> list[str]:
    """The commands of a line as written: the pieces between the ";" outside quotes. Joined by ";" they are the line."""
    pieces, begin = [], 0
    for at, character, quote in _scan(line):
        if character == ";" and not quote:
            pieces.append(line[begin:at])
            begin = at + 1
    return [*pieces, line[begin:]]


def plan(line: str) -> list[list[str]]:
    """The programs that a line runs, one after the other, as lists of arguments: those that a shell would hand them.

    A line that needs a shell is one program, the shell. Empty commands are left out. ValueError, with a text to be read
    after "can't be run: ", when a quote is not closed.
    """
    if "\0" in line:
        raise ValueError("it has a null character in it")
    for _, character, quote in _scan(line):
        if character in (_SHELL_INSIDE if quote == '"' else _SHELL_OUTSIDE) and quote in ("", '"'):
            return [[SHELL, "-c", line]]
    try:
        programs = [words for piece in split(line) if (words := shlex.split(piece))]
    except ValueError as error:
        what = "a backslash at its end has nothing to quote" if "escaped" in str(error) else "a quote is not closed"
        raise ValueError(what) from None
    if any(words[0] in _SHELL_WORDS or _ASSIGNMENT.match(words[0]) for words in programs):
        return [[SHELL, "-c", line]]
    return programs


def _scan(line: str) -> Iterator[tuple[int, str, str]]:
    r"""Each character with its place and how it is quoted: "" not at all, ' or " between these, \ by a backslash."""
    quote, escaped = "", False
    for at, character in enumerate(line):
        if escaped:
            yield at, character, quote or "\\"
            escaped = False
        elif character == "\\" and quote != "'":
            yield at, character, quote or "\\"
            escaped = True
        elif quote:
            yield at, character, quote
            quote = "" if character == quote else quote
        elif character in "'\"":
            yield at, character, character
            quote = character
        else:
            yield at, character, ""


def which(program: str, path: str = PATH) -> str:
    """The file that runs as a program of this name; empty if there is none. A relative path is taken from /."""
    places = [os.path.join("/", program)] if "/" in program else [f"{folder}/{program}" for folder in path.split(":")]
    return next((place for place in places if os.path.isfile(place) and os.access(place, os.X_OK)), "")


def named(line: str) -> str:
    """What a line runs, for log and reports: its programs. Not their arguments, nor a line of the shell: they may be secret."""
    try:
        return ", ".join(_named(words) for words in plan(line)) or "nothing"
    except ValueError:
        return "a line that can't be read"


def start_lines(entries: Iterable[Entry]) -> list[tuple[str, list[Entry]]]:
    """The distinct start lines, each with the entries that have it: equal commands run once.

    Lines are equal when they are written alike and run as the same user; all entries of a group have the same
    run_as_root. Entries without a start line are left out.
    """
    groups: dict[tuple[str, bool], list[Entry]] = {}
    for entry in entries:
        if entry.start.strip():
            groups.setdefault((entry.start.strip(), entry.run_as_root), []).append(entry)
    return [(line, group) for (line, _), group in groups.items()]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a line. `why` says what failed, without arguments of commands; empty when ok. `output`: the beginning of
    what it printed, its lines joined by " | "."""

    ok: bool
    why: str
    output: str
    seconds: float


@dataclass(frozen=True)
class Commands:
    """Runs lines; any number of threads may call run() at once.

    A command gets a fixed environment (PATH, LANG, HOME), no standard input, a session of its own, and no descriptor but
    its output. What a command that ended leaves running, a daemon for instance, is not touched: it outlives us, and what
    it prints later neither kills it nor stops it nor fills a disk.
    """

    clock: Clock
    path: str = PATH
    is_root: bool = field(default_factory=lambda: os.geteuid() == 0)
    kill_after_s: float = 5.0
    finish_within_s: float = 3.0

    def run(self, line: str, *, as_root: bool, timeout_s: float, stopping: threading.Event | None = None) -> Result:
        """Run a line to its end, at most timeout_s for all its commands together. Never raises, never hangs.

        as_root: if we are not root, through `sudo -n`. After the time limit everything in the process group of the
        command gets SIGTERM, what is left after 5 s SIGKILL, and the rest of the line is not run. When stopping is set the
        line has 3 s to finish; what still runs then is left to itself, as a restart cut in two is worse than a late one.
        """
        began = self.clock.monotonic()
        try:
            programs = plan(line)
            output = _Output()
        except (ValueError, OSError) as error:
            return Result(False, f"{named(line)} can't be run: {getattr(error, 'strerror', None) or error}", "", 0.0)
        try:
            why = _Turn(self, output, as_root and not self.is_root, timeout_s, stopping).all(programs)
        finally:
            output.close()
        return Result(not why, why, output.text(), self.clock.monotonic() - began)


def _home() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return "/"


def _named(words: list[str]) -> str:
    if words[0] == SHELL:
        return "a shell line"
    short = words[0] if len(words[0]) <= SHOWN_LENGTH else words[0][:SHOWN_LENGTH] + "…"
    return f"`{_harmless(short)}`"


def _harmless(text: str) -> str:
    """One line that a terminal shows as it is, and obeys in nothing."""
    joined = " | ".join(line.strip() for line in text.splitlines() if line.strip())
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in joined)


class _Output:
    """Takes what commands print, and keeps the beginning of it.

    A pipe whose reader is gone kills who writes to it, one that is full stops him, and a file grows as long as a daemon lives
    that inherited it. So commands get a pipe opened for reading and writing, which therefore always has a reader, and writing
    to it never blocks, from the start: we may be killed at any moment. What does not fit is lost, so it is made big.
    """

    def __init__(self) -> None:
        self._reader, only_writer = os.pipe()
        try:
            self.descriptor = os.open(f"/proc/self/fd/{only_writer}", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            os.close(self._reader)
            raise
        finally:
            os.close(only_writer)
        with suppress(OSError):  # the limit of this user
            fcntl.fcntl(self._reader, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        os.set_blocking(self._reader, False)
        self._poll = select.poll()
        self._poll.register(self._reader, select.POLLIN)
        self._begun = b""
        self._cut = False

    def read(self, wait_s: float) -> None:
        """Take what is there; wait for something at most so long."""
        if self._poll.poll(max(0.0, wait_s) * 1000):
            with suppress(BlockingIOError):  # a command may read it, too
                self._keep(os.read(self._reader, READ_BYTES))

    def note(self, text: str) -> None:
        """A line of our own between those of the commands."""
        self._keep(f"\n[{text}]\n".encode())

    def text(self) -> str:
        """The beginning of it, at most 4 KiB, in one line without control characters."""
        return _harmless(self._begun.decode("utf-8", "replace")) + (" …" if self._cut else "")

    def close(self) -> None:
        """Take no more. Whoever still has it may go on writing."""
        os.close(self.descriptor)
        os.close(self._reader)

    def _keep(self, data: bytes) -> None:
        fits = OUTPUT_BYTES - len(self._begun)
        self._begun += data[:fits]
        self._cut = self._cut or len(data) > fits


class _Turn:
    """One run of one line."""

    def __init__(
        self, settings: Commands, output: _Output, sudo: bool, timeout_s: float, stopping: threading.Event | None
    ) -> None:
        self._settings = settings
        self._clock = settings.clock
        self._environment = {"PATH": settings.path, "LANG": "C.UTF-8", "HOME": _home()}
        self._output = output
        self._sudo = ["sudo", "-n", "--"] if sudo else []
        self._timeout_s = timeout_s
        self._deadline = self._clock.monotonic() + timeout_s
        self._stopping = stopping
        self._leaving = False
        self._cut = False

    def all(self, programs: list[list[str]]) -> str:
        """Run them; why the line failed, or empty."""
        shown = [_named(words) for words in programs]
        why = ""
        for number, words in enumerate(programs):
            if why:
                self._output.note(why)
            why = self._one([*self._sudo, *words], shown[number])
            if self._cut:
                rest = ", ".join(shown[number + 1 :])
                return f"{why}; not run: {rest}" if rest else why
        return why

    def _one(self, words: list[str], shown: str) -> str:
        try:
            process = self._start(words)
        except (OSError, ValueError) as error:
            return f"{shown} can't be started: {self._why_not(words[0], error)}"
        if self._wait(process):
            return _ended(process.returncode, shown)
        self._cut = True
        if self._leaving:
            return f"{shown} still ran when the processmonitor was stopped, and is left to itself"
        return f"{shown} took longer than {self._timeout_s:g} s and {self._kill(process)}"

    def _start(self, words: list[str]) -> subprocess.Popen[bytes]:
        try:
            return self._popen(words)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
        # A script without "#!": only a shell runs those.
        return self._popen([SHELL, "-c", shlex.join(words)])

    def _popen(self, words: list[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=self._output.descriptor,
            stderr=self._output.descriptor,
            cwd="/",
            env=self._environment,
            umask=0o022,  # ours is tighter, and daemons that the command starts would inherit it
            start_new_session=True,
        )

    def _why_not(self, program: str, error: OSError | ValueError) -> str:
        if isinstance(error, FileNotFoundError):
            if which(program, self._settings.path):
                return f"the interpreter that the first line of {program} names does not exist"
            return f"there is no program {program}" + ("" if "/" in program else f" in {self._settings.path}")
        return getattr(error, "strerror", None) or str(error)

    def _wait(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether it ended before its time was up. Others may still have its output open; they aren't waited for."""
        began = self._clock.monotonic()
        while process.poll() is None:
            now = self._clock.monotonic()
            if self._stopping and self._stopping.is_set() and not self._leaving:
                self._leaving = True
                self._deadline = min(self._deadline, now + self._settings.finish_within_s)
            if now >= self._deadline:
                return False
            # Most commands end soon, and a restart should be noticed soon; a slow one costs few looks.
            self._output.read(min(LOOK_EVERY_S, max(FIRST_LOOK_S, (now - began) / 8), self._deadline - now))
        self._output.read(0)
        return True

    def _kill(self, process: subprocess.Popen[bytes]) -> str:
        for number, wait_s in ((signal.SIGTERM, self._settings.kill_after_s), (signal.SIGKILL, GONE_WITHIN_S)):
            self._signal(process.pid, number)
            until = self._clock.monotonic() + wait_s
            while self._clock.monotonic() < until:
                # Nothing survives SIGKILL; but who reaps the orphans of a group may be slow.
                if process.poll() is not None and (number == signal.SIGKILL or not _group_lives(process.pid)):
                    self._output.read(0)
                    return "was killed"
                self._output.read(LOOK_EVERY_S)
        return "can't be killed: it is left behind"

    def _signal(self, group: int, number: signal.Signals) -> None:
        if self._sudo:
            # Of what runs as root we could reach sudo alone; and sudo may give its command a session of its own.
            targets = [f"-{group}", *map(str, _descendants(group))]
            with suppress(OSError):
                self._popen([*self._sudo, "kill", f"-{int(number)}", "--", *targets])
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _descendants(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            children = [int(child) for child in file.read().split()]
    except OSError:
        return []
    return children + [pid for child in children for pid in _descendants(child)]


def _ended(status: int, shown: str) -> str:
    if status >= 0:
        return f"{shown} ended with {status}" if status else ""
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
    return f"{shown} was killed by {name}"
