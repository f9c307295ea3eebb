"""Kubernetes: agents as pods, known by their labels, idempotent by their names."""
