"""A monitor with the masakarimonitors.conf of a guide: it signs in at the simulated Keystone, finds instance-ha in the catalog, and
posts its reports there. Here a small server of the test plays that service."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from masakari.common.clock import Clock
from masakari.common.report import Origin, new_id, process_report
from masakari.common.spool import Spool
from masakari.config import Db
from tests.lab.instance_ha import Caller
from tests.lab.mariadb import until
from tests.lab.monitors import MonitorProcess
from tests.lab.processes import ROOT, CloudProcess, ControllerProcess
from tests.simcloud import SimulatedCloud

HOST = "compute1"
PASSWORD = "simcloud"
SOON_S = 20.0

CONF = """[DEFAULT]
debug = True
transport_url = rabbit://openstack:Welcome123@192.168.10.238:5672
[api]
region = RegionOne
auth_url = {auth_url}
user_domain_name = default
project_name = service
project_domain_id = default
username = {user}
password = {password}
[keystone_authtoken]
auth_url = {auth_url}
auth_type = password
username = masakari
password = {password}
memcached_servers = 192.168.10.238:11211
[libvirt]
connection_uri = "qemu+tcp://192.168.10.159/system"
[host]
monitoring_driver = default
disable_ipmi_check = True
[process]
process_list_path = {folder}/process_list.yaml
check_interval = 0.5
restart_retries = 1
restart_interval = 0
api_retry_interval = 0.5
hostname = {host}
state_dir = {folder}/state
"""

LIST = """-
    process_name: /nowhere/watched
    start_command: "false"
    restart_command: "false"
"""

Reply = tuple[int, Mapping[str, Any]]


class InstanceHa:
    """Plays the service: believes the tokens that Keystone believes, keeps each notification, and answers as `rule` says."""

    def __init__(self, cloud: SimulatedCloud) -> None:
        self.cloud = cloud
        self.notes: list[dict[str, Any]] = []
        self.taken: list[dict[str, Any]] = []
        self.versions: set[str] = set()
        self.refused_tokens = 0
        self.rule: Callable[[dict[str, Any]], Reply] = lambda note: taken()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> InstanceHa:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="instance-ha", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def until_taken(self, process: str) -> dict[str, Any]:
        """The notification about that process, once it is taken."""
        until(
            lambda: any(_about(note) == process for note in self.taken), SOON_S, lambda: f"no {process}: {self.notes}"
        )
        return next(note for note in self.taken if _about(note) == process)

    def until_asked(self, process: str, times: int = 1) -> None:
        """Until it was told so often of that process."""
        until(lambda: self.asked(process) >= times, SOON_S, lambda: f"{process}: {self.asked(process)} times")

    def asked(self, process: str) -> int:
        """How often it was told of that process."""
        return sum(1 for note in self.notes if _about(note) == process)

    def answer(self, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """The status and content for a request."""
        if self.cloud.keystone.believe(headers.get("X-Auth-Token")) is None:
            self.refused_tokens += 1
            return 401, {"error": {"code": 401, "message": "The request you have made requires authentication."}}
        if path == "/v1/project-1/segments":
            return 200, {"segments": [{"uuid": "s1", "name": "okidoki"}]}
        if path == "/v1/project-1/segments/s1/hosts":
            return 200, {"hosts": [{"name": HOST}]}
        assert path == "/v1/project-1/notifications", path
        self.versions.add(headers["OpenStack-API-Version"])
        note = json.loads(body)["notification"]
        self.notes.append(note)
        status, content = self.rule(note)
        if status in (202, 409):
            self.taken.append(note)
        return status, content

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        answer = self.answer

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, content = answer(self.path, dict(self.headers), body)
                data = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST

            def log_message(self, *_: Any) -> None: ...

        return Handler


def _about(note: Mapping[str, Any]) -> str:
    return Path(note["payload"]["process_name"]).name


def taken(**more: Any) -> Reply:
    return 202, {"notification": {"notification_uuid": "0f1e", "status": "new", **more}}


def refused(status: int, message: str) -> Reply:
    return status, {"badRequest": {"code": status, "message": message}}


class GuidedMonitor(MonitorProcess):
    """The processmonitor with masakarimonitors.conf and process_list.yaml; what fails is added to the list."""

    module = "processmonitor"
    ready_when = " watches "

    def __init__(self, folder: Path, auth_url: str, user: str = "masakari") -> None:
        self._auth_url = auth_url
        self._user = user
        super().__init__(folder, HOST, {})

    def write_config(self, **changes: Any) -> None:
        """The file of the guide, with these options of ours in [process].

        The list has one process, which does not run and can't be started.
        """
        account = {"auth_url": self._auth_url, "user": self._user, "password": PASSWORD}
        own = "".join(f"{name} = {value}\n" for name, value in changes.items())
        self.config.write_text(CONF.format(folder=self.folder, host=HOST, **account) + own)
        (self.folder / "process_list.yaml").write_text(LIST)

    def put(self, *names: str) -> None:
        """Let these processes have failed before, and nobody have heard of it. Only while it is not running."""
        spool = Spool(str(self.state / "spool"), Clock(), max_bytes=1 << 20, max_age_s=3600)
        origin = Origin(HOST, "RegionOne", "", "boot-1")
        for name in names:
            spool.put(
                process_report(origin, new_id(), f"/nowhere/{name}", "down", "disable", time.time(), "it is gone")
            )

    def check_online(self) -> subprocess.CompletedProcess[str]:
        """--check-config --online."""
        command = [
            sys.executable,
            "-m",
            self.module,
            "--config",
            str(self.config),
            "--check-config",
            "--online",
            "--json",
        ]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def cloud() -> SimulatedCloud:
    return SimulatedCloud(Clock(), [HOST])


@pytest.fixture
def auth_url(cloud: SimulatedCloud) -> Iterator[str]:
    server = cloud.serve()
    yield f"{server.url}/identity"
    server.close()


@pytest.fixture
def service(cloud: SimulatedCloud) -> Iterator[InstanceHa]:
    with InstanceHa(cloud) as playing:
        cloud.set_instance_ha(f"{playing.url}/v1/project-1")
        yield playing


@pytest.fixture
def monitor(tmp_path: Path, auth_url: str, service: InstanceHa) -> Iterator[GuidedMonitor]:
    made = GuidedMonitor(tmp_path / "monitor", auth_url)
    yield made
    made.kill()


def test_a_failure_arrives_as_a_notification_with_the_report_in_it(service: InstanceHa, monitor: GuidedMonitor) -> None:
    service.rule = lambda note: taken(masakari={"recovery": 3, "status": "held", "reason": "by hand"})
    monitor.start()
    note = service.until_taken("watched")
    monitor.until_waiting(0)
    report = note["payload"].pop("masakari")
    assert note.pop("generated_time") == report["utc_time"].rstrip("Z") + "000"
    payload = {"event": "STOPPED", "process_name": "/nowhere/watched"}
    assert note == {"type": "PROCESS", "hostname": HOST, "payload": payload}
    assert (report["observer"], report["state"], report["regionID"]) == (HOST, "down", "RegionOne")
    assert report["id"] and report["boot_id"]
    assert service.versions == {"instance-ha 1.0"}
    monitor.until_says(f"report {report['id']} about /nowhere/watched: recovery 3 is held: by hand")


def test_a_revoked_token_costs_a_second_sign_in_and_no_report(
    cloud: SimulatedCloud, service: InstanceHa, monitor: GuidedMonitor
) -> None:
    def revoke(note: dict[str, Any]) -> Reply:
        for token in cloud.keystone.tokens.values():
            token.revoked = True
        service.rule = lambda note: taken()
        return 503, {}

    service.rule = revoke
    monitor.put("one")
    monitor.start()
    service.until_taken("one")
    assert (service.refused_tokens, len(cloud.keystone.tokens)) == (1, 2)


def test_a_monitor_that_sent_callbacks_goes_over_to_notifications_without_a_restart(
    service: InstanceHa, monitor: GuidedMonitor
) -> None:
    monitor.put("one")
    monitor.write_config(resource_manager_url="http://127.0.0.1:9")
    monitor.start()
    monitor.until_says("http://127.0.0.1:9: Connection refused")
    assert service.notes == []
    monitor.write_config()
    service.until_taken("one")


def test_while_keystone_and_the_service_are_away_reports_wait_also_over_a_crash(
    cloud: SimulatedCloud, service: InstanceHa, monitor: GuidedMonitor
) -> None:
    service.rule = lambda note: (503, {})
    monitor.put("one", "two")
    monitor.start()
    service.until_asked("one", times=3)
    assert len(monitor.waiting()) == 2
    cloud.set_away("keystone")
    monitor.restart()
    monitor.until_says("signing in as masakari: ")
    service.rule = lambda note: taken()
    cloud.set_away("keystone", False)
    service.until_taken("two")
    monitor.until_waiting(0)
    assert [_about(note) for note in service.taken] == ["one", "two"]


def test_what_the_service_answers_decides_what_becomes_of_a_report(service: InstanceHa, monitor: GuidedMonitor) -> None:
    def rule(note: dict[str, Any]) -> Reply:
        if _about(note) == "known":
            return refused(409, "Notification is already there")
        if _about(note) == "malformed":
            return refused(400, "Host compute1 is in no segment")
        if "masakari" in note["payload"]:
            return refused(400, "Invalid input for field/attribute payload. ('masakari' was unexpected)")
        return taken()

    service.rule = rule
    monitor.put("known", "malformed", "plain")
    monitor.start()
    assert service.until_taken("plain")["payload"] == {"event": "STOPPED", "process_name": "/nowhere/plain"}
    monitor.until_waiting(0)
    (aside,) = (monitor.state / "spool" / "aside").iterdir()
    assert json.loads(aside.read_text())["process"] == "/nowhere/malformed"
    assert "is set aside: the controller refuses it for good" in monitor.said()
    assert (service.asked("known"), service.asked("malformed"), service.asked("plain")) == (1, 1, 2)


def test_a_role_that_is_missing_is_named_and_a_wrong_password_is_not_hammered_on(
    cloud: SimulatedCloud, service: InstanceHa, monitor: GuidedMonitor
) -> None:
    service.rule = lambda note: (403, {"forbidden": {"code": 403, "message": "Policy doesn't allow it"}})
    monitor.put("one")
    monitor.start()
    monitor.until_says("has no role that may create notifications")
    cloud.keystone.password = "another"
    asked = cloud.calls["sign_in"]
    monitor.restart()
    monitor.until_says("1 report undelivered after")
    assert cloud.calls["sign_in"] == asked + 1
    assert len(monitor.waiting()) == 1
    for secret in (PASSWORD, *cloud.keystone.tokens):
        assert secret not in monitor.said()


def test_the_online_check_tells_of_the_sign_in_the_service_and_the_segment(
    cloud: SimulatedCloud, service: InstanceHa, monitor: GuidedMonitor
) -> None:
    rows = [json.loads(line) for line in monitor.check_online().stdout.splitlines() if line.startswith("{")]
    keystone, found = rows[-2:]
    assert (keystone["state"], found["state"]) == ("ok", "ok")
    assert f"notifications go to {service.url}/v1/project-1" in keystone["text"]
    assert f"{HOST} is registered in segment okidoki" in found["text"]
    cloud.set_instance_ha("")
    (last,) = [json.loads(line) for line in monitor.check_online().stdout.splitlines() if "Keystone" in line]
    assert last["state"] == "NOT OK" and "no public endpoint of type instance-ha" in last["text"]


def test_our_controller_acts_on_what_the_service_user_of_the_monitors_posts(tmp_path: Path) -> None:
    db = Db(drivername="sqlite", name=str(tmp_path / "vm_ha.sqlite"))
    with (
        CloudProcess(tmp_path, hosts="compute1,compute2") as cloud,
        ControllerProcess(tmp_path / "controller", db, cloud.remote.auth_url) as controller,
    ):
        cloud.remote.set_instance_ha(url=f"{controller.url.rstrip('/')}/v1/%(tenant_id)s")
        operator = Caller(controller.url, cloud.remote.auth_url)
        operator.host(operator.segment("okidoki"), HOST)
        with_account = GuidedMonitor(tmp_path / "monitor", cloud.remote.auth_url, user="monitor")
        with_account.put("nova-compute")
        with with_account as monitor:
            monitor.until_says("about /nowhere/nova-compute: recovery 1 is new")
            monitor.until_waiting(0)
            until(lambda: not cloud.remote.state()["hosts"][HOST]["enabled"], SOON_S, lambda: controller.said()[-2000:])
            found = monitor.check_online().stdout
            assert "this account may not list segments" in found, found
