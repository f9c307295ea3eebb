"""Compute Engine by google-cloud-compute: spot and on-demand instances, idempotent by name, known by their labels."""
