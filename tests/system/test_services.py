"""The services under systemd: ready, killed, stopped, reloaded, hung; all on one machine where everything runs."""

from __future__ import annotations

import json
import time

import pytest

from tests.lab.mariadb import until
from tests.system.machine import SERVICES, Machine

STOP_WITHIN_S = 5.0
MONITORS = SERVICES[1:]


@pytest.mark.parametrize("service", SERVICES)
def test_it_is_ready_once_started(machine: Machine, service: str) -> None:
    assert machine.show(service, "ActiveState") == "active"
    assert machine.show(service, "Type") == "notify"
    assert machine.show(service, "StatusText") != ""


def test_the_controller_answers_and_is_not_root(machine: Machine) -> None:
    ask = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:15868/healthz').read().decode())"
    answer = json.loads(machine.run("/usr/bin/python3", "-c", ask))
    assert answer["checked"]["database"] == "ok"
    pid = str(machine.pid("masakari-controller"))
    assert machine.run("ps", "-o", "user=", "-p", pid).strip() == "masakari"
    assert machine.run("stat", "-c", "%a %U", "/var/lib/masakari/controller/masakari.sqlite").strip() == "600 masakari"


@pytest.mark.parametrize("service", SERVICES)
def test_it_comes_back_after_being_killed(machine: Machine, service: str) -> None:
    pid = machine.pid(service)
    machine.run("kill", "-9", str(pid))
    machine.until_running(service, not_pid=pid)


@pytest.mark.parametrize("service", SERVICES)
def test_it_stops_in_time_and_starts_again(machine: Machine, service: str) -> None:
    began = time.monotonic()
    machine.run("systemctl", "stop", service)
    took_s = time.monotonic() - began
    try:
        assert took_s < STOP_WITHIN_S
        assert machine.show(service, "Result") == "success"
    finally:
        machine.restart(service)


@pytest.mark.parametrize("service", SERVICES)
def test_a_reload_is_done_by_the_same_process(machine: Machine, service: str) -> None:
    pid, times = machine.pid(service), machine.journal(service).count("settings reloaded")
    machine.run("systemctl", "reload", service)
    until(
        lambda: machine.journal(service).count("settings reloaded") > times,
        10,
        lambda: machine.journal(service),
    )
    assert machine.pid(service) == pid


@pytest.mark.parametrize("service", SERVICES)
def test_one_that_hangs_is_ended_and_started_again(machine: Machine, service: str) -> None:
    folder = f"/run/systemd/system/{service}.service.d"
    machine.run("mkdir", "-p", folder)
    machine.container.write(f"{folder}/watchdog.conf", "[Service]\nWatchdogSec=1\n")
    machine.run("systemctl", "daemon-reload")
    machine.restart(service)
    pid = machine.pid(service)
    try:
        machine.run("kill", "-STOP", str(pid))
        machine.until_running(service, not_pid=pid)
        assert "watchdog" in machine.journal(service).lower()
    finally:
        machine.run("rm", "-r", folder)
        machine.run("systemctl", "daemon-reload")
        machine.restart(service)


def test_its_log_file_is_written_rotated_and_made_anew(machine: Machine) -> None:
    """For all four: log_file in the folder that the packages make."""
    options = {
        "/etc/masakari/masakari.conf": ("#log_file =", "log_file = /var/log/masakari/masakari.log"),
        "/etc/hostmonitor/hostmonitor.conf": ("#log_file =", "log_file = /var/log/hostmonitor/hostmonitor.log"),
        "/etc/instancemonitor/instancemonitor.conf": (
            "#log_file =",
            "log_file = /var/log/instancemonitor/instancemonitor.log",
        ),
        "/etc/processmonitor/processmonitor.conf": (
            "#LOG_FILE=",
            "LOG_FILE=/var/log/processmonitor/processmonitor.log",
        ),
    }
    for path, (old, new) in options.items():
        machine.change(path, {old: new})
    try:
        machine.restart(*SERVICES)
        machine.run("apt-get", "install", "-y", "logrotate")
        machine.run("logrotate", "--force", "/etc/logrotate.conf")
        machine.run("systemctl", "reload", *SERVICES)
        for _, new in options.values():
            file = new.split("=")[1].strip()
            until(lambda file=file: machine.container.exists(file), 10, lambda file=file: f"{file} is not made anew")  # type: ignore[misc]
            assert machine.container.exists(f"{file}.1")
            assert machine.run("stat", "-c", "%G", file).strip() == "adm"
            assert machine.run("stat", "-c", "%a", file.rpartition("/")[0]).strip() == "2750"
    finally:
        for path, (old, new) in options.items():
            machine.change(path, {new: old})
        machine.restart(*SERVICES)


def test_the_alert_agent_reaches_the_hostmonitor_from_another_account(machine: Machine) -> None:
    agent = "/usr/share/masakari/hostmonitor/alert-agent"
    before = machine.journal("masakari-hostmonitor")
    machine.change("/etc/hostmonitor/hostmonitor.conf", {"#log_level = info": "log_level = debug"})
    machine.restart("masakari-hostmonitor")
    try:
        until(lambda: machine.container.exists("/run/masakari/hostmonitor.alert"), 10, lambda: before)
        machine.run(
            *(
                "runuser",
                "-u",
                "nobody",
                "--",
                "env",
                "CRM_alert_kind=node",
                "CRM_alert_node=compute7",
                "CRM_alert_desc=lost",
                agent,
            )
        )
        until(
            lambda: "compute7" in machine.journal("masakari-hostmonitor"),
            10,
            lambda: machine.journal("masakari-hostmonitor"),
        )
    finally:
        machine.change("/etc/hostmonitor/hostmonitor.conf", {"log_level = debug": "#log_level = info"})
        machine.restart("masakari-hostmonitor")


def test_what_the_processmonitor_started_outlives_it(machine: Machine) -> None:
    machine.container.write("/usr/local/bin/lab-agent", "#!/bin/sh\nexec sleep 10000\n", 0o755)
    machine.container.write(
        "/usr/local/bin/start-lab-agent", "#!/bin/sh\nsetsid /usr/local/bin/lab-agent >/dev/null 2>&1 &\n", 0o755
    )
    listed = machine.run("cat", "/etc/processmonitor/proc.list")
    start = "/usr/local/bin/start-lab-agent"
    machine.container.write("/etc/processmonitor/proc.list", f"1,sleep 10000,{start},{start},,,,\n")

    def agent() -> str:
        return machine.run("pgrep", "-f", "sleep 10000", ok=(0, 1)).strip()

    try:
        machine.restart("masakari-processmonitor")
        until(lambda: agent() != "", 15, lambda: machine.journal("masakari-processmonitor"))
        pid = agent()
        machine.run("systemctl", "stop", "masakari-processmonitor")
        assert agent() == pid
        machine.run("systemctl", "start", "masakari-processmonitor")
        machine.run("kill", pid)
        until(lambda: agent() not in ("", pid), 15, lambda: machine.journal("masakari-processmonitor"))
    finally:
        machine.container.write("/etc/processmonitor/proc.list", listed)
        machine.restart("masakari-processmonitor")
        machine.run("pkill", "-f", "sleep 10000", ok=(0, 1))


def test_those_who_follow_the_guides_of_openstack_find_one_service(machine: Machine) -> None:
    machine.run("systemctl", "restart", "masakari-api", "masakari-engine")
    assert machine.pid("masakari-api") == machine.pid("masakari-engine") == machine.pid("masakari-controller") > 0
    assert "is up to date" in machine.run("masakari-manage", "db", "sync")


def test_the_operators_commands_work_as_in_2015_and_by_their_names(machine: Machine) -> None:
    machine.run(*("reserve_host_manage.py", "--mode", "add", "--port", "226.94.1.1:5405", "--host", "compute9"))
    listed = machine.run("sh", "-c", "cd /usr/share/masakari/utils && python3 reserve_host_manage.py --mode list")
    assert "compute9" in listed
    machine.run("recovery_manage.py", "list")
    machine.run("notification_status_manage.py", "--mode", "list")
    machine.run("recovery_status_manage.py", "--mode", "list")
    machine.run("vmha_data_manage.py", "--mode", "delete")
    assert machine.run("stat", "-c", "%U", "/var/lib/masakari/controller/masakari.sqlite").strip() == "masakari"
