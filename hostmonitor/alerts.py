"""Port: the pipe that pacemaker's alert agent writes to, and the registration of that agent in the CIB.

An alert is a poke to look at once, and nothing else: what it says is shown, and never believed. So every user of this node may
write to the pipe; all that comes of it is that the monitor looks more often.
"""

from __future__ import annotations

import logging
import os
import select
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from xml.etree import ElementTree
from xml.etree.ElementTree import Element
from xml.sax.saxutils import quoteattr

from hostmonitor.crm_xml import quoted
from hostmonitor.pacemaker import SHARED, Pacemaker
from hostmonitor.tool import run
from masakari.common.clock import Clock
from masakari.common.errors import ConfigError, Unavailable

log = logging.getLogger(__name__)

AGENT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "alert-agent")
ALERT_ID = "masakari-hostmonitor"
DEFAULT_PIPE = "/run/masakari/hostmonitor.alert"
"""Where the agent writes when its alert has no recipient."""

PIPE_MODE = 0o622
READ_BYTES = 65536
GAP_S = 0.05
CHECK_EVERY_S = 20.0
WAIT_S = 20.0
BAD_SCHEMA = 78


class AlertPipe:
    """The pipe at path; on_alert is called with a short text when something was written to it.

    What comes within GAP_S is one call. problem: why no alerts come, for the operator; empty while they can.
    """

    def __init__(self, path: str, on_alert: Callable[[str], object], check_every_s: float = CHECK_EVERY_S) -> None:
        self.problem = ""
        self._path = path
        self._check_every_s = check_every_s
        self._on_alert = on_alert
        self._lock = threading.Lock()
        self._writer = -1

    def run(self, stopping: threading.Event) -> None:
        """Listen until stopping is set and stop was called. The pipe is there while this runs, and removed at the end.

        One that can't be made is a problem, tried again every check_every_s; one that somebody removed is made anew.
        """
        while not stopping.is_set():
            try:
                with self._opened() as reader:
                    self._say("")
                    self._listen(reader, stopping)
            except OSError as error:
                self._say(f"pacemaker's alerts are not heard: {self._path}: {error.strerror or error}")
                stopping.wait(self._check_every_s)

    def stop(self) -> None:
        """Let run look whether it is to stop."""
        with self._lock:
            if self._writer >= 0:
                with suppress(BlockingIOError):  # full: it has something to read anyway
                    os.write(self._writer, b"\n")

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """The reading end of a new pipe. The other end is held, too: without a writer it would be readable all the time."""
        _make(self._path)
        reader = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            with self._lock:
                self._writer = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
            yield reader
        finally:
            if _is_at(reader, self._path):
                os.unlink(self._path)
            with self._lock:  # the writer first: what stop writes must have a reader
                if self._writer >= 0:
                    os.close(self._writer)
                self._writer = -1
            os.close(reader)

    def _listen(self, reader: int, stopping: threading.Event) -> None:
        """Returns when stopping is set, or this pipe is no longer at its path."""
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        while not stopping.is_set():
            if not poll.poll(self._check_every_s * 1000):
                if not _is_at(reader, self._path):
                    log.warning("%s was removed; it is made anew", self._path)
                    return
                continue
            data = os.read(reader, READ_BYTES)
            if stopping.is_set():
                return
            self._on_alert(_shown(data))
            stopping.wait(GAP_S)

    def _say(self, problem: str) -> None:
        if problem and problem != self.problem:
            log.error("%s; the cluster is looked at every monitor_interval all the same", problem)
        elif self.problem and not problem:
            log.info("pacemaker's alerts are heard again at %s", self._path)
        self.problem = problem


def _make(path: str) -> None:
    """A pipe of our own at this path, instead of one that is there; nothing else is replaced."""
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        os.makedirs(folder)
        os.chmod(folder, 0o755)  # whatever the umask is
    with suppress(FileNotFoundError):
        if not stat.S_ISFIFO(os.lstat(path).st_mode):
            raise OSError("something that is no pipe is there; remove it, or set alert_pipe")
        os.unlink(path)
    os.mkfifo(path, PIPE_MODE)
    os.chmod(path, PIPE_MODE)


def _is_at(handle: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    except OSError:
        return False


def _shown(data: bytes) -> str:
    """What to tell of what was written: the first line, and how many more there are."""
    lines = [line for line in data.split(b"\n") if line]
    first = quoted(lines[0].decode("ascii", "replace")) if lines else "an empty line"
    return first if len(lines) < 2 else f"{first} (and {len(lines) - 1} more)"


def register(pipe: str, clock: Clock, *, agent: str = AGENT, prefix: tuple[str, ...] = ()) -> str:
    """Have pacemaker run the agent on all members of this node's cluster, and say so; harmless when it does already.

    prefix: as in Pacemaker. Raises ConfigError when pacemaker could not run the agent, and Unavailable when it does not answer
    or refuses.
    """
    pacemaker = Pacemaker(clock, timeout_s=WAIT_S, prefix=prefix)
    if problem := agent_problem(agent):
        raise ConfigError([problem])
    if not registration_problem(pacemaker.cib(), agent, pipe):
        return f"pacemaker runs {agent} on every member already: nothing was changed"
    _change(pacemaker, alert_xml(agent, pipe))
    if problem := registration_problem(pacemaker.cib(), agent, pipe):
        raise Unavailable(f"pacemaker took the alert, and still {problem}; look at: cibadmin --query --scope alerts")
    return f"pacemaker runs {agent} on every member from now on; it must be at this path on all of them"


def _change(pacemaker: Pacemaker, xml: str) -> None:
    """Merge XML into the configuration of the cluster."""
    environ = {name: value for name, value in os.environ.items() if name == SHARED}
    environ.update(PATH=pacemaker.path, LC_ALL="C", TZ="UTC", HOME="/")
    deadline = pacemaker.clock.monotonic() + pacemaker.timeout_s
    # Merged into the whole configuration: a cluster that never had an alert has no section for them.
    words = ["cibadmin", "--modify", "--allow-create", "--scope", "configuration", "--xml-text", xml]
    done = run("cibadmin", [*pacemaker.prefix, *words], environ, pacemaker.clock, deadline)
    if done.status == BAD_SCHEMA:
        raise Unavailable(
            "the alert was not registered: the schema of this cluster's configuration is older than alerts with a selection "
            "(pacemaker 1.1.18); once all nodes run that or newer: cibadmin --upgrade --force"
        )
    if done.status:
        said = quoted(done.errors or done.output) or "nothing"
        raise Unavailable(f"the alert was not registered: cibadmin ended with {done.status}, and said: {said}")


def alert_xml(agent: str, pipe: str) -> str:
    """The configuration with which pacemaker tells the agent what becomes of nodes, and of fencing."""
    return (
        f'<configuration><alerts><alert id="{ALERT_ID}" path={quoteattr(agent)}>'
        "<select><select_nodes/><select_fencing/></select>"
        f'<recipient id="{ALERT_ID}-pipe" value={quoteattr(pipe)}/></alert></alerts></configuration>'
    )


def agent_problem(agent: str) -> str:
    """Why pacemaker, whose user is hacluster, can't run the agent on this node; empty when it can."""
    try:
        mode = os.stat(agent).st_mode
        folder = os.path.dirname(agent)
        while os.stat(folder).st_mode & stat.S_IXOTH and folder != "/":
            folder = os.path.dirname(folder)
    except OSError as error:
        return f"pacemaker can't run the alert agent {agent}: {error.strerror}"
    if folder != "/":
        return f"pacemaker can't run the alert agent {agent}: others may not enter {folder}; run: chmod o+x {folder}"
    if not stat.S_ISREG(mode) or mode & 0o005 != 0o005:
        return f"pacemaker can't run the alert agent {agent}: it is not executable for all; run: chmod 755 {agent}"
    return ""


def registration_problem(cib: str, agent: str, pipe: str) -> str:
    """Why pacemaker, by this CIB, doesn't tell the monitor of each node what happens; empty when it does."""
    try:
        alerts = ElementTree.fromstring(cib).findall("configuration/alerts/alert")
    except ElementTree.ParseError as error:
        return f"the CIB can't be read: {error}"
    ours = [alert for alert in alerts if alert.get("path") == agent]
    problems = [_fault(alert, pipe) for alert in ours]
    if "" in problems:
        return ""
    if problems:
        return problems[0]
    other = [quoted(alert.get("path", "")) for alert in alerts if alert.get("id") == ALERT_ID]
    return f"the alert {ALERT_ID} runs {other[0]} instead of {agent}" if other else f"no alert runs {agent}"


def _fault(alert: Element, pipe: str) -> str:
    name = f"the alert {quoted(alert.get('id', ''))}"
    options = {pair.get("name"): pair.get("value", "") for pair in alert.iterfind("meta_attributes/nvpair")}
    if options.get("enabled", "true").lower() in ("false", "off", "no", "n", "0"):
        return f"{name} is not enabled"
    pipes = [recipient.get("value", "") for recipient in alert.iterfind("recipient")] or [DEFAULT_PIPE]
    if pipe not in pipes:
        return f"{name} is for {quoted(', '.join(pipes))}, and not for {pipe}"
    select = alert.find("select")
    if select is not None and (select.find("select_nodes") is None or select.find("select_fencing") is None):
        return f"{name} does not select both nodes and fencing"
    return ""
