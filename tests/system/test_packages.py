"""What is in the packages, and what lintian thinks of them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

TREE = "usr/share/masakari/"
CONFFILES = {
    "masakari-base": set[str](),
    "masakari": {"etc/masakari/masakari.conf", "etc/default/masakari-controller", "etc/init.d/masakari-controller"},
    "masakari-hostmonitor": {"etc/hostmonitor/hostmonitor.conf"},
    "masakari-instancemonitor": {"etc/instancemonitor/instancemonitor.conf"},
    "masakari-processmonitor": {
        "etc/processmonitor/processmonitor.conf",
        "etc/processmonitor/proc.list",
        "etc/processmonitor/process_list.yaml",
    },
}


def told(*words: str) -> str:
    """What a command prints."""
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def name_of(package: Path) -> str:
    return package.name.partition("_")[0]


def files_in(package: Path) -> dict[str, str]:
    """The files of a package, without folders, with their modes."""
    lines = told("dpkg-deb", "--contents", str(package)).splitlines()
    rows = [line.split(None, 5) for line in lines if not line.startswith("d")]
    return {row[5].split(" -> ")[0].removeprefix("./"): row[0] for row in rows}


def test_lintian_finds_nothing(packages: list[Path]) -> None:
    done = subprocess.run(
        [
            "lintian",
            "--allow-root",
            "--display-info",
            "--pedantic",
            "--fail-on",
            "error,warning,info,pedantic",
            *packages,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_there_is_a_package_for_each_component(packages: list[Path]) -> None:
    assert {name_of(package) for package in packages} == set(CONFFILES)


def test_every_module_lies_in_the_private_tree(packages: list[Path]) -> None:
    for package in packages:
        outside = [
            name for name in files_in(package) if name.endswith(".py") and not name.startswith((TREE, "usr/bin/"))
        ]
        assert outside == []
        assert [name for name in files_in(package) if "dist-packages" in name or name.endswith(".pyc")] == []


def test_no_file_is_in_two_packages(packages: list[Path]) -> None:
    names = [name for package in packages for name in files_in(package)]
    assert sorted(set(names)) == sorted(names)


def test_what_an_operator_edits_is_never_overwritten(packages: list[Path]) -> None:
    for package in packages:
        listed = subprocess.run(
            ["dpkg-deb", "--info", package, "conffiles"], capture_output=True, text=True, check=False
        )
        conffiles = {line.removeprefix("/") for line in listed.stdout.split()}
        assert {name for name in files_in(package) if name.startswith("etc/")} == conffiles
        assert CONFFILES[name_of(package)] <= conffiles


def test_every_command_has_a_man_page(packages: list[Path]) -> None:
    for package in packages:
        files = files_in(package)
        commands = {name.removeprefix("usr/bin/") for name in files if name.startswith("usr/bin/")}
        pages = {match[1] for name in files if (match := re.fullmatch(r"usr/share/man/man8/(.*)\.8\.gz", name))}
        assert commands == pages


def test_the_folder_of_2015_leads_to_the_sql(packages: list[Path]) -> None:
    contents = "".join(told("dpkg-deb", "--contents", str(package)) for package in packages)
    assert "./usr/share/masakari/db -> sql\n" in contents


@pytest.mark.parametrize("field", ["Depends", "Conflicts"])
def test_what_the_controller_needs_and_refuses_exists_in_debian(packages: list[Path], field: str) -> None:
    known = set(told("apt-cache", "pkgnames").split())
    if "python3-requests" not in known:
        pytest.fail("this machine has no package lists: apt-get update")
    ours = {name_of(package) for package in packages}
    for package in packages:
        value = told("dpkg-deb", "--field", str(package), field)
        for alternatives in filter(None, re.split(r",\s*", value.strip())):
            names = {re.sub(r"[\s(:].*", "", name.strip()) for name in alternatives.split("|")}
            assert names & (known | ours), f"{package.name}: {field}: {alternatives}"
