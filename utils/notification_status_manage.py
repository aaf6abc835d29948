#!/usr/bin/env python3
"""Shows the reports (notifications) that came in, and what became of each."""

from __future__ import annotations

import sys
from pathlib import Path

# Our own tree before anything else: distributions ship other packages named masakari.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from masakari import admin_cli, admin_lists

EXAMPLES = """
examples:
  notification_status_manage.py --mode list
  notification_status_manage.py --mode list --last 200
  notification_status_manage.py --mode list --json

Shown are all reports that are pending or held, and the newest failed and other ones.
"""


def main(argv: list[str] | None = None) -> int:
    """The command line; the exit status."""
    parser = admin_cli.parser(__doc__ or "", EXAMPLES)
    parser.add_argument("--mode", required=True, choices=("list",))
    parser.add_argument("--last", type=admin_cli.many, default=50, metavar="N", help="how many newest ones (50)")
    given = parser.parse_args(argv)
    return admin_cli.run(given, lambda operator: admin_lists.list_reports(operator, given.last))


if __name__ == "__main__":
    raise SystemExit(main())
