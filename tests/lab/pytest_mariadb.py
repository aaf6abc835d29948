"""Fixtures for tests on a real MariaDB; import them where they are used."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.mariadb import PrivateMariaDB, why_not


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateMariaDB]:
    """One server for all tests of the run that only use its databases."""
    if why_not():
        pytest.skip(why_not())
    with PrivateMariaDB(tmp_path_factory.mktemp("mariadb")) as server:
        yield server
