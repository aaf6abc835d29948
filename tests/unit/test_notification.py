"""What callbacks are accepted, and which field is named when one is not."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import pytest

from masakari.common.errors import BadNotification
from masakari.common.notification import Evidence, Notification, parse

NOW = datetime(2026, 11, 21, 3, 4, 5, tzinfo=timezone.utc).timestamp()
UUID = "6a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d"

HOST_DOWN = {
    "id": "c2f7b7a4-host",
    "type": "rscGroup",
    "regionID": "RegionOne",
    "hostname": "compute-01",
    "uuid": "",
    "time": "20261121120405",
    "eventID": "1",
    "eventType": "2",
    "detail": "2",
    "startTime": "20261121120400",
    "endTime": None,
    "tzname": "('JST', 'JST')",
    "daylight": "0",
    "cluster_port": "226.94.1.1:5405",
}
VM_DOWN = {
    "id": "c2f7b7a4-vm",
    "type": "VM",
    "regionID": "RegionOne",
    "hostname": "compute-01",
    "uuid": UUID,
    "time": "20261121120405",
    "eventID": "0",
    "eventType": "5",
    "detail": "5",
    "tzname": "('JST', 'JST')",
    "daylight": "0",
    "cluster_port": "226.94.1.1:5405",
}
PROCESS_DOWN = {**HOST_DOWN, "id": "c2f7b7a4-process", "type": "nodeStatus", "eventID": "2", "detail": "01"}
OURS = {
    "observer": "compute-02",
    "evidence": [{"kind": "power_off", "at": "2026-11-21T03:04:00Z", "detail": "chassis power is off"}],
    "utc_time": "2026-11-21T03:04:05.250Z",
    "last_alive": "2026-11-21T03:03:00+00:00",
}


def read(fields: Any, now: float = NOW) -> Notification:
    """Parse what a monitor would send for these fields."""
    return parse(json.dumps(fields).encode(), now)


def refusal(body: bytes) -> BadNotification:
    """The error for this body, which must be refused."""
    with pytest.raises(BadNotification) as refused:
        parse(body, NOW)
    assert refused.value.status == 400
    return refused.value


def field_refused(fields: Any) -> str:
    """The field named when these fields are sent."""
    return refusal(json.dumps(fields).encode()).field


def test_a_host_report_of_2015_is_read_as_sent() -> None:
    report = read(HOST_DOWN)
    assert (report.id, report.type, report.hostname) == ("c2f7b7a4-host", "rscGroup", "compute-01")
    assert (report.event_id, report.event_type, report.detail) == ("1", "2", "2")
    assert (report.start_time, report.end_time) == ("20261121120400", None)
    assert (report.time, report.tzname, report.daylight) == ("20261121120405", "('JST', 'JST')", "0")
    assert (report.region_id, report.cluster_port) == ("RegionOne", "226.94.1.1:5405")
    assert (report.observer, report.evidence, report.last_alive, report.boot_id) == ("", (), None, "")


def test_a_vm_report_needs_neither_start_nor_end() -> None:
    report = read(VM_DOWN)
    assert (report.uuid, report.start_time, report.end_time) == (UUID, None, None)


def test_a_vm_report_may_carry_start_and_end_all_the_same() -> None:
    report = read({**VM_DOWN, "startTime": "20261121120400", "endTime": "20261121120401"})
    assert (report.start_time, report.end_time) == ("20261121120400", "20261121120401")


@pytest.mark.parametrize("field", ["startTime", "endTime"])
@pytest.mark.parametrize("report", [HOST_DOWN, PROCESS_DOWN], ids=["host", "process"])
def test_other_reports_need_start_and_end(report: dict[str, Any], field: str) -> None:
    assert field_refused({name: report[name] for name in report if name != field}) == field


def test_only_the_end_may_be_null() -> None:
    assert field_refused({**HOST_DOWN, "startTime": None}) == "startTime"
    assert read({**VM_DOWN, "endTime": None}).end_time is None


def test_numbers_are_accepted_where_2015_monitors_send_them() -> None:
    report = read({**VM_DOWN, "eventID": 0, "eventType": 5, "detail": 5, "daylight": 0})
    assert (report.event_id, report.event_type, report.detail, report.daylight) == ("0", "5", "5", "0")


@pytest.mark.parametrize("field", sorted(set(HOST_DOWN) - {"eventID", "eventType", "detail", "daylight"}))
def test_numbers_are_refused_elsewhere(field: str) -> None:
    assert field_refused({**HOST_DOWN, field: 1}) == field


@pytest.mark.parametrize("value", [True, False, 1.5, 10**30, -(10**30), None, [], {}])
def test_what_is_no_number_is_refused_where_numbers_are_accepted(value: Any) -> None:
    assert field_refused({**HOST_DOWN, "eventID": value}) == "eventID"


@pytest.mark.parametrize("field", sorted(VM_DOWN))
@pytest.mark.parametrize("value", [None, True, [], {}, ["x"]], ids=repr)
def test_a_wrong_type_names_the_field(field: str, value: Any) -> None:
    assert field_refused({**VM_DOWN, field: value}) == field


@pytest.mark.parametrize("field", sorted(VM_DOWN))
def test_a_missing_key_is_named(field: str) -> None:
    assert field_refused({name: VM_DOWN[name] for name in VM_DOWN if name != field}) == field


@pytest.mark.parametrize("field", sorted(VM_DOWN))
def test_an_over_long_value_is_named(field: str) -> None:
    assert field_refused({**VM_DOWN, field: "1" * 256}) == field


@pytest.mark.parametrize("field", sorted(VM_DOWN))
@pytest.mark.parametrize("bad", ["\0", "\n", "\x7f", "\x85", "\u2028", "\ud800"], ids=ascii)
def test_control_characters_and_lone_surrogates_are_refused(field: str, bad: str) -> None:
    assert field_refused({**VM_DOWN, field: VM_DOWN[field] + bad}) == field


def test_values_of_255_characters_are_accepted() -> None:
    assert len(read({**VM_DOWN, "id": "x" * 255, "hostname": "h" * 255, "detail": "9" * 255}).id) == 255


@pytest.mark.parametrize("value", ["", " ", " a", "a ", "\u3000a"])
def test_an_id_has_no_blanks_at_its_ends(value: str) -> None:
    assert field_refused({**VM_DOWN, "id": value}) == "id"


@pytest.mark.parametrize("name", ["c1", "compute-01.rack_2.example.org", "10.0.0.5", "C--1", "_x"])
def test_host_names_are_accepted(name: str) -> None:
    assert read({**VM_DOWN, "hostname": name}).hostname == name


@pytest.mark.parametrize(
    "name",
    ["", " c1", "c1 ", "c 1", "c1.", ".c1", "c1..c2", "-c1", "c1-", "c1/c2", "c1;ls", "ç1", "c1\u0661", "%s"],
)
def test_what_is_no_host_name_is_refused(name: str) -> None:
    assert field_refused({**VM_DOWN, "hostname": name}) == "hostname"


@pytest.mark.parametrize("sent", [UUID, UUID.upper(), UUID.replace("-", ""), UUID.replace("-", "").upper()])
def test_a_uuid_is_brought_into_one_form(sent: str) -> None:
    assert read({**VM_DOWN, "uuid": sent}).uuid == UUID


@pytest.mark.parametrize("sent", ["", "x", UUID + "0", UUID[:-1] + "g", "{" + UUID + "}", UUID.replace("-", "", 1)])
def test_a_vm_report_needs_a_uuid(sent: str) -> None:
    assert field_refused({**VM_DOWN, "uuid": sent}) == "uuid"


def test_other_reports_may_carry_anything_as_uuid() -> None:
    assert read({**HOST_DOWN, "uuid": "none"}).uuid == "none"


@pytest.mark.parametrize("field", ["time", "startTime", "endTime"])
@pytest.mark.parametrize(
    "value",
    ["", "now", "2026112112040", "202611211204050", "20261321120405", "20260230120405", "20261121240000"],
)
def test_what_is_no_time_is_refused(field: str, value: str) -> None:
    assert field_refused({**HOST_DOWN, field: value}) == field


def test_a_time_may_be_as_far_ahead_as_zones_and_clocks_allow() -> None:
    assert read({**VM_DOWN, "time": "20261122050405"}).time == "20261122050405"
    refused = refusal(json.dumps({**VM_DOWN, "time": "20261122050406"}).encode())
    assert (refused.field, refused.problem) == ("time", "26 hours ahead of the controller's clock")


def test_an_old_time_is_no_reason_to_refuse() -> None:
    assert read({**VM_DOWN, "time": "20150101000000"}).time == "20150101000000"


def test_unknown_types_are_accepted_when_well_formed() -> None:
    assert read({**HOST_DOWN, "type": "somethingNew"}).type == "somethingNew"
    assert field_refused({**HOST_DOWN, "type": ""}) == "type"


def test_unknown_fields_are_kept_in_the_body() -> None:
    body = json.dumps({**VM_DOWN, "later": {"x": [1, None, True]}, "state": "no word of ours"}).encode()
    report = parse(body, NOW)
    assert report.body == body.decode()
    assert report.state == "down"


def test_what_our_monitors_add_is_read() -> None:
    report = read({**HOST_DOWN, **OURS})
    assert report.observer == "compute-02"
    assert report.evidence == (Evidence("power_off", NOW - 5, "chassis power is off"),)
    assert report.utc_time == NOW + 0.25
    assert report.last_alive == NOW - 65


GUID = "11223344-5566-7788-99aa-bbccddeeff00"


def test_what_a_host_tells_of_itself_is_read() -> None:
    report = read({**HOST_DOWN, "pacemaker_name": "node1.example", "bmc_guid": GUID.upper()})
    assert (report.pacemaker_name, report.bmc_guid) == ("node1.example", GUID)
    plain = read(HOST_DOWN)
    assert (plain.pacemaker_name, plain.bmc_guid) == ("", "")
    unknown = read({**HOST_DOWN, "pacemaker_name": "", "bmc_guid": ""})
    assert (unknown.pacemaker_name, unknown.bmc_guid) == ("", "")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pacemaker_name", "node 1"),
        ("pacemaker_name", 1),
        ("pacemaker_name", "n" * 256),
        ("bmc_guid", "my BMC"),
        ("bmc_guid", GUID[:-1]),
        ("bmc_guid", 1),
        ("bmc_guid", "-" * 70000),
    ],
)
def test_what_a_host_tells_of_itself_is_checked(field: str, value: Any) -> None:
    assert refusal(json.dumps({**HOST_DOWN, field: value}).encode()).field == field


def test_a_guid_that_any_bmc_could_have_says_nothing() -> None:
    assert read({**HOST_DOWN, "bmc_guid": "00000000-0000-0000-0000-000000000000"}).bmc_guid == ""


@pytest.mark.parametrize("kind", [VM_DOWN, PROCESS_DOWN])
def test_only_reports_about_hosts_tell_of_pacemaker_and_bmc(kind: dict[str, Any]) -> None:
    report = read({**kind, "pacemaker_name": "no host name!", "bmc_guid": 5})
    assert (report.pacemaker_name, report.bmc_guid) == ("", "")


@pytest.mark.parametrize("guid", [GUID, GUID.upper(), GUID.replace("-", "")])
def test_evidence_tells_the_guid_of_its_bmc(guid: str) -> None:
    [evidence] = read({**HOST_DOWN, "evidence": [{**OURS["evidence"][0], "guid": guid}]}).evidence
    assert evidence.guid == guid.lower()
    for nothing in ("", None):
        assert read({**HOST_DOWN, "evidence": [{**OURS["evidence"][0], "guid": nothing}]}).evidence[0].guid == ""


@pytest.mark.parametrize("field", ["observer", "evidence", "utc_time", "last_alive", "boot_id", "process"])
def test_null_is_as_good_as_absent_for_what_our_monitors_add(field: str) -> None:
    assert read({**PROCESS_DOWN, field: None}) == read({**PROCESS_DOWN, field: None})
    assert getattr(read({**PROCESS_DOWN, field: None}), field) in ("", (), None)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("observer", ""),
        ("observer", "a b"),
        ("observer", 5),
        ("evidence", {}),
        ("evidence", "power_off"),
        ("evidence", [None] * 17),
        ("utc_time", "20261121030405"),
        ("utc_time", 1795230245),
        ("last_alive", "2026-11-21T03:04:05"),
        ("last_alive", "2026-11-21T12:04:05+09:00"),
        ("last_alive", "2026-11-31T12:04:05Z"),
        ("last_alive", "2026-11-25T12:04:05Z"),
        ("boot_id", 5),
        ("boot_id", "x\0"),
        ("process", ["nova-compute"]),
        ("on_failure", "restart"),
        ("on_failure", ["disable"]),
        ("state", "sideways"),
    ],
)
def test_what_our_monitors_add_is_checked(field: str, value: Any) -> None:
    assert field_refused({**PROCESS_DOWN, field: value}) == field


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ("power_off", "evidence[0]"),
        (None, "evidence[0]"),
        ({}, "evidence[0].kind"),
        ({"kind": "attested", "at": "2026-11-21T03:04:00Z"}, "evidence[0].kind"),
        ({"kind": ["power_off"], "at": "2026-11-21T03:04:00Z"}, "evidence[0].kind"),
        ({"kind": "power_off"}, "evidence[0].at"),
        ({"kind": "power_off", "at": 1795230245}, "evidence[0].at"),
        ({"kind": "power_off", "at": "2026-11-21 03:04:00"}, "evidence[0].at"),
        ({"kind": "power_off", "at": "2026-11-21T03:04:00Z\n"}, "evidence[0].at"),
        ({"kind": "power_off", "at": "2027-11-21T03:04:00Z"}, "evidence[0].at"),
        ({"kind": "power_off", "at": "2026-11-21T03:04:00Z", "detail": 1}, "evidence[0].detail"),
        ({"kind": "power_off", "at": "2026-11-21T03:04:00Z", "guid": "my BMC"}, "evidence[0].guid"),
        ({"kind": "power_off", "at": "2026-11-21T03:04:00Z", "guid": 1}, "evidence[0].guid"),
        ({"kind": "power_off", "at": "2026-11-21T03:04:00Z", "detail": "x" * 256}, "evidence[0].detail"),
    ],
)
def test_evidence_that_isnt_one_is_refused(entry: Any, field: str) -> None:
    assert field_refused({**HOST_DOWN, "evidence": [entry]}) == field


def test_a_process_report_says_what_is_wanted() -> None:
    plain = read(PROCESS_DOWN)
    assert (plain.process, plain.on_failure, plain.state) == ("", "disable", "down")
    report = read({**PROCESS_DOWN, "process": "sshd", "on_failure": "report", "state": "up"})
    assert (report.process, report.on_failure, report.state) == ("sshd", "report", "up")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b"{}x",
        b"\xff",
        b'{"id": "\xc3"}',
        b"\xef\xbb\xbf{}",
        b'{"id": NaN}',
        b'{"id": -Infinity}',
        b'{"id": "\x00"}',
        b"[" * 60_000,
        b'{"a":' * 12_000,
        b'{"big": ' + b"9" * 60_000 + b"}",
        json.dumps(HOST_DOWN).encode("utf-16"),
    ],
    ids=lambda body: repr(body[:12]),
)
def test_what_is_no_json_object_is_refused_as_a_whole(body: bytes) -> None:
    assert refusal(body).field in ("body", "id", "type")


def test_a_key_given_twice_is_refused() -> None:
    body = json.dumps(HOST_DOWN).encode()
    assert refusal(body[:-1] + b', "detail": "3"}').field == "detail"


def test_nesting_is_bounded_and_the_field_named() -> None:
    deep: Any = "x"
    for _ in range(15):
        deep = [deep]
    assert read({**HOST_DOWN, "later": deep})
    assert field_refused({**HOST_DOWN, "later": [deep]}) == "later"
    assert field_refused({**HOST_DOWN, "later": {"x": deep}}) == "later"


def test_many_brackets_are_not_depth() -> None:
    assert read({**HOST_DOWN, "later": [[] for _ in range(1000)]})
