"""Installing, removing, purging; on a fresh Debian each time."""

from __future__ import annotations

from tests.lab.mariadb import until
from tests.system.machine import PACKAGES, PASSWORD, SERVICES, Machine

CONFIGURED = "/etc/masakari/masakari.conf"
KEYS = "[compute2]\nhost = compute2\ncluster_port = 226.94.1.1:5405\nsecret = 0123456789abcdef0123456789abcdef\n"


def ours(machine: Machine) -> set[str]:
    """Every path of the machine with a name of ours in it, but what apt and dpkg keep about packages."""
    found = machine.run(
        *("find", "/", "-xdev", "(", "-path", "/proc", "-o", "-path", "/root", "-o", "-path", "/var/cache/apt", ")"),
        *(
            "-prune",
            "-o",
            "(",
            "-name",
            "*masakari*",
            "-o",
            "-name",
            "*monitor*",
            "-o",
            "-name",
            "*_manage.py*",
            ")",
            "-print",
        ),
    )
    return set(found.split())


def test_a_fresh_installation_starts_nothing_and_says_what_to_fill_in(fresh: Machine) -> None:
    said = fresh.install()
    assert fresh.failed() == ""
    for service in SERVICES:
        assert fresh.show(service, "ActiveState") == "inactive"
        assert fresh.run("systemctl", "is-enabled", service).strip() == "enabled"
        assert f"{service} is not (re)started, as it would refuse its settings:" in said
        assert f"Once this prints ok: {service} --check-config" in said
    assert "[nova] auth_url: still has the placeholder of the sample file" in said
    assert "there is no file /etc/masakari/keys.conf" in said


def test_packages_can_be_installed_one_after_the_other_with_dpkg(installed: Machine) -> None:
    installed.run("dpkg", "--purge", *PACKAGES)
    installed.run("systemctl", "reset-failed")  # at this boot they were installed, and not set up
    for name in (
        "masakari-base",
        "masakari",
        "masakari-hostmonitor",
        "masakari-instancemonitor",
        "masakari-processmonitor",
    ):
        installed.run("sh", "-c", f"dpkg -i /root/{name}_*.deb")
    assert installed.failed() == ""


def test_a_controller_that_would_believe_nobody_does_not_start(installed: Machine) -> None:
    installed.set_up()
    installed.change(CONFIGURED, {"callbacks = open": "callbacks = signed"})
    assert installed.container.ran("systemctl", "start", "masakari-controller").returncode != 0
    until(
        lambda: installed.show("masakari-controller", "ActiveState") == "failed",
        30,
        lambda: installed.journal("masakari-controller"),
    )
    assert "there is no file /etc/masakari/keys.conf" in installed.journal("masakari-controller")
    assert installed.show("masakari-controller", "NRestarts") == "0"  # wrong settings do not mend themselves
    assert installed.show("masakari-controller", "ExecMainStatus") == "78"


def test_keys_that_only_the_controller_may_read_are_read(installed: Machine) -> None:
    installed.set_up()
    installed.change(CONFIGURED, {"callbacks = open": "callbacks = signed"})
    installed.container.write("/etc/masakari/keys.conf", KEYS, 0o600)
    installed.run("chown", "masakari:", "/etc/masakari/keys.conf")
    installed.run("systemctl", "start", "masakari-controller")


def test_passwords_are_for_the_controller_alone(installed: Machine) -> None:
    assert installed.run("stat", "-c", "%a %U:%G", CONFIGURED).strip() == "640 root:masakari"
    assert installed.container.ran("runuser", "-u", "nobody", "--", "cat", CONFIGURED).returncode != 0


def test_removal_keeps_what_was_set_up_and_a_new_installation_goes_on_with_it(installed: Machine) -> None:
    installed.set_up()
    installed.restart(*SERVICES)
    installed.run("dpkg", "--remove", *PACKAGES)
    assert installed.run("sh", "-c", "ps ax | grep '[m]asakari-' || true") == ""
    assert PASSWORD in installed.run("cat", CONFIGURED)
    assert installed.container.exists("/var/lib/masakari/controller/masakari.sqlite")
    assert installed.run("sh", "-c", "find /usr/share/masakari 2>/dev/null || true") == ""
    installed.install()
    for service in SERVICES:
        installed.until_running(service)
    assert PASSWORD in installed.run("cat", CONFIGURED)


def test_purging_leaves_nothing(fresh: Machine) -> None:
    before = ours(fresh)
    fresh.install()
    fresh.set_up()
    fresh.container.write("/etc/masakari/keys.conf", KEYS, 0o600)
    fresh.container.write("/etc/masakari/key.conf", KEYS, 0o600)
    fresh.run("chown", "masakari:", "/etc/masakari/keys.conf")
    fresh.restart(*SERVICES)
    assert len(ours(fresh)) > 50
    fresh.run("dpkg", "--purge", *PACKAGES)
    assert ours(fresh) - before == set()
    assert fresh.failed() == ""


def test_other_packages_named_masakari_are_never_imported(installed: Machine) -> None:
    for folder in (
        "/usr/lib/python3/dist-packages/masakari",
        "/usr/local/lib/python3.11/dist-packages/hostmonitor",
        "/tmp/masakari",
    ):
        installed.run("mkdir", "-p", folder)
        installed.container.write(f"{folder}/__init__.py", "raise SystemExit('another package')\n")
    for command in (*SERVICES, "masakari-api", "masakari-manage", "recovery_manage.py", "reserve_host_manage.py"):
        said = installed.run("sh", "-c", f"cd /tmp && PYTHONPATH=/tmp {command} --version")
        assert said.startswith("masakari 1.")


def test_it_is_installed_beside_no_other_masakari(installed: Machine) -> None:
    for name, rival in (("masakari", "masakari-api"), ("masakari-hostmonitor", "python3-masakari-monitors")):
        assert rival in installed.run("dpkg-query", "--show", "--showformat", "${Conflicts}", name)
