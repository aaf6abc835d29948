"""Packages of this tree, and containers to install them in. A package is built once per run, from a copy of the tree."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.containers import Container, why_not
from tests.system.machine import SERVICES, Machine

ROOT = Path(__file__).resolve().parents[2]
NOT_SOURCES = (".git", ".venv", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis")
BUILT_WITHIN_S = 300.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs containers."""
    if why := why_not():
        for item in items:
            item.add_marker(pytest.mark.skip(reason=why))


def build(folder: Path, version: str = "") -> list[Path]:
    """The packages of this tree; if a version is given, of that one, in which every shipped file of settings is another."""
    tree = folder / "tree"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*NOT_SOURCES), symlinks=True)
    if version:
        changelog = tree / "debian/changelog"
        entry = changelog.read_text(encoding="utf-8").replace("(1.0.0)", f"({version})", 1)
        changelog.write_text(entry + "\n" + changelog.read_text(encoding="utf-8"), encoding="utf-8")
        for settings in (tree / "etc").glob("*/*.conf"):
            settings.write_text(f"# Of {version}.\n{settings.read_text(encoding='utf-8')}", encoding="utf-8")
    done = subprocess.run(
        ["./debian/rules", "binary"],
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=BUILT_WITHIN_S,
        env={name: value for name, value in os.environ.items() if not name.startswith("DEB")},
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return sorted((tree / "build/deb").glob("*.deb"))


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The packages of this tree."""
    return build(tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="session")
def newer_packages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same, called a newer version."""
    return build(tmp_path_factory.mktemp("newer-packages"), "1.0.0+newer")


@pytest.fixture(scope="session")
def with_packages(tmp_path_factory: pytest.TempPathFactory, packages: list[Path]) -> Path:
    """What a container has written in which all packages were installed, and nothing set up."""
    with Container(tmp_path_factory.mktemp("with-packages") / "container") as container:
        Machine(container, packages).install()
    return container.written


@pytest.fixture
def fresh(tmp_path: Path, packages: list[Path]) -> Iterator[Machine]:
    """A fresh Debian that has the packages in a folder, and nothing of them installed."""
    with Container(tmp_path / "container") as container:
        yield Machine(container, packages)


@pytest.fixture
def installed(tmp_path: Path, packages: list[Path], with_packages: Path) -> Iterator[Machine]:
    """A Debian with all packages installed, and nothing set up."""
    with Container(tmp_path / "container", begins_with=with_packages) as container:
        yield Machine(container, packages)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, packages: list[Path], with_packages: Path) -> Iterator[Machine]:
    """A Debian with all packages installed and set up, so that all services run. Shared by the tests of a module."""
    with Container(tmp_path_factory.mktemp("machine") / "container", begins_with=with_packages) as container:
        made = Machine(container, packages)
        made.set_up()
        made.restart(*SERVICES)
        yield made


@pytest.fixture(scope="module")
def without_systemd(tmp_path_factory: pytest.TempPathFactory, packages: list[Path]) -> Iterator[Machine]:
    """A Debian in which systemd does not run, with all packages installed and nothing set up. Shared by the tests of a module."""
    with Container(tmp_path_factory.mktemp("machine") / "container", systemd=False) as container:
        made = Machine(container, packages)
        made.install()
        yield made
