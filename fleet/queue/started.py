"""The agent says that the task's own process runs: leased -> running."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, bindparam, func, select, update

from ...tracking.server import events
from ...tracking.server.database.schema import attempts, tasks
from .errors import Stale
from .states import HOLDING, LEASED, RUNNING

_START: Final = (
    update(tasks)
    .where(
        tasks.c.id == bindparam("b_id"),
        tasks.c.generation == bindparam("b_generation"),
        tasks.c.instance_id == bindparam("b_instance"),
        tasks.c.state.in_([LEASED]),
    )
    .values(
        state=RUNNING,
        started_at=func.coalesce(tasks.c.started_at, bindparam("b_now")),
        version=tasks.c.version + 1,
    )
    .returning(tasks.c.workspace, tasks.c.queue, tasks.c.attempt)
)
_HOLDER: Final = select(tasks.c.attempt).where(
    tasks.c.id == bindparam("b_id"),
    tasks.c.generation == bindparam("b_generation"),
    tasks.c.instance_id == bindparam("b_instance"),
    tasks.c.state.in_(HOLDING),
)
_ATTEMPT: Final = (
    update(attempts)
    .where(attempts.c.task_id == bindparam("b_id"), attempts.c.number == bindparam("b_attempt"))
    .values(started_at=func.coalesce(attempts.c.started_at, bindparam("b_now")))
)


def started(conn: Connection, task_id: int, generation: int, instance_id: str, now: float) -> None:
    """Note the start. Said twice, or of a task that is being stopped: nothing changes. Raises Stale."""
    key = {"b_id": task_id, "b_generation": generation, "b_instance": instance_id, "b_now": now}
    row = conn.execute(_START, key).first()
    if row is None:
        holder = conn.execute(_HOLDER, key).first()
        if holder is None:
            raise Stale(task_id, generation)
        conn.execute(_ATTEMPT, key | {"b_attempt": holder.attempt})
        return
    conn.execute(_ATTEMPT, key | {"b_attempt": row.attempt})
    events.emit(
        conn,
        workspace=row.workspace,
        kind="task.running",
        now=now,
        actor=instance_id,
        message=f"attempt {row.attempt} runs",
        task_id=task_id,
        instance_id=instance_id,
        data={"state": RUNNING, "queue": row.queue, "attempt": row.attempt, "generation": generation},
    )
