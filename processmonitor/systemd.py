"""Port to systemd: whether a service was stopped on purpose, sleeps, is being started, or has failed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence

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
    "InactiveExitTimestampMonotonic",
    "RuntimeMaxUSec",
    "TriggeredBy",
)


def ask(unit: str) -> Verdict:
    """What systemd says about a service one of whose processes has ended; UNKNOWN if it says nothing within 5 s."""
    if not unit or not os.path.isdir(RUNS):
        return Verdict.UNKNOWN
    try:
        shown = _show([unit])[0]
        verdict, sockets = judge(shown), sockets_of(shown)
        return judge_sockets(_show(sockets)) if verdict is Verdict.ENDED and sockets else verdict
    except (OSError, subprocess.TimeoutExpired):
        return Verdict.UNKNOWN


def _show(units: Sequence[str]) -> list[dict[str, str]]:
    """What systemctl shows of each of them."""
    shown = subprocess.run(
        ["systemctl", "show", "--property", ",".join(SHOWN), "--", *units],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
        errors="replace",
        timeout=ASK_WITHIN_S,
        check=False,
    ).stdout
    # An empty line stands between two units.
    return [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in shown.split("\n\n")]


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
    if active == "inactive":
        return Verdict.ENDED if result == "success" and _ended_by_itself(shown) else Verdict.STOPPED
    return Verdict.ACTIVE if active == "active" else Verdict.UNKNOWN


def sockets_of(shown: Mapping[str, str]) -> list[str]:
    """The socket units that start a service when they are used (pure)."""
    return [unit for unit in shown.get("TriggeredBy", "").split() if unit.endswith(".socket")]


def judge_sockets(sockets: Sequence[Mapping[str, str]]) -> Verdict:
    """The verdict on a service that ended in order, from the properties of its sockets (pure)."""
    states = [(socket.get("ActiveState"), socket.get("SubState")) for socket in sockets]
    if ("active", "listening") in states:
        return Verdict.SLEEPS
    if ("failed", "failed") in states:
        return Verdict.FAILED
    # One that was never open, as it is not enabled, is no sign of anything; one that was has been closed by somebody.
    return (
        Verdict.STOPPED if any(_number(socket, "ActiveExitTimestampMonotonic") for socket in sockets) else Verdict.ENDED
    )


def _was_told_to_stop(shown: Mapping[str, str]) -> bool:
    """Whether the service had left "active" before its main process ended: somebody stopped it.

    A later main process, which never made the service active, says nothing.
    """
    began, left, ended, _ = _moments(shown)
    return 0 < began <= left < ended


def _ended_by_itself(shown: Mapping[str, str]) -> bool:
    """Whether its main process ended before the service left "active", and nobody has begun to start it since.

    Where the moments don't tell, the answer is no: systemd forgets those of a service that nothing refers to (it is not
    enabled, for instance) as soon as it has stopped, and an operator's stop must never take the host out of Nova's scheduling.
    The same goes for a start, or systemd's own restart, that was called off.
    """
    began, left, ended, begun_again = _moments(shown)
    return 0 < began <= ended <= left and begun_again <= left


def _moments(shown: Mapping[str, str]) -> tuple[int, int, int, int]:
    names = ("ExecMainStart", "ActiveExit", "ExecMainExit", "InactiveExit")
    began, left, ended, begun_again = (_number(shown, f"{name}TimestampMonotonic") for name in names)
    return began, left, ended, begun_again


def _number(shown: Mapping[str, str], name: str) -> int:
    value = shown.get(name, "")
    return int(value) if value.isdecimal() else 0
