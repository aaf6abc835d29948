"""Asking Nova: token, version, repeats, and what each answer (or none) means for the caller."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from masakari.cloud_http import NoReply, Observe, Reply, SessionFactory, exchange
from masakari.common.clock import Clock
from masakari.common.errors import Conflict, MaybeSent, NotFound, Rejected, Unavailable
from masakari.keystone import CloudSettings, Keystone, Token

LOG = logging.getLogger(__name__)

Version = tuple[int, int]
BASE: Version = (2, 1)
HIGHEST: Version = (2, 93)

FIRST_PAUSE_S = 0.2
RETRY_AFTER_DEFAULT_S = 1.0
PAGES_MAX = 10_000

# The endpoint in the catalog may go on with a project id.
_VERSION_ROOT = re.compile(r".*/v2(?:\.1)?(?=/|$)")


@dataclass(frozen=True)
class Request:
    """What to ask. `call` is its short name for metrics, `what` tells an operator more. `path` goes on from
    the endpoint (`root`: from the part of it that ends in v2.1), `version` is the one that the request is
    written for; an older Nova gets its newest. `key` is what a good answer to a question holds."""

    call: str
    method: str
    path: str
    version: Version = BASE
    key: str = ""
    body: Mapping[str, Any] | None = None
    what: str = ""
    timeout_s: tuple[float, float] | None = None
    root: bool = False

    @property
    def name(self) -> str:
        """What an error message calls it."""
        return self.what or self.call


_VERSION = Request("version", "GET", "/", key="version", root=True)


class NovaHttp:
    """HTTP to the compute endpoint. Safe for any number of threads."""

    def __init__(
        self,
        keystone: Keystone,
        settings: CloudSettings,
        clock: Clock,
        observe: Observe | None = None,
        session_factory: SessionFactory | None = None,
    ) -> None:
        self._keystone = keystone
        self._settings = settings
        self._clock = clock
        self._observe = observe or (lambda call, result, seconds: None)
        self._session = session_factory() if session_factory else keystone.session
        self._timeout_s = (settings.connect_timeout_s, settings.read_timeout_s)
        self._version: Version | None = None

    @property
    def version(self) -> Version:
        """The newest version that both sides know; asked once. Raises Unavailable."""
        version = self._version
        if version is None:
            version = self._version = _newest_common(self.read(_VERSION)["version"])
            LOG.info("Nova is spoken to in versions up to %s", _text(version))
        return version

    def read(self, request: Request) -> dict[str, Any]:
        """The JSON object that a GET gives; asked again after a failed connection, a 429 or a 5xx.

        Raises Unavailable, or Rejected (NotFound, Conflict) at once.
        """
        begun = self._clock.monotonic()
        pauses_s = self._pauses_s()
        while True:
            try:
                return self._read_once(request)
            except Unavailable:
                pause_s = next(pauses_s, None)
                # No further try once a whole time-out is spent: the caller's lease is running.
                if pause_s is None or self._clock.monotonic() - begun >= sum(self._timeout_s):
                    raise
            self._clock.sleep(pause_s)

    def pages(self, request: Request, mark: str) -> Iterator[dict[str, Any]]:
        """The items of a list, over all of its pages; the item field `mark` is where the next page goes on.

        A link to a next page is taken as a sign only: its address is Nova's own idea of where it lives. A
        full page announces a next one even if that is empty. Raises as `read`.
        """
        page = self.read(request)
        for _ in range(PAGES_MAX):
            items = page[request.key]
            yield from items
            if not items or not page.get(f"{request.key}_links"):
                return
            page = self._page_after(request, str(items[-1][mark]))
        raise Unavailable(f"{request.name}: Nova's list has no end")

    def _page_after(self, request: Request, marker: str) -> dict[str, Any]:
        glue = "&" if "?" in request.path else "?"
        path = request.path + glue + urlencode({"marker": marker})
        try:
            return self.read(replace(request, path=path))
        except Rejected as error:
            if error.status == 400:
                raise Unavailable(f"{request.name}: the list changed while it was read ({error})") from error
            raise

    def write(self, request: Request) -> str:
        """Give an order; Nova's request id. Sent again only after a 429, which says that nothing was done.

        Raises Rejected (NotFound, Conflict), Unavailable if it was surely not sent, else MaybeSent.
        """
        tries = max(1, self._settings.api_max_retry_cnt)
        begun = self._clock.monotonic()
        for left in reversed(range(tries)):
            try:
                reply = self.ask(request)
            except NoReply as error:
                kind = MaybeSent if error.maybe_sent else Unavailable
                raise kind(self._keystone.redact(f"{request.name}: {error}")) from error
            if reply.status != 429:
                return self._outcome(request, reply)
            pause_s = min(_retry_after_s(reply), self._settings.api_retry_interval_s)
            # Never sent later than the lease of whoever calls allows for: see Visit.time_left.
            if not left or self._clock.monotonic() - begun + pause_s > 2 * self._timeout_s[1]:
                break
            self._clock.sleep(pause_s)
        raise Unavailable(f"{request.name}: not done, Nova has too many requests ({tries - left} tries)")

    def ask(self, request: Request) -> Reply:
        """One answer, whatever it is; with a new token if Nova refuses the one we have.

        Raises NoReply, SignInFailed.
        """
        version = BASE if request.version == BASE else min(request.version, self.version)
        token = self._keystone.token()
        reply = self._exchange(request, version, token)
        if reply.status == 401:
            reply = self._exchange(request, version, self._keystone.token(refused=token))
        return reply

    def _exchange(self, request: Request, version: Version, token: Token) -> Reply:
        endpoint = _root(token.compute_url) if request.root else token.compute_url
        body = None if request.body is None else json.dumps(request.body).encode()
        headers = _headers(token.value, version)
        timeout_s = request.timeout_s or self._timeout_s
        begun, result = self._clock.monotonic(), "lost"
        try:
            reply = exchange(
                self._session, self._clock, request.method, endpoint + request.path, headers, body, timeout_s
            )
            result = str(reply.status)
            return reply
        except NoReply as error:
            result = error.result
            raise
        finally:
            self._observe(request.call, result, self._clock.monotonic() - begun)

    def _read_once(self, request: Request) -> dict[str, Any]:
        try:
            reply = self.ask(request)
        except NoReply as error:
            raise Unavailable(self._keystone.redact(f"{request.name}: {error}")) from error
        if reply.status == 429 or reply.status >= 500:
            raise Unavailable(f"{request.name}: {self._said(reply)}")
        if reply.status != 200:
            raise self._refusal(request, reply)
        return self._body(request, reply)

    def _body(self, request: Request, reply: Reply) -> dict[str, Any]:
        try:
            body = reply.json()
        except ValueError:
            body = None
        if not isinstance(body, dict) or request.key not in body:
            raise Unavailable(f"{request.name}: the answer has no {request.key!r}; is that Nova?")
        return body

    def _outcome(self, request: Request, reply: Reply) -> str:
        if reply.status >= 500:
            raise MaybeSent(f"{request.name}: {self._said(reply)}")
        if not 200 <= reply.status < 300:
            raise self._refusal(request, reply)
        return reply.request_id

    def _refusal(self, request: Request, reply: Reply) -> Exception:
        if reply.status == 401:
            # Not for good: a matter of the account, or of Nova's own sign-in.
            return Unavailable(f"{request.name}: not done, even with a new token {self._said(reply)}")
        if reply.status == 406:
            # Another Nova than the one that the version was agreed with: agree again.
            self._version = None
        kind = {404: NotFound, 409: Conflict}.get(reply.status, Rejected)
        message = f"{request.name}: {self._keystone.redact(reply.message())}"
        return kind(reply.status, message, reply.request_id)

    def _said(self, reply: Reply) -> str:
        request_id = f" ({reply.request_id})" if reply.request_id else ""
        return self._keystone.redact(f"Nova answers HTTP {reply.status}: {reply.message()}{request_id}")

    def _pauses_s(self) -> Iterator[float]:
        """Between the tries of a read: doubled each time."""
        pause_s = FIRST_PAUSE_S
        for _ in range(self._settings.api_max_retry_cnt - 1):
            yield min(pause_s, self._settings.api_retry_interval_s)
            pause_s *= 2


def _root(endpoint: str) -> str:
    found = _VERSION_ROOT.match(endpoint)
    return found.group() if found else endpoint


def _text(version: Version) -> str:
    return f"{version[0]}.{version[1]}"


def _headers(token: str, version: Version) -> dict[str, str]:
    """Both names of the version header: old Novas know only the second."""
    return {
        "X-Auth-Token": token,
        "Content-Type": "application/json",
        "OpenStack-API-Version": f"compute {_text(version)}",
        "X-OpenStack-Nova-API-Version": _text(version),
    }


def _newest_common(document: Mapping[str, Any]) -> Version:
    """From the version document of the endpoint; "" there means that it knows no versions besides 2.1."""
    newest, oldest = (_parsed(document.get(key)) for key in ("version", "min_version"))
    if oldest > HIGHEST:
        raise Unavailable(f"Nova speaks {_text(oldest)} and newer, this program up to {_text(HIGHEST)}")
    return min(newest, HIGHEST)


def _parsed(text: str | None) -> Version:
    major, _, minor = (text or _text(BASE)).partition(".")
    return int(major), int(minor)


def _retry_after_s(reply: Reply) -> float:
    text = reply.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else RETRY_AFTER_DEFAULT_S
