"""What recovery relies on in Keystone and Nova, and nothing else, seen through the ports that it uses.

Runs on the simulated cloud; with CLOUD_CTL set, on a real one as well (clouds.Real says what that needs).
Whatever passes on a real cloud only is a fault of the simulated one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from masakari.common.errors import Conflict, MaybeSent, NotFound, Rejected, Unavailable
from masakari.keystone import SignInFailed
from masakari.nova import Aggregate, Nova, Server, Service

from .clouds import KINDS, Cloud

UNKNOWN = "00000000-0000-0000-0000-00000000dead"
# What a recovery may meet: no force-down, force-down, services by id, no force in evacuate, the newest.
VERSIONS = ["2.1", "2.11", "2.52", "2.53", "2.68", "2.93"]
SOON_S = 30
EVACUATED_WITHIN_S = 90
# Nova's service_down_time is 60 s by default.
SILENT_UNTIL_DOWN_S = 80


@pytest.fixture(scope="module", params=list(KINDS))
def clean_cloud(request: pytest.FixtureRequest) -> Iterator[Cloud]:
    """One cloud for all tests: a real one takes its time to start."""
    cloud = KINDS[request.param]()
    yield cloud
    cloud.reset()


@pytest.fixture(scope="class")
def cloud(clean_cloud: Cloud) -> Iterator[Cloud]:
    """The cloud, cleaned up after each class of tests."""
    yield clean_cloud
    clean_cloud.reset()


@pytest.fixture(scope="class")
def nova(cloud: Cloud) -> Nova:
    return cloud.nova()


@pytest.fixture(scope="class")
def hosts(nova: Nova) -> list[str]:
    return sorted(service.host for service in nova.services())


def service_of(nova: Nova, host: str) -> Service:
    service = nova.service(host)
    assert service is not None, f"Nova knows no nova-compute on {host}"
    return service


def idle(cloud: Cloud, nova: Nova, uuid: str, status: str) -> Server:
    """The server once it has the status and no task."""

    def reached() -> Server | None:
        server = nova.server(uuid)
        return server if server.status == status and server.task_state is None else None

    found = cloud.until(SOON_S, f"{uuid} {status} and idle", reached)
    assert isinstance(found, Server)
    return found


def evacuated(cloud: Cloud, nova: Nova, uuid: str, source: str, status: str = "ACTIVE") -> Server:
    """The server once its evacuation is over as it should: wanted status, no task, another host."""

    def reached() -> Server | None:
        server = nova.server(uuid)
        assert server.status != "ERROR" or server.task_state, f"the evacuation failed: {server.fault}"
        done = server.status == status and server.task_state is None and server.host != source
        return server if done else None

    found = cloud.until(EVACUATED_WITHIN_S, f"{uuid} {status}, idle and away from {source}", reached)
    assert isinstance(found, Server)
    return found


def failed(cloud: Cloud, nova: Nova, uuid: str) -> Server:
    """The server once its evacuation has ended in ERROR."""

    def reached() -> Server | None:
        server = nova.server(uuid)
        return server if server.status == "ERROR" and server.task_state is None else None

    found = cloud.until(EVACUATED_WITHIN_S, f"{uuid} ERROR and idle", reached)
    assert isinstance(found, Server)
    return found


class TestSignIn:
    def test_a_password_is_enough_to_see_all_hosts(self, nova: Nova) -> None:
        services = nova.services()
        assert len(services) >= 3
        assert all(service.up and service.enabled and not service.forced_down for service in services)

    def test_so_is_an_application_credential(self, cloud: Cloud, nova: Nova) -> None:
        credential, secret = cloud.application_credential()
        other = cloud.nova(
            application_credential_id=credential,
            application_credential_secret=secret,
            admin_user="",
            admin_password="",
            project_name="",
        )
        assert {service.id for service in other.services()} == {service.id for service in nova.services()}

    @pytest.mark.parametrize("wrong", ["admin_user", "admin_password", "project_name"])
    def test_a_wrong_account_is_refused(self, cloud: Cloud, wrong: str) -> None:
        with pytest.raises(SignInFailed, match="HTTP 401"):
            cloud.nova(**{wrong: "wrong"}, api_max_retry_cnt=1).services()

    def test_a_wrong_secret_is_refused(self, cloud: Cloud) -> None:
        keystone = cloud.keystone(
            application_credential_id=cloud.application_credential()[0],
            application_credential_secret="wrong",
        )
        with pytest.raises(SignInFailed, match="HTTP 401"):
            keystone.token()

    def test_a_wrong_region_is_named(self, cloud: Cloud) -> None:
        with pytest.raises(SignInFailed, match="in region nowhere"):
            cloud.keystone(region="nowhere").token()

    @pytest.mark.parametrize("suffix", ["", "/", "/v3", "/v3/"])
    def test_the_address_may_have_v3_or_not(self, cloud: Cloud, suffix: str) -> None:
        root = cloud.settings().auth_url.rstrip("/").removesuffix("/v3")
        assert cloud.keystone(auth_url=root + suffix).token().compute_url

    def test_the_domain_may_be_given_by_id(self, cloud: Cloud) -> None:
        changes = {"user_domain_name": "", "project_domain_name": "", "domain": "wrong"}
        by_id = {"user_domain_id": "default", "project_domain_id": "default"}
        assert cloud.keystone(**changes, **by_id).token().value

    def test_a_revoked_token_is_replaced(self, cloud: Cloud) -> None:
        settings = cloud.settings()
        keystone = cloud.keystone()
        nova = Nova(keystone, settings, cloud.clock)
        before = keystone.token()
        # Before Nova has seen it: once it has, it believes it for some minutes.
        cloud.revoke(keystone, before.value)
        assert nova.services()
        assert keystone.token().value != before.value

    def test_the_version_is_between_the_oldest_and_the_newest_known(self, nova: Nova) -> None:
        assert (2, 1) <= nova.microversion <= (2, 93)


@pytest.mark.parametrize("newest", VERSIONS)
class TestServices:
    def test_a_service_is_disabled_and_enabled(self, cloud: Cloud, hosts: list[str], newest: str) -> None:
        nova = cloud.nova(newest)
        assert nova.disable(service_of(nova, hosts[0]), "masakari: down").startswith("req-")
        disabled = service_of(nova, hosts[0])
        assert not disabled.enabled
        assert disabled.up
        assert disabled.disabled_reason == "masakari: down"
        nova.disable(disabled, "once more")
        assert nova.enable(disabled).startswith("req-")
        enabled = service_of(nova, hosts[0])
        assert enabled.enabled
        assert enabled.disabled_reason == ""

    def test_a_service_forced_down_reads_down_at_once(self, cloud: Cloud, hosts: list[str], newest: str) -> None:
        nova = cloud.nova(newest)
        service = service_of(nova, hosts[0])
        if newest == "2.1":
            with pytest.raises(Rejected):
                nova.force_down(service, True)
            return
        nova.force_down(service, True)
        down = service_of(nova, hosts[0])
        assert (down.up, down.forced_down, down.enabled) == (False, True, True)
        nova.force_down(service, False)
        up = service_of(nova, hosts[0])
        assert (up.up, up.forced_down) == (True, False)

    def test_a_change_of_ours_moves_the_time_of_the_last_report(
        self, cloud: Cloud, hosts: list[str], newest: str
    ) -> None:
        nova = cloud.nova(newest)
        service = service_of(nova, hosts[0])
        assert service.updated_at is not None
        cloud.clock.sleep(1.5)
        nova.disable(service, "masakari")
        after = service_of(nova, hosts[0])
        nova.enable(service)
        assert after.updated_at is not None
        assert after.updated_at >= service.updated_at + 1
        assert abs(after.updated_at - cloud.clock.now()) < 5

    def test_a_living_host_that_is_not_disabled_stays_out_of_it(
        self, cloud: Cloud, hosts: list[str], newest: str
    ) -> None:
        nova = cloud.nova(newest)
        others = {service.host: service for service in nova.services()}
        assert others[hosts[1]].enabled
        assert others[hosts[1]].up

    def test_an_unknown_host_is_no_service(self, cloud: Cloud, newest: str) -> None:
        nova = cloud.nova(newest)
        assert nova.service("nowhere") is None
        unknown = Service("nowhere", UNKNOWN, True, True, False, None, "")
        with pytest.raises(NotFound):
            nova.disable(unknown, "masakari")


@pytest.fixture(scope="class")
def uuids(cloud: Cloud, hosts: list[str]) -> list[str]:
    return cloud.boot(3, hosts[0])


class TestInstances:
    def test_the_instances_of_a_host_are_listed(self, nova: Nova, hosts: list[str], uuids: list[str]) -> None:
        servers = nova.servers(hosts[0])
        assert {server.id for server in servers} == set(uuids)
        for server in servers:
            assert (server.status, server.vm_state, server.task_state) == ("ACTIVE", "active", None)
            assert (server.power_state, server.host, server.local_disk) == (1, hosts[0], True)

    @pytest.mark.parametrize("page_size", [1, 2, 3, 4])
    def test_a_list_in_pages_is_complete(
        self, cloud: Cloud, hosts: list[str], uuids: list[str], page_size: int
    ) -> None:
        nova = cloud.nova(page_size=page_size)
        assert {server.id for server in nova.servers(hosts[0])} == set(uuids)

    def test_an_empty_host_and_an_unknown_one_have_no_instances(
        self, nova: Nova, hosts: list[str], uuids: list[str]
    ) -> None:
        assert nova.servers(hosts[1]) == []
        assert nova.servers("nowhere") == []

    def test_one_instance_reads_as_in_the_list(self, nova: Nova, hosts: list[str], uuids: list[str]) -> None:
        assert nova.server(uuids[0]) in nova.servers(hosts[0])

    def test_an_unknown_instance_is_not_found(self, nova: Nova) -> None:
        for call in (nova.server, nova.actions, nova.stop, nova.start, nova.pause, nova.reset_state):
            with pytest.raises(NotFound):
                call(UNKNOWN)

    def test_a_new_instance_has_been_created_and_not_evacuated(self, nova: Nova, uuids: list[str]) -> None:
        [action] = nova.actions(uuids[0])
        assert action.action == "create"
        assert nova.evacuations(instance=uuids[0]) == []

    def test_stop_and_start(self, cloud: Cloud, nova: Nova, uuids: list[str]) -> None:
        uuid = uuids[0]
        request_id = nova.stop(uuid)
        # Its old status with a task, or it is done already: the status alone says nothing.
        first = nova.server(uuid)
        assert (first.status, first.task_state) in {("ACTIVE", "powering-off"), ("SHUTOFF", None)}
        stopped = idle(cloud, nova, uuid, "SHUTOFF")
        assert (stopped.vm_state, stopped.power_state) == ("stopped", 4)
        with pytest.raises(Conflict, match="vm_state stopped"):
            nova.stop(uuid)
        nova.start(uuid)
        assert idle(cloud, nova, uuid, "ACTIVE").power_state == 1
        with pytest.raises(Conflict, match="vm_state active"):
            nova.start(uuid)
        actions = nova.actions(uuid)
        assert [action.action for action in actions] == ["start", "stop", "create"]
        assert actions[1].request_id == request_id
        assert abs(actions[0].start_time - cloud.clock.now()) < SOON_S

    def test_the_way_back_from_error_is_stop_and_start(self, cloud: Cloud, nova: Nova, uuids: list[str]) -> None:
        uuid = uuids[1]
        nova.reset_state(uuid)
        assert nova.server(uuid).status == "ERROR"
        with pytest.raises(Conflict):
            nova.start(uuid)
        nova.stop(uuid)
        idle(cloud, nova, uuid, "SHUTOFF")
        nova.start(uuid)
        idle(cloud, nova, uuid, "ACTIVE")

    def test_a_paused_instance_is_neither_stopped_nor_started(self, cloud: Cloud, nova: Nova, uuids: list[str]) -> None:
        uuid = uuids[2]
        nova.pause(uuid)
        idle(cloud, nova, uuid, "PAUSED")
        for call in (nova.stop, nova.start, nova.pause):
            with pytest.raises(Conflict, match="vm_state paused"):
                call(uuid)

    @pytest.mark.parametrize("newest", VERSIONS)
    def test_an_evacuate_from_a_living_host_is_refused(
        self, cloud: Cloud, hosts: list[str], uuids: list[str], newest: str
    ) -> None:
        nova = cloud.nova(newest)
        for keep in (True, False):
            with pytest.raises(Rejected, match="still in use") as refused:
                nova.evacuate(uuids[0], hosts[1], keep)
            assert refused.value.status == 400
            assert refused.value.request_id.startswith("req-")
        assert nova.evacuations(instance=uuids[0]) == []

    @pytest.mark.parametrize("newest", VERSIONS)
    def test_a_living_host_answers(self, cloud: Cloud, hosts: list[str], newest: str) -> None:
        nova = cloud.nova(newest)
        assert nova.answers_uptime(hosts[0], within_s=3)
        assert not nova.answers_uptime("nowhere", within_s=3)


@pytest.fixture(scope="class")
def silent(cloud: Cloud, hosts: list[str]) -> list[str]:
    uuids = cloud.boot(2, hosts[0])
    cloud.kill(hosts[0])
    return uuids


class TestSilentHost:
    """A host has died, and Nova still believes it up."""

    def test_it_reads_up_and_its_instances_active(self, nova: Nova, hosts: list[str], silent: list[str]) -> None:
        assert service_of(nova, hosts[0]).up
        assert {server.status for server in nova.servers(hosts[0])} == {"ACTIVE"}

    def test_its_instances_are_not_evacuated(self, nova: Nova, hosts: list[str], silent: list[str]) -> None:
        with pytest.raises(Rejected, match="still in use"):
            nova.evacuate(silent[0], hosts[1], False)

    def test_it_does_not_answer(self, nova: Nova, hosts: list[str], silent: list[str]) -> None:
        assert not nova.answers_uptime(hosts[0], within_s=0.5)

    def test_disabling_it_takes_long_and_is_done_at_once(
        self, cloud: Cloud, hosts: list[str], silent: list[str]
    ) -> None:
        nova = cloud.nova(read_timeout_s=1)
        with pytest.raises(MaybeSent, match="no answer within 1 s"):
            nova.disable(service_of(nova, hosts[0]), "masakari: silent")
        disabled = service_of(nova, hosts[0])
        assert (disabled.enabled, disabled.disabled_reason) == (False, "masakari: silent")

    def test_in_the_end_it_reads_down_and_the_oldest_nova_evacuates(
        self, cloud: Cloud, hosts: list[str], silent: list[str]
    ) -> None:
        nova = cloud.nova("2.1")
        cloud.until(SILENT_UNTIL_DOWN_S, "reads down", lambda: not service_of(nova, hosts[0]).up)
        nova.disable(service_of(nova, hosts[0]), "masakari: down")
        nova.evacuate(silent[0], hosts[1], True)
        assert evacuated(cloud, nova, silent[0], hosts[0]).host == hosts[1]


class TestIsolation:
    @pytest.mark.parametrize("newest", VERSIONS[1:])
    def test_a_silent_host_is_isolated_at_once(self, cloud: Cloud, hosts: list[str], newest: str) -> None:
        nova = cloud.nova(newest, read_timeout_s=3)
        cloud.kill(hosts[0])
        nova.isolate(service_of(nova, hosts[0]), "masakari: dead")
        isolated = service_of(nova, hosts[0])
        assert (isolated.up, isolated.forced_down, isolated.enabled) == (False, True, False)
        assert isolated.disabled_reason == "masakari: dead"
        cloud.start(hosts[0])
        nova.force_down(isolated, False)
        cloud.until(SOON_S, "reads up", lambda: nova.answers_uptime(hosts[0], within_s=3))
        cloud.until(SOON_S, "reads up", lambda: service_of(nova, hosts[0]).up)
        nova.enable(isolated)


@pytest.fixture
def aggregate(cloud: Cloud) -> Iterator[Aggregate]:
    made = cloud.aggregate(f"rack-{cloud.clock.now():.0f}")
    yield made
    cloud.drop_aggregate(made)


def hosts_in(nova: Nova, aggregate: Aggregate) -> list[str]:
    """Who is in it by now."""
    [found] = [one for one in nova.aggregates() if one.id == aggregate.id]
    assert found.name == aggregate.name
    return sorted(found.hosts)


class TestAggregates:
    @pytest.mark.parametrize("newest", VERSIONS)
    def test_a_host_joins_an_aggregate_and_leaves_it(
        self, cloud: Cloud, hosts: list[str], aggregate: Aggregate, newest: str
    ) -> None:
        nova = cloud.nova(newest)
        assert hosts_in(nova, aggregate) == []
        assert nova.join_aggregate(aggregate, hosts[2]).startswith("req-")
        nova.join_aggregate(aggregate, hosts[0])
        assert hosts_in(nova, aggregate) == [hosts[0], hosts[2]]
        assert nova.leave_aggregate(aggregate, hosts[2]).startswith("req-")
        assert hosts_in(nova, aggregate) == [hosts[0]]

    def test_joining_twice_is_a_conflict_and_leaving_twice_is_not_found(
        self, nova: Nova, hosts: list[str], aggregate: Aggregate
    ) -> None:
        nova.join_aggregate(aggregate, hosts[2])
        with pytest.raises(Conflict, match="already"):
            nova.join_aggregate(aggregate, hosts[2])
        assert hosts_in(nova, aggregate) == [hosts[2]]
        nova.leave_aggregate(aggregate, hosts[2])
        with pytest.raises(NotFound):
            nova.leave_aggregate(aggregate, hosts[2])

    def test_an_unknown_host_and_an_unknown_aggregate_are_not_found(
        self, nova: Nova, hosts: list[str], aggregate: Aggregate
    ) -> None:
        gone = Aggregate(999999, "gone", ())
        for call in (nova.join_aggregate, nova.leave_aggregate):
            with pytest.raises(NotFound):
                call(aggregate, "nowhere")
            with pytest.raises(NotFound):
                call(gone, hosts[2])

    def test_a_host_is_in_one_availability_zone_at_most(
        self, cloud: Cloud, nova: Nova, hosts: list[str], aggregate: Aggregate
    ) -> None:
        north, south = (cloud.aggregate(f"{name}-{cloud.clock.now():.0f}", zone=name) for name in ("north", "south"))
        nova.join_aggregate(north, hosts[2])
        with pytest.raises(Conflict, match="zone"):
            nova.join_aggregate(south, hosts[2])
        assert hosts_in(nova, south) == []
        # An aggregate without a zone is no obstacle.
        nova.join_aggregate(aggregate, hosts[2])
        for zone in (north, south):
            cloud.drop_aggregate(zone)

    def test_a_dead_host_leaves_and_joins_as_well(
        self, cloud: Cloud, nova: Nova, hosts: list[str], aggregate: Aggregate
    ) -> None:
        cloud.kill(hosts[0])
        nova.join_aggregate(aggregate, hosts[0])
        nova.leave_aggregate(aggregate, hosts[0])
        assert hosts_in(nova, aggregate) == []


@dataclass
class FallenHost:
    """A dead, isolated host with instances still booked on it; each test takes one of its own."""

    name: str
    active: list[str] = field(default_factory=list)
    stopped: str = ""
    error: str = ""
    paused: str = ""

    def take(self) -> str:
        """An ACTIVE instance that no other test uses."""
        return self.active.pop()


@pytest.fixture(scope="class")
def fallen(cloud: Cloud, nova: Nova, hosts: list[str]) -> FallenHost:
    uuids = cloud.boot(19, hosts[0])
    fallen = FallenHost(hosts[0], uuids[3:], *uuids[:3])
    nova.stop(fallen.stopped)
    nova.pause(fallen.paused)
    idle(cloud, nova, fallen.stopped, "SHUTOFF")
    idle(cloud, nova, fallen.paused, "PAUSED")
    cloud.kill(hosts[0])
    nova.reset_state(fallen.error)
    nova.isolate(service_of(nova, hosts[0]), "masakari: dead")
    return fallen


class TestEvacuation:
    @pytest.mark.parametrize("keep", [True, False])
    @pytest.mark.parametrize("newest", ["2.14", "2.67", "2.93"])
    def test_an_active_instance_ends_active_on_the_target(
        self, cloud: Cloud, hosts: list[str], fallen: FallenHost, newest: str, keep: bool
    ) -> None:
        nova, uuid = cloud.nova(newest), fallen.take()
        nova.evacuate(uuid, hosts[1], keep)
        server = evacuated(cloud, nova, uuid, fallen.name)
        assert (server.host, server.vm_state, server.power_state) == (hosts[1], "active", 1)

    @pytest.mark.parametrize(("newest", "keep"), [("2.1", True), ("2.93", True), ("2.93", False)])
    def test_without_a_target_nova_chooses_one(
        self, cloud: Cloud, hosts: list[str], fallen: FallenHost, newest: str, keep: bool
    ) -> None:
        nova, uuid = cloud.nova(newest), fallen.take()
        nova.evacuate(uuid, None, keep)
        assert evacuated(cloud, nova, uuid, fallen.name).host in hosts[1:]

    def test_a_stopped_instance_stays_stopped(
        self, cloud: Cloud, nova: Nova, hosts: list[str], fallen: FallenHost
    ) -> None:
        nova.evacuate(fallen.stopped, hosts[1], True)
        server = evacuated(cloud, nova, fallen.stopped, fallen.name, "SHUTOFF")
        assert (server.host, server.power_state) == (hosts[1], 4)

    def test_an_instance_in_error_ends_active(
        self, cloud: Cloud, nova: Nova, hosts: list[str], fallen: FallenHost
    ) -> None:
        nova.evacuate(fallen.error, hosts[1], True)

        def away() -> bool:
            server = nova.server(fallen.error)
            return (server.status, server.task_state, server.host) == ("ACTIVE", None, hosts[1])

        cloud.until(EVACUATED_WITHIN_S, "ACTIVE on the target", away)

    def test_a_paused_instance_is_refused_until_it_is_reset(
        self, cloud: Cloud, nova: Nova, hosts: list[str], fallen: FallenHost
    ) -> None:
        with pytest.raises(Conflict, match="vm_state paused"):
            nova.evacuate(fallen.paused, hosts[1], True)
        nova.reset_state(fallen.paused)
        assert nova.server(fallen.paused).status == "ERROR"
        nova.evacuate(fallen.paused, hosts[1], True)

        def away() -> bool:
            server = nova.server(fallen.paused)
            return (server.status, server.task_state, server.host) == ("ACTIVE", None, hosts[1])

        cloud.until(EVACUATED_WITHIN_S, "ACTIVE on the target", away)

    def test_what_can_not_be_is_refused(self, nova: Nova, hosts: list[str], fallen: FallenHost) -> None:
        uuid = fallen.active[0]
        with pytest.raises(NotFound, match="nowhere"):
            nova.evacuate(uuid, "nowhere", True)
        with pytest.raises(NotFound, match="nowhere"):
            nova.evacuate(uuid, "nowhere", False)
        with pytest.raises(NotFound):
            nova.evacuate(UNKNOWN, hosts[1], True)
        with pytest.raises(Rejected, match="same"):
            nova.evacuate(uuid, fallen.name, True)
        assert nova.evacuations(instance=uuid) == []

    def test_the_request_leaves_traces_before_it_is_answered(
        self, cloud: Cloud, nova: Nova, hosts: list[str], fallen: FallenHost
    ) -> None:
        uuid = fallen.take()
        request_id = nova.evacuate(uuid, hosts[1], True)
        [migration] = nova.evacuations(instance=uuid)
        assert (migration.source, migration.dest) == (fallen.name, hosts[1])
        assert abs(migration.created_at - cloud.clock.now()) < SOON_S
        newest = nova.actions(uuid)[0]
        assert (newest.action, newest.request_id) == ("evacuate", request_id)
        evacuated(cloud, nova, uuid, fallen.name)
        done = cloud.until(
            SOON_S,
            "the migration is done",
            lambda: [m for m in nova.evacuations(source=fallen.name) if (m.id, m.status) == (migration.id, "done")],
        )
        assert done[0].instance_uuid == uuid
        assert nova.actions(uuid)[0].message is None

    def test_the_oldest_nova_lists_evacuations_too(
        self, cloud: Cloud, nova: Nova, hosts: list[str], fallen: FallenHost
    ) -> None:
        uuid, old = fallen.take(), cloud.nova("2.1")
        nova.evacuate(uuid, hosts[1], True)
        assert [found.instance_uuid for found in old.evacuations(instance=uuid)] == [uuid]
        assert uuid in {found.instance_uuid for found in old.evacuations(source=fallen.name)}
        assert old.evacuations(source=hosts[1]) == []

    def test_active_and_idle_on_the_old_host_is_not_the_end(
        self, cloud: Cloud, nova: Nova, hosts: list[str], fallen: FallenHost
    ) -> None:
        uuid = fallen.take()
        nova.evacuate(uuid, hosts[1], True)
        states: list[tuple[str, bool, str | None]] = []

        def followed() -> bool:
            server = nova.server(uuid)
            state = (server.status, server.task_state is None, server.host)
            if states[-1:] != [state]:
                states.append(state)
            return server.host == hosts[1] and server.task_state is None

        cloud.until(EVACUATED_WITHIN_S, "evacuated", followed)
        rebuilding, settling = ("REBUILD", False, fallen.name), ("ACTIVE", True, fallen.name)
        assert states[-1] == ("ACTIVE", True, hosts[1])
        assert states[:-1] in ([], [rebuilding], [rebuilding, settling], [settling])

    def test_a_disabled_target_fails_at_once_and_works_once_enabled(
        self, cloud: Cloud, nova: Nova, hosts: list[str], fallen: FallenHost
    ) -> None:
        uuid, target = fallen.take(), service_of(nova, hosts[2])
        nova.disable(target, "a spare")
        nova.evacuate(uuid, target.host, False)
        server = failed(cloud, nova, uuid)
        assert server.host == fallen.name
        assert "No valid host" in server.fault
        assert nova.evacuations(instance=uuid)[0].status in ("error", "failed")
        nova.enable(target)
        nova.evacuate(uuid, target.host, False)
        again = cloud.until(EVACUATED_WITHIN_S, "on the target", lambda: nova.server(uuid).host == target.host)
        assert again

    def test_to_keep_the_disk_a_disabled_target_is_good_enough(
        self, cloud: Cloud, nova: Nova, hosts: list[str], fallen: FallenHost
    ) -> None:
        uuid, target = fallen.take(), service_of(nova, hosts[2])
        nova.disable(target, "a spare")
        nova.evacuate(uuid, target.host, True)
        assert evacuated(cloud, nova, uuid, fallen.name).host == target.host
        nova.enable(target)

    def test_up_to_2_13_a_disk_on_shared_storage_is_not_built_anew(
        self, cloud: Cloud, hosts: list[str], fallen: FallenHost
    ) -> None:
        nova, uuid = cloud.nova("2.13"), fallen.take()
        nova.evacuate(uuid, hosts[1], False)
        server = failed(cloud, nova, uuid)
        assert server.host == fallen.name
        assert "Invalid state of instance files on shared storage" in server.fault
        assert nova.evacuations(instance=uuid)[0].status == "failed"
        nova.evacuate(uuid, hosts[1], True)
        cloud.until(EVACUATED_WITHIN_S, "on the target", lambda: nova.server(uuid).host == hosts[1])

    def test_a_second_evacuate_is_not_refused_and_wrecks_the_server(
        self, cloud: Cloud, nova: Nova, hosts: list[str], fallen: FallenHost
    ) -> None:
        uuid = fallen.take()
        nova.evacuate(uuid, hosts[1], True)
        nova.evacuate(uuid, hosts[1], True)
        wrecked = cloud.until(EVACUATED_WITHIN_S, "wrecked", lambda: nova.server(uuid).vm_state == "error")
        assert wrecked
        cloud.clock.sleep(3)
        server = nova.server(uuid)
        # Mostly it stays in REBUILD with a task for ever; a busy cloud was seen to give it up as ERROR.
        assert server.vm_state == "error"
        assert server.status == "ERROR" or (server.status == "REBUILD" and server.task_state is not None)

    def test_only_a_change_moves_the_time_of_a_dead_host(self, cloud: Cloud, nova: Nova, fallen: FallenHost) -> None:
        before = service_of(nova, fallen.name)
        cloud.clock.sleep(1.5)
        assert service_of(nova, fallen.name) == before
        nova.force_down(before, True)
        nova.disable(before, before.disabled_reason)
        assert service_of(nova, fallen.name) == before
        nova.disable(before, "another reason")
        after = service_of(nova, fallen.name)
        assert before.updated_at is not None
        assert after.updated_at is not None
        assert after.updated_at >= before.updated_at + 1


class TestReturn:
    def test_a_host_comes_back_only_after_its_nova_compute_has_run_again(
        self, cloud: Cloud, nova: Nova, hosts: list[str]
    ) -> None:
        [uuid] = cloud.boot(1, hosts[0])
        cloud.kill(hosts[0])
        service = service_of(nova, hosts[0])
        nova.isolate(service, "masakari: dead")
        nova.evacuate(uuid, hosts[1], True)
        evacuated(cloud, nova, uuid, hosts[0])
        self._done(cloud, nova, uuid, "done")
        with pytest.raises(Rejected, match="evacuation migration records remain") as refused:
            nova.force_down(service, False)
        assert refused.value.status == 400

        cloud.start(hosts[0])
        self._done(cloud, nova, uuid, "completed")
        back = service_of(nova, hosts[0])
        assert (back.up, back.forced_down, back.enabled) == (False, True, False)
        nova.force_down(service, False)
        cloud.until(SOON_S, "reads up", lambda: service_of(nova, hosts[0]).up)
        nova.enable(service)
        [new] = cloud.boot(1, hosts[0])
        assert nova.server(new).host == hosts[0]

    def _done(self, cloud: Cloud, nova: Nova, uuid: str, status: str) -> None:
        cloud.until(SOON_S, f"migration {status}", lambda: nova.evacuations(instance=uuid)[0].status == status)


class TestUnreachable:
    def test_nobody_there_is_told_from_no_answer(self, cloud: Cloud) -> None:
        with pytest.raises(Unavailable) as failed:
            cloud.keystone(auth_url="http://127.0.0.1:1/v3", connect_timeout_s=0.2).token()
        assert "no connection" in str(failed.value)
