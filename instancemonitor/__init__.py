"""Watches the instances of its own compute node through libvirt's events, and reports a guest whose QEMU
process died or that crashed."""
