"""What must hold after every step of every simulated run, whatever failed; and what must hold once it is quiet.

The truth is the simulated cloud's: who runs where, which requests Nova took and when. It is compared with what the
controllers have on record: proofs, intents, journal, 2015 columns.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

from masakari.model import FINAL, OPEN, PROGRESS
from masakari.proof import LIFE_KINDS, PROOF_KINDS
from masakari.store import INSTANCE_PROGRESS
from tests.sim.harness import House

_FORCED = re.compile(r"^(?P<at>[\d.]+) service (?P<host>\S+): .*forced_down=True$")
_TRANSITION = re.compile(r"^(\w+)/(\w+)(?: \((\w+)\))? -> (\w+)(?:/(\w+))?(?: \((\w+)\))?$")


def check(
    house: House, *, slack_s: float = 0.0, skew_s: float = 0.0, by_hand: Collection[str] = (), but: Collection[str] = ()
) -> None:
    """Assert everything that must hold at any moment.

    `slack_s`: how long before a request a sign of life may have come without stopping it: a worker looked before,
    and was paused. `skew_s`: how far the clocks of the controllers differ. `by_hand`: hosts that the run itself forced
    down or evacuated, as an operator would. `but`: violations that this run can't avoid.
    """
    found = [*problems(house, slack_s, skew_s, by_hand, but)]
    assert not found, "\n".join([*found, *_told(house)])


def check_end(
    house: House, *, slack_s: float = 0.0, skew_s: float = 0.0, by_hand: Collection[str] = (), but: Collection[str] = ()
) -> None:
    """Assert the same, and that every accepted report has come to an end or is held."""
    found = [*problems(house, slack_s, skew_s, by_hand, but), *_unfinished(house)]
    assert not found, "\n".join([*found, *_told(house)])


def problems(
    house: House, slack_s: float = 0.0, skew_s: float = 0.0, by_hand: Collection[str] = (), but: Collection[str] = ()
) -> Iterator[str]:
    """Everything that is wrong now, one sentence each."""
    recoveries = _rows(house, "recovery")
    instances = _rows(house, "vm_list")
    yield from (told for told in house.cloud.violations() if not any(part in told for part in but))
    yield from _evacuations(house, slack_s, skew_s, by_hand)
    yield from _forced_down(house, slack_s, skew_s, by_hand)
    yield from _recoveries(recoveries)
    yield from _instances(recoveries, instances)
    yield from _reports(house, recoveries)
    yield from _spares(house, recoveries)
    yield from _journal(house, recoveries)


def _rows(house: House, table: str) -> list[dict[str, Any]]:
    return house.table(table)


def _told(house: House) -> list[str]:
    """The stories, for whoever reads the failure."""
    stories = [
        f"-- recovery {row['id']} {row['kind']} {row['hostname']} {row['status']}/{row['step']} {row['reason']}\n"
        + house.story(row["id"])
        for row in _rows(house, "recovery")
    ]
    return [*stories, "-- the cloud", *list(house.cloud.history)[-60:]]


# Rule 1: proof, stored before.


def _proven_off(house: House, host: str, at: float, slack_s: float, skew_s: float) -> str:
    """Empty when a proof that nothing contradicts was stored before `at`; else what is wrong."""
    safety = house.settings.safety
    own = [row for row in _rows(house, "known_host") if row["hostname"] == host and row["bmc_guid"]]
    # Whatever the order of its bytes, the GUID of another BMC has other digits.
    digits = [sorted(row["bmc_guid"]) for row in own if row["declared_at"] <= at - slack_s - skew_s]
    rows = [
        row
        for row in _rows(house, "host_evidence")
        if row["hostname"] == host and row["trusted"] and (not row["guid"] or digits in ([], [sorted(row["guid"])]))
    ]
    proofs = [row["at"] for row in rows if row["kind"] in PROOF_KINDS and row["received_at"] <= at + skew_s]
    if not proofs:
        return f"no proof that {host} is off was stored"
    newest = max(proofs)
    for row in rows:
        life = row["kind"] in LIFE_KINDS and row["kind"] != "nova" and row["received_at"] <= at - slack_s
        if life and row["at"] > newest + safety.clock_tolerance_s + skew_s:
            return f"{row['kind']} at {row['at']:.2f} is newer than the proof of {newest:.2f} that {host} is off"
    return ""


def _evacuations(house: House, slack_s: float, skew_s: float, by_hand: Collection[str]) -> Iterator[str]:
    """Each evacuate that Nova took had its proof and its intent stored before; and none met another one."""
    if house.settings.safety.without_proof == "wait_for_nova":
        return
    intents = _intents(house)
    first: dict[str, Any] = {}
    asked: Counter[str] = Counter()
    for migration in house.cloud.migrations:
        told = f"evacuate of {migration.instance_uuid} from {migration.source} at {migration.created_at:.2f}"
        if migration.source in by_hand:
            continue
        wrong = _proven_off(house, migration.source, migration.created_at, slack_s, skew_s)
        if wrong:
            yield f"rule 1: {told}: {wrong}"
        asked[migration.instance_uuid] += 1
        if asked[migration.instance_uuid] > intents[migration.instance_uuid]:
            yield f"rule 3: {told}: it is the {asked[migration.instance_uuid]}th, and there are fewer intents on record"
        earlier = first.get(migration.instance_uuid)
        first[migration.instance_uuid] = migration
        ended = earlier is None or (earlier.status != "accepted" and earlier.updated_at <= migration.created_at)
        if not ended:
            wrong = _proven_off(house, earlier.dest or "?", migration.created_at, slack_s, skew_s)
            if wrong:
                yield f"rule 4: {told}: the try of {earlier.created_at:.2f} to {earlier.dest} had not ended: {wrong}"


def _intents(house: House) -> Counter[str]:
    """How many evacuates of each instance were committed as intents."""
    events = _rows(house, "recovery_event")
    return Counter(
        e["uuid"] for e in events if e["kind"] == "intent" and e["uuid"] and e["what"].startswith("evacuate")
    )


def _forced_down(house: House, slack_s: float, skew_s: float, by_hand: Collection[str]) -> Iterator[str]:
    """No host was ever forced down without proof."""
    if house.settings.safety.without_proof == "wait_for_nova":
        return
    start = house.cloud.clock.now() - house.cloud.clock.monotonic()
    for line in house.cloud.history:
        forced = _FORCED.match(line)
        if forced and forced["host"] not in by_hand:
            wrong = _proven_off(house, forced["host"], start + float(forced["at"]) + 0.001, slack_s, skew_s)
            if wrong:
                yield f"rule 2: {forced['host']} was forced down at {forced['at']}: {wrong}"


# What is on record agrees with itself.


def _recoveries(recoveries: list[dict[str, Any]]) -> Iterator[str]:
    keys = Counter(row["active_key"] for row in recoveries if row["active_key"])
    for key, many in keys.items():
        if many > 1:
            yield f"{many} active recoveries have the key {key}"
    for row in recoveries:
        told = f"recovery {row['id']} ({row['kind']}, {row['status']})"
        if row["status"] in FINAL:
            if row["active_key"] or row["owner"] or row["due_at"] is not None:
                yield f"{told} is final but has key {row['active_key']}, owner {row['owner']}, due {row['due_at']}"
            if row["finished_at"] is None:
                yield f"{told} is final but has no end"
        elif row["status"] in OPEN:
            if not row["active_key"] or row["due_at"] is None:
                yield f"{told} is open but has key {row['active_key']}, due {row['due_at']}"
        else:
            yield f"{told}: no such status"
        if (row["status"] == "held") != bool(row["hold"]):
            yield f"{told} has hold {row['hold']}"
        if row["status"] in ("held", "failed", "ignored", "cancelled") and not row["reason"]:
            yield f"{told} has no reason"
        if row["hold"] == "internal":
            yield f"{told}: {row['reason']}"


def _instances(recoveries: list[dict[str, Any]], instances: list[dict[str, Any]]) -> Iterator[str]:
    by_id = {row["id"]: row for row in recoveries}
    for row in instances:
        told = f"instance {row['name'] or row['uuid']} ({row['status']}) of recovery {row['recovery_id']}"
        recovery = by_id[row["recovery_id"]]
        is_open = row["status"] in ("new", "running")
        if bool(row["active_key"]) != is_open:
            yield f"{told} has the key {row['active_key']}"
        if is_open and recovery["status"] in FINAL:
            yield f"{told} is open, but its recovery is {recovery['status']}"
        if row["finished_at"] is None and not is_open:
            yield f"{told} has no end"
        allowed = {INSTANCE_PROGRESS[row["status"]]}
        if recovery["kind"] == "instance":
            allowed = {PROGRESS[recovery["status"]]}
        elif recovery["status"] in FINAL:
            allowed.add(PROGRESS[recovery["status"]])
        if row["progress"] not in allowed:
            yield f"{told} has progress {row['progress']}, not {sorted(allowed)}"


def _reports(house: House, recoveries: list[dict[str, Any]]) -> Iterator[str]:
    by_id = {row["id"]: row for row in recoveries}
    for row in _rows(house, "notification_list"):
        told = f"report {row['notification_id']}"
        recovery = by_id.get(row["recovery_id"])
        if recovery is None:
            if row["progress"] != 4:
                yield f"{told} belongs to no recovery and has progress {row['progress']}"
        elif row["progress"] != PROGRESS[recovery["status"]]:
            yield f"{told} has progress {row['progress']}, its recovery {recovery['id']} is {recovery['status']}"


def _spares(house: House, recoveries: list[dict[str, Any]]) -> Iterator[str]:
    """Rule 5: a spare serves one active recovery, and not itself."""
    serving = Counter(row["target"] for row in recoveries if row["due_at"] is not None and row["target"])
    for host, many in serving.items():
        if many > 1:
            yield f"rule 5: spare {host} serves {many} active recoveries"
    for row in recoveries:
        if row["target"] and row["target"] == row["hostname"]:
            yield f"rule 5: recovery {row['id']} of {row['hostname']} evacuates to the failed host itself"
    listed = Counter(row["hostname"] for row in _rows(house, "reserve_list") if not row["deleted"])
    for host, many in listed.items():
        if many > 1:
            yield f"rule 5: {host} is {many} times on the list of spares"


def _journal(house: House, recoveries: list[dict[str, Any]]) -> Iterator[str]:
    """Every change of status or step has its line, and the lines are a chain from the first to the present state."""
    events: dict[int, list[dict[str, Any]]] = {}
    for row in _rows(house, "recovery_event"):
        events.setdefault(row["recovery_id"], []).append(row)
    for recovery in recoveries:
        told = f"journal of recovery {recovery['id']}"
        state: tuple[str, str] | None = None
        for event in events.get(recovery["id"], ()):
            match = _TRANSITION.match(event["what"]) if event["kind"] == "transition" and not event["uuid"] else None
            if match is None:
                state = _reopened(event, state)
                continue
            before, after = (match[1], match[2]), (match[4], match[5] or match[2])
            if state is not None and state != before:
                yield f"{told}: {event['what']!r} follows upon {'/'.join(state)}"
            state = after
        now = (recovery["status"], recovery["step"])
        if state is not None and state != now:
            yield f"{told} ends with {'/'.join(state)}, but it is {'/'.join(now)}"
        if state is None and recovery["status"] in FINAL:
            yield f"{told} tells of no change, but it is {'/'.join(now)}"
        if not events.get(recovery["id"]):
            yield f"{told} is empty"


def _reopened(event: dict[str, Any], state: tuple[str, str] | None) -> tuple[str, str] | None:
    """An operator's retry begins a new chain."""
    return None if event["kind"] == "operator" and "retry" in event["what"] else state


# Once it is quiet.


def _unfinished(house: House) -> Iterator[str]:
    for row in _rows(house, "recovery"):
        if row["status"] not in (*FINAL, "held"):
            yield f"recovery {row['id']} of {row['hostname']} is still {row['status']}/{row['step']}: {row['reason']}"
    for row in _rows(house, "notification_list"):
        if row["progress"] not in (1, 2, 3, 4):
            yield f"report {row['notification_id']} has progress {row['progress']} at the end"
    for server in house.cloud.servers.values():
        if server.evacuation is not None and not server.evacuation.stuck:
            yield f"{server.name}: an evacuation is still under way in Nova"
