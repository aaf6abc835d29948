"""What the documents say is so: links, commands, files, step tables, holds, and examples that work."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from masakari import config
from masakari.admin_text import HOLDS
from masakari.common.keys import load_keys
from masakari.common.notification import EVIDENCE_KINDS, parse
from masakari.common.signature import verify
from masakari.failures import HOST, TABLE, classify
from masakari.steps import TABLES, diagram

ROOT = Path(__file__).resolve().parents[2]
MONITORS = ("hostmonitor", "instancemonitor", "processmonitor")
PAGES = ("README.md", "ARCHITECTURE.md", "CHANGES.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
SOURCES = sorted((ROOT / "masakari").glob("*.py"))

# A hold is made by hold(word, ...) or _held(visit, seen, word, ...), or comes out of a pure core.
HOLD_AT = {"hold": 0, "_held": 2, "Verdict": 1, "Decision": 2}


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text(page), re.DOTALL | re.MULTILINE)


def in_code(page: str) -> str:
    """What stands in code spans and blocks, one piece per line."""
    return "\n".join(re.findall(r"```\w*\n.*?```|`[^`\n]+`", text(page), re.DOTALL))


def first_column(page: str, heading: str) -> list[str]:
    """The code spans in the first column of the table whose head begins with this."""
    table = text(page).split(f"| {heading} |", 1)[1].split("\n\n", 1)[0]
    return re.findall(r"^\| `(\w+)`", table, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    folder = (ROOT / page).parent
    links = re.findall(r"\]\(([^)\s]+)\)", text(page))
    targets = [link.partition("#")[0] for link in links if "://" not in link]
    assert [target for target in targets if target and not (folder / target).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_command_named_exists(page: str) -> None:
    code = in_code(page)
    targets = set(re.findall(r"^([a-z-]+):.*## ", text("Makefile"), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", code, re.MULTILINE)) <= targets
    scripts = set(re.findall(r"\b(\w+_manage\.py)\b", text(page)))
    assert {name for name in scripts if not (ROOT / "utils" / name).is_file()} == set()


def test_every_subcommand_named_exists() -> None:
    script = [sys.executable, str(ROOT / "utils" / "recovery_manage.py"), "--help"]
    shown = subprocess.run(script, check=True, stdout=subprocess.PIPE, text=True, timeout=30).stdout
    known = set(re.findall(r"^    ([a-z]+) ", shown, re.MULTILINE))
    named = {word for page in PAGES for word in re.findall(r"recovery_manage\.py ([a-z]+)\b", in_code(page))}
    assert {"show", "list", "return"} <= named <= known


def test_every_file_the_architecture_names_exists() -> None:
    named = set(re.findall(r"`([\w./]+\.(?:py|sql|md)|[\w/]+/)`", text("ARCHITECTURE.md")))
    places = [ROOT / name for name in ("", "masakari", "masakari/common", "masakari/instance_ha", *MONITORS, "sql")]
    assert {name for name in named if not any((place / name).exists() for place in places)} == set()


def test_every_function_the_safety_rules_name_exists() -> None:
    table = text("ARCHITECTURE.md").split("## Safety rules", 1)[1].split("\n## ", 1)[0]
    named = [name.split(".") for name in re.findall(r"`([a-z_]+\.[a-z_]+)`", table) if not name.endswith(".py")]
    functions = [(module, name) for module, name in named if (ROOT / "masakari" / f"{module}.py").is_file()]
    assert len(functions) >= 8
    missing = [name for module, name in functions if not hasattr(importlib.import_module(f"masakari.{module}"), name)]
    assert missing == []


def test_the_step_diagrams_are_those_of_the_tables() -> None:
    assert blocks("docs/recovery.md", "text") == [f"{diagram(kind)}\n" for kind in TABLES]


def test_every_step_is_described() -> None:
    described = set(re.findall(r"^\| `(\w+)` \|", text("docs/recovery.md"), re.MULTILINE))
    assert {step for table in TABLES.values() for step in table} <= described


def hold_words() -> Iterator[str]:
    """Every word for a hold that the sources use."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            place = (
                HOLD_AT.get(node.func.id) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else None
            )
            if place is not None and isinstance(node, ast.Call) and len(node.args) > place:
                word = node.args[place]
                if isinstance(word, ast.Constant) and word.value:
                    yield str(word.value)


def test_the_meaning_of_every_hold_is_explained() -> None:
    words = set(hold_words())
    assert {"proof", "alive", "many", "callback"} <= words
    assert set(first_column("docs/recovery.md", "hold")) == words == set(HOLDS)


def test_the_documented_reports_are_those_that_are_understood() -> None:
    rows = re.findall(r"^\| (rscGroup|VM) \| (\d)/(\d)/(\d) \|", text("docs/callback.md"), re.MULTILINE)
    assert set(rows) == set(TABLE)
    assert first_column("docs/callback.md", "evidence `kind`") == list(EVIDENCE_KINDS)


CURL = f"""#!{sys.executable}
import json, sys
data = sys.argv[sys.argv.index("--data-binary") + 1]
sent = {{"arguments": sys.argv[1:], "body": open(data[1:]).read()}}
json.dump(sent, open("sent.json", "w"))
"""


def test_the_example_callback_is_signed_and_accepted(tmp_path: Path) -> None:
    (example,) = blocks("docs/callback.md", "sh")
    (key_text,) = blocks("docs/callback.md", "ini")
    secret = "0123456789abcdef0123456789abcdef"
    (tmp_path / "keys.conf").write_text(re.sub(r"<.*>", secret, key_text))
    (tmp_path / "keys.conf").chmod(0o600)
    (tmp_path / "curl").write_text(CURL)
    (tmp_path / "curl").chmod(0o700)
    script = f'PATH="$PWD:$PATH"\n{re.sub("the secret in section .* of keys.conf", secret, example)}'
    subprocess.run(["sh", "-euc", script], cwd=tmp_path, check=True, timeout=30)
    sent = json.loads((tmp_path / "sent.json").read_text())
    body, now = sent["body"].encode(), time.time()
    header = next(word for word in sent["arguments"] if word.startswith("X-Masakari-Signature: "))
    key_id, _ = verify(header.partition(": ")[2], body, load_keys(str(tmp_path / "keys.conf")), now)
    report = parse(body, now)
    assert key_id == report.observer == "compute2"
    assert classify(report).kind == HOST
    assert [evidence.kind for evidence in report.evidence] == ["power_off"]


def test_the_settings_of_the_readme_are_complete(tmp_path: Path) -> None:
    settings_text, key_text = blocks("README.md", "ini")
    keys_file, settings_file = tmp_path / "keys.conf", tmp_path / "masakari.conf"
    keys_file.write_text(key_text)
    settings_file.write_text(f"{settings_text}\n[auth]\nkeys_file = {keys_file}\n")
    for path in (keys_file, settings_file):
        path.chmod(0o600)
    settings, warnings = config.load(str(settings_file))
    assert settings.db.drivername == "mysql"
    assert settings.safety.mode == "observe"
    assert [warning for warning in warnings if "observe" not in warning and "mode" not in warning] == []
