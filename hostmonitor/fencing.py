"""What pacemaker's fencing history proves about a host (pure).

A fencing proves that the guests of a host died only if it succeeded, and after the host was last seen alive: the history keeps
the fencings of earlier failures. A reboot proves no more than that; the host may be up again. A confirmation by hand is the
word of an operator, which pacemaker takes like any other fencing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from hostmonitor.model import BY_HAND, FenceEvent
from hostmonitor.power import FENCED, Evidence
from masakari.common.text import utc

PROVING = ("off", "reboot")
SAME_S = 2.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """evidence: the fencing that proves it, None if none does. reason: the sentence either way.

    reboot: the host may be up again; by_hand: nobody but an operator says so.
    """

    evidence: Evidence | None
    reason: str
    reboot: bool = False
    by_hand: bool = False


def key(event: FenceEvent) -> str:
    """Names a fencing that is over, to tell a new one from those that were seen before."""
    return f"{event.action} {event.target} {_moment(event):.0f} {event.status} {event.client} {event.origin}"


def is_known(event: FenceEvent, known: Collection[str]) -> bool:
    """Whether a fencing is among those that were seen before. Of the same one two nodes may tell times a second apart."""
    about = f"{event.action} {event.target} "
    times = (float(name[len(about) :].split(" ", 1)[0]) for name in known if name.startswith(about))
    return key(event) in known or any(abs(time - _moment(event)) <= SAME_S for time in times)


def judge(
    host: str,
    events: Sequence[FenceEvent],
    last_alive: float,
    now: float,
    tolerance_s: float,
    known: Collection[str] | None = None,
) -> Verdict:
    """Whether this host (pacemaker's name of it) was fenced after last_alive, when this observer last saw it alive.

    known: the keys of all fencings that were in the history when it was last seen alive; none of them counts. Given these,
    the time may be SAME_S earlier than last_alive, not more: a node that has just joined is told of old fencings late. Only
    by tolerance_s may it be later than now. All times are Unix seconds.
    """
    about = [event for event in events if event.target == host]
    earliest = last_alive if known is None else last_alive - SAME_S
    done = [event for event in about if event.status == "success" and event.completed is not None]
    # Of two in the same second, the one that switches on counts as the later one.
    done.sort(key=lambda event: (_moment(event), event.action == "on"))
    fenced = [event for event in done if event.action in (*PROVING, "on")]
    fresh = [event for event in fenced if _moment(event) > earliest and not is_known(event, known or ())]
    if fresh and fresh[-1].action == "on":
        return Verdict(None, f"pacemaker has switched {host} on again at {_time(fresh[-1])}, after any fencing of it")
    if fresh and _moment(fresh[-1]) > now + tolerance_s:
        ahead_s = _moment(fresh[-1]) - now
        return Verdict(None, f"{_told(fresh[-1])}: {ahead_s:.0f} s ahead of this node's clock; mend the clocks (NTP)")
    if fresh:
        return _proof(fresh[-1], now)
    return Verdict(None, _why_not(host, about, [event for event in fenced if event.action in PROVING], last_alive))


def _proof(event: FenceEvent, now: float) -> Verdict:
    told, reboot, by_hand = _told(event), event.action == "reboot", event.delegate == BY_HAND
    if reboot:
        told += "; its guests died then, but the host may be up again"
    return Verdict(Evidence(FENCED, min(_moment(event), now), told), told, reboot, by_hand)


def _why_not(host: str, about: Sequence[FenceEvent], fenced: Sequence[FenceEvent], last_alive: float) -> str:
    """The newest of what pacemaker tried since, or else the last fencing, which belongs to an earlier failure."""
    tried = [event for event in about if event.status != "success" and event.action in PROVING]
    failed = [event for event in tried if event.status == "failed" and _moment(event) > last_alive]
    pending = [event for event in tried if event.status == "pending"]
    said = []
    if failed:
        last = max(failed, key=_moment)
        why = f": {last.exit_reason}" if last.exit_reason else ""
        said.append(f"{last.action} of {host} failed at {_time(last)}{why}")
    if pending:
        said.append(f"{pending[0].action} of {host} is under way")
    if said:
        return f"pacemaker: {'; '.join(said)}"
    if fenced:
        return f"{_told(fenced[-1])}, before it was last seen alive ({utc(last_alive)}): an earlier failure"
    return f"pacemaker's history has no fencing of {host}"


def _told(event: FenceEvent) -> str:
    if event.delegate == BY_HAND:
        return (
            f"{event.target} confirmed as down by hand (stonith_admin --confirm) at {_time(event)}: an operator's word"
        )
    by = f" by {event.delegate}" if event.delegate else ""
    return f"pacemaker: {event.action} of {event.target}{by} succeeded at {_time(event)}"


def _moment(event: FenceEvent) -> float:
    return event.completed or 0.0


def _time(event: FenceEvent) -> str:
    return utc(_moment(event))
