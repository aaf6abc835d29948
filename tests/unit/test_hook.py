"""[notify] command: what it is told, that it can't hang the controller, and that a held recovery is told again."""

from __future__ import annotations

import json
import logging
import stat
from pathlib import Path

import pytest

from masakari import hook
from tests.sim.harness import House, settings

ROW = {
    "id": 7, "kind": "host", "hostname": "compute1", "uuid": None, "process": None, "cluster_port": "c:1", "status": "held",
    "hold": "proof", "reason": "no proof that the host is off", "target": None, "step_at": 1_800_000_000.0,
}  # fmt: skip


def script(folder: Path, text: str) -> str:
    path = folder / "notify"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_the_command_reads_the_recovery_as_json(tmp_path: Path) -> None:
    hook.run(
        script(tmp_path, f"cat > {tmp_path}/told; echo $1 > {tmp_path}/argument") + " pager", hook.message(ROW), 10
    )
    told = json.loads((tmp_path / "told").read_text())
    assert (told["recovery"], told["host"], told["status"], told["hold"]) == (7, "compute1", "held", "proof")
    assert told["since"] == "2027-01-15T08:00:00Z"
    assert (tmp_path / "argument").read_text() == "pager\n"


@pytest.mark.parametrize(
    "text, said", [("sleep 60", "killed"), ("echo out of paper; exit 3", "ended with 3"), (None, "can't be started")]
)
def test_a_command_that_fails_is_logged_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str | None, said: str
) -> None:
    command = script(tmp_path, text) if text else str(tmp_path / "missing")
    with caplog.at_level(logging.ERROR):
        hook.run(command, hook.message(ROW), 0.2)
    assert said in caplog.text


def test_held_failed_and_finished_are_told_once_and_held_hourly(tmp_path: Path) -> None:
    command = script(tmp_path, f"cat >> {tmp_path}/told; echo >> {tmp_path}/told")
    house = House(tmp_path, settings(notify={"command": command}))

    def told() -> list[tuple[str, str | None]]:
        house.controller.housekeeping.tell()
        path = tmp_path / "told"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [(json.loads(line)["status"], json.loads(line)["hold"]) for line in lines]

    house.cloud.boot("compute1", 1)
    house.spare()
    house.clock.advance(30)
    house.cloud.crash("compute1")
    opened = house.host_down(proof=None)
    assert told() == []
    house.until_held(opened.recovery_id, "proof")
    assert told() == [("held", "proof")]
    house.let(60)
    assert told() == []
    house.let(3600)
    assert told() == [("held", "proof")]
    house.host_down()
    house.settle(opened.recovery_id)
    assert told() == [("finished", None)]
    assert told() == []
