#!/usr/bin/env python3
"""Deletes reports and recoveries that ended longer ago than [vmha_data_manage] period, in days."""

from __future__ import annotations

import sys
from pathlib import Path

# Our own tree before anything else: distributions ship other packages named masakari.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from masakari import admin, admin_cli

EXAMPLES = """
examples:
  vmha_data_manage.py --mode delete

The controller does the same every hour. What is open, and what still keeps a host disabled, is never deleted.
"""


def main(argv: list[str] | None = None) -> int:
    """The command line; the exit status."""
    parser = admin_cli.parser(__doc__ or "", EXAMPLES)
    parser.add_argument("--mode", required=True, choices=("delete",))
    return admin_cli.run(parser.parse_args(argv), admin.delete_old)


if __name__ == "__main__":
    raise SystemExit(main())
