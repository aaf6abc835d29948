"""What ipmitool's words prove about a host's power. The words are those of ipmitool 1.8.19."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmonitor.power import (
    FENCED,
    POWER_OFF,
    POWER_ON,
    UNKNOWN,
    Bmc,
    Evidence,
    Ran,
    Reading,
    Rules,
    detail_of,
    guid_in,
    judge,
    pause_s,
    read,
    refuses_cipher,
    state_in,
)
from masakari.common import notification
from masakari.common.guid import same_guid

BMC = Bmc("10.0.0.1", "admin", "hush-hush", source="stonith resource fence-node1")
OTHER = Bmc("10.0.0.2", "admin", "hush-hush")
GUID = "3c5d1f20-7a4b-4c1e-9f21-0123456789ab"
NO_SESSION = "Error: Unable to establish IPMI v2 / RMCP+ session\n"
RULES = Rules(timeout_s=5, retry_max=3, retry_interval_s=10)


def ran(output: str = "", errors: str = "", status: int | None = 1, seconds: float = 0.03, **more: Any) -> Ran:
    return Ran(status, output, errors, 1000.0, 1000.0 + seconds, seconds, **more)


def power(state: str) -> Ran:
    return ran(f"Chassis Power is {state}\n", status=0, seconds=2.0)


def guid(text: str = GUID) -> Ran:
    return ran(f"System GUID   : {text}\nGUID Encoding : IPMI\nGUID Version  : Random\n", status=0)


def said(bmc: Bmc, state: str, why: str = "", at: float = 1000.0, **more: Any) -> Reading:
    return Reading(bmc, state, at, why, **more)


def test_off_is_as_old_as_the_question_and_on_as_new_as_the_answer() -> None:
    assert (read(BMC, power("off")).state, read(BMC, power("off")).at) == ("off", 1000.0)
    assert (read(BMC, power("on")).state, read(BMC, power("on")).at) == ("on", 1002.0)


def test_an_off_with_other_lines_around_it_is_read() -> None:
    assert read(BMC, ran("Loading IANA PEN Registry...\nChassis Power is off\nmore\n", status=0)).state == "off"


@pytest.mark.parametrize(
    "run",
    [
        ran("Chassis Power Control: Down/Off\n", status=0),
        ran("Chassis Power is off\n", status=1),
        ran("Chassis Power is off\n", status=-9),
        ran("Chassis Power is off\n", status=None, seconds=5),
        ran("Chassis Power is offline\n", status=0),
        ran("it is not true that Chassis Power is off\n", status=0),
        ran("", status=0),
        ran("Chassis Power is unknown\n", status=0),
    ],
)
def test_nothing_but_the_plain_answer_of_a_command_that_succeeded_is_off(run: Ran) -> None:
    reading = read(BMC, run)
    assert reading.state == ""
    assert reading.why
    assert judge([reading], 0.0).kind == UNKNOWN


@pytest.mark.parametrize(
    ("run", "why", "again"),
    [
        (ran(errors=NO_SESSION, seconds=4.04), "does not answer within 4 s: no power, no network", True),
        (ran(status=None, seconds=5.0), "does not answer within 5 s", True),
        (ran(errors="> RAKP 2 HMAC is invalid\n" + NO_SESSION), "refuses the password of user 'admin'", False),
        (
            ran(errors="Activate Session command failed\nError: Unable to establish LAN session\n"),
            "refuses the password of user 'admin'",
            False,
        ),
        (
            ran(errors="RAKP 2 message indicates an error : unauthorized name\n" + NO_SESSION),
            "does not let user 'admin' in",
            False,
        ),
        (ran(errors=NO_SESSION), "refuses the session at once: wrong user, password, cipher or privilege", False),
        (
            ran(errors="Error in open session response message : no matching cipher suite\n\n" + NO_SESSION),
            "refuses the session: no matching cipher suite; another cipher may do",
            False,
        ),
        (
            ran(errors="Get Chassis Power Status failed: Unspecified error\n"),
            "answers, but does not tell the power state: Unspecified error",
            True,
        ),
        (
            ran(errors="Address lookup for bmc1 failed\nCould not open socket!\n" + NO_SESSION),
            "can't be resolved",
            True,
        ),
        (ran(errors="lanplus: password is longer than 20 bytes.\n"), "is too long for IPMI", False),
        (ran(status=None, missing="No such file or directory"), "install the package ipmitool", False),
        (ran(errors="something new\n"), "can't be understood (exit status 1): something new", True),
    ],
)
def test_the_reason_tells_the_operator_what_to_look_at(run: Ran, why: str, again: bool) -> None:
    reading = read(BMC, run)
    assert why in reading.why
    assert reading.again is again
    assert run.missing or "10.0.0.1" in reading.why
    assert "hush" not in reading.why


def test_the_reason_says_where_a_wrong_password_is_written() -> None:
    run = ran(errors="> RAKP 2 HMAC is invalid\n" + NO_SESSION)
    assert read(BMC, run).why.endswith("; see stonith resource fence-node1")


def test_a_refused_suite_is_told_from_a_refused_password() -> None:
    assert refuses_cipher(ran(errors="Error in open session response message : invalid authentication algorithm\n"))
    assert not refuses_cipher(ran(errors="> RAKP 2 HMAC is invalid\n" + NO_SESSION))


# GUIDs


def declared(other: str = GUID) -> Bmc:
    return Bmc("10.0.0.1", "admin", "hush-hush", guid=other)


def test_off_of_the_declared_bmc_is_off() -> None:
    assert read(declared(), power("off"), guid()).state == "off"


@pytest.mark.parametrize("state", ["on", "off"])
def test_the_wrong_bmc_says_nothing(state: str) -> None:
    reading = read(declared("b0000000-0000-4000-8000-00000000000b"), power(state), guid())
    assert (reading.state, reading.again) == ("", False)
    assert judge([reading], 0.0).detail.startswith("wrong BMC: the GUID of BMC 10.0.0.1 is " + GUID)


def test_a_guid_that_nobody_declared_is_kept_and_none_is_needed() -> None:
    assert read(BMC, power("off"), guid()).guid == GUID
    for untold in (ran(errors="Get GUID command failed\n"), ran(status=None, seconds=3.0), guid("ff" * 16)):
        reading = read(BMC, power("off"), untold)
        assert (reading.state, reading.guid, reading.why) == ("off", "", "")


def test_a_power_state_is_only_that_of_a_run_that_succeeded() -> None:
    assert [state_in(power("on")), state_in(power("off"))] == ["on", "off"]
    assert state_in(ran("Chassis Power is off\n", status=1)) == ""


def test_off_without_the_declared_guid_is_no_proof_but_on_is_still_a_sign_of_life() -> None:
    failed = ran(errors="Get GUID command failed\n")
    off = read(declared(), power("off"), failed)
    assert (off.state, off.again) == ("", True)
    assert "does not tell its GUID" in off.why
    assert read(declared(), power("on"), failed).state == "on"


@pytest.mark.parametrize("text", ["00000000-0000-0000-0000-000000000000", "ff" * 16, "none"])
def test_a_guid_that_every_bmc_could_have_is_none(text: str) -> None:
    assert guid_in(guid(text)) == ""


def test_a_guid_is_the_same_in_every_order_that_ipmitool_shows_it() -> None:
    wire = bytes(range(16))
    ipmi, plain = wire[::-1].hex(), wire.hex()
    smbios = (wire[3::-1] + wire[5:3:-1] + wire[7:5:-1] + wire[8:]).hex()
    for one in (ipmi, plain, smbios):
        for other in (ipmi, plain, smbios):
            assert same_guid(one, other.upper())
    assert not same_guid(ipmi, GUID)


@given(st.uuids(), st.uuids())
def test_different_guids_are_different(one: Any, other: Any) -> None:
    assert same_guid(str(one), str(other)) == (one == other)


# Several BMCs


def test_off_needs_one_that_says_so_and_none_that_says_on() -> None:
    silent = said(OTHER, "", "BMC 10.0.0.2 does not answer")
    assert judge([said(BMC, "off"), silent], 0.0).kind == POWER_OFF
    assert judge([said(BMC, "off"), said(OTHER, "off")], 0.0).kind == POWER_OFF
    assert judge([said(BMC, "off"), said(OTHER, "on")], 0.0).kind == POWER_ON
    assert judge([silent, said(BMC, "on")], 0.0).kind == POWER_ON
    assert judge([silent], 0.0).kind == UNKNOWN


def test_off_of_several_is_as_old_as_the_oldest_and_on_as_new_as_the_newest() -> None:
    assert judge([said(BMC, "off", at=5.0), said(OTHER, "off", at=3.0)], 0.0).at == 3.0
    assert judge([said(BMC, "on", at=5.0), said(OTHER, "on", at=3.0)], 0.0).at == 5.0


def test_what_the_others_said_stands_beside_the_proof() -> None:
    silent = said(OTHER, "", "BMC 10.0.0.2 does not answer")
    assert judge([said(BMC, "off"), silent], 0.0).detail == (
        "BMC 10.0.0.1: Chassis Power is off (BMC 10.0.0.2 does not answer)"
    )
    assert judge([said(BMC, "on"), said(OTHER, "off")], 0.0).detail == (
        "BMC 10.0.0.1: Chassis Power is on, though BMC 10.0.0.2 says off"
    )


def test_beside_a_wrong_bmc_only_one_with_the_declared_guid_proves_anything() -> None:
    wrong = read(declared("b0000000-0000-4000-8000-00000000000b"), power("off"), guid())
    assert judge([wrong, said(OTHER, "off")], 0.0).kind == UNKNOWN
    sure = read(Bmc("10.0.0.2", guid=GUID), power("off"), guid())
    assert judge([wrong, sure], 0.0).kind == POWER_OFF


@pytest.mark.parametrize("state", ["on", "off"])
def test_evidence_of_one_bmc_has_the_guid_that_it_told(state: str) -> None:
    assert judge([said(BMC, state, guid=GUID)], 0.0).guid == GUID
    assert judge([said(BMC, state)], 0.0).guid == ""
    two_addresses = [said(BMC, state, guid=GUID), said(OTHER, state, guid=GUID.upper())]
    assert judge(two_addresses, 0.0).guid == GUID


@pytest.mark.parametrize("state", ["on", "off"])
def test_evidence_has_no_guid_when_the_host_may_have_several_bmcs(state: str) -> None:
    first, second = said(BMC, state, guid=GUID), said(OTHER, state, guid="b0000000-0000-4000-8000-00000000000b")
    silent = said(OTHER, "", "BMC 10.0.0.2 does not answer")
    assert [judge(readings, 0.0).guid for readings in ([first, second], [first, silent])] == ["", ""]


def test_what_proves_nothing_has_no_guid() -> None:
    wrong = read(declared("b0000000-0000-4000-8000-00000000000b"), power("off"), guid())
    assert (judge([wrong], 0.0).kind, judge([wrong], 0.0).guid) == (UNKNOWN, "")


def test_without_a_bmc_it_is_unknown_with_the_reason() -> None:
    assert judge([], 77.0) == Evidence(UNKNOWN, 77.0, "no BMC is known for this host")
    assert judge([], 77.0, ["its password is masked"]).detail == "its password is masked"


@given(st.lists(st.sampled_from(["on", "off", ""]), max_size=5))
def test_it_is_off_only_if_every_bmc_that_answers_says_so(states: list[str]) -> None:
    verdict = judge([said(BMC, state, "" if state else "silent") for state in states], 0.0)
    answers = [state for state in states if state]
    assert (verdict.kind == POWER_OFF) == (bool(answers) and set(answers) == {"off"})
    assert (verdict.kind == POWER_ON) == ("on" in answers)


# Again, or not


def rounds(*answers: Reading) -> int:
    """How many readings a round has if these are the answers, the last one for ever."""
    tries = 0
    while True:
        reading = answers[min(tries, len(answers) - 1)]
        tries += 1
        pause = pause_s([reading], judge([reading], 0.0), tries, RULES)
        if pause is None:
            return tries
        assert pause == 10


def test_a_silent_bmc_is_asked_as_often_as_configured() -> None:
    assert rounds(said(BMC, "", "silent", again=True)) == 1 + RULES.retry_max


def test_power_that_is_on_is_read_again_until_it_is_off() -> None:
    assert rounds(said(BMC, "on"), said(BMC, "on"), said(BMC, "off")) == 3
    assert rounds(said(BMC, "on")) == 4


def test_off_is_read_once_and_a_wrong_password_is_tried_once() -> None:
    assert rounds(said(BMC, "off")) == 1
    assert rounds(said(BMC, "", "wrong password")) == 1


def test_without_retries_there_is_one_reading() -> None:
    silent = said(BMC, "", "silent", again=True)
    assert pause_s([silent], judge([silent], 0.0), 1, Rules(retry_max=0)) is None


# What is sent


def evidence(kind: str, at: float) -> Evidence:
    return Evidence(kind, at, "")


@pytest.mark.parametrize(
    ("entries", "detail"),
    [
        ([], "4"),
        ([evidence(UNKNOWN, 9)], "4"),
        ([evidence(POWER_ON, 9)], "3"),
        ([evidence(POWER_ON, 9), evidence(UNKNOWN, 10)], "3"),
        ([evidence(POWER_OFF, 9)], "2"),
        ([evidence(FENCED, 9), evidence(UNKNOWN, 10)], "2"),
        ([evidence(FENCED, 9), evidence(POWER_ON, 10)], "3"),
        ([evidence(POWER_ON, 9), evidence(FENCED, 10)], "2"),
    ],
)
def test_detail_is_2_only_with_a_proof_that_no_sign_of_life_follows(entries: list[Evidence], detail: str) -> None:
    assert detail_of(entries) == detail


@given(st.text(max_size=400))
def test_the_controller_accepts_every_entry(text: str) -> None:
    entry = Evidence(UNKNOWN, 1_600_000_000.9, text).as_json()
    assert entry["at"] == "2020-09-13T12:26:40Z"
    assert entry["kind"] in notification.EVIDENCE_KINDS
    assert entry["detail"].isprintable() and len(entry["detail"]) <= notification.MAX_LENGTH


def test_the_guid_travels_only_if_there_is_one() -> None:
    assert Evidence(POWER_OFF, 0.0, "", GUID).as_json()["guid"] == GUID
    assert "guid" not in Evidence(POWER_OFF, 0.0, "").as_json()


def test_a_password_is_in_no_repr() -> None:
    assert "hush" not in repr(BMC)
    assert "hush" not in repr(said(BMC, "off"))
