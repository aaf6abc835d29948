"""The WSGI application: Keystone on /identity, Nova on /compute, controls on /sim; latency and faults."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from masakari.common.clock import Clock

from . import nova_api
from .faults import Fault, Faults
from .keystone_api import Keystone
from .model import World
from .nova_api import Nova
from .web import NoAnswer, Reply, Request, read_request

READ_TIMEOUT = "simcloud.read_timeout_s"  # in the environment: how long this caller waits; absent: for ever


class App:
    """Routes, counts, delays and spoils requests; Keystone and Nova answer them.

    Raises NoAnswer to the WSGI server when the caller gets no answer: the server closes the connection.
    """

    def __init__(
        self,
        world: World,
        keystone: Keystone,
        nova: Nova,
        clock: Clock,
        api_latency_s: float,
        control: Callable[[Request], Reply],
    ) -> None:
        self.world = world
        self.keystone = keystone
        self.nova = nova
        self.clock = clock
        self.api_latency_s = api_latency_s
        self.control = control
        self.faults = Faults()
        self.away: set[str] = set()  # "keystone", "nova"

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = read_request(environ)
        reply = self._answer(request, _Patience(self.clock, environ.get(READ_TIMEOUT)))
        payload = b""
        headers = {"Content-Type": "application/json"}
        if isinstance(reply.body, str):
            headers["Content-Type"] = "text/html; charset=utf-8"
            payload = reply.body.encode()
        elif reply.body is not None:
            payload = json.dumps(reply.body).encode()
        headers |= reply.headers
        headers["Content-Length"] = str(len(payload))
        start_response(f"{reply.status} {HTTPStatus(reply.status).phrase}", list(headers.items()))
        return [payload]

    def _answer(self, request: Request, patience: _Patience) -> Reply:
        mount, _, rest = request.path.lstrip("/").partition("/")
        if mount == "sim":
            return self.control(request)
        request.path = f"/{rest}"
        if mount == "identity":
            name = "sign_in" if (request.method, rest) == ("POST", "v3/auth/tokens") else "keystone_other"
            return self._serve("keystone", name, request, lambda: self.keystone.handle(request), patience)
        if mount == "compute":
            name, handler, groups = nova_api.route(request)
            return self._serve(
                "nova", name, request, lambda: self.nova.handle(request, name, handler, groups), patience
            )
        return Reply(404, {"message": "Nothing is mounted here: /identity, /compute, /sim"})

    def _serve(
        self, service: str, name: str, request: Request, execute: Callable[[], Reply], patience: _Patience
    ) -> Reply:
        def run() -> Reply:
            with self.world.alone():
                return execute()

        with self.world.alone():
            self.world.calls[name] += 1
            fault = self.faults.take(name, service, is_write=request.method not in ("GET", "HEAD"))
            self.nova.keystone_away = "keystone" in self.away
        if service in self.away:
            raise NoAnswer("refused")
        patience.wait(self.api_latency_s)
        reply = run() if fault is None else self._spoil(fault, run, patience)
        patience.wait(reply.delay_s)
        return reply

    def _spoil(self, fault: Fault, run: Callable[[], Reply], patience: _Patience) -> Reply:
        if fault.kind == "lose_request":
            patience.give_up(fault.how)
        if fault.kind == "lose_answer":
            run()
            patience.give_up(fault.how)
        if fault.kind == "late":
            if patience.outlasts(fault.delay_s):
                patience.wait(fault.delay_s)
                return run()
            with self.world.alone():
                self.world.after(fault.delay_s, lambda: _discard(run()))
            patience.give_up("read timeout")
        if fault.kind == "slow":
            reply = run()
            patience.wait(fault.delay_s)
            return reply
        if fault.executed:
            run()
        spoilt = nova_api.error(fault.status, f"The simulated cloud was told to answer {fault.status}.")
        if fault.status == 429:
            spoilt.headers["Retry-After"] = str(fault.retry_after_s)
        spoilt.headers["X-Openstack-Request-Id"] = self.world.new_request_id()
        return spoilt


def _discard(_: Reply) -> None:
    """Nobody waits for this answer any more."""


class _Patience:
    """How long the caller of one request still waits for the answer."""

    def __init__(self, clock: Clock, limit_s: float | None) -> None:
        self._clock = clock
        self._left_s = limit_s

    def outlasts(self, seconds: float) -> bool:
        return self._left_s is None or seconds <= self._left_s

    def wait(self, seconds: float) -> None:
        """Let time pass; raises NoAnswer at the moment the caller gives up."""
        if not self.outlasts(seconds):
            self.give_up("read timeout")
        if seconds > 0:
            self._clock.sleep(seconds)
            if self._left_s is not None:
                self._left_s -= seconds

    def give_up(self, how: str) -> None:
        """Raises NoAnswer: at once, or when the caller's time is up."""
        if how == "read timeout" and self._left_s is not None:
            self._clock.sleep(self._left_s)
        raise NoAnswer(how)
