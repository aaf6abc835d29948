"""Whatever pacemaker's programs do, the port answers in time: with what they said, or with words for an operator."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from hostmonitor.pacemaker import Pacemaker
from hostmonitor.tool import Late, Missing
from masakari.common.clock import Clock
from masakari.common.errors import Unavailable
from tests.lab.mariadb import until

VIEW = '<pacemaker-result api-version="2.25"><nodes/><status code="0" message="OK"/></pacemaker-result>'
OLD_VIEW = '<?xml version="1.0"?>\n<crm_mon version="1.1.12"><nodes/></crm_mon>'
REFUSED = """<pacemaker-result><status code="102" message="Not connected"><errors>
<error>error: Could not connect to launcher: Connection refused</error>
<error>crm_mon: Connection to cluster failed: Connection refused</error></errors></status></pacemaker-result>"""
QUICK_S = 0.3
AMPLE_S = 30.0
STOPPED_WITHIN_S = 5.0


class Programs:
    """A folder of shell scripts in the place of pacemaker's programs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = f"{folder}:/usr/bin:/bin"

    def put(self, name: str, *lines: str) -> None:
        """A program that runs these lines of shell."""
        program = self.folder / name
        program.write_text("\n".join(["#!/bin/sh", f"cd {self.folder}", *lines, ""]), encoding="utf-8")
        program.chmod(0o755)

    def say(self, name: str, text: str, status: int = 0) -> None:
        """A program that prints a text and ends."""
        (self.folder / f"{name}.text").write_text(text, encoding="utf-8")
        self.put(name, f"cat {name}.text", f"exit {status}")

    def port(self, timeout_s: float = AMPLE_S, prefix: tuple[str, ...] = (), clock: Clock | None = None) -> Pacemaker:
        """The port to them."""
        return Pacemaker(clock or Clock(), timeout_s=timeout_s, prefix=prefix, path=self.path)

    def written(self, name: str) -> str:
        """What a program has left in the folder."""
        return (self.folder / name).read_text(encoding="utf-8")

    def until_ended(self, *names: str) -> None:
        """Until the processes with the ids in these files are gone."""
        pids = [int(self.written(name)) for name in names]
        until(lambda: not any(map(runs, pids)), AMPLE_S, lambda: f"one of {pids} still runs")


class LeapingClock(Clock):
    """Leaps ahead with each line that a program writes to a file."""

    def __init__(self, file: Path, leap_s: float) -> None:
        self._file = file
        self._leap_s = leap_s

    def monotonic(self) -> float:
        lines = self._file.read_text(encoding="utf-8").count("\n") if self._file.exists() else 0
        return super().monotonic() + lines * self._leap_s


def runs(pid: int) -> bool:
    """Whether a process runs; one that is dead, and not yet waited for, doesn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path)


def refusal(port: Pacemaker) -> str:
    """What is told instead of the state of the cluster."""
    with pytest.raises(Unavailable) as told:
        port.status()
    return str(told.value)


def test_the_state_of_the_cluster_is_handed_on_as_printed(programs: Programs) -> None:
    programs.say("crm_mon", f"{VIEW}\n")
    assert programs.port().status() == VIEW


def test_a_release_that_does_not_know_the_new_option_is_asked_the_old_way(programs: Programs) -> None:
    programs.say("old", OLD_VIEW)
    refuse = "echo \"crm_mon: unrecognized option '$1'\" >&2; exit 22"
    programs.put("crm_mon", f'[ "$1" = -X ] || {{ {refuse}; }}', "cat old.text")
    assert programs.port().status() == OLD_VIEW


def test_the_old_way_has_only_the_time_that_is_left(programs: Programs) -> None:
    programs.say("old", OLD_VIEW)
    programs.put("crm_mon", "echo >>calls", '[ "$1" = -X ] && exec cat old.text', "echo Unknown option >&2; exit 64")
    enough, too_little = (LeapingClock(programs.folder / "calls", share * AMPLE_S) for share in (0.3, 0.6))
    assert programs.port(clock=enough).status() == OLD_VIEW
    (programs.folder / "calls").unlink()
    assert refusal(programs.port(clock=too_little)).startswith("crm_mon did not end within ")


def test_nobodys_environment_changes_the_answer(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIB_file", "/tmp/other.xml")
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    monkeypatch.setenv("PCMK_ipc_buffer", "13213546")
    programs.put("crm_mon", "env >environment", f"echo '{VIEW}'")
    programs.port().status()
    seen = dict(line.split("=", 1) for line in programs.written("environment").splitlines())
    assert (seen["LC_ALL"], seen["TZ"], seen["PCMK_ipc_buffer"]) == ("C", "UTC", "13213546")
    assert not {"CIB_file", "LANG"} & set(seen)


def test_a_prefix_stands_before_the_command(programs: Programs) -> None:
    programs.put("on_node", 'echo "$@" >command', f"echo '{VIEW}'")
    assert programs.port(prefix=("on_node", "node2")).status() == VIEW
    assert programs.written("command") == "node2 crm_mon --output-as=xml -1\n"
    programs.put("on_node", "exec sleep 60")
    assert refusal(programs.port(QUICK_S, prefix=("on_node", "node2"))).startswith("crm_mon did not end within ")


def test_a_program_that_hangs_is_killed_with_its_children(programs: Programs) -> None:
    programs.put("crm_mon", "trap '' TERM", "echo $$ >own", "sleep 60 & echo $! >child", "echo '<half'; wait")
    told = refusal(programs.port(clock=LeapingClock(programs.folder / "child", AMPLE_S)))
    assert told.startswith("crm_mon did not end within ")
    programs.until_ended("own", "child")


def test_a_stop_ends_what_is_being_asked_at_once_with_its_children(programs: Programs) -> None:
    programs.put("crm_mon", "trap '' TERM", "echo $$ >own", "sleep 60 & echo $! >child", "echo >ready", "wait")
    stopping, told = threading.Event(), list[str]()
    port = Pacemaker(Clock(), timeout_s=AMPLE_S, path=programs.path, stopping=stopping)
    asking = threading.Thread(target=lambda: told.append(refusal(port)))
    asking.start()
    until((programs.folder / "ready").exists, AMPLE_S, lambda: "crm_mon is not started")
    stopping.set()
    asking.join(STOPPED_WITHIN_S)
    assert told == ["crm_mon was given up: this monitor is stopping"]
    programs.until_ended("own", "child")


def test_a_program_that_is_missing_is_told_from_one_that_is_late(programs: Programs) -> None:
    with pytest.raises(Missing):
        programs.port().status()
    programs.put("crm_mon", "exec sleep 60")
    with pytest.raises(Late):
        programs.port(QUICK_S).status()
    programs.put("crm_mon", "exit 1")
    with pytest.raises(Unavailable) as failed:
        programs.port().status()
    assert not isinstance(failed.value, (Missing, Late))


def test_a_child_that_stays_behind_with_the_output_open_is_not_waited_for(programs: Programs) -> None:
    programs.put("crm_mon", "sleep 60 & echo $! >child", f"echo '{VIEW}'")
    assert programs.port().status() == VIEW
    programs.until_ended("child")


def test_a_program_that_closes_its_output_and_goes_on_is_waited_for(programs: Programs) -> None:
    programs.put("crm_mon", f"echo '{VIEW}'", "exec >&- 2>&-", "sleep 0.1", "echo ended >end")
    assert programs.port().status() == VIEW
    assert programs.written("end") == "ended\n"


def test_a_missing_program_is_named(programs: Programs) -> None:
    assert refusal(programs.port()) == f"there is no program crm_mon in {programs.path}"


def test_a_program_that_cannot_be_run_is_named(programs: Programs) -> None:
    (programs.folder / "crm_mon").write_text("no program", encoding="utf-8")
    (programs.folder / "crm_mon").chmod(0o755)
    assert refusal(programs.port()) == "crm_mon can't be started: Exec format error"


def test_a_word_that_no_command_line_can_hold_is_told(programs: Programs) -> None:
    programs.put("crmadmin", "exit 0")
    with pytest.raises(Missing, match="crmadmin can't be started: embedded null byte"):
        programs.port().controller_state("compute\0")


def test_a_failure_is_told_with_its_own_words(programs: Programs) -> None:
    programs.put("crm_mon", "echo 'crm_mon: Schema is' >&2", "echo ' too new' >&2", "exit 78")
    assert refusal(programs.port()) == "crm_mon ended with 78, and said: crm_mon: Schema is | too new"


def test_a_pacemaker_that_does_not_run_is_told_so(programs: Programs) -> None:
    programs.say("crm_mon", REFUSED, 102)
    assert refusal(programs.port()) == (
        "crm_mon ended with 102, and said: error: Could not connect to launcher: Connection refused | "
        "crm_mon: Connection to cluster failed: Connection refused; it seems that pacemaker does not run on this node: "
        "systemctl status corosync pacemaker"
    )


def test_a_program_that_is_killed_by_others_is_told_so(programs: Programs) -> None:
    programs.put("crm_mon", f"echo '{VIEW}'", "kill -9 $$")
    assert refusal(programs.port()).startswith("crm_mon was killed by signal 9, and said: ")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "Connection to cluster failed: Transport endpoint is not connected\n",
        REFUSED,
        VIEW[:-5],
        OLD_VIEW[:-12],
        '<crm_mon version="2.1.5"/>',
        "<html></html>",
    ],
)
def test_status_0_with_anything_but_a_whole_answer_is_none(programs: Programs, text: str) -> None:
    programs.say("crm_mon", text)
    told = refusal(programs.port())
    assert told.startswith("crm_mon gave no answer that can be used, and said")


def test_control_characters_and_long_complaints_do_not_reach_the_log(programs: Programs) -> None:
    programs.say("crm_mon", "\x1b[2J" + "many words " * 10_000, 1)
    told = refusal(programs.port())
    assert told.isprintable()
    assert len(told) < 500


def test_megabytes_are_read_to_the_end(programs: Programs) -> None:
    large = VIEW.replace("<nodes/>", "<nodes>" + '<node name="compute1"/>' * 200_000 + "</nodes>")
    programs.say("crm_mon", large)
    assert programs.port().status() == large


def test_a_flood_is_stopped(programs: Programs) -> None:
    programs.put("crm_mon", "echo $$ >own", "exec yes '<crm_mon>'")
    assert refusal(programs.port()) == "crm_mon printed more than 16 MiB, and was killed"
    programs.until_ended("own")


def test_a_flood_of_errors_is_passed_over(programs: Programs) -> None:
    programs.put("crm_mon", "head -c 5000000 /dev/zero >&2", f"echo '{VIEW}'")
    assert programs.port().status() == VIEW


def test_nothing_stays_open_after_failures(programs: Programs) -> None:
    programs.put("crm_mon", "exec sleep 60")
    before = sorted(os.listdir("/proc/self/fd"))
    refusal(programs.port(QUICK_S))
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_bytes_that_are_no_text_are_handed_on_as_such(programs: Programs) -> None:
    programs.put("crm_mon", "printf '<crm_mon>\\377</crm_mon>'")
    assert programs.port().status() == "<crm_mon>�</crm_mon>"


def test_the_cib_is_handed_on_whole_or_not_at_all(programs: Programs) -> None:
    programs.say("cibadmin", "<cib epoch='1'>\n</cib>\n")
    assert programs.port().cib() == "<cib epoch='1'>\n</cib>"
    programs.say("cibadmin", "<cib epoch='1'>\n")
    with pytest.raises(Unavailable, match="cibadmin gave no answer that can be used"):
        programs.port().cib()


def test_the_own_name_is_one_word(programs: Programs) -> None:
    programs.say("crm_node", "compute1.example.org\n")
    assert programs.port().node_name() == "compute1.example.org"
    programs.say("crm_node", "Could not connect to controller\n")
    with pytest.raises(Unavailable, match="crm_node gave no answer that can be used, and said: Could not connect"):
        programs.port().node_name()


def test_the_state_of_a_controller_is_asked_with_a_limit_that_all_releases_read_alike(programs: Programs) -> None:
    programs.put("crmadmin", 'echo "$@" >command', 'echo "Controller on compute2 in state S_NOT_DC: ok"')
    assert programs.port(10.0).controller_state("compute2") == "S_NOT_DC"
    assert programs.written("command") == "-t 8000ms -S compute2\n"
    programs.put("crmadmin", 'echo "Status of crmd@compute2: S_IDLE (ok)"')
    assert programs.port().controller_state("compute2") == "S_IDLE"
    programs.put("crmadmin", "echo 'error: No reply received from controller before timeout (8000ms)' >&2", "exit 124")
    with pytest.raises(Unavailable, match="crmadmin ended with 124, and said: error: No reply received"):
        programs.port().controller_state("compute2")


def test_a_corosync_that_does_not_run_is_told_so(programs: Programs) -> None:
    programs.put("corosync-cmapctl", "echo 'Failed to initialize the cmap API. Error CS_ERR_LIBRARY' >&2", "exit 1")
    with pytest.raises(Unavailable, match="CS_ERR_LIBRARY; it seems that corosync does not run on this node"):
        programs.port().cmap()
    programs.put("corosync-quorumtool", "echo 'Cannot initialize CMAP service' >&2", "exit 1")
    with pytest.raises(Unavailable, match="CMAP service; it seems that corosync does not run on this node"):
        programs.port().quorum()


def test_a_cmap_that_is_none_is_refused(programs: Programs) -> None:
    programs.say("corosync-cmapctl", "totem.version (u32) = 2\n")
    assert programs.port().cmap() == "totem.version (u32) = 2\n"
    programs.say("corosync-cmapctl", "Failed to initialize the cmap API\n")
    with pytest.raises(Unavailable, match="corosync-cmapctl gave no answer that can be used"):
        programs.port().cmap()


@pytest.mark.parametrize("status", [0, 1, 2])
def test_the_quorum_is_told_whatever_the_exit_status_says_of_it(programs: Programs, status: int) -> None:
    programs.say("corosync-quorumtool", "Quorum information\nQuorate:          No\n", status)
    assert "Quorate:          No" in programs.port().quorum()
