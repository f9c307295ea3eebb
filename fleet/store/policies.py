"""fleet.yaml as planning takes it: pools and caps, resolved for this moment."""

from __future__ import annotations

from typing import Final

from ...config.fleet import FleetConfig
from ...config.pools import OfferFilter as FilterSection
from ...config.pools import Pool
from ..planning.model import Fallback, Limits, OfferFilter, PoolPolicy

NO_LIMIT: Final = 1_000_000
"""Instances of a pool without an upper end; the fleet's own cap holds then."""


def limits_of(fleet: FleetConfig) -> Limits:
    """The fleet's caps, with `max_instances` of each provider that has one."""
    caps = {name: getattr(section, "max_instances", None) for name, section in fleet.providers.items()}
    return Limits(
        instances=fleet.limits.instances,
        gpus=fleet.limits.gpus,
        usd_per_hour=fleet.limits.usd_per_hour,
        provider_instances={name: cap for name, cap in caps.items() if cap is not None},
    )


def policy_of(name: str, pool: Pool, *, warm_min: int = 0, protected: str = "") -> PoolPolicy:
    """One pool; `warm_min` and `protected` come from its rows."""
    fallback = pool.fallback
    return PoolPolicy(
        name=name,
        providers=pool.providers,
        filters=tuple(_filter_of(section) for section in pool.offers),
        market=pool.market,
        fallback=None if fallback is None else Fallback(fallback.after, fallback.max_share),
        instances_min=pool.instances.min,
        instances_max=NO_LIMIT if pool.instances.max is None else pool.instances.max,
        idle_timeout_seconds=pool.idle_timeout,
        max_age_seconds=pool.max_age,
        spread_zones=pool.spread.zones,
        spread_types=pool.spread.types,
        warm_min=warm_min,
        disk_bytes=pool.disk or 0,
        protected=protected,
    )


def _filter_of(section: FilterSection) -> OfferFilter:
    counts = section.gpu_counts()
    return OfferFilter(
        gpu_names=tuple(wish.name for wish in section.gpu or ()),
        gpu_count_min=counts.min,
        gpu_count_max=counts.max,
        instance_types=section.instance_types,
        cpus_min=float(section.cpus.min),
        memory_bytes_min=section.memory.min,
    )
