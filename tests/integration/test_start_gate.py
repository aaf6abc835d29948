"""A host that comes back asks a real controller, with the real command, whether it may start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from masakari.config import Db
from tests.lab.mariadb import until
from tests.lab.processes import CLUSTER, CloudProcess, ControllerProcess, Monitor, Program, free_port, secret

SOON_S = 30
EVACUATE_S = 8


class Gate(Program):
    """masakari-hostmonitor --may-start, run on a host."""

    def __init__(self, folder: Path, host: str, *urls: str, key: str = "") -> None:
        folder.mkdir()
        super().__init__(folder / "gate.log")
        key_file = folder / "key.conf"
        key_file.touch(mode=0o600)
        key_file.write_text(
            f"[{host}]\nhost = {host}\ncluster_port = {CLUSTER}\nsecret = {key or secret(host)}\n", encoding="utf-8"
        )
        self._settings = folder / "hostmonitor.conf"
        self._settings.write_text(
            f"[environments]\nurl = {', '.join(urls)}\nregion_id = RegionOne\nkey_file = {key_file}\n", encoding="utf-8"
        )

    def ask(self, wait_s: int = SOON_S) -> None:
        """Start it."""
        self._run("hostmonitor", "--config", str(self._settings), "--may-start", "--wait", str(wait_s))

    def answer(self, wait_s: int = SOON_S) -> str:
        """What it says once it lets the host start."""
        self.ask(wait_s)
        assert self.wait(wait_s + SOON_S) == 0
        return self.said()


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudProcess]:
    options = {"evacuate_s": EVACUATE_S, "service_down_s": 2, "report_s": 0.5}
    with CloudProcess(tmp_path, hosts="compute1,compute2,compute3", **options) as started:
        yield started


@pytest.fixture
def controller(cloud: CloudProcess, tmp_path: Path) -> Iterator[ControllerProcess]:
    db = Db(drivername="sqlite", name=str(tmp_path / "vm_ha.sqlite"))
    options = {"recover_starter__recovery_method": "auto"}
    with ControllerProcess(tmp_path / "controller", db, cloud.remote.auth_url, **options) as started:
        yield started


def test_a_host_that_comes_back_waits_until_it_is_evacuated(
    cloud: CloudProcess, controller: ControllerProcess, tmp_path: Path
) -> None:
    gate = Gate(tmp_path / "compute1", "compute1", f"http://127.0.0.1:{free_port()}", controller.url)
    assert gate.answer() == "", "nothing is the matter"
    cloud.remote.boot("compute1", 2)
    cloud.remote.crash("compute1")
    Monitor().deliver([controller.url], Monitor().host_down("compute1"))
    until(lambda: "2 of 2 instances to evacuate" in controller.said(), SOON_S, controller.said)
    gate.ask()
    until(lambda: "waits for" in gate.said(), SOON_S, gate.said)
    assert "recovery 1 is evacuating compute1: 0 of 2 evacuated, 2 to go" in gate.said()
    assert gate.status is None
    assert gate.wait(SOON_S) == 0
    assert "goes on after" in gate.said() and "UNCHECKED" not in gate.said()
    assert "2 of 2 evacuated" in controller.said()


def test_a_host_without_a_key_that_is_known_starts_in_the_end_and_says_that_nobody_checked(
    controller: ControllerProcess, tmp_path: Path
) -> None:
    gate = Gate(tmp_path / "compute1", "compute1", controller.url, key="0123456789abcdef")
    said = gate.answer(wait_s=1)
    assert "ERROR: STARTED UNCHECKED after 1 s" in said and "HTTP 401" in said
    assert "refused GET /may-start from 127.0.0.1 with 401" in controller.said()
