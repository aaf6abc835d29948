#!/usr/bin/env python3
"""Keeps the list of spares (reserved hosts), to which the instances of a failed host are evacuated."""

from __future__ import annotations

import sys
from pathlib import Path

# Our own tree before anything else: distributions ship other packages named masakari.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from masakari import admin_cli, admin_spares

EXAMPLES = """
examples:
  reserve_host_manage.py --mode add --port 226.94.1.1:5405 --host compute9
  reserve_host_manage.py --mode list
  reserve_host_manage.py --mode update --port 226.94.1.1:5405 --before-host compute9 --after-host compute8
  reserve_host_manage.py --mode delete --port 226.94.1.1:5405 --host compute8

--port is the cluster_port of the failover segment, as its hostmonitors report it. A spare serves one recovery and
leaves the list for it; it comes back by itself if it served nobody.
"""


def main(argv: list[str] | None = None) -> int:
    """The command line; the exit status."""
    parser = admin_cli.parser(__doc__ or "", EXAMPLES)
    parser.add_argument("--mode", required=True, choices=("add", "list", "update", "delete"))
    parser.add_argument("--port", type=admin_cli.segment, metavar="PORT", help="the segment (its cluster_port)")
    parser.add_argument("--host", type=admin_cli.host_name, metavar="HOST", help="the spare to add or delete")
    parser.add_argument("--before-host", type=admin_cli.host_name, metavar="HOST", help="the spare to replace")
    parser.add_argument("--after-host", type=admin_cli.host_name, metavar="HOST", help="the host in its place")
    given = parser.parse_args(argv)
    if given.mode == "add":
        admin_cli.need(parser, given, "port", "host")
        return admin_cli.run(given, lambda operator: admin_spares.add_spare(operator, given.port, given.host))
    if given.mode == "delete":
        admin_cli.need(parser, given, "port", "host")
        return admin_cli.run(given, lambda operator: admin_spares.delete_spare(operator, given.port, given.host))
    if given.mode == "update":
        admin_cli.need(parser, given, "port", "before_host", "after_host")
        return admin_cli.run(
            given,
            lambda operator: admin_spares.rename_spare(operator, given.port, given.before_host, given.after_host),
        )
    return admin_cli.run(given, lambda operator: admin_spares.list_spares(operator, given.port))


if __name__ == "__main__":
    raise SystemExit(main())
