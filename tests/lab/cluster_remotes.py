"""pacemaker-remoted, which Debian keeps in a package that conflicts with pacemaker's: taken out of it by `make cluster`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.lab.namespaces import ENVIRON

PROGRAM = "pacemaker-remoted"
UNPACKED = Path(__file__).resolve().parents[2] / "build/cluster" / PROGRAM


def find() -> str:
    """Path of pacemaker-remoted; empty when there is none."""
    installed = shutil.which(PROGRAM, path=ENVIRON["PATH"])
    return installed or (str(UNPACKED) if os.access(UNPACKED, os.X_OK) else "")
