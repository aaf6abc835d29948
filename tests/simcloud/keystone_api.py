"""Keystone v3 as far as a service account meets it: sign-in, validation, revocation, catalog, projects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .model import PROJECT_ID, USER_ID, World
from .records import iso
from .web import Reply, Request

DOMAIN = {"id": "default", "name": "Default"}
PROJECTS = {
    "service": PROJECT_ID,
    "admin": "0d4b3b1c6f0f4b0e9a53a7f9a5f0c111",
    "demo": "4edcbbe8dcde44e7b74e0128dff80d7e",
}
_HTML_404 = (
    "<!doctype html>\n<html lang=en>\n<title>404 Not Found</title>\n<h1>Not Found</h1>\n<p>The requested URL "
    "was not found on the server. If you entered the URL manually please check your spelling and try "
    "again.</p>\n"
)
_ELSEWHERE = "http://192.0.2.1"  # an address for documentation: nobody is there
_NOT_AUTHENTICATED = "The request you have made requires authentication."


@dataclass(frozen=True)
class User:
    """An account and the one project it has a role on."""

    id: str
    name: str
    project: str
    roles: tuple[str, ...]

    @property
    def is_admin(self) -> bool:
        return "admin" in self.roles

    @property
    def may_validate(self) -> bool:
        """Whether Keystone tells it of the tokens of others."""
        return self.is_admin or "service" in self.roles

    @property
    def project_id(self) -> str:
        return PROJECTS[self.project]


USERS = {
    user.name: user
    for user in (
        User(USER_ID, "masakari", "service", ("member", "reader", "admin")),
        User("27c5f1a1e3f04b0aa3d1f4e6c07a1112", "admin", "admin", ("member", "reader", "admin")),
        User("46ada5f51dcb48459f2da98d37b2be76", "demo", "demo", ("member", "reader")),
        User("8f0c1d2b9a3e4c5d8e7f6a5b4c3d2e1f", "monitor", "service", ("service",)),
    )
}


@dataclass
class Token:
    """A token that was handed out."""

    id: str
    user: User
    methods: list[str]
    issued_at: float
    expires_at: float
    scoped: bool
    audit_id: str
    revoked: bool = False
    cached_until: float = 0.0  # Nova believes it so long without asking


class Keystone:
    """Accounts and tokens.

    Args:
        password: of every account.
        app_credential: (id, name, secret) of an application credential of "masakari".
        token_s: how long a token lives.
    """

    def __init__(
        self, world: World, password: str, app_credential: tuple[str, str, str], token_s: float
    ) -> None:
        self.world = world
        self.password = password
        self.app_credential: tuple[str, str, str] | None = app_credential
        self.token_s = token_s
        self.regions = ["RegionOne"]  # more may be appended; their endpoints lead nowhere
        self.instance_ha_url = ""  # of the service instance-ha in the catalog; it isn't there while empty
        self.tokens: dict[str, Token] = {}

    def handle(self, request: Request) -> Reply:
        """Answer a request whose path no longer has the prefix of the mount."""
        reply = self._route(request)
        reply.headers.setdefault("x-openstack-request-id", self.world.new_request_id())
        reply.headers.setdefault("Vary", "X-Auth-Token")
        if reply.status == 401:
            reply.headers["WWW-Authenticate"] = f'Keystone uri="{_root(request)}v3"'
        return reply

    def _route(self, request: Request) -> Reply:
        path, method = request.path.rstrip("/"), request.method
        if path == "" and method == "GET":
            return Reply(
                300, {"versions": {"values": [_version(request)]}}, {"Location": f"{_root(request)}v3/"}
            )
        if path == "/v3" and method == "GET":
            return Reply(200, {"version": _version(request)})
        if path == "/v3/auth/tokens":
            if method == "POST":
                return self._sign_in(request)
            if method in ("GET", "HEAD", "DELETE"):
                return self._validate(request)
        if path == "/v3/auth/catalog" and method == "GET":
            return self._signed(
                request,
                lambda token: {
                    "catalog": self._catalog(request, token.user),
                    "links": {"self": f"{_root(request)}v3/auth/catalog"},
                },
            )
        if path == "/v3/auth/projects" and method == "GET":
            return self._signed(request, lambda token: _projects(request, [token.user.project]))
        if path == "/v3/projects" and method == "GET":
            return self._all_projects(request)
        return Reply(404, _HTML_404)

    # Signing in

    def _sign_in(self, request: Request) -> Reply:
        try:
            auth = request.json()["auth"]
        except ValueError:
            return _error(
                400,
                "Expecting to find valid JSON in request body. The server could not comply with the "
                "request since it is either malformed or otherwise incorrect. The client is assumed "
                "to be in error.",
            )
        except (KeyError, TypeError):
            return _error(400, "'auth' is a required property")
        if not isinstance(auth, dict) or "identity" not in auth:
            return _error(400, "'identity' is a required property")
        identity, scope = auth["identity"], auth.get("scope")
        if identity.get("methods") == ["password"]:
            return self._by_password(request, identity.get("password", {}).get("user", {}), scope)
        if identity.get("methods") == ["application_credential"]:
            return self._by_app_credential(request, identity.get("application_credential", {}), scope)
        return _error(
            401,
            "Attempted to authenticate with an unsupported method.",
            identity={
                "methods": ["external", "password", "token", "oauth1", "mapped", "application_credential"]
            },
        )

    def _by_password(self, request: Request, given: dict[str, Any], scope: Any) -> Reply:
        user = _find_user(given)
        if user is None or given.get("password") != self.password:
            return _unauthorized()
        if scope is not None and not _is_own_project(scope, user):
            return _unauthorized()
        return self._issue(request, user, "password", scoped=scope is not None)

    def _by_app_credential(self, request: Request, given: dict[str, Any], scope: Any) -> Reply:
        if scope is not None:
            return _error(
                401,
                "Error authenticating with application credential: Application credentials cannot "
                "request a scope.",
                identity={},
            )
        known = self.app_credential
        if known is None or ("id" in given and given["id"] != known[0]):
            return _error(
                404, f"Could not find Application Credential: {given.get('id') or given.get('name')}."
            )
        if "id" not in given and (given.get("name") != known[1] or _find_user(given.get("user", {})) is None):
            return _unauthorized()
        if given.get("secret") != known[2]:
            return _unauthorized()
        return self._issue(request, USERS["masakari"], "application_credential", scoped=True)

    def _issue(self, request: Request, user: User, method: str, *, scoped: bool) -> Reply:
        now = self.world.now
        token = Token(
            "gAAAAA" + self.world.new_uuid().replace("-", ""),
            user,
            [method],
            now,
            now + self.token_s,
            scoped,
            self.world.new_uuid()[:22],
        )
        self.tokens[token.id] = token
        return Reply(201, self._token_body(request, token), {"X-Subject-Token": token.id})

    def _token_body(self, request: Request, token: Token) -> dict[str, Any]:
        user = token.user
        body: dict[str, Any] = {
            "methods": token.methods,
            "user": {"domain": DOMAIN, "id": user.id, "name": user.name, "password_expires_at": None},
            "audit_ids": [token.audit_id],
            "expires_at": f"{iso(token.expires_at)}Z",
            "issued_at": f"{iso(token.issued_at)}Z",
        }
        if token.scoped:
            roles = [{"id": f"role-{role}", "name": role} for role in user.roles]
            body |= {
                "project": {"domain": DOMAIN, "id": user.project_id, "name": user.project},
                "is_domain": False,
                "roles": roles,
            }
            if request.value("nocatalog") is None:
                body["catalog"] = self._catalog(request, user)
        return {"token": body}

    def _catalog(self, request: Request, user: User) -> list[dict[str, Any]]:
        """Services and interfaces, each time in another order."""
        here = request.base_url
        known = [
            ("compute", "nova", f"{here}/compute/v2.1", f"{_ELSEWHERE}/compute/v2.1"),
            ("identity", "keystone", f"{here}/identity/v3", f"{_ELSEWHERE}/identity/v3"),
            ("image", "glance", f"{here}/image", f"{_ELSEWHERE}/image"),
            ("placement", "placement", f"{here}/placement", f"{_ELSEWHERE}/placement"),
            ("network", "neutron", f"{here}/network", f"{_ELSEWHERE}/network"),
        ]
        if self.instance_ha_url:
            url = _for_project(self.instance_ha_url, user.project_id)
            known.append(("instance-ha", "masakari", url, f"{_ELSEWHERE}/instance-ha"))
        services = []
        for kind, name, url, url_elsewhere in known:
            endpoints = [
                {
                    "id": f"{name}-{interface}",
                    "interface": interface,
                    "region_id": region,
                    "region": region,
                    "url": url_there,
                }
                for region, url_there in (
                    (self.regions[0], url),
                    *((other, url_elsewhere) for other in self.regions[1:]),
                )
                for interface in ("public", "internal", "admin")
            ]
            self.world.random.shuffle(endpoints)
            services.append({"endpoints": endpoints, "id": f"service-{name}", "type": kind, "name": name})
        self.world.random.shuffle(services)
        return services

    # Using tokens

    def believe(self, token_id: str | None) -> Token | None:
        """The token, if it is valid at Keystone now."""
        token = self.tokens.get(token_id or "")
        if token is None or token.revoked or self.world.now >= token.expires_at:
            return None
        return token

    def _validate(self, request: Request) -> Reply:
        caller = self.believe(request.headers.get("x-auth-token"))
        if caller is None:
            return _unauthorized()
        subject_id = request.headers.get("x-subject-token")
        if subject_id is None:
            return _error(404, "No token in the request")
        if subject_id not in self.tokens:
            return _error(404, "Could not recognize Fernet token")
        subject = self.tokens[subject_id]
        revoking = request.method == "DELETE"
        permitted = caller.user.is_admin if revoking else caller.user.may_validate
        if subject.user != caller.user and not permitted:
            action = "revoke_token" if revoking else "validate_token"
            return _error(403, f"You are not authorized to perform the requested action: identity:{action}.")
        if subject.revoked or (self.believe(subject_id) is None and request.value("allow_expired") != "1"):
            return _error(404, "Failed to validate token")
        if revoking:
            subject.revoked = True
            return Reply(204)
        body = None if request.method == "HEAD" else self._token_body(request, subject)
        return Reply(200, body, {"X-Subject-Token": subject_id})

    def _signed(self, request: Request, answer: Any) -> Reply:
        token = self.believe(request.headers.get("x-auth-token"))
        return _unauthorized() if token is None else Reply(200, answer(token))

    def _all_projects(self, request: Request) -> Reply:
        token = self.believe(request.headers.get("x-auth-token"))
        if token is None:
            return _unauthorized()
        if not token.user.is_admin:
            return _error(
                403, "You are not authorized to perform the requested action: identity:list_projects."
            )
        wanted = request.value("name")
        return Reply(200, _projects(request, [name for name in PROJECTS if wanted in (None, name)]))

    def delete_app_credential(self) -> None:
        """Take the application credential away; signing in with it is a 404 from now on."""
        self.app_credential = None
        for token in self.tokens.values():
            if "application_credential" in token.methods:
                token.revoked = True


def _find_user(given: dict[str, Any]) -> User | None:
    if "id" in given:
        return next((user for user in USERS.values() if user.id == given["id"]), None)
    if not _is_default_domain(given.get("domain")):
        return None
    return USERS.get(given.get("name", ""))


def _for_project(url: str, project_id: str) -> str:
    """The address of an endpoint with the project's id in it, in both ways of asking for that."""
    for wanted in ("%(tenant_id)s", "%(project_id)s", "$(tenant_id)s", "$(project_id)s"):
        url = url.replace(wanted, project_id)
    return url


def _is_default_domain(given: Any) -> bool:
    # Names, not ids, are compared without case: so does the database of a real Keystone.
    return isinstance(given, dict) and (
        given.get("id") == DOMAIN["id"] or str(given.get("name")).lower() == DOMAIN["name"].lower()
    )


def _is_own_project(scope: Any, user: User) -> bool:
    project = scope.get("project") or {}
    if "id" in project:
        return bool(project["id"] == user.project_id)
    return project.get("name") == user.project and _is_default_domain(project.get("domain"))


def _projects(request: Request, names: list[str]) -> dict[str, Any]:
    root = _root(request)
    return {
        "projects": [
            {
                "id": PROJECTS[name],
                "name": name,
                "domain_id": "default",
                "description": "",
                "enabled": True,
                "parent_id": "default",
                "is_domain": False,
                "tags": [],
                "options": {},
                "links": {"self": f"{root}v3/projects/{PROJECTS[name]}"},
            }
            for name in names
        ],
        "links": {"next": None, "self": f"{root}v3/projects", "previous": None},
    }


def _root(request: Request) -> str:
    return f"{request.base_url}/identity/"


def _version(request: Request) -> dict[str, Any]:
    return {
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": f"{_root(request)}v3/"}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}],
    }


def _unauthorized() -> Reply:
    return _error(401, _NOT_AUTHENTICATED)


def _error(status: int, message: str, **more: Any) -> Reply:
    title = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found"}[status]
    return Reply(status, {"error": {"code": status, **more, "message": message, "title": title}})
