"""What the operator's scripts have in common: options, the database, the form of the answer, and the exit status."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from masakari import __version__, config_openstack
from masakari.admin import Answer, Operator, Refused
from masakari.admin_text import jsonable
from masakari.common.clock import Clock
from masakari.common.config import Reading
from masakari.common.errors import ConfigError, MasakariError, Unavailable
from masakari.config import DEFAULT_PATH, SECTIONS, Db, Safety, Settings, VmhaDataManage
from masakari.database import open_database

PASSWORD_VARIABLE = "MASAKARI_DB_PASSWORD"
USED = ("db", "safety", "vmha_data_manage")
"""The sections that the scripts read; what is wrong with others is none of their business."""

DONE, FAILED, USAGE = 0, 1, 2


def parser(description: str, examples: str) -> argparse.ArgumentParser:
    """A parser with the options that all scripts have."""
    made = argparse.ArgumentParser(
        description=description,
        epilog=f"{examples.strip()}\n\nExit status: 0 done, 1 failed, 2 usage.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=f"masakari {__version__}")
    common_options(made)
    return made


def common_options(parser: argparse.ArgumentParser, *, again: bool = False) -> None:
    """--config, --db-* and --json. `again`: for the parser of a subcommand, where they may stand as well."""
    absent: Any = argparse.SUPPRESS if again else None
    group = parser.add_argument_group("where the database is")
    group.add_argument(
        "--config",
        metavar="FILE",
        default=argparse.SUPPRESS if again else DEFAULT_PATH,
        help=f"settings of the controller (default {DEFAULT_PATH}); not needed when --db-user and the others say it all",
    )
    group.add_argument("--db-user", metavar="USER", default=absent, help="MariaDB or MySQL user, instead of the file's")
    group.add_argument(
        "--db-password",
        metavar="PASSWORD",
        default=absent,
        help="its password. Everybody on this machine can read a command line: rather leave it to the file, or to the "
        f"environment variable {PASSWORD_VARIABLE}",
    )
    group.add_argument("--db-host", metavar="HOST", default=absent, help="the database server, instead of the file's")
    parser.add_argument(
        "--json",
        action="store_true",
        default=argparse.SUPPRESS if again else False,
        help="answer in JSON, times in UTC",
    )


def host_name(text: str) -> str:
    """An argument that names a host."""
    return _matching(text, r"[A-Za-z0-9._-]{1,255}", "a host name")


def segment(text: str) -> str:
    """An argument that names a failover segment."""
    return _matching(text, r"\S{1,255}", "an address and port like 226.94.1.1:5405")


def instance_id(text: str) -> str:
    """An argument that names an instance."""
    return _matching(text, r"[0-9A-Za-z-]{1,64}", "the id of an instance")


def many(text: str) -> int:
    """An argument that counts."""
    return int(_matching(text, r"[1-9][0-9]{0,8}", "a number of 1 or more"))


def _matching(text: str, pattern: str, expected: str) -> str:
    if not re.fullmatch(pattern, text):
        raise argparse.ArgumentTypeError(f"must be {expected}, not {text!r}")
    return text


def need(parser: argparse.ArgumentParser, arguments: argparse.Namespace, *names: str) -> None:
    """End with the usage, status 2, unless all of these options were given."""
    missing = [f"--{name.replace('_', '-')}" for name in names if getattr(arguments, name) is None]
    if missing:
        parser.error(f"--mode {arguments.mode} needs {' and '.join(missing)}")


def run(arguments: argparse.Namespace, command: Callable[[Operator], Answer]) -> int:
    """Carry out a command and print its answer; the exit status. Errors go to standard error, a sentence each."""
    try:
        with connected(arguments) as operator:
            answer = command(operator)
        print(json.dumps(jsonable(answer.data), indent=2) if arguments.json else answer.text, flush=True)
    except ConfigError as error:
        return _failed(*error.problems)
    except Refused as error:
        return _failed(str(error))
    except Unavailable as error:
        return _failed(f"the database can't be used now: {error}")
    except MasakariError as error:
        return _failed(f"{error}; nothing was changed")
    except BrokenPipeError:
        # Whoever read our output has gone; Python must not try to write the rest when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return DONE


def _failed(*sentences: str) -> int:
    for sentence in sentences:
        print(f"{os.path.basename(sys.argv[0])}: {sentence}", file=sys.stderr)
    return FAILED


@contextlib.contextmanager
def connected(arguments: argparse.Namespace) -> Iterator[Operator]:
    """The operator on the database that the arguments and the settings name. Raises ConfigError and Unavailable."""
    settings = read_settings(arguments)
    if settings.db.drivername == "sqlite" and not os.path.exists(settings.db.name):
        raise ConfigError([f"there is no database {settings.db.name}: the controller makes it when it starts first"])
    db = open_database(settings.db, Clock())
    try:
        db.check_version()
        yield Operator(db, settings, login_name())
    finally:
        db.close()


def read_settings(arguments: argparse.Namespace) -> Settings:
    """The settings that scripts use, with --db-* in the place of the file's. Raises ConfigError."""
    given = {
        field: value
        for field, value in (
            ("user", arguments.db_user),
            ("passwd", arguments.db_password),
            ("host", arguments.db_host),
        )
        if value is not None
    }
    if given and not os.access(arguments.config, os.R_OK):
        settings = Settings(db=Db(drivername="mysql"))
    else:
        settings = _load(arguments.config)
    db = settings.db
    if given and db.drivername == "sqlite":
        db = Db(drivername="mysql")
    password = os.environ.get(PASSWORD_VARIABLE)
    if db.drivername == "mysql" and password:
        given.setdefault("passwd", password)
    if given:
        db = replace(db, **given)
    if db.drivername == "mysql" and not db.user:
        raise ConfigError([f"which database user? Give --db-user, or set [db] user in {arguments.config}"])
    return replace(settings, db=db)


def _load(path: str) -> Settings:
    """The sections of the file that matter here."""
    ini = config_openstack.translated(path).ini
    for name in [name for name in ini.section_lines if name not in USED]:
        del ini.section_lines[name], ini.sections[name]
    reading = Reading(ini, {name: SECTIONS[name] for name in USED})
    reading.finish()
    sections = reading.sections
    db, safety, old = sections["db"], sections["safety"], sections["vmha_data_manage"]
    assert isinstance(db, Db) and isinstance(safety, Safety) and isinstance(old, VmhaDataManage)
    return Settings(db=db, safety=safety, vmha_data_manage=old)


def login_name() -> str:
    """Who gives the orders, for the journal; behind sudo, who called it."""
    name = os.environ.get("SUDO_USER")
    if not name:
        try:
            name = getpass.getuser()
        except (KeyError, OSError):
            name = f"uid {os.getuid()}"
    return name[:64]


def confirmed(question: str, yes: bool) -> bool:
    """Whether an operator stands by what can do harm: --yes, or the word `yes` typed at a terminal."""
    if yes:
        return True
    if not sys.stdin.isatty():
        return False
    print(question, file=sys.stderr)
    print("Type yes to go on: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip() == "yes"
