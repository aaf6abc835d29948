"""INI files as written, and the older files of NAME="value" lines without sections.

Names of options are case-insensitive, names of sections are not. A value is everything behind the first "=" or ":"; one pair of
quotes around it is dropped; "%", "#" and ";" within it mean themselves, so a comment needs a line of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from masakari.common.errors import ConfigError


@dataclass(frozen=True)
class Entry:
    """A value as written in a file. place: where it really stands, if it is read as another option: "[section] option"."""

    value: str
    line: int
    quoted: bool
    place: str = ""


class Ini:
    """A file as written: its sections, options and values with their lines.

    Lines before the first [section] are an error, unless shell_section is given: then they belong to that section and are
    read as a shell would read them (export, a comment behind the value).
    loose tells the sections that are read as OpenStack's programs read theirs: they may begin again, the last value of an option
    counts (again has the line of an earlier, different one), and an indented line goes on with the value above it.
    ConfigError when the file can't be read. What makes no sense, or is said twice, is in problems.
    """

    def __init__(
        self, path: str, shell_section: str = "", loose: Callable[[str], bool] = lambda section: False
    ) -> None:
        self.path = path
        self.shell_section = shell_section
        self.again: dict[tuple[str, str], int] = {}
        self.sections: dict[str, dict[str, Entry]] = {}
        self.section_lines: dict[str, int] = {}
        self.problems: list[tuple[int, str]] = []
        self._loose = loose
        self._parse(_read(path))

    def is_shell(self, section: str) -> bool:
        """Whether a section is the lines without a header, in which names are usually written in capitals."""
        return bool(section) and section == self.shell_section and section not in self.section_lines

    def _parse(self, text: str) -> None:
        section = option = ""
        for number, raw in enumerate(text.split("\n"), start=1):
            line = raw.strip()
            if not line or line[0] in "#;":
                continue
            if option and raw[0] in " \t" and self._loose(section):
                above = self.sections[section][option]
                self.sections[section][option] = replace(above, value=f"{above.value}\n{line}")
            elif line[0] == "[" and line[-1] == "]":
                section, option = line[1:-1].strip(), ""
                self._add_section(number, section)
            elif section:
                option = self._add_option(number, section, line)
            elif self.shell_section:
                self._add_option(number, self.shell_section, _without_shell(line))
            else:
                self._problem(number, "stands before the first [section]")

    def _add_section(self, number: int, section: str) -> None:
        if section in self.section_lines:
            if self._loose(section):
                return
            self._problem(number, f"section [{section}] again; it began on line {self.section_lines[section]}")
            return
        self.sections.setdefault(section, {})
        self.section_lines[section] = number

    def _add_option(self, number: int, section: str, line: str) -> str:
        """The name of the option; "" if there is none, or none that counts."""
        found = re.match(r"([^=:\s][^=:]*?)\s*[=:]\s*(.*)", line)
        if not found:
            # The line is not shown: it may be the second half of a password.
            self._problem(number, "is neither 'option = value', nor a [section], nor a comment")
            return ""
        name, value = found.group(1).lower(), found.group(2)
        known = self.sections.setdefault(section, {}).get(name)
        if known and not self._loose(section):
            shown = name.upper() if self.is_shell(section) else f"[{section}] {name}"
            self._problem(number, f"{shown} again; it is already set on line {known.line}")
            return ""
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
        entry = Entry(value[1:-1] if quoted else value, number, quoted)
        if known and known.value != entry.value:
            self.again[section, name] = known.line
        self.sections[section][name] = entry
        return name

    def _problem(self, number: int, text: str) -> None:
        self.problems.append((number, f"{self.path}:{number}: {text}"))


def _without_shell(line: str) -> str:
    """A line of a shell script that sets a variable, without what only a shell needs."""
    line = re.sub(r"^export\s+", "", line)
    quoted = re.match(r"""([^=\s]+=("[^"]*"|'[^']*'))\s*(?:;?\s*#.*)?$""", line)
    return quoted.group(1) if quoted else re.sub(r"\s+#.*$", "", line)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: is not UTF-8 text (byte {error.start})"]) from None
    except OSError as error:
        raise ConfigError([f"{path}: can't be read: {error.strerror}"]) from None
