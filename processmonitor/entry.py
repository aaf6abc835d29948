"""One process to watch, whichever file it was read from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of proc.list, or an item of process_list.yaml.

    `name` is looked for in the command lines of all processes. Commands are lines as written, empty for none; several
    commands in a line are joined by ";". `on_failure`: disable or report. `where`: file and line, for messages.
    """

    id: str
    name: str
    start: str
    restart: str
    pre_start: str
    post_start: str
    pre_restart: str
    post_restart: str
    run_as_root: bool
    on_failure: str
    where: str
