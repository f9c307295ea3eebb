"""Warm windows: open when the clock on the wall says so, fired once a slot in every zone and on every odd day."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from fakes.cloud import Clock
from fakes.fleet_world import FleetWorld, MakeWorld, make_fleet
from hostler.config.fleet import FleetConfig
from hostler.fleet.loop import warm
from hostler.fleet.store import snapshot


def fleet_with(*windows: dict[str, Any]) -> FleetConfig:
    pool = {"providers": ["sky"], "market": "on_demand", "instances": "0..5", "warm": list(windows)}
    return make_fleet(pools={"main": pool})


def at(text: str, zone: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


OFFICE = {"cron": "0 9 * * mon-fri", "until": "0 18 * * mon-fri", "tz": "America/New_York", "min": 2}


@pytest.mark.parametrize(
    ("when", "wanted"),
    [
        ("2027-01-13T08:59:59", 0),
        ("2027-01-13T09:00:00", 2),
        ("2027-01-13T17:59:59", 2),
        ("2027-01-13T18:00:00", 0),
        ("2027-01-16T12:00:00", 0),
    ],
)
def test_a_window_asks_for_its_instances_between_its_times(
    make_world: MakeWorld, clock: Clock, when: str, wanted: int
) -> None:
    fleet = fleet_with(OFFICE)
    world = make_world(fleet)
    clock.now = at(when, "America/New_York")
    world.db.write(lambda conn: warm.fire_due(conn, "default", fleet, clock()))
    with world.db.read() as conn:
        assert snapshot.read(conn, fleet, clock()).pools["main"].warm_min == wanted


def test_instances_are_bought_at_the_start_and_let_go_after_the_end(
    make_world: MakeWorld, clock: Clock
) -> None:
    clock.now = at("2027-01-13T08:58:00", "America/New_York")
    world = make_world(fleet_with(OFFICE))
    world.run(60)
    assert world.billed == 0
    world.run(120)
    assert world.billed == 2
    clock.now = at("2027-01-13T17:55:00", "America/New_York")
    world.run(240, step=30)
    assert world.billed == 2
    world.run(1_200, step=30)
    assert world.billed == 0


@pytest.mark.parametrize(
    ("zone", "first_day"),
    [
        ("America/New_York", "2027-03-12"),
        ("Europe/Berlin", "2027-03-26"),
        ("Australia/Sydney", "2027-04-02"),
        ("America/New_York", "2027-11-05"),
        ("Asia/Kolkata", "2027-03-12"),
    ],
)
def test_each_slot_fires_exactly_once_over_a_clock_change(
    make_world: MakeWorld, clock: Clock, zone: str, first_day: str
) -> None:
    fleet = fleet_with({"cron": "30 4 * * *", "until": "0 6 * * *", "tz": zone, "min": 1})
    world = make_world(fleet)
    clock.now = at(f"{first_day}T00:00:00", zone)
    starts: list[float] = []
    for _ in range(4 * 24 * 2):
        fired = world.db.write(lambda conn: warm.fire_due(conn, "default", fleet, clock()))
        starts += [slot.start for slot in fired]
        clock.advance(1_800)
    local = [datetime.fromtimestamp(start, ZoneInfo(zone)) for start in starts]
    assert [(one.hour, one.minute) for one in local] == [(4, 30)] * 4
    assert len({one.date() for one in local}) == 4


def test_a_restart_inside_a_window_finds_it_open_and_does_not_fire_it_again(
    make_world: MakeWorld, clock: Clock
) -> None:
    clock.now = at("2027-01-13T10:00:00", "America/New_York")
    world = make_world(fleet_with(OFFICE))
    world.run(30)
    world.start()
    world.run(30)
    assert len(world.events("pool.warm")) == 1
    assert world.billed == 2


def test_a_window_that_leaves_the_configuration_asks_for_nothing(make_world: MakeWorld, clock: Clock) -> None:
    clock.now = at("2027-01-13T10:00:00", "America/New_York")
    world: FleetWorld = make_world(fleet_with(OFFICE))
    world.tick()
    world.fleet = fleet_with()
    world.tick()
    with world.db.read() as conn:
        assert snapshot.read(conn, world.fleet, clock()).pools["main"].warm_min == 0
