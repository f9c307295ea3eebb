"""From what was committed to who is to be woken: events are the one source, whoever wrote them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, func, select

from ...config.fleet import FleetConfig
from ...tracking.server.database.horizon import complete_up_to
from ...tracking.server.database.schema import events
from .dispatcher import Dispatcher

ARRIVALS_AT_ONCE_MAX: Final = 1_000
_TASK_KIND: Final = "task.queued"
_INSTANCE_KINDS: Final = ("instance.draining", "instance.terminating", "instance.lost")

_LAST: Final = select(func.max(events.c.id))
_NEW: Final = (
    select(events.c.id, events.c.kind, events.c.instance_id, events.c.data)
    .where(
        events.c.id > bindparam("b_after"),
        events.c.id <= bindparam("b_up_to"),
        events.c.kind.in_((_TASK_KIND, *_INSTANCE_KINDS)),
    )
    .order_by(events.c.id)
    .limit(ARRIVALS_AT_ONCE_MAX)
)


@dataclass(frozen=True, slots=True)
class Arrivals:
    """New tasks by queue, and instances that must hear of their drain. Ask again after `last_event_id`."""

    last_event_id: int
    by_queue: Mapping[str, int]
    instances: tuple[str, ...] = ()
    more: bool = False
    """There is more already: ask again at once."""


def arrivals(conn: Connection, *, after: int) -> Arrivals:
    """What came since event `after`; tasks in back-off are not counted, `came_due` finds them when it ends."""
    last = newest(conn) or after
    rows = conn.execute(_NEW, {"b_after": after, "b_up_to": last}).all()
    by_queue: dict[str, int] = {}
    for row in rows:
        if row.kind == _TASK_KIND and "not_before" not in row.data and row.data.get("queue"):
            by_queue[row.data["queue"]] = by_queue.get(row.data["queue"], 0) + 1
    drained = (row.instance_id for row in rows if row.kind in _INSTANCE_KINDS and row.instance_id)
    more = len(rows) == ARRIVALS_AT_ONCE_MAX
    return Arrivals(rows[-1].id if more else last, by_queue, tuple(dict.fromkeys(drained)), more)


def newest(conn: Connection) -> int:
    """Id of the newest event from which `arrivals` may go on; 0 where there is none."""
    horizon = complete_up_to(conn)
    return int(conn.execute(_LAST).scalar() or 0) if horizon is None else horizon


def announce(
    dispatcher: Dispatcher, fleet: FleetConfig, by_queue: Mapping[str, int], instances: Iterable[str] = ()
) -> None:
    """Wake as many agents as there are new tasks, in the pools that serve their queues."""
    for name, number in by_queue.items():
        queue = fleet.queues.get(name)
        if queue is not None:
            dispatcher.notify(queue.pools, number)
    for instance_id in instances:
        dispatcher.notify_instance(instance_id)
