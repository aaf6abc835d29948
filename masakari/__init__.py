"""Masakari: virtual machine high availability for OpenStack."""

__version__ = "1.0.0"
