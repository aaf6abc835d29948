"""Golden scenarios: folders with an intention (README), a script (events), and the story that comes of it (expected.log).

UPDATE_SCENARIOS=1 writes the stories anew. Read them then: a story that an operator would not understand is a bug.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.sim.play import play

HERE = Path(__file__).parent / "scenarios"
NAMES = sorted(path.name for path in HERE.iterdir() if path.is_dir())


@pytest.mark.parametrize("name", NAMES)
def test_the_story_is_as_expected(name: str, folder: Path) -> None:
    told = play((HERE / name / "events").read_text(encoding="utf-8"), folder)
    expected = HERE / name / "expected.log"
    if os.environ.get("UPDATE_SCENARIOS"):
        expected.write_text(told, encoding="utf-8")
    assert told == expected.read_text(encoding="utf-8")
    assert (HERE / name / "README").read_text(encoding="utf-8").strip()
