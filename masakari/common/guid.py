"""The GUID of a BMC, by which two are told apart (pure)."""

from __future__ import annotations

import re


def same_guid(one: str, other: str) -> bool:
    """Whether two GUIDs are the same sixteen bytes. Releases of ipmitool show them in one of three orders."""
    return not _orders(one).isdisjoint(_orders(other))


def _orders(guid: str) -> set[bytes]:
    digits = guid.replace("-", "")
    if not re.fullmatch(r"[0-9A-Fa-f]{32}", digits):
        return {guid.lower().encode()}
    raw = bytes.fromhex(digits)
    return {raw, raw[::-1], raw[3::-1] + raw[5:3:-1] + raw[7:5:-1] + raw[8:]}
