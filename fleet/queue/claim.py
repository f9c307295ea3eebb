"""A ready instance takes a task: generation and attempt go up, the lease begins, all in one statement."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, bindparam, insert, select, update

from ...agent_bootstrap.wire import Lease
from ...config.fleet import FleetConfig
from ...tracking.server import events
from ...tracking.server.access import tokens
from ...tracking.server.database import Prepared
from ...tracking.server.database.schema import attempts, tasks
from ..planning.model import InstanceState, TaskState
from ..store.schema import instances
from .budgets import attempts_max, retry_of
from .candidates import Machine, candidates, queues_of
from .leases import FLEET, revoke_token
from .needs import Free, read_need, share_of
from .rows import AnyRow
from .states import LEASED, QUEUED


@dataclass(frozen=True, slots=True)
class Claim:
    """A lease as it is handed to the agent."""

    task_id: int
    attempt: int
    generation: int
    ttl_seconds: float
    workspace: str
    queue: str
    project: str
    name: str
    spec: dict[str, Any]
    code_digest: str | None
    task_token: str
    gpu_count: float
    cpus: float
    memory_bytes: int

    def to_lease(self) -> Lease:
        return {
            "task_id": self.task_id,
            "attempt": self.attempt,
            "generation": self.generation,
            "ttl_seconds": self.ttl_seconds,
            "project": self.project,
            "name": self.name,
            "spec": self.spec,
            "has_code": self.code_digest is not None,
            "task_token": self.task_token,
            "gpu_count": self.gpu_count,
            "cpus": self.cpus,
            "memory_bytes": self.memory_bytes,
        }


_INSTANCE: Final = Prepared(
    select(
        instances.c.id,
        instances.c.pool,
        instances.c.market,
        instances.c.offer,
        instances.c.usd_per_hour,
        instances.c.idle_since,
    )
    .where(instances.c.id == bindparam("b_instance"), instances.c.state == InstanceState.READY.value)
    .with_for_update()  # a drain that is decided meanwhile waits, and then sees the lease
)
_TAKEN = (
    tasks.c.id,
    tasks.c.workspace,
    tasks.c.queue,
    tasks.c.project,
    tasks.c.name,
    tasks.c.spec,
    tasks.c.code_digest,
    tasks.c.need,
    tasks.c.attempt,
    tasks.c.generation,
)
_FREE: Final = (
    select(tasks.c.id)
    .where(
        tasks.c.id == bindparam("b_id"),
        tasks.c.generation == bindparam("b_generation"),
        tasks.c.state == QUEUED,
    )
    # On SQLite nothing: there the writer is alone. On PostgreSQL claims that run at once look past each other.
    .with_for_update(skip_locked=True)
)
_TAKE: Final = Prepared(
    update(tasks)
    .where(tasks.c.id == _FREE.scalar_subquery())
    .values(
        state=LEASED,
        generation=tasks.c.generation + 1,
        attempt=tasks.c.attempt + 1,
        instance_id=bindparam("b_instance"),
        lease_until=bindparam("b_until"),
        not_before=None,
        queue_until=None,
        stop_reason=None,
        exit_code=None,
        exit_reason=None,
        message=None,
        version=tasks.c.version + 1,
    )
    .returning(*_TAKEN)
)
_BUSY: Final = Prepared(
    update(instances).where(instances.c.id == bindparam("b_instance")).values(idle_since=None)
)
_ATTEMPT: Final = Prepared(
    insert(attempts).values(
        task_id=bindparam("b_task"),
        number=bindparam("b_number"),
        workspace=bindparam("b_workspace"),
        generation=bindparam("b_generation"),
        instance_id=bindparam("b_instance"),
        claimed_at=bindparam("b_now"),
        usd_per_hour=bindparam("b_usd_per_hour"),
        share=bindparam("b_share"),
    )
)
_SPEC: Final = select(tasks.c.workspace, tasks.c.spec).where(tasks.c.id == bindparam("b_id"))
_BURY: Final = (
    update(tasks)
    .where(
        tasks.c.id == bindparam("b_id"),
        tasks.c.generation == bindparam("b_generation"),
        tasks.c.state == QUEUED,
    )
    .values(
        state=TaskState.DEAD.value,
        finished_at=bindparam("b_now"),
        exit_reason="attempts",
        message=bindparam("b_message"),
        version=tasks.c.version + 1,
    )
)
_UNDELIVERED: Final = Prepared(
    select(*_TAKEN)
    .where(
        tasks.c.instance_id == bindparam("b_instance"),
        tasks.c.state == LEASED,
        tasks.c.stop_reason.is_(None),
    )
    .order_by(tasks.c.id)
)
_RENEW: Final = update(tasks).where(tasks.c.id == bindparam("b_id")).values(lease_until=bindparam("b_until"))


def claim(
    conn: Connection,
    *,
    instance_id: str,
    free: Free,
    fleet: FleetConfig,
    now: float,
    held: Collection[int] | None = None,
) -> Claim | None:
    """Lease the first task that fits `free` to this instance; None if there is none or it may take nothing.

    Only an instance in state `ready` takes anything. `held` (task ids the agent says it has): a task leased to it
    that it doesn't know of is handed out once more, as the answer to its last request must have been lost.
    """
    instance = _INSTANCE.first(conn, {"b_instance": instance_id})
    if instance is None:
        return None
    ttl = fleet.daemon.lease_ttl
    if held is not None:
        for row in _UNDELIVERED.all(conn, {"b_instance": instance_id}):
            if row.id not in held:
                return _hand_out_again(conn, row, instance, free, now=now, ttl=ttl)
    machine = Machine(instance.pool, instance.market, free.room(instance.offer))
    for candidate in candidates(conn, queues_of(fleet, instance.pool), machine, now):
        if candidate.attempt > candidate.attempt_base and _is_poison(conn, candidate, now):
            continue
        taken = _take(conn, candidate, instance_id, now + ttl)
        if taken is not None:
            return _begin(conn, taken, instance, free, now=now, ttl=ttl)
    return None


def _take(conn: Connection, candidate: AnyRow, instance_id: str, until: float) -> AnyRow | None:
    taken: AnyRow | None = _TAKE.first(
        conn,
        {
            "b_id": candidate.id,
            "b_generation": candidate.generation,
            "b_instance": instance_id,
            "b_until": until,
        },
    )
    return taken


def _begin(conn: Connection, row: AnyRow, instance: AnyRow, free: Free, *, now: float, ttl: float) -> Claim:
    shape = read_need(row.need).shape
    gpus = free.room(instance.offer).gpus_for(shape) or 0.0
    _ATTEMPT.run(
        conn,
        {
            "b_task": row.id,
            "b_number": row.attempt,
            "b_workspace": row.workspace,
            "b_generation": row.generation,
            "b_instance": instance.id,
            "b_now": now,
            "b_usd_per_hour": instance.usd_per_hour,
            "b_share": share_of(shape, gpus, instance.offer),
        },
    )
    if instance.idle_since is not None:
        _BUSY.run(conn, {"b_instance": instance.id})
    events.emit(
        conn,
        workspace=row.workspace,
        kind="task.leased",
        now=now,
        actor=FLEET,
        message=f"attempt {row.attempt} goes to {instance.id}",
        task_id=row.id,
        instance_id=instance.id,
        data={
            "state": LEASED,
            "queue": row.queue,
            "attempt": row.attempt,
            "generation": row.generation,
        },
    )
    return _claim(conn, row, instance, gpus, now=now, ttl=ttl)


def _hand_out_again(
    conn: Connection, row: AnyRow, instance: AnyRow, free: Free, *, now: float, ttl: float
) -> Claim:
    """The same lease, same generation and attempt; the token nobody got is replaced."""
    revoke_token(conn, row.id, row.generation, now)
    conn.execute(_RENEW, {"b_id": row.id, "b_until": now + ttl})
    gpus = free.room(instance.offer).gpus_for(read_need(row.need).shape) or 0.0
    return _claim(conn, row, instance, gpus, now=now, ttl=ttl)


def _claim(conn: Connection, row: AnyRow, instance: AnyRow, gpus: float, *, now: float, ttl: float) -> Claim:
    secret = tokens.issue(
        conn,
        workspace=row.workspace,
        kind="task",
        actor=f"task:{row.id}",
        role="task",
        now=now,
        instance_id=instance.id,
        task_id=row.id,
        generation=row.generation,
    )
    shape = read_need(row.need).shape
    return Claim(
        task_id=row.id,
        attempt=row.attempt,
        generation=row.generation,
        ttl_seconds=ttl,
        workspace=row.workspace,
        queue=row.queue,
        project=row.project,
        name=row.name,
        spec=row.spec,
        code_digest=row.code_digest,
        task_token=secret,
        gpu_count=gpus,
        cpus=shape.cpus,
        memory_bytes=shape.memory_bytes,
    )


def _is_poison(conn: Connection, candidate: AnyRow, now: float) -> bool:
    """Claimed more often than its budgets together allow: it ends here instead of being run once more."""
    task = conn.execute(_SPEC, {"b_id": candidate.id}).one()
    allowed = attempts_max(retry_of(task.spec))
    if candidate.attempt - candidate.attempt_base < allowed:
        return False
    message = f"{allowed} attempts are all it may have"
    key = {"b_id": candidate.id, "b_generation": candidate.generation, "b_now": now, "b_message": message}
    if conn.execute(_BURY, key).rowcount == 1:
        events.emit(
            conn,
            workspace=task.workspace,
            kind="task.dead",
            now=now,
            actor=FLEET,
            message=message,
            task_id=candidate.id,
            data={"state": TaskState.DEAD.value, "attempt": candidate.attempt},
        )
    return True
