"""The init scripts where systemd does not run, with the exit status that LSB asks for."""

from __future__ import annotations

import pytest

from tests.lab.mariadb import until
from tests.system.machine import SERVICES, SETTINGS, Machine

LOGS = {
    "masakari-controller": ("/etc/masakari/masakari.conf", "#log_file =", "log_file = /var/log/masakari/masakari.log"),
    **{
        f"masakari-{name}": (f"/etc/{name}/{name}.conf", "#log_file =", f"log_file = /var/log/{name}/{name}.log")
        for name in ("hostmonitor", "instancemonitor")
    },
    "masakari-processmonitor": (
        "/etc/processmonitor/processmonitor.conf",
        "#LOG_FILE=",
        "LOG_FILE=/var/log/processmonitor/processmonitor.log",
    ),
}
PID_FILES = {"masakari-controller": "/run/masakari/controller/pid"}


def init(machine: Machine, service: str, verb: str) -> tuple[int, str]:
    """Exit status and output of an init script."""
    done = machine.container.ran(f"/etc/init.d/{service}", verb)
    return done.returncode, done.stdout


def status(machine: Machine, service: str) -> int:
    return init(machine, service, "status")[0]


def pid(machine: Machine, service: str) -> str:
    file = PID_FILES.get(service, f"/run/masakari/{service.removeprefix('masakari-')}.pid")
    return machine.run("cat", file).strip()


@pytest.fixture(scope="module")
def set_up(without_systemd: Machine) -> Machine:
    """The settings filled in, and a log file, without which there is no classic daemon."""
    machine = without_systemd
    assert set(SETTINGS) >= {path for path, _, _ in LOGS.values()}
    for service in SERVICES:
        code, said = init(machine, service, "start")
        assert code == 6 and "placeholder" in said  # nothing is set up so far
    machine.set_up()
    code, said = init(machine, "masakari-controller", "start")
    assert code == 6 and "log_file is needed with --daemon" in said
    for path, old, new in LOGS.values():
        machine.change(path, {old: new})
    return machine


@pytest.mark.parametrize("service", SERVICES)
def test_a_life_of_a_daemon(set_up: Machine, service: str) -> None:
    machine = set_up
    assert status(machine, service) == 3
    assert init(machine, service, "stop")[0] == 0
    assert init(machine, service, "start")[0] == 0
    until(lambda: status(machine, service) == 0, 10, lambda: machine.run("sh", "-c", "tail -n 50 /var/log/*/*.log"))
    first = pid(machine, service)
    assert init(machine, service, "start")[0] == 0
    assert pid(machine, service) == first
    assert init(machine, service, "reload")[0] == 0
    assert init(machine, service, "force-reload")[0] == 0
    log = LOGS[service][2].split("=")[1].strip()
    until(lambda: "settings reloaded" in machine.run("cat", log), 10, lambda: machine.run("cat", log))
    assert pid(machine, service) == first
    assert init(machine, service, "restart")[0] == 0
    until(lambda: status(machine, service) == 0, 10, lambda: machine.run("cat", log))
    assert pid(machine, service) != first
    machine.run("kill", "-9", pid(machine, service))
    until(lambda: status(machine, service) == 1, 10, lambda: "a dead daemon with a pid file is not told as such")
    assert init(machine, service, "start")[0] == 0
    until(lambda: status(machine, service) == 0, 10, lambda: machine.run("cat", log))
    assert init(machine, service, "stop")[0] == 0
    assert status(machine, service) == 3


@pytest.mark.parametrize("service", SERVICES)
def test_wrong_use_is_told(without_systemd: Machine, service: str) -> None:
    code, said = init(without_systemd, service, "strat")
    assert code == 2 and "Usage:" in said
    assert without_systemd.container.ran("runuser", "-u", "nobody", f"/etc/init.d/{service}", "start").returncode == 4


def test_the_controller_is_no_daemon_of_root(set_up: Machine) -> None:
    assert init(set_up, "masakari-controller", "start")[0] == 0
    until(
        lambda: status(set_up, "masakari-controller") == 0,
        10,
        lambda: set_up.run("cat", "/var/log/masakari/masakari.log"),
    )
    try:
        owner = set_up.run("ps", "-o", "user=", "-p", pid(set_up, "masakari-controller")).strip()
    finally:
        init(set_up, "masakari-controller", "stop")
    assert owner == "masakari"


def test_a_removed_package_leaves_a_script_that_does_nothing(without_systemd: Machine) -> None:
    machine = without_systemd  # the last test with it
    machine.run("dpkg", "--remove", "masakari-hostmonitor")
    script = ("sh", "/etc/init.d/masakari-hostmonitor")
    machine.run(*script, "start")
    machine.run(*script, "stop")
    machine.run(*script, "status", ok=(4,))
