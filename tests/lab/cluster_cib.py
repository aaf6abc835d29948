"""The CIB that a private cluster begins with."""

from __future__ import annotations

from collections.abc import Mapping

from hostmonitor.power import Bmc


def cib(options: Mapping[str, str], resources: str = "", constraints: str = "") -> str:
    """A whole CIB: these options of the cluster, and the XML of resources and constraints."""
    return f"""<cib validate-with="pacemaker-3.0" epoch="1" num_updates="0" admin_epoch="0"><configuration><crm_config>
<cluster_property_set id="options">{_pairs("option", options)}</cluster_property_set></crm_config><nodes/>
<resources>{resources}</resources><constraints>{constraints}</constraints></configuration><status/></cib>
"""


def fence_device(node: str, bmc: Bmc) -> str:
    """What fences a node through its BMC."""
    # power_wait: fence_ipmilan would wait 2 s before it asks whether an "off" has worked.
    parameters = {
        "ip": bmc.address,
        "ipport": str(bmc.port),
        "username": bmc.user,
        "password": bmc.password,
        "lanplus": "1",
        "cipher": "3",
        "power_wait": "0",
        "pcmk_host_list": node,
    }
    return _primitive(f"fence-{node}", 'class="stonith" type="fence_ipmilan"', parameters, 'interval="60s"')


def not_on_itself(node: str) -> str:
    """The device that fences a node runs elsewhere."""
    return f'<rsc_location id="where-fence-{node}" rsc="fence-{node}" node="{node}" score="-INFINITY"/>'


def remote(name: str, address: str) -> str:
    """The connection to a pacemaker-remote node. One that answers nothing is noticed within some 6 s, not after minutes."""
    kind = 'class="ocf" provider="pacemaker" type="remote"'
    return _primitive(name, kind, {"server": address}, 'interval="1s" timeout="5s"')


def _primitive(name: str, kind: str, parameters: Mapping[str, str], monitor: str) -> str:
    return (
        f'<primitive id="{name}" {kind}>'
        f'<instance_attributes id="{name}-parameters">{_pairs(name, parameters)}</instance_attributes>'
        f'<operations><op id="{name}-monitor" name="monitor" {monitor}/></operations></primitive>'
    )


def _pairs(prefix: str, values: Mapping[str, str]) -> str:
    return "".join(f'<nvpair id="{prefix}-{name}" name="{name}" value="{value}"/>' for name, value in values.items())
