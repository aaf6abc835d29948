"""Opens a connection to libvirt within a deadline. libvirt's own open() has none: a libvirtd that hangs would hold it for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import libvirt

from masakari.common.clock import Clock
from masakari.common.errors import Unavailable

MOST_STUCK = 5


class Opener:
    """Opens connections one after the other, each in a thread of its own, which may get stuck.

    within_s: how long each may take. wake: called by that thread when it is through.
    """

    def __init__(self, uri: str, within_s: float, clock: Clock, wake: Callable[[], None]) -> None:
        self._uri = uri
        self._within_s = within_s
        self._clock = clock
        self._wake = wake
        self._stuck: list[_Attempt] = []

    def open(self, wait: Callable[[float], bool]) -> Any:
        """An open connection. Raises Unavailable with the reason for the operator.

        wait: waits for so many seconds or until `wake` is called; false: give up. RuntimeError when too many threads are
        stuck: only a new process gets rid of them.
        """
        self._stuck = [attempt for attempt in self._stuck if attempt.is_alive()]
        if len(self._stuck) >= MOST_STUCK:
            raise RuntimeError(
                f"{MOST_STUCK} connections to {self._uri} are stuck: libvirtd accepts them and doesn't answer; this process "
                f"ends, so that a new one starts without them. Restart libvirtd if this goes on"
            )
        attempt = _Attempt(self._uri, self._wake)
        attempt.start()
        deadline = self._clock.monotonic() + self._within_s
        while not attempt.ended and (left_s := deadline - self._clock.monotonic()) > 0 and wait(left_s):
            pass
        connection = attempt.take()
        if connection is not None:
            return connection
        if attempt.error:
            raise Unavailable(attempt.error)
        self._stuck.append(attempt)
        raise Unavailable(f"no answer within {self._within_s:g} s: libvirtd hangs")


class _Attempt(threading.Thread):
    """One open(). After take() nobody wants its connection any more, and it is closed as soon as it comes."""

    def __init__(self, uri: str, wake: Callable[[], None]) -> None:
        super().__init__(name="libvirt-open", daemon=True)
        self._uri = uri
        self._wake = wake
        self._lock = threading.Lock()
        self._connection: Any = None
        self._taken = False
        self.error = ""
        self.ended = False

    def run(self) -> None:
        """Open, and say so."""
        try:
            connection = libvirt.open(self._uri)
        except libvirt.libvirtError as error:
            self.error = str(error)
        else:
            with self._lock:
                if not self._taken:
                    self._connection = connection
            del connection  # here, and not while somebody waits for the lock
        self.ended = True
        self._wake()

    def take(self) -> Any:
        """The connection, if there is one by now."""
        with self._lock:
            self._taken = True
            connection, self._connection = self._connection, None
            return connection
