"""The scenes of the demonstration, in order; exit status 0 when everything went as it should, else 1 (130: interrupted)."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import requests

from masakari.config import Safety

from . import reports
from .screen import Screen, in_lines, in_short
from .stage import BUILDS_AT_ONCE, CLUSTER, EVACUATE_S, HOSTS, NotReady, Stage

FAILED, OBSERVER, SPARE = HOSTS
INSTANCES = 20
PROBE_S = Safety().nova_probe_s
POLL_S = 0.05
WITHIN_S = 30.0


class Surprise(Exception):
    """Something did not go as it should; the message says what."""


@dataclass(slots=True)
class Followed:
    """A recovery that was followed to its end. Times are Unix seconds."""

    id: int
    reason: str
    sent_at: float
    ended_at: float


class Demo:
    """The scenes. Each looks at what the one before has left, so they are played in order."""

    def __init__(self, stage: Stage, screen: Screen) -> None:
        self.stage = stage
        self.screen = screen
        self.names: dict[str, str] = {}
        self.timings: list[tuple[str, str]] = []

    def play(self) -> None:
        """All scenes."""
        self.set_up()
        self.host_dies()
        self.guest_dies()
        self.process_dies()
        self.account()

    def set_up(self) -> None:
        """Instances on two hosts, the third one a spare."""
        screen, cloud = self.screen, self.stage.cloud
        screen.scene("Before")
        screen.say(
            f"A simulated OpenStack (Keystone and Nova over HTTP; an evacuation takes {EVACUATE_S} s, "
            f"{BUILDS_AT_ONCE} at a time), and the real controller on an SQLite file. Each is a process of its own. "
            "The monitors on the compute nodes are played by this program."
        )
        for host, name, many in ((FAILED, "web", INSTANCES), (OBSERVER, "db", 3)):
            for number in range(1, many + 1):
                (uuid,) = cloud.boot(host, name=f"{name}-{number:02}")
                self.names[uuid] = f"{name}-{number:02}"
        self.hosts(self.places())
        screen.say(f"{SPARE} is kept free. An operator registers it as the spare of this cluster:")
        self.run_script("reserve_host_manage.py", "--mode", "add", "--port", CLUSTER, "--host", SPARE)

    def host_dies(self) -> None:
        """The main thing: a host loses its power, its instances run on the spare a few seconds later."""
        screen, cloud = self.screen, self.stage.cloud
        before = self.places()
        cloud.crash(FAILED)
        calls = sum(cloud.state()["calls"].values())
        screen.scene(f"{FAILED} loses its power")
        screen.say(
            f"{INSTANCES} instances are gone, and Nova does not know yet. The hostmonitor on {OBSERVER} sees the host "
            "leave the cluster, reads its power back as off, and reports both. Below, every # is an instance that really "
            "runs again; the words are the controller's, which counts an instance only once Nova has confirmed it."
        )
        report = reports.host_down(FAILED, OBSERVER, CLUSTER, time.time())
        done = self.report(OBSERVER, report, self.evacuation_so_far)
        state = cloud.state()
        self.expect(len(cloud.running()[SPARE]) == INSTANCES, f"{SPARE} runs {len(cloud.running()[SPARE])} instances")
        screen.say("Who ran where, and who runs where now:")
        self.hosts(before, self.places())
        screen.say("The story of this recovery, as an operator reads it:")
        self.story(done.id)
        first_s = state["evacuate_requests"][0][0] - done.sent_at
        ideal_s = math.ceil(INSTANCES / BUILDS_AT_ONCE) * EVACUATE_S
        calls = sum(state["calls"].values()) - calls
        self.timings += [
            (
                "callback with proof -> first evacuate request",
                f"{first_s:.2f} s, of which {PROBE_S} s is a last question to the host",
            ),
            (
                f"callback with proof -> all {INSTANCES} confirmed",
                f"{done.ended_at - done.sent_at:.1f} s, of which Nova needs {ideal_s} s",
            ),
            ("calls to Nova per evacuated instance", f"{calls / INSTANCES:.1f}"),
        ]

    def guest_dies(self) -> None:
        """One instance on a living host."""
        screen, cloud = self.screen, self.stage.cloud
        uuid, name = next(item for item in self.names.items() if item[1] == "db-02")
        screen.scene(f"The QEMU process of {name} dies")
        screen.say(f"{OBSERVER} is well, one guest on it is not. The instancemonitor there reports it:")
        cloud.crash_guest(uuid)
        report = reports.instance_down(OBSERVER, uuid, CLUSTER, time.time())
        done = self.report(OBSERVER, report, lambda: f"{name} {self.status_of(uuid):<12}")
        self.expect(uuid in cloud.running()[OBSERVER], f"{name} does not run")
        self.story(done.id)
        self.timings.append(
            (f"{name} died -> it runs again", f"{done.ended_at - done.sent_at:.1f} s, of which Nova needs 2 s")
        )

    def process_dies(self) -> None:
        """A control process of a living host; then it runs again."""
        screen, cloud = self.screen, self.stage.cloud
        screen.scene(f"libvirtd dies on {OBSERVER}, and can't be restarted")
        screen.say(
            "The instances keep running, but nothing new should be placed there. The processmonitor reports it, and "
            "nova-compute is disabled with the reason:"
        )
        report = reports.process(OBSERVER, "libvirtd", "down", CLUSTER, time.time())
        down = self.report(OBSERVER, report, self.compute_service)
        self.expect(not cloud.state()["hosts"][OBSERVER]["enabled"], f"nova-compute of {OBSERVER} is not disabled")
        self.hosts(self.places())
        self.story(down.id)
        self.timings.append(("process reported -> nova-compute disabled", f"{down.ended_at - down.sent_at:.1f} s"))
        screen.say("An operator mends libvirtd. Its monitor reports that, and our own disable is taken back:")
        report = reports.process(OBSERVER, "libvirtd", "up", CLUSTER, time.time())
        self.report(OBSERVER, report, self.compute_service)
        self.expect(cloud.state()["hosts"][OBSERVER]["enabled"], f"nova-compute of {OBSERVER} is still disabled")

    def account(self) -> None:
        """How long everything took, and whether the promise was kept."""
        screen, cloud = self.screen, self.stage.cloud
        screen.scene("In numbers")
        violations = cloud.violations()
        self.timings.append(("instances that ever ran twice", str(len(violations))))
        screen.table(("what", "measured"), self.timings)
        self.expect(not violations, "; ".join(violations))

    # What the scenes are made of

    def report(self, sender: str, report: dict[str, Any], look: Callable[[], str]) -> Followed:
        """Send a callback, show it and its answer, and follow its recovery to the end.

        Sending it again is how to ask: a known report changes nothing, and is answered with what became of it.
        """
        self.screen.show(
            f"POST {self.stage.url}   (signed with the key of {sender})\n{in_lines(*reports.shortened(report))}"
        )
        sent_at = time.time()
        answer = self.send(sender, report)
        took_ms = (time.time() - sent_at) * 1000
        self.screen.say(f"After {took_ms:.0f} ms the report is safe on disk, and answered:")
        self.screen.show(f"200\n{in_lines(answer)}")
        while answer["status"] in ("new", "running"):
            seconds = time.time() - sent_at
            self.expect(seconds < WITHIN_S, f"recovery {answer['recovery']} has not ended after {seconds:.0f} s")
            self.screen.progress(seconds, f"{look()}  {answer['reason']}")
            time.sleep(POLL_S)
            answer = self.send(sender, report)
        ended_at = time.time()
        self.screen.progress_ends(ended_at - sent_at, f"{look()}  {answer['status']}: {answer['reason']}")
        self.expect(answer["status"] == "finished", f"recovery {answer['recovery']} {answer['status']}")
        return Followed(answer["recovery"], answer["reason"], sent_at, ended_at)

    def send(self, sender: str, report: dict[str, Any]) -> dict[str, Any]:
        """Post a callback; its answer."""
        status, answer = self.stage.post(sender, json.dumps(report).encode())
        self.expect(status == 200, f"the controller answered {status}: {answer}")
        return answer

    def evacuation_so_far(self) -> str:
        """A bar: the instances of the failed host that run again."""
        many = len(self.stage.cloud.running()[SPARE])
        return f"[{'#' * many}{'.' * (INSTANCES - many)}]"

    def status_of(self, uuid: str) -> str:
        """What Nova says of an instance."""
        server = next(server for server in self.stage.cloud.state()["servers"] if server["id"] == uuid)
        return str(server["task_state"] or server["status"])

    def compute_service(self) -> str:
        """What Nova says of the nova-compute whose host has lost a process."""
        enabled = self.stage.cloud.state()["hosts"][OBSERVER]["enabled"]
        return f"nova-compute {'enabled' if enabled else 'disabled':<8}"

    def places(self) -> dict[str, str]:
        """On which host each instance really runs."""
        running = self.stage.cloud.running()
        return {self.names[uuid]: host for host, uuids in running.items() for uuid in uuids}

    def hosts(self, *places: dict[str, str]) -> None:
        """The hosts with what Nova says of them, and who runs there; two `places` are before and now."""
        head = ("ran before", "runs now") if len(places) > 1 else ("instances",)
        rows = []
        for name, host in self.stage.cloud.state()["hosts"].items():
            says = "forced down" if host["forced_down"] else "up" if host["up"] else "down"
            enabled = "enabled" if host["enabled"] else "disabled"
            guests = [named(sorted(n for n, at in place.items() if at == name)) for place in places]
            rows.append((name, "on" if host["powered"] else "off", f"{says}, {enabled}", *guests))
        self.screen.table(("host", "power", "nova-compute", *head), rows)

    def story(self, recovery_id: int) -> None:
        """The journal of a recovery, as an operator reads it."""
        self.run_script("recovery_manage.py", "show", str(recovery_id))

    def run_script(self, name: str, *arguments: str) -> None:
        """Run an operator's script as it would be typed, and show what it says."""
        self.screen.show(f"$ utils/{name} {' '.join(arguments)}\n{in_short(self.stage.script(name, *arguments))}")

    @staticmethod
    def expect(true: bool, problem: str) -> None:
        """Raises Surprise."""
        if not true:
            raise Surprise(problem)


def named(names: list[str]) -> str:
    """Names that end in numbers, with runs of neighbours as "web-01 to web-20"."""
    runs: list[list[str]] = []
    for name in names:
        word, _, number = name.rpartition("-")
        if runs and runs[-1][-1] == f"{word}-{int(number) - 1:02}":
            runs[-1].append(name)
        else:
            runs.append([name])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else run[0] for run in runs) or "nothing"


def main() -> int:
    """Play all scenes; the exit status."""
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    screen, stage, log = Screen(), Stage(), ""
    screen.title("Masakari: a compute node dies, and its instances run again elsewhere")
    try:
        with stage:
            try:
                Demo(stage, screen).play()
            except (Surprise, requests.RequestException, subprocess.SubprocessError):
                log = stage.log_tail()
                raise
    except KeyboardInterrupt:
        print("\ninterrupted; everything is stopped")
        return 130
    except (Surprise, NotReady, requests.RequestException, subprocess.SubprocessError) as error:
        print(f"\nThis should not have happened: {error}\n{log}", file=sys.stderr)
        return 1
    pids = " and ".join(f"the {name} (pid {pid})" for name, pid in stage.pids.items())
    left = ", ".join(stage.running()) or "nothing"
    screen.say(f"Stopped {pids}. Left running: {left}.")
    return 0 if left == "nothing" else 1


if __name__ == "__main__":
    raise SystemExit(main())
