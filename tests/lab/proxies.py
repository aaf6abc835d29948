"""HAProxy and nginx with the configuration that is shipped, in the foreground on loopback, and certificates for them."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tests.lab.mariadb import until
from tests.lab.processes import READY_WITHIN_S, ROOT, Program, end_on_error, free_port

PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"


def why_not() -> str:
    """Why no proxy can be started here; empty when each can."""
    missing = [name for name in ("haproxy", "nginx", "openssl", "curl") if not shutil.which(name, path=PATH)]
    if missing:
        return f"proxies are not installed: {', '.join(missing)} not found (as root: make proxies)"
    return ""


@dataclass(frozen=True)
class Certificate:
    """A certificate and its private key, as files."""

    certificate: Path
    key: Path


class Authority:
    """An authority that signs certificates for tests; `certificate` is what whoever trusts it needs."""

    def __init__(self, folder: Path, name: str = "An authority for tests") -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self.certificate = folder / "ca.crt"
        self._key = folder / "ca.key"
        _openssl(
            "req", "-x509", *_KEY, "-subj", f"/CN={name}", "-keyout", str(self._key), "-out", str(self.certificate)
        )

    def sign(self, names: str) -> Certificate:
        """A certificate for a server. names: as subjectAltName has them."""
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        made = Certificate(folder / "server.crt", folder / "server.key")
        request, extensions = folder / "server.csr", folder / "server.ext"
        extensions.write_text(f"subjectAltName={names}\n", encoding="utf-8")
        _openssl("req", *_KEY, "-subj", "/CN=masakari", "-keyout", str(made.key), "-out", str(request))
        authority = ("-CA", str(self.certificate), "-CAkey", str(self._key), "-CAcreateserial")
        signed = ("-in", str(request), "-out", str(made.certificate), "-extfile", str(extensions), "-days", "2")
        _openssl("x509", "-req", *authority, *signed)
        return made


_KEY = ("-newkey", "rsa:2048", "-nodes")


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)


class Proxy(Program):
    """A proxy with the shipped configuration, in which only addresses and paths are others; ended on exit.

    It keeps its port over restarts. `url` is where it speaks https.
    """

    shipped: ClassVar[Path]
    listens: ClassVar[str]
    """How it says there that it listens on the shipped port, up to the address."""

    def __init__(self, folder: Path, certificate: Certificate, controllers: Sequence[int]) -> None:
        """controllers: the ports of two of them, on loopback."""
        folder.mkdir(parents=True)
        super().__init__(folder / "proxy.log")
        self.folder = folder
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}/"
        first, second = controllers
        self._changes = {
            f"{self.listens}15869": f"{self.listens.rstrip(':')}127.0.0.1:{self.port}",
            "192.0.2.11:15868": f"127.0.0.1:{first}",
            "192.0.2.12:15868": f"127.0.0.1:{second}",
        }
        self._write(certificate)

    def __enter__(self) -> Proxy:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        with end_on_error(self):
            until(self._listens, READY_WITHIN_S, lambda: f"{self._command()[0]} doesn't listen:\n{self.said()}")

    def kill(self) -> None:
        """End it with all its processes. Harmless when it has ended already."""
        # SIGTERM: SIGKILL would leave the workers of nginx behind.
        if self._process is not None and self.status is None:
            self.signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.wait()
        super().kill()

    def restart(self) -> None:
        """Stop it, which cuts what is under way, and start it."""
        self.kill()
        self.start()

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _write(self, certificate: Certificate) -> None:
        raise NotImplementedError

    def _example(self, paths: Mapping[str, Path]) -> str:
        """The shipped configuration with our addresses and these paths; each must be found in it."""
        text = self.shipped.read_text(encoding="utf-8")
        for old, new in {**self._changes, **paths}.items():
            assert old in text, f"{old} is not in {self.shipped}"
            text = text.replace(old, str(new))
        return text

    def _listens(self) -> bool:
        if self.status is not None:
            raise RuntimeError(f"{self._command()[0]} ended with {self.status}:\n{self.said()}")
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False


class HaproxyProcess(Proxy):
    """HAProxy, all in one process."""

    shipped = ROOT / "etc" / "haproxy" / "masakari.cfg"
    listens = "bind :"

    def _write(self, certificate: Certificate) -> None:
        both = self.folder / "masakari.pem"
        both.touch(mode=0o600)
        both.write_bytes(certificate.certificate.read_bytes() + certificate.key.read_bytes())
        # What Debian's haproxy.cfg says in its section `global`, as far as it matters here.
        (self.folder / "global.cfg").write_text("global\n    log stderr format raw local0\n", encoding="utf-8")
        text = self._example({"/etc/haproxy/masakari.pem": both})
        (self.folder / "masakari.cfg").write_text(text, encoding="utf-8")

    def _command(self) -> list[str]:
        files = [word for name in ("global.cfg", "masakari.cfg") for word in ("-f", str(self.folder / name))]
        return [shutil.which("haproxy", path=PATH) or "haproxy", "-db", *files]


class NginxProcess(Proxy):
    """nginx, a master with one worker."""

    shipped = ROOT / "etc" / "nginx" / "masakari.conf"
    listens = "listen "

    def _write(self, certificate: Certificate) -> None:
        paths = {
            "/etc/nginx/masakari.crt": certificate.certificate,
            "/etc/nginx/masakari.key": certificate.key,
        }
        (self.folder / "masakari.conf").write_text(self._example(paths), encoding="utf-8")
        (self.folder / "nginx.conf").write_text(
            NGINX.format(folder=self.folder, user=getpass.getuser()), encoding="utf-8"
        )

    def _command(self) -> list[str]:
        config = self.folder / "nginx.conf"
        return [shutil.which("nginx", path=PATH) or "nginx", "-p", str(self.folder), "-c", str(config)]


# What stands around it in Debian's nginx.conf, with everything in our folder.
NGINX = """\
daemon off;
user {user};
pid {folder}/nginx.pid;
error_log stderr;
events {{ }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/masakari.conf;
}}
"""
