"""Taking in journal segments: what a batch holds and how far the segment is stored go into one transaction.

So a batch that comes twice, or overlaps the one before, stores nothing twice; and what was acknowledged is durable.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from . import events, intake, series
from .database.encoding import to_json
from .database.schema import attempts, journal_marks, params, tasks
from .fence import Holding
from .tasks import TAGS_MAX

RANK_MAX = 1_000_000
PARAMS_PER_TASK_MAX = 10_000
ENVIRONMENT_BYTES_MAX = 4 * 1024**2
KEYS_PER_QUERY = 500

_log = logging.getLogger(__name__)


def take_in(
    conn: Connection,
    task: Holding,
    *,
    rank: int,
    segment: str,
    offset: int,
    data: bytes,
    now: float,
    decoded: intake.Intake | None = None,
) -> tuple[int, int]:
    """Store what is new of `data`, which lies at `offset` of the segment. Returns (durable bytes, broken records).

    `decoded` is `intake.decode(data, now)` made beforehand, to spare the writer. A batch beyond what is durable (the
    server was restored from an older copy) stores nothing: the answer says where to go on.
    """
    task, (mark, broken, skipped) = _mark(conn, task, rank, segment)
    if offset > mark or offset + len(data) <= mark:
        return mark, broken
    if decoded is None or offset < mark:
        decoded = intake.decode(data[mark - offset :], now)
    left_out = _store(conn, task, rank, decoded, now)
    end = mark + decoded.length
    total = broken + decoded.broken
    _set_mark(conn, task, rank, segment, (end, total, skipped + decoded.skipped + left_out))
    if decoded.broken:
        _tell_broken(conn, task, segment, total, now, first=not broken)
    return end, total


def marks_of(conn: Connection, task_id: int) -> list[dict[str, Any]]:
    """How far each segment of a task is stored, and how many of its records were broken or of unknown kinds."""
    query = (
        select(journal_marks)
        .where(journal_marks.c.task_id == task_id)
        .order_by(journal_marks.c.attempt, journal_marks.c.rank, journal_marks.c.segment)
    )
    return [dict(row) for row in conn.execute(query).mappings()]


def _at(task: Holding, rank: int, segment: str) -> Any:
    return (
        (journal_marks.c.task_id == task.task_id)
        & (journal_marks.c.attempt == task.attempt)
        & (journal_marks.c.rank == rank)
        & (journal_marks.c.segment == segment)
    )


def _mark(conn: Connection, task: Holding, rank: int, segment: str) -> tuple[Holding, tuple[int, int, int]]:
    """The segment's mark, and the holding under whose attempt it counts.

    A run outside the fleet that is taken up again brings its old segments along: they go on where they were.
    """
    marks = journal_marks.c
    query = (
        select(marks.offset, marks.broken, marks.skipped, marks.attempt)
        .where(marks.task_id == task.task_id, marks.rank == rank, marks.segment == segment)
        .order_by(marks.attempt)
        .limit(1)
    )
    if task.queue is not None:  # each attempt on the fleet has a folder of its own
        query = query.where(marks.attempt == task.attempt)
    row = conn.execute(query).first()
    if row is None:
        return task, (0, 0, 0)
    return replace(task, attempt=row[3]), (row[0], row[1], row[2])


def _set_mark(conn: Connection, task: Holding, rank: int, segment: str, mark: tuple[int, int, int]) -> None:
    values = dict(zip(("offset", "broken", "skipped"), mark, strict=True))
    changed = conn.execute(update(journal_marks).where(_at(task, rank, segment)).values(values))
    if changed.rowcount == 0:
        key = {"task_id": task.task_id, "attempt": task.attempt, "rank": rank, "segment": segment}
        conn.execute(insert(journal_marks), {**key, **values})


def _store(conn: Connection, task: Holding, rank: int, batch: intake.Intake, now: float) -> int:
    left_out = 0
    if batch.points:
        left_out += series.add(
            conn,
            task.workspace,
            task.task_id,
            attempt=task.attempt,
            rank=rank,
            batch=batch.points,
            now=now,
        )
    if batch.params:
        left_out += _set_params(conn, task, batch.params)
    if batch.tags:
        add_tags(conn, task.task_id, batch.tags)
    if batch.environment:
        add_environment(conn, task.task_id, task.attempt, batch.environment)
    return left_out


def _set_params(conn: Connection, task: Holding, given: dict[str, Any]) -> int:
    """Set parameters, the newest value wins. Returns how many were one too many for the task."""
    query = select(params.c.key).where(params.c.task_id == task.task_id)
    known = set(conn.execute(query.limit(PARAMS_PER_TASK_MAX)).scalars())
    new = [key for key in given if key not in known]
    kept = new[: max(0, PARAMS_PER_TASK_MAX - len(known))]
    fixed = {"task_id": task.task_id, "workspace": task.workspace, "attempt": task.attempt}
    if kept:
        conn.execute(insert(params), [{**fixed, "key": key, "value": given[key]} for key in kept])
    again = [{"at_key": key, "new_value": given[key]} for key in given.keys() & known]
    if again:
        at = (params.c.task_id == task.task_id) & (params.c.key == bindparam("at_key"))
        change = update(params).where(at).values(value=bindparam("new_value"), attempt=task.attempt)
        conn.execute(change, again)
    return len(new) - len(kept)


def add_tags(conn: Connection, task_id: int, tags: list[str]) -> None:
    """Add tags that the task doesn't bear yet, up to TAGS_MAX in all."""
    row = conn.execute(select(tasks.c.tags, tasks.c.version).where(tasks.c.id == task_id)).one()
    merged = list(dict.fromkeys([*row.tags, *tags]))[: max(TAGS_MAX, len(row.tags))]
    if merged != row.tags:
        values = {"tags": merged, "version": row.version + 1}
        conn.execute(update(tasks).where(tasks.c.id == task_id).values(values))


def add_environment(conn: Connection, task_id: int, attempt: int, captured: dict[str, Any]) -> None:
    """Merge what was captured into the attempt's environment; what would grow it beyond its limit is left out."""
    at = (attempts.c.task_id == task_id) & (attempts.c.number == attempt)
    merged = dict(conn.execute(select(attempts.c.environment).where(at)).scalar() or {})
    merged.update(captured)
    if len(to_json(merged).encode()) > ENVIRONMENT_BYTES_MAX:
        _log.warning("task %d: the captured environment is over %d bytes", task_id, ENVIRONMENT_BYTES_MAX)
        return
    conn.execute(update(attempts).where(at).values(environment=merged))


def _tell_broken(
    conn: Connection, task: Holding, segment: str, total: int, now: float, *, first: bool
) -> None:
    _log.warning("task %d: %d broken records in journal segment %s", task.task_id, total, segment)
    if first:  # one event a segment: a torn disk must not flood the feed
        events.emit(
            conn,
            workspace=task.workspace,
            kind="task.journal_broken",
            now=now,
            actor=task.actor,
            message=f"broken records in journal segment {segment} were left out",
            task_id=task.task_id,
            data={"segment": segment, "broken": total, "attempt": task.attempt},
        )
