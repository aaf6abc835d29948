"""Where the cloud and the controllers of a private cluster stand: on its switch, at an address that every node reaches.

The test isn't there. What listens at a port of the outside is reached by the test at the same port of its own loopback address:
a relay takes the connections, and makes them over there. So one URL with 127.0.0.1 is right for both.
"""

from __future__ import annotations

import ctypes
import os
import socket
import socketserver
import threading
from contextlib import suppress

from tests.lab.namespaces import Namespaces

ADDRESS = "10.77.0.254"
CONNECT_WITHIN_S = 5.0


class Outside:
    """The outside of one cluster; gone with it."""

    address = ADDRESS

    def __init__(self, switch: Namespaces) -> None:
        self._switch = switch
        self._relays: list[_Relay] = []

    def prefix(self) -> tuple[str, ...]:
        """What to write before a command to run it there."""
        return self._switch.enter("net")

    def port(self) -> int:
        """A TCP port that nobody listens on out there, and that leads the test there. It is kept until all is stopped."""
        relay = _Relay()
        self._relays.append(relay)
        threading.Thread(target=self._serve, args=(relay,), name=f"relay {relay.port}", daemon=True).start()
        return relay.port

    def stop(self) -> None:
        """Lead nobody there any more. Harmless when it is stopped."""
        for relay in self._relays:
            relay.shutdown()
            relay.server_close()
        self._relays.clear()

    def _serve(self, relay: _Relay) -> None:
        # A network namespace is that of a thread, and of the threads that it starts: so the relay's sockets are made over there,
        # except for the one that it listens on, which is there already.
        network = os.open(f"/proc/{self._switch.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(network, 0):
                raise OSError(ctypes.get_errno(), "setns")
        finally:
            os.close(network)
        relay.serve_forever(0.05)


class _Relay(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.port = int(self.server_address[1])


class _Connection(socketserver.BaseRequestHandler):
    """One connection of the test. It ends when the one over there can't be made, or ends."""

    server: _Relay

    def handle(self) -> None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.server.port), CONNECT_WITHIN_S) as there:
            there.settimeout(None)
            back = threading.Thread(target=_pump, args=(there, self.request), daemon=True)
            back.start()
            _pump(self.request, there)
            back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
