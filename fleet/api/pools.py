"""Pools of fleet.yaml with their instances, and the re-arming of a protected one."""

from __future__ import annotations

from collections import Counter
from typing import Any

from fastapi import APIRouter
from sqlalchemy import Connection, select

from ...config import FleetConfig
from ...tracking.server.access import authorise
from ..store import instances, pools
from ..store.schema import pool_state
from .parts import IdempotencyKey, State, Who, not_found

router = APIRouter(prefix="/api/v1/pools", tags=["pools"])


@router.get("")
async def every(state: State, who: Who) -> dict[str, Any]:
    """All pools: settings, live instances by state, dollars an hour, and why one is protected."""
    authorise(who, "fleet:read")
    fleet = state.config.fleet
    return {"items": await state.database.read_async(lambda conn: pool_views(conn, who.workspace, fleet))}


@router.get("/{name}")
async def one(name: str, state: State, who: Who) -> dict[str, Any]:
    """One pool."""
    authorise(who, "fleet:read")
    fleet = state.config.fleet
    views = await state.database.read_async(lambda conn: pool_views(conn, who.workspace, fleet))
    found = next((view for view in views if view["name"] == name), None)
    if found is None:
        raise not_found("pool", name, f"there are: {', '.join(fleet.pools)}")
    return found


@router.post("/{name}/rearm")
async def rearm(name: str, state: State, who: Who, idempotency_key: IdempotencyKey = None) -> dict[str, Any]:
    """Let a protected pool launch again, after mending what made its bootstraps fail. Armed already: no change."""
    authorise(who, "fleet:write")
    fleet, now = state.config.fleet, state.clock()
    if name not in fleet.pools:
        raise not_found("pool", name, f"there are: {', '.join(fleet.pools)}")
    was_protected = await state.database.write_async(
        lambda conn: pools.rearm(
            conn, who.workspace, name, now, actor=who.actor, providers=fleet.pools[name].providers
        )
    )
    state.wake_loop()
    return {"name": name, "was_protected": bool(was_protected)}


def pool_views(conn: Connection, workspace: str, fleet: FleetConfig) -> list[dict[str, Any]]:
    """Every pool of `fleet`, and those no longer in it that still have live instances."""
    live = instances.live(conn, workspace=workspace)
    rows = conn.execute(select(pool_state).where(pool_state.c.workspace == workspace)).mappings()
    states = {row["pool"]: row for row in rows}
    names = [*fleet.pools, *sorted({row["pool"] for row in live} - set(fleet.pools))]
    return [
        _view(name, fleet, [row for row in live if row["pool"] == name], states.get(name)) for name in names
    ]


def _view(name: str, fleet: FleetConfig, live: list[dict[str, Any]], armed: Any) -> dict[str, Any]:
    pool = fleet.pools.get(name)
    return {
        "name": name,
        "configured": pool is not None,
        "settings": {} if pool is None else pool.to_dict(),
        "instances": dict(Counter(row["state"] for row in live)),
        "usd_per_hour": sum(row["usd_per_hour"] for row in live),
        "protected_since": armed["protected_since"] if armed else None,
        "protected_reason": armed["protected_reason"] if armed else None,
        "bootstrap_failures": armed["bootstrap_failures"] if armed else 0,
    }
