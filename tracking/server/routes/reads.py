"""The record read back: metrics, points, parameters, attempts, artifacts of a task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse
from sqlalchemy import Connection

from .. import artifacts, chart, journal, series, tasks
from ..access import authorise
from ..access.bearer import Caller
from ..problems import not_found
from . import body
from .download import blob_file

TASK = "/api/v1/tasks/{task_id}"
T = TypeVar("T")

router = APIRouter(tags=["tasks"])

Cursor = Annotated[str | None, Query(max_length=1024)]
Step = Annotated[int | None, Query(ge=-body.INTEGER_MAX, le=body.INTEGER_MAX)]
Attempt = Annotated[int | None, Query(ge=0, le=2**31 - 1)]


async def look(request: Request, caller: Caller, task_id: int, read: Callable[[Connection], T]) -> T:
    """`read(conn)` where the caller may see the task. Raises Forbidden, Problem 404."""
    authorise(caller, "tasks:read", task_id=task_id)

    def work(conn: Connection) -> T:
        if tasks.get(conn, caller.workspace, task_id) is None:
            raise not_found(f"task {task_id}", "`hostler ps -a` lists them")
        return read(conn)

    result: T = await request.app.state.database.read_async(work)
    return result


@router.get(TASK + "/metrics")
async def metrics(
    request: Request,
    caller: Caller,
    task_id: body.TaskId,
    key_contains: Annotated[str | None, Query(max_length=512)] = None,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=series.PAGE_MAX)] = 1000,
) -> dict[str, Any]:
    """Metrics with their last, least and greatest values and how many points each has."""
    items, more = await look(
        request,
        caller,
        task_id,
        lambda conn: series.page(
            conn, caller.workspace, task_id, cursor=cursor, limit=limit, key_contains=key_contains
        ),
    )
    return {"items": items, "next_cursor": more}


@router.get(TASK + "/metrics/points")
async def points(
    request: Request,
    caller: Caller,
    task_id: body.TaskId,
    key: Annotated[str, Query(min_length=1, max_length=512)],
    context: Annotated[str, Query(max_length=256)] = "",
    max_points: Annotated[int, Query(ge=1, le=chart.POINTS_MAX)] = chart.POINTS_DEFAULT,
    step_min: Step = None,
    step_max: Step = None,
    rank: Annotated[int | None, Query(ge=0, le=journal.RANK_MAX)] = None,
    attempt: Attempt = None,
) -> dict[str, Any]:
    """Points of a metric by step. A newer attempt shadows an older one from its first step on, unless one is named."""
    within = chart.Range(step_min=step_min, step_max=step_max, rank=rank, attempt=attempt)
    found = await look(
        request,
        caller,
        task_id,
        lambda conn: chart.read(
            conn, caller.workspace, task_id, key, context, within=within, max_points=max_points
        ),
    )
    if found is None:
        raise not_found("metric", "GET .../metrics lists the keys and contexts there are")
    return found


@router.get(TASK + "/params")
async def params(request: Request, caller: Caller, task_id: body.TaskId) -> dict[str, Any]:
    """Parameters with the types they were given."""
    given = await look(
        request, caller, task_id, lambda conn: tasks.params_of(conn, caller.workspace, task_id)
    )
    return {"params": given}


@router.get(TASK + "/attempts")
async def attempts(request: Request, caller: Caller, task_id: body.TaskId) -> dict[str, Any]:
    """Attempts of the task, first to last."""
    items = await look(
        request, caller, task_id, lambda conn: tasks.attempts_of(conn, caller.workspace, task_id)
    )
    return {"items": items}


@router.get(TASK + "/environment")
async def environment(
    request: Request, caller: Caller, task_id: body.TaskId, attempt: Attempt = None
) -> dict[str, Any]:
    """What the SDK captured of an attempt, the newest where none is named."""

    def read(conn: Connection) -> tuple[int, dict[str, Any]]:
        task = tasks.get(conn, caller.workspace, task_id)
        number = attempt if attempt is not None else (task or {}).get("attempt", 0)
        return number, tasks.environment_of(conn, caller.workspace, task_id, number)

    number, captured = await look(request, caller, task_id, read)
    return {"attempt": number, "environment": captured}


@router.get(TASK + "/journal")
async def journal_segments(request: Request, caller: Caller, task_id: body.TaskId) -> dict[str, Any]:
    """How far each journal segment is stored, and how many of its records were broken or of unknown kinds."""
    return {"items": await look(request, caller, task_id, lambda conn: journal.marks_of(conn, task_id))}


@router.get(TASK + "/artifacts")
async def list_artifacts(
    request: Request,
    caller: Caller,
    task_id: body.TaskId,
    name: Annotated[str | None, Query(max_length=512)] = None,
    type: Annotated[str | None, Query(max_length=32)] = None,  # noqa: A002  the query's name is the column's
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=artifacts.PAGE_MAX)] = 100,
) -> dict[str, Any]:
    """Artifacts in all their versions, newest first."""
    items, more = await look(
        request,
        caller,
        task_id,
        lambda conn: artifacts.page(
            conn, caller.workspace, task_id, cursor=cursor, limit=limit, name=name, type_=type
        ),
    )
    return {"items": items, "next_cursor": more}


@router.get(TASK + "/artifacts/{name:path}/download")
async def download(
    request: Request,
    caller: Caller,
    task_id: body.TaskId,
    name: str,
    version: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
) -> FileResponse:
    """The bytes of an artifact, the newest version where none is named; ranges are served."""
    found = await look(
        request,
        caller,
        task_id,
        lambda conn: artifacts.find(conn, caller.workspace, task_id, name, version),
    )
    if found is None:
        raise not_found("artifact", "GET .../artifacts lists the names and versions there are")
    return blob_file(request, found["digest"], filename=name.rsplit("/", 1)[-1])
