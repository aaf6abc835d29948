"""The monitors as real processes, each with settings, key and state folder of its own, and what hears of them."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import sqlite3
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.lab.libvirtd import PrivateLibvirtd
from tests.lab.mariadb import until
from tests.lab.processes import CLUSTER, READY_WITHIN_S, Program, end_on_error, secret


class MonitorProcess(Program):
    """A monitor of one host; ended on exit, restarted by start(). Its state folder stays over restarts."""

    module = ""
    ready_when = ""

    def __init__(self, folder: Path, host: str, settings: dict[str, Any], **options: Any) -> None:
        """settings: all that it needs, as section__option; options: more of them, which go before these."""
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder / f"{self.module}.log")
        self.folder = folder
        self.host = host
        self.state = folder / "state"
        self.config = folder / f"{self.module}.conf"
        self.key = folder / "key.conf"
        self.key.touch(mode=0o600)
        self.key.write_text(f"[{host}]\nhost = {host}\ncluster_port = {CLUSTER}\nsecret = {secret(host)}\n")
        self._settings = settings
        self.write_config(**options)

    def __enter__(self) -> Any:
        with end_on_error(self):
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def write_config(self, **changes: Any) -> None:
        """Change settings, as section__option; a running monitor reads them on SIGHUP."""
        self._settings.update(changes)
        sections: dict[str, list[str]] = {}
        for name, value in self._settings.items():
            section, option = name.split("__")
            sections.setdefault(section, []).append(f"{option} = {value}")
        text = "\n".join(f"[{section}]\n" + "\n".join(lines) for section, lines in sections.items())
        self.config.write_text(text + "\n", encoding="utf-8")

    def start(self, *arguments: str, ready: bool = True, environ: dict[str, str] | None = None) -> None:
        """Start it, and wait until it does its work unless told otherwise."""
        before = self.said().count(self.ready_when)
        self._run(self.module, "--config", str(self.config), *arguments, environ=environ)
        if ready:
            until(
                lambda: self._is_ready(before),
                READY_WITHIN_S,
                lambda: f"{self.module} is not ready:\n{self.said()[-4000:]}",
            )

    def restart(self) -> None:
        """Kill it and start it again: what a crash and systemd do."""
        self.kill()
        self.start()

    def reload(self) -> None:
        """SIGHUP, and wait until it is through."""
        done = ("settings reloaded", "not reloaded")
        before = sum(self.said().count(word) for word in done)
        self.signal(signal.SIGHUP)
        until(lambda: sum(self.said().count(word) for word in done) > before, READY_WITHIN_S, lambda: "no reload")

    def until_says(self, text: str, within_s: float = READY_WITHIN_S) -> None:
        """Wait until this is in its log. Raises RuntimeError with the end of it when it is not in time."""
        until(lambda: text in self.said(), within_s, lambda: f"{text!r} is not said:\n{self.said()[-4000:]}")

    def waiting(self) -> list[dict[str, Any]]:
        """The reports in its spool."""
        found = []
        for path in sorted((self.state / "spool").glob("[0-9]*.json")):
            try:
                found.append(json.loads(path.read_text()))
            except FileNotFoundError:  # delivered meanwhile
                continue
        return found

    def until_waiting(self, many: int) -> None:
        """Wait until so many reports are in its spool. Raises RuntimeError when they are not in time."""
        until(lambda: len(self.waiting()) == many, READY_WITHIN_S, lambda: f"{len(self.waiting())} wait, not {many}")

    def make_older(self, seconds: float) -> None:
        """Let everything in its spool have come so much earlier. Only while it is not running."""
        for path in sorted((self.state / "spool").glob("[0-9]*.json")):
            stamp, rest = path.name.split("-", 1)
            path.rename(path.with_name(f"{int(stamp) - int(seconds * 1e9):020d}-{rest}"))

    def read_state(self) -> dict[str, Any]:
        """Its state file; empty before it has written one."""
        try:
            return dict(json.loads((self.state / "state.json").read_text()))
        except FileNotFoundError:
            return {}

    def edit_state(self, **changes: Any) -> None:
        """Change its state file. Only while it is not running."""
        (self.state / "state.json").write_text(json.dumps({**self.read_state(), **changes}))

    def forget(self) -> None:
        """Remove everything it knows, as on a new node."""
        shutil.rmtree(self.state, ignore_errors=True)

    def _is_ready(self, before: int) -> bool:
        if self.status is not None:
            raise RuntimeError(f"{self.module} ended with {self.status}:\n{self.said()[-4000:]}")
        return self.said().count(self.ready_when) > before


class InstanceMonitorProcess(MonitorProcess):
    """python3 -m instancemonitor on a libvirtd; ready when it has looked at all its instances."""

    module = "instancemonitor"
    ready_when = "connected to qemu"

    def __init__(self, folder: Path, url: str, host: str, libvirtd: PrivateLibvirtd, **options: Any) -> None:
        """options: settings as section__option, over those that a test needs."""
        settings = {
            "callback__url": url,
            "callback__regionID": "RegionOne",
            "callback__interval": 0.5,
            "callback__state_dir": folder / "state",
            "callback__key_file": folder / "key.conf",
            "libvirt__connection_uri": f'"{libvirtd.uri}"',
            "libvirt__log_dir": f"{libvirtd.folder}/cache/libvirt/qemu/log",
        }
        super().__init__(folder, host, settings, **options)


class Stored:
    """What a controller has stored in its SQLite file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def reports(self, uuid: str) -> list[dict[str, Any]]:
        """The reports about an instance that mattered, oldest first."""
        return [row for row in self.all_reports(uuid) if row["outcome"] != "ignored"]

    def all_reports(self, uuid: str) -> list[dict[str, Any]]:
        """The reports about an instance, ignored ones as well, oldest first."""
        return self._all("SELECT * FROM notification_list WHERE notification_uuid = ? ORDER BY id", uuid)

    def recoveries(self, uuid: str) -> list[str]:
        """The status of each recovery of an instance, oldest first."""
        return [row["status"] for row in self._all("SELECT status FROM recovery WHERE uuid = ? ORDER BY id", uuid)]

    def _all(self, statement: str, *arguments: str) -> list[dict[str, Any]]:
        with closing(sqlite3.connect(self._path, timeout=READY_WITHIN_S)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(statement, arguments)]


class Receiver:
    """Stands in for a controller: takes every report, keeps it in `reports`, and answers as a controller does."""

    def __init__(self) -> None:
        self.reports: list[dict[str, Any]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Receiver:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="receiver", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def uuids(self) -> list[str]:
        """Whom the reports are about, in order."""
        return [report["uuid"] for report in self.reports]

    def until(self, uuid: str) -> None:
        """Wait for a report about this instance. Raises RuntimeError when it is not in time."""
        until(lambda: uuid in self.uuids(), READY_WITHIN_S, lambda: f"no report of {uuid}, but of {self.uuids()}")

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        reports = self.reports

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                reports.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                answer = json.dumps({"recovery": None, "status": "ignored", "reason": "", "known": False}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None: ...

        return Handler


class Manager:
    """The receiving end of sd_notify, which keeps all lines in `lines`, each with the monotonic time that it came at."""

    def __init__(self, path: Path) -> None:
        self.lines: list[tuple[float, str]] = []
        self.environ = {"NOTIFY_SOCKET": str(path)}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))

    def __enter__(self) -> Manager:
        threading.Thread(target=self._listen, name="sd_notify", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self.environ["NOTIFY_SOCKET"])

    def watch(self, seconds: float) -> Manager:
        """Ask for a sign of life at least so often."""
        self.environ |= {"WATCHDOG_USEC": str(int(seconds * 1e6))}
        return self

    @property
    def status(self) -> str:
        """The last STATUS; empty before the first."""
        told = [line for _, line in self.lines if line.startswith("STATUS=")]
        return told[-1].removeprefix("STATUS=") if told else ""

    def told_at(self, text: str) -> list[float]:
        """When lines with this text came."""
        return [at for at, line in self.lines if text in line]

    def until_status(self, text: str, within_s: float = READY_WITHIN_S) -> None:
        """Wait until the status has this text. Raises RuntimeError with what it was last."""
        until(lambda: text in self.status, within_s, lambda: f"{text!r} is not in the status {self.status!r}")

    def until_told(self, text: str, within_s: float = READY_WITHIN_S) -> None:
        """Wait for a line with this text. Raises RuntimeError with all lines."""
        until(lambda: bool(self.told_at(text)), within_s, lambda: f"{text!r} is not in {self.lines}")

    def _listen(self) -> None:
        with self._socket:
            while message := self._socket.recv(4096):
                self.lines += [(time.monotonic(), line) for line in message.decode().split("\n")]


class Dripper:
    """A controller that takes a report and never gets to the end of its answer."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.asked = threading.Event()
        self._stopping = threading.Event()

    def __enter__(self) -> Dripper:
        threading.Thread(target=self._serve, name="dripper", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        try:
            while True:
                link, _ = self._socket.accept()
                with link:
                    link.recv(65536)
                    self.asked.set()
                    self._drip(link)
        except OSError:  # closed
            return

    def _drip(self, link: socket.socket) -> None:
        try:
            for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 10000:
                link.sendall(bytes([byte]))
                if self._stopping.wait(0.1):
                    return
        except OSError:  # the monitor has had enough
            return
