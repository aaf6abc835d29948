"""What an ended recovery remembers of aggregates, on both databases: who finds it, and who may change it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from masakari import store
from masakari.database import Database
from masakari.model import Recovery

NOW = 1_800_000_000.0
CLUSTER = "226.94.1.1:5405"
ENTRY = {"host": "compute3", "id": 7, "name": "rack"}


def recovery(db: Database, name: str, data: dict[str, Any], ended: bool = True) -> int:
    def act(tx: Any) -> int:
        found = store.add(tx, "host", name, CLUSTER, NOW, step="prove", data=data)
        if ended:
            tx.execute("recovery_end", id=found, status="finished", reason="3 of 3 evacuated", now=NOW)
        return found

    return db.transaction(act)


def found(db: Database) -> list[int]:
    return [row["id"] for row in db.read(lambda tx: tx.all("recovery_with_aggregates"))]


def remember(db: Database, before: Recovery, data: dict[str, Any]) -> int:
    fields = {"id": before.id, "epoch": before.epoch, "data": json.dumps(data)}
    return db.transaction(lambda tx: tx.execute("recovery_remember_ended", **fields))


def read(db: Database, recovery_id: int) -> Recovery:
    now = db.read(lambda tx: store.get(tx, recovery_id))
    assert now is not None
    return now


def test_only_ended_recoveries_that_still_have_an_entry_are_found(db: Database) -> None:
    wanted = recovery(db, "compute1", {"aggregates": [ENTRY]})
    recovery(db, "compute2", {"aggregates": []})
    recovery(db, "compute4", {"report": 1})
    recovery(db, "compute5", {"aggregates": [ENTRY]}, ended=False)
    assert found(db) == [wanted]


@pytest.mark.parametrize("cluster_port", [CLUSTER, "*"])
def test_while_its_segment_is_paused_it_is_left_alone(db: Database, cluster_port: str) -> None:
    wanted = recovery(db, "compute1", {"aggregates": [ENTRY]})
    db.transaction(lambda tx: tx.execute("segment_add", cluster_port=cluster_port))
    pause = {"cluster_port": cluster_port, "paused_until": None, "paused_by": "anna"}
    db.transaction(lambda tx: tx.execute("segment_pause", paused_at=NOW, **pause))
    assert found(db) == []
    db.transaction(lambda tx: tx.execute("segment_pause", paused_at=None, **pause))
    assert found(db) == [wanted]


def test_what_an_ended_recovery_remembers_can_be_changed_until_it_is_tried_again(db: Database) -> None:
    before = read(db, recovery(db, "compute1", {"aggregates": [ENTRY], "method": "auto"}))
    assert remember(db, before, {"aggregates": [], "method": "auto"}) == 1
    assert read(db, before.id).data == {"aggregates": [], "method": "auto"}
    again = {"id": before.id, "step": "prove", "reason": "", "active_key": "host:compute1", "data": "{}", "now": NOW}
    assert db.transaction(lambda tx: tx.execute("recovery_reopen", **again)) == 1
    assert remember(db, before, {"aggregates": [ENTRY]}) == 0
    assert read(db, before.id).data == {}
