"""Both databases, for what has to do the same on each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from masakari.common.clock import Clock
from masakari.config import Db
from masakari.database import Database, open_database
from tests.lab.pytest_mariadb import mariadb

__all__ = ["mariadb"]


@pytest.fixture(params=["sqlite", "mysql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Db:
    if request.param == "sqlite":
        return Db(drivername="sqlite", name=str(tmp_path / "masakari.sqlite"))
    server = request.getfixturevalue("mariadb")
    server.make_tables()
    db: Db = server.settings()
    return db


@pytest.fixture
def db(settings: Db) -> Iterator[Database]:
    database = open_database(settings, Clock())
    yield database
    database.close()
