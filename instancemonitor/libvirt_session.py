"""One open connection to libvirt: its events, and the domains it shows. Port; no decisions.

Calls may block for as long as libvirt's keepalive lets them. All are made by the thread that owns the session; callbacks come
from that of the event loop.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import libvirt

from instancemonitor.model import CONTROL_ERROR, IO_ERROR, LIFECYCLE, REBOOT, WATCHDOG, DomainView

log = logging.getLogger(__name__)

# As an attribute in the XML: in a title or a description the quotes would be escaped.
NOVA_METADATA = re.compile(r"""xmlns(:\w+)?=["']http://openstack\.org/xmlns/libvirt/nova/""")
MAY_CHANGE_OURS = (libvirt.VIR_DOMAIN_EVENT_DEFINED, libvirt.VIR_DOMAIN_EVENT_STARTED)
CLOSE_REASONS = {
    libvirt.VIR_CONNECT_CLOSE_REASON_ERROR: "input/output error on the connection",
    libvirt.VIR_CONNECT_CLOSE_REASON_EOF: "libvirtd closed the connection: it ended or was restarted",
    libvirt.VIR_CONNECT_CLOSE_REASON_KEEPALIVE: "libvirtd hangs: it doesn't answer keepalive messages",
    libvirt.VIR_CONNECT_CLOSE_REASON_CLIENT: "closed by ourselves",
}

# kind, uuid, name, event, detail, text
Tell = Callable[[str, str, str, int, int, str], None]


class Session:
    """What is done with one connection. Callbacks only note down.

    tell: gets every event. wake: called when `closed` or `control_errors` changed, or there is something to learn.
    ours: which uuids are Nova's, kept by the caller from one connection to the next.
    """

    def __init__(self, connection: Any, tell: Tell, wake: Callable[[], None], ours: dict[str, bool]) -> None:
        self._connection = connection
        self._tell = tell
        self._wake = wake
        self._ours = ours
        self._callbacks: list[int] = []
        self.close_reason = ""
        self._to_learn: deque[str] = deque()
        self.control_errors = 0

    @property
    def closed(self) -> str:
        """Why the connection is gone; empty while it is there, as far as libvirt knows."""
        if not self.close_reason and not self._connection.isAlive():
            return "the connection is no longer alive"
        return self.close_reason

    def begin(self, keepalive_s: int, keepalive_count: int) -> None:
        """Register for all events and for the end of the connection. Raises libvirtError."""
        with suppress(libvirt.libvirtError):  # a driver without a daemon needs none
            self._connection.setKeepAlive(keepalive_s, keepalive_count)
        self._connection.registerCloseCallback(self._on_close, None)
        for number, callback in (
            (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_lifecycle),
            (libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, self._on_reboot),
            (libvirt.VIR_DOMAIN_EVENT_ID_WATCHDOG, self._on_watchdog),
            (libvirt.VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON, self._on_io_error),
            (libvirt.VIR_DOMAIN_EVENT_ID_CONTROL_ERROR, self._on_control_error),
        ):
            self._callbacks.append(self._connection.domainEventRegisterAny(None, number, callback, None))

    def end(self) -> None:
        """Let go of the connection. What libvirt keeps of the callbacks would keep it open."""
        for number in self._callbacks:
            with suppress(libvirt.libvirtError):
                self._connection.domainEventDeregisterAny(number)
        with suppress(libvirt.libvirtError):
            self._connection.unregisterCloseCallback()

    def domains(self, beat: Callable[[], None]) -> tuple[DomainView, ...]:
        """All domains, running or not; one that vanishes meanwhile is left out. Raises libvirtError.

        beat is called after each one.
        """
        views = []
        for domain in self._connection.listAllDomains():
            with _may_be_gone():
                views.append(self._view(domain))
            beat()
        there = {view.uuid for view in views}
        for uuid in [uuid for uuid in self._ours if uuid not in there]:
            self._ours.pop(uuid, None)
        return tuple(views)

    def look(self, uuid: str) -> DomainView | None:
        """One domain; None: there is none. Raises libvirtError."""
        try:
            return self._view(self._connection.lookupByUUIDString(uuid))
        except libvirt.libvirtError as error:
            if not _is_gone(error):
                raise
            return None

    def learn(self) -> None:
        """Ask about the domains that were defined or started: are they Nova's? Raises libvirtError."""
        while self._to_learn:
            with _may_be_gone():
                self._learn(self._connection.lookupByUUIDString(self._to_learn.popleft()))

    def _view(self, domain: Any) -> DomainView:
        uuid, (state, reason) = domain.UUIDString(), domain.state()
        ours = self._ours.get(uuid)
        return DomainView(
            uuid=uuid,
            name=domain.name(),
            state=state,
            reason=reason,
            run_id=domain.ID(),
            ours=self._learn(domain) if ours is None else ours,
        )

    def _learn(self, domain: Any) -> bool | None:
        """Whether it is Nova's; None: its definition can't be read, though libvirt answers."""
        try:
            ours = bool(NOVA_METADATA.search(domain.XMLDesc(0)))
        except libvirt.libvirtError as error:
            if _is_gone(error) or not self._connection.isAlive():
                raise
            log.warning("%s: libvirt can't show its definition: %s", domain.name(), error)
            return None
        self._ours[domain.UUIDString()] = ours
        return ours

    # Called by libvirt. An exception here would be lost.

    def _on_close(self, connection: Any, reason: int, _: None) -> None:
        self.close_reason = CLOSE_REASONS.get(reason, f"closed for reason {reason}")
        self._wake()

    def _on_lifecycle(self, connection: Any, domain: Any, event: int, detail: int, _: None) -> None:
        self._tell(LIFECYCLE, domain.UUIDString(), domain.name(), event, detail, "")
        if event in MAY_CHANGE_OURS:
            self._to_learn.append(domain.UUIDString())
            self._wake()

    def _on_reboot(self, connection: Any, domain: Any, _: None) -> None:
        self._tell(REBOOT, domain.UUIDString(), domain.name(), 0, 0, "")

    def _on_watchdog(self, connection: Any, domain: Any, action: int, _: None) -> None:
        self._tell(WATCHDOG, domain.UUIDString(), domain.name(), 0, action, "")

    def _on_io_error(
        self, connection: Any, domain: Any, path: str, alias: str, action: int, reason: str, _: None
    ) -> None:
        text = " ".join(part for part in (alias, path, reason) if part)
        self._tell(IO_ERROR, domain.UUIDString(), domain.name(), 0, action, text)

    def _on_control_error(self, connection: Any, domain: Any, _: None) -> None:
        self._tell(CONTROL_ERROR, domain.UUIDString(), domain.name(), 0, 0, "")
        self.control_errors += 1
        self._wake()


def _is_gone(error: libvirt.libvirtError) -> bool:
    return bool(error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN)


@contextmanager
def _may_be_gone() -> Iterator[None]:
    """A domain that vanished since it was named is none; any other error goes on."""
    try:
        yield
    except libvirt.libvirtError as error:
        if not _is_gone(error):
            raise
