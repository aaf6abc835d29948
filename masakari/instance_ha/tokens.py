"""Who calls: tokens are shown to Keystone, and what it said is kept for a moment."""

from __future__ import annotations

import hashlib
import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from masakari.cloud_http import NoReply, Reply, exchange
from masakari.common.clock import Clock
from masakari.common.errors import MasakariError, Unavailable
from masakari.keystone import CloudSettings, Keystone, Token, tokens_url

LOG = logging.getLogger(__name__)

KEPT_MAX = 1024
REFUSAL_KEPT_S = 2.0
# The threads that wait here are those that receive callbacks, so only so many may, even if Keystone hangs. QUEUE_MAX others wait
# PLACE_WAIT_S for one of them to be done, and after a time-out everybody shares it for a moment.
WAITING_MAX = 24
QUEUE_MAX = 40
PLACE_WAIT_S = 1.0
SILENCE_SHARED_S = 1.0

_AWAY = "Keystone can't be asked about the token; try again"

_FORM = re.compile(r"[!-~]{1,4096}")


class _Silent(Unavailable):
    """Keystone took no connection, or gave no answer in time: nobody else would get one now."""


class Unauthorised(MasakariError):
    """Not a token that is good now, for a project: 401. The message may be shown to the caller."""


@dataclass(frozen=True)
class Caller:
    """Whom a token is for. `expires_at`: Unix time, by Keystone's clock."""

    user_id: str
    user_name: str
    project_id: str
    project_name: str
    roles: frozenset[str]
    expires_at: float


@dataclass(frozen=True)
class _Verdict:
    """What came of asking: exactly one of the three."""

    caller: Caller | None = None
    refused: str = ""
    away: str = ""

    def result(self) -> Caller:
        if self.refused:
            raise Unauthorised(self.refused)
        if self.caller is None:
            raise Unavailable(self.away)
        return self.caller


@dataclass
class _Asking:
    """A question that one thread asks, for all that come meanwhile with the same token."""

    begun: float
    ended: threading.Event = field(default_factory=threading.Event)
    verdict: _Verdict = _Verdict(away=_AWAY)


class _Kept:
    """The newest verdicts, by the digest of the token."""

    def __init__(self) -> None:
        self._verdicts: OrderedDict[bytes, tuple[float, _Verdict]] = OrderedDict()

    def get(self, digest: bytes, now: float) -> _Verdict | None:
        until, verdict = self._verdicts.get(digest, (now, None))
        return verdict if now < until else None

    def put(self, digest: bytes, until: float, verdict: _Verdict) -> None:
        self._verdicts[digest] = until, verdict
        self._verdicts.move_to_end(digest)
        if len(self._verdicts) > KEPT_MAX:
            self._verdicts.popitem(last=False)


class Tokens:
    """The tokens of callers. Safe for any number of threads.

    A token is kept nowhere, only its digest. cache_s: a verdict of Keystone holds so many seconds from the moment it was
    asked, so a request that comes later than that after its token was revoked is refused.
    """

    def __init__(self, keystone: Keystone, settings: CloudSettings, clock: Clock, cache_s: float) -> None:
        """keystone: our own sign-in, whose account must be allowed to validate tokens (role admin or service)."""
        self._keystone = keystone
        self._clock = clock
        self._cache_s = cache_s
        self._timeout_s = (settings.connect_timeout_s, settings.read_timeout_s)
        self._url = f"{tokens_url(settings.auth_url)}?nocatalog"
        self._places, self._queue = threading.BoundedSemaphore(WAITING_MAX), threading.BoundedSemaphore(QUEUE_MAX)
        self._lock = threading.Lock()
        # Two, so that a flood of invented tokens pushes out none that is good.
        self._good, self._refused = _Kept(), _Kept()
        self._asking: dict[bytes, _Asking] = {}
        self._away, self._silent_until = False, 0.0

    def check(self, token: str) -> Caller:
        """Whose token it is. Raises Unauthorised (401); Unavailable (503) when Keystone can't be asked, or does not let us
        ask: then nobody is let in, except who was a moment ago. Neither message holds a secret."""
        if not _FORM.fullmatch(token):
            raise Unauthorised("no token" if not token else "this is not a token")
        digest = hashlib.sha256(token.encode()).digest()
        with self._lock:
            known = self._known(digest)
        if known:
            return known.result()
        self._take_place()
        try:
            return self._said(token, digest).result()
        finally:
            self._places.release()

    def _take_place(self) -> None:
        """Take one of the places of those who wait for Keystone, or raise Unavailable."""
        if not self._places.acquire(blocking=False):
            if not self._queue.acquire(blocking=False):
                raise Unavailable("too many callers wait for Keystone; try again")
            try:
                if not self._places.acquire(timeout=PLACE_WAIT_S):
                    raise Unavailable(f"{WAITING_MAX} other callers wait for Keystone; try again")
            finally:
                self._queue.release()

    def _known(self, digest: bytes) -> _Verdict | None:
        now = self._clock.monotonic()
        return self._good.get(digest, now) or self._refused.get(digest, now)

    def _said(self, token: str, digest: bytes) -> _Verdict:
        """What Keystone says: asked by this thread, or by the one that was first with this token."""
        with self._lock:
            known = self._known(digest)
            if known:
                return known
            now = self._clock.monotonic()
            asking = self._asking.get(digest)
            # What was asked earlier is too old for this request, even if the answer is still to come.
            first = asking is None or now >= asking.begun + self._cache_s
            if asking is None or first:
                asking = self._asking[digest] = _Asking(now)
        if first:
            self._ask_for_all(token, digest, asking)
        else:
            asking.ended.wait()
        return asking.verdict

    def _ask_for_all(self, token: str, digest: bytes, asking: _Asking) -> None:
        try:
            asking.verdict = self._verdict(token)
        finally:
            with self._lock:
                if self._asking.get(digest) is asking:
                    del self._asking[digest]
                self._keep(digest, asking)
            asking.ended.set()

    def _keep(self, digest: bytes, asking: _Asking) -> None:
        verdict = asking.verdict
        if verdict.caller:
            # By our clock it may have expired already, though by Keystone's it is good: then it is asked each time.
            left_s = max(0.0, verdict.caller.expires_at - self._clock.now())
            self._good.put(digest, asking.begun + min(self._cache_s, left_s), verdict)
        elif verdict.refused:
            self._refused.put(digest, asking.begun + min(self._cache_s, REFUSAL_KEPT_S), verdict)

    def _verdict(self, token: str) -> _Verdict:
        """Ask Keystone, unless it was silent just now. It is logged when that begins to fail, and when it works again."""
        with self._lock:
            if self._clock.monotonic() < self._silent_until:
                return _Verdict(away=_AWAY)
        try:
            verdict = self._asked(token)
        except Unavailable as error:
            with self._lock:
                known, self._away = self._away, True
                if isinstance(error, _Silent):
                    self._silent_until = self._clock.monotonic() + SILENCE_SHARED_S
            if not known:
                problem = self._keystone.redact(str(error)).replace(token, "***")
                LOG.warning("callers of the instance-ha API get 503, their tokens can't be checked: %s", problem)
            return _Verdict(away=_AWAY)
        with self._lock:
            known, self._away = self._away, False
        if known:
            LOG.info("tokens of callers of the instance-ha API are checked again")
        return verdict

    def _asked(self, token: str) -> _Verdict:
        """What Keystone says now. Raises Unavailable. Our own token may have been revoked: then with another one."""
        ours = self._keystone.token()
        reply = self._exchange(token, ours)
        if reply.status == 401:
            reply = self._exchange(token, self._keystone.token(refused=ours))
        if reply.status in (400, 404, 431):
            return _Verdict(refused="the token is not known, or has expired, or was revoked")
        if reply.status == 403:
            raise Unavailable(
                f"Keystone does not let us validate tokens ({reply.message()}); give the account of [nova] the role admin or "
                "service"
            )
        if reply.status != 200:
            raise Unavailable(f"validating a token at {self._url}: HTTP {reply.status}: {reply.message()}")
        try:
            return _judged(reply.json()["token"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Unavailable(f"validating a token at {self._url}: the answer holds no token ({error!r})") from error

    def _exchange(self, token: str, ours: Token) -> Reply:
        headers = {"X-Auth-Token": ours.value, "X-Subject-Token": token}
        for last in (False, True):
            try:
                session = self._keystone.session
                return exchange(session, self._clock, "GET", self._url, headers, None, self._timeout_s)
            except NoReply as error:
                # A connection that Keystone has closed meanwhile: another one may do.
                if last or error.result != "lost":
                    kind = _Silent if error.result in ("refused", "timeout") else Unavailable
                    raise kind(f"validating a token at {self._url}: {error}") from error
        raise AssertionError("the last try returns or raises")


def _judged(told: Mapping[str, Any]) -> _Verdict:
    """What a token says of itself; KeyError or TypeError if it is none. Roles are those in its project, so one without is
    refused."""
    if "project" not in told:
        return _Verdict(refused="the token is not for a project; sign in with one")
    user, project = told["user"], told["project"]
    expires = datetime.fromisoformat(told["expires_at"].rstrip("Z")).replace(tzinfo=timezone.utc)
    roles = frozenset(str(role["name"]) for role in told.get("roles", ()))
    return _Verdict(
        Caller(str(user["id"]), str(user["name"]), str(project["id"]), str(project["name"]), roles, expires.timestamp())
    )
