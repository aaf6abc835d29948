"""A simulated cloud: Keystone and Nova over HTTP, as real ones were seen to behave; hosts can die.

In virtual time, without sockets:

    cloud = SimulatedCloud(VirtualClock(), ("compute1", "compute2"))
    instances = cloud.boot("compute1", 20)
    cloud.crash("compute1")
    session = cloud.session()           # sign in at cloud.auth_url with cloud.credentials()
    cloud.fault("evacuate", "lose_answer")
    cloud.running(), cloud.violations(), cloud.calls

In real time: `cloud.serve()` with a Clock, or `python3 -m tests.simcloud --port 8774` and RemoteCloud(url).
"""

from .clock import SkewedClock, VirtualClock
from .cloud import SimulatedCloud
from .control import RemoteCloud

__all__ = ["RemoteCloud", "SimulatedCloud", "SkewedClock", "VirtualClock"]
