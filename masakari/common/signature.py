"""Signed callbacks (pure): who sent a report, and whether that host may say such a thing.

The header is `X-Masakari-Signature: key=<key id>,time=<unix>,hmac=<hex>`; the HMAC-SHA256 is over time,
newline and the raw body.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from typing import Protocol

from masakari.common.errors import BadNotification
from masakari.common.notification import Notification

HEADER = "X-Masakari-Signature"
WINDOW_S = 120

_HEADER = re.compile(r"key=([^\s,=]{1,255}), ?time=([0-9]{1,12}), ?hmac=([0-9a-fA-F]{64})")


class Key(Protocol):
    """What a key says: whose it is, the failover segment of that host, and the secret."""

    @property
    def host(self) -> str: ...

    @property
    def cluster_port(self) -> str: ...

    @property
    def secret(self) -> str: ...


def sign(key_id: str, secret: str, body: bytes, now: float) -> str:
    """The header's value for this body, sent at `now` (Unix seconds). Sign afresh at each try."""
    time = str(int(now))
    return f"key={key_id},time={time},hmac={_digest(secret, time, body).hex()}"


def verify(
    header: str, body: bytes, keys: Mapping[str, Key], now: float, window_s: float = WINDOW_S
) -> tuple[str, Key]:
    """The id and the key that signed this body at about `now`. `keys` are by key id.

    Raises BadNotification (401) for anything else. Only who holds the secret is told of a clock difference.
    """
    found = _HEADER.fullmatch(header)
    if not found:
        raise _refused("must be key=<key id>,time=<unix>,hmac=<64 hex digits>")
    key_id, time, digest = found.groups()
    key = keys.get(key_id)
    if key is None:
        raise _refused(f"unknown key {key_id[:64]!a}")
    if not hmac.compare_digest(_digest(key.secret, time, body), bytes.fromhex(digest)):
        raise _refused(f"does not match the body with key {key_id[:64]!a}")
    ahead_s = int(time) - now
    if abs(ahead_s) > window_s:
        side = "ahead of" if ahead_s > 0 else "behind"
        raise _refused(
            f"signed {abs(ahead_s):.0f} s {side} the controller's clock, more than {window_s:.0f} s; "
            f"correct the clock of {key.host}"
        )
    return key_id, key


def authorise(notification: Notification, key: Key, keys: Mapping[str, Key]) -> None:
    """Return if the host of `key` may send this report, else raise BadNotification (403) naming the field.

    A host speaks for its own instances and processes, and about the hosts of its own cluster, signs of life
    included; in its own name only. A host that has a key in `keys` belongs to the cluster named there,
    whatever the report claims.
    """
    if notification.observer and notification.observer != key.host:
        raise _forbidden("observer", f"the key is that of {key.host}, not of {notification.observer}")
    if notification.type != "rscGroup":
        if notification.hostname != key.host:
            raise _forbidden("hostname", f"{key.host} may report only its own instances and processes")
        return
    if notification.cluster_port != key.cluster_port:
        raise _forbidden("cluster_port", f"{key.host} may report only hosts of cluster {key.cluster_port!r}")
    if notification.hostname != key.host:
        _check_same_cluster(notification.hostname, key, keys)


def _check_same_cluster(hostname: str, key: Key, keys: Mapping[str, Key]) -> None:
    clusters = {known.cluster_port for known in keys.values() if known.host == hostname}
    if clusters and key.cluster_port not in clusters:
        raise _forbidden("hostname", f"{hostname} is not in the cluster of {key.host}")


def _digest(secret: str, time: str, body: bytes) -> bytes:
    return hmac.digest(secret.encode(), time.encode() + b"\n" + body, "sha256")


def _refused(problem: str) -> BadNotification:
    return BadNotification(HEADER, problem, 401)


def _forbidden(field_name: str, problem: str) -> BadNotification:
    return BadNotification(field_name, problem, 403)
