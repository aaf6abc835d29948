"""What a monitor sends is what the controller understands."""

from __future__ import annotations

import json

import pytest

from masakari.common.errors import BadNotification
from masakari.common.notification import parse
from masakari.common.report import Origin, instance_report, new_id, process_report, put_right
from masakari.failures import classify

NOW = 1_790_000_000.5
UUID = "6b2f9ab8-59f6-4d2c-9a3a-1f6a9d2d1f10"
ORIGIN = Origin("compute1", "RegionOne", "226.94.1.1:5405", "d3b07384-d113-4ec4-9d3a-000000000001")


def test_an_instance_report_is_read_as_the_failure_of_that_instance() -> None:
    body = instance_report(ORIGIN, new_id(), UUID, ("0", "5", "5"), NOW - 60.25, NOW, "found after a restart")
    read = parse(json.dumps(body).encode(), NOW)
    assert classify(read).kind == "instance"
    assert (read.uuid, read.hostname, read.observer, read.boot_id) == (UUID, "compute1", "compute1", ORIGIN.boot_id)
    assert (read.region_id, read.cluster_port) == ("RegionOne", "226.94.1.1:5405")


def test_when_it_failed_is_told_to_the_millisecond() -> None:
    body = instance_report(ORIGIN, new_id(), UUID, ("0", "5", "5"), NOW - 60.25, NOW, "")
    assert parse(json.dumps(body).encode(), NOW).utc_time == NOW - 60.25


def test_a_process_report_is_read_as_the_failure_of_that_process() -> None:
    for state, on_failure in (("down", "disable"), ("up", "report")):
        body = process_report(ORIGIN, new_id(), "libvirtd", state, on_failure, NOW, "x" * 5000)
        read = parse(json.dumps(body).encode(), NOW)
        assert classify(read).kind == "process"
        assert (read.process, read.state, read.on_failure) == ("libvirtd", state, on_failure)


def test_every_report_has_an_id_of_its_own() -> None:
    assert len({new_id() for _ in range(1000)}) == 1000


def test_a_report_from_the_future_is_accepted_once_put_right() -> None:
    ahead = NOW + 72 * 3600
    for body in (
        instance_report(ORIGIN, new_id(), UUID, ("0", "5", "5"), ahead, ahead, ""),
        process_report(ORIGIN, new_id(), "libvirtd", "down", "disable", ahead, ""),
    ):
        with pytest.raises(BadNotification, match="ahead"):
            parse(json.dumps(body).encode(), NOW)
        assert parse(json.dumps(put_right(body, NOW)).encode(), NOW).utc_time == NOW
