"""Keys are exchanged under a real controller while signed callbacks come in: not one of them is refused."""

from __future__ import annotations

import itertools
import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from masakari import key_tool
from masakari.common.keys import load_keys
from masakari.common.signature import HEADER, sign
from masakari.config import Db
from tests.lab.mariadb import until
from tests.lab.processes import CLUSTER, CloudProcess, ControllerProcess, Monitor

HOSTS = ("compute1", "compute2")
SOON_S = 30
PAUSE_S = 0.01
"""Between two reports of a host: some dozens a second come in, however fast the machine is."""


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControllerProcess]:
    """A controller in a small simulated cloud, its keys made by masakari-keys alone."""
    folder = tmp_path_factory.mktemp("keys")
    with CloudProcess(folder, hosts="compute1,compute2") as cloud:
        db = Db(drivername="sqlite", name=str(folder / "vm_ha.sqlite"))
        made = ControllerProcess(folder / "controller", db, cloud.remote.auth_url)
        made.keys.unlink()
        assert keys(made, "init") == 0
        for host in HOSTS:
            assert keys(made, "add", host, "--cluster-port", CLUSTER, "--out", str(own_file(made, host))) == 0
        with made:
            yield made


def keys(controller: ControllerProcess, *words: str) -> int:
    """masakari-keys with the settings of that controller; its exit status."""
    return key_tool.main(["--config", str(controller.config), *words])


def own_file(controller: ControllerProcess, host: str) -> Path:
    """Where masakari-keys writes the file of a host."""
    return controller.config.parent / f"{host}.key.conf"


def reload(controller: ControllerProcess) -> None:
    """As systemctl reload, and wait until it is through."""
    before = controller.said().count("settings reloaded")
    controller.signal(signal.SIGHUP)
    until(lambda: controller.said().count("settings reloaded") > before, SOON_S, controller.said)


class Node:
    """A host that reports all the time, signed with the lower key of its own file, which is read again by reload()."""

    def __init__(self, controller: ControllerProcess, host: str) -> None:
        self.host = host
        self._controller = controller
        self._stopping = threading.Event()
        self.answers: Counter[tuple[str, int]] = Counter()
        self.said: list[str] = []
        self.reload()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def reload(self) -> None:
        """The host's file was replaced; the monitor is told so."""
        self._key = list(load_keys(str(own_file(self._controller, self.host))).items())[-1]

    @property
    def key_id(self) -> str:
        """The key that signs."""
        return self._key[0]

    def more(self, key_id: str, many: int = 20) -> None:
        """Wait until so many more reports that were signed with this key are answered."""
        enough = self.answers[key_id, 200] + many
        until(lambda: self.answers[key_id, 200] >= enough or bool(self.said), SOON_S, lambda: str(self.answers))

    def stop(self) -> None:
        """End it; every answer has come then."""
        self._stopping.set()
        self._thread.join(SOON_S)

    def _run(self) -> None:
        monitor = Monitor(self.host)
        for number in itertools.count():
            if self._stopping.wait(PAUSE_S):
                return
            body = monitor.process_down(process=f"cron-{number % 5}", on_failure="report")
            key_id, key = self._key
            raw = json.dumps(body).encode()
            headers = {HEADER: sign(key_id, key.secret, raw, time.time())}
            answer = requests.post(self._controller.url, data=raw, headers=headers, timeout=SOON_S)
            self.answers[key_id, answer.status_code] += 1
            if answer.status_code != 200:
                self.said.append(answer.text)


@pytest.fixture
def nodes(controller: ControllerProcess) -> Iterator[list[Node]]:
    made = [Node(controller, host) for host in HOSTS]
    yield made
    for node in made:
        node.stop()


def test_no_report_is_refused_while_keys_are_exchanged_under_load(
    controller: ControllerProcess, nodes: list[Node], capsys: pytest.CaptureFixture[str]
) -> None:
    first = [node.key_id for node in nodes]
    for node, old in zip(nodes, first, strict=True):
        node.more(old)
        assert keys(controller, "rotate", node.host, "--out", str(own_file(controller, node.host))) == 0
        reload(controller)
        node.more(old)
        assert keys(controller, "finish", node.host) == 1, "the host still signs with the old one"
        assert "no report signed with" in capsys.readouterr().err
        node.reload()
        node.more(node.key_id)
        assert keys(controller, "finish", node.host) == 0
        reload(controller)
        node.more(node.key_id)
    for node, old in zip(nodes, first, strict=True):
        node.stop()
        assert node.said == []
        assert {status for _, status in node.answers} == {200}
        assert {key_id for key_id, _ in node.answers} == {old, node.key_id} and old != node.key_id
    assert set(load_keys(str(controller.keys))) == {node.key_id for node in nodes}


def test_a_revoked_key_counts_no_more_once_the_controller_is_reloaded(
    controller: ControllerProcess, nodes: list[Node]
) -> None:
    revoked, other = nodes
    other.more(other.key_id)
    assert keys(controller, "revoke", revoked.host) == 0
    reload(controller)
    until(lambda: revoked.answers[revoked.key_id, 401] > 0, SOON_S, lambda: str(revoked.answers))
    other.more(other.key_id)
    other.stop()
    assert other.said == []
