"""Put tasks on machines that are there or coming."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ...providers.base import Market, Offer
from .candidates import Bundle, Candidate
from .lifecycle import SUPPLY_INSTANCE
from .model import InstanceState, InstanceView, Launch, TaskDemand
from .shapes import Room


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
