"""What happened: pages of it, and a stream that can be resumed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Query
from sqlalchemy import Connection
from sse_starlette import EventSourceResponse, ServerSentEvent

from ...tracking.server import cursors, events
from ...tracking.server.access import authorise
from .parts import PAGE_DEFAULT, Cursor, Limit, State, Who
from .sse import last_event_id, streamed, wait_for_change
from .state import AppState

router = APIRouter(prefix="/api/v1/events", tags=["events"])
STREAM_BATCH: Final = 200
KINDS_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class Filters:
    """Which events; a kind that ends with a dot means all that begin so (`task.`)."""

    task_id: int | None
    instance_id: str | None
    kinds: tuple[str, ...]

    def after(self, conn: Connection, workspace: str, position: int) -> list[dict[str, Any]]:
        return events.after(
            conn,
            workspace,
            position,
            STREAM_BATCH,
            self.kinds,
            task_id=self.task_id,
            instance_id=self.instance_id,
        )

    def before(
        self, conn: Connection, workspace: str, position: int | None, limit: int
    ) -> list[dict[str, Any]]:
        return events.before(
            conn,
            workspace,
            position,
            limit,
            self.kinds,
            task_id=self.task_id,
            instance_id=self.instance_id,
        )


def _filters(
    task: Annotated[int | None, Query(description="of this task only")] = None,
    instance: Annotated[str | None, Query(description="of this instance only", max_length=64)] = None,
    kind: Annotated[
        list[str] | None,
        Query(
            description="such as task.queued; `task.` takes all of tasks; may be repeated",
            max_length=KINDS_MAX,
        ),
    ] = None,
) -> Filters:
    return Filters(task, instance, tuple(kind or ()))


Chosen = Annotated[Filters, Depends(_filters)]


@router.get("")
async def page(
    state: State, who: Who, chosen: Chosen, cursor: Cursor = None, limit: Limit = PAGE_DEFAULT
) -> dict[str, Any]:
    """Newest first. `at` is epoch seconds."""
    authorise(who, "events:read")
    position = cursors.integer(cursor, "before")
    rows = await state.database.read_async(
        lambda conn: chosen.before(conn, who.workspace, position, limit + 1)
    )
    shown = rows[:limit]
    more = cursors.encode({"before": shown[-1]["id"]}) if len(rows) > limit else None
    return {"items": [event_view(row) for row in shown], "next_cursor": more}


def event_view(row: dict[str, Any]) -> dict[str, Any]:
    """One event as it is shown."""
    names = ("id", "at", "kind", "actor", "task_id", "instance_id", "message", "data")
    return {name: row[name] for name in names}


@router.get("/stream", response_class=EventSourceResponse)
async def stream(
    state: State,
    who: Who,
    chosen: Chosen,
    last: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
    after: Annotated[
        int | None, Query(ge=0, description="begin after this event; 0 is from the first")
    ] = None,
) -> EventSourceResponse:
    """Server-sent events, each with its id, its kind as `event:` and JSON as `data:`.

    Begins with the next event unless `Last-Event-ID` or `after` says where to go on. A client that takes
    nothing for 30 seconds is disconnected and can go on from where it was.
    """
    authorise(who, "events:read")
    start = last_event_id(last, -1 if after is None else after)
    if start < 0:
        start = await state.database.read_async(lambda conn: events.last_id(conn, who.workspace))
    return streamed(_follow(state, who.workspace, chosen, start))


async def _follow(
    state: AppState, workspace: str, chosen: Filters, start: int
) -> AsyncIterator[ServerSentEvent]:
    position = start
    with state.hub.listen() as changed:
        while not state.hub.closed:
            changed.clear()
            rows, newest = await _read_on(state, workspace, chosen, position)
            for row in rows:
                data = json.dumps(event_view(row), separators=(",", ":"))
                yield ServerSentEvent(data, id=str(row["id"]), event=row["kind"])
            if len(rows) == STREAM_BATCH:
                position = rows[-1]["id"]
            else:
                # Past what the filters leave out too: or a quiet filter would read the same rows at each wake-up.
                position = max(position, newest)
                await wait_for_change(changed)


async def _read_on(
    state: AppState, workspace: str, chosen: Filters, position: int
) -> tuple[list[dict[str, Any]], int]:
    """The next events after `position`, and the newest id on the same snapshot."""

    def work(conn: Connection) -> tuple[list[dict[str, Any]], int]:
        return chosen.after(conn, workspace, position), events.last_id(conn, workspace)

    return await state.database.read_async(work)
