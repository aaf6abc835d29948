"""The instancemonitor end to end: QEMU, libvirtd, monitor and controller are real, only the cloud is simulated."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from masakari.config import Db
from tests.lab.compute import NovaCompute
from tests.lab.libvirtd import PrivateLibvirtd
from tests.lab.mariadb import until
from tests.lab.monitors import InstanceMonitorProcess, Stored
from tests.lab.processes import CloudProcess, ControllerProcess
from tests.simcloud.control import RemoteCloud

pytestmark = pytest.mark.needs_libvirt

HOST = "compute1"
WITHIN_S = 20.0
LIBVIRT_FORGETS = 0
NEXT_DEATH_S = 2.05
"""The controller takes two deaths of one guest within 2 s for one."""

_count = itertools.count(1)


# The whole


@dataclass
class Lab:
    """Everything there is. Each test has a guest of its own; the sentinel dies whenever somebody wants to see that reported."""

    cloud: RemoteCloud
    controller: ControllerProcess
    libvirtd: PrivateLibvirtd
    nova: NovaCompute
    monitor: InstanceMonitorProcess
    stored: Stored
    sentinel: str = ""
    reported: dict[str, int] = field(default_factory=dict)

    def boot(self, **options: Any) -> str:
        """A new guest, of which the monitor knows."""
        name = f"guest{next(_count)}"
        uuid = self.nova.boot(name, **options)
        self.monitor.until_says(f"name={name}: started")
        return uuid

    def until_saved(self, uuid: str) -> None:
        """Wait until the monitor knows of a guest over its own death."""
        until(
            lambda: uuid in self.monitor.read_state()["records"], WITHIN_S, lambda: f"{uuid} is not in the state file"
        )

    def until_repaired(self, uuid: str, deaths: int = 1) -> None:
        """Wait until a guest runs again after so many deaths in all, each reported once and repaired once."""
        self.nova.until_runs(uuid)
        finished = ["finished"] * deaths
        until(lambda: self.stored.recoveries(uuid) == finished, WITHIN_S, lambda: self.story(uuid))
        assert len(self.stored.all_reports(uuid)) == self.nova.starts[uuid] == deaths, self.story(uuid)
        self.reported[uuid] = deaths

    def until_sentinel(self) -> None:
        """Kill the sentinel, and wait until that is reported: what happened before would have been reported by then."""
        self.nova.until_runs(self.sentinel)
        deaths = self.nova.kills[self.sentinel] + 1
        self.nova.kill(self.sentinel)
        until(
            lambda: len(self.stored.all_reports(self.sentinel)) == deaths,
            WITHIN_S,
            lambda: self.story(self.sentinel),
        )

    def assert_silent(self, uuid: str) -> None:
        """Nothing is reported of this guest, though others are."""
        self.until_sentinel()
        self.assert_unreported(uuid)

    def assert_unreported(self, uuid: str) -> None:
        """Nothing was reported of this guest so far."""
        assert self.stored.all_reports(uuid) == [], self.story(uuid)
        self.reported[uuid] = 0

    def assert_nothing_came_late(self) -> None:
        """What was counted in a test is still so after all of them."""
        self.until_sentinel()
        for uuid, many in self.reported.items():
            assert len(self.stored.all_reports(uuid)) == many, self.story(uuid)
        assert self.cloud.violations() == []

    def story(self, uuid: str) -> str:
        """What is known of a guest, for the message of a failed test."""
        recoveries, reports = self.stored.recoveries(uuid), self.stored.all_reports(uuid)
        return f"{uuid}: {recoveries} {reports}\n{self.monitor.said()[-6000:]}\n{self.controller.said()[-3000:]}"


@pytest.fixture(scope="module")
def running_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    database = Db(drivername="sqlite", name=str(folder / "db"))
    with (
        CloudProcess(folder, hosts=f"{HOST},compute2", stop_s=0.05, start_s=0.1) as cloud,
        ControllerProcess(
            folder / "controller", database, cloud.remote.auth_url, recover_starter__max_retry_cnt=1000
        ) as controller,
        PrivateLibvirtd() as libvirtd,
        NovaCompute(cloud.remote, libvirtd, HOST) as nova,
        InstanceMonitorProcess(folder / "monitor", controller.url, HOST, libvirtd) as monitor,
    ):
        lab = Lab(cloud.remote, controller, libvirtd, nova, monitor, Stored(folder / "db"))
        lab.sentinel = lab.boot()
        yield lab
        lab.assert_nothing_came_late()


@pytest.fixture
def lab(running_lab: Lab) -> Iterator[Lab]:
    """All of it runs before and after a test."""
    yield running_lab
    for program in (running_lab.controller, running_lab.monitor):
        if program.status is not None:
            program.start()
    for uuid in running_lab.nova.names.keys() - {running_lab.sentinel}:
        running_lab.nova.destroy(uuid)


def test_a_guest_whose_qemu_dies_is_stopped_and_started_by_nova(lab: Lab) -> None:
    uuid, before = lab.boot(), lab.cloud.state()["calls"]
    lab.nova.kill(uuid)
    lab.until_repaired(uuid)
    after = lab.cloud.state()["calls"]
    assert after["start"] == before.get("start", 0) + 1
    assert after.get("stop", 0) - before.get("stop", 0) in (0, 1)  # none if Nova had seen it stopped already
    assert lab.cloud.state()["healthy_stops"] == []
    (report,) = lab.stored.all_reports(uuid)
    numbers = [report[f"notification_{name}"] for name in ("eventID", "eventType", "detail")]
    assert numbers == ["0", "5", "5"]
    assert report["notification_hostname"] == report["observer"] == report["key_id"] == HOST


# While something is away


def test_a_death_while_the_monitor_is_down_is_reported_when_it_starts(lab: Lab) -> None:
    uuid = lab.boot()
    lab.until_saved(uuid)
    lab.monitor.kill()
    lab.nova.kill(uuid)
    lab.nova.until_off(uuid)
    lab.monitor.start()
    lab.until_repaired(uuid)


def test_a_death_while_libvirtd_is_down_is_reported_when_it_is_back(lab: Lab) -> None:
    uuid = lab.boot()
    lab.libvirtd.kill()
    lab.nova.kill(uuid)
    lab.libvirtd.start()
    lab.until_repaired(uuid)


def test_a_death_while_the_controller_is_down_waits_for_it(lab: Lab) -> None:
    uuid = lab.boot()
    lab.controller.kill()
    lab.nova.kill(uuid)
    lab.monitor.until_waiting(1)
    lab.controller.start()
    lab.until_repaired(uuid)
    lab.monitor.until_waiting(0)


def test_a_report_that_waits_is_delivered_once_though_the_monitor_is_killed_again_and_again(lab: Lab) -> None:
    uuid = lab.boot()
    lab.controller.kill()
    lab.nova.kill(uuid)
    lab.monitor.until_waiting(1)
    for _ in range(2):
        lab.monitor.restart()
    lab.controller.start()
    lab.until_repaired(uuid)


@pytest.mark.parametrize("delay_s", [0.0, 0.008])
def test_a_death_within_10_ms_of_a_restart_of_libvirtd_is_reported_once(lab: Lab, delay_s: float) -> None:
    uuid = lab.boot()
    lab.libvirtd.kill()
    lab.libvirtd.start()
    time.sleep(delay_s)
    lab.nova.kill(uuid)
    lab.until_repaired(uuid)


def test_a_death_whose_reason_libvirt_has_forgotten_is_found_in_the_log_of_qemu(lab: Lab) -> None:
    uuid = lab.boot()
    lab.until_saved(uuid)
    lab.monitor.kill()
    lab.nova.kill(uuid)
    lab.nova.until_off(uuid)
    for _ in range(2):
        lab.libvirtd.kill()
        lab.libvirtd.start()
    lab.nova.until_off(uuid)
    with lab.nova.domain(uuid) as domain:
        assert domain.state()[1] == LIBVIRT_FORGETS
    lab.monitor.start()
    lab.until_repaired(uuid)


def test_a_guest_that_nova_starts_and_that_dies_again_while_the_monitor_is_down_is_reported_for_both_deaths(
    lab: Lab,
) -> None:
    uuid = lab.boot()
    lab.nova.kill(uuid)
    until(lambda: bool(lab.stored.all_reports(uuid)), WITHIN_S, lambda: lab.story(uuid))
    lab.monitor.kill()
    lab.until_repaired(uuid)
    until(lambda: lab.nova.lives_for(uuid) > NEXT_DEATH_S, WITHIN_S, lambda: "time stands still")
    lab.nova.kill(uuid)
    lab.nova.until_off(uuid)
    lab.monitor.start()
    lab.until_repaired(uuid, 2)


# No failures


def shut_down(lab: Lab, uuid: str) -> None:
    """virsh shutdown: the guest hears of it, and powers off."""
    with lab.libvirtd.serial(lab.nova.names[uuid]), lab.nova.domain(uuid) as domain:
        domain.shutdown()
    lab.nova.until_off(uuid)


def destroy(lab: Lab, uuid: str) -> None:
    with lab.nova.domain(uuid) as domain:
        domain.destroy()


def save_and_restore(lab: Lab, uuid: str) -> None:
    with lab.nova.domain(uuid) as domain:
        domain.managedSave()
        domain.create()


def save(lab: Lab, uuid: str) -> None:
    with lab.nova.domain(uuid) as domain:
        domain.managedSave()


def suspend_and_resume(lab: Lab, uuid: str) -> None:
    with lab.nova.domain(uuid) as domain:
        domain.suspend()
        domain.resume()


def reboot(lab: Lab, uuid: str) -> None:
    """The guest reboots itself. An order is lost if nobody is there any more when it is read."""
    name = lab.nova.names[uuid]
    with lab.libvirtd.serial(name) as serial:
        serial.order("r")
        lab.monitor.until_says(f"instance={uuid} name={name}: {WISHES[reboot]}")


def remove(lab: Lab, uuid: str) -> None:
    """What Nova does with an instance that is deleted."""
    with lab.nova.domain(uuid) as domain:
        domain.destroy()
        domain.undefine()


Happening = Callable[[Lab, str], None]
WISHES: dict[Happening, str] = {
    shut_down: "shut down",
    destroy: "destroyed through libvirt",
    save: "its state was saved and it was stopped",
    save_and_restore: "started from its saved state",
    suspend_and_resume: "paused",
    reboot: "its guest rebooted",
    remove: "destroyed through libvirt",
}


@pytest.mark.parametrize("happen", WISHES)
def test_what_somebody_wants_is_seen_and_not_reported(lab: Lab, happen: Happening) -> None:
    uuid = lab.boot(awake=happen in (shut_down, reboot))
    happen(lab, uuid)
    lab.monitor.until_says(f"instance={uuid} name={lab.nova.names[uuid]}: {WISHES[happen]}")
    lab.assert_silent(uuid)


def test_what_somebody_wants_while_the_monitor_is_down_is_not_reported(lab: Lab) -> None:
    with PrivateLibvirtd() as there:

        def move(lab: Lab, uuid: str) -> None:
            lab.nova.move(uuid, there)

        happenings: tuple[Happening, ...] = (shut_down, destroy, save, remove, move)
        guests = {lab.boot(awake=happen is shut_down): happen for happen in happenings}
        for uuid in guests:
            lab.until_saved(uuid)
        lab.monitor.kill()
        for uuid, happen in guests.items():
            happen(lab, uuid)
        lab.monitor.start()
        lab.until_sentinel()
        for uuid, happen in guests.items():
            words = "gone from libvirt" if happen in (remove, move) else "stopped while nobody listened"
            lab.monitor.until_says(f"instance={uuid} name={lab.nova.names[uuid]}: {words}")
            lab.assert_unreported(uuid)


def test_a_guest_that_is_migrated_away_is_not_reported(lab: Lab) -> None:
    uuid = lab.boot()
    with PrivateLibvirtd() as there:
        lab.nova.move(uuid, there)
        lab.monitor.until_says(f"instance={uuid} name={lab.nova.names[uuid]}: its guest has moved to another host")
        lab.assert_silent(uuid)


def test_the_first_start_ever_records_and_says_so(lab: Lab) -> None:
    uuid = lab.boot()
    lab.monitor.kill()
    lab.nova.kill(uuid)
    lab.nova.until_off(uuid)
    lab.monitor.forget()
    said = lab.monitor.said().count("nothing reported")
    lab.monitor.start()
    until(lambda: lab.monitor.said().count("nothing reported") == said + 1, WITHIN_S, lab.monitor.said)
    assert "first start: " in lab.monitor.said()
    lab.assert_silent(uuid)


def test_after_a_reboot_of_the_host_what_was_before_it_is_recorded_only(lab: Lab) -> None:
    uuid = lab.boot()
    lab.monitor.kill()
    lab.nova.kill(uuid)
    lab.nova.until_off(uuid)
    lab.monitor.edit_state(boot_id="00000000-0000-4000-8000-000000000000")
    lab.monitor.start()
    lab.monitor.until_says("the host has booted since the last look: ")
    lab.assert_silent(uuid)


# A report that had to wait


def test_a_report_that_waited_for_more_than_a_minute_says_what_is_now(lab: Lab) -> None:
    uuid = report_of_two_minutes_ago(lab)
    lab.monitor.start()
    lab.controller.start()
    until_ignored(lab, uuid)


def test_that_is_so_from_the_first_moment_of_the_monitor(lab: Lab) -> None:
    uuid = report_of_two_minutes_ago(lab)
    lab.controller.start()
    lab.monitor.start()
    until_ignored(lab, uuid)


def report_of_two_minutes_ago(lab: Lab) -> str:
    """A guest whose death waits in the spool of a monitor that is down, and that somebody has started since."""
    uuid = lab.boot()
    lab.controller.kill()
    lab.nova.kill(uuid)
    lab.monitor.until_waiting(1)
    lab.monitor.kill()
    lab.monitor.make_older(120)
    lab.nova.start_by_hand(uuid)
    return uuid


def until_ignored(lab: Lab, uuid: str) -> None:
    until(lambda: bool(lab.stored.all_reports(uuid)), WITHIN_S, lambda: lab.story(uuid))
    (report,) = lab.stored.all_reports(uuid)
    assert (report["outcome"], report["recovery_id"]) == ("ignored", None), lab.story(uuid)
    assert "libvirt says by now that it is running" in report["reason"]
    assert lab.nova.starts[uuid] == 0
