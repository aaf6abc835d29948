"""The settings that OpenStack's Masakari has: which instances are recovered, and what Nova is told of a failure."""

from __future__ import annotations

from dataclasses import dataclass

from masakari.common.config import Section, Text, YesNo, option

METADATA_KEY = Text(r"[A-Za-z0-9_:. -]{1,255}", "a key of Nova's metadata")
REASON = Text(r".{1,200}", "a text of at most 200 characters")

_DISABLE_REASON = (
    "What Nova shows as the reason why nova-compute is disabled, after the words `masakari recovery NUMBER:`."
)


@dataclass(frozen=True)
class HostFailure(Section):
    """Which instances of a failed host are recovered, and what is done for it in Nova besides."""

    evacuate_all_instances: bool = option(
        True,
        YesNo(),
        "no: only instances whose metadata says `HA_Enabled: true` are recovered. yes: those that say nothing, too. Either way "
        "those marked true go first, and those marked false are left alone. OpenStack's Masakari: yes.",
    )
    ignore_instances_in_error_state: bool = option(
        False, YesNo(), "Leave instances alone that are in error when the host is listed. OpenStack's Masakari: no."
    )
    ha_enabled_instance_metadata_key: str = option(
        "HA_Enabled",
        METADATA_KEY,
        "Key of the metadata with which the owner of an instance says so. `HA-Enabled: off` of 2015 is understood besides. "
        "OpenStack's Masakari: HA_Enabled.",
    )
    add_reserved_host_to_aggregate: bool = option(
        False,
        YesNo(),
        "Put the reserved host into all aggregates of the failed host before instances are evacuated to it. It is taken out "
        "again once it is a spare again. OpenStack's Masakari: no, and it stays in them.",
    )
    service_disable_reason: str = option(
        "",
        REASON,
        f"{_DISABLE_REASON} OpenStack's Masakari: a text of its own, without the number.",
        default_text="`host failure`",
    )


@dataclass(frozen=True)
class InstanceFailure(Section):
    """Which instances are started again when they die on a living host."""

    process_all_instances: bool = option(
        True,
        YesNo(),
        "no: only instances whose metadata says `HA_Enabled: true`. yes: those that say nothing, too. Either way those marked "
        "false are left alone. **OpenStack's Masakari: no.**",
    )
    ha_enabled_instance_metadata_key: str = option(
        "HA_Enabled",
        METADATA_KEY,
        "Key of the metadata with which the owner of an instance says so. `HA-Enabled: off` of 2015 is understood besides. "
        "OpenStack's Masakari: HA_Enabled.",
    )


@dataclass(frozen=True)
class ProcessFailure(Section):
    """What Nova is told when a process of a node died and can't be restarted."""

    service_disable_reason: str = option(
        "",
        REASON,
        f"{_DISABLE_REASON} OpenStack's Masakari: a text of its own, without the number.",
        default_text="`process failure`",
    )
