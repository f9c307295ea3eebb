"""Short ways to say what a planning test starts from."""

from __future__ import annotations

from collections.abc import Mapping

from hostler.fleet.planning.model import (
    Fallback,
    GpuWish,
    InstanceState,
    InstanceView,
    OfferFilter,
    OfferHealth,
    PoolPolicy,
    Shape,
    Snapshot,
    TaskDemand,
)
from hostler.providers.base import Gpu, Market, Offer, OfferKey

GIB = 1024**3
NOW = 1_000_000.0


def offer(
    name: str = "small",
    usd: float | None = 0.10,
    *,
    provider: str = "aws",
    zone: str = "a",
    market: Market = Market.SPOT,
    cpus: float = 4,
    memory_gib: int = 16,
    gpu: str = "",
    gpus: int = 1,
) -> Offer:
    card = Gpu(gpu, gpus) if gpu else None
    return Offer(provider, "r1", zone, name, market, cpus, memory_gib * GIB, card, usd)


def task(
    task_id: int,
    *,
    gpu: str = "",
    gpus: float = 1,
    cpus: float = 1,
    memory_gib: int = 0,
    priority: int = 50,
    waited: float = 0,
    pools: tuple[str, ...] = ("pool",),
    market: Market | None = None,
) -> TaskDemand:
    wishes = tuple(GpuWish(name, gpus) for name in gpu.split("|")) if gpu else ()
    shape = Shape(cpus, memory_gib * GIB, 0, wishes)
    return TaskDemand(task_id, "default", pools, shape, priority, NOW - waited, market)


def pool(
    name: str = "pool",
    *,
    providers: tuple[str, ...] = ("aws",),
    filters: tuple[OfferFilter, ...] = (),
    market: str = "spot",
    fallback: Fallback | None = None,
    least: int = 0,
    most: int = 20,
    idle: float = 600,
    max_age: float | None = None,
    zones: int = 1,
    types: int = 1,
    warm: int = 0,
    protected: str = "",
) -> PoolPolicy:
    return PoolPolicy(
        name,
        providers,
        filters,
        market,
        fallback,
        least,
        most,
        idle,
        max_age,
        zones,
        types,
        warm,
        0,
        protected,
    )


def instance(
    instance_id: str,
    bought: Offer | None = None,
    state: InstanceState = InstanceState.READY,
    *,
    in_pool: str = "pool",
    idle_for: float | None = 0,
    leases: int = 0,
    cpus_free: float | None = None,
    age_limit_at: float | None = None,
) -> InstanceView:
    bought = bought or offer()
    gpus = (GpuWish(bought.gpu.name, bought.gpu.count),) if bought.gpu else ()
    free = Shape(bought.cpus if cpus_free is None else cpus_free, bought.memory_bytes, 0, gpus)
    idle_since = None if idle_for is None or leases else NOW - idle_for
    return InstanceView(
        instance_id,
        in_pool,
        bought,
        state,
        NOW - 3600,
        idle_since,
        leases,
        free,
        bought.usd_per_hour or 0,
        age_limit_at,
    )


def snapshot(
    *instances: InstanceView,
    pools: tuple[PoolPolicy, ...] = (),
    health: Mapping[OfferKey, OfferHealth] | None = None,
    frozen: str = "",
) -> Snapshot:
    return Snapshot({one.name: one for one in pools or (pool(),)}, instances, health or {}, frozen)


def no_capacity(until: float = 60) -> OfferHealth:
    return OfferHealth("NO_CAPACITY", "sold out", "", NOW + until)
