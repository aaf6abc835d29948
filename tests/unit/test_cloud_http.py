"""One exchange over real sockets: what is bounded, and what is known when there is no answer."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from masakari.cloud_http import BODY_MAX_BYTES, NoReply, Reply, exchange, new_session
from masakari.common.clock import Clock

SHORT_S = (0.5, 0.3)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

# For 127.0.0.1, good for a hundred years, and known to everybody.
TLS_PEM = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgihGyFzaMHwBcw5hZ
UtY5oupP3iheNRZn+ETN9xmluy2hRANCAAQYR76Yuuai1GXfaVRF7Fh+3ipJQPg6
nF9qqoP0uLmESIhzeo5c+mQ3A3nSRuTso3w9GaXpja2sQbrM3Lmjo8ea
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBXDCCAQKgAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhv
c3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBQxEjAQBgNVBAMM
CWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABBhHvpi65qLUZd9p
VEXsWH7eKklA+DqcX2qqg/S4uYRIiHN6jlz6ZDcDedJG5OyjfD0ZpemNraxBuszc
uaOjx5qjQzBBMA8GA1UdEwEB/wQFMAMBAf8wDwYDVR0RBAgwBocEfwAAATAdBgNV
HQ4EFgQU5f0jN13ShDHul+vGNXJ6nSfu6oowCgYIKoZIzj0EAwIDSAAwRQIgVziu
N570gJAI8B0jDABnrHOP2Qf72FkrI/anGx8UuyICIQCzrHXl1bJLK9QNfWTtnIyy
RrZZSYxztghDaJFN7c5P2g==
-----END CERTIFICATE-----
"""


class Server:
    """Accepts connections on loopback and lets a function deal with each, in a thread of its own."""

    def __init__(self, deal: Callable[[socket.socket], None], tls: ssl.SSLContext | None = None) -> None:
        self.connections = 0
        self._deal, self._tls = deal, tls
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._listener.getsockname()[1]}/"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with self._tls.wrap_socket(connection, server_side=True) if self._tls else connection as wire:
                self._deal(wire)
        except OSError:
            pass


Serve = Callable[..., Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[Server] = []

    def start(deal: Callable[[socket.socket], None], tls: ssl.SSLContext | None = None) -> Server:
        servers.append(Server(deal, tls))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def ask(url: str, session: requests.Session | None = None, body: bytes | None = b"{}") -> Reply:
    return exchange(session or new_session(), Clock(), "POST", url, {"X-A": "b"}, body, SHORT_S)


def no_reply(url: str, session: requests.Session | None = None) -> NoReply:
    with pytest.raises(NoReply) as failed:
        ask(url, session)
    return failed.value


def read_request(wire: socket.socket) -> bytes:
    """Headers and body, or b"" when the other side has closed the connection."""
    data = b""
    while True:
        head, end, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        if end and len(body) >= (int(length[1]) if length else 0):
            return data
        more = wire.recv(65536)
        if not more:
            return b""
        data += more


def answering(*parts: bytes) -> Callable[[socket.socket], None]:
    """Reads a request, and sends these bytes."""

    def deal(wire: socket.socket) -> None:
        read_request(wire)
        for part in parts:
            wire.sendall(part)

    return deal


def test_an_answer_is_read_whole(serve: Serve) -> None:
    server = serve(answering(b"HTTP/1.1 404 Not Found\r\nx-openstack-request-id: req-1\r\n\r\n", b"a" * 999_999))
    reply = ask(server.url)
    assert (reply.status, reply.request_id, len(reply.body)) == (404, "req-1", 999_999)


def test_a_redirect_is_not_followed(serve: Serve) -> None:
    server = serve(answering(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"))
    assert ask(server.url).status == 302
    assert server.connections == 1


def test_the_request_says_nothing_but_what_it_must(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []

    def deal(wire: socket.socket) -> None:
        seen.append(read_request(wire))
        wire.sendall(OK)

    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    ask(serve(deal).url)
    names = {line.partition(b":")[0].lower() for line in seen[0].split(b"\r\n\r\n")[0].split(b"\r\n")[1:]}
    wanted = {b"host", b"user-agent", b"accept", b"accept-encoding", b"x-a", b"content-length"}
    assert names == wanted


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}/"


def test_a_refused_connection_sent_nothing() -> None:
    error = no_reply(closed_port())
    assert (error.result, error.maybe_sent) == ("refused", False)
    assert "Connection refused" in str(error)


def test_an_address_that_is_none_sent_nothing() -> None:
    for url in ("nova.example:8774", "http://", "http://[::/"):
        error = no_reply(url)
        assert (error.result, error.maybe_sent) == ("refused", False)


def test_a_connection_that_is_not_accepted_sent_nothing() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(2)]
        for other in waiting:
            other.setblocking(False)
            other.connect_ex(address)
        error = no_reply(f"http://127.0.0.1:{address[1]}/")
        for other in waiting:
            other.close()
    assert (error.result, error.maybe_sent) == ("refused", False)
    assert str(error) == "no connection within 0.5 s"


@pytest.mark.parametrize(
    ("deal", "result"),
    [
        (answering(), "lost"),
        (answering(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"), "lost"),
        (answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhalf"), "lost"),
        (answering(b"not HTTP\r\n\r\n"), "lost"),
        (lambda wire: wire.close(), "lost"),
        (lambda wire: threading.Event().wait(2), "timeout"),
    ],
)
def test_a_request_without_a_whole_answer_may_have_arrived(
    serve: Serve, deal: Callable[[socket.socket], None], result: str
) -> None:
    error = no_reply(serve(deal).url)
    assert (error.result, error.maybe_sent) == (result, True)


def test_half_an_answer_and_then_silence_is_a_time_out(serve: Serve) -> None:
    def deal(wire: socket.socket) -> None:
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")(wire)
        threading.Event().wait(2)

    error = no_reply(serve(deal).url)
    assert (error.result, error.maybe_sent) == ("timeout", True)


def test_an_answer_that_drips_is_given_up(serve: Serve) -> None:
    def deal(wire: socket.socket) -> None:
        answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")(wire)
        while True:
            wire.sendall(b"1\r\nx\r\n")
            threading.Event().wait(0.05)

    error = no_reply(serve(deal).url)
    assert (error.result, error.maybe_sent) == ("timeout", True)


def test_an_answer_without_end_is_given_up(serve: Serve) -> None:
    piece = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    pieces = [piece] * (BODY_MAX_BYTES // 0x100000 + 1)
    server = serve(answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *pieces))
    with pytest.raises(NoReply) as failed:
        exchange(new_session(), Clock(), "GET", server.url, {}, None, (3, 30))
    assert failed.value.result == "too_large"


# TLS.


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    path = tmp_path / "cloud.pem"
    path.write_text(TLS_PEM)
    return path


@pytest.fixture
def https(serve: Serve, pem: Path) -> Server:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem)
    return serve(answering(OK), tls)


def test_the_authorities_of_the_bundle_are_trusted(https: Server, pem: Path) -> None:
    assert ask(https.url, new_session(str(pem))).status == 200


def test_nothing_is_sent_to_whom_nobody_vouches_for(https: Server) -> None:
    error = no_reply(https.url)
    assert (error.result, error.maybe_sent) == ("refused", False)
    assert "certificate is not trusted" in str(error)


# Many at once.


def echo(wire: socket.socket) -> None:
    """Answers each request on the connection with its path."""
    while request := read_request(wire):
        path = request.split(b" ", 2)[1]
        wire.sendall(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))


def test_one_session_serves_many_threads_over_as_many_connections(serve: Serve) -> None:
    server, session, wrong = serve(echo), new_session(), list[str]()

    def work(number: int) -> None:
        for turn in range(8):
            path = f"{number}/{turn}"
            body = exchange(session, Clock(), "GET", server.url + path, {}, None, (10, 10)).body
            if body.decode() != "/" + path:
                wrong.append(f"{path}: {body!r}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert server.connections <= 64
    assert len(session.cookies) == 0


def test_bytes_that_nobody_acknowledges_are_given_up_by_the_kernel(serve: Serve) -> None:
    session = new_session()
    server = serve(echo)
    ask(server.url, session, None)
    pools = session.get_adapter(server.url).poolmanager.pools  # type: ignore[attr-defined]
    connection = pools[next(iter(pools.keys()))].pool.get()
    assert connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 15_000
    assert connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# What the other side says.


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"badRequest": {"code": 400, "message": "still in use."}}', "still in use."),
        (b'{"error": {"code": 401, "message": "No.", "title": "Unauthorized"}}', "No."),
        (b'{"message": "Not found.<br /><br />\\n\\n", "code": "404 Not Found"}', "Not found."),
        (b"<html><title>502</title>\n<h1>Bad Gateway</h1></html>", "502 Bad Gateway"),
        (b"", "no message"),
        (b"[1]", "no message"),
        (b'{"message": {"not": "text"}}', "no message"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"x" * 9999, "x" * 500),
    ],
)
def test_the_message_is_found_in_errors_of_any_shape(body: bytes, message: str) -> None:
    assert Reply(400, {}, body).message() == message
