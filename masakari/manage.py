"""masakari-manage, the command that guides of OpenStack call: `db sync` brings the database up to date."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from masakari import __version__, admin_cli
from masakari.common.clock import Clock
from masakari.common.errors import ConfigError, MasakariError
from masakari.config import DEFAULT_PATH, Db
from masakari.database import open_database

NAME = "masakari-manage"
EPILOG = """examples:
  masakari-manage db sync

With SQLite the file is made, or its tables are upgraded; it belongs to the owner of its folder. The controller does the same
when it starts. With MariaDB the tables are only looked at, with the rights of the controller: masakari-db makes and upgrades
them, as the database's administrator.

Exit status: 0 up to date, 1 not, and what to do, 2 usage."""


def main(argv: list[str] | None = None) -> int:
    """The command line; the exit status. What is wrong is told on standard error."""
    arguments = make_parser().parse_args(argv)
    try:
        print(sync(admin_cli.read_settings(arguments).db))
    except ConfigError as error:
        return _failed(*error.problems)
    except (MasakariError, OSError) as error:
        return _failed(str(error))
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The words of masakari-manage."""
    parser = argparse.ArgumentParser(
        prog=NAME,
        description="Brings the database of the controller up to date.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"masakari {__version__}")
    parser.add_argument("--config", default=DEFAULT_PATH, metavar="FILE", help=f"settings (default {DEFAULT_PATH})")
    parser.set_defaults(db_user=None, db_password=None, db_host=None)
    kinds = parser.add_subparsers(metavar="db", required=True)
    verbs = kinds.add_parser("db", help="the database").add_subparsers(metavar="sync", required=True)
    verbs.add_parser("sync", help="make or upgrade the tables, or say how")
    return parser


def sync(settings: Db) -> str:
    """Bring the tables up to date; a sentence for the operator. Raises what opening and checking the database do."""
    database = open_database(settings, Clock())
    try:
        database.check_version()
    finally:
        database.close()
    if settings.drivername != "sqlite":
        return f"the tables of {settings.name} on {settings.unix_socket or settings.host} are up to date"
    give_to_owner_of_folder(Path(settings.name))
    return f"{settings.name} is up to date"


def give_to_owner_of_folder(path: Path) -> None:
    """What root has made, the controller, which is not root, must be able to open."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _failed(*sentences: str) -> int:
    for sentence in sentences:
        print(f"{NAME}: {sentence}", file=sys.stderr)
    return 1
