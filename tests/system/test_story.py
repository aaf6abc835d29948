"""The whole story on three nodes with nothing but what the packages bring: a guest is killed, and Nova has started it again.

The controller reaches its MariaDB, and the monitors reach the controller, through HAProxy. Keystone and Nova are simulated, beside
the containers; the test plays nova-compute.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.containers import Container, Switch
from tests.lab.mariadb import until
from tests.lab.processes import CloudProcess
from tests.simcloud.control import RemoteCloud
from tests.system.nodes import COMPUTES, CONTROLLER, URL, WITHIN_S, Compute, Controller


@dataclass(frozen=True, slots=True)
class Story:
    """The nodes, set up and running. guests: the instance of each compute node, called like it."""

    cloud: RemoteCloud
    controller: Controller
    computes: dict[str, Compute]
    guests: dict[str, str]

    def kill_guest(self, name: str) -> None:
        """SIGKILL to the QEMU of a compute node's guest. What its hypervisor is, the cloud knows at once; its records don't."""
        self.cloud.crash_guest(self.guests[name])
        self.computes[name].run("kill", "-9", str(self.computes[name].qemu(name)))

    def until_started(self, name: str) -> None:
        """Wait until Nova has it started again, and start it as nova-compute would. Raises RuntimeError if Nova hasn't in time."""
        until(lambda: self.guests[name] in self.cloud.running()[name], WITHIN_S, lambda: self.told(name))
        self.computes[name].start(name)

    def until_recovered(self, name: str, times: int) -> None:
        """Wait until its guest was recovered as often as this. Raises RuntimeError if it wasn't in time."""
        guest = self.guests[name]
        until(lambda: self.controller.recoveries(guest) == ["finished"] * times, WITHIN_S, lambda: self.told(name))

    def told(self, name: str) -> str:
        """What both sides have to say, for a test that failed."""
        return "\n".join(
            (
                str(self.controller.recoveries(self.guests[name])),
                self.controller.journal("masakari-controller")[-5000:],
                self.computes[name].journal("masakari-instancemonitor")[-5000:],
            )
        )


@pytest.fixture(scope="module")
def compute_layer(tmp_path_factory: pytest.TempPathFactory, packages: list[Path]) -> Path:
    """What the compute nodes have in common: what is installed."""
    with Container(tmp_path_factory.mktemp("compute-layer") / "container") as container:
        Compute(container, packages).install()
    return container.written


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, packages: list[Path], compute_layer: Path) -> Iterator[Story]:
    """The three nodes with a guest on each compute node, watched by its monitor."""
    folder = tmp_path_factory.mktemp("story")
    (folder / "switch").mkdir()
    with ExitStack() as stack:
        switch = stack.enter_context(Switch(folder / "switch"))
        process = CloudProcess(folder, outside=switch.outside, address="0.0.0.0", hosts=",".join(COMPUTES))
        cloud = stack.enter_context(process).remote
        controller = Controller(stack.enter_context(Container(folder / "controller", name="controller")), packages)
        switch.plug_in(controller.container, CONTROLLER)
        controller.install()
        controller.set_up_for(int(cloud.url.rpartition(":")[2]))
        computes, guests = {}, {}
        for name, address in COMPUTES.items():
            container = Container(folder / name, begins_with=compute_layer, name=name)
            compute = computes[name] = Compute(stack.enter_context(container), packages)
            switch.plug_in(compute.container, address)
            compute.set_up_with(controller.key_of(name), controller.authority())
            (guests[name],) = cloud.boot(name, name=name)
            compute.boot(name, guests[name])
            compute.until_watching(1)
        yield Story(cloud, controller, computes, guests)


@pytest.mark.parametrize("name", COMPUTES)
def test_a_killed_guest_is_started_again_once(story: Story, name: str) -> None:
    guest, compute, before = story.guests[name], story.computes[name], story.cloud.state()["calls"]
    killed = compute.qemu(name)
    story.kill_guest(name)
    story.until_started(name)
    assert compute.qemu(name) != killed
    story.until_recovered(name, 1)
    # A monitor that starts anew compares what it knew with what is.
    compute.run("systemctl", "restart", "masakari-instancemonitor")
    compute.until_watching(1)
    until(lambda: compute.waiting() == [], WITHIN_S, lambda: story.told(name))
    assert story.controller.recoveries(guest) == ["finished"]
    assert story.controller.instances(guest) == ["finished"]
    assert story.controller.reports(guest) == [(name, True)]
    after = story.cloud.state()["calls"]
    assert after["start"] == before.get("start", 0) + 1
    assert after.get("stop", 0) - before.get("stop", 0) in (0, 1)  # none if Nova had seen it stopped already
    assert story.cloud.state()["violations"] == story.cloud.state()["healthy_stops"] == []


def test_a_report_waits_on_its_node_until_the_proxy_is_back(story: Story) -> None:
    """Which is also the controller's way to its database."""
    compute = story.computes["compute2"]
    done = len(story.controller.recoveries(story.guests["compute2"]))
    story.controller.run("systemctl", "stop", "haproxy")
    try:
        story.kill_guest("compute2")
        until(lambda: len(compute.waiting()) == 1, WITHIN_S, lambda: compute.journal("masakari-instancemonitor"))
    finally:
        story.controller.run("systemctl", "start", "haproxy")
    story.until_started("compute2")
    story.until_recovered("compute2", done + 1)
    assert len(story.controller.reports(story.guests["compute2"])) == done + 1
    assert story.cloud.state()["healthy_stops"] == []


def test_the_doctor_finds_nothing_wrong_on_any_node(story: Story) -> None:
    for machine in (story.controller, *story.computes.values()):
        checks = json.loads(machine.run("sh", "-c", "masakari-doctor --json 2>/dev/null"))["checks"]
        assert [check for check in checks if check["state"] == "NOT OK"] == []
        assert machine.failed() == ""
    assert ("ok", f"callback to {URL}") in {(check["state"], check["subject"]) for check in checks}
