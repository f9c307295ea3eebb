"""Bodies that are too large, told before they are read."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
from api.serving import Served
from hostler.agent_bootstrap import wire

MIB = 1 << 20


def test_a_declared_body_over_the_cap_is_refused_without_being_read(
    served: Served, client: httpx.Client
) -> None:
    parts = urlsplit(served.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=5) as wire_socket:
        head = (
            "POST /api/v1/tasks HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: Bearer {served.token}\r\nContent-Length: {100 * MIB}\r\n\r\n"
        )
        wire_socket.sendall(head.encode())
        answer = wire_socket.recv(65536).decode()
    assert answer.startswith("HTTP/1.1 413")
    assert "application/problem+json" in answer
    assert client.get("/api/v1/tasks").json()["items"] == []


def test_a_streamed_body_is_cut_off_at_the_cap(client: httpx.Client) -> None:
    sent = 0

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(40):
            sent += MIB
            yield b"x" * MIB

    try:
        answer = client.post("/api/v1/tasks", content=chunks())
    except httpx.HTTPError:
        pass  # the server closed while we were still sending: that is a refusal too
    else:
        assert answer.status_code == 413
        assert answer.json()["code"] == "TOO_LARGE"
    assert client.get("/api/v1/tasks").json()["items"] == []


def test_a_body_just_under_the_cap_is_taken(client: httpx.Client) -> None:
    spec = {"run": ["true"], "environ": {f"V{number}": "x" * 100_000 for number in range(20)}}
    assert client.post("/api/v1/tasks", json={"spec": spec}).status_code == 201


def test_what_an_agent_says_has_a_smaller_cap(served: Served) -> None:
    with served.joined("h-aaaaaaaaaaaa") as agent:
        body = json.dumps({"held": [], "stats": {}, "more": "x" * (2 * MIB)})
        assert agent.post(wire.HEARTBEAT, content=body).status_code == 413
