"""masakari.conf for people: docs/configuration.md and the sample, made from the settings."""

from __future__ import annotations

from masakari import config
from masakari.common import config_docs


def render_docs() -> str:
    """docs/configuration.md."""
    return _DOCS_HEAD + config_docs.render_options(config.SECTIONS)


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
