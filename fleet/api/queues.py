"""Queues of fleet.yaml with what waits in them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from sqlalchemy import Connection, func, select

from ...config import FleetConfig
from ...tracking.server import tasks as records
from ...tracking.server.access import authorise
from ...tracking.server.database.schema import tasks
from .parts import State, Who, not_found

router = APIRouter(prefix="/api/v1/queues", tags=["queues"])


@router.get("")
async def every(state: State, who: Who) -> dict[str, Any]:
    """All queues: their settings, tasks by state, and since when the longest waiting one waits (epoch seconds)."""
    authorise(who, "fleet:read")
    fleet = state.config.fleet
    return {"items": await state.database.read_async(lambda conn: queue_views(conn, who.workspace, fleet))}


@router.get("/{name}")
async def one(name: str, state: State, who: Who) -> dict[str, Any]:
    """One queue."""
    authorise(who, "fleet:read")
    fleet = state.config.fleet
    views = await state.database.read_async(lambda conn: queue_views(conn, who.workspace, fleet))
    found = next((view for view in views if view["name"] == name), None)
    if found is None:
        raise not_found("queue", name, f"there are: {', '.join(fleet.queues)}")
    return found


def queue_views(conn: Connection, workspace: str, fleet: FleetConfig) -> list[dict[str, Any]]:
    """Every queue of `fleet`, and those no longer in it that still hold tasks (`configured` false)."""
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    for queue, task_state, number in records.counts(conn, workspace):
        if queue is not None:
            counts[queue][task_state] = number
    oldest = _oldest_waiting(conn, workspace)
    names = [*fleet.queues, *sorted(set(counts) - set(fleet.queues))]
    return [_view(name, fleet, counts.get(name, {}), oldest.get(name)) for name in names]


def _view(name: str, fleet: FleetConfig, counts: Mapping[str, int], oldest: float | None) -> dict[str, Any]:
    queue = fleet.queues.get(name)
    settings = {} if queue is None else queue.to_dict()
    return {
        "name": name,
        "configured": queue is not None,
        **{key: settings.get(key) for key in ("pools", "priority", "market")},
        "tasks": dict(counts),
        "oldest_queued_at": oldest,
    }


def _oldest_waiting(conn: Connection, workspace: str) -> dict[str, float]:
    query = (
        select(tasks.c.queue, func.min(tasks.c.queued_at))
        .where(tasks.c.workspace == workspace, tasks.c.state == "queued", tasks.c.queue.is_not(None))
        .group_by(tasks.c.queue)
    )
    return {queue: since for queue, since in conn.execute(query)}  # noqa: C416  a Row is no pair to dict()'s types
