"""Whose callbacks are believed, and about what."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any

import pytest

from masakari.common.errors import BadNotification
from masakari.common.notification import parse
from masakari.common.signature import authorise, sign, verify
from tests.unit.test_notification import HOST_DOWN, NOW, PROCESS_DOWN, VM_DOWN

BODY = b'{"id": "1"}'
SECRET = "a secret of some length"


@dataclass(frozen=True)
class Key:
    """As the keys file gives it."""

    host: str
    cluster_port: str = "226.94.1.1:5405"
    secret: str = SECRET


KEYS = {
    "k1": Key("compute-01"),
    "k2": Key("compute-02", secret="another secret, as long"),
    "k2-new": Key("compute-02", secret="the next secret, as long"),
    "k9": Key("compute-09", cluster_port="226.94.1.9:5405"),
}


def refused(header: str, body: bytes = BODY, now: float = NOW) -> str:
    """Why this header is refused."""
    with pytest.raises(BadNotification) as error:
        verify(header, body, KEYS, now)
    assert (error.value.status, error.value.field) == (401, "X-Masakari-Signature")
    assert SECRET not in str(error.value)
    return error.value.problem


def test_the_signature_is_as_documented() -> None:
    time = str(int(NOW))
    digest = hmac.new(SECRET.encode(), time.encode() + b"\n" + BODY, hashlib.sha256).hexdigest()
    assert sign("k1", SECRET, BODY, NOW + 0.9) == f"key=k1,time={time},hmac={digest}"


def test_what_was_signed_is_verified() -> None:
    assert verify(sign("k1", SECRET, BODY, NOW), BODY, KEYS, NOW) == ("k1", KEYS["k1"])


@pytest.mark.parametrize("key_id", ["k2", "k2-new"])
def test_both_keys_of_a_host_count_while_rotating(key_id: str) -> None:
    header = sign(key_id, KEYS[key_id].secret, BODY, NOW)
    assert verify(header, BODY, KEYS, NOW)[1].host == "compute-02"


def test_another_body_another_time_or_another_key_is_refused() -> None:
    header = sign("k1", SECRET, BODY, NOW)
    assert "does not match" in refused(header, BODY + b" ")
    assert "does not match" in refused(header.replace(f"time={int(NOW)}", f"time={int(NOW) + 1}"))
    assert "does not match" in refused(header.replace("key=k1", "key=k2"))
    assert "unknown key 'k3'" in refused(header.replace("key=k1", "key=k3"))


@pytest.mark.parametrize("difference_s", [-120, 0, 120])
def test_a_small_clock_difference_is_allowed(difference_s: int) -> None:
    assert verify(sign("k1", SECRET, BODY, NOW + difference_s), BODY, KEYS, NOW)


def test_a_larger_clock_difference_is_told_in_seconds() -> None:
    assert "signed 121 s ahead of the controller's clock" in refused(sign("k1", SECRET, BODY, NOW + 121))
    problem = refused(sign("k1", SECRET, BODY, NOW - 3600))
    assert "signed 3600 s behind" in problem
    assert "correct the clock of compute-01" in problem


def test_the_clock_difference_is_told_to_nobody_without_the_secret() -> None:
    assert "does not match" in refused(sign("k1", "guessed", BODY, NOW - 3600))


@pytest.mark.parametrize(
    "header",
    [
        "",
        "k1",
        "key=k1",
        "key=k1,time=x,hmac=" + "0" * 64,
        "key=k1,time=1,hmac=" + "0" * 63,
        "key=,time=1,hmac=" + "0" * 64,
        "key=k1,time=" + "9" * 5000 + ",hmac=" + "0" * 64,
        "key=k1,time=\u0661,hmac=" + "0" * 64,
        "key=k1,time=1,hmac=" + "é" * 64,
        ", ".join([sign("k1", SECRET, BODY, NOW)] * 2),
        sign("k1", SECRET, BODY, NOW) + "\n",
    ],
    ids=lambda header: repr(header[:24]),
)
def test_what_is_no_signature_is_refused(header: str) -> None:
    assert "must be key=" in refused(header)


def test_an_unprintable_key_id_is_shown_safely() -> None:
    assert "unknown key '\\xe9\\x9b'" in refused("key=é\x9b,time=1,hmac=" + "0" * 64)


def forbidden(fields: dict[str, Any], key_id: str) -> str:
    """The field that this key may not send."""
    with pytest.raises(BadNotification) as error:
        allow(fields, key_id)
    assert error.value.status == 403
    return error.value.field


def allow(fields: dict[str, Any], key_id: str) -> None:
    """Raise unless this key may send these fields."""
    authorise(parse(json.dumps(fields).encode(), NOW), KEYS[key_id], KEYS)


@pytest.mark.parametrize("report", [VM_DOWN, PROCESS_DOWN, {**HOST_DOWN, "type": "new"}], ids=["vm", "process", "new"])
def test_a_host_reports_its_own_instances_and_processes_only(report: dict[str, Any]) -> None:
    allow(report, "k1")
    assert forbidden(report, "k2") == "hostname"


def test_a_host_reports_hosts_of_its_own_cluster() -> None:
    allow(HOST_DOWN, "k1")
    allow(HOST_DOWN, "k2")
    assert forbidden(HOST_DOWN, "k9") == "cluster_port"


def test_a_host_is_not_moved_into_the_senders_cluster_by_a_claim() -> None:
    assert forbidden({**HOST_DOWN, "cluster_port": "226.94.1.9:5405"}, "k9") == "hostname"


def test_a_host_without_a_key_is_where_the_report_says() -> None:
    allow({**HOST_DOWN, "hostname": "compute-77"}, "k1")


def test_a_sign_of_life_may_come_from_the_host_or_its_cluster() -> None:
    alive = {**HOST_DOWN, "eventType": "1", "detail": "1"}
    allow(alive, "k1")
    allow(alive, "k2")
    assert forbidden(alive, "k9") == "cluster_port"


def test_nobody_reports_in_another_hosts_name() -> None:
    allow({**HOST_DOWN, "observer": "compute-02"}, "k2")
    assert forbidden({**HOST_DOWN, "observer": "compute-02"}, "k1") == "observer"
    assert forbidden({**VM_DOWN, "observer": "compute-02"}, "k1") == "observer"
