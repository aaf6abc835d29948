"""What `pip install .` brings: everything the controller needs, from any folder, without a compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest

import masakari

ROOT = Path(__file__).resolve().parents[2]
NOT_SOURCES = (".git", ".venv", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis")


def pip(*arguments: str | Path) -> None:
    """Run pip without a network; its output is the message when it fails."""
    command = [sys.executable, "-m", "pip", *map(str, arguments), "--no-deps", "--no-index", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree, built from a copy so that the tree stays clean."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "tree", ignore=shutil.ignore_patterns(*NOT_SOURCES))
    pip("wheel", folder / "tree", "--no-build-isolation", "--wheel-dir", folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed in it."""
    folder = tmp_path_factory.mktemp("installed")
    pip("install", wheel, "--target", folder)
    return folder


def run_installed(installed: Path, elsewhere: Path, *arguments: str | Path) -> str:
    """What Python prints when it is started in another folder and finds the installed package first."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def content(wheel: Path) -> set[str]:
    """Names of the files in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def metadata(wheel: Path, content: set[str]) -> Message:
    """What the wheel says about itself."""
    name = next(name for name in content if name.endswith(".dist-info/METADATA"))
    with zipfile.ZipFile(wheel) as archive:
        return message_from_string(archive.read(name).decode())


def test_every_sql_file_is_package_data(content: set[str]) -> None:
    sql = {f"masakari/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "sql").rglob("*.sql")}
    assert sql
    assert {name for name in content if name.endswith(".sql")} == sql


def test_every_module_is_installed_and_nothing_else(content: set[str]) -> None:
    packages = ("masakari", "hostmonitor", "instancemonitor", "processmonitor")
    modules = {path.relative_to(ROOT).as_posix() for name in packages for path in (ROOT / name).rglob("*.py")}
    assert {name for name in content if name.endswith(".py")} == modules


def test_the_version_is_the_one_of_the_package(metadata: Message) -> None:
    assert metadata["Version"] == masakari.__version__


def test_no_compiler_and_no_libvirt_is_needed(wheel: Path, metadata: Message) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    libvirt = [line for line in metadata.get_all("Requires-Dist", []) if "libvirt" in line]
    assert len(libvirt) == 1
    assert "extra ==" in libvirt[0]


def test_the_installed_controller_runs_from_any_folder(installed: Path, tmp_path: Path) -> None:
    shown = run_installed(installed, tmp_path, installed / "bin" / "masakari-controller", "--version")
    assert masakari.__version__ in shown


def test_the_installed_controller_finds_its_sql(installed: Path, tmp_path: Path) -> None:
    code = "from masakari.queries import sql_folder; print(sql_folder())"
    assert run_installed(installed, tmp_path, "-c", code).strip() == str(installed / "masakari" / "sql")
