"""Reports on their way as callbacks: to one controller after the other, signed with the key of this host."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from masakari.common.clock import Clock
from masakari.common.errors import Unavailable
from masakari.common.post import Answer
from masakari.common.poster import MALFORMED, NOT_ALLOWED, REFUSED, TAKEN, UNANSWERED, Sent, content, said
from masakari.common.sender import Delivery
from masakari.common.signature import HEADER, sign

log = logging.getLogger(__name__)

MALFORMED_STATUS = (400, 413, 422)
FORBIDDEN = 403

Post = Callable[[str, bytes, Mapping[str, str], float, str], Answer]
"""url, body, headers, timeout_s, ca_bundle. Raises Unavailable when there is no complete answer in time."""


class Callbacks:
    """Sends each report to the controllers, first to the one that answered last; for one thread.

    settings: as they are at the moment. key: key id and secret, None: reports are not signed.
    """

    def __init__(
        self,
        post: Post,
        settings: Callable[[], Delivery],
        key: Callable[[], tuple[str, str] | None],
        clock: Clock,
    ) -> None:
        self._post = post
        self._settings = settings
        self._key = key
        self._clock = clock
        self._url = ""  # the one that answered last is asked first

    def send(self, body: Mapping[str, Any]) -> Sent:
        """Post to one controller after the other until one takes it, or calls it malformed."""
        settings, data = self._settings(), json.dumps(body).encode()
        end, problems = UNANSWERED, []
        first = settings.urls.index(self._url) if self._url in settings.urls else 0
        for url in (*settings.urls[first:], *settings.urls[:first]):
            try:
                answer = self._post(url, data, self._signed(data), settings.timeout_s, settings.ca_bundle)
            except Unavailable as error:
                problems.append(str(error))
                continue
            if 200 <= answer.status < 300:
                self._url = url
                return Sent(TAKEN, answer=_told(answer, url))
            if answer.status in MALFORMED_STATUS:
                self._url = url
                return Sent(MALFORMED, f"HTTP {answer.status}, {_said(answer)}")
            end = NOT_ALLOWED if answer.status == FORBIDDEN else REFUSED
            problems.append(f"{url} answered HTTP {answer.status}, {_said(answer)}")
        return Sent(end, "; ".join(problems))

    def _signed(self, data: bytes) -> dict[str, str]:
        key = self._key()
        return {HEADER: sign(*key, data, self._clock.now())} if key else {}


def _told(answer: Answer, url: str) -> Mapping[str, Any]:
    """What the controller says of a report that it has stored. Whatever else answers 2xx has taken the report, too."""
    found = content(answer)
    if "known" in found or "recovery" in found:
        return found
    log.error(
        "%s took a report, but does not answer as a Masakari controller: is the url right? %s", url, _said(answer)
    )
    return {}


def _said(answer: Answer) -> str:
    """The words of an answer; those of a controller without their JSON."""
    found = content(answer)
    if "error" not in found:
        return said(answer)
    field = found.get("field")
    return f"{field}: {found['error']}" if field else str(found["error"])
