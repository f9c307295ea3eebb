"""Tasks: submit, list, look at, change, stop, requeue, and why one waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from sqlalchemy import Connection, update

from ...tracking.server import events
from ...tracking.server import tasks as records
from ...tracking.server.access import authorise
from ...tracking.server.database.schema import tasks
from ...tracking.server.fence import take_turn
from ..planning.model import TaskState
from ..queue import requeue as requeue_task
from ..queue import stop as stop_task
from ..queue import submit as submit_task
from ..store import decisions
from .decisions import decision_view
from .etag import etag_of, is_known, require_match
from .parts import PAGE_DEFAULT, Cursor, IdempotencyKey, IfMatch, IfNoneMatch, Limit, State, Who, not_found
from .state import AppState
from .submission import Change, Submit, require_code
from .task_views import task_views

router = APIRouter(prefix="/api/v1/tasks", tags=["tasks"])


@router.post("", status_code=201)
async def submit(
    body: Submit, state: State, who: Who, response: Response, idempotency_key: IdempotencyKey = None
) -> dict[str, Any]:
    """Queue a task. A ready agent that has room gets it at once.

    201 and the task, whose `Location` is where to look at it; the same `uid` (or Idempotency-Key) again answers
    the task that was made the first time.
    """
    authorise(who, "tasks:write")
    spec, uid = body.task(), body.uid_for(who.workspace, idempotency_key)
    fleet, now = state.config.fleet, state.clock()

    def work(conn: Connection) -> dict[str, Any]:
        require_code(conn, body.code_digest)
        row = submit_task(
            conn,
            workspace=who.workspace,
            actor=who.actor,
            uid=uid,
            spec=spec,
            fleet=fleet,
            now=now,
            code_digest=body.code_digest,
        )
        return task_views(conn, [row], now, with_spec=True)[0]

    view = await state.database.write_async(work)
    state.wake_loop()
    response.headers["Location"] = f"/api/v1/tasks/{view['id']}"
    response.headers["ETag"] = etag_of(view["version"])
    return view


def _filters(
    task_state: Annotated[
        list[TaskState] | None, Query(alias="state", description="in these states; may be repeated")
    ] = None,
    queue: Annotated[str | None, Query(max_length=64)] = None,
    project: Annotated[str | None, Query(max_length=128)] = None,
    tag: Annotated[str | None, Query(max_length=128)] = None,
    name: Annotated[str | None, Query(max_length=256, description="a part of the name")] = None,
    instance: Annotated[str | None, Query(max_length=64, description="held by this instance now")] = None,
) -> records.Filters:
    return records.Filters(
        states=[one.value for one in task_state or ()],
        queue=queue,
        project=project,
        tag=tag,
        name_contains=name,
        instance_id=instance,
    )


@router.get("")
async def page(
    state: State,
    who: Who,
    filters: Annotated[records.Filters, Depends(_filters)],
    cursor: Cursor = None,
    limit: Limit = PAGE_DEFAULT,
) -> dict[str, Any]:
    """Newest first. `decision` says why a queued task waits. Times are epoch seconds, `usd` US dollars."""
    authorise(who, "tasks:read")
    now = state.clock()

    def work(conn: Connection) -> dict[str, Any]:
        rows, more = records.page(conn, who.workspace, filters, cursor, limit)
        return {"items": task_views(conn, rows, now), "next_cursor": more}

    return await state.database.read_async(work)


@router.get("/{task_id}")
async def one(
    task_id: int, state: State, who: Who, response: Response, if_none_match: IfNoneMatch = None
) -> Any:
    """One task with its spec. Its ETag is its version."""
    authorise(who, "tasks:read", task_id=task_id)
    view = await state.database.read_async(lambda conn: _view(conn, state, who.workspace, task_id))
    response.headers["ETag"] = etag_of(view["version"])
    if is_known(if_none_match, view["version"]):
        return Response(status_code=304, headers={"ETag": etag_of(view["version"])})
    return view


@router.get("/{task_id}/explain")
async def explain(task_id: int, state: State, who: Who, limit: Limit = 10) -> dict[str, Any]:
    """Why it is where it is: the newest decision about it and those before, as the ticks stored them."""
    authorise(who, "tasks:read", task_id=task_id)

    def work(conn: Connection) -> dict[str, Any]:
        view = _view(conn, state, who.workspace, task_id)
        rows = decisions.history(conn, who.workspace, "task", str(task_id), limit)
        views = [decision_view(row) for row in rows]
        attempts = records.attempts_of(conn, who.workspace, task_id)
        return {
            "task": view,
            "decision": views[0] if views else None,
            "history": views[1:],
            "attempts": attempts,
        }

    return await state.database.read_async(work)


@router.patch("/{task_id}")
async def change(
    task_id: int, body: Change, state: State, who: Who, response: Response, if_match: IfMatch = None
) -> dict[str, Any]:
    """Change its name or tags. With If-Match only if nobody else changed it meanwhile (412)."""
    authorise(who, "tasks:write")
    now = state.clock()

    def work(conn: Connection) -> dict[str, Any]:
        take_turn(conn, task_id)
        before = _view(conn, state, who.workspace, task_id)
        require_match(if_match, before["version"])
        values = body.model_dump(exclude_none=True)
        changed = {name: value for name, value in values.items() if before[name] != value}
        if not changed:
            return before
        columns = {**changed, "version": tasks.c.version + 1}
        conn.execute(update(tasks).where(tasks.c.id == task_id).values(columns))
        events.emit(
            conn,
            workspace=who.workspace,
            kind="task.changed",
            now=now,
            actor=who.actor,
            message=f"{who.actor} changed its {' and '.join(changed)}",
            task_id=task_id,
            data=changed,
        )
        return _view(conn, state, who.workspace, task_id)

    view = await state.database.write_async(work)
    response.headers["ETag"] = etag_of(view["version"])
    return view


@router.post("/{task_id}/stop")
async def stop(
    task_id: int, state: State, who: Who, if_match: IfMatch = None, idempotency_key: IdempotencyKey = None
) -> dict[str, Any]:
    """End it: at once while it waits; where it runs, its agent asks it to stop and it is `stopping` until then.

    Ended already: no change.
    """
    now = state.clock()
    view = await _act(
        state,
        who,
        task_id,
        if_match,
        lambda conn: stop_task(conn, task_id, actor=who.actor, now=now, workspace=who.workspace),
    )
    if view["instance_id"]:
        state.dispatcher.notify_instance(view["instance_id"])
    return view


@router.post("/{task_id}/requeue")
async def requeue(
    task_id: int, state: State, who: Who, if_match: IfMatch = None, idempotency_key: IdempotencyKey = None
) -> dict[str, Any]:
    """Run a finished task once more, with fresh retry budgets. Queued already: no change. Still running: 409."""
    now = state.clock()
    view = await _act(
        state,
        who,
        task_id,
        if_match,
        lambda conn: requeue_task(conn, task_id, actor=who.actor, now=now, workspace=who.workspace),
    )
    state.wake_loop()
    return view


async def _act(
    state: AppState, who: Who, task_id: int, if_match: str | None, action: Callable[[Connection], object]
) -> dict[str, Any]:
    authorise(who, "tasks:write")

    def work(conn: Connection) -> dict[str, Any]:
        take_turn(conn, task_id)
        require_match(if_match, _view(conn, state, who.workspace, task_id)["version"])
        action(conn)
        return _view(conn, state, who.workspace, task_id)

    return await state.database.write_async(work)


def _view(conn: Connection, state: AppState, workspace: str, task_id: int) -> dict[str, Any]:
    row = records.get(conn, workspace, task_id)
    if row is None:
        raise not_found("task", task_id, "GET /api/v1/tasks lists them")
    return task_views(conn, [row], state.clock(), with_spec=True)[0]
