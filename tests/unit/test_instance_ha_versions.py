"""Which microversion a request gets, and the documents from which clients learn what there is."""

from __future__ import annotations

import pytest

from masakari.instance_ha import versions
from masakari.instance_ha.refusal import FAULTS, Refusal, bad, not_found


@pytest.mark.parametrize(
    ("header", "version"),
    [
        ("", (1, 0)),
        ("compute 2.90", (1, 0)),
        ("instance-ha 1.0", (1, 0)),
        ("instance-ha 1.1", (1, 1)),
        ("instance-ha 1.2", (1, 2)),
        ("instance-ha 1.3", (1, 3)),
        ("instance-ha latest", (1, 3)),
        ("Instance-HA  1.3 ", (1, 3)),
        ("compute 2.90, instance-ha 1.2", (1, 2)),
        ("compute 9.9,identity x,instance-ha 1.1,volume 3.0", (1, 1)),
    ],
)
def test_the_version_asked_for(header: str, version: versions.Version) -> None:
    assert versions.negotiate(header) == version


@pytest.mark.parametrize("asked", ["1.4", "2.0", "1.99", "9999.9999"])
def test_a_version_there_is_not_is_refused_with_those_there_are(asked: str) -> None:
    with pytest.raises(Refusal) as refused:
        versions.negotiate(f"compute 2.1, instance-ha {asked}")
    assert refused.value.status == 406
    assert asked in str(refused.value) and "1.0" in str(refused.value) and "1.3" in str(refused.value)


@pytest.mark.parametrize("asked", ["", "x", "1", "1.", ".1", "1.01", "01.1", "0.9", "1.3.1", "-1.0", "1.3 1.2", "١.٣", "1.99999"])
def test_what_is_no_version_is_refused(asked: str) -> None:
    with pytest.raises(Refusal) as refused:
        versions.negotiate(f"instance-ha {asked}")
    assert (refused.value.status, refused.value.field) == (400, "OpenStack-API-Version")


def test_an_answer_says_which_version_it_is() -> None:
    assert dict(versions.headers((1, 2))) == {
        "OpenStack-API-Version": "instance-ha 1.2",
        "Vary": "OpenStack-API-Version",
    }


def test_discovery_says_what_the_clients_need() -> None:
    [described] = versions.all_versions("http://c:15868")["versions"]
    assert (described["id"], described["status"]) == ("v1.0", "CURRENT")
    assert (described["min_version"], described["version"]) == ("1.0", "1.3")
    assert described["links"] == [{"rel": "self", "href": "http://c:15868/v1/"}]
    assert versions.one_version("http://c:15868")["version"].items() >= described.items()


@pytest.mark.parametrize("status", FAULTS)
def test_every_error_is_one_object_with_code_and_message(status: int) -> None:
    [fault] = Refusal(status, "it can't be").body().values()
    assert fault == {"code": status, "message": "it can't be"}


def test_what_a_client_said_can_stand_in_a_log() -> None:
    error = bad("\x1b[2J\nforged", "'\u202e' is not known")
    assert str(error).isprintable() and error.field.isprintable()
    assert bad("name", "räcks 🚀").message == "räcks 🚀"


def test_an_error_names_its_field_and_repeats_nothing_long() -> None:
    assert bad("name", "missing").body() == {
        "badRequest": {"code": 400, "message": "name: missing", "field": "name"}
    }
    assert len(str(not_found("segment", "x" * 5000))) < 100
