"""Signing in at Keystone v3 with a password: one token at a time, and where the instance-ha service is."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from masakari.common import instance_ha, post
from masakari.common.clock import Clock
from masakari.common.errors import Unavailable
from masakari.common.openstack_conf import Api
from masakari.common.post import Answer

log = logging.getLogger(__name__)

RENEW_BEFORE_S = 60.0
REFUSAL_HOLDS_S = 30.0
"""After a refused password, or a catalog without the service, there is no other try before: Keystone may lock the account, which
all nodes share."""

MOST_BYTES = 1 << 20
"""Of an answer: the catalog of a large cloud is in it."""

CREATED, SERVER_ERROR = 201, 500
DEFAULT_DOMAIN = "default"

Post = Callable[[str, bytes, Mapping[str, str], float, str, int], Answer]
"""url, body, headers, timeout_s, ca_bundle, most_bytes; as post.post."""


@dataclass(frozen=True, slots=True)
class Token:
    """What a sign-in gave. url: the address of the instance-ha service, with its version. Times are monotonic seconds."""

    value: str = field(repr=False)
    url: str
    renew_at: float
    expires_at: float


class SignIn:
    """Keeps the token of one account; for one thread."""

    def __init__(self, clock: Clock, ask: Post = post.post) -> None:
        self._clock = clock
        self._ask = ask
        self._api: Api | None = None
        self._token: Token | None = None
        self._refusal = ""
        self._refused_until = 0.0

    def token(self, api: Api, timeout_s: float, refused: str = "") -> Token:
        """A token that is good for now; never the one of the value `refused`. Takes at most timeout_s.

        Raises Unavailable when Keystone gives none, or its catalog has no instance-ha service.
        """
        if api != self._api:
            self._api, self._token, self._refused_until = api, None, 0.0
        now, known = self._clock.monotonic(), self._token
        if known and (known.value == refused or now >= known.expires_at):
            known = self._token = None
        if known and now < known.renew_at:
            return known
        try:
            self._token = self._sign_in(api, timeout_s)
        except Unavailable:
            if known is None:
                raise
            return known
        return self._token

    def _sign_in(self, api: Api, timeout_s: float) -> Token:
        begun, url = self._clock.monotonic(), tokens_url(api.auth_url)
        if begun < self._refused_until:
            raise Unavailable(self._refusal)
        about = f"signing in at {url} as {api.username}"
        body = json.dumps({"auth": request(api)}).encode()
        try:
            answer = self._ask(url, body, {}, timeout_s, api.cafile, MOST_BYTES)
        except Unavailable as error:
            raise Unavailable(f"signing in as {api.username}: {error}") from error
        try:
            return _token(answer, api, begun)
        except Unavailable as error:
            told = f"{about}: {_without(str(error), api)}"
            if answer.status < SERVER_ERROR:
                self._refusal, self._refused_until = told, begun + REFUSAL_HOLDS_S
            raise Unavailable(told) from None


def _token(answer: Answer, api: Api, begun: float) -> Token:
    """The token in an answer to a request of that moment, and what the catalog in it says; else Unavailable."""
    if answer.status != CREATED:
        raise Unavailable(f"HTTP {answer.status}, {instance_ha.fault(answer) or 'no reason'}")
    try:
        token = json.loads(answer.body)["token"]
        value, lifetime_s = answer.headers["x-subject-token"], _lifetime_s(token)
        url = instance_ha.endpoint(token.get("catalog") or (), api.region, api.api_interface)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unavailable(f"the answer holds no token ({type(error).__name__})") from error
    log.debug("signed in for %.0f s; instance-ha is at %s", lifetime_s, url)
    expires_at = begun + lifetime_s
    return Token(value, url, expires_at - min(RENEW_BEFORE_S, lifetime_s / 5), expires_at)


def tokens_url(auth_url: str) -> str:
    """Where to sign in, for an address of Keystone with or without /v3."""
    url = auth_url.rstrip("/")
    return f"{url}/auth/tokens" if url.endswith("/v3") else f"{url}/v3/auth/tokens"


def request(api: Api) -> dict[str, Any]:
    """The `auth` object of the request for a token."""
    user = {
        "name": api.username,
        "password": str(api.password),
        "domain": _domain(api.user_domain_id, api.user_domain_name),
    }
    project: dict[str, Any] = {"id": api.project_id}
    if not api.project_id:
        domain = _domain(api.project_domain_id, api.project_domain_name)
        project = {"name": api.project_name, "domain": domain}
    return {
        "identity": {"methods": ["password"], "password": {"user": user}},
        "scope": {"project": project},
    }


def _domain(domain_id: str, name: str) -> Mapping[str, str]:
    return {"name": name} if name and not domain_id else {"id": domain_id or DEFAULT_DOMAIN}


def _without(text: str, api: Api) -> str:
    """The text without the password, which a server may send back."""
    for secret in api.secrets():
        text = text.replace(secret, "***")
    return text


def _lifetime_s(token: Mapping[str, Any]) -> float:
    return _seconds(token["expires_at"]) - _seconds(token["issued_at"])


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text.rstrip("Z")).replace(tzinfo=timezone.utc).timestamp()
