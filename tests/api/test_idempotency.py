"""A POST that is sent again."""

from __future__ import annotations

import threading
from typing import Any

import httpx
from api.serving import Served
from hostler.fleet.api import idempotency as kept
from hostler.tracking.server.database.schema import idempotency
from sqlalchemy import update

TASKS = "/api/v1/tasks"
BODY = {"spec": {"run": ["true"]}}


def test_the_same_key_and_request_answers_the_first_answer_and_makes_one_task(client: httpx.Client) -> None:
    first = client.post(TASKS, json=BODY, headers={"Idempotency-Key": "k1"})
    again = client.post(TASKS, json=BODY, headers={"Idempotency-Key": "k1"})
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert again.headers["etag"] == first.headers["etag"]
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert len(client.get(TASKS).json()["items"]) == 1


def test_the_same_key_for_another_request_is_refused(client: httpx.Client) -> None:
    client.post(TASKS, json=BODY, headers={"Idempotency-Key": "k1"})
    other = client.post(TASKS, json={"spec": {"run": ["false"]}}, headers={"Idempotency-Key": "k1"})
    assert other.status_code == 422
    assert other.json()["code"] == "IDEMPOTENCY_MISMATCH"
    elsewhere = client.post(f"{TASKS}/1/stop", headers={"Idempotency-Key": "k1"})
    assert elsewhere.json()["code"] == "IDEMPOTENCY_MISMATCH"
    assert client.get(f"{TASKS}/1").json()["state"] == "queued"


def test_a_request_that_failed_gives_its_key_back(client: httpx.Client) -> None:
    headers = {"Idempotency-Key": "k1"}
    assert client.post(TASKS, json={"spec": {"run": []}}, headers=headers).status_code == 422
    assert client.post(TASKS, json=BODY, headers=headers).status_code == 201


def test_a_key_whose_first_request_is_under_way_is_a_conflict(served: Served, client: httpx.Client) -> None:
    headers = {"Idempotency-Key": "k1"}
    client.post(TASKS, json=BODY, headers=headers)
    served.database.write(lambda conn: conn.execute(update(idempotency).values(status=None, response=None)))
    answer = client.post(TASKS, json=BODY, headers=headers)
    assert answer.status_code == 409
    assert answer.json()["code"] == "IDEMPOTENCY_IN_PROGRESS"


def test_a_key_whose_daemon_died_before_the_answer_was_kept_still_makes_one_task(
    served: Served, client: httpx.Client
) -> None:
    headers = {"Idempotency-Key": "k1"}
    first = client.post(TASKS, json=BODY, headers=headers).json()

    def as_after_kill_9(conn: Any) -> None:
        then = served.state.clock() - kept.UNDER_WAY_SECONDS - 1
        conn.execute(update(idempotency).values(status=None, response=None, created_at=then))

    served.database.write(as_after_kill_9)
    assert client.post(TASKS, json=BODY, headers=headers).json()["id"] == first["id"]


def test_keys_are_forgotten_after_a_day(served: Served, client: httpx.Client) -> None:
    client.post(TASKS, json=BODY, headers={"Idempotency-Key": "k1"})
    now = served.state.clock()
    assert served.database.write(lambda conn: kept.prune(conn, now + kept.KEEP_SECONDS - 60)) == 0
    assert served.database.write(lambda conn: kept.prune(conn, now + kept.KEEP_SECONDS + 60)) == 1


def test_a_key_too_long_is_refused(client: httpx.Client) -> None:
    answer = client.post(TASKS, json=BODY, headers={"Idempotency-Key": "k" * 129})
    assert answer.status_code == 400
    assert answer.json()["code"] == "BAD_IDEMPOTENCY_KEY"


def test_ten_at_once_with_one_key_make_one_task(served: Served) -> None:
    answers: list[int] = []

    def submit() -> None:
        with served.client() as one:
            answers.append(one.post(TASKS, json=BODY, headers={"Idempotency-Key": "k1"}).status_code)

    threads = [threading.Thread(target=submit) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) <= {201, 409}
    assert 201 in answers
    with served.client() as client:
        assert len(client.get(TASKS).json()["items"]) == 1
