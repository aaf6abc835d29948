"""masakari.conf for people: docs/configuration.md and the sample, made from the settings."""

from __future__ import annotations

from masakari import config, openstack_options
from masakari.common import config_docs


def render_docs() -> str:
    """docs/configuration.md."""
    return _DOCS_HEAD + config_docs.render_options(config.SECTIONS) + _render_openstack()


def _render_openstack() -> str:
    """The part on OpenStack's form: which of its options are used as what, and which are not."""
    parts = [_OPENSTACK_HEAD, "| option there | used as |\n|---|---|\n"]
    for group in openstack_options.USED:
        for section, names in group.ways:
            parts += [f"| `[{section}] {name}` | `[{group.section}] {ours}` |\n" for name, ours in names.items()]
    for section, ways in openstack_options.TRANSLATED.items():
        parts += [f"| `[{section}] {name}` | {how} |\n" for name, how in ways.items()]
    parts.append(_OPENSTACK_UNUSED)
    for section, reasons in openstack_options.UNUSED.items():
        parts += [f"| `[{section}]`: {_code(names)} | {why} |\n" for why, names in reasons.items()]
    for why, sections in openstack_options.UNUSED_SECTIONS.items():
        parts.append(f"| {_code(sections, '[{}]')}, as a whole | {why} |\n")
    return "".join(parts)


def _code(names: str, form: str = "{}") -> str:
    return ", ".join(f"`{form.format(name)}`" for name in names.split())


def render_sample() -> str:
    """etc/masakari/masakari.conf."""
    fill_in = {
        "auth_url": "<http://keystone:5000/v3>",
        "admin_user": "<admin user>",
        "admin_password": "<password of that user>",
        "project_name": "<project name>",
    }
    return config_docs.render_sample(_SAMPLE_HEAD, config.SECTIONS, fill_in)


_SAMPLE_HEAD = (
    "Settings of the Masakari controller. Every option is here; those commented out show their default. What stands in <...> "
    "must be filled in, and the file /etc/masakari/keys.conf made (or [auth] callbacks changed). Comments need a line of their "
    "own: everything behind the = is the value, and quotes around it are dropped. After a change: masakari-controller "
    "--check-config, then systemctl reload masakari-controller. More: docs/configuration.md."
)

_DOCS_HEAD = f"""\
# Configuration of the controller

`{config.DEFAULT_PATH}`, or the file named by `--config`. `masakari-controller --check-config` tells everything
that is wrong with it, line by line, and exits with 0 or 1. A controller that is started with a wrong file ends with 78. A
sample with every option is `etc/masakari/masakari.conf`.

- A section begins with `[name]`; then one `option = value` per line (`:` serves as well). Lines that begin
  with `#` or `;` are comments. There are none behind a value: `#`, `;` and `%` within it mean themselves.
- Quotes around a value, `"..."` or `'...'`, are dropped. A value that really begins and ends with a quote
  needs a second pair.
- An empty value means the default.
- Something unknown, or said twice, is an error. So is a value left as `<...>`, the way the sample marks what
  you must fill in.
- since: the first release with the option; 2015 is the Masakari of NTT.

This page is made from the program (`masakari/config.py`); a test compares the two.

"""

_OPENSTACK_HEAD = """
## A file in OpenStack's form

A `masakari.conf` as OpenStack's Masakari has it can be given to the controller as it is. What has a meaning here is used as if
it stood in our own section; everything else is named in a warning at start, each once, with the reason. `--check-config` shows
the same.

- Both forms may stand in one file. What our own sections say goes before it, and a warning names what says otherwise there. Of the
  table, upper lines go before lower ones.
- User, password and domain of the user belong together, and so do project and domain of the project: those of
  `[keystone_authtoken]` fill in only what `[DEFAULT]` leaves open for the same user or project. The user needs the role admin for
  Nova, and must be allowed to ask Keystone about tokens.
- `[database] connection` is used as a whole, or not at all if `[db]` names another database. In its user and password, signs like
  `@` and `/` must be percent-encoded. The controller makes tables of its own there and touches none of OpenStack's Masakari.
- Sections that only that form has may stand there twice, and so may their options: the last one counts. An indented line goes on
  with the value above it. `$` and `%` stand for themselves, and `[DEFAULT]` gives nothing to other sections.
- `[host_failure]`, `[instance_failure]` and `[process_failure]` are described above.
- If the file has `[keystone_authtoken]`, the controller starts without keys for callbacks: the v1 API works, and every callback is
  refused, which a warning says, until keys are made (`masakari-keys init`, `masakari-keys add`) and the controller is reloaded.

"""

_OPENSTACK_UNUSED = """
Not used, and named so:

| option there | why |
|---|---|
"""
