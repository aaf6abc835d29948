"""Generated callbacks: never a 5xx, and only sound ones reach the intake."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from masakari.common.notification import EVIDENCE_KINDS, Notification
from masakari.common.signature import sign
from tests.unit.test_api import Controller, running
from tests.unit.test_notification import HOST_DOWN, NOW, OURS, PROCESS_DOWN, VM_DOWN
from tests.unit.test_signature import KEYS

REPORTS = [HOST_DOWN, VM_DOWN, PROCESS_DOWN, {**HOST_DOWN, **OURS}, {**PROCESS_DOWN, "state": "up"}]
FIELDS = sorted({*HOST_DOWN, *OURS, "boot_id", "process", "on_failure", "state", "later"})

AWKWARD: list[Any] = [
    *(None, True, 0, -1, 10**400, 1.5, 1e308, "", " ", "x" * 255, "x" * 256, "x" * 70_000),
    *("\0", "a\0b", "\ud800", "\u2028", "\u0661", "\U0001f4a5", "%s", "' OR 1=1 --", "../..", "-"),
    *("99991231235959", "00000000000000", "20261121030405", "2026-11-21T03:04:05Z", "0001-01-01T00:00:00Z"),
    *([], {}, [[]], {"kind": "power_off"}, [{"kind": "power_off", "at": "2026-11-21T03:04:00Z"}]),
    *([{"kind": "off", "at": 1}], "VM", "rscGroup", "nodeStatus", "6A1B2C3D4E5F4A6B8C7D9E0F1A2B3C4D"),
]

# Code points of every kind, lone surrogates too: json.dumps escapes them, so that they arrive.
text = st.text(st.characters(), max_size=12)
values = st.one_of(
    st.sampled_from(AWKWARD),
    text,
    st.integers(),
    st.floats(),
    st.recursive(
        st.none() | st.booleans() | text,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
        max_leaves=6,
    ),
)


@st.composite
def changed_reports(draw: st.DrawFn) -> bytes:
    """A good report with up to three fields replaced, added or left out; sometimes a key said twice."""
    report = dict(draw(st.sampled_from(REPORTS)))
    for name in draw(st.lists(st.sampled_from(FIELDS), max_size=3)):
        if draw(st.booleans()):
            report[name] = draw(values)
        else:
            report.pop(name, None)
    body = json.dumps(report).encode()
    if draw(st.integers(0, 9)) == 0:
        body = body[:-1] + b', "id": "again"}'
    return body


@st.composite
def damaged_reports(draw: st.DrawFn) -> bytes:
    """The bytes of a good report, cut off, or with some of them replaced."""
    body = json.dumps(draw(st.sampled_from(REPORTS))).encode()
    start = draw(st.integers(0, len(body)))
    if draw(st.booleans()):
        return body[:start]
    return body[:start] + draw(st.binary(max_size=4)) + body[start + draw(st.integers(0, 4)) :]


@st.composite
def deep_bodies(draw: st.DrawFn) -> bytes:
    """Brackets within brackets, alone or within a good report."""
    depth = draw(st.sampled_from([1, 14, 15, 16, 17, 1000, 30_000]))
    deep = b"[" * depth + b"]" * (depth if draw(st.booleans()) else 0)
    return json.dumps(HOST_DOWN).encode()[:-1] + b', "later": ' + deep + b"}" if draw(st.booleans()) else deep


bodies = st.one_of(
    changed_reports(),
    changed_reports(),
    damaged_reports(),
    deep_bodies(),
    st.binary(max_size=64),
    values.map(lambda value: json.dumps(value).encode()),
)
signatures = st.one_of(
    st.none(),
    st.sampled_from(sorted(KEYS)),
    st.text(st.characters(max_codepoint=255), max_size=40).map(lambda header: "=" + header),
)


def generated(cases: int) -> settings:
    """The same cases in every run, so that a failure is a failure for everybody."""
    return settings(
        max_examples=cases,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def header_of(signature: str | None, body: bytes) -> str | None:
    """A key id signs the body; anything else is sent as it is."""
    if signature in KEYS:
        return sign(signature, KEYS[signature].secret, body, NOW)
    return signature


def check_sound(notification: Notification) -> None:
    """What the rest of the program relies on."""
    for name in Notification.__dataclass_fields__:
        value = getattr(notification, name)
        if isinstance(value, str) and name != "body":
            assert len(value) <= 255, name
            assert value.isprintable(), name
    assert notification.id
    assert notification.hostname
    assert notification.id == notification.id.strip()
    assert len(notification.body.encode()) <= 65536
    assert {evidence.kind for evidence in notification.evidence} <= set(EVIDENCE_KINDS)
    assert notification.on_failure in ("disable", "report")
    assert notification.state in ("down", "up")


@pytest.fixture(autouse=True)
def quiet() -> Any:
    """Thousands of refusals would only fill the report."""
    log = logging.getLogger("masakari.api")
    log.setLevel(logging.ERROR)
    yield
    log.setLevel(logging.NOTSET)


def test_no_callback_is_a_server_error_and_no_refused_one_is_handed_on() -> None:
    controllers = {mode: Controller(mode) for mode in ("signed", "hold", "open")}
    seen = {200: 0, 400: 0, 401: 0, 403: 0, 413: 0}

    @generated(2_000)
    @given(bodies, signatures, st.sampled_from(["open", "open", "hold", "signed"]))
    def check(body: bytes, signature: str | None, mode: str) -> None:
        controller = controllers[mode]
        controller.intake.submitted.clear()
        status, answer = controller.post(body, header_of(signature, body))
        assert status in seen, answer
        seen[status] += 1
        if status == 200:
            [(notification, trusted, key_id, _)] = controller.intake.submitted
            check_sound(notification)
            assert trusted == (mode != "hold" or key_id is not None)
            assert mode != "signed" or key_id is not None
        else:
            assert controller.intake.submitted == []
            assert answer["error"]
            assert answer["field"]

    check()
    assert sum(seen.values()) >= 2_000
    assert min(seen.values()) > 2, f"the cases must reach every answer: {seen}"


def test_the_same_over_http() -> None:
    controller = Controller("open")
    with running(controller) as server, requests.Session() as session:
        url = f"http://127.0.0.1:{server.port}/"

        @generated(300)
        @given(bodies)
        def check(body: bytes) -> None:
            controller.intake.submitted.clear()
            answer = session.post(url, data=body, timeout=10)
            assert answer.status_code in (200, 400, 413)
            assert len(controller.intake.submitted) == (answer.status_code == 200)
            assert answer.status_code == 200 or answer.json()["field"]

        check()
