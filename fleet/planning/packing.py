"""Put tasks on machines that are there or coming, then buy the cheapest machines for the rest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ...providers.base import Market, Offer, OfferKey
from .candidates import Bundle, Candidate
from .headroom import Headroom
from .lifecycle import SUPPLY_INSTANCE
from .model import InstanceState, InstanceView, Launch, TaskDemand
from .shapes import EPSILON, Room

ALTERNATIVES_MAX = 8
"""Offers named for fail-over beside the one chosen."""


@dataclass(slots=True)
class Supply:
    """Room on one machine, standing (`instance`) or planned in this tick (`purchase`)."""

    pool: str
    market: Market
    room: Room
    instance: InstanceView | None = None
    purchase: Purchase | None = None


@dataclass(slots=True)
class Purchase:
    """A launch being put together: who it is for, and the offers that would do as well."""

    candidate: Candidate
    alternatives: tuple[Offer, ...]
    tasks: list[int] = field(default_factory=list)

    def launch(self) -> Launch:
        return Launch(self.candidate.pool.name, self.candidate.offer, tuple(self.tasks), self.alternatives)


def standing(instances: Iterable[InstanceView]) -> list[Supply]:
    """Supply of instances that serve or will serve: ready ones first, the fullest first."""
    usable = [one for one in instances if one.state in SUPPLY_INSTANCE]
    usable.sort(
        key=lambda one: (one.state is not InstanceState.READY, -one.leases, one.created_at, one.instance_id)
    )
    return [Supply(one.pool, one.offer.market, Room.of_instance(one), instance=one) for one in usable]


def place(bundle: Bundle, supplies: Sequence[Supply]) -> list[tuple[TaskDemand, Supply]]:
    """Put as many of the bundle's tasks as fit onto supplies, in order; they leave the bundle."""
    placed: list[tuple[TaskDemand, Supply]] = []
    waiting = iter(bundle.tasks)
    task = next(waiting, None)
    for supply in supplies:
        if task is None:
            break
        if supply.pool not in bundle.pools or bundle.market not in (None, supply.market):
            continue
        while task is not None and supply.room.put(bundle.shape):
            placed.append((task, supply))
            task = next(waiting, None)
    bundle.tasks = [] if task is None else [task, *waiting]
    return placed


@dataclass(slots=True)
class _Option:
    candidate: Candidate
    pattern: list[tuple[Bundle, int]]
    rank: tuple[int, float, float, str, OfferKey]


def buy(bundles: Sequence[Bundle], headroom: Headroom) -> list[Supply]:
    """Machines for bundles of one priority: again and again the purchase of least price for what it holds.

    The price of a purchase is held against what its tasks would cost at least, each at its own best offer: a machine
    that fits eight tasks is only cheap while there are eight.
    """
    bought: list[Supply] = []
    while waiting := [bundle for bundle in bundles if bundle.tasks]:
        options = _options(waiting, headroom)
        if not options:
            break
        best = options[0]
        alternatives = _alternatives(best, options)
        for _ in range(_repeats(best)):
            if headroom.refusal(
                best.candidate.pool, best.candidate.offer, as_fallback=best.candidate.as_fallback
            ):
                break
            bought.append(_purchase(best, alternatives, headroom))
    return bought


def cheapest(bundle: Bundle, headroom: Headroom) -> Candidate | None:
    """The candidate of least price that the caps still allow; for warm capacity, which no task asked for."""
    allowed = (
        one
        for one in sorted(bundle.candidates, key=lambda one: one.order)
        if headroom.refusal(one.pool, one.offer, as_fallback=one.as_fallback) is None
    )
    return next(allowed, None)


def _options(waiting: Sequence[Bundle], headroom: Headroom) -> list[_Option]:
    seen: dict[tuple[str, OfferKey], Candidate] = {}
    for bundle in waiting:
        for candidate in bundle.candidates:
            seen.setdefault(candidate.identity, candidate)
    options = []
    for candidate in seen.values():
        if headroom.refusal(candidate.pool, candidate.offer, as_fallback=candidate.as_fallback):
            continue
        pattern = _pattern(candidate, waiting)
        value = sum(bundle.unit_price * count for bundle, count in pattern)
        if pattern:
            crowding = headroom.crowding(candidate.pool, candidate.offer)
            ratio = candidate.price / value if value > 0 else candidate.price
            options.append(_Option(candidate, pattern, (crowding, ratio, *candidate.order)))
    options.sort(key=lambda option: option.rank)
    return options


def _pattern(candidate: Candidate, waiting: Sequence[Bundle]) -> list[tuple[Bundle, int]]:
    """How many of each bundle one such machine would hold, filled in the bundles' order."""
    room = candidate.room()
    pattern = []
    for bundle in waiting:
        if candidate.identity not in bundle.served:
            continue
        count = 0
        limit = min(len(bundle.tasks), room.times(bundle.shape))
        while count < limit and room.put(bundle.shape):
            count += 1
        if count:
            pattern.append((bundle, count))
        if room.cpus <= EPSILON:
            break
    return pattern


def _repeats(option: _Option) -> int:
    """How often the same purchase can be made before its pattern runs out; once where spread is asked for."""
    pool = option.candidate.pool
    if pool.spread_zones > 1 or pool.spread_types > 1:
        return 1
    return min(len(bundle.tasks) // count for bundle, count in option.pattern)


def _alternatives(best: _Option, options: Sequence[_Option]) -> tuple[Offer, ...]:
    """Offers of the same pool, best first, that would hold at least the same tasks."""
    same = (
        option.candidate.offer
        for option in options[1:]
        if option.candidate.pool is best.candidate.pool and _holds(option.pattern, best.pattern)
    )
    return tuple(offer for offer, _ in zip(same, range(ALTERNATIVES_MAX), strict=False))


def _holds(pattern: list[tuple[Bundle, int]], wanted: list[tuple[Bundle, int]]) -> bool:
    held = {id(bundle): count for bundle, count in pattern}
    return all(held.get(id(bundle), 0) >= count for bundle, count in wanted)


def _purchase(option: _Option, alternatives: tuple[Offer, ...], headroom: Headroom) -> Supply:
    candidate = option.candidate
    headroom.take(candidate.pool, candidate.offer)
    purchase = Purchase(candidate, alternatives)
    room = candidate.room()
    for bundle, count in option.pattern:
        for task in bundle.tasks[:count]:
            room.put(bundle.shape)
            purchase.tasks.append(task.task_id)
        del bundle.tasks[:count]
    return Supply(candidate.pool.name, candidate.offer.market, room, purchase=purchase)
