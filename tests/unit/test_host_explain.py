"""--explain: what an operator and a program are told of a saved view, and the exit status."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from hostmonitor.main import main
from masakari import __version__

DATA = Path(__file__).resolve().parents[1] / "data" / "crm_mon"
FENCED = str(DATA / "fence-03-fenced-offline.crm_mon.xml")
GONE = str(DATA / "nofence-03-crashed-offline.crm_mon.xml")
Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize("path", sorted(DATA.glob("*.xml")), ids=lambda path: path.name)
def test_every_recorded_view_can_be_explained_both_ways(path: Path, capsys: Capture) -> None:
    assert main(["--explain", str(path), "--json"]) == 0
    nodes = json.loads(capsys.readouterr().out)["nodes"]
    assert all(set(node) == {"name", "state", "failed", "proven", "reason"} for node in nodes)
    assert main(["--explain", str(path)]) == 0
    told = capsys.readouterr().out
    assert all(f"\n{node['name']} " in told for node in nodes)


def test_a_proven_failure_is_told_to_a_program(capsys: Capture) -> None:
    assert main(["--explain", FENCED, "--json"]) == 0
    out, err = capsys.readouterr()
    node = next(node for node in json.loads(out)["nodes"] if node["name"] == "node3")
    assert (node["state"], node["failed"], node["proven"]) == ("fenced", True, True)
    assert "off of node3 by node2 succeeded at 2026-11-20T18:39:46Z" in node["reason"]
    assert "a fencing within 10 min before this view" in err


def test_an_operator_reads_the_outcome_first_and_a_table_in_line(capsys: Capture) -> None:
    assert main(["--explain", FENCED, "--own", "node1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1 of 4 nodes would be reported as failed: node3 (proven, may be evacuated)."
    table = lines[3:8]
    assert [line[table[0].index("FAILED") :].split()[:2] for line in table[1:]] == [["no", "no"]] * 2 + [
        ["YES", "YES"]
    ] + [["no", "no"]]
    assert max(len(line) for line in table) <= 110


def test_the_rule_about_the_asking_node_is_named_when_it_can_not_be_checked(capsys: Capture) -> None:
    assert main(["--explain", GONE]) == 0
    assert "--own NAME" in capsys.readouterr().out
    assert main(["--explain", GONE, "--own", "node1"]) == 0
    assert "--own NAME" not in capsys.readouterr().out


def test_a_view_of_a_node_that_is_itself_offline_reports_nothing(capsys: Capture) -> None:
    assert main(["--explain", GONE, "--own", "node3", "--json"]) == 0
    nodes = json.loads(capsys.readouterr().out)["nodes"]
    assert not any(node["failed"] for node in nodes)
    assert "itself offline" in nodes[2]["reason"]


def test_an_asking_node_that_the_cluster_does_not_know_is_listed(capsys: Capture) -> None:
    assert main(["--explain", GONE, "--own", "nobody", "--json"]) == 0
    nodes = json.loads(capsys.readouterr().out)["nodes"]
    assert [node["state"] for node in nodes if node["name"] == "nobody"] == ["unknown to the cluster"]
    assert not any(node["failed"] for node in nodes)


@pytest.mark.parametrize("content", [b"", b"crm_mon: error: could not connect", b"\xff\xfe\x00", b"<cib>"])
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_file_that_is_no_view_is_status_1_with_the_reason_and_no_output(
    content: bytes, more: list[str], tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "view.xml"
    path.write_bytes(content)
    assert main(["--explain", str(path), *more]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"masakari-hostmonitor: {path}: no view of a cluster: ")
    assert err.count("\n") == 1


def test_a_file_that_is_not_there_is_status_1(tmp_path: Path, capsys: Capture) -> None:
    assert main(["--explain", str(tmp_path / "none")]) == 1
    assert "No such file" in capsys.readouterr().err
    assert main(["--explain", str(tmp_path)]) == 1


def test_standard_input_can_be_explained(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path(FENCED).read_bytes())))
    assert main(["--explain", "-"]) == 0
    assert "node3 (proven" in capsys.readouterr().out


def test_what_is_in_a_name_reaches_no_terminal(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "view.xml"
    path.write_text(Path(GONE).read_text().replace('"node3"', '"no&#x9b;de3"'))
    assert main(["--explain", str(path)]) == 0
    assert "\x9b" not in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--json"], ["--own", "node1"], ["--nonsense"]])
def test_usage_is_status_2(words: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "usage: masakari-hostmonitor" in capsys.readouterr().err


def test_help_and_version_teach(capsys: Capture) -> None:
    for word, told in (("--help", "crm_mon --output-as=xml"), ("--version", f"masakari {__version__}")):
        with pytest.raises(SystemExit) as ended:
            main([word])
        assert ended.value.code == 0
        assert told in capsys.readouterr().out
