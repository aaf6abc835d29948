"""What an operator may do, and reads, without a controller at work: on a SQLite file."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from masakari import admin, admin_cli, admin_lists, admin_retry, admin_spares, admin_text, hosts, identity, store
from masakari.admin import Operator, Refused
from masakari.common.errors import ConfigError
from masakari.common.text import sql_time
from masakari.config import Db, Settings
from masakari.database import Tx, open_database
from masakari.model import Recovery
from tests.simcloud.clock import VirtualClock

CLUSTER = "226.94.1.1:5405"
ROOT = Path(__file__).resolve().parents[2]


class Office:
    """An operator, a database with rows, and the clock of that database."""

    def __init__(self, folder: Path) -> None:
        self.clock = VirtualClock()
        db = open_database(Db(drivername="sqlite", name=str(folder / "vm_ha.sqlite")), self.clock)
        self.operator = Operator(db, Settings(), "bob")
        self.tx(lambda tx: identity.see(tx, [identity.Told("compute1", CLUSTER, 0.0)], {}, self.clock.now()))

    def tx(self, func: Callable[[Tx], Any]) -> Any:
        return self.operator.db.transaction(func)

    def recovery(self, status: str = "new", hold: str | None = None, **fields: Any) -> int:
        """A recovery with this status."""
        now = self.clock.now()
        known: dict[str, Any] = {"kind": "host", "hostname": "compute1", "cluster_port": CLUSTER, "step": "prove"}
        values = {**known, **fields}
        held = "held" if hold else "new"
        made: int = self.tx(lambda tx: store.add(tx, **values, now=now, status=held, hold=hold, reason="because"))
        if status not in ("new", "held"):
            self.tx(lambda tx: tx.execute("recovery_end", id=made, status=status, reason="so it ended", now=now))
        return made

    def instance(self, recovery: int, uuid: str = "uuid-1", status: str = "failed", reason: str = "stuck") -> None:
        """An instance of a recovery."""
        row = store.instance_row(uuid, "vm", recovery, "host", self.clock.now(), status=status, reason=reason)
        self.tx(lambda tx: tx.execute_many("instance_add", [row]))

    def report(self, name: str, recovery: int | None, progress: int, reason: str = "") -> None:
        """A stored report."""
        columns = (
            "type region_id hostname uuid time event_id event_type detail start_time end_time tzname daylight "
            "cluster_port recover_by observer key_id body"
        )
        row = dict.fromkeys(columns.split())
        now = self.clock.now()
        row |= {"type": "rscGroup", "hostname": "compute1", "event_id": "1", "event_type": "2", "detail": "2"}
        row |= {"create_at": sql_time(now), "deleted": 0, "notification_id": name, "progress": progress}
        row |= {"received_at": now, "self_report": 0, "trusted": 1, "outcome": "opened", "reason": reason}
        row |= {"generated_at": now}
        self.tx(lambda tx: tx.execute("report_add", **row, recovery_id=recovery))

    def row(self, recovery: int) -> Recovery:
        return Recovery.of(self.operator.db.read(lambda tx: tx.all("recovery_by_id", id=recovery))[0])

    def journal(self, recovery: int) -> list[tuple[str, str]]:
        """Who wrote what."""
        rows = self.operator.db.read(lambda tx: tx.all("event_list", recovery_id=recovery))
        return [(row["actor"], row["what"]) for row in rows]


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


# Holds


@pytest.mark.parametrize("hold", sorted(set(admin_text.HOLDS) - set(admin.RELEASABLE)))
def test_only_two_holds_are_released_and_the_others_say_what_to_do(office: Office, hold: str) -> None:
    recovery = office.recovery(hold=hold)
    with pytest.raises(Refused, match="What to do: ") as refused:
        admin.release(office.operator, recovery)
    assert admin_text.HOLDS[hold].split("{")[0] in str(refused.value)
    assert (office.row(recovery).released, office.journal(recovery)) == (False, [])


@pytest.mark.parametrize("hold", admin.RELEASABLE)
def test_a_release_is_on_record_with_the_name_of_who_gave_it(office: Office, hold: str) -> None:
    recovery = office.recovery(hold=hold)
    admin.release(office.operator, recovery)
    assert office.row(recovery).released
    ((actor, what),) = office.journal(recovery)
    assert (actor, what.startswith(f"release from the hold {hold}")) == ("operator:bob", True)


@pytest.mark.parametrize("page", ["docs/recovery.md", "docs/operating.md"])
def test_there_is_a_word_of_advice_for_every_hold_that_is_documented(page: str) -> None:
    table = (ROOT / page).read_text().split("| hold |", 1)[1].split("\n\n", 1)[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == set(admin_text.HOLDS)


# Cancel, attest, retry: what is refused


def test_what_has_ended_is_not_cancelled_and_says_how_to_try_again(office: Office) -> None:
    recovery = office.recovery("failed")
    with pytest.raises(Refused, match=f"has ended .*retry {recovery}"):
        admin.cancel(office.operator, recovery)


def test_a_second_cancel_says_who_cancelled(office: Office) -> None:
    recovery = office.recovery()
    admin.cancel(office.operator, recovery)
    second = admin.cancel(replace(office.operator, name="eve"), recovery)
    assert "already, by bob" in second.text
    assert office.row(recovery).cancel_by == "bob"


@pytest.mark.parametrize("status", ["finished", "ignored"])
def test_what_did_not_fail_is_not_tried_again(office: Office, status: str) -> None:
    with pytest.raises(Refused, match="only what failed or was cancelled"):
        admin_retry.retry(office.operator, office.recovery(status))


def test_a_held_recovery_is_not_tried_again_but_says_what_it_waits_for(office: Office) -> None:
    with pytest.raises(Refused, match=r"held \(proof\): check that compute1 is really off"):
        admin_retry.retry(office.operator, office.recovery(hold="proof"))


def test_only_the_newest_recovery_of_a_host_is_tried_again(office: Office) -> None:
    first, second = office.recovery("failed"), office.recovery("failed")
    with pytest.raises(Refused, match=f"recovery {second} .*newer"):
        admin_retry.retry(office.operator, first)
    admin_retry.retry(office.operator, second)
    with pytest.raises(Refused, match=f"recovery {second} .* is open"):
        admin_retry.retry(office.operator, first)


def test_a_cancelled_recovery_in_between_does_not_matter(office: Office) -> None:
    first, _ = office.recovery("failed"), office.recovery("cancelled")
    admin_retry.retry(office.operator, first)
    assert office.row(first).status == "new"


def test_a_retry_forgets_what_must_be_found_out_anew(office: Office) -> None:
    data = {
        "boot_id": "b",
        "report": "r",
        "isolated_at": 5.0,
        "nova_down_since": 4.0,
        "first_sent_at": 6.0,
        "end": ["x"],
    }
    recovery = office.recovery("failed", step="evacuate", data=data)
    admin_retry.retry(office.operator, recovery)
    again = office.row(recovery)
    assert (again.status, again.step, again.released) == ("new", "prove", True)
    assert again.data == {"boot_id": "b", "report": "r", "sent_before": True}
    assert office.journal(recovery) == [("operator:bob", "retry, from prove")]


def test_a_retry_leaves_an_instance_that_another_recovery_is_at(office: Office) -> None:
    other, recovery = office.recovery(kind="host", hostname="compute2"), office.recovery("failed")
    office.instance(recovery, "uuid-1")
    office.instance(recovery, "uuid-2")
    office.instance(other, "uuid-2", status="running")
    told = admin_retry.retry(office.operator, recovery).text
    assert "with 1 of its instances (vm left as they are: another recovery is at them)" in told
    assert office.operator.db.read(lambda tx: [i.status for i in store.instances(tx, recovery)]) == ["new", "failed"]


def test_an_instance_recovery_is_not_tried_again_while_its_host_is_evacuated(office: Office) -> None:
    recovery = office.recovery("failed", kind="instance", uuid="uuid-1", step="start")
    office.instance(recovery, "uuid-1")
    office.instance(office.recovery(), "uuid-1", status="running")
    with pytest.raises(Refused, match="another recovery is at instance uuid-1"):
        admin_retry.retry(office.operator, recovery)
    assert office.row(recovery).status == "failed"


def test_only_a_host_can_be_attested_to_be_off(office: Office) -> None:
    recovery = office.recovery("failed", kind="process", process="libvirtd", step="disable")
    with pytest.raises(Refused, match="only a host"):
        admin_retry.retry(office.operator, recovery, attested=True)


def test_a_host_without_an_open_recovery_is_not_attested(office: Office) -> None:
    with pytest.raises(Refused, match="none ever was: is the name right"):
        admin.attest(office.operator, "compute11", "")
    recovery = office.recovery("failed")
    with pytest.raises(Refused, match=f"retry {recovery} --attest"):
        admin.attest(office.operator, "compute1", "")
    assert office.operator.db.read(lambda tx: tx.all("evidence_newest", hostname="compute1")) == []


def test_an_attested_proof_is_dated_by_the_clock_of_the_database(office: Office) -> None:
    recovery = office.recovery(hold="proof")
    office.clock.advance(100)
    admin.attest(office.operator, "compute1", "pulled the plug")
    (proof,) = office.operator.db.read(lambda tx: hosts.known(tx, "compute1", 0.0)).proofs
    assert (proof.kind, proof.at, proof.observer, proof.detail) == (
        "attested",
        office.clock.now(),
        "operator:bob",
        "pulled the plug",
    )
    assert office.journal(recovery) == [("operator:bob", "attest: compute1 is off")]


def test_a_number_that_is_no_recovery_is_refused(office: Office) -> None:
    acts: list[Callable[[], object]] = [
        lambda: admin.release(office.operator, 9),
        lambda: admin.cancel(office.operator, 9),
        lambda: admin_retry.retry(office.operator, 9),
        lambda: admin_lists.show(office.operator, 9),
    ]
    for act in acts:
        with pytest.raises(Refused, match="there is no recovery 9"):
            act()


# Segments


def test_a_pause_of_a_segment_that_nobody_knows_is_refused(office: Office) -> None:
    with pytest.raises(Refused, match=f"known are: {CLUSTER}"):
        admin.pause(office.operator, "226.94.1.1:5406", None)


def test_a_resume_of_what_is_not_paused_says_what_is(office: Office) -> None:
    admin.pause(office.operator, CLUSTER, 7200)
    with pytest.raises(Refused, match=rf"not all segments are paused; .*Segment {CLUSTER} is paused since .* by bob"):
        admin.resume(office.operator, "*")
    admin.resume(office.operator, CLUSTER)
    with pytest.raises(Refused, match="is not paused"):
        admin.resume(office.operator, CLUSTER)


def test_every_act_during_a_pause_says_that_nothing_happens_before_it_ends(office: Office) -> None:
    recovery = office.recovery(hold="many")
    admin.pause(office.operator, "*", None)
    assert "nothing happens before it is resumed" in admin.release(office.operator, recovery).text
    assert "nothing happens before it is resumed" in admin.cancel(office.operator, recovery).text
    assert ("operator:bob", "pause") in office.journal(recovery)


def test_every_list_says_what_keeps_everything_from_moving(office: Office) -> None:
    office.operator = replace(
        office.operator, settings=replace(Settings(), safety=replace(Settings().safety, mode="observe"))
    )
    admin.pause(office.operator, CLUSTER, None)
    for answer in (
        admin_lists.list_recoveries(office.operator, 5),
        admin_lists.list_reports(office.operator, 5),
        admin_lists.list_instances(office.operator, 5),
        admin_spares.list_spares(office.operator, None),
    ):
        assert f"PAUSED: Segment {CLUSTER}" in answer.text
        assert "OBSERVE MODE" in answer.text and "NO CONTROLLER" in answer.text
        assert len(answer.data["notices"]) == 3


def test_a_recovery_method_is_set_and_taken_back(office: Office) -> None:
    def method() -> str:
        return str(office.operator.db.read(lambda tx: hosts.recovery_method(tx, CLUSTER, "reserved_host")))

    admin.set_method(office.operator, CLUSTER, "auto")
    assert method() == "auto"
    admin.set_method(office.operator, CLUSTER, None)
    assert method() == "reserved_host"
    assert "is known yet" in admin.set_method(office.operator, "new:1", "auto").text


# Spares


def test_a_spare_is_listed_replaced_and_deleted(office: Office) -> None:
    def listed() -> list[tuple[str, str]]:
        rows = admin_spares.list_spares(office.operator, CLUSTER).data["spares"]
        return [(row["hostname"], row["state"]) for row in rows]

    admin_spares.add_spare(office.operator, CLUSTER, "compute8")
    admin_spares.add_spare(office.operator, "other:1", "compute5")
    assert listed() == [("compute8", "free")]
    admin_spares.rename_spare(office.operator, CLUSTER, "compute8", "compute9")
    assert listed() == [("compute9", "free")]
    admin_spares.delete_spare(office.operator, CLUSTER, "compute9")
    assert listed() == []


def test_a_host_is_a_spare_of_one_segment_at_most(office: Office) -> None:
    admin_spares.add_spare(office.operator, CLUSTER, "compute8")
    admin_spares.add_spare(office.operator, CLUSTER, "compute9")
    with pytest.raises(Refused, match=f"compute8 is a spare of {CLUSTER} already"):
        admin_spares.add_spare(office.operator, "other:1", "compute8")
    with pytest.raises(Refused, match=r"compute8 is a spare of .* already"):
        admin_spares.rename_spare(office.operator, CLUSTER, "compute9", "compute8")


def test_a_spare_that_is_not_there_is_refused_with_where_it_is(office: Office) -> None:
    with pytest.raises(Refused, match="compute8 is no spare of"):
        admin_spares.delete_spare(office.operator, CLUSTER, "compute8")
    admin_spares.add_spare(office.operator, "other:1", "compute8")
    with pytest.raises(Refused, match="is a spare of other:1, not of"):
        admin_spares.delete_spare(office.operator, CLUSTER, "compute8")
    with pytest.raises(Refused, match="is a spare of other:1, not of"):
        admin_spares.rename_spare(office.operator, CLUSTER, "compute8", "compute9")


@pytest.mark.parametrize("kind", ["host", "return"])
def test_a_host_with_a_recovery_of_its_own_is_no_spare(office: Office, kind: str) -> None:
    recovery = office.recovery(kind=kind)
    with pytest.raises(Refused, match=rf"compute1 has an open recovery itself \({recovery}, {kind}"):
        admin_spares.add_spare(office.operator, CLUSTER, "compute1")


def test_a_spare_in_use_is_shown_and_can_neither_be_added_nor_deleted(office: Office) -> None:
    admin_spares.add_spare(office.operator, CLUSTER, "compute8")
    recovery = office.recovery()

    def take(tx: Tx) -> None:
        (spare,) = hosts.free_spares(tx, CLUSTER)
        assert hosts.take_spare(tx, spare["id"], recovery, office.clock.now())
        tx.execute("recovery_claim", id=recovery, owner="c", lease_s=60)
        claimed = store.get(tx, recovery)
        assert claimed is not None
        store.save(tx, claimed, replace(claimed, status="running", target="compute8"), 0.0, 0.0, None)

    office.tx(take)
    (row,) = admin_spares.list_spares(office.operator, None).data["spares"]
    assert (row["hostname"], row["state"]) == ("compute8", f"in use by recovery {recovery} of compute1")
    for act in (admin_spares.add_spare, admin_spares.delete_spare):
        with pytest.raises(Refused, match=f"compute8 serves recovery {recovery} as its spare"):
            act(office.operator, CLUSTER, "compute8")


def test_a_spare_that_could_not_be_used_says_why(office: Office) -> None:
    now = office.clock.now()
    evidence = hosts.evidence_row("compute8", CLUSTER, hosts.Evidence("power_off", now), now)
    office.tx(lambda tx: tx.execute("evidence_add", **evidence))
    assert (
        "can't be used: there is evidence that it is off"
        in admin_spares.add_spare(office.operator, CLUSTER, "compute8").text
    )
    assert "not usable: there is evidence that it is off" in admin_spares.list_spares(office.operator, None).text


def test_a_recovery_that_waits_for_a_spare_looks_at_once(office: Office) -> None:
    recovery = office.recovery(hold="no_spare")
    before = office.row(recovery).wakes
    admin_spares.add_spare(office.operator, CLUSTER, "compute8")
    assert office.row(recovery).wakes == before + 1


# Instances seen to by hand, old rows


def test_a_failed_instance_is_finished_by_the_operators_word(office: Office) -> None:
    recovery = office.recovery("failed")
    office.instance(recovery)
    admin.declare_finished(office.operator, "uuid-1")
    (instance,) = office.operator.db.read(lambda tx: store.instances(tx, recovery))
    assert (instance.status, instance.reason) == ("finished", "set by operator:bob; before: stuck")
    assert office.journal(recovery) == [("operator:bob", "vm set to finished")]
    assert "nothing to change" in admin.declare_finished(office.operator, "uuid-1").text


@pytest.mark.parametrize("status", ["new", "failed"])
def test_an_instance_that_a_recovery_is_at_is_not_declared_finished(office: Office, status: str) -> None:
    recovery = office.recovery()
    office.instance(recovery, status=status)
    with pytest.raises(Refused, match=f"recovery {recovery} is at instance uuid-1"):
        admin.declare_finished(office.operator, "uuid-1")


def test_an_instance_that_nobody_knows_is_refused(office: Office) -> None:
    with pytest.raises(Refused, match="no recovery ever had"):
        admin.declare_finished(office.operator, "uuid-1")


def test_only_what_ended_long_ago_is_deleted(office: Office) -> None:
    old, kept_open = office.recovery("finished"), office.recovery(hold="proof")
    office.report("r1", old, 2)
    office.report("r2", kept_open, 1)
    office.clock.advance(31 * 86400)
    young = office.recovery("failed", hostname="compute2")
    assert admin.delete_old(office.operator).data["deleted"] == 2
    rows = admin_lists.list_recoveries(office.operator, 100).data["recoveries"]
    assert [row["id"] for row in rows] == [kept_open, young]


# What is shown


def test_pending_held_and_failed_reports_are_shown_however_old(office: Office) -> None:
    failed, held = office.recovery("failed"), office.recovery(hold="proof")
    office.report("old-failed", failed, 3)
    office.report("old-held", held, 1)
    for number in range(5):
        office.report(f"new-{number}", None, 4, "host is up")
    rows = admin_lists.list_reports(office.operator, 2).data["reports"]
    assert [(row["notification_id"], row["state"], row["reason"]) for row in rows] == [
        ("old-failed", "failed", "so it ended"),
        ("old-held", "held (proof)", "because"),
        ("new-3", "ignored", "host is up"),
        ("new-4", "ignored", "host is up"),
    ]


def test_lists_say_what_to_do_about_what_is_held(office: Office) -> None:
    recovery = office.recovery(hold="proof")
    office.report("r", recovery, 1)
    for answer in (
        admin_lists.list_recoveries(office.operator, 5),
        admin_lists.list_reports(office.operator, 5),
        admin_lists.list_instances(office.operator, 5),
    ):
        assert f"Recovery {recovery} is held (proof): check that compute1 is really off" in answer.text


def test_the_instance_list_shows_work_and_old_failures_first(office: Office) -> None:
    recovery = office.recovery("failed")
    office.instance(recovery, "uuid-1")
    for number in range(4):
        office.instance(recovery, f"uuid-x{number}", status="skipped", reason="left alone")
    rows = admin_lists.list_instances(office.operator, 2).data["instances"]
    assert [(row["uuid"], row["state"]) for row in rows] == [
        ("uuid-1", "failed"),
        ("uuid-x2", "skipped"),
        ("uuid-x3", "skipped"),
    ]


def event(at: float, kind: str, what: str, **fields: Any) -> dict[str, Any]:
    blank = {"actor": "c1", "step": "prove", "reason": "", "request_id": None, "uuid": None, "epoch": 1}
    return {**blank, "at": at, "kind": kind, "what": what, **fields}


STORY = (
    event(1000.0, "opened", "host is down", reason="report r", actor="intake"),
    event(1000.5, "transition", "new/prove -> running/isolate", reason="power read back as off"),
    event(1000.5, "intent", "force down", step="isolate"),
    event(1000.7, "answer", "force down accepted", step="isolate", request_id="req-1"),
    event(1001.0, "transition", "running/isolate -> held/isolate (changed)"),
    event(1002.0, "transition", "held/isolate (changed) -> running/reserve"),
    event(1002.1, "transition", "vm-1: finished", uuid="uuid-1"),
    event(1002.5, "transition", "running/reserve -> failed/reserve"),
)


def test_a_story_has_times_between_lines_phases_and_request_ids() -> None:
    lines = admin_text.told(STORY, 1000.0)
    assert [line["since_s"] for line in lines] == [0.0, 0.5, 0.0, 0.2, 0.3, 1.0, 0.1, 0.4]
    assert [(line["phase"], line["phase_s"]) for line in lines if line["phase"]] == [
        ("prove", 0.5),
        ("isolate", 1.5),
        ("reserve", 0.5),
    ]
    assert admin_text.phases(lines) == "prove 0.50 s, isolate 1.50 s, reserve 0.50 s"
    text = admin_text.story(lines).splitlines()
    assert re.fullmatch(r"-- \d{4}-\d\d-\d\d, UTC[+-]\d{4}", text[0])
    assert text[2].endswith(
        "+0.50 s  c1      transition  new/prove -> running/isolate: power read back as off  (prove took 0.50 s)"
    )
    assert text[4].endswith("+0.20 s  c1      answer      force down accepted  [req-1]")


def test_a_table_is_aligned_and_what_came_from_outside_is_one_clean_line() -> None:
    rows = [{"host": "c1", "why": "a\x1b[31mb\nc"}, {"host": "compute10", "why": None}]
    assert admin_text.table(rows, (("HOST", "host"), ("WHY", "why"))).splitlines() == [
        "HOST       WHY",
        "c1         a [31mb c",
        "compute10  -",
    ]
    assert admin_text.table([], (("HOST", "host"),)) == "none"


def test_json_has_times_in_utc() -> None:
    assert admin_text.jsonable({"rows": [{"opened_at": 0.0, "ended_at": None, "n": 1.5}]}) == {
        "rows": [{"opened_at": "1970-01-01T00:00:00Z", "ended_at": None, "n": 1.5}]
    }


@pytest.mark.parametrize(("text", "expected"), [("90s", 90), ("15m", 900), ("2h", 7200), ("1D", 86400)])
def test_durations_are_understood(text: str, expected: float) -> None:
    assert admin_text.duration(text) == expected


@pytest.mark.parametrize("text", ["", "2", "h", "0h", "-1h", "1.5h", "2h30m", "2 weeks"])
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        admin_text.duration(text)


@pytest.mark.parametrize(
    ("value", "text"), [(0.004, "0.00 s"), (59.4, "59 s"), (185, "3 min 5 s"), (7500, "2 h 5 min"), (273600, "3 d 4 h")]
)
def test_durations_are_told(value: float, text: str) -> None:
    assert admin_text.seconds(value) == text


# Which database


def given(config: Path | str, **options: str | None) -> argparse.Namespace:
    return argparse.Namespace(config=str(config), **{"db_user": None, "db_password": None, "db_host": None, **options})


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "masakari.conf"
    path.write_text(
        "[db]\nhost = db1\nport = 3307\nuser = masakari\npasswd = from-file\n[vmha_data_manage]\nperiod = 7\n"
    )
    return path


def test_the_database_is_that_of_the_file_unless_options_say_otherwise(conf: Path) -> None:
    db = admin_cli.read_settings(given(conf)).db
    assert (db.host, db.port, db.user, db.passwd) == ("db1", 3307, "masakari", "from-file")
    db = admin_cli.read_settings(given(conf, db_user="root", db_host="db2")).db
    assert (db.host, db.port, db.user, db.passwd) == ("db2", 3307, "root", "from-file")


def test_options_of_the_database_suffice_without_a_file_and_mean_mysql(tmp_path: Path) -> None:
    db = admin_cli.read_settings(given(tmp_path / "none", db_user="root", db_password="p", db_host="127.0.0.1")).db
    assert (db.drivername, db.name, db.port, db.user, db.passwd) == ("mysql", "vm_ha", 3306, "root", "p")


def test_options_of_the_database_mean_mysql_where_the_file_says_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "masakari.conf"
    path.write_text(f"[db]\ndrivername = sqlite\nname = {tmp_path}/x.sqlite\n")
    assert admin_cli.read_settings(given(path)).db.drivername == "sqlite"
    db = admin_cli.read_settings(given(path, db_user="root")).db
    assert (db.drivername, db.name, db.host) == ("mysql", "vm_ha", "127.0.0.1")


def test_the_password_may_come_from_the_environment(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(admin_cli.PASSWORD_VARIABLE, "from-environment")
    assert admin_cli.read_settings(given(conf)).db.passwd == "from-environment"
    assert admin_cli.read_settings(given(conf, db_password="from-option")).db.passwd == "from-option"


def test_a_missing_user_or_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        admin_cli.read_settings(given(tmp_path / "none"))
    with pytest.raises(ConfigError, match="which database user"):
        admin_cli.read_settings(given(tmp_path / "none", db_host="db1"))


def test_what_is_wrong_elsewhere_in_the_file_does_not_keep_an_operator_out(conf: Path) -> None:
    conf.write_text(conf.read_text() + "[wsgi]\nserver_port = nonsense\n[nova]\nunknown = 1\n")
    assert admin_cli.read_settings(given(conf)).vmha_data_manage.period == 7


def test_what_is_wrong_with_the_database_in_the_file_is_said(conf: Path) -> None:
    conf.write_text(conf.read_text().replace("3307", "nonsense"))
    with pytest.raises(ConfigError, match=r"\[db\] port"):
        admin_cli.read_settings(given(conf))


def test_behind_sudo_the_journal_names_who_called_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "alice")
    assert admin_cli.login_name() == "alice"
