#!/bin/sh
# Makes what `make` needs and this machine lacks. Called by the Makefile; each verb may be repeated.
#
#   bootstrap.sh venv run    the virtual environment .venv with what the programs need
#   bootstrap.sh venv test   the same and what the tests and checks need
#   bootstrap.sh mariadb     MariaDB's server programs; no server is set up or started
#   bootstrap.sh libvirt     libvirtd, QEMU, and Python's libvirt in .venv; no service is started by it
#   bootstrap.sh ipmi        ipmitool, and a simulated BMC to ask with it
#   bootstrap.sh cluster     corosync and pacemaker, and what fences; their services neither start now nor at the next boot
#   bootstrap.sh clients     OpenStack's clients, in a virtual environment of their own in build/clients, 170 MB
#   bootstrap.sh proxies     haproxy, nginx, openssl and curl; their services neither start now nor at the next boot
#   bootstrap.sh packaging   what builds and checks Debian packages
#   bootstrap.sh containers  systemd-nspawn, and a fresh Debian (RELEASE) for it in build/containers, 450 MB
#
# Debian packages are installed when run as root and named otherwise.
set -eu
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
DIST_PACKAGES=/usr/lib/python3/dist-packages
LIBVIRT_PACKAGES="libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients qemu-system-x86 seabios python3-libvirt"
IPMI_PACKAGES="ipmitool openipmi"
CLUSTER_PACKAGES="corosync pacemaker pacemaker-cli-utils resource-agents iproute2 tcpdump"
REMOTED=build/cluster/pacemaker-remoted
PROXIES_PACKAGES="haproxy nginx openssl curl"
PACKAGING_PACKAGES="debhelper dh-python lintian make man-db python3-requests python3-waitress python3-yaml systemd"
CONTAINERS_PACKAGES="mmdebstrap systemd-container"
RELEASE=${RELEASE:-bookworm}
DEBIAN=build/containers/$RELEASE
IN_DEBIAN="apt systemd systemd-sysv dbus procps iproute2 python3"
CACHED="adduser corosync haproxy libvirt-daemon-system logrotate mariadb-server openssl pacemaker pacemaker-cli-utils
    python3-daemon python3-libvirt python3-lockfile python3-pymysql python3-requests python3-waitress python3-yaml
    qemu-system-x86 seabios sysvinit-utils tcpdump"
POLICY=/usr/sbin/policy-rc.d
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

say() { echo "-- $*"; }

stop() {
    echo "-- $*" >&2
    exit 1
}

is_root() { [ "$(id -u)" = 0 ]; }

# apt PACKAGE...: install, quietly unless it fails; fetch the package lists only if that is why it failed.
apt() {
    log=$(mktemp)
    say "installing with apt-get: $* (can take a minute)"
    if apt_get install "$@" >"$log" 2>&1; then
        rm -f "$log"
        return
    fi
    say "not installed yet; fetching the package lists (apt-get update) and trying once more"
    if apt_get update >"$log" 2>&1 && apt_get install "$@" >>"$log" 2>&1; then
        rm -f "$log"
        return
    fi
    cat "$log" >&2
    rm -f "$log"
    stop "apt-get could not install $*; its output is above"
}

apt_get() {
    verb=$1
    shift
    if [ "$verb" = install ]; then
        # --no-remove: a MySQL that is in the way stays, and this fails.
        set -- -y --no-remove --no-install-recommends "$@"
    fi
    apt-get -q -o DPkg::Lock::Timeout=120 "$verb" "$@" </dev/null
}

# apt_idle SERVICES PACKAGE...: the same for packages that bring services along, which are not for this machine. They
# don't start; those that are new don't start at the next boot either.
apt_idle() {
    services=$1
    shift
    exec 9<"${POLICY%/*}"
    flock 9 # nobody else, of make -j for instance, may remove the policy under us
    if [ ! -e "$POLICY" ]; then
        trap 'rm -f "$POLICY"' EXIT
        trap 'exit 1' HUP INT TERM
        printf '#!/bin/sh\n# From tests/bootstrap.sh, while it installs packages: remove it if it is still here.\nexit 101\n' >"$POLICY"
        chmod 755 "$POLICY"
    fi
    new=
    for service in $services; do
        status=0
        "$POLICY" "$service" start || status=$?
        [ "$status" = 101 ] || stop "$POLICY would let $service start on this machine; install by hand: $*"
        [ -e "/etc/init.d/$service" ] || new="$new $service"
    done
    apt "$@"
    for service in $new; do
        update-rc.d "$service" disable >/dev/null 2>&1 || say "$service may start at the next boot"
    done
}

need_python() {
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        stop "$PYTHON is missing or older than 3.10; name a newer one: make PYTHON=python3.12 ..."
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null && return
    is_root && command -v apt-get >/dev/null ||
        stop "$PYTHON can't make a virtual environment; as root: apt-get install python3-venv"
    apt python3-venv
    "$PYTHON" -c 'import ensurepip, venv' ||
        stop "$PYTHON still can't make a virtual environment; it is not the python3 of this distribution"
}

# venv run|test: an environment that no longer works (its Python went away) is made anew.
venv() {
    case $1 in
        run) packages=. ;;
        test) packages='.[test]' ;;
    esac
    if [ -e .venv ] && [ ! -w .venv ]; then
        stop ".venv belongs to another user; as that user: make clean"
    fi
    if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
        need_python
        say "making the virtual environment .venv"
        "$PYTHON" -m venv --clear .venv
    fi
    say "installing Python packages into .venv ($1; can take a minute)"
    .venv/bin/python -m pip install --quiet --editable "$packages"
    link_libvirt
    say ".venv is ready"
}

have_mariadb() {
    PATH=$PATH:/usr/sbin:/usr/local/sbin
    command -v mariadbd >/dev/null && command -v mariadb-install-db >/dev/null &&
        command -v my_print_defaults >/dev/null
}

# The -core packages hold the programs alone: no service, no account and no data directory come with them,
# so nothing is started on this machine. Some releases have the version in the names.
mariadb_packages() {
    apt-cache search --names-only '^mariadb-(server|client)-core(-[0-9.]+)?$' | cut -d ' ' -f 1
}

mariadb() {
    have_mariadb && return
    if ! is_root || ! command -v apt-get >/dev/null; then
        say "MariaDB's server programs are missing, so what needs them is left out;" \
            "as root: apt-get install mariadb-server"
        return
    fi
    if [ -z "$(mariadb_packages)" ]; then
        say "fetching the package lists (apt-get update)"
        apt_get update >/dev/null
    fi
    # Unquoted: one word per package.
    # shellcheck disable=SC2046
    apt $(mariadb_packages)
    have_mariadb || stop "MariaDB's server programs are still missing; try: apt-get install mariadb-server"
}

have_libvirt() {
    PATH=$PATH:/usr/sbin:/usr/local/sbin
    command -v libvirtd >/dev/null && command -v qemu-system-x86_64 >/dev/null &&
        command -v virsh >/dev/null && [ -e /usr/share/seabios ] && [ -e "$DIST_PACKAGES/libvirt.py" ]
}

imports_libvirt() { .venv/bin/python -c 'import libvirt' 2>/dev/null; }

# Python's libvirt is a module in C without wheels. Debian's is used as it is: no compiler, and it fits the libvirt
# of this machine.
link_libvirt() {
    if imports_libvirt; then
        return
    fi
    suffix=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
    [ -e "$DIST_PACKAGES/libvirtmod$suffix" ] || return 0
    site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
    for module in "$DIST_PACKAGES"/libvirt*.py "$DIST_PACKAGES"/libvirtmod*"$suffix"; do
        ln -sf "$module" "$site/"
    done
}

libvirt() {
    if ! have_libvirt; then
        if ! is_root || ! command -v apt-get >/dev/null; then
            say "libvirtd, QEMU or Python's libvirt is missing, so what needs them is left out;" \
                "as root: apt-get install --no-install-recommends $LIBVIRT_PACKAGES"
            return
        fi
        # Unquoted: one word per package.
        # shellcheck disable=SC2086
        apt $LIBVIRT_PACKAGES
        have_libvirt || stop "libvirtd, QEMU or Python's libvirt is still missing after: apt-get install $LIBVIRT_PACKAGES"
    fi
    link_libvirt
    imports_libvirt ||
        say "python3-libvirt is for another Python than that of .venv, so what needs libvirt is left out;" \
            "to have it: make clean; make PYTHON=/usr/bin/python3 ..."
}

have_ipmi() { command -v ipmitool >/dev/null && command -v ipmi_sim >/dev/null; }

ipmi() {
    have_ipmi && return
    if ! is_root || ! command -v apt-get >/dev/null; then
        say "ipmitool or ipmi_sim is missing, so what needs them is left out;" \
            "as root: apt-get install --no-install-recommends $IPMI_PACKAGES"
        return
    fi
    # Unquoted: one word per package.
    # shellcheck disable=SC2086
    apt_idle "openipmi ipmievd" $IPMI_PACKAGES
    have_ipmi || stop "ipmitool or ipmi_sim is still missing after: apt-get install $IPMI_PACKAGES"
}

have_cluster() {
    PATH=$PATH:/usr/sbin:/usr/local/sbin
    for program in corosync corosync-cmapctl pacemakerd crm_mon cibadmin crm_node fence_ipmilan ip nsenter tcpdump; do
        command -v "$program" >/dev/null || return
    done
}

have_remoted() {
    PATH=$PATH:/usr/sbin:/usr/local/sbin
    command -v pacemaker-remoted >/dev/null || [ -x "$REMOTED" ]
}

# In the tests pacemaker switches hosts off by itself, through fence_ipmilan and a simulated BMC. Newer releases have it in a small
# package of its own; the one package of older ones brings the libraries of all clouds along, 8 MB.
fence_package() {
    found=$(apt-cache search --names-only '^fence-agents(-ipmilan|-base)?$' | cut -d ' ' -f 1)
    for package in fence-agents-ipmilan fence-agents-base; do
        case " $(echo $found) " in *" $package "*) echo "$package" && return ;; esac
    done
    echo fence-agents
}

# The package of pacemaker's daemon for remote nodes conflicts with that of its members, and a cluster in the tests has both: so
# the one program is taken out of it. It is not installed.
unpack_remoted() {
    have_remoted && return
    say "taking pacemaker-remoted out of its package, for the tests"
    folder=$(mktemp -d)
    if ! (cd "$folder" && apt-get -q download pacemaker-remote) >"$folder/log" 2>&1; then
        apt_get update >/dev/null
        (cd "$folder" && apt-get -q download pacemaker-remote) >"$folder/log" 2>&1 ||
            { cat "$folder/log" >&2; stop "apt-get could not download pacemaker-remote; its output is above"; }
    fi
    dpkg-deb -x "$folder"/pacemaker-remote_*.deb "$folder/unpacked"
    mkdir -p "${REMOTED%/*}"
    cp "$folder/unpacked/usr/sbin/pacemaker-remoted" "$REMOTED.new"
    mv "$REMOTED.new" "$REMOTED"
    rm -rf "$folder"
}

cluster() {
    have_cluster && have_remoted && return
    if ! is_root || ! command -v apt-get >/dev/null; then
        say "corosync, pacemaker, fence_ipmilan or pacemaker-remoted is missing, so what needs them is left out;" \
            "as root: make cluster, which installs $CLUSTER_PACKAGES fence-agents, and keeps their services from starting"
        return
    fi
    if ! have_cluster; then
        # Unquoted: one word per package.
        # shellcheck disable=SC2046,SC2086
        apt_idle "corosync pacemaker" $CLUSTER_PACKAGES $(fence_package)
        have_cluster || stop "corosync, pacemaker or fence_ipmilan is still missing after: apt-get install $CLUSTER_PACKAGES fence-agents"
    fi
    unpack_remoted
}

# Pinned to the last package, so nothing is resolved. The stamp comes last: what broke off is made anew.
clients() {
    wanted=$(cksum <tests/clients.txt)
    [ "$(cat build/clients/.made 2>/dev/null)" = "$wanted" ] && build/clients/bin/python -c '' 2>/dev/null && return
    need_python
    say "making the virtual environment build/clients with OpenStack's clients (can take a minute)"
    "$PYTHON" -m venv --clear build/clients
    if ! build/clients/bin/python -m pip install --quiet --no-deps --requirement tests/clients.txt; then
        say "OpenStack's clients could not be installed, so what needs them is left out; pip's output is above"
        return
    fi
    echo "$wanted" >build/clients/.made
}

have_proxies() {
    PATH=$PATH:/usr/sbin:/usr/local/sbin
    for program in haproxy nginx openssl curl; do
        command -v "$program" >/dev/null || return
    done
}

proxies() {
    have_proxies && return
    if ! is_root || ! command -v apt-get >/dev/null; then
        say "haproxy, nginx, openssl or curl is missing, so what needs them is left out;" \
            "as root: make proxies, which installs $PROXIES_PACKAGES, and keeps their services from starting"
        return
    fi
    # Unquoted: one word per package.
    # shellcheck disable=SC2086
    apt_idle "haproxy nginx" $PROXIES_PACKAGES
    have_proxies || stop "haproxy, nginx, openssl or curl is still missing after: apt-get install $PROXIES_PACKAGES"
}

have_packaging() {
    for program in dh dh_python3 dpkg-deb lintian make man systemd-analyze; do
        command -v "$program" >/dev/null || return
    done
    /usr/bin/python3 -c 'import requests, waitress, yaml' 2>/dev/null
}

packaging() {
    have_packaging && return
    if ! is_root || ! command -v apt-get >/dev/null; then
        say "something that builds or checks Debian packages is missing, so what needs it is left out;" \
            "as root: apt-get install --no-install-recommends $PACKAGING_PACKAGES"
        return
    fi
    # Unquoted: one word per package.
    # shellcheck disable=SC2086
    apt $PACKAGING_PACKAGES
    have_packaging || stop "something that builds Debian packages is still missing after: apt-get install $PACKAGING_PACKAGES"
}

# What the packages of Masakari depend on waits in apt's cache: the containers have no network. MIRROR may be a whole line of apt's
# sources: for Ubuntu RELEASE=noble MIRROR='deb [signed-by=KEYRING] http://archive.ubuntu.com/ubuntu noble main universe'.
containers() {
    [ "$(cat "$DEBIAN/.made" 2>/dev/null)" = "$IN_DEBIAN; $CACHED" ] && command -v systemd-nspawn >/dev/null && return
    if ! is_root || ! command -v apt-get >/dev/null; then
        say "containers need root, so what needs them is left out"
        return
    fi
    # Unquoted: one word per package.
    # shellcheck disable=SC2086
    command -v mmdebstrap >/dev/null && command -v systemd-nspawn >/dev/null || apt $CONTAINERS_PACKAGES
    say "making a fresh Debian in $DEBIAN (can take a minute)"
    rm -rf "$DEBIAN.new"
    mkdir -p "${DEBIAN%/*}"
    log=$(mktemp)
    # shellcheck disable=SC2086
    mmdebstrap --variant=minbase --include="$(echo $IN_DEBIAN | tr ' ' ,)" --skip=cleanup/apt \
        --customize-hook='chroot "$1" apt-get clean' \
        --customize-hook="chroot \"\$1\" apt-get -y --no-install-recommends --download-only install $(echo $CACHED)" \
        "$RELEASE" "$DEBIAN.new" "${MIRROR:-http://deb.debian.org/debian}" >"$log" 2>&1 ||
        { cat "$log" >&2; stop "mmdebstrap could make no Debian; its output is above"; }
    rm -f "$log"
    printf '%s\n' "$IN_DEBIAN; $CACHED" >"$DEBIAN.new/.made"
    rm -rf "$DEBIAN"
    mv "$DEBIAN.new" "$DEBIAN"
}

case "$*" in
    'venv run' | 'venv test' | mariadb | libvirt | ipmi | cluster | clients | proxies | packaging | containers) "$@" ;;
    *) stop "usage: bootstrap.sh venv run | venv test | mariadb | libvirt | ipmi | cluster | clients | proxies | packaging | containers" ;;
esac
