"""Between the dialects: what a notification means to the controller, and how a report is shown as one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from masakari.common import instance_ha as sender
from masakari.common import report as ours
from masakari.common.notification import Notification, parse
from masakari.common.report import Origin
from masakari.failures import HOST, IGNORED, INSTANCE, PROCESS, SIGN_OF_LIFE, classify
from masakari.instance_ha import forms, translate, views
from masakari.instance_ha.refusal import Refusal
from masakari.segments import Host, Segment
from tests.unit.test_notification import HOST_DOWN, VM_DOWN

NOW = 1_800_000_000.0
TOLD = "2027-01-15T08:00:00.123456"
NAME = "6e0b1f2c-1a0e-4a8d-9a55-0d6c3f8b2a10"
INSTANCE_UUID = "0a9d3b1c-7a41-4a9e-8a44-1c4b7be0f111"
HOST_UUID = "00000000-0000-4000-9000-000000000001"
SEGMENT_UUID = "00000000-0000-4000-8000-000000000001"
COMPUTE1 = Host(
    1, HOST_UUID, SEGMENT_UUID, "okidoki", True, "okidoki", "compute1", "COMPUTE", "SSH", False, False, False, NOW, None
)
STOPPED = {"event": "STOPPED", "cluster_status": "OFFLINE", "host_status": "NORMAL"}
GUEST = {"event": "LIFECYCLE", "instance_uuid": INSTANCE_UUID, "vir_domain_event": "STOPPED_FAILED"}
SERVICE = {"event": "STOPPED", "process_name": "nova-compute"}
PAYLOADS = {"COMPUTE_HOST": STOPPED, "VM": GUEST, "PROCESS": SERVICE}
OBSERVER = Origin("compute2", "RegionOne", "226.94.1.1:5405", "boot-7")


def form(kind: str, payload: dict[str, Any], told: str = TOLD, hostname: str = "compute1") -> forms.NotificationForm:
    return forms.notification({"type": kind, "hostname": hostname, "generated_time": told, "payload": payload})


def read(
    kind: str, payload: dict[str, Any], told: str = TOLD, host: Host | None = COMPUTE1, may_prove: bool = True
) -> Notification:
    hostname = host.name if host else "node1"
    return translate.as_callback(form(kind, payload, told, hostname), NAME, host, "admin", NOW, may_prove)


def field_of(
    kind: str, payload: dict[str, Any], told: str = TOLD, host: Host | None = COMPUTE1, may_prove: bool = True
) -> str:
    """The field that the refusal names."""
    with pytest.raises(Refusal) as refused:
        read(kind, payload, told, host, may_prove)
    assert refused.value.status == 400
    return refused.value.field


def meaning(kind: str, payload: dict[str, Any]) -> tuple[str, str]:
    """Which kind of failure it is, and the detail of 2015."""
    notification = read(kind, payload)
    return classify(notification).kind, notification.detail


# Payloads of OpenStack's monitors


@pytest.mark.parametrize(
    ("payload", "means"),
    [
        (STOPPED, (HOST, "2")),
        ({"event": "STOPPED", "cluster_status": "OFFLINE", "host_status": "UNKNOWN"}, (HOST, "4")),
        ({"event": "STOPPED", "cluster_status": "OFFLINE"}, (HOST, "4")),
        ({"event": "STOPPED"}, (HOST, "4")),
        ({"event": "STOPPED", "host_status": ""}, (HOST, "4")),
        ({"event": "STOPPED", "host_status": "NORMAL"}, (HOST, "2")),
        # Normal and in the cluster: that is no host that is off.
        ({"event": "STOPPED", "cluster_status": "ONLINE", "host_status": "NORMAL"}, (HOST, "4")),
        ({"event": "STARTED", "cluster_status": "ONLINE", "host_status": "NORMAL"}, (SIGN_OF_LIFE, "1")),
        ({"event": "STARTED"}, (SIGN_OF_LIFE, "1")),
        ({"event": "STARTED", "cluster_status": "OFFLINE", "host_status": "UNKNOWN"}, (SIGN_OF_LIFE, "1")),
        ({"event": "stopped", "cluster_status": "offline", "host_status": "normal"}, (HOST, "2")),
    ],
)
def test_a_host_that_stopped_or_started(payload: dict[str, str], means: tuple[str, str]) -> None:
    assert meaning("COMPUTE_HOST", payload) == means


def test_a_notification_proves_nothing_and_comes_from_nobody() -> None:
    notification = read("COMPUTE_HOST", STOPPED)
    assert (notification.evidence, notification.observer, notification.last_alive) == ((), "", None)
    assert (notification.hostname, notification.cluster_port, notification.id) == ("compute1", "okidoki", NAME)
    assert "host_status NORMAL, cluster_status OFFLINE" in classify(notification).reason


def test_the_moment_is_kept_to_the_microsecond() -> None:
    """What a user did earlier in the same second was before the failure."""
    assert read("VM", GUEST).utc_time == forms.moment(TOLD, "x") == NOW + 0.123456


@pytest.mark.parametrize(
    ("event", "detail", "means"),
    [
        ("LIFECYCLE", "STOPPED_FAILED", (INSTANCE, "5")),
        ("LIFECYCLE", "STOPPED_CRASHED", (INSTANCE, "2")),
        ("LIFECYCLE", "STOPPED_DESTROYED", (IGNORED, "1")),
        ("LIFECYCLE", "STOPPED_SHUTDOWN", (IGNORED, "0")),
        ("LIFECYCLE", "STOPPED_MIGRATED", (IGNORED, "0")),
        ("LIFECYCLE", "SHUTDOWN_FINISHED", (IGNORED, "0")),
        ("LIFECYCLE", "SUSPENDED_IOERROR", (IGNORED, "0")),
        ("LIFECYCLE", "UNKNOWN", (IGNORED, "0")),
        ("QEMU_GUEST_AGENT_ERROR", "STOPPED_FAILED", (INSTANCE, "2")),
        ("REBOOT", "UNKNOWN", (IGNORED, "0")),
        ("WATCHDOG", "WATCHDOG_RESET", (IGNORED, "0")),
        ("IO_ERROR", "IO_ERROR_STOP", (IGNORED, "0")),
        ("CONTROL_ERROR", "UNKNOWN", (IGNORED, "0")),
        ("SOMETHING_NEW", "STOPPED_FAILED", (IGNORED, "0")),
    ],
)
def test_an_instance_and_what_happened_to_it(event: str, detail: str, means: tuple[str, str]) -> None:
    payload = {"event": event, "instance_uuid": INSTANCE_UUID, "vir_domain_event": detail}
    assert meaning("VM", payload) == means
    notification = read("VM", payload)
    assert notification.uuid == INSTANCE_UUID
    assert event in classify(notification).reason


@pytest.mark.parametrize(("event", "state"), [("STOPPED", "down"), ("STARTED", "up"), ("started", "up")])
def test_a_process_that_stopped_or_started(event: str, state: str) -> None:
    notification = read("PROCESS", {"event": event, "process_name": "nova-compute"})
    assert classify(notification).kind == PROCESS
    assert (notification.process, notification.state, notification.on_failure) == ("nova-compute", state, "disable")


WRONG: list[Any] = [None, 1, True, [], {}, ["STOPPED"]]


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        *(("COMPUTE_HOST", "event", value) for value in [*WRONG, "", "CRASHED", "STOPPED "]),
        *(("COMPUTE_HOST", "host_status", value) for value in [*WRONG, "FENCED"]),
        *(("COMPUTE_HOST", "cluster_status", value) for value in [*WRONG, "AWAY"]),
        *(("VM", "instance_uuid", value) for value in [*WRONG, "", "vm1", INSTANCE_UUID[:-1], f"{INSTANCE_UUID} "]),
        *(("VM", "event", value) for value in [*WRONG, ""]),
        *(("VM", "vir_domain_event", value) for value in WRONG),
        *(("PROCESS", "event", value) for value in [*WRONG, "", "KILLED"]),
        *(("PROCESS", "process_name", value) for value in [*WRONG, "", "x" * 256, "a\nb"]),
    ],
)
def test_a_payload_that_is_wrong_names_the_field(kind: str, field: str, value: Any) -> None:
    assert field_of(kind, {**PAYLOADS[kind], field: value}) == f"payload.{field}"


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ("COMPUTE_HOST", "event"),
        ("VM", "event"),
        ("VM", "instance_uuid"),
        ("VM", "vir_domain_event"),
        ("PROCESS", "event"),
        ("PROCESS", "process_name"),
    ],
)
def test_a_payload_that_lacks_a_field_names_it(kind: str, field: str) -> None:
    payload = {name: value for name, value in PAYLOADS[kind].items() if name != field}
    assert field_of(kind, {**payload, "more": "x"}) == f"payload.{field}"


@pytest.mark.parametrize("kind", PAYLOADS)
@pytest.mark.parametrize("told", ["2027-01-16T12:00:00", "9999-12-31T23:59:59", "0001-01-01T00:00:00"])
def test_a_time_that_no_clock_can_show_is_refused(kind: str, told: str) -> None:
    assert field_of(kind, PAYLOADS[kind], told) == "generated_time"


def test_a_payload_that_is_too_deep_is_refused() -> None:
    deep: Any = "x"
    for _ in range(20):
        deep = [deep]
    assert field_of("PROCESS", {**SERVICE, "more": deep}) == "payload"
    assert field_of("PROCESS", {**SERVICE, "more": json.loads("1e999")}) == "payload"


def test_a_host_that_is_registered_nowhere_is_refused() -> None:
    assert field_of("COMPUTE_HOST", STOPPED, host=None) == "hostname"


# Payloads of our own monitors


def from_ours(body: dict[str, Any], host: Host | None = COMPUTE1, may_prove: bool = True) -> Notification:
    """What the controller makes of a report that a monitor of ours sends as a notification."""
    fields = sender.notification(body)["notification"]
    return translate.as_callback(forms.notification(fields), NAME, host, "monitor", NOW, may_prove)


HOST_REPORT = ours.host_report(
    OBSERVER,
    "report-1",
    "compute1",
    "node1",
    "2",
    [{"kind": "power_off", "at": "2027-01-15T07:59:59Z", "detail": "read back"}],
    NOW - 30,
    NOW,
    "it is off",
    "12",
)
REPORTS = {
    "host": HOST_REPORT,
    "host up": ours.host_up_report(OBSERVER, "report-2", "compute1", "node1", NOW, "it is back"),
    "instance": ours.instance_report(
        Origin("compute1", "", "okidoki", "b"), "report-3", INSTANCE_UUID, ("0", "5", "5"), NOW - 1, NOW, "QEMU died"
    ),
    "process": ours.process_report(
        Origin("compute1", "", "okidoki", "b"), "report-4", "nova-compute", "down", "report", NOW, "exit status 1"
    ),
    "process up": ours.process_report(
        Origin("compute1", "", "okidoki", "b"), "report-5", "nova-compute", "up", "disable", NOW, "runs again"
    ),
}


@pytest.mark.parametrize("name", REPORTS)
def test_our_own_monitors_are_understood_as_by_callback(name: str) -> None:
    body = REPORTS[name]
    told, direct = from_ours(body), parse(json.dumps(body).encode(), NOW)
    same = [key for key in direct.__slots__ if key != "body"]
    assert {key: getattr(told, key) for key in same} == {key: getattr(direct, key) for key in same}


@pytest.mark.parametrize("name", REPORTS)
def test_of_a_user_who_may_not_prove_the_meaning_is_taken_and_no_evidence(name: str) -> None:
    body = REPORTS[name]
    told, direct = from_ours(body, may_prove=False), parse(json.dumps(body).encode(), NOW)
    assert classify(told).kind == classify(direct).kind
    assert (told.process, told.uuid) == (direct.process, direct.uuid)
    # The name of a report that a host signs is not taken away from it; the same one again has the same name.
    assert told.id != direct.id and told.id == from_ours(body, may_prove=False).id
    assert (told.evidence, told.observer, told.boot_id, told.bmc_guid) == ((), "", "", "")


def test_what_has_less_done_is_believed_of_everybody() -> None:
    """A process that is only reported must not disable the host, and a late report must not open a second recovery."""
    assert from_ours(REPORTS["process"], may_prove=False).on_failure == "report"
    host = from_ours(HOST_REPORT, may_prove=False)
    assert (host.recovery, host.last_alive) == (12, NOW - 30)
    runs = {**REPORTS["instance"], "libvirt_state": "running"}
    assert classify(from_ours(runs, may_prove=False)).kind == IGNORED


def test_our_own_monitors_may_name_a_host_as_pacemaker_does_if_they_may_prove() -> None:
    """Who chooses the segment of a host chooses what counts there: detail 2 as proof, and how many hosts may fail."""
    body = {**HOST_REPORT, "hostname": "node1"}
    told = from_ours(body, None, may_prove=True)
    assert (told.hostname, told.cluster_port) == ("node1", "226.94.1.1:5405")
    with pytest.raises(Refusal) as caught:
        from_ours(body, None, may_prove=False)
    assert (caught.value.status, caught.value.field) == (400, "hostname")


@pytest.mark.parametrize("may_prove", [True, False])
@pytest.mark.parametrize(
    ("own", "field"),
    [
        *((own, "payload.masakari") for own in [*WRONG, {"type": "VM", "hostname": "compute1"}]),
        ({**HOST_REPORT, "hostname": "compute2"}, "payload.masakari"),
        ({**HOST_REPORT, "type": "nodeStatus"}, "payload.masakari"),
        ({**HOST_REPORT, "recovery": "x"}, "payload.masakari.recovery"),
    ],
)
def test_a_report_within_that_is_wrong_names_the_field(own: Any, field: str, may_prove: bool) -> None:
    assert field_of("COMPUTE_HOST", {**STOPPED, "masakari": own}, may_prove=may_prove) == field


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"id": ""}, "payload.masakari.id"),
        ({"evidence": "x"}, "payload.masakari.evidence"),
        ({"evidence": [{"kind": "power_off"}]}, "payload.masakari.evidence[0].at"),
        ({"utc_time": "2027-02-15T08:00:00Z"}, "payload.masakari.utc_time"),
        ({"observer": "a b"}, "payload.masakari.observer"),
    ],
)
def test_evidence_that_is_wrong_names_the_field(changes: dict[str, Any], field: str) -> None:
    own = {**HOST_REPORT, **changes}
    assert field_of("COMPUTE_HOST", {**STOPPED, "masakari": own}) == field
    assert read("COMPUTE_HOST", {**STOPPED, "masakari": own}, may_prove=False).evidence == ()


# As they are shown


def row(body: str | None, **fields: Any) -> dict[str, Any]:
    """A row as the statements give it."""
    return {
        "id": 7,
        "create_at": "2027-01-15 08:00:01",
        "update_at": "2027-01-15 08:00:01",
        "notification_id": NAME,
        "notification_type": "rscGroup",
        "notification_hostname": "compute1",
        "notification_uuid": "",
        "notification_eventType": "2",
        "notification_detail": "2",
        "progress": 0,
        "report_key": NAME,
        "outcome": "opened",
        "recovery_id": 1,
        "generated_at": NOW,
        "body": body,
        "key_id": "compute2",
        "recovery_hold": None,
        "recovery_status": "new",
        "recovery_kind": "host",
        **fields,
    }


UUIDS = {"compute1": HOST_UUID}
VM_ROW = {"notification_type": "VM", "notification_uuid": INSTANCE_UUID}


@pytest.mark.parametrize("kind", PAYLOADS)
def test_a_notification_is_shown_as_it_was_posted(kind: str) -> None:
    payload = {**PAYLOADS[kind], "more": [1, {"deep": None}]}
    stored = read(kind, payload)
    shown = translate.shown(row(stored.body, notification_type=stored.type, key_id="keystone:admin"), {})
    assert shown == {
        "id": 7,
        "notification_uuid": NAME,
        "type": kind,
        "status": "new",
        "source_host_uuid": HOST_UUID,
        "generated_time": TOLD,
        "payload": payload,
        "created_at": "2027-01-15T08:00:01.000000",
        "updated_at": None,
    }


def test_a_report_within_a_notification_is_not_shown() -> None:
    stored = from_ours(HOST_REPORT)
    assert translate.shown(row(stored.body, key_id="keystone:monitor"), UUIDS)["payload"] == STOPPED


def test_a_callback_that_says_it_was_posted_is_not_believed() -> None:
    lie = {**HOST_DOWN, "masakari": {"type": "VM", "payload": GUEST, "user": "admin", "source_host_uuid": "x"}}
    shown = translate.shown(row(json.dumps(lie)), UUIDS)
    assert (shown["type"], shown["payload"], shown["source_host_uuid"]) == ("COMPUTE_HOST", STOPPED, HOST_UUID)
    assert not translate.same(form("VM", GUEST), row(json.dumps(lie), key_id=None))


@pytest.mark.parametrize(
    ("fields", "kind", "payload"),
    [
        ({}, "COMPUTE_HOST", STOPPED),
        (
            {"notification_detail": "4"},
            "COMPUTE_HOST",
            {"event": "STOPPED", "cluster_status": "OFFLINE", "host_status": "UNKNOWN"},
        ),
        (
            {"notification_detail": "3"},
            "COMPUTE_HOST",
            {"event": "STOPPED", "cluster_status": "OFFLINE", "host_status": "UNKNOWN"},
        ),
        (
            {"notification_eventType": "1", "notification_detail": "1"},
            "COMPUTE_HOST",
            {"event": "STARTED", "cluster_status": "ONLINE", "host_status": "NORMAL"},
        ),
        (
            {**VM_ROW, "notification_eventType": "5", "notification_detail": "5", "body": json.dumps(VM_DOWN)},
            "VM",
            GUEST,
        ),
        (
            {**VM_ROW, "notification_eventType": "5", "notification_detail": "2"},
            "VM",
            {**GUEST, "vir_domain_event": "STOPPED_CRASHED"},
        ),
        (
            {**VM_ROW, "notification_eventType": "9", "notification_detail": "9"},
            "VM",
            {**GUEST, "vir_domain_event": "UNKNOWN"},
        ),
        ({"notification_type": "nodeStatus", "body": json.dumps(REPORTS["process"])}, "PROCESS", SERVICE),
        (
            {"notification_type": "nodeStatus", "body": json.dumps(REPORTS["process up"])},
            "PROCESS",
            {"event": "STARTED", "process_name": "nova-compute"},
        ),
        ({"notification_type": "nodeStatus"}, "PROCESS", {"event": "STOPPED", "process_name": "unknown"}),
    ],
)
def test_a_callback_is_shown_as_a_monitor_of_openstack_would_have_said_it(
    fields: dict[str, Any], kind: str, payload: dict[str, str]
) -> None:
    shown = translate.shown(row(fields.pop("body", None), **fields), UUIDS)
    assert (shown["type"], shown["payload"], shown["source_host_uuid"]) == (kind, payload, HOST_UUID)
    assert shown["generated_time"] == "2027-01-15T08:00:00.000000"


def test_a_row_of_2015_is_shown_with_what_it_has() -> None:
    old = row(None, report_key=None, generated_at=None, update_at=None, key_id=None, outcome=None, recovery_id=None, progress=2)
    shown = translate.shown(old, {})
    assert (shown["notification_uuid"], shown["source_host_uuid"]) == (NAME, None)
    assert (shown["generated_time"], shown["status"]) == ("2027-01-15T08:00:01.000000", "finished")
    assert (shown["created_at"], shown["updated_at"]) == ("2027-01-15T08:00:01.000000", None)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"progress": 0}, "new"),
        ({"progress": 1}, "running"),
        ({"progress": 1, "recovery_hold": "proof"}, "running"),
        ({"progress": 1, "recovery_hold": "internal"}, "error"),
        ({"progress": 2}, "finished"),
        ({"progress": 3}, "failed"),
        ({"progress": 3, "recovery_hold": "internal"}, "failed"),
        ({"progress": 4}, "ignored"),
        ({"progress": 4, "outcome": "noted"}, "finished"),
        ({"progress": None}, "ignored"),
    ],
)
def test_the_status_follows_the_progress(fields: dict[str, Any], status: str) -> None:
    assert translate.status(row(None, **fields)) == status


def test_the_same_means_type_and_payload() -> None:
    stored = row(read("COMPUTE_HOST", STOPPED).body, key_id="keystone:admin")
    assert translate.same(form("COMPUTE_HOST", STOPPED, "2027-01-15T09:00:00"), stored)
    assert not translate.same(form("COMPUTE_HOST", {**STOPPED, "host_status": "UNKNOWN"}), stored)
    assert not translate.same(form("PROCESS", STOPPED), stored)


# Details of a recovery


def event(step: str, what: str, at: float = NOW, reason: str = "") -> dict[str, Any]:
    return {"step": step, "what": what, "at": at, "reason": reason}


STORY = [
    event("", "host is down", reason="report 1"),
    event("prove", "proven"),
    event("evacuate", "asked"),
    event("evacuate", "done"),
]


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("new", "RUNNING"),
        ("running", "RUNNING"),
        ("held", "RUNNING"),
        ("finished", "SUCCESS"),
        ("ignored", "SUCCESS"),
        ("failed", "FAILURE"),
        ("cancelled", "FAILURE"),
    ],
)
def test_each_step_is_a_task_and_the_last_one_tells_how_it_ended(status: str, state: str) -> None:
    tasks = translate.details(STORY, status)
    assert [(task["name"], task["state"]) for task in tasks] == [
        ("intake", "SUCCESS"),
        ("prove", "SUCCESS"),
        ("evacuate", state),
    ]
    assert [task["progress"] for task in tasks] == [1.0, 1.0, 0.5 if state == "RUNNING" else 1.0]
    assert [len(task["progress_details"]) for task in tasks] == [1, 1, 2]
    assert tasks[0]["progress_details"][0] == {
        "timestamp": "2027-01-15 08:00:00.000000",
        "message": "host is down: report 1",
        "progress": 1.0,
    }


def test_a_recovery_that_went_back_is_at_the_step_it_went_back_to() -> None:
    tasks = translate.details([event("reserve", "a"), event("evacuate", "b"), event("reserve", "c")], "running")
    assert [(task["name"], task["state"]) for task in tasks] == [("reserve", "RUNNING"), ("evacuate", "SUCCESS")]


def test_before_work_began_there_are_no_tasks() -> None:
    assert translate.details([], "") == []


# Segments, hosts, moves


def test_a_segment_of_before_1_2_shows_no_enabled() -> None:
    one = Segment(3, SEGMENT_UUID, "okidoki", "key", "", "COMPUTE", None, False, NOW, None)
    old, new = views.segment(one, (1, 1), "reserved_host"), views.segment(one, (1, 2), "reserved_host")
    assert new == {**old, "enabled": False}
    assert (old["recovery_method"], old["created_at"], old["updated_at"]) == (
        "reserved_host",
        "2027-01-15T08:00:00.000000",
        None,
    )
    assert "cluster_port" not in new


def test_a_host_shows_its_segment() -> None:
    shown = views.host(COMPUTE1, {"uuid": SEGMENT_UUID})
    assert (shown["failover_segment_id"], shown["failover_segment"]) == (SEGMENT_UUID, {"uuid": SEGMENT_UUID})
    assert (shown["reserved"], shown["on_maintenance"], shown["updated_at"]) == (False, False, None)


MOVE = {
    "id": 5,
    "uuid": INSTANCE_UUID,
    "name": "vm1",
    "status": "running",
    "recover_to": None,
    "action_target": None,
    "reason": None,
    "create_at": "2027-01-15 08:00:00",
    "update_at": "2027-01-15 08:00:09",
    "finished_at": None,
}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"status": "new"}, ("pending", None, None)),
        ({"status": None}, ("pending", None, None)),
        ({"status": "running", "action_target": "compute2"}, ("ongoing", "compute2", None)),
        (
            {"status": "finished", "recover_to": "compute3", "action_target": "compute2", "finished_at": NOW + 9.5},
            ("succeeded", "compute3", "2027-01-15T08:00:09.500000"),
        ),
        ({"status": "failed"}, ("failed", None, "2027-01-15T08:00:09.000000")),
        ({"status": "skipped"}, ("ignored", None, "2027-01-15T08:00:09.000000")),
    ],
)
def test_a_move_and_its_end(fields: dict[str, Any], expected: tuple[Any, ...]) -> None:
    shown = views.move({**MOVE, **fields}, NAME, "compute1")
    assert (shown["status"], shown["dest_host"], shown["end_time"]) == expected
    assert (shown["instance_uuid"], shown["instance_name"], shown["source_host"]) == (INSTANCE_UUID, "vm1", "compute1")
    assert shown["uuid"] == views.move(MOVE, "another notification", "compute1")["uuid"]
    assert shown["uuid"] != views.move({**MOVE, "id": 6}, NAME, "compute1")["uuid"]
