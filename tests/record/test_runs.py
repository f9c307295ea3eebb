"""Runs outside the fleet, and who may write a task's record at all."""

from __future__ import annotations

from typing import Any

import pytest
from hostler.tracking import wire
from hostler.tracking.server import events
from hostler.tracking.server.database import schema as tables
from record.world import Run, World, frames
from sqlalchemy import update


def set_task(world: World, run: Run, **values: Any) -> None:
    change = update(tables.tasks).where(tables.tasks.c.id == run.task_id).values(values)
    world.database.write(lambda conn: conn.execute(change).rowcount)


def test_a_run_begins_as_a_running_task_of_no_queue(world: World) -> None:
    run = world.run(project="vision", name="night", tags=["a"])
    task = world.task(run.task_id)
    shown = {key: task[key] for key in ("queue", "state", "generation", "attempt", "project", "name", "tags")}
    assert shown == {
        "queue": None,
        "state": "running",
        "generation": 1,
        "attempt": 1,
        "project": "vision",
        "name": "night",
        "tags": ["a"],
    }
    (attempt,) = run.read("attempts")["items"]
    assert (attempt["number"], attempt["instance_id"], attempt["started_at"]) == (1, "", world.clock.now)


def test_beginning_again_with_the_same_uid_answers_the_same_run(world: World) -> None:
    first, second = world.run(), world.run()
    assert (first.task_id, first.generation) == (second.task_id, second.generation)
    assert second.log(b"x").status_code == 200
    assert first.log(b"x").status_code == 200


def test_the_uid_of_a_fleet_task_cannot_be_taken(world: World) -> None:
    world.fleet_task("task-1")
    answer = world.create("task-1")
    assert (answer.status_code, answer.json()["code"]) == (409, "UID_TAKEN")


def test_a_run_ends_once_and_takes_nothing_more(world: World) -> None:
    run = world.run()
    world.clock.now += 60
    assert run.finish("failed", 3).json() == {}
    assert run.finish("failed", 3).json() == {}
    task = world.task(run.task_id)
    assert (task["state"], task["exit_code"], task["finished_at"]) == ("failed", 3, world.clock.now)
    assert run.read("attempts")["items"][0]["outcome"] == "failed"
    assert run.finish("completed").json()["code"] == "STALE_GENERATION"
    assert run.log(b"late").json()["code"] == "STALE_GENERATION"


def test_a_run_that_had_ended_is_taken_up_as_a_new_attempt(world: World) -> None:
    run = world.run()
    run.artifact("model", b"weights", type="checkpoint", step=5)
    run.finish("failed", 1)
    again = world.run()
    assert (again.task_id, again.generation) == (run.task_id, 2)
    assert len(again.read("attempts")["items"]) == 2
    assert again.call("GET", wire.CHECKPOINT).json()["step"] == 5
    assert run.log(b"zombie").json()["code"] == "STALE_GENERATION"


def test_a_task_of_the_fleet_is_not_ended_by_its_program(world: World) -> None:
    answer = world.fleet_task().finish()
    assert (answer.status_code, answer.json()["code"]) == (409, "NOT_YOUR_END")


@pytest.mark.parametrize("state", ["leased", "running", "stopping"])
def test_a_holder_may_write_while_it_holds(world: World, state: str) -> None:
    run = world.fleet_task()
    set_task(world, run, state=state)
    assert run.log(b"x").status_code == 200


@pytest.mark.parametrize("state", ["queued", "completed", "failed", "stopped", "dead"])
def test_nobody_writes_what_is_not_held(world: World, state: str) -> None:
    run = world.fleet_task()
    set_task(world, run, state=state)
    for answer in (run.log(b"x"), run.journal(frames(["p", {"a": 1}])), run.call("GET", wire.CHECKPOINT)):
        assert (answer.status_code, answer.json()["code"]) == (409, "STALE_GENERATION")
    assert run.read("params")["params"] == {}


def test_a_zombie_is_fenced_off_by_the_next_generation(world: World) -> None:
    zombie = world.fleet_task()
    holder = zombie.next_attempt()
    for answer in (
        zombie.log(b"x"),
        zombie.journal(frames(["p", {"a": 1}])),
        zombie.call("PUT", wire.BLOB, at={"digest": "a" * 64}, content=b"x"),
        zombie.call("POST", wire.ARTIFACT, json={"name": "m", "digest": "a" * 64}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "STALE_GENERATION")
    assert holder.log(b"x").status_code == 200


def test_an_agent_writes_the_tasks_its_instance_holds_and_no_others(world: World) -> None:
    run = world.fleet_task(instance_id="h-1")
    run.token = world.token(kind="agent", role="agent", instance_id="h-1")
    assert run.log(b"x").status_code == 200
    run.token = world.token(kind="agent", role="agent", instance_id="h-2")
    assert run.log(b"x", offset=1).json()["code"] == "STALE_GENERATION"


def test_a_task_token_does_not_reach_another_task(world: World) -> None:
    run, other = world.run("one"), world.run("two")
    other.token = run.token
    assert other.log(b"x").json()["code"] == "FORBIDDEN"
    assert world.get(f"/api/v1/tasks/{run.task_id}/params", secret=run.token).status_code == 200
    assert world.get(f"/api/v1/tasks/{other.task_id}/params", secret=run.token).status_code == 403


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"uid": ""}, "uid"),
        ({"uid": "a/b"}, "uid"),
        ({"uid": "x" * 65}, "uid"),
        ({"project": ""}, "project"),
        ({"name": "x" * 257}, "name"),
        ({"tags": [1]}, "tags"),
        ({"tags": ["x"] * 101}, "tags"),
        ({"capture": "no"}, "capture"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_run_that_says_nonsense_is_refused_by_field(world: World, fields: Any, named: str) -> None:
    answer = world.create(**fields)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"][0]["at"].startswith(f"body.{named}")


def test_a_body_that_is_no_json_or_too_large_is_refused(world: World) -> None:
    headers = {"Authorization": f"Bearer {world.secret}"}
    assert world.client.post(wire.CREATE, content=b"{", headers=headers).status_code == 422
    large = world.client.post(wire.CREATE, content=b" " * (4 * 1024**2 + 1), headers=headers)
    assert (large.status_code, large.json()["code"]) == (413, "TOO_LARGE")


def test_ids_beyond_what_a_database_holds_are_refused(world: World) -> None:
    assert world.get(f"/api/v1/tasks/{2**63}/params").status_code == 422
    assert world.get("/api/v1/tasks/0/params").status_code == 422
    assert world.get("/api/v1/tasks/999/params").status_code == 404


def test_beginning_and_ending_are_told_as_events(world: World) -> None:
    run = world.run()
    run.finish()
    with world.database.read() as conn:
        told = events.after(conn, "default", 0, 10, task_id=run.task_id)
    assert [event["kind"] for event in told] == ["task.running", "task.completed"]
