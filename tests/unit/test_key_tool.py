"""masakari-keys: the files it makes are those that controller and monitors read, and nothing it doesn't know is lost."""

from __future__ import annotations

import fcntl
import json
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from masakari import key_tool, keys_file
from masakari.common.clock import Clock
from masakari.common.config import Reading
from masakari.common.ini import Ini
from masakari.common.keys import Key, load_keys
from masakari.common.monitor_config import Identity, Monitor, identify
from masakari.common.text import sql_time
from masakari.config import Db
from masakari.database import open_database
from masakari.queries import load_queries, sql_folder
from tests.lab.mariadb import until

CLUSTER = "226.94.1.1:5405"
NOBODY = 65534
NOW = 1795228245.0
BY_HAND = f"""# rack 4
[compute1]
host = compute1
cluster_port = {CLUSTER}
; the second line of a comment
secret = made by hand, long enough

# rack 5
[compute2]
host: compute2
CLUSTER_PORT = "{CLUSTER}"
secret = another one by hand
"""

Keys = Callable[..., int]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings that name files in this folder, which is where the operator stands."""
    (tmp_path / "masakari.conf").write_text(
        f"[db]\nname = {tmp_path}/vm_ha.sqlite\n[auth]\nkeys_file = {tmp_path}/keys.conf\n[nova]\nauth_url = <url>\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def keys(folder: Path) -> Keys:
    """Runs the command."""
    return lambda *words: key_tool.main(["--config", str(folder / "masakari.conf"), *words])


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def identity(path: Path) -> Identity:
    """Who signs, as a monitor reads it from a host's own file."""
    ini = Ini(str(write(path.with_name("monitor.conf"), f"[callback]\nkey_file = {path}\n")))
    reading = Reading(ini, {"callback": Monitor})
    settings = reading.sections["callback"]
    assert isinstance(settings, Monitor)
    found = identify(reading, "callback", settings)
    reading.finish()
    return found


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_from_nothing_to_a_key_that_controller_and_host_agree_on(folder: Path, keys: Keys) -> None:
    assert keys("init") == 0
    assert keys("add", "compute1", "--cluster-port", CLUSTER) == 0
    assert mode(folder / "keys.conf") == mode(folder / "compute1.key.conf") == 0o600
    [(key_id, key)] = load_keys(str(folder / "keys.conf")).items()
    assert (key.host, key.cluster_port) == ("compute1", CLUSTER) and len(key.secret) >= 43
    assert identity(folder / "compute1.key.conf") == Identity("compute1", CLUSTER, key_id, key.secret)


def test_init_leaves_a_file_that_is_there_as_it_is(
    folder: Path, keys: Keys, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder / "keys.conf", BY_HAND)
    assert keys("init") == 0
    assert (folder / "keys.conf").read_text() == BY_HAND
    assert "is there already, with 2 keys" in capsys.readouterr().out


def test_what_was_written_by_hand_stays(folder: Path, keys: Keys) -> None:
    file = write(folder / "keys.conf", BY_HAND)
    assert keys("add", "compute3", "--cluster-port", CLUSTER) == 0
    assert file.read_text().startswith(BY_HAND)
    assert keys("revoke", "compute3") == 0
    assert file.read_text() == BY_HAND
    assert keys("revoke", "compute1") == 0
    assert file.read_text() == "# rack 4\n; the second line of a comment\n" + BY_HAND[BY_HAND.index("# rack 5") :]


@pytest.mark.parametrize(
    ("text", "bits", "word"),
    [
        (BY_HAND, 0o640, "others may read the secrets"),
        (BY_HAND + "[x]\nhost = x\n", 0o600, "secret: is missing"),
        (BY_HAND + "what is this\n", 0o600, "is neither"),
        ("stands alone = 1\n" + BY_HAND, 0o600, "before the first"),
    ],
)
def test_a_file_that_the_controller_would_refuse_is_not_changed(
    folder: Path, keys: Keys, capsys: pytest.CaptureFixture[str], text: str, bits: int, word: str
) -> None:
    file = write(folder / "keys.conf", text, bits)
    for words in (["init"], ["add", "c", "--cluster-port", CLUSTER], ["rotate", "compute1"], ["revoke", "compute1"]):
        assert keys(*words) == 1
        assert word in capsys.readouterr().err
    assert file.read_text() == text
    assert sorted(path.name for path in folder.iterdir()) == ["keys.conf", "masakari.conf"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["add", "compute1", "--cluster-port", CLUSTER],
            "compute1 has a key: [compute1]; for a new one: masakari-keys rotate",
        ),
        (["rotate", "compute9"], "compute9 has no key; make one: masakari-keys add compute9"),
        (["finish", "compute1"], "compute1 has 1 key: no exchange is under way"),
        (["revoke", "compute9"], "compute9 has no key in"),
        (["add", "compute9", "--cluster-port", "<port>"], "still has the placeholder"),
        (["rotate", "compute1", "--out", "keys.conf"], "keys.conf is the controller's own file"),
        (["rotate", "compute1", "--out", "masakari.conf"], "is not a file of keys of compute1 alone"),
        (["rotate", "compute1", "--out", "/no/such/folder/file"], "No such file or directory"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason_and_changes_nothing(
    folder: Path, keys: Keys, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    file = write(folder / "keys.conf", BY_HAND)
    settings = (folder / "masakari.conf").read_text()
    assert keys(*words) == 1
    assert told in capsys.readouterr().err
    assert (file.read_text(), (folder / "masakari.conf").read_text()) == (BY_HAND, settings)
    assert sorted(path.name for path in folder.iterdir()) == ["keys.conf", "masakari.conf"]


@pytest.mark.parametrize("verb", [["list"], ["rotate", "c"], ["add", "c", "--cluster-port", "p"], ["finish", "c"]])
def test_without_a_file_it_says_how_to_make_it(keys: Keys, capsys: pytest.CaptureFixture[str], verb: list[str]) -> None:
    assert keys(*verb) == 1
    assert capsys.readouterr().err.endswith("keys.conf; make it: masakari-keys init\n")


def test_no_secret_is_shown_unless_asked_for(folder: Path, keys: Keys, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(folder / "keys.conf", BY_HAND)
    for words in (
        ["add", "compute3", "--cluster-port", CLUSTER],
        ["rotate", "compute1"],
        ["list"],
        ["list", "--json"],
        ["rotate", "compute1"],
        ["finish", "compute1"],
    ):
        keys(*words)
    said = capsys.readouterr()
    secrets = [str(key.secret) for key in load_keys(str(file)).values()]
    assert len(secrets) == 4
    assert [secret for secret in secrets if secret in said.out + said.err] == []


def test_show_prints_the_file_of_the_host_and_writes_none(
    folder: Path, keys: Keys, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder / "keys.conf", BY_HAND)
    assert keys("rotate", "compute2", "--show") == 0
    said = capsys.readouterr()
    newest = list(load_keys(str(folder / "keys.conf")).items())[-1]
    signs = identity(write(folder / "there.conf", said.out))
    assert (signs.key_id, signs.secret) == (newest[0], newest[1].secret)
    assert "put what was printed into /etc/masakari/key.conf of compute2" in said.err
    assert not (folder / "compute2.key.conf").exists()


def test_a_host_signs_with_the_new_key_while_the_controller_believes_both(folder: Path, keys: Keys) -> None:
    write(folder / "keys.conf", BY_HAND)
    assert keys("rotate", "compute1") == 0
    known = load_keys(str(folder / "keys.conf"))
    old, new = [key_id for key_id, key in known.items() if key.host == "compute1"]
    assert old == "compute1" and known[new].cluster_port == CLUSTER
    assert identity(folder / "compute1.key.conf").key_id == new
    assert keys("rotate", "compute1") == 1, "a third key"
    assert list(load_keys(str(folder / "keys.conf"))) == ["compute1", "compute2", new]


def test_an_older_file_of_the_same_host_is_replaced(folder: Path, keys: Keys) -> None:
    write(folder / "keys.conf", BY_HAND)
    out = str(folder / "out")
    assert keys("rotate", "compute1", "--out", out) == 0
    assert keys("finish", "compute1", "--force") == 0
    assert keys("rotate", "compute1", "--out", out) == 0
    assert identity(folder / "out").key_id == list(load_keys(str(folder / "keys.conf")))[-1]


def signed(folder: Path, *reports: tuple[str, float]) -> None:
    """The controller has stored reports, signed with these keys, at these times."""
    db = open_database(Db(drivername="sqlite", name=str(folder / "vm_ha.sqlite")), Clock())
    wanted = set(re.findall(r":([a-z_]+)", load_queries(sql_folder() / "queries.sql", "sqlite")["report_add"].sql))
    for number, (key_id, at) in enumerate(reports):
        row = {**dict.fromkeys(wanted), "notification_id": f"{number}", "deleted": 0, "self_report": 0, "trusted": 1}
        row |= {"create_at": sql_time(at), "received_at": at, "key_id": key_id}
        db.transaction(lambda tx, row=row: tx.execute("report_add", **row))  # type: ignore[misc]
    db.close()


def test_the_old_key_goes_once_the_new_one_was_seen(
    folder: Path, keys: Keys, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder / "keys.conf", BY_HAND)
    assert keys("rotate", "compute1") == 0
    new = list(load_keys(str(folder / "keys.conf")))[-1]
    now = time.time()

    def refused() -> str:
        assert keys("finish", "compute1") == 1
        assert list(load_keys(str(folder / "keys.conf"))) == ["compute1", "compute2", new]
        return capsys.readouterr().err

    assert "the database can't be read (there is no database" in refused()
    signed(folder, ("compute1", now), ("compute2", now))
    assert f"[compute1] is kept: no report signed with [{new}] has come yet" in refused()
    (folder / "vm_ha.sqlite").unlink()
    signed(folder, (new, now), ("compute1", now + 1))
    assert f"after the last one signed with [{new}]: is there a monitor that was not reloaded?" in refused()
    (folder / "vm_ha.sqlite").unlink()
    signed(folder, ("compute1", now), (new, now + 1))
    assert keys("finish", "compute1") == 0
    assert list(load_keys(str(folder / "keys.conf"))) == ["compute2", new]
    assert "systemctl reload masakari-controller" in capsys.readouterr().out


def test_the_operator_may_know_better(folder: Path, keys: Keys) -> None:
    write(folder / "keys.conf", BY_HAND)
    keys("rotate", "compute1")
    assert keys("finish", "compute1", "--force") == 0
    assert "compute1" not in load_keys(str(folder / "keys.conf"))


def test_to_revoke_takes_both_keys_of_an_exchange(folder: Path, keys: Keys, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder / "keys.conf", BY_HAND)
    keys("rotate", "compute1")
    assert keys("revoke", "compute1") == 0
    assert list(load_keys(str(folder / "keys.conf"))) == ["compute2"]
    assert "systemctl reload" in capsys.readouterr().out
    assert keys("revoke", "compute2") == 0
    assert "systemctl stop masakari-controller, as no key is left" in capsys.readouterr().out


def test_list_tells_whose_keys_there_are_and_how_old_they_are(
    folder: Path, keys: Keys, capsys: pytest.CaptureFixture[str]
) -> None:
    made = keys_file.new_id("compute3", NOW, ())
    key = Key(host="compute3", cluster_port=CLUSTER, secret="sixteen or more characters")
    write(folder / "keys.conf", keys_file.with_key(BY_HAND, made, key))
    assert keys("list", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["key"], row["host"], row["made_at"]) for row in rows] == [
        ("compute1", "compute1", None),
        ("compute2", "compute2", None),
        ("compute3-20261121-023045", "compute3", "2026-11-21T02:30:45Z"),
    ]
    assert keys("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[:2]] == [
        ["key", "host", "cluster_port"],
        ["compute1", "compute1", CLUSTER],
    ]


def test_an_id_is_never_used_twice_and_never_too_long() -> None:
    first = keys_file.new_id("h" * 255, NOW, ())
    second = keys_file.new_id("h" * 255, NOW, {first})
    assert first != second and len(first) == len(second) == 64
    assert [keys_file.made_at(key_id) for key_id in (first, second)] == [NOW, NOW + 1]
    assert keys_file.made_at("compute-99999999-999999") is None


@pytest.mark.needs_root
def test_root_leaves_the_file_to_its_owner(folder: Path, keys: Keys) -> None:
    file = write(folder / "keys.conf", BY_HAND)
    os.chown(file, NOBODY, NOBODY)
    assert keys("rotate", "compute1") == 0
    about = file.stat()
    assert (about.st_uid, about.st_gid, mode(file)) == (NOBODY, NOBODY, 0o600)


def waiting_for_a_lock() -> int:
    """How many threads of this process wait for one."""
    lines = Path("/proc/locks").read_text().splitlines()
    return sum("-> FLOCK" in line and line.split()[5] == str(os.getpid()) for line in lines)


def test_a_second_run_waits_for_the_first(folder: Path, keys: Keys) -> None:
    write(folder / "keys.conf", BY_HAND)
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    late = [threading.Thread(target=keys, args=("rotate", host)) for host in ("compute1", "compute2")]
    for thread in late:
        thread.start()
    until(lambda: waiting_for_a_lock() == 2, 10, lambda: "they don't wait for the lock")
    assert (folder / "keys.conf").read_text() == BY_HAND
    os.close(descriptor)
    for thread in late:
        thread.join(30)
    assert len(load_keys(str(folder / "keys.conf"))) == 4


def test_whoever_reads_meanwhile_finds_a_whole_file(folder: Path, keys: Keys) -> None:
    file = write(folder / "keys.conf", BY_HAND)
    seen: set[int] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            seen.add(len(load_keys(str(file))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for _ in range(20):
            assert keys("add", "compute3", "--cluster-port", CLUSTER) == 0
            assert keys("revoke", "compute3") == 0
        until(lambda: 2 in seen, 10, lambda: "the file was not read")
    finally:
        over.set()
        watcher.join(10)
    assert seen <= {2, 3}


def test_what_can_not_be_written_leaves_everything_as_it_was(
    folder: Path, keys: Keys, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder / "keys.conf", BY_HAND)
    (folder / "keys.conf.new").mkdir()
    assert keys("rotate", "compute1") == 1
    assert "Is a directory" in capsys.readouterr().err
    assert (folder / "keys.conf").read_text() == BY_HAND
    assert sorted(path.name for path in folder.iterdir()) == ["keys.conf", "keys.conf.new", "masakari.conf"]
