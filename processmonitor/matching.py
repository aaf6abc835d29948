"""Whether a command line belongs to a watched process (pure).

In 2015 a process was found by `ps -ef | grep KEY | grep -v grep`. So it is here: KEY, as written in the list, stands somewhere
in the command line, its arguments joined by blanks. What `grep -v grep` was for is done in earnest, because a mention of a
process that is taken for the process hides its death:

- Programs that look at others, edit files, or carry the command line of another (grep, vi, systemctl, sudo, timeout ...)
  count only when KEY begins in their own name: `sudo /usr/sbin/libvirtd` is no libvirtd, its child is one.
- A shell counts only when KEY begins at its script or before, and reaches into the script's path: `/bin/sh /opt/agent.sh` is
  found by "agent.sh", `sh -c "agent.sh; true"` and `sh /usr/sbin/service agent.sh restart` are not.
- Other interpreters (python, perl, java ...) count only when KEY begins at their script, module or jar, or before:
  `/usr/bin/python3 /usr/bin/nova-compute --config-file /etc/nova/nova.conf` is found by "nova-compute", `/usr/bin/python3
  /usr/bin/openstack compute service list --service nova-compute` is not, nor is `python3 -c "... nova-compute"`.
- The arguments of a QEMU guest contain names that users have chosen: KEY must begin in the name of the program.

A title that a program has given itself (`sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups`) is a command line, too.
What has none (kernel threads, zombies) never matches.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

_LOOKING = """
    grep egrep fgrep zgrep rg ag ack pgrep pidof ps top htop pkill kill killall awk gawk mawk sed less more most pager tail head
    cat tac zcat zless tee vi vim view nvim nano emacs ed ex man info strace ltrace gdb gdbserver perf lsof fuser watch find
    xargs ls stat file which whereis diff cmp cp mv rm ln chmod chown touch scp rsync sftp tar logger
    curl wget tcpdump tshark openstack nova cinder glance neutron
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
_INTERPRETER = re.compile(r"(python|perl|ruby|node|php|lua|java)(?:js)?[0-9.]*")


class _Language(NamedTuple):
    """text: an option that has the program as text. values: options followed by a word of their own. module: an option that
    ends with the name of the program. The program is the first other word."""

    text: str
    values: str
    module: str = "(?!)"


_SHELL = _Language(r"-[A-Za-z]*[cs][A-Za-z]*", "-o +o -O +O --rcfile --init-file")
_PYTHON_FLAGS = "-[bBdEiIOPqsSuvx]*"
_LANGUAGES = {
    "python": _Language(_PYTHON_FLAGS + "c.*|-", "-W -X --check-hash-based-pycs", _PYTHON_FLAGS + "m.+"),
    "perl": _Language(r"-(?![IMm])[A-Za-z0-9]*[eE]|-", "-I"),
    "ruby": _Language(r"-(?![CEIKTrx])[A-Za-z]*e|-", "-C -E -I -r"),
    "node": _Language(r"-[ep]+|--(eval|print)(=.*)?|-", "-C -r --conditions --import --loader --require"),
    "php": _Language(r"-[BERr]|-", "-c -d -z"),
    "lua": _Language(r"-e.*|-", "-l"),
    "java": _Language(
        r"(?!)", "-cp -classpath -p --class-path --module-path --add-modules --add-opens --add-exports --add-reads"
    ),
}


def belongs(key: str, argv: Sequence[str]) -> bool:
    """Whether the process with these arguments is the one, or one of those, that `key` names. See above."""
    line = " ".join(argv)
    places = _places(key, line)
    if not places:
        return False
    # A title is one word with blanks in it; what it says is read like arguments.
    words = line.split(" ") if len(argv) == 1 else argv
    own, program = len(words[0].split(" ", 1)[0]), _program(words[0])
    if program in SHELLS:
        script = _script(words, _SHELL)
        return script is not None and any(at < script[1] and at + len(key) > script[0] for at in places)
    if interpreter := _INTERPRETER.fullmatch(program):
        script = _script(words, _LANGUAGES[interpreter[1]])
        return places[0] < (script[1] if script else own)
    return not _mentions_others(program) or places[0] < own


def _places(key: str, line: str) -> list[int]:
    """Where the key stands in the line; nowhere for an empty one."""
    return [found.start() for found in re.finditer(f"(?={re.escape(key)})", line)] if key else []


def _program(name: str) -> str:
    """The program's own name: without folders, the dash of a login shell, and the colon of a title."""
    return name.split(" ", 1)[0].rstrip(":").rsplit("/", 1)[-1].lstrip("-")


def _mentions_others(program: str) -> bool:
    return program in MENTIONING or bool(_VARIANT.fullmatch(program) or _GUEST.fullmatch(program))


def _script(argv: Sequence[str], language: _Language) -> tuple[int, int] | None:
    """Where the script, or module, begins and ends in the joined command line; None if there is none."""
    at = len(argv[0]) + 1
    value_follows = False
    for word in argv[1:]:
        if value_follows:
            value_follows = False
        elif word in language.values.split():
            value_follows = True
        elif not word.startswith(("-", "+")) or re.fullmatch(language.module, word):
            return at, at + len(word)
        elif re.fullmatch(language.text, word, re.DOTALL):
            return None
        at += len(word) + 1
    return None
