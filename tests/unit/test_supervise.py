"""What is done about one process: a small world of one process, its commands and systemd, in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from processmonitor import supervise
from processmonitor.supervise import (
    DOWN,
    RESTARTING,
    RUNNING,
    SLEEPING,
    STARTING,
    STOPPED,
    Rules,
    Seen,
    State,
    Verb,
    Verdict,
)

COMMAND_S = 0.2
ASK_S = 0.01


@dataclass(frozen=True)
class Done:
    ok: bool = True
    why: str = ""


@dataclass
class World:
    """alive_at: when the process runs, as a function of time. A restart command calls on_restart and takes COMMAND_S."""

    rules: Rules = field(default_factory=Rules)
    alive: bool = True
    verdict: Verdict = Verdict.UNKNOWN
    on_restart: Callable[[World], None] = lambda world: None
    on_start: Callable[[World], None] = lambda world: None
    result: Done = field(default_factory=Done)
    remembered: str = ""
    now: float = 1000.0
    done: list[tuple[float, str]] = field(default_factory=list)
    state: State = field(init=False)
    pending: list[tuple[float, Seen]] = field(default_factory=list)
    later: list[tuple[float, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._apply(*supervise.begin(self.alive, self.remembered, self.now))

    def _apply(self, state: State, actions: tuple[supervise.Action, ...]) -> None:
        self.state = state
        for action in actions:
            if action.verb in (Verb.NOTE, Verb.WARN):
                continue
            self.done.append((round(self.now - 1000, 2), action.verb.name))
            if action.verb is Verb.ASK:
                self.pending.append((self.now + ASK_S, Seen(False, verdict=self.verdict)))
            if action.verb in (Verb.RESTART, Verb.START):
                (self.on_restart if action.verb is Verb.RESTART else self.on_start)(self)
                self.pending.append((self.now + COMMAND_S, Seen(False, ended=self.result)))

    def set_alive(self, alive: bool, at: float | None = None) -> None:
        """It dies or appears, now or so many seconds from now; a death is noticed at once."""
        if at is not None:
            self.later.append((self.now + at, alive))
            return
        noticed, self.alive = self.alive and not alive, alive
        if noticed:
            self.step(Seen(False))

    def step(self, seen: Seen) -> None:
        self._apply(*supervise.step(self.state, Seen(self.alive, seen.verdict, seen.ended), self.rules, self.now))

    def run(self, seconds: float) -> World:
        """Let so much time pass."""
        end = self.now + seconds
        for _ in range(100000):
            moments = [self.state.due, *(at for at, _ in self.pending), *(at for at, _ in self.later)]
            self.now = max(self.now, min(*moments, end))
            ready = [item for item in self.pending if item[0] <= self.now]
            changes = [item for item in self.later if item[0] <= self.now]
            if changes:
                self.later.remove(changes[0])
                self.set_alive(changes[0][1])
            elif ready:
                self.pending.remove(ready[0])
                self.step(ready[0][1])
            elif self.state.due <= self.now:
                self.step(Seen(False))
            else:
                return self
        raise AssertionError(f"it spins in {self.state}")

    def verbs(self, *, without: str = "ASK") -> list[str]:
        return [verb for _, verb in self.done if verb != without]

    def times(self, verb: str) -> list[float]:
        return [at for at, done in self.done if done == verb]


def revive(world: World) -> None:
    world.set_alive(True)


def test_a_process_that_runs_at_the_start_is_left_alone() -> None:
    assert World().run(3600).done == []


def test_one_that_does_not_run_is_started_once() -> None:
    world = World(alive=False, on_start=revive).run(100)
    assert world.done == [(0, "START")]
    assert world.state.phase == RUNNING


def test_it_has_start_wait_to_appear() -> None:
    world = World(alive=False, on_start=lambda world: world.set_alive(True, at=9)).run(100)
    assert world.verbs() == ["START"]


def test_one_that_does_not_appear_after_its_start_is_restarted() -> None:
    world = World(alive=False, on_restart=revive).run(100)
    assert world.verbs() == ["START", "RESTART"]
    assert 10 <= world.times("RESTART")[0] < 10.5


def test_a_death_is_followed_by_a_restart_at_once() -> None:
    world = World(on_restart=revive).run(100)
    world.set_alive(False)
    world.run(0.5)
    assert world.verbs() == ["RESTART"]
    assert world.times("RESTART") == [100.01]
    assert world.state.phase == RUNNING


def test_restarts_that_fail_are_reported_once_after_the_last_one() -> None:
    world = World(result=Done(False, "it ended with 1"))
    world.set_alive(False)
    world.run(3600)
    assert world.verbs() == ["RESTART", "RESTART", "RESTART", "REPORT_DOWN"]
    gaps = [later - earlier for earlier, later in pairwise(world.times("RESTART"))]
    assert all(5 <= gap < 5.5 for gap in gaps)
    assert world.state.phase == DOWN


def test_the_last_permitted_restart_may_succeed() -> None:
    world = World(on_restart=lambda world: world.set_alive(world.state.tries == 3))
    world.set_alive(False)
    world.run(3600)
    assert world.verbs() == ["RESTART"] * 3
    assert world.state == State(RUNNING, world.state.since)


def test_a_process_that_appears_although_the_command_failed_is_a_success() -> None:
    world = World(on_restart=lambda world: world.set_alive(True, at=2), result=Done(False, "it ended with 1"))
    world.set_alive(False)
    world.run(100)
    assert world.verbs() == ["RESTART"]


def test_a_command_that_ends_well_without_a_process_is_a_failure() -> None:
    world = World()
    world.set_alive(False)
    world.run(100)
    assert world.verbs()[-1] == "REPORT_DOWN"


def test_a_restart_that_hangs_is_waited_for_and_never_doubled() -> None:
    world = World()
    world.set_alive(False)
    world.run(0.1)
    world.pending.clear()
    world.run(1000)
    assert world.verbs() == ["RESTART"]
    assert world.state.phase == RESTARTING


def test_a_crash_loop_uses_up_the_restarts_of_one_outage() -> None:
    def for_a_moment(world: World) -> None:
        world.set_alive(True)
        world.set_alive(False, at=4)

    world = World(on_restart=for_a_moment)
    world.set_alive(False)
    world.run(300)
    assert world.verbs() == ["RESTART", "RESTART", "RESTART", "REPORT_DOWN"]


def test_what_ran_long_enough_has_all_its_restarts_again() -> None:
    world = World(on_restart=revive)
    for _ in range(10):
        world.set_alive(False)
        world.run(31)
    assert world.verbs() == ["RESTART"] * 10


def test_a_process_that_comes_back_is_reported_as_up_and_watched_again() -> None:
    world = World()
    world.set_alive(False)
    world.run(100)
    world.set_alive(True)
    world.run(12)
    assert world.verbs()[3:] == ["REPORT_DOWN", "REPORT_UP"]
    world.on_restart = revive
    world.set_alive(False)
    world.run(10)
    assert world.verbs()[5:] == ["RESTART"]


def test_one_that_comes_back_for_a_moment_is_not_reported_as_up() -> None:
    world = World()
    world.set_alive(False)
    world.run(100)
    for _ in range(10):
        world.set_alive(True)
        world.run(4)
        world.set_alive(False)
        world.run(7)
    assert "REPORT_UP" not in world.verbs()


def test_one_that_flaps_is_reported_less_and_less_often() -> None:
    def flap(world: World) -> None:
        world.set_alive(not world.alive)

    world = World()
    for _ in range(180):
        flap(world)
        world.run(20)
    assert len(world.times("REPORT_UP")) <= 4


def test_an_outage_known_from_before_is_not_reported_again_but_started() -> None:
    world = World(alive=False, remembered=DOWN).run(300)
    assert world.verbs() == ["START"]
    world.set_alive(True)
    world.run(12)
    assert world.verbs() == ["START", "REPORT_UP"]


def test_one_that_came_back_while_the_monitor_was_down_is_reported_as_up() -> None:
    assert World(remembered=DOWN).run(6).verbs() == ["REPORT_UP"]


def test_a_planned_stop_is_left_alone_until_it_runs_again() -> None:
    world = World(verdict=Verdict.STOPPED)
    world.set_alive(False)
    world.run(600)
    assert world.verbs() == ["REMEMBER_REST"]
    assert world.state.phase == STOPPED
    world.set_alive(True)
    world.run(61)
    assert world.verbs() == ["REMEMBER_REST", "FORGET_REST"]
    assert world.state.phase == RUNNING


def test_one_that_ends_in_order_although_nobody_asked_for_it_is_restarted() -> None:
    world = World(verdict=Verdict.ENDED, on_restart=revive)
    world.set_alive(False)
    world.run(100)
    assert world.verbs() == ["RESTART"]


def test_one_that_ends_in_order_and_cannot_be_restarted_is_reported() -> None:
    world = World(verdict=Verdict.ENDED)
    world.set_alive(False)
    world.run(100)
    assert world.verbs() == ["RESTART"] * 3 + ["REPORT_DOWN"]


def test_one_that_sleeps_until_its_socket_is_used_is_left_alone() -> None:
    world = World(verdict=Verdict.SLEEPS)
    for _ in range(5):
        world.set_alive(False)
        world.run(600)
        assert world.state.phase == SLEEPING
        world.set_alive(True)
        world.run(120)
        assert world.state.phase == RUNNING
    assert world.verbs() == ["REMEMBER_REST", "FORGET_REST"] * 5


def test_one_that_slept_when_the_monitor_ended_is_not_started() -> None:
    world = World(alive=False, remembered=SLEEPING, verdict=Verdict.SLEEPS).run(600)
    assert world.verbs() == []


def test_one_that_fails_when_its_socket_wakes_it_is_restarted() -> None:
    world = World(alive=False, remembered=SLEEPING, verdict=Verdict.FAILED, on_restart=revive).run(100)
    assert world.verbs() == ["FORGET_REST", "RESTART"]


def test_one_that_was_stopped_or_sleeps_is_known_as_what_it_was_last() -> None:
    world = World(verdict=Verdict.STOPPED)
    world.set_alive(False)
    world.run(30)
    world.verdict = Verdict.SLEEPS
    world.run(100)
    assert world.state.phase == SLEEPING
    world.verdict = Verdict.STOPPED
    world.run(100)
    assert world.state.phase == STOPPED
    assert world.verbs() == ["REMEMBER_REST"] * 3


def test_a_planned_stop_known_from_before_is_not_started() -> None:
    world = World(alive=False, remembered=STOPPED, verdict=Verdict.STOPPED).run(600)
    assert world.verbs() == []


def test_a_stopped_service_that_fails_when_it_is_started_is_restarted() -> None:
    for verdict in (Verdict.FAILED, Verdict.ENDED):
        world = World(verdict=Verdict.STOPPED, on_restart=revive)
        world.set_alive(False)
        world.run(30)
        world.verdict = verdict
        world.run(100)
        assert world.verbs() == ["REMEMBER_REST", "FORGET_REST", "RESTART"]


def test_a_stopped_service_that_systemd_cannot_tell_about_stays_stopped() -> None:
    world = World(alive=False, remembered=STOPPED, verdict=Verdict.UNKNOWN).run(600)
    assert world.state.phase == STOPPED


def test_one_that_ends_politely_right_after_its_restart_has_failed() -> None:
    def for_a_moment(world: World) -> None:
        world.set_alive(True)
        world.set_alive(False, at=1)
        world.verdict = Verdict.ENDED

    world = World(verdict=Verdict.FAILED, on_restart=for_a_moment)
    world.set_alive(False)
    world.run(100)
    assert world.verbs() == ["RESTART", "RESTART", "RESTART", "REPORT_DOWN"]


def test_while_systemd_is_at_it_nothing_is_done() -> None:
    world = World(verdict=Verdict.BUSY)
    world.set_alive(False)
    world.set_alive(True, at=80)
    world.run(200)
    assert world.verbs() == []
    assert world.state.phase == RUNNING


def test_one_that_an_operator_restarts_is_not_restarted_by_us_too() -> None:
    world = World(verdict=Verdict.ACTIVE)
    world.set_alive(False)
    world.set_alive(True, at=1.5)
    world.run(200)
    assert world.verbs() == []


def test_a_dead_process_of_a_service_that_reads_active_is_restarted_soon() -> None:
    world = World(verdict=Verdict.ACTIVE, on_restart=revive)
    world.set_alive(False)
    world.run(200)
    assert 2 <= world.times("RESTART")[0] < 2.5


def test_systemd_has_90_seconds() -> None:
    world = World(verdict=Verdict.BUSY)
    world.set_alive(False)
    world.run(200)
    assert 90 <= world.times("RESTART")[0] < 92


def test_restarts_by_systemd_count_so_that_its_crash_loop_is_reported() -> None:
    world = World(verdict=Verdict.RESTARTING)
    for _ in range(4):
        world.set_alive(False)
        world.set_alive(True, at=3)
        world.run(8)
    assert world.verbs() == ["REPORT_DOWN"]


def test_restarts_by_an_operator_never_count() -> None:
    world = World(verdict=Verdict.BUSY)
    for _ in range(20):
        world.set_alive(False)
        world.set_alive(True, at=3)
        world.run(8)
    assert world.verbs() == []


def test_a_host_that_shuts_down_restarts_and_reports_nothing() -> None:
    world = World(verdict=Verdict.HALTING)
    world.set_alive(False)
    world.run(600)
    assert world.verbs() == []


def test_a_shutdown_that_begins_between_two_restarts_stops_them() -> None:
    world = World(verdict=Verdict.FAILED)
    world.set_alive(False)
    world.run(1)
    world.verdict = Verdict.HALTING
    world.run(600)
    assert world.verbs() == ["RESTART"]


@given(
    st.lists(
        st.tuples(st.sampled_from(["dies", "appears", "waits"]), st.floats(0, 60), st.sampled_from(list(Verdict))),
        max_size=25,
    ),
    st.integers(1, 4),
    st.sampled_from(["", DOWN, STOPPED, SLEEPING]),
    st.booleans(),
)
def test_whatever_happens_reports_alternate_and_restarts_are_limited(
    story: list[tuple[str, float, Verdict]], retry: int, remembered: str, alive: bool
) -> None:
    world = World(rules=Rules(retry=retry), alive=alive, remembered=remembered)
    for what, seconds, verdict in story:
        world.verdict = verdict
        if what != "waits":
            world.set_alive(what == "appears")
        world.run(seconds)
    reports = [verb for verb in world.verbs() if verb.startswith("REPORT")]
    first = "REPORT_UP" if remembered == DOWN else "REPORT_DOWN"
    assert reports[:1] in ([], [first])
    assert all(earlier != later for earlier, later in pairwise(reports))
    assert sum(1 for verb in world.verbs() if verb == "START") <= 1
    assert world.state.tries <= retry
    assert (world.state.phase == STARTING) <= (not alive)
    for earlier, later in pairwise(world.times("RESTART")):
        assert later - earlier >= 5 - 0.01
