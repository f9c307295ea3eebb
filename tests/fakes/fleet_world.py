"""A whole fleet on a virtual clock: the real tick, queue and store, fake clouds, agents that do what agents do."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fakes.cloud import Clock, FakeCloud, Machine, SerialCalls, total_billed
from hostler.agent_bootstrap.wire import Held, JoinRequest, Result
from hostler.config.fleet import FleetConfig
from hostler.config.task import TaskSpec
from hostler.fleet import queue
from hostler.fleet.loop.context import Context
from hostler.fleet.loop.tick import TickReport, tick
from hostler.fleet.observer import agents
from hostler.fleet.store import decisions, instances, leader, offers
from hostler.providers.base import Offer
from hostler.tracking.server.access.bootstrap import DEFAULT_WORKSPACE, ensure_workspace
from hostler.tracking.server.database import Database
from hostler.tracking.server.database.schema import events, tasks
from sqlalchemy import Connection, select

SERVER_ID = "server-1"


def make_fleet(
    *,
    pools: dict[str, Any] | None = None,
    limits: dict[str, Any] | None = None,
    daemon: dict[str, Any] | None = None,
    providers: dict[str, Any] | None = None,
    queues: dict[str, Any] | None = None,
) -> FleetConfig:
    """A valid fleet.yaml around the given sections; `sky` and `rain` stand for clouds."""
    cloud = {
        "type": "aws",
        "regions": ["us-east-1"],
        "endpoint_url": "http://127.0.0.1:9",
    }
    data = {
        "version": 1,
        "daemon": {"state": "sqlite:////tmp/unused.db", **(daemon or {})},
        "limits": limits or {},
        "providers": providers or {"sky": cloud, "rain": cloud},
        "pools": pools or {"main": {"providers": ["sky"], "market": "on_demand", "instances": "0..5"}},
    }
    if queues:
        data["queues"] = queues
    return FleetConfig.from_dict(data)


@dataclass
class FakeAgent:
    """What runs on a machine that is up: joins once, beats, takes one task after the other."""

    instance_id: str
    ref: str
    held: dict[int, tuple[int, float]] = field(default_factory=dict)
    """task id -> (generation, when it will be done)"""


class Crash(BaseException):
    """A power cut: nothing catches it."""


class FleetWorld:
    """`advance` moves time; `tick` and `agents_act` do one round each; `run` does all three in turn."""

    def __init__(self, url: str, fleet: FleetConfig, *clouds: FakeCloud, clock: Clock) -> None:
        self.clock = clock
        self.fleet = fleet
        self.clouds = {cloud.name: cloud for cloud in clouds}
        self.url = url
        self.db = Database.open(self.url, clock)
        self.task_seconds = 60.0
        self.bad_boots = False
        self.cut_off: set[str] = set()
        """Refs of machines whose agent can't reach the server."""
        self.agents: dict[str, FakeAgent] = {}
        self.reports: list[TickReport] = []
        self.seed = 7
        self.user_data_suffix = ""
        self._starts = 0
        self.db.write(lambda conn: ensure_workspace(conn, DEFAULT_WORKSPACE, clock()))
        for cloud in clouds:
            self.offer(cloud.name, *cloud.offered)
        self.context = self.start()

    def offer(self, provider: str, *sold: Offer) -> None:
        self.db.write(lambda conn: offers.save(conn, provider, sold, self.clock()))

    def start(self, checkpoint: Callable[[str], None] | None = None) -> Context:
        """A daemon starts on what the database holds; the one before is dead."""
        self._starts += 1
        epoch = self.db.write(lambda conn: leader.take(conn, f"daemon-{self._starts}", self.clock()))
        self.context = Context(
            db=self.db,
            fleet=lambda: self.fleet,
            providers=self.clouds,
            clock=self.clock,
            rng=random.Random(self.seed + self._starts),
            server_id=SERVER_ID,
            epoch=epoch,
            calls=SerialCalls(),
            render_user_data=lambda instance_id, token, _provider: (
                f"{instance_id} {token}{self.user_data_suffix}"
            ),
            join_token=lambda instance_id: hashlib.sha256(f"key{instance_id}".encode()).hexdigest(),
            started_at=self.clock(),
        )
        if checkpoint is not None:
            self.context.checkpoint = checkpoint
        return self.context

    # people

    def submit(self, number: int = 1, **spec: Any) -> list[int]:
        """Queue so many one-CPU tasks; returns their ids."""
        values = TaskSpec.from_dict({"run": ["true"], **spec})
        made = []
        for _ in range(number):
            uid = f"u{self.clock()}-{random.getrandbits(60)}"
            row = self.db.write(
                lambda conn, uid=uid: queue.submit(  # type: ignore[misc]
                    conn,
                    workspace=DEFAULT_WORKSPACE,
                    actor="ann",
                    uid=uid,
                    spec=values,
                    fleet=self.fleet,
                    now=self.clock(),
                )
            )
            made.append(int(row["id"]))
        return made

    # time

    def tick(self) -> TickReport:
        report = tick(self.context)
        assert not report.errors, report.errors
        self.reports.append(report)
        return report

    def run(self, seconds: float, step: float = 10.0) -> None:
        """Tick, let agents act and time pass, until `seconds` are over."""
        until = self.clock() + seconds
        while self.clock() < until:
            self.tick()
            self.agents_act()
            self.clock.advance(step)

    def run_until(self, true: Callable[[], bool], within: float, step: float = 10.0) -> float:
        """Run until it is true; returns the virtual seconds it took."""
        began = self.clock()
        while not true():
            assert self.clock() - began < within, f"still not so after {within} s"
            self.run(step, step)
        return self.clock() - began

    # machines

    def agents_act(self) -> None:
        """Each machine that is up joins, beats, ends what is done and takes what fits."""
        for cloud in self.clouds.values():
            for machine in list(cloud.machines.values()):
                if cloud.is_up(machine) and machine.ref not in self.cut_off and machine.request.user_data:
                    self._act(machine)
        alive = {machine.ref for cloud in self.clouds.values() for machine in cloud.billed()}
        self.agents = {ref: agent for ref, agent in self.agents.items() if ref in alive}

    def _act(self, machine: Machine) -> None:
        agent = self.agents.get(machine.ref)
        if agent is None:
            agent = self._join(machine)
            if agent is None:
                return
        now = self.clock()
        for task_id, (generation, done_at) in list(agent.held.items()):
            if now >= done_at:
                self._finish(agent, task_id, generation)
        held: list[Held] = [{"task_id": t, "generation": g} for t, (g, _) in agent.held.items()]
        beat = self.db.write(lambda conn: self._beat(conn, agent, held, now))
        for stale in beat.stale:
            agent.held.pop(stale["task_id"], None)
        if not agent.held and not beat.drain:
            self._take(agent)

    def _join(self, machine: Machine) -> FakeAgent | None:
        if self.bad_boots:
            return None
        token = machine.request.user_data.split()[1]
        request: JoinRequest = {
            "inventory": {
                "cpus": 1,
                "memory_bytes": 4 * 2**30,
                "disk_bytes": 0,
                "gpus": [],
                "python": "3.11",
                "hostname": machine.ref,
                "agent_version": "1",
            },
            "identity": {},
        }
        try:
            welcome = self.db.write(
                lambda conn: agents.join(
                    conn, token=token, request=request, fleet=self.fleet, now=self.clock()
                )
            )
        except agents.JoinRefused:
            return None
        agent = FakeAgent(welcome.joined["instance_id"], machine.ref)
        self.agents[machine.ref] = agent
        return agent

    def _beat(self, conn: Connection, agent: FakeAgent, held: list[Held], now: float) -> queue.Beat:
        agents.contact(conn, agent.instance_id, now)
        ttl = self.fleet.daemon.lease_ttl
        return queue.heartbeat(conn, instance_id=agent.instance_id, held=held, now=now, ttl=ttl)

    def _take(self, agent: FakeAgent) -> None:
        free = queue.Free(1.0, 4 * 2**30, 0, 0.0)
        now = self.clock()
        claimed = self.db.write(
            lambda conn: queue.claim(
                conn, instance_id=agent.instance_id, free=free, fleet=self.fleet, now=now
            )
        )
        if claimed is not None:
            task_id, generation = claimed.task_id, claimed.generation
            agent.held[task_id] = (generation, now + self.task_seconds)
            self.db.write(lambda conn: queue.started(conn, task_id, generation, agent.instance_id, now))

    def _finish(self, agent: FakeAgent, task_id: int, generation: int) -> None:
        result: Result = {
            "outcome": "completed",
            "exit_code": 0,
            "reason": "",
            "message": "",
            "run_seconds": self.task_seconds,
        }
        self.db.write(
            lambda conn: queue.finish(
                conn,
                task_id=task_id,
                generation=generation,
                instance_id=agent.instance_id,
                result=result,
                now=self.clock(),
            )
        )
        del agent.held[task_id]

    # what is so

    def rows(self, *states: str) -> list[dict[str, Any]]:
        with self.db.read() as conn:
            found = instances.page(conn, DEFAULT_WORKSPACE, limit=1_000)
        return [row for row in reversed(found) if not states or row["state"] in states]

    def row(self, instance_id: str) -> dict[str, Any]:
        with self.db.read() as conn:
            found = instances.get(conn, instance_id)
        assert found is not None
        return found

    def task(self, task_id: int) -> dict[str, Any]:
        with self.db.read() as conn:
            return dict(conn.execute(select(tasks).where(tasks.c.id == task_id)).mappings().one())

    def states(self) -> list[str]:
        with self.db.read() as conn:
            return [row.state for row in conn.execute(select(tasks.c.state).order_by(tasks.c.id))]

    def why(self, subject: str, subject_id: object) -> dict[str, Any]:
        """The newest decision about a subject."""
        with self.db.read() as conn:
            return decisions.history(conn, DEFAULT_WORKSPACE, subject, str(subject_id), 1)[0]

    def events(self, kind: str) -> list[dict[str, Any]]:
        with self.db.read() as conn:
            query = select(events).where(events.c.kind == kind).order_by(events.c.id)
            return [dict(row) for row in conn.execute(query).mappings()]

    @property
    def billed(self) -> int:
        return total_billed(self.clouds.values())

    def machine_of(self, instance_id: str) -> Machine:
        for cloud in self.clouds.values():
            for machine in cloud.machines.values():
                if machine.token == instance_id:
                    return machine
        raise AssertionError(f"no machine was ever started for {instance_id}")


MakeWorld = Callable[..., FleetWorld]
