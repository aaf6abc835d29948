"""What the online checks ask of Keystone and Nova. Nothing that is asked here can be carried out."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from urllib.parse import urlencode

from masakari.cloud_http import NoReply, Reply, SessionFactory, exchange, new_session
from masakari.common.checkup import Outcome, not_ok, of_clock, ok, skipped, warning
from masakari.common.clock import Clock
from masakari.common.errors import NotFound, Rejected, Unavailable
from masakari.keystone import CloudSettings, Keystone, tokens_url
from masakari.nova import FORCE_DOWN, SERVICE_BY_ID, Nova, Service
from masakari.nova_http import NovaHttp, Request, Version

ROLE = "admin"
MOST_HOSTS = 20
POLICY = "give the account the role admin in its project, or change the policy of Nova's API"


@dataclass(frozen=True, slots=True)
class Account:
    """What Keystone says of a sign-in. ahead_s: its clock, of this host's."""

    roles: tuple[str, ...]
    ahead_s: float


class Cloud:
    """Keystone and Nova as the controller reaches them; each question is asked once."""

    def __init__(self, settings: CloudSettings, clock: Clock, session_factory: SessionFactory | None = None) -> None:
        self._settings = replace(settings, api_max_retry_cnt=1)
        self._clock = clock
        self._keystone = Keystone(self._settings, clock, None, session_factory)
        self._http = NovaHttp(self._keystone, self._settings, clock)
        self.nova = Nova(self._keystone, self._settings, clock)

    def account(self) -> Account | None:
        """Sign in, and see as whom; None: Keystone does not tell. Raises Unavailable when there is no token."""
        began = self._clock.now()
        token = self._keystone.token()
        ended = self._clock.now()
        headers = {"X-Auth-Token": token.value, "X-Subject-Token": token.value}
        url = tokens_url(self._settings.auth_url)
        try:
            timeout_s = (self._settings.connect_timeout_s, self._settings.read_timeout_s)
            reply = exchange(self._keystone.session, self._clock, "GET", url, headers, None, timeout_s)
            told = reply.json()["token"]
            issued = datetime.fromisoformat(told["issued_at"].rstrip("Z")).replace(tzinfo=timezone.utc)
            roles = tuple(role["name"] for role in told.get("roles", ()))
        except (NoReply, ValueError, KeyError, TypeError):
            return None
        # Most Keystones tell whole seconds; the part that had passed is a half of one on average.
        part_s = 0.0 if issued.microsecond else 0.5
        return Account(roles, issued.timestamp() + part_s - (began + ended) / 2)

    def an_instance(self, hosts: Iterable[str]) -> str:
        """The id of any instance on one of these hosts; "" if there is none. Raises Unavailable, Rejected."""
        for host in hosts:
            query = urlencode({"all_tenants": "1", "host": host, "limit": "1"})
            request = Request("instances", "GET", f"/servers?{query}", key="servers", what="listing instances")
            if found := self._http.read(request)["servers"]:
                return str(found[0]["id"])
        return ""


def account_rows(cloud: Cloud, tolerance_s: float) -> Iterator[Outcome]:
    """Keystone: whether we may sign in, as whom, and its clock."""
    try:
        account = cloud.account()
    except Unavailable as error:
        advice = "see [nova]; openstack token issue, with the same values, says whether they are right"
        yield not_ok("Keystone", str(error), advice)
        return
    if account is None:
        yield warning("Keystone", "signed in, but it does not show the token: role and clock can't be told")
        return
    roles = ", ".join(account.roles) or "none"
    if ROLE in account.roles:
        yield ok("Keystone", f"signed in, roles {roles}")
    else:
        advice = f"openstack role add {ROLE} to the account in its project, unless Nova's policy was changed"
        yield warning("Keystone", f"signed in, but without the role {ROLE} (roles: {roles})", advice)
    yield of_clock("clock of Keystone", "Keystone's clock", account.ahead_s, tolerance_s)


def of_version(version: Version) -> Outcome:
    """What Nova's newest microversion that we both know lets us do."""
    told = f"microversion {version[0]}.{version[1]}"
    if version < FORCE_DOWN:
        return warning(
            "Nova", f"{told}: too old to be told that a host is down, so each evacuation waits for Nova to see it"
        )
    if version < SERVICE_BY_ID:
        return warning("Nova", f"{told}: it works, and newer ones (2.53) save some calls")
    return ok("Nova", told)


def policy_rows(cloud: Cloud) -> Iterator[Outcome]:
    """Whether Nova's policy lets us force a service down, and evacuate: by requests for what does not exist."""
    yield _force_down(cloud.nova)
    yield _evacuate(cloud)


def _force_down(nova: Nova) -> Outcome:
    subject = "policy: force-down"
    if nova.microversion < FORCE_DOWN:
        return skipped(subject, "this Nova has no such call")
    name = _no_such()
    nobody = Service(name, str(uuid.uuid4()), True, True, False, None, "")
    try:
        nova.force_down(nobody, True)
    except NotFound:
        return ok(subject, "permitted")
    except Rejected as error:
        return _of_refusal(subject, error)
    return not_ok(subject, "Nova says that it has forced down a service that does not exist", "is that Nova?")


def _evacuate(cloud: Cloud) -> Outcome:
    """Nova looks for the instance first, and at the target right after its policy, so the target is what does not exist.

    The host of the instance reads up: a second reason to refuse.
    """
    subject = "policy: evacuate"
    target = _no_such()
    try:
        up = [service.host for service in cloud.nova.services() if service.up]
        instance = cloud.an_instance(up[:MOST_HOSTS])
        if not instance:
            return skipped(subject, "Nova tells only for an instance, and there is none on the hosts that are up")
        cloud.nova.evacuate(instance, target, keep_local_disk=False)
    except Rejected as error:
        if error.status == 403:
            return _of_refusal(subject, error)
        gone = error.status == 404 and target not in error.message
        return skipped(subject, f"Nova does not tell: {error}") if gone else ok(subject, "permitted")
    return not_ok(
        subject, f"Nova took an evacuation to {target}, which does not exist", "look at that instance; is that Nova?"
    )


def _no_such() -> str:
    """A host that does not exist, and never will."""
    return f"masakari-doctor-{uuid.uuid4().hex}"


def _of_refusal(subject: str, error: Rejected) -> Outcome:
    if error.status == 403:
        return not_ok(subject, f"forbidden: {error.message}", POLICY)
    return warning(subject, f"Nova does not tell: {error}")


def healthz(host: str, port: int, clock: Clock) -> Reply:
    """What the controller on this machine answers to GET /healthz. Raises Unavailable."""
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    url = f"http://{f'[{address}]' if ':' in address else address}:{port}/healthz"
    try:
        return exchange(new_session(), clock, "GET", url, {}, None, (3.0, 10.0))
    except NoReply as error:
        raise Unavailable(f"{url}: {error}") from error
