"""Capacity: offers, instances, the Provider port and one adapter a cloud."""
