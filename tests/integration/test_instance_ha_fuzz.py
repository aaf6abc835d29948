"""Whatever is sent to the instance-ha API of a real controller: no 5xx, no traceback, and answers that are described."""

from __future__ import annotations

import json
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import schemathesis
from hypothesis import given
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.schemas import APIOperation

from masakari.config import Db
from tests.lab.instance_ha import Caller
from tests.lab.processes import CloudProcess, ControllerProcess
from tests.lab.pytest_mariadb import mariadb
from tests.unit.test_intake_generated import bodies, generated

__all__ = ["mariadb"]

CASES = 30
"""Generated per operation, once of what is described and once of what is not."""

WITHIN_S = 30
PATIENT = {"nova__read_timeout_s": 10, "recover_starter__lease_s": 40, "safety__action_settle_s": 15}
"""A busy machine is no reason to answer that Nova can't be reached."""

NOW = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
TIMES = ["9999-12-31T23:59:59.999999999", "0001-01-01T00:00:00+14:00", "1969-12-31T23:59:59Z", "2026-02-30T00:00:00", ""]
REPORTED = "compute4"
"""The host that the payloads tell of; no generated request deletes it."""

NOBODY = "00000000-0000-4000-8000-00000000dead"
NAMES = "^[a-bA-Bß-ü😀-😂]{1,40}$"
PATHS = [
    "/v1/segments/a%2Fb",
    "/v1/segments%2Fa",
    "/v1%2Fsegments",
    "/v1/segments/%00",
    "/v1/segments/%0d%0aX-Forged:%20yes",
    "/v1/segments/%ff%fe",
    "/v1/segments/..%2f..%2fhealthz",
    "/v1/segments/../notifications",
    "/v1//segments//",
    "/v1/segments/" + "a" * 4000,
    "/v1/notifications/%F0%9F%98%80/vmoves/%F0%9F%98%80",
    "/v1/00000000-0000-4000-8000-000000000001/segments",
    "/v1/segments/segments/segments/segments/segments",
    "/v1/segments?limit=" + "9" * 5000,
    "/v1/segments?limit=%D9%A1",
    "/v1/segments?limit=-1&limit=2",
    "/v1/segments?marker=%00&sort_key=&sort_dir=",
    "/v1/segments?sort_key=name&sort_dir=sideways",
    "/v1/notifications?marker=99999999999999999999",
    "/v1/notifications?marker=%D9%A1",
    "/v1/notifications?generated-since=9999-12-31T23:59:59.999999999",
    "/v1/notifications?generated-since=0001-01-01T00:00:00%2B14:00",
    "/v1/notifications?source_host_uuid=%F0%9F%98%80%00",
    "/v1/notifications?" + "&".join(f"type={number}" for number in range(500)),
    "/v1/notifications?%",
    "/v1/notifications?status=new%3Btype%3DVM",
]
BODIES = [
    b"",
    b"null",
    b"[]",
    b'"segment"',
    b"{",
    b'{"segment": null}',
    b'{"segment": {}, "segment": {}}',
    b'{"segment": {"name": "a", "name": "b", "recovery_method": "auto", "service_type": "x"}}',
    b'{"segment": {"name": "\\ud800", "recovery_method": "auto", "service_type": "x"}}',
    b'{"segment": {"name": "a\\u0000b", "recovery_method": "auto", "service_type": "x"}}',
    b'{"segment": {"name": "a", "recovery_method": NaN, "service_type": "x"}}',
    b'{"segment": {"name": 1e999, "recovery_method": "auto", "service_type": "x"}}',
    b'{"segment": ' + b"9" * 5000 + b"}",
    b'{"segment": ' + b"[" * 60_000,
    b'{"segment": ' + b'{"a":' * 900 + b"1" + b"}" * 901,
    b'\xff\xfe{"segment": {}}',
    b"\xef\xbb\xbf{}",
    "{'segment': {}}".encode("utf-16"),
    b"a" * 70_000,
    b"name=okidoki&recovery_method=auto",
]


@pytest.fixture(scope="module", params=["sqlite", pytest.param("mysql", marks=pytest.mark.needs_mariadb)])
def controller(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControllerProcess]:
    folder = tmp_path_factory.mktemp(request.param)
    db = Db(drivername="sqlite", name=str(folder / "masakari.sqlite"))
    if request.param == "mysql":
        server = request.getfixturevalue("mariadb")
        server.make_tables()
        db = server.settings()
    with (
        CloudProcess(folder, hosts="compute1,compute2,compute3,compute4") as cloud,
        ControllerProcess(folder / "controller", db, cloud.remote.auth_url, **PATIENT) as started,
    ):
        yield started
        assert "Traceback" not in started.said()


@pytest.fixture(scope="module")
def caller(controller: ControllerProcess) -> Caller:
    [auth_url] = re.findall(r"^auth_url = (.*)$", controller.config.read_text(encoding="utf-8"), re.MULTILINE)
    made = Caller(controller.url, auth_url)
    made.host(made.segment("reported"), REPORTED)
    return made


class Stage:
    """What there is to be found: a segment whose host has failed, another one, and one without hosts."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        segments = [caller.segment(name) for name in ("empty", "other", "okidoki")]
        hosts = [caller.host(segment, f"compute{number}") for number, segment in enumerate(segments) if number]
        payload = {"event": "STOPPED", "host_status": "UNKNOWN", "cluster_status": "OFFLINE"}
        fields = {"type": "COMPUTE_HOST", "hostname": "compute2", "generated_time": NOW, "payload": payload}
        notification = caller.made("/v1/notifications", "notification", **fields)
        self.there = {
            "segment_id": [segment["uuid"] for segment in segments],
            "host_id": [host["uuid"] for host in hosts],
            "notification_id": [notification["notification_uuid"]],
        }

    def operations(self) -> list[APIOperation[Any, Any, Any]]:
        """Everything that can be asked in more than one way, deleting last; most cases are about what there is."""
        content: dict[str, Any] = json.loads(json.dumps(self.caller.description.content))
        content["paths"] = {path: item for path, item in content["paths"].items() if "parameters" in item}
        del content["security"]  # the token is added to every request
        for name, uuids in self.there.items():
            content["components"]["parameters"][name]["schema"] = {"enum": [*uuids, NOBODY, "okidoki", "é😀"]}
        schemas = content["components"]["schemas"]
        schemas["moment"] = {"enum": [NOW, *TIMES]}
        for name in ("host_notification", "vm_notification", "process_notification"):
            schemas[name]["properties"]["hostname"] = {"enum": ["compute1", "compute2", "nobody"]}
        for name in ("segment_create", "segment_update"):
            schemas[name]["properties"]["name"] = {"type": "string", "pattern": NAMES}
        for name in ("host_create", "host_update"):
            schemas[name]["properties"]["name"] = {"enum": ["compute1", "compute2", "compute3", "nobody"]}
        found = [result.ok() for result in schemathesis.openapi.from_dict(content).get_all_operations()]
        return sorted(found, key=lambda operation: operation.method.upper() == "DELETE")


def test_generated_requests_are_answered_as_described(caller: Caller) -> None:
    stage, deadline = Stage(caller), time.monotonic() + WITHIN_S
    statuses: Counter[int] = Counter()
    for operation in stage.operations():
        statuses.update(answers(caller, operation.as_strategy(), deadline))
        there = {name: stage.there.get(name, ["none"])[-1] for name in re.findall(r"\{(\w+)\}", operation.path)}
        wrong = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE, path_parameters=there)
        statuses.update(answers(caller, wrong, deadline))
    print(f"answers by status: {dict(sorted(statuses.items()))}")
    assert {200, 201, 202, 204, 400, 404, 409} <= statuses.keys(), f"the cases must reach every answer: {statuses}"


def answers(caller: Caller, cases: st.SearchStrategy[schemathesis.Case], deadline: float) -> Counter[int]:
    """How often each status was answered, always as described. After the deadline nothing more is asked."""
    seen: Counter[int] = Counter()

    @generated(CASES)
    @given(cases)
    def check(case: schemathesis.Case) -> None:
        if time.monotonic() > deadline:
            return
        answer = case.call(base_url=caller.url, headers={"X-Auth-Token": caller.token}, timeout=WITHIN_S)
        path = urlsplit(answer.request.url or "").path
        headers = {name: ", ".join(values) for name, values in answer.headers.items()}
        problem = caller.description.problem(case.method.upper(), path, answer.status_code, headers, answer.content)
        assert not problem and answer.status_code < 500, f"{case.as_curl_command()}: {problem}\n{answer.text[:500]}"
        seen[answer.status_code] += 1

    check()
    return seen


def exchange(port: int, raw: bytes) -> bytes:
    """What is answered to these bytes; nothing when the connection is just closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=WITHIN_S) as line:
        line.sendall(raw)
        line.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: line.recv(65536), b""))


def request(caller: Caller, method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """The bytes of a request with a good token."""
    given = {
        "Host": "controller",
        "X-Auth-Token": caller.token,
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def refused_or_answered(raw: bytes, answer: bytes) -> None:
    """It was answered, and with no 5xx; nothing that came in became a header of the answer."""
    status = re.match(rb"HTTP/1\.[01] ([1-4])\d\d ", answer)
    assert status, f"{raw[:200]!r}: {answer[:200]!r}"
    assert b"x-forged" not in answer.partition(b"\r\n\r\n")[0].lower(), raw[:200]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "get", "M-SEARCH"])
def test_no_path_is_a_server_error(caller: Caller, controller: ControllerProcess, method: str) -> None:
    for path in PATHS:
        raw = request(caller, method, path)
        refused_or_answered(raw, exchange(controller.port, raw))


@pytest.mark.parametrize("path", ["/v1/segments", "/v1/segments/x", "/v1/segments/x/hosts", "/v1/notifications"])
def test_no_body_is_a_server_error(caller: Caller, controller: ControllerProcess, path: str) -> None:
    for body in BODIES:
        for method in ("POST", "PUT"):
            raw = request(caller, method, path, body)
            refused_or_answered(raw, exchange(controller.port, raw))


@pytest.mark.parametrize(
    "headers",
    [
        {"Content_Type": "text/xml"},
        {"Content_Type": "application/json; charset=utf-16"},
        {"Content_Type": "multipart/form-data; boundary=a"},
        {"Content_Type": "\xff\xfe"},
        {"Content_Type": ""},
        {"Content_Encoding": "gzip"},
        {"X_Auth_Token": "\xff"},
        {"X_Auth_Token": "a" * 5000},
        {"X_Auth_Token": "../../v3/users"},
        {"OpenStack_API_Version": "instance-ha"},
        {"OpenStack_API_Version": "instance-ha 1.\u00b2"},
        {"OpenStack_API_Version": "compute 2.1, instance-ha 1.2"},
        {"OpenStack_API_Version": "instance-ha " + "9" * 4000},
        {"Host": '"><script>'},
        {"Host": ""},
        {"X_Forwarded_For": "127.0.0.1"},
        {"Accept": "text/html;q=x"},
    ],
)
def test_no_header_is_a_server_error(caller: Caller, controller: ControllerProcess, headers: dict[str, str]) -> None:
    for method, path in (("GET", "/"), ("GET", "/v1/"), ("GET", "/v1/segments"), ("POST", "/v1/segments")):
        body = b'{"segment": {}}' if method == "POST" else b""
        raw = request(caller, method, path, body, **headers)
        refused_or_answered(raw, exchange(controller.port, raw))


def test_every_prefix_of_a_request_leaves_the_controller_well(caller: Caller, controller: ControllerProcess) -> None:
    whole = request(caller, "POST", "/v1/segments", b'{"segment": {"name": "cut off"}}')
    for end in range(0, len(whole), 7):
        answer = exchange(controller.port, whole[:end])
        assert not answer.startswith(b"HTTP/1.1 5"), (whole[:end], answer[:200])
    assert requests.get(f"{controller.url}/healthz", timeout=WITHIN_S).status_code == 200


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@generated(150)
@given(VALUES)
def test_no_payload_is_a_server_error(caller: Caller, value: Any) -> None:
    for kind in ("COMPUTE_HOST", "VM", "PROCESS"):
        payload = {"event": "STOPPED", "instance_uuid": NOBODY}
        post(caller, kind, {**payload, "vir_domain_event": value, "process_name": value, "host_status": value})
        post(caller, kind, {"event": value})


@generated(300)
@given(bodies)
def test_no_report_in_a_payload_is_a_server_error(caller: Caller, body: bytes) -> None:
    kinds = {"rscGroup": "COMPUTE_HOST", "VM": "VM", "nodeStatus": "PROCESS"}
    try:
        report = json.loads(body)
        kind = kinds.get(report["type"], "VM")
        report["hostname"] = REPORTED
        body = json.dumps(report).encode()
    except (ValueError, TypeError, KeyError, RecursionError):
        kind = "VM"
    post(caller, kind, {"event": "STOPPED", "masakari": "here"}, body)


def post(caller: Caller, kind: str, payload: dict[str, Any], report: bytes = b"{}") -> None:
    """Tell of it, with these bytes in the place of "here"; refused or not, the answer is as described."""
    fields = {"type": kind, "hostname": REPORTED, "generated_time": NOW, "payload": payload}
    body = json.dumps({"notification": fields}).encode().replace(b'"here"', report)
    answer = caller.ask("POST", "/v1/notifications", data=body, headers={"Content-Type": "application/json"})
    assert answer.status_code < 500, f"{payload}: {answer.text}"
    if answer.status_code == 202:
        caller.ask("GET", f"/v1/notifications/{answer.json()['notification']['notification_uuid']}")
