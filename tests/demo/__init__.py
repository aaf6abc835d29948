"""A demonstration for people who have never seen the project: `make demo`, or python3 -m tests.demo.

A simulated cloud, the real controller and a real processmonitor, each in a process of its own; where libvirt and QEMU are
installed, real guests and the real instancemonitor besides. A host dies, then a guest, then a process; what becomes of it is
shown while it happens. Nothing needs root, nothing is installed, nothing stays behind.
"""
