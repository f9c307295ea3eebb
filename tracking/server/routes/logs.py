"""Logs read back: by range, by their last lines, or followed as they grow."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from sqlalchemy import Connection
from sse_starlette import EventSourceResponse

from .. import logs, tasks
from ..access.bearer import Caller
from ..problems import Problem
from . import body
from .follow import followers_of
from .reads import TASK, Attempt, look

POLL_SECONDS = 1.0
"""How often a follower looks by itself: a task's end comes from elsewhere than its log."""
PING_SECONDS = 15
STREAM_SECONDS_MAX = 3600.0
"""A stream ends so that its token is looked at again; clients come back with Last-Event-ID."""

router = APIRouter(tags=["tasks"])

Offset = Annotated[int | None, Query(ge=0, le=body.INTEGER_MAX)]


@router.get(TASK + "/logs")
async def read_log(
    request: Request,
    caller: Caller,
    task_id: body.TaskId,
    attempt: Attempt = None,
    offset: Offset = None,
    limit: Annotated[int, Query(ge=1, le=logs.READ_BYTES_MAX)] = logs.READ_BYTES_DEFAULT,
    tail: Annotated[int | None, Query(ge=1, le=logs.TAIL_LINES_MAX)] = None,
) -> Response:
    """Raw bytes of an attempt's log (the newest where none is named): `limit` from `offset`, or the last `tail` lines.

    Headers: X-Hostler-Attempt, X-Hostler-Offset (of the first byte), X-Hostler-Next-Offset, X-Hostler-End.
    """
    if tail is not None and offset is not None:
        raise Problem(422, "INVALID", "`tail` and `offset` exclude each other", hint="name one of them")

    def read(conn: Connection) -> logs.Slice:
        number = attempt if attempt is not None else logs.latest_attempt(conn, task_id)
        if tail is not None:
            return logs.tail(conn, task_id, number, tail)
        return logs.read(conn, task_id, number, offset or 0, limit)

    found = await look(request, caller, task_id, read)
    headers = {
        "X-Hostler-Attempt": str(found.attempt),
        "X-Hostler-Offset": str(found.offset),
        "X-Hostler-Next-Offset": str(found.next_offset),
        "X-Hostler-End": str(found.end),
        "X-Content-Type-Options": "nosniff",
    }
    return Response(found.data, media_type="text/plain; charset=utf-8", headers=headers)


@router.get(TASK + "/logs/stream")
async def follow_log(
    request: Request,
    caller: Caller,
    task_id: body.TaskId,
    attempt: Attempt = None,
    offset: Offset = None,
    last_event_id: Annotated[str | None, Header(max_length=64)] = None,
) -> Response:
    """Server-sent events: `log` with {attempt, offset, text} as bytes come, `end` with {state} when the task is over.

    Goes over to the next attempt by itself. An event's id is `attempt:offset`, where to go on after it.
    """

    def begin(conn: Connection) -> int:
        return attempt if attempt is not None else max(1, logs.latest_attempt(conn, task_id))

    first = await look(request, caller, task_id, begin)
    place = _Place(first, offset or 0)
    if last_event_id is not None:
        place = _parse_place(last_event_id)
    stream = _follow(request, caller.workspace, task_id, place)
    return EventSourceResponse(stream, ping=PING_SECONDS)


@dataclass(slots=True)
class _Place:
    attempt: int
    offset: int


@dataclass(frozen=True, slots=True)
class _Seen:
    found: logs.Slice
    state: str
    newest: int


def _parse_place(last_event_id: str) -> _Place:
    attempt, _, offset = last_event_id.partition(":")
    if not (attempt.isdecimal() and offset.isdecimal()) or max(int(attempt), int(offset)) > body.INTEGER_MAX:
        raise Problem(
            400, "BAD_EVENT_ID", "Last-Event-ID is none of this stream's", hint="leave the header away"
        )
    return _Place(int(attempt), int(offset))


async def _follow(
    request: Request, workspace: str, task_id: int, place: _Place
) -> AsyncIterator[dict[str, Any]]:
    # The decoder keeps the first bytes of a character whose others aren't there yet.
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    deadline = time.monotonic() + STREAM_SECONDS_MAX
    with followers_of(request.app).of(task_id) as grown:
        while time.monotonic() < deadline:
            grown.clear()
            seen = await request.app.state.database.read_async(partial(_see, workspace, task_id, place))
            if seen is None:
                return
            over = seen.newest <= place.attempt and seen.state in tasks.TERMINAL
            at_end = not seen.found.data and (over or seen.newest > place.attempt)
            text = decoder.decode(seen.found.data, final=at_end)
            started_at = place.offset
            place.offset = max(place.offset, seen.found.next_offset)
            if text:
                held_back = len(decoder.getstate()[0])
                yield _log_event(place.attempt, started_at, place.offset - held_back, text)
            if seen.found.data:
                continue
            if over:
                yield {"event": "end", "data": json.dumps({"state": seen.state})}
                return
            if seen.newest > place.attempt:
                place = _Place(place.attempt + 1, 0)
                continue
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(grown.wait(), POLL_SECONDS)


def _see(workspace: str, task_id: int, place: _Place, conn: Connection) -> _Seen | None:
    task = tasks.get(conn, workspace, task_id)
    if task is None:
        return None
    found = logs.read(conn, task_id, place.attempt, place.offset, logs.READ_BYTES_DEFAULT)
    return _Seen(found, task["state"], task["attempt"])


def _log_event(attempt: int, offset: int, next_offset: int, text: str) -> dict[str, Any]:
    data = json.dumps({"attempt": attempt, "offset": offset, "text": text}, ensure_ascii=False)
    return {"event": "log", "id": f"{attempt}:{next_offset}", "data": data}
