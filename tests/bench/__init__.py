"""How fast the controller is, each figure against its limit and against what it depends on, measured in the same run.

`python3 -m tests.bench`, or `make bench`; docs/performance.md says how each figure is taken.
"""
