"""QEMU's logs: how the last run of a domain ended. Port; decides nothing.

libvirt writes a line into the log of a domain when it starts QEMU and one when it notices that QEMU is gone:

    2026-11-21 04:07:50.452+0000: starting up libvirt version: 9.0.0, ...
    2026-11-21 04:07:51.116+0000: shutting down, reason=crashed

It does so after its own restart, too, for what ended while it was down; the time is then that of the restart.
"""

from __future__ import annotations

import os
import re
import stat
from datetime import datetime, timezone

from instancemonitor.ledger import End

DEFAULT_FOLDER = "/var/log/libvirt/qemu"
TAIL = 64 * 1024

_MARK = re.compile(
    rb"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3})\+0000: (?:starting up\b|shutting down, reason=([a-z ]{1,32})$)",
    re.MULTILINE,
)


class QemuLog:
    """The logs of all domains, in one folder."""

    def __init__(self, folder: str = DEFAULT_FOLDER) -> None:
        self._folder = folder

    def last_end(self, name: str) -> End | None:
        """How the domain of that name ended last; None when it was started since, or when its log does not tell.

        Never raises: a log that is missing or unreadable tells nothing.
        """
        if "/" in name or "\0" in name:
            return None
        try:
            tail = _tail(os.path.join(self._folder, name + ".log"))
        except OSError:
            return None
        marks = _MARK.findall(tail)
        if not marks or not marks[-1][1]:
            return None
        at, reason = (text.decode("ascii") for text in marks[-1])
        return _end(at, reason)


def _tail(path: str) -> bytes:
    # Neither a link nor a pipe: whoever can write to the folder must not choose what is read, or make it wait.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            return b""
        file.seek(max(0, about.st_size - TAIL))
        return file.read(TAIL)


def _end(at: str, reason: str) -> End | None:
    try:
        moment = datetime.strptime(at, "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    return End(moment.timestamp(), reason)
