"""/livez, /readyz and /metrics. The first two are the only routes that answer without a token."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Response

from ...tracking.server.access import authorise
from .metrics import CONTENT_TYPE, read_families, render
from .parts import State, Who

router = APIRouter(tags=["health"])


@router.get("/livez")
async def live() -> dict[str, str]:
    """The process answers. Says nothing of its parts: a full disk is no reason to kill it."""
    return {"status": "ok"}


@router.get("/readyz")
async def ready(state: State, response: Response) -> dict[str, object]:
    """200 when the database works and the control loop has ticked within three intervals, else 503."""
    database_ok = await asyncio.to_thread(state.database.ok)
    loop_ok = state.pulse.is_recent(state.config.fleet.daemon.tick)
    is_ready = database_ok and loop_ok and not state.hub.closed
    response.status_code = 200 if is_ready else 503
    return {
        "status": "ok" if is_ready else "not ready",
        "database": database_ok,
        "loop": loop_ok,
        "stopping": state.hub.closed,
    }


@router.get("/metrics", response_class=Response)
async def metrics(state: State, who: Who) -> Response:
    """Prometheus text. Names and labels tell what runs here: a token is needed."""
    authorise(who, "fleet:read")
    fleet, now = state.config.fleet, state.clock()
    families = await state.database.read_async(lambda conn: read_families(conn, fleet, now))
    return Response(render(state.metrics, families), media_type=CONTENT_TYPE)
