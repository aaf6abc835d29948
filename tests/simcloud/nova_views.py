"""Nova's JSON, by microversion."""

from __future__ import annotations

import functools
import hashlib
from typing import Any

from .model import World
from .records import Action, Aggregate, Host, Migration, Server, iso, iso_z

Version = tuple[int, int]
IMAGE_ID = "022a1056-aade-4709-ab2d-80de53d27d93"
_PROGRESS_SHOWN = ("ACTIVE", "BUILD", "REBUILD", "RESIZE", "VERIFY_RESIZE", "MIGRATING")
_TINY = {
    "vcpus": 1,
    "ram": 64,
    "disk": 1,
    "ephemeral": 0,
    "swap": 0,
    "original_name": "tiny",
    "extra_specs": {},
}


def service(world: World, host: Host, version: Version, *, exact: bool = False) -> dict[str, Any]:
    """A nova-compute service. exact: with microseconds, as the answer to a change has."""
    view: dict[str, Any] = {
        "binary": "nova-compute",
        "host": host.name,
        "id": host.service_uuid if version >= (2, 53) else host.service_id,
        "zone": "nova",
        "status": "enabled" if host.enabled else "disabled",
        "state": "up" if world.reads_up(host) else "down",
        "updated_at": iso(world.service_updated_at(host), exact=exact),
        "disabled_reason": host.disabled_reason,
    }
    if version >= (2, 11):
        view["forced_down"] = host.forced_down
    return view


def control_service(world: World, binary: str, number: int, version: Version) -> dict[str, Any]:
    """A service that always runs: nova-scheduler, nova-conductor."""
    view: dict[str, Any] = {
        "binary": binary,
        "host": "controller",
        "id": number,
        "zone": "internal",
        "status": "enabled",
        "state": "up",
        "updated_at": iso(world.now),
        "disabled_reason": None,
    }
    if version >= (2, 11):
        view["forced_down"] = False
    if version >= (2, 53):
        view["id"] = f"00000000-0000-4000-8000-{number:012d}"
    return view


def hypervisor(world: World, host: Host, version: Version) -> dict[str, Any]:
    return {
        "id": host.hypervisor_uuid if version >= (2, 53) else host.hypervisor_id,
        "hypervisor_hostname": host.name,
        "state": "up" if world.reads_up(host) else "down",
        "status": "enabled" if host.enabled else "disabled",
    }


def hypervisor_detail(world: World, host: Host, version: Version) -> dict[str, Any]:
    view = hypervisor(world, host, version)
    service_id = host.service_uuid if version >= (2, 53) else host.service_id
    view |= {
        "hypervisor_type": "QEMU",
        "hypervisor_version": 7002000,
        "host_ip": "127.0.0.1",
        "service": {"id": service_id, "host": host.name, "disabled_reason": host.disabled_reason},
    }
    if version >= (2, 88):
        view["uptime"] = None
    else:
        view |= {"vcpus": 1000, "memory_mb": 800000, "running_vms": len(host.guests)}
    return view


def aggregate(record: Aggregate, version: Version) -> dict[str, Any]:
    view: dict[str, Any] = {
        "id": record.id,
        "name": record.name,
        "availability_zone": record.zone,
        "hosts": list(record.hosts),
        "metadata": {"availability_zone": record.zone} if record.zone else {},
        "created_at": iso(record.created_at),
        "updated_at": None,
        "deleted": False,
        "deleted_at": None,
    }
    return view | ({"uuid": record.uuid} if version >= (2, 41) else {})


def _links(base: str, server_id: str) -> list[dict[str, str]]:
    return [
        {"rel": "self", "href": f"{base}/v2.1/servers/{server_id}"},
        {"rel": "bookmark", "href": f"{base}/servers/{server_id}"},
    ]


def brief_server(server: Server, base: str) -> dict[str, Any]:
    return {"id": server.id, "name": server.name, "links": _links(base, server.id)}


def server(world: World, server: Server, version: Version, base: str, *, is_admin: bool) -> dict[str, Any]:
    """A server in full. base: Nova's address, without version."""
    status = server.status
    view: dict[str, Any] = {
        "id": server.id,
        "name": server.name,
        "status": status,
        "tenant_id": server.project_id,
        "user_id": server.user_id,
        "metadata": server.metadata,
        "hostId": host_id(server.host),
        "image": _image(base) if server.local_disk else "",
        "flavor": _flavor(version, base),
        "created": iso_z(server.created_at),
        "updated": iso_z(server.updated_at),
        "addresses": {},
        "accessIPv4": "",
        "accessIPv6": "",
        "links": _links(base, server.id),
        "OS-DCF:diskConfig": "MANUAL",
    }
    if status in _PROGRESS_SHOWN:
        view["progress"] = 0
    if status == "ERROR" and server.fault:
        view["fault"] = {
            "code": server.fault.code,
            "created": iso_z(server.fault.created_at),
            "message": server.fault.message,
            "details": "Traceback (most recent call last): ...",
        }
    view |= {
        "OS-EXT-AZ:availability_zone": "nova",
        "config_drive": "",
        "key_name": None,
        "OS-SRV-USG:launched_at": iso(server.created_at),
        "OS-SRV-USG:terminated_at": None,
    }
    if is_admin:
        view |= _admin_attributes(server, version)
    view |= {
        "OS-EXT-STS:task_state": server.task_state,
        "OS-EXT-STS:vm_state": server.vm_state,
        "OS-EXT-STS:power_state": server.power_state,
        "os-extended-volumes:volumes_attached": []
        if server.local_disk
        else [{"id": f"volume-{server.number}"}],
    }
    return view | _later_fields(world, server, version, is_admin)


@functools.lru_cache(maxsize=1024)
def host_id(host: str | None) -> str:
    """The opaque name under which a project sees a host."""
    return hashlib.sha224(host.encode()).hexdigest() if host else ""


def _image(base: str) -> dict[str, Any]:
    return {"id": IMAGE_ID, "links": [{"rel": "bookmark", "href": f"{base}/images/{IMAGE_ID}"}]}


def _flavor(version: Version, base: str) -> dict[str, Any]:
    if version >= (2, 47):
        return _TINY
    return {"id": "1", "links": [{"rel": "bookmark", "href": f"{base}/flavors/1"}]}


def _admin_attributes(server: Server, version: Version) -> dict[str, Any]:
    prefix = "OS-EXT-SRV-ATTR:"
    view: dict[str, Any] = {
        f"{prefix}host": server.host,
        f"{prefix}instance_name": f"instance-{server.number:08x}",
        f"{prefix}hypervisor_hostname": server.host,
    }
    if version >= (2, 3):
        view |= {
            f"{prefix}reservation_id": "r-xpeouz3r",
            f"{prefix}launch_index": 0,
            f"{prefix}hostname": server.name,
            f"{prefix}kernel_id": "",
            f"{prefix}ramdisk_id": "",
            f"{prefix}root_device_name": "/dev/vda",
            f"{prefix}user_data": None,
        }
    return view


def _later_fields(world: World, server: Server, version: Version, is_admin: bool) -> dict[str, Any]:
    view: dict[str, Any] = {}
    if version >= (2, 9):
        view["locked"] = server.locked
    if version >= (2, 16) and is_admin:
        view["host_status"] = _host_status(world, server)
    if version >= (2, 19):
        view["description"] = None
    if version >= (2, 26):
        view["tags"] = []
    if version >= (2, 63):
        view["trusted_image_certificates"] = None
    if version >= (2, 71):
        view["server_groups"] = []
    if version >= (2, 73):
        view["locked_reason"] = None
    return view


def _host_status(world: World, server: Server) -> str:
    if not server.host:
        return ""
    host = world.host(server.host)
    if host.forced_down:
        return "DOWN"
    if not world.reads_up(host):
        return "UNKNOWN"
    return "UP" if host.enabled else "MAINTENANCE"


def migration(record: Migration, version: Version) -> dict[str, Any]:
    view: dict[str, Any] = {
        "id": record.id,
        "source_compute": record.source,
        "dest_compute": record.dest,
        "source_node": record.source,
        "dest_node": record.dest_node,
        "dest_host": "192.168.0.1" if record.dest_node else None,
        "old_instance_type_id": None,
        "new_instance_type_id": None,
        "instance_uuid": record.instance_uuid,
        "status": record.status,
        "created_at": iso(record.created_at),
        "updated_at": iso(record.updated_at),
    }
    if version >= (2, 23):
        view["migration_type"] = record.migration_type
    if version >= (2, 59):
        view["uuid"] = record.uuid
    if version >= (2, 80):
        view |= {"user_id": record.user_id, "project_id": record.project_id}
    return view


def action(record: Action, server: Server, version: Version) -> dict[str, Any]:
    view: dict[str, Any] = {
        "action": record.action,
        "instance_uuid": server.id,
        "request_id": record.request_id,
        "user_id": record.user_id,
        "project_id": record.project_id,
        "start_time": iso(record.start_at),
        "message": record.message,
    }
    if version >= (2, 58):
        view["updated_at"] = iso(record.updated_at)
    return view
