"""What a host told of itself, and what it told later: the row of known_host, without a database."""

from __future__ import annotations

from typing import Any

from masakari.hosts import judge_bmc
from masakari.identity import Told, learn
from masakari.model import Evidence

OWN, OTHER = "11223344-5566-7788-99aa-bbccddeeff00", "00000000-1111-2222-3333-444444444444"


def told(at: float, boot_id: str = "", declares: bool = False, **fields: str) -> Told:
    return Told("compute1", fields.pop("cluster_port", "a:1"), at, boot_id, declares, **fields)


def after(*reports: Told) -> dict[str, Any]:
    row = None
    for report in reports:
        row = learn(row, report, 99.0)
    assert row is not None
    return row


def test_a_host_is_first_seen_with_what_is_told_of_it() -> None:
    row = after(told(5.0))
    assert (row["hostname"], row["cluster_port"], row["first_seen_at"], row["boot_id"]) == (
        "compute1",
        "a:1",
        99.0,
        None,
    )


def test_the_time_of_a_boot_is_when_it_was_first_told() -> None:
    row = after(told(5.0, "boot-1"), told(7.0, "boot-1"), told(8.0, "boot-1", cluster_port="b:1"))
    assert (row["boot_id"], row["boot_seen_at"], row["cluster_port"]) == ("boot-1", 5.0, "b:1")


def test_a_report_of_an_earlier_boot_that_comes_late_changes_nothing() -> None:
    before = after(told(5.0, "boot-2"))
    late = told(4.0, "boot-1", True, pacemaker_name="node1", bmc_guid=OWN, cluster_port="b:1")
    assert learn(before, late, 99.0) == before


def test_a_declaration_of_this_boot_counts_though_another_monitor_was_faster() -> None:
    row = after(told(5.0, "boot-1"), told(4.0, "boot-1", True, pacemaker_name="node1", bmc_guid=OWN))
    assert (row["pacemaker_name"], row["bmc_guid"]) == ("node1", OWN)
    assert learn(row, told(4.5, "boot-1", True, pacemaker_name="node1"), 99.0)["bmc_guid"] == OWN


def test_an_older_declaration_is_no_news() -> None:
    row = after(told(5.0, "boot-1", True, bmc_guid=OWN), told(4.0, "boot-1", True, bmc_guid=OTHER))
    assert row["bmc_guid"] == OWN


def test_what_is_not_told_any_more_is_forgotten_with_a_boot_only() -> None:
    row = after(told(5.0, "boot-1", True, pacemaker_name="node1", bmc_guid=OWN))
    assert learn(row, told(6.0, "boot-1", True, pacemaker_name="node1"), 99.0)["bmc_guid"] == OWN
    assert learn(row, told(6.0, "", True, pacemaker_name="node1"), 99.0)["bmc_guid"] == OWN
    assert learn(row, told(6.0, "boot-2", True, pacemaker_name="node1"), 99.0)["bmc_guid"] is None
    assert learn(row, told(6.0, "boot-2"), 99.0)["bmc_guid"] == OWN, "that is no declaration"


def test_the_cluster_of_a_host_that_declared_itself_is_its_own_word() -> None:
    row = after(told(5.0, "boot-1", True, pacemaker_name="node1"))
    assert learn(row, told(6.0, cluster_port="b:1"), 99.0)["cluster_port"] == "a:1"
    assert (
        learn(row, told(6.0, "boot-1", True, pacemaker_name="node1", cluster_port="b:1"), 99.0)["cluster_port"] == "b:1"
    )


def test_evidence_without_a_bmc_is_left_as_it_is() -> None:
    for evidence in (Evidence("fenced", 1.0, "node2"), Evidence("attested", 1.0), Evidence("power_off", 1.0, "node2")):
        assert judge_bmc(evidence, "compute1", OWN) is evidence
    read = Evidence("power_off", 1.0, "node2", "", OTHER)
    assert judge_bmc(read, "compute1", "") is read
    assert judge_bmc(read, "compute1", OWN).kind == "unknown"
