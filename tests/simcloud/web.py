"""What the parts of the simulated cloud's HTTP side share."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl


class NoAnswer(Exception):
    """The caller gets no HTTP answer.

    Args:
        how: "refused" (no connection), "connect timeout", "dropped" (connected, then cut) or "read timeout".
    """

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how


@dataclass
class Request:
    """One HTTP request, read."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]  # names in lower case
    body: bytes
    base_url: str  # scheme and host, no slash at the end

    def json(self) -> Any:
        """The body as JSON. Raises ValueError."""
        return json.loads(self.body)

    def value(self, name: str) -> str | None:
        """The last value of a query parameter."""
        values = [value for key, value in self.query if key == name]
        return values[-1] if values else None


@dataclass
class Reply:
    """One HTTP answer."""

    status: int
    body: Any = None  # made JSON; str is sent as HTML; None is empty
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0  # before it is sent; what it says has been done by then


def read_request(environ: dict[str, Any]) -> Request:
    """Take a request out of a WSGI environment."""
    length = int(environ.get("CONTENT_LENGTH") or 0)
    headers = {
        name[5:].replace("_", "-").lower(): value
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    return Request(
        environ["REQUEST_METHOD"],
        environ.get("PATH_INFO", ""),
        parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True),
        headers,
        environ["wsgi.input"].read(length) if length else b"",
        f"{environ.get('wsgi.url_scheme', 'http')}://{headers.get('host', 'localhost')}",
    )
