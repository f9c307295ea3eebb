"""What happened, in order: written in the transaction of the change it tells of, read by people and by SSE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, delete, func, insert, select

from .database.horizon import complete_up_to
from .database.prepared import Prepared
from .database.schema import events
from .database.writer import EVENTS_WRITTEN

PAGE_MAX = 1000
MESSAGE_CHARACTERS_MAX = 4_096
"""What is kept of a message: much of it is words of clouds, agents and people."""
PRUNED_AT_ONCE_MAX = 5000
"""Rows a call of `prune` deletes at most, so that it never holds the writer for long."""

_ADD = Prepared(
    insert(events)
    .values({column.name: bindparam(f"b_{column.name}") for column in events.c if column.name != "id"})
    .returning(events.c.id)
)
"""Every claim and every end writes one: this is on the hot path."""


def emit(
    conn: Connection,
    *,
    workspace: str,
    kind: str,
    now: float,
    actor: str,
    message: str,
    task_id: int | None = None,
    instance_id: str | None = None,
    data: dict[str, Any] | None = None,
) -> int:
    """Add an event and have the listeners told after the commit. Returns its id: ids only grow."""
    row = _ADD.first(
        conn,
        {
            "b_workspace": workspace,
            "b_at": now,
            "b_kind": kind,
            "b_actor": actor,
            "b_task_id": task_id,
            "b_instance_id": instance_id,
            "b_message": message[:MESSAGE_CHARACTERS_MAX],
            "b_data": data or {},
        },
    )
    conn.info[EVENTS_WRITTEN] = True
    return int(row.id)


def after(
    conn: Connection,
    workspace: str,
    last_id: int,
    limit: int,
    kinds: Sequence[str] | None = None,
    *,
    task_id: int | None = None,
    instance_id: str | None = None,
) -> list[dict[str, Any]]:
    """Events with an id above `last_id`, oldest first. A kind that ends in `.` stands for all that begin so.

    Whoever goes on from the newest of them misses none: those that a slower transaction may still precede wait.
    """
    query = select(events).where(events.c.workspace == workspace, events.c.id > last_id)
    horizon = complete_up_to(conn)
    if horizon is not None:
        query = query.where(events.c.id <= horizon)
    query = _filtered(query, kinds, task_id, instance_id)
    rows = conn.execute(query.order_by(events.c.id).limit(min(limit, PAGE_MAX)))
    return [dict(row) for row in rows.mappings()]


def before(
    conn: Connection,
    workspace: str,
    first_id: int | None,
    limit: int,
    kinds: Sequence[str] | None = None,
    *,
    task_id: int | None = None,
    instance_id: str | None = None,
) -> list[dict[str, Any]]:
    """Events with an id below `first_id` (None: from the end), newest first."""
    query = select(events).where(events.c.workspace == workspace)
    if first_id is not None:
        query = query.where(events.c.id < first_id)
    query = _filtered(query, kinds, task_id, instance_id)
    rows = conn.execute(query.order_by(events.c.id.desc()).limit(min(limit, PAGE_MAX)))
    return [dict(row) for row in rows.mappings()]


def last_id(conn: Connection, workspace: str) -> int:
    """Id of the newest event from which `after` may go on; 0 where there is none."""
    query = select(func.max(events.c.id)).where(events.c.workspace == workspace)
    horizon = complete_up_to(conn)
    if horizon is not None:
        query = query.where(events.c.id <= horizon)
    return int(conn.execute(query).scalar() or 0)


def prune(conn: Connection, before_time: float) -> int:
    """Delete old events, a bounded number a call; the newest one always stays, so that ids never start again."""
    newest = select(func.max(events.c.id)).scalar_subquery()
    old = (
        select(events.c.id)
        .where(events.c.at < before_time, events.c.id < newest)
        .order_by(events.c.id)
        .limit(PRUNED_AT_ONCE_MAX)
    )
    return conn.execute(delete(events).where(events.c.id.in_(old))).rowcount


def _filtered(query: Any, kinds: Sequence[str] | None, task_id: int | None, instance_id: str | None) -> Any:
    if kinds:
        exact = [kind for kind in kinds if not kind.endswith(".")]
        match: ColumnElement[bool] = events.c.kind.in_(exact)
        for prefix in kinds:
            if prefix.endswith("."):
                match = match | events.c.kind.startswith(prefix, autoescape=True)
        query = query.where(match)
    if task_id is not None:
        query = query.where(events.c.task_id == task_id)
    if instance_id is not None:
        query = query.where(events.c.instance_id == instance_id)
    return query
