"""Which offers could serve a bundle of like tasks, and why the others can't."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from ...providers.base import Market, Offer, OfferKey
from .model import OfferFilter, OfferHealth, PoolPolicy, Shape, Snapshot, TaskDemand
from .shapes import Room

Rejection = tuple[str, str, str]
"""(offer or pool, stable code, words)"""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An offer that a pool may buy for a bundle. `as_fallback`: on demand in a pool that asks spot first."""

    pool: PoolPolicy
    offer: Offer
    as_fallback: bool = False

    @property
    def price(self) -> float:
        return self.offer.usd_per_hour or 0.0

    @property
    def identity(self) -> tuple[str, OfferKey]:
        return (self.pool.name, self.offer.key)

    @property
    def order(self) -> tuple[float, str, OfferKey]:
        return (self.price, self.pool.name, self.offer.key)

    def room(self) -> Room:
        return Room.of_offer(self.offer, self.pool.disk_bytes)


BundleKey = tuple[tuple[str, ...], Shape, Market | None, frozenset[str]]


@dataclass(slots=True)
class Bundle:
    """Tasks that ask for the same thing, first come first; `fallback` names pools whose delay they have sat out."""

    pools: tuple[str, ...]
    shape: Shape
    market: Market | None
    fallback: frozenset[str]
    tasks: list[TaskDemand]
    candidates: list[Candidate] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    next_at: float | None = None
    unit_price: float = 0.0
    """Least that one such task could cost an hour on any candidate; the yardstick of a purchase."""
    served: frozenset[tuple[str, OfferKey]] = frozenset()
    """Identities of the candidates."""


def bundles_of(demand: Iterable[TaskDemand], pools: Mapping[str, PoolPolicy], now: float) -> list[Bundle]:
    """Group like tasks, keeping their order; the first task's place decides the bundle's."""
    found: dict[BundleKey, Bundle] = {}
    for task in demand:
        fallback = frozenset(name for name in task.pools if name in pools and _waited(task, pools[name], now))
        key = (task.pools, task.shape, task.market, fallback)
        bundle = found.get(key)
        if bundle is None:
            bundle = found[key] = Bundle(task.pools, task.shape, task.market, fallback, [])
        bundle.tasks.append(task)
    return list(found.values())


class Catalogue:
    """Offers by provider, filtered once per pool, with what the last errors taught about each."""

    def __init__(self, offers: Sequence[Offer], snapshot: Snapshot, now: float) -> None:
        self._by_provider: dict[str, list[Offer]] = defaultdict(list)
        for offer in sorted(offers, key=lambda offer: offer.key):
            self._by_provider[offer.provider].append(offer)
        self._health = snapshot.health
        self._pools = snapshot.pools
        self._now = now
        self._in_pool: dict[str, list[Offer]] = {}

    def of_pool(self, pool: PoolPolicy) -> list[Offer]:
        """Offers that the pool's providers sell and its filters let through."""
        if pool.name not in self._in_pool:
            self._in_pool[pool.name] = [
                offer
                for provider in pool.providers
                for offer in self._by_provider[provider]
                if not pool.filters or any(passes(offer, one) for one in pool.filters)
            ]
        return self._in_pool[pool.name]

    def health(self, offer: Offer) -> OfferHealth | None:
        """What holds this offer back now, or None."""
        health = self._health.get(offer.key)
        return health if health is not None and health.blocked_until > self._now else None

    def fill(self, bundle: Bundle) -> None:
        """Find the bundle's candidates and put down why every other offer was not taken."""
        for name in bundle.pools:
            pool = self._pools.get(name)
            if pool is None:
                bundle.rejected.append((name, "POOL_GONE", "no such pool in the configuration"))
            elif pool.protected:
                bundle.rejected.append((name, "POOL_PROTECTED", pool.protected))
            elif not any(self._by_provider[provider] for provider in pool.providers):
                bundle.rejected.append((name, "NO_OFFERS_YET", "its providers have not told what they sell"))
            elif not self.of_pool(pool):
                bundle.rejected.append(
                    (name, "NOT_IN_POOL", "no offer passes the pool's providers and filters")
                )
            else:
                self._fill_from(pool, bundle)
        shares = [one.price / times for one in bundle.candidates if (times := one.room().times(bundle.shape))]
        bundle.unit_price = min(shares, default=0.0)
        bundle.served = frozenset(one.identity for one in bundle.candidates)

    def _fill_from(self, pool: PoolPolicy, bundle: Bundle) -> None:
        spot: list[Candidate] = []
        fallback: list[Candidate] = []
        for offer in self.of_pool(pool):
            candidate = Candidate(pool, offer, as_fallback=is_fallback(pool, bundle.market, offer))
            refusal = self._refusal(candidate, bundle)
            if refusal is None:
                (fallback if candidate.as_fallback else spot).append(candidate)
            else:
                bundle.rejected.append((str(offer.key), *refusal))
        for candidate in fallback if spot else ():
            bundle.rejected.append((str(candidate.offer.key), "WAITING_FALLBACK", "spot can be had"))
        bundle.candidates += spot or fallback

    def _refusal(self, candidate: Candidate, bundle: Bundle) -> tuple[str, str] | None:
        offer, pool = candidate.offer, candidate.pool
        if not candidate.room().fits(bundle.shape):
            return "TOO_SMALL", "the task doesn't fit"
        if offer.market.value not in markets(pool, bundle.market):
            return "MARKET", f"only {' or '.join(sorted(markets(pool, bundle.market)))} is asked for"
        if not offer.usd_per_hour or offer.usd_per_hour < 0:
            return "PRICE_UNKNOWN", "no price is known"
        health = self.health(offer)
        if health is not None:
            bundle.next_at = min(bundle.next_at or health.blocked_until, health.blocked_until)
            return health.code, health.detail
        if candidate.as_fallback and pool.name not in bundle.fallback and pool.fallback:
            at = bundle.tasks[0].queued_at + pool.fallback.after_seconds
            bundle.next_at = min(bundle.next_at or at, at)
            return (
                "WAITING_FALLBACK",
                f"on demand is allowed after {pool.fallback.after_seconds:g} s of waiting",
            )
        return None


def passes(offer: Offer, accepted: OfferFilter) -> bool:
    """Does the offer pass one entry of a pool's `offers`?"""
    name, count = (offer.gpu.name, offer.gpu.count) if offer.gpu else ("", 0)
    return (
        (not accepted.gpu_names or name in accepted.gpu_names)
        and count >= accepted.gpu_count_min
        and (accepted.gpu_count_max is None or count <= accepted.gpu_count_max)
        and (
            not accepted.instance_types
            or any(fnmatchcase(offer.instance_type, glob) for glob in accepted.instance_types)
        )
        and offer.cpus >= accepted.cpus_min
        and offer.memory_bytes >= accepted.memory_bytes_min
    )


def markets(pool: PoolPolicy, wish: Market | None) -> frozenset[str]:
    """Markets that may serve a task: its own wish if it has one, else the pool's."""
    if wish is not None:
        return frozenset({wish.value})
    return frozenset({"spot", "on_demand"}) if pool.market == "spot_first" else frozenset({pool.market})


def is_fallback(pool: PoolPolicy, wish: Market | None, offer: Offer) -> bool:
    return pool.market == "spot_first" and wish is None and offer.market is Market.ON_DEMAND


def _waited(task: TaskDemand, pool: PoolPolicy, now: float) -> bool:
    return pool.fallback is not None and now - task.queued_at >= pool.fallback.after_seconds
