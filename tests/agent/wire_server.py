"""A small real HTTP server that speaks the agent's and the record's wire messages and keeps all in memory."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from hostler.tracking import journal

JOIN_TOKEN = "join-token-of-this-test"


@dataclass
class Task:
    id: int
    spec: dict[str, Any]
    code: bytes | None = None
    cpus: float = 1.0
    memory_bytes: int = 0
    gpu_count: float = 0.0
    generation: int = 0
    attempt: int = 0
    state: str = "queued"
    ttl_seconds: float = 30.0
    log: bytearray = field(default_factory=bytearray)
    segments: dict[str, bytearray] = field(default_factory=dict)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    result: dict[str, Any] | None = None
    results: list[dict[str, Any]] = field(default_factory=list)
    stop: dict[str, Any] | None = None
    uploads_refused: bool = False
    artifacts_when_finished: int = 0

    @property
    def records(self) -> list[Any]:
        return [record for data in self.segments.values() for record in journal.parse(bytes(data))[0]]


class WireServer:
    """`away` makes every request end without an answer; `credential_seconds_left` renews at each beat when set."""

    def __init__(
        self, *, ttl_seconds: float = 30.0, heartbeat_seconds: float = 0.2, zipapp: bytes = b""
    ) -> None:
        self.ttl_seconds, self.heartbeat_seconds, self.zipapp = ttl_seconds, heartbeat_seconds, zipapp
        self.dead_man_seconds = 600.0
        self.credential = "credential-1"
        self.next_credential: str | None = None
        self.tasks: dict[int, Task] = {}
        self.blobs: dict[str, bytes] = {}
        self.joins: list[dict[str, Any]] = []
        self.requests: list[str] = []
        self.lease_requests: list[dict[str, Any]] = []
        self.beats: list[dict[str, Any]] = []
        self.notices: list[dict[str, Any]] = []
        self.failures: list[dict[str, Any]] = []
        self.left = 0
        self.drain = False
        self.away = False
        self.errors_to_give = 0
        self.changed = threading.Condition()
        handler = type("Handler", (_Handler,), {"owner": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self.away = True
        with self.changed:
            self.changed.notify_all()
        self._http.shutdown()
        self._http.server_close()

    def submit(self, run: Any, **more: Any) -> Task:
        known = {
            name: more.pop(name) for name in ("code", "cpus", "memory_bytes", "gpu_count") if name in more
        }
        with self.changed:
            task = Task(len(self.tasks) + 1, {"run": run, **more}, ttl_seconds=self.ttl_seconds, **known)
            self.tasks[task.id] = task
            self.changed.notify_all()
        return task

    def wait_for(self, what: Callable[[], object], seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"not within {seconds} s: tasks {self.tasks}, requests {self.requests[-30:]}"
                )
            time.sleep(0.02)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    owner: WireServer

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Quiet."""

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_HEAD = do_GET  # noqa: N815

    def _serve(self) -> None:
        owner = self.owner
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if self._must_be_silent():
            return
        owner.requests.append(f"{self.command} {parts.path}")
        if owner.errors_to_give > 0:
            owner.errors_to_give -= 1
            self._answer(503, {"title": "busy"})
            return
        status, answer = self._route(parts.path, query, body)
        if self._must_be_silent():  # it may have gone away meanwhile: done, but never answered
            return
        self._answer(status, answer)

    def _must_be_silent(self) -> bool:
        self.close_connection = self.close_connection or self.owner.away
        return self.owner.away

    def _answer(self, status: int, answer: Any) -> None:
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _route(self, path: str, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        name = path.removeprefix("/api/v1/agent/")
        if name in ("join", "hostler-agent.pyz", "bootstrap-failed") and token == JOIN_TOKEN:
            return getattr(self, "_" + re.sub(r"\W", "_", name))(body)  # type: ignore[no-any-return]
        if token != self.owner.credential:
            return 401, {"title": "who are you"}
        for pattern, action in (
            (r"/api/v1/agent/(lease|heartbeat|notice|leave)", "_{0}"),
            (r"/api/v1/agent/tasks/(\d+)/(\d+)/(started|result)", "_task_{2}"),
            (r"/api/v1/record/tasks/(\d+)/(\d+)/(log|journal|artifacts|code)", "_record_{2}"),
            (r"/api/v1/record/tasks/(\d+)/(\d+)/blobs/([0-9a-f]{64})", "_record_blob"),
        ):
            match = re.fullmatch(pattern, path)
            if match and action == "_{0}":
                return getattr(self, "_" + match[1])(json.loads(body))  # type: ignore[no-any-return]
            if match:
                return self._of_task(action.format(*match.groups()), match, query, body)
        return 404, {"title": f"no {path}"}

    def _of_task(
        self, action: str, match: re.Match[str], query: dict[str, str], body: bytes
    ) -> tuple[int, Any]:
        task = self.owner.tasks.get(int(match[1]))
        if task is None or task.generation != int(match[2]):
            return 409, {"code": "STALE_GENERATION"}
        if action == "_record_blob":
            return self._record_blob(match[3], body)
        return getattr(self, action)(task, query, body)  # type: ignore[no-any-return]

    def _join(self, body: bytes) -> tuple[int, Any]:
        owner = self.owner
        if owner.joins:
            return 409, {"code": "TOKEN_USED"}
        owner.joins.append(json.loads(body))
        return 200, {
            "instance_id": "h-test",
            "credential": owner.credential,
            "credential_seconds": 3600.0,
            "heartbeat_seconds": owner.heartbeat_seconds,
            "lease_ttl_seconds": owner.ttl_seconds,
            "dead_man_seconds": owner.dead_man_seconds,
            "sold_cpus": 0.0,
            "sold_memory_bytes": 0,
        }

    def _hostler_agent_pyz(self, body: bytes) -> tuple[int, Any]:
        return 200, self.owner.zipapp

    def _bootstrap_failed(self, body: bytes) -> tuple[int, Any]:
        self.owner.failures.append(json.loads(body))
        return 200, {}

    def _lease(self, message: dict[str, Any]) -> tuple[int, Any]:
        owner = self.owner
        owner.lease_requests.append(message)
        deadline = time.monotonic() + message["wait_seconds"]
        with owner.changed:
            while True:
                found = next((task for task in owner.tasks.values() if self._fits(task, message)), None)
                left = deadline - time.monotonic()
                if found or left <= 0 or owner.drain or owner.away:
                    break
                owner.changed.wait(min(left, 0.1))
            lease = None if found is None or owner.drain else self._claim(found)
            return 200, {"lease": lease, "drain": owner.drain}

    def _fits(self, task: Task, message: dict[str, Any]) -> bool:
        return (
            task.state == "queued"
            and task.cpus <= message["cpus_free"]
            and task.gpu_count <= message["gpus_free"]
            and task.memory_bytes <= message["memory_bytes_free"]
        )

    def _claim(self, task: Task) -> dict[str, Any]:
        task.state = "leased"
        task.generation += 1
        task.attempt += 1
        return {
            "task_id": task.id,
            "attempt": task.attempt,
            "generation": task.generation,
            "ttl_seconds": task.ttl_seconds,
            "project": "p",
            "name": "n",
            "spec": task.spec,
            "has_code": task.code is not None,
            "task_token": f"token-of-{task.id}",
            "gpu_count": task.gpu_count,
            "cpus": task.cpus,
            "memory_bytes": task.memory_bytes,
        }

    def _heartbeat(self, message: dict[str, Any]) -> tuple[int, Any]:
        owner = self.owner
        owner.beats.append(message)
        held = {(one["task_id"], one["generation"]) for one in message["held"]}
        ours = {(task.id, task.generation) for task in owner.tasks.values() if task.result is None}
        stops = [
            {"task_id": task.id, "generation": task.generation, **task.stop}
            for task in owner.tasks.values()
            if task.stop and (task.id, task.generation) in held
        ]
        fresh, owner.next_credential = owner.next_credential, None
        answer = {
            "renewed": [task_id for task_id, _ in held & ours],
            "stale": [{"task_id": task_id, "generation": generation} for task_id, generation in held - ours],
            "stop": stops,
            "drain": owner.drain,
            "credential": fresh,
        }
        if fresh:
            owner.credential = fresh
        return 200, answer

    def _notice(self, message: dict[str, Any]) -> tuple[int, Any]:
        self.owner.notices.append(message)
        self.owner.drain = True
        return 200, {"renewed": [], "stale": [], "stop": [], "drain": True, "credential": None}

    def _leave(self, message: dict[str, Any]) -> tuple[int, Any]:
        self.owner.left += 1
        return 200, {}

    def _task_started(self, task: Task, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        task.state = "running"
        return 200, {}

    def _task_result(self, task: Task, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        task.results.append(json.loads(body))
        task.artifacts_when_finished = len(task.artifacts)
        task.result = task.results[0]
        task.state = task.result["outcome"]
        return 200, {"state": task.state}

    def _record_log(self, task: Task, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        offset = int(query["offset"])
        if task.uploads_refused:
            return 503, {}
        if offset > len(task.log):
            return 409, {"code": "LOG_GAP", "offset": len(task.log)}
        task.log += body[len(task.log) - offset :]
        return 200, {"offset": len(task.log)}

    def _record_journal(self, task: Task, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        kept = task.segments.setdefault(query["segment"], bytearray())
        offset = int(query["offset"])
        if offset <= len(kept):
            kept += body[len(kept) - offset :]
        return 200, {"offset": len(kept), "broken": 0}

    def _record_artifacts(self, task: Task, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        artifact = json.loads(body)
        if artifact["digest"] not in self.owner.blobs:
            return 404, {"title": "no such blob"}
        if artifact not in task.artifacts:
            task.artifacts.append(artifact)
        return 200, {"version": len(task.artifacts)}

    def _record_code(self, task: Task, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        return (404, {}) if task.code is None else (200, task.code)

    def _record_blob(self, digest: str, body: bytes) -> tuple[int, Any]:
        if self.command == "PUT":
            if hashlib.sha256(body).hexdigest() != digest:
                return 400, {"title": "digest"}
            self.owner.blobs[digest] = body
            return 200, {}
        return (200, b"") if digest in self.owner.blobs else (404, {})
