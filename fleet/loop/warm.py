"""Warm windows: which are open now, and one firing for each start, whatever clocks and restarts do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from ...config.cron import last_cron_time
from ...config.fleet import FleetConfig
from ...config.pools import WarmWindow
from ...tracking.server import events
from ..store.instances import ACTOR
from ..store.schema import cron_slots


@dataclass(frozen=True)
class Slot:
    """An open window: the start that opened it, its end, and how many instances it asks for."""

    pool: str
    window: int
    start: float
    until: float
    min: int


def open_slots(fleet: FleetConfig, now: float) -> list[Slot]:
    """The windows that are open at `now` (epoch seconds)."""
    moment = datetime.fromtimestamp(now, UTC)
    return [slot for name, index, window in _windows(fleet) if (slot := _slot(name, index, window, moment))]


def fire_due(conn: Connection, workspace: str, fleet: FleetConfig, now: float) -> list[Slot]:
    """Bring `cron_slots` up to date. Returns the slots that fired now, each for the only time."""
    rows = {
        (row["pool"], row["window"]): row
        for row in conn.execute(select(cron_slots).where(cron_slots.c.workspace == workspace)).mappings()
    }
    slots = open_slots(fleet, now)
    fired = []
    for slot in slots:
        row = rows.pop((slot.pool, slot.window), None)
        if row is None or slot.start > row["fired_slot"]:
            fired.append(slot)
            _tell(conn, workspace, slot, now)
        if row is None or (row["fired_slot"], row["until"], row["min"]) != (slot.start, slot.until, slot.min):
            _store(conn, workspace, slot, is_new=row is None)
    for (pool, window), row in rows.items():
        _close(conn, workspace, fleet, pool, window, row, now)
    return fired


def _windows(fleet: FleetConfig) -> Iterator[tuple[str, int, WarmWindow]]:
    for name, pool in fleet.pools.items():
        for index, window in enumerate(pool.warm):
            yield name, index, window


def _slot(name: str, index: int, window: WarmWindow, moment: datetime) -> Slot | None:
    # Not by asking the trigger again and again: in the hour that is doubled in autumn it gives one time for ever.
    start = last_cron_time(window.cron, window.tz, moment)
    if start is None:
        return None
    # The end that belongs to this start; one in the past means that the window is closed until the next start.
    end = window.closes().get_next_fire_time(None, start + timedelta(microseconds=1))
    if end is None or end <= moment:
        return None
    return Slot(name, index, start.timestamp(), end.timestamp(), window.min)


def _store(conn: Connection, workspace: str, slot: Slot, *, is_new: bool) -> None:
    values: dict[str, Any] = {"fired_slot": slot.start, "until": slot.until, "min": slot.min}
    if is_new:
        key = {"workspace": workspace, "pool": slot.pool, "window": slot.window}
        conn.execute(insert(cron_slots).values(**key, **values))
        return
    conn.execute(update(cron_slots).where(*_is(workspace, slot.pool, slot.window)).values(**values))


def _close(
    conn: Connection, workspace: str, fleet: FleetConfig, pool: str, window: int, row: Any, now: float
) -> None:
    """A row whose window is not open: kept while its window exists, so that no slot fires twice."""
    configured = pool in fleet.pools and window < len(fleet.pools[pool].warm)
    if not configured:
        conn.execute(delete(cron_slots).where(*_is(workspace, pool, window)))
    elif row["until"] > now:
        conn.execute(update(cron_slots).where(*_is(workspace, pool, window)).values(until=now))


def _is(workspace: str, pool: str, window: int) -> tuple[Any, ...]:
    return (
        cron_slots.c.workspace == workspace,
        cron_slots.c.pool == pool,
        cron_slots.c.window == window,
    )


def _tell(conn: Connection, workspace: str, slot: Slot, now: float) -> None:
    until = datetime.fromtimestamp(slot.until, UTC).isoformat(timespec="minutes")
    events.emit(
        conn,
        workspace=workspace,
        kind="pool.warm",
        now=now,
        actor=ACTOR,
        message=f"pool {slot.pool} keeps at least {slot.min} instances until {until}",
        data={"pool": slot.pool, "window": slot.window, "start": slot.start, "until": slot.until},
    )
