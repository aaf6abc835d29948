"""The HTTP side: answers, signatures, limits. The intake is a fake; the server is real where that matters."""

from __future__ import annotations

import io
import json
import logging
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests

from masakari.api import MAX_BODY, Answer, Api, Server, make_app, make_server
from masakari.common.clock import Clock
from masakari.common.errors import BadNotification, Unavailable
from masakari.common.notification import Notification, Receipt
from masakari.common.signature import HEADER, sign
from masakari.metrics import Metrics
from tests.unit.test_notification import HOST_DOWN, NOW, OURS, VM_DOWN
from tests.unit.test_signature import KEYS, SECRET


class StoppedClock(Clock):
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


class FakeIntake:
    """Keeps what was submitted; answers as told."""

    def __init__(self) -> None:
        self.submitted: list[tuple[Notification, bool, str | None, float]] = []
        self.receipt = Receipt(200, 12, "running", "host is down", False)
        self.error: Exception | None = None
        self.hold: threading.Barrier | None = None

    def submit(self, notification: Notification, trusted: bool, key_id: str | None, receipt: float) -> Receipt:
        if self.hold:
            self.hold.wait(10)
        if self.error:
            raise self.error
        self.submitted.append((notification, trusted, key_id, receipt))
        return self.receipt


class Controller:
    """The application with its surroundings, and a way to call it without a socket."""

    def __init__(self, mode: str = "open") -> None:
        self.intake = FakeIntake()
        self.metrics = Metrics()
        self.clock = StoppedClock()
        self.well, self.shown = True, {"status": "ok", "database": "ok", "nova": "ok"}
        self.app: Api = make_app(
            self.intake,
            lambda: (self.well, self.shown),
            self.metrics,
            KEYS,
            mode,
            self.clock,
            self.may_start,
            lambda environ: Answer.of(200, {"openstack": environ["PATH_INFO"]}),
        )
        self.asked: list[tuple[str, float]] = []
        self.away = False

    def may_start(self, host: str, up_s: float) -> tuple[bool, str]:
        """What the recoveries say; remembers who asked."""
        if self.away:
            raise Unavailable("the database is away")
        self.asked.append((host, up_s))
        return host != "compute-02", f"about {host}"

    def call(self, method: str, path: str, body: bytes = b"", **environ: str) -> tuple[str, dict[str, str], bytes]:
        """Status line, headers and body for one request."""
        started: list[Any] = []
        answer = self.app(
            {
                "REQUEST_METHOD": method,
                "PATH_INFO": path,
                "CONTENT_LENGTH": str(len(body)),
                "REMOTE_ADDR": "192.0.2.1",
                "wsgi.input": io.BytesIO(body),
                **environ,
            },
            lambda status, headers: started.append((status, dict(headers))),
        )
        return *started[0], b"".join(answer)

    def post(self, report: Any, signature: str | None = None) -> tuple[int, dict[str, Any]]:
        """Status and JSON for one callback."""
        body = report if isinstance(report, bytes) else json.dumps(report).encode()
        environ = {} if signature is None else {"HTTP_X_MASAKARI_SIGNATURE": signature}
        status, headers, answer = self.call("POST", "/", body, **environ)
        assert headers["Content-Type"] == "application/json"
        return int(status[:3]), json.loads(answer)

    def ask(self, query: str, key_id: str = "", at: float = NOW) -> tuple[int, dict[str, Any]]:
        """Status and JSON of GET /may-start, signed if a key is named."""
        environ = {"QUERY_STRING": query}
        if key_id:
            secret = KEYS[key_id].secret
            environ["HTTP_X_MASAKARI_SIGNATURE"] = sign(key_id, secret, f"/may-start?{query}".encode(), at)
        status, _, answer = self.call("GET", "/may-start", **environ)
        return int(status[:3]), json.loads(answer)

    def outcomes(self) -> list[str]:
        """What the metrics counted, as 'outcome n'."""
        found = [line for line in self.metrics.reports.render() if "{" in line]
        return [line.split('"')[1] + line.split("}")[1] for line in found]


def signed(report: Any, key_id: str = "k1", at: float = NOW) -> tuple[bytes, str]:
    """A body and its signature."""
    body = json.dumps(report).encode()
    return body, sign(key_id, KEYS[key_id].secret, body, at)


def test_an_accepted_callback_is_answered_with_its_recovery() -> None:
    controller = Controller()
    assert controller.post(HOST_DOWN) == (
        200,
        {"recovery": 12, "status": "running", "reason": "host is down", "known": False},
    )
    [(notification, trusted, key_id, receipt)] = controller.intake.submitted
    assert (notification.hostname, trusted, key_id, receipt) == ("compute-01", True, None, NOW)
    assert controller.outcomes() == ["accepted 1"]


def test_a_known_report_is_a_success_again() -> None:
    controller = Controller()
    controller.intake.receipt = Receipt(200, None, "ignored", "told before", True)
    assert controller.post(HOST_DOWN)[1] == {
        "recovery": None,
        "status": "ignored",
        "reason": "told before",
        "known": True,
    }
    assert controller.outcomes() == ["known 1"]


def test_a_bad_callback_is_refused_with_its_field_and_reaches_nobody() -> None:
    controller = Controller()
    assert controller.post({**HOST_DOWN, "hostname": "a b"}) == (
        400,
        {"error": "not a host name (letters, digits, - _ and single dots)", "field": "hostname"},
    )
    assert controller.post(b"{") == (
        400,
        {
            "error": "not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
            "field": "body",
        },
    )
    assert controller.post(b"")[0] == 400
    assert controller.intake.submitted == []
    assert controller.outcomes() == ["refused 3"]


def test_64_kib_are_accepted_and_a_byte_more_is_not() -> None:
    controller = Controller()
    body = json.dumps(HOST_DOWN).encode()
    assert controller.post(body + b" " * (MAX_BODY - len(body)))[0] == 200
    status, answer = controller.post(body + b" " * (MAX_BODY + 1 - len(body)))
    assert (status, answer) == (413, {"error": "65537 bytes, at most 65536 are accepted", "field": "body"})
    assert len(controller.intake.submitted) == 1


def test_what_intake_refuses_is_answered_with_its_status() -> None:
    controller = Controller()
    controller.intake.error = BadNotification("id", "stored before with another body", 409)
    assert controller.post(HOST_DOWN) == (409, {"error": "stored before with another body", "field": "id"})


def test_without_the_database_the_sender_is_told_to_come_back() -> None:
    controller = Controller()
    controller.intake.error = Unavailable("no connection to db1:3306")
    status, headers, body = controller.call("POST", "/", json.dumps(HOST_DOWN).encode())
    assert (status, headers["Retry-After"]) == ("503 Service Unavailable", "5")
    assert "db1" not in body.decode()
    assert json.loads(body)["field"] == ""
    assert controller.outcomes() == ["unavailable 1"]


@pytest.mark.parametrize("mode", ["signed", "hold", "open"])
def test_a_signed_callback_is_trusted_in_every_mode(mode: str) -> None:
    controller = Controller(mode)
    assert controller.post(*signed(HOST_DOWN))[0] == 200
    [(notification, trusted, key_id, _)] = controller.intake.submitted
    assert (trusted, key_id) == (True, "k1")
    assert notification.observer == "compute-01", "the key says who the observer is"


@pytest.mark.parametrize("mode", ["signed", "hold", "open"])
def test_a_wrong_signature_is_refused_in_every_mode(mode: str) -> None:
    controller = Controller(mode)
    body, signature = signed(HOST_DOWN)
    status, answer = controller.post(body + b" ", signature)
    assert (status, answer["field"]) == (401, HEADER)
    assert controller.post(body, "")[0] == 401
    status, answer = controller.post(*signed(HOST_DOWN, at=NOW - 300))
    assert status == 401
    assert "300 s behind the controller's clock" in answer["error"]
    assert controller.intake.submitted == []
    assert controller.outcomes() == ["unauthorised 3"]


def test_an_unsigned_callback_is_refused_held_or_believed() -> None:
    refusing, holding, believing = Controller("signed"), Controller("hold"), Controller("open")
    status, answer = refusing.post(HOST_DOWN)
    assert (status, answer["field"]) == (401, HEADER)
    assert refusing.intake.submitted == []
    assert holding.post(HOST_DOWN)[0] == 200
    assert holding.intake.submitted[0][1:3] == (False, None)
    assert believing.post(HOST_DOWN)[0] == 200
    assert believing.intake.submitted[0][1:3] == (True, None)


def test_without_a_signature_nothing_is_told_about_the_body() -> None:
    assert Controller("signed").post(b"no JSON")[1]["field"] == HEADER


def test_a_host_may_not_speak_for_others() -> None:
    controller = Controller("open")
    assert controller.post(*signed(VM_DOWN, "k2"))[0] == 403
    status, answer = controller.post(*signed({**HOST_DOWN, **OURS, "observer": "compute-09"}, "k2"))
    assert (status, answer["field"]) == (403, "observer")
    assert controller.intake.submitted == []


def test_keys_can_be_replaced_while_it_runs() -> None:
    controller = Controller("signed")
    controller.app.keys = {}
    assert controller.post(*signed(HOST_DOWN))[0] == 401


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("HEAD", "/"), ("POST", "/v1/segments"), ("PATCH", "/v1")])
def test_what_belongs_to_the_api_of_openstack_goes_there(method: str, path: str) -> None:
    line, _, body = Controller().call(method, path, b"{}")
    assert line.startswith("200")
    assert method == "HEAD" or json.loads(body) == {"openstack": path}


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("PUT", "/", 405, "POST"),
        ("POST", "/healthz", 405, "GET, HEAD"),
        ("DELETE", "/metrics", 405, "GET, HEAD"),
        ("POST", "/may-start", 405, "GET"),
        ("GET", "/nothing", 404, None),
        ("POST", "/healthz/", 404, None),
        ("POST", "/\xff\x00", 404, None),
    ],
)
def test_wrong_paths_and_methods(method: str, path: str, status: int, allow: str | None) -> None:
    controller = Controller()
    line, headers, body = controller.call(method, path, b"{}")
    assert int(line[:3]) == status
    assert headers.get("Allow") == allow
    if method == "HEAD":
        assert body == b""
    else:
        assert set(json.loads(body)) == {"error", "field"}


def test_health_shows_what_was_checked() -> None:
    controller = Controller()
    controller.shown = {"status": "degraded", "nova": "no answer"}
    status, _, body = controller.call("GET", "/healthz")
    assert (status, json.loads(body)) == ("200 OK", {"status": "degraded", "nova": "no answer"})
    controller.well = False
    assert controller.call("GET", "/healthz")[0] == "503 Service Unavailable"


def test_a_host_is_told_whether_it_may_start() -> None:
    controller = Controller("signed")
    assert controller.ask("host=compute-01", "k1") == (200, {"may_start": True, "reason": "about compute-01"})
    assert controller.ask("host=compute-02", "k2-new") == (200, {"may_start": False, "reason": "about compute-02"})
    assert controller.ask("host=compute-01&up_s=86400", "k1")[0] == 200
    assert controller.asked == [("compute-01", 0.0), ("compute-02", 0.0), ("compute-01", 86400.0)]
    assert controller.outcomes() == [], "no callback"


@pytest.mark.parametrize(
    ("query", "key_id", "at", "status", "field"),
    [
        ("host=compute-01", "", NOW, 401, HEADER),
        ("host=compute-02", "k1", NOW, 403, "host"),
        ("host=compute-01&host=compute-02", "k1", NOW, 403, "host"),
        ("host=compute-01", "k1", NOW - 121, 401, HEADER),
        ("", "k1", NOW, 400, "host"),
        ("host=a%20b", "k1", NOW, 400, "host"),
        ("host=%ff%0a", "k1", NOW, 400, "host"),
        ("host=compute-01&up_s=-1", "k1", NOW, 400, "up_s"),
        ("host=compute-01&up_s=nan", "k1", NOW, 400, "up_s"),
    ],
)
def test_a_host_asks_about_itself_alone_and_signs(query: str, key_id: str, at: float, status: int, field: str) -> None:
    controller = Controller("signed")
    answer = controller.ask(query, key_id, at)
    assert (answer[0], answer[1]["field"]) == (status, field)
    assert controller.asked == []


def test_the_signature_of_one_question_is_none_of_another() -> None:
    controller = Controller("signed")
    header = sign("k1", SECRET, b"/may-start?host=compute-02", NOW)
    environ = {"QUERY_STRING": "host=compute-01", "HTTP_X_MASAKARI_SIGNATURE": header}
    assert controller.call("GET", "/may-start", **environ)[0] == "401 Unauthorized"


@pytest.mark.parametrize("mode", ["open", "hold"])
def test_where_reports_need_no_signature_neither_does_the_question(mode: str) -> None:
    controller = Controller(mode)
    assert controller.ask("host=compute-02")[1]["may_start"] is False
    assert controller.ask("host=compute-02", "k1")[0] == 403, "a signature counts all the same"


def test_without_the_database_nobody_is_told_that_it_may_start() -> None:
    controller = Controller()
    controller.away = True
    status, told = controller.ask("host=compute-01")
    assert status == 503 and "may_start" not in told


def test_a_refused_question_is_a_warning_that_says_what_was_asked(caplog: pytest.LogCaptureFixture) -> None:
    Controller("signed").ask("host=compute-01")
    assert caplog.records[0].getMessage().startswith("refused GET /may-start from 192.0.2.1 with 401: ")


def test_metrics_are_in_prometheus_text() -> None:
    controller = Controller()
    controller.post(HOST_DOWN)
    status, headers, body = controller.call("GET", "/metrics")
    assert status == "200 OK"
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert b'masakari_reports_total{outcome="accepted"} 1\n' in body


def test_a_refusal_is_one_warning_and_its_repetition_none(caplog: pytest.LogCaptureFixture) -> None:
    controller = Controller()
    for _ in range(50):
        controller.post({**VM_DOWN, "uuid": "x"})
        controller.clock.at += 1
    controller.post({**VM_DOWN, "uuid": ""})
    assert [record.getMessage() for record in caplog.records] == [
        "refused a callback from 192.0.2.1 with 400: uuid: not a UUID",
        "refused a callback from 192.0.2.1 with 400: uuid: must not be empty (49 more since the last such line)",
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    controller.clock.at += 60
    controller.post({**VM_DOWN, "uuid": ""})
    assert len(caplog.records) == 3, "said again after a minute"


def test_a_flood_of_different_rubbish_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    controller = Controller()
    for number in range(500):
        controller.post(b'{"%d": 1, "%d": 2}' % (number, number))
        controller.clock.at += 0.01
    assert len(caplog.records) <= 6


def test_what_the_caller_sent_cant_forge_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    Controller().post(b'{"a\\nb": 1, "a\\nb": 2}')
    assert caplog.records[0].getMessage().endswith("400: 'a\\nb': given more than once")


# From here on with a real server and real sockets.


@contextmanager
def running(controller: Controller, **limits: int) -> Iterator[Server]:
    """A server for the controller on a free port."""
    server = make_server(controller.app, "127.0.0.1", 0, **limits)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join(10)
    assert not thread.is_alive()


def exchange(server: Server, request: bytes, patience_s: float = 5) -> bytes:
    """Send raw bytes and read until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=patience_s) as connection:
        connection.sendall(request)
        answer = b""
        while part := connection.recv(65536):
            answer += part
        return answer


def post_request(body: bytes, *headers: bytes) -> bytes:
    """A raw POST that asks to close the connection after it."""
    lines = [b"POST / HTTP/1.1", b"Host: x", b"Connection: close", *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def test_a_callback_over_a_socket_with_and_without_content_type() -> None:
    controller = Controller()
    with running(controller) as server:
        url = f"http://127.0.0.1:{server.port}/"
        with requests.Session() as session:
            assert session.post(url, json=HOST_DOWN, timeout=5).json()["recovery"] == 12
            answer = session.post(url, data=json.dumps(HOST_DOWN).encode(), timeout=5)
            assert answer.status_code == 200
            assert "Server" not in answer.headers
            assert session.get(url + "healthz", timeout=5).json()["status"] == "ok"
            assert session.post(url, data=b"x" * (MAX_BODY + 1), timeout=5).json()["field"] == "body"
            assert session.post(url, data=iter([b"{", b"}"]), timeout=5).json()["field"] == "type"
        # On its own connection: older waitress closes after a HEAD.
        assert requests.head(url + "healthz", timeout=5).status_code == 200
    assert len(controller.intake.submitted) == 2


def test_what_is_no_http_gets_a_plain_4xx_and_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    controller = Controller()
    chunked = b"Transfer-Encoding: chunked"
    with running(controller) as server:
        for request in [
            b"nonsense\r\n\r\n",
            b"post / HTTP/1.1\r\n\r\n",
            b"GET http://[ HTTP/1.1\r\n\r\n",
            b"GET /healthz HTTP/1.1\r\nno header\r\n\r\n",
            # As long as the limit and no longer: bytes left unread would reset the connection.
            post_request(b"", b"X: ".ljust(8192 - len(post_request(b"")) - 2, b"y")),
            post_request(b"", b"Content-Length: -1"),
            post_request(b"", b"Content-Length: " + b"9" * 5000),
            post_request(b"", b"Content-Length: 99999999"),
            post_request(b"zz\r\n", chunked),
            post_request(b"", b"Transfer-Encoding: gzip"),
            post_request(b"10000\r\n" + b"x" * 65536 + b"\r\n1\r\nx\r\n0\r\n\r\n", chunked),
        ]:
            status_line = exchange(server, request).split(b"\r\n")[0]
            assert re.fullmatch(rb"HTTP/1\.[01] 4\d\d .*", status_line), request[:40]
    assert controller.intake.submitted == []
    assert not [record for record in caplog.records if record.exc_info or record.levelno > logging.WARNING]


def test_a_body_that_ends_early_is_dropped_after_the_timeout() -> None:
    controller = Controller()
    with running(controller, timeout_s=1) as server:
        started = time.monotonic()
        assert exchange(server, post_request(b'{"id":', b"Content-Length: 100")) == b""
        assert 0.9 < time.monotonic() - started < 4
    assert controller.intake.submitted == []


def test_a_body_that_trickles_is_refused_after_the_timeout() -> None:
    controller = Controller()
    with running(controller, timeout_s=1) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=0.2) as connection:
            connection.sendall(post_request(b"", b"Content-Length: 100"))
            answer = b""
            for _ in range(20):
                try:
                    answer = connection.recv(65536)
                    break
                except TimeoutError:
                    connection.sendall(b"x")
        assert answer.startswith(b"HTTP/1.1 408 ")
    assert controller.intake.submitted == []


def test_a_caller_that_hangs_up_leaves_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    controller = Controller()
    body = json.dumps(HOST_DOWN).encode()
    with running(controller) as server:
        for request in [b"POST / HT", post_request(body, b"Content-Length: %d" % len(body))]:
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=5)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.sendall(request)
            connection.close()
        assert requests.get(f"http://127.0.0.1:{server.port}/healthz", timeout=5).status_code == 200
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.WARNING]


def test_64_senders_wait_for_their_commit_together_and_health_is_answered_meanwhile() -> None:
    controller = Controller()
    gate = controller.intake.hold = threading.Barrier(65)
    answers: list[int] = []
    with running(controller) as server:
        url = f"http://127.0.0.1:{server.port}/"

        def send() -> None:
            with requests.Session() as session:
                for _ in range(2):
                    answers.append(session.post(url, json=HOST_DOWN, timeout=10).status_code)

        senders = [threading.Thread(target=send) for _ in range(64)]
        for sender in senders:
            sender.start()
        assert requests.get(url + "healthz", timeout=5).status_code == 200
        for _ in range(2):
            gate.wait(10)
        for sender in senders:
            sender.join(10)
    assert answers == [200] * 128


def test_further_connections_wait_until_one_is_free() -> None:
    controller = Controller()
    with running(controller, connections=2, timeout_s=1) as server:
        address = ("127.0.0.1", server.port)
        idle = [socket.create_connection(address, timeout=5) for _ in range(2)]
        time.sleep(0.1)
        started = time.monotonic()
        assert requests.get(f"http://127.0.0.1:{server.port}/healthz", timeout=10).status_code == 200
        assert time.monotonic() - started > 0.5, "waited until an idle one was closed"
        for connection in idle:
            connection.close()


def test_a_request_in_hand_is_finished_when_the_server_stops() -> None:
    controller = Controller()
    gate = controller.intake.hold = threading.Barrier(2)
    answers: list[int] = []
    with running(controller) as server:
        url = f"http://127.0.0.1:{server.port}/"
        sender = threading.Thread(
            target=lambda: answers.append(requests.post(url, json=HOST_DOWN, timeout=10).status_code)
        )
        sender.start()
        while gate.n_waiting == 0:
            time.sleep(0.01)
        server.close()
        server.close()
        gate.wait(5)
        sender.join(10)
    assert answers == [200]
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", server.port), timeout=5)


def test_a_port_in_use_is_an_error_at_once() -> None:
    with running(Controller()) as server, pytest.raises(OSError, match="in use"):
        make_server(Controller().app, "127.0.0.1", server.port)


def test_secrets_stay_out_of_answers_and_logs(caplog: pytest.LogCaptureFixture) -> None:
    controller = Controller("signed")
    answers = [controller.post(*signed(HOST_DOWN, at=NOW + 500)), controller.post(b"{}", f"key={SECRET}")]
    assert SECRET not in str(answers) + caplog.text
