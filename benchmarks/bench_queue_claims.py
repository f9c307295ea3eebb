"""How many tasks a second the queue hands out and takes back: claim + completed result, every one durable.

    python benchmarks/bench_queue_claims.py [--clients 1 4 16 64] [--tasks 20000] [--folder DIR]

Each client is an agent of its own: it claims, reports the result, and claims again, through the one writer of a
SQLite file (WAL, synchronous=FULL). A cycle is two acknowledged write transactions.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import machine
from hostler.agent_bootstrap.wire import Result
from hostler.config.fleet import FleetConfig
from hostler.config.task import TaskSpec
from hostler.fleet import queue
from hostler.fleet.store.instances import offer_to_dict
from hostler.fleet.store.schema import instances
from hostler.providers.base import Market, Offer
from hostler.tracking.server.database import Database, sqlite
from sqlalchemy import Connection, insert

FLEET = FleetConfig.model_validate(
    {
        "version": 1,
        "providers": {"local": {"type": "local"}},
        "pools": {"p": {"providers": ["local"]}},
        "queues": {"default": {"pools": ["p"]}},
    }
)
SPEC = TaskSpec.model_validate({"run": ["python", "train.py", "--lr", "0.1"], "name": "train"})
OFFER = Offer("local", "here", "a", "box", Market.SPOT, 8, 32 * 1024**3, None, 1.0)
FREE = queue.Free(cpus=8, memory_bytes=32 * 1024**3, disk_bytes=0, gpus=0)
DONE: Result = {"outcome": "completed", "exit_code": 0, "reason": "", "message": "", "run_seconds": 1.0}


def add_instance(conn: Connection, name: str) -> None:
    row: dict[str, Any] = {
        "id": name,
        "workspace": "default",
        "pool": "p",
        "provider": OFFER.provider,
        "region": OFFER.region,
        "zone": OFFER.zone,
        "instance_type": OFFER.instance_type,
        "market": OFFER.market.value,
        "offer": offer_to_dict(OFFER),
        "usd_per_hour": 1.0,
        "request": {},
        "spec_hash": "",
        "epoch": 1,
        "state": "ready",
        "created_at": time.time(),
    }
    conn.execute(insert(instances), row)


def add_tasks(conn: Connection, first: int, count: int) -> None:
    for number in range(first, first + count):
        queue.submit(
            conn,
            workspace="default",
            actor="bench",
            uid=f"t{number}",
            spec=SPEC,
            fleet=FLEET,
            now=time.time(),
        )


def agent(database: Database, name: str, waits: list[float]) -> None:
    """Claim and complete until nothing is left; how long each cycle took goes into `waits`."""
    while True:
        begun = time.perf_counter()
        claim = database.write(
            lambda conn: queue.claim(conn, instance_id=name, free=FREE, fleet=FLEET, now=time.time())
        )
        if claim is None:
            return
        database.write(
            lambda conn, claim=claim: queue.finish(
                conn,
                task_id=claim.task_id,
                generation=claim.generation,
                instance_id=name,
                result=DONE,
                now=time.time(),
            )
        )
        waits.append(time.perf_counter() - begun)


def measure(folder: Path, clients: int, tasks: int) -> str:
    database = Database.open(f"sqlite:///{folder / f'{clients}.db'}", time.time)
    try:
        names = [f"h-{number}" for number in range(clients)]
        for name in names:
            database.write(lambda conn, name=name: add_instance(conn, name))
        for first in range(0, tasks, 1_000):
            database.write(lambda conn, first=first: add_tasks(conn, first, min(1_000, tasks - first)))
        waits: list[float] = []
        threads = [threading.Thread(target=agent, args=(database, name, waits)) for name in names]
        begun, worked = time.perf_counter(), time.process_time()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - worked
    finally:
        database.close()
    if len(waits) != tasks:
        raise SystemExit(f"{tasks} tasks were submitted, {len(waits)} completed")
    waits.sort()
    p50, p99 = (1_000 * waits[int(len(waits) * part)] for part in (0.5, 0.99))
    return f"{clients:>7}  {tasks / seconds:>13,.0f}  {p50:>6.1f}  {p99:>6.1f}  {1e6 * cpu_seconds / tasks:>12.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description="claims + completes per second on SQLite")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, help="where the database lies (default: a temporary folder)")
    given = parser.parse_args()
    print(f"{machine.line()}, SQLite {sqlite.driver().sqlite_version}, {given.tasks:,} tasks queued")
    print("clients  claim+complete/s  p50 ms  p99 ms  cpu us/cycle")
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        for clients in given.clients:
            print(measure(Path(folder), clients, given.tasks), flush=True)


if __name__ == "__main__":
    main()
