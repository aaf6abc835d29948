"""Nova's HTTP API: sign-in, microversions, routing. The handlers are in nova_hosts and nova_servers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from .keystone_api import Keystone, User
from .model import World
from .nova_aggregates import (
    act_on_aggregate,
    create_aggregate,
    delete_aggregate,
    list_aggregates,
    show_aggregate,
)
from .nova_call import Call, error, no_such_url, parse_version, version_text
from .nova_hosts import list_hypervisors, list_services, search_hypervisors, update_service, uptime
from .nova_servers import (
    act_on_server,
    delete_server,
    list_actions,
    list_migrations,
    list_servers,
    show_action,
    show_server,
)
from .nova_views import Version
from .records import Refused
from .web import Reply, Request

_TOKEN_CACHE_S = 300.0
_KEYSTONE_AWAY_S = 3.5


class Nova:
    """The compute API.

    Args:
        versions: lowest and highest microversion, such as ("2.1", "2.93").
    """

    def __init__(self, world: World, keystone: Keystone, versions: tuple[str, str]) -> None:
        self.world = world
        self.keystone = keystone
        self.keystone_away = False
        self.lowest, self.highest = (parse_version(text) for text in versions)

    def handle(self, request: Request, name: str, handler: Handler | None, groups: dict[str, str]) -> Reply:
        """Answer one request, as routed by route(). Refusals of the model become Nova's error bodies."""
        request_id = self.world.new_request_id()
        version = self.lowest
        try:
            version = self._version(request)
            reply = self._answer(request, version, request_id, handler, groups)
        except Refused as refusal:
            reply = error(refusal.status, refusal.message)
        reply.headers |= {"X-Openstack-Request-Id": request_id, "X-Compute-Request-Id": request_id}
        if reply.status not in (401, 503) and name not in ("nova_versions", "unknown"):
            text = "{}.{}".format(*version)
            reply.headers |= {
                "Openstack-Api-Version": f"compute {text}",
                "X-Openstack-Nova-Api-Version": text,
                "Vary": "OpenStack-API-Version, X-OpenStack-Nova-API-Version",
            }
        return reply

    def _answer(
        self,
        request: Request,
        version: Version,
        request_id: str,
        handler: Handler | None,
        groups: dict[str, str],
    ) -> Reply:
        base = f"{request.base_url}/compute"
        if handler is show_versions:
            return Reply(200, self._versions(request, base))
        user = self._signed_in(request)
        if isinstance(user, Reply):
            return user
        if handler is None:
            return no_such_url()
        return handler(self.world, Call(request, version, user, request_id, base), **groups)

    def _version(self, request: Request) -> Version:
        text = request.headers.get("x-openstack-nova-api-version")
        service, _, compute = request.headers.get("openstack-api-version", "").partition(" ")
        if service == "compute":
            text = compute.strip()
        if text is None:
            return self.lowest
        if text == "latest":
            return self.highest
        if not re.fullmatch(r"\d+\.\d+", text):
            raise Refused(
                400, f"API Version String {text} is of invalid format. Must be of format MajorNum.MinorNum."
            )
        version = parse_version(text)
        if not self.lowest <= version <= self.highest:
            raise Refused(
                406,
                f"Version {text} is not supported by the API. Minimum is {version_text(self.lowest)} and "
                f"maximum is {version_text(self.highest)}.",
            )
        return version

    def _versions(self, request: Request, base: str) -> dict[str, Any]:
        newest = {
            "id": "v2.1",
            "status": "CURRENT",
            "version": version_text(self.highest),
            "min_version": version_text(self.lowest),
            "updated": "2013-07-23T11:33:21Z",
            "links": [{"rel": "self", "href": f"{base}/v2.1/"}],
        }
        if "v2.1" in request.path:
            return {"version": newest}
        return {
            "versions": [
                {
                    "id": "v2.0",
                    "status": "SUPPORTED",
                    "version": "",
                    "min_version": "",
                    "updated": "2011-01-21T11:33:21Z",
                    "links": [{"rel": "self", "href": f"{base}/v2/"}],
                },
                newest,
            ]
        }

    def _signed_in(self, request: Request) -> User | Reply:
        token = self.keystone.tokens.get(request.headers.get("x-auth-token", ""))
        now = self.world.now
        if token is not None and now < min(token.cached_until, token.expires_at):
            return token.user
        if self.keystone_away:
            return Reply(
                503,
                {
                    "message": "The server is currently unavailable. Please try again at a later time."
                    "<br /><br />\nThe Keystone service is temporarily unavailable.\n\n",
                    "code": "503 Service Unavailable",
                    "title": "Service Unavailable",
                },
                delay_s=_KEYSTONE_AWAY_S,
            )
        if token is None or self.keystone.believe(token.id) is None or not token.scoped:
            return Reply(
                401,
                {
                    "error": {
                        "code": 401,
                        "title": "Unauthorized",
                        "message": "The request you have made requires authentication.",
                    }
                },
                {"WWW-Authenticate": f'Keystone uri="{request.base_url}/identity/v3"'},
            )
        token.cached_until = now + _TOKEN_CACHE_S
        return token.user


def show_versions(world: World, call: Call) -> Reply:
    """Only its name matters: versions are answered without a token."""
    raise NotImplementedError


Handler = Callable[..., Reply]
_ROUTES: list[tuple[str, str, str, Handler]] = [
    ("GET", r"/?|/v2\.1/?", "nova_versions", show_versions),
    ("GET", r"/v2\.1/os-services", "list_services", list_services),
    ("PUT", r"/v2\.1/os-services/(?P<which>[^/]+)", "update_service", update_service),
    ("GET", r"/v2\.1/os-hypervisors(?P<detail>/detail)?", "list_hypervisors", list_hypervisors),
    (
        "GET",
        r"/v2\.1/os-hypervisors/(?P<pattern>[^/]+)/(?P<what>servers|search)",
        "search_hypervisors",
        search_hypervisors,
    ),
    ("GET", r"/v2\.1/os-hypervisors/(?P<hypervisor_id>[^/]+)/uptime", "uptime", uptime),
    ("GET", r"/v2\.1/os-aggregates", "list_aggregates", list_aggregates),
    ("POST", r"/v2\.1/os-aggregates", "create_aggregate", create_aggregate),
    ("GET", r"/v2\.1/os-aggregates/(?P<aggregate_id>[^/]+)", "show_aggregate", show_aggregate),
    ("DELETE", r"/v2\.1/os-aggregates/(?P<aggregate_id>[^/]+)", "delete_aggregate", delete_aggregate),
    ("POST", r"/v2\.1/os-aggregates/(?P<aggregate_id>[^/]+)/action", "aggregate_action", act_on_aggregate),
    ("GET", r"/v2\.1/servers(?P<detail>/detail)?", "list_servers", list_servers),
    ("GET", r"/v2\.1/servers/(?P<server_id>[^/]+)", "show_server", show_server),
    ("DELETE", r"/v2\.1/servers/(?P<server_id>[^/]+)", "delete_server", delete_server),
    ("POST", r"/v2\.1/servers/(?P<server_id>[^/]+)/action", "server_action", act_on_server),
    ("GET", r"/v2\.1/os-migrations", "list_migrations", list_migrations),
    ("GET", r"/v2\.1/servers/(?P<server_id>[^/]+)/os-instance-actions", "list_actions", list_actions),
    (
        "GET",
        r"/v2\.1/servers/(?P<server_id>[^/]+)/os-instance-actions/(?P<request_id>[^/]+)",
        "show_action",
        show_action,
    ),
]
_COMPILED = [(method, re.compile(pattern), name, handler) for method, pattern, name, handler in _ROUTES]
_ACTION_NAMES = {
    "evacuate": "evacuate",
    "os-resetState": "reset_state",
    "os-stop": "stop",
    "os-start": "start",
}


def route(request: Request) -> tuple[str, Handler | None, dict[str, str]]:
    """Name of the call, its handler (None: no such URL) and the parts of its path.

    The name is what calls are counted and faults are chosen by; for a change of a service and for an action
    on a server it depends on the body.
    """
    for method, pattern, name, handler in _COMPILED:
        if method == request.method and (match := pattern.fullmatch(request.path)):
            groups = match.groupdict()
            if name in ("server_action", "aggregate_action"):
                name = _action_name(request)
            elif name == "update_service":
                name = _update_name(request, groups["which"])
            return name, handler, groups
    return "unknown", None, {}


def _body_or_empty(request: Request) -> dict[str, Any]:
    try:
        body = request.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _action_name(request: Request) -> str:
    action = next(iter(_body_or_empty(request)), "action")
    return _ACTION_NAMES.get(action, action)


def _update_name(request: Request, which: str) -> str:
    """force_down (with or without a disable), unforce (with or without an enable), disable, enable."""
    body = _body_or_empty(request)
    if "forced_down" in body:
        return "force_down" if body["forced_down"] in (True, "true", "True") else "unforce"
    if which == "enable" or body.get("status") == "enabled":
        return "enable"
    return "disable"
