"""Events: pages, and the stream that can be resumed."""

from __future__ import annotations

import json
import socket
import threading
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from api.serving import Served, wait_until
from hostler.fleet.api import sse
from hostler.tracking.server import events
from sqlalchemy import Connection

EVENTS = "/api/v1/events"


def read_stream(
    client: httpx.Client, count: int, headers: dict[str, str] | None = None, **params: Any
) -> list[dict[str, Any]]:
    """The first `count` events of a stream."""
    found: list[dict[str, Any]] = []
    current: dict[str, Any] = {}
    with client.stream("GET", f"{EVENTS}/stream", params=params, headers=headers) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name in ("id", "event", "data"):
                current[name] = value
            elif not line and current:
                found.append(current | {"data": json.loads(current["data"])})
                current = {}
                if len(found) == count:
                    break
    return found


def test_a_stream_from_the_first_event_tells_what_happened_in_order(
    served: Served, client: httpx.Client
) -> None:
    task = served.submit(client)
    client.post(f"/api/v1/tasks/{task['id']}/stop")
    found = read_stream(client, 2, after=0)
    assert [event["event"] for event in found] == ["task.queued", "task.stopped"]
    assert found[0]["data"]["task_id"] == task["id"]
    assert [int(event["id"]) for event in found] == sorted(int(event["id"]) for event in found)


def test_a_stream_goes_on_after_the_last_event_id(served: Served, client: httpx.Client) -> None:
    for _ in range(3):
        served.submit(client)
    first = read_stream(client, 1, after=0)[0]
    rest = read_stream(client, 2, headers={"Last-Event-ID": first["id"]})
    assert [event["data"]["task_id"] for event in rest] == [2, 3]


def test_a_stream_without_a_position_tells_only_what_comes(served: Served, client: httpx.Client) -> None:
    served.submit(client, name="before")
    found: list[dict[str, Any]] = []
    with served.client() as listener:
        thread = threading.Thread(target=lambda: found.extend(read_stream(listener, 1)))
        thread.start()
        while thread.is_alive():  # the listener may not be listening yet: say it until it hears
            served.submit(client, name="after")
            thread.join(0.1)
    assert found[0]["data"]["task_id"] > 1


def test_filters_leave_out_the_rest(served: Served, client: httpx.Client) -> None:
    served.submit(client)
    other = served.submit(client)
    client.post(f"/api/v1/tasks/{other['id']}/stop")
    assert [one["event"] for one in read_stream(client, 2, after=0, task=other["id"])] == [
        "task.queued",
        "task.stopped",
    ]
    assert [one["data"]["task_id"] for one in read_stream(client, 1, after=0, kind="task.stopped")] == [
        other["id"]
    ]


@pytest.mark.slow
def test_a_client_that_takes_nothing_is_disconnected_and_can_resume(
    served: Served, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "SEND_TIMEOUT_SECONDS", 0.5)
    flood = 20_000

    def many(conn: Connection) -> None:
        for _ in range(flood):
            events.emit(conn, workspace="default", kind="x.y", now=1.0, actor="test", message="m" * 400)

    served.database.write(many)
    address, before = urlsplit(served.url), served.state.hub.listeners
    with socket.socket() as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.connect((address.hostname, address.port))
        request = (
            f"GET {EVENTS}/stream?after=0 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {served.token}\r\n\r\n"
        )
        lazy.sendall(request.encode())
        wait_until(lambda: served.state.hub.listeners == before + 1)
        wait_until(lambda: served.state.hub.listeners == before)  # it took nothing: its stream has ended
    assert read_stream(client, 1, headers={"Last-Event-ID": str(flood - 1)})[0]["id"] == str(flood)


def test_a_last_event_id_of_somebody_elses_making_is_refused(client: httpx.Client) -> None:
    answer = client.get(f"{EVENTS}/stream", headers={"Last-Event-ID": "yesterday"})
    assert answer.status_code == 400
    assert answer.json()["code"] == "BAD_LAST_EVENT_ID"


def test_pages_of_events_are_newest_first_and_end(served: Served, client: httpx.Client) -> None:
    for _ in range(5):
        served.submit(client)
    first = client.get(EVENTS, params={"limit": 3, "kind": "task."}).json()
    second = client.get(EVENTS, params={"limit": 3, "kind": "task.", "cursor": first["next_cursor"]}).json()
    assert [event["task_id"] for event in first["items"] + second["items"]] == [5, 4, 3, 2, 1]
    assert second["next_cursor"] is None
