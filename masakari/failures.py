"""What a report means (pure): the table of event numbers that monitors have sent since 2015."""

from __future__ import annotations

from dataclasses import dataclass

from masakari.common.notification import Notification

HOST, INSTANCE, PROCESS, SIGN_OF_LIFE, IGNORED = "host", "instance", "process", "sign_of_life", "ignored"

TEST = "test"
"""The type of a report that says of itself that nothing is to be done about it."""

RECOVER_BY = {"rscGroup": 0, "VM": 1, "nodeStatus": 2}
"""The 2015 recover_by number of each type of report."""

TABLE = {
    # (type, eventID, eventType, detail): (kind, reason)
    ("rscGroup", "1", "2", "2"): (HOST, "host is down"),
    ("rscGroup", "1", "2", "3"): (HOST, "host is down, but its power is still on"),
    ("rscGroup", "1", "2", "4"): (HOST, "host is down, its power state is unknown"),
    ("rscGroup", "1", "1", "1"): (SIGN_OF_LIFE, "host is up"),
    ("VM", "0", "5", "5"): (INSTANCE, "QEMU process died"),
    ("VM", "0", "5", "2"): (INSTANCE, "guest crashed"),
    ("VM", "0", "5", "1"): (IGNORED, "instance was destroyed through the API"),
}

RUNNING = ("running", "paused", "blocked", "pmsuspended")
"""States of a libvirt domain that has a guest in it."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The meaning of a report. `recover_by`: the 2015 number, None for an unknown type."""

    kind: str
    recover_by: int | None
    reason: str


def classify(notification: Notification) -> Failure:
    """Say what a report means; never fails. Whether something is done about it is decided elsewhere.

    A process failure carries its own wishes: `notification.state` "up" says that the process runs again, and
    `notification.on_failure` "report" that nothing is to be disabled.
    """
    recover_by = RECOVER_BY.get(notification.type)
    if notification.type == "nodeStatus":
        return Failure(PROCESS, recover_by, _process_reason(notification))
    if notification.type == TEST:
        return Failure(IGNORED, recover_by, "a test of masakari-doctor: nothing is done")
    numbers = (notification.event_id, notification.event_type, notification.detail)
    kind, reason = TABLE.get((notification.type, *numbers), (IGNORED, _unknown(notification.type, numbers)))
    if kind == INSTANCE and notification.libvirt_state in RUNNING:
        kind, reason = IGNORED, f"{reason}, but libvirt says by now that it is {notification.libvirt_state}"
    return Failure(kind, recover_by, _with_remark(reason, notification))


def _with_remark(reason: str, notification: Notification) -> str:
    """The monitor's own words go along, unless they only say the same."""
    remark = notification.reason
    if reason in remark:
        return remark
    return f"{reason} ({remark})" if remark else reason


def _process_reason(notification: Notification) -> str:
    name = f"process {notification.process}" if notification.process else "a process"
    what = "runs again" if notification.state == "up" else "could not be restarted"
    return _with_remark(f"{name} {what}", notification)


def _unknown(kind: str, numbers: tuple[str, ...]) -> str:
    if kind not in RECOVER_BY:
        return f"type {kind[:64]!r} is not known"
    return f"{kind} event {'/'.join(number[:16] for number in numbers)} is no failure"
