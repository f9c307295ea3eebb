"""What the agent and the SDK write: runs, logs, journal batches, ends. The messages are those of `tracking/wire.py`."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy import Connection

from ... import journal as journal_file
from ... import wire
from .. import intake, journal, runs
from .. import logs as log_store
from ..access import authorise
from ..access.bearer import Caller
from ..fence import hold
from ..tasks import NAME_CHARS_MAX, PROJECT_CHARS_MAX, TAG_CHARS_MAX, TAGS_MAX
from . import body
from .follow import followers_of

INLINE_BYTES_MAX = 32 * 1024
"""Smaller bodies are decoded where they are: a thread would cost more than it spares."""
JOURNAL_BYTES_MAX = wire.JOURNAL_BATCH_BYTES + journal_file.RECORD_BYTES_MAX + 16
CAPTURE_BYTES_MAX = 4 * 1024**2
MESSAGE_CHARS_MAX = 4096

router = APIRouter(tags=["record"])

Offset = Annotated[int, Query(ge=0, le=body.INTEGER_MAX)]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=TAG_CHARS_MAX)]


class NewRun(BaseModel):
    """`wire.NewRun`: what a program says of itself when its run begins outside the fleet."""

    model_config = ConfigDict(extra="forbid")
    uid: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._:-]+$")]
    project: Annotated[str, StringConstraints(min_length=1, max_length=PROJECT_CHARS_MAX)]
    name: Annotated[str, StringConstraints(min_length=1, max_length=NAME_CHARS_MAX)]
    tags: list[Tag] = Field(default_factory=list, max_length=TAGS_MAX)
    capture: dict[str, Any] = Field(default_factory=dict)


class RunEnd(BaseModel):
    """How a run outside the fleet ended."""

    model_config = ConfigDict(extra="forbid")
    state: Literal["completed", "failed"]
    exit_code: Annotated[int, Field(ge=-(2**31), lt=2**31)] | None = None
    message: Annotated[str, StringConstraints(max_length=MESSAGE_CHARS_MAX)] = ""


@router.post(wire.CREATE, openapi_extra=body.documented(NewRun))
async def create_run(request: Request, caller: Caller) -> dict[str, Any]:
    """Begin a run outside the fleet. The same uid again answers the same run; one that had ended is taken up again."""
    authorise(caller, "tasks:write")
    asked = await body.read_json(request, NewRun, CAPTURE_BYTES_MAX)
    now = request.app.state.clock()

    def begin(conn: Connection) -> tuple[int, int, str]:
        return runs.begin(
            conn,
            caller,
            uid=asked.uid,
            project=intake.plain_text(asked.project, PROJECT_CHARS_MAX),
            name=intake.plain_text(asked.name, NAME_CHARS_MAX),
            tags=[intake.plain_text(tag, TAG_CHARS_MAX) for tag in asked.tags],
            capture=intake.plain_json(asked.capture),
            now=now,
        )

    task_id, generation, secret = await request.app.state.database.write_async(begin)
    url = str(request.base_url).rstrip("/")
    return {"task_id": task_id, "generation": generation, "task_token": secret, "url": url}


@router.post(wire.LOG.partition("?")[0], openapi_extra=body.documented())
async def append_log(
    request: Request, caller: Caller, task_id: body.TaskId, generation: body.Generation, offset: Offset
) -> dict[str, Any]:
    """Bytes of the present attempt's log at `offset`. Known bytes again: nothing happens. A gap: 409 `LOG_GAP`."""
    data = await body.read(request, "a log chunk", wire.LOG_CHUNK_BYTES)
    packed = await _apart(len(data), log_store.compress, data)
    now = request.app.state.clock()

    def append(conn: Connection) -> int:
        task = hold(conn, caller, "record:write", task_id, generation)
        return log_store.append(conn, task, offset=offset, data=data, now=now, packed=packed)

    end = await request.app.state.database.write_async(append)
    followers_of(request.app).tell(task_id)
    return {"offset": end}


@router.post(wire.JOURNAL.partition("?")[0], openapi_extra=body.documented())
async def take_journal(
    request: Request,
    caller: Caller,
    task_id: body.TaskId,
    generation: body.Generation,
    segment: Annotated[str, Query(pattern=r"^[A-Za-z0-9._-]{1,64}$")],
    offset: Offset,
    rank: Annotated[int, Query(ge=0, le=journal.RANK_MAX)] = 0,
) -> dict[str, Any]:
    """Whole records of a segment at `offset`. Go on at the `offset` of the answer: all before it is durable."""
    data = await body.read(request, "a journal batch", JOURNAL_BYTES_MAX)
    now = request.app.state.clock()
    decoded = await _apart(len(data), intake.decode, data, now)

    def take(conn: Connection) -> tuple[int, int]:
        task = hold(conn, caller, "record:write", task_id, generation)
        return journal.take_in(
            conn, task, rank=rank, segment=segment, offset=offset, data=data, now=now, decoded=decoded
        )

    end, broken = await request.app.state.database.write_async(take)
    return {"offset": end, "broken": broken}


@router.post(wire.FINISH, openapi_extra=body.documented(RunEnd))
async def finish_run(
    request: Request, caller: Caller, task_id: body.TaskId, generation: body.Generation
) -> dict[str, Any]:
    """End a run outside the fleet. The same end again changes nothing."""
    authorise(caller, "record:write", task_id=task_id, generation=generation)
    end = await body.read_json(request, RunEnd)
    now = request.app.state.clock()

    def finish(conn: Connection) -> None:
        message = intake.plain_text(end.message, MESSAGE_CHARS_MAX)
        runs.finish(
            conn,
            caller,
            task_id,
            generation,
            state=end.state,
            exit_code=end.exit_code,
            message=message,
            now=now,
        )

    await request.app.state.database.write_async(finish)
    followers_of(request.app).tell(task_id)
    return {}


async def _apart(size_bytes: int, work: Any, *arguments: Any) -> Any:
    if size_bytes <= INLINE_BYTES_MAX:
        return work(*arguments)
    return await asyncio.to_thread(work, *arguments)
