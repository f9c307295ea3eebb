from __future__ import annotations

import pytest
from fakes.queue_world import World
from hostler.fleet.queue import UnknownQueue


def test_a_submitted_task_is_queued_with_the_priority_of_its_queue(world: World) -> None:
    task = world.task(world.submit(queue="urgent"))

    assert (task["state"], task["priority"], task["attempt"], task["generation"]) == ("queued", 90, 0, 0)
    assert world.events(task["id"]) == ["task.queued"]


def test_a_task_may_say_its_own_priority(world: World) -> None:
    assert world.task(world.submit(queue="urgent", priority=3))["priority"] == 3


def test_the_same_uid_is_the_same_task_and_is_queued_once(world: World) -> None:
    first = world.submit(uid="same")
    world.instance()
    claim = world.take()
    world.later(5)

    assert world.submit(uid="same") == first == claim.task_id
    assert world.state(first) == "leased"
    assert world.events(first).count("task.queued") == 1


def test_a_queue_that_is_not_there_is_refused_with_the_nearest_name(world: World) -> None:
    with pytest.raises(UnknownQueue, match="'urgnet'") as caught:
        world.submit(queue="urgnet")

    assert caught.value.hint == "did you mean 'urgent'?"


def test_a_draft_waits_until_it_is_queued(world: World) -> None:
    world.instance()
    draft = world.submit(draft=True)

    assert world.claim() is None
    world.requeue(draft)
    assert world.take().task_id == draft


def test_a_task_that_waits_longer_than_it_may_fails(world: World) -> None:
    task = world.submit(timeout={"queue": "10m"})

    world.later(600)
    assert world.expire() == ()
    world.later(1)
    (ended,) = world.expire()

    assert (ended.task_id, ended.state.value) == (task, "failed")
    assert world.task(task)["exit_reason"] == "queue_timeout"
    assert world.demanded() == []


def test_the_wait_is_counted_anew_after_a_preemption(world: World) -> None:
    task = world.submit(timeout={"queue": "10m"})
    world.instance()
    claim = world.take()
    world.later(3600)
    world.finish(claim, "preempted")

    world.later(599)
    world.expire()
    assert world.state(task) == "queued"
    world.later(2)
    world.expire()
    assert world.state(task) == "failed"
