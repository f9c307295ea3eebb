"""Whether the sections of fleet.yaml agree: names that must exist, numbers that must fit together."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from . import third_party
from .daemon import is_loopback
from .local import LocalOffer, LocalProvider
from .nearest import one_of
from .pools import OfferFilter, Pool
from .static import StaticProvider

if TYPE_CHECKING:
    from .fleet import FleetConfig

Disagreements = Iterator[tuple[tuple[str | int, ...], str]]


def disagreements(fleet: FleetConfig) -> Disagreements:
    """(path, sentence) for each contradiction, in the order of the file."""
    yield from _daemon(fleet)
    yield from _packages(fleet)
    yield from _names(fleet)
    yield from _numbers(fleet)
    yield from _offers_that_match_nothing(fleet)


def _daemon(fleet: FleetConfig) -> Disagreements:
    away = [name for name, provider in fleet.providers.items() if is_elsewhere(provider)]
    if away and is_loopback(fleet.daemon.url):
        yield (
            ("daemon", "url"),
            (
                f"instances of provider '{away[0]}' can't reach {fleet.daemon.url}: "
                "set it to an address of this machine that they can reach"
            ),
        )


def is_elsewhere(provider: object) -> bool:
    """Whether its instances are on other machines than the daemon, which they can't reach on loopback."""
    if isinstance(provider, LocalProvider) or getattr(provider, "endpoint_url", None):
        return False
    return not (isinstance(provider, StaticProvider) and provider.is_here())


def _packages(fleet: FleetConfig) -> Disagreements:
    for name, provider in fleet.providers.items():
        if isinstance(provider, third_party.ThirdPartyProvider):
            for path, sentence in third_party.disagreements(provider):
                yield ("providers", name, *path), sentence


def _names(fleet: FleetConfig) -> Disagreements:
    for name, pool in fleet.pools.items():
        for index, provider in enumerate(pool.providers):
            if provider not in fleet.providers:
                yield ("pools", name, "providers", index), one_of(provider, fleet.providers)
    for name, queue in fleet.queues.items():
        for index, pool_name in enumerate(queue.pools):
            if pool_name not in fleet.pools:
                yield ("queues", name, "pools", index), one_of(pool_name, fleet.pools)
        yield from _preempts(fleet, name)
        yield from _queue_market(fleet, name)


def _preempts(fleet: FleetConfig, name: str) -> Disagreements:
    queue = fleet.queues[name]
    for index, other in enumerate(queue.preempts):
        path = ("queues", name, "preempts", index)
        if other not in fleet.queues:
            yield path, one_of(other, fleet.queues)
        elif other == name:
            yield path, "a queue can't preempt itself"
        elif fleet.queues[other].priority >= queue.priority:
            yield path, f"'{other}' has priority {fleet.queues[other].priority}, not below {queue.priority}"


def _queue_market(fleet: FleetConfig, name: str) -> Disagreements:
    queue = fleet.queues[name]
    pools = [(pool, fleet.pools[pool]) for pool in queue.pools if pool in fleet.pools]
    lacking = [pool_name for pool_name, pool in pools if pool.fallback is None]
    if queue.market == "spot_first" and lacking:
        yield ("queues", name, "market"), f"spot_first needs a fallback in pool '{lacking[0]}'"


def _numbers(fleet: FleetConfig) -> Disagreements:
    cap = fleet.limits.instances
    for name, pool in fleet.pools.items():
        if pool.instances.max is None and cap is None:
            yield (
                ("pools", name, "instances"),
                (
                    f"{pool.instances} has no upper end; write one, such as {pool.instances.min}..20, "
                    "or set limits.instances"
                ),
            )
        yield from _floor(fleet, name, pool)
    least = sum(_least(pool) for pool in fleet.pools.values())
    if cap is not None and least > cap:
        yield (
            ("limits", "instances"),
            f"the pools keep at least {least} instances (instances and warm), more than {cap}",
        )
    if fleet.limits.gpus == 0 and any(entry.gpu for pool in fleet.pools.values() for entry in pool.offers):
        yield ("limits", "gpus"), "0 forbids every GPU, but pools ask for some; raise it or remove it"
    if fleet.limits.usd_per_hour == 0 and least:
        yield ("limits", "usd_per_hour"), f"0 allows no instance, but the pools keep at least {least}"


def _least(pool: Pool) -> int:
    return max([pool.instances.min, *(window.min for window in pool.warm)])


def _floor(fleet: FleetConfig, name: str, pool: Pool) -> Disagreements:
    """The least a pool keeps must fit in what its providers may run."""
    caps = [getattr(fleet.providers.get(provider), "max_instances", None) for provider in pool.providers]
    if any(cap is None for cap in caps):
        return
    most = sum(cap for cap in caps if cap is not None)
    if _least(pool) > most:
        yield (
            ("pools", name, "instances"),
            f"at least {_least(pool)} are kept, but max_instances of its providers allows {most}",
        )


def _offers_that_match_nothing(fleet: FleetConfig) -> Disagreements:
    """Where every provider of a pool tells its offers in the file, a filter must match one of them."""
    for name, pool in fleet.pools.items():
        sellers = [fleet.providers.get(provider) for provider in pool.providers]
        local = [seller for seller in sellers if isinstance(seller, LocalProvider)]
        if len(local) < len(sellers):
            continue
        offers = [offer for seller in local for offer in seller.catalogue()]
        bought = [offer for offer in offers if pool.market in (offer.market, "spot_first")]
        if not bought:
            yield ("pools", name, "market"), f"no offer of its providers is sold as {pool.market}"
        for index, entry in enumerate(pool.offers):
            if not any(accepts(entry, offer) for offer in offers):
                known = ", ".join(sorted({offer.name for offer in offers}))
                yield (
                    ("pools", name, "offers", index),
                    f"matches no offer of its providers ({known})",
                )


def accepts(entry: OfferFilter, offer: LocalOffer) -> bool:
    """Whether a pool's filter takes a local provider's offer."""
    have = offer.gpu[0] if offer.gpu else None
    names = entry.gpu_names()
    count = int(have.count) if have else 0
    return (
        (not names or (have is not None and have.name in names))
        and count in entry.gpu_counts()
        and offer.cpus >= entry.cpus.min
        and offer.memory >= entry.memory.min
        and (not entry.instance_types or any(fnmatchcase(offer.name, glob) for glob in entry.instance_types))
    )
