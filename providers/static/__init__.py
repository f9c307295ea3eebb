"""Machines that are there anyway, reached by SSH: one instance a host, released when it ends, never switched off."""
