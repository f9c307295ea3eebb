"""Why something was or wasn't done: decision records as the ticks stored them, never computed again."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from ...tracking.server.access import authorise
from ..planning.explain import CODES
from ..store import decisions
from .parts import PAGE_DEFAULT, Limit, State, Who

router = APIRouter(prefix="/api/v1/decisions", tags=["decisions"])
Subject = Literal["task", "instance", "pool", "offer"]


@router.get("")
async def history(
    state: State,
    who: Who,
    subject: Annotated[Subject, Query(description="what the decision is about")],
    subject_id: Annotated[str, Query(alias="id", description="its id or name", max_length=256)],
    limit: Limit = PAGE_DEFAULT,
) -> dict[str, Any]:
    """Decisions about one subject, newest first; a row is a change of mind, `times` the ticks it held."""
    authorise(who, "fleet:read")
    rows = await state.database.read_async(
        lambda conn: decisions.history(conn, who.workspace, subject, subject_id, limit)
    )
    return {"items": [decision_view(row) for row in rows]}


@router.get("/codes")
async def codes(who: Who) -> dict[str, str]:
    """Every reason code with what it means."""
    authorise(who, "fleet:read")
    return dict(CODES)


def decision_view(row: Any) -> dict[str, Any]:
    """One decision as it is shown, with the meaning of its code."""
    names = (
        "subject",
        "subject_id",
        "code",
        "message",
        "hint",
        "next_at",
        "rejected",
        "first_at",
        "last_at",
        "times",
    )
    return {name: row[name] for name in names} | {"meaning": CODES.get(row["code"], "")}
