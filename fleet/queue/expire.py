"""Leases nobody renewed and waits that took too long are ended; so is all that a vanished instance held."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, bindparam, select, update

from ...tracking.server import events
from ...tracking.server.database.schema import tasks
from ..planning.model import TaskState
from .budgets import Ending
from .leases import FLEET, HELD, Ended, end_lease
from .rows import AnyRow
from .states import HOLDING, QUEUED, STOP_PREEMPTED

LEASE_GRACE_SECONDS: Final = 5.0
"""Past its time a lease is left alone this long: the agent, which gave up at 0.8 TTL, is surely done by then."""
EXPIRED_AT_ONCE_MAX: Final = 1_000
"""Leases, and waits, that one call ends; the rest waits for the next, so that the writer is never held for long."""

_LAPSED: Final = (
    HELD.where(tasks.c.state.in_(HOLDING), tasks.c.lease_until < bindparam("b_before"))
    .where(tasks.c.queue.is_not(None))
    .order_by(tasks.c.lease_until, tasks.c.id)
    .limit(EXPIRED_AT_ONCE_MAX)
    .with_for_update(skip_locked=True)
)
_HELD_BY: Final = (
    HELD.where(tasks.c.instance_id == bindparam("b_instance"), tasks.c.state.in_(HOLDING))
    .where(tasks.c.queue.is_not(None))
    .order_by(tasks.c.id)
    .with_for_update()
)
_WAITED: Final = (
    select(tasks.c.id, tasks.c.workspace, tasks.c.queue, tasks.c.generation)
    .where(tasks.c.queue_until < bindparam("b_now"), tasks.c.state == QUEUED, tasks.c.queue.is_not(None))
    .order_by(tasks.c.queue_until, tasks.c.id)
    .limit(EXPIRED_AT_ONCE_MAX)
)
_GIVE_UP: Final = (
    update(tasks)
    .where(
        tasks.c.id == bindparam("b_id"),
        tasks.c.generation == bindparam("b_generation"),
        tasks.c.state.in_([QUEUED]),
    )
    .values(
        state=TaskState.FAILED.value,
        finished_at=bindparam("b_now"),
        queue_until=None,
        not_before=None,
        exit_reason="queue_timeout",
        message="it waited longer than timeout.queue allows",
        version=tasks.c.version + 1,
    )
)


def expire(
    conn: Connection, *, now: float, ttl: float, up_since: float, grace: float = LEASE_GRACE_SECONDS
) -> tuple[Ended, ...]:
    """End leases that are over since `grace` seconds, and waits beyond `timeout.queue`; oldest first.

    No lease is ended before the server was up for one `ttl`: agents must have had the chance to come back.
    """
    ended = [] if now < up_since + ttl else _lapsed(conn, now, grace)
    return (*ended, *_waited(conn, now))


def requeue_of_instance(
    conn: Connection, instance_id: str, outcome: str, now: float, message: str = ""
) -> tuple[Ended, ...]:
    """End all leases of an instance that is gone. `outcome`: lost, preempted or infra; each by its own budget.

    Tasks that were being stopped end as stopped. Raises ValueError for another outcome.
    """
    if outcome not in (Ending.LOST.value, Ending.PREEMPTED.value, Ending.INFRA.value):
        raise ValueError(f"outcome '{outcome}' is none of lost, preempted, infra")
    rows = conn.execute(_HELD_BY, {"b_instance": instance_id}).all()
    told = message or f"instance {instance_id} is gone"
    return tuple(
        _end(conn, row, Ending(outcome), now, reason=f"instance_{outcome}", message=told) for row in rows
    )


def _lapsed(conn: Connection, now: float, grace: float) -> list[Ended]:
    rows = conn.execute(_LAPSED, {"b_before": now - grace}).all()
    return [
        _end(conn, row, Ending.LOST, now, reason="lease_expired", message="its agent fell silent")
        for row in rows
    ]


def _end(conn: Connection, row: AnyRow, ending: Ending, now: float, *, reason: str, message: str) -> Ended:
    if row.stop_reason == STOP_PREEMPTED and ending is Ending.LOST:
        ending = Ending.PREEMPTED  # the notice was there before the silence
    # Nothing ran after the lease: the agent ends a task it can no longer renew.
    return end_lease(conn, row, ending, now=now, worked_until=row.lease_until, reason=reason, message=message)


def _waited(conn: Connection, now: float) -> list[Ended]:
    ended = []
    for row in conn.execute(_WAITED, {"b_now": now}).all():
        key = {"b_id": row.id, "b_generation": row.generation, "b_now": now}
        if conn.execute(_GIVE_UP, key).rowcount != 1:
            continue
        ended.append(Ended(row.id, row.queue, TaskState.FAILED))
        events.emit(
            conn,
            workspace=row.workspace,
            kind="task.failed",
            now=now,
            actor=FLEET,
            message="it waited longer than timeout.queue allows",
            task_id=row.id,
            data={"state": TaskState.FAILED.value, "queue": row.queue, "outcome": "queue_timeout"},
        )
    return ended
