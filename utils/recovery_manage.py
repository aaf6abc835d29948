#!/usr/bin/env python3
"""Shows what the controllers do and why, and lets an operator decide what only an operator can."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

# Our own tree before anything else: distributions ship other packages named masakari.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from masakari import admin, admin_cli, admin_lists, admin_retry, admin_text, segments

EXAMPLES = """
examples:
  recovery_manage.py list                              what is open, held or has ended lately, and what to do about it
  recovery_manage.py show 12                           the whole story of recovery 12
  recovery_manage.py release 12                        lift its hold `many` or `callback`
  recovery_manage.py attest --host compute1            compute1 is off: you made sure of it
  recovery_manage.py retry 12                          it failed, for lack of a spare for instance: try again
  recovery_manage.py cancel 12                         ask nothing more of Nova, and undo what can be undone
  recovery_manage.py return --host compute1            it is repaired: enable it again
  recovery_manage.py pause --for 2h                    store reports and do nothing (maintenance of the network)
  recovery_manage.py resume
  recovery_manage.py method --cluster 226.94.1.1:5405 --method auto

What the holds mean, and what each command does, is in docs/operating.md.
"""

Command = Callable[[admin.Operator], admin.Answer]


def main(argv: list[str] | None = None) -> int:
    """The command line; the exit status."""
    parser = _parser()
    given = parser.parse_args(argv)
    attested = given.command == "attest" or getattr(given, "attest", False)
    if not attested:
        return admin_cli.run(given, _command(given))
    if not given.yes and not sys.stdin.isatty():
        parser.error("a wrong attest can corrupt the disks of instances: give --yes, or answer at a terminal")
    return admin_cli.run(given, _asked(given, _command(given)))


def _command(given: argparse.Namespace) -> Command:
    """What the subcommand calls."""
    commands: dict[str, Command] = {
        "list": lambda operator: admin_lists.list_recoveries(operator, given.last),
        "show": lambda operator: admin_lists.show(operator, given.id),
        "release": lambda operator: admin.release(operator, given.id),
        "retry": lambda operator: admin_retry.retry(operator, given.id, given.attest, given.note),
        "cancel": lambda operator: admin.cancel(operator, given.id),
        "attest": lambda operator: admin.attest(operator, given.host, given.note),
        "return": lambda operator: admin.bring_back(operator, given.host),
        "pause": lambda operator: admin.pause(operator, given.cluster, given.for_s),
        "resume": lambda operator: admin.resume(operator, given.cluster),
        "method": lambda operator: admin.set_method(
            operator, given.cluster, None if given.method == "default" else given.method
        ),
    }
    return commands[given.command]


def _asked(given: argparse.Namespace, command: Command) -> Command:
    """The same command behind a question: is the host really off?"""

    def ask(operator: admin.Operator) -> admin.Answer:
        host = given.host if given.command == "attest" else admin.host_of(operator, given.id)
        question = (
            f"{admin.last_sign_of_life(operator, host)}\n"
            f"Its instances will be started on other hosts. If {host} still runs them, they run twice, and their disks "
            f"are corrupted.\nIs {host} off, and does it stay off?"
        )
        if not admin_cli.confirmed(question, given.yes):
            raise admin.Refused("not confirmed")
        return command(operator)

    return ask


def _parser() -> argparse.ArgumentParser:
    parser = admin_cli.parser(__doc__ or "", EXAMPLES)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, help: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
        admin_cli.common_options(made, again=True)
        return made

    listing = command("list", "show open recoveries and the newest ended ones")
    listing.add_argument("--last", type=admin_cli.many, default=20, metavar="N", help="how many newest ones (20)")
    for name, help in (
        ("show", "show the story of a recovery, line by line, and its instances"),
        ("release", "lift a hold for many failures at once, or for an unsigned callback"),
        ("retry", "try a failed or cancelled recovery again, or one that is held for local disks"),
        ("cancel", "ask nothing more of Nova, follow what is in flight, and undo our own disable"),
    ):
        made = command(name, help)
        made.add_argument("id", type=admin_cli.many, metavar="ID", help="the number of the recovery")
        if name == "retry":
            made.add_argument("--attest", action="store_true", help="and give your word that its host is off")
            _word(made)
    made = command("attest", "give your word that a host is off and stays off, as proof")
    made.add_argument("--host", required=True, type=admin_cli.host_name, metavar="HOST")
    _word(made)
    made = command("return", "bring a repaired host back: un-force it, wait until it reads up, enable it")
    made.add_argument("--host", required=True, type=admin_cli.host_name, metavar="HOST")
    _segment_commands(command)
    return parser


def _word(parser: argparse.ArgumentParser) -> None:
    """The options of an operator's word."""
    parser.add_argument("--note", default="", metavar="TEXT", help="how you know; it goes on record")
    parser.add_argument("--yes", action="store_true", help="don't ask")


def _segment_commands(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    made = command("pause", "store reports and do nothing, in one segment or everywhere")
    made.add_argument(
        "--cluster", type=admin_cli.segment, default="*", metavar="PORT", help="the segment (default: all)"
    )
    made.add_argument(
        "--for", dest="for_s", type=_duration, metavar="TIME", help="90s, 15m, 2h, 1d (default: until resumed)"
    )
    made = command("resume", "end a pause")
    made.add_argument(
        "--cluster", type=admin_cli.segment, default="*", metavar="PORT", help="the segment (default: all)"
    )
    made = command("method", "choose where the instances of failed hosts of a segment go")
    made.add_argument("--cluster", required=True, type=admin_cli.segment, metavar="PORT", help="the segment")
    made.add_argument(
        "--method", required=True, choices=(*segments.METHODS, "default"), help="`default`: as masakari.conf says"
    )


def _duration(text: str) -> float:
    try:
        return admin_text.duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    raise SystemExit(main())
