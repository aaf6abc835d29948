"""What a cluster is called: the same on every node, and what the operator reads in corosync.conf."""

from __future__ import annotations

import pytest

from hostmonitor.corosync import ANY_GROUP, Corosync, Ring, cluster_port, is_quorate, read_cmap, read_conf
from masakari.common.errors import ConfigError

CONF_2015 = """
# Please read the corosync.conf.5 manual page
compatibility: whitetank
totem {
	version: 2
	secauth: off
	interface {
		ringnumber: 0
		bindnetaddr: 192.168.1.0
		mcastaddr: 226.94.1.1
		mcastport: 5405
		ttl: 1
	}
}
logging {
	to_syslog: yes
	logger_subsys {
		subsys: AMF
		debug: off
	}
}
"""

CONF_KNET = """
totem {
    version: 2
    cluster_name: production
    transport: knet
    interface {
        linknumber: 0
        knet_transport: udp
    }
}
nodelist {
    node {
        name: compute1
        nodeid: 1
        ring0_addr: 10.0.0.1
        ring1_addr: 10.1.0.1
    }
    node {
        ring0_addr: compute2
        nodeid: 2
    }
    node {
        name: compute3
        nodeid: 3
        ring0_addr: 10.0.0.3
    }
}
quorum {
    provider: corosync_votequorum
    expected_votes: 3
}
"""

CMAP_UDP = """nodelist.local_node_pos (u32) = 1
nodelist.node.0.name (str) = node1
nodelist.node.0.nodeid (u32) = 1
nodelist.node.0.ring0_addr (str) = 10.77.0.1
nodelist.node.1.name (str) = node2
nodelist.node.1.nodeid (u32) = 2
nodelist.node.1.ring0_addr (str) = 10.77.0.2
runtime.config.totem.token (u32) = 1000
runtime.votequorum.this_node_id (u32) = 2
totem.cluster_name (str) = testcluster
totem.interface.0.bindnetaddr (str) = 10.77.0.2
totem.interface.0.mcastaddr (str) = 239.255.77.1
totem.interface.0.mcastport (u16) = 5405
totem.transport (str) = udp
totem.version (u32) = 2
"""


CMAP_KNET = """nodelist.local_node_pos (u32) = 1
nodelist.node.0.name (str) = node1
nodelist.node.0.nodeid (u32) = 1
nodelist.node.0.ring0_addr (str) = node1
nodelist.node.0.ring1_addr (str) = 10.78.0.1
nodelist.node.1.name (str) = node2
nodelist.node.1.nodeid (u32) = 2
nodelist.node.1.ring0_addr (str) = node2
nodelist.node.1.ring1_addr (str) = 10.78.0.2
runtime.members.1.ip (str) = r(0) ip(10.77.0.1) r(1) ip(10.78.0.1)
runtime.members.1.join_count (u32) = 1
runtime.members.1.status (str) = left
runtime.members.2.ip (str) = r(0) ip(10.77.0.2) r(1) ip(10.78.0.2)
runtime.members.2.join_count (u32) = 1
runtime.members.2.status (str) = joined
runtime.votequorum.this_node_id (u32) = 2
totem.interface.0.bindnetaddr (str) = node2
totem.interface.1.bindnetaddr (str) = 10.78.0.2
totem.transport (str) = knet
"""

CMAP_2 = """runtime.totem.pg.mrp.srp.members.3.ip (str) = r(0) ip(192.168.1.3) r(1) ip(fd00::3)
runtime.totem.pg.mrp.srp.members.3.status (str) = joined
runtime.totem.pg.mrp.srp.members.7.ip (str) = r(0) ip(192.168.1.7) r(1) ip(fd00::7)
runtime.totem.pg.mrp.srp.members.7.status (str) = joined
runtime.votequorum.this_node_id (u32) = 7
totem.interface.0.bindnetaddr (str) = 192.168.1.0
totem.interface.0.mcastaddr (str) = 226.94.1.1
totem.interface.0.mcastport (u16) = 5415
totem.interface.1.bindnetaddr (str) = fd00::
totem.interface.1.mcastaddr (str) = ff15::1
totem.version (u32) = 2
"""


def totem(*lines: str, interface: str = "") -> str:
    """A corosync.conf with these settings of totem."""
    return "\n".join(["totem {", *lines, interface, "}"])


def ring(number: int, *lines: str) -> str:
    """The section of a ring."""
    return "\n".join(["interface {", f"ringnumber: {number}", *lines, "}"])


def test_a_cluster_of_2015_is_called_as_its_monitors_called_it() -> None:
    assert cluster_port(read_conf(CONF_2015)) == "226.94.1.1:5405"


def test_without_multicast_it_is_called_by_its_name() -> None:
    assert cluster_port(read_conf(CONF_KNET)) == "production"
    assert cluster_port(read_conf(totem("cluster_name: east", "transport: udpu"))) == "east"


def test_what_is_configured_for_the_monitor_comes_first() -> None:
    assert cluster_port(read_conf(CONF_2015), "226.94.1.9:5405") == "226.94.1.9:5405"
    assert cluster_port(Corosync(), "rack 7") == "rack 7"


def test_multicast_comes_before_the_name() -> None:
    text = totem("cluster_name: east", interface=ring(0, "mcastaddr: 239.1.1.1", "mcastport: 5407"))
    assert cluster_port(read_conf(text)) == "239.1.1.1:5407"


@pytest.mark.parametrize("transport", ["udpu", "knet"])
def test_a_multicast_address_that_the_transport_does_not_use_names_nothing(transport: str) -> None:
    leftover = ring(0, "mcastaddr: 239.255.1.1", "mcastport: 5405")
    named = totem("cluster_name: east", f"transport: {transport}", interface=leftover)
    assert cluster_port(read_conf(named)) == "east"
    with pytest.raises(ConfigError, match=r"239\.255\.1\.1:5405 is not used with transport .* set cluster_port"):
        cluster_port(read_conf(totem(f"transport: {transport}", interface=leftover)))


def test_the_first_ring_counts_wherever_it_stands() -> None:
    second, first = ring(1, "mcastaddr: 226.94.1.2", "mcastport: 5407"), ring(0, "mcastaddr: 226.94.1.1")
    for interfaces in (f"{first}\n{second}", f"{second}\n{first}"):
        assert cluster_port(read_conf(totem("rrp_mode: passive", interface=interfaces))) == "226.94.1.1:5405"


def test_the_port_is_that_of_corosync_when_none_is_set() -> None:
    assert read_conf(totem(interface=ring(0, "mcastaddr: ff15::1"))).mcast == "ff15::1:5405"


@pytest.mark.parametrize(
    "text",
    [
        "totem{\r\ninterface{\r\nmcastaddr:226.94.1.1\r\nmcastport  :   5405\r\n}\r\n}\r\n",
        "\n\n  totem   {\n\tinterface {\n# mcastaddr: 1.2.3.4\n\t\tmcastaddr:\t226.94.1.1  \n mcastport: 05405 # ours\n}\n}",
        "logging {\n to_syslog: yes\n}\ntotem {\n}\ntotem {\n interface {\n mcastaddr: 226.94.1.1\n }\n} # end",
        "what is this\ntotem {\n no colon here\n interface {\n mcastaddr: 226.94.1.1\n }\n}",
    ],
)
def test_spacing_comments_and_odd_lines_change_nothing(text: str) -> None:
    assert cluster_port(read_conf(text)) == "226.94.1.1:5405"


def test_the_settings_of_other_sections_are_not_mixed_up() -> None:
    text = CONF_KNET + "\nservice {\n cluster_name: other\n mcastaddr: 1.2.3.4\n transport: udp\n}\n"
    assert read_conf(text) == read_conf(CONF_KNET)


def test_corosync_conf_and_the_running_corosync_agree() -> None:
    conf = """
        totem { # as the nodes of the other text have it
            cluster_name: testcluster
            transport: udp
            interface {
                mcastaddr: 239.255.77.1
                mcastport: 5405
            }
        }
        nodelist {
            node {
                name: node1
                ring0_addr: 10.77.0.1
            }
            node {
                name: node2
                ring0_addr: 10.77.0.2
            }
        }
    """
    running, written = read_cmap(CMAP_UDP), read_conf(conf)
    assert cluster_port(running) == cluster_port(written) == "239.255.77.1:5405"
    assert running.members == written.members == ("node1", "node2")
    assert (running.own_name, written.own_name) == ("node2", "")


def test_the_full_members_are_counted() -> None:
    read = read_conf(CONF_KNET)
    assert read.members == ("compute1", "compute2", "compute3")
    assert (read.member_count, read.transport) == (3, "knet")
    assert read_conf(CONF_2015).member_count == 0
    assert read_conf(CONF_2015 + "quorum {\n expected_votes: 5\n}\n").member_count == 5


def test_rings_are_those_of_the_running_node_whatever_names_its_nodelist_has() -> None:
    running = read_cmap(CMAP_KNET)
    assert running.rings == (Ring(0, "10.77.0.2", 5405), Ring(1, "10.78.0.2", 5406))
    assert (running.joined, running.member_count) == (1, 2)
    moved = read_cmap(CMAP_KNET + "totem.interface.1.mcastport (u16) = 5500\n")
    assert [ring.port for ring in moved.rings] == [5405, 5500]


def test_rings_of_corosync_2_have_a_multicast_group_each() -> None:
    running = read_cmap(CMAP_2)
    assert running.rings == (Ring(0, "192.168.1.7", 5415, "226.94.1.1"), Ring(1, "fd00::7", 5405, "ff15::1"))
    assert running.joined == 2


@pytest.mark.parametrize(
    ("transport", "mcast"), [("udp", "239.1.1.1"), ("udpu", ""), ("knet", ""), ("", ""), ("UDP", "239.1.1.1")]
)
def test_a_ring_has_a_multicast_group_only_if_the_transport_uses_it(transport: str, mcast: str) -> None:
    told = "\n".join(line for line in CMAP_KNET.splitlines() if "totem.transport" not in line)
    told += "\ntotem.interface.0.mcastaddr (str) = 239.1.1.1\n"
    told += f"totem.transport (str) = {transport}\n" if transport else ""
    assert read_cmap(told).rings[0].mcast == mcast


def test_a_group_that_corosync_chose_is_not_told() -> None:
    assert read_cmap(CMAP_KNET.replace("knet", "udp")).rings[0].mcast == ANY_GROUP


def test_without_votequorum_the_nodelist_tells_which_node_this_is() -> None:
    told = "\n".join(line for line in CMAP_KNET.splitlines() if "votequorum" not in line)
    assert [ring.address for ring in read_cmap(told).rings] == ["10.77.0.2", "10.78.0.2"]
    assert read_cmap(told.replace("nodelist.", "other.")).rings == ()


def test_what_does_not_run_has_no_rings() -> None:
    assert (read_conf(CONF_KNET).rings, read_conf(CONF_KNET).joined) == ((), 0)


def test_a_port_of_a_ring_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="mcastport of ring 1 must be a number from 1 to 65535, not '0'"):
        read_cmap(CMAP_KNET + "totem.interface.1.mcastport (u16) = 0\n")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "has no totem section"),
        ("# empty\n", "has no totem section"),
        ("<html><body>not found: here</body></html>", "has no totem section"),
        ("logging {\n debug: on\n}\n", "has no totem section"),
        ("totem {\n version: 2\n", "section totem is not closed"),
        ("totem {\n version: 2\n}\n}\n", ":4: this } closes nothing"),
        (
            totem(interface=ring(0, "mcastaddr: our multicast")),
            "mcastaddr of ring 0 must be an IP address, not 'our mu",
        ),
        (totem(interface=ring(1, "mcastaddr: 239.1.1.1", "mcastport: many")), "mcastport of ring 1 must be a number"),
        (totem(interface=ring(0, "mcastaddr: 239.1.1.1", "mcastport: 65536")), "must be a number from 1 to 65535"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_the_reason(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_conf(text, "/etc/corosync/other.conf")
    assert str(refused.value).startswith("/etc/corosync/other.conf:")
    assert told in str(refused.value)


@pytest.mark.parametrize("name", ["", "cluster_name: two words", f"cluster_name: {'x' * 256}"])
def test_a_cluster_without_a_usable_name_is_told_what_to_set(name: str) -> None:
    with pytest.raises(ConfigError, match=r"cluster_name.*; set cluster_port in hostmonitor\.conf"):
        cluster_port(read_conf(totem("version: 2", "transport: udpu", name)))


@pytest.mark.parametrize("text", ["", "Failed to initialize the cmap API. Error CS_ERR_LIBRARY\n", "a.b (str) = c\n"])
def test_what_is_no_configuration_of_a_running_corosync_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="corosync-cmapctl shows no key of totem"):
        read_cmap(text)


@pytest.mark.parametrize(
    ("line", "quorate"),
    [
        ("Quorate:          Yes", True),
        ("Quorate:          No", False),
        ("Flags:            Quorate", False),
        ("", False),
    ],
)
def test_quorum_is_told_by_its_own_line(line: str, quorate: bool) -> None:
    text = f"Quorum information\n------------------\nNodes:            2\n{line}\n\nVotequorum information\n"
    assert is_quorate(text) is quorate
