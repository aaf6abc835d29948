"""masakari-hostmonitor --may-start: wait, before nova-compute or the guests of this host are started, until nothing is evacuated.

A host that comes back in the middle of its evacuation finds Nova's queued messages, and libvirt resumes guests that have begun to
run elsewhere. After the time limit, and when no controller answers, they are started all the same: a cloud whose controller is
away must be able to boot.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping

from masakari.common import post
from masakari.common.clock import Clock
from masakari.common.errors import Unavailable
from masakari.common.monitor_config import MonitorSettings
from masakari.common.post import Answer
from masakari.common.signature import HEADER, sign

LONGEST_S = 600
ASK_EVERY_S = 2.0
TELL_AFTER_S = 2.0
TELL_EVERY_S = 30.0
ANSWER_WITHIN_S = 5.0
SHORTEST_S = 1.0

COMPARE = (
    "An instance that was evacuated from here must not run here, too: compare `virsh list` with the instances that Nova shows on "
    "this host"
)

Get = Callable[[str, Mapping[str, str], float, str], Answer]
"""url, headers, timeout_s, ca_bundle; as post.get."""


def uptime_s() -> float:
    """Seconds since this host was booted."""
    with open("/proc/uptime", encoding="ascii") as file:
        return float(file.read().split()[0])


def run(
    settings: MonitorSettings, clock: Clock, wait_s: float, get: Get = post.get, up_s: Callable[[], float] = uptime_s
) -> int:
    """Return 0 as soon as a controller says that this host may start, or once wait_s are over, with an error on standard error.

    At once where no controller's address is set, as with reports that go by [api]: there is nobody to ask.
    """
    if not settings.delivery.urls:
        _say(f"STARTED UNCHECKED: no url is set, so no controller can be asked. {COMPARE}")
        return 0
    began = clock.monotonic()
    tell_at, waited_s = TELL_AFTER_S, 0.0
    while True:
        limit_s = max(SHORTEST_S, min(ANSWER_WITHIN_S, wait_s - waited_s))
        question = f"/may-start?host={settings.identity.hostname}&up_s={up_s():.0f}"
        allowed, why = _ask_all(settings, question, clock.now(), limit_s, get)
        waited_s = clock.monotonic() - began
        if allowed:
            if waited_s >= TELL_AFTER_S:
                _say(f"goes on after {waited_s:.0f} s: {why}")
            return 0
        if waited_s >= wait_s:
            _say(f"ERROR: STARTED UNCHECKED after {waited_s:.0f} s: {why}. {COMPARE}")
            return 0
        if waited_s >= tell_at:
            tell_at = waited_s + TELL_EVERY_S
            _say(f"waits for {waited_s:.0f} s, and up to {wait_s:.0f} s: {why}")
        clock.sleep(min(ASK_EVERY_S, wait_s - waited_s))
        waited_s = clock.monotonic() - began


def _ask_all(settings: MonitorSettings, question: str, now: float, limit_s: float, get: Get) -> tuple[bool, str]:
    """What the first controller says that can tell; if none can, False and the reasons."""
    identity, delivery = settings.identity, settings.delivery
    headers = {HEADER: sign(identity.key_id, identity.secret, question.encode(), now)} if identity.key_id else {}
    problems = []
    for url in delivery.urls:
        try:
            answer = get(url.rstrip("/") + question, headers, limit_s, delivery.ca_bundle)
        except Unavailable as error:
            problems.append(str(error))
            continue
        told = _content(answer)
        allowed = told.get("may_start")
        if answer.status == 200 and isinstance(allowed, bool):
            return allowed, str(told.get("reason"))
        problems.append(f"{url} can't tell: HTTP {answer.status}, {told.get('error') or 'and no word of Masakari'}")
    return False, "; ".join(problems)


def _content(answer: Answer) -> Mapping[str, object]:
    try:
        content = json.loads(answer.body)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _say(text: str) -> None:
    print(f"masakari-hostmonitor --may-start: {text}", file=sys.stderr, flush=True)
