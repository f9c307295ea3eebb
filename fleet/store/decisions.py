"""Why things were or weren't done: a row each time the reason changes, counted up while it stays the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from ..planning.model import Decision
from .schema import decisions as table

LOOKED_UP_AT_ONCE: Final = 500
"""Subjects in one statement; SQLite takes a bounded number of parameters."""
PRUNED_AT_ONCE: Final = 5_000
"""Rows one call of `prune` deletes at most, so that it never holds the writer for long."""
MAX_HISTORY: Final = 1_000
MAX_REJECTED: Final = 50
"""Rejected offers kept with a decision; a catalogue has thousands, a person reads the first few."""

_AGAIN = (
    update(table)
    .where(table.c.id == bindparam("row_id"))
    .values(
        message=bindparam("new_message"),
        hint=bindparam("new_hint"),
        next_at=bindparam("new_next_at"),
        rejected=bindparam("new_rejected"),
        last_at=bindparam("now"),
        times=table.c.times + 1,
    )
)


def record(conn: Connection, workspace: str, made: Iterable[Decision], now: float) -> int:
    """Store the decisions of one tick. Returns how many were changes of mind (new rows)."""
    latest_of: dict[tuple[str, str], Decision] = {(one.subject, one.subject_id): one for one in made}
    known = _latest(conn, workspace, latest_of)
    fresh: list[dict[str, Any]] = []
    again: list[dict[str, Any]] = []
    for key, decision in latest_of.items():
        row_id, code = known.get(key, (None, ""))
        if row_id is not None and code == decision.code:
            again.append(_bumped(row_id, decision, now))
        else:
            fresh.append(_row(workspace, decision, now))
    if again:
        conn.execute(_AGAIN, again)
    if fresh:
        conn.execute(insert(table), fresh)
    return len(fresh)


def history(
    conn: Connection, workspace: str, subject: str, subject_id: str, limit: int = 20
) -> list[dict[str, Any]]:
    """Rows of one subject (task | instance | pool | offer), newest first."""
    query = (
        select(table)
        .where(table.c.workspace == workspace, table.c.subject == subject, table.c.subject_id == subject_id)
        .order_by(table.c.id.desc())
        .limit(min(limit, MAX_HISTORY))
    )
    return [dict(row) for row in conn.execute(query).mappings()]


def prune(conn: Connection, before: float) -> int:
    """Delete rows last confirmed before that time, a bounded number a call. Returns how many went."""
    old = select(table.c.id).where(table.c.last_at < before).limit(PRUNED_AT_ONCE)
    return conn.execute(delete(table).where(table.c.id.in_(old))).rowcount


def _latest(
    conn: Connection, workspace: str, keys: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], tuple[int, str]]:
    """(row id, code) of the newest row of each subject."""
    by_subject: dict[str, list[str]] = defaultdict(list)
    for subject, subject_id in keys:
        by_subject[subject].append(subject_id)
    found: dict[tuple[str, str], tuple[int, str]] = {}
    for subject, ids in by_subject.items():
        for chunk in _chunks(ids):
            newest = (
                select(func.max(table.c.id))
                .where(
                    table.c.subject == subject, table.c.subject_id.in_(chunk), table.c.workspace == workspace
                )
                .group_by(table.c.subject_id)
            )
            rows = conn.execute(
                select(table.c.id, table.c.subject_id, table.c.code).where(table.c.id.in_(newest))
            )
            found.update({(subject, row.subject_id): (row.id, row.code) for row in rows})
    return found


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), LOOKED_UP_AT_ONCE):
        yield ids[start : start + LOOKED_UP_AT_ONCE]


def _rejected(decision: Decision) -> list[list[str]]:
    return [list(one) for one in decision.rejected[:MAX_REJECTED]]


def _bumped(row_id: int, decision: Decision, now: float) -> dict[str, Any]:
    return {
        "row_id": row_id,
        "new_message": decision.message,
        "new_hint": decision.hint,
        "new_next_at": decision.next_at,
        "new_rejected": _rejected(decision),
        "now": now,
    }


def _row(workspace: str, decision: Decision, now: float) -> dict[str, Any]:
    return {
        "workspace": workspace,
        "subject": decision.subject,
        "subject_id": decision.subject_id,
        "code": decision.code,
        "message": decision.message,
        "hint": decision.hint,
        "next_at": decision.next_at,
        "rejected": _rejected(decision),
        "first_at": now,
        "last_at": now,
        "times": 1,
    }
