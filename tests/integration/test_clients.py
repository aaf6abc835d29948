"""The real clients of OpenStack against the simulated cloud: whoever signs in there, signs in here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.clients import CommandFailed, OpenStack
from tests.lab.processes import CloudProcess

pytestmark = pytest.mark.needs_clients


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CloudProcess]:
    folder: Path = tmp_path_factory.mktemp("cloud")
    with CloudProcess(folder) as running:
        yield running


def test_a_token_is_issued_for_each_user(cloud: CloudProcess) -> None:
    accounts = (("admin", "admin"), ("demo", "demo"), ("monitor", "service"))
    lines = [
        f"openstack --os-username {user} --os-project-name {project} token issue -f json" for user, project in accounts
    ]
    tokens = [answer.json() for answer in OpenStack(cloud.remote.auth_url).many(lines)]
    assert len({token["user_id"] for token in tokens}) == 3
    assert all(token["id"].startswith("gAAAAA") for token in tokens)


def test_the_address_of_keystone_may_come_without_v3(cloud: CloudProcess) -> None:
    assert OpenStack(f"{cloud.remote.url}/identity").run("token", "issue")["id"]


def test_the_catalog_has_the_service_at_the_address_it_was_given(cloud: CloudProcess) -> None:
    openstack = OpenStack(cloud.remote.auth_url)
    assert "instance-ha" not in {service["Type"] for service in openstack.run("catalog", "list")}
    cloud.remote.set_instance_ha("http://127.0.0.1:15868/v1/%(tenant_id)s")
    catalog, token = openstack.many(["openstack catalog list -f json", "openstack token issue -f json"])
    [service] = [service for service in catalog.json() if service["Type"] == "instance-ha"]
    assert service["Name"] == "masakari"
    assert {one["url"] for one in service["Endpoints"]} == {f"http://127.0.0.1:15868/v1/{token.json()['project_id']}"}


def test_a_wrong_password_is_told_and_is_no_success(cloud: CloudProcess) -> None:
    with pytest.raises(CommandFailed, match="requires authentication"):
        OpenStack(cloud.remote.auth_url, password="wrong").run("token", "issue")


def test_several_commands_in_one_process_are_like_one_after_the_other(cloud: CloudProcess) -> None:
    openstack = OpenStack(cloud.remote.auth_url)
    lines = [
        "openstack token issue -f json",
        "openstack token revoke nonsense",
        "openstack token issue -f json",
        "openstack nonsense",
    ]
    first, failed, second, unknown = openstack.many(lines)
    assert first.json()["id"] != second.json()["id"]
    assert failed.status == 1 and "404" in failed.err
    assert unknown.status == 2
    assert openstack.typed("openstack nonsense").status == 2


def test_a_compute_service_is_enabled_as_in_the_documents(cloud: CloudProcess) -> None:
    look = "openstack compute service list --service nova-compute -f json"
    lines = [
        "openstack compute service set --disable compute1 nova-compute",
        look,
        "openstack compute service set --enable compute1 nova-compute",
        look,
    ]
    answers = [answer.good() for answer in OpenStack(cloud.remote.auth_url).many(lines)]
    disabled, enabled = ({one["Host"]: one["Status"] for one in answers[number].json()} for number in (1, 3))
    assert disabled == {"compute1": "disabled", "compute2": "enabled", "compute3": "enabled"}
    assert set(enabled.values()) == {"enabled"}


def test_openstacksdk_signs_in(cloud: CloudProcess) -> None:
    openstack = OpenStack(cloud.remote.auth_url, "demo", "demo")
    assert openstack.sdk("result = conn.current_project.name") == "demo"
    with pytest.raises(CommandFailed, match="ZeroDivisionError"):
        openstack.sdk("1 / 0")
