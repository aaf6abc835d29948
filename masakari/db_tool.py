"""masakari-db: makes, upgrades and checks the database on a MariaDB or MySQL server, with no secret on a command line."""

from __future__ import annotations

import argparse
import getpass
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from masakari import __version__, admin_cli, checkup_database
from masakari.checkup import of_rights
from masakari.common import checkup
from masakari.common.checkup import Outcome, not_ok, ok
from masakari.common.errors import ConfigError, MasakariError
from masakari.common.ini import Ini
from masakari.common.text import count
from masakari.config import DEFAULT_PATH, Db
from masakari.database import SCHEMA_VERSION
from masakari.database_admin import Admin, NoEntry, Refused, own_hosts, own_rights
from masakari.database_setup import (
    RIGHTS,
    Login,
    Right,
    Tables,
    by_place,
    in_words,
    login,
    statements,
    surplus,
    within,
)
from masakari.manage import sync
from masakari.queries import sql_folder

NAME = "masakari-db"
USUAL_SOCKET = "/run/mysqld/mysqld.sock"
CLOSED = "from before the upgrade"

EPILOG = f"""examples, after host, user and passwd were set in [db] of {DEFAULT_PATH}:
  masakari-db create                  (as root on the machine of the database and the controller: no password is asked)
  masakari-db create --from 192.0.2.20 --from 192.0.2.21
                                      (on the machine of the database, for controllers on other machines)
  masakari-db create --admin-file /root/.my.cnf
                                      (from a controller, or where the administrator has a password)
  masakari-db upgrade                 (controllers stopped, backup taken: from 2015, or from an earlier release)
  masakari-db check                   (any time, on a controller: does its account work, and may it no more than it needs?)

Who the administrator is: root, by the socket of the server on this machine, when [db] host is this machine; otherwise root on
[db] host, whose password is asked for at a terminal. --admin-file names a file (mode 0600) in the form of MySQL's own:
  [client]
  user = root
  password = ...
  host = 192.0.2.10                   (or socket = ...; without both: as [db] says)
If [db] host is an address of this very machine, or one in front of it, name its server's socket: --socket {USUAL_SOCKET}

create makes what is missing and can be run again; an account that is there gets the password of [db] and loses all other rights
on the database. upgrade can be run again after an interruption. Neither is for SQLite, which the controller makes and upgrades by
itself: there both do the same as `masakari-manage db sync`.

Exit status: 0 done, or all is well; 1 not, and why; 2 usage."""


class NotDone(MasakariError):
    """What was asked for doesn't fit what is there, or the server refused it."""


def main(argv: list[str] | None = None) -> int:
    """The command line; the exit status. What is wrong is told on standard error."""
    arguments = make_parser().parse_args(argv)
    try:
        db = admin_cli.read_settings(arguments).db
        return arguments.run(arguments, db) if db.drivername == "mysql" else _sqlite(arguments, db)
    except ConfigError as error:
        return _failed(*error.problems)
    except (MasakariError, OSError) as error:
        return _failed(str(error))
    except KeyboardInterrupt:
        return _failed("interrupted. What was done stays; run it again to go on")


def make_parser() -> argparse.ArgumentParser:
    """The words of masakari-db."""
    parser = argparse.ArgumentParser(
        prog=NAME,
        description="Makes, upgrades and checks the controller's database on a MariaDB or MySQL server.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"masakari {__version__}")
    parser.add_argument("--config", default=DEFAULT_PATH, metavar="FILE", help=f"settings (default {DEFAULT_PATH})")
    parser.set_defaults(db_user=None, db_password=None, db_host=None, admin_file="", socket="", hosts=[])
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    creating = _verb(verbs, "create", create, "make the database, its tables and the controller's account")
    creating.add_argument(
        "--from",
        dest="hosts",
        action="append",
        type=_account_host,
        metavar="HOST",
        help="where the account may come from, as the server sees it; may be repeated (default: the address of this machine from "
        "which it reaches [db] host; localhost, too, if both are one machine)",
    )
    upgrading = _verb(verbs, "upgrade", upgrade, "bring the tables of an earlier release, or of 2015, up to date")
    for administering in (creating, upgrading):
        administering.add_argument("--admin-file", default="", metavar="FILE", help="account of the administrator")
        administering.add_argument("--socket", default="", metavar="FILE", help="socket of the server on this machine")
    _verb(verbs, "check", check, "look whether the controller's account works, and what it may; changes nothing")
    return parser


Verb = Callable[[argparse.Namespace, Db], int]


def _verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], name: str, run: Verb, help: str
) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = verbs.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
    made.set_defaults(run=run, verb=name)
    return made


def _account_host(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._:%/-]{1,255}", text):
        raise argparse.ArgumentTypeError(f"must be a host, an address or a pattern like 192.0.2.%, not {text!r}")
    return text.lower()


def create(arguments: argparse.Namespace, db: Db) -> int:
    """Make the database, its tables and the account of the settings, as far as they are missing."""
    if not db.passwd:
        raise NotDone(
            f"[db] passwd in {arguments.config} is empty. Write a password there first, the same on every "
            "controller (openssl rand -hex 24 makes one)"
        )
    with _administrator(arguments, db) as admin:
        if db.user in ("root", admin.login.user):
            raise NotDone(f"[db] user is {db.user}, an administrator: give the controller an account of its own")
        hosts = arguments.hosts or own_hosts(db)
        _make_tables(admin, db)
        others = [right for host in hosts for right in _make_account(admin, arguments, db, host)]
    if others:
        return 1
    if arguments.hosts:
        print(f"Next, on each controller: {NAME} check")
        return 0
    return check(arguments, db)


def _make_tables(admin: Admin, db: Db) -> None:
    tables = admin.tables(db.name) or Tables(frozenset(), 0)
    _refuse_foreign(tables, db)
    if tables.of_2015 or 0 < tables.version < SCHEMA_VERSION:
        raise NotDone(
            f"{db.name} on {admin.login.where} has tables {_age(tables)}: stop the controllers, take a backup, then {NAME} "
            "upgrade. Nothing was changed"
        )
    if tables.version == SCHEMA_VERSION:
        print(f"  {count(len(tables.names), 'table')} of version {SCHEMA_VERSION} are there")
    else:
        _run_script(admin, db, tables)


def _make_account(admin: Admin, arguments: argparse.Namespace, db: Db, host: str) -> list[Right]:
    """Make the account, give it its password and its rights; the rights elsewhere that it has besides."""
    account = f"{db.user}@{host}"
    if admin.has_account(db.user, host):
        admin.set_password(db.user, host, db.passwd)
        print(f"  {account} was there; its password is now that of {arguments.config}")
    else:
        admin.make_account(db.user, host, db.passwd)
        print(f"  made the account {account}, with the password of {arguments.config}")
    rights = admin.rights(db.user, host)
    # First what it needs: a controller may be at work with it.
    granted = admin.grant(db.user, host, rights, db.name)
    print(f"  it {'was granted' if granted else 'has'} {', '.join(granted or RIGHTS)} on {db.name}.*")
    ours, others = within(surplus(rights, db.name), db.name)
    if ours:
        admin.revoke(db.user, host, ours)
        print(f"  took away from it what it does not need: {in_words(ours)}")
    if others:
        _failed(f"{account} {_other_rights(others, account)}")
    return others


def upgrade(arguments: argparse.Namespace, db: Db) -> int:
    """Bring the tables up to date."""
    with _administrator(arguments, db) as admin:
        tables = admin.tables(db.name)
        if not tables or not tables.names:
            raise NotDone(f"there are no tables in {db.name} on {admin.login.where}: {NAME} create makes them")
        _refuse_foreign(tables, db)
        if tables.version == SCHEMA_VERSION:
            print(f"  its tables are of version {SCHEMA_VERSION}, those of this release: nothing to do")
            return 0
        connected = admin.connected(db.user, db.name)
        if connected:
            raise NotDone(
                f"{db.user} is connected to {db.name} from {', '.join(connected)}: stop the controllers there first (systemctl "
                "stop masakari-controller), and what else uses that account. Nothing was changed"
            )
        print(f"  its tables are {_age(tables)}; this release has version {SCHEMA_VERSION}")
        _run_script(admin, db, tables)
        rows = admin.rows(db.name)
    print(f"  rows: {', '.join(f'{many} in {table}' for table, many in rows.items())}")
    if tables.of_2015:
        print(
            f"What 2015 left open was closed, not resumed: its reason begins with {CLOSED!r}. Look at those instances."
        )
    print(f"Next: {NAME} check, and start the controllers")
    return 0


def check(arguments: argparse.Namespace, db: Db) -> int:
    """Look as the controller: whether it comes in, finds its tables, and may what it needs, and no more."""
    rows = list(checkup.run([("database", lambda: [_version(db)])], checkup.to_stderr))
    if db.drivername == "mysql" and not checkup.status(rows):
        rights: list[checkup.Check] = [
            ("rights", lambda: [of_rights(checkup_database.missing_rights(db), db.name, db.user)]),
            ("other rights", lambda: [_nothing_else(db)]),
        ]
        rows += checkup.run(rights, checkup.to_stderr)
    print(checkup.as_table(rows))
    return checkup.status(rows)


def _version(db: Db) -> Outcome:
    checkup_database.check_version(db)
    where = "" if db.drivername == "sqlite" else f" on {db.unix_socket or f'{db.host}:{db.port}'}"
    return ok("database", f"{db.name}{where}: its tables are of version {SCHEMA_VERSION}, those of this release")


def _nothing_else(db: Db) -> Outcome:
    subject = "other rights"
    account, rights, role = own_rights(db)
    more = surplus(rights, db.name)
    if more:
        _, others = within(more, db.name)
        host = account.rpartition("@")[2]
        advice = _revoking(more, account) if others else f"{NAME} create --from {host} takes them away"
        return not_ok(subject, f"{account} has rights that it does not need: {in_words(more)}", advice)
    if role:
        return not_ok(subject, f"{account} has those of the role {role}, too", f"REVOKE {role} FROM {_quoted(account)}")
    return ok(subject, f"{account} has none")


def _sqlite(arguments: argparse.Namespace, db: Db) -> int:
    if arguments.hosts or arguments.admin_file or arguments.socket:
        raise NotDone(
            f"[db] of {arguments.config} names no server, so {db.name} is SQLite, without accounts: set host there"
        )
    if arguments.verb == "check":
        return check(arguments, db)
    print(
        f"{sync(db)}. It is SQLite, as [db] of {arguments.config} names no server; the controller sees to it by itself"
    )
    return 0


# The administrator


@contextmanager
def _administrator(arguments: argparse.Namespace, db: Db) -> Iterator[Admin]:
    """A connection of the administrator. NotDone when the server lets nobody in, or refuses a statement."""
    admin = _enter(_login(arguments, db), db, bool(arguments.admin_file))
    try:
        if admin.login.guessed and admin.port() != db.port:
            raise NotDone(
                f"the server behind {admin.login.where} listens on port {admin.port()}, and [db] port is {db.port}: name the right "
                "one with --socket, or the account of its administrator with --admin-file"
            )
        print(f"{db.name} on {admin.login.where}, as {admin.user()}:", flush=True)
        yield admin
    except Refused as error:
        advice = ". Go in as an administrator who may: --admin-file" if error.not_allowed else ""
        raise NotDone(f"{admin.login.where}: {error}{advice}") from error
    finally:
        admin.close()


def _login(arguments: argparse.Namespace, db: Db) -> Login:
    file = _option_file(arguments.admin_file) if arguments.admin_file else {}
    try:
        return login(db, file, arguments.socket, USUAL_SOCKET if os.path.exists(USUAL_SOCKET) else "")
    except ValueError as error:
        raise NotDone(f"{arguments.admin_file}: [client] port is no number") from error


def _option_file(path: str) -> dict[str, str]:
    """[client] of a file in the form of MySQL. What else may be in such a file is none of our business."""
    client = Ini(path).sections.get("client")
    if client is None:
        raise NotDone(f"{path} has no section [client] (its form: {NAME} --help)")
    if "password" in client and os.stat(path).st_mode & stat.S_IROTH:
        raise NotDone(f"everybody can read the password in {path}: chmod 600 {path}")
    return {option: entry.value for option, entry in client.items()}


def _enter(way: Login, db: Db, from_file: bool) -> Admin:
    try:
        return Admin(way, db.connect_timeout_s)
    except NoEntry as error:
        if way.password or not sys.stdin.isatty():
            raise NotDone(_no_entry(way, error, from_file)) from error
    password = getpass.getpass(f"Password of {way.user} on {way.where}: ")
    try:
        return Admin(replace(way, password=password), db.connect_timeout_s)
    except NoEntry as error:
        raise NotDone(_no_entry(way, error, from_file)) from error


def _no_entry(way: Login, error: NoEntry, from_file: bool) -> str:
    told = f"the server on {way.where} doesn't let the administrator in: {error}"
    if from_file:
        return f"{told}. Is that account right, and may it come from here? Its password is in the file of --admin-file"
    if way.socket:
        return f"{told}. Run this as root (sudo), or name an administrator's account: --admin-file FILE ({NAME} --help)"
    return (
        f"{told}. Name an account that may come from here: --admin-file FILE ({NAME} --help); or run this on the machine of the "
        f"database with --socket {USUAL_SOCKET}"
    )


def _run_script(admin: Admin, db: Db, before: Tables) -> None:
    """Run the script that makes and upgrades the tables, and tell what it does."""
    script = (sql_folder() / "create_vmha_database.sql").read_text(encoding="utf-8")
    what = ""
    changed: list[str] = []
    filled: set[str] = set()
    try:
        for what, rows in admin.run_script(statements(script, db.name)):
            found = re.match(r"(ALTER TABLE|UPDATE) (\w+)", what)
            if found and found[1] == "ALTER TABLE" and found[2] not in changed:
                # At once, as it takes long with many rows.
                print(f"  changing the columns and keys of {found[2]}", flush=True)
                changed.append(found[2])
            elif found and found[1] == "UPDATE" and rows:
                filled.add(found[2])
    except Refused as error:
        if error.not_allowed:
            raise
        told = " ".join(what.split()[:3])
        raise NotDone(
            f"{admin.login.where} stopped at {told}: {error}. What was done stays, and no row is lost. Put that right, and run "
            "this again: it goes on there"
        ) from error
    after = admin.tables(db.name)
    assert after is not None and after.version == SCHEMA_VERSION, "the script makes what this release needs"
    if filled:
        print(f"  filled in new columns, or closed what was open, in {', '.join(sorted(filled))}")
    made = sorted(after.names - before.names)
    if made:
        print(f"  made {count(len(made), 'table')}: {', '.join(made)}")
    print(f"  the tables are of version {after.version} now")


def _refuse_foreign(tables: Tables, db: Db) -> None:
    if tables.foreign:
        some = ", ".join(sorted(tables.names)[:3])
        raise NotDone(f"{db.name} is the database of another program, with {some}: set another [db] name")
    if tables.version > SCHEMA_VERSION:
        raise NotDone(
            f"{db.name} is of a newer Masakari: its tables have version {tables.version}, this release knows {SCHEMA_VERSION}"
        )


def _age(tables: Tables) -> str:
    if tables.version:
        return f"of version {tables.version}"
    return "of 2015" if tables.of_2015 else "half made or half upgraded"


def _other_rights(rights: list[Right], account: str) -> str:
    return (
        f"has rights elsewhere that it does not need: {in_words(rights)}. They are left alone, as another program may need them. "
        f"If none does, as the database's administrator: {_revoking(rights, account)}"
    )


def _revoking(rights: list[Right], account: str) -> str:
    return "; ".join(f"REVOKE {whats} ON {on} FROM {_quoted(account)}" for whats, on in by_place(rights))


def _quoted(account: str) -> str:
    user, _, host = account.rpartition("@")
    return f"'{user}'@'{host}'"


def _failed(*sentences: str) -> int:
    for sentence in sentences:
        print(f"{NAME}: {sentence}", file=sys.stderr)
    return 1
