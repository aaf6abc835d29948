"""Which instances are recovered at all, pure: what the owner of one says in its metadata, and what the operator has set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from masakari.config_failure import HostFailure, InstanceFailure

TRUE_WORDS = ("true", "on", "yes", "1")
FALSE_WORDS = ("false", "off", "no", "0")
KEY_OF_2015 = "HA-Enabled"


@dataclass(frozen=True, slots=True)
class Choice:
    """`unmarked`: also instances whose owner said nothing; `option`: what says so, for the reason.

    `in_error`: also those in error. `key`: the key of the metadata.
    """

    unmarked: bool = True
    in_error: bool = True
    key: str = "HA_Enabled"
    option: str = ""


EVERY = Choice()
"""All but those whose owner says no: what holds while nothing is set."""


def of_host(section: HostFailure) -> Choice:
    """The choice among the instances of a failed host."""
    return Choice(
        unmarked=section.evacuate_all_instances,
        in_error=not section.ignore_instances_in_error_state,
        key=section.ha_enabled_instance_metadata_key,
        option="[host_failure] evacuate_all_instances",
    )


def of_instance(section: InstanceFailure) -> Choice:
    """The choice among instances that died on a living host."""
    return Choice(
        unmarked=section.process_all_instances,
        key=section.ha_enabled_instance_metadata_key,
        option="[instance_failure] process_all_instances",
    )


def wants_ha(metadata: Mapping[str, str], key: str = "HA_Enabled") -> bool | None:
    """The owner's wish: True (first in line), False (left alone), None (said nothing).

    `HA-Enabled: off` is that of 2015; `key`, true or false, that of OpenStack's Masakari.
    """
    for name in (KEY_OF_2015, key):
        word = str(metadata.get(name, "")).strip().lower()
        if word in FALSE_WORDS:
            return False
        if word in TRUE_WORDS and name == key:
            return True
    return None


def left_out(metadata: Mapping[str, str], vm_state: str, choice: Choice) -> str:
    """Why an instance is not recovered, by its owner's word or by the settings; empty when it is."""
    wish = wants_ha(metadata, choice.key)
    if wish is False:
        return f"left out: its metadata says {choice.key} false"
    if wish is None and not choice.unmarked:
        return f"left out: its metadata doesn't say {choice.key} true, and {choice.option} = no"
    if vm_state == "error" and not choice.in_error:
        return "left out: it is in error, and [host_failure] ignore_instances_in_error_state = yes"
    return ""
