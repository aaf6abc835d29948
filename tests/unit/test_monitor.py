"""What a running monitor takes of new settings, and what it does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from instancemonitor.config import Callback, Settings
from masakari.common.clock import Clock
from masakari.common.errors import ConfigError
from masakari.common.monitor import Reporting
from masakari.common.monitor_config import Identity


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    callback = Callback(url=("http://one:15868",), state_dir=str(tmp_path / "state"))
    return Settings(callback=callback, identity=Identity("compute1", "cluster", "key1", "0123456789abcdef"))


def test_new_settings_are_in_use_at_once(settings: Settings) -> None:
    reporting = Reporting(settings, Clock())
    new = replace(settings, callback=replace(settings.callback, url=("http://two:15868",), regionID="North"))
    assert reporting.reload(new, lambda: None) == new
    assert reporting.settings.delivery.urls == ("http://two:15868",)
    assert reporting.origin().region_id == "North"


def test_what_needs_a_restart_is_told_each_time_and_stays(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reporting = Reporting(settings, Clock())
    new = replace(settings, callback=replace(settings.callback, state_dir=str(tmp_path / "other"), spool_max_mb=1))
    for _ in range(2):
        caplog.clear()
        used = reporting.reload(new, lambda: None)
        assert (used.callback.state_dir, used.callback.spool_max_mb) == (settings.callback.state_dir, 64)
        assert f"state_dir changed: that needs a restart, {settings.callback.state_dir} stays in use" in caplog.text
        assert "spool_max_mb changed" in caplog.text
    caplog.clear()
    reporting.reload(settings, lambda: None)
    assert caplog.text == ""


def test_another_host_name_is_refused_and_changes_nothing(settings: Settings) -> None:
    reporting = Reporting(settings, Clock())
    new = replace(settings, identity=replace(settings.identity, hostname="compute2"))
    opened: list[bool] = []
    with pytest.raises(ConfigError, match=r"compute2 .* was compute1: that needs a restart"):
        reporting.reload(new, lambda: opened.append(True))
    assert reporting.settings == settings and not opened


def test_a_log_that_can_not_be_opened_changes_nothing(settings: Settings) -> None:
    def refuse() -> None:
        raise ConfigError(["the log file can't be opened"])

    reporting = Reporting(settings, Clock())
    with pytest.raises(ConfigError):
        reporting.reload(replace(settings, callback=replace(settings.callback, regionID="North")), refuse)
    assert reporting.settings == settings
