"""The values that travel between the store, the steps and the operator's tools."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

OPEN = ("new", "running", "held")
FINAL = ("finished", "failed", "ignored", "cancelled")

PROGRESS = {"new": 0, "running": 1, "held": 1, "finished": 2, "failed": 3, "ignored": 4, "cancelled": 4}
"""The 2015 progress number of each status of a recovery."""

RECOVER_BY = {"host": 0, "instance": 1, "process": 2}
"""The 2015 recover_by number of each kind of failure."""

NOTHING_THERE = "nothing there"


@dataclass(frozen=True, slots=True)
class Recovery:
    """One piece of work for one failure, as read from the database; never changed in place."""

    id: int
    kind: str
    hostname: str
    uuid: str | None
    process: str | None
    cluster_port: str
    status: str
    step: str
    hold: str | None
    reason: str
    target: str | None
    data: dict[str, Any]
    cancel_by: str | None
    released: bool
    epoch: int
    wakes: int
    owner: str | None
    tries: int
    created_at: float
    step_at: float

    @classmethod
    def of(cls, row: dict[str, Any]) -> Recovery:
        """Build from a row of the recovery table."""
        values = {name: row[name] for name in cls.__dataclass_fields__}
        values["data"] = json.loads(row["data"])
        values["released"] = bool(row["released"])
        return cls(**values)

    @property
    def subject(self) -> str:
        """What failed, as the operator would call it."""
        if self.kind == "instance":
            return f"instance {self.uuid} on {self.hostname}"
        if self.kind == "process":
            return f"process {self.process} on {self.hostname}"
        return f"host {self.hostname}"


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance within a recovery (a row of vm_list), with the request to Nova that is under way."""

    id: int
    uuid: str
    name: str
    recovery_id: int
    status: str
    reason: str
    priority: int
    was: dict[str, Any]
    action: str | None
    action_at: float
    action_answer: str | None
    action_target: str | None
    migration_seen: int
    request_id: str | None
    retry_cnt: int
    recover_to: str | None

    @classmethod
    def of(cls, row: dict[str, Any]) -> Instance:
        """Build from a row of vm_list."""
        values = {name: row[name] for name in cls.__dataclass_fields__}
        values["was"] = json.loads(row["was"] or "{}")
        values["name"] = row["name"] or row["uuid"]
        values["reason"] = row["reason"] or ""
        values["action_at"] = row["action_at"] or 0.0
        return cls(**values)

    @property
    def open(self) -> bool:
        """Whether anything is still to be done for it."""
        return self.status in ("new", "running")


@dataclass(frozen=True, slots=True)
class Evidence:
    """One statement about a host being off or alive. `at` is Unix seconds, never later than its receipt.

    `guid`: that of the BMC that was read, as it told; empty if it told none, or none was read.
    """

    kind: str
    at: float
    observer: str = ""
    detail: str = ""
    guid: str = ""
