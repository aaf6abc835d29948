"""Upgrading to a newer version: what is kept, what is restarted, and what happens to reports meanwhile."""

from __future__ import annotations

import json
from pathlib import Path

from tests.lab.mariadb import until
from tests.lab.processes import CLUSTER
from tests.system.machine import SERVICES, SETTINGS, Machine

CONFIGURED = "/etc/masakari/masakari.conf"
KEYS = ("/etc/masakari/keys.conf", "/etc/masakari/key.conf")
SPOOL = "/var/lib/masakari/processmonitor/spool"
NOBODY = "RESOURCE_MANAGER_URL=http://127.0.0.1:15899"
CANT_START = 5
WITHIN_S = 60.0
REPORTS = """
import json, sqlite3
database = sqlite3.connect("/var/lib/masakari/controller/masakari.sqlite")
print(json.dumps([row[0] for row in database.execute("SELECT notification_id FROM notification_list")]))
"""

# Reports one failed instance after the other, as a monitor does: each until it is answered with 200. Its arguments: the key of the
# host, where to write the ids of those that were answered, and the file that ends it.
LOAD = """
import configparser, json, os, sys, time, urllib.error, urllib.request, uuid
sys.path.insert(0, "/usr/share/masakari")
from masakari.common.signature import HEADER, sign
key_file, answered, enough = sys.argv[1:]
key = configparser.ConfigParser()
key.read(key_file)
(key_id,) = key.sections()
said = open(answered, "w", buffering=1)
while not os.path.exists(enough):
    now = time.strftime("%Y%m%d%H%M%S", time.gmtime())
    report = {"id": str(uuid.uuid4()), "type": "VM", "regionID": "RegionOne"}
    report |= {"hostname": "compute2", "uuid": str(uuid.uuid4()), "time": now, "eventID": "0", "eventType": "5", "detail": "5"}
    report |= {"tzname": "UTC", "daylight": "0", "cluster_port": key[key_id]["cluster_port"]}
    body = json.dumps(report).encode()
    while True:
        request = urllib.request.Request("http://127.0.0.1:15868/", body)
        request.add_header(HEADER, sign(key_id, key[key_id]["secret"], body, time.time()))
        try:
            urllib.request.urlopen(request, timeout=10)
            break
        except OSError as error:
            if isinstance(error, urllib.error.HTTPError) and error.code != 503:
                raise SystemExit(error.read().decode())
            print("waited:", error, flush=True)
            time.sleep(0.05)
    print(report["id"], file=said)
"""


def contents(machine: Machine, *paths: str) -> dict[str, str]:
    """Owner, mode and text of files of the machine."""
    return {path: machine.run("stat", "-c", "%a %U:%G", path) + machine.run("cat", path) for path in paths}


def make_keys(machine: Machine) -> None:
    """The controller believes what is signed, and this machine is compute2 for its monitors."""
    machine.change(CONFIGURED, {"callbacks = open": "callbacks = signed"})
    machine.run("masakari-keys", "init")
    machine.run("masakari-keys", "add", "compute2", "--cluster-port", CLUSTER, "--out", KEYS[1])


def waiting(machine: Machine) -> dict[str, str]:
    """The reports that the processmonitor has not delivered, by file."""
    folder = machine.container.root / SPOOL.lstrip("/")
    return {path.name: path.read_text(encoding="utf-8") for path in folder.glob("[0-9]*.json")}


def until_waiting(machine: Machine, many: int) -> dict[str, str]:
    """Those reports, once there are so many. Raises RuntimeError with the journal if there aren't in time."""
    until(lambda: len(waiting(machine)) == many, WITHIN_S, lambda: machine.journal("masakari-processmonitor"))
    return waiting(machine)


def test_an_upgrade_keeps_settings_and_keys_and_restarts_what_runs(
    installed: Machine, newer_packages: list[Path]
) -> None:
    installed.set_up()
    make_keys(installed)
    before = contents(installed, *SETTINGS, *KEYS)
    installed.restart(*SERVICES)
    installed.run("systemctl", "disable", "--now", "masakari-processmonitor")
    pids = {service: installed.pid(service) for service in SERVICES[:3]}
    installed.put(newer_packages)
    installed.install()
    for service, pid in pids.items():
        installed.until_running(service, not_pid=pid)
        assert installed.show(service, "NRestarts") == "0"
    assert installed.show("masakari-processmonitor", "ActiveState") == "inactive"
    assert installed.run("dpkg-query", "--show", "--showformat", "${Version}", "masakari") == "1.0.0+newer"
    assert contents(installed, *SETTINGS, *KEYS) == before
    assert installed.run("head", "-n", "1", f"{CONFIGURED}.dpkg-dist") == "# Of 1.0.0+newer.\n"
    assert installed.failed() == ""


def test_an_upgrade_under_load_loses_no_report_and_doubles_none(installed: Machine, newer_packages: list[Path]) -> None:
    """Of a client that keeps reporting, and of a monitor whose reports nobody takes until the upgrade is over."""
    installed.set_up()
    make_keys(installed)
    url = SETTINGS["/etc/processmonitor/processmonitor.conf"]["RESOURCE_MANAGER_URL=<http://controller:15868>"]
    quickly = {"#PROCESS_REBOOT_RETRY=3": "PROCESS_REBOOT_RETRY=1", "#REBOOT_INTERVAL=5": "REBOOT_INTERVAL=0.1"}
    installed.change("/etc/processmonitor/processmonitor.conf", {url: NOBODY, **quickly})
    lines = [f"{number},/no/such/process{number},/bin/true,/bin/true,,,,\n" for number in range(CANT_START)]
    installed.container.write("/etc/processmonitor/proc.list", "".join(lines))
    installed.container.write("/root/load.py", LOAD)
    installed.restart(*SERVICES)
    undelivered = until_waiting(installed, CANT_START)
    before = contents(installed, *SETTINGS, *KEYS)
    pid = installed.pid("masakari-controller")
    answered, enough = "/root/answered", "/root/enough"
    installed.run("systemd-run", "--unit=load", "/usr/bin/python3", "/root/load.py", KEYS[1], answered, enough)
    until(lambda: len(ids(installed, answered)) > 20, WITHIN_S, lambda: installed.journal("load"))
    installed.put(newer_packages)
    installed.install()
    installed.until_running("masakari-controller", not_pid=pid)
    so_far = len(ids(installed, answered))
    until(lambda: len(ids(installed, answered)) > so_far, WITHIN_S, lambda: installed.journal("load"))
    installed.run("touch", enough)
    until(lambda: installed.show("load", "ActiveState") == "inactive", WITHIN_S, lambda: installed.journal("load"))
    assert "waited" in installed.journal("load")  # the controller was away meanwhile
    assert waiting(installed) == undelivered
    assert contents(installed, *SETTINGS, *KEYS) == before
    installed.change("/etc/processmonitor/processmonitor.conf", {NOBODY: url})
    installed.run("systemctl", "reload", "masakari-processmonitor")
    until_waiting(installed, 0)
    sent = ids(installed, answered) + [json.loads(text)["id"] for text in undelivered.values()]
    stored: list[str] = json.loads(installed.run("/usr/bin/python3", "-c", REPORTS))
    assert sorted(stored) == sorted(sent)


def ids(machine: Machine, path: str) -> list[str]:
    """What the load has written there."""
    file = machine.container.root / path.lstrip("/")
    return file.read_text(encoding="utf-8").split() if file.exists() else []


def test_an_upgrade_leaves_a_service_alone_whose_settings_it_would_refuse(
    installed: Machine, newer_packages: list[Path]
) -> None:
    installed.set_up()
    installed.restart(*SERVICES)
    pid = installed.pid("masakari-controller")
    installed.change(CONFIGURED, {"callbacks = open": "callbacks = opne"})
    installed.put(newer_packages)
    assert "masakari-controller is not (re)started" in installed.install()
    assert installed.pid("masakari-controller") == pid
