"""The older files without sections: NAME="value" lines that a shell could read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from masakari.common.config import Integer, Reading, Section, Text, option
from masakari.common.errors import ConfigError
from masakari.common.ini import Ini


@dataclass(frozen=True)
class Shell(Section):
    """A section that may have no header."""

    retry: int = option(3, Integer(1, 10), "Tries.", aliases=("old_retry",))
    url: str = option("", Text(), "Where to.")


def read(folder: Path, text: str) -> tuple[Reading, Shell]:
    path = folder / "x.conf"
    path.write_text(text)
    reading = Reading(Ini(str(path), shell_section="shell"), {"shell": Shell}, {"host": "", "api": "not needed"})
    section = reading.sections["shell"]
    assert isinstance(section, Shell)
    return reading, section


@pytest.mark.parametrize(
    "line",
    [
        "RETRY=5",
        'RETRY="5"',
        "RETRY='5'",
        "  RETRY=5  ",
        "export RETRY=5",
        "RETRY=5 # tries",
        'RETRY="5"   # tries',
        'RETRY="5"; # tries',
        "retry=5",
        "OLD_RETRY=5",
        "[shell]\nretry = 5",
        "# first\n\nRETRY=5\n[shell]",
        "RETRY=5\n[host]\nwhatever = 1",
    ],
)
def test_every_way_to_write_a_value(tmp_path: Path, line: str) -> None:
    reading, section = read(tmp_path, line)
    reading.finish()
    assert section.retry == 5


def test_what_looks_like_a_comment_stays_within_quotes(tmp_path: Path) -> None:
    assert read(tmp_path, 'URL="http://x/ # y"')[1].url == "http://x/ # y"
    assert read(tmp_path, "URL=http://x/#y")[1].url == "http://x/#y"


def test_problems_name_the_line_and_the_option_as_it_is_written_there(tmp_path: Path) -> None:
    reading, _ = read(tmp_path, "RETRY=0\nURL=a\nURL=b\nRETRI=1\njust words\n")
    with pytest.raises(ConfigError) as caught:
        reading.finish()
    path = tmp_path / "x.conf"
    assert caught.value.problems == [
        f"{path}:1: RETRY: must be a whole number from 1 to 10, not '0'",
        f"{path}:3: URL again; it is already set on line 2",
        f"{path}:4: RETRI: unknown option; did you mean retry?",
        f"{path}:5: is neither 'option = value', nor a [section], nor a comment",
    ]


def test_sections_of_other_programs_are_left_alone_and_told_where_there_is_something_to_tell(tmp_path: Path) -> None:
    reading, _ = read(tmp_path, "RETRY=5\n[host]\nanything = 1\n[api]\npassword = x\n")
    reading.finish()
    assert reading.warnings == [f"{tmp_path / 'x.conf'}:4: [api] is not used: not needed"]
