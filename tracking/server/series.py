"""Metrics of a task as they are stored: keys interned per task, points appended, a summary kept per key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select, update

from . import cursors
from .database.schema import metrics, points
from .intake import Point

METRICS_PER_TASK_MAX = 100_000
"""Points of further keys are left out and counted: a key made from a loop counter must not fill the disk."""
KEYS_PER_QUERY = 500
PAGE_MAX = 10_000

Name = tuple[str, str]
"""(key, context)"""


@dataclass(slots=True)
class _Metric:
    """A row of `metrics` while a batch is added to it."""

    id: int
    count: int
    last: float | None
    last_text: str | None
    last_step: int | None
    last_attempt: int
    min: float | None
    max: float | None

    def add(self, point: Point, step: int, attempt: int) -> None:
        self.count += 1
        if self.last_step is None or (attempt, step) >= (self.last_attempt, self.last_step):
            self.last, self.last_text = point.value, point.text
            self.last_step, self.last_attempt = step, attempt
        value = point.value
        if value is not None:
            self.min = value if self.min is None or value < self.min else self.min
            self.max = value if self.max is None or value > self.max else self.max


_SUMMARY = (
    metrics.c.id,
    metrics.c.count,
    metrics.c.last,
    metrics.c.last_text,
    metrics.c.last_step,
    metrics.c.last_attempt,
    metrics.c.min,
    metrics.c.max,
)
_INSERT_POINTS = insert(points)
_UPDATE_METRIC = (
    update(metrics)
    .where(metrics.c.id == bindparam("metric_id"))
    .values(
        count=bindparam("new_count"),
        last=bindparam("new_last"),
        last_text=bindparam("new_last_text"),
        last_step=bindparam("new_last_step"),
        last_attempt=bindparam("new_last_attempt"),
        min=bindparam("new_min"),
        max=bindparam("new_max"),
        updated_at=bindparam("now"),
    )
)


def add(
    conn: Connection,
    workspace: str,
    task_id: int,
    *,
    attempt: int,
    rank: int,
    batch: Sequence[Point],
    now: float,
) -> int:
    """Append points. Returns how many were left out because the task has too many metrics already."""
    known = _intern(conn, workspace, task_id, dict.fromkeys((p.key, p.context) for p in batch), now)
    rows: list[dict[str, Any]] = []
    for point in batch:
        metric = known.get((point.key, point.context))
        if metric is None:
            continue
        step = point.step
        if step is None:
            step = 0 if metric.last_step is None else metric.last_step + 1
        metric.add(point, step, attempt)
        rows.append(
            {
                "metric_id": metric.id,
                "attempt": attempt,
                "rank": rank,
                "step": step,
                "time": point.time,
                "value": point.value,
                "value_text": point.text,
            }
        )
    if rows:
        conn.execute(_INSERT_POINTS, rows)
        conn.execute(_UPDATE_METRIC, [_changed(metric, now) for metric in known.values()])
    return len(batch) - len(rows)


def page(
    conn: Connection,
    workspace: str,
    task_id: int,
    *,
    cursor: str | None = None,
    limit: int = 1000,
    key_contains: str | None = None,
) -> tuple[list[dict[str, Any]], str | None]:
    """Metrics of a task in the order they first came, each with count, last, min and max; and the next cursor.

    `count`, `min` and `max` are over everything kept, shadowed points too; non-finite values count, but are
    neither least nor greatest.
    """
    limit = max(1, min(limit, PAGE_MAX))
    query = select(metrics.c.key, metrics.c.context, metrics.c.updated_at, *_SUMMARY).where(
        metrics.c.workspace == workspace, metrics.c.task_id == task_id
    )
    if key_contains:
        query = query.where(metrics.c.key.contains(key_contains, autoescape=True))
    above = cursors.integer(cursor, "id")
    if above is not None:
        query = query.where(metrics.c.id > above)
    rows = conn.execute(query.order_by(metrics.c.id).limit(limit + 1)).mappings().all()
    more = cursors.encode({"id": rows[limit - 1]["id"]}) if len(rows) > limit else None
    return [_shown(row) for row in rows[:limit]], more


def _intern(
    conn: Connection, workspace: str, task_id: int, names: Iterable[Name], now: float
) -> dict[Name, _Metric]:
    """The metrics of these names, made where they are new, as far as the task's limit allows."""
    wanted = list(names)
    known = _find(conn, task_id, wanted)
    new = [name for name in wanted if name not in known]
    if new:
        there = conn.execute(select(func.count()).where(metrics.c.task_id == task_id)).scalar_one()
        new = new[: max(0, METRICS_PER_TASK_MAX - there)]
    if new:
        fixed = {"workspace": workspace, "task_id": task_id, "count": 0, "last_attempt": 0, "updated_at": now}
        conn.execute(insert(metrics), [{**fixed, "key": key, "context": context} for key, context in new])
        known.update(_find(conn, task_id, new))
    return known


def _find(conn: Connection, task_id: int, names: Sequence[Name]) -> dict[Name, _Metric]:
    wanted = set(names)
    keys = list(dict.fromkeys(key for key, _ in names))
    found: dict[Name, _Metric] = {}
    for start in range(0, len(keys), KEYS_PER_QUERY):
        query = select(metrics.c.key, metrics.c.context, *_SUMMARY).where(
            metrics.c.task_id == task_id, metrics.c.key.in_(keys[start : start + KEYS_PER_QUERY])
        )
        for key, context, *summary in conn.execute(query):
            if (key, context) in wanted:
                found[key, context] = _Metric(*summary)
    return found


def _changed(metric: _Metric, now: float) -> dict[str, Any]:
    return {
        "metric_id": metric.id,
        "new_count": metric.count,
        "new_last": metric.last,
        "new_last_text": metric.last_text,
        "new_last_step": metric.last_step,
        "new_last_attempt": metric.last_attempt,
        "new_min": metric.min,
        "new_max": metric.max,
        "now": now,
    }


def _shown(row: Any) -> dict[str, Any]:
    return {
        "key": row["key"],
        "context": row["context"],
        "count": row["count"],
        "last": row["last"] if row["last_text"] is None else row["last_text"],
        "last_step": row["last_step"],
        "last_attempt": row["last_attempt"],
        "min": row["min"],
        "max": row["max"],
        "updated_at": row["updated_at"],
    }
