"""Instances: look at them, drain them, end them, and play the cloud's reclaim."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field
from sqlalchemy import Connection, select

from ...providers.base import ProviderError, Reclaimable
from ...tracking.server import cursors
from ...tracking.server.access import authorise
from ...tracking.server.database.schema import tasks
from ...tracking.server.problems import Problem
from ..planning.lifecycle import HOLDING_TASK
from ..planning.model import InstanceState
from ..store import decisions, instances
from .decisions import decision_view
from .etag import etag_of, is_known, require_match
from .parts import PAGE_DEFAULT, Cursor, IdempotencyKey, IfMatch, IfNoneMatch, Limit, State, Who, not_found
from .state import AppState

router = APIRouter(prefix="/api/v1/instances", tags=["instances"])
REASON_ASKED: Final = "REQUESTED"
"""Reason on an instance that a person drained or ended."""
NOTICE_SECONDS_MAX: Final = 600.0
_SHOWN: Final = [
    "id",
    "pool",
    "provider",
    "region",
    "zone",
    "instance_type",
    "market",
    "usd_per_hour",
    "state",
    "reason",
    "message",
    "ref",
    "address",
    "created_at",
    "launched_at",
    "joined_at",
    "ready_at",
    "idle_since",
    "drain_at",
    "terminate_asked_at",
    "terminated_at",
    "contact_at",
    "preempt_at",
    "launch_calls",
    "terminate_calls",
    "inventory",
    "version",
]


class Reclaim(BaseModel):
    """How long before the machine is taken away its notice comes."""

    notice_seconds: float = Field(default=0.0, ge=0.0, le=NOTICE_SECONDS_MAX)


@router.get("")
async def page(
    state: State,
    who: Who,
    instance_state: Annotated[
        list[InstanceState] | None, Query(alias="state", description="in these states; default: any")
    ] = None,
    pool: Annotated[str | None, Query(max_length=64)] = None,
    provider: Annotated[str | None, Query(max_length=64)] = None,
    live: Annotated[bool, Query(description="leave out those that are terminated")] = False,
    cursor: Cursor = None,
    limit: Limit = PAGE_DEFAULT,
) -> dict[str, Any]:
    """Newest first, each with the tasks it holds and what it has cost. Times are epoch seconds."""
    authorise(who, "fleet:read")
    states = list(instance_state or ())
    if live and not states:
        states = [one for one in InstanceState if one is not InstanceState.TERMINATED]
    position = cursors.decode(cursor)
    after = (float(position["at"]), str(position["id"])) if position else None
    now = state.clock()

    def work(conn: Connection) -> list[dict[str, Any]]:
        rows = instances.page(
            conn, who.workspace, states=states, pool=pool, provider=provider, after=after, limit=limit + 1
        )
        return instance_views(conn, rows, now)

    views = await state.database.read_async(work)
    shown = views[:limit]
    more = len(views) > limit
    last = cursors.encode({"at": shown[-1]["created_at"], "id": shown[-1]["id"]}) if more else None
    return {"items": shown, "next_cursor": last}


@router.get("/{instance_id}")
async def one(
    instance_id: str, state: State, who: Who, response: Response, if_none_match: IfNoneMatch = None
) -> Any:
    """One instance. Its ETag is its version."""
    authorise(who, "fleet:read")
    view = await state.database.read_async(lambda conn: _found(conn, state, who.workspace, instance_id))
    if is_known(if_none_match, view["version"]):
        return Response(status_code=304, headers={"ETag": etag_of(view["version"])})
    response.headers["ETag"] = etag_of(view["version"])
    return view


@router.get("/{instance_id}/explain")
async def explain(instance_id: str, state: State, who: Who, limit: Limit = 10) -> dict[str, Any]:
    """Why it is kept, drained or ended: the newest decision about it and those before, as the ticks stored them."""
    authorise(who, "fleet:read")

    def work(conn: Connection) -> dict[str, Any]:
        view = _found(conn, state, who.workspace, instance_id)
        rows = decisions.history(conn, who.workspace, "instance", instance_id, limit)
        views = [decision_view(row) for row in rows]
        return {"instance": view, "decision": views[0] if views else None, "history": views[1:]}

    return await state.database.read_async(work)


@router.post("/{instance_id}/drain")
async def drain(
    instance_id: str, state: State, who: Who, if_match: IfMatch = None, idempotency_key: IdempotencyKey = None
) -> dict[str, Any]:
    """Let it finish what it runs, give it nothing new, then end it. Draining already: no change."""
    return await _move(state, who, instance_id, InstanceState.DRAINING, if_match)


@router.post("/{instance_id}/terminate")
async def terminate(
    instance_id: str, state: State, who: Who, if_match: IfMatch = None, idempotency_key: IdempotencyKey = None
) -> dict[str, Any]:
    """End it now, whatever it runs: its tasks go back to their queue. Ending already: no change."""
    return await _move(state, who, instance_id, InstanceState.TERMINATING, if_match)


async def _move(
    state: AppState, who: Who, instance_id: str, to: InstanceState, if_match: str | None
) -> dict[str, Any]:
    authorise(who, "fleet:write")
    now = state.clock()

    def work(conn: Connection) -> dict[str, Any]:
        before = _found(conn, state, who.workspace, instance_id)
        require_match(if_match, before["version"])
        moved = instances.advance(
            conn, instance_id, to, now, reason=REASON_ASKED, message=f"asked by {who.actor}", actor=who.actor
        )
        if not moved and not _is_past(InstanceState(before["state"]), to):
            raise _cannot(before, to)
        return _found(conn, state, who.workspace, instance_id)

    view = await state.database.write_async(work)
    state.dispatcher.notify_instance(instance_id)
    state.wake_loop()
    return view


def _is_past(state: InstanceState, to: InstanceState) -> bool:
    """Whether what was asked for holds already, or more than that."""
    order = (InstanceState.DRAINING, InstanceState.TERMINATING, InstanceState.TERMINATED)
    return state in order and order.index(state) >= order.index(to)


def _cannot(row: dict[str, Any], to: InstanceState) -> Problem:
    return Problem(
        409,
        "WRONG_STATE",
        f"Instance {row['id']} can't be made {to.value} now",
        detail=f"it is {row['state']}",
        hint="its launch is under way; try again in a few seconds",
    )


@router.post("/{instance_id}/reclaim")
async def reclaim(
    instance_id: str,
    body: Reclaim,
    state: State,
    who: Who,
    idempotency_key: IdempotencyKey = None,
) -> dict[str, Any]:
    """Play the cloud's part: give the preemption notice now and take the machine away after `notice_seconds`.

    A drill, for providers that can do it (local).
    """
    authorise(who, "fleet:write")
    view = await state.database.read_async(lambda conn: _found(conn, state, who.workspace, instance_id))
    provider = _reclaimable(state.config.providers().get(view["provider"]), view)
    try:
        await asyncio.to_thread(provider.reclaim, view["ref"], body.notice_seconds)
    except ProviderError as error:
        raise Problem(
            409, error.code, "The provider refused", detail=error.detail, hint=error.hint
        ) from error
    state.wake_loop()
    return view


def _reclaimable(provider: object, view: dict[str, Any]) -> Reclaimable:
    if not isinstance(provider, Reclaimable):
        raise Problem(
            409,
            "CANNOT_RECLAIM",
            f"Provider {view['provider']} can't play a reclaim",
            hint="only providers that imitate a cloud can; drain the instance instead",
        )
    if not view["ref"] or view["state"] in ("terminating", "terminated"):
        raise Problem(
            409,
            "WRONG_STATE",
            f"Instance {view['id']} has no machine to take away",
            detail=f"it is {view['state']}",
            hint="choose one that runs: GET /api/v1/instances?state=ready",
        )
    return provider


def _found(conn: Connection, state: AppState, workspace: str, instance_id: str) -> dict[str, Any]:
    row = instances.get(conn, instance_id, workspace=workspace)
    if row is None:
        raise not_found("instance", instance_id, "GET /api/v1/instances lists them")
    return instance_views(conn, [row], state.clock())[0]


def instance_views(conn: Connection, rows: Sequence[dict[str, Any]], now: float) -> list[dict[str, Any]]:
    """Instances as they are shown: `tasks` are those it holds, `usd` what it has cost up to `now`."""
    held = _held(conn, [row["id"] for row in rows])
    return [
        {name: row[name] for name in _SHOWN}
        | {"gpu": row["offer"].get("gpu"), "cpus": row["offer"].get("cpus")}
        | {"memory_bytes": row["offer"].get("memory_bytes")}
        | {"tasks": held.get(row["id"], []), "usd": cost_of(row, now)}
        for row in rows
    ]


def cost_of(row: dict[str, Any], now: float) -> float:
    """Dollars from the launch the cloud accepted to its confirmed end, or to `now`."""
    if row["launched_at"] is None:
        return 0.0
    end = now if row["terminated_at"] is None else row["terminated_at"]
    return max(0.0, float(end - row["launched_at"])) * float(row["usd_per_hour"]) / 3600.0


def _held(conn: Connection, ids: Sequence[str]) -> dict[str, list[int]]:
    query = select(tasks.c.instance_id, tasks.c.id).where(
        tasks.c.instance_id.in_(ids), tasks.c.state.in_([one.value for one in HOLDING_TASK])
    )
    found: dict[str, list[int]] = {}
    for instance_id, task_id in conn.execute(query.order_by(tasks.c.id)):
        found.setdefault(instance_id, []).append(task_id)
    return found
