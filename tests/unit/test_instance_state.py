"""The state file: everything comes back, and one that can't be understood is neither used nor lost."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instancemonitor.events import INCOMING, RUNNING, STOPPED
from instancemonitor.ledger import Failure, Record, State
from instancemonitor.state import StateFile, decode, encode
from masakari.common.state_file import ASIDE

FULL = State(
    boot_id="boot-1",
    viewed_at=1000.5,
    records={
        "u": Record("instance-00000001", RUNNING, 1000.25, 7, True, 998.125),
        "v": Record("näme", STOPPED, 999.0, None, None, None, True),
        "w": Record("w", INCOMING, 998.0, 8, False),
    },
    undecided={"x": Failure("x", "name", "guest_crash", 1.5, 2.5, "its guest crashed")},
    pending={"id-1": {"id": "id-1", "type": "VM", "endTime": None}},
)

moments = st.floats(allow_nan=False, allow_infinity=False)
records = st.builds(
    Record,
    st.text(),
    st.sampled_from([RUNNING, STOPPED, INCOMING]),
    moments,
    st.none() | st.integers(),
    st.none() | st.booleans(),
    st.none() | moments,
    st.booleans(),
)


def test_everything_comes_back_from_the_file(tmp_path: Path) -> None:
    file = StateFile(str(tmp_path / "state.json"))
    file.save(FULL)
    assert file.load() == FULL


def test_without_a_file_nothing_is_known(tmp_path: Path) -> None:
    assert StateFile(str(tmp_path / "state.json")).load() == State()


@given(st.builds(State, st.text(), moments, st.dictionaries(st.text(), records, max_size=3)))
def test_any_state_comes_back_as_it_was(state: State) -> None:
    assert decode(encode(state)) == state


def damaged(**changes: object) -> bytes:
    return json.dumps({**json.loads(encode(FULL)), **changes}).encode()


DAMAGED = {
    "empty": b"",
    "zeros": b"\0" * 100,
    "cut": encode(FULL)[:-20],
    "no UTF-8": b"\xff\xfe\xfd",
    "a list": b"[]",
    "deep": b"[" * 200_000,
    "no version": json.dumps({"boot_id": ""}).encode(),
    "a later version": damaged(version=2),
    "boot_id": damaged(boot_id=None),
    "viewed_at": damaged(viewed_at=True),
    "records": damaged(records=[]),
    "a record": damaged(records={"u": 1}),
    "a state": damaged(records={"u": {"name": "u", "state": "odd", "changed_at": 1}}),
    "a run": damaged(records={"u": {"name": "u", "state": RUNNING, "changed_at": 1, "run_id": "7"}}),
    "a time": damaged(records={"u": {"name": "u", "state": RUNNING, "changed_at": 1, "died": False, "logged_at": "1"}}),
    "a death": damaged(records={"u": {"name": "u", "state": RUNNING, "changed_at": 1, "died": 0}}),
    "a kind": damaged(undecided={"x": {"uuid": "x", "name": "x", "kind": "odd"}}),
    "a report": damaged(pending={"id": "id"}),
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
    assert str(path) in caplog.text and "first start" in caplog.text


def test_a_file_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        StateFile(str(tmp_path)).load()
