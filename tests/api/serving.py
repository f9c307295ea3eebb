"""A real server on a loopback port over a real database, with a fake cloud and no control loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from hostler.agent_bootstrap import wire
from hostler.config import load_fleet
from hostler.fleet.api.app import create_app
from hostler.fleet.api.state import AppState, Zipapp
from hostler.fleet.daemon.listener import bind
from hostler.fleet.daemon.live import LiveSettings
from hostler.fleet.daemon.server import api_server
from hostler.fleet.observer.agents import join_hash
from hostler.fleet.planning.model import InstanceState
from hostler.fleet.queue import Dispatcher
from hostler.fleet.store import instances
from hostler.providers.base import Check, CloudInstance, LaunchRequest, LaunchResult, Market, Offer
from hostler.tracking.server.access import admin_token_file
from hostler.tracking.server.blobs import Blobs
from hostler.tracking.server.database import Database

FLEET = """
version: 1
daemon: {tick: 100ms, state: "sqlite:///STATE", listen: "127.0.0.1:0", lease_ttl: 5s}
limits: {instances: 3, usd_per_hour: 1}
providers:
  here: {type: local, max_instances: 3}
pools:
  main: {providers: [here], market: on_demand, instances: 0..3, idle_timeout: 30s}
queues:
  default: {pools: [main], priority: 50}
  urgent: {pools: [main], priority: 90}
"""
OFFER = Offer("here", "local", "", "local", Market.ON_DEMAND, 4.0, 8 << 30, None, 0.36)
DEADLINE_SECONDS = 10.0


@dataclass
class FakeCloud:
    """Implements Provider and Reclaimable; remembers what it was asked."""

    name: str = "here"
    reclaimed: list[tuple[str, float]] = field(default_factory=list)
    checks: list[Check] = field(default_factory=lambda: [Check("credentials", True, "good")])
    closed: bool = False

    def offers(self) -> Sequence[Offer]:
        return [OFFER]

    def launch(self, request: LaunchRequest) -> LaunchResult:
        raise AssertionError("no request may launch")

    def instances(self) -> Sequence[CloudInstance]:
        return []

    def terminate(self, ref: str) -> None:
        raise AssertionError("no request may terminate")

    def check(self) -> Sequence[Check]:
        return self.checks

    def close(self) -> None:
        self.closed = True

    def reclaim(self, ref: str, notice_seconds: float) -> None:
        self.reclaimed.append((ref, notice_seconds))


@dataclass
class Served:
    """A running server with everything a test wants to look at or turn."""

    url: str
    token: str
    state: AppState
    settings: LiveSettings
    cloud: FakeCloud
    fleet_file: Path
    wakes: list[float]

    @property
    def database(self) -> Database:
        return self.state.database

    def client(self, token: str | None = "admin", timeout: float = DEADLINE_SECONDS) -> httpx.Client:
        secret = self.token if token == "admin" else token
        headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=timeout, trust_env=False)

    def submit(self, client: httpx.Client, **spec: Any) -> dict[str, Any]:
        answer = client.post("/api/v1/tasks", json={"spec": {"run": ["true"], **spec}})
        assert answer.status_code == 201, answer.text
        task: dict[str, Any] = answer.json()
        return task

    def launching(self, instance_id: str, join_token: str = "join") -> None:
        """Write an instance as the loop would have, up to `booting`."""
        now = self.state.clock()

        def work(conn: Any) -> None:
            instances.insert_intent(
                conn,
                instance_id=instance_id,
                workspace="default",
                pool="main",
                offer=OFFER,
                usd_per_hour=0.36,
                request={},
                spec_hash="x",
                epoch=1,
                now=now,
                join_hash=join_hash(join_token),
                join_expires_at=now + 60,
            )
            instances.advance(conn, instance_id, InstanceState.LAUNCHING, now)
            instances.advance(conn, instance_id, InstanceState.BOOTING, now, ref=f"ref-{instance_id}")

        self.database.write(work)

    def joined(self, instance_id: str) -> httpx.Client:
        """An instance whose agent has joined; a client with its credential."""
        self.launching(instance_id, f"join-{instance_id}")
        with self.client(f"join-{instance_id}") as client:
            answer = client.post(wire.JOIN, json={"inventory": INVENTORY, "identity": {}})
        assert answer.status_code == 200, answer.text
        return self.client(answer.json()["credential"])


INVENTORY = {
    "cpus": 4,
    "memory_bytes": 8 << 30,
    "disk_bytes": 50 << 30,
    "gpus": [],
    "python": "3.11",
    "hostname": "box",
    "agent_version": "0",
}


def free(wait_seconds: float = 0.0, held: Sequence[int] = ()) -> dict[str, Any]:
    """A LeaseRequest of an empty machine."""
    return {
        "wait_seconds": wait_seconds,
        "cpus_free": 4.0,
        "memory_bytes_free": 8 << 30,
        "disk_bytes_free": 50 << 30,
        "gpus_free": 0.0,
        "held": list(held),
    }


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """The server, up while the block runs."""
    fleet_file = folder / "fleet.yaml"
    fleet_file.write_text(FLEET.replace("STATE", str(folder / "state.db")))
    clock: Callable[[], float] = time.time
    database = Database.open(f"sqlite:///{folder / 'state.db'}", clock)
    cloud = FakeCloud()
    settings = LiveSettings(
        fleet_file,
        load_fleet(fleet_file),
        server_id="test",
        state_dir=folder,
        clock=clock,
        live_instances=lambda name: database_live(database, name),
        create=lambda name, section, context: cloud,
    )
    wakes: list[float] = []
    state = AppState(
        database=database,
        clock=clock,
        config=settings,
        blobs=Blobs(folder / "blobs", database),
        dispatcher=Dispatcher(),
        zipapp=Zipapp.of(b"PK the agent"),
        server_id="test",
        version="0.0",
        wake_loop=lambda: wakes.append(clock()),
    )
    token = admin_token_file(folder / "admin.token", database, clock)
    listener = bind("127.0.0.1", 0)
    server = api_server(create_app(state), None, grace_seconds=2)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        wait_until(lambda: server.started)
        yield Served(url, token, state, settings, cloud, fleet_file, wakes)
    finally:
        server.stop()
        thread.join(DEADLINE_SECONDS)
        listener.close()
        database.close()


def database_live(database: Database, provider: str) -> int:
    with database.read() as conn:
        return len(instances.live(conn, provider=provider))


def wait_until(condition: Callable[[], object], seconds: float = DEADLINE_SECONDS) -> None:
    """Poll until `condition` holds; fails after the deadline."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)
