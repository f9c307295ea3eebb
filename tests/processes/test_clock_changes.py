"""A year of cron in five zones, slots inside the lost and the doubled hour among them: each fires exactly once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hostler.config.fleet import FleetConfig
from hostler.fleet.loop import warm
from hostler.tracking.server.database import Database

YEAR = 2027
DAILY = ("30 1 * * *", "15 2 * * *", "30 2 * * *", "0 3 * * *", "30 4 * * *")
"""Before, inside and after the hour that is lost in spring and doubled in autumn."""
DAILY_UNTIL = "0 12 * * *"
HOURLY, HOURLY_UNTIL = "0 * * * *", "40 * * * *"
ZONES = ("America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "America/Santiago", "Asia/Kolkata")
"""Lord Howe changes by half an hour, Santiago at midnight, Kolkata never."""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    one = Database.open(f"sqlite:///{tmp_path / 'state.db'}", lambda: 0.0)
    yield one
    one.close()


def fleet_of(zone: str, *windows: tuple[str, str]) -> FleetConfig:
    warm_windows = [{"cron": cron, "until": until, "tz": zone, "min": 1} for cron, until in windows]
    pool = {"providers": ["sky"], "warm": warm_windows}
    fleet: dict[str, Any] = {"version": 1, "providers": {"sky": {"type": "local"}}, "pools": {"main": pool}}
    return FleetConfig.model_validate(fleet | {"queues": {"default": {"pools": ["main"]}}})


def changes(zone: str) -> list[datetime]:
    """Midnight before each change of the year's clock; one ordinary day where there is none."""
    tz = ZoneInfo(zone)
    days = [datetime(YEAR, 1, 1, tzinfo=tz) + timedelta(days=number) for number in range(365)]
    found = [day for day in days if day.utcoffset() != (day + timedelta(days=1)).utcoffset()]
    return found or [datetime(YEAR, 6, 1, tzinfo=tz)]


def fire(database: Database, zone: str, fleet: FleetConfig, now: float) -> list[warm.Slot]:
    return database.write(lambda conn: warm.fire_due(conn, zone, fleet, now))


def fired_between(
    database: Database, zone: str, fleet: FleetConfig, begin: datetime, end: datetime, step: timedelta
) -> list[warm.Slot]:
    """Every slot that fired while the fleet looked once each `step` of real time."""
    times = range(round(begin.timestamp()), round(end.timestamp()), round(step.total_seconds()))
    return [slot for now in times for slot in fire(database, zone, fleet, float(now))]


@pytest.mark.slow
@pytest.mark.parametrize("zone", ZONES)
def test_a_daily_slot_fires_once_a_day_whatever_the_clock_does(database: Database, zone: str) -> None:
    fleet = fleet_of(zone, *((cron, DAILY_UNTIL) for cron in DAILY))
    tz = ZoneInfo(zone)
    for change in changes(zone):
        begin, end = change - timedelta(days=1), change + timedelta(days=2)
        slots = fired_between(database, zone, fleet, begin, end, timedelta(minutes=45))
        days = Counter((slot.window, datetime.fromtimestamp(slot.start, tz).date()) for slot in slots)
        wanted = {
            (window, (begin + timedelta(days=number)).date()): 1
            for window in range(len(DAILY))
            for number in range(3)
        }
        assert days == wanted


@pytest.mark.slow
@pytest.mark.parametrize("zone", ZONES)
def test_an_hourly_slot_fires_once_for_every_hour_that_the_clock_shows(database: Database, zone: str) -> None:
    fleet = fleet_of(zone, (HOURLY, HOURLY_UNTIL))
    tz = ZoneInfo(zone)
    for change in changes(zone):
        begin, end = change - timedelta(hours=3), change + timedelta(hours=8)
        slots = fired_between(database, zone, fleet, begin, end, timedelta(minutes=10))
        starts = [slot.start for slot in slots]
        assert len(starts) == len(set(starts))
        shown = {
            datetime.fromtimestamp(now, tz) for now in range(int(begin.timestamp()), int(end.timestamp()), 60)
        }
        hours = {moment.replace(tzinfo=None) for moment in shown if moment.minute == 0}
        told = [datetime.fromtimestamp(start, tz).replace(tzinfo=None) for start in starts]
        assert set(told) >= hours
        assert all(moment.minute in (0, 30) for moment in told)
