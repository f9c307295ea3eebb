"""The first queued task that fits a machine, in the order of its queues; found without reading what can't fit.

A task's need is one text, so a need that doesn't fit is ruled out for all tasks that share it, by the database.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, bindparam, or_, select

from ...config.fleet import FleetConfig
from ...config.queues import Queue
from ...tracking.server.database import Prepared
from ...tracking.server.database.schema import tasks
from ..planning.shapes import Room
from .needs import market_wanted, read_need
from .rows import AnyRow
from .states import QUEUED

HEAD_LENGTH: Final = 4
"""Tasks read at first from the front of a queue: mostly the first of them fits."""
LOOK_LENGTH: Final = 32
"""Tasks read at each further look, which leaves out what was found not to fit."""
ROUNDS_MAX: Final = 64
"""How often a claim looks further when nothing fits: each look rules out one more kind of need at least."""
TAKEN_MAX: Final = 256
"""Candidates one claim may find to be poison and bury before it gives up for this time."""

_QUEUED = (
    select(
        tasks.c.id,
        tasks.c.generation,
        tasks.c.need,
        tasks.c.priority,
        tasks.c.placed_at,
        tasks.c.attempt,
        tasks.c.attempt_base,
    )
    .where(
        tasks.c.state == QUEUED,
        tasks.c.queue == bindparam("b_queue"),
        or_(tasks.c.not_before.is_(None), tasks.c.not_before <= bindparam("b_now")),
    )
    .order_by(tasks.c.priority.desc(), tasks.c.placed_at, tasks.c.id)
    # Not locked: a claim that held all it looked at would hide from the others what it doesn't take.
)
_HEAD = Prepared(_QUEUED.limit(HEAD_LENGTH))
_HEAD_BUT = _QUEUED.where(
    tasks.c.need.not_in(bindparam("b_unfit", expanding=True)),
    tasks.c.id.not_in(bindparam("b_passed", expanding=True)),
).limit(LOOK_LENGTH)


@dataclass(frozen=True, slots=True)
class Machine:
    """What candidates are judged by."""

    pool: str
    market: str
    room: Room


def queues_of(fleet: FleetConfig, pool: str) -> list[tuple[str, Queue]]:
    """The queues that instances of this pool serve."""
    return [(name, queue) for name, queue in fleet.queues.items() if pool in queue.pools]


def candidates(
    conn: Connection, queues: Sequence[tuple[str, Queue]], machine: Machine, now: float
) -> Iterator[AnyRow]:
    """Tasks that fit, best first: priority, then place, over all queues. None comes twice."""
    passed: list[int] = []
    for _ in range(TAKEN_MAX):
        heads = [
            row
            for name, queue in queues
            if (row := _head(conn, name, queue, machine, now, passed)) is not None
        ]
        if not heads:
            return
        best = min(heads, key=lambda row: (-row.priority, row.placed_at or 0.0, row.id))
        passed.append(best.id)
        yield best


def _head(
    conn: Connection, name: str, queue: Queue, machine: Machine, now: float, passed: Sequence[int]
) -> Any | None:
    """The first of this queue that fits and was not passed on already."""
    key: dict[str, Any] = {"b_queue": name, "b_now": now, "b_passed": passed}
    rows, asked = _HEAD.all(conn, key), HEAD_LENGTH
    unfit: list[str] = []
    for _ in range(ROUNDS_MAX):
        for row in rows:
            if row.need in unfit or row.id in passed:
                continue
            if fits(row.need, queue.market, machine):
                return row
            unfit.append(row.need)
        if len(rows) < asked:
            return None
        rows, asked = list(conn.execute(_HEAD_BUT, key | {"b_unfit": unfit})), LOOK_LENGTH
    return None


def fits(need_text: str, queue_market: str | None, machine: Machine) -> bool:
    need = read_need(need_text)
    wanted = market_wanted(need, queue_market)
    return (wanted is None or wanted.value == machine.market) and machine.room.fits(need.shape)
