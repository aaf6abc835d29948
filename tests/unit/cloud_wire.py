"""Keystone and Nova as a table of canned answers, without sockets: for the tests of the cloud's ports."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict

from masakari.common.clock import Clock
from masakari.keystone import CloudSettings, Keystone
from masakari.nova import Nova

KEYSTONE = "https://keystone.example:5000"
NOVA = "https://nova.example:8774/v2.1"
REQUEST_ID = "req-691603ca-b830-4931-8d71-5a124ec9bf8e"


class StepClock(Clock):
    """Time that passes by sleeping alone; keeps what was slept."""

    def __init__(self) -> None:
        self.passed_s = 0.0
        self.slept: list[float] = []

    def now(self) -> float:
        return 1_800_000_000.0 + self.passed_s

    def monotonic(self) -> float:
        return self.passed_s

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.passed_s += seconds


@dataclass(frozen=True)
class Answer:
    """An HTTP answer. A body that is not bytes is sent as JSON."""

    status: int = 200
    body: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)


Answerer = Answer | requests.RequestException | Callable[["Asked"], Answer]


@dataclass(frozen=True)
class Asked:
    """A request as it went over the wire."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: Any
    timeout_s: tuple[float, float]

    @property
    def path(self) -> str:
        return urlsplit(self.url).path

    @property
    def query(self) -> dict[str, str]:
        return {key: values[-1] for key, values in parse_qs(urlsplit(self.url).query).items()}

    @property
    def version(self) -> str:
        return self.headers["OpenStack-API-Version"].removeprefix("compute ")


class Wire(BaseAdapter):
    """The first route that matches answers; of several answers each is given once and the last for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Asked] = []
        self._routes: list[tuple[str, str, list[Answerer]]] = []
        self._lock = threading.Lock()

    def on(self, method: str, path: str, *answers: Answerer) -> None:
        """Answer requests whose path ends like this regular expression; before all older routes."""
        self._routes.insert(0, (method, path, list(answers)))

    def session(self) -> requests.Session:
        session = requests.Session()
        session.trust_env = False
        session.mount("http://", self)
        session.mount("https://", self)
        return session

    def sent(self, path: str) -> list[Asked]:
        """The requests whose path ends like this regular expression."""
        return [asked for asked in self.asked if re.search(path + "$", asked.path)]

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        body = json.loads(request.body) if request.body else None
        asked = Asked(request.method or "", request.url or "", request.headers, body, timeout)
        with self._lock:
            self.asked.append(asked)
            answer = self._answer(asked)
        if callable(answer):
            answer = answer(asked)
        if isinstance(answer, requests.RequestException):
            raise answer
        return _response(request, answer)

    def close(self) -> None:
        """Nothing is open."""

    def _answer(self, asked: Asked) -> Answerer:
        for method, path, answers in self._routes:
            if asked.method == method and re.search(path + "$", asked.path):
                return answers.pop(0) if len(answers) > 1 else answers[0]
        raise AssertionError(f"nobody expected {asked.method} {asked.url}")


def _response(request: requests.PreparedRequest, answer: Answer) -> requests.Response:
    body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
    response = requests.Response()
    response.request = request
    response.url = request.url or ""
    response.status_code = answer.status
    response.headers = CaseInsensitiveDict(answer.headers)
    response.raw = io.BytesIO(body)
    return response


def endpoint(url: str, region: str = "RegionOne", interface: str = "public") -> dict[str, str]:
    return {"id": "1", "interface": interface, "region": region, "region_id": region, "url": url}


CATALOG = [
    {"type": "identity", "name": "keystone", "id": "1", "endpoints": [endpoint(f"{KEYSTONE}/v3")]},
    {
        "type": "compute",
        "name": "nova",
        "id": "2",
        "endpoints": [endpoint("https://internal.example:8774/v2.1", interface="internal"), endpoint(NOVA)],
    },
]


def signed_in(token: str = "token-1", catalog: Any = CATALOG, lifetime_s: int = 3600) -> Answer:
    """What Keystone answers to a good sign-in."""
    hours, seconds = divmod(lifetime_s, 3600)
    body: dict[str, Any] = {
        "methods": ["password"],
        "issued_at": "2026-11-20T18:00:00.000000Z",
        "expires_at": f"2026-11-20T{18 + hours}:{seconds // 60:02}:{seconds % 60:02}.000000Z",
    }
    if catalog is not None:
        body["catalog"] = catalog
    return Answer(201, {"token": body}, {"X-Subject-Token": token})


def keystone_error(status: int, message: str) -> Answer:
    title = {401: "Unauthorized"}.get(status, "Error")
    return Answer(status, {"error": {"code": status, "message": message, "title": title}})


def nova_error(status: int, key: str, message: str) -> Answer:
    body = {key: {"code": status, "message": message}}
    return Answer(status, body, {"X-Openstack-Request-Id": REQUEST_ID})


TAKEN = Answer(202, b"", {"X-Openstack-Request-Id": REQUEST_ID})


def version_document(newest: str, oldest: str = "2.1") -> Answer:
    version = {"id": "v2.1", "status": "CURRENT", "version": newest, "min_version": oldest}
    return Answer(200, {"version": version})


class Cloud:
    """A Nova that knows versions up to `newest`, and the port that speaks to it."""

    def __init__(self, newest: str = "2.93", **changes: Any) -> None:
        self.wire, self.clock = Wire(), StepClock()
        self.observed: list[tuple[str, str]] = []
        self.wire.on("POST", "/v3/auth/tokens", signed_in("token-1"), signed_in("token-2"))
        self.wire.on("GET", "/v2.1/", version_document(newest))
        self.settings = CloudSettings(auth_url=KEYSTONE, admin_password="sesame", **changes)
        self.keystone = Keystone(self.settings, self.clock, session_factory=self.wire.session)
        self.nova = Nova(self.keystone, self.settings, self.clock, self.observe)

    def observe(self, call: str, result: str, seconds: float) -> None:
        self.observed.append((call, result))
