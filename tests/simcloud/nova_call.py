"""What the handlers of Nova's API share: the signed-in call, errors in Nova's shape, booleans, pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from .keystone_api import User
from .nova_views import Version
from .records import Refused
from .web import Reply, Request

_KEYS = {
    400: "badRequest",
    403: "forbidden",
    404: "itemNotFound",
    409: "conflictingRequest",
    429: "overLimit",
    501: "notImplemented",
}
_TRUE = (True, "True", "TRUE", "true", "1", "ON", "On", "on", "YES", "Yes", "yes")
_FALSE = (False, "False", "FALSE", "false", "0", "OFF", "Off", "off", "NO", "No", "no")
_MAX_LIMIT = 1000


@dataclass
class Call:
    """A request that is signed in and has a microversion."""

    request: Request
    version: Version
    user: User
    request_id: str
    base: str  # Nova's address, without version

    def body(self) -> dict[str, Any]:
        """The JSON object of the body. Raises Refused."""
        try:
            body = self.request.json()
        except ValueError:
            raise Refused(400, "Malformed request body") from None
        if not isinstance(body, dict):
            raise Refused(400, "Malformed request body")
        return body


def error(status: int, message: str) -> Reply:
    """An error in the shape Nova gives it."""
    headers = {"Content-Type": "application/json; charset=UTF-8"}
    if status == 503:
        return Reply(
            503, {"message": message, "code": "503 Service Unavailable", "title": "Service Unavailable"}
        )
    return Reply(status, {_KEYS.get(status, "computeFault"): {"code": status, "message": message}}, headers)


def no_such_url() -> Reply:
    return Reply(
        404,
        {
            "message": "The resource could not be found.<br /><br />\n\n\n",
            "code": "404 Not Found",
            "title": "Not Found",
        },
    )


def parse_version(text: str) -> Version:
    major, minor = text.split(".")
    return int(major), int(minor)


def version_text(version: Version) -> str:
    return "{}.{}".format(*version)


def only_admin(call: Call, rule: str) -> None:
    if not call.user.is_admin:
        raise Refused(403, f"Policy doesn't allow {rule} to be performed.")


def boolean(value: Any, field: str) -> bool:
    """A boolean as Nova takes them, words included. Raises Refused."""
    if isinstance(value, (bool, str)):
        if value in _TRUE:
            return True
        if value in _FALSE:
            return False
    raise invalid(field, value, f"{value!r} is not one of {[*_TRUE, *_FALSE]}")


def invalid(field: str, value: Any, why: str) -> Refused:
    return Refused(400, f"Invalid input for field/attribute {field}. Value: {value}. {why}")


def page(
    call: Call, items: list[Any], id_of: Callable[[Any], str], key: str, path: str
) -> tuple[list[Any], dict]:
    """The asked-for page, and its link to the next one: present whenever the page is full."""
    asked = call.request.value("limit")
    if asked is not None and not asked.isdigit():
        raise invalid("limit", asked, f"'{asked}' does not match '^[0-9]*$'")
    limit = min(int(asked or _MAX_LIMIT), _MAX_LIMIT) if asked != "0" else _MAX_LIMIT
    marker = call.request.value("marker")
    if marker is not None:
        ids = [id_of(item) for item in items]
        if marker not in ids:
            raise Refused(400, f"marker [{marker}] not found")
        items = items[ids.index(marker) + 1 :]
    page = items[:limit]
    if len(page) < limit:
        return page, {}
    query = [(name, value) for name, value in call.request.query if name != "marker"]
    query.append(("marker", id_of(page[-1])))
    return page, {f"{key}_links": [{"rel": "next", "href": f"{call.base}/v2.1/{path}?{urlencode(query)}"}]}
