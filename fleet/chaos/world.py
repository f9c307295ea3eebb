"""One run: the server's lives, the clouds, the machines and the people, on one line of virtual time."""

from __future__ import annotations

import random
import shutil
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ...agent_bootstrap import wire
from ...tracking.server.access.bootstrap import ensure_workspace
from ..store import pools
from ..store.leader import StaleEpoch
from . import plan
from .agent import Agent
from .clock import VirtualTime
from .cloud import Cloud, Hooks
from .database import Disk
from .door import Refused
from .invariants import Books, Invariants, Violation
from .ledger import Accepted, Handed, Ledger, Machine
from .mishaps import Mishaps
from .people import People
from .server import WORKSPACE, Server, StoppedDead
from .surroundings import Fate, Unreachable
from .trace import Trace, short
from .weather import HOUR, Weather

START: Final = 1_792_800_000.0
"""A Saturday in October 2026, hours before Europe sets its clocks back."""
OFFERS_SECONDS: Final = 900.0
CALM_HOURS_MAX: Final = 9.0
SETTLED_LOOK_SECONDS: Final = 300.0


@dataclass(frozen=True)
class Orders:
    """What to run. `stop_at`: the daemon dies at its so-maniest effect and starts again; None: the weather decides."""

    seed: int
    hours: float = 4.0
    faults: Collection[str] = ()
    whole: bool = False
    """All of `faults`, instead of the half that the seed draws."""
    stop_at: int | None = None
    whole_api: bool = False
    tasks: int | None = None
    """So many at the start and none later; None: they keep coming."""


@dataclass
class Outcome:
    """What came of it."""

    orders: Orders
    digest: str
    hours: float
    violations: list[Violation]
    effects: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    story: list[str] = field(default_factory=list)


class World:
    """`run()` once. `folder` should lie in memory; `template` is an empty, migrated database."""

    def __init__(self, orders: Orders, folder: Path, template: Path) -> None:
        self.orders = orders
        self._rngs = random.Random(f"hostler {orders.seed}")
        self.time = VirtualTime(START + self._rngs.uniform(0, 12 * HOUR))
        self.began = self.time.now
        self.trace = Trace(self.time, self.began)
        self.weather = Weather(self._stream(), orders.faults, whole=orders.whole)
        self.ledger = Ledger()
        self.setting = plan.draw(self._stream())
        self._life, people, _ = self._stream(), self._stream(), self._stream()
        self._people, self._mishaps = People(self, people), Mishaps(self, self._life)
        self._disk = Disk(self.weather, self.time)
        self._path = folder / "state.db"
        shutil.copy(template, self._path)
        hooks = Hooks(self._born, self._ended, self._about_to_end)
        self.clouds = {
            name: Cloud(
                name,
                offers,
                rng=self._stream(),
                time=self.time,
                weather=self.weather,
                ledger=self.ledger,
                trace=self.trace,
                hooks=hooks,
                server_id="srv-sim",
            )
            for name, offers in self.setting.offers.items()
        }
        self.agents: dict[str, Agent] = {}
        self.server: Server | None = None
        self._down_until = 0.0
        self._effects = 0
        self._die_at: int | None = orders.stop_at
        self._usurped = False
        self._stale_writes: list[str] | None = None
        """What the leader that was just shut out has tried to write since."""
        self._bad_boots: set[str] = set()
        self.books = Books(self._path, self.ledger, self.setting.fleet, "srv-sim", self.time)
        self.invariants = Invariants(self.books, self._tell_violation)

    def _stream(self) -> random.Random:
        return random.Random(self._rngs.getrandbits(64))

    # -- the run ----------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        self.trace.say(f"seed {self.orders.seed}: {', '.join(sorted(self.weather.blowing)) or 'no faults'}")
        self._brew()
        self._start()
        self._tick_later()
        self._offers_later()
        self._people.begin()
        self._mishaps.begin()
        end = self.began + self.orders.hours * HOUR
        self.time.run_until(end)
        self._calm()
        while not self._settled() and self.time.now < end + CALM_HOURS_MAX * HOUR:
            self.time.run_until(self.time.now + SETTLED_LOOK_SECONDS)
        self.invariants.at_end()
        outcome = self._outcome()
        self._shut()
        return outcome

    def _outcome(self) -> Outcome:
        machines = [one for one in self.ledger.machines.values() if one.server == "srv-sim"]
        return Outcome(
            orders=self.orders,
            digest=self.trace.digest(),
            hours=(self.time.now - self.began) / HOUR,
            violations=self.invariants.found,
            effects=self._effects,
            counts={
                "tasks": self._people.tasks,
                "machines": len(machines),
                "ticks": self.ledger.tick,
                "lives": len(self.ledger.up_since),
                "lines": self.trace.count,
            },
            story=list(self.trace.lines),
        )

    def _shut(self) -> None:
        if self.server is not None:
            self.server.close()
        self.books.close()

    def _brew(self) -> None:
        hours, at = self.orders.hours, self.began
        for name, cloud in self.clouds.items():
            self.weather.brew("credentials", name, start=at, hours=hours, longest=HOUR)
            self.weather.brew("quota-zero", name, start=at, hours=hours, longest=3 * HOUR)
            self.weather.brew("bad-image", name, start=at, hours=hours, longest=3 * HOUR)
            self.weather.brew("terminate-failing", name, start=at, hours=hours, longest=HOUR)
            self.weather.brew("list-failing", name, start=at, hours=hours, longest=1_200.0)
            scopes = [f"{name}:{offer.key}" for offer in cloud.catalogue]
            for scope in (*scopes, *(f"{name}:{zone}" for zone in ("1-a", "1-b")), f"{name}:spot"):
                if self._life.random() < 0.5:
                    self.weather.brew("capacity-storms", scope, start=at, hours=hours, longest=2 * HOUR)
        self.weather.brew("disk-full", "", start=at, hours=hours, longest=1_200.0)
        if self.weather.has("bootstrap") and self._life.random() < 0.5:
            self._bad_boots.add(self._life.choice(("small", "large")))

    def _tell_violation(self, violation: Violation) -> None:
        self.trace.say(f"!!!!!  {violation}")

    # -- the server's lives -------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._disk.is_on = False  # a start that finds no room is tried again; nothing to learn from it here
        self.server = Server(
            self._path,
            fleet=self.setting.fleet,
            clouds=self.clouds,
            time=self.time,
            rng=self._stream(),
            disk=self._disk,
            ledger=self.ledger,
            whole_api=self.orders.whole_api,
            checkpoint=self._checkpoint,
        )
        now = self.time.now
        self.server.db.write(lambda conn: ensure_workspace(conn, WORKSPACE, now))
        self._disk.is_on = True
        self.ledger.up_since.append(now)
        self.trace.say(f"server starts, epoch {self.server.context.epoch}")
        self._refresh()

    def _refresh(self) -> None:
        try:
            if self.server is not None:
                self.server.refresh_offers()
        except StoppedDead:
            self.stop_dead()
        except Exception as error:  # noqa: BLE001  the daemon logs it and goes on
            self.trace.say(f"server can't refresh its offers: {short(error)}")

    def stop_dead(self, down_seconds: float = 5.0) -> None:
        """Stopped dead: what was not committed has not happened."""
        if self.server is None:
            return
        self.trace.say(f"server is dead for {down_seconds:.0f} s")
        self.server.close()
        self.server = None
        self._down_until = self.time.now + down_seconds
        self.time.after(down_seconds, self._revive)

    def _revive(self) -> None:
        if self.server is None and self.time.now >= self._down_until:
            self._start()

    def _checkpoint(self, what: str) -> None:
        """Called before each effect of a tick."""
        self._effects += 1
        if self._stale_writes is not None and what.startswith("write:") and not self._usurped:
            # Its first write must be refused, and with it the tick: there can be no second one.
            self._stale_writes.append(what)
            if len(self._stale_writes) > 1:
                self.ledger.stale_commits.append(f"a leader that is over wrote {self._stale_writes[-2]}")
        self.trace.say(f"effect {what}")
        if self._die_at is not None and self._effects == self._die_at:
            self._die_at = None
            raise StoppedDead
        if self.orders.stop_at is None and self.weather.strikes("crashes", 0.004):
            raise StoppedDead
        if not self._usurped and self.weather.strikes("split-brain", 0.004):
            self._usurp()

    def _usurp(self) -> None:
        """While the leader stands still at this effect, another takes over and does a whole tick."""
        server = self.server
        if server is None or server.db.writing:
            return
        self._usurped = True
        try:
            old = server.context
            self.trace.say(f"server at epoch {old.epoch} is paused; another takes over")
            server.context = server.lead("usurper")
            self._tick_once(server)
            self.trace.say(f"server at epoch {old.epoch} goes on")
            self._stale_writes = []
        finally:
            self._usurped = False

    def _tick_later(self) -> None:
        self.time.after(self.setting.fleet.daemon.tick, self._tick)

    def _tick(self) -> None:
        self._tick_later()
        server = self.server
        if server is None:
            return
        self.ledger.tick += 1
        try:
            self._tick_once(server)
        except StoppedDead:
            self.stop_dead(self._life.choice((1.0, 30.0, 200.0)))
        self._stale_writes = None
        self.invariants.after_tick()

    def _tick_once(self, server: Server) -> None:
        number = self.ledger.tick
        if not self._usurped:
            self._stale_writes = None
        try:
            report = server.tick(server.context)
        except StaleEpoch as error:
            self.trace.say(f"tick   {number} is refused: {error}")
            return
        except Exception as error:  # noqa: BLE001  the daemon logs it and ticks again
            self.trace.say(f"tick   {number} failed: {short(error)}")
            return
        if self._stale_writes and not self._usurped:
            self.ledger.stale_commits.append(f"a leader that is over wrote {self._stale_writes[-1]}")
        self.ledger.ticks_done.append((number, self.time.now))
        self.trace.say(
            f"tick   {number} launched {report.launched} unconfirmed {report.unconfirmed} failed "
            f"{len(report.failed)} drains {report.draining} ends {report.terminating} strays {report.strays}"
            f"{' errors ' + short(report.errors) if report.errors else ''}"
        )

    def _offers_later(self) -> None:
        def refresh() -> None:
            self._offers_later()
            self._refresh()

        self.time.after(OFFERS_SECONDS, refresh)

    # -- machines -----------------------------------------------------------------------------------------------

    def _born(self, machine: Machine) -> None:
        self.invariants.at_birth(machine, in_transaction=self.server is not None and self.server.db.writing)
        rng = self._life
        agent = Agent(machine, machine.user_data.partition(" ")[2], self, random.Random(rng.getrandbits(64)))
        self.agents[machine.ref] = agent
        boot = rng.uniform(20.0, 150.0)
        bad = machine.offer.instance_type in self._bad_boots and self.weather.has("bootstrap")
        if bad or self.weather.strikes("bootstrap", 0.15):
            if rng.random() < 0.5:
                agent.after(boot, agent.fail_boot)
            return
        machine.state = "running"
        agent.after(boot, agent.boot)
        self._mishaps.await_machine(machine, agent)

    def _ended(self, machine: Machine) -> None:
        agent = self.agents.get(machine.ref)
        if agent is not None:
            for run in agent.held.values():
                run.alive = False

    def _about_to_end(self, ref: str) -> None:
        in_transaction = self.server is not None and self.server.db.writing
        self.invariants.at_terminate(ref, in_transaction=in_transaction)

    # -- Around: what agents see ----------------------------------------------------------------------------------

    def post(self, machine: Machine, path: str, secret: str, body: dict[str, Any]) -> dict[str, Any]:
        if self.server is None:
            raise Unreachable
        try:
            reply = self.server.door.post(path, secret, body)
        except Refused as refused:
            if refused.status >= 500:
                self.trace.say(f"api    {path.removeprefix(wire.PREFIX)} {machine.token} -> 5xx")
            raise
        machine.heard_at = self.time.now
        self._note(machine, path, body, reply)
        return reply

    def _note(self, machine: Machine, path: str, body: dict[str, Any], reply: dict[str, Any]) -> None:
        now, book = self.time.now, self.ledger
        if path == wire.HEARTBEAT:
            for one in body["held"]:
                if one["task_id"] in reply["renewed"] and one not in reply["stale"]:
                    book.renewed[one["task_id"], one["generation"]] = now
        elif path == wire.LEASE and reply["lease"] is not None:
            lease = reply["lease"]
            key = (lease["task_id"], lease["generation"])
            again = key in book.renewed
            book.renewed[key] = now
            book.handed.append(
                Handed(now, lease["task_id"], lease["generation"], lease["attempt"], machine.token, again)
            )
            self.trace.say(f"api    lease {key[0]}g{key[1]} to {machine.token}{' again' if again else ''}")
            self.invariants.at_lease(machine, book.handed[-1])
        elif path.endswith("/result"):
            task_id, generation = path.split("/")[-3:-1]
            done = Accepted(now, int(task_id), int(generation), body["outcome"], reply["state"])
            book.accepted.append(done)
            self.trace.say(f"api    result {task_id}g{generation} {body['outcome']} -> {reply['state']}")
            self.invariants.at_result(done)

    def end(self, machine: Machine, why: str, *, silently: bool = False) -> None:
        self.clouds[machine.cloud].end(machine, why, silently=silently)

    def shut_down(self, machine: Machine, why: str) -> None:
        self.clouds[machine.cloud].shut_down(machine, why)

    def fate_of(self, lease: wire.Lease, rng: random.Random) -> Fate:
        return plan.fate_of(lease["name"], rng)

    def say(self, what: str) -> None:
        self.trace.say(what)

    def _calm(self) -> None:
        """All faults end, nobody asks for anything new, and a person mends what is left to people."""
        self.trace.say("calm")
        self.weather.calm()
        self._bad_boots.clear()
        self.ledger.calm_since = self.time.now
        for cloud in self.clouds.values():
            cloud.room = dict.fromkeys(cloud.room, 50)
        for agent in self.agents.values():
            agent.cut_until = agent.deaf_until = 0.0
        self._revive_now()
        for name in self.setting.fleet.pools:
            self._rearm(name)

    def _revive_now(self) -> None:
        if self.server is None:
            self._down_until = self.time.now
            self._start()

    def _rearm(self, name: str) -> None:
        now, providers = self.time.now, self.setting.fleet.pools[name].providers
        self.ledger.rearmed[name] = now
        self._people.ask(
            f"rearm {name}",
            lambda conn: pools.rearm(conn, WORKSPACE, name, now, actor="ann", providers=providers),
        )

    def _settled(self) -> bool:
        return self.books.is_settled()
