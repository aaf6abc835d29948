"""Files that are there after a power cut: whole and new, or whole and old."""

from __future__ import annotations

import os
from contextlib import suppress

TEMPORARY = ".new-"


def write(path: str, data: bytes) -> None:
    """Replace a file, or make it (mode 0600). On return it is on the disk; OSError: it is as it was before."""
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f"{TEMPORARY}{name}")
    try:
        with open(temporary, "wb", opener=_private) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
    except OSError:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(folder)


def remove(path: str) -> None:
    """Remove a file for good; nothing happens when there is none. Raises OSError."""
    with suppress(FileNotFoundError):
        os.unlink(path)
        sync_folder(os.path.dirname(path))


def move(old: str, new: str) -> None:
    """Move a file to another folder of the same disk. Raises OSError."""
    os.rename(old, new)
    sync_folder(os.path.dirname(new))
    sync_folder(os.path.dirname(old))


def sync_folder(folder: str) -> None:
    """Put on the disk which files a folder has. Raises OSError."""
    descriptor = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
