"""masakari-manage: what guides of OpenStack call to make the tables."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from masakari.manage import main

NOBODY = 65534


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """A file that names a SQLite database in a folder of its own."""
    file = tmp_path / "masakari.conf"
    file.write_text(f"[db]\nname = {tmp_path}/state/masakari.sqlite\n", encoding="utf-8")
    return file


def test_the_tables_are_made_and_a_second_time_left_alone(
    settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert main(["--config", str(settings), "db", "sync"]) == 0
        assert capsys.readouterr().out == f"{tmp_path}/state/masakari.sqlite is up to date\n"
    assert (tmp_path / "state/masakari.sqlite").stat().st_size > 0


@pytest.mark.needs_root
def test_what_root_makes_belongs_to_the_owner_of_the_folder(settings: Path, tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    assert main(["--config", str(settings), "db", "sync"]) == 0
    assert {path.stat().st_uid for path in folder.iterdir()} == {NOBODY}


def test_what_is_wrong_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(tmp_path / "none"), "db", "sync"]) == 1
    assert capsys.readouterr().err == f"masakari-manage: {tmp_path}/none: can't be read: No such file or directory\n"


def test_a_server_that_is_away_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "masakari.conf"
    file.write_text(f"[db]\nunix_socket = {tmp_path}/none\nuser = masakari\n", encoding="utf-8")
    assert main(["--config", str(file), "db", "sync"]) == 1
    assert "database vm_ha" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["db"], ["db", "drop"]])
def test_wrong_use_is_told(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
