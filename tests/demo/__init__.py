"""A demonstration for people who have never seen the project: `make demo`, or python3 -m tests.demo.

A simulated cloud and the real controller, each in a process of its own. A host dies, then a guest, then a process; what
the controller does about it is shown while it happens. Nothing needs root, nothing stays behind.
"""
