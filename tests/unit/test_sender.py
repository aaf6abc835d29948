"""Delivery: nothing lost, oldest first, whatever the controller does; in virtual time."""

from __future__ import annotations

import json
import threading
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from masakari.common.callbacks import Callbacks
from masakari.common.clock import Clock
from masakari.common.errors import Unavailable
from masakari.common.post import Answer
from masakari.common.sender import Delivery, Sender, pause_s
from masakari.common.signature import HEADER, verify
from masakari.common.spool import Spool

ONE, TWO = "http://one:15868", "http://two:15868"
SECRET = "0123456789abcdef"
OK = b'{"recovery": 7, "status": "new", "reason": "QEMU process died", "known": false}'


class Time(Clock):
    """Time that passes when somebody waits."""

    def __init__(self) -> None:
        self.at = 1_790_000_000.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


class Controllers:
    """What answers at the URLs: a rule (url, body) -> Answer, or Unavailable to raise."""

    def __init__(self) -> None:
        self.rule: Callable[[str, dict[str, Any]], Answer | Unavailable] = lambda url, body: Answer(200, OK)
        self.asked: list[tuple[str, str]] = []
        self.delivered: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[Mapping[str, str]] = []

    def post(self, url: str, body: bytes, headers: Mapping[str, str], timeout_s: float, ca_bundle: str) -> Answer:
        content = json.loads(body)
        self.asked.append((url, content["id"]))
        self.bodies.append(content)
        self.headers.append(headers)
        answer = self.rule(url, content)
        if isinstance(answer, Unavailable):
            raise answer
        if answer.status == 200:
            self.delivered.append(content["id"])
        return answer


class Stage:
    """A sender on a real spool."""

    def __init__(self, folder: Path) -> None:
        self.time = Time()
        self.controllers = Controllers()
        self.spool = Spool(str(folder / "spool"), self.time, max_bytes=1 << 24, max_age_s=7 * 86400)
        self.delivery = Delivery((ONE, TWO), 10, 10, 12, 240)
        self.key: tuple[str, str] | None = ("key1", SECRET)
        self.answers: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = []
        self.callbacks = Callbacks(self.controllers.post, lambda: self.delivery, lambda: self.key, self.time)
        self.sender = self.new_sender()

    def new_sender(self) -> Sender:
        return Sender(
            self.spool,
            lambda: self.callbacks,
            lambda: self.delivery,
            self.time,
            lambda body, waited_s: {**body, "waited_s": waited_s},
            lambda body, answer: self.answers.append((body, answer)),
            lambda: 1.0,
        )

    def put(self, *ids: str, **more: str) -> None:
        for report_id in ids:
            self.spool.put({"id": report_id, "type": "VM", "hostname": "compute1", "uuid": f"vm-{report_id}", **more})

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        end = self.time.at + seconds
        while self.time.at < end:
            self.time.at = min(end, self.time.at + self.sender.step())


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def refuse(status: int, **words: str) -> Answer:
    return Answer(status, json.dumps(words).encode())


def test_a_report_goes_to_the_first_controller_at_once(stage: Stage) -> None:
    stage.put("a", "b")
    stage.run(0.001)
    assert stage.controllers.asked == [(ONE, "a"), (ONE, "b")]
    assert stage.spool.waiting() == 0
    assert stage.answers[0][1]["recovery"] == 7
    assert stage.sender.status() == ""


def test_each_try_is_signed_afresh(stage: Stage) -> None:
    stage.controllers.rule = lambda url, body: refuse(503)
    stage.put("a")
    stage.run(500)
    stage.controllers.rule = lambda url, body: Answer(200, OK)
    stage.run(10)

    class Key:
        host, cluster_port, secret = "compute1", "c", SECRET

    raw = json.dumps(stage.controllers.bodies[-1]).encode()
    assert verify(stage.controllers.headers[-1][HEADER], raw, {"key1": Key()}, stage.time.now())[0] == "key1"
    assert len({headers[HEADER] for headers in stage.controllers.headers}) > 10


def test_without_a_key_reports_are_sent_unsigned(stage: Stage) -> None:
    stage.key = None
    stage.put("a")
    stage.run(1)
    assert stage.controllers.headers == [{}]


@pytest.mark.parametrize("status", [400, 413, 422])
def test_what_is_malformed_is_set_aside_and_told(stage: Stage, status: int, caplog: pytest.LogCaptureFixture) -> None:
    bad = refuse(status, error="not a time", field="time")
    stage.controllers.rule = lambda url, body: bad if body["id"] == "bad" else Answer(200, OK)
    stage.put("bad", "good")
    stage.run(1)
    assert stage.controllers.delivered == ["good"]
    assert (stage.spool.waiting(), stage.spool.aside()) == (0, 1)
    assert f"HTTP {status}, time: not a time" in caplog.text
    assert stage.sender.status() == "1 report refused for good and set aside: see the log"


@pytest.mark.parametrize("status", [301, 401, 403, 404, 405, 408, 409, 429, 500, 502, 503])
def test_anything_else_is_kept_until_it_is_taken(stage: Stage, status: int) -> None:
    stage.controllers.rule = lambda url, body: refuse(status, error="no", field="")
    stage.put("a", "b", "c")
    stage.run(3600)
    assert (stage.spool.waiting(), stage.spool.aside()) == (3, 0)
    assert f"HTTP {status}, no" in stage.sender.status()
    stage.controllers.rule = lambda url, body: Answer(200, OK)
    stage.run(11)
    assert sorted(stage.controllers.delivered) == ["a", "b", "c"]


def test_nobody_there_costs_no_order(stage: Stage) -> None:
    stage.controllers.rule = lambda url, body: Unavailable(f"{url}: Connection refused")
    stage.put("a", "b", "c")
    stage.run(3600)
    assert {asked[1] for asked in stage.controllers.asked} == {"a"}
    stage.controllers.rule = lambda url, body: Answer(200, OK)
    stage.run(11)
    assert stage.controllers.delivered == ["a", "b", "c"]


def test_the_second_controller_is_asked_at_once_and_stays_the_first_choice(stage: Stage) -> None:
    stage.controllers.rule = lambda url, body: Answer(200, OK) if url == TWO else Unavailable(f"{url}: refused")
    stage.put("a", "b")
    stage.run(0.001)
    assert stage.controllers.asked == [(ONE, "a"), (TWO, "a"), (TWO, "b")]
    stage.controllers.rule = lambda url, body: refuse(503) if url == TWO else Answer(200, OK)
    stage.put("c")
    stage.run(31)
    assert stage.controllers.asked[-2:] == [(TWO, "c"), (ONE, "c")]


def test_one_that_alone_is_refused_lets_the_next_pass_and_is_tried_again(stage: Stage) -> None:
    stage.controllers.rule = lambda url, body: refuse(500) if body["id"] == "odd" else Answer(200, OK)
    stage.put("odd", "b", "c")
    stage.run(20)
    assert stage.controllers.delivered == ["b", "c"]
    assert [asked[1] for asked in stage.controllers.asked[:8]] == ["odd"] * 6 + ["b", "c"]
    stage.put("d")
    stage.run(31)
    assert stage.controllers.delivered == ["b", "c", "d"]
    stage.controllers.rule = lambda url, body: Answer(200, OK)
    stage.run(11)
    assert stage.controllers.delivered == ["b", "c", "d", "odd"]


@pytest.mark.parametrize("status", [403, 500])
def test_many_that_are_refused_let_the_others_pass(stage: Stage, status: int) -> None:
    stage.controllers.rule = lambda url, body: refuse(status) if "odd" in body["id"] else Answer(200, OK)
    stage.put("odd-1", "odd-2", "odd-3", "odd-4", "good")
    stage.run(60)
    assert stage.controllers.delivered == ["good"]
    assert stage.spool.waiting() == 4


def test_a_controller_that_refuses_everything_costs_no_order(stage: Stage) -> None:
    ids = [f"id-{number}" for number in range(20)]
    stage.controllers.rule = lambda url, body: refuse(503)
    stage.put(*ids)
    stage.run(3600)
    stage.controllers.rule = lambda url, body: Answer(200, OK)
    stage.run(11)
    late = stage.controllers.delivered[:16]
    assert sorted(stage.controllers.delivered) == sorted(ids)
    assert late == [report_id for report_id in ids if report_id in late]


def test_pauses_grow_up_to_the_interval_and_differ_from_node_to_node() -> None:
    assert [pause_s(tries, 10, 1.0) for tries in range(1, 8)] == [0.625, 1.25, 2.5, 5, 10, 10, 10]
    assert pause_s(7, 10, 0.0) == 5
    assert pause_s(10**6, 10, 1.0) == 10


def test_the_settings_are_a_pace_and_an_alarm_and_nothing_is_given_up(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.delivery = Delivery((ONE,), 10, 2, 5, 240)
    stage.controllers.rule = lambda url, body: Unavailable(f"{url}: Connection refused")
    stage.put("a")
    stage.run(3600)
    assert 1700 < len(stage.controllers.asked) < 1900
    assert caplog.text.count("1 report undelivered after 5 tries") == 1
    assert caplog.text.count("and tried again") == 1
    caplog.clear()
    stage.controllers.rule = lambda url, body: Answer(200, OK)
    with caplog.at_level("INFO"):
        stage.run(3)
    assert "delivered again after 3602 s; 0 more wait" in caplog.text


def test_what_waited_more_than_a_minute_is_brought_up_to_date(stage: Stage) -> None:
    stage.put("a")
    stage.run(1)
    stage.controllers.rule = lambda url, body: Unavailable("away")
    stage.put("b")
    stage.run(200)
    stage.controllers.rule = lambda url, body: Answer(200, OK)
    stage.run(31)
    assert "waited_s" not in stage.controllers.bodies[0]
    assert "waited_s" not in stage.controllers.bodies[2]
    assert 200 <= stage.controllers.bodies[-1]["waited_s"] <= 211


@pytest.mark.parametrize("said", [b"<html>It works!</html>", b"", b"[]", b"{}", b'{"recovery": 7, "sta'])
def test_a_2xx_of_somebody_else_ends_a_report_and_is_told(
    stage: Stage, said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    stage.controllers.rule = lambda url, body: Answer(202, said)
    stage.put("a")
    stage.run(1)
    assert stage.spool.waiting() == 0
    assert f"{ONE} took a report, but does not answer as a Masakari controller" in caplog.text


@pytest.mark.parametrize("status", [403, 500])
def test_one_that_is_refused_for_days_neither_delays_the_others_nor_fills_the_log(
    stage: Stage, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    stage.controllers.rule = lambda url, body: refuse(status, error="no") if body["id"] == "old" else Answer(200, OK)
    stage.put("old")
    for number in range(50):
        stage.run(60)
        stage.put(f"id-{number}")
        if number == 0:
            stage.run(60)  # until now it may have been the controller
        assert stage.sender.step() == 0.0 or number == 0
        assert stage.controllers.delivered[-1] == f"id-{number}", "a new report waits for nobody"
    assert caplog.text.count("report old (VM compute1 vm-old) is refused: ") == 1
    assert len(caplog.records) < 10
    assert "no" in stage.sender.status()
    tries = sum(1 for _, report_id in stage.controllers.asked if report_id == "old")
    assert 300 < tries / 2 < 700, "it is tried every 5 to 10 s"


def test_what_stands_back_is_not_overtaken_by_news_about_the_same(stage: Stage) -> None:
    broken = True
    stage.controllers.rule = lambda url, body: refuse(500) if broken and body["id"] == "down" else Answer(200, OK)
    stage.put("down", uuid="", process="sshd", state="down")
    stage.put("up", uuid="", process="sshd", state="up")
    stage.put("other", uuid="", process="cron", state="down")
    stage.run(120)
    assert stage.controllers.delivered == ["other"]
    broken = False
    stage.run(20)
    assert stage.controllers.delivered == ["other", "down", "up"]


def test_a_new_report_is_sent_at_once_by_the_running_thread(stage: Stage) -> None:
    stopping, sent = threading.Event(), threading.Event()

    def rule(url: str, body: dict[str, Any]) -> Answer:
        sent.set()
        return Answer(200, OK)

    stage.controllers.rule = rule
    thread = threading.Thread(target=stage.sender.run, args=(stopping,), daemon=True)
    thread.start()
    stage.put("a")
    stage.sender.poke()
    assert sent.wait(10)
    stopping.set()
    stage.sender.poke()
    thread.join(10)
    assert not thread.is_alive()


def test_a_day_without_a_controller(stage: Stage) -> None:
    """2,000 reports a day, at odd moments: memory stays flat, the spool within bounds, and all of them arrive, in order."""
    stage.controllers.rule = lambda url, body: Unavailable(f"{url}: Connection refused")
    sizes = []
    tracemalloc.start()
    for number in range(2000):
        stage.put(f"id-{number}")
        stage.run(43.2)
        stage.controllers.asked.clear()
        stage.controllers.bodies.clear()
        stage.controllers.headers.clear()
        if number % 200 == 199:
            sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert stage.spool.waiting() == 2000
    assert sizes[-1] - sizes[0] < 1800 * 400, "more than the names of the reports grows"
    stage.sender = stage.new_sender()
    stage.controllers.rule = lambda url, body: Answer(200, OK)
    stage.run(60)
    assert stage.controllers.delivered == [f"id-{number}" for number in range(2000)]
    assert stage.spool.waiting() == 0


def test_a_disk_that_gives_a_report_back_later_delays_it_only(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    real = stage.spool.read
    broken = True

    def read(report_id: str) -> Any:
        if broken:
            raise OSError(24, "Too many open files")
        return real(report_id)

    stage.spool.read = read  # type: ignore[method-assign]
    stage.put("a", "b")
    stage.run(60)
    assert stage.controllers.asked == []
    assert caplog.text.count("can't be read from the disk") == 1
    assert "can't be read from the disk" in stage.sender.status()
    broken = False
    stage.run(11)
    assert stage.controllers.delivered == ["a", "b"]


def test_a_report_from_the_future_is_brought_back(stage: Stage) -> None:
    """The clock of the node was ahead, and has been put right."""
    stage.put("a")
    stage.time.at -= 48 * 3600
    stage.run(1)
    assert stage.controllers.bodies[0]["waited_s"] < -47 * 3600
