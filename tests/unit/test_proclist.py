"""proc.list: what it may say, and that everything that is wrong in it is told at once, with line and column."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masakari.common.errors import ConfigError
from processmonitor import proclist
from processmonitor.entry import Entry
from processmonitor.proclist import Lists

ROOT = Path(__file__).resolve().parents[2]
REPORT_ONLY = ("sshd", "masakari-", "instancemonitor", "hostmonitor")
LINE = "1,/usr/sbin/libvirtd,/bin/true,/bin/true a,,,,\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "proc.list"
    path.write_text(LINE)
    path.chmod(0o644)
    return path


def load(file: Path, text: str, report_only: tuple[str, ...] = REPORT_ONLY) -> Lists:
    file.write_text(text)
    return proclist.load(str(file), report_only)


def problems(file: Path, text: str) -> list[str]:
    """What is wrong with a file of that text, without its path."""
    with pytest.raises(ConfigError) as caught:
        load(file, text)
    return [problem.removeprefix(str(file)) for problem in caught.value.problems]


def warnings(file: Path, text: str) -> list[str]:
    """What is worth a warning in a file of that text, without its path."""
    return [warning.removeprefix(str(file)) for warning in load(file, text).warnings]


def hook(tmp_path: Path, name: str = "hook", mode: int = 0o755) -> str:
    path = tmp_path / name
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return str(path)


def test_a_line_has_eight_columns(file: Path, tmp_path: Path) -> None:
    hooks = [hook(tmp_path, f"hook{number}") for number in range(4)]
    found = load(file, "# a comment\n\n 07 , my daemon -x , /bin/true a; /bin/true b , /bin/true c ," + ",".join(hooks))
    assert found == Lists(
        (
            Entry(
                id="07",
                name="my daemon -x",
                start="/bin/true a; /bin/true b",
                restart="/bin/true c",
                pre_start=hooks[0],
                post_start=hooks[1],
                pre_restart=hooks[2],
                post_restart=hooks[3],
                run_as_root=False,
                on_failure="disable",
                where=f"{file}:3",
            ),
        ),
        (),
    )


def test_files_of_other_editors_are_read(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf# list\r\n" + LINE.rstrip().encode() + b"\r\n")
    assert [entry.name for entry in proclist.load(str(file), ()).entries] == ["/usr/sbin/libvirtd"]


def test_a_hook_with_a_blank_in_its_name_stays_one_word(file: Path, tmp_path: Path) -> None:
    path = hook(tmp_path, "a hook")
    assert load(file, f"1,a,/bin/true,/bin/true,,{path},,").entries[0].post_start == f"'{path}'"


@pytest.mark.parametrize(
    "name, on_failure",
    [
        ("/usr/sbin/sshd", "report"),
        ("bin/masakari-hostmonitor", "report"),
        ("/opt/instancemonitor/main", "report"),
        ("/usr/bin/nova-compute", "disable"),
        ("/usr/sbin/libvirtd", "disable"),
    ],
)
def test_the_failure_of_sshd_and_of_our_own_monitors_is_only_reported(file: Path, name: str, on_failure: str) -> None:
    assert load(file, f"1,{name},/bin/true,/bin/true,,,,").entries[0].on_failure == on_failure


def test_all_problems_are_told_at_once_with_line_and_column(file: Path, tmp_path: Path) -> None:
    plain = hook(tmp_path, "plain", 0o644)
    text = (
        "1,a,/bin/true,/bin/true,,,,\n"
        "# comment\n"
        "1,b,/bin/true,/bin/true,,,,\n"
        ",c,/bin/true,/bin/true,,,,\n"
        "x,d,/bin/true,/bin/true,,,,\n"
        "5,,,,,,,\n"
        "6,e,/bin/true\n"
        "7,f,/bin/true a,b,/bin/true,,,,\n"
        f"8,g,/bin/true,/bin/true,hooks/a,/no/such,{plain},{tmp_path}\n"
        f"9,h,/bin/echo 'a,/bin/true,,,{plain} -x,\n"
    )
    columns = ", ".join(proclist.COLUMNS)
    assert problems(file, text) == [
        ":3: column 1 (id): 1 again, as on line 1; give each line its own",
        ":4: column 1 (id): is missing; give each line a number of its own",
        ":5: column 1 (id): 'x' is not a number; give each line a number of its own",
        ":6: column 2 (key): is missing; write what stands in the command line of the process",
        ":6: column 3 (start command): is missing; write the command that starts the process when the processmonitor begins",
        ":6: column 4 (restart command): is missing; write the command that starts the process again when it died",
        f":7: has 3 columns instead of 8 ({columns}); an empty column needs its comma, too",
        f":8: has 9 columns instead of 8 ({columns}); a comma always ends a column",
        ":9: column 5 (hook before start): 'hooks/a' is a relative path; write it from the root: /...",
        ":9: column 6 (hook after start): there is no file /no/such; create it, or leave the column empty",
        f":9: column 7 (hook before restart): {plain} is not executable; run: chmod +x {plain}",
        f":9: column 8 (hook after restart): {tmp_path} is a folder; name an executable file",
        ":10: column 3 (start command): can't be run: a quote is not closed; put quotes and backslashes in pairs",
        f":10: column 7 (hook before restart): there is no file {plain} -x; a hook has no arguments; create it, or leave the "
        "column empty",
    ]


@pytest.mark.parametrize("text", ["", "\n\n", "# 1,a,b,c,,,,\n"])
def test_a_list_without_a_process_is_refused(file: Path, text: str) -> None:
    assert problems(file, text) == [
        ": lists no process, so nothing would be watched; add one, or stop the processmonitor instead"
    ]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"/missing: can't be read: No such file"):
        proclist.load(f"{tmp_path}/missing", ())
    (tmp_path / "binary").write_bytes(b"1,\xff")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        proclist.load(f"{tmp_path}/binary", ())


def test_a_control_character_in_a_key_is_refused(file: Path) -> None:
    assert problems(file, "1,a\x1bb,/bin/true,/bin/true,,,,") == [
        ":1: column 2 (key): has a control character in it; write it on one line, without any"
    ]


def test_a_program_that_is_not_there_is_a_warning_once(file: Path) -> None:
    text = "1,a,/no/start x,no-such-program,,,,\n2,b,/bin/true;/no/start y,cd /; no-such-shell,,,,\n"
    assert warnings(file, text) == [
        ":1: column 3 (start command): there is no program '/no/start' on this host; the command will fail",
        ":1: column 4 (restart command): there is no program 'no-such-program' on this host; the command will fail",
    ]


def test_a_key_that_stands_twice_is_a_warning(file: Path) -> None:
    text = "1,a,/bin/true,/bin/true,,,,\n2,a,/bin/true,/bin/true,,,,\n"
    assert warnings(file, text) == [":2: column 2 (key): 'a' again, as on line 1: one of the two is enough"]
    assert len(load(file, text).entries) == 2


def test_a_key_that_looks_like_a_pattern_is_a_warning(file: Path) -> None:
    assert warnings(file, "1,[l]ibvirtd,/bin/true,/bin/true,,,,\n") == [
        ":1: column 2 (key): '[l]ibvirtd' is looked for as it stands; it is not taken as a pattern"
    ]


def test_a_file_that_others_may_write_is_a_warning(file: Path) -> None:
    file.chmod(0o666)
    assert warnings(file, LINE) == [
        f": others may write to it (mode 0666), and so choose what is run; run: chmod go-w {file}"
    ]


@given(st.text(alphabet="1a,#/;'\"\\ \n\t\x00$", max_size=60))
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.getbasetemp() / "generated.list"
    file.write_text(text)
    try:
        found = proclist.load(str(file), REPORT_ONLY)
    except ConfigError as error:
        assert all(problem.startswith(f"{file}:") for problem in error.problems)
    else:
        assert all(entry.id and entry.name and entry.start and entry.restart for entry in found.entries)


def test_the_sample_watches_what_a_compute_node_needs() -> None:
    entries = proclist.load(str(ROOT / "etc/processmonitor/proc.list"), REPORT_ONLY).entries
    assert {entry.name: entry.on_failure for entry in entries} == {
        "/usr/sbin/libvirtd": "disable",
        "/usr/bin/nova-compute": "disable",
        "bin/masakari-instancemonitor": "report",
        "bin/masakari-hostmonitor": "report",
        "/usr/sbin/sshd": "report",
    }
    assert [entry.restart for entry in entries] == [entry.start.replace(" start ", " restart ") for entry in entries]
