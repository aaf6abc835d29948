from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from masakari.queries import DIALECTS, load_queries, sql_folder

ROOT = Path(__file__).resolve().parents[2]

# What MySQL 8 and 9 reserve and MariaDB or SQLite doesn't: such a name would need backquotes on MySQL alone.
RESERVED_BY_MYSQL = {
    "cume_dist", "dense_rank", "first_value", "function", "generated", "grouping", "groups", "json_table",
    "lag", "last_value", "lateral", "lead", "library", "manual", "nth_value", "ntile", "of", "over",
    "parallel", "percent_rank", "qualify", "rank", "row_number", "stored", "system", "tablesample",
    "virtual", "window",
}  # fmt: skip


def load(folder: Path, text: str, dialect: str = "sqlite"):
    path = folder / "queries.sql"
    path.write_text(text, encoding="utf-8")
    return load_queries(path, dialect)


def one(folder: Path, statement: str, dialect: str):
    return load(folder, f"-- it --\n-- What it is for.\n{statement}", dialect)["it"]


def test_a_file_holds_named_and_described_statements(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        """-- What this file is.

-- first --
-- Says one.
SELECT 1;

-- ---- a section ----

-- second --
-- Says two,
SELECT 2
""",
    )
    assert {name: (it.description, it.sql) for name, it in found.items()} == {
        "first": ("Says one.", "SELECT 1"),
        "second": ("Says two,", "SELECT 2"),
    }


@pytest.mark.parametrize(
    ("statement", "mysql", "sqlite"),
    [
        ("SELECT :a, :b_2", "SELECT %(a)s, %(b_2)s", "SELECT :a, :b_2"),
        ("SELECT ':a', `:b`, '%'", "SELECT ':a', `:b`, '%%'", "SELECT ':a', `:b`, '%'"),
        ("SELECT 'it''s :a', :a", "SELECT 'it''s :a', %(a)s", "SELECT 'it''s :a', :a"),
        ("SELECT 5 % :a", "SELECT 5 %% %(a)s", "SELECT 5 % :a"),
        ("SELECT NOW_S() + :a", "SELECT UNIX_TIMESTAMP(NOW(6)) + %(a)s", "SELECT NOW_S() + :a"),
        ("SELECT 1 -- not 'this; :a\n, 2", "SELECT 1\n, 2", "SELECT 1\n, 2"),
    ],
)
def test_only_parameters_and_the_clock_differ_between_the_dialects(tmp_path: Path, statement: str, mysql: str, sqlite: str) -> None:
    assert one(tmp_path, statement, "mysql").sql == mysql
    assert one(tmp_path, statement, "sqlite").sql == sqlite


def test_a_dialect_can_have_a_statement_of_its_own(tmp_path: Path) -> None:
    text = "-- it (mysql) --\n-- For one.\nSELECT 1;\n-- it (sqlite) --\n-- For the other.\nSELECT 2"
    assert load(tmp_path, text, "mysql")["it"].sql == "SELECT 1"
    assert load(tmp_path, text, "sqlite")["it"].sql == "SELECT 2"


def test_a_list_becomes_placeholders_and_its_values_stay_parameters(tmp_path: Path) -> None:
    mysql = one(tmp_path, "SELECT 1 FROM t WHERE a = :a AND b IN :bs", "mysql")
    assert mysql.bind({"a": 1, "bs": ["x", "y'"]}) == (
        "SELECT 1 FROM t WHERE a = %(a)s AND b IN (%(bs__0)s, %(bs__1)s)",
        {"a": 1, "bs__0": "x", "bs__1": "y'"},
    )
    sqlite = one(tmp_path, "SELECT 1 FROM t WHERE b IN :bs OR c in :bs", "sqlite")
    assert sqlite.bind({"bs": (7,)}) == (
        "SELECT 1 FROM t WHERE b IN (:bs__0) OR c IN (:bs__0)",
        {"bs__0": 7},
    )


@pytest.mark.parametrize("wrong", ["text", {1, 2}, 5, None])
def test_what_is_no_list_is_refused_as_one(tmp_path: Path, wrong: object) -> None:
    statement = one(tmp_path, "SELECT 1 FROM t WHERE b IN :bs", "mysql")
    with pytest.raises(TypeError, match="it: bs must be a list or tuple"):
        statement.bind({"bs": wrong})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("-- it --\n-- A.\nSELECT 1\n-- it --\n-- B.\nSELECT 2", "queries.sql:4: it is there twice"),
        ("-- it --\nSELECT 1", "queries.sql:1: the line below the name must be its description"),
        ("-- it --", "queries.sql:1: the line below the name must be its description"),
        ("-- it --\n-- A.\n-- nothing more", "queries.sql:1: it has no statement"),
        ("-- it --\n-- A.\nSELECT 1; SELECT 2", "queries.sql:1: it holds more than one statement"),
        ("-- it (oracle) --\n-- A.\nSELECT 1", "queries.sql:1: unknown dialect 'oracle' of it"),
        ("-- it (mysql) --\n-- A.\nSELECT 1", "it has no statement for sqlite"),
        ("-- It is --\n-- A.\nSELECT 1", "queries.sql:1: 'It is' is not a name"),
        ("SELECT 1", "queries.sql:1: a statement before the first"),
    ],
)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_wrong_file_is_refused_with_its_line(tmp_path: Path, text: str, problem: str, dialect: str) -> None:
    with pytest.raises(ValueError) as refused:
        load(tmp_path, text, dialect)
    assert problem in str(refused.value)


def test_the_sql_of_the_tree_is_found() -> None:
    assert sql_folder() == ROOT / "sql"


def test_the_sql_of_an_installed_package_is_found_from_any_folder(tmp_path: Path) -> None:
    site = tmp_path / "site"
    shutil.copytree(ROOT / "masakari", site / "masakari", ignore=shutil.ignore_patterns("__pycache__", "sql"))
    shutil.copytree(ROOT / "sql", site / "masakari" / "sql")
    program = "from masakari.queries import sql_folder; print(sql_folder())"
    answer = subprocess.run(
        [sys.executable, "-c", program],
        cwd="/",
        env={"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert answer.stdout.strip() == str(site / "masakari" / "sql"), answer.stderr


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_statements_of_the_program_are_well_formed(dialect: str) -> None:
    assert load_queries(sql_folder() / "queries.sql", dialect)


def test_no_table_or_column_bears_a_name_that_mysql_reserves() -> None:
    database = sqlite3.connect(":memory:")
    database.create_function("NOW_S", 0, lambda: 0.0)
    database.executescript((sql_folder() / "schema_sqlite.sql").read_text(encoding="utf-8"))
    tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    columns = [row[1] for table in tables for row in database.execute(f"PRAGMA table_info({table})")]
    assert columns
    assert RESERVED_BY_MYSQL & {name.lower() for name in [*tables, *columns]} == set()
