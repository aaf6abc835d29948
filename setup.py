"""Installs Masakari; settings for the tools that check it are in pyproject.toml."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).resolve().parent


def version() -> str:
    """Read the version as text: importing the package would need its dependencies first."""
    found = re.search(r'^__version__ = "([^"]+)"', (HERE / "masakari" / "__init__.py").read_text(), re.M)
    if not found:
        raise SystemExit("masakari/__init__.py: no line __version__ = \"...\"")
    return found.group(1)


setup(
    name="masakari",
    version=version(),
    description="Virtual machine high availability for OpenStack",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    install_requires=[
        "requests",
        "PyMySQL",
        "waitress",
        "PyYAML",
        "python-daemon",
        "lockfile",
    ],
    extras_require={
        # For the instance monitor. Debian's python3-libvirt carries the same name, so it satisfies this
        # without a compiler and without libvirt's headers.
        "libvirt": ["libvirt-python"],
        # setuptools and wheel: one test builds the wheel, without a network.
        "test": [
            "pytest>=7",
            "hypothesis",
            "jsonschema",
            "schemathesis>=4",
            "ruff",
            "mypy",
            "types-PyMySQL",
            "types-PyYAML",
            "types-requests",
            "setuptools",
            "wheel",
        ],
    },
    packages=[
        "masakari",
        "masakari.common",
        "masakari.instance_ha",
        "masakari.sql",
        "hostmonitor",
        "instancemonitor",
        "processmonitor",
    ],
    # The statements live in the top-level sql/ and are installed inside the package, where it finds them
    # whatever folder it is started from. utils/ is not a package: those scripts run from where they lie.
    package_dir={"masakari.sql": "sql"},
    package_data={"masakari.sql": ["*.sql", "*/*.sql"], "hostmonitor": ["alert-agent"]},
    entry_points={
        "console_scripts": [
            "masakari-controller = masakari.main:main",
            "masakari-db = masakari.db_tool:main",
            "masakari-keys = masakari.key_tool:main",
            "masakari-hostmonitor = hostmonitor.main:main",
            "masakari-instancemonitor = instancemonitor.main:main",
            "masakari-manage = masakari.manage:main",
            "masakari-processmonitor = processmonitor.main:main",
        ]
    },
    zip_safe=False,
)
