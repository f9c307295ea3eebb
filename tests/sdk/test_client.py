"""HTTP as the agent speaks it: errors by type, keep-alive that survives, a pinned authority, bounded pauses."""

from __future__ import annotations

import io
import random
import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hostler.tracking.client import (
    CallFailed,
    Client,
    Conflict,
    Overloaded,
    Refused,
    Unauthorized,
    Unreachable,
    backoff_seconds,
)


class Scripted:
    """Answers with the statuses it is given, then 200; closes the connection after each when told to."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.statuses: list[int] = []
        self.paths: list[str] = []
        self.bodies: list[bytes] = []
        self.tokens: list[str] = []
        self.connections = 0
        self.hang_up = False
        self.reply = b'{"fine": true}'
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                owner.connections += 1
                super().setup()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Quiet."""

            def do_POST(self) -> None:
                owner.paths.append(self.path)
                owner.tokens.append(self.headers["Authorization"])
                owner.bodies.append(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
                status = owner.statuses.pop(0) if owner.statuses else 200
                body = (
                    owner.reply
                    if status == 200
                    else b'{"code": "SOME_CODE", "detail": "in words", "offset": 7}'
                )
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                if status == 503:
                    self.send_header("Retry-After", "3")
                self.end_headers()
                self.wfile.write(body)
                self.close_connection = owner.hang_up

            do_GET = do_PUT = do_POST  # noqa: N815

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls:
            self.http.socket = tls.wrap_socket(self.http.socket, server_side=True)
        self.port = self.http.server_address[1]
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


@pytest.fixture
def scripted() -> Iterator[Callable[..., Scripted]]:
    servers: list[Scripted] = []

    def start(tls: ssl.SSLContext | None = None) -> Scripted:
        servers.append(Scripted(tls))
        return servers[-1]

    yield start
    for server in servers:
        server.http.shutdown()
        server.http.server_close()


def client_of(server: Scripted, prefix: str = "") -> Client:
    return Client(f"http://127.0.0.1:{server.port}{prefix}", lambda: "secret")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, Unauthorized),
        (409, Conflict),
        (404, Refused),
        (413, Refused),
        (429, Overloaded),
        (500, Overloaded),
    ],
)
def test_errors_have_types(scripted: Callable[..., Scripted], status: int, kind: type[CallFailed]) -> None:
    server = scripted()
    server.statuses = [status]
    with pytest.raises(kind, match="in words") as raised:
        client_of(server).post("/x?token=hidden", {})
    assert (raised.value.status, raised.value.code, raised.value.problem["offset"]) == (
        status,
        "SOME_CODE",
        7,
    )
    assert "hidden" not in str(raised.value)


def test_one_connection_serves_many_requests_and_a_prefix_is_kept(scripted: Callable[..., Scripted]) -> None:
    server = scripted()
    client = client_of(server, "/behind/a/proxy/")
    for _ in range(5):
        assert client.post("/x", {"a": 1}) == {"fine": True}
    assert server.connections == 1
    assert set(server.paths) == {"/behind/a/proxy/x"}
    assert set(server.tokens) == {"Bearer secret"}


def test_an_idle_connection_the_server_closed_is_no_failure(scripted: Callable[..., Scripted]) -> None:
    server = scripted()
    client = client_of(server)
    server.hang_up = True
    body = io.BytesIO(b"streamed")
    for _ in range(3):
        client.request("PUT", "/x", body, headers={"Content-Length": "8"})
    assert server.bodies == [b"streamed"] * 3


def test_it_persists_through_trouble_and_gives_up_when_told(scripted: Callable[..., Scripted]) -> None:
    server = scripted()
    client = client_of(server)
    pauses: list[float] = []

    def patient(seconds: float) -> bool:
        pauses.append(seconds)
        return len(pauses) > 3

    server.statuses = [503, 500, 429]
    assert client.persistently(lambda: client.post("/x", {}), patient) == {"fine": True}
    assert len(pauses) == 3
    assert pauses[0] == 3.0
    server.statuses = [500, 500]
    with pytest.raises(Overloaded):
        client.persistently(lambda: client.post("/x", {}), lambda _: True)
    assert server.statuses == [500]


def test_nobody_listening_is_unreachable() -> None:
    with pytest.raises(Unreachable):
        Client("http://127.0.0.1:9", lambda: "secret").post("/x", {})


def test_an_answer_larger_than_allowed_is_cut_off(scripted: Callable[..., Scripted], tmp_path: Path) -> None:
    server = scripted()
    server.reply = b"x" * 5000
    client = client_of(server)
    for into in (None, tmp_path / "file"):
        with pytest.raises(Refused, match="over 1000 bytes"):
            client.request("GET", "/x", into=into, limit_bytes=1000)
    client.request("GET", "/x", into=tmp_path / "file", limit_bytes=5000)
    assert (tmp_path / "file").read_bytes() == server.reply


def test_pauses_are_fully_jittered_under_a_doubling_ceiling() -> None:
    rng = random.Random(7)
    for attempt, ceiling in ((0, 0.5), (1, 1.0), (4, 8.0), (7, 60.0), (500, 60.0)):
        drawn = [backoff_seconds(attempt, rng) for _ in range(500)]
        assert max(drawn) <= ceiling
        assert min(drawn) < ceiling * 0.1
        assert max(drawn) > ceiling * 0.9


def test_only_the_pinned_authority_is_believed(scripted: Callable[..., Scripted], tmp_path: Path) -> None:
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make certificates with")
    contexts = []
    for name in ("ours", "theirs"):
        command = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=127.0.0.1",
        ]
        command += ["-addext", "subjectAltName=IP:127.0.0.1"]
        command += ["-keyout", str(tmp_path / f"{name}.key"), "-out", str(tmp_path / f"{name}.pem")]
        subprocess.run(command, check=True, capture_output=True)
        contexts.append(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        contexts[-1].load_cert_chain(tmp_path / f"{name}.pem", tmp_path / f"{name}.key")
    ours, theirs = scripted(contexts[0]), scripted(contexts[1])
    pin = str(tmp_path / "ours.pem")
    assert Client(f"https://127.0.0.1:{ours.port}", lambda: "s", ca_file=pin).post("/x", {}) == {"fine": True}
    with pytest.raises(Unreachable, match="certificate"):
        Client(f"https://127.0.0.1:{theirs.port}", lambda: "s", ca_file=pin).post("/x", {})
    assert theirs.tokens == []
