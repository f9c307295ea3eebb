from __future__ import annotations

from fakes.queue_world import FLEET, GIB, World
from hostler.config.fleet import FleetConfig
from hostler.fleet import queue
from hostler.fleet.planning.model import GpuWish, Shape, TaskDemand
from hostler.fleet.queue import Arrivals, Dispatcher
from hostler.fleet.queue.budgets import ERROR_BACKOFF_SECONDS
from hostler.providers.base import Market


def demand(world: World) -> tuple[TaskDemand, ...]:
    return world.do(lambda conn: queue.demand(conn, world.fleet, world.now))


def arrivals(world: World, after: int) -> Arrivals:
    return world.do(lambda conn: queue.arrivals(conn, after=after))


def test_demand_is_what_waits_in_the_order_it_would_be_claimed(world: World) -> None:
    low = world.submit(resources={"gpu": "A10G:1|L4:0.5", "cpus": 4, "memory": "2GiB.."})
    high = world.submit(queue="urgent", priority=99)

    first, second = demand(world)
    assert (first.task_id, second.task_id) == (high, low)
    assert (second.queue, second.pools, second.priority) == ("default", ("small", "gpu"), 50)
    assert second.shape == Shape(4.0, 2 * GIB, 0, (GpuWish("A10G", 1.0), GpuWish("L4", 0.5)))
    assert second.queued_at == world.now


def test_demand_names_the_only_market_that_will_do(world: World) -> None:
    world.submit()
    world.submit(queue="bought")
    world.submit(queue="bought", market="spot")
    world.submit(queue="bought", market="spot_first")

    assert [one.market for one in demand(world)] == [None, Market.ON_DEMAND, Market.SPOT, None]


def test_a_task_whose_queue_is_gone_has_no_pools(world: World) -> None:
    world.submit(queue="urgent")
    world.fleet = FleetConfig.model_validate({**FLEET, "queues": {"default": {"pools": ["small"]}}})

    (one,) = demand(world)
    assert one.pools == ()


def test_a_task_in_back_off_is_no_demand_until_it_is_due(world: World) -> None:
    world.instance()
    task = world.submit()
    claim = world.take()
    world.finish(claim, "failed")
    before = world.now

    world.later(ERROR_BACKOFF_SECONDS - 1)
    assert world.demanded() == []
    world.later(1)
    assert world.demanded() == [task]
    assert world.do(lambda conn: queue.came_due(conn, since=before, now=world.now)) == {"default": 1}
    assert world.do(lambda conn: queue.came_due(conn, since=world.now, now=world.now + 9)) == {}


def test_a_leased_task_is_no_demand(world: World) -> None:
    world.instance()
    world.submit()
    world.take()

    assert world.demanded() == []


def test_arrivals_count_new_tasks_by_queue_and_remember_where_they_were(world: World) -> None:
    for name in ("default", "default", "urgent"):
        world.submit(queue=name)

    seen = arrivals(world, 0)
    assert (dict(seen.by_queue), seen.more) == ({"default": 2, "urgent": 1}, False)
    assert arrivals(world, seen.last_event_id).by_queue == {}


def test_a_task_that_comes_back_arrives_again_unless_it_is_in_back_off(world: World) -> None:
    world.instance()
    world.submit()
    world.submit()
    one, two = world.take(), world.take()
    seen = arrivals(world, 0).last_event_id
    world.finish(one, "preempted")
    world.finish(two, "failed")

    assert arrivals(world, seen).by_queue == {"default": 1}


def test_arrivals_name_instances_that_must_hear_of_their_drain(world: World) -> None:
    world.instance()
    seen = arrivals(world, 0).last_event_id
    from hostler.fleet.observer import agents

    world.do(lambda conn: agents.leave(conn, "h-one", world.now))

    assert arrivals(world, seen).instances == ("h-one",)


def test_announcing_for_a_queue_that_is_gone_wakes_nobody(world: World) -> None:
    queue.announce(Dispatcher(), world.fleet, {"no-such-queue": 3}, ["h-nobody"])
