"""Which outages are known: every report reaches the spool once, whatever happens in between."""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from masakari.common import durable
from processmonitor.outages import Outages
from processmonitor.supervise import SLEEPING, STOPPED

BOOT, NEXT_BOOT = "boot-1", "boot-2"


class Crash(BaseException):
    """The process is killed here."""


class Disk:
    """A spool that takes each id once, for ever, and a disk; a crash before or after any of their calls."""

    def __init__(self, path: Path) -> None:
        self.path = str(path / "outages.json")
        self.spool: dict[str, Mapping[str, Any]] = {}
        self.made = 0
        self.calls = 0
        self.crash_at: tuple[int, str] | None = None
        self.full = False

    def open(self, boot_id: str = BOOT) -> Outages:
        return Outages(self.path, boot_id, self.make, self.put, self.write)

    def make(self, name: str, state: str, on_failure: str, at: float, reason: str) -> Mapping[str, Any]:
        self.made += 1
        return {
            "id": f"id-{self.made}",
            "process": name,
            "state": state,
            "on_failure": on_failure,
            "at": at,
            "reason": reason,
        }

    def put(self, body: Mapping[str, Any]) -> None:
        self._call(lambda: self.spool.setdefault(body["id"], body))

    def write(self, path: str, data: bytes) -> None:
        self._call(lambda: durable.write(path, data))

    def _call(self, act: Callable[[], object]) -> None:
        self.calls += 1
        if self.crash_at == (self.calls, "before"):
            raise Crash
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device", self.path)
        act()
        if self.crash_at == (self.calls, "after"):
            raise Crash

    def reports(self) -> list[tuple[str, str]]:
        return [(body["process"], body["state"]) for body in self.spool.values()]


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def test_an_outage_is_reported_once_and_its_end_once(disk: Disk) -> None:
    outages = disk.open()
    for _ in range(2):
        outages.down("libvirtd", "disable", 100.0, "not running after 3 restarts")
    assert outages.remembered("libvirtd") == "down"
    assert outages.since("libvirtd") == 100.0
    for _ in range(2):
        outages.up("libvirtd", 200.0, "runs again")
    assert disk.reports() == [("libvirtd", "down"), ("libvirtd", "up")]
    assert [body["on_failure"] for body in disk.spool.values()] == ["disable", "disable"]
    assert outages.names() == []


def test_it_is_known_after_a_restart_of_the_monitor_and_of_the_host(disk: Disk) -> None:
    disk.open().down("libvirtd", "disable", 100.0, "")
    for boot_id in (BOOT, NEXT_BOOT):
        outages = disk.open(boot_id)
        assert outages.remembered("libvirtd") == "down"
        outages.down("libvirtd", "disable", 300.0, "")
    assert disk.reports() == [("libvirtd", "down")]


def story(disk: Disk, outages: Outages) -> None:
    """What is done again by a monitor that starts anew and finds things as they are."""
    if ("a", "up") not in disk.reports():
        outages.down("a", "disable", 1.0, "")
        outages.down("b", "report", 2.0, "")
        outages.up("a", 3.0, "")


def sweep(tmp_path: Path) -> list[tuple[int, str]]:
    calm = Disk(tmp_path)
    story(calm, calm.open())
    assert calm.calls == 9
    return [(number, when) for number in range(1, 10) for when in ("before", "after")]


def test_a_crash_between_any_two_steps_loses_no_report_and_doubles_none(tmp_path: Path) -> None:
    for number, crash_at in enumerate(sweep(tmp_path)):
        folder = tmp_path / str(number)
        folder.mkdir()
        disk = Disk(folder)
        disk.crash_at = crash_at
        with pytest.raises(Crash):
            story(disk, disk.open())
        disk.crash_at = None
        outages = disk.open()
        assert outages.flush() == ""
        story(disk, outages)
        assert sorted(disk.reports()) == [("a", "down"), ("a", "up"), ("b", "down")], crash_at
        assert disk.reports().index(("a", "down")) < disk.reports().index(("a", "up"))


def test_a_full_disk_delays_reports_and_loses_none(disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    outages = disk.open()
    disk.full = True
    outages.down("a", "disable", 1.0, "")
    outages.up("a", 2.0, "")
    assert "No space left" in outages.flush()
    assert caplog.text.count("can't be stored") == 1
    assert disk.reports() == []
    disk.full = False
    with caplog.at_level(logging.INFO):
        assert outages.flush() == ""
    assert disk.reports() == [("a", "down"), ("a", "up")]
    assert "can be stored again" in caplog.text
    assert disk.open().names() == []


def test_what_is_owed_is_bounded(disk: Disk) -> None:
    outages = disk.open()
    disk.full = True
    for at in range(100):
        outages.down("a", "disable", at, "")
        outages.up("a", at, "")
    disk.full = False
    outages.flush()
    assert len(disk.spool) == 8
    assert disk.reports()[-1] == ("a", "up")


def test_a_planned_stop_is_remembered_until_it_runs_again(disk: Disk) -> None:
    disk.open().rests("a", STOPPED, "a.service", 5.0)
    outages = disk.open()
    assert (outages.remembered("a"), outages.unit("a")) == ("stopped", "a.service")
    outages.forget_rest("a")
    assert outages.names() == disk.open().names() == []


def test_what_sleeps_is_known_after_a_restart_of_the_monitor(disk: Disk) -> None:
    disk.open().rests("a", SLEEPING, "a.service", 5.0)
    outages = disk.open()
    assert (outages.remembered("a"), outages.unit("a")) == (SLEEPING, "a.service")
    assert disk.open(NEXT_BOOT).names() == []


def test_a_planned_stop_is_forgotten_with_the_boot(disk: Disk) -> None:
    disk.open().rests("a", STOPPED, "a.service", 5.0)
    assert disk.open(NEXT_BOOT).names() == []


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"processes": {"a": {"state": "down"}}}', '{"processes": {"a": 1}}', "\x00"]
)
def test_a_file_that_cannot_be_understood_is_set_aside_and_said_so(
    disk: Disk, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    Path(disk.path).write_text(text)
    outages = disk.open()
    assert outages.names() == []
    assert "can't be understood" in caplog.text
    assert Path(disk.path + ".unreadable").read_text() == text
    outages.down("a", "disable", 1.0, "")
    assert json.loads(Path(disk.path).read_text())["processes"].keys() == {"a"}
