"""The log: one line per record, times with their zone, no secrets, and no trouble when the file goes away."""

from __future__ import annotations

import io
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from masakari.common.errors import ConfigError
from masakari.common.log import OneLine, Redactor, setup

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """Give the root logger back as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    root.handlers = []
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers = handlers
    root.setLevel(level)


def line(message: str, *args: object, redactor: Redactor | None = None, journal: bool = False) -> str:
    record = logging.LogRecord("masakari.x", logging.WARNING, "x.py", 1, message, args, None)
    return OneLine(redactor or Redactor(), journal=journal).format(record)


def test_a_line_has_time_with_utc_offset_level_logger_and_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert re.fullmatch(
            r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+09:00 WARNING masakari\.x: host=c1 down",
            line("host=%s down", "c1"),
        )
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_journal_gets_the_priority_and_no_second_time() -> None:
    assert line("down", journal=True) == "<4>WARNING masakari.x: down"


def test_a_record_is_one_line_whatever_is_in_it() -> None:
    text = line("host=%s", "c1\nforged\r\x1b[2J\x85\u2028end", journal=True)
    assert text == r"<4>WARNING masakari.x: host=c1 | forged\r\x1b[2J\x85\u2028end"


def test_a_traceback_is_on_the_line_of_its_message(tmp_path: Path) -> None:
    redactor = Redactor()
    redactor.hide("hunter22")
    setup("info", str(tmp_path / "log"), redactor=redactor)
    try:
        raise ValueError("with hunter22 in it")
    except ValueError:
        logging.getLogger("x").exception("step failed")
    (text,) = (tmp_path / "log").read_text().splitlines()
    assert "ERROR x: step failed | Traceback (most recent call last): | " in text
    assert text.endswith(" | ValueError: with *** in it")


@pytest.mark.parametrize("shown", ['pa"ss wö/rd', r"pa\"ss w\u00f6/rd", "pa%22ss%20w%C3%B6%2Frd"])
def test_secrets_are_replaced_also_when_escaped(shown: str) -> None:
    redactor = Redactor()
    redactor.hide('pa"ss wö/rd', "other-secret")
    assert redactor.clean(f"body={shown}; other-secret") == "body=***; ***"


def test_a_secret_within_a_secret_does_not_uncover_the_rest() -> None:
    redactor = Redactor()
    redactor.hide("abcd", "abcdefgh")
    assert redactor.clean("abcdefgh abcd") == "*** ***"


def test_nothing_is_replaced_for_an_empty_or_tiny_secret() -> None:
    redactor = Redactor()
    redactor.hide("", "abc")
    assert redactor.clean("abc def") == "abc def"


def test_a_log_that_was_moved_away_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "masakari.log"
    setup("info", str(path))
    logging.info("one")
    path.rename(tmp_path / "masakari.log.1")
    logging.info("two")
    assert (tmp_path / "masakari.log.1").read_text().endswith("INFO root: one\n")
    assert path.read_text().endswith("INFO root: two\n")


def test_logging_never_stops_the_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    setup("info", str(folder / "masakari.log"))
    (folder / "masakari.log").unlink()
    folder.rmdir()
    logging.info("the folder is gone")
    folder.mkdir()
    logging.info("%d hosts, password %s", "no number", "hunter22")
    logging.info("and back")
    assert (folder / "masakari.log").read_text().endswith("INFO root: and back\n")
    lost = capsys.readouterr().err.splitlines()
    assert [text.split(" is lost: ")[1] for text in lost] == ["FileNotFoundError", "TypeError"]


def test_a_log_file_that_can_not_be_opened_is_told(tmp_path: Path) -> None:
    before = list(logging.getLogger().handlers)
    with pytest.raises(ConfigError, match="can't be opened: No such file or directory"):
        setup("info", str(tmp_path / "no" / "log"))
    assert logging.getLogger().handlers == before


def test_the_level_counts_and_debug_goes_before_it(tmp_path: Path) -> None:
    path = tmp_path / "log"
    setup("error", str(path))
    logging.warning("hidden")
    logging.error("shown")
    setup("error", str(path), debug=True)
    logging.debug("shown too")
    assert [text.split(" ", 1)[1] for text in path.read_text().splitlines()] == [
        "ERROR root: shown",
        "DEBUG root: shown too",
    ]


def test_what_libraries_tell_of_every_retry_is_shown_with_debug_only(tmp_path: Path) -> None:
    path = tmp_path / "log"
    setup("info", str(path))
    logging.getLogger("urllib3.connectionpool").warning("Retrying")
    assert path.read_text() == ""
    setup("info", str(path), debug=True)
    logging.getLogger("urllib3.connectionpool").warning("Retrying")
    assert "Retrying" in path.read_text()


def test_a_second_setup_replaces_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    setup("info")
    setup("info")
    logging.info("once")
    assert len(stream.getvalue().splitlines()) == 1


def test_under_systemd_standard_error_is_recognised_as_the_journal() -> None:
    """Only when JOURNAL_STREAM names the very file that standard error is."""
    code = "import logging; from masakari.common.log import setup; setup('info'); logging.info('up')"
    reading, writing = os.pipe()
    try:
        status = os.fstat(writing)
        for stream, starts in ((f"{status.st_dev}:{status.st_ino}", b"<6>INFO"), ("1:2", b"2")):
            environ = os.environ | {"JOURNAL_STREAM": stream}
            subprocess.run([sys.executable, "-c", code], stderr=writing, env=environ, cwd=ROOT, check=True)
            assert os.read(reading, 4096).startswith(starts)
    finally:
        os.close(reading)
        os.close(writing)
