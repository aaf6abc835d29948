"""A requests.Session that reaches the simulated cloud within the process, without sockets."""

from __future__ import annotations

import io
from http.client import RemoteDisconnected
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPResponse
from urllib3.connection import HTTPConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    MaxRetryError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
)

from masakari.common.clock import Clock

from .app import READ_TIMEOUT, App
from .web import NoAnswer

HOST = "simcloud"
URL = f"http://{HOST}"


def open_session(app: App, clock: Clock) -> requests.Session:
    """A session for URLs under http://simcloud; any other address is a connect time-out."""
    session = requests.Session()
    session.trust_env = False  # no look at the environment for proxies: this is on the fast path
    adapter = InProcessAdapter(app, clock)
    for prefix in ("http://", "https://", f"{URL}/"):
        session.mount(prefix, adapter)
    return session


class InProcessAdapter(HTTPAdapter):
    """Hands requests to the application, and makes of a missing answer what requests would have raised."""

    def __init__(self, app: App, clock: Clock) -> None:
        super().__init__()
        self._app = app
        self._clock = clock
        self._pool = HTTPConnectionPool(HOST)

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        connect_s, read_s = timeout if isinstance(timeout, tuple) else (timeout, timeout)
        started: dict[str, Any] = {}

        def start_response(status: str, headers: list[tuple[str, str]]) -> None:
            started.update(status=status, headers=headers)

        try:
            if urlsplit(request.url or "").hostname != HOST:
                raise NoAnswer("connect timeout")
            chunks = self._app(_environ(request, read_s), start_response)
        except NoAnswer as lost:
            raise self._as_requests_says(lost.how, request, connect_s, read_s) from None
        code, _, reason = started["status"].partition(" ")
        raw = HTTPResponse(
            io.BytesIO(b"".join(chunks)),
            headers=started["headers"],
            status=int(code),
            reason=reason,
            preload_content=False,
            request_method=request.method,
        )
        return self.build_response(request, raw)

    def _as_requests_says(
        self, how: str, request: requests.PreparedRequest, connect_s: float | None, read_s: float | None
    ) -> requests.RequestException:
        url, connection = request.url or "", HTTPConnection(HOST)
        cause: HTTPError
        if how == "refused":
            cause = NewConnectionError(
                connection, "Failed to establish a new connection: [Errno 111] Connection refused"
            )
            return requests.ConnectionError(MaxRetryError(self._pool, url, cause), request=request)
        if how == "connect timeout":
            self._clock.sleep(_bounded(connect_s, "connect"))
            cause = ConnectTimeoutError(
                connection, f"Connection to {HOST} timed out. (connect timeout={connect_s})"
            )
            return requests.ConnectTimeout(MaxRetryError(self._pool, url, cause), request=request)
        if how == "dropped":
            reset = RemoteDisconnected("Remote end closed connection without response")
            return requests.ConnectionError(ProtocolError("Connection aborted.", reset), request=request)
        _bounded(read_s, "read")
        return requests.ReadTimeout(
            ReadTimeoutError(self._pool, url, f"Read timed out. (read timeout={read_s})"), request=request
        )


def _bounded(timeout_s: float | None, which: str) -> float:
    if timeout_s is None:
        raise AssertionError(f"this request would hang for ever: it has no {which} timeout")
    return timeout_s


def _environ(request: requests.PreparedRequest, read_s: float | None) -> dict[str, Any]:
    parts = urlsplit(request.url or "")
    body = request.body or b""
    data = body.encode() if isinstance(body, str) else body
    assert isinstance(data, bytes), "the simulated cloud takes no streamed bodies"
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "PATH_INFO": parts.path,
        "QUERY_STRING": parts.query,
        "CONTENT_LENGTH": str(len(data)),
        "wsgi.input": io.BytesIO(data),
        "wsgi.url_scheme": parts.scheme,
        "HTTP_HOST": parts.netloc,
        READ_TIMEOUT: read_s,
    }
    for name, value in request.headers.items():
        environ[f"HTTP_{name.upper().replace('-', '_')}"] = value
    return environ
