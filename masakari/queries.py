"""Named SQL statements, read from sql/queries.sql.

A file is a sequence of blocks:

    -- claim_recovery --
    -- Take a recovery that is due; 0 rows when somebody else was faster.
    UPDATE recovery SET owner = :owner, epoch = epoch + 1 WHERE id = :id AND lease_until < NOW_S();

Where the dialects differ, `-- claim_recovery (mysql) --` and `-- claim_recovery (sqlite) --` are the
statement for one each. Parameters are `:name`; `IN :name` takes a list. NOW_S() is the time in Unix seconds
by the database's clock. Comments inside a statement are dropped before it is sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DIALECTS = ("mysql", "sqlite")

# MySQL doesn't know IN (), and IN (NULL) would make a NOT IN match nothing, too.
_EMPTY = {"mysql": "SELECT NULL FROM DUAL WHERE FALSE", "sqlite": ""}

_HEADER = re.compile(r"--\s+(\S.*?)\s+--$")
_NAME = re.compile(r"([a-z][a-z0-9_]*)(?:\s+\(([^)]*)\))?$")
# Quoted text and comments come first, so that a colon or a semicolon inside them is left alone.
_TOKEN = re.compile(
    r"(?P<quoted>'(?:[^']|'')*'|`[^`]*`)"
    r"|(?P<comment>--[^\n]*)"
    r"|(?P<list>\bIN\s+:(?P<list_name>[A-Za-z_]\w*))"
    r"|(?<![:\w]):(?P<name>[A-Za-z_]\w*)"
    r"|(?P<now>\bNOW_S\(\))"
    r"|(?P<end>;)"
    r"|(?P<percent>%)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement in the form its dialect's driver takes."""

    name: str
    description: str
    dialect: str
    sql: str
    lists: tuple[str, ...]  # parameters that take a list

    def bind(self, params: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        """The text and the parameters to hand to the driver.

        A list becomes as many placeholders as it has elements; the values themselves never enter the text.
        An empty list matches nothing. Raises KeyError when a list is missing, TypeError when it isn't a
        list or tuple.
        """
        if not self.lists:
            return self.sql, params
        sql, bound = self.sql, dict(params)
        for name in self.lists:
            values = bound.pop(name)
            if not isinstance(values, (list, tuple)):
                raise TypeError(f"{self.name}: {name} must be a list or tuple, not {type(values).__name__}")
            keys = [f"{name}__{index}" for index in range(len(values))]
            bound.update(zip(keys, values, strict=True))
            inside = ", ".join(_placeholder(self.dialect, key) for key in keys)
            sql = sql.replace(_list_mark(name), f"({inside or _EMPTY[self.dialect]})")
        return sql, bound


def sql_folder() -> Path:
    """Where the SQL files are: inside the package once installed, else beside it, as in the source tree.

    Raises FileNotFoundError when neither is there: the installation is broken.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "sql", package.parent / "sql"):
        if (folder / "queries.sql").is_file():
            return folder
    raise FileNotFoundError(f"sql/queries.sql is neither in {package} nor beside it: install Masakari again")


def load_queries(path: Path, dialect: str) -> dict[str, Statement]:
    """All statements of a file by name, in the form for one dialect.

    The whole file is checked, the other dialect's variants too. Raises ValueError with file and line when a
    name is there twice or malformed, a dialect unknown or one of the two left out, a description or a
    statement missing, or a block holds two statements.
    """
    found: dict[tuple[str, str], Statement] = {}
    for line, title, body in _blocks(path):
        where = f"{path}:{line}"
        name, variants = _parse_title(title, where)
        description, text = _split_body(body, where)
        for variant in variants:
            if (name, variant) in found:
                raise ValueError(f"{where}: {name} is there twice")
            found[name, variant] = _statement(name, description, variant, text, where)
    for name, _ in found:
        for wanted in DIALECTS:
            if (name, wanted) not in found:
                raise ValueError(f"{path}: {name} has no statement for {wanted}")
    return {name: statement for (name, variant), statement in found.items() if variant == dialect}


def _blocks(path: Path) -> Iterator[tuple[int, str, list[str]]]:
    """Line number, title and the lines below it, for each block."""
    start, title, body = 0, "", list[str]()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        header = _HEADER.match(line.rstrip())
        if header is None:
            if not title and line.strip() and not line.startswith("--"):
                raise ValueError(f"{path}:{number}: a statement before the first `-- name --`")
            body.append(line)
            continue
        if title:
            yield start, title, body
        start, title, body = number, header[1], []
    if title:
        yield start, title, body


def _parse_title(title: str, where: str) -> tuple[str, tuple[str, ...]]:
    match = _NAME.match(title)
    if match is None:
        raise ValueError(f"{where}: {title!r} is not a name")
    if match[2] is None:
        return match[1], DIALECTS
    if match[2] not in DIALECTS:
        raise ValueError(f"{where}: unknown dialect {match[2]!r} of {match[1]}")
    return match[1], (match[2],)


def _split_body(body: list[str], where: str) -> tuple[str, str]:
    if not body or not body[0].startswith("-- "):
        raise ValueError(f"{where}: the line below the name must be its description")
    return body[0][3:].strip(), "\n".join(body[1:])


def _statement(name: str, description: str, dialect: str, text: str, where: str) -> Statement:
    lists: list[str] = []

    def convert(token: re.Match[str]) -> str:
        if token["comment"]:
            return ""
        if token["list_name"]:
            lists.append(token["list_name"])
            return f"IN {_list_mark(token['list_name'])}"
        if token["name"]:
            return _placeholder(dialect, token["name"])
        if dialect == "sqlite":
            return token[0]
        # PyMySQL puts parameters in with the % operator, so every other percent sign is doubled.
        return "UNIX_TIMESTAMP(NOW(6))" if token["now"] else token[0].replace("%", "%%")

    kept, _, rest = _cut_at_end(text)
    if _TOKEN.sub(lambda token: "" if token["comment"] else token[0], rest).strip():
        raise ValueError(f"{where}: {name} holds more than one statement")
    sql = _TOKEN.sub(convert, kept)
    sql = "\n".join(line.rstrip() for line in sql.splitlines() if line.strip())
    if not sql:
        raise ValueError(f"{where}: {name} has no statement")
    return Statement(name, description, dialect, sql, tuple(dict.fromkeys(lists)))


def _cut_at_end(text: str) -> tuple[str, str, str]:
    """What stands before, at and after the first semicolon that ends a statement."""
    for token in _TOKEN.finditer(text):
        if token["end"]:
            return text[: token.start()], ";", text[token.end() :]
    return text, "", ""


def _placeholder(dialect: str, name: str) -> str:
    return f"%({name})s" if dialect == "mysql" else f":{name}"


def _list_mark(name: str) -> str:
    """Stands in the text for a list until its length is known; no statement can contain it."""
    return f"\0{name}\0"
