"""Plays a scenario: a small readable script of what happens when, and the story that comes out of it.

A line is `at SECONDS VERB ARGUMENTS`; before them `hosts`, `cloud` and `settings` say what the world is like. The verbs are
the methods of Stage, with - for _. Words of the form name=value are keyword arguments.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from masakari import admin, admin_retry
from masakari.common.text import utc
from tests.sim import invariants
from tests.sim.harness import Controller, House, settings
from tests.simcloud.clock import EPOCH_S

STEP_S = 0.05
_ISO = re.compile(r"2027-01-1\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?Z")
_IDS = re.compile(r"req-[0-9a-f-]{36}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Killed(BaseException):
    """The controller was killed here."""


def play(script: str, folder: Path) -> str:
    """Run a script to its end; returns its story. The invariants are checked at every step."""
    stage = Stage(script, folder)
    stage.run()
    told = stage.told()
    invariants.check(stage.house, slack_s=stage.slack_s, by_hand=stage.by_hand)
    stage.house.close()
    return told


class Stage:
    """The world of one scenario, and the verbs of its script."""

    def __init__(self, script: str, folder: Path) -> None:
        self.events, world, options = _read(script)
        hosts = world.pop("hosts", ["compute1", "compute2", "compute3"])
        self.house = House(folder, settings(**options), hosts=hosts, ports=self._port, **world)
        self.second: Controller | None = None
        self.by_hand: set[str] = set()
        self.slack_s = 0.0
        self.lines: list[tuple[float, str]] = []
        self._traps: list[tuple[str, int, Callable[[], None]]] = []
        self._dead_until: float | None = None

    # Running

    def run(self) -> None:
        """Until the script's last line, which is `at SECONDS end`."""
        for at, line in self.events:
            while self.now < at - 1e-9:
                self._step()
            verb, args, options = _words(line)
            self.lines.append((self.now, f"** {line}"))
            getattr(self, verb.replace("-", "_"))(*args, **options)
            invariants.check(self.house, slack_s=self.slack_s, by_hand=self.by_hand)

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return self.house.clock.monotonic()

    def _step(self) -> None:
        try:
            if self._dead_until is not None:
                if self.now >= self._dead_until:
                    self._dead_until = None
                    self.house.restart()
                    self.lines.append((self.now, "** the controller is started again"))
            elif self.house.controller.visit():
                return
            if self.second is not None and self.second.visit():
                return
        except Killed:
            self.lines.append((self.now, "** the controller is killed"))
            self._dead_until = self.now + 5.0
        self.house.clock.advance(STEP_S)

    def _port(self, controller: Controller, call: str) -> None:
        if controller is not self.house.controller:
            return
        for number, (wanted, left, what) in enumerate(self._traps):
            if re.fullmatch(wanted, call):
                if left > 1:
                    self._traps[number] = (wanted, left - 1, what)
                    return
                del self._traps[number]
                what()
                return

    # Verbs: the world

    def boot(self, host: str, n: str, **how: str) -> None:
        """Instances on a host."""
        self.house.cloud.boot(host, int(n), **how)

    def crash(self, host: str) -> None:
        """The power of a host is lost."""
        self.house.cloud.crash(host)

    def start(self, host: str) -> None:
        """A host boots."""
        self.house.cloud.start(host)

    def start_compute(self, host: str) -> None:
        """nova-compute is started again on a running host."""
        self.house.cloud.restart_compute(host)

    def kill_compute(self, host: str) -> None:
        """nova-compute dies, the guests go on."""
        self.house.cloud.kill_compute(host)

    def cut_off(self, host: str) -> None:
        """The network of a host is lost, its guests go on."""
        self.house.cloud.isolate_network(host)

    def reconnect(self, host: str) -> None:
        """The network is back."""
        self.house.cloud.heal_network(host)

    def crash_guest(self, name: str, **how: str) -> None:
        """A QEMU process dies."""
        self.house.cloud.crash_guest(self._uuid(name), noticed=how.get("noticed", "yes") == "yes")

    def fault(self, call: str, kind: str, **details: str) -> None:
        """Nova or the network misbehaves."""
        self.house.cloud.fault(call, kind, **{name: _value(text) for name, text in details.items()})

    def nova(self, what: str, host: str) -> None:
        """Somebody changes a service in Nova by hand: enable, disable, force-down, unforce."""
        fields: dict[str, Any] = {
            "enable": {"enabled": True},
            "disable": {"enabled": False, "reason": "by hand"},
            "force-down": {"forced_down": True},
            "unforce": {"forced_down": False},
        }[what]
        if what == "force-down":
            self.by_hand.add(host)
        self.house.cloud.update_service(self.house.cloud.hosts[host], **fields)

    def aggregate(self, name: str, *hosts: str, zone: str = "") -> None:
        """A host aggregate."""
        self.house.cloud.add_aggregate(name, hosts, zone or None)

    # Verbs: reports and operators

    def spare(self, host: str) -> None:
        """An operator lists a spare."""
        self.house.spare(host)

    def report(self, what: str, subject: str, *, proof: str = "", age: str = "0", **more: str) -> None:
        """A monitor's report: host-down, host-up, guest-died, process-down, process-up."""
        fields: dict[str, Any] = {{"by": "observer", "boot": "boot_id"}.get(k, k): v for k, v in more.items()}
        if "last_alive" in fields:
            fields["last_alive"] = utc(self.house.clock.now() - float(fields["last_alive"]))
        if what == "host-down":
            at = utc(self.house.clock.now() - float(age))
            evidence = [{"kind": proof, "at": at, "detail": "read"}] if proof else []
            receipt = self.house.report(hostname=subject, evidence=evidence, **{"observer": "compute2", **fields})
        elif what == "host-up":
            receipt = self.house.host_up(subject, **{"observer": subject, **fields})
        elif what == "guest-died":
            uuid = self._uuid(subject)
            host = fields.pop("host", None) or self.house.cloud.servers[uuid].host or ""
            receipt = self.house.instance_down(uuid, host, **fields)
        else:
            state = "up" if what == "process-up" else "down"
            receipt = self.house.process_down(subject, state=state, **fields)
        self.lines.append((self.now, f"   -> {_plain(receipt.reason)}"))

    def attest(self, host: str) -> None:
        """recovery_manage.py attest."""
        self._say(lambda: admin.attest(self.house.operator, host, "looked at it").text)

    def release(self, recovery: str) -> None:
        """recovery_manage.py release."""
        self._say(lambda: admin.release(self.house.operator, int(recovery)).text)

    def cancel(self, recovery: str) -> None:
        """recovery_manage.py cancel."""
        self._say(lambda: admin.cancel(self.house.operator, int(recovery)).text)

    def retry(self, recovery: str) -> None:
        """recovery_manage.py retry."""
        self._say(lambda: admin_retry.retry(self.house.operator, int(recovery)).text)

    def bring_back(self, host: str) -> None:
        """recovery_manage.py return."""
        self._say(lambda: admin.bring_back(self.house.operator, host).text)

    def _say(self, act: Callable[[], str]) -> None:
        try:
            text = act()
        except admin.Refused as error:
            text = f"refused: {error}"
        self.lines.append((self.now, f"   -> {_plain(text)}"))

    # Verbs: the controllers

    def kill_controller_after(self, call: str, nth: str = "1") -> None:
        """Killed when Nova has carried out the nth of these, with the answer still on its way."""
        self._trap(call, nth, self._kill)

    def stall_controller_after(self, call: str, seconds: str, nth: str = "1") -> None:
        """Frozen for so long in the middle of the nth of these, carried out but not answered; another controller works."""

        def stall() -> None:
            self.lines.append((self.now, "** controller-1 is frozen"))
            self.second = self.second or Controller(self.house, "controller-2")
            end = self.now + float(seconds)
            while self.now < end:
                if not self.second.visit():
                    self.house.clock.advance(STEP_S)
            self.lines.append((self.now, "** controller-1 goes on"))

        self._trap(call, nth, stall)

    def end(self) -> None:
        """The last line."""

    def _kill(self) -> None:
        raise Killed

    def _trap(self, call: str, nth: str, what: Callable[[], None]) -> None:
        patterns = {
            "evacuate": r"http after POST .*/action",
            "stop": r"http after POST .*/action",
            "force-down": r"http after PUT .*/os-services/.*",
        }
        self._traps.append((patterns[call], int(nth), what))

    def _uuid(self, name: str) -> str:
        return next(server.id for server in self.house.cloud.servers.values() if server.name == name)

    # The story

    def told(self) -> str:
        """What happened, from the script and the journal, and how it looks at the end."""
        lines = [(at, 2 if "controller" in text and "** k" not in text else 0, text) for at, text in self.lines]
        for event in self.house.table("recovery_event"):
            reason = f": {event['reason']}" if event["reason"] else ""
            text = f"{event['recovery_id']} {event['kind']:<10} {event['what']}{reason}"
            lines.append((event["at"] - EPOCH_S, 1, text))
        lines.sort(key=lambda line: (round(line[0], 2), line[1]))
        # Whole seconds: how often Nova is looked at is no part of the story.
        story = [f"{at:6.0f}  {_plain(text)}" for at, _, text in lines]
        return "\n".join([*story, "", *self._end()]) + "\n"

    def _end(self) -> list[str]:
        found = []
        for row in self.house.table("recovery"):
            what = f"{row['kind']} {row['hostname']}" + (f" {row['process']}" if row["process"] else "")
            hold = f" ({row['hold']})" if row["hold"] else ""
            found.append(f"recovery {row['id']}, {what}: {row['status']}{hold}: {_plain(row['reason'])}")
        for row in self.house.table("vm_list"):
            found.append(
                f"  {row['name']} of recovery {row['recovery_id']}: {row['status']}: {_plain(row['reason'] or '')}"
            )
        for name, host in sorted(self.house.cloud.hosts.items()):
            marks = [
                "on" if host.powered else "off",
                "enabled" if host.enabled else f"disabled ({host.disabled_reason})",
                *(["forced down"] if host.forced_down else []),
            ]
            names = sorted(self.house.cloud.servers[uuid].name for uuid in host.guests)
            found.append(f"{name}: {', '.join(marks)}; runs {', '.join(names) or 'nothing'}")
        for server in sorted(self.house.cloud.servers.values(), key=lambda server: server.number):
            task = f" {server.task_state}" if server.task_state else ""
            found.append(f"{server.name}: {server.status}{task} on {server.host}")
        for one in self.house.cloud.aggregates.values():
            found.append(f"aggregate {one.name}: {', '.join(one.hosts)}")
        spares = [row["hostname"] for row in self.house.table("reserve_list") if not row["deleted"]]
        found.append(f"spares left: {', '.join(spares) or 'none'}")
        return found


def _plain(text: str) -> str:
    """Without what differs from run to run; times as seconds since the beginning."""

    def relative(match: re.Match[str]) -> str:
        from datetime import datetime, timezone

        at = datetime.fromisoformat(match[0].rstrip("Z")).replace(tzinfo=timezone.utc).timestamp()
        return f"t={at - EPOCH_S:g}"

    return _IDS.sub("(id)", _ISO.sub(relative, text)).replace("\n", " / ")


def _read(script: str) -> tuple[list[tuple[float, str]], dict[str, Any], dict[str, dict[str, Any]]]:
    """The timed lines, the world, and the settings by section."""
    events: list[tuple[float, str]] = []
    world: dict[str, Any] = {}
    options: dict[str, dict[str, Any]] = {}
    for raw in script.splitlines():
        line = raw.partition("#")[0].strip()
        if not line:
            continue
        first, _, rest = line.partition(" ")
        if first == "at":
            at, _, what = rest.partition(" ")
            events.append((float(at), what.strip()))
        elif first == "hosts":
            world["hosts"] = rest.split()
        elif first == "cloud":
            world |= {name: _value(text) for name, text in _words(f"x {rest}")[2].items()}
        elif first == "settings":
            for name, text in _words(f"x {rest}")[2].items():
                section, _, option = name.partition(".")
                options.setdefault(section, {})[option] = _value(text)
        else:
            raise ValueError(f"no such line: {line}")
    return events, world, options


def _words(line: str) -> tuple[str, list[str], dict[str, str]]:
    verb, *words = line.split()
    args = [word for word in words if "=" not in word]
    options = dict(word.split("=", 1) for word in words if "=" in word)
    return verb, args, options


def _value(text: str) -> Any:
    if text in ("yes", "no"):
        return text == "yes"
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return text
