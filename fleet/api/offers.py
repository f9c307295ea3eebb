"""The catalogue as last refreshed: what could be bought, at what price, and what is held back."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from sqlalchemy import Connection, select

from ...tracking.server import cursors
from ...tracking.server.access import authorise
from ..store.schema import offers
from .parts import PAGE_DEFAULT, Cursor, Limit, State, Who

router = APIRouter(prefix="/api/v1/offers", tags=["offers"])


@router.get("")
async def page(
    state: State,
    who: Who,
    provider: Annotated[str | None, Query(description="of this provider only", max_length=64)] = None,
    cursor: Cursor = None,
    limit: Limit = PAGE_DEFAULT,
) -> dict[str, Any]:
    """Offers by key. `refreshed_at` is epoch seconds; `usd_per_hour` null means that it is never launched."""
    authorise(who, "fleet:read")
    after = str(cursors.decode(cursor).get("after", ""))

    def work(conn: Connection) -> list[dict[str, Any]]:
        query = select(offers).where(offers.c.key > after)
        if provider is not None:
            query = query.where(offers.c.provider == provider)
        return [dict(row) for row in conn.execute(query.order_by(offers.c.key).limit(limit + 1)).mappings()]

    rows = await state.database.read_async(work)
    items = [{"key": row["key"], **row["offer"], "refreshed_at": row["refreshed_at"]} for row in rows[:limit]]
    more = cursors.encode({"after": items[-1]["key"]}) if len(rows) > limit else None
    return {"items": items, "next_cursor": more}
