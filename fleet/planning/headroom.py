"""What the caps still allow, counted down as launches are planned."""

from __future__ import annotations

from collections import Counter
from copy import copy

from ...providers.base import Market, Offer, OfferKey
from .lifecycle import LIVE_INSTANCE
from .model import InstanceState, Limits, PoolPolicy, Snapshot
from .shapes import EPSILON

UNPROVEN = frozenset({InstanceState.INTENDED, InstanceState.LAUNCHING})
"""States in which a launch has not yet shown that its offer has capacity."""

Refusal = tuple[str, str]
"""(stable code, words)"""


class Headroom:
    """Caps of fleet, provider and pool, launch budgets of offers on probation, share of on-demand fallback."""

    def __init__(self, snapshot: Snapshot, limits: Limits) -> None:
        self._limits = limits
        self._health = snapshot.health
        live = [instance for instance in snapshot.instances if instance.state in LIVE_INSTANCE]
        self.instances = len(live)
        self.gpus = float(sum(_gpus(instance.offer) for instance in live))
        self.usd_per_hour = sum(instance.usd_per_hour for instance in live)
        self.by_provider = Counter(instance.offer.provider for instance in live)
        self.by_pool = Counter(instance.pool for instance in live)
        self.by_pool_zone = Counter((instance.pool, instance.offer.zone) for instance in live)
        self.by_pool_type = Counter((instance.pool, instance.offer.instance_type) for instance in live)
        self._on_demand = Counter(
            instance.pool for instance in live if instance.offer.market is Market.ON_DEMAND
        )
        self._unproven: Counter[OfferKey] = Counter(
            instance.offer.key for instance in live if instance.state in UNPROVEN
        )

    def copy(self) -> Headroom:
        """A headroom that counts on its own from here."""
        other = copy(self)
        other.restore(self)
        return other

    def restore(self, other: Headroom) -> None:
        """Count from where `other` stands; both are of the same snapshot and limits."""
        for name, value in vars(other).items():
            setattr(self, name, Counter(value) if isinstance(value, Counter) else value)

    def refusal(self, pool: PoolPolicy, offer: Offer, *, as_fallback: bool) -> Refusal | None:
        """Why one more instance of this offer may not be bought now, or None."""
        limits = self._limits
        price = offer.usd_per_hour or 0.0
        provider_cap = limits.provider_instances.get(offer.provider)
        if self.by_pool[pool.name] >= pool.instances_max:
            return (
                "LIMIT_POOL",
                f"pool {pool.name} has {self.by_pool[pool.name]}/{pool.instances_max} instances",
            )
        if provider_cap is not None and self.by_provider[offer.provider] >= provider_cap:
            return "LIMIT_PROVIDER", f"max_instances {self.by_provider[offer.provider]}/{provider_cap}"
        if limits.instances is not None and self.instances >= limits.instances:
            return "LIMIT_INSTANCES", f"limits.instances {self.instances}/{limits.instances}"
        if limits.gpus is not None and _gpus(offer) and self.gpus + _gpus(offer) > limits.gpus + EPSILON:
            return "LIMIT_GPUS", f"limits.gpus {self.gpus:g}+{_gpus(offer)}/{limits.gpus:g}"
        if limits.usd_per_hour is not None and self.usd_per_hour + price > limits.usd_per_hour + EPSILON:
            return (
                "LIMIT_USD_PER_HOUR",
                f"${self.usd_per_hour:.2f}+${price:.2f} of ${limits.usd_per_hour:.2f}/h",
            )
        if as_fallback and self._on_demand[pool.name] >= fallback_cap(pool):
            return "LIMIT_FALLBACK_SHARE", f"{self._on_demand[pool.name]}/{fallback_cap(pool)} on demand"
        health = self._health.get(offer.key)
        if health is not None and self._unproven[offer.key] >= health.budget:
            return "WAITING_PROBE", f"{self._unproven[offer.key]}/{health.budget} launches on probation"
        return None

    def take(self, pool: PoolPolicy, offer: Offer) -> None:
        self.instances += 1
        self.gpus += _gpus(offer)
        self.usd_per_hour += offer.usd_per_hour or 0.0
        self.by_provider[offer.provider] += 1
        self.by_pool[pool.name] += 1
        self.by_pool_zone[pool.name, offer.zone] += 1
        self.by_pool_type[pool.name, offer.instance_type] += 1
        self._unproven[offer.key] += 1
        if offer.market is Market.ON_DEMAND:
            self._on_demand[pool.name] += 1

    def crowding(self, pool: PoolPolicy, offer: Offer) -> int:
        """How far this offer's zone and type are above their even share of the pool, where it asks for spread."""
        return _above_share(
            self.by_pool_zone[pool.name, offer.zone], self.by_pool[pool.name], pool.spread_zones
        ) + (
            _above_share(
                self.by_pool_type[pool.name, offer.instance_type], self.by_pool[pool.name], pool.spread_types
            )
        )


def fallback_cap(pool: PoolPolicy) -> int:
    """How many on-demand instances a `spot_first` pool may hold: its share of the pool's size, at least one."""
    return max(1, int(pool.instances_max * pool.fallback.max_share)) if pool.fallback else 0


def _above_share(count: int, total: int, ways: int) -> int:
    if ways <= 1:
        return 0
    even = -(-(total + 1) // ways)
    return max(0, count + 1 - even)


def _gpus(offer: Offer) -> int:
    return offer.gpu.count if offer.gpu else 0
