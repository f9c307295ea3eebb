"""What the queues ask of the fleet at this moment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, bindparam, func, or_, select

from ...config.fleet import FleetConfig
from ...tracking.server.database import Prepared
from ...tracking.server.database.schema import tasks
from ..planning.model import TaskDemand
from .needs import market_wanted, read_need
from .states import QUEUED

DEMAND_MAX: Final = 200_000
"""Queued tasks the planner looks at; those behind them wait until it has placed some."""

_WAITING: Final = Prepared(
    select(
        tasks.c.id,
        tasks.c.queue,
        tasks.c.need,
        tasks.c.priority,
        tasks.c.queued_at,
        tasks.c.attempt,
    )
    .where(
        tasks.c.state == QUEUED,
        tasks.c.queue.is_not(None),
        or_(tasks.c.not_before.is_(None), tasks.c.not_before <= bindparam("b_now")),
    )
    .order_by(tasks.c.priority.desc(), tasks.c.placed_at, tasks.c.id)
    .limit(DEMAND_MAX)
)
_CAME_DUE: Final = Prepared(
    select(tasks.c.queue, func.count().label("number"))
    .where(
        tasks.c.state == QUEUED,
        tasks.c.queue.is_not(None),
        tasks.c.not_before > bindparam("b_since"),
        tasks.c.not_before <= bindparam("b_now"),
    )
    .group_by(tasks.c.queue)
    .order_by(tasks.c.queue)
)


def demand(conn: Connection, fleet: FleetConfig, now: float) -> tuple[TaskDemand, ...]:
    """Queued tasks that could start now, in the order they would be claimed.

    One whose queue is no longer in fleet.yaml has no pools: the planner can say so, and nothing is bought for it.
    """
    found = []
    for row in _WAITING.all(conn, {"b_now": now}):
        queue = fleet.queues.get(row.queue)
        need = read_need(row.need)
        found.append(
            TaskDemand(
                task_id=row.id,
                queue=row.queue,
                pools=queue.pools if queue else (),
                shape=need.shape,
                priority=row.priority,
                queued_at=row.queued_at or 0.0,
                market=market_wanted(need, queue.market if queue else None),
                attempt=row.attempt,
            )
        )
    return tuple(found)


def came_due(conn: Connection, *, since: float, now: float) -> Mapping[str, int]:
    """By queue, how many tasks' back-off ended in (since, now]: so many waiting agents are worth waking."""
    return {row.queue: row.number for row in _CAME_DUE.all(conn, {"b_since": since, "b_now": now})}
