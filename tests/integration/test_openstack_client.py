"""The unmodified openstack command and openstacksdk against a real controller, from a Keystone-protected simulated cloud."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from masakari.config import Db
from tests.lab.clients import OpenStack
from tests.lab.mariadb import until
from tests.lab.processes import CloudProcess, ControllerProcess, Monitor

pytestmark = pytest.mark.needs_clients

HOSTS = ("compute1", "compute2", "compute-vic01.novalocal", "compute-vic02.novalocal", "spare1")
STOPPED = '{"event": "STOPPED", "host_status": "NORMAL", "cluster_status": "OFFLINE"}'
WITHIN_S = 30.0


class Site:
    """A cloud with the controller in its catalog, and an operator at a terminal."""

    def __init__(self, folder: Path, cloud: CloudProcess, controller: ControllerProcess) -> None:
        self.folder = folder
        self.cloud = cloud.remote
        self.controller = controller
        self.operator = OpenStack(self.cloud.auth_url)

    def json(self, *lines: str) -> list[Any]:
        """What these commands print, in one process; those that print nothing give an empty string."""
        shows = re.compile(r"openstack \S+(?: host| vmove)? (?:create|list|show|update)\b")
        answers = self.operator.many([f"{line} -f json" if shows.match(line) else line for line in lines])
        return [answer.json() if answer.command.endswith("-f json") else answer.good().out for answer in answers]

    def until(self, condition: Any, what: str) -> None:
        until(condition, WITHIN_S, lambda: f"{what}\n{self.controller.said()[-4000:]}")


FORMS = ("", "/v1", "/v1/%(tenant_id)s")
"""How the address may stand in the catalog, behind host and port; the guides write the last one."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    db = Db(drivername="sqlite", name=str(folder / "vm_ha.sqlite"))
    with CloudProcess(folder, hosts=",".join(HOSTS), evacuate_s=0.1, settle_s=0.1) as cloud:
        options: dict[str, Any] = {"recover_starter__semaphore_multiplicity": 8}
        with ControllerProcess(folder, db, cloud.remote.auth_url, **options) as controller:
            cloud.remote.set_instance_ha(controller.url + FORMS[-1])
            yield Site(folder, cloud, controller)


def test_every_command_about_segments_and_hosts_works_as_typed(site: Site) -> None:
    made, host, listed, shown = site.json(
        "openstack segment create okidoki auto COMPUTE",
        "openstack segment host create compute1 COMPUTE SSH okidoki",
        "openstack segment list",
        "openstack segment host show okidoki compute1",
    )
    assert (made["name"], made["recovery_method"], made["is_enabled"]) == ("okidoki", "auto", True)
    assert (host["name"], host["reserved"], host["on_maintenance"]) == ("compute1", False, False)
    assert [segment["uuid"] for segment in listed] == [made["uuid"]] == [shown["failover_segment_id"]]
    second, *hosts, updated, spare, names, filtered = site.json(
        "openstack segment create S2 auto COMPUTE",
        "openstack segment host create compute-vic01.novalocal COMPUTE SSH S2",
        "openstack segment host create compute-vic02.novalocal COMPUTE SSH S2",
        "openstack segment update S2 --name S3 --description 'racks 1 and 2' --recovery_method rh_priority --is_enabled False",
        "openstack segment host update --reserved True --on_maintenance True S3 compute-vic02.novalocal",
        "openstack segment host list S3 --sort name:asc --limit 1",
        "openstack segment list --filters recovery_method=rh_priority",
    )
    assert [one["name"] for one in hosts] == ["compute-vic01.novalocal", "compute-vic02.novalocal"]
    assert (updated["name"], updated["description"], updated["recovery_method"]) == ("S3", "racks 1 and 2", "rh_priority")
    assert (updated["uuid"], updated["is_enabled"]) == (second["uuid"], False)
    assert (spare["reserved"], spare["on_maintenance"]) == (True, True)
    assert [one["name"] for one in names] == ["compute-vic01.novalocal", "compute-vic02.novalocal"]
    assert [one["uuid"] for one in filtered] == [second["uuid"]]
    site.json(
        "openstack segment host delete S3 compute-vic01.novalocal",
        "openstack segment delete S3",
        "openstack segment delete okidoki",
    )
    assert site.json("openstack segment list") == [[]]


@pytest.mark.parametrize("form", FORMS)
def test_the_catalog_may_name_the_address_in_any_form(site: Site, form: str) -> None:
    site.cloud.set_instance_ha(site.controller.url + form)
    assert site.json("openstack segment create okidoki auto COMPUTE", "openstack segment delete okidoki")[0]["name"] == "okidoki"
    site.cloud.set_instance_ha(site.controller.url + FORMS[-1])


def test_what_is_refused_is_shown_with_its_reason(site: Site) -> None:
    site.json("openstack segment create okidoki auto COMPUTE", "openstack segment host create compute1 COMPUTE SSH okidoki")
    refused = site.operator.many([
        "openstack segment create okidoki auto COMPUTE",
        "openstack segment host create nobody COMPUTE SSH okidoki",
        "openstack segment show nothing",
        "openstack notification create COMPUTE_HOST compute2 2026-11-21T16:00:00 '" + STOPPED + "'",
    ])  # fmt: skip
    said = [(answer.status, answer.err) for answer in refused]
    assert [status for status, _ in said] == [1, 1, 1, 1], said
    for words, (_, err) in zip(
        ("okidoki exists", "Nova knows no nova-compute of nobody", "not found", "host of no segment"),
        said,
        strict=True,
    ):
        assert words in err
    visitor = OpenStack(site.cloud.auth_url, "demo", "demo")
    [answer] = visitor.many(["openstack segment list"])
    assert answer.status == 1 and "needs one of these roles" in answer.err
    site.json("openstack segment delete okidoki")


def test_a_host_fails_is_recovered_and_comes_back_as_the_guide_says(site: Site) -> None:
    site.json(
        "openstack segment create okidoki auto COMPUTE",
        "openstack segment host create compute1 COMPUTE SSH okidoki",
        "openstack segment host create compute2 COMPUTE SSH okidoki",
    )
    guests = site.cloud.boot("compute1", 2)
    site.cloud.crash("compute1")
    [posted] = site.json(f"openstack notification create COMPUTE_HOST compute1 2026-11-21T16:00:00 '{STOPPED}'")
    assert (posted["type"], posted["payload"]["host_status"]) == ("COMPUTE_HOST", "NORMAL")
    site.operator.many(["openstack segment host delete okidoki compute1"])
    assert site.json("openstack segment host show okidoki compute1")[0]["name"] == "compute1", "it is busy with its recovery"
    Monitor("compute2").deliver([site.controller.url], Monitor("compute2").host_down("compute1"))
    name = posted["notification_uuid"]

    def is_finished() -> bool:
        return bool(site.json(f"openstack notification show {name}")[0]["status"] == "finished")

    site.until(is_finished, "the notification doesn't finish")
    shown, moves, listed, host = site.json(
        f"openstack notification show {name}",
        f"openstack notification vmove list {name}",
        "openstack notification list --filters type=COMPUTE_HOST",
        "openstack segment host show okidoki compute1",
    )
    assert {step["name"] for step in shown["recovery_workflow_details"]} >= {"prove", "isolate", "evacuate"}
    assert {move["server_id"] for move in moves} == set(guests) and {move["status"] for move in moves} == {"succeeded"}
    assert len(listed) == 2, "the callback is a notification, too"
    assert host["on_maintenance"] is True
    [one] = site.json(f"openstack notification vmove show {name} {moves[0]['uuid']}")
    assert one["source_host"] == "compute1"
    site.cloud.start("compute1")
    site.operator.many(["openstack compute service set --enable compute1 nova-compute"])
    [host] = site.json("openstack segment host update --on_maintenance False okidoki compute1")
    assert host["on_maintenance"] is False

    def is_back() -> bool:
        state = site.cloud.state()["hosts"]["compute1"]
        return bool(state["enabled"] and state["up"] and not state["forced_down"])

    site.until(is_back, "compute1 doesn't come back")

    def is_deleted() -> bool:
        return bool(site.operator.many(["openstack segment delete okidoki", "openstack segment list -f json"])[1].json() == [])

    site.until(is_deleted, "okidoki stays locked")


def test_openstacksdk_does_all_of_it(site: Site) -> None:
    result = site.operator.sdk(
        """
ha = conn.instance_ha
segment = ha.create_segment(name="sdk", recovery_method="auto", service_type="COMPUTE")
host = ha.create_host(segment.uuid, name="compute2", type="COMPUTE", control_attributes="SSH")
host = ha.update_host(host.uuid, segment_id=segment.uuid, reserved=True)
notification = ha.create_notification(
    type="PROCESS", hostname="compute2", generated_time="2026-11-21T16:00:00.000000",
    payload={"event": "STARTED", "process_name": "nova-compute"})
again = ha.get_notification(notification.notification_uuid)
result = {
    "segments": [one.name for one in ha.segments()],
    "hosts": [(one.name, one.reserved) for one in ha.hosts(segment.uuid)],
    "notifications": len(list(ha.notifications(type="PROCESS", limit=1))),
    "vmoves": list(ha.vmoves(notification.notification_uuid)),
    "details": again.recovery_workflow_details is not None,
}
"""
    )
    assert result["segments"] == ["sdk"] and result["hosts"] == [["compute2", True]]
    assert result["notifications"] >= 1 and result["vmoves"] == [] and result["details"]

    def is_gone() -> bool:
        return bool(site.operator.sdk("""
try:
    conn.instance_ha.delete_segment(next(conn.instance_ha.segments()).uuid)
    result = True
except openstack.exceptions.ConflictException:
    result = False
"""))

    site.until(is_gone, "the segment stays locked")
