from __future__ import annotations

from typing import Any

import pytest
from fakes.queue_world import TTL, WORKSPACE, World, offer
from hostler.fleet.queue.candidates import HEAD_LENGTH
from hostler.tracking.server.access import tokens
from hostler.tracking.server.database.schema import tasks
from sqlalchemy import insert, update


def test_a_claim_raises_generation_and_attempt_and_begins_the_lease(world: World) -> None:
    world.instance()
    task = world.submit()
    claim = world.take()

    row = world.task(task)
    assert (claim.task_id, claim.generation, claim.attempt) == (task, 1, 1)
    assert (row["state"], row["generation"], row["attempt"]) == ("leased", 1, 1)
    assert (row["instance_id"], row["lease_until"]) == ("h-one", world.now + TTL)
    (attempt,) = world.attempts(task)
    assert (attempt["number"], attempt["generation"], attempt["instance_id"]) == (1, 1, "h-one")
    assert attempt["usd_per_hour"] == 1.0
    assert attempt["share"] == pytest.approx(1 / 8)
    assert world.events(task) == ["task.queued", "task.leased"]


def test_an_instance_with_a_lease_is_not_idle_and_is_again_when_its_last_lease_ends(world: World) -> None:
    world.instance()
    world.submit()
    world.submit()
    one, two = world.take(), world.take()
    assert world.box()["idle_since"] is None

    world.later(10)
    world.finish(one)
    assert world.box()["idle_since"] is None
    world.later(10)
    world.finish(two)
    assert world.box()["idle_since"] == world.now


def test_the_task_token_opens_this_task_only_until_the_lease_ends(world: World) -> None:
    world.instance()
    task = world.submit()
    claim = world.take()

    principal = world.do(lambda conn: tokens.authenticate(conn, claim.task_token, world.now))
    assert principal is not None
    assert (principal.kind, principal.workspace, principal.task_id, principal.generation) == (
        "task",
        WORKSPACE,
        task,
        1,
    )
    world.finish(claim)
    assert world.do(lambda conn: tokens.authenticate(conn, claim.task_token, world.now)) is None


def test_higher_priority_goes_first_then_the_longest_in_line(world: World) -> None:
    world.instance()
    low = world.submit()
    world.later(1)
    also_low = world.submit()
    world.later(1)
    high = world.submit(queue="urgent")

    assert [world.take().task_id for _ in range(3)] == [high, low, also_low]


def test_a_preempted_task_keeps_its_priority_and_its_place(world: World) -> None:
    world.instance()
    first = world.submit(priority=60)
    claim = world.take()
    world.later(1)
    world.submit(priority=60)
    world.later(1)
    world.finish(claim, "preempted")

    assert world.task(first)["priority"] == 60
    assert world.take().task_id == first


@pytest.mark.parametrize(
    "state", ["intended", "launching", "booting", "draining", "terminating", "terminated", "lost"]
)
def test_only_a_ready_instance_takes_a_task(world: World, state: str) -> None:
    world.instance(state=state)
    world.submit()

    assert world.claim() is None


def test_an_unknown_instance_takes_nothing(world: World) -> None:
    world.submit()

    assert world.claim("h-nobody") is None


def test_an_instance_serves_only_queues_of_its_pool(world: World) -> None:
    world.instance()
    world.submit(queue="gpu-only")

    assert world.claim() is None


def test_a_queue_on_one_market_is_served_by_that_market_only(world: World) -> None:
    world.instance("h-spot")
    world.instance("h-bought", box=offer("on_demand"))
    task = world.submit(queue="bought")

    assert world.claim("h-spot") is None
    assert world.take("h-bought").task_id == task


def test_the_markets_wish_of_a_task_goes_before_its_queues(world: World) -> None:
    world.instance("h-spot")
    spot = world.submit(queue="bought", market="spot")
    either = world.submit(queue="bought", market="spot_first")

    assert [world.take("h-spot").task_id for _ in range(2)] == [spot, either]


def test_a_task_that_needs_more_than_is_free_is_passed_over(world: World) -> None:
    world.instance()
    world.submit(resources={"cpus": 4})
    world.submit(resources={"memory": "16GB.."})
    small = world.submit(resources={"cpus": 2})

    claim = world.take(cpus=2, memory_bytes=8 * 10**9)
    assert (claim.task_id, claim.cpus) == (small, 2)


@pytest.mark.parametrize(
    ("wish", "gpu", "free", "fits"),
    [
        ("A10G:1", "A10G", 1.0, True),
        ("A10G:1|L4:2", "L4", 2.0, True),
        ("A10G:1|L4:2", "L4", 1.0, False),
        ("A10G:1", "L4", 4.0, False),
        ("A10G:0.5", "A10G", 0.5, True),
        ("A10G:0.5", "A10G", 0.4, False),
        ("A10G:1", "", 0.0, False),
        ("none", "A10G", 0.0, True),
    ],
)
def test_gpus_must_be_of_a_wanted_kind_and_free(
    world: World, wish: str, gpu: str, free: float, fits: bool
) -> None:
    world.instance("h-gpu", pool="gpu", box=offer(gpu=gpu, gpu_count=4))
    world.submit(queue="gpu-only", resources={"gpu": wish})

    assert (world.claim("h-gpu", gpus=free) is not None) is fits


def test_the_lease_says_how_many_gpus_it_is_of(world: World) -> None:
    world.instance("h-gpu", pool="gpu", box=offer(gpu="L4", gpu_count=4))
    task = world.submit(queue="gpu-only", resources={"gpu": "A10G:1|L4:2"})

    assert world.take("h-gpu", gpus=4).to_lease()["gpu_count"] == 2
    assert world.attempts(task)[0]["share"] == pytest.approx(0.5)


def test_a_fitting_task_is_found_behind_any_number_that_do_not_fit(world: World) -> None:
    world.instance()
    for cpus in range(9, 9 + 3):
        for _ in range(HEAD_LENGTH):
            world.submit(resources={"cpus": cpus}, priority=90)
    wanted = world.submit()

    assert world.take().task_id == wanted


def test_a_task_that_fits_goes_before_one_of_lower_priority_in_another_queue_however_deep(
    world: World,
) -> None:
    world.instance()
    for _ in range(2 * HEAD_LENGTH):
        world.submit(queue="urgent", resources={"cpus": 64})
    low = world.submit(queue="default")
    high = world.submit(queue="urgent")

    assert [world.take().task_id, world.take().task_id] == [high, low]


def test_two_instances_never_get_the_same_task(world: World) -> None:
    world.instance("h-one")
    world.instance("h-two")
    world.submit()

    world.take("h-one")
    assert world.claim("h-two") is None


def test_a_lease_whose_reply_was_lost_is_handed_out_again_without_a_new_attempt(world: World) -> None:
    world.instance()
    task = world.submit()
    lost = world.take()
    world.submit()

    again = world.take(held=[])
    assert (again.task_id, again.generation, again.attempt) == (task, lost.generation, lost.attempt)
    assert world.do(lambda conn: tokens.authenticate(conn, lost.task_token, world.now)) is None
    assert world.do(lambda conn: tokens.authenticate(conn, again.task_token, world.now)) is not None
    assert len(world.attempts(task)) == 1


def test_a_lease_the_agent_knows_of_is_not_handed_out_again(world: World) -> None:
    world.instance()
    world.submit()
    first = world.take()
    second = world.submit()

    assert world.take(held=[first.task_id]).task_id == second


def test_a_task_claimed_more_often_than_all_its_budgets_allow_is_dead_instead(world: World) -> None:
    world.instance()
    poison = world.submit()
    world.do(lambda conn: conn.execute(update(tasks).where(tasks.c.id == poison).values(attempt=10_000)))
    good = world.submit()

    assert world.take().task_id == good
    assert world.state(poison) == "dead"
    assert world.events(poison)[-1] == "task.dead"
    assert world.demanded() == []


def test_a_run_outside_the_fleet_is_never_leased_expired_or_demanded(world: World) -> None:
    world.instance()
    row: dict[str, Any] = {
        "workspace": WORKSPACE,
        "uid": "outside",
        "project": "p",
        "name": "n",
        "queue": None,
        "state": "queued",
        "spec": {},
        "tags": [],
        "actor": "ada",
        "created_at": world.now,
        "lease_until": 1.0,
        "queue_until": 1.0,
    }
    world.do(lambda conn: conn.execute(insert(tasks), row))
    world.do(lambda conn: conn.execute(insert(tasks), row | {"uid": "outside-2", "state": "running"}))

    assert world.claim() is None
    assert world.demanded() == []
    assert world.expire() == ()
