"""Faults to switch on: which call is hit, how often, and how."""

from __future__ import annotations

from dataclasses import dataclass

KINDS = ("answer", "lose_answer", "lose_request", "late", "slow")


@dataclass
class Fault:
    """What happens to the next calls of a kind.

    Args:
        call: name of the call as in the counters, or "nova", "keystone", "read", "write", "any". The names:
            sign_in keystone_other nova_versions list_services disable enable force_down unforce
            list_hypervisors search_hypervisors uptime list_servers show_server delete_server evacuate stop start
            pause unpause reboot lock unlock reset_state list_migrations list_actions show_action
            list_aggregates create_aggregate show_aggregate delete_aggregate add_host remove_host unknown.
        kind: "answer": an HTTP status instead of the true answer; "lose_answer": carried out, but unanswered;
            "lose_request": neither; "late": carried out delay_s later; "slow": carried out at once, answered
            delay_s later.
        count: how many calls; -1 = until cleared.
        skip: how many matching calls are left alone before.
        status: of "answer".
        executed: whether an "answer" comes after the call was carried out or instead of it.
        how: of the two losses: "read timeout", "dropped"; of lose_request also "refused", "connect timeout".
    """

    call: str
    kind: str
    count: int = 1
    skip: int = 0
    status: int = 500
    executed: bool = False
    how: str = "read timeout"
    delay_s: float = 0.0
    retry_after_s: int = 1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no fault of kind {self.kind}; there are {', '.join(KINDS)}")


class Faults:
    """The faults that are switched on; the first that matches a call is used."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        self._faults.append(fault)

    def clear(self) -> None:
        self._faults.clear()

    def take(self, name: str, service: str, *, is_write: bool) -> Fault | None:
        """The fault for this call, if any; counts it."""
        names = (name, service, "write" if is_write else "read", "any")
        for fault in self._faults:
            if fault.call not in names:
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            if fault.count > 0:
                fault.count -= 1
            if fault.count == 0:
                self._faults.remove(fault)
            return fault
        return None
