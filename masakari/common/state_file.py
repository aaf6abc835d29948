"""Port to a file with what a monitor knows, kept over a crash of the monitor: JSON, replaced as a whole."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from masakari.common import durable

log = logging.getLogger(__name__)

S = TypeVar("S")
T = TypeVar("T")

VERSION = 1
ASIDE = ".unreadable"


class StateFile(Generic[S]):
    """One state in one file.

    encode and decode: bytes from a state, and back; decode raises ValueError, with the reason, for anything else. empty: makes the
    state of a first start. lost: what is not found out without the file, a sentence for the operator.
    """

    def __init__(
        self, path: str, encode: Callable[[S], bytes], decode: Callable[[bytes], S], empty: Callable[[], S], lost: str
    ) -> None:
        self.path = path
        self._encode = encode
        self._decode = decode
        self._empty = empty
        self._lost = lost

    def load(self) -> S:
        """The state that was saved last, or an empty one when none was.

        A file that can't be understood is kept under another name, which is logged, and counts as none. Raises OSError
        when the file can be neither read nor set aside.
        """
        try:
            with open(self.path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return self._empty()
        try:
            return self._decode(data)
        except ValueError as error:
            os.replace(self.path, self.path + ASIDE)
            log.error(
                "the state file %s can't be understood (%s) and is kept as %s: this is now like a first start; %s",
                self.path,
                error,
                self.path + ASIDE,
                self._lost,
            )
            return self._empty()

    def save(self, state: S) -> None:
        """Replace the file; on return it is on the disk. Raises OSError: the file is then as it was."""
        durable.write(self.path, self._encode(state))


def encoded(fields: dict[str, Any]) -> bytes:
    """The content of a file."""
    return json.dumps({"version": VERSION, **fields}).encode()


def decoded(data: bytes) -> dict[str, Any]:
    """The fields that encoded() wrote. ValueError, with the reason, for anything else."""
    try:
        told = json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    told = wanted(told, dict, "the whole")
    if told.get("version") != VERSION:
        raise ValueError(f"its version is {told.get('version')!r}, {VERSION} is understood")
    return told


def each(told: dict[str, Any], name: str, make: Callable[[dict[str, Any]], T]) -> dict[str, T]:
    """What is made of each object in the object of that name. ValueError if it isn't there, or isn't one of objects."""
    items = wanted(told.get(name), dict, name)
    return {key: make(wanted(fields, dict, f"{name} {key}")) for key, fields in items.items()}


def wanted(value: Any, kind: type[T], name: str) -> T:
    """The value, if it is of this kind. ValueError naming it if not."""
    if not isinstance(value, kind):
        raise ValueError(f"{name} is {type(value).__name__}, not {kind.__name__}")
    return value


def number(value: Any, name: str) -> float:
    """The value, if it is a number. ValueError naming it if not."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} is no number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} is too large") from None
