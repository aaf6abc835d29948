"""What becomes of a domain when events, snapshots and silences come in any order: each failure once, and no false one."""

from __future__ import annotations

import copy

import pytest

from instancemonitor.events import INCOMING, RUNNING, STOPPED
from instancemonitor.ledger import End, Failure, Finding, Ledger, Policy, Record, State
from instancemonitor.model import CONTROL_ERROR, LIFECYCLE, WATCHDOG, DomainEvent, DomainView, Snapshot

BOOT = "boot-1"
UP, PREPARED, PAUSED, PRESERVED = (1, 1), (3, 11), (3, 1), (6, 1)
SHUTDOWN, DESTROYED, CRASHED, MIGRATED, SAVED, FAILED, FROM_SNAPSHOT, DAEMON, UNKNOWN = (
    (5, reason) for reason in (1, 2, 3, 4, 5, 6, 7, 8, 0)
)


class Host:
    """A ledger that is fed as the monitor feeds it. Every message comes a second after the one before."""

    def __init__(self, state: State | None = None, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()
        self.logs: dict[str, End] = {}
        self.asked: list[str] = []
        self.seq, self.now = 0, 1000.0
        self.ledger = Ledger(state or State(boot_id=BOOT, viewed_at=900.0), BOOT, self._last_end)

    @property
    def state(self) -> State:
        return self.ledger.state

    def event(
        self, number: int, detail: int, *, ours: bool | None = True, uuid: str = "u", kind: str = LIFECYCLE
    ) -> list[Finding]:
        self.seq, self.now = self.seq + 1, self.now + 1
        event = DomainEvent(self.seq, self.now, kind, uuid, f"name-{uuid}", number, detail, "", ours)
        return self.ledger.event(event, self.policy)

    def look(
        self, began: int | None = None, ours: bool | None = True, run_id: int = 7, **rows: tuple[int, int]
    ) -> list[Finding]:
        self.now += 1
        views = (
            DomainView(uuid, f"name-{uuid}", state, reason, -1 if state == 5 else run_id, ours)
            for uuid, (state, reason) in rows.items()
        )
        snapshot = Snapshot(self.seq if began is None else began, self.now, tuple(views))
        return self.ledger.snapshot(snapshot, self.policy)

    def _last_end(self, name: str) -> End | None:
        self.asked.append(name)
        return self.logs.get(name)

    def ended(self, reason: str, uuid: str = "u") -> float:
        """QEMU's log says that it ended now, unseen; and a second passes."""
        self.now += 10
        self.logs[f"name-{uuid}"] = End(self.now, reason)
        return self.now

    def again(self) -> Host:
        """The monitor, or its connection, is gone for a while: another process takes over the state."""
        other = Host(copy.deepcopy(self.state), self.policy)
        other.now, other.logs = self.now + 100, self.logs
        other.ledger.connected()
        return other

    def clock_set_back(self) -> None:
        self.now -= 3600


def running() -> Host:
    """A host with one instance of Nova that runs, as a look at 1001 showed."""
    host = Host()
    assert failures(host.look(u=UP)) == []
    return host


def failures(findings: list[Finding]) -> list[Failure]:
    return [finding.failure for finding in findings if finding.failure]


def kinds(findings: list[Finding]) -> list[str]:
    return [failure.kind for failure in failures(findings)]


# Live


def test_a_crash_is_a_failure_at_the_time_of_its_event() -> None:
    host = running()
    (failure,) = failures(host.event(5, 5))
    assert failure == Failure("u", "name-u", "process_crash", 1002.0, 1002.0, "its QEMU process died")
    assert host.state.records["u"].state == STOPPED


@pytest.mark.parametrize("detail", [0, 1, 3, 4, 6, 99])
def test_a_stop_that_somebody_wished_for_is_none(detail: int) -> None:
    host = running()
    assert failures(host.event(5, detail)) == []
    assert host.state.records["u"].state == STOPPED


def test_every_crash_of_an_instance_that_is_started_again_is_a_failure() -> None:
    host = running()
    for _ in range(3):
        assert kinds(host.event(5, 5)) == ["process_crash"]
        assert kinds(host.event(4, 0) + host.event(2, 0)) == []


def test_the_look_after_a_crash_shows_nothing_new() -> None:
    host = running()
    host.event(5, 5)
    host.logs["name-u"] = End(host.now - 0.1, "crashed")
    assert host.look(u=CRASHED) == [] and host.look(u=CRASHED) == []
    assert host.again().look(u=CRASHED) == [] and host.again().look(u=UNKNOWN) == []


def test_an_event_that_comes_after_the_look_that_showed_its_effect_is_known_already() -> None:
    host = running()
    assert kinds(host.look(began=0, u=CRASHED)) == ["process_crash"]
    assert kinds(host.event(5, 5)) == []


def test_what_an_event_told_goes_before_an_older_look() -> None:
    host = running()
    host.event(5, 5)
    assert kinds(host.look(began=0, u=UP)) == []
    assert host.state.records["u"].state == STOPPED
    host.event(2, 0)
    assert kinds(host.look(began=1, u=CRASHED)) == []
    assert host.state.records["u"].state == RUNNING


def test_an_event_that_tells_no_state_does_not_make_a_look_old() -> None:
    host = running().again()
    host.event(0, 0, kind=CONTROL_ERROR)
    assert kinds(host.look(began=0, u=DAEMON)) == ["process_crash"]


def test_a_crash_between_the_connection_and_the_first_look_is_a_failure_though_the_start_went_unseen() -> None:
    host = running()
    host.event(5, 1)
    later = host.again()
    assert kinds(later.event(5, 5)) == ["process_crash"]
    later.logs["name-u"] = End(later.now, "crashed")
    assert kinds(later.look(u=CRASHED)) == []
    assert kinds(later.again().look(u=CRASHED)) == []


def test_an_event_during_the_first_look_after_a_connection_goes_before_that_look() -> None:
    later = running().again()
    assert kinds(later.event(5, 5)) == ["process_crash"]
    later.logs["name-u"] = End(later.now, "crashed")
    assert later.look(began=0, u=UP) == [] and later.look(u=CRASHED) == []
    host = running()
    host.event(5, 1)
    later = host.again()
    later.event(2, 0)
    later.logs["name-u"] = End(later.now - 0.1, "crashed")
    assert later.look(began=0, u=CRASHED) == []
    assert later.state.records["u"].state == RUNNING


def test_a_crash_of_a_domain_never_heard_of_is_a_failure_if_nova_made_it() -> None:
    assert kinds(Host().event(5, 5, ours=True)) == ["process_crash"]
    assert kinds(Host().event(5, 5, ours=False)) == []


def test_only_what_the_operator_wants_to_hear_of_is_reported() -> None:
    host = running()
    host.policy = Policy(report=("destroyed", "guest_crash"))
    (found,) = host.event(5, 5)
    assert found.failure is None and "option report" in found.text
    host.event(2, 0)
    assert kinds(host.event(5, 1)) == ["destroyed"]
    assert kinds(running().event(5, 1)) == []


def test_the_fault_of_a_watchdog_is_reported_as_such() -> None:
    host = running()
    host.event(0, 3, kind=WATCHDOG)
    (failure,) = failures(host.event(5, 5))
    assert failure.kind == "watchdog_poweroff" and "watchdog" in failure.reason


# Whose domain


def test_domains_that_nova_did_not_make_are_ignored_unless_all_are_wanted() -> None:
    host = Host()
    assert host.look(ours=False, u=UP) == [] and host.event(5, 5, ours=False) == []
    assert host.state.records == {}
    host = Host(policy=Policy(all_domains=True))
    host.look(ours=False, u=UP)
    assert kinds(host.event(5, 5, ours=False)) == ["process_crash"]


def test_a_crash_of_a_domain_that_may_be_novas_waits_for_the_answer() -> None:
    host = Host()
    (found,) = host.event(5, 5, ours=None)
    assert found.failure is None and "not known yet" in found.text
    assert kinds(host.look(ours=None, u=CRASHED)) == []
    (failure,) = failures(host.look(ours=True, u=CRASHED))
    assert failure.failed_at == 1001.0
    assert kinds(host.look(u=CRASHED)) == []


def test_the_wait_for_the_answer_survives_the_process() -> None:
    host = Host()
    host.event(5, 5, ours=None)
    assert kinds(host.again().look(u=CRASHED)) == ["process_crash"]


def test_a_look_that_is_older_than_the_crash_can_give_the_answer() -> None:
    host = Host()
    host.event(5, 5, ours=None)
    assert kinds(host.look(began=0, u=UP)) == ["process_crash"]


@pytest.mark.parametrize("runs_again", [True, False])
def test_a_crash_is_not_reported_when_it_runs_again_or_is_gone_before_the_answer(runs_again: bool) -> None:
    host = Host()
    host.event(5, 5, ours=None)
    (found,) = host.look(u=UP) if runs_again else host.look()
    assert found.failure is None and "not reported" in found.text
    assert host.state.undecided == {}


def test_a_crash_of_a_domain_that_turns_out_not_to_be_novas_is_dropped() -> None:
    host = Host()
    host.event(5, 5, ours=None)
    assert host.look(ours=False, u=CRASHED) == [] and host.state.undecided == {}


def test_what_is_known_of_a_domain_serves_an_event_that_does_not_know() -> None:
    assert kinds(running().event(5, 5, ours=None)) == ["process_crash"]


# Unseen


@pytest.mark.parametrize("reason", [CRASHED, FAILED, DAEMON])
def test_an_instance_that_ran_and_is_now_off_by_itself_is_a_failure_once(reason: tuple[int, int]) -> None:
    host = running().again()
    (failure,) = failures(host.look(u=reason))
    assert failure.kind == "process_crash" and failure.noticed_at == host.now
    assert kinds(host.look(u=reason)) == []
    assert kinds(host.again().look(u=reason)) == []


@pytest.mark.parametrize("reason", [SHUTDOWN, DESTROYED, MIGRATED, SAVED, FROM_SNAPSHOT, (5, 99)])
def test_an_instance_that_was_stopped_unseen_is_none(reason: tuple[int, int]) -> None:
    host = running().again()
    (found,) = host.look(u=reason)
    assert found.failure is None and "stopped" in found.text
    assert host.look(u=reason) == []


@pytest.mark.parametrize("word", ["crashed", "daemon", "failed", "unknown"])
def test_if_libvirt_forgot_how_it_ended_the_log_of_qemu_says_it(word: str) -> None:
    host = running().again()
    host.ended(word)
    assert kinds(host.look(u=UNKNOWN)) == ["process_crash"]
    assert kinds(host.look(u=UNKNOWN)) == kinds(host.again().look(u=UNKNOWN)) == []


@pytest.mark.parametrize("word", ["shutdown", "destroyed", "migrated", "saved", "from snapshot"])
def test_if_libvirt_forgot_that_it_was_stopped_the_log_of_qemu_says_it(word: str) -> None:
    host = running().again()
    host.ended(word)
    (found,) = host.look(u=UNKNOWN)
    assert found.failure is None and word in found.text


def test_if_nothing_tells_how_it_ended_the_operator_is_told_so_once() -> None:
    host = running().again()
    (found,) = host.look(u=UNKNOWN)
    assert found.failure is None and "not reported" in found.text
    assert host.look(u=UNKNOWN) == []


@pytest.mark.parametrize("how", ["seen running", "start seen"])
def test_an_end_that_stood_in_the_log_before_the_run_tells_nothing(how: str) -> None:
    host = Host()
    host.logs["name-u"] = End(host.now - 3, "crashed")
    assert kinds(host.look(u=UP) if how == "seen running" else host.event(2, 0)) == []
    (found,) = host.again().look(u=UNKNOWN)
    assert found.failure is None and "not reported" in found.text


def test_a_failure_that_the_log_dates_has_its_time_and_another_the_last_time_it_was_seen_alive() -> None:
    host = running().again()
    at = host.ended("crashed")
    assert [failure.failed_at for failure in failures(host.look(u=CRASHED))] == [at]
    assert [failure.failed_at for failure in failures(running().again().look(u=CRASHED))] == [1001.0]
    host = running()
    host.event(5, 1)
    host.event(2, 0)
    assert [failure.failed_at for failure in failures(host.again().look(u=CRASHED))] == [1003.0]


def test_a_start_that_failed_after_the_end_does_not_date_it() -> None:
    host = running().again()
    host.ended("failed")
    assert [failure.failed_at for failure in failures(host.look(u=FAILED))] == [1001.0]


def test_a_run_that_began_and_crashed_unseen_is_a_failure_once() -> None:
    host = running()
    host.event(5, 1)
    later = host.again()
    at = later.ended("crashed")
    (failure,) = failures(later.look(u=CRASHED))
    assert failure.failed_at == at
    assert kinds(later.look(u=CRASHED)) == kinds(later.again().look(u=UNKNOWN)) == []


def test_an_instance_made_and_crashed_unseen_is_a_failure_once() -> None:
    host = running().again()
    host.ended("crashed", "v")
    assert kinds(host.look(u=UP, v=UNKNOWN)) == ["process_crash"]
    assert kinds(host.look(u=UP, v=UNKNOWN)) == kinds(host.again().look(u=UP, v=UNKNOWN)) == []


@pytest.mark.parametrize("word", ["failed", "destroyed", "shutdown"])
def test_a_start_that_failed_unseen_and_a_run_that_was_stopped_unseen_are_none(word: str) -> None:
    host = running()
    host.event(5, 1)
    later = host.again()
    later.ended(word)
    assert later.look(u=UNKNOWN) == [] and later.look(u=FAILED) == []


def test_an_old_crash_of_an_instance_that_comes_back_to_this_host_is_none() -> None:
    host = Host()
    host.logs["name-u"] = End(850.0, "crashed")
    assert host.look(u=UNKNOWN) == []


def test_a_crash_that_was_reported_is_not_found_again_when_the_instance_is_redefined() -> None:
    host = running()
    host.event(5, 5)
    host.logs["name-u"] = End(host.now, "crashed")
    host.event(1, 0)
    host.event(0, 0)
    assert kinds(host.again().look(u=UNKNOWN)) == []
    host.look()
    assert kinds(host.again().look(u=UNKNOWN)) == []


def test_logs_are_read_only_for_what_starts_or_ends_or_may_have_run_unseen() -> None:
    host = running()
    host.event(5, 5)
    assert host.asked == ["name-u"] * 2
    for _ in range(3):
        host.look(u=CRASHED)
    assert host.asked == ["name-u"] * 2


# Clocks that are set back


def test_a_crash_whose_reason_libvirt_forgot_is_found_though_the_clock_was_set_back() -> None:
    later = running().again()
    later.clock_set_back()
    later.ended("crashed")
    (failure,) = failures(later.look(u=UNKNOWN))
    assert failure.kind == "process_crash" and failure.failed_at == failure.noticed_at == later.now
    assert later.again().look(u=UNKNOWN) == []


@pytest.mark.parametrize("seen", ["stop", "row", "first start"])
def test_a_run_that_began_and_crashed_unseen_is_found_though_the_clock_was_set_back(seen: str) -> None:
    host = Host(State()) if seen == "first start" else running()
    host.ended("destroyed")
    assert kinds(host.event(5, 1) if seen == "stop" else host.look(u=DESTROYED)) == []
    later = host.again()
    later.clock_set_back()
    later.ended("crashed")
    assert kinds(later.look(u=UNKNOWN)) == ["process_crash"]
    assert later.look(u=UNKNOWN) == later.again().look(u=UNKNOWN) == []


@pytest.mark.parametrize("seen", ["stop", "row"])
def test_a_crash_that_was_reported_is_not_found_again_when_the_clock_was_set_back(seen: str) -> None:
    host = running()
    host.ended("crashed")
    assert kinds(host.event(5, 5) if seen == "stop" else host.look(u=CRASHED)) == ["process_crash"]
    later = host.again()
    later.clock_set_back()
    assert later.look(u=CRASHED) == [] and later.again().look(u=UNKNOWN) == []


def test_what_libvirt_calls_dead_and_was_not_so_before_needs_no_clock() -> None:
    host = running()
    host.event(5, 1)
    later = host.again()
    later.clock_set_back()
    later.ended("crashed")
    assert kinds(later.look(u=CRASHED)) == ["process_crash"]
    assert later.look(u=CRASHED) == later.again().look(u=UNKNOWN) == []


@pytest.mark.parametrize("seen", ["stop", "start", "row"])
def test_a_later_end_that_the_log_shows_already_is_not_taken_for_the_one_before(seen: str) -> None:
    host = Host()
    host.logs["name-u"] = End(host.now + 5, "crashed")
    assert kinds(host.look(u=UP) if seen == "row" else host.event(5 if seen == "stop" else 2, 1)) == []
    assert kinds(host.again().look(u=UNKNOWN)) == ["process_crash"]


def test_an_end_of_before_the_first_start_stays_one_though_the_clock_was_set_back_since() -> None:
    host = Host(State())
    host.logs["name-u"] = End(host.now + 3600, "crashed")
    assert kinds(host.look(u=UNKNOWN)) == []
    assert host.again().look(u=UNKNOWN) == []


def test_an_end_that_libvirt_notes_twice_when_it_is_restarted_just_then_is_one() -> None:
    host = running()
    at = host.ended("crashed")
    assert kinds(host.event(5, 5)) == ["process_crash"]
    host.logs["name-u"] = End(at + 1, "unknown")
    assert host.again().look(u=UNKNOWN) == []


# Logs that can't be read


@pytest.mark.parametrize("before", ["stopped", "on its way here", "never heard of"])
def test_a_death_that_only_libvirt_knows_of_is_told_once_and_not_reported(before: str) -> None:
    host = running()
    if before != "never heard of":
        host.event(*((5, 1) if before == "stopped" else (2, 1)), uuid="v")
    later = host.again()
    (found,) = later.look(u=UP, v=CRASHED)
    assert found.uuid == "v" and found.failure is None and "not reported" in found.text
    assert later.look(u=UP, v=CRASHED) == later.again().look(u=UP, v=CRASHED) == []


@pytest.mark.parametrize("detail", [2, 5])
def test_a_death_that_was_reported_is_not_told_again_without_a_log(detail: int) -> None:
    host = running()
    host.event(5, detail)
    assert host.again().look(u=CRASHED) == host.again().look(u=DAEMON) == host.again().look(u=UNKNOWN) == []


@pytest.mark.parametrize("between", [DESTROYED, UNKNOWN])
def test_a_death_after_libvirt_forgot_the_one_before_is_told_without_a_log(between: tuple[int, int]) -> None:
    host = running()
    host.event(5, 5)
    later = host.again()
    assert later.look(u=between) == []
    (found,) = later.again().look(u=CRASHED)
    assert "not reported" in found.text


def test_a_guest_that_is_kept_after_its_crash_is_told_once_and_not_reported() -> None:
    host = running()
    (found,) = host.look(u=PRESERVED)
    assert found.failure is None and "on_crash" in found.text
    assert host.look(u=PRESERVED) == [] and host.again().look(u=PRESERVED) == []


def test_an_instance_that_is_gone_is_told_once_and_forgotten() -> None:
    host = running().again()
    (found,) = host.look()
    assert found.failure is None and "gone" in found.text
    assert host.look() == [] and host.state.records == {}


def test_an_instance_that_is_newer_than_the_look_is_kept() -> None:
    host = running()
    host.event(2, 0, uuid="v")
    host.look(began=0, u=UP)
    assert set(host.state.records) == {"u", "v"}


def test_an_instance_that_was_restarted_unseen_is_only_told() -> None:
    host = running().again()
    (found,) = host.look(run_id=8, u=UP)
    assert found.failure is None and "stopped and started" in found.text
    assert host.look(run_id=8, u=UP) == []


def test_what_is_kept_is_bounded_by_what_libvirt_has() -> None:
    host = running()
    for number in range(500):
        host.event(2, 0, uuid=f"v{number}")
        host.event(0, 2, uuid=f"v{number}", kind=WATCHDOG)
        host.event(5, 1, uuid=f"v{number}")
    host.look(u=UP)
    assert set(host.state.records) == set(host.ledger._told) == {"u"} >= set(host.ledger._contexts)


# Moves


def test_a_move_to_this_host_that_fails_is_no_failure() -> None:
    host = Host()
    host.event(2, 1)
    assert kinds(host.event(5, 5)) == []
    host = Host()
    host.look(u=PREPARED)
    assert kinds(host.event(5, 5)) == []
    host = Host()
    host.event(2, 1)
    assert kinds(host.again().look()) == []


@pytest.mark.parametrize("how", ["resumed", "seen running", "seen paused by a user"])
def test_once_it_has_arrived_its_crash_is_a_failure(how: str) -> None:
    host = Host()
    host.event(2, 1)
    if how == "resumed":
        host.event(4, 1)
    else:
        host.look(u=UP if how == "seen running" else PAUSED)
    assert kinds(host.event(5, 5)) == ["process_crash"]


def test_an_instance_that_arrived_and_crashed_unseen_is_a_failure() -> None:
    host = Host()
    host.event(2, 1)
    later = host.again()
    later.ended("crashed")
    assert kinds(later.look(u=CRASHED)) == ["process_crash"]


def test_a_guest_that_pauses_to_leave_this_host_still_runs_here() -> None:
    host = running()
    host.look(u=(3, 2))
    assert host.state.records["u"].state == RUNNING
    host.look(run_id=9, u=(3, 2))
    assert host.state.records["u"].state == INCOMING


# Starts of the monitor and of the host


def test_the_first_start_ever_records_and_reports_nothing() -> None:
    host = Host(State())
    host.logs["name-v"] = End(990.0, "crashed")
    (found,) = host.look(u=UP, v=CRASHED)
    assert found.failure is None and "first start" in found.text and "2 instances recorded" in found.text
    assert kinds(host.event(5, 5)) == ["process_crash"]
    assert host.again().look(u=CRASHED, v=CRASHED) == []


def test_after_a_boot_of_the_host_it_records_and_reports_nothing() -> None:
    old = State("boot-0", 900.0, {"u": Record("name-u", RUNNING, 800.0, 3, True)}, pending={"id": {"id": "id"}})
    host = Host(old)
    host.logs["name-u"] = End(950.0, "crashed")
    (found,) = host.look(u=CRASHED)
    assert found.failure is None and "booted" in found.text and "1 instance recorded" in found.text
    assert host.state.pending == {"id": {"id": "id"}}
    assert host.state.boot_id == BOOT


def test_a_crash_in_the_first_moments_after_a_boot_is_a_failure_and_the_first_look_still_only_records() -> None:
    old = State("boot-0", 900.0, {"u": Record("name-u", RUNNING, 800.0, 3, True)})
    host = Host(old)
    host.ledger.connected()
    assert kinds(host.event(5, 5)) == ["process_crash"]
    later = host.again()
    later.logs["name-v"] = End(950.0, "crashed")
    assert kinds(later.look(u=CRASHED, v=UNKNOWN)) == []


def test_a_failure_of_the_old_boot_that_waited_for_the_answer_is_dropped_with_a_word() -> None:
    waiting = Failure("u", "name-u", "process_crash", 890.0, 890.0, "its QEMU process died")
    host = Host(State("boot-0", 900.0, {}, {"u": waiting}))
    assert kinds(host.event(5, 5, ours=None, uuid="v")) == []
    found = host.look(u=UNKNOWN, v=CRASHED)
    assert [failure.uuid for failure in failures(found)] == ["v"]
    assert [one.text for one in found if one.uuid == "u" and "before the host booted" in one.text]
    assert host.state.undecided == {}
    assert host.look(u=UNKNOWN, v=CRASHED) == []


def test_nothing_of_an_earlier_boot_or_connection_colours_what_comes_now() -> None:
    host = Host(State("boot-0", 900.0, {"u": Record("name-u", INCOMING, 800.0, None, True)}))
    assert kinds(host.event(5, 5)) == ["process_crash"]
    host = running()
    host.event(6, 2)
    host.ledger.connected()
    (found,) = host.event(5, 0)
    assert found.text == "shut down"


def test_the_time_of_a_failure_is_never_later_than_it_was_noticed() -> None:
    host = running().again()
    host.logs["name-u"] = End(host.now + 3600, "crashed")
    (failure,) = failures(host.look(u=CRASHED))
    assert failure.failed_at == failure.noticed_at == host.now
    assert kinds(host.again().look(u=UNKNOWN)) == []


def test_only_changes_are_worth_a_write() -> None:
    host = running()
    host.ledger.changed = False
    host.event(3, 0)
    host.event(4, 0)
    host.event(0, 0)
    host.event(0, 0, kind=WATCHDOG)
    assert not host.ledger.changed
    host.event(2, 0)
    assert host.ledger.changed
