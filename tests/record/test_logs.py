"""Logs: appended by offset, read from any byte, followed as they grow."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from hostler.tracking import wire
from hostler.tracking.server import logs
from record.world import Run, World


def log_of(run: Run, **query: Any) -> Any:
    return run.world.get(f"/api/v1/tasks/{run.task_id}/logs", **query)


def test_chunks_are_read_back_as_one_text(world: World) -> None:
    run = world.run()
    assert run.log(b"one\ntw").json() == {"offset": 6}
    assert run.log("o\nö\n".encode(), offset=6).json() == {"offset": 11}
    answer = log_of(run)
    assert answer.content.decode() == "one\ntwo\nö\n"
    headers = [answer.headers[f"x-hostler-{name}"] for name in ("attempt", "offset", "next-offset", "end")]
    assert headers == ["1", "0", "11", "11"]


def test_known_bytes_again_are_stored_once_and_an_overlap_adds_its_rest(world: World) -> None:
    run = world.run()
    run.log(b"abcdef")
    assert run.log(b"abcdef").json() == {"offset": 6}
    assert run.log(b"defghi", offset=3).json() == {"offset": 9}
    assert log_of(run).content == b"abcdefghi"


def test_a_gap_is_refused_with_the_offset_to_go_on_at(world: World) -> None:
    run = world.run()
    run.log(b"abc")
    answer = run.log(b"xyz", offset=10)
    assert answer.status_code == 409
    assert (answer.json()["code"], answer.json()["offset"]) == ("LOG_GAP", 3)
    assert log_of(run).content == b"abc"


def test_any_range_of_bytes_can_be_read(world: World) -> None:
    run = world.run()
    text = bytes(range(256)) * 40
    for start in range(0, len(text), 1000):
        run.log(text[start : start + 1000], offset=start)
    for offset, limit in ((0, 1), (999, 2), (1000, 1000), (1500, 3000), (len(text) - 1, 50), (len(text), 5)):
        answer = log_of(run, offset=offset, limit=limit)
        assert answer.content == text[offset : offset + limit]
        assert int(answer.headers["x-hostler-next-offset"]) == min(offset + limit, len(text))


@pytest.mark.parametrize(("lines", "expected"), [(1, b"c"), (2, b"b\nc"), (3, b"a\nb\nc"), (99, b"a\nb\nc")])
def test_the_last_lines_can_be_read(world: World, lines: int, expected: bytes) -> None:
    run = world.run()
    run.log(b"a\nb")
    run.log(b"\nc", offset=3)
    assert log_of(run, tail=lines).content == expected
    run.log(b"\n", offset=5)
    assert log_of(run, tail=lines).content == expected + b"\n"


def test_a_tail_of_an_empty_log_is_empty(world: World) -> None:
    assert log_of(world.run(), tail=10).content == b""


def test_each_attempt_has_a_log_of_its_own_and_the_newest_is_shown(world: World) -> None:
    first = world.fleet_task()
    first.log(b"first")
    second = first.next_attempt()
    second.log(b"second")
    assert log_of(second).content == b"second"
    assert log_of(second, attempt=1).content == b"first"


def test_a_chunk_over_its_limit_is_refused(world: World) -> None:
    run = world.run()
    answer = run.log(b"x" * (wire.LOG_CHUNK_BYTES + 1))
    assert (answer.status_code, answer.json()["limit_bytes"]) == (413, wire.LOG_CHUNK_BYTES)
    assert log_of(run).content == b""


def test_an_attempt_that_logs_without_end_is_stopped_at_the_limit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "LOG_BYTES_MAX", 10)
    run = world.run()
    run.log(b"0123456789")
    answer = run.log(b"x", offset=10)
    assert (answer.status_code, answer.json()["code"], answer.json()["offset"]) == (413, "LOG_LIMIT", 10)
    assert run.log(b"789", offset=7).json() == {"offset": 10}


def stream(run: Run, **headers: str) -> list[dict[str, Any]]:
    """Events of the stream until it ends."""
    path = f"/api/v1/tasks/{run.task_id}/logs/stream"
    authorization = {"Authorization": f"Bearer {run.world.secret}", **headers}
    found: list[dict[str, Any]] = []
    with run.world.client.stream("GET", path, headers=authorization) as answer:
        assert answer.status_code == 200
        event: dict[str, Any] = {}
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name in ("event", "id"):
                event[name] = value
            elif name == "data":
                found.append({**event, **json.loads(value)})
                event = {}
    return found


def test_a_follower_sees_what_comes_while_it_follows_and_the_end(world: World) -> None:
    run = world.run()
    run.log(b"before ")

    def write() -> None:
        offset = 7
        for word in (b"while ", b"it ", b"runs"):
            offset = run.log(word, offset=offset).json()["offset"]
        run.finish()

    writer = threading.Thread(target=write)
    writer.start()
    events = stream(run)
    writer.join()
    assert "".join(event.get("text", "") for event in events) == "before while it runs"
    assert events[-1] == {"event": "end", "state": "completed"}


def test_a_follower_that_comes_back_goes_on_where_it_was(world: World) -> None:
    run = world.run()
    run.log(b"abcdef")
    run.finish()
    assert stream(run)[0]["id"] == "1:6"
    again = stream(run, **{"Last-Event-ID": "1:4"})
    assert again[0] == {"event": "log", "id": "1:6", "attempt": 1, "offset": 4, "text": "ef"}


def test_a_character_cut_by_a_chunk_is_followed_whole(world: World) -> None:
    run = world.run()
    horse = "🐴".encode()
    run.log(b"a" + horse[:2])

    def write() -> None:
        run.log(horse[2:], offset=3)
        run.finish()

    writer = threading.Thread(target=write)
    writer.start()
    events = stream(run)
    writer.join()
    assert "".join(event.get("text", "") for event in events) == "a🐴"


def test_bytes_that_are_no_text_are_followed_too(world: World) -> None:
    run = world.run()
    run.log(b"a\xff\xfe\xf0")
    run.finish()
    assert "".join(event.get("text", "") for event in stream(run)) == "a\ufffd\ufffd\ufffd"


def test_a_follower_goes_over_to_the_next_attempt(world: World) -> None:
    run = world.run()
    run.log(b"first")
    run.finish("failed", 1)
    again = world.run()
    again.log(b"second")
    again.finish()
    assert [event.get("text") for event in stream(again, **{"Last-Event-ID": "1:0"})] == [
        "first",
        "second",
        None,
    ]


def test_a_made_up_event_id_is_refused(world: World) -> None:
    run = world.run()
    path = f"/api/v1/tasks/{run.task_id}/logs/stream"
    headers = {"Authorization": f"Bearer {world.secret}", "Last-Event-ID": "x:1"}
    answer = world.client.get(path, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "BAD_EVENT_ID")
