"""Microversions, and the documents that tell clients which there are (pure).

1.0 segments, hosts and notifications; 1.1 details of a recovery in a notification; 1.2 `enabled` of a segment; 1.3 the moves
of instances. As in OpenStack's API reference of the instance-ha service.
"""

from __future__ import annotations

import re
from typing import Any

from masakari.instance_ha.refusal import Refusal, bad

SERVICE = "instance-ha"
HEADER = "OpenStack-API-Version"
OLDEST, NEWEST = (1, 0), (1, 3)
DETAILS, ENABLED, VMOVES = (1, 1), (1, 2), (1, 3)
UPDATED = "2016-07-01T11:33:21Z"

Version = tuple[int, int]


def negotiate(header: str) -> Version:
    """The microversion that a request asks for: the oldest if it asks for none. Raises Refusal, 406 for one we don't have."""
    for part in header.split(","):
        service, _, wanted = part.strip().partition(" ")
        if service.lower() != SERVICE:
            continue
        if wanted.strip().lower() == "latest":
            return NEWEST
        match = re.fullmatch(r"([1-9][0-9]{0,3})\.(0|[1-9][0-9]{0,3})", wanted.strip(), re.ASCII)
        if not match:
            raise bad(HEADER, f"not a version: {SERVICE} 1.0 is one")
        version = int(match[1]), int(match[2])
        if not OLDEST <= version <= NEWEST:
            known = f"the oldest is {written(OLDEST)}, the newest {written(NEWEST)}"
            raise Refusal(406, f"version {written(version)} is not supported; {known}", HEADER)
        return version
    return OLDEST


def written(version: Version) -> str:
    """1.3"""
    return f"{version[0]}.{version[1]}"


def headers(version: Version) -> tuple[tuple[str, str], ...]:
    """What an answer says of its own version."""
    return (HEADER, f"{SERVICE} {written(version)}"), ("Vary", HEADER)


def all_versions(base_url: str) -> dict[str, Any]:
    """The document at the root."""
    return {"versions": [_described(base_url)]}


def one_version(base_url: str) -> dict[str, Any]:
    """The document at /v1."""
    media = {"base": "application/json", "type": "application/vnd.openstack.masakari+json;version=1"}
    return {"version": {**_described(base_url), "media-types": [media]}}


def _described(base_url: str) -> dict[str, Any]:
    return {
        "id": "v1.0",
        "status": "CURRENT",
        "version": written(NEWEST),
        "min_version": written(OLDEST),
        "updated": UPDATED,
        "links": [{"rel": "self", "href": f"{base_url}/v1/"}],
    }
