"""[notify] command: tells people about held, failed and finished recoveries. The only module that starts a program."""

from __future__ import annotations

import json
import logging
import shlex
import subprocess
from typing import Any

from masakari.common.text import utc

log = logging.getLogger(__name__)


def message(row: dict[str, Any]) -> dict[str, Any]:
    """What the command reads on its standard input, as JSON."""
    return {
        "recovery": row["id"],
        "kind": row["kind"],
        "host": row["hostname"],
        "instance": row["uuid"],
        "process": row["process"],
        "cluster_port": row["cluster_port"],
        "status": row["status"],
        "hold": row["hold"],
        "reason": row["reason"],
        "target": row["target"],
        "since": utc(row["step_at"]),
    }


def run(command: str, told: dict[str, Any], timeout_s: float) -> None:
    """Run the command with the message on its standard input; it is killed after the time limit.

    Never raises: what goes wrong is logged, and the message is repeated only for what is still held.
    """
    try:
        done = subprocess.run(
            shlex.split(command),
            input=json.dumps(told),
            text=True,
            errors="replace",
            timeout=timeout_s,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        log.error(
            "[notify] command took longer than %.0f s for recovery %s and was killed", timeout_s, told["recovery"]
        )
    except OSError as error:
        log.error("[notify] command can't be started for recovery %s: %s", told["recovery"], error)
    else:
        if done.returncode:
            log.error(
                "[notify] command ended with %d for recovery %s: %s",
                done.returncode,
                told["recovery"],
                (done.stdout or "").strip()[:500],
            )
