"""The pipe that pacemaker's alert agent pokes, the agent itself, and what the CIB must say about it."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from hostmonitor.alerts import AGENT, ALERT_ID, GAP_S, AlertPipe, agent_problem, alert_xml, registration_problem
from tests.lab.mariadb import until

PIPE = "/run/masakari/hostmonitor.alert"
WITHIN_S = 10.0
SOON_S = 5.0  # an agent that waits for somebody waits for ever
HOSTILE = "a\nb\x00c".replace("\x00", "\x01") + "é\t%s$(touch owned)`touch owned`\\n'\"; touch owned #"


class Heard:
    """What a listening pipe has told, and when."""

    def __init__(self, path: Path, **options: float) -> None:
        self.told: list[tuple[float, str]] = []
        self.pipe = AlertPipe(str(path), lambda text: self.told.append((time.monotonic(), text)), **options)

    @property
    def texts(self) -> list[str]:
        return [text for _, text in self.told]

    def until(self, many: int) -> None:
        until(lambda: len(self.told) >= many, WITHIN_S, lambda: f"only {self.told} was told")


@contextmanager
def listening(path: Path, ready: bool = True, **options: float) -> Iterator[Heard]:
    """A pipe with its thread, which ends as those of the daemon do."""
    heard, stopping = Heard(path, **options), threading.Event()
    thread = threading.Thread(target=heard.pipe.run, args=(stopping,))
    thread.start()
    try:
        if ready:
            until(lambda: has_reader(path), WITHIN_S, lambda: f"nobody listens: {heard.pipe.problem}")
        yield heard
    finally:
        stopping.set()
        heard.pipe.stop()
        thread.join(WITHIN_S)
        assert not thread.is_alive()


def has_reader(path: Path) -> bool:
    """Whether somebody listens at a pipe."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def write(path: Path, text: bytes) -> None:
    with path.open("wb", buffering=0) as file:
        file.write(text)


def agent(pipe: Path | str, kind: str = "node", node: str = "node3", desc: str = "lost") -> float:
    """Run the agent as pacemaker does; how long it took."""
    names = {"CRM_alert_recipient": str(pipe), "CRM_alert_kind": kind, "CRM_alert_node": node, "CRM_alert_desc": desc}
    return run_agent(names)


def run_agent(names: dict[str, str]) -> float:
    began = time.monotonic()
    done = subprocess.run(
        [AGENT], env={"PATH": "/usr/bin:/bin", **names}, capture_output=True, timeout=SOON_S, stdin=subprocess.DEVNULL
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    return time.monotonic() - began


def test_what_is_written_is_told(tmp_path: Path) -> None:
    path = tmp_path / "alert"
    with listening(path) as heard:
        agent(path)
        heard.until(1)
        agent(path, "fencing", "node3", "Operation off of node3 by node2: OK")
        heard.until(2)
    assert heard.texts == ["node node3 lost", "fencing node3 Operation off of node3 by node2: OK"]


def test_a_flood_is_told_a_few_times_and_holds_nobody_up(tmp_path: Path) -> None:
    path = tmp_path / "alert"
    with listening(path) as heard, path.open("wb", buffering=0) as file:
        for _ in range(60):
            file.write(b"node node3 lost\n" * 256)  # 240 KiB in all: the pipe is full several times over
        heard.until(4)
        file.write(b"the end\n")
        until(lambda: "the end" in heard.texts[-1] or "more" in heard.texts[-1], WITHIN_S, lambda: str(heard.texts))
    times = [at for at, _ in heard.told]
    assert len(times) < 60
    assert all(later - earlier >= GAP_S * 0.9 for earlier, later in pairwise(times))
    assert any(text.startswith("node node3 lost (and ") for text in heard.texts)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (b"\n", "an empty line"),
        (b"no end of line", "no end of line"),
        (b"\x1b[31mred\x07\n", "[31mred"),
        (b"\xff\n", "\N{REPLACEMENT CHARACTER}"),
        (b"x" * 5000 + b"\n", "x" * 197 + "..."),
    ],
)
def test_whatever_is_written_is_one_short_line_for_a_terminal(tmp_path: Path, written: bytes, told: str) -> None:
    path = tmp_path / "alert"
    with listening(path) as heard:
        write(path, written)
        heard.until(1)
    assert heard.texts == [told]


def test_every_user_may_write_and_none_may_read_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "made" / "alert"
    before = os.umask(0o077)
    try:
        with listening(path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o622
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
    finally:
        os.umask(before)


def test_the_pipe_is_gone_with_its_reader_and_one_left_over_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "alert"
    os.mkfifo(path, 0o600)
    with listening(path) as heard:
        assert stat.S_IMODE(path.stat().st_mode) == 0o622
        agent(path)
        heard.until(1)
    assert not path.exists()


def test_something_else_at_its_path_is_kept_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "alert"
    path.write_text("somebody's")
    with caplog.at_level(logging.INFO), listening(path, ready=False, check_every_s=0.02) as heard:
        until(lambda: "no pipe" in heard.pipe.problem, WITHIN_S, lambda: heard.pipe.problem)
        assert path.read_text() == "somebody's"
        path.unlink()
        until(lambda: has_reader(path), WITHIN_S, lambda: heard.pipe.problem)
        until(lambda: not heard.pipe.problem, WITHIN_S, lambda: heard.pipe.problem)
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert str(path) in errors[0]
    assert "alert_pipe" in errors[0]


def test_a_pipe_that_somebody_removed_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "alert"
    with listening(path, check_every_s=0.02) as heard:
        path.unlink()
        until(lambda: has_reader(path), WITHIN_S, lambda: "it is not there again")
        agent(path)
        heard.until(1)


def test_hostile_variables_make_one_short_line(tmp_path: Path) -> None:
    path = tmp_path / "alert"
    for words in ((HOSTILE, HOSTILE, HOSTILE), ("-n", "-e", "\\c"), ("%s%n", "*", "~"), ("x" * 60000, "", "")):
        with listening(path) as heard:
            agent(path, *words)
            heard.until(1)
        assert len(heard.texts) == 1
        assert "more" not in heard.texts[0]
    assert not list(tmp_path.glob("owned"))
    assert not Path("owned").exists()


def test_the_agent_writes_200_bytes_at_most(tmp_path: Path) -> None:
    path = tmp_path / "alert"
    os.mkfifo(path)
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as reader:
        agent(path, "node", HOSTILE, "lost " * 1000)
        line = reader.read()
    assert line.startswith(b"node a?b?c??")
    assert (len(line), line.count(b"\n"), line[-1:]) == (200, 1, b"\n")
    assert line[:-1].decode("ascii").isprintable()


def test_the_agent_waits_for_nobody(tmp_path: Path) -> None:
    path = tmp_path / "alert"
    agent(path)
    assert not path.exists()
    os.mkfifo(path)
    agent(path)  # nobody reads
    with os.fdopen(os.open(path, os.O_RDWR | os.O_NONBLOCK), "r+b", buffering=0) as full:
        while full.write(b"x" * 4096):
            pass
        agent(path)
    plain = tmp_path / "plain"
    plain.write_text("somebody's")
    agent(plain)
    assert plain.read_text() == "somebody's"
    run_agent({"CRM_alert_recipient": str(tmp_path)})
    run_agent({})


def test_the_agent_is_a_program_for_every_posix_shell() -> None:
    assert os.access(AGENT, os.X_OK)
    assert Path(AGENT).read_text(encoding="ascii").startswith("#!/bin/sh\n")
    subprocess.run(["dash", "-n", AGENT], check=True)


def cib(configuration: str) -> str:
    return f"<cib>{configuration}<status/></cib>"


def alert(inner: str, path: str = "/agent", name: str = "mine") -> str:
    found = f'<alert id="{name}" path="{path}">{inner}</alert>'
    return cib(f"<configuration><crm_config/><alerts>{found}</alerts></configuration>")


SELECT = "<select><select_nodes/><select_fencing/></select>"
RECIPIENT = f'<recipient id="r" value="{PIPE}"/>'


@pytest.mark.parametrize(
    "found",
    [
        cib(alert_xml("/agent", PIPE)),
        alert(SELECT + RECIPIENT),
        alert(RECIPIENT),
        alert(""),
        alert('<recipient id="q" value="/other"/>' + RECIPIENT),
        cib(
            '<configuration><alerts><alert id="off" path="/agent"><meta_attributes id="m"><nvpair id="n" name="enabled" '
            f'value="false"/></meta_attributes></alert><alert id="on" path="/agent">{RECIPIENT}</alert></alerts></configuration>'
        ),
    ],
)
def test_an_agent_that_pacemaker_runs_is_registered_whoever_did_it(found: str) -> None:
    assert registration_problem(found, "/agent", PIPE) == ""


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (cib("<configuration/>"), "no alert runs /agent"),
        (cib(alert_xml("/elsewhere", PIPE)), f"the alert {ALERT_ID} runs /elsewhere instead of /agent"),
        (alert(RECIPIENT, path="/other"), "no alert runs /agent"),
        (cib(alert_xml("/agent", "/other")), f"the alert {ALERT_ID} is for /other, and not for {PIPE}"),
        (
            alert("<select><select_nodes/></select>" + RECIPIENT),
            "the alert mine does not select both nodes and fencing",
        ),
        (alert("<select><select_fencing/></select>"), "the alert mine does not select both nodes and fencing"),
        (
            alert(
                '<meta_attributes id="m"><nvpair id="n" name="enabled" value="false"/></meta_attributes>' + RECIPIENT
            ),
            "the alert mine is not enabled",
        ),
        ("<cib>", "the CIB can't be read: no element found: line 1, column 5"),
    ],
)
def test_what_is_wrong_with_a_registration_is_told(found: str, problem: str) -> None:
    assert registration_problem(found, "/agent", PIPE) == problem


def test_paths_are_quoted_in_xml() -> None:
    odd = "/a\"b&c<d'e"
    recipient = ElementTree.fromstring(alert_xml("/agent", odd)).find("alerts/alert/recipient")
    assert recipient is not None
    assert recipient.get("value") == odd
    assert registration_problem(cib(alert_xml(odd, odd)), odd, odd) == ""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that nobody else may enter, in one that everybody may: pytest's own are for one user."""
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        yield Path(made)


def test_an_agent_that_hacluster_cannot_run_is_told(folder: Path) -> None:
    path = folder / "alert-agent"
    assert agent_problem(str(path)).endswith("alert-agent: No such file or directory")
    path.write_text("#!/bin/sh\n")
    path.chmod(0o644)
    assert f"chmod o+x {folder}" in agent_problem(str(path))
    folder.chmod(0o755)
    assert f"chmod 755 {path}" in agent_problem(str(path))
    path.chmod(0o755)
    assert agent_problem(str(path)) == ""
