"""Who calls the instance-ha API: what Keystone says of a token, how long that holds, and what happens without Keystone."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
import requests

from masakari.common.errors import Unavailable
from masakari.instance_ha import tokens
from masakari.instance_ha.tokens import Caller, Tokens, Unauthorised
from masakari.keystone import CloudSettings, Keystone
from tests.lab.mariadb import until
from tests.simcloud import SimulatedCloud, VirtualClock
from tests.simcloud.client import Api

from .cloud_wire import KEYSTONE, Answer, Asked, StepClock, Wire, keystone_error, signed_in

TOKENS = "/v3/auth/tokens"
EXPIRES = "2027-01-15T08:05:00.000000Z"  # 300 s after the StepClock's start
UNKNOWN = keystone_error(404, "Could not recognize Fernet token")


def told(roles: tuple[str, ...] = ("admin", "member"), **changes: Any) -> Answer:
    """What Keystone says of a token."""
    body: dict[str, Any] = {
        "user": {"id": "u1", "name": "operator", "domain": {"id": "default", "name": "Default"}},
        "project": {"id": "p1", "name": "admin", "domain": {"id": "default", "name": "Default"}},
        "roles": [{"id": role, "name": role} for role in roles],
        "expires_at": EXPIRES,
        **changes,
    }
    return Answer(200, {"token": {name: value for name, value in body.items() if value is not None}})


@pytest.fixture
def wire() -> Wire:
    wire = Wire()
    wire.on("POST", TOKENS, signed_in("ours-1"), signed_in("ours-2"))
    wire.on("GET", TOKENS, told())
    return wire


@pytest.fixture
def clock() -> StepClock:
    return StepClock()


def checker(wire: Wire, clock: StepClock, cache_s: float = 10) -> Tokens:
    settings = CloudSettings(auth_url=KEYSTONE, admin_user="masakari", admin_password="sesame", project_name="service")
    return Tokens(Keystone(settings, clock, session_factory=wire.session), settings, clock, cache_s)


def asked(wire: Wire) -> list[Asked]:
    return [one for one in wire.sent(TOKENS) if one.method == "GET"]


def in_threads(count: int, work: Callable[[int], object]) -> list[threading.Thread]:
    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    return threads


# What Keystone says


def test_keystone_is_asked_with_our_token_about_theirs_and_without_the_catalog(wire: Wire, clock: StepClock) -> None:
    caller = checker(wire, clock).check("theirs")
    assert caller == Caller("u1", "operator", "p1", "admin", frozenset({"admin", "member"}), clock.now() + 300)
    [question] = asked(wire)
    assert (question.headers["X-Auth-Token"], question.headers["X-Subject-Token"]) == ("ours-1", "theirs")
    assert question.url == f"{KEYSTONE}{TOKENS}?nocatalog"


@pytest.mark.parametrize("answer", [UNKNOWN, keystone_error(400, "too long"), told(project=None)])
def test_a_token_that_keystone_does_not_know_or_that_has_no_project_is_refused(
    wire: Wire, clock: StepClock, answer: Answer
) -> None:
    wire.on("GET", TOKENS, answer)
    with pytest.raises(Unauthorised):
        checker(wire, clock).check("theirs")


@pytest.mark.parametrize("token", ["", " ", "two words", "line\nbreak", "tökén", "x" * 4097, "ok\n"])
def test_what_can_not_be_a_token_is_refused_without_asking(wire: Wire, clock: StepClock, token: str) -> None:
    with pytest.raises(Unauthorised):
        checker(wire, clock).check(token)
    assert wire.asked == []


# How long it holds


def test_a_verdict_holds_for_the_cache_time_from_when_it_was_asked(wire: Wire, clock: StepClock) -> None:
    def slowly(_: Asked) -> Answer:
        clock.passed_s += 4
        return told()

    wire.on("GET", TOKENS, slowly, UNKNOWN)
    check = checker(wire, clock).check
    check("theirs")
    clock.passed_s = 9.9
    check("theirs")
    clock.passed_s = 10
    with pytest.raises(Unauthorised):
        check("theirs")
    assert len(asked(wire)) == 2


def test_a_refusal_holds_for_a_shorter_time(wire: Wire, clock: StepClock) -> None:
    wire.on("GET", TOKENS, UNKNOWN, told())
    check = checker(wire, clock).check
    for clock.passed_s in (0, 1.9):
        with pytest.raises(Unauthorised):
            check("theirs")
    assert len(asked(wire)) == 1
    clock.passed_s = 2
    assert check("theirs").user_name == "operator"


def test_a_verdict_holds_no_longer_than_the_token(wire: Wire, clock: StepClock) -> None:
    wire.on("GET", TOKENS, told(expires_at="2027-01-15T08:00:03.000000Z"), UNKNOWN)
    check = checker(wire, clock).check
    check("theirs")
    clock.passed_s = 3
    with pytest.raises(Unauthorised):
        check("theirs")


def test_a_clock_of_ours_that_is_ahead_of_keystone_refuses_nobody(wire: Wire, clock: StepClock) -> None:
    clock.passed_s = 7200
    check = checker(wire, clock).check
    check("theirs")
    check("theirs")
    assert len(asked(wire)) == 2


def test_without_a_cache_time_every_request_is_asked(wire: Wire, clock: StepClock) -> None:
    wire.on("GET", TOKENS, told(), UNKNOWN)
    check = checker(wire, clock, cache_s=0).check
    check("theirs")
    with pytest.raises(Unauthorised):
        check("theirs")


def test_verdicts_of_different_tokens_are_not_mixed_up(wire: Wire, clock: StepClock) -> None:
    def verdict(question: Asked) -> Answer:
        name = question.headers["X-Subject-Token"]
        return told(user={"id": name, "name": name})

    wire.on("GET", TOKENS, verdict)
    check = checker(wire, clock).check
    assert [check(name).user_id for name in ("a", "b", "a")] == ["a", "b", "a"]


def test_a_flood_of_invented_tokens_neither_grows_nor_pushes_out_a_good_one(
    wire: Wire, clock: StepClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "KEPT_MAX", 3)
    wire.on("GET", TOKENS, told(), UNKNOWN)
    check = checker(wire, clock).check
    check("theirs")
    for number in range(4):
        with pytest.raises(Unauthorised):
            check(f"invented-{number}")
    check("theirs")
    assert len(asked(wire)) == 5
    with pytest.raises(Unauthorised):
        check("invented-0")
    assert len(asked(wire)) == 6


# Many at once


def test_of_many_with_the_same_token_one_asks(wire: Wire, clock: StepClock) -> None:
    go = threading.Event()

    def slowly(_: Asked) -> Answer:
        assert go.wait(10)
        return told()

    wire.on("GET", TOKENS, slowly)
    check = checker(wire, clock).check
    callers: list[Caller] = []
    threads = in_threads(64, lambda _: callers.append(check("theirs")))
    until(lambda: len(asked(wire)) == 1, 10, lambda: "nobody asks")
    go.set()
    for thread in threads:
        thread.join(10)
    assert (len(callers), len(set(callers)), len(asked(wire))) == (64, 1, 1)


def test_who_comes_a_cache_time_after_a_slow_question_asks_anew(wire: Wire, clock: StepClock) -> None:
    go = threading.Event()

    def slowly(_: Asked) -> Answer:
        assert go.wait(10)
        return told()

    wire.on("GET", TOKENS, slowly, UNKNOWN)
    check = checker(wire, clock).check
    callers: list[Caller] = []
    [thread] = in_threads(1, lambda _: callers.append(check("theirs")))
    until(lambda: len(asked(wire)) == 1, 10, lambda: "nobody asks")
    clock.passed_s = 10
    with pytest.raises(Unauthorised):
        check("theirs")
    go.set()
    thread.join(10)
    assert len(callers) == 1
    with pytest.raises(Unauthorised):
        check("theirs")


def test_only_so_many_threads_wait_for_a_keystone_that_hangs(
    wire: Wire, clock: StepClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "PLACE_WAIT_S", 0.05)
    go = threading.Event()

    def hang(_: Asked) -> Answer:
        assert go.wait(10)
        return told()

    wire.on("GET", TOKENS, told(), hang)
    check = checker(wire, clock).check
    check("known")
    threads = in_threads(tokens.WAITING_MAX, lambda number: check(f"other-{number}"))
    until(lambda: len(asked(wire)) == 1 + tokens.WAITING_MAX, 10, lambda: "not all of them ask")
    with pytest.raises(Unavailable, match="other callers wait"):
        check("one-more")
    assert check("known").user_name == "operator"
    go.set()
    for thread in threads:
        thread.join(10)
    assert check("one-more").user_name == "operator"


# Without Keystone


AWAY = [
    requests.ConnectionError("broken"),
    requests.ReadTimeout(),
    keystone_error(500, "An unexpected error"),
    keystone_error(503, "The server is currently unavailable"),
    keystone_error(403, "You are not authorized to perform the requested action: identity:validate_token."),
    keystone_error(429, "Too many requests"),
    Answer(200, b"<html>maintenance</html>"),
    Answer(200, {"token": {"project": {}}}),
    Answer(200, {"token": None}),
    Answer(200, []),
    Answer(200, {"token": {"project": {}, "user": {}, "expires_at": "soon"}}),
]


@pytest.mark.parametrize("answer", AWAY)
def test_whatever_goes_wrong_at_keystone_nobody_gets_in(wire: Wire, clock: StepClock, answer: Any) -> None:
    wire.on("GET", TOKENS, answer)
    with pytest.raises(Unavailable):
        checker(wire, clock).check("theirs")


def test_if_our_own_sign_in_fails_nobody_gets_in(wire: Wire, clock: StepClock) -> None:
    wire.on("POST", TOKENS, keystone_error(401, "The request you have made requires authentication."))
    with pytest.raises(Unavailable) as problem:
        checker(wire, clock).check("theirs")
    assert asked(wire) == []
    assert "masakari" not in str(problem.value)


def test_if_our_own_token_was_revoked_we_sign_in_again_once(wire: Wire, clock: StepClock) -> None:
    def only_the_second(question: Asked) -> Answer:
        return told() if question.headers["X-Auth-Token"] == "ours-2" else keystone_error(401, "no")

    wire.on("GET", TOKENS, only_the_second)
    assert checker(wire, clock).check("theirs").user_id == "u1"
    assert [one.method for one in wire.asked] == ["POST", "GET", "POST", "GET"]


def test_if_the_new_token_is_refused_as_well_it_is_not_tried_for_ever(wire: Wire, clock: StepClock) -> None:
    wire.on("GET", TOKENS, keystone_error(401, "no"))
    with pytest.raises(Unavailable):
        checker(wire, clock).check("theirs")
    assert [one.method for one in wire.asked] == ["POST", "GET", "POST", "GET"]


def test_a_connection_that_keystone_closed_meanwhile_is_no_outage(wire: Wire, clock: StepClock) -> None:
    wire.on("GET", TOKENS, requests.ConnectionError("broken"), told())
    assert checker(wire, clock).check("theirs").user_id == "u1"


def test_a_silent_keystone_is_left_alone_for_a_moment_and_then_asked_again(wire: Wire, clock: StepClock) -> None:
    wire.on("GET", TOKENS, requests.ReadTimeout(), told())
    check = checker(wire, clock).check
    for token in ("one", "two"):
        with pytest.raises(Unavailable):
            check(token)
    assert len(asked(wire)) == 1
    clock.passed_s += tokens.SILENCE_SHARED_S
    assert check("two").user_id == "u1"


def test_a_token_that_makes_keystone_stumble_keeps_no_other_out(wire: Wire, clock: StepClock) -> None:
    wire.on("GET", TOKENS, keystone_error(500, "An unexpected error"), told())
    check = checker(wire, clock).check
    with pytest.raises(Unavailable):
        check("odd")
    assert check("theirs").user_id == "u1"


def test_an_outage_is_logged_when_it_begins_and_ends_and_no_secret_with_it(
    wire: Wire, clock: StepClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wire.on("GET", TOKENS, keystone_error(500, "sesame ours-1 gAAAAAtheirs"), keystone_error(500, "again"), told())
    check = checker(wire, clock).check
    for _ in range(2):
        with pytest.raises(Unavailable) as problem:
            check("gAAAAAtheirs")
    check("gAAAAAtheirs")
    said = [record.getMessage() for record in caplog.records if record.name == tokens.__name__]
    assert [line.split(":")[0] for line in said] == [
        "callers of the instance-ha API get 503, their tokens can't be checked",
        "tokens of callers of the instance-ha API are checked again",
    ]
    for secret in ("sesame", "ours-1", "gAAAAAtheirs"):
        assert secret not in f"{caplog.text} {problem.value}"


# The simulated cloud's Keystone


@pytest.fixture
def time() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def cloud(time: VirtualClock) -> SimulatedCloud:
    return SimulatedCloud(time)


@pytest.fixture
def simulated(cloud: SimulatedCloud, time: VirtualClock) -> Tokens:
    settings = CloudSettings(
        auth_url=cloud.auth_url, admin_user="masakari", admin_password="simcloud", project_name="service"
    )
    return Tokens(Keystone(settings, time, session_factory=cloud.session), settings, time, 10)


@pytest.mark.parametrize(
    ("user", "project", "roles"),
    [
        ("admin", "admin", {"admin", "member", "reader"}),
        ("demo", "demo", {"member", "reader"}),
        ("monitor", "service", {"service"}),
    ],
)
def test_a_caller_has_the_roles_of_its_project(
    cloud: SimulatedCloud, simulated: Tokens, user: str, project: str, roles: set[str]
) -> None:
    caller = simulated.check(Api(cloud, user, project).token)
    assert (caller.user_name, caller.project_name, caller.roles) == (user, project, roles)


def test_a_revoked_token_is_refused_after_the_cache_time_and_an_expired_one_at_once(
    cloud: SimulatedCloud, simulated: Tokens, time: VirtualClock
) -> None:
    api = Api(cloud, "admin", "admin")
    simulated.check(api.token)
    assert api.keystone("DELETE", "/auth/tokens", headers={"X-Auth-Token": api.token, "X-Subject-Token": api.token}).ok
    time.advance(10)
    with pytest.raises(Unauthorised):
        simulated.check(api.token)
    api = Api(cloud, "admin", "admin")
    time.advance(3599)
    simulated.check(api.token)
    time.advance(1)
    with pytest.raises(Unauthorised):
        simulated.check(api.token)


def test_an_unscoped_or_invented_token_is_refused(cloud: SimulatedCloud, simulated: Tokens) -> None:
    unscoped = Api(cloud).sign_in("admin", None).headers["X-Subject-Token"]
    for token in (unscoped, "gAAAAAinvented"):
        with pytest.raises(Unauthorised):
            simulated.check(token)


def test_with_keystone_away_who_was_let_in_stays_in_for_the_cache_time_and_nobody_else_gets_in(
    cloud: SimulatedCloud, simulated: Tokens, time: VirtualClock
) -> None:
    known, other = Api(cloud, "admin", "admin").token, Api(cloud, "admin", "admin").token
    simulated.check(known)
    cloud.set_away("keystone")
    simulated.check(known)
    with pytest.raises(Unavailable):
        simulated.check(other)
    time.advance(10)
    with pytest.raises(Unavailable):
        simulated.check(known)
    cloud.set_away("keystone", False)
    time.advance(1)
    assert simulated.check(known).user_name == simulated.check(other).user_name == "admin"


def test_a_revoked_token_of_ours_is_replaced(cloud: SimulatedCloud, simulated: Tokens) -> None:
    theirs = Api(cloud, "admin", "admin").token
    simulated.check(Api(cloud, "demo", "demo").token)
    for token in cloud.keystone.tokens.values():
        token.revoked = token.user.name == "masakari"
    assert simulated.check(theirs).user_name == "admin"
