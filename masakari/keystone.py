"""Signing in: one token for all threads, renewed shortly before it expires, and where Nova is."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from masakari.cloud_http import NoReply, Observe, Reply, SessionFactory, exchange, new_session
from masakari.common.clock import Clock
from masakari.common.errors import Unavailable

LOG = logging.getLogger(__name__)

RENEW_BEFORE_S = 60.0
# Those who come while a sign-in fails share the failure instead of queueing up for one time-out each ...
FAILURE_SHARED_S = 1.0
# ... and a refused password is not tried again at once: Keystone may lock the account.
REFUSAL_SHARED_S = 10.0


class SignInFailed(Unavailable):
    """Keystone gave no usable token, so nothing was asked of Nova."""


@dataclass(frozen=True)
class CloudSettings:
    """How to reach the cloud. With an application credential, user, password and project are not used."""

    auth_url: str
    admin_user: str = ""
    admin_password: str = field(default="", repr=False)
    project_name: str = ""
    domain: str = "Default"
    user_domain_name: str = ""
    user_domain_id: str = ""
    project_domain_name: str = ""
    project_domain_id: str = ""
    application_credential_id: str = ""
    application_credential_secret: str = field(default="", repr=False)
    region: str = ""
    interface: str = "public"
    ca_bundle: str = ""
    connect_timeout_s: float = 3.0
    read_timeout_s: float = 10.0
    api_max_retry_cnt: int = 3
    api_retry_interval_s: float = 10.0
    page_size: int = 1000


@dataclass(frozen=True)
class Token:
    """What a sign-in gave. Its value is never printed. Its times are on the monotonic clock: neither a jump of ours
    nor the difference to Keystone's clock matters."""

    value: str = field(repr=False)
    compute_url: str
    renew_at: float
    expires_at: float


class Keystone:
    """Keystone v3. Safe for any number of threads; only one of them signs in at a time."""

    def __init__(
        self,
        settings: CloudSettings,
        clock: Clock,
        observe: Observe | None = None,
        session_factory: SessionFactory | None = None,
    ) -> None:
        self.session = session_factory() if session_factory else new_session(settings.ca_bundle)
        self._settings = settings
        self._clock = clock
        self._observe = observe or (lambda call, result, seconds: None)
        self._url = tokens_url(settings.auth_url)
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._failure: SignInFailed | None = None
        self._failure_shared_until = 0.0

    def token(self, refused: Token | None = None) -> Token:
        """A token that is good for now; never the one that Nova just `refused`.

        Raises SignInFailed; a failure is shared for a moment by everybody who asks.
        """
        spare = self._usable(refused)
        if spare and self._clock.monotonic() < spare.renew_at:
            return spare
        # With a token that is still good nobody waits for a new one, nor for a Keystone that is away.
        if not self._lock.acquire(blocking=spare is None):
            assert spare
            return spare
        try:
            return self._renewed(refused)
        except SignInFailed:
            if spare is None:
                raise
            return spare
        finally:
            self._lock.release()

    def redact(self, text: str) -> str:
        """The text without any secret of ours."""
        token = self._token
        secrets = (
            self._settings.admin_password,
            self._settings.application_credential_secret,
            token.value if token else "",
        )
        for secret in filter(None, secrets):
            text = text.replace(secret, "***")
        return text

    def _usable(self, refused: Token | None) -> Token | None:
        token = self._token
        if token is None or self._clock.monotonic() >= token.expires_at:
            return None
        return None if refused and refused.value == token.value else token

    def _renewed(self, refused: Token | None) -> Token:
        """A new token: that of another thread that came first, or of a sign-in unless one failed just now."""
        token = self._usable(refused)
        if token and self._clock.monotonic() < token.renew_at:
            return token
        if self._failure and self._clock.monotonic() < self._failure_shared_until:
            raise SignInFailed(str(self._failure))
        try:
            self._token = self._sign_in()
        except SignInFailed as failure:
            self._failure = failure
            raise
        self._failure = None
        return self._token

    def _sign_in(self) -> Token:
        begun = self._clock.monotonic()
        reply = self._ask()
        if reply.status != 201:
            raise self._failed(f"HTTP {reply.status}: {reply.message()}", refused=reply.status < 500)
        try:
            body = reply.json()["token"]
            value, lifetime_s = reply.headers["X-Subject-Token"], _lifetime_s(body)
        except (ValueError, KeyError, TypeError) as error:
            raise self._failed(f"the answer holds no token ({error!r})") from error
        url = self._compute_url(body.get("catalog") or [])
        LOG.debug("signed in for %d s, Nova is at %s", lifetime_s, url)
        expires_at = begun + lifetime_s
        return Token(value, url, expires_at - min(RENEW_BEFORE_S, lifetime_s / 5), expires_at)

    def _ask(self) -> Reply:
        body = json.dumps({"auth": sign_in_request(self._settings)}).encode()
        timeout_s = (self._settings.connect_timeout_s, self._settings.read_timeout_s)
        headers = {"Content-Type": "application/json"}
        begun, result = self._clock.monotonic(), "lost"
        try:
            reply = exchange(self.session, self._clock, "POST", self._url, headers, body, timeout_s)
            result = str(reply.status)
            return reply
        except NoReply as error:
            result = error.result
            raise self._failed(str(error)) from error
        finally:
            self._observe("sign_in", result, self._clock.monotonic() - begun)

    def _compute_url(self, catalog: list[dict[str, Any]]) -> str:
        """Nova's endpoint. Neither services nor endpoints come in a fixed order, so two regions and none
        chosen would be a game of chance."""
        wanted = self._settings
        found = {
            str(endpoint.get("region_id") or endpoint.get("region")): str(endpoint["url"]).rstrip("/")
            for service in catalog
            if service.get("type") == "compute"
            for endpoint in service.get("endpoints", [])
            if endpoint.get("interface") == wanted.interface
        }
        if wanted.region in found:
            return found[wanted.region]
        if len(found) == 1 and not wanted.region:
            return next(iter(found.values()))
        raise self._failed(_no_endpoint(wanted, sorted(found)), refused=True)

    def _failed(self, problem: str, refused: bool = False) -> SignInFailed:
        shared_s = REFUSAL_SHARED_S if refused else FAILURE_SHARED_S
        self._failure_shared_until = self._clock.monotonic() + shared_s
        return SignInFailed(self.redact(f"signing in at {self._url} as {_account(self._settings)}: {problem}"))


def tokens_url(auth_url: str) -> str:
    """Where to sign in, for an address of Keystone with or without /v3."""
    url = auth_url.rstrip("/")
    return f"{url}/auth/tokens" if url.endswith("/v3") else f"{url}/v3/auth/tokens"


def sign_in_request(settings: CloudSettings) -> dict[str, Any]:
    """The `auth` object. With an application credential no scope may be given: it carries its own."""
    if settings.application_credential_id:
        credential = {
            "id": settings.application_credential_id,
            "secret": settings.application_credential_secret,
        }
        return {"identity": {"methods": ["application_credential"], "application_credential": credential}}
    user = {
        "name": settings.admin_user,
        "password": settings.admin_password,
        "domain": _domain(settings.user_domain_id, settings.user_domain_name or settings.domain),
    }
    project = {
        "name": settings.project_name,
        "domain": _domain(settings.project_domain_id, settings.project_domain_name or settings.domain),
    }
    return {
        "identity": {"methods": ["password"], "password": {"user": user}},
        "scope": {"project": project},
    }


def _domain(domain_id: str, name: str) -> Mapping[str, str]:
    return {"id": domain_id} if domain_id else {"name": name}


def _account(settings: CloudSettings) -> str:
    if settings.application_credential_id:
        return f"application credential {settings.application_credential_id}"
    return f"user {settings.admin_user}, project {settings.project_name}"


def _no_endpoint(wanted: CloudSettings, regions: list[str]) -> str:
    if wanted.region or not regions:
        place = f"in region {wanted.region}" if wanted.region else "at all"
        return (
            f"the catalog has no {wanted.interface} endpoint of type compute {place} "
            f"(regions that have one: {', '.join(regions) or 'none'}); check region and interface"
        )
    return f"the catalog has Nova in regions {', '.join(regions)}; set region to one of them"


def _lifetime_s(token: Mapping[str, Any]) -> float:
    return _seconds(token["expires_at"]) - _seconds(token["issued_at"])


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text.rstrip("Z")).replace(tzinfo=timezone.utc).timestamp()
