"""The agent's result: committed once, answered the same each time it is sent."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, bindparam, select

from ...agent_bootstrap.wire import Result
from ...tracking.server.database import Prepared
from ...tracking.server.database.schema import attempts, tasks
from ..planning.model import TaskState
from .budgets import Ending
from .errors import Stale
from .leases import HELD, end_lease
from .rows import AnyRow
from .states import HOLDING, STOP_PREEMPTED

REASON_CHARACTERS_MAX: Final = 64
MESSAGE_CHARACTERS_MAX: Final = 4_096
ENDING_OF: Final = {
    "completed": Ending.COMPLETED,
    "failed": Ending.FAILED,
    "preempted": Ending.PREEMPTED,
    "requeue": Ending.REQUEUE,
    "permanent": Ending.PERMANENT,
    "infra": Ending.INFRA,
    "timeout": Ending.TIMEOUT,
}
"""By `Result.outcome`; `stopped` depends on who asked for it."""
OUTCOMES: Final = (*ENDING_OF, "stopped")

_TASK: Final = Prepared(HELD.where(tasks.c.id == bindparam("b_id")).with_for_update())
_ATTEMPT: Final = select(
    attempts.c.instance_id, attempts.c.outcome, attempts.c.exit_code, attempts.c.exit_reason
).where(
    attempts.c.task_id == bindparam("b_id"),
    attempts.c.number == bindparam("b_attempt"),
    attempts.c.generation == bindparam("b_generation"),
)


def finish(
    conn: Connection, *, task_id: int, generation: int, instance_id: str, result: Result, now: float
) -> TaskState:
    """End the attempt and say where the task went. Raises Stale, ValueError for an unknown outcome.

    Sent again because the answer was lost, the same result of the same generation finds the task as it is now.
    """
    if result["outcome"] not in OUTCOMES:
        raise ValueError(f"outcome '{result['outcome']}' is none of {', '.join(OUTCOMES)}")
    row = _TASK.first(conn, {"b_id": task_id})
    if row is None or row.queue is None or row.generation != generation:
        raise Stale(task_id, generation)
    reason = (result["reason"] or result["outcome"])[:REASON_CHARACTERS_MAX]
    if row.state not in HOLDING or row.instance_id != instance_id:
        return _said_before(conn, row, instance_id, result, reason)
    ended = end_lease(
        conn,
        row,
        _ending(row, result["outcome"]),
        now=now,
        exit_code=result["exit_code"],
        reason=reason,
        message=result["message"][:MESSAGE_CHARACTERS_MAX],
    )
    return ended.state


def _ending(row: AnyRow, outcome: str) -> Ending:
    if outcome != "stopped":
        return ENDING_OF[outcome]
    # Nobody asked for the task's end (`end_lease` looks at that first): its machine stopped it.
    return Ending.PREEMPTED if row.stop_reason == STOP_PREEMPTED else Ending.INFRA


def _said_before(conn: Connection, row: AnyRow, instance_id: str, result: Result, reason: str) -> TaskState:
    key = {"b_id": row.id, "b_attempt": row.attempt, "b_generation": row.generation}
    attempt = conn.execute(_ATTEMPT, key).first()
    same = (
        attempt is not None
        and attempt.instance_id == instance_id
        and attempt.exit_code == result["exit_code"]
        and attempt.exit_reason == reason
        and attempt.outcome in _recorded_as(result["outcome"])
    )
    if not same:
        raise Stale(row.id, row.generation)
    return TaskState(row.state)


def _recorded_as(outcome: str) -> tuple[str, ...]:
    """Which `attempts.outcome` a result may have been written as."""
    if outcome == "completed":
        return (Ending.COMPLETED.outcome,)
    if outcome == "stopped":
        return (Ending.STOPPED.outcome, Ending.PREEMPTED.outcome, Ending.INFRA.outcome)
    return (ENDING_OF[outcome].outcome, Ending.STOPPED.outcome)
