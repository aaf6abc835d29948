"""The clouds that the contract suite runs on: the simulated one, and a real one steered by a command."""

from __future__ import annotations

import io
import json
import os
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import requests

from masakari.cloud_http import new_session
from masakari.common.clock import Clock
from masakari.keystone import CloudSettings, Keystone, tokens_url
from masakari.nova import Aggregate, Nova
from tests.simcloud import SimulatedCloud
from tests.simcloud.clock import VirtualClock

CTL = os.environ.get("CLOUD_CTL", "")
CTL_TIMEOUT_S = 600
POLL_S = 0.1


class Cloud(ABC):
    """A cloud with at least three hosts, as little as the suite needs of it besides Keystone and Nova."""

    clock: Clock

    @abstractmethod
    def settings(self, **changes: Any) -> CloudSettings:
        """How to reach it, as an admin with a password."""

    @abstractmethod
    def session(self) -> requests.Session:
        """A new session that reaches it."""

    @abstractmethod
    def boot(self, n: int, host: str) -> list[str]:
        """Create n servers from an image on a host; their ids once they are ACTIVE."""

    @abstractmethod
    def kill(self, host: str) -> None:
        """The host dies: its guests, too, and nobody tells Nova."""

    @abstractmethod
    def start(self, host: str) -> None:
        """The host boots again, empty; its nova-compute starts."""

    @abstractmethod
    def application_credential(self) -> tuple[str, str]:
        """Id and secret of an application credential that may do what the user may."""

    @abstractmethod
    def reset(self) -> None:
        """All hosts run, enabled and not forced down, and there are no servers."""

    def keystone(self, **changes: Any) -> Keystone:
        """A port of its own, which has not signed in yet."""
        return Keystone(self.settings(**changes), self.clock, session_factory=self.session)

    def nova(self, newest: str = "", **changes: Any) -> Nova:
        """A port of its own; it meets a Nova whose newest version is `newest`, if given."""

        def session() -> requests.Session:
            session = self.session()
            if newest:
                session.hooks["response"].append(_says_newest(newest))
            return session

        keystone = self.keystone(**changes)
        return Nova(keystone, self.settings(**changes), self.clock, session_factory=session)

    def revoke(self, keystone: Keystone, token: str) -> None:
        """Make a token invalid at Keystone."""
        headers = {"X-Auth-Token": token, "X-Subject-Token": token}
        url = tokens_url(self.settings().auth_url)
        assert keystone.session.delete(url, headers=headers, timeout=30).status_code == 204

    def aggregate(self, name: str, zone: str | None = None) -> Aggregate:
        """A new host aggregate without hosts, one with a zone as an availability zone."""
        wanted = {"aggregate": {"name": name, "availability_zone": zone}}
        made = self._ask("POST", "/os-aggregates", wanted).json()["aggregate"]
        return Aggregate(made["id"], made["name"], ())

    def drop_aggregate(self, aggregate: Aggregate) -> None:
        """Take its hosts out, and delete it."""
        path = f"/os-aggregates/{aggregate.id}"
        for host in self._ask("GET", path).json()["aggregate"]["hosts"]:
            self._ask("POST", f"{path}/action", {"remove_host": {"host": host}})
        self._ask("DELETE", path)

    def _ask(self, method: str, path: str, body: Any = None) -> requests.Response:
        """A request to Nova that no port makes; it must succeed."""
        keystone = self.keystone()
        token = keystone.token()
        answer = keystone.session.request(
            method, token.compute_url + path, json=body, headers={"X-Auth-Token": token.value}, timeout=30
        )
        assert answer.status_code == 200, answer.text
        return answer

    def until(self, within_s: float, what: str, reached: Callable[[], Any]) -> Any:
        """What `reached` returns as soon as that is true; fails when it takes longer."""
        deadline = self.clock.monotonic() + within_s
        while True:
            found = reached()
            if found:
                return found
            assert self.clock.monotonic() < deadline, f"not within {within_s} s: {what}"
            self.clock.sleep(POLL_S)


def _says_newest(newest: str) -> Callable[..., requests.Response]:
    """Makes the version document name an older version, as the same cloud would have some years ago."""

    def hook(response: requests.Response, **_: Any) -> requests.Response:
        if response.request.method != "GET" or not str(response.url).endswith("/v2.1/"):
            return response
        document = response.json()
        document["version"]["version"] = newest
        older = requests.Response()
        older.status_code, older.headers, older.url = response.status_code, response.headers, response.url
        older.raw = io.BytesIO(json.dumps(document).encode())
        return older

    return hook


class Simulated(Cloud):
    """tests.simcloud in virtual time, without sockets."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.reset()

    def settings(self, **changes: Any) -> CloudSettings:
        account = {
            "auth_url": self._cloud.auth_url,
            "admin_user": "masakari",
            "admin_password": self._cloud.keystone.password,
            "project_name": "service",
        }
        return CloudSettings(**{**account, **changes})

    def session(self) -> requests.Session:
        return self._cloud.session()

    def boot(self, n: int, host: str) -> list[str]:
        return self._cloud.boot(host, n, local_disk=True)

    def kill(self, host: str) -> None:
        self._cloud.crash(host)

    def start(self, host: str) -> None:
        self._cloud.start(host)

    def application_credential(self) -> tuple[str, str]:
        credential = self._cloud.keystone.app_credential
        assert credential
        return credential[0], credential[2]

    def reset(self) -> None:
        self._cloud = SimulatedCloud(self.clock)


class Real(Cloud):
    """A cloud steered by the program in CLOUD_CTL: its verbs up, env, boot N HOST, kill HOST, start HOST, purge.

    OS_* variables say how to reach it; those not set are taken from its `env`.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self._killed: set[str] = set()
        self._credential: tuple[str, str] | None = None
        _ctl("up")
        given = dict(line.removeprefix("export ").split("=", 1) for line in _ctl("env").splitlines())
        self._env = {**given, **os.environ}
        self.reset()

    def settings(self, **changes: Any) -> CloudSettings:
        env = self._env
        account = {
            "auth_url": env["OS_AUTH_URL"],
            "admin_user": env["OS_USERNAME"],
            "admin_password": env["OS_PASSWORD"],
            "project_name": env["OS_PROJECT_NAME"],
            "user_domain_name": env.get("OS_USER_DOMAIN_NAME", "Default"),
            "project_domain_name": env.get("OS_PROJECT_DOMAIN_NAME", "Default"),
            "region": env.get("OS_REGION_NAME", ""),
            "ca_bundle": env.get("OS_CACERT", ""),
        }
        return CloudSettings(**{**account, **changes})

    def session(self) -> requests.Session:
        return new_session(self.settings().ca_bundle)

    def boot(self, n: int, host: str) -> list[str]:
        return [line.split()[0] for line in _ctl("boot", str(n), host).splitlines()]

    def kill(self, host: str) -> None:
        self._killed.add(host)
        _ctl("kill", host)

    def start(self, host: str) -> None:
        _ctl("start", host)
        self._killed.discard(host)

    def application_credential(self) -> tuple[str, str]:
        if self._credential is None:
            self._credential = self._new_credential()
        return self._credential

    def _new_credential(self) -> tuple[str, str]:
        keystone = self.keystone()
        headers = {"X-Auth-Token": keystone.token().value}
        tokens = tokens_url(self.settings().auth_url)
        subject = {**headers, "X-Subject-Token": headers["X-Auth-Token"]}
        user = keystone.session.get(tokens, headers=subject, timeout=30).json()["token"]["user"]["id"]
        url = tokens.removesuffix("/auth/tokens") + f"/users/{user}/application_credentials"
        wanted = {"application_credential": {"name": f"contract-{self.clock.now():.0f}"}}
        made = keystone.session.post(url, json=wanted, headers=headers, timeout=30)
        credential = made.json()["application_credential"]
        return credential["id"], credential["secret"]

    def reset(self) -> None:
        for host in list(self._killed):
            self.start(host)
        _ctl("purge")


def _ctl(*arguments: str) -> str:
    """Run a verb of the control program; its output. Its error output is shown with a failing test."""
    done = subprocess.run([CTL, *arguments], stdout=subprocess.PIPE, text=True, timeout=CTL_TIMEOUT_S, check=True)
    return done.stdout


KINDS: dict[str, Callable[[], Cloud]] = {"simulated": Simulated}
if CTL:
    KINDS["real"] = Real
