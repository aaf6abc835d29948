"""The v1 API on the controller's port: which request goes where, who may send it, and in which form it is answered.

    GET  /  and  /v1                       which versions there are; needs no token
    /v1/segments[/{segment}[/hosts[/{host}]]]
    /v1/notifications[/{notification}[/vmoves[/{vmove}]]]      each also behind /v1/{project}

Without a header for the version it is 1.0; what later versions added to notifications is answered then all the same, since
openstacksdk asks for it without that header.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlencode
from uuid import uuid4

from masakari.api import Answer, Environ, Refusals
from masakari.common.errors import MaybeSent, Rejected, Unavailable
from masakari.config import Settings
from masakari.instance_ha import forms, versions
from masakari.instance_ha.failover import Failover
from masakari.instance_ha.notifications import Notifications
from masakari.instance_ha.paging import LARGEST_PAGE
from masakari.instance_ha.refusal import Refusal
from masakari.instance_ha.tokens import Caller, Unauthorised
from masakari.instance_ha.versions import Version
from masakari.segments import SegmentConflict

log = logging.getLogger(__name__)

MAX_BODY = 64 * 1024
MAX_ACTOR = 255
RETRY_AFTER_S = 5
COLLECTIONS = ("segments", "notifications")


class Tokens(Protocol):
    """Who says whose a token is."""

    def check(self, token: str) -> Caller:
        """Whose token it is. Raises Unauthorised, and Unavailable when nobody can say."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, as far as it concerns what is to be done. `version_told`: it names the version itself."""

    environ: Environ
    version: Version
    version_told: bool
    caller: Caller
    is_admin: bool

    @property
    def query(self) -> str:
        """What is behind the question mark."""
        return str(self.environ.get("QUERY_STRING", ""))

    @property
    def actor(self) -> str:
        """As the journal names the caller."""
        return f"operator:{self.caller.user_name}"[:MAX_ACTOR]

    def has(self, version: Version) -> bool:
        """Whether it may see what came with this version."""
        return self.version >= version or not self.version_told

    def fields(self, member: str) -> dict[str, Any]:
        """The object in its body."""
        return forms.read(_read_body(self.environ), self.environ.get("CONTENT_TYPE", ""), member)


Handler = Callable[..., tuple[int, Any]]


class InstanceHa:
    """Answers what begins with /v1, and GET of the root. `auth_url`: of the Keystone whose tokens are taken."""

    def __init__(
        self,
        failover: Failover,
        notifications: Notifications,
        tokens: Tokens,
        settings: Callable[[], Settings],
        refusals: Refusals,
    ) -> None:
        self.tokens = tokens
        self._failover = failover
        self._notifications = notifications
        self._settings = settings
        self._refusals = refusals
        self._routes = _routes(self)

    def answer(self, environ: Environ) -> Answer:
        """Answer one request."""
        request_id = ("x-openstack-request-id", f"req-{uuid4()}")
        try:
            return self._answer(environ, request_id)
        except Refusal as error:
            return self._refused(environ, error, request_id)
        except SegmentConflict as error:
            return self._refused(environ, Refusal(409, str(error)), request_id)
        except Unauthorised as error:
            url = self._settings().nova.auth_url
            asks = ("WWW-Authenticate", f'Keystone uri="{url}"')
            return self._refused(environ, Refusal(401, str(error)), request_id, asks)
        except (Unavailable, Rejected) as error:
            log.warning("%s %.128r: %s", environ["REQUEST_METHOD"], environ.get("PATH_INFO"), error)
            sure = "it may have been done, look before you try again" if isinstance(error, MaybeSent) else "try again"
            told = Refusal(503, f"{sure}: {error}")
            return self._refused(environ, told, request_id, ("Retry-After", str(RETRY_AFTER_S)))

    def _answer(self, environ: Environ, request_id: tuple[str, str]) -> Answer:
        parts = [part for part in str(environ.get("PATH_INFO", "")).split("/") if part]
        if len(parts) < 2 or (len(parts) == 2 and parts[1] not in COLLECTIONS):
            return _versions(environ, parts)
        project = parts.pop(1) if parts[1] not in COLLECTIONS else ""
        handlers, names = self._route(parts[1:])
        method = environ["REQUEST_METHOD"]
        if method not in handlers:
            return _not_allowed(list(handlers), request_id)
        asked = self._asked(environ, project, (method, parts[1:]) == ("POST", ["notifications"]))
        status, content = handlers[method](asked, *names)
        headers = (*versions.headers(asked.version), request_id)
        if method not in ("GET", "HEAD"):
            log.info("%s %s by %s: %d", method, environ["PATH_INFO"], asked.caller.user_name, status)
        if content is None:
            return Answer(status, b"", headers=headers)
        return Answer.of(status, content, *headers)

    def _route(self, parts: list[str]) -> tuple[dict[str, Handler], list[str]]:
        for pattern, handlers in self._routes:
            if len(pattern) == len(parts) and all(want in ("", part) for want, part in zip(pattern, parts, strict=True)):
                return handlers, [part for want, part in zip(pattern, parts, strict=True) if not want]
        raise Refusal(404, "no such path")

    def _asked(self, environ: Environ, project: str, only_notifies: bool) -> Asked:
        """The request, once it is clear that its sender may send it. Raises Refusal, Unauthorised, Unavailable."""
        told = str(environ.get("HTTP_OPENSTACK_API_VERSION", ""))
        caller = self._caller(environ)
        if project and project != caller.project_id:
            raise Refusal(400, "the project in the path is not that of the token")
        allowed = self._settings().instance_ha
        is_admin = _has(caller, allowed.admin_roles)
        if not is_admin and not (only_notifies and _has(caller, allowed.notifier_roles)):
            needed = ", ".join((*allowed.admin_roles, *(allowed.notifier_roles if only_notifies else ())))
            raise Refusal(403, f"{caller.user_name} needs one of these roles in {caller.project_name}: {needed}")
        return Asked(environ, versions.negotiate(told), versions.SERVICE in told.lower(), caller, is_admin)

    def _caller(self, environ: Environ) -> Caller:
        token = environ.get("HTTP_X_AUTH_TOKEN")
        if not token:
            raise Unauthorised("the request needs a token of Keystone in X-Auth-Token")
        return self.tokens.check(str(token))

    def _refused(self, environ: Environ, error: Refusal, *headers: tuple[str, str]) -> Answer:
        sender, what = environ.get("REMOTE_ADDR", "?"), f"{environ['REQUEST_METHOD']} {environ.get('PATH_INFO', '')[:128]!r}"
        if error.status != 404:
            self._refusals.tell(sender, error.status, str(error), what)
        return Answer.of(error.status, error.body(), *headers)

    # What each path answers: a status, and an object or nothing

    def list_segments(self, asked: Asked) -> tuple[int, Any]:
        """GET /segments"""
        return 200, _listed(asked, "segments", self._failover.list_segments(asked.query, asked.version))

    def create_segment(self, asked: Asked) -> tuple[int, Any]:
        """POST /segments"""
        return 201, {"segment": self._failover.create_segment(asked.fields("segment"), asked.version)}

    def show_segment(self, asked: Asked, uuid: str) -> tuple[int, Any]:
        """GET /segments/{segment}"""
        return 200, {"segment": self._failover.show_segment(uuid, asked.version)}

    def update_segment(self, asked: Asked, uuid: str) -> tuple[int, Any]:
        """PUT /segments/{segment}"""
        return 200, {"segment": self._failover.update_segment(uuid, asked.fields("segment"), asked.version)}

    def delete_segment(self, asked: Asked, uuid: str) -> tuple[int, Any]:
        """DELETE /segments/{segment}"""
        self._failover.delete_segment(uuid)
        return 204, None

    def list_hosts(self, asked: Asked, uuid: str) -> tuple[int, Any]:
        """GET /segments/{segment}/hosts"""
        return 200, _listed(asked, "hosts", self._failover.list_hosts(uuid, asked.query, asked.version))

    def create_host(self, asked: Asked, uuid: str) -> tuple[int, Any]:
        """POST /segments/{segment}/hosts"""
        return 201, {"host": self._failover.create_host(uuid, asked.fields("host"), asked.version)}

    def show_host(self, asked: Asked, uuid: str, host: str) -> tuple[int, Any]:
        """GET /segments/{segment}/hosts/{host}"""
        return 200, {"host": self._failover.show_host(uuid, host, asked.version)}

    def update_host(self, asked: Asked, uuid: str, host: str) -> tuple[int, Any]:
        """PUT /segments/{segment}/hosts/{host}"""
        fields = asked.fields("host")
        return 200, {"host": self._failover.update_host(uuid, host, fields, asked.actor, asked.version)}

    def delete_host(self, asked: Asked, uuid: str, host: str) -> tuple[int, Any]:
        """DELETE /segments/{segment}/hosts/{host}"""
        self._failover.delete_host(uuid, host)
        return 204, None

    def list_notifications(self, asked: Asked) -> tuple[int, Any]:
        """GET /notifications"""
        return 200, _listed(asked, "notifications", self._notifications.page(asked.query))

    def create_notification(self, asked: Asked) -> tuple[int, Any]:
        """POST /notifications"""
        fields = asked.fields("notification")
        return 202, {"notification": self._notifications.create(fields, asked.caller.user_name, asked.is_admin)}

    def show_notification(self, asked: Asked, uuid: str) -> tuple[int, Any]:
        """GET /notifications/{notification}"""
        return 200, {"notification": self._notifications.show(uuid, asked.has(versions.DETAILS))}

    def list_moves(self, asked: Asked, uuid: str) -> tuple[int, Any]:
        """GET /notifications/{notification}/vmoves"""
        _since(asked, versions.VMOVES)
        return 200, _listed(asked, "vmoves", self._notifications.moves(uuid, asked.query))

    def show_move(self, asked: Asked, uuid: str, move: str) -> tuple[int, Any]:
        """GET /notifications/{notification}/vmoves/{vmove}"""
        _since(asked, versions.VMOVES)
        return 200, {"vmove": self._notifications.move(uuid, move)}


def _routes(api: InstanceHa) -> list[tuple[tuple[str, ...], dict[str, Handler]]]:
    """Which paths there are below /v1; an empty part stands for any name."""
    return [
        (("segments",), {"GET": api.list_segments, "POST": api.create_segment}),
        (("segments", ""), {"GET": api.show_segment, "PUT": api.update_segment, "DELETE": api.delete_segment}),
        (("segments", "", "hosts"), {"GET": api.list_hosts, "POST": api.create_host}),
        (("segments", "", "hosts", ""), {"GET": api.show_host, "PUT": api.update_host, "DELETE": api.delete_host}),
        (("notifications",), {"GET": api.list_notifications, "POST": api.create_notification}),
        (("notifications", ""), {"GET": api.show_notification}),
        (("notifications", "", "vmoves"), {"GET": api.list_moves}),
        (("notifications", "", "vmoves", ""), {"GET": api.show_move}),
    ]


def _has(caller: Caller, roles: Collection[str]) -> bool:
    return bool({role.lower() for role in caller.roles} & {role.lower() for role in roles})


def _listed(asked: Asked, member: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    """A page; a client that asked for no smaller one is told where the next one is, as it would not ask by itself."""
    if len(items) < LARGEST_PAGE:
        return {member: items}
    kept = [(name, value) for name, value in parse_qsl(asked.query) if name != "marker"]
    query = urlencode([*kept, ("marker", items[-1]["id"])])
    href = f"{_base_url(asked.environ)}{asked.environ['PATH_INFO']}?{query}"
    return {member: items, f"{member}_links": [{"rel": "next", "href": href}]}


def _since(asked: Asked, version: Version) -> None:
    if not asked.has(version):
        raise Refusal(404, f"it came with version {versions.written(version)}, and {versions.written(asked.version)} was asked for")


def _versions(environ: Environ, parts: list[str]) -> Answer:
    """Which versions there are: at the root, at /v1, and at /v1 with a project."""
    if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
        return _not_allowed(["GET"])
    if not parts:
        return Answer.of(200, versions.all_versions(_base_url(environ)))
    return Answer.of(200, versions.one_version(_base_url(environ)))


def _base_url(environ: Environ) -> str:
    return f"{environ.get('wsgi.url_scheme', 'http')}://{environ.get('HTTP_HOST') or environ.get('SERVER_NAME', '')}"


def _not_allowed(methods: list[str], *headers: tuple[str, str]) -> Answer:
    allowed = ", ".join(methods)
    return Answer.of(405, Refusal(405, f"only {allowed} here").body(), ("Allow", allowed), *headers)


def _read_body(environ: Environ) -> bytes:
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if length > MAX_BODY:
        raise Refusal(413, f"{length} bytes, at most {MAX_BODY} are accepted")
    body: bytes = environ["wsgi.input"].read(length)
    return body
