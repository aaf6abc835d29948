"""What a monitor sends is what the controller understands."""

from __future__ import annotations

import json

import pytest

from masakari.common.errors import BadNotification
from masakari.common.notification import parse
from masakari.common.report import (
    Origin,
    host_report,
    host_up_report,
    instance_report,
    new_id,
    process_report,
    put_right,
)
from masakari.common.text import utc
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


EVIDENCE = (
    {"kind": "fenced", "at": "2026-09-21T13:33:18Z", "detail": "pacemaker: off of node2 succeeded"},
    {"kind": "power_off", "at": "2026-09-21T13:33:19Z", "detail": "off", "guid": "4C4C4544-0051-3610-8052-B4C04F4E3132"},
)


def test_a_host_report_is_read_as_the_failure_of_that_host() -> None:
    for detail in ("2", "3", "4"):
        body = host_report(ORIGIN, new_id(), "compute2", "node2", detail, EVIDENCE, NOW - 20.75, NOW, "w" * 5000)
        read = parse(json.dumps(body).encode(), NOW)
        assert classify(read).kind == "host"
        assert (read.hostname, read.observer, read.pacemaker_name) == ("compute2", "compute1", "node2")
        assert (read.detail, read.cluster_port, read.utc_time) == (detail, "226.94.1.1:5405", NOW)
        assert read.boot_id == "", "it is that of the observer"
        assert read.last_alive is not None and NOW - 21.75 < read.last_alive <= NOW - 20.75
        assert [(one.kind, one.guid) for one in read.evidence] == [
            ("fenced", ""),
            ("power_off", "4c4c4544-0051-3610-8052-b4c04f4e3132"),
        ]


def test_a_host_report_says_which_recovery_it_adds_to_if_it_does() -> None:
    body = host_report(ORIGIN, new_id(), "compute2", "node2", "4", (), None, NOW, "", "17")
    read = parse(json.dumps(body).encode(), NOW)
    assert (str(read.recovery), read.last_alive, read.evidence) == ("17", None, ())
    assert "recovery" not in host_report(ORIGIN, new_id(), "compute2", "node2", "4", (), None, NOW, "")


def test_a_host_that_is_up_is_no_failure_and_declares_its_identity_only_of_itself() -> None:
    guid = "4c4c4544-0051-3610-8052-b4c04f4e3132"
    own = parse(json.dumps(host_up_report(ORIGIN, new_id(), "compute1", "node1", NOW, "started", guid)).encode(), NOW)
    assert (own.event_id, own.event_type, own.detail) == ("1", "1", "1") and classify(own).kind != "host"
    assert (own.boot_id, own.pacemaker_name, own.bmc_guid) == (ORIGIN.boot_id, "node1", guid)
    peer = parse(json.dumps(host_up_report(ORIGIN, new_id(), "compute2", "node2", NOW, "back", guid)).encode(), NOW)
    assert (peer.hostname, peer.boot_id, peer.bmc_guid) == ("compute2", "", "")


def test_a_host_report_from_the_future_is_accepted_once_put_right() -> None:
    ahead = NOW + 72 * 3600
    fenced = {"kind": "fenced", "at": utc(ahead - 5), "detail": "pacemaker: off of node2 succeeded"}
    body = host_report(ORIGIN, new_id(), "compute2", "node2", "2", (fenced,), ahead - 20, ahead, "it is gone")
    with pytest.raises(BadNotification, match="ahead"):
        parse(json.dumps(body).encode(), NOW)
    assert parse(json.dumps(put_right(body, NOW)).encode(), NOW).utc_time == NOW


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
