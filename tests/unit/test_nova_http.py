"""How Nova is asked: versions, repeats, and what each end of a request means."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import requests

from masakari.common.errors import Conflict, MaybeSent, NotFound, Rejected, Unavailable

from .cloud_wire import (
    NOVA,
    REQUEST_ID,
    TAKEN,
    Answer,
    Asked,
    Cloud,
    endpoint,
    nova_error,
    signed_in,
    version_document,
)

UUID = "74a6d72f-a112-45f4-af67-6e8e458fd6b4"
ROOT = "/v2.1/"
SERVICES = "/v2.1/os-services"
ACTION = f"/v2.1/servers/{UUID}/action"
SERVICE_RECORD = {
    "binary": "nova-compute",
    "host": "compute1",
    "id": "3a5f654c-a89f-4efb-a526-dd1fb2721b7b",
    "status": "enabled",
    "state": "up",
    "updated_at": "2026-11-20T19:00:23.000000",
    "disabled_reason": None,
    "forced_down": False,
}


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


def services(*records: dict[str, Any]) -> Answer:
    return Answer(200, {"services": list(records)})


# Versions.


@pytest.mark.parametrize(
    ("newest", "agreed"),
    [
        ("", (2, 1)),
        ("2.1", (2, 1)),
        ("2.9", (2, 9)),
        ("2.11", (2, 11)),
        ("2.93", (2, 93)),
        ("2.100", (2, 93)),
        ("3.1", (2, 93)),
    ],
)
def test_the_version_is_the_newest_that_both_know_and_at_most_2_93(newest: str, agreed: tuple[int, int]) -> None:
    assert Cloud(newest).nova.microversion == agreed


def test_the_version_is_asked_once(cloud: Cloud) -> None:
    cloud.wire.on("GET", SERVICES, services())
    for _ in range(3):
        cloud.nova.services()
    assert len(cloud.wire.sent(ROOT)) == 1


def test_the_version_is_not_remembered_when_there_was_no_answer() -> None:
    cloud = Cloud(api_max_retry_cnt=1)
    cloud.wire.on("GET", ROOT, Answer(503), version_document("2.53"))
    with pytest.raises(Unavailable):
        _ = cloud.nova.microversion
    assert cloud.nova.microversion == (2, 53)


@pytest.mark.parametrize("suffix", ["", "/", "/83fde1e26673404097c7b57a2fb4d45b"])
def test_the_endpoint_may_end_in_a_slash_or_a_project(suffix: str) -> None:
    cloud = Cloud()
    catalog = [{"type": "compute", "endpoints": [endpoint(NOVA + suffix)]}]
    cloud.wire.on("POST", "/v3/auth/tokens", signed_in(catalog=catalog))
    cloud.wire.on("GET", "/os-services", services())
    cloud.nova.services()
    asked = [asked.url.partition("?")[0] for asked in cloud.wire.asked[1:]]
    assert asked == [f"{NOVA}/", f"{NOVA}{suffix.rstrip('/')}/os-services"]


def test_a_nova_that_is_too_new_is_not_guessed_at() -> None:
    cloud = Cloud(api_max_retry_cnt=1)
    cloud.wire.on("GET", ROOT, version_document("2.120", oldest="2.100"))
    with pytest.raises(Unavailable, match=r"speaks 2\.100 and newer"):
        cloud.nova.services()


def test_after_a_406_the_version_is_agreed_on_anew(cloud: Cloud) -> None:
    cloud.wire.on("GET", ROOT, version_document("2.93"), version_document("2.42"))
    cloud.wire.on("GET", SERVICES, nova_error(406, "computeFault", "Version 2.53 is not supported"), services())
    with pytest.raises(Rejected):
        cloud.nova.services()
    cloud.nova.services()
    assert [asked.version for asked in cloud.wire.sent(SERVICES)] == ["2.53", "2.42"]


def test_both_version_headers_and_the_token_are_sent(cloud: Cloud) -> None:
    cloud.wire.on("GET", SERVICES, services())
    cloud.nova.services()
    headers = cloud.wire.asked[-1].headers
    assert headers["OpenStack-API-Version"] == "compute 2.53"
    assert headers["X-OpenStack-Nova-API-Version"] == "2.53"
    assert headers["X-Auth-Token"] == "token-1"


# How an order ends.


@pytest.mark.parametrize(
    ("answer", "error", "told"),
    [
        (
            nova_error(400, "badRequest", "Compute service of compute1 is still in use."),
            Rejected,
            "still in use",
        ),
        (nova_error(403, "forbidden", "Policy doesn't allow it."), Rejected, "Policy"),
        (nova_error(404, "itemNotFound", "Compute host nowhere not found."), NotFound, "nowhere not found"),
        (nova_error(409, "conflictingRequest", "Cannot 'evacuate' instance"), Conflict, "Cannot 'evacuate'"),
        (
            Answer(
                404,
                {"message": "The resource could not be found.<br /><br />\n\n\n", "code": "404 Not Found"},
            ),
            NotFound,
            "The resource could not be found.$",
        ),
        (Answer(308, b"", {"Location": "https://elsewhere"}), Rejected, "HTTP 308"),
        (Answer(413, b""), Rejected, "no message"),
    ],
)
def test_a_clear_refusal_is_told_with_its_reason(
    cloud: Cloud, answer: Answer, error: type[Rejected], told: str
) -> None:
    cloud.wire.on("POST", ACTION, answer)
    with pytest.raises(Rejected, match=told) as refused:
        cloud.nova.evacuate(UUID, "compute3", True)
    assert type(refused.value) is error
    assert refused.value.status == answer.status
    assert refused.value.request_id == answer.headers.get("X-Openstack-Request-Id", "")
    assert UUID in str(refused.value)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (nova_error(500, "computeFault", "Unexpected API Error."), f"HTTP 500: Unexpected API.*{REQUEST_ID}"),
        (Answer(502, b"<html><body><h1>502 Bad Gateway</h1>"), "HTTP 502: 502 Bad Gateway"),
        (
            Answer(503, {"message": "The Keystone service is away", "code": "503 Service Unavailable"}),
            "Keystone",
        ),
        (requests.ReadTimeout(), "no answer within 10 s"),
        (requests.ConnectionError("('Connection aborted.', RemoteDisconnected())"), "the connection broke"),
        (requests.exceptions.ChunkedEncodingError("IncompleteRead(10 bytes read)"), "the connection broke"),
    ],
)
def test_an_order_without_a_clear_answer_may_have_been_carried_out(cloud: Cloud, answer: Any, told: str) -> None:
    cloud.wire.on("POST", ACTION, answer)
    with pytest.raises(MaybeSent, match=told):
        cloud.nova.evacuate(UUID, "compute3", True)
    assert len(cloud.wire.sent(ACTION)) == 1


def not_sent(cloud: Cloud) -> str:
    with pytest.raises(Unavailable) as failed:
        cloud.nova.stop(UUID)
    assert not isinstance(failed.value, MaybeSent)
    return str(failed.value)


def test_an_order_that_found_no_connection_was_surely_not_sent(cloud: Cloud) -> None:
    cloud.wire.on("POST", ACTION, requests.ConnectTimeout())
    assert "no connection within 3 s" in not_sent(cloud)


def test_an_order_for_which_nobody_could_sign_in_was_surely_not_sent(cloud: Cloud) -> None:
    cloud.wire.on("POST", "/v3/auth/tokens", Answer(401, {"error": {"code": 401, "message": "No."}}))
    assert "signing in" in not_sent(cloud)
    assert not cloud.wire.sent(ACTION)


def test_a_refused_token_is_renewed_and_the_order_given_again(cloud: Cloud) -> None:
    cloud.wire.on("POST", ACTION, Answer(401, {"error": {"code": 401, "message": "No."}}), TAKEN)
    assert cloud.nova.stop(UUID) == REQUEST_ID
    tokens = [asked.headers["X-Auth-Token"] for asked in cloud.wire.sent(ACTION)]
    assert tokens == ["token-1", "token-2"]


def test_a_new_token_refused_as_well_is_the_end_of_it(cloud: Cloud) -> None:
    cloud.wire.on("POST", ACTION, Answer(401, {"error": {"code": 401, "message": "No."}}))
    assert "even with a new token" in not_sent(cloud)
    assert len(cloud.wire.sent(ACTION)) == 2


def too_many(after: str) -> Answer:
    return Answer(429, {"overLimit": {"code": 429, "message": "slower"}}, {"Retry-After": after})


def test_an_order_that_came_too_often_is_given_again_when_nova_says(cloud: Cloud) -> None:
    date = "Fri, 20 Nov 2026 19:00:00 GMT"
    cloud.wire.on("POST", ACTION, too_many("7"), too_many(date), TAKEN)
    assert cloud.nova.stop(UUID) == REQUEST_ID
    assert cloud.clock.slept == [7, 1]


def test_nova_does_not_say_how_long_a_worker_sleeps() -> None:
    cloud = Cloud(api_max_retry_cnt=3, api_retry_interval_s=10)
    cloud.wire.on("POST", ACTION, too_many("86400"))
    assert "not done" in not_sent(cloud)
    assert cloud.clock.slept == [10, 10]


# How a question is repeated.


@pytest.mark.parametrize(
    "failure",
    [
        Answer(503, b""),
        too_many("1"),
        requests.ConnectTimeout(),
        requests.ReadTimeout(),
        requests.ConnectionError("reset"),
        Answer(200, b"half an ans"),
        Answer(200, b"[]"),
        Answer(200, b"{}"),
    ],
)
def test_a_question_is_repeated_until_it_is_answered(cloud: Cloud, failure: Any) -> None:
    cloud.wire.on("GET", SERVICES, failure, failure, services(SERVICE_RECORD))
    assert len(cloud.nova.services()) == 1
    assert cloud.clock.slept == [0.2, 0.4]


def test_a_question_is_given_up_after_the_number_of_tries() -> None:
    cloud = Cloud(api_max_retry_cnt=6, api_retry_interval_s=1)
    cloud.wire.on("GET", SERVICES, nova_error(500, "computeFault", "Unexpected API Error."))
    with pytest.raises(Unavailable, match=f"HTTP 500: Unexpected API Error.*{REQUEST_ID}"):
        cloud.nova.services()
    assert cloud.clock.slept == [0.2, 0.4, 0.8, 1, 1]


def test_a_question_that_takes_its_whole_time_is_not_repeated() -> None:
    cloud = Cloud(api_max_retry_cnt=6)

    def slowly(asked: Asked) -> Answer:
        cloud.clock.passed_s += 10
        raise requests.ReadTimeout

    cloud.wire.on("GET", SERVICES, slowly)
    with pytest.raises(Unavailable, match="no answer within 10 s"):
        cloud.nova.services()
    assert len(cloud.wire.sent(SERVICES)) == 2


def test_a_failed_sign_in_is_a_question_not_answered() -> None:
    cloud = Cloud(api_max_retry_cnt=4)
    cloud.wire.on("POST", "/v3/auth/tokens", requests.ConnectionError("reset"), signed_in())
    cloud.wire.on("GET", SERVICES, services(SERVICE_RECORD))
    assert len(cloud.nova.services()) == 1


# What is told about all this.


def test_each_call_is_observed_with_its_result(cloud: Cloud) -> None:
    cloud.wire.on("GET", SERVICES, Answer(503), services(SERVICE_RECORD))
    cloud.wire.on("POST", ACTION, requests.ReadTimeout())
    cloud.nova.services()
    with pytest.raises(MaybeSent):
        cloud.nova.evacuate(UUID, None, False)
    assert cloud.observed == [
        ("version", "200"),
        ("services", "503"),
        ("services", "200"),
        ("evacuate", "timeout"),
    ]


def test_secrets_are_never_told(cloud: Cloud) -> None:
    cloud.wire.on("POST", ACTION, nova_error(400, "badRequest", "you sent token-1 and sesame"))
    with pytest.raises(Rejected, match=r"you sent \*\*\* and \*\*\*"):
        cloud.nova.stop(UUID)


def test_many_threads_share_one_port() -> None:
    cloud = Cloud()
    cloud.wire.on(
        "POST",
        "/v2.1/servers/.*/action",
        lambda asked: Answer(202, b"", {"X-Openstack-Request-Id": asked.path}),
    )
    wrong: list[str] = []

    def work(number: int) -> None:
        for turn in range(8):
            uuid = f"{number}-{turn}"
            if f"/{uuid}/" not in cloud.nova.evacuate(uuid, None, False):
                wrong.append(uuid)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(cloud.wire.sent("/v3/auth/tokens")) == 1
