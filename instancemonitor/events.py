"""What an event of libvirt means (pure): a failure of the guest, somebody's wish, or only worth a line in the log.

One event alone does not always tell. What has to be remembered of the ones before it is in Context: who asked for the
shutdown, what a watchdog did just before, which disk had an error. A judgement says three things: what the domain is
from now on, which fault it was, if any, and the sentence for the log.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from instancemonitor.model import CONTROL_ERROR, IO_ERROR, LIFECYCLE, REBOOT, WATCHDOG, DomainEvent

DEBUG, INFO, WARNING = logging.DEBUG, logging.INFO, logging.WARNING

RUNNING, STOPPED, INCOMING = "running", "stopped", "incoming"
"""What a domain is. Incoming: its QEMU process waits for a guest that still runs on the host it comes from."""

FAULTS = {
    # kind: eventID, eventType and detail
    "process_crash": ("0", "5", "5"),
    "guest_crash": ("0", "5", "2"),
    "watchdog_poweroff": ("0", "5", "5"),
    "watchdog_pause": ("3", "1", "0"),
    "io_error_pause": ("4", "1", "0"),
    "destroyed": ("0", "5", "1"),
    "rebooted": ("1", "0", "0"),
    "control_error": ("7", "0", "0"),
}
"""The kinds of events that may be reported (model.KINDS), as the callback names them."""

WATCHDOG_BEFORE_S = 10.0
"""A watchdog that fired so long before a guest ended has ended it."""

ONE_REBOOT_S = 0.5
"""REBOOT again within this time is the same one: firmware resets once more when it begins."""

# Numbers of libvirt: virDomainEventType, and those details and actions that matter here.
_STARTED, _SUSPENDED, _RESUMED, _STOPPED, _SHUTDOWN, _CRASHED = 2, 3, 4, 5, 6, 8
_STOPPED_SHUTDOWN, _STOPPED_FAILED = 0, 5
_SHUTDOWN_BY_HOST = 2
_WATCHDOG_POWEROFF, _WATCHDOG_SHUTDOWN = 3, 4
_NO_REASON = "libvirt gives no reason"


@dataclass(frozen=True, slots=True)
class Judgement:
    """`becomes`: RUNNING, STOPPED or INCOMING, "" for no change. `fault`: a key of FAULTS, "" for none.

    `text` is the sentence for the log, "" when the event is not worth one; `level` is that of logging.
    """

    becomes: str = ""
    text: str = ""
    level: int = DEBUG
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Context:
    """What earlier events of the same run of a domain have told. Times are Unix seconds."""

    shutdown: int = -1
    watchdog: int = -1
    watchdog_at: float = 0.0
    io_error: str = ""
    rebooted_at: float = 0.0


_TABLE = {
    (_STARTED, 0): Judgement(RUNNING, "started", INFO),
    (_STARTED, 1): Judgement(INCOMING, "its guest is being moved to this host", INFO),
    (_STARTED, 2): Judgement(RUNNING, "started from its saved state", INFO),
    (_STARTED, 3): Judgement(RUNNING, "started from a snapshot", INFO),
    (_SUSPENDED, 0): Judgement("", "paused", INFO),
    (_SUSPENDED, 1): Judgement("", "paused for its move to another host", INFO),
    (_SUSPENDED, 3): Judgement("", "paused by its watchdog: it stays so until resumed", WARNING, "watchdog_pause"),
    (_SUSPENDED, 6): Judgement("", "paused because a call of libvirt failed: see the log of libvirtd", WARNING),
    (_SUSPENDED, 8): Judgement("", "paused because its post-copy move failed: it needs a look", WARNING),
    (_RESUMED, 0): Judgement(RUNNING, "resumed"),
    (_RESUMED, 1): Judgement(RUNNING, "resumed: its guest has moved to this host", INFO),
    (_STOPPED, 1): Judgement(STOPPED, "destroyed through libvirt", INFO, "destroyed"),
    (_STOPPED, 2): Judgement(STOPPED, "its guest crashed", WARNING, "guest_crash"),
    (_STOPPED, 3): Judgement(STOPPED, "its guest has moved to another host", INFO),
    (_STOPPED, 4): Judgement(STOPPED, "its state was saved and it was stopped", INFO),
    (_STOPPED, 6): Judgement(STOPPED, "stopped by going back to a snapshot", INFO),
    (_CRASHED, 0): Judgement("", "its guest panicked: what follows is decided by on_crash of the domain", WARNING),
    (_CRASHED, 1): Judgement("", "its guest panicked and loads its crash kernel", WARNING),
}
"""Lifecycle events whose meaning does not depend on what came before: (event, detail)."""

_WATCHDOG_DID = {
    0: "did nothing",
    1: "pauses it",
    2: "resets it",
    3: "powers it off",
    4: "shuts it down",
    5: "did nothing but report it",
    6: "sends it an NMI",
}


def judge(event: DomainEvent, before: Context, state: str) -> Judgement:
    """What the event means, after the events that `before` remembers; `state`: what the domain was, "" if unknown."""
    if event.kind == LIFECYCLE:
        return _lifecycle(event, before, state)
    if event.kind == REBOOT:
        again = 0 <= event.at - before.rebooted_at < ONE_REBOOT_S
        return Judgement() if again else Judgement("", "its guest rebooted", INFO, "rebooted")
    if event.kind == WATCHDOG:
        did = _WATCHDOG_DID.get(event.detail, f"takes action {event.detail}")
        return Judgement("", f"its watchdog fired and {did}", WARNING)
    if event.kind == IO_ERROR:
        # A bad disk gives one for each request; one line per reason is enough.
        return (
            Judgement() if remember(event, before) == before else Judgement("", f"I/O error{_of(event.text)}", WARNING)
        )
    assert event.kind == CONTROL_ERROR, event.kind
    return Judgement("", "libvirt lost touch with its QEMU process for a moment", INFO, "control_error")


def remember(event: DomainEvent, before: Context) -> Context:
    """What to know when the next event of this domain is judged. The end of a run ends all that was remembered."""
    if event.kind == LIFECYCLE and event.event == _STOPPED:
        return Context()
    if event.kind == LIFECYCLE and event.event == _RESUMED:
        return replace(before, io_error="")
    if event.kind == LIFECYCLE and event.event == _SHUTDOWN:
        return replace(before, shutdown=event.detail)
    if event.kind == WATCHDOG:
        return replace(before, watchdog=event.detail, watchdog_at=event.at)
    if event.kind == IO_ERROR:
        return replace(before, io_error=event.text or before.io_error or _NO_REASON)
    if event.kind == REBOOT:
        return replace(before, rebooted_at=event.at)
    return before


def _lifecycle(event: DomainEvent, before: Context, state: str) -> Judgement:
    if event.event == _STOPPED and event.detail in (_STOPPED_SHUTDOWN, _STOPPED_FAILED):
        return _shut_down(before) if event.detail == _STOPPED_SHUTDOWN else _failed(event, before, state)
    if (event.event, event.detail) == (_SUSPENDED, 2):
        text = f"paused after an I/O error{_of(before.io_error)}: it stays so until resumed"
        return Judgement("", text, WARNING, "io_error_pause")
    known = _TABLE.get((event.event, event.detail))
    if known:
        return known
    if event.event in (_STARTED, _RESUMED):
        return Judgement(RUNNING)
    if event.event == _STOPPED:
        return Judgement(STOPPED, f"stopped for a reason that is not known here (detail {event.detail})", WARNING)
    return Judgement()


def _shut_down(before: Context) -> Judgement:
    """A stop in order: by the guest, or by whoever told QEMU to quit."""
    if before.watchdog == _WATCHDOG_SHUTDOWN:
        return Judgement(STOPPED, "shut down by its watchdog", WARNING)
    if before.shutdown == _SHUTDOWN_BY_HOST:
        text = "its QEMU process was told to quit, not through libvirt: so it is when the host shuts down"
        return Judgement(STOPPED, text, WARNING)
    return Judgement(STOPPED, "shut down", INFO)


def _failed(event: DomainEvent, before: Context, state: str) -> Judgement:
    """The end without a word: a dead process, unless it was a watchdog, or the guest had not yet come."""
    if state == INCOMING:
        return Judgement(STOPPED, "its move to this host failed: it runs on where it was", INFO)
    if before.watchdog == _WATCHDOG_POWEROFF and 0 <= event.at - before.watchdog_at <= WATCHDOG_BEFORE_S:
        return Judgement(STOPPED, "powered off by its watchdog: the guest had hung", WARNING, "watchdog_poweroff")
    return Judgement(STOPPED, "its QEMU process died", WARNING, "process_crash")


def _of(text: str) -> str:
    return f" ({text})" if text else ""
