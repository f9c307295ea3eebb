"""All that planning may know of the present, read in one transaction."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection, bindparam, func, literal_column, select

from ...config.fleet import FleetConfig
from ...providers.base import Offer, OfferKey
from ...tracking.server.database import Prepared
from ...tracking.server.database.schema import tasks
from ..planning.model import GpuWish, InstanceState, InstanceView, PoolPolicy, Shape, Snapshot
from ..planning.shapes import Room
from . import frozen, health, instances, pools
from .policies import policy_of
from .schema import cron_slots
from .schema import offers as offers_table

NEEDS_REMEMBERED: Final = 4_096
HOLDING: Final = instances.HOLDING


def read(
    conn: Connection,
    fleet: FleetConfig,
    now: float,
    *,
    workspace: str = "default",
    offers: Iterable[Offer] | None = None,
) -> Snapshot:
    """The snapshot at `now`. Health is given for `offers` (None: the catalogue as stored) and live instances."""
    rows = instances.live(conn, workspace=workspace)
    held = _held(conn)
    views = tuple(_view(row, held.get(row["id"], ()), fleet) for row in rows)
    known = _stored_keys(conn) if offers is None else {offer.key for offer in offers}
    return Snapshot(
        pools=_policies(conn, fleet, workspace, now),
        instances=views,
        health=health.of_offers(conn, known | {view.offer.key for view in views}),
        frozen=frozen.reason(conn),
    )


def _policies(conn: Connection, fleet: FleetConfig, workspace: str, now: float) -> Mapping[str, PoolPolicy]:
    protected = pools.protected(conn, workspace)
    warm = _warm(conn, workspace, now)
    return {
        name: policy_of(name, pool, warm_min=warm.get(name, 0), protected=protected.get(name, ""))
        for name, pool in fleet.pools.items()
    }


# Asked at each tick: prepared, since building a statement costs more than running it.
_WARM: Final = Prepared(
    select(cron_slots.c.pool, func.max(cron_slots.c.min).label("min"))
    .where(
        cron_slots.c.workspace == bindparam("b_workspace"),
        cron_slots.c.fired_slot <= bindparam("b_now"),
        cron_slots.c.until > bindparam("b_now"),
    )
    .group_by(cron_slots.c.pool)
)
_HELD: Final = Prepared(
    select(tasks.c.instance_id, tasks.c.need).where(
        tasks.c.state.in_([literal_column(f"'{state}'") for state in HOLDING]),
        tasks.c.instance_id.is_not(None),
    )
)


def _warm(conn: Connection, workspace: str, now: float) -> dict[str, int]:
    """How many instances the open windows of each pool ask for."""
    rows = _WARM.all(conn, {"b_workspace": workspace, "b_now": now})
    return {row[0]: int(row[1]) for row in rows}


def _held(conn: Connection) -> dict[str, list[Shape]]:
    """What the tasks on each instance take."""
    held: dict[str, list[Shape]] = defaultdict(list)
    for row in _HELD.all(conn, {}):
        held[row.instance_id].append(_shape(row.need or ""))
    return held


@lru_cache(maxsize=NEEDS_REMEMBERED)
def _shape(need: str) -> Shape:
    """The shape in a task's `need`, canonical JSON of what it asks for."""
    values = json.loads(need) if need else {}
    return Shape(
        cpus=float(values.get("cpus", 0)),
        memory_bytes=int(values.get("memory", 0)),
        disk_bytes=int(values.get("disk", 0)),
        gpus=tuple(GpuWish(name, float(count)) for name, count in values.get("gpus", ())),
    )


def _view(row: Mapping[str, Any], held: Iterable[Shape], fleet: FleetConfig) -> InstanceView:
    offer = instances.offer_from_dict(row["offer"])
    pool = fleet.pools.get(row["pool"])
    shapes = list(held)
    state = InstanceState(row["state"])
    begun = row["launched_at"] or row["created_at"]
    limit = None if pool is None or pool.max_age is None else begun + pool.max_age
    return InstanceView(
        instance_id=row["id"],
        pool=row["pool"],
        offer=offer,
        state=state,
        created_at=row["created_at"],
        idle_since=_idle_since(row, state, bool(shapes)),
        leases=len(shapes),
        free=_free(offer, (pool.disk or 0) if pool else 0, shapes),
        usd_per_hour=row["usd_per_hour"],
        age_limit_at=limit,
    )


def _idle_since(row: Mapping[str, Any], state: InstanceState, busy: bool) -> float | None:
    """An instance that never had a lease is idle since it joined."""
    if busy or state not in (InstanceState.READY, InstanceState.DRAINING):
        return None
    since = row["idle_since"] or row["ready_at"] or row["created_at"]
    return float(since)


def _free(offer: Offer, disk_bytes: int, held: Iterable[Shape]) -> Shape:
    """What is left of the machine as it was sold; what a task finds no room for takes nothing below zero."""
    room = Room.of_offer(offer, disk_bytes)
    for shape in held:
        if not room.put(shape):
            room.cpus = max(0.0, room.cpus - shape.cpus)
            room.memory_bytes = max(0, room.memory_bytes - shape.memory_bytes)
    gpus = (GpuWish(room.gpu_name, room.gpus),) if room.gpu_name else ()
    return Shape(room.cpus, room.memory_bytes, room.disk_bytes, gpus)


def _stored_keys(conn: Connection) -> set[OfferKey]:
    query = select(offers_table.c.key)
    return {OfferKey(*row.key.split("/", 4)) for row in conn.execute(query)}
