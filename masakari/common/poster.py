"""What the sender of reports asks of the way that they go, callback or notification: one try, and how it ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from masakari.common.post import Answer

TAKEN = "taken"
"""It need not be sent again."""

MALFORMED = "malformed"
"""It will never be taken."""

NOT_ALLOWED = "not allowed"
"""The one refusal that is about this report, and not about us or the controller."""

REFUSED = "refused"
"""It was answered, and not taken: later perhaps."""

UNANSWERED = "unanswered"
"""Nobody gave a complete answer in time."""

WORDS = 300


@dataclass(frozen=True, slots=True)
class Sent:
    """How a try to send a report ended. why: in words for the log, without secrets; "" when it was taken.

    answer: what the controller says of a report that it took: recovery, status, reason.
    """

    end: str
    why: str = ""
    answer: Mapping[str, Any] = field(default_factory=dict)


class Poster(Protocol):
    """A way that reports go."""

    def send(self, body: Mapping[str, Any]) -> Sent:
        """Try once to deliver a report, within time limits of its own; raises nothing because of the other side."""


def said(answer: Answer) -> str:
    """The beginning of an answer in words, fit for a line of the log."""
    text = answer.body[:WORDS].decode("utf-8", "replace").strip()
    return text if content(answer) else ascii(text)


def content(answer: Answer) -> Mapping[str, Any]:
    """The JSON object in an answer; empty when it is none."""
    try:
        found = json.loads(answer.body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
