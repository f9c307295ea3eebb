"""Tasks as they are recorded: made once by uid, looked up, listed in pages, with their attempts and parameters.

A task is at once what is queued and what is recorded; how its state moves is the queue's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, Text, cast, func, insert, select

from . import cursors
from .database.encoding import to_json
from .database.schema import attempts, params, tasks

PAGE_MAX = 500
NAME_CHARS_MAX = 256
PROJECT_CHARS_MAX = 128
TAGS_MAX = 100
TAG_CHARS_MAX = 128
PARAMS_SHOWN_MAX = 10_000

TERMINAL = frozenset({"completed", "failed", "stopped", "dead"})

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Filters:
    """What a page shows; None or empty = anything."""

    states: Sequence[str] = ()
    queue: str | None = None
    project: str | None = None
    tag: str | None = None
    name_contains: str | None = None
    instance_id: str | None = None
    parent_id: int | None = None


def create(
    conn: Connection,
    *,
    workspace: str,
    uid: str,
    project: str,
    name: str,
    queue: str | None,
    priority: int,
    spec: dict[str, Any],
    tags: Sequence[str],
    actor: str,
    now: float,
    state: str,
    code_digest: str | None = None,
    parent_id: int | None = None,
    generation: int = 0,
    attempt: int = 0,
) -> Row:
    """Add a task and return it; where (workspace, uid) is known already, that one comes back unchanged."""
    known = by_uid(conn, workspace, uid)
    if known is not None:
        return known
    row = {
        "workspace": workspace,
        "uid": uid,
        "project": project,
        "name": name,
        "queue": queue,
        "state": state,
        "priority": priority,
        "spec": spec,
        "code_digest": code_digest,
        "tags": list(tags),
        "parent_id": parent_id,
        "actor": actor,
        "created_at": now,
        "queued_at": now if state == "queued" else None,
        "started_at": now if state == "running" else None,
        "generation": generation,
        "attempt": attempt,
    }
    result = conn.execute(insert(tasks), row)
    key = result.inserted_primary_key
    assert key is not None
    made = get(conn, workspace, int(key[0]))
    assert made is not None
    return made


def get(conn: Connection, workspace: str, task_id: int) -> Row | None:
    """One task with all its columns; None where this workspace has no such task."""
    query = select(tasks).where(tasks.c.workspace == workspace, tasks.c.id == task_id)
    return _one(conn, query)


def by_uid(conn: Connection, workspace: str, uid: str) -> Row | None:
    return _one(conn, select(tasks).where(tasks.c.workspace == workspace, tasks.c.uid == uid))


def page(
    conn: Connection, workspace: str, filters: Filters, cursor: str | None, limit: int
) -> tuple[list[Row], str | None]:
    """Tasks, newest first, and the cursor of the next page (None at the end). Raises Problem 400 for a bad cursor."""
    limit = max(1, min(limit, PAGE_MAX))
    query = _filtered(select(tasks).where(tasks.c.workspace == workspace), filters)
    below = cursors.integer(cursor, "id")
    if below is not None:
        query = query.where(tasks.c.id < below)
    rows = conn.execute(query.order_by(tasks.c.id.desc()).limit(limit + 1)).mappings().all()
    found = [dict(row) for row in rows[:limit]]
    more = cursors.encode({"id": found[-1]["id"]}) if len(rows) > limit else None
    return found, more


def counts(conn: Connection, workspace: str) -> list[tuple[str | None, str, int]]:
    """How many tasks there are by (queue, state)."""
    query = (
        select(tasks.c.queue, tasks.c.state, func.count())
        .where(tasks.c.workspace == workspace)
        .group_by(tasks.c.queue, tasks.c.state)
    )
    return [(queue, state, number) for queue, state, number in conn.execute(query)]


def attempts_of(conn: Connection, workspace: str, task_id: int) -> list[Row]:
    """Attempts of a task, first to last, without their captured environments (see `environment_of`)."""
    query = (
        select(*(column for column in attempts.c if column is not attempts.c.environment))
        .where(attempts.c.workspace == workspace, attempts.c.task_id == task_id)
        .order_by(attempts.c.number)
    )
    return [dict(row) for row in conn.execute(query).mappings()]


def environment_of(conn: Connection, workspace: str, task_id: int, attempt: int) -> dict[str, Any]:
    """What the SDK captured of an attempt: git, packages, host, argv; {} where it captured nothing."""
    query = select(attempts.c.environment).where(
        attempts.c.workspace == workspace, attempts.c.task_id == task_id, attempts.c.number == attempt
    )
    return dict(conn.execute(query).scalar() or {})


def params_of(conn: Connection, workspace: str, task_id: int) -> dict[str, Any]:
    """Parameters of a task with the types they were given; by key."""
    query = (
        select(params.c.key, params.c.value)
        .where(params.c.workspace == workspace, params.c.task_id == task_id)
        .order_by(params.c.key)
        .limit(PARAMS_SHOWN_MAX)
    )
    return {key: value for key, value in conn.execute(query)}  # noqa: C416  a Row is no pair to dict()'s types


def _one(conn: Connection, query: Select[Any]) -> Row | None:
    row = conn.execute(query).mappings().first()
    return dict(row) if row is not None else None


def _filtered(query: Select[Any], filters: Filters) -> Select[Any]:
    if filters.states:
        query = query.where(tasks.c.state.in_(list(filters.states)))
    for column, value in (
        (tasks.c.queue, filters.queue),
        (tasks.c.project, filters.project),
        (tasks.c.instance_id, filters.instance_id),
        (tasks.c.parent_id, filters.parent_id),
    ):
        if value is not None:
            query = query.where(column == value)
    if filters.name_contains:
        query = query.where(tasks.c.name.icontains(filters.name_contains, autoescape=True))
    if filters.tag is not None:
        # Quotes inside a tag are escaped in JSON, so a tag in its quotes matches whole tags only.
        query = query.where(cast(tasks.c.tags, Text).contains(to_json(filters.tag), autoescape=True))
    return query
