"""Which files the processmonitor has an eye on."""

from __future__ import annotations

from dataclasses import replace

from masakari.common.monitor_config import DEFAULT_KEY_FILE
from processmonitor.config import Settings
from processmonitor.main import watched_files


def test_settings_list_and_key_are_watched_also_the_key_that_is_there_without_a_word() -> None:
    settings = Settings()
    assert watched_files("/etc/pm.conf", settings) == [
        "/etc/pm.conf",
        "/etc/processmonitor/proc.list",
        DEFAULT_KEY_FILE,
    ]
    other = replace(settings, process=replace(settings.process, key_file="/etc/my.key"))
    assert watched_files("/etc/pm.conf", other)[-1] == "/etc/my.key"
