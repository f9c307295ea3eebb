from __future__ import annotations

from typing import Any

import pytest
from fakes.queue_world import World
from hostler.config.task import Retry
from hostler.fleet.planning.model import TaskState
from hostler.fleet.queue import Claim, Stale
from hostler.fleet.queue.budgets import (
    BACKOFF_MAX_SECONDS,
    REQUEUES_MAX,
    Counts,
    Ending,
    backoff_seconds,
    verdict,
)


def lease(world: World, **spec: Any) -> Claim:
    world.instance()
    world.submit(**spec)
    claim = world.take()
    world.started(claim)
    return claim


def next_attempt(world: World) -> Claim:
    world.later(BACKOFF_MAX_SECONDS)
    return world.take()


def test_a_result_ends_the_attempt_and_the_task(world: World) -> None:
    claim = lease(world)
    world.later(30)

    assert world.finish(claim) is TaskState.COMPLETED
    task = world.task(claim.task_id)
    assert (task["state"], task["exit_code"], task["finished_at"]) == ("completed", 0, world.now)
    assert (task["instance_id"], task["lease_until"]) == (None, None)
    (attempt,) = world.attempts(claim.task_id)
    assert (attempt["outcome"], attempt["started_at"], attempt["finished_at"]) == (
        "completed",
        world.now - 30,
        world.now,
    )
    assert world.events(claim.task_id) == ["task.queued", "task.leased", "task.running", "task.completed"]


def test_a_result_sent_twice_is_answered_the_same_and_counted_once(world: World) -> None:
    claim = lease(world, retry={"error": 3})
    first = world.finish(claim, "failed", reason="oom")
    world.later(1)

    assert world.finish(claim, "failed", reason="oom") is first is TaskState.QUEUED
    assert world.task(claim.task_id)["errors"] == 1
    assert world.events(claim.task_id).count("task.queued") == 2


def test_another_result_of_the_same_lease_is_stale(world: World) -> None:
    claim = lease(world)
    world.finish(claim)

    with pytest.raises(Stale):
        world.finish(claim, "failed")
    assert world.state(claim.task_id) == "completed"


def test_a_result_of_an_older_generation_is_stale(world: World) -> None:
    old = lease(world)
    world.vanish()
    new = world.take()

    with pytest.raises(Stale):
        world.finish(old)
    assert world.finish(new) is TaskState.COMPLETED


def test_a_result_that_comes_after_the_lease_was_taken_away_is_stale(world: World) -> None:
    claim = lease(world)
    world.vanish()

    with pytest.raises(Stale):
        world.finish(claim)
    assert world.state(claim.task_id) == "queued"


def test_a_result_from_another_instance_is_stale(world: World) -> None:
    claim = lease(world)

    with pytest.raises(Stale):
        world.finish(claim, name="h-other")
    assert world.state(claim.task_id) == "running"


def test_a_task_nobody_knows_is_stale(world: World) -> None:
    claim = lease(world)
    unknown = Claim(**{**{name: getattr(claim, name) for name in claim.__slots__}, "task_id": 999})

    with pytest.raises(Stale):
        world.finish(unknown)


def test_an_unknown_outcome_is_refused_and_changes_nothing(world: World) -> None:
    claim = lease(world)

    with pytest.raises(ValueError, match="'exploded' is none of"):
        world.finish(claim, "exploded")
    assert world.state(claim.task_id) == "running"


def test_a_failed_task_is_tried_again_after_a_while_then_it_is_dead(world: World) -> None:
    claim = lease(world, retry={"error": 1})
    assert world.finish(claim, "failed", exit_code=2) is TaskState.QUEUED
    assert world.claim() is None
    assert world.demanded() == []

    again = next_attempt(world)
    assert world.finish(again, "failed", exit_code=2) is TaskState.DEAD
    task = world.task(claim.task_id)
    assert (task["errors"], task["exit_code"], task["attempt"]) == (2, 2, 2)
    assert world.demanded() == []


def test_waits_between_failures_double_up_to_a_limit() -> None:
    waits = [backoff_seconds(5.0, failures) for failures in range(1, 9)]

    assert waits == [5, 10, 20, 40, 80, 160, 300, 300]
    assert backoff_seconds(5.0, 10_000) == BACKOFF_MAX_SECONDS


def test_each_way_to_fail_has_a_budget_of_its_own(world: World) -> None:
    claim = lease(world, retry={"error": 1, "infra": 1, "preempted": 1})
    for outcome in ("failed", "infra", "preempted"):
        assert world.finish(claim, outcome) is TaskState.QUEUED
        claim = next_attempt(world)

    assert world.finish(claim, "preempted") is TaskState.DEAD
    task = world.task(claim.task_id)
    assert (task["errors"], task["infra"], task["preempted"]) == (1, 1, 2)


def test_a_task_whose_machine_always_breaks_is_dead_and_asks_for_nothing_more(world: World) -> None:
    claim = lease(world, retry={"infra": 2})
    for _ in range(2):
        world.finish(claim, "infra")
        claim = next_attempt(world)

    assert world.finish(claim, "infra") is TaskState.DEAD
    world.later(10 * BACKOFF_MAX_SECONDS)
    assert world.demanded() == []
    assert world.claim() is None


def test_a_task_that_asks_to_be_run_again_pays_nothing(world: World) -> None:
    claim = lease(world, retry={"error": 0, "infra": 0, "preempted": 0})
    for _ in range(5):
        assert world.finish(claim, "requeue", exit_code=75) is TaskState.QUEUED
        claim = world.take()

    task = world.task(claim.task_id)
    assert (task["errors"], task["infra"], task["preempted"], task["attempt"]) == (0, 0, 0, 6)


def test_asking_to_be_run_again_has_an_end() -> None:
    last = verdict(Ending.REQUEUE, Counts(attempts=REQUEUES_MAX, requeues=REQUEUES_MAX - 1), Retry())
    over = verdict(Ending.REQUEUE, Counts(attempts=REQUEUES_MAX + 1, requeues=REQUEUES_MAX), Retry())

    assert (last.state, over.state) == (TaskState.QUEUED, TaskState.DEAD)


@pytest.mark.parametrize(("outcome", "exit_code"), [("permanent", 78), ("timeout", None)])
def test_a_permanent_failure_and_a_timeout_are_not_tried_again(
    world: World, outcome: str, exit_code: int | None
) -> None:
    claim = lease(world, retry={"error": 5})

    assert world.finish(claim, outcome, exit_code=exit_code) is TaskState.FAILED


def test_what_was_lost_is_counted_from_the_newest_checkpoint_of_the_attempt(world: World) -> None:
    claim = lease(world)
    world.later(100)
    world.checkpoint(claim)
    world.later(40)
    world.checkpoint(claim)
    world.later(7)
    world.finish(claim, "preempted")

    again = world.take()
    world.started(again)
    world.later(11)
    world.finish(again, "preempted")
    assert [row["lost_seconds"] for row in world.attempts(claim.task_id)] == [7, 11]


def test_a_completed_attempt_lost_nothing(world: World) -> None:
    claim = lease(world)
    world.finish(claim)

    assert world.attempts(claim.task_id)[0]["lost_seconds"] is None


def test_started_said_twice_is_one_start(world: World) -> None:
    claim = lease(world)
    world.later(5)
    world.started(claim)

    assert world.task(claim.task_id)["started_at"] == world.now - 5
    assert world.events(claim.task_id).count("task.running") == 1


def test_only_the_holder_can_say_started(world: World) -> None:
    claim = lease(world)
    with pytest.raises(Stale):
        world.started(claim, name="h-other")
    world.finish(claim)
    with pytest.raises(Stale):
        world.started(claim)
