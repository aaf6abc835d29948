"""The scenes of the demonstration, in order; exit status 0 when everything went as it should, else 1 (130: interrupted)."""

from __future__ import annotations

import argparse
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
from tests.lab.libvirtd import why_not as why_no_libvirt
from tests.lab.monitors import MonitorProcess

from . import reports
from .node import GUESTS_NEED, RESTART, RESTARTS, Guests, log_of
from .screen import Screen, in_lines, in_short
from .stage import BUILDS_AT_ONCE, CLUSTER, EVACUATE_S, FAILED, OBSERVER, SPARE, NotReady, Stage, runs

INSTANCES = 20
VICTIM = "db-02"
PROBE_S = Safety().nova_probe_s
POLL_S = 0.05
TAIL_S = 0.01
WITHIN_S = 30.0


class Surprise(Exception):
    """Something did not go as it should; the message says what."""


# RuntimeError: something in tests/lab did not start or end in time. AssertionError: what plays nova-compute gave up.
PROBLEMS = (
    Surprise,
    NotReady,
    RuntimeError,
    AssertionError,
    requests.RequestException,
    subprocess.SubprocessError,
)


@dataclass(slots=True)
class Followed:
    """A recovery that was followed to its end. Times are Unix seconds."""

    id: int
    reason: str
    sent_at: float
    ended_at: float


class Demo:
    """The scenes. Each looks at what the one before has left, so they are played in order."""

    def __init__(self, stage: Stage, screen: Screen, left_out: str) -> None:
        """left_out: why no guest runs in QEMU, and what to do about it; empty if some do."""
        self.stage = stage
        self.left_out = left_out
        self.screen = screen
        self.names: dict[str, str] = {}
        self.timings: list[tuple[str, str]] = []

    def play(self) -> None:
        """All scenes."""
        self.set_up()
        self.host_dies()
        if self.stage.guests:
            self.qemu_is_killed(self.stage.guests)
        else:
            self.guest_dies()
        self.process_dies()
        self.process_is_mended()
        self.account()

    def set_up(self) -> None:
        """Instances on two hosts, the third one a spare."""
        screen = self.screen
        screen.scene("Before")
        screen.say(
            f"A simulated OpenStack (Keystone and Nova over HTTP; an evacuation takes {EVACUATE_S} s, "
            f"{BUILDS_AT_ONCE} at a time), and the real controller on an SQLite file. Each is a process of its own. "
            f"{self.what_is_real()}"
        )
        for host, name, many in ((FAILED, "web", INSTANCES), (OBSERVER, "db", 3)):
            for number in range(1, many + 1):
                self.boot(host, f"{name}-{number:02}")
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

    def qemu_is_killed(self, guests: Guests) -> None:
        """One instance on a living host, for real: its QEMU is killed, and the instancemonitor there has to notice."""
        screen, nova = self.screen, guests.nova_compute
        uuid, before = self.uuid_of(VICTIM), guests.qemu()
        screen.scene(f"The QEMU process of {VICTIM} is killed")
        screen.say(
            f"{OBSERVER} is well, one guest on it is about to die: a real QEMU under a real libvirtd, watched by the real "
            "instancemonitor. Only Nova is simulated; what it starts is started in QEMU."
        )
        screen.show(f"$ kill -9 {before[VICTIM]}")
        killed_at = time.time()
        nova.kill(uuid)
        screen.say("The log of the instancemonitor, with the time since then:")
        noticed_s, answered_s, report_id = self.tail(guests.monitor, uuid, killed_at)
        screen.say("The controller has stored the report, and recovers the instance:")
        known = {**reports.instance_down(OBSERVER, uuid, CLUSTER, killed_at), "id": report_id}

        def look() -> str:
            return f"{VICTIM} {self.status_of(uuid):<12}  {'in QEMU' if nova.runs(uuid) else 'dead':<7}"

        done = self.follow(OBSERVER, known, killed_at, look, lambda: nova.runs(uuid))
        now = {name: pid for name, pid in guests.qemu().items() if runs(pid)}
        changed = [name for name in before if now.get(name) != before[name]]
        self.expect(changed == [VICTIM] and VICTIM in now, f"the QEMU processes were {before} and are {now}")
        screen.table(
            ("guest", "QEMU before", "QEMU now"), [(n, f"pid {p}", f"pid {now[n]}") for n, p in before.items()]
        )
        self.story(done.id)
        self.timings += [
            (f"QEMU of {VICTIM} killed -> noticed", f"{noticed_s * 1000:.0f} ms"),
            (f"QEMU of {VICTIM} killed -> the controller has the report", f"{answered_s * 1000:.0f} ms"),
            (
                f"QEMU of {VICTIM} killed -> it runs again in QEMU",
                f"{done.ended_at - killed_at:.1f} s, of which Nova needs 2 s",
            ),
        ]

    def guest_dies(self) -> None:
        """The same with a simulated guest, and this program in the place of its instancemonitor."""
        screen, cloud = self.screen, self.stage.cloud
        uuid = self.uuid_of(VICTIM)
        screen.scene(f"The QEMU process of {VICTIM} dies (simulated)")
        screen.say(f"{OBSERVER} is well, one guest on it is not. The instancemonitor there would report it like this:")
        cloud.crash_guest(uuid)
        report = reports.instance_down(OBSERVER, uuid, CLUSTER, time.time())
        done = self.report(OBSERVER, report, lambda: f"{VICTIM} {self.status_of(uuid):<12}")
        self.expect(uuid in cloud.running()[OBSERVER], f"{VICTIM} does not run")
        self.story(done.id)
        self.timings.append(
            (
                f"{VICTIM} died (simulated) -> it runs again",
                f"{done.ended_at - done.sent_at:.1f} s, of which Nova needs 2 s",
            )
        )

    def process_dies(self) -> None:
        """A control process of a living host, which can't be restarted."""
        screen, watched = self.screen, self.stage.watched
        screen.scene(f"libvirtd dies on {OBSERVER}, and can't be restarted")
        screen.say(
            f"A harmless script stands in for it: {watched.name}. The real processmonitor watches it, and its restart command "
            f"is `{RESTART}`, which always fails. The instances keep running, but nothing new should be placed on this host."
        )
        screen.show(f"$ kill -9 {watched.pid}")
        killed_at = watched.kill()
        screen.say("The log of the processmonitor, with the time since then (its pauses are shortened):")
        noticed_s, answered_s, report_id = self.tail(watched.monitor, watched.name, killed_at)
        screen.say("The controller disables nova-compute of this host, with the reason:")
        known = {**reports.process(OBSERVER, watched.name, "down", CLUSTER, killed_at), "id": report_id}
        done = self.follow(OBSERVER, known, killed_at, self.compute_service)
        self.expect(not self.is_enabled(), f"nova-compute of {OBSERVER} is not disabled")
        self.hosts(self.places())
        self.story(done.id)
        self.timings += [
            ("process killed -> noticed", f"{noticed_s * 1000:.0f} ms"),
            (
                "process killed -> nova-compute disabled",
                f"{done.ended_at - killed_at:.1f} s, of which {RESTARTS} restarts that fail take {answered_s:.1f} s",
            ),
        ]

    def process_is_mended(self) -> None:
        """It is started by hand: what we disabled is enabled again."""
        screen, watched = self.screen, self.stage.watched
        screen.say("An operator mends it, and starts it by hand. Its monitor looks whether it stays, and reports that:")
        screen.show(f"$ {watched.name} &")
        started_at = time.time()
        watched.start()
        _, _, report_id = self.tail(watched.monitor, watched.name, started_at)
        screen.say("The controller takes back its own disable:")
        known = {**reports.process(OBSERVER, watched.name, "up", CLUSTER, started_at), "id": report_id}
        self.follow(OBSERVER, known, started_at, self.compute_service)
        self.expect(self.is_enabled(), f"nova-compute of {OBSERVER} is still disabled")

    def account(self) -> None:
        """How long everything took, and whether the promise was kept."""
        screen, cloud = self.screen, self.stage.cloud
        screen.scene("In numbers")
        violations = cloud.violations()
        self.timings.append(("instances that ever ran twice", str(len(violations))))
        screen.table(("what", "measured"), self.timings)
        if self.left_out:
            screen.say(f"Left out: a real guest in QEMU that is killed, and the real instancemonitor; {self.left_out}")
        self.expect(not violations, "; ".join(violations))

    # What the scenes are made of

    def what_is_real(self) -> str:
        """Which monitors are, and whose instances."""
        if self.stage.guests:
            return (
                f"{OBSERVER} is real, too: its instances run in QEMU under a libvirtd, and its instancemonitor and "
                "processmonitor are those of a compute node. The hostmonitor is played by this program."
            )
        return f"So is the processmonitor of {OBSERVER}. The other monitors are played by this program."

    def boot(self, host: str, name: str) -> None:
        """A new instance; on the real node it runs in QEMU."""
        if self.stage.guests and host == OBSERVER:
            uuid = self.stage.guests.boot(name)
        else:
            (uuid,) = self.stage.cloud.boot(host, name=name)
        self.names[uuid] = name

    def uuid_of(self, name: str) -> str:
        """The instance of this name."""
        return next(uuid for uuid, known in self.names.items() if known == name)

    def report(self, sender: str, report: dict[str, Any], look: Callable[[], str]) -> Followed:
        """Send a callback, show it and its answer, and follow its recovery to the end."""
        self.screen.show(
            f"POST {self.stage.url}   (signed with the key of {sender})\n{in_lines(*reports.shortened(report))}"
        )
        sent_at = time.time()
        answer = self.send(sender, report)
        took_ms = (time.time() - sent_at) * 1000
        self.screen.say(f"After {took_ms:.0f} ms the report is safe on disk, and answered:")
        self.screen.show(f"200\n{in_lines(answer)}")
        return self.follow(sender, report, sent_at, look)

    def follow(
        self,
        sender: str,
        report: dict[str, Any],
        since: float,
        look: Callable[[], str],
        reached: Callable[[], bool] = lambda: True,
    ) -> Followed:
        """Show the recovery of a report that the controller has until it has ended, and `reached`.

        since: Unix seconds from which the time shown is counted. Sending a report again is how to ask: a known one changes
        nothing, and is answered with what became of it.
        """
        answer = self.send(sender, report)
        while answer["status"] in ("new", "running") or not reached():
            seconds = time.time() - since
            self.expect(seconds < WITHIN_S, f"recovery {answer['recovery']} has not ended after {seconds:.0f} s")
            self.screen.progress(seconds, f"{look()}  {answer['reason']}")
            time.sleep(POLL_S)
            answer = self.send(sender, report)
        ended_at = time.time()
        self.screen.progress_ends(ended_at - since, f"{look()}  {answer['status']}: {answer['reason']}")
        self.expect(answer["status"] == "finished", f"recovery {answer['recovery']} {answer['status']}")
        return Followed(answer["recovery"], answer["reason"], since, ended_at)

    def tail(self, monitor: MonitorProcess, about: str, since: float) -> tuple[float, float, str]:
        """Show a monitor's log from `since` on, until the controller has its report about a process or instance.

        Returns the seconds until the first line and until the controller has answered, and the id of the report.
        """
        shown = 0
        while time.time() < since + WITHIN_S:
            lines = log_of(monitor, since)
            for line in lines[shown:]:
                self.screen.log_line(line.at - since, f"{line.level} {line.text}")
            shown = len(lines)
            for line in lines:
                if report_id := line.answered(about):
                    self.screen.end()
                    return lines[0].at - since, line.at - since, report_id
            time.sleep(TAIL_S)
        raise Surprise(f"the {monitor.module} has not reported {about} after {WITHIN_S:g} s:\n{monitor.said()[-2000:]}")

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
        return f"nova-compute {'enabled' if self.is_enabled() else 'disabled':<8}"

    def is_enabled(self) -> bool:
        """Whether Nova may place instances on the host that has lost a process."""
        return bool(self.stage.cloud.state()["hosts"][OBSERVER]["enabled"])

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


def why_simulated() -> str:
    """Why guests can't run in QEMU here, and how they could; empty when they can."""
    why = why_no_libvirt()
    return f"{why}. To see them, as root: apt-get install --no-install-recommends {GUESTS_NEED}" if why else ""


def main() -> int:
    """Play all scenes; the exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.demo", description=__doc__)
    parser.add_argument(
        "--without-libvirt", action="store_true", help="simulate all guests, also where QEMU is installed"
    )
    left_out = "--without-libvirt was given." if parser.parse_args().without_libvirt else why_simulated()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    screen, stage, log = Screen(), Stage(in_qemu=not left_out), ""
    screen.title("Masakari: a compute node dies, and its instances run again elsewhere")
    try:
        with stage:
            try:
                Demo(stage, screen, left_out).play()
            except PROBLEMS:
                log = stage.log_tail()
                raise
            pids = stage.pids
    except KeyboardInterrupt:
        print("\ninterrupted; everything is stopped")
        return 130
    except PROBLEMS as error:
        print(f"\nThis should not have happened: {error}\n{log}", file=sys.stderr)
        if not left_out:
            print("If it is libvirt that fails here: python3 -m tests.demo --without-libvirt", file=sys.stderr)
        return 1
    left = ", ".join(name for name, pid in pids.items() if runs(pid)) or "nothing"
    screen.say(f"Stopped: {', '.join(f'{name} (pid {pid})' for name, pid in pids.items())}. Left running: {left}.")
    return 0 if left == "nothing" else 1


if __name__ == "__main__":
    raise SystemExit(main())
