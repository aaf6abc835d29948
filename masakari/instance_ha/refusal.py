"""What the API refuses, in the form that OpenStack's clients read (pure)."""

from __future__ import annotations

from typing import Any

from masakari.common.errors import MasakariError

FAULTS = {
    400: "badRequest",
    401: "unauthorized",
    403: "forbidden",
    404: "itemNotFound",
    405: "badMethod",
    406: "notAcceptable",
    409: "conflictingRequest",
    413: "overLimit",
    415: "badMediaType",
    503: "serviceUnavailable",
}


class Refusal(MasakariError):
    """An answer of 400 or more. `field`: what of the request is wrong; empty if it isn't about one."""

    def __init__(self, status: int, message: str, field: str = "") -> None:
        assert status in FAULTS, status
        super().__init__(message)
        self.status = status
        self.message = _printable(message)
        self.field = _printable(field)

    def body(self) -> dict[str, Any]:
        """The JSON object of the answer."""
        fault: dict[str, Any] = {"code": self.status, "message": str(self)}
        if self.field:
            fault["field"] = self.field
        return {FAULTS[self.status]: fault}

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


def _printable(text: str) -> str:
    """What a client said may stand in the log."""
    return text if text.isprintable() else ascii(text)


def bad(field: str, problem: str) -> Refusal:
    """400: this field of the request can't be accepted."""
    return Refusal(400, problem, field)


def not_found(kind: str, uuid: str) -> Refusal:
    """404: there is no such thing."""
    return Refusal(404, f"there is no {kind} {uuid[:64]}")
