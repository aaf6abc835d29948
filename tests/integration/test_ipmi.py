"""The power of a host, read with the real ipmitool from a real BMC (ipmi_sim): the stated outcome for each of its faults."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostmonitor.ipmi import Ipmi
from hostmonitor.power import POWER_OFF, POWER_ON, UNKNOWN, Bmc, Evidence, Rules, detail_of, judge, pause_s
from masakari.common.clock import Clock
from tests.lab.bmc import GUID, PASSWORD, PrivateBmc, free_port
from tests.lab.mariadb import until

pytestmark = pytest.mark.needs_ipmi

OTHER_GUID = "b0000000-0000-4000-8000-00000000000b"
TIMEOUT_S = 5.0
SLOW_MACHINE_S = 3.0


@pytest.fixture
def sim() -> Iterator[PrivateBmc]:
    with PrivateBmc() as started:
        yield started


def look(*bmcs: Bmc, timeout_s: float = TIMEOUT_S) -> Evidence:
    """One reading of all BMCs of a host, and what it proves."""
    ipmi = Ipmi(Clock())
    began = time.time()
    verdict = judge(ipmi.read_all(bmcs, timeout_s), began)
    assert began - 1 <= verdict.at <= time.time() + 1
    return verdict


def test_on_and_off_are_read_back(sim: PrivateBmc) -> None:
    assert look(sim.bmc()).kind == POWER_ON
    sim.set_power("off")
    proof = look(sim.bmc())
    assert proof.kind == POWER_OFF
    assert detail_of([proof]) == "2"
    assert "Chassis Power is off" in proof.detail


@pytest.mark.parametrize("power", ["on", "off"])
def test_the_guid_is_told_with_the_power_state_though_nobody_declared_one(sim: PrivateBmc, power: str) -> None:
    sim.set_power(power)
    assert look(sim.bmc()).guid == GUID


def test_an_off_that_was_accepted_is_no_proof_until_it_is_read_back(sim: PrivateBmc) -> None:
    sim.off_takes(3.0)
    accepted = time.monotonic()
    assert "Down/Off" in sim.ipmitool("chassis", "power", "off").stdout
    rules = Rules(retry_max=40, retry_interval_s=0.25)
    ipmi, seen, tries = Ipmi(Clock()), [], 0
    while True:
        readings = ipmi.read_all([sim.bmc()], rules.timeout_s)
        verdict, tries = judge(readings, 0.0), tries + 1
        seen.append(verdict.kind)
        pause = pause_s(readings, verdict, tries, rules)
        if pause is None:
            break
        time.sleep(pause)
    assert seen[0] == POWER_ON
    assert seen[-1] == POWER_OFF
    assert set(seen) == {POWER_ON, POWER_OFF}
    assert time.monotonic() - accepted >= 3.0


def test_a_bmc_that_refuses_is_unknown(sim: PrivateBmc) -> None:
    sim.refuse()
    verdict = look(sim.bmc())
    assert (verdict.kind, detail_of([verdict])) == (UNKNOWN, "4")
    assert "answers, but does not tell the power state: Unspecified error" in verdict.detail
    sim.refuse(False)
    assert look(sim.bmc()).kind == POWER_ON


def test_a_bmc_that_hangs_is_unknown_within_the_time_limit(sim: PrivateBmc) -> None:
    with sim.silent():
        began = time.monotonic()
        verdict = look(sim.bmc(), timeout_s=2.5)
        assert time.monotonic() - began < 2.5 + SLOW_MACHINE_S
    assert verdict.kind == UNKNOWN
    assert "does not answer" in verdict.detail
    assert look(sim.bmc()).kind == POWER_ON


def test_a_bmc_that_is_not_there_is_unknown_within_the_time_limit() -> None:
    began = time.monotonic()
    verdict = look(Bmc("127.0.0.1", "admin", PASSWORD, free_port(), cipher="3"), timeout_s=2.5)
    assert time.monotonic() - began < 2.5 + SLOW_MACHINE_S
    assert verdict.kind == UNKNOWN
    assert "does not answer" in verdict.detail


def test_a_wrong_password_is_told_from_a_dead_bmc_and_not_tried_again(sim: PrivateBmc) -> None:
    bmc = sim.bmc(password="something-else")
    readings = Ipmi(Clock()).read_all([bmc], TIMEOUT_S)
    verdict = judge(readings, 0.0)
    assert verdict.kind == UNKNOWN
    assert "refuses the password of user 'admin'" in verdict.detail
    assert "something-else" not in verdict.detail
    assert pause_s(readings, verdict, 1, Rules()) is None


def test_a_wrong_user_is_told(sim: PrivateBmc) -> None:
    verdict = look(sim.bmc(user="nobody"))
    assert verdict.kind == UNKNOWN
    assert "does not let user 'nobody' in" in verdict.detail


def test_the_right_guid_is_believed(sim: PrivateBmc) -> None:
    sim.set_power("off")
    assert look(sim.bmc(guid=GUID)).kind == POWER_OFF


@pytest.mark.parametrize("power", ["on", "off"])
def test_the_bmc_of_another_host_says_nothing_about_this_one(sim: PrivateBmc, power: str) -> None:
    sim.set_power(power)
    verdict = look(sim.bmc(guid=OTHER_GUID))
    assert (verdict.kind, detail_of([verdict])) == (UNKNOWN, "4")
    assert verdict.detail.startswith("wrong BMC: ")
    assert GUID in verdict.detail


def test_a_suite_that_the_bmc_lacks_is_told(sim: PrivateBmc) -> None:
    verdict = look(sim.bmc(cipher="17"))
    assert verdict.kind == UNKNOWN
    assert "another cipher may do" in verdict.detail


def test_no_suite_needs_to_be_given(sim: PrivateBmc) -> None:
    assert look(sim.bmc(cipher="")).kind == POWER_ON


def test_several_bmcs_are_asked_at_the_same_time(sim: PrivateBmc) -> None:
    sim.set_power("off")
    silent = [Bmc("127.0.0.1", "admin", PASSWORD, free_port(), cipher="3") for _ in range(3)]
    began = time.monotonic()
    assert look(sim.bmc(), *silent, timeout_s=2.5).kind == POWER_OFF
    assert time.monotonic() - began < 2.5 + SLOW_MACHINE_S
    with PrivateBmc() as second:
        assert look(sim.bmc(), second.bmc()).kind == POWER_ON
        second.set_power("off")
        assert look(sim.bmc(), second.bmc()).kind == POWER_OFF


def test_the_password_is_on_no_command_line_and_nothing_else_is_in_the_environment(tmp_path: Path) -> None:
    program = tmp_path / "ipmitool"
    program.write_text(
        f'#!/bin/sh\ntr "\\0" " " </proc/$$/cmdline >{tmp_path}/argv\nenv >{tmp_path}/env\n', encoding="ascii"
    )
    program.chmod(0o755)
    os.environ["MASAKARI_TEST_CANARY"] = "1"
    try:
        Ipmi(Clock(), program=str(program)).read(Bmc("10.0.0.1", "admin", "hush"), TIMEOUT_S)
    finally:
        del os.environ["MASAKARI_TEST_CANARY"]
    assert "hush" not in (tmp_path / "argv").read_text(encoding="utf-8")
    environment = (tmp_path / "env").read_text(encoding="utf-8")
    assert "IPMI_PASSWORD=hush" in environment
    assert "CANARY" not in environment


def test_a_power_state_counts_though_the_guid_is_not_told_in_time_unless_one_is_declared(tmp_path: Path) -> None:
    program = tmp_path / "ipmitool"
    program.write_text(
        '#!/bin/sh\ncase "$*" in *power*) echo "Chassis Power is off" ;; *) exec sleep 60 ;; esac\n', encoding="ascii"
    )
    program.chmod(0o755)
    for bmc, expected in ((Bmc("10.0.0.1"), (POWER_OFF, "")), (Bmc("10.0.0.1", guid=GUID), (UNKNOWN, ""))):
        began = time.monotonic()
        verdict = judge([Ipmi(Clock(), program=str(program)).read(bmc, 1.0)], 0.0)
        assert (verdict.kind, verdict.guid) == expected
        assert time.monotonic() - began < 1.0 + SLOW_MACHINE_S


def stubborn(tmp_path: Path) -> str:
    """An ipmitool that ends by no signal but SIGKILL, with a child that does the same; both leave their pid."""
    program = tmp_path / "ipmitool"
    program.write_text(
        f"#!/bin/sh\ntrap '' TERM INT\nsleep 300 &\necho $$ $! >{tmp_path}/.pids && mv {tmp_path}/.pids {tmp_path}/pids\n"
        "wait\nwait\n",
        encoding="ascii",
    )
    program.chmod(0o755)
    return str(program)


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for yet has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(") ")[2].startswith("Z")
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_an_ipmitool_that_hangs_is_given_up_within_the_time_limit(tmp_path: Path) -> None:
    began = time.monotonic()
    verdict = judge([Ipmi(Clock(), program=stubborn(tmp_path)).read(Bmc("10.0.0.1"), 1.0)], 0.0)
    assert time.monotonic() - began < 1.0 + SLOW_MACHINE_S
    assert verdict.kind == UNKNOWN
    assert "does not answer" in verdict.detail


def test_a_stop_ends_a_reading_at_once_with_all_its_processes(tmp_path: Path) -> None:
    stopping = threading.Event()
    ipmi = Ipmi(Clock(), program=stubborn(tmp_path), stopping=stopping)
    found: list[Evidence] = []
    thread = threading.Thread(target=lambda: found.append(judge([ipmi.read(Bmc("10.0.0.1"), 60.0)], 0.0)))
    thread.start()
    until((tmp_path / "pids").exists, 30.0, lambda: "ipmitool is not started")
    stopping.set()
    thread.join(SLOW_MACHINE_S)
    assert not thread.is_alive()
    assert found[0].kind == UNKNOWN
    pids = [int(pid) for pid in (tmp_path / "pids").read_text(encoding="ascii").split()]
    until(lambda: all(map(is_gone, pids)), 10.0, lambda: f"of {pids} some are left")


def test_the_own_bmc_is_not_waited_for_longer_than_asked(tmp_path: Path) -> None:
    began = time.monotonic()
    assert Ipmi(Clock(), program=stubborn(tmp_path)).own_guid(1.0) == ""
    assert time.monotonic() - began < 1.0 + SLOW_MACHINE_S
    pids = [int(pid) for pid in (tmp_path / "pids").read_text(encoding="ascii").split()]
    until(lambda: all(map(is_gone, pids)), 10.0, lambda: f"of {pids} some are left")


def test_a_host_without_a_bmc_of_its_own_is_known_at_once() -> None:
    began = time.monotonic()
    told = Ipmi(Clock()).own_guid(60.0)
    assert time.monotonic() - began < 10.0
    assert told == "" or any(map(os.path.exists, ("/dev/ipmi0", "/dev/ipmi/0", "/dev/ipmidev/0")))


def test_a_missing_ipmitool_is_told(tmp_path: Path) -> None:
    verdict = judge([Ipmi(Clock(), program="ipmitool", path=str(tmp_path)).read(Bmc("10.0.0.1"), TIMEOUT_S)], 0.0)
    assert verdict.kind == UNKNOWN
    assert "install the package ipmitool" in verdict.detail


def test_a_host_without_a_bmc_of_its_own_has_no_guid(tmp_path: Path) -> None:
    program = tmp_path / "ipmitool"
    program.write_text("#!/bin/sh\necho 'Could not open device at /dev/ipmi0' >&2\nexit 1\n", encoding="ascii")
    program.chmod(0o755)
    assert Ipmi(Clock(), program=str(program)).own_guid(TIMEOUT_S) == ""
    program.write_text(f"#!/bin/sh\necho 'System GUID   : {GUID}'\n", encoding="ascii")
    assert Ipmi(Clock(), program=str(program)).own_guid(TIMEOUT_S) == GUID
