from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import requests

from masakari.keystone import CloudSettings, Keystone, SignInFailed, Token

from .cloud_wire import (
    CATALOG,
    KEYSTONE,
    NOVA,
    Answer,
    Asked,
    StepClock,
    Wire,
    endpoint,
    keystone_error,
    signed_in,
)

SIGN_IN = "/v3/auth/tokens"


@pytest.fixture
def wire() -> Wire:
    wire = Wire()
    wire.on("POST", SIGN_IN, signed_in("token-1"), signed_in("token-2"))
    return wire


@pytest.fixture
def clock() -> StepClock:
    return StepClock()


def settings(**changes: Any) -> CloudSettings:
    given = {
        "auth_url": KEYSTONE,
        "admin_user": "masakari",
        "admin_password": "sesame",
        "project_name": "service",
        **changes,
    }
    return CloudSettings(**given)


def keystone(wire: Wire, clock: StepClock, **changes: Any) -> Keystone:
    return Keystone(settings(**changes), clock, session_factory=wire.session)


# Who signs in, and where.


def test_a_password_signs_in_to_the_project(wire: Wire, clock: StepClock) -> None:
    token = keystone(wire, clock).token()
    assert (token.value, token.compute_url) == ("token-1", NOVA)
    [asked] = wire.asked
    assert asked.body == {
        "auth": {
            "identity": {
                "methods": ["password"],
                "password": {"user": {"name": "masakari", "password": "sesame", "domain": {"name": "Default"}}},
            },
            "scope": {"project": {"name": "service", "domain": {"name": "Default"}}},
        }
    }
    assert asked.timeout_s == (3.0, 10.0)


def test_an_application_credential_signs_in_without_a_scope(wire: Wire, clock: StepClock) -> None:
    keystone(wire, clock, application_credential_id="c1", application_credential_secret="secret").token()
    assert wire.asked[0].body == {
        "auth": {
            "identity": {
                "methods": ["application_credential"],
                "application_credential": {"id": "c1", "secret": "secret"},
            }
        }
    }


@pytest.mark.parametrize(
    ("changes", "user_domain", "project_domain"),
    [
        ({"domain": "cloud"}, {"name": "cloud"}, {"name": "cloud"}),
        ({"user_domain_name": "u", "project_domain_name": "p"}, {"name": "u"}, {"name": "p"}),
        ({"user_domain_id": "1", "project_domain_id": "2"}, {"id": "1"}, {"id": "2"}),
        ({"user_domain_id": "1", "user_domain_name": "u"}, {"id": "1"}, {"name": "Default"}),
    ],
)
def test_domains_are_given_by_name_or_by_id(
    wire: Wire, clock: StepClock, changes: dict[str, str], user_domain: Any, project_domain: Any
) -> None:
    keystone(wire, clock, **changes).token()
    auth = wire.asked[0].body["auth"]
    assert auth["identity"]["password"]["user"]["domain"] == user_domain
    assert auth["scope"]["project"]["domain"] == project_domain


@pytest.mark.parametrize("path", ["", "/", "/v3", "/v3/", "/identity", "/identity/v3"])
def test_the_address_may_have_v3_or_not(wire: Wire, clock: StepClock, path: str) -> None:
    keystone(wire, clock, auth_url=KEYSTONE + path).token()
    prefix = path.removesuffix("/").removesuffix("/v3")
    assert wire.asked[0].url == f"{KEYSTONE}{prefix}/v3/auth/tokens"


# Where Nova is.


def compute(*endpoints: dict[str, str]) -> Answer:
    return signed_in(catalog=[{"type": "compute", "name": "nova", "endpoints": list(endpoints)}])


@pytest.mark.parametrize("interface", ["public", "internal", "admin"])
@pytest.mark.parametrize("backwards", [False, True])
def test_the_endpoint_is_found_in_any_order(clock: StepClock, interface: str, backwards: bool) -> None:
    kinds = ["admin", "public", "internal"]
    endpoints = [
        endpoint(f"http://{kind}.{region}/v2.1/", region, kind) for region in ("north", "south") for kind in kinds
    ]
    wire = Wire()
    wire.on("POST", SIGN_IN, compute(*(reversed(endpoints) if backwards else endpoints)))
    token = keystone(wire, clock, region="south", interface=interface).token()
    assert token.compute_url == f"http://{interface}.south/v2.1"


def test_several_regions_and_none_chosen_is_no_game_of_chance(clock: StepClock) -> None:
    wire = Wire()
    wire.on("POST", SIGN_IN, compute(endpoint("http://s", "south"), endpoint("http://n", "north")))
    with pytest.raises(SignInFailed, match="regions north, south; set region"):
        keystone(wire, clock).token()


@pytest.mark.parametrize(
    ("answer", "changes"),
    [
        (signed_in(catalog=CATALOG), {"region": "elsewhere"}),
        (signed_in(catalog=CATALOG), {"interface": "admin"}),
        (signed_in(catalog=CATALOG[:1]), {}),
        (signed_in(catalog=None), {}),
    ],
)
def test_a_missing_endpoint_is_named(clock: StepClock, answer: Answer, changes: dict[str, str]) -> None:
    wire = Wire()
    wire.on("POST", SIGN_IN, answer)
    with pytest.raises(SignInFailed, match=r"the catalog has no .* endpoint of type compute"):
        keystone(wire, clock, **changes).token()


# How long a token is used.


def test_a_token_is_used_until_shortly_before_it_expires(wire: Wire, clock: StepClock) -> None:
    port = keystone(wire, clock)
    assert port.token().value == "token-1"
    clock.passed_s += 3539
    assert port.token().value == "token-1"
    clock.passed_s += 1
    assert port.token().value == "token-2"
    assert len(wire.asked) == 2


def test_a_short_lived_token_is_used_for_most_of_its_life(clock: StepClock) -> None:
    wire = Wire()
    wire.on("POST", SIGN_IN, signed_in("token-1", lifetime_s=60), signed_in("token-2"))
    port = keystone(wire, clock)
    port.token()
    clock.passed_s += 47
    assert port.token().value == "token-1"
    clock.passed_s += 1
    assert port.token().value == "token-2"


def test_a_token_is_used_to_its_end_while_keystone_is_away(clock: StepClock) -> None:
    wire = Wire()
    wire.on("POST", SIGN_IN, signed_in("token-1"), requests.ConnectTimeout())
    port = keystone(wire, clock)
    port.token()
    clock.passed_s += 3599
    assert at_once(port, 8) == ["token-1"] * 8
    assert len(wire.asked) == 2
    clock.passed_s += 1
    with pytest.raises(SignInFailed):
        port.token()


def test_a_refused_token_is_not_used_to_its_end(clock: StepClock) -> None:
    wire = Wire()
    wire.on("POST", SIGN_IN, signed_in("token-1"), requests.ConnectTimeout())
    port = keystone(wire, clock)
    with pytest.raises(SignInFailed):
        port.token(refused=port.token())


def test_a_refused_token_is_replaced_once_for_all(wire: Wire, clock: StepClock) -> None:
    port = keystone(wire, clock)
    old = port.token()
    assert port.token(refused=old).value == "token-2"
    assert port.token(refused=old).value == "token-2"
    assert len(wire.asked) == 2


def test_threads_that_come_at_once_sign_in_once(clock: StepClock) -> None:
    wire = Wire()

    def slowly(asked: Asked) -> Answer:
        time.sleep(0.05)
        return signed_in(f"token-{len(wire.asked)}")

    wire.on("POST", SIGN_IN, slowly)
    assert set(at_once(keystone(wire, clock), 32)) == {"token-1"}
    assert len(wire.asked) == 1


def at_once(port: Keystone, count: int) -> list[str]:
    """What threads get that all ask at the same moment: a token or the reason for none."""
    barrier, results = threading.Barrier(count), []

    def ask() -> None:
        barrier.wait()
        try:
            results.append(port.token().value)
        except SignInFailed as error:
            results.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


# When it fails.


def test_threads_share_a_failure_instead_of_queueing_for_it(clock: StepClock) -> None:
    wire = Wire()
    wire.on("POST", SIGN_IN, requests.ConnectTimeout())
    told = set(at_once(keystone(wire, clock), 32))
    account = f"signing in at {KEYSTONE}/v3/auth/tokens as user masakari, project service"
    assert told == {f"{account}: no connection within 3 s"}
    assert len(wire.asked) == 1


@pytest.mark.parametrize(
    ("failure", "not_asked_again_s"),
    [
        (requests.ReadTimeout(), 1),
        (Answer(503, b"<html>away</html>"), 1),
        (keystone_error(401, "The request you have made requires authentication."), 10),
        (keystone_error(404, "Could not find Application Credential: c1."), 10),
    ],
)
def test_a_failed_sign_in_is_tried_again_but_not_at_once(
    clock: StepClock, failure: Any, not_asked_again_s: int
) -> None:
    wire = Wire()
    wire.on("POST", SIGN_IN, failure, signed_in())
    port = keystone(wire, clock)
    for _ in range(2):
        with pytest.raises(SignInFailed):
            port.token()
    clock.passed_s += not_asked_again_s - 0.1
    with pytest.raises(SignInFailed):
        port.token()
    clock.passed_s += 0.1
    assert port.token().value == "token-1"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            keystone_error(401, "The request you have made requires authentication."),
            "HTTP 401: The request you",
        ),
        (Answer(404, b"<html><h1>Not Found</h1></html>"), "HTTP 404: Not Found"),
        (Answer(201, b"{}", {"X-Subject-Token": "t"}), "holds no token"),
        (
            Answer(201, {"token": {"issued_at": "", "expires_at": ""}}, {"X-Subject-Token": "t"}),
            "holds no token",
        ),
        (Answer(201, b"not JSON", {"X-Subject-Token": "t"}), "holds no token"),
        (Answer(201, {"token": {}}), "holds no token"),
    ],
)
def test_the_reason_is_told(clock: StepClock, answer: Answer, told: str) -> None:
    wire = Wire()
    wire.on("POST", SIGN_IN, answer)
    with pytest.raises(SignInFailed, match=told):
        keystone(wire, clock).token()


def test_secrets_are_never_told(wire: Wire, clock: StepClock) -> None:
    echo = keystone_error(400, "On instance: {'password': 'sesame'}, secret hush")
    wire.on("POST", SIGN_IN, signed_in("token-1"), echo)
    port = keystone(wire, clock, application_credential_secret="hush")
    token = port.token()
    with pytest.raises(SignInFailed) as failed:
        port.token(refused=token)
    told = f"{failed.value}{port.redact('token-1')}{settings()!r}{token!r}"
    for secret in ("sesame", "hush", "token-1"):
        assert secret not in told


def test_each_sign_in_is_observed(wire: Wire, clock: StepClock) -> None:
    seen: list[tuple[str, str]] = []
    wire.on("POST", SIGN_IN, requests.ReadTimeout(), signed_in())
    port = Keystone(settings(), clock, lambda call, result, seconds: seen.append((call, result)), wire.session)
    with pytest.raises(SignInFailed):
        port.token()
    clock.passed_s += 1
    assert isinstance(port.token(), Token)
    assert seen == [("sign_in", "timeout"), ("sign_in", "201")]
