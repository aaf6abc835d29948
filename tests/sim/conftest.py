"""Houses for the simulations. Their databases are in memory where there is such a place, since they make thousands."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sim import invariants
from tests.sim.harness import House

SHM = Path("/dev/shm")

Make = Callable[..., House]


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder for one test."""
    with tempfile.TemporaryDirectory(prefix="masakari-sim-", dir=SHM if SHM.is_dir() else None) as path:
        yield Path(path)


@pytest.fixture
def make(folder: Path) -> Iterator[Make]:
    """Builds a house in which compute1 has three instances and compute3 is the spare; checks the invariants at the end."""
    made: list[House] = []

    def build(options: Any = None, *, boot: int = 3, spare: str | None = "compute3", **cloud: Any) -> House:
        house = House(folder, options, **cloud)
        if spare:
            house.spare(spare)
        if boot:
            house.cloud.boot("compute1", boot)
        house.clock.advance(30)
        made.append(house)
        return house

    yield build
    for house in made:
        invariants.check(house, by_hand=getattr(house, "by_hand", ()))
        house.close()
