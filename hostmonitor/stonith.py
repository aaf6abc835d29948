"""Which BMC a host has (pure): from the stonith resources in pacemaker's CIB, or from a file of our own.

The file is for what the CIB doesn't tell: passwords that pacemaker keeps apart, GUIDs, hosts that other devices fence.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hostmonitor.power import Bmc
from masakari.common.config import Choice, Integer, Reading, Section, Text, option
from masakari.common.ini import Ini

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

EXTERNAL = "external/ipmi"
LANPLUS_AGENTS = ("fence_ipmilanplus", "fence_ilo3", "fence_ilo4", "fence_ilo5")
AGENTS = ("fence_ipmilan", "fence_idrac", "fence_imm", *LANPLUS_AGENTS)
BMC_FILE = "/etc/hostmonitor/bmc.conf"
YES = ("1", "yes", "true", "on", "y")
INTERFACES = ("lanplus", "lan")
PRIVILEGES = ("callback", "user", "operator", "administrator")

# Parameters without which the agent reaches another BMC than it would with them, or none at all.
UNSUPPORTED = ("target", "hexadecimal_kg")


@dataclass(frozen=True, slots=True)
class Declared:
    """The BMCs of each host, by pacemaker's name of it. unusable: hosts with a BMC that can't be asked, and why, a sentence
    for the operator each; general: what else is wrong."""

    bmcs: Mapping[str, tuple[Bmc, ...]] = field(default_factory=dict)
    unusable: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    general: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything that is wrong, each once."""
        return tuple(dict.fromkeys([*self.general, *(why for whys in self.unusable.values() for why in whys)]))

    def over(self, other: Declared) -> Declared:
        """Both together. A host that has a BMC here is taken from here alone."""
        theirs = {host: whys for host, whys in other.unusable.items() if host not in self.bmcs}
        return Declared({**other.bmcs, **self.bmcs}, {**theirs, **self.unusable}, (*self.general, *other.general))


class _Unusable(Exception):
    """A stonith resource that leads to no BMC; the text says why and what to do."""


@dataclass(slots=True)
class _Device:
    """A stonith resource: its parameters, those of its template included, and the hosts it is for."""

    name: str
    agent: str
    parameters: dict[str, str]
    has_rules: bool
    hosts: tuple[str, ...] = ()

    def get(self, *names: str) -> str:
        """The first of these parameters that is set."""
        return next((self.parameters[name] for name in names if self.parameters.get(name)), "")


def from_cib(text: str) -> Declared:
    """The BMCs that the stonith resources of a CIB name. Never raises: a CIB that can't be read is a problem."""
    from xml.etree import ElementTree

    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        return Declared(general=(f"the CIB can't be read, so it names no BMC: {error}",))
    if root.tag != "cib":
        return Declared(general=(f"what should be the CIB is <{root.tag}>, so it names no BMC",))
    bmcs: dict[str, list[Bmc]] = {}
    unusable: dict[str, list[str]] = {}
    general: list[str] = []
    for device in _devices(root):
        try:
            bmc = _bmc(device)
        except _Unusable as error:
            why = f"stonith resource {device.name} ({device.agent}): {error}"
            for host in device.hosts:
                unusable.setdefault(host, []).append(why)
            if not device.hosts:
                general.append(why)
            continue
        for host in device.hosts:
            bmcs.setdefault(host, []).append(bmc)
    for bmc, hosts in _shared(bmcs):
        why = f"{bmc.name} is named for {_and(hosts)}, so it is asked for none of them; see {bmc.source}"
        for host in hosts:
            bmcs[host] = [other for other in bmcs[host] if _place(other) != _place(bmc)]
            unusable.setdefault(host, []).append(why)
    return Declared(
        {host: tuple(dict.fromkeys(several)) for host, several in bmcs.items() if several},
        {host: tuple(whys) for host, whys in unusable.items()},
        tuple(general),
    )


def _devices(root: Element) -> Iterable[_Device]:
    """The stonith resources that speak IPMI, in clones and groups as well."""
    templates = {template.get("id", ""): template for template in root.iterfind("./configuration/resources/template")}
    sets = {found.get("id", ""): found for found in root.iter("instance_attributes") if found.get("id")}
    levels = [level for level in root.iter("fencing-level") if level.get("devices")]
    for primitive in root.iterfind("./configuration/resources//primitive"):
        template = templates.get(primitive.get("template", ""))
        sources = [primitive] if template is None else [primitive, template]
        kinds = {name: next((e.get(name, "") for e in sources if e.get(name)), "") for name in ("class", "type")}
        if kinds["class"] != "stonith" or kinds["type"] not in (EXTERNAL, *AGENTS):
            continue
        rules = any(source.find("./instance_attributes//rule") is not None for source in sources)
        device = _Device(primitive.get("id", ""), kinds["type"], _parameters(sources, sets), rules)
        device.hosts = _hosts(device, levels)
        yield device


def _parameters(sources: Sequence[Element], sets: Mapping[str, Element]) -> dict[str, str]:
    """Parameters by name: the resource's own before its template's, and the set with the higher score first."""
    found: dict[str, str] = {}
    for source in sources:
        own = source.findall("instance_attributes")
        for attributes in sorted(own, key=lambda each: -_score(each.get("score", "0"))):
            attributes = sets.get(attributes.get("id-ref", ""), attributes)
            for pair in attributes.iterfind("nvpair"):
                found.setdefault(pair.get("name", ""), pair.get("value", ""))
    return found


def _score(written: str) -> float:
    try:
        return float(written.replace("INFINITY", "inf"))
    except ValueError:
        return 0.0


def _hosts(device: _Device, levels: Iterable[Element]) -> tuple[str, ...]:
    """The hosts that a device fences, as far as the CIB tells: its list or map, fencing levels, external/ipmi's hostname."""
    listed = re.split(r"[,;\s]+", device.get("pcmk_host_list"))
    mapped = [re.split(r"[:=]", entry)[0] for entry in re.split(r"[;\s]+", device.get("pcmk_host_map"))]
    static = tuple(dict.fromkeys(host for host in (*listed, *mapped) if host))
    if static:
        return static
    named = [
        level.get("target", "") for level in levels if device.name in re.split(r"[,\s]+", level.get("devices", ""))
    ]
    if device.agent == EXTERNAL:
        named += re.split(r"[,\s]+", device.get("hostname"))
    return tuple(dict.fromkeys(host for host in named if host))


def _bmc(device: _Device) -> Bmc:
    if not device.hosts:
        raise _Unusable("the CIB does not say which host it is for; set its pcmk_host_list")
    for name in UNSUPPORTED:
        if device.get(name):
            raise _Unusable(
                f"its parameter {name} is not supported, so the power of {_and(device.hosts)} can't be read"
            )
    if device.has_rules:
        raise _Unusable(f"its parameters depend on rules, which are not evaluated here; {_put(device.hosts)}")
    address = device.get("ipaddr", "ip")
    if not address:
        raise _Unusable("has no address of a BMC (ip or ipaddr)")
    external = device.agent == EXTERNAL
    port = device.get("ipport") or "623"
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise _Unusable(f"its ipport {port!r} is no port")
    return Bmc(
        address=address,
        user=device.get("userid") if external else device.get("username", "login"),
        password=_password(device),
        port=int(port),
        interface=_interface(device),
        cipher=device.get("cipher"),
        privilege=device.get("priv") if external else device.get("privlvl"),
        auth="" if external else device.get("auth"),
        source=f"stonith resource {device.name}",
    )


def _interface(device: _Device) -> str:
    if device.agent == EXTERNAL:
        interface = device.get("interface") or "lan"
        if interface not in INTERFACES:
            raise _Unusable(f"its interface {interface!r} is not one of {' and '.join(INTERFACES)}")
        return interface
    lanplus = device.get("lanplus") or ("1" if device.agent in LANPLUS_AGENTS else "0")
    return "lanplus" if lanplus.lower() in YES else "lan"


def _password(device: _Device) -> str:
    external = device.agent == EXTERNAL
    script = device.get("password_script", "passwd_script")
    if script and not external:
        raise _Unusable(f"its password comes from a script, which is not run here; {_put(device.hosts)}")
    password = device.get("passwd") if external else device.get("password", "passwd")
    if password.startswith("lrm://"):
        raise _Unusable(f"its password is one of pacemaker's secrets, which are kept apart; {_put(device.hosts)}")
    if password and not password.strip("*"):
        raise _Unusable(f"its password is masked; {_put(device.hosts)}")
    if external and device.get("passwd_method") == "file":
        raise _Unusable(f"its password is in a file, which is not read here; {_put(device.hosts)}")
    return password


def _put(hosts: Sequence[str]) -> str:
    return f"put the BMC of {_and(hosts)} into {BMC_FILE} (mode 0600)"


def _and(words: Iterable[str]) -> str:
    return " and ".join(sorted(words))


def _shared(bmcs: Mapping[str, Sequence[Bmc]]) -> list[tuple[Bmc, list[str]]]:
    """BMCs that are named for several hosts, with these: what such a one says would prove something about the wrong host.
    A host under its short and its long name is one."""
    users: dict[tuple[str, int], dict[str, Bmc]] = {}
    for host, several in bmcs.items():
        for bmc in several:
            users.setdefault(_place(bmc), {})[host] = bmc
    names = {place: {host.partition(".")[0].lower() for host in hosts} for place, hosts in users.items()}
    return [(next(iter(hosts.values())), list(hosts)) for place, hosts in users.items() if len(names[place]) > 1]


def _place(bmc: Bmc) -> tuple[str, int]:
    return bmc.address.lower(), bmc.port


@dataclass(frozen=True)
class BmcSection(Section):
    """A BMC. The section is called like its host, unless `host` names that; a host may have several BMCs."""

    host: str = option(
        "",
        Text(r"[A-Za-z0-9._-]{1,255}", "a host name"),
        "The host, as pacemaker calls it.",
        default_text="the name of the section",
    )
    address: str = option("", Text(r"[^\s-]\S*", "a host name or an address"), "Address of the BMC.", required=True)
    user: str = option("", Text(), "User of the BMC; one that may read the power state is enough.")
    password: str = option("", Text(r".{0,20}", "at most 20 characters long"), "Its password.", secret=True)
    port: int = option(623, Integer(1, 65535), "UDP port.")
    interface: str = option("lanplus", Choice(INTERFACES), "lanplus is IPMI 2.0, lan is IPMI 1.5.")
    cipher: str = option(
        "", Text(r"\d{1,2}", "the number of a cipher suite"), "Cipher suite for lanplus.", default_text="3, then 17"
    )
    privilege: str = option("", Choice(PRIVILEGES), "Privilege to ask for.", default_text="administrator")
    guid: str = option(
        "",
        Text(r"[0-9A-Fa-f]{8}(-?[0-9A-Fa-f]{4}){3}-?[0-9A-Fa-f]{12}", "a GUID as `ipmitool mc guid` shows it"),
        "GUID of the BMC. Nothing is believed of a BMC that tells another one.",
    )


def from_file(path: str) -> tuple[Declared, list[str]]:
    """The BMCs in a file, and its secrets, to be kept out of logs: a section for each BMC.

    ConfigError when others may read the file (its mode must be 0600), or when one BMC is there for several hosts.
    """
    ini = Ini(path)
    mode = os.stat(path).st_mode & 0o777
    if mode & 0o077:
        ini.problems.append((0, f"{path}: others may read the secrets (mode {mode:04o}); run: chmod 600 {path}"))
    reading = Reading(ini, dict.fromkeys(ini.sections, BmcSection))
    bmcs: dict[str, tuple[Bmc, ...]] = {}
    for name, section in reading.sections.items():
        assert isinstance(section, BmcSection)
        if not section.address:
            continue
        host = section.host or name
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,255}", host):
            reading.problem(name, "host", f"{host!r} is no host name; set host in this section")
        bmcs[host] = (*bmcs.get(host, ()), _from_section(section, f"{path} [{name}]"))
        if _shared(bmcs):
            reading.problem(name, "address", "is that of another host, too; every host has its own BMC")
            del bmcs[host]
    reading.finish()
    return Declared(bmcs), [secret for section in reading.sections.values() for secret in section.secrets()]


def _from_section(section: BmcSection, source: str) -> Bmc:
    return Bmc(
        section.address,
        section.user,
        str(section.password),
        section.port,
        section.interface,
        section.cipher,
        section.privilege,
        guid=section.guid.lower(),
        source=source,
    )
