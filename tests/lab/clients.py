"""The real clients of OpenStack, as an operator of the simulated cloud runs them: the openstack command, and openstacksdk."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build/clients"
WITHIN_S = 60

# The entry point of the openstack command, once per line of commands.
_MANY = """
import contextlib, io, json, sys
from openstackclient.shell import main
answers = []
for arguments in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(arguments)
        except SystemExit as end:
            status = end.code
    answers.append([status, out.getvalue(), err.getvalue()])
json.dump(answers, sys.stdout)
"""

_SDK = """
import json, sys, openstack
names = {"conn": openstack.connect(), "openstack": openstack, "result": None}
exec(sys.stdin.read(), names)
print(json.dumps(names["result"]))
"""


def why_not() -> str:
    """Why the clients can't be run here; empty when they can."""
    if not (FOLDER / ".made").exists():
        return "OpenStack's clients are not installed (make clients)"
    return ""


@dataclass(frozen=True)
class Answer:
    """What one command printed, and its exit status."""

    command: str
    status: int
    out: str
    err: str

    def good(self) -> Answer:
        """Itself; raises CommandFailed unless its status is 0."""
        if self.status != 0:
            raise CommandFailed(self)
        return self

    def json(self) -> Any:
        """What it printed, for a command with -f json. Raises CommandFailed."""
        return json.loads(self.good().out)


class CommandFailed(RuntimeError):
    """A command of a client ended with another status than 0; `answer` holds all of it."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"{answer.command}: status {answer.status}: {answer.err.strip() or answer.out.strip()}")
        self.answer = answer


class OpenStack:
    """The clients with OS_* of one user. Nothing else of this machine's environment or clouds.yaml reaches them."""

    def __init__(
        self, auth_url: str, user: str = "admin", project: str = "admin", password: str = "simcloud", **more: str
    ) -> None:
        """more: further variables, os_ha_api_version="1.0" for instance."""
        self.environ = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(FOLDER),
            "LANG": "C.UTF-8",
            "OS_AUTH_URL": auth_url,
            "OS_USERNAME": user,
            "OS_PASSWORD": password,
            "OS_PROJECT_NAME": project,
            "OS_USER_DOMAIN_NAME": "Default",
            "OS_PROJECT_DOMAIN_NAME": "Default",
            "OS_REGION_NAME": "RegionOne",
            **{name.upper(): value for name, value in more.items()},
        }

    def typed(self, line: str) -> Answer:
        """Run a line as somebody types it: "openstack segment list"."""
        program, *arguments = shlex.split(line)
        assert program == "openstack", line
        return self._ran(line, [str(FOLDER / "bin" / program), *arguments], "")

    def run(self, *arguments: str) -> Any:
        """Run one command that lists or shows something: what it printed with -f json. Raises CommandFailed."""
        return self.typed(shlex.join(["openstack", *arguments, "-f", "json"])).json()

    def many(self, lines: Iterable[str]) -> list[Answer]:
        """Run several lines, each with a sign-in of its own, in one process: 0.1 s for each instead of 1 s."""
        lines = list(lines)
        commands = [shlex.split(line.removeprefix("openstack ")) for line in lines]
        answers = self._python(_MANY, json.dumps(commands)).json()
        return [Answer(line, *answer) for line, answer in zip(lines, answers, strict=True)]

    def sdk(self, source: str) -> Any:
        """Run Python in which `conn` is a connection of openstacksdk; what it leaves in `result`, which must fit into JSON.

        Raises CommandFailed with the traceback.
        """
        return self._python(_SDK, source).json()

    def _python(self, program: str, given: str) -> Answer:
        return self._ran("python", [str(FOLDER / "bin/python"), "-c", program], given)

    def _ran(self, name: str, command: list[str], given: str) -> Answer:
        ended = subprocess.run(
            command,
            input=given,
            capture_output=True,
            text=True,
            env=self.environ,
            cwd=FOLDER,
            timeout=WITHIN_S,
            check=False,
        )
        return Answer(name, ended.returncode, ended.stdout, ended.stderr)
