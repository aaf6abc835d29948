"""One random run: several controllers, everything that can go wrong, then healing; everything follows from the seed.

What the world tells is true: a proof is reported only of a host that is off, but for the one lie that must be caught (a BMC
of another machine, for a host that answers through Nova). Requests arrive at most 14 s late, as TCP_USER_TIMEOUT guarantees.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from masakari import admin
from masakari.common.errors import MaybeSent, Unavailable
from masakari.common.text import utc
from masakari.model import FINAL
from tests.sim import invariants
from tests.sim.harness import Controller, House, settings
from tests.simcloud import power
from tests.simcloud.clock import SkewedClock

HOSTS = ("compute1", "compute2", "compute3", "compute4", "compute5", "compute6")
SPARES = ("compute5", "compute6")
CHAOS_S = 240.0
MISHAP_EVERY_S = 6.0
HEALED_S = 3000.0
LATEST_S = 14.0
VERSIONS = [("2.1", "2.93")] * 4 + [("2.1", "2.96"), ("2.1", "2.60"), ("2.1", "2.30"), ("2.1", "2.1")]
QUEUED = ("by a stop that was sent to a dead host", "runs on compute")
"""An os-stop or os-start may meet a host that has died a moment ago, and wait in its queue. What a stop does at the host's
return is mended then; a start runs the guest there a second time, and nothing that Nova offers prevents it."""

PUT_BACK = ("was stopped before", "was resized before")
SLACK_S = 45.0
"""A worker may have looked that long before its request arrives: the lease bounds it."""


class Crash(BaseException):
    """A controller died here."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Chaos:
    """The run of one seed."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.random = random.Random(seed)
        choose = self.random.choice
        self.far_clocks = self.random.random() < 0.2
        options = settings(
            recover_starter={
                "semaphore_multiplicity": choose([1, 2, 64]),
                "recovery_method": choose(["reserved_host"] * 3 + ["auto", "rh_priority", "auto_priority"]),
                "recovery_retry_interval": 5,
                "evacuation_timeout_s": choose([120, 900]),
            },
            safety={"max_failed_hosts": choose([0, 3, 9, 9])},
            return_={"mode": choose(["command", "auto"]), "return_after_s": 30},
        )
        self.house = House(
            folder,
            options,
            hosts=HOSTS,
            versions=choose(VERSIONS),
            evacuate_s=choose([1.0, 5.0, 25.0]),
            builds_at_once=choose([0, 2, 10]),
            seed=seed,
        )
        self.cloud = self.house.cloud
        self.log: list[str] = []
        self.alive: dict[str, Controller] = {}
        self.clocks: dict[str, SkewedClock] = {}
        self.dead_until: dict[str, float] = {}
        self.busy: set[str] = set()
        self.database_back = 0.0
        self.calm = True
        self.later: list[tuple[float, int, str, Callable[[], None]]] = []
        self.lied: set[str] = set()
        self.by_hand: set[str] = set()
        self._ids = 0
        self._peek = sqlite3.connect(folder / "vm_ha.sqlite", isolation_level=None)
        self._prepare()

    def _prepare(self) -> None:
        for spare in SPARES[: self.random.choice([1, 2, 2, 2])]:
            self.house.spare(spare)
        for host in HOSTS[:4]:
            for _ in range(self.random.randint(1, 4)):
                self.cloud.boot(host, 1, status=self.random.choice(["ACTIVE"] * 4 + ["SHUTOFF", "ERROR", "PAUSED"]))
        for number in range(self.random.choice([1, 2, 2, 3])):
            name = f"controller-{number + 1}"
            self.clocks[name] = SkewedClock(self.house.clock, self.random.uniform(-7, 7))
            self._begin(name)
        self.house.clock.advance(30)
        for host in HOSTS:
            self._report(lambda host=host: self._host_up(host))  # type: ignore[misc]
        self._drain()
        self.house.ports = self._port
        self.calm = False
        for host in self.random.sample(HOSTS[:4], self.random.choice([1, 1, 2])):
            self._at(self.random.uniform(1, 60), f"{host} crashes", lambda host=host: self._dies_for_good(host))

    def _begin(self, name: str) -> None:
        controller = Controller(self.house, name, self.clocks[name])
        controller.db.transaction(lambda tx: tx.execute("recovery_takeover", owner=name))
        self.alive[name] = controller
        self.house.controller = next(iter(self.alive.values()))

    # The run

    def run(self) -> None:
        """The chaos, the healing, and what must hold in between and at the end."""
        end, mishap_at = self.now + CHAOS_S, self.now
        while self.now < end:
            if self.now >= mishap_at:
                mishap_at = self.now + self.random.expovariate(1 / MISHAP_EVERY_S)
                name, act = self.random.choice(self._mishaps())
                self._note(name)
                act()
                self.check()
            self._step()
        self._heal()
        self._until_quiet()
        self.check()
        invariants.check_end(self.house, **self._leeway())
        self._nobody_forgotten()

    def check(self) -> None:
        """What must hold at any moment."""
        invariants.check(self.house, **self._leeway())
        put_back = {e["uuid"] for e in self.house.table("recovery_event") if e["reason"] in PUT_BACK}
        stopped = [uuid for _, uuid in self.cloud.healthy_stops if uuid not in put_back | self.by_hand]
        assert not stopped, f"a healthy guest was stopped: {stopped}"

    def _leeway(self) -> dict[str, Any]:
        far = 1e9 if self.far_clocks else 0.0
        queued = any("start of" in line and "which is not there" in line for line in self.cloud.history)
        but = QUEUED if queued else QUEUED[:1]
        return {"slack_s": SLACK_S + far, "skew_s": 20.0 + far, "by_hand": self.by_hand, "but": but}

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return self.house.clock.monotonic()

    def _note(self, text: str) -> None:
        self.log.append(f"{self.now:8.2f} {text}")

    def _step(self) -> None:
        """Everybody who can does one visit; time passes when nobody has anything to do."""
        self._drain()
        for name, until in list(self.dead_until.items()):
            if self.now >= until and self.now >= self.database_back:
                del self.dead_until[name]
                self._note(f"{name} starts")
                self._guarded(name, lambda name=name: self._begin(name))  # type: ignore[misc]
        if not sum([self._visit(name) for name in list(self.alive)]):
            self.house.clock.advance(self._idle_s())

    def _visit(self, name: str) -> bool:
        if name in self.busy or name not in self.alive:
            return False
        self.busy.add(name)
        try:
            controller = self.alive[name]
            return bool(self._guarded(name, controller.visit))
        finally:
            self.busy.discard(name)

    def _guarded(self, name: str, func: Callable[[], Any]) -> Any:
        """Do it; the controller may die in it."""
        try:
            return func()
        except Crash as crash:
            self._note(f"{crash.name} dies")
            self.alive.pop(crash.name, None)
            self.dead_until[crash.name] = self.now + self.random.choice([0.2, 5.0, 20.0, 90.0])
            if crash.name != name:
                raise
        except Unavailable:
            self.alive.pop(name, None)
            self.dead_until[name] = self.now + 1.0
        return None

    def _idle_s(self) -> float:
        """Until something is due, by what the database says and by what the controllers stay with."""
        free = [controller for name, controller in self.alive.items() if name not in self.busy]
        times = [at - self.now for c in free for _, _, at in c.kept.values()]
        times += [at - self.now for at, _, _, _ in self.later]
        times += [until - self.now for until in self.dead_until.values()]
        if free:
            wall = self.house.clock.now()
            for due, owner, lease in self._peek.execute(
                "SELECT due_at, owner, lease_until FROM recovery WHERE due_at NOT NULL"
            ):
                times.append(max(due, lease if owner else due) - wall)
        return min([max(0.05, t + 0.001) for t in times] + [1.0 if not self.calm else 5.0])

    # What happens at a port

    def _port(self, controller: Controller, call: str) -> None:
        if self.calm:
            return
        if call == "db begin" and self.now < self.database_back:
            raise Unavailable("the database is away")
        dice = self.random.random()
        if call == "db committed" and dice < 0.002:
            raise MaybeSent("the answer to the commit was lost")
        if dice < 0.006 and controller.name in self.busy:
            raise Crash(controller.name)
        if (
            dice < 0.014
            and controller.name in self.busy
            and not (call.startswith("http before P") and "/action" in call)
        ):
            self._stall(controller, call)

    def _stall(self, controller: Controller, call: str) -> None:
        """The controller stands still for a while in the middle of a call, and the others go on."""
        seconds = self.random.choice([2.0, 14.0, 40.0, 70.0, 130.0])
        if call.startswith("http before"):
            seconds = min(seconds, 2.0)  # the request is on its way: see "late" for how late it may come
        self._note(f"{controller.name} stands still for {seconds:g} s at {call}")
        end = self.now + seconds
        while self.now < end:
            self._step()

    # What happens in the world

    def _mishaps(self) -> list[tuple[str, Callable[[], None]]]:
        found: list[tuple[str, Callable[[], None]]] = [
            ("nothing", lambda: None),
            ("database away", self._database_away),
            ("Keystone away", lambda: self._away("keystone")),
            ("Nova away", lambda: self._away("nova")),
            ("a fault of Nova", self._fault),
            ("a fault of Nova", self._fault),
            ("a fault of Nova", self._fault),
            ("a clock jumps", self._clock_jumps),
            ("a controller dies", self._controller_dies),
            *([("an operator cancels", self._cancel)] if self.random.random() < 0.3 else []),
            ("an operator releases", self._release),
            ("somebody changes Nova by hand", self._by_hand),
        ]
        host = self.random.choice(HOSTS)
        record = self.cloud.hosts[host]
        if record.powered and not record.isolated:
            found += [(f"{host} crashes", lambda: self._host_crashes(host))] * 4
            found += [(f"a guest on {host} dies", lambda: self._guest_dies(host))] * 3
            found.append((f"a process on {host} dies", lambda: self._process_dies(host)))
            if host not in self.lied:
                found.append((f"{host} is cut off", lambda: self._cut_off(host)))
                found.append((f"nova-compute of {host} dies", lambda: self._compute_dies(host)))
            if record.compute_runs and not record.forced_down:
                found.append((f"false alarm about {host}", lambda: self._false_alarm(host)))
        elif not record.powered:
            found.append((f"{host} boots", lambda: self._boots(host)))
            found.append((f"{host} is proven off", lambda: self._proof(host)))
        return found

    def _database_away(self) -> None:
        self.database_back = self.now + self.random.choice([0.5, 5.0, 70.0])

    def _away(self, service: str) -> None:
        self.cloud.set_away(service)
        self._at(self.random.choice([1.0, 10.0, 40.0]), "", lambda: self.cloud.set_away(service, False))

    def _fault(self, call: str = "") -> None:
        calls = ["evacuate", "evacuate", "write", "write", "stop", "start", "list_servers", "list_migrations"]
        call = call or self.random.choice(calls)
        kind: dict[str, Any] = self.random.choice([
            {"kind": "lose_answer"},
            {"kind": "lose_answer", "how": "dropped"},
            {"kind": "lose_request"},
            {"kind": "lose_request", "how": "refused"},
            {"kind": "late", "delay_s": self.random.uniform(1, LATEST_S)},
            {"kind": "answer", "status": 503},
            {"kind": "answer", "status": 500, "executed": True},
            {"kind": "answer", "status": 429, "retry_after_s": self.random.choice([1, 8])},
            {"kind": "answer", "status": 401},
            {"kind": "slow", "delay_s": self.random.uniform(1, 12)},
        ])  # fmt: skip
        self._note(f"  {call} {kind}")
        self.cloud.fault(call, count=self.random.choice([1, 1, 3]), **kind)

    def _clock_jumps(self) -> None:
        clock = self.clocks[self.random.choice(list(self.clocks))]
        wild = self.random.choice([-3600.0, -60.0, 60.0, 3600.0])
        wanted = wild if self.far_clocks else self.random.uniform(-7, 7)
        clock.jump(wanted - (clock.now() - self.house.clock.now()))

    def _controller_dies(self) -> None:
        idle = [name for name in self.alive if name not in self.busy]
        if idle:
            name = self.random.choice(idle)
            del self.alive[name]
            self.dead_until[name] = self.now + self.random.choice([0.2, 5.0, 90.0])

    def _host_crashes(self, host: str) -> None:
        self.cloud.crash(host)
        delay = self.random.uniform(1, 20)
        self._at(delay, f"{host} is reported down", lambda: self._host_down(host, None))
        if self.random.random() < 0.8:
            self._at(delay + self.random.choice([0.0, 0.5, 10.0, 60.0]), "", lambda: self._proof(host))
        if self.random.random() < 0.2:
            self._at(delay + self.random.uniform(5, 90), "", lambda: self._boots(host))

    def _dies_for_good(self, host: str) -> None:
        """The plain case, with a fault of Nova just when it hurts."""
        if self.cloud.hosts[host].powered:
            self.cloud.crash(host)
            if self.random.random() < 0.6:
                self._fault("evacuate")
            self._at(self.random.uniform(1, 20), "", lambda: self._proof(host))

    def _proof(self, host: str) -> None:
        """An observer reads the power state, and tells it a moment later."""
        if self.cloud.hosts[host].powered:
            return
        self._note(f"{host} is proven off")
        evidence = [
            {"kind": self.random.choice(["power_off", "fenced"]), "at": utc(self.house.clock.now()), "detail": ""}
        ]
        self._at(self.random.choice([0.0, 0.0, 3.0, 20.0]), "", lambda: self._host_down(host, evidence))

    def _boots(self, host: str) -> None:
        """A host that was proven off is switched on. Not while a request to it waits in its queue: in the seconds until
        its first report nobody can know that it takes that up, whatever was proven (see rule 4)."""
        waiting = any(s.evacuation and s.evacuation.target == host for s in self.cloud.servers.values())
        if self.cloud.hosts[host].powered or waiting:
            return
        self._note(f"{host} boots")
        self.cloud.start(host)
        self._at(self.random.uniform(1, 20), "", lambda: self._host_up(host))

    def _cut_off(self, host: str) -> None:
        self.cloud.isolate_network(host)
        self._at(self.random.uniform(1, 10), "", lambda: self._host_down(host, None))
        self._at(self.random.uniform(20, 150), "", lambda: self._reconnect(host))

    def _reconnect(self, host: str) -> None:
        if self.cloud.hosts[host].isolated:
            self.cloud.heal_network(host)
            self._host_up(host)

    def _compute_dies(self, host: str) -> None:
        self.cloud.kill_compute(host)
        self._at(self.random.uniform(5, 120), "", lambda: self._compute_starts(host))

    def _compute_starts(self, host: str) -> None:
        if self.cloud.hosts[host].powered and not self.cloud.hosts[host].compute_runs:
            self.cloud.restart_compute(host)

    def _false_alarm(self, host: str) -> None:
        """The BMC of another machine reads off, or the cluster lost sight of a host for a moment."""
        evidence = None
        if self.random.random() < 0.5:
            self.lied.add(host)
            evidence = [{"kind": "power_off", "at": utc(self.house.clock.now()), "detail": "another machine"}]
        self._host_down(host, evidence)
        self._at(self.random.uniform(1, 60), "", lambda: self._host_up(host))

    def _guest_dies(self, host: str) -> None:
        guests = sorted(self.cloud.hosts[host].guests)
        if not guests:
            return
        uuid, died, name = self.random.choice(guests), self.house.clock.now(), self._id()
        self.cloud.crash_guest(uuid, noticed=self.random.random() < 0.5)

        def tell() -> None:
            record = self.cloud.hosts[host]
            if record.powered and not record.isolated and uuid not in record.guests:
                self._report(lambda: self.house.instance_down(uuid, host, id=name, utc_time=utc(died)))

        self._at(self.random.uniform(0, 3), "", tell)

    def _process_dies(self, host: str) -> None:
        down, up = self._id(), self._id()
        self._report(lambda: self.house.process_down(host, id=down))
        self._at(
            self.random.uniform(5, 60),
            "",
            lambda: self._report(lambda: self.house.process_down(host, id=up, state="up")),
        )

    def _cancel(self) -> None:
        self._operate(admin.cancel, lambda row: True)

    def _release(self) -> None:
        self._operate(admin.release, lambda row: row["hold"] == "many")

    def _operate(self, act: Callable[[admin.Operator, int], Any], which: Callable[[dict[str, Any]], bool]) -> None:
        rows = [row for row in self.house.table("recovery") if row["due_at"] is not None and which(row)]
        if rows:
            row = self.random.choice(rows)
            self._note(f"  {act.__name__} {row['id']}")
            self._report(lambda: self._quietly(act, row["id"]))

    def _quietly(self, act: Callable[[admin.Operator, int], Any], recovery_id: int) -> None:
        try:
            act(self.house.operator, recovery_id)
        except admin.Refused as refused:
            self._note(f"  refused: {refused}")

    def _by_hand(self) -> None:
        """Somebody enables, disables or un-forces a service, moves or stops an instance, all by Nova's own rules."""
        host = self.cloud.hosts[self.random.choice(HOSTS)]
        what = self.random.choice(["enable", "disable", "unforce", "stop", "start"])
        servers = [s for s in self.cloud.servers.values() if s.host == host.name]
        with self.cloud.alone():
            try:
                if what in ("stop", "start") and servers and host.powered and not host.isolated:
                    server = self.random.choice(servers)
                    power.request(self.cloud, server, what, self.cloud.new_request_id(), "anna", True)
                    self.cloud.healthy_stops.clear()
                    self.by_hand.add(server.id)
                elif what == "unforce" and host.forced_down:
                    self.cloud.update_service(host, forced_down=False)
                elif what in ("enable", "disable"):
                    self.cloud.update_service(
                        host, enabled=what == "enable", reason=None if what == "enable" else "anna"
                    )
            except Exception as refused:  # noqa: BLE001 - Nova's refusal to the operator is none of ours
                self._note(f"  {refused}")
        self._note(f"  {what} {host.name}")

    # Reports, which are sent until they are answered

    def _id(self) -> str:
        self._ids += 1
        return f"chaos-{self._ids}"

    def _host_down(self, host: str, evidence: list[dict[str, str]] | None) -> None:
        name, observer = self._id(), next(h for h in reversed(HOSTS) if self.cloud.hosts[h].powered or h == HOSTS[0])
        self._report(lambda: self.house.report(id=name, hostname=host, observer=observer, evidence=evidence or []))

    def _host_up(self, host: str) -> None:
        record = self.cloud.hosts[host]
        if record.powered and not record.isolated:
            name = self._id()
            self._report(lambda: self.house.host_up(host, id=name, boot_id=record.boot_id))

    def _report(self, send: Callable[[], Any]) -> None:
        try:
            if not self.alive:
                raise Unavailable("no controller")
            self.house.controller = self.random.choice(list(self.alive.values()))
            send()
        except Unavailable:
            self._at(2.0, "", lambda: self._report(send))

    def _at(self, delay: float, name: str, act: Callable[[], None]) -> None:
        self.later.append((self.now + delay, len(self.later) + len(self.log), name, act))

    def _drain(self) -> None:
        for item in sorted([item for item in self.later if item[0] <= self.now], key=lambda item: item[:2]):
            if item not in self.later:
                continue  # done already, while a controller stood still in one before
            self.later.remove(item)
            if item[2]:
                self._note(item[2])
            item[3]()

    # Healing

    def _heal(self) -> None:
        """All faults off, clocks right, every host either proven off or back, every hold answered by an operator."""
        self._note("-- healing")
        self.calm = True
        self.database_back = 0.0
        self.cloud.clear_faults()
        for service in ("keystone", "nova"):
            self.cloud.set_away(service, False)
        for clock in self.clocks.values():
            clock.jump(self.house.clock.now() - clock.now())
        for name in self.dead_until:
            self.dead_until[name] = self.now
        for host, record in self.cloud.hosts.items():
            if record.isolated:
                self._reconnect(host)
            elif not record.powered:
                self._heal_dead(host)
            else:
                self._compute_starts(host)
                self._host_up(host)

    def _heal_dead(self, host: str) -> None:
        if self.random.random() < 0.5:
            self._boots(host)
        self._at(1.0, "", lambda: self._proof(host))

    def _until_quiet(self) -> None:
        """An operator answers each hold after a while: proof where the host is off, restart, release, cancel."""
        end, next_round = self.now + HEALED_S, self.now + 60.0
        while self.now < end:
            rows = [row for row in self.house.table("recovery") if row["status"] not in FINAL]
            if not rows and not self.later:
                return
            if self.now >= next_round:
                next_round = self.now + 60.0
                for row in rows:
                    if row["status"] == "held":
                        self._answer(row, patient=self.now < end - HEALED_S / 2)
            self._step()
        told = [f"{row['id']} {row['status']} {row['reason']}\n{self.house.story(row['id'])}" for row in rows]
        raise AssertionError("not quiet: " + "\n".join(told))

    def _answer(self, row: dict[str, Any], patient: bool) -> None:
        host = self.cloud.hosts[row["hostname"]]
        if row["hold"] == "many":
            self._report(lambda: self._quietly(admin.release, row["id"]))
        elif row["hold"] == "proof" and not host.powered:
            self._proof(host.name)
        elif row["hold"] == "down" and patient:
            if not host.powered:
                self._boots(host.name)
            else:
                self.cloud.restart_compute(host.name)
        elif row["hold"] == "target":
            for target in (name for name in self.cloud.hosts if f"new host {name} " in row["reason"]):
                self._target_back(target)
        elif not row["cancel_by"]:
            self._note(f"  cancel {row['id']} held for {row['hold']}")
            self._report(lambda: self._quietly(admin.cancel, row["id"]))

    def _target_back(self, target: str) -> None:
        if self.cloud.hosts[target].powered:
            self._host_up(target)
            self._report(lambda: self._cancel_of(target))
        else:
            self._proof(target)

    def _cancel_of(self, host: str) -> None:
        for row in self.house.table("recovery"):
            if row["active_key"] == f"host:{host}" and not row["cancel_by"]:
                self._quietly(admin.cancel, row["id"])

    def _nobody_forgotten(self) -> None:
        """A finished recovery of a host that is still off left nothing there but what it said it would leave."""
        rows = self.house.table("vm_list")
        for host, record in self.cloud.hosts.items():
            found = [r for r in self.house.table("recovery") if r["kind"] == "host" and r["hostname"] == host]
            if record.powered or not found or found[-1]["status"] != "finished":
                continue
            told = {row["uuid"] for row in rows if row["recovery_id"] == found[-1]["id"] and row["status"] == "skipped"}
            left = [s.name for s in self.cloud.servers.values() if s.host == host and s.id not in told]
            assert not left, f"recovery {found[-1]['id']} of {host} is finished, and {left} are still booked there"
