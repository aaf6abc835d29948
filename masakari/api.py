"""The controller's HTTP side: bytes in, status out. No SQL, no Nova.

    POST /                 a callback: checked, handed to intake, and answered once intake has stored or refused it
    GET /may-start?host=H  whether nova-compute of a host may start, asked by that host; up_s=N: booted N seconds ago
    GET /healthz           whether callbacks can be taken, and what else was looked at
    GET /metrics           for Prometheus
    GET /, and /v1/...     the v1 API of OpenStack's instance-ha service: masakari/instance_ha/

Every answer but /metrics is a JSON object; an error names its field: {"error": ..., "field": ...}. What isn't
HTTP in the first place is answered by waitress itself, in plain text.
"""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import parse_qs

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import BaseWSGIServer, create_server
from waitress.utilities import BadRequest, ServerNotImplemented
from waitress.wasyncore import close_all, loop

from masakari.common.clock import Clock
from masakari.common.errors import BadNotification, Unavailable
from masakari.common.notification import WHOLE, Notification, Receipt, parse
from masakari.common.signature import HEADER, Key, authorise, verify
from masakari.metrics import CONTENT_TYPE, Metrics

log = logging.getLogger(__name__)

MAX_BODY = 64 * 1024
RETRY_AFTER_S = 5
SAME_LINE_S = 60
"""A refusal that is repeated unchanged is logged again after this time, with the number of those between."""

MAX_REMEMBERED = 256

THREADS = 72
"""64 senders may wait for their commit at the same time; the rest answers /healthz and /metrics meanwhile."""

STOP_S = 5
_SIGNATURE = "HTTP_" + HEADER.upper().replace("-", "_")

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], Any]
Health = Callable[[], tuple[bool, Mapping[str, Any]]]
"""Whether callbacks can be taken, and what to show; asked at each GET /healthz."""

MayStart = Callable[[str, float], tuple[bool, str]]
"""Whether nova-compute of a host may start, and why; asked at each GET /may-start, with the host's uptime in seconds. Raises
Unavailable."""


OpenStackApi = Callable[[Environ], "Answer"]
"""Answers what belongs to the v1 API of OpenStack."""


class Intake(Protocol):
    """Where accepted callbacks go."""

    def submit(self, notification: Notification, trusted: bool, key_id: str | None, receipt: float) -> Receipt:
        """Store a report and return once that is committed. `receipt`: when it came, Unix seconds.

        Untrusted ones are stored and acted on only when released. Raises Unavailable when nothing was stored, and
        BadNotification (403) for a host outside its sender's cluster.
        """


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back to the caller."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, status: int, content: Mapping[str, Any], *headers: tuple[str, str]) -> Answer:
        """An answer in JSON."""
        return cls(status, json.dumps(content).encode() + b"\n", headers=headers)

    @classmethod
    def error(cls, status: int, problem: str, field: str = "", *headers: tuple[str, str]) -> Answer:
        """An error: what is wrong, and with which field, if it is about one."""
        return cls.of(status, {"error": problem, "field": field}, *headers)


class Api:
    """The WSGI application. `keys` may be replaced while it runs."""

    def __init__(
        self,
        intake: Intake,
        health: Health,
        metrics: Metrics,
        keys: Mapping[str, Key],
        callbacks_mode: str,
        clock: Clock,
        may_start: MayStart,
        openstack_api: OpenStackApi,
    ) -> None:
        assert callbacks_mode in ("signed", "hold", "open"), callbacks_mode
        self.keys = keys
        self._intake = intake
        self._health = health
        self._metrics = metrics
        self._callbacks_mode = callbacks_mode
        self._clock = clock
        self._may_start = may_start
        self._openstack_api = openstack_api
        self._refusals = Refusals(clock)
        self._routes: dict[str, tuple[tuple[str, ...], Callable[[Environ], Answer]]] = {
            "/": (("POST",), self._post_callback),
            "/may-start": (("GET",), self._get_may_start),
            "/healthz": (("GET", "HEAD"), self._get_health),
            "/metrics": (("GET", "HEAD"), self._get_metrics),
        }

    def reload(self, keys: Mapping[str, Key], callbacks_mode: str) -> None:
        """Go on with other keys and another mode."""
        self.keys, self._callbacks_mode = keys, callbacks_mode

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (WSGI)."""
        answer = self._answer(environ)
        headers = [("Content-Type", answer.content_type), ("Content-Length", str(len(answer.body)))]
        start_response(f"{answer.status} {HTTPStatus(answer.status).phrase}", [*headers, *answer.headers])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]

    def _answer(self, environ: Environ) -> Answer:
        path = environ.get("PATH_INFO") or "/"
        if path == "/v1" or path.startswith("/v1/") or (path == "/" and environ["REQUEST_METHOD"] in ("GET", "HEAD")):
            return self._openstack_api(environ)
        if path not in self._routes:
            return Answer.error(404, "no such path; callbacks go to /")
        methods, handler = self._routes[path]
        if environ["REQUEST_METHOD"] not in methods:
            allowed = ", ".join(methods)
            return Answer.error(405, f"only {allowed} here", "", ("Allow", allowed))
        return handler(environ)

    def _post_callback(self, environ: Environ) -> Answer:
        try:
            receipt = self._accept(environ)
        except BadNotification as error:
            return self._refuse(environ, error)
        except Unavailable as error:
            return self._turn_away(environ, error)
        self._metrics.reports.inc(outcome="known" if receipt.known else "accepted")
        return Answer.of(
            receipt.status_code,
            {
                "recovery": receipt.recovery_id,
                "status": receipt.recovery_status,
                "reason": receipt.reason,
                "known": receipt.known,
            },
        )

    def _accept(self, environ: Environ) -> Receipt:
        now = self._clock.now()
        body = _read_body(environ)
        signature = environ.get(_SIGNATURE)
        if signature is not None:
            return self._accept_signed(body, signature, now)
        if self._callbacks_mode == "signed":
            raise BadNotification(HEADER, "missing: callbacks must be signed", 401)
        return self._intake.submit(parse(body, now), self._callbacks_mode == "open", None, now)

    def _accept_signed(self, body: bytes, signature: str, now: float) -> Receipt:
        """The signature comes first: who has no key learns nothing about what we accept."""
        keys = self.keys
        key_id, key = verify(signature, body, keys, now)
        notification = parse(body, now)
        authorise(notification, key, keys)
        if not notification.observer:
            notification = replace(notification, observer=key.host)
        return self._intake.submit(notification, True, key_id, now)

    def _refuse(self, environ: Environ, error: BadNotification) -> Answer:
        self._metrics.reports.inc(outcome="unauthorised" if error.status in (401, 403) else "refused")
        self._refusals.tell(environ.get("REMOTE_ADDR", "?"), error.status, str(error))
        return Answer.error(error.status, error.problem, error.field)

    def _turn_away(self, environ: Environ, error: Unavailable) -> Answer:
        self._metrics.reports.inc(outcome="unavailable")
        self._refusals.tell(environ.get("REMOTE_ADDR", "?"), 503, f"{error}; the sender keeps it")
        problem = "the database can't be reached: nothing was stored, send it again"
        return Answer.error(503, problem, "", ("Retry-After", str(RETRY_AFTER_S)))

    def _get_may_start(self, environ: Environ) -> Answer:
        try:
            allowed, reason = self._may_start(*self._asking_host(environ))
        except BadNotification as error:
            self._refusals.tell(environ.get("REMOTE_ADDR", "?"), error.status, str(error), "GET /may-start")
            return Answer.error(error.status, error.problem, error.field)
        except Unavailable:
            return Answer.error(503, "the database can't be reached", "", ("Retry-After", str(RETRY_AFTER_S)))
        return Answer.of(200, {"may_start": allowed, "reason": reason})

    def _asking_host(self, environ: Environ) -> tuple[str, float]:
        """The host in the query, and its uptime. What is signed is the path with the query, as it stands in the request."""
        query, signature = environ.get("QUERY_STRING", ""), environ.get(_SIGNATURE)
        key = None
        if signature is not None:
            _, key = verify(signature, f"/may-start?{query}".encode("latin-1"), self.keys, self._clock.now())
        elif self._callbacks_mode == "signed":
            raise BadNotification(HEADER, "missing: the question must be signed", 401)
        asked = parse_qs(query)
        host, up_s = asked.get("host", [""])[-1], asked.get("up_s", ["0"])[-1]
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,255}", host):
            raise BadNotification("host", "not a host name (letters, digits, '-', '_' and '.')")
        if key is not None and key.host != host:
            raise BadNotification("host", f"{key.host} may ask only about itself", 403)
        if not re.fullmatch(r"[0-9]{1,12}", up_s):
            raise BadNotification("up_s", "not a number of seconds")
        return host, float(up_s)

    def _get_health(self, environ: Environ) -> Answer:
        well, shown = self._health()
        return Answer.of(200 if well else 503, shown)

    def _get_metrics(self, environ: Environ) -> Answer:
        return Answer(200, self._metrics.render().encode(), CONTENT_TYPE)


def make_app(
    intake: Intake,
    health: Health,
    metrics: Metrics,
    keys: Mapping[str, Key],
    callbacks_mode: str,
    clock: Clock,
    may_start: MayStart,
    openstack_api: OpenStackApi,
) -> Api:
    """The WSGI application. `callbacks_mode`: signed, hold or open, as in [auth]; `keys`: by key id."""
    return Api(intake, health, metrics, keys, callbacks_mode, clock, may_start, openstack_api)


class Refusals:
    """Logs what is refused, one line each, but a refusal that is merely repeated only once in SAME_LINE_S.

    A refused monitor comes back every few seconds, and anybody may send rubbish: neither fills the log.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last: dict[tuple[str, int], _Told] = {}

    def tell(self, sender: str, status: int, problem: str, what: str = "a callback") -> None:
        """Log the refusal, or only count it: at most one line a second for one sender and status."""
        now = self._clock.monotonic()
        with self._lock:
            last = self._last.get((sender, status))
            if last is not None and now - last.at < (SAME_LINE_S if problem == last.problem else 1):
                last.more += 1
                return
            if len(self._last) >= MAX_REMEMBERED:
                self._last.clear()
            self._last[sender, status] = _Told(problem, now)
        more = f" ({last.more} more since the last such line)" if last is not None and last.more else ""
        log.warning("refused %s from %s with %d: %s%s", what, sender, status, problem, more)


@dataclass(slots=True)
class _Told:
    problem: str
    at: float
    more: int = 0


def _read_body(environ: Environ) -> bytes:
    # The server has read the body to its end and knows its length, chunked or not.
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if length > MAX_BODY:
        raise BadNotification(WHOLE, f"{length} bytes, at most {MAX_BODY} are accepted", 413)
    body: bytes = environ["wsgi.input"].read(length)
    return body


def serve_settings(
    host: str, port: int, threads: int = THREADS, connections: int = 500, timeout_s: int = 30
) -> dict[str, Any]:
    """The settings of waitress: a limit on everything that a caller chooses.

    A connection on which nothing moves, as when a body ends early, is closed after `timeout_s`, or up to a
    sixth of that later. At most `connections` are open; further ones wait to be accepted.
    """
    return {
        "listen": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        "threads": threads,
        # waitress counts what it listens with: a socket and a pipe.
        "connection_limit": connections + 2,
        "channel_timeout": timeout_s,
        "cleanup_interval": max(1, timeout_s // 6),
        # Larger than MAX_BODY, so that our own 413 tells the limit; beyond this nothing is even read.
        "max_request_body_size": 1024 * 1024,
        "max_request_header_size": 8192,
        # A caller that hangs up is not worth a traceback: it comes back.
        "log_socket_errors": False,
        # select() can't take descriptors above 1023.
        "asyncore_use_poll": True,
        "ident": None,
        # The default of waitress 3, said because older ones warn that it will come.
        "clear_untrusted_proxy_headers": True,
    }


def make_server(
    app: Api, host: str, port: int, threads: int = THREADS, connections: int = 500, timeout_s: int = 30
) -> Server:
    """Listen, on any free port for 0; requests are answered once run() is called. OSError if it can't."""
    return Server(app, serve_settings(host, port, threads, connections, timeout_s))


class Server:
    """A waitress server that can be stopped from any thread or signal handler."""

    def __init__(self, app: Api, settings: dict[str, Any]) -> None:
        # Callers queue when all threads are busy; a line about each of them helps nobody.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        self._map: dict[int, Any] = {}
        self._waitress = create_server(app, map=self._map, **settings)
        self._listeners = [item for item in self._map.values() if isinstance(item, BaseWSGIServer)]
        for listener in self._listeners:
            listener.channel_class = _Channel
        self._stopping = False

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._listeners[0].effective_port)

    def run(self) -> None:
        """Answer requests until close() is called; then finish those in hand, for STOP_S at most."""
        while not self._stopping:
            loop(timeout=1, use_poll=True, map=self._map, count=1)
        self._stop()

    def close(self) -> None:
        """Let run() return soon. May be called at any time, more than once."""
        if not self._stopping:
            self._stopping = True
            self._listeners[0].pull_trigger()

    def _stop(self) -> None:
        dispatcher = self._listeners[0].task_dispatcher
        dispatcher.shutdown(timeout=STOP_S)
        for _ in range(STOP_S):
            if any(getattr(item, "total_outbufs_len", 0) for item in self._map.values()):
                loop(timeout=1, use_poll=True, map=self._map, count=1)
        # A thread that is still busy will write to the trigger's descriptor: that number must not be given to
        # another file. The end of the process closes it all.
        if not dispatcher.threads:
            close_all(self._map)


class _Parser(HTTPRequestParser):
    """waitress's parser, where some malformed requests end in an exception or a 501; here all get a 4xx."""

    path = "?"
    error: Any = None
    completed = False

    def __init__(self, adj: Any) -> None:
        super().__init__(adj)
        self._clock = Clock()
        self._started = self._clock.monotonic()

    def received(self, data: bytes) -> int:
        """Take the next bytes; as in waitress, but any bytes end in a request or in `error`."""
        try:
            consumed = int(super().received(data))
        except ValueError:
            return self._refuse(BadRequest("Malformed address or length"), data)
        if isinstance(self.error, ServerNotImplemented):
            # For a sender 5xx means to try again later, and later would be no better.
            self.error = BadRequest(self.error.body)
        if not self.completed and self._clock.monotonic() - self._started > self.adj.channel_timeout:
            return self._refuse(_TooSlow("Request took too long"), data)
        return consumed

    def _refuse(self, error: BadRequest, data: bytes) -> int:
        self.error = error
        self.completed = True
        return len(data)


class _TooSlow(BadRequest):
    code = 408
    reason = "Request Timeout"


class _Channel(HTTPChannel):
    parser_class = _Parser
