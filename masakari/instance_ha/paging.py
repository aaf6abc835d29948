"""Filters, order and pages of lists that fit into memory: segments, hosts, moves of instances (pure)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from masakari.instance_ha.refusal import bad

LARGEST_PAGE = 1000
Item = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Query:
    """What a list is asked for. sort: keys with whether they go down, the most important first; marker: the last item seen."""

    filters: Mapping[str, str]
    sort: Sequence[tuple[str, bool]]
    marker: str
    limit: int


def read_query(text: str, filters: Collection[str], sort_keys: Collection[str], default: str) -> Query:
    """The query of a list; `default` is the key to sort by, downwards as OpenStack does. Raises Refusal."""
    found: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=64, errors="strict")
    except (ValueError, UnicodeError):
        raise bad("query", "can't be read") from None
    for name, value in pairs:
        if name not in (*filters, "limit", "marker", "sort_key", "sort_dir"):
            raise bad(name[:64], f"can't be filtered by; what can is {', '.join(filters)}")
        found.setdefault(name, []).append(value)
    for name, values in found.items():
        if len(values) > 1 and name not in ("sort_key", "sort_dir"):
            raise bad(name, "given more than once")
    return Query(
        {name: found[name][0] for name in filters if name in found},
        _sort(found.get("sort_key") or [default], found.get("sort_dir") or [], sort_keys),
        found.get("marker", [""])[0],
        _limit(found.get("limit", [""])[0]),
    )


def page(items: Sequence[Item], query: Query, matches: Callable[[Item, str, str], bool]) -> list[Item]:
    """The page that is asked for. `matches`(item, filter, value) says what a filter lets through. Raises Refusal."""
    # Those that are alike follow the last key's direction: the newest first, unless told otherwise.
    ordered = sorted(items, key=lambda item: int(item["id"]), reverse=query.sort[-1][1])
    for key, down in reversed(query.sort):
        ordered.sort(key=lambda item, key=key: _comparable(item.get(key)), reverse=down)  # type: ignore[misc]
    # The last one seen need not pass the filters any more.
    rest = ordered[_after(ordered, query.marker) if query.marker else 0 :]
    return [item for item in rest if all(matches(item, *wanted) for wanted in query.filters.items())][: query.limit]


def _after(items: Sequence[Item], marker: str) -> int:
    for position, item in enumerate(items):
        if marker in (str(item["id"]), item.get("uuid")):
            return position + 1
    raise bad("marker", f"nothing in this list has the id {marker[:64]}")


def _comparable(value: Any) -> tuple[bool, str]:
    """No value goes before all others."""
    return (False, "") if value is None else (True, f"{value:020d}" if type(value) is int else str(value))


def _sort(keys: Sequence[str], directions: Sequence[str], known: Collection[str]) -> list[tuple[str, bool]]:
    for key in keys:
        if key not in known:
            raise bad("sort_key", f"must be one of {', '.join(known)}")
    for direction in directions:
        if direction not in ("asc", "desc"):
            raise bad("sort_dir", "must be asc or desc")
    if len(directions) > len(keys):
        raise bad("sort_dir", "given more often than sort_key")
    last = directions[-1] if directions else "desc"
    told = [*directions, *([last] * (len(keys) - len(directions)))]
    return [(key, direction == "desc") for key, direction in zip(keys, told, strict=True)]


def _limit(text: str) -> int:
    if not text:
        return LARGEST_PAGE
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise bad("limit", "must be a number, 0 or more")
    return min(int(text), LARGEST_PAGE)
