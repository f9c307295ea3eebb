"""Points of one metric as a chart wants them: newer attempts shadow older ones, long series come in buckets.

Everything is computed in the database; what comes back is never more than `max_points` rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, false, func, or_, select

from .database.schema import metrics, points

POINTS_MAX = 10_000
POINTS_DEFAULT = 1000


@dataclass(frozen=True, slots=True)
class Range:
    """Which points; None = all. Naming an attempt shows it whole, shadowed or not."""

    step_min: int | None = None
    step_max: int | None = None
    rank: int | None = None
    attempt: int | None = None


def read(
    conn: Connection,
    workspace: str,
    task_id: int,
    key: str,
    context: str = "",
    *,
    within: Range = Range(),
    max_points: int = POINTS_DEFAULT,
) -> dict[str, Any] | None:
    """`{key, context, count, sampled, points}`; None where the task has no such metric.

    A point is `{step, time, value, attempt, rank}`, `value` a number or "nan", "inf", "-inf". Where there are more than
    `max_points` each one stands for a range of steps: `{step, last_step, time, value, min, max, count, nonfinite}` with
    `value` the mean of its finite values (None where it has none).
    """
    max_points = max(1, min(max_points, POINTS_MAX))
    query = select(metrics.c.id).where(
        metrics.c.workspace == workspace,
        metrics.c.task_id == task_id,
        metrics.c.key == key,
        metrics.c.context == context,
    )
    metric_id = conn.execute(query).scalar()
    if metric_id is None:
        return None
    visible = and_(points.c.metric_id == metric_id, *_within(within), _unshadowed(conn, metric_id, within))
    bounds = select(func.count(), func.min(points.c.step), func.max(points.c.step)).where(visible)
    count, first, last = conn.execute(bounds).one()
    sampled = count > max_points
    shown = _buckets(conn, visible, first, last, max_points) if sampled else _all(conn, visible, max_points)
    return {"key": key, "context": context, "count": count, "sampled": sampled, "points": shown}


def _within(within: Range) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if within.step_min is not None:
        conditions.append(points.c.step >= within.step_min)
    if within.step_max is not None:
        conditions.append(points.c.step <= within.step_max)
    if within.rank is not None:
        conditions.append(points.c.rank == within.rank)
    if within.attempt is not None:
        conditions.append(points.c.attempt == within.attempt)
    return conditions


def _unshadowed(conn: Connection, metric_id: int, within: Range) -> ColumnElement[bool]:
    """Points that no newer attempt has begun before: each attempt shows up to the first step of all later ones."""
    if within.attempt is not None:
        return points.c.attempt == within.attempt
    query = (
        select(points.c.attempt, func.min(points.c.step))
        .where(points.c.metric_id == metric_id)
        .group_by(points.c.attempt)
        .order_by(points.c.attempt.desc())
    )
    shown: list[ColumnElement[bool]] = []
    end: int | None = None
    for attempt, first in conn.execute(query):
        if end is None:
            shown.append(points.c.attempt == attempt)
            end = first
        elif first < end:
            shown.append(and_(points.c.attempt == attempt, points.c.step < end))
            end = first
    return or_(false(), *shown)


def _all(conn: Connection, visible: ColumnElement[bool], limit: int) -> list[dict[str, Any]]:
    value = points.c
    query = (
        select(value.step, value.time, value.value, value.value_text, value.attempt, value.rank)
        .where(visible)
        .order_by(value.step, value.id)
        .limit(limit)
    )
    return [
        {
            "step": row.step,
            "time": row.time,
            "value": row.value if row.value_text is None else row.value_text,
            "attempt": row.attempt,
            "rank": row.rank,
        }
        for row in conn.execute(query)
    ]


def _buckets(
    conn: Connection, visible: ColumnElement[bool], first: int, last: int, number: int
) -> list[dict[str, Any]]:
    width = (last - first) // number + 1
    bucket = ((points.c.step - first) // width).label("bucket")
    query = (
        select(
            func.min(points.c.step).label("step"),
            func.max(points.c.step).label("last_step"),
            func.min(points.c.time).label("time"),
            func.avg(points.c.value).label("value"),
            func.min(points.c.value).label("min"),
            func.max(points.c.value).label("max"),
            func.count().label("count"),
            func.sum(case((points.c.value_text.is_not(None), 1), else_=0)).label("nonfinite"),
        )
        .where(visible)
        .group_by(bucket)
        .order_by(bucket)
    )
    return [dict(row) for row in conn.execute(query).mappings()]
