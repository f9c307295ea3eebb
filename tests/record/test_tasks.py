"""Tasks by uid and in pages, events in order, cursors, and errors as problems."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from hostler.tracking.server import cursors, events, problems, tasks
from hostler.tracking.server.database import StorageFull, WriterBusy
from hostler.tracking.server.problems import Problem
from hostler.tracking.server.tasks import Filters
from record.world import World
from starlette.testclient import TestClient


def create(world: World, uid: str, **fields: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "workspace": "default",
        "project": "p",
        "name": uid,
        "queue": "default",
        "priority": 0,
        "spec": {},
        "tags": [],
        "actor": "ann",
        "state": "queued",
        **fields,
    }
    return world.database.write(lambda conn: tasks.create(conn, uid=uid, now=world.clock(), **given))


ANY = Filters()


def names(world: World, filters: Filters = ANY, workspace: str = "default") -> list[str]:
    with world.database.read() as conn:
        found, _ = tasks.page(conn, workspace, filters, None, 100)
    return [row["name"] for row in found]


def test_the_same_uid_is_the_same_task_within_a_workspace(world: World) -> None:
    first = create(world, "a", spec={"run": ["x"]})
    again = create(world, "a", spec={"run": ["y"]}, name="other")
    assert again == first
    assert create(world, "a", workspace="other")["id"] != first["id"]
    assert names(world) == ["a"]


def test_a_queued_task_waits_since_it_was_made(world: World) -> None:
    assert create(world, "a")["queued_at"] == world.clock.now
    assert create(world, "b", state="draft")["queued_at"] is None


def test_pages_are_complete_and_without_repeats_while_tasks_are_added(world: World) -> None:
    for number in range(7):
        create(world, str(number))
    seen: list[str] = []
    cursor = None
    for round_number in range(10):
        with world.database.read() as conn:
            found, cursor = tasks.page(conn, "default", Filters(), cursor, 3)
        seen += [row["name"] for row in found]
        create(world, f"new-{round_number}")
        if cursor is None:
            break
    assert seen == ["6", "5", "4", "3", "2", "1", "0"]


def test_filters_choose_by_every_property(world: World) -> None:
    create(world, "one", queue="urgent", project="vision", tags=["prod", 'say "hi"'])
    create(world, "two", state="draft", tags=["produce"], name="Two_100%")
    create(world, "three", parent_id=1)
    cases: list[tuple[Filters, list[str]]] = [
        (Filters(states=["draft"]), ["Two_100%"]),
        (Filters(states=["draft", "queued"], queue="urgent"), ["one"]),
        (Filters(project="vision"), ["one"]),
        (Filters(tag="prod"), ["one"]),
        (Filters(tag='say "hi"'), ["one"]),
        (Filters(tag="hi"), []),
        (Filters(tag="%"), []),
        (Filters(name_contains="two_1"), ["Two_100%"]),
        (Filters(name_contains="%"), ["Two_100%"]),
        (Filters(parent_id=1), ["three"]),
        (Filters(instance_id="h-1"), []),
    ]
    for filters, expected in cases:
        assert names(world, filters) == expected, filters


def test_counts_are_by_queue_and_state(world: World) -> None:
    for uid in ("a", "b"):
        create(world, uid)
    create(world, "c", state="draft")
    with world.database.read() as conn:
        assert sorted(tasks.counts(conn, "default")) == [("default", "draft", 1), ("default", "queued", 2)]


@pytest.mark.parametrize("cursor", ["x", "!!!", "e30x", "bnVsbA", "W10", "eyJpZCI6ICJ4In0", "a" * 5000])
def test_a_cursor_not_made_here_is_refused(world: World, cursor: str) -> None:
    with world.database.read() as conn, pytest.raises(Problem) as refused:
        tasks.page(conn, "default", Filters(), cursor, 10)
    assert (refused.value.status, refused.value.code) == (400, "BAD_CURSOR")


def test_a_cursor_gives_back_what_it_was_made_of() -> None:
    assert cursors.decode(cursors.encode({"id": 7, "at": 1.5})) == {"id": 7, "at": 1.5}
    assert cursors.decode(None) == {}


def emit(world: World, kind: str, **fields: Any) -> int:
    given = {"workspace": "default", "actor": "ann", "message": kind, **fields}
    return world.database.write(lambda conn: events.emit(conn, kind=kind, now=world.clock(), **given))


def test_events_come_in_order_after_an_id_and_by_filter(world: World) -> None:
    first = emit(world, "task.queued", task_id=1)
    emit(world, "instance.ready", instance_id="h-1", data={"a": 1})
    emit(world, "task.running", task_id=1, workspace="other")
    last = emit(world, "task.completed", task_id=2)

    def kinds(after: int, *chosen: str, **filters: Any) -> list[str]:
        with world.database.read() as conn:
            found = events.after(conn, "default", after, 10, chosen or None, **filters)
        return [event["kind"] for event in found]

    assert kinds(0) == ["task.queued", "instance.ready", "task.completed"]
    assert kinds(first) == ["instance.ready", "task.completed"]
    assert kinds(0, "task.") == ["task.queued", "task.completed"]
    assert kinds(0, "task.queued", "instance.ready") == ["task.queued", "instance.ready"]
    assert kinds(0, task_id=2) == ["task.completed"]
    assert kinds(0, instance_id="h-1") == ["instance.ready"]
    with world.database.read() as conn:
        assert [event["kind"] for event in events.before(conn, "default", last, 1)] == ["instance.ready"]
        assert events.last_id(conn, "default") == last


def test_pruning_events_keeps_the_newest_so_that_ids_never_start_again(world: World) -> None:
    ids = [emit(world, "a.b") for _ in range(5)]
    world.clock.now += 10
    assert world.database.write(lambda conn: events.prune(conn, world.clock())) == 4
    assert emit(world, "a.b") > ids[-1]


def failing_app() -> TestClient:
    app = FastAPI()
    problems.install(app)

    @app.get("/fail/{how}")
    def fail(how: str) -> None:
        raise {
            "own": Problem(409, "TAKEN", "taken", "by another", "choose one", offset=7),
            "full": StorageFull("no room"),
            "busy": WriterBusy("later"),
            "bug": ZeroDivisionError("secret detail"),
        }[how]

    @app.get("/number")
    def number(n: int) -> int:
        return n

    return TestClient(app, raise_server_exceptions=False)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/fail/own", 409, "TAKEN"),
        ("/fail/full", 503, "STORAGE_FULL"),
        ("/fail/busy", 503, "BUSY"),
        ("/fail/bug", 500, "INTERNAL"),
        ("/number?n=x", 422, "INVALID"),
        ("/nowhere", 404, "NOT_FOUND"),
    ],
)
def test_every_error_is_a_problem_with_a_code(path: str, status: int, code: str) -> None:
    answer = failing_app().get(path)
    body = answer.json()
    assert (answer.status_code, body["status"], body["code"]) == (status, status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert body["title"]


def test_a_method_that_is_not_taken_says_which_are() -> None:
    answer = failing_app().post("/number")
    assert (answer.status_code, answer.json()["code"]) == (405, "METHOD_NOT_ALLOWED")
    assert answer.headers["allow"] == "GET"


def test_a_problem_carries_its_hint_and_further_members() -> None:
    body = failing_app().get("/fail/own").json()
    assert (body["hint"], body["detail"], body["offset"]) == ("choose one", "by another", 7)


def test_an_unexpected_error_tells_a_number_and_no_secrets(caplog: pytest.LogCaptureFixture) -> None:
    answer = failing_app().get("/fail/bug")
    assert "secret detail" not in answer.text
    assert answer.json()["error_id"] in caplog.text
    assert "ZeroDivisionError" in caplog.text
