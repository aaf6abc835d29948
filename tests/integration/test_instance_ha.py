"""The instance-ha API of a real controller beside a simulated cloud: whole stories, by plain requests."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import requests

from masakari.config import Db
from tests.lab.instance_ha import ANSWER_WITHIN_S, Caller
from tests.lab.mariadb import until
from tests.lab.processes import ROOT, CloudProcess, ControllerProcess, Monitor
from tests.simcloud.control import RemoteCloud
from tests.simcloud.keystone_api import PROJECTS

SLOW_S = 40  # what a busy machine may take for a recovery
CACHE_S = 2
OFF = {"event": "STOPPED", "cluster_status": "OFFLINE", "host_status": "NORMAL"}
UNSURE = {**OFF, "host_status": "UNKNOWN"}
SERVICE = {"event": "STOPPED", "process_name": "nova-compute"}


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[RemoteCloud]:
    times: dict[str, Any] = {
        "evacuate_s": 0.5,
        "settle_s": 0.2,
        "stop_s": 0.2,
        "start_s": 0.2,
        "service_down_s": 5,
        "report_s": 1,
    }
    with CloudProcess(tmp_path, hosts="compute1,compute2,compute3,spare1", **times) as process:
        yield process.remote


@pytest.fixture
def controller(tmp_path: Path, cloud: RemoteCloud) -> Iterator[ControllerProcess]:
    db = Db(drivername="sqlite", name=str(tmp_path / "masakari.sqlite"))
    with ControllerProcess(tmp_path, db, cloud.auth_url, instance_ha__token_cache_s=CACHE_S) as started:
        yield started


class Operator:
    """An operator with the API and the scripts of a controller at hand."""

    def __init__(self, controller: ControllerProcess, cloud: RemoteCloud) -> None:
        self.controller = controller
        self.cloud = cloud
        self.caller = Caller(controller.url, cloud.auth_url)

    def change(self, item: dict[str, Any], **fields: Any) -> requests.Response:
        """Change a segment or a host."""
        if "failover_segment_id" in item:
            return self.caller.ask("PUT", self.at(item), {"host": fields})
        return self.caller.ask("PUT", self.at(item), {"segment": fields})

    def delete(self, item: dict[str, Any]) -> int:
        """Delete a segment or a host; the status."""
        return self.caller.ask("DELETE", self.at(item)).status_code

    def at(self, item: dict[str, Any]) -> str:
        """Where a segment, host or notification is."""
        if "notification_uuid" in item:
            return f"/v1/notifications/{item['notification_uuid']}"
        if "failover_segment_id" in item:
            return f"/v1/segments/{item['failover_segment_id']}/hosts/{item['uuid']}"
        return f"/v1/segments/{item['uuid']}"

    def look(self, item: dict[str, Any]) -> dict[str, Any]:
        """The same item as it is now."""
        answer = self.caller.ask("GET", self.at(item))
        assert answer.ok, answer.text
        [shown] = answer.json().values()
        return dict(shown)

    def post(self, payload: dict[str, Any], kind: str = "COMPUTE_HOST", hostname: str = "compute1") -> requests.Response:
        """Post a notification of now."""
        return self.caller.ask("POST", "/v1/notifications", {"notification": note(payload, kind, hostname)})

    def posted(self, *arguments: Any, **fields: Any) -> dict[str, Any]:
        """The same, which must be accepted."""
        answer = self.post(*arguments, **fields)
        assert answer.status_code == 202, answer.text
        return dict(answer.json()["notification"])

    def callback(self, body: dict[str, Any], sender: str = "compute2") -> dict[str, Any]:
        """Send a signed callback."""
        return Monitor(sender).deliver([self.controller.url], body)

    def newest(self) -> dict[str, Any]:
        """The newest notification."""
        return self.caller.listed("/v1/notifications", limit=1)[0]

    def until_status(self, notification: dict[str, Any], status: str) -> dict[str, Any]:
        """The notification, once it has this status."""
        until(lambda: self.look(notification)["status"] == status, SLOW_S, lambda: self.story(notification))
        return self.look(notification)

    def until_details(self, notification: dict[str, Any], words: str) -> None:
        """Wait until the details of its recovery tell this."""
        until(lambda: words in str(self.look(notification)["recovery_workflow_details"]), SLOW_S, lambda: self.story(notification))

    def moves(self, notification: dict[str, Any]) -> list[dict[str, Any]]:
        """What became of the instances."""
        return self.caller.listed(f"{self.at(notification)}/vmoves")

    def story(self, notification: dict[str, Any]) -> str:
        return f"{self.look(notification)}\n{self.controller.said()[-5000:]}"

    def script(self, name: str, *arguments: str) -> str:
        """What one of the operator's scripts prints."""
        done = subprocess.run(
            [sys.executable, str(ROOT / "utils" / name), "--config", str(self.controller.config), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def spares(self) -> str:
        """The list of spares."""
        return self.script("reserve_host_manage.py", "--mode", "list")


def note(payload: dict[str, Any], kind: str = "COMPUTE_HOST", hostname: str = "compute1") -> dict[str, Any]:
    at = datetime.fromtimestamp(time.time(), timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")
    return {"type": kind, "hostname": hostname, "generated_time": at, "payload": payload}


@pytest.fixture
def operator(controller: ControllerProcess, cloud: RemoteCloud) -> Operator:
    return Operator(controller, cloud)


@pytest.fixture
def segment(operator: Operator) -> dict[str, Any]:
    return operator.caller.segment("okidoki")


@pytest.fixture
def compute1(operator: Operator, segment: dict[str, Any]) -> dict[str, Any]:
    return operator.caller.host(segment, "compute1")


@pytest.fixture(autouse=True)
def no_traceback(controller: ControllerProcess) -> Iterator[None]:
    yield
    assert "Traceback" not in controller.said(), controller.said()[-5000:]


# What is ignored


def assert_ignored(operator: Operator, reason: str) -> None:
    """Whichever way a failure is told, nothing is done, and the reason is on record."""
    guest = operator.cloud.boot("compute1", 1)[0]
    told = {
        "COMPUTE_HOST": OFF,
        "VM": {"event": "LIFECYCLE", "instance_uuid": guest, "vir_domain_event": "STOPPED_FAILED"},
        "PROCESS": SERVICE,
    }
    for kind, payload in told.items():
        made = operator.posted(payload, kind)
        assert (made["status"], made["masakari"]["recovery"], made["masakari"]["reason"]) == ("ignored", None, reason)
        assert reason in str(operator.look(made)["recovery_workflow_details"])
    bodies = [
        (Monitor("compute2").host_down("compute1"), "compute2"),
        (Monitor("compute1").instance_down(guest), "compute1"),
        (Monitor("compute1").process_down(), "compute1"),
    ]
    for body, sender in bodies:
        answer = operator.callback(body, sender)
        assert (answer["recovery"], answer["reason"]) == (None, reason)
        assert operator.newest()["status"] == "ignored"
    assert operator.cloud.state()["hosts"]["compute1"]["enabled"]


def test_of_a_host_on_maintenance_everything_is_ignored(operator: Operator, compute1: dict[str, Any]) -> None:
    answer = operator.change(compute1, on_maintenance="True")
    assert answer.ok and answer.json()["host"]["on_maintenance"] is True
    assert_ignored(operator, "compute1 is on maintenance")
    assert operator.change(compute1, on_maintenance="False").json()["host"]["on_maintenance"] is False
    assert operator.posted(UNSURE)["status"] == "new"


def test_of_a_disabled_segment_everything_is_ignored(
    operator: Operator, segment: dict[str, Any], compute1: dict[str, Any]
) -> None:
    assert operator.change(segment, enabled=False).json()["segment"]["enabled"] is False
    assert_ignored(operator, "segment okidoki is disabled")
    assert operator.change(segment, enabled=True).ok
    assert operator.posted(UNSURE)["status"] == "new"


# A host's failure and its return


def test_a_failed_host_is_evacuated_to_the_reserved_one_and_brought_back_by_a_put(
    operator: Operator, segment: dict[str, Any], compute1: dict[str, Any]
) -> None:
    caller, cloud = operator.caller, operator.cloud
    assert operator.change(segment, recovery_method="reserved_host").ok
    compute2, spare = caller.host(segment, "compute2"), caller.host(segment, "spare1", reserved=True)
    assert spare["reserved"] and "spare1" in operator.spares()
    guests = cloud.boot("compute1", 3)
    cloud.crash("compute1")
    answer = operator.callback(Monitor("compute2").host_down("compute1"))
    notification = operator.newest()
    assert (notification["type"], notification["source_host_uuid"]) == ("COMPUTE_HOST", compute1["uuid"])
    assert notification["payload"] == OFF
    # While it runs, what it is about is locked, and nothing else.
    assert operator.change(compute1, reserved=True).status_code == 409
    assert operator.change(segment, name="x").status_code == 409
    assert operator.delete(compute1) == operator.delete(segment) == 409
    assert operator.change(compute2, control_attributes="y").ok
    done = operator.until_status(notification, "finished")
    assert answer["recovery"] is not None
    assert operator.look(compute1)["on_maintenance"] is True
    assert operator.look(spare)["reserved"] is False and "spare1" not in operator.spares()
    assert {item["host"] for item in cloud.state()["servers"]} == {"spare1"}
    moves = operator.moves(notification)
    assert {move["instance_uuid"] for move in moves} == set(guests)
    assert {(move["status"], move["source_host"], move["dest_host"]) for move in moves} == {("succeeded", "compute1", "spare1")}
    assert caller.listed(f"{operator.at(notification)}/vmoves", status="failed") == []
    assert caller.ask("GET", f"{operator.at(notification)}/vmoves/{moves[0]['uuid']}").json()["vmove"] == moves[0]
    tasks = done["recovery_workflow_details"]
    assert {task["state"] for task in tasks} == {"SUCCESS"} and {task["progress"] for task in tasks} == {1.0}
    assert [task["name"] for task in tasks][:1] == ["intake"] and "evacuate" in [task["name"] for task in tasks]
    # Nothing stays locked; and the host is brought back.
    assert operator.change(segment, description="racks 1 and 2").ok
    cloud.start("compute1")
    assert operator.change(compute1, on_maintenance=False).json()["host"]["on_maintenance"] is False
    until(lambda: host_is_back(cloud, "compute1"), SLOW_S, operator.controller.said)
    until(lambda: operator.change(compute1, control_attributes="z").ok, SLOW_S, operator.controller.said)
    assert operator.look(compute1)["on_maintenance"] is False
    assert cloud.state()["violations"] == []
    assert operator.delete(segment) == 204 and caller.listed("/v1/segments") == []


def host_is_back(cloud: RemoteCloud, host: str) -> bool:
    now = cloud.state()["hosts"][host]
    return bool(now["enabled"] and now["up"] and not now["forced_down"])


def test_without_reserved_host_the_method_auto_lets_nova_choose(
    operator: Operator, segment: dict[str, Any], compute1: dict[str, Any]
) -> None:
    spare = operator.caller.host(segment, "spare1", reserved="True")
    operator.cloud.boot("compute1", 2)
    operator.cloud.crash("compute1")
    operator.callback(Monitor("compute2").host_down("compute1"))
    notification = operator.until_status(operator.newest(), "finished")
    assert {move["status"] for move in operator.moves(notification)} == {"succeeded"}
    assert operator.look(spare)["reserved"] is True and "spare1" in operator.spares()


def test_scripts_and_the_api_show_the_same_spares(operator: Operator, segment: dict[str, Any]) -> None:
    spare = operator.caller.host(segment, "spare1")
    operator.script("reserve_host_manage.py", "--mode", "add", "--port", "okidoki", "--host", "spare1")
    assert operator.look(spare)["reserved"] is True
    assert [item["name"] for item in operator.caller.listed(f"{operator.at(segment)}/hosts", reserved="True")] == ["spare1"]
    operator.script("reserve_host_manage.py", "--mode", "delete", "--port", "okidoki", "--host", "spare1")
    assert operator.look(spare)["reserved"] is False
    assert operator.change(spare, reserved="True").json()["host"]["reserved"] is True
    assert "spare1" in operator.spares()
    # One that only the scripts know becomes a host of the segment.
    operator.script("reserve_host_manage.py", "--mode", "add", "--port", "okidoki", "--host", "compute3")
    names = {item["name"]: item["reserved"] for item in operator.caller.listed(f"{operator.at(segment)}/hosts")}
    assert names == {"spare1": True, "compute3": True}


def test_a_segment_goes_with_its_hosts_and_spares(operator: Operator, segment: dict[str, Any]) -> None:
    host = operator.caller.host(segment, "spare1", reserved=True)
    other = operator.caller.segment("other")
    answer = operator.caller.ask(
        "POST", f"{operator.at(other)}/hosts", {"host": {"name": "spare1", "type": "COMPUTE", "control_attributes": "SSH"}}
    )
    assert answer.status_code == 409 and "okidoki" in answer.json()["conflictingRequest"]["message"]
    assert operator.caller.ask("GET", f"{operator.at(other)}/hosts/{host['uuid']}").status_code == 404
    assert operator.delete(segment) == 204
    assert operator.delete(segment) == 404
    assert "spare1" not in operator.spares()
    assert operator.caller.host(other, "spare1")["reserved"] is False


# Notifications


@pytest.mark.parametrize("payload", [OFF, UNSURE, {"event": "STOPPED"}])
def test_a_notification_without_proof_is_held_until_a_signed_callback_proves_it(
    operator: Operator, compute1: dict[str, Any], payload: dict[str, Any]
) -> None:
    guests = operator.cloud.boot("compute1", 2)
    operator.cloud.crash("compute1")
    notification = operator.posted(payload)
    assert notification["status"] == "new"
    operator.until_details(notification, "no proof that the host is off")
    assert operator.look(notification)["status"] == "running" and operator.moves(notification) == []
    assert operator.cloud.state()["evacuate_requests"] == []
    assert operator.change(compute1, on_maintenance=False).status_code == 409
    answer = operator.callback(Monitor("compute2").host_down("compute1"))
    assert answer["recovery"] == notification["masakari"]["recovery"]
    operator.until_status(notification, "finished")
    moves = operator.moves(notification)
    assert {(move["instance_uuid"], move["status"]) for move in moves} == {(guest, "succeeded") for guest in guests}
    assert operator.look(compute1)["on_maintenance"] is True
    assert operator.cloud.state()["violations"] == []


def test_a_notifier_proves_nothing_whatever_it_sends(
    operator: Operator, controller: ControllerProcess, compute1: dict[str, Any]
) -> None:
    operator.cloud.boot("compute1", 1)
    notifier = Caller(controller.url, operator.cloud.auth_url, "monitor", "service")
    own = Monitor("compute2").host_down("compute1")
    made = notifier.made("/v1/notifications", "notification", **note({**OFF, "masakari": own}))
    assert made["notification_uuid"] != own["id"], "compute2 may still send it, signed"
    operator.until_details(made, "no proof that the host is off")
    assert operator.cloud.state()["evacuate_requests"] == []
    # The same report, sent again since its answer was lost.
    again = notifier.made("/v1/notifications", "notification", **note({**OFF, "masakari": own}))
    assert again["id"] == made["id"]


def test_a_notifier_cannot_choose_a_segment_where_detail_2_is_proof(
    operator: Operator, controller: ControllerProcess
) -> None:
    reload(controller, safety__detail_2_is_proof="226.94.1.1:5405")
    operator.cloud.boot("compute1", 1)
    notifier = Caller(controller.url, operator.cloud.auth_url, "monitor", "service")
    own = Monitor("compute2", "226.94.1.1:5405").host_down("compute1", "")
    del own["observer"], own["evidence"]
    answer = notifier.ask("POST", "/v1/notifications", {"notification": note({**OFF, "masakari": own})})
    assert answer.status_code == 400 and "host of no segment" in answer.text
    assert operator.cloud.state()["hosts"]["compute1"]["enabled"]


def test_a_process_that_is_only_to_be_reported_disables_nothing(
    operator: Operator, controller: ControllerProcess, compute1: dict[str, Any]
) -> None:
    notifier = Caller(controller.url, operator.cloud.auth_url, "monitor", "service")
    own = Monitor("compute1").process_down("libvirtd", on_failure="report")
    payload = {"event": "STOPPED", "process_name": "libvirtd", "masakari": own}
    made = notifier.made("/v1/notifications", "notification", **note(payload, "PROCESS"))
    operator.until_status(made, "finished")
    assert operator.cloud.state()["hosts"]["compute1"]["enabled"]
    assert operator.look(compute1)["on_maintenance"] is False


def test_an_administrators_report_with_evidence_is_proof(operator: Operator, compute1: dict[str, Any]) -> None:
    operator.cloud.boot("compute1", 1)
    operator.cloud.crash("compute1")
    made = operator.posted({**OFF, "masakari": Monitor("compute2").host_down("compute1")})
    operator.until_status(made, "finished")
    assert [move["status"] for move in operator.moves(made)] == ["succeeded"]


def test_a_process_that_stopped_sets_on_maintenance_and_its_start_clears_it(
    operator: Operator, compute1: dict[str, Any]
) -> None:
    stopped = operator.until_status(operator.posted(SERVICE, "PROCESS"), "finished")
    assert operator.look(compute1)["on_maintenance"] is True
    assert operator.cloud.state()["hosts"]["compute1"]["enabled"] is False
    started = operator.posted({**SERVICE, "event": "STARTED"}, "PROCESS")
    operator.until_status(started, "finished")
    until(lambda: operator.look(compute1)["on_maintenance"] is False, SLOW_S, operator.controller.said)
    assert operator.cloud.state()["hosts"]["compute1"]["enabled"] is True
    assert operator.moves(stopped) == operator.moves(started) == []


def test_an_instance_that_failed_is_started_again(operator: Operator, compute1: dict[str, Any]) -> None:
    [guest] = operator.cloud.boot("compute1", 1)
    operator.cloud.crash_guest(guest)
    payload = {"event": "LIFECYCLE", "instance_uuid": guest, "vir_domain_event": "STOPPED_FAILED"}
    made = operator.posted(payload, "VM")
    operator.until_status(made, "finished")
    assert guest in operator.cloud.state()["hosts"]["compute1"]["guests"]
    assert operator.moves(made) == []


def test_a_host_that_started_needs_nothing(operator: Operator, compute1: dict[str, Any]) -> None:
    made = operator.posted({"event": "STARTED", "cluster_status": "ONLINE", "host_status": "NORMAL"})
    assert (made["status"], made["masakari"]["recovery"]) == ("finished", None)


def test_duplicates_are_refused_within_the_window_only(
    operator: Operator, controller: ControllerProcess, segment: dict[str, Any], compute1: dict[str, Any]
) -> None:
    operator.caller.host(segment, "compute2")
    operator.posted({"event": "STARTED"})
    answer = operator.post({"event": "STARTED"})
    assert answer.status_code == 409 and "compute1" in answer.json()["conflictingRequest"]["message"]
    operator.posted({"event": "STARTED"}, hostname="compute2")
    operator.posted({"event": "STARTED", "host_status": "NORMAL"})
    assert len(operator.caller.listed("/v1/notifications")) == 3
    reload(controller, instance_ha__duplicate_notification_detection_interval=0)
    operator.posted({"event": "STARTED"})


def reload(controller: ControllerProcess, **changes: str | float) -> None:
    """Other settings, without a restart."""
    before = controller.said().count("settings reloaded")
    controller.write_config(**changes)
    controller.signal(signal.SIGHUP)
    until(lambda: controller.said().count("settings reloaded") > before, SLOW_S, controller.said)


# Who may


def test_without_a_token_only_the_versions_are_shown(controller: ControllerProcess) -> None:
    for path in ("/", "/v1", "/v1/", f"/v1/{PROJECTS['admin']}"):
        assert requests.get(controller.url + path, timeout=ANSWER_WITHIN_S).status_code == 200
    for headers in ({}, {"X-Auth-Token": ""}, {"X-Auth-Token": "invented"}):
        answer = requests.get(f"{controller.url}/v1/segments", headers=headers, timeout=ANSWER_WITHIN_S)
        assert answer.status_code == 401 and answer.headers["WWW-Authenticate"].startswith('Keystone uri="http')
        assert answer.headers["x-openstack-request-id"].startswith("req-")


def test_a_notifier_may_create_notifications_and_nothing_else(
    operator: Operator, controller: ControllerProcess, segment: dict[str, Any], compute1: dict[str, Any]
) -> None:
    notifier = Caller(controller.url, operator.cloud.auth_url, "monitor", "service")
    made = notifier.made("/v1/notifications", "notification", **note({"event": "STARTED"}))
    asked = [
        ("GET", "/v1/notifications", None),
        ("GET", operator.at(made), None),
        ("GET", f"{operator.at(made)}/vmoves", None),
        ("GET", "/v1/segments", None),
        ("POST", "/v1/segments", {"segment": {"name": "x", "recovery_method": "auto", "service_type": "COMPUTE"}}),
        ("PUT", operator.at(segment), {"segment": {"enabled": False}}),
        ("DELETE", operator.at(segment), None),
        ("POST", f"{operator.at(segment)}/hosts", {"host": {"name": "compute2", "type": "x", "control_attributes": "y"}}),
        ("PUT", operator.at(compute1), {"host": {"on_maintenance": True}}),
        ("DELETE", operator.at(compute1), None),
    ]
    for method, path, content in asked:
        assert notifier.ask(method, path, content).status_code == 403, (method, path)
    assert operator.look(segment) == segment and operator.look(compute1) == compute1


def test_users_of_the_cloud_may_nothing(operator: Operator, controller: ControllerProcess, compute1: dict[str, Any]) -> None:
    demo = Caller(controller.url, operator.cloud.auth_url, "demo", "demo")
    assert demo.ask("GET", "/v1/segments").status_code == 403
    assert demo.ask("POST", "/v1/notifications", {"notification": note(OFF)}).status_code == 403
    assert operator.caller.listed("/v1/notifications") == []


def test_other_roles_count_after_a_sighup(operator: Operator, controller: ControllerProcess) -> None:
    demo = Caller(controller.url, operator.cloud.auth_url, "demo", "demo")
    assert demo.ask("GET", "/v1/segments").status_code == 403
    reload(controller, instance_ha__admin_roles="reader")
    assert demo.ask("GET", "/v1/segments").status_code == 200
    reload(controller, instance_ha__admin_roles="nobody-has-it")
    assert demo.ask("GET", "/v1/segments").status_code == operator.caller.ask("GET", "/v1/segments").status_code == 403


def test_a_revoked_token_is_refused_within_the_cache_time(operator: Operator, cloud: RemoteCloud) -> None:
    assert operator.caller.ask("GET", "/v1/segments").status_code == 200
    token = operator.caller.token
    headers = {"X-Auth-Token": token, "X-Subject-Token": token}
    revoked = requests.delete(f"{cloud.auth_url}/auth/tokens", headers=headers, timeout=ANSWER_WITHIN_S)
    revoked.raise_for_status()
    at = time.monotonic()
    until(
        lambda: operator.caller.ask("GET", "/v1/segments").status_code == 401 or time.monotonic() > at + CACHE_S + 3,
        SLOW_S,
        operator.controller.said,
    )
    assert time.monotonic() - at < CACHE_S + 3


def test_with_keystone_away_nobody_is_let_in_and_nothing_is_stored(
    operator: Operator, cloud: RemoteCloud, compute1: dict[str, Any]
) -> None:
    fresh = Caller(operator.controller.url, cloud.auth_url)
    cloud.set_away("keystone")
    answer = fresh.ask("POST", "/v1/notifications", {"notification": note(OFF)})
    assert answer.status_code == 503 and int(answer.headers["Retry-After"]) > 0
    assert fresh.ask("DELETE", operator.at(compute1)).status_code == 503
    # Callbacks need no Keystone.
    assert operator.callback(Monitor("compute2").host_down("compute2", "", eventType="1", detail="1"))["recovery"] is None
    cloud.set_away("keystone", False)
    until(lambda: fresh.ask("GET", "/v1/notifications").status_code == 200, SLOW_S, operator.controller.said)
    assert [item["payload"]["event"] for item in fresh.listed("/v1/notifications")] == ["STARTED"]
    assert operator.look(compute1) == compute1


def test_the_project_in_the_path_is_that_of_the_token(operator: Operator, segment: dict[str, Any]) -> None:
    own, other = PROJECTS["admin"], PROJECTS["demo"]
    assert operator.caller.ask("GET", f"/v1/{own}/segments/{segment['uuid']}").json()["segment"] == segment
    assert operator.caller.ask("DELETE", f"/v1/{other}/segments/{segment['uuid']}").status_code == 400
    assert operator.look(segment) == segment


# Versions


def test_what_later_versions_brought_is_kept_from_who_asks_for_earlier_ones(
    operator: Operator, segment: dict[str, Any], compute1: dict[str, Any]
) -> None:
    made = operator.posted({"event": "STARTED"})

    def ask(version: str, path: str) -> requests.Response:
        return operator.caller.ask("GET", path, headers={"OpenStack-API-Version": version})

    for version, enabled, details, moves in [
        ("instance-ha 1.0", False, False, 404),
        ("instance-ha 1.1", False, True, 404),
        ("instance-ha 1.2", True, True, 404),
        ("instance-ha 1.3", True, True, 200),
        ("compute 2.90, instance-ha latest", True, True, 200),
        # openstacksdk asks for these without a version.
        ("", False, True, 200),
    ]:
        shown = ask(version, operator.at(segment))
        assert ("enabled" in shown.json()["segment"]) is enabled, version
        assert ("enabled" in ask(version, operator.at(compute1)).json()["host"]["failover_segment"]) is enabled
        assert ("recovery_workflow_details" in ask(version, operator.at(made)).json()["notification"]) is details
        assert ask(version, f"{operator.at(made)}/vmoves").status_code == moves
        wanted = {"": "1.0", "compute 2.90, instance-ha latest": "1.3"}.get(version, version[-3:])
        assert shown.headers["OpenStack-API-Version"] == f"instance-ha {wanted}"
    assert ask("instance-ha 1.4", "/v1/segments").status_code == 406
    assert ask("instance-ha one", "/v1/segments").status_code == 400


def test_a_host_that_nova_does_not_know_is_refused(operator: Operator, segment: dict[str, Any], cloud: RemoteCloud) -> None:
    asked = {"host": {"name": "nobody", "type": "COMPUTE", "control_attributes": "SSH"}}
    answer = operator.caller.ask("POST", f"{operator.at(segment)}/hosts", asked)
    assert (answer.status_code, answer.json()["badRequest"]["field"]) == (400, "name")
    cloud.set_away("nova")
    asked["host"]["name"] = "compute1"
    answer = operator.caller.ask("POST", f"{operator.at(segment)}/hosts", asked)
    assert answer.status_code == 503 and int(answer.headers["Retry-After"]) > 0
    cloud.set_away("nova", False)
    assert operator.caller.listed(f"{operator.at(segment)}/hosts") == []


def test_what_is_refused_leaves_nothing_strange_in_the_log(operator: Operator) -> None:
    """Also while Keystone is away, when anybody's path gets there."""
    asked = {"segment": {"name": "x", "recovery_method": "auto", "service_type": "y", "\x1b[2J\nforged": 1}}
    assert operator.caller.ask("POST", "/v1/segments", asked).status_code == 400
    operator.cloud.set_away("keystone")
    url = f"{operator.controller.url}/v1/segments/%0a%1b[2Jforged"
    answer = requests.get(url, headers={"X-Auth-Token": "invented"}, timeout=ANSWER_WITHIN_S)
    assert answer.status_code == 503
    assert "forged" in operator.controller.said() and "\x1b" not in operator.controller.said()
    assert not [line for line in operator.controller.said().splitlines() if line.startswith("forged")]
