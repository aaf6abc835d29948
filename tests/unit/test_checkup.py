"""What the online checks of all components share: rows, table, progress, command line; the trial of a controller; traps."""

from __future__ import annotations

import argparse
import json
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest

from masakari.common import checkup, traps, trial
from masakari.common.checkup import (
    Check,
    Outcome,
    Questions,
    as_json,
    as_table,
    from_json,
    not_ok,
    of_clock,
    ok,
    status,
    warning,
)
from masakari.common.errors import Unavailable
from masakari.common.notification import parse
from masakari.common.post import Answer
from masakari.common.program import Loaded, Program
from masakari.common.report import Origin
from masakari.failures import TEST, classify

ORIGIN = Origin("compute1", "RegionOne", "226.94.1.1:5405", "boot")
NOW = 1_800_000_000.0


# Rows


def test_the_table_is_aligned_and_has_what_to_do_below() -> None:
    rows = [ok("keys", "of 3 hosts"), not_ok("a longer subject", "one two three four five", "do this")]
    assert as_table(rows, 70).splitlines() == [
        "ok       keys              of 3 hosts",
        "NOT OK   a longer subject  one two three four five",
        "                           -> do this",
    ]


def test_long_text_is_wrapped_below_itself() -> None:
    lines = as_table([ok("x", "word " * 30)], 60).splitlines()
    assert len(lines) > 2
    assert all(len(line) <= 60 for line in lines)
    assert all(line.startswith(" " * 12 + "word") for line in lines[1:])


def test_text_from_outside_can_not_play_with_the_terminal() -> None:
    assert as_table([ok("x", "a\x1b[31m\nb")]) == "ok       x  a [31m b"


def test_a_row_is_the_same_after_json() -> None:
    row = not_ok("x", 'quotes " and\nlines', "do")
    assert from_json(as_json(row)) == row
    assert "\n" not in as_json(row)


def test_a_row_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="no such state"):
        from_json(json.dumps({"subject": "x", "state": "fine", "text": "y"}))


def test_only_what_is_not_ok_makes_the_exit_status_1() -> None:
    assert status([ok("a", ""), warning("b", ""), checkup.skipped("c", "")]) == 0
    assert status([ok("a", ""), not_ok("b", "")]) == 1


@pytest.mark.parametrize(
    ("ahead_s", "state", "words"),
    [
        (0.4, "ok", "less than a second"),
        (-4, "ok", "4 s behind"),
        (9, "WARNING", "9 s ahead"),
        (-16, "NOT OK", "16 s behind"),
    ],
)
def test_a_clock(ahead_s: float, state: str, words: str) -> None:
    row = of_clock("clock", "its clock", ahead_s, 15)
    assert (row.state, words in row.text) == (state, True)


# Running


def test_an_error_of_ours_is_a_row_and_the_checks_go_on() -> None:
    def away() -> Iterable[Outcome]:
        raise Unavailable("it is\naway")

    found = list(checkup.run([("first", away), ("second", lambda: [ok("second", "well")])], print))
    assert found == [not_ok("first", "it is away"), ok("second", "well")]


def test_a_check_that_takes_long_says_so() -> None:
    said = threading.Event()
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        said.set()

    def slow() -> Iterable[Outcome]:
        assert said.wait(20)
        return [ok("slow", "well")]

    assert list(checkup.run([("slow", slow)], say, slow_s=0.01)) == [ok("slow", "well")]
    assert lines == ["slow: asked, no answer yet"]


# The command line


def daemon(checks: list[Check], argv: list[str], questions: Questions | None = None) -> int:
    def serve(arguments: argparse.Namespace, loaded: Loaded) -> int:
        raise AssertionError("it must not serve")

    program = Program("masakari-x", "1", "", "", "/etc/x.conf", lambda _: Loaded(None, [], [], "info", ""), serve)
    return checkup.main(program, lambda given, loaded: checks, argv, questions)


BAD: list[Check] = [("one", lambda: [ok("one", "well")]), ("two", lambda: [not_ok("two", "ill", "cure")])]


def test_without_online_nothing_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert daemon(BAD, ["--check-config"]) == 0
    assert capsys.readouterr().out == "/etc/x.conf: ok\n"


def test_online_shows_a_table_and_the_problems(capsys: pytest.CaptureFixture[str]) -> None:
    assert daemon(BAD, ["--check-config", "--online"]) == 1
    shown = capsys.readouterr()
    assert shown.out == "ok       one  well\nNOT OK   two  ill\n              -> cure\n"
    assert shown.err == "masakari-x: two: ill\n"


def test_online_as_json_is_a_line_for_each_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert daemon(BAD[:1], ["--check-config", "--online", "--json"]) == 0
    assert capsys.readouterr().out.splitlines() == [as_json(ok("one", "well")), "/etc/x.conf: ok"]


@pytest.mark.parametrize("argv", [["--online"], ["--check-config", "--json"]])
def test_what_does_not_go_together_is_a_usage_error(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        daemon(BAD, argv)
    assert caught.value.code == 2


def test_json_goes_with_what_else_is_asked_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    answered = []

    def answer(parser: argparse.ArgumentParser, given: argparse.Namespace) -> int | None:
        answered.append(given.json)
        return 3 if given.daemon else None

    questions = Questions(answer, ("--daemon",))
    assert daemon(BAD, ["--daemon", "--json"], questions) == 3
    assert daemon(BAD, ["--check-config", "--online"], questions) == 1
    assert answered == [True, False]
    with pytest.raises(SystemExit):
        daemon(BAD, ["--check-config", "--json"], questions)
    assert "--json goes with --check-config --online, --daemon" in capsys.readouterr().err


def test_a_problem_is_one_line_that_can_not_play_with_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert daemon([("x", lambda: [not_ok("x\x1b[2J", "a\nb")])], ["--check-config", "--online"]) == 1
    assert capsys.readouterr().err == "masakari-x: x [2J: a b\n"


# The test callback


def test_the_test_callback_is_accepted_and_ignored() -> None:
    report = parse(json.dumps(trial.test_body(ORIGIN, NOW)).encode(), NOW)
    assert (report.type, report.hostname, report.observer, report.boot_id) == (TEST, "compute1", "compute1", "")
    failure = classify(report)
    assert (failure.kind, failure.reason) == ("ignored", "a test of masakari-doctor: nothing is done")


def answer(status: int = 200, /, **said: object) -> Answer:
    return Answer(status, json.dumps(said).encode())


FIRST, AGAIN = answer(known=False, reason="a test"), answer(known=True, reason="a test")


@pytest.mark.parametrize(
    ("answers", "signed", "state", "words"),
    [
        ([FIRST, AGAIN], True, "ok", "signed, stored and found again: a test"),
        ([FIRST, AGAIN], False, "ok", "not signed"),
        ([FIRST, FIRST], True, "NOT OK", "not in the database"),
        ([AGAIN, AGAIN], True, "NOT OK", "not in the database"),
        ([Answer(200, b"<html>")], True, "NOT OK", "not from a Masakari controller"),
        ([answer(200, status="fine")], True, "NOT OK", "not from a Masakari controller"),
        ([answer(401, field="X", error="missing")], False, "NOT OK", "put this host's own section"),
        ([answer(401, field="X", error="unknown key")], True, "NOT OK", "compare /etc/masakari/key.conf"),
        ([FIRST, answer(503, error="the database")], True, "NOT OK", "see the controller's log"),
    ],
)
def test_what_the_answers_mean(answers: list[Answer], signed: bool, state: str, words: str) -> None:
    row = trial.of_answers("callback", answers, signed)
    assert (row.state, words in f"{row.text} {row.advice}") == (state, True), row


# Traps


def unit(path: Path, command: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[Service]\nExecStart={command}\n")
    return path


def test_a_unit_that_starts_nothing_and_one_that_does(tmp_path: Path) -> None:
    wrong = unit(tmp_path / "masakari-engine.service", "/usr/bin/local/sh -c true")
    right = unit(tmp_path / "masakari-api.service", "-/bin/sh -c true")
    (row,) = traps.units([right, wrong])
    assert row.state == "NOT OK"
    assert "ExecStart=/usr/bin/local/sh: there is no such program" in row.text
    assert "ExecStart=/usr/bin/sh" in row.advice
    assert [row.state for row in traps.units([right])] == ["ok"]


def test_a_unit_in_etc_hides_that_of_the_package(tmp_path: Path) -> None:
    ours = unit(tmp_path / "systemd" / "system" / "masakari-x.service", "/bin/true")
    unit(tmp_path / "systemd" / "system" / "other.service", "/nowhere")
    assert [path for path in traps.unit_files(tmp_path) if tmp_path in path.parents] == [ours]


def test_files_that_nobody_reads_and_those_that_are_named(tmp_path: Path) -> None:
    config = tmp_path / "processmonitor" / "processmonitor.conf"
    foreign = tmp_path / "masakarimonitors"
    for path in (
        config,
        foreign / "process_list.yaml",
        foreign / "hostmonitor.conf",
        tmp_path / "masakari" / "keys.conf",
    ):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    left = tmp_path / "masakari" / "api-paste.ini"
    left.touch()
    config.write_text(f'PROCESS_LIST_PATH="{foreign}/process_list.yaml"\n# {foreign}/hostmonitor.conf\n')
    found = list(traps.unread_files(tmp_path, [config]))
    assert [row.state for row in found] == ["WARNING", "WARNING"]
    assert [row.text for row in found] == [f"{path}: nobody reads it" for path in (foreign / "hostmonitor.conf", left)]
    assert f"{tmp_path}/hostmonitor/hostmonitor.conf" in found[0].advice


def test_a_command_that_goes_before_another(tmp_path: Path) -> None:
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
    for place in ("a/masakari-hostmonitor", "b/masakari-hostmonitor", "a/masakari-controller"):
        (tmp_path / place).touch(mode=0o755)
    (tmp_path / "c" / "masakari-controller").symlink_to(tmp_path / "a" / "masakari-controller")
    (row,) = traps.commands({"PATH": ":".join(str(tmp_path / folder) for folder in "abc")})
    assert f"masakari-hostmonitor is {tmp_path}/a/masakari-hostmonitor, which goes before {tmp_path}/b/" in row.text
