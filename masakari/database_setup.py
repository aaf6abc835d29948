"""What setting up a database server takes: whom to go in as, the statements of the script, and which rights. Pure.

No statement here holds a value but those that name a database, an account or a right: a server takes no parameters there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from masakari.config import Db

RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")
GRANT_OPTION = "GRANT OPTION"
EVERYTHING = "*.*"
HERE = ("localhost", "127.0.0.1", "::1")
OURS = {"schema_version", "notification_list"}
"""A database with none of these tables is empty, or another program's."""

VERSION = "INSERT INTO schema_version"


@dataclass(frozen=True, slots=True)
class Login:
    """How the administrator goes in. socket rules over host and port; guessed: nobody named that socket."""

    user: str = "root"
    password: str = field(default="", repr=False)
    socket: str = ""
    host: str = ""
    port: int = 3306
    guessed: bool = False

    @property
    def where(self) -> str:
        """The server, for messages."""
        return self.socket or f"{self.host}:{self.port}"


def login(db: Db, file: Mapping[str, str], socket: str, usual_socket: str) -> Login:
    """The way in. file: [client] of the administrator's option file; socket: the one asked for; usual_socket: the server's
    of this machine, "" if there is none. ValueError when the file's port is no number."""
    user, password = file.get("user", "root"), file.get("password", "")
    host = file.get("host", "")
    port = int(file.get("port") or db.port)
    if not socket and host not in ("", "localhost"):
        return Login(user, password, host=host, port=port)
    named = socket or file.get("socket", "") or db.unix_socket
    if named:
        return Login(user, password, socket=named)
    if usual_socket and (host or db.host in HERE):
        return Login(user, password, socket=usual_socket, port=port, guessed=True)
    return Login(user, password, host=db.host, port=port)


# The script


def statements(script: str, database: str) -> list[str]:
    """The statements of create_vmha_database.sql, for a database of this name.

    The versions it stores at its end come in one go: otherwise an interruption there looks like an earlier version.
    """
    bare = re.sub(r"^\s*--.*$", "", script, flags=re.MULTILINE)
    found = [part.strip() for part in re.split(r";\s*$", bare, flags=re.MULTILINE)]
    whole = [_for_database(statement, database) for statement in found if statement]
    first = next(at for at, statement in enumerate(whole) if statement.startswith(VERSION))
    return [*whole[:first], "START TRANSACTION", *whole[first:], "COMMIT"]


def _for_database(statement: str, database: str) -> str:
    if re.match(r"CREATE DATABASE|USE\b", statement):
        return re.sub(r"\bvm_ha\b", lambda _: name(database), statement, count=1)
    return statement


@dataclass(frozen=True, slots=True)
class Tables:
    """What a database has. version: of its tables; 0 when they don't tell, or when making them was interrupted."""

    names: frozenset[str]
    version: int

    @property
    def of_2015(self) -> bool:
        """Whether they are those of Masakari 2015."""
        return "notification_list" in self.names and "schema_version" not in self.names

    @property
    def foreign(self) -> bool:
        """Whether they are those of another program."""
        return bool(self.names) and not self.names & OURS


# Names


def name(database: str) -> str:
    """A database's name as statements take it."""
    return f"`{database.replace('`', '``')}`"


def pattern(database: str) -> str:
    """A database's name as GRANT takes it, where _ and % stand for any other character."""
    return re.sub(r"([_%\\])", r"\\\1", database)


# Rights


@dataclass(frozen=True, slots=True)
class Right:
    """One thing that an account may do. database: "" for all of them; table: "" for all of them."""

    what: str
    database: str = ""
    table: str = ""

    @property
    def on(self) -> str:
        """Where it holds, as GRANT and REVOKE take it."""
        if not self.database:
            return EVERYTHING
        return f"{name(self.database)}.{name(self.table) if self.table else '*'}"


def missing(rights: Iterable[Right], database: str) -> list[str]:
    """Those of RIGHTS that are not granted on all tables of the database."""
    granted = {right.what for right in rights if right.database in (database, pattern(database)) and not right.table}
    return [what for what in RIGHTS if what not in granted]


def grant_on(rights: Iterable[Right], database: str) -> str:
    """Where to grant: as it was granted already, since of two spellings of a database the server heeds one."""
    known = {right.database for right in rights if not right.table}
    return Right("", database if database in known else pattern(database)).on


def surplus(rights: Iterable[Right], database: str) -> list[Right]:
    """The rights that the controller has no use for."""
    return [right for right in rights if not (right.what in RIGHTS and right.database in (database, pattern(database)))]


def within(rights: Iterable[Right], database: str) -> tuple[list[Right], list[Right]]:
    """Those on the database or its tables, and the others."""
    inside: list[Right] = []
    outside: list[Right] = []
    for right in rights:
        (inside if right.database in (database, pattern(database)) else outside).append(right)
    return inside, outside


def by_place(rights: Iterable[Right]) -> Iterator[tuple[str, str]]:
    """What is granted, as the words of GRANT: for each place the rights, and the place."""
    places: dict[str, list[str]] = {}
    for right in rights:
        places.setdefault(right.on, []).append(right.what)
    for on, whats in places.items():
        yield ", ".join(whats), on


def in_words(rights: Sequence[Right], most: int = 4) -> str:
    """Rights for a message; of many in one place only the first."""
    told = []
    for whats, on in by_place(rights):
        first = whats.split(", ")
        more = f" and {len(first) - most} more" if len(first) > most else ""
        told.append(f"{', '.join(first[:most])}{more} on {on.replace('`', '').replace(chr(92), '')}")
    return "; ".join(told)
