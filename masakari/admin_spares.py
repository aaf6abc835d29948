"""The list of spares (reserved hosts), as an operator keeps it."""

from __future__ import annotations

from typing import Any

from masakari import hosts, segments, store
from masakari.admin import Answer, Operator, Refused, change, database_now, done
from masakari.admin_lists import notices, unix
from masakari.admin_text import table
from masakari.common.text import sql_time
from masakari.database import Duplicate, Tx

COLUMNS = (("SEGMENT", "cluster_port"), ("HOST", "hostname"), ("SINCE", "since_at"), ("STATE", "state"))


def add_spare(operator: Operator, cluster_port: str, host: str) -> Answer:
    """Put a host on the list of a segment. Raises Refused when it is a spare already, or its own recovery is open."""

    def act(tx: Tx, now: float) -> str:
        _may_be_spare(tx, host)
        key = _registered_in(tx, cluster_port, host, now)
        try:
            tx.execute("spare_add", create_at=sql_time(now), cluster_port=key, hostname=host)
        except Duplicate as error:
            raise Refused(_already(tx, host)) from error
        segments.wake_waiting(tx, key, now)
        return _note(tx, operator, host, now)

    note = change(operator, act)
    return done(f"{host} is a spare of {cluster_port}{note}", cluster_port=cluster_port, hostname=host)


def rename_spare(operator: Operator, cluster_port: str, before: str, after: str) -> Answer:
    """Put one spare in the place of another on the list of a segment."""

    def act(tx: Tx, now: float) -> str:
        _may_be_spare(tx, after)
        key = _registered_in(tx, cluster_port, after, now)
        try:
            many = tx.execute(
                "spare_rename", before_host=before, after_host=after, cluster_port=key, update_at=sql_time(now)
            )
        except Duplicate as error:
            raise Refused(_already(tx, after)) from error
        if not many:
            raise Refused(_no_such(tx, key, before))
        return _note(tx, operator, after, now)

    note = change(operator, act)
    told = f"{after} is a spare of {cluster_port} instead of {before}{note}"
    return done(told, cluster_port=cluster_port, hostname=after, before=before)


def delete_spare(operator: Operator, cluster_port: str, host: str) -> Answer:
    """Take a host off the list of a segment."""

    def act(tx: Tx, now: float) -> None:
        key = segments.key_of(tx, cluster_port)
        if not tx.execute("spare_delete", hostname=host, cluster_port=key, delete_at=sql_time(now)):
            raise Refused(_no_such(tx, key, host))

    change(operator, act)
    return done(f"{host} is no longer a spare of {cluster_port}", cluster_port=cluster_port, hostname=host)


def list_spares(operator: Operator, cluster_port: str | None) -> Answer:
    """Free spares, with what speaks against the use of one, and those that serve an open recovery."""

    def read(tx: Tx) -> tuple[list[dict[str, Any]], list[str]]:
        now = database_now(tx)
        rows = []
        for row in tx.all("spare_all"):
            against = _objection(tx, operator, row["hostname"], now)
            rows.append(_spare(row, f"not usable: {against}" if against else "free", None))
        for row in tx.all("spare_in_use"):
            state = f"in use by recovery {row['recovery_id']} of {row['failed_host']}"
            rows.append(_spare(row, state, row["recovery_id"]))
        return rows, notices(tx, operator)

    rows, said = operator.db.read(read)
    shown = [row for row in rows if cluster_port in (None, row["cluster_port"])]
    shown.sort(key=lambda row: row["cluster_port"] or "")
    return Answer("\n".join([*said, table(shown, COLUMNS)]), {"notices": said, "spares": shown})


def _spare(row: dict[str, Any], state: str, recovery_id: int | None) -> dict[str, Any]:
    return {
        "cluster_port": row["cluster_port"],
        "hostname": row["hostname"],
        "since_at": unix(row["create_at"]),
        "state": state,
        "recovery": recovery_id,
    }


def _may_be_spare(tx: Tx, host: str) -> None:
    """Raise Refused for a host that has failed, comes back just now, or serves as a spare."""
    for recovery in store.active(tx, [f"host:{host}", f"return:{host}"]).values():
        raise Refused(
            f"{host} has an open recovery itself ({recovery.id}, {recovery.kind}, {recovery.status}); it can be a spare "
            "once that has ended"
        )
    for row in tx.all("spare_serving", hostname=host):
        raise Refused(f"{host} serves recovery {row['id']} as its spare; it can be listed again once that has ended")


def _already(tx: Tx, host: str) -> str:
    row = tx.one("spare_listed", hostname=host)
    return f"{host} is a spare of {row['cluster_port'] if row else 'another segment'} already"


def _no_such(tx: Tx, cluster_port: str, host: str) -> str:
    row = tx.one("spare_listed", hostname=host)
    if row is not None:
        return f"{host} is a spare of {row['cluster_port']}, not of {cluster_port}"
    for serving in tx.all("spare_serving", hostname=host):
        return f"{host} serves recovery {serving['id']} as its spare; it left the list for that"
    return f"{host} is no spare of {cluster_port}; reserve_host_manage.py --mode list shows them"


def _registered_in(tx: Tx, called: str, host: str, now: float) -> str:
    """The key of the segment, in which the host is registered if that is one of the API. Raises Refused when it is in another."""
    key = segments.key_of(tx, called)
    found = segments.registered(tx, [host]).get(host)
    if found is not None and found.cluster_port != key:
        raise Refused(f"{host} is a host of segment {found.segment_name}; name that, or take it out of there first")
    if found is None:
        segments.register(tx, key, host, now)
    return key


def _objection(tx: Tx, operator: Operator, host: str, now: float) -> str:
    safety = operator.settings.safety
    return hosts.spare_objection(tx, host, now, safety.failure_window_s, safety.clock_tolerance_s)


def _note(tx: Tx, operator: Operator, host: str, now: float) -> str:
    """What keeps a new spare from being used, as far as the database knows; Nova is asked when it is needed."""
    against = _objection(tx, operator, host, now)
    return f". For now it can't be used: {against}" if against else ""
