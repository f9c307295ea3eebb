"""The end of a lease, however it comes: result, expiry, vanished instance. One place writes it.

Task, attempt, token, idle clock of the instance and event change in one transaction, and only where the row is
still as it was read: whoever comes second changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, and_, bindparam, exists, func, select, update

from ...config.task import Timeout
from ...tracking.server import events
from ...tracking.server.database import Prepared
from ...tracking.server.database.schema import artifacts, attempts, tasks, tokens
from ..planning.lifecycle import TERMINAL_TASK
from ..planning.model import TaskState
from ..store.schema import instances
from .budgets import Counts, Ending, Verdict, retry_of, verdict
from .errors import Stale
from .rows import AnyRow, AnySelect
from .states import HOLDING, QUEUED, STOPPING, among

FLEET: Final = "hostler"
"""The actor of what nobody asked for."""

HELD: Final[AnySelect] = select(
    tasks.c.id,
    tasks.c.workspace,
    tasks.c.queue,
    tasks.c.state,
    tasks.c.generation,
    tasks.c.attempt,
    tasks.c.attempt_base,
    tasks.c.instance_id,
    tasks.c.lease_until,
    tasks.c.stop_reason,
    tasks.c.preempted,
    tasks.c.infra,
    tasks.c.errors,
    tasks.c.requeues,
    tasks.c.exit_code,
    tasks.c.exit_reason,
    tasks.c.spec,
)
"""What `end_lease` must know of a task."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a task whose lease or wait is over."""

    task_id: int
    queue: str
    state: TaskState
    not_before: float | None = None


_END_TASK = Prepared(
    update(tasks)
    .where(
        tasks.c.id == bindparam("b_id"),
        tasks.c.generation == bindparam("b_generation"),
        tasks.c.state == bindparam("b_held"),
        among(tasks.c.state, HOLDING),
    )
    .values(
        state=bindparam("b_state"),
        instance_id=None,
        lease_until=None,
        stop_reason=None,
        not_before=bindparam("b_not_before"),
        queued_at=func.coalesce(bindparam("b_queued_at"), tasks.c.queued_at),
        queue_until=bindparam("b_queue_until"),
        finished_at=bindparam("b_finished_at"),
        preempted=bindparam("b_preempted"),
        infra=bindparam("b_infra"),
        errors=bindparam("b_errors"),
        requeues=bindparam("b_requeues"),
        exit_code=bindparam("b_exit_code"),
        exit_reason=bindparam("b_exit_reason"),
        message=bindparam("b_message"),
        version=tasks.c.version + 1,
    )
)
_END_ATTEMPT = Prepared(
    update(attempts)
    .where(attempts.c.task_id == bindparam("b_id"), attempts.c.number == bindparam("b_attempt"))
    .values(
        finished_at=bindparam("b_now"),
        outcome=bindparam("b_outcome"),
        exit_code=bindparam("b_exit_code"),
        exit_reason=bindparam("b_exit_reason"),
        message=bindparam("b_message"),
        lost_seconds=bindparam("b_lost_seconds"),
    )
)
_REVOKE = Prepared(
    update(tokens)
    .where(
        tokens.c.task_id == bindparam("b_id"),
        tokens.c.generation <= bindparam("b_generation"),
        tokens.c.kind == "task",
        tokens.c.revoked_at.is_(None),
    )
    .values(revoked_at=bindparam("b_now"))
)
_IDLE = Prepared(
    update(instances)
    .where(
        instances.c.id == bindparam("b_instance"),
        instances.c.idle_since.is_(None),
        ~exists().where(and_(tasks.c.instance_id == bindparam("b_instance"), among(tasks.c.state, HOLDING))),
    )
    .values(idle_since=bindparam("b_now"))
)
_ITS_INSTANCE = Prepared(
    select(instances.c.id).where(instances.c.id == bindparam("b_instance")).with_for_update()
)
_STARTED = select(attempts.c.started_at).where(
    attempts.c.task_id == bindparam("b_id"), attempts.c.number == bindparam("b_attempt")
)
_SAVED = select(func.max(artifacts.c.created_at)).where(
    artifacts.c.task_id == bindparam("b_id"),
    artifacts.c.type == "checkpoint",
    artifacts.c.attempt == bindparam("b_attempt"),
)


def counts_of(row: AnyRow) -> Counts:
    return Counts(row.attempt - row.attempt_base, row.preempted, row.infra, row.errors, row.requeues)


def queue_deadline(spec: Mapping[str, Any], now: float) -> float | None:
    """When a wait that begins now is too long, by the task's `timeout.queue`."""
    given = (spec.get("timeout") or {}).get("queue")
    if given is None:
        return None
    seconds = Timeout.model_validate({"queue": given}).queue
    return None if seconds is None else now + seconds


def revoke_token(conn: Connection, task_id: int, generation: int, now: float) -> None:
    """Task tokens of this lease and older ones open nothing any more."""
    _REVOKE.run(conn, {"b_id": task_id, "b_generation": generation, "b_now": now})


def end_lease(
    conn: Connection,
    held: AnyRow,
    ending: Ending,
    *,
    now: float,
    worked_until: float | None = None,
    exit_code: int | None = None,
    reason: str = "",
    message: str = "",
) -> Ended:
    """End the lease that `held` (a row of `HELD`) tells of. Raises Stale if it isn't so any more.

    A task that somebody asked to stop is not run again, whatever ended it; it counts as completed if it was.
    `worked_until` is when work is known to have ended, where that was before `now`.
    """
    if held.state == STOPPING and ending not in (Ending.COMPLETED, Ending.LOST):
        ending = Ending.STOPPED
    judged = _judge(held, ending)
    back = judged.state is TaskState.QUEUED
    text = "; ".join(part for part in (message, judged.message) if part)
    lost = _lost_seconds(conn, held, min(now, worked_until or now)) if _is_lost(ending) else None
    not_before = now + judged.wait_seconds if judged.wait_seconds else None
    values: dict[str, Any] = {
        "b_id": held.id,
        "b_generation": held.generation,
        "b_attempt": held.attempt,
        "b_instance": held.instance_id,
        "b_held": held.state,
        "b_now": now,
        "b_exit_code": exit_code,
        "b_exit_reason": reason,
        "b_message": text,
    }
    # Two that end at once on one machine must not both take the other for still held: it would never be idle.
    _ITS_INSTANCE.lock(conn, values)
    changed = _END_TASK.run(
        conn,
        values
        | {
            "b_state": judged.state.value,
            "b_not_before": not_before,
            "b_queued_at": now if back else None,
            "b_queue_until": queue_deadline(held.spec, now) if back else None,
            "b_finished_at": None if back else now,
            "b_preempted": judged.counts.preempted,
            "b_infra": judged.counts.infra,
            "b_errors": judged.counts.errors,
            "b_requeues": judged.counts.requeues,
        },
    )
    if changed != 1:
        raise Stale(held.id, held.generation)
    _END_ATTEMPT.run(conn, values | {"b_outcome": ending.outcome, "b_lost_seconds": lost})
    revoke_token(conn, held.id, held.generation, now)
    _IDLE.run(conn, {"b_instance": held.instance_id, "b_now": now})
    ended = Ended(held.id, held.queue, judged.state, not_before)
    _tell(conn, held, ended, ending, text=text, now=now)
    return ended


def _judge(held: AnyRow, ending: Ending) -> Verdict:
    if held.state == STOPPING and ending is not Ending.COMPLETED:
        return Verdict(TaskState.STOPPED, counts_of(held))
    if ending is Ending.COMPLETED:
        return Verdict(TaskState.COMPLETED, counts_of(held))
    return verdict(ending, counts_of(held), retry_of(held.spec))


def _is_lost(ending: Ending) -> bool:
    """Whether the work since the last checkpoint has to be done again, or would have to be."""
    return ending not in (Ending.COMPLETED, Ending.STOPPED)


def _lost_seconds(conn: Connection, held: AnyRow, until: float) -> float:
    """Since the attempt's newest checkpoint, else since it began to run; 0 if it never did."""
    key = {"b_id": held.id, "b_attempt": held.attempt}
    since = conn.execute(_SAVED, key).scalar()
    if since is None:
        since = conn.execute(_STARTED, key).scalar()
    return 0.0 if since is None else max(0.0, until - since)


def _tell(conn: Connection, held: AnyRow, ended: Ended, ending: Ending, *, text: str, now: float) -> None:
    data: dict[str, Any] = {
        "state": ended.state.value,
        "queue": held.queue,
        "outcome": ending.outcome,
        "attempt": held.attempt,
        "generation": held.generation,
    }
    if ended.state.value == QUEUED and ended.not_before is not None:
        data["not_before"] = ended.not_before
    words = "ended" if ended.state in TERMINAL_TASK else "goes back to the queue"
    events.emit(
        conn,
        workspace=held.workspace,
        kind=f"task.{ended.state.value}",
        now=now,
        actor=FLEET,
        message=text or f"attempt {held.attempt} {words}: {ending.outcome}",
        task_id=held.id,
        instance_id=held.instance_id,
        data=data,
    )
