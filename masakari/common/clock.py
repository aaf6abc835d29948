"""The only place that asks the operating system for the time."""

from __future__ import annotations

import time


class Clock:
    """Wall clock, monotonic clock and sleep; tests pass one of their own."""

    def now(self) -> float:
        """Unix time in seconds, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never jump; only differences mean anything."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait; nothing happens for a time that is not positive."""
        if seconds > 0:
            time.sleep(seconds)
