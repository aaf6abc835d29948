"""Where the simulations keep their databases: in memory where there is such a place, since they make thousands."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

SHM = Path("/dev/shm")


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder for one test."""
    with tempfile.TemporaryDirectory(prefix="masakari-sim-", dir=SHM if SHM.is_dir() else None) as path:
        yield Path(path)
