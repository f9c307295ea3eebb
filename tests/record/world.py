"""A small server made of the record's own routes on a real database file, and what tests say to it."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hostler.fleet.store.schema  # noqa: F401  the control plane's tables stand on the same metadata
from fastapi import FastAPI
from hostler.tracking import journal, wire
from hostler.tracking.server import problems, tasks
from hostler.tracking.server.access import admin_token_file, tokens
from hostler.tracking.server.blobs import Blobs
from hostler.tracking.server.database import Database
from hostler.tracking.server.database import schema as tables
from hostler.tracking.server.routes import router
from httpx import Response
from sqlalchemy import Connection, insert, update
from starlette.testclient import TestClient

DEADLINE_SECONDS = 60.0


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def frames(*records: Any) -> bytes:
    return b"".join(journal.frame(record) for record in records)


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


@dataclass
class Run:
    """A task that somebody holds, as its holder writes it."""

    world: World
    task_id: int
    generation: int
    token: str

    def call(self, method: str, route: str, **arguments: Any) -> Response:
        path = route.format(task_id=self.task_id, generation=self.generation, **arguments.pop("at", {}))
        headers = {"Authorization": f"Bearer {self.token}", **arguments.pop("headers", {})}
        answer: Response = self.world.client.request(method, path, headers=headers, **arguments)
        return answer

    def journal(
        self, data: bytes, *, offset: int = 0, segment: str = "0-1-aa.jnl", rank: int = 0
    ) -> Response:
        at = {"rank": rank, "segment": segment, "offset": offset}
        return self.call("POST", wire.JOURNAL, at=at, content=data)

    def log(self, data: bytes, *, offset: int = 0) -> Response:
        return self.call("POST", wire.LOG, at={"offset": offset}, content=data)

    def blob(self, data: bytes) -> str:
        digest = digest_of(data)
        answer = self.call("PUT", wire.BLOB, at={"digest": digest}, content=data)
        assert answer.status_code == 200, answer.text
        return digest

    def artifact(self, name: str, data: bytes, **fields: Any) -> int:
        record = {"name": name, "type": "file", "digest": self.blob(data), "size": len(data), **fields}
        answer = self.call("POST", wire.ARTIFACT, json=record)
        assert answer.status_code == 200, answer.text
        return int(answer.json()["version"])

    def finish(self, state: str = "completed", exit_code: int = 0) -> Response:
        end = {"state": state, "exit_code": exit_code, "message": ""}
        return self.call("POST", wire.FINISH, json=end)

    def read(self, what: str, **query: Any) -> Any:
        answer = self.world.get(f"/api/v1/tasks/{self.task_id}/{what}", **query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def points(self, key: str, **query: Any) -> list[Any]:
        return list(self.read("metrics/points", key=key, **query)["points"])

    def next_attempt(self) -> Run:
        """What a claim after a lost lease does to the row: the same task, a new attempt, another holder."""
        row = self.world.task(self.task_id)
        again = {"attempt": row["attempt"] + 1, "generation": row["generation"] + 1}
        return self.world.hold(self.task_id, again)


class World:
    def __init__(self, folder: Path, url: str | None = None) -> None:
        self.folder = folder
        self.clock = Clock()
        self.database = Database.open(url or f"sqlite:///{folder / 'state.db'}", self.clock)
        self.blobs = Blobs(folder / "blobs", self.database)
        self.secret = admin_token_file(folder / "admin.token", self.database, self.clock)
        self.app = FastAPI()
        problems.install(self.app)
        self.app.include_router(router)
        self.app.state.database = self.database
        self.app.state.blobs = self.blobs
        self.app.state.clock = self.clock
        self.client = TestClient(self.app, raise_server_exceptions=False)

    def close(self) -> None:
        self.client.close()
        self.database.close()

    def get(self, path: str, *, secret: str | None = None, **query: Any) -> Response:
        headers = {"Authorization": f"Bearer {secret or self.secret}"}
        answer: Response = self.client.get(path, headers=headers, params=query)
        return answer

    def create(self, uid: str = "run-1", *, secret: str | None = None, **fields: Any) -> Response:
        body = {"uid": uid, "project": "digits", "name": "first", "tags": [], "capture": {}, **fields}
        headers = {"Authorization": f"Bearer {secret or self.secret}"}
        answer: Response = self.client.post(wire.CREATE, json=body, headers=headers)
        return answer

    def run(self, uid: str = "run-1", **fields: Any) -> Run:
        answer = self.create(uid, **fields)
        assert answer.status_code == 200, answer.text
        made = answer.json()
        return Run(self, made["task_id"], made["generation"], made["task_token"])

    def token(self, **fields: Any) -> str:
        given = {"workspace": "default", "kind": "user", "actor": "ann", "role": "member", **fields}
        return self.database.write(lambda conn: tokens.issue(conn, now=self.clock(), **given))

    def fleet_task(self, uid: str = "task-1", *, instance_id: str = "h-1", **fields: Any) -> Run:
        """A task of a queue that an agent has claimed once."""
        made = self.database.write(
            lambda conn: tasks.create(
                conn,
                workspace="default",
                uid=uid,
                project="digits",
                name="train",
                queue="default",
                priority=0,
                spec={},
                tags=[],
                actor="ann",
                now=self.clock(),
                state="queued",
                **fields,
            )
        )
        return self.hold(made["id"], {"attempt": 1, "generation": 1}, instance_id)

    def hold(self, task_id: int, again: dict[str, int], instance_id: str = "h-1") -> Run:
        now = self.clock()
        attempt = {
            "task_id": task_id,
            "number": again["attempt"],
            "workspace": "default",
            "generation": again["generation"],
            "instance_id": instance_id,
            "claimed_at": now,
        }
        change = {**again, "state": "running", "instance_id": instance_id}

        def claim(conn: Connection) -> None:
            conn.execute(update(tables.tasks).where(tables.tasks.c.id == task_id).values(change))
            conn.execute(insert(tables.attempts), attempt)

        self.database.write(claim)
        secret = self.token(kind="task", role="task", task_id=task_id, generation=again["generation"])
        return Run(self, task_id, again["generation"], secret)

    def task(self, task_id: int) -> dict[str, Any]:
        with self.database.read() as conn:
            found = tasks.get(conn, "default", task_id)
        assert found is not None
        return found


def crash_environment() -> dict[str, str]:
    return {**os.environ, "PYTHONUNBUFFERED": "1"}
