"""The state file: what the ledger knows, kept over a crash of this process."""

from __future__ import annotations

import dataclasses
from typing import Any

from hostmonitor.ledger import DOWN, FAILED, UP, Failure, Record, State
from hostmonitor.power import Evidence
from masakari.common import state_file
from masakari.common.state_file import decoded, each, encoded, number, wanted

LOST = "hosts that failed while the monitor was down are not reported, look for them yourself"


class StateFile(state_file.StateFile[State]):
    """What is known of the nodes of this cluster."""

    def __init__(self, path: str) -> None:
        super().__init__(path, encode, decode, State, LOST)


def encode(state: State) -> bytes:
    """The content of the file: JSON."""
    return encoded(dataclasses.asdict(state))


def decode(data: bytes) -> State:
    """Read what encode wrote. ValueError, with the reason, for anything else."""
    told = decoded(data)
    return State(records=each(told, "records", _record), pending=each(told, "pending", lambda fields: fields))


def _record(fields: dict[str, Any]) -> Record:
    state, failure = fields.get("state"), fields.get("failure")
    if state not in (UP, DOWN, FAILED) or (state == FAILED) != (failure is not None):
        raise ValueError(f"state is {state!r} {'with' if failure else 'without'} a failure")
    return Record(
        state,
        number(fields.get("alive_at"), "alive_at"),
        _words(fields.get("known"), "known"),
        None if failure is None else _failure(wanted(failure, dict, "failure")),
    )


def _failure(fields: dict[str, Any]) -> Failure:
    words = {
        name: wanted(fields.get(name), str, name)
        for name in ("state", "why", "report_id", "detail", "recovery", "status")
    }
    fenced, power = (_evidence(fields.get(name), name) for name in ("fenced", "power"))
    return Failure(
        since=number(fields.get("since"), "since"),
        last_alive=number(fields.get("last_alive"), "last_alive"),
        fenced=fenced,
        reboot=wanted(fields.get("reboot"), bool, "reboot"),
        counted=_words(fields.get("counted"), "counted"),
        power=power,
        **words,
    )


def _evidence(told: Any, name: str) -> Evidence | None:
    if told is None:
        return None
    fields = wanted(told, dict, name)
    words = {key: wanted(fields.get(key), str, f"{name}.{key}") for key in ("kind", "detail", "guid")}
    return Evidence(at=number(fields.get("at"), f"{name}.at"), **words)


def _words(told: Any, name: str) -> list[str]:
    return [wanted(word, str, name) for word in wanted(told, list, name)]
