"""A private corosync and pacemaker cluster: real daemons, each node a host of its own made of namespaces. As root.

The nodes hang on a bridge that only they see, and so do their BMCs and, if there are any, the controllers. Their disks are in
memory and outlive a crash, as those of real hosts do; nothing is installed or changed on the machine itself.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from tests.lab import cluster_remotes
from tests.lab.bmc import PrivateBmc
from tests.lab.cluster_cib import cib, fence_device, not_on_itself, remote
from tests.lab.cluster_disk import COVERED as COVERED
from tests.lab.cluster_disk import MCAST_ADDR, MCAST_PORT, corosync_conf, make_disk
from tests.lab.cluster_fencing import PowerBoard
from tests.lab.mariadb import until
from tests.lab.namespaces import ENVIRON, Namespaces, can_unshare, check
from tests.lab.outside import ADDRESS, Outside

DISK = "/var/lib/corosync"
NETWORK = "10.77.0"
NAME = "testcluster"
BMC_PORT = 623
GUID_START = "3c5d1f20-7a4b-4c1e-9f21-00000000"
DAEMON_ENVIRON = {**ENVIRON, "PCMK_logfile": "/var/log/pacemaker/pacemaker.log", "PCMK_logfacility": "none"}
PROGRAMS = ("corosync", "corosync-cmapctl", "pacemakerd", "crm_mon", "cibadmin", "crm_node", "fence_ipmilan")
TOOLS = ("ip", "nsenter", "setpriv", "unshare")
QUORATE_WITHIN_S = 30.0
ONLINE_WITHIN_S = 60.0
STOP_WITHIN_S = 30.0
START_WITHIN_S = 10.0


def why_not() -> str:
    """Why no cluster can be started here; empty when it can."""
    if os.geteuid() != 0:
        return "a cluster in namespaces needs root"
    missing = [name for name in (*PROGRAMS, *TOOLS) if not shutil.which(name, path=ENVIRON["PATH"])]
    missing += [] if cluster_remotes.find() else [cluster_remotes.PROGRAM]
    if missing:
        return f"what a cluster needs is not installed: {', '.join(missing)} not found (make cluster says more)"
    return "" if can_unshare() else "this root may not make namespaces (a container without privileges?)"


class NodeDown(RuntimeError):
    """The node has no power: a fencing may take it away at any time."""


class PrivateCluster:
    """Nodes node1, node2, ... of one cluster; all are up and online on entry, and everything is gone on exit.

    A node that doesn't answer is lost after 2.2 token_ms. remotes: so many pacemaker-remote nodes remote1, remote2, ...;
    one that doesn't answer is lost after some 6 s.
    """

    def __init__(
        self,
        count: int = 3,
        *,
        transport: str = "udp",
        token_ms: int = 1000,
        pacemaker: bool = True,
        remotes: int = 0,
        fencing: str = "",
        reboot_takes_s: float = 2.0,
        stonith_enabled: bool | None = None,
        no_quorum_policy: str = "stop",
        cib_resources: str = "",
    ) -> None:
        """transport: udp (with multicast), udpu or knet; without pacemaker there is corosync alone, which is quicker.

        fencing: "off" or "reboot" is what pacemaker does, through a BMC for each node; without it there are no BMCs.
        reboot_takes_s: how long after a BMC switches its node on the node begins to boot; infinite: when the test boots it.
        stonith_enabled: as in the CIB, when that is not whether there is fencing. cib_resources: more of them, as XML.
        """
        self.names = [f"node{number}" for number in range(1, count + 1)]
        self.remotes = [f"remote{number}" for number in range(1, remotes + 1)]
        self._transport = transport
        self._token_ms = token_ms
        self._pacemaker = pacemaker
        self._fencing = fencing
        self._reboot_takes_s = reboot_takes_s
        self._options = {
            "stonith-enabled": str(bool(fencing) if stonith_enabled is None else stonith_enabled).lower(),
            "no-quorum-policy": no_quorum_policy,
            "dc-deadtime": "2s",
            **({"stonith-action": fencing} if fencing else {}),
        }
        self._resources = cib_resources
        self._switch: Namespaces | None = None
        self._outside: Outside | None = None
        self._board: PowerBoard | None = None
        self._nodes: dict[str, Namespaces] = {}
        self._plug = threading.RLock()  # of all nodes: a BMC may pull it while the test puts it in

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
        self._on_switch("link", "set", "lo", "up")
        self._on_switch("link", "set", "br0", "up")
        self._on_switch("address", "add", f"{ADDRESS}/24", "dev", "br0")
        self._outside = Outside(self._switch)
        if self._fencing:
            self._board = PowerBoard(self._make_bmcs(), self._cut, self._come_up, self._reboot_takes_s)
            self._board.start()
        addresses = {name: _address(name) for name in self._all()}
        conf = corosync_conf(NAME, self._transport, self._token_ms, {name: addresses[name] for name in self.names})
        key = os.urandom(4096)
        for name in addresses:
            make_disk(self.disk(name), addresses, conf, key, self._cib() if name in self.names else "")
        self.boot(*self._all())

    def stop(self) -> None:
        """End all of it. Harmless when it is stopped."""
        for part in (self._board, self._outside):
            if part:
                part.stop()
        for held in (*self._nodes.values(), self._switch):
            if held:
                held.kill()
        self._nodes.clear()
        self._switch = self._outside = self._board = None

    @property
    def outside(self) -> Outside:
        """Where a cloud and controllers can be started, which every node reaches."""
        assert self._outside, "the cluster is stopped"
        return self._outside

    @property
    def cluster_port(self) -> str:
        """What the monitors of this cluster call it."""
        return f"{MCAST_ADDR}:{MCAST_PORT}" if self._transport == "udp" else NAME

    def bmc(self, name: str) -> PrivateBmc:
        """The BMC of a node, of a cluster with fencing."""
        assert self._board, "no fencing, no BMCs"
        return self._board.bmcs[name]

    def boot(self, *names: str) -> None:
        """Power on nodes that are down, with the disks they had, and wait until every node that is up sees them online."""
        for name in names:
            self._power_on(name)
        self.start_services(*names)

    def start_services(self, *names: str) -> None:
        """Start corosync and pacemaker where they don't run, and wait until every node that is up sees these online."""
        members = [name for name in names if name in self.names]
        what = "corosync is not quorate"
        until(lambda: self._have_quorum(members), QUORATE_WITHIN_S, lambda: self._trouble(what))
        if not self._pacemaker:
            return
        for name in names:
            self._start_pacemaker(name)
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

    def crash(self, name: str, *, power_off: bool = False) -> None:
        """End everything on a node at once; its peers hear nothing any more.

        Its BMC says that the power is still on, as after a panic of the kernel; power_off: that it is off.
        """
        self._cut(name)
        if power_off:
            self.bmc(name).set_power("off")

    def partition(self, name: str, *, silent: bool = False) -> None:
        """Pull a node's network cable. silent: its link stays up, and what it sends is lost."""
        with self._plug:
            self._on_switch("link", "set", _port(name), "nomaster" if silent else "down")

    def heal(self, name: str) -> None:
        """Plug the network cable in again."""
        with self._plug:
            self._on_switch("link", "set", _port(name), "master", "br0", "up")

    def repair(self) -> None:
        """Make every node online again, whatever was done to it; harmless when they all are."""
        for name in self._all():
            if self.is_up(name):
                self.heal(name)
        self.boot(*self._all())

    def is_up(self, name: str) -> bool:
        """Whether a node has power, and hasn't crashed."""
        return name in self._nodes

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
        """The nodes that are online in the view of this one; none when it is down, or its pacemaker has no answer.

        A remote is online once it is connected: crm_mon calls it online as soon as pacemaker tries that. A member is once it is
        expected to be up: one that dies earlier looks as if it had been stopped.
        """
        view = self._view(name)
        flags = {"online": "true", "pending": "false", "unclean": "false"}.items()
        nodes = {node.get("name", ""): node for node in view.iterfind("nodes/node") if flags <= node.attrib.items()}
        tried = {item.get("id") for item in view.iterfind(".//resource") if item.get("role") != "Started"}
        for history in view.iterfind("node_history/node/resource_history"):
            if history.find("operation_history[@task='start'][@call='-1']") is not None:  # it has not ended
                tried.add(history.get("id"))
        members = {name for name, node in nodes.items() if node.get("expected_up") == "true"}
        remotes = {name for name, node in nodes.items() if node.get("type") == "remote" and name not in tried}
        return remotes | {name for name in members if nodes[name].get("type") != "remote"}

    def wait_online(self, *names: str) -> None:
        """Until every node that is up sees these online. Raises RuntimeError with the ends of the logs if it takes long."""

        def seen() -> bool:
            for name in names:
                self._node(name)
            asked = [name for name, node in list(self._nodes.items()) if node.processes("pacemakerd")]
            if all(self.online(name) >= set(names) for name in asked):
                return True
            for name in set(names).intersection(self.remotes):
                self._clean_up(name)
            time.sleep(0.2)  # each look takes some processes of a machine that has daemons to start
            return False

        until(seen, ONLINE_WITHIN_S, lambda: self._trouble(f"not all nodes see {names} online"))

    def disk(self, name: str) -> Path:
        """The disk of a node, also while the node is down."""
        assert self._switch, "the cluster is stopped"
        return Path(f"{self._switch.root}{DISK}/{name}")

    def _view(self, name: str) -> ElementTree.Element:
        """What crm_mon shows on a node; an empty element when it shows nothing."""
        shown = self.run(name, "crm_mon", "-1", "--output-as=xml") if self.is_up(name) else None
        return ElementTree.Element("none") if not shown or shown.returncode else ElementTree.fromstring(shown.stdout)

    def _clean_up(self, remote: str) -> None:
        """Have the members forget that they failed to connect to a remote, after which they don't try it again."""
        for name in filter(self.is_up, self.names):
            if self._view(name).find(f"failures/failure[@op_key='{remote}_start_0']") is not None:
                self.run(name, "crm_resource", "--cleanup", "--resource", remote)
                return

    def _all(self) -> list[str]:
        return self.names + self.remotes

    def _node(self, name: str) -> Namespaces:
        try:
            return self._nodes[name]
        except KeyError:
            raise NodeDown(f"{name} is down") from None

    def _make_bmcs(self) -> dict[str, PrivateBmc]:
        assert self._switch, "the cluster is stopped"
        prefix = (*self._switch.enter("net"), "setpriv", "--pdeathsig=KILL")
        bmcs = {}
        for name in self._all():
            number = _number(name)
            last = number + (150 if number < 100 else 100)
            self._on_switch("address", "add", f"{NETWORK}.{last}/24", "dev", "br0")
            guid = f"{GUID_START}{last:04d}"
            bmcs[name] = PrivateBmc(guid, address=f"{NETWORK}.{last}", port=BMC_PORT, prefix=prefix)
        return bmcs

    def _cib(self) -> str:
        resources = self._resources + "".join(remote(name, _address(name)) for name in self.remotes)
        constraints = ""
        if self._board:
            resources += "".join(fence_device(name, bmc.bmc()) for name, bmc in self._board.bmcs.items())
            constraints = "".join(map(not_on_itself, self.names))
        return cib(self._options, resources, constraints)

    def _power_on(self, name: str) -> None:
        with self._plug:
            if self._board:
                self.bmc(name).set_power("on")
            if name not in self._nodes:
                self._nodes[name] = Namespaces("host", name, DISK, kinds=("ipc", "uts"), within=self._switch)
                self._plug_in(name)

    def _cut(self, name: str) -> None:
        with self._plug:
            if name in self._nodes:
                # The kernel says goodbye on the TCP connections of a process that is killed; that of a dead host doesn't.
                self._on_switch("link", "set", _port(name), "nomaster")
                self._nodes.pop(name).kill()

    def _come_up(self, name: str) -> None:
        """As a host does by itself: it starts what it has to, and nobody waits for it."""
        with self._plug:
            if name in self._nodes:
                return
            self._power_on(name)
            if name in self.names:
                self._ensure(name, "corosync", "-f")
            if self._pacemaker:
                self._start_pacemaker(name)

    def _start_pacemaker(self, name: str) -> None:
        if name in self.names:
            self._ensure(name, "pacemakerd", "-f")
        else:
            self._ensure(name, cluster_remotes.find())

    def _plug_in(self, name: str) -> None:
        if _port(name) in self._on_switch(
            "-o", "link"
        ):  # of the node before its crash; the kernel removes it, some day
            self._on_switch("link", "del", _port(name))
        # The same MAC at each boot: its peers would ask for the one they know for up to 40 s.
        peer = f"eth0 address 02:00:0a:4d:00:{_number(name):02x} netns {self._node(name).pid}"
        self._on_switch("link", "add", _port(name), "type", "veth", "peer", "name", *peer.split())
        self._on_switch("link", "set", _port(name), "master", "br0", "up")
        into = self._node(name).enter("net")
        check(*into, "ip", "link", "set", "lo", "up")
        check(*into, "ip", "address", "add", f"{_address(name)}/24", "dev", "eth0")
        check(*into, "ip", "link", "set", "eth0", "up")

    def _on_switch(self, *arguments: str) -> str:
        assert self._switch, "the cluster is stopped"
        return check(*self._switch.enter("net"), "ip", *arguments)

    def _ensure(self, name: str, path: str, *arguments: str) -> None:
        """Start a program on a node, unless it runs there."""
        program = Path(path).name
        with self._plug:
            if self._node(name).processes(program):
                return
            self._spawn(name, self.disk(name) / f"{program}.out", path, *arguments)
            until(
                lambda: bool(self._node(name).processes(program)),
                START_WITHIN_S,
                lambda: self._trouble(f"{program} of {name} doesn't start"),
            )

    def _spawn(self, name: str, output: Path, *command: str) -> None:
        # The node's process 1 becomes its parent: nsenter would stop itself along with a child that is stopped.
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

    def _have_quorum(self, members: Sequence[str]) -> bool:
        """Started together, a corosync may end by a failed assertion (3.1.7); such a one is started again."""
        for name in members:
            self._ensure(name, "corosync", "-f")
        return all("Quorate:          Yes" in self.run(name, "corosync-quorumtool", "-s").stdout for name in members)

    def _trouble(self, what: str) -> str:
        told = [f"{what} ({self._transport})"]
        for name in self._all():
            outputs = self.disk(name).glob("*.out")
            logs = [*outputs, *(self.disk(name) / f"var/log/{it}/{it}.log" for it in ("corosync", "pacemaker"))]
            told += [f"-- {log}\n{log.read_text(errors='replace')[-1500:]}" for log in logs if log.exists()]
        return "\n".join(told)


def _port(name: str) -> str:
    return f"port-{name}"


def _number(name: str) -> int:
    """The last number of a node's address."""
    return 100 + int(name[6:]) if name.startswith("remote") else int(name[4:])


def _address(name: str) -> str:
    return f"{NETWORK}.{_number(name)}"
