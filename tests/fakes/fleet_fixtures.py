"""Fixtures of the tests that play through a fleet by hand: import them in a conftest."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from fakes.cloud import Clock, FakeCloud, default_cloud
from fakes.fleet_world import FleetWorld, MakeWorld, make_fleet
from hostler.config.fleet import FleetConfig


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_world(clock: Clock, new_state: Callable[[], str]) -> Iterator[MakeWorld]:
    """`make_world(fleet, cloud, ...)`: without clouds there is one, `sky`, that sells one-CPU machines at $1/h."""
    made: list[FleetWorld] = []

    def make(fleet: FleetConfig | None = None, *clouds: FakeCloud) -> FleetWorld:
        given = clouds or (default_cloud(clock),)
        world = FleetWorld(new_state(), fleet or make_fleet(), *given, clock=clock)
        made.append(world)
        return world

    yield make
    for world in made:
        world.db.close()


@pytest.fixture
def world(make_world: MakeWorld) -> FleetWorld:
    return make_world()


__all__ = ["clock", "make_world", "world"]
