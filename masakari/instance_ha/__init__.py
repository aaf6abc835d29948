"""The v1 API of OpenStack's instance-ha service, on the port of the callbacks and on the same tables."""
