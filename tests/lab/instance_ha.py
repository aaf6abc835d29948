"""A caller of the instance-ha API of a controller, who compares every answer with the description."""

from __future__ import annotations

import threading
from typing import Any

import requests

from tests.lab.openapi import Description

ANSWER_WITHIN_S = 60
PASSWORD = "simcloud"


class Caller:
    """Signed in at the Keystone of a simulated cloud; may be used by several threads, each with a connection of its own."""

    def __init__(self, url: str, auth_url: str, user: str = "admin", project: str = "admin") -> None:
        self.url = url
        self.description = Description()
        self.token = _signed_in(auth_url, user, project)
        self._own = threading.local()

    def ask(
        self, method: str, path: str, content: Any = None, *, compare: bool = True, **options: Any
    ) -> requests.Response:
        """One request at the newest version; its answer, which is as described, unless nobody is to compare it.

        options: as those of requests.
        """
        if not hasattr(self._own, "session"):
            self._own.session = requests.Session()
        headers = {"X-Auth-Token": self.token, "OpenStack-API-Version": "instance-ha 1.3", **options.pop("headers", {})}
        answer: requests.Response = self._own.session.request(
            method, self.url + path, json=content, headers=headers, timeout=ANSWER_WITHIN_S, **options
        )
        if compare:
            plain = path.partition("?")[0]
            problem = self.description.problem(method, plain, answer.status_code, answer.headers, answer.content)
            assert not problem, f"{method} {path} {content}: {problem}\n{answer.text[:500]}"
        return answer

    def made(self, path: str, member: str, **fields: Any) -> dict[str, Any]:
        """Make one of these; what is shown of it. Raises AssertionError when it is refused."""
        answer = self.ask("POST", path, {member: fields})
        assert answer.ok, f"POST {path} {fields}: {answer.text}"
        return dict(answer.json()[member])

    def listed(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """A list, or a page of it."""
        answer = self.ask("GET", path, params=query)
        assert answer.ok, f"GET {path} {query}: {answer.text}"
        [items] = answer.json().values()
        return list(items)

    def segment(self, name: str, **fields: Any) -> dict[str, Any]:
        """Make a segment."""
        told = {"name": name, "recovery_method": "auto", "service_type": "COMPUTE", **fields}
        return self.made("/v1/segments", "segment", **told)

    def host(self, segment: dict[str, Any], name: str, **fields: Any) -> dict[str, Any]:
        """Register a host."""
        at = f"/v1/segments/{segment['uuid']}/hosts"
        return self.made(at, "host", **{"name": name, "type": "COMPUTE", "control_attributes": "SSH", **fields})


def _signed_in(auth_url: str, user: str, project: str) -> str:
    """A token for this project."""
    account = {"name": user, "domain": {"name": "Default"}, "password": PASSWORD}
    identity = {"methods": ["password"], "password": {"user": account}}
    scope = {"project": {"name": project, "domain": {"id": "default"}}}
    asked = {"auth": {"identity": identity, "scope": scope}}
    answer = requests.post(f"{auth_url}/auth/tokens", json=asked, timeout=ANSWER_WITHIN_S)
    answer.raise_for_status()
    return answer.headers["X-Subject-Token"]
