"""Which aggregates a reserved host is to be put into, and which it is still in."""

from __future__ import annotations

from masakari.host_aggregates import lacking, still_in
from masakari.nova import Aggregate

RACK = Aggregate(1, "rack", ("compute1", "compute2"))
FAST = Aggregate(2, "fast", ("compute1", "compute3"))
OTHER = Aggregate(3, "other", ("compute2",))


def test_it_lacks_those_of_the_failed_host_that_it_is_not_in():
    assert lacking([RACK, FAST, OTHER], "compute1", "compute3") == [RACK]
    assert lacking([RACK, FAST, OTHER], "compute4", "compute3") == []


def test_what_is_on_record_counts_while_nova_shows_the_same():
    on_record = [{"host": "compute3", "id": number, "name": "x"} for number in (1, 2, 9)]
    assert still_in(on_record, [RACK, FAST, OTHER]) == [on_record[1]]
