"""Who holds a task now: what a zombie says of a task that somebody else runs is refused here."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select

from .access import Forbidden, Principal, authorise
from .database.prepared import Prepared
from .database.schema import tasks
from .problems import Problem

HELD = frozenset({"leased", "running", "stopping"})


@dataclass(frozen=True, slots=True)
class Holding:
    """A task as its present holder may write it."""

    task_id: int
    workspace: str
    generation: int
    attempt: int
    state: str
    queue: str | None
    actor: str
    code_digest: str | None


_COLUMNS = (
    tasks.c.id,
    tasks.c.workspace,
    tasks.c.generation,
    tasks.c.attempt,
    tasks.c.state,
    tasks.c.queue,
    tasks.c.actor,
    tasks.c.code_digest,
    tasks.c.instance_id,
)
_BY_ID = Prepared(
    select(*_COLUMNS).where(tasks.c.id == bindparam("task"), tasks.c.workspace == bindparam("workspace"))
)
# Not FOR UPDATE: rows that refer to the task's key are written meanwhile.
_TURN = Prepared(select(tasks.c.id).where(tasks.c.id == bindparam("task")).with_for_update(key_share=True))


def take_turn(conn: Connection, task_id: int) -> None:
    """Wait for others who write this task: what it holds is read, added to and written back."""
    _TURN.lock(conn, {"task": task_id})


def hold(conn: Connection, caller: Principal, action: str, task_id: int, generation: int) -> Holding:
    """The task, where `caller` holds it at this generation. Raises Forbidden, Problem 409 `STALE_GENERATION`.

    Called in the transaction that writes, so that a lease cannot end between the look and the write.
    """
    if caller.kind not in ("agent", "task"):
        raise Forbidden(
            "a record is written with its task's own token",
            "POST /api/v1/record/tasks answers one for your run",
        )
    authorise(caller, action, task_id=task_id, generation=generation)
    take_turn(conn, task_id)
    row = _BY_ID.first(conn, {"task": task_id, "workspace": caller.workspace})
    if row is None or row.generation != generation or row.state not in HELD:
        raise stale(task_id, generation)
    if caller.kind == "agent" and row.instance_id != caller.instance_id:
        raise stale(task_id, generation)
    return Holding(*row[:-1])


def stale(task_id: int, generation: int) -> Problem:
    return Problem(
        409,
        "STALE_GENERATION",
        "this task is not yours any more",
        f"task {task_id} is not held at generation {generation}",
        "stop writing and end the task's processes: somebody else runs it, or it is over",
    )
