"""The controls of the simulated cloud over HTTP: POST /sim/<verb> with JSON arguments, GET /sim/state."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import requests

from .web import Reply, Request

if TYPE_CHECKING:
    from .cloud import SimulatedCloud

VERBS = (
    "boot",
    "crash",
    "kill_compute",
    "isolate_network",
    "heal_network",
    "start",
    "restart_compute",
    "crash_guest",
    "edit",
    "fault",
    "clear_faults",
    "set_away",
    "set_instance_ha",
    "running",
    "violations",
    "state",
)
_TIMEOUT_S = 30.0


def handle(cloud: SimulatedCloud, request: Request) -> Reply:
    """Carry out one control request. The answer is {"result": ...}, or {"error": ...} with 400 or 404."""
    verb = request.path.removeprefix("/sim/").strip("/")
    if verb not in VERBS:
        return Reply(404, {"error": f"no such control: {verb}; there are {', '.join(VERBS)}"})
    try:
        arguments = request.json() if request.body else {}
        return Reply(200, {"result": getattr(cloud, verb)(**arguments)})
    except (KeyError, TypeError, ValueError) as problem:
        return Reply(400, {"error": f"{type(problem).__name__}: {problem}"})


class RemoteCloud:
    """A simulated cloud in another process, with the verbs of SimulatedCloud as methods.

    Args:
        url: as `python3 -m tests.simcloud` prints it.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.auth_url = f"{self.url}/identity/v3"
        self._session = requests.Session()

    def __getattr__(self, verb: str) -> Any:
        if verb not in VERBS:
            raise AttributeError(verb)

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._call(verb, args, kwargs)

        return call

    def _call(self, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        answer = self._session.post(
            f"{self.url}/sim/{verb}", json=_by_name(verb, args, kwargs), timeout=_TIMEOUT_S
        )
        body = answer.json()
        if answer.status_code != 200:
            raise ValueError(body["error"])
        return body["result"]


def _by_name(verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    from .cloud import SimulatedCloud

    bound = inspect.signature(getattr(SimulatedCloud, verb)).bind(None, *args, **kwargs)
    arguments = dict(bound.arguments)
    del arguments["self"]
    return arguments | arguments.pop("details", {}) | arguments.pop("changes", {})
