"""Reports on the disk: whole or not at all, in order, within limits, and never dropped in silence."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from masakari.common import durable
from masakari.common.clock import Clock
from masakari.common.spool import BLOCK, Spool

ROOT = Path(__file__).resolve().parents[2]
DAY_S = 86400.0


class SetClock(Clock):
    """Says what it is told to say."""

    def __init__(self, at: float = 1_790_000_000.0) -> None:
        self.at = at

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


def make(folder: Path, clock: Clock, **limits: Any) -> Spool:
    return Spool(str(folder / "spool"), clock, **{"max_bytes": 1 << 20, "max_age_s": 7 * DAY_S, **limits})


def body(number: int, **more: Any) -> dict[str, Any]:
    return {"id": f"id-{number}", "type": "VM", "hostname": "compute1", "uuid": f"vm-{number}", **more}


def everything(spool: Spool) -> list[str]:
    """Take all out, the oldest first."""
    found = []
    while (report_id := spool.oldest()) is not None:
        found.append(report_id)
        spool.remove(report_id)
    return found


def test_what_was_put_is_there_for_the_next_process_oldest_first(tmp_path: Path, clock: SetClock) -> None:
    spool = make(tmp_path, clock)
    for number in range(20):
        spool.put(body(number))
    again = make(tmp_path, clock)
    entry = again.read("id-3")
    assert entry is not None and entry.body == body(3)
    assert entry.put_at == pytest.approx(clock.at)
    assert everything(again) == [f"id-{number}" for number in range(20)]
    assert make(tmp_path, clock).waiting() == 0


def test_the_order_outlives_a_clock_that_is_set_back(tmp_path: Path, clock: SetClock) -> None:
    make(tmp_path, clock).put(body(1))
    clock.at -= 3600
    spool = make(tmp_path, clock)
    spool.put(body(2))
    assert everything(spool) == ["id-1", "id-2"]


def test_the_same_id_again_changes_nothing(tmp_path: Path, clock: SetClock) -> None:
    spool = make(tmp_path, clock)
    spool.put(body(1, note="first"))
    spool.put(body(1, note="second"))
    assert spool.waiting() == 1
    entry = make(tmp_path, clock).read("id-1")
    assert entry is not None and entry.body["note"] == "first"


def test_an_id_can_not_lead_out_of_the_folder(tmp_path: Path, clock: SetClock) -> None:
    spool = make(tmp_path, clock)
    spool.put({"id": "../../etc/passwd"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["spool"]
    assert spool.waiting() == make(tmp_path, clock).waiting() == 1


def test_a_full_disk_is_told_and_leaves_nothing_behind(
    tmp_path: Path, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = make(tmp_path, clock)
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(errno.ENOSPC, "no space")))
    with pytest.raises(OSError, match="no space"):
        spool.put(body(1))
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / "spool").iterdir()] == ["aside"]
    assert spool.waiting() == 0
    spool.put(body(1))
    assert everything(make(tmp_path, clock)) == ["id-1"]


PUT_AND_DIE = """
import os, sys
from masakari.common.clock import Clock
from masakari.common.spool import BLOCK, Spool
spool = Spool(sys.argv[1], Clock(), max_bytes=1 << 20, max_age_s=1e6)
left = int(sys.argv[2])
def counted(call):
    def wrapper(*args, **kwargs):
        global left
        left -= 1
        if left < 0:
            os._exit(9)
        return call(*args, **kwargs)
    return wrapper
for name in ("open", "fsync", "rename", "close", "unlink"):
    setattr(os, name, counted(getattr(os, name)))
spool.put({"id": "id-1", "note": "x" * 5000})
os._exit(0)
"""


def test_a_crash_between_any_two_calls_leaves_a_whole_report_or_none(tmp_path: Path, clock: SetClock) -> None:
    for calls in range(20):
        folder = tmp_path / str(calls) / "spool"
        done = subprocess.run([sys.executable, "-c", PUT_AND_DIE, str(folder), str(calls)], cwd=ROOT, check=False)
        spool = make(folder.parent, clock)
        entry = spool.read("id-1")
        assert spool.aside() == 0
        if done.returncode == 0:
            assert entry is not None
            break
        assert entry is None or entry.body == {"id": "id-1", "note": "x" * 5000}
        assert list(folder.glob(".new-*")) == []
    assert calls > 4, "the crashes did not happen"


def test_what_was_set_aside_is_tried_again_after_a_restart(
    tmp_path: Path, clock: SetClock, caplog: pytest.LogCaptureFixture
) -> None:
    spool = make(tmp_path, clock)
    for number in (1, 2):
        spool.put(body(number))
    spool.set_aside("id-1", "HTTP 400, time: not a time")
    assert (spool.oldest(), spool.aside()) == ("id-2", 1)
    assert "id-1 is set aside: HTTP 400, time: not a time" in caplog.text
    again = make(tmp_path, clock)
    assert again.take_back() == ["id-1"]
    assert "id-1, which was set aside, is tried again" in caplog.text
    assert everything(again) == ["id-1", "id-2"]


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff"])
def test_a_file_that_can_not_be_read_does_not_hold_up_the_others(
    tmp_path: Path, clock: SetClock, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    spool = make(tmp_path, clock)
    for number in (1, 2):
        spool.put(body(number))
    next((tmp_path / "spool").glob("*id-1.json")).write_bytes(content)
    assert spool.read("id-1") is None
    assert (spool.oldest(), spool.aside()) == ("id-2", 1)
    assert "its file can't be read" in caplog.text


def test_foreign_files_stay_where_they_are(tmp_path: Path, clock: SetClock) -> None:
    make(tmp_path, clock)
    (tmp_path / "spool" / "README").write_text("x")
    assert make(tmp_path, clock).waiting() == 0
    assert (tmp_path / "spool" / "README").exists()


def test_an_alarm_comes_before_anything_is_dropped(
    tmp_path: Path, clock: SetClock, caplog: pytest.LogCaptureFixture
) -> None:
    spool = make(tmp_path, clock, max_bytes=10 * BLOCK)
    for number in range(10, 19):
        spool.put(body(number))
        assert spool.trim() == []
    assert "reports are dropped" in caplog.text and "DROPPED" not in caplog.text
    assert caplog.text.count("See why the controller") == 1
    for number in range(19, 22):
        spool.put(body(number))
    assert spool.trim() == ["id-10", "id-11"]
    assert "report id-10 (VM compute1 vm-10)" in caplog.text
    assert everything(spool) == [f"id-{number}" for number in range(12, 22)]


def test_what_is_too_old_is_dropped_after_an_alarm(
    tmp_path: Path, clock: SetClock, caplog: pytest.LogCaptureFixture
) -> None:
    spool = make(tmp_path, clock)
    spool.put(body(1))
    clock.at += 6 * DAY_S
    assert spool.trim() == []
    assert "See why the controller" in caplog.text
    clock.at += DAY_S + 1
    spool.put(body(2))
    assert spool.trim() == ["id-1"]
    assert spool.oldest() == "id-2"


def test_a_clock_that_is_put_right_and_a_host_that_was_off_for_long_cost_no_report(
    tmp_path: Path, clock: SetClock, caplog: pytest.LogCaptureFixture
) -> None:
    spool = make(tmp_path, clock)
    spool.put(body(1))
    clock.at += 100 * DAY_S
    again = make(tmp_path, clock)
    assert again.trim() == []
    assert "See why the controller" in caplog.text
    clock.at += 3599
    assert again.trim() == []
    clock.at += 2
    assert again.trim() == ["id-1"]


def test_what_was_set_aside_counts_and_goes_first(
    tmp_path: Path, clock: SetClock, caplog: pytest.LogCaptureFixture
) -> None:
    spool = make(tmp_path, clock, max_bytes=10 * BLOCK)
    for number in range(10, 30):
        spool.put(body(number))
        if number % 2:
            spool.set_aside(f"id-{number}", "HTTP 400")
        spool.trim()
    assert (spool.waiting(), spool.aside()) == (10, 0)
    assert "report id-11, which was set aside, is DROPPED" in caplog.text
    assert everything(spool) == [f"id-{number}" for number in range(10, 30, 2)]


def test_a_folder_that_can_not_be_synced_keeps_nothing(
    tmp_path: Path, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = make(tmp_path, clock)
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(OSError):
            spool.put(body(1))
    assert [item.name for item in (tmp_path / "spool").iterdir()] == ["aside"]
    spool.put(body(1))
    assert make(tmp_path, clock).waiting() == 1


def test_a_durable_file_is_the_old_one_or_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.json"
    durable.write(str(path), b"old")
    assert path.stat().st_mode & 0o777 == 0o600
    monkeypatch.setattr(os, "rename", lambda old, new: (_ for _ in ()).throw(OSError(errno.EIO, "broken")))
    with pytest.raises(OSError, match="broken"):
        durable.write(str(path), b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["state.json"]
    durable.remove(str(path))
    durable.remove(str(path))
    assert list(tmp_path.iterdir()) == []


def test_the_limit_is_one_of_disk_space(tmp_path: Path, clock: SetClock) -> None:
    spool = make(tmp_path, clock, max_bytes=100 * BLOCK)
    for number in range(300):
        spool.put(body(number))
        spool.trim()
    used = sum(path.stat().st_blocks * 512 for path in (tmp_path / "spool").glob("*.json"))
    assert used <= 100 * BLOCK
    assert make(tmp_path, clock).waiting() == spool.waiting() == 100


def test_a_disk_that_gives_nothing_back_for_a_moment_loses_nothing(
    tmp_path: Path, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = make(tmp_path, clock)
    spool.put(body(1))
    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", lambda *_: (_ for _ in ()).throw(OSError(errno.EMFILE, "too many open files")))
        with pytest.raises(OSError, match="too many open files"):
            spool.read("id-1")
    assert (spool.waiting(), spool.aside()) == (1, 0)
    assert spool.read("id-1") is not None


def test_a_disk_that_hangs_does_not_hang_who_only_asks(
    tmp_path: Path, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = make(tmp_path, clock)
    spool.put(body(1))
    hangs, free = threading.Event(), threading.Event()

    def fsync(descriptor: int) -> None:
        hangs.set()
        assert free.wait(30)

    monkeypatch.setattr(os, "fsync", fsync)
    thread = threading.Thread(target=spool.put, args=(body(2),), daemon=True)
    thread.start()
    assert hangs.wait(30)
    assert (spool.waiting(), spool.oldest(), spool.since() is not None) == (1, "id-1", True)
    free.set()
    thread.join(30)
    assert spool.waiting() == 2
