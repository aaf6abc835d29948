"""Command lines of the operator: read as a shell would read them, run within a time limit, and never held up by what they
leave running."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from masakari.common.clock import Clock
from processmonitor.commands import PATH, Commands, Result, named, plan, split, start_lines, which
from processmonitor.entry import Entry

ROOT = Path(__file__).resolve().parents[2]
WITHIN_S = 20.0
LINES = st.text(alphabet="ab;'\"\\ \t=-$*#", max_size=24)


def run(line: str, timeout_s: float = WITHIN_S, *, as_root: bool = False, **settings: object) -> Result:
    return Commands(Clock(), **settings).run(line, as_root=as_root, timeout_s=timeout_s)  # type: ignore[arg-type]


def until(holds: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < deadline, f"not within {WITHIN_S:g} s: {what}"
        time.sleep(0.01)


def lives(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


@pytest.fixture
def ended() -> Iterator[list[int]]:
    """Pids of processes that are to end with the test."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        if lives(pid):
            os.kill(pid, signal.SIGKILL)


# How a line is read


@pytest.mark.parametrize(
    "line, programs",
    [
        ("systemctl restart nova-compute", [["systemctl", "restart", "nova-compute"]]),
        ("stop a ; start a;", [["stop", "a"], ["start", "a"]]),
        ("; ;", []),
        ("", []),
        ("echo 'a;b' \"c;d\" e\\;f", [["echo", "a;b", "c;d", "e;f"]]),
        ("""echo "it's" 'a "b"' '$HOME' '*'""", [["echo", "it's", 'a "b"', "$HOME", "*"]]),
    ],
)
def test_a_line_is_programs_with_their_arguments(line: str, programs: list[list[str]]) -> None:
    assert plan(line) == programs


@pytest.mark.parametrize(
    "line",
    [
        "a | b", "a && b", "a || b", "a &", "a > /dev/null", "a < b", "a $HOME", 'a "$HOME"', 'a "`b`"', "a $(b)", "a *.conf",
        "a ~/b", "a # b", "a\nb", "cd /tmp; a", "A=1 a", "if a; then b; fi", "stop a; exec start a", ". /etc/default/a", "(a; b)",
        'a "\\$b"', "[ -e /a ]",
    ],
)  # fmt: skip
def test_a_line_that_needs_a_shell_goes_there_as_a_whole(line: str) -> None:
    assert plan(line) == [["/bin/sh", "-c", line]]


@pytest.mark.parametrize(
    "line, said", [("echo 'a", "a quote is not closed"), ("echo a\\", "a backslash"), ("a\0b", "null character")]
)
def test_a_line_that_makes_no_sense_is_not_run(line: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        plan(line)
    result = run(line)
    assert not result.ok and said in result.why


@given(LINES)
def test_splitting_loses_no_character(line: str) -> None:
    assert ";".join(split(line)) == line


@given(st.lists(st.lists(st.text(st.characters(exclude_characters="\0\n\r", codec="utf-8"))), max_size=3))
def test_what_is_quoted_is_neither_split_nor_changed(arguments: list[list[str]]) -> None:
    commands = [["run", *words] for words in arguments]
    assert plan(";".join(shlex.join(words) for words in commands)) == commands


@settings(max_examples=150)
@given(LINES)
@example("a\\ b 'c'\"d\";e")
@example('a "\\a\\"\\\\"')
def test_arguments_are_those_that_a_shell_would_find(line: str) -> None:
    try:
        programs = plan(line)
    except ValueError:
        return
    if programs and programs[0][0] == "/bin/sh":
        return
    script = "".join(f"set -- {piece}\n[ $# = 0 ] || printf '%s\\0' $# \"$@\"\n" for piece in split(line))
    done = subprocess.run(["/bin/sh", "-c", script], stdout=subprocess.PIPE, check=True)
    expected = [word for words in programs for word in (str(len(words)), *words)]
    assert done.stdout.decode() == "".join(f"{word}\0" for word in expected)


def entry(name: str, start: str, *, run_as_root: bool = False) -> Entry:
    return Entry(name, name, start, "restart", "", "", "", "", run_as_root, "disable", f"list:{name}")


def test_a_line_is_named_without_its_arguments_which_may_be_secret() -> None:
    assert named("/opt/start --password x") == "`/opt/start`"
    assert named("stop 'a;b'; start c") == "`stop`, `start`"
    assert named("PASSWORD=x start") == named("echo x | start") == "a shell line"
    assert named("PASSWORD='x") == "a line that can't be read"
    assert named("") == "nothing"


def test_equal_start_commands_are_one_line() -> None:
    a, b, c = entry("a", "start x"), entry("b", "start y"), entry("c", " start x ")
    as_root, none = entry("d", "start x", run_as_root=True), entry("e", "")
    assert start_lines([a, b, c, as_root, none]) == [("start x", [a, c]), ("start y", [b]), ("start x", [as_root])]


def test_a_program_is_found_on_the_path_or_by_its_file(tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    assert which("tool", str(tmp_path)) == ""
    (tmp_path / "tool").chmod(0o755)
    assert which("tool", f"/nowhere:{tmp_path}") == which(f"{tmp_path}/tool") == str(tmp_path / "tool")
    assert which(str(tmp_path)) == ""


# How it is run


def test_a_program_gets_its_arguments_and_its_output_is_returned() -> None:
    result = run("printf '%s.' a 'b;c' \"d  e\"")
    assert (result.ok, result.why, result.output) == (True, "", "a.b;c.d  e.")
    assert 0 < result.seconds < WITHIN_S


def test_the_last_command_decides_and_a_failure_before_it_is_told() -> None:
    result = run("echo one; false; echo two")
    assert (result.ok, result.output) == (True, "one | [`false` ended with 1] | two")
    result = run("echo one; sh -c 'exit 3'")
    assert (result.ok, result.why) == (False, "`sh` ended with 3")


def test_a_shell_line_runs_in_one_shell() -> None:
    result = run("A=1; cd /tmp && echo $A $(pwd) 2>&1 | cat")
    assert (result.ok, result.output) == (True, "1 /tmp")


def test_a_command_killed_by_a_signal_says_so() -> None:
    assert run("kill -9 $$").why == "a shell line was killed by SIGKILL"


def test_no_command_is_no_failure() -> None:
    assert run("").ok


def script(path: Path, text: str, mode: int = 0o755) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_a_command_that_cannot_be_started_says_why(tmp_path: Path) -> None:
    assert run("no-such-program -x").why == (
        f"`no-such-program` can't be started: there is no program no-such-program in {PATH}"
    )
    locked, odd = script(tmp_path / "locked", "#!/bin/sh\n", 0o644), script(tmp_path / "odd", "#!/no/interpreter\n")
    assert run(locked).why == f"`{locked}` can't be started: Permission denied"
    assert (
        run(odd).why == f"`{odd}` can't be started: the interpreter that the first line of {odd} names does not exist"
    )


def test_a_script_without_an_interpreter_line_is_run_by_the_shell(tmp_path: Path) -> None:
    hook = script(tmp_path / "a hook", "echo told $1\n")
    assert run(f"{shlex.quote(hook)} 'the pager'").output == "told the pager"


def test_nothing_of_ours_reaches_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OS_PASSWORD", "NOTIFY_SOCKET", "LD_PRELOAD", "WATCHDOG_PID"):
        monkeypatch.setenv(name, "secret-1")
    lines = {word.partition("=")[0] for word in run("env").output.split(" | ")}
    assert lines == {"PATH", "LANG", "HOME"}
    descriptor = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(descriptor, True)
    try:
        assert run("ls /proc/self/fd").output == "0 | 1 | 2 | 3"  # 3 is the folder that ls reads
    finally:
        os.close(descriptor)


def test_a_command_has_no_input_and_an_ordinary_umask_in_a_session_of_its_own() -> None:
    previous = os.umask(0o077)
    try:
        result = run("cat; umask; cut -d' ' -f6 /proc/self/stat; echo $$")
    finally:
        os.umask(previous)
    mask, session, shell = result.output.split(" | ")
    assert (mask, session) == ("0022", shell)


def test_root_is_asked_for_through_sudo_only_if_we_are_not_root(tmp_path: Path) -> None:
    script(tmp_path / "sudo", '#!/bin/sh\necho sudo "$@"\n')
    path = f"{tmp_path}:{PATH}"
    assert (
        run("echo a; echo b", as_root=True, path=path, is_root=False).output == "sudo -n -- echo a | sudo -n -- echo b"
    )
    assert run("echo $((1))", as_root=True, path=path, is_root=False).output == "sudo -n -- /bin/sh -c echo $((1))"
    assert run("echo a", as_root=True, path=path, is_root=True).output == "a"
    assert run("echo a", as_root=False, path=path, is_root=False).output == "a"


# Output


def test_the_beginning_of_the_output_is_kept_and_no_control_character() -> None:
    result = run("printf '\\n\\033[31mred\\007\\n\\342\\200\\256first\\n'; seq 1 100000")
    assert result.output.startswith(r"\x1b[31mred\x07 | \u202efirst | 1 | 2 | ")
    assert result.output.endswith(" …")
    assert len(result.output) < 3 * 4096
    assert result.output.isprintable()


def test_bytes_that_are_no_text_are_harmless() -> None:
    assert run(r"printf 'a\377\200b'").output == "a\ufffd\ufffdb"


# Time


class Jump(Clock):
    """The real time, and an hour more as soon as a file is there: time limits end when the test is ready for it."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def monotonic(self) -> float:
        return super().monotonic() + (3600 if self._file.exists() else 0)


def test_a_command_that_takes_too_long_is_killed_with_its_children_and_the_rest_is_not_run(tmp_path: Path) -> None:
    ready, rest = tmp_path / "ready", tmp_path / "rest"
    hang = script(tmp_path / "hang", f"#!/bin/sh\nsleep 600 &\necho $!\necho $$\ntouch {ready}\nwait\n")
    result = Commands(Jump(ready)).run(f"{hang}; touch {rest}", as_root=False, timeout_s=60)
    assert result.why == f"`{hang}` took longer than 60 s and was killed; not run: `touch`"
    assert not rest.exists()
    child, parent = (int(pid) for pid in result.output.split(" | ")[:2])
    until(lambda: not lives(child) and not lives(parent), "the command and its child are gone")


def test_a_command_that_ignores_sigterm_is_killed_all_the_same(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    text = f"#!/bin/sh\ntrap '' TERM\necho $$\ntouch {ready}\nwhile :; do sleep 0.05; done\n"
    deaf = script(tmp_path / "deaf", text)
    result = Commands(Jump(ready), kill_after_s=0.3).run(deaf, as_root=False, timeout_s=60)
    assert result.why == f"`{deaf}` took longer than 60 s and was killed"
    assert not lives(int(result.output))


def test_a_command_may_end_by_itself_after_sigterm(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    text = f"#!/bin/sh\ntrap 'echo bye; exit 0' TERM\ntouch {ready}\nwhile :; do sleep 0.05; done\n"
    polite = script(tmp_path / "polite", text)
    result = Commands(Jump(ready), kill_after_s=WITHIN_S).run(polite, as_root=False, timeout_s=60)
    assert not result.ok and result.output.endswith("bye")


def test_what_runs_as_root_is_killed_through_sudo_also_in_a_session_of_its_own(
    tmp_path: Path, ended: list[int]
) -> None:
    ready = tmp_path / "ready"
    script(tmp_path / "sudo", '#!/bin/sh\nshift 2\nsetsid "$@" &\nwait\n')
    slow = script(tmp_path / "slow", f"#!/bin/sh\necho $$\ntouch {ready}\nexec sleep 600\n")
    commands = Commands(Jump(ready), path=f"{tmp_path}:{PATH}", is_root=False)
    result = commands.run(slow, as_root=True, timeout_s=60)
    assert result.why == f"`{slow}` took longer than 60 s and was killed"
    ended.append(int(result.output.split(" | ")[0]))
    until(lambda: not lives(ended[0]), "the command is gone")


def test_endless_output_ends_at_the_time_limit_if_not_before() -> None:
    result = run("yes", 0.5)
    assert not result.ok
    assert len(result.output) < 3 * 4096


def test_a_daemon_that_keeps_the_output_open_is_not_waited_for(ended: list[int]) -> None:
    result = run("sleep 600 & echo $!")
    ended.append(int(result.output))
    assert result.ok and result.seconds < WITHIN_S / 2
    assert lives(ended[0])


DAEMON = """#!/bin/sh
(
    while [ ! -e {go} ]; do sleep 0.02; done
    i=0; while [ $i -lt 200 ]; do printf '%1000s' noise; i=$((i + 1)); done
    echo $? > {end}.new; mv {end}.new {end}
) &
"""
STARTER = """
from masakari.common.clock import Clock
from processmonitor.commands import Commands
print(Commands(Clock()).run({hook!r}, as_root=False, timeout_s=20))
"""


def test_a_daemon_survives_our_end_however_much_it_prints(tmp_path: Path) -> None:
    hook = script(tmp_path / "start", DAEMON.format(go=tmp_path / "go", end=tmp_path / "end"))
    done = subprocess.run(
        [sys.executable, "-c", STARTER.format(hook=hook)], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    assert done.stdout.startswith("Result(ok=True")
    (tmp_path / "go").touch()
    until((tmp_path / "end").exists, "the daemon has printed all of it and goes on")


WAITS = """#!/bin/sh
echo $$ > {folder}/new; mv {folder}/new {folder}/pid
while [ ! -e {folder}/go ]; do sleep 0.02; done
i=0; while [ $i -lt 200 ]; do printf '%10000s' noise; i=$((i + 1)); done
touch {folder}/end
"""


def test_a_command_gets_to_its_end_though_we_are_killed_however_much_it_prints(
    tmp_path: Path, ended: list[int]
) -> None:
    hook = script(tmp_path / "start", WAITS.format(folder=tmp_path))
    with subprocess.Popen([sys.executable, "-c", STARTER.format(hook=hook)], cwd=ROOT) as starter:
        until((tmp_path / "pid").exists, "the command runs")
        ended.append(int((tmp_path / "pid").read_text()))
        starter.kill()
    (tmp_path / "go").touch()
    until((tmp_path / "end").exists, "the command has printed all of it and goes on")


def test_a_line_may_finish_while_we_are_stopped(tmp_path: Path) -> None:
    stopping = threading.Event()
    stopping.set()
    line = f"sleep 0.1; touch {tmp_path}/rest"
    assert Commands(Clock()).run(line, as_root=False, timeout_s=WITHIN_S, stopping=stopping).ok
    assert (tmp_path / "rest").exists()


def test_a_slow_command_is_left_to_itself_when_we_are_stopped(tmp_path: Path, ended: list[int]) -> None:
    stopping = threading.Event()
    text = f"#!/bin/sh\necho $$ > {tmp_path}/new\nmv {tmp_path}/new {tmp_path}/pid\nexec sleep 600\n"
    slow = script(tmp_path / "slow", text)
    results: list[Result] = []
    commands = Commands(Clock(), finish_within_s=0.2)
    thread = threading.Thread(
        target=lambda: results.append(
            commands.run(f"{slow}; echo rest", as_root=False, timeout_s=600, stopping=stopping)
        )
    )
    thread.start()
    until((tmp_path / "pid").exists, "the command runs")
    ended.append(int((tmp_path / "pid").read_text()))
    stopping.set()
    thread.join(WITHIN_S)
    assert [result.why for result in results] == [
        f"`{slow}` still ran when the processmonitor was stopped, and is left to itself; not run: `echo`"
    ]
    assert lives(ended[0])


def test_threads_run_commands_at_once_and_each_gets_its_own_output() -> None:
    results: dict[int, Result] = {}

    def work(number: int) -> None:
        results[number] = run(f"seq {number} {number + 20}; sleep 0.2; seq {number} {number + 20}; (exit {number})")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WITHIN_S)
    for number in range(1, 9):
        expected = [str(n) for n in range(number, number + 21)] * 2
        assert results[number].output.split(" | ") == expected
        assert results[number].why.endswith(f"ended with {number}")


def test_a_hundred_runs_leave_no_descriptor_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        run("true")
        run("no-such-program")
    assert len(os.listdir("/proc/self/fd")) == before
