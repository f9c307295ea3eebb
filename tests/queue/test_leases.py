from __future__ import annotations

from typing import Any

import pytest
from fakes.queue_world import TTL, World
from hostler.fleet.observer import agents
from hostler.fleet.planning.model import InstanceState, TaskState
from hostler.fleet.queue import Claim, Stale, UnknownTask, WrongState
from hostler.fleet.queue.expire import LEASE_GRACE_SECONDS

OVER = TTL + LEASE_GRACE_SECONDS + 1


def lease(world: World, **spec: Any) -> Claim:
    world.instance()
    world.submit(**spec)
    claim = world.take()
    world.started(claim)
    return claim


def test_a_heartbeat_renews_the_leases_it_names(world: World) -> None:
    claim = lease(world)
    world.later(30)

    beat = world.heartbeat(claim)
    assert (beat.renewed, beat.stale, beat.stop, beat.drain) == ((claim.task_id,), (), (), False)
    assert world.task(claim.task_id)["lease_until"] == world.now + TTL


def test_a_heartbeat_learns_which_leases_are_not_its_own_any_more(world: World) -> None:
    claim = lease(world)
    world.vanish()
    world.instance("h-two")
    world.take("h-two")

    beat = world.heartbeat(claim)
    assert beat.renewed == ()
    assert beat.stale == ({"task_id": claim.task_id, "generation": 1},)


def test_an_expired_lease_is_queued_again_at_the_cost_of_an_infra_retry(world: World) -> None:
    claim = lease(world)
    world.later(OVER)

    (ended,) = world.expire()
    assert (ended.task_id, ended.state, ended.not_before) == (claim.task_id, TaskState.QUEUED, None)
    task = world.task(claim.task_id)
    assert (task["infra"], task["instance_id"]) == (1, None)
    (attempt,) = world.attempts(claim.task_id)
    assert (attempt["outcome"], attempt["exit_reason"], attempt["lost_seconds"]) == (
        "lost",
        "lease_expired",
        TTL,
    )
    assert world.take().generation == 2


def test_a_lease_is_left_alone_until_its_grace_is_over(world: World) -> None:
    lease(world)
    world.later(TTL + LEASE_GRACE_SECONDS)

    assert world.expire() == ()


def test_nobody_is_reaped_before_the_server_was_up_for_one_ttl(world: World) -> None:
    claim = lease(world)
    world.later(10 * 60)
    world.up_since = world.now
    assert world.expire() == ()

    world.later(TTL - 1)
    assert world.expire() == ()
    assert world.heartbeat(claim).renewed == (claim.task_id,)
    world.later(2)
    assert world.expire() == ()
    assert world.state(claim.task_id) == "running"


def test_a_task_loses_no_more_work_than_its_lease_was_long(world: World) -> None:
    claim = lease(world)
    world.later(10)
    world.heartbeat(claim)
    world.later(10_000)
    world.expire()

    assert world.attempts(claim.task_id)[0]["lost_seconds"] == 10 + TTL


def test_all_that_a_vanished_instance_held_is_queued_again(world: World) -> None:
    world.instance()
    ids = [world.submit() for _ in range(3)]
    for _ in ids:
        world.take()

    ended = world.vanish(outcome="preempted")
    assert [one.task_id for one in ended] == ids
    assert {world.state(one) for one in ids} == {"queued"}
    assert {world.task(one)["preempted"] for one in ids} == {1}
    assert world.vanish() == ()


def test_a_queued_task_is_stopped_at_once(world: World) -> None:
    world.instance()
    task = world.submit()

    assert world.stop(task) is TaskState.STOPPED
    assert world.claim() is None
    assert world.demanded() == []


def test_a_running_task_is_stopped_by_way_of_its_agent(world: World) -> None:
    claim = lease(world, preempt={"grace": "7s"})

    assert world.stop(claim.task_id) is TaskState.STOPPING
    (told,) = world.heartbeat(claim).stop
    assert told == {"task_id": claim.task_id, "generation": 1, "reason": "stopped", "grace_seconds": 7}
    assert world.finish(claim, "stopped", exit_code=143) is TaskState.STOPPED
    assert world.attempts(claim.task_id)[0]["outcome"] == "stopped"


@pytest.mark.parametrize("outcome", ["failed", "requeue", "preempted", "infra", "stopped"])
def test_a_task_that_is_being_stopped_is_not_run_again_whatever_ends_it(world: World, outcome: str) -> None:
    claim = lease(world, retry={"error": 5})
    world.stop(claim.task_id)

    assert world.finish(claim, outcome) is TaskState.STOPPED
    assert world.finish(claim, outcome) is TaskState.STOPPED


def test_a_task_that_completes_while_it_is_being_stopped_is_completed(world: World) -> None:
    claim = lease(world)
    world.stop(claim.task_id)

    assert world.finish(claim) is TaskState.COMPLETED
    assert world.stop(claim.task_id) is TaskState.COMPLETED
    kinds = world.events(claim.task_id)
    assert [kind for kind in kinds if kind in ("task.completed", "task.stopped")] == ["task.completed"]


def test_a_stopping_task_whose_agent_vanishes_ends_stopped(world: World) -> None:
    claim = lease(world)
    world.stop(claim.task_id)
    world.later(OVER)

    (ended,) = world.expire()
    assert ended.state is TaskState.STOPPED
    assert world.demanded() == []


def test_stopping_what_is_not_there_or_not_ours_is_refused(world: World) -> None:
    with pytest.raises(UnknownTask):
        world.stop(12345)


def test_a_requeued_task_starts_with_new_budgets_and_its_attempts_count_on(world: World) -> None:
    claim = lease(world, retry={"error": 0})
    assert world.finish(claim, "failed") is TaskState.FAILED

    assert world.requeue(claim.task_id) is TaskState.QUEUED
    task = world.task(claim.task_id)
    assert (task["errors"], task["attempt"], task["finished_at"], task["exit_code"]) == (0, 1, None, None)
    again = world.take()
    assert (again.attempt, again.generation) == (2, 2)
    assert world.finish(again) is TaskState.COMPLETED


def test_a_requeued_task_stands_behind_those_that_wait(world: World) -> None:
    claim = lease(world)
    world.finish(claim)
    other = world.submit()
    world.later(1)
    world.requeue(claim.task_id)

    assert [world.take().task_id for _ in range(2)] == [other, claim.task_id]


def test_a_task_that_runs_cannot_be_requeued(world: World) -> None:
    claim = lease(world)

    with pytest.raises(WrongState, match="is running"):
        world.requeue(claim.task_id)


def test_a_preemption_notice_drains_the_instance_and_has_its_tasks_save_themselves(world: World) -> None:
    claim = lease(world, preempt={"grace": "90s"})
    assert give_notice(world, 30)
    world.submit()

    assert world.box_state() is InstanceState.DRAINING
    assert world.claim() is None
    world.later(10)
    beat = world.heartbeat(claim)
    assert beat.drain
    assert beat.stop == (
        {"task_id": claim.task_id, "generation": 1, "reason": "preempted", "grace_seconds": 20},
    )
    assert world.finish(claim, "preempted", exit_code=143) is TaskState.QUEUED
    assert world.task(claim.task_id)["preempted"] == 1


def test_a_second_notice_changes_nothing_but_an_earlier_end(world: World) -> None:
    lease(world)
    give_notice(world, 120)
    give_notice(world, 300)
    assert world.box()["preempt_at"] == world.now + 120
    give_notice(world, 30)
    assert world.box()["preempt_at"] == world.now + 30


def test_silence_after_a_notice_counts_as_preempted(world: World) -> None:
    claim = lease(world)
    give_notice(world, 30)
    world.later(OVER)
    world.expire()

    task = world.task(claim.task_id)
    assert (task["state"], task["preempted"], task["infra"]) == ("queued", 1, 0)


def test_a_stop_wins_over_a_notice(world: World) -> None:
    claim = lease(world)
    give_notice(world, 30)
    world.stop(claim.task_id)

    (told,) = world.heartbeat(claim).stop
    assert told["reason"] == "stopped"
    assert world.finish(claim, "preempted") is TaskState.STOPPED


def test_a_task_that_completes_before_its_machine_is_taken_is_completed(world: World) -> None:
    claim = lease(world)
    give_notice(world, 30)

    assert world.finish(claim) is TaskState.COMPLETED
    with pytest.raises(Stale):
        world.finish(claim, "preempted")


def give_notice(world: World, seconds: float) -> bool:
    return world.do(
        lambda conn: agents.notice(
            conn, instance_id="h-one", source="local", seconds_left=seconds, now=world.now
        )
    )
