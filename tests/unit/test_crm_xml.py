"""Reading crm_mon's XML and CIBs: what is told of the nodes, and what is refused instead of being half understood."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from hostmonitor.crm_xml import LIMIT_CHARS, BadView, parse, unix_time
from hostmonitor.model import GUEST, MEMBER, REMOTE
from hostmonitor.verdict import judge

DATA = Path(__file__).resolve().parents[1] / "data" / "crm_mon"
NAMES = sorted(path.name.removesuffix(".crm_mon.xml") for path in DATA.glob("*.crm_mon.xml"))
FENCED = (DATA / "fence-07-fenced-at-last.crm_mon.xml").read_text(encoding="utf-8")
FENCED_CIB = (DATA / "fence-07-fenced-at-last.cib.xml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_a_cib_gives_the_flags_that_crm_mon_shows(name: str) -> None:
    shown = parse((DATA / f"{name}.crm_mon.xml").read_text(encoding="utf-8"))
    worked_out = parse((DATA / f"{name}.cib.xml").read_text(encoding="utf-8"))
    told = [replace(node, fenced_at=None, forgotten=False, busy=False) for node in worked_out.nodes]
    assert sorted(told, key=lambda node: node.name) == list(shown.nodes)
    assert (worked_out.quorate, worked_out.dc) == (shown.quorate, shown.dc)
    assert (worked_out.stonith_enabled, worked_out.maintenance_mode) == (shown.stonith_enabled, shown.maintenance_mode)
    assert worked_out.no_quorum_policy == shown.no_quorum_policy
    assert shown.problems == worked_out.problems == ()


def test_a_view_says_what_pacemaker_says() -> None:
    view = parse(FENCED, own="node1")
    assert (view.source, view.own, view.at) == ("crm_mon", "node1", unix_time("2026-11-20 18:41:22Z"))
    assert [node.kind for node in view.nodes] == [MEMBER, MEMBER, MEMBER, REMOTE]
    newest, failed = view.fence_events[:2]
    assert (newest.action, newest.target, newest.status, newest.delegate) == ("off", "node3", "success", "node2")
    assert newest.completed == unix_time("2026-11-20 18:41:21Z")
    assert (failed.status, failed.exit_reason) == ("failed", "Fence agent did not complete within 60s")


def test_the_time_that_is_passed_rules_over_the_one_in_the_view() -> None:
    assert parse(FENCED, at=5.0).at == 5.0


def test_resources_know_their_groups_and_where_they_run() -> None:
    view = parse((DATA / "nofence-13-cluster-wide-maintenance-mode.crm_mon.xml").read_text(encoding="utf-8"))
    clones = [resource for resource in view.resources if resource.groups == ("svc-clone",)]
    assert [clone.nodes for clone in clones] == [("node1",), ("node2",), ()]
    assert [resource.nodes for resource in view.resources if resource.name == "vip"] == [("node1",)]


BROKEN = {
    "nothing": "",
    "blanks": " \n\t ",
    "zeros": "\0\0\0",
    "cut off": FENCED[: len(FENCED) // 2],
    "cut off in the last tag": FENCED.rstrip()[:-5],
    "a CIB cut off": FENCED_CIB[: len(FENCED_CIB) // 2],
    "two in one": FENCED + FENCED,
    "text of crm_mon": "Cluster Summary:\n  * Stack: corosync\n  * Current DC: node1\n",
    "error text": "crm_mon: Connection to cluster failed: Transport endpoint is not connected\n",
    "error text, then XML": "error: Could not connect\n" + FENCED,
    "error in XML": '<pacemaker-result api-version="2.25"><status code="102" message="Not connected"><errors>'
    "<error>crm_mon: Connection to cluster failed</error></errors></status></pacemaker-result>",
    "nodes, but a status that is no success": FENCED.replace('code="0"', 'code="1"'),
    "HTML": "<html><body>502</body></html>",
    "no nodes": '<pacemaker-result><status code="0"/></pacemaker-result>',
    "an empty list": '<crm_mon version="2.0.1"><nodes/></crm_mon>',
    "an empty CIB": "<cib/>",
    "control characters": FENCED.replace("node1", "node\x01"),
    "a lone surrogate": FENCED.replace("node1", "node\ud800"),
    "entities": '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;&b;">]>' + FENCED.replace("node3", "&c;"),
    "a foreign file": '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>' + FENCED,
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=list(BROKEN))
def test_what_is_no_view_is_refused_with_a_short_reason_on_one_line(text: str) -> None:
    with pytest.raises(BadView) as refused:
        parse(text)
    assert 0 < len(str(refused.value)) < 400
    assert str(refused.value).isprintable()


def test_the_error_that_crm_mon_tells_is_told() -> None:
    with pytest.raises(BadView, match="102: Not connected: crm_mon: Connection to cluster failed"):
        parse(BROKEN["error in XML"])
    with pytest.raises(BadView, match="Transport endpoint is not connected"):
        parse(BROKEN["error text"])


def test_a_huge_input_is_refused_unread() -> None:
    with pytest.raises(BadView, match="million characters"):
        parse("<" * (LIMIT_CHARS + 1))


def test_no_prefix_of_a_view_is_a_view() -> None:
    text = FENCED.rstrip()
    for end in range(0, len(text), 97):
        with pytest.raises(BadView):
            parse(text[:end])


def test_deep_nesting_is_read_without_recursion() -> None:
    deep = "<group id='g'>" * 200_000 + "</group>" * 200_000
    view = parse(f"<crm_mon><nodes><node name='a' online='true'/></nodes><resources>{deep}</resources></crm_mon>")
    assert view.resources == ()
    assert "deeper" in view.problems[0]


def test_unknown_attributes_and_elements_change_nothing() -> None:
    more = FENCED.replace("<node ", '<node new="1" ').replace("<nodes>", "<news/><nodes><!-- new -->")
    assert parse(more) == parse(FENCED)


def test_the_older_crm_mon_is_understood() -> None:
    view = parse(
        """<?xml version="1.0"?>
<crm_mon version="1.1.24">
    <summary>
        <last_update time="Fri Nov 20 18:36:19 2026" />
        <current_dc present="true" version="1.1.24" name="a" id="1" with_quorum="true" />
        <cluster_options stonith-enabled="false" no-quorum-policy="ignore" maintenance-mode="false" />
    </summary>
    <nodes>
        <node name="a" id="1" online="true" standby="false" expected_up="true" is_dc="true" type="member" />
        <node name="b" id="2" online="true" standby="false" expected_up="true" is_dc="false" type="member" />
        <node name="c" id="3" online="false" unclean="false" expected_up="true" is_dc="false" type="member" />
    </nodes>
    <fence_history><fence_event target="c" action="off" state="success" completed="Fri Nov 20 18:36:10 2026"/></fence_history>
</crm_mon>"""
    )
    assert (view.at, view.quorate, view.dc, view.no_quorum_policy) == (0.0, True, "a", "ignore")
    # A time without its zone may be hours off.
    assert view.fence_events[0].completed is None
    assert view.problems
    assert [(one.name, one.failed, one.proven) for one in judge(view) if one.failed] == [("c", True, False)]


@pytest.mark.parametrize("wrong", ['online="perhaps"', 'unclean="2"', 'type="ping"', 'name=""'])
def test_a_node_that_is_not_understood_is_left_out_and_named(wrong: str) -> None:
    attributes = {"name": "b", "online": "false", "unclean": "false", "type": "member"}
    key, value = wrong[:-1].split('="')
    told = " ".join(f'{name}="{text}"' for name, text in {**attributes, key: value}.items())
    view = parse(f'<crm_mon><nodes><node name="a" online="true"/><node {told}/></nodes></crm_mon>')
    assert [node.name for node in view.nodes] == ["a"]
    assert "left out" in view.problems[0]


def test_a_stale_entry_beside_a_live_one_does_not_make_it_look_dead() -> None:
    nodes = '<node name="a" id="1" online="false" expected_up="true"/><node name="a" id="9" online="true"/>'
    view = parse(f"<crm_mon><nodes>{nodes}</nodes></crm_mon>")
    assert [(node.node_id, node.online) for node in view.nodes] == [("9", True)]
    assert "twice" in view.problems[0]


def test_standby_by_a_failed_resource_is_not_taken_for_planned() -> None:
    view = parse(
        '<crm_mon><nodes><node name="a" online="true" standby="true" standby_onfail="true"/></nodes></crm_mon>'
    )
    assert not view.nodes[0].standby


def test_a_guest_is_told_from_a_remote() -> None:
    view = parse('<crm_mon><nodes><node name="g" online="true" type="remote" id_as_resource="vm"/></nodes></crm_mon>')
    assert view.nodes[0].kind == GUEST


def test_a_cib_of_newer_releases_tells_since_when_instead_of_whether() -> None:
    newer = FENCED_CIB.replace('in_ccm="true"', 'in_ccm="1795199777"').replace('crmd="online"', 'crmd="1795199778"')
    newer = newer.replace('in_ccm="false"', 'in_ccm="0"').replace('crmd="offline"', 'crmd="0"')
    assert parse(newer).nodes == parse(FENCED_CIB).nodes


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("1970-01-01 00:00:10Z", 10.0),
        ("1970-01-01 01:00:10 +01:00", 10.0),
        ("1969-12-31 19:30:10 -0430", 10.0),
        ("1970-01-01 00:00:10.250000Z", 10.25),
        ("1970-01-01T00:00:10Z", 10.0),
        ("1970-01-01 00:00:10", None),
        ("Thu Jan  1 00:00:10 1970", None),
        ("1970-13-01 00:00:10Z", None),
        ("", None),
    ],
)
def test_only_a_time_with_its_zone_is_a_time(text: str, at: float | None) -> None:
    assert unix_time(text) == at


def thousand() -> str:
    operation = (
        '<lrm_rsc_op id="o" operation="{}" call-id="{}" rc-code="0" op-status="0" interval="0" transition-key="k"/>'
    )
    history = "".join(
        f'<lrm_resource id="r{number}" class="ocf" provider="pacemaker" type="Dummy">'
        f"{operation.format('start', 5)}{operation.format('monitor', 6)}</lrm_resource>"
        for number in range(5)
    )
    nodes = "".join(f'<node id="{number}" uname="node{number}"/>' for number in range(1000))
    states = "".join(
        f'<node_state id="{number}" uname="node{number}" in_ccm="true" crmd="online" join="member" expected="member">'
        f'<lrm id="{number}"><lrm_resources>{history}</lrm_resources></lrm></node_state>'
        for number in range(1000)
    )
    return (
        f'<cib have-quorum="1" dc-uuid="7"><configuration><crm_config/><nodes>{nodes}</nodes><resources/>'
        f"</configuration><status>{states}</status></cib>"
    )


def test_a_cib_of_a_thousand_nodes_is_read_and_judged_within_0_3_s_of_cpu() -> None:
    text = thousand()
    began = time.process_time()
    verdicts = judge(parse(text))
    took_s = time.process_time() - began
    assert [verdict.state for verdict in verdicts] == ["online"] * 1000
    assert took_s < 0.3
