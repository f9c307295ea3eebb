"""Instances that are process trees on this machine, started by the same user-data a virtual machine gets."""
