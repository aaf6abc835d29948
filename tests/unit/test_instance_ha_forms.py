"""What clients of the instance-ha API may send: each field as it should be, missing, and wrong in every way."""

from __future__ import annotations

import json
from typing import Any

import pytest

from masakari.instance_ha import forms
from masakari.instance_ha.refusal import Refusal
from masakari.segments import HostForm, SegmentForm

NOTHING_ELSE = "application/json"
SEGMENT = {"name": "okidoki", "recovery_method": "auto", "service_type": "COMPUTE"}
HOST = {"name": "compute1", "type": "COMPUTE", "control_attributes": "SSH"}
NOTIFICATION = {
    "type": "COMPUTE_HOST",
    "hostname": "compute1",
    "generated_time": "2026-11-21T16:00:00.123456",
    "payload": {"event": "STOPPED"},
}
OLD_SEGMENT = SegmentForm("okidoki", "rh_priority", "COMPUTE", "racks 1 and 2", False)
OLD_HOST = HostForm("compute1", "COMPUTE", "SSH", True)
NO_TEXT: list[Any] = [None, 1, 1.5, True, [], {}, ["auto"], "", "x" * 1001, "a\nb", "a\x00", "\ud800", "a\u202eb"]
NO_NAME: list[Any] = [*NO_TEXT, " ", " a", "a ", "x" * 256]
NO_TRUTH: list[Any] = [None, "", "maybe", 2, -1, 1.0, [], {}, [True], "Truee", "ｔｒｕｅ"]
TRUTHS: list[tuple[Any, bool]] = [
    *((value, True) for value in (True, "True", "true", "TRUE", "yes", "on", "t", "y", "1", 1, " true ")),
    *((value, False) for value in (False, "False", "false", "FALSE", "no", "off", "f", "n", "0", 0)),
]


def field_of(call: Any, *arguments: Any) -> str:
    """The field that a refusal names."""
    with pytest.raises(Refusal) as refused:
        call(*arguments)
    assert refused.value.status == 400
    assert str(refused.value).startswith(refused.value.field)
    return refused.value.field


def segment(fields: Any, version: forms.Version = (1, 3), before: SegmentForm | None = None) -> SegmentForm:
    return forms.segment(fields, version, before)


# Bodies


def read(body: bytes, content_type: str = NOTHING_ELSE, member: str = "segment") -> Any:
    return forms.read(body, content_type, member)


@pytest.mark.parametrize("content_type", ["", "application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_a_body_is_one_wrapped_object(content_type: str) -> None:
    assert read(json.dumps({"segment": SEGMENT}).encode(), content_type) == SEGMENT


@pytest.mark.parametrize("content_type", ["application/xml", "text/plain", "application/x-www-form-urlencoded", "json"])
def test_another_content_type_is_refused(content_type: str) -> None:
    with pytest.raises(Refusal) as refused:
        read(b'{"segment": {}}', content_type)
    assert refused.value.status == 415


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"\xff\xfe", "body"),
        (b'{"segment": {"name": "\xff"}}', "body"),
        (b'{"segment": {"name": NaN}}', "body"),
        (b'{"segment": {"name": -Infinity}}', "body"),
        (b'{"segment": {"name": "a", "name": "b"}}', "body"),
        (b'{"segment": {}, "segment": {"name": "b"}}', "body"),
        (b'{"segment": ' + b"[" * 30000 + b"]" * 30000 + b"}", "body"),
        (b"[]", "segment"),
        (b"null", "segment"),
        (b"{}", "segment"),
        (b'{"segment": null}', "segment"),
        (b'{"segment": []}', "segment"),
        (b'{"segment": "okidoki"}', "segment"),
        (b'{"Segment": {}}', "segment"),
        (b'{"segment": {}, "host": {}}', "host"),
    ],
)
def test_a_body_that_is_none_is_refused(body: bytes, field: str) -> None:
    assert field_of(read, body) == field


# Segments


def test_a_segment_is_made_of_three_fields() -> None:
    assert segment(SEGMENT) == SegmentForm("okidoki", "auto", "COMPUTE", None, True)


@pytest.mark.parametrize("method", ["auto", "reserved_host", "auto_priority", "rh_priority"])
def test_each_recovery_method_is_taken(method: str) -> None:
    assert segment({**SEGMENT, "recovery_method": method}).recovery_method == method


@pytest.mark.parametrize("name", SEGMENT)
def test_a_segment_without_one_of_them_is_refused(name: str) -> None:
    assert field_of(segment, {key: value for key, value in SEGMENT.items() if key != name}) == name


@pytest.mark.parametrize("before", [None, OLD_SEGMENT])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("name", value) for value in [*NO_NAME, "*"]),
        *(("service_type", value) for value in NO_NAME),
        *(("recovery_method", value) for value in [*NO_TEXT, "AUTO", "auto ", "none"]),
        *(("description", value) for value in NO_TEXT if value not in (None, "")),
        *(("enabled", value) for value in NO_TRUTH),
        *((name, "x") for name in ("uuid", "id", "is_enabled", "cluster_port", "created_at")),
    ],
)
def test_a_field_of_a_segment_that_is_wrong_is_named(before: SegmentForm | None, name: str, value: Any) -> None:
    assert field_of(segment, {**SEGMENT, name: value}, (1, 3), before) == name


def test_a_name_may_be_as_long_as_a_column() -> None:
    assert segment({**SEGMENT, "name": "x" * 255, "description": "x" * 1000}).name == "x" * 255
    assert segment({**SEGMENT, "name": "räcks 1 🚀"}).name == "räcks 1 🚀"


@pytest.mark.parametrize(("version", "known"), [((1, 0), False), ((1, 1), False), ((1, 2), True), ((1, 3), True)])
def test_enabled_came_with_1_2(version: forms.Version, known: bool) -> None:
    if known:
        assert not segment({**SEGMENT, "enabled": False}, version).enabled
    else:
        assert field_of(segment, {**SEGMENT, "enabled": False}, version) == "enabled"
    assert segment(SEGMENT, version).enabled


@pytest.mark.parametrize(("value", "truth"), TRUTHS)
def test_truth_as_clients_write_it(value: Any, truth: bool) -> None:
    assert segment({**SEGMENT, "enabled": value}).enabled is truth
    host = forms.host({**HOST, "reserved": value, "on_maintenance": value})
    assert (host.reserved, host.on_maintenance) == (truth, truth)


@pytest.mark.parametrize(
    ("fields", "after"),
    [
        ({"name": "new"}, SegmentForm("new", "rh_priority", "COMPUTE", "racks 1 and 2", False)),
        ({"recovery_method": "auto"}, SegmentForm("okidoki", "auto", "COMPUTE", "racks 1 and 2", False)),
        ({"service_type": "x"}, SegmentForm("okidoki", "rh_priority", "x", "racks 1 and 2", False)),
        ({"description": None}, SegmentForm("okidoki", "rh_priority", "COMPUTE", None, False)),
        ({"description": ""}, SegmentForm("okidoki", "rh_priority", "COMPUTE", "", False)),
        ({"enabled": "True"}, SegmentForm("okidoki", "rh_priority", "COMPUTE", "racks 1 and 2", True)),
    ],
)
def test_a_change_leaves_what_it_does_not_name(fields: dict[str, Any], after: SegmentForm) -> None:
    assert segment(fields, before=OLD_SEGMENT) == after


def test_a_change_of_nothing_is_refused() -> None:
    assert field_of(segment, {}, (1, 3), OLD_SEGMENT) == "body"
    assert field_of(forms.host, {}, OLD_HOST) == "body"


# Hosts


def test_a_host_is_made_of_three_fields() -> None:
    assert forms.host(HOST) == HostForm("compute1", "COMPUTE", "SSH", False, None)


@pytest.mark.parametrize("name", HOST)
def test_a_host_without_one_of_them_is_refused(name: str) -> None:
    assert field_of(forms.host, {key: value for key, value in HOST.items() if key != name}) == name


@pytest.mark.parametrize("before", [None, OLD_HOST])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("name", value) for value in [*NO_NAME, "a b", "-a", "a-", "a/b", "a;b", "ä", "a%", "*"]),
        *(("type", value) for value in NO_NAME),
        *(("control_attributes", value) for value in NO_TEXT),
        *(("reserved", value) for value in NO_TRUTH),
        *(("on_maintenance", value) for value in NO_TRUTH),
        *((name, "x") for name in ("uuid", "id", "failover_segment_id", "hostname")),
    ],
)
def test_a_field_of_a_host_that_is_wrong_is_named(before: HostForm | None, name: str, value: Any) -> None:
    assert field_of(forms.host, {**HOST, name: value}, before) == name


@pytest.mark.parametrize(
    ("fields", "after"),
    [
        ({"name": "compute2.example.org"}, HostForm("compute2.example.org", "COMPUTE", "SSH", True)),
        ({"type": "x"}, HostForm("compute1", "x", "SSH", True)),
        ({"control_attributes": "x" * 1000}, HostForm("compute1", "COMPUTE", "x" * 1000, True)),
        ({"reserved": "False"}, HostForm("compute1", "COMPUTE", "SSH", False)),
        ({"on_maintenance": "False"}, HostForm("compute1", "COMPUTE", "SSH", True, False)),
    ],
)
def test_a_change_of_a_host_leaves_what_it_does_not_name(fields: dict[str, Any], after: HostForm) -> None:
    assert forms.host(fields, OLD_HOST) == after


# Notifications


def test_a_notification_keeps_what_was_said() -> None:
    form = forms.notification(NOTIFICATION)
    assert (form.type, form.hostname, form.payload) == ("COMPUTE_HOST", "compute1", {"event": "STOPPED"})
    assert form.generated_at == pytest.approx(1795276800.123456, abs=1e-6)


@pytest.mark.parametrize("name", NOTIFICATION)
def test_a_notification_without_one_of_its_fields_is_refused(name: str) -> None:
    assert field_of(forms.notification, {key: value for key, value in NOTIFICATION.items() if key != name}) == name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("type", value) for value in [*NO_TEXT, "HOST", "compute_host", "VM "]),
        *(("hostname", value) for value in NO_NAME),
        *(("generated_time", value) for value in NO_TEXT),
        *(("payload", value) for value in [None, {}, [], "x", 1, True, [{"event": "STOPPED"}], {"a": "x" * 16384}]),
        *((name, "x") for name in ("status", "source_host_uuid", "notification_uuid")),
    ],
)
def test_a_field_of_a_notification_that_is_wrong_is_named(name: str, value: Any) -> None:
    assert field_of(forms.notification, {**NOTIFICATION, name: value}) == name


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-11-21T16:00:00", 1795276800.0),
        ("2026-11-21 16:00:00", 1795276800.0),
        ("2026-11-21T16:00", 1795276800.0),
        ("2026-11-21T16:00:00Z", 1795276800.0),
        ("2026-11-21T16:00:00.5Z", 1795276800.5),
        ("2026-11-21T16:00:00.500000+00:00", 1795276800.5),
        ("2026-11-22T01:00:00+09:00", 1795276800.0),
        ("2026-11-22T01:00:00+0900", 1795276800.0),
        ("2026-11-21T08:00:00.250-08:00", 1795276800.25),
        (" 2026-11-21T16:00:00 ", 1795276800.0),
    ],
)
def test_times_with_and_without_a_zone(text: str, at: float) -> None:
    assert forms.moment(text, "generated_time") == at


@pytest.mark.parametrize(
    "text",
    [
        *("now", "2026-11-21", "16:00:00", "1795276800", "20261121160000", "2026-11-21T16", "2026-11-21T16:00:00+9"),
        *("2026-13-01T00:00:00", "2026-02-30T00:00:00", "2026-11-21T24:00:00", "2026-11-21T16:60:00", "2026-11-21T16:00:60"),
        *("0000-01-01T00:00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-11-21T16:00:00+25:00"),
        *("٢٠٢٦-11-21T16:00:00", "2026-11-21T16:00:00.1234567890", "2026-11-21T16:00:00;DROP TABLE"),
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    assert field_of(forms.moment, text, "generated_time") == "generated_time"
