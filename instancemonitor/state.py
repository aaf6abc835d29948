"""The state file: what the ledger knows, kept over a crash of this process."""

from __future__ import annotations

import dataclasses
from typing import Any

from instancemonitor.events import FAULTS, INCOMING, RUNNING, STOPPED
from instancemonitor.ledger import Failure, Record, State
from masakari.common import state_file
from masakari.common.state_file import decoded, each, encoded, number, wanted

LOST = "instances that failed while the monitor was down are not reported, look for them yourself"


class StateFile(state_file.StateFile[State]):
    """What is known of the domains of this host."""

    def __init__(self, path: str) -> None:
        super().__init__(path, encode, decode, State, LOST)


def encode(state: State) -> bytes:
    """The content of the file: JSON."""
    return encoded(dataclasses.asdict(state))


def decode(data: bytes) -> State:
    """Read what encode wrote. ValueError, with the reason, for anything else."""
    told = decoded(data)
    return State(
        boot_id=wanted(told.get("boot_id"), str, "boot_id"),
        viewed_at=number(told.get("viewed_at"), "viewed_at"),
        records=each(told, "records", _record),
        undecided=each(told, "undecided", _failure),
        pending=each(told, "pending", lambda fields: fields),
    )


def _record(fields: dict[str, Any]) -> Record:
    if fields.get("state") not in (RUNNING, STOPPED, INCOMING):
        raise ValueError(f"state is {fields.get('state')!r}")
    run_id, ours, logged_at = (fields.get(key) for key in ("run_id", "ours", "logged_at"))
    return Record(
        name=wanted(fields.get("name"), str, "name"),
        state=fields["state"],
        changed_at=number(fields.get("changed_at"), "changed_at"),
        run_id=None if run_id is None else wanted(run_id, int, "run_id"),
        ours=None if ours is None else wanted(ours, bool, "ours"),
        logged_at=None if logged_at is None else number(logged_at, "logged_at"),
        died=wanted(fields.get("died"), bool, "died"),
    )


def _failure(fields: dict[str, Any]) -> Failure:
    if fields.get("kind") not in FAULTS:
        raise ValueError(f"kind is {fields.get('kind')!r}")
    uuid, name, reason = (wanted(fields.get(key), str, key) for key in ("uuid", "name", "reason"))
    failed_at, noticed_at = (number(fields.get(key), key) for key in ("failed_at", "noticed_at"))
    return Failure(uuid, name, fields["kind"], failed_at, noticed_at, reason)
