"""Watches the control processes of its own compute node (nova-compute, libvirtd and what else is listed),
starts again those that died, and reports one that stays down."""
