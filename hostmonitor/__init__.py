"""Watches the other compute nodes of its corosync cluster through pacemaker, and reports a node that
died together with the evidence that it is powered off. Not written yet: the package is empty."""
