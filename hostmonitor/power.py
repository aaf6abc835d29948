"""What ipmitool said about a host's power, and what that proves (pure).

A host's power is off only when a BMC reads back so: "off" that was accepted is a promise. One BMC that says "on" outweighs all
others, and a BMC with another GUID than the declared one says nothing about this host.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from masakari.common.guid import same_guid
from masakari.common.text import utc

POWER_OFF, POWER_ON, UNKNOWN, FENCED = "power_off", "power_on", "unknown", "fenced"
PROOFS = (POWER_OFF, FENCED)
DETAIL_LIMIT = 255
SILENT_AFTER_S = 0.9
"""A session that fails sooner was refused: ipmitool's shortest wait for an answer is one second."""


@dataclass(frozen=True, slots=True)
class Bmc:
    """How a BMC is reached. cipher, privilege, auth: as ipmitool's -C, -L and -A, "" leaves the choice to us.

    guid: the one it must have, "" if it isn't declared. source: where all this is written, for the operator.
    """

    address: str
    user: str = ""
    password: str = field(default="", repr=False)
    port: int = 623
    interface: str = "lanplus"
    cipher: str = ""
    privilege: str = ""
    auth: str = ""
    guid: str = ""
    source: str = ""

    @property
    def name(self) -> str:
        """Its address, with the port unless that is the usual one."""
        return f"BMC {self.address}" if self.port == 623 else f"BMC {self.address} port {self.port}"


@dataclass(frozen=True, slots=True)
class Ran:
    """One run of ipmitool. status: its exit status, None when it was killed: it took too long, or was stopped.

    missing: why it could not be started, "" if it was. began_at, ended_at: Unix seconds; seconds: how long it took.
    """

    status: int | None
    output: str
    errors: str
    began_at: float
    ended_at: float
    seconds: float
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one BMC said. state: "off", "on", or "" when it is not known; why says why.

    at: Unix seconds; for "off" before the question, otherwise after the answer, so that neither claims more than was seen.
    guid: as the BMC tells it, "" if it tells none, or no power state. again: whether asking once more may help.
    """

    bmc: Bmc
    state: str
    at: float
    why: str = ""
    guid: str = ""
    again: bool = False

    @property
    def other_host(self) -> bool:
        """Whether this is the BMC of another host than the one asked about."""
        return bool(self.bmc.guid and self.guid) and not same_guid(self.bmc.guid, self.guid)


@dataclass(frozen=True, slots=True)
class Evidence:
    """One piece of evidence about a host. kind: power_off, power_on, unknown or fenced; at: Unix seconds.

    guid: that of the one BMC it comes from, as the BMC tells it; "" if there are several, or it didn't tell.
    """

    kind: str
    at: float
    detail: str
    guid: str = ""

    def as_json(self) -> dict[str, str]:
        """As it stands in a callback, with the guid only if there is one."""
        shown = "".join(character if character.isprintable() else "?" for character in self.detail)
        if len(shown) > DETAIL_LIMIT:
            shown = shown[: DETAIL_LIMIT - 1] + "…"
        entry = {"kind": self.kind, "at": utc(self.at), "detail": shown}
        return {**entry, "guid": self.guid} if self.guid else entry


@dataclass(frozen=True, slots=True)
class Rules:
    """timeout_s: how long one reading may take (IPMI_TIMEOUT); retry_max: readings after the first that did not say "off"
    (IPMI_RETRY_MAX); retry_interval_s: the pause before each of them (IPMI_RETRY_INTERVAL)."""

    timeout_s: float = 5.0
    retry_max: int = 3
    retry_interval_s: float = 10.0


def read(bmc: Bmc, status: Ran, guid: Ran | None = None) -> Reading:
    """What a BMC said: status is a run of `chassis power status`, guid one of `mc guid` if that told a power state."""
    state = state_in(status)
    if not state:
        why, again = _why(bmc, status)
        return Reading(bmc, "", status.ended_at, why, again=again)
    at = status.began_at if state == "off" else status.ended_at
    return _compare(Reading(bmc, state, at, guid=guid_in(guid) if guid else ""))


def _compare(reading: Reading) -> Reading:
    """The reading as far as it is one of this host: what the wrong BMC says isn't, nor the "off" of one that may be wrong."""
    bmc, told = reading.bmc, reading.guid
    if reading.other_host:
        why = f"wrong BMC: the GUID of {bmc.name} is {told}, but {bmc.guid} is declared; it may be that of another host"
        return Reading(bmc, "", reading.at, why, told)
    if bmc.guid and not told and reading.state == "off":
        why = f"{bmc.name} says off, but does not tell its GUID, so it may not be the declared one ({bmc.guid})"
        return Reading(bmc, "", reading.at, why, again=True)
    return reading


def state_in(run: Ran) -> str:
    """The power state that a run of `chassis power status` tells, "on" or "off"; "" when it tells none."""
    found = re.search(r"^Chassis Power is (on|off)\s*$", run.output, re.MULTILINE)
    return found.group(1) if run.status == 0 and found else ""


def guid_in(run: Ran) -> str:
    """The GUID that a run of `mc guid` tells; "" when it tells none, or one that every BMC could have."""
    found = re.search(r"^System GUID\s*:\s*([0-9A-Fa-f-]{32,36})\s*$", run.output, re.MULTILINE)
    if run.status != 0 or not found:
        return ""
    digits = found.group(1).replace("-", "").lower()
    return "" if len(digits) != 32 or len(set(digits)) == 1 else found.group(1).lower()


def refuses_cipher(run: Ran) -> bool:
    """Whether the BMC refused the cipher suite, which comes before it looks at user and password."""
    return bool(_REFUSED_SUITE.search(run.errors))


_REFUSED_SUITE = re.compile(r"Error in open session response message : (.*)")
_STATUS_FAILED = re.compile(r"Get Chassis Power Status failed: (.*)")
_WRONG_PASSWORD = ("RAKP 2 HMAC is invalid", "Activate Session command failed")
_NO_SESSION = "Unable to establish"


def _why(bmc: Bmc, run: Ran) -> tuple[str, bool]:
    """Why there is no power state, and whether asking again may help. After a wrong password it must not: a BMC locks the
    account after a few of them, and pacemaker's fencing needs it."""
    name, errors = bmc.name, run.errors
    if run.missing:
        return f"ipmitool can't be run on this host: {run.missing}; install the package ipmitool", False
    if run.status is None:
        return _no_answer(bmc, run), True
    if "password is longer than" in errors:
        return f"the password of {name} is too long for IPMI (20 characters, 16 with interface lan){_mend(bmc)}", False
    if "Address lookup for" in errors:
        return f"the name of {name} can't be resolved{_mend(bmc)}", True
    if refused := _REFUSED_SUITE.search(errors):
        return f"{name} refuses the session: {refused.group(1).strip()}; another cipher may do{_mend(bmc)}", False
    if any(text in errors for text in _WRONG_PASSWORD):
        return f"{name} refuses the password of user {bmc.user!r}{_mend(bmc)}", False
    if "unauthorized name" in errors:
        return f"{name} does not let user {bmc.user!r} in, or not with this privilege{_mend(bmc)}", False
    if failed := _STATUS_FAILED.search(errors):
        return f"{name} answers, but does not tell the power state: {failed.group(1).strip()}", True
    if _NO_SESSION in errors and run.seconds >= SILENT_AFTER_S:
        return _no_answer(bmc, run), True
    if _NO_SESSION in errors:
        return f"{name} refuses the session at once: wrong user, password, cipher or privilege{_mend(bmc)}", False
    last = (errors.strip() or run.output.strip() or "nothing").splitlines()[-1]
    return f"{name}: what ipmitool says can't be understood (exit status {run.status}): {last[:100]}", True


def _no_answer(bmc: Bmc, run: Ran) -> str:
    return f"{bmc.name} does not answer within {run.seconds:.0f} s: no power, no network, or IPMI over LAN is off"


def _mend(bmc: Bmc) -> str:
    return f"; see {bmc.source}" if bmc.source else ""


def judge(readings: Sequence[Reading], now: float, problems: Sequence[str] = ()) -> Evidence:
    """What the readings of all BMCs of one host prove together; now: Unix seconds, for when there are none.

    On if one says so; off if at least one says so, and no other that answers says anything else; otherwise unknown, with the
    reason. While one of them is the wrong BMC, only a BMC with the declared GUID can prove anything. problems: why BMCs of
    this host could not be asked.
    """
    on = [reading for reading in readings if reading.state == "on"]
    off = [reading for reading in readings if reading.state == "off"]
    if any(reading.other_host for reading in readings):
        off = [reading for reading in off if reading.bmc.guid]
    whys = [*(reading.why for reading in readings if reading.why), *problems]
    if on:
        last = max(on, key=lambda reading: reading.at)
        said = f", though {off[0].bmc.name} says off" if off else ""
        return Evidence(POWER_ON, last.at, f"{last.bmc.name}: Chassis Power is on{said}", _guid(readings))
    if off:
        first = min(off, key=lambda reading: reading.at)
        names = ", ".join(reading.bmc.name for reading in off)
        others = f" ({'; '.join(whys)})" if whys else ""
        return Evidence(POWER_OFF, first.at, f"{names}: Chassis Power is off{others}", _guid(readings))
    at = max((reading.at for reading in readings), default=now)
    return Evidence(UNKNOWN, at, "; ".join(whys) or "no BMC is known for this host")


def _guid(readings: Sequence[Reading]) -> str:
    """The GUID of the one BMC that was asked, also if at several addresses; "" if there may be more of them.

    A host declares one GUID, and the other BMCs of a host that has several rightly have others.
    """
    told = [reading.guid for reading in readings]
    return told[0] if all(other and same_guid(told[0], other) for other in told) else ""


def pause_s(readings: Sequence[Reading], verdict: Evidence, tries: int, rules: Rules) -> float | None:
    """How long to wait until the BMCs are read again; None: the verdict stands for this round.

    A BMC that says "on" is read again, since one that has accepted "off" may need some seconds. tries: readings so far.
    """
    if verdict.kind == POWER_OFF or tries > rules.retry_max:
        return None
    hopeful = verdict.kind == POWER_ON or any(reading.again for reading in readings)
    return rules.retry_interval_s if hopeful else None


def detail_of(evidence: Sequence[Evidence]) -> str:
    """The `detail` of a callback about a host that is down: "2" with proof, "3" power still on, "4" unknown."""
    proof = max((entry.at for entry in evidence if entry.kind in PROOFS), default=None)
    on = max((entry.at for entry in evidence if entry.kind == POWER_ON), default=None)
    if on is not None and (proof is None or on > proof):
        return "3"
    return "2" if proof is not None else "4"
