"""How fast the controller and the monitors are: each figure against its limit, and against what it depends on in the same run.

`python3 -m tests.bench`, or `make bench`; docs/performance.md says how each figure is taken.
"""
