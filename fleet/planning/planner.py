"""The plan of one tick: place what fits, buy for the rest, keep pools warm, let go of the idle, say why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from ...providers.base import Offer
from .buying import buy, cheapest
from .candidates import Bundle, Candidate, Catalogue, Rejection, bundles_of
from .headroom import Headroom
from .lifecycle import SUPPLY_INSTANCE
from .model import (
    Decision,
    InstanceState,
    Launch,
    Limits,
    Plan,
    PoolPolicy,
    Shape,
    Snapshot,
    TaskDemand,
)
from .packing import Purchase, Supply, place, standing
from .scaledown import scale_down
from .unplaced import frozen_decision, unplaced_decisions


def plan(
    demand: Sequence[TaskDemand], snapshot: Snapshot, offers: Sequence[Offer], limits: Limits, now: float
) -> Plan:
    """Decide one tick.

    Args:
        demand: queued tasks that may run now, in any order.
        snapshot: pools, instances and what was learned of offers, read in one transaction.
        offers: the catalogue; offers without a price are never bought.
        limits: caps of the whole fleet.
        now: epoch seconds.

    Returns:
        Launches in the order in which to make them, drains, terminations, and a decision for every task and instance.
        The same arguments always give the same plan.
    """
    ordered = sorted(demand, key=lambda task: (-task.priority, task.queued_at, task.task_id))
    headroom = Headroom(snapshot, limits)
    catalogue = Catalogue(offers, snapshot, now)
    supplies = standing(snapshot.instances)
    decisions: list[Decision] = []
    purchases: list[Purchase] = []
    reserved: set[str] = set()
    for _, level in groupby(ordered, key=lambda task: task.priority):
        bundles = bundles_of(level, snapshot.pools, now)
        for bundle in bundles:
            decisions += _place(bundle, supplies, reserved)
        if snapshot.frozen:
            decisions += [
                frozen_decision(task, snapshot.frozen) for bundle in bundles for task in bundle.tasks
            ]
            continue
        bought = _buy(bundles, catalogue, headroom, decisions)
        supplies += bought
        purchases += [supply.purchase for supply in bought if supply.purchase is not None]
    if not snapshot.frozen:
        purchases += _warm(snapshot, catalogue, headroom, decisions)
    down = scale_down(snapshot, reserved, now)
    return Plan(
        tuple(purchase.launch() for purchase in purchases),
        tuple(down.drains),
        tuple(down.terminations),
        (*decisions, *down.decisions),
    )


def _place(bundle: Bundle, supplies: Sequence[Supply], reserved: set[str]) -> list[Decision]:
    decisions = []
    for task, supply in place(bundle, supplies):
        if supply.instance is not None:
            reserved.add(supply.instance.instance_id)
            decisions.append(_placed(task, supply.instance.instance_id, supply.instance.state))
        elif supply.purchase is not None:
            supply.purchase.tasks.append(task.task_id)
            decisions.append(_launching(task.task_id, supply.purchase.candidate))
    return decisions


def _buy(
    bundles: Sequence[Bundle], catalogue: Catalogue, headroom: Headroom, decisions: list[Decision]
) -> list[Supply]:
    open_bundles = [bundle for bundle in bundles if bundle.tasks]
    for bundle in open_bundles:
        catalogue.fill(bundle)
    bought = buy(open_bundles, headroom)
    for supply in bought:
        if supply.purchase is not None:
            decisions += [_launching(task_id, supply.purchase.candidate) for task_id in supply.purchase.tasks]
    for bundle in open_bundles:
        decisions += unplaced_decisions(bundle, headroom)
    return bought


def _warm(
    snapshot: Snapshot, catalogue: Catalogue, headroom: Headroom, decisions: list[Decision]
) -> Iterable[Purchase]:
    """Bring each pool up to its smallest number, or to what a warm window asks for."""
    serving = [one.pool for one in snapshot.instances if one.state in SUPPLY_INSTANCE]
    for pool in sorted(snapshot.pools.values(), key=lambda pool: pool.name):
        floor = min(max(pool.instances_min, pool.warm_min), pool.instances_max)
        missing = floor - max(serving.count(pool.name), _planned(pool, headroom, snapshot))
        yield from _warm_pool(pool, missing, catalogue, headroom, decisions)


def _planned(pool: PoolPolicy, headroom: Headroom, snapshot: Snapshot) -> int:
    """Instances of the pool that serve or are planned: what headroom counts, less those on their way out."""
    leaving = sum(
        1 for one in snapshot.instances if one.pool == pool.name and one.state not in SUPPLY_INSTANCE
    )
    return headroom.by_pool[pool.name] - leaving


def _warm_pool(
    pool: PoolPolicy, missing: int, catalogue: Catalogue, headroom: Headroom, decisions: list[Decision]
) -> Iterable[Purchase]:
    if missing <= 0:
        return
    bundle = Bundle((pool.name,), Shape(cpus=0), None, frozenset({pool.name}), [])
    catalogue.fill(bundle)
    for _ in range(missing):
        candidate = cheapest(bundle, headroom)
        if candidate is None:
            decisions.append(_cold(pool, missing, bundle.rejected))
            return
        headroom.take(pool, candidate.offer)
        decisions.append(
            Decision("pool", pool.name, "WARM", f"buys {candidate.offer.key} to keep {missing} more")
        )
        yield Purchase(candidate, ())


def _cold(pool: PoolPolicy, missing: int, rejected: Sequence[Rejection]) -> Decision:
    return Decision(
        "pool",
        pool.name,
        "NO_CAPACITY",
        f"{missing} more wanted, none can be bought",
        rejected=tuple(rejected[:20]),
    )


def _placed(task: TaskDemand, instance_id: str, state: InstanceState) -> Decision:
    if state is InstanceState.READY:
        return Decision("task", str(task.task_id), "ASSIGNED", f"instance {instance_id} has room for it")
    return Decision("task", str(task.task_id), "WAITING_BOOT", f"instance {instance_id} is starting")


def _launching(task_id: int, candidate: Candidate) -> Decision:
    return Decision(
        "task",
        str(task_id),
        "LAUNCHING",
        f"buying {candidate.offer.key} for ${candidate.price:.4g}/h in {candidate.pool.name}",
    )


__all__ = ["Launch", "plan"]
