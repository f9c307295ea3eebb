"""Requests that are sent again, streams that are taken up again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hostler.fleet.cli.client import ATTEMPTS_MAX, Client
from hostler.fleet.cli.failures import ExitCode, Failure
from hostler.fleet.cli.follow import PATIENCE_SECONDS, Event, OutOfTime, follow, parse
from hostler.tracking.place import Server


def client_of(answers: Iterator[Any], seen: list[httpx.Request]) -> Client:
    def answer(request: httpx.Request) -> httpx.Response:
        request.read()
        seen.append(request)
        found: httpx.Response | Exception = next(answers)
        if isinstance(found, Exception):
            raise found
        return found

    server = Server("http://daemon", "secret", None)
    return Client(server, transport=httpx.MockTransport(answer), sleep=lambda _seconds: None)


def problem(status: int, code: str, **headers: str) -> httpx.Response:
    return httpx.Response(
        status, json={"title": code.lower(), "status": status, "code": code}, headers=headers
    )


def test_a_post_is_sent_again_with_the_same_key() -> None:
    seen: list[httpx.Request] = []
    answers = iter([httpx.ConnectError("refused"), problem(503, "BUSY"), httpx.Response(201, json={"id": 1})])
    assert client_of(answers, seen).post("/api/v1/tasks", {"a": 1}) == {"id": 1}
    assert len({request.headers["idempotency-key"] for request in seen}) == 1
    assert {request.content for request in seen} == {b'{"a":1}'}
    assert seen[0].headers["authorization"] == "Bearer secret"


def test_our_own_first_try_under_way_is_waited_for() -> None:
    answers = iter([problem(409, "IDEMPOTENCY_IN_PROGRESS"), httpx.Response(200, json={})])
    assert client_of(answers, []).post("/x") == {}


def test_the_time_that_the_server_asks_for_is_given_to_it() -> None:
    slept: list[float] = []
    answers = iter([problem(503, "STORAGE_FULL", **{"Retry-After": "3"}), httpx.Response(200, json={})])
    server = Server("http://daemon", "secret", None)
    transport = httpx.MockTransport(lambda _request: next(answers))
    Client(server, transport=transport, sleep=slept.append).get("/x")
    assert slept
    assert slept[0] >= 3


def test_a_daemon_that_stays_away_is_unreachable_after_some_tries() -> None:
    seen: list[httpx.Request] = []
    with pytest.raises(Failure) as failed:
        client_of(iter([httpx.ConnectError("refused")] * 99), seen).get("/x")
    assert failed.value.exit_code is ExitCode.UNREACHABLE
    assert len(seen) == ATTEMPTS_MAX


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        (422, "INVALID_TASK", 2),
        (404, "NOT_FOUND", 3),
        (401, "UNAUTHENTICATED", 4),
        (403, "FORBIDDEN", 4),
        (409, "WRONG_STATE", 5),
        (412, "CHANGED", 5),
        (409, "QUOTA_EXCEEDED", 6),
        (402, "BUDGET_SPENT", 6),
        (500, "INTERNAL", 1),
    ],
)
def test_a_refusal_is_not_sent_again_and_has_its_exit_code(status: int, code: str, exit_code: int) -> None:
    seen: list[httpx.Request] = []
    with pytest.raises(Failure) as failed:
        client_of(iter([problem(status, code)]), seen).get("/x")
    assert failed.value.exit_code == exit_code
    assert failed.value.body()["code"] == code
    assert len(seen) == 1


def test_pages_are_read_up_to_the_limit() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        first, limit = int(request.url.params.get("cursor", 0)), int(request.url.params["limit"])
        items = list(range(first, min(first + limit, 1200)))
        more = str(first + limit) if first + limit < 1200 else None
        return httpx.Response(200, json={"items": items, "next_cursor": more})

    client = Client(Server("http://daemon", "t", None), transport=httpx.MockTransport(answer))
    assert client.pages("/x", limit=7) == ([0, 1, 2, 3, 4, 5, 6], True)
    assert client.pages("/x", limit=0) == (list(range(1200)), False)
    assert client.pages("/x", limit=1200) == (list(range(1200)), False)


def test_events_are_cut_at_line_feeds_only_and_wherever_the_bytes_are_split() -> None:
    data = json.dumps({"text": "a\u2028b\x85c"}, ensure_ascii=False)
    stream = f": ping\r\n\r\nid: 1:5\r\nevent: log\r\ndata: {data}\r\n\r\nevent: end\ndata: x\ndata: y\n\n".encode()
    whole = list(parse(iter([stream])))
    assert whole == [Event(), Event("log", data, "1:5"), Event("end", "x\ny", "")]
    assert list(parse(bytes([one]) for one in stream)) == whole


def event(number: int) -> bytes:
    return f"id: {number}\nevent: e\ndata: {number}\n\n".encode()


def test_a_stream_that_breaks_off_is_taken_up_after_the_last_event() -> None:
    seen: list[httpx.Request] = []
    answers = iter(
        [
            httpx.Response(200, content=event(1) + event(2)),
            httpx.ConnectError("restarting"),
            problem(503, "BUSY"),
            httpx.Response(200, content=event(3)),
        ]
    )
    stream = follow(client_of(answers, seen), "/s", sleep=lambda _seconds: None)
    assert [next(stream).data for _ in range(3)] == ["1", "2", "3"]
    assert [request.headers.get("last-event-id") for request in seen] == [None, "2", "2", "2"]


def test_following_ends_when_the_daemon_stays_away_or_refuses() -> None:
    now = [0.0]

    def sleep(_seconds: float) -> None:
        now[0] += 30.0

    away = client_of(iter([httpx.ConnectError("gone")] * 99), [])
    with pytest.raises(Failure) as failed:
        next(follow(away, "/s", clock=lambda: now[0], sleep=sleep))
    assert failed.value.exit_code is ExitCode.UNREACHABLE
    assert now[0] > PATIENCE_SECONDS
    with pytest.raises(Failure) as refused:
        next(follow(client_of(iter([problem(404, "NOT_FOUND")]), []), "/s"))
    assert refused.value.exit_code is ExitCode.NOT_FOUND


def test_following_ends_at_its_deadline() -> None:
    now = [0.0]

    def sleep(_seconds: float) -> None:
        now[0] += 1.0

    silent = client_of(iter([httpx.Response(200, content=b": ping\n\n")] * 99), [])
    with pytest.raises(OutOfTime):
        next(follow(silent, "/s", deadline=5.0, clock=lambda: now[0], sleep=sleep))
