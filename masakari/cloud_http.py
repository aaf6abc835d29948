"""One bounded HTTP exchange: how Keystone and Nova are both spoken to.

Bounded in time (connect, first byte, whole body) and in size, without redirects, and with a clear word on
whether a request without an answer can have reached the other side.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.exceptions import NewConnectionError, ReadTimeoutError

from masakari import __version__
from masakari.common.clock import Clock

BODY_MAX_BYTES = 64 * 1024 * 1024
CHUNK_BYTES = 256 * 1024
MESSAGE_MAX_CHARS = 500
POOL_SIZE = 128

# The kernel gives up on bytes not acknowledged for this long, so that a request of a worker that is gone
# can't arrive after its successor has looked (it waits at least as long before it sends again).
TCP_USER_TIMEOUT_S = 15

Observe = Callable[[str, str, float], None]
SessionFactory = Callable[[], requests.Session]

_TAGS = re.compile(r"<[^>]*>")


class NoReply(Exception):
    """There was no whole answer. `result` is refused, timeout, lost or too_large; `maybe_sent` is False only
    when surely no byte of the request reached the other side."""

    def __init__(self, result: str, message: str, maybe_sent: bool) -> None:
        super().__init__(message)
        self.result = result
        self.maybe_sent = maybe_sent


@dataclass(frozen=True)
class Reply:
    """A whole answer, whatever its status."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def request_id(self) -> str:
        """The id under which the other side logged the request, or ''."""
        return self.headers.get("X-Openstack-Request-Id") or self.headers.get("X-Compute-Request-Id") or ""

    def json(self) -> Any:
        """The body. Raises ValueError when it isn't JSON."""
        return json.loads(self.body)

    def message(self) -> str:
        """What the other side says is wrong, from any of the shapes in which errors come; in one line."""
        try:
            text = _message_of(self.json())
        except ValueError:
            text = _TAGS.sub(" ", self.body[: 4 * MESSAGE_MAX_CHARS].decode("utf-8", "replace"))
        return " ".join(_TAGS.sub(" ", text).split())[:MESSAGE_MAX_CHARS] or "no message"


def _message_of(error: Any) -> str:
    """Nova wraps {"message": ...} in a key named by the kind of error, Keystone in "error", others not at
    all."""
    if isinstance(error, dict):
        for found in (error, *error.values()):
            if isinstance(found, dict) and isinstance(found.get("message"), str):
                return str(found["message"])
    return ""


class _Adapter(HTTPAdapter):
    """Connections with TCP_USER_TIMEOUT; nothing is retried here."""

    def __init__(self) -> None:
        super().__init__(pool_maxsize=POOL_SIZE, max_retries=0)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        option = (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT_S * 1000)
        options["socket_options"] = [*HTTPConnection.default_socket_options, option]
        super().init_poolmanager(*args, **options)


def new_session(ca_bundle: str = "") -> requests.Session:
    """A session that any number of threads may use at once: its connection pool locks for itself, and nothing
    else in it changes, as cookies are refused. The environment (proxies, netrc) has no say."""
    session = requests.Session()
    session.trust_env = False
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.headers.clear()
    session.headers.update(
        {"User-Agent": f"masakari/{__version__}", "Accept": "application/json", "Accept-Encoding": "identity"}
    )
    session.verify = ca_bundle or _system_authorities()
    session.mount("http://", _Adapter())
    session.mount("https://", _Adapter())
    return session


def _system_authorities() -> str | bool:
    """Where the system keeps the authorities it trusts; True (those that came with requests) if nowhere."""
    paths = ssl.get_default_verify_paths()
    return paths.cafile or paths.capath or True


def exchange(
    session: requests.Session,
    clock: Clock,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes | None,
    timeout_s: tuple[float, float],
) -> Reply:
    """Send once and read the whole answer; `timeout_s` is for connecting and for reading. Raises NoReply."""
    begun = clock.monotonic()
    try:
        response = session.request(
            method,
            url,
            headers=dict(headers),
            data=body,
            timeout=timeout_s,
            stream=True,
            allow_redirects=False,
        )
        with response:
            content = _content(response, clock, begun + sum(timeout_s) + timeout_s[1])
            return Reply(response.status_code, response.headers, content)
    except requests.RequestException as error:
        raise _no_reply(error, timeout_s) from error


def _content(response: requests.Response, clock: Clock, deadline: float) -> bytes:
    """The body, unless it is too large or drips on for too long: the read time-out is only for each piece."""
    chunks: list[bytes] = []
    size = 0
    for chunk in response.iter_content(CHUNK_BYTES):
        chunks.append(chunk)
        size += len(chunk)
        if size > BODY_MAX_BYTES:
            raise NoReply("too_large", f"the answer is larger than {BODY_MAX_BYTES} bytes", True)
        if clock.monotonic() > deadline:
            raise NoReply("timeout", "the answer did not end in time", True)
    return b"".join(chunks)


def _no_reply(error: requests.RequestException, timeout_s: tuple[float, float]) -> NoReply:
    """What an exception of requests means for somebody who must know whether the request went out."""
    if isinstance(error, requests.ConnectTimeout):
        return NoReply("refused", f"no connection within {timeout_s[0]:g} s", False)
    causes = _causes(error)
    if isinstance(error, requests.Timeout) or any(isinstance(cause, ReadTimeoutError) for cause in causes):
        return NoReply("timeout", f"no answer within {timeout_s[1]:g} s", True)
    for cause in causes:
        if isinstance(cause, NewConnectionError):
            return NoReply("refused", f"no connection ({_last_words(cause)})", False)
        if isinstance(cause, ssl.SSLCertVerificationError):
            return NoReply("refused", f"its certificate is not trusted ({cause.verify_message})", False)
    if isinstance(error, ValueError):
        return NoReply("refused", f"the address can't be used ({error})", False)
    return NoReply("lost", f"the connection broke ({_last_words(causes[-1])})", True)


def _causes(error: BaseException) -> list[BaseException]:
    """The exception, and those it was made of, outermost first."""
    causes = [error]
    for cause in causes:
        inner = [getattr(cause, "reason", None), *cause.args]
        causes += [item for item in inner if isinstance(item, BaseException) and item not in causes]
    return causes


def _last_words(error: BaseException) -> str:
    """The part of a message of urllib3 after the names of its objects."""
    return str(error).rsplit(": ", 1)[-1] or type(error).__name__
