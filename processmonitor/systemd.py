"""Port to systemd: whether a service was stopped on purpose, is being started, or has failed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

from processmonitor.supervise import Verdict

RUNS = "/run/systemd/system"
ASK_WITHIN_S = 5.0
SHOWN = (
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "Job",
    "ActiveExitTimestampMonotonic",
    "ExecMainStartTimestampMonotonic",
    "ExecMainExitTimestampMonotonic",
    "RuntimeMaxUSec",
)


def ask(unit: str) -> Verdict:
    """What systemd says about a service one of whose processes has ended; UNKNOWN if it says nothing within 5 s."""
    if not unit or not os.path.isdir(RUNS):
        return Verdict.UNKNOWN
    try:
        asked = subprocess.run(
            ["systemctl", "show", "--property", ",".join(SHOWN), "--", unit],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            errors="replace",
            timeout=ASK_WITHIN_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return Verdict.UNKNOWN
    lines = (line.partition("=") for line in asked.stdout.splitlines())
    return judge({name: value for name, _, value in lines})


def judge(shown: Mapping[str, str]) -> Verdict:
    """The verdict on the properties of a service, as systemctl shows them (pure)."""
    # What was never loaded reads inactive and success, as if it had been stopped in order.
    if shown.get("LoadState") not in ("loaded", "masked"):
        return Verdict.UNKNOWN
    active, result = shown.get("ActiveState", ""), shown.get("Result", "")
    if shown.get("SubState") in ("auto-restart", "auto-restart-queued"):
        return Verdict.RESTARTING
    if active in ("activating", "deactivating", "reloading", "refreshing") or _number(shown, "Job"):
        return Verdict.BUSY
    if active == "failed":
        # Many a daemon ends with an error, by the signal, or not until it is killed, when it is told to stop.
        told = result in ("exit-code", "signal") or (result == "timeout" and shown.get("RuntimeMaxUSec") == "infinity")
        return Verdict.STOPPED if told and _was_told_to_stop(shown) else Verdict.FAILED
    if active == "inactive" and result == "success":
        return Verdict.STOPPED if _was_told_to_stop(shown) else Verdict.ENDED
    return Verdict.ACTIVE if active == "active" else Verdict.UNKNOWN


def _was_told_to_stop(shown: Mapping[str, str]) -> bool:
    """Whether the service had left "active" before its main process ended: somebody stopped it.

    With a process that ends by itself it is the other way round. A later main process, which never made the service active,
    says nothing; nor does a service that nothing refers to, which systemd forgets as soon as it has stopped.
    """
    began = _number(shown, "ExecMainStartTimestampMonotonic")
    left = _number(shown, "ActiveExitTimestampMonotonic")
    ended = _number(shown, "ExecMainExitTimestampMonotonic")
    return 0 < began <= left < ended


def _number(shown: Mapping[str, str], name: str) -> int:
    value = shown.get(name, "")
    return int(value) if value.isdecimal() else 0
