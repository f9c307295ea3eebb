"""Tasks as they are shown: what the row says, what its attempts cost, and why it waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, func, select

from ...tracking.server.database.schema import attempts
from ..store.schema import decisions

SHOWN: Final = [
    "id",
    "uid",
    "project",
    "name",
    "queue",
    "state",
    "priority",
    "tags",
    "code_digest",
    "parent_id",
    "actor",
    "version",
    "created_at",
    "queued_at",
    "not_before",
    "started_at",
    "finished_at",
    "generation",
    "attempt",
    "instance_id",
    "lease_until",
    "stop_reason",
    "preempted",
    "infra",
    "errors",
    "exit_code",
    "exit_reason",
    "message",
]


def task_views(
    conn: Connection, rows: Sequence[Mapping[str, Any]], now: float, *, with_spec: bool = False
) -> list[dict[str, Any]]:
    """`usd` and `run_seconds` are over all attempts up to `now`; `decision` is there while it waits."""
    sums = _sums(conn, [row["id"] for row in rows], now)
    whys = _latest_decisions(conn, [row["id"] for row in rows if row["state"] == "queued"])
    views = []
    for row in rows:
        view = {name: row[name] for name in SHOWN}
        view["usd"], view["run_seconds"] = sums.get(row["id"], (0.0, 0.0))
        view["decision"] = whys.get(row["id"])
        if with_spec:
            view["spec"] = row["spec"]
        views.append(view)
    return views


def _sums(conn: Connection, ids: Sequence[int], now: float) -> dict[int, tuple[float, float]]:
    """Dollars (an attempt pays its share of the machine from claim to end) and seconds run, by task."""
    held = func.coalesce(attempts.c.finished_at, now) - attempts.c.claimed_at
    ran = func.coalesce(attempts.c.finished_at, now) - attempts.c.started_at
    usd = func.sum(held * attempts.c.share * func.coalesce(attempts.c.usd_per_hour, 0.0) / 3600.0)
    query = select(attempts.c.task_id, usd, func.sum(ran)).where(attempts.c.task_id.in_(ids))
    return {
        task_id: (max(0.0, paid or 0.0), max(0.0, seconds or 0.0))
        for task_id, paid, seconds in conn.execute(query.group_by(attempts.c.task_id))
    }


def _latest_decisions(conn: Connection, ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Code, words and next attempt of the newest decision about each task."""
    newest = (
        select(func.max(decisions.c.id))
        .where(decisions.c.subject == "task", decisions.c.subject_id.in_([str(one) for one in ids]))
        .group_by(decisions.c.subject_id)
    )
    query = select(decisions).where(decisions.c.id.in_(newest))
    names = ("code", "message", "hint", "next_at")
    return {
        int(row["subject_id"]): {name: row[name] for name in names} for row in conn.execute(query).mappings()
    }
