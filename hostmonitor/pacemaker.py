"""Port to this node's pacemaker and corosync: what their programs print, once it is sure that it is an answer.

Nobody's locale, time zone or environment changes the answers, and none of them is kept. What they mean is decided elsewhere.
"""

from __future__ import annotations

import os
import re
import threading
from dataclasses import dataclass, replace

from hostmonitor.tool import PATH, Ended, run
from masakari.common.clock import Clock
from masakari.common.errors import Unavailable

SHOWN_LENGTH = 300
TAIL_LENGTH = 4096

# The one setting of pacemaker's daemons that its programs must have, too: without it a large CIB may not reach them.
SHARED = "PCMK_ipc_buffer"

# 102 is pacemaker's own "not connected", 107 that of the releases before 2.0.
NOT_CONNECTED = (102, 107)

# How releases before 2.0.3 refuse an option, and how later ones do.
_NO_SUCH_OPTION = re.compile(r"unrecognized option|unknown option|invalid option", re.IGNORECASE)
_STATUS = re.compile(r'<status code="(\d+)"')
_ERROR = re.compile(r"<error>(.*?)</error>", re.DOTALL)
_CONTROLLER_STATE = re.compile(r"\bS_[A-Z_]+\b")
_CMAP_LINE = re.compile(r"\S+ \(\w+\) = ")


@dataclass(frozen=True)
class Pacemaker:
    """Asks the daemons on this node; changes nothing. Any number of threads may use it at once.

    Every method raises Unavailable, with a text for the operator, when there is no answer within timeout_s: the program is
    missing, hangs (then it is killed with all its children), fails, or prints something else; also when it says with status
    0 that something went wrong. `prefix` stands before each command: what runs it on another node of a test. When stopping
    is set, what is being asked is given up, which is Unavailable, too.
    """

    clock: Clock
    timeout_s: float = 10.0
    prefix: tuple[str, ...] = ()
    path: str = PATH
    stopping: threading.Event | None = None

    def status(self) -> str:
        """The state of the cluster as the XML of crm_mon: a <pacemaker-result>, or a <crm_mon> from releases before 2.0.3."""
        deadline = self._deadline()
        shown = self._run(deadline, "crm_mon", "--output-as=xml", "-1")
        if shown.status and _NO_SUCH_OPTION.search(shown.errors + shown.output):
            shown = self._run(deadline, "crm_mon", "-X")
        return _xml("crm_mon", shown, "</pacemaker-result>", "</crm_mon>")

    def cib(self) -> str:
        """The cluster's configuration and state as the XML of the CIB."""
        return _xml("cibadmin", self._run(self._deadline(), "cibadmin", "--query"), "</cib>")

    def node_name(self) -> str:
        """What pacemaker calls this node."""
        told = self._run(self._deadline(), "crm_node", "-n")
        words = told.output.split()
        if told.status or len(words) != 1:
            raise _no_answer("crm_node", told)
        return words[0]

    def controller_state(self, node: str) -> str:
        """The state of the controller on a node: S_IDLE, S_NOT_DC, S_TRANSITION_ENGINE, S_PENDING and others."""
        # Without a limit of its own it waits for ever for a node that is gone. A number without unit means seconds to one
        # release and milliseconds to another.
        limit = f"{int(self.timeout_s * 800)}ms"
        told = self._run(self._deadline(), "crmadmin", "-t", limit, "-S", node)
        found = _CONTROLLER_STATE.search(told.output)
        if told.status or not found:
            raise _no_answer("crmadmin", told)
        return found.group()

    def cmap(self) -> str:
        """What corosync on this node works with, in lines `key (type) = value`, with its configuration among it."""
        told = self._run(self._deadline(), "corosync-cmapctl")
        if told.status or not _CMAP_LINE.match(told.output):
            raise _no_answer("corosync-cmapctl", told)
        return told.output

    def quorum(self) -> str:
        """The quorum and the members in the view of corosync on this node, as corosync-quorumtool -s shows them."""
        # -i: names that nobody can resolve would be waited for. The exit status says in some releases whether there is quorum.
        told = self._run(self._deadline(), "corosync-quorumtool", "-s", "-i")
        if "\nQuorate:" not in told.output:
            raise _no_answer("corosync-quorumtool", told)
        return told.output

    def _deadline(self) -> float:
        return self.clock.monotonic() + self.timeout_s

    def _run(self, deadline: float, *words: str) -> Ended:
        environ = {name: value for name, value in os.environ.items() if name == SHARED}
        environ.update(PATH=self.path, LC_ALL="C", TZ="UTC", HOME="/")
        return run(words[0], [*self.prefix, *words], environ, self.clock, deadline, self.stopping)


def _xml(program: str, shown: Ended, *ends: str) -> str:
    text = shown.output.strip()
    status = _STATUS.search(text, max(0, len(text) - TAIL_LENGTH))
    failed = shown.status or (status and status.group(1) != "0")
    if failed or not text.startswith("<") or not text.endswith(ends):
        raise _no_answer(program, shown)
    return text


def _no_answer(program: str, ended: Ended) -> Unavailable:
    """What to tell of a program that ended without an answer."""
    if ended.status < 0:
        how = f"was killed by signal {-ended.status}"
    elif ended.status:
        how = f"ended with {ended.status}"
    else:
        how = "gave no answer that can be used"
    # What is in a CIB is not for the log: the passwords of the BMCs are.
    said = _said(replace(ended, output="") if program == "cibadmin" else ended)
    told = f"{program} {how}, and said: {said}" if said else f"{program} {how}, and said nothing"
    daemon = "corosync" if program.startswith("corosync-") else "pacemaker"
    if daemon == "corosync" or ended.status in NOT_CONNECTED:
        told += f"; it seems that {daemon} does not run on this node: systemctl status corosync pacemaker"
    return Unavailable(told)


def _said(ended: Ended) -> str:
    """The complaint of a program, in one short line that a terminal obeys in nothing."""
    text = "\n".join(_ERROR.findall(ended.output[-TAIL_LENGTH:])) or ended.errors or ended.output[-TAIL_LENGTH:]
    line = " | ".join(part.strip() for part in text.splitlines() if part.strip())
    short = line if len(line) <= SHOWN_LENGTH else line[:SHOWN_LENGTH] + "…"
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in short)
