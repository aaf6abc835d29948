"""Every command and every file in /etc of every package has a man page, in that package or in the base of all."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path

import pytest

import hostmonitor.config
import masakari.common.monitor_config
import masakari.config
from hostmonitor.stonith import BmcSection
from masakari.common.config import Section
from masakari.common.keys import Key
from tests.unit.test_packaging import DEBIAN, control, files_of, pages, shown

PACKAGES = sorted(control())
BASE = "masakari-base"
MADE = {
    "masakari": {masakari.config.Auth.keys_file: "masakari-keys.conf.5"},
    BASE: {masakari.common.monitor_config.DEFAULT_KEY_FILE: "masakari-key.conf.5"},
    "masakari-hostmonitor": {hostmonitor.config.Environments.bmc_file: "masakari-bmc.conf.5"},
}
"""Files in /etc that no package brings, and their pages: the operator, or a command, makes them."""


def lines(name: str) -> list[list[str]]:
    """The words of each line of a file in debian; none when there is no such file."""
    path = DEBIAN / name
    return [line.split() for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def pages_of(package: str) -> set[str]:
    """The names of the pages that a package has, those by other names included."""
    patterns = [words[0].removeprefix("debian/man/") for words in lines(f"{package}.manpages")]
    found = {name for name in pages() if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)}
    for old, new in lines(f"{package}.links"):
        if new.startswith("usr/share/man/"):
            assert Path(old).name in found, f"{package}.links: there is no page {old}"
            found.add(Path(new).name)
    return found


def commands_of(package: str) -> set[str]:
    """What a package has in /usr/bin."""
    installed = {Path(name).name for name in files_of(package) if name.startswith("debian/bin/")}
    return installed | {Path(new).name for _, new in lines(f"{package}.links") if new.startswith("usr/bin/")}


def settings_of(package: str) -> set[str]:
    """What a package has in /etc, besides what belongs to init and logrotate."""
    patterns = [words[0] for words in lines(f"{package}.install") if words[1].startswith("etc/")]
    return {Path(name).name for name in files_of(package) if any(fnmatch.fnmatch(name, each) for each in patterns)}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_command_and_every_file_in_etc_has_a_page(package: str) -> None:
    there = pages_of(package) | pages_of(BASE)
    assert {name for name in commands_of(package) if f"{name}.8" not in there} == set()
    assert {name for name in settings_of(package) if f"{name}.5" not in there} == set()


def test_the_packages_are_looked_at_rightly() -> None:
    """Without this a wrong list above would let everything pass."""
    assert commands_of(BASE) == {"masakari-doctor"}
    assert {"masakari-api", "masakari-engine", "recovery_manage.py", "masakari-keys"} < commands_of("masakari")
    assert settings_of("masakari") == {"masakari.conf"}
    assert settings_of("masakari-processmonitor") == {"processmonitor.conf", "proc.list", "process_list.yaml"}


@pytest.mark.parametrize("package", sorted(MADE))
def test_a_file_that_is_made_later_has_a_page_that_names_it(package: str) -> None:
    for path, page in MADE[package].items():
        assert page in pages_of(package)
        assert path in shown(page)


@pytest.mark.parametrize(
    ("page", "kind"), [("masakari-keys.conf.5", Key), ("masakari-key.conf.5", Key), ("masakari-bmc.conf.5", BmcSection)]
)
def test_such_a_page_has_every_option_with_its_default_and_since_when(page: str, kind: type[Section]) -> None:
    text = shown(page)
    for field, about in kind.options():
        told = re.search(rf"\n\.B {field.name}\n.*\n\.br\n(Value: .* Default: .* Since .*\.)\n", text)
        assert told and about.kind.describe().replace("`", "") in told[1] and f"Since {about.since}." in told[1]


@pytest.mark.parametrize("default", sorted(DEBIAN.glob("*.default")), ids=lambda path: path.name)
def test_what_an_init_script_reads_is_named_by_the_page_of_its_daemon(default: Path) -> None:
    daemon = default.name.split(".")[-2]
    assert f"\n/etc/default/{daemon}\n" in shown(f"{daemon}.8")
    assert "Exit status: 0 stopped, 1 failed, 2 usage, 78 wrong settings." in shown(f"{daemon}.8")
