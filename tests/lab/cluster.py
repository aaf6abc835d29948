"""A private corosync and pacemaker cluster: real daemons, each node a host of its own made of namespaces. As root.

The nodes hang on a bridge that only they see. Their disks are in memory and outlive a crash, as those of real hosts do;
nothing is written on the machine itself.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import time
from pathlib import Path
from xml.etree import ElementTree

from tests.lab.mariadb import until
from tests.lab.namespaces import ENVIRON, Namespaces, can_unshare, check

DISK = "/var/lib/corosync"
NETWORK = "10.77.0"
MCAST_ADDR, MCAST_PORT = "239.255.77.1", 5405
NAME = "testcluster"
COVERED = (
    "/etc/corosync",
    "/etc/pacemaker",
    "/var/lib/corosync",
    "/var/lib/pacemaker",
    "/var/log/corosync",
    "/var/log/pacemaker",
)
DAEMON_ENVIRON = {**ENVIRON, "PCMK_logfile": "/var/log/pacemaker/pacemaker.log", "PCMK_logfacility": "none"}
PROGRAMS = ("corosync", "corosync-cmapctl", "pacemakerd", "crm_mon", "cibadmin", "crm_node", "ip", "nsenter", "unshare")
QUORATE_WITHIN_S = 30.0
ONLINE_WITHIN_S = 60.0
STOP_WITHIN_S = 30.0

CIB = """<cib validate-with="pacemaker-3.0" epoch="1" num_updates="0" admin_epoch="0"><configuration><crm_config>
<cluster_property_set id="options">
<nvpair id="option-stonith" name="stonith-enabled" value="false"/>
<nvpair id="option-deadtime" name="dc-deadtime" value="2s"/>
</cluster_property_set></crm_config><nodes/><resources/><constraints/></configuration><status/></cib>
"""


def why_not() -> str:
    """Why no cluster can be started here; empty when it can."""
    if os.geteuid() != 0:
        return "a cluster in namespaces needs root"
    missing = [name for name in PROGRAMS if not shutil.which(name, path=ENVIRON["PATH"])]
    if missing:
        return f"corosync and pacemaker are not installed: {', '.join(missing)} not found (make cluster says more)"
    return "" if can_unshare() else "this root may not make namespaces (a container without privileges?)"


class PrivateCluster:
    """Nodes node1, node2, ... of one cluster; all are up and online on entry, and everything is gone on exit.

    A node that doesn't answer is lost after 2.2 token_ms. Fencing is off.
    """

    def __init__(self, count: int = 3, *, transport: str = "udp", token_ms: int = 1000, pacemaker: bool = True) -> None:
        """transport: udp (with multicast), udpu or knet; without pacemaker there is corosync alone, which is quicker."""
        self.names = [f"node{number}" for number in range(1, count + 1)]
        self._transport = transport
        self._token_ms = token_ms
        self._pacemaker = pacemaker
        self._switch: Namespaces | None = None
        self._nodes: dict[str, Namespaces] = {}

    def __enter__(self) -> PrivateCluster:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Boot every node and wait until each is online. Raises RuntimeError with the ends of the logs if one isn't."""
        self._switch = Namespaces("disk", DISK)
        # A bridge without a MAC of its own takes one of its ports, and changes it with them. One that snoops, without anybody
        # who asks for members, forgets them after minutes.
        bridge = "add br0 address 02:00:00:00:00:fe type bridge mcast_snooping 0 stp_state 0"
        self._on_switch("link", *bridge.split())
        self._on_switch("link", "set", "br0", "up")
        for name in self.names:
            self._make_disk(name)
        self.boot(*self.names)

    def stop(self) -> None:
        """End all of it. Harmless when it is stopped."""
        for held in (*self._nodes.values(), self._switch):
            if held:
                held.kill()
        self._nodes.clear()
        self._switch = None

    def boot(self, *names: str) -> None:
        """Power on nodes that are down, with the disks they had, and wait until every node that is up sees them online."""
        for name in names:
            self._nodes[name] = Namespaces("host", name, DISK, kinds=("ipc", "uts"), within=self._switch)
            self._plug_in(name)
        self.start_services(*names)

    def start_services(self, *names: str) -> None:
        """Start corosync and pacemaker where they don't run, and wait until every node that is up sees these online."""
        for name in names:
            if not self._node(name).processes("corosync"):
                self._spawn(name, "corosync", "-f")
        what = "corosync is not quorate"
        until(lambda: all(map(self._is_quorate, names)), QUORATE_WITHIN_S, lambda: self._trouble(what))
        if not self._pacemaker:
            return
        for name in names:
            if not self._node(name).processes("pacemakerd"):
                self._spawn(name, "pacemakerd", "-f")
        self.wait_online(*names)

    def stop_services(self, name: str, *, corosync: bool = True) -> None:
        """Stop pacemaker, and corosync, in order, as an operator does before maintenance; the node itself stays up."""
        for program in ("pacemakerd", "corosync") if corosync else ("pacemakerd",):
            self.signal(name, program, signal.SIGTERM)
            until(
                lambda program=program: not self._node(name).processes(program),  # type: ignore[misc]
                STOP_WITHIN_S,
                lambda program=program: self._trouble(f"{program} of {name} doesn't stop"),  # type: ignore[misc]
            )

    def crash(self, name: str) -> None:
        """Power a node off: everything on it is gone, and its peers hear nothing any more."""
        # The kernel says goodbye on the TCP connections of a process that is killed; that of a dead host doesn't.
        self._on_switch("link", "set", _port(name), "nomaster")
        self._nodes.pop(name).kill()

    def partition(self, name: str, *, silent: bool = False) -> None:
        """Pull a node's network cable. silent: its link stays up, and what it sends is lost."""
        self._on_switch("link", "set", _port(name), "nomaster" if silent else "down")

    def heal(self, name: str) -> None:
        """Plug the network cable in again."""
        self._on_switch("link", "set", _port(name), "master", "br0", "up")

    def repair(self) -> None:
        """Make every node online again, whatever was done to it; harmless when they all are."""
        for name in self.names:
            if name in self._nodes:
                self.heal(name)
        self.boot(*(name for name in self.names if name not in self._nodes))
        self.start_services(*self.names)

    def signal(self, name: str, program: str, how: signal.Signals) -> None:
        """Send a signal to a program on a node, if it runs there."""
        for pid in self.pids(name, program):
            os.kill(pid, how)

    def pids(self, name: str, program: str = "") -> list[int]:
        """The processes of a node, or of one program there, by their ids on this machine."""
        return self._node(name).processes(program)

    def prefix(self, name: str) -> tuple[str, ...]:
        """What to write before a command to run it on a node that is up."""
        return self._node(name).enter()

    def run(self, name: str, *command: str, within_s: float = 10.0) -> subprocess.CompletedProcess[str]:
        """Run a command on a node to its end; after the time given it is killed there and the status is 124 or 137."""
        return subprocess.run(
            [*self.prefix(name), "timeout", "--kill-after=1", f"{within_s:g}", *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=ENVIRON,
            cwd="/",
            timeout=within_s + 5,
        )

    def online(self, name: str) -> set[str]:
        """The nodes that are online in the view of this one; none when its pacemaker has no answer."""
        shown = self.run(name, "crm_mon", "-1", "--output-as=xml")
        if shown.returncode:
            return set()
        nodes = ElementTree.fromstring(shown.stdout).iterfind("nodes/node")
        return {
            str(node.get("name")) for node in nodes if (node.get("online"), node.get("pending")) == ("true", "false")
        }

    def wait_online(self, *names: str) -> None:
        """Until every node that is up sees these online. Raises RuntimeError with the ends of the logs if it takes long."""
        asked = [name for name, node in self._nodes.items() if node.processes("pacemakerd")]

        def seen() -> bool:
            if all(self.online(name) >= set(names) for name in asked):
                return True
            time.sleep(0.2)  # each look takes some processes of a machine that has daemons to start
            return False

        until(seen, ONLINE_WITHIN_S, lambda: self._trouble(f"not all of {asked} see {names} online"))

    def disk(self, name: str) -> Path:
        """The disk of a node, also while the node is down."""
        assert self._switch, "the cluster is stopped"
        return Path(f"{self._switch.root}{DISK}/{name}")

    def corosync_conf(self) -> str:
        """corosync.conf, the same on all nodes."""
        mcast = (
            f"interface {{\n bindnetaddr: {NETWORK}.0\n mcastaddr: {MCAST_ADDR}\n mcastport: {MCAST_PORT}\n ttl: 1\n }}"
        )
        nodes = "\n".join(
            f"node {{\n name: {name}\n nodeid: {number}\n ring0_addr: {NETWORK}.{number}\n }}"
            for number, name in enumerate(self.names, start=1)
        )
        # Real-time priority and the root's cgroup are for machines of their own.
        return f"""
totem {{
 version: 2
 cluster_name: {NAME}
 transport: {self._transport}
 crypto_cipher: none
 crypto_hash: none
 token: {self._token_ms}
 token_coefficient: 0
 {mcast if self._transport == "udp" else ""}
}}
nodelist {{
 {nodes}
}}
quorum {{
 provider: corosync_votequorum
}}
system {{
 sched_rr: no
 move_to_root_cgroup: no
}}
logging {{
 to_stderr: no
 to_syslog: no
 to_logfile: yes
 logfile: /var/log/corosync/corosync.log
 timestamp: hires
}}
"""

    def _node(self, name: str) -> Namespaces:
        assert name in self._nodes, f"{name} is down"
        return self._nodes[name]

    def _make_disk(self, name: str) -> None:
        disk, account = self.disk(name), pwd.getpwnam("hacluster")
        for path in (*COVERED, "/etc/corosync/uidgid.d"):
            Path(f"{disk}{path}").mkdir(parents=True, exist_ok=True)
        theirs = [disk / "var/log/pacemaker"]
        theirs += [disk / "var/lib/pacemaker" / folder for folder in ("blackbox", "cib", "cores", "pengine")]
        for folder in theirs:
            folder.mkdir(exist_ok=True)
        cib = disk / "var/lib/pacemaker/cib/cib.xml"
        cib.write_text(CIB, encoding="utf-8")
        cib.chmod(0o600)
        for owned in (*theirs, cib):
            os.chown(owned, account.pw_uid, account.pw_gid)
        (disk / "etc/corosync/corosync.conf").write_text(self.corosync_conf(), encoding="utf-8")
        hosts = [f"{NETWORK}.{number} {host}" for number, host in enumerate(self.names, start=1)]
        (disk / "etc/hosts").write_text("\n".join(["127.0.0.1 localhost", *hosts, ""]), encoding="utf-8")
        (disk / "covers").write_text("\n".join([*COVERED, "/etc/hosts"]), encoding="utf-8")

    def _plug_in(self, name: str) -> None:
        number = self.names.index(name) + 1
        if _port(name) in self._on_switch(
            "-o", "link"
        ):  # of the node before its crash; the kernel removes it, some day
            self._on_switch("link", "del", _port(name))
        # The same MAC at each boot: its peers would ask for the one they know for up to 40 s.
        peer = f"eth0 address 02:00:0a:4d:00:{number:02x} netns {self._node(name).pid}"
        self._on_switch("link", "add", _port(name), "type", "veth", "peer", "name", *peer.split())
        self._on_switch("link", "set", _port(name), "master", "br0", "up")
        into = self._node(name).enter("net")
        check(*into, "ip", "link", "set", "lo", "up")
        check(*into, "ip", "address", "add", f"{NETWORK}.{number}/24", "dev", "eth0")
        check(*into, "ip", "link", "set", "eth0", "up")

    def _on_switch(self, *arguments: str) -> str:
        assert self._switch, "the cluster is stopped"
        return check(*self._switch.enter("net"), "ip", *arguments)

    def _spawn(self, name: str, *command: str) -> None:
        # The node's process 1 becomes its parent: nsenter would stop itself along with a child that is stopped.
        output = self.disk(name) / f"{command[0]}.out"
        with output.open("ab") as file:
            subprocess.run(
                [*self.prefix(name), "setsid", "--fork", *command],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=DAEMON_ENVIRON,
                cwd="/",
                timeout=30,
                check=True,
            )

    def _is_quorate(self, name: str) -> bool:
        return "Quorate:          Yes" in self.run(name, "corosync-quorumtool", "-s").stdout

    def _trouble(self, what: str) -> str:
        told = [f"{what} ({self._transport})"]
        for name in self.names:
            logs = [
                self.disk(name) / path for path in ("corosync.out", "pacemakerd.out", "var/log/corosync/corosync.log")
            ]
            logs.append(self.disk(name) / "var/log/pacemaker/pacemaker.log")
            told += [f"-- {log}\n{log.read_text(errors='replace')[-1500:]}" for log in logs if log.exists()]
        return "\n".join(told)


def _port(name: str) -> str:
    return f"port-{name}"
