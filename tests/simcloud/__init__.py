"""A simulated cloud: Keystone and Nova over HTTP, as real ones were seen to behave; hosts can die."""

from .clock import SkewedClock, VirtualClock
from .cloud import SimulatedCloud
from .control import RemoteCloud

__all__ = ["RemoteCloud", "SimulatedCloud", "SkewedClock", "VirtualClock"]
