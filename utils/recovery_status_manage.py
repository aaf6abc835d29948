#!/usr/bin/env python3
"""Shows the instances to recover, and calls failed ones finished on an operator's word."""

from __future__ import annotations

import sys
from pathlib import Path

# Our own tree before anything else: distributions ship other packages named masakari.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from masakari import admin, admin_cli, admin_lists

EXAMPLES = """
examples:
  recovery_status_manage.py --mode list
  recovery_status_manage.py --mode update --uuid 5d6a7c2e-0000-4000-8000-000000000001

list shows the recoveries that are open or failed, all instances in work, and the newest failed and other ones.
update is for an instance whose recovery failed and that you have seen to by hand: its failed rows become finished
(progress 2), with your name in the reason. Nothing is done to the instance, and its recovery is not tried again
(that is recovery_manage.py retry). It is refused while a recovery is at the instance.
"""


def main(argv: list[str] | None = None) -> int:
    """The command line; the exit status."""
    parser = admin_cli.parser(__doc__ or "", EXAMPLES)
    parser.add_argument("--mode", required=True, choices=("list", "update"))
    parser.add_argument("--uuid", type=admin_cli.instance_id, metavar="UUID", help="the instance to update")
    parser.add_argument("--last", type=admin_cli.many, default=50, metavar="N", help="how many newest ones (50)")
    given = parser.parse_args(argv)
    if given.mode == "update":
        admin_cli.need(parser, given, "uuid")
        return admin_cli.run(given, lambda operator: admin.declare_finished(operator, given.uuid))
    return admin_cli.run(given, lambda operator: admin_lists.list_instances(operator, given.last))


if __name__ == "__main__":
    raise SystemExit(main())
