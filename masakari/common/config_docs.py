"""Settings for people: the tables of the documentation and the sample files, made from the sections themselves."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Mapping
from typing import Any

from masakari.common.config import Choice, Option, Section, YesNo, show

WIDTH = 116
SINCE = '"Since 2015" means: since the Masakari of NTT.'


def render_options(sections: Mapping[str, type[Section]], shell_section: str = "") -> str:
    """The options of all sections as Markdown tables, a heading per section; shell_section has names in capitals."""
    parts = []
    for name, kind in sections.items():
        shell = name == shell_section
        heading = "Options" if shell else f"[{name}]"
        parts.append(f"## {heading}\n\n{(kind.__doc__ or '').strip()}\n\n")
        parts.append("| option | default | value | since | meaning |\n|---|---|---|---|---|\n")
        for field, about in kind.options():
            others = ", ".join(_written(alias, shell) for alias in about.aliases)
            also = f" Also called {others}." if others else ""
            columns = [default_text(field, about), about.kind.describe(), about.since, f"{about.help}{also}"]
            parts.append(f"| `{_written(field.name, shell)}` | {' | '.join(columns)} |\n")
        if kind.obsolete:
            parts.append("\nAccepted without effect, with a warning:\n\n")
            parts.extend(f"- `{old}`: {reason}\n" for old, reason in kind.obsolete.items())
        parts.append("\n")
    return "".join(parts).rstrip("\n") + "\n"


def render_sample(
    head: str, sections: Mapping[str, type[Section]], fill_in: Mapping[str, str], as_shell: bool = False
) -> str:
    """A sample file: every option with its meaning and its first release, commented out with its default.

    fill_in: what to write for the options that must be set, by name. as_shell: NAME=value lines without sections.
    """
    lines = [*_comment(f"{head} {SINCE}"), ""]
    for name, kind in sections.items():
        if not as_shell:
            lines += [f"[{name}]", *_comment((kind.__doc__ or "").strip()), ""]
        for field, about in kind.options():
            lines += [*_comment(_plain(_explained(field, about))), _assignment(field, fill_in, as_shell), ""]
    return "\n".join(lines)


def default_text(field: dataclasses.Field[Any], about: Option) -> str:
    """The default of an option for the operator's eye."""
    if about.required:
        return "**required**"
    if about.default_text or field.default in ("", ()):
        return about.default_text
    return f"`{show(field.default)}`"


def _written(name: str, shell: bool) -> str:
    return name.upper() if shell else name


def _explained(field: dataclasses.Field[Any], about: Option) -> str:
    default = f" Default: {about.default_text}." if about.default_text else ""
    values = f" Values: {about.kind.describe()}." if isinstance(about.kind, Choice | YesNo) else ""
    return f"{about.help}{default}{values} Since\N{NO-BREAK SPACE}{about.since}."


def _plain(markdown: str) -> str:
    return markdown.replace("`", "").replace("**", "")


def _comment(text: str) -> list[str]:
    return [
        f"# {line}".replace("\N{NO-BREAK SPACE}", " ") for line in textwrap.wrap(text, WIDTH, break_on_hyphens=False)
    ]


def _assignment(field: dataclasses.Field[Any], fill_in: Mapping[str, str], shell: bool) -> str:
    name = _written(field.name, shell)
    equals = "=" if shell else " = "
    if field.name in fill_in:
        return f"{name}{equals}{fill_in[field.name]}"
    value = show(field.default)
    return f"#{name}{equals}{value}".rstrip() if not (shell and " " in value) else f'#{name}="{value}"'
