"""Whether reports can go as notifications from this node: the sign-in, the catalog, the service, and who knows this host there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from masakari.common import instance_ha, post
from masakari.common.checkup import Check, Outcome, not_ok, ok, warning
from masakari.common.clock import Clock
from masakari.common.errors import Unavailable
from masakari.common.monitor_config import MonitorSettings
from masakari.common.openstack_conf import Api
from masakari.common.post import Answer
from masakari.common.poster import content, said
from masakari.common.sign_in import MOST_BYTES, SignIn, Token

OK_STATUS = 200
MOST_SEGMENTS = 50
SUBJECT = "instance-ha"
REGISTER = "openstack segment host create {host} COMPUTE SSH SEGMENT"

Get = Callable[[str, Mapping[str, str], float, str, int], Answer]
"""url, headers, timeout_s, ca_bundle, most_bytes; as post.get."""


class Service:
    """The service as the account of a monitor sees it; it is only asked. Raises Unavailable when it does not answer."""

    def __init__(self, api: Api, token: Token, timeout_s: float, get: Get = post.get) -> None:
        self._api = api
        self._headers = {"X-Auth-Token": token.value, **instance_ha.VERSION}
        self._url = token.url
        self._timeout_s = timeout_s
        self._get = get

    def ask(self, path: str) -> Answer:
        """What is at a path below its address."""
        return self._get(f"{self._url}{path}", self._headers, self._timeout_s, self._api.cafile, MOST_BYTES)

    def segments_of(self, host: str, segments: list[dict[str, Any]]) -> list[str]:
        """The names of the segments in which a host is registered."""
        found = []
        for segment in segments[:MOST_SEGMENTS]:
            answer = self.ask(f"/segments/{quote(str(segment.get('uuid')), safe='')}/hosts")
            if host in [entry.get("name") for entry in _listed(answer, "hosts")]:
                found.append(str(segment.get("name")))
        return found


def checks(settings: MonitorSettings, clock: Clock) -> list[Check]:
    """All of them; none for a monitor whose reports go as callbacks."""
    api = settings.api
    if api is None:
        return []
    return [(SUBJECT, lambda: look(api, settings.identity.hostname, settings.delivery.timeout_s, SignIn(clock)))]


def look(api: Api, host: str, timeout_s: float, sign_in: SignIn, get: Get = post.get) -> Iterator[Outcome]:
    """Sign in, and ask the service for its segments."""
    subject = f"Keystone {api.auth_url}"
    try:
        token = sign_in.token(api, timeout_s)
    except Unavailable as error:
        advice = "compare [api] with the account: openstack token issue, openstack catalog show instance-ha"
        yield not_ok(subject, str(error), advice)
        return
    project = api.project_name or api.project_id
    yield ok(subject, f"signed in as {api.username}, project {project}; notifications go to {token.url}")
    service = Service(api, token, timeout_s, get)
    try:
        answer = service.ask("/segments")
        yield from of_segments(answer, token.url, host, service)
    except Unavailable as error:
        yield not_ok(SUBJECT, str(error), "does the controller run, and does the address in the catalog lead to it?")


def of_segments(answer: Answer, url: str, host: str, service: Service) -> Iterator[Outcome]:
    """What the answer to a question for the segments means, and in which of them this host is."""
    if answer.status == instance_ha.FORBIDDEN:
        yield ok(
            SUBJECT, f"{url} answers; this account may not list segments, so whether {host} is in one is not looked at"
        )
        return
    if answer.status != OK_STATUS or "segments" not in content(answer):
        told = f"{url} answered HTTP {answer.status}, {instance_ha.fault(answer) or said(answer)}"
        yield not_ok(SUBJECT, told, "see openstack catalog show instance-ha, and the log of the controller")
        return
    segments = _listed(answer, "segments")
    found = service.segments_of(host, segments)
    if found:
        yield ok(SUBJECT, f"{url} answers; {host} is registered in segment {', '.join(found)}")
    elif len(segments) > MOST_SEGMENTS:
        yield ok(SUBJECT, f"{url} answers; {host} is in none of the first {MOST_SEGMENTS} of {len(segments)} segments")
    else:
        told = f"{url} answers, but {host} is registered in none of its {len(segments)} segments"
        yield warning(SUBJECT, told, f"{REGISTER.format(host=host)}; or see hostname in the settings")


def _listed(answer: Answer, name: str) -> list[dict[str, Any]]:
    found = content(answer).get(name)
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
