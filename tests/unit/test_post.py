"""One POST against servers that behave badly, over real sockets: done or given up within its time."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from masakari.common.errors import Unavailable
from masakari.common.post import get, post

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
Behaviour = Callable[[socket.socket], object]


class Server:
    """Accepts connections on loopback and treats each as told."""

    def __init__(self, behave: Behaviour, context: ssl.SSLContext | None = None) -> None:
        self._behave = behave
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.received = b""
        self.over = threading.Event()
        self.url = f"{'https' if context else 'http'}://localhost:{self._listener.getsockname()[1]}/"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self.over.set()
        self._listener.close()

    def _serve(self) -> None:
        while not self.over.is_set():
            try:
                link, _ = self._listener.accept()
                with self._context.wrap_socket(link, server_side=True) if self._context else link as link:
                    self.received = link.recv(65536)
                    while b"\r\n\r\n" not in self.received or not self.received.endswith(b"}"):
                        self.received += link.recv(65536)
                    self._behave(link)
            except OSError:
                continue


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def make(behave: Behaviour, context: ssl.SSLContext | None = None) -> Server:
        servers.append(Server(behave, context))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


def test_the_body_and_the_headers_arrive_and_so_does_the_answer(serve: Callable[..., Server]) -> None:
    server = serve(lambda link: link.sendall(OK))
    answer = post(server.url, b'{"id": 1}', {"X-Masakari-Signature": "key=k"}, 5)
    assert (answer.status, answer.body) == (200, b"{}")
    head, _, body = server.received.partition(b"\r\n\r\n")
    assert head.startswith(b"POST / HTTP/1.1\r\n") and b"X-Masakari-Signature: key=k" in head
    assert body == b'{"id": 1}'


def test_what_is_asked_for_has_no_body(serve: Callable[..., Server]) -> None:
    def behave(link: socket.socket) -> None:
        raise AssertionError("a body came")

    server = serve(behave)
    with pytest.raises(Unavailable, match=r"gave no complete answer within 0\.3 s"):
        get(f"{server.url}may-start?host=c", {"X-Masakari-Signature": "key=k"}, 0.3)
    head, _, body = server.received.partition(b"\r\n\r\n")
    assert head.startswith(b"GET /may-start?host=c HTTP/1.1\r\n") and b"X-Masakari-Signature: key=k" in head
    assert body == b"" and b"Content-" not in head


def test_an_error_is_an_answer_like_any_other(serve: Callable[..., Server]) -> None:
    server = serve(lambda link: link.sendall(b"HTTP/1.1 503 Gone\r\nContent-Length: 4\r\n\r\nlate"))
    assert post(server.url, b"{}", {}, 5).status == 503


def test_an_answer_of_any_length_is_read_up_to_a_limit(serve: Callable[..., Server]) -> None:
    server = serve(lambda link: link.sendall(b"HTTP/1.1 500 Oops\r\n\r\n" + b"x" * 200_000))
    assert len(post(server.url, b"{}", {}, 5).body) == 65536


def test_who_expects_a_long_answer_gets_it_whole_with_its_headers(serve: Callable[..., Server]) -> None:
    head = b"HTTP/1.1 201 Created\r\nX-Subject-Token: gAAA\r\nContent-Length: 200000\r\n\r\n"
    server = serve(lambda link: link.sendall(head + b"x" * 200_000))
    answer = post(server.url, b"{}", {}, 5, "", 1 << 20)
    assert (len(answer.body), answer.headers["x-subject-token"]) == (200_000, "gAAA")
    assert "gAAA" not in repr(answer)
    with pytest.raises(Unavailable, match="in the middle of its answer"):
        post(server.url, b"{}", {}, 5)


def drip(link: socket.socket) -> None:
    """An answer byte by byte, each within any time-out for a single read."""
    for number in range(len(OK)):
        time.sleep(0.05)
        link.sendall(OK[number : number + 1])


def late(link: socket.socket) -> None:
    """A whole answer, after the time limit."""
    time.sleep(1)
    link.sendall(OK)


@pytest.mark.parametrize("behave", [drip, late])
def test_what_takes_too_long_in_all_is_given_up_in_time(serve: Callable[..., Server], behave: Behaviour) -> None:
    server = serve(behave)
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"gave no complete answer within 0\.3 s"):
        post(server.url, b"{}", {}, 0.3)
    assert time.monotonic() - began < 0.9


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"", "closed the connection without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{}", "in the middle of its answer"),
        (b"what is this\r\n\r\n", "what is this"),
    ],
)
def test_half_an_answer_is_none(serve: Callable[..., Server], sent: bytes, words: str) -> None:
    server = serve(lambda link: link.sendall(sent))
    with pytest.raises(Unavailable, match=words):
        post(server.url, b"{}", {}, 5)


def test_nobody_there_is_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(Unavailable, match=f"http://127.0.0.1:{port}/: Connection refused"):
        post(f"http://127.0.0.1:{port}/", b"{}", {}, 5)
    assert time.monotonic() - began < 2


def test_a_name_that_is_none_is_told() -> None:
    with pytest.raises(Unavailable, match="no-such-host"):
        post("http://no-such-host.invalid:15868/", b"{}", {}, 5)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost", "-keyout", f"{path}.key", "-out", str(path)),
        ],
        check=True,
        capture_output=True,
    )
    return path


def test_https_with_a_bundle_of_its_own(serve: Callable[..., Server], certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, f"{certificate}.key")
    server = serve(lambda link: link.sendall(OK), context)
    assert post(server.url, b"{}", {}, 5, str(certificate)).status == 200
    with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
        post(server.url, b"{}", {}, 5)
    with pytest.raises(Unavailable, match="certificates in /nowhere can't be read"):
        post(server.url, b"{}", {}, 5, "/nowhere")


def test_https_that_takes_too_long_is_given_up_in_time(serve: Callable[..., Server], certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, f"{certificate}.key")
    server = serve(drip, context)
    with pytest.raises(Unavailable, match=r"gave no complete answer within 0\.5 s"):
        post(server.url, b"{}", {}, 0.5, str(certificate))
