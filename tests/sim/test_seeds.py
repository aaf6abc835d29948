"""Random runs with several controllers: see chaos.py. SIM_SEEDS says how many, SIM_SEED plays one of them again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.sim.chaos import Chaos

FEW = 40
ONE = os.environ.get("SIM_SEED")
SEEDS = [int(ONE)] if ONE else list(range(1, int(os.environ.get("SIM_SEEDS") or FEW) + 1))


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_goes_wrong_the_rules_hold_and_every_failure_comes_to_an_end(seed: int, folder: Path) -> None:
    chaos = Chaos(seed, folder)
    try:
        chaos.run()
    except BaseException:
        print("\n".join(chaos.log))
        print(f"\nTo play it again: SIM_SEED={seed} .venv/bin/python -m pytest tests/sim/test_seeds.py")
        raise
    finally:
        chaos.house.close()
