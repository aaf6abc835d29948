"""The Debian packages, as far as it shows without building them; tests/system builds and installs them."""

from __future__ import annotations

import argparse
import ast
import fnmatch
import importlib.util
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

import hostmonitor.config
import instancemonitor.config
import masakari
import masakari.config
import processmonitor.config

ROOT = Path(__file__).resolve().parents[2]
DEBIAN = ROOT / "debian"
UNITS = {path.name.split(".")[-2]: path for path in DEBIAN.glob("*.service")}
MAINTAINED = (".init", ".postinst", ".postrm", ".prerm")
SCRIPTS = [
    DEBIAN / "init-functions",
    DEBIAN / "start-configured",
    *sorted(path for path in DEBIAN.iterdir() if path.suffix in MAINTAINED),
]
FOLDERS = ("masakari", "hostmonitor", "instancemonitor", "processmonitor", "utils", "sql", "etc")

# How exposed a unit may be at most, as `systemd-analyze security` counts; beside each exception stands a reason in the unit.
EXPOSURE = {
    "masakari-controller": 2.0,
    "masakari-instancemonitor": 2.5,
    "masakari-hostmonitor": 3.9,
    "masakari-processmonitor": 9.6,
}
IN_DEBIAN = {"daemon", "libvirt", "lockfile", "pymysql", "requests", "urllib3", "waitress", "yaml"}

needs_systemd = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="needs systemd-analyze (as root: make packaging)"
)


@cache
def control() -> dict[str, dict[str, str]]:
    """The fields of each binary package, by its name."""
    text = (DEBIAN / "control").read_text(encoding="utf-8")
    found = {}
    for paragraph in text.split("\n\n")[1:]:
        fields = dict(re.findall(r"^([A-Z][\w-]*):((?: .*)?(?:\n .*)*)", paragraph, re.MULTILINE))
        found[fields["Package"].strip()] = {name: " ".join(value.split()) for name, value in fields.items()}
    return found


def files_of(package: str) -> set[str]:
    """The files of the source tree that a package installs."""
    found: set[str] = set()
    for line in (DEBIAN / f"{package}.install").read_text(encoding="utf-8").splitlines():
        pattern = line.split()[0]
        folder, _, name = pattern.rpartition("/")
        matching = {f"{folder}/{path.name}" for path in (ROOT / folder).iterdir() if fnmatch.fnmatch(path.name, name)}
        assert matching, f"{package}.install: nothing is {pattern}"
        found |= matching
    return found


@cache
def manpages() -> ModuleType:
    """The program that writes the man pages."""
    spec = importlib.util.spec_from_file_location("manpages", DEBIAN / "manpages.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def pages() -> dict[str, str]:
    """All man pages, as roff."""
    made: dict[str, str] = manpages().pages()
    return made


def shown(page: str) -> str:
    """A man page with what roff wants undone."""
    return pages()[page].replace("\\-", "-").replace("\\e", "\\").replace("\\&", "")


def test_the_version_is_the_one_of_the_program() -> None:
    first = (DEBIAN / "changelog").read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith(f"masakari ({masakari.__version__}) ")


def test_every_file_is_in_one_package() -> None:
    tree = {
        path.relative_to(ROOT).as_posix()
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    installed = [name for package in control() for name in files_of(package) if not name.startswith("debian/")]
    assert sorted(installed) == sorted(tree)


def test_every_command_that_pip_installs_is_in_a_package() -> None:
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    commands = set(re.findall(r'"(masakari-[a-z]+) = ', setup))
    assert commands and commands <= {path.name for path in (DEBIAN / "bin").iterdir()}


@pytest.mark.parametrize("launcher", sorted((DEBIAN / "bin").iterdir()), ids=lambda path: path.name)
def test_a_launcher_looks_into_the_private_tree_first_and_not_into_the_environment(launcher: Path) -> None:
    lines = launcher.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "#!/usr/bin/python3 -I"
    statements = [line for line in lines[2:] if line and line != "import sys"]
    assert statements[0] == 'sys.path.insert(0, "/usr/share/masakari")'
    module = statements[1].removeprefix("from ").removesuffix(" import main")
    assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file()
    assert launcher.stat().st_mode & 0o111


@pytest.mark.parametrize("package", sorted(control()))
def test_what_a_package_imports_it_depends_on(package: str) -> None:
    wanted = set()
    for name in files_of(package):
        if name.endswith(".py"):
            for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    wanted |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    wanted.add(str(node.module).split(".")[0])
    foreign = wanted - set(sys.stdlib_module_names) - {"masakari", "hostmonitor", "instancemonitor", "processmonitor"}
    assert foreign <= IN_DEBIAN
    # What the base needs for a classic daemon the packages with init scripts depend on.
    given = control()[package]["Depends"] + (
        control()[package].get("Suggests", "") if package == "masakari-base" else ""
    )
    assert {name for name in foreign if f"python3-{name}" not in given} == set()


@pytest.mark.parametrize("package", sorted(set(control()) - {"masakari-base"}))
def test_all_packages_are_of_one_version(package: str) -> None:
    assert "masakari-base (= ${binary:Version})" in control()[package]["Depends"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_one_that_sh_understands(script: Path) -> None:
    subprocess.run(["sh", "-n", str(script)], check=True)


@pytest.mark.parametrize("service", sorted(EXPOSURE))
def test_a_unit_tells_when_it_is_ready_and_is_started_again(service: str) -> None:
    settings = UNITS[service].read_text(encoding="utf-8").splitlines()
    for wanted in ("Type=notify", "Restart=on-failure", "WatchdogSec=30", "ExecReload=/bin/kill -HUP $MAINPID"):
        assert wanted in settings
    assert f"ExecStart=/usr/bin/{service}" in settings


def test_what_the_processmonitor_starts_is_not_killed_with_it() -> None:
    assert "KillMode=process" in UNITS["masakari-processmonitor"].read_text(encoding="utf-8").splitlines()


@needs_systemd
@pytest.mark.parametrize("service", sorted(EXPOSURE))
def test_systemd_has_nothing_to_say_about_a_unit(service: str, tmp_path: Path) -> None:
    text = UNITS[service].read_text(encoding="utf-8")
    unit = tmp_path / f"{service}.service"
    # What it starts, and its man pages, are not installed here.
    text = re.sub(r"^(Documentation|User|Group)=.*\n", "", text, flags=re.MULTILINE)
    unit.write_text(re.sub(r"^ExecStart=.*", "ExecStart=/bin/true", text, flags=re.MULTILINE), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    about_it = [line for line in done.stderr.splitlines() if service in line]
    assert (done.returncode, about_it) == (0, [])


@needs_systemd
@pytest.mark.parametrize("service", sorted(EXPOSURE))
def test_a_unit_is_not_more_exposed_than_it_must_be(service: str, tmp_path: Path) -> None:
    unit = shutil.copy(UNITS[service], tmp_path / f"{service}.service")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= EXPOSURE[service]


def test_only_the_controller_is_without_root() -> None:
    users = {name: "User=masakari" in path.read_text(encoding="utf-8") for name, path in UNITS.items()}
    assert [name for name, is_own in users.items() if is_own] == ["masakari-controller"]


@pytest.mark.parametrize(
    ("page", "sections"),
    [
        ("masakari.conf.5", masakari.config.SECTIONS),
        ("hostmonitor.conf.5", {"environments": hostmonitor.config.Environments}),
        ("instancemonitor.conf.5", instancemonitor.config.SECTIONS),
        ("processmonitor.conf.5", {"process": processmonitor.config.Process}),
    ],
)
def test_the_man_page_of_a_file_has_every_option(page: str, sections: dict[str, type]) -> None:
    text = shown(page).lower()
    for kind in sections.values():
        missing = [field.name for field, _ in kind.options() if f"\n.b {field.name.lower()}\n" not in text]  # type: ignore[attr-defined]
        assert missing == []


def test_the_man_page_of_a_command_has_every_word_of_it() -> None:
    made = manpages()
    for name, (run, _) in made.COMMANDS.items():
        parser: argparse.ArgumentParser = made.parser_of(run)
        words = {word for action in parser._actions for word in action.option_strings}
        assert {word for word in words if word not in shown(f"{name}.8")} == set()


def test_every_command_has_a_page_and_every_page_is_installed() -> None:
    scripts = {manpages().SCRIPTS.get(path.name, path.name) for path in (ROOT / "utils").glob("*.py")}
    commands = {path.name for path in (DEBIAN / "bin").iterdir()} | scripts
    assert {name.removesuffix(".8") for name in pages() if name.endswith(".8")} == commands
    listed = "\n".join(path.read_text(encoding="utf-8") for path in DEBIAN.glob("*.manpages")).split()
    patterns = [pattern.removeprefix("debian/man/") for pattern in listed]
    assert {name for name in pages() if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)} == set()


@pytest.mark.skipif(not shutil.which("man"), reason="needs man (as root: make packaging)")
def test_man_has_nothing_to_say_about_a_page(tmp_path: Path) -> None:
    for name, page in pages().items():
        (tmp_path / name).write_text(page, encoding="utf-8")
        done = subprocess.run(
            ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(tmp_path / name)],
            capture_output=True,
            text=True,
            errors="replace",
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "100"},
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), name
