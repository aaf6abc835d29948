"""Segments and registered hosts, on both databases: what the API, callbacks and the operator's scripts see of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from masakari import hosts, segments, store
from masakari.database import Database, Tx
from masakari.model import Recovery
from masakari.segments import Host, HostForm, Segment, SegmentConflict, SegmentForm
from tests.contracts.test_identity import accept
from tests.lab.processes import Monitor

NOW = 1_800_000_000.0
OKIDOKI = "00000000-0000-4000-8000-000000000001"
OTHER = "00000000-0000-4000-8000-000000000002"
FORM = SegmentForm("okidoki", "auto", "COMPUTE")


def host_uuid(number: int) -> str:
    return f"00000000-0000-4000-9000-{number:012d}"


def made(db: Database, uuid: str = OKIDOKI, form: SegmentForm = FORM) -> Segment:
    return db.transaction(lambda tx: segments.add_segment(tx, uuid, form, NOW))


def registered(db: Database, segment: Segment, name: str = "compute1", number: int = 1, **form: bool) -> Host:
    return db.transaction(
        lambda tx: segments.add_host(tx, host_uuid(number), segment, HostForm(name, "COMPUTE", "SSH", **form), NOW)
    )


def look(db: Database, name: str = "compute1") -> Host:
    return db.read(lambda tx: now_is(tx, name))


def now_is(tx: Tx, name: str = "compute1") -> Host:
    return segments.registered(tx, [name])[name]


def recovery(db: Database, kind: str = "host", name: str = "compute1") -> Recovery:
    def act(tx: Tx) -> Recovery:
        found = store.get(tx, store.add(tx, kind, name, "okidoki", NOW, step="prove"))
        assert found is not None
        return found

    return db.transaction(act)


def ended(db: Database, one: Recovery) -> None:
    db.transaction(lambda tx: tx.execute("recovery_end", id=one.id, status="finished", reason="done", now=NOW))


def disabled(db: Database, one: Recovery) -> None:
    """Nova has shown the host disabled for this recovery."""
    db.transaction(lambda tx: hosts.want_disable(tx, one, True, "down", NOW))
    db.transaction(lambda tx: tx.execute("disable_seen", hostname=one.hostname, now=NOW))


def test_a_segment_is_what_was_said_and_its_key_is_its_first_name(db: Database) -> None:
    segment = made(db, form=SegmentForm("okidoki", "rh_priority", "COMPUTE", "racks 1 and 2", enabled=False))
    assert (segment.number, segment.uuid, segment.cluster_port) == (1, OKIDOKI, "okidoki")
    assert (segment.recovery_method, segment.description, segment.enabled) == ("rh_priority", "racks 1 and 2", False)
    renamed = db.transaction(lambda tx: segments.change_segment(tx, segment, SegmentForm("new", "auto", "COMPUTE"), NOW))
    assert (renamed.name, renamed.cluster_port, renamed.updated_at) == ("new", "okidoki", NOW)
    again = made(db, OTHER)
    assert (again.number, again.name, again.cluster_port) == (2, "okidoki", OTHER)
    assert [segment.name for segment in db.read(segments.segments)] == ["new", "okidoki"]


def test_a_name_is_taken_once(db: Database) -> None:
    segment, other = made(db), made(db, OTHER, SegmentForm("other", "auto", "COMPUTE"))
    with pytest.raises(SegmentConflict, match="okidoki exists"):
        made(db, host_uuid(9))
    with pytest.raises(SegmentConflict, match="okidoki exists"):
        db.transaction(lambda tx: segments.change_segment(tx, other, FORM, NOW))
    registered(db, segment)
    with pytest.raises(SegmentConflict, match="compute1 is a host of segment okidoki"):
        registered(db, other, number=2)


def test_settings_of_a_cluster_of_2015_go_over_to_the_segment_named_like_it(db: Database) -> None:
    port = "226.94.1.1:5405"
    db.transaction(lambda tx: tx.execute("segment_add", cluster_port=port))
    db.transaction(lambda tx: tx.execute("segment_pause", cluster_port=port, paused_at=1.0, paused_until=None, paused_by="bob"))
    db.transaction(lambda tx: tx.execute("spare_add", create_at=None, cluster_port=port, hostname="spare1"))
    assert db.read(segments.segments) == []
    segment = made(db, form=SegmentForm(port, "reserved_host", "COMPUTE"))
    assert segment.cluster_port == port
    assert db.read(lambda tx: tx.one("segment_get", cluster_port=port) or {})["paused_by"] == "bob"
    assert look(db, "spare1").reserved and look(db, "spare1").segment_uuid == OKIDOKI


def test_a_reserved_host_is_a_spare_and_a_spare_is_reserved(db: Database) -> None:
    segment = made(db)
    host = registered(db, segment, reserved=True)
    assert host.reserved
    [spare] = db.read(lambda tx: hosts.free_spares(tx, "okidoki"))
    db.transaction(lambda tx: hosts.take_spare(tx, spare["id"], 7, NOW))
    assert not look(db).reserved
    form = HostForm("compute1", "COMPUTE", "SSH", reserved=True)
    assert db.transaction(lambda tx: segments.change_host(tx, now_is(tx), form, "bob", NOW)).reserved
    form = HostForm("compute1", "COMPUTE", "SSH")
    assert not db.transaction(lambda tx: segments.change_host(tx, now_is(tx), form, "bob", NOW)).reserved
    assert db.read(lambda tx: hosts.free_spares(tx, "okidoki")) == []


def test_a_spare_of_another_cluster_goes_over_with_its_host(db: Database) -> None:
    db.transaction(lambda tx: tx.execute("spare_add", create_at=None, cluster_port="226.94.1.1:5405", hostname="compute1"))
    assert registered(db, made(db)).reserved
    assert [row["hostname"] for row in db.read(lambda tx: hosts.free_spares(tx, "okidoki"))] == ["compute1"]


def test_a_spare_on_maintenance_is_not_used(db: Database) -> None:
    registered(db, made(db), reserved=True, on_maintenance=True)
    objection = db.read(lambda tx: hosts.spare_objection(tx, "compute1", NOW, 600.0, 15.0))
    assert objection == "it is on maintenance"


def test_a_host_that_is_disabled_for_a_failure_is_on_maintenance_until_it_is_back(db: Database) -> None:
    registered(db, made(db))
    failed = recovery(db)
    disabled(db, failed)
    host = look(db)
    assert host.on_maintenance and not host.said_maintenance and not host.ignored_because
    db.transaction(lambda tx: tx.execute("disable_clear", hostname="compute1", recovery_id=failed.id))
    assert not look(db).on_maintenance


def test_maintenance_said_to_be_over_brings_the_host_back(db: Database) -> None:
    registered(db, made(db))
    failed = recovery(db)
    disabled(db, failed)
    form = HostForm("compute1", "COMPUTE", "SSH", on_maintenance=False)
    with pytest.raises(SegmentConflict, match=f"busy with recovery {failed.id}"):
        db.transaction(lambda tx: segments.change_host(tx, now_is(tx), form, "operator:bob", NOW + 1))
    ended(db, failed)
    host = db.transaction(lambda tx: segments.change_host(tx, now_is(tx), form, "operator:bob", NOW + 1))
    assert not host.on_maintenance
    opened = db.read(lambda tx: store.active(tx, ["return:compute1"]))["return:compute1"]
    assert (opened.kind, opened.reason, opened.cluster_port) == ("return", "on_maintenance False", "okidoki")


def test_what_is_not_said_of_maintenance_stays_as_it_is(db: Database) -> None:
    registered(db, made(db), on_maintenance=True)
    form = HostForm("compute1", "COMPUTE", "other")
    host = db.transaction(lambda tx: segments.change_host(tx, now_is(tx), form, "bob", NOW))
    assert (host.control_attributes, host.said_maintenance) == ("other", True)


def serving(db: Database, spare: str) -> Recovery:
    """A recovery of another host that uses this one as its spare."""
    opened = recovery(db, name="compute9")

    def act(tx: Tx) -> None:
        claimed = store.claim(tx, opened.id, "controller", 60.0)
        assert claimed is not None
        store.save(tx, claimed, replace(claimed, target=spare), NOW, 0.0, None)

    db.transaction(act)
    return opened


@pytest.mark.parametrize("as_spare", [False, True])
def test_what_a_recovery_is_busy_with_is_locked_until_it_ended(db: Database, as_spare: bool) -> None:
    segment = made(db)
    registered(db, segment)
    busy = serving(db, "compute1") if as_spare else recovery(db)
    changes: list[Callable[[Tx], object]] = [
        lambda tx: segments.change_segment(tx, segment, FORM, NOW),
        lambda tx: segments.change_host(tx, now_is(tx), HostForm("compute1", "COMPUTE", "SSH"), "bob", NOW),
        lambda tx: segments.remove_host(tx, now_is(tx), NOW),
        lambda tx: segments.remove_segment(tx, segment, NOW),
    ]
    for change in changes:
        with pytest.raises(SegmentConflict, match=f"busy with recovery {busy.id}"):
            db.transaction(change)
    ended(db, busy)
    for change in changes:
        db.transaction(change)
    assert db.read(segments.segments) == [] and db.read(segments.all_hosts) == []


def test_a_segment_goes_with_its_hosts_and_spares(db: Database) -> None:
    segment = made(db)
    registered(db, segment, reserved=True)
    db.transaction(lambda tx: segments.remove_segment(tx, segment, NOW))
    assert db.read(segments.all_hosts) == []
    assert db.read(lambda tx: tx.one("spare_listed", hostname="compute1")) is None
    assert made(db, OTHER).cluster_port == "okidoki"


def test_members_are_those_registered_and_not_those_of_another_segment(db: Database) -> None:
    registered(db, made(db))
    assert db.read(lambda tx: hosts.members(tx, "okidoki", ())) == {"compute1"}
    assert db.read(lambda tx: hosts.members(tx, "226.94.1.1:5405", ("compute1", "compute2"))) == {"compute2"}


def test_names_keys_and_uuids_call_a_segment(db: Database) -> None:
    segment = made(db)
    db.transaction(lambda tx: segments.change_segment(tx, segment, SegmentForm("new", "auto", "COMPUTE"), NOW))
    found = db.read(lambda tx: [segments.key_of(tx, called) for called in ("okidoki", "new", OKIDOKI)])
    assert set(found) == {"okidoki"}
    assert db.read(lambda tx: segments.key_of(tx, "226.94.1.1:5405")) == "226.94.1.1:5405"


# Reports


def reported(db: Database, body: dict[str, Any]) -> tuple[str, str, str]:
    """What becomes of a report: its recovery's status and segment, and the reason."""
    [receipt] = accept(db, body)
    if receipt.recovery_id is None:
        return receipt.recovery_status or "ignored", "", receipt.reason
    found = db.read(lambda tx: store.get(tx, receipt.recovery_id or 0))
    assert found is not None
    return receipt.recovery_status, found.cluster_port, receipt.reason


FAILURES = {
    "host": Monitor("compute2").host_down("compute1"),
    "instance": Monitor("compute1").instance_down(host_uuid(7)),
    "process": Monitor("compute1").process_down("nova-compute"),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_registered_host_belongs_to_its_segment_whatever_the_report_names(db: Database, kind: str) -> None:
    registered(db, made(db))
    assert reported(db, FAILURES[kind])[:2] == ("new", "okidoki")


@pytest.mark.parametrize("kind", FAILURES)
def test_reports_about_a_host_on_maintenance_are_ignored(db: Database, kind: str) -> None:
    registered(db, made(db), on_maintenance=True)
    assert reported(db, FAILURES[kind])[::2] == ("ignored", "compute1 is on maintenance")


@pytest.mark.parametrize("kind", FAILURES)
def test_reports_about_a_host_of_a_disabled_segment_are_ignored(db: Database, kind: str) -> None:
    registered(db, made(db, form=replace(FORM, enabled=False)))
    assert reported(db, FAILURES[kind])[::2] == ("ignored", "segment okidoki is disabled")


def test_a_host_whose_process_failed_is_evacuated_all_the_same_when_it_dies(db: Database) -> None:
    registered(db, made(db))
    disabled(db, recovery(db, "process"))
    assert look(db).on_maintenance
    assert reported(db, FAILURES["host"])[:2] == ("new", "okidoki")


def test_of_a_registered_host_an_unsigned_report_is_not_superseded_while_it_is_on_maintenance(db: Database) -> None:
    held = db.transaction(
        lambda tx: store.add(tx, "host", "compute1", "okidoki", NOW, step="admit", status="held", hold="callback")
    )
    registered(db, made(db), on_maintenance=True)
    [receipt] = accept(db, FAILURES["host"])
    assert receipt.recovery_id == held


def test_hosts_that_failed_before_they_were_registered_count_among_the_failed_ones(db: Database) -> None:
    for number in (1, 2, 3):
        accept(db, Monitor("compute9").host_down(f"compute{number}", ""))
    segment = made(db)
    for number in range(1, 7):
        registered(db, segment, f"compute{number}", number)
    [receipt] = accept(db, Monitor("compute9").host_down("compute4", ""))
    assert receipt.recovery_status == "held" and receipt.reason.startswith("4 hosts failed")


# Returns, pauses, names


def returning(db: Database) -> Recovery | None:
    return db.read(lambda tx: store.active(tx, ["return:compute1"])).get("return:compute1")


def said(db: Database, on_maintenance: bool) -> Host:
    form = HostForm("compute1", "COMPUTE", "SSH", on_maintenance=on_maintenance)
    return db.transaction(lambda tx: segments.change_host(tx, now_is(tx), form, "operator:bob", NOW + 1))


def test_a_return_that_was_cancelled_is_asked_for_again_and_till_then_it_is_on_maintenance(db: Database) -> None:
    registered(db, made(db))
    failed = recovery(db)
    disabled(db, failed)
    ended(db, failed)
    assert not said(db, False).on_maintenance
    first = returning(db)
    assert first is not None
    ended(db, first)
    assert look(db).on_maintenance
    assert not said(db, False).on_maintenance
    assert returning(db) is not None


def test_maintenance_again_ends_the_return_and_a_return_locks_nothing(db: Database) -> None:
    segment = made(db)
    registered(db, segment)
    failed = recovery(db)
    disabled(db, failed)
    ended(db, failed)
    said(db, False)
    db.transaction(lambda tx: segments.change_segment(tx, segment, replace(FORM, enabled=False), NOW))
    assert said(db, True).on_maintenance
    opened = returning(db)
    assert opened is not None and opened.cancel_by == "operator:bob"


def test_a_disabled_host_keeps_its_name(db: Database) -> None:
    registered(db, made(db))
    failed = recovery(db)
    disabled(db, failed)
    ended(db, failed)
    form = HostForm("compute2", "COMPUTE", "SSH")
    with pytest.raises(SegmentConflict, match="bring it back first"):
        db.transaction(lambda tx: segments.change_host(tx, now_is(tx), form, "bob", NOW))


def test_a_host_that_takes_the_name_of_another_clusters_spare_takes_it_along(db: Database) -> None:
    registered(db, made(db))
    db.transaction(lambda tx: tx.execute("spare_add", create_at=None, cluster_port="226.94.1.1:5405", hostname="spare1"))
    form = HostForm("spare1", "COMPUTE", "SSH", reserved=True)
    assert db.transaction(lambda tx: segments.change_host(tx, now_is(tx), form, "bob", NOW)).reserved
    assert [row["hostname"] for row in db.read(lambda tx: hosts.free_spares(tx, "okidoki"))] == ["spare1"]


def test_a_pause_outlives_its_segment(db: Database) -> None:
    segment = made(db)
    db.transaction(
        lambda tx: tx.execute("segment_pause", cluster_port="okidoki", paused_at=NOW, paused_until=None, paused_by="bob")
    )
    db.transaction(lambda tx: segments.remove_segment(tx, segment, NOW))
    assert db.read(segments.segments) == []
    assert db.read(lambda tx: tx.one("segment_get", cluster_port="okidoki") or {})["paused_by"] == "bob"
    assert made(db, OTHER).cluster_port == "okidoki"


def test_a_segment_is_busy_with_a_recovery_of_a_host_that_is_not_registered(db: Database) -> None:
    segment = made(db)
    recovery(db, name="compute7")
    with pytest.raises(SegmentConflict, match="compute7"):
        db.transaction(lambda tx: segments.remove_segment(tx, segment, NOW))


def test_a_present_name_goes_before_a_former_one(db: Database) -> None:
    first = made(db)
    db.transaction(lambda tx: segments.change_segment(tx, first, SegmentForm("new", "auto", "COMPUTE"), NOW))
    made(db, OTHER)
    assert db.read(lambda tx: segments.key_of(tx, "okidoki")) == OTHER
    assert db.read(lambda tx: segments.key_of(tx, "new")) == "okidoki"


def test_what_is_made_again_after_a_lost_answer_is_what_was_made(db: Database) -> None:
    segment = made(db)
    assert made(db) == segment
    assert registered(db, segment) == registered(db, segment)
