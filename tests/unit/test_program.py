"""The command line that all daemons share."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest

from masakari.common.errors import ConfigError, InUse
from masakari.common.program import Loaded, Program, run


def program(loaded: Loaded | ConfigError, served: list[Loaded] | None = None) -> Program:
    def load(arguments: argparse.Namespace) -> Loaded:
        if isinstance(loaded, ConfigError):
            raise loaded
        return loaded

    def serve(arguments: argparse.Namespace, given: Loaded) -> int:
        assert served is not None
        served.append(given)
        return 7

    return Program("masakari-test", "1.0", "A daemon.", "examples", "/etc/test.conf", load, serve)


def test_it_serves_with_what_was_loaded() -> None:
    served: list[Loaded] = []
    loaded = Loaded("settings", [], [], "info", "")
    assert run(program(loaded, served), []) == 7
    assert served == [loaded]


def test_every_problem_is_told_on_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(program(ConfigError(["x.conf:1: bad", "x.conf:2: worse"])), ["--check-config"]) == 1
    assert capsys.readouterr().err == "masakari-test: x.conf:1: bad\nmasakari-test: x.conf:2: worse\n"


@pytest.mark.parametrize("arguments", [["--daemon", "--pidfile", "/tmp/x.pid"], []])
def test_settings_that_are_wrong_end_a_daemon_so_that_nobody_starts_it_again(arguments: list[str]) -> None:
    assert run(program(ConfigError(["x.conf:1: bad"])), arguments) == os.EX_CONFIG == 78


def test_what_another_process_has_is_no_matter_of_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(program(InUse(["already running with pid 7"])), []) == 1
    assert capsys.readouterr().err == "masakari-test: already running with pid 7\n"


def test_settings_that_are_fine_are_called_so_with_their_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(program(Loaded(None, ["old option"], [], "info", "")), ["--check-config", "--config", "x.conf"]) == 0
    assert capsys.readouterr().out == "warning: old option\nx.conf: ok\n"


@pytest.mark.parametrize("name", ["log_file", "state_dir"])
def test_a_place_that_can_not_be_written_is_a_problem(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    wrong = str(tmp_path / "file" / "x")
    loaded = Loaded(
        None, [], [], "info", f"{wrong}/log" if name == "log_file" else "", wrong if name == "state_dir" else ""
    )
    assert run(program(loaded), ["--check-config"]) == 1
    assert f"{name}: {wrong} can't be written: {tmp_path / 'file'} is no folder" in capsys.readouterr().err


def test_a_place_that_does_not_exist_yet_is_fine_if_it_can_be_made(tmp_path: Path) -> None:
    loaded = Loaded(None, [], [], "info", "", str(tmp_path / "not" / "yet"))
    assert run(program(loaded), ["--check-config"]) == 0
    assert not os.path.exists(tmp_path / "not")


def test_a_classic_daemon_needs_a_log_file_and_a_pid_file(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(program(Loaded(None, [], [], "info", "")), ["--daemon"])
    assert caught.value.code == 2
    assert run(program(Loaded(None, [], [], "info", "")), ["--daemon", "--pidfile", "/tmp/x.pid"]) == 78
    assert "log_file is needed with --daemon" in capsys.readouterr().err
