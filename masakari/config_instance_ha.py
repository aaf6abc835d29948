"""The settings of the v1 API of OpenStack's instance-ha service."""

from __future__ import annotations

from dataclasses import dataclass

from masakari.common.config import Number, Section, Words, option


@dataclass(frozen=True)
class InstanceHa(Section):
    """Who may use the v1 API of OpenStack's instance-ha service: callers with a token of the Keystone of [nova]."""

    admin_roles: tuple[str, ...] = option(
        ("admin",), Words(), "Whoever has one of these roles in the project of the token may do everything."
    )
    notifier_roles: tuple[str, ...] = option(
        ("service",),
        Words(),
        "Whoever has one of these roles, and none of admin_roles, may create notifications and nothing else. What such a "
        "notification brings as evidence counts for nothing: a dead host is held for proof from elsewhere, unless its segment is "
        "in [safety] detail_2_is_proof.",
    )
    token_cache_s: float = option(
        10,
        Number(0, 300),
        "Seconds that Keystone isn't asked again about a token, so that one that was revoked is accepted at most that long; 0 "
        "asks every time.",
    )
    duplicate_notification_detection_interval: float = option(
        180,
        Number(0, 86400),
        "A notification of the same host, type and payload within this many seconds is refused as a duplicate. OpenStack's "
        "Masakari: 180.",
    )
