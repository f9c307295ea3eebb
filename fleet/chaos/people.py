"""People: they submit tasks, change their minds, and ask for what is finished once more."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ...config.task import TaskSpec
from ...tracking.server.problems import Problem
from .. import queue
from ..planning.lifecycle import TERMINAL_TASK
from . import plan
from .server import WORKSPACE
from .trace import short
from .weather import HOUR

if TYPE_CHECKING:
    from .world import World

TERMINAL: Final = frozenset(state.value for state in TERMINAL_TASK)


class People:
    """Everyone who has an account."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self._world = world
        self._rng = rng
        self.tasks = 0

    def begin(self) -> None:
        """Ask for tasks now and then, until the calm; or for all of them at once, if so ordered."""
        if self._world.orders.tasks is not None:
            for _ in range(self._world.orders.tasks):
                self._world.time.after(10.0, self._submit)
            return
        wait = self._rng.expovariate(self._world.setting.tasks_an_hour / self._world.setting.burst / HOUR)

        def act() -> None:
            if self._world.ledger.calm_since is not None:
                return
            self.begin()
            for _ in range(self._rng.randint(1, self._world.setting.burst)):
                self._submit()
            if self._world.weather.strikes("people", 0.7):
                self._interfere()

        self._world.time.after(min(wait, HOUR), act)

    def ask(self, what: str, work: Callable[[Any], Any]) -> Any:
        """A request. None if the server or its disk is not there, or it is refused."""
        server = self._world.server
        if server is None:
            return None
        try:
            done = server.db.write(work)
        except (queue.QueueError, Problem) as error:
            self._world.trace.say(f"people {what}: {short(error)}")
            return None
        except Exception as error:  # noqa: BLE001  they see a 5xx
            self._world.trace.say(f"people {what} failed: {short(error)}")
            return None
        self._world.trace.say(f"people {what} -> {done['id'] if isinstance(done, dict) else done}")
        return done

    def _submit(self) -> None:
        self.tasks += 1
        poison = self._world.weather.strikes("poison", 0.25)
        values = plan.task_of(self._rng, poison=poison)
        spec, uid, now = TaskSpec.from_dict(values), f"u{self.tasks}", self._world.time.now
        fleet = self._world.setting.fleet

        def work(conn: Any) -> dict[str, Any]:
            return queue.submit(
                conn, workspace=WORKSPACE, actor="ann", uid=uid, spec=spec, fleet=fleet, now=now
            )

        row = self.ask(f"submit {spec.name}", work)
        if row is not None:
            waiting = [agent for agent in self._world.agents.values() if agent.is_up and agent.secret]
            for agent in waiting[:2]:
                agent.after(1.0, agent.look)

    def _interfere(self) -> None:
        if self.tasks == 0:
            return
        task_id, now = self._rng.randint(1, self.tasks), self._world.time.now
        if self._rng.random() < 0.6:
            self.ask(f"stop {task_id}", lambda conn: queue.stop(conn, task_id, actor="ann", now=now).value)
            return
        was = self._world.books.state_of(task_id)
        done = self.ask(
            f"requeue {task_id}", lambda conn: queue.requeue(conn, task_id, actor="ann", now=now).value
        )
        if (done is not None or self._world.books.state_of(task_id) != was) and was in TERMINAL:
            self._world.ledger.revived[task_id] = self._world.ledger.revived.get(task_id, 0) + 1
            self._world.invariants.forget_end_of(task_id)
