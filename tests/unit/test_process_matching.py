"""Which command lines belong to a watched process, how processes are found in /proc, and what systemd says of a service."""

from __future__ import annotations

from pathlib import Path

import pytest

from masakari.common.errors import Unavailable
from processmonitor.matching import belongs
from processmonitor.procfs import Process, Processes, unit_in
from processmonitor.supervise import Verdict
from processmonitor.systemd import judge, judge_sockets, sockets_of

LIBVIRTD, COMPUTE, SSHD = "/usr/sbin/libvirtd", "/usr/bin/nova-compute", "/usr/sbin/sshd"

MATCHES = [
    (LIBVIRTD, ["/usr/sbin/libvirtd", "--timeout", "120"]),
    ("libvirtd", ["/usr/sbin/libvirtd"]),
    (COMPUTE, ["/usr/bin/python3", "/usr/bin/nova-compute", "--config-file", "/etc/nova/nova.conf"]),
    ("/usr/bin/python /usr/bin/hostmonitor", ["/usr/bin/python", "/usr/bin/hostmonitor"]),
    ("-m hostmonitor", ["python3", "-m", "hostmonitor"]),
    (SSHD, ["sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups"]),
    ("agent.sh", ["/bin/sh", "/opt/agent.sh"]),
    ("agent.sh --fast", ["/bin/bash", "-e", "/opt/agent.sh", "--fast"]),
    ("agent.sh", ["/bin/bash", "-o", "errexit", "/opt/agent.sh"]),
    ("/bin/sh /opt/agent.sh", ["/bin/sh", "/opt/agent.sh"]),
    ("qemu-ga", ["/usr/sbin/qemu-ga", "--daemonize"]),
    ("tail -F /var/log/x", ["tail", "-F", "/var/log/x"]),
    ("grepper", ["/usr/bin/grepperd"]),
    ("nova-compute", ["/usr/bin/python3", COMPUTE, "--config-file", "/etc/nova/nova.conf"]),
    ("python3 /usr/bin/nova-compute", ["/usr/bin/python3", COMPUTE, "--config-file", "/etc/nova/nova.conf"]),
    ("nova-compute --config-file", ["/usr/bin/python3", COMPUTE, "--config-file", "/etc/nova/nova.conf"]),
    ("python3", ["/usr/bin/python3", COMPUTE]),
    ("nova-compute", ["/usr/bin/python3.11", "-W", "ignore", "-u", "-X", "utf8", COMPUTE]),
    ("nova-compute", ["/usr/bin/python3 /usr/bin/nova-compute --config-file /etc/nova/nova.conf"]),
    ("nova.cmd.compute", ["python3", "-um", "nova.cmd.compute", "--debug"]),
    ("nova.cmd.compute", ["python3", "-mnova.cmd.compute", "--debug"]),
    (
        "/usr/bin/python /usr/local/bin/masakari-hostmonitor",
        ["/usr/bin/python", "/usr/local/bin/masakari-hostmonitor", "--config", "x"],
    ),
    ("agent.pl", ["/usr/bin/perl", "-w", "-I", "/opt/lib", "-Mstrict", "/opt/agent.pl", "-e"]),
    ("agent.rb", ["ruby", "-rtime", "-I", "lib", "/opt/agent.rb"]),
    ("agent.js", ["node", "--require", "./hook.js", "/opt/agent.js"]),
    ("agent.php", ["php", "-c", "/etc/php.ini", "/opt/agent.php"]),
    ("agent.jar", ["java", "-server", "-Xmx1g", "-jar", "/opt/agent.jar", "--port", "1"]),
    ("org.example.Agent", ["/usr/bin/java", "-cp", "/opt/a.jar:/opt/b.jar", "org.example.Agent", "x"]),
    ("-Dproc_agent", ["java", "-Dproc_agent", "org.example.Main"]),
]

MENTIONS = [
    (LIBVIRTD, ["grep", LIBVIRTD]),
    (LIBVIRTD, ["pgrep", "-f", LIBVIRTD]),
    (LIBVIRTD, ["sudo", "-n", LIBVIRTD]),
    (LIBVIRTD, ["/usr/bin/timeout", "60", LIBVIRTD]),
    ("libvirtd", ["systemctl", "restart", "libvirtd"]),
    ("libvirtd", ["/bin/sh", "/usr/sbin/service", "libvirtd", "restart"]),
    ("libvirtd", ["sh", "-c", "libvirtd --daemon"]),
    ("libvirtd", ["bash", "-lc", "libvirtd --daemon"]),
    ("libvirtd", ["-bash", "-s", "libvirtd"]),
    (COMPUTE, ["vim.basic", COMPUTE]),
    (COMPUTE, ["tail", "-f", "/var/log" + COMPUTE]),
    ("nova-compute", ["qemu-system-x86_64", "-name", "guest=nova-compute"]),
    ("nova-compute", ["/usr/libexec/qemu-kvm", "-name", "guest=nova-compute"]),
    ("nova-compute", ["python3", "-c", "import os  # nova-compute"]),
    ("nova-compute", ["perl", "-ne", "print if /nova-compute/"]),
    (
        "nova-compute",
        ["/usr/bin/python3", "/usr/bin/openstack", "compute", "service", "list", "--service", "nova-compute"],
    ),
    ("nova-compute", ["/usr/bin/python3", "/opt/check.py", "nova-compute"]),
    ("nova-compute", ["/usr/bin/python3 /opt/check.py nova-compute"]),
    ("nova-compute", ["python3", "-m", "check", "nova-compute"]),
    ("nova-compute", ["python3", "-mcheck", "nova-compute"]),
    ("nova-compute", ["python3", "-Ic", "import os  # nova-compute"]),
    ("nova-compute", ["python3", "-", "nova-compute"]),
    ("nova-compute", ["ruby", "-ne", "puts if /nova-compute/"]),
    ("nova-compute", ["node", "--eval", "look('nova-compute')"]),
    ("nova-compute", ["java", "-jar", "/opt/check.jar", "nova-compute"]),
    ("nova-compute", ["openstack", "compute", "service", "list", "--service", "nova-compute"]),
    ("nova-compute", ["nova", "service-list", "--binary", "nova-compute"]),
    ("nova-compute", ["curl", "http://x/nova-compute"]),
    ("nova-compute", ["wget", "-O", "/tmp/nova-compute", "http://x"]),
    ("nova-compute", ["tcpdump", "-w", "/tmp/nova-compute.pcap"]),
    ("sh", ["sh"]),
    ("agent.sh", ["bash"]),
    ("nova-compute", ["/usr/bin/nova-conductor"]),
    ("", ["/usr/bin/anything"]),
    ("nova.compute", ["/usr/bin/nova-compute"]),
]


@pytest.mark.parametrize(("key", "argv"), MATCHES)
def test_the_process_is_found_by_its_command_line(key: str, argv: list[str]) -> None:
    assert belongs(key, argv)


@pytest.mark.parametrize(("key", "argv"), MENTIONS)
def test_a_mention_of_the_process_is_not_the_process(key: str, argv: list[str]) -> None:
    assert not belongs(key, argv)


class Proc:
    """A folder like /proc."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.add(1, 0, ["/sbin/init"])

    def add(
        self, pid: int, parent: int, argv: list[str], *, state: str = "S", started: int = 0, cgroup: str = ""
    ) -> None:
        home = self.folder / str(pid)
        home.mkdir()
        (home / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in argv))
        (home / "stat").write_text(f"{pid} (a) b) {state} {parent} " + "0 " * 17 + f"{started or pid} 0 0\n")
        (home / "cgroup").write_text(cgroup)

    def find(self, *keys: str, own_pid: int = 50) -> dict[str, list[int]]:
        found = Processes(str(self.folder), own_pid).matching(keys)
        return {key: [process.pid for process in processes] for key, processes in found.items()}


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


def test_all_processes_of_a_key_are_found_oldest_first(proc: Proc) -> None:
    proc.add(300, 1, [LIBVIRTD], started=9)
    proc.add(20, 1, [LIBVIRTD], started=10)
    proc.add(21, 1, ["/usr/bin/other"])
    assert proc.find(LIBVIRTD, SSHD) == {LIBVIRTD: [300, 20], SSHD: []}


def test_neither_this_process_nor_what_it_started_is_found(proc: Proc) -> None:
    proc.add(50, 1, ["processmonitor"])
    proc.add(51, 50, ["prog", "processmonitor"])
    proc.add(52, 51, ["prog", "processmonitor"])
    proc.add(53, 1, ["prog", "processmonitor"])
    assert proc.find("processmonitor") == {"processmonitor": [53]}


def test_kernel_threads_and_zombies_are_not_found(proc: Proc) -> None:
    proc.add(20, 2, [])
    proc.add(21, 1, [LIBVIRTD], state="Z")
    assert proc.find(LIBVIRTD) == {LIBVIRTD: []}


def test_trailing_nulls_of_a_rewritten_title_do_not_matter(proc: Proc) -> None:
    proc.add(20, 1, ["sshd: /usr/sbin/sshd -D", "", "", ""])
    assert proc.find(SSHD) == {SSHD: [20]}


def test_a_pid_used_again_is_another_process(proc: Proc) -> None:
    proc.add(20, 1, [LIBVIRTD], started=7)
    processes = Processes(str(proc.folder), 50)
    assert processes.runs(Process(20, 7))
    assert not processes.runs(Process(20, 6))
    assert not processes.runs(Process(21, 7))


def test_a_proc_that_hides_processes_is_an_error_and_no_outage(tmp_path: Path) -> None:
    (tmp_path / "50").mkdir()
    with pytest.raises(Unavailable, match="hidepid"):
        Processes(str(tmp_path), 50).matching([LIBVIRTD])


def test_a_process_that_cannot_be_read_is_an_error_and_no_outage(proc: Proc) -> None:
    proc.add(20, 1, [LIBVIRTD])
    (proc.folder / "20" / "cmdline").unlink()
    (proc.folder / "20" / "cmdline").mkdir()
    with pytest.raises(Unavailable, match="20/cmdline"):
        proc.find(LIBVIRTD)


def test_the_unit_of_this_monitor_is_nobody_elses(proc: Proc) -> None:
    proc.add(50, 1, ["processmonitor"], cgroup="0::/system.slice/masakari-processmonitor.service\n")
    proc.add(60, 1, ["agent"], cgroup="0::/system.slice/masakari-processmonitor.service\n")
    proc.add(61, 1, ["agent"], cgroup="0::/system.slice/agent.service\n")
    processes = Processes(str(proc.folder), 50)
    assert processes.unit(Process(60, 60)) == ""
    assert processes.unit(Process(61, 61)) == "agent.service"


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/system.slice/libvirtd.service\n", "libvirtd.service"),
        ("9:name=systemd:/system.slice/libvirtd.service\n8:pids:/x.service\n0::/\n", "libvirtd.service"),
        ("0::/system.slice/system-foo.slice/foo@1.service/sub\n", "foo@1.service"),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/foo.service\n", ""),
        ("0::/system.slice/docker-abc.scope\n", ""),
        ("8:pids:/system.slice/foo.service\n0::/\n", ""),
        ("", ""),
    ],
)
def test_the_unit_of_a_process_is_the_last_service_of_its_cgroup(cgroup: str, unit: str) -> None:
    assert unit_in(cgroup) == unit


def shown(
    active: str, sub: str, result: str = "success", *, load: str = "loaded", job: str = "", **times: str
) -> dict[str, str]:
    return {"LoadState": load, "ActiveState": active, "SubState": sub, "Result": result, "Job": job, **times}


def times(began: int, left: int, ended: int, again: int = 5) -> dict[str, str]:
    names = (
        "ExecMainStartTimestampMonotonic",
        "ActiveExitTimestampMonotonic",
        "ExecMainExitTimestampMonotonic",
        "InactiveExitTimestampMonotonic",
    )
    return dict(zip(names, map(str, (began, left, ended, again)), strict=True))


TOLD, BY_ITSELF, LATER_MAIN, CALLED_OFF = (
    times(10, 20, 21),
    times(10, 21, 20),
    times(30, 20, 31, 29),
    times(10, 21, 20, 22),
)
SOCKETS = {"TriggeredBy": "libvirtd-ro.socket libvirtd.timer libvirtd.socket"}


@pytest.mark.parametrize(
    ("properties", "verdict"),
    [
        (shown("inactive", "dead", **TOLD), Verdict.STOPPED),
        (shown("inactive", "dead", load="masked", **TOLD), Verdict.STOPPED),
        (shown("inactive", "dead", **BY_ITSELF), Verdict.ENDED),
        (shown("inactive", "dead"), Verdict.STOPPED),
        (shown("inactive", "dead", **times(0, 0, 0, 0)), Verdict.STOPPED),
        (shown("inactive", "dead", **LATER_MAIN), Verdict.STOPPED),
        (shown("inactive", "dead", **CALLED_OFF), Verdict.STOPPED),
        (shown("inactive", "dead", "exit-code", **CALLED_OFF), Verdict.STOPPED),
        (shown("inactive", "dead", load="not-found"), Verdict.UNKNOWN),
        (shown("inactive", "dead", job="77"), Verdict.BUSY),
        (shown("deactivating", "stop-sigterm"), Verdict.BUSY),
        (shown("activating", "start"), Verdict.BUSY),
        (shown("reloading", "reload"), Verdict.BUSY),
        (shown("activating", "auto-restart", "signal"), Verdict.RESTARTING),
        (shown("failed", "failed", "signal", **BY_ITSELF), Verdict.FAILED),
        (shown("failed", "failed", "exit-code", **TOLD), Verdict.STOPPED),
        (shown("failed", "failed", "timeout", RuntimeMaxUSec="infinity", **TOLD), Verdict.STOPPED),
        (shown("failed", "failed", "timeout", RuntimeMaxUSec="2s", **TOLD), Verdict.FAILED),
        (shown("failed", "failed", "watchdog", **TOLD), Verdict.FAILED),
        (shown("failed", "failed", "exit-code", **LATER_MAIN), Verdict.FAILED),
        (shown("active", "running"), Verdict.ACTIVE),
        ({}, Verdict.UNKNOWN),
    ],
)
def test_systemd_tells_a_stop_from_a_failure(properties: dict[str, str], verdict: Verdict) -> None:
    assert judge(properties) is verdict


def test_a_service_may_have_sockets_that_start_it() -> None:
    assert sockets_of(shown("inactive", "dead", **SOCKETS)) == ["libvirtd-ro.socket", "libvirtd.socket"]
    assert sockets_of(shown("inactive", "dead")) == []


LISTENING, CLOSED, BROKEN = [
    {"ActiveState": active, "SubState": sub}
    for active, sub in (("active", "listening"), ("inactive", "dead"), ("failed", "failed"))
]


@pytest.mark.parametrize(
    ("sockets", "verdict"),
    [
        ([LISTENING], Verdict.SLEEPS),
        ([CLOSED, LISTENING], Verdict.SLEEPS),
        ([CLOSED], Verdict.ENDED),
        ([CLOSED | {"ActiveExitTimestampMonotonic": "7"}], Verdict.STOPPED),
        ([CLOSED, BROKEN], Verdict.FAILED),
        ([], Verdict.ENDED),
    ],
)
def test_a_service_that_ended_sleeps_while_a_socket_of_it_listens(
    sockets: list[dict[str, str]], verdict: Verdict
) -> None:
    assert judge_sockets(sockets) is verdict
