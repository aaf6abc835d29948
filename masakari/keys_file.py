"""A file of keys that is changed in place: what isn't changed stays as it is, comments and owner included.

Whoever reads it meanwhile, after a power cut too, finds the old file or the new one, whole. A file that the controller would refuse
is never written, and one that it refuses is never changed.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timezone

from masakari.common import durable
from masakari.common.errors import ConfigError
from masakari.common.keys import Key, load_keys

CONTROLLER = "masakari"
"""The user that the packages run the controller as."""

LONGEST_ID = 64
_ID = re.compile(r".*-(\d{8}-\d{6})")
_TIME = "%Y%m%d-%H%M%S"

HEAD = "# Keys of the hosts: who may send callbacks. Kept by masakari-keys; reload the controllers after a change.\n"


def new_id(host: str, now: float, taken: Collection[str]) -> str:
    """Pure: the id of a key made now, which tells its age. No id is used twice, so that what was signed with it can be told."""
    second = int(now)
    while True:
        made = datetime.fromtimestamp(second, timezone.utc).strftime(_TIME)
        key_id = f"{host[: LONGEST_ID - len(made) - 1]}-{made}"
        if key_id not in taken:
            return key_id
        second += 1


def made_at(key_id: str) -> float | None:
    """Pure: when a key was made, Unix seconds; None when its id doesn't tell."""
    found = _ID.fullmatch(key_id)
    try:
        return datetime.strptime(f"{found[1]}+0000", f"{_TIME}%z").timestamp() if found else None
    except ValueError:
        return None


def section(key_id: str, key: Key) -> str:
    """Pure: a key as it is written. Whoever gets this can sign in the name of the host."""
    return f"[{key_id}]\nhost = {key.host}\ncluster_port = {key.cluster_port}\nsecret = {key.secret!s}\n"


def with_key(text: str, key_id: str, key: Key) -> str:
    """Pure: the text of a file with one more key, below all others."""
    text = text.rstrip("\n")
    return f"{text}\n\n{section(key_id, key)}" if text else section(key_id, key)


def without_keys(text: str, key_ids: Collection[str]) -> str:
    """Pure: the text of a file without these keys. Every comment stays."""
    kept = []
    inside = False
    for line in text.split("\n"):
        stripped = line.strip()
        if stripped[:1] == "[" and stripped[-1:] == "]":
            inside = stripped[1:-1].strip() in key_ids
        if not inside or stripped[:1] in ("#", ";"):
            kept.append(line)
    return "\n".join(kept).rstrip("\n") + "\n"


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Nobody else changes the files of its folder by these means meanwhile; waits for its turn. Raises OSError."""
    descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def read(path: str) -> tuple[str, dict[str, Key]]:
    """The text of a file and the keys in it. ConfigError when it can't be read, or the controller would refuse it."""
    keys = load_keys(path)
    with open(path, encoding="utf-8-sig", newline="") as file:
        return file.read(), keys


def replace(path: str, text: str, keys: Mapping[str, Key]) -> None:
    """Write a file of mode 0600, owned as before. keys: what must be in it then.

    A new one belongs to the controller's user, if root makes it. Raises OSError and ConfigError: the file is as it was.
    """
    new = f"{path}.new"
    try:
        owner = os.stat(path)
        user, group = owner.st_uid, owner.st_gid
    except FileNotFoundError:
        user, group = _controller()
    try:
        durable.write(new, text.encode())
        if load_keys(new) != dict(keys):
            raise ConfigError([f"{path} would not be read as it is meant; nothing was changed"])
        os.chown(new, user, group)
        durable.move(new, path)
    except (OSError, ConfigError):
        with suppress(OSError):
            os.unlink(new)
        raise


def _controller() -> tuple[int, int]:
    if os.geteuid() == 0:
        with suppress(KeyError):
            user = pwd.getpwnam(CONTROLLER)
            return user.pw_uid, user.pw_gid
    return os.geteuid(), os.getegid()
