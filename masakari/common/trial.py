"""Whether a controller can be reached from this node: its clock, and a test callback to the database and back."""

from __future__ import annotations

import http.client
import json
import ssl
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from masakari.common.checkup import Outcome, not_ok, of_clock, ok, warning
from masakari.common.clock import Clock
from masakari.common.errors import Unavailable
from masakari.common.monitor_config import DEFAULT_KEY_FILE
from masakari.common.post import Answer, post
from masakari.common.report import Origin, new_id, process_report
from masakari.common.signature import HEADER, sign

TYPE = "test"
"""The type of a callback that nothing is done about."""

TOLERANCE_S = 15.0
"""As [safety] clock_tolerance_s of the controller, unless that is changed."""

_ONLY_PROCESS = ("boot_id", "process", "state", "on_failure")


@dataclass(frozen=True, slots=True)
class Way:
    """How a monitor reaches a controller: the address, the key it signs with (id and secret; None: unsigned), and as whom."""

    url: str
    timeout_s: float
    ca_bundle: str
    key: tuple[str, str] | None = field(repr=False)
    origin: Origin


def rows(way: Way, clock: Clock) -> list[Outcome]:
    """What can be told of a controller from here."""
    return [clock_row(way, clock), callback_row(way, clock)]


def clock_row(way: Way, clock: Clock) -> Outcome:
    """How far the controller's clock is from this host's, by the date in its answer."""
    subject = f"clock of {way.url}"
    began = clock.now()
    try:
        date = _date(f"{way.url.rstrip('/')}/healthz", way.timeout_s, way.ca_bundle)
    except Unavailable as error:
        return not_ok(subject, str(error), _REACH)
    if date is None:
        return warning(subject, "its answer has no date, so its clock can't be compared")
    # The date is without the part of the second that had passed.
    return of_clock(subject, "the controller's clock", date + 0.5 - (began + clock.now()) / 2, TOLERANCE_S)


def callback_row(way: Way, clock: Clock) -> Outcome:
    """Send a callback of the type `test` twice: that it is known the second time proves that the database has it."""
    subject = f"callback to {way.url}"
    body = json.dumps(test_body(way.origin, clock.now())).encode()
    answers = []
    for _ in range(2):
        headers = {HEADER: sign(*way.key, body, clock.now())} if way.key else {}
        try:
            answers.append(post(way.url, body, headers, way.timeout_s, way.ca_bundle))
        except Unavailable as error:
            return not_ok(subject, str(error), _REACH)
        if answers[-1].status != 200:
            break
    return of_answers(subject, answers, way.key is not None)


def test_body(origin: Origin, at: float) -> dict[str, Any]:
    """A callback that says of itself that it is a test (pure, but for its new id)."""
    report = process_report(origin, new_id(), "", "up", "report", at, "test of masakari-doctor")
    body = {name: value for name, value in report.items() if name not in _ONLY_PROCESS}
    return {**body, "type": TYPE, "eventID": "0", "eventType": "0", "detail": "0"}


def of_answers(subject: str, answers: list[Answer], signed: bool) -> Outcome:
    """What the answers to a callback and its repeat mean (pure)."""
    last = answers[-1]
    said = _object(last.body)
    if said is None or (last.status == 200 and "known" not in said):
        return not_ok(subject, f"HTTP {last.status}, and not from a Masakari controller", _REACH)
    if last.status != 200:
        told = f"refused with {last.status}: {said.get('field') or ''} {said.get('error') or 'no reason'}"
        return not_ok(subject, " ".join(told.split()), _remedy(last.status, signed))
    known = [bool((_object(answer.body) or {}).get("known")) for answer in answers]
    if known != [False, True]:
        why = "the controller answered twice as if it had not seen it before: it is not in the database"
        return not_ok(subject, why, "are two controllers with different databases behind this address?")
    return ok(subject, f"{'signed, ' if signed else 'not signed, '}stored and found again: {said.get('reason')}")


_REACH = "is the url in the settings right, does the controller run (systemctl status masakari-controller), and is its port open?"


def _remedy(status: int, signed: bool) -> str:
    if status == 401 and not signed:
        return f"put this host's own section of the controller's keys file into {DEFAULT_KEY_FILE} (root, mode 0600)"
    if status in (401, 403):
        return (
            f"compare {DEFAULT_KEY_FILE} with the section of this host in the controller's keys file; after a change there: "
            "systemctl reload masakari-controller"
        )
    return "see the controller's log, and run masakari-doctor there" if status >= 500 else ""


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _date(url: str, timeout_s: float, ca_bundle: str) -> float | None:
    """The date of an answer, whatever its status. Raises Unavailable."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    connection: http.client.HTTPConnection
    try:
        if parts.scheme == "https":
            trust = ssl.create_default_context(cafile=ca_bundle or None)
            connection = http.client.HTTPSConnection(host, parts.port, timeout=timeout_s, context=trust)
        else:
            connection = http.client.HTTPConnection(host, parts.port, timeout=timeout_s)
        try:
            connection.request("GET", parts.path, headers={"Connection": "close"})
            text = connection.getresponse().getheader("Date")
            return parsedate_to_datetime(text).timestamp() if text else None
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unavailable(f"{url}: {getattr(error, 'strerror', None) or error or type(error).__name__}") from error
