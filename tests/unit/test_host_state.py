"""The hostmonitor's state file: everything comes back, and one that can't be understood is neither used nor lost."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmonitor.ledger import DOWN, FAILED, UP, Failure, Record, State
from hostmonitor.power import Evidence
from hostmonitor.state import StateFile, decode, encode
from masakari.common.state_file import ASIDE

FULL = State(
    records={
        "node2": Record(UP, 1000.5, ["off node2 900 success c o"]),
        "node3": Record(
            FAILED,
            1001.25,
            [],
            Failure(
                1002.0,
                1001.25,
                "unclean",
                "wärum",
                Evidence("fenced", 1003.0, "pacemaker: off"),
                True,
                ["off node3 1003 success c o"],
                Evidence("power_off", 1004.0, "BMC says off", "4c4c4544-0051-3610-8052-b4c04f4e3132"),
                "id-1",
                "2",
                "7",
                "held",
            ),
        ),
        "remote1": Record(DOWN),
    },
    pending={"id-1": {"id": "id-1", "type": "rscGroup", "endTime": None}},
)

moments = st.floats(allow_nan=False, allow_infinity=False)
evidence = st.builds(Evidence, st.text(), moments, st.text(), st.text())
failures = st.builds(
    Failure,
    since=moments,
    last_alive=moments,
    state=st.text(),
    why=st.text(),
    fenced=st.none() | evidence,
    reboot=st.booleans(),
    counted=st.lists(st.text(), max_size=2),
    power=st.none() | evidence,
    report_id=st.text(),
    detail=st.text(),
    recovery=st.text(),
    status=st.text(),
)
words = st.lists(st.text(), max_size=3)
records = st.builds(Record, st.sampled_from([UP, DOWN]), moments, words) | st.builds(
    Record, st.just(FAILED), moments, words, failures
)


def test_everything_comes_back_from_the_file(tmp_path: Path) -> None:
    file = StateFile(str(tmp_path / "state.json"))
    file.save(FULL)
    assert file.load() == FULL


def test_without_a_file_nothing_is_known(tmp_path: Path) -> None:
    assert StateFile(str(tmp_path / "state.json")).load() == State()


@given(st.builds(State, st.dictionaries(st.text(), records, max_size=3)))
def test_any_state_comes_back_as_it_was(state: State) -> None:
    assert decode(encode(state)) == state


def damaged(*path: str, value: Any = None, drop: bool = False) -> bytes:
    """The full state with one thing in it that is wrong."""
    told = json.loads(encode(FULL))
    place = told
    for key in path[:-1]:
        place = place[key]
    if drop:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return json.dumps(told).encode()


NODE3 = ("records", "node3")
FAILURE = (*NODE3, "failure")
DAMAGED = {
    "empty": b"",
    "zeros": b"\0" * 100,
    "cut": encode(FULL)[:-20],
    "no UTF-8": b"\xff\xfe\xfd",
    "a list": b"[]",
    "deep": b"[" * 200_000,
    "a later version": damaged("version", value=2),
    "no records": damaged("records", drop=True),
    "records": damaged("records", value=[]),
    "a record": damaged(*NODE3, value=1),
    "a state": damaged(*NODE3, "state", value="odd"),
    "failed without a failure": damaged(*NODE3, "failure", value=None),
    "up with a failure": damaged(*NODE3, "state", value=UP),
    "a time": damaged(*NODE3, "alive_at", value="1001"),
    "no time": damaged(*NODE3, "alive_at", value=True),
    "known": damaged(*NODE3, "known", value="off node3"),
    "a key": damaged(*NODE3, "known", value=[1]),
    "a failure": damaged(*FAILURE, value=7),
    "since": damaged(*FAILURE, "since", drop=True),
    "last_alive": damaged(*FAILURE, "last_alive", value=None),
    "reboot": damaged(*FAILURE, "reboot", value=1),
    "counted": damaged(*FAILURE, "counted", drop=True),
    "evidence": damaged(*FAILURE, "power", value=[]),
    "a proof without a time": damaged(*FAILURE, "fenced", "at", drop=True),
    "a kind": damaged(*FAILURE, "fenced", "kind", value=None),
    "a status": damaged(*FAILURE, "status", value=None),
    "a report": damaged("pending", value={"id-1": "id-1"}),
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_file_that_cannot_be_understood_is_kept_aside_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(data)
    with caplog.at_level(logging.ERROR):
        assert StateFile(str(path)).load() == State()
    assert not path.exists()
    assert (tmp_path / f"state.json{ASIDE}").read_bytes() == data
    assert str(path) in caplog.text and "first start" in caplog.text and "look for them yourself" in caplog.text
