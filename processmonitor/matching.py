"""Whether a command line belongs to a watched process (pure).

In 2015 a process was found by `ps -ef | grep KEY | grep -v grep`. So it is here: KEY, as written in the list, stands somewhere
in the command line, its arguments joined by blanks. What `grep -v grep` was for is done in earnest, because a mention of a
process that is taken for the process hides its death:

- Programs that look at others, edit files, or carry the command line of another (grep, vi, systemctl, sudo, timeout ...)
  count only when KEY begins in their own name: `sudo /usr/sbin/libvirtd` is no libvirtd, its child is one.
- A shell counts only when KEY begins at its script or before, and reaches into the script's path: `/bin/sh /opt/agent.sh` is
  found by "agent.sh", `sh -c "agent.sh; true"` and `sh /usr/sbin/service agent.sh restart` are not.
- The same goes for one-liners of other interpreters (`python3 -c`, `perl -e`). Their scripts match anywhere, as
  `/usr/bin/python3 /usr/bin/nova-compute --config-file /etc/nova/nova.conf` must.
- The arguments of a QEMU guest contain names that users have chosen: KEY must begin in the name of the program.

A title that a program has given itself (`sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups`) is a command line, too.
What has none (kernel threads, zombies) never matches.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_LOOKING = """
    grep egrep fgrep zgrep rg ag ack pgrep pidof ps top htop pkill kill killall awk gawk mawk sed less more most pager tail head
    cat tac zcat zless tee vi vim view nvim nano emacs ed ex man info strace ltrace gdb gdbserver perf lsof fuser watch find
    xargs ls stat file which whereis diff cmp cp mv rm ln chmod chown touch scp rsync sftp tar logger
    systemctl service journalctl invoke-rc.d initctl rc-service virsh crm pcs apt apt-get dpkg dpkg-query yum dnf rpm
"""
_CARRYING = """
    sudo su doas runuser setpriv ssh timeout nohup env setsid nice ionice chrt taskset numactl stdbuf script flock time chroot
    nsenter unshare ip prlimit capsh valgrind unbuffer screen tmux parallel start-stop-daemon systemd-run systemd-cat
    systemd-inhibit supervise runsv s6-supervise dumb-init tini catatonit docker-init docker podman
"""
_SHELLS = "sh bash dash ash ksh mksh zsh fish busybox"

MENTIONING = frozenset([*_LOOKING.split(), *_CARRYING.split()])
"""Programs that look for others, look at them, control them, handle their files, or have their command line as arguments."""

SHELLS = frozenset(_SHELLS.split())

_VARIANT = re.compile(r"(vim|emacs|strace|gdb)[.-]\S+")
_GUEST = re.compile(r"qemu-\S+|kvm")
_INTERPRETER = re.compile(r"(python|perl|ruby|node|php|lua)[0-9.]*")
_ONE_LINER = re.compile(r"-[A-Za-z]*[ce]")
_SHELL_OPTIONS_WITH_VALUE = frozenset(("-o", "+o", "-O", "+O", "--rcfile", "--init-file"))


def belongs(key: str, argv: Sequence[str]) -> bool:
    """Whether the process with these arguments is the one, or one of those, that `key` names. See above."""
    line = " ".join(argv)
    places = _places(key, line)
    if not places:
        return False
    program = _program(argv[0])
    if program in SHELLS:
        script = _script(argv)
        return script is not None and any(at < script[1] and at + len(key) > script[0] for at in places)
    if _mentions_others(program) or (_INTERPRETER.fullmatch(program) and _is_one_liner(argv)):
        return places[0] < len(argv[0].split(" ", 1)[0])
    return True


def _places(key: str, line: str) -> list[int]:
    """Where the key stands in the line; nowhere for an empty one."""
    return [found.start() for found in re.finditer(f"(?={re.escape(key)})", line)] if key else []


def _program(name: str) -> str:
    """The program's own name: without folders, the dash of a login shell, and the colon of a title."""
    return name.split(" ", 1)[0].rstrip(":").rsplit("/", 1)[-1].lstrip("-")


def _mentions_others(program: str) -> bool:
    return program in MENTIONING or bool(_VARIANT.fullmatch(program) or _GUEST.fullmatch(program))


def _is_one_liner(argv: Sequence[str]) -> bool:
    """Whether the program is given as text: an option -c or -e before anything that is no option."""
    for word in argv[1:]:
        if not word.startswith("-"):
            return False
        if _ONE_LINER.fullmatch(word):
            return True
    return False


def _script(argv: Sequence[str]) -> tuple[int, int] | None:
    """Where the path of a shell's script begins and ends in the joined command line; None if it runs none."""
    at = len(argv[0]) + 1
    value_follows = False
    for word in argv[1:]:
        if value_follows:
            value_follows = False
        elif word in _SHELL_OPTIONS_WITH_VALUE:
            value_follows = True
        elif not word.startswith(("-", "+")):
            return at, at + len(word)
        elif re.fullmatch(r"-[A-Za-z]*[cs][A-Za-z]*", word):
            return None
        at += len(word) + 1
    return None
