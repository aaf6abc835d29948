"""One HTTP request, done or given up within a time limit.

http.client and not requests: a time limit over the whole exchange needs the socket, so that a controller which sends its answer
byte by byte can't hold a monitor; and a monitor stays a third smaller.
"""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from masakari.common.errors import Unavailable

if TYPE_CHECKING:
    import ssl

MOST_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; at most so much of it as was asked for. headers: their names in small letters."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    timeout_s: float,
    ca_bundle: str = "",
    most_bytes: int = MOST_BYTES,
) -> Answer:
    """Send a body and read the answer up to most_bytes, all within timeout_s.

    Raises Unavailable when there is no complete answer in time; one that says itself that it is longer is none.
    ca_bundle: file with the certificates to trust for https; empty: those of the system.
    """
    json_headers = {"Content-Type": "application/json", **headers}
    return _ask("POST", url, body, json_headers, timeout_s, ca_bundle, most_bytes)


def get(
    url: str, headers: Mapping[str, str], timeout_s: float, ca_bundle: str = "", most_bytes: int = MOST_BYTES
) -> Answer:
    """Ask for what is at a url; otherwise like post()."""
    return _ask("GET", url, None, headers, timeout_s, ca_bundle, most_bytes)


def _ask(
    method: str,
    url: str,
    body: bytes | None,
    headers: Mapping[str, str],
    timeout_s: float,
    ca_bundle: str,
    most_bytes: int,
) -> Answer:
    parts = urlsplit(url)
    host, path = parts.hostname or "", (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(host, parts.port, timeout=timeout_s, context=_trust(ca_bundle))
    else:
        connection = http.client.HTTPConnection(host, parts.port, timeout=timeout_s)
    late = threading.Event()
    timer = threading.Timer(timeout_s, _cut, (connection, late))
    timer.daemon = True
    timer.start()
    try:
        return _exchange(connection, late, method, path, body, headers, most_bytes)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if late.is_set() or isinstance(error, TimeoutError):
            raise Unavailable(f"{url} gave no complete answer within {timeout_s:g} s") from None
        raise Unavailable(f"{url}: {_words(error)}") from error
    finally:
        timer.cancel()
        connection.close()


def _exchange(
    connection: http.client.HTTPConnection,
    late: threading.Event,
    method: str,
    path: str,
    body: bytes | None,
    headers: Mapping[str, str],
    most_bytes: int,
) -> Answer:
    connection.connect()
    if late.is_set():
        # The timer found no socket to cut, and won't come again.
        raise TimeoutError
    connection.request(method, path, body, {"Connection": "close", **headers})
    response = connection.getresponse()
    content = response.read(most_bytes)
    if response.length:
        raise http.client.IncompleteRead(content, response.length)
    if late.is_set():
        # Without a length, an answer that was cut looks complete.
        raise TimeoutError
    return Answer(response.status, content, {name.lower(): value for name, value in response.getheaders()})


def _cut(connection: http.client.HTTPConnection, late: threading.Event) -> None:
    """End a connection under the reader's feet."""
    late.set()
    link = connection.sock
    if link is not None:
        with suppress(OSError):
            # Not the method of an SSL socket, which takes away what its reader is using.
            socket.socket.shutdown(link, socket.SHUT_RDWR)


def _trust(ca_bundle: str) -> ssl.SSLContext:
    import ssl

    try:
        return ssl.create_default_context(cafile=ca_bundle or None)
    except OSError as error:
        raise Unavailable(f"the certificates in {ca_bundle} can't be read: {error}") from error


def _words(error: Exception) -> str:
    if isinstance(error, http.client.RemoteDisconnected):
        return "it closed the connection without an answer"
    if isinstance(error, http.client.IncompleteRead):
        return "it closed the connection in the middle of its answer"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
