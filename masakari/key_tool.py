"""masakari-keys: makes, exchanges and revokes the keys with which hosts sign their callbacks."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
from collections.abc import Callable, Mapping

from masakari import __version__, admin_cli, keys_file
from masakari.admin_text import jsonable, table
from masakari.common import durable
from masakari.common.clock import Clock
from masakari.common.config import Reading
from masakari.common.errors import ConfigError, MasakariError
from masakari.common.ini import Ini
from masakari.common.keys import Key, load_keys
from masakari.common.text import count, local, sql_time
from masakari.config import DEFAULT_PATH, Auth
from masakari.config_openstack import is_theirs
from masakari.database import Tx

NAME = "masakari-keys"
NODE_FILE = "/etc/masakari/key.conf"
SECRET_BYTES = 32
LONG_AGO = "2015-01-01 00:00:00"
CLOCKS_APART_S = 3600.0
"""A report is looked for from so long before its key was made: the clock of the database may be another one."""

EPILOG = f"""examples, on a controller:
  masakari-keys init                                            (once: the controller's own file)
  masakari-keys add compute1 --cluster-port 226.94.1.1:5405     (writes ./compute1.key.conf)
  scp compute1.key.conf root@compute1:{NODE_FILE} && rm compute1.key.conf
  systemctl reload masakari-controller

without a file in between:
  masakari-keys add compute2 --cluster-port 226.94.1.1:5405 --show |
      ssh root@compute2 'umask 077; cat > {NODE_FILE}'

a new key for a host, without a report refused:
  masakari-keys rotate compute1        (both keys count; says what to do next, step by step)
  masakari-keys finish compute1        (the old key counts no more)

cluster_port: what `masakari-hostmonitor --show-cluster` shows on the host. With several controllers the file is changed on one,
copied to the others, and all are reloaded.

Exit status: 0 done, 1 not, and why, 2 usage."""


class NotDone(MasakariError):
    """What was asked for doesn't fit what is there; nothing was changed."""


def main(argv: list[str] | None = None) -> int:
    """The command line; the exit status. What is wrong is told on standard error."""
    arguments = make_parser().parse_args(argv)
    try:
        arguments.run(arguments, _path(arguments.config))
    except ConfigError as error:
        return _failed(*error.problems)
    except (MasakariError, OSError) as error:
        return _failed(str(error))
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The words of masakari-keys."""
    parser = argparse.ArgumentParser(
        prog=NAME,
        description="Keeps the keys with which hosts sign their callbacks. No secret is shown unless asked for.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"masakari {__version__}")
    parser.add_argument(
        "--config",
        default=DEFAULT_PATH,
        metavar="FILE",
        help=f"settings of the controller, which name the file of keys (default {DEFAULT_PATH})",
    )
    # finish reads the database as the operator's scripts do.
    parser.set_defaults(db_user=None, db_password=None, db_host=None)
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    _verb(verbs, "init", init, "make the controller's file, if there is none")
    add_parser = _verb(verbs, "add", add, "make the key of a host, and the host's own file")
    add_parser.add_argument("host", type=admin_cli.host_name, metavar="HOST", help="the host as Nova calls it")
    add_parser.add_argument("--cluster-port", required=True, type=admin_cli.segment, metavar="PORT", help="its segment")
    listing = _verb(verbs, "list", list_keys, "show the keys, without their secrets")
    listing.add_argument("--json", action="store_true", help="answer in JSON, times in UTC")
    rotate_parser = _host_verb(verbs, "rotate", rotate, "make a second key of a host; both count until finish")
    for made in (add_parser, rotate_parser):
        where = made.add_mutually_exclusive_group()
        where.add_argument("--out", metavar="FILE", help="where to write the host's own file (default ./HOST.key.conf)")
        where.add_argument("--show", action="store_true", help="print the host's own file, with its secret, instead")
    ending = _host_verb(verbs, "finish", finish, "remove the old key of a host, once the new one is in use")
    ending.add_argument("--force", action="store_true", help="even if the new one was not seen in use")
    _host_verb(verbs, "revoke", revoke, "remove every key of a host")
    return parser


Run = Callable[[argparse.Namespace, str], None]


def _verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], name: str, run: Run, help: str
) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = verbs.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
    made.set_defaults(run=run)
    return made


def _host_verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], name: str, run: Run, help: str
) -> argparse.ArgumentParser:
    made = _verb(verbs, name, run, help)
    made.add_argument("host", type=admin_cli.host_name, metavar="HOST", help="the host of the key")
    return made


def _path(config: str) -> str:
    """The file of keys that the settings name. Of what else is wrong with them nothing is said here."""
    ini = Ini(config, loose=is_theirs)
    for name in [name for name in ini.sections if name != "auth"]:
        del ini.sections[name]
        ini.section_lines.pop(name, None)
    reading = Reading(ini, {"auth": Auth})
    reading.finish()
    auth = reading.sections["auth"]
    assert isinstance(auth, Auth)
    return auth.keys_file


def init(arguments: argparse.Namespace, path: str) -> None:
    """Make the controller's file. One that is there is only looked at."""
    with keys_file.locked(path):
        if os.path.lexists(path):
            _, keys = keys_file.read(path)
            print(f"{path} is there already, with {count(len(keys), 'key')}; nothing was changed")
            return
        keys_file.replace(path, keys_file.HEAD, {})
    print(f"made {path}. Next, for each compute node: {NAME} add HOST --cluster-port ADDRESS:PORT")


def add(arguments: argparse.Namespace, path: str) -> None:
    """Make the first key of a host."""
    host = arguments.host
    with keys_file.locked(path):
        text, keys = _read(path)
        if _of(keys, host):
            raise NotDone(f"{host} has a key: [{']['.join(_of(keys, host))}]; for a new one: {NAME} rotate {host}")
        key_id, key = _make(host, arguments.cluster_port, keys)
        own = _own_file(host, {key_id: key})
        out = _write_out(arguments, path, own)
        _change(path, keys_file.with_key(text, key_id, key), {**keys, key_id: key}, out)
    _say(arguments, own, f"{host} has the key [{key_id}] in {path}. Next:", f"1. {_RELOAD}", f"2. {_copy(out, host)}")


def rotate(arguments: argparse.Namespace, path: str) -> None:
    """Make a second key of a host; the host's file gets both, of which the lower one signs."""
    host = arguments.host
    with keys_file.locked(path):
        text, keys = _read(path)
        old = _of(keys, host)
        if not old:
            raise NotDone(f"{host} has no key; make one: {NAME} add {host} --cluster-port ADDRESS:PORT")
        if len(old) > 1:
            raise NotDone(
                f"{host} has two keys already, [{']['.join(old)}]: {NAME} finish {host}. Should its own file be lost: it is these "
                f"two sections of {path}, in this order"
            )
        key_id, key = _make(host, next(iter(old.values())).cluster_port, keys)
        own = _own_file(host, {**old, key_id: key})
        out = _write_out(arguments, path, own)
        _change(path, keys_file.with_key(text, key_id, key), {**keys, key_id: key}, out)
    _say(
        arguments,
        own,
        f"{host} has a second key, [{key_id}], in {path}; both count. Next, in this order:",
        f"1. {_RELOAD}",
        f"2. {_copy(out, host)}",
        f"3. on {host}: systemctl reload masakari-instancemonitor masakari-processmonitor; systemctl restart "
        "masakari-hostmonitor, which reports at its start, and so shows that the new key works",
        f"4. {NAME} finish {host}",
    )


def finish(arguments: argparse.Namespace, path: str) -> None:
    """Remove the older key of a host. NotDone unless reports show that the newer one is in use, or with --force."""
    host = arguments.host
    with keys_file.locked(path):
        text, keys = _read(path)
        both = list(_of(keys, host))
        if len(both) < 2:
            raise NotDone(
                f"{host} has {count(len(both), 'key')}: no exchange is under way ({NAME} rotate {host} begins one)"
            )
        old, new = both
        if not arguments.force:
            doubt = _doubt(arguments, old, new)
            if doubt:
                raise NotDone(f"[{old}] is kept: {doubt}. If you know better: {NAME} finish {host} --force")
        del keys[old]
        _change(path, keys_file.without_keys(text, [old]), keys)
    print(f"removed [{old}] from {path}; [{new}] is the key of {host}. Next:\n  1. {_RELOAD}")


def revoke(arguments: argparse.Namespace, path: str) -> None:
    """Remove every key of a host."""
    host = arguments.host
    with keys_file.locked(path):
        text, keys = _read(path)
        gone = list(_of(keys, host))
        if not gone:
            raise NotDone(f"{host} has no key in {path}; nothing was changed")
        left = {key_id: key for key_id, key in keys.items() if key_id not in gone}
        _change(path, keys_file.without_keys(text, gone), left)
    print(f"removed [{']['.join(gone)}] from {path}. Until the controllers are reloaded they still count. Next:")
    if left:
        print(f"  1. {_RELOAD}")
    else:
        print("  1. on each controller: systemctl stop masakari-controller, as no key is left and it refuses to reload")


def list_keys(arguments: argparse.Namespace, path: str) -> None:
    """Show the keys: whose, of which segment, and when they were made, as far as their ids tell."""
    _, keys = _read(path)
    rows = [
        {"key": key_id, "host": key.host, "cluster_port": key.cluster_port, "made_at": keys_file.made_at(key_id)}
        for key_id, key in keys.items()
    ]
    if arguments.json:
        print(json.dumps(jsonable(rows), indent=2))
    else:
        print(table(rows, [("key", "key"), ("host", "host"), ("cluster_port", "cluster_port"), ("made", "made_at")]))


def _read(path: str) -> tuple[str, dict[str, Key]]:
    if not os.path.lexists(path):
        raise NotDone(f"there is no file {path}; make it: {NAME} init")
    return keys_file.read(path)


def _of(keys: Mapping[str, Key], host: str) -> dict[str, Key]:
    """The keys of a host, the older first."""
    return {key_id: key for key_id, key in keys.items() if key.host == host}


def _make(host: str, cluster_port: str, taken: Mapping[str, Key]) -> tuple[str, Key]:
    key_id = keys_file.new_id(host, Clock().now(), taken)
    return key_id, Key(host=host, cluster_port=cluster_port, secret=secrets.token_urlsafe(SECRET_BYTES))


def _own_file(host: str, keys: Mapping[str, Key]) -> str:
    sections = [keys_file.section(key_id, key) for key_id, key in keys.items()]
    return "\n".join([f"# {NODE_FILE} of {host}; owner root, mode 0600. The last key signs.", *sections])


def _write_out(arguments: argparse.Namespace, path: str, own: str) -> str:
    """Write the host's own file, before its key counts; where it is. Empty if it is to be printed once the key counts."""
    if arguments.show:
        return ""
    out = str(arguments.out or f"{arguments.host}.key.conf")
    if os.path.lexists(out):
        _check_replaceable(out, path, arguments.host)
    durable.write(out, own.encode())
    return out


def _check_replaceable(out: str, path: str, host: str) -> None:
    """Only an older file of the same host is replaced."""
    if os.path.exists(path) and os.path.exists(out) and os.path.samefile(out, path):
        raise NotDone(f"{out} is the controller's own file; nothing was changed")
    try:
        hosts = {key.host for key in load_keys(out).values()}
    except (ConfigError, OSError):
        hosts = set()
    if hosts != {host}:
        raise NotDone(f"{out} is there, and is not a file of keys of {host} alone; nothing was changed")


def _change(path: str, text: str, keys: Mapping[str, Key], out: str = "") -> None:
    """Write the controller's file. If that fails, the host's file is of no use and goes."""
    try:
        keys_file.replace(path, text, keys)
    except (OSError, ConfigError):
        if out:
            durable.remove(out)
        raise


def _doubt(arguments: argparse.Namespace, old: str, new: str) -> str:
    """Why the old key may still be needed, from the reports on record; empty if nothing says so."""
    try:
        with admin_cli.connected(arguments) as operator:
            old_at, new_at = operator.db.read(lambda tx: (_last_used(tx, old), _last_used(tx, new)))
    except MasakariError as error:
        return f"whether [{new}] is in use can't be looked up, as the database can't be read ({error})"
    if new_at is None:
        return f"no report signed with [{new}] has come yet"
    if old_at is not None and old_at > new_at:
        return (
            f"a report signed with it came at {local(old_at)}, after the last one signed with [{new}]: is there a monitor that "
            "was not reloaded?"
        )
    return ""


def _last_used(tx: Tx, key_id: str) -> float | None:
    made = keys_file.made_at(key_id)
    row = tx.one("report_key_used", key_id=key_id, create_at=sql_time(made - CLOCKS_APART_S) if made else LONG_AGO)
    return row["at"] if row else None


_RELOAD = "on each controller, once it has this file: systemctl reload masakari-controller (kill -HUP without systemd)"


def _copy(out: str, host: str) -> str:
    if not out:
        return f"put what was printed into {NODE_FILE} of {host}, owner root, mode 0600"
    return f"scp {out} root@{host}:{NODE_FILE} && rm {out}"


def _say(arguments: argparse.Namespace, own: str, done: str, *steps: str) -> None:
    """What was done, and what is next; on standard error, if the host's own file is what is printed."""
    if arguments.show:
        print(own, end="", flush=True)
    print("\n  ".join([done, *steps]), file=sys.stderr if arguments.show else sys.stdout)


def _failed(*sentences: str) -> int:
    for sentence in sentences:
        print(f"{NAME}: {sentence}", file=sys.stderr)
    return 1
