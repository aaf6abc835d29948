"""The disk of a node of a private cluster: what corosync and pacemaker find on it at their first start."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable, Mapping
from pathlib import Path

MCAST_ADDR, MCAST_PORT = "239.255.77.1", 5405
COVERED = (
    "/etc/corosync",
    "/etc/pacemaker",
    "/var/lib/corosync",
    "/var/lib/pacemaker",
    "/var/log/corosync",
    "/var/log/pacemaker",
)


def make_disk(disk: Path, addresses: Mapping[str, str], conf: str, key: bytes, cib: str) -> None:
    """Fill it. addresses: of all nodes; key: what members and remotes know each other by; cib: none on a remote."""
    account = pwd.getpwnam("hacluster")
    for path in (*COVERED, "/etc/corosync/uidgid.d"):
        Path(f"{disk}{path}").mkdir(parents=True, exist_ok=True)
    theirs = [disk / "var/log/pacemaker"]
    theirs += [disk / "var/lib/pacemaker" / folder for folder in ("blackbox", "cib", "cores", "pengine")]
    for folder in theirs:
        folder.mkdir(exist_ok=True)
    if cib:
        theirs.append(disk / "var/lib/pacemaker/cib/cib.xml")
        theirs[-1].write_text(cib, encoding="utf-8")
        theirs[-1].chmod(0o600)
    for owned in theirs:
        os.chown(owned, account.pw_uid, account.pw_gid)
    secret = disk / "etc/pacemaker/authkey"
    secret.write_bytes(key)
    secret.chmod(0o640)
    os.chown(secret, 0, account.pw_gid)
    (disk / "etc/corosync/corosync.conf").write_text(conf, encoding="utf-8")
    hosts = [f"{address} {host}" for host, address in addresses.items()]
    _write(disk / "etc/hosts", ["127.0.0.1 localhost", *hosts])
    _write(disk / "covers", [*COVERED, "/etc/hosts"])


def corosync_conf(cluster: str, transport: str, token_ms: int, addresses: Mapping[str, str]) -> str:
    """corosync.conf, the same on all members; their addresses in the order of their ids."""
    network = next(iter(addresses.values())).rpartition(".")[0]
    mcast = f"interface {{\n bindnetaddr: {network}.0\n mcastaddr: {MCAST_ADDR}\n mcastport: {MCAST_PORT}\n ttl: 1\n }}"
    nodes = "\n".join(
        f"node {{\n name: {name}\n nodeid: {number}\n ring0_addr: {address}\n }}"
        for number, (name, address) in enumerate(addresses.items(), start=1)
    )
    # Real-time priority and the root's cgroup are for machines of their own.
    return f"""
totem {{
 version: 2
 cluster_name: {cluster}
 transport: {transport}
 crypto_cipher: none
 crypto_hash: none
 token: {token_ms}
 token_coefficient: 0
 {mcast if transport == "udp" else ""}
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


def _write(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
