"""Somebody wants a task to end: at once if nobody runs it, else by way of its agent."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, bindparam, select, update

from ...tracking.server import events
from ...tracking.server.database.schema import tasks
from ..planning.model import TaskState
from .errors import UnknownTask, WrongState
from .rows import AnyRow
from .states import DRAFT, LEASED, QUEUED, RUNNING, STOP_ASKED, STOPPED, STOPPING

_TASK: Final = (
    select(
        tasks.c.id, tasks.c.workspace, tasks.c.queue, tasks.c.state, tasks.c.generation, tasks.c.instance_id
    )
    .where(tasks.c.id == bindparam("b_id"))
    .with_for_update()
)
_END: Final = (
    update(tasks)
    .where(
        tasks.c.id == bindparam("b_id"),
        tasks.c.generation == bindparam("b_generation"),
        tasks.c.state.in_([DRAFT, QUEUED]),
    )
    .values(
        state=STOPPED,
        finished_at=bindparam("b_now"),
        not_before=None,
        queue_until=None,
        exit_reason=STOP_ASKED,
        message=bindparam("b_message"),
        version=tasks.c.version + 1,
    )
)
_ASK: Final = (
    update(tasks)
    .where(
        tasks.c.id == bindparam("b_id"),
        tasks.c.generation == bindparam("b_generation"),
        tasks.c.state.in_([LEASED, RUNNING]),
    )
    .values(state=STOPPING, stop_reason=STOP_ASKED, version=tasks.c.version + 1)
)


def stop(
    conn: Connection, task_id: int, *, actor: str, now: float, workspace: str | None = None, message: str = ""
) -> TaskState:
    """Stop a task and say its state now: `stopped`, `stopping` (its agent is told), or the end it already had.

    Raises UnknownTask, WrongState for a run outside the fleet.
    """
    row = conn.execute(_TASK, {"b_id": task_id}).first()
    if row is None or workspace not in (None, row.workspace):
        raise UnknownTask(task_id)
    if row.queue is None:
        raise WrongState(
            f"task {task_id} runs outside the fleet", "end its process where it runs; only its record is here"
        )
    told = message or f"{actor} stopped it"
    key = {"b_id": task_id, "b_generation": row.generation}
    if conn.execute(_END, key | {"b_now": now, "b_message": told}).rowcount == 1:
        return _tell(conn, row, TaskState.STOPPED, actor=actor, now=now, message=told)
    if conn.execute(_ASK, key).rowcount == 1:
        return _tell(conn, row, TaskState.STOPPING, actor=actor, now=now, message=told)
    return TaskState(row.state)


def _tell(
    conn: Connection, row: AnyRow, state: TaskState, *, actor: str, now: float, message: str
) -> TaskState:
    events.emit(
        conn,
        workspace=row.workspace,
        kind=f"task.{state.value}",
        now=now,
        actor=actor,
        message=message,
        task_id=row.id,
        instance_id=row.instance_id,
        data={"state": state.value, "queue": row.queue, "generation": row.generation},
    )
    return state
