"""Caps are checked again in the transaction that writes the intent, whatever the plan said."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
from fakes.cloud import Clock, FakeCloud, make_offer
from fakes.fleet_world import FleetWorld, MakeWorld, make_fleet
from hostler.fleet.loop.tick import tick
from hostler.fleet.planning.model import InstanceState, Launch, Limits, Plan, Snapshot, TaskDemand
from hostler.fleet.store import frozen, instances, pools
from hostler.fleet.store.leader import StaleEpoch
from hostler.providers.base import Gpu, Offer

CLOUD = {"type": "aws", "regions": ["us-east-1"], "endpoint_url": "http://127.0.0.1:9"}


class GreedyPlan:
    """Plans so many launches of one offer, and knows no cap."""

    def __init__(self, offer: Offer, number: int = 10) -> None:
        self.offer, self.number = offer, number

    def __call__(
        self,
        demand: Sequence[TaskDemand],
        snapshot: Snapshot,
        offers: Sequence[Offer],
        limits: Limits,
        now: float,
    ) -> Plan:
        return Plan(launches=tuple(Launch("main", self.offer) for _ in range(self.number)))


def pool(most: int = 100) -> dict[str, object]:
    return {"main": {"providers": ["sky"], "market": "on_demand", "instances": f"0..{most}"}}


@pytest.mark.parametrize(
    ("sections", "allowed", "code"),
    [
        ({"limits": {"instances": 3}, "pools": pool()}, 3, "LIMIT_INSTANCES"),
        ({"limits": {"gpus": 8}, "pools": pool()}, 2, "LIMIT_GPUS"),
        ({"limits": {"usd_per_hour": 7.5}, "pools": pool()}, 3, "LIMIT_USD_PER_HOUR"),
        ({"pools": pool(4)}, 4, "LIMIT_POOL"),
        (
            {"providers": {"sky": {**CLOUD, "max_instances": 2}, "rain": CLOUD}, "pools": pool()},
            2,
            "LIMIT_PROVIDER",
        ),
    ],
    ids=["instances", "gpus", "usd-per-hour", "pool", "provider"],
)
def test_no_more_intents_are_written_than_the_cap_allows(
    make_world: MakeWorld, clock: Clock, sections: dict[str, object], allowed: int, code: str
) -> None:
    offer = dataclasses.replace(make_offer("gpu-box", 2.5), gpu=Gpu("L4", 4))
    world = make_world(make_fleet(**sections), FakeCloud("sky", clock, (offer,)))  # type: ignore[arg-type]
    world.context.plan = GreedyPlan(offer)
    for _ in range(3):
        world.tick()
        world.clock.advance(10)
    assert world.billed == len(world.rows()) == allowed
    assert world.why("pool", "main")["code"] == code


def test_instances_that_are_terminating_still_count_against_the_cap(make_world: MakeWorld) -> None:
    world = make_world(make_fleet(limits={"instances": 1}, pools=pool()))
    world.clouds["sky"].terminates_to_fail = 1_000
    world.context.plan = GreedyPlan(make_offer(), 1)
    world.tick()
    (row,) = world.rows()
    world.db.write(
        lambda conn: instances.advance(
            conn, row["id"], InstanceState.TERMINATING, world.clock(), reason="TEST"
        )
    )
    world.run(300)
    assert len(world.clouds["sky"].asked("launch")) == 1


def test_an_offer_without_a_price_is_never_bought(make_world: MakeWorld, clock: Clock) -> None:
    offer = make_offer(usd_per_hour=None)
    world = make_world(make_fleet(), FakeCloud("sky", clock, (offer,)))
    world.context.plan = GreedyPlan(offer)
    world.run(50)
    assert world.clouds["sky"].asked("launch") == []
    assert world.why("pool", "main")["code"] == "PRICE_UNKNOWN"


def test_a_protected_pool_buys_nothing_even_if_the_plan_says_so(world: FleetWorld) -> None:
    world.context.plan = GreedyPlan(make_offer())
    world.db.write(lambda conn: pools.protect(conn, "default", "main", "because", world.clock()))
    world.run(50)
    assert world.clouds["sky"].asked("launch") == []
    assert world.why("pool", "main")["code"] == "POOL_PROTECTED"


def test_while_launches_are_frozen_nothing_is_bought_even_if_the_plan_says_so(make_world: MakeWorld) -> None:
    world = make_world(make_fleet(providers={"sky": CLOUD, "away": CLOUD}))
    world.context.plan = GreedyPlan(make_offer())
    # `away` is configured but can't be asked here: the comparison never becomes whole.
    world.db.write(lambda conn: frozen.freeze(conn, "default", "restored from a backup", world.clock()))
    report = world.tick()
    assert report.frozen == "restored from a backup"
    assert world.clouds["sky"].asked("launch") == []


def test_a_daemon_that_no_longer_leads_writes_and_launches_nothing(world: FleetWorld) -> None:
    old = world.context
    world.start()
    world.submit()
    with pytest.raises(StaleEpoch):
        tick(old)
    assert world.rows() == []
    assert world.billed == 0
