"""What all tests share: when one is skipped, when that is an error, and how generated tests run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator

import pytest
from hypothesis import settings

from tests.lab.bmc import why_not as why_no_ipmi
from tests.lab.clients import why_not as why_no_clients
from tests.lab.cluster import why_not as why_no_cluster
from tests.lab.libvirtd import why_not as why_no_libvirt
from tests.lab.proxies import why_not as why_no_proxies

NO_SKIP = os.environ.get("MASAKARI_NO_SKIP") == "1"

# The same cases on every machine, so that a red run is red for everybody; machines differ in speed, so
# no deadline for a single case.
settings.register_profile("masakari", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("masakari")


def mariadb_is_installed() -> bool:
    """Debian keeps servers in /usr/sbin, which is not on the path of ordinary users."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    return all(shutil.which(program, path=path) for program in ("mariadbd", "mariadb-install-db"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine or this user can't run."""
    if item.get_closest_marker("needs_root") and os.geteuid() != 0:
        pytest.skip("needs root")
    if item.get_closest_marker("needs_mariadb") and not mariadb_is_installed():
        pytest.skip("needs MariaDB's server programs (as root: apt-get install mariadb-server)")
    if item.get_closest_marker("needs_libvirt") and why_no_libvirt():
        pytest.skip(why_no_libvirt())
    if item.get_closest_marker("needs_cluster") and why_no_cluster():
        pytest.skip(why_no_cluster())
    if item.get_closest_marker("needs_ipmi") and why_no_ipmi():
        pytest.skip(why_no_ipmi())
    if item.get_closest_marker("needs_clients") and why_no_clients():
        pytest.skip(why_no_clients())
    if item.get_closest_marker("needs_proxies") and why_no_proxies():
        pytest.skip(why_no_proxies())


def refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure where skips are not allowed."""
    if NO_SKIP and report.outcome == "skipped":
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{reason} (a skip is a failure here: MASAKARI_NO_SKIP=1)"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport() -> Generator[None, None, None]:
    """A test that skips itself, or is skipped by a marker or a fixture."""
    outcome = yield
    refuse_skip(outcome.get_result())  # type: ignore[attr-defined]


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report() -> Generator[None, None, None]:
    """A module that skips itself as a whole."""
    outcome = yield
    refuse_skip(outcome.get_result())  # type: ignore[attr-defined]
