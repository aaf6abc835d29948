"""A client that calls the simulated cloud in one line and shows what comes back, for tests."""

from __future__ import annotations

from typing import Any

import requests

from .cloud import SimulatedCloud


class Api:
    """Signed in; methods return the raw answer, or the part of it that a test asks about."""

    def __init__(self, cloud: SimulatedCloud, user: str = "masakari", project: str = "service") -> None:
        self.cloud = cloud
        self.session = cloud.session()
        self.token = self.sign_in(user, project).headers["X-Subject-Token"]

    def sign_in(self, user: str, project: str | None, password: str = "simcloud") -> requests.Response:
        account = {"name": user, "domain": {"name": "Default"}, "password": password}
        auth: dict[str, Any] = {"identity": {"methods": ["password"], "password": {"user": account}}}
        if project:
            auth["scope"] = {"project": {"name": project, "domain": {"id": "default"}}}
        return self.keystone("POST", "/auth/tokens", json={"auth": auth})

    def keystone(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        return self.session.request(method, self.cloud.auth_url + path, timeout=(3, 10), **kwargs)

    def nova(
        self, method: str, path: str, version: str = "2.1", body: Any = None, read_s: float = 100.0
    ) -> requests.Response:
        headers = {"X-Auth-Token": self.token, "OpenStack-API-Version": f"compute {version}"}
        url = f"{self.cloud.url}/compute/v2.1{path}"
        return self.session.request(method, url, headers=headers, json=body, timeout=(3, read_s))

    def service(self, host: str, version: str = "2.53") -> dict[str, Any]:
        return self.nova("GET", f"/os-services?host={host}&binary=nova-compute", version).json()["services"][
            0
        ]

    def update(self, host: str, read_s: float = 100.0, **body: Any) -> requests.Response:
        return self.nova("PUT", f"/os-services/{self.service(host)['id']}", "2.53", body, read_s)

    def server(self, uuid: str) -> dict[str, Any]:
        return self.nova("GET", f"/servers/{uuid}").json()["server"]

    def looks(self, uuid: str) -> tuple[str, str | None, str]:
        server = self.server(uuid)
        return server["status"], server["OS-EXT-STS:task_state"], server["OS-EXT-SRV-ATTR:host"]

    def act(self, uuid: str, action: str, arguments: Any = None, version: str = "2.1") -> requests.Response:
        return self.nova("POST", f"/servers/{uuid}/action", version, {action: arguments})

    def evacuate(
        self, uuid: str, host: str | None = "compute3", version: str = "2.68", **more: Any
    ) -> requests.Response:
        return self.act(uuid, "evacuate", ({"host": host} if host else {}) | more, version)

    def migrations(self, uuid: str) -> list[str]:
        path = f"/os-migrations?migration_type=evacuation&instance_uuid={uuid}"
        return [record["status"] for record in self.nova("GET", path, "2.59").json()["migrations"]]

    def last_action(self, uuid: str) -> dict[str, Any]:
        return self.nova("GET", f"/servers/{uuid}/os-instance-actions").json()["instanceActions"][0]


def message(answer: requests.Response) -> str:
    """The text of an error that Nova gave."""
    (problem,) = answer.json().values()
    return str(problem["message"])


def kill_and_fence(cloud: SimulatedCloud, api: Api, host: str = "compute1") -> None:
    """The host loses power, and Nova is told."""
    cloud.crash(host)
    assert api.update(host, forced_down=True, status="disabled").status_code == 200
