"""A private libvirtd, and the instancemonitor's link to it: what a test starts guests on and reads the messages of."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from instancemonitor.model import DomainEvent, DomainView, Message, Snapshot
from masakari.common.clock import Clock
from tests.lab.libvirtd import PrivateLibvirtd
from tests.lab.mariadb import until

if TYPE_CHECKING:  # not everywhere is libvirt
    from instancemonitor.libvirt_link import LibvirtLink

WITHIN_S = 30.0
STOP_WITHIN_S = 10.0


class Inbox(queue.SimpleQueue[Message]):
    """Keeps what was put into it, so that tests can look at all of it again and again."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[Message] = []

    def put(self, item: Message, block: bool = True, timeout: float | None = None) -> None:
        self.all.append(item)

    def events(self, uuid: str, since: int = 0) -> list[DomainEvent]:
        """The events of a domain in all but the first `since` messages."""
        return [item for item in self.all[since:] if isinstance(item, DomainEvent) and item.uuid == uuid]

    def views(self, uuid: str, since: int = 0) -> list[DomainView]:
        """What snapshots said of a domain."""
        snapshots = [item for item in self.all[since:] if isinstance(item, Snapshot)]
        return [view for snapshot in snapshots for view in snapshot.domains if view.uuid == uuid]

    def until(self, reached: Callable[[list[Message]], bool], within_s: float = WITHIN_S, since: int = 0) -> None:
        """Wait for messages. Raises RuntimeError with all of them when they don't come in time."""
        until(lambda: reached(self.all[since:]), within_s, lambda: f"not seen in time; there is {self.all[since:]}")

    def until_kind(self, kind: type, since: int = 0, within_s: float = WITHIN_S) -> None:
        """Wait for a message of this class."""
        self.until(lambda messages: any(isinstance(item, kind) for item in messages), within_s, since)


class RunningLink:
    """A LibvirtLink with its thread, and its inbox."""

    def __init__(self, uri: str, **options: Any) -> None:
        from instancemonitor.libvirt_link import LibvirtLink

        self.inbox = Inbox()
        self.link: LibvirtLink = LibvirtLink(uri, self.inbox, Clock(), **options)
        self.error: Exception | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="libvirt", daemon=True)

    def __enter__(self) -> RunningLink:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self.link.wake()
        self._thread.join(STOP_WITHIN_S)
        assert not self._thread.is_alive(), "the link doesn't stop"

    def _run(self) -> None:
        try:
            self.link.run(self._stopping)
        except RuntimeError as error:
            self.error = error


@contextmanager
def event_loop() -> Iterator[threading.Thread]:
    """libvirt's event loop, which a process has one of; it serves every link and connection."""
    from instancemonitor.libvirt_link import LibvirtLink

    link, stopping = LibvirtLink("test:///default", queue.SimpleQueue(), Clock()), threading.Event()
    thread = threading.Thread(target=link.run_events, args=(stopping,), name="libvirt-events", daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        stopping.set()
        thread.join(STOP_WITHIN_S)
        assert not thread.is_alive(), "the event loop doesn't stop"


class Stage:
    """A private libvirtd with a connection to make guests with, and a link that watches."""

    def __init__(self, libvirtd: PrivateLibvirtd, watching: RunningLink) -> None:
        self.libvirtd = libvirtd
        self.link = watching.link
        self.inbox = watching.inbox

    def connect(self) -> Any:
        """A connection of the test's own."""
        import libvirt

        return libvirt.open(self.libvirtd.uri)

    def start_guest(self, name: str, **options: Any) -> Any:
        """Define and start a guest (options: those of domain_xml), and wait until it has booted; its virDomain."""
        domain = self.connect().defineXML(self.libvirtd.domain_xml(name, **options))
        domain.create()
        if options.get("serial", True):
            with self.libvirtd.serial(name):
                pass
        return domain

    def remove(self, uuid: str) -> None:
        """End a domain, and forget it."""
        import libvirt

        for domain in self.connect().listAllDomains():
            if domain.UUIDString() == uuid:
                if domain.isActive():
                    domain.destroy()
                if domain.isPersistent():
                    domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)

    def look(self, uuid: str) -> DomainView:
        """What the link says of a domain now."""
        view = self.link.look(uuid)
        assert view is not None, f"no view of {uuid}: {self.link.problem}"
        return view


@contextmanager
def stage(**options: Any) -> Iterator[Stage]:
    """A libvirtd and a link that is connected to it (options: those of LibvirtLink). Wants an event_loop."""
    with PrivateLibvirtd() as libvirtd, RunningLink(libvirtd.uri, **options) as watching:
        watching.inbox.until_kind(Snapshot)
        yield Stage(libvirtd, watching)
