"""The keys that sign callbacks: the controller has a file with all of them, a node one with its own."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from masakari.common.config import Reading, Section, Text, option
from masakari.common.ini import Ini


@dataclass(frozen=True)
class Key(Section):
    """A key that signs callbacks: whose it is, the failover segment of that host, and the secret."""

    host: str = option("", Text(r"[A-Za-z0-9._-]{1,255}", "a host name"), "Host the key belongs to.", required=True)
    cluster_port: str = option("", Text(r"\S{1,255}", "address:port"), "Failover segment of the host.", required=True)
    secret: str = option(
        "", Text(r".{16,}", "at least 16 characters long"), "The key itself.", secret=True, required=True
    )


def load_keys(path: str) -> dict[str, Key]:
    """The keys in a file, by key id: a section per key with host, cluster_port and secret.

    ConfigError when others may read the file (its mode must be 0600), when a host has more than two keys (two
    are for their exchange) or keys with different cluster_port, or when two keys have the same secret.
    """
    ini = Ini(path)
    mode = os.stat(path).st_mode & 0o777
    if mode & 0o077:
        ini.problems.append((0, f"{path}: others may read the secrets (mode {mode:04o}); run: chmod 600 {path}"))
    reading = Reading(ini, dict.fromkeys(ini.sections, Key))
    keys: dict[str, Key] = {}
    for key_id, key in reading.sections.items():
        assert isinstance(key, Key)
        _check_key(reading, key_id, key, keys)
        keys[key_id] = key
    reading.finish()
    return keys


def _check_key(reading: Reading, key_id: str, key: Key, earlier: Mapping[str, Key]) -> None:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", key_id):
        reading.problem(key_id, "host", "the id of a key is 1 to 64 letters, digits, '.', '_' or '-'")
    same_host = {other_id: other for other_id, other in earlier.items() if key.host and other.host == key.host}
    if len(same_host) > 1:
        reading.problem(key_id, "host", f"{key.host} has two keys already: [{']['.join(same_host)}]")
    for other_id, other in same_host.items():
        if key.cluster_port and other.cluster_port not in ("", key.cluster_port):
            reading.problem(key_id, "cluster_port", f"differs from that of the same host in [{other_id}]")
    for other_id, other in earlier.items():
        if key.secret and other.secret == key.secret:
            reading.problem(key_id, "secret", f"is the same as in [{other_id}]; every key needs its own")
