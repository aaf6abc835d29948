"""Settings from INI files: a frozen dataclass per section; every problem is told at once, with file and line.

A section is a dataclass derived from Section whose fields are made by option(). An empty value means the default.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, TypeVar

from masakari.common.errors import ConfigError
from masakari.common.ini import Entry, Ini

S = TypeVar("S", bound="Section")


class Secret(str):
    """Text that is used like any other, but whose repr is ***."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "***"


class Kind:
    """What the values of an option may be."""

    def parse(self, raw: str) -> Any:
        """The value written as raw. ValueError when it is none."""
        raise NotImplementedError

    def describe(self) -> str:
        """What is expected, to be read after "must be"."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Text(Kind):
    """Text that matches a pattern as a whole."""

    pattern: str = ".*"
    expected: str = "text"

    def parse(self, raw: str) -> str:
        if not re.fullmatch(self.pattern, raw):
            raise ValueError
        return raw

    def describe(self) -> str:
        return self.expected


@dataclasses.dataclass(frozen=True)
class Integer(Kind):
    """A whole number within bounds, both included."""

    low: int
    high: int

    def parse(self, raw: str) -> int:
        value = int(raw)
        if not self.low <= value <= self.high:
            raise ValueError
        return value

    def describe(self) -> str:
        return f"a whole number from {self.low} to {self.high}"


@dataclasses.dataclass(frozen=True)
class Number(Kind):
    """A number, with or without a fraction, within bounds, both included."""

    low: float
    high: float

    def parse(self, raw: str) -> float:
        value = float(raw)
        if not math.isfinite(value) or not self.low <= value <= self.high:
            raise ValueError
        return int(value) if value.is_integer() else value

    def describe(self) -> str:
        return f"a number from {self.low:g} to {self.high:g}"


@dataclasses.dataclass(frozen=True)
class YesNo(Kind):
    """yes or no, as configparser understands them."""

    def parse(self, raw: str) -> bool:
        known = {
            "yes": True,
            "true": True,
            "on": True,
            "1": True,
            "no": False,
            "false": False,
            "off": False,
            "0": False,
        }
        try:
            return known[raw.lower()]
        except KeyError:
            raise ValueError from None

    def describe(self) -> str:
        return "yes or no"


@dataclasses.dataclass(frozen=True)
class Choice(Kind):
    """One of some words, in any case. A synonym is turned into the word it stands for, and not advertised."""

    words: tuple[str, ...]
    synonyms: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def parse(self, raw: str) -> str:
        word = self.synonyms.get(raw.lower(), raw.lower())
        if word not in self.words:
            raise ValueError
        return word

    def describe(self) -> str:
        *others, last = self.words
        return f"{', '.join(others)} or {last}" if others else last


@dataclasses.dataclass(frozen=True)
class Words(Kind):
    """Any number of words, separated by commas or blanks; only certain ones if `known` has any."""

    known: tuple[str, ...] = ()

    def parse(self, raw: str) -> tuple[str, ...]:
        words = tuple(word for word in re.split(r"[,\s]+", raw) if word)
        if self.known and not set(words) <= set(self.known):
            raise ValueError
        return words

    def describe(self) -> str:
        return f"words separated by commas{', of: ' if self.known else ''}{', '.join(self.known)}"


LOG_LEVEL = Choice(
    ("debug", "info", "warning", "error", "critical"),
    {"notice": "info", "warn": "warning", "err": "error", "crit": "critical", "fatal": "critical"},
)
ABSOLUTE_PATH = Text(r"/.*", "an absolute path")
HTTP_URL = Text(
    r"https?://[^\s/@?#]+(/[^\s?#]*)?",
    "a URL that begins with http:// or https://, without user and password",
)


@dataclasses.dataclass(frozen=True)
class Urls(Kind):
    """One or more addresses of controllers, separated by commas or blanks."""

    def parse(self, raw: str) -> tuple[str, ...]:
        urls = tuple(raw.replace(",", " ").split())
        return tuple(HTTP_URL.parse(url) for url in urls)

    def describe(self) -> str:
        return f"{HTTP_URL.describe()}; several are separated by commas"


@dataclasses.dataclass(frozen=True)
class Option:
    """What is known about an option besides its name and default."""

    kind: Kind
    help: str
    secret: bool = False
    required: bool = False
    aliases: tuple[str, ...] = ()
    default_text: str = ""
    since: str = "1.0"


def option(
    default: Any,
    kind: Kind,
    help: str,
    *,
    secret: bool = False,
    required: bool = False,
    aliases: tuple[str, ...] = (),
    default_text: str = "",
    since: str = "1.0",
) -> Any:
    """A field of a section. help is a sentence or two for the operator; default_text says how an empty
    default is worked out; aliases are older names of the same option; since is the first release with it, 2015 that of NTT."""
    about = Option(kind, help, secret, required, aliases, default_text, since)
    return dataclasses.field(default=default, metadata={"option": about})


@dataclasses.dataclass(frozen=True)
class Section:
    """The options of one section of a file. Its repr shows *** for every secret."""

    obsolete: ClassVar[Mapping[str, str]] = {}  # option that is accepted without effect: the reason

    def __post_init__(self) -> None:
        for field, about in self.options():
            if about.secret:
                object.__setattr__(self, field.name, Secret(getattr(self, field.name)))

    @classmethod
    def options(cls) -> list[tuple[dataclasses.Field[Any], Option]]:
        """Every option of the section, in the order of declaration; those of a base class come last."""
        own = inspect.get_annotations(cls)
        fields = sorted(dataclasses.fields(cls), key=lambda field: field.name not in own)
        return [(field, field.metadata["option"]) for field in fields]

    def secrets(self) -> list[str]:
        """The secrets that are set, to be kept out of logs."""
        values = [getattr(self, field.name) for field, about in self.options() if about.secret]
        return [str(value) for value in values if value]


class Reading:
    """The sections of a file as dataclasses, with the problems and warnings found on the way.

    An option that can't be used has its default in its section, so that the caller can go on checking, and
    all problems come out together: problem() says nothing more about it, and finish() raises them.
    """

    def __init__(
        self,
        ini: Ini,
        kinds: Mapping[str, type[Section]],
        others: Mapping[str, str] | None = None,
        unused: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        """others: sections of the file that are not for this program, with what to say of each ("": nothing).

        unused: by section, options that another program reads in the same file, each with why it is not used here.
        """
        self.ini = ini
        self._unused = unused or {}
        self.kinds = kinds
        self.warnings: list[str] = []
        self._problems = list(ini.problems)
        self._bad: set[tuple[str, str]] = set()
        self.sections = {name: self._section(name, kind) for name, kind in kinds.items()}
        for name, line in ini.section_lines.items():
            if others and name in others:
                if others[name]:
                    self.warnings.append(f"{ini.path}:{line}: [{name}] is not used: {others[name]}")
            elif name not in kinds:
                text = f"{ini.path}:{line}: unknown section [{name}]{nearest(name, [*kinds, *(others or ())])}"
                self._problems.append((line, text))

    def given(self, section: str, option: str) -> bool:
        """Whether the file sets this option to something."""
        entry = self._written(section, option)
        return entry is not None and entry.value != ""

    def problem(self, section: str, option: str, text: str, *related: tuple[str, str]) -> None:
        """Add a problem, unless the option, or a related one (section, option), has one already."""
        if self._bad.isdisjoint({(section, option), *related}):
            self._bad.add((section, option))
            self._problems.append((self._line(section, option), self._place(section, option) + text))

    def problem_elsewhere(self, section: str, option: str, text: str) -> None:
        """Add a problem of another file, which says itself where; it is listed with the option given."""
        self._problems.append((self._line(section, option), text))

    def warn(self, section: str, option: str, text: str) -> None:
        """Add a warning about an option."""
        self.warnings.append(self._place(section, option) + text)

    def finish(self) -> None:
        """ConfigError with all problems in the order of the file, if there are any."""
        if self._problems:
            raise ConfigError([text for _, text in sorted(self._problems, key=lambda item: item[0])])

    def _written(self, section: str, option: str) -> Entry | None:
        written = self.ini.sections.get(section, {})
        return written.get(option) or written.get(option.lower())

    def _line(self, section: str, option: str) -> int:
        entry = self._written(section, option)
        return entry.line if entry else self.ini.section_lines.get(section, 0)

    def _place(self, section: str, option: str) -> str:
        line, entry = self._line(section, option), self._written(section, option)
        shown = option.upper() if self.ini.is_shell(section) else f"[{section}] {option}"
        shown = entry.place if entry and entry.place else shown
        return f"{self.ini.path}:{line}: {shown}: " if line else f"{self.ini.path}: {shown}: "

    def _section(self, name: str, kind: type[S]) -> S:
        written = dict(self.ini.sections.get(name, {}))
        values: dict[str, Any] = {}
        for field, about in kind.options():
            entry = self._entry(name, field.name, about, written)
            if entry is not None and entry.value:
                self._take(name, field.name, about, entry, values)
            elif about.required:
                self.problem(name, field.name, "is missing")
        for option_name in written:
            self._leftover(name, kind, option_name)
        return kind(**values)

    def _entry(self, section: str, name: str, about: Option, written: dict[str, Entry]) -> Entry | None:
        """Take an option, under whichever of its names, out of what is written."""
        found = [spelling for spelling in (name, *about.aliases) if spelling.lower() in written]
        entries = [written.pop(spelling.lower()) for spelling in found]
        if len(entries) > 1:
            self.problem(section, found[1], f"is another name of {found[0]}, which is set on line {entries[0].line}")
        if entries:
            self.ini.sections[section].setdefault(name, entries[0])
        return entries[0] if entries else None

    def _take(self, section: str, name: str, about: Option, entry: Entry, values: dict[str, Any]) -> None:
        commented = not entry.quoted and re.search(r"\s[#;]", entry.value) is not None
        if not entry.quoted and re.fullmatch(r"<.*>", entry.value):
            self.problem(section, name, "still has the placeholder of the sample file")
            return
        try:
            values[name] = about.kind.parse(entry.value)
        except ValueError:
            shown = "" if about.secret else f", not {_without_password(entry.value)!r}"
            hint = " (a comment needs a line of its own)" if commented else ""
            self.problem(section, name, f"must be {about.kind.describe()}{shown}{hint}")
            return
        if commented:
            self.warn(
                section,
                name,
                "everything up to the end of the line is the value, also what looks like a comment; "
                "if that is meant, put quotes around it",
            )

    def _leftover(self, section: str, kind: type[Section], name: str) -> None:
        reason = {old.lower(): why for old, why in kind.obsolete.items()}.get(name)
        if reason:
            self.warn(section, name, f"has no effect any more: {reason}")
            return
        if name in self._unused.get(section, {}):
            self.warn(section, name, f"is not used: {self._unused[section][name]}")
            return
        known = [field.name for field, _ in kind.options()]
        others = [f"[{other}]" for other, there in self.kinds.items() if name in {f.name for f, _ in there.options()}]
        hint = f"; it belongs to {' or '.join(others)}" if others else nearest(name, known)
        self.problem(section, name, f"unknown option{hint}")


def _without_password(value: str) -> str:
    """A URL may have a user and a password in it, which is wrong, and still not for everybody's eyes."""
    return re.sub(r"//.*@", "//***@", value, flags=re.DOTALL)


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word: which of the known ones may be meant, if any is like it."""
    import difflib  # rarely needed, and not small

    by_lower = {word.lower(): word for word in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return f"; did you mean {by_lower[near[0]]}?" if near else ""


def show(value: Any) -> str:
    """A value as it would be written in a file."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(value)
    return str(value)
