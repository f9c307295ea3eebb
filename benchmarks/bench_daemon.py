"""The daemon as a process: from submit to a running task on a ready agent, claims over HTTP, and idle memory.

    python benchmarks/bench_daemon.py [--tasks 100] [--clients 16] [--claims 2000]

A task is started when its own first instruction runs: it writes the clock to a file. The agent is a real one on the
local provider; all goes through HTTP on loopback. A polling agent looks every 5 s: 2.5 s in the median, by arithmetic.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import machine
import psutil
from hostler.agent_bootstrap import wire
from hostler.config import load_fleet
from hostler.config.fleet import FleetConfig
from hostler.config.task import TaskSpec
from hostler.fleet import queue
from hostler.fleet.planning.model import InstanceState
from hostler.fleet.store import instances
from hostler.providers.base import Market, Offer
from hostler.tracking.server.access import tokens
from hostler.tracking.server.database import Database
from sqlalchemy import Connection

AIM_START_SECONDS = 0.05
AIM_IDLE_BYTES = 150 * 1024 * 1024
POLL_SECONDS = 5.0
DEADLINE_SECONDS = 60.0
SETTLE_SECONDS = 3.0
OFFER = Offer("yonder", "far", "far", "box", Market.ON_DEMAND, 8.0, 32 << 30, None, 1.0)
DONE: wire.Result = {"outcome": "completed", "exit_code": 0, "reason": "", "message": "", "run_seconds": 1.0}
FLEET = """
version: 1
daemon: {{tick: 1s, listen: "127.0.0.1:{port}", state: "sqlite:///{folder}/state/state.db"}}
limits: {{instances: 1000, usd_per_hour: 1000}}
providers:
  here: {{type: local, offers: [{{name: box, cpus: 2, memory: 2GiB, market: spot, usd_per_hour: 0.01}}]}}
pools:
  real: {{providers: [here], market: spot, instances: 0..1, idle_timeout: 1h}}
  hand: {{providers: [here], market: spot, instances: 0..0}}
queues:
  default: {{pools: [real]}}
  hand: {{pools: [hand]}}
"""
UP = "import sys; from pathlib import Path; from hostler.fleet.daemon import run; sys.exit(run(Path(sys.argv[1])))"


class Api:
    """One keep-alive connection."""

    def __init__(self, port: int, token: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS)
        self._connection.connect()
        assert self._connection.sock is not None
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body)
        self._connection.request(method, path, data, self._headers)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status >= 400:
            raise SystemExit(f"{method} {path}: {answer.status} {text.decode()}")
        return json.loads(text or b"null")


@contextmanager
def daemon(folder: Path, clients: int, claims: int) -> Iterator[tuple[psutil.Process, int, str, list[str]]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    config = folder / "fleet.yaml"
    config.write_text(FLEET.format(port=port, folder=folder))
    secrets = add_agents(folder, clients, claims)
    environ = {**os.environ, "HOSTLER_CLIENT_FILE": str(folder / "client.json")}
    with (folder / "daemon.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", UP, str(config)], env=environ, stdout=log, stderr=log
        )
    try:
        until((folder / "client.json").exists)
        yield (
            psutil.Process(process.pid),
            port,
            (folder / "state" / "admin.token").read_text().strip(),
            secrets,
        )
    finally:
        process.terminate()
        process.wait(DEADLINE_SECONDS)
        for one in psutil.process_iter():
            try:
                if one.environ().get("HOSTLER_HOME", "").startswith(str(folder)):
                    one.kill()
            except psutil.Error:
                continue


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("it did not happen in time")
        time.sleep(0.002)


def start_seconds(api: Api, folder: Path, number: int) -> float:
    """From the moment before the submit is sent to the first instruction of the task."""
    mark = folder / f"started-{number}"
    # `date` would add a process of its own: the shell's redirection creates the file at its first step.
    spec = {"run": ["sh", "-c", f": > {mark}"], "name": f"n{number}"}
    begun = time.time_ns()
    task = api.call("POST", "/api/v1/tasks", {"spec": spec})
    until(mark.exists)
    took = (mark.stat().st_mtime_ns - begun) / 1e9
    until(lambda: api.call("GET", f"/api/v1/tasks/{task['id']}")["state"] == "completed")
    return took


def add_agents(folder: Path, clients: int, claims: int) -> list[str]:
    """Instances that have joined and queued tasks for them, written before the daemon starts. Their credentials."""
    now = time.time()
    fleet = load_fleet(folder / "fleet.yaml")
    database = Database.open(f"sqlite:///{folder}/state/state.db", time.time)
    try:
        secrets = [
            database.write(lambda conn, n=n: add_agent(conn, f"h-bench{n}", now)) for n in range(clients)
        ]
        spec = TaskSpec.model_validate({"run": ["true"], "queue": "hand"})
        for first in range(0, claims, 500):
            numbers = range(first, min(claims, first + 500))
            database.write(
                lambda conn, numbers=numbers: [add_task(conn, fleet, spec, n, now) for n in numbers]
            )
    finally:
        database.close()
    return secrets


def add_agent(conn: Connection, instance_id: str, now: float) -> str:
    instances.insert_intent(
        conn,
        instance_id=instance_id,
        workspace="default",
        pool="hand",
        offer=OFFER,
        usd_per_hour=1.0,
        request={},
        spec_hash="",
        epoch=1,
        now=now,
        join_hash=instance_id,
        join_expires_at=now,
    )
    for state in (InstanceState.LAUNCHING, InstanceState.BOOTING, InstanceState.READY):
        instances.advance(conn, instance_id, state, now)
    instances.note(conn, instance_id, ref=instance_id, joined_at=now, contact_at=now)
    return tokens.issue(
        conn,
        workspace="default",
        kind="agent",
        actor=f"agent:{instance_id}",
        role="agent",
        now=now,
        instance_id=instance_id,
        expires_at=now + 3_600,
    )


def add_task(conn: Connection, fleet: FleetConfig, spec: TaskSpec, number: int, now: float) -> None:
    uid = f"claim-{number}"
    queue.submit(conn, workspace="default", actor="bench", uid=uid, spec=spec, fleet=fleet, now=now)


def claims_per_second(port: int, secrets: list[str], claims: int) -> float:
    """Claim + result over HTTP, by clients that do nothing else, until the queue is empty."""
    done = [0] * len(secrets)
    threads = [
        threading.Thread(target=work, args=(port, secret, done, n)) for n, secret in enumerate(secrets)
    ]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begun
    if sum(done) != claims:
        raise SystemExit(f"{claims} tasks were queued, {sum(done)} done")
    return claims / seconds


def work(port: int, secret: str, done: list[int], number: int) -> None:
    api = Api(port, secret)
    ask = {
        "wait_seconds": 0,
        "cpus_free": 8,
        "memory_bytes_free": 2**35,
        "disk_bytes_free": 2**40,
        "gpus_free": 0,
    }
    while (lease := api.call("POST", wire.LEASE, {**ask, "held": []})["lease"]) is not None:
        path = wire.TASK_RESULT.format(task_id=lease["task_id"], generation=lease["generation"])
        api.call("POST", path, DONE)
        done[number] += 1


def main() -> None:
    parser = argparse.ArgumentParser(description="the daemon's latency, claims over HTTP and memory")
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--claims", type=int, default=2_000)
    given = parser.parse_args()
    print(machine.line())
    with tempfile.TemporaryDirectory() as name, daemon(Path(name), given.clients, given.claims) as running:
        process, port, token, secrets = running
        time.sleep(SETTLE_SECONDS)
        idle = process.memory_info().rss
        api = Api(port, token)
        start_seconds(api, Path(name), 0)  # brings the instance up
        starts = sorted(start_seconds(api, Path(name), number) for number in range(1, given.tasks + 1))
        p50, p99 = statistics.median(starts), machine.at(starts, 0.99)
        rate = claims_per_second(port, secrets, given.claims)
        print(f"submit -> task runs, p50   {p50 * 1e3:8.1f} ms    aim <= {AIM_START_SECONDS * 1e3:g}")
        print(f"submit -> task runs, p99   {p99 * 1e3:8.1f} ms    {given.tasks} tasks, one at a time")
        print(
            f"an agent that polls, p50   {POLL_SECONDS / 2 * 1e3:8.1f} ms    {POLL_SECONDS / 2 / p50:.0f} times as long"
        )
        print(f"claim + result over HTTP   {rate:8.0f} /s    {given.clients} clients in one Python process")
        print(f"memory, idle               {idle / 2**20:8.0f} MiB   aim <= {AIM_IDLE_BYTES / 2**20:g}")
        print(f"memory, after all that     {process.memory_info().rss / 2**20:8.0f} MiB")


if __name__ == "__main__":
    main()
