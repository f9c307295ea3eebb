"""Buy the cheapest machines for tasks that found no place: again and again the least price for what it holds."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ...providers.base import Offer, OfferKey
from .candidates import Bundle, Candidate
from .headroom import Headroom
from .packing import Purchase, Supply
from .shapes import EPSILON, Room

ALTERNATIVES_MAX = 8
"""Offers named for fail-over beside the one chosen."""
LOOKED_AT_MAX = 64
"""Offers that are tried for fail-over, best first, before it is left at those found."""

Pattern = list[tuple[Bundle, int]]
"""How many tasks of each bundle go onto one machine."""
Rank = tuple[int, float, float, str, OfferKey]


def buy(bundles: Sequence[Bundle], headroom: Headroom) -> list[Supply]:
    """Machines for bundles of one priority; the tasks that got one leave their bundle.

    The price of a purchase is held against what its tasks would cost at least, each at its own best offer: a machine
    that fits eight tasks is only cheap while there are eight. Where the caps leave tasks out, it is first come first
    served instead: a cheap task must not pass an older one for ever.
    """
    before = headroom.copy()
    tasks = [list(bundle.tasks) for bundle in bundles]
    bought = _cheapest_first(bundles, headroom)
    if not any(bundle.tasks and bundle.candidates for bundle in bundles):
        return bought
    headroom.restore(before)
    for bundle, everyone in zip(bundles, tasks, strict=True):
        bundle.tasks = everyone
    return _oldest_first(bundles, headroom)


def _cheapest_first(bundles: Sequence[Bundle], headroom: Headroom) -> list[Supply]:
    # Large tasks first: small ones fill the gaps that are left.
    waiting = sorted((bundle for bundle in bundles if bundle.tasks), key=_size, reverse=True)
    shelf = _Shelf(waiting, headroom)
    bought: list[Supply] = []
    while (option := shelf.best(waiting)) is not None:
        alternatives = shelf.alternatives(option)
        for _ in range(_repeats(option)):
            if _refused(option.candidate, headroom):
                break
            bought.append(_purchase(option, alternatives, headroom))
        waiting = [bundle for bundle in waiting if bundle.tasks]
    return bought


def _oldest_first(bundles: Sequence[Bundle], headroom: Headroom) -> list[Supply]:
    """Each purchase is for the task that waits longest; what else fits on its machine comes along, in order."""
    waiting = [bundle for bundle in bundles if bundle.tasks]
    bought: list[Supply] = []
    while waiting:
        waiting.sort(key=lambda bundle: (bundle.tasks[0].queued_at, bundle.tasks[0].task_id))
        shelf = _Shelf(waiting, headroom, waiting[0].candidates)
        option = shelf.best(waiting)
        if option is None:
            waiting = waiting[1:]  # nothing can be had for it; the next in line may ask for something else
            continue
        bought.append(_purchase(option, shelf.alternatives(option), headroom))
        waiting = [bundle for bundle in waiting if bundle.tasks]
    return bought


def cheapest(bundle: Bundle, headroom: Headroom) -> Candidate | None:
    """The candidate of least price that the caps still allow; for warm capacity, which no task asked for."""
    in_order = sorted(bundle.candidates, key=lambda one: one.order)
    return next((one for one in in_order if not _refused(one, headroom)), None)


@dataclass(slots=True)
class _Option:
    candidate: Candidate
    pattern: Pattern
    rank: Rank


class _Shelf:
    """Candidates by rank. As tasks leave a rank can only get worse: a stale one is looked at again when on top."""

    def __init__(
        self, waiting: Sequence[Bundle], headroom: Headroom, only: Sequence[Candidate] | None = None
    ) -> None:
        self._headroom = headroom
        offered = (one for bundle in waiting for one in bundle.candidates) if only is None else only
        candidates = {one.identity: one for one in offered}
        # Where a pool spreads its machines every purchase changes the order of the others.
        self._fickle = any(_spreads(one) for one in candidates.values())
        self._heap = [(option.rank, option.candidate) for option in self._look(candidates.values(), waiting)]
        heapq.heapify(self._heap)

    def best(self, waiting: Sequence[Bundle]) -> _Option | None:
        """The purchase of least price now; None when nothing more can be bought."""
        if self._fickle:
            options = self._look([candidate for _, candidate in self._heap], waiting)
            self._heap = sorted((option.rank, option.candidate) for option in options)
        while self._heap:
            _, candidate = self._heap[0]
            option = self._option(candidate, waiting)
            if option is None:
                heapq.heappop(self._heap)  # caps only tighten and tasks only leave: it won't come back
            elif len(self._heap) == 1 or option.rank <= min(entry[0] for entry in self._heap[1:3]):
                heapq.heapreplace(self._heap, (option.rank, candidate))
                return option
            else:
                heapq.heapreplace(self._heap, (option.rank, candidate))
        return None

    def alternatives(self, best: _Option) -> tuple[Offer, ...]:
        """Offers of the same pool, best first, that would hold the same tasks."""
        found: list[Offer] = []
        for _, candidate in heapq.nsmallest(LOOKED_AT_MAX, self._heap):
            same_pool = candidate.pool is best.candidate.pool and candidate is not best.candidate
            if same_pool and _holds(candidate, best.pattern):
                found.append(candidate.offer)
            if len(found) == ALTERNATIVES_MAX:
                break
        return tuple(found)

    def _look(self, candidates: Iterable[Candidate], waiting: Sequence[Bundle]) -> list[_Option]:
        found = (self._option(candidate, waiting) for candidate in candidates)
        return [option for option in found if option is not None]

    def _option(self, candidate: Candidate, waiting: Sequence[Bundle]) -> _Option | None:
        if _refused(candidate, self._headroom):
            return None
        pattern = _pattern(candidate, waiting)
        if not pattern:
            return None
        value = sum(bundle.unit_price * count for bundle, count in pattern)
        ratio = candidate.price / value if value > 0 else candidate.price
        crowding = self._headroom.crowding(candidate.pool, candidate.offer)
        return _Option(candidate, pattern, (crowding, ratio, *candidate.order))


def _pattern(candidate: Candidate, waiting: Sequence[Bundle]) -> Pattern:
    """How many of each bundle one such machine would hold, filled in the bundles' order."""
    room = candidate.room()
    identity = candidate.identity
    pattern: Pattern = []
    cpus, memory_bytes = room.cpus + EPSILON, room.memory_bytes
    for bundle in waiting:
        shape = bundle.shape
        if shape.cpus > cpus or shape.memory_bytes > memory_bytes or identity not in bundle.served:
            continue
        count = room.fill(shape, len(bundle.tasks))
        if count:
            pattern.append((bundle, count))
            cpus, memory_bytes = room.cpus + EPSILON, room.memory_bytes
            if room.cpus <= EPSILON:
                break
    return pattern


def _holds(candidate: Candidate, pattern: Pattern) -> bool:
    room = candidate.room()
    return all(
        candidate.identity in bundle.served and room.fill(bundle.shape, count) == count
        for bundle, count in pattern
    )


def _repeats(option: _Option) -> int:
    """How often the same purchase can be made before its pattern runs out; once where spread is asked for."""
    if _spreads(option.candidate):
        return 1
    return min(len(bundle.tasks) // count for bundle, count in option.pattern)


def _purchase(option: _Option, alternatives: tuple[Offer, ...], headroom: Headroom) -> Supply:
    candidate = option.candidate
    headroom.take(candidate.pool, candidate.offer)
    purchase = Purchase(candidate, alternatives)
    room: Room = candidate.room()
    for bundle, count in option.pattern:
        room.fill(bundle.shape, count)
        purchase.tasks += [task.task_id for task in bundle.tasks[:count]]
        del bundle.tasks[:count]
    return Supply(candidate.pool.name, candidate.offer.market, room, purchase=purchase)


def _refused(candidate: Candidate, headroom: Headroom) -> bool:
    return headroom.refusal(candidate.pool, candidate.offer, as_fallback=candidate.as_fallback) is not None


def _spreads(candidate: Candidate) -> bool:
    return candidate.pool.spread_zones > 1 or candidate.pool.spread_types > 1


def _size(bundle: Bundle) -> tuple[float, float, int, float]:
    """What one task of the bundle costs at least says best how large it is; its first in line breaks ties."""
    shape = bundle.shape
    return (bundle.unit_price, shape.cpus, shape.memory_bytes, -bundle.tasks[0].queued_at)
