"""Reports as notifications: what each one says to OpenStack's instance-ha service, and what its answers and Keystone's mean."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from masakari.common import instance_ha
from masakari.common.clock import Clock
from masakari.common.errors import Unavailable
from masakari.common.notifications import Notifications
from masakari.common.openstack_conf import Api
from masakari.common.post import Answer
from masakari.common.poster import MALFORMED, REFUSED, TAKEN, UNANSWERED, Sent
from masakari.common.report import Origin, host_report, host_up_report, instance_report, process_report
from masakari.common.sign_in import SignIn

AT = 1_795_276_800.25  # 2026-11-21T16:00:00.250Z
ORIGIN = Origin("compute2", "RegionOne", "226.94.1.1:5405", "boot-1")
GUEST = "5a3d5b51-9a5a-4f2e-8f5e-0a3d9b1c7e11"
PASSWORD = "hunter2-hunter2"
API = Api(auth_url="http://keystone:5000", username="masakari", password=PASSWORD, project_name="service")
SERVICE = "http://ha:15868/v1"
PROOF = {"kind": "power_off", "at": "2026-11-21T15:59:58Z", "detail": "Chassis Power is off"}


def host_down(detail: str = "2") -> dict[str, Any]:
    return host_report(ORIGIN, "id-1", "compute1", "node1", detail, [PROOF], AT - 9, AT, "host is down")


def guest(event_id: str = "0", event_type: str = "5", detail: str = "5") -> dict[str, Any]:
    return instance_report(ORIGIN, "id-2", GUEST, (event_id, event_type, detail), AT, AT, "its QEMU process died")


def process(state: str = "down", on_failure: str = "disable") -> dict[str, Any]:
    return process_report(ORIGIN, "id-3", "nova-compute", state, on_failure, AT, "could not be restarted")


# What a report says as a notification


def sent_as(report: Mapping[str, Any]) -> dict[str, Any]:
    (only,) = instance_ha.notification(report).values()
    return dict(only)


@pytest.mark.parametrize(
    ("detail", "host_status"), [("2", "NORMAL"), ("3", "UNKNOWN"), ("4", "UNKNOWN")], ids=["proven", "on", "unknown"]
)
def test_a_failed_host(detail: str, host_status: str) -> None:
    report = host_down(detail)
    assert sent_as(report) == {
        "type": "COMPUTE_HOST",
        "hostname": "compute1",
        "generated_time": "2026-11-21T16:00:00.250000",
        "payload": {
            "event": "STOPPED",
            "host_status": host_status,
            "cluster_status": "OFFLINE",
            "masakari": report,
        },
    }


def test_a_host_that_is_up() -> None:
    note = sent_as(host_up_report(ORIGIN, "id-4", "compute2", "node2", AT, "up", "guid"))
    assert (note["type"], note["hostname"]) == ("COMPUTE_HOST", "compute2")
    kept = note["payload"].pop("masakari")
    assert note["payload"] == {"event": "STARTED", "host_status": "NORMAL", "cluster_status": "ONLINE"}
    assert (kept["boot_id"], kept["bmc_guid"]) == ("boot-1", "guid")


@pytest.mark.parametrize(
    ("numbers", "event", "vir_domain_event"),
    [
        (("0", "5", "5"), "LIFECYCLE", "STOPPED_FAILED"),
        (("0", "5", "2"), "LIFECYCLE", "STOPPED_CRASHED"),
        (("0", "5", "1"), "LIFECYCLE", "STOPPED_DESTROYED"),
        (("3", "1", "0"), "WATCHDOG", "WATCHDOG_PAUSE"),
        (("4", "1", "0"), "IO_ERROR", "IO_ERROR_PAUSE"),
    ],
)
def test_an_instance(numbers: tuple[str, str, str], event: str, vir_domain_event: str) -> None:
    note = sent_as(guest(*numbers))
    assert (note["type"], note["hostname"]) == ("VM", "compute2")
    del note["payload"]["masakari"]
    assert note["payload"] == {"event": event, "instance_uuid": GUEST, "vir_domain_event": vir_domain_event}


@pytest.mark.parametrize(("state", "event"), [("down", "STOPPED"), ("up", "STARTED")])
def test_a_process(state: str, event: str) -> None:
    note = sent_as(process(state))
    assert note["type"] == "PROCESS"
    del note["payload"]["masakari"]
    assert note["payload"] == {"event": event, "process_name": "nova-compute"}


def test_what_waited_in_the_spool_is_not_changed_by_being_sent() -> None:
    report = host_down()
    before = json.dumps(report)
    instance_ha.without_report(report)
    assert json.dumps(report) == before


# Where the service is


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://ha:15868/v1/0d4b3b1c", "http://ha:15868/v1/0d4b3b1c"),
        ("http://ha:15868/v1/", "http://ha:15868/v1"),
        ("http://ha:15868", "http://ha:15868/v1"),
        ("https://cloud.example/instance-ha", "https://cloud.example/instance-ha/v1"),
        ("https://cloud.example/instance-ha/v1", "https://cloud.example/instance-ha/v1"),
    ],
)
def test_every_form_of_the_address_in_the_catalog(url: str, base: str) -> None:
    assert instance_ha.endpoint(catalog(RegionOne=url), "", "public") == base


def catalog(**urls: str) -> list[dict[str, Any]]:
    """Of an instance-ha service with these public addresses, by region, and of another service."""
    endpoints = [
        {"interface": interface, "region": region, "url": url if interface == "public" else "http://elsewhere"}
        for region, url in urls.items()
        for interface in ("admin", "public", "internal")
    ]
    other = {"interface": "public", "region_id": "RegionOne", "url": "http://nova"}
    return [{"type": "compute", "endpoints": [other]}, {"type": "instance-ha", "endpoints": endpoints}]


def test_the_service_of_the_region_is_asked() -> None:
    two = catalog(North="http://north", South="http://south")
    assert instance_ha.endpoint(two, "South", "public") == "http://south/v1"
    with pytest.raises(Unavailable, match=r"in regions North, South; set region in \[api\]"):
        instance_ha.endpoint(two, "", "public")
    with pytest.raises(Unavailable, match=r"no public endpoint of type instance-ha in region East .* North, South"):
        instance_ha.endpoint(two, "East", "public")
    with pytest.raises(Unavailable, match=r"at all .*none"):
        instance_ha.endpoint(two[:1], "", "public")


# What the answers mean


class Time(Clock):
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.at = 1000.0

    def monotonic(self) -> float:
        return self.at


class Cloud:
    """Keystone, and an instance-ha service that answers what `answers` says, the last of them for ever."""

    def __init__(self, *answers: Answer | Unavailable) -> None:
        self.time = Time()
        self.answers = list(answers) or [accepted()]
        self.keystone: Answer | Unavailable | None = None
        self.lifetime_s = 3600
        self.signed_in = 0
        self.notes: list[dict[str, Any]] = []
        self.headers: list[Mapping[str, str]] = []
        self.trusted: set[str] = set()
        self._sign_in = SignIn(self.time, self.ask)

    def send(self, report: Mapping[str, Any], api: Api = API) -> Sent:
        return Notifications(self._sign_in, api, 5.0, self.ask).send(report)

    def ask(
        self, url: str, body: bytes, headers: Mapping[str, str], timeout_s: float, cafile: str, most_bytes: int
    ) -> Answer:
        self.trusted.add(cafile)
        if url == "http://keystone:5000/v3/auth/tokens":
            self.signed_in += 1
            found = self.keystone or self._token()
        else:
            assert url == f"{SERVICE}/notifications"
            self.notes.append(json.loads(body)["notification"])
            self.headers.append(headers)
            found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(found, Unavailable):
            raise found
        return found

    def _token(self) -> Answer:
        times = {"issued_at": "2026-11-21T16:00:00.000000Z", "expires_at": f"2026-11-21T{self._ends()}.000000Z"}
        body = {"token": {**times, "catalog": catalog(RegionOne=SERVICE)}}
        return Answer(201, json.dumps(body).encode(), {"x-subject-token": f"token-{self.signed_in}"})

    def _ends(self) -> str:
        minutes, seconds = divmod(self.lifetime_s, 60)
        return f"{16 + minutes // 60:02}:{minutes % 60:02}:{seconds:02}"


def accepted(**more: Any) -> Answer:
    note = {"notification_uuid": "0f1e", "status": "new", **more}
    return Answer(202, json.dumps({"notification": note}).encode())


def fault(status: int, message: str, name: str = "badRequest") -> Answer:
    return Answer(status, json.dumps({name: {"code": status, "message": message}}).encode())


def test_a_report_is_posted_with_the_token_and_the_version() -> None:
    cloud = Cloud()
    assert cloud.send(guest()) == Sent(TAKEN, answer={"reason": "notification 0f1e is new"})
    assert cloud.headers == [{"X-Auth-Token": "token-1", "OpenStack-API-Version": "instance-ha 1.0"}]


def test_what_our_controller_says_of_the_recovery_is_passed_on() -> None:
    cloud = Cloud(accepted(masakari={"recovery": 3, "status": "held"}))
    assert cloud.send(host_down()).answer == {"recovery": 3, "status": "held"}


@pytest.mark.parametrize(
    ("answer", "end", "why"),
    [
        (fault(400, "Invalid input for field/attribute hostname", "badRequest"), MALFORMED, "field/attribute hostname"),
        (fault(404, "Host compute1 could not be found", "itemNotFound"), MALFORMED, "compute1 could not be found"),
        (Answer(404, b"<html>no such page"), REFUSED, "no such page"),
        (fault(403, "Policy doesn't allow it", "forbidden"), REFUSED, "has no role that may create notifications"),
        (fault(413, "Over limit", "overLimit"), REFUSED, "Over limit"),
        (fault(500, "Unexpected API Error", "computeFault"), REFUSED, "Unexpected API Error"),
        (Answer(503, b""), REFUSED, "HTTP 503"),
        (Answer(202, b"<html>It works"), REFUSED, "It works"),
        (Answer(300, b'{"versions": []}'), REFUSED, "HTTP 300"),
        (Unavailable("http://ha: Connection refused"), UNANSWERED, "Connection refused"),
    ],
)
def test_what_the_service_does_not_take(answer: Answer | Unavailable, end: str, why: str) -> None:
    sent = Cloud(answer).send(guest())
    assert sent.end == end
    assert why in sent.why


def test_a_duplicate_is_delivered() -> None:
    sent = Cloud(fault(409, "Notification received from host compute2 is already there", "conflictingRequest")).send(
        guest()
    )
    assert sent.end == TAKEN
    assert "already there" in sent.answer["reason"] and "recovery" not in sent.answer


def test_a_service_that_knows_no_report_gets_the_notification_without(caplog: pytest.LogCaptureFixture) -> None:
    cloud = Cloud(fault(400, "Invalid input for field/attribute payload. ('masakari' was unexpected)"), accepted())
    assert cloud.send(host_down()).end == TAKEN
    assert [sorted(note["payload"]) for note in cloud.notes] == [
        ["cluster_status", "event", "host_status", "masakari"],
        ["cluster_status", "event", "host_status"],
    ]
    assert "of id-1 it gets neither evidence nor id" in caplog.text


@pytest.mark.parametrize(
    "report",
    [process(on_failure="report"), {**guest(), "libvirt_state": "running"}],
    ids=["only reported", "runs again"],
)
def test_a_service_that_knows_no_report_is_not_told_what_it_must_not_act_on(report: dict[str, Any]) -> None:
    cloud = Cloud(fault(400, "Invalid input for field/attribute payload."))
    sent = cloud.send(report)
    assert sent.end == TAKEN and "nothing is to be done" in sent.answer["reason"]
    assert len(cloud.notes) == 1


def test_a_guest_that_stays_off_is_told_to_every_service() -> None:
    cloud = Cloud(fault(400, "Invalid input for field/attribute payload."), accepted())
    assert cloud.send({**guest(), "libvirt_state": "shutoff"}).end == TAKEN
    assert len(cloud.notes) == 2


# Signing in


def test_one_sign_in_serves_until_shortly_before_the_token_expires() -> None:
    cloud = Cloud()
    cloud.lifetime_s = 600
    for _ in range(3):
        cloud.send(guest())
    cloud.time.at += 539
    cloud.send(guest())
    assert cloud.signed_in == 1
    cloud.time.at += 2
    cloud.send(guest())
    assert (cloud.signed_in, cloud.headers[-1]["X-Auth-Token"]) == (2, "token-2")


def test_a_token_that_is_refused_is_replaced_once_in_a_try() -> None:
    cloud = Cloud(Answer(401, b""), accepted())
    assert cloud.send(guest()).end == TAKEN
    assert [headers["X-Auth-Token"] for headers in cloud.headers] == ["token-1", "token-2"]
    cloud = Cloud(Answer(401, b"no"))
    assert cloud.send(guest()).end == REFUSED
    assert (len(cloud.headers), cloud.signed_in) == (2, 2)


def test_without_keystone_a_report_waits_and_a_token_that_is_still_good_goes_on() -> None:
    cloud = Cloud()
    cloud.keystone = Unavailable("http://keystone:5000: Connection refused")
    sent = cloud.send(guest())
    assert (sent.end, cloud.notes) == (UNANSWERED, [])
    assert sent.why == "signing in as masakari: http://keystone:5000: Connection refused"
    cloud.keystone = None
    assert cloud.send(guest()).end == TAKEN
    cloud.keystone = Unavailable("away")
    cloud.time.at += 3599
    assert cloud.send(guest()).end == TAKEN
    cloud.time.at += 2
    assert cloud.send(guest()).end == UNANSWERED


def test_a_refused_password_is_not_tried_again_at_once() -> None:
    """All nodes share the account, and Keystone may lock it."""
    cloud = Cloud()
    cloud.keystone = Answer(401, json.dumps({"error": {"code": 401, "message": f"not {PASSWORD}"}}).encode())
    for _ in range(5):
        sent = cloud.send(guest())
        assert (sent.end, sent.why) == (
            UNANSWERED,
            "signing in at http://keystone:5000/v3/auth/tokens as masakari: HTTP 401, not ***",
        )
    assert cloud.signed_in == 1
    cloud.time.at += 31
    cloud.send(guest())
    assert cloud.signed_in == 2
    cloud.keystone = None
    mended = Api(auth_url=API.auth_url, username="other", password=PASSWORD, project_name="service")
    assert cloud.send(guest(), mended).end == TAKEN, "other settings are tried at once"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Answer(201, b"{}"), "holds no token"),
        (Answer(201, b"<html>"), "holds no token"),
        (Answer(200, b'{"version": {}}'), "HTTP 200"),
        (Answer(503, b""), "HTTP 503"),
    ],
)
def test_whatever_else_answers_for_keystone_a_report_waits(answer: Answer, why: str) -> None:
    cloud = Cloud()
    cloud.keystone = answer
    sent = cloud.send(guest())
    assert sent.end == UNANSWERED and why in sent.why


def test_a_catalog_without_the_service_is_not_asked_for_at_once_again() -> None:
    cloud = Cloud()
    elsewhere = replace(API, region="East")
    for _ in range(3):
        sent = cloud.send(guest(), elsewhere)
        assert sent.end == UNANSWERED and "in region East (regions that have one: RegionOne)" in sent.why
    assert cloud.signed_in == 1


def test_keystone_and_the_service_must_both_be_of_the_authorities_that_are_trusted() -> None:
    cloud = Cloud()
    assert cloud.send(guest(), replace(API, cafile="/etc/ssl/cloud.pem")).end == TAKEN
    assert cloud.trusted == {"/etc/ssl/cloud.pem"}


def test_a_token_in_an_answer_gets_into_no_log() -> None:
    sent = Cloud(Answer(500, b"can't handle token-1")).send(guest())
    assert "can't handle ***" in sent.why
