"""Real controllers are killed (SIGKILL) at random moments while a host, an instance and a process fail.

SIM_KILLS says how many rounds are run; `make sim` runs 50. The moments differ from run to run even with the same seed, since
real processes have their own pace; the seed only says what was intended.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from masakari.model import FINAL
from tests.lab.mariadb import PrivateMariaDB, until
from tests.lab.processes import CLUSTER, CloudProcess, ControllerProcess, Monitor
from tests.simcloud.control import RemoteCloud

pytestmark = pytest.mark.needs_mariadb

ROUNDS = int(os.environ.get("SIM_KILLS", "2"))
KILL_FOR_S = 4.0
SETTLED_WITHIN_S = 60.0
DEAD, SICK, BUSY, SPARE, SUSPECT = "compute1", "compute2", "compute3", "compute4", "compute5"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateMariaDB]:
    """Durable, as in production; killed controllers leave their transactions behind."""
    with PrivateMariaDB(tmp_path_factory.mktemp("kills")) as started:
        yield started


class Round:
    """A cloud in trouble, two controllers, and somebody who kills them."""

    def __init__(self, server: PrivateMariaDB, cloud: RemoteCloud, folder: Path, seed: int) -> None:
        self.server = server
        self.cloud = cloud
        self.random = random.Random(seed)
        self.controllers = [
            ControllerProcess(folder / name, server.settings(), cloud.auth_url, name, safety__nova_probe_s=0.2)
            for name in ("a", "b")
        ]
        self.kills = 0
        self.told: dict[str, dict[str, Any]] = {}

    def run(self) -> None:
        """Let it all go wrong, and wait until nothing is left to do."""
        for controller in self.controllers:
            controller.start()
        senders = [threading.Thread(target=self._send, args=report) for report in self._trouble()]
        for sender in senders:
            sender.start()
        end = time.monotonic() + KILL_FOR_S
        while time.monotonic() < end:
            time.sleep(self.random.uniform(0.02, 0.8))
            self._kill_some()
        for sender in senders:
            sender.join(SETTLED_WITHIN_S)
        until(self._settled, SETTLED_WITHIN_S, self.story)

    def _trouble(self) -> list[tuple[Monitor, dict[str, Any]]]:
        """A host dies, instances die on another, a process on a third; a fourth is accused without proof."""
        observer = Monitor(BUSY)
        self.cloud.boot(DEAD, 8)
        self.cloud.boot(SUSPECT, 2)
        crashed = self.cloud.boot(SICK, 3)
        self.cloud.crash(DEAD)
        for instance in crashed:
            self.cloud.crash_guest(instance)
        return [
            (observer, observer.host_down(DEAD)),
            (Monitor(SICK), Monitor(SICK).host_down(DEAD)),
            (observer, observer.host_down(SUSPECT, proof="")),
            (observer, observer.process_down("nova-compute")),
            *((Monitor(SICK), Monitor(SICK).instance_down(instance)) for instance in crashed),
        ]

    def _send(self, monitor: Monitor, report: dict[str, Any]) -> None:
        time.sleep(self.random.uniform(0.0, 1.0))
        urls = [controller.url for controller in self.controllers]
        self.random.shuffle(urls)
        self.told[report["id"]] = monitor.deliver(urls, report, SETTLED_WITHIN_S)

    def _kill_some(self) -> None:
        """Kill one or both, and start them again, at once or a little later."""
        victims = self.random.choice([self.controllers[:1], self.controllers[1:], self.controllers])
        for victim in victims:
            victim.kill()
            self.kills += 1
        time.sleep(self.random.choice([0.0, self.random.uniform(0.0, 0.5)]))
        for victim in victims:
            victim.start(ready=False)

    def _settled(self) -> bool:
        """Whether nothing is left to do: one recovery waits for proof that never comes, the others have ended."""
        rows = self.recoveries()
        return len(rows) == 6 and all(
            row["status"] == "held" if row["hostname"] == SUSPECT else row["status"] in FINAL for row in rows
        )

    def recoveries(self) -> list[dict[str, Any]]:
        """All recoveries of the round."""
        return self.server.sql("SELECT * FROM recovery ORDER BY id")

    def story(self) -> str:
        """What happened, for the message of a failed round."""
        journal = self.server.sql("SELECT * FROM recovery_event ORDER BY id")
        return "\n".join(
            [
                f"after {self.kills} kills",
                *(
                    f"{row['id']} {row['kind']} {row['status']}/{row['step']}: {row['reason']}"
                    for row in self.recoveries()
                ),
                *(
                    f"{row['recovery_id']} {row['at']:.2f} {row['actor']}/{row['epoch']} {row['step']} {row['kind']}"
                    f" {row['what']} {row['uuid'] or ''} {row['reason']}"
                    for row in journal
                ),
                *(controller.said()[-1500:] for controller in self.controllers),
            ]
        )

    def check(self) -> None:
        """What must hold however often they were killed."""
        state = self.cloud.state()
        assert state["violations"] == []
        by_subject = {(row["kind"], row["hostname"]): row["status"] for row in self.recoveries()}
        assert by_subject == {
            ("host", DEAD): "finished",
            ("host", SUSPECT): "held",
            ("process", BUSY): "finished",
            ("instance", SICK): "finished",
        }
        self._check_reports()
        where = Counter((server["host"], server["status"]) for server in state["servers"])
        assert where == {(SPARE, "ACTIVE"): 8, (SUSPECT, "ACTIVE"): 2, (SICK, "ACTIVE"): 3}
        running = {host: len(shown["guests"]) for host, shown in state["hosts"].items() if shown["powered"]}
        assert running == {SICK: 3, BUSY: 0, SPARE: 8, SUSPECT: 2}
        assert state["hosts"][BUSY]["enabled"] is False

    def _check_reports(self) -> None:
        """What was answered 200 is stored, once, and belongs to a recovery."""
        rows = self.server.sql("SELECT notification_id, recovery_id, progress FROM notification_list")
        assert Counter(row["notification_id"] for row in rows) == Counter(list(self.told))
        for row in rows:
            assert row["recovery_id"] == self.told[row["notification_id"]]["recovery"]
            assert row["progress"] in (1, 2)


@pytest.mark.parametrize("seed", range(1, ROUNDS + 1))
def test_whatever_is_killed_nothing_is_lost_and_nothing_done_twice(
    server: PrivateMariaDB, tmp_path: Path, seed: int
) -> None:
    server.make_tables()
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO reserve_list (create_at, cluster_port, hostname, listed_key) VALUES (UTC_TIMESTAMP(), %s, %s, %s)",
            (CLUSTER, SPARE, SPARE),
        )
    hosts = ",".join((DEAD, SICK, BUSY, SPARE, SUSPECT))
    times: dict[str, str | float] = {"evacuate_s": 1, "stop_s": 0.3, "start_s": 0.3, "service_down_s": 5, "report_s": 1}
    with CloudProcess(tmp_path, hosts=hosts, seed=seed, latency_ms=10, builds=4, **times) as cloud:
        round_ = Round(server, cloud.remote, tmp_path, seed)
        try:
            round_.run()
            round_.check()
        except (AssertionError, RuntimeError) as error:
            raise AssertionError(f"SIM_KILLS round {seed}: {error}\n{round_.story()}") from error
        finally:
            for controller in round_.controllers:
                controller.kill()
