"""masakari.conf in OpenStack's form: what has a meaning here is read as if it were ours, and the rest is named with the reason.

What our own sections say goes before it. Values are used as they are written: neither % nor $ stands for anything, and [DEFAULT]
is a section like any other. No value is ever shown by what is said here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from urllib.parse import parse_qsl, unquote

from masakari.common.config import YesNo, nearest
from masakari.common.ini import Entry, Ini
from masakari.openstack_options import AUTHTOKEN, TRANSLATED, UNUSED, UNUSED_SECTIONS, USED, Group

LOG_NAME = "masakari-controller.log"
ADDRESS = ("drivername", "host", "port", "unix_socket", "name", "user")
AUTH_TYPES = ("password", "v3password", "v3applicationcredential")

_SERVER = re.compile(
    r"(?:mysql|mariadb)(?:\+\w+)?://(?:(?P<user>[^:/@]*)(?::(?P<passwd>[^@]*))?@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]*)(?::(?P<port>[0-9]+))?(?:/(?P<name>[^?/@]*))?(?:\?(?P<query>[^@]*))?"
)
_FILE = re.compile(r"sqlite(?:\+\w+)?:///(?P<name>[^?]+)(?:\?(?P<query>.*))?")
_CATALOG = re.compile(r"[^:]*:[^:]*:(public|internal|admin)(?:URL)?")


def is_theirs(section: str) -> bool:
    """Whether only OpenStack's form has this section."""
    return section in TRANSLATED or bool(_why_unused(section))


def in_this_form(ini: Ini) -> bool:
    """Whether a file is in OpenStack's form, as far as who may call is concerned: it has credentials for Keystone's middleware."""
    return AUTHTOKEN in ini.section_lines


class Translation:
    """What a file in OpenStack's form says, put into the sections of its Ini where it is looked for.

    others: sections that are no business of ours, as Reading wants them. problems: with their lines; what would leave no database
    is in the Ini instead. warnings: a sentence each, in the order of the file.
    """

    def __init__(self, ini: Ini) -> None:
        self.ini = ini
        self.others = {name: why for why, names in UNUSED_SECTIONS.items() for name in names.split() if "*" not in name}
        self.others |= {name: why for name in ini.section_lines if (why := _why_unused(name))}
        self.others |= dict.fromkeys(TRANSLATED, "")
        self.problems: list[tuple[int, str]] = []
        self._told: list[tuple[int, str]] = []
        for group in USED:
            self._take_group(group)
        self._take_connection()
        self._take_debug()
        self._take_log_file()
        self._take_catalog()
        self._check_auth_type()
        for section in UNUSED:
            self._take_rest(section)

    @property
    def warnings(self) -> list[str]:
        """What has no effect or isn't used, in the order of the file."""
        return [text for _, text in sorted(self._told, key=lambda item: item[0])]

    def _written(self, section: str, option: str) -> Entry | None:
        entry = self.ini.sections.get(section, {}).get(option)
        return entry if entry and entry.value else None

    def warn(self, section: str, option: str, text: str) -> None:
        """Add a warning about an option of the file, unless it is there already."""
        told = self._at(section, option, text)
        if told not in self._told:
            self._told.append(told)

    def _at(self, section: str, option: str, text: str) -> tuple[int, str]:
        line = self.ini.sections[section][option].line
        return line, f"{self.ini.path}:{line}: [{section}] {option}: {text}"

    def _give(self, ours: tuple[str, str], theirs: tuple[str, str], value: str, part: str = "") -> None:
        """Let an option of ours have the value of one of theirs, or of a part of it, unless it has one."""
        entry = self.ini.sections[theirs[0]][theirs[1]]
        if self._written(*ours):
            self._refuse(ours, theirs, value)
            return
        place = f"[{theirs[0]}] {theirs[1]}{part}"
        quoted = entry.quoted or bool(part)
        self.ini.sections.setdefault(ours[0], {})[ours[1]] = Entry(value, entry.line, quoted, place)
        if theirs in self.ini.again:
            self.warn(*theirs, f"is something else on line {self.ini.again.pop(theirs)}; this one is used, as the last")
        if re.search(r"\$[\w({$]", entry.value):
            self.warn(*theirs, "is used as it is written: $ refers to nothing here, and $$ is not one $")

    def _refuse(self, ours: tuple[str, str], theirs: tuple[str, str], value: str) -> None:
        """Say that one of theirs is not used, since ours has another value."""
        used = self._written(*ours)
        if used and _plain(ours[1], used.value) != _plain(ours[1], value):
            place = used.place or f"[{ours[0]}] {ours[1]}"
            self.warn(*theirs, f"is not used: {place}, line {used.line}, says otherwise and goes before it")

    def _take_group(self, group: Group) -> None:
        for section, names in group.ways:
            there = {name: entry for name in names if (entry := self._written(section, name))}
            leads = [name for name in there if names[name] in group.leads]
            fits = bool(leads) and self._fits(group, {names[name]: there[name].value for name in reversed(leads)})
            for name, entry in there.items():
                ours = (group.section, names[name])
                if fits:
                    self._give(ours, (section, name), entry.value)
                elif self._written(*ours):
                    self._refuse(ours, (section, name), entry.value)
                else:
                    lead = leads[0] if leads else next(name for name in names if names[name] in group.leads)
                    self.warn(section, name, f"is not used: it goes with [{section}] {lead}, which isn't")

    def _fits(self, group: Group, leads: dict[str, str]) -> bool:
        """Whether what a way is about is what is used already, or nothing is used yet."""
        used = {lead: entry.value for lead in group.leads if (entry := self._written(group.section, lead))}
        return not used or all(_plain(lead, used.get(lead, "")) == _plain(lead, leads[lead]) for lead in leads)

    def _take_connection(self) -> None:
        theirs = ("database", "connection")
        entry = self._written(*theirs)
        if not entry:
            return
        values, query = _connection(entry.value)
        if not values:
            text = "mysql+pymysql://USER:PASSWORD@HOST:PORT/NAME, or sqlite:////FILE; in a user or password, @ is %40"
            self.ini.problems.append(self._at(*theirs, f"must be {text}, : is %3A, / is %2F and % is %25"))
            return
        ours = [option for option in ADDRESS if self._written("db", option)]
        if ours:
            if any(self._differs("db", option, value) for option, value in values.items()):
                line = self.ini.sections["db"][ours[0]].line
                self.warn(*theirs, f"is not used: [db] {ours[0]}, line {line}, goes before all of it")
            return
        for option, value in values.items():
            self._give(("db", option), theirs, value, f", {option}")
        if any(name.startswith("ssl") for name in query):
            self.warn(*theirs, "what it says of TLS is not used: no certificate of the database is checked")
        elif query:
            self.warn(*theirs, "only charset and unix_socket are used of what stands behind the ?")

    def _differs(self, section: str, option: str, value: str) -> bool:
        entry = self._written(section, option)
        return entry is None or entry.value != value

    def _take_debug(self) -> None:
        entry = self._written("DEFAULT", "debug")
        try:
            if entry and YesNo().parse(entry.value):
                self._give(("log", "log_level"), ("DEFAULT", "debug"), "debug")
        except ValueError:
            self.problems.append(self._at("DEFAULT", "debug", f"must be {YesNo().describe()}"))

    def _take_log_file(self) -> None:
        file, folder = self._written("DEFAULT", "log_file"), self._written("DEFAULT", "log_dir")
        if file:
            path = os.path.join(folder.value, file.value) if folder else file.value
            self._give(("log", "log_file"), ("DEFAULT", "log_file"), path)
        elif folder:
            self._give(("log", "log_file"), ("DEFAULT", "log_dir"), os.path.join(folder.value, LOG_NAME))

    def _take_catalog(self) -> None:
        theirs = ("DEFAULT", "nova_catalog_admin_info")
        entry = self._written(*theirs)
        if entry:
            found = _CATALOG.fullmatch(entry.value)
            if found:
                self._give(("nova", "interface"), theirs, found[1])
            else:
                text = "must be TYPE:NAME:publicURL, or internalURL or adminURL at the end"
                self.problems.append(self._at(*theirs, text))

    def _check_auth_type(self) -> None:
        entry = self._written(AUTHTOKEN, "auth_type")
        if entry and entry.value.lower() not in AUTH_TYPES:
            text = "the controller signs in with a user and password, or with an application credential"
            self.warn(AUTHTOKEN, "auth_type", f"is not used: {text}")

    def _take_rest(self, section: str) -> None:
        """Name what is not used, and what nobody knows. In a section that is ours, too, only theirs is looked at."""
        used = set(_used(section))
        written = self.ini.sections.get(section, {})
        for name in list(written):
            why = _why_unused_option(section, name)
            if why:
                self.warn(section, name, f"is not used: {why}")
            elif section in TRANSLATED and name not in used:
                known = [
                    *used,
                    *(word for words in UNUSED[section].values() for word in words.split() if "*" not in word),
                ]
                self.problems.append(self._at(section, name, f"unknown option{nearest(name, known)}"))
            if section not in TRANSLATED and (why or name in used):
                del written[name]


def translated(path: str) -> Translation:
    """A file that may be in OpenStack's form, ours, or both. ConfigError when it can't be read."""
    return Translation(Ini(path, loose=is_theirs))


def _used(section: str) -> Iterator[str]:
    """The options of a section of theirs that are used."""
    yield from TRANSLATED.get(section, {})
    for group in USED:
        for theirs, names in group.ways:
            if theirs == section:
                yield from names


def _why_unused(section: str) -> str:
    return next((why for why, names in UNUSED_SECTIONS.items() if _is_one_of(section, names)), "")


def _why_unused_option(section: str, option: str) -> str:
    return next((why for why, names in UNUSED[section].items() if _is_one_of(option, names)), "")


def _is_one_of(word: str, patterns: str) -> bool:
    return any(fnmatchcase(word, pattern) for pattern in patterns.split())


def _plain(option: str, value: str) -> str:
    """A value without what makes no difference, to compare it with another."""
    if option == "auth_url":
        return re.sub(r"(/v3)?/*$", "", value)
    return value.lower() if option.endswith("domain_name") else value


def _connection(url: str) -> tuple[dict[str, str], list[str]]:
    """The options of [db] in a URL of SQLAlchemy, none if it can't be one, and its parameters that are not used.

    Strict, so that no part of a password that should have been encoded is taken for something that may be shown.
    """
    file = _FILE.fullmatch(url)
    if file:
        return {"drivername": "sqlite", "name": file["name"]}, []
    found = _SERVER.fullmatch(url)
    if not found:
        return {}, []
    query = dict(parse_qsl(found["query"] or ""))
    charset = query.pop("charset", "")
    values = {
        "drivername": "mysql",
        "user": unquote(found["user"] or ""),
        "passwd": unquote(found["passwd"] or ""),
        "host": found["host"].strip("[]"),
        "port": found["port"] or "",
        "name": found["name"] or "",
        "charset": "utf8mb4" if charset in ("utf8", "utf8mb3") else charset,
        "unix_socket": query.pop("unix_socket", ""),
    }
    return {option: value for option, value in values.items() if value}, list(query)
