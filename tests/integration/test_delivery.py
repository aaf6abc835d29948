"""A spool and a sender against a real controller that is killed, and against what may stand in front of one: each report is on
record there exactly once, whatever happened on the way."""

from __future__ import annotations

import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from masakari.common.callbacks import Callbacks
from masakari.common.clock import Clock
from masakari.common.post import Answer, post
from masakari.common.sender import Delivery, Sender
from masakari.common.signature import HEADER
from masakari.common.spool import Spool
from masakari.config import Db
from tests.lab.mariadb import until
from tests.lab.processes import CloudProcess, ControllerProcess, Monitor, free_port, secret

HOST = "compute1"
SOON_S = 30
LIMIT_S = 1.0
"""How long a try may take here."""


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControllerProcess]:
    """A controller on a database of its own, in a small simulated cloud."""
    folder = tmp_path_factory.mktemp("delivery")
    with CloudProcess(folder, hosts="compute1,compute2") as cloud:
        db = Db(drivername="sqlite", name=str(folder / "vm_ha.sqlite"))
        with ControllerProcess(folder / "controller", db, cloud.remote.auth_url) as started:
            yield started


class Node:
    """A host's spool, and its sender in a thread."""

    def __init__(self, folder: Path) -> None:
        self.spool = Spool(str(folder / "spool"), Clock(), max_bytes=1 << 24, max_age_s=86400)
        self.delivery = Delivery((), LIMIT_S, 0.2, 1000, 3600)
        self.key = (HOST, secret(HOST))
        self.answers: list[dict[str, Any]] = []
        self.stopping = threading.Event()
        callbacks = Callbacks(post, lambda: self.delivery, lambda: self.key, Clock())
        self.sender = Sender(
            self.spool,
            lambda: callbacks,
            lambda: self.delivery,
            Clock(),
            lambda body, waited_s: body,
            lambda body, answer: self.answers.append(dict(answer)),
        )
        self.thread = threading.Thread(target=self.sender.run, args=(self.stopping,), daemon=True)

    def start(self, *urls: str) -> None:
        """Deliver to these from now on."""
        self.delivery = Delivery(urls, LIMIT_S, 0.2, 1000, 3600)
        self.thread.start()

    def report(self, **changes: Any) -> str:
        """Something failed; the id of the report of it."""
        body = Monitor(HOST).process_down(process="cron", on_failure="report", **changes)
        self.spool.put(body)
        self.sender.poke()
        return str(body["id"])

    def until_delivered(self, within_s: float = SOON_S) -> None:
        until(lambda: self.spool.waiting() == 0, within_s, self.sender.status)

    def stop(self) -> None:
        """End the thread."""
        self.stopping.set()
        self.sender.poke()
        if self.thread.is_alive():
            self.thread.join(10)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    yield made
    made.stop()


def on_record(controller: ControllerProcess, ids: list[str]) -> list[int]:
    """How often the controller's database has each of these reports."""
    database = controller.config.parent.parent / "vm_ha.sqlite"
    link = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        query = "SELECT COUNT(*) FROM notification_list WHERE notification_id = ?"
        return [link.execute(query, (report_id,)).fetchone()[0] for report_id in ids]
    finally:
        link.close()


Behaviour = Callable[[socket.socket, bytes, threading.Event], object]


class Front:
    """Stands in front of the controller, which gets every request; what comes back is up to the behaviours, in this order, and
    then the true answer."""

    def __init__(self, url: str, *behaviours: Behaviour) -> None:
        self._to = url
        self._behaviours = list(behaviours)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.over = threading.Event()
        self.asked = 0
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self.over.set()
        self._listener.close()

    def _serve(self) -> None:
        while not self.over.is_set():
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(link,), daemon=True).start()

    def _answer(self, link: socket.socket) -> None:
        with link:
            try:
                head, body = read_request(link)
                self.asked += 1
                true = post(self._to, body, {HEADER: head[HEADER.lower()]}, 10, "")
                behave = self._behaviours.pop(0) if self._behaviours else honest
                behave(link, response(true), self.over)
            except OSError:
                return  # the sender has hung up


def read_request(link: socket.socket) -> tuple[dict[str, str], bytes]:
    """The headers, by their names in small letters, and the body."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += link.recv(65536)
    top, _, body = received.partition(b"\r\n\r\n")
    lines = top.decode().split("\r\n")[1:]
    head = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    while len(body) < int(head["content-length"]):
        body += link.recv(65536)
    return head, body


def response(answer: Answer) -> bytes:
    top = f"HTTP/1.1 {answer.status} As told\r\nContent-Length: {len(answer.body)}\r\n\r\n"
    return top.encode() + answer.body


def honest(link: socket.socket, true: bytes, over: threading.Event) -> None:
    link.sendall(true)


def drip(link: socket.socket, true: bytes, over: threading.Event) -> None:
    """Each byte in time, all of them never."""
    for number in range(len(true)):
        link.sendall(true[number : number + 1])
        over.wait(LIMIT_S / 10)


def half(link: socket.socket, true: bytes, over: threading.Event) -> None:
    link.sendall(true[:-20])


def nothing(link: socket.socket, true: bytes, over: threading.Event) -> None:
    """Close without a word."""


def too_late(link: socket.socket, true: bytes, over: threading.Event) -> None:
    over.wait(LIMIT_S * 1.5)
    link.sendall(true)


def overloaded(link: socket.socket, true: bytes, over: threading.Event) -> None:
    link.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")


@pytest.fixture
def front(controller: ControllerProcess) -> Iterator[Callable[..., Front]]:
    made: list[Front] = []

    def make(*behaviours: Behaviour) -> Front:
        made.append(Front(controller.url, *behaviours))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_controller_that_is_killed_again_and_again_has_every_report_once(
    controller: ControllerProcess, node: Node
) -> None:
    node.start(controller.url)
    ids: list[str] = []
    for _ in range(3):
        ids += [node.report() for _ in range(20)]
        until(lambda: bool(node.answers), SOON_S, node.sender.status)
        controller.kill()
        node.answers.clear()
        ids += [node.report() for _ in range(5)]
        controller.start()
    node.until_delivered()
    assert on_record(controller, ids) == [1] * 75


@pytest.mark.parametrize("behave", [drip, half, nothing, too_late, overloaded])
def test_an_answer_that_got_lost_is_asked_for_again_under_the_same_id(
    controller: ControllerProcess, node: Node, front: Callable[..., Front], behave: Behaviour
) -> None:
    between = front(behave, behave)
    ids = [node.report(), node.report()]
    node.start(between.url)
    node.until_delivered()
    node.stop()
    assert on_record(controller, ids) == [1, 1]
    assert node.answers[0]["known"], "the controller had it all the time"
    assert between.asked >= 4, "two that got lost, and one for each report"


def test_the_second_controller_is_asked_at_once_when_nobody_is_at_the_first(
    controller: ControllerProcess, node: Node
) -> None:
    node.start(f"http://127.0.0.1:{free_port()}/", controller.url)
    begun = time.monotonic()
    ids = [node.report() for _ in range(10)]
    node.until_delivered()
    assert time.monotonic() - begun < 10
    assert on_record(controller, ids) == [1] * 10


def test_a_first_controller_that_never_answers_costs_its_time_limit_once(
    controller: ControllerProcess, node: Node
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        node.start(f"http://127.0.0.1:{silent.getsockname()[1]}/", controller.url)
        ids = [node.report() for _ in range(10)]
        node.until_delivered()
        silent.settimeout(1)
        tries = 0
        while True:
            try:
                silent.accept()[0].close()
            except TimeoutError:
                break
            tries += 1
    assert on_record(controller, ids) == [1] * 10
    assert 1 <= tries < 10, "the second one stays the first choice"


def test_a_wrong_key_costs_nothing_but_time(
    controller: ControllerProcess, node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    right, node.key = node.key, (HOST, "the secret of somebody else")
    node.start(controller.url)
    ids = [node.report(), node.report()]
    until(lambda: "answered HTTP 401" in caplog.text, SOON_S, lambda: caplog.text)
    assert on_record(controller, ids) == [0, 0]
    node.key = right
    node.until_delivered()
    assert on_record(controller, ids) == [1, 1]
    assert "somebody else" not in caplog.text


def test_what_the_controller_calls_malformed_is_set_aside_and_holds_up_nothing(
    controller: ControllerProcess, node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    bad = node.report(time="yesterday")
    good = node.report()
    node.start(controller.url)
    node.until_delivered()
    assert (node.spool.aside(), on_record(controller, [bad, good])) == (1, [0, 1])
    assert f"report {bad} is set aside: the controller refuses it for good: HTTP 400, time: not a time" in caplog.text
