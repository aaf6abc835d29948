"""The settings: what is accepted, what is told about what isn't, and that secrets stay secret."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from masakari import config, config_docs
from masakari.common.config import Integer, Reading, Section, Text, option, show
from masakari.common.errors import ConfigError
from masakari.common.ini import Ini

ROOT = Path(__file__).resolve().parents[2]

NOVA = "[nova]\nauth_url = http://k:5000\nadmin_user = m\nadmin_password = secret-1\nproject_name = service\n"
KEY = "[compute1-a]\nhost = compute1\ncluster_port = 226.94.1.1:5405\nsecret = 0123456789abcdef\n"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys.conf"
    path.write_text(KEY)
    path.chmod(0o600)
    return path


@pytest.fixture
def conf(tmp_path: Path, keys: Path) -> Path:
    """A file that loads without a warning; tests write others over it."""
    path = tmp_path / "masakari.conf"
    path.write_text(NOVA + f"[auth]\nkeys_file = {keys}\n")
    path.chmod(0o600)
    return path


def load(conf: Path, text: str | None = None) -> tuple[config.Settings, list[str]]:
    if text is not None:
        conf.write_text(text + f"\n[auth]\nkeys_file = {conf.parent}/keys.conf\n")
    return config.load(str(conf))


def problems(conf: Path, text: str) -> list[str]:
    """What is wrong with a file of that text, without its path."""
    with pytest.raises(ConfigError) as caught:
        load(conf, text)
    return [problem.removeprefix(str(conf)) for problem in caught.value.problems]


# What a file may say


def test_the_file_of_the_readme_of_2015_is_accepted(conf: Path) -> None:
    settings, warnings = load(
        conf,
        "[wsgi]\nserver_port = 15868\n[db]\nhost = 10.0.0.5\nname = vm_ha \nuser = root\npasswd = mysql\n"
        "charset = utf8\n[log]\nlog_level = debug\n[recover_starter]\ninterval_to_be_retry = 300\n"
        "max_retry_cnt = 3\nsemaphore_multiplicity = 5\nnotification_time_difference = 240\n"
        "node_err_wait = 180\napi_max_retry_cnt = 3\napi_retry_interval = 10\nrecovery_max_retry_cnt = 6\n"
        "recovery_retry_interval = 10\napi_check_interval = 1\napi_check_max_cnt = 30\n"
        "notification_expiration_sec = 300\n"
        "[nova]\ndomain = Default\nadmin_user = admin\nadmin_password = pw\nauth_url = http://k:5000/\n"
        "project_name = demo\n[vmha_data_manage]\nperiod = 30",
    )
    assert settings.db == config.Db(host="10.0.0.5", user="root", passwd="mysql")
    assert (settings.db.drivername, settings.db.name, settings.db.charset) == ("mysql", "vm_ha", "utf8mb4")
    assert settings.recover_starter.semaphore_multiplicity == 5
    assert settings.recover_starter.notification_expiration_sec == 300
    assert (settings.nova.user_domain_name, settings.nova.project_domain_name) == ("Default", "Default")
    assert [warning.removeprefix(str(conf)) for warning in warnings] == [
        ":8: [db] charset: utf8mb4 is used, which contains it"
    ]


def test_percent_hash_and_semicolon_in_a_password_are_kept(conf: Path) -> None:
    settings, warnings = load(conf, NOVA.replace("secret-1", "50%(x)s#a;b=c:d"))
    assert settings.nova.admin_password == "50%(x)s#a;b=c:d"
    assert warnings == []


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ('"two words"', "two words"),
        ("'two words'", "two words"),
        ('"it\'s # ; %"', "it's # ; %"),
        ('""quoted""', '"quoted"'),
        ('"only at the start', '"only at the start'),
        ("\"mixed'", "\"mixed'"),
        ("Ünï→cödé", "Ünï→cödé"),
    ],
)
def test_one_pair_of_quotes_is_dropped_and_nothing_else(conf: Path, written: str, meant: str) -> None:
    settings, _ = load(conf, NOVA.replace("secret-1", written))
    assert settings.nova.admin_password == meant


def test_colon_indentation_case_of_options_and_a_byte_order_mark_do_not_matter(conf: Path) -> None:
    settings, _ = load(conf, "\ufeff[wsgi]\r\n  Server_Port: 8080\r\n; comment\r\n  # another\r\n" + NOVA)
    assert settings.wsgi.server_port == 8080


def test_an_empty_value_means_the_default(conf: Path) -> None:
    settings, _ = load(conf, NOVA + '[wsgi]\nserver_port =\nserver_host = ""\n[db]\nhost =\nname =')
    assert settings.wsgi == config.Wsgi()
    assert settings.db == config.Db()


@pytest.mark.parametrize(("word", "value"), [("yes", True), ("On", True), ("1", True), ("False", False), ("no", False)])
def test_yes_and_no_are_understood_in_every_usual_spelling(conf: Path, word: str, value: bool) -> None:
    assert load(conf, NOVA + f"[safety]\nhold_proven = {word}")[0].safety.hold_proven is value


def test_a_list_is_separated_by_commas_or_blanks(conf: Path) -> None:
    settings, _ = load(conf, NOVA + "[safety]\ndetail_2_is_proof = 226.94.1.1:5405, 226.94.1.2:5405 x:1")
    assert settings.safety.detail_2_is_proof == ("226.94.1.1:5405", "226.94.1.2:5405", "x:1")


def test_log_levels_of_2015_are_understood_in_any_case(conf: Path) -> None:
    assert load(conf, NOVA + "[log]\nlog_level = WARN")[0].log.log_level == "warning"


# Which database


@pytest.mark.parametrize(
    ("given", "drivername", "name"),
    [
        ({}, "sqlite", "/var/lib/masakari/controller/masakari.sqlite"),
        ({"host": "db1"}, "mysql", "vm_ha"),
        ({"user": "masakari"}, "mysql", "vm_ha"),
        ({"drivername": "sqlite", "name": "/x"}, "sqlite", "/x"),
        ({"drivername": "mysql", "name": "other"}, "mysql", "other"),
    ],
)
def test_the_database_is_mysql_if_host_or_user_is_set(given: dict[str, str], drivername: str, name: str) -> None:
    db = config.Db(**given)  # type: ignore[arg-type]
    assert (db.drivername, db.name) == (drivername, name)


def test_a_name_that_is_no_file_is_refused_for_sqlite(conf: Path) -> None:
    assert problems(conf, NOVA + "[db]\nname = vm_ha") == [
        ":7: [db] name: must be the absolute path of a file, not 'vm_ha'; the driver is sqlite unless host, "
        "user or unix_socket is set"
    ]


def test_a_database_server_needs_a_user(conf: Path) -> None:
    assert problems(conf, NOVA + "[db]\nhost = db1")[0].startswith(":6: [db] user: is missing")


# Problems


def test_all_problems_come_at_once_in_the_order_of_the_file(conf: Path) -> None:
    text = (
        "stray = 1\n[wsgi]\nserver_port = 99999\nserver_port = 1\nnonsense\n[wgsi]\na = b\n[wsgi]\n"
        "request_timeout_s = soon\n[nova]\nauth_url = ftp://k\nadmin_user = <admin user>\n"
        "admin_password = x\nath_url = y\nlease_s = 3\nproject_name =\n"
    )
    assert problems(conf, text) == [
        ":1: stands before the first [section]",
        ":3: [wsgi] server_port: must be a whole number from 0 to 65535, not '99999'",
        ":4: [wsgi] server_port again; it is already set on line 3",
        ":5: is neither 'option = value', nor a [section], nor a comment",
        ":6: unknown section [wgsi]; did you mean wsgi?",
        ":8: section [wsgi] again; it began on line 2",
        ":9: [wsgi] request_timeout_s: must be a whole number from 1 to 3600, not 'soon'",
        ":11: [nova] auth_url: must be a URL that begins with http:// or https://, without user and "
        "password, not 'ftp://k'",
        ":12: [nova] admin_user: still has the placeholder of the sample file",
        ":14: [nova] ath_url: unknown option; did you mean auth_url?",
        ":15: [nova] lease_s: unknown option; it belongs to [recover_starter]",
        ":16: [nova] project_name: is missing; only an application credential can stand in for it",
    ]


def test_everything_that_nova_needs_is_asked_for(conf: Path) -> None:
    missing = [problem.split()[2] for problem in problems(conf, "[wsgi]")]
    assert missing == ["auth_url:", "admin_user:", "admin_password:", "project_name:"]


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "1e9", "ten"])
def test_a_number_that_is_none_or_out_of_range_is_refused(conf: Path, value: str) -> None:
    assert len(problems(conf, NOVA + f"[safety]\nproof_valid_s = {value}")) == 1


def test_a_comment_behind_a_number_is_explained(conf: Path) -> None:
    (problem,) = problems(conf, NOVA + "[wsgi]\nserver_port = 15868 ; the port")
    assert problem.endswith("not '15868 ; the port' (a comment needs a line of its own)")


def test_what_looks_like_a_comment_behind_text_is_warned_about(conf: Path) -> None:
    settings, warnings = load(conf, NOVA + "region = RegionOne # ours")
    assert settings.nova.region == "RegionOne # ours"
    assert ":6: [nova] region: everything up to the end of the line is the value" in warnings[0]
    assert load(conf, NOVA + 'region = "RegionOne # ours"')[1] == []


def test_an_option_that_lost_its_meaning_is_a_warning_with_the_reason(conf: Path) -> None:
    _, warnings = load(conf, NOVA + "[log]\nlog_format = %(message)s")
    assert [w.removeprefix(str(conf)) for w in warnings] == [
        ":7: [log] log_format: has no effect any more: every record is one line of a fixed form"
    ]


def test_a_file_that_is_missing_or_unreadable_or_not_utf8_is_one_problem(tmp_path: Path) -> None:
    latin = tmp_path / "latin.conf"
    latin.write_bytes("[nova]\nadmin_password = ä".encode("latin-1"))
    for path, reason in (
        (tmp_path / "none.conf", "can't be read: No such file or directory"),
        (tmp_path, "can't be read: Is a directory"),
        (latin, "is not UTF-8 text (byte 24)"),
    ):
        with pytest.raises(ConfigError) as caught:
            config.load(str(path))
        assert caught.value.problems == [f"{path}: {reason}"]


def test_a_bad_value_causes_no_second_problem(conf: Path) -> None:
    assert len(problems(conf, NOVA + "read_timeout_s = x\n[recover_starter]\nlease_s = 1")) == 1
    assert len(problems(conf, NOVA + "[db]\nuser = <mysql user>\nhost = db1")) == 1


# Values that must fit together


def test_a_lease_outlasts_the_requests_made_under_it(conf: Path) -> None:
    (problem,) = problems(conf, NOVA + "read_timeout_s = 30\n[safety]\naction_settle_s = 33")
    assert "[recover_starter] lease_s: is 60, and must be at least 98" in problem
    load(conf, NOVA + "read_timeout_s = 30\n[safety]\naction_settle_s = 33\n[recover_starter]\nlease_s = 98")


def test_nothing_is_sent_again_while_the_first_may_still_be_answered(conf: Path) -> None:
    (problem,) = problems(conf, NOVA + "[safety]\naction_settle_s = 12.9")
    assert "[safety] action_settle_s: is 12.9, and must be at least 13" in problem


def test_waiting_for_a_lock_is_shorter_than_waiting_for_an_answer(conf: Path) -> None:
    (problem,) = problems(conf, NOVA + "[db]\nread_timeout_s = 10")
    assert "[db] read_timeout_s: must be more than innodb_lock_wait_timeout (10)" in problem


def test_password_or_application_credential_but_not_both_and_not_half(conf: Path) -> None:
    url = "[nova]\nauth_url = https://k/identity/v3\n"
    load(conf, url + "application_credential_id = i\napplication_credential_secret = s")
    assert [
        "application_credential_secret: is missing" in p for p in problems(conf, url + "application_credential_id = i")
    ]
    both = NOVA + "application_credential_id = i\napplication_credential_secret = s"
    assert problems(conf, both) == [
        ":4: [nova] admin_password: and an application credential: only one of them can be used"
    ]


def test_a_command_and_a_ca_bundle_that_are_not_there_are_problems(conf: Path) -> None:
    found = problems(conf, NOVA + "ca_bundle = /no/ca.pem\n[notify]\ncommand = /no/program --now")
    assert found == [
        ":6: [nova] ca_bundle: there is no file /no/ca.pem",
        ":8: [notify] command: /no/program is not a program that can be run",
    ]
    assert load(conf, NOVA + "[notify]\ncommand = /bin/sh -c 'a b'")[0].notify.command == "/bin/sh -c 'a b'"


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("[safety]\nmode = observe", "[safety] mode: nothing is recovered"),
        (
            "[safety]\nwithout_proof = wait_for_nova",
            "[safety] without_proof: hosts are evacuated on Nova's word alone",
        ),
        ("[auth]\ncallbacks = open", "[auth] callbacks: everybody who reaches the port"),
        ("[auth]\ncallbacks = hold", "[auth] callbacks: unsigned reports are acted on only after"),
        (
            "[nova]\nrebuild_local_disks = yes",
            "[nova] rebuild_local_disks: instances with a root disk outside",
        ),
    ],
)
def test_what_gives_up_safety_is_warned_about(conf: Path, text: str, warning: str) -> None:
    head = conf.read_text()
    section = text.split("\n")[0]
    conf.write_text(head.replace(section, text) if section in head else head + text)
    _, warnings = config.load(str(conf))
    assert len(warnings) == 1
    assert warning in warnings[0]
    assert re.match(rf"{re.escape(str(conf))}:\d+: ", warnings[0])


def test_a_file_with_passwords_that_everybody_may_read_is_warned_about(conf: Path) -> None:
    conf.chmod(0o644)
    assert "everybody on this machine may read its passwords (mode 0644)" in config.load(str(conf))[1][0]


# Secrets


def test_settings_show_no_secret(conf: Path) -> None:
    settings, _ = load(conf, NOVA + "[db]\nuser = u\npasswd = secret-2")
    for text in (
        repr(settings),
        str(settings),
        f"{settings.nova}",
        repr(settings.db),
        repr(vars(settings.nova)),
    ):
        assert "secret-" not in text
        assert "***" in text
    assert "secret" not in repr(config.Db(passwd="secret"))
    assert settings.secrets() == ["secret-2", "secret-1"]
    assert "p:" + settings.db.passwd == "p:secret-2"


def test_problems_show_no_secret(tmp_path: Path) -> None:
    text = "[nova]\nadmin_password = <hush-hush>\nadmin_pasword = hush-hush\nsecond half of hush-hush\n"
    path = tmp_path / "masakari.conf"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load(str(path))
    assert "hush-hush" not in str(caught.value)


def test_settings_can_not_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        config.Settings().wsgi.server_port = 1  # type: ignore[misc]


def test_a_controller_is_named_after_its_host_and_port() -> None:
    assert config.Settings().controller.name == f"{os.uname().nodename}:15868"
    assert config.Settings(wsgi=config.Wsgi(server_port=99)).controller.name == f"{os.uname().nodename}:99"
    assert config.Settings(controller=config.Controller(name="left")).controller.name == "left"


# Keys


def key_problems(keys: Path, text: str) -> list[str]:
    keys.write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load_keys(str(keys))
    return [problem.removeprefix(str(keys)) for problem in caught.value.problems]


def test_keys_are_read_by_their_id(keys: Path) -> None:
    keys.write_text(KEY + KEY.replace("1-a", "1-b").replace("0123", "4567"))
    assert config.load_keys(str(keys)) == {
        "compute1-a": config.Key(host="compute1", cluster_port="226.94.1.1:5405", secret="0123456789abcdef"),
        "compute1-b": config.Key(host="compute1", cluster_port="226.94.1.1:5405", secret="4567456789abcdef"),
    }
    assert "0123" not in repr(config.load_keys(str(keys)))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666])
def test_a_keys_file_that_others_may_touch_is_refused(conf: Path, keys: Path, mode: int) -> None:
    keys.chmod(mode)
    with pytest.raises(ConfigError, match=f"mode {mode:04o}.; run: chmod 600"):
        config.load_keys(str(keys))
    with pytest.raises(ConfigError, match="chmod 600"):
        config.load(str(conf))


def test_a_key_needs_host_cluster_and_a_long_secret(keys: Path) -> None:
    assert key_problems(keys, "[a]\nhost = compute1\nsecret = tooshort\nhots = x\n[b c]\n" + KEY) == [
        ":1: [a] cluster_port: is missing",
        ":3: [a] secret: must be at least 16 characters long",
        ":4: [a] hots: unknown option; did you mean host?",
        ":5: [b c] host: is missing",
        ":5: [b c] cluster_port: is missing",
        ":5: [b c] secret: is missing",
    ]
    assert key_problems(keys, KEY.replace("compute1-a", "a,b")) == [
        ":2: [a,b] host: the id of a key is 1 to 64 letters, digits, '.', '_' or '-'"
    ]


def test_a_host_has_two_keys_at_most_and_one_cluster(keys: Path) -> None:
    second = KEY.replace("1-a", "1-b").replace("0123", "4567")
    third = KEY.replace("1-a", "1-c").replace("0123", "89ab")
    assert key_problems(keys, KEY + second + third) == [
        ":10: [compute1-c] host: compute1 has two keys already: [compute1-a][compute1-b]"
    ]
    assert key_problems(keys, KEY + second.replace("5405", "5407")) == [
        ":7: [compute1-b] cluster_port: differs from that of the same host in [compute1-a]"
    ]


def test_no_two_keys_share_a_secret_and_no_id_comes_twice(keys: Path) -> None:
    assert key_problems(keys, KEY + KEY.replace("compute1", "compute2")) == [
        ":8: [compute2-a] secret: is the same as in [compute1-a]; every key needs its own"
    ]
    assert key_problems(keys, KEY + "[compute1-a]")[0] == ":5: section [compute1-a] again; it began on line 1"


def test_without_keys_only_unsigned_callbacks_can_be_believed(conf: Path, keys: Path) -> None:
    keys.unlink()
    assert f"there is no file {keys}; with callbacks = signed" in problems(conf, NOVA)[0]
    assert "masakari-keys init; then for each host: masakari-keys add HOST" in problems(conf, NOVA)[0]
    keys.touch(0o600)
    assert f"there is no key in {keys}; run: masakari-keys add HOST --cluster-port" in problems(conf, NOVA)[0]
    conf.write_text(conf.read_text() + "callbacks = hold\n")
    settings, _ = config.load(str(conf))
    assert config.read_keys(settings) == {}
    keys.write_text(KEY)
    keys.chmod(0o600)
    assert list(config.read_keys(settings)) == ["compute1-a"]


# The sample file and the documentation


def test_the_sample_loads_once_filled_in(tmp_path: Path, keys: Path) -> None:
    sample = (ROOT / "etc/masakari/masakari.conf").read_text()
    path = tmp_path / "masakari.conf"
    path.write_text(sample)
    with pytest.raises(ConfigError) as caught:
        config.load(str(path))
    assert sum("placeholder" in problem for problem in caught.value.problems) == 4
    filled = sample.replace("<http://keystone:5000/v3>", "http://k:5000/v3").replace(
        "#keys_file = /etc/masakari", f"keys_file = {tmp_path}"
    )
    path.write_text(re.sub("= <.*>", "= something", filled))
    path.chmod(0o600)
    settings, warnings = config.load(str(path))
    assert warnings == []
    assert settings.safety == config.Safety()


def test_the_sample_is_made_of_the_settings() -> None:
    """Made by: python3 -c "from masakari.config_docs import render_sample; print(render_sample(), end='')" > FILE"""
    assert (ROOT / "etc/masakari/masakari.conf").read_text() == config_docs.render_sample()


def test_the_sample_says_of_every_option_since_when_it_is_there() -> None:
    sample = (ROOT / "etc/masakari/masakari.conf").read_text()
    explained = re.findall(r"((?:^# .*\n)+)#?([a-z]\w*) =", sample, re.MULTILINE)
    assert len(explained) == sum(len(kind.options()) for kind in config.SECTIONS.values())
    assert [name for text, name in explained if not re.search(r"Since (2015|1\.0)\.\n$", text)] == []
    assert "# Password of the database user. Since 2015.\n#passwd =\n" in sample
    assert "# Database user. Since 2015.\n#user =\n" in sample
    assert "# Seconds to wait for an answer of the database. Since 1.0.\n#read_timeout_s = 30\n" in sample


def test_the_sample_shows_every_option_in_order_with_its_default() -> None:
    shown: list[tuple[str, str, str]] = []
    section = ""
    for line in (ROOT / "etc/masakari/masakari.conf").read_text().splitlines():
        if line.startswith("["):
            section = line[1:-1]
        elif found := re.fullmatch(r"#?([a-z]\w*) = ?(.*)", line):
            shown.append((section, found[1], "" if found[2].startswith("<") else found[2]))
    assert shown == [
        (name, field.name, show(field.default)) for name, kind in config.SECTIONS.items() for field, _ in kind.options()
    ]


def test_the_documentation_is_current() -> None:
    """Made by: python3 -c "from masakari.config_docs import render_docs; print(render_docs(), end='')" > FILE"""
    assert (ROOT / "docs/configuration.md").read_text() == config_docs.render_docs()


# What the sections of other programs may use


@dataclass(frozen=True)
class Callback(Section):
    """A section with options that have more than one name."""

    obsolete: ClassVar[Mapping[str, str]] = {"Log_Facility": "the journal needs none"}

    url: str = option("", Text(), "Where to.", required=True, aliases=("RM_URL",))
    regionID: str = option("", Text(), "Which region.", aliases=("region_id",))
    retry: int = option(12, Integer(0, 99), "How often.")


def read(tmp_path: Path, text: str) -> Reading:
    path = tmp_path / "monitor.conf"
    path.write_text(text)
    return Reading(Ini(str(path)), {"callback": Callback})


def test_an_option_may_have_older_names(tmp_path: Path) -> None:
    reading = read(tmp_path, "[callback]\nrm_url = http://m\nREGION_ID = R\nlog_facility = x")
    reading.finish()
    assert reading.sections["callback"] == Callback(url="http://m", regionID="R")
    assert reading.given("callback", "regionID")
    assert not reading.given("callback", "retry")
    assert "log_facility: has no effect any more: the journal needs none" in reading.warnings[0]


def test_two_names_of_one_option_are_not_both_accepted(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r":3: \[callback\] RM_URL: is another name of url, which is set on line 2"):
        read(tmp_path, "[callback]\nurl = a\nRM_URL = b").finish()
