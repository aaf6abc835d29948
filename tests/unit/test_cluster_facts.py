"""What the hostmonitor says of the cluster itself: its failover segment, its dangers, its troubles; and what feeds the tests."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hostmonitor import stonith
from hostmonitor.cluster import Segment, dangers, is_cut_off, segment, summary, troubles
from hostmonitor.corosync import Corosync
from hostmonitor.crm_xml import parse
from hostmonitor.model import FenceEvent, View
from masakari.common.errors import ConfigError
from tests.unit.crm_mon import cib, cluster, connection, crm_mon, member, remote, resource

MULTICAST = Corosync("lab", "udp", "226.94.1.1:5405")


def test_what_is_configured_names_the_segment_then_the_key_then_corosync() -> None:
    assert segment("here", "of-key", MULTICAST).cluster_port == "here"
    assert segment("", "of-key", MULTICAST) == Segment("of-key", "the key of this host")
    assert segment("", "", MULTICAST).cluster_port == "226.94.1.1:5405"
    assert "multicast" in segment("", "", MULTICAST).source


@pytest.mark.parametrize("transport", ["udpu", "knet"])
def test_without_multicast_the_clusters_name_is_the_segment(transport: str) -> None:
    found = segment("", "", replace(MULTICAST, transport=transport))
    assert found == Segment("lab", "corosync's cluster_name")


@pytest.mark.parametrize("found", [None, Corosync(), Corosync("two words", "knet")])
def test_a_cluster_without_a_name_is_an_error_that_says_what_to_set(found: Corosync | None) -> None:
    with pytest.raises(ConfigError, match="set cluster_port"):
        segment("", "", found)


def test_a_sound_cluster_has_no_danger() -> None:
    assert dangers(cluster()) == []
    assert dangers(cluster(remote("remote1"))) == []


def test_each_danger_says_what_to_change() -> None:
    found = dangers(cluster(stonith_enabled=False, no_quorum_policy="ignore"))
    assert len(found) == 2
    assert "nothing is evacuated" in found[0] and "stonith-enabled=true" in found[0]
    assert "no-quorum-policy=stop" in found[1]
    two = replace(cluster(), nodes=cluster().nodes[:2])
    assert len(dangers(two)) == 1 and "Add a third one" in dangers(two)[0]


def test_one_full_member_with_remotes_is_no_pair() -> None:
    view = cluster(remote("remote1"), dc="node1")
    assert dangers(replace(view, nodes=(view.nodes[0], view.nodes[3]))) == []


def test_resources_that_are_not_well_are_named_unless_they_are_ignored() -> None:
    view = cluster(
        resources=(
            resource("vip", "node1"),
            resource("db", "node2", failed=True),
            resource("web", "node1", "node2", failed=True, blocked=True, groups=("grp_web",)),
            connection("remote1", failed=True),
        )
    )
    found = troubles(view, "")
    assert set(found) == {"db", "web", "remote1"}
    assert found["db"].endswith("is failed on node2") and "failed and blocked on node1, node2" in found["web"]
    assert set(troubles(view, "^grp_")) == {"db", "remote1"}
    assert set(troubles(view, "^(db|remote.*)$")) == {"web"}


CUT_OFF = {
    "no quorum": cluster(quorate=False),
    "quorum is not told": cluster(quorate=None),
    "offline": cluster(member("node1", online=False)),
    "unclean": cluster(member("node1", unclean=True)),
    "pending": cluster(member("node1", pending=True)),
    "unknown": cluster(own="node9"),
}


@pytest.mark.parametrize("view", CUT_OFF.values(), ids=CUT_OFF)
def test_who_may_be_lost_to_the_others_is_cut_off(view: View) -> None:
    assert is_cut_off(view)


def test_whoever_sees_others_lost_is_not_cut_off() -> None:
    assert not is_cut_off(cluster())
    assert not is_cut_off(cluster(member("node3", online=False, unclean=True), dc=""))


def test_the_summary_counts_the_nodes() -> None:
    assert summary(cluster(member("node3", online=False))) == "2 of 3 nodes online, DC node2"
    assert "DC none" in summary(cluster(dc=""))


# What the tests of the monitor show it


def test_the_xml_that_the_tests_make_is_read_as_what_it_was_made_from() -> None:
    view = cluster(
        member("node2", unclean=True, shutdown=True),
        member("node3", online=False, expected_up=False, standby=True, maintenance=True),
        remote("remote1", pending=True),
        remote("guest1", kind="guest"),
        at=1_800_000_000.0,
        fence_events=(
            FenceEvent("node3", "off", "pending", None, "", "pacemaker-controld.30", "node2"),
            FenceEvent("node3", "reboot", "failed", 1_800_000_001.0, "node2", "c", "node1", "did not complete"),
        ),
        resources=(connection("remote1", "node1"), resource("vip", target_role="Stopped"), resource("a", groups=("g",))),
    )
    read = parse(crm_mon(view), "node1", view.at)
    assert sorted(read.resources, key=str) == sorted(view.resources, key=str)
    assert replace(read, resources=()) == replace(view, resources=())


def test_the_cib_that_the_tests_make_tells_what_runs_and_which_bmcs_there_are() -> None:
    view = cluster(
        member("node2", online=False, expected_up=False, busy=True),
        member("node3", online=False, expected_up=False, forgotten=True),
        remote("remote1"),
        stonith_enabled=False,
    )
    text = cib(view, {"node3": "10.0.0.3"})
    read = {node.name: node for node in parse(text).nodes}
    assert [read[name].online for name in ("node1", "node2", "node3")] == [True, False, False]
    assert read["node2"].busy and not read["node3"].busy and read["node3"].forgotten
    assert not read["node2"].expected_up and "remote1" in read
    declared = stonith.from_cib(text)
    assert [bmc.address for bmc in declared.bmcs["node3"]] == ["10.0.0.3"] and declared.problems == ()
