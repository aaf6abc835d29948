"""The nodes of a small cloud as containers: a controller, and compute nodes with libvirt and guests; set up as the documents say.

MariaDB and the controller stand behind HAProxy, the controller with the example that is shipped: nothing else reaches either.
"""

from __future__ import annotations

import json
import uuid as uuids
from pathlib import Path
from typing import Any

from tests.lab.libvirtd import BOOT_DISK, GUEST, NOVA, SECTOR
from tests.lab.mariadb import until
from tests.lab.outside import ADDRESS as CLOUD
from tests.lab.processes import CLUSTER
from tests.system.machine import Machine

CONTROLLER = "10.77.0.1"
COMPUTES = {"compute1": "10.77.0.11", "compute2": "10.77.0.12"}
MONITORS = ("masakari-instancemonitor", "masakari-processmonitor")
LIBVIRT = ("libvirt-daemon-system", "libvirt-daemon-driver-qemu", "qemu-system-x86", "seabios")
IMAGE = "/var/lib/libvirt/images/guest"
WITHIN_S = 60.0
DB_PASSWORD = "not a secret"
URL = "https://controller:15869/"
HOSTS = "".join(f"{address} {name}\n" for name, address in {"controller": CONTROLLER, **COMPUTES}.items())
LOCALHOST = "127.0.0.1 localhost\n"

MARIADB_BEHIND = """

listen mariadb
    mode tcp
    option tcplog
    bind 127.0.0.1:3307
    timeout connect 3s
    timeout client 1h
    timeout server 1h
    server mariadb1 127.0.0.1:3306 check inter 2s
"""


class Controller(Machine):
    """The node of the controller, with MariaDB and HAProxy."""

    def install(self) -> str:
        """The packages of the controller, and what they suggest."""
        packages = ("/root/masakari-base_*.deb", "/root/masakari_*.deb", "haproxy", "mariadb-server", "openssl")
        return self.run("sh", "-c", f"apt-get install -y --no-install-recommends {' '.join(packages)}")

    def set_up_for(self, cloud_port: int) -> None:
        """Everything up to a controller that runs: tables, account, proxy, settings, and a key for each compute node."""
        self.container.write("/etc/hosts", LOCALHOST + HOSTS)
        self._set_up_proxy()
        settings = {
            "#server_host = 0.0.0.0": "server_host = 127.0.0.1",
            "#host =": "host = 127.0.0.1",
            "#port = 3306": "port = 3307",
            "#user =": "user = masakari",
            "#passwd =": f"passwd = {DB_PASSWORD}",
            "auth_url = <http://keystone:5000/v3>": f"auth_url = http://{CLOUD}:{cloud_port}/identity/v3",
            "admin_user = <admin user>": "admin_user = masakari",
            "admin_password = <password of that user>": "admin_password = simcloud",
            "project_name = <project name>": "project_name = service",
        }
        self.change("/etc/masakari/masakari.conf", settings)
        # The proxy in between listens on another port than the server itself.
        self.run("masakari-db", "create", "--socket", "/run/mysqld/mysqld.sock", "--from", "127.0.0.1")
        self.run("masakari-db", "check")
        self.run("masakari-keys", "init")
        for name in COMPUTES:
            self.run("masakari-keys", "add", name, "--cluster-port", CLUSTER, "--out", f"/root/{name}.key.conf")
        self.run("masakari-controller", "--check-config")
        self.run("systemctl", "start", "masakari-controller")

    def key_of(self, name: str) -> str:
        """What the file for a node says that masakari-keys made; an operator brings it there."""
        return self.run("cat", f"/root/{name}.key.conf")

    def authority(self) -> str:
        """The certificate that nodes trust."""
        return self.run("cat", "/root/masakari.crt")

    def recoveries(self, uuid: str) -> list[str]:
        """The status of each recovery of an instance, newest first, as an operator is shown it; so are the others."""
        return [row["status"] for row in self._shown("recoveries", uuid, "recovery_manage.py", "list")]

    def instances(self, uuid: str) -> list[str]:
        """What vm_list says of an instance, the status of each of its rows."""
        return [row["state"] for row in self._shown("instances", uuid, "recovery_status_manage.py", "--mode", "list")]

    def reports(self, uuid: str) -> list[tuple[str, bool]]:
        """The reports about an instance: who reported it, and whether that was signed."""
        rows = self._shown("reports", uuid, "notification_status_manage.py", "--mode", "list")
        return [(row["observer"], row["signed"]) for row in rows]

    def _shown(self, what: str, uuid: str, *command: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(self.run(*command, "--json"))[what]
        return [row for row in rows if row["uuid"] == uuid]

    def _set_up_proxy(self) -> None:
        self.run(
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=controller"),
            *("-addext", "subjectAltName=DNS:controller", "-addext", "keyUsage=critical,digitalSignature,keyCertSign"),
            *("-keyout", "/root/masakari.key", "-out", "/root/masakari.crt"),
        )
        self.run("sh", "-c", "umask 077; cat /root/masakari.crt /root/masakari.key > /etc/haproxy/masakari.pem")
        example = self.run("cat", "/usr/share/doc/masakari/examples/haproxy/masakari.cfg")
        second = "    server controller2 192.0.2.12:15868\n"
        assert example.count("192.0.2.11:15868") == example.count(second) == 1, example
        example = example.replace("192.0.2.11:15868", "127.0.0.1:15868").replace(second, "")
        file = self.container.root / "etc/haproxy/haproxy.cfg"
        file.write_text(file.read_text(encoding="utf-8") + MARIADB_BEHIND + example, encoding="utf-8")
        self.run("haproxy", "-c", "-f", "/etc/haproxy/haproxy.cfg")
        self.run("systemctl", "restart", "haproxy")


class Compute(Machine):
    """A compute node: libvirt of the system, the monitors, and guests in QEMU. Nova is played by the test."""

    def install(self) -> str:
        """The packages of a compute node but the hostmonitor, and libvirt, which can have no cgroups in a container."""
        packages = ("masakari-base", "masakari-instancemonitor", "masakari-processmonitor")
        names = " ".join((*(f"/root/{name}_*.deb" for name in packages), *LIBVIRT))
        said = self.run("sh", "-c", f"apt-get install -y --no-install-recommends {names}")
        self.container.write("/etc/libvirt/qemu.conf", "cgroup_controllers = []\n")
        self.run("systemctl", "restart", "libvirtd")
        image = self.container.root / IMAGE.lstrip("/")
        image.write_bytes((GUEST.ljust(SECTOR - 2, b"\0") + b"\x55\xaa").ljust(BOOT_DISK, b"\0"))
        return said

    def set_up_with(self, key: str, authority: str) -> None:
        """Everything up to monitors that run: the key of this node, whom to trust, where to report."""
        self.container.write("/etc/hosts", LOCALHOST + HOSTS)
        self.container.write("/etc/masakari/key.conf", key, 0o600)
        self.container.write("/etc/masakari/ca.pem", authority)
        url, bundle = "<http://controller:15868>", "/etc/masakari/ca.pem"
        self.change(
            "/etc/instancemonitor/instancemonitor.conf",
            {f"url = {url}": f"url = {URL}", "#ca_bundle =": f"ca_bundle = {bundle}"},
        )
        self.change(
            "/etc/processmonitor/processmonitor.conf",
            {f"RESOURCE_MANAGER_URL={url}": f"RESOURCE_MANAGER_URL={URL}", "#CA_BUNDLE=": f"CA_BUNDLE={bundle}"},
        )
        restart = "systemctl restart libvirtd"
        self.container.write("/etc/processmonitor/proc.list", f"1,/usr/sbin/libvirtd,{restart},{restart},,,,\n")
        for service in MONITORS:
            self.run(service, "--check-config")
        self.run("systemctl", "start", *MONITORS)
        self.until_watching(0)

    def boot(self, name: str, uuid: str) -> None:
        """Define and start a guest as Nova does."""
        path = f"/root/{name}.xml"
        self.container.write(path, domain_xml(name, uuid))
        self.run("virsh", "define", path)
        self.start(name)

    def start(self, name: str) -> None:
        """Start a guest that is defined."""
        self.run("virsh", "start", name)

    def qemu(self, name: str) -> int:
        """The process of a running guest, by its number in the container."""
        return int(self.run("cat", f"/run/libvirt/qemu/{name}.pid"))

    def until_watching(self, guests: int) -> None:
        """Until the instancemonitor has this many instances of Nova in view. Raises RuntimeError when it hasn't in time."""
        until(
            lambda: f"{guests} instance" in self.show("masakari-instancemonitor", "StatusText"),
            WITHIN_S,
            lambda: self.journal("masakari-instancemonitor"),
        )

    def waiting(self) -> list[Path]:
        """The reports of its monitors that are not delivered."""
        folder = self.container.root / "var/lib/masakari"
        return sorted(folder.glob("*/spool/[0-9]*.json"))


def domain_xml(name: str, uuid: str) -> str:
    """The definition of a guest of Nova's in the libvirt of a system."""
    mark = f"<metadata><nova:instance xmlns:nova='{NOVA}'><nova:name>{name}</nova:name></nova:instance></metadata>"
    return f"""
        <domain type='qemu'>
          <name>{name}</name><uuid>{uuids.UUID(uuid)}</uuid>{mark}
          <memory unit='MiB'>16</memory><vcpu>1</vcpu>
          <os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features>
          <on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>
          <devices>
            <emulator>/usr/bin/qemu-system-x86_64</emulator>
            <disk type='file' device='disk'>
              <driver name='qemu' type='raw'/><source file='{IMAGE}'/><target dev='vda' bus='virtio'/>
              <readonly/><boot order='1'/>
            </disk>
            <controller type='usb' model='none'/><memballoon model='none'/>
          </devices>
        </domain>"""
