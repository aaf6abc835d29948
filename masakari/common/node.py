"""This host: its name, its boot, and whether it is being shut down."""

from __future__ import annotations

import os
import socket
import subprocess

BOOT_ID = "/proc/sys/kernel/random/boot_id"
SYSTEMD = "/run/systemd/system"
ASK_WITHIN_S = 5.0


def boot_id(path: str = BOOT_ID) -> str:
    """Names the present boot of this host; another one after each reboot."""
    with open(path, encoding="ascii") as file:
        return file.read().strip()


def hostname() -> str:
    """The name of this host, which is what Nova calls it unless nova.conf says otherwise."""
    return socket.gethostname()


def is_stopping() -> bool:
    """Whether the host is being shut down or rebooted. False where systemd does not run, or gives no answer."""
    if not os.path.isdir(SYSTEMD):
        return False
    try:
        asked = subprocess.run(
            ["systemctl", "is-system-running"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            timeout=ASK_WITHIN_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.stdout.strip() == "stopping"
