"""Clients write over HTTP while the daemon is killed again and again: what was acknowledged is there."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from api.daemons import DaemonProcess
from hostler.tracking import journal, wire
from processes.fleets import fleet, fleet_yaml, knob
from processes.ledger import Ledger

pytestmark = pytest.mark.slow

CLIENTS = 4
KILL_AFTER_SECONDS = (0.2, 1.2)
SPEC = {"run": ["true"], "queue": "default"}
IDLE = fleet_yaml(instances=0)
"""Nothing is launched: the load is all clients' own."""


class Client(threading.Thread):
    """Writes without a pause and keeps what it was told is done. A call without an answer promises nothing."""

    def __init__(self, daemon: DaemonProcess, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.over = threading.Event()
        self.failure: str = ""
        self.submitted: dict[str, int] = {}
        self.tagged: dict[int, int] = {}
        self.stopped: set[int] = set()
        self.points: dict[int, int] = {}
        self.logged: dict[int, bytes] = {}
        self.blobs: set[str] = set()
        self._daemon = daemon
        self._number = 0

    def run(self) -> None:
        with self._daemon.client() as http:  # address and token stay the same over restarts
            while not self.over.is_set():
                try:
                    self._round(http)
                except httpx.TransportError:
                    time.sleep(0.01)
                except AssertionError as error:
                    self.failure = str(error)
                    return

    def _round(self, http: httpx.Client) -> None:
        self._number += 1
        uid = f"{self.name}-{self._number}"
        task_id = _said(http.post("/api/v1/tasks", json={"spec": SPEC, "uid": uid}), 201)["id"]
        self.submitted[uid] = task_id
        _said(http.patch(f"/api/v1/tasks/{task_id}", json={"tags": [f"n{self._number}"]}), 200)
        self.tagged[task_id] = self._number
        if self._number % 3 == 0:
            _said(http.post(f"/api/v1/tasks/{task_id}/stop"), 200)
            self.stopped.add(task_id)
        if self._number % 2 == 0:
            self._record(http, uid)

    def _record(self, http: httpx.Client, uid: str) -> None:
        """A run outside the fleet: its journal, its log and a file."""
        body = {"uid": f"run-{uid}", "project": "p", "name": uid, "tags": [], "capture": {}}
        run = _said(http.post(wire.CREATE, json=body), 200)
        place = {"task_id": run["task_id"], "generation": run["generation"]}
        headers = {"Authorization": f"Bearer {run['task_token']}"}

        def send(method: str, route: str, data: bytes, **at: Any) -> None:
            _said(http.request(method, route.format(**place, **at), content=data, headers=headers), 200)

        frames = b"".join(journal.frame(_point(step)) for step in range(5))
        send("POST", wire.JOURNAL, frames, rank=0, segment="0-1-aa.jnl", offset=0)
        self.points[run["task_id"]] = 5
        line = f"{uid} says so\n".encode()
        send("POST", wire.LOG, line, offset=0)
        self.logged[run["task_id"]] = line
        digest = hashlib.sha256(line).hexdigest()
        send("PUT", wire.BLOB, line, digest=digest)
        self.blobs.add(digest)


def _point(step: int) -> Any:
    return ["m", step, time.time(), {"loss": 1.0 / (1 + step)}]


def _said(answer: httpx.Response, status: int) -> Any:
    assert answer.status_code == status, f"{answer.request.url}: {answer.status_code} {answer.text}"
    return answer.json()


def check_all_is_there(ledger: Ledger, client: Client) -> None:
    tasks = {row["uid"]: row for row in ledger.rows("SELECT * FROM tasks")}
    by_id = {row["id"]: row for row in tasks.values()}
    assert {uid: tasks[uid]["id"] for uid in client.submitted if uid in tasks} == client.submitted
    for task_id, number in client.tagged.items():
        assert f'"n{number}"' in by_id[task_id]["tags"]
    assert {by_id[task_id]["state"] for task_id in client.stopped} <= {"stopped"}
    query = "SELECT count(*) FROM points JOIN metrics ON metrics.id = metric_id WHERE task_id = ?"
    assert {task_id: ledger.one(query, task_id) for task_id in client.points} == client.points
    for task_id, line in client.logged.items():
        assert ledger.one("SELECT sum(length) FROM log_chunks WHERE task_id = ?", task_id) == len(line)
    known = {row["digest"] for row in ledger.rows("SELECT digest FROM blobs")}
    assert client.blobs <= known
    files = {path.name for path in (ledger.state / "blobs").rglob("*") if path.is_file()}
    assert client.blobs <= files


def story(folder: Path, kills: int, seed: int) -> int:
    """Writes that were acknowledged, all of them found."""
    rng = random.Random(seed)
    with fleet(folder, IDLE) as (daemon, ledger):
        daemon.start()
        clients = [Client(daemon, f"c{number}") for number in range(CLIENTS)]
        for client in clients:
            client.start()
        for _ in range(kills):
            time.sleep(rng.uniform(*KILL_AFTER_SECONDS))
            daemon.kill()
            daemon.start()
        for client in clients:
            client.over.set()
        for client in clients:
            client.join(60.0)
        assert [client.failure for client in clients if client.failure] == []
        assert daemon.stop() == 0
        for client in clients:
            check_all_is_there(ledger, client)
        assert ledger.is_whole()
        counted: list[Callable[[Client], int]] = [
            lambda one: len(one.submitted) + len(one.tagged) + len(one.stopped),
            lambda one: len(one.points) + len(one.logged) + len(one.blobs),
        ]
        return sum(count(client) for client in clients for count in counted)


def test_no_acknowledged_write_is_lost_when_the_daemon_is_killed_under_load(tmp_path: Path) -> None:
    assert story(tmp_path, kills=5, seed=1) > 100


@pytest.mark.soak
def test_no_acknowledged_write_is_lost_over_many_kills(tmp_path: Path) -> None:
    kills = knob("HOSTLER_SOAK_KILLS", 200)
    found = story(tmp_path, kills=kills, seed=knob("HOSTLER_SOAK_SEED", 1))
    print(f"{kills} kills, {found} acknowledged writes, 0 lost")
    assert found > kills
