"""A task enters: checked against the fleet, resolved, written once however often it is sent."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, bindparam, select, update

from ...config.fleet import FleetConfig
from ...config.task import TaskSpec
from ...tracking.server import events
from ...tracking.server import tasks as record
from ...tracking.server.database.schema import tasks
from .errors import UnknownQueue
from .leases import queue_deadline
from .needs import write_need
from .states import DRAFT, QUEUED

_PLACE: Final = (
    update(tasks)
    .where(tasks.c.id == bindparam("b_id"), tasks.c.queue.is_not(None), tasks.c.placed_at.is_(None))
    .values(
        need=bindparam("b_need"), placed_at=bindparam("b_placed_at"), queue_until=bindparam("b_queue_until")
    )
)
_ROW: Final = select(tasks).where(tasks.c.id == bindparam("b_id"))


def submit(
    conn: Connection,
    *,
    workspace: str,
    actor: str,
    uid: str,
    spec: TaskSpec,
    fleet: FleetConfig,
    now: float,
    code_digest: str | None = None,
    parent_id: int | None = None,
    draft: bool = False,
) -> dict[str, Any]:
    """Write the task, state `queued` (or `draft`: it waits until requeued), and return its row.

    The same (workspace, uid) again returns the task it made the first time, as it is now. Priority comes from
    the queue unless the task says its own. Raises UnknownQueue.
    """
    queue = fleet.queues.get(spec.queue)
    if queue is None:
        raise UnknownQueue(spec.queue, fleet.queues)
    values = spec.to_dict()
    row = record.create(
        conn,
        workspace=workspace,
        uid=uid,
        project=spec.project,
        name=spec.name,
        queue=spec.queue,
        priority=queue.priority if spec.priority is None else spec.priority,
        spec=values,
        tags=list(spec.tags),
        actor=actor,
        now=now,
        state=DRAFT if draft else QUEUED,
        code_digest=code_digest,
        parent_id=parent_id,
    )
    deadline = None if draft else queue_deadline(values, now)
    placed = conn.execute(
        _PLACE,
        {"b_id": row["id"], "b_need": write_need(spec), "b_placed_at": now, "b_queue_until": deadline},
    )
    if placed.rowcount != 1:
        return row  # it was here already
    events.emit(
        conn,
        workspace=workspace,
        kind=f"task.{row['state']}",
        now=now,
        actor=actor,
        message=f"{spec.name} submitted to {spec.queue}",
        task_id=row["id"],
        data={"state": row["state"], "queue": spec.queue, "priority": row["priority"]},
    )
    return dict(conn.execute(_ROW, {"b_id": row["id"]}).mappings().one())
