"""What masakari-controller --check-config --online looks at: everything the controller will ask, and whether it fits.

A check asks its facts first; what is made of them is decided in a function of its own, which asks nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from masakari import __version__, checkup_cloud, checkup_database
from masakari.checkup_cloud import Cloud
from masakari.checkup_database import NodeClock
from masakari.cloud_http import Reply
from masakari.common.checkup import NOT_OK, Check, Outcome, not_ok, ok, skipped, warning
from masakari.common.clock import Clock
from masakari.common.errors import ConfigError, Unavailable
from masakari.common.keys import Key
from masakari.common.text import count
from masakari.config import Settings
from masakari.database import Tx, open_database
from masakari.keystone import CloudSettings
from masakari.nova import Service

NODES_APART_S = 5.0
SILENT_S = 60.0
START = "systemctl status masakari-controller says why; systemctl start masakari-controller"


@dataclass(frozen=True, slots=True)
class Stored:
    """What the database knows. known: hosts that have reported, with their segment; spares likewise, each (segment, host).

    beat_ago_s: when any controller was last at work; None: never.
    """

    known: Mapping[str, str] = field(default_factory=dict)
    spares: tuple[tuple[str, str], ...] = ()
    beat_ago_s: float | None = None


class Online:
    """The checks of one run; what one has found out the later ones use."""

    def __init__(self, settings: Settings, keys: Mapping[str, Key], cloud: CloudSettings, clock: Clock) -> None:
        self._settings = settings
        self._keys = keys
        self._clock = clock
        self._cloud = Cloud(cloud, clock)
        self._stored: Stored | None = None
        self._signed_in = False
        self._services: list[Service] | None = None

    def checks(self) -> list[Check]:
        """All of them, in the order in which they depend on one another."""
        return [
            ("keys", lambda: [of_keys(self._keys, self._settings.auth.callbacks)]),
            ("database", self._database),
            ("clocks of the database", self._database_clocks),
            ("controller", self._controller),
            ("Keystone", self._account),
            ("Nova", self._nova),
            ("policy", self._policy),
            ("hosts", self._hosts),
            ("segments", self._segments),
        ]

    def _database(self) -> Iterator[Outcome]:
        db = self._settings.db
        try:
            checkup_database.check_version(db)
        except ConfigError as error:
            yield not_ok("database", "; ".join(error.problems))
            return
        except Unavailable as error:
            yield not_ok("database", str(error), "does the server run, and do host, port and firewall let us reach it?")
            return
        yield ok("database", f"{db.name}, its tables are those of this release")
        if db.drivername == "mysql":
            refused = checkup_database.missing_rights(db)
            yield of_rights(refused, db.name, db.user)
            if refused:
                return
        self._stored = self._read()

    def _read(self) -> Stored:
        def read(tx: Tx) -> Stored:
            segments = [row["cluster_port"] for row in tx.all("segment_names")]
            known = {
                row["hostname"]: segment
                for segment in segments
                for row in tx.all("report_observers", cluster_port=segment)
            }
            beat, now = tx.all("controller_newest")[0]["at"], tx.all("database_now")[0]["now"]
            spares = tuple((row["cluster_port"], row["hostname"]) for row in tx.all("spare_all"))
            return Stored(known, spares, None if beat is None else now - beat)

        db = open_database(self._settings.db, self._clock)
        try:
            return db.read(read)
        finally:
            db.close()

    def _database_clocks(self) -> Iterator[Outcome]:
        db = self._settings.db
        if self._stored is not None and db.drivername == "mysql":
            clocks = [checkup_database.node_clock(db, self._clock, node) for node in checkup_database.nodes(db)]
            yield from of_database_clocks(clocks or [checkup_database.node_clock(db, self._clock)])

    def _controller(self) -> Iterator[Outcome]:
        wsgi = self._settings.wsgi
        if not wsgi.server_port:
            yield skipped("controller", "it takes any free port, so that can't be asked")
        else:
            try:
                yield of_health(checkup_cloud.healthz(wsgi.server_host, wsgi.server_port, self._clock))
            except Unavailable as error:
                yield not_ok("controller", str(error), START)
        if self._stored is not None:
            yield of_beat(self._stored.beat_ago_s)

    def _account(self) -> Iterator[Outcome]:
        for row in checkup_cloud.account_rows(self._cloud, self._settings.safety.clock_tolerance_s):
            self._signed_in = self._signed_in or row.state != NOT_OK
            yield row

    def _nova(self) -> Iterator[Outcome]:
        if not self._signed_in:
            yield skipped("Nova", "it can't be asked without Keystone")
            return
        yield checkup_cloud.of_version(self._cloud.nova.microversion)
        self._services = self._cloud.nova.services()
        yield of_nova_clocks(self._services, self._clock.now(), self._settings.safety.clock_tolerance_s)

    def _policy(self) -> Iterator[Outcome]:
        if self._services is None:
            yield skipped("policy", "not checked without Nova")
        else:
            yield from checkup_cloud.policy_rows(self._cloud)

    def _hosts(self) -> Iterator[Outcome]:
        if self._stored is None or self._services is None:
            yield skipped("hosts, spares", f"not checked without {'Nova' if self._stored else 'the database'}")
            return
        yield from of_hosts(self._stored.known, self._services)
        segments = {*self._stored.known.values(), *(key.cluster_port for key in self._keys.values())}
        method = self._settings.recover_starter.recovery_method
        yield from of_spares(self._stored.spares, self._services, segments, method)

    def _segments(self) -> Iterator[Outcome]:
        if self._stored is not None:
            yield from of_segments(self._stored.known)


# What the facts mean


def of_keys(keys: Mapping[str, Key], callbacks: str) -> Outcome:
    """Whether anybody can sign."""
    if keys:
        return ok("keys", f"of {count(len({key.host for key in keys.values()}), 'host')}")
    done = "every callback is refused" if callbacks == "signed" else "no report is signed"
    told = f"there are none, and callbacks = {callbacks}: {done}"
    return warning("keys", told, "masakari-keys makes them; docs/monitors.md")


def of_rights(refused: Sequence[str], name: str, user: str) -> Outcome:
    """What the database user may do. refused: what the server said to what it may not."""
    if not refused:
        return ok("rights", f"{user} may read and write every table")
    more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
    grant = f"as the database's root: GRANT SELECT, INSERT, UPDATE, DELETE ON {name}.* TO the user that is named there"
    return not_ok("rights", f"{refused[0]}{more}", grant)


def of_database_clocks(clocks: Sequence[NodeClock]) -> Iterator[Outcome]:
    """Whether the nodes of the database agree on the time: a lease of one is judged by another."""
    subject = "clocks of the database"
    for unknown in [clock for clock in clocks if clock.ahead_s is None]:
        yield warning(
            subject, f"{unknown.node} can't be asked: {unknown.why}", "may this user connect to it from here?"
        )
    told = {clock.node: clock.ahead_s for clock in clocks if clock.ahead_s is not None}
    if not told:
        return
    first, last = min(told, key=lambda node: told[node]), max(told, key=lambda node: told[node])
    apart_s = told[last] - told[first]
    if apart_s > NODES_APART_S:
        wrong = f"{last} is {apart_s:.0f} s ahead of {first}; at most {NODES_APART_S:g} s are tolerated"
        yield not_ok(subject, wrong, "set the clocks of the database's nodes by NTP (chronyc tracking)")
    elif len(clocks) > 1:
        yield ok(subject, f"{count(len(told), 'node')}, {apart_s:.1f} s apart at most")
    else:
        yield ok(subject, f"one server, {abs(told[first]):.1f} s from this host's")


def of_health(reply: Reply) -> Outcome:
    """What the controller on this machine says of itself."""
    try:
        told = reply.json()
        status, version, checked = told["status"], told["version"], told["checked"]
    except (ValueError, KeyError, TypeError):
        why = f"HTTP {reply.status} from another program, which has the port of the controller"
        return not_ok("controller", why, "ss -tlnp says which; change [wsgi] server_port, or stop it")
    if status != "ok":
        ill = "; ".join(f"{name}: {value}" for name, value in checked.items() if value != "ok")
        return (warning if status == "degraded" else not_ok)(
            "controller", f"runs, but is {status}: {ill}", "see its log"
        )
    if version != __version__:
        return warning(
            "controller", f"runs as {version}, installed is {__version__}", "systemctl restart masakari-controller"
        )
    return ok("controller", f"{told.get('controller')} runs")


def of_beat(ago_s: float | None) -> Outcome:
    """Whether any controller works on the database."""
    if ago_s is None:
        return not_ok("beat", "no controller has ever worked on this database", START)
    if ago_s > SILENT_S:
        return not_ok("beat", f"no controller is at work: the last sign of one came {ago_s:.0f} s ago", START)
    return ok("beat", "a controller is at work on this database")


def of_nova_clocks(services: Sequence[Service], now: float, limit_s: float) -> Outcome:
    """Whether Nova's times are from the future: a proof must be newer than them."""
    subject = "clock of Nova"
    ahead = {one.host: one.updated_at - now for one in services if one.updated_at and one.updated_at - now > limit_s}
    if not ahead:
        return ok(subject, f"no report of {count(len(services), 'nova-compute')} is from the future")
    told = ", ".join(f"{host} by {seconds:.0f} s" for host, seconds in sorted(ahead.items()))
    return not_ok(subject, f"reports of nova-compute are from the future: {told}", "set these clocks by NTP")


def of_hosts(known: Mapping[str, str], services: Sequence[Service]) -> Iterator[Outcome]:
    """Whether the monitors and Nova mean the same hosts."""
    names = {service.host for service in services}
    strange = sorted(set(known) - names)
    for host in strange:
        other = _alike(host, names)
        if other:
            advice = f"hostname = {other} in the settings of its monitors, and a key for that name"
            yield not_ok(
                "hosts", f"{host} has reported, but Nova calls it {other}: its failure would do nothing", advice
            )
        else:
            yield warning(
                "hosts", f"{host} has reported, but Nova has no such nova-compute", "nothing, if it left the cloud"
            )
    silent = sorted(names - set(known))
    if silent:
        told = f"no monitor of {', '.join(silent)} has ever reported: {'it is' if len(silent) == 1 else 'they are'} not protected"
        yield warning("hosts", told, "install the monitors there; masakari-doctor on that host says what is missing")
    if not strange and not silent:
        yield ok("hosts", f"{count(len(known), 'host')}, each known to Nova, have reported")


def of_spares(
    spares: Sequence[tuple[str, str]], services: Sequence[Service], segments: Collection[str], method: str
) -> Iterator[Outcome]:
    """Whether each spare could be used now. segments: those that hosts are in."""
    by_host = {service.host: service for service in services}
    if not spares and method != "auto":
        advice = "reserve_host_manage.py --mode add, or recovery_method = auto"
        yield warning("spares", f"there is none, and recovery_method is {method}", advice)
    elif not spares:
        yield ok("spares", "none, and recovery_method is auto: Nova chooses")
    for segment, host in spares:
        yield _of_spare(segment, host, by_host, segments)


def _of_spare(segment: str, host: str, services: Mapping[str, Service], segments: Collection[str]) -> Outcome:
    subject, service = f"spare {host}", services.get(host)
    if service is None:
        meant = _alike(host, services)
        advice = (
            f"reserve_host_manage.py --mode update --port {segment} --before-host {host} --after-host {meant or '...'}"
        )
        return not_ok(subject, f"Nova has no nova-compute of that name{f'; it has {meant}' if meant else ''}", advice)
    if not service.up:
        why = "it is forced down in Nova" if service.forced_down else "its nova-compute is down"
        return not_ok(
            subject, f"{why}, so it can take no instance", f"start nova-compute on {host}, or list another spare"
        )
    if segments and segment not in segments:
        told = f"it is listed for {segment}, and no host is in that segment, but in {', '.join(sorted(segments))}"
        return not_ok(subject, told, "list it with the --port that masakari-hostmonitor --show-cluster tells")
    return ok(subject, f"of {segment}, up{'' if service.enabled else '; disabled in Nova until it is needed'}")


def of_segments(known: Mapping[str, str]) -> Iterator[Outcome]:
    """Whether the nodes of a cluster call it the same."""
    members: dict[str, list[str]] = {}
    for host, segment in sorted(known.items()):
        members.setdefault(segment, []).append(host)
    if not members:
        yield skipped("segments", "no host has reported yet")
        return
    sizes = [f"{segment or 'without a name'}: {count(len(hosts), 'host')}" for segment, hosts in members.items()]
    yield ok("segments", "; ".join(sizes))
    for segment, hosts in members.items():
        if len(hosts) == 1 and len(members) > 1:
            told = f"{hosts[0]} is alone in {segment or 'a segment without a name'}"
            advice = (
                "cluster_port must be the same on all nodes of a cluster: masakari-hostmonitor --show-cluster on each"
            )
            yield warning("segments", told, advice)


def _alike(name: str, others: Collection[str]) -> str:
    """One of them that differs in its domain or in case alone; "" if there is none."""
    short = name.partition(".")[0].lower()
    return next((other for other in sorted(others) if other.partition(".")[0].lower() == short), "")
