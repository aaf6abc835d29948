"""masakari-hostmonitor --may-start: how long a host that comes back waits, what it says meanwhile, and that it starts at last."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from configparser import ConfigParser
from pathlib import Path

import pytest

from hostmonitor import may_start
from hostmonitor.config import Settings, load
from hostmonitor.main import PROGRAM, main
from masakari.common.errors import Unavailable
from masakari.common.post import Answer
from masakari.common.program import make_parser
from masakari.common.signature import HEADER, verify
from tests.simcloud.clock import VirtualClock
from tests.unit.test_signature import Key

ROOT = Path(__file__).resolve().parents[2]
SECRET = "0123456789abcdef"
UP_S = 40.0
"""How long the host has been up when it asks first."""

FIRST, SECOND = "http://first:15868", "https://second/masakari/"


class Controllers:
    """What they answer: a word per second and url, or an answer; each question is checked as a controller would."""

    def __init__(self, clock: VirtualClock, takes_s: float = 0.0) -> None:
        self.clock = clock
        self.takes_s = takes_s
        self.says: dict[str, Answer | str] = {FIRST: "no", SECOND: "no"}
        self.yes_at = 1e9
        self.asked: list[tuple[float, str]] = []
        self.paths: list[str] = []
        self.limits_s: set[float] = set()

    def run(self, settings: Settings, wait_s: float) -> int:
        """Ask them."""
        return may_start.run(settings, self.clock, wait_s, self.get, lambda: UP_S + self.clock.monotonic())

    def get(self, url: str, headers: Mapping[str, str], timeout_s: float, ca_bundle: str) -> Answer:
        base = next(base for base in self.says if url.startswith(base))
        self.asked.append((self.clock.monotonic(), base))
        self.limits_s.add(timeout_s)
        self.clock.sleep(self.takes_s)
        path = url.removeprefix(base.rstrip("/"))
        self.paths.append(path)
        assert ca_bundle == "/ca.pem"
        verify(headers[HEADER], path.encode(), {"k": Key("compute1", secret=SECRET)}, self.clock.now())
        told = self.says[base]
        if isinstance(told, Answer):
            return told
        if told == "away":
            raise Unavailable(f"{base}: Connection refused")
        allowed = self.clock.monotonic() >= self.yes_at
        return Answer(200, json.dumps({"may_start": allowed, "reason": "recovery 7 says so"}).encode())


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def controllers(clock: VirtualClock) -> Controllers:
    return Controllers(clock)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    key = tmp_path / "key.conf"
    key.write_text(f"[k]\nhost = compute1\ncluster_port = 226.94.1.1:5405\nsecret = {SECRET}\n")
    key.chmod(0o600)
    path = tmp_path / "hostmonitor.conf"
    path.write_text(f"[environments]\nurl = {FIRST}, {SECOND}\nregion_id = R\nkey_file = {key}\nca_bundle = /ca.pem\n")
    path.chmod(0o600)
    return load(str(path))[0]


def test_a_host_that_may_start_does_so_at_once_and_without_a_word(
    settings: Settings, clock: VirtualClock, controllers: Controllers, capsys: pytest.CaptureFixture[str]
) -> None:
    controllers.yes_at = 0
    assert controllers.run(settings, 600) == 0
    assert controllers.asked == [(0.0, FIRST)]
    assert controllers.paths == ["/may-start?host=compute1&up_s=40"]
    assert capsys.readouterr() == ("", "")


def test_it_waits_until_it_may_and_says_for_what(
    settings: Settings, clock: VirtualClock, controllers: Controllers, capsys: pytest.CaptureFixture[str]
) -> None:
    controllers.yes_at = 65
    assert controllers.run(settings, 600) == 0
    assert clock.monotonic() == 66
    told = [line.partition("--may-start: ")[2] for line in capsys.readouterr().err.splitlines()]
    assert told == [
        "waits for 2 s, and up to 600 s: recovery 7 says so",
        "waits for 32 s, and up to 600 s: recovery 7 says so",
        "waits for 62 s, and up to 600 s: recovery 7 says so",
        "goes on after 66 s: recovery 7 says so",
    ]


@pytest.mark.parametrize("wait_s", [0, 1, 600])
@pytest.mark.parametrize("word", ["no", "away"])
def test_when_time_is_up_it_starts_all_the_same_and_says_so_loudly(
    settings: Settings,
    clock: VirtualClock,
    controllers: Controllers,
    capsys: pytest.CaptureFixture[str],
    wait_s: int,
    word: str,
) -> None:
    controllers.says = dict.fromkeys(controllers.says, word)
    assert controllers.run(settings, wait_s) == 0
    assert clock.monotonic() == wait_s
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"ERROR: STARTED UNCHECKED after {wait_s} s: " in last and "virsh list" in last
    assert ("recovery 7 says so" if word == "no" else f"{FIRST}: Connection refused; {SECOND}: Connection") in last


def test_a_controller_that_never_answers_does_not_make_it_later(
    settings: Settings, clock: VirtualClock, controllers: Controllers
) -> None:
    controllers.says = dict.fromkeys(controllers.says, "away")
    controllers.takes_s = may_start.ANSWER_WITHIN_S
    assert controllers.run(settings, 600) == 0
    assert clock.monotonic() <= 600 + 2 * may_start.ANSWER_WITHIN_S
    assert max(controllers.limits_s) == may_start.ANSWER_WITHIN_S


@pytest.mark.parametrize(
    "told",
    [
        "away",
        Answer(503, b'{"error": "the database can\'t be reached"}'),
        Answer(404, b'{"error": "no such path; callbacks go to /"}'),
        Answer(200, b"<html>It works!</html>"),
        Answer(200, b'{"may_start": "yes"}'),
        Answer(200, b'["may_start"]'),
        Answer(502, b'{"may_start": true}'),
    ],
)
def test_another_controller_is_asked_when_the_first_can_not_tell(
    settings: Settings, clock: VirtualClock, controllers: Controllers, told: Answer | str
) -> None:
    controllers.says[FIRST] = told
    controllers.yes_at = 3
    assert controllers.run(settings, 600) == 0
    assert controllers.asked == [(at, base) for at in (0.0, 2.0, 4.0) for base in (FIRST, SECOND)]
    assert set(controllers.paths) == {f"/may-start?host=compute1&up_s={up_s}" for up_s in (40, 42, 44)}


def test_why_it_was_refused_is_told(
    settings: Settings, clock: VirtualClock, controllers: Controllers, capsys: pytest.CaptureFixture[str]
) -> None:
    controllers.says = dict.fromkeys(controllers.says, Answer(401, b'{"error": "unknown key \'k\'", "field": "x"}'))
    controllers.run(settings, 0)
    assert f"{FIRST} can't tell: HTTP 401, unknown key 'k'" in capsys.readouterr().err


def test_the_uptime_is_that_of_this_machine() -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before - 1 <= may_start.uptime_s() <= time.clock_gettime(time.CLOCK_BOOTTIME) + 1


def test_settings_that_can_not_be_read_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--may-start", "--config", str(tmp_path / "none")]) == 1
    assert "can't be read" in capsys.readouterr().err


def test_a_time_to_wait_needs_something_to_wait_for() -> None:
    with pytest.raises(SystemExit):
        main(["--wait", "5"])


def seconds(text: str) -> int:
    """Of a duration as systemd writes it."""
    found = re.fullmatch(r"(\d+)min", text)
    assert found
    return int(found[1]) * 60


@pytest.mark.parametrize("service", ["nova-compute", "libvirt-guests"])
def test_the_drop_in_asks_as_root_and_never_keeps_the_service_from_starting(service: str) -> None:
    unit = ConfigParser(strict=True, comment_prefixes="#")
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(ROOT / f"etc/systemd/{service}.service.d/masakari.conf", encoding="utf-8")
    prefix, command, *words = re.split(r"(?<=[-+])(?=/)| ", unit["Service"]["ExecStartPre"])
    assert (set(prefix), command) == ({"-", "+"}, "/usr/bin/masakari-hostmonitor")
    assert make_parser(PROGRAM).parse_args(words).may_start
    limit = unit["Service"].get("TimeoutStartSec")
    assert limit is None if service == "libvirt-guests" else seconds(str(limit)) >= may_start.LONGEST_S + 90
    assert unit["Unit"]["After"] == unit["Unit"]["Wants"] == "network-online.target"


def test_where_no_controller_can_be_asked_nothing_waits(
    tmp_path: Path, clock: VirtualClock, controllers: Controllers, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "masakarimonitors.conf"
    path.write_text(
        "[api]\nauth_url = http://keystone:5000\nusername = u\npassword = p\nproject_name = service\n[host]\n"
    )
    assert controllers.run(load(str(path))[0], 600) == 0
    assert (clock.monotonic(), controllers.asked) == (0.0, [])
    assert "STARTED UNCHECKED: no url is set" in capsys.readouterr().err
