"""The agent's sign of life: leases named are renewed, and it learns what to stop and what is not its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, bindparam, select, update

from ...agent_bootstrap.wire import Held, Stop
from ...config.task import Preempt
from ...tracking.server.database.schema import tasks
from ..planning.model import InstanceState
from ..store.schema import instances
from .rows import AnyRow
from .states import HOLDING, STOP_PREEMPTED

HELD_MAX: Final = 4_096
"""Tasks one heartbeat may name; far above what a machine holds."""


@dataclass(frozen=True, slots=True)
class Beat:
    """What goes into `wire.HeartbeatReply`, but for the credential."""

    renewed: tuple[int, ...]
    stale: tuple[Held, ...]
    stop: tuple[Stop, ...]
    drain: bool


_INSTANCE: Final = select(instances.c.state, instances.c.preempt_at).where(
    instances.c.id == bindparam("b_instance")
)
_OURS: Final = (
    select(tasks.c.id, tasks.c.generation, tasks.c.stop_reason, tasks.c.spec)
    .where(
        tasks.c.instance_id == bindparam("b_instance"),
        tasks.c.state.in_(HOLDING),
        tasks.c.stop_reason.is_not(None),
    )
    .order_by(tasks.c.id)
)
_RENEW: Final = (
    update(tasks)
    .where(
        tasks.c.id == bindparam("b_id"),
        tasks.c.generation == bindparam("b_generation"),
        tasks.c.instance_id == bindparam("b_instance"),
        tasks.c.state.in_(HOLDING),
    )
    .values(lease_until=bindparam("b_until"))
)


def heartbeat(conn: Connection, *, instance_id: str, held: Sequence[Held], now: float, ttl: float) -> Beat:
    """Renew the leases in `held` for `ttl` seconds. One past its time but not yet given away is renewed as well.

    `stop` lists every task of this instance that must end, named or not. Raises ValueError for more than HELD_MAX.
    """
    if len(held) > HELD_MAX:
        raise ValueError(f"a heartbeat names at most {HELD_MAX} tasks, this one names {len(held)}")
    instance = conn.execute(_INSTANCE, {"b_instance": instance_id}).first()
    renewed: list[int] = []
    stale: list[Held] = []
    for one in held:
        key: dict[str, Any] = {"b_id": one["task_id"], "b_generation": one["generation"]}
        key |= {"b_instance": instance_id, "b_until": now + ttl}
        if conn.execute(_RENEW, key).rowcount == 1:
            renewed.append(one["task_id"])
        else:
            stale.append({"task_id": one["task_id"], "generation": one["generation"]})
    rows = conn.execute(_OURS, {"b_instance": instance_id}).all()
    seconds_left = None
    if instance is not None and instance.preempt_at is not None:
        seconds_left = max(0.0, instance.preempt_at - now)
    ready = instance is not None and instance.state == InstanceState.READY.value
    return Beat(tuple(renewed), tuple(stale), tuple(_stops(rows, seconds_left)), drain=not ready)


def _stops(rows: Iterable[AnyRow], seconds_left: float | None) -> Iterable[Stop]:
    for row in rows:
        grace = Preempt.model_validate(row.spec.get("preempt") or {}).grace
        if row.stop_reason == STOP_PREEMPTED and seconds_left is not None:
            grace = min(grace, seconds_left)
        yield {
            "task_id": row.id,
            "generation": row.generation,
            "reason": row.stop_reason,
            "grace_seconds": grace,
        }
