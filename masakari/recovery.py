"""The engine: outcomes, and run_once(), the only place that changes the status or the step of a recovery.

A step is a plain function (Visit) -> Outcome. It may be called again from its beginning at any moment. It looks first, then
acts; what it is about to ask of the outside world it commits as an intent before (Visit.act), and everything else it wants
to write travels in the outcome and is stored in one transaction, guarded by the epoch of the claim.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from masakari import store
from masakari.common.clock import Clock
from masakari.common.errors import LeaseLost, MaybeSent, ObserveOnly, Rejected, Unavailable
from masakari.config import Settings
from masakari.database import Database, Tx
from masakari.model import FINAL, Instance, Recovery
from masakari.nova import Nova
from masakari.store import Event

log = logging.getLogger(__name__)

KEEP_S = 2.0
"""A worker stays with a recovery for waits up to this long, and gives the claim back for longer ones."""

LIFTED_BY_HAND = ("many", "callback")
"""Holds that an operator releases by their word, which they keep whatever goes wrong meanwhile."""

INTERNAL_RETRY_S = 60.0
REFUSED_RETRY_S = 30.0

_NUMBERS = re.compile(r"[\d.:TZ-]*\d[\d.:TZ-]*")

Effect = Callable[[Tx], object]


class Pool(Protocol):
    """Calls a function for many items at once, in order of the results."""

    def map(self, func: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """All results; `func` must not raise."""

    def later(self, func: Callable[[], None]) -> None:
        """Run it beside the worker; nobody waits for it."""


@dataclass(slots=True)
class World:
    """Everything a step may touch. One per controller."""

    db: Database
    nova: Nova
    clock: Clock
    settings: Settings
    pool: Pool
    name: str
    on_step: Callable[[Recovery, str, float], None] = lambda recovery, step, seconds: None
    carried: dict[int, tuple[int, float, object]] = field(default_factory=dict)
    """By recovery: epoch of the claim, when it was read, and what; see carry.py."""

    claims: dict[int, tuple[int, float]] = field(default_factory=dict)
    """By recovery, the epoch of our claim and the monotonic time from before it."""

    @property
    def observing(self) -> bool:
        """[safety] mode = observe: every decision is journalled and nothing is written to Nova."""
        return bool(self.settings.safety.mode == "observe")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step returns; only run_once acts on it."""

    status: str
    reason: str
    step: str | None = None
    wait_s: float = 0.0
    hold: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    effects: Sequence[Effect] = ()
    target: str | None = None
    failing: bool = False


def advance(
    step: str,
    reason: str = "",
    *,
    data: dict[str, Any] | None = None,
    effects: Sequence[Effect] = (),
    target: str | None = None,
) -> Outcome:
    """The step is done: go on with the next one at once."""
    return Outcome("running", reason, step=step, data=data or {}, effects=effects, target=target)


def wait(
    seconds: float,
    reason: str,
    *,
    data: dict[str, Any] | None = None,
    effects: Sequence[Effect] = (),
    failing: bool = False,
) -> Outcome:
    """Look again after that long. `failing`: counts as a failed visit, for the metrics and the growing pause."""
    return Outcome("running", reason, wait_s=seconds, data=data or {}, effects=effects, failing=failing)


def hold(
    word: str, reason: str, *, seconds: float = 10.0, data: dict[str, Any] | None = None, effects: Sequence[Effect] = ()
) -> Outcome:
    """Blocked for a stated reason; looked at again every so often and whenever a report joins."""
    return Outcome("held", reason, wait_s=seconds, hold=word, data=data or {}, effects=effects)


def end(status: str, reason: str, *, effects: Sequence[Effect] = (), data: dict[str, Any] | None = None) -> Outcome:
    """Final: finished, failed, ignored or cancelled."""
    assert status in FINAL, status
    return Outcome(status, reason, effects=effects, data=data or {})


class Visit:
    """One call of one step: the recovery as it is now, the world, and the ways to write to Nova."""

    def __init__(self, world: World, recovery: Recovery, lease_deadline: float) -> None:
        self.world = world
        self.recovery = recovery
        self.lease_deadline = lease_deadline
        self.events: list[Event] = []
        self._stored = recovery.data
        self._intended_at = 0.0

    @property
    def now(self) -> float:
        """Unix seconds."""
        return self.world.clock.now()

    def note(
        self, kind: str, what: str, reason: str = "", uuid: str | None = None, request_id: str | None = None
    ) -> None:
        """A line for the journal, stored with the outcome."""
        self.events.append(Event(kind, what, reason, uuid, request_id, self.now))

    def remember(self, **data: Any) -> None:
        """Have the recovery remember this; stored with the next intent or with the outcome."""
        self.recovery = replace(self.recovery, data={**self.recovery.data, **data})

    def intend(
        self,
        what: Sequence[tuple[str, str | None, str]],
        effects: Sequence[Effect] = (),
        data: dict[str, Any] | None = None,
    ) -> None:
        """Commit the intent to ask Nova: rows of (what, uuid, reason), and what the recovery must remember from now on.

        Raises LeaseLost when the claim is gone.
        """
        if self.world.observing:
            raise ObserveOnly(f"would {what[0][0]}")
        events = [Event("intent", name, reason, uuid, None, self.now) for name, uuid, reason in what]
        before = self.world.clock.monotonic()
        lease_s = self.world.settings.recover_starter.lease_s
        remembered = replace(self.recovery, data={**self.recovery.data, **(data or {})})

        def write(tx: Tx) -> None:
            store.guard(tx, self.recovery, lease_s)
            if remembered.data != self._stored:
                store.remember(tx, remembered)
            for effect in effects:
                effect(tx)
            store.journal(tx, self.recovery, self.world.name, events)

        self.world.db.transaction(write)
        self.recovery, self._stored = remembered, remembered.data
        self.lease_deadline, self._intended_at = before + lease_s, before

    def may_send(self) -> bool:
        """Whether a request still goes out so soon after its intent that whoever has the claim by now can't have given it up.

        A pause takes a claim away at once; the next worker waits action_settle_s for a trace.
        """
        safety, nova = self.world.settings.safety, self.world.settings.nova
        within_s = max(1.0, safety.action_settle_s - nova.connect_timeout_s - nova.read_timeout_s)
        return self.time_left() and self.world.clock.monotonic() - self._intended_at <= within_s

    def time_left(self) -> bool:
        """Whether the lease outlasts one request to Nova with all that may go before it: signing in, a 401, a 429."""
        nova = self.world.settings.nova
        return self.world.clock.monotonic() + 3 * nova.read_timeout_s + nova.connect_timeout_s < self.lease_deadline

    def instances(self) -> list[Instance]:
        """The instances of this recovery. Their `action_at` is such that `now` less it is how long ago that surely was.

        It is measured by the database's clock, since another controller with another clock may have written it. What has
        no answer counts from this claim at the earliest: the worker before us may have sent it until then.
        """

        def read(tx: Tx) -> tuple[list[Instance], float]:
            return store.instances(tx, self.recovery.id), float(tx.all("database_now")[0]["now"])

        rows, database_now = self.world.db.transaction(read)
        epoch, claimed_at = self.world.claims.get(self.recovery.id, (None, 0.0))
        ours_s = self.world.clock.monotonic() - claimed_at if epoch == self.recovery.epoch else math.inf
        now = self.now

        def age_s(row: Instance) -> float:
            age_s = database_now - row.action_at
            return min(age_s, ours_s) if row.action and row.action_answer is None else age_s

        return [replace(row, action_at=now - age_s(row)) for row in rows]

    def together(self, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        """Reads of Nova that don't depend on each other, at once; the first error among them is raised."""

        def caught(call: Callable[[], Any]) -> Any:
            try:
                return call()
            except (Unavailable, Rejected) as error:
                return error

        results = self.world.pool.map(caught, calls)
        for result in results:
            if isinstance(result, Exception):
                raise result
        return results

    def act(
        self,
        what: str,
        call: Callable[[], str],
        *,
        reason: str = "",
        uuid: str | None = None,
        effects: Sequence[Effect] = (),
    ) -> str:
        """One write to Nova: intent, request, answer. Returns Nova's request id; raises what the port raises."""
        self.intend([(what, uuid, reason)], effects)
        if not self.may_send():
            raise LeaseLost(f"too late for {what}")
        try:
            request_id = call()
        except Rejected as error:
            self.note("answer", f"{what} refused", str(error), uuid, error.request_id)
            raise
        except MaybeSent as error:
            self.note("answer", f"{what} without a clear answer", str(error), uuid)
            raise
        self.note("answer", f"{what} accepted", "", uuid, request_id)
        return request_id


Step = Callable[[Visit], Outcome]
Table = dict[str, tuple[Step, frozenset[str]]]


def run_once(
    world: World, tables: dict[str, Table], recovery: Recovery, lease_deadline: float
) -> tuple[Recovery, Outcome]:
    """Call the step the recovery is at and store what it returns. Raises LeaseLost when the claim is gone.

    Errors of the outside become waiting with a reason; a bug becomes a hold with a traceback in the log.
    """
    step, edges = tables[recovery.kind][recovery.step]
    visit = Visit(world, recovery, lease_deadline)
    started = world.clock.monotonic()
    try:
        outcome = step(visit)
    except Unavailable as error:
        pause = min(2.0 ** min(recovery.tries, 4), 10.0)
        outcome = _still_held(recovery, wait(pause, f"waiting: {error}", failing=True))
    except Rejected as error:
        outcome = hold("refused", f"Nova refuses: {error}; mend it, or cancel", seconds=REFUSED_RETRY_S)
    except ObserveOnly as error:
        outcome = hold("observe", f"observe mode: {error}; nothing is written to Nova", seconds=REFUSED_RETRY_S)
    except LeaseLost:
        raise
    except Exception as error:  # the one broad handler of the worker: a bug must not lose the recovery
        log.exception("recovery=%d %s step=%s: internal error", recovery.id, recovery.subject, recovery.step)
        outcome = hold(
            "internal",
            f"internal error ({type(error).__name__}: {error}): please report it with the log",
            seconds=INTERNAL_RETRY_S,
        )
    if recovery.hold in LIFTED_BY_HAND and outcome.hold in ("refused", "observe", "internal"):
        outcome = replace(outcome, hold=recovery.hold)
    assert outcome.step is None or outcome.step in edges, f"{recovery.kind}: no edge {recovery.step} -> {outcome.step}"
    world.on_step(recovery, recovery.step, world.clock.monotonic() - started)
    return _store(world, visit, outcome), outcome


def _still_held(recovery: Recovery, waiting: Outcome) -> Outcome:
    """What is held stays held, for its reason, while it can't be looked at."""
    if recovery.status != "held":
        return waiting
    return replace(waiting, status="held", hold=recovery.hold, reason=recovery.reason)


def keeps_claim(outcome: Outcome) -> bool:
    """Whether the worker goes on with the recovery instead of giving the claim back."""
    return outcome.status == "running" and outcome.wait_s <= KEEP_S


def _store(world: World, visit: Visit, outcome: Outcome) -> Recovery:
    """Store the outcome and all that belongs to it in one transaction; returns the recovery as it is then."""
    recovery = visit.recovery
    after = replace(
        recovery,
        status=outcome.status,
        step=outcome.step or recovery.step,
        hold=outcome.hold,
        reason=(outcome.reason or recovery.reason)[:1000],
        data={**recovery.data, **outcome.data},
        target=recovery.target if outcome.target is None else outcome.target or None,
        tries=recovery.tries + 1 if outcome.failing else 0,
        step_at=visit.now if outcome.step else recovery.step_at,
    )
    changed = (after.status, after.step, after.hold) != (recovery.status, recovery.step, recovery.hold)
    told = changed or (after.status == "held" and _gist(after.reason) != _gist(recovery.reason))
    if told:
        visit.note("transition", _transition(recovery, after), outcome.reason)
    lease_s = world.settings.recover_starter.lease_s if keeps_claim(outcome) else None

    def write(tx: Tx) -> None:
        store.save(tx, recovery, after, visit.now, outcome.wait_s, lease_s)
        for effect in outcome.effects:
            effect(tx)
        store.journal(tx, recovery, world.name, visit.events)

    world.db.transaction(write)
    if told:
        log.info(
            "recovery=%d host=%s %s epoch=%d%s",
            recovery.id,
            recovery.hostname,
            _transition(recovery, after),
            recovery.epoch,
            f": {outcome.reason}" if outcome.reason else "",
        )
    return after


def _gist(reason: str) -> str:
    """A reason without its times and numbers: a hold whose age alone has changed is not told again."""
    return _NUMBERS.sub("#", reason)


def _transition(old: Recovery, new: Recovery) -> str:
    def told(recovery: Recovery) -> str:
        return f"{recovery.status}/{recovery.step}" + (f" ({recovery.hold})" if recovery.hold else "")

    return f"{told(old)} -> {told(new)}"
