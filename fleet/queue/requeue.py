"""A person asks for a finished task to run once more, with new budgets, at the end of its queue."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, bindparam, select, update

from ...tracking.server import events
from ...tracking.server.database.schema import tasks
from ..planning.model import TaskState
from .errors import UnknownTask, WrongState
from .leases import queue_deadline
from .states import DRAFT, QUEUED, TERMINAL

_TASK: Final = (
    select(tasks.c.id, tasks.c.workspace, tasks.c.queue, tasks.c.state, tasks.c.generation, tasks.c.spec)
    .where(tasks.c.id == bindparam("b_id"))
    .with_for_update()
)
_REQUEUE: Final = (
    update(tasks)
    .where(
        tasks.c.id == bindparam("b_id"),
        tasks.c.generation == bindparam("b_generation"),
        tasks.c.state.in_((DRAFT, *TERMINAL)),
    )
    .values(
        state=QUEUED,
        queued_at=bindparam("b_now"),
        placed_at=bindparam("b_now"),
        queue_until=bindparam("b_queue_until"),
        not_before=None,
        started_at=None,
        finished_at=None,
        attempt_base=tasks.c.attempt,
        preempted=0,
        infra=0,
        errors=0,
        requeues=0,
        stop_reason=None,
        exit_code=None,
        exit_reason=None,
        message=None,
        version=tasks.c.version + 1,
    )
)


def requeue(
    conn: Connection, task_id: int, *, actor: str, now: float, workspace: str | None = None
) -> TaskState:
    """Queue a finished task (or a draft). Already queued: nothing changes. Attempts go on counting.

    Raises UnknownTask, WrongState while it runs and for a run outside the fleet.
    """
    row = conn.execute(_TASK, {"b_id": task_id}).first()
    if row is None or workspace not in (None, row.workspace):
        raise UnknownTask(task_id)
    if row.queue is None:
        raise WrongState(
            f"task {task_id} ran outside the fleet", "submit it as a task to have the fleet run it"
        )
    if row.state == QUEUED:
        return TaskState.QUEUED
    key = {"b_id": task_id, "b_generation": row.generation, "b_now": now}
    changed = conn.execute(_REQUEUE, key | {"b_queue_until": queue_deadline(row.spec, now)})
    if changed.rowcount != 1:
        raise WrongState(f"task {task_id} is {row.state}", "stop it first, or wait until it has ended")
    events.emit(
        conn,
        workspace=row.workspace,
        kind="task.queued",
        now=now,
        actor=actor,
        message=f"{actor} requeued it",
        task_id=task_id,
        data={"state": QUEUED, "queue": row.queue, "generation": row.generation},
    )
    return TaskState.QUEUED
