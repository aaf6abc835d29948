"""Filters, order and pages of the lists that are sorted in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masakari.instance_ha import paging
from masakari.instance_ha.refusal import Refusal

FILTERS = ("type", "reserved")
KEYS = ("created_at", "id", "uuid", "name", "type")


def ask(text: str = "") -> paging.Query:
    return paging.read_query(text, FILTERS, KEYS, "created_at")


def item(number: int, **fields: Any) -> dict[str, Any]:
    return {"id": number, "uuid": f"uuid-{number}", "created_at": f"2026-11-21T16:00:{number:02d}", "type": "a", **fields}


def page(items: Sequence[dict[str, Any]], text: str = "") -> list[int]:
    """The numbers of what a page shows."""
    return [one["id"] for one in paging.page(items, ask(text), lambda one, name, value: one[name] == value)]


def pages(items: Sequence[dict[str, Any]], text: str, by: str = "id") -> list[int]:
    """What a client sees that asks for page after page until one is empty."""
    seen: list[int] = []
    marker = ""
    while found := paging.page(items, ask(f"{text}{marker}"), lambda one, name, value: one[name] == value):
        assert len(seen) <= len(items), "it would never end"
        seen += [one["id"] for one in found]
        marker = f"&marker={found[-1][by]}"
    return seen


THREE = [item(1, name="b"), item(2, name="c"), item(3, name="a")]


def test_the_newest_come_first_unless_asked_otherwise() -> None:
    assert page(THREE) == [3, 2, 1]
    assert page(THREE, "sort_dir=asc") == [1, 2, 3]
    assert page(THREE, "sort_key=name") == [2, 1, 3]
    assert page(THREE, "sort_key=name&sort_dir=asc") == [3, 1, 2]


def test_what_was_made_at_once_follows_the_direction() -> None:
    alike = [item(number, created_at="2026-11-21T16:00:00") for number in (1, 2, 3)]
    assert page(alike) == [3, 2, 1]
    assert page(alike, "sort_key=created_at&sort_dir=asc") == [1, 2, 3]


def test_numbers_are_sorted_as_numbers() -> None:
    assert page([item(9), item(10), item(100)], "sort_key=id&sort_dir=asc") == [9, 10, 100]


def test_what_has_no_value_comes_before_all_others() -> None:
    items = [item(1, name="a"), item(2, name=None), item(3, name="")]
    assert page(items, "sort_key=name&sort_dir=asc") == [2, 3, 1]
    assert page(items, "sort_key=name") == [1, 3, 2]


def test_several_keys_and_directions() -> None:
    items = [item(1, name="a", type="x"), item(2, name="b", type="x"), item(3, name="a", type="y")]
    assert page(items, "sort_key=type&sort_key=name&sort_dir=asc&sort_dir=desc") == [2, 1, 3]
    assert page(items, "sort_key=type&sort_key=name&sort_dir=desc&sort_dir=asc") == [3, 1, 2]
    # The last direction holds for the keys without one.
    assert page(items, "sort_key=name&sort_key=type&sort_dir=asc") == [1, 3, 2]


@pytest.mark.parametrize("marker", ["2", "uuid-2"])
def test_a_marker_is_the_number_or_the_uuid_of_the_last_one_seen(marker: str) -> None:
    assert page(THREE, f"marker={marker}") == [1]
    assert page(THREE, f"marker={marker}&sort_dir=asc") == [3]


def test_a_marker_that_the_filters_leave_out_by_now_still_marks() -> None:
    items = [item(1), item(2, type="b"), item(3)]
    assert page(items, "type=a&marker=2") == [1]
    assert page(items, "type=b&marker=3") == [2]


@pytest.mark.parametrize("marker", ["4", "0", "-1", "uuid-4", "uuid", "x", "%00", "2%20"])
def test_a_marker_that_marks_nothing_is_refused(marker: str) -> None:
    with pytest.raises(Refusal) as refused:
        page(THREE, f"marker={marker}")
    assert (refused.value.status, refused.value.field) == (400, "marker")


def test_limits() -> None:
    many = [item(number, created_at="2026-11-21T16:00:00") for number in range(1, 1203)]
    assert page(many, "limit=2") == [1202, 1201]
    assert page(many, "limit=0") == []
    assert page(many, "limit=007")[0] == 1202
    assert len(page(many)) == len(page(many, "limit=5000")) == len(page(many, "limit=")) == 1000


@pytest.mark.parametrize("limit", ["-1", "1.5", "x", "1e3", "+1", "%201", "%D9%A1", "9" * 10])
def test_a_limit_that_is_none_is_refused(limit: str) -> None:
    with pytest.raises(Refusal) as refused:
        ask(f"limit={limit}")
    assert (refused.value.status, refused.value.field) == (400, "limit")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("sort_key=colour", "sort_key"),
        ("sort_key=", "sort_key"),
        ("sort_key=name&sort_key=colour", "sort_key"),
        ("sort_key=name;drop", "sort_key"),
        ("sort_dir=up", "sort_dir"),
        ("sort_dir=DESC", "sort_dir"),
        ("sort_dir=asc&sort_dir=desc", "sort_dir"),
        ("colour=red", "colour"),
        ("type=a&type=b", "type"),
        ("limit=1&limit=2", "limit"),
        ("marker=1&marker=2", "marker"),
        ("type=%FF", "query"),
        ("&".join(f"a{number}=1" for number in range(65)), "query"),
    ],
)
def test_a_query_that_cannot_be_answered_names_its_field(query: str, field: str) -> None:
    with pytest.raises(Refusal) as refused:
        ask(query)
    assert (refused.value.status, refused.value.field) == (400, field)


def test_filters_narrow_what_is_listed() -> None:
    items = [item(1), item(2, type="b"), item(3)]
    assert page(items, "type=a") == [3, 1]
    assert page(items, "type=new%3Btype%3DVM") == page(items, "type=") == []


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["x", "y", None])), max_size=25),
    st.sampled_from(KEYS),
    st.sampled_from(["asc", "desc"]),
    st.integers(1, 7),
    st.sampled_from(["id", "uuid"]),
    st.sampled_from(["", "&type=b"]),
)
def test_pages_together_are_the_list(rows: list[Any], key: str, way: str, limit: int, by: str, wanted: str) -> None:
    items = [item(number, type=kind, name=name) for number, (kind, name) in enumerate(rows, 1)]
    query = f"sort_key={key}&sort_dir={way}{wanted}"
    assert pages(items, f"{query}&limit={limit}", by) == page(items, query)
