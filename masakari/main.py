"""The controller process: settings, wiring, threads. No decisions and no SQL."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from masakari import __version__, api, config, housekeeping, start_gate
from masakari.common import checkup, daemon, program
from masakari.common.clock import Clock
from masakari.common.errors import ConfigError, Rejected, Unavailable
from masakari.common.program import SIGNALS, Loaded
from masakari.common.signature import Key
from masakari.database import ControllerLock, Database, open_database
from masakari.instance_ha.api import InstanceHa
from masakari.instance_ha.failover import Failover
from masakari.instance_ha.notifications import Notifications
from masakari.instance_ha.tokens import Tokens
from masakari.intake import Intake
from masakari.keystone import CloudSettings, Keystone
from masakari.metrics import Metrics
from masakari.nova import Nova
from masakari.recovery import World
from masakari.steps import TABLES
from masakari.worker import ThreadPool, Workers

log = logging.getLogger("masakari")

POOL = 32
LOCK_CHECK_S = 10.0
LOCK_LOST_S = 90.0
DATABASE_AWAY_S = 2.0
EPILOG = """examples:
  masakari-controller --config /etc/masakari/masakari.conf
  masakari-controller --config ./masakari.conf --check-config
  masakari-controller --check-config --online        (asks the database, Keystone and Nova, too; changes nothing)
  masakari-controller --daemon --pidfile /run/masakari/masakari.pid      (for init scripts)

What is under way when it stops goes on after the next start.
""" + SIGNALS.format(fixed=" (a changed [wsgi], [db] or [controller] needs a restart)")


def cloud_settings(settings: config.Settings) -> CloudSettings:
    """[nova] and the api_* options as the ports want them."""
    nova, starter = settings.nova, settings.recover_starter
    names = (
        "auth_url",
        "admin_user",
        "admin_password",
        "project_name",
        "domain",
        "user_domain_name",
        "user_domain_id",
        "project_domain_name",
        "project_domain_id",
        "application_credential_id",
        "application_credential_secret",
        "region",
        "interface",
        "ca_bundle",
        "connect_timeout_s",
        "read_timeout_s",
    )
    return CloudSettings(
        **{name: getattr(nova, name) for name in names},
        api_max_retry_cnt=starter.api_max_retry_cnt,
        api_retry_interval_s=starter.api_retry_interval,
    )


class Controller:
    """One controller: the database, the ports and the threads of this process."""

    def __init__(
        self, settings: config.Settings, keys: Mapping[str, Key], path: str, clock: Clock, debug: bool = False
    ) -> None:
        self.debug = debug
        self.path = path
        self.clock = clock
        self.settings = settings
        self.keys = keys
        self.metrics = Metrics()
        self.db = _reach(settings, clock)
        self.lock: ControllerLock = self.db.controller_lock(settings.controller.name)
        self.pool = ThreadPool(POOL)
        self.world = World(
            self.db, self._nova(settings), clock, settings, self.pool, settings.controller.name, self._on_step
        )
        self.workers = Workers(self.world, TABLES, settings.recover_starter.workers)
        self.intake = Intake(self.db, clock, lambda: self.settings, lambda: self.keys, self.workers.poke)
        self.signals = daemon.Signals()
        self.threads = daemon.Threads(self.signals.wake)
        self.openstack_api = self._openstack_api()
        self.app = api.make_app(
            self.intake,
            self.health,
            self.metrics,
            self.keys,
            settings.auth.callbacks,
            clock,
            self.may_start,
            self.openstack_api.answer,
        )
        self.metrics.on_scrape(lambda metrics: housekeeping.fill_metrics(self.world, metrics))

    def _nova(self, settings: config.Settings) -> Nova:
        cloud = cloud_settings(settings)
        keystone = Keystone(cloud, self.clock, self.metrics.observe_nova)
        return Nova(keystone, cloud, self.clock, self.metrics.observe_nova)

    def _openstack_api(self) -> InstanceHa:
        return InstanceHa(
            Failover(self.db, self._known_to_nova, lambda: self.settings, self.clock),
            Notifications(self.db, self.intake, lambda: self.settings, self.clock),
            self._tokens(self.settings),
            lambda: self.settings,
            api.Refusals(self.clock),
        )

    def _tokens(self, settings: config.Settings) -> Tokens:
        cloud = cloud_settings(settings)
        # Its own sign-in: connections to Keystone and to Nova are not shared.
        keystone = Keystone(cloud, self.clock, self.metrics.observe_nova)
        return Tokens(keystone, cloud, self.clock, settings.instance_ha.token_cache_s)

    def _known_to_nova(self, host: str) -> bool:
        return self.world.nova.service(host) is not None

    def _on_step(self, recovery: Any, step: str, seconds: float) -> None:
        self.metrics.step_seconds.observe(seconds, kind=recovery.kind, step=step)

    def health(self) -> tuple[bool, dict[str, Any]]:
        """What GET /healthz shows: 200 unless intake is stopped (database, dead thread); Nova away is degraded."""
        checked: dict[str, Any] = {"threads": "ok" if not self.threads.dead else f"{self.threads.dead} died"}
        try:
            self.db.read(lambda tx: tx.one("database_now"))
            checked["database"] = "ok"
        except Unavailable as error:
            checked["database"] = str(error)
        well = all(value == "ok" for value in checked.values())
        checked["nova"] = self._nova_state
        state = "ok" if well and checked["nova"] == "ok" else ("degraded" if well else "failed")
        return well, {"status": state, "version": __version__, "controller": self.world.name, "checked": checked}

    def may_start(self, host: str, up_s: float) -> tuple[bool, str]:
        """What GET /may-start answers: as all controllers have committed it. Raises Unavailable."""
        return self.db.read(lambda tx: start_gate.may_start(tx, host, up_s), causal=True)

    _nova_state = "not asked yet"

    def _watch_nova(self, stopping: Any) -> None:
        """Ask Nova now and then, so that the first recovery finds a fresh token and /healthz an answer."""
        while not stopping.is_set():
            before = self._nova_state
            try:
                self.world.nova.services()
                self._nova_state = "ok"
            except (Unavailable, Rejected) as error:
                self._nova_state = str(error)
            if self._nova_state != before:
                level = logging.INFO if self._nova_state == "ok" else logging.ERROR
                log.log(level, "Nova: %s", self._nova_state)
            stopping.wait(60.0 if self._nova_state == "ok" else 10.0)

    def _watch_lock(self, stopping: Any) -> None:
        """The name is ours as long as the lock is; without it another controller may take over our claims."""
        lost_at: float | None = None
        while not stopping.is_set():
            try:
                if not self.lock.held():
                    self.lock = self.db.controller_lock(self.world.name)
                lost_at = None
            except ConfigError as error:
                # Our own broken connection may hold it for as long as the server believes in it.
                lost_at = lost_at or self.clock.monotonic()
                if self.clock.monotonic() - lost_at > LOCK_LOST_S:
                    raise
                log.warning("the lock on the name %s is taken: %s", self.world.name, error)
            except Unavailable as error:
                log.info("the lock on the name %s can't be checked: %s", self.world.name, error)
            stopping.wait(LOCK_CHECK_S)

    def run(self, systemd: daemon.Systemd) -> int:
        """Serve until told to stop; the exit status."""
        settings, stopping = self.settings, self.threads.stopping
        taken = self.db.transaction(lambda tx: tx.execute("recovery_takeover", owner=self.world.name))
        server = api.make_server(
            self.app,
            settings.wsgi.server_host,
            settings.wsgi.server_port,
            settings.wsgi.threads,
            settings.wsgi.max_connections,
            settings.wsgi.request_timeout_s,
        )
        self.signals.install()
        start = self.threads.start
        start("intake", self.intake.run, stopping, stop=self.intake.stop)
        start("claims", self.workers.claim_loop, stop=self.workers.stop)
        for number in range(self.workers.size):
            start(f"worker-{number}", self.workers.work)
        keeping = housekeeping.Housekeeping(self.world, self.clock.now())
        start("housekeeping", keeping.run, stopping)
        start("notify", keeping.run_telling, stopping)
        start("nova-watch", self._watch_nova, stopping)
        start("lock-watch", self._watch_lock, stopping)
        start("http", server.run, stop=server.close)
        where = f"{settings.wsgi.server_host}:{server.port}"
        log.info(
            "controller %s %s listens on %s, %d claims of an earlier run taken over",
            self.world.name,
            __version__,
            where,
            taken,
        )
        systemd.ready(f"listening on {where}")
        status = daemon.supervise(
            self.signals,
            self.threads,
            systemd,
            reload=self.reload,
            healthy=lambda: not self.threads.dead,
            clock=self.clock,
        )
        return status

    def reload(self) -> None:
        """SIGHUP: read everything again and swap it, or raise ConfigError and change nothing."""
        loaded = _load(self.path)
        settings, keys = loaded.settings
        fixed = ("wsgi", "db", "controller")
        for name in fixed:
            if getattr(settings, name) != getattr(self.settings, name):
                log.warning("[%s] changed: that needs a restart, the old values stay in use", name)
        settings = replace(settings, **{name: getattr(self.settings, name) for name in fixed})
        same_cloud = cloud_settings(settings) == cloud_settings(self.settings)
        nova = self.world.nova if same_cloud else self._nova(settings)
        tokens = self._tokens(settings)
        program.open_log(loaded, self.debug)
        self.app.reload(keys, settings.auth.callbacks)
        self.settings, self.keys, self.world.settings, self.world.nova = settings, keys, settings, nova
        self.openstack_api.tokens = tokens
        for warning in loaded.warnings:
            log.warning("%s", warning)
        log.info("settings reloaded from %s", self.path)


def _reach(settings: config.Settings, clock: Clock) -> Database:
    """Open the database; one that is away at start is waited for."""
    told = ""
    while True:
        try:
            db = open_database(settings.db, clock)
            db.check_version()
            return db
        except Unavailable as error:
            if str(error) != told:
                log.error("%s; tried again every %.0f s", error, DATABASE_AWAY_S)
            told = str(error)
            clock.sleep(DATABASE_AWAY_S)


def _load(path: str) -> Loaded:
    settings, warnings = config.load(path)
    keys = config.read_keys(settings)
    secrets = [*settings.secrets(), *(key.secret for key in keys.values())]
    return Loaded((settings, keys), warnings, secrets, settings.log.log_level, settings.log.log_file)


def _serve(arguments: argparse.Namespace, loaded: Loaded) -> int:
    settings, keys = loaded.settings
    return Controller(settings, keys, arguments.config, Clock(), arguments.debug).run(daemon.Systemd())


def _checks(arguments: argparse.Namespace, loaded: Loaded) -> list[checkup.Check]:
    # Not at the top: a controller that serves does without, and without the driver of the other database.
    from masakari.checkup import Online

    settings, keys = loaded.settings
    return Online(settings, keys, cloud_settings(settings), Clock()).checks()


def main(argv: list[str] | None = None) -> int:
    """Entry point of masakari-controller; the exit status."""
    return checkup.main(
        program.Program(
            name="masakari-controller",
            version=__version__,
            description="The Masakari controller: takes failure callbacks and brings the instances back, through Nova.",
            epilog=EPILOG,
            default_config=config.DEFAULT_PATH,
            load=lambda arguments: _load(arguments.config),
            serve=_serve,
        ),
        _checks,
        argv,
    )
