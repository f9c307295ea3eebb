"""Tasks over HTTP: submit, list, look, change, stop, requeue."""

from __future__ import annotations

import httpx
import pytest
from api.serving import Served, free
from hostler.agent_bootstrap import wire

TASKS = "/api/v1/tasks"


def test_a_submitted_task_is_queued_with_its_queues_priority_and_wakes_the_loop(
    served: Served, client: httpx.Client
) -> None:
    answer = client.post(
        TASKS, json={"spec": {"run": ["sh", "-c", "echo hi"], "queue": "urgent", "tags": ["a"]}}
    )
    task = answer.json()
    assert answer.status_code == 201
    assert (task["state"], task["priority"], task["queue"], task["tags"]) == ("queued", 90, "urgent", ["a"])
    assert task["spec"]["run"] == ["sh", "-c", "echo hi"]
    assert answer.headers["Location"] == f"{TASKS}/{task['id']}"
    assert served.wakes


def test_every_mistake_in_a_task_is_told_at_its_place_and_nothing_is_queued(client: httpx.Client) -> None:
    spec = {"run": [], "resources": {"cpus": "many"}, "colour": "red"}
    answer = client.post(TASKS, json={"spec": spec})
    assert answer.status_code == 422
    body = answer.json()
    assert body["code"] == "INVALID_TASK"
    assert {error["at"] for error in body["errors"]} == {"spec.run", "spec.resources.cpus", "spec.colour"}
    assert body["hint"]
    assert client.get(TASKS).json()["items"] == []


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"spec": 3}', b'{"spec": {}}', b'{"spec": {"run": "x"}, "more": 1}', b"\xff\xfe"],
)
def test_a_malformed_body_is_a_problem(client: httpx.Client, content: bytes) -> None:
    answer = client.post(TASKS, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"
    assert client.get(TASKS).json()["items"] == []


def test_an_unknown_queue_is_refused_with_the_nearest_name(client: httpx.Client) -> None:
    answer = client.post(TASKS, json={"spec": {"run": ["true"], "queue": "urgnet"}})
    assert answer.status_code == 422
    assert answer.json()["code"] == "UNKNOWN_QUEUE"
    assert "urgent" in answer.json()["hint"]


def test_code_that_was_not_uploaded_is_refused(client: httpx.Client) -> None:
    answer = client.post(TASKS, json={"spec": {"run": ["true"]}, "code_digest": "0" * 64})
    assert answer.status_code == 422
    assert answer.json()["code"] == "CODE_MISSING"


def test_the_same_uid_again_is_the_same_task(client: httpx.Client) -> None:
    body = {"spec": {"run": ["true"]}, "uid": "once"}
    assert client.post(TASKS, json=body).json()["id"] == client.post(TASKS, json=body).json()["id"]
    assert len(client.get(TASKS).json()["items"]) == 1


def test_pages_follow_each_other_without_gap_or_repeat(served: Served, client: httpx.Client) -> None:
    made = [served.submit(client, name=f"t{number}")["id"] for number in range(7)]
    seen: list[int] = []
    cursor = None
    while True:
        params = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        body = client.get(TASKS, params=params).json()
        seen += [task["id"] for task in body["items"]]
        cursor = body["next_cursor"]
        if cursor is None:
            break
    assert seen == sorted(made, reverse=True)


def test_a_cursor_that_is_not_ours_and_a_limit_too_large_are_refused(client: httpx.Client) -> None:
    assert client.get(TASKS, params={"cursor": "@@@"}).status_code == 400
    assert client.get(TASKS, params={"limit": 100_000}).status_code == 422


def test_filters_narrow_the_list(served: Served, client: httpx.Client) -> None:
    served.submit(client, name="alpha", project="vision", tags=["x"])
    served.submit(client, name="beta", project="text", queue="urgent")
    client.post(f"{TASKS}/2/stop")

    def names(**params: str) -> list[str]:
        return [task["name"] for task in client.get(TASKS, params=params).json()["items"]]

    assert names(project="vision") == ["alpha"]
    assert names(tag="x") == ["alpha"]
    assert names(queue="urgent") == ["beta"]
    assert names(state="stopped") == ["beta"]
    assert names(name="alp") == ["alpha"]
    assert client.get(TASKS, params={"state": "sleeping"}).status_code == 422


def test_a_change_on_top_of_an_old_reading_is_refused(served: Served, client: httpx.Client) -> None:
    task = served.submit(client)
    path = f"{TASKS}/{task['id']}"
    read = client.get(path)
    changed = client.patch(path, json={"tags": ["kept"]}, headers={"If-Match": read.headers["ETag"]})
    assert changed.status_code == 200
    assert changed.headers["ETag"] != read.headers["ETag"]
    late = client.patch(path, json={"tags": ["lost"]}, headers={"If-Match": read.headers["ETag"]})
    assert late.status_code == 412
    assert client.get(path).json()["tags"] == ["kept"]
    assert client.get(path, headers={"If-None-Match": changed.headers["ETag"]}).status_code == 304


def test_a_waiting_task_stops_at_once_and_can_be_requeued(served: Served, client: httpx.Client) -> None:
    task = served.submit(client)
    path = f"{TASKS}/{task['id']}"
    assert client.post(f"{path}/stop").json()["state"] == "stopped"
    assert client.post(f"{path}/stop").json()["state"] == "stopped"
    assert client.post(f"{path}/requeue").json()["state"] == "queued"


def test_a_running_task_is_asked_to_stop_through_its_agent(served: Served, client: httpx.Client) -> None:
    task = served.submit(client)
    with served.joined("h-aaaaaaaaaaaa") as agent:
        lease = agent.post(wire.LEASE, json=free()).json()["lease"]
        path = f"{wire.PREFIX}/tasks/{task['id']}/{lease['generation']}"
        agent.post(f"{path}/started")
        assert client.post(f"{TASKS}/{task['id']}/requeue").status_code == 409
        assert client.post(f"{TASKS}/{task['id']}/stop").json()["state"] == "stopping"
        held = [{"task_id": task["id"], "generation": lease["generation"]}]
        beat = agent.post(wire.HEARTBEAT, json={"held": held, "stats": {}}).json()
        assert [stop["reason"] for stop in beat["stop"]] == ["stopped"]


def test_a_task_that_is_not_there_is_a_404_problem_everywhere(client: httpx.Client) -> None:
    for method, path in (
        ("GET", ""),
        ("GET", "/explain"),
        ("POST", "/stop"),
        ("POST", "/requeue"),
        ("PATCH", ""),
    ):
        answer = client.request(method, f"{TASKS}/999{path}", json={} if method == "PATCH" else None)
        assert answer.status_code == 404, (method, path)
        assert answer.json()["hint"]
    assert client.get(f"{TASKS}/abc").status_code == 422


def test_explain_tells_the_stored_decision_with_its_meaning(served: Served, client: httpx.Client) -> None:
    from hostler.fleet.planning.model import Decision
    from hostler.fleet.store import decisions

    task = served.submit(client)
    made = Decision(
        "task", str(task["id"]), "NO_SPOT_CAPACITY", "nothing to be had", hint="wait", next_at=5.0
    )
    served.database.write(lambda conn: decisions.record(conn, "default", [made], 1.0))
    body = client.get(f"{TASKS}/{task['id']}/explain").json()
    assert body["decision"]["code"] == "NO_SPOT_CAPACITY"
    assert body["decision"]["meaning"]
    assert body["task"]["decision"]["message"] == "nothing to be had"
    page = client.get("/api/v1/decisions", params={"subject": "task", "id": task["id"]}).json()
    assert [row["code"] for row in page["items"]] == ["NO_SPOT_CAPACITY"]
