from __future__ import annotations

from fakes.fleet_fixtures import clock, make_world, world

__all__ = ["clock", "make_world", "world"]
