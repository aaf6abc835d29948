"""Writes the man pages: those of commands from their own parsers, those of files from the settings classes and the samples.

manpages.py FOLDER
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import runpy
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

DEBIAN = Path(__file__).resolve().parent
ROOT = DEBIAN.parent
sys.path.insert(0, str(ROOT))

import hostmonitor.config  # noqa: E402
import hostmonitor.main  # noqa: E402
import instancemonitor.config  # noqa: E402
import instancemonitor.main  # noqa: E402
import masakari.config  # noqa: E402
import masakari.db_tool  # noqa: E402
import masakari.key_tool  # noqa: E402
import masakari.main  # noqa: E402
import masakari.manage  # noqa: E402
import processmonitor.config  # noqa: E402
import processmonitor.main  # noqa: E402
from hostmonitor.stonith import BMC_FILE, BmcSection  # noqa: E402
from masakari import __version__  # noqa: E402
from masakari.common.config import Option, Section  # noqa: E402
from masakari.common.config_docs import SINCE, default_text  # noqa: E402
from masakari.common.keys import Key  # noqa: E402

CONFIGS = ("/etc/masakari/masakari.conf", "/etc/masakari/keys.conf")
COMMANDS: dict[str, tuple[Callable[..., object], tuple[str, ...]]] = {
    "masakari-controller": (masakari.main.main, CONFIGS),
    "masakari-db": (masakari.db_tool.main, CONFIGS[:1]),
    "masakari-keys": (masakari.key_tool.main, CONFIGS),
    "masakari-manage": (masakari.manage.main, CONFIGS[:1]),
    "masakari-hostmonitor": (
        hostmonitor.main.main,
        (
            "/etc/hostmonitor/hostmonitor.conf",
            BMC_FILE,
            "/etc/masakari/key.conf",
            "/etc/corosync/corosync.conf",
        ),
    ),
    "masakari-instancemonitor": (
        instancemonitor.main.main,
        ("/etc/instancemonitor/instancemonitor.conf", "/etc/masakari/key.conf"),
    ),
    "masakari-processmonitor": (
        processmonitor.main.main,
        (
            "/etc/processmonitor/processmonitor.conf",
            "/etc/processmonitor/proc.list",
            "/etc/processmonitor/process_list.yaml",
            "/etc/masakari/key.conf",
        ),
    ),
}
"""Every command but the operator's scripts: what parses its words, and its files."""

SCRIPTS = {"masakari_doctor.py": "masakari-doctor"}
"""The commands that are scripts by another name."""

SEE_ALSO = (
    "masakari-controller(8), masakari-hostmonitor(8), masakari-instancemonitor(8), masakari-processmonitor(8), "
    "recovery_manage.py(8), masakari.conf(5); /usr/share/doc/masakari-base"
)
COMMENTS = "Lines that begin with # or ; are comments; there are none behind a value. An empty value means the default."


class _Parsed(Exception):
    """Carries a parser out of the program that made it."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__()
        self.parser = parser


def main(folder: Path) -> None:
    """Write every page into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in pages().items():
        (folder / name).write_text(page, encoding="utf-8")


def pages() -> dict[str, str]:
    """All pages by the names of their files."""
    made = {}
    for name, (run, files) in COMMANDS.items():
        of_init = [f"/etc/default/{name}" for path in DEBIAN.glob("*.default") if path.name.endswith(f"{name}.default")]
        made[f"{name}.8"] = command_page(name, parser_of(run), [*files, *of_init])
    for script in sorted((ROOT / "utils").glob("*.py")):
        name = SCRIPTS.get(script.name, script.name)
        made[f"{name}.8"] = command_page(name, parser_of(_script(script)), CONFIGS[:1])
    return {**made, **_file_pages()}


def _file_pages() -> dict[str, str]:
    environments, callback = hostmonitor.config.MAIN, "callback"
    assert callback in instancemonitor.config.SECTIONS
    return {
        "masakari.conf.5": settings_page("masakari.conf", "the Masakari controller", masakari.config.SECTIONS),
        "hostmonitor.conf.5": settings_page(
            "hostmonitor.conf", "masakari-hostmonitor", {environments: hostmonitor.config.Environments}
        ),
        "instancemonitor.conf.5": settings_page(
            "instancemonitor.conf", "masakari-instancemonitor", instancemonitor.config.SECTIONS
        ),
        "processmonitor.conf.5": settings_page(
            "processmonitor.conf", "masakari-processmonitor", {"process": processmonitor.config.Process}, capitals=True
        ),
        **_secret_pages(),
        "proc.list.5": sample_page("proc.list", "the processes that masakari-processmonitor watches"),
        "process_list.yaml.5": sample_page(
            "process_list.yaml", "the processes that masakari-processmonitor watches, as YAML"
        ),
    }


def parser_of(run: Callable[..., object]) -> argparse.ArgumentParser:
    """The parser that a program makes for its command line."""

    def carry(self: argparse.ArgumentParser, *_: Any) -> NoReturn:
        raise _Parsed(self)

    with mock.patch.object(argparse.ArgumentParser, "parse_args", carry):
        try:
            run([])
        except _Parsed as parsed:
            return parsed.parser
    raise AssertionError(f"{run} parses no words")


def _script(path: Path) -> Callable[[list[str]], object]:
    with mock.patch.object(sys, "path", [*sys.path]):
        run: Callable[[list[str]], object] = runpy.run_path(str(path))["main"]
    return run


def command_page(name: str, parser: argparse.ArgumentParser, files: Iterable[str]) -> str:
    """The page of a command."""
    parser.prog = name
    description = " ".join((parser.description or "").split())
    parts = [_title(name, 8), section("NAME"), f"{escaped(name)} \\- {escaped(_decapitalised(description))}\n"]
    parts += [section("SYNOPSIS"), verbatim(_usage(parser)), section("DESCRIPTION"), f"{escaped(description)}\n"]
    parts += [section("OPTIONS"), *_options(parser)]
    for verb, sub in _subcommands(parser):
        sub.prog = f"{name} {verb}"
        parts += [
            f'.SS "{escaped(verb)}"\n',
            escaped(sub.description or ""),
            "\n",
            verbatim(_usage(sub)),
            *_options(sub),
        ]
    parts += [section("NOTES"), verbatim(parser.epilog or "")]
    parts += [section("FILES"), *(f".TP\n{escaped(file)}\n" for file in files)]
    return "".join([*parts, section("SEE ALSO"), f"{escaped(SEE_ALSO)}\n"])


def _decapitalised(sentence: str) -> str:
    first = re.split(r"[.:;]( |$)", sentence, maxsplit=1)[0]
    return first[:1].lower() + first[1:]


def _usage(parser: argparse.ArgumentParser) -> str:
    with mock.patch.dict("os.environ", {"COLUMNS": "78"}):
        return parser.format_usage().removeprefix("usage: ")


def _subcommands(parser: argparse.ArgumentParser) -> Iterable[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb, sub in action.choices.items():
                deeper = list(_subcommands(sub))
                yield from ((f"{verb} {word}", below) for word, below in deeper)
                if not deeper:
                    yield verb, sub


def _options(parser: argparse.ArgumentParser) -> Iterable[str]:
    formatter = parser.formatter_class(prog=parser.prog)
    for action in parser._actions:
        if action.help == argparse.SUPPRESS or isinstance(action, argparse._SubParsersAction):
            continue
        words = formatter._format_action_invocation(action)
        told = formatter._expand_help(action) if action.help else ""
        yield f".TP\n.B {escaped(words)}\n{escaped(told)}\n"


def settings_page(name: str, program: str, kinds: Mapping[str, type[Section]], *, capitals: bool = False) -> str:
    """The page of a file of settings, with all its options."""
    parts = [_title(name, 5), section("NAME"), f"{escaped(name)} \\- settings of {escaped(program)}\n"]
    form = (
        "NAME=value lines, as a shell could read them."
        if capitals
        else "[section] lines, each followed by option = value lines."
    )
    parts += [
        section("DESCRIPTION"),
        escaped(f"{form} {COMMENTS} With --check-config the program tells all that is wrong. {SINCE}"),
        "\n",
    ]
    for title, kind in kinds.items():
        parts += [section("OPTIONS" if capitals else f"[{title}]"), escaped(plain((kind.__doc__ or "").strip())), "\n"]
        for field, about in kind.options():
            parts.append(_option(field, about, capitals))
        for old, reason in kind.obsolete.items():
            parts.append(
                f".TP\n.B {escaped(old.upper() if capitals else old)}\n{escaped(f'Has no effect any more: {reason}.')}\n"
            )
    return "".join([*parts, section("SEE ALSO"), f"{escaped(SEE_ALSO)}\n"])


def _option(field: dataclasses.Field[Any], about: Option, capitals: bool = False) -> str:
    """What a page says about an option."""
    names = [word.upper() if capitals else word for word in (field.name, *about.aliases)]
    also = f" Also called {', '.join(names[1:])}." if about.aliases else ""
    default = plain(default_text(field, about)) or "empty"
    value = plain(f"Value: {about.kind.describe()}. Default: {default}. Since {about.since}.")
    return f".TP\n.B {escaped(names[0])}\n{escaped(plain(about.help) + also)}\n.br\n{escaped(value)}\n"


def _secret_pages() -> dict[str, str]:
    """The pages of files with a section for each host, which are made on the node and have no sample."""
    key = "[compute2-20270115-080000]\nhost = compute2\ncluster_port = 226.94.1.1:5405\nsecret = 0123456789abcdef0123456789abcdef\n"
    bmc = "[compute2]\naddress = 192.0.2.52\nuser = operator\npassword = <its password>\n"
    return {
        "masakari-keys.conf.5": _secret_page(
            "masakari-keys.conf",
            "the keys of all hosts, which sign what their monitors report",
            "/etc/masakari/keys.conf of the controller; mode 0600, owner masakari. masakari-keys(8) writes it. Each key is a "
            "section, whose name is the id of the key. A host may have two keys while they are exchanged.",
            (Key, key),
        ),
        "masakari-key.conf.5": _secret_page(
            "masakari-key.conf",
            "the key of this host, which signs what its monitors report",
            "/etc/masakari/key.conf of a node; mode 0600, owner root. It is the host's own section of the controller's "
            "keys.conf, as masakari-keys(8) on the controller wrote it, whose name is the id of the key; two of them while keys "
            "are exchanged.",
            (Key, key),
        ),
        "masakari-bmc.conf.5": _secret_page(
            "masakari-bmc.conf",
            "the BMCs that masakari-hostmonitor asks",
            f"{BMC_FILE}, or the bmc_file of hostmonitor.conf(5); mode 0600, owner root. It is for BMCs that "
            "pacemaker's stonith resources don't tell, and goes before those. Each BMC is a section, called like its host as "
            "pacemaker calls it, unless the option host names that. A host may have several BMCs.",
            (BmcSection, bmc),
        ),
    }


def _secret_page(name: str, what: str, described: str, kind: tuple[type[Section], str]) -> str:
    options, example = kind
    parts = [_title(name, 5), section("NAME"), f"{escaped(name)} \\- {escaped(what)}\n"]
    parts += [section("DESCRIPTION"), escaped(plain(f"{described} {COMMENTS}")), "\n"]
    parts += [section("OPTIONS"), *(_option(field, about) for field, about in options.options())]
    return "".join([*parts, section("EXAMPLES"), verbatim(example), section("SEE ALSO"), f"{escaped(SEE_ALSO)}\n"])


def sample_page(name: str, what: str) -> str:
    """The page of a file whose sample explains itself: the comment at its beginning, and the rest as the example."""
    lines = (ROOT / "etc/processmonitor" / name).read_text(encoding="utf-8").splitlines()
    end = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    explained = "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines[:end])
    parts = [_title(name, 5), section("NAME"), f"{escaped(name)} \\- {escaped(what)}\n"]
    parts += [section("DESCRIPTION"), verbatim(explained), section("EXAMPLES"), verbatim("\n".join(lines[end:]))]
    return "".join([*parts, section("SEE ALSO"), f"{escaped(SEE_ALSO)}\n"])


def _title(name: str, number: int) -> str:
    return f'.TH "{escaped(name.upper())}" {number} "" "Masakari {__version__}" "Masakari"\n.nh\n'


def section(title: str) -> str:
    """The heading of a section."""
    return f'.SH "{escaped(title)}"\n'


def verbatim(text: str) -> str:
    """Text whose lines stay as they are."""
    return ".nf\n" + "\n".join(escaped(line) or "\\&" for line in text.strip("\n").splitlines()) + "\n.fi\n"


def plain(markdown: str) -> str:
    """Without the marks of Markdown."""
    return markdown.replace("`", "").replace("**", "")


def escaped(text: str) -> str:
    """Text as roff wants it: no character of it is a command."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
