"""One object for `hostler status`: is it well, what waits, what runs, what does it cost, what wants a person."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from fastapi import APIRouter
from sqlalchemy import Connection, func, select

from ...tracking.server.access import authorise
from ...tracking.server.database.schema import server
from ..store import instances
from ..store.schema import instances as rows
from ..store.schema import leader, offer_health
from .metrics import billed_seconds
from .parts import State, Who
from .pools import pool_views
from .queues import queue_views
from .state import AppState

router = APIRouter(prefix="/api/v1/status", tags=["status"])
FROZEN_KEY: Final = "frozen"
"""Row of `server` that says why nothing is launched at all."""


@router.get("")
async def status(state: State, who: Who) -> dict[str, Any]:
    """The whole server on one page. Times are epoch seconds; money is US dollars."""
    authorise(who, "fleet:read")
    fleet, now = state.config.fleet, state.clock()

    def work(conn: Connection) -> dict[str, Any]:
        pools = pool_views(conn, who.workspace, fleet)
        return {
            "leader": _leader(conn),
            "queues": queue_views(conn, who.workspace, fleet),
            "pools": pools,
            "instances": _instances(conn, who.workspace),
            "usd_per_hour": sum(pool["usd_per_hour"] for pool in pools),
            "usd_total": _spent(conn, who.workspace, now),
            "frozen": frozen(conn),
            "protected_pools": [pool["name"] for pool in pools if pool["protected_since"] is not None],
            "blocked_offers": _blocked(conn, now),
        }

    body = await state.database.read_async(work)
    body = {"version": state.version, "server_id": state.server_id, **_process(state), **body}
    body["limits"] = fleet.limits.to_dict()
    body["warnings"] = _warnings(state, body)
    return body


def frozen(conn: Connection) -> str:
    """Why no launch at all is allowed; empty when they are."""
    return conn.execute(select(server.c.value).where(server.c.key == FROZEN_KEY)).scalar() or ""


def _process(state: AppState) -> dict[str, Any]:
    pulse, tick = state.pulse, state.config.fleet.daemon.tick
    return {
        "started_at": state.started_at,
        "uptime_seconds": pulse.uptime_seconds,
        "config": {"source": state.config.source, "loaded_at": state.config.loaded_at},
        "loop": {
            "ok": pulse.is_recent(tick),
            "interval_seconds": tick,
            "ticks": pulse.ticks,
            "age_seconds": pulse.age_seconds,
            "last_seconds": pulse.last_seconds,
            "error": pulse.last_error,
        },
    }


def _leader(conn: Connection) -> dict[str, Any] | None:
    row = conn.execute(select(leader).limit(1)).mappings().first()
    return {name: row[name] for name in ("holder", "epoch", "lease_until")} if row else None


def _instances(conn: Connection, workspace: str) -> dict[str, int]:
    return dict(Counter(row["state"] for row in instances.live(conn, workspace=workspace)))


def _spent(conn: Connection, workspace: str, now: float) -> float:
    paid = func.sum(billed_seconds(now) * rows.c.usd_per_hour / 3600.0)
    return float(conn.execute(select(paid).where(rows.c.workspace == workspace)).scalar() or 0.0)


def _blocked(conn: Connection, now: float) -> list[dict[str, Any]]:
    query = select(offer_health).where(offer_health.c.blocked_until > now).order_by(offer_health.c.scope_key)
    names = ("scope_key", "code", "detail", "hint", "failures", "blocked_until")
    return [{name: row[name] for name in names} for row in conn.execute(query).mappings()]


def _warnings(state: AppState, body: dict[str, Any]) -> list[str]:
    """Sentences for a person, each with what to do."""
    found = [f"provider {name} can't be used: {why}" for name, why in state.config.broken_providers().items()]
    if body["frozen"]:
        found.append(f"launches are frozen: {body['frozen']}")
    for pool in body["pools"]:
        if pool["protected_since"] is not None:
            name, why = pool["name"], pool["protected_reason"]
            found.append(
                f"pool {name} launches nothing: {why}; mend it, then POST /api/v1/pools/{name}/rearm"
            )
    if not body["loop"]["ok"]:
        error = f": {body['loop']['error']}" if body["loop"]["error"] else ""
        found.append(f"the control loop has not ticked for three intervals{error}; see the daemon's log")
    return found
