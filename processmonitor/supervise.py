"""What is to be done about one watched process (pure): a state, what was just seen, the next state and the actions.

starting    its start command runs, or has run and the process is awaited
running     a process with its name is there
gone        none is there any more; systemd is asked why, before anything is done
restarting  its restart command runs, or has run and the process is awaited
down        no restart helped; the controller has been told, once
stopped     an operator stopped it: nothing is done until it runs again
sleeping    it ended in order, and systemd starts it when its socket is used: nothing is done until it runs again

All times are monotonic seconds.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol

from masakari.common.text import count

STARTING, RUNNING, GONE, RESTARTING, DOWN = "starting", "running", "gone", "restarting", "down"
STOPPED, SLEEPING = "stopped", "sleeping"

FIRST_LOOK_S = 0.05
LEAST_LOOKING_S = 1.0
"""How long a process is awaited after its restart command, even if restarts follow each other without a pause."""

LEAST_STABLE_S = 30.0
BUSY_S = 90.0
"""How long systemd may take for what it is doing with the service."""

BUSY_LOOK_S = 1.0
ACTIVE_S = 2.0
"""How long a service may read active without a process: somebody has just restarted it, and its program isn't loaded yet."""

ACTIVE_LOOK_S = 0.25
HALTING_LOOK_S = 5.0
RESTING_LOOK_S = 60.0
SETTLE_S = 5.0
LONGEST_SETTLE_S = 600.0
FLAP_S = 3600.0


class Verdict(Enum):
    """Why a process is not there, as far as it can be told."""

    STOPPED = "stopped by an operator"
    SLEEPS = "sleeps until its socket is used"
    ENDED = "ended in order, and nobody asked for it"
    BUSY = "systemd is starting or stopping it"
    RESTARTING = "systemd is restarting it after a crash"
    ACTIVE = "systemd says that it runs"
    FAILED = "systemd says that it failed"
    UNKNOWN = "systemd can't tell"
    HALTING = "the host is shutting down"


@dataclass(frozen=True, slots=True)
class Rules:
    """Settings. retry: restarts before an outage is reported; start_wait_s: how long a process may take to appear after its
    start command; planned_stops: whether systemd is asked if an operator has stopped it."""

    retry: int = 3
    reboot_interval_s: float = 5.0
    check_interval_s: float = 5.0
    start_wait_s: float = 10.0
    command_timeout_s: float = 120.0
    planned_stops: bool = True

    @property
    def stable_s(self) -> float:
        """How long it must run until its earlier deaths no longer count."""
        return max(LEAST_STABLE_S, 2 * self.reboot_interval_s)


class Ended(Protocol):
    """How a command line ended; `why` says what failed."""

    @property
    def ok(self) -> bool: ...

    @property
    def why(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known at a step. alive: a matching process runs. verdict: the answer to ASK; ended: the commands of START or
    RESTART are over; None: not at this step."""

    alive: bool
    verdict: Verdict | None = None
    ended: Ended | None = None


class Verb(Enum):
    """What is to be done."""

    START = enum.auto()
    RESTART = enum.auto()
    ASK = enum.auto()
    REPORT_DOWN = enum.auto()
    REPORT_UP = enum.auto()
    REMEMBER_REST = enum.auto()
    FORGET_REST = enum.auto()
    NOTE = enum.auto()
    WARN = enum.auto()


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do. text: the reason of a report, what to log, or STOPPED or SLEEPING as what it rests."""

    verb: Verb
    text: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """Where one process stands. It wants to be stepped at `due` at the latest, and whenever something is new.

    tries: restarts in this outage, systemd's own included; tried_at: when the last one began. waiting: commands or an answer
    are under way. looks: how often it was looked for since `since`. flaps: outages that followed each other closely.
    """

    phase: str
    since: float
    due: float = math.inf
    tries: int = 0
    tried_at: float = -math.inf
    waiting: bool = False
    looks: int = 0
    counted: bool = False
    flaps: int = 0
    up_at: float = -math.inf
    why: str = ""


Step = tuple[State, tuple[Action, ...]]
_ASK = Action(Verb.ASK)
_RESTS = {Verdict.STOPPED: STOPPED, Verdict.SLEEPS: SLEEPING}


def begin(alive: bool, remembered: str, now: float) -> Step:
    """The first step. remembered: DOWN, STOPPED or SLEEPING if an earlier run of the monitor left it so, else empty.

    What runs is left alone; what does not is started, unless an operator stopped it or it sleeps.
    """
    if remembered == DOWN:
        state = State(DOWN, now, due=now)
        return (state, ()) if alive else (state, (Action(Verb.START),))
    if remembered in (STOPPED, SLEEPING):
        return State(remembered, now, due=now), ()
    if alive:
        return State(RUNNING, now), ()
    return State(STARTING, now, waiting=True), (Action(Verb.START),)


def step(state: State, seen: Seen, rules: Rules, now: float) -> Step:
    """The next state and what is to be done, in this order. To be called again at any moment: nothing is asked for twice."""
    return _PHASES[state.phase](state, seen, rules, now)


def _starting(state: State, seen: Seen, rules: Rules, now: float) -> Step:
    if seen.ended:
        state = replace(state, waiting=False, since=now, why=seen.ended.why)
    if state.waiting:
        return state, ()
    if seen.alive:
        return State(RUNNING, now), (Action(Verb.NOTE, "runs"),)
    return _await(state, rules.start_wait_s, now)


def _running(state: State, seen: Seen, rules: Rules, now: float) -> Step:
    if not seen.alive:
        why = f"it ended again {now - state.since:.0f} s after it had come back" if state.tries else ""
        return _ask(replace(state, why=why), now), (Action(Verb.NOTE, "is not running any more"), _ASK)
    if not state.tries:
        return replace(state, due=math.inf), ()
    if now - state.since >= rules.stable_s:
        return State(RUNNING, state.since, flaps=state.flaps, up_at=state.up_at), ()
    return replace(state, due=state.since + rules.stable_s), ()


def _gone(state: State, seen: Seen, rules: Rules, now: float) -> Step:
    if seen.alive:
        return replace(state, phase=RUNNING, since=now, due=now, waiting=False), (Action(Verb.NOTE, "runs again"),)
    if seen.verdict is None:
        if state.waiting or now < state.due:
            return state, ()
        return replace(state, waiting=True, due=math.inf), (_ASK,)
    state = replace(state, waiting=False)
    verdict = seen.verdict
    if verdict is Verdict.HALTING:
        note = (Action(Verb.NOTE, "ended: the host is shutting down"),) if not state.looks else ()
        return replace(state, since=now, due=now + HALTING_LOOK_S, looks=state.looks + 1), note
    if verdict in _RESTS:
        return _rest(state, verdict, now)
    if verdict is Verdict.RESTARTING and not state.counted and state.tries < rules.retry:
        state = replace(state, tries=state.tries + 1, counted=True)
    if verdict is Verdict.ACTIVE and now - state.since < ACTIVE_S:
        return replace(state, due=now + ACTIVE_LOOK_S), ()
    waits = verdict is Verdict.BUSY or (verdict is Verdict.RESTARTING and state.counted)
    if waits and now - state.since < BUSY_S:
        return replace(state, due=now + BUSY_LOOK_S), ()
    told = "" if verdict is Verdict.UNKNOWN else verdict.value
    return _fail(replace(state, why=state.why or told), rules, now)


def _fail(state: State, rules: Rules, now: float) -> Step:
    """It is down and nobody else is at it: restart it, now or when the pause is over, or give up."""
    if state.tries >= rules.retry:
        text = f"not running after {count(state.tries, 'restart')}" + (f": {state.why}" if state.why else "")
        flaps = state.flaps + 1 if now - state.up_at < FLAP_S else 0
        down = State(DOWN, now, due=now + rules.check_interval_s, flaps=flaps, up_at=-math.inf)
        return down, (Action(Verb.REPORT_DOWN, text),)
    if now < state.tried_at + rules.reboot_interval_s:
        return replace(state, due=state.tried_at + rules.reboot_interval_s), ()
    tries = state.tries + 1
    trying = replace(
        state,
        phase=RESTARTING,
        since=now,
        due=math.inf,
        tries=tries,
        tried_at=now,
        waiting=True,
        looks=0,
        counted=False,
    )
    return trying, (Action(Verb.RESTART, f"restart {tries} of {rules.retry}"),)


def _restarting(state: State, seen: Seen, rules: Rules, now: float) -> Step:
    if seen.ended:
        state = replace(state, waiting=False, since=now, looks=0, why=seen.ended.why)
    if state.waiting:
        return state, ()
    if seen.alive:
        return replace(state, phase=RUNNING, since=now, due=now, why=""), (
            Action(Verb.NOTE, f"runs again after restart {state.tries} of {rules.retry}"),
        )
    return _await(state, max(rules.reboot_interval_s, LEAST_LOOKING_S), now)


def _await(state: State, within_s: float, now: float) -> Step:
    """Look for a process that should appear: often at first, then less and less often."""
    deadline = state.since + within_s
    if now < deadline:
        if now < state.due < math.inf:
            return state, ()
        due = min(now + FIRST_LOOK_S * 2**state.looks, deadline)
        return replace(state, looks=state.looks + 1, due=due), ()
    text = f"not there {within_s:g} s after it was {'started' if state.phase == STARTING else 'restarted'}"
    failed = replace(state, why=state.why or text)
    return _ask(failed, now), (Action(Verb.WARN, text), _ASK)


def _ask(state: State, now: float) -> State:
    return replace(state, phase=GONE, since=now, due=math.inf, waiting=True, looks=0, counted=False)


def _down(state: State, seen: Seen, rules: Rules, now: float) -> Step:
    if not seen.alive:
        return replace(state, looks=0, due=now + rules.check_interval_s), ()
    if not state.looks:
        state = replace(state, looks=1, since=now)
    settled_at = state.since + min(LONGEST_SETTLE_S, SETTLE_S * 2**state.flaps)
    if now < settled_at:
        return replace(state, due=settled_at), ()
    text = f"it has run for {now - state.since:.0f} s by now"
    return State(RUNNING, state.since, flaps=state.flaps, up_at=now), (Action(Verb.REPORT_UP, text),)


def _rest(state: State, verdict: Verdict, now: float) -> Step:
    text = f"{verdict.value}: nothing is done until it runs again"
    resting = State(_RESTS[verdict], now, due=now + RESTING_LOOK_S, flaps=state.flaps, up_at=state.up_at)
    return resting, (Action(Verb.REMEMBER_REST, resting.phase), Action(Verb.NOTE, text))


def _resting(state: State, seen: Seen, rules: Rules, now: float) -> Step:
    if seen.alive:
        actions = (Action(Verb.FORGET_REST), Action(Verb.NOTE, "runs again"))
        return State(RUNNING, now, flaps=state.flaps, up_at=state.up_at), actions
    if seen.verdict in (Verdict.FAILED, Verdict.ENDED):
        # Somebody, or a socket unit, has started it since.
        failed, then = _fail(replace(state, waiting=False, why=seen.verdict.value), rules, now)
        return failed, (Action(Verb.FORGET_REST), *then)
    if seen.verdict and _RESTS.get(seen.verdict, state.phase) != state.phase:
        return _rest(state, seen.verdict, now)
    if seen.verdict:
        return replace(state, waiting=False, due=now + RESTING_LOOK_S), ()
    if state.waiting or now < state.due:
        return state, ()
    return replace(state, waiting=True, due=math.inf), (_ASK,)


_PHASES = {
    STARTING: _starting,
    RUNNING: _running,
    GONE: _gone,
    RESTARTING: _restarting,
    DOWN: _down,
    STOPPED: _resting,
    SLEEPING: _resting,
}
