"""Rows of the control plane: functions on a connection, no clock, no network, no thread."""
