"""process_list.yaml: what it may say, and that merged entries and everything else that is wrong in it is told at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masakari.common.errors import ConfigError
from processmonitor import process_yaml, proclist
from processmonitor.entry import Entry
from processmonitor.proclist import Lists

ROOT = Path(__file__).resolve().parents[2]
REPORT_ONLY = ("sshd", "masakari-", "instancemonitor", "hostmonitor")

SOUND = "- process_name: a\n  start_command: /bin/true\n  restart_command: /bin/true\n"

# As published in a guide to a later Masakari: the dash between the second and the third process is commented out.
GUIDE = """\
-
    # libvirt-bin
    process_name: /usr/sbin/libvirtd
    start_command: /bin/true start libvirtd
    pre_start_command:
    post_start_command:
    restart_command: /bin/true restart libvirtd
    pre_restart_command:
    post_restart_command:
    run_as_root: True
-
    # instancemonitor
    process_name:  /usr/local/bin/masakari-instancemonitor
    start_command: /bin/true start masakari-instancemonitor
    pre_start_command:
    post_start_command:
    restart_command: /bin/true restart masakari-instancemonitor
    pre_restart_command:
    post_restart_command:
    run_as_root: True
    #-
    # hostmonitor
    process_name: /usr/bin/python /usr/local/bin/masakari-hostmonitor
    start_command: /bin/true start masakari-hostmonitor
    pre_start_command:
    post_start_command:
    restart_command: /bin/true restart masakari-hostmonitor
    pre_restart_command:
    post_restart_command:
    run_as_root: True
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "process_list.yaml"
    path.touch(mode=0o644)
    return path


def load(file: Path, text: str, report_only: tuple[str, ...] = REPORT_ONLY) -> Lists:
    file.write_text(text)
    return process_yaml.load(str(file), report_only)


def problems(file: Path, text: str) -> list[str]:
    """What is wrong with a file of that text, without its path."""
    with pytest.raises(ConfigError) as caught:
        load(file, text)
    return [problem.removeprefix(str(file)) for problem in caught.value.problems]


def test_the_list_of_the_guide_is_read_once_its_dash_is_back(file: Path) -> None:
    found = load(file, GUIDE.replace("    #-\n", "-\n"))
    assert found.warnings == ()
    first, second, third = found.entries
    assert first == Entry(
        id="1",
        name="/usr/sbin/libvirtd",
        start="/bin/true start libvirtd",
        restart="/bin/true restart libvirtd",
        pre_start="",
        post_start="",
        pre_restart="",
        post_restart="",
        run_as_root=True,
        on_failure="disable",
        where=f"{file}:3",
    )
    assert (second.id, second.on_failure, third.id, third.on_failure) == ("2", "report", "3", "report")
    assert third.name == "/usr/bin/python /usr/local/bin/masakari-hostmonitor"


def test_two_entries_that_are_merged_are_told_with_the_line_of_the_lost_dash(file: Path) -> None:
    assert problems(file, GUIDE) == [
        ":23: process_name: written twice, on lines 13 and 23; also start_command (14 and 24), pre_start_command (15 and 25), "
        "post_start_command (16 and 26), restart_command (17 and 27), pre_restart_command (18 and 28), "
        "post_restart_command (19 and 29), run_as_root (20 and 30); two entries are merged: the '-' that begins the second is "
        "missing or commented out, see line 21"
    ]


@pytest.mark.parametrize(
    "lost, line", [("#- process_name: b\n  ", 4), ("  # - # b\n  ", 4), ("  ", 4), ("# - see there\n  ", 5)]
)
def test_a_dash_can_be_lost_in_several_ways(file: Path, lost: str, line: int) -> None:
    [problem] = problems(file, SOUND + lost + SOUND.replace(": a", ": b")[2:])
    assert "on lines 1 and" in problem
    assert problem.endswith(
        f"two entries are merged: the '-' that begins the second is missing or commented out, see line {line}"
    )


def test_three_merged_entries_are_one_problem_with_both_places(file: Path) -> None:
    [problem] = problems(file, SOUND + 2 * (" " + SOUND[1:]))
    assert "process_name: written twice, on lines 1 and 4 and 7" in problem
    assert problem.endswith("see line 4 and 7")


def test_a_single_key_written_twice_is_not_taken_for_two_entries(file: Path) -> None:
    assert problems(file, SOUND + "  restart_command: /bin/false\n") == [
        ":4: restart_command: written twice, on lines 3 and 4; keep one of them"
    ]


def test_a_process_may_say_less_and_more(file: Path) -> None:
    [entry] = load(file, SOUND).entries
    assert (entry.run_as_root, entry.on_failure, entry.pre_start, entry.post_restart) == (False, "disable", "", "")
    more = "  on_failure: report\n  run_as_root: yes\n  pre_start_command: /bin/true 'a; b' | cat\n  post_restart_command: ''\n"
    [fuller] = load(file, SOUND + more).entries
    assert fuller == replace(entry, on_failure="report", run_as_root=True, pre_start="/bin/true 'a; b' | cat")


def test_what_the_file_says_about_a_failure_comes_before_the_words(file: Path) -> None:
    text = SOUND.replace(": a", ": /usr/sbin/sshd")
    assert load(file, text).entries[0].on_failure == "report"
    assert load(file, text + "  on_failure: disable\n").entries[0].on_failure == "disable"


def test_all_problems_are_told_at_once_with_their_lines(file: Path) -> None:
    text = (
        "- process_name: a\n"
        "  start_comand: /bin/true\n"
        "  restart_command: [/bin/true, b]\n"
        "  run_as_root: 'true'\n"
        "- process_name: 5\n"
        "  start_command: /bin/echo 'b\n"
        "  restart_command:\n"
        "  run_as_root: 1\n"
        "  on_failure: ignore\n"
        "  pre_start_command: on\n"
        "- just text\n"
        "-\n"
        "- process_name: ''\n"
        "  start_command: /bin/true\n"
        "  restart_command: 2026-11-21\n"
        "  timeout: 3\n"
    )
    known = ", ".join(process_yaml.KEYS)
    starts, restarts = (
        "the command that starts the process when the processmonitor begins",
        "the command that starts the process",
    )
    assert problems(file, text) == [
        f":1: start_command: is missing; write {starts}",
        ":2: start_comand: unknown key; did you mean start_command?",
        ":3: restart_command: must be text, but is a list; write it on one line; commands are joined by ';'",
        ":4: run_as_root: must be true or false, but is text; write one of the two without quotes",
        ":5: process_name: must be text, but is a number (5); put quotes around it",
        ":6: start_command: can't be run: a quote is not closed; put quotes and backslashes in pairs",
        f":7: restart_command: is missing; write {restarts} again when it died",
        ":8: run_as_root: must be true or false, but is a number (1); write one of the two without quotes",
        ":9: on_failure: must be disable or report, not 'ignore'; disable takes the host out of Nova's scheduling",
        ":10: pre_start_command: must be text, but is true or false (on); put quotes around it",
        ":11: is text, not a process; write process_name and the other keys behind the '-'",
        ":12: is nothing, not a process; write process_name and the other keys behind the '-'",
        ":13: process_name: is missing; write what stands in the command line of the process",
        ":15: restart_command: must be text, but is a date (2026-11-21); put quotes around it",
        f":16: timeout: unknown key; known are {known}",
    ]


@pytest.mark.parametrize(
    "text, said",
    [
        ("- process_name: a: b\n", ":1: is not YAML: mapping values are not allowed here; look at the indentation"),
        (
            "- process_name: a\n\tstart_command: b\n",
            ":2: is not YAML: found character '\\t' that cannot start any token",
        ),
        ("- process_name: 'a\n", ":2: is not YAML: found unexpected end of stream"),
        ("---\n[]\n---\n[]\n", ":3: is not YAML: but found another document"),
        ("- \x01\n", ": is not YAML: unacceptable character #x0001"),
        (SOUND.replace("-", " ", 1), ":1: is a mapping, not a list; write a '-' before the keys of each process"),
        ("process list\n", ":1: is text, not a list"),
        ("", ": lists no process, so nothing would be watched"),
        ("# nothing\n---\n", ": lists no process"),
        ("[]\n", ": lists no process"),
    ],
)
def test_what_is_no_list_of_processes_is_told_with_its_line(file: Path, text: str, said: str) -> None:
    [problem] = problems(file, text)
    assert problem.startswith(said)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 3000,
        "- " * 3000,
        "{a: " * 3000,
        '- "\\UFFFFFFFF"\n',
        '- "\\U0011FFFF"\n',
        f"%YAML 1.{'9' * 5000}\n--- a\n",
    ],
)
def test_what_the_yaml_reader_stumbles_over_is_told_with_the_file(file: Path, text: str) -> None:
    [problem] = problems(file, text)
    assert problem.startswith(": can't be read as YAML: ")
    assert len(problem) < 300


def test_a_list_that_contains_itself_is_refused(file: Path) -> None:
    assert problems(file, "- &a [*a]\n")[0].startswith(":1: is a list, not a process")
    assert any(": process_name: must be text" in problem for problem in problems(file, "- &a {process_name: *a}\n"))


def test_a_file_that_is_far_too_big_is_refused_whatever_it_is(file: Path) -> None:
    assert problems(file, "# \n" * 400_000) == [": is bigger than 1 MiB, which no list of processes is"]
    with pytest.raises(ConfigError, match="/dev/zero: is bigger than 1 MiB"):
        process_yaml.load("/dev/zero", REPORT_ONLY)


def test_a_long_list_is_read_in_no_time(file: Path) -> None:
    assert len(load(file, "".join(SOUND.replace(": a", f": a{number}") for number in range(5000))).entries) == 5000


def test_nothing_in_the_file_is_built_or_run(file: Path) -> None:
    text = SOUND.replace("/bin/true", "!!python/object/apply:os.system ['false']", 1)
    assert problems(file, text) == [
        ":2: start_command: must be text, but is a value of the type tag:yaml.org,2002:python/object/apply:os.system; "
        "write it on one line; commands are joined by ';'"
    ]


def test_a_name_on_several_lines_is_refused(file: Path) -> None:
    [problem] = problems(file, SOUND.replace(": a", ": |\n    a\n    b"))
    assert problem == ":1: process_name: has a control character in it; write it on one line, without any"


def test_a_name_that_stands_twice_and_a_program_that_is_not_there_are_warnings(file: Path) -> None:
    text = SOUND + SOUND.replace("start_command: /bin/true", "start_command: /no/such", 1)
    assert [warning.removeprefix(str(file)) for warning in load(file, text).warnings] == [
        ":4: process_name: 'a' again, as on line 1: one of the two is enough",
        ":5: start_command: there is no program '/no/such' on this host; the command will fail",
    ]


@given(
    st.lists(
        st.sampled_from(
            [*SOUND.splitlines(), "-", "  ", "  run_as_root: yes", "? a", "- [", "*a", "&a x", "<<: b", "\t"]
        )
    )
)
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    file = tmp_path_factory.getbasetemp() / "generated.yaml"
    file.write_text("\n".join(lines))
    try:
        found = process_yaml.load(str(file), REPORT_ONLY)
    except ConfigError as error:
        assert all(problem.startswith(f"{file}:") for problem in error.problems)
    else:
        assert all(entry.name and entry.start and entry.restart for entry in found.entries)


def test_the_sample_says_the_same_as_that_of_the_other_form() -> None:
    entries = process_yaml.load(str(ROOT / "etc/processmonitor/process_list.yaml"), REPORT_ONLY).entries
    others = proclist.load(str(ROOT / "etc/processmonitor/proc.list"), REPORT_ONLY).entries
    assert all(entry.run_as_root for entry in entries)
    assert [replace(entry, run_as_root=False, where="") for entry in entries] == [
        replace(other, where="") for other in others
    ]
