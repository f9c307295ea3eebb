"""A database with a fleet in it, a clock that stands still until told, and the queue as one speaks of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from hostler.agent_bootstrap.wire import Result
from hostler.config.fleet import FleetConfig
from hostler.config.task import TaskSpec
from hostler.fleet import queue
from hostler.fleet.planning.model import InstanceState, TaskState
from hostler.fleet.queue import Beat, Claim, Ended, Free
from hostler.fleet.store.instances import offer_to_dict
from hostler.fleet.store.schema import instances
from hostler.providers.base import Gpu, Market, Offer
from hostler.tracking.server.database import Database
from hostler.tracking.server.database.schema import artifacts, attempts, events, tasks, tokens
from sqlalchemy import Connection, insert, select, update

T = TypeVar("T")
GIB = 1024**3
TTL = 60.0
START = 1_000_000.0
WORKSPACE = "default"

FLEET: dict[str, Any] = {
    "version": 1,
    "providers": {"local": {"type": "local"}},
    "pools": {
        "small": {"providers": ["local"], "market": "spot"},
        "gpu": {"providers": ["local"], "market": "spot"},
    },
    "queues": {
        "default": {"pools": ["small", "gpu"], "priority": 50},
        "urgent": {"pools": ["small"], "priority": 90},
        "bought": {"pools": ["small"], "priority": 50, "market": "on_demand"},
        "gpu-only": {"pools": ["gpu"], "priority": 50},
    },
}


def offer(market: str = "spot", gpu: str = "", gpu_count: int = 0) -> Offer:
    return Offer(
        provider="local",
        region="here",
        zone="a",
        instance_type="box",
        market=Market(market),
        cpus=8,
        memory_bytes=32 * GIB,
        gpu=Gpu(gpu, gpu_count) if gpu else None,
        usd_per_hour=1.0,
    )


def result(
    outcome: str = "completed", exit_code: int | None = 0, reason: str = "", message: str = ""
) -> Result:
    return {
        "outcome": outcome,
        "exit_code": exit_code,
        "reason": reason,
        "message": message,
        "run_seconds": 1.0,
    }


class World:
    """`run` decides how a function gets its connection: through a Database, or on one that is never committed."""

    def __init__(
        self, run: Callable[[Callable[[Connection], Any]], Any], fleet: FleetConfig | None = None
    ) -> None:
        self._run = run
        self.fleet = fleet or FleetConfig.model_validate(FLEET)
        self.now = START
        self.up_since = START - 10 * TTL
        self._uids = 0

    def do(self, work: Callable[[Connection], T]) -> T:
        return self._run(work)  # type: ignore[no-any-return]

    def later(self, seconds: float) -> None:
        self.now += seconds

    def instance(
        self,
        name: str = "h-one",
        *,
        pool: str = "small",
        state: str = "ready",
        box: Offer | None = None,
        **values: Any,
    ) -> str:
        """Insert an instance, idle since now."""
        box = box or offer()
        row = {
            "id": name,
            "workspace": WORKSPACE,
            "pool": pool,
            "provider": box.provider,
            "region": box.region,
            "zone": box.zone,
            "instance_type": box.instance_type,
            "market": box.market.value,
            "offer": offer_to_dict(box),
            "usd_per_hour": box.usd_per_hour,
            "request": {},
            "spec_hash": "",
            "epoch": 1,
            "state": state,
            "created_at": self.now,
            "idle_since": self.now if state == "ready" else None,
        }
        self.do(lambda conn: conn.execute(insert(instances), row | values))
        return name

    def set_instance(self, name: str, **values: Any) -> None:
        self.do(lambda conn: conn.execute(update(instances).where(instances.c.id == name).values(**values)))

    def submit(self, *, uid: str = "", draft: bool = False, **spec: Any) -> int:
        """Submit a task; keywords are keys of task.yaml. Returns its id."""
        self._uids += 1
        given = TaskSpec.model_validate({"run": "true", "name": "train", **spec})
        row = self.do(
            lambda conn: queue.submit(
                conn,
                workspace=WORKSPACE,
                actor="ada",
                uid=uid or f"u{self._uids}",
                spec=given,
                fleet=self.fleet,
                now=self.now,
                draft=draft,
            )
        )
        return int(row["id"])

    def claim(
        self,
        name: str = "h-one",
        *,
        cpus: float = 8,
        memory_bytes: int = 32 * GIB,
        gpus: float = 0,
        held: Sequence[int] | None = None,
    ) -> Claim | None:
        free = Free(cpus=cpus, memory_bytes=memory_bytes, disk_bytes=0, gpus=gpus)
        return self.do(
            lambda conn: queue.claim(
                conn, instance_id=name, free=free, fleet=self.fleet, now=self.now, held=held
            )
        )

    def take(self, name: str = "h-one", **free: Any) -> Claim:
        claim = self.claim(name, **free)
        assert claim is not None
        return claim

    def started(self, claim: Claim, name: str = "h-one") -> None:
        self.do(lambda conn: queue.started(conn, claim.task_id, claim.generation, name, self.now))

    def heartbeat(self, *claims: Claim, name: str = "h-one") -> Beat:
        return self.do(
            lambda conn: queue.heartbeat(
                conn,
                instance_id=name,
                held=[{"task_id": one.task_id, "generation": one.generation} for one in claims],
                now=self.now,
                ttl=TTL,
            )
        )

    def finish(
        self, claim: Claim, outcome: str = "completed", *, name: str = "h-one", **words: Any
    ) -> TaskState:
        if outcome not in ("completed",) and "exit_code" not in words:
            words["exit_code"] = 1
        said = result(outcome, **words)
        return self.do(
            lambda conn: queue.finish(
                conn,
                task_id=claim.task_id,
                generation=claim.generation,
                instance_id=name,
                result=said,
                now=self.now,
            )
        )

    def expire(self) -> tuple[Ended, ...]:
        return self.do(lambda conn: queue.expire(conn, now=self.now, ttl=TTL, up_since=self.up_since))

    def stop(self, task_id: int) -> TaskState:
        return self.do(lambda conn: queue.stop(conn, task_id, actor="ada", now=self.now))

    def requeue(self, task_id: int) -> TaskState:
        return self.do(lambda conn: queue.requeue(conn, task_id, actor="ada", now=self.now))

    def vanish(self, name: str = "h-one", outcome: str = "lost") -> tuple[Ended, ...]:
        return self.do(lambda conn: queue.requeue_of_instance(conn, name, outcome, self.now))

    def demanded(self) -> list[int]:
        return [one.task_id for one in self.do(lambda conn: queue.demand(conn, self.fleet, self.now))]

    def checkpoint(self, claim: Claim) -> None:
        """A complete checkpoint of this attempt arrives now."""
        row = {
            "workspace": WORKSPACE,
            "task_id": claim.task_id,
            "attempt": claim.attempt,
            "generation": claim.generation,
            "name": "state",
            "type": "checkpoint",
            "version": int(self.now),
            "digest": "0" * 64,
            "size": 1,
            "metadata": {},
            "created_at": self.now,
        }
        self.do(lambda conn: conn.execute(insert(artifacts), row))

    def task(self, task_id: int) -> dict[str, Any]:
        return self._one(select(tasks).where(tasks.c.id == task_id))

    def state(self, task_id: int) -> str:
        return str(self.task(task_id)["state"])

    def attempts(self, task_id: int) -> list[dict[str, Any]]:
        return self._all(select(attempts).where(attempts.c.task_id == task_id).order_by(attempts.c.number))

    def events(self, task_id: int) -> list[str]:
        rows = self._all(select(events).where(events.c.task_id == task_id).order_by(events.c.id))
        return [row["kind"] for row in rows]

    def tokens(self, task_id: int) -> list[dict[str, Any]]:
        return self._all(select(tokens).where(tokens.c.task_id == task_id).order_by(tokens.c.generation))

    def box(self, name: str = "h-one") -> dict[str, Any]:
        return self._one(select(instances).where(instances.c.id == name))

    def box_state(self, name: str = "h-one") -> InstanceState:
        return InstanceState(self.box(name)["state"])

    def _all(self, query: Any) -> list[dict[str, Any]]:
        return self.do(lambda conn: [dict(row) for row in conn.execute(query).mappings()])

    def _one(self, query: Any) -> dict[str, Any]:
        (row,) = self._all(query)
        return row


def open_database(folder: Path) -> Database:
    return Database.open(f"sqlite:///{folder / 'state.db'}", lambda: START)
