"""What corosync's configuration says of the cluster, read from corosync.conf or from corosync-cmapctl (pure).

Both are turned into the same keys, those of the cmap: totem.cluster_name, nodelist.node.0.name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from masakari.common.errors import ConfigError

CONF = "/etc/corosync/corosync.conf"
DEFAULT_MCASTPORT = "5405"
ANY_GROUP = "any"
UNICAST = ("udpu", "knet")
REMEDY = "set cluster_port in hostmonitor.conf, to the same on every node of the cluster"

_OPENING = re.compile(r"([\w.-]+)\s*\{$")
_SETTING = re.compile(r"([\w.-]+)\s*:\s*(.*)$")
_CMAP = re.compile(r"(\S+) \(\w+\) = (.*)$")
_NUMBERED = re.compile(r"totem\.interface\.(\d+)\.mcastaddr")
_MEMBER = re.compile(r"nodelist\.node\.(\d+)\.\w+")
_ADDRESS = re.compile(r"[0-9A-Fa-f.:]+")

# What a running corosync says of itself, in the second form before release 3.
_NOW = ("runtime.members", "runtime.totem.pg.mrp.srp.members")
_STATUS = re.compile(rf"({'|'.join(map(re.escape, _NOW))})\.\d+\.status")
_RING_ADDRESS = re.compile(r"r\((\d+)\) ip\(([0-9A-Fa-f.:]+)\)")


@dataclass(frozen=True, slots=True)
class Ring:
    """A heartbeat line of this node: its own IP address there, and the port at which it hears the others.

    mcast: the multicast group that it listens to as well; ANY_GROUP if corosync chose one by itself; "" without multicast.
    """

    number: int
    address: str
    port: int
    mcast: str = ""


@dataclass(frozen=True, slots=True)
class Corosync:
    """What is configured. Empty, or 0, is what isn't.

    transport: udp, udpu or knet; releases differ in what they take without one. mcast: address:port of the first ring that
    has a multicast address, whether the transport uses it or not. members: the full members, in the order of the nodelist,
    by their names, or their first addresses. own_name: the name among them of the node that was asked. joined: how many full
    members there are now, this node among them. rings: its heartbeat lines. The last three only a running corosync tells.
    """

    cluster_name: str = ""
    transport: str = ""
    mcast: str = ""
    members: tuple[str, ...] = ()
    own_name: str = ""
    expected_votes: int = 0
    joined: int = 0
    rings: tuple[Ring, ...] = ()

    @property
    def member_count(self) -> int:
        """How many full members the cluster should have; without a nodelist the expected votes; 0 when nothing tells it."""
        return len(self.members) or self.expected_votes


def read_conf(text: str, path: str = CONF) -> Corosync:
    """What a corosync.conf says. ConfigError, with its path, when it is none, or has values that can't be used.

    What corosync reads differently from release to release, a line that makes no sense for instance, is passed over.
    """
    return _reading(_conf_keys(text, path), path)


def read_cmap(text: str) -> Corosync:
    """What corosync-cmapctl printed. ConfigError when it is not the configuration of a running corosync."""
    found = (_CMAP.match(line) for line in text.splitlines())
    keys = {key: value.strip() for key, value in (match.groups() for match in found if match)}
    if not any(key.startswith("totem.") for key in keys):
        raise ConfigError(["corosync-cmapctl shows no key of totem: it is not the configuration of a running corosync"])
    return _reading(keys, "corosync-cmapctl")


def cluster_port(corosync: Corosync, configured: str = "") -> str:
    """The failover segment's name in every callback: the same on all nodes, and what operators give as --port.

    What is configured for the monitor, if anything; with multicast address:port; otherwise the cluster's name. ConfigError
    when there is none of these.
    """
    if configured:
        return configured
    # With a unicast transport the address is a leftover: it may well be the sample's, and then that of other clusters, too.
    if corosync.mcast and corosync.transport not in UNICAST:
        return corosync.mcast
    if re.fullmatch(r"\S{1,255}", corosync.cluster_name):
        return corosync.cluster_name
    if corosync.cluster_name:
        why = f"its cluster_name {corosync.cluster_name!r} has blanks in it, or more than 255 characters"
    else:
        why = "it has no cluster_name"
    if corosync.mcast:
        why += (
            f" (its {corosync.mcast} is not used with transport {corosync.transport}; monitors of 2015 called it that)"
        )
    raise ConfigError([f"nothing names this corosync cluster: it uses no multicast, and {why}; {REMEDY}"])


def is_quorate(text: str) -> bool:
    """Whether this node is in the part of the cluster that has quorum, by what corosync-quorumtool -s printed."""
    return re.search(r"^Quorate:\s+Yes\s*$", text, re.MULTILINE) is not None


def _conf_keys(text: str, path: str) -> dict[str, str]:
    """The settings of a corosync.conf by their keys in the cmap."""
    keys: dict[str, str] = {}
    sections: list[str] = []
    nodes = 0
    interface: list[tuple[str, str]] = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = re.sub(r"(^|\s)#.*", "", raw).strip()
        if opening := _OPENING.match(line):
            sections.append(opening.group(1))
        elif line == "}":
            if not sections:
                raise ConfigError([f"{path}:{number}: this }} closes nothing"])
            ended = ".".join(sections)
            sections.pop()
            if ended == "nodelist.node":
                nodes += 1
            elif ended == "totem.interface":
                keys.update(_of_interface(interface))
                interface.clear()
        elif setting := _SETTING.match(line):
            name, value = setting.groups()
            where = ".".join(sections)
            if where == "totem.interface":
                interface.append((name, value))
            else:
                keys[f"{where}.{nodes}.{name}" if where == "nodelist.node" else f"{where}.{name}"] = value
    if sections:
        raise ConfigError([f"{path}: section {sections[-1]} is not closed: there is no }} for it"])
    if not any(key.startswith("totem.") for key in keys):
        raise ConfigError([f"{path}: has no totem section, so it says nothing of a cluster"])
    return keys


def _of_interface(settings: list[tuple[str, str]]) -> dict[str, str]:
    values = dict(settings)
    ring = values.get("linknumber") or values.get("ringnumber") or "0"
    return {f"totem.interface.{ring}.{name}": value for name, value in values.items()}


def _reading(keys: dict[str, str], source: str) -> Corosync:
    positions = sorted({int(match.group(1)) for match in map(_MEMBER.match, keys) if match})
    members = {position: _member(keys, position) for position in positions}
    own = keys.get("nodelist.local_node_pos", "")
    votes = keys.get("quorum.expected_votes", "")
    return Corosync(
        cluster_name=keys.get("totem.cluster_name", ""),
        transport=keys.get("totem.transport", "").lower(),
        mcast=_mcast(keys, source),
        members=tuple(members.values()),
        own_name=members.get(int(own), "") if own.isdecimal() else "",
        expected_votes=int(votes) if votes.isdecimal() else 0,
        joined=sum(value == "joined" for key, value in keys.items() if _STATUS.fullmatch(key)),
        rings=_rings(keys, own, source),
    )


def _member(keys: dict[str, str], position: int) -> str:
    return keys.get(f"nodelist.node.{position}.name") or keys.get(f"nodelist.node.{position}.ring0_addr", "")


def _rings(keys: dict[str, str], own: str, source: str) -> tuple[Ring, ...]:
    """The rings of this node as it runs: in the nodelist there may be names, and none at all with multicast."""
    own_id = keys.get("runtime.votequorum.this_node_id") or keys.get(f"nodelist.node.{own}.nodeid", "")
    told = next((keys[key] for form in _NOW if (key := f"{form}.{own_id}.ip") in keys), "")
    return tuple(
        Ring(int(number), address, _port(keys, int(number), source), _group(keys, number))
        for number, address in _RING_ADDRESS.findall(told)
    )


def _group(keys: dict[str, str], number: str) -> str:
    transport = keys.get("totem.transport", "").lower()
    if transport in UNICAST or (not transport and _is_3(keys)):
        return ""
    return keys.get(f"totem.interface.{number}.mcastaddr", ANY_GROUP)


def _is_3(keys: dict[str, str]) -> bool:
    """Whether this is corosync 3 or later, where knet is what it takes without a transport."""
    return any(key.startswith(f"{_NOW[0]}.") for key in keys)


def _port(keys: dict[str, str], number: int, source: str) -> int:
    """The port of a ring. Without a setting corosync 3 takes one more for each ring."""
    if port := keys.get(f"totem.interface.{number}.mcastport"):
        return _checked_port(port, number, source)
    return int(DEFAULT_MCASTPORT) + (number if _is_3(keys) else 0)


def _checked_port(port: str, number: int, source: str) -> int:
    if not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise ConfigError([f"{source}: mcastport of ring {number} must be a number from 1 to 65535, not {port!r}"])
    return int(port)


def _mcast(keys: dict[str, str], source: str) -> str:
    rings = sorted(int(match.group(1)) for match in map(_NUMBERED.match, keys) if match)
    if not rings:
        return ""
    address = keys[f"totem.interface.{rings[0]}.mcastaddr"]
    port = keys.get(f"totem.interface.{rings[0]}.mcastport") or DEFAULT_MCASTPORT
    if not _ADDRESS.fullmatch(address):
        raise ConfigError([f"{source}: mcastaddr of ring {rings[0]} must be an IP address, not {address!r}"])
    return f"{address}:{_checked_port(port, rings[0], source)}"
