"""Standard five-field cron times, with a time zone, as APScheduler triggers.

APScheduler's own cron trigger counts weekdays from Monday and wants both day fields to match; cron counts them from
Sunday and takes either. In the hour that a clock change doubles it answers the same time for ever, and its scheduler
never comes back from asking. So the times are worked out here: each time on the wall once, whatever the clock does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import product
from zoneinfo import ZoneInfo

from apscheduler.triggers.base import BaseTrigger

WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
MAX_CRON_CHARACTERS = 200
MAX_DAYS_AWAY = 9 * 366
"""Longer than the longest gap between two leap days."""
LONGEST_MONTH_DAYS = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}
_ITEM = re.compile(r"(\*|[a-z0-9]+)(?:-([a-z0-9]+))?(?:/(\d{1,2}))?")
_MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * sun",
    "@monthly": "0 0 1 * *",
}


@dataclass(frozen=True)
class _Field:
    name: str
    low: int
    high: int
    words: tuple[str, ...] = ()

    def number(self, text: str) -> int:
        if text in self.words:
            return self.words.index(text) + self.low
        if not text.isdigit() or not self.low <= int(text) <= self.high:
            names = f" or {self.words[0]}..{self.words[-1]}" if self.words else ""
            raise ValueError(f"'{text}' is not a {self.name} ({self.low}..{self.high}{names})")
        return int(text)


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, MONTHS),
    _Field("day of the week", 0, 7, WEEKDAYS),
)


@dataclass(frozen=True)
class CronTimes:
    """The numbers each field allows; weekdays are 0 (Sunday) to 6. `any_*` tells a star from all numbers."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    any_weekday: bool

    def on_day(self, day: date) -> bool:
        """Whether any time falls on `day`: of two restricted day fields either will do."""
        in_month, in_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        either = in_month or in_week if not (self.any_day or self.any_weekday) else in_month and in_week
        return day.month in self.months and either


@lru_cache(maxsize=1024)
def parse_cron(text: str) -> CronTimes:
    """Read ``minute hour day month weekday``. Raises ValueError that names the field at fault."""
    if len(text) > MAX_CRON_CHARACTERS:
        raise ValueError(f"a cron time of more than {MAX_CRON_CHARACTERS} characters")
    parts = _MACROS.get(text.strip().lower(), text).lower().split()
    if len(parts) != len(_FIELDS):
        raise ValueError(
            f"'{text}' has {len(parts)} fields, cron needs 5: minute hour day month weekday, "
            "as in 0 9 * * mon-fri"
        )
    minutes, hours, days, months, weekdays = (
        frozenset(number for item in part.split(",") for number in _numbers(field, item))
        for field, part in zip(_FIELDS, parts, strict=True)
    )
    times = CronTimes(
        minutes,
        hours,
        days,
        months,
        frozenset(day % 7 for day in weekdays),
        any_day=parts[2].startswith("*"),
        any_weekday=parts[4].startswith("*"),
    )
    if times.any_weekday and all(min(days) > LONGEST_MONTH_DAYS.get(month, 31) for month in months):
        raise ValueError(f"'{text}' never happens: no such day in that month")
    return times


def _numbers(field: _Field, item: str) -> range:
    match = _ITEM.fullmatch(item)
    if match is None:
        raise ValueError(f"'{item}' is not a {field.name}; write *, a number, 1-5, */15 or 1,3,5")
    first, last, step = match.groups()
    if step in {"0", "00"}:
        raise ValueError(f"'{item}' steps by 0 in the {field.name}")
    if first == "*":
        return range(
            field.low, min(field.high, 6 if field.words is WEEKDAYS else field.high) + 1, int(step or 1)
        )
    low = field.number(first)
    high = field.number(last) if last else (field.high if step else low)
    if high < low and field.words is WEEKDAYS:
        high += 7
    if high < low:
        raise ValueError(f"'{item}' runs backwards in the {field.name}")
    return range(low, high + 1, int(step or 1))


@lru_cache(maxsize=1024)
def cron_trigger(text: str, timezone: str) -> BaseTrigger:
    """An APScheduler trigger that fires at the standard-cron times of `text` in `timezone` (an IANA name).

    It keeps no state between questions, so that one serves all who ask: the loop does at each tick.
    """
    parse_cron(text)
    return WallTimes(text, timezone)


class WallTimes(BaseTrigger):  # type: ignore[misc]  # the library has no types
    """Fires at the cron times of `text` in `timezone`; its answers are in UTC, where no time comes twice."""

    def __init__(self, text: str, timezone: str) -> None:
        self.text = text
        self.timezone = timezone

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """The first time after `previous_fire_time`, else the first that is not before `now` (time zone aware)."""
        after = now - datetime.resolution if previous_fire_time is None else previous_fire_time
        return next_cron_time(self.text, self.timezone, after)


def next_cron_time(text: str, timezone: str, after: datetime) -> datetime | None:
    """The first time of `text` after `after` (time zone aware), in UTC; None if none in nine years.

    Skipped and doubled wall times count as in `last_cron_time`.
    """
    today = after.astimezone(ZoneInfo(timezone)).date()
    for days_ahead in range(MAX_DAYS_AWAY):
        day = today + timedelta(days=days_ahead)
        if parse_cron(text).on_day(day):
            found = next((moment for moment in _moments(text, timezone, day) if moment > after), None)
            if found is not None:
                return found
    return None


@lru_cache(maxsize=1024)
def _moments(text: str, timezone: str, day: date) -> tuple[datetime, ...]:
    """The times of one day, in UTC, in order."""
    times, zone = parse_cron(text), ZoneInfo(timezone)
    walls = (
        datetime(day.year, day.month, day.day, *at, tzinfo=zone) for at in product(times.hours, times.minutes)
    )
    return tuple(sorted({wall.astimezone(UTC) for wall in walls}))


def last_cron_time(text: str, timezone: str, now: datetime) -> datetime | None:
    """The newest time of `text` that is not after `now` (time zone aware); None if none in nine years.

    A wall time that a clock change skips counts as the moment just after the gap; one that comes twice
    counts once, the first time.
    """
    times, zone = parse_cron(text), ZoneInfo(timezone)
    today = now.astimezone(zone).date()
    for days_back in range(MAX_DAYS_AWAY):
        day = today - timedelta(days=days_back)
        if not times.on_day(day):
            continue
        for hour, minute in product(sorted(times.hours, reverse=True), sorted(times.minutes, reverse=True)):
            moment = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone).astimezone(UTC)
            if moment <= now:
                return moment
    return None
