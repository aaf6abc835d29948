"""The segments and hosts of the API."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from masakari import segments
from masakari.common.clock import Clock
from masakari.common.errors import Unavailable
from masakari.config import Settings
from masakari.database import Database, Tx
from masakari.instance_ha import forms, paging, views
from masakari.instance_ha.forms import Fields
from masakari.instance_ha.refusal import bad, not_found
from masakari.instance_ha.versions import Version
from masakari.segments import METHODS, Host, HostForm, Segment, SegmentForm

SEGMENT_FILTERS = ("recovery_method", "service_type", "enabled")
SEGMENT_SORT = ("created_at", "updated_at", "id", "uuid", "name", "description", "recovery_method", "service_type", "enabled")
HOST_FILTERS = ("type", "on_maintenance", "reserved", "failover_segment_id")
HOST_SORT = (
    "created_at",
    "updated_at",
    "id",
    "uuid",
    "name",
    "type",
    "control_attributes",
    "reserved",
    "on_maintenance",
    "failover_segment_id",
)
ASKING_NOVA_MAX, PLACE_WAIT_S = 16, 1.0
"""Callbacks need threads, too: so many callers may wait for Nova, and others so long for their turn."""

TRUTHS = ("enabled", "on_maintenance", "reserved")


class Failover:
    """What /v1/segments answers. `known_to_nova`: whether there is a nova-compute of this name; raises Unavailable.

    Every method raises Refusal, SegmentConflict and Unavailable, and may be called by any thread.
    """

    def __init__(
        self,
        db: Database,
        known_to_nova: Callable[[str], bool],
        settings: Callable[[], Settings],
        clock: Clock,
    ) -> None:
        self._db = db
        self._known_to_nova = known_to_nova
        self._settings = settings
        self._clock = clock
        self._asking_nova = threading.BoundedSemaphore(ASKING_NOVA_MAX)

    def list_segments(self, query: str, version: Version) -> list[dict[str, Any]]:
        """A page of the segments."""
        asked = paging.read_query(query, SEGMENT_FILTERS, SEGMENT_SORT, "created_at")
        if asked.filters.get("recovery_method", METHODS[0]) not in METHODS:
            raise bad("recovery_method", f"must be one of {', '.join(METHODS)}")
        # A filter may ask for what this version doesn't show.
        found = {str(one.number): one for one in self._db.read(segments.segments)}
        full = [views.segment(one, (1, 3), self._method) for one in found.values()]
        return [self._segment(found[str(item["id"])], version) for item in paging.page(full, asked, _matches)]

    def create_segment(self, fields: Fields, version: Version) -> dict[str, Any]:
        """A new one."""
        form, now = forms.segment(fields, version), self._clock.now()
        uuid = str(uuid4())
        return self._segment(self._db.transaction(lambda tx: segments.add_segment(tx, uuid, form, now)), version)

    def show_segment(self, uuid: str, version: Version) -> dict[str, Any]:
        """One of them."""
        return self._segment(self._db.read(lambda tx: _segment(tx, uuid)), version)

    def update_segment(self, uuid: str, fields: Fields, version: Version) -> dict[str, Any]:
        """Change one."""
        now = self._clock.now()

        def act(tx: Tx) -> Segment:
            one = _held(tx, uuid)
            # An unknown method is not stored as the configured one, which may change.
            before = SegmentForm(
                one.name, one.recovery_method or self._method, one.service_type, one.description, one.enabled
            )
            return segments.change_segment(tx, one, forms.segment(fields, version, before), now)

        return self._segment(self._db.transaction(act), version)

    def delete_segment(self, uuid: str) -> None:
        """Delete one, with its hosts."""
        now = self._clock.now()
        self._db.transaction(lambda tx: segments.remove_segment(tx, _held(tx, uuid), now))

    def list_hosts(self, uuid: str, query: str, version: Version) -> list[dict[str, Any]]:
        """A page of the hosts of a segment."""
        asked = paging.read_query(query, HOST_FILTERS, HOST_SORT, "created_at")

        def read(tx: Tx) -> list[dict[str, Any]]:
            of = self._segment(_segment(tx, uuid), version)
            return [views.host(one, of) for one in segments.all_hosts(tx) if one.segment_uuid == uuid]

        return paging.page(self._db.read(read), asked, _matches)

    def create_host(self, uuid: str, fields: Fields, version: Version) -> dict[str, Any]:
        """Register a host."""
        form, now = forms.host(fields), self._clock.now()
        of = self._db.read(lambda tx: _segment(tx, uuid))
        self._refuse_unknown(form)
        new = str(uuid4())
        made = self._db.transaction(lambda tx: segments.add_host(tx, new, _held(tx, uuid), form, now))
        return views.host(made, self._segment(of, version))

    def show_host(self, uuid: str, host_uuid: str, version: Version) -> dict[str, Any]:
        """One of them."""

        def read(tx: Tx) -> dict[str, Any]:
            of = self._segment(_segment(tx, uuid), version)
            return views.host(_host(tx, uuid, host_uuid), of)

        return self._db.read(read)

    def update_host(
        self, uuid: str, host_uuid: str, fields: Fields, actor: str, version: Version
    ) -> dict[str, Any]:
        """Change one. `actor`: who, for the journal."""
        now = self._clock.now()
        known = self._db.read(lambda tx: _host(tx, uuid, host_uuid))
        wanted = forms.host(fields, _form(known))
        if wanted.name != known.name:
            self._refuse_unknown(wanted)

        def act(tx: Tx) -> tuple[Host, Segment]:
            of = _held(tx, uuid)
            one = _host(tx, uuid, host_uuid)
            return segments.change_host(tx, one, forms.host(fields, _form(one)), actor, now), of

        after, of = self._db.transaction(act)
        return views.host(after, self._segment(of, version))

    def delete_host(self, uuid: str, host_uuid: str) -> None:
        """Take one out of its segment."""
        now = self._clock.now()

        def act(tx: Tx) -> None:
            _held(tx, uuid)
            segments.remove_host(tx, _host(tx, uuid, host_uuid), now)

        self._db.transaction(act)

    @property
    def _method(self) -> str:
        return self._settings().recover_starter.recovery_method

    def _segment(self, one: Segment, version: Version) -> dict[str, Any]:
        return views.segment(one, version, self._method)

    def _refuse_unknown(self, form: HostForm) -> None:
        if not self._asking_nova.acquire(timeout=PLACE_WAIT_S):
            raise Unavailable(f"{ASKING_NOVA_MAX} other callers wait for Nova")
        try:
            known = self._known_to_nova(form.name)
        finally:
            self._asking_nova.release()
        if not known:
            raise bad("name", f"Nova knows no nova-compute of {form.name}; openstack compute service list shows the names")


def _form(host: Host) -> HostForm:
    return HostForm(host.name, host.type, host.control_attributes, host.reserved)


def _segment(tx: Tx, uuid: str) -> Segment:
    found = segments.segment(tx, uuid)
    # MariaDB finds it with blanks behind its uuid, too.
    if found is None or found.uuid != uuid:
        raise not_found("segment", uuid)
    return found


def _held(tx: Tx, uuid: str) -> Segment:
    found = segments.hold(tx, uuid)
    if found is None:
        raise not_found("segment", uuid)
    return found


def _host(tx: Tx, uuid: str, host_uuid: str) -> Host:
    _segment(tx, uuid)
    row = tx.one("segment_host_called", uuid=host_uuid)
    found = segments.registered(tx, [row["hostname"]]).get(row["hostname"]) if row else None
    if found is None or (found.uuid, found.segment_uuid) != (host_uuid, uuid):
        raise not_found("host", host_uuid)
    return found


def _matches(item: dict[str, Any], name: str, value: str) -> bool:
    if name in TRUTHS:
        return bool(item[name] is forms.boolean(value, name))
    return bool(item[name] == value)
