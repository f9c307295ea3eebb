"""Cron times mean what cron means, in their zone, also where APScheduler would mean something else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hostler.config.cron import cron_trigger, last_cron_time, parse_cron
from hostler.config.pools import WarmWindow
from hypothesis import given
from hypothesis import strategies as st

BERLIN = ZoneInfo("Europe/Berlin")


def moment(text: str, zone: str = "UTC") -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


def next_fire(cron: str, after: datetime, zone: str = "UTC") -> datetime | None:
    fire: datetime | None = cron_trigger(cron, zone).get_next_fire_time(None, after)
    return fire


@pytest.mark.parametrize("days", ["1-5", "mon-fri", "MON-FRI", "1,2,3,4,5"])
def test_weekdays_are_counted_from_sunday(days: str) -> None:
    saturday = moment("2026-01-03T00:00")
    assert next_fire(f"0 9 * * {days}", saturday) == moment("2026-01-05T09:00")


@pytest.mark.parametrize("sunday", ["0", "7", "sun"])
def test_sunday_is_both_0_and_7(sunday: str) -> None:
    assert next_fire(f"0 9 * * {sunday}", moment("2026-01-01T00:00")) == moment("2026-01-04T09:00")


def test_a_week_may_be_written_across_its_end() -> None:
    assert parse_cron("0 0 * * fri-mon").weekdays == {5, 6, 0, 1}


def test_of_two_restricted_day_fields_either_will_do() -> None:
    first = next_fire("0 0 13 * fri", moment("2026-01-01T00:00"))
    assert first == moment("2026-01-02T00:00")
    assert next_fire("0 0 13 * fri", moment("2026-01-10T00:00")) == moment("2026-01-13T00:00")


def test_a_stepped_star_still_counts() -> None:
    assert parse_cron("*/20 */12 */10 * *").minutes == {0, 20, 40}
    assert next_fire("0 0 */10 * *", moment("2026-01-02T00:00")) == moment("2026-01-11T00:00")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("0 9 * *", "has 4 fields, cron needs 5"),
        ("60 9 * * *", "'60' is not a minute"),
        ("0 24 * * *", "'24' is not a hour"),
        ("0 9 0 * *", "'0' is not a day of the month"),
        ("0 9 * foo *", "'foo' is not a month"),
        ("0 9 * * mon-fry", "'fry' is not a day of the week"),
        ("0 9 20-10 * *", "runs backwards"),
        ("*/0 9 * * *", "steps by 0"),
        ("0 9 31 2 *", "never happens"),
        ("0 9 * * 1#2", "is not a day of the week"),
        ("", "has 0 fields"),
        ("0 " * 500, "more than 200 characters"),
    ],
)
def test_a_bad_cron_time_names_its_field(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_cron(text)


crons = st.builds(
    lambda minute, hour, day, weekday: f"{minute} {hour} {day} * {weekday}",
    st.sampled_from(["*", "*/15", "0", "5,50", "10-20/5"]),
    st.sampled_from(["*", "9", "9-17", "0,23", "*/6"]),
    st.sampled_from(["*", "1", "13", "28-31", "*/7"]),
    st.sampled_from(["*", "mon-fri", "0", "6", "fri-mon", "tue,thu"]),
)


@given(crons, st.integers(0, 3 * 366 * 24 * 60), st.integers(0, 59))
def test_the_last_time_is_one_that_the_scheduler_fires_and_none_lies_between(
    cron: str, minutes: int, second: int
) -> None:
    now = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes, seconds=second)
    last = last_cron_time(cron, "UTC", now)
    assert last is not None
    assert last <= now
    assert next_fire(cron, last - timedelta(seconds=1)) == last
    following = next_fire(cron, last + timedelta(seconds=1))
    assert following is not None
    assert following > now


def test_a_wall_time_that_comes_twice_counts_the_first_time() -> None:
    after_change = datetime(2026, 10, 25, 3, 0, tzinfo=BERLIN)
    last = last_cron_time("30 2 * * *", "Europe/Berlin", after_change)
    assert last == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


def test_a_wall_time_that_is_skipped_counts_after_the_gap() -> None:
    after_change = datetime(2026, 3, 29, 12, 0, tzinfo=BERLIN)
    last = last_cron_time("30 2 * * *", "Europe/Berlin", after_change)
    assert last == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)


CLOCK_CHANGES = [
    ("America/New_York", "2027-03-14"),
    ("America/New_York", "2027-11-07"),
    ("Europe/Berlin", "2027-10-31"),
    ("Australia/Lord_Howe", "2027-04-04"),
    ("Australia/Lord_Howe", "2027-10-03"),
    ("America/Santiago", "2027-09-05"),
]


@pytest.mark.parametrize(("zone", "day"), CLOCK_CHANGES)
@pytest.mark.parametrize("cron", ["*/15 * * * *", "30 1 * * *", "30 2 * * *", "0 0 * * *"])
def test_a_trigger_that_is_asked_again_and_again_goes_on_through_a_clock_change(
    zone: str, day: str, cron: str
) -> None:
    """As the scheduler asks: with the last time it was given, at a moment that may be just that time."""
    trigger = cron_trigger(cron, zone)
    at = trigger.get_next_fire_time(None, moment(f"{day}T00:00", zone) - timedelta(hours=6))
    for _ in range(60):
        following = trigger.get_next_fire_time(at, at)
        assert following > at
        at = following


@pytest.mark.parametrize(("zone", "day"), CLOCK_CHANGES)
def test_each_wall_time_of_a_day_fires_once_through_a_clock_change(zone: str, day: str) -> None:
    begin = moment(f"{day}T00:00", zone).astimezone(UTC) - timedelta(days=1)
    trigger = cron_trigger("30 1 * * *", zone)
    fired = []
    at = trigger.get_next_fire_time(None, begin)
    while at < begin + timedelta(days=3):
        fired.append(at)
        at = trigger.get_next_fire_time(at, at)
    assert len({one.astimezone(ZoneInfo(zone)).date() for one in fired}) == len(fired) == 3


def window(cron: str, until: str, tz: str = "UTC") -> WarmWindow:
    return WarmWindow.model_validate({"cron": cron, "until": until, "tz": tz, "min": 2})


@pytest.mark.parametrize(
    ("local", "is_open"),
    [
        ("2026-01-05T08:59:59", False),
        ("2026-01-05T09:00", True),
        ("2026-01-05T17:59:59", True),
        ("2026-01-05T18:00", False),
        ("2026-01-10T12:00", False),
    ],
)
def test_a_window_is_open_from_its_start_to_its_end_in_its_own_zone(local: str, is_open: bool) -> None:
    office_hours = window("0 9 * * mon-fri", "0 18 * * mon-fri", "America/New_York")
    assert office_hours.is_open(moment(local, "America/New_York")) is is_open


def test_a_window_that_starts_daily_and_ends_weekly_stays_open_between() -> None:
    week = window("0 9 * * mon-fri", "0 18 * * fri")
    assert week.is_open(moment("2026-01-06T03:00"))
    assert not week.is_open(moment("2026-01-09T18:00"))


def test_a_window_over_midnight_is_open_at_night() -> None:
    night = window("0 22 * * *", "0 6 * * *")
    assert night.is_open(moment("2026-01-06T02:00"))
    assert not night.is_open(moment("2026-01-06T12:00"))
