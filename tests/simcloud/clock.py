"""A clock that moves only when told to, for simulations and tests."""

from __future__ import annotations

from masakari.common.clock import Clock

EPOCH_S = 1_800_000_000.0  # 2027-01-15 08:00 UTC


class VirtualClock(Clock):
    """Time that passes by sleeping. now() can jump; monotonic() never does.

    Args:
        start_s: what now() says at the beginning, in Unix seconds.
    """

    def __init__(self, start_s: float = EPOCH_S) -> None:
        self._elapsed_s = 0.0
        self._offset_s = start_s

    def now(self) -> float:
        return self._offset_s + self._elapsed_s

    def monotonic(self) -> float:
        return self._elapsed_s

    def sleep(self, seconds: float) -> None:
        if seconds > 0:
            self._elapsed_s += seconds

    advance = sleep

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an operator or ntpd does."""
        self._offset_s += seconds


class SkewedClock(Clock):
    """The same passing of time as another clock, with a wall clock of its own."""

    def __init__(self, clock: Clock, skew_s: float = 0.0) -> None:
        self._clock = clock
        self._skew_s = skew_s

    def now(self) -> float:
        return self._clock.now() + self._skew_s

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def sleep(self, seconds: float) -> None:
        self._clock.sleep(seconds)

    def jump(self, seconds: float) -> None:
        """Move this wall clock alone."""
        self._skew_s += seconds
