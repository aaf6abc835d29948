"""What masakari-instancemonitor --check-config --online looks at: libvirt, on the way that the monitor itself goes."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator

from instancemonitor.config import Settings
from instancemonitor.model import Lost, Message, Snapshot
from masakari.common.checkup import Check, Outcome, not_ok, ok, warning
from masakari.common.clock import Clock
from masakari.common.text import count

WITHIN_S = 20.0
STOP_WITHIN_S = 3.0


def checks(settings: Settings, uri: str, clock: Clock) -> list[Check]:
    """All of them; uri: of libvirt."""
    return [
        ("libvirt", lambda: of_libvirt(uri, look(uri, clock), settings.libvirt.all_domains)),
        ("logs of QEMU", lambda: [of_log_dir(settings.libvirt.log_dir)]),
    ]


def look(uri: str, clock: Clock) -> Snapshot | str:
    """All domains, once events are registered; or why not, within WITHIN_S. Changes nothing."""
    try:
        from instancemonitor.libvirt_link import LibvirtLink
    except ModuleNotFoundError as error:
        if error.name not in ("libvirt", "libvirtmod"):
            raise
        return "Python's libvirt module is missing: apt-get install python3-libvirt"
    inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
    link = LibvirtLink(uri, inbox, clock, open_within_s=WITHIN_S / 2)
    stopping = threading.Event()
    threads = [threading.Thread(target=body, args=(stopping,), daemon=True) for body in (link.run_events, link.run)]
    for thread in threads:
        thread.start()
    try:
        return _first(inbox, clock)
    finally:
        stopping.set()
        link.wake()
        for thread in threads:
            thread.join(STOP_WITHIN_S)


def _first(inbox: queue.SimpleQueue[Message], clock: Clock) -> Snapshot | str:
    """What the link finds out first: all domains, or why it has no connection."""
    deadline = clock.monotonic() + WITHIN_S
    while (left_s := deadline - clock.monotonic()) > 0:
        try:
            message = inbox.get(timeout=left_s)
        except queue.Empty:
            break
        if isinstance(message, Lost):
            return message.why
        if isinstance(message, Snapshot):
            return message
    return f"no answer within {WITHIN_S:g} s: libvirtd hangs"


def of_libvirt(uri: str, found: Snapshot | str, all_domains: bool) -> Iterator[Outcome]:
    """Whether failures of instances would be seen."""
    if isinstance(found, str):
        advice = "systemctl status libvirtd (or virtqemud); run the monitor as root; see connection_uri in [libvirt]"
        yield not_ok("libvirt", f"{uri}: {found}", advice)
        return
    ours = [domain for domain in found.domains if domain.ours]
    yield ok("libvirt", f"{uri}: events registered, {count(len(found.domains), 'domain')}, {len(ours)} of them Nova's")
    if found.domains and not ours and not all_domains:
        told = "there are domains, but none was made by Nova: none is watched"
        yield warning(
            "libvirt", told, "nothing, if this host has no instances yet; else see connection_uri in [libvirt]"
        )


def of_log_dir(folder: str) -> Outcome:
    """Whether it can be told how a guest ended while nobody was looking."""
    if os.access(folder, os.R_OK | os.X_OK):
        return ok("logs of QEMU", f"{folder} can be read")
    told = f"{folder} can't be read: what ended while the monitor was down counts as crashed"
    return warning("logs of QEMU", told, "run it as root, or set log_dir in [libvirt]")
