"""The state file: what the ledger knows, kept over a crash of this process. Port."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections.abc import Callable
from typing import Any, TypeVar

from instancemonitor.events import FAULTS, INCOMING, RUNNING, STOPPED
from instancemonitor.ledger import Failure, Record, State
from masakari.common import durable

log = logging.getLogger(__name__)

T = TypeVar("T")

VERSION = 1
ASIDE = ".unreadable"


class StateFile:
    """One state in one file, replaced as a whole."""

    def __init__(self, path: str) -> None:
        self.path = path

    def load(self) -> State:
        """The state that was saved last, or an empty one when none was.

        A file that can't be understood is kept under another name, which is logged, and counts as none. Raises OSError
        when the file can be neither read nor set aside.
        """
        try:
            with open(self.path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return State()
        try:
            return decode(data)
        except ValueError as error:
            os.replace(self.path, self.path + ASIDE)
            log.error(
                "the state file %s can't be understood (%s) and is kept as %s: this is now like a first start; "
                "instances that failed while the monitor was down are not reported, look for them yourself",
                self.path,
                error,
                self.path + ASIDE,
            )
            return State()

    def save(self, state: State) -> None:
        """Replace the file; on return it is on the disk. Raises OSError: the file is then as it was."""
        durable.write(self.path, encode(state))


def encode(state: State) -> bytes:
    """The content of the file: JSON."""
    return json.dumps({"version": VERSION, **dataclasses.asdict(state)}).encode()


def decode(data: bytes) -> State:
    """Read what encode wrote. ValueError, with the reason, for anything else."""
    try:
        told = json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    told = _as(told, dict, "the whole")
    if told.get("version") != VERSION:
        raise ValueError(f"its version is {told.get('version')!r}, {VERSION} is understood")
    return State(
        boot_id=_as(told.get("boot_id"), str, "boot_id"),
        viewed_at=_number(told.get("viewed_at"), "viewed_at"),
        records=_each(told, "records", _record),
        undecided=_each(told, "undecided", _failure),
        pending=_each(told, "pending", lambda fields: fields),
    )


def _each(told: dict[str, Any], name: str, make: Callable[[dict[str, Any]], T]) -> dict[str, T]:
    items = _as(told.get(name), dict, name)
    return {key: make(_as(fields, dict, f"{name} {key}")) for key, fields in items.items()}


def _record(fields: dict[str, Any]) -> Record:
    if fields.get("state") not in (RUNNING, STOPPED, INCOMING):
        raise ValueError(f"state is {fields.get('state')!r}")
    run_id, ours, logged_at = (fields.get(key) for key in ("run_id", "ours", "logged_at"))
    return Record(
        name=_as(fields.get("name"), str, "name"),
        state=fields["state"],
        changed_at=_number(fields.get("changed_at"), "changed_at"),
        run_id=None if run_id is None else _as(run_id, int, "run_id"),
        ours=None if ours is None else _as(ours, bool, "ours"),
        logged_at=None if logged_at is None else _number(logged_at, "logged_at"),
        died=_as(fields.get("died"), bool, "died"),
    )


def _failure(fields: dict[str, Any]) -> Failure:
    if fields.get("kind") not in FAULTS:
        raise ValueError(f"kind is {fields.get('kind')!r}")
    uuid, name, reason = (_as(fields.get(key), str, key) for key in ("uuid", "name", "reason"))
    failed_at, noticed_at = (_number(fields.get(key), key) for key in ("failed_at", "noticed_at"))
    return Failure(uuid, name, fields["kind"], failed_at, noticed_at, reason)


def _as(value: Any, kind: type[T], name: str) -> T:
    if not isinstance(value, kind):
        raise ValueError(f"{name} is {type(value).__name__}, not {kind.__name__}")
    return value


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} is no number")
    return float(value)
