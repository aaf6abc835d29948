"""--check-config --online of a monitor whose reports go as notifications: each way that the service may be out of reach."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from instancemonitor.config import Settings
from masakari.common.checkup import NOT_OK, OK, WARNING, Outcome
from masakari.common.clock import Clock
from masakari.common.errors import Unavailable
from masakari.common.openstack_conf import Api
from masakari.common.post import Answer
from masakari.common.service_check import checks, look
from masakari.common.sign_in import SignIn

API = Api(auth_url="http://keystone:5000", username="masakari", password="not-a-secret", project_name="service")
URL = "http://ha:15868/v1"
SEGMENTS = {"segments": [{"uuid": "s1", "name": "okidoki"}, {"uuid": "s2", "name": "other"}]}


def signed_in(*_: Any) -> Answer:
    endpoint = {"interface": "public", "region": "RegionOne", "url": URL}
    token = {
        "issued_at": "2026-11-21T16:00:00.000000Z",
        "expires_at": "2026-11-21T17:00:00.000000Z",
        "catalog": [{"type": "instance-ha", "endpoints": [endpoint]}],
    }
    return Answer(201, json.dumps({"token": token}).encode(), {"x-subject-token": "token-1"})


def looked(answers: Mapping[str, Answer | Unavailable], host: str = "compute1") -> list[Outcome]:
    """What is found when the service answers so, by path."""

    def get(url: str, headers: Mapping[str, str], timeout_s: float, cafile: str, most_bytes: int) -> Answer:
        assert headers["X-Auth-Token"] == "token-1"
        found = answers[url.removeprefix(URL)]
        if isinstance(found, Unavailable):
            raise found
        return found

    return list(look(API, host, 5.0, SignIn(Clock(), signed_in), get))


def listed(**content: Any) -> Answer:
    return Answer(200, json.dumps(content).encode())


@pytest.mark.parametrize(
    ("host", "state", "text"),
    [
        ("compute1", OK, "compute1 is registered in segment other"),
        ("compute9", WARNING, "compute9 is registered in none of its 2 segments"),
    ],
)
def test_whether_the_host_is_registered(host: str, state: str, text: str) -> None:
    answers = {
        "/segments": listed(**SEGMENTS),
        "/segments/s1/hosts": listed(hosts=[{"name": "compute10"}]),
        "/segments/s2/hosts": listed(hosts=[{"name": "compute1"}]),
    }
    keystone, service = looked(answers, host)
    assert (keystone.state, f"notifications go to {URL}" in keystone.text) == (OK, True)
    assert (service.state, text in service.text) == (state, True)


@pytest.mark.parametrize(
    ("answer", "state", "text"),
    [
        (Answer(403, b"{}"), OK, "may not list segments"),
        (Answer(401, b'{"error": {"message": "who?"}}'), NOT_OK, "HTTP 401, who?"),
        (Answer(404, b"<html>"), NOT_OK, "HTTP 404"),
        (listed(versions=[]), NOT_OK, "HTTP 200"),
        (Unavailable(f"{URL}: Connection refused"), NOT_OK, "Connection refused"),
    ],
)
def test_what_else_the_service_may_answer(answer: Answer | Unavailable, state: str, text: str) -> None:
    _, service = looked({"/segments": answer})
    assert (service.state, text in service.text) == (state, True)


def test_without_a_sign_in_nothing_more_is_asked() -> None:
    def refuse(*_: Any) -> Answer:
        return Answer(401, b'{"error": {"code": 401, "message": "The request you have made requires authentication."}}')

    (only,) = look(API, "compute1", 5.0, SignIn(Clock(), refuse))
    assert only.state == NOT_OK and "requires authentication" in only.text and only.advice


def test_a_monitor_that_sends_callbacks_has_none_of_these_checks() -> None:
    assert checks(Settings(), Clock()) == []
