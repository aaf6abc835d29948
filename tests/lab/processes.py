"""Real processes for tests: a simulated cloud, controllers with a configuration of their own, and a monitor that sends."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import requests

from masakari.common.signature import HEADER, sign
from masakari.common.text import utc
from masakari.config import Db
from tests.lab.mariadb import until
from tests.lab.outside import Outside
from tests.simcloud.control import RemoteCloud

ROOT = Path(__file__).resolve().parents[2]
READY_WITHIN_S = 30
STOP_WITHIN_S = 15
ANSWER_WITHIN_S = 65
CLUSTER = "226.94.1.1:5405"


class Program:
    """A program of this tree, its output in a file."""

    def __init__(self, output: Path, prefix: tuple[str, ...] = ()) -> None:
        """prefix: what runs a command elsewhere, in a network namespace for instance."""
        self.output = output
        self._prefix = prefix
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The running process."""
        assert self._process is not None, "it is not running"
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        assert self._process is not None, "it was not started"
        return self._process.poll()

    def said(self) -> str:
        """Everything it has printed or logged, over all its starts."""
        return self.output.read_text(encoding="utf-8", errors="replace") if self.output.exists() else ""

    def wait(self, within_s: float = STOP_WITHIN_S) -> int:
        """Its exit status, once it ends by itself."""
        assert self._process is not None, "it was not started"
        return self._process.wait(within_s)

    def terminate(self, within_s: float = STOP_WITHIN_S) -> int:
        """SIGTERM, as systemd stops it; the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait(within_s)

    def kill(self) -> None:
        """SIGKILL: nothing is put in order. Harmless when it has ended already."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def _run(self, *arguments: str, environ: dict[str, str] | None = None) -> None:
        assert self._process is None or self._process.poll() is not None, "it is running"
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                [*self._prefix, sys.executable, "-u", "-m", *arguments],
                cwd=ROOT,
                env={**os.environ, **(environ or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )


class CloudProcess(Program):
    """A simulated cloud in a process of its own; its verbs are methods of `remote`. Ends on exit."""

    remote: RemoteCloud

    def __init__(self, folder: Path, *, outside: Outside | None = None, **options: str | float) -> None:
        """outside: of the cluster that it stands beside. options: those of `python3 -m tests.simcloud`, with _ for -."""
        super().__init__(folder / "cloud.log", outside.prefix() if outside else ())
        if outside:
            options["port"] = outside.port()
        self._options = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]

    def __enter__(self) -> CloudProcess:
        self._run("tests.simcloud", *self._options)
        with end_on_error(self):
            until(
                lambda: "\n" in self.said(),
                READY_WITHIN_S,
                lambda: f"the simulated cloud doesn't start:\n{self.said()}",
            )
            self.remote = RemoteCloud(self.said().splitlines()[0])
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class ControllerProcess(Program):
    """A controller with masakari.conf and keys file in a folder of its own; ended on exit, restarted by start().

    It keeps its port over restarts. Everything waits briefly, so that a test doesn't: a lease is 9 s, and what was never
    answered is looked for after 2 s. `url` is for the test, `node_url` for the nodes of the cluster that it stands beside.
    """

    def __init__(
        self,
        folder: Path,
        db: Db,
        auth_url: str,
        name: str = "controller-1",
        *,
        outside: Outside | None = None,
        **options: str | float,
    ) -> None:
        """outside: of the cluster, if it is to stand beside one. options: settings as section__option=value, over those
        that a test needs."""
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder / "controller.log", outside.prefix() if outside else ())
        self.name = name
        self.config = folder / "masakari.conf"
        self.keys = folder / "keys.conf"
        self.port = outside.port() if outside else free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.node_url = f"http://{outside.address}:{self.port}" if outside else self.url
        self._settings: dict[str, str | float] = {
            "wsgi__server_host": "0.0.0.0" if outside else "127.0.0.1",
            "wsgi__server_port": self.port,
            **{f"db__{item.name}": getattr(db, item.name) for item in fields(db)},
            "nova__auth_url": auth_url,
            "nova__admin_user": "masakari",
            "nova__admin_password": "simcloud",
            "nova__project_name": "service",
            "nova__connect_timeout_s": 1,
            "nova__read_timeout_s": 1,
            "recover_starter__lease_s": 9,
            "safety__action_settle_s": 2,
            "auth__keys_file": str(self.keys),
            "controller__name": name,
        }
        self.write_keys()
        self.write_config(**options)

    def __enter__(self) -> ControllerProcess:
        with end_on_error(self):
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def write_config(self, **changes: str | float) -> None:
        """Change settings; a running controller reads them on SIGHUP."""
        self._settings.update(changes)
        sections: dict[str, list[str]] = {}
        for name, value in self._settings.items():
            section, option = name.split("__")
            sections.setdefault(section, []).append(f"{option} = {value}")
        text = "\n".join(f"[{section}]\n" + "\n".join(lines) for section, lines in sections.items())
        self.config.write_text(text + "\n", encoding="utf-8")
        self.config.chmod(0o600)

    def write_keys(self, hosts: Iterable[str] = (), cluster_port: str = CLUSTER) -> None:
        """A key for each of compute1 to compute9, and for these hosts."""
        names = [*(f"compute{number}" for number in range(1, 10)), *hosts]
        self.keys.touch(mode=0o600)
        self.keys.write_text(
            "".join(
                f"[{name}]\nhost = {name}\ncluster_port = {cluster_port}\nsecret = {secret(name)}\n" for name in names
            ),
            encoding="utf-8",
        )

    def start(self, *, ready: bool = True, environ: dict[str, str] | None = None) -> None:
        """Start it, and wait until it takes callbacks unless told otherwise."""
        self._run("masakari", "--config", str(self.config), environ=environ)
        if ready:
            self.until_ready()

    def until_ready(self) -> None:
        """Wait until it answers that it is well. Raises RuntimeError with its log when it isn't in time, or ends."""

        def is_ready() -> bool:
            if self.status is not None:
                raise RuntimeError(f"the controller ended with {self.status}:\n{self.said()[-4000:]}")
            return self.health()[0] == 200

        until(is_ready, READY_WITHIN_S, lambda: f"the controller is not ready:\n{self.said()[-4000:]}")

    def restart(self) -> None:
        """Kill it and start it again: what a crash and systemd do."""
        self.kill()
        self.start()

    def health(self) -> tuple[int, dict[str, Any]]:
        """Status and content of GET /healthz; (0, {}) when nobody answers."""
        try:
            answer = requests.get(f"{self.url}/healthz", timeout=ANSWER_WITHIN_S)
        except requests.ConnectionError:
            return 0, {}
        return answer.status_code, answer.json()

    def metrics(self) -> dict[str, float]:
        """The values of GET /metrics by name and labels."""
        answer = requests.get(f"{self.url}/metrics", timeout=ANSWER_WITHIN_S)
        answer.raise_for_status()
        found = re.findall(r"^([a-z_]+(?:\{.*\})?) ([-+.\w]+)$", answer.text, re.MULTILINE)
        return {name: float(value) for name, value in found}


class Monitor:
    """What sends callbacks, signed with the key of the host it stands on."""

    def __init__(self, host: str = "compute2", cluster_port: str = CLUSTER) -> None:
        self.host = host
        self.cluster_port = cluster_port

    def host_down(self, host: str, proof: str = "power_off", **changes: Any) -> dict[str, Any]:
        """The body of a report that another host is down; `proof` is a kind of evidence, or empty."""
        now = time.time()
        evidence = [{"kind": proof, "at": utc(now), "detail": "read back from the BMC"}] if proof else []
        return self._body("rscGroup", host, ("1", "2", "2"), now, evidence=evidence, **changes)

    def instance_down(self, instance: str, **changes: Any) -> dict[str, Any]:
        """The body of a report that the QEMU process of an instance on this host died."""
        body = self._body("VM", self.host, ("0", "5", "5"), time.time(), uuid=instance, **changes)
        del body["startTime"], body["endTime"]
        return body

    def process_down(self, process: str = "nova-compute", **changes: Any) -> dict[str, Any]:
        """The body of a report that a process of this host could not be restarted."""
        return self._body("nodeStatus", self.host, ("1", "1", "1"), time.time(), process=process, **changes)

    def post(self, url: str, body: dict[str, Any]) -> requests.Response:
        """Send a report once. Raises requests.RequestException when nobody answers."""
        raw = json.dumps(body).encode()
        signature = sign(self.host, secret(self.host), raw, time.time())
        return requests.post(url, data=raw, headers={HEADER: signature}, timeout=ANSWER_WITHIN_S)

    def deliver(self, urls: Iterable[str], body: dict[str, Any], within_s: float = 60) -> dict[str, Any]:
        """Send a report, to one controller after the other, until one answers 200, as a monitor does; that answer."""
        deadline = time.monotonic() + within_s
        said: object = None
        while time.monotonic() < deadline:
            for url in urls:
                with contextlib.suppress(requests.RequestException):
                    answer = self.post(url, body)
                    if answer.status_code == 200:
                        return dict(answer.json())
                    said = answer.text
                    assert answer.status_code == 503, said
            time.sleep(0.05)
        raise RuntimeError(f"not delivered within {within_s:g} s: {body['id']}: {said}")

    def _body(self, kind: str, host: str, numbers: tuple[str, str, str], now: float, **changes: Any) -> dict[str, Any]:
        local = time.strftime("%Y%m%d%H%M%S", time.gmtime(now))
        return {
            "id": str(uuid.uuid4()),
            "type": kind,
            "regionID": "RegionOne",
            "hostname": host,
            "uuid": "",
            "time": local,
            "eventID": numbers[0],
            "eventType": numbers[1],
            "detail": numbers[2],
            "startTime": local,
            "endTime": None,
            "tzname": "UTC",
            "daylight": "0",
            "cluster_port": self.cluster_port,
            "observer": self.host,
            "utc_time": utc(now),
            **changes,
        }


def secret(host: str) -> str:
    """The secret of a host's key."""
    return f"the secret of {host}, for tests"


def free_port() -> int:
    """A port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def end_on_error(process: Program) -> Any:
    """A start that fails leaves no process behind."""
    try:
        yield
    except BaseException:
        process.kill()
        raise
