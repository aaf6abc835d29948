"""QEMU's logs: how the last run ended, read from lines as libvirt 9 and QEMU 7.2 wrote them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from instancemonitor.ledger import End
from instancemonitor.qemu_log import TAIL, QemuLog

START = (
    "2026-11-21 04:07:50.452+0000: starting up libvirt version: 9.0.0, package: 9.0.0-4+deb12u2 (Debian), "
    "qemu version: 7.2.22Debian 1:7.2+dfsg-7+deb12u19, kernel: 6.1.0, hostname: compute1\n"
    "LC_ALL=C \\\nPATH=/usr/sbin:/usr/bin:/sbin:/bin \\\n/usr/bin/qemu-system-x86_64 \\\n-name guest=vm1 \\\n"
)
CRASHED = "2026-11-21 04:07:51.116+0000: shutting down, reason=crashed\n"
TERMINATING = (
    "2026-11-21T04:07:59.923942Z qemu-system-x86_64: terminating on signal 15 from pid 19303 (/usr/sbin/libvirtd)\n"
)
AT = 1795234071.116


def read(folder: Path, text: str | bytes, name: str = "vm1") -> End | None:
    path = folder / f"{name}.log"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return QemuLog(str(folder)).last_end(name)


def test_the_end_of_the_last_run_is_told_with_its_time_in_utc(tmp_path: Path) -> None:
    assert read(tmp_path, START + CRASHED) == End(AT, "crashed")


@pytest.mark.parametrize(
    "reason",
    ["unknown", "shutdown", "destroyed", "crashed", "migrated", "saved", "failed", "from snapshot", "daemon"],
)
def test_every_reason_of_libvirt_is_told_as_it_stands(tmp_path: Path, reason: str) -> None:
    end = read(tmp_path, START + CRASHED.replace("crashed", reason))
    assert end is not None and end.reason == reason


def test_what_qemu_says_after_its_end_does_not_hide_it(tmp_path: Path) -> None:
    assert read(tmp_path, START + CRASHED + TERMINATING) is not None


def test_the_last_of_many_ends_counts(tmp_path: Path) -> None:
    later = CRASHED.replace("04:07:51", "05:00:00").replace("crashed", "shutdown")
    end = read(tmp_path, START + CRASHED + START + later)
    assert end == End(AT + 52 * 60 + 9, "shutdown")


@pytest.mark.parametrize("text", [START + CRASHED + START, START, "", "\xff\x00", "reason=crashed\n"])
def test_a_run_that_has_not_ended_and_a_log_that_says_nothing_tell_nothing(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text.encode("latin-1")) is None


@pytest.mark.parametrize(
    "line",
    [
        "x" + CRASHED,
        CRASHED.replace("+0000", "+0900"),
        CRASHED.replace("11-21", "13-41"),
        CRASHED.rstrip("\n") + ", or so it says\n",
        CRASHED.replace("crashed", "c" * 40),
    ],
)
def test_a_line_that_only_looks_like_one_is_none(tmp_path: Path, line: str) -> None:
    assert read(tmp_path, START + line) is None


def test_only_the_tail_of_a_long_log_is_read(tmp_path: Path) -> None:
    noise = "qemu: something is odd\n" * (TAIL // 20)
    assert read(tmp_path, START + CRASHED + noise + noise) is None
    assert read(tmp_path, START + noise + noise + CRASHED) is not None


def test_what_is_no_file_in_the_folder_is_not_read(tmp_path: Path) -> None:
    logs, outside = tmp_path / "logs", tmp_path / "outside.log"
    logs.mkdir()
    outside.write_text(START + CRASHED)
    (logs / "link.log").symlink_to(outside)
    (logs / "folder.log").mkdir()
    os.mkfifo(logs / "pipe.log")
    for name in ("missing", "link", "folder", "pipe", "../outside", str(tmp_path / "outside"), "a\0b", "x" * 5000, ""):
        assert QemuLog(str(logs)).last_end(name) is None
