"""The errors of Masakari, told apart by what the caller can do about them."""

from __future__ import annotations

from collections.abc import Sequence


class MasakariError(Exception):
    """Anything Masakari raises on purpose."""


class ConfigError(MasakariError):
    """The settings can't be used. Carries every problem found, not only the first."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class InUse(ConfigError):
    """Another process has what this one needs to itself. Not a matter of the settings alone: that process may end."""


class BadNotification(MasakariError):
    """A callback that will never be accepted, whoever repeats it. Nothing of it was stored."""

    def __init__(self, field: str, problem: str, status: int = 400) -> None:
        super().__init__(f"{field}: {problem}" if field else problem)
        self.field = field
        self.problem = problem
        self.status = status


class Unavailable(MasakariError):
    """Out of reach for now, and nothing was changed: the same call may succeed later."""


class MaybeSent(Unavailable):
    """A write without a clear answer: it may have been carried out. Look before doing anything else."""


class Rejected(MasakariError):
    """The other side refused, clearly and for this call for good (HTTP 4xx)."""

    def __init__(self, status: int, message: str, request_id: str = "") -> None:
        super().__init__(f"HTTP {status}: {message}")
        self.status = status
        self.message = message
        self.request_id = request_id


class NotFound(Rejected):
    """The thing asked for is not there (HTTP 404)."""


class Conflict(Rejected):
    """The thing is in another state than the call needs (HTTP 409): look again."""


class ObserveOnly(MasakariError):
    """[safety] mode = observe: nothing is written to Nova."""


class LeaseLost(MasakariError):
    """Another worker, or an operator, changed the recovery meanwhile: drop what you have."""
