"""https through HAProxy and nginx, with the configuration that is shipped, to two real controllers on a real MariaDB: what is
delivered is on record once, whatever stops meanwhile, and who doesn't trust the certificate sends nothing."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from masakari import api, intake
from masakari.common.callbacks import Callbacks
from masakari.common.clock import Clock
from masakari.common.errors import Unavailable
from masakari.common.post import Answer, get, post
from masakari.common.sender import Delivery, Sender
from masakari.common.signature import HEADER, sign
from masakari.common.spool import Spool
from tests.lab.mariadb import PrivateMariaDB, until
from tests.lab.processes import ROOT, CloudProcess, ControllerProcess, Monitor, secret
from tests.lab.processmonitor import ProcessMonitorProcess
from tests.lab.proxies import Authority, HaproxyProcess, NginxProcess, Proxy

pytestmark = [pytest.mark.needs_mariadb, pytest.mark.needs_proxies]

HOST = "compute1"
SOON_S = 60
TRY_S = 10.0
PAUSE_S = 0.2
STUCK_S = 0.5
Both = tuple[ControllerProcess, ControllerProcess]
PROXIES = {"haproxy": HaproxyProcess, "nginx": NginxProcess}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateMariaDB]:
    with PrivateMariaDB(tmp_path_factory.mktemp("database")) as started:
        started.make_tables()
        yield started


@pytest.fixture(scope="module")
def controllers(server: PrivateMariaDB, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """Two on one database; whoever kills one starts it again."""
    folder = tmp_path_factory.mktemp("controllers")
    with CloudProcess(folder, hosts="compute1,compute2") as cloud:
        first, second = (
            ControllerProcess(folder / name, server.settings(), cloud.remote.auth_url, name) for name in ("c1", "c2")
        )
        with first, second:
            yield first, second


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority") / "ours")


@pytest.fixture(scope="module")
def other_bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The certificate of an authority that signed nothing here."""
    return str(Authority(tmp_path_factory.mktemp("authority") / "other", "Another authority").certificate)


@pytest.fixture(scope="module", params=PROXIES)
def proxy(
    request: pytest.FixtureRequest,
    controllers: Both,
    authority: Authority,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Proxy]:
    """Stands in front of both controllers, and answers as localhost and as 127.0.0.1."""
    folder = tmp_path_factory.mktemp(request.param)
    certificate = authority.sign("DNS:localhost,IP:127.0.0.1")
    with PROXIES[request.param](folder / "proxy", certificate, [one.port for one in controllers]) as started:
        yield started


class Node:
    """A host's spool, and its sender in a thread, which trusts the authorities in a file."""

    def __init__(self, folder: Path, url: str, ca_bundle: str) -> None:
        self.spool = Spool(str(folder / "spool"), Clock(), max_bytes=1 << 24, max_age_s=86400)
        self.delivered = 0
        self.unanswered = 0
        self._asks_since: float | None = None
        delivery = Delivery((url,), TRY_S, PAUSE_S, 1000, 3600, ca_bundle)
        callbacks = Callbacks(self._post, lambda: delivery, lambda: (HOST, secret(HOST)), Clock())
        self.sender = Sender(
            self.spool,
            lambda: callbacks,
            lambda: delivery,
            Clock(),
            lambda body, waited_s: body,
            lambda body, answer: None,
        )
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.sender.run, args=(self.stopping,), daemon=True)
        self.thread.start()

    def _post(self, url: str, body: bytes, headers: Mapping[str, str], timeout_s: float, ca_bundle: str) -> Answer:
        """As post(); counts how it ended."""
        self._asks_since = time.monotonic()
        try:
            answer = post(url, body, headers, timeout_s, ca_bundle)
        except Unavailable:
            self.unanswered += 1
            raise
        finally:
            self._asks_since = None
        if answer.status == 200:
            self.delivered += 1
        else:
            self.unanswered += 1
        return answer

    def report(self, many: int) -> list[str]:
        """So much failed; the ids of the reports."""
        bodies = [Monitor(HOST).process_down(process="cron", on_failure="report") for _ in range(many)]
        for body in bodies:
            self.spool.put(body)
        self.sender.poke()
        return [str(body["id"]) for body in bodies]

    def asks_for_s(self) -> float:
        """For how many seconds it has been waiting for an answer."""
        since = self._asks_since
        return time.monotonic() - since if since is not None else 0.0

    def until_delivered(self, many: int) -> None:
        """Wait until so many reports have been answered with 200."""
        until(lambda: self.delivered >= many, SOON_S, self.sender.status)

    def until_empty(self) -> None:
        until(lambda: self.spool.waiting() == 0, SOON_S, self.sender.status)

    def stop(self) -> None:
        self.stopping.set()
        self.sender.poke()
        self.thread.join(TRY_S * 2)


@pytest.fixture
def make_node(tmp_path: Path) -> Iterator[Callable[[str, str], Node]]:
    made: list[Node] = []

    def make(url: str, ca_bundle: str) -> Node:
        made.append(Node(tmp_path / str(len(made)), url, ca_bundle))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def node(make_node: Callable[[str, str], Node], proxy: Proxy, authority: Authority) -> Node:
    """One that is set up as it should be."""
    return make_node(proxy.url, str(authority.certificate))


def until_tried(node: Node, times: int) -> None:
    """Wait until so many tries brought no 200; why the last but one of them failed is in the sender's status."""
    until(lambda: node.unanswered >= times, SOON_S, node.sender.status)


def on_record(server: PrivateMariaDB, ids: list[str]) -> list[int]:
    """How often the database has each of these reports."""
    rows = server.sql("SELECT notification_id AS id, COUNT(*) AS n FROM notification_list GROUP BY notification_id")
    found = {row["id"]: row["n"] for row in rows}
    return [found.get(report_id, 0) for report_id in ids]


def taken_by(*controllers: ControllerProcess) -> list[float]:
    """How many reports each controller has taken."""
    return [one.metrics().get('masakari_reports_total{outcome="accepted"}', 0) for one in controllers]


# Delivery


def test_reports_come_through_and_both_controllers_take_their_share(
    server: PrivateMariaDB, controllers: Both, node: Node
) -> None:
    before = taken_by(*controllers)
    ids = node.report(20)
    node.until_empty()
    assert on_record(server, ids) == [1] * 20
    shares = [now - then for now, then in zip(taken_by(*controllers), before, strict=True)]
    assert sum(shares) == 20
    assert min(shares) >= 5, shares
    assert node.unanswered == 0


@pytest.mark.parametrize("which", [0, 1])
def test_a_controller_that_is_killed_is_noticed_by_no_sender(
    server: PrivateMariaDB, controllers: Both, proxy: Proxy, node: Node, which: int
) -> None:
    victim = controllers[which]
    until_both_are_asked(controllers, proxy, node)
    already = node.delivered
    ids = node.report(60)
    node.until_delivered(already + 10)
    # It has a report in its hands and does not answer, so that the kill can't fall between two of them.
    victim.signal(signal.SIGSTOP)
    until(lambda: node.asks_for_s() > STUCK_S, SOON_S, proxy.said)
    victim.kill()
    try:
        node.until_empty()
        assert on_record(server, ids) == [1] * 60
        assert node.unanswered == 0, proxy.said()
    finally:
        victim.start()


def until_both_are_asked(controllers: Both, proxy: Proxy, node: Node) -> None:
    """Wait until the proxy knows that a controller which was away is back."""
    before = taken_by(*controllers)

    def both() -> bool:
        node.report(2)
        node.until_empty()
        return all(now > then for now, then in zip(taken_by(*controllers), before, strict=True))

    until(both, SOON_S, proxy.said)


def test_nothing_is_lost_or_doubled_when_the_proxy_is_restarted(
    server: PrivateMariaDB, proxy: Proxy, node: Node
) -> None:
    ids = node.report(60)
    for delivered in (10, 30):
        node.until_delivered(delivered)
        proxy.restart()
    node.until_empty()
    assert on_record(server, ids) == [1] * 60


def test_reports_wait_while_no_controller_runs(server: PrivateMariaDB, controllers: Both, node: Node) -> None:
    for one in controllers:
        one.kill()
    try:
        ids = node.report(10)
        until_tried(node, 3)
        assert (node.spool.waiting(), node.spool.aside()) == (10, 0)
    finally:
        for one in controllers:
            one.start()
    node.until_empty()
    assert on_record(server, ids) == [1] * 10


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process with a name of its own."""
    (tmp_path / "watched").symlink_to(shutil.which("sleep") or "")
    process = subprocess.Popen([tmp_path / "watched", "3600"])
    yield process
    process.kill()
    process.wait()


def test_a_monitor_reports_by_https(
    server: PrivateMariaDB, proxy: Proxy, authority: Authority, watched: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    name = f"{tmp_path}/watched"
    statement = f"SELECT notification_id FROM notification_list WHERE body LIKE '%\"{name}\"%'"  # noqa: S608
    lines = [f"1,{name},/bin/false,/bin/false,,,,"]
    options = {"report_only": "watched", "process_reboot_retry": 1, "ca_bundle": authority.certificate}
    with ProcessMonitorProcess(tmp_path / "monitor", proxy.url, "compute2", lines, **options) as monitor:
        until(lambda: f"{name}: run" in monitor.said(), SOON_S, monitor.said)
        watched.kill()
        watched.wait()
        until(lambda: len(server.sql(statement)) > 0, SOON_S, monitor.said)
        until(lambda: monitor.waiting() == [], SOON_S, monitor.said)
    assert len(server.sql(statement)) == 1


def test_a_script_with_curl_and_the_bundle_is_answered(proxy: Proxy, authority: Authority, tmp_path: Path) -> None:
    """The commands of docs/callback.md as they stand there, with the url and the key of this test."""
    [example] = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "docs" / "callback.md").read_text(), re.DOTALL | re.MULTILINE)
    changes = {
        "http://controller:15868/": proxy.url.replace("127.0.0.1", "localhost"),
        "the secret in section [compute2] of keys.conf": secret("compute2"),
    }
    for old, new in changes.items():
        assert old in example
        example = example.replace(old, new)
    environ = {**os.environ, "CURL_CA_BUNDLE": str(authority.certificate)}
    done = subprocess.run(
        ["sh", "-euc", example], cwd=tmp_path, env=environ, check=True, capture_output=True, text=True, timeout=SOON_S
    )
    assert '"recovery": ' in done.stdout, done


def test_questions_are_answered_too(proxy: Proxy, authority: Authority) -> None:
    answer = get(f"{proxy.url}healthz", {}, TRY_S, str(authority.certificate))
    assert answer.status == 200, answer


# Refused


def why(url: str, ca_bundle: str = "") -> str:
    """What a monitor says about a report that it can't send there."""
    with pytest.raises(Unavailable) as told:
        post(url, b"{}", {}, TRY_S, ca_bundle)
    return str(told.value)


def test_who_does_not_trust_the_certificate_sends_nothing_and_says_why(
    server: PrivateMariaDB, proxy: Proxy, other_bundle: str, make_node: Callable[[str, str], Node]
) -> None:
    for bundle in ("", other_bundle):
        node = make_node(proxy.url, bundle)
        ids = node.report(2)
        until_tried(node, 2)
        assert f"{proxy.url}: " in node.sender.status()
        assert "certificate verify failed" in node.sender.status()
        assert (node.spool.waiting(), node.spool.aside()) == (2, 0)
        assert on_record(server, ids) == [0, 0]


def test_a_bundle_that_is_missing_is_named(proxy: Proxy) -> None:
    assert "/no/ca.pem can't be read" in why(proxy.url, "/no/ca.pem")


def test_a_certificate_for_another_name_is_refused_and_says_so(
    proxy: Proxy, controllers: Both, authority: Authority, tmp_path: Path
) -> None:
    certificate = authority.sign("DNS:masakari.example.org")
    with type(proxy)(tmp_path / "other", certificate, [one.port for one in controllers]) as other:
        assert re.search("certificate verify failed: .*127[.]0[.]0[.]1", why(other.url, str(authority.certificate)))


def test_plain_http_is_refused_and_the_report_kept(
    server: PrivateMariaDB, proxy: Proxy, make_node: Callable[[str, str], Node]
) -> None:
    node = make_node(proxy.url.replace("https", "http"), "")
    ids = node.report(2)
    until_tried(node, 3)
    said = node.sender.status()
    if isinstance(proxy, NginxProcess):
        assert "HTTP 426" in said and "must begin with https" in said
    else:
        assert "it closed the connection without an answer" in said or "reset" in said, said
    assert (node.spool.waiting(), node.spool.aside()) == (2, 0)
    assert on_record(server, ids) == [0, 0]


@pytest.mark.parametrize("size, status", [(api.MAX_BODY, 401), (api.MAX_BODY + 1, 413)])
def test_the_largest_report_is_that_of_the_controller(
    proxy: Proxy, authority: Authority, size: int, status: int
) -> None:
    headers = {HEADER: sign(HOST, "a wrong secret", b"", Clock().now())}
    assert post(proxy.url, b"x" * size, headers, TRY_S, str(authority.certificate)).status == status


# The examples


@pytest.mark.parametrize("kind", PROXIES.values(), ids=PROXIES)
def test_a_proxy_waits_longer_than_a_controller_takes(kind: type[Proxy]) -> None:
    text = kind.shipped.read_text(encoding="utf-8")
    found = re.findall(r"(?:timeout server|timeout client|proxy_read_timeout) +(\d+)s", text)
    assert found
    assert min(float(seconds) for seconds in found) > intake.ANSWER_WITHIN_S
