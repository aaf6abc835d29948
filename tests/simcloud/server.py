"""A small HTTP/1.1 server for the simulated cloud: a thread per connection, and it can refuse to answer."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
from typing import Any, BinaryIO

from .app import App
from .web import NoAnswer

_HOLD_S = 30.0  # how long a connection without an answer stays open


class RunningServer:
    """Serves from the moment it is made until close(). `url` is for whoever is on the same machine.

    Args:
        port: 0 = any free one.
        address: to listen on.
    """

    def __init__(self, app: App, port: int = 0, address: str = "127.0.0.1") -> None:
        self._app = app
        self._closing = threading.Event()
        self._connections: set[socket.socket] = set()
        self._listener = socket.create_server((address, port), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.auth_url = f"{self.url}/identity/v3"
        threading.Thread(target=self._accept, name="simcloud", daemon=True).start()

    def __enter__(self) -> RunningServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening and cut every connection."""
        self._closing.set()
        for connection in (self._listener, *self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as reader:
            with contextlib.suppress(OSError, ValueError):
                while (environ := _read_environ(reader)) is not None:
                    connection.sendall(self._respond(environ))
            self._connections.discard(connection)

    def _respond(self, environ: dict[str, Any]) -> bytes:
        """The bytes of the answer. Raises ConnectionError to have the connection cut instead."""
        head: list[str] = []

        def start_response(status: str, headers: list[tuple[str, str]]) -> None:
            head.append(f"HTTP/1.1 {status}")
            head.extend(f"{name}: {value}" for name, value in headers)

        try:
            chunks = self._app(environ, start_response)
        except NoAnswer as lost:
            if lost.how == "read timeout":
                self._closing.wait(_HOLD_S)
            raise ConnectionError(lost.how) from None
        body = b"" if environ["REQUEST_METHOD"] == "HEAD" else b"".join(chunks)
        return "\r\n".join((*head, "", "")).encode("latin-1") + body


def _read_environ(reader: BinaryIO) -> dict[str, Any] | None:
    """One request as a WSGI environment; None when the client is done."""
    line = reader.readline(65536)
    if not line.strip():
        return None
    method, target, _ = line.decode("latin-1").split(" ", 2)
    path, _, query = target.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "wsgi.url_scheme": "http",
    }
    while (line := reader.readline(65536)) not in (b"\r\n", b"\n", b""):
        name, _, value = line.decode("latin-1").partition(":")
        environ[f"HTTP_{name.strip().upper().replace('-', '_')}"] = value.strip()
    length = environ.get("HTTP_CONTENT_LENGTH", "0")
    environ["CONTENT_LENGTH"] = length
    environ["wsgi.input"] = io.BytesIO(reader.read(int(length)))
    return environ
